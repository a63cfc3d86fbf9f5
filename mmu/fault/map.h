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
/* The exchange lost, or the table gives way: RETRY. */
int map_lost(struct fault_vcpu *vcpu, struct tpt_fault *fault, const struct memslot *slot,
	     struct tree_hint *hint);

/* Is it more than a frame in a leaf like all others at @level? */
static inline bool map_is_unusual(const struct tpt_fault *fault, const struct trees *trees,
				  const struct memslot *slot, bool device, unsigned int level)
{
	if (slot->track || device || fault->prefetch || trees->told || !trees->page_linear)
		return true;
	return level > TPT_LEVEL_4K &&
	       (trees->nx_huge_pages || fault->pfn.n & (tpt_level_pages(level) - 1));
}

/* A leaf like all others. */
static inline tpt_spte map_leaf_word(const struct fault_env *env, const struct tpt_fault *fault,
				     unsigned int level)
{
	return (tpt_spte){env->leaf_word[fault->map_writable] | fault->pfn.n << TPT_PAGE_SHIFT |
			  (level > TPT_LEVEL_4K ? PTE_PS : 0)};
}

/* At an EMPTY entry of a direct tree at the goal's level. */
ALWAYS_INLINE int map_direct(struct fault_vcpu *vcpu, struct tpt_fault *fault,
			     const struct memslot *slot, struct tree_hint *hint,
			     struct tree_spot at)
{
	const struct trees *trees = vcpu->env->trees;
	tpt_spte leaf = map_leaf_word(vcpu->env, fault, at.level);

	if (__builtin_expect(!entry_exchange(at.entry, at.old, leaf), 0))
		return map_lost(vcpu, fault, slot, hint);
	if (__builtin_expect(table_gives_way(at.table), 0) &&
	    tree_take_back(trees, at.entry, at.old, leaf))
		return map_lost(vcpu, fault, slot, hint);
	count_add(&vcpu->actor, count_tree(TPT_TREE_DIRECT, at.level), 1);
	PROBE5(transition, fault->as_id, fault->gfn, at.level, at.old.w, leaf.w);
	fault->spte = leaf;
	/* After the entry, before the guest: whoever takes the mark in between protects it again.
	 */
	if (__builtin_expect(slot_logs_dirty(slot), 0) && fault->map_writable)
		fault_mark_dirty(vcpu, slot, fault->gfn);
	return TPT_RET_PF_FIXED;
}

/* fault_map() of a leaf of a direct tree over a memslot, at a level that @hint is of. */
ALWAYS_INLINE int map_hinted(struct fault_vcpu *vcpu, struct tpt_fault *fault,
			     const struct memslot *slot, bool device, unsigned int level,
			     struct tree_hint *hint, uint64_t turn)
{
	const struct trees *trees = vcpu->env->trees;
	struct tree_spot at;

	if (__builtin_expect(map_is_unusual(fault, trees, slot, device, level), 0))
		return map_slowly(vcpu, fault, slot, device);
	if (hint_is_good(hint, fault->gfn, level, turn)) {
		at = hint_spot(hint, fault->gfn, level);
	} else {
		at = tree_walk_linear(trees, trees->root[fault->as_id],
				      fault->gfn | trees->shared_gfn, level);
		hint_fill(hint, fault->gfn, level, turn, at);
	}
	if (__builtin_expect(at.level == level && at.old.w == PTE_EMPTY_WORD, 1))
		return map_direct(vcpu, fault, slot, hint, at);
	return map_slowly(vcpu, fault, slot, device);
}

/* The same at 4K. */
ALWAYS_INLINE int map_small(struct fault_vcpu *vcpu, struct tpt_fault *fault,
			    const struct memslot *slot, bool device, uint64_t turn)
{
	return map_hinted(vcpu, fault, slot, device, TPT_LEVEL_4K, &vcpu->direct_hint, turn);
}

#endif
