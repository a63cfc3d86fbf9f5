// SPDX-License-Identifier: BSD-2-Clause
/*
 * Sizes of private mappings, changed where a range is worked on: leaves that reach out of it are
 * split, tables that lie in it are merged. Removes nothing.
 *
 *	split:   1 BLOCK a leaf, 1 TRACK, 1 kick, 1 SPLIT a leaf, for both ends of a range together
 *	merge:   1 BLOCK a table, 1 TRACK, 1 kick, 1 MERGE a table, for a chunk of tables; one that
 *	         the owner does not merge costs 1 UNBLOCK more
 */
#include "mmu/range/range.h"

/* Tracks, if anything was blocked since it was done last. */
static int track(struct fault_env *env)
{
	struct mirror *m = &env->trees->mirror;

	return m->untracked ? mirror_track(m, &env->base->self) : 0;
}

/* ---- ends of a range ---- */

/* Stands on what is there at @gfn, below all tables. False: nothing that begins before it. */
static bool crosses(struct fault_env *env, struct tree_iter *it, tpt_gfn gfn)
{
	bool more = iter_start(it, env->trees, TREE_MIRROR, gfn, gfn + 1, TPT_LEVEL_2M);

	while (more && iter_kind(it) == PTE_TABLE)
		more = iter_next(it);
	return more && it->gfn < gfn && iter_kind(it) != PTE_EMPTY;
}

static int block_end(struct fault_env *env, tpt_gfn end, unsigned int *found)
{
	struct actor *self = &env->base->self;
	struct tree_iter it;
	int err = 0;

	if (!crosses(env, &it, end))
		return 0;
	/* What an earlier operation left blocked is taken on as it is. */
	if (iter_kind(&it) == PTE_LEAF) {
		err = self->tables.nr && self->external.nr ? tree_block(self, &it) : -ERR_NOMEM;
		env->trees->mirror.untracked |= !err;
	}
	*found += !err;
	return err;
}

static int open_end(struct fault_env *env, tpt_gfn end)
{
	struct actor *self = &env->base->self;
	struct tree_iter it;
	int err;

	if (!crosses(env, &it, end) || iter_kind(&it) == PTE_LEAF)
		return 0;
	if (iter_kind(&it) == PTE_BLOCKED_TABLE)
		return tree_go_back(self, &it, "merge", 0);
	err = self->tables.nr && self->external.nr ? tree_split_blocked(self, &it) : -ERR_NOMEM;
	return err ? tree_go_back(self, &it, "split", err) : 0;
}

int private_split_ends(struct fault_env *env, struct tpt_gfn_range range)
{
	unsigned int found;
	int why, err;

	/* Once a size that there is above 4K. */
	do {
		found = 0;
		why = block_end(env, range.start, &found);
		err = why ? 0 : block_end(env, range.end, &found);
		why = why ? why : err;
		if (!found)
			return why;
		err = track(env);
		if (!err)
			err = open_end(env, range.start);
		if (!err)
			err = open_end(env, range.end);
	} while (!err && !why);
	return err ? err : why;
}

/* ---- tables in a range ---- */

/* Tables at @level in [start, end) that one leaf could stand for are blocked. Where it gave way, or
 * @end. */
static tpt_gfn block_tables(struct fault_env *env, tpt_gfn start, tpt_gfn end, unsigned int level)
{
	struct actor *self = &env->base->self;
	struct tree_iter it;
	bool more = iter_start_runs(&it, env->trees, TREE_MIRROR, start, end, level, ITER_ALL);
	unsigned int looked = 0;

	for (; more && looked < ZAP_DIRECT_CHUNK; more = iter_next_of_runs(&it)) {
		looked++;
		if (it.level != level || iter_kind(&it) != PTE_TABLE || it.gfn < start ||
		    it.gfn + tpt_level_pages(level) > end)
			continue;
		looked += TABLE_ENTRIES;
		if (!tree_is_uniform(env->trees, it.old, level))
			continue;
		/* One that is busy is removed leaf by leaf. */
		env->trees->mirror.untracked |= !tree_block_table(self, &it);
	}
	hold_looked(self, looked);
	return more ? it.gfn : end;
}

int private_merge_blocked(struct fault_env *env, tpt_gfn start, tpt_gfn end, uint64_t *merged)
{
	struct actor *self = &env->base->self;
	struct tree_iter it;
	bool more =
		iter_start_runs(&it, env->trees, TREE_MIRROR, start, end, TPT_LEVEL_2M, ITER_ALL);
	int ret = 0, err;

	for (; more; more = iter_next_of_runs(&it)) {
		if (iter_kind(&it) != PTE_BLOCKED_TABLE)
			continue;
		err = track(env);
		if (err)
			return err;
		err = tree_merge_blocked(self, &it);
		*merged += !err;
		if (err)
			tree_go_back(self, &it, "merge", err);
		if (vm_is_dead(env->base))
			return -ERR_IO;
		if (iter_kind(&it) == PTE_BLOCKED_TABLE)
			ret = -ERR_BUSY;
	}
	hold_looked(self, ITER_ALL - it.left);
	return ret;
}

int private_merge_ahead(struct fault_env *env, tpt_gfn start, tpt_gfn end, tpt_gfn *done)
{
	unsigned int level = env->max_merge_level;
	uint64_t merged = 0;
	tpt_gfn reach;

	/* The larger first: a table that is blocked is not gone into. */
	*done = reach = block_tables(env, start, end, level);
	while (--level > TPT_LEVEL_4K)
		*done = block_tables(env, start, *done, level);
	return vm_is_dead(env->base) ? -ERR_IO : private_merge_blocked(env, start, reach, &merged);
}

/* ---- recovery: a table becomes a leaf because the host wants it ---- */

/* Does the library see anything against a leaf there? */
static bool may_recover(const struct fault_env *env, const struct memslot *slot,
			const struct tree_iter *it)
{
	enum tpt_level level = (enum tpt_level)it->level;

	return slot && slot->gmem && attr_is_private(env->slots, it->gfn) &&
	       slot_max_level(env->slots, slot, it->gfn, true, level) == level &&
	       tree_is_uniform(env->trees, it->old, it->level);
}

int private_recover_find(struct fault_env *env, struct private_recover *op)
{
	unsigned int looked = 0;
	struct tree_iter it;
	bool more = iter_start_runs(&it, env->trees, TREE_MIRROR, op->pos, op->range.end, op->level,
				    ITER_ALL);

	op->nr = 0;
	op->from = op->pos;
	for (; more && op->nr < PRIVATE_RECOVER_CHUNK && looked < ZAP_DIRECT_CHUNK;
	     more = iter_next_of_runs(&it)) {
		const struct memslot *slot;

		looked++;
		if (it.level != op->level || iter_kind(&it) != PTE_TABLE || it.gfn < op->pos ||
		    it.gfn + tpt_level_pages(it.level) > op->range.end)
			continue;
		looked += TABLE_ENTRIES;
		slot = slot_find(env->slots, 0, it.gfn);
		if (!may_recover(env, slot, &it))
			continue;
		op->found[op->nr].gfn = it.gfn;
		op->found[op->nr].pfn = pte_pfn(tree_first(env->trees, it.old));
		op->found[op->nr++].slot = slot;
	}
	hold_looked(&env->base->self, looked);
	op->pos = more ? it.gfn : op->range.end;
	return more;
}

void private_recover_ask(struct private_recover *op)
{
	unsigned int nr = 0;

	for (unsigned int i = 0; i < op->nr; i++) {
		const struct memslot *slot = op->found[i].slot;
		const struct tpt_gmem *gmem = slot->gmem;
		enum tpt_level level = TPT_LEVEL_4K;
		tpt_pfn pfn;

		if (!gmem->ops->get_page(gmem->ctx, slot_gmem_index(slot, op->found[i].gfn), &pfn,
					 &level) &&
		    (unsigned int)level >= op->level && pfn.n == op->found[i].pfn.n)
			op->found[nr++] = op->found[i];
	}
	op->nr = nr;
}

int private_recover_merge(struct fault_env *env, struct private_recover *op)
{
	struct actor *self = &env->base->self;
	tpt_gfn pages = tpt_level_pages(op->level);

	for (unsigned int i = 0; i < op->nr && !vm_is_dead(env->base); i++) {
		tpt_gfn gfn = op->found[i].gfn;
		struct tree_iter it;

		/* A guest that accepts less may have split or mapped something meanwhile. */
		if (iter_start_runs(&it, env->trees, TREE_MIRROR, gfn, gfn + pages, op->level,
				    ITER_ALL) &&
		    it.level == op->level && iter_kind(&it) == PTE_TABLE &&
		    tree_is_uniform(env->trees, it.old, it.level) &&
		    pte_pfn(tree_first(env->trees, it.old)).n == op->found[i].pfn.n)
			env->trees->mirror.untracked |= !tree_block_table(self, &it);
	}
	if (vm_is_dead(env->base))
		return -ERR_IO;
	/* What an earlier operation left blocked is finished too. */
	return private_merge_blocked(env, op->from, op->pos, &op->made);
}
