/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The monitor: who owns the private memory of a confidential guest, and its page tables. What the
 * TDX module is to a host; here a part of the image with tables in NPT format. The hypervisor
 * reaches private tables by the external ops only, and keeps its hands off private frames.
 */
#ifndef HYPERVISOR_MONITOR_H
#define HYPERVISOR_MONITOR_H

#include <stdbool.h>
#include <stdint.h>

#include <triptych/external.h>

extern const struct tpt_external_ops monitor_ops;

/* @frames of private memory from @first on; GPAs below 1 << @shared_bit, 39 to 47, are private.
 * Pages for its own books come from page_take(). */
void monitor_init(uint64_t first, uint64_t frames, unsigned int shared_bit, unsigned int nr_vcpus);
/* The page that is mapped at @gfn next has this content, instead of zeros. Not after
 * monitor_finalize(): what is in a guest when it starts is decided before. */
int monitor_add(tpt_gfn gfn, const void *content);
void monitor_finalize(void);

/*
 * vCPU @vcpu enters the guest: the root to enter with, private tables and, beside them, what
 * @direct_root has for shared addresses. *flush is set if its private translations are of an older
 * epoch. It has left.
 */
uint64_t monitor_enter(unsigned int vcpu, uint64_t direct_root, bool *flush);
void monitor_leave(unsigned int vcpu);

#endif
