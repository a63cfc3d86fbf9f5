/* SPDX-License-Identifier: BSD-2-Clause */
/* What the vCPU rooms (vp, enter, exit, guest, metadata) share. Never the memory leaves. */
#ifndef TDX_MODULE_VCPU_H
#define TDX_MODULE_VCPU_H

#include "tdx/module/internal.h"

struct vcpu_hold {
	struct vcpu *vcpu;
	struct pamt_ref ref; /* TDVPR */
	struct td_hold td;   /* its TDR, shared */
};

/*
 * A leaf on one vCPU: take the TDVPR page @tdvpr as @mode (@op names the operand) and its TD, run,
 * release. If the LP is inside the TD afterwards, the processor keeps the holds.
 */
typedef uint64_t vcpu_fn(struct call *call, struct vcpu_hold *hold);
uint64_t vcpu_run(struct call *call, uint64_t tdvpr, unsigned int op, enum lock_mode mode,
		  vcpu_fn *run);

unsigned int vcpu_pages_required(const struct td *td);

/*
 * Tie the vCPU to @lp, or find it tied there already (*was_here). Not undone when the call fails
 * later. VCPU_ASSOCIATED if it is tied to another.
 */
uint64_t vcpu_associate(struct vcpu *vcpu, unsigned int lp, bool *was_here);

/* -- exit.c -- */

/*
 * The guest leaves: its registers are saved, epoch count, locks and processor are given back.
 * @answer is what the host sees.
 */
void exit_to_host(struct call *call, enum last_exit kind, const struct tdx_regs *answer);

/* An asynchronous exit: RAX = basic exit reason, details as the ABI lays them out. */
struct exit_details {
	uint32_t reason;
	uint64_t qualification;
	uint64_t extended; /* RDX */
	uint64_t gpa;
	uint32_t interrupt_info;
};
void exit_async(struct call *call, const struct exit_details *details);

/* The module died in this event, or before: the guest leaves, if it has not, and RAX says so. */
void exit_if_dead(struct call *call);

/* Deliver #VE with @ve, or #DF if the guest has not fetched the last one. */
void inject_ve(struct call *call, const struct ve_info *ve);

#endif
