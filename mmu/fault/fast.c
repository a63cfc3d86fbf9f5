// SPDX-License-Identifier: BSD-2-Clause
/*
 * The fast path: an access to a page that was only write-protected for a dirty log, or aged where
 * the processor has no A, gets back what it needs by one compare-and-exchange, with no look at the
 * backing. Never installs a leaf and never touches a mirror.
 */
#include "mmu/fault/fault.h"

/* The leaf with all given back that the access needs; itself if it may not have that. */
static tpt_spte restored(const struct pte_format *f, const struct memslot *slot,
			 struct tree_spot at, unsigned int access)
{
	tpt_spte leaf = at.old;

	if (pte_is_tracked(f, leaf))
		leaf = pte_restore(f, leaf);
	if ((access & TPT_ACC_WRITE) && (leaf.w & f->mmu_writable)) {
		/* A log of pages wants the huge leaf split, which is the slow path's. */
		if (at.level > TPT_LEVEL_4K && slot_logs_dirty(slot))
			return at.old;
		leaf.w |= f->write;
	}
	return pte_allows(f, leaf, access) ? leaf : at.old;
}

/*
 * One try at a leaf that does not allow the access. FIXED: it does now; INVALID; -ERR_BUSY: it was
 * changed meanwhile, or its table is detached and only a walk from the root finds what stands
 * there; or another error.
 */
static inline int try_restore(struct fault_vcpu *vcpu, struct tpt_fault *fault, enum tree_id id,
			      struct tree_spot at)
{
	struct trees *trees = vcpu->env->trees;
	const struct memslot *slot = slot_find_cached(fault->gfn, &vcpu->slot_cache);
	tpt_spte leaf;
	int err;

	if (!slot || slot->invalid)
		return TPT_RET_PF_INVALID;
	leaf = restored(&trees->format, slot, at, fault_access(fault));
	if (pte_same(leaf, at.old))
		return TPT_RET_PF_INVALID;
	err = tree_change(&vcpu->actor, trees, id, fault->gfn, at, leaf);
	/*
	 * After the entry, before the guest: whoever takes the mark in between protects it again.
	 * Where W was taken back because the table gives way, another processor may have used it.
	 */
	if (slot_logs_dirty(slot) && leaf.w & ~at.old.w & trees->format.write)
		fault_mark_dirty(vcpu, slot, fault->gfn);
	if (err)
		return err;
	fault->slot = (int32_t)slot->id;
	fault->pfn = pte_pfn(leaf);
	fault->spte = leaf;
	return TPT_RET_PF_FIXED;
}

/* Walks and compare-and-exchanges before the slow path is asked. */
#define FAST_TRIES 4

int fault_fast(struct fault_vcpu *vcpu, struct tpt_fault *fault, uint64_t turn)
{
	const struct fault_env *env = vcpu->env;
	enum tree_id id = tree_direct(fault->as_id);
	int ret = -ERR_BUSY;

	if (!fault_may_be_fast(env, fault))
		return TPT_RET_PF_INVALID;
	for (unsigned int i = 0; ret == -ERR_BUSY && i < FAST_TRIES; i++) {
		struct tree_spot at =
			tree_walk_hinted(env->trees, id, fault->gfn, &vcpu->direct_hint, turn);

		if (!spot_has_leaf(at))
			return TPT_RET_PF_INVALID;
		fault->goal_level = (enum tpt_level)at.level;
		ret = pte_allows(&env->trees->format, at.old, fault_access(fault))
			      ? TPT_RET_PF_SPURIOUS
			      : try_restore(vcpu, fault, id, at);
		if (ret == -ERR_BUSY)
			vcpu->direct_hint = (struct tree_hint){0};
	}
	if (ret == TPT_RET_PF_FIXED || ret == TPT_RET_PF_SPURIOUS)
		count_add(&vcpu->actor, COUNT_PF_FAST, 1);
	else
		fault->goal_level = TPT_LEVEL_NONE;
	return ret == -ERR_BUSY ? TPT_RET_PF_INVALID : ret;
}
