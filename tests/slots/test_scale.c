// SPDX-License-Identifier: BSD-2-Clause
/*
 * What slots, private ranges and invalidations cost where there are many: counted in steps of the
 * searches, never in time. What searches is compiled into this test, with a counter.
 */
#include <stdint.h>

static uint64_t steps;
#define SLOTS_STEP() (steps++)

/* NOLINTBEGIN(bugprone-suspicious-include) */
#include "mmu/slots/attributes.c"
#include "mmu/slots/interval.c"
#include "mmu/slots/memslot.c"
/* NOLINTEND(bugprone-suspicious-include) */
#include "tests/slots/fake_platform.h"

#define HVA 0x7f0000000000ull

static const uint64_t sizes[] = {1, 1000, 100000};
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

/* Most steps of one way down a balanced tree of @nr: 1.45 times the logarithm, and one for each of
 * its ends. */
static uint64_t way_down(uint64_t nr)
{
	unsigned int bits = 64 - (unsigned int)__builtin_clzll(nr | 1);

	return bits * 145 / 100 + 2;
}

/* The expression takes at most so many ways down, and some where there are many. */
#define assert_ways(nr, ways, expression)                                                          \
	do {                                                                                       \
		uint64_t nr_ = (nr), most_ = (ways)*way_down(nr_);                                 \
		steps = 0;                                                                         \
		(void)(expression);                                                                \
		if (steps > most_ || (most_ && nr_ > 100 && !steps))                               \
			fail_msg("%s: %lu steps of %lu, n = %lu", #expression, steps, most_, nr_); \
	} while (0)

/* Any of @nr. */
static uint64_t any(uint64_t i, uint64_t nr)
{
	return i * 7919 % nr;
}

static void convert(struct world *w, uint64_t nr, tpt_gfn start, tpt_gfn end, bool private_)
{
	struct tpt_gfn_range range;

	assert_ways(nr, 2, attr_next_change(&w->slots, start, end, private_, &range));
	/* The change, and up to three ranges found, two of them taken out, one or two put in. */
	assert_ways(nr, 9, attr_set(&w->slots, start, end, private_));
}

static void a_conversion_costs_a_few_ways_through_the_ranges(void **state)
{
	(void)state;
	for (size_t k = 0; k < SIZES; k++) {
		struct world *w = world_create();
		uint64_t n = sizes[k];
		int64_t live;

		for (uint64_t i = 0; i < n; i++)
			assert_int_equal(attr_set(&w->slots, 8 * i, 8 * i + 4, true), 0);
		live = w->fake->live;
		assert_int_equal(live, n);
		for (uint64_t i = 0; i < 200; i++) {
			tpt_gfn gfn = 8 * any(i, n);
			bool uniform;

			assert_ways(n, 1, attr_is_private(&w->slots, gfn + 4));
			assert_ways(n, 1, attr_uniform(&w->slots, gfn, gfn + 4, &uniform));
			/* A hole and back, a page more and back, a bridge and back. */
			convert(w, n + 1, gfn + 1, gfn + 2, false);
			convert(w, n + 1, gfn + 1, gfn + 2, true);
			convert(w, n + 1, gfn + 4, gfn + 5, true);
			convert(w, n + 1, gfn + 4, gfn + 5, false);
			convert(w, n + 1, gfn + 4, gfn + 8, true);
			convert(w, n + 1, gfn + 4, gfn + 8, false);
			/* Alone between two, and back. */
			convert(w, n + 1, gfn + 5, gfn + 6, true);
			convert(w, n + 1, gfn + 5, gfn + 6, false);
		}
		assert_int_equal(w->fake->live, live);
		assert_null(attr_audit(&w->slots));
		world_destroy(w);
	}
}

static void an_invalidation_costs_a_way_through_those_in_progress(void **state)
{
	(void)state;
	for (size_t k = 0; k < SIZES; k++) {
		struct world *w = world_create();
		uint64_t n = sizes[k];
		struct tpt_invalidation *token = calloc(n, sizeof(*token));
		const struct memslot *slot;
		int64_t nr;

		assert_non_null(token);
		assert_int_equal(slot_set(w, 0, 0, 0, 0, 64 * GIB, HVA), 0);
		slot = slot_by_id(&w->slots, 0, 0);
		nr = w->fake->nr;
		for (uint64_t i = 0; i < n; i++) {
			/* Short and long, and all over one another, from the slot's second page on.
			 */
			token[i].start.a = HVA + 4096 + (any(i, n) << 12);
			token[i].end.a = token[i].start.a + 4096 * (1 + i % 5 * (i % 100));
			assert_ways(i, 1, inval_begin(&w->slots, &token[i]));
		}
		assert_null(slots_audit(&w->slots));
		for (uint64_t i = 0; i < 1000; i++) {
			struct slots_snapshot then = slots_snapshot(&w->slots, 0);
			tpt_gfn gfn = 1 + any(i, n);

			assert_ways(n, 1, slots_invalidating(&w->slots, slot, gfn, 1, false));
			assert_ways(n, 1, slots_must_retry(&w->slots, &then, slot, gfn, 1, false));
			assert_true(slots_invalidating(&w->slots, slot, gfn, 1, false));
			assert_false(slots_must_retry(&w->slots, &then, slot, 0, 1, false));
		}
		for (uint64_t i = 0; i < n; i++)
			assert_ways(n - i, 1, inval_end(&w->slots, &token[any(i, n)]));
		assert_true(slots_are_quiet(&w->slots));
		/* In the callers' memory, all of it. */
		assert_int_equal(w->fake->nr, nr);
		free(token);
		world_destroy(w);
	}
}

static void look_for(struct world *w, uint64_t n, uint32_t id)
{
	struct interval_key from = {0, 0};
	tpt_hva hva = {HVA + id * MIB}, hva_end = {HVA + (id + 1) * MIB};
	struct slot_cache cache;
	tpt_gfn gfn = id * MIB >> 12;

	slot_cache_init(&cache, &w->slots, 0);
	assert_ways(n, 1, slot_find(&w->slots, 0, gfn));
	assert_ways(n, 1, slot_find_cached(gfn, &cache));
	assert_ways(n, 0, slot_find_cached(gfn + 1, &cache));
	assert_ways(n, 1, slot_by_id(&w->slots, 0, id));
	/* The one that lies there, and that there is no other. */
	assert_ways(n, 2, slot_from_hva(&w->slots, 0, from, hva, hva_end));
	assert_int_equal(slot_from_hva(&w->slots, 0, from, hva, hva_end)->id, id);
	from = slot_behind_hva(slot_by_id(&w->slots, 0, id));
	assert_ways(n, 2, slot_from_hva(&w->slots, 0, from, hva, hva_end));
	assert_null(slot_from_hva(&w->slots, 0, from, hva, hva_end));
}

static void a_slot_costs_a_few_ways_through_the_slots(void **state)
{
	static const uint32_t slots[] = {1, 1000, TPT_MEMSLOT_IDS - 1};

	(void)state;
	for (size_t k = 0; k < sizeof(slots) / sizeof(slots[0]); k++) {
		struct world *w = world_create();
		uint32_t n = slots[k];

		for (uint32_t i = 0; i < n; i++)
			assert_int_equal(slot_set(w, 0, i, 0, i * MIB, MIB / 2, HVA + i * MIB), 0);
		assert_int_equal(w->fake->live, n);
		for (uint32_t i = 0; i < 200; i++) {
			uint32_t id = (uint32_t)any(i, n);

			look_for(w, n, id);
			/* By id, where it would lie, and its place in three orders. */
			assert_ways(n + 1, 6,
				    slot_set(w, 0, n, 0, id * MIB + MIB / 2, MIB / 2, HVA));
			assert_ways(n + 1, 6, slot_set(w, 0, n, 0, 0, 0, 0));
		}
		assert_int_equal(w->fake->live, n);
		world_destroy(w);
	}
}

static void a_gmem_costs_a_way_through_its_slots(void **state)
{
	static const uint32_t slots[] = {1, 1000, TPT_MEMSLOT_IDS - 1};

	(void)state;
	for (size_t k = 0; k < sizeof(slots) / sizeof(slots[0]); k++) {
		struct world *w = world_create();
		uint32_t n = slots[k];
		struct tpt_gmem *gmem = gmem_make(w, (n + 1) * 8192ull);

		for (uint32_t i = 0; i < n; i++)
			assert_int_equal(slot_set_gmem(w, 0, i, i * MIB, 4096, gmem, i * 8192ull),
					 0);
		for (uint32_t i = 0; i < 200; i++) {
			uint64_t at = any(i, n);

			assert_ways(n, 1, gmem_first_slot(gmem, 2 * at, 2 * at + 2));
			assert_ways(n, 1, gmem_check_binding(&w->slots, gmem, 2 * at, 2));
			assert_int_equal(gmem_check_binding(&w->slots, gmem, 2 * at, 2),
					 -ERR_EXIST);
			assert_ways(n, 1, gmem_check_binding(&w->slots, gmem, 2 * at + 1, 1));
			assert_int_equal(gmem_check_binding(&w->slots, gmem, 2 * at + 1, 1), 0);
		}
		world_destroy(w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_conversion_costs_a_few_ways_through_the_ranges),
		cmocka_unit_test(an_invalidation_costs_a_way_through_those_in_progress),
		cmocka_unit_test(a_slot_costs_a_few_ways_through_the_slots),
		cmocka_unit_test(a_gmem_costs_a_way_through_its_slots),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
