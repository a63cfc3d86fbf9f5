// SPDX-License-Identifier: BSD-2-Clause
/* Into a TD: TDH.VP.ENTER. Never the way out. */
#include "tdx/module/leaves.h"
#include "tdx/module/sept.h"
#include "tdx/module/vcpu.h"

#include <errno.h>

#define ENTER_FLAGS (TDX_ENTER_RECOVERABILITY_HINT | TDX_ENTER_RESUME_L1)

uint64_t vcpu_associate(struct vcpu *vcpu, unsigned int lp, bool *was_here)
{
	int32_t current = -1;

	*was_here = false;
	if (atomic_compare_exchange_strong(&vcpu->assoc_lp, &current, (int32_t)lp)) {
		atomic_fetch_add(&vcpu->td->num_assoc, 1);
		return TDX_SUCCESS;
	}
	*was_here = true;
	return current == (int32_t)lp ? TDX_SUCCESS : TDX_VCPU_ASSOCIATED;
}

/* L2 VMs are never entered here, so there is none to resume from. */
static uint64_t check_flags(const struct call *call, const struct vcpu *vcpu)
{
	if (call->rcx & TDX_ENTER_RECOVERABILITY_HINT && vcpu->last_exit != EXIT_ASYNC_TRAP)
		return TDX_OPERAND_INVALID | TDX_OPERAND_RCX;
	if (call->rcx & TDX_ENTER_RESUME_L1)
		return TDX_OPERAND_INVALID | TDX_OPERAND_RCX;
	return TDX_SUCCESS;
}

/* Count the vCPU in under the present epoch. */
static bool join_epoch(struct td *td, uint64_t *epoch)
{
	if (!sharex_lock(&td->epoch_lock, LOCK_SHARED))
		return false;
	*epoch = atomic_load(&td->epoch);
	atomic_fetch_add(&td->refcount[*epoch & 1], 1);
	sharex_unlock(&td->epoch_lock, LOCK_SHARED);
	return true;
}

static bool still_faults(struct tdx_module *m, const struct td *td, uint64_t gpa)
{
	struct sept_walk walk;

	return !sept_walk_leaf(m, td, gpa, &walk);
}

/*
 * A guest that is stopped again and again at one instruction by private EPT violations is not let
 * in before the pages are there: an attacker could otherwise step it. 0: enter; else the status,
 * the emulated exit in the registers.
 */
static uint64_t zero_step_filter(struct call *call, struct vcpu *vcpu)
{
	struct td *td = vcpu->td;
	uint64_t status = TDX_SUCCESS;

	if (!vcpu->num_fault_gpas)
		return TDX_SUCCESS;
	if (!sharex_lock(&td->sept_lock, LOCK_EXCLUSIVE))
		return TDX_OPERAND_BUSY | TDX_OPERAND_SEPT_TREE;
	for (unsigned int i = 0; i < vcpu->num_fault_gpas && status == TDX_SUCCESS; i++) {
		if (!still_faults(call->m, td, vcpu->fault_gpas[i]))
			continue;
		*call->regs = (struct tdx_regs){.rcx = 2, .r8 = vcpu->fault_gpas[i]};
		status = TDX_SUCCESS | TDX_EXIT_EPT_VIOLATION;
	}
	sharex_unlock(&td->sept_lock, LOCK_EXCLUSIVE);
	return status;
}

/* What the host passes back after a TDG.VP.VMCALL, and what the guest finds in RAX. */
static void restore_vmcall(const struct call *call, struct vcpu *vcpu)
{
	for (unsigned int i = 0; i < 16; i++)
		if (vcpu->vmcall_mask >> i & 1)
			vcpu->regs.gpr[i] = call->regs->gpr[i];
	vcpu->regs.rax = TDX_SUCCESS;
}

static void flush_translations(struct call *call, struct vcpu *vcpu, uint64_t epoch, bool was_here)
{
	struct lp *lp = &call->m->lps[call->lp];

	if (atomic_load(&vcpu->epoch) != epoch && was_here)
		module_invept(call->m, call->lp, vcpu->td->tdr);
	atomic_store(&vcpu->epoch, epoch);
	if (lp->last_tdvpr != vcpu->tdvpr)
		module_invept(call->m, call->lp, 0);
	lp->last_tdvpr = vcpu->tdvpr;
}

/* The locks on TDVPR and TDR pass to the processor; they are given back at the exit. */
static void enter(struct call *call, struct vcpu_hold *hold)
{
	struct lp *lp = &call->m->lps[call->lp];
	struct vcpu *vcpu = hold->vcpu;

	if (vcpu->last_exit == EXIT_VMCALL)
		restore_vmcall(call, vcpu);
	hp_unlock(&hold->td.td->op_lock, LOCK_SHARED);
	hold->td.op_locked = false;
	atomic_store(&vcpu->state, VCPU_ACTIVE);
	lp->tdvpr = hold->ref;
	lp->tdr = hold->td.ref;
	atomic_store(&lp->vcpu, vcpu);
	call->side = TDX_GUEST;
}

static uint64_t try_enter(struct call *call, struct vcpu_hold *hold)
{
	uint64_t status = td_check_state(&hold->td, OPS(OP_RUNNABLE), true);
	struct vcpu *vcpu = hold->vcpu;
	uint64_t epoch;
	bool was_here;

	if (status != TDX_SUCCESS)
		return status;
	if (vcpu->num_pages < vcpu_pages_required(vcpu->td))
		return TDX_TDCX_NUM_INCORRECT;
	if (atomic_load(&vcpu->state) != VCPU_READY)
		return TDX_VCPU_STATE_INCORRECT;
	status = vcpu_associate(vcpu, call->lp, &was_here);
	if (status == TDX_SUCCESS)
		status = check_flags(call, vcpu);
	if (status != TDX_SUCCESS)
		return status;
	if (module_rdtsc(call->m, call->lp) < vcpu->last_exit_tsc)
		return TDX_TSC_ROLLBACK;
	if (!join_epoch(vcpu->td, &epoch))
		return TDX_OPERAND_BUSY | TDX_OPERAND_TD_EPOCH;
	flush_translations(call, vcpu, epoch, was_here);
	status = zero_step_filter(call, vcpu);
	if (status != TDX_SUCCESS) {
		atomic_fetch_sub(&vcpu->td->refcount[epoch & 1], 1);
		return status;
	}
	enter(call, hold);
	return TDX_SUCCESS;
}

/* TDH.VP.ENTER: RCX TDVPR and flags; other registers answer a TDG.VP.VMCALL. */
uint64_t leaf_vp_enter(struct call *call)
{
	return vcpu_run(call, call->rcx & ~ENTER_FLAGS, TDX_OPERAND_RCX, LOCK_SHARED, try_enter);
}

int tdx_module_guest_state(struct tdx_module *m, unsigned int lp, struct tdx_guest *guest)
{
	const struct vcpu *vcpu = vcpu_on(m, lp);

	if (!vcpu)
		return -ENOENT;
	*guest = (struct tdx_guest){.regs = vcpu->regs, .rip = vcpu->rip};
	return 0;
}
