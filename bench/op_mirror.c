// SPDX-License-Identifier: BSD-2-Clause
/* Private memory that goes or changes sides; external calls do nothing. */
#include "bench/bench.h"
#include "mmu/vm/vm.h"

static bool setup_private(struct bench *b)
{
	b->units = b->pages;
	return bench_td(b, b->pages * TPT_PAGE_SIZE, NULL) && bench_populate(b);
}

static bool setup_empty(struct bench *b)
{
	b->units = 2;
	return bench_td(b, b->pages * TPT_PAGE_SIZE, NULL);
}

/* All memory shared and mapped. */
static bool setup_shared(struct bench *b)
{
	b->units = b->pages;
	if (!bench_td(b, b->pages * TPT_PAGE_SIZE, NULL))
		return false;
	if (tpt_vm_set_private(b->vm, 0, b->pages, false, NULL) ||
	    tpt_vm_allow_prefault(b->vm, true) ||
	    tpt_vcpu_premap(b->vcpu, 0, b->pages, TPT_ACC_READ | TPT_ACC_WRITE, NULL))
		return bench_fail(b, "set-up: shared memory could not be mapped");
	return true;
}

static void hole(struct bench *b)
{
	b->wrong = tpt_gmem_punch_hole(b->gmem, 0, b->bytes) != 0;
}

static void to_shared(struct bench *b)
{
	b->wrong = tpt_vm_set_private(b->vm, 0, b->pages, false, NULL) != 0;
}

static void to_private(struct bench *b)
{
	b->wrong = tpt_vm_set_private(b->vm, 0, b->pages, true, NULL) != 0;
}

static void there_and_back(struct bench *b)
{
	to_shared(b);
	b->wrong += tpt_vm_set_private(b->vm, 0, b->pages, true, NULL) != 0;
}

static void end(struct bench *b)
{
	b->wrong = tpt_vm_teardown(b->vm) != 0;
}

static bool check_no_private(struct bench *b)
{
	return bench_check_private(b, 0);
}

static bool check_is(struct bench *b, bool private_)
{
	if (tpt_vm_is_private(b->vm, 0) != private_ ||
	    tpt_vm_is_private(b->vm, b->pages - 1) != private_)
		return bench_fail(b, "the memory is not %s", private_ ? "private" : "shared");
	return bench_check_private(b, 0) && bench_check_leaves(b, 0, 0);
}

static bool check_shared(struct bench *b)
{
	return check_is(b, false);
}

static bool check_private(struct bench *b)
{
	return check_is(b, true);
}

const struct bench_op bench_mirrors[] = {
	{.name = "mirror_unmap",
	 .unit = "page",
	 .formats = BENCH_EPT,
	 .what = "a hole in private memory: blocked, tracked, removed",
	 .floor = "floor_clear",
	 .setup = setup_private,
	 .run = hole,
	 .check = check_no_private,
	 .teardown = bench_vm_destroy},
	{.name = "mirror_teardown",
	 .unit = "page",
	 .formats = BENCH_EPT,
	 .what = "the guest's end: released, reclaimed",
	 .floor = "floor_clear",
	 .setup = setup_private,
	 .run = end,
	 .check = check_no_private,
	 .teardown = bench_vm_destroy},
	{.name = "convert_to_shared",
	 .unit = "page",
	 .formats = BENCH_EPT,
	 .what = "private memory becomes shared, all of it mapped",
	 .floor = "floor_clear",
	 .setup = setup_private,
	 .run = to_shared,
	 .check = check_shared,
	 .teardown = bench_vm_destroy},
	{.name = "convert_to_private",
	 .unit = "page",
	 .formats = BENCH_EPT,
	 .what = "shared memory becomes private, all of it mapped",
	 .floor = "floor_clear",
	 .setup = setup_shared,
	 .run = to_private,
	 .check = check_private,
	 .teardown = bench_vm_destroy},
	{.name = "convert_unmapped",
	 .unit = "call",
	 .formats = BENCH_EPT,
	 .what = "private memory becomes shared and private again, none of it mapped",
	 .setup = setup_empty,
	 .run = there_and_back,
	 .check = check_private,
	 .teardown = bench_vm_destroy},
	{0},
};
