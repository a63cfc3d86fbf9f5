// SPDX-License-Identifier: BSD-2-Clause
/*
 * From host-virtual memory to the direct leaves that map it: which were used, and they are old from
 * now on. In shared sections, a part of one slot a chunk. Never touches a mirror, never flushes.
 */
#include "mmu/range/range.h"

/* What a sweep needs to say in host-virtual pages which leaves it hit. */
struct note {
	struct range_age *op;
	const struct memslot *slot;
	struct tpt_gfn_range part;
};

/* Which page from the range's first on is it? */
static uint64_t page_of(const struct note *n, tpt_gfn gfn)
{
	return (slot_hva(n->slot, gfn).a - n->op->start.a) >> TPT_PAGE_SHIFT;
}

/* Sets @bits from bit @at of the bitmap of young pages on. */
static void set_bits(uint64_t *young, uint64_t at, uint64_t bits)
{
	unsigned int shift = at % 64;

	young[at / 64] |= bits << shift;
	if (shift && bits >> (64 - shift))
		young[at / 64 + 1] |= bits >> (64 - shift);
}

/* A huge leaf is young for all its pages: those of the part. */
static void note_leaf(uint64_t *young, const struct note *n, tpt_gfn start, tpt_gfn end)
{
	if (start < n->part.start)
		start = n->part.start;
	if (end > n->part.end)
		end = n->part.end;
	for (uint64_t left; start < end; start += 64) {
		left = end - start;
		set_bits(young, page_of(n, start), left < 64 ? (1ull << left) - 1 : ~0ull);
	}
}

static void note_run(void *ctx, tpt_gfn gfn, unsigned int level, const uint64_t *hit,
		     unsigned int nr)
{
	const struct note *n = ctx;
	uint64_t *young = n->op->young, pages = tpt_level_pages(level);

	n->op->found = true;
	for (unsigned int i = 0; young && 64 * i < nr; i++) {
		if (level == TPT_LEVEL_4K) {
			set_bits(young, page_of(n, gfn + 64 * i), hit[i]);
			continue;
		}
		for (uint64_t bits = hit[i]; bits; bits &= bits - 1) {
			tpt_gfn leaf = gfn + (64 * i + (unsigned int)__builtin_ctzll(bits)) * pages;

			note_leaf(young, n, leaf, leaf + pages);
		}
	}
}

/* The next part of the slot that the operation is about, from op->pos on. */
static bool next_part(const struct fault_env *env, const struct range_age *op,
		      const struct memslot *slot, struct tpt_gfn_range *part)
{
	if (!slot_hva_range(slot, op->start, op->end, part))
		return false;
	if (part->start < op->pos)
		part->start = op->pos;
	if (part->start >= part->end)
		return false;
	/* Where both kinds of memory are in one tree, private pages are not the host's to age. */
	if (env->private_memory && !env->has_mirror)
		return attr_next_change(env->slots, part->start, part->end, true, part);
	return true;
}

static void sweep_part(struct fault_env *env, struct actor *actor, struct range_age *op,
		       const struct memslot *slot, struct tpt_gfn_range part)
{
	struct note note = {.op = op, .slot = slot, .part = part};
	struct range_sweep sweep = {.rule = op->clear ? TREE_AGE : TREE_TEST_AGE,
				    .min_level = TPT_LEVEL_4K,
				    .tree = tree_direct(op->as_id),
				    .range = part,
				    .pos = part.start,
				    .found = note_run,
				    .found_ctx = &note};

	range_sweep_chunk(env, actor, &sweep);
	op->pos = sweep.pos;
}

int range_age_chunk(struct fault_env *env, struct actor *actor, struct range_age *op)
{
	for (unsigned int seen = 0; seen < RANGE_SWEEP_CHUNK; seen++) {
		const struct memslot *slot =
			slot_from_hva(env->slots, op->as_id, op->slot, op->start, op->end);
		struct tpt_gfn_range part;

		if (!slot) {
			op->as_id++;
			op->slot = (struct interval_key){0, 0};
			return op->as_id < env->slots->address_spaces;
		}
		if (next_part(env, op, slot, &part)) {
			sweep_part(env, actor, op, slot, part);
			return op->clear || op->young || !op->found;
		}
		op->slot = slot_behind_hva(slot);
		op->pos = 0;
	}
	return 1;
}
