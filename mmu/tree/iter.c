// SPDX-License-Identifier: BSD-2-Clause
/* The iterator: pre-order, one step one entry, or one run of them. Reads entries, changes none. */
#include "mmu/tree/tree.h"

/* Direct trees of a VM with a shared bit are indexed with it, as the processor does. */
static tpt_gfn full_gfn(const struct tree_iter *it, tpt_gfn gfn)
{
	return it->id == TREE_MIRROR ? gfn : gfn | it->trees->shared_gfn;
}

static unsigned int index_of(const struct tree_iter *it, tpt_gfn gfn)
{
	return full_gfn(it, gfn) >> (9 * (it->level - 1)) & (TABLE_ENTRIES - 1);
}

void iter_reread(struct tree_iter *it)
{
	it->old = entry_read(it->entry);
}

/* Goes to the entry for it->next in the table at it->level. */
static void settle(struct tree_iter *it)
{
	it->gfn = tpt_gfn_round(it->next, it->level);
	it->entry = table_entries(it->trees, it->path[it->level]) + index_of(it, it->next);
	iter_reread(it);
}

/* Into the table that the current entry points to; not yet at an entry of it. */
static void enter(struct tree_iter *it)
{
	it->path[it->level - 1] = pte_table_hpa(it->old);
	it->level--;
}

/* @n entries on; behind the last one of a table up to where there is one beside. */
static void step(struct tree_iter *it, unsigned int n)
{
	it->next = it->gfn + n * tpt_level_pages(it->level);
	while (it->level < it->root_level && !(it->next & (tpt_level_pages(it->level + 1) - 1)))
		it->level++;
}

/* At the root, before its entry for @gfn. */
static bool start(struct tree_iter *it, struct trees *trees, enum tree_id id, tpt_gfn gfn,
		  tpt_gfn end, unsigned int min_level)
{
	const struct table *root = trees->root[id];
	tpt_gfn limit = 1ull << trees->gfn_bits;

	it->trees = trees;
	it->id = id;
	it->level = it->root_level = trees->levels;
	it->min_level = min_level;
	it->next = gfn;
	it->end = end < limit ? end : limit;
	it->must_flush = false;
	it->detached.table = NULL;
	if (!root) {
		it->end = gfn;
		return false;
	}
	it->path[it->level] = root->hpa;
	return gfn < it->end;
}

bool iter_start(struct tree_iter *it, struct trees *trees, enum tree_id id, tpt_gfn gfn,
		tpt_gfn end, unsigned int min_level)
{
	if (!start(it, trees, id, gfn, end, min_level))
		return false;
	settle(it);
	return true;
}

void iter_down(struct tree_iter *it)
{
	enter(it);
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
	step(it, 1);
	if (it->next >= it->end)
		return false;
	settle(it);
	return true;
}

/* ---- by runs ---- */

/* Entries from the current one on: to the table's end, the range's, or as many as may be looked at.
 */
static unsigned int run_length(const struct tree_iter *it)
{
	unsigned int shift = 9 * (it->level - 1);
	uint64_t wanted = ((it->end - 1 - it->gfn) >> shift) + 1;
	unsigned int nr = TABLE_ENTRIES - index_of(it, it->gfn);

	if (wanted < nr)
		nr = (unsigned int)wanted;
	return it->left < nr ? it->left : nr;
}

/*
 * From it->next on in the table at it->level: down through tables, to the lowest level at most. All
 * in registers: one walk is most of what an operation on a page costs.
 */
static inline void descend(struct tree_iter *it)
{
	const struct trees *trees = it->trees;
	const uintptr_t linear = trees->page_linear;
	unsigned int level = it->level, shift = 9 * (level - 1), min = it->min_level;
	tpt_gfn gfn = full_gfn(it, it->next);
	entry_t *table = table_entries(trees, it->path[level]), *entry;
	tpt_spte e;

	for (;;) {
		entry = &table[gfn >> shift & (TABLE_ENTRIES - 1)];
		e = entry_read(entry);
		if (level == min || !pte_is_table_word(e))
			break;
		shift -= 9;
		level--;
		it->path[level] = pte_table_hpa(e);
		table = linear ? (entry_t *)(linear + it->path[level].a)
			       : table_entries(trees, it->path[level]);
	}
	it->left -= it->level - level;
	it->level = level;
	it->gfn = it->next >> shift << shift;
	it->entry = entry;
	it->old = e;
}

/* The run that it->next lies in, or the next one. */
static bool find_run(struct tree_iter *it)
{
	while (it->next < it->end && it->left > TPT_LEVEL_MAX) {
		descend(it);
		if (it->level == it->min_level || it->old.w != PTE_EMPTY_WORD) {
			it->nr = run_length(it);
			return true;
		}
		it->left--;
		step(it, 1);
	}
	return false;
}

bool iter_start_runs(struct tree_iter *it, struct trees *trees, enum tree_id id, tpt_gfn gfn,
		     tpt_gfn end, unsigned int min, unsigned int look)
{
	it->left = look;
	return start(it, trees, id, gfn, end, min) && find_run(it);
}

bool iter_next_run(struct tree_iter *it, unsigned int done)
{
	it->left -= done;
	/* None: a table has taken the place of the first, and is gone into. */
	if (done)
		step(it, done);
	return find_run(it);
}
