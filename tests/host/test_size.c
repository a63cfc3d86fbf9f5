// SPDX-License-Identifier: BSD-2-Clause
/*
 * Private pages of 2 MiB by the library, the host half and the module model together: each
 * SEAMCALL that they take, what the guest sees of their size, and its content through every change.
 */
#include "tests/host/real.h"

#define BLOCK (2ull << 20)
#define SMALL 0u /* levels as the guest says them */
#define LARGE 1u

/* A runnable TD of private pages of 2 MiB where they can be. */
static struct real *large(unsigned int nr_vcpus)
{
	struct real *r = real_create_of(nr_vcpus, 0, TPT_LEVEL_2M, false);

	assert_int_equal(tdx_td_finalize(r->td), 0);
	return r;
}

static char *content(struct real *r, uint64_t gpa)
{
	return real_bytes(r, REAL_PRIVATE + gpa);
}

/* Each page of the block says which it is. */
static void fill(struct real *r, uint64_t gpa)
{
	for (uint64_t at = gpa; at < gpa + BLOCK; at += TPT_PAGE_SIZE)
		memset(content(r, at), (int)(1 + at / TPT_PAGE_SIZE % 251), TPT_PAGE_SIZE);
}

static void expect_filled(struct real *r, uint64_t start, uint64_t end)
{
	for (uint64_t at = start; at < end; at++)
		if (*content(r, at) != (char)(1 + at / TPT_PAGE_SIZE % 251))
			fail_msg("gpa %#lx has %d", at, *content(r, at));
}

static void expect_zero(struct real *r, uint64_t start, uint64_t end)
{
	for (uint64_t at = start; at < end; at++)
		if (*content(r, at))
			fail_msg("gpa %#lx was not cleared", at);
}

static int convert(struct real *r, uint64_t start, uint64_t end, bool private_)
{
	return tpt_vm_set_private(r->vm, start >> 12, end >> 12, private_, NULL);
}

static unsigned int state_of(struct real *r, uint64_t gpa, unsigned int level)
{
	struct tdx_sept_view view;

	assert_int_equal(tdx_module_view_sept(r->module, tdx_td_tdr(r->td).a, gpa, level, 0, &view),
			 0);
	return view.state;
}

/* How many of each leaf were answered well since the last time. */
struct delta {
	uint64_t ok[TDX_HOST_LEAVES];
};

static struct delta since(struct real *r, struct delta *before)
{
	struct tdx_host_stats stats;
	struct delta d;

	tdx_host_get_stats(r->host, &stats);
	for (unsigned int i = 0; i < TDX_HOST_LEAVES; i++) {
		d.ok[i] = stats.leaf[i].ok - before->ok[i];
		before->ok[i] = stats.leaf[i].ok;
	}
	return d;
}

/* ACCEPT while it is inside; RAX. */
static uint64_t accept_inside(struct real *r, unsigned int i, uint64_t gpa, unsigned int level)
{
	struct tdx_regs exit;

	if (!r->vcpu[i].inside)
		real_enter(r, i);
	assert_int_equal(real_accept(r, i, gpa, level, &exit), TDX_GUEST);
	return r->vcpu[i].guest.regs.rax;
}

static void test_a_large_page_is_one_call_each(void **state)
{
	struct real *r = large(1);
	struct delta before = {{0}}, d;

	(void)state;
	since(r, &before);
	real_accept_by_fault(r, 0, BLOCK, LARGE);
	d = since(r, &before);
	assert_int_equal(d.ok[TDH_MEM_PAGE_AUG], 1);
	assert_int_equal(d.ok[TDH_MEM_SEPT_ADD], 2);
	assert_int_equal(state_of(r, BLOCK, LARGE), TDX_SEPT_MAPPED);
	fill(r, BLOCK);
	real_audit(r);
	assert_int_equal(convert(r, BLOCK, 2 * BLOCK, false), 0);
	d = since(r, &before);
	assert_int_equal(d.ok[TDH_MEM_RANGE_BLOCK], 1);
	assert_int_equal(d.ok[TDH_MEM_TRACK], 1);
	assert_int_equal(d.ok[TDH_MEM_PAGE_REMOVE], 1);
	assert_int_equal(d.ok[TDH_PHYMEM_PAGE_WBINVD], 512);
	expect_zero(r, BLOCK, 2 * BLOCK);
	/* And again, to the end of the TD: a page and two tables. */
	assert_int_equal(convert(r, BLOCK, 2 * BLOCK, true), 0);
	real_accept_by_fault(r, 0, BLOCK, LARGE);
	real_stop(r);
	real_audit(r);
	since(r, &before);
	assert_int_equal(tpt_vm_teardown(r->vm), 0);
	d = since(r, &before);
	assert_int_equal(d.ok[TDH_PHYMEM_PAGE_RECLAIM], 1 + 2);
	assert_int_equal(d.ok[TDH_MEM_RANGE_BLOCK] + d.ok[TDH_MEM_TRACK], 0);
	real_destroy(r);
}

static void test_a_part_of_a_large_page_goes_and_the_rest_keeps_its_content(void **state)
{
	struct real *r = large(2);
	struct delta before = {{0}}, d;

	(void)state;
	real_accept_by_fault(r, 0, BLOCK, LARGE);
	fill(r, BLOCK);
	/* Inside all the time: kicks alone get it out. */
	real_enter(r, 1);
	since(r, &before);
	assert_int_equal(convert(r, BLOCK + 0x3000, BLOCK + 0x8000, false), 0);
	d = since(r, &before);
	assert_int_equal(d.ok[TDH_MEM_RANGE_BLOCK], 1 + 5);
	assert_int_equal(d.ok[TDH_MEM_TRACK], 2);
	assert_int_equal(r->kicks, 2);
	assert_int_equal(d.ok[TDH_MEM_PAGE_DEMOTE], 1);
	assert_int_equal(d.ok[TDH_MEM_PAGE_REMOVE], 5);
	assert_int_equal(d.ok[TDH_PHYMEM_PAGE_WBINVD], 5);
	assert_int_equal(d.ok[TDH_MEM_PAGE_AUG] + d.ok[TDH_MEM_SEPT_ADD], 0);
	expect_filled(r, BLOCK, BLOCK + 0x3000);
	expect_zero(r, BLOCK + 0x3000, BLOCK + 0x8000);
	expect_filled(r, BLOCK + 0x8000, 2 * BLOCK);
	/* What is left is accepted; a larger ACCEPT doesn't fit, so the guest falls back. */
	assert_int_equal(accept_inside(r, 0, BLOCK, SMALL), TDX_PAGE_ALREADY_ACCEPTED | SMALL);
	assert_int_equal(accept_inside(r, 0, BLOCK, LARGE), TDX_PAGE_SIZE_MISMATCH | LARGE);
	real_stop(r);
	real_audit(r);
	real_destroy(r);
}

static void test_an_accept_of_4k_splits_a_pending_large_page(void **state)
{
	struct real *r = large(1);
	struct tdx_regs exit;
	struct delta before = {{0}}, d;

	(void)state;
	real_enter(r, 0);
	assert_int_equal(real_accept(r, 0, BLOCK, LARGE, &exit), TDX_HOST);
	assert_int_equal(real_handle(r, 0, &exit), TPT_RET_PF_FIXED);
	assert_int_equal(state_of(r, BLOCK, LARGE), TDX_SEPT_PENDING);
	real_enter(r, 0);
	assert_int_equal(real_accept(r, 0, BLOCK + 0x5000, SMALL, &exit), TDX_HOST);
	since(r, &before);
	assert_int_equal(real_handle(r, 0, &exit), TPT_RET_PF_FIXED);
	d = since(r, &before);
	assert_int_equal(d.ok[TDH_MEM_RANGE_BLOCK], 1);
	assert_int_equal(d.ok[TDH_MEM_TRACK], 1);
	assert_int_equal(d.ok[TDH_MEM_PAGE_DEMOTE], 1);
	assert_int_equal(r->kicks, 1);
	/* The children are pending, each the guest's to accept. */
	for (uint64_t i = 0; i < 512; i++)
		assert_int_equal(state_of(r, BLOCK + i * TPT_PAGE_SIZE, SMALL), TDX_SEPT_PENDING);
	for (uint64_t i = 0; i < 512; i++)
		assert_int_equal(accept_inside(r, 0, BLOCK + i * TPT_PAGE_SIZE, SMALL),
				 TDX_SUCCESS);
	real_stop(r);
	real_audit(r);
	real_destroy(r);
}

static void test_an_accept_of_4k_in_an_accepted_large_page_has_been_done(void **state)
{
	struct real *r = large(1);
	struct delta before = {{0}}, d;

	(void)state;
	real_accept_by_fault(r, 0, BLOCK, LARGE);
	fill(r, BLOCK);
	since(r, &before);
	assert_int_equal(accept_inside(r, 0, BLOCK + 0x7000, SMALL),
			 TDX_PAGE_ALREADY_ACCEPTED | LARGE);
	d = since(r, &before);
	for (unsigned int i = 0; i < TDX_HOST_LEAVES; i++)
		assert_int_equal(d.ok[i], 0);
	expect_filled(r, BLOCK, 2 * BLOCK);
	real_destroy(r);
}

static void accept_all_small(struct real *r, uint64_t gpa, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		real_accept_by_fault(r, 0, gpa + i * TPT_PAGE_SIZE, SMALL);
}

static void test_small_pages_are_promoted_before_they_go(void **state)
{
	struct real *r = large(1);
	struct delta before = {{0}}, d;

	(void)state;
	accept_all_small(r, BLOCK, 512);
	since(r, &before);
	r->kicks = 0;
	assert_int_equal(convert(r, BLOCK, 2 * BLOCK, false), 0);
	d = since(r, &before);
	assert_int_equal(d.ok[TDH_MEM_RANGE_BLOCK], 2);
	assert_int_equal(d.ok[TDH_MEM_TRACK], 2);
	assert_int_equal(d.ok[TDH_MEM_PAGE_PROMOTE], 1);
	assert_int_equal(d.ok[TDH_MEM_PAGE_REMOVE], 1);
	/* The table's page comes home too. */
	assert_int_equal(d.ok[TDH_PHYMEM_PAGE_WBINVD], 513);
	assert_int_equal(r->kicks, 2);
	real_audit(r);

	/* Accepted in part: the module sees that they differ, and gives the table back. */
	assert_int_equal(convert(r, BLOCK, 2 * BLOCK, true), 0);
	accept_all_small(r, BLOCK, 511);
	real_stop(r);
	{
		struct tpt_fault f = {.gpa = {2 * BLOCK - TPT_PAGE_SIZE},
				      .error_code = TPT_PFERR_WRITE | TPT_PFERR_PRIVATE};

		real_lp = 0;
		assert_int_equal(tpt_vcpu_fault(r->vcpu[0].tpt, &f), TPT_RET_PF_FIXED);
		real_lp = REAL_HOST_LP;
	}
	since(r, &before);
	assert_int_equal(convert(r, BLOCK, 2 * BLOCK, false), 0);
	d = since(r, &before);
	assert_int_equal(d.ok[TDH_MEM_PAGE_PROMOTE], 0);
	assert_int_equal(real_leaf(r, TDH_MEM_PAGE_PROMOTE).failed, 1);
	assert_int_equal(d.ok[TDH_MEM_RANGE_BLOCK], 1 + 512);
	assert_int_equal(d.ok[TDH_MEM_RANGE_UNBLOCK], 1);
	assert_int_equal(d.ok[TDH_MEM_TRACK], 2);
	assert_int_equal(d.ok[TDH_MEM_PAGE_REMOVE], 512);
	real_audit(r);
	real_destroy(r);
}

/* PAGE.ADD knows small pages only; they are promoted before a removal all the same. */
static void test_the_build_is_of_small_pages(void **state)
{
	struct real *r = real_create_of(1, 0, TPT_LEVEL_2M, false);
	struct delta before = {{0}}, d;

	(void)state;
	memset(real_bytes(r, REAL_SHARED), 's', TPT_PAGE_SIZE);
	for (uint64_t i = 0; i < 512; i++)
		assert_int_equal(tdx_td_add_page(r->td, r->vcpu[0].tpt,
						 tpt_gpa_make(BLOCK + i * 4096),
						 (tpt_hpa){REAL_SHARED}, false),
				 0);
	since(r, &before);
	assert_int_equal(tpt_gmem_punch_hole(r->gmem, BLOCK, BLOCK), 0);
	d = since(r, &before);
	/* No guest has run: nothing is tracked. */
	assert_int_equal(d.ok[TDH_MEM_TRACK], 0);
	assert_int_equal(d.ok[TDH_MEM_PAGE_PROMOTE], 1);
	assert_int_equal(d.ok[TDH_MEM_PAGE_REMOVE], 1);
	assert_int_equal(tdx_td_finalize(r->td), 0);
	real_audit(r);
	real_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_large_page_is_one_call_each),
		cmocka_unit_test(test_a_part_of_a_large_page_goes_and_the_rest_keeps_its_content),
		cmocka_unit_test(test_an_accept_of_4k_splits_a_pending_large_page),
		cmocka_unit_test(test_an_accept_of_4k_in_an_accepted_large_page_has_been_done),
		cmocka_unit_test(test_small_pages_are_promoted_before_they_go),
		cmocka_unit_test(test_the_build_is_of_small_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
