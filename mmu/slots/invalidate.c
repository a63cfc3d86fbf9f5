// SPDX-License-Identifier: BSD-2-Clause
/*
 * Invalidations, in flight and just ended, as intervals: a fault retries only if one overlaps what
 * it is about to map. Never zaps anything.
 *
 *	fault:     snapshot ---- lookup ---- must_retry? ---- map
 *	notifier:        begin ------ end                       in the ring: seen if it overlaps
 *	notifier:                           begin ---- end      in progress: seen if it overlaps
 */
#include "mmu/slots/slots.h"

static bool overlap(uint64_t a, uint64_t a_end, uint64_t b, uint64_t b_end)
{
	return a < b_end && b < a_end;
}

/* What a fault is about to map, in each unit that an invalidation may have. */
struct target {
	const struct tpt_gmem *gmem; /* behind a private mapping, else NULL */
	uint64_t start[3], end[3];   /* by enum inval_kind; empty where none can concern it */
};

static struct target make_target(const struct memslot *slot, tpt_gfn gfn, uint64_t pages,
				 bool private_)
{
	struct target t = {.gmem = NULL};

	t.start[INVAL_GFN] = gfn;
	t.end[INVAL_GFN] = gfn + pages;
	if (private_) {
		t.gmem = slot->gmem;
		t.start[INVAL_GMEM] = slot_gmem_index(slot, gfn);
		t.end[INVAL_GMEM] = t.start[INVAL_GMEM] + pages;
	} else {
		t.start[INVAL_HVA] = slot_hva(slot, gfn).a;
		t.end[INVAL_HVA] = t.start[INVAL_HVA] + (pages << TPT_PAGE_SHIFT);
	}
	return t;
}

static bool concerns(const struct inval_range *range, const struct target *t)
{
	if (range->kind == INVAL_GMEM && range->gmem != t->gmem)
		return false;
	return overlap(range->start, range->end, t->start[range->kind], t->end[range->kind]);
}

static bool in_progress(const struct slots *slots, const struct target *t)
{
	if (interval_first(&slots->in_progress, t->start[INVAL_HVA], t->end[INVAL_HVA]))
		return true;
	return slots->has_structural && concerns(&slots->structural, t);
}

/* Did one that overlaps end since? Newest first. */
static bool ended_since(const struct slots *slots, uint64_t then, const struct target *t)
{
	if (slots->forgotten_at > then)
		return true;
	for (uint64_t n = slots->nr_ended; n && slots->nr_ended - n < INVAL_RING; n--) {
		if (slots->ended_at[(n - 1) % INVAL_RING] <= then)
			return false;
		if (concerns(&slots->ended[(n - 1) % INVAL_RING], t))
			return true;
	}
	return false;
}

bool inval_must_retry(const struct slots *slots, const struct slots_snapshot *then,
		      const struct memslot *slot, tpt_gfn gfn, uint64_t pages, bool private_)
{
	struct target t;

	if (slots->set[then->as_id].changed > then->changes || slot->invalid)
		return true;
	t = make_target(slot, gfn, pages, private_);
	return ended_since(slots, then->changes, &t) || in_progress(slots, &t);
}

bool inval_overlaps(const struct slots *slots, const struct memslot *slot, tpt_gfn gfn,
		    uint64_t pages, bool private_)
{
	struct target t = make_target(slot, gfn, pages, private_);

	return in_progress(slots, &t);
}

void slots_count_change(struct slots *slots, int in_flight)
{
	slots->in_flight += (uint32_t)in_flight;
	slots->changes = ((slots->changes >> 1) + 1) << 1 | !!slots->in_flight;
}

/* Puts what just ended into the ring. */
static void remember(struct slots *slots, const struct inval_range *range)
{
	uint64_t at = slots->nr_ended++ % INVAL_RING;

	slots->forgotten_at = slots->ended_at[at];
	slots->ended[at] = *range;
	slots->ended_at[at] = slots->changes;
}

void inval_begin(struct slots *slots, struct tpt_invalidation *token)
{
	interval_insert(&slots->in_progress, &token->interval, token->start.a, token->end.a,
			(uintptr_t)token);
	slots_count_change(slots, 1);
}

void inval_end(struct slots *slots, struct tpt_invalidation *token)
{
	if (!interval_remove(&slots->in_progress, &token->interval)) {
		vm_log(slots->base, TPT_LOG_WARNING,
		       "invalidation of hva %#lx .. %#lx ends: it is not in progress",
		       token->start.a, token->end.a);
		return;
	}
	slots_count_change(slots, -1);
	remember(slots, &(struct inval_range){
				.kind = INVAL_HVA, .start = token->start.a, .end = token->end.a});
}

void inval_structural_begin(struct slots *slots, const struct inval_range *range)
{
	slots->structural = *range;
	slots->has_structural = true;
	slots_count_change(slots, 1);
}

void inval_structural_end(struct slots *slots)
{
	slots->has_structural = false;
	slots_count_change(slots, -1);
	remember(slots, &slots->structural);
}

void inval_note(struct slots *slots, const struct inval_range *range)
{
	slots_count_change(slots, 0);
	remember(slots, range);
}

/* The frames of a slot that lie over [start, end) of what its first page is number @first of. */
static bool clip(const struct memslot *slot, uint64_t first, uint64_t start, uint64_t end,
		 struct tpt_gfn_range *range)
{
	if (start < first)
		start = first;
	if (end > first + slot->npages)
		end = first + slot->npages;
	if (start >= end)
		return false;
	range->start = slot->base_gfn + (start - first);
	range->end = slot->base_gfn + (end - first);
	return true;
}

bool slot_hva_range(const struct memslot *slot, tpt_hva start, tpt_hva end,
		    struct tpt_gfn_range *range)
{
	if (start.a >= end.a)
		return false;
	return clip(slot, slot->hva.a >> TPT_PAGE_SHIFT, start.a >> TPT_PAGE_SHIFT,
		    ((end.a - 1) >> TPT_PAGE_SHIFT) + 1, range);
}

bool slot_gmem_range(const struct memslot *slot, uint64_t start, uint64_t end,
		     struct tpt_gfn_range *range)
{
	return clip(slot, slot->gmem_index, start, end, range);
}
