// SPDX-License-Identifier: BSD-2-Clause
/*
 * The transition's second form for what is not there yet: EMPTY entries of one direct table become
 * leaves. What is legal is checked once, and the table's dead mark is read once, after the last
 * exchange. Changes no entry that maps something already.
 */
#include "mmu/tree/tree.h"

/* Every word a leaf of this level, every frame aligned to it. */
static bool all_fit(const struct tree_iter *it, unsigned int nr, const tpt_spte *leaf)
{
	uint64_t all = ~0ull, any = 0;
	bool exec = false;

	for (unsigned int i = 0; i < nr; i++) {
		all &= leaf[i].w;
		any |= leaf[i].w;
		exec |= pte_is_exec(&it->trees->format, leaf[i]);
	}
	if (exec && it->level > TPT_LEVEL_4K && it->trees->nx_huge_pages)
		return false;
	return it->id != TREE_MIRROR && it->level >= TPT_LEVEL_4K &&
	       it->level <= TPT_LEVEL_MAX_LEAF && (all & PTE_MMU_PRESENT) &&
	       pte_is_leaf_word((tpt_spte){all}, it->level) &&
	       !(pte_pfn((tpt_spte){any}).n & (tpt_level_pages(it->level) - 1));
}

static bool is_hit(const uint64_t *hit, unsigned int i)
{
	return hit[i / 64] >> (i % 64) & 1;
}

/* One entry: is it a leaf now, ours or another's? */
static bool fill_one(struct actor *actor, entry_t *entry, unsigned int level, tpt_spte leaf,
		     uint64_t *hit, unsigned int i)
{
	tpt_spte old = entry_read(entry);

	while (old.w == PTE_EMPTY_WORD) {
		if (atomic_compare_exchange_strong_explicit(
			    entry, &old.w, leaf.w, memory_order_seq_cst, memory_order_acquire)) {
			hit[i / 64] |= 1ull << (i % 64);
			return true;
		}
		count_add(actor, COUNT_CAS_LOST, 1);
	}
	return pte_is_present(old) && pte_is_leaf_word(old, level);
}

/*
 * Empties what was filled in a table that turned out to be dead. What another fault has gone on
 * from stands, and its bit in @hit stays: it is counted and goes with the table.
 */
static void take_back(const struct tree_iter *it, unsigned int nr, const tpt_spte *leaf,
		      uint64_t *hit)
{
	const struct pte_format *f = &it->trees->format;

	for (unsigned int i = 0; i < nr; i++) {
		uint64_t now = leaf[i].w;

		if (!is_hit(hit, i))
			continue;
		while (!((now ^ leaf[i].w) & ~(f->accessed | f->dirty))) {
			if (!atomic_compare_exchange_strong_explicit(
				    &it->entry[i], &now, PTE_EMPTY_WORD, memory_order_seq_cst,
				    memory_order_acquire))
				continue;
			hit[i / 64] &= ~(1ull << (i % 64));
			break;
		}
	}
}

/* What was filled is visible: count it and tell it. */
static void tell(struct actor *actor, const struct tree_iter *it, unsigned int nr,
		 const tpt_spte *leaf, const uint64_t *hit)
{
	struct vm_base *base = it->trees->base;
	unsigned int hits = 0;

	for (unsigned int i = 0; i < nr; i++) {
		if (!is_hit(hit, i))
			continue;
		hits++;
		if (!base->event)
			continue;
		vm_event(base, &(struct tpt_event){.kind = TPT_EVENT_SPTE_CHANGED,
						   .vcpu = actor->vcpu,
						   .as_id = tree_as_id(it->id),
						   .level = it->level,
						   .gfn = it->gfn + i * tpt_level_pages(it->level),
						   .old_spte = pte_empty(),
						   .new_spte = leaf[i]});
	}
	count_add(actor, count_tree(TPT_TREE_DIRECT, it->level), hits);
}

int tree_fill(struct actor *actor, struct tree_iter *it, unsigned int nr, const tpt_spte *leaf,
	      uint64_t hit[TREE_SWEEP_WORDS])
{
	struct table *table = table_header(it->trees, it->path[it->level]);
	unsigned int done = 0;
	bool dead;

	for (unsigned int i = 0; i < TREE_SWEEP_WORDS; i++)
		hit[i] = 0;
	if (!all_fit(it, nr, leaf)) {
		vm_die(it->trees->base,
		       "fill of %u %s entries with what is no leaf: gfn %#lx level %u", nr,
		       it->id == TREE_MIRROR ? "mirror" : "direct", it->gfn, it->level);
		return -ERR_IO;
	}
	while (done < nr && fill_one(actor, &it->entry[done], it->level, leaf[done], hit, done))
		done++;

	/* After the exchanges, in one order with them: see the transition. */
	dead = atomic_load_explicit(&table->dead, memory_order_seq_cst);
	if (dead)
		take_back(it, done, leaf, hit);
	tell(actor, it, done, leaf, hit);
	iter_reread(it);
	return dead ? -ERR_BUSY : (int)done;
}
