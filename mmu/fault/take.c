// SPDX-License-Identifier: BSD-2-Clause
/*
 * The door of a fault, written out for what most faults are: shared memory, nobody listens, a leaf
 * that is there, or an EMPTY entry. All else goes through fault_handle(), to which it is held
 * equal.
 */
#include "mmu/fault/take.h"

static __attribute__((noinline)) void tell_fault(const struct fault_vcpu *vcpu,
						 const struct tpt_fault *fault)
{
	vm_event(vcpu->env->base, &(struct tpt_event){.kind = TPT_EVENT_PAGE_FAULT,
						      .vcpu = vcpu->actor.vcpu,
						      .as_id = fault_as_id(vcpu),
						      .gpa = fault->gpa,
						      .gfn = fault->gpa.a >> TPT_PAGE_SHIFT,
						      .error_code = fault->error_code});
}

/* Counts and tells how a fault ended. */
ALWAYS_INLINE int ended(struct fault_vcpu *vcpu, const struct tpt_fault *fault, int ret)
{
	(void)fault; /* without probes */
	PROBE3(fault_exit, vcpu->actor.vcpu, fault->gpa.a, ret);
	count_add(&vcpu->actor, COUNT_PF + (ret < 0 ? 0u : (unsigned int)ret), 1);
	return ret;
}

static __attribute__((noinline)) int take_plainly(struct fault_vcpu *vcpu, struct tpt_fault *fault)
{
	if (vcpu->env->trees->told)
		tell_fault(vcpu, fault);
	if (fault->prefetch)
		count_add(&vcpu->actor, COUNT_PF_PREFETCH, 1);
	return ended(vcpu, fault, fault_handle(vcpu, fault));
}

/* Neither is there a leaf that answers it. In the first section. */
static __attribute__((noinline)) int take_resolving(struct fault_vcpu *vcpu,
						    struct tpt_fault *fault)
{
	int ret;

	undecided(fault);
	ret = fault_resolve(vcpu, fault);
	return ended(vcpu, fault, ret < TPT_RET_PF_FIXED ? fault_outcome(vcpu, fault, ret) : ret);
}

/* There is a leaf that does not allow it. In the first section, of @turn. */
static __attribute__((noinline)) int take_fast(struct fault_vcpu *vcpu, struct tpt_fault *fault,
					       uint64_t turn)
{
	int ret;

	undecided(fault);
	ret = fault_fast(vcpu, fault, turn);
	if (ret == TPT_RET_PF_INVALID)
		return take_resolving(vcpu, fault);
	section_leave(&vcpu->actor);
	return ended(vcpu, fault, ret < 0 ? fault_outcome(vcpu, fault, ret) : ret);
}

/* Is there anything about it that fault_handle() must see from the start? */
static inline bool is_unusual(const struct fault_vcpu *vcpu, const struct fault_env *env,
			      const struct tpt_fault *fault)
{
	return env->unusual || fault->prefetch || (fault->error_code & env->code_unusual) ||
	       (fault->gpa.a & env->gpa_reserved) ||
	       vcpu->actor.tables.nr < vcpu->actor.tables.want;
}

/* The table gives way: what was given back is taken back, but for a moment it was there. */
static __attribute__((noinline)) int take_write_back(struct fault_vcpu *vcpu,
						     struct tpt_fault *fault, entry_t *entry,
						     tpt_spte old, uint64_t turn)
{
	const struct trees *trees = vcpu->env->trees;

	tree_take_back(trees, entry, old, (tpt_spte){old.w | trees->format.write});
	slot_mark_dirty(vcpu->slot_cache.slot, fault->gfn);
	vcpu->direct_hint = (struct tree_hint){0};
	return take_fast(vcpu, fault, turn);
}

/*
 * fault_fast(), written out for a leaf in the hinted table that was write-protected for a log and
 * nothing else. Needs no frame either. In the first section, of @turn.
 */
static __attribute__((noinline)) int take_write(struct fault_vcpu *vcpu, struct tpt_fault *fault,
						tpt_spte old, tpt_spte leaf, uint64_t turn)
{
	entry_t *entry = vcpu->direct_hint.entries + (fault->gfn & (TABLE_ENTRIES - 1));
	const struct memslot *slot = vcpu->slot_cache.slot;

	if (__builtin_expect(!slot_cache_is_good(&vcpu->slot_cache, fault->gfn) || !slot ||
				     slot->invalid || !slot_logs_dirty(slot),
			     0))
		return take_fast(vcpu, fault, turn);
	if (__builtin_expect(!entry_exchange(entry, old, leaf), 0))
		return take_fast(vcpu, fault, turn);
	if (__builtin_expect(table_gives_way(vcpu->direct_hint.table), 0))
		return take_write_back(vcpu, fault, entry, old, turn);
	PROBE5(transition, fault->as_id, fault->gfn, TPT_LEVEL_4K, old.w, leaf.w);
	dirty_mark(slot, fault->gfn);
	section_leave_quickly(&vcpu->actor);
	fault->slot = (int32_t)slot->id;
	fault->goal_level = TPT_LEVEL_4K;
	fault->pfn = pte_pfn(leaf);
	fault->spte = leaf;
	fault->tables_linked = 0;
	count_add(&vcpu->actor, COUNT_PF_FIXED_FAST, 1);
	PROBE3(fault_exit, vcpu->actor.vcpu, fault->gpa.a, TPT_RET_PF_FIXED);
	return TPT_RET_PF_FIXED;
}

/* What to do about a leaf in the hinted table, of a format with A and D. Section of @turn. */
ALWAYS_INLINE int take_leaf(struct fault_vcpu *vcpu, const struct fault_env *env,
			    struct tpt_fault *fault, tpt_spte leaf, uint64_t turn)
{
	const struct pte_format *f = &env->trees->format;
	const uint64_t write = TPT_PFERR_PRESENT | TPT_PFERR_WRITE;
	uint64_t code = fault->error_code & (write | TPT_PFERR_FETCH);

	if (code == write) {
		if (!(leaf.w & f->write))
			return leaf.w & f->mmu_writable
				       ? take_write(vcpu, fault, leaf,
						    (tpt_spte){leaf.w | f->write}, turn)
				       : take_fast(vcpu, fault, turn);
		/* KVM's fast path, which finds that there is nothing to do. */
		count_add(&vcpu->actor, COUNT_PF_FAST, 1);
	} else if (!pte_allows(f, leaf, fault_access(fault))) {
		return take_fast(vcpu, fault, turn);
	}
	undecided(fault);
	fault->goal_level = TPT_LEVEL_4K;
	fault->pfn = pte_pfn(leaf);
	section_leave_quickly(&vcpu->actor);
	return ended(vcpu, fault, TPT_RET_PF_SPURIOUS);
}

/* A walk is made. In the first section, of @turn. */
static __attribute__((noinline)) int take_walking(struct fault_vcpu *vcpu, struct tpt_fault *fault,
						  uint64_t turn)
{
	const struct fault_env *env = vcpu->env;
	const struct trees *trees = env->trees;
	struct tree_spot at = tree_walk_linear(trees, trees->root[fault->as_id],
					       fault->gfn | trees->shared_gfn, TPT_LEVEL_4K);

	hint_fill(&vcpu->direct_hint, fault->gfn, TPT_LEVEL_4K, turn, at);
	if (!spot_has_leaf(at))
		return take_resolving(vcpu, fault);
	if (at.level == TPT_LEVEL_4K)
		return take_leaf(vcpu, env, fault, at.old, turn);
	if (!pte_allows(&trees->format, at.old, fault_access(fault)))
		return take_fast(vcpu, fault, turn);
	undecided(fault);
	spurious(vcpu, env, fault, at);
	section_leave_quickly(&vcpu->actor);
	return ended(vcpu, fault, TPT_RET_PF_SPURIOUS);
}

/*
 * fault_handle(), written out up to the point where most faults part: what is there answers it, or
 * the backing must be asked. Calls nobody who comes back, so that it needs no frame.
 */
int fault_take(struct fault_vcpu *vcpu, struct tpt_fault *fault)
{
	const struct fault_env *env = vcpu->env;
	struct vm_base *base = vcpu->actor.base;
	tpt_spte old;
	uint64_t turn;

	PROBE3(fault_entry, vcpu->actor.vcpu, fault->gpa.a, fault->error_code);
	if (__builtin_expect(is_unusual(vcpu, env, fault), 0))
		return take_plainly(vcpu, fault);
	turn = section_enter_quickly(&vcpu->actor, base);
	if (__builtin_expect(turn & TURN_BUSY, 0))
		return take_plainly(vcpu, fault);
	if (__builtin_expect(roots_are_stale(vcpu, base), 0)) {
		section_leave_quickly(&vcpu->actor);
		return take_plainly(vcpu, fault);
	}
	vcpu->exit.reason = TPT_EXIT_NONE;
	understood(vcpu, env, fault);
	if (!hint_is_good(&vcpu->direct_hint, fault->gfn, TPT_LEVEL_4K, turn))
		return take_walking(vcpu, fault, turn);
	old = hint_spot(&vcpu->direct_hint, fault->gfn, TPT_LEVEL_4K).old;
	return pte_is_present(old) ? take_leaf(vcpu, env, fault, old, turn)
				   : take_resolving(vcpu, fault);
}
