// SPDX-License-Identifier: BSD-2-Clause
/*
 * The floor: four-level tables on the same pool, and the least that can be done with them, by hand.
 * No lock, no count, no permission, no check. Also what the loops around operations cost with
 * nothing in them. Knows nothing of the library.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "bench/loop.h"

#define ENTRIES 512
#define PRESENT 0x7ull
#define DIRTY	0x200ull

typedef _Atomic uint64_t entry_t;

struct floor {
	uintptr_t linear; /* a page is at linear + its address */
	uint64_t root;
	uint64_t nr;
	uint64_t *leaf; /* addresses of leaf tables, in order */
	tpt_hpa *page;	/* every table */
};

static entry_t *entries(const struct floor *f, uint64_t hpa)
{
	return (entry_t *)(f->linear + hpa);
}

static bool new_table(struct bench *b, uint64_t *hpa)
{
	struct floor *f = b->own;
	tpt_hpa page;

	if (b->platform.page_alloc(b->posix, &page))
		return bench_fail(b, "no table page");
	memset((void *)(f->linear + page.a), 0, TPT_PAGE_SIZE);
	f->page[f->nr++] = page;
	*hpa = page.a;
	return true;
}

static bool below(struct bench *b, uint64_t table, uint64_t index, uint64_t *hpa)
{
	entry_t *e = &entries(b->own, table)[index];

	*hpa = atomic_load(e) & ~PRESENT;
	if (*hpa)
		return true;
	if (!new_table(b, hpa))
		return false;
	atomic_store(e, *hpa | PRESENT);
	return true;
}

static bool make_tables(struct bench *b)
{
	uint64_t nr = b->pages / ENTRIES, l3, l2;
	struct floor *f = calloc(1, sizeof(*f));

	b->own = f;
	b->units = b->pages;
	if (!f)
		return false;
	f->linear = b->platform.page_linear;
	f->leaf = calloc(nr, sizeof(*f->leaf));
	f->page = calloc(nr + nr / ENTRIES + 4, sizeof(*f->page));
	if (!f->leaf || !f->page || !new_table(b, &f->root))
		return false;
	for (uint64_t i = 0; i < nr; i++)
		if (!below(b, f->root, i >> 18, &l3) || !below(b, l3, i >> 9 & 511, &l2) ||
		    !below(b, l2, i & 511, &f->leaf[i]))
			return false;
	return true;
}

/* Two entries a store: what every x86-64 can. */
typedef uint64_t pair_t __attribute__((vector_size(16)));

static void fill(struct bench *b)
{
	const pair_t step = {2 * TPT_PAGE_SIZE, 2 * TPT_PAGE_SIZE};
	const struct floor *f = b->own;
	uint64_t first = 1ull << 40 | PRESENT | DIRTY;
	pair_t words = {first, first + TPT_PAGE_SIZE};

	b->wrong = 0;
	for (uint64_t i = 0; i < b->pages / ENTRIES; i++) {
		pair_t *e = (pair_t *)(f->linear + f->leaf[i]);

		for (unsigned int j = 0; j < ENTRIES / 2; j += 2, words += 2 * step) {
			e[j] = words;
			e[j + 1] = words + step;
		}
	}
}

static bool make_full_tables(struct bench *b)
{
	if (!make_tables(b))
		return false;
	fill(b);
	return true;
}

static void free_tables(struct bench *b)
{
	struct floor *f = b->own;

	for (uint64_t i = 0; f && i < f->nr; i++)
		b->platform.page_free(b->posix, f->page[i]);
	if (f) {
		free(f->leaf);
		free(f->page);
	}
	free(f);
	b->own = NULL;
}

/* How many leaf entries have any of @bits? */
static uint64_t entries_with(struct bench *b, uint64_t bits)
{
	const struct floor *f = b->own;
	uint64_t nr = 0;

	for (uint64_t i = 0; i < b->pages; i++)
		nr += !!(atomic_load(&entries(f, f->leaf[i / ENTRIES])[i % ENTRIES]) & bits);
	return nr;
}

static bool check(struct bench *b, uint64_t bits, uint64_t nr)
{
	uint64_t found = entries_with(b, bits);

	if (found != nr || b->wrong)
		return bench_fail(b, "%lu entries with %#lx, not %lu; %lu wrong", found, bits, nr,
				  b->wrong);
	return true;
}

static bool check_full(struct bench *b)
{
	return check(b, PRESENT, b->pages);
}

static bool check_clean(struct bench *b)
{
	return check(b, DIRTY, 0);
}

/* ---- one entry at a time ---- */

static inline uint64_t next_table(const struct floor *f, uint64_t table, uint64_t index)
{
	entry_t *e = &entries(f, table)[index & (ENTRIES - 1)];

	return atomic_load_explicit(e, memory_order_relaxed) & ~PRESENT;
}

static inline entry_t *walk(const struct floor *f, uint64_t gfn)
{
	uint64_t l3 = next_table(f, f->root, gfn >> 27);
	uint64_t l2 = next_table(f, l3, gfn >> 18);
	uint64_t l1 = next_table(f, l2, gfn >> 9);

	return &entries(f, l1)[gfn & (ENTRIES - 1)];
}

/*
 * One after the other, as faults come: no load of the next begins before the last one is over, so
 * that their cache misses do not overlap. In what is measured the section's own exchange does that.
 */
static inline void one_by_one(bool fenced)
{
	if (fenced)
		__builtin_ia32_lfence();
}

static inline __attribute__((always_inline)) void walk_all(struct bench *b, const uint32_t *order,
							   bool fenced)
{
	const struct floor *f = b->own;
	uint64_t present = 0;

	for (uint64_t i = 0; i < b->units; i++, one_by_one(fenced))
		present += atomic_load_explicit(walk(f, order[i]), memory_order_relaxed) & 1;
	b->wrong = b->units - present;
}

static void walk_seq(struct bench *b)
{
	walk_all(b, b->in_order, false);
}

static void walk_rand(struct bench *b)
{
	walk_all(b, b->in_disorder, false);
}

static void walk_rand_fenced(struct bench *b)
{
	walk_all(b, b->in_disorder, true);
}

static inline __attribute__((always_inline)) void cas_all(struct bench *b, const uint32_t *order,
							  bool fenced)
{
	const struct floor *f = b->own;
	uint64_t bad = 0;

	for (uint64_t i = 0; i < b->units; i++, one_by_one(fenced)) {
		uint64_t gfn = order[i], old = 0;

		bad += !atomic_compare_exchange_strong(walk(f, gfn), &old, gfn << 12 | PRESENT);
	}
	b->wrong = bad;
}

static void cas_seq(struct bench *b)
{
	cas_all(b, b->in_order, false);
}

static void cas_rand(struct bench *b)
{
	cas_all(b, b->in_disorder, false);
}

static void cas_rand_fenced(struct bench *b)
{
	cas_all(b, b->in_disorder, true);
}

/* ---- a table at a time ---- */

static void test_and_clear(struct bench *b)
{
	const struct floor *f = b->own;

	b->wrong = 0;
	for (uint64_t i = 0; i < b->pages / ENTRIES; i++) {
		entry_t *e = entries(f, f->leaf[i]);

		for (unsigned int j = 0; j < ENTRIES; j++)
			if (atomic_load_explicit(&e[j], memory_order_relaxed) & DIRTY)
				atomic_fetch_and(&e[j], ~DIRTY);
	}
}

static void set_bytes(struct bench *b)
{
	const struct floor *f = b->own;

	b->wrong = 0;
	for (uint64_t i = 0; i < b->pages / ENTRIES; i++)
		memset((void *)(f->linear + f->leaf[i]), 0x87, TPT_PAGE_SIZE);
}

/* ---- loops with nothing in them ---- */

static bool no_setup(struct bench *b)
{
	b->units = b->pages;
	return true;
}

static bool no_check(struct bench *b)
{
	return !b->wrong || bench_fail(b, "an empty loop went wrong");
}

static __attribute__((noinline)) int nothing(struct bench *b, struct tpt_fault *fault)
{
	__asm__ volatile("" : : "r"(b), "r"(fault) : "memory");
	return TPT_RET_PF_FIXED;
}

static __attribute__((noinline)) int nothing_of(struct bench *b, tpt_gfn gfn)
{
	__asm__ volatile("" : : "r"(b), "r"(gfn) : "memory");
	return TPT_RET_PF_FIXED;
}

static void loop_gfn(struct bench *b)
{
	loop_over_gfns(b, b->in_order, nothing_of, TPT_RET_PF_FIXED);
}

static void loop_access(struct bench *b)
{
	loop_over_accesses(b, b->in_order, nothing, TPT_RET_PF_FIXED, TPT_PFERR_WRITE);
}

static void loop_decided(struct bench *b)
{
	loop_over_decided(b, b->in_order, nothing, TPT_LEVEL_4K, 0);
}

const struct bench_op bench_floors[] = {
	{.name = "loop_gfn",
	 .unit = "page",
	 .kind = BENCH_HARNESS,
	 .untimed = true,
	 .what = "a loop over GFNs that calls a function which does nothing",
	 .setup = no_setup,
	 .run = loop_gfn,
	 .check = no_check,
	 .teardown = free_tables},
	{.name = "loop_access",
	 .unit = "page",
	 .kind = BENCH_HARNESS,
	 .untimed = true,
	 .what = "the same, with the access record of a fault made each time",
	 .setup = no_setup,
	 .run = loop_access,
	 .check = no_check,
	 .teardown = free_tables},
	{.name = "loop_decided",
	 .unit = "page",
	 .kind = BENCH_HARNESS,
	 .untimed = true,
	 .what = "the same, with the record of a fault that was decided made each time",
	 .setup = no_setup,
	 .run = loop_decided,
	 .check = no_check,
	 .teardown = free_tables},
	{.name = "floor_walk_seq",
	 .unit = "page",
	 .kind = BENCH_FLOOR,
	 .what = "four loads to an entry, in order",
	 .setup = make_full_tables,
	 .run = walk_seq,
	 .check = check_full,
	 .teardown = free_tables},
	{.name = "floor_walk_rand",
	 .unit = "page",
	 .kind = BENCH_FLOOR,
	 .what = "four loads to an entry, in disorder",
	 .setup = make_full_tables,
	 .run = walk_rand,
	 .check = check_full,
	 .teardown = free_tables},
	{.name = "floor_walk_rand_fenced",
	 .unit = "page",
	 .kind = BENCH_FLOOR,
	 .what = "the same one by one: misses of two walks do not overlap",
	 .setup = make_full_tables,
	 .run = walk_rand_fenced,
	 .check = check_full,
	 .teardown = free_tables},
	{.name = "floor_cas_seq",
	 .unit = "page",
	 .kind = BENCH_FLOOR,
	 .what = "a walk and one compare-and-exchange, in order",
	 .setup = make_tables,
	 .run = cas_seq,
	 .check = check_full,
	 .teardown = free_tables},
	{.name = "floor_cas_rand",
	 .unit = "page",
	 .kind = BENCH_FLOOR,
	 .what = "a walk and one compare-and-exchange, in disorder",
	 .setup = make_tables,
	 .run = cas_rand,
	 .check = check_full,
	 .teardown = free_tables},
	{.name = "floor_cas_rand_fenced",
	 .unit = "page",
	 .kind = BENCH_FLOOR,
	 .what = "the same one by one: misses of two do not overlap",
	 .setup = make_tables,
	 .run = cas_rand_fenced,
	 .check = check_full,
	 .teardown = free_tables},
	{.name = "floor_fill",
	 .unit = "page",
	 .kind = BENCH_FLOOR,
	 .what = "plain stores, a table at a time",
	 .setup = make_tables,
	 .run = fill,
	 .check = check_full,
	 .teardown = free_tables},
	{.name = "floor_clear",
	 .unit = "page",
	 .kind = BENCH_FLOOR,
	 .what = "test and atomic clear of one bit, a table at a time",
	 .setup = make_full_tables,
	 .run = test_and_clear,
	 .check = check_clean,
	 .teardown = free_tables},
	{.name = "floor_memset",
	 .unit = "page",
	 .kind = BENCH_FLOOR,
	 .what = "memset() of the bytes of the entries",
	 .setup = make_tables,
	 .run = set_bytes,
	 .check = check_full,
	 .teardown = free_tables},
	{0},
};
