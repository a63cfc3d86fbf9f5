/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * NX huge pages: a guest that runs code from huge pages can stop some processors for good (iTLB
 * multihit, CVE-2018-12207), so no huge leaf lets code run; what is executed is mapped in 4 KiB
 * pages, and made huge again after a while.
 */
#ifndef TRIPTYCH_NX_H
#define TRIPTYCH_NX_H

#include <triptych/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct tpt_vm;

/* As kvm.nx_huge_pages, but a VM's own. */
enum tpt_nx_mode {
	TPT_NX_AUTO = 0, /* on if the processor has the bug: TPT_VM_ITLB_MULTIHIT. The default */
	TPT_NX_OFF,
	TPT_NX_FORCE, /* on */
	TPT_NX_NEVER, /* off, and no other mode is set any more */
};

/*
 * Sets the mode. If that switches NX huge pages on or off, all direct roots are invalidated as by
 * tpt_vm_zap_all_fast(). Mirrors are never concerned: what they let run is their owner's. -EINVAL:
 * no such mode; -EPERM: the mode is NEVER; -EBUSY: NEVER, and the VM has vCPUs; -EIO.
 */
int tpt_vm_set_nx_huge_pages(struct tpt_vm *vm, enum tpt_nx_mode mode);

/*
 * For this VM they are off from now on, whatever the mode (KVM_CAP_VM_DISABLE_NX_HUGE_PAGES).
 * Whether the caller may ask for that (KVM wants CAP_SYS_BOOT) is the embedder's to check. -EINVAL:
 * the VM has vCPUs; -EIO.
 */
int tpt_vm_disable_nx_huge_pages(struct tpt_vm *vm);

/*
 * One period's recovery: of the tables that stand only because code ran where a huge page could be
 * (tpt_vm_stats.nx_lpage_splits), one in @ratio, rounded up, is unlinked, oldest first; the next
 * access that is no execution brings a huge page. 0 does nothing. Where the memslot logs dirty
 * pages the table stays and is only not counted any more. Beside faults, a bounded number of tables
 * at a time, each time with one flush; no external call. Returns how many were taken off the
 * count; -EIO.
 */
int tpt_vm_nx_recover(struct tpt_vm *vm, uint32_t ratio);

/*
 * Milliseconds between recoveries, from kvm.nx_huge_pages_recovery_period_ms and _ratio: 0 as
 * period asks for one hour / ratio, so that a page is recovered within the hour. 0: never.
 */
static inline uint32_t tpt_nx_recovery_period(uint32_t period_ms, uint32_t ratio)
{
	if (!ratio || period_ms)
		return ratio ? period_ms : 0;
	return 3600u * 1000u / (ratio < 3600 ? ratio : 3600);
}

#ifdef __cplusplus
}
#endif
#endif
