// SPDX-License-Identifier: BSD-2-Clause
/*
 * Which guest frames are private: a balanced (AVL) tree of disjoint half-open ranges, ordered by
 * start, no two of them adjacent. What is in no range is shared. Never by page, never what is
 * mapped.
 *
 * A change cuts the tree in three at the ends of the new range, throws the middle away and joins
 * the rest around what takes its place:
 *
 *	before   [--]   [----]  [-]  [------]      [--]
 *	set             |  start          end |
 *	left     [--]   [----]                          its last may reach into the range
 *	middle                  [-]  [------]           swallowed; its last may reach out of it
 *	right                                      [--]
 *
 * Join and split go down one path, so their recursion is as deep as the tree is high: at most 1.44
 * times the logarithm of 2^39 ranges, 57.
 */
#include "mmu/slots/slots.h"

struct attr_node {
	struct attr_node *child[2]; /* lower, higher */
	tpt_gfn start, end;
	uint32_t height; /* of the subtree: 1 without children */
};

/* ---- the tree ---- */

static uint32_t height(const struct attr_node *n)
{
	return n ? n->height : 0;
}

/* Makes @n the root over two trees whose heights differ by at most 1. */
static struct attr_node *node_over(struct attr_node *low, struct attr_node *n,
				   struct attr_node *high)
{
	n->child[0] = low;
	n->child[1] = high;
	n->height = 1 + (height(low) > height(high) ? height(low) : height(high));
	return n;
}

/* The child on @side comes up, @n goes down on the other side. */
static struct attr_node *rotate(struct attr_node *n, int side)
{
	struct attr_node *up = n->child[side];
	struct attr_node *between = up->child[!side];

	n->child[side] = between;
	node_over(n->child[0], n, n->child[1]);
	up->child[!side] = n;
	return node_over(up->child[0], up, up->child[1]);
}

/* Balances @n, whose subtrees are balanced and differ in height by at most 2. */
static struct attr_node *balance(struct attr_node *n)
{
	int side = height(n->child[1]) > height(n->child[0]);
	struct attr_node *tall = n->child[side];

	if (!tall || height(tall) <= height(n->child[!side]) + 1)
		return node_over(n->child[0], n, n->child[1]);
	if (height(tall->child[!side]) > height(tall->child[side]))
		n->child[side] = rotate(tall, !side);
	return rotate(n, side);
}

/* One tree of all of @low, then @n, then all of @high. O(difference of the heights). */
static struct attr_node *join(struct attr_node *low, struct attr_node *n, struct attr_node *high)
{
	if (low && height(low) > height(high) + 1) {
		low->child[1] = join(low->child[1], n, high);
		return balance(low);
	}
	if (high && height(high) > height(low) + 1) {
		high->child[0] = join(low, n, high->child[0]);
		return balance(high);
	}
	return node_over(low, n, high);
}

/* Cuts @n in two: ranges that start below @gfn, and the others. O(log n). */
static void split(struct attr_node *n, tpt_gfn gfn, struct attr_node **low, struct attr_node **high)
{
	struct attr_node *middle;

	if (!n) {
		*low = *high = NULL;
	} else if (n->start < gfn) {
		split(n->child[1], gfn, &middle, high);
		*low = join(n->child[0], n, middle);
	} else {
		split(n->child[0], gfn, low, &middle);
		*high = join(middle, n, n->child[1]);
	}
}

/* Takes the last range out of a tree that has one. Returns the rest. */
static struct attr_node *take_last(struct attr_node *n, struct attr_node **last)
{
	if (!n->child[1]) {
		*last = n;
		return n->child[0];
	}
	n->child[1] = take_last(n->child[1], last);
	return balance(n);
}

static struct attr_node *join_two(struct attr_node *low, struct attr_node *high)
{
	struct attr_node *last;

	if (!low)
		return high;
	low = take_last(low, &last);
	return join(low, last, high);
}

/* The last range of a tree, or NULL. */
static struct attr_node *last_of(struct attr_node *n)
{
	while (n && n->child[1])
		n = n->child[1];
	return n;
}

/* The first range that ends above @gfn, or NULL. */
static struct attr_node *first_above(struct attr_node *n, tpt_gfn gfn)
{
	struct attr_node *found = NULL;

	while (n) {
		if (n->end > gfn) {
			found = n;
			n = n->child[0];
		} else {
			n = n->child[1];
		}
	}
	return found;
}

static struct attr_node *node_alloc(struct slots *slots, tpt_gfn start, tpt_gfn end)
{
	struct attr_node *n = mem_alloc(slots->base, sizeof(*n));

	if (!n)
		return NULL;
	n->start = start;
	n->end = end;
	slots->nr_private_ranges++;
	return n;
}

/* Frees a whole tree, in its order and without a stack: whatever has a lower child lets it up. */
static void tree_free(struct slots *slots, struct attr_node *n)
{
	while (n) {
		struct attr_node *next = n->child[0];

		if (next) {
			n->child[0] = next->child[1];
			next->child[1] = n;
		} else {
			next = n->child[1];
			slots->nr_private_ranges--;
			mem_free(slots->base, n, sizeof(*n));
		}
		n = next;
	}
}

/* ---- questions ---- */

bool attr_find_private(const struct slots *slots, tpt_gfn gfn)
{
	const struct attr_node *n = first_above(slots->attributes, gfn);

	return n && n->start <= gfn;
}

bool attr_uniform(const struct slots *slots, tpt_gfn start, tpt_gfn end, bool *private_)
{
	const struct attr_node *n = first_above(slots->attributes, start);

	*private_ = n && n->start <= start;
	return *private_ ? n->end >= end : !n || n->start >= end;
}

bool attr_next_change(const struct slots *slots, tpt_gfn start, tpt_gfn end, bool private_,
		      struct tpt_gfn_range *range)
{
	const struct attr_node *n = first_above(slots->attributes, start);
	tpt_gfn first = start, last = end;

	if (private_) {
		/* No two ranges are adjacent: behind one there is a gap. */
		if (n && n->start <= start) {
			first = n->end;
			n = first_above(slots->attributes, first);
		}
		if (n && n->start < last)
			last = n->start;
	} else {
		if (!n)
			return false;
		if (n->start > first)
			first = n->start;
		if (n->end < last)
			last = n->end;
	}
	if (first >= last)
		return false;
	*range = (struct tpt_gfn_range){.start = first, .end = last};
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

static int set_private(struct slots *slots, tpt_gfn start, tpt_gfn end)
{
	/* The first range that overlaps or touches is stretched; without one there is a new one. */
	struct attr_node *n = first_above(slots->attributes, start ? start - 1 : 0);
	struct attr_node *low, *middle, *high, *last;

	if (n && n->start <= end) {
		start = n->start < start ? n->start : start;
		end = n->end > end ? n->end : end;
		split(slots->attributes, n->start, &low, &middle);
		split(middle, n->start + 1, &n, &middle);
	} else {
		n = node_alloc(slots, start, end);
		if (!n)
			return -ERR_NOMEM;
		split(slots->attributes, start, &low, &middle);
	}
	split(middle, end + 1, &middle, &high);
	last = last_of(middle);
	if (last && last->end > end)
		end = last->end;
	tree_free(slots, middle);

	n->start = start;
	n->end = end;
	slots->attributes = join(low, n, high);
	return 0;
}

static int set_shared(struct slots *slots, tpt_gfn start, tpt_gfn end)
{
	struct attr_node *n = first_above(slots->attributes, start);
	struct attr_node *low, *middle, *high, *last, *rest = NULL;

	/* Only a range that sticks out on both sides becomes two. */
	if (n->start < start && n->end > end) {
		rest = node_alloc(slots, end, n->end);
		if (!rest)
			return -ERR_NOMEM;
	}
	split(slots->attributes, start, &low, &middle);
	split(middle, end, &middle, &high);
	if (n->start < start)
		n->end = start;

	last = last_of(middle);
	if (last && last->end > end) {
		middle = take_last(middle, &rest);
		rest->start = end;
	}
	tree_free(slots, middle);
	slots->attributes = rest ? join(low, rest, high) : join_two(low, high);
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
	tree_free(slots, slots->attributes);
	slots->attributes = NULL;
}

/* Ranges counted so far, the end of the last of them, and the first thing that is wrong. */
struct audit {
	uint64_t nr;
	tpt_gfn end;
	const char *wrong;
};

static void audit_tree(struct audit *a, const struct attr_node *n, uint32_t limit)
{
	uint32_t low, high;

	if (!n || a->wrong)
		return;
	/* No child is as high as its parent, so this ends whatever the pointers say. */
	if (n->height > limit) {
		a->wrong = "attributes: a subtree is higher than its parent allows";
		return;
	}
	low = height(n->child[0]);
	high = height(n->child[1]);
	audit_tree(a, n->child[0], n->height - 1);
	if (!a->wrong && n->height != 1 + (low > high ? low : high))
		a->wrong = "attributes: wrong height";
	if (!a->wrong && (low > high + 1 || high > low + 1))
		a->wrong = "attributes: out of balance";
	if (!a->wrong && (n->start >= n->end || (a->nr && n->start <= a->end)))
		a->wrong = "attributes: ranges are empty, out of order, or touch";
	a->nr++;
	a->end = n->end;
	audit_tree(a, n->child[1], n->height - 1);
}

const char *attr_audit(const struct slots *slots)
{
	struct audit a = {.nr = 0};

	audit_tree(&a, slots->attributes, height(slots->attributes));
	if (!a.wrong && a.nr != slots->nr_private_ranges)
		a.wrong = "attributes: wrong count of private ranges";
	return a.wrong;
}
