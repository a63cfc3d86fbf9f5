// SPDX-License-Identifier: BSD-2-Clause
/* Actors and the VM's shared and exclusive sections. Never says what is done inside of one. */
#include "mmu/base/base.h"

/* Rounds of the platform's relax() that an actor which was refused is given to come back. */
#define LET_IN_RELAXES 64u

void base_init(struct vm_base *base, const struct tpt_platform *platform, void *ctx)
{
	base->platform = platform;
	base->platform_ctx = ctx;
	actor_init(base, &base->self, -1);
}

void actor_init(struct vm_base *base, struct actor *actor, int32_t vcpu)
{
	actor->base = base;
	actor->vcpu = vcpu;
}

void actor_add(struct actor *actor)
{
	struct vm_base *base = actor->base;

	actor->next = base->actors;
	base->actors = actor;
}

void actor_remove(struct actor *actor)
{
	struct vm_base *base = actor->base;
	struct actor **link = &base->actors;

	while (*link != actor)
		link = &(*link)->next;
	*link = actor->next;

	for (unsigned int i = 0; i < COUNT_NR; i++)
		count_add(&base->self, i,
			  atomic_load_explicit(&actor->count[i], memory_order_relaxed));
}

bool section_enter(struct actor *actor)
{
	struct vm_base *base = actor->base;

	/* Both sides write their own flag, then read the other's: one of them must see it. */
	atomic_exchange_explicit(&actor->inside, 1, memory_order_seq_cst);
	if (atomic_load_explicit(&base->exclusive, memory_order_seq_cst)) {
		atomic_store_explicit(&actor->refused, 1, memory_order_relaxed);
		atomic_store_explicit(&actor->inside, 0, memory_order_release);
		return false;
	}
	if (atomic_load_explicit(&actor->refused, memory_order_relaxed))
		atomic_store_explicit(&actor->refused, 0, memory_order_relaxed);
	base->platform->read_lock(base->platform_ctx);
	return true;
}

void section_leave(struct actor *actor)
{
	struct vm_base *base = actor->base;

	base->platform->read_unlock(base->platform_ctx);
	atomic_store_explicit(&actor->inside, 0, memory_order_release);
}

void section_pause(struct actor *actor)
{
	actor->base->platform->read_unlock(actor->base->platform_ctx);
}

void section_resume(struct actor *actor)
{
	actor->base->platform->read_lock(actor->base->platform_ctx);
}

/*
 * Whoever was refused goes first: a host that wants to be alone again and again must not keep a
 * vCPU out for ever. One that does not come back (it is in the guest, or gone) is waited for only
 * so long.
 */
static void let_in(struct vm_base *base)
{
	for (struct actor *a = base->actors; a; a = a->next) {
		for (unsigned int i = 0; i < LET_IN_RELAXES; i++) {
			if (!atomic_load_explicit(&a->refused, memory_order_relaxed))
				break;
			base->platform->relax(base->platform_ctx);
		}
		if (atomic_load_explicit(&a->refused, memory_order_relaxed))
			atomic_store_explicit(&a->refused, 0, memory_order_relaxed);
	}
}

void section_exclusive_begin(struct vm_base *base)
{
	base->platform->lock(base->platform_ctx);
	let_in(base);
	atomic_exchange_explicit(&base->exclusive, 1, memory_order_seq_cst);

	for (struct actor *a = base->actors; a; a = a->next) {
		while (atomic_load_explicit(&a->inside, memory_order_seq_cst))
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
	atomic_store_explicit(&base->exclusive, 0, memory_order_release);
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
