// SPDX-License-Identifier: BSD-2-Clause
/*
 * A huge leaf becomes a table of leaves, which is filled before anybody can reach it: one
 * transition makes it visible. Never decides that a leaf is to be split.
 */
#include "mmu/tree/tree.h"

/* Child @i of a split leaf: the same but for address and, at 4K, the size bit and NX. */
static tpt_spte split_child(const struct trees *trees, tpt_spte leaf, unsigned int level,
			    unsigned int i)
{
	uint64_t offset = ((uint64_t)i * tpt_level_pages(level - 1)) << TPT_PAGE_SHIFT;
	tpt_spte child = {leaf.w + offset};

	if (level - 1 > TPT_LEVEL_4K)
		return child;
	child.w &= ~PTE_PS;
	return trees->nx_huge_pages ? pte_with_exec(&trees->format, child, true) : child;
}

int tree_split(struct actor *actor, struct tree_iter *it, enum nx_mark mark)
{
	struct trees *trees = it->trees;
	enum tpt_tree_kind tree = tree_kind(it->id);
	unsigned int level = it->level;
	struct table *table = table_make(trees, actor, it->id, level - 1, it->gfn);
	entry_t *entries = table_entries(trees, table->hpa);
	int err;

	/* Nobody can reach the table yet: plain stores, and one transition makes it all visible. */
	for (unsigned int i = 0; i < TABLE_ENTRIES; i++)
		atomic_store_explicit(&entries[i], split_child(trees, it->old, level, i).w,
				      memory_order_relaxed);
	err = tree_link(actor, it, table, mark);
	/* What others saw for a moment is the reclaimer's, which takes its leaves off the count. */
	if (!err || atomic_load_explicit(&table->dead, memory_order_relaxed))
		count_add(actor, count_tree(tree, level - 1), TABLE_ENTRIES);
	if (err)
		table_unmake(table, actor);
	return err;
}
