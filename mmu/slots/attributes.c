// SPDX-License-Identifier: BSD-2-Clause
/*
 * Which guest frames are private: disjoint half-open ranges, no two of them adjacent. What is in no
 * range is shared. Never by page, never what is mapped.
 *
 *	before   [--]   [----]  [-]  [------]      [--]
 *	private  [--]   [---------------------]    [--]     what overlaps or touches becomes one
 *	                   start            end
 *	shared   [--]   [-]                        [--]     what sticks out stays
 */
#include "mmu/slots/slots.h"

/* ---- questions ---- */

bool attr_find_private(const struct slots *slots, tpt_gfn gfn)
{
	tpt_gfn start, end;

	return interval_at(&slots->attributes, gfn, &start, &end);
}

bool attr_uniform(const struct slots *slots, tpt_gfn start, tpt_gfn end, bool *private_)
{
	tpt_gfn run_start, run_end;

	*private_ = interval_at(&slots->attributes, start, &run_start, &run_end);
	return run_end >= end;
}

bool attr_next_change(const struct slots *slots, tpt_gfn start, tpt_gfn end, bool private_,
		      struct tpt_gfn_range *range)
{
	tpt_gfn run_start, run_end;

	if (start >= end)
		return false;
	if (!!interval_at(&slots->attributes, start, &run_start, &run_end) == private_) {
		if (run_end >= end)
			return false;
		/* No two ranges touch: behind a run is one of the other kind. */
		start = run_end;
		interval_at(&slots->attributes, start, &run_start, &run_end);
	}
	*range = (struct tpt_gfn_range){.start = start, .end = run_end < end ? run_end : end};
	return true;
}

int attr_check(const struct slots *slots, tpt_gfn start, tpt_gfn end)
{
	tpt_gfn limit = 1ull << (slots->gpa_bits - TPT_PAGE_SHIFT);
	const char *rule;

	if (!slots->private_memory)
		rule = "the VM has no private memory";
	else if (start >= end)
		rule = "the range is empty";
	else if (end > limit)
		rule = "the end is beyond the guest-physical width, shared bit excluded";
	else
		return 0;
	vm_log(slots->base, TPT_LOG_WARNING, "attributes of gfn %#lx .. %#lx: %s", start, end,
	       rule);
	return -ERR_INVAL;
}

/* ---- changes ---- */

static struct tpt_interval *range_alloc(struct slots *slots)
{
	return mem_alloc(slots->base, sizeof(struct tpt_interval));
}

/* NULL is allowed. */
static void range_free(struct slots *slots, struct tpt_interval *n)
{
	if (n)
		mem_free(slots->base, n, sizeof(*n));
}

/* Takes out the first range that overlaps [start, end). NULL: there is none. */
static struct tpt_interval *take(struct slots *slots, tpt_gfn start, tpt_gfn end)
{
	struct tpt_interval *n = interval_first(&slots->attributes, start, end);

	if (n)
		interval_remove(&slots->attributes, n);
	return n;
}

static void put(struct slots *slots, struct tpt_interval *n, tpt_gfn start, tpt_gfn end)
{
	interval_insert(&slots->attributes, n, start, end, 0);
}

static int set_private(struct slots *slots, tpt_gfn start, tpt_gfn end)
{
	struct tpt_interval *n, *whole = NULL;

	/* A page more on both sides: what touches is swallowed too. The last becomes the whole. */
	while ((n = take(slots, start ? start - 1 : 0, end + 1))) {
		start = n->start < start ? n->start : start;
		end = n->end > end ? n->end : end;
		range_free(slots, whole);
		whole = n;
	}
	if (!whole)
		whole = range_alloc(slots);
	if (!whole)
		return -ERR_NOMEM;
	put(slots, whole, start, end);
	return 0;
}

static int set_shared(struct slots *slots, tpt_gfn start, tpt_gfn end)
{
	struct tpt_interval *n = interval_first(&slots->attributes, start, end), *spare = NULL;

	/* Only a range that sticks out on both sides becomes two. */
	if (n->start < start && n->end > end) {
		spare = range_alloc(slots);
		if (!spare)
			return -ERR_NOMEM;
	}
	while ((n = take(slots, start, end))) {
		tpt_gfn low = n->start, high = n->end;

		if (low < start) {
			put(slots, n, low, start);
			n = spare;
		}
		if (high > end) {
			put(slots, n, end, high);
			n = NULL;
		}
		range_free(slots, n);
	}
	return 0;
}

int attr_set(struct slots *slots, tpt_gfn start, tpt_gfn end, bool private_)
{
	struct tpt_gfn_range change;

	if (!attr_next_change(slots, start, end, private_, &change))
		return 0;
	return private_ ? set_private(slots, start, end) : set_shared(slots, start, end);
}

void attr_destroy(struct slots *slots)
{
	struct tpt_interval *n;

	while ((n = take(slots, 0, UINT64_MAX)))
		range_free(slots, n);
}

const char *attr_audit(const struct slots *slots)
{
	const struct interval_tree *tree = &slots->attributes;
	const char *wrong = interval_audit(tree);
	const struct tpt_interval *n, *before = NULL;
	struct interval_key from = {0, 0};

	while (!wrong && (n = interval_from(tree, from, 0, UINT64_MAX))) {
		if (before && n->start <= before->end)
			wrong = "attributes: private ranges overlap or touch";
		from = interval_behind(n);
		before = n;
	}
	return wrong;
}
