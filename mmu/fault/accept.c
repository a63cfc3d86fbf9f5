// SPDX-License-Identifier: BSD-2-Clause
/*
 * A private page that the guest wants in a smaller leaf than it is mapped by, as when it accepts
 * 4 KiB of a larger page: BLOCK, TRACK, kick, SPLIT. Alone in the VM: the one fault that waits.
 */
#include "mmu/fault/fault.h"

/* Stands on the leaf, BLOCKED or not, that is too large. False: there is none. */
static bool find_large(const struct fault_env *env, const struct tpt_fault *fault,
		       struct tree_iter *it)
{
	bool more = iter_start(it, env->trees, TREE_MIRROR, fault->gfn, fault->gfn + 1,
			       fault->max_level);

	while (more && iter_kind(it) == PTE_TABLE && it->level > (unsigned int)fault->max_level)
		more = iter_next(it);
	return more && it->level > (unsigned int)fault->max_level &&
	       (iter_kind(it) == PTE_LEAF || iter_kind(it) == PTE_BLOCKED);
}

/* One level down. */
static int split(struct fault_vcpu *vcpu, struct tree_iter *it)
{
	struct actor *actor = &vcpu->actor;
	struct mirror *m = &it->trees->mirror;
	int err;

	if (!actor->tables.nr || !actor->external.nr)
		return -ERR_BUSY;
	if (iter_kind(it) == PTE_LEAF) {
		err = tree_block(actor, it);
		if (err)
			return err;
		m->untracked = true;
	}
	/* The leaf stays BLOCKED if that is busy, and the next try goes on from there. */
	err = m->untracked ? mirror_track(m, actor) : 0;
	if (err)
		return err;
	err = tree_split_blocked(actor, it);
	return err ? tree_go_back(actor, it, "split", err) : 0;
}

/* Is the page still private memory that nobody is taking away? */
static bool may_split(struct fault_vcpu *vcpu, const struct tpt_fault *fault,
		      const struct tree_iter *it)
{
	const struct slots *slots = vcpu->env->slots;
	const struct memslot *slot = slot_find(slots, fault->as_id, fault->gfn);

	return slot && !slot->invalid && attr_is_private(slots, fault->gfn) &&
	       !slots_invalidating(slots, slot, it->gfn, tpt_level_pages(it->level),
				   slot_source(slot, true));
}

static int split_down(struct fault_vcpu *vcpu, struct tpt_fault *fault)
{
	const struct fault_env *env = vcpu->env;
	struct tree_iter it;
	int err;

	fault->tables_linked = 0;
	if (roots_are_stale(vcpu, env->base))
		return env->ended || vm_is_dead(env->base) ? -ERR_IO : TPT_RET_PF_RETRY;
	while (find_large(env, fault, &it)) {
		if (!may_split(vcpu, fault, &it))
			return TPT_RET_PF_RETRY;
		err = split(vcpu, &it);
		if (err)
			return err == -ERR_BUSY ? TPT_RET_PF_RETRY : err;
		fault->tables_linked++;
	}
	if (!fault->tables_linked)
		return TPT_RET_PF_RETRY;
	/* It stands where it looked for a large one: on the small one. */
	fault->goal_level = (enum tpt_level)it.level;
	fault->spte = it.old;
	fault->pfn = pte_pfn(it.old);
	return TPT_RET_PF_FIXED;
}

int fault_split_private(struct fault_vcpu *vcpu, struct tpt_fault *fault)
{
	struct vm_base *base = vcpu->env->base;
	int ret;

	section_exclusive_begin(base);
	ret = split_down(vcpu, fault);
	section_exclusive_end(base);
	return ret;
}
