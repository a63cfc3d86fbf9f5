// SPDX-License-Identifier: BSD-2-Clause
/*
 * A huge leaf becomes a table of leaves, which is filled before anybody can reach it: one
 * transition makes it visible. Never decides that a leaf is to be split.
 */
#include "mmu/tree/tree.h"

int tree_link_filled(struct actor *actor, struct tree_iter *it, struct table *table,
		     unsigned int leaves, enum nx_mark mark)
{
	enum tpt_tree_kind tree = tree_kind(it->id);
	unsigned int level = it->level;
	int err = tree_link(actor, it, table, mark);

	/* What others saw for a moment is the reclaimer's, which takes its leaves off the count. */
	if (!err || atomic_load_explicit(&table->dead, memory_order_relaxed))
		count_add(actor, count_tree(tree, level - 1), leaves);
	if (err)
		table_unmake(table, actor);
	return err;
}

/* First child of a split leaf: the same but for, at 4K, the size bit and NX. */
static tpt_spte first_child(const struct trees *trees, tpt_spte leaf, unsigned int level)
{
	if (level - 1 > TPT_LEVEL_4K)
		return leaf;
	leaf.w &= ~PTE_PS;
	return trees->nx_huge_pages ? pte_with_exec(&trees->format, leaf, true) : leaf;
}

int tree_split(struct actor *actor, struct tree_iter *it, enum nx_mark mark)
{
	struct trees *trees = it->trees;
	struct table *table = table_make_blank(trees, actor, it->id, it->level - 1, it->gfn);
	tpt_spte child = first_child(trees, it->old, it->level);

	table_write(table_entries(trees, table->hpa), TABLE_ENTRIES, child.w,
		    tpt_level_pages(it->level - 1) << TPT_PAGE_SHIFT);
	return tree_link_filled(actor, it, table, TABLE_ENTRIES, mark);
}
