// SPDX-License-Identifier: BSD-2-Clause
/* One path down a tree, and a change at its end: what tree.h's written-out forms hand on. Never
 * walks a range. */
#include "mmu/tree/walk.h"

struct tree_spot tree_walk_slowly(const struct trees *trees, enum tree_id id, tpt_gfn gfn,
				  unsigned int goal)
{
	tpt_gfn index = id == TREE_MIRROR ? gfn : gfn | trees->shared_gfn;
	struct tree_spot at = {.table = trees->root[id], .level = trees->levels};

	for (;; at.level--, at.table = table_header(trees, pte_table_hpa(at.old))) {
		at.entry = table_entries(trees, at.table->hpa) +
			   (index >> 9 * (at.level - 1) & (TABLE_ENTRIES - 1));
		at.old = entry_read(at.entry);
		if (at.level == goal || !pte_is_table_word(at.old))
			return at;
	}
}

void iter_at(struct tree_iter *it, struct trees *trees, enum tree_id id, tpt_gfn gfn,
	     struct tree_spot at)
{
	it->trees = trees;
	it->id = id;
	it->level = at.level;
	it->root_level = trees->levels;
	it->min_level = TPT_LEVEL_4K;
	it->gfn = tpt_gfn_round(gfn, at.level);
	it->next = gfn;
	it->end = gfn + 1;
	it->old = at.old;
	it->entry = at.entry;
	it->path[at.level] = at.table->hpa;
	it->must_flush = false;
	it->detached.table = NULL;
}

int tree_change(struct actor *actor, struct trees *trees, enum tree_id id, tpt_gfn gfn,
		struct tree_spot at, tpt_spte leaf)
{
	struct tree_iter it;

	iter_at(&it, trees, id, gfn, at);
	return tree_transition(actor, &it, leaf, TREE_SHARED);
}
