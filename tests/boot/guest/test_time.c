// SPDX-License-Identifier: BSD-2-Clause
/*
 * What things cost, in TSC cycles: printed, never judged.
 */
#include "tests/boot/guest/guest.h"

#define PAGES 256

static uint64_t cycles_of_touching(volatile uint8_t *at)
{
	uint64_t since = rdtsc();

	for (uint64_t i = 0; i < PAGES; i++)
		at[i * PAGE] = 1;
	return (rdtsc() - since) / PAGES;
}

static void first_touch(void)
{
	const uint64_t bytes = PAGES * PAGE;
	uint8_t *open = open_memory(machine.free, bytes);

	zap_all();
	print("INFO first_touch_cycles=%lu\n", cycles_of_touching(open));
	print("INFO second_touch_cycles=%lu\n", cycles_of_touching(open));
	close_memory(machine.free, bytes);
}

static void round_trip(void)
{
	uint64_t since = rdtsc();

	for (unsigned int i = 0; i < 1000; i++)
		cpuid(0);
	print("INFO cpuid_cycles=%lu\n", (rdtsc() - since) / 1000);
}

const struct test time_tests[] = {
	{"time_of_first_touch", first_touch, NEEDS_NOTHING},
	{"time_of_round_trip", round_trip, NEEDS_NOTHING},
	{0},
};
