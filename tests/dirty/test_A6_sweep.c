// SPDX-License-Identifier: BSD-2-Clause
/*
 * A6, B1: the transition's second form equals the first form repeated, entry by entry, on random
 * tables; and a sweep or a transition beside a processor that sets A and D loses none of them.
 *
 * B1 is KVM 5.18's: changes of entries under the exclusive lock were plain loads and stores, and
 * flags that a processor set in between were gone. The processor here is a thread that sets D by a
 * locked operation as hardware does, as fast as it can.
 */
#include <pthread.h>

#include "mmu/vm/vm.h"
#include "tests/support/host.h"

#define GFN0 (1ull << 18) /* first frame of the table in question */

struct told {
	struct tpt_event e[TABLE_ENTRIES];
	unsigned int nr;
};

/* A VM with a path of direct tables down to GFN0, and nothing in them. */
struct lab {
	struct host *h;
	struct trees *trees;
	struct actor *actor;
	struct told told;
	unsigned int level;
	entry_t *entries; /* of the table at @level */
};

static void on_event(void *ctx, const struct tpt_event *event)
{
	struct lab *lab = ctx;

	if (event->kind == TPT_EVENT_SPTE_CHANGED && lab->told.nr < TABLE_ENTRIES)
		lab->told.e[lab->told.nr++] = *event;
}

static void lab_open(struct lab *lab, enum tpt_format format, uint32_t flags, unsigned int level)
{
	struct tree_iter it;
	struct tpt_vm_config c;

	memset(lab, 0, sizeof(*lab));
	host_config_npt(&c);
	c.format = format;
	c.flags = flags;
	c.event = on_event;
	c.event_ctx = lab;
	lab->h = host_create(&c, 1);
	lab->level = level;
	lab->trees = &lab->h->vm->trees;
	lab->actor = &lab->h->vcpu[0]->fault.actor;
	assert_int_equal(tables_topup(lab->trees, lab->actor, false), 0);
	assert_true(iter_start(&it, lab->trees, TREE_DIRECT, GFN0, GFN0 + 1, TPT_LEVEL_4K));
	for (; it.level > level; iter_down(&it)) {
		struct table *t =
			table_make(lab->trees, lab->actor, TREE_DIRECT, it.level - 1, GFN0);

		assert_int_equal(tree_transition(lab->actor, &it,
						 pte_table(&lab->trees->format, t->hpa),
						 TREE_SHARED),
				 0);
	}
	lab->entries = it.entry;
}

static void lab_close(struct lab *lab)
{
	for (unsigned int i = 0; i < TABLE_ENTRIES; i++)
		atomic_store(&lab->entries[i], PTE_EMPTY_WORD);
	assert_int_equal(host_end(lab->h), 0);
}

static struct tree_iter at(struct lab *lab, unsigned int index)
{
	uint64_t pages = tpt_level_pages(lab->level);
	struct tree_iter it;

	assert_true(iter_start(&it, lab->trees, TREE_DIRECT, GFN0 + index * pages,
			       GFN0 + TABLE_ENTRIES * pages, lab->level));
	while (it.level > lab->level)
		iter_down(&it);
	return it;
}

static uint64_t pick(uint64_t *random)
{
	*random = *random * 6364136223846793005ull + 1442695040888963407ull;
	return *random >> 24;
}

/* Any entry that a direct table may hold: leaves with each of their flags or without. */
static uint64_t random_entry(struct lab *lab, unsigned int index, uint64_t *random)
{
	const struct pte_format *f = &lab->trees->format;
	struct pte_leaf leaf = {.pfn = {(index + 1) * tpt_level_pages(lab->level)},
				.level = lab->level,
				.host_writable = pick(random) % 4,
				.write = true,
				.accessed = true,
				.memtype = f->memtype_wb};
	uint64_t w, drop = pick(random);

	switch (pick(random) % 8) {
	case 0:
		return PTE_EMPTY_WORD;
	case 1:
		if (lab->level == TPT_LEVEL_4K)
			return pte_make_mmio(f, index, 5, TPT_ACC_ALL).w;
		return PTE_EMPTY_WORD;
	default:
		w = pte_make_leaf(f, &leaf).w;
		w &= ~((drop & 1 ? f->write : 0) | (drop & 2 ? f->accessed : 0) |
		       (drop & 4 ? f->dirty : 0) |
		       ((drop & 25) == 25 ? f->write | f->mmu_writable : 0));
		return w;
	}
}

static uint64_t bits_of(const struct pte_format *f, enum tree_rule rule)
{
	return rule == TREE_WRITE_PROTECT ? f->write
	       : rule == TREE_WRITE_TRACK ? f->write | f->mmu_writable
	       : rule == TREE_CLEAR_DIRTY ? f->dirty
					  : f->accessed;
}

/* The rule by the first form: one transition for each leaf that has something to lose. */
static unsigned int repeat(struct lab *lab, enum tree_rule rule, unsigned int first,
			   unsigned int nr, const uint64_t *mask, uint64_t *hit, bool *flush)
{
	const uint64_t bits = bits_of(&lab->trees->format, rule);
	unsigned int hits = 0;

	for (unsigned int i = 0; i < nr; i++) {
		struct tree_iter it = at(lab, first + i);

		if ((mask && !(mask[i / 64] >> (i % 64) & 1)) || iter_kind(&it) != PTE_LEAF ||
		    !(it.old.w & bits))
			continue;
		it.must_flush = false;
		assert_int_equal(
			tree_transition(lab->actor, &it, (tpt_spte){it.old.w & ~bits}, TREE_SHARED),
			0);
		*flush |= it.must_flush;
		hit[i / 64] |= 1ull << (i % 64);
		hits++;
	}
	return hits;
}

static void same_events(const struct told *a, const struct told *b)
{
	assert_int_equal(a->nr, b->nr);
	for (unsigned int i = 0; i < a->nr; i++) {
		assert_int_equal(a->e[i].gfn, b->e[i].gfn);
		assert_int_equal(a->e[i].level, b->e[i].level);
		assert_int_equal(a->e[i].old_spte.w, b->e[i].old_spte.w);
		assert_int_equal(a->e[i].new_spte.w, b->e[i].new_spte.w);
	}
}

static void compare_once(struct lab *lab, enum tree_rule rule, uint64_t *random)
{
	uint64_t before[TABLE_ENTRIES], swept[TABLE_ENTRIES], mask[TREE_SWEEP_WORDS];
	unsigned int first = (unsigned int)(pick(random) % TABLE_ENTRIES);
	unsigned int nr = 1 + (unsigned int)(pick(random) % (TABLE_ENTRIES - first)), hits;
	struct tree_sweep sweep = {.rule = rule, .mask = pick(random) % 2 ? mask : NULL};
	uint64_t hit[TREE_SWEEP_WORDS] = {0};
	struct tree_iter it;
	struct told told;
	bool flush = false;

	for (unsigned int i = 0; i < TREE_SWEEP_WORDS; i++)
		mask[i] = pick(random) ^ pick(random) << 32;
	for (unsigned int i = 0; i < TABLE_ENTRIES; i++) {
		before[i] = random_entry(lab, i, random);
		atomic_store(&lab->entries[i], before[i]);
	}
	it = at(lab, first);
	it.must_flush = false;
	lab->told.nr = 0;
	hits = tree_sweep(lab->actor, &it, nr, &sweep);
	told = lab->told;
	for (unsigned int i = 0; i < TABLE_ENTRIES; i++) {
		swept[i] = atomic_load(&lab->entries[i]);
		atomic_store(&lab->entries[i], before[i]);
	}
	lab->told.nr = 0;
	assert_int_equal(repeat(lab, rule, first, nr, sweep.mask, hit, &flush), hits);
	for (unsigned int i = 0; i < TABLE_ENTRIES; i++)
		assert_int_equal(swept[i], atomic_load(&lab->entries[i]));
	assert_memory_equal(sweep.hit, hit, sizeof(hit));
	same_events(&told, &lab->told);
	/* Without its D a leaf gives no less: that a cached D must go is the log's business, and
	 * the sweep knows of it. */
	assert_int_equal(it.must_flush, rule == TREE_CLEAR_DIRTY ? hits > 0 : flush);
}

static void A6_a_sweep_equals_the_transition_repeated_on_random_tables(void **state)
{
	static const enum tree_rule rules[] = {TREE_WRITE_PROTECT, TREE_WRITE_TRACK,
					       TREE_CLEAR_DIRTY, TREE_AGE};
	uint64_t random = 42;

	(void)state;
	for (unsigned int i = 0; i < 6; i++) {
		enum tpt_format format = i % 3 ? TPT_FORMAT_EPT : TPT_FORMAT_NPT;
		/* Without A and D only W can be taken by both forms alike: age keeps R and X. */
		bool no_ad = i % 3 == 2;
		struct lab lab;

		lab_open(&lab, format, no_ad ? TPT_VM_NO_AD : 0, 1 + i / 3);
		for (unsigned int n = 0; n < 400; n++)
			compare_once(&lab, rules[n % (no_ad ? 2 : 4)], &random);
		lab_close(&lab);
	}
}

/* ---- B1 ---- */

struct processor {
	struct lab *lab;
	_Atomic bool stop;
	/* What its locked operation found, the last time it set D of the entry. */
	_Atomic uint64_t set[TABLE_ENTRIES];
};

/* Sets D of every leaf that it finds, as a walk of a writing guest does. */
static void *write_everywhere(void *arg)
{
	struct processor *p = arg;
	const struct pte_format *f = &p->lab->trees->format;

	while (!atomic_load_explicit(&p->stop, memory_order_relaxed))
		for (unsigned int i = 0; i < TABLE_ENTRIES; i++) {
			uint64_t w = atomic_load(&p->lab->entries[i]);

			if (!(w & PTE_MMU_PRESENT) || w & f->dirty)
				continue;
			if (atomic_compare_exchange_strong(&p->lab->entries[i], &w,
							   w | f->dirty | f->accessed))
				atomic_store(&p->set[i], w | f->dirty | f->accessed);
		}
	return NULL;
}

static void fill_clean(struct lab *lab)
{
	const struct pte_format *f = &lab->trees->format;

	for (unsigned int i = 0; i < TABLE_ENTRIES; i++) {
		const struct pte_leaf leaf = {.pfn = {i + 1},
					      .level = TPT_LEVEL_4K,
					      .host_writable = true,
					      .write = true,
					      .accessed = true,
					      .memtype = f->memtype_wb};

		atomic_store(&lab->entries[i], pte_make_leaf(f, &leaf).w & ~f->dirty);
	}
}

/*
 * Reads all leaves again and again, and writes each once: as behind a TLB that then knows it for
 * dirty, D is never set a second time.
 */
static void *read_all_and_write_each_once(void *arg)
{
	struct processor *p = arg;
	const struct pte_format *f = &p->lab->trees->format;
	unsigned int written = 0;

	for (unsigned int pass = 0; written < TABLE_ENTRIES; pass++)
		for (unsigned int i = 0; i < TABLE_ENTRIES; i++) {
			uint64_t flags = f->accessed;

			if (i % 16 == pass % 16 && !atomic_load(&p->set[i])) {
				flags |= f->dirty;
				atomic_store(&p->set[i], 1);
				written++;
			}
			if (~atomic_load(&p->lab->entries[i]) & flags)
				atomic_fetch_or(&p->lab->entries[i], flags);
		}
	atomic_store(&p->stop, true);
	return NULL;
}

static void B1_aging_beside_a_processor_loses_no_dirty_flag(void **state)
{
	static struct processor p;
	pthread_t thread;
	struct lab lab;

	(void)state;
	lab_open(&lab, TPT_FORMAT_EPT, 0, TPT_LEVEL_4K);
	p.lab = &lab;
	for (unsigned int round = 0; round < 400; round++) {
		for (unsigned int i = 0; i < TABLE_ENTRIES; i++)
			atomic_store(&p.set[i], 0);
		atomic_store(&p.stop, false);
		fill_clean(&lab);
		must(!pthread_create(&thread, NULL, read_all_and_write_each_once, &p));
		while (!atomic_load(&p.stop)) {
			struct tree_iter it = at(&lab, 0);
			struct tree_sweep sweep = {.rule = TREE_AGE};

			lab.told.nr = TABLE_ENTRIES;
			tree_sweep(lab.actor, &it, TABLE_ENTRIES, &sweep);
		}
		pthread_join(thread, NULL);
		for (unsigned int i = 0; i < TABLE_ENTRIES; i++)
			assert_true(atomic_load(&lab.entries[i]) & lab.trees->format.dirty);
	}
	lab_close(&lab);
}

/* In the exclusive section only processors write: what one set before the change is in the old
 * entry that the change tells of. */
static void B1_an_exclusive_change_tells_of_every_flag_that_was_set_before_it(void **state)
{
	static struct processor p;
	pthread_t thread;
	struct lab lab;
	unsigned int late = 0;

	(void)state;
	lab_open(&lab, TPT_FORMAT_EPT, 0, TPT_LEVEL_4K);
	p.lab = &lab;
	for (unsigned int round = 0; round < 300; round++) {
		for (unsigned int i = 0; i < TABLE_ENTRIES; i++)
			atomic_store(&p.set[i], 0);
		atomic_store(&p.stop, false);
		lab.told.nr = 0;
		fill_clean(&lab);
		must(!pthread_create(&thread, NULL, write_everywhere, &p));
		section_exclusive_begin(lab.trees->base);
		for (unsigned int i = TABLE_ENTRIES; i-- > 0;) {
			struct tree_iter it = at(&lab, i);

			must(!tree_transition(lab.actor, &it, pte_empty(), TREE_EXCLUSIVE));
		}
		section_exclusive_end(lab.trees->base);
		atomic_store(&p.stop, true);
		pthread_join(thread, NULL);
		assert_int_equal(lab.told.nr, TABLE_ENTRIES);
		for (unsigned int i = 0; i < TABLE_ENTRIES; i++) {
			const struct tpt_event *e = &lab.told.e[TABLE_ENTRIES - 1 - i];

			/* Nothing comes back after it. */
			assert_int_equal(atomic_load(&lab.entries[i]), PTE_EMPTY_WORD);
			if (!atomic_load(&p.set[i]))
				continue;
			late++;
			assert_int_equal(e->old_spte.w, atomic_load(&p.set[i]));
		}
	}
	assert_true(late > 0);
	lab_close(&lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(A6_a_sweep_equals_the_transition_repeated_on_random_tables),
		cmocka_unit_test(B1_aging_beside_a_processor_loses_no_dirty_flag),
		cmocka_unit_test(B1_an_exclusive_change_tells_of_every_flag_that_was_set_before_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
