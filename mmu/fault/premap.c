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
	unsigned int nr; /* pages from @gfn on, in one leaf table and one memslot; 0: not plain */
	unsigned int nr_runs; /* that the backing made of them */
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

/*
 * First page of [gfn, end), all in one leaf table, that is write-tracked: its leaf is another, and
 * goes the ordinary way. @end if there is none.
 */
static tpt_gfn first_tracked(const struct memslot *slot, tpt_gfn gfn, tpt_gfn end)
{
	if (!slot_tracks_any(slot, gfn, TPT_LEVEL_2M))
		return end;
	while (gfn < end && !slot_is_tracked(slot, gfn))
		gfn++;
	return gfn;
}

/* First section: how many pages from b->gfn on are plain? */
static void decide(struct fault_vcpu *vcpu, struct batch *b, tpt_gfn end)
{
	const struct fault_env *env = vcpu->env;
	const struct slots *slots = env->slots;
	struct tpt_gfn_range private_;

	b->snapshot = slots_snapshot(slots, fault_as_id(vcpu));
	b->slot = slot_find(slots, fault_as_id(vcpu), b->gfn);
	if (!env->prefault_allowed || env->ended || roots_are_stale(vcpu, env->base) || !b->slot ||
	    b->slot->invalid || slot_source(b->slot, false) ||
	    (b->write && b->slot->flags & TPT_MEM_READONLY))
		return;
	end = lower(end, tpt_gfn_round(b->gfn, TPT_LEVEL_2M) + TABLE_ENTRIES);
	end = lower(end, b->slot->base_gfn + b->slot->npages);
	if (env->private_memory && attr_next_change(slots, b->gfn, end, false, &private_))
		end = private_.start;
	end = first_tracked(b->slot, b->gfn, end);
	if (end == b->gfn || slots_invalidating(slots, b->slot, b->gfn, end - b->gfn, false))
		return;
	b->nr = (unsigned int)(end - b->gfn);
	b->large =
		!env->backing->lookup_range &&
		slot_max_level(slots, b->slot, b->gfn, false, env->max_leaf_level) > TPT_LEVEL_4K;
	b->query = (struct tpt_backing_query){.as_id = b->slot->as_id,
					      .slot = b->slot->id,
					      .gfn = b->gfn,
					      .hva = slot_hva(b->slot, b->gfn),
					      .write = b->write};
}

/* Is the page one more of the run? */
static bool continues(const struct tpt_backing_run *run, const struct tpt_backing_page *page)
{
	return page->pfn.n == run->pfn.n + run->nr && page->writable == run->writable &&
	       page->device == run->device && page->level == run->level;
}

/* What lookup_range() answers, asked page by page. */
static int ask_each(const struct fault_env *env, const struct batch *b, struct premap *work)
{
	struct tpt_backing_run *run = work->run;
	struct tpt_backing_query q = b->query;
	int err, nr_runs = 0;

	for (unsigned int i = 0; i < b->nr; i++, q.gfn++, q.hva.a += TPT_PAGE_SIZE) {
		struct tpt_backing_page page = {0};

		err = env->backing->lookup(env->backing_ctx, &q, &page);
		if (err)
			return i ? nr_runs : err;
		if (i && continues(&run[nr_runs - 1], &page))
			run[nr_runs - 1].nr++;
		else if (nr_runs == (int)work->room)
			break;
		else
			run[nr_runs++] = (struct tpt_backing_run){.pfn = page.pfn,
								  .nr = 1,
								  .writable = page.writable,
								  .device = page.device,
								  .level = page.level};
		/* One larger leaf will do: no use in asking on. */
		if (!i && b->large && page.level > TPT_LEVEL_4K)
			break;
	}
	return nr_runs;
}

/* Runs that the backing made, as many as there is room for. 0: the ordinary way will tell why. */
static unsigned int ask_runs(const struct fault_env *env, const struct batch *b,
			     struct premap *work)
{
	int got = env->backing->lookup_range
			  ? env->backing->lookup_range(env->backing_ctx, &b->query, b->nr,
						       work->run, work->room)
			  : ask_each(env, b, work);

	if (got > 0 && (unsigned int)got <= work->room)
		return (unsigned int)got;
	if (got >= 0)
		vm_log(env->base, TPT_LOG_ERROR,
		       "backing of gfn %#lx, %u pages: answered %d runs, not 1 .. %u", b->gfn,
		       b->nr, got, work->room);
	return got > 0 ? work->room : 0;
}

/* Is a run an answer to what was asked, with @left pages to answer for? */
static bool is_answer(const struct fault_env *env, const struct batch *b,
		      const struct tpt_backing_run *run, unsigned int left)
{
	uint64_t last = run->pfn.n + run->nr - 1;

	return run->nr - 1 < left && run->level - 1u < TPT_LEVEL_MAX_LEAF &&
	       !((run->pfn.n | last) & env->pfn_reserved) && (run->writable || !b->write);
}

/* The gap: b->nr comes down to the pages that have a frame. */
static void ask(const struct fault_env *env, struct batch *b, struct premap *work)
{
	const struct tpt_backing_run *run = work->run;
	unsigned int nr_runs = ask_runs(env, b, work), left = b->nr;

	for (; b->nr_runs < nr_runs && is_answer(env, b, run, left); b->nr_runs++, run++)
		left -= run->nr;
	if (b->nr_runs < nr_runs)
		vm_log(env->base, TPT_LOG_ERROR,
		       "backing of gfn %#lx: answered pfn %#lx + %u level %d %s for %u pages%s: no such frames, or not what was asked",
		       b->gfn + b->nr - left, run->pfn.n, run->nr, run->level,
		       run->writable ? "writable" : "read-only", left,
		       b->write ? " to be written" : "");
	work->full = left && nr_runs == work->room;
	b->nr -= left;
}

/* Would the fault's own door map the first page larger than 4K? */
static bool is_huge(const struct fault_env *env, const struct batch *b,
		    const struct tpt_backing_run *run)
{
	enum tpt_level cap = run->level < env->max_leaf_level ? run->level : env->max_leaf_level;

	return slot_max_level(env->slots, b->slot, b->gfn, false, cap) > TPT_LEVEL_4K &&
	       !((b->gfn ^ run->pfn.n) & (tpt_level_pages(TPT_LEVEL_2M) - 1));
}

/* The frames may be written from now on. */
static void mark_frames(const struct fault_env *env, const struct tpt_backing_run *run)
{
	const struct tpt_backing_ops *ops = env->backing;

	if (ops->mark_dirty_range) {
		ops->mark_dirty_range(env->backing_ctx, run->pfn, run->nr);
		return;
	}
	for (uint32_t i = 0; ops->mark_dirty && i < run->nr; i++)
		ops->mark_dirty(env->backing_ctx, (tpt_pfn){run->pfn.n + i}, TPT_LEVEL_4K);
}

/* A leaf over frame 0: all that leaves of one kind have in common. */
static uint64_t leaf_word(const struct fault_env *env, bool writable, bool device)
{
	return pte_make_leaf(&env->trees->format,
			     &(struct pte_leaf){.level = TPT_LEVEL_4K,
						.host_writable = writable,
						.write = writable,
						.memtype = fault_memtype(env, device)})
		.w;
}

static void make_leaves(const struct fault_env *env, const struct batch *b, struct premap *work)
{
	bool readonly = b->slot->flags & TPT_MEM_READONLY, told = env->backing->mark_dirty;
	const struct tpt_backing_run *run = work->run, *end = run + b->nr_runs, *like = NULL;
	struct tree_run *leaf = work->leaf;
	uint64_t word = 0;

	for (; run < end; run++, leaf++) {
		if (!like || run->writable != like->writable || run->device != like->device) {
			like = run;
			word = leaf_word(env, run->writable && !readonly, run->device);
		}
		leaf->leaf.w = word + (run->pfn.n << TPT_PAGE_SHIFT);
		leaf->nr = run->nr;
		if (told && run->writable && !readonly)
			mark_frames(env, run);
	}
}

/*
 * After the entries, as the fault does: those of @hit that let the guest write are in the log.
 * Without those of runs that don't, what is left is marked by words.
 */
static void mark_dirty(struct fault_vcpu *vcpu, const struct batch *b, const struct tree_run *leaf,
		       uint64_t *hit)
{
	uint64_t write = vcpu->env->trees->format.write;
	tpt_gfn first = b->gfn - b->slot->base_gfn;
	unsigned int at = 0;

	if (!slot_logs_dirty(b->slot))
		return;
	for (unsigned int r = 0; r < b->nr_runs; at += leaf[r++].nr)
		for (unsigned int i = 0; !(leaf[r].leaf.w & write) && i < leaf[r].nr; i++)
			hit[(at + i) / 64] &= ~(1ull << ((at + i) % 64));
	for (unsigned int i = 0; i < TREE_SWEEP_WORDS; i++) {
		if (!vcpu->ring && hit[i])
			slot_mark_dirty_word(b->slot, first + 64 * i, hit[i]);
		for (uint64_t left = hit[i]; vcpu->ring && left; left &= left - 1)
			fault_mark_dirty(vcpu, b->slot,
					 b->gfn + 64 * i + (tpt_gfn)__builtin_ctzll(left));
	}
}

/* Walks to where the batch's leaf table is, or would be linked. As fault_walk(). */
static int walk(struct fault_vcpu *vcpu, const struct batch *b, struct tree_iter *it)
{
	struct tpt_fault fault = {.prefetch = true,
				  .error_code = b->write ? TPT_PFERR_WRITE : 0,
				  .gfn = b->gfn,
				  .as_id = b->slot->as_id,
				  .goal_level = TPT_LEVEL_2M};
	int ret = fault_walk(vcpu, &fault, it);

	if (ret != TPT_RET_PF_CONTINUE || it->level == TPT_LEVEL_4K || iter_kind(it) == PTE_EMPTY)
		return ret;
	if (iter_kind(it) == PTE_TABLE) {
		iter_down(it);
		return ret;
	}
	fault.goal_level = TPT_LEVEL_4K;
	return fault_walk(vcpu, &fault, it);
}

/* Walks, and passes over the table once. Returns pages done; 0: not this way. */
static int install(struct fault_vcpu *vcpu, const struct batch *b, struct premap *work)
{
	uint64_t hit[TREE_SWEEP_WORDS];
	struct tree_iter it;
	int done, ret;

	make_leaves(vcpu->env, b, work);
	ret = walk(vcpu, b, &it);
	/* A huge leaf is over all of it. */
	if (ret == TPT_RET_PF_SPURIOUS)
		return (int)b->nr;
	if (ret != TPT_RET_PF_CONTINUE)
		return ret < 0 ? ret : 0;
	if (it.level == TPT_LEVEL_4K) {
		done = tree_fill(&vcpu->actor, &it, work->leaf, b->nr_runs, hit);
	} else {
		done = tree_fill_new(&vcpu->actor, &it, b->gfn % TABLE_ENTRIES, work->leaf,
				     b->nr_runs);
		tree_first_bits(hit, b->nr);
		if (!done)
			done = (int)b->nr;
	}
	if (done < 0 && done != -ERR_BUSY)
		return done;
	/* Even if they had to go again: a processor may have written through them meanwhile. */
	mark_dirty(vcpu, b, work->leaf, hit);
	return done < 0 ? 0 : done;
}

/* Second section: installs what is still as it was decided on. */
static int commit(struct fault_vcpu *vcpu, const struct batch *b, struct premap *work)
{
	const struct fault_env *env = vcpu->env;
	int done = 0;

	fault_section_enter(vcpu);
	if (!roots_are_stale(vcpu, env->base) &&
	    !slots_must_retry(env->slots, &b->snapshot, b->slot, b->gfn, b->nr, false) &&
	    first_tracked(b->slot, b->gfn, b->gfn + b->nr) == b->gfn + b->nr &&
	    !is_huge(env, b, &work->run[0]))
		done = install(vcpu, b, work);
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
		ask(vcpu->env, &b, work);
	if (b.nr)
		ret = commit(vcpu, &b, work);
	if (ret < 0)
		return ret;
	*next = gfn + (unsigned int)ret;
	return ret ? 0
		   : fault_prefault(vcpu, tpt_gpa_make(gfn << TPT_PAGE_SHIFT),
				    TPT_PFERR_GUEST_FINAL | (b.write ? TPT_PFERR_WRITE : 0), next);
}
