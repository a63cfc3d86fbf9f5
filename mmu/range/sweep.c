// SPDX-License-Identifier: BSD-2-Clause
/*
 * Walks that take a permission or a flag from every leaf in a range of direct trees: write-protect,
 * clear-dirty, age. In shared sections, a chunk at a time; never zaps and never makes an external
 * call.
 */
#include "mmu/range/range.h"

void range_cover(struct tpt_gfn_range *flush, const struct tree_iter *it, const uint64_t *hit,
		 unsigned int nr)
{
	uint64_t pages = tpt_level_pages(it->level);
	unsigned int first = 0, last = (nr - 1) / 64;

	while (!hit[last] && last)
		last--;
	if (!hit[last])
		return;
	while (!hit[first])
		first++;
	if (flush->start == flush->end)
		flush->start =
			it->gfn + (64 * first + (unsigned int)__builtin_ctzll(hit[first])) * pages;
	flush->end = it->gfn + (64 * last + 64 - (unsigned int)__builtin_clzll(hit[last])) * pages;
}

int range_sweep_chunk(struct fault_env *env, struct actor *actor, struct range_sweep *op)
{
	struct tree_sweep sweep = {.rule = op->rule};
	unsigned int hits;
	struct tree_iter it;
	bool more = iter_start_runs(&it, env->trees, op->tree, op->pos, op->range.end,
				    op->min_level, RANGE_SWEEP_CHUNK);

	for (; more; more = iter_next_run(&it, sweep.done)) {
		it.must_flush = false;
		hits = tree_sweep(actor, &it, it.nr, &sweep);
		if (!hits)
			continue;
		op->hits += hits;
		if (op->found)
			op->found(op->found_ctx, it.gfn, it.level, sweep.hit, sweep.done);
		if (it.must_flush)
			range_cover(&op->flush, &it, sweep.hit, sweep.done);
	}
	hold_looked(actor, RANGE_SWEEP_CHUNK - it.left);
	op->pos = iter_gave_way(&it) ? it.next : op->range.end;
	return iter_gave_way(&it);
}

/* ---- by a mask ---- */

/* A mask of pages: bit 0 is @gfn, and those from @end on have none. */
struct pages {
	tpt_gfn gfn, end;
	const uint64_t *mask;
};

/* The 64 bits from @gfn on, which is below the end. */
static uint64_t bits_at(const struct pages *p, tpt_gfn gfn)
{
	unsigned int bit = (gfn - p->gfn) % 64;
	const uint64_t *word = &p->mask[(gfn - p->gfn) / 64];
	uint64_t bits = *word >> bit;

	return bit && gfn - bit + 64 < p->end ? bits | word[1] << (64 - bit) : bits;
}

/* Is any page of [start, end) in the mask? */
static bool any_in(const struct pages *p, tpt_gfn start, tpt_gfn end)
{
	if (start < p->gfn)
		start = p->gfn;
	if (end > p->end)
		end = p->end;
	for (; start + 64 <= end; start += 64)
		if (bits_at(p, start))
			return true;
	return start < end && bits_at(p, start) << (64 - (end - start));
}

/* A run of 4K entries. */
static unsigned int sweep_small(struct actor *actor, struct tree_iter *it, struct tree_sweep *sweep,
				const struct pages *p)
{
	uint64_t mask[RANGE_MASK_WORDS];

	for (unsigned int i = 0; 64 * i < it->nr; i++)
		mask[i] = bits_at(p, it->gfn + 64 * i);
	sweep->mask = mask;
	return tree_sweep(actor, it, it->nr, sweep);
}

/*
 * One huge leaf: it has one A and one D for all its pages. The next write must fault, and not get W
 * back for all of them at once (KVM's clear of an initially-set log takes the mark for that as
 * well).
 */
static unsigned int sweep_huge(struct actor *actor, struct tree_iter *it, struct tree_sweep *sweep,
			       const struct pages *p)
{
	bool dirty = sweep->rule == TREE_CLEAR_DIRTY || sweep->rule == TREE_WRITE_PROTECT;
	struct tree_sweep one = {.rule = dirty ? TREE_WRITE_TRACK : sweep->rule};
	unsigned int hits = 0;

	one.done = 1;
	if (any_in(p, it->gfn, it->gfn + tpt_level_pages(it->level)))
		hits = tree_sweep(actor, it, 1, &one);
	sweep->done = one.done;
	return hits;
}

unsigned int range_sweep_masked(struct fault_env *env, struct actor *actor, enum tree_id tree,
				enum tree_rule rule, tpt_gfn gfn, const uint64_t *mask,
				unsigned int nr)
{
	const struct pages p = {.gfn = gfn, .end = gfn + 64 * nr, .mask = mask};
	struct tree_sweep sweep;
	unsigned int hits = 0;
	struct tree_iter it;
	bool more = iter_start_runs(&it, env->trees, tree, gfn, p.end, TPT_LEVEL_4K, ITER_ALL);

	sweep.rule = rule;
	for (; more; more = iter_next_run(&it, sweep.done))
		hits += it.level == TPT_LEVEL_4K ? sweep_small(actor, &it, &sweep, &p)
						 : sweep_huge(actor, &it, &sweep, &p);
	hold_looked(actor, ITER_ALL - it.left);
	return hits;
}
