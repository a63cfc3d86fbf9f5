// SPDX-License-Identifier: BSD-2-Clause
/* Intervals in order: held equal to a plain array of them. */
#include "tests/slots/fake_platform.h"

#define NODES 200
#define LIMIT 1000

/* Nodes and, beside the tree, which of them are in it. */
struct plain {
	struct interval_tree tree;
	struct tpt_interval node[NODES];
	struct {
		bool in;
		uint64_t start, end, order;
	} of[NODES];
};

static void put(struct plain *p, unsigned int i, uint64_t start, uint64_t end, uint64_t order)
{
	p->of[i].in = true;
	p->of[i].start = start;
	p->of[i].end = end;
	p->of[i].order = order;
	interval_insert(&p->tree, &p->node[i], start, end, order);
}

static void take(struct plain *p, unsigned int i)
{
	p->of[i].in = false;
	assert_true(interval_remove(&p->tree, &p->node[i]));
}

/* The lowest in order from @from on that overlaps [start, end), by looking at all. */
static struct tpt_interval *brute_from(struct plain *p, struct interval_key from, uint64_t start,
				       uint64_t end)
{
	int best = -1;

	for (int i = 0; i < NODES; i++) {
		if (!p->of[i].in || p->of[i].start >= end || p->of[i].end <= start)
			continue;
		if (p->of[i].start < from.start ||
		    (p->of[i].start == from.start && p->of[i].order < from.order))
			continue;
		if (best < 0 || p->of[i].start < p->of[best].start ||
		    (p->of[i].start == p->of[best].start && p->of[i].order < p->of[best].order))
			best = i;
	}
	return best < 0 ? NULL : &p->node[best];
}

static void assert_sound(const struct plain *p)
{
	const char *wrong = interval_audit(&p->tree);
	uint64_t nr = 0;

	if (wrong)
		fail_msg("%s", wrong);
	for (unsigned int i = 0; i < NODES; i++)
		nr += p->of[i].in;
	assert_int_equal(p->tree.nr, nr);
}

static void an_empty_tree_has_nothing(void **state)
{
	struct interval_tree tree = {NULL, 0};
	struct tpt_interval stranger = {.start = 1, .end = 2};
	uint64_t start, end;

	(void)state;
	assert_null(interval_first(&tree, 0, UINT64_MAX));
	assert_null(interval_from(&tree, (struct interval_key){0, 0}, 0, UINT64_MAX));
	assert_null(interval_at(&tree, 5, &start, &end));
	assert_true(start == 0 && end == UINT64_MAX);
	assert_false(interval_remove(&tree, &stranger));
	assert_null(interval_audit(&tree));
}

static void what_is_not_in_a_tree_cannot_be_taken_out(void **state)
{
	struct plain *p = *state;
	struct tpt_interval stranger = {.start = 10, .end = 20};

	put(p, 0, 10, 20, 0);
	assert_false(interval_remove(&p->tree, &stranger));
	put(p, 1, 5, 6, 0);
	put(p, 2, 30, 31, 0);
	assert_false(interval_remove(&p->tree, &stranger));
	assert_sound(p);
	take(p, 0);
	assert_false(interval_remove(&p->tree, &p->node[0]));
	assert_sound(p);
}

static void the_same_interval_can_be_there_many_times(void **state)
{
	struct plain *p = *state;
	struct interval_key from = {0, 0};

	/* In an order that is not that of their numbers. */
	for (unsigned int i = 0; i < NODES; i++)
		put(p, i, 10, 20, i * 7 % NODES);
	assert_sound(p);
	for (unsigned int i = 0; i < NODES; i++) {
		const struct tpt_interval *n = interval_from(&p->tree, from, 19, 25);

		assert_int_equal(n->order, i);
		from = interval_behind(n);
	}
	assert_null(interval_from(&p->tree, from, 19, 25));
	for (unsigned int i = 0; i < NODES; i++) {
		take(p, i * 3 % NODES);
		assert_sound(p);
	}
}

static void a_long_one_is_found_behind_many_short_ones(void **state)
{
	struct plain *p = *state;

	put(p, 0, 0, LIMIT, 0);
	for (unsigned int i = 1; i < NODES; i++)
		put(p, i, i, i + 1, 0);
	assert_ptr_equal(interval_first(&p->tree, 900, 901), &p->node[0]);
	assert_null(interval_from(&p->tree, (struct interval_key){1, 0}, 900, 901));
	take(p, 0);
	assert_null(interval_first(&p->tree, 900, 901));
}

static void random_changes_agree_with_a_plain_array(void **state)
{
	struct plain *p = *state;
	struct rng rng = rng_create("intervals");
	unsigned int most = 0, found[2] = {0};

	for (int step = 0; step < 40000; step++) {
		unsigned int i = (unsigned int)rng_below(&rng, NODES);
		/* Phases in which the tree grows, and in which it shrinks. */
		bool grow = rng_below(&rng, 8) ? step / 3000 % 2 == 0 : step / 3000 % 2;
		uint64_t start = rng_below(&rng, LIMIT);
		uint64_t end = start + 1 + rng_below(&rng, rng_below(&rng, 8) ? 10 : LIMIT);
		struct interval_key from = {rng_below(&rng, LIMIT), rng_below(&rng, NODES)};

		if (p->of[i].in && !grow)
			take(p, i);
		else if (!p->of[i].in && grow)
			put(p, i, start, end, i);
		assert_sound(p);
		most = p->tree.nr > most ? (unsigned int)p->tree.nr : most;

		start = rng_below(&rng, LIMIT);
		end = start + 1 + rng_below(&rng, 30);
		if (rng_below(&rng, 2))
			from = (struct interval_key){p->of[i].start, p->of[i].order + step % 2};
		assert_ptr_equal(interval_first(&p->tree, start, end),
				 brute_from(p, (struct interval_key){0, 0}, start, end));
		assert_ptr_equal(interval_from(&p->tree, from, start, end),
				 brute_from(p, from, start, end));
		found[interval_from(&p->tree, from, start, end) != NULL]++;
	}
	assert_true(most > NODES * 3 / 4);
	assert_true(found[0] > 1000 && found[1] > 1000);
}

static void gaps_and_intervals_are_found_by_a_point(void **state)
{
	struct plain *p = *state;
	struct rng rng = rng_create("points");

	for (int round = 0; round < 100; round++) {
		uint64_t at = 0, before = 0, start, end;
		unsigned int nr = 0;
		int of[LIMIT];

		/* Some touch, some don't. */
		for (at = rng_below(&rng, 3); nr < NODES; nr++) {
			uint64_t last = at + 1 + rng_below(&rng, 5);

			if (last > LIMIT - 10)
				break;
			put(p, nr, at, last, 0);
			at = last + (rng_below(&rng, 2) ? rng_below(&rng, 4) : 0);
		}
		for (uint64_t point = 0; point < LIMIT; point++) {
			of[point] = -1;
			for (unsigned int i = 0; i < nr; i++)
				if (point >= p->of[i].start && point < p->of[i].end)
					of[point] = (int)i;
		}
		for (uint64_t point = 0; point < LIMIT; point++) {
			struct tpt_interval *n = interval_at(&p->tree, point, &start, &end);

			assert_ptr_equal(n, of[point] < 0 ? NULL : &p->node[of[point]]);
			if (!point || of[point] != of[point - 1])
				before = point;
			assert_int_equal(start, before);
			if (end < LIMIT)
				assert_int_not_equal(of[end], of[point]);
			else
				assert_int_equal(end, UINT64_MAX);
			assert_int_equal(of[point], of[end < LIMIT ? end - 1 : LIMIT - 1]);
		}
		while (nr--)
			take(p, nr);
		assert_sound(p);
	}
}

static void an_audit_sees_what_is_wrong(void **state)
{
	struct plain *p = *state;
	struct tpt_interval *root;
	uint32_t height;

	for (unsigned int i = 0; i < 20; i++)
		put(p, i, 10 * i, 10 * i + 5, 0);
	root = p->tree.root;
	height = root->height;
	root->highest++;
	assert_string_equal(interval_audit(&p->tree), "intervals: wrong highest end");
	root->highest--;
	root->height++;
	assert_string_equal(interval_audit(&p->tree), "intervals: wrong height");
	root->height = 0;
	assert_string_equal(interval_audit(&p->tree),
			    "intervals: a subtree is higher than its parent allows");
	root->height = height;
	/* A tree that bites its tail. */
	root->child[0]->child[0]->child[0] = root;
	assert_string_equal(interval_audit(&p->tree),
			    "intervals: a subtree is higher than its parent allows");
	root->child[0]->child[0]->child[0] = NULL;
	assert_non_null(interval_audit(&p->tree));
}

static void an_audit_sees_order_and_count(void **state)
{
	struct plain *p = *state;
	struct tpt_interval *root;

	for (unsigned int i = 0; i < 3; i++)
		put(p, i, 10 * i, 10 * i + 5, 0);
	root = p->tree.root;
	p->tree.nr++;
	assert_string_equal(interval_audit(&p->tree), "intervals: wrong count");
	p->tree.nr--;
	/* The key of another. */
	root->start = 0;
	assert_string_equal(interval_audit(&p->tree), "intervals: out of order");
	root->start = 15;
	assert_string_equal(interval_audit(&p->tree), "intervals: one is empty");
	root->start = 10;
	assert_null(interval_audit(&p->tree));
}

static int setup(void **state)
{
	*state = calloc(1, sizeof(struct plain));
	assert_non_null(*state);
	return 0;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

#define plain_test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_tree_has_nothing),
		plain_test(what_is_not_in_a_tree_cannot_be_taken_out),
		plain_test(the_same_interval_can_be_there_many_times),
		plain_test(a_long_one_is_found_behind_many_short_ones),
		plain_test(random_changes_agree_with_a_plain_array),
		plain_test(gaps_and_intervals_are_found_by_a_point),
		plain_test(an_audit_sees_what_is_wrong),
		plain_test(an_audit_sees_order_and_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
