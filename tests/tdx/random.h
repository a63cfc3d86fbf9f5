/* SPDX-License-Identifier: BSD-2-Clause */
/* One random step of a host or a guest: enough sense in it to get far, enough nonsense to be
 * refused. */
#ifndef TESTS_TDX_RANDOM_H
#define TESTS_TDX_RANDOM_H

#include "tests/tdx/lab.h"

struct rng {
	uint64_t state;
};

static inline uint64_t rng_next(struct rng *rng)
{
	rng->state ^= rng->state << 13;
	rng->state ^= rng->state >> 7;
	rng->state ^= rng->state << 17;
	return rng->state;
}

static inline unsigned int rng_below(struct rng *rng, unsigned int bound)
{
	return (unsigned int)(rng_next(rng) >> 20) % bound;
}

/* GPAs: a few 4 KiB pages, or the 2 MiB they lie in; now and then a whole table higher up. */
static inline uint64_t random_page_info(struct rng *rng, unsigned int level)
{
	uint64_t gpa = (uint64_t)rng_below(rng, 4) << 21;

	if (level == 0)
		gpa += (uint64_t)rng_below(rng, 6) << 12;
	return tdx_page_info(level >= 2 ? 0 : gpa, level);
}

static inline uint64_t random_4k(struct rng *rng)
{
	return LAB_FREE + LAB_PAGE * rng_below(rng, 64);
}

static inline uint64_t random_2m(struct rng *rng)
{
	return LAB_TDMR + (2ull << 20) * (2 + rng_below(rng, 4));
}

static const uint8_t random_host_leaves[] = {
	TDH_MEM_SEPT_ADD,	TDH_MEM_SEPT_ADD,	 TDH_MEM_SEPT_REMOVE,
	TDH_MEM_PAGE_AUG,	TDH_MEM_PAGE_AUG,	 TDH_MEM_PAGE_AUG,
	TDH_MEM_RANGE_BLOCK,	TDH_MEM_RANGE_BLOCK,	 TDH_MEM_RANGE_BLOCK,
	TDH_MEM_RANGE_UNBLOCK,	TDH_MEM_TRACK,		 TDH_MEM_TRACK,
	TDH_MEM_PAGE_REMOVE,	TDH_MEM_PAGE_REMOVE,	 TDH_MEM_PAGE_PROMOTE,
	TDH_MEM_PAGE_DEMOTE,	TDH_MEM_PAGE_RELOCATE,	 TDH_MEM_SEPT_RD,
	TDH_PHYMEM_PAGE_RDMD,	TDH_PHYMEM_PAGE_RECLAIM, TDH_MEM_PAGE_DEMOTE,
	TDH_PHYMEM_PAGE_WBINVD,
};

#define RANDOM_NR_LEAVES 64

/* A page operand that fits @leaf, or sometimes any. */
static inline uint64_t random_operand(struct rng *rng, unsigned int leaf, unsigned int level)
{
	bool large = leaf == TDH_MEM_PAGE_AUG && level == 1;

	if (rng_below(rng, 16) == 0)
		large = !large;
	return large ? random_2m(rng) : random_4k(rng);
}

/* @nr_good counts successes by leaf. */
static inline uint64_t random_host_call(struct lab *lab, struct rng *rng, unsigned int lp,
					unsigned int *nr_good)
{
	unsigned int leaf = random_host_leaves[rng_below(rng, sizeof(random_host_leaves))];
	unsigned int level = rng_below(rng, 32) ? rng_below(rng, 2) : rng_below(rng, 4);
	struct tdx_regs regs = {
		.rcx = random_page_info(rng, level),
		.rdx = LAB_TDR,
		.r8 = random_operand(rng, leaf, level),
	};

	if (leaf == TDH_MEM_TRACK)
		regs.rcx = LAB_TDR;
	if (leaf == TDH_PHYMEM_PAGE_RDMD || leaf == TDH_PHYMEM_PAGE_RECLAIM ||
	    leaf == TDH_PHYMEM_PAGE_WBINVD)
		regs.rcx = rng_below(rng, 2) ? random_4k(rng) : random_2m(rng);
	lab_seamcall(lab, lp, leaf, &regs);
	nr_good[leaf] += regs.rax == TDX_SUCCESS;
	return regs.rax;
}

/* Upper tables blocked or gone refuse everything below: open the way again. */
static inline void random_repair(struct lab *lab, struct rng *rng, unsigned int lp)
{
	lab_call(lab, lp, TDH_MEM_TRACK, LAB_TDR, 0, 0);
	for (unsigned int level = 3; level >= 1; level--) {
		uint64_t page_info = random_page_info(rng, level);

		lab_call(lab, lp, TDH_MEM_RANGE_UNBLOCK, page_info, LAB_TDR, 0);
		lab_call(lab, lp, TDH_MEM_SEPT_ADD, page_info, LAB_TDR, random_4k(rng));
	}
}

/* What vCPU @vcpu does next on processor @lp: enter, or something inside. */
static inline void random_guest_step(struct lab *lab, struct rng *rng, unsigned int lp,
				     unsigned int vcpu)
{
	const struct tdx_vmexit fault = {
		.reason = TDX_EXIT_EPT_VIOLATION,
		.qualification = 0x182,
		.gpa = (random_page_info(rng, 0) & ~7ull) + 8,
	};
	struct tdx_guest guest = {.rip = 0x1000 + rng_below(rng, 64)};
	struct tdx_regs host;

	if (!tdx_module_running_vcpu(lab->module, lp)) {
		lab_call(lab, lp, TDH_VP_ENTER, LAB_VCPU(vcpu), 0, 0);
		return;
	}
	lab_touch(lab, lp, random_page_info(rng, 0) & ~7ull);
	switch (rng_below(rng, 10)) {
	case 0:
		lab_kick(lab, lp);
		break;
	case 1:
		tdx_module_vmexit(lab->module, lp, &fault, &guest, &host);
		break;
	case 2:
		lab_tdcall(lab, lp, TDG_VP_VEINFO_GET, 0, &guest, &host);
		break;
	default:
		lab_tdcall(lab, lp, TDG_MEM_PAGE_ACCEPT, random_page_info(rng, rng_below(rng, 2)),
			   &guest, &host);
		break;
	}
}

#endif
