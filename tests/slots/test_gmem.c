// SPDX-License-Identifier: BSD-2-Clause
/* guest_memfd-like backing: which pages of it stand behind which slot. */
#include "tests/slots/fake_platform.h"

static int create(struct world *w, uint64_t bytes, const struct tpt_gmem_ops *ops)
{
	struct tpt_gmem *gmem;

	return gmem_create(&w->slots, bytes, ops, NULL, &gmem);
}

static void a_gmem_is_a_multiple_of_4k_and_not_empty(void **state)
{
	struct world *w = *state;

	for (uint64_t bytes = 0; bytes < 4096; bytes++)
		assert_int_equal(create(w, bytes, &fake_gmem_ops), -ERR_INVAL);
	assert_logged(w->fake, 0, "0xfff bytes: not a multiple of 4 KiB above 0");
	assert_int_equal(create(w, 4096, &fake_gmem_ops), 0);
	assert_int_equal(create(w, 6144, &fake_gmem_ops), -ERR_INVAL);
}

static void a_gmem_needs_whole_operations(void **state)
{
	struct world *w = *state;
	struct tpt_gmem_ops ops = fake_gmem_ops;

	assert_int_equal(create(w, 4096, NULL), -ERR_INVAL);
	ops.size--;
	assert_int_equal(create(w, 4096, &ops), -ERR_INVAL);
	ops = fake_gmem_ops;
	ops.get_page = NULL;
	assert_int_equal(create(w, 4096, &ops), -ERR_INVAL);
	assert_null(w->slots.gmems);
}

static void without_memory_there_is_no_gmem(void **state)
{
	struct world *w = *state;

	w->fake->fail_at = w->fake->nr + 1;
	assert_int_equal(create(w, 4096, &fake_gmem_ops), -ERR_NOMEM);
	assert_null(w->slots.gmems);
}

static void a_slot_over_a_gmem_knows_its_pages(void **state)
{
	struct world *w = *state;
	struct tpt_gmem *gmem = gmem_make(w, 8 * MIB);
	struct memslot *slot;

	assert_int_equal(slot_set_gmem(w, 0, 7, GIB, 4 * MIB, gmem, 4 * MIB), 0);
	slot = slot_by_id(&w->slots, 0, 7);
	assert_ptr_equal(slot->gmem, gmem);
	assert_int_equal(slot_gmem_index(slot, (GIB >> 12) + 5), 1029);
	assert_ptr_equal(gmem_first_slot(gmem, 0, gmem->npages), slot);
}

static void flag_and_gmem_come_together(void **state)
{
	struct world *w = *state;
	struct tpt_gmem *gmem = gmem_make(w, 8 * MIB);
	struct tpt_memory_region r = {.size = MIB, .gmem = gmem};

	assert_int_equal(region_set(w, &r), -ERR_INVAL);
	assert_logged(w->fake, 0, "a gmem without GUEST_MEMFD");
	r.flags = TPT_MEM_GUEST_MEMFD;
	r.gmem = NULL;
	assert_int_equal(region_set(w, &r), -ERR_INVAL);
	assert_logged(w->fake, 0, "GUEST_MEMFD without a gmem");
	r.gmem = gmem;
	assert_int_equal(region_set(w, &r), 0);
}

static void gmem_and_read_only_exclude_each_other(void **state)
{
	struct world *w = *state;
	struct tpt_memory_region r = {.size = MIB,
				      .flags = TPT_MEM_GUEST_MEMFD | TPT_MEM_READONLY,
				      .gmem = gmem_make(w, 8 * MIB)};

	assert_int_equal(region_set(w, &r), -ERR_INVAL);
	assert_logged(w->fake, 0, "0x6: READONLY with GUEST_MEMFD");
}

static void a_vm_without_private_memory_has_no_gmem_slots(void **state)
{
	struct world *w = *state;
	struct tpt_gmem *gmem = gmem_make(w, 8 * MIB);

	w->slots.private_memory = false;
	assert_int_equal(slot_set_gmem(w, 0, 7, GIB, MIB, gmem, 0), -ERR_INVAL);
	assert_logged(w->fake, 0, "without private memory");
	w->slots.private_memory = true;
}

static void the_range_must_lie_in_the_gmem(void **state)
{
	struct world *w = *state;
	struct tpt_gmem *gmem = gmem_make(w, 8 * MIB);

	assert_int_equal(slot_set_gmem(w, 0, 0, 0, 8 * MIB + 4096, gmem, 0), -ERR_INVAL);
	assert_logged(w->fake, 0, "0x0 + 0x801: beyond the gmem's 0x800 pages");
	assert_int_equal(slot_set_gmem(w, 0, 0, 0, 4096, gmem, 8 * MIB), -ERR_INVAL);
	assert_int_equal(slot_set_gmem(w, 0, 0, 0, 4096, gmem, 9 * MIB), -ERR_INVAL);
	assert_int_equal(slot_set_gmem(w, 0, 0, 0, 4 * MIB, gmem, -4096ull), -ERR_INVAL);
	assert_int_equal(slot_set_gmem(w, 0, 0, 0, MIB, gmem, 4097), -ERR_INVAL);
	assert_logged(w->fake, 0, "0x1001: gmem_offset is not 4 KiB aligned");
	assert_false(gmem_is_bound(gmem));
	assert_int_equal(slot_set_gmem(w, 0, 0, 0, MIB, gmem, 7 * MIB), 0);
}

static void the_gmem_of_another_vm_is_refused(void **state)
{
	struct world *w = *state, *other = world_create();
	struct tpt_gmem *gmem = gmem_make(other, 8 * MIB);

	assert_int_equal(slot_set_gmem(w, 0, 0, 0, MIB, gmem, 0), -ERR_INVAL);
	assert_logged(w->fake, 0, "belongs to another VM");
	assert_int_equal(gmem_destroy(&w->slots, gmem), -ERR_INVAL);
	assert_logged(w->fake, 0, "not one of this VM");
	assert_int_equal(gmem_destroy(&other->slots, gmem), 0);
	world_destroy(other);
}

static void two_slots_never_share_a_page_of_a_gmem(void **state)
{
	struct world *w = *state;
	struct tpt_gmem *gmem = gmem_make(w, 8 * MIB), *second = gmem_make(w, 8 * MIB);

	assert_int_equal(slot_set_gmem(w, 0, 0, 0, 2 * MIB, gmem, 2 * MIB), 0);
	/* From the left, from the right, within, around; in the other address space too. */
	assert_int_equal(slot_set_gmem(w, 0, 1, GIB, MIB + 4096, gmem, MIB), -ERR_EXIST);
	assert_logged(w->fake, 0, "overlap those behind slot 0 of address space 0");
	assert_int_equal(slot_set_gmem(w, 0, 1, GIB, MIB, gmem, 4 * MIB - 4096), -ERR_EXIST);
	assert_int_equal(slot_set_gmem(w, 0, 1, GIB, 4096, gmem, 3 * MIB), -ERR_EXIST);
	assert_int_equal(slot_set_gmem(w, 1, 1, GIB, 8 * MIB, gmem, 0), -ERR_EXIST);
	assert_int_equal(w->slots.set[0].by_gfn.nr + w->slots.set[1].by_gfn.nr, 1);
	assert_int_equal(slot_set_gmem(w, 0, 1, GIB, 2 * MIB, gmem, 0), 0);
	assert_int_equal(slot_set_gmem(w, 1, 2, GIB, 4 * MIB, gmem, 4 * MIB), 0);
	assert_int_equal(slot_set_gmem(w, 0, 3, 2 * GIB, 8 * MIB, second, 0), 0);
}

static void a_deleted_slot_gives_its_pages_back(void **state)
{
	struct world *w = *state;
	struct tpt_gmem *gmem = gmem_make(w, 8 * MIB);

	for (uint32_t id = 0; id < 4; id++)
		assert_int_equal(slot_set_gmem(w, 0, id, id * GIB, 2 * MIB, gmem, id * 2 * MIB), 0);
	assert_int_equal(slot_set_gmem(w, 0, 9, 9 * GIB, 2 * MIB, gmem, 2 * MIB), -ERR_EXIST);
	assert_int_equal(slot_set_gmem(w, 0, 1, GIB, 0, gmem, 0), 0);
	assert_int_equal(slot_set_gmem(w, 0, 9, 9 * GIB, 2 * MIB, gmem, 2 * MIB), 0);
}

static void a_slot_with_a_gmem_can_only_be_deleted(void **state)
{
	struct world *w = *state;
	struct tpt_gmem *gmem = gmem_make(w, 8 * MIB);

	assert_int_equal(slot_set_gmem(w, 0, 0, 0, MIB, gmem, 0), 0);
	assert_int_equal(slot_set_gmem(w, 0, 0, 0, MIB, gmem, 0), -ERR_INVAL);
	assert_int_equal(slot_set_gmem(w, 0, 0, GIB, MIB, gmem, 0), -ERR_INVAL);
	assert_int_equal(slot_set_gmem(w, 0, 0, 0, MIB, gmem, 2 * MIB), -ERR_INVAL);
	assert_int_equal(slot_set(w, 0, 0, 0, 0, MIB, 0x7f0000000000), -ERR_INVAL);
	assert_logged(w->fake, 0, "a slot with a gmem can only be deleted");

	assert_int_equal(slot_set(w, 0, 1, 0, GIB, MIB, 0), 0);
	assert_int_equal(slot_set_gmem(w, 0, 1, GIB, MIB, gmem, 2 * MIB), -ERR_INVAL);
	assert_int_equal(region_set(w,
				    &(struct tpt_memory_region){
					    .slot = 1, .gpa = {GIB}, .size = MIB, .gmem = gmem}),
			 -ERR_INVAL);
	assert_logged(w->fake, 0, "a gmem without GUEST_MEMFD");
	assert_int_equal(slot_set(w, 0, 0, 0, 0, 0, 0), 0);
}

static void a_bound_gmem_is_not_destroyed(void **state)
{
	struct world *w = *state;
	struct tpt_gmem *gmem = gmem_make(w, 8 * MIB), *other = gmem_make(w, 8 * MIB);
	int64_t live = w->fake->live;

	assert_int_equal(slot_set_gmem(w, 0, 5, 0, MIB, gmem, 0), 0);
	assert_int_equal(gmem_destroy(&w->slots, gmem), -ERR_BUSY);
	assert_logged(w->fake, 0, "still behind slot 5");
	assert_int_equal(slot_set_gmem(w, 0, 5, 0, 0, gmem, 0), 0);
	assert_int_equal(gmem_destroy(&w->slots, gmem), 0);
	assert_int_equal(w->fake->live, live - 1);
	assert_ptr_equal(w->slots.gmems, other);
}

static void a_failed_allocation_leaves_the_gmem_unbound(void **state)
{
	struct world *w = *state;
	struct tpt_gmem *gmem = gmem_make(w, 8 * MIB);

	w->fake->fail_at = w->fake->nr + 1;
	assert_int_equal(slot_set_gmem(w, 0, 8, 8 * GIB, MIB, gmem, 0), -ERR_NOMEM);
	assert_false(gmem_is_bound(gmem));
	assert_int_equal(slot_set_gmem(w, 0, 8, 8 * GIB, MIB, gmem, 0), 0);
}

static void pages_of_a_gmem_are_found_in_the_slot_over_them(void **state)
{
	struct world *w = *state;
	struct tpt_gmem *gmem = gmem_make(w, 8 * MIB);
	struct tpt_gfn_range r;
	struct memslot *slot;

	/* Pages 0x200 .. 0x300 at GFN 0x40000. */
	assert_int_equal(slot_set_gmem(w, 0, 0, GIB, MIB, gmem, 2 * MIB), 0);
	slot = slot_by_id(&w->slots, 0, 0);
	assert_false(slot_gmem_range(slot, 0, 0x200, &r));
	assert_false(slot_gmem_range(slot, 0x300, 0x400, &r));
	assert_false(slot_gmem_range(slot, 0x240, 0x240, &r));
	assert_true(slot_gmem_range(slot, 0, 0x201, &r));
	assert_true(r.start == 0x40000 && r.end == 0x40001);
	assert_true(slot_gmem_range(slot, 0x2ff, UINT64_MAX, &r));
	assert_true(r.start == 0x400ff && r.end == 0x40100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		world_test(a_gmem_is_a_multiple_of_4k_and_not_empty),
		world_test(a_gmem_needs_whole_operations),
		world_test(without_memory_there_is_no_gmem),
		world_test(a_slot_over_a_gmem_knows_its_pages),
		world_test(flag_and_gmem_come_together),
		world_test(gmem_and_read_only_exclude_each_other),
		world_test(a_vm_without_private_memory_has_no_gmem_slots),
		world_test(the_range_must_lie_in_the_gmem),
		world_test(the_gmem_of_another_vm_is_refused),
		world_test(two_slots_never_share_a_page_of_a_gmem),
		world_test(a_deleted_slot_gives_its_pages_back),
		world_test(a_slot_with_a_gmem_can_only_be_deleted),
		world_test(a_bound_gmem_is_not_destroyed),
		world_test(a_failed_allocation_leaves_the_gmem_unbound),
		world_test(pages_of_a_gmem_are_found_in_the_slot_over_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
