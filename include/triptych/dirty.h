/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which pages did the guest write? Dirty logs of memslots with TPT_MEM_LOG_DIRTY, after
 * KVM_GET_DIRTY_LOG and KVM_CLEAR_DIRTY_LOG.
 */
#ifndef TRIPTYCH_DIRTY_H
#define TRIPTYCH_DIRTY_H

#include <triptych/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct tpt_vm;
struct tpt_vcpu;

/* 64-bit words of a bitmap for @npages pages: bit n of it is page n of the slot. */
static inline size_t tpt_dirty_words(uint64_t npages)
{
	return (size_t)((npages + 63) / 64);
}

/*
 * Copies the slot's dirty bitmap into @bitmap (tpt_dirty_words() words; unused bits are 0). In a VM
 * without TPT_VM_DIRTY_MANUAL it is cleared at the same time and the pages found dirty are watched
 * again: a write after the call is in the next bitmap. May sleep. -EINVAL: no such slot; -ENOENT:
 * the slot has no dirty log; -EIO.
 */
int tpt_vm_get_dirty_log(struct tpt_vm *vm, uint32_t as_id, uint32_t slot, uint64_t *bitmap);

/*
 * Clears pages [first, first + npages) whose bit is set in @bitmap (bit 0: page @first) and watches
 * them again. Only in a VM with TPT_VM_DIRTY_MANUAL. @first is a multiple of 64, and so is @npages
 * unless it reaches the slot's end. -EINVAL: one of these rules, or no such slot; -ENOENT: no dirty
 * log; -ENOMEM: a huge page could not be split, pages before it are done; -EIO.
 */
int tpt_vm_clear_dirty_log(struct tpt_vm *vm, uint32_t as_id, uint32_t slot, uint64_t first,
			   uint64_t npages, const uint64_t *bitmap);

/*
 * The host, or an emulated access, wrote guest page @gfn. Nothing if no slot there logs. Any thread
 * but never inside a callback of the library's.
 */
void tpt_vm_mark_dirty(struct tpt_vm *vm, uint32_t as_id, tpt_gfn gfn);

/*
 * A page-modification log, as the processor wrote it: @n GPAs that @vcpu wrote (SDM vol. 3,
 * "Page-Modification Logging"). The vCPU's thread, or one that keeps it out of the library. Needs
 * TPT_VM_PML. A log that is read or cleared asks for all of them first by a kick
 * (TPT_KICK_DIRTY_LOG), outside of every section: whoever hands over what was logged before the
 * kick returns makes that log complete; what comes later is in the next one.
 */
void tpt_vcpu_pml(struct tpt_vcpu *vcpu, const tpt_gpa *gpas, uint32_t n);

/*
 * Dirty rings, with TPT_VM_DIRTY_RING, after KVM_CAP_DIRTY_LOG_RING_ACQ_REL. Each write that a slot
 * logs is one entry of the writing vCPU's ring; an entry is pushed by the vCPU, collected by the
 * VMM, and reset: watched again, and free. Slots have a bitmap as well: it tells what no vCPU wrote
 * (tpt_vm_mark_dirty()), and what a page-modification log held more than a ring had room for.
 */

/* Page @offset of memslot @slot. */
struct tpt_dirty_gfn {
	uint32_t as_id, slot;
	uint64_t offset;
};

#define TPT_DIRTY_RING_MAX 65536u
/* Entries kept for what a vCPU still writes between "almost full" and its exit; with TPT_VM_PML a
 * whole page-modification log (512) more. */
#define TPT_DIRTY_RING_RESERVED 64u

/*
 * Takes up to @max entries that were not collected yet, oldest first; returns how many. Any thread,
 * one at a time for each vCPU. A page is to be copied after the reset, not before. What a processor
 * still has in its page-modification log comes at its next exit, or when tpt_vm_get_dirty_log()
 * asks.
 */
uint32_t tpt_vcpu_dirty_ring_collect(struct tpt_vcpu *vcpu, struct tpt_dirty_gfn *out,
				     uint32_t max);
/* Entries pushed and not yet reset. Any thread. */
uint32_t tpt_vcpu_dirty_ring_used(const struct tpt_vcpu *vcpu);
/*
 * Resets what was collected from all rings when the call began: those pages are watched again, one
 * flush an address space. Returns the number of entries, at most TPT_DIRTY_RING_MAX a vCPU; a slot
 * that is gone or shorter now is passed over, and counted. Gives way between bounded pieces.
 * -EINVAL: the VM has no rings; -EIO.
 */
int64_t tpt_vm_reset_dirty_rings(struct tpt_vm *vm);

#ifdef __cplusplus
}
#endif
#endif
