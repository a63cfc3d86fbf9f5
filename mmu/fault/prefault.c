// SPDX-License-Identifier: BSD-2-Clause
/*
 * A fault that the guest has not had yet, for callers that may wait a little: what would be RETRY
 * is tried again here. Never waits for a memslot or for what the backing has not got.
 */
#include "mmu/fault/fault.h"

/* Tries of one page. Each loses to somebody who changed the same entry, or to an invalidation. */
#define PREFAULT_TRIES 64

void fault_section_enter(struct fault_vcpu *vcpu)
{
	struct vm_base *base = vcpu->env->base;

	while (!section_enter(&vcpu->actor))
		base->platform->relax(base->platform_ctx);
}

/* May it map, and which of its two memories does the page have now? */
static int look(struct fault_vcpu *vcpu, tpt_gfn gfn, bool *private_)
{
	const struct fault_env *env = vcpu->env;
	int err;

	fault_section_enter(vcpu);
	err = env->prefault_allowed ? 0 : -ERR_OPNOTSUPP;
	*private_ = env->private_memory && attr_is_private(env->slots, gfn);
	section_leave(&vcpu->actor);
	return err;
}

/* A mismatch is an answer only if it still is one. */
static bool was_converted(struct fault_vcpu *vcpu, tpt_gfn gfn, bool private_)
{
	bool now;

	return !look(vcpu, gfn, &now) && now != private_;
}

static int try_once(struct fault_vcpu *vcpu, tpt_gpa gpa, uint64_t error_code,
		    struct tpt_fault *fault)
{
	tpt_gfn gfn = gpa.a >> TPT_PAGE_SHIFT;
	bool private_;
	int ret = look(vcpu, gfn, &private_);

	if (ret)
		return ret;
	if (private_)
		error_code |= TPT_PFERR_PRIVATE;
	else
		gpa.a |= vcpu->env->shared_gfn << TPT_PAGE_SHIFT;
	*fault = (struct tpt_fault){.gpa = gpa, .error_code = error_code, .prefetch = true};
	ret = fault_handle(vcpu, fault);
	if (ret == -ERR_FAULT && was_converted(vcpu, gfn, private_))
		return TPT_RET_PF_RETRY;
	return ret;
}

int fault_prefault(struct fault_vcpu *vcpu, tpt_gpa gpa, uint64_t error_code, tpt_gfn *next)
{
	struct vm_base *base = vcpu->env->base;
	int ret = TPT_RET_PF_RETRY;
	struct tpt_fault fault;

	for (unsigned int i = 0; i < PREFAULT_TRIES && ret == TPT_RET_PF_RETRY; i++) {
		if (i)
			base->platform->relax(base->platform_ctx);
		ret = try_once(vcpu, gpa, error_code, &fault);
	}
	if (ret < 0)
		return ret;
	if (ret == TPT_RET_PF_RETRY)
		return -ERR_AGAIN;
	if (ret == TPT_RET_PF_EMULATE)
		return -ERR_NOENT;
	*next = tpt_gfn_round(fault.gfn, fault.goal_level) + tpt_level_pages(fault.goal_level);
	return 0;
}
