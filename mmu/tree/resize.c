// SPDX-License-Identifier: BSD-2-Clause
/*
 * A mirror's large leaf becomes a table, and a table of uniform leaves one leaf, once it is blocked
 * and tracked outside. Never decides that, blocks nothing and tracks nothing.
 */
#include "mmu/tree/tree.h"

/* What a private leaf is like: the guest may do all with it, and its memory type is the guest's. */
static tpt_spte mirror_leaf(const struct trees *trees, tpt_pfn pfn, unsigned int level)
{
	return pte_make_leaf(&trees->format,
			     &(struct pte_leaf){.pfn = pfn,
						.level = level,
						.host_writable = true,
						.write = true,
						.accessed = true,
						.memtype = trees->format.memtype_wb});
}

tpt_spte tree_first(const struct trees *trees, tpt_spte table)
{
	return entry_read(table_entries(trees, pte_table_hpa(table)));
}

bool tree_is_uniform(const struct trees *trees, tpt_spte table, unsigned int level)
{
	const entry_t *entries = table_entries(trees, pte_table_hpa(table));
	uint64_t step = tpt_level_pages(level - 1), first = pte_pfn(entry_read(entries)).n;

	if (level > TPT_LEVEL_MAX_LEAF || first & (tpt_level_pages(level) - 1))
		return false;
	for (unsigned int i = 0; i < TABLE_ENTRIES; i++) {
		tpt_spte e = entry_read(&entries[i]);

		if (!pte_is_present(e) || !pte_is_leaf_word(e, level - 1) ||
		    pte_pfn(e).n != first + i * step)
			return false;
	}
	return true;
}

int tree_split_blocked(struct actor *actor, struct tree_iter *it)
{
	struct trees *trees = it->trees;
	unsigned int below = it->level - 1;
	struct table *table = table_make_blank(trees, actor, it->id, below, it->gfn);
	tpt_spte child = mirror_leaf(trees, pte_pfn(it->old), below);
	int err;

	table_write(table_entries(trees, table->hpa), TABLE_ENTRIES, child.w,
		    tpt_level_pages(below) << TPT_PAGE_SHIFT);
	err = tree_transition(actor, it, pte_table(&trees->format, table->hpa), TREE_EXCLUSIVE);
	if (err)
		table_unmake(table, actor);
	else
		count_add(actor, count_tree(TPT_TREE_MIRROR, below), TABLE_ENTRIES);
	return err;
}

int tree_merge_blocked(struct actor *actor, struct tree_iter *it)
{
	struct trees *trees = it->trees;
	struct vm_base *base = trees->base;
	struct table *table = table_header(trees, pte_table_hpa(it->old));
	tpt_pfn pfn = pte_pfn(tree_first(trees, it->old));
	int err = tree_transition(actor, it, mirror_leaf(trees, pfn, it->level), TREE_EXCLUSIVE);

	if (err)
		return err;
	table_mark_dead(table);
	base->platform->page_free(base->platform_ctx, table->external);
	count_add(actor, COUNT_PAGES_LIVE, -1);
	/* Its leaves go off the count with it. */
	table_reclaim_later(table);
	return 0;
}

int tree_unblock(struct actor *actor, struct tree_iter *it)
{
	struct trees *trees = it->trees;
	tpt_spte was = iter_kind(it) == PTE_BLOCKED
			       ? mirror_leaf(trees, pte_pfn(it->old), it->level)
			       : pte_table(&trees->format, pte_table_hpa(it->old));

	return tree_transition(actor, it, was, TREE_EXCLUSIVE);
}

int tree_go_back(struct actor *actor, struct tree_iter *it, const char *what, int why)
{
	int err = tree_unblock(actor, it);

	if (!err)
		return why;
	/* A table can be given back whenever somebody comes by. */
	if (err == -ERR_BUSY && (why == -ERR_BUSY || iter_kind(it) == PTE_BLOCKED_TABLE))
		return err;
	vm_die(it->trees->base, "gfn %#lx: external %s failed with %d, and so did unblock", it->gfn,
	       what, why);
	return -ERR_IO;
}
