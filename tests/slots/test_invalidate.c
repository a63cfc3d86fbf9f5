// SPDX-License-Identifier: BSD-2-Clause
/* A fault retries if, and only if, something was taken back that it is about to map. */
#include "tests/slots/fake_platform.h"

#define HVA 0x7f0000000000ull

/* One slot: GFN 0x1000 .. 0x2000, hva at HVA, gmem pages from 0x100. */
struct scene {
	struct world *w;
	struct tpt_gmem *gmem, *other;
	struct memslot *slot;
};

static int setup(void **state)
{
	struct scene *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	s->w = world_create();
	s->gmem = gmem_make(s->w, 64 * MIB);
	s->other = gmem_make(s->w, 64 * MIB);
	assert_int_equal(
		region_set(s->w, &(struct tpt_memory_region){.flags = TPT_MEM_GUEST_MEMFD,
							     .gpa = {0x1000ull << 12},
							     .size = 0x1000ull << 12,
							     .hva = {HVA},
							     .gmem = s->gmem,
							     .gmem_offset = 0x100ull << 12}),
		0);
	s->slot = slot_by_id(&s->w->slots, 0, 0);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct scene *s = *state;

	world_destroy(s->w);
	free(s);
	return 0;
}

#define scene_test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static struct tpt_invalidation hva_pages(uint64_t start, uint64_t end)
{
	return (struct tpt_invalidation){.start = {HVA + (start << 12)},
					 .end = {HVA + (end << 12)}};
}

static bool retry(struct scene *s, const struct slots_snapshot *then, tpt_gfn gfn, uint64_t pages,
		  bool private_)
{
	bool quick = slots_must_retry(&s->w->slots, then, s->slot, gfn, pages, private_);

	/* The quick answer is the precise one. */
	assert_int_equal(inval_must_retry(&s->w->slots, then, s->slot, gfn, pages, private_),
			 quick);
	return quick;
}

static void a_quiet_fault_does_not_retry(void **state)
{
	struct scene *s = *state;
	struct slots_snapshot then = slots_snapshot(&s->w->slots, 0);

	assert_false(retry(s, &then, 0x1000, 512, false));
	assert_false(retry(s, &then, 0x1000, 512, true));
	assert_false(slots_invalidating(&s->w->slots, s->slot, 0x1000, 512, false));
}

static void an_invalidation_in_progress_stops_faults_on_its_pages_only(void **state)
{
	struct scene *s = *state;
	struct slots *slots = &s->w->slots;
	struct tpt_invalidation token = hva_pages(0x10, 0x20);
	struct slots_snapshot then;

	inval_begin(slots, &token);
	then = slots_snapshot(slots, 0);
	assert_false(retry(s, &then, 0x100f, 1, false));
	assert_true(retry(s, &then, 0x1010, 1, false));
	assert_true(retry(s, &then, 0x101f, 1, false));
	assert_false(retry(s, &then, 0x1020, 1, false));
	assert_true(retry(s, &then, 0x1000, 0x11, false));
	assert_true(slots_invalidating(slots, s->slot, 0x1010, 1, false));
	assert_false(slots_invalidating(slots, s->slot, 0x1020, 1, false));

	inval_end(slots, &token);
	assert_false(slots_invalidating(slots, s->slot, 0x1010, 1, false));
	assert_true(retry(s, &then, 0x1010, 1, false));
	then = slots_snapshot(slots, 0);
	assert_false(retry(s, &then, 0x1010, 1, false));
}

static void one_that_began_and_ended_during_the_lookup_is_seen(void **state)
{
	struct scene *s = *state;
	struct slots_snapshot then = slots_snapshot(&s->w->slots, 0);
	struct tpt_invalidation token = hva_pages(0x10, 0x20);

	inval_begin(&s->w->slots, &token);
	inval_end(&s->w->slots, &token);
	assert_true(retry(s, &then, 0x1010, 1, false));
	assert_false(retry(s, &then, 0x1020, 1, false));
}

static void two_far_apart_do_not_stop_what_lies_between(void **state)
{
	struct scene *s = *state;
	struct slots_snapshot then = slots_snapshot(&s->w->slots, 0);
	struct tpt_invalidation a = hva_pages(0, 1), b = hva_pages(0xfff, 0x1000);

	inval_begin(&s->w->slots, &a);
	inval_begin(&s->w->slots, &b);
	assert_false(retry(s, &then, 0x1001, 0xffe, false));
	/* They nest and end in any order. */
	inval_end(&s->w->slots, &a);
	assert_true(slots_invalidating(&s->w->slots, s->slot, 0x1fff, 1, false));
	assert_false(slots_invalidating(&s->w->slots, s->slot, 0x1000, 1, false));
	inval_end(&s->w->slots, &b);
	assert_false(retry(s, &then, 0x1001, 0xffe, false));
	assert_true(retry(s, &then, 0x1000, 1, false));
	assert_true(retry(s, &then, 0x1fff, 1, false));
}

static void host_virtual_ranges_never_stop_a_private_fault(void **state)
{
	struct scene *s = *state;
	struct slots_snapshot then = slots_snapshot(&s->w->slots, 0);
	struct tpt_invalidation token = {.start = {0}, .end = {UINT64_MAX}};

	inval_begin(&s->w->slots, &token);
	assert_false(retry(s, &then, 0x1000, 0x1000, true));
	assert_true(retry(s, &then, 0x1000, 1, false));
	inval_end(&s->w->slots, &token);
	assert_false(retry(s, &then, 0x1000, 0x1000, true));
}

static void gmem_ranges_stop_only_private_faults_on_that_gmem(void **state)
{
	struct scene *s = *state;
	struct slots_snapshot then = slots_snapshot(&s->w->slots, 0);

	inval_note(&s->w->slots,
		   &(struct inval_range){
			   .kind = INVAL_GMEM, .gmem = s->other, .start = 0, .end = 0x4000});
	assert_false(retry(s, &then, 0x1000, 0x1000, true));
	inval_note(&s->w->slots,
		   &(struct inval_range){
			   .kind = INVAL_GMEM, .gmem = s->gmem, .start = 0x110, .end = 0x120});
	assert_false(retry(s, &then, 0x100f, 1, true));
	assert_true(retry(s, &then, 0x1010, 1, true));
	assert_true(retry(s, &then, 0x101f, 1, true));
	assert_false(retry(s, &then, 0x1020, 1, true));
	assert_false(retry(s, &then, 0x1000, 0x1000, false));
}

static void converted_frames_stop_both_kinds(void **state)
{
	struct scene *s = *state;
	struct slots_snapshot then = slots_snapshot(&s->w->slots, 0);

	inval_note(&s->w->slots,
		   &(struct inval_range){.kind = INVAL_GFN, .start = 0x1010, .end = 0x1020});
	for (int private_ = 0; private_ < 2; private_++) {
		assert_false(retry(s, &then, 0x1000, 0x10, private_));
		assert_true(retry(s, &then, 0x1000, 0x11, private_));
		assert_false(retry(s, &then, 0x1020, 1, private_));
	}
}

static void a_conversion_stops_faults_from_its_beginning_to_its_end(void **state)
{
	struct scene *s = *state;
	struct slots *slots = &s->w->slots;
	struct slots_snapshot then;

	inval_structural_begin(
		slots, &(struct inval_range){.kind = INVAL_GFN, .start = 0x1010, .end = 0x1020});
	then = slots_snapshot(slots, 0);
	for (int private_ = 0; private_ < 2; private_++) {
		assert_true(retry(s, &then, 0x101f, 1, private_));
		assert_true(slots_invalidating(slots, s->slot, 0x101f, 1, private_));
		assert_false(retry(s, &then, 0x1020, 1, private_));
		assert_false(slots_invalidating(slots, s->slot, 0x1020, 1, private_));
	}
	inval_structural_end(slots);
	assert_false(slots_invalidating(slots, s->slot, 0x101f, 1, true));
	assert_true(retry(s, &then, 0x101f, 1, true));
	assert_false(retry(s, &then, 0x1020, 1, true));
	then = slots_snapshot(slots, 0);
	assert_false(retry(s, &then, 0x101f, 1, true));
}

static void a_hole_on_its_way_stops_private_faults_only(void **state)
{
	struct scene *s = *state;
	struct slots_snapshot then = slots_snapshot(&s->w->slots, 0);

	inval_structural_begin(&s->w->slots, &(struct inval_range){.kind = INVAL_GMEM,
								   .gmem = s->gmem,
								   .start = 0x110,
								   .end = 0x111});
	assert_true(retry(s, &then, 0x1010, 1, true));
	assert_false(retry(s, &then, 0x1011, 1, true));
	assert_false(retry(s, &then, 0x1010, 1, false));
	inval_structural_end(&s->w->slots);
}

static void a_change_of_the_slots_stops_faults_of_that_address_space(void **state)
{
	struct scene *s = *state;
	struct slots_snapshot then = slots_snapshot(&s->w->slots, 0);

	assert_int_equal(slot_set(s->w, 1, 0, 0, GIB, MIB, HVA), 0);
	assert_false(retry(s, &then, 0x1000, 1, false));
	assert_int_equal(slot_set(s->w, 0, 5, 0, GIB, MIB, HVA), 0);
	assert_true(retry(s, &then, 0x1000, 1, false));
	/* The slot may be gone: it isn't looked at. */
	assert_true(slots_must_retry(&s->w->slots, &then, NULL, 0x1000, 1, false));
}

static void a_slot_on_its_way_out_stops_faults(void **state)
{
	struct scene *s = *state;
	struct slots_snapshot then = slots_snapshot(&s->w->slots, 0);

	slot_set_invalid(&s->w->slots, s->slot, true);
	assert_true(retry(s, &then, 0x1000, 1, false));
	slot_set_invalid(&s->w->slots, s->slot, false);
	assert_false(retry(s, &then, 0x1000, 1, false));
}

static void quiet_is_when_nothing_is_in_flight(void **state)
{
	struct scene *s = *state;
	struct slots *slots = &s->w->slots;
	struct tpt_invalidation a = hva_pages(0, 1), b = hva_pages(0, 1);
	struct tpt_memory_region gone = {.gpa = {0x1000ull << 12}};
	struct slot_update update;

	assert_true(slots_are_quiet(slots));
	inval_begin(slots, &a);
	inval_begin(slots, &b);
	inval_structural_begin(slots, &(struct inval_range){.kind = INVAL_GFN, .end = 1});
	inval_end(slots, &a);
	assert_false(slots_are_quiet(slots));
	inval_structural_end(slots);
	assert_false(slots_are_quiet(slots));
	inval_end(slots, &b);
	assert_true(slots_are_quiet(slots));

	/* A slot on its way out, which comes back or goes. */
	for (int goes = 0; goes < 2; goes++) {
		assert_int_equal(slot_update_prepare(slots, &gone, &update), 0);
		slot_set_invalid(slots, update.old, true);
		slot_set_invalid(slots, update.old, true);
		assert_false(slots_are_quiet(slots));
		if (goes)
			slot_update_commit(slots, &update);
		else
			slot_update_abort(slots, &update);
		assert_true(slots_are_quiet(slots));
	}
}

static void what_the_ring_forgot_counts_as_overlapping(void **state)
{
	struct scene *s = *state;
	struct tpt_invalidation token = hva_pages(0x800, 0x801);
	struct slots_snapshot then;

	/* What ended before is nothing to forget. */
	inval_begin(&s->w->slots, &token);
	inval_end(&s->w->slots, &token);
	then = slots_snapshot(&s->w->slots, 0);
	for (int i = 0; i < INVAL_RING; i++) {
		inval_begin(&s->w->slots, &token);
		inval_end(&s->w->slots, &token);
		assert_false(retry(s, &then, 0x1000, 1, false));
	}
	inval_begin(&s->w->slots, &token);
	inval_end(&s->w->slots, &token);
	assert_true(retry(s, &then, 0x1000, 1, false));
}

static void an_end_without_a_beginning_is_logged_and_changes_nothing(void **state)
{
	struct scene *s = *state;
	struct tpt_invalidation a = hva_pages(0, 1), b = hva_pages(1, 2);
	unsigned int lines = s->w->fake->lines;

	inval_begin(&s->w->slots, &a);
	inval_end(&s->w->slots, &b);
	assert_logged(s->w->fake, lines, "0x7f0000001000 .. 0x7f0000002000 ends: it is not in");
	assert_int_equal(s->w->slots.nr_ended, 0);
	assert_true(slots_invalidating(&s->w->slots, s->slot, 0x1000, 1, false));
	inval_end(&s->w->slots, &a);
	assert_int_equal(s->w->slots.nr_ended, 1);
}

static void host_virtual_ranges_are_found_in_the_slot_over_them(void **state)
{
	struct scene *s = *state;
	struct tpt_gfn_range r;

	assert_false(slot_hva_range(s->slot, tpt_hva_make(0), tpt_hva_make(HVA), &r));
	assert_false(slot_hva_range(s->slot, tpt_hva_make(HVA + 0x1000000),
				    tpt_hva_make(UINT64_MAX), &r));
	assert_false(slot_hva_range(s->slot, tpt_hva_make(HVA), tpt_hva_make(HVA), &r));
	assert_true(slot_hva_range(s->slot, tpt_hva_make(0), tpt_hva_make(HVA + 1), &r));
	assert_true(r.start == 0x1000 && r.end == 0x1001);
	assert_true(slot_hva_range(s->slot, tpt_hva_make(HVA + 0x1fff), tpt_hva_make(HVA + 0x2001),
				   &r));
	assert_true(r.start == 0x1001 && r.end == 0x1003);
	assert_true(slot_hva_range(s->slot, tpt_hva_make(0), tpt_hva_make(UINT64_MAX), &r));
	assert_true(r.start == 0x1000 && r.end == 0x2000);
}

/* ---- against every invalidation there ever was, page by page ---- */

#define HISTORY 4000
#define ACTIVE	6
#define FAULTS	8

struct record {
	enum inval_kind kind;
	const struct tpt_gmem *gmem;
	uint64_t start, end; /* pages from the slot's first */
	uint64_t ended;	     /* step; UINT64_MAX: still in progress */
};

struct history {
	struct record record[HISTORY];
	size_t nr;
};

static bool brute_retry(const struct history *h, const struct tpt_gmem *gmem, uint64_t since,
			uint64_t page, uint64_t pages, bool private_)
{
	size_t forgotten = 0;

	for (size_t i = 0; i < h->nr; i++) {
		const struct record *r = &h->record[i];

		if (r->ended < since)
			continue;
		forgotten += r->ended != UINT64_MAX;
		if (r->kind == INVAL_HVA && private_)
			continue;
		if (r->kind == INVAL_GMEM && (!private_ || r->gmem != gmem))
			continue;
		for (uint64_t p = page; p < page + pages; p++) {
			if (p >= r->start && p < r->end)
				return true;
		}
	}
	return forgotten > INVAL_RING;
}

struct actors {
	struct tpt_invalidation token[ACTIVE];
	struct record *of[ACTIVE]; /* NULL: the token is free */
	struct record *structural; /* under way, or NULL */
	struct slots_snapshot then[FAULTS];
	uint64_t since[FAULTS];
};

static void random_invalidation(struct scene *s, struct rng *rng, struct history *h,
				struct actors *a, uint64_t step)
{
	struct slots *slots = &s->w->slots;
	uint64_t i = rng_below(rng, ACTIVE), start = rng_below(rng, 0x1000);
	uint64_t end = start + 1 + rng_below(rng, 0x40);
	struct record *r = &h->record[h->nr];
	struct inval_range range;

	if (a->structural && !rng_below(rng, 3)) {
		a->structural->ended = step;
		a->structural = NULL;
		inval_structural_end(slots);
		return;
	}
	if (a->of[i]) {
		a->of[i]->ended = step;
		a->of[i] = NULL;
		inval_end(slots, &a->token[i]);
		return;
	}
	*r = (struct record){
		.kind = rng_below(rng, 3), .start = start, .end = end, .ended = UINT64_MAX};
	h->nr++;
	if (r->kind == INVAL_HVA) {
		a->of[i] = r;
		a->token[i] = hva_pages(start, end);
		inval_begin(slots, &a->token[i]);
		return;
	}
	if (r->kind == INVAL_GMEM)
		r->gmem = rng_below(rng, 4) ? s->gmem : s->other;
	start += r->kind == INVAL_GMEM ? 0x100 : 0x1000;
	end += r->kind == INVAL_GMEM ? 0x100 : 0x1000;
	range = (struct inval_range){.kind = r->kind, .gmem = r->gmem, .start = start, .end = end};
	if (!a->structural) {
		a->structural = r;
		inval_structural_begin(slots, &range);
		return;
	}
	r->ended = step;
	inval_note(slots, &range);
}

static void random_retry_decisions_agree_with_brute_force(void **state)
{
	struct scene *s = *state;
	struct rng rng = rng_create("retry");
	struct history *h = calloc(1, sizeof(*h));
	struct actors a = {.structural = NULL};
	unsigned int by_answer[2] = {0};

	assert_non_null(h);
	for (uint64_t step = 1; h->nr < HISTORY; step++) {
		uint64_t f = rng_below(&rng, FAULTS);
		uint64_t page = rng_below(&rng, 0xf00);
		uint64_t pages = 1ull << rng_below(&rng, 8);
		bool private_ = rng_below(&rng, 2), expected;

		if (!a.since[f] || !rng_below(&rng, 4)) {
			a.then[f] = slots_snapshot(&s->w->slots, 0);
			a.since[f] = step;
		}
		random_invalidation(s, &rng, h, &a, step);
		expected = brute_retry(h, s->gmem, a.since[f], page, pages, private_);
		assert_int_equal(retry(s, &a.then[f], 0x1000 + page, pages, private_), expected);
		by_answer[expected]++;
	}
	assert_true(by_answer[0] > 500 && by_answer[1] > 500);
	for (int i = 0; i < ACTIVE; i++) {
		if (a.of[i])
			inval_end(&s->w->slots, &a.token[i]);
	}
	assert_int_equal(s->w->slots.in_progress.nr, 0);
	free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(a_quiet_fault_does_not_retry),
		scene_test(an_invalidation_in_progress_stops_faults_on_its_pages_only),
		scene_test(one_that_began_and_ended_during_the_lookup_is_seen),
		scene_test(two_far_apart_do_not_stop_what_lies_between),
		scene_test(host_virtual_ranges_never_stop_a_private_fault),
		scene_test(gmem_ranges_stop_only_private_faults_on_that_gmem),
		scene_test(converted_frames_stop_both_kinds),
		scene_test(a_conversion_stops_faults_from_its_beginning_to_its_end),
		scene_test(a_hole_on_its_way_stops_private_faults_only),
		scene_test(a_change_of_the_slots_stops_faults_of_that_address_space),
		scene_test(a_slot_on_its_way_out_stops_faults),
		scene_test(quiet_is_when_nothing_is_in_flight),
		scene_test(what_the_ring_forgot_counts_as_overlapping),
		scene_test(an_end_without_a_beginning_is_logged_and_changes_nothing),
		scene_test(host_virtual_ranges_are_found_in_the_slot_over_them),
		scene_test(random_retry_decisions_agree_with_brute_force),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
