// SPDX-License-Identifier: BSD-2-Clause
/* The library over the host half over the module model: a TD's life, and all its pages home again.
 */
#include "tests/host/real.h"

#include <openssl/evp.h>

#define SOURCE (REAL_SHARED + (64ull << 20)) /* shared memory that pages are added from */

/* MRTD as the ABI defines it: a block for the page, one and the content for each 256 bytes. */
static void expect_page(EVP_MD_CTX *sha, uint64_t gpa, const char *content)
{
	char block[128] = "MEM.PAGE.ADD";

	memcpy(block + 16, &gpa, sizeof(gpa));
	EVP_DigestUpdate(sha, block, sizeof(block));
	for (unsigned int at = 0; content && at < TPT_PAGE_SIZE; at += 256) {
		uint64_t chunk = gpa + at;

		memset(block, 0, sizeof(block));
		memcpy(block, "MR.EXTEND", 9);
		memcpy(block + 16, &chunk, sizeof(chunk));
		EVP_DigestUpdate(sha, block, sizeof(block));
		EVP_DigestUpdate(sha, content + at, 256);
	}
}

static int add(struct real *r, uint64_t gpa, bool measure)
{
	return tdx_td_add_page(r->td, r->vcpu[0].tpt, tpt_gpa_make(gpa), (tpt_hpa){SOURCE},
			       measure);
}

static void test_added_pages_are_measured_in_call_order(void **state)
{
	struct real *r = real_create(1, 0);
	EVP_MD_CTX *sha = EVP_MD_CTX_new();
	uint8_t expected[48], mrtd[48];
	char *source = real_bytes(r, SOURCE);

	(void)state;
	EVP_DigestInit_ex(sha, EVP_sha384(), NULL);
	for (uint64_t i = 0; i < 8; i++) {
		uint64_t gpa = (7 - i) * 0x201000;

		memset(source, 'a' + (int)i, TPT_PAGE_SIZE);
		assert_int_equal(add(r, gpa, i != 3), 0);
		expect_page(sha, gpa, i != 3 ? source : NULL);
		assert_memory_equal(real_bytes(r, REAL_PRIVATE + gpa), source, TPT_PAGE_SIZE);
	}
	assert_int_equal(add(r, 0x201000, true), -EEXIST);
	assert_int_equal(real_leaf(r, TDH_MEM_PAGE_ADD).ok, 8);
	assert_int_equal(real_leaf(r, TDH_MR_EXTEND).ok, 7 * 16);
	assert_int_equal(real_leaf(r, TDH_MEM_PAGE_AUG).ok, 0);
	/* Two levels above all, and one table for each 2 MiB touched. */
	assert_int_equal(real_leaf(r, TDH_MEM_SEPT_ADD).ok, 2 + 8);
	assert_int_equal(tdx_td_finalize(r->td), 0);
	EVP_DigestFinal_ex(sha, expected, NULL);
	EVP_MD_CTX_free(sha);
	assert_int_equal(tdx_module_view_mrtd(r->module, tdx_td_tdr(r->td).a, mrtd), 0);
	assert_memory_equal(mrtd, expected, sizeof(mrtd));
	real_audit(r);
	real_destroy(r);
}

static void test_nothing_is_mapped_blindly_before_the_end_of_the_build(void **state)
{
	struct real *r = real_create(1, 0);
	struct tpt_fault fault = {
		.gpa = tpt_gpa_make(0x5000),
		.error_code = TPT_PFERR_WRITE | TPT_PFERR_PRIVATE,
		.prefetch = true,
	};

	(void)state;
	assert_int_equal(tpt_vcpu_fault(r->vcpu[0].tpt, &fault), -EPERM);
	assert_false(tpt_vm_is_dead(r->vm));
	assert_int_equal(add(r, 0x5000, false), 0);
	assert_int_equal(add(r, 0x5001, false), -EINVAL);
	assert_int_equal(add(r, REAL_SHARED_BIT, false), -EINVAL);
	assert_true(add(r, REAL_GUEST, false) < 0);
	real_audit(r);
	real_destroy(r);
}

static uint64_t map_others_meanwhile(struct real *r, const struct tdx_regs *regs)
{
	const tpt_pfn pfn = tpt_pfn_make(REAL_PRIVATE >> 12);

	if (regs->rax != TDH_MEM_PAGE_ADD)
		return TDX_SUCCESS;
	r->spy = NULL;
	assert_int_equal(tdx_external_ops.map(r->td, 6, TPT_LEVEL_4K, pfn), -EPERM);
	real_lp = 1;
	assert_int_equal(tdx_external_ops.map(r->td, 5, TPT_LEVEL_4K, pfn), -EPERM);
	assert_int_equal(add(r, 0x6000, false), -EBUSY);
	real_lp = REAL_HOST_LP;
	return TDX_SUCCESS;
}

static void test_only_the_page_being_added_gets_its_content(void **state)
{
	struct real *r = real_create(1, 0);

	(void)state;
	r->spy = map_others_meanwhile;
	assert_int_equal(add(r, 0x5000, true), 0);
	assert_null(r->spy);
	assert_int_equal(real_leaf(r, TDH_MEM_PAGE_ADD).ok, 1);
	real_audit(r);
	real_destroy(r);
}

static uint64_t fail_ninth_extend(struct real *r, const struct tdx_regs *regs)
{
	if (regs->rax == TDH_MR_EXTEND && real_leaf(r, TDH_MR_EXTEND).ok == 8)
		return TDX_SYS_SHUTDOWN;
	return TDX_SUCCESS;
}

static void test_a_td_measured_in_part_is_never_finalised(void **state)
{
	struct real *r = real_create(1, 0);

	(void)state;
	r->spy = fail_ninth_extend;
	assert_int_equal(add(r, 0x5000, true), -ENODEV);
	r->spy = NULL;
	assert_int_equal(real_leaf(r, TDH_MEM_PAGE_ADD).ok, 1);
	assert_int_equal(tdx_td_finalize(r->td), -EPERM);
	assert_int_equal(real_leaf(r, TDH_MR_FINALIZE).ok, 0);
	real_destroy(r);
}

static void test_a_page_comes_by_fault_and_is_accepted(void **state)
{
	struct real *r = real_create(1, 0);
	struct tdx_sept_view view;

	(void)state;
	assert_int_equal(tdx_td_finalize(r->td), 0);
	memset(real_bytes(r, REAL_PRIVATE + 0x300000), 'x', TPT_PAGE_SIZE);
	real_accept_by_fault(r, 0, 0x300000, 0);
	assert_int_equal(
		tdx_module_view_sept(r->module, tdx_td_tdr(r->td).a, 0x300000, 0, 0, &view), 0);
	assert_int_equal(view.state, TDX_SEPT_MAPPED);
	/* ACCEPT zeroes. */
	assert_int_equal(*(char *)real_bytes(r, REAL_PRIVATE + 0x300000), 0);
	assert_int_equal(real_leaf(r, TDH_MEM_PAGE_AUG).ok, 1);
	real_stop(r);
	real_audit(r);
	real_destroy(r);
}

static void test_conversion_costs_the_minimum_of_calls(void **state)
{
	struct real *r = real_create(2, 0);
	struct tdx_host_stats before, after;
	tpt_gfn done;

	(void)state;
	assert_int_equal(tdx_td_finalize(r->td), 0);
	for (uint64_t i = 0; i < 20; i++)
		real_accept_by_fault(r, 0, 0x400000 + i * TPT_PAGE_SIZE, 0);
	/* Inside all the time: the track's kick alone gets it out. */
	real_enter(r, 1);
	memset(real_bytes(r, REAL_PRIVATE + 0x402000), 's', TPT_PAGE_SIZE);
	tdx_host_get_stats(r->host, &before);
	assert_int_equal(tpt_vm_set_private(r->vm, 0x400, 0x410, false, &done), 0);
	assert_int_equal(done, 0x410);
	tdx_host_get_stats(r->host, &after);
	assert_int_equal(after.calls - before.calls, 16 + 1 + 16 + 16);
	assert_int_equal(real_leaf(r, TDH_MEM_RANGE_BLOCK).ok, 16);
	assert_int_equal(real_leaf(r, TDH_MEM_TRACK).ok, 1);
	assert_int_equal(real_leaf(r, TDH_MEM_PAGE_REMOVE).ok, 16);
	assert_int_equal(real_leaf(r, TDH_PHYMEM_PAGE_WBINVD).ok, 16);
	assert_int_equal(r->kicks, 1);
	/* No secret comes out. */
	for (uint64_t i = 0; i < 16 * TPT_PAGE_SIZE; i++)
		assert_int_equal(((char *)real_bytes(r, REAL_PRIVATE + 0x400000))[i], 0);
	real_audit(r);
	real_enter(r, 1);
	assert_int_equal(tpt_vm_set_private(r->vm, 0x400, 0x410, true, NULL), 0);
	real_accept_by_fault(r, 1, 0x400000, 0);
	real_stop(r);
	real_audit(r);
	real_destroy(r);
}

static void test_an_accept_caps_the_fault(void **state)
{
	struct real *r = real_create(1, 0);
	struct tdx_regs exit;
	struct tpt_fault fault;

	(void)state;
	assert_int_equal(tdx_td_finalize(r->td), 0);
	for (unsigned int level = 0; level < 2; level++) {
		real_enter(r, 0);
		assert_int_equal(real_accept(r, 0, 0x800000, level, &exit), TDX_HOST);
		assert_int_equal(tdx_exit_fault(r->td, &exit, &fault), 0);
		assert_int_equal(fault.max_level, level + 1);
	}
	real_destroy(r);
}

static void test_a_touch_before_accept_is_the_guests_fault(void **state)
{
	struct real *r = real_create(1, TDX_ATTR_SEPT_VE_DISABLE);
	static const struct tdx_vmexit touch = {
		.reason = TDX_EXIT_EPT_VIOLATION, .qualification = 1, .gpa = 0x400000};
	struct tdx_regs exit;
	struct tpt_fault fault;

	(void)state;
	assert_int_equal(tdx_td_finalize(r->td), 0);
	real_enter(r, 0);
	assert_int_equal(tdx_module_vmexit(r->module, 0, &touch, &r->vcpu[0].guest, &exit),
			 TDX_HOST);
	r->vcpu[0].inside = false;
	assert_int_equal(real_handle(r, 0, &exit), TPT_RET_PF_FIXED);
	real_enter(r, 0);
	assert_int_equal(tdx_module_vmexit(r->module, 0, &touch, &r->vcpu[0].guest, &exit),
			 TDX_HOST);
	r->vcpu[0].inside = false;
	assert_int_equal(tdx_exit_fault(r->td, &exit, &fault), -EACCES);
	real_destroy(r);
}

static void test_shared_accesses_go_to_the_direct_tree(void **state)
{
	struct real *r = real_create(1, 0);
	struct tdx_vmexit touch = {.reason = TDX_EXIT_EPT_VIOLATION,
				   .qualification = 2,
				   .gpa = REAL_SHARED_BIT | 0x400000};
	struct tdx_regs exit;
	struct tpt_fault fault;
	uint64_t calls;

	(void)state;
	assert_int_equal(tdx_td_finalize(r->td), 0);
	assert_int_equal(tpt_vm_set_private(r->vm, 0x400, 0x401, false, NULL), 0);
	real_enter(r, 0);
	assert_int_equal(tdx_module_vmexit(r->module, 0, &touch, &r->vcpu[0].guest, &exit),
			 TDX_HOST);
	calls = real_leaf(r, TDH_MEM_SEPT_ADD).ok;
	assert_int_equal(real_handle(r, 0, &exit), TPT_RET_PF_FIXED);
	assert_int_equal(real_leaf(r, TDH_MEM_SEPT_ADD).ok, calls);
	real_enter(r, 0);
	touch.qualification = 4;
	assert_int_equal(tdx_module_vmexit(r->module, 0, &touch, &r->vcpu[0].guest, &exit),
			 TDX_HOST);
	r->vcpu[0].inside = false;
	assert_int_equal(tdx_exit_fault(r->td, &exit, &fault), -EINVAL);
	real_audit(r);
	real_destroy(r);
}

static void test_a_busy_tree_lock_ends_in_retry(void **state)
{
	struct real *r = real_create(1, 0);
	uint64_t tdr = tdx_td_tdr(r->td).a;
	struct tdx_regs exit;

	(void)state;
	assert_int_equal(tdx_td_finalize(r->td), 0);
	real_enter(r, 0);
	assert_int_equal(real_accept(r, 0, 0x400000, 0, &exit), TDX_HOST);
	assert_int_equal(tdx_module_force(r->module, TDX_FORCE_SEPT_LOCK, tdr, 1), 0);
	assert_int_equal(real_handle(r, 0, &exit), TPT_RET_PF_RETRY);
	assert_int_equal(real_leaf(r, TDH_MEM_SEPT_ADD).busy, 1);
	assert_int_equal(tdx_module_force(r->module, TDX_FORCE_SEPT_LOCK, tdr, 0), 0);
	assert_int_equal(real_handle(r, 0, &exit), TPT_RET_PF_FIXED);
	/* Now a removal that finds it taken to the end: nothing is lost, and it can be done again.
	 */
	assert_int_equal(tdx_module_force(r->module, TDX_FORCE_SEPT_LOCK, tdr, 1), 0);
	assert_int_equal(tpt_vm_set_private(r->vm, 0x400, 0x401, false, NULL), -EBUSY);
	assert_false(tpt_vm_is_dead(r->vm));
	assert_int_equal(tdx_module_force(r->module, TDX_FORCE_SEPT_LOCK, tdr, 0), 0);
	assert_int_equal(tpt_vm_set_private(r->vm, 0x400, 0x401, false, NULL), 0);
	assert_int_equal(real_leaf(r, TDH_MEM_PAGE_REMOVE).ok, 1);
	real_audit(r);
	real_destroy(r);
}

static void test_destroy_before_teardown_waits_for_it(void **state)
{
	struct real *r = real_create(1, 0);

	(void)state;
	assert_int_equal(add(r, 0x1000, true), 0);
	assert_int_equal(tdx_td_destroy(r->td), -EBUSY);
	assert_int_equal(tdx_td_state(r->td), TDX_TD_RELEASED);
	real_destroy(r);
}

static void test_a_key_can_be_used_again(void **state)
{
	struct real *r = real_create(1, 0);
	const struct tdx_td_config config = {
		.size = sizeof(config), .hkid = REAL_HKID, .max_vcpus = 1, .levels = 4};
	struct tdx_td *second;

	(void)state;
	assert_int_equal(tdx_td_create(r->host, &config, &second), -EEXIST);
	assert_int_equal(tpt_vm_teardown(r->vm), 0);
	assert_int_equal(tdx_td_create(r->host, &config, &second), 0);
	assert_int_equal(tdx_td_destroy(second), 0);
	tdx_td_free(second);
	real_destroy(r);
}

static void test_more_vcpus_than_allowed(void **state)
{
	struct real *r = real_create(REAL_MAX_VCPUS, 0);
	struct tdx_vcpu *vcpu;

	(void)state;
	assert_int_equal(tdx_vcpu_create(r->td, 0, &vcpu), -ENOSPC);
	assert_non_null(strstr(r->line, "TDX_MAX_VCPUS_EXCEEDED"));
	real_destroy(r);
}

/* -- Side by side -- */

struct worker {
	pthread_t thread;
	struct real *r;
	unsigned int i;
	uint64_t fixed;
};

#define WORKER_PAGES 600

/* Each on its own LP; neighbours share tables, so links race too. */
static void *fault_pages(void *arg)
{
	struct worker *w = arg;

	real_lp = w->i;
	for (uint64_t n = 0; n < WORKER_PAGES; n++) {
		uint64_t gfn = n * REAL_MAX_VCPUS + w->i;
		int ret;

		do {
			struct tpt_fault fault = {
				.gpa = tpt_gpa_make(gfn << 12),
				.error_code = TPT_PFERR_WRITE | TPT_PFERR_PRIVATE,
			};

			ret = tpt_vcpu_fault(w->r->vcpu[w->i].tpt, &fault);
		} while (ret == TPT_RET_PF_RETRY);
		w->fixed += ret == TPT_RET_PF_FIXED;
	}
	return NULL;
}

static void test_vcpus_link_and_map_side_by_side(void **state)
{
	struct real *r = real_create(REAL_MAX_VCPUS, 0);
	struct worker w[REAL_MAX_VCPUS];
	uint64_t pages = REAL_MAX_VCPUS * WORKER_PAGES;

	(void)state;
	assert_int_equal(tdx_td_finalize(r->td), 0);
	for (unsigned int i = 0; i < REAL_MAX_VCPUS; i++) {
		w[i] = (struct worker){.r = r, .i = i};
		assert_int_equal(pthread_create(&w[i].thread, NULL, fault_pages, &w[i]), 0);
	}
	for (unsigned int i = 0; i < REAL_MAX_VCPUS; i++) {
		pthread_join(w[i].thread, NULL);
		assert_int_equal(w[i].fixed, WORKER_PAGES);
	}
	assert_int_equal(real_leaf(r, TDH_MEM_PAGE_AUG).ok, pages);
	assert_int_equal(real_leaf(r, TDH_MEM_SEPT_ADD).ok, 2 + (pages + 511) / 512);
	assert_int_equal(real_leaf(r, TDH_MEM_PAGE_AUG).failed, 0);
	real_audit(r);
	real_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_added_pages_are_measured_in_call_order),
		cmocka_unit_test(test_nothing_is_mapped_blindly_before_the_end_of_the_build),
		cmocka_unit_test(test_only_the_page_being_added_gets_its_content),
		cmocka_unit_test(test_a_td_measured_in_part_is_never_finalised),
		cmocka_unit_test(test_a_page_comes_by_fault_and_is_accepted),
		cmocka_unit_test(test_conversion_costs_the_minimum_of_calls),
		cmocka_unit_test(test_an_accept_caps_the_fault),
		cmocka_unit_test(test_a_touch_before_accept_is_the_guests_fault),
		cmocka_unit_test(test_shared_accesses_go_to_the_direct_tree),
		cmocka_unit_test(test_a_busy_tree_lock_ends_in_retry),
		cmocka_unit_test(test_destroy_before_teardown_waits_for_it),
		cmocka_unit_test(test_a_key_can_be_used_again),
		cmocka_unit_test(test_more_vcpus_than_allowed),
		cmocka_unit_test(test_vcpus_link_and_map_side_by_side),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
