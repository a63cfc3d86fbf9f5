// SPDX-License-Identifier: BSD-2-Clause
/*
 * The model processor against plain maps: random trees with every flush, with flushes left out, and
 * with several threads changing what others use. Seeds are printed; SEED=n repeats a run.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "tests/machine/tree.h"

#define R     MACHINE_READ
#define W     MACHINE_WRITE
#define X     MACHINE_EXEC
#define PAGES 1024u /* the window: two 2 MiB pages at 1 GiB */
#define BASE  GIB

static uint64_t seed_now(void)
{
	const char *env = getenv("SEED");
	uint64_t seed = env ? strtoull(env, NULL, 0) : 0x5eed0000 + (uintptr_t)&env / 16 % 65536;

	print_message("SEED=%llu\n", (unsigned long long)seed);
	return seed;
}

/* What the plain map says of one 4 KiB page. */
struct plain {
	uint64_t hpa;
	uint8_t rights;
	uint8_t level; /* 0: nothing mapped */
};

struct world {
	struct tree t;
	struct plain now[PAGES];
	uint64_t small, large; /* frames to map: 1024 of 4 KiB, 4 of 2 MiB */
	uint64_t seed;
	bool npt;
};

static void world_make(struct world *w, uint64_t seed)
{
	static const uint32_t limits[] = {0, 5, 40};

	memset(w, 0, sizeof(*w));
	w->seed = seed;
	w->npt = rnd(&w->seed) & 1;
	machine_config_default(&w->t.config);
	w->t.config.tlb_entries = limits[rnd(&w->seed) % 3];
	w->t.config.evict = rnd(&w->seed) & 1 ? MACHINE_EVICT_RANDOM : MACHINE_EVICT_LRU;
	tree_make(&w->t, w->npt ? MACHINE_ROOT_NPT : MACHINE_ROOT_EPT, rnd(&w->seed) & 1 ? 4 : 5,
		  rnd(&w->seed) & 1);
	w->small = block(&w->t, 10);
	w->large = block(&w->t, 11);
}

static uint64_t leaf_word(const struct world *w, uint64_t hpa, unsigned int rights,
			  unsigned int level)
{
	uint64_t big = level > 1 ? 0x80 : 0;

	if (!rights)
		return 0;
	if (w->npt)
		return hpa | big | 5 | (rights & W) | (rights & X ? 0 : 1ull << 63);
	return hpa | big | 0x30 | rights;
}

/* Change the tables and the plain map alike; returns the range that a flush is owed for. */
static void change(struct world *w, uint64_t *start, uint64_t *end)
{
	static const uint8_t rights[] = {0, R, R | W, R | X, R | W | X};
	unsigned int level = rnd(&w->seed) % 8 ? 1 : 2, n = rnd(&w->seed) % PAGES;
	unsigned int r = rights[rnd(&w->seed) % 5];
	unsigned int count = level == 2 ? 512 : 1;
	uint64_t hpa = level == 2 ? w->large + (rnd(&w->seed) % 4 << 21)
				  : w->small + (rnd(&w->seed) % 1024 << 12);
	uint64_t gpa = BASE + (n & ~(count - 1)) * 4096ull, *pde = tree_entry(&w->t, gpa, 2);

	*start = gpa;
	*end = gpa + count * 4096ull;
	if (level == 1 && *pde & 0x80) { /* a large page gives way to an empty table */
		*pde = 0;
		memset(&w->now[n & ~511u], 0, 512 * sizeof(w->now[0]));
		*start = gpa & ~0x1fffffull;
		*end = *start + (2 << 20);
	}
	*tree_entry(&w->t, gpa, level) = leaf_word(w, hpa, r, level);
	for (unsigned int i = 0; i < count; i++)
		w->now[(n & ~(count - 1)) + i] =
			(struct plain){hpa + i * 4096ull, r, r ? level : 0};
}

static bool agrees(const struct plain *p, const struct machine_result *r, unsigned int kind)
{
	bool allowed = p->level && !(kind & ~p->rights);

	if (r->outcome == MACHINE_OK)
		return allowed && r->hpa == p->hpa + (r->gpa & 4095) && r->level == p->level;
	return !allowed && (r->outcome == MACHINE_NPF || r->outcome == MACHINE_EPT_VIOLATION);
}

static struct machine_result access_page(struct world *w, unsigned int n, unsigned int *kind)
{
	static const unsigned int kinds[] = {R, W, X};

	*kind = kinds[rnd(&w->seed) % 3];
	return touch(&w->t, BASE + n * 4096ull + rnd(&w->seed) % 4096, *kind);
}

static void flushed_tree_equals_plain_map(void **state)
{
	uint64_t seed = seed_now();

	(void)state;
	for (unsigned int round = 0; round < 20; round++) {
		struct world w;

		world_make(&w, seed + round);
		for (unsigned int i = 0; i < 5000; i++) {
			unsigned int n = rnd(&w.seed) % PAGES, kind;
			struct machine_result r;
			uint64_t start, end;

			if (rnd(&w.seed) % 16 == 0) {
				change(&w, &start, &end);
				machine_flush(w.t.m, NULL, TAG, start, end, MACHINE_FLUSH_REMOTE);
				machine_promise(w.t.m, TAG, start, end, MACHINE_NOW, "change");
			}
			r = access_page(&w, n, &kind);
			assert_true(agrees(&w.now[n], &r, kind));
		}
		assert_int_equal(machine_report_count(w.t.m), 0);
		tree_free(&w.t);
	}
}

/* Without a flush an answer is the map's of now or of some time since the last one: never another.
 */
static void unflushed_answers_are_of_the_past(void **state)
{
	uint64_t seed = seed_now();
	unsigned int stale = 0;

	(void)state;
	for (unsigned int round = 0; round < 10; round++) {
		static struct plain past[64][PAGES];
		unsigned int nr = 0;
		struct world w;

		world_make(&w, seed + round);
		for (unsigned int i = 0; i < 5000; i++) {
			unsigned int n = rnd(&w.seed) % PAGES, kind, found;
			struct machine_result r;
			uint64_t start, end;

			if (rnd(&w.seed) % 32 == 0) {
				memcpy(past[nr++], w.now, sizeof(w.now));
				change(&w, &start, &end);
			}
			if (nr == 64) {
				tree_flush(&w.t);
				nr = 0;
			}
			r = access_page(&w, n, &kind);
			for (found = 0; found < nr && !agrees(&past[found][n], &r, kind); found++)
				;
			stale += !agrees(&w.now[n], &r, kind);
			assert_true(agrees(&w.now[n], &r, kind) || found < nr);
		}
		assert_int_equal(machine_report_count(w.t.m), 0);
		tree_free(&w.t);
	}
	assert_true(stale > 100); /* staleness did happen */
}

/* A promise without its flush: reported exactly when something older than it is used. */
static void every_use_of_a_broken_promise_is_reported(void **state)
{
	uint64_t seed = seed_now();
	uint64_t reports = 0;

	(void)state;
	for (unsigned int round = 0; round < 20; round++) {
		struct world w;

		world_make(&w, seed + round);
		for (unsigned int i = 0; i < 5000; i++) {
			unsigned int n = rnd(&w.seed) % PAGES, kind;
			struct machine_result r;
			uint64_t start, end;

			if (rnd(&w.seed) % 16 == 0) {
				change(&w, &start, &end);
				machine_promise(w.t.m, TAG, start, end, MACHINE_NOW, "no flush");
			}
			r = access_page(&w, n, &kind);
			/* the judge made good what was missing, so the answer is right */
			assert_true(agrees(&w.now[n], &r, kind));
		}
		reports += machine_report_count(w.t.m);
		tree_free(&w.t);
	}
	assert_true(reports > 100);
}

/* ---- threads -------------------------------------------------------------------------------- */

#define SHARED 8u
#define LPS    3u

struct race {
	struct tree t;
	uint64_t seed;
	uint64_t *entry[SHARED];
	atomic_bool stop;
	atomic_uint brought_back, lost_dirty, writes;
};

struct racer {
	struct race *race;
	unsigned int lp;
};

static void *race_guest(void *arg)
{
	struct racer *me = arg;
	struct machine_cpu *cpu = machine_get_cpu(me->race->t.m, me->lp);
	uint64_t seed = me->race->seed + me->lp;

	while (!atomic_load(&me->race->stop)) {
		uint64_t mark = ~0ull;
		struct machine_result r;
		uint64_t gpa = BASE + rnd(&seed) % SHARED * 4096;

		if (rnd(&seed) & 1)
			machine_read(cpu, gpa, &mark, 8, &r);
		else if (machine_write(cpu, gpa + 8 * me->lp, &mark, 8, &r) == MACHINE_OK)
			atomic_fetch_add(&me->race->writes, 1);
	}
	return NULL;
}

/* Take page @n away as a good VMM would, look whether that held, and map another frame. */
static void race_replace(struct race *race, unsigned int n, uint64_t dirty, uint64_t leaf)
{
	uint64_t gpa = BASE + n * 4096ull, ticket = machine_now(race->t.m), old, hpa, marks = 0;

	old = __atomic_exchange_n(race->entry[n], 0, __ATOMIC_SEQ_CST);
	for (unsigned int i = 0; i < 200; i++)
		race->brought_back += __atomic_load_n(race->entry[n], __ATOMIC_RELAXED) != 0;
	machine_flush(race->t.m, NULL, TAG, gpa, gpa + 4096, MACHINE_FLUSH_REMOTE);
	machine_promise(race->t.m, TAG, gpa, gpa + 4096, ticket, "replace");
	hpa = old & 0xffffffffff000ull;
	for (unsigned int i = 0; i < LPS; i++)
		marks |= word(&race->t, hpa)[i];
	race->lost_dirty += marks && !(old & dirty);
	assert_int_equal(machine_mem_free(race->t.m, hpa, 0), 0);
	__atomic_store_n(race->entry[n], page(&race->t) | leaf, __ATOMIC_SEQ_CST);
}

static void race_run(enum machine_root_kind kind, uint64_t dirty, uint64_t leaf)
{
	struct race race = {.seed = seed_now()};
	struct racer racer[LPS];
	pthread_t thread[LPS];
	uint64_t seed = race.seed;

	machine_config_default(&race.t.config);
	race.t.config.nr_cpus = LPS;
	tree_make(&race.t, kind, 4, true);
	for (unsigned int n = 0; n < SHARED; n++) {
		race.entry[n] = tree_entry(&race.t, BASE + n * 4096ull, 1);
		*race.entry[n] = page(&race.t) | leaf;
	}
	for (unsigned int i = 0; i < LPS; i++) {
		racer[i] = (struct racer){&race, i};
		machine_cpu_load(machine_get_cpu(race.t.m, i), &race.t.root);
		pthread_create(&thread[i], NULL, race_guest, &racer[i]);
	}
	for (unsigned int i = 0; i < 15000; i++)
		race_replace(&race, rnd(&seed) % SHARED, dirty, leaf);
	atomic_store(&race.stop, true);
	for (unsigned int i = 0; i < LPS; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(race.brought_back, 0);
	assert_int_equal(race.lost_dirty, 0);
	assert_true(race.writes > 1000);
	assert_int_equal(machine_report_count(race.t.m), 0);
	tree_free(&race.t);
}

static void flags_never_bring_an_entry_back_ept(void **state)
{
	(void)state;
	race_run(MACHINE_ROOT_EPT, 0x200, 0x37);
}

static void flags_never_bring_an_entry_back_npt(void **state)
{
	(void)state;
	race_run(MACHINE_ROOT_NPT, 0x40, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(flushed_tree_equals_plain_map),
		cmocka_unit_test(unflushed_answers_are_of_the_past),
		cmocka_unit_test(every_use_of_a_broken_promise_is_reported),
		cmocka_unit_test(flags_never_bring_an_entry_back_ept),
		cmocka_unit_test(flags_never_bring_an_entry_back_npt),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
