/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One path down a tree and a change of the entry at its end, written out for what faults and
 * lookups do all the time. Whatever is not usual is handed to the plain forms in tree.h, to which
 * these are held equal.
 */
#ifndef MMU_TREE_WALK_H
#define MMU_TREE_WALK_H

#include "mmu/tree/tree.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* Where a walk down one path ended: small enough for registers. */
struct tree_spot {
	entry_t *entry;
	tpt_spte old;
	struct table *table; /* that the entry is in */
	unsigned int level;
};

/* tree_walk() on a platform without linear addresses. */
struct tree_spot tree_walk_slowly(const struct trees *trees, enum tree_id id, tpt_gfn gfn,
				  unsigned int goal);

/* Reads the entry at @level of the table at @hpa. True: a table is below and wanted: *hpa is that.
 */
ALWAYS_INLINE bool walk_step(uintptr_t linear, tpt_gfn index, unsigned int level, unsigned int goal,
			     uint64_t *hpa, struct tree_spot *at)
{
	at->level = level;
	at->entry = (entry_t *)(linear + *hpa) + (index >> 9 * (level - 1) & (TABLE_ENTRIES - 1));
	at->old = entry_read(at->entry);
	if (level == goal || !pte_is_table_word(at->old))
		return false;
	*hpa = pte_table_hpa(at->old).a;
	return true;
}

/* The last entry on @gfn's path: at level @goal, or above it where no table is below. The tree has
 * a root. Section. */
ALWAYS_INLINE struct tree_spot tree_walk(const struct trees *trees, enum tree_id id, tpt_gfn gfn,
					 unsigned int goal)
{
	tpt_gfn index = id == TREE_MIRROR ? gfn : gfn | trees->shared_gfn;
	uint64_t hpa = trees->root[id]->hpa.a;
	uintptr_t linear = trees->page_linear;
	struct tree_spot at;

	if (__builtin_expect(!linear, 0))
		return tree_walk_slowly(trees, id, gfn, goal);
	if ((trees->levels < TPT_LEVEL_256T ||
	     walk_step(linear, index, TPT_LEVEL_256T, goal, &hpa, &at)) &&
	    walk_step(linear, index, TPT_LEVEL_512G, goal, &hpa, &at) &&
	    walk_step(linear, index, TPT_LEVEL_1G, goal, &hpa, &at) &&
	    walk_step(linear, index, TPT_LEVEL_2M, goal, &hpa, &at))
		walk_step(linear, index, TPT_LEVEL_4K, goal, &hpa, &at);
	at.table = (struct table *)(trees->record_linear + hpa / CACHE_LINE);
	return at;
}

/*
 * The leaf table that somebody walked to last. As long as nothing was unlinked since, which moves
 * vm_base.turn, it is a table of its tree; one that is being unlinked has its dead mark, which
 * every change looks at. All 0: none. Forgotten after a change that failed.
 */
struct tree_hint {
	uint64_t turn;	/* of the section in which the walk was made */
	tpt_gfn region; /* GFN >> 9 */
	entry_t *entries;
	struct table *table;
};

/* tree_walk() to 4K by who is mostly in the table where he was last, and is in a section of @turn.
 * A hint is of one tree. */
ALWAYS_INLINE struct tree_spot tree_walk_hinted(const struct trees *trees, enum tree_id id,
						tpt_gfn gfn, struct tree_hint *hint, uint64_t turn)
{
	struct tree_spot at;

	if (turn == hint->turn && gfn >> 9 == hint->region) {
		at.level = TPT_LEVEL_4K;
		at.entry = hint->entries + (gfn & (TABLE_ENTRIES - 1));
		at.old = entry_read(at.entry);
		at.table = hint->table;
		return at;
	}
	at = tree_walk(trees, id, gfn, TPT_LEVEL_4K);
	if (at.level == TPT_LEVEL_4K)
		*hint = (struct tree_hint){.turn = turn,
					   .region = gfn >> 9,
					   .entries = at.entry - (gfn & (TABLE_ENTRIES - 1)),
					   .table = at.table};
	return at;
}

static inline bool spot_has_leaf(struct tree_spot at)
{
	return pte_is_present(at.old) && pte_is_leaf_word(at.old, at.level);
}

/* An iterator over @gfn alone, at a spot that a walk found. */
void iter_at(struct tree_iter *it, struct trees *trees, enum tree_id id, tpt_gfn gfn,
	     struct tree_spot at);

/* tree_transition() at a spot, to @leaf. Shared section. */
int tree_change(struct actor *actor, struct trees *trees, enum tree_id id, tpt_gfn gfn,
		struct tree_spot at, tpt_spte leaf);
/* Undoes a change from @old to @leaf in a table that is dead. False: it stands; see the
 * transition. */
bool tree_take_back(const struct trees *trees, entry_t *entry, tpt_spte old, tpt_spte leaf);

static inline bool spot_freeze(struct tree_spot at)
{
	uint64_t old = at.old.w;

	return atomic_compare_exchange_strong_explicit(at.entry, &old, PTE_FROZEN_WORD,
						       memory_order_seq_cst, memory_order_acquire);
}

/* The exchange, and the look at the table's dead mark that is owed after it. */
ALWAYS_INLINE bool spot_exchange(struct actor *actor, const struct trees *trees,
				 struct tree_spot at, tpt_spte leaf)
{
	uint64_t old = at.old.w;

	if (__builtin_expect(atomic_compare_exchange_strong_explicit(at.entry, &old, leaf.w,
								     memory_order_seq_cst,
								     memory_order_acquire),
			     1) &&
	    (__builtin_expect(!atomic_load_explicit(&at.table->dead, memory_order_seq_cst), 1) ||
	     !tree_take_back(trees, at.entry, at.old, leaf)))
		return true;
	count_add(actor, COUNT_CAS_LOST, 1);
	return false;
}

/* Is there no rule of the transition's that could speak against @leaf at this level? */
static inline bool is_plain_leaf(const struct trees *trees, tpt_spte leaf, unsigned int level)
{
	uint64_t below = (tpt_level_pages(level) - 1) << TPT_PAGE_SHIFT;

	if (level == TPT_LEVEL_4K)
		return pte_is_present(leaf);
	return pte_is_present(leaf) && (leaf.w & PTE_PS) && level <= TPT_LEVEL_MAX_LEAF &&
	       !(leaf.w & below) && !trees->nx_huge_pages;
}

/* The transition of an EMPTY entry of a direct tree to @leaf, in a shared section. */
ALWAYS_INLINE int tree_install(struct actor *actor, struct trees *trees, enum tree_id id,
			       tpt_gfn gfn, struct tree_spot at, tpt_spte leaf)
{
	if (__builtin_expect(at.old.w != PTE_EMPTY_WORD || trees->told ||
				     !is_plain_leaf(trees, leaf, at.level),
			     0))
		return tree_change(actor, trees, id, gfn, at, leaf);
	if (!spot_exchange(actor, trees, at, leaf))
		return -ERR_BUSY;
	count_add(actor, count_tree(TPT_TREE_DIRECT, at.level), 1);
	PROBE5(transition, id, gfn, at.level, at.old.w, leaf.w);
	return 0;
}

/* The same of a mirror: FROZEN, the call, @leaf, or EMPTY again if it was refused. */
ALWAYS_INLINE int tree_install_mirror(struct actor *actor, struct trees *trees, tpt_gfn gfn,
				      struct tree_spot at, tpt_spte leaf)
{
	struct mirror_entry e = {gfn, (enum tpt_level)at.level};
	int err = -ERR_BUSY;

	if (__builtin_expect(at.old.w != PTE_EMPTY_WORD || trees->told || trees->mirror.released ||
				     at.level != TPT_LEVEL_4K || !pte_is_present(leaf),
			     0))
		return tree_change(actor, trees, TREE_MIRROR, gfn, at, leaf);
	if (__builtin_expect(spot_freeze(at), 1)) {
		if (!atomic_load_explicit(&at.table->dead, memory_order_seq_cst))
			err = mirror_map(&trees->mirror, actor, e, pte_pfn(leaf));
		atomic_store_explicit(at.entry, err ? PTE_EMPTY_WORD : leaf.w,
				      memory_order_release);
	}
	if (__builtin_expect(err, 0)) {
		if (err == -ERR_BUSY)
			count_add(actor, COUNT_CAS_LOST, 1);
		return err;
	}
	count_add(actor, count_tree(TPT_TREE_MIRROR, TPT_LEVEL_4K), 1);
	PROBE5(transition, TREE_MIRROR, gfn, at.level, at.old.w, leaf.w);
	return 0;
}

/* The same of a 4K leaf that is given its W back, and nothing else. */
ALWAYS_INLINE int tree_give_write(struct actor *actor, struct trees *trees, enum tree_id id,
				  tpt_gfn gfn, struct tree_spot at, tpt_spte leaf)
{
	if (__builtin_expect(at.level != TPT_LEVEL_4K || !pte_is_present(at.old) || trees->told ||
				     leaf.w != (at.old.w | trees->format.write),
			     0))
		return tree_change(actor, trees, id, gfn, at, leaf);
	if (!spot_exchange(actor, trees, at, leaf))
		return -ERR_BUSY;
	PROBE5(transition, id, gfn, at.level, at.old.w, leaf.w);
	return 0;
}

/*
 * TREE_ZAP of the leaf over @gfn, walk and all, for who takes one page at a time: equal to a sweep
 * of one. Exclusive section, a direct tree that has a root, and nobody listens. Returns the spot,
 * with the leaf as it was in @old; no leaf there: nothing was changed.
 */
ALWAYS_INLINE struct tree_spot tree_zap_page(struct actor *actor, const struct trees *trees,
					     enum tree_id id, tpt_gfn gfn)
{
	struct tree_spot at = tree_walk(trees, id, gfn, TPT_LEVEL_4K);

	/* After a walk to 4K what is present is a leaf. */
	if (!pte_is_present(at.old))
		return at;
	at.old.w = atomic_exchange_explicit(at.entry, PTE_EMPTY_WORD, memory_order_seq_cst);
	count_add(actor, count_tree(TPT_TREE_DIRECT, at.level), -1);
	return at;
}

#endif
