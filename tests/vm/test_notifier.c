// SPDX-License-Identifier: BSD-2-Clause
/* What the host takes back is gone from every slot over it, and only from there. */
#include "tests/support/host.h"

#define PAGE  4096ull
#define WRITE (TPT_PFERR_USER | TPT_PFERR_WRITE)
#define HVA   GIB

/* Slots of 64 pages: slot 0 from HVA on, each of the others from 16 pages further on than the last.
 */
#define SLOTS 6
#define PAGES 64u
#define STEP  16u

static uint64_t gpa(unsigned int slot, unsigned int page)
{
	return slot * GIB + page * PAGE;
}

static struct host *vm_with_overlapping_slots(void)
{
	struct tpt_vm_config c;
	struct host *h;

	host_config_npt(&c);
	h = host_create(&c, 1);
	/* Ids, GFNs and HVAs go in different orders. */
	for (unsigned int i = 0; i < SLOTS; i++) {
		unsigned int slot = i * 5 % SLOTS;

		assert_int_equal(host_slot(h, 0, SLOTS - slot, gpa(slot, 0), PAGES * PAGE,
					   HVA + slot * STEP * PAGE, 0),
				 0);
	}
	return h;
}

static void populate(struct host *h)
{
	for (unsigned int slot = 0; slot < SLOTS; slot++)
		for (unsigned int page = 0; page < PAGES; page++)
			if (!host_word(h, gpa(slot, page)))
				assert_int_equal(host_fault(h, gpa(slot, page), WRITE),
						 TPT_RET_PF_FIXED);
}

static void every_slot_over_the_memory_loses_it_and_no_other_page(void **state)
{
	struct host *h = vm_with_overlapping_slots();
	unsigned int last = (SLOTS - 1) * STEP + PAGES;

	(void)state;
	for (unsigned int start = 0; start < last; start += 7) {
		unsigned int end = start + 1 + start % 40, gone = 0;
		struct tpt_invalidation t;
		int zapped;

		populate(h);
		zapped = tpt_vm_invalidate_begin(h->vm, tpt_hva_make(HVA + start * PAGE),
						 tpt_hva_make(HVA + end * PAGE), &t);
		for (unsigned int slot = 0; slot < SLOTS; slot++) {
			for (unsigned int page = 0; page < PAGES; page++) {
				unsigned int behind = slot * STEP + page;
				bool hit = behind >= start && behind < end;

				assert_int_equal(!host_word(h, gpa(slot, page)), hit);
				gone += hit;
				/* Until its end nobody gets it back. */
				if (hit)
					assert_int_equal(host_fault(h, gpa(slot, page), WRITE),
							 TPT_RET_PF_RETRY);
			}
		}
		assert_int_equal(zapped, gone);
		tpt_vm_invalidate_end(h->vm, &t);
	}
	host_destroy(h);
}

static void a_slot_that_comes_while_memory_is_taken_back_maps_none_of_it(void **state)
{
	struct host *h = vm_with_overlapping_slots();
	struct tpt_invalidation t;

	(void)state;
	assert_int_equal(
		tpt_vm_invalidate_begin(h->vm, tpt_hva_make(HVA), tpt_hva_make(HVA + PAGE), &t), 0);
	assert_int_equal(host_slot(h, 0, 100, 100 * GIB, PAGES * PAGE, HVA, 0), 0);
	assert_int_equal(host_fault(h, 100 * GIB, WRITE), TPT_RET_PF_RETRY);
	assert_int_equal(host_fault(h, 100 * GIB + PAGE, WRITE), TPT_RET_PF_FIXED);
	tpt_vm_invalidate_end(h->vm, &t);
	assert_int_equal(host_fault(h, 100 * GIB, WRITE), TPT_RET_PF_FIXED);
	host_destroy(h);
}

static void a_slot_that_moved_or_went_is_not_looked_at_any_more(void **state)
{
	struct host *h = vm_with_overlapping_slots();
	struct tpt_invalidation t;

	(void)state;
	populate(h);
	/* Slot 0 goes, slot 1 moves, and slot 2 stays: the page is behind all three. */
	assert_int_equal(host_slot(h, 0, SLOTS, 0, 0, 0, 0), 0);
	assert_int_equal(host_slot(h, 0, SLOTS - 1, 50 * GIB, PAGES * PAGE, HVA + STEP * PAGE, 0),
			 0);
	assert_int_equal(host_fault(h, 50 * GIB + STEP * PAGE, WRITE), TPT_RET_PF_FIXED);
	assert_int_equal(tpt_vm_invalidate_begin(h->vm, tpt_hva_make(HVA + 2 * STEP * PAGE),
						 tpt_hva_make(HVA + (2 * STEP + 1) * PAGE), &t),
			 2);
	assert_int_equal(host_word(h, 50 * GIB + STEP * PAGE), 0);
	assert_int_equal(host_word(h, gpa(2, 0)), 0);
	tpt_vm_invalidate_end(h->vm, &t);
	host_destroy(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_slot_over_the_memory_loses_it_and_no_other_page),
		cmocka_unit_test(a_slot_that_comes_while_memory_is_taken_back_maps_none_of_it),
		cmocka_unit_test(a_slot_that_moved_or_went_is_not_looked_at_any_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
