// SPDX-License-Identifier: BSD-2-Clause
/* What a vCPU's trees say of one address. Changes nothing and asks nobody else. */
#include "mmu/fault/fault.h"

static int answer(const struct tree_spot at, struct tpt_lookup *lookup)
{
	lookup->spte = at.old;
	lookup->level = (enum tpt_level)at.level;
	return spot_has_leaf(at);
}

/* In a section; there may be no root. */
static int look(const struct fault_vcpu *vcpu, tpt_gfn gfn, struct tpt_lookup *lookup)
{
	const struct fault_env *env = vcpu->env;
	bool mirror = env->has_mirror && !(gfn & env->shared_gfn);
	enum tree_id id = mirror ? TREE_MIRROR : tree_direct(fault_as_id(vcpu));

	if (!env->trees->root[id]) {
		*lookup = (struct tpt_lookup){.spte = pte_empty()};
		return 0;
	}
	return answer(tree_walk(env->trees, id, gfn & env->gfn_mask, TPT_LEVEL_4K), lookup);
}

static __attribute__((noinline)) int lookup_plainly(struct fault_vcpu *vcpu, tpt_gpa gpa,
						    struct tpt_lookup *lookup)
{
	int ret;

	if (gpa.a & vcpu->env->gpa_reserved) {
		vm_log(vcpu->env->base, TPT_LOG_WARNING,
		       "lookup: gpa %#lx is wider than the VM's %u bits", gpa.a,
		       (unsigned int)__builtin_ctzll(vcpu->env->gpa_reserved));
		return -ERR_INVAL;
	}
	if (!section_enter(&vcpu->actor))
		return -ERR_AGAIN;
	ret = look(vcpu, gpa.a >> TPT_PAGE_SHIFT, lookup);
	section_leave(&vcpu->actor);
	return ret;
}

/* A walk is made. In a section of @turn. */
static __attribute__((noinline)) int lookup_walking(struct fault_vcpu *vcpu, tpt_gfn gfn,
						    struct tpt_lookup *lookup, uint64_t turn)
{
	const struct trees *trees = vcpu->env->trees;
	struct tree_spot at = tree_walk_linear(trees, trees->root[fault_as_id(vcpu)],
					       gfn | trees->shared_gfn, TPT_LEVEL_4K);

	hint_fill(&vcpu->direct_hint, gfn, TPT_LEVEL_4K, turn, at);
	section_leave_quickly(&vcpu->actor);
	return answer(at, lookup);
}

int fault_lookup(struct fault_vcpu *vcpu, tpt_gpa gpa, struct tpt_lookup *lookup)
{
	const struct fault_env *env = vcpu->env;
	struct vm_base *base = vcpu->actor.base;
	tpt_gfn gfn = gpa.a >> TPT_PAGE_SHIFT & env->gfn_mask;
	struct tree_spot at;
	uint64_t turn;

	if (__builtin_expect(env->unusual || (gpa.a & env->gpa_reserved), 0))
		return lookup_plainly(vcpu, gpa, lookup);
	turn = section_enter_quickly(&vcpu->actor, base);
	if (__builtin_expect(turn & TURN_BUSY, 0))
		return lookup_plainly(vcpu, gpa, lookup);
	if (__builtin_expect(roots_are_stale(vcpu, base), 0)) {
		section_leave_quickly(&vcpu->actor);
		return lookup_plainly(vcpu, gpa, lookup);
	}
	if (!hint_is_good(&vcpu->direct_hint, gfn, TPT_LEVEL_4K, turn))
		return lookup_walking(vcpu, gfn, lookup, turn);
	at = hint_spot(&vcpu->direct_hint, gfn, TPT_LEVEL_4K);
	section_leave_quickly(&vcpu->actor);
	lookup->spte = at.old;
	lookup->level = TPT_LEVEL_4K;
	return pte_is_present(at.old);
}
