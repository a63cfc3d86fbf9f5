// SPDX-License-Identifier: BSD-2-Clause
/*
 * One CPU's memory: it keeps what was written whatever the hypervisor does to its tables, and costs
 * no more faults than it has to. Other CPUs' part is in test_smp.c.
 */
#include "tests/boot/guest/guest.h"

/* Half of it is memory that zaps reach, the other is as it is. */
static void memory_keeps_its_content(void)
{
	uint64_t half = (machine.free_end - machine.free) / 2 & -LARGE_PAGE;
	uint64_t private = machine.free + half;
	void *open = open_memory(machine.free, half);

	for (unsigned int round = 0; round < machine.rounds; round++) {
		fill(open, half, 2 * round);
		fill((void *)private, half, 2 * round + 1);
		zap_all();
		expect_filled(open, half, 2 * round, "after a zap");
		expect_filled((void *)private, half, 2 * round + 1, "after a zap, private in a TD");
	}
	close_memory(machine.free, half);
}

static void unmapped_memory_keeps_its_content(void)
{
	const uint64_t bytes = 4 * LARGE_PAGE, pages = bytes / PAGE;
	uint8_t *open = open_memory(machine.free, bytes);
	uint64_t random = 1;

	fill(open, bytes, 7);
	for (unsigned int i = 0; i < 50 * machine.rounds; i++) {
		uint64_t first = random_next(&random) % pages;
		uint64_t n = 1 + random_next(&random) % (pages - first);

		hv_call(HV_CALL_UNMAP, machine.free + first * PAGE, n * PAGE, 0);
		if (first_wrong(open, PAGE, 7) != PAGE)
			break;
	}
	expect_filled(open, bytes, 7, "after many unmaps");
	close_memory(machine.free, bytes);
}

static struct hv_answer lookup(uint64_t gpa)
{
	return hv_call(HV_CALL_LOOKUP, open_gpa(gpa), 0, 0);
}

/* On a page that nothing else is near, so that only this touch maps it; but a leaf of 1 GiB has
 * this code in it, too. */
static void mapped_is_what_was_touched(void)
{
	uint64_t gpa = machine.free + 2 * LARGE_PAGE;
	volatile uint8_t *open = open_memory(gpa, LARGE_PAGE);
	struct hv_answer found;

	zap_all();
	expect(machine.level == 3 || lookup(gpa).rax == 0, "mapped after a zap");
	open[0] = 1;
	found = lookup(gpa);
	expect(found.rax == 1, "not mapped after a touch");
	expect(found.rdi >= 1 && found.rdi <= machine.level, "mapped at level %lu", found.rdi);
	hv_call(HV_CALL_UNMAP, gpa, PAGE, 0);
	expect(machine.level == 3 || lookup(gpa).rax == 0, "mapped after an unmap");
	expect(open[0] == 1, "content lost");
	close_memory(gpa, LARGE_PAGE);
}

/* Of this CPU, while it touches each page. */
static uint64_t faults_of_writing(volatile uint8_t *at, uint64_t bytes)
{
	uint64_t before = hv_call(HV_CALL_FAULTS, 0, 0, 0).rax;

	for (uint64_t i = 0; i < bytes; i += PAGE)
		at[i] = 1;
	return hv_call(HV_CALL_FAULTS, 0, 0, 0).rax - before;
}

static uint64_t faults_of_reading(const volatile uint8_t *at, uint64_t bytes)
{
	uint64_t before = hv_call(HV_CALL_FAULTS, 0, 0, 0).rax;

	for (uint64_t i = 0; i < bytes; i += PAGE)
		(void)at[i];
	return hv_call(HV_CALL_FAULTS, 0, 0, 0).rax - before;
}

/* A zap takes code, stack and page tables, too: the same is done once beside what is measured. */
static void zap_but_for_us(volatile uint8_t *beside)
{
	zap_all();
	faults_of_writing(beside, PAGE);
	faults_of_reading(beside, PAGE);
}

static void expect_faults(uint64_t n, uint64_t leaves, const char *what)
{
	bool ok = machine.level < 3 ? n == leaves : n <= leaves;

	expect(ok, "%s: %lu faults, %lu leaves of level %u", what, n, leaves, machine.level);
}

static void each_leaf_costs_one_fault(void)
{
	const uint64_t bytes = 8 * LARGE_PAGE, part = machine.level == 1 ? 256 * PAGE : bytes / 2;
	const uint64_t leaves = machine.level == 1 ? 256 : part / LARGE_PAGE;
	uint8_t *open = open_memory(machine.free, bytes), *beside = open + bytes / 2;

	zap_but_for_us(beside);
	expect_faults(faults_of_writing(open, part), leaves, "written fresh");
	expect(faults_of_reading(open, part) == 0, "read after a write: more faults");
	expect(faults_of_writing(open, part) == 0, "written again: more faults");
	zap_but_for_us(beside);
	expect_faults(faults_of_reading(open, part), leaves, "read fresh");
	close_memory(machine.free, bytes);
}

const struct test memory_tests[] = {
	{"memory_keeps_its_content", memory_keeps_its_content, NEEDS_NOTHING},
	{"memory_unmapped_keeps_its_content", unmapped_memory_keeps_its_content, NEEDS_HV},
	{"memory_mapped_is_what_was_touched", mapped_is_what_was_touched, NEEDS_HV | NEEDS_QUIET},
	{"memory_each_leaf_costs_one_fault", each_leaf_costs_one_fault, NEEDS_HV | NEEDS_QUIET},
	{0},
};
