/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A machine's memory for tests of the monitor: one piece of this process, at a physical address of
 * its own; the monitor in it, as new; and a walker of its tables that shares no code with it.
 */
#ifndef TESTS_HYPERVISOR_ARENA_H
#define TESTS_HYPERVISOR_ARENA_H

#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

static char *arena;

/* Tables and books, then private frames, then what is shared. */
#define ARENA_PA    0x40000000ull
#define ARENA_BYTES (64ull << 20)
#define FIRST	    ((ARENA_PA + (16ull << 20)) >> 12)
#define FRAMES	    4196u /* eight blocks of 2 MiB, and a part of one */
#define SHARED_PA   (ARENA_PA + (40ull << 20))
#define DIRECT_MAP  ((uintptr_t)arena - ARENA_PA)

/* What happens once, between what the monitor has looked at and its next change. */
static void (*meanwhile)(void);

static inline void before_change(void)
{
	void (*what)(void) = meanwhile;

	if (!what)
		return;
	meanwhile = NULL;
	what();
}

#undef atomic_store
#define atomic_store(object, value) \
	(before_change(), atomic_store_explicit(object, value, memory_order_seq_cst))
#undef atomic_compare_exchange_strong
#define atomic_compare_exchange_strong(object, old, value)         \
	(before_change(), atomic_compare_exchange_strong_explicit( \
				  object, old, value, memory_order_seq_cst, memory_order_seq_cst))

/* NOLINTNEXTLINE(bugprone-suspicious-include) */
#include "hypervisor/monitor.c"

#define SHARED_BIT 47u
#define VCPUS	   4u

static uint64_t next_page;
static char said[256];
static jmp_buf panicked;

uint64_t page_take(uint64_t bytes)
{
	uint64_t pa = next_page;

	next_page += (bytes + 4095) & ~4095ull;
	assert_true(next_page <= FIRST << 12);
	return pa;
}

void panic(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(said, sizeof(said), format, args);
	va_end(args);
	longjmp(panicked, 1);
}

/* A machine that was switched on, and a monitor without a guest's image. */
static void arena_begin(void)
{
	if (!arena) {
		/* Aligned to 2 MiB, so that asan's shadow is touched no more than needed. */
		arena = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		assert_true(arena != MAP_FAILED);
	}
	assert_int_equal(madvise(arena, ARENA_BYTES, MADV_DONTNEED), 0);
	next_page = ARENA_PA;
	memset(seats, 0, sizeof(seats));
	epoch = 1;
	blocked_epoch = 0;
	finalized = false;
	released = false;
	adding = NO_GFN;
	adding_content = NULL;
	monitor_init(FIRST, FRAMES, SHARED_BIT, VCPUS);
}

/* ---- a walk as the processor does it: APM vol. 2, "Nested Paging" ---- */

struct walked {
	uint64_t word, pa; /* of the leaf, of the byte; 0: not present */
	unsigned int level;
	bool reserved; /* a bit was set that must not be: it is no translation */
};

#define RESERVED 0x000f000000000000ull /* of a processor with 48 bits of address */

static struct walked walk(uint64_t table, uint64_t gpa)
{
	for (unsigned int level = 4; level; level--) {
		unsigned int shift = 12 + 9 * (level - 1);
		const uint64_t *entry = (const uint64_t *)phys(table) + (gpa >> shift & 511);
		uint64_t word = __atomic_load_n(entry, __ATOMIC_ACQUIRE);
		uint64_t within = (1ull << shift) - 1;

		/* All accesses of a guest are a user's. */
		if ((word & 5) != 5)
			return (struct walked){0};
		if (word & RESERVED)
			return (struct walked){.reserved = true};
		if (level == 1 || word & 0x80)
			return (struct walked){.word = word,
					       .pa = (word & 0x000ffffffffff000 & ~within) |
						     (gpa & within),
					       .level = level};
		table = word & 0x000ffffffffff000;
	}
	return (struct walked){0};
}

static bool is_zero(uint64_t pa, uint64_t bytes)
{
	const uint64_t *word = phys(pa);

	for (uint64_t i = 0; i < bytes / 8; i++)
		if (word[i])
			return false;
	return true;
}

#endif
