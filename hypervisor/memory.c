// SPDX-License-Identifier: BSD-2-Clause
/*
 * The machine's memory and the hypervisor's part of it: the top of what lies below 4 GiB, so that
 * the guest finds the rest as the firmware left it. Its page tables, its pages. Never the guest's.
 *
 *	own.start  image | pages, taken one after the other ... | the library's | spare  own.end
 */
#include "hypervisor/hv.h"

#define IMAGE_VMA  0x40000000ull
#define LARGE_PAGE (2 * MIB)
#define PTE_TABLE  0x3ull
#define PTE_LARGE  0x83ull
/* For itself, and table pages for each byte of the machine's. */
#define OWN_BYTES   (32 * MIB)
#define OWN_DIVISOR 64

extern char image_start[], image_end[];
void image_move(void *to, uint64_t bytes, uint64_t cr3);

struct range machine_ranges[MAX_RANGES];
unsigned int nr_machine_ranges;
struct range own, spare;
uint64_t own_root;
static uint64_t own_next, own_limit;

static uint64_t round_down(uint64_t a)
{
	return a & ~(LARGE_PAGE - 1);
}

uint64_t page_take(uint64_t bytes)
{
	uint64_t pa = own_next;

	bytes = (bytes + 4095) & ~4095ull;
	if (bytes > own_limit - own_next)
		panic("memory: %lu KiB wanted, %lu left of the hypervisor's own", bytes / KIB,
		      (own_limit - own_next) / KIB);
	own_next += bytes;
	memset(phys(pa), 0, bytes);
	return pa;
}

struct range memory_rest(void)
{
	struct range rest = {own_next, own_limit, 0};

	own_next = own_limit;
	return rest;
}

static uint64_t ram_bytes(void)
{
	uint64_t bytes = 0;

	for (unsigned int i = 0; i < nr_machine_ranges; i++)
		if (machine_ranges[i].type == 1)
			bytes += machine_ranges[i].end - machine_ranges[i].start;
	return bytes;
}

static void choose_own(void)
{
	uint64_t bytes = OWN_BYTES + ram_bytes() / OWN_DIVISOR, modules_end = 0;
	struct range top = {0, 0, 0};

	for (unsigned int i = 0; i < nr_machine_ranges; i++) {
		const struct range *r = &machine_ranges[i];

		if (r->type == 1 && r->end <= 4 * GIB && r->end > top.end)
			top = *r;
	}
	for (unsigned int i = 0; i < nr_modules; i++)
		if (modules[i].end > modules_end)
			modules_end = modules[i].end;
	if (top.end < bytes + LARGE_PAGE || top.start > MIB)
		panic("memory: %lu MiB below 4 GiB are not enough", top.end / MIB);

	own = (struct range){round_down(top.end - bytes), top.end, 0};
	own_limit = own.end;
	/* As much again as the guest keeps: for copies of it, or for what is private. */
	if (options.dirty || options.td) {
		own.start = round_down((top.end - bytes) / 2);
		spare = (struct range){round_down(own.end) - own.start, round_down(own.end), 0};
		own_limit = spare.start;
	}
	if (own.start < modules_end + LARGE_PAGE)
		panic("memory: what the loader brought ends at %lx, the hypervisor's begins at %lx: "
		      "more memory is needed",
		      modules_end, own.start);
}

/* The entry of @table for @va at @level; a missing table below it is made. */
static uint64_t *table_entry(uint64_t table, uint64_t va, unsigned int level)
{
	uint64_t *entry = (uint64_t *)phys(table) + (va >> (3 + 9 * level) & 511);

	if (level > 2 && !*entry)
		*entry = page_take(4096) | PTE_TABLE;
	return entry;
}

static uint64_t *large_entry(uint64_t va)
{
	uint64_t table = own_root;

	for (unsigned int level = 4; level > 2; level--)
		table = *table_entry(table, va, level) & ~4095ull;
	return table_entry(table, va, 2);
}

void memory_map_low(bool mapped)
{
	*large_entry(0) = mapped ? PTE_LARGE : 0;
	write_cr3(own_root);
}

void memory_init(uint64_t multiboot_info)
{
	uint64_t bytes = (uint64_t)image_end - (uint64_t)image_start, top = 4 * GIB;

	multiboot_read(multiboot_info);
	choose_own();
	own_next = own.start + ((bytes + 4095) & ~4095ull);
	own_root = page_take(4096);
	for (unsigned int i = 0; i < nr_machine_ranges; i++)
		if (machine_ranges[i].type == 1 && machine_ranges[i].end > top)
			top = machine_ranges[i].end;
	for (uint64_t pa = 0; pa < top; pa += LARGE_PAGE)
		*large_entry(DIRECT_MAP + pa) = pa | PTE_LARGE;
	for (uint64_t at = 0; at < bytes; at += LARGE_PAGE)
		*large_entry(IMAGE_VMA + at) = (own.start + at) | PTE_LARGE;
	image_move(phys(own.start), bytes, own_root);
}
