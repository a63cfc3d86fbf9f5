// SPDX-License-Identifier: BSD-2-Clause
/* Tree work alone: one entry that was decided on is installed. Decides nothing. */
#include "bench/bench.h"
#include "bench/loop.h"
#include "mmu/vm/vm.h"

#define PAGES_BYTES(b) ((b)->pages * TPT_PAGE_SIZE)
#define HUGE_BYTES(b)  ((b)->huge << 21)

static bool setup_4k(struct bench *b)
{
	b->units = b->pages;
	return bench_vm(b, 0, PAGES_BYTES(b), TPT_LEVEL_4K);
}

static bool setup_2m(struct bench *b)
{
	b->units = b->huge;
	return bench_vm(b, 0, HUGE_BYTES(b), TPT_LEVEL_2M);
}

static bool setup_mirror(struct bench *b)
{
	b->units = b->pages;
	return bench_td(b, PAGES_BYTES(b), NULL);
}

static inline int map_in(struct bench *b, struct tpt_fault *fault, bool mirror)
{
	struct fault_vcpu *vcpu = &b->vcpu->fault;
	const struct memslot *slot = b->own;
	uint64_t turn;
	int ret;

	if (tables_topup(&b->vm->trees, &vcpu->actor, mirror))
		return -1;
	turn = section_enter(&vcpu->actor);
	if (!turn)
		return -1;
	ret = fault_map(vcpu, fault, slot, false, turn);
	section_leave(&vcpu->actor);
	return ret;
}

static __attribute__((noinline)) int map_direct(struct bench *b, struct tpt_fault *fault)
{
	return map_in(b, fault, false);
}

static __attribute__((noinline)) int map_mirror(struct bench *b, struct tpt_fault *fault)
{
	return map_in(b, fault, true);
}

/* The slot is the VM's only one, and nobody changes it. */
static void find_slot(struct bench *b)
{
	b->own = slot_find(&b->vm->slots, 0, 0);
}

static void map_4k_seq(struct bench *b)
{
	find_slot(b);
	loop_over_decided(b, b->in_order, map_direct, TPT_LEVEL_4K, false);
}

static void map_4k_rand(struct bench *b)
{
	find_slot(b);
	loop_over_decided(b, b->in_disorder, map_direct, TPT_LEVEL_4K, false);
}

static void map_2m_seq(struct bench *b)
{
	find_slot(b);
	loop_over_decided(b, b->in_order, map_direct, TPT_LEVEL_2M, false);
}

static void map_mirror_seq(struct bench *b)
{
	find_slot(b);
	loop_over_decided(b, b->in_order, map_mirror, TPT_LEVEL_4K, true);
}

static void map_mirror_rand(struct bench *b)
{
	find_slot(b);
	loop_over_decided(b, b->in_disorder, map_mirror, TPT_LEVEL_4K, true);
}

static bool check_4k(struct bench *b)
{
	return bench_check_leaves(b, b->pages, 0);
}

static bool check_2m(struct bench *b)
{
	return bench_check_leaves(b, 0, b->huge);
}

static bool check_mirror(struct bench *b)
{
	return bench_check_private(b, b->pages);
}

const struct bench_op bench_maps[] = {
	{.name = "map_4k_seq",
	 .unit = "page",
	 .formats = BENCH_BOTH,
	 .what = "caches filled, section entered, 4K entry installed, section left; in order",
	 .floor = "floor_cas_seq",
	 .harness = "loop_decided",
	 .setup = setup_4k,
	 .run = map_4k_seq,
	 .check = check_4k,
	 .teardown = bench_vm_destroy},
	{.name = "map_4k_rand",
	 .unit = "page",
	 .formats = BENCH_BOTH,
	 .what = "the same in disorder",
	 .floor = "floor_cas_rand_fenced",
	 .harness = "loop_decided",
	 .setup = setup_4k,
	 .run = map_4k_rand,
	 .check = check_4k,
	 .teardown = bench_vm_destroy},
	{.name = "map_2m_seq",
	 .unit = "2M",
	 .formats = BENCH_BOTH,
	 .what = "the same for a 2M entry, in order",
	 .floor = "floor_cas_seq",
	 .harness = "loop_decided",
	 .setup = setup_2m,
	 .run = map_2m_seq,
	 .check = check_2m,
	 .teardown = bench_vm_destroy},
	{.name = "mirror_map_4k",
	 .unit = "page",
	 .formats = BENCH_EPT,
	 .what = "the same in a mirror: FROZEN, an external call that does nothing, LEAF",
	 .floor = "floor_cas_seq",
	 .harness = "loop_decided",
	 .setup = setup_mirror,
	 .run = map_mirror_seq,
	 .check = check_mirror,
	 .teardown = bench_vm_destroy},
	{.name = "mirror_map_4k_rand",
	 .unit = "page",
	 .formats = BENCH_EPT,
	 .what = "the same in disorder",
	 .floor = "floor_cas_rand_fenced",
	 .harness = "loop_decided",
	 .setup = setup_mirror,
	 .run = map_mirror_rand,
	 .check = check_mirror,
	 .teardown = bench_vm_destroy},
	{0},
};
