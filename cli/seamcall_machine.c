// SPDX-License-Identifier: BSD-2-Clause
/* The machine that the recorded calls ran on: key ids, TDMRs, sparse memory, a counting clock. */
#include "cli/seamcall.h"

#include <stdlib.h>
#include <string.h>

#define PAGE_BYTES 4096ull
#define TSC_READ   1000 /* ticks that one read of the clock costs */
#define TSC_START  1000000

/* Pages by address: open addressing, grown at half full. */
struct sc_memory {
	struct {
		uint64_t hpa;
		void *page;
	} * slot;
	size_t capacity, count;
};

static size_t find_slot(const struct sc_memory *memory, uint64_t hpa)
{
	size_t mask = memory->capacity - 1;
	size_t i = (hpa >> 12) * 0x9e3779b97f4a7c15ull >> 20 & mask;

	while (memory->slot[i].page && memory->slot[i].hpa != hpa)
		i = (i + 1) & mask;
	return i;
}

static bool grow(struct sc_memory *memory)
{
	struct sc_memory bigger = {.capacity = memory->capacity ? memory->capacity * 2 : 4096};

	bigger.slot = calloc(bigger.capacity, sizeof(*bigger.slot));
	if (!bigger.slot)
		return false;
	for (size_t i = 0; i < memory->capacity; i++)
		if (memory->slot[i].page)
			bigger.slot[find_slot(&bigger, memory->slot[i].hpa)] = memory->slot[i];
	bigger.count = memory->count;
	free(memory->slot);
	*memory = bigger;
	return true;
}

void *sc_machine_page(struct sc_machine *machine, uint64_t hpa)
{
	struct sc_memory *memory = machine->memory;
	size_t i;

	hpa &= ~(PAGE_BYTES - 1);
	if (memory->count * 2 >= memory->capacity && !grow(memory))
		return NULL;
	i = find_slot(memory, hpa);
	if (!memory->slot[i].page) {
		memory->slot[i].page = calloc(1, PAGE_BYTES);
		if (!memory->slot[i].page)
			return NULL;
		memory->slot[i].hpa = hpa;
		memory->count++;
	}
	return memory->slot[i].page;
}

uint64_t *sc_machine_word(struct sc_machine *machine, uint64_t hpa)
{
	char *page = hpa % 8 ? NULL : sc_machine_page(machine, hpa);

	return page ? (uint64_t *)(page + (hpa & (PAGE_BYTES - 1))) : NULL;
}

static void *page_hook(void *ctx, uint64_t hpa)
{
	return sc_machine_page(ctx, hpa);
}

static uint64_t rdtsc_hook(void *ctx, unsigned int lp)
{
	struct sc_machine *machine = ctx;

	(void)lp;
	return machine->tsc += TSC_READ;
}

static bool interrupt_hook(void *ctx, unsigned int lp)
{
	struct sc_machine *machine = ctx;

	(void)lp;
	if (machine->intr_polls < 0)
		return false;
	if (!machine->intr_polls)
		return true;
	machine->intr_polls--;
	return false;
}

static void fatal_hook(void *ctx, const char *what)
{
	(void)ctx;
	fprintf(stderr, "triptych seamcall: the module is dead: %s\n", what);
}

struct sc_machine *sc_machine_create(void)
{
	struct sc_machine *machine = calloc(1, sizeof(*machine));
	struct tdx_module_config config = {
		.nr_lps = SC_NR_LPS,
		.nr_packages = 1,
		.hkid_start_bit = 46,
		.nr_hkid_bits = 6,
		.private_hkid_min = 32,
		.private_hkid_max = 63,
		.global_hkid = 32,
		.seamrr_base = 0x3f0000000,
		.seamrr_size = 0x4000000,
		.pml5 = true,
		.nr_tdmrs = 2,
		.tdmr = {{.base = 0x100000000, .size = 0x80000000},
			 {.base = 0x200000000,
			  .size = 0x40000000,
			  .nr_reserved = 1,
			  .reserved = {{.base = 0x23fe00000, .size = 0x200000}}}},
		.ctx = machine,
		.page = page_hook,
		.rdtsc = rdtsc_hook,
		.interrupt_pending = interrupt_hook,
		.fatal = fatal_hook,
	};
	char why[128] = "out of memory";

	if (machine)
		machine->memory = calloc(1, sizeof(*machine->memory));
	if (machine && machine->memory) {
		machine->tsc = TSC_START;
		machine->intr_polls = -1;
		machine->module = tdx_module_create(&config, why, sizeof(why));
		if (machine->module)
			return machine;
	}
	fprintf(stderr, "triptych seamcall: cannot make a machine: %s\n", why);
	sc_machine_destroy(machine);
	return NULL;
}

void sc_machine_destroy(struct sc_machine *machine)
{
	if (!machine)
		return;
	tdx_module_destroy(machine->module);
	if (machine->memory) {
		for (size_t i = 0; i < machine->memory->capacity; i++)
			free(machine->memory->slot[i].page);
		free(machine->memory->slot);
	}
	free(machine->memory);
	free(machine);
}
