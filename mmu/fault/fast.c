// SPDX-License-Identifier: BSD-2-Clause
/*
 * The fast path: an access to a page that was only write-protected for a dirty log, or aged where
 * the processor has no A, gets back what it needs by one compare-and-exchange, with no look at the
 * backing. Never installs a leaf and never touches a mirror.
 */
#include "mmu/fault/fault.h"

/* Could an entry that is there give the access what it wants? */
static bool is_eligible(const struct fault_env *env, const struct tpt_fault *fault)
{
	if (fault->rsvd || fault->prefetch || (fault->is_private && env->has_mirror))
		return false;
	/* Before a mismatch is told to the VMM nothing is given. */
	if (env->private_memory && fault->is_private != attr_is_private(env->slots, fault->gfn))
		return false;
	/* An aged leaf without A looks like none to the processor. */
	if (!fault->present)
		return env->trees->format.kept;
	return fault->write;
}

static void walk_to_last(struct tree_iter *it)
{
	while (it->level > TPT_LEVEL_4K && iter_kind(it) == PTE_TABLE)
		iter_down(it);
}

/* The entry with all given back that the access needs, if it is a leaf that only lacks that. */
static bool restored(const struct pte_format *f, const struct memslot *slot,
		     const struct tree_iter *it, unsigned int access, tpt_spte *new_)
{
	*new_ = it->old;
	if (pte_is_tracked(f, *new_))
		*new_ = pte_restore(f, *new_);
	if ((access & TPT_ACC_WRITE) && (new_->w & f->mmu_writable)) {
		/* A log of pages wants the huge leaf split, which is the slow path's. */
		if (it->level > TPT_LEVEL_4K && slot_logs_dirty(slot))
			return false;
		new_->w |= f->write;
	}
	return !pte_same(*new_, it->old) && pte_allows(f, *new_, access);
}

/* Walks and compare-and-exchanges before the slow path is asked. */
#define FAST_TRIES 4

/*
 * One try. 0: the entry is changed, from *old to *new_; -ERR_BUSY: it was changed meanwhile, or its
 * table is detached and only a walk from the root finds what stands there now; TPT_RET_PF_*, or
 * another error.
 */
static int try_restore(struct fault_vcpu *vcpu, const struct tpt_fault *fault,
		       const struct memslot *slot, struct tree_iter *it, tpt_spte *old,
		       tpt_spte *new_)
{
	const struct fault_env *env = vcpu->env;
	const struct pte_format *f = &env->trees->format;
	unsigned int access = fault_access(fault);

	if (!iter_start(it, env->trees, tree_direct(fault->as_id), fault->gfn, fault->gfn + 1,
			TPT_LEVEL_4K))
		return TPT_RET_PF_INVALID;
	walk_to_last(it);
	if (iter_kind(it) != PTE_LEAF)
		return TPT_RET_PF_INVALID;
	if (pte_allows(f, it->old, access))
		return TPT_RET_PF_SPURIOUS;
	*old = it->old;
	if (!restored(f, slot, it, access, new_))
		return TPT_RET_PF_INVALID;
	return tree_transition(&vcpu->actor, it, *new_, TREE_SHARED);
}

int fault_fast(struct fault_vcpu *vcpu, struct tpt_fault *fault)
{
	const struct fault_env *env = vcpu->env;
	const struct pte_format *f = &env->trees->format;
	const struct memslot *slot = slot_find(env->slots, fault->as_id, fault->gfn);
	struct tree_iter it;
	tpt_spte old, new_;
	int ret = -ERR_BUSY;

	if (!is_eligible(env, fault) || !slot || slot->invalid)
		return TPT_RET_PF_INVALID;
	for (unsigned int i = 0; ret == -ERR_BUSY && i < FAST_TRIES; i++)
		ret = try_restore(vcpu, fault, slot, &it, &old, &new_);
	if (ret)
		return ret == -ERR_BUSY ? TPT_RET_PF_INVALID : ret;
	/* After the entry, before the guest: whoever takes the mark in between protects it again.
	 */
	if (new_.w & ~old.w & f->write)
		fault_mark_dirty(vcpu, slot, fault->gfn);
	fault->slot = (int32_t)slot->id;
	fault->goal_level = (enum tpt_level)it.level;
	fault->pfn = pte_pfn(new_);
	fault->spte = new_;
	return TPT_RET_PF_FIXED;
}
