/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Half-open intervals in order, found by what they overlap, in O(log n). Knows nothing of what they
 * are intervals of, and never allocates: a node lies in what its owner put into the tree.
 *
 * The order is by start, and by a number of the owner's where starts are the same; the two together
 * are a node's key, which no other node of the tree has. It says where a long work is that gives
 * way: nodes may come and go meanwhile.
 */
#ifndef MMU_INTERVAL_H
#define MMU_INTERVAL_H

#include <triptych/memslot.h>

/* What a test counts: a search in this room goes one step on. */
#ifndef SLOTS_STEP
#define SLOTS_STEP() ((void)0)
#endif

struct interval_tree {
	struct tpt_interval *root;
	uint64_t nr;
};

struct interval_key {
	uint64_t start, order;
};

/* The key behind a node's: where to go on. */
static inline struct interval_key interval_behind(const struct tpt_interval *n)
{
	return (struct interval_key){n->start, n->order + 1};
}

/* Puts a node in, whatever it holds. start < end; nobody else has the key. */
void interval_insert(struct interval_tree *tree, struct tpt_interval *node, uint64_t start,
		     uint64_t end, uint64_t order);
/* Takes a node out. False, and nothing changed: it is not in the tree. */
bool interval_remove(struct interval_tree *tree, struct tpt_interval *node);

/* The first in order that overlaps [start, end), or NULL. */
struct tpt_interval *interval_first(const struct interval_tree *tree, uint64_t start, uint64_t end);
/* The same of those whose key is @from or later. */
struct tpt_interval *interval_from(const struct interval_tree *tree, struct interval_key from,
				   uint64_t start, uint64_t end);

/*
 * The one that holds @point, of a tree in which no two overlap, and [*start, *end) is it. NULL:
 * then that is the gap that @point is in, from 0 if there is nothing before and to UINT64_MAX if
 * there is nothing behind.
 */
static inline struct tpt_interval *interval_at(const struct interval_tree *tree, uint64_t point,
					       uint64_t *start, uint64_t *end)
{
	struct tpt_interval *n = tree->root;

	*start = 0;
	*end = UINT64_MAX;
	while (n) {
		SLOTS_STEP();
		if (point < n->start) {
			*end = n->start;
			n = n->child[0];
		} else if (point >= n->end) {
			*start = n->end;
			n = n->child[1];
		} else {
			*start = n->start;
			*end = n->end;
			break;
		}
	}
	return n;
}

/* What is wrong with shape, order, ends and count? NULL: nothing. O(n). */
const char *interval_audit(const struct interval_tree *tree);

#endif
