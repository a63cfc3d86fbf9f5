// SPDX-License-Identifier: BSD-2-Clause
/* The iterator: pre-order, one step one entry. Reads entries and never changes one. */
#include "mmu/tree/tree.h"

/* Direct trees of a VM with a shared bit are indexed with it, as the processor does. */
static unsigned int index_of(const struct tree_iter *it, tpt_gfn gfn, unsigned int level)
{
	if (it->id != TREE_MIRROR)
		gfn |= it->trees->shared_gfn;
	return (gfn >> (9 * (level - 1))) & (TABLE_ENTRIES - 1);
}

void iter_reread(struct tree_iter *it)
{
	it->old = entry_read(it->entry);
}

/* Goes to the entry for it->next in the table at it->level. */
static void settle(struct tree_iter *it)
{
	it->gfn = tpt_gfn_round(it->next, it->level);
	it->entry =
		table_entries(it->trees, it->path[it->level]) + index_of(it, it->gfn, it->level);
	iter_reread(it);
}

bool iter_start(struct tree_iter *it, struct trees *trees, enum tree_id id, tpt_gfn gfn,
		tpt_gfn end, unsigned int min_level)
{
	const struct table *root = trees->root[id];
	tpt_gfn limit = 1ull << trees->gfn_bits;

	*it = (struct tree_iter){.trees = trees,
				 .id = id,
				 .level = trees->levels,
				 .root_level = trees->levels,
				 .min_level = min_level,
				 .next = gfn,
				 .end = end < limit ? end : limit};
	if (!root || gfn >= it->end)
		return false;
	it->path[it->level] = root->hpa;
	settle(it);
	return true;
}

void iter_down(struct tree_iter *it)
{
	it->path[it->level - 1] = pte_table_hpa(it->old);
	it->level--;
	settle(it);
}

bool iter_next(struct tree_iter *it)
{
	/* Read again before going down: the table may be gone since. */
	if (it->level > it->min_level) {
		iter_reread(it);
		if (iter_kind(it) == PTE_TABLE) {
			iter_down(it);
			return true;
		}
	}

	it->next = it->gfn + tpt_level_pages(it->level);
	if (it->next >= it->end)
		return false;
	/* The last entry of a table: go up until there is one beside. */
	while (it->level < it->root_level && !(it->next & (tpt_level_pages(it->level + 1) - 1)))
		it->level++;
	settle(it);
	return true;
}
