// SPDX-License-Identifier: BSD-2-Clause
/*
 * A leaf table's worth of ordinary memory at once: one look at the memslot, one question to the
 * backing, one walk, one pass over the entries. Whatever is not as plain as that (private or huge
 * pages, an error, something under way) goes through the fault's own door, one mapping at a time.
 */
#include "mmu/fault/fault.h"

/* One pass. */
struct batch {
	tpt_gfn gfn;
	unsigned int
		nr; /* pages from gfn on, all in one leaf table and one memslot; 0: not plain */
	bool write;
	bool large; /* slot and attributes would let a larger leaf be */
	const struct memslot *slot;
	struct slots_snapshot snapshot;
	struct tpt_backing_query query;
};

static tpt_gfn lower(tpt_gfn a, tpt_gfn b)
{
	return a < b ? a : b;
}

/* First section: how many pages from b->gfn on are plain? */
static void decide(struct fault_vcpu *vcpu, struct batch *b, tpt_gfn end)
{
	const struct fault_env *env = vcpu->env;
	const struct slots *slots = env->slots;
	struct tpt_gfn_range private_;

	b->snapshot = slots_snapshot(slots, fault_as_id(vcpu));
	b->slot = slot_find(slots, fault_as_id(vcpu), b->gfn);
	if (!env->prefault_allowed || env->ended || roots_are_stale(vcpu) || !b->slot ||
	    b->slot->invalid || slot_source(b->slot, false) ||
	    (b->write && b->slot->flags & TPT_MEM_READONLY))
		return;
	end = lower(end, tpt_gfn_round(b->gfn, TPT_LEVEL_2M) + TABLE_ENTRIES);
	end = lower(end, b->slot->base_gfn + b->slot->npages);
	if (env->private_memory && attr_next_change(slots, b->gfn, end, false, &private_))
		end = private_.start;
	if (end == b->gfn || slots_invalidating(slots, b->slot, b->gfn, end - b->gfn, false))
		return;
	b->nr = (unsigned int)(end - b->gfn);
	b->large =
		slot_max_level(slots, b->slot, b->gfn, false, env->max_leaf_level) > TPT_LEVEL_4K;
	b->query = (struct tpt_backing_query){.as_id = b->slot->as_id,
					      .slot = b->slot->id,
					      .gfn = b->gfn,
					      .hva = slot_hva(b->slot, b->gfn),
					      .write = b->write};
}

/* Pages that the backing answers for, asked one by one. */
static int ask_each(const struct fault_env *env, const struct batch *b,
		    struct tpt_backing_page *page)
{
	struct tpt_backing_query q = b->query;
	int err;

	for (unsigned int i = 0; i < b->nr; i++, q.gfn++, q.hva.a += TPT_PAGE_SIZE) {
		page[i] = (struct tpt_backing_page){0};
		err = env->backing->lookup(env->backing_ctx, &q, &page[i]);
		if (err)
			return i ? (int)i : err;
		/* One larger leaf will do: no use in asking on. */
		if (!i && b->large && page[0].level > TPT_LEVEL_4K)
			return 1;
	}
	return (int)b->nr;
}

static bool is_frame(const struct fault_env *env, const struct batch *b,
		     const struct tpt_backing_page *page)
{
	return page->level >= TPT_LEVEL_4K && page->level <= TPT_LEVEL_MAX_LEAF &&
	       !(page->pfn.n >> (env->maxphyaddr - TPT_PAGE_SHIFT)) &&
	       (page->writable || !b->write);
}

/* The gap: b->nr comes down to the pages that have a frame. */
static void ask(const struct fault_env *env, struct batch *b, struct tpt_backing_page *page)
{
	int got = env->backing->lookup_range
			  ? env->backing->lookup_range(env->backing_ctx, &b->query, b->nr, page)
			  : ask_each(env, b, page);
	unsigned int nr = 0;

	while (nr < b->nr && (int)nr < got && is_frame(env, b, &page[nr]))
		nr++;
	b->nr = nr;
}

/* Would the fault's own door map the first page larger than 4K? */
static bool is_huge(const struct fault_env *env, const struct batch *b,
		    const struct tpt_backing_page *page)
{
	enum tpt_level cap = page->level < env->max_leaf_level ? page->level : env->max_leaf_level;

	return slot_max_level(env->slots, b->slot, b->gfn, false, cap) > TPT_LEVEL_4K &&
	       !((b->gfn ^ page->pfn.n) & (tpt_level_pages(TPT_LEVEL_2M) - 1));
}

static void make_leaves(const struct fault_env *env, const struct batch *b, struct premap *work)
{
	const struct pte_format *f = &env->trees->format;
	bool readonly = b->slot->flags & TPT_MEM_READONLY;

	for (unsigned int i = 0; i < b->nr; i++) {
		const struct tpt_backing_page *page = &work->page[i];
		bool writable = page->writable && !readonly;
		bool tracked = slot_is_tracked(b->slot, b->gfn + i);

		if (env->backing->mark_dirty && writable)
			env->backing->mark_dirty(env->backing_ctx, page->pfn, TPT_LEVEL_4K);
		work->leaf[i] = pte_make_leaf(
			f, &(struct pte_leaf){.pfn = page->pfn,
					      .level = TPT_LEVEL_4K,
					      .host_writable = writable,
					      .write = writable && !tracked,
					      .memtype = fault_memtype(env, page->device)});
	}
}

/* Walks once and passes over the table once. Returns pages done; 0: not this way. */
static int install(struct fault_vcpu *vcpu, const struct batch *b, struct premap *work)
{
	const struct pte_format *f = &vcpu->env->trees->format;
	struct tpt_fault walk = {.prefetch = true,
				 .write = b->write,
				 .gfn = b->gfn,
				 .as_id = b->slot->as_id,
				 .goal_level = TPT_LEVEL_4K};
	uint64_t hit[TREE_SWEEP_WORDS];
	struct tree_iter it;
	int done, ret = fault_walk(vcpu, &walk, &it);

	/* A huge leaf is over all of it. */
	if (ret == TPT_RET_PF_SPURIOUS)
		return (int)b->nr;
	if (ret != TPT_RET_PF_CONTINUE)
		return ret < 0 ? ret : 0;
	done = tree_fill(&vcpu->actor, &it, b->nr, work->leaf, hit);
	if (done == -ERR_BUSY)
		return 0;
	/* After the entries, as the fault does. */
	for (int i = 0; i < done; i++)
		if (hit[i / 64] >> (i % 64) & 1 && work->leaf[i].w & f->write)
			fault_mark_dirty(vcpu, b->slot, b->gfn + (tpt_gfn)i);
	return done;
}

/* Second section: installs what is still as it was decided on. */
static int commit(struct fault_vcpu *vcpu, const struct batch *b, struct premap *work)
{
	const struct fault_env *env = vcpu->env;
	int done = 0;

	fault_section_enter(vcpu);
	if (!roots_are_stale(vcpu) &&
	    !slots_must_retry(env->slots, &b->snapshot, b->slot, b->gfn, b->nr, false) &&
	    !is_huge(env, b, &work->page[0])) {
		make_leaves(env, b, work);
		done = install(vcpu, b, work);
	}
	section_leave(&vcpu->actor);
	return done;
}

int fault_premap(struct fault_vcpu *vcpu, struct premap *work, tpt_gfn gfn, tpt_gfn end,
		 unsigned int access, tpt_gfn *next)
{
	struct batch b = {.gfn = gfn, .write = access & TPT_ACC_WRITE};
	int ret = tables_topup(vcpu->env->trees, &vcpu->actor, false);

	if (ret)
		return ret;
	fault_section_enter(vcpu);
	decide(vcpu, &b, end);
	section_leave(&vcpu->actor);
	if (b.nr)
		ask(vcpu->env, &b, work->page);
	if (b.nr)
		ret = commit(vcpu, &b, work);
	if (ret < 0)
		return ret;
	*next = gfn + (unsigned int)ret;
	return ret ? 0
		   : fault_prefault(vcpu, tpt_gpa_make(gfn << TPT_PAGE_SHIFT),
				    TPT_PFERR_GUEST_FINAL | (b.write ? TPT_PFERR_WRITE : 0), next);
}
