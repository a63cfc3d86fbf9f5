// SPDX-License-Identifier: BSD-2-Clause
/*
 * A gmem whose pages are shared in place: one frame for a page, whichever side maps it, and never
 * both sides at once. No processor.
 */
#include "tests/support/host.h"

#define PAGES 64u
#define BYTES (PAGES * 4 * KIB)

static const struct tpt_gmem_ops in_place = {
	.size = sizeof(in_place),
	.flags = TPT_GMEM_IN_PLACE,
	.get_page = host_get_page,
	.free_range = host_free_range,
};

/* A TD with one slot whose memory is all in one gmem. */
static struct host *open_world(void)
{
	struct tpt_vm_config c;
	struct host *h;

	host_config_td(&c);
	h = host_create(&c, 1);
	assert_int_equal(tpt_gmem_create(h->vm, BYTES, &in_place, h, &h->gmem), 0);
	assert_int_equal(host_slot(h, 0, 0, 0, BYTES, GIB, TPT_MEM_GUEST_MEMFD), 0);
	return h;
}

static uint64_t frame(struct host *h, enum tpt_tree_kind tree, uint64_t gpa)
{
	struct tpt_mapping m = host_mapping(h, tree, 0, gpa);

	return m.leaf ? (m.spte.w & 0x000ffffffffff000ull) >> 12 : 0;
}

static void a_page_keeps_its_frame_through_conversions(void **state)
{
	struct host *h = open_world();

	(void)state;
	for (unsigned int round = 0; round < 3; round++) {
		assert_int_equal(tpt_vm_set_private(h->vm, 0, PAGES, true, NULL), 0);
		assert_int_equal(host_fault(h, 0x5000, TPT_PFERR_WRITE), TPT_RET_PF_FIXED);
		assert_int_equal(frame(h, TPT_TREE_MIRROR, 0x5000), HOST_GMEM_PFN + 5);
		assert_int_equal(frame(h, TPT_TREE_DIRECT, 0x5000), 0);

		assert_int_equal(tpt_vm_set_private(h->vm, 0, PAGES, false, NULL), 0);
		assert_int_equal(frame(h, TPT_TREE_MIRROR, 0x5000), 0);
		assert_int_equal(host_fault(h, HOST_SHARED | 0x5000, TPT_PFERR_WRITE),
				 TPT_RET_PF_FIXED);
		assert_int_equal(frame(h, TPT_TREE_DIRECT, 0x5000), HOST_GMEM_PFN + 5);
		host_audit(h);
	}
	/* There is no second copy to ask. */
	assert_int_equal(h->lookups, 0);
	host_destroy(h);
}

static void a_hole_takes_the_page_from_whichever_side_has_it(void **state)
{
	struct host *h = open_world();

	(void)state;
	assert_int_equal(tpt_vm_set_private(h->vm, 0, 8, true, NULL), 0);
	for (uint64_t page = 0; page < 16; page++)
		assert_int_equal(
			host_fault(h, page << 12 | (page < 8 ? 0 : HOST_SHARED), TPT_PFERR_WRITE),
			TPT_RET_PF_FIXED);
	assert_int_equal(tpt_gmem_punch_hole(h->gmem, 4 * 4096, 8 * 4096), 0);
	assert_int_equal(h->gmem_freed, 8);
	for (uint64_t page = 0; page < 16; page++) {
		bool gone = page >= 4 && page < 12;

		assert_int_equal(
			!frame(h, page < 8 ? TPT_TREE_MIRROR : TPT_TREE_DIRECT, page << 12), gone);
	}
	host_audit(h);
	host_destroy(h);
}

static void two_copies_stay_two_copies_without_the_flag(void **state)
{
	struct host *h = host_create_td(0, BYTES, 1);

	(void)state;
	assert_int_equal(tpt_vm_set_private(h->vm, 0, 8, false, NULL), 0);
	assert_int_equal(host_fault(h, HOST_SHARED | 0x5000, TPT_PFERR_WRITE), TPT_RET_PF_FIXED);
	assert_int_not_equal(frame(h, TPT_TREE_DIRECT, 0x5000), HOST_GMEM_PFN + 5);
	assert_int_equal(h->lookups, 1);
	assert_int_equal(tpt_gmem_punch_hole(h->gmem, 0, BYTES), 0);
	assert_int_not_equal(frame(h, TPT_TREE_DIRECT, 0x5000), 0);
	host_destroy(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_page_keeps_its_frame_through_conversions),
		cmocka_unit_test(a_hole_takes_the_page_from_whichever_side_has_it),
		cmocka_unit_test(two_copies_stay_two_copies_without_the_flag),
	};

	return host_run_formats("in place", tests);
}
