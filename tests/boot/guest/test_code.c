// SPDX-License-Identifier: BSD-2-Clause
/*
 * Code that is written by the guest: it runs as it was written last, on whichever CPU. Always at
 * its natural address: a TD runs no shared memory.
 */
#include "tests/boot/guest/guest.h"

#define PAGES  24
#define STRIDE (LARGE_PAGE / 4 + PAGE)

/* mov $value, %eax; ret */
static void write_code(volatile uint8_t *at, uint32_t value)
{
	at[0] = 0xb8;
	for (unsigned int i = 0; i < 4; i++)
		at[1 + i] = (uint8_t)(value >> 8 * i);
	at[5] = 0xc3;
}

/* CPUID serializes: another CPU may have written what is run. AMD64 APM vol. 2, 7.6.1. */
static uint32_t run_code(const volatile uint8_t *at)
{
	cpuid(0);
	return ((uint32_t(*)(void))(uintptr_t)at)();
}

static volatile uint8_t *page(unsigned int i)
{
	return (volatile uint8_t *)(machine.free + i * STRIDE);
}

static void expect_code(unsigned int i, uint32_t value, const char *when)
{
	uint32_t is = run_code(page(i));

	expect(is == value, "page %u %s on CPU %u: %x for %x", i, when, this_cpu()->id, is, value);
}

static void run_all(void *first_value)
{
	for (unsigned int i = 0; i < PAGES; i++)
		expect_code(i, (uint32_t)(uintptr_t)first_value + i, "of CPU 0");
}

static void rewrite_and_run(void *first_value)
{
	for (unsigned int i = 0; i < PAGES; i++) {
		write_code(page(i), (uint32_t)(uintptr_t)first_value + i);
		expect_code(i, (uint32_t)(uintptr_t)first_value + i, "rewritten");
	}
}

static void code_runs_as_written_last(void)
{
	for (unsigned int round = 0; round < 4 * machine.rounds; round++) {
		zap_all();
		for (unsigned int i = 0; i < PAGES; i++) {
			write_code(page(i), round + i);
			expect_code(i, round + i, "fresh");
			write_code(page(i), ~(round + i));
			expect_code(i, ~(round + i), "rewritten");
		}
		zap_all();
		for (unsigned int i = 0; i < PAGES; i++)
			expect_code(i, ~(round + i), "zapped");
	}
}

static void each_cpu_runs_what_another_wrote(void)
{
	for (unsigned int id = 1; id < smp_count(); id++) {
		uintptr_t mine = id * 1000, its = id * 1000 + 500;

		zap_all();
		rewrite_and_run((void *)mine);
		smp_begin(id, run_all, (void *)mine);
		smp_end(id);
		zap_all();
		smp_begin(id, rewrite_and_run, (void *)its);
		smp_end(id);
		run_all((void *)its);
	}
}

/* The leaf that code runs from may not be the one its neighbours were written through. */
static void data_beside_code_stays(void)
{
	uint8_t *area = (uint8_t *)machine.free;
	const uint64_t hole = LARGE_PAGE / 2;

	fill(area, hole, 1);
	fill(area + hole + PAGE, hole - PAGE, 2);
	for (unsigned int i = 0; i < 4 * machine.rounds; i++) {
		write_code(area + hole, i);
		expect(run_code(area + hole) == i, "run %u is another's", i);
		expect_filled(area, hole, 1, "before the code");
		expect_filled(area + hole + PAGE, hole - PAGE, 2, "after the code");
		zap_all();
	}
}

const struct test code_tests[] = {
	{"code_runs_as_written_last", code_runs_as_written_last, NEEDS_NOTHING},
	{"code_each_cpu_runs_what_another_wrote", each_cpu_runs_what_another_wrote, NEEDS_CPUS},
	{"code_data_beside_it_stays", data_beside_code_stays, NEEDS_NOTHING},
	{0},
};
