// SPDX-License-Identifier: BSD-2-Clause
/* One path down a tree: links what is missing, installs one entry at the goal level. */
#include "mmu/fault/map.h"

uint64_t fault_memtype(const struct fault_env *env, bool device)
{
	const struct pte_format *f = &env->trees->format;

	if (device)
		return f->memtype_uc;
	return env->ignore_guest_pat && !env->noncoherent_dma ? f->memtype_wb_ipat : f->memtype_wb;
}

void fault_words_init(struct fault_env *env)
{
	for (unsigned int writable = 0; writable < 2; writable++)
		env->leaf_word[writable] =
			pte_make_leaf(&env->trees->format,
				      &(struct pte_leaf){.level = TPT_LEVEL_4K,
							 .host_writable = writable,
							 .write = writable,
							 .accessed = true,
							 .memtype = fault_memtype(env, false)})
				.w;
}

/* A transition's answer as a fault's: whoever was faster, the guest tries again. */
static int outcome(int err)
{
	return err == -ERR_BUSY ? TPT_RET_PF_RETRY : err;
}

static int map_mmio(struct fault_vcpu *vcpu, struct tpt_fault *fault, struct tree_iter *it)
{
	struct fault_env *env = vcpu->env;
	uint32_t generation = env->slots->set[fault->as_id].generation & PTE_MMIO_GEN_MASK;
	tpt_spte mmio = pte_make_mmio(&env->trees->format, fault->gfn, generation, TPT_ACC_ALL);
	int err;

	if (pte_same(it->old, mmio))
		return TPT_RET_PF_EMULATE;
	err = tree_transition(&vcpu->actor, it, mmio, TREE_SHARED);
	if (err)
		return outcome(err);
	fault->spte = mmio;
	count_add(&vcpu->actor, COUNT_PF_MMIO_SPTE_CREATED, 1);
	vm_event(env->base, &(struct tpt_event){.kind = TPT_EVENT_MARK_MMIO,
						.vcpu = vcpu->actor.vcpu,
						.as_id = fault->as_id,
						.gfn = fault->gfn,
						.access = TPT_ACC_ALL,
						.generation = generation,
						.new_spte = mmio});
	return TPT_RET_PF_EMULATE;
}

int map_lost(struct fault_vcpu *vcpu, struct tpt_fault *fault, const struct memslot *slot,
	     struct tree_hint *hint)
{
	count_add(&vcpu->actor, COUNT_CAS_LOST, 1);
	*hint = (struct tree_hint){0};
	/*
	 * If the table gives way the leaf was there for a moment, and another processor may have
	 * written through it.
	 */
	if (fault->map_writable)
		fault_mark_dirty(vcpu, slot, fault->gfn);
	return TPT_RET_PF_RETRY;
}

/* Is a leaf there one that code must not run from? */
static bool is_nx_huge(const struct trees *trees, enum tree_id id, unsigned int level)
{
	return level > TPT_LEVEL_4K && id != TREE_MIRROR && trees->nx_huge_pages;
}

static int map_leaf(struct fault_vcpu *vcpu, struct tpt_fault *fault, struct tree_iter *it,
		    const struct memslot *slot, bool device)
{
	const struct pte_format *f = &vcpu->env->trees->format;
	bool tracked = slot_is_tracked(slot, fault->gfn);
	tpt_spte leaf =
		pte_make_leaf(f, &(struct pte_leaf){.pfn = fault->pfn,
						    .level = it->level,
						    .host_writable = fault->map_writable,
						    .write = fault->map_writable && !tracked,
						    .accessed = !fault->prefetch,
						    .nx = is_nx_huge(it->trees, it->id, it->level),
						    .memtype = fault_memtype(vcpu->env, device)});
	int err;

	if (iter_kind(it) == PTE_LEAF &&
	    (fault->prefetch || pte_allows(f, it->old, fault_access(fault))))
		return TPT_RET_PF_SPURIOUS;
	if (pte_same(it->old, leaf))
		return tracked && fault_writes(fault) ? TPT_RET_PF_WRITE_PROTECTED
						      : TPT_RET_PF_SPURIOUS;
	err = tree_transition(&vcpu->actor, it, leaf, TREE_SHARED);
	/*
	 * After the entry, before the guest: whoever takes the mark in between protects it again.
	 * If the table gave way and it was taken back, another processor may have used it.
	 */
	if (leaf.w & f->write)
		fault_mark_dirty(vcpu, slot, fault->gfn);
	if (err)
		return outcome(err);
	fault->spte = leaf;
	return tracked && fault_writes(fault) ? TPT_RET_PF_WRITE_PROTECTED : TPT_RET_PF_FIXED;
}

/* What is to be remembered of a table here: that it is for code that runs, if it is. */
static enum nx_mark mark_of(const struct tpt_fault *fault, const struct tree_iter *it)
{
	if (!fault_fetches(fault) || fault->slot < 0 || !is_nx_huge(it->trees, it->id, it->level))
		return NX_NONE;
	return fault->req_level >= (enum tpt_level)it->level ? NX_POSSIBLE : NX_DISALLOWED;
}

/* Puts a table under an entry that has none. */
static int link(struct fault_vcpu *vcpu, struct tpt_fault *fault, struct tree_iter *it)
{
	struct trees *trees = vcpu->env->trees;
	struct table *table = table_make(trees, &vcpu->actor, it->id, it->level - 1, it->gfn);
	int err = tree_link(&vcpu->actor, it, table, mark_of(fault, it));

	if (err) {
		table_unmake(table, &vcpu->actor);
		return outcome(err);
	}
	fault->tables_linked++;
	return TPT_RET_PF_CONTINUE;
}

/* Puts a table of smaller leaves in the place of a leaf. */
static int split(struct fault_vcpu *vcpu, struct tpt_fault *fault, struct tree_iter *it)
{
	int err = tree_split(&vcpu->actor, it, mark_of(fault, it));

	if (err)
		return outcome(err);
	fault->tables_linked++;
	return TPT_RET_PF_CONTINUE;
}

/*
 * Does a table at the goal stay where it is? A mirror's does, and one that code runs in: a huge
 * leaf in its place would only be split again.
 */
static bool table_stays(const struct tree_iter *it)
{
	const struct table *table;

	if (iter_kind(it) != PTE_TABLE)
		return false;
	if (it->id == TREE_MIRROR || !it->trees->nx_huge_pages)
		return it->id == TREE_MIRROR;
	table = table_header(it->trees, pte_table_hpa(it->old));
	return atomic_load_explicit(&((struct table *)table)->nx_disallowed, memory_order_relaxed);
}

/* The goal comes down to a table that stays, and the frame with it. */
static void lower_goal(struct tpt_fault *fault)
{
	fault->goal_level--;
	fault->pfn.n |= fault->gfn & (tpt_level_pages(fault->goal_level + 1) - 1) &
			~(tpt_level_pages(fault->goal_level) - 1);
}

/* One step from the iterator's entry towards the goal. CONTINUE: there is a table to go into. */
static int step(struct fault_vcpu *vcpu, struct tpt_fault *fault, struct tree_iter *it)
{
	bool mirror = it->id == TREE_MIRROR;

	switch (iter_kind(it)) {
	case PTE_TABLE:
		return TPT_RET_PF_CONTINUE;
	case PTE_LEAF:
		if (mirror || pte_allows(&vcpu->env->trees->format, it->old, fault_access(fault)))
			return TPT_RET_PF_SPURIOUS;
		return split(vcpu, fault, it);
	case PTE_EMPTY:
	case PTE_MMIO:
		return link(vcpu, fault, it);
	default:
		/* FROZEN: somebody is at it. BLOCKED: it is being removed, or changes its size. */
		return TPT_RET_PF_RETRY;
	}
}

/* From where the iterator stands to the goal. */
static int walk_on(struct fault_vcpu *vcpu, struct tpt_fault *fault, struct tree_iter *it)
{
	int ret;

	for (;; iter_down(it)) {
		if (it->level == fault->goal_level && table_stays(it))
			lower_goal(fault);
		if (it->level == fault->goal_level)
			return TPT_RET_PF_CONTINUE;
		ret = step(vcpu, fault, it);
		if (ret != TPT_RET_PF_CONTINUE)
			return ret;
	}
}

int fault_walk(struct fault_vcpu *vcpu, struct tpt_fault *fault, struct tree_iter *it)
{
	struct trees *trees = vcpu->env->trees;
	enum tree_id id = fault_tree(vcpu->env, fault);

	iter_at(it, trees, id, fault->gfn, tree_walk(trees, id, fault->gfn, fault->goal_level));
	return walk_on(vcpu, fault, it);
}

int map_slowly(struct fault_vcpu *vcpu, struct tpt_fault *fault, const struct memslot *slot,
	       bool device)
{
	struct tree_iter it;
	int ret = fault_walk(vcpu, fault, &it);

	if (ret != TPT_RET_PF_CONTINUE)
		return ret;
	if (iter_kind(&it) >= PTE_FROZEN)
		return TPT_RET_PF_RETRY;
	ret = slot ? map_leaf(vcpu, fault, &it, slot, device) : map_mmio(vcpu, fault, &it);
	vcpu->detached = it.detached;
	return ret;
}

/* At an EMPTY 4K entry of the mirror. */
ALWAYS_INLINE int map_mirror_at(struct fault_vcpu *vcpu, struct tpt_fault *fault,
				const struct memslot *slot, struct tree_spot at)
{
	tpt_spte leaf = map_leaf_word(vcpu->env, fault, TPT_LEVEL_4K);
	int err = tree_install_mirror(&vcpu->actor, vcpu->env->trees, fault->gfn, at, leaf);

	if (__builtin_expect(err == -ERR_BUSY, 0))
		return map_lost(vcpu, fault, slot, &vcpu->mirror_hint);
	if (__builtin_expect(err, 0))
		return err;
	fault->spte = leaf;
	return TPT_RET_PF_FIXED;
}

static __attribute__((noinline)) int map_mirror_walking(struct fault_vcpu *vcpu,
							struct tpt_fault *fault,
							const struct memslot *slot, bool device,
							uint64_t turn)
{
	const struct trees *trees = vcpu->env->trees;
	struct tree_spot at =
		tree_walk_linear(trees, trees->root[TREE_MIRROR], fault->gfn, TPT_LEVEL_4K);

	hint_fill(&vcpu->mirror_hint, fault->gfn, TPT_LEVEL_4K, turn, at);
	if (at.level != TPT_LEVEL_4K || at.old.w != PTE_EMPTY_WORD)
		return map_slowly(vcpu, fault, slot, device);
	return map_mirror_at(vcpu, fault, slot, at);
}

/* fault_map() of a mirror. */
static __attribute__((noinline)) int map_mirror(struct fault_vcpu *vcpu, struct tpt_fault *fault,
						const struct memslot *slot, bool device,
						uint64_t turn)
{
	const struct trees *trees = vcpu->env->trees;
	struct tree_spot at;

	if (__builtin_expect(fault->goal_level != TPT_LEVEL_4K || trees->mirror.released ||
				     map_is_unusual(fault, trees, slot, device, TPT_LEVEL_4K),
			     0))
		return map_slowly(vcpu, fault, slot, device);
	if (!hint_is_good(&vcpu->mirror_hint, fault->gfn, TPT_LEVEL_4K, turn))
		return map_mirror_walking(vcpu, fault, slot, device, turn);
	at = hint_spot(&vcpu->mirror_hint, fault->gfn, TPT_LEVEL_4K);
	if (__builtin_expect(at.old.w != PTE_EMPTY_WORD, 0))
		return map_slowly(vcpu, fault, slot, device);
	return map_mirror_at(vcpu, fault, slot, at);
}

static __attribute__((noinline)) int map_2m(struct fault_vcpu *vcpu, struct tpt_fault *fault,
					    const struct memslot *slot, bool device, uint64_t turn)
{
	return map_hinted(vcpu, fault, slot, device, TPT_LEVEL_2M, &vcpu->huge_hint, turn);
}

static __attribute__((noinline)) int map_4k(struct fault_vcpu *vcpu, struct tpt_fault *fault,
					    const struct memslot *slot, bool device, uint64_t turn)
{
	return map_small(vcpu, fault, slot, device, turn);
}

int fault_map(struct fault_vcpu *vcpu, struct tpt_fault *fault, const struct memslot *slot,
	      bool device, uint64_t turn)
{
	if (__builtin_expect(!slot, 0))
		return map_slowly(vcpu, fault, slot, device);
	if (fault->is_private && vcpu->env->has_mirror)
		return map_mirror(vcpu, fault, slot, device, turn);
	if (fault->goal_level == TPT_LEVEL_4K)
		return map_4k(vcpu, fault, slot, device, turn);
	if (fault->goal_level == TPT_LEVEL_2M)
		return map_2m(vcpu, fault, slot, device, turn);
	return map_slowly(vcpu, fault, slot, device);
}
