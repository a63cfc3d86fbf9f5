// SPDX-License-Identifier: BSD-2-Clause
/*
 * A VM to measure on: the posix platform, a backing whose frames are its addresses, an external
 * table that says yes. Deferred work waits in a queue until it is asked for, so that it can be
 * measured by itself and on the thread that measures. Times nothing.
 */
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "bench/bench.h"
#include "mmu/vm/vm.h"

#define ARENA_BYTES (4ull << 30)
#define GMEM_PFN    (1ull << 32)

/* ---- deferred work ---- */

static struct {
	pthread_mutex_t lock;
	struct tpt_deferred *first, **last;
} queue = {PTHREAD_MUTEX_INITIALIZER, NULL, &queue.first};

static void defer(void *ctx, struct tpt_deferred *d)
{
	(void)ctx;
	pthread_mutex_lock(&queue.lock);
	d->next = NULL;
	*queue.last = d;
	queue.last = &d->next;
	pthread_mutex_unlock(&queue.lock);
}

static struct tpt_deferred *take_deferred(void)
{
	struct tpt_deferred *all;

	pthread_mutex_lock(&queue.lock);
	all = queue.first;
	queue.first = NULL;
	queue.last = &queue.first;
	pthread_mutex_unlock(&queue.lock);
	return all;
}

/* Work may defer more. Nobody is in a section when it runs, so none is waited for. */
uint64_t bench_run_deferred(void)
{
	struct tpt_deferred *d, *next;
	uint64_t nr = 0;

	while ((d = take_deferred()))
		for (; d; d = next, nr++) {
			next = d->next;
			d->fn(d);
		}
	return nr;
}

void bench_run_only_deferred(struct bench *b)
{
	b->wrong = !bench_run_deferred();
}

bool bench_check_nothing_deferred(struct bench *b)
{
	int64_t waiting = atomic_load(&b->vm->base.pages_deferred);

	return !waiting || bench_fail(b, "%ld tables still wait for the reclaimer", waiting);
}

static void barrier(void *ctx)
{
	(void)ctx;
	bench_run_deferred();
}

/* ---- backing and external table ---- */

static struct tpt_backing_page page_at(const struct bench *b, tpt_hva hva)
{
	/* The lowest bit turned: each frame stands alone. */
	uint64_t pfn = (hva.a >> TPT_PAGE_SHIFT) ^ b->scattered;

	return (struct tpt_backing_page){.pfn = {pfn}, .writable = true, .level = b->level};
}

static int lookup(void *ctx, const struct tpt_backing_query *q, struct tpt_backing_page *page)
{
	*page = page_at(ctx, q->hva);
	return 0;
}

static struct tpt_backing_run run_at(const struct bench *b, tpt_hva hva, uint32_t nr)
{
	struct tpt_backing_page page = page_at(b, hva);

	return (struct tpt_backing_run){
		.pfn = page.pfn, .nr = nr, .writable = page.writable, .level = page.level};
}

static int lookup_range(void *ctx, const struct tpt_backing_query *q, uint32_t nr,
			struct tpt_backing_run *run, uint32_t nr_runs)
{
	const struct bench *b = ctx;

	if (!b->scattered) {
		run[0] = run_at(b, q->hva, nr);
		return 1;
	}
	for (uint32_t i = 0; i < nr && i < nr_runs; i++)
		run[i] = run_at(b, tpt_hva_make(q->hva.a + (uint64_t)i * TPT_PAGE_SIZE), 1);
	return (int)(nr < nr_runs ? nr : nr_runs);
}

static enum tpt_level mapping_level(void *ctx, tpt_hva hva, tpt_pfn pfn)
{
	const struct bench *b = ctx;

	(void)hva;
	(void)pfn;
	return b->level;
}

/* What was zapped is reported, as a host that marks its pages wants it. */
static void zapped(void *ctx, const struct tpt_zapped *z)
{
	(void)ctx, (void)z;
}

static const struct tpt_backing_ops backing = {.size = sizeof(backing),
					       .lookup = lookup,
					       .mapping_level = mapping_level,
					       .lookup_range = lookup_range,
					       .zapped = zapped};

static int get_page(void *ctx, uint64_t index, tpt_pfn *pfn, enum tpt_level *level)
{
	(void)ctx;
	*pfn = tpt_pfn_make(GMEM_PFN + index);
	*level = TPT_LEVEL_4K;
	return 0;
}

static const struct tpt_gmem_ops gmem_ops = {.size = sizeof(gmem_ops), .get_page = get_page};

static int ext_link(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_hpa table)
{
	(void)ctx, (void)gfn, (void)level, (void)table;
	return 0;
}

static int ext_map(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_pfn pfn)
{
	(void)ctx, (void)gfn, (void)level, (void)pfn;
	return 0;
}

static int ext_entry(void *ctx, tpt_gfn gfn, enum tpt_level level)
{
	(void)ctx, (void)gfn, (void)level;
	return 0;
}

static int ext_whole(void *ctx)
{
	(void)ctx;
	return 0;
}

static const struct tpt_external_ops external = {.size = sizeof(external),
						 .link = ext_link,
						 .map = ext_map,
						 .block = ext_entry,
						 .unblock = ext_entry,
						 .track = ext_whole,
						 .remove = ext_map,
						 .release = ext_whole,
						 .reclaim_leaf = ext_map,
						 .free_table = ext_link};

/* ---- making one ---- */

/* Numbers in an order that is the same every time: Fisher and Yates's shuffle. */
static void shuffle(uint32_t *n, uint64_t nr)
{
	uint64_t random = 0x9e3779b97f4a7c15ull;

	for (uint64_t i = nr - 1; i > 0; i--) {
		uint64_t j;
		uint32_t old = n[i];

		random = random * 6364136223846793005ull + 1442695040888963407ull;
		j = (random >> 33) % (i + 1);
		n[i] = n[j];
		n[j] = old;
	}
}

static bool make_orders(struct bench *b)
{
	b->in_order = calloc(b->pages, sizeof(*b->in_order));
	b->in_disorder = calloc(b->pages, sizeof(*b->in_disorder));
	if (!b->in_order || !b->in_disorder)
		return bench_fail(b, "no memory for the order of %lu pages", b->pages);
	for (uint64_t i = 0; i < b->pages; i++)
		b->in_order[i] = b->in_disorder[i] = (uint32_t)i;
	shuffle(b->in_disorder, b->pages);
	return true;
}

/* Table pages on huge pages, as the direct map of a kernel is. */
static void want_huge_pages(const struct tpt_posix *posix)
{
	uint64_t bytes;
	void *va;

	if (!tpt_posix_arena(posix, NULL, &va, &bytes))
		madvise(va, bytes, MADV_HUGEPAGE);
}

bool bench_init(struct bench *b, uint64_t pages)
{
	struct tpt_posix_config config = {.size = sizeof(config), .bytes = ARENA_BYTES};

	*b = (struct bench){.pages = (pages + 511) / 512 * 512};
	b->huge = b->pages / 8;
	b->posix = tpt_posix_create(&config);
	if (!b->posix)
		return bench_fail(b, "no platform");
	want_huge_pages(b->posix);
	b->platform = *tpt_posix_platform(b->posix);
	b->platform.defer = defer;
	b->platform.barrier = barrier;
	return make_orders(b);
}

void bench_fini(struct bench *b)
{
	free(b->in_order);
	free(b->in_disorder);
	tpt_posix_destroy(b->posix);
}

static bool make_vm(struct bench *b, struct tpt_vm_config *c)
{
	struct tpt_roots roots;

	c->maxphyaddr = 48;
	c->guest_maxphyaddr = 48;
	c->platform = &b->platform;
	c->platform_ctx = b->posix;
	c->backing = &backing;
	c->backing_ctx = b;
	if (tpt_vm_create(c, &b->vm) || tpt_vcpu_create(b->vm, 0, &b->vcpu) ||
	    tpt_vcpu_load_roots(b->vcpu, &roots))
		return bench_fail(b, "no VM");
	return true;
}

static struct tpt_memory_region slot_region(const struct bench *b)
{
	return (struct tpt_memory_region){.size = b->bytes, .hva = {BENCH_HVA}};
}

bool bench_vm(struct bench *b, uint32_t vm_flags, uint64_t bytes, enum tpt_level level)
{
	struct tpt_memory_region region;
	struct tpt_vm_config c;

	b->bytes = bytes;
	b->level = level;
	tpt_vm_config_init(&c, b->format);
	c.flags = vm_flags;
	region = slot_region(b);
	if (!make_vm(b, &c))
		return false;
	return !tpt_vm_set_memory_region(b->vm, &region) || bench_fail(b, "no memslot");
}

bool bench_td(struct bench *b, uint64_t bytes, const struct tpt_external_ops *ops)
{
	struct tpt_memory_region region;
	struct tpt_vm_config c;

	b->bytes = bytes;
	b->level = TPT_LEVEL_4K;
	tpt_vm_config_init(&c, b->format);
	c.flags = TPT_VM_SELF_SNOOP;
	c.shared_bit = __builtin_ctzll(BENCH_SHARED);
	c.external = ops ? ops : &external;
	c.external_ctx = b;
	if (!make_vm(b, &c))
		return false;
	if (tpt_gmem_create(b->vm, bytes, &gmem_ops, b, &b->gmem))
		return bench_fail(b, "no gmem");
	region = slot_region(b);
	region.flags = TPT_MEM_GUEST_MEMFD;
	region.gmem = b->gmem;
	if (tpt_vm_set_memory_region(b->vm, &region) ||
	    tpt_vm_set_private(b->vm, 0, bytes / TPT_PAGE_SIZE, true, NULL))
		return bench_fail(b, "no private memslot");
	return true;
}

void bench_vm_destroy(struct bench *b)
{
	if (b->vm)
		tpt_vm_destroy(b->vm);
	b->vm = NULL;
	b->vcpu = NULL;
	b->gmem = NULL;
	b->scattered = false;
}

bool bench_populate(struct bench *b)
{
	uint64_t step = tpt_level_pages(b->level) * TPT_PAGE_SIZE;

	for (uint64_t gpa = 0; gpa < b->bytes; gpa += step) {
		struct tpt_fault fault = {.gpa = {gpa}, .error_code = TPT_PFERR_WRITE};
		int ret = tpt_vcpu_fault(b->vcpu, &fault);

		if (ret != TPT_RET_PF_FIXED)
			return bench_fail(b, "set-up: a write to %#lx is answered %d", gpa, ret);
	}
	return true;
}

bool bench_log_dirty(struct bench *b, bool on)
{
	struct tpt_memory_region region = slot_region(b);
	int err;

	region.flags = on ? TPT_MEM_LOG_DIRTY : 0;
	err = tpt_vm_set_memory_region(b->vm, &region);
	return !err || bench_fail(b, "the dirty log could not be switched: %d", err);
}

/* ---- looking at the result ---- */

bool bench_check_answers(struct bench *b)
{
	if (b->wrong)
		return bench_fail(b, "%lu of %lu answers were wrong", b->wrong, b->units);
	if (tpt_vm_is_dead(b->vm))
		return bench_fail(b, "the VM is dead: %s", tpt_vm_report(b->vm));
	return true;
}

static bool check_tree(struct bench *b, const struct tpt_tree_stats *s, uint64_t small,
		       uint64_t large)
{
	if (s->pages_4k == small && s->pages_2m == large && !s->pages_1g && !s->blocked)
		return bench_check_answers(b);
	return bench_fail(b, "there are %lu small and %lu large leaves, not %lu and %lu",
			  s->pages_4k, s->pages_2m, small, large);
}

bool bench_check_leaves(struct bench *b, uint64_t small, uint64_t large)
{
	struct tpt_vm_stats s;

	tpt_vm_get_stats(b->vm, &s);
	return check_tree(b, &s.direct, small, large);
}

bool bench_check_private(struct bench *b, uint64_t small)
{
	struct tpt_vm_stats s;

	tpt_vm_get_stats(b->vm, &s);
	return check_tree(b, &s.mirror, small, 0);
}

struct count {
	uint64_t bits, nr;
};

static bool count_one(void *ctx, const struct tpt_mapping *m)
{
	struct count *c = ctx;

	c->nr += m->leaf && m->tree == TPT_TREE_DIRECT && m->spte.w & c->bits;
	return true;
}

uint64_t bench_leaves_with(struct bench *b, uint64_t bits)
{
	struct count c = {bits, 0};

	tpt_vm_for_each_mapping(b->vm, count_one, &c);
	return c.nr;
}
