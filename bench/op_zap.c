// SPDX-License-Identifier: BSD-2-Clause
/* Mappings that go: by range, by page, by slot, and all at once. */
#include "bench/bench.h"
#include "bench/loop.h"
#include "mmu/vm/vm.h"

static bool setup_4k(struct bench *b)
{
	b->units = b->pages;
	return bench_vm(b, 0, b->pages * TPT_PAGE_SIZE, TPT_LEVEL_4K) && bench_populate(b);
}

static bool setup_2m(struct bench *b)
{
	b->units = b->huge;
	return bench_vm(b, 0, b->huge << 21, TPT_LEVEL_2M) && bench_populate(b);
}

/* The host takes [start, end) of the slot back; answers how many leaves went. */
static inline int invalidate(struct bench *b, uint64_t start, uint64_t end)
{
	struct tpt_invalidation token;
	int zapped = tpt_vm_invalidate_begin(b->vm, tpt_hva_make(BENCH_HVA + start),
					     tpt_hva_make(BENCH_HVA + end), &token);

	if (zapped >= 0)
		tpt_vm_invalidate_end(b->vm, &token);
	return zapped;
}

static void unmap_range(struct bench *b)
{
	b->wrong = b->units - (uint64_t)invalidate(b, 0, b->bytes);
}

static __attribute__((noinline)) int unmap_call(struct bench *b, tpt_gfn gfn)
{
	return invalidate(b, gfn << TPT_PAGE_SHIFT, (gfn + 1) << TPT_PAGE_SHIFT);
}

static void unmap_one_call(struct bench *b)
{
	loop_over_gfns(b, b->in_order, unmap_call, 1);
}

static __attribute__((noinline)) int unmap_page(struct bench *b, tpt_gfn gfn)
{
	struct zap zap = zap_make(&b->vm->env, ZAP_NOTIFIER, 1u << TREE_DIRECT, gfn, gfn + 1);

	return zap_chunk(&b->vm->env, &zap) ? -1 : (int)zap.zapped;
}

static void unmap_one(struct bench *b)
{
	section_exclusive_begin(&b->vm->base);
	loop_over_gfns(b, b->in_order, unmap_page, 1);
	section_exclusive_end(&b->vm->base);
}

static void delete_slot(struct bench *b)
{
	const struct tpt_memory_region none = {.size = 0};

	b->wrong = tpt_vm_set_memory_region(b->vm, &none) != 0;
}

static void zap_all_fast_now(struct bench *b)
{
	b->wrong = tpt_vm_zap_all_fast(b->vm) != 0;
}

static bool setup_deferred(struct bench *b)
{
	return setup_4k(b) && (!tpt_vm_zap_all_fast(b->vm) || bench_fail(b, "no zap"));
}

static bool setup_deferred_2m(struct bench *b)
{
	return setup_2m(b) && (!tpt_vm_zap_all_fast(b->vm) || bench_fail(b, "no zap"));
}

static bool check_gone(struct bench *b)
{
	return bench_check_leaves(b, 0, 0);
}

static bool check_freed(struct bench *b)
{
	return bench_check_nothing_deferred(b) && check_gone(b);
}

const struct bench_op bench_zaps[] = {
	{.name = "unmap_range",
	 .unit = "page",
	 .formats = BENCH_BOTH,
	 .what = "the host takes all memory back: leaf by leaf",
	 .floor = "floor_clear",
	 .setup = setup_4k,
	 .run = unmap_range,
	 .check = check_gone,
	 .teardown = bench_vm_destroy},
	{.name = "unmap_one",
	 .unit = "page",
	 .formats = BENCH_BOTH,
	 .what = "one page a call, the exclusive section held",
	 .floor = "floor_cas_seq",
	 .harness = "loop_gfn",
	 .setup = setup_4k,
	 .run = unmap_one,
	 .check = check_gone,
	 .teardown = bench_vm_destroy},
	{.name = "unmap_one_call",
	 .unit = "page",
	 .formats = BENCH_BOTH,
	 .what = "one page an invalidation, begin and end",
	 .floor = "floor_cas_seq",
	 .harness = "loop_gfn",
	 .setup = setup_4k,
	 .run = unmap_one_call,
	 .check = check_gone,
	 .teardown = bench_vm_destroy},
	{.name = "unmap_2m",
	 .unit = "2M",
	 .formats = BENCH_BOTH,
	 .what = "the host takes all memory back, mapped by 2M leaves",
	 .floor = "floor_clear",
	 .setup = setup_2m,
	 .run = unmap_range,
	 .check = check_gone,
	 .teardown = bench_vm_destroy},
	{.name = "delete_slot",
	 .unit = "page",
	 .formats = BENCH_BOTH,
	 .what = "a memslot deleted, all of it mapped",
	 .floor = "floor_clear",
	 .setup = setup_4k,
	 .run = delete_slot,
	 .check = check_gone,
	 .teardown = bench_vm_destroy},
	{.name = "zap_all_fast",
	 .unit = "page",
	 .formats = BENCH_BOTH,
	 .what = "all roots invalidated: until it returns",
	 .setup = setup_4k,
	 .run = zap_all_fast_now,
	 .check = check_gone,
	 .teardown = bench_vm_destroy},
	{.name = "zap_all_fast_deferred",
	 .unit = "page",
	 .formats = BENCH_BOTH,
	 .what = "what the reclaimer does after it",
	 .floor = "floor_memset",
	 .setup = setup_deferred,
	 .run = bench_run_only_deferred,
	 .check = check_freed,
	 .teardown = bench_vm_destroy},
	{.name = "zap_all_fast_2m",
	 .unit = "2M",
	 .formats = BENCH_BOTH,
	 .what = "all roots invalidated, memory mapped by 2M leaves: until it returns",
	 .setup = setup_2m,
	 .run = zap_all_fast_now,
	 .check = check_gone,
	 .teardown = bench_vm_destroy},
	{.name = "zap_all_fast_2m_deferred",
	 .unit = "2M",
	 .formats = BENCH_BOTH,
	 .what = "what the reclaimer does after it",
	 .floor = "floor_memset",
	 .setup = setup_deferred_2m,
	 .run = bench_run_only_deferred,
	 .check = check_freed,
	 .teardown = bench_vm_destroy},
	{0},
};
