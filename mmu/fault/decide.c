// SPDX-License-Identifier: BSD-2-Clause
/* Decides a fault: what it is, what stands behind it, how large it may be. Changes no entry. */
#include "mmu/fault/map.h"

/*
 * What the fault knew when it asked what stands behind the page. @slot may be gone after the gap;
 * whatever the gap needs of it is copied.
 */
struct decision {
	const struct memslot *slot;
	struct slots_snapshot snapshot;
	const struct tpt_gmem *gmem; /* or NULL: the backing; kept alive by actor.asking */
};

static __attribute__((noinline)) int exit_memory_fault(struct fault_vcpu *vcpu,
						       const struct tpt_fault *fault)
{
	vcpu->exit = (struct tpt_exit){
		.reason = TPT_EXIT_MEMORY_FAULT,
		.gpa = {fault->gfn << TPT_PAGE_SHIFT},
		.size = TPT_PAGE_SIZE,
		.flags = fault->is_private ? TPT_MEMORY_FAULT_PRIVATE : 0,
	};
	return -ERR_FAULT;
}

/* What is wrong with a fault that cannot be. */
static __attribute__((noinline)) int refuse(const struct fault_env *env,
					    const struct tpt_fault *fault)
{
	uint64_t code = fault->error_code;

	if (code & ~FAULT_CODE_KNOWN)
		vm_log(env->base, TPT_LOG_WARNING, "fault: error code %#lx has reserved bits %#lx",
		       code, (uint64_t)(code & ~FAULT_CODE_KNOWN));
	else if (fault->gpa.a & env->gpa_reserved)
		vm_log(env->base, TPT_LOG_WARNING, "fault: gpa %#lx is wider than the VM's %u bits",
		       fault->gpa.a, (unsigned int)__builtin_ctzll(env->gpa_reserved));
	else
		vm_log(env->base, TPT_LOG_WARNING, "fault: private access to gpa %#lx, which %s",
		       fault->gpa.a,
		       env->private_memory ? "has the shared bit"
					   : "a VM without private memory can't have");
	return -ERR_INVAL;
}

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

/* Fills the "how it was understood" part. -ERR_INVAL: a bit or an address that cannot be. */
static int understand(const struct fault_vcpu *vcpu, const struct fault_env *env,
		      struct tpt_fault *fault)
{
	uint64_t code = fault->error_code;
	tpt_gfn gfn = fault->gpa.a >> TPT_PAGE_SHIFT;

	understood(vcpu, env, fault);
	undecided(fault);
	if ((code & env->code_refused) || (fault->gpa.a & env->gpa_reserved))
		return refuse(env, fault);
	if (!env->private_memory)
		return 0;
	fault->is_private = env->has_mirror ? !(gfn & env->shared_gfn) : code & TPT_PFERR_PRIVATE;
	return (code & TPT_PFERR_PRIVATE) && !fault->is_private ? refuse(env, fault) : 0;
}

/*
 * First section: which slot, and is there any use in asking what stands behind it? CONTINUE: ask.
 * INVALID: no slot, map MMIO.
 */
ALWAYS_INLINE int decide_slot(struct fault_vcpu *vcpu, const struct fault_env *env,
			      struct tpt_fault *fault, struct decision *d)
{
	const struct slots *slots = env->slots;

	d->snapshot = slots_snapshot(slots, fault->as_id);
	/* A slot that goes away takes its memory with it; before that the mismatch stands. */
	if (env->private_memory && fault->is_private != attr_is_private(slots, fault->gfn))
		return exit_memory_fault(vcpu, fault);
	d->slot = slot_find_cached(fault->gfn, &vcpu->slot_cache);
	if (!d->slot)
		return fault->is_private ? exit_memory_fault(vcpu, fault) : TPT_RET_PF_INVALID;
	fault->slot = (int32_t)d->slot->id;
	/* The guest tries again until the slot is gone; who prefaults must not wait for that: the
	 * deletion may be waiting for him. */
	if (d->slot->invalid)
		return fault->prefetch ? -ERR_AGAIN : TPT_RET_PF_RETRY;
	if (fault->is_private && !d->slot->gmem)
		return exit_memory_fault(vcpu, fault);
	d->gmem = slot_source(d->slot, fault->is_private);
	if (slots_invalidating(slots, d->slot, fault->gfn, 1, d->gmem))
		return TPT_RET_PF_RETRY;
	if (!fault_writes(fault))
		return TPT_RET_PF_CONTINUE;
	if (d->slot->flags & TPT_MEM_READONLY)
		return TPT_RET_PF_EMULATE;
	if (fault_was_present(fault) && slot_is_tracked(d->slot, fault->gfn))
		return TPT_RET_PF_WRITE_PROTECTED;
	return TPT_RET_PF_CONTINUE;
}

/* The page is being fetched: the guest tries again when it is there, or sooner if it likes. */
static int exit_async(struct fault_vcpu *vcpu, const struct tpt_fault *fault)
{
	vcpu->exit = (struct tpt_exit){.reason = TPT_EXIT_ASYNC_PF,
				       .gpa = fault->gpa,
				       .access = fault_access(fault),
				       .token = fault_token(fault)};
	return TPT_RET_PF_RETRY;
}

/* There is no page, for whatever reason: how the fault ends. */
static __attribute__((noinline)) int ask_failed(struct fault_vcpu *vcpu, struct tpt_fault *fault,
						int err)
{
	switch (err) {
	case -ERR_AGAIN:
		return TPT_RET_PF_RETRY;
	case -ERR_PERM:
		return fault_writes(fault) ? TPT_RET_PF_EMULATE : exit_memory_fault(vcpu, fault);
	case -ERR_INTR:
	case -ERR_NOMEM:
		return err;
	case -ERR_HWPOISON:
		exit_memory_fault(vcpu, fault);
		return err;
	case -ERR_INPROGRESS:
		if (!fault->prefetch && !fault->is_private)
			return exit_async(vcpu, fault);
		return exit_memory_fault(vcpu, fault);
	default:
		return exit_memory_fault(vcpu, fault);
	}
}

/* What was answered cannot be. */
static __attribute__((noinline)) int refuse_page(struct fault_vcpu *vcpu, struct tpt_fault *fault,
						 const struct tpt_backing_page *page)
{
	const struct fault_env *env = vcpu->env;

	if (page->level < TPT_LEVEL_4K || page->level > TPT_LEVEL_MAX_LEAF ||
	    (page->pfn.n & env->pfn_reserved))
		vm_log(env->base, TPT_LOG_ERROR,
		       "backing of gfn %#lx answered pfn %#lx level %d: no such frame", fault->gfn,
		       page->pfn.n, page->level);
	else
		vm_log(env->base, TPT_LOG_ERROR,
		       "backing of gfn %#lx: asked for a writable page, answered a read-only one",
		       fault->gfn);
	return exit_memory_fault(vcpu, fault);
}

static inline bool page_is_good(const struct fault_env *env, const struct tpt_fault *fault,
				const struct tpt_backing_page *page)
{
	return (unsigned int)page->level - TPT_LEVEL_4K <= TPT_LEVEL_MAX_LEAF - TPT_LEVEL_4K &&
	       !(page->pfn.n & env->pfn_reserved) && (page->writable || !fault_writes(fault));
}

/* How large may it be? All limits together; the frame is aligned to what was decided. */
static void decide_level(const struct fault_vcpu *vcpu, struct tpt_fault *fault,
			 const struct decision *d, enum tpt_level host_level)
{
	const struct fault_env *env = vcpu->env;
	enum tpt_level cap =
		fault->is_private && env->has_mirror ? env->max_private_level : env->max_leaf_level;

	if (host_level < cap)
		cap = host_level;
	fault->req_level = slot_max_level(env->slots, d->slot, fault->gfn, d->gmem, cap);
	/* An alias of a frame needs gfn and pfn congruent, whatever the backing claims. */
	while (fault->req_level > TPT_LEVEL_4K &&
	       (fault->gfn ^ fault->pfn.n) & (tpt_level_pages(fault->req_level) - 1))
		fault->req_level--;

	fault->goal_level = fault->req_level;
	if (fault_fetches(fault) && env->trees->nx_huge_pages &&
	    !(fault->is_private && env->has_mirror))
		fault->goal_level = TPT_LEVEL_4K;
	if (fault->max_level && fault->max_level < fault->goal_level)
		fault->goal_level = fault->max_level;
	fault->pfn.n &= ~(tpt_level_pages(fault->goal_level) - 1);
}

/* The entry that was decided on is installed. Section of @turn. */
ALWAYS_INLINE int install(struct fault_vcpu *vcpu, const struct fault_env *env,
			  struct tpt_fault *fault, const struct memslot *slot,
			  const struct tpt_gmem *gmem, bool device, uint64_t turn)
{
	if (env->backing->mark_dirty && fault->map_writable && !gmem)
		env->backing->mark_dirty(env->backing_ctx, fault->pfn, fault->goal_level);
	if (fault->goal_level == TPT_LEVEL_4K && !(fault->is_private && env->has_mirror))
		return map_small(vcpu, fault, slot, device, turn);
	return fault_map(vcpu, fault, slot, device, turn);
}

/* The same where it may be huge: what is under way is asked again for all of it. */
static __attribute__((noinline)) int install_huge(struct fault_vcpu *vcpu, struct tpt_fault *fault,
						  const struct decision *d,
						  const struct tpt_backing_page *page,
						  uint64_t turn)
{
	decide_level(vcpu, fault, d, page->level);
	if (fault->goal_level > TPT_LEVEL_4K &&
	    slots_must_retry(vcpu->env->slots, &d->snapshot, d->slot,
			     tpt_gfn_round(fault->gfn, fault->goal_level),
			     tpt_level_pages(fault->goal_level), d->gmem))
		return TPT_RET_PF_RETRY;
	return install(vcpu, vcpu->env, fault, d->slot, d->gmem, page->device, turn);
}

/* Second section: if the world is still as it was decided on, the entry is installed. */
ALWAYS_INLINE int commit(struct fault_vcpu *vcpu, const struct fault_env *env,
			 struct tpt_fault *fault, const struct decision *d,
			 const struct tpt_gmem *gmem, const struct tpt_backing_page *page)
{
	uint64_t turn = section_enter(&vcpu->actor);
	int ret = TPT_RET_PF_RETRY;

	if (__builtin_expect(!turn, 0))
		return ret;
	if (__builtin_expect(!roots_are_stale(vcpu, env->base) &&
				     !slots_must_retry(env->slots, &d->snapshot, d->slot,
						       fault->gfn, 1, gmem),
			     1)) {
		fault->pfn = page->pfn;
		fault->req_level = fault->goal_level = TPT_LEVEL_4K;
		ret = page->level == TPT_LEVEL_4K
			      ? install(vcpu, env, fault, d->slot, gmem, page->device, turn)
			      : install_huge(vcpu, fault, d, page, turn);
	}
	section_leave(&vcpu->actor);
	if (__builtin_expect(vcpu->detached.table != NULL, 0))
		tree_settle(&vcpu->actor, &vcpu->detached);
	return ret;
}

/* The gap and what follows, if a gmem is asked. */
static __attribute__((noinline)) int ask_gmem(struct fault_vcpu *vcpu, struct tpt_fault *fault,
					      const struct decision *d)
{
	uint64_t index = slot_gmem_index(d->slot, fault->gfn);
	struct tpt_backing_page page = {.writable = true, .level = TPT_LEVEL_4K};
	int err;

	atomic_store(&vcpu->actor.asking, d->gmem);
	section_leave(&vcpu->actor);
	err = d->gmem->ops->get_page(d->gmem->ctx, index, &page.pfn, &page.level);
	atomic_store(&vcpu->actor.asking, NULL);
	if (err)
		return ask_failed(vcpu, fault, err);
	if (!page_is_good(vcpu->env, fault, &page))
		return refuse_page(vcpu, fault, &page);
	fault->map_writable = true;
	return commit(vcpu, vcpu->env, fault, d, d->gmem, &page);
}

/* The same of the backing. */
ALWAYS_INLINE int ask_backing(struct fault_vcpu *vcpu, const struct fault_env *env,
			      struct tpt_fault *fault, const struct decision *d)
{
	struct tpt_backing_query query = {.as_id = d->slot->as_id,
					  .slot = d->slot->id,
					  .gfn = fault->gfn,
					  .hva = slot_hva(d->slot, fault->gfn),
					  .write = fault_writes(fault),
					  .nowait = !fault->prefetch};
	struct tpt_backing_page page = {0};
	bool readonly = d->slot->flags & TPT_MEM_READONLY;
	int err;

	section_leave(&vcpu->actor);
	err = env->backing->lookup(env->backing_ctx, &query, &page);
	if (__builtin_expect(err, 0))
		return ask_failed(vcpu, fault, err);
	if (__builtin_expect(!page_is_good(env, fault, &page), 0))
		return refuse_page(vcpu, fault, &page);
	/* What the guest may not write through this slot is not writable, whatever the host says.
	 */
	fault->map_writable = page.writable && !readonly;
	return commit(vcpu, env, fault, d, NULL, &page);
}

/* No memslot: the access is the VMM's, and the entry that says so is cached if it may be. */
static int commit_mmio(struct fault_vcpu *vcpu, struct tpt_fault *fault)
{
	if (!vcpu->env->trees->format.mmio_mask || fault->prefetch)
		return TPT_RET_PF_EMULATE;
	fault->req_level = fault->goal_level = TPT_LEVEL_4K;
	return map_slowly(vcpu, fault, NULL, false);
}

/*
 * Nothing in the trees answers it: the first section, still entered, decides; the backing is asked
 * in none; the second one commits.
 */
ALWAYS_INLINE int resolve(struct fault_vcpu *vcpu, const struct fault_env *env,
			  struct tpt_fault *fault)
{
	struct decision d;
	int ret = decide_slot(vcpu, env, fault, &d);

	if (__builtin_expect(ret == TPT_RET_PF_CONTINUE, 1)) {
		if (__builtin_expect(d.gmem != NULL, 0))
			return ask_gmem(vcpu, fault, &d);
		return ask_backing(vcpu, env, fault, &d);
	}
	if (ret == TPT_RET_PF_INVALID)
		ret = commit_mmio(vcpu, fault);
	section_leave(&vcpu->actor);
	return ret;
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

/* A leaf that is there: it answers the access, or can be made to. */
static int look_at_leaf(struct fault_vcpu *vcpu, const struct fault_env *env,
			struct tpt_fault *fault, struct tree_spot at, uint64_t turn)
{
	/* Before a mismatch is told to the VMM nothing is given. */
	if (fault->prefetch ||
	    (env->private_memory && fault->is_private != attr_is_private(env->slots, fault->gfn)))
		return TPT_RET_PF_INVALID;
	if (!pte_allows(&env->trees->format, at.old, fault_access(fault)))
		return fault_fast(vcpu, fault, turn);
	return spurious(vcpu, env, fault, at);
}

/* Is the access answered by what stands in the trees already? INVALID: no. Section of @turn. */
static int look(struct fault_vcpu *vcpu, const struct fault_env *env, struct tpt_fault *fault,
		uint64_t turn)
{
	const struct trees *trees = env->trees;
	struct tree_spot at;

	/* A vCPU whose roots are gone loads them again, if there is still a guest. */
	if (__builtin_expect(roots_are_stale(vcpu, env->base), 0))
		return env->ended || vm_is_dead(env->base) ? -ERR_IO : TPT_RET_PF_RETRY;
	if (__builtin_expect(fault_met_reserved(fault), 0))
		return fault_cached_mmio(vcpu, fault);
	if (fault->is_private && env->has_mirror)
		at = tree_walk_hinted(trees, TREE_MIRROR, fault->gfn, &vcpu->mirror_hint, turn);
	else
		at = tree_walk_hinted(trees, tree_direct(fault->as_id), fault->gfn,
				      &vcpu->direct_hint, turn);
	return spot_has_leaf(at) ? look_at_leaf(vcpu, env, fault, at, turn) : TPT_RET_PF_INVALID;
}

/* One try, from the first section to the last. */
static int try(struct fault_vcpu *vcpu, const struct fault_env *env, struct tpt_fault *fault)
{
	uint64_t turn = section_enter(&vcpu->actor);
	int ret;

	if (__builtin_expect(!turn, 0))
		return TPT_RET_PF_RETRY;
	ret = look(vcpu, env, fault, turn);
	if (ret == TPT_RET_PF_INVALID)
		return resolve(vcpu, env, fault);
	section_leave(&vcpu->actor);
	return ret;
}

/* What the embedder hears of a fault that no entry answers, or that the guest did not have. */
static __attribute__((noinline)) int tell_outcome(struct fault_vcpu *vcpu,
						  const struct tpt_fault *fault, int ret)
{
	if (ret < 0 && vm_is_dead(vcpu->env->base)) {
		vcpu->exit = (struct tpt_exit){.reason = TPT_EXIT_INTERNAL};
		ret = -ERR_IO;
	}
	if (ret == TPT_RET_PF_EMULATE)
		ret = fault_emulate(vcpu, fault);
	/* Nobody acts on what the guest did not do. */
	if (fault->prefetch)
		vcpu->exit = (struct tpt_exit){0};
	return ret;
}

int fault_handle(struct fault_vcpu *vcpu, struct tpt_fault *fault)
{
	const struct fault_env *env = vcpu->env;
	int ret;

	vcpu->exit.reason = TPT_EXIT_NONE;
	ret = understand(vcpu, env, fault);
	if (ret)
		return ret;
	/* It may log one page. */
	if (__builtin_expect(vcpu->ring && ring_is_full(vcpu->ring), 0)) {
		vcpu->exit.reason = TPT_EXIT_DIRTY_RING_FULL;
		return -ERR_NOSPC;
	}
	/* Memory first, so that nothing can fail halfway for the want of it. */
	ret = tables_topup(env->trees, &vcpu->actor, fault->is_private && env->has_mirror);
	if (ret)
		return ret;
	ret = try(vcpu, env, fault);
	return ret < TPT_RET_PF_FIXED ? tell_outcome(vcpu, fault, ret) : ret;
}

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
	ret = resolve(vcpu, vcpu->env, fault);

	return ended(vcpu, fault, ret < TPT_RET_PF_FIXED ? tell_outcome(vcpu, fault, ret) : ret);
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
	return ended(vcpu, fault, ret < 0 ? tell_outcome(vcpu, fault, ret) : ret);
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
