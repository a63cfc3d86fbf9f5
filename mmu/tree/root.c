// SPDX-License-Identifier: BSD-2-Clause
/* Roots: made on demand, shared by all vCPUs, invalidated as a whole. Never walks one. */
#include "mmu/tree/tree.h"

struct table *root_make(struct trees *trees, struct actor *actor, enum tree_id id)
{
	if (!trees->root[id])
		trees->root[id] = table_make(trees, actor, id, trees->levels, 0);
	return trees->root[id];
}

void roots_invalidate(struct trees *trees, struct actor *actor, unsigned int mask)
{
	struct table *gone[TREE_NR];
	unsigned int nr = 0;

	for (enum tree_id id = 0; id < TREE_NR; id++) {
		if (id == TREE_MIRROR || !(mask & 1u << id) || !trees->root[id])
			continue;
		gone[nr] = trees->root[id];
		atomic_store_explicit(&gone[nr++]->dead, 1, memory_order_seq_cst);
		trees->root[id] = NULL;
	}
	if (!nr)
		return;
	atomic_fetch_add_explicit(&trees->base->roots, 1, memory_order_release);
	vm_flush(actor, &(struct tpt_flush){.reason = TPT_FLUSH_ROOT, .all = true});
	while (nr)
		table_reclaim_later(gone[--nr]);
}
