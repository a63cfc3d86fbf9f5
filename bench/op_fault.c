// SPDX-License-Identifier: BSD-2-Clause
/* Whole faults, from the access record to the answer, and what stands in for them: lookups and
 * mapping ahead. */
#include "bench/bench.h"
#include "bench/loop.h"
#include "mmu/vm/vm.h"

static bool setup_4k(struct bench *b)
{
	b->units = b->pages;
	return bench_vm(b, 0, b->pages * TPT_PAGE_SIZE, TPT_LEVEL_4K);
}

static bool setup_2m(struct bench *b)
{
	b->units = b->huge;
	return bench_vm(b, 0, b->huge << 21, TPT_LEVEL_2M);
}

static bool setup_mirror(struct bench *b)
{
	b->units = b->pages;
	return bench_td(b, b->pages * TPT_PAGE_SIZE, NULL);
}

static bool setup_mapped(struct bench *b)
{
	return setup_4k(b) && bench_populate(b);
}

static bool setup_protected(struct bench *b)
{
	return setup_mapped(b) && bench_log_dirty(b, true);
}

static bool setup_scattered(struct bench *b)
{
	b->scattered = true;
	return setup_4k(b);
}

static __attribute__((noinline)) int one_fault(struct bench *b, struct tpt_fault *fault)
{
	return tpt_vcpu_fault(b->vcpu, fault);
}

static void fault_seq(struct bench *b)
{
	loop_over_accesses(b, b->in_order, one_fault, TPT_RET_PF_FIXED, TPT_PFERR_WRITE);
}

static void fault_rand(struct bench *b)
{
	loop_over_accesses(b, b->in_disorder, one_fault, TPT_RET_PF_FIXED, TPT_PFERR_WRITE);
}

static void spurious(struct bench *b)
{
	loop_over_accesses(b, b->in_order, one_fault, TPT_RET_PF_SPURIOUS, TPT_PFERR_WRITE);
}

static void fast_write(struct bench *b)
{
	loop_over_accesses(b, b->in_order, one_fault, TPT_RET_PF_FIXED,
			   TPT_PFERR_WRITE | TPT_PFERR_PRESENT);
}

/* What the last lookup said. */
static struct tpt_lookup found;

static __attribute__((noinline)) int one_lookup(struct bench *b, tpt_gfn gfn)
{
	return tpt_vcpu_lookup(b->vcpu, (tpt_gpa){gfn << TPT_PAGE_SHIFT}, &found);
}

static void lookup_seq(struct bench *b)
{
	loop_over_gfns(b, b->in_order, one_lookup, 1);
}

static void lookup_rand(struct bench *b)
{
	loop_over_gfns(b, b->in_disorder, one_lookup, 1);
}

static void premap(struct bench *b)
{
	uint64_t done;

	if (tpt_vcpu_premap(b->vcpu, 0, b->pages, TPT_ACC_READ | TPT_ACC_WRITE, &done))
		return;
	b->wrong = b->pages - done;
}

static bool check_4k(struct bench *b)
{
	return bench_check_leaves(b, b->pages, 0);
}

static bool check_2m(struct bench *b)
{
	return bench_check_leaves(b, 0, b->huge);
}

static bool setup_looked_up(struct bench *b)
{
	found.level = TPT_LEVEL_NONE;
	return setup_mapped(b);
}

/* It changes nothing that could be looked at. */
static bool check_found(struct bench *b)
{
	if (found.level != TPT_LEVEL_4K)
		return bench_fail(b, "the last lookup found no page");
	return bench_check_answers(b);
}

static bool check_mirror(struct bench *b)
{
	return bench_check_private(b, b->pages);
}

static bool check_writable(struct bench *b)
{
	uint64_t nr = bench_leaves_with(b, b->vm->trees.format.write);

	if (nr != b->pages)
		return bench_fail(b, "%lu leaves are writable, not %lu", nr, b->pages);
	return bench_check_answers(b);
}

const struct bench_op bench_faults[] = {
	{.name = "fault_4k_seq",
	 .unit = "fault",
	 .formats = BENCH_BOTH,
	 .what = "whole fault, a 4K page, in order",
	 .floor = "floor_cas_seq",
	 .harness = "loop_access",
	 .setup = setup_4k,
	 .run = fault_seq,
	 .check = check_4k,
	 .teardown = bench_vm_destroy},
	{.name = "fault_4k_rand",
	 .unit = "fault",
	 .formats = BENCH_BOTH,
	 .what = "the same in disorder",
	 .floor = "floor_cas_rand_fenced",
	 .harness = "loop_access",
	 .setup = setup_4k,
	 .run = fault_rand,
	 .check = check_4k,
	 .teardown = bench_vm_destroy},
	{.name = "fault_2m_seq",
	 .unit = "fault",
	 .formats = BENCH_BOTH,
	 .what = "whole fault, a 2M page, in order",
	 .floor = "floor_cas_seq",
	 .harness = "loop_access",
	 .setup = setup_2m,
	 .run = fault_seq,
	 .check = check_2m,
	 .teardown = bench_vm_destroy},
	{.name = "mirror_fault_4k",
	 .unit = "fault",
	 .formats = BENCH_EPT,
	 .what = "whole fault of a TD, a private 4K page, external calls that do nothing",
	 .floor = "floor_cas_seq",
	 .harness = "loop_access",
	 .setup = setup_mirror,
	 .run = fault_seq,
	 .check = check_mirror,
	 .teardown = bench_vm_destroy},
	{.name = "spurious",
	 .unit = "fault",
	 .formats = BENCH_BOTH,
	 .what = "whole fault that another vCPU has fixed already",
	 .floor = "floor_walk_seq",
	 .harness = "loop_access",
	 .setup = setup_mapped,
	 .run = spurious,
	 .check = check_4k,
	 .teardown = bench_vm_destroy},
	{.name = "fast_write_fault",
	 .unit = "fault",
	 .formats = BENCH_BOTH,
	 .what = "whole fault, first write to a page that the dirty log protects",
	 .floor = "floor_cas_seq",
	 .harness = "loop_access",
	 .setup = setup_protected,
	 .run = fast_write,
	 .check = check_writable,
	 .teardown = bench_vm_destroy},
	{.name = "lookup",
	 .unit = "page",
	 .formats = BENCH_BOTH,
	 .what = "is a page mapped, and by what entry? section entered and left; in order",
	 .floor = "floor_walk_seq",
	 .harness = "loop_gfn",
	 .setup = setup_looked_up,
	 .run = lookup_seq,
	 .check = check_found,
	 .teardown = bench_vm_destroy},
	{.name = "lookup_rand",
	 .unit = "page",
	 .formats = BENCH_BOTH,
	 .what = "the same in disorder",
	 .floor = "floor_walk_rand_fenced",
	 .harness = "loop_gfn",
	 .setup = setup_looked_up,
	 .run = lookup_rand,
	 .check = check_found,
	 .teardown = bench_vm_destroy},
	{.name = "premap",
	 .unit = "page",
	 .formats = BENCH_BOTH,
	 .what = "a range mapped ahead, its frames in one run",
	 .floor = "floor_fill",
	 .setup = setup_4k,
	 .run = premap,
	 .check = check_4k,
	 .teardown = bench_vm_destroy},
	{.name = "premap_scattered",
	 .unit = "page",
	 .formats = BENCH_BOTH,
	 .what = "a range mapped ahead, no two frames in a row",
	 .floor = "floor_fill",
	 .setup = setup_scattered,
	 .run = premap,
	 .check = check_4k,
	 .teardown = bench_vm_destroy},
	{0},
};
