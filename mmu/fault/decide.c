// SPDX-License-Identifier: BSD-2-Clause
/* Decides a fault: what it is, what stands behind it, how large it may be. Changes no entry. */
#include "mmu/fault/map.h"
#include "mmu/fault/take.h"

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
int fault_resolve(struct fault_vcpu *vcpu, struct tpt_fault *fault)
{
	const struct fault_env *env = vcpu->env;
	struct decision d;
	int ret;

	d.gmem = NULL;
	ret = decide_slot(vcpu, env, fault, &d);

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

/* It is said how large a leaf may be: is a private one there that is larger, BLOCKED or not? */
static __attribute__((noinline)) bool
is_too_large(const struct fault_env *env, const struct tpt_fault *fault, struct tree_spot at)
{
	return at.level > (unsigned int)fault->max_level && !fault->prefetch && fault->is_private &&
	       env->has_mirror &&
	       (pte_is_present(at.old) ||
		pte_kind(&env->trees->format, at.old, at.level) == PTE_BLOCKED);
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
	if (__builtin_expect(fault->max_level, 0) && is_too_large(env, fault, at))
		return TPT_RET_PF_CONTINUE;
	return spurious(vcpu, env, fault, at);
}

/* Is the access answered by what stands in the trees already? INVALID: no; CONTINUE: not before a
 * leaf is split. Section of @turn. */
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
	if (spot_has_leaf(at))
		return look_at_leaf(vcpu, env, fault, at, turn);
	if (__builtin_expect(fault->max_level, 0) && is_too_large(env, fault, at))
		return TPT_RET_PF_CONTINUE;
	return TPT_RET_PF_INVALID;
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
		return fault_resolve(vcpu, fault);
	section_leave(&vcpu->actor);
	return ret;
}

/* What the embedder hears of a fault that no entry answers, or that the guest did not have. */
int fault_outcome(struct fault_vcpu *vcpu, const struct tpt_fault *fault, int ret)
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
	if (ret >= TPT_RET_PF_FIXED)
		return ret;
	if (ret == TPT_RET_PF_CONTINUE)
		ret = fault_split_private(vcpu, fault);
	return ret < TPT_RET_PF_FIXED ? fault_outcome(vcpu, fault, ret) : ret;
}
