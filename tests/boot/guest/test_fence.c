// SPDX-License-Identifier: BSD-2-Clause
/*
 * The hypervisor's memory: no instruction reaches it, nor does a page walk. Each try is a general
 * protection fault, as is every access that nobody answers.
 */
#include "tests/boot/guest/probe.h"

static bool expect_gp(int vector, const char *access, uint64_t gpa)
{
	return expect(vector == VECTOR_GP && this_cpu()->fault.error == 0,
		      "%s at %lx: exception %d, error %lx", access, gpa, vector,
		      this_cpu()->fault.error);
}

/* Each of these is true when it faulted. What can be read isn't written: it would be the end. */
static bool try_reads(uint64_t gpa)
{
	uint64_t value = 0;

	return expect_gp(probe_read1(gpa), "read of 1", gpa) &&
	       expect_gp(probe_read8(gpa, &value), "read of 8", gpa) &&
	       expect_gp(probe_read8(gpa + PAGE - 8, &value), "read of the last 8", gpa) &&
	       expect_gp(probe_copy(machine.free, gpa, 64), "copy from", gpa);
}

static bool try_writes(uint64_t gpa)
{
	return expect_gp(probe_write1(gpa), "write of 1", gpa) &&
	       expect_gp(probe_write8(gpa, 0), "write of 8", gpa) &&
	       expect_gp(probe_xadd(gpa), "locked add", gpa) &&
	       expect_gp(probe_copy(gpa, machine.free, 64), "copy to", gpa);
}

/* As what a leaf of the guest's page tables maps, or as a table of each level. */
static bool try_walks(uint64_t gpa)
{
	uint64_t value = 0;
	bool ok = true;

	for (unsigned int level = 1; ok && level <= 4; level++) {
		uint64_t va = scratch_map(level, gpa | PTE_PRESENT | PTE_WRITE);

		ok = expect_gp(probe_read8(va, &value), "read through a table", gpa) &&
		     expect_gp(probe_write1(va), "write through a table", gpa) &&
		     expect_gp(probe_call(va), "call through a table", gpa);
		scratch_map(level, 0);
	}
	return ok;
}

static bool try_page(uint64_t gpa)
{
	return try_reads(gpa) && try_writes(gpa) && try_walks(gpa) &&
	       expect_gp(probe_call(gpa), "call", gpa);
}

static void try_pages(void)
{
	uint64_t pages = (machine.hv_end - machine.hv_first) / PAGE;

	if (expect(pages != 0, "the hypervisor has no memory") && try_page(machine.hv_first) &&
	    try_page(machine.hv_first + pages / 2 * PAGE))
		try_page(machine.hv_end - PAGE);
}

static void hypervisor_is_out_of_reach(void)
{
	try_pages();
	zap_all();
	try_pages();
}

static void try_as_shared(uint64_t gpa)
{
	uint64_t va = shared_address(gpa), value = 0;

	if (expect_gp(probe_read8(va, &value), "shared read", gpa))
		expect_gp(probe_write8(va, 0), "shared write", gpa);
}

static void hypervisor_is_not_shared(void)
{
	try_as_shared(machine.hv_first);
	try_as_shared(machine.hv_end - PAGE);
}

const struct test fence_tests[] = {
	{"fence_hypervisor_is_out_of_reach", hypervisor_is_out_of_reach, NEEDS_HV},
	{"fence_hypervisor_is_not_shared", hypervisor_is_not_shared, NEEDS_HV | NEEDS_TD},
	{0},
};
