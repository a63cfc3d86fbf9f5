// SPDX-License-Identifier: BSD-2-Clause
/* Actors, the VM's shared and exclusive sections, grace periods. Never says what is done in one. */
#include "mmu/base/base.h"

/* Rounds of the platform's relax() that an actor which was refused is given to come back. */
#define LET_IN_RELAXES 64u

void base_init(struct vm_base *base, const struct tpt_platform *platform, void *ctx)
{
	atomic_store_explicit(&base->turn, TURN_STEP | (platform->watch ? TURN_WATCHED : 0),
			      memory_order_relaxed);
	atomic_store_explicit(&base->roots, 1, memory_order_relaxed);
	base->platform = platform;
	base->platform_ctx = ctx;
	actor_init(base, &base->self, -1);
}

void actor_init(struct vm_base *base, struct actor *actor, int32_t vcpu)
{
	actor->base = base;
	actor->vcpu = vcpu;
	actor->watched = base->platform->watch;
	/* As many as the trees have levels: they say so with the first page. */
	actor->tables.want = actor->external.want = 1;
}

static void lock_actors(struct vm_base *base)
{
	while (atomic_exchange_explicit(&base->actors_lock, 1, memory_order_acquire))
		base->platform->relax(base->platform_ctx);
}

static void unlock_actors(struct vm_base *base)
{
	atomic_store_explicit(&base->actors_lock, 0, memory_order_release);
}

void actor_add(struct actor *actor)
{
	struct vm_base *base = actor->base;

	lock_actors(base);
	actor->next = base->actors;
	base->actors = actor;
	unlock_actors(base);
}

void actor_remove(struct actor *actor)
{
	struct vm_base *base = actor->base;
	struct actor **link = &base->actors;

	lock_actors(base);
	while (*link != actor)
		link = &(*link)->next;
	*link = actor->next;
	unlock_actors(base);

	for (unsigned int i = 0; i < COUNT_NR; i++)
		count_add(&base->self, i,
			  atomic_load_explicit(&actor->count[i], memory_order_relaxed));
}

uint64_t section_enter_slowly(struct actor *actor, uint64_t turn)
{
	if (turn & TURN_ALONE) {
		atomic_store_explicit(&actor->mark, MARK_REFUSED, memory_order_release);
		return 0;
	}
	section_watch(actor, true);
	return turn;
}

void section_watch(const struct actor *actor, bool inside)
{
	const struct vm_base *base = actor->base;

	if (actor->watched)
		base->platform->watch(base->platform_ctx, inside);
}

/* ---- grace periods ---- */

uint64_t grace_begin(struct vm_base *base)
{
	return atomic_fetch_add_explicit(&base->turn, TURN_STEP, memory_order_seq_cst) &
	       ~TURN_ALONE;
}

/* Is every section over that began before @turn? */
static bool all_are_newer(struct vm_base *base, uint64_t turn)
{
	bool newer = true;

	lock_actors(base);
	for (struct actor *a = base->actors; a && newer; a = a->next) {
		uint64_t mark = atomic_load_explicit(&a->mark, memory_order_seq_cst);

		newer = !(mark & MARK_INSIDE) || (mark & ~MARK_INSIDE) >= turn;
	}
	unlock_actors(base);
	return newer;
}

void grace_wait(struct vm_base *base, uint64_t begun)
{
	uint64_t turn, done = atomic_load_explicit(&base->grace_done, memory_order_acquire);

	if (begun < done)
		return;
	/* For all that was begun up to now: many frees wait once. */
	turn = atomic_load_explicit(&base->turn, memory_order_seq_cst) & ~TURN_ALONE;
	while (!all_are_newer(base, turn))
		base->platform->relax(base->platform_ctx);
	while (done < turn &&
	       !atomic_compare_exchange_weak_explicit(&base->grace_done, &done, turn,
						      memory_order_acq_rel, memory_order_acquire))
		;
}

/* ---- the exclusive section ---- */

/*
 * Whoever was refused goes first: a host that wants to be alone again and again must not keep a
 * vCPU out for ever. One that does not come back (it is in the guest, or gone) is waited for only
 * so long.
 */
static void let_in(struct vm_base *base)
{
	for (struct actor *a = base->actors; a; a = a->next) {
		uint64_t refused = MARK_REFUSED;

		/* Only read: who was not refused keeps his line to himself. */
		if (atomic_load_explicit(&a->mark, memory_order_relaxed) != MARK_REFUSED)
			continue;
		for (unsigned int i = 0; i < LET_IN_RELAXES; i++) {
			if (atomic_load_explicit(&a->mark, memory_order_relaxed) != MARK_REFUSED)
				break;
			base->platform->relax(base->platform_ctx);
		}
		atomic_compare_exchange_strong_explicit(&a->mark, &refused, MARK_OUTSIDE,
							memory_order_relaxed, memory_order_relaxed);
	}
}

void section_exclusive_begin(struct vm_base *base)
{
	base->platform->lock(base->platform_ctx);
	let_in(base);
	atomic_fetch_or_explicit(&base->turn, TURN_ALONE, memory_order_seq_cst);

	for (struct actor *a = base->actors; a; a = a->next) {
		while (atomic_load_explicit(&a->mark, memory_order_seq_cst) & MARK_INSIDE)
			base->platform->relax(base->platform_ctx);
	}
	base->in_exclusive = true;
	base->nr_exclusive++;
	base->self.looked = 0;
}

void section_exclusive_end(struct vm_base *base)
{
	if (base->self.looked > base->longest_exclusive)
		base->longest_exclusive = base->self.looked;
	base->in_exclusive = false;
	atomic_fetch_and_explicit(&base->turn, ~TURN_ALONE, memory_order_release);
	base->platform->unlock(base->platform_ctx);
}

void hold_begin(struct actor *actor)
{
	actor->looked = 0;
}

void hold_end(struct actor *actor)
{
	_Atomic uint64_t *longest = &actor->base->longest_shared;
	uint64_t old = atomic_load_explicit(longest, memory_order_relaxed);

	while (actor->looked > old &&
	       !atomic_compare_exchange_weak_explicit(longest, &old, actor->looked,
						      memory_order_relaxed, memory_order_relaxed))
		;
}

int64_t count_sum(const struct vm_base *base, unsigned int counter)
{
	int64_t sum = atomic_load_explicit(&((struct vm_base *)base)->self.count[counter],
					   memory_order_relaxed);

	for (struct actor *a = base->actors; a; a = a->next)
		sum += atomic_load_explicit(&a->count[counter], memory_order_relaxed);
	return sum;
}
