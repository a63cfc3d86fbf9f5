// SPDX-License-Identifier: BSD-2-Clause
/* Out of a TD: VM exits, the registers the host sees, #VE and the zero-step log. Never the way in.
 */
#include "tdx/module/sept.h"
#include "tdx/module/vcpu.h"

#include <errno.h>

#define QUAL_WRITE     (1u << 1)
#define QUAL_FETCH     (1u << 2)
#define QUAL_GLA_VALID (1u << 7)
#define QUAL_USER      (1u << 9)
#define QUAL_HIDDEN    0x1f80ull /* 12:7: how the guest's own page tables were used */

#define VECTOR_DF 8
#define VECTOR_PF 14
#define VECTOR_VE 20

/* Of interruption information: valid, type, vector (SDM, "VM-exit interruption-information field").
 */
#define INTERRUPT_KIND 0x800007ffu

#define PFEC_PRESENT (1u << 0)
#define PFEC_WRITE   (1u << 1)
#define PFEC_USER    (1u << 2)
#define PFEC_RSVD    (1u << 3)
#define PFEC_FETCH   (1u << 4)

static void zero_step_reset(struct vcpu *vcpu)
{
	vcpu->num_faults = 0;
	vcpu->num_fault_gpas = 0;
}

static void zero_step_log(struct vcpu *vcpu, uint64_t gpa)
{
	if (vcpu->num_faults < ZERO_STEP_THRESHOLD) {
		vcpu->num_faults++;
		return;
	}
	gpa &= ~(PAGE_BYTES - 1);
	for (unsigned int i = 0; i < vcpu->num_fault_gpas; i++)
		if (vcpu->fault_gpas[i] == gpa)
			return;
	if (vcpu->num_fault_gpas < ZERO_STEP_LIST)
		vcpu->fault_gpas[vcpu->num_fault_gpas++] = gpa;
}

/* Progress of the guest ends the suspicion; an exit of another kind at the same place does not. */
static void zero_step_note_rip(struct vcpu *vcpu, uint64_t rip)
{
	if (rip != vcpu->last_exit_rip)
		zero_step_reset(vcpu);
	vcpu->last_exit_rip = rip;
}

/*
 * After this the locks and the epoch count are gone: the TD may be taken down by someone else, so
 * the vCPU is not touched again.
 */
static void leave(struct call *call, struct vcpu *vcpu)
{
	struct lp *lp = &call->m->lps[call->lp];
	struct pamt_ref tdr = lp->tdr, tdvpr = lp->tdvpr;

	atomic_store(&lp->vcpu, NULL);
	atomic_store(&vcpu->state, VCPU_READY);
	atomic_fetch_sub(&vcpu->td->refcount[atomic_load(&vcpu->epoch) & 1], 1);
	pamt_release(&tdr);
	pamt_release(&tdvpr);
}

void exit_to_host(struct call *call, enum last_exit kind, const struct tdx_regs *answer)
{
	struct vcpu *vcpu = call->vcpu;

	zero_step_note_rip(vcpu, call->guest->rip);
	vcpu->regs = call->guest->regs;
	vcpu->rip = call->guest->rip;
	vcpu->last_exit = kind;
	vcpu->last_exit_tsc = module_rdtsc(call->m, call->lp);
	*call->host = *answer;
	call->outcome = OUTCOME_EXIT;
	leave(call, vcpu);
}

void exit_async(struct call *call, const struct exit_details *details)
{
	struct tdx_regs answer = {
		.rax = TDX_SUCCESS | details->reason,
		.rcx = details->qualification,
		.rdx = details->extended,
		.r8 = details->gpa & ~(PAGE_BYTES - 1),
		.r9 = details->interrupt_info,
	};

	if (details->reason == TDX_EXIT_EPT_VIOLATION)
		answer.rcx &= ~QUAL_HIDDEN;
	exit_to_host(call, EXIT_ASYNC_FAULT, &answer);
}

void inject_ve(struct call *call, const struct ve_info *ve)
{
	struct tdx_guest *guest = call->guest;

	call->outcome = OUTCOME_RETRY;
	if (call->vcpu->ve.valid) {
		guest->vector = VECTOR_DF;
		guest->has_error_code = true;
		guest->error_code = 0;
		return;
	}
	call->vcpu->ve = *ve;
	call->vcpu->ve.valid = 0xffffffff;
	guest->vector = VECTOR_VE;
	guest->has_error_code = false;
}

/* A GPA with bits between the shared bit and bit 51 is wider than the guest was told GPAs are. */
static bool beyond_gpa_width(const struct td *td, uint64_t gpa)
{
	return gpa >> (td->shared_bit + 1);
}

static void inject_pf(struct call *call, const struct tdx_vmexit *exit)
{
	struct tdx_guest *guest = call->guest;

	guest->vector = VECTOR_PF;
	guest->has_error_code = true;
	guest->error_code = PFEC_PRESENT | PFEC_RSVD |
			    (exit->qualification & QUAL_WRITE ? PFEC_WRITE : 0) |
			    (exit->qualification & QUAL_USER ? PFEC_USER : 0) |
			    (exit->qualification & QUAL_FETCH ? PFEC_FETCH : 0);
	guest->cr2 = exit->gla;
	call->outcome = OUTCOME_RETRY;
}

static void exit_violation(struct call *call, const struct tdx_vmexit *exit, uint64_t extended)
{
	const struct exit_details details = {
		.reason = exit->reason,
		.qualification = exit->qualification,
		.extended = extended,
		.gpa = exit->gpa,
	};

	exit_async(call, &details);
}

static void private_violation(struct call *call, const struct tdx_vmexit *exit)
{
	struct vcpu *vcpu = call->vcpu;
	const struct ve_info ve = {
		.reason = exit->reason,
		.qualification = exit->qualification,
		.gpa = exit->gpa,
		.gla = exit->gla,
	};
	struct sept_walk walk;
	bool pending;

	sept_walk_leaf(call->m, vcpu->td, exit->gpa, &walk);
	pending = sept_in(walk.raw, STATES(S_PENDING));
	if (pending && !(atomic_load(&vcpu->td->td_ctls) & TDX_TD_CTLS_PENDING_VE_DISABLE)) {
		inject_ve(call, &ve);
		return;
	}
	zero_step_note_rip(vcpu, call->guest->rip);
	zero_step_log(vcpu, exit->gpa);
	exit_violation(call, exit, pending ? TDX_EEQ_PENDING : TDX_EEQ_NONE);
}

static void ept_violation(struct call *call, const struct tdx_vmexit *exit)
{
	const struct td *td = call->vcpu->td;

	if (beyond_gpa_width(td, exit->gpa) && exit->qualification & QUAL_GLA_VALID)
		inject_pf(call, exit);
	else if (exit->gpa >> td->shared_bit & 1)
		exit_violation(call, exit, TDX_EEQ_NONE);
	else
		private_violation(call, exit);
}

void exit_if_dead(struct call *call)
{
	const struct tdx_regs dead = {.rax = TDX_SYS_SHUTDOWN};

	if (atomic_load(&call->m->state) != MODULE_SHUTDOWN)
		return;
	if (call->outcome == OUTCOME_EXIT)
		*call->host = dead;
	else
		exit_to_host(call, EXIT_ASYNC_FAULT, &dead);
}

static void ept_misconfiguration(struct call *call, const struct tdx_vmexit *exit)
{
	if (exit->gpa >> call->vcpu->td->shared_bit & 1) {
		exit_violation(call, exit, TDX_EEQ_NONE);
		return;
	}
	module_fatal(call->m, "EPT misconfiguration at a private GPA");
}

/*
 * What the guest read was poison. Its memory can't be trusted any more: nobody enters it, and the
 * module reads none of it.
 */
static void machine_check(struct call *call, const struct tdx_vmexit *exit)
{
	const struct tdx_regs answer = {
		.rax = TDX_NON_RECOVERABLE_TD_NON_ACCESSIBLE | exit->reason,
		.rcx = exit->qualification,
		.r9 = exit->interrupt_info,
	};

	atomic_store(&call->vcpu->td->fatal, true);
	exit_to_host(call, EXIT_ASYNC_FAULT, &answer);
}

static bool is_machine_check(const struct tdx_vmexit *exit)
{
	return exit->reason == TDX_EXIT_EXCEPTION_NMI &&
	       (exit->interrupt_info & INTERRUPT_KIND) == TDX_INTERRUPT_MACHINE_CHECK;
}

static void other_exit(struct call *call, const struct tdx_vmexit *exit)
{
	const struct exit_details details = {
		.reason = exit->reason,
		.qualification = exit->qualification,
		.interrupt_info = exit->interrupt_info,
	};

	exit_async(call, &details);
}

int tdx_module_convert_violation(struct tdx_module *m, unsigned int lp,
				 const struct tdx_vmexit *exit, struct tdx_guest *guest)
{
	struct vcpu *vcpu = vcpu_on(m, lp);

	if (!vcpu)
		return -ENOENT;
	if (vcpu->ve.valid)
		return -EBUSY;
	vcpu->ve = (struct ve_info){
		.valid = 0xffffffff,
		.reason = exit->reason,
		.qualification = exit->qualification,
		.gpa = exit->gpa,
		.gla = exit->gla,
	};
	guest->vector = VECTOR_VE;
	guest->has_error_code = false;
	return 0;
}

enum tdx_side tdx_module_vmexit(struct tdx_module *m, unsigned int lp,
				const struct tdx_vmexit *exit, struct tdx_guest *guest,
				struct tdx_regs *host)
{
	struct call call = {.m = m, .lp = lp, .regs = &guest->regs, .guest = guest, .host = host};

	call.vcpu = vcpu_on(m, lp);
	if (!call.vcpu) {
		*host = (struct tdx_regs){.rax = TDX_SYS_NOT_READY};
		return TDX_HOST;
	}
	guest->vector = 0;
	if (exit->reason == TDX_EXIT_EPT_VIOLATION)
		ept_violation(&call, exit);
	else if (exit->reason == TDX_EXIT_EPT_MISCONFIG)
		ept_misconfiguration(&call, exit);
	else if (is_machine_check(exit))
		machine_check(&call, exit);
	else
		other_exit(&call, exit);
	exit_if_dead(&call);
	return call.outcome == OUTCOME_EXIT ? TDX_HOST : TDX_GUEST;
}
