/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which pages did the guest use? Test and clear of "young" over host-virtual memory, as an MMU
 * notifier's clear_young and test_young ask it.
 */
#ifndef TRIPTYCH_AGING_H
#define TRIPTYCH_AGING_H

#include <triptych/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct tpt_vm;

/* 64-bit words of a bitmap of young pages for [start, end): bit n is page n from @start. */
static inline size_t tpt_age_words(tpt_hva start, tpt_hva end)
{
	return (size_t)(((end.a - start.a) / TPT_PAGE_SIZE + 63) / 64);
}

/*
 * Was any page of host-virtual [start, end) used through a shared mapping since it was last aged?
 * All of them are old from now on. Young is a hint: nothing is flushed, so a processor that still
 * has a translation may go on using it without making the page young again. A huge page is young
 * or old as a whole. Beside faults: takes no exclusive section and makes no external call.
 *
 * Without accessed flags (TPT_VM_NO_AD) a page is aged by taking all access from its entry: the
 * next access faults and gets it back, W by a write only.
 *
 * @young, if not NULL, has tpt_age_words() words, which say page by page which were young (unused
 * bits are 0). 1: some were; 0: none; -EINVAL: the range is empty or not whole pages; -EIO.
 */
int tpt_vm_age(struct tpt_vm *vm, tpt_hva start, tpt_hva end, uint64_t *young);

/* The same question; nothing is changed. Without @young it ends at the first page that is. */
int tpt_vm_test_age(struct tpt_vm *vm, tpt_hva start, tpt_hva end, uint64_t *young);

#ifdef __cplusplus
}
#endif
#endif
