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
 * "Page-Modification Logging"). vCPU thread. Needs TPT_VM_PML.
 */
void tpt_vcpu_pml(struct tpt_vcpu *vcpu, const tpt_gpa *gpas, uint32_t n);

#ifdef __cplusplus
}
#endif
#endif
