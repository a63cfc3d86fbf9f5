/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the library tells an observer while it works: KVM's MMU events with KVM's text formats, and
 * the mirror's own.
 */
#ifndef TRIPTYCH_EVENT_H
#define TRIPTYCH_EVENT_H

#include <triptych/types.h>

#ifdef __cplusplus
extern "C" {
#endif

enum tpt_event_kind {
	TPT_EVENT_PAGE_FAULT,	    /* kvm_page_fault */
	TPT_EVENT_SPTE_CHANGED,	    /* kvm_tdp_mmu_spte_changed, direct trees */
	TPT_EVENT_MIRROR_CHANGED,   /* the same of a mirror: tpt_mirror_spte_changed */
	TPT_EVENT_GET_PAGE,	    /* kvm_mmu_get_page: a table page was made */
	TPT_EVENT_PREPARE_ZAP_PAGE, /* kvm_mmu_prepare_zap_page: a table page was unlinked */
	TPT_EVENT_ZAP_ALL_FAST,	    /* kvm_mmu_zap_all_fast */
	TPT_EVENT_MARK_MMIO,	    /* mark_mmio_spte */
	TPT_EVENT_UNMAP_HVA,	    /* kvm_unmap_hva_range */
	TPT_EVENT_EXTERNAL,	/* tpt_external: one call to the external table and its answer */
	TPT_EVENT_FLUSH,	/* tpt_flush */
	TPT_EVENT_AGE_HVA,	/* kvm_age_hva */
	TPT_EVENT_TEST_AGE_HVA, /* kvm_test_age_hva */
};

enum tpt_external_call {
	TPT_CALL_LINK,
	TPT_CALL_MAP,
	TPT_CALL_BLOCK,
	TPT_CALL_UNBLOCK,
	TPT_CALL_TRACK,
	TPT_CALL_REMOVE,
	TPT_CALL_SPLIT,
	TPT_CALL_MERGE,
	TPT_CALL_RELEASE,
	TPT_CALL_RECLAIM_LEAF,
	TPT_CALL_FREE_TABLE,
	TPT_CALL_NR,
};

/* One event. Which members count is said beside each kind in tpt_event_format(). */
struct tpt_event {
	enum tpt_event_kind kind;
	int32_t vcpu; /* id of the vCPU that caused it, -1 if none did */
	uint32_t as_id;
	uint32_t level;
	tpt_gfn gfn;
	tpt_spte old_spte, new_spte;
	tpt_gpa gpa;	     /* PAGE_FAULT */
	uint64_t error_code; /* PAGE_FAULT */
	tpt_hva start, end;  /* UNMAP_HVA, AGE_HVA; TEST_AGE_HVA: start */
	uint32_t generation; /* MARK_MMIO, ZAP_ALL_FAST */
	uint32_t access;     /* MARK_MMIO */
	uint32_t role;	     /* GET_PAGE, PREPARE_ZAP_PAGE: role word, laid out as KVM's */
	uint32_t call;	     /* EXTERNAL: enum tpt_external_call; FLUSH: enum tpt_flush_reason */
	int32_t result;	     /* EXTERNAL: answer */
};

/* Called for each event, by whichever thread caused it, inside sections: must not call back. */
typedef void tpt_event_fn(void *ctx, const struct tpt_event *event);

/*
 * The event as text, in the form of the kernel's tracefs line after the timestamp. Writes at most
 * @size bytes with the final 0; returns the length of the whole text.
 */
size_t tpt_event_format(const struct tpt_event *event, char *text, size_t size);

/* "link", "map", ... */
const char *tpt_external_call_name(enum tpt_external_call call);

#ifdef __cplusplus
}
#endif
#endif
