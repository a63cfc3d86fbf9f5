// SPDX-License-Identifier: BSD-2-Clause
/* Decides a fault: what it is, what stands behind it, how large it may be. Changes no entry. */
#include "mmu/fault/fault.h"

#define PFERR_KNOWN                                                                                \
	(TPT_PFERR_PRESENT | TPT_PFERR_WRITE | TPT_PFERR_USER | TPT_PFERR_RSVD | TPT_PFERR_FETCH | \
	 TPT_PFERR_GUEST_FINAL | TPT_PFERR_GUEST_PAGE | TPT_PFERR_PRIVATE)

/*
 * What the fault knew when it asked what stands behind the page. @slot may be gone after the gap;
 * whatever the gap needs of it is copied.
 */
struct decision {
	const struct memslot *slot;
	struct slots_snapshot snapshot;
	struct tpt_backing_query query;
	bool readonly;
	const struct tpt_gmem *gmem; /* or NULL: the backing; kept alive by actor.asking */
	uint64_t gmem_index;
	bool device;
};

static int exit_memory_fault(struct fault_vcpu *vcpu, const struct tpt_fault *fault)
{
	vcpu->exit = (struct tpt_exit){
		.reason = TPT_EXIT_MEMORY_FAULT,
		.gpa = {fault->gfn << TPT_PAGE_SHIFT},
		.size = TPT_PAGE_SIZE,
		.flags = fault->is_private ? TPT_MEMORY_FAULT_PRIVATE : 0,
	};
	return -ERR_FAULT;
}

/* Fills the "how it was understood" part. -ERR_INVAL: a bit or an address that cannot be. */
static int understand(const struct fault_vcpu *vcpu, struct tpt_fault *fault)
{
	const struct fault_env *env = vcpu->env;
	uint64_t code = fault->error_code;

	*fault = (struct tpt_fault){.gpa = fault->gpa,
				    .error_code = code,
				    .prefetch = fault->prefetch,
				    .max_level = fault->max_level};
	fault->write = code & TPT_PFERR_WRITE;
	fault->exec = code & TPT_PFERR_FETCH;
	fault->user = code & TPT_PFERR_USER;
	fault->present = code & TPT_PFERR_PRESENT;
	fault->rsvd = code & TPT_PFERR_RSVD;
	fault->as_id = fault_as_id(vcpu);
	fault->slot = -1;
	fault->gfn = fault->gpa.a >> TPT_PAGE_SHIFT & ~env->shared_gfn;
	fault->is_private = env->has_mirror ? !(fault->gpa.a >> TPT_PAGE_SHIFT & env->shared_gfn)
					    : code & TPT_PFERR_PRIVATE;

	if (code & ~PFERR_KNOWN) {
		vm_log(env->base, TPT_LOG_WARNING, "fault: error code %#lx has reserved bits %#lx",
		       code, (uint64_t)(code & ~PFERR_KNOWN));
		return -ERR_INVAL;
	}
	if (fault->gpa.a >> env->gpa_bits) {
		vm_log(env->base, TPT_LOG_WARNING, "fault: gpa %#lx is wider than the VM's %u bits",
		       fault->gpa.a, env->gpa_bits);
		return -ERR_INVAL;
	}
	if ((code & TPT_PFERR_PRIVATE) && (!env->private_memory || !fault->is_private)) {
		vm_log(env->base, TPT_LOG_WARNING, "fault: private access to gpa %#lx, which %s",
		       fault->gpa.a,
		       env->private_memory ? "has the shared bit"
					   : "a VM without private memory can't have");
		return -ERR_INVAL;
	}
	return 0;
}

/*
 * First section: which slot, and is there any use in asking what stands behind it? CONTINUE: ask.
 * INVALID: no slot, map MMIO.
 */
static int decide_slot(struct fault_vcpu *vcpu, struct tpt_fault *fault, struct decision *d)
{
	const struct slots *slots = vcpu->env->slots;

	d->snapshot = slots_snapshot(slots, fault->as_id);
	if (vcpu->env->private_memory && fault->is_private != attr_is_private(slots, fault->gfn)) {
		/* A slot that goes away takes its memory with it; before that the mismatch stands.
		 */
		return exit_memory_fault(vcpu, fault);
	}
	d->slot = slot_find(slots, fault->as_id, fault->gfn);
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
	if (fault->write && (d->slot->flags & TPT_MEM_READONLY))
		return TPT_RET_PF_EMULATE;
	if (fault->write && fault->present && slot_is_tracked(d->slot, fault->gfn))
		return TPT_RET_PF_WRITE_PROTECTED;

	d->query = (struct tpt_backing_query){.as_id = d->slot->as_id,
					      .slot = d->slot->id,
					      .gfn = fault->gfn,
					      .hva = slot_hva(d->slot, fault->gfn),
					      .write = fault->write,
					      .nowait = !fault->prefetch};
	d->readonly = d->slot->flags & TPT_MEM_READONLY;
	if (d->gmem) {
		d->gmem_index = slot_gmem_index(d->slot, fault->gfn);
		atomic_store(&vcpu->actor.asking, d->gmem);
	}
	return TPT_RET_PF_CONTINUE;
}

static int ask_gmem(struct fault_vcpu *vcpu, const struct decision *d, struct tpt_fault *fault,
		    enum tpt_level *level)
{
	int err = d->gmem->ops->get_page(d->gmem->ctx, d->gmem_index, &fault->pfn, level);

	atomic_store(&vcpu->actor.asking, NULL);
	fault->map_writable = true;
	return err;
}

static int ask_shared(const struct fault_env *env, struct decision *d, struct tpt_fault *fault,
		      enum tpt_level *level)
{
	struct tpt_backing_page page = {0};
	int err = env->backing->lookup(env->backing_ctx, &d->query, &page);

	if (err)
		return err;
	if (d->query.write && !page.writable) {
		vm_log(env->base, TPT_LOG_ERROR,
		       "backing of gfn %#lx: asked for a writable page, answered a read-only one",
		       fault->gfn);
		return -ERR_FAULT;
	}
	fault->pfn = page.pfn;
	/* What the guest may not write through this slot is not writable, whatever the host says.
	 */
	fault->map_writable = page.writable && !d->readonly;
	d->device = page.device;
	*level = page.level;
	return 0;
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

/* The gap: the backing is asked, in no section. CONTINUE, or how the fault ends. */
static int ask_backing(struct fault_vcpu *vcpu, struct tpt_fault *fault, struct decision *d,
		       enum tpt_level *level)
{
	int err =
		d->gmem ? ask_gmem(vcpu, d, fault, level) : ask_shared(vcpu->env, d, fault, level);

	switch (err) {
	case 0:
		if (*level >= TPT_LEVEL_4K && *level <= TPT_LEVEL_MAX_LEAF &&
		    !(fault->pfn.n >> (vcpu->env->maxphyaddr - TPT_PAGE_SHIFT)))
			return TPT_RET_PF_CONTINUE;
		vm_log(vcpu->env->base, TPT_LOG_ERROR,
		       "backing of gfn %#lx answered pfn %#lx level %d: no such frame", fault->gfn,
		       fault->pfn.n, *level);
		return exit_memory_fault(vcpu, fault);
	case -ERR_AGAIN:
		return TPT_RET_PF_RETRY;
	case -ERR_PERM:
		return fault->write ? TPT_RET_PF_EMULATE : exit_memory_fault(vcpu, fault);
	case -ERR_INTR:
	case -ERR_NOMEM:
		return err;
	case -ERR_HWPOISON:
		exit_memory_fault(vcpu, fault);
		return err;
	case -ERR_INPROGRESS:
		if (d->query.nowait && !fault->is_private)
			return exit_async(vcpu, fault);
		return exit_memory_fault(vcpu, fault);
	default:
		return exit_memory_fault(vcpu, fault);
	}
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
	if (fault->exec && env->trees->nx_huge_pages && !(fault->is_private && env->has_mirror))
		fault->goal_level = TPT_LEVEL_4K;
	if (fault->max_level && fault->max_level < fault->goal_level)
		fault->goal_level = fault->max_level;
	fault->pfn.n &= ~(tpt_level_pages(fault->goal_level) - 1);
}

/* Second section: if the world is still as it was decided on, the entry is installed. */
static int commit(struct fault_vcpu *vcpu, struct tpt_fault *fault, const struct decision *d,
		  enum tpt_level host_level)
{
	const struct fault_env *env = vcpu->env;
	int ret = TPT_RET_PF_RETRY;

	if (!section_enter(&vcpu->actor))
		return ret;
	if (!roots_are_stale(vcpu) &&
	    !slots_must_retry(env->slots, &d->snapshot, d->slot, fault->gfn, 1, d->gmem)) {
		decide_level(vcpu, fault, d, host_level);
		if (!slots_must_retry(env->slots, &d->snapshot, d->slot,
				      tpt_gfn_round(fault->gfn, fault->goal_level),
				      tpt_level_pages(fault->goal_level), d->gmem)) {
			if (env->backing->mark_dirty && fault->map_writable && !d->gmem)
				env->backing->mark_dirty(env->backing_ctx, fault->pfn,
							 fault->goal_level);
			ret = fault_map(vcpu, fault, d->slot, d->device);
		}
	}
	section_leave(&vcpu->actor);
	tree_settle(&vcpu->actor, &vcpu->detached);
	return ret;
}

/* No memslot: the access is the VMM's, and the entry that says so is cached if it may be. */
static int commit_mmio(struct fault_vcpu *vcpu, struct tpt_fault *fault)
{
	int ret;

	if (!vcpu->env->trees->format.mmio_mask || fault->prefetch)
		return TPT_RET_PF_EMULATE;
	fault->req_level = fault->goal_level = TPT_LEVEL_4K;
	ret = fault_map(vcpu, fault, NULL, false);
	return ret;
}

/* The fast path, with what KVM tells and counts of it. */
static int try_fast(struct fault_vcpu *vcpu, struct tpt_fault *fault)
{
	int ret = fault_fast(vcpu, fault);

	if (ret == TPT_RET_PF_FIXED || ret == TPT_RET_PF_SPURIOUS)
		count_add(&vcpu->actor, COUNT_PF_FAST, 1);
	return ret;
}

/* One try, from the first section to the last. */
static int handle(struct fault_vcpu *vcpu, struct tpt_fault *fault)
{
	struct decision d = {0};
	enum tpt_level host_level = TPT_LEVEL_4K;
	int ret;

	if (!section_enter(&vcpu->actor))
		return TPT_RET_PF_RETRY;
	ret = roots_are_stale(vcpu) ? TPT_RET_PF_RETRY : TPT_RET_PF_INVALID;
	if (vcpu->env->ended)
		ret = -ERR_IO;
	if (ret == TPT_RET_PF_INVALID && fault->rsvd)
		ret = fault_cached_mmio(vcpu, fault);
	else if (ret == TPT_RET_PF_INVALID)
		ret = try_fast(vcpu, fault);
	if (ret == TPT_RET_PF_INVALID) {
		ret = decide_slot(vcpu, fault, &d);
		if (ret == TPT_RET_PF_INVALID)
			ret = commit_mmio(vcpu, fault);
	}
	section_leave(&vcpu->actor);

	if (ret == TPT_RET_PF_CONTINUE)
		ret = ask_backing(vcpu, fault, &d, &host_level);
	if (ret == TPT_RET_PF_CONTINUE)
		ret = commit(vcpu, fault, &d, host_level);
	return ret;
}

int fault_handle(struct fault_vcpu *vcpu, struct tpt_fault *fault)
{
	struct vm_base *base = vcpu->env->base;
	int ret;

	vcpu->exit = (struct tpt_exit){0};
	if (vm_is_dead(base)) {
		vcpu->exit.reason = TPT_EXIT_INTERNAL;
		return -ERR_IO;
	}
	ret = understand(vcpu, fault);
	if (ret)
		return ret;
	/* It may log one page. */
	if (vcpu->ring && ring_is_full(vcpu->ring)) {
		vcpu->exit.reason = TPT_EXIT_DIRTY_RING_FULL;
		return -ERR_NOSPC;
	}
	/* Memory first, so that nothing can fail halfway for the want of it. */
	ret = tables_topup(vcpu->env->trees, &vcpu->actor,
			   fault->is_private && vcpu->env->has_mirror);
	if (ret)
		return ret;

	ret = handle(vcpu, fault);
	if (vm_is_dead(base)) {
		vcpu->exit = (struct tpt_exit){.reason = TPT_EXIT_INTERNAL};
		return -ERR_IO;
	}
	if (ret == TPT_RET_PF_EMULATE)
		ret = fault_emulate(vcpu, fault);
	/* Nobody acts on what the guest did not do. */
	if (fault->prefetch)
		vcpu->exit = (struct tpt_exit){0};
	return ret;
}
