// SPDX-License-Identifier: BSD-2-Clause
/*
 * Processors that set A and D by themselves, on threads of their own, beside every operation on a
 * range: no flag and no entry is lost. Times nothing.
 *
 * The books are kept by who can't know of the other: the processors count the flags that they set,
 * the library says how many its walks took. Whatever one set and nobody took must be there at the
 * end; an entry that was written as if nobody else did makes the books wrong for good.
 */
#include <sched.h>

#include <triptych/aging.h>
#include <triptych/dirty.h>
#include <triptych/nx.h>

#include "mmu/vm/vm.h"
#include "tests/dirty/log.h"
#include "tests/support/guest.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SLOWER 8u
#else
#define SLOWER 1u
#endif

/* ---- the books of A and D ---- */

#define PAGES	 2048u /* four leaf tables */
#define WRITERS	 2u
#define PREMAPER 2u /* a vCPU that is never in the guest */
#define OPS	 (6000u / SLOWER)
#define HOT	 8u /* pages that are used more than all others, and taken one by one */

struct books {
	struct guest *g;
	struct tpt_backing_ops backing;
	_Atomic bool stop;
	/* What the library says that it took, or gave. */
	_Atomic uint64_t dirty, young, zapped, zapped_dirty, zapped_young;
	_Atomic uint64_t told_zapped; /* the same by the call's answer */
};

static struct books books;

static void on_zapped(void *ctx, const struct tpt_zapped *z)
{
	(void)ctx;
	for (unsigned int i = 0; i < (z->nr + 63) / 64; i++) {
		books.zapped += (unsigned int)__builtin_popcountll(z->gone[i]);
		books.zapped_dirty += (unsigned int)__builtin_popcountll(z->dirty[i]);
		books.zapped_young += (unsigned int)__builtin_popcountll(z->young[i]);
	}
}

struct user {
	unsigned int v;
	uint64_t random;
	pthread_t thread;
};

/* Reads and writes what is mapped. What is not, or may not be written, is not asked for: then the
 * only one who sets flags is the processor. */
static void *use_all_pages(void *arg)
{
	struct user *u = arg;
	struct machine_cpu *cpu = books.g->v[u->v].cpu;
	struct machine_result r;

	must(!guest_load(books.g, u->v));
	for (unsigned int n = 0; !atomic_load(&books.stop); n++) {
		uint64_t gpa = guest_pick(&u->random, n % 2 ? HOT : PAGES) * 4096;

		machine_cpu_enter_guest(cpu);
		machine_access(cpu, gpa, guest_pick(&u->random, 3) ? MACHINE_WRITE : MACHINE_READ,
			       &r);
		machine_cpu_leave_guest(cpu);
		/* What it has cached it does not mark again. */
		if (n % 16 == 0)
			machine_flush(books.g->machine, cpu, MACHINE_TAG_ALL, 0, MACHINE_GPA_END,
				      MACHINE_FLUSH_LOCAL);
	}
	return NULL;
}

static void sweep(uint64_t *random, enum tree_rule rule)
{
	struct tpt_vm *vm = books.g->vm;
	tpt_gfn start = guest_pick(random, PAGES), end = start + 1 + guest_pick(random, 700);
	struct range_sweep op = {.rule = rule,
				 .min_level = TPT_LEVEL_4K,
				 .tree = TREE_DIRECT,
				 .range = {start, end},
				 .pos = start};
	struct actor *worker = worker_get(vm);

	worker_enter(worker);
	must(!range_sweep_chunk(&vm->env, worker, &op));
	worker_leave(worker);
	worker_put(vm, worker);
	if (rule == TREE_CLEAR_DIRTY)
		books.dirty += op.hits;
	if (rule == TREE_AGE)
		books.young += op.hits;
}

static void sweep_by_mask(uint64_t *random)
{
	struct tpt_vm *vm = books.g->vm;
	struct actor *worker = worker_get(vm);
	uint64_t mask[RANGE_MASK_WORDS];

	for (unsigned int i = 0; i < RANGE_MASK_WORDS; i++)
		mask[i] = guest_pick(random, 3) ? guest_pick(random, ~0u) * 0x100000001ull : ~0ull;
	worker_enter(worker);
	books.dirty += range_sweep_masked(&vm->env, worker, TREE_DIRECT, TREE_CLEAR_DIRTY,
					  guest_pick(random, PAGES), mask,
					  1 + (unsigned int)guest_pick(random, RANGE_MASK_WORDS));
	worker_leave(worker);
	worker_put(vm, worker);
}

static void age(uint64_t *random)
{
	uint64_t start = guest_pick(random, PAGES - 600), young[10] = {0};

	must(tpt_vm_age(books.g->vm, tpt_hva_make(GUEST_HVA + start * 4096),
			tpt_hva_make(GUEST_HVA + (start + 600) * 4096), young) >= 0);
	for (unsigned int i = 0; i < 10; i++)
		books.young += (unsigned int)__builtin_popcountll(young[i]);
}

static void zap(uint64_t start, uint64_t nr)
{
	struct tpt_invalidation t;
	int n = tpt_vm_invalidate_begin(books.g->vm, tpt_hva_make(GUEST_HVA + start * 4096),
					tpt_hva_make(GUEST_HVA + (start + nr) * 4096), &t);

	must(n >= 0);
	books.told_zapped += (unsigned int)n;
	tpt_vm_invalidate_end(books.g->vm, &t);
}

static void premap(uint64_t pages)
{
	uint64_t done;
	int err;

	must(!guest_load(books.g, PREMAPER));
	err = tpt_vcpu_premap(books.g->v[PREMAPER].vcpu, 0, pages, TPT_ACC_READ | TPT_ACC_WRITE,
			      &done);
	must(!err || err == -EAGAIN);
}

/* Pages that everybody uses go one by one, and come back. */
static void zap_hot(void)
{
	for (unsigned int page = 0; page < HOT; page++)
		zap(page, 1);
	premap(HOT);
}

static void zap_some(uint64_t *random)
{
	uint64_t start = guest_pick(random, PAGES);

	zap(start, 1 + guest_pick(random, PAGES - start));
}

static void one_sweep(uint64_t *random)
{
	switch (guest_pick(random, 12)) {
	case 0:
		sweep(random, TREE_WRITE_PROTECT);
		break;
	case 1:
		sweep(random, TREE_TEST_AGE);
		break;
	case 2:
	case 3:
		sweep_by_mask(random);
		break;
	case 4:
	case 5:
		age(random);
		break;
	case 6:
	case 7:
	case 8:
		sweep(random, TREE_AGE);
		break;
	default:
		sweep(random, TREE_CLEAR_DIRTY);
	}
}

/* Sweeps side by side: both look at the same tables. */
static void *sweep_all_the_time(void *arg)
{
	struct user *u = arg;

	for (unsigned int i = 0; i < OPS; i++)
		one_sweep(&u->random);
	return NULL;
}

static void open_books(enum tpt_format format, uint64_t seed)
{
	const struct tpt_memory_region ram = {.size = PAGES * 4096ull, .hva = {GUEST_HVA}};
	struct tpt_vm_config c;

	memset(&books, 0, sizeof(books));
	host_config_npt(&c);
	c.format = format;
	c.max_leaf_level = TPT_LEVEL_4K;
	books.g = guest_create(&c, 3, seed);
	books.g->large_percent = 0;
	books.backing = *books.g->vm->env.backing;
	books.backing.zapped = on_zapped;
	books.g->vm->env.backing = &books.backing;
	assert_int_equal(tpt_vm_set_memory_region(books.g->vm, &ram), 0);
	premap(PAGES);
}

/* Leaves at the end, and those with each flag. */
struct rest {
	const struct pte_format *f;
	uint64_t leaves, dirty, young;
};

static bool count_leaf(void *ctx, const struct tpt_mapping *m)
{
	struct rest *r = ctx;

	r->leaves += m->leaf;
	r->dirty += m->leaf && m->spte.w & r->f->dirty;
	r->young += m->leaf && m->spte.w & r->f->accessed;
	return true;
}

static void balance(void)
{
	struct rest rest = {.f = &books.g->vm->trees.format};
	struct machine_counters c;
	uint64_t set_a = 0, set_d = 0;

	tpt_vm_for_each_mapping(books.g->vm, count_leaf, &rest);
	for (unsigned int v = 0; v < WRITERS; v++) {
		machine_cpu_counters(books.g->v[v].cpu, &c);
		set_a += c.accessed_set;
		set_d += c.dirty_set;
	}
	assert_int_equal(books.zapped, books.told_zapped);
	/* Every leaf that was installed had D, and none A: the host made it, nobody used it. */
	assert_int_equal(rest.leaves + books.zapped + set_d - books.dirty - books.zapped_dirty,
			 rest.dirty);
	assert_int_equal(set_a - books.young - books.zapped_young, rest.young);
}

/* Has there been something to lose, whoever of us was scheduled? */
static bool is_enough(void)
{
	return books.dirty > 1000 && books.young > 1000 && books.zapped_dirty > 100 &&
	       books.zapped_young > 100 && books.zapped > books.zapped_dirty &&
	       books.zapped > books.zapped_young;
}

static void keep_books(enum tpt_format format, uint64_t seed)
{
	struct user u[WRITERS], sweeper = {.random = seed * 7};
	uint64_t random = seed;

	open_books(format, seed);
	for (unsigned int v = 0; v < WRITERS; v++) {
		u[v] = (struct user){.v = v, .random = seed + v};
		must(!pthread_create(&u[v].thread, NULL, use_all_pages, &u[v]));
	}
	must(!pthread_create(&sweeper.thread, NULL, sweep_all_the_time, &sweeper));
	for (unsigned int i = 0; i < OPS || !is_enough(); i++) {
		zap_hot();
		if (i % 8)
			one_sweep(&random);
		else if (i % 16)
			zap_some(&random);
		else
			premap(PAGES);
		if (i % 64 == 0)
			sched_yield();
	}
	pthread_join(sweeper.thread, NULL);
	atomic_store(&books.stop, true);
	for (unsigned int v = 0; v < WRITERS; v++)
		pthread_join(u[v].thread, NULL);
	balance();
	guest_check(books.g);
	guest_destroy(books.g);
}

static void every_flag_that_a_processor_sets_is_taken_once_or_still_there(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 3; seed++) {
		keep_books(TPT_FORMAT_EPT, seed);
		keep_books(TPT_FORMAT_NPT, seed + 10);
	}
}

/* ---- a copy of the memory, beside everything else ---- */

#define CYCLES 4u

static const struct log_mode modes[] = {
	{"npt, eager split", TPT_FORMAT_NPT, LOG_EAGER, 0},
	{"npt, initially set, eager split", TPT_FORMAT_NPT, LOG_SET | LOG_EAGER, 0},
	{"ept, pml", TPT_FORMAT_EPT, TPT_VM_PML, 0},
	{"ept, pml, manual, eager split", TPT_FORMAT_EPT, TPT_VM_PML | LOG_MANUAL | LOG_EAGER, 0},
	{"ept without A/D, eager split", TPT_FORMAT_EPT, TPT_VM_NO_AD | LOG_EAGER, 0},
};

struct migration {
	struct log l;
	_Atomic bool stop, pause;
	_Atomic unsigned int paused;
	uint64_t copy[LOG_PAGES][LOG_VCPUS];
};

static struct migration m;

static void wait_while_paused(void)
{
	if (!atomic_load(&m.pause))
		return;
	atomic_fetch_add(&m.paused, 1);
	while (atomic_load(&m.pause))
		sched_yield();
	atomic_fetch_sub(&m.paused, 1);
}

static unsigned int pick_page(uint64_t *random)
{
	return (unsigned int)log_pick(random, log_pick(random, 2) ? 130 : LOG_PAGES);
}

/* Each writes a word of its own in every page. */
static void *write_all_the_time(void *arg)
{
	struct user *u = arg;
	struct sim_step last;
	unsigned int faults;

	for (uint64_t i = 1; !atomic_load(&m.stop); i++) {
		uint64_t gpa = log_gpa(pick_page(&u->random)) + 8ull * u->v;
		int err;

		do
			err = sim_write(m.l.sim, u->v, gpa, &i, 8, 8, &last, &faults);
		while (err == -EAGAIN);
		must(!err);
		wait_while_paused();
		if (!(i % 64))
			sched_yield();
	}
	return NULL;
}

/* Runs code, so that huge pages come apart, and maps ahead of all others. */
static void *run_code_and_premap(void *arg)
{
	struct user *u = arg;
	struct tpt_vcpu *vcpu = sim_vcpu(m.l.sim, u->v);
	struct sim_step last;
	unsigned int faults;
	uint64_t done;

	while (!atomic_load(&m.stop)) {
		unsigned int page = pick_page(&u->random);
		int err = sim_access(m.l.sim, u->v, log_gpa(page), MACHINE_EXEC, 8, &last, &faults);

		must(!err || err == -EAGAIN);
		err = tpt_vcpu_premap(vcpu, LOG_BASE + page, LOG_PAGES - page < 300 ? 1 : 300,
				      log_pick(&u->random, 2) ? TPT_ACC_READ
							      : TPT_ACC_READ | TPT_ACC_WRITE,
				      &done);
		must(!err || err == -EAGAIN);
		wait_while_paused();
		sched_yield();
	}
	return NULL;
}

static void *upset_all_the_time(void *arg)
{
	struct user *u = arg;
	struct tpt_vm *vm = sim_vm(m.l.sim);

	while (!atomic_load(&m.stop)) {
		uint64_t start = LOG_HVA + log_gpa((unsigned int)log_pick(&u->random, LOG_PAGES));
		tpt_hva all = {LOG_HVA + log_gpa(0)}, end = {LOG_HVA + log_gpa(LOG_PAGES)};

		switch (log_pick(&u->random, 4)) {
		case 0:
			must(tpt_vm_age(vm, all, end, NULL) >= 0);
			break;
		case 1:
			must(tpt_vm_test_age(vm, all, end, NULL) >= 0);
			break;
		case 2:
			must(tpt_vm_nx_recover(vm, 2) >= 0);
			break;
		default:
			must(sim_invalidate(m.l.sim, start,
					    start + (4096ull << log_pick(&u->random, 7))) >= 0);
		}
		wait_while_paused();
		sched_yield();
	}
	return NULL;
}

static void copy_pages(const uint64_t *which)
{
	for (unsigned int page = 0; page < LOG_PAGES; page++)
		for (unsigned int v = 0; v < WRITERS && (!which || log_has(which, page)); v++)
			m.copy[page][v] =
				__atomic_load_n(log_word(&m.l, page) + v, __ATOMIC_RELAXED);
}

static void collect_and_copy(void)
{
	log_forget(&m.l);
	must(log_collect(&m.l) == 0);
	copy_pages(m.l.found);
}

/* Log on, copies, everybody stands still, the last copy is the memory, log off: large again. */
static void cycle(unsigned int nr_threads)
{
	log_switch(&m.l, true);
	copy_pages(NULL);
	for (unsigned int round = 0; round < 24 / SLOWER + 1; round++) {
		collect_and_copy();
		sched_yield();
	}
	atomic_store(&m.pause, true);
	while (atomic_load(&m.paused) < nr_threads)
		sched_yield();
	collect_and_copy();
	for (unsigned int page = 0; page < LOG_PAGES; page++)
		for (unsigned int v = 0; v < WRITERS; v++)
			if (m.copy[page][v] != log_word(&m.l, page)[v])
				fail_msg("%s: page %u, vcpu %u: copied %lu, is %lu", m.l.mode->name,
					 page, v, m.copy[page][v], log_word(&m.l, page)[v]);
	atomic_store(&m.pause, false);
	while (atomic_load(&m.paused))
		sched_yield();
	log_switch(&m.l, false);
}

static void migrate(const struct log_mode *mode)
{
	struct user u[4];
	void *(*const life[4])(void *) = {write_all_the_time, write_all_the_time,
					  run_code_and_premap, upset_all_the_time};

	memset(&m, 0, sizeof(m));
	log_open(&m.l, mode, 3);
	m.l.max_promises = 4;
	assert_int_equal(tpt_vm_set_nx_huge_pages(sim_vm(m.l.sim), TPT_NX_FORCE), 0);
	for (unsigned int i = 0; i < 4; i++) {
		/* Memory is there before others map ahead. */
		u[i] = (struct user){.v = i, .random = 31 + i};
		if (i < 3)
			assert_int_equal(log_write(&m.l, i, 0, 1), 0);
	}
	for (unsigned int i = 0; i < 4; i++)
		must(!pthread_create(&u[i].thread, NULL, life[i], &u[i]));
	for (unsigned int i = 0; i < CYCLES; i++)
		cycle(4);
	atomic_store(&m.stop, true);
	for (unsigned int i = 0; i < 4; i++)
		pthread_join(u[i].thread, NULL);
	log_close(&m.l);
}

static void no_write_is_lost_beside_every_operation_on_a_range(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		migrate(&modes[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_flag_that_a_processor_sets_is_taken_once_or_still_there),
		cmocka_unit_test(no_write_is_lost_beside_every_operation_on_a_range),
	};

	return cmocka_run_group_tests_name("A/D writer", tests, NULL, NULL);
}
