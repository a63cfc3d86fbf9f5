// SPDX-License-Identifier: BSD-2-Clause
/*
 * NX recovery: unlinks tables that stand only because code ran in them. In shared sections, a batch
 * at a time; the flush of a batch is the caller's. Never touches a mirror.
 */
#include "mmu/range/range.h"

/* Adds a range to one flush. */
static void cover(struct tpt_gfn_range *flush, tpt_gfn start, tpt_gfn end)
{
	if (flush->start == flush->end)
		*flush = (struct tpt_gfn_range){start, end};
	if (start < flush->start)
		flush->start = start;
	if (end > flush->end)
		flush->end = end;
}

/* The entry that points to the table, if one still does. */
static bool find_parent(struct fault_env *env, const struct table *table, struct tree_iter *it)
{
	enum tree_id id = tree_direct(!!(table->role & ROLE_SMM));
	unsigned int level = ROLE_LEVEL(table->role) + 1;

	if (!iter_start(it, env->trees, id, table->gfn, table->gfn + 1, level))
		return false;
	while (it->level > level && iter_kind(it) == PTE_TABLE)
		iter_down(it);
	return it->level == level && iter_kind(it) == PTE_TABLE &&
	       pte_table_hpa(it->old).a == table->hpa.a;
}

static int detach(struct fault_env *env, struct actor *actor, struct range_nx *op,
		  struct table *table)
{
	struct tree_iter it;
	int err = -ERR_BUSY;

	while (err == -ERR_BUSY) {
		/* Somebody else unlinked it, or a table above. */
		if (!find_parent(env, table, &it))
			return 0;
		hold_looked(actor, 1);
		err = tree_transition(actor, &it, pte_empty(), TREE_SHARED);
	}
	if (err)
		return err;
	op->detached[op->nr++] = it.detached.table;
	cover(&op->flush[it.detached.as_id], it.detached.range.start, it.detached.range.end);
	return 0;
}

/* A log of pages wants small leaves. The slot is one of the table's own address space. */
static bool slot_forbids(const struct fault_env *env, const struct table *table)
{
	const struct memslot *slot = slot_find(env->slots, !!(table->role & ROLE_SMM), table->gfn);

	return slot && slot_logs_dirty(slot);
}

int range_nx_chunk(struct fault_env *env, struct actor *actor, struct range_nx *op)
{
	int err = 0;

	while (op->left && op->nr < RANGE_NX_CHUNK && !err) {
		struct table *table = nx_take_oldest(env->trees);

		if (!table) {
			op->left = 0;
			break;
		}
		op->left--;
		op->done++;
		if (slot_forbids(env, table))
			atomic_store_explicit(&table->nx_disallowed, 0, memory_order_relaxed);
		else
			err = detach(env, actor, op, table);
	}
	return err ? err : op->left > 0;
}
