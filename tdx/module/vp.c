// SPDX-License-Identifier: BSD-2-Clause
/* A vCPU's pages and its tie to a processor: TDH.VP.CREATE, ADDCX, INIT, FLUSH. Never entry or
 * exit. */
#include "tdx/module/leaves.h"
#include "tdx/module/lines.h"
#include "tdx/module/vcpu.h"

void vcpu_destroy(struct tdx_module *m, struct vcpu *vcpu)
{
	module_free(m, vcpu);
}

unsigned int vcpu_pages_required(const struct td *td)
{
	return MIN_TDVPS + TDVPS_PER_L2_VM * td->num_l2_vms;
}

static void vcpu_release(struct vcpu_hold *hold)
{
	td_release(&hold->td);
	pamt_release(&hold->ref);
}

static uint64_t vcpu_take(struct call *call, uint64_t tdvpr, unsigned int op, enum lock_mode mode,
			  struct vcpu_hold *hold)
{
	uint64_t status;

	*hold = (struct vcpu_hold){0};
	status = pamt_take_page(call->m, tdvpr, op, mode, TDX_PT_TDVPR, &hold->ref);
	if (status != TDX_SUCCESS)
		return status;
	hold->vcpu = *hold->ref.object;
	if (!td_take_implicit(call->m, hold->vcpu->td, &hold->td)) {
		pamt_release(&hold->ref);
		return TDX_OPERAND_BUSY | TDX_OPERAND_TDR;
	}
	if (td_check_keys(hold->vcpu->td) == TDX_SUCCESS &&
	    !lines_module_check(call->m, hold->vcpu->td->key, tdvpr, PAGE_BYTES)) {
		vcpu_release(hold);
		return TDX_SYS_SHUTDOWN;
	}
	return TDX_SUCCESS;
}

uint64_t vcpu_run(struct call *call, uint64_t tdvpr, unsigned int op, enum lock_mode mode,
		  vcpu_fn *run)
{
	struct vcpu_hold hold;
	uint64_t status = vcpu_take(call, tdvpr, op, mode, &hold);

	if (status != TDX_SUCCESS)
		return status;
	status = run(call, &hold);
	if (call->side == TDX_HOST)
		vcpu_release(&hold);
	return status;
}

static uint64_t create_vcpu(struct call *call, struct td_hold *hold)
{
	uint64_t status = td_check_state(hold, OPS(OP_INITIALIZED), true);
	struct td *td = hold->td;
	struct pamt_ref page;
	struct vcpu *vcpu;

	if (status == TDX_SUCCESS)
		status = pamt_take_new_page(call->m, call->rcx, TDX_OPERAND_RCX, &page);
	if (status != TDX_SUCCESS)
		return status;
	vcpu = module_alloc(call->m, sizeof(*vcpu));
	if (!vcpu) {
		status = TDX_SYS_BUSY;
		goto out;
	}
	lines_fill(call->m, td->key, call->rcx, NULL);
	vcpu->td = td;
	vcpu->tdvpr = call->rcx;
	vcpu->num_pages = 1;
	atomic_init(&vcpu->assoc_lp, -1);
	*page.object = vcpu;
	pamt_set(page.entry, TDX_PT_TDVPR, td->tdr);
	atomic_fetch_add(&td->chldcnt, 1);
out:
	pamt_release(&page);
	return status;
}

/* TDH.VP.CREATE: RCX page, RDX TDR. */
uint64_t leaf_vp_create(struct call *call)
{
	return td_run(call, call->rdx, TDX_OPERAND_RDX, LOCK_SHARED, create_vcpu);
}

static uint64_t add_vcpu_page(struct call *call, struct vcpu_hold *hold)
{
	uint64_t status = td_check_state(&hold->td, OPS(OP_INITIALIZED), true);
	struct vcpu *vcpu = hold->vcpu;
	struct pamt_ref page;

	if (status != TDX_SUCCESS)
		return status;
	if (atomic_load(&vcpu->state) != VCPU_UNINIT)
		return TDX_VCPU_STATE_INCORRECT;
	if (vcpu->num_pages >= MAX_TDVPS)
		return TDX_TDCX_NUM_INCORRECT;
	status = pamt_take_page(call->m, call->rcx, TDX_OPERAND_RCX, LOCK_EXCLUSIVE, TDX_PT_NDA,
				&page);
	if (status != TDX_SUCCESS)
		return status;
	lines_fill(call->m, vcpu->td->key, call->rcx, NULL);
	vcpu->num_pages++;
	pamt_set(page.entry, TDX_PT_TDCX, vcpu->td->tdr);
	atomic_fetch_add(&vcpu->td->chldcnt, 1);
	pamt_release(&page);
	return TDX_SUCCESS;
}

/* TDH.VP.ADDCX: RCX page, RDX TDVPR. */
uint64_t leaf_vp_addcx(struct call *call)
{
	return vcpu_run(call, call->rdx, TDX_OPERAND_RDX, LOCK_EXCLUSIVE, add_vcpu_page);
}

/* A vCPU's number, or false if the TD has all it may have. */
static bool take_index(struct td *td, unsigned int *index)
{
	uint32_t next = atomic_load(&td->num_vcpus);

	do {
		if (next >= td->params.max_vcpus)
			return false;
	} while (!atomic_compare_exchange_weak(&td->num_vcpus, &next, next + 1));
	*index = next;
	return true;
}

/* Registers at the first entry (TDX module ABI, "initial state of TD VCPU"). */
static void set_initial_state(struct vcpu *vcpu, uint64_t parameter)
{
	vcpu->regs = (struct tdx_regs){
		.rbx = vcpu->td->shared_bit + 1,
		.rcx = parameter,
		.rsi = vcpu->index,
		.r8 = parameter,
	};
	vcpu->rip = 0xfffffff0;
}

static uint64_t init_vcpu(struct call *call, struct vcpu_hold *hold)
{
	uint64_t status = td_check_state(&hold->td, OPS(OP_INITIALIZED), true);
	struct vcpu *vcpu = hold->vcpu;

	if (status != TDX_SUCCESS)
		return status;
	if (vcpu->num_pages < vcpu_pages_required(vcpu->td))
		return TDX_TDCX_NUM_INCORRECT;
	if (atomic_load(&vcpu->state) != VCPU_UNINIT)
		return TDX_VCPU_STATE_INCORRECT;
	if (!take_index(vcpu->td, &vcpu->index))
		return TDX_MAX_VCPUS_EXCEEDED;
	set_initial_state(vcpu, call->rdx);
	atomic_store(&vcpu->assoc_lp, (int32_t)call->lp);
	atomic_fetch_add(&vcpu->td->num_assoc, 1);
	atomic_store(&vcpu->state, VCPU_READY);
	return TDX_SUCCESS;
}

/* TDH.VP.INIT: RCX TDVPR, RDX the guest's first RCX. */
uint64_t leaf_vp_init(struct call *call)
{
	return vcpu_run(call, call->rcx, TDX_OPERAND_RCX, LOCK_EXCLUSIVE, init_vcpu);
}

static uint64_t flush_vcpu(struct call *call, struct vcpu_hold *hold)
{
	struct vcpu *vcpu = hold->vcpu;

	if (vcpu->td->lifecycle != LIFE_KEYS_CONFIGURED)
		return TDX_TD_KEYS_NOT_CONFIGURED;
	if (vcpu->num_pages < vcpu_pages_required(vcpu->td))
		return TDX_TDCX_NUM_INCORRECT;
	if (atomic_load(&vcpu->assoc_lp) != (int32_t)call->lp)
		return TDX_VCPU_NOT_ASSOCIATED;
	module_invept(call->m, call->lp, vcpu->td->tdr);
	atomic_store(&vcpu->assoc_lp, -1);
	atomic_fetch_sub(&vcpu->td->num_assoc, 1);
	return TDX_SUCCESS;
}

/* TDH.VP.FLUSH: RCX TDVPR; on the processor it is associated with. A fatal TD's vCPU can be
 * flushed. */
uint64_t leaf_vp_flush(struct call *call)
{
	return vcpu_run(call, call->rcx, TDX_OPERAND_RCX, LOCK_EXCLUSIVE, flush_vcpu);
}
