// SPDX-License-Identifier: BSD-2-Clause
/*
 * B11: whether an EPT violation hit the final address or a guest's page table is told by bits 7 and
 * 8 of the exit qualification. KVM looked for bit 7 in the error code that it was just making.
 *
 * Expectation: SDM vol. 3, table "Exit Qualification for EPT Violations": bit 7 guest linear
 * address valid; bit 8, valid only with it: 1 the access was to the translation, 0 to a paging
 * structure.
 */
#include "tests/support/guest.h"

#define BOTH (TPT_PFERR_GUEST_FINAL | TPT_PFERR_GUEST_PAGE)

static uint64_t expected(uint64_t qualification)
{
	if (!(qualification >> 7 & 1))
		return 0;
	return qualification >> 8 & 1 ? TPT_PFERR_GUEST_FINAL : TPT_PFERR_GUEST_PAGE;
}

static void B11_final_or_page_is_what_bits_7_and_8_of_the_qualification_say(void **state)
{
	(void)state;
	for (uint64_t low = 0; low < 512; low++) {
		assert_int_equal(tpt_pferr_from_ept(low) & BOTH, expected(low));
		/* No other bit has a say. */
		for (unsigned int bit = 9; bit < 64; bit++)
			assert_int_equal(tpt_pferr_from_ept(low | 1ull << bit),
					 tpt_pferr_from_ept(low));
	}
}

/* The other bits of the code do not depend on these two, whatever they are. */
static void B11_the_rest_of_the_code_is_the_same_with_and_without(void **state)
{
	(void)state;
	for (uint64_t low = 0; low < 128; low++)
		for (uint64_t two = 0; two < 4; two++)
			assert_int_equal(tpt_pferr_from_ept(low | two << 7) & ~BOTH,
					 tpt_pferr_from_ept(low));
}

/* The library takes both, and any processor's exit: none is a reserved bit of the error code. */
static void B11_every_qualification_is_a_fault_that_is_understood(void **state)
{
	struct tpt_vm_config c;
	struct host *h;

	(void)state;
	host_config_ept(&c);
	h = host_create(&c, 1);
	assert_int_equal(host_slot(h, 0, 0, 0, GIB, GIB, 0), 0);
	for (uint64_t q = 0; q < 512; q++)
		assert_true(host_fault(h, q << 12, tpt_pferr_from_ept(q)) > 0);
	host_destroy(h);
}

/* What the model processor says of a guest's access, and of its own walk of the guest's tables. */
static void B11_a_processors_own_exits_are_told_as_it_means_them(void **state)
{
	const struct tpt_memory_region ram = {.size = MIB, .hva = {GUEST_HVA}};
	struct machine_result r;
	struct tpt_vm_config c;
	struct guest *g;

	(void)state;
	host_config_ept(&c);
	c.maxphyaddr = 46;
	g = guest_create(&c, 1, 1);
	assert_int_equal(tpt_vm_set_memory_region(g->vm, &ram), 0);
	assert_int_equal(guest_load(g, 0), 0);
	for (unsigned int i = 0; i < 2; i++) {
		machine_cpu_enter_guest(g->v[0].cpu);
		machine_access(g->v[0].cpu, 0x5000, MACHINE_WRITE | (i ? MACHINE_GUEST_WALK : 0),
			       &r);
		machine_cpu_leave_guest(g->v[0].cpu);
		assert_int_equal(r.outcome, MACHINE_EPT_VIOLATION);
		assert_int_equal(tpt_pferr_from_ept(r.error) & BOTH,
				 i ? TPT_PFERR_GUEST_PAGE : TPT_PFERR_GUEST_FINAL);
	}
	guest_destroy(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(B11_final_or_page_is_what_bits_7_and_8_of_the_qualification_say),
		cmocka_unit_test(B11_the_rest_of_the_code_is_the_same_with_and_without),
		cmocka_unit_test(B11_every_qualification_is_a_fault_that_is_understood),
		cmocka_unit_test(B11_a_processors_own_exits_are_told_as_it_means_them),
	};

	return cmocka_run_group_tests_name("B11", tests, NULL, NULL);
}
