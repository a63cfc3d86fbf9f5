// SPDX-License-Identifier: BSD-2-Clause
/*
 * Intervals as an AVL tree, each node of which knows the highest end below it. Never asks whose
 *they are.
 *
 *	            [4, 9) ..12               an interval, and the highest end in the tree under it
 *	           /           \
 *	   [1, 12) ..12      [5, 7) ..8       a search goes left if anything there ends high enough:
 *	                           \          either it overlaps, or it starts too high, and then so
 *	                         [6, 8) ..8   does all that lies to the right
 *
 * Nothing recurses but the audit, which is bounded too. A path is as long as the tree is high, at
 * most 1.44 times the logarithm of the number of nodes: 64 bytes each, they would fill 2^56 bytes
 * before there were INTERVAL_HEIGHT.
 */
#include "mmu/base/base.h"
#include "mmu/slots/interval.h"

#define INTERVAL_HEIGHT 72

static uint32_t height(const struct tpt_interval *n)
{
	return n ? n->height : 0;
}

static uint64_t highest(const struct tpt_interval *n)
{
	return n ? n->highest : 0;
}

static uint64_t higher(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Does the node stand before @key in the order? */
static bool is_before(const struct tpt_interval *n, struct interval_key key)
{
	return n->start != key.start ? n->start < key.start : n->order < key.order;
}

/* ---- shape ---- */

/* What a node knows of those below it, from them. */
static struct tpt_interval *renew(struct tpt_interval *n)
{
	const struct tpt_interval *low = n->child[0], *high = n->child[1];

	n->height = 1 + (uint32_t)higher(height(low), height(high));
	n->highest = higher(n->end, higher(highest(low), highest(high)));
	return n;
}

/* The child on @side comes up, @n goes down on the other side. */
static struct tpt_interval *rotate(struct tpt_interval *n, int side)
{
	struct tpt_interval *up = n->child[side];

	n->child[side] = up->child[!side];
	up->child[!side] = renew(n);
	return renew(up);
}

/* Balances @n, whose subtrees are balanced and differ in height by at most 2. */
static struct tpt_interval *balance(struct tpt_interval *n)
{
	int side = height(n->child[1]) > height(n->child[0]);
	struct tpt_interval *tall = n->child[side];

	if (!tall || height(tall) <= height(n->child[!side]) + 1)
		return renew(n);
	if (height(tall->child[!side]) > height(tall->child[side]))
		n->child[side] = rotate(tall, !side);
	return rotate(n, side);
}

/* The links from the root to where something changes. */
struct path {
	struct tpt_interval **link[INTERVAL_HEIGHT];
	unsigned int nr;
};

static struct tpt_interval **path_begin(struct path *path, struct interval_tree *tree)
{
	path->nr = 0;
	return &tree->root;
}

/* Goes from @link to the child on @side. */
static struct tpt_interval **go(struct path *path, struct tpt_interval **link, int side)
{
	SLOTS_STEP();
	path->link[path->nr++] = link;
	return &(*link)->child[side];
}

/* Balances from below, as far up as anything changes; the first @all steps in any case. */
static void rebalance(struct path *path, unsigned int all)
{
	unsigned int nr = path->nr;

	while (nr--) {
		struct tpt_interval **link = path->link[nr];
		uint32_t old_height = (*link)->height;
		uint64_t old_highest = (*link)->highest;

		*link = balance(*link);
		if (path->nr - nr >= all && (*link)->height == old_height &&
		    (*link)->highest == old_highest)
			return;
	}
}

void interval_insert(struct interval_tree *tree, struct tpt_interval *node, uint64_t start,
		     uint64_t end, uint64_t order)
{
	struct tpt_interval **link;
	struct path path;

	*node = (struct tpt_interval){
		.start = start, .end = end, .order = order, .highest = end, .height = 1};
	/* Mostly there is no other. */
	if (!tree->nr++) {
		tree->root = node;
		return;
	}
	link = path_begin(&path, tree);
	while (*link)
		link = go(&path, link, is_before(*link, (struct interval_key){start, order}));
	*link = node;
	rebalance(&path, 0);
}

/* Takes the node at @link out, which has two children: the next in order takes its place. */
static void replace(struct path *path, struct tpt_interval **link)
{
	struct tpt_interval *node = *link, *next;
	unsigned int at = path->nr + 1;
	struct tpt_interval **below = go(path, link, 1);

	while ((*below)->child[0])
		below = go(path, below, 0);
	next = *below;
	*below = next->child[1];
	next->child[0] = node->child[0];
	next->child[1] = node->child[1];
	next->height = node->height;
	next->highest = node->highest;
	*link = next;
	/* The first step down led through the node. */
	if (path->nr > at)
		path->link[at] = &next->child[1];
}

bool interval_remove(struct interval_tree *tree, struct tpt_interval *node)
{
	struct tpt_interval **link;
	unsigned int steps;
	struct path path;

	if (tree->nr == 1 && tree->root == node) {
		*tree = (struct interval_tree){NULL, 0};
		return true;
	}
	link = path_begin(&path, tree);
	while (*link && *link != node)
		link = go(&path, link,
			  is_before(*link, (struct interval_key){node->start, node->order}));
	if (!*link)
		return false;
	tree->nr--;
	steps = path.nr;
	if (node->child[0] && node->child[1])
		replace(&path, link);
	else
		*link = node->child[!node->child[0]];
	rebalance(&path, path.nr - steps);
	return true;
}

/* ---- questions ---- */

static struct tpt_interval *first(struct tpt_interval *n, uint64_t start, uint64_t end)
{
	while (n) {
		SLOTS_STEP();
		if (highest(n->child[0]) > start)
			n = n->child[0];
		else if (n->start >= end)
			return NULL;
		else if (n->end > start)
			return n;
		else
			n = n->child[1];
	}
	return NULL;
}

struct tpt_interval *interval_first(const struct interval_tree *tree, uint64_t start, uint64_t end)
{
	return first(tree->root, start, end);
}

struct tpt_interval *interval_from(const struct interval_tree *tree, struct interval_key from,
				   uint64_t start, uint64_t end)
{
	/* The lowest on the way that is not before @from and has something to show. */
	struct tpt_interval *n = tree->root, *found = NULL;

	while (n && n->highest > start) {
		SLOTS_STEP();
		if (is_before(n, from)) {
			n = n->child[1];
			continue;
		}
		if (n->start < end && (n->end > start || highest(n->child[1]) > start))
			found = n;
		n = n->child[0];
	}
	return found && found->end <= start ? first(found->child[1], start, end) : found;
}

/* ---- audit ---- */

/* Nodes counted so far, the last of them, and the first thing that is wrong. */
struct audit {
	uint64_t nr;
	const struct tpt_interval *last;
	const char *wrong;
};

static const char *audit_node(const struct audit *a, const struct tpt_interval *n)
{
	uint32_t low = height(n->child[0]), high = height(n->child[1]);

	if (n->height != 1 + higher(low, high))
		return "intervals: wrong height";
	if (low > high + 1 || high > low + 1)
		return "intervals: out of balance";
	if (n->highest != higher(n->end, higher(highest(n->child[0]), highest(n->child[1]))))
		return "intervals: wrong highest end";
	if (n->start >= n->end)
		return "intervals: one is empty";
	if (a->last && !is_before(a->last, (struct interval_key){n->start, n->order}))
		return "intervals: out of order";
	return NULL;
}

static void audit_tree(struct audit *a, const struct tpt_interval *n, uint32_t limit)
{
	if (!n || a->wrong)
		return;
	/* No child is as high as its parent, so this ends whatever the pointers say. */
	if (n->height - 1 >= limit) {
		a->wrong = "intervals: a subtree is higher than its parent allows";
		return;
	}
	audit_tree(a, n->child[0], n->height - 1);
	if (a->wrong)
		return;
	a->wrong = audit_node(a, n);
	a->nr++;
	a->last = n;
	audit_tree(a, n->child[1], n->height - 1);
}

const char *interval_audit(const struct interval_tree *tree)
{
	struct audit a = {.nr = 0};

	audit_tree(&a, tree->root, INTERVAL_HEIGHT);
	if (!a.wrong && a.nr != tree->nr)
		a.wrong = "intervals: wrong count";
	return a.wrong;
}
