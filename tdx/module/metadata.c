// SPDX-License-Identifier: BSD-2-Clause
/* Fields by id: TDH.VP.RD, TDH.VP.WR, TDG.VM.RD, TDG.VM.WR. The few that memory management needs.
 */
#include "tdx/module/leaves.h"
#include "tdx/module/vcpu.h"

#define EPTP_LOW_BITS 0xfffull

static bool same_field(uint64_t id, uint64_t field)
{
	return !((id ^ field) & TDX_MD_FIELD_MASK);
}

/* @old with the bits of @mask replaced. */
static uint64_t masked(uint64_t old, uint64_t value, uint64_t mask)
{
	return (old & ~mask) | (value & mask);
}

/* The vCPU is tied to this processor first, as the real module needs its VMCS there. */
static uint64_t tie_idle_vcpu(struct call *call, struct vcpu_hold *hold)
{
	bool was_here;
	uint64_t status = td_check_state(&hold->td, OPS_ANY & ~OPS(OP_UNINITIALIZED), true);

	if (status == TDX_SUCCESS && atomic_load(&hold->vcpu->state) != VCPU_READY)
		status = TDX_VCPU_STATE_INCORRECT;
	if (status == TDX_SUCCESS)
		status = vcpu_associate(hold->vcpu, call->lp, &was_here);
	return status;
}

static uint64_t read_field(struct call *call, struct vcpu_hold *hold)
{
	uint64_t status = tie_idle_vcpu(call, hold);

	if (status != TDX_SUCCESS)
		return status;
	if (!same_field(call->rdx, TDX_MD_SHARED_EPT_POINTER))
		return TDX_METADATA_FIELD_ID_INCORRECT | TDX_OPERAND_RDX;
	call->regs->r8 = atomic_load(&hold->vcpu->shared_eptp);
	return TDX_SUCCESS;
}

/* TDH.VP.RD: RCX TDVPR, RDX field; R8 = value. */
uint64_t leaf_vp_rd(struct call *call)
{
	call->regs->r8 = 0;
	return vcpu_run(call, call->rcx, TDX_OPERAND_RCX, LOCK_SHARED, read_field);
}

/* The root of the shared EPT: a page of the VMM's, under no private key. */
static uint64_t write_shared_eptp(struct call *call, struct vcpu *vcpu)
{
	uint64_t old = atomic_load(&vcpu->shared_eptp);
	uint64_t new = masked(old, call->regs->r8, call->regs->r9 & ~EPTP_LOW_BITS);

	if (!module_shared_operand(call->m, new, PAGE_BYTES))
		return TDX_METADATA_FIELD_VALUE_NOT_VALID;
	atomic_store(&vcpu->shared_eptp, new);
	call->regs->r8 = old;
	return TDX_SUCCESS;
}

static uint64_t write_field(struct call *call, struct vcpu_hold *hold)
{
	uint64_t status = tie_idle_vcpu(call, hold);

	if (status != TDX_SUCCESS)
		return status;
	if (!same_field(call->rdx, TDX_MD_SHARED_EPT_POINTER))
		return TDX_METADATA_FIELD_ID_INCORRECT | TDX_OPERAND_RDX;
	return write_shared_eptp(call, hold->vcpu);
}

/* TDH.VP.WR: RCX TDVPR, RDX field, R8 value, R9 mask of the bits to write; R8 = old value. */
uint64_t leaf_vp_wr(struct call *call)
{
	uint64_t status = vcpu_run(call, call->rcx, TDX_OPERAND_RCX, LOCK_SHARED, write_field);

	if (status != TDX_SUCCESS)
		call->regs->r8 = 0;
	return status;
}

/* TDG.VM.RD: RDX field; R8 = value. */
uint64_t leaf_guest_vm_rd(struct call *call)
{
	struct td *td = call->vcpu->td;

	call->regs->r8 = 0;
	if (same_field(call->rdx, TDX_MD_CONFIG_FLAGS))
		call->regs->r8 = td->params.config_flags;
	else if (same_field(call->rdx, TDX_MD_TD_CTLS))
		call->regs->r8 = atomic_load(&td->td_ctls);
	else if (same_field(call->rdx, TDX_MD_NOTIFY_ENABLES))
		call->regs->r8 = atomic_load(&td->notify_enables);
	else
		return TDX_METADATA_FIELD_ID_INCORRECT | TDX_OPERAND_RDX;
	return TDX_SUCCESS;
}

/* A guest may turn #VE on pending pages off and on only if the TD was configured so. */
static uint64_t write_td_ctls(struct td *td, uint64_t value, uint64_t mask, uint64_t *old)
{
	uint64_t new;

	*old = atomic_load(&td->td_ctls);
	new = masked(*old, value, mask);
	if (new & ~TDX_TD_CTLS_PENDING_VE_DISABLE)
		return TDX_METADATA_FIELD_VALUE_NOT_VALID;
	if (new != *old && !(td->params.config_flags & TDX_CONFIG_FLEXIBLE_PENDING_VE))
		return TDX_METADATA_FIELD_VALUE_NOT_VALID;
	atomic_store(&td->td_ctls, new);
	return TDX_SUCCESS;
}

static uint64_t write_notify_enables(struct td *td, uint64_t value, uint64_t mask, uint64_t *old)
{
	uint64_t new;

	*old = atomic_load(&td->notify_enables);
	new = masked(*old, value, mask);
	if (new & ~1ull)
		return TDX_METADATA_FIELD_VALUE_NOT_VALID;
	atomic_store(&td->notify_enables, new);
	return TDX_SUCCESS;
}

/* TDG.VM.WR: RDX field, R8 value, R9 mask; R8 = old value. */
uint64_t leaf_guest_vm_wr(struct call *call)
{
	uint64_t value = call->regs->r8, mask = call->regs->r9, old = 0, status;
	struct td *td = call->vcpu->td;

	if (same_field(call->rdx, TDX_MD_TD_CTLS))
		status = write_td_ctls(td, value, mask, &old);
	else if (same_field(call->rdx, TDX_MD_NOTIFY_ENABLES))
		status = write_notify_enables(td, value, mask, &old);
	else if (same_field(call->rdx, TDX_MD_CONFIG_FLAGS))
		status = TDX_METADATA_FIELD_NOT_WRITABLE | TDX_OPERAND_RDX;
	else
		status = TDX_METADATA_FIELD_ID_INCORRECT | TDX_OPERAND_RDX;
	call->regs->r8 = status == TDX_SUCCESS ? old : 0;
	return status;
}
