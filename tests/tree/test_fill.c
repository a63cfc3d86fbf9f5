// SPDX-License-Identifier: BSD-2-Clause
/*
 * Filling EMPTY entries of one table at once, and filling a table before it is linked: the same
 * entries, counts and events as the transition made for each in turn; the same answer in a dead
 * table; nothing done where a word is no leaf.
 */
#include "tests/support/host.h"

#include "mmu/vm/vm.h"

#define EVENTS 1024

struct said {
	unsigned int nr;
	struct tpt_event event[EVENTS];
};

static void listen(void *ctx, const struct tpt_event *event)
{
	struct said *s = ctx;

	if (event->kind == TPT_EVENT_SPTE_CHANGED && s->nr < EVENTS)
		s->event[s->nr++] = *event;
}

/* A VM with tables down to @level at gfn 0 of its direct tree, and an iterator on entry 0 there. */
struct bench {
	struct host *h;
	struct said said;
	struct actor *actor;
	struct tree_iter it;
};

static void bench_open(struct bench *b, enum tpt_format format, unsigned int level,
		       unsigned int vcpus)
{
	struct tpt_fault walk = {.goal_level = (enum tpt_level)level, .prefetch = true};
	struct tpt_vm_config c;

	memset(b, 0, sizeof(*b));
	host_config_npt(&c);
	c.format = format;
	c.event = listen;
	c.event_ctx = &b->said;
	b->h = host_create(&c, vcpus);
	b->actor = &b->h->vcpu[0]->fault.actor;
	assert_int_equal(tables_topup(&b->h->vm->trees, b->actor, false), 0);
	assert_true(section_enter(b->actor));
	assert_int_equal(fault_walk(&b->h->vcpu[0]->fault, &walk, &b->it), TPT_RET_PF_CONTINUE);
	section_leave(b->actor);
	b->said.nr = 0;
}

/* What was poked in by hand is taken out by hand. */
static void bench_close(struct bench *b)
{
	for (unsigned int i = 0; i < TABLE_ENTRIES; i++)
		atomic_store(&b->it.entry[i], PTE_EMPTY_WORD);
	atomic_store(&b->h->vm->base.dead, 0);
	assert_int_equal(host_end(b->h), 0);
}

static tpt_spte leaf_of(const struct bench *b, unsigned int level, unsigned int i, bool write)
{
	must(level >= TPT_LEVEL_4K && level <= TPT_LEVEL_1G);
	return pte_make_leaf(&b->it.trees->format,
			     &(struct pte_leaf){.pfn = {(i + 512ull) * tpt_level_pages(level)},
						.level = level,
						.host_writable = write,
						.write = write});
}

static tpt_spte leaf_at(const struct bench *b, unsigned int i, bool write)
{
	return leaf_of(b, b->it.level, i, write);
}

static int64_t count(const struct bench *b, unsigned int what)
{
	return trees_count(b->it.trees, count_tree(TPT_TREE_DIRECT, what));
}

static int64_t leaves(const struct bench *b)
{
	return count(b, b->it.level);
}

/* The first form, repeated: what tree_fill() must equal. */
static int fill_one_by_one(struct bench *b, unsigned int nr, const tpt_spte *leaf, uint64_t *hit)
{
	for (unsigned int i = 0; i < TREE_SWEEP_WORDS; i++)
		hit[i] = 0;
	for (unsigned int i = 0; i < nr; i++) {
		struct tree_iter it = b->it;

		iter_skip(&it, i);
		iter_reread(&it);
		if (iter_kind(&it) == PTE_LEAF)
			continue;
		if (iter_kind(&it) != PTE_EMPTY)
			return (int)i;
		assert_int_equal(tree_transition(b->actor, &it, leaf[i], TREE_SHARED), 0);
		hit[i / 64] |= 1ull << (i % 64);
	}
	return (int)nr;
}

static uint64_t random_state = 7;

static unsigned int pick(unsigned int n)
{
	random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned int)(random_state >> 33) % n;
}

/* The same random table in both: mostly EMPTY, some leaves, seldom what stops a fill. */
static void poke(struct bench *a, struct bench *b)
{
	for (unsigned int i = 0; i < TABLE_ENTRIES; i++) {
		unsigned int what = pick(2000);
		tpt_spte w = pte_empty();

		if (what < 200)
			w = leaf_at(a, pick(512), pick(2));
		else if (what == 200)
			w = pte_frozen();
		else if (what == 201 && a->it.level == TPT_LEVEL_4K)
			w = pte_make_mmio(&a->it.trees->format, i, 3, TPT_ACC_ALL);
		else if (what == 202 && a->it.level > TPT_LEVEL_4K)
			w = pte_table(&a->it.trees->format, (tpt_hpa){GIB});
		atomic_store(&a->it.entry[i], w.w);
		atomic_store(&b->it.entry[i], w.w);
	}
}

/* What is to be filled in, as runs and word by word. */
struct wanted {
	unsigned int nr, nr_runs;
	struct tree_run run[TABLE_ENTRIES];
	tpt_spte leaf[TABLE_ENTRIES];
};

/* @nr leaves in runs of @longest at most, no two of which follow one another but by chance. */
static void want(struct wanted *w, const struct bench *b, unsigned int level, unsigned int nr,
		 unsigned int longest)
{
	w->nr = w->nr_runs = 0;
	while (w->nr < nr) {
		struct tree_run *run = &w->run[w->nr_runs++];

		run->nr = 1 + pick(longest);
		if (run->nr > nr - w->nr)
			run->nr = nr - w->nr;
		run->leaf = leaf_of(b, level, pick(512), pick(2));
		for (unsigned int i = 0; i < run->nr; i++)
			w->leaf[w->nr++].w =
				run->leaf.w + (i * tpt_level_pages(level) << TPT_PAGE_SHIFT);
	}
}

static void assert_same_events(const struct bench *a, const struct bench *b)
{
	assert_int_equal(a->said.nr, b->said.nr);
	for (unsigned int i = 0; i < a->said.nr; i++) {
		const struct tpt_event *x = &a->said.event[i], *y = &b->said.event[i];

		assert_int_equal(x->gfn, y->gfn);
		assert_int_equal(x->level, y->level);
		assert_int_equal(x->vcpu, y->vcpu);
		assert_int_equal(x->old_spte.w, y->old_spte.w);
		assert_int_equal(x->new_spte.w, y->new_spte.w);
	}
}

static void compare_once(struct bench *a, struct bench *b)
{
	static struct wanted w;
	uint64_t hit[2][TREE_SWEEP_WORDS];
	int64_t was = leaves(a), was_b = leaves(b);
	int done[2];

	poke(a, b);
	a->said.nr = b->said.nr = 0;
	want(&w, a, a->it.level, 1 + pick(TABLE_ENTRIES), 1 + pick(100));
	assert_true(section_enter(a->actor));
	done[0] = tree_fill(a->actor, &a->it, w.run, w.nr_runs, hit[0]);
	section_leave(a->actor);
	assert_true(section_enter(b->actor));
	done[1] = fill_one_by_one(b, w.nr, w.leaf, hit[1]);
	section_leave(b->actor);

	assert_int_equal(a->it.old.w, atomic_load(a->it.entry));
	assert_int_equal(done[0], done[1]);
	assert_memory_equal(hit[0], hit[1], sizeof(hit[0]));
	assert_int_equal(leaves(a) - was, leaves(b) - was_b);
	for (unsigned int i = 0; i < TABLE_ENTRIES; i++)
		assert_int_equal(atomic_load(&a->it.entry[i]), atomic_load(&b->it.entry[i]));
	assert_same_events(a, b);
}

static void it_equals_the_first_form_repeated(void **state)
{
	static struct bench a, b;

	(void)state;
	for (enum tpt_format format = TPT_FORMAT_EPT; format <= TPT_FORMAT_NPT; format++) {
		for (unsigned int level = TPT_LEVEL_4K; level <= TPT_LEVEL_1G; level++) {
			bench_open(&a, format, level, 1);
			bench_open(&b, format, level, 1);
			for (unsigned int i = 0; i < 200; i++)
				compare_once(&a, &b);
			bench_close(&a);
			bench_close(&b);
		}
	}
}

/* ---- a table that is filled before it is linked ---- */

/* An iterator on the entry above @b's table, which is unlinked by hand and comes back so. */
struct above {
	struct tree_iter it;
	uint64_t linked;
};

static void above_open(struct above *a, struct bench *b)
{
	struct tpt_fault walk = {.goal_level = (enum tpt_level)b->it.level + 1, .prefetch = true};

	assert_true(section_enter(b->actor));
	assert_int_equal(fault_walk(&b->h->vcpu[0]->fault, &walk, &a->it), TPT_RET_PF_CONTINUE);
	section_leave(b->actor);
	a->linked = a->it.old.w;
	atomic_store(a->it.entry, PTE_EMPTY_WORD);
	iter_reread(&a->it);
	b->said.nr = 0;
}

/* The new table goes as tables go, and the old one is there again. */
static void above_close(struct above *a, struct bench *b)
{
	if (iter_kind(&a->it) == PTE_TABLE) {
		assert_true(section_enter(b->actor));
		assert_int_equal(tree_transition(b->actor, &a->it, pte_empty(), TREE_SHARED), 0);
		section_leave(b->actor);
		tree_settle(b->actor, &a->it.detached);
	}
	atomic_store(a->it.entry, a->linked);
	tpt_posix_platform(b->h->posix)->barrier(b->h->posix);
}

/* The first form: a table is linked, then filled. */
static void link_and_fill(struct bench *b, struct above *a, unsigned int first,
			  const struct wanted *w)
{
	struct trees *trees = b->it.trees;
	struct table *table = table_make(trees, b->actor, TREE_DIRECT, b->it.level, 0);
	uint64_t hit[TREE_SWEEP_WORDS];

	assert_int_equal(tree_link(b->actor, &a->it, table, NX_NONE), 0);
	b->it.path[b->it.level] = table->hpa;
	b->it.entry = table_entries(trees, table->hpa);
	b->it.gfn = 0;
	iter_skip(&b->it, first);
	assert_int_equal(fill_one_by_one(b, w->nr, w->leaf, hit), w->nr);
}

static void compare_new(struct bench *a, struct bench *b)
{
	unsigned int level = a->it.level, first = pick(2) ? pick(TABLE_ENTRIES) : 0;
	static struct wanted w;
	struct tree_iter saved = b->it;
	struct above x, y;

	want(&w, a, level, 1 + pick(TABLE_ENTRIES - first), 1 + pick(600));
	above_open(&x, a);
	above_open(&y, b);
	assert_int_equal(tables_topup(a->it.trees, a->actor, false), 0);
	assert_int_equal(tables_topup(b->it.trees, b->actor, false), 0);
	assert_true(section_enter(a->actor));
	assert_int_equal(tree_fill_new(a->actor, &x.it, first, w.run, w.nr_runs), 0);
	section_leave(a->actor);
	assert_true(section_enter(b->actor));
	link_and_fill(b, &y, first, &w);
	section_leave(b->actor);

	const entry_t *ours = table_entries(a->it.trees, pte_table_hpa(x.it.old));
	const entry_t *theirs = table_entries(b->it.trees, b->it.path[level]);

	for (unsigned int i = 0; i < TABLE_ENTRIES; i++)
		assert_int_equal(entry_read(&ours[i]).w, entry_read(&theirs[i]).w);
	/* The link's own event has another table's address. */
	assert_int_equal(a->said.event[0].level, level + 1);
	a->said.event[0].new_spte = b->said.event[0].new_spte;
	assert_same_events(a, b);
	for (unsigned int what = COUNT_TREE_TABLE; what <= TPT_LEVEL_1G; what++)
		assert_int_equal(count(a, what), count(b, what));
	b->it = saved;
	above_close(&x, a);
	above_close(&y, b);
	assert_int_equal(leaves(a), 0);
}

static void a_new_table_equals_one_that_is_linked_and_filled(void **state)
{
	static struct bench a, b;

	(void)state;
	for (enum tpt_format format = TPT_FORMAT_EPT; format <= TPT_FORMAT_NPT; format++) {
		for (unsigned int level = TPT_LEVEL_4K; level <= TPT_LEVEL_1G; level++) {
			bench_open(&a, format, level, 1);
			bench_open(&b, format, level, 1);
			for (unsigned int i = 0; i < 50; i++)
				compare_new(&a, &b);
			bench_close(&a);
			bench_close(&b);
		}
	}
}

static void a_new_table_under_a_dead_one_is_taken_back(void **state)
{
	struct tree_run run = {.nr = TABLE_ENTRIES};
	struct table *parent;
	struct above up;
	struct bench b;
	int64_t tables;

	(void)state;
	bench_open(&b, TPT_FORMAT_EPT, TPT_LEVEL_4K, 1);
	above_open(&up, &b);
	run.leaf = leaf_at(&b, 0, true);
	parent = table_header(b.it.trees, up.it.path[TPT_LEVEL_2M]);
	tables = count(&b, COUNT_TREE_TABLE);
	assert_int_equal(tables_topup(b.it.trees, b.actor, false), 0);
	atomic_store(&parent->dead, 1);
	assert_true(section_enter(b.actor));
	assert_int_equal(tree_fill_new(b.actor, &up.it, 0, &run, 1), -EBUSY);
	section_leave(b.actor);
	assert_int_equal(atomic_load(up.it.entry), PTE_EMPTY_WORD);
	above_close(&up, &b);
	assert_int_equal(leaves(&b), 0);
	assert_int_equal(count(&b, COUNT_TREE_TABLE), tables);
	assert_int_equal(b.said.nr, 0);
	atomic_store(&parent->dead, 0);
	bench_close(&b);
}

static void a_new_table_that_came_too_late_goes_back_to_the_cache(void **state)
{
	struct tree_run run = {.nr = 10};
	struct above up;
	struct bench b;
	uint32_t cached;

	(void)state;
	bench_open(&b, TPT_FORMAT_EPT, TPT_LEVEL_4K, 1);
	above_open(&up, &b);
	run.leaf = leaf_at(&b, 0, true);
	assert_int_equal(tables_topup(b.it.trees, b.actor, false), 0);
	cached = b.actor->tables.nr;
	/* Somebody else's is there. */
	atomic_store(up.it.entry, up.linked);
	assert_true(section_enter(b.actor));
	assert_int_equal(tree_fill_new(b.actor, &up.it, 3, &run, 1), -EBUSY);
	section_leave(b.actor);
	assert_int_equal(b.actor->tables.nr, cached);
	assert_int_equal(atomic_load(up.it.entry), up.linked);
	assert_int_equal(leaves(&b), 0);
	assert_int_equal(b.said.nr, 0);
	bench_close(&b);
}

/* It says what was there for a moment: a processor may have used it. */
static void a_dead_table_keeps_nothing(void **state)
{
	struct bench b;
	uint64_t hit[TREE_SWEEP_WORDS];
	struct tree_run run = {.nr = TABLE_ENTRIES - 100};
	struct table *table;

	(void)state;
	bench_open(&b, TPT_FORMAT_NPT, TPT_LEVEL_4K, 1);
	run.leaf = leaf_at(&b, 0, true);
	table = table_header(b.it.trees, b.it.path[1]);
	atomic_store(&table->dead, 1);
	atomic_store(&b.it.entry[70], leaf_at(&b, 7, false).w);
	assert_true(section_enter(b.actor));
	assert_int_equal(tree_fill(b.actor, &b.it, &run, 1, hit), -EBUSY);
	section_leave(b.actor);
	for (unsigned int i = 0; i < TABLE_ENTRIES; i++) {
		assert_int_equal(atomic_load(&b.it.entry[i]),
				 i == 70 ? leaf_at(&b, 7, false).w : PTE_EMPTY_WORD);
		assert_int_equal(hit[i / 64] >> (i % 64) & 1, i != 70 && i < run.nr);
	}
	assert_int_equal(leaves(&b), 0);
	assert_int_equal(b.said.nr, 0);
	atomic_store(&table->dead, 0);
	bench_close(&b);
}

static void one_word_that_is_no_leaf_refuses_all(void **state)
{
	struct bench b;
	struct tree_run run[3];
	uint64_t hit[TREE_SWEEP_WORDS];

	(void)state;
	for (unsigned int level = TPT_LEVEL_4K; level <= TPT_LEVEL_2M; level++) {
		bench_open(&b, TPT_FORMAT_EPT, level, 1);
		const struct pte_format *f = &b.it.trees->format;
		const tpt_spte bad[] = {pte_empty(), pte_frozen(), pte_block(leaf_at(&b, 5, true)),
					/* Its last frame is beyond any. */
					(tpt_spte){leaf_at(&b, 0, true).w | PTE_ADDR_MASK},
					/* At 2M: a table; and a frame that is not aligned. */
					pte_table(f, (tpt_hpa){GIB}),
					(tpt_spte){leaf_at(&b, 5, true).w + TPT_PAGE_SIZE}};

		for (unsigned int i = 0; i < (level == TPT_LEVEL_4K ? 4 : 6); i++) {
			run[0] = (struct tree_run){leaf_at(&b, 0, true), 300};
			run[1] = (struct tree_run){bad[i], 2};
			run[2] = (struct tree_run){leaf_at(&b, 302, true), 210};
			assert_true(section_enter(b.actor));
			assert_int_equal(tree_fill(b.actor, &b.it, run, 3, hit), -EIO);
			section_leave(b.actor);
			assert_true(tpt_vm_is_dead(b.h->vm));
			atomic_store(&b.h->vm->base.dead, 0);
			for (unsigned int k = 0; k < TABLE_ENTRIES; k++)
				assert_int_equal(atomic_load(&b.it.entry[k]), PTE_EMPTY_WORD);
		}
		bench_close(&b);
	}
}

static void refuses(struct bench *b, const struct tree_run *run)
{
	uint64_t hit[TREE_SWEEP_WORDS];

	assert_true(section_enter(b->actor));
	assert_int_equal(tree_fill(b->actor, &b->it, run, 1, hit), -EIO);
	section_leave(b->actor);
	assert_true(tpt_vm_is_dead(b->h->vm));
	atomic_store(&b->h->vm->base.dead, 0);
	assert_int_equal(atomic_load(b->it.entry), PTE_EMPTY_WORD);
}

static void neither_huge_leaves_for_code_nor_a_mirror_are_filled(void **state)
{
	struct tree_run run = {.nr = 1};
	struct bench b;

	(void)state;
	for (enum tpt_format format = TPT_FORMAT_EPT; format <= TPT_FORMAT_NPT; format++) {
		bench_open(&b, format, TPT_LEVEL_2M, 1);
		run.leaf = leaf_at(&b, 0, true);
		b.h->vm->trees.nx_huge_pages = true;
		refuses(&b, &run);
		b.h->vm->trees.nx_huge_pages = false;
		b.it.id = TREE_MIRROR;
		refuses(&b, &run);
		bench_close(&b);
	}
}

/* Two that fill one table at once: each entry is filled by one of them. */
struct racer {
	struct actor *actor;
	struct tree_iter it;
	struct tree_run run;
	uint64_t hit[TREE_SWEEP_WORDS];
	int done;
};

static void *race(void *arg)
{
	struct racer *r = arg;

	must(section_enter(r->actor));
	r->done = tree_fill(r->actor, &r->it, &r->run, 1, r->hit);
	section_leave(r->actor);
	return NULL;
}

static void two_at_once_share_the_entries(void **state)
{
	struct bench b;

	(void)state;
	bench_open(&b, TPT_FORMAT_NPT, TPT_LEVEL_4K, 2);
	for (unsigned int round = 0; round < 500; round++) {
		struct racer r[2];
		pthread_t thread[2];
		int64_t was = leaves(&b);

		for (unsigned int i = 0; i < TABLE_ENTRIES; i++)
			atomic_store(&b.it.entry[i], PTE_EMPTY_WORD);
		for (unsigned int i = 0; i < 2; i++)
			r[i] = (struct racer){.actor = &b.h->vcpu[i]->fault.actor,
					      .it = b.it,
					      .run = {leaf_at(&b, 0, !i), TABLE_ENTRIES}};
		for (unsigned int i = 0; i < 2; i++)
			assert_int_equal(pthread_create(&thread[i], NULL, race, &r[i]), 0);
		for (unsigned int i = 0; i < 2; i++)
			pthread_join(thread[i], NULL);
		for (unsigned int i = 0; i < TABLE_ENTRIES; i++) {
			unsigned int first = r[0].hit[i / 64] >> (i % 64) & 1;
			unsigned int second = r[1].hit[i / 64] >> (i % 64) & 1;

			assert_int_equal(first + second, 1);
			assert_int_equal(atomic_load(&b.it.entry[i]), leaf_at(&b, i, !second).w);
		}
		assert_int_equal(r[0].done, TABLE_ENTRIES);
		assert_int_equal(r[1].done, TABLE_ENTRIES);
		assert_int_equal(leaves(&b) - was, TABLE_ENTRIES);
	}
	bench_close(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_equals_the_first_form_repeated),
		cmocka_unit_test(a_new_table_equals_one_that_is_linked_and_filled),
		cmocka_unit_test(a_dead_table_keeps_nothing),
		cmocka_unit_test(a_new_table_under_a_dead_one_is_taken_back),
		cmocka_unit_test(a_new_table_that_came_too_late_goes_back_to_the_cache),
		cmocka_unit_test(one_word_that_is_no_leaf_refuses_all),
		cmocka_unit_test(neither_huge_leaves_for_code_nor_a_mirror_are_filled),
		cmocka_unit_test(two_at_once_share_the_entries),
	};

	return cmocka_run_group_tests_name("fill", tests, NULL, NULL);
}
