// SPDX-License-Identifier: BSD-2-Clause
/* Huge leaves to small ones and back. */
#include "bench/bench.h"
#include "mmu/vm/vm.h"

#define BLOCK_PAGES 512

static bool setup_huge(struct bench *b)
{
	b->units = b->pages / BLOCK_PAGES;
	return bench_vm(b, TPT_VM_EAGER_PAGE_SPLIT, b->pages * TPT_PAGE_SIZE, TPT_LEVEL_2M) &&
	       bench_populate(b);
}

/* As switching a dirty log on does it, without what it does to the small leaves. */
static void split(struct bench *b)
{
	struct range_split op = {
		.tree = TREE_DIRECT, .range = {0, b->pages}, .level = TPT_LEVEL_4K};
	struct actor *worker = worker_get(b->vm);
	int more;

	do {
		if (tables_topup(&b->vm->trees, worker, false))
			break;
		worker_enter(worker);
		more = range_split_chunk(&b->vm->env, worker, &op);
		worker_leave(worker);
	} while (more > 0);
	worker_put(b->vm, worker);
	b->wrong = b->units - op.split;
}

static void log_on(struct bench *b)
{
	b->wrong = !bench_log_dirty(b, true);
}

static void log_off(struct bench *b)
{
	b->wrong = !bench_log_dirty(b, false);
}

static bool setup_split(struct bench *b)
{
	return setup_huge(b) && bench_log_dirty(b, true);
}

static bool setup_recovered(struct bench *b)
{
	return setup_split(b) && bench_log_dirty(b, false);
}

static bool check_small(struct bench *b)
{
	return bench_check_leaves(b, b->pages, 0);
}

static bool check_large(struct bench *b)
{
	return bench_check_leaves(b, 0, b->pages / BLOCK_PAGES);
}

static bool check_freed(struct bench *b)
{
	return bench_check_nothing_deferred(b) && check_large(b);
}

const struct bench_op bench_sizes[] = {
	{.name = "split_2m",
	 .unit = "2M",
	 .formats = BENCH_BOTH,
	 .what = "a 2M leaf to 512 of 4K",
	 .floor = "floor_fill",
	 .floor_nr = BLOCK_PAGES,
	 .setup = setup_huge,
	 .run = split,
	 .check = check_small,
	 .teardown = bench_vm_destroy},
	{.name = "log_on_2m",
	 .unit = "2M",
	 .formats = BENCH_BOTH,
	 .what = "a dirty log switched on: split and write-protected",
	 .floor = "floor_fill",
	 .floor_nr = BLOCK_PAGES,
	 .setup = setup_huge,
	 .run = log_on,
	 .check = check_small,
	 .teardown = bench_vm_destroy},
	{.name = "recover_2m",
	 .unit = "2M",
	 .formats = BENCH_BOTH,
	 .what = "a dirty log switched off, 512 leaves to one: until it returns",
	 .floor = "floor_cas_seq",
	 .setup = setup_split,
	 .run = log_off,
	 .check = check_large,
	 .teardown = bench_vm_destroy},
	{.name = "recover_2m_deferred",
	 .unit = "2M",
	 .formats = BENCH_BOTH,
	 .what = "what the reclaimer does after it",
	 .floor = "floor_memset",
	 .floor_nr = BLOCK_PAGES,
	 .setup = setup_recovered,
	 .run = bench_run_only_deferred,
	 .check = check_freed,
	 .teardown = bench_vm_destroy},
	{0},
};
