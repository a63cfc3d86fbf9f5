// SPDX-License-Identifier: BSD-2-Clause
/*
 * Walks that take a permission or a flag from every leaf in a range of direct trees: write-protect,
 * clear-dirty, age. In shared sections, a chunk at a time; never zaps and never makes an external
 * call.
 */
#include "mmu/range/range.h"

/* Entries of the iterator's table that the range covers from here on. */
static unsigned int run_length(const struct tree_iter *it, tpt_gfn end)
{
	unsigned int pages_shift = 9 * (it->level - 1);
	unsigned int index = it->gfn >> pages_shift & (TABLE_ENTRIES - 1);
	uint64_t left = (end - it->gfn + tpt_level_pages(it->level) - 1) >> pages_shift;

	return left < TABLE_ENTRIES - index ? (unsigned int)left : TABLE_ENTRIES - index;
}

/* Hands what was hit to the caller, and makes one flush of the chunk's. */
static void note(struct range_sweep *op, const struct tree_iter *it, const struct tree_sweep *sweep,
		 unsigned int nr, unsigned int hits)
{
	op->hits += hits;
	if (hits && op->found)
		op->found(op->found_ctx, it->gfn, it->level, sweep->hit, nr);
	if (!it->must_flush)
		return;
	if (op->flush.start == op->flush.end)
		op->flush.start = it->gfn;
	op->flush.end = it->gfn + nr * tpt_level_pages(it->level);
}

int range_sweep_chunk(struct fault_env *env, struct actor *actor, struct range_sweep *op)
{
	struct tree_iter it;
	unsigned int seen = 0;
	tpt_gfn start = op->pos;

	for_each_tree_entry (&it, env->trees, op->tree, op->pos, op->range.end, op->min_level) {
		struct tree_sweep sweep = {.rule = op->rule};
		unsigned int nr = 1;

		if (seen >= RANGE_SWEEP_CHUNK && it.gfn > start) {
			hold_looked(actor, seen);
			op->pos = it.gfn;
			return 1;
		}
		if (it.level == TPT_LEVEL_4K)
			nr = run_length(&it, op->range.end);
		else if (iter_kind(&it) != PTE_LEAF) {
			seen++;
			continue;
		}
		it.must_flush = false;
		note(op, &it, &sweep, nr, tree_sweep(actor, &it, nr, &sweep));
		iter_skip(&it, nr - 1);
		seen += nr;
	}
	hold_looked(actor, seen);
	op->pos = op->range.end;
	return 0;
}

unsigned int range_sweep_masked(struct fault_env *env, struct actor *actor, enum tree_id tree,
				enum tree_rule rule, tpt_gfn gfn, uint64_t mask)
{
	struct tree_iter it;
	struct tree_sweep sweep = {.rule = rule, .mask = &mask};
	unsigned int hits = 0;

	while (mask) {
		unsigned int skip = (unsigned int)__builtin_ctzll(mask), nr;

		gfn += skip;
		mask >>= skip;
		if (!iter_start(&it, env->trees, tree, gfn, gfn + 64, TPT_LEVEL_4K))
			break;
		while (it.level > TPT_LEVEL_4K && iter_kind(&it) == PTE_TABLE)
			iter_down(&it);
		/* The whole run lies in one table, or it goes on in the next one. */
		nr = run_length(&it, gfn + 64);
		if (it.level <= TPT_LEVEL_4K) {
			hits += tree_sweep(actor, &it, nr, &sweep);
		} else {
			uint64_t rest = it.gfn + tpt_level_pages(it.level) - gfn;
			bool dirty = rule == TREE_CLEAR_DIRTY || rule == TREE_WRITE_PROTECT;
			/*
			 * It has one A and one D for all its pages: the next write must fault, and
			 * not get W back for all of them at once (KVM's clear of an initially-set
			 * log takes the mark for that as well).
			 */
			struct tree_sweep one = {.rule = dirty ? TREE_WRITE_TRACK : rule};

			if (iter_kind(&it) == PTE_LEAF)
				hits += tree_sweep(actor, &it, 1, &one);
			nr = rest < 64 ? (unsigned int)rest : 64;
		}
		if (nr >= 64)
			break;
		gfn += nr;
		mask >>= nr;
	}
	return hits;
}
