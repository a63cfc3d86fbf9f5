// SPDX-License-Identifier: BSD-2-Clause
/* TDCALL: from a guest's RAX to its leaf, the host-priority timeout, and the leaves without memory.
 */
#include "tdx/module/leaves.h"
#include "tdx/module/vcpu.h"

#define VMCALL_MASK_RESERVED (~0xffffffffull | 1u << 0 | 1u << 1 | 1u << 4)
#define VMCALL_MASK_RBP	     (1u << 5)

static leaf_fn *const leaves[] = {
	[TDG_VP_VMCALL] = leaf_guest_vp_vmcall,
	[TDG_VP_INFO] = leaf_guest_vp_info,
	[TDG_VP_VEINFO_GET] = leaf_guest_vp_veinfo_get,
	[TDG_MEM_PAGE_ACCEPT] = leaf_guest_page_accept,
	[TDG_VM_RD] = leaf_guest_vm_rd,
	[TDG_VM_WR] = leaf_guest_vm_wr,
	[TDG_MEM_PAGE_ATTR_RD] = leaf_guest_page_attr_rd,
	[TDG_MEM_PAGE_ATTR_WR] = leaf_guest_page_attr_wr,
	[TDG_VP_INVEPT] = leaf_guest_vp_invept,
};

static uint64_t run_guest_leaf(struct call *call)
{
	uint64_t rax = call->regs->rax, number = rax & TDX_RAX_LEAF;

	call->version = rax >> TDX_RAX_VERSION_SHIFT & 0xff;
	if (atomic_load(&call->m->state) == MODULE_SHUTDOWN)
		return TDX_SYS_SHUTDOWN;
	if (rax & TDX_RAX_RESERVED || call->version > (number == TDG_VM_RD ? 1 : 0))
		return TDX_OPERAND_INVALID | TDX_OPERAND_RAX;
	if (number >= sizeof(leaves) / sizeof(leaves[0]) || !leaves[number])
		return TDX_OPERAND_INVALID | TDX_OPERAND_RAX;
	return leaves[number](call);
}

static void complete(struct call *call, uint64_t status)
{
	call->regs->rax = status;
	call->guest->rip += TDX_TDCALL_LENGTH;
}

/*
 * The guest gave way to the host again and again. It sees BUSY; after a second the host is told,
 * because it may be starving the guest by leaving the host-priority bit set.
 */
static void complete_host_priority(struct call *call, uint64_t status)
{
	const struct tdx_regs timeout = {.rax = TDX_HOST_PRIORITY_BUSY_TIMEOUT};
	struct vcpu *vcpu = call->vcpu;
	uint64_t now = module_rdtsc(call->m, call->lp);

	complete(call, TDX_OPERAND_BUSY | (status & ~TDX_STATUS_MASK));
	if (!vcpu->hp_busy) {
		vcpu->hp_busy = true;
		vcpu->hp_busy_tsc = now;
	} else if (now - vcpu->hp_busy_tsc >= call->m->config.tsc_hz) {
		vcpu->hp_busy = false;
		exit_to_host(call, EXIT_ASYNC_TRAP, &timeout);
	}
}

enum tdx_side tdx_module_tdcall(struct tdx_module *m, unsigned int lp, struct tdx_guest *guest,
				struct tdx_regs *host)
{
	struct call call = {.m = m,
			    .lp = lp,
			    .regs = &guest->regs,
			    .rcx = guest->regs.rcx,
			    .rdx = guest->regs.rdx,
			    .guest = guest,
			    .host = host};
	uint64_t status;

	call.vcpu = vcpu_on(m, lp);
	if (!call.vcpu) {
		*host = (struct tdx_regs){.rax = TDX_SYS_NOT_READY};
		return TDX_HOST;
	}
	guest->vector = 0;
	status = run_guest_leaf(&call);
	if (call.outcome == OUTCOME_STATUS) {
		if ((status & TDX_STATUS_MASK) == TDX_OPERAND_BUSY_HOST_PRIORITY) {
			complete_host_priority(&call, status);
		} else {
			call.vcpu->hp_busy = false;
			complete(&call, status);
		}
	}
	exit_if_dead(&call);
	return call.outcome == OUTCOME_EXIT ? TDX_HOST : TDX_GUEST;
}

/* TDG.VP.VMCALL: RCX mask of the registers that the host sees. */
uint64_t leaf_guest_vp_vmcall(struct call *call)
{
	uint64_t reserved = VMCALL_MASK_RESERVED;
	struct tdx_regs answer = {.rax = TDX_EXIT_VMCALL, .rcx = call->rcx};

	if (call->vcpu->td->params.config_flags & TDX_CONFIG_NO_RBP_MOD)
		reserved |= VMCALL_MASK_RBP;
	if (call->rcx & reserved)
		return TDX_OPERAND_INVALID | TDX_OPERAND_RCX;
	for (unsigned int i = 0; i < 16; i++)
		if (call->rcx >> i & 1)
			answer.gpr[i] = call->regs->gpr[i];
	call->vcpu->vmcall_mask = call->rcx & 0xffff;
	call->vcpu->hp_busy = false;
	call->guest->rip += TDX_TDCALL_LENGTH;
	exit_to_host(call, EXIT_VMCALL, &answer);
	return TDX_SUCCESS;
}

/* TDG.VP.INFO */
uint64_t leaf_guest_vp_info(struct call *call)
{
	const struct td *td = call->vcpu->td;
	struct tdx_regs *regs = call->regs;

	regs->rcx = td->shared_bit + 1;
	regs->rdx = td->params.attributes;
	regs->r8 = atomic_load(&td->num_vcpus) | (uint64_t)td->params.max_vcpus << 32;
	regs->r9 = call->vcpu->index;
	regs->r10 = regs->r11 = 0;
	return TDX_SUCCESS;
}

/* TDG.VP.VEINFO.GET */
uint64_t leaf_guest_vp_veinfo_get(struct call *call)
{
	struct ve_info *ve = &call->vcpu->ve;
	const struct ve_info got = ve->valid ? *ve : (struct ve_info){0};
	struct tdx_regs *regs = call->regs;

	regs->rcx = got.reason;
	regs->rdx = got.qualification;
	regs->r8 = got.gla;
	regs->r9 = got.gpa;
	regs->r10 = got.instruction_length | (uint64_t)got.instruction_info << 32;
	ve->valid = 0;
	return got.valid ? TDX_SUCCESS : TDX_NO_VALID_VE_INFO;
}

/* TDG.VP.INVEPT: RCX a bit for each L2 VM whose translations go; the TD's own (bit 0) never do. */
uint64_t leaf_guest_vp_invept(struct call *call)
{
	uint64_t vms = (2ull << call->vcpu->td->num_l2_vms) - 2;

	if (call->rcx & ~vms)
		return TDX_OPERAND_INVALID | TDX_OPERAND_RCX;
	if (call->rcx)
		module_invept(call->m, call->lp, call->vcpu->td->tdr);
	return TDX_SUCCESS;
}
