// SPDX-License-Identifier: BSD-2-Clause
/* The rules under which memslots come, move and go. Nothing here is ever mapped. */
#include "tests/slots/fake_platform.h"

#define HVA 0x7f0000000000ull

static struct tpt_memory_region good_region(void)
{
	return (struct tpt_memory_region){
		.slot = 3, .gpa = {16 * MIB}, .size = 4 * MIB, .hva = {HVA}};
}

/* The region is refused with this error and this log line, and nothing changes. */
static void refused(struct world *w, const struct tpt_memory_region *region, int error,
		    const char *log)
{
	struct slot_update update;
	unsigned int lines = w->fake->lines;
	int64_t live = w->fake->live;
	uint64_t generation[2] = {w->slots.set[0].generation, w->slots.set[1].generation};
	uint32_t nr[2] = {w->slots.set[0].by_gfn.nr, w->slots.set[1].by_gfn.nr};

	assert_int_equal(slot_update_prepare(&w->slots, region, &update), error);
	assert_logged(w->fake, lines, log);
	assert_int_equal(w->fake->live, live);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(w->slots.set[i].generation, generation[i]);
		assert_int_equal(w->slots.set[i].by_gfn.nr, nr[i]);
	}
	assert_null(slots_audit(&w->slots));
}

static void a_created_slot_is_found_by_gfn_and_by_id(void **state)
{
	struct world *w = *state;
	struct tpt_memory_region r = good_region();
	struct memslot *slot;

	r.flags = TPT_MEM_READONLY;
	assert_int_equal(region_set(w, &r), 0);
	slot = slot_by_id(&w->slots, 0, 3);
	assert_non_null(slot);
	assert_int_equal(slot->base_gfn, 0x1000);
	assert_int_equal(slot->npages, 0x400);
	assert_int_equal(slot->hva.a, HVA);
	assert_int_equal(slot->flags, TPT_MEM_READONLY);
	assert_false(slot->invalid);

	assert_ptr_equal(slot_find(&w->slots, 0, 0x1000), slot);
	assert_ptr_equal(slot_find(&w->slots, 0, 0x13ff), slot);
	assert_null(slot_find(&w->slots, 0, 0xfff));
	assert_null(slot_find(&w->slots, 0, 0x1400));
	assert_null(slot_find(&w->slots, 1, 0x1000));
	assert_null(slot_by_id(&w->slots, 0, 2));
	assert_null(slot_by_id(&w->slots, 1, 3));
	assert_int_equal(slot_hva(slot, 0x1002).a, HVA + 0x2000);
}

static void unaligned_numbers_are_refused(void **state)
{
	struct tpt_memory_region r = good_region();

	r.gpa.a += 0x800;
	refused(*state, &r, -ERR_INVAL, "slot 3: 0x1000800: gpa is not 4 KiB aligned");
	r = good_region();
	r.hva.a += 1;
	refused(*state, &r, -ERR_INVAL, "0x7f0000000001: hva is not");
	r = good_region();
	r.size -= 1;
	refused(*state, &r, -ERR_INVAL, "0x3fffff: size is not");
}

static void a_delete_is_held_to_alignment_too(void **state)
{
	struct tpt_memory_region r = good_region();

	assert_int_equal(region_set(*state, &r), 0);
	r.size = 0;
	r.gpa.a += 1;
	refused(*state, &r, -ERR_INVAL, "gpa is not");
}

static void ranges_that_wrap_are_refused(void **state)
{
	struct tpt_memory_region r = good_region();

	r.gpa.a = -(uint64_t)TPT_PAGE_SIZE;
	refused(*state, &r, -ERR_INVAL, "gpa + size wraps");
	r.gpa.a = -r.size;
	refused(*state, &r, -ERR_INVAL, "gpa + size wraps");
	r = good_region();
	r.hva.a = -r.size;
	refused(*state, &r, -ERR_INVAL, "hva + size wraps");
	r.hva.a -= TPT_PAGE_SIZE;
	assert_int_equal(region_set(*state, &r), 0);
}

static void a_slot_ends_within_the_guest_physical_width(void **state)
{
	struct world *w = *state;
	struct tpt_memory_region r = good_region();

	r.gpa.a = (1ull << 46) - r.size;
	assert_int_equal(region_set(w, &r), 0);
	r.slot = 4;
	r.gpa.a += TPT_PAGE_SIZE;
	refused(w, &r, -ERR_INVAL, "0x400000001000: end is beyond the guest-physical width");
}

static void the_shared_bit_is_not_part_of_a_slot(void **state)
{
	struct tpt_memory_region r = good_region();

	r.gpa.a |= 1ull << 46;
	refused(*state, &r, -ERR_INVAL, "shared bit excluded");
}

static void a_slot_has_at_most_two_to_the_31_less_one_pages(void **state)
{
	struct world *w = *state;
	struct tpt_memory_region r = good_region();

	r.size = 1ull << 43;
	refused(w, &r, -ERR_INVAL, "0x80000000000: size is beyond");
	r.size -= TPT_PAGE_SIZE;
	assert_int_equal(region_set(w, &r), 0);
}

static void unknown_flags_are_refused(void **state)
{
	for (unsigned int bit = 0; bit < 32; bit++) {
		struct tpt_memory_region r = good_region();

		r.flags = 1u << bit;
		if (r.flags & (TPT_MEM_LOG_DIRTY | TPT_MEM_READONLY | TPT_MEM_GUEST_MEMFD))
			continue;
		refused(*state, &r, -ERR_INVAL, "unknown flag");
	}
}

static void ids_and_address_spaces_are_bounded(void **state)
{
	struct world *w = *state;
	struct tpt_memory_region r = good_region();

	r.slot = TPT_MEMSLOT_IDS;
	refused(w, &r, -ERR_INVAL, "32764: 0x7ffc: slot id");
	r.slot--;
	assert_int_equal(region_set(w, &r), 0);
	r.as_id = 2;
	refused(w, &r, -ERR_INVAL, "no such address space");
	r.as_id = 1;
	assert_int_equal(region_set(w, &r), 0);
	w->slots.address_spaces = 1;
	r.slot = 0;
	refused(w, &r, -ERR_INVAL, "no such address space");
	w->slots.address_spaces = 2;
}

static void overlap_is_refused_in_one_address_space_only(void **state)
{
	struct world *w = *state;
	struct tpt_memory_region r = good_region();
	uint64_t gpa = r.gpa.a, size = r.size;
	uint64_t bad[][2] = {
		{gpa, size},
		{gpa - TPT_PAGE_SIZE, 2 * TPT_PAGE_SIZE},
		{gpa + size - TPT_PAGE_SIZE, TPT_PAGE_SIZE},
		{gpa + MIB, MIB},
		{gpa - MIB, size + 2 * MIB},
	};

	assert_int_equal(region_set(w, &r), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		r = good_region();
		r.slot = 9;
		r.gpa.a = bad[i][0];
		r.size = bad[i][1];
		refused(w, &r, -ERR_EXIST, "overlaps slot 3 at 0x1000000");
	}
	r.as_id = 1;
	assert_int_equal(region_set(w, &r), 0);
	assert_int_equal(slot_set(w, 0, 9, 0, gpa - MIB, MIB, HVA), 0);
	assert_int_equal(slot_set(w, 0, 10, 0, gpa + size, MIB, HVA), 0);
}

static void delete_needs_a_slot(void **state)
{
	struct world *w = *state;
	struct tpt_memory_region r = good_region();

	r.size = 0;
	refused(w, &r, -ERR_INVAL, "no slot with this id to delete");
	assert_int_equal(slot_set(w, 1, 3, 0, 0, MIB, HVA), 0);
	refused(w, &r, -ERR_INVAL, "no slot with this id to delete");
	r.as_id = 1;
	assert_int_equal(region_set(w, &r), 0);
	assert_null(slot_find(&w->slots, 1, 0));
	refused(w, &r, -ERR_INVAL, "no slot with this id to delete");
}

static void size_hva_and_readonly_of_a_slot_cannot_change(void **state)
{
	struct world *w = *state;
	struct tpt_memory_region r = good_region();

	assert_int_equal(region_set(w, &r), 0);
	r.size += TPT_PAGE_SIZE;
	refused(w, &r, -ERR_INVAL, "0x401000: the size of a slot cannot change");
	r = good_region();
	r.hva.a += TPT_PAGE_SIZE;
	refused(w, &r, -ERR_INVAL, "the hva of a slot cannot change");
	r = good_region();
	r.flags = TPT_MEM_READONLY;
	refused(w, &r, -ERR_INVAL, "READONLY of a slot cannot change");
}

static void the_same_region_again_changes_nothing(void **state)
{
	struct world *w = *state;
	struct tpt_memory_region r = good_region();
	struct slot_update update;
	struct memslot *slot;

	assert_int_equal(region_set(w, &r), 0);
	slot = slot_by_id(&w->slots, 0, 3);
	assert_int_equal(slot_update_prepare(&w->slots, &r, &update), 0);
	assert_int_equal(update.change, SLOT_SAME);
	slot_update_commit(&w->slots, &update);
	assert_ptr_equal(slot_by_id(&w->slots, 0, 3), slot);
	assert_int_equal(w->slots.set[0].generation, 2);
}

static void a_moved_slot_is_where_it_went(void **state)
{
	struct world *w = *state;
	struct tpt_memory_region r = good_region();
	struct slot_update update;

	assert_int_equal(region_set(w, &r), 0);
	assert_int_equal(slot_set(w, 0, 4, 0, 0, MIB, HVA), 0);
	assert_int_equal(slot_set(w, 0, 5, 0, GIB, MIB, HVA), 0);

	/* Over itself. */
	r.gpa.a += TPT_PAGE_SIZE;
	assert_int_equal(slot_update_prepare(&w->slots, &r, &update), 0);
	assert_int_equal(update.change, SLOT_MOVE);
	assert_non_null(slot_find(&w->slots, 0, 0x1000));
	slot_update_commit(&w->slots, &update);
	assert_null(slot_find(&w->slots, 0, 0x1000));
	assert_int_equal(slot_find(&w->slots, 0, 0x1400)->id, 3);

	/* Past another. */
	r.gpa.a = 2 * GIB;
	assert_int_equal(region_set(w, &r), 0);
	assert_int_equal(slot_find(&w->slots, 0, 2 * GIB >> 12)->id, 3);
	assert_int_equal(slot_find(&w->slots, 0, GIB >> 12)->id, 5);
	assert_int_equal(slot_find(&w->slots, 0, 0)->id, 4);

	r.gpa.a = GIB;
	refused(w, &r, -ERR_EXIST, "overlaps slot 5");
	r.gpa.a = 1ull << 46;
	refused(w, &r, -ERR_INVAL, "guest-physical width");
}

static void the_generation_counts_swaps_as_kvm_does(void **state)
{
	struct world *w = *state;
	struct tpt_memory_region r = good_region();
	struct memslot_set *set = w->slots.set;

	assert_int_equal(set[0].generation, 0);
	assert_int_equal(set[1].generation, 1);
	assert_int_equal(region_set(w, &r), 0);
	assert_int_equal(set[0].generation, 2);
	r.gpa.a += GIB;
	assert_int_equal(region_set(w, &r), 0);
	assert_int_equal(set[0].generation, 6);
	r.size = 0;
	assert_int_equal(region_set(w, &r), 0);
	assert_int_equal(set[0].generation, 10);
	assert_int_equal(set[1].generation, 1);
	assert_int_equal(slot_set(w, 1, 0, 0, 0, MIB, HVA), 0);
	assert_int_equal(set[0].generation, 10);
	assert_int_equal(set[1].generation, 3);
}

/* Was the cache asked without being filled anew? */
static bool hits(const struct slots *slots, uint32_t as_id, tpt_gfn gfn, struct slot_cache *cache)
{
	const struct slot_cache before = *cache;

	assert_ptr_equal(slot_find_cached(gfn, cache), slot_find(slots, as_id, gfn));
	return cache->generation == before.generation && cache->start == before.start &&
	       cache->npages == before.npages && cache->slot == before.slot;
}

static void the_slot_found_last_is_found_at_once(void **state)
{
	struct world *w = *state;
	struct slot_cache cache;

	slot_cache_init(&cache, &w->slots, 0);
	for (uint32_t as_id = 0; as_id < 2; as_id++)
		for (uint32_t id = 0; id < 3; id++)
			assert_int_equal(slot_set(w, as_id, id, 0, id * GIB, MIB, HVA), 0);
	assert_false(hits(&w->slots, 0, 0x40010, &cache));
	assert_true(hits(&w->slots, 0, 0x40000, &cache));
	assert_true(hits(&w->slots, 0, 0x400ff, &cache));
	/* Where there is none it is known how far. */
	assert_false(hits(&w->slots, 0, 0x40100, &cache));
	assert_true(hits(&w->slots, 0, 0x7ffff, &cache));
	assert_false(hits(&w->slots, 0, 0x80000, &cache));
	/* Another address space is another question. */
	slot_cache_init(&cache, &w->slots, 1);
	assert_false(hits(&w->slots, 1, 0x80000, &cache));
	assert_true(hits(&w->slots, 1, 0x80000, &cache));
	/* So is a set that changed, if only in a flag of another slot. */
	assert_int_equal(slot_set(w, 1, 0, TPT_MEM_LOG_DIRTY, 0, MIB, HVA), 0);
	assert_false(hits(&w->slots, 1, 0x80000, &cache));
	assert_true(hits(&w->slots, 1, 0x80000, &cache));
	assert_int_equal(slot_set(w, 1, 2, 0, 0, 0, 0), 0);
	assert_false(hits(&w->slots, 1, 0x80000, &cache));
	assert_null(cache.slot);
	assert_true(hits(&w->slots, 1, 0x40100, &cache));
}

static void an_aborted_update_leaves_no_trace(void **state)
{
	struct world *w = *state;
	struct tpt_memory_region r = good_region();
	struct slot_update update;
	int64_t live = w->fake->live;

	assert_int_equal(slot_update_prepare(&w->slots, &r, &update), 0);
	assert_null(slot_find(&w->slots, 0, 0x1000));
	slot_update_abort(&w->slots, &update);
	assert_int_equal(w->fake->live, live);
	assert_int_equal(w->slots.set[0].generation, 0);

	assert_int_equal(region_set(w, &r), 0);
	live = w->fake->live;
	for (int deletion = 0; deletion < 2; deletion++) {
		r.gpa.a = GIB;
		r.size = deletion ? 0 : r.size;
		assert_int_equal(slot_update_prepare(&w->slots, &r, &update), 0);
		slot_set_invalid(&w->slots, update.old, true);
		slot_update_abort(&w->slots, &update);
		assert_int_equal(w->fake->live, live);
		assert_false(slot_find(&w->slots, 0, 0x1000)->invalid);
		assert_int_equal(w->slots.set[0].generation, 2);
	}
}

static void each_failed_allocation_changes_nothing(void **state)
{
	struct world *w = *state;
	unsigned int failures = 0;

	for (uint32_t id = 0; id < 40; id++) {
		struct tpt_memory_region r = good_region();

		r.slot = id;
		r.flags = id % 2 ? TPT_MEM_LOG_DIRTY : 0;
		r.gpa.a = id * GIB;
		for (int nth = 1;; nth++) {
			int64_t live = w->fake->live;
			int ret;

			w->fake->fail_at = w->fake->nr + nth;
			ret = region_set(w, &r);
			w->fake->fail_at = 0;
			if (!ret)
				break;
			assert_int_equal(ret, -ERR_NOMEM);
			assert_int_equal(w->fake->live, live);
			assert_int_equal(w->slots.set[0].by_gfn.nr, id);
			assert_int_equal(w->slots.set[0].generation, 2 * id);
			assert_logged(w->fake, 0, "no memory for a slot");
			failures++;
		}
		assert_null(slots_audit(&w->slots));
	}
	/* One a slot, and one a log. */
	assert_int_equal(failures, 60);

	w->fake->fail_at = w->fake->nr + 1;
	assert_int_equal(slot_set(w, 0, 1, 0, 100 * GIB, 4 * MIB, HVA), -ERR_NOMEM);
	assert_int_equal(slot_find(&w->slots, 0, GIB >> 12)->id, 1);
	assert_int_equal(slot_set(w, 0, 1, 0, 0, 0, HVA), 0);
	assert_int_equal(w->fake->fail_at, w->fake->nr);
}

static void all_32764_ids_of_both_address_spaces_can_be_used(void **state)
{
	struct world *w = *state;

	for (uint32_t i = 0; i < TPT_MEMSLOT_IDS; i++) {
		/* An order that is neither that of ids nor that of addresses. */
		uint32_t id = (uint32_t)(i * 7919ull % TPT_MEMSLOT_IDS);

		for (uint32_t as = 0; as < 2; as++)
			assert_int_equal(
				slot_set(w, as, id, 0, (TPT_MEMSLOT_IDS - id) * MIB, MIB / 2, HVA),
				0);
	}
	assert_int_equal(w->slots.set[0].by_gfn.nr, TPT_MEMSLOT_IDS);
	assert_int_equal(slot_set(w, 0, TPT_MEMSLOT_IDS, 0, 0, MIB, HVA), -ERR_INVAL);
	assert_null(slots_audit(&w->slots));
	for (uint32_t id = 0; id < TPT_MEMSLOT_IDS; id++) {
		tpt_gfn gfn = (TPT_MEMSLOT_IDS - id) * MIB >> 12;

		assert_int_equal(slot_find(&w->slots, 1, gfn + 127)->id, id);
		assert_null(slot_find(&w->slots, 1, gfn + 128));
	}
	for (uint32_t id = 0; id < TPT_MEMSLOT_IDS; id += 2)
		assert_int_equal(slot_set(w, 1, id, 0, 0, 0, 0), 0);
	assert_int_equal(w->slots.set[1].by_gfn.nr, TPT_MEMSLOT_IDS / 2);
	assert_null(slots_audit(&w->slots));
}

/* ---- against a plain array ---- */

#define MODEL_PAGES 256
#define MODEL_IDS   24

struct model {
	struct {
		bool used;
		uint64_t base, pages, hva;
		uint32_t flags;
	} slot[MODEL_IDS];
	uint64_t generation;
};

/* What the manual says of one call. */
static int model_set(struct model *m, const struct tpt_memory_region *r)
{
	uint64_t base = r->gpa.a >> 12, pages = r->size >> 12;

	if (!pages && !m->slot[r->slot].used)
		return -ERR_INVAL;
	if (!pages) {
		m->slot[r->slot].used = false;
		m->generation += 4;
		return 0;
	}
	if (m->slot[r->slot].used &&
	    (pages != m->slot[r->slot].pages || r->hva.a != m->slot[r->slot].hva ||
	     r->flags != m->slot[r->slot].flags))
		return -ERR_INVAL;
	for (uint32_t i = 0; i < MODEL_IDS; i++) {
		if (i != r->slot && m->slot[i].used && base < m->slot[i].base + m->slot[i].pages &&
		    m->slot[i].base < base + pages)
			return -ERR_EXIST;
	}
	if (!m->slot[r->slot].used)
		m->generation += 2;
	else if (m->slot[r->slot].base != base)
		m->generation += 4;
	m->slot[r->slot].used = true;
	m->slot[r->slot].base = base;
	m->slot[r->slot].pages = pages;
	m->slot[r->slot].hva = r->hva.a;
	m->slot[r->slot].flags = r->flags;
	return 0;
}

static void model_compare(const struct model *m, const struct slots *slots,
			  struct slot_cache *cache)
{
	for (uint64_t gfn = 0; gfn < MODEL_PAGES + 32; gfn++) {
		const struct memslot *slot = slot_find(slots, 0, gfn);
		int64_t expected = -1;

		assert_ptr_equal(slot_find_cached(gfn, cache), slot);
		assert_ptr_equal(slot_find_cached(gfn, cache), slot);

		for (int i = 0; i < MODEL_IDS; i++) {
			if (m->slot[i].used && gfn >= m->slot[i].base &&
			    gfn < m->slot[i].base + m->slot[i].pages)
				expected = i;
		}
		assert_int_equal(slot ? (int64_t)slot->id : -1, expected);
	}
	assert_int_equal(slots->set[0].generation, m->generation);
}

/* The slots over a piece of host memory, by HVA and then by id. */
static void model_compare_hva(const struct model *m, const struct slots *slots, uint64_t start,
			      uint64_t end)
{
	struct interval_key from = {0, 0};
	const struct memslot *slot;

	for (uint64_t page = 0; page < 4; page++) {
		for (uint32_t i = 0; i < MODEL_IDS; i++) {
			uint64_t hva = m->slot[i].hva, hva_end = hva + (m->slot[i].pages << 12);

			if (!m->slot[i].used || hva != HVA + (page << 12) || hva >= end ||
			    hva_end <= start)
				continue;
			slot = slot_from_hva(slots, 0, from, (tpt_hva){start}, (tpt_hva){end});
			assert_non_null(slot);
			assert_int_equal(slot->id, i);
			from = slot_behind_hva(slot);
		}
	}
	assert_null(slot_from_hva(slots, 0, from, (tpt_hva){start}, (tpt_hva){end}));
}

static void random_updates_agree_with_a_plain_array(void **state)
{
	struct world *w = *state;
	struct rng rng = rng_create("memslots");
	struct model m = {.generation = 0};
	struct slot_cache cache;
	unsigned int by_result[3] = {0};

	slot_cache_init(&cache, &w->slots, 0);

	for (int i = 0; i < 20000; i++) {
		uint32_t id = (uint32_t)rng_below(&rng, MODEL_IDS);
		struct tpt_memory_region r = {
			.slot = id,
			.gpa = {rng_below(&rng, MODEL_PAGES) << 12},
			.size = (rng_below(&rng, 4) ? 1 + rng_below(&rng, 20) : 0) << 12,
			.hva = {HVA + (rng_below(&rng, 4) << 12)},
		};
		int expected;

		/* Half of the calls on a slot that exists are moves, or the same again. */
		if (m.slot[id].used && rng_below(&rng, 2)) {
			r.size = m.slot[id].pages << 12;
			r.hva.a = m.slot[id].hva;
		}
		expected = model_set(&m, &r);
		assert_int_equal(region_set(w, &r), expected);
		by_result[!expected ? 0 : expected == -ERR_EXIST ? 1 : 2]++;
		if (i % 16 == 0) {
			model_compare(&m, &w->slots, &cache);
			model_compare_hva(&m, &w->slots, r.hva.a + r.size / 2,
					  r.hva.a + r.size + 1);
			assert_null(slots_audit(&w->slots));
		}
	}
	for (int i = 0; i < 3; i++)
		assert_true(by_result[i] > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		world_test(a_created_slot_is_found_by_gfn_and_by_id),
		world_test(unaligned_numbers_are_refused),
		world_test(a_delete_is_held_to_alignment_too),
		world_test(ranges_that_wrap_are_refused),
		world_test(a_slot_ends_within_the_guest_physical_width),
		world_test(the_shared_bit_is_not_part_of_a_slot),
		world_test(a_slot_has_at_most_two_to_the_31_less_one_pages),
		world_test(unknown_flags_are_refused),
		world_test(ids_and_address_spaces_are_bounded),
		world_test(overlap_is_refused_in_one_address_space_only),
		world_test(delete_needs_a_slot),
		world_test(size_hva_and_readonly_of_a_slot_cannot_change),
		world_test(the_same_region_again_changes_nothing),
		world_test(a_moved_slot_is_where_it_went),
		world_test(the_generation_counts_swaps_as_kvm_does),
		world_test(the_slot_found_last_is_found_at_once),
		world_test(an_aborted_update_leaves_no_trace),
		world_test(each_failed_allocation_changes_nothing),
		world_test(all_32764_ids_of_both_address_spaces_can_be_used),
		world_test(random_updates_agree_with_a_plain_array),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
