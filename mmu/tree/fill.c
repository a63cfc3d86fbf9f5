// SPDX-License-Identifier: BSD-2-Clause
/*
 * The transition's second form for what is not there yet: EMPTY entries of one direct table become
 * leaves. What is legal is checked once, and the table's dead mark is read once, after the last
 * exchange. Changes no entry that maps something already.
 *
 *	tree_fill:      EMPTY -> leaf, one compare-and-exchange each
 *	tree_fill_new:  no table yet: plain stores into one, and the transition that links it
 */
#include "mmu/tree/tree.h"

/* From a leaf to the one over the next frame. */
static uint64_t step_of(unsigned int level)
{
	return tpt_level_pages(level) << TPT_PAGE_SHIFT;
}

static bool may_run_code(const struct tree_iter *it, unsigned int level, const struct tree_run *run,
			 unsigned int nr_runs)
{
	if (level == TPT_LEVEL_4K || !it->trees->nx_huge_pages)
		return true;
	for (unsigned int i = 0; i < nr_runs; i++)
		if (pte_is_exec(&it->trees->format, run[i].leaf))
			return false;
	return true;
}

/* How many leaves are these? 0: one of them is none of this level, or its frame is not aligned. */
static unsigned int count_lawful(const struct tree_iter *it, unsigned int level,
				 const struct tree_run *run, unsigned int nr_runs)
{
	uint64_t all = ~0ull, any = 0, differ = 0, step = step_of(level);
	unsigned int nr = 0;

	for (unsigned int i = 0; i < nr_runs; i++) {
		uint64_t first = run[i].leaf.w;

		all &= first;
		any |= first;
		differ |= first ^ (first + (run[i].nr - 1) * step);
		nr += run[i].nr;
	}
	if (it->id == TREE_MIRROR || level < TPT_LEVEL_4K || level > TPT_LEVEL_MAX_LEAF ||
	    !(all & PTE_MMU_PRESENT) || !pte_is_leaf_word((tpt_spte){all}, level) ||
	    pte_pfn((tpt_spte){any}).n & (tpt_level_pages(level) - 1) || differ & ~PTE_ADDR_MASK)
		return 0;
	return may_run_code(it, level, run, nr_runs) ? nr : 0;
}

static int refuse(const struct tree_iter *it, unsigned int level, unsigned int nr_runs)
{
	vm_die(it->trees->base, "fill with %u runs of %s entries, one no leaf: gfn %#lx level %u",
	       nr_runs, it->id == TREE_MIRROR ? "mirror" : "direct", it->gfn, level);
	return -ERR_IO;
}

static bool is_hit(const uint64_t *hit, unsigned int i)
{
	return hit[i / 64] >> (i % 64) & 1;
}

static void clear_hit(uint64_t *hit, unsigned int i)
{
	hit[i / 64] &= ~(1ull << (i % 64));
}

/*
 * One run, into entries @at .. @end - 1. Returns how far it came, and clears the bits of leaves
 * that were there.
 */
static unsigned int fill_run(const struct tree_iter *it, unsigned int at, unsigned int end,
			     uint64_t leaf, uint64_t *hit)
{
	uint64_t step = step_of(it->level);
	entry_t *entry = it->entry + at, *stop = it->entry + end;

	while (entry < stop) {
		uint64_t old = PTE_EMPTY_WORD;

		/* Tried before it is looked at: most often it is EMPTY. */
		if (__builtin_expect(atomic_compare_exchange_strong_explicit(entry, &old, leaf,
									     memory_order_seq_cst,
									     memory_order_acquire),
				     1)) {
			entry++;
			leaf += step;
			continue;
		}
		/* But one leaf is seldom alone. */
		while (old != PTE_EMPTY_WORD) {
			if (!(old & PTE_MMU_PRESENT) ||
			    !pte_is_leaf_word((tpt_spte){old}, it->level))
				return (unsigned int)(entry - it->entry);
			clear_hit(hit, (unsigned int)(entry - it->entry));
			leaf += step;
			if (++entry == stop)
				break;
			old = entry_read(entry).w;
		}
	}
	return end;
}

/*
 * Empties what was filled in a table that turned out to be dead. What another fault has gone on
 * from stands, and its bit in @hit stays: it is counted and goes with the table.
 */
static void take_back(const struct tree_iter *it, const struct tree_run *run, unsigned int nr_runs,
		      uint64_t *hit)
{
	const struct pte_format *f = &it->trees->format;
	unsigned int at = 0;

	for (unsigned int r = 0; r < nr_runs; r++) {
		uint64_t leaf = run[r].leaf.w, step = step_of(it->level);

		for (unsigned int end = at + run[r].nr; at < end; at++, leaf += step) {
			uint64_t now = leaf;

			while (is_hit(hit, at) && !((now ^ leaf) & ~(f->accessed | f->dirty)))
				if (atomic_compare_exchange_strong_explicit(
					    &it->entry[at], &now, PTE_EMPTY_WORD,
					    memory_order_seq_cst, memory_order_acquire))
					clear_hit(hit, at);
		}
	}
}

/* Bits that are set: by pairs, fours, bytes, and all bytes at once. */
static unsigned int count_bits(uint64_t w)
{
	w -= w >> 1 & 0x5555555555555555ull;
	w = (w & 0x3333333333333333ull) + (w >> 2 & 0x3333333333333333ull);
	w = (w + (w >> 4)) & 0x0f0f0f0f0f0f0f0full;
	return (unsigned int)(w * 0x0101010101010101ull >> 56);
}

static void count_hits(struct actor *actor, const struct tree_iter *it, const uint64_t *hit)
{
	unsigned int hits = 0;

	for (unsigned int i = 0; i < TREE_SWEEP_WORDS; i++)
		hits += count_bits(hit[i]);
	count_add(actor, count_tree(TPT_TREE_DIRECT, it->level), hits);
}

/* What was filled from @gfn on is visible: tell it. */
static void tell(const struct actor *actor, const struct tree_iter *it, unsigned int level,
		 tpt_gfn gfn, const struct tree_run *run, unsigned int nr_runs, const uint64_t *hit)
{
	unsigned int at = 0;

	if (!it->trees->base->event)
		return;
	for (unsigned int r = 0; r < nr_runs; r++) {
		for (unsigned int i = 0; i < run[r].nr; i++, at++, gfn += tpt_level_pages(level)) {
			if (!is_hit(hit, at))
				continue;
			vm_event(it->trees->base,
				 &(struct tpt_event){
					 .kind = TPT_EVENT_SPTE_CHANGED,
					 .vcpu = actor->vcpu,
					 .as_id = tree_as_id(it->id),
					 .level = level,
					 .gfn = gfn,
					 .old_spte = pte_empty(),
					 .new_spte = {run[r].leaf.w + i * step_of(level)}});
		}
	}
}

/* What was filled in a dead table goes, or stands: that is counted and told. */
static int fill_dead(struct actor *actor, const struct tree_iter *it, const struct tree_run *run,
		     unsigned int nr_runs, const uint64_t *hit)
{
	uint64_t left[TREE_SWEEP_WORDS];

	for (unsigned int i = 0; i < TREE_SWEEP_WORDS; i++)
		left[i] = hit[i];
	take_back(it, run, nr_runs, left);
	count_hits(actor, it, left);
	tell(actor, it, it->level, it->gfn, run, nr_runs, left);
	return -ERR_BUSY;
}

int tree_fill(struct actor *actor, struct tree_iter *it, const struct tree_run *run,
	      unsigned int nr_runs, uint64_t hit[TREE_SWEEP_WORDS])
{
	struct table *table = table_header(it->trees, it->path[it->level]);
	unsigned int nr = count_lawful(it, it->level, run, nr_runs), done = 0, end = 0;
	int ret;

	if (!nr)
		return refuse(it, it->level, nr_runs);
	tree_first_bits(hit, nr);
	for (unsigned int r = 0; r < nr_runs && done == end; r++) {
		end += run[r].nr;
		done = fill_run(it, done, end, run[r].leaf.w, hit);
	}
	for (unsigned int i = done; i < nr; i++)
		clear_hit(hit, i);

	/* After the exchanges, in one order with them: see the transition. */
	if (atomic_load_explicit(&table->dead, memory_order_seq_cst)) {
		ret = fill_dead(actor, it, run, nr_runs, hit);
	} else {
		count_hits(actor, it, hit);
		tell(actor, it, it->level, it->gfn, run, nr_runs, hit);
		ret = (int)done;
	}
	iter_reread(it);
	return ret;
}

int tree_fill_new(struct actor *actor, struct tree_iter *it, unsigned int first,
		  const struct tree_run *run, unsigned int nr_runs)
{
	unsigned int level = it->level - 1, nr = count_lawful(it, level, run, nr_runs), at = first;
	uint64_t hit[TREE_SWEEP_WORDS];
	struct table *table;
	entry_t *entries;
	int err;

	if (!nr)
		return refuse(it, level, nr_runs);
	table = table_make_blank(it->trees, actor, it->id, level, it->gfn);
	entries = table_entries(it->trees, table->hpa);
	table_write(entries, first, PTE_EMPTY_WORD, 0);
	for (unsigned int r = 0; r < nr_runs; at += run[r++].nr)
		table_write(&entries[at], run[r].nr, run[r].leaf.w, step_of(level));
	table_write(&entries[at], TABLE_ENTRIES - at, PTE_EMPTY_WORD, 0);

	err = tree_link_filled(actor, it, table, nr, NX_NONE);
	if (err)
		return err;
	tree_first_bits(hit, nr);
	tell(actor, it, level, it->gfn + first * tpt_level_pages(level), run, nr_runs, hit);
	return 0;
}
