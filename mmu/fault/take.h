/* SPDX-License-Identifier: BSD-2-Clause */
/* What the plain door (decide.c) and the written-out one (take.c) share. Nothing else includes it.
 */
#ifndef MMU_FAULT_TAKE_H
#define MMU_FAULT_TAKE_H

#include "mmu/fault/fault.h"

/* Nothing in the trees answers it. In the first section, which it leaves. */
int fault_resolve(struct fault_vcpu *vcpu, struct tpt_fault *fault);
/* What the embedder hears of a fault that no entry answers, or that the guest did not have: @ret,
 * or what becomes of it. */
int fault_outcome(struct fault_vcpu *vcpu, const struct tpt_fault *fault, int ret);

/* What the access is, if it is to memory that is not private. */
ALWAYS_INLINE void understood(const struct fault_vcpu *vcpu, const struct fault_env *env,
			      struct tpt_fault *fault)
{
	fault->is_private = false;
	fault->gfn = fault->gpa.a >> TPT_PAGE_SHIFT & env->gfn_mask;
	fault->as_id = fault_as_id(vcpu);
}

/* Nothing was decided yet. */
ALWAYS_INLINE void undecided(struct tpt_fault *fault)
{
	fault->slot = -1;
	fault->pfn.n = 0;
	fault->goal_level = TPT_LEVEL_NONE;
	fault->spte.w = 0;
	fault->tables_linked = 0;
}

/* A leaf that is there allows the access. */
ALWAYS_INLINE int spurious(struct fault_vcpu *vcpu, const struct fault_env *env,
			   struct tpt_fault *fault, struct tree_spot at)
{
	if (fault_may_be_fast(env, fault))
		count_add(&vcpu->actor, COUNT_PF_FAST, 1);
	fault->goal_level = (enum tpt_level)at.level;
	fault->pfn = pte_pfn(at.old);
	return TPT_RET_PF_SPURIOUS;
}

#endif
