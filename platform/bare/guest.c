// SPDX-License-Identifier: BSD-2-Clause
/*
 * Seats of vCPUs: who is in the guest, what he is told when he enters, and how he is got out. Never
 * enters a guest and never flushes anything itself.
 *
 * Whoever wants something says so and then looks who is in the guest; whoever enters says so and
 * then looks what is wanted. All four are sequentially consistent, so that at least one of the two
 * sees the other.
 */
#include "platform/bare/internal.h"

static bool is_in(uint64_t turns)
{
	return turns & 1;
}

/* Is @vcpu a seat? */
static bool is_seat(struct tpt_bare *bare, uint32_t vcpu)
{
	if (vcpu < bare->nr_vcpus)
		return true;
	bare_misuse(bare, "vCPU %lu has no seat", (unsigned long)vcpu);
	return false;
}

/* ---- the vCPU's side ------------------------------------------------------------------------ */

/* Who entered twice is taken for one who forgot to say that he left: he is not in the guest now. */
static uint64_t not_in(struct tpt_bare *bare, uint32_t vcpu)
{
	uint64_t turns = bare_read(&bare->seats[vcpu].turns);

	if (!is_in(turns))
		return turns;
	bare_misuse(bare, "vCPU %lu enters the guest and did not leave it", (unsigned long)vcpu);
	return turns + 1;
}

uint32_t tpt_bare_guest_enter(struct tpt_bare *bare, uint32_t vcpu)
{
	struct seat *seat = &bare->seats[vcpu];
	uint64_t turns;

	if (!is_seat(bare, vcpu))
		return TPT_BARE_HELD;
	turns = not_in(bare, vcpu);
	atomic_store_explicit(&seat->turns, turns + 1, memory_order_seq_cst);
	if (atomic_load_explicit(&bare->held, memory_order_seq_cst)) {
		atomic_store_explicit(&seat->turns, turns + 2, memory_order_release);
		return TPT_BARE_HELD;
	}
	/* Mostly nothing is wanted, and then a load has to do. */
	if (!atomic_load_explicit(&seat->request, memory_order_seq_cst))
		return 0;
	return atomic_exchange_explicit(&seat->request, 0, memory_order_seq_cst);
}

void tpt_bare_guest_leave(struct tpt_bare *bare, uint32_t vcpu)
{
	uint64_t turns;

	if (!is_seat(bare, vcpu))
		return;
	turns = bare_read(&bare->seats[vcpu].turns);
	if (is_in(turns))
		atomic_store_explicit(&bare->seats[vcpu].turns, turns + 1, memory_order_release);
	else
		bare_misuse(bare, "vCPU %lu leaves the guest and is not in it",
			    (unsigned long)vcpu);
}

uint32_t bare_seats_in_guest(const struct tpt_bare *bare)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < bare->nr_vcpus; i++)
		nr += is_in(bare_read(&bare->seats[i].turns));
	return nr;
}

/* ---- the library's side --------------------------------------------------------------------- */

/* On return each seat has been outside of the guest at least once since the call. All are sent for
 * before any is waited for, so that it takes as long as the slowest. */
static void get_all_out(struct tpt_bare *bare)
{
	const uint32_t nr = bare->nr_vcpus;
	uint64_t seen[TPT_BARE_VCPUS];

	for (uint32_t i = 0; i < nr; i++) {
		seen[i] = atomic_load_explicit(&bare->seats[i].turns, memory_order_seq_cst);
		if (!is_in(seen[i]))
			continue;
		bare_count(&bare->ipis, 1);
		bare->hooks.ipi(bare->hooks_ctx, i);
	}
	for (uint32_t i = 0; i < nr; i++)
		while (is_in(seen[i]) &&
		       atomic_load_explicit(&bare->seats[i].turns, memory_order_acquire) == seen[i])
			bare_relax(bare);
}

static bool is_broken(const struct tpt_bare *bare)
{
	return atomic_load_explicit(&bare->broken, memory_order_relaxed);
}

void bare_flush(void *ctx, struct tpt_vm *vm, const struct tpt_flush *flush)
{
	struct tpt_bare *bare = ctx;

	(void)vm;
	(void)flush;
	bare_count(&bare->flushes, 1);
	if (is_broken(bare))
		return;
	for (uint32_t i = 0; i < bare->nr_vcpus; i++)
		atomic_store_explicit(&bare->seats[i].request, TPT_BARE_FLUSH,
				      memory_order_seq_cst);
	get_all_out(bare);
}

void bare_kick(void *ctx, struct tpt_vm *vm, enum tpt_kick_reason reason)
{
	struct tpt_bare *bare = ctx;

	(void)vm;
	(void)reason;
	bare_count(&bare->kicks, 1);
	if (!is_broken(bare))
		get_all_out(bare);
}

static void let_go(struct tpt_bare *bare)
{
	uint32_t held = atomic_load_explicit(&bare->held, memory_order_relaxed);

	while (held)
		if (atomic_compare_exchange_weak_explicit(&bare->held, &held, held - 1,
							  memory_order_release,
							  memory_order_relaxed))
			return;
	bare_misuse(bare, "hold(false) without hold(true)");
}

void bare_hold(void *ctx, struct tpt_vm *vm, bool held)
{
	struct tpt_bare *bare = ctx;

	(void)vm;
	if (!held) {
		let_go(bare);
		return;
	}
	bare_count(&bare->holds, 1);
	atomic_fetch_add_explicit(&bare->held, 1, memory_order_seq_cst);
	get_all_out(bare);
}

void tpt_bare_break_shootdown(struct tpt_bare *bare)
{
	atomic_store_explicit(&bare->broken, true, memory_order_relaxed);
}
