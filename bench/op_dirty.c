// SPDX-License-Identifier: BSD-2-Clause
/* Dirty logs: a slot's log switched on, and its pages watched again by words of 64. */
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "mmu/vm/vm.h"

static bool setup_mapped(struct bench *b, uint32_t vm_flags)
{
	b->units = b->pages;
	return bench_vm(b, vm_flags, b->pages * TPT_PAGE_SIZE, TPT_LEVEL_4K) && bench_populate(b);
}

static bool setup_wp(struct bench *b)
{
	return setup_mapped(b, 0);
}

/* The processor that logs by itself is Intel's; with NPT the walk below is called. */
static uint32_t pml(const struct bench *b)
{
	return b->format == TPT_FORMAT_EPT ? TPT_VM_PML : 0;
}

static bool setup_clear(struct bench *b)
{
	return setup_mapped(b, pml(b));
}

static void log_on(struct bench *b)
{
	b->wrong = !bench_log_dirty(b, true);
}

/* As the public call does it, without its log. */
static void sweep(struct bench *b, enum tree_rule rule)
{
	struct range_sweep op = {.rule = rule,
				 .min_level = TPT_LEVEL_4K,
				 .tree = TREE_DIRECT,
				 .range = {0, b->pages}};
	struct actor *worker = worker_get(b->vm);
	int more;

	do {
		worker_enter(worker);
		more = range_sweep_chunk(&b->vm->env, worker, &op);
		worker_leave(worker);
	} while (more > 0);
	worker_put(b->vm, worker);
	b->wrong = more < 0;
}

static void clear_slot(struct bench *b)
{
	if (pml(b))
		log_on(b);
	else
		sweep(b, TREE_CLEAR_DIRTY);
}

static bool check_none(struct bench *b, uint64_t bits)
{
	uint64_t left = bench_leaves_with(b, bits);

	if (left)
		return bench_fail(b, "%lu leaves still have what was to be taken", left);
	return bench_check_leaves(b, b->pages, 0);
}

static bool check_wp(struct bench *b)
{
	return check_none(b, b->vm->trees.format.write);
}

static bool check_clear(struct bench *b)
{
	return check_none(b, b->vm->trees.format.dirty);
}

/* ---- by words ---- */

/* Every page was written since the log is on, and is in it. */
static bool setup_logged(struct bench *b, uint32_t vm_flags)
{
	b->units = b->pages;
	b->own = malloc(b->pages / 8);
	if (!b->own)
		return bench_fail(b, "no bitmap");
	memset(b->own, 0xff, b->pages / 8);
	return bench_vm(b, vm_flags, b->pages * TPT_PAGE_SIZE, TPT_LEVEL_4K) &&
	       bench_log_dirty(b, true) && bench_populate(b);
}

static bool setup_logged_wp(struct bench *b)
{
	return setup_logged(b, TPT_VM_DIRTY_MANUAL);
}

static bool setup_logged_clear(struct bench *b)
{
	return setup_logged(b, TPT_VM_DIRTY_MANUAL | pml(b));
}

static void teardown_logged(struct bench *b)
{
	free(b->own);
	b->own = NULL;
	bench_vm_destroy(b);
}

static void clear_log(struct bench *b)
{
	b->wrong = tpt_vm_clear_dirty_log(b->vm, 0, 0, 0, b->pages, b->own) != 0;
}

static void sweep_masked(struct bench *b, enum tree_rule rule)
{
	struct actor *worker = worker_get(b->vm);
	const uint64_t mask = ~0ull;
	uint64_t hits = 0;

	worker_enter(worker);
	for (tpt_gfn gfn = 0; gfn < b->pages; gfn += 64)
		hits += range_sweep_masked(&b->vm->env, worker, TREE_DIRECT, rule, gfn, &mask, 1);
	worker_leave(worker);
	worker_put(b->vm, worker);
	b->wrong = b->pages - hits;
}

static void sweep_masked_wp(struct bench *b)
{
	sweep_masked(b, TREE_WRITE_PROTECT);
}

static void sweep_masked_clear(struct bench *b)
{
	sweep_masked(b, TREE_CLEAR_DIRTY);
}

const struct bench_op bench_dirty[] = {
	{.name = "wp_slot",
	 .unit = "page",
	 .formats = BENCH_BOTH,
	 .what = "a slot's dirty log switched on: every page write-protected",
	 .floor = "floor_clear",
	 .setup = setup_wp,
	 .run = log_on,
	 .check = check_wp,
	 .teardown = bench_vm_destroy},
	{.name = "clear_dirty_slot",
	 .unit = "page",
	 .formats = BENCH_BOTH,
	 .what = "the same where the processor logs: D cleared (NPT: the walk alone)",
	 .floor = "floor_clear",
	 .setup = setup_clear,
	 .run = clear_slot,
	 .check = check_clear,
	 .teardown = bench_vm_destroy},
	{.name = "wp_mask",
	 .unit = "page",
	 .formats = BENCH_BOTH,
	 .what = "a log of all pages cleared: write-protected by words of 64",
	 .floor = "floor_clear",
	 .setup = setup_logged_wp,
	 .run = clear_log,
	 .check = check_wp,
	 .teardown = teardown_logged},
	{.name = "wp_mask_walk",
	 .unit = "page",
	 .formats = BENCH_BOTH,
	 .what = "the walk of it alone",
	 .floor = "floor_clear",
	 .setup = setup_logged_wp,
	 .run = sweep_masked_wp,
	 .check = check_wp,
	 .teardown = teardown_logged},
	{.name = "clear_dirty_mask",
	 .unit = "page",
	 .formats = BENCH_EPT,
	 .what = "a log of all pages cleared where the processor logs: D by words of 64",
	 .floor = "floor_clear",
	 .setup = setup_logged_clear,
	 .run = clear_log,
	 .check = check_clear,
	 .teardown = teardown_logged},
	{.name = "clear_dirty_mask_walk",
	 .unit = "page",
	 .formats = BENCH_BOTH,
	 .what = "the walk of it alone",
	 .floor = "floor_clear",
	 .setup = setup_logged_clear,
	 .run = sweep_masked_clear,
	 .check = check_clear,
	 .teardown = teardown_logged},
	{0},
};
