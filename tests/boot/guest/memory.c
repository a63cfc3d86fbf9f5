// SPDX-License-Identifier: BSD-2-Clause
/*
 * Memory as tests use it: windows into it, patterns that can be told from each other. Judges
 * nothing but a pattern.
 */
#include "tests/boot/guest/guest.h"

extern uint64_t page_root[512]; /* boot.S; entry 0 is RAM as it is */

/* Entries of the root: shared memory, and two for scratch_map(). */
#define SHARED_SLOT  128
#define SCRATCH_SLOT 200

typedef uint64_t table_t[512] __attribute__((aligned(4096)));

static uint64_t table_entry(const uint64_t *table)
{
	return (uint64_t)table | PTE_PRESENT | PTE_WRITE;
}

uint64_t shared_address(uint64_t gpa)
{
	return ((uint64_t)SHARED_SLOT << 39) + gpa;
}

void memory_init(void)
{
	static table_t root, directories[4];

	if (!is_td())
		return;
	for (uint64_t i = 0; i < 4 * 512; i++)
		directories[i / 512][i % 512] = i * LARGE_PAGE | 1ull << machine.shared_bit |
						PTE_LARGE | PTE_WRITE | PTE_PRESENT;
	for (unsigned int i = 0; i < 4; i++)
		root[i] = table_entry(directories[i]);
	page_root[SHARED_SLOT] = table_entry(root);
}

void convert(uint64_t gpa, uint64_t bytes, bool private)
{
	int64_t r = (int64_t)hv_call(HV_CALL_CONVERT, gpa, bytes, private).rax;

	expect(r == 0, "converting %lx+%lx to %s: %ld", gpa, bytes, private ? "private" : "shared",
	       r);
}

void *open_memory(uint64_t gpa, uint64_t bytes)
{
	if (!is_td())
		return (void *)gpa;
	convert(gpa, bytes, false);
	return (void *)shared_address(gpa);
}

void close_memory(uint64_t gpa, uint64_t bytes)
{
	if (is_td())
		convert(gpa, bytes, true);
}

uint64_t open_gpa(uint64_t gpa)
{
	return is_td() ? gpa | 1ull << machine.shared_bit : gpa;
}

void zap_all(void)
{
	if (machine.hv)
		hv_call(HV_CALL_ZAP_ALL, 0, 0, 0);
}

/* Entry 1 of each level is the caller's, entry 0 leads down; the root has two slots of them. */
uint64_t scratch_map(unsigned int level, uint64_t entry)
{
	static table_t tables[3];
	uint64_t *slot = level == 4 ? &page_root[SCRATCH_SLOT + 1] : &tables[level - 1][1];
	uint64_t va = ((uint64_t)SCRATCH_SLOT << 39) + (PAGE << 9 * (level - 1));

	page_root[SCRATCH_SLOT] = table_entry(tables[2]);
	tables[2][0] = table_entry(tables[1]);
	tables[1][0] = table_entry(tables[0]);
	*(volatile uint64_t *)slot = entry;
	invlpg(va);
	return va;
}

static uint64_t word(uint64_t seed, uint64_t i)
{
	uint64_t x = (seed << 40 | i) * 0x9e3779b97f4a7c15 + seed;

	return x ^ x >> 32;
}

void fill(void *at, size_t bytes, uint64_t seed)
{
	for (size_t i = 0; i < bytes / 8; i++)
		((volatile uint64_t *)at)[i] = word(seed, i);
}

size_t first_wrong(const void *at, size_t bytes, uint64_t seed)
{
	for (size_t i = 0; i < bytes / 8; i++)
		if (((const volatile uint64_t *)at)[i] != word(seed, i))
			return i * 8;
	return bytes;
}

size_t first_nonzero(const void *at, size_t bytes)
{
	for (size_t i = 0; i < bytes / 8; i++)
		if (((const volatile uint64_t *)at)[i])
			return i * 8;
	return bytes;
}

bool expect_filled(const void *at, size_t bytes, uint64_t seed, const char *what)
{
	size_t wrong = first_wrong(at, bytes, seed);

	return expect(wrong == bytes, "%s: %lx+%lx isn't what was written", what, (uint64_t)at,
		      wrong);
}

uint64_t random_next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

void *memcpy(void *to, const void *from, size_t bytes)
{
	void *at = to;

	__asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(bytes) : : "memory");
	return to;
}

void *memset(void *to, int byte, size_t bytes)
{
	void *at = to;

	__asm__ volatile("rep stosb" : "+D"(at), "+c"(bytes) : "a"(byte) : "memory");
	return to;
}
