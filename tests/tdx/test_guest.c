// SPDX-License-Identifier: BSD-2-Clause
/* The guest's calls and exceptions beside the recordings: #VE, its own information, its controls.
 */
#include "tests/tdx/lab.h"

/* A runnable TD with these attributes and one pending page at GPA 0; vCPU 0 is inside on LP 1. */
static struct lab *inside(uint64_t attributes)
{
	struct lab *lab = lab_create();

	lab_init_tdmr(lab);
	lab_init_td(lab, attributes);
	lab_add_tables(lab);
	lab_add_vcpu(lab, 0);
	lab_ok(lab, TDH_MR_FINALIZE, LAB_TDR, 0, 0);
	lab_ok(lab, TDH_MEM_PAGE_AUG, 0, LAB_TDR, LAB_FREE);
	lab_call(lab, 1, TDH_VP_ENTER, LAB_VCPU(0), 0, 0);
	assert_int_equal(tdx_module_running_vcpu(lab->module, 1), LAB_VCPU(0));
	return lab;
}

static enum tdx_side touch_pending(struct lab *lab, struct tdx_guest *guest, struct tdx_regs *host)
{
	const struct tdx_vmexit exit = {.reason = TDX_EXIT_EPT_VIOLATION,
					.qualification = 0x182,
					.gpa = 0x18,
					.gla = 0xffff8018};

	*guest = (struct tdx_guest){.rip = 0x1000, .regs = {.rbx = 77}};
	return tdx_module_vmexit(lab->module, 1, &exit, guest, host);
}

static void pending_page_raises_ve_once_until_it_is_fetched(void **state)
{
	struct lab *lab = inside(0);
	struct tdx_guest guest;
	struct tdx_regs host;

	(void)state;
	assert_int_equal(touch_pending(lab, &guest, &host), TDX_GUEST);
	assert_int_equal(guest.vector, 20);
	assert_false(guest.has_error_code);
	assert_int_equal(guest.rip, 0x1000);
	assert_int_equal(guest.regs.rbx, 77);
	assert_int_equal(touch_pending(lab, &guest, &host), TDX_GUEST);
	assert_int_equal(guest.vector, 8);
	assert_true(guest.has_error_code);
	assert_int_equal(lab_tdcall(lab, 1, TDG_VP_VEINFO_GET, 0, &guest, &host), TDX_GUEST);
	assert_int_equal(guest.vector, 0);
	assert_int_equal(guest.regs.rax, TDX_SUCCESS);
	assert_int_equal(guest.regs.rcx, TDX_EXIT_EPT_VIOLATION);
	assert_int_equal(guest.regs.rdx, 0x182);
	assert_int_equal(guest.regs.r8, 0xffff8018);
	assert_int_equal(guest.regs.r9, 0x18);
	lab_tdcall(lab, 1, TDG_VP_VEINFO_GET, 0, &guest, &host);
	assert_int_equal(guest.regs.rax, TDX_NO_VALID_VE_INFO);
	assert_int_equal(touch_pending(lab, &guest, &host), TDX_GUEST);
	assert_int_equal(guest.vector, 20);
	lab_destroy(lab);
}

static void pending_page_exits_when_the_td_wants_no_ve(void **state)
{
	struct lab *lab = inside(TDX_ATTR_SEPT_VE_DISABLE);
	struct tdx_guest guest;
	struct tdx_regs host;

	(void)state;
	assert_int_equal(touch_pending(lab, &guest, &host), TDX_HOST);
	assert_int_equal(host.rax, TDX_EXIT_EPT_VIOLATION);
	assert_int_equal(host.rcx, 2);
	assert_int_equal(host.rdx, TDX_EEQ_PENDING);
	assert_int_equal(tdx_module_running_vcpu(lab->module, 1), 0);
	lab_destroy(lab);
}

static void a_wide_gpa_is_the_guests_own_fault(void **state)
{
	struct lab *lab = inside(0);
	const struct tdx_vmexit exit = {.reason = TDX_EXIT_EPT_VIOLATION,
					.qualification = 0x182 | 1 << 9,
					.gpa = 1ull << 50,
					.gla = 0x1234};
	struct tdx_guest guest = {0};
	struct tdx_regs host;

	(void)state;
	assert_int_equal(tdx_module_vmexit(lab->module, 1, &exit, &guest, &host), TDX_GUEST);
	assert_int_equal(guest.vector, 14);
	assert_int_equal(guest.error_code, 0xf); /* present, write, user, reserved bit */
	assert_int_equal(guest.cr2, 0x1234);
	lab_destroy(lab);
}

static void guest_learns_about_itself(void **state)
{
	struct lab *lab = inside(TDX_ATTR_SEPT_VE_DISABLE);
	struct tdx_guest guest;
	struct tdx_regs host;

	(void)state;
	assert_int_equal(tdx_module_guest_state(lab->module, 1, &guest), 0);
	assert_int_equal(guest.regs.rcx, 0x5eed);
	lab_tdcall(lab, 1, TDG_VP_INFO, 0, &guest, &host);
	assert_int_equal(guest.regs.rax, TDX_SUCCESS);
	assert_int_equal(guest.regs.rcx, 48);
	assert_int_equal(guest.regs.rdx, TDX_ATTR_SEPT_VE_DISABLE);
	assert_int_equal(guest.regs.r8, 1 | 4ull << 32);
	assert_int_equal(guest.regs.r9, 0);
	lab_destroy(lab);
}

static uint64_t write_field(struct lab *lab, uint64_t field, uint64_t value)
{
	struct tdx_guest guest = {
		.regs = {.rax = TDG_VM_WR, .rdx = field, .r8 = value, .r9 = ~0ull}};
	struct tdx_regs host;

	assert_int_equal(tdx_module_tdcall(lab->module, 1, &guest, &host), TDX_GUEST);
	return guest.regs.rax;
}

static void controls_change_only_as_configured(void **state)
{
	struct lab *lab = inside(0);

	(void)state;
	assert_int_equal(write_field(lab, TDX_MD_TD_CTLS, 0), TDX_SUCCESS);
	assert_int_equal(write_field(lab, TDX_MD_TD_CTLS, 1), TDX_METADATA_FIELD_VALUE_NOT_VALID);
	assert_int_equal(write_field(lab, TDX_MD_NOTIFY_ENABLES, 1), TDX_SUCCESS);
	assert_int_equal(write_field(lab, TDX_MD_CONFIG_FLAGS, 0),
			 TDX_METADATA_FIELD_NOT_WRITABLE | TDX_OPERAND_RDX);
	assert_int_equal(write_field(lab, 0x1234, 0),
			 TDX_METADATA_FIELD_ID_INCORRECT | TDX_OPERAND_RDX);
	lab_destroy(lab);
}

static void translations_of_vms_that_do_not_exist_cannot_be_dropped(void **state)
{
	struct lab *lab = inside(0);
	struct tdx_guest guest;
	struct tdx_regs host;

	(void)state;
	lab_tdcall(lab, 1, TDG_VP_INVEPT, 0, &guest, &host);
	assert_int_equal(guest.regs.rax, TDX_SUCCESS);
	for (unsigned int bit = 0; bit < 64; bit++) {
		lab_tdcall(lab, 1, TDG_VP_INVEPT, 1ull << bit, &guest, &host);
		assert_int_equal(guest.regs.rax, TDX_OPERAND_INVALID | TDX_OPERAND_RCX);
	}
	lab_destroy(lab);
}

static void stepping_at_one_place_is_stopped_until_the_page_is_there(void **state)
{
	const struct tdx_vmexit exit = {.reason = TDX_EXIT_EPT_VIOLATION, .gpa = 0x5008};
	struct lab *lab = inside(0);
	struct tdx_guest guest;
	struct tdx_regs regs;

	(void)state;
	for (unsigned int i = 0; i < 7; i++) {
		guest = (struct tdx_guest){.rip = 0x1000};
		assert_int_equal(tdx_module_vmexit(lab->module, 1, &exit, &guest, &regs), TDX_HOST);
		regs = (struct tdx_regs){.rax = TDH_VP_ENTER, .rcx = LAB_VCPU(0)};
		assert_int_equal(tdx_module_seamcall(lab->module, 1, &regs),
				 i < 6 ? TDX_GUEST : TDX_HOST);
	}
	assert_int_equal(regs.rax, TDX_EXIT_EPT_VIOLATION);
	assert_int_equal(regs.r8, 0x5000);
	lab_destroy(lab);
}

static void progress_ends_the_suspicion(void **state)
{
	const struct tdx_vmexit exit = {.reason = TDX_EXIT_EPT_VIOLATION, .gpa = 0x5008};
	struct lab *lab = inside(0);
	struct tdx_guest guest;
	struct tdx_regs regs;

	(void)state;
	for (unsigned int i = 0; i < 20; i++) {
		guest = (struct tdx_guest){.rip = 0x1000 + i / 6};
		assert_int_equal(tdx_module_vmexit(lab->module, 1, &exit, &guest, &regs), TDX_HOST);
		regs = (struct tdx_regs){.rax = TDH_VP_ENTER, .rcx = LAB_VCPU(0)};
		assert_int_equal(tdx_module_seamcall(lab->module, 1, &regs), TDX_GUEST);
	}
	lab_destroy(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pending_page_raises_ve_once_until_it_is_fetched),
		cmocka_unit_test(pending_page_exits_when_the_td_wants_no_ve),
		cmocka_unit_test(a_wide_gpa_is_the_guests_own_fault),
		cmocka_unit_test(guest_learns_about_itself),
		cmocka_unit_test(controls_change_only_as_configured),
		cmocka_unit_test(translations_of_vms_that_do_not_exist_cannot_be_dropped),
		cmocka_unit_test(stepping_at_one_place_is_stopped_until_the_page_is_there),
		cmocka_unit_test(progress_ends_the_suspicion),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
