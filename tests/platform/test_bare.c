// SPDX-License-Identifier: BSD-2-Clause
/* Proves platform/bare in a process: what platform.h and bare.h promise, and that broken rules are
 * told. Threads stand for processors; one that is in the guest leaves when its interrupt comes. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <triptych/bare.h>
#include <triptych/triptych.h>

#include "tests/support/host.h"

#define PAGE	4096ull
#define HPA	(1ull << 40)
#define THREADS 4

/* A platform, its memory, and what its hooks saw. */
struct bench {
	char *memory;
	struct tpt_bare *bare;
	const struct tpt_platform *p;
	atomic_uint ipi[TPT_BARE_VCPUS];
	void (*on_ipi)(struct bench *b, uint32_t vcpu);
	uint32_t told;
	atomic_uint relaxes;
	char line[128];
	unsigned int lines;
};

static void ipi_hook(void *ctx, uint32_t vcpu)
{
	struct bench *b = ctx;

	atomic_fetch_add(&b->ipi[vcpu], 1);
	if (b->on_ipi)
		b->on_ipi(b, vcpu);
}

/* Counted up when the thread waits for the first time; it has its place in the queue by then. */
static _Thread_local atomic_uint *relaxed_here;

static void relax_hook(void *ctx)
{
	struct bench *b = ctx;

	if (relaxed_here)
		atomic_fetch_add(relaxed_here, 1);
	relaxed_here = NULL;
	atomic_fetch_add(&b->relaxes, 1);
	sched_yield();
}

static void log_hook(void *ctx, enum tpt_log_level level, const char *text)
{
	struct bench *b = ctx;

	must(level == TPT_LOG_ERROR);
	snprintf(b->line, sizeof(b->line), "%s", text);
	b->lines++;
}

static struct tpt_bare_config config_of(struct bench *b, uint64_t bytes, uint32_t nr_vcpus)
{
	return (struct tpt_bare_config){
		.size = sizeof(struct tpt_bare_config),
		.memory = b->memory,
		.bytes = bytes,
		.hpa = {HPA},
		.nr_vcpus = nr_vcpus,
		.hooks = {ipi_hook, relax_hook, log_hook},
		.hooks_ctx = b,
	};
}

static struct bench *bench_at(uint64_t bytes, uint64_t object_bytes, uint32_t nr_vcpus,
			      bool identity)
{
	struct bench *b = calloc(1, sizeof(*b));
	struct tpt_bare_config c;

	assert_non_null(b);
	b->memory = aligned_alloc(PAGE, bytes);
	assert_non_null(b->memory);
	/* It is nobody's promise that memory is zero. */
	memset(b->memory, 0xff, bytes);
	c = config_of(b, bytes, nr_vcpus);
	c.object_bytes = object_bytes;
	if (identity)
		c.hpa.a = (uintptr_t)b->memory;
	assert_int_equal(tpt_bare_create(&c, &b->bare), 0);
	b->p = tpt_bare_platform(b->bare);
	return b;
}

static struct bench *bench(uint64_t bytes, uint32_t nr_vcpus)
{
	return bench_at(bytes, 0, nr_vcpus, false);
}

static struct tpt_bare_stats stats(const struct bench *b)
{
	struct tpt_bare_stats s;

	tpt_bare_get_stats(b->bare, &s);
	return s;
}

static void bench_end(struct bench *b, uint64_t misuses)
{
	uint64_t had = tpt_bare_destroy(b->bare);

	if (had != misuses)
		print_message("platform: %s\n", b->line);
	assert_int_equal(had, misuses);
	free(b->memory);
	free(b);
}

/* Exactly @nr misuses so far, and the last one's message holds @text. */
static void assert_told(struct bench *b, unsigned int nr, const char *text)
{
	assert_int_equal(b->lines, nr);
	assert_int_equal(stats(b).misuses, nr);
	assert_non_null(strstr(b->line, text));
}

static pthread_t start(void *(*fn)(void *), void *arg)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, fn, arg), 0);
	return thread;
}

static void join(pthread_t thread)
{
	assert_int_equal(pthread_join(thread, NULL), 0);
}

static void run_threads(unsigned int nr, void *(*fn)(void *), void *arg)
{
	pthread_t threads[THREADS];

	assert_true(nr <= THREADS);
	for (unsigned int i = 0; i < nr; i++)
		threads[i] = start(fn, arg);
	for (unsigned int i = 0; i < nr; i++)
		join(threads[i]);
}

static void wait_for(atomic_uint *word, unsigned int least)
{
	while (atomic_load(word) < least)
		sched_yield();
}

static unsigned int toss(uint64_t *random, unsigned int n)
{
	*random = *random * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned int)(*random >> 33) % n;
}

/* ---- making one ----------------------------------------------------------------------------- */

static void bad_configurations_are_refused_and_change_nothing(void **state)
{
	struct bench b = {.memory = aligned_alloc(PAGE, 64 * PAGE)};
	struct tpt_bare *const before = (struct tpt_bare *)&b, *bare = before;
	char *old = malloc(64 * PAGE);
	struct tpt_bare_config bad[12];

	(void)state;
	assert_true(b.memory && old);
	memset(b.memory, 0x5a, 64 * PAGE);
	memset(old, 0x5a, 64 * PAGE);
	for (size_t i = 0; i < 12; i++)
		bad[i] = config_of(&b, 64 * PAGE, 1);
	bad[0].size--;
	bad[1].memory = NULL;
	bad[2].memory = b.memory + 64;
	bad[3].bytes -= 64;
	bad[4].bytes = (1ull << 43) + PAGE;
	bad[5].hpa.a += 8;
	bad[6].hpa.a = (1ull << 52) - 63 * PAGE;
	bad[7].object_bytes = 65 * PAGE;
	bad[8].nr_vcpus = 0;
	bad[9].nr_vcpus = TPT_BARE_VCPUS + 1;
	bad[10].hooks.ipi = NULL;
	bad[11].memory = (void *)(UINTPTR_MAX - (64 * PAGE - 1));
	for (size_t i = 0; i < 12; i++)
		assert_int_equal(tpt_bare_create(&bad[i], &bare), -EINVAL);
	assert_int_equal(tpt_bare_create(NULL, &bare), -EINVAL);
	bad[0] = config_of(&b, 64 * PAGE, 1);
	bad[0].object_bytes = 64;
	assert_int_equal(tpt_bare_create(&bad[0], &bare), -ENOMEM);
	bad[0].object_bytes = 63 * PAGE;
	assert_int_equal(tpt_bare_create(&bad[0], &bare), -ENOMEM);
	assert_ptr_equal(bare, before);
	assert_memory_equal(b.memory, old, 64 * PAGE);
	assert_int_equal(tpt_bare_destroy(NULL), 0);
	free(old);
	free(b.memory);
}

static void the_least_memory_holds_a_page_and_an_object(void **state)
{
	struct bench b = {.memory = aligned_alloc(PAGE, 64 * PAGE)};
	struct tpt_bare_config c = config_of(&b, PAGE, TPT_BARE_VCPUS);
	struct tpt_bare_stats s;
	tpt_hpa hpa;
	void *mem;
	int err;

	(void)state;
	assert_non_null(b.memory);
	c.object_bytes = 128;
	while ((err = tpt_bare_create(&c, &b.bare)) == -ENOMEM && c.bytes < 64 * PAGE)
		c.bytes += PAGE;
	assert_int_equal(err, 0);
	b.p = tpt_bare_platform(b.bare);
	tpt_bare_get_stats(b.bare, &s);
	assert_int_equal(s.pages, 1);
	assert_int_equal(b.p->page_alloc(b.bare, &hpa), 0);
	mem = b.p->mem_alloc(b.bare, 64);
	assert_non_null(mem);
	memset(mem, 1, 64);
	memset(b.p->page_ptr(b.bare, hpa), 2, PAGE);
	memset(b.p->page_record(b.bare, hpa), 3, 64);
	b.p->mem_free(b.bare, mem, 64);
	b.p->page_free(b.bare, hpa);
	assert_int_equal(tpt_bare_destroy(b.bare), 0);
	free(b.memory);
}

static void of_no_size_of_memory_a_page_is_left_out(void **state)
{
	struct bench b = {.memory = aligned_alloc(PAGE, 300 * PAGE)};

	(void)state;
	assert_non_null(b.memory);
	for (uint64_t n = 20 * 67; n < 300 * 67; n += 11) {
		struct tpt_bare_config c = config_of(&b, n / 67 * PAGE, 1);
		uint64_t used, first = HPA + c.bytes;
		tpt_hpa hpa;

		c.object_bytes = 128 + n % 67 * 64;
		assert_int_equal(tpt_bare_create(&c, &b.bare), 0);
		b.p = tpt_bare_platform(b.bare);
		used = (uint64_t)((char *)b.p->mem_alloc(b.bare, c.object_bytes - 64) - b.memory) +
		       c.object_bytes - 64;
		while (!b.p->page_alloc(b.bare, &hpa))
			first = hpa.a < first ? hpa.a : first;
		assert_true(HPA + used <= first);
		used += stats(&b).pages * PAGE;
		/* What one page more would need, its record, and what is lost to alignment. */
		assert_true(used <= c.bytes && c.bytes - used < PAGE + 64 + 64);
	}
	free(b.memory);
}

/* ---- table pages ---------------------------------------------------------------------------- */

static void pages_and_records_are_where_the_linear_map_says(void **state)
{
	struct bench *b = bench(64 * PAGE, 1);
	uint64_t nr = stats(b).pages;
	uintptr_t least = UINTPTR_MAX, most = 0;
	tpt_hpa hpa[64];

	(void)state;
	assert_true(nr > 8 && nr < 64);
	assert_true(b->p->page_linear == (uintptr_t)b->memory - HPA && b->p->record_linear);
	for (uint64_t i = 0; i < nr; i++) {
		char *page, *record;

		assert_int_equal(b->p->page_alloc(b->bare, &hpa[i]), 0);
		page = b->p->page_ptr(b->bare, hpa[i]);
		record = b->p->page_record(b->bare, hpa[i]);
		must(page && record);
		assert_ptr_equal(page, b->p->page_linear + hpa[i].a);
		assert_ptr_equal(record, b->p->record_linear + hpa[i].a / 64);
		assert_int_equal(hpa[i].a % PAGE | (uintptr_t)page % PAGE, 0);
		assert_int_equal((uintptr_t)record % 64, 0);
		assert_true(page >= b->memory && page + PAGE <= b->memory + 64 * PAGE);
		least = (uintptr_t)record < least ? (uintptr_t)record : least;
		most = (uintptr_t)record > most ? (uintptr_t)record : most;
		memset(page, (int)i, PAGE);
		memset(record, (int)i, 64);
	}
	/* Side by side, in front of every page. */
	assert_int_equal(most - least, (nr - 1) * 64);
	for (uint64_t i = 0; i < nr; i++) {
		assert_int_equal(*((char *)b->p->page_ptr(b->bare, hpa[i]) + PAGE - 1), i);
		assert_int_equal(*((char *)b->p->page_record(b->bare, hpa[i]) + 63), i);
		b->p->page_free(b->bare, hpa[i]);
	}
	bench_end(b, 0);
}

static void all_pages_are_handed_out_once_and_then_there_are_none(void **state)
{
	struct bench *b = bench(64 * PAGE, 1);
	uint64_t nr = stats(b).pages;
	tpt_hpa hpa[64], none = {1};

	(void)state;
	for (int round = 0; round < 3; round++) {
		bool given[64] = {false};

		for (uint64_t i = 0; i < nr; i++) {
			assert_int_equal(b->p->page_alloc(b->bare, &hpa[i]), 0);
			assert_false(given[(hpa[i].a - HPA) / PAGE]);
			given[(hpa[i].a - HPA) / PAGE] = true;
			assert_int_equal(stats(b).pages_live, i + 1);
		}
		assert_int_equal(b->p->page_alloc(b->bare, &none), -ENOMEM);
		assert_int_equal(none.a, 1);
		for (uint64_t i = 0; i < nr; i += 2)
			b->p->page_free(b->bare, hpa[i]);
		for (uint64_t i = 1; i < nr; i += 2)
			b->p->page_free(b->bare, hpa[i]);
		assert_int_equal(stats(b).pages_live, 0);
		assert_int_equal(stats(b).pages_peak, nr);
	}
	bench_end(b, 0);
}

static void the_peak_is_the_most_that_there_were_at_once(void **state)
{
	struct bench *b = bench(64 * PAGE, 1);
	tpt_hpa hpa[3];

	(void)state;
	for (int i = 0; i < 3; i++)
		assert_int_equal(b->p->page_alloc(b->bare, &hpa[i]), 0);
	b->p->page_free(b->bare, hpa[0]);
	b->p->page_free(b->bare, hpa[1]);
	assert_int_equal(b->p->page_alloc(b->bare, &hpa[0]), 0);
	assert_int_equal(stats(b).pages_live, 2);
	assert_int_equal(stats(b).pages_peak, 3);
	b->p->page_free(b->bare, hpa[0]);
	b->p->page_free(b->bare, hpa[2]);
	bench_end(b, 0);
}

static void bad_page_frees_are_told_and_change_nothing(void **state)
{
	struct bench *b = bench(64 * PAGE, 1);
	tpt_hpa hpa, other;
	char text[64];

	(void)state;
	assert_int_equal(b->p->page_alloc(b->bare, &hpa), 0);
	b->p->page_free(b->bare, hpa);
	b->p->page_free(b->bare, hpa);
	snprintf(text, sizeof(text), "double free of page %#llx", (unsigned long long)hpa.a);
	assert_told(b, 1, text);
	/* Never handed out. */
	b->p->page_free(b->bare, (tpt_hpa){HPA + 63 * PAGE});
	assert_told(b, 2, "double free");
	b->p->page_free(b->bare, (tpt_hpa){hpa.a + 8});
	assert_told(b, 3, "wild free");
	/* The platform's own memory, and none at all. */
	b->p->page_free(b->bare, (tpt_hpa){HPA});
	assert_told(b, 4, "wild free of page 0x10000000000");
	b->p->page_free(b->bare, (tpt_hpa){HPA + 64 * PAGE});
	assert_told(b, 5, "wild free");
	b->p->page_free(b->bare, (tpt_hpa){0x1000});
	assert_told(b, 6, "wild free of page 0x1000");
	/* A page freed twice must not be handed out twice. */
	assert_int_equal(b->p->page_alloc(b->bare, &hpa), 0);
	assert_int_equal(b->p->page_alloc(b->bare, &other), 0);
	assert_true(hpa.a != other.a);
	b->p->page_free(b->bare, hpa);
	b->p->page_free(b->bare, other);
	assert_int_equal(stats(b).pages_live, 0);
	bench_end(b, 6);
}

static void *churn_pages(void *arg)
{
	struct bench *b = arg;
	tpt_hpa held[16];

	for (int round = 0; round < 2000; round++) {
		unsigned int nr = 0;

		while (nr < 16 && !b->p->page_alloc(b->bare, &held[nr])) {
			*(uintptr_t *)b->p->page_record(b->bare, held[nr]) = (uintptr_t)&held + nr;
			nr++;
		}
		while (nr--) {
			must(*(uintptr_t *)b->p->page_record(b->bare, held[nr]) ==
			     (uintptr_t)&held + nr);
			b->p->page_free(b->bare, held[nr]);
		}
	}
	return NULL;
}

static void processors_never_get_the_same_page(void **state)
{
	struct bench *b = bench(64 * PAGE, 1);

	(void)state;
	run_threads(THREADS, churn_pages, b);
	assert_int_equal(stats(b).pages_live, 0);
	assert_true(stats(b).pages_peak >= 16 && stats(b).pages_peak <= stats(b).pages);
	bench_end(b, 0);
}

/* ---- objects -------------------------------------------------------------------------------- */

#define HEAP (1 * MIB)

static void objects_are_zeroed_aligned_and_balanced(void **state)
{
	static const size_t sizes[] = {0, 1, 63, 64, 65, 1000, 4096, 100000, HEAP / 2};
	static const char zero[HEAP / 2];
	struct bench *b = bench_at(2 * HEAP, HEAP, 1, false);

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		for (int round = 0; round < 2; round++) {
			char *mem = b->p->mem_alloc(b->bare, sizes[i]);

			assert_non_null(mem);
			assert_int_equal((uintptr_t)mem % 64, 0);
			assert_memory_equal(mem, zero, sizes[i]);
			memset(mem, 0xff, sizes[i]);
			assert_int_equal(stats(b).mem_live, 1);
			assert_int_equal(stats(b).mem_bytes, sizes[i]);
			b->p->mem_free(b->bare, mem, sizes[i]);
		}
	}
	b->p->mem_free(b->bare, NULL, 64);
	assert_null(b->p->mem_alloc(b->bare, HEAP));
	assert_null(b->p->mem_alloc(b->bare, SIZE_MAX));
	assert_true(!stats(b).mem_live && !stats(b).mem_bytes);
	bench_end(b, 0);
}

/* All but the header of the one block that an empty heap is. */
static void assert_is_one_block(struct bench *b)
{
	void *mem = b->p->mem_alloc(b->bare, HEAP - 64);

	assert_non_null(mem);
	assert_null(b->p->mem_alloc(b->bare, 1));
	b->p->mem_free(b->bare, mem, HEAP - 64);
}

static void an_exhausted_heap_is_one_block_again_when_all_is_freed(void **state)
{
	struct bench *b = bench_at(2 * HEAP, HEAP, 1, false);
	void **mem = calloc(HEAP / 128 + 1, sizeof(*mem));

	(void)state;
	assert_non_null(mem);
	assert_is_one_block(b);
	/* Upwards, downwards, and every other one first. */
	for (int way = 0; way < 3; way++) {
		unsigned int nr = 0;

		while ((mem[nr] = b->p->mem_alloc(b->bare, 64)))
			nr++;
		assert_int_equal(nr, HEAP / 128);
		for (unsigned int i = 0; i < nr; i++) {
			unsigned int at = way == 0   ? i
					  : way == 1 ? nr - 1 - i
						     : (2 * i) % nr + (2 * i >= nr);

			b->p->mem_free(b->bare, mem[at], 64);
			/* In holes of one object no two have room. */
			if (way == 2 && i == nr / 2 - 1)
				assert_null(b->p->mem_alloc(b->bare, 65));
		}
		assert_int_equal(stats(b).mem_live, 0);
		assert_is_one_block(b);
	}
	free(mem);
	bench_end(b, 0);
}

static void what_is_too_small_for_an_object_is_not_lost(void **state)
{
	struct bench *b = bench_at(2 * HEAP, HEAP, 1, false);
	char *hole = b->p->mem_alloc(b->bare, 128), *next = b->p->mem_alloc(b->bare, 64);
	char *rest = b->p->mem_alloc(b->bare, HEAP - 192 - 128 - 64);

	(void)state;
	assert_true(hole && next && rest);
	b->p->mem_free(b->bare, hole, 128);
	hole = b->p->mem_alloc(b->bare, 64);
	assert_non_null(hole);
	assert_null(b->p->mem_alloc(b->bare, 1));
	/* 64 bytes are left between the two. */
	b->p->mem_free(b->bare, next, 64);
	next = b->p->mem_alloc(b->bare, 128);
	assert_non_null(next);
	b->p->mem_free(b->bare, rest, HEAP - 192 - 128 - 64);
	b->p->mem_free(b->bare, hole, 64);
	b->p->mem_free(b->bare, next, 128);
	assert_is_one_block(b);
	bench_end(b, 0);
}

static void bad_object_frees_are_told(void **state)
{
	struct bench *b = bench_at(2 * HEAP, HEAP, 1, false);
	char *mem = b->p->mem_alloc(b->bare, 200), *other = b->p->mem_alloc(b->bare, 64);
	char mine[64];

	(void)state;
	assert_true(mem && other);
	b->p->mem_free(b->bare, mem, 201);
	assert_told(b, 1, "mem_free with 201 bytes of an object of 200");
	assert_int_equal(stats(b).mem_live, 1);
	b->p->mem_free(b->bare, mem, 200);
	assert_told(b, 2, "which is no object");
	mem = b->p->mem_alloc(b->bare, 200);
	assert_non_null(mem);
	b->p->mem_free(b->bare, mem + 64, 200);
	assert_told(b, 3, "which is no object");
	b->p->mem_free(b->bare, mem + 8, 200);
	assert_told(b, 4, "which is no object");
	b->p->mem_free(b->bare, mine, 64);
	assert_told(b, 5, "which is no object");
	/* A header that was copied is none. */
	memcpy(mem, mem - 64, 64);
	b->p->mem_free(b->bare, mem + 64, 200);
	assert_told(b, 6, "which is no object");
	assert_int_equal(stats(b).mem_bytes, 264);
	b->p->mem_free(b->bare, mem, 200);
	b->p->mem_free(b->bare, other, 64);
	assert_is_one_block(b);
	bench_end(b, 6);
}

/* What the model knows of the heap: which units are whose. */
#define UNITS	(HEAP / 64)
#define OBJECTS 400

struct model {
	char *heap;
	bool taken[UNITS];
	struct {
		unsigned char *mem;
		size_t bytes;
		unsigned char fill;
	} object[OBJECTS];
};

static uint64_t units_of(size_t bytes)
{
	return 1 + (bytes ? (bytes + 63) / 64 : 1);
}

static void mark(struct model *m, const unsigned char *mem, size_t bytes, bool taken)
{
	uint64_t first = (uint64_t)((const char *)mem - m->heap) / 64 - 1;

	assert_true(first + units_of(bytes) <= UNITS);
	for (uint64_t i = first; i < first + units_of(bytes); i++) {
		assert_true(m->taken[i] != taken);
		m->taken[i] = taken;
	}
}

static uint64_t largest_gap(const struct model *m)
{
	uint64_t gap = 0, largest = 0;

	for (uint64_t i = 0; i < UNITS; i++) {
		gap = m->taken[i] ? 0 : gap + 1;
		largest = gap > largest ? gap : largest;
	}
	return largest;
}

static bool is_all(const unsigned char *mem, unsigned char c, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		if (mem[i] != c)
			return false;
	return true;
}

static void random_alloc(struct bench *b, struct model *m, unsigned int i, uint64_t *random)
{
	size_t bytes = toss(random, 16) ? 1 + toss(random, 3000) : toss(random, HEAP / 4);
	unsigned char *mem = b->p->mem_alloc(b->bare, bytes);

	if (!mem) {
		assert_true(largest_gap(m) < units_of(bytes));
		return;
	}
	assert_true(is_all(mem, 0, bytes));
	mark(m, mem, bytes, true);
	m->object[i].mem = mem;
	m->object[i].bytes = bytes;
	m->object[i].fill = (unsigned char)(1 + toss(random, 255));
	memset(mem, m->object[i].fill, bytes);
}

static void random_free(struct bench *b, struct model *m, unsigned int i)
{
	assert_true(is_all(m->object[i].mem, m->object[i].fill, m->object[i].bytes));
	mark(m, m->object[i].mem, m->object[i].bytes, false);
	b->p->mem_free(b->bare, m->object[i].mem, m->object[i].bytes);
	m->object[i].mem = NULL;
}

static void objects_come_and_go_as_in_a_plain_model(void **state)
{
	struct bench *b = bench_at(2 * HEAP, HEAP, 1, false);
	struct model *m = calloc(1, sizeof(*m));
	uint64_t random = 20261123, bytes = 0, live = 0;

	(void)state;
	assert_non_null(m);
	print_message("seed %llu\n", (unsigned long long)random);
	m->heap = (char *)b->p->mem_alloc(b->bare, 64) - 64;
	b->p->mem_free(b->bare, m->heap + 64, 64);
	for (unsigned int step = 0; step < 30000; step++) {
		unsigned int i = toss(&random, OBJECTS);

		if (m->object[i].mem)
			random_free(b, m, i);
		else
			random_alloc(b, m, i, &random);
	}
	for (unsigned int i = 0; i < OBJECTS; i++) {
		live += !!m->object[i].mem;
		bytes += m->object[i].mem ? m->object[i].bytes : 0;
	}
	assert_int_equal(stats(b).mem_live, live);
	assert_int_equal(stats(b).mem_bytes, bytes);
	for (unsigned int i = 0; i < OBJECTS; i++)
		if (m->object[i].mem)
			random_free(b, m, i);
	assert_is_one_block(b);
	free(m);
	bench_end(b, 0);
}

static void *churn_objects(void *arg)
{
	struct bench *b = arg;
	uint64_t random = (uintptr_t)&random;

	for (int round = 0; round < 1000; round++) {
		unsigned char *mem[8];
		size_t bytes[8];

		for (int i = 0; i < 8; i++) {
			bytes[i] = 1 + toss(&random, 5000);
			mem[i] = b->p->mem_alloc(b->bare, bytes[i]);
			must(mem[i] && is_all(mem[i], 0, bytes[i]));
			memset(mem[i], i + 1, bytes[i]);
		}
		for (int i = 0; i < 8; i++) {
			must(is_all(mem[i], (unsigned char)(i + 1), bytes[i]));
			b->p->mem_free(b->bare, mem[i], bytes[i]);
		}
	}
	return NULL;
}

static void processors_never_get_the_same_object(void **state)
{
	struct bench *b = bench_at(2 * HEAP, HEAP, 1, false);

	(void)state;
	run_threads(THREADS, churn_objects, b);
	assert_int_equal(stats(b).mem_live, 0);
	assert_is_one_block(b);
	bench_end(b, 0);
}

static void leaks_and_open_ends_are_told_at_the_end(void **state)
{
	struct bench *b = bench(64 * PAGE, 2);
	tpt_hpa hpa;

	(void)state;
	assert_int_equal(b->p->page_alloc(b->bare, &hpa), 0);
	assert_int_equal(b->p->page_alloc(b->bare, &hpa), 0);
	assert_non_null(b->p->mem_alloc(b->bare, 10));
	assert_non_null(b->p->mem_alloc(b->bare, 20));
	assert_non_null(b->p->mem_alloc(b->bare, 30));
	b->p->lock(b->bare);
	assert_int_equal(tpt_bare_guest_enter(b->bare, 1), 0);
	assert_int_equal(tpt_bare_destroy(b->bare), 2 + 3 + 1 + 1);
	assert_int_equal(b->lines, 4);
	assert_string_equal(b->line, "3 objects leaked, 60 bytes");
	free(b->memory);
	free(b);
}

/* ---- the lock ------------------------------------------------------------------------------- */

struct counted {
	struct bench *b;
	uint64_t count; /* not atomic: the lock's business */
	atomic_uint asked, waiting;
	unsigned int served[THREADS], nr;
};

static void *count_up(void *arg)
{
	struct counted *c = arg;

	for (int i = 0; i < 5000; i++) {
		c->b->p->lock(c->b->bare);
		c->count++;
		c->b->p->unlock(c->b->bare);
	}
	return NULL;
}

static void the_lock_is_one_processors_at_a_time(void **state)
{
	struct counted c = {.b = bench(64 * PAGE, 1)};

	(void)state;
	run_threads(THREADS, count_up, &c);
	assert_int_equal(c.count, THREADS * 5000);
	assert_int_equal(stats(c.b).locks, THREADS * 5000);
	bench_end(c.b, 0);
}

static void *queue_up(void *arg)
{
	struct counted *c = arg;
	unsigned int me = atomic_fetch_add(&c->asked, 1);

	relaxed_here = &c->waiting;
	c->b->p->lock(c->b->bare);
	c->served[c->nr++] = me;
	c->b->p->unlock(c->b->bare);
	return NULL;
}

static void the_lock_is_given_in_the_order_of_asking(void **state)
{
	struct counted c = {.b = bench(64 * PAGE, 1)};
	pthread_t threads[THREADS];

	(void)state;
	c.b->p->lock(c.b->bare);
	for (unsigned int i = 0; i < THREADS; i++) {
		threads[i] = start(queue_up, &c);
		wait_for(&c.waiting, i + 1);
	}
	c.b->p->unlock(c.b->bare);
	for (unsigned int i = 0; i < THREADS; i++)
		join(threads[i]);
	for (unsigned int i = 0; i < THREADS; i++)
		assert_int_equal(c.served[i], i);
	bench_end(c.b, 0);
}

static void unlocking_twice_is_told_and_the_lock_goes_on(void **state)
{
	struct bench *b = bench(64 * PAGE, 1);

	(void)state;
	b->p->unlock(b->bare);
	assert_told(b, 1, "unlock of a lock that is not taken");
	b->p->lock(b->bare);
	b->p->unlock(b->bare);
	b->p->unlock(b->bare);
	assert_told(b, 2, "unlock of a lock that is not taken");
	b->p->lock(b->bare);
	b->p->unlock(b->bare);
	assert_int_equal(stats(b).locks, 2);
	bench_end(b, 2);
}

/* ---- seats ---------------------------------------------------------------------------------- */

static void flush(struct bench *b)
{
	b->p->flush(b->bare, NULL, &(struct tpt_flush){.all = true});
}

static void a_flush_while_outside_is_told_once_at_the_next_entry(void **state)
{
	struct bench *b = bench(64 * PAGE, TPT_BARE_VCPUS);

	(void)state;
	b->p->kick(b->bare, NULL, TPT_KICK_TRACK);
	assert_int_equal(tpt_bare_guest_enter(b->bare, 0), 0);
	tpt_bare_guest_leave(b->bare, 0);
	flush(b);
	flush(b);
	for (uint32_t i = 0; i < TPT_BARE_VCPUS; i++) {
		assert_int_equal(tpt_bare_guest_enter(b->bare, i), TPT_BARE_FLUSH);
		tpt_bare_guest_leave(b->bare, i);
		assert_int_equal(tpt_bare_guest_enter(b->bare, i), 0);
		tpt_bare_guest_leave(b->bare, i);
	}
	assert_true(stats(b).flushes == 2 && stats(b).kicks == 1 && !stats(b).ipis);
	bench_end(b, 0);
}

/* A vCPU that is in the guest until its interrupt, and the others' too, if it is told so. */
struct vcpu {
	struct bench *b;
	uint32_t seat, others;
	atomic_uint in, out;
};

static void *guest(void *arg)
{
	struct vcpu *v = arg;

	must(!tpt_bare_guest_enter(v->b->bare, v->seat));
	atomic_store(&v->in, 1);
	wait_for(&v->b->ipi[v->seat], 1);
	for (uint32_t i = 0; i < v->others; i++)
		wait_for(&v->b->ipi[i], 1);
	/* It takes its time. */
	for (int i = 0; i < 100; i++)
		sched_yield();
	atomic_store(&v->out, 1);
	tpt_bare_guest_leave(v->b->bare, v->seat);
	return NULL;
}

static void all_of_them_wait_until_a_vcpu_has_left_the_guest(void **state)
{
	(void)state;
	for (int what = 0; what < 3; what++) {
		struct bench *b = bench(64 * PAGE, 3);
		struct vcpu v = {.b = b, .seat = 1};
		pthread_t thread = start(guest, &v);

		wait_for(&v.in, 1);
		if (what == 0)
			flush(b);
		else if (what == 1)
			b->p->kick(b->bare, NULL, TPT_KICK_TRACK);
		else
			b->p->hold(b->bare, NULL, true);
		assert_int_equal(atomic_load(&v.out), 1);
		join(thread);
		if (what == 2)
			b->p->hold(b->bare, NULL, false);
		/* Who is outside is not sent for. */
		assert_int_equal(stats(b).ipis, 1);
		assert_int_equal(atomic_load(&b->ipi[1]), 1);
		assert_int_equal(tpt_bare_guest_enter(b->bare, 1), what ? 0 : TPT_BARE_FLUSH);
		tpt_bare_guest_leave(b->bare, 1);
		bench_end(b, 0);
	}
}

static void all_are_sent_for_before_any_is_waited_for(void **state)
{
	struct bench *b = bench(64 * PAGE, 3);
	struct vcpu v[3];
	pthread_t threads[3];

	(void)state;
	for (uint32_t i = 0; i < 3; i++) {
		v[i] = (struct vcpu){.b = b, .seat = i, .others = 3};
		threads[i] = start(guest, &v[i]);
		wait_for(&v[i].in, 1);
	}
	b->p->kick(b->bare, NULL, TPT_KICK_TRACK);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(atomic_load(&v[i].out), 1);
		join(threads[i]);
	}
	assert_int_equal(stats(b).ipis, 3);
	bench_end(b, 0);
}

/* Out and in again before anybody has looked. */
static void out_and_in(struct bench *b, uint32_t vcpu)
{
	tpt_bare_guest_leave(b->bare, vcpu);
	must(!tpt_bare_guest_enter(b->bare, vcpu));
}

static void a_vcpu_that_was_outside_is_not_waited_for_though_it_is_back(void **state)
{
	struct bench *b = bench(64 * PAGE, 1);

	(void)state;
	b->on_ipi = out_and_in;
	assert_int_equal(tpt_bare_guest_enter(b->bare, 0), 0);
	b->p->kick(b->bare, NULL, TPT_KICK_TRACK);
	assert_int_equal(atomic_load(&b->ipi[0]), 1);
	tpt_bare_guest_leave(b->bare, 0);
	bench_end(b, 0);
}

/* Out at once, and in again as soon as it may: what it is told is the request's. */
static void out_and_told(struct bench *b, uint32_t vcpu)
{
	tpt_bare_guest_leave(b->bare, vcpu);
	b->told = tpt_bare_guest_enter(b->bare, vcpu);
}

static void whoever_is_sent_for_is_told_when_he_is_back(void **state)
{
	struct bench *b = bench(64 * PAGE, 1);

	(void)state;
	b->on_ipi = out_and_told;
	assert_int_equal(tpt_bare_guest_enter(b->bare, 0), 0);
	flush(b);
	assert_int_equal(b->told, TPT_BARE_FLUSH);
	b->p->hold(b->bare, NULL, true);
	assert_int_equal(b->told, TPT_BARE_HELD);
	b->p->hold(b->bare, NULL, false);
	assert_int_equal(stats(b).ipis, 2);
	bench_end(b, 0);
}

static void holds_nest_and_keep_requests(void **state)
{
	struct bench *b = bench(64 * PAGE, 1);

	(void)state;
	b->p->hold(b->bare, NULL, true);
	b->p->hold(b->bare, NULL, true);
	flush(b);
	assert_int_equal(tpt_bare_guest_enter(b->bare, 0), TPT_BARE_HELD);
	b->p->hold(b->bare, NULL, false);
	assert_int_equal(tpt_bare_guest_enter(b->bare, 0), TPT_BARE_HELD);
	/* Nothing was entered: nobody is sent for. */
	b->p->kick(b->bare, NULL, TPT_KICK_TRACK);
	assert_int_equal(stats(b).ipis, 0);
	b->p->hold(b->bare, NULL, false);
	assert_int_equal(tpt_bare_guest_enter(b->bare, 0), TPT_BARE_FLUSH);
	tpt_bare_guest_leave(b->bare, 0);
	assert_int_equal(stats(b).holds, 2);
	b->p->hold(b->bare, NULL, false);
	assert_told(b, 1, "hold(false) without hold(true)");
	assert_int_equal(tpt_bare_guest_enter(b->bare, 0), 0);
	tpt_bare_guest_leave(b->bare, 0);
	bench_end(b, 1);
}

static void leave_at_once(struct bench *b, uint32_t vcpu)
{
	tpt_bare_guest_leave(b->bare, vcpu);
}

static void a_broken_shootdown_reaches_nobody_but_a_hold_does(void **state)
{
	struct bench *b = bench(64 * PAGE, 2);

	(void)state;
	b->on_ipi = leave_at_once;
	tpt_bare_break_shootdown(b->bare);
	assert_int_equal(tpt_bare_guest_enter(b->bare, 0), 0);
	flush(b);
	b->p->kick(b->bare, NULL, TPT_KICK_TRACK);
	assert_int_equal(stats(b).ipis, 0);
	assert_int_equal(tpt_bare_guest_enter(b->bare, 1), 0);
	b->p->hold(b->bare, NULL, true);
	assert_int_equal(stats(b).ipis, 2);
	assert_int_equal(tpt_bare_guest_enter(b->bare, 0), TPT_BARE_HELD);
	b->p->hold(b->bare, NULL, false);
	assert_true(stats(b).flushes == 1 && stats(b).kicks == 1);
	bench_end(b, 0);
}

static void misused_seats_are_told(void **state)
{
	struct bench *b = bench(64 * PAGE, 2);

	(void)state;
	assert_int_equal(tpt_bare_guest_enter(b->bare, 2), TPT_BARE_HELD);
	assert_told(b, 1, "vCPU 2 has no seat");
	tpt_bare_guest_leave(b->bare, UINT32_MAX);
	assert_told(b, 2, "vCPU 4294967295 has no seat");
	tpt_bare_guest_leave(b->bare, 1);
	assert_told(b, 3, "vCPU 1 leaves the guest and is not in it");
	assert_int_equal(tpt_bare_guest_enter(b->bare, 1), 0);
	assert_int_equal(tpt_bare_guest_enter(b->bare, 1), 0);
	assert_told(b, 4, "vCPU 1 enters the guest and did not leave it");
	tpt_bare_guest_leave(b->bare, 1);
	b->p->kick(b->bare, NULL, TPT_KICK_TRACK);
	assert_int_equal(stats(b).ipis, 0);
	bench_end(b, 4);
}

/* What a processor caches: a copy of @word, which must be no older than the last flush. */
struct litmus {
	struct bench *b;
	_Atomic uint64_t word, flushed;
	atomic_bool stop;
};

static void *cache_it(void *arg)
{
	struct litmus *l = arg;
	uint64_t cached = 0;

	while (!atomic_load_explicit(&l->stop, memory_order_relaxed)) {
		if (tpt_bare_guest_enter(l->b->bare, 0) == TPT_BARE_FLUSH)
			cached = atomic_load_explicit(&l->word, memory_order_relaxed);
		for (int i = 0; i < 50; i++)
			must(cached >= atomic_load_explicit(&l->flushed, memory_order_relaxed));
		tpt_bare_guest_leave(l->b->bare, 0);
	}
	return NULL;
}

static void no_guest_ever_uses_what_was_flushed(void **state)
{
	struct litmus l = {.b = bench(64 * PAGE, 1)};
	pthread_t thread = start(cache_it, &l);

	(void)state;
	for (uint64_t i = 1; i <= 100000; i++) {
		atomic_store_explicit(&l.word, i, memory_order_relaxed);
		flush(l.b);
		atomic_store_explicit(&l.flushed, i, memory_order_relaxed);
	}
	atomic_store(&l.stop, true);
	join(thread);
	bench_end(l.b, 0);
}

/* Nobody is in the guest while it is held, and all get in again after. */
static void *in_and_out(void *arg)
{
	struct litmus *l = arg;

	while (!atomic_load_explicit(&l->stop, memory_order_relaxed)) {
		if (tpt_bare_guest_enter(l->b->bare, 0) == TPT_BARE_HELD)
			continue;
		for (int i = 0; i < 50; i++)
			must(!atomic_load_explicit(&l->word, memory_order_relaxed));
		tpt_bare_guest_leave(l->b->bare, 0);
	}
	return NULL;
}

static void nobody_is_ever_in_the_guest_while_it_is_held(void **state)
{
	struct litmus l = {.b = bench(64 * PAGE, 1)};
	pthread_t thread = start(in_and_out, &l);

	(void)state;
	for (uint64_t i = 1; i <= 100000; i++) {
		l.b->p->hold(l.b->bare, NULL, true);
		for (int n = 0; n < 50; n++)
			atomic_store_explicit(&l.word, 1, memory_order_relaxed);
		atomic_store_explicit(&l.word, 0, memory_order_relaxed);
		l.b->p->hold(l.b->bare, NULL, false);
	}
	atomic_store(&l.stop, true);
	join(thread);
	bench_end(l.b, 0);
}

/* ---- deferred work -------------------------------------------------------------------------- */

struct late {
	struct tpt_deferred deferred;
	struct bench *b;
	unsigned int *ran; /* how many before this one */
	unsigned int at;
	unsigned int again; /* times that it defers itself */
	atomic_uint begun, go;
};

static void late_fn(struct tpt_deferred *d)
{
	struct late *late = (struct late *)d;

	late->at = (*late->ran)++;
	if (late->again) {
		late->again--;
		late->b->p->defer(late->b->bare, d);
	}
}

static void deferred_work_runs_oldest_first_in_pieces(void **state)
{
	struct bench *b = bench(64 * PAGE, 1);
	struct late late[150];
	unsigned int ran = 0;

	(void)state;
	assert_int_equal(tpt_bare_run_deferred(b->bare), 0);
	for (unsigned int i = 0; i < 150; i++) {
		late[i] = (struct late){.deferred.fn = late_fn, .b = b, .ran = &ran};
		b->p->defer(b->bare, &late[i].deferred);
	}
	assert_int_equal(ran, 0);
	assert_true(stats(b).deferred == 150 && stats(b).pending == 150);
	assert_int_equal(tpt_bare_run_deferred(b->bare), 64);
	assert_true(ran == 64 && stats(b).pending == 86);
	assert_int_equal(tpt_bare_run_deferred(b->bare), 64);
	assert_int_equal(tpt_bare_run_deferred(b->bare), 22);
	assert_int_equal(tpt_bare_run_deferred(b->bare), 0);
	for (unsigned int i = 0; i < 150; i++)
		assert_int_equal(late[i].at, i);
	assert_true(stats(b).deferred == 150 && !stats(b).pending);
	bench_end(b, 0);
}

static void work_may_defer_again_and_is_run_again_in_its_turn(void **state)
{
	struct bench *b = bench(64 * PAGE, 1);
	unsigned int ran = 0;
	struct late one = {.deferred.fn = late_fn, .b = b, .ran = &ran, .again = 1};
	struct late two = {.deferred.fn = late_fn, .b = b, .ran = &ran};

	(void)state;
	b->p->defer(b->bare, &one.deferred);
	b->p->defer(b->bare, &two.deferred);
	b->p->barrier(b->bare);
	assert_int_equal(two.at, 1);
	b->p->barrier(b->bare);
	assert_int_equal(one.at, 2);
	assert_int_equal(stats(b).pending, 0);
	/* For ever: each piece ends all the same. */
	one.again = UINT32_MAX;
	b->p->defer(b->bare, &one.deferred);
	assert_int_equal(tpt_bare_run_deferred(b->bare), 64);
	b->p->barrier(b->bare);
	one.again = 0;
	b->p->barrier(b->bare);
	bench_end(b, 0);
}

static void destroy_runs_what_is_deferred(void **state)
{
	struct bench *b = bench(64 * PAGE, 1);
	unsigned int ran = 0;
	struct late late = {.deferred.fn = late_fn, .b = b, .ran = &ran, .again = 99};

	(void)state;
	b->p->defer(b->bare, &late.deferred);
	bench_end(b, 0);
	assert_int_equal(ran, 100);
}

static void slow_fn(struct tpt_deferred *d)
{
	struct late *late = (struct late *)d;

	atomic_store(&late->begun, 1);
	wait_for(&late->go, 1);
	/* One at a time: not even its own processor gets in. */
	must(!tpt_bare_run_deferred(late->b->bare));
	for (int i = 0; i < 100; i++)
		sched_yield();
	(*late->ran)++;
}

static void *run_them(void *arg)
{
	tpt_bare_run_deferred(((struct bench *)arg)->bare);
	return NULL;
}

static void *wait_at_barrier(void *arg)
{
	struct late *late = arg;

	late->b->p->barrier(late->b->bare);
	must(*late->ran == 1);
	return NULL;
}

static void a_barrier_waits_for_what_another_processor_runs(void **state)
{
	struct bench *b = bench(64 * PAGE, 1);
	unsigned int ran = 0;
	struct late late = {.deferred.fn = slow_fn, .b = b, .ran = &ran};
	pthread_t runner, waiter;

	(void)state;
	b->p->defer(b->bare, &late.deferred);
	runner = start(run_them, b);
	wait_for(&late.begun, 1);
	assert_int_equal(tpt_bare_run_deferred(b->bare), 0);
	assert_int_equal(stats(b).pending, 1);
	atomic_store(&b->relaxes, 0);
	waiter = start(wait_at_barrier, &late);
	wait_for(&b->relaxes, 10);
	/* Nothing is locked while work runs. */
	b->p->lock(b->bare);
	b->p->unlock(b->bare);
	atomic_store(&late.go, 1);
	join(runner);
	join(waiter);
	bench_end(b, 0);
}

/* Runners at a time; work waits a little so that a second one would be seen. */
static atomic_uint runners;

static void alone_fn(struct tpt_deferred *d)
{
	must(!atomic_fetch_add(&runners, 1));
	sched_yield();
	late_fn(d);
	atomic_fetch_sub(&runners, 1);
}

static void *defer_and_wait(void *arg)
{
	struct bench *b = arg;

	for (int i = 0; i < 2000; i++) {
		unsigned int ran = 0;
		struct late late = {.deferred.fn = alone_fn, .b = b, .ran = &ran};

		b->p->defer(b->bare, &late.deferred);
		if (i % 3 == 0)
			tpt_bare_run_deferred(b->bare);
		b->p->barrier(b->bare);
		must(ran == 1);
	}
	return NULL;
}

static void work_of_many_processors_is_run_once_each(void **state)
{
	struct bench *b = bench(64 * PAGE, 1);

	(void)state;
	run_threads(THREADS, defer_and_wait, b);
	assert_true(stats(b).deferred == THREADS * 2000 && !stats(b).pending);
	bench_end(b, 0);
}

/* ---- a VM on it ----------------------------------------------------------------------------- */

#define GUEST_PAGES 4096u
#define GUEST_HVA   GIB
#define VM_VCPUS    2

static int vm_lookup(void *ctx, const struct tpt_backing_query *q, struct tpt_backing_page *page)
{
	(void)ctx;
	*page = (struct tpt_backing_page){.pfn = tpt_pfn_make(q->hva.a >> TPT_PAGE_SHIFT),
					  .writable = true,
					  .level = TPT_LEVEL_4K};
	return 0;
}

static const struct tpt_backing_ops vm_backing = {
	.size = sizeof(vm_backing),
	.lookup = vm_lookup,
};

struct machine_vm {
	struct bench *b;
	struct tpt_vm *vm;
	struct tpt_vcpu *vcpu[VM_VCPUS];
	atomic_uint seats;
	atomic_bool stop;
	_Atomic uint64_t faults, hits;
};

static void vm_start(struct machine_vm *m, struct bench *b, uint64_t pages)
{
	const struct tpt_memory_region ram = {.size = pages * PAGE, .hva = {GUEST_HVA}};
	struct tpt_vm_config c;

	*m = (struct machine_vm){.b = b};
	host_config_ept(&c);
	c.max_leaf_level = TPT_LEVEL_4K;
	c.platform = b->p;
	c.platform_ctx = b->bare;
	c.backing = &vm_backing;
	assert_int_equal(tpt_vm_create(&c, &m->vm), 0);
	assert_int_equal(tpt_vm_set_memory_region(m->vm, &ram), 0);
	for (uint32_t i = 0; i < VM_VCPUS; i++)
		assert_int_equal(tpt_vcpu_create(m->vm, i, &m->vcpu[i]), 0);
}

static void vm_audit(struct machine_vm *m)
{
	char text[256];
	int faults = tpt_vm_audit(m->vm, text, sizeof(text));

	if (faults || tpt_vm_is_dead(m->vm))
		print_message("audit: %s; %s\n", text, tpt_vm_report(m->vm));
	assert_int_equal(faults, 0);
	assert_false(tpt_vm_is_dead(m->vm));
}

static int load_roots(struct machine_vm *m, uint32_t i, struct tpt_roots *roots)
{
	int err;

	while ((err = tpt_vcpu_load_roots(m->vcpu[i], roots)) == -EAGAIN)
		sched_yield();
	return err;
}

/* Walks as a processor does, by nothing but the root. 0: the entry is not there. */
static uint64_t walk(const struct bench *b, tpt_hpa root, uint64_t gpa)
{
	uint64_t at = root.a, entry = 0;

	for (unsigned int level = 4; level; level--) {
		_Atomic uint64_t *table = b->p->page_ptr(b->bare, (tpt_hpa){at});

		entry = atomic_load_explicit(&table[gpa >> (3 + 9 * level) & 511],
					     memory_order_acquire);
		if (!(entry & 7))
			return 0;
		at = entry & 0xffffffffff000;
	}
	return entry;
}

/* Goes on in the guest until an access misses or the interrupt comes. True: a miss, at *gpa. */
static bool run_guest(struct machine_vm *m, uint32_t i, tpt_hpa root, uint64_t *random,
		      uint64_t *gpa)
{
	while (!atomic_exchange(&m->b->ipi[i], 0)) {
		uint64_t entry;

		*gpa = toss(random, GUEST_PAGES) * PAGE;
		entry = walk(m->b, root, *gpa);
		if (!entry)
			return true;
		must((entry & 0xffffffffff000) == GUEST_HVA + *gpa);
		atomic_fetch_add_explicit(&m->hits, 1, memory_order_relaxed);
	}
	return false;
}

static void take_fault(struct machine_vm *m, uint32_t i, uint64_t gpa)
{
	struct tpt_fault f = {.gpa = {gpa}, .error_code = TPT_PFERR_WRITE};
	int ret = tpt_vcpu_fault(m->vcpu[i], &f);

	must(ret == TPT_RET_PF_FIXED || ret == TPT_RET_PF_SPURIOUS || ret == TPT_RET_PF_RETRY);
	atomic_fetch_add_explicit(&m->faults, 1, memory_order_relaxed);
}

static void *vcpu_thread(void *arg)
{
	struct machine_vm *m = arg;
	uint32_t i = atomic_fetch_add(&m->seats, 1);
	uint64_t random = i + 1, gpa;

	while (!atomic_load(&m->stop)) {
		struct tpt_roots roots;
		uint32_t told;
		bool missed;

		must(!load_roots(m, i, &roots));
		told = tpt_bare_guest_enter(m->b->bare, i);
		if (told == TPT_BARE_HELD) {
			sched_yield();
			continue;
		}
		missed = !told && run_guest(m, i, roots.direct, &random, &gpa);
		tpt_bare_guest_leave(m->b->bare, i);
		if (missed)
			take_fault(m, i, gpa);
	}
	return NULL;
}

static void a_vm_lives_on_it_while_its_roots_are_zapped(void **state)
{
	struct machine_vm m;
	pthread_t threads[VM_VCPUS];
	unsigned int zaps = 0;

	(void)state;
	vm_start(&m, bench(16 * MIB, VM_VCPUS), GUEST_PAGES);
	for (uint32_t i = 0; i < VM_VCPUS; i++)
		threads[i] = start(vcpu_thread, &m);
	/* Until all has happened that is to be seen here. */
	while (zaps < 300 || stats(m.b).ipis < 10 || atomic_load(&m.hits) < 1000) {
		assert_int_equal(tpt_vm_zap_all_fast(m.vm), 0);
		tpt_bare_run_deferred(m.b->bare);
		for (unsigned int n = zaps++ % 8; n; n--)
			sched_yield();
	}
	atomic_store(&m.stop, true);
	/* Nobody sends for who is in the guest by now. */
	for (uint32_t i = 0; i < VM_VCPUS; i++)
		atomic_fetch_add(&m.b->ipi[i], 1);
	for (uint32_t i = 0; i < VM_VCPUS; i++)
		join(threads[i]);
	vm_audit(&m);
	assert_true(stats(m.b).flushes > 0 && stats(m.b).locks >= 300);
	assert_true(stats(m.b).deferred > 0 && stats(m.b).pages_live > 0);
	tpt_vm_destroy(m.vm);
	assert_true(!stats(m.b).pages_live && !stats(m.b).mem_live && !stats(m.b).pending);
	bench_end(m.b, 0);
}

static int fault_at(struct machine_vm *m, uint64_t gpa)
{
	struct tpt_fault f = {.gpa = {gpa}, .error_code = TPT_PFERR_WRITE};
	struct tpt_roots roots;
	int err = load_roots(m, 0, &roots);

	return err ? err : tpt_vcpu_fault(m->vcpu[0], &f);
}

static void pages_that_run_out_are_told_and_nothing_is_lost(void **state)
{
	struct machine_vm m;
	uint64_t gpa = 0;
	int ret;

	(void)state;
	vm_start(&m, bench_at(1 * MIB, 512 * KIB, VM_VCPUS, false), GIB / PAGE);
	for (int round = 0; round < 3; round++) {
		/* A table a fault. */
		for (gpa = 0; (ret = fault_at(&m, gpa)) == TPT_RET_PF_FIXED; gpa += 2 * MIB)
			;
		assert_int_equal(ret, -ENOMEM);
		assert_true(gpa > 50 * MIB && gpa < GIB);
		assert_int_equal(stats(m.b).pages_live, stats(m.b).pages);
		assert_int_equal(fault_at(&m, gpa), -ENOMEM);
		vm_audit(&m);
		assert_int_equal(tpt_vm_zap_all_fast(m.vm), 0);
		while (tpt_bare_run_deferred(m.b->bare))
			;
		assert_true(stats(m.b).pages_live < 16);
		assert_int_equal(fault_at(&m, gpa), TPT_RET_PF_FIXED);
		vm_audit(&m);
		assert_int_equal(tpt_vm_zap_all_fast(m.vm), 0);
		m.b->p->barrier(m.b->bare);
	}
	tpt_vm_destroy(m.vm);
	assert_true(!stats(m.b).pages_live && !stats(m.b).mem_live);
	bench_end(m.b, 0);
}

static void memory_at_its_own_physical_address_works_too(void **state)
{
	struct machine_vm m;
	struct tpt_roots roots;

	(void)state;
	vm_start(&m, bench_at(2 * MIB, 0, VM_VCPUS, true), GUEST_PAGES);
	assert_int_equal(m.b->p->page_linear, 0);
	for (uint64_t gpa = 0; gpa < GUEST_PAGES * PAGE; gpa += 64 * PAGE)
		assert_int_equal(fault_at(&m, gpa), TPT_RET_PF_FIXED);
	assert_int_equal(load_roots(&m, 0, &roots), 0);
	assert_int_equal(walk(m.b, roots.direct, 64 * PAGE) & 0xffffffffff000,
			 GUEST_HVA + 64 * PAGE);
	vm_audit(&m);
	tpt_vm_destroy(m.vm);
	bench_end(m.b, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_configurations_are_refused_and_change_nothing),
		cmocka_unit_test(the_least_memory_holds_a_page_and_an_object),
		cmocka_unit_test(of_no_size_of_memory_a_page_is_left_out),
		cmocka_unit_test(pages_and_records_are_where_the_linear_map_says),
		cmocka_unit_test(all_pages_are_handed_out_once_and_then_there_are_none),
		cmocka_unit_test(the_peak_is_the_most_that_there_were_at_once),
		cmocka_unit_test(bad_page_frees_are_told_and_change_nothing),
		cmocka_unit_test(processors_never_get_the_same_page),
		cmocka_unit_test(objects_are_zeroed_aligned_and_balanced),
		cmocka_unit_test(an_exhausted_heap_is_one_block_again_when_all_is_freed),
		cmocka_unit_test(what_is_too_small_for_an_object_is_not_lost),
		cmocka_unit_test(bad_object_frees_are_told),
		cmocka_unit_test(objects_come_and_go_as_in_a_plain_model),
		cmocka_unit_test(processors_never_get_the_same_object),
		cmocka_unit_test(leaks_and_open_ends_are_told_at_the_end),
		cmocka_unit_test(the_lock_is_one_processors_at_a_time),
		cmocka_unit_test(the_lock_is_given_in_the_order_of_asking),
		cmocka_unit_test(unlocking_twice_is_told_and_the_lock_goes_on),
		cmocka_unit_test(a_flush_while_outside_is_told_once_at_the_next_entry),
		cmocka_unit_test(all_of_them_wait_until_a_vcpu_has_left_the_guest),
		cmocka_unit_test(all_are_sent_for_before_any_is_waited_for),
		cmocka_unit_test(a_vcpu_that_was_outside_is_not_waited_for_though_it_is_back),
		cmocka_unit_test(whoever_is_sent_for_is_told_when_he_is_back),
		cmocka_unit_test(holds_nest_and_keep_requests),
		cmocka_unit_test(a_broken_shootdown_reaches_nobody_but_a_hold_does),
		cmocka_unit_test(misused_seats_are_told),
		cmocka_unit_test(no_guest_ever_uses_what_was_flushed),
		cmocka_unit_test(nobody_is_ever_in_the_guest_while_it_is_held),
		cmocka_unit_test(deferred_work_runs_oldest_first_in_pieces),
		cmocka_unit_test(work_may_defer_again_and_is_run_again_in_its_turn),
		cmocka_unit_test(destroy_runs_what_is_deferred),
		cmocka_unit_test(a_barrier_waits_for_what_another_processor_runs),
		cmocka_unit_test(work_of_many_processors_is_run_once_each),
		cmocka_unit_test(a_vm_lives_on_it_while_its_roots_are_zapped),
		cmocka_unit_test(pages_that_run_out_are_told_and_nothing_is_lost),
		cmocka_unit_test(memory_at_its_own_physical_address_works_too),
	};

	return cmocka_run_group_tests_name("bare", tests, NULL, NULL);
}
