/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The loops around operations on one page, so that the same ones can be measured with nothing in
 * them. Inline with a constant function: what remains of it is the call.
 */
#ifndef BENCH_LOOP_H
#define BENCH_LOOP_H

#include "bench/bench.h"

/* @one for each unit's GFN, scaled by the level of the backing. */
static inline void loop_over_gfns(struct bench *b, const uint32_t *order,
				  int (*one)(struct bench *b, tpt_gfn gfn), int expected)
{
	uint64_t wrong = 0;

	for (uint64_t i = 0; i < b->units; i++)
		wrong += one(b, order[i]) != expected;
	b->wrong = wrong;
}

/* @one for an access to each unit, as a processor's exit tells of it. */
static inline void loop_over_accesses(struct bench *b, const uint32_t *order,
				      int (*one)(struct bench *b, struct tpt_fault *fault),
				      int expected, uint64_t error_code)
{
	unsigned int shift = b->level > TPT_LEVEL_4K ? 21 : TPT_PAGE_SHIFT;
	uint64_t wrong = 0;

	for (uint64_t i = 0; i < b->units; i++) {
		struct tpt_fault fault = {.gpa = {(uint64_t)order[i] << shift},
					  .error_code = error_code};

		wrong += one(b, &fault) != expected;
	}
	b->wrong = wrong;
}

/* @one for each unit, as a fault that was decided: what is to be installed where. */
static inline void loop_over_decided(struct bench *b, const uint32_t *order,
				     int (*one)(struct bench *b, struct tpt_fault *fault),
				     enum tpt_level level, bool is_private)
{
	unsigned int shift = level > TPT_LEVEL_4K ? 9 : 0;
	uint64_t wrong = 0;

	for (uint64_t i = 0; i < b->units; i++) {
		tpt_gfn gfn = (uint64_t)order[i] << shift;
		struct tpt_fault fault = {.gpa = {gfn << TPT_PAGE_SHIFT},
					  .error_code = TPT_PFERR_WRITE,
					  .is_private = is_private,
					  .gfn = gfn,
					  .pfn = {(1ull << 28) + gfn},
					  .map_writable = true,
					  .req_level = level,
					  .goal_level = level};

		wrong += one(b, &fault) != TPT_RET_PF_FIXED;
	}
	b->wrong = wrong;
}

#endif
