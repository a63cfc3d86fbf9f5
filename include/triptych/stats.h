/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is counted. Names are KVM's where KVM counts the thing. All counts are exact.
 */
#ifndef TRIPTYCH_STATS_H
#define TRIPTYCH_STATS_H

#include <triptych/event.h>
#include <triptych/platform.h>
#include <triptych/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct tpt_vm;
struct tpt_vcpu;

struct tpt_vcpu_stats {
	uint64_t pf_taken; /* faults handled, prefetches not counted */
	uint64_t pf_fixed;
	uint64_t pf_emulate;
	uint64_t pf_spurious;
	uint64_t pf_retry;
	uint64_t pf_fast; /* of the fixed and spurious: answered by the fast path */
	uint64_t pf_mmio_spte_created;
	uint64_t pf_error; /* ended with a negative errno */
	uint64_t cas_lost; /* an entry changed between read and compare-and-exchange */
	uint64_t external_calls[TPT_CALL_NR];
	uint64_t external_busy[TPT_CALL_NR]; /* of those: answered -EBUSY */
};

/* Pages held by the trees of one kind, by page size, and the tables that hold them. */
struct tpt_tree_stats {
	uint64_t pages_4k, pages_2m, pages_1g; /* leaves by size */
	uint64_t blocked;		       /* of those: BLOCKED, not yet removed */
	uint64_t tables;		       /* table pages, roots included */
	uint64_t mmio;			       /* cached MMIO entries */
};

struct tpt_vm_stats {
	struct tpt_vcpu_stats vcpus; /* sum over all vCPUs, and over range operations */
	struct tpt_tree_stats direct, mirror;
	uint64_t roots;
	uint64_t remote_tlb_flush;    /* flushes asked of the platform */
	uint64_t flush[TPT_FLUSH_NR]; /* the same, by reason */
	uint64_t kick[TPT_KICK_NR];
	uint64_t hold;	    /* times that vCPUs were held out of guest mode */
	uint64_t exclusive; /* exclusive sections */
	/* Most entries that a range operation looked at before it gave way: alone, and beside
	 * faults. Audits and listings are not asked. */
	uint64_t longest_exclusive, longest_shared;
	uint64_t invalidations; /* begin calls */
	uint64_t zap_all_fast;
	uint64_t nx_lpage_splits;      /* tables where a huge page could be, but that code runs */
	uint64_t table_pages_live;     /* allocated and not yet freed, caches included */
	uint64_t table_pages_deferred; /* of those: waiting for a grace period */
	uint64_t leaked_pages;	       /* pages of the external owner that can't come back */
};

void tpt_vm_get_stats(struct tpt_vm *vm, struct tpt_vm_stats *stats);
void tpt_vcpu_get_stats(const struct tpt_vcpu *vcpu, struct tpt_vcpu_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
