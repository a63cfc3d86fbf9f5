// SPDX-License-Identifier: BSD-2-Clause
/* Aging: which pages were used, asked as a host's reclaim asks it. */
#include <stdlib.h>

#include "bench/bench.h"
#include "mmu/vm/vm.h"

static bool setup_young(struct bench *b)
{
	b->units = b->pages;
	b->own = calloc(b->pages / 64, sizeof(uint64_t));
	if (!b->own)
		return bench_fail(b, "no bitmap");
	return bench_vm(b, 0, b->pages * TPT_PAGE_SIZE, TPT_LEVEL_4K) && bench_populate(b);
}

static void age(struct bench *b, uint64_t *young, int expected)
{
	tpt_hva start = {BENCH_HVA}, end = {BENCH_HVA + b->bytes};

	b->wrong = tpt_vm_age(b->vm, start, end, young) != expected;
}

static bool setup_old(struct bench *b)
{
	if (!setup_young(b))
		return false;
	age(b, NULL, 1);
	return !b->wrong || bench_fail(b, "set-up: no page was young");
}

static void age_young(struct bench *b)
{
	age(b, NULL, 1);
}

static void age_bitmap(struct bench *b)
{
	age(b, b->own, 1);
}

static void age_old(struct bench *b)
{
	age(b, NULL, 0);
}

static bool check_old(struct bench *b)
{
	uint64_t left = bench_leaves_with(b, b->vm->trees.format.accessed);

	if (left)
		return bench_fail(b, "%lu leaves are still young", left);
	return bench_check_leaves(b, b->pages, 0);
}

static bool check_bitmap(struct bench *b)
{
	const uint64_t *young = b->own;

	for (uint64_t i = 0; i < b->pages / 64; i++)
		if (young[i] != ~0ull)
			return bench_fail(b, "word %lu of the bitmap is %#lx", i, young[i]);
	return check_old(b);
}

static void teardown(struct bench *b)
{
	free(b->own);
	b->own = NULL;
	bench_vm_destroy(b);
}

const struct bench_op bench_ages[] = {
	{.name = "age",
	 .unit = "page",
	 .formats = BENCH_BOTH,
	 .what = "young pages made old",
	 .floor = "floor_clear",
	 .setup = setup_young,
	 .run = age_young,
	 .check = check_old,
	 .teardown = teardown},
	{.name = "age_bitmap",
	 .unit = "page",
	 .formats = BENCH_BOTH,
	 .what = "the same, and a bitmap tells which",
	 .floor = "floor_clear",
	 .setup = setup_young,
	 .run = age_bitmap,
	 .check = check_bitmap,
	 .teardown = teardown},
	{.name = "age_old",
	 .unit = "page",
	 .formats = BENCH_BOTH,
	 .what = "the same where no page is young",
	 .floor = "floor_walk_seq",
	 .setup = setup_old,
	 .run = age_old,
	 .check = check_old,
	 .teardown = teardown},
	{0},
};
