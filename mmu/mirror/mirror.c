// SPDX-License-Identifier: BSD-2-Clause
/* The calls to the owner of an external table. Stores no entry and walks nothing. */
#include "mmu/mirror/mirror.h"

/* Tries of a busy call with all vCPUs held: each try can lose only to another host thread. */
#define BUSY_TRIES 16

int mirror_answered(struct mirror *m, struct actor *actor, enum tpt_external_call call,
		    struct mirror_entry e, int result)
{
	if (result == -ERR_BUSY)
		count_add(actor, COUNT_CALL_BUSY + call, 1);
	vm_event(m->base, &(struct tpt_event){.kind = TPT_EVENT_EXTERNAL,
					      .vcpu = actor->vcpu,
					      .gfn = e.gfn,
					      .level = e.level,
					      .call = call,
					      .result = result});
	if (result > 0 || result < -ERR_MAX) {
		vm_die(m->base,
		       "external %s of gfn %#lx level %d answered %d: neither 0 nor an errno",
		       tpt_external_call_name(call), e.gfn, e.level, result);
		return -ERR_IO;
	}
	return result;
}

int mirror_link(struct mirror *m, struct actor *actor, struct mirror_entry e, tpt_hpa table)
{
	return mirror_answer(m, actor, TPT_CALL_LINK, e,
			     m->ops->link(m->ctx, e.gfn, e.level, table));
}

static inline __attribute__((always_inline)) int ask(struct mirror *m, struct actor *actor,
						     enum tpt_external_call call,
						     struct mirror_entry e, uint64_t what)
{
	switch (call) {
	case TPT_CALL_BLOCK:
		return mirror_answer(m, actor, call, e, m->ops->block(m->ctx, e.gfn, e.level));
	case TPT_CALL_UNBLOCK:
		return mirror_answer(m, actor, call, e, m->ops->unblock(m->ctx, e.gfn, e.level));
	case TPT_CALL_TRACK:
		return mirror_answer(m, actor, call, e, m->ops->track(m->ctx));
	case TPT_CALL_SPLIT:
		return mirror_answer(m, actor, call, e,
				     m->ops->split(m->ctx, e.gfn, e.level, (tpt_hpa){what}));
	case TPT_CALL_MERGE:
		return mirror_answer(m, actor, call, e,
				     m->ops->merge(m->ctx, e.gfn, e.level, (tpt_hpa){what}));
	case TPT_CALL_RELEASE:
		return mirror_answer(m, actor, call, e, m->ops->release(m->ctx));
	case TPT_CALL_RECLAIM_LEAF:
		return mirror_answer(m, actor, call, e,
				     m->ops->reclaim_leaf(m->ctx, e.gfn, e.level, (tpt_pfn){what}));
	case TPT_CALL_FREE_TABLE:
		return mirror_answer(m, actor, call, e,
				     m->ops->free_table(m->ctx, e.gfn, e.level, (tpt_hpa){what}));
	default:
		return mirror_answer(m, actor, TPT_CALL_REMOVE, e,
				     m->ops->remove(m->ctx, e.gfn, e.level, (tpt_pfn){what}));
	}
}

/* With every vCPU out of the guest. */
int mirror_ask_again(struct mirror *m, struct actor *actor, enum tpt_external_call call,
		     struct mirror_entry e, uint64_t what)
{
	const struct tpt_platform *platform = m->base->platform;
	int result = -ERR_BUSY;

	count_add(actor, COUNT_HOLD, 1);
	platform->hold(m->base->platform_ctx, m->base->vm, true);
	for (int i = 0; i < BUSY_TRIES && result == -ERR_BUSY; i++) {
		platform->relax(m->base->platform_ctx);
		result = ask(m, actor, call, e, what);
	}
	platform->hold(m->base->platform_ctx, m->base->vm, false);
	return result;
}

static inline int ask_until(struct mirror *m, struct actor *actor, enum tpt_external_call call,
			    struct mirror_entry e, uint64_t what)
{
	int result = ask(m, actor, call, e, what);

	return result == -ERR_BUSY ? mirror_ask_again(m, actor, call, e, what) : result;
}

int mirror_unblock(struct mirror *m, struct actor *actor, struct mirror_entry e)
{
	return ask_until(m, actor, TPT_CALL_UNBLOCK, e, 0);
}

int mirror_split(struct mirror *m, struct actor *actor, struct mirror_entry e, tpt_hpa table)
{
	return ask_until(m, actor, TPT_CALL_SPLIT, e, table.a);
}

int mirror_merge(struct mirror *m, struct actor *actor, struct mirror_entry e, tpt_hpa table)
{
	return ask_until(m, actor, TPT_CALL_MERGE, e, table.a);
}

int mirror_track(struct mirror *m, struct actor *actor)
{
	int result = ask_until(m, actor, TPT_CALL_TRACK, (struct mirror_entry){0}, 0);

	if (result == -ERR_BUSY)
		return result;
	if (result) {
		vm_die(m->base, "external track failed with %d: blocked pages can go neither way",
		       result);
		return -ERR_IO;
	}
	m->untracked = false;
	vm_kick(actor, TPT_KICK_TRACK);
	return 0;
}

int mirror_release(struct mirror *m, struct actor *actor)
{
	int result = ask_until(m, actor, TPT_CALL_RELEASE, (struct mirror_entry){0}, 0);

	m->released = !result;
	return result;
}

int mirror_reclaim_leaf(struct mirror *m, struct actor *actor, struct mirror_entry e, tpt_pfn pfn)
{
	return ask_until(m, actor, TPT_CALL_RECLAIM_LEAF, e, pfn.n);
}

int mirror_free_table(struct mirror *m, struct actor *actor, struct mirror_entry e, tpt_hpa table)
{
	return ask_until(m, actor, TPT_CALL_FREE_TABLE, e, table.a);
}
