// SPDX-License-Identifier: BSD-2-Clause
/* A TD's vCPU: its pages, its tie to an LP, entry. Its end is the TD's. */
#include "tdx/host/internal.h"

#include <stdlib.h>

/* -- Creation -- */

static int init_vcpu(struct tdx_vcpu *vcpu, uint64_t rcx)
{
	struct tdx_host *host = vcpu->td->host;
	struct call call = {.leaf = TDH_VP_INIT, .in.rcx = vcpu->tdvpr, .in.rdx = rcx};
	unsigned int lp = host_lp(host);
	int err = host_call_judge(host, &call, host_call_patient(host, lp, &call));

	if (!err)
		atomic_store(&vcpu->lp, (int)lp);
	return err;
}

static int build_vcpu(struct tdx_vcpu *vcpu, uint64_t rcx)
{
	int err = 0;

	for (unsigned int i = 0; !err && i < NR_TDCX_PAGES; i++) {
		struct call add = {.leaf = TDH_VP_ADDCX, .in.rdx = vcpu->tdvpr};

		err = host_page_donate(vcpu->td->host, &add, &vcpu->tdcx[i]);
	}
	return err ? err : init_vcpu(vcpu, rcx);
}

static struct tdx_vcpu *alloc_vcpu(struct tdx_td *td)
{
	struct tdx_vcpu *vcpu = calloc(1, sizeof(*vcpu));

	if (!vcpu)
		return NULL;
	vcpu->td = td;
	vcpu->tdvpr = NO_PAGE;
	for (unsigned int i = 0; i < NR_TDCX_PAGES; i++)
		vcpu->tdcx[i] = NO_PAGE;
	atomic_init(&vcpu->lp, NO_LP);
	return vcpu;
}

int tdx_vcpu_create(struct tdx_td *td, uint64_t rcx, struct tdx_vcpu **out)
{
	struct call create = {.leaf = TDH_VP_CREATE, .in.rdx = td->tdr};
	struct tdx_vcpu *vcpu;
	int err;

	if (td_state(td) != TDX_TD_BUILDING)
		return host_td_refuse(td, "tdx_vcpu_create");
	vcpu = alloc_vcpu(td);
	if (!vcpu)
		return -ENOMEM;
	err = host_page_donate(vcpu->td->host, &create, &vcpu->tdvpr);
	if (err) {
		free(vcpu);
		return err;
	}
	/* From here on the module holds pages that only the TD's end gives back. */
	vcpu->next = td->vcpus;
	td->vcpus = vcpu;
	err = build_vcpu(vcpu, rcx);
	if (!err)
		*out = vcpu;
	return err;
}

tpt_hpa tdx_vcpu_tdvpr(const struct tdx_vcpu *vcpu)
{
	return (tpt_hpa){vcpu->tdvpr};
}

int tdx_vcpu_lp(const struct tdx_vcpu *vcpu)
{
	return atomic_load(&vcpu->lp);
}

/* -- The tie to an LP -- */

struct flush {
	struct tdx_vcpu *vcpu;
	unsigned int lp;
	bool patient;
	int err;
};

static void flush_here(void *arg)
{
	struct flush *f = arg;
	struct tdx_host *host = f->vcpu->td->host;
	struct call call = {.leaf = TDH_VP_FLUSH, .in.rcx = f->vcpu->tdvpr};

	f->err = f->patient ? host_call_patient(host, f->lp, &call)
			    : host_call_once(host, f->lp, &call);
	/* A failed entry may have left the vCPU as it was. */
	if ((call.status & TDX_STATUS_MASK) == TDX_VCPU_NOT_ASSOCIATED)
		f->err = 0;
	host_call_judge(host, &call, f->err);
}

int host_vcpu_flush(struct tdx_vcpu *vcpu, bool patient)
{
	struct flush f = {.vcpu = vcpu, .patient = patient};
	int lp = atomic_load(&vcpu->lp), err;

	if (lp == NO_LP)
		return 0;
	f.lp = (unsigned int)lp;
	err = host_run_on(vcpu->td->host, f.lp, flush_here, &f);
	if (err)
		return err;
	if (!f.err)
		atomic_store(&vcpu->lp, NO_LP);
	return f.err;
}

int tdx_vcpu_flush(struct tdx_vcpu *vcpu)
{
	if (!td_alive(vcpu->td))
		return host_td_refuse(vcpu->td, "tdx_vcpu_flush");
	return host_vcpu_flush(vcpu, false);
}

static bool is_elsewhere(const struct tdx_vcpu *vcpu, unsigned int here)
{
	int lp = atomic_load(&vcpu->lp);

	return lp != NO_LP && lp != (int)here;
}

int tdx_vcpu_migrate(struct tdx_vcpu *vcpu)
{
	return is_elsewhere(vcpu, host_lp(vcpu->td->host)) ? tdx_vcpu_flush(vcpu) : 0;
}

/* The module ties a vCPU to the LP early in a call and leaves it so whatever comes after. */
static void note_association(struct tdx_vcpu *vcpu, unsigned int lp, uint64_t status)
{
	if ((status & TDX_STATUS_MASK) != TDX_VCPU_ASSOCIATED)
		atomic_store(&vcpu->lp, (int)lp);
}

int tdx_vcpu_set_shared_eptp(struct tdx_vcpu *vcpu, tpt_hpa root)
{
	struct tdx_host *host = vcpu->td->host;
	struct call call = {
		.leaf = TDH_VP_WR,
		.in.rcx = vcpu->tdvpr,
		.in.rdx = TDX_MD_SHARED_EPT_POINTER,
		.in.r8 = root.a,
		.in.r9 = ~0ull,
	};
	unsigned int lp = host_lp(host);
	int err;

	if (!td_alive(vcpu->td))
		return host_td_refuse(vcpu->td, "tdx_vcpu_set_shared_eptp");
	if (is_elsewhere(vcpu, lp))
		return -EXDEV;
	err = host_call_judge(host, &call, host_call_patient(host, lp, &call));
	note_association(vcpu, lp, call.status);
	return err;
}

/* -- Entry -- */

enum tdx_enter tdx_exit_classify(uint64_t rax)
{
	switch (rax & TDX_STATUS_MASK) {
	case TDX_SUCCESS:
		return TDX_ENTER_EXIT;
	case TDX_NON_RECOVERABLE_VCPU:
		return TDX_ENTER_VCPU_DEAD;
	case TDX_NON_RECOVERABLE_TD:
	case TDX_NON_RECOVERABLE_TD_NON_ACCESSIBLE:
	case TDX_NON_RECOVERABLE_TD_WRONG_APIC_MODE:
	case TDX_TD_FATAL:
		return TDX_ENTER_TD_DEAD;
	case TDX_VCPU_ASSOCIATED:
		return TDX_ENTER_ELSEWHERE;
	/* Left because of somebody else: nothing to do for this guest but to go on. */
	case TDX_CROSS_TD_FAULT:
	case TDX_CROSS_TD_TRAP:
		return TDX_ENTER_BUSY;
	default:
		return tdx_status_errno(rax) == -EBUSY ? TDX_ENTER_BUSY : TDX_ENTER_REFUSED;
	}
}

static void log_entry(const struct tdx_host *host, const struct tdx_vcpu *vcpu, uint64_t rax)
{
	const char *name = tdx_status_name(rax);

	host_log(host, TPT_LOG_ERROR, "TDH.VP.ENTER: %s (0x%016llx), vCPU 0x%llx",
		 name ? name : "unknown status", (unsigned long long)rax,
		 (unsigned long long)vcpu->tdvpr);
}

enum tdx_enter tdx_vcpu_enter(struct tdx_vcpu *vcpu, struct tdx_regs *regs)
{
	struct tdx_host *host = vcpu->td->host;
	unsigned int lp = host_lp(host);
	enum tdx_enter result;

	if (td_state(vcpu->td) != TDX_TD_RUNNABLE) {
		host_td_refuse(vcpu->td, "tdx_vcpu_enter");
		return TDX_ENTER_REFUSED;
	}
	if (is_elsewhere(vcpu, lp))
		return TDX_ENTER_ELSEWHERE;
	regs->rcx = vcpu->tdvpr;
	if (host_call_enter(host, lp, regs) == TDX_GUEST) {
		atomic_store(&vcpu->lp, (int)lp);
		return TDX_ENTER_GUEST;
	}
	note_association(vcpu, lp, regs->rax);
	result = tdx_exit_classify(regs->rax);
	/* Nobody else ties our vCPUs to LPs: the books are wrong, and migrating would not help. */
	if (result == TDX_ENTER_ELSEWHERE)
		result = TDX_ENTER_REFUSED;
	if (result >= TDX_ENTER_VCPU_DEAD)
		log_entry(host, vcpu, regs->rax);
	return result;
}
