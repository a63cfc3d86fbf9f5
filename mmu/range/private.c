// SPDX-License-Identifier: BSD-2-Clause
/*
 * Removal of private mappings: two phases, a chunk at a time; and the teardown of a whole mirror.
 * Never touches a direct tree.
 *
 *	n BLOCK, 1 TRACK, 1 kick, n REMOVE a chunk. If a BLOCK fails the chunk ends before it and
 *	goes forward with what it has. If the TRACK or a REMOVE stays busy, entries stay BLOCKED and
 *	the zap is tried again; if a REMOVE fails for good its entry is unblocked, or the VM is
 *	dead.
 *
 *	Where leaves can be large, those that reach out of the range are split first, and tables of
 *	512 leaves over one aligned block are merged: that is 1 BLOCK and 1 MERGE, and then 1 BLOCK
 *	and 1 REMOVE, instead of 512 of each, for one TRACK and one kick more a chunk.
 */
#include "mmu/range/range.h"

/* Phase one: leaves become BLOCKED. Returns the error that ended it early, or 0. */
static int block_leaves(struct fault_env *env, const struct zap *zap, tpt_gfn limit, tpt_gfn *end,
			unsigned int *nr)
{
	unsigned int chunk = env->zap_chunk ? env->zap_chunk : ZAP_PRIVATE_CHUNK;
	struct actor *self = &env->base->self;
	struct tree_iter it;
	bool more = iter_start_runs(&it, env->trees, TREE_MIRROR, zap->pos, limit, TPT_LEVEL_4K,
				    ZAP_DIRECT_CHUNK);
	int err = 0;

	*nr = 0;
	for (; more; more = iter_next_of_runs(&it)) {
		if (iter_kind(&it) != PTE_LEAF)
			continue;
		if (*nr == chunk)
			break;
		err = tree_block(self, &it);
		if (err)
			break;
		(*nr)++;
	}
	hold_looked(self, ZAP_DIRECT_CHUNK - it.left);
	*end = more ? it.gfn : iter_gave_way(&it) ? it.next : limit;
	return err;
}

/* Phase two: BLOCKED entries become EMPTY. The first error is returned, all others are tried. */
static int remove_blocked(struct fault_env *env, struct zap *zap, tpt_gfn end)
{
	struct tree_iter it;
	bool more = iter_start_runs(&it, env->trees, TREE_MIRROR, zap->pos, end, TPT_LEVEL_4K,
				    ITER_ALL);
	int ret = 0, err;

	for (; more; more = iter_next_of_runs(&it)) {
		if (iter_kind(&it) != PTE_BLOCKED)
			continue;
		err = tree_remove(&env->base->self, &it);
		if (!err)
			zap->zapped++;
		else if (err != -ERR_BUSY)
			err = tree_go_back(&env->base->self, &it, "remove", err);
		if (err && !ret)
			ret = err;
		if (vm_is_dead(env->base))
			return -ERR_IO;
	}
	hold_looked(&env->base->self, ITER_ALL - it.left);
	return ret;
}

/* Makes the leaves from zap->pos on such that each goes as a whole, and as few as they can be. */
static int prepare(struct fault_env *env, struct zap *zap)
{
	tpt_gfn most = tpt_gfn_round(zap->pos, TPT_LEVEL_MAX_LEAF) + ZAP_READY_MAX;
	tpt_gfn ready, end = zap->range.end < most ? zap->range.end : most;
	int err;

	if (zap->ready)
		return 0;
	err = private_split_ends(env, zap->range);
	if (!err)
		err = private_merge_ahead(env, zap->pos, end, &ready);
	if (!err)
		zap->ready = (uint32_t)(ready - zap->pos);
	return err;
}

int zap_private_chunk(struct fault_env *env, struct zap *zap)
{
	tpt_gfn end, limit = zap->range.end;
	unsigned int nr;
	int why, err = 0;

	if (env->max_merge_level > TPT_LEVEL_4K) {
		err = prepare(env, zap);
		if (err)
			return err;
		limit = zap->pos + zap->ready;
	}
	why = block_leaves(env, zap, limit, &end, &nr);
	if (vm_is_dead(env->base))
		return -ERR_IO;
	env->trees->mirror.untracked |= nr > 0;
	if (env->trees->mirror.untracked)
		err = mirror_track(&env->trees->mirror, &env->base->self);
	if (!err)
		err = remove_blocked(env, zap, end);
	if (err)
		return err;
	zap->ready -= zap->ready ? (uint32_t)(end - zap->pos) : 0;
	zap->pos = end;
	return why ? why : end < zap->range.end;
}

/* ---- teardown ---- */

/* A table whose children are all gone: its twin goes home, then the table itself. */
static void teardown_table(struct fault_env *env, struct tree_iter *it)
{
	struct vm_base *base = env->base;
	struct table *table = table_header(env->trees, pte_table_hpa(it->old));
	tpt_hpa external = table->external;

	table_mark_dead(table);
	if (tree_transition(&base->self, it, pte_empty(), TREE_EXCLUSIVE)) {
		count_add(&base->self, COUNT_LEAKED, 1);
		return;
	}
	base->platform->page_free(base->platform_ctx, external);
	count_add(&base->self, COUNT_PAGES_LIVE, -1);
	table_reclaim_later(table);
}

/* What one entry of the level held goes back. */
static void teardown_entry(struct fault_env *env, struct tree_iter *it)
{
	struct actor *self = &env->base->self;
	enum pte_kind kind = iter_kind(it);

	if (kind == PTE_TABLE)
		teardown_table(env, it);
	else if ((kind == PTE_LEAF || kind == PTE_BLOCKED) &&
		 tree_transition(self, it, pte_empty(), TREE_EXCLUSIVE))
		count_add(self, COUNT_LEAKED, (int64_t)tpt_level_pages(it->level));
}

/* A chunk of one level. False: the level is done. */
static bool teardown_level(struct fault_env *env, struct mirror_end *end)
{
	struct tree_iter it;
	bool more = iter_start_runs(&it, env->trees, TREE_MIRROR, end->pos,
				    1ull << env->trees->gfn_bits, end->level, ZAP_DIRECT_CHUNK);

	for (; more; more = iter_next_of_runs(&it)) {
		if (it.level == end->level) {
			teardown_entry(env, &it);
		} else if (iter_kind(&it) == PTE_BLOCKED_TABLE) {
			/* Nothing is blocked any more: it is gone into. */
			end->pos = it.gfn;
			return !tree_unblock(&env->base->self, &it);
		}
	}
	hold_looked(&env->base->self, ZAP_DIRECT_CHUNK - it.left);
	end->pos = it.next;
	return iter_gave_way(&it);
}

int mirror_teardown_chunk(struct fault_env *env, struct mirror_end *end)
{
	struct trees *trees = env->trees;
	struct table *root = trees->root[TREE_MIRROR];

	if (!root)
		return 0;
	if (trees->mirror.released && end->level < trees->levels + 1) {
		if (!teardown_level(env, end))
			*end = (struct mirror_end){.level = end->level + 1};
		return 1;
	}
	atomic_store(&root->dead, 1);
	trees->root[TREE_MIRROR] = NULL;
	table_reclaim_later(root);
	return 0;
}
