// SPDX-License-Identifier: BSD-2-Clause
/* Private and shared by ranges: held equal to one bit a page. */
#include "tests/slots/fake_platform.h"

static void set(struct world *w, tpt_gfn start, tpt_gfn end, bool private_)
{
	const char *wrong;

	assert_int_equal(attr_set(&w->slots, start, end, private_), 0);
	wrong = attr_audit(&w->slots);
	if (wrong)
		fail_msg("%s", wrong);
}

/* The private ranges, in order, are these. */
static void assert_ranges(struct world *w, const struct tpt_gfn_range *expected, size_t nr)
{
	struct tpt_gfn_range range = {0, 0};

	assert_int_equal(w->slots.attributes.nr, nr);
	for (size_t i = 0; i < nr; i++) {
		assert_true(attr_next_change(&w->slots, range.end, 1ull << 34, false, &range));
		assert_int_equal(range.start, expected[i].start);
		assert_int_equal(range.end, expected[i].end);
	}
	assert_false(attr_next_change(&w->slots, range.end, 1ull << 34, false, &range));
}

#define assert_private(w, ...)                                        \
	assert_ranges(w, (struct tpt_gfn_range[]){__VA_ARGS__},       \
		      sizeof((struct tpt_gfn_range[]){__VA_ARGS__}) / \
			      sizeof(struct tpt_gfn_range))

static void everything_is_shared_at_first(void **state)
{
	struct world *w = *state;
	bool private_ = true;

	assert_false(attr_is_private(&w->slots, 0));
	assert_true(attr_uniform(&w->slots, 0, 1ull << 34, &private_));
	assert_false(private_);
	assert_ranges(w, NULL, 0);
}

static void a_range_is_private_from_its_first_to_its_last_page(void **state)
{
	struct world *w = *state;

	set(w, 100, 200, true);
	assert_false(attr_is_private(&w->slots, 99));
	assert_true(attr_is_private(&w->slots, 100));
	assert_true(attr_is_private(&w->slots, 199));
	assert_false(attr_is_private(&w->slots, 200));
}

static void touching_and_overlapping_ranges_become_one(void **state)
{
	struct world *w = *state;

	set(w, 100, 200, true);
	set(w, 200, 300, true);
	assert_private(w, {100, 300});
	set(w, 50, 100, true);
	assert_private(w, {50, 300});
	set(w, 400, 500, true);
	set(w, 250, 450, true);
	assert_private(w, {50, 500});
	set(w, 0, 20, true);
	set(w, 600, 700, true);
	assert_private(w, {0, 20}, {50, 500}, {600, 700});
	set(w, 20, 600, true);
	assert_private(w, {0, 700});
}

static void a_hole_makes_two_ranges_of_one(void **state)
{
	struct world *w = *state;

	set(w, 100, 200, true);
	set(w, 120, 130, false);
	assert_private(w, {100, 120}, {130, 200});
	set(w, 100, 110, false);
	set(w, 190, 200, false);
	assert_private(w, {110, 120}, {130, 190});
	set(w, 115, 140, false);
	assert_private(w, {110, 115}, {140, 190});
	set(w, 0, 1000, false);
	assert_ranges(w, NULL, 0);
}

/* A16: the ranges of private_mem_conversions_test. */
static void A16_the_conversions_of_kvms_selftest_leave_the_ranges_they_should(void **state)
{
	/* Offset and size of each conversion in 4 KiB pages: {0,4K} {0,2M} {4K,4K} {4K,2M} {2M,4K}.
	 */
	static const struct tpt_gfn_range conversions[] = {
		{0, 1}, {0, 512}, {1, 2}, {1, 513}, {512, 513}};
	struct world *w = *state;
	tpt_gfn base = 1ull << 20;

	for (size_t i = 0; i < sizeof(conversions) / sizeof(conversions[0]); i++) {
		tpt_gfn start = base + conversions[i].start, end = base + conversions[i].end;

		set(w, start, end, true);
		assert_private(w, {start, end});
		for (tpt_gfn gfn = start; gfn < end; gfn++) {
			if (gfn & 1)
				set(w, gfn, gfn + 1, false);
		}
		for (tpt_gfn gfn = start; gfn < end; gfn++)
			assert_int_equal(attr_is_private(&w->slots, gfn), !(gfn & 1));
		set(w, start, end, false);
		assert_ranges(w, NULL, 0);
	}
}

static void next_change_is_the_first_run_of_the_other_kind(void **state)
{
	struct world *w = *state;
	struct tpt_gfn_range r;

	set(w, 10, 20, true);
	set(w, 30, 40, true);
	assert_true(attr_next_change(&w->slots, 0, 100, true, &r));
	assert_true(r.start == 0 && r.end == 10);
	assert_true(attr_next_change(&w->slots, 15, 100, true, &r));
	assert_true(r.start == 20 && r.end == 30);
	assert_true(attr_next_change(&w->slots, 35, 100, true, &r));
	assert_true(r.start == 40 && r.end == 100);
	assert_false(attr_next_change(&w->slots, 12, 20, true, &r));
	assert_true(attr_next_change(&w->slots, 12, 35, false, &r));
	assert_true(r.start == 12 && r.end == 20);
	assert_true(attr_next_change(&w->slots, 20, 35, false, &r));
	assert_true(r.start == 30 && r.end == 35);
	assert_false(attr_next_change(&w->slots, 20, 30, false, &r));
}

static void setting_what_is_set_already_costs_nothing(void **state)
{
	struct world *w = *state;
	int64_t nr;

	set(w, 10, 20, true);
	nr = w->fake->nr;
	w->fake->fail_at = nr + 1;
	set(w, 12, 18, true);
	set(w, 10, 20, true);
	set(w, 20, 30, false);
	assert_int_equal(w->fake->nr, nr);
}

static void without_memory_nothing_changes(void **state)
{
	struct world *w = *state;
	int64_t live;

	set(w, 10, 20, true);
	live = w->fake->live;
	w->fake->fail_at = w->fake->nr + 1;
	assert_int_equal(attr_set(&w->slots, 30, 40, true), -ERR_NOMEM);
	w->fake->fail_at = w->fake->nr + 1;
	assert_int_equal(attr_set(&w->slots, 12, 15, false), -ERR_NOMEM);
	assert_int_equal(w->fake->live, live);
	assert_private(w, {10, 20});

	/* Stretching, cutting and swallowing need none. */
	w->fake->fail_at = w->fake->nr + 1;
	set(w, 20, 30, true);
	set(w, 8, 10, true);
	set(w, 8, 12, false);
	set(w, 28, 30, false);
	assert_private(w, {12, 28});
	set(w, 0, 100, false);
	assert_int_equal(w->fake->live, live - 1);
}

static void the_range_is_checked(void **state)
{
	struct world *w = *state;
	unsigned int lines = w->fake->lines;

	assert_int_equal(attr_check(&w->slots, 0, 1ull << 34), 0);
	assert_int_equal(w->fake->lines, lines);
	assert_int_equal(attr_check(&w->slots, 5, 5), -ERR_INVAL);
	assert_logged(w->fake, lines, "0x5 .. 0x5: the range is empty");
	assert_int_equal(attr_check(&w->slots, 6, 5), -ERR_INVAL);
	assert_int_equal(attr_check(&w->slots, 0, (1ull << 34) + 1), -ERR_INVAL);
	assert_logged(w->fake, lines, "0x400000001: the end is beyond the guest-physical width");
	assert_int_equal(attr_check(&w->slots, 1, UINT64_MAX), -ERR_INVAL);
	w->slots.private_memory = false;
	assert_int_equal(attr_check(&w->slots, 0, 1), -ERR_INVAL);
	assert_logged(w->fake, lines, "no private memory");
}

static void alternating_pages_stay_balanced_and_are_swallowed_at_once(void **state)
{
	struct world *w = *state;
	const tpt_gfn pages = 1ull << 17;

	for (tpt_gfn gfn = 0; gfn < pages; gfn += 2)
		assert_int_equal(attr_set(&w->slots, gfn, gfn + 1, true), 0);
	assert_int_equal(w->slots.attributes.nr, pages / 2);
	assert_null(attr_audit(&w->slots));
	set(w, 3, pages - 3, false);
	assert_int_equal(w->slots.attributes.nr, 3);
	assert_int_equal(w->fake->live, 3);
}

/* ---- against one bit a page ---- */

#define MODEL_PAGES 600

static void compare_point_and_runs(const struct slots *slots, const bool *model)
{
	uint64_t runs = 0;

	for (tpt_gfn gfn = 0; gfn < MODEL_PAGES; gfn++) {
		assert_int_equal(attr_is_private(slots, gfn), model[gfn]);
		runs += model[gfn] && !(gfn && model[gfn - 1]);
	}
	assert_int_equal(slots->attributes.nr, runs);
}

static void compare_range(const struct slots *slots, const bool *model, tpt_gfn start, tpt_gfn end)
{
	bool uniform = true, private_;
	struct tpt_gfn_range range;

	for (tpt_gfn gfn = start; gfn < end; gfn++)
		uniform &= model[gfn] == model[start];
	assert_int_equal(attr_uniform(slots, start, end, &private_), uniform);
	if (uniform)
		assert_int_equal(private_, model[start]);

	for (int want = 0; want < 2; want++) {
		tpt_gfn first = start, last;

		while (first < end && model[first] == want)
			first++;
		for (last = first; last < end && model[last] != want; last++)
			;
		assert_int_equal(attr_next_change(slots, start, end, want, &range), first < end);
		if (first < end) {
			assert_int_equal(range.start, first);
			assert_int_equal(range.end, last);
		}
	}
}

/* A16: brute force: one bit a page. */
static void A16_random_changes_agree_with_one_bit_a_page(void **state)
{
	struct world *w = *state;
	struct rng rng = rng_create("attributes");
	bool model[MODEL_PAGES] = {false};
	uint64_t most = 0, refused = 0;

	for (int i = 0; i < 30000; i++) {
		/* Phases of small changes (many ranges) and of large ones (many swallowed). */
		uint64_t longest = rng_below(&rng, 50) ? 6 : MODEL_PAGES;
		tpt_gfn start = rng_below(&rng, MODEL_PAGES);
		tpt_gfn end = start + 1 + rng_below(&rng, longest);
		bool private_ = rng_below(&rng, 2);
		int ret;

		end = end > MODEL_PAGES ? MODEL_PAGES : end;
		w->fake->fail_at = rng_below(&rng, 4) ? 0 : w->fake->nr + 1;
		ret = attr_set(&w->slots, start, end, private_);
		w->fake->fail_at = 0;
		if (ret) {
			assert_int_equal(ret, -ERR_NOMEM);
			refused++;
		} else {
			for (tpt_gfn gfn = start; gfn < end; gfn++)
				model[gfn] = private_;
		}
		compare_point_and_runs(&w->slots, model);
		assert_int_equal(w->fake->live, (int64_t)w->slots.attributes.nr);
		if (attr_audit(&w->slots))
			fail_msg("step %d: %s", i, attr_audit(&w->slots));
		if (w->slots.attributes.nr > most)
			most = w->slots.attributes.nr;

		start = rng_below(&rng, MODEL_PAGES);
		end = start + 1 + rng_below(&rng, MODEL_PAGES - start);
		compare_range(&w->slots, model, start, end);
		compare_range(&w->slots, model, start, start + 1 + (end - start) / 64);
	}
	assert_true(most > 50);
	assert_true(refused > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		world_test(everything_is_shared_at_first),
		world_test(a_range_is_private_from_its_first_to_its_last_page),
		world_test(touching_and_overlapping_ranges_become_one),
		world_test(a_hole_makes_two_ranges_of_one),
		world_test(A16_the_conversions_of_kvms_selftest_leave_the_ranges_they_should),
		world_test(next_change_is_the_first_run_of_the_other_kind),
		world_test(setting_what_is_set_already_costs_nothing),
		world_test(without_memory_nothing_changes),
		world_test(the_range_is_checked),
		world_test(alternating_pages_stay_balanced_and_are_swallowed_at_once),
		world_test(A16_random_changes_agree_with_one_bit_a_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
