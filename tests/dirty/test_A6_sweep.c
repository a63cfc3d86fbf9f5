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
#include <sched.h>

#include "mmu/tree/walk.h"
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
					  : f->young;
}

static bool zaps(enum tree_rule rule)
{
	return rule == TREE_ZAP || rule == TREE_ZAP_MMIO;
}

/* What both forms have to say. */
struct outcome {
	uint64_t entry[TABLE_ENTRIES];
	uint64_t hit[TREE_SWEEP_WORDS], dirty[TREE_SWEEP_WORDS], young[TREE_SWEEP_WORDS];
	unsigned int hits;
	bool flush;
	int64_t leaves, mmio; /* counted */
	struct told told;
};

static void set_bit(uint64_t *words, unsigned int i, bool value)
{
	words[i / 64] |= (uint64_t)value << (i % 64);
}

/* The rule by the first form: one transition for each leaf that has something to lose. */
static void repeat(struct lab *lab, enum tree_rule rule, unsigned int first, unsigned int nr,
		   const uint64_t *mask, struct outcome *o)
{
	const struct pte_format *f = &lab->trees->format;
	enum tree_mode mode = zaps(rule) ? TREE_EXCLUSIVE : TREE_SHARED;

	for (unsigned int i = 0; i < nr; i++) {
		struct tree_iter it = at(lab, first + i);
		tpt_spte old = it.old, new_ = {it.old.w & ~bits_of(f, rule)};
		enum pte_kind kind = iter_kind(&it);

		if (mask && !(mask[i / 64] >> (i % 64) & 1))
			continue;
		if (kind != PTE_LEAF && !(kind == PTE_MMIO && rule == TREE_ZAP_MMIO))
			continue;
		if (!zaps(rule) && pte_same(old, new_))
			continue;
		it.must_flush = false;
		if (rule == TREE_AGE)
			new_ = pte_age(f, old);
		if (rule != TREE_TEST_AGE)
			assert_int_equal(tree_transition(lab->actor, &it,
							 zaps(rule) ? pte_empty() : new_, mode),
					 0);
		/* Without its D a leaf gives no less, and young is a hint: what a flush is owed
		 * for then is the rule's to know. */
		o->flush |= rule == TREE_CLEAR_DIRTY || (rule != TREE_AGE && it.must_flush);
		o->hits += kind == PTE_LEAF;
		set_bit(o->hit, i, kind == PTE_LEAF);
		if (kind != PTE_LEAF || !zaps(rule))
			continue;
		set_bit(o->dirty, i, old.w & (f->dirty ? f->dirty : f->write));
		set_bit(o->young, i, pte_is_young(f, old));
	}
}

static void sweep(struct lab *lab, enum tree_rule rule, unsigned int first, unsigned int nr,
		  const uint64_t *mask, struct outcome *o)
{
	struct tree_sweep s = {.rule = rule, .mask = mask};
	struct tree_iter it = at(lab, first);

	it.must_flush = false;
	o->hits = tree_sweep(lab->actor, &it, nr, &s);
	assert_int_equal(s.done, nr);
	o->flush = it.must_flush;
	for (unsigned int i = 0; i < (nr + 63) / 64; i++) {
		o->hit[i] = s.hit[i];
		o->dirty[i] = zaps(rule) ? s.dirty[i] : 0;
		o->young[i] = zaps(rule) ? s.young[i] : 0;
	}
}

/* One form on the entries in @before. */
static void run_form(struct lab *lab, bool second, enum tree_rule rule, unsigned int first,
		     unsigned int nr, const uint64_t *mask, const uint64_t *before,
		     struct outcome *o)
{
	unsigned int leaves = count_tree(TPT_TREE_DIRECT, lab->level);
	unsigned int mmio = count_tree(TPT_TREE_DIRECT, COUNT_TREE_MMIO);

	memset(o, 0, sizeof(*o));
	for (unsigned int i = 0; i < TABLE_ENTRIES; i++)
		atomic_store(&lab->entries[i], before[i]);
	lab->told.nr = 0;
	o->leaves = -trees_count(lab->trees, leaves);
	o->mmio = -trees_count(lab->trees, mmio);
	(second ? sweep : repeat)(lab, rule, first, nr, mask, o);
	o->leaves += trees_count(lab->trees, leaves);
	o->mmio += trees_count(lab->trees, mmio);
	o->told = lab->told;
	for (unsigned int i = 0; i < TABLE_ENTRIES; i++)
		o->entry[i] = atomic_load(&lab->entries[i]);
}

static void same_outcome(const struct outcome *a, const struct outcome *b)
{
	assert_memory_equal(a->entry, b->entry, sizeof(a->entry));
	assert_memory_equal(a->hit, b->hit, sizeof(a->hit));
	assert_memory_equal(a->dirty, b->dirty, sizeof(a->dirty));
	assert_memory_equal(a->young, b->young, sizeof(a->young));
	assert_int_equal(a->hits, b->hits);
	assert_int_equal(a->flush, b->flush);
	assert_int_equal(a->leaves, b->leaves);
	assert_int_equal(a->mmio, b->mmio);
	assert_int_equal(a->told.nr, b->told.nr);
	for (unsigned int i = 0; i < a->told.nr; i++) {
		assert_int_equal(a->told.e[i].gfn, b->told.e[i].gfn);
		assert_int_equal(a->told.e[i].level, b->told.e[i].level);
		assert_int_equal(a->told.e[i].old_spte.w, b->told.e[i].old_spte.w);
		assert_int_equal(a->told.e[i].new_spte.w, b->told.e[i].new_spte.w);
	}
}

static void compare_once(struct lab *lab, enum tree_rule rule, uint64_t *random)
{
	uint64_t before[TABLE_ENTRIES], mask[TREE_SWEEP_WORDS];
	unsigned int first = (unsigned int)(pick(random) % TABLE_ENTRIES);
	unsigned int nr = 1 + (unsigned int)(pick(random) % (TABLE_ENTRIES - first));
	const uint64_t *wanted = pick(random) % 2 ? mask : NULL;
	struct vm_base *base = lab->trees->base;
	bool all_young = pick(random) % 4 == 0;
	struct outcome a, b;

	/* Whether somebody listens is a difference in how it is done, not in what. */
	base->event = pick(random) % 2 ? on_event : NULL;
	lab->trees->told = base->event;
	for (unsigned int i = 0; i < TREE_SWEEP_WORDS; i++)
		mask[i] = pick(random) % 4 ? pick(random) ^ pick(random) << 32 : ~0ull;
	for (unsigned int i = 0; i < TABLE_ENTRIES; i++) {
		before[i] = random_entry(lab, i, random);
		if (all_young && before[i] & PTE_MMU_PRESENT)
			before[i] |= lab->trees->format.accessed;
	}
	if (zaps(rule))
		section_exclusive_begin(base);
	run_form(lab, false, rule, first, nr, wanted, before, &a);
	run_form(lab, true, rule, first, nr, wanted, before, &b);
	if (zaps(rule))
		section_exclusive_end(base);
	same_outcome(&a, &b);
}

static void A6_a_sweep_equals_the_transition_repeated_on_random_tables(void **state)
{
	static const enum tree_rule rules[] = {
		TREE_WRITE_PROTECT, TREE_WRITE_TRACK, TREE_ZAP, TREE_ZAP_MMIO,
		TREE_TEST_AGE,	    TREE_CLEAR_DIRTY, TREE_AGE,
	};
	uint64_t random = 42;

	(void)state;
	for (unsigned int i = 0; i < 6; i++) {
		enum tpt_format format = i % 3 ? TPT_FORMAT_EPT : TPT_FORMAT_NPT;
		/* Without A and D there is no D to clear. */
		bool no_ad = i % 3 == 2;
		struct lab lab;

		lab_open(&lab, format, no_ad ? TPT_VM_NO_AD : 0, 1 + i / 3);
		for (unsigned int n = 0; n < 700; n++) {
			enum tree_rule rule = rules[n % 7];

			if (!no_ad || rule != TREE_CLEAR_DIRTY)
				compare_once(&lab, rule, &random);
		}
		lab_close(&lab);
	}
}

/* What is not the direct tree's, or not for a shared section, is refused and ends the VM. */
static void a_sweep_that_is_not_legal_changes_nothing(void **state)
{
	for (unsigned int mirror = 0; mirror < 2; mirror++) {
		struct tree_sweep s = {.rule = mirror ? TREE_AGE : TREE_ZAP};
		struct tree_iter it;
		struct lab lab;
		uint64_t random = 7, w;

		(void)state;
		lab_open(&lab, TPT_FORMAT_EPT, 0, TPT_LEVEL_4K);
		do
			w = random_entry(&lab, 0, &random);
		while (!(w & PTE_MMU_PRESENT) || !(w & lab.trees->format.young));
		atomic_store(&lab.entries[0], w);
		it = at(&lab, 0);
		if (mirror)
			it.id = TREE_MIRROR;
		assert_int_equal(tree_sweep(lab.actor, &it, 8, &s), 0);
		assert_int_equal(atomic_load(&lab.entries[0]), w);
		assert_true(tpt_vm_is_dead(lab.h->vm));
		lab_close(&lab);
	}
}

/* Above the lowest level wanted a sweep leaves off where a table begins. */
static void a_sweep_stops_before_a_table(void **state)
{
	static const enum tree_rule rules[] = {TREE_WRITE_PROTECT, TREE_TEST_AGE, TREE_ZAP};

	(void)state;
	for (unsigned int n = 0; n < 6; n++) {
		struct tree_sweep s = {.rule = rules[n / 2]};
		struct tree_iter it;
		struct lab lab;

		lab_open(&lab, TPT_FORMAT_EPT, 0, TPT_LEVEL_2M);
		for (unsigned int i = 0; i < 100; i++)
			atomic_store(&lab.entries[i],
				     pte_make_leaf(&lab.trees->format,
						   &(struct pte_leaf){.pfn = {512 * i},
								      .level = TPT_LEVEL_2M,
								      .host_writable = true,
								      .write = true,
								      .accessed = true})
					     .w);
		atomic_store(&lab.entries[70],
			     pte_table(&lab.trees->format, (tpt_hpa){1ull << 30}).w);
		it = at(&lab, 0);
		/* The lowest level: tables are passed over. */
		it.min_level = n % 2 ? TPT_LEVEL_2M : TPT_LEVEL_4K;
		section_exclusive_begin(lab.trees->base);
		assert_int_equal(tree_sweep(lab.actor, &it, 100, &s), n % 2 ? 99 : 70);
		section_exclusive_end(lab.trees->base);
		assert_int_equal(s.done, n % 2 ? 100 : 70);
		assert_int_equal(s.hit[1], n % 2 ? 0xfffffffbful : 0x3f);
		lab_close(&lab);
	}
}

/* One page, walk and all, against the general way. */
static void a_page_zapped_alone_is_a_sweep_of_one(void **state)
{
	uint64_t random = 1;

	(void)state;
	for (unsigned int n = 0; n < 2000; n++) {
		static struct lab lab;
		struct tree_sweep s = {.rule = TREE_ZAP};
		struct tree_spot page;
		struct tree_iter it;
		unsigned int i = (unsigned int)(pick(&random) % TABLE_ENTRIES), hits;
		uint64_t w, pages;
		tpt_gfn gfn;

		if (n % 500 == 0)
			lab_open(&lab, n % 1000 ? TPT_FORMAT_EPT : TPT_FORMAT_NPT, 0, TPT_LEVEL_4K);
		lab.trees->told = false;
		pages = tpt_level_pages(lab.level);
		gfn = GFN0 + i * pages + pick(&random) % pages;
		w = random_entry(&lab, i, &random);
		section_exclusive_begin(lab.trees->base);
		atomic_store(&lab.entries[i], w);
		assert_true(iter_start_runs(&it, lab.trees, TREE_DIRECT, gfn, gfn + 1, lab.level,
					    ITER_ALL));
		hits = tree_sweep(lab.actor, &it, it.nr, &s);
		w = lab.entries[i] == PTE_EMPTY_WORD ? w : lab.entries[i];
		atomic_store(&lab.entries[i], w);
		page = tree_walk(lab.trees, TREE_DIRECT, gfn, TPT_LEVEL_4K);
		if (pte_is_present(page.old))
			page.old = tree_zap_leaf(lab.actor, page);
		section_exclusive_end(lab.trees->base);
		assert_int_equal(pte_is_present(page.old), hits);
		if (hits) {
			assert_int_equal(page.old.w, w);
			assert_int_equal(page.level, lab.level);
			assert_int_equal(lab.entries[i], PTE_EMPTY_WORD);
		} else {
			assert_int_equal(lab.entries[i], w);
		}
		assert_int_equal(lab.actor->count[count_tree(TPT_TREE_DIRECT, lab.level)] % 2, 0);
		if (n % 500 == 499)
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
		/* From the first on it writes, from the last on they go. */
		while (!atomic_load(&p.set[0]))
			sched_yield();
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
		cmocka_unit_test(a_sweep_that_is_not_legal_changes_nothing),
		cmocka_unit_test(a_sweep_stops_before_a_table),
		cmocka_unit_test(a_page_zapped_alone_is_a_sweep_of_one),
		cmocka_unit_test(B1_aging_beside_a_processor_loses_no_dirty_flag),
		cmocka_unit_test(B1_an_exclusive_change_tells_of_every_flag_that_was_set_before_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
