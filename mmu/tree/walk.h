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

/* tree_walk() from @root, on a platform that has linear addresses. @index: the GFN, in a direct
 * tree with the shared bit. */
ALWAYS_INLINE struct tree_spot tree_walk_linear(const struct trees *trees, const struct table *root,
						tpt_gfn index, unsigned int goal)
{
	uint64_t hpa = root->hpa.a;
	uintptr_t linear = trees->page_linear;
	struct tree_spot at;

	if ((trees->levels < TPT_LEVEL_256T ||
	     walk_step(linear, index, TPT_LEVEL_256T, goal, &hpa, &at)) &&
	    walk_step(linear, index, TPT_LEVEL_512G, goal, &hpa, &at) &&
	    walk_step(linear, index, TPT_LEVEL_1G, goal, &hpa, &at) &&
	    walk_step(linear, index, TPT_LEVEL_2M, goal, &hpa, &at))
		walk_step(linear, index, TPT_LEVEL_4K, goal, &hpa, &at);
	at.table = (struct table *)(trees->record_linear + hpa / CACHE_LINE);
	return at;
}

/* The last entry on @gfn's path: at level @goal, or above it where no table is below. The tree has
 * a root. Section. */
ALWAYS_INLINE struct tree_spot tree_walk(const struct trees *trees, enum tree_id id, tpt_gfn gfn,
					 unsigned int goal)
{
	if (__builtin_expect(!trees->page_linear, 0))
		return tree_walk_slowly(trees, id, gfn, goal);
	return tree_walk_linear(trees, trees->root[id],
				id == TREE_MIRROR ? gfn : gfn | trees->shared_gfn, goal);
}

/*
 * The table at one level, 4K or 2M, that somebody walked to last. As long as nothing was unlinked
 * since, which moves vm_base.turn, it is a table of its tree; one that is being unlinked has its
 * dead mark, which every change looks at. All 0: none. Forgotten after a change that failed.
 */
struct tree_hint {
	uint64_t turn;	/* of the section in which the walk was made */
	tpt_gfn region; /* which of its level's tables: GFN >> 9 * level */
	entry_t *entries;
	struct table *table;
};

ALWAYS_INLINE bool hint_is_good(const struct tree_hint *hint, tpt_gfn gfn, unsigned int level,
				uint64_t turn)
{
	return turn == hint->turn && gfn >> 9 * level == hint->region;
}

ALWAYS_INLINE unsigned int hint_index(tpt_gfn gfn, unsigned int level)
{
	return gfn >> 9 * (level - 1) & (TABLE_ENTRIES - 1);
}

ALWAYS_INLINE struct tree_spot hint_spot(const struct tree_hint *hint, tpt_gfn gfn,
					 unsigned int level)
{
	entry_t *entry = hint->entries + hint_index(gfn, level);

	return (struct tree_spot){entry, entry_read(entry), hint->table, level};
}

/* What a walk to @level by who is in a section of @turn found. */
ALWAYS_INLINE void hint_fill(struct tree_hint *hint, tpt_gfn gfn, unsigned int level, uint64_t turn,
			     struct tree_spot at)
{
	if (at.level == level)
		*hint = (struct tree_hint){.turn = turn,
					   .region = gfn >> 9 * level,
					   .entries = at.entry - hint_index(gfn, level),
					   .table = at.table};
}

/* tree_walk() to 4K by who is mostly in the table where he was last, and is in a section of @turn.
 * A hint is of one tree. */
ALWAYS_INLINE struct tree_spot tree_walk_hinted(const struct trees *trees, enum tree_id id,
						tpt_gfn gfn, struct tree_hint *hint, uint64_t turn)
{
	struct tree_spot at;

	if (hint_is_good(hint, gfn, TPT_LEVEL_4K, turn))
		return hint_spot(hint, gfn, TPT_LEVEL_4K);
	at = tree_walk(trees, id, gfn, TPT_LEVEL_4K);
	hint_fill(hint, gfn, TPT_LEVEL_4K, turn, at);
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

/* The exchange of one entry, and the look at its table's dead mark that is owed after it. */
ALWAYS_INLINE bool entry_exchange(entry_t *entry, tpt_spte old, tpt_spte new_)
{
	uint64_t expected = old.w;

	return atomic_compare_exchange_strong_explicit(entry, &expected, new_.w,
						       memory_order_seq_cst, memory_order_acquire);
}

ALWAYS_INLINE bool table_gives_way(struct table *table)
{
	return atomic_load_explicit(&table->dead, memory_order_seq_cst);
}

/*
 * The transition of a mirror's EMPTY 4K entry to @leaf: FROZEN, the call, @leaf, or EMPTY again if
 * it was refused. Answers as the transition's.
 */
ALWAYS_INLINE int tree_install_mirror(struct actor *actor, struct trees *trees, tpt_gfn gfn,
				      struct tree_spot at, tpt_spte leaf)
{
	struct mirror_entry e = {gfn, TPT_LEVEL_4K};
	int err = -ERR_BUSY;

	if (__builtin_expect(!entry_exchange(at.entry, at.old, pte_frozen()), 0))
		return err;
	if (__builtin_expect(!table_gives_way(at.table), 1))
		err = mirror_map(&trees->mirror, actor, e, pte_pfn(leaf));
	atomic_store_explicit(at.entry, err ? at.old.w : leaf.w, memory_order_release);
	if (__builtin_expect(err, 0))
		return err;
	count_add(actor, count_tree(TPT_TREE_MIRROR, TPT_LEVEL_4K), 1);
	PROBE5(transition, TREE_MIRROR, gfn, TPT_LEVEL_4K, at.old.w, leaf.w);
	return 0;
}

/*
 * TREE_ZAP of one 4K leaf at a spot, for who takes one page at a time: equal to a sweep of one.
 * Exclusive section, a direct tree, and nobody listens. Returns the leaf as it was.
 */
ALWAYS_INLINE tpt_spte tree_zap_leaf(struct actor *actor, struct tree_spot at)
{
	at.old.w = atomic_exchange_explicit(at.entry, PTE_EMPTY_WORD, memory_order_seq_cst);
	count_add(actor, count_tree(TPT_TREE_DIRECT, TPT_LEVEL_4K), -1);
	return at.old;
}

#endif
