// SPDX-License-Identifier: BSD-2-Clause
/*
 * Huge leaves to small ones and back, over a range of a direct tree. In shared sections, a chunk at
 * a time; changes no translation, only how many entries it takes.
 *
 *	split:    a huge leaf becomes a table of leaves, same frames, same permissions; no flush
 *	recover:  a table becomes one leaf again where everything permits it; the table is detached,
 *		  and what its entries were is the reclaimer's to look at; one flush a chunk
 */
#include "mmu/range/range.h"

int range_split_chunk(struct fault_env *env, struct actor *actor, struct range_split *op)
{
	struct tree_iter it;
	unsigned int seen = 0;
	tpt_gfn start = op->pos;
	int err;

	for_each_tree_entry (&it, env->trees, op->tree, op->pos, op->range.end, op->level + 1) {
		hold_looked(actor, 1);
		if (seen++ >= RANGE_SWEEP_CHUNK && it.gfn > start) {
			op->pos = it.gfn;
			return 1;
		}
		while (iter_kind(&it) == PTE_LEAF && it.level > (unsigned int)op->level) {
			/* Its table comes from the cache: the caller fills it outside the section.
			 */
			if (!actor->tables.nr) {
				op->pos = it.gfn;
				return 1;
			}
			err = tree_split(actor, &it, NX_NONE);
			if (err && err != -ERR_BUSY)
				return err;
			op->split += !err;
		}
	}
	op->pos = op->range.end;
	return 0;
}

/* First leaf of the table that the iterator's entry points to, if there is one right below. */
static bool first_leaf(const struct tree_iter *it, tpt_spte *leaf)
{
	const struct trees *trees = it->trees;
	const entry_t *entries = table_entries(trees, pte_table_hpa(it->old));

	for (unsigned int i = 0; i < TABLE_ENTRIES; i++) {
		*leaf = entry_read(&entries[i]);
		if (pte_kind(&trees->format, *leaf, it->level - 1) != PTE_LEAF)
			continue;
		/* The frame that entry 0 would have. */
		leaf->w -= ((uint64_t)i * tpt_level_pages(it->level - 1)) << TPT_PAGE_SHIFT;
		return true;
	}
	return false;
}

/* May one leaf stand for the whole block? The slot and the host's own mapping decide. */
static bool may_recover(struct fault_env *env, const struct range_recover *op,
			const struct tree_iter *it, const struct memslot *slot, tpt_spte leaf)
{
	enum tpt_level cap = env->max_leaf_level;

	if ((unsigned int)cap < it->level)
		return false;
	if (slots_invalidating(env->slots, slot, it->gfn, tpt_level_pages(it->level), false))
		return false;
	if (slot_max_level(env->slots, slot, it->gfn, false, cap) < (enum tpt_level)it->level)
		return false;
	if (pte_pfn(leaf).n & (tpt_level_pages(it->level) - 1))
		return false;
	return op->host_level(op->host_ctx, slot_hva(slot, it->gfn), pte_pfn(leaf)) >=
	       (enum tpt_level)it->level;
}

/* The leaf that could stand for the table at the iterator, if one may. */
static bool find_leaf(struct fault_env *env, const struct range_recover *op,
		      const struct tree_iter *it, tpt_spte *leaf)
{
	const struct memslot *slot;

	if (iter_kind(it) != PTE_TABLE || it->level > TPT_LEVEL_MAX_LEAF)
		return false;
	slot = slot_find(env->slots, tree_as_id(op->tree), it->gfn);
	if (!slot || slot->invalid || !first_leaf(it, leaf) ||
	    !may_recover(env, op, it, slot, *leaf))
		return false;
	leaf->w |= PTE_PS;
	if (env->trees->nx_huge_pages)
		*leaf = pte_with_exec(&env->trees->format, *leaf, false);
	return true;
}

/* Its flush is owed, with those of the chunk. */
static void note_detached(struct range_recover *op, const struct tree_detached *detached)
{
	if (!op->nr)
		op->flush.start = detached->range.start;
	op->flush.end = detached->range.end;
	op->detached[op->nr++] = detached->table;
	op->recovered++;
}

int range_recover_chunk(struct fault_env *env, struct actor *actor, struct range_recover *op)
{
	struct tree_iter it;
	unsigned int seen = 0;
	tpt_gfn start = op->pos;
	tpt_spte leaf;
	int err;

	for_each_tree_entry (&it, env->trees, op->tree, op->pos, op->range.end, TPT_LEVEL_2M) {
		hold_looked(actor, 1);
		if (op->nr == RANGE_RECOVER_CHUNK ||
		    (seen++ >= RANGE_SWEEP_CHUNK && it.gfn > start)) {
			op->pos = it.gfn;
			return 1;
		}
		if (!find_leaf(env, op, &it, &leaf))
			continue;
		err = tree_transition(actor, &it, leaf, TREE_SHARED);
		if (!err)
			note_detached(op, &it.detached);
		else if (err != -ERR_BUSY)
			return err;
	}
	op->pos = op->range.end;
	return 0;
}
