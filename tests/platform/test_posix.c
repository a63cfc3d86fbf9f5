// SPDX-License-Identifier: BSD-2-Clause
/* Proves platform/posix: what platform.h promises the core, and that broken rules are told. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <triptych/posix.h>

#define THREADS 4

/* What the hooks saw. */
struct seen {
	char log[256];
	unsigned int logs, flushes, kicks, holds;
	enum tpt_flush_reason reason;
};

static void log_hook(void *ctx, enum tpt_log_level level, const char *text)
{
	struct seen *seen = ctx;

	assert_int_equal(level, TPT_LOG_ERROR);
	snprintf(seen->log, sizeof(seen->log), "%s", text);
	seen->logs++;
}

static void flush_hook(void *ctx, struct tpt_vm *vm, const struct tpt_flush *flush)
{
	struct seen *seen = ctx;

	assert_null(vm);
	seen->flushes++;
	seen->reason = flush->reason;
}

static void kick_hook(void *ctx, struct tpt_vm *vm, enum tpt_kick_reason reason)
{
	struct seen *seen = ctx;

	assert_null(vm);
	assert_int_equal(reason, TPT_KICK_TRACK);
	seen->kicks++;
}

static void hold_hook(void *ctx, struct tpt_vm *vm, bool held)
{
	struct seen *seen = ctx;

	assert_null(vm);
	seen->holds += held ? 1 : 100;
}

static struct tpt_posix *create(struct seen *seen, uint64_t bytes)
{
	struct tpt_posix_config config = {
		.size = sizeof(config),
		.flags = TPT_POSIX_POISON | TPT_POSIX_WATCH,
		.bytes = bytes,
		.hooks = {.flush = flush_hook,
			  .kick = kick_hook,
			  .hold = hold_hook,
			  .log = log_hook},
		.hooks_ctx = seen,
	};
	struct tpt_posix *posix;

	memset(seen, 0, sizeof(*seen));
	posix = tpt_posix_create(&config);
	assert_non_null(posix);
	return posix;
}

/* Exactly one more misuse, and its message holds @text. */
static void assert_told(struct seen *seen, unsigned int nr, const char *text)
{
	assert_int_equal(seen->logs, nr);
	assert_non_null(strstr(seen->log, text));
}

static void run_threads(unsigned int nr, void *(*fn)(void *), void *arg)
{
	pthread_t threads[THREADS];

	assert_true(nr <= THREADS);
	for (unsigned int i = 0; i < nr; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, fn, arg), 0);
	for (unsigned int i = 0; i < nr; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
}

/* ---- making one ----------------------------------------------------------------------------- */

static void bad_configurations_are_refused(void **state)
{
	const struct tpt_posix_pages half = {.alloc = NULL};
	const struct tpt_posix_config good = {.size = sizeof(good)};
	struct tpt_posix_config bad[7];

	(void)state;
	for (size_t i = 0; i < 7; i++)
		bad[i] = good;
	bad[0].size--;
	bad[1].flags = 4;
	bad[2].hpa_base = 0x1001;
	bad[3].bytes = 0x800;
	bad[4].bytes = (1ull << 43) + TPT_PAGE_SIZE;
	bad[5].hpa_base = (1ull << 52) - TPT_PAGE_SIZE;
	bad[6].pages = &half;
	for (size_t i = 0; i < 7; i++) {
		errno = 0;
		assert_null(tpt_posix_create(&bad[i]));
		assert_int_equal(errno, EINVAL);
	}
	assert_int_equal(tpt_posix_destroy(NULL), 0);
}

static void no_configuration_means_the_defaults(void **state)
{
	struct tpt_posix *posix = tpt_posix_create(NULL);

	(void)state;
	assert_non_null(posix);
	assert_int_equal(tpt_posix_destroy(posix), 0);
}

static void defaults_make_a_whole_platform(void **state)
{
	const struct tpt_posix_config config = {.size = sizeof(config)};
	struct tpt_posix *posix = tpt_posix_create(&config);
	const struct tpt_platform *p = tpt_posix_platform(posix);
	tpt_hpa base;
	uint64_t bytes;
	void *va;

	(void)state;
	assert_int_equal(p->size, sizeof(*p));
	assert_int_equal(tpt_posix_arena(posix, &base, &va, &bytes), 0);
	assert_true(base.a == TPT_POSIX_DEFAULT_HPA_BASE && bytes == TPT_POSIX_DEFAULT_BYTES);
	assert_ptr_equal(va, p->page_linear + base.a);
	/* No processors: nothing to do, and nothing falls over. */
	p->flush(posix, NULL, &(struct tpt_flush){.all = true});
	p->kick(posix, NULL, TPT_KICK_DEAD);
	p->hold(posix, NULL, true);
	p->relax(posix);
	assert_int_equal(tpt_posix_destroy(posix), 0);
}

static void hooks_get_what_the_core_says(void **state)
{
	struct seen seen;
	struct tpt_posix *posix = create(&seen, 0);
	const struct tpt_platform *p = tpt_posix_platform(posix);

	(void)state;
	p->flush(posix, NULL, &(struct tpt_flush){.reason = TPT_FLUSH_COLLAPSE});
	p->kick(posix, NULL, TPT_KICK_TRACK);
	p->hold(posix, NULL, true);
	p->hold(posix, NULL, false);
	assert_int_equal(seen.flushes, 1);
	assert_int_equal(seen.reason, TPT_FLUSH_COLLAPSE);
	assert_int_equal(seen.kicks, 1);
	assert_int_equal(seen.holds, 101);
	assert_int_equal(tpt_posix_destroy(posix), 0);
}

/* ---- table pages ---------------------------------------------------------------------------- */

static void pages_and_records_are_where_the_linear_map_says(void **state)
{
	struct seen seen;
	struct tpt_posix *posix = create(&seen, 0);
	const struct tpt_platform *p = tpt_posix_platform(posix);
	tpt_hpa hpa[3];

	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(p->page_alloc(posix, &hpa[i]), 0);
		assert_int_equal(hpa[i].a % TPT_PAGE_SIZE, 0);
		assert_ptr_equal(p->page_ptr(posix, hpa[i]), p->page_linear + hpa[i].a);
		assert_ptr_equal(p->page_record(posix, hpa[i]), p->record_linear + hpa[i].a / 64);
		assert_int_equal((uintptr_t)p->page_ptr(posix, hpa[i]) % TPT_PAGE_SIZE, 0);
		assert_int_equal((uintptr_t)p->page_record(posix, hpa[i]) % 64, 0);
		memset(p->page_ptr(posix, hpa[i]), i, TPT_PAGE_SIZE);
		memset(p->page_record(posix, hpa[i]), i, 64);
	}
	for (int i = 0; i < 3; i++) {
		assert_int_equal(*(char *)p->page_ptr(posix, hpa[i]), i);
		assert_int_equal(*((char *)p->page_record(posix, hpa[i]) + 63), i);
		p->page_free(posix, hpa[i]);
	}
	assert_int_equal(tpt_posix_destroy(posix), 0);
}

static void poison_shows_in_new_and_freed_pages(void **state)
{
	struct seen seen;
	struct tpt_posix *posix = create(&seen, 0);
	const struct tpt_platform *p = tpt_posix_platform(posix);
	unsigned char *page, *record;
	tpt_hpa hpa;

	(void)state;
	assert_int_equal(p->page_alloc(posix, &hpa), 0);
	page = p->page_ptr(posix, hpa);
	record = p->page_record(posix, hpa);
	assert_true(page[0] == 0xa5 && page[4095] == 0xa5 && record[63] == 0xa5);
	p->page_free(posix, hpa);
	assert_true(page[0] == 0xdd && page[4095] == 0xdd && record[63] == 0xdd);
	assert_int_equal(tpt_posix_destroy(posix), 0);
}

static void a_full_arena_says_enomem_until_a_page_is_freed(void **state)
{
	struct seen seen;
	struct tpt_posix *posix = create(&seen, 2 * TPT_PAGE_SIZE);
	const struct tpt_platform *p = tpt_posix_platform(posix);
	tpt_hpa a, b, c;

	(void)state;
	assert_int_equal(p->page_alloc(posix, &a), 0);
	assert_int_equal(p->page_alloc(posix, &b), 0);
	assert_int_equal(p->page_alloc(posix, &c), -ENOMEM);
	p->page_free(posix, a);
	assert_int_equal(p->page_alloc(posix, &c), 0);
	assert_true(c.a == a.a);
	p->page_free(posix, b);
	p->page_free(posix, c);
	assert_int_equal(tpt_posix_destroy(posix), 0);
}

static void bad_frees_are_told_and_change_nothing(void **state)
{
	struct seen seen;
	struct tpt_posix *posix = create(&seen, 0);
	const struct tpt_platform *p = tpt_posix_platform(posix);
	struct tpt_posix_stats stats;
	tpt_hpa hpa, other;

	(void)state;
	assert_int_equal(p->page_alloc(posix, &hpa), 0);
	p->page_free(posix, hpa);
	p->page_free(posix, hpa);
	assert_told(&seen, 1, "double free");
	p->page_free(posix, (tpt_hpa){hpa.a + 0x5000});
	assert_told(&seen, 2, "double free");
	p->page_free(posix, (tpt_hpa){hpa.a + 8});
	assert_told(&seen, 3, "wild free");
	p->page_free(posix, (tpt_hpa){0x1000});
	assert_told(&seen, 4, "wild free of page 0x1000");
	/* A page freed twice must not be handed out twice. */
	assert_int_equal(p->page_alloc(posix, &hpa), 0);
	assert_int_equal(p->page_alloc(posix, &other), 0);
	assert_true(hpa.a != other.a);
	p->page_free(posix, hpa);
	p->page_free(posix, other);
	tpt_posix_get_stats(posix, &stats);
	assert_int_equal(stats.pages_live, 0);
	assert_int_equal(stats.pages_peak, 2);
	assert_int_equal(stats.page_allocs, 3);
	assert_int_equal(tpt_posix_destroy(posix), 4);
}

static void *churn_pages(void *arg)
{
	struct tpt_posix *posix = arg;
	const struct tpt_platform *p = tpt_posix_platform(posix);
	tpt_hpa held[8];

	for (int round = 0; round < 2000; round++) {
		unsigned int nr = 0;

		while (nr < 8 && !p->page_alloc(posix, &held[nr])) {
			*(uintptr_t *)p->page_record(posix, held[nr]) = (uintptr_t)&held + nr;
			nr++;
		}
		while (nr--) {
			if (*(uintptr_t *)p->page_record(posix, held[nr]) != (uintptr_t)&held + nr)
				abort();
			p->page_free(posix, held[nr]);
		}
	}
	return NULL;
}

static void threads_never_get_the_same_page(void **state)
{
	struct seen seen;
	struct tpt_posix *posix = create(&seen, 24 * TPT_PAGE_SIZE);
	struct tpt_posix_stats stats;

	(void)state;
	run_threads(THREADS, churn_pages, posix);
	tpt_posix_get_stats(posix, &stats);
	assert_int_equal(stats.pages_live, 0);
	assert_true(stats.page_allocs > 2000 && stats.pages_peak <= 24 + THREADS);
	assert_int_equal(tpt_posix_destroy(posix), 0);
}

/* A page source of two pages, the second one outside of what was configured. */
static char source_page[TPT_PAGE_SIZE];
static int source_live;

static int source_alloc(void *ctx, tpt_hpa *hpa)
{
	uint64_t *given = ctx;

	*hpa = (tpt_hpa){0x100000 + *given};
	*given += TPT_PAGE_SIZE;
	source_live++;
	return 0;
}

static void source_free(void *ctx, tpt_hpa hpa)
{
	(void)ctx;
	(void)hpa;
	source_live--;
}

static void *source_ptr(void *ctx, tpt_hpa hpa)
{
	(void)ctx;
	return hpa.a == 0x100000 ? source_page : NULL;
}

static void pages_can_come_from_elsewhere(void **state)
{
	static const struct tpt_posix_pages source = {source_alloc, source_free, source_ptr};
	struct seen seen = {0};
	uint64_t given = 0;
	const struct tpt_posix_config config = {.size = sizeof(config),
						.hpa_base = 0x100000,
						.bytes = TPT_PAGE_SIZE,
						.hooks.log = log_hook,
						.hooks_ctx = &seen,
						.pages = &source,
						.pages_ctx = &given};
	struct tpt_posix *posix = tpt_posix_create(&config);
	const struct tpt_platform *p = tpt_posix_platform(posix);
	tpt_hpa a, b;

	(void)state;
	assert_true(!p->page_linear && !p->record_linear);
	assert_int_equal(tpt_posix_arena(posix, &a, NULL, NULL), -ENOENT);
	assert_int_equal(p->page_alloc(posix, &a), 0);
	assert_ptr_equal(p->page_ptr(posix, a), source_page);
	memset(p->page_record(posix, a), 1, 64);
	assert_int_equal(p->page_alloc(posix, &b), -ENOMEM);
	assert_told(&seen, 1, "outside of the configured range");
	assert_int_equal(source_live, 1);
	p->page_free(posix, a);
	p->page_free(posix, a);
	assert_told(&seen, 2, "double free");
	assert_int_equal(source_live, 0);
	assert_int_equal(tpt_posix_destroy(posix), 2);
}

/* ---- memory and failures -------------------------------------------------------------------- */

static void memory_is_zeroed_aligned_and_balanced(void **state)
{
	static const char zero[1000];
	struct seen seen;
	struct tpt_posix *posix = create(&seen, 0);
	const struct tpt_platform *p = tpt_posix_platform(posix);
	struct tpt_posix_stats stats;

	(void)state;
	for (int i = 0; i < 3; i++) {
		char *mem = p->mem_alloc(posix, 1000);

		assert_non_null(mem);
		assert_int_equal((uintptr_t)mem % 64, 0);
		assert_memory_equal(mem, zero, 1000);
		memset(mem, 0xff, 1000);
		tpt_posix_get_stats(posix, &stats);
		assert_int_equal(stats.mem_live, 1);
		assert_int_equal(stats.mem_bytes, 1000);
		p->mem_free(posix, mem, 1000);
	}
	assert_null(p->mem_alloc(posix, SIZE_MAX - 10));
	p->mem_free(posix, p->mem_alloc(posix, 8), 9);
	assert_told(&seen, 1, "9 bytes of a block of 8");
	tpt_posix_get_stats(posix, &stats);
	assert_true(!stats.mem_live && !stats.mem_bytes && stats.mem_allocs == 4);
	assert_int_equal(tpt_posix_destroy(posix), 1);
}

static void the_nth_allocation_fails_once(void **state)
{
	struct seen seen;
	struct tpt_posix *posix = create(&seen, 0);
	const struct tpt_platform *p = tpt_posix_platform(posix);
	tpt_hpa hpa[4];
	void *mem;

	(void)state;
	tpt_posix_fail_page_alloc(posix, 2);
	assert_int_equal(p->page_alloc(posix, &hpa[0]), 0);
	assert_int_equal(p->page_alloc(posix, &hpa[1]), -ENOMEM);
	assert_int_equal(p->page_alloc(posix, &hpa[1]), 0);
	tpt_posix_fail_page_alloc(posix, 1);
	tpt_posix_fail_page_alloc(posix, 0);
	assert_int_equal(p->page_alloc(posix, &hpa[2]), 0);
	for (int i = 0; i < 3; i++)
		p->page_free(posix, hpa[i]);
	tpt_posix_fail_mem_alloc(posix, 1);
	assert_null(p->mem_alloc(posix, 8));
	mem = p->mem_alloc(posix, 8);
	assert_non_null(mem);
	p->mem_free(posix, mem, 8);
	assert_int_equal(tpt_posix_destroy(posix), 0);
}

static void leaks_are_told_at_the_end(void **state)
{
	struct seen seen;
	struct tpt_posix *posix = create(&seen, 0);
	const struct tpt_platform *p = tpt_posix_platform(posix);
	void *mem = p->mem_alloc(posix, 8);
	tpt_hpa hpa;

	(void)state;
	assert_int_equal(p->page_alloc(posix, &hpa), 0);
	assert_int_equal(tpt_posix_destroy(posix), 2);
	assert_told(&seen, 2, "1 blocks of memory leaked, 8 bytes");
	free((char *)mem - 64);
}

/* ---- grace periods -------------------------------------------------------------------------- */

struct late {
	struct tpt_deferred deferred;
	struct tpt_posix *posix;
	tpt_hpa page;
	atomic_int ran;
};

static void late_fn(struct tpt_deferred *d)
{
	struct late *late = (struct late *)d;

	if (late->page.a)
		tpt_posix_platform(late->posix)->page_free(late->posix, late->page);
	atomic_store(&late->ran, 1);
}

static void deferred_work_runs_once_and_barrier_waits_for_it(void **state)
{
	struct seen seen;
	struct tpt_posix *posix = create(&seen, 0);
	const struct tpt_platform *p = tpt_posix_platform(posix);
	struct late late = {.deferred.fn = late_fn, .posix = posix};
	struct tpt_posix_stats stats;

	(void)state;
	assert_int_equal(p->page_alloc(posix, &late.page), 0);
	p->defer(posix, &late.deferred);
	p->barrier(posix);
	assert_int_equal(atomic_load(&late.ran), 1);
	tpt_posix_get_stats(posix, &stats);
	assert_true(!stats.pending && stats.deferred == 1 && !stats.pages_live);
	assert_int_equal(tpt_posix_destroy(posix), 0);
}

static void destroy_runs_what_is_deferred(void **state)
{
	struct seen seen;
	struct tpt_posix *posix = create(&seen, 0);
	struct late late = {.deferred.fn = late_fn, .posix = posix};

	(void)state;
	tpt_posix_platform(posix)->defer(posix, &late.deferred);
	assert_int_equal(tpt_posix_destroy(posix), 0);
	assert_int_equal(atomic_load(&late.ran), 1);
}

/* ---- rules of sections ---------------------------------------------------------------------- */

static void sleeping_calls_in_a_section_are_told(void **state)
{
	struct seen seen;
	struct tpt_posix *posix = create(&seen, 0);
	const struct tpt_platform *p = tpt_posix_platform(posix);
	tpt_hpa hpa;

	(void)state;
	p->watch(posix, true);
	assert_int_equal(tpt_posix_section_depth(), 1);
	p->barrier(posix);
	assert_told(&seen, 1, "barrier called inside a section");
	p->lock(posix);
	assert_told(&seen, 2, "lock called inside a section");
	p->unlock(posix);
	assert_int_equal(p->page_alloc(posix, &hpa), 0);
	assert_told(&seen, 3, "page_alloc called inside a section");
	p->page_free(posix, hpa);
	p->mem_free(posix, p->mem_alloc(posix, 8), 8);
	assert_told(&seen, 4, "mem_alloc called inside a section");
	p->flush(posix, NULL, &(struct tpt_flush){.all = true});
	assert_told(&seen, 5, "flush called inside a section");
	p->kick(posix, NULL, TPT_KICK_TRACK);
	assert_told(&seen, 6, "kick called inside a section");
	p->hold(posix, NULL, true);
	assert_told(&seen, 7, "hold called inside a section");
	p->watch(posix, false);
	assert_int_equal(tpt_posix_section_depth(), 0);
	p->watch(posix, false);
	assert_told(&seen, 8, "a section is left that was not entered");
	assert_int_equal(tpt_posix_destroy(posix), 8);
}

static void *unlock_foreign(void *arg)
{
	struct tpt_posix *posix = arg;

	if (tpt_posix_lock_held(posix))
		abort();
	tpt_posix_platform(posix)->unlock(posix);
	return NULL;
}

static void misused_locks_are_told_and_stay_locked(void **state)
{
	struct seen seen;
	struct tpt_posix *posix = create(&seen, 0);
	const struct tpt_platform *p = tpt_posix_platform(posix);
	tpt_hpa hpa;

	(void)state;
	assert_false(tpt_posix_lock_held(posix));
	p->lock(posix);
	p->lock(posix);
	assert_told(&seen, 1, "not recursive");
	p->unlock(posix);
	assert_true(tpt_posix_lock_held(posix));
	run_threads(1, unlock_foreign, posix);
	assert_told(&seen, 2, "unlock by a thread that doesn't hold the lock");
	assert_int_equal(p->page_alloc(posix, &hpa), 0);
	assert_told(&seen, 3, "page_alloc called with the exclusive lock held");
	p->page_free(posix, hpa);
	p->unlock(posix);
	assert_false(tpt_posix_lock_held(posix));
	p->unlock(posix);
	assert_told(&seen, 4, "unlock by a thread");
	assert_int_equal(tpt_posix_destroy(posix), 4);
}

struct counted {
	struct tpt_posix *posix;
	uint64_t count; /* not atomic: the lock's business */
};

static void *count_under_lock(void *arg)
{
	struct counted *c = arg;
	const struct tpt_platform *p = tpt_posix_platform(c->posix);

	for (int i = 0; i < 2000; i++) {
		uint64_t count;

		p->lock(c->posix);
		count = c->count;
		/* Whoever could come in now would count from the same number. */
		sched_yield();
		c->count = count + 1;
		p->unlock(c->posix);
	}
	return NULL;
}

static void the_lock_excludes(void **state)
{
	struct seen seen;
	struct counted c = {.posix = create(&seen, 0)};
	struct tpt_posix_stats stats;

	(void)state;
	run_threads(THREADS, count_under_lock, &c);
	assert_int_equal(c.count, THREADS * 2000);
	tpt_posix_get_stats(c.posix, &stats);
	assert_int_equal(stats.locks, THREADS * 2000);
	assert_true(stats.longest_lock_ns > 0);
	assert_int_equal(tpt_posix_destroy(c.posix), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_configurations_are_refused),
		cmocka_unit_test(no_configuration_means_the_defaults),
		cmocka_unit_test(defaults_make_a_whole_platform),
		cmocka_unit_test(hooks_get_what_the_core_says),
		cmocka_unit_test(pages_and_records_are_where_the_linear_map_says),
		cmocka_unit_test(poison_shows_in_new_and_freed_pages),
		cmocka_unit_test(a_full_arena_says_enomem_until_a_page_is_freed),
		cmocka_unit_test(bad_frees_are_told_and_change_nothing),
		cmocka_unit_test(threads_never_get_the_same_page),
		cmocka_unit_test(pages_can_come_from_elsewhere),
		cmocka_unit_test(memory_is_zeroed_aligned_and_balanced),
		cmocka_unit_test(the_nth_allocation_fails_once),
		cmocka_unit_test(leaks_are_told_at_the_end),
		cmocka_unit_test(deferred_work_runs_once_and_barrier_waits_for_it),
		cmocka_unit_test(destroy_runs_what_is_deferred),
		cmocka_unit_test(sleeping_calls_in_a_section_are_told),
		cmocka_unit_test(misused_locks_are_told_and_stay_locked),
		cmocka_unit_test(the_lock_excludes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
