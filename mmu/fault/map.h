/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Installing a direct leaf at an EMPTY entry, written out for faults that are neither huge nor
 * private, which most are. Never links a table; all else goes to map_slowly().
 */
#ifndef MMU_FAULT_MAP_H
#define MMU_FAULT_MAP_H

#include "mmu/fault/fault.h"

/* fault_map() of all that is not written out: tables are to be linked, or the entry is not EMPTY,
 * or it is MMIO that is to be cached. */
int map_slowly(struct fault_vcpu *vcpu, struct tpt_fault *fault, const struct memslot *slot,
	       bool device);
/* The leaf that the fault decided on, at @level. */
tpt_spte map_make_leaf(const struct fault_env *env, const struct tpt_fault *fault, enum tree_id id,
		       unsigned int level, bool tracked, bool device);
/* The change of a direct entry to @leaf failed. */
int map_failed(struct fault_vcpu *vcpu, const struct memslot *slot, tpt_gfn gfn, tpt_spte leaf,
	       int err);

/* A transition's answer as a fault's: whoever was faster, the guest tries again. */
static inline int outcome(int err)
{
	return err == -ERR_BUSY ? TPT_RET_PF_RETRY : err;
}

/* Is a leaf there one that code must not run from? */
static inline bool is_nx_huge(const struct trees *trees, enum tree_id id, unsigned int level)
{
	return level > TPT_LEVEL_4K && id != TREE_MIRROR && trees->nx_huge_pages;
}

/* After the entry, before the guest: whoever takes the mark in between protects it again. */
static inline int mapped(struct fault_vcpu *vcpu, struct tpt_fault *fault,
			 const struct memslot *slot, tpt_spte leaf, bool tracked)
{
	fault->spte = leaf;
	if (slot_logs_dirty(slot) && leaf.w & vcpu->env->trees->format.write)
		fault_mark_dirty(vcpu, slot, fault->gfn);
	return tracked && fault_writes(fault) ? TPT_RET_PF_WRITE_PROTECTED : TPT_RET_PF_FIXED;
}

/* Most leaves differ in their frame alone. */
static inline tpt_spte leaf_of(const struct fault_env *env, const struct tpt_fault *fault,
			       enum tree_id id, unsigned int level, bool tracked, bool device)
{
	if (__builtin_expect(
		    tracked || device || fault->prefetch || is_nx_huge(env->trees, id, level), 0))
		return map_make_leaf(env, fault, id, level, tracked, device);
	return (tpt_spte){env->leaf_word[fault->map_writable] | fault->pfn.n << TPT_PAGE_SHIFT |
			  (level > TPT_LEVEL_4K ? PTE_PS : 0)};
}

/* At an EMPTY entry of a direct tree at the goal's level. */
ALWAYS_INLINE int map_direct(struct fault_vcpu *vcpu, struct tpt_fault *fault,
			     const struct memslot *slot, bool device, enum tree_id id,
			     struct tree_spot at)
{
	bool tracked = slot_is_tracked(slot, fault->gfn);
	tpt_spte leaf = leaf_of(vcpu->env, fault, id, at.level, tracked, device);
	int err = tree_install(&vcpu->actor, vcpu->env->trees, id, fault->gfn, at, leaf);

	return __builtin_expect(err, 0) ? map_failed(vcpu, slot, fault->gfn, leaf, err)
					: mapped(vcpu, fault, slot, leaf, tracked);
}

/* fault_map() of a 4K leaf of a direct tree over a memslot. */
ALWAYS_INLINE int map_small(struct fault_vcpu *vcpu, struct tpt_fault *fault,
			    const struct memslot *slot, bool device, uint64_t turn)
{
	enum tree_id id = tree_direct(fault->as_id);
	struct tree_spot at =
		tree_walk_hinted(vcpu->env->trees, id, fault->gfn, &vcpu->direct_hint, turn);

	if (__builtin_expect(at.level == TPT_LEVEL_4K && at.old.w == PTE_EMPTY_WORD, 1))
		return map_direct(vcpu, fault, slot, device, id, at);
	return map_slowly(vcpu, fault, slot, device);
}

#endif
