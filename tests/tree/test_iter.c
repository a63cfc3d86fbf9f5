// SPDX-License-Identifier: BSD-2-Clause
/* The iterator against a plain recursive walk of random trees. Changes no entry while it walks. */
#include "tests/support/host.h"

#include "mmu/vm/vm.h"

#define MAX_SEEN 200000

struct seen {
	tpt_gfn gfn;
	uint8_t level;
	uint64_t word;
};

struct world {
	struct host *h;
	struct trees *trees;
	struct actor *actor;
	enum tree_id id;
	uint64_t shared; /* index bit, 0 if the tree has none */
	uint64_t random;
	struct seen *want, *got;
	unsigned int nr_want, nr_got;
	/* What the plain walk is asked for. */
	tpt_gfn start, end;
	unsigned int min;
};

static uint64_t pick(struct world *w, uint64_t n)
{
	w->random = w->random * 6364136223846793005ull + 1442695040888963407ull;
	return (w->random >> 32) % n;
}

static void world_open(struct world *w, unsigned int levels, enum tree_id id, uint64_t seed)
{
	struct tpt_vm_config c;

	memset(w, 0, sizeof(*w));
	w->random = seed;
	w->id = id;
	w->want = malloc(MAX_SEEN * sizeof(*w->want));
	w->got = malloc(MAX_SEEN * sizeof(*w->got));
	host_config_td(&c);
	c.levels = levels;
	if (levels == 5) {
		c.guest_maxphyaddr = 52;
		c.shared_bit = 51;
	}
	w->shared = id == TREE_MIRROR ? 0 : 1ull << (c.shared_bit - 12);
	w->h = host_prepare(&c);
	assert_int_equal(tpt_vm_create(&w->h->config, &w->h->vm), 0);
	assert_int_equal(tpt_vcpu_create(w->h->vm, 0, &w->h->vcpu[0]), 0);
	w->trees = &w->h->vm->trees;
	w->actor = &w->h->vcpu[0]->fault.actor;
	assert_int_equal(tables_topup(w->trees, w->actor, true), 0);
	root_make(w->trees, w->actor, id);
}

static void world_close(struct world *w)
{
	struct table *mirror = w->trees->root[TREE_MIRROR];

	free(w->want);
	free(w->got);
	/* The owner was never asked about these tables; it has nothing to free. */
	w->trees->root[TREE_MIRROR] = NULL;
	if (mirror)
		table_reclaim_later(mirror);
	assert_int_equal(host_end(w->h), 0);
}

/* A table for an entry at @level, with no twin outside. */
static struct table *make_child(struct world *w, unsigned int level)
{
	struct table *child;

	assert_int_equal(tables_topup(w->trees, w->actor, true), 0);
	child = table_make(w->trees, w->actor, w->id, level - 1, 0);
	if (child->external.a)
		w->actor->external.page[w->actor->external.nr++] = child->external;
	child->external.a = 0;
	return child;
}

/* Puts tables and leaves at random below @table. */
static void grow(struct world *w, struct table *table, unsigned int level)
{
	entry_t *entries = table_entries(w->trees, table->hpa);
	const struct pte_format *f = &w->trees->format;
	unsigned int children = level > 1 ? 1 + pick(w, 3) : 0;

	for (unsigned int i = 0; i < 8; i++)
		if (level <= 3)
			atomic_store(&entries[pick(w, 512)],
				     pte_make_leaf(f, &(struct pte_leaf){.pfn = {1 << 18},
									 .level = level})
					     .w);
	atomic_store(&entries[pick(w, 512)], PTE_FROZEN_WORD);
	while (children--) {
		unsigned int index = pick(w, 2) ? pick(w, 512) : 511 * pick(w, 2);
		struct table *child;

		/* Where a direct tree of a TD can be reached: the shared bit is in the root. */
		if (w->shared && level == w->trees->levels)
			index |= w->shared >> (9 * (level - 1));
		index &= 511;
		if (pte_kind(f, entry_read(&entries[index]), level) == PTE_TABLE)
			continue;
		child = make_child(w, level);
		atomic_store(&entries[index], pte_table(f, child->hpa).w);
		grow(w, child, level - 1);
	}
}

static void plain_walk(struct world *w, tpt_hpa hpa, unsigned int level, uint64_t base)
{
	entry_t *entries = table_entries(w->trees, hpa);
	uint64_t pages = tpt_level_pages(level);

	for (uint64_t i = 0; i < 512; i++) {
		uint64_t full = base + i * pages, gfn = full & ~w->shared;
		tpt_spte e = {atomic_load(&entries[i])};

		if ((full & w->shared) != w->shared || gfn >> w->trees->gfn_bits)
			continue;
		if (gfn + pages <= w->start || gfn >= w->end)
			continue;
		assert_true(w->nr_want < MAX_SEEN);
		w->want[w->nr_want++] = (struct seen){gfn, level, e.w};
		if (level > w->min && pte_kind(&w->trees->format, e, level) == PTE_TABLE)
			plain_walk(w, pte_table_hpa(e), level - 1, full);
	}
}

static void note(struct world *w, const struct tree_iter *it)
{
	assert_true(w->nr_got < MAX_SEEN);
	assert_int_equal(atomic_load(it->entry), it->old.w);
	w->got[w->nr_got++] = (struct seen){it->gfn, it->level, it->old.w};
}

static void ask(struct world *w)
{
	uint64_t limit = 1ull << w->trees->gfn_bits;

	w->start = pick(w, 3) ? (pick(w, limit >> 9) << 9) + pick(w, 512) : 0;
	w->end = pick(w, 3) ? w->start + (1ull << pick(w, 40)) : UINT64_MAX;
	w->min = 1 + pick(w, w->trees->levels);
	w->nr_want = w->nr_got = 0;
	plain_walk(w, w->trees->root[w->id]->hpa, w->trees->levels, 0);
}

static void compare(const struct world *w)
{
	assert_int_equal(w->nr_got, w->nr_want);
	for (unsigned int i = 0; i < w->nr_got; i++)
		if (w->got[i].gfn != w->want[i].gfn || w->got[i].level != w->want[i].level ||
		    w->got[i].word != w->want[i].word)
			fail_msg("entry %u: gfn %#llx level %u, should be %#llx level %u", i,
				 (unsigned long long)w->got[i].gfn, w->got[i].level,
				 (unsigned long long)w->want[i].gfn, w->want[i].level);
}

static const struct {
	unsigned int levels;
	enum tree_id id;
} kinds[] = {{4, TREE_DIRECT}, {4, TREE_MIRROR}, {5, TREE_DIRECT}, {5, TREE_MIRROR}};

static void the_iterator_sees_what_a_plain_walk_sees_in_the_same_order(void **state)
{
	(void)state;
	for (unsigned int k = 0; k < 4; k++) {
		for (uint64_t seed = 1; seed <= 10; seed++) {
			struct tree_iter it;
			struct world w;

			world_open(&w, kinds[k].levels, kinds[k].id, seed);
			grow(&w, w.trees->root[w.id], w.trees->levels);
			for (unsigned int n = 0; n < 20; n++) {
				ask(&w);
				for_each_tree_entry (&it, w.trees, w.id, w.start, w.end, w.min)
					note(&w, &it);
				compare(&w);
			}
			world_close(&w);
		}
	}
}

/* A walk that stops now and then, and starts again at the entry that it had not done yet. */
static void walk_in_pieces(struct world *w)
{
	tpt_gfn pos = w->start;
	unsigned int done_level = 0;

	for (;;) {
		unsigned int budget = 1 + pick(w, 300);
		struct tree_iter it;
		bool more = iter_start(&it, w->trees, w->id, pos, w->end, w->min);

		/* Entries above the place are met again; they were done. */
		while (more && done_level && it.level > done_level && it.gfn <= pos &&
		       it.gfn + tpt_level_pages(it.level) > pos)
			more = iter_next(&it);
		for (; more && budget--; more = iter_next(&it))
			note(w, &it);
		if (!more)
			return;
		pos = it.gfn > pos ? it.gfn : pos;
		done_level = it.level;
	}
}

static void a_walk_in_pieces_misses_nothing_and_repeats_nothing(void **state)
{
	(void)state;
	for (unsigned int k = 0; k < 4; k++) {
		for (uint64_t seed = 1; seed <= 10; seed++) {
			struct world w;

			world_open(&w, kinds[k].levels, kinds[k].id, seed + 100);
			grow(&w, w.trees->root[w.id], w.trees->levels);
			for (unsigned int n = 0; n < 10; n++) {
				ask(&w);
				walk_in_pieces(&w);
				compare(&w);
			}
			world_close(&w);
		}
	}
}

/* ---- by runs ---- */

/* What a walk by runs does not stand on: above its lowest level, tables and nothing. */
static void leave_out_the_way(struct world *w)
{
	const struct pte_format *f = &w->trees->format;
	unsigned int n = 0;

	for (unsigned int i = 0; i < w->nr_want; i++) {
		enum pte_kind kind = pte_kind(f, (tpt_spte){w->want[i].word}, w->want[i].level);

		if (w->want[i].level == w->min || (kind != PTE_TABLE && kind != PTE_EMPTY))
			w->want[n++] = w->want[i];
	}
	w->nr_want = n;
}

/* Works on some of a run: the whole of it, or as far as it likes, or up to a table. */
static unsigned int note_run(struct world *w, struct tree_iter *it)
{
	struct tree_iter at = *it;
	unsigned int nr;

	must(it->nr > 0 && it->nr <= it->left);
	nr = pick(w, 2) ? it->nr : 1 + (unsigned int)pick(w, it->nr);
	for (unsigned int i = 0; i < nr; i++) {
		at.entry = it->entry + i;
		at.gfn = it->gfn + i * tpt_level_pages(it->level);
		iter_reread(&at);
		if (it->level > it->min_level && iter_kind(&at) == PTE_TABLE)
			return i;
		if (it->level == it->min_level || iter_kind(&at) != PTE_EMPTY)
			note(w, &at);
	}
	return nr;
}

/* Runs, with a walk that gives way now and then. */
static void walk_by_runs(struct world *w, bool by_entry)
{
	unsigned int look = pick(w, 3) ? 8 + (unsigned int)pick(w, 5000) : ITER_ALL;
	tpt_gfn pos = w->start;
	struct tree_iter it;

	do {
		bool more = iter_start_runs(&it, w->trees, w->id, pos, w->end, w->min, look);

		while (more && by_entry) {
			note(w, &it);
			more = iter_next_of_runs(&it);
		}
		while (more)
			more = iter_next_run(&it, note_run(w, &it));
		assert_true(it.left <= look);
		assert_true(!iter_gave_way(&it) || (it.next > pos && it.left < 8));
		pos = it.next;
	} while (iter_gave_way(&it));
}

static void a_walk_by_runs_sees_what_there_is_and_looks_at_no_more_than_it_may(void **state)
{
	(void)state;
	for (unsigned int k = 0; k < 4; k++) {
		for (uint64_t seed = 1; seed <= 10; seed++) {
			struct world w;

			world_open(&w, kinds[k].levels, kinds[k].id, seed + 200);
			grow(&w, w.trees->root[w.id], w.trees->levels);
			for (unsigned int n = 0; n < 20; n++) {
				ask(&w);
				leave_out_the_way(&w);
				walk_by_runs(&w, n % 2);
				compare(&w);
			}
			world_close(&w);
		}
	}
}

/* The first of a run has become a table: the walk goes into it, and not before where it began. */
static void a_leaf_that_was_split_meanwhile_is_gone_into(void **state)
{
	const struct pte_format *f;
	struct table *table;
	struct tree_iter it;
	struct world w;

	(void)state;
	world_open(&w, 4, TREE_MIRROR, 1);
	f = &w.trees->format;
	assert_true(iter_start(&it, w.trees, TREE_MIRROR, 0, 1, 1));
	while (it.level > 2) {
		table = make_child(&w, it.level);
		atomic_store(it.entry, pte_table(f, table->hpa).w);
		iter_reread(&it);
		iter_down(&it);
	}
	atomic_store(it.entry, pte_make_leaf(f, &(struct pte_leaf){.pfn = {512}, .level = 2}).w);
	table = make_child(&w, 2);

	assert_true(iter_start_runs(&it, w.trees, TREE_MIRROR, 100, 700, 1, ITER_ALL));
	assert_int_equal(it.level, 2);
	assert_int_equal(it.nr, 2);
	atomic_store(it.entry, pte_table(f, table->hpa).w);
	assert_true(iter_next_run(&it, 0));
	assert_int_equal(it.level, 1);
	assert_int_equal(it.gfn, 100);
	assert_int_equal(it.nr, 412);
	assert_false(iter_next_run(&it, it.nr));
	assert_false(iter_gave_way(&it));
	world_close(&w);
}

static void an_empty_range_or_no_tree_is_no_walk(void **state)
{
	struct tree_iter it;
	struct world w;

	(void)state;
	world_open(&w, 4, TREE_DIRECT, 1);
	assert_false(iter_start(&it, w.trees, TREE_DIRECT, 5, 5, 1));
	assert_false(iter_start(&it, w.trees, TREE_DIRECT, 6, 5, 1));
	assert_false(iter_start(&it, w.trees, TREE_DIRECT, 1ull << 35, UINT64_MAX, 1));
	assert_false(iter_start(&it, w.trees, TREE_MIRROR, 0, 5, 1));
	assert_false(iter_start_runs(&it, w.trees, TREE_DIRECT, 5, 5, 1, ITER_ALL));
	assert_false(iter_gave_way(&it));
	assert_false(iter_start_runs(&it, w.trees, TREE_MIRROR, 0, 5, 1, ITER_ALL));
	assert_false(iter_gave_way(&it));
	assert_true(iter_start(&it, w.trees, TREE_DIRECT, (1ull << 35) - 1, UINT64_MAX, 1));
	assert_int_equal(it.level, 4);
	assert_false(iter_next(&it));
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_iterator_sees_what_a_plain_walk_sees_in_the_same_order),
		cmocka_unit_test(a_walk_in_pieces_misses_nothing_and_repeats_nothing),
		cmocka_unit_test(
			a_walk_by_runs_sees_what_there_is_and_looks_at_no_more_than_it_may),
		cmocka_unit_test(a_leaf_that_was_split_meanwhile_is_gone_into),
		cmocka_unit_test(an_empty_range_or_no_tree_is_no_walk),
	};

	return cmocka_run_group_tests_name("iterator", tests, NULL, NULL);
}
