// SPDX-License-Identifier: BSD-2-Clause
/*
 * Curves: operations beside much of something (memslots, private ranges, invalidations in flight),
 * and over more and more memory. Measures what an operation looks up, not what was set up.
 */
#include <stdlib.h>

#include "bench/bench.h"
#include "bench/loop.h"

/* Faults of a pass, each on a page of its own, in disorder: over so many pages at least. */
#define FAULTS	  2048
#define MIN_PAGES (1u << 16)
/* More than any of these VMs has. */
#define TOP_BYTES (1ull << 40)

struct scale {
	uint32_t *order;
	struct tpt_invalidation *token;
	uint64_t begun;
};

static uint64_t greater(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* @nr pages, @first + @step * i for i below @pages, in disorder: by a stride that is prime. */
static bool make_scale(struct bench *b, uint64_t nr, uint64_t pages, uint32_t first, uint32_t step)
{
	struct scale *s = calloc(1, sizeof(*s));

	b->own = s;
	b->units = nr;
	if (s)
		s->order = calloc(nr, sizeof(*s->order));
	if (!s || !s->order)
		return bench_fail(b, "no memory");
	for (uint64_t i = 0; i < nr; i++)
		s->order[i] = (uint32_t)(i * 7368787 % pages) * step + first;
	return true;
}

static void teardown(struct bench *b)
{
	struct scale *s = b->own;

	/* The last one first: that is where a list begins. */
	while (s && s->begun)
		tpt_vm_invalidate_end(b->vm, &s->token[--s->begun]);
	bench_vm_destroy(b);
	if (s) {
		free(s->order);
		free(s->token);
	}
	free(s);
	b->own = NULL;
}

static bool check(struct bench *b)
{
	return bench_check_leaves(b, FAULTS, 0);
}

static __attribute__((noinline)) int one_fault(struct bench *b, struct tpt_fault *fault)
{
	return tpt_vcpu_fault(b->vcpu, fault);
}

static __attribute__((noinline)) int one_shared_fault(struct bench *b, struct tpt_fault *fault)
{
	fault->gpa.a |= BENCH_SHARED;
	return tpt_vcpu_fault(b->vcpu, fault);
}

static void faults(struct bench *b)
{
	const struct scale *s = b->own;

	loop_over_accesses(b, s->order, one_fault, TPT_RET_PF_FIXED, TPT_PFERR_WRITE);
}

static void shared_faults(struct bench *b)
{
	const struct scale *s = b->own;

	loop_over_accesses(b, s->order, one_shared_fault, TPT_RET_PF_FIXED, TPT_PFERR_WRITE);
}

/* Tables come once, unmeasured: faults a table apart would each pay for one. */
static bool link_tables(struct bench *b, void (*run)(struct bench *b))
{
	struct tpt_invalidation token;
	int zapped;

	run(b);
	zapped = tpt_vm_invalidate_begin(b->vm, tpt_hva_make(BENCH_HVA),
					 tpt_hva_make(BENCH_HVA + TOP_BYTES), &token);
	if (zapped >= 0)
		tpt_vm_invalidate_end(b->vm, &token);
	return zapped == FAULTS || bench_fail(b, "set-up: %d pages were mapped", zapped);
}

/* ---- memslots ---- */

/* The VM's first slot, and param - 1 more of the same size behind it. */
static bool setup_slots(struct bench *b)
{
	uint64_t each = (MIN_PAGES + b->param - 1) / b->param * TPT_PAGE_SIZE;

	if (!make_scale(b, FAULTS, each * b->param / TPT_PAGE_SIZE, 0, 1) ||
	    !bench_vm(b, 0, each, TPT_LEVEL_4K))
		return false;
	for (uint32_t id = 1; id < b->param; id++) {
		const struct tpt_memory_region region = {.slot = id,
							 .gpa = {id * each},
							 .size = each,
							 .hva = {BENCH_HVA + id * each}};

		if (tpt_vm_set_memory_region(b->vm, &region))
			return bench_fail(b, "memslot %u was refused", id);
	}
	return link_tables(b, faults);
}

/* ---- private ranges ---- */

/* Every other page from 0 on is private; what is measured is on those between, or behind. */
static bool make_ranges(struct bench *b)
{
	uint64_t pairs = greater(b->param, MIN_PAGES / 2);

	if (!make_scale(b, FAULTS, pairs, 1, 2) || !bench_td(b, 2 * pairs * TPT_PAGE_SIZE, NULL) ||
	    tpt_vm_set_private(b->vm, 0, 2 * pairs, false, NULL))
		return bench_fail(b, "no TD");
	for (uint64_t i = 0; i < b->param; i++)
		if (tpt_vm_set_private(b->vm, 2 * i, 2 * i + 1, true, NULL))
			return bench_fail(b, "page %lu cannot be private", 2 * i);
	return true;
}

static bool setup_ranges(struct bench *b)
{
	return make_ranges(b) && link_tables(b, shared_faults);
}

/* A page between two private ones joins them, and parts them again. */
static __attribute__((noinline)) int one_conversion(struct bench *b, tpt_gfn gfn)
{
	int err = tpt_vm_set_private(b->vm, gfn, gfn + 1, true, NULL);

	return err ? err : tpt_vm_set_private(b->vm, gfn, gfn + 1, false, NULL);
}

static void conversions(struct bench *b)
{
	const struct scale *s = b->own;

	loop_over_gfns(b, s->order, one_conversion, 0);
}

static bool check_shared(struct bench *b)
{
	return bench_check_leaves(b, 0, 0) && bench_check_private(b, 0);
}

/* ---- invalidations ---- */

/* Each of another page behind those that faults are on. */
static bool setup_invalidations(struct bench *b)
{
	uint64_t bytes = (MIN_PAGES + 2 * b->param) * TPT_PAGE_SIZE;
	struct scale *s;

	if (!make_scale(b, FAULTS, MIN_PAGES, 0, 1) || !bench_vm(b, 0, bytes, TPT_LEVEL_4K) ||
	    !link_tables(b, faults))
		return false;
	s = b->own;
	s->token = calloc(b->param, sizeof(*s->token));
	for (; s->token && s->begun < b->param; s->begun++) {
		uint64_t at = BENCH_HVA + (MIN_PAGES + 2 * s->begun) * TPT_PAGE_SIZE;

		if (tpt_vm_invalidate_begin(b->vm, tpt_hva_make(at),
					    tpt_hva_make(at + TPT_PAGE_SIZE), &s->token[s->begun]))
			return bench_fail(b, "invalidation %lu was refused", s->begun);
	}
	return s->token || bench_fail(b, "no memory");
}

/* ---- memory ---- */

static bool setup_mib(struct bench *b)
{
	uint64_t bytes = b->param << 20, pages = bytes / TPT_PAGE_SIZE;

	return make_scale(b, pages, pages, 0, 1) && bench_vm(b, 0, bytes, TPT_LEVEL_4K);
}

static bool setup_mapped_mib(struct bench *b)
{
	return setup_mib(b) && bench_populate(b);
}

static void unmap(struct bench *b)
{
	struct tpt_invalidation token;
	int zapped = tpt_vm_invalidate_begin(b->vm, tpt_hva_make(BENCH_HVA),
					     tpt_hva_make(BENCH_HVA + b->bytes), &token);

	if (zapped < 0)
		return;
	tpt_vm_invalidate_end(b->vm, &token);
	b->wrong = b->units - (uint64_t)zapped;
}

static bool check_mapped_mib(struct bench *b)
{
	return bench_check_leaves(b, b->units, 0);
}

static bool check_none(struct bench *b)
{
	return bench_check_leaves(b, 0, 0);
}

const struct bench_op bench_scales[] = {
	{.name = "fault_rand_mib",
	 .unit = "fault",
	 .formats = BENCH_EPT,
	 .what = "whole fault in disorder over so much memory",
	 .uncounted = true,
	 .most_rounds = 3,
	 .curve = "MiB",
	 .param = {4, 16, 64, 256, 1024, 4096},
	 .setup = setup_mib,
	 .run = faults,
	 .check = check_mapped_mib,
	 .teardown = teardown},
	{.name = "unmap_mib",
	 .unit = "page",
	 .formats = BENCH_EPT,
	 .what = "the host takes so much memory back, all of it mapped",
	 .uncounted = true,
	 .most_rounds = 3,
	 .curve = "MiB",
	 .param = {4, 16, 64, 256, 1024, 4096},
	 .setup = setup_mapped_mib,
	 .run = unmap,
	 .check = check_none,
	 .teardown = teardown},
	{.name = "fault_slots",
	 .unit = "fault",
	 .formats = BENCH_EPT,
	 .what = "whole fault beside so many memslots",

	 .harness = "loop_access",
	 .most_rounds = 3,
	 .curve = "memslots",
	 .param = {1, 8, 64, 512, 4096, 32764},
	 .setup = setup_slots,
	 .run = faults,
	 .check = check,
	 .teardown = teardown},
	{.name = "fault_ranges",
	 .unit = "fault",
	 .formats = BENCH_EPT,
	 .what = "whole fault, shared, beside so many private ranges",

	 .harness = "loop_access",
	 .most_rounds = 3,
	 .curve = "private ranges",
	 .param = {1, 10, 100, 1000, 10000, 100000},
	 .setup = setup_ranges,
	 .run = shared_faults,
	 .check = check,
	 .teardown = teardown},
	{.name = "convert_ranges",
	 .unit = "pair",
	 .formats = BENCH_EPT,
	 .what = "one page there and back beside so many private ranges",
	 .harness = "loop_gfn",
	 .most_rounds = 3,
	 .curve = "private ranges",
	 .param = {1, 10, 100, 1000, 10000, 100000},
	 .setup = make_ranges,
	 .run = conversions,
	 .check = check_shared,
	 .teardown = teardown},
	{.name = "fault_invalidations",
	 .unit = "fault",
	 .formats = BENCH_EPT,
	 .what = "whole fault beside so many invalidations in flight",

	 .harness = "loop_access",
	 .most_rounds = 3,
	 .curve = "invalidations",
	 .param = {1, 10, 100, 1000, 10000, 100000},
	 .setup = setup_invalidations,
	 .run = faults,
	 .check = check,
	 .teardown = teardown},
	{0},
};
