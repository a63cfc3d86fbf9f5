// SPDX-License-Identifier: BSD-2-Clause
/* Page metadata: initialisation, explicit operands in the order of their errors, sizes. */
#include "tests/tdx/lab.h"

#include "tdx/module/internal.h"

static struct lab *with_memory(void)
{
	struct lab *lab = lab_create();

	lab_init_tdmr(lab);
	return lab;
}

static uint64_t take(struct lab *lab, uint64_t hpa, enum lock_mode mode, enum tdx_page_type pt)
{
	struct pamt_ref ref;
	uint64_t status = pamt_take_page(lab->module, hpa, TDX_OPERAND_R8, mode, pt, &ref);

	pamt_release(&ref);
	return status;
}

static uint16_t lock_of(struct lab *lab, uint64_t hpa, unsigned int level)
{
	struct tdx_pamt_view view;

	assert_int_equal(tdx_module_view_pamt(lab->module, hpa, level, &view), 0);
	return view.lock;
}

static void a_block_is_usable_only_when_wholly_initialized(void **state)
{
	struct lab *lab = lab_create();
	struct tdx_regs regs;

	(void)state;
	for (unsigned int i = 0; i < 256; i++) {
		assert_int_equal(take(lab, LAB_TDMR, LOCK_SHARED, TDX_PT_NDA),
				 TDX_OPERAND_ADDR_RANGE_ERROR | TDX_OPERAND_R8);
		regs = (struct tdx_regs){.rcx = LAB_TDMR};
		assert_int_equal(lab_seamcall(lab, 0, TDH_SYS_TDMR_INIT, &regs), TDX_SUCCESS);
		assert_int_equal(regs.rdx, i < 255 ? LAB_TDMR : LAB_TDMR + LAB_SIZE);
	}
	assert_int_equal(take(lab, LAB_TDMR, LOCK_SHARED, TDX_PT_NDA), TDX_SUCCESS);
	assert_int_equal(lab_call(lab, 0, TDH_SYS_TDMR_INIT, LAB_TDMR, 0, 0),
			 TDX_TDMR_ALREADY_INITIALIZED);
	assert_int_equal(lab_call(lab, 0, TDH_SYS_TDMR_INIT, LAB_TDMR + 0x1000, 0, 0),
			 TDX_OPERAND_INVALID | TDX_OPERAND_RCX);
	lab_destroy(lab);
}

static void operand_errors_come_in_order(void **state)
{
	struct lab *lab = with_memory();
	uint64_t hkid = 40ull << 46;

	(void)state;
	assert_int_equal(take(lab, LAB_FREE + 8, LOCK_SHARED, TDX_PT_NDA),
			 TDX_OPERAND_INVALID | TDX_OPERAND_R8);
	assert_int_equal(take(lab, LAB_FREE | hkid, LOCK_SHARED, TDX_PT_NDA),
			 TDX_OPERAND_INVALID | TDX_OPERAND_R8);
	assert_int_equal(take(lab, LAB_FREE | 1ull << 52, LOCK_SHARED, TDX_PT_NDA),
			 TDX_OPERAND_INVALID | TDX_OPERAND_R8);
	assert_int_equal(take(lab, 0x1000, LOCK_SHARED, TDX_PT_NDA),
			 TDX_OPERAND_ADDR_RANGE_ERROR | TDX_OPERAND_R8);
	tdx_module_force_pamt_lock(lab->module, LAB_FREE, 0, 1);
	assert_int_equal(take(lab, LAB_FREE, LOCK_SHARED, TDX_PT_TDR),
			 TDX_OPERAND_BUSY | TDX_OPERAND_R8);
	tdx_module_force_pamt_lock(lab->module, LAB_FREE, 0, 0);
	assert_int_equal(take(lab, LAB_FREE, LOCK_SHARED, TDX_PT_TDR),
			 TDX_PAGE_METADATA_INCORRECT | TDX_OPERAND_R8);
	assert_int_equal(take(lab, LAB_FREE, LOCK_SHARED, TDX_PT_NDA), TDX_SUCCESS);
	lab_destroy(lab);
}

static void a_walk_holds_the_parents_shared(void **state)
{
	struct lab *lab = with_memory();
	struct pamt_ref ref, other;

	(void)state;
	assert_true(pamt_walk(lab->module, LAB_FREE, LOCK_EXCLUSIVE, 0, &ref));
	assert_int_equal(lock_of(lab, LAB_FREE, 0), 1);
	assert_int_equal(lock_of(lab, LAB_FREE, 1), 4);
	assert_int_equal(lock_of(lab, LAB_FREE, 2), 4);
	assert_int_equal(pamt_take_free_range(lab->module, LAB_TDMR, 1, TDX_OPERAND_R8, &other),
			 TDX_OPERAND_BUSY | TDX_OPERAND_R8);
	assert_int_equal(lock_of(lab, LAB_FREE, 1), 6);
	pamt_release(&ref);
	assert_int_equal(lock_of(lab, LAB_FREE, 0), 0);
	assert_int_equal(lock_of(lab, LAB_FREE, 1), 2);
	assert_int_equal(lock_of(lab, LAB_FREE, 2), 0);
	lab_destroy(lab);
}

static void a_page_has_its_metadata_at_one_level(void **state)
{
	struct lab *lab = with_memory();
	uint64_t range = LAB_TDMR + 0x200000;
	struct pamt_ref ref;

	(void)state;
	assert_int_equal(pamt_take_free_range(lab->module, range, 1, TDX_OPERAND_R8, &ref),
			 TDX_SUCCESS);
	pamt_set(ref.entry, TDX_PT_REG, LAB_TDR);
	pamt_release(&ref);
	assert_int_equal(take(lab, range + 0x5000, LOCK_SHARED, TDX_PT_REG),
			 TDX_PAGE_METADATA_INCORRECT | TDX_OPERAND_R8);
	assert_true(pamt_demote(lab->module, range, 1));
	assert_int_equal(take(lab, range + 0x5000, LOCK_SHARED, TDX_PT_REG), TDX_SUCCESS);
	assert_int_equal(pamt_owner(pamt_entry_at(lab->module, range + 0x5000, 0)), LAB_TDR);
	assert_int_equal(pamt_take_free_range(lab->module, range, 1, TDX_OPERAND_R8, &ref),
			 TDX_PAGE_METADATA_INCORRECT | TDX_OPERAND_R8);
	assert_true(pamt_promote(lab->module, range, 1));
	assert_int_equal(take(lab, range, LOCK_SHARED, TDX_PT_NDA),
			 TDX_PAGE_METADATA_INCORRECT | TDX_OPERAND_R8);
	lab_destroy(lab);
}

static void reserved_pages_are_refused_and_keep_large_pages_away(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));
	struct tdx_module_config config = lab_config(lab);
	struct pamt_ref ref;

	(void)state;
	config.tdmr[0].nr_reserved = 1;
	config.tdmr[0].reserved[0] = (struct tdx_reserved_area){LAB_TDMR + 0x400000, 0x2000};
	lab_create_with(&config, lab);
	lab_init_tdmr(lab);
	assert_int_equal(take(lab, LAB_TDMR + 0x401000, LOCK_SHARED, TDX_PT_NDA),
			 TDX_PAGE_METADATA_INCORRECT | TDX_OPERAND_R8);
	assert_int_equal(take(lab, LAB_TDMR + 0x402000, LOCK_SHARED, TDX_PT_NDA), TDX_SUCCESS);
	assert_int_equal(
		pamt_take_free_range(lab->module, LAB_TDMR + 0x400000, 1, TDX_OPERAND_R8, &ref),
		TDX_PAGE_METADATA_INCORRECT | TDX_OPERAND_R8);
	lab_destroy(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_block_is_usable_only_when_wholly_initialized),
		cmocka_unit_test(operand_errors_come_in_order),
		cmocka_unit_test(a_walk_holds_the_parents_shared),
		cmocka_unit_test(a_page_has_its_metadata_at_one_level),
		cmocka_unit_test(reserved_pages_are_refused_and_keep_large_pages_away),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
