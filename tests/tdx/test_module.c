// SPDX-License-Identifier: BSD-2-Clause
/* What the recordings can't show: content, measurement, the processor's port, keys, odd machines.
 */
#include "tests/tdx/lab.h"

#include <errno.h>
#include <openssl/evp.h>

static void enter(struct lab *lab, unsigned int lp, unsigned int vcpu)
{
	struct tdx_regs regs = {.rax = TDH_VP_ENTER, .rcx = LAB_VCPU(vcpu)};

	assert_int_equal(tdx_module_seamcall(lab->module, lp, &regs), TDX_GUEST);
}

static void accept_page(struct lab *lab, unsigned int lp, uint64_t page_info)
{
	struct tdx_guest guest;
	struct tdx_regs host;

	assert_int_equal(lab_tdcall(lab, lp, TDG_MEM_PAGE_ACCEPT, page_info, &guest, &host),
			 TDX_GUEST);
	assert_int_equal(guest.regs.rax, TDX_SUCCESS);
}

static void bad_machines_are_refused_with_the_rule(void **state)
{
	struct lab lab = {0};
	struct tdx_module_config good = lab_config(&lab), bad;
	char why[128];

	(void)state;
#define REFUSED(change, rule)                                           \
	do {                                                            \
		bad = good;                                             \
		change;                                                 \
		errno = 0;                                              \
		assert_null(tdx_module_create(&bad, why, sizeof(why))); \
		assert_int_equal(errno, EINVAL);                        \
		assert_non_null(strstr(why, rule));                     \
	} while (0)
	REFUSED(bad.nr_lps = 0, "nr_lps");
	REFUSED(bad.nr_packages = 9, "nr_packages");
	REFUSED(bad.nr_hkid_bits = 7, "nr_hkid_bits");
	REFUSED(bad.private_hkid_max = 64, "private_hkid_max");
	REFUSED(bad.global_hkid = 31, "global_hkid");
	REFUSED(bad.page = NULL, "page");
	REFUSED(bad.nr_tdmrs = 65, "nr_tdmrs");
	REFUSED(bad.tdmr[0].base += 0x1000, "TDMR base");
	REFUSED(bad.tdmr[0].size = 0, "TDMR size");
	REFUSED(bad.tdmr[0].size = 1ull << 46, "key-id bits");
	REFUSED((bad.nr_tdmrs = 2, bad.tdmr[1] = bad.tdmr[0]), "overlap");
	REFUSED((bad.tdmr[0].nr_reserved = 1,
		 bad.tdmr[0].reserved[0] = (struct tdx_reserved_area){0x1000, 0x1000}),
		"reserved area");
}

static void *no_memory(void *ctx, size_t size)
{
	unsigned int *left = ctx;

	return (*left)-- ? calloc(1, size) : (*left = 0, NULL);
}

static void plain_free(void *ctx, void *memory)
{
	(void)ctx;
	free(memory);
}

static void no_memory_is_an_error_at_every_point(void **state)
{
	struct lab lab = {0};
	struct tdx_module_config config = lab_config(&lab);
	struct tdx_module *module = NULL;
	unsigned int tries = 0;

	(void)state;
	config.alloc = no_memory;
	config.free = plain_free;
	for (; !module; tries++) {
		unsigned int left = tries;

		config.ctx = &left;
		errno = 0;
		module = tdx_module_create(&config, NULL, 0);
		if (!module)
			assert_int_equal(errno, ENOMEM);
	}
	assert_true(tries > 4);
	tdx_module_destroy(module);
}

static void measured_build_gives_the_documented_digest(void **state)
{
	struct lab *lab = lab_create();
	EVP_MD_CTX *sha = EVP_MD_CTX_new();
	uint8_t block[128] = "MEM.PAGE.ADD", expected[48], mrtd[48];
	uint64_t gpa = 0x3000;

	(void)state;
	lab_init_tdmr(lab);
	lab_init_td(lab, 0);
	lab_add_tables(lab);
	lab_add_vcpu(lab, 0);
	for (unsigned int i = 0; i < LAB_PAGE; i++)
		lab->low[LAB_SOURCE + i] = (char)(i * 7);
	EVP_DigestInit_ex(sha, EVP_sha384(), NULL);
	memcpy(block + 16, &gpa, 8);
	EVP_DigestUpdate(sha, block, sizeof(block));
	memset(block, 0, sizeof(block));
	memcpy(block, "MR.EXTEND", 9);
	gpa = 0x3100;
	memcpy(block + 16, &gpa, 8);
	EVP_DigestUpdate(sha, block, sizeof(block));
	EVP_DigestUpdate(sha, lab->low + LAB_SOURCE + 0x100, 256);
	EVP_DigestFinal_ex(sha, expected, NULL);
	EVP_MD_CTX_free(sha);

	struct tdx_regs regs = {.rcx = 0x3000, .rdx = LAB_TDR, .r8 = LAB_FREE, .r9 = LAB_SOURCE};
	assert_int_equal(lab_seamcall(lab, 0, TDH_MEM_PAGE_ADD, &regs), TDX_SUCCESS);
	assert_memory_equal(lab_page(lab, LAB_FREE), lab->low + LAB_SOURCE, LAB_PAGE);
	lab_ok(lab, TDH_MR_EXTEND, 0x3100, LAB_TDR, 0);
	lab_ok(lab, TDH_MR_FINALIZE, LAB_TDR, 0, 0);
	assert_int_equal(tdx_module_view_mrtd(lab->module, LAB_TDR, mrtd), 0);
	assert_memory_equal(mrtd, expected, sizeof(mrtd));
	lab_destroy(lab);
}

static void accepted_pages_are_zero_and_moves_keep_content(void **state)
{
	struct lab *lab = lab_create_running();
	char *page = lab_page(lab, LAB_FREE), *moved = lab_page(lab, LAB_FREE + LAB_PAGE);
	static const char zero[LAB_PAGE];

	(void)state;
	memset(page, 0xaa, LAB_PAGE);
	lab_ok(lab, TDH_MEM_PAGE_AUG, 0, LAB_TDR, LAB_FREE);
	enter(lab, 1, 0);
	accept_page(lab, 1, 0);
	assert_memory_equal(page, zero, LAB_PAGE);
	memset(page, 0x55, LAB_PAGE);
	memset(moved, 0xcc, LAB_PAGE);
	lab_kick(lab, 1);
	lab_ok(lab, TDH_MEM_RANGE_BLOCK, 0, LAB_TDR, 0);
	lab_ok(lab, TDH_MEM_TRACK, LAB_TDR, 0, 0);
	lab_ok(lab, TDH_MEM_PAGE_RELOCATE, 0, LAB_TDR, LAB_FREE + LAB_PAGE);
	assert_memory_equal(moved, page, LAB_PAGE);
	lab_destroy(lab);
}

static void large_accept_goes_on_where_it_was_interrupted(void **state)
{
	struct lab *lab = lab_create_running();
	uint64_t range = LAB_TDMR + 0x400000;
	struct tdx_guest guest;
	struct tdx_regs host;
	unsigned int turns = 0;

	(void)state;
	memset(lab_page(lab, range), 0xaa, 0x200000);
	lab_ok(lab, TDH_MEM_PAGE_AUG, 0x200001, LAB_TDR, range);
	enter(lab, 1, 0);
	do {
		atomic_store(&lab->intr_polls, 99);
		lab_tdcall(lab, 1, TDG_MEM_PAGE_ACCEPT, 0x200001, &guest, &host);
		turns++;
	} while (guest.rip == 0x1000);
	assert_int_equal(guest.regs.rax, TDX_SUCCESS);
	assert_int_equal(turns, 6); /* 100 chunks a turn, 512 in all */
	for (unsigned int i = 0; i < 0x200000; i++)
		assert_int_equal(((char *)lab_page(lab, range))[i], 0);
	lab_destroy(lab);
}

static void processor_port_shows_the_running_td(void **state)
{
	struct lab *lab = lab_create_running();
	struct tdx_port_walk walk;
	struct tdx_port_td td;
	struct tdx_regs regs = {
		.rcx = LAB_VCPU(0), .rdx = TDX_MD_SHARED_EPT_POINTER, .r8 = 0x7000, .r9 = ~0ull};

	(void)state;
	assert_false(tdx_module_port.td_entry(lab->module, 1, &td));
	assert_int_equal(tdx_module_port.private_walk(lab->module, 1, 0, &walk), -ENOENT);
	assert_int_equal(lab_seamcall(lab, 1, TDH_VP_WR, &regs), TDX_SUCCESS);
	lab_ok(lab, TDH_MEM_PAGE_AUG, 0, LAB_TDR, LAB_FREE);
	enter(lab, 1, 0);
	assert_true(tdx_module_port.td_entry(lab->module, 1, &td));
	assert_int_equal(td.tdr, LAB_TDR);
	assert_int_equal(td.vcpu, LAB_VCPU(0));
	assert_int_equal(td.shared_eptp, 0x7000);
	assert_int_equal(td.hkid, LAB_HKID);
	assert_int_equal(td.shared_bit, 47);
	assert_int_equal(td.eptp_levels, 4);
	assert_int_equal(tdx_module_port.private_walk(lab->module, 1, 0x123, &walk), 0);
	assert_false(walk.present);
	accept_page(lab, 1, 0);
	assert_int_equal(tdx_module_port.private_walk(lab->module, 1, 0x123, &walk), 0);
	assert_true(walk.present);
	assert_int_equal(walk.level, 0);
	assert_int_equal(walk.rwx, 7);
	assert_int_equal(walk.hpa, LAB_FREE);
	assert_int_equal(walk.nr_tables, 4);
	assert_int_equal(walk.tables[3], LAB_TABLES + 2 * LAB_PAGE);
	lab_destroy(lab);
}

static void shared_ept_pointer_is_checked(void **state)
{
	struct lab *lab = lab_create_running();
	struct tdx_regs regs = {.rcx = LAB_VCPU(0),
				.rdx = TDX_MD_SHARED_EPT_POINTER,
				.r8 = 40ull << 46 | 0x7000,
				.r9 = ~0ull};

	(void)state;
	assert_int_equal(lab_seamcall(lab, 1, TDH_VP_WR, &regs),
			 TDX_METADATA_FIELD_VALUE_NOT_VALID);
	regs = (struct tdx_regs){.rcx = LAB_VCPU(0), .rdx = 0x1234, .r9 = ~0ull};
	assert_int_equal(lab_seamcall(lab, 1, TDH_VP_WR, &regs),
			 TDX_METADATA_FIELD_ID_INCORRECT | TDX_OPERAND_RDX);
	regs = (struct tdx_regs){.rcx = LAB_VCPU(0), .rdx = TDX_MD_SHARED_EPT_POINTER};
	assert_int_equal(lab_seamcall(lab, 2, TDH_VP_RD, &regs), TDX_VCPU_ASSOCIATED);
	lab_destroy(lab);
}

/* The vCPU was here before, in an older epoch: its translations are stale. */
static void a_new_epoch_costs_one_invept_on_entry(void **state)
{
	struct lab *lab = lab_create_running();
	unsigned int before;

	(void)state;
	enter(lab, 1, 0);
	lab_kick(lab, 1);
	before = lab->invepts;
	enter(lab, 1, 0);
	assert_int_equal(lab->invepts, before);
	lab_kick(lab, 1);
	lab_ok(lab, TDH_MEM_TRACK, LAB_TDR, 0, 0);
	enter(lab, 1, 0);
	assert_int_equal(lab->invepts, before + 1);
	assert_int_equal(lab->last_invept, LAB_TDR);
	lab_kick(lab, 1);
	lab_call(lab, 1, TDH_VP_FLUSH, LAB_VCPU(0), 0, 0);
	assert_int_equal(lab->invepts, before + 2);
	lab_destroy(lab);
}

static void vmcall_passes_the_masked_registers_both_ways(void **state)
{
	struct lab *lab = lab_create_running();
	struct tdx_guest guest = {.rip = 0x1000};
	struct tdx_regs host, regs;

	(void)state;
	enter(lab, 1, 0);
	guest.regs = (struct tdx_regs){.rax = TDG_VP_VMCALL,
				       .rcx = 0x3c00,
				       .rbx = 9,
				       .r10 = 1,
				       .r11 = 2,
				       .r12 = 3,
				       .r14 = 5};
	assert_int_equal(tdx_module_tdcall(lab->module, 1, &guest, &host), TDX_HOST);
	assert_int_equal(host.rax, TDX_EXIT_VMCALL);
	assert_int_equal(host.r12, 3);
	assert_int_equal(host.rbx, 0);
	assert_int_equal(host.r14, 0);
	regs = (struct tdx_regs){
		.rax = TDH_VP_ENTER, .rcx = LAB_VCPU(0), .rbx = 7, .r10 = 8, .r11 = 6};
	assert_int_equal(tdx_module_seamcall(lab->module, 1, &regs), TDX_GUEST);
	assert_int_equal(tdx_module_guest_state(lab->module, 1, &guest), 0);
	assert_int_equal(guest.regs.rax, 0);
	assert_int_equal(guest.regs.r10, 8);
	assert_int_equal(guest.regs.r11, 6);
	assert_int_equal(guest.regs.rbx, 9);
	assert_int_equal(guest.regs.r14, 5);
	assert_int_equal(guest.rip, 0x1000 + TDX_TDCALL_LENGTH);
	lab_destroy(lab);
}

static void each_package_has_its_key_and_write_back(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));
	struct tdx_module_config config = lab_config(lab);

	(void)state;
	config.nr_packages = 2;
	config.wb_blocks = 3;
	lab_create_with(&config, lab);
	lab_init_tdmr(lab);
	lab_ok(lab, TDH_MNG_CREATE, LAB_TDR, LAB_HKID, 0);
	lab_ok(lab, TDH_MNG_KEY_CONFIG, LAB_TDR, 0, 0);
	assert_int_equal(lab_call(lab, 2, TDH_MNG_KEY_CONFIG, LAB_TDR, 0, 0), TDX_KEY_CONFIGURED);
	assert_int_equal(lab_call(lab, 0, TDH_MNG_ADDCX, LAB_TDCX, LAB_TDR, 0),
			 TDX_TD_KEYS_NOT_CONFIGURED);
	assert_int_equal(lab_call(lab, 1, TDH_MNG_KEY_CONFIG, LAB_TDR, 0, 0), TDX_SUCCESS);
	lab_ok(lab, TDH_MNG_VPFLUSHDONE, LAB_TDR, 0, 0);
	atomic_store(&lab->intr_polls, 0);
	assert_int_equal(lab_call(lab, 0, TDH_PHYMEM_CACHE_WB, 0, 0, 0), TDX_INTERRUPTED_RESUMABLE);
	atomic_store(&lab->intr_polls, -1);
	lab_ok(lab, TDH_PHYMEM_CACHE_WB, 1, 0, 0);
	assert_int_equal(lab_call(lab, 0, TDH_PHYMEM_CACHE_WB, 1, 0, 0), TDX_WBCACHE_RESUME_ERROR);
	assert_int_equal(lab_call(lab, 0, TDH_MNG_KEY_FREEID, LAB_TDR, 0, 0),
			 TDX_WBCACHE_NOT_COMPLETE);
	assert_int_equal(lab_call(lab, 1, TDH_PHYMEM_CACHE_WB, 0, 0, 0), TDX_SUCCESS);
	lab_ok(lab, TDH_MNG_KEY_FREEID, LAB_TDR, 0, 0);
	lab_ok(lab, TDH_PHYMEM_PAGE_RECLAIM, LAB_TDR, 0, 0);
	lab_ok(lab, TDH_MNG_CREATE, LAB_TDR, LAB_HKID, 0);
	lab_destroy(lab);
}

static void a_clock_that_went_back_is_noticed(void **state)
{
	struct lab *lab = lab_create_running();

	(void)state;
	atomic_store(&lab->tsc, 1000000);
	enter(lab, 1, 0);
	lab_kick(lab, 1);
	atomic_store(&lab->tsc, 5);
	assert_int_equal(lab_call(lab, 1, TDH_VP_ENTER, LAB_VCPU(0), 0, 0), TDX_TSC_ROLLBACK);
	lab_destroy(lab);
}

static void a_page_without_memory_is_no_table(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));
	struct tdx_module_config config = lab_config(lab);

	(void)state;
	config.tdmr[1] = (struct tdx_tdmr_config){.base = 0x200000000, .size = LAB_SIZE};
	config.nr_tdmrs = 2;
	lab_create_with(&config, lab);
	lab_init_tdmr(lab);
	for (unsigned int i = 0; i < 256; i++)
		lab_ok(lab, TDH_SYS_TDMR_INIT, 0x200000000, 0, 0);
	lab_init_td(lab, 0);
	assert_int_equal(lab_call(lab, 0, TDH_MEM_SEPT_ADD, 3, LAB_TDR, 0x200000000),
			 TDX_OPERAND_ADDR_RANGE_ERROR | TDX_OPERAND_R8);
	lab_destroy(lab);
}

static void calls_out_of_place_change_nothing(void **state)
{
	struct lab *lab = lab_create_running();
	struct tdx_regs regs = {.rax = TDH_MEM_TRACK, .rcx = LAB_TDR}, host;
	const struct tdx_vmexit exit = {.reason = TDX_EXIT_INTERRUPT};
	struct tdx_guest guest = {0};

	(void)state;
	assert_int_equal(tdx_module_tdcall(lab->module, 1, &guest, &host), TDX_HOST);
	assert_int_equal(host.rax, TDX_SYS_NOT_READY);
	assert_int_equal(tdx_module_vmexit(lab->module, 99, &exit, &guest, &host), TDX_HOST);
	assert_int_equal(host.rax, TDX_SYS_NOT_READY);
	assert_int_equal(tdx_module_seamcall(lab->module, 99, &regs), TDX_HOST);
	assert_int_equal(regs.rax, TDX_SYS_NOT_READY);
	enter(lab, 1, 0);
	regs = (struct tdx_regs){.rax = TDH_MEM_TRACK, .rcx = LAB_TDR};
	assert_int_equal(tdx_module_seamcall(lab->module, 1, &regs), TDX_GUEST);
	assert_int_equal(regs.rax, TDH_MEM_TRACK);
	lab_destroy(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_machines_are_refused_with_the_rule),
		cmocka_unit_test(no_memory_is_an_error_at_every_point),
		cmocka_unit_test(measured_build_gives_the_documented_digest),
		cmocka_unit_test(accepted_pages_are_zero_and_moves_keep_content),
		cmocka_unit_test(large_accept_goes_on_where_it_was_interrupted),
		cmocka_unit_test(processor_port_shows_the_running_td),
		cmocka_unit_test(shared_ept_pointer_is_checked),
		cmocka_unit_test(a_new_epoch_costs_one_invept_on_entry),
		cmocka_unit_test(vmcall_passes_the_masked_registers_both_ways),
		cmocka_unit_test(each_package_has_its_key_and_write_back),
		cmocka_unit_test(a_clock_that_went_back_is_noticed),
		cmocka_unit_test(a_page_without_memory_is_no_table),
		cmocka_unit_test(calls_out_of_place_change_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
