// SPDX-License-Identifier: BSD-2-Clause
/*
 * Huge leaves to small ones and back: a split makes what mapping small would have made, a recovery
 * what mapping large would have; what forbids either is heeded; one flush serves many tables.
 */
#include "tests/support/host.h"

#include "mmu/vm/vm.h"

#define PAGE	   4096ull
#define BLOCK	   512ull /* pages of a 2M leaf */
#define RW	   (TPT_ACC_READ | TPT_ACC_WRITE)
#define ADDRESS	   0x000ffffffffff000ull
#define NR_FORMATS 3

/* Host pages: large, but for one block. */
static uint64_t small_block;
static enum tpt_level host_level;
static uint64_t skew; /* of frames against hva */

static enum tpt_level mapping_level(void *ctx, tpt_hva hva, tpt_pfn pfn)
{
	(void)ctx;
	must((hva.a >> TPT_PAGE_SHIFT) + skew == pfn.n);
	return (hva.a - GIB) / PAGE / BLOCK == small_block ? TPT_LEVEL_4K : host_level;
}

static const struct tpt_backing_ops backing = {
	.size = sizeof(backing),
	.lookup = host_lookup,
	.mark_dirty = host_mark_dirty,
	.mapping_level = mapping_level,
};

/* A VM with a slot of @bytes at 0 over hva GIB, all of it mapped as large as @level. */
static struct host *vm(unsigned int format, uint64_t bytes, enum tpt_level level, bool nx)
{
	struct tpt_vm_config c;
	struct host *h;
	uint64_t done;

	host_config_npt(&c);
	c.flags = TPT_VM_EAGER_PAGE_SPLIT;
	if (format)
		c.format = TPT_FORMAT_EPT;
	if (format == 2)
		c.flags |= TPT_VM_NO_AD;
	h = host_prepare(&c);
	h->config.backing = &backing;
	h->level = host_level = level;
	small_block = ~0ull;
	skew = 0;
	assert_int_equal(tpt_vm_create(&h->config, &h->vm), 0);
	if (nx)
		assert_int_equal(tpt_vm_set_nx_huge_pages(h->vm, TPT_NX_FORCE), 0);
	assert_int_equal(tpt_vcpu_create(h->vm, 0, &h->vcpu[0]), 0);
	assert_int_equal(host_slot(h, 0, 0, 0, bytes, GIB, 0), 0);
	assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 0, bytes / PAGE, RW, &done), 0);
	assert_int_equal(done, bytes / PAGE);
	return h;
}

/* Splits all that is above @level. 0 or -ENOMEM; *nr leaves were split. */
static int split(struct host *h, tpt_gfn end, enum tpt_level level, uint64_t *nr)
{
	struct range_split op = {.tree = TREE_DIRECT, .range = {0, end}, .level = level};
	struct actor *worker = worker_get(h->vm);
	int more;

	do {
		more = tables_topup(&h->vm->trees, worker, false);
		if (more)
			break;
		worker_enter(worker);
		more = range_split_chunk(&h->vm->env, worker, &op);
		worker_leave(worker);
	} while (more > 0);
	worker_put(h->vm, worker);
	*nr = op.split;
	return more;
}

struct list {
	unsigned int nr;
	struct tpt_mapping m[4096];
};

static bool note(void *ctx, const struct tpt_mapping *m)
{
	struct list *l = ctx;

	if (m->leaf)
		l->m[l->nr++] = *m;
	return l->nr < 4096;
}

static void assert_same_leaves(struct host *a, struct host *b)
{
	static struct list la, lb;
	struct tpt_vm_stats sa = host_stats(a), sb = host_stats(b);

	la.nr = lb.nr = 0;
	tpt_vm_for_each_mapping(a->vm, note, &la);
	tpt_vm_for_each_mapping(b->vm, note, &lb);
	assert_int_equal(la.nr, lb.nr);
	for (unsigned int i = 0; i < la.nr; i++) {
		assert_int_equal(la.m[i].gfn, lb.m[i].gfn);
		assert_int_equal(la.m[i].level, lb.m[i].level);
		assert_int_equal(la.m[i].spte.w, lb.m[i].spte.w);
	}
	assert_memory_equal(&sa.direct, &sb.direct, sizeof(sa.direct));
}

static void what_is_split_is_as_if_mapped_small(void **state)
{
	uint64_t nr;

	(void)state;
	for (unsigned int i = 0; i < NR_FORMATS * 2; i++) {
		struct host *a = vm(i / 2, 14 * MIB, TPT_LEVEL_2M, i % 2);
		struct host *b = vm(i / 2, 14 * MIB, TPT_LEVEL_4K, i % 2);

		assert_int_equal(host_stats(a).direct.pages_2m, 7);
		assert_int_equal(split(a, 7 * BLOCK, TPT_LEVEL_4K, &nr), 0);
		assert_int_equal(nr, 7);
		assert_same_leaves(a, b);
		/* No translation changed: none is flushed. */
		assert_int_equal(a->nr_flushes, 0);
		host_destroy(a);
		host_destroy(b);
	}
}

static void a_1g_leaf_is_split_to_2m_ones(void **state)
{
	uint64_t nr;

	(void)state;
	for (unsigned int i = 0; i < NR_FORMATS * 2; i++) {
		struct host *a = vm(i / 2, GIB, TPT_LEVEL_1G, i % 2);
		struct host *b = vm(i / 2, GIB, TPT_LEVEL_2M, i % 2);

		assert_int_equal(host_stats(a).direct.pages_1g, 1);
		assert_int_equal(split(a, BLOCK * BLOCK, TPT_LEVEL_2M, &nr), 0);
		assert_int_equal(nr, 1);
		assert_same_leaves(a, b);
		host_destroy(a);
		host_destroy(b);
	}
}

static void a_split_without_memory_leaves_large_what_it_cannot_split(void **state)
{
	unsigned int cut = 0;

	(void)state;
	for (uint64_t nth = 1; nth <= 12; nth++) {
		struct host *h = vm(0, 20 * MIB, TPT_LEVEL_2M, false);
		struct tpt_vm_stats s;
		uint64_t nr;
		int ret;

		tpt_posix_fail_page_alloc(h->posix, nth);
		ret = split(h, 10 * BLOCK, TPT_LEVEL_4K, &nr);
		assert_true(ret == -ENOMEM || (!ret && nr == 10));
		s = host_stats(h);
		assert_int_equal(s.direct.pages_4k, nr * BLOCK);
		assert_int_equal(s.direct.pages_2m, 10 - nr);
		cut += nr < 10;
		host_destroy(h);
	}
	assert_true(cut >= 6);
}

static void what_is_recovered_is_as_if_mapped_large(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < NR_FORMATS * 2; i++) {
		struct host *a = vm(i / 2, 14 * MIB, TPT_LEVEL_2M, i % 2);
		struct host *b = vm(i / 2, 14 * MIB, TPT_LEVEL_2M, i % 2);
		uint64_t nr;

		assert_int_equal(split(a, 7 * BLOCK, TPT_LEVEL_4K, &nr), 0);
		struct range_recover op = {
			.tree = TREE_DIRECT, .range = {0, 7 * BLOCK}, .host_level = mapping_level};
		struct actor *worker = worker_get(a->vm);

		worker_enter(worker);
		assert_int_equal(range_recover_chunk(&a->vm->env, worker, &op), 0);
		worker_leave(worker);
		assert_int_equal(op.nr, 7);
		assert_int_equal(op.recovered, 7);
		assert_int_equal(op.flush.start, 0);
		assert_int_equal(op.flush.end, 7 * BLOCK);
		while (op.nr)
			table_reclaim_later(op.detached[--op.nr]);
		worker_put(a->vm, worker);
		a->config.platform->barrier(a->posix);
		assert_same_leaves(a, b);
		host_destroy(a);
		host_destroy(b);
	}
}

static void log_dirty(struct host *h, uint64_t bytes, bool on)
{
	assert_int_equal(host_slot(h, 0, 0, 0, bytes, GIB, on ? TPT_MEM_LOG_DIRTY : 0), 0);
}

/* Expected: 130 tables at 64 a chunk are three flushes, which cover them all. */
static void one_flush_serves_many_tables(void **state)
{
	struct host *h = vm(1, 260 * MIB, TPT_LEVEL_2M, false);
	struct tpt_vm_stats s;
	tpt_gfn at = 0;

	(void)state;
	log_dirty(h, 260 * MIB, true);
	assert_int_equal(host_stats(h).direct.pages_2m, 0);
	h->nr_flushes = 0;
	log_dirty(h, 260 * MIB, false);
	s = host_stats(h);
	assert_int_equal(s.direct.pages_2m, 130);
	assert_int_equal(s.flush[TPT_FLUSH_COLLAPSE], 3);
	for (unsigned int i = 0; i < h->nr_flushes; i++) {
		if (h->flush[i].reason != TPT_FLUSH_COLLAPSE)
			continue;
		assert_int_equal(h->flush[i].range.start, at);
		at = h->flush[i].range.end;
	}
	assert_int_equal(at, 130 * BLOCK);
	host_destroy(h);
}

static void recovery_heeds_what_forbids_a_large_leaf(void **state)
{
	(void)state;
	for (unsigned int format = 0; format < NR_FORMATS; format++) {
		struct host *h = vm(format, 20 * MIB, TPT_LEVEL_2M, false);
		struct tpt_invalidation taken;

		log_dirty(h, 20 * MIB, true);
		/* One block each: a tracked page, a page that is being taken away, small pages. */
		assert_int_equal(tpt_vm_write_track_add(h->vm, 0, 3 * BLOCK + 17), 0);
		assert_true(tpt_vm_invalidate_begin(h->vm, tpt_hva_make(GIB + 5 * BLOCK * PAGE),
						    tpt_hva_make(GIB + (5 * BLOCK + 1) * PAGE),
						    &taken) >= 0);
		small_block = 7;
		log_dirty(h, 20 * MIB, false);
		tpt_vm_invalidate_end(h->vm, &taken);
		for (uint64_t i = 0; i < 10; i++) {
			bool large = i != 3 && i != 5 && i != 7;
			struct tpt_mapping m = host_mapping(h, TPT_TREE_DIRECT, 0,
							    (i * BLOCK + (large ? 0 : 1)) * PAGE);

			assert_int_equal(m.level, large ? TPT_LEVEL_2M : TPT_LEVEL_4K);
			assert_int_equal(m.spte.w & ADDRESS,
					 GIB + (i * BLOCK + (large ? 0 : 1)) * PAGE);
		}
		host_destroy(h);
	}
}

/* Frames in a row that no large leaf can begin with, whatever the host says of them. */
static void frames_that_are_not_aligned_stay_small(void **state)
{
	struct host *h = vm(0, 4 * MIB, TPT_LEVEL_4K, false);
	struct tpt_invalidation taken;
	uint64_t done;

	(void)state;
	assert_true(tpt_vm_invalidate_begin(h->vm, tpt_hva_make(GIB), tpt_hva_make(GIB + 4 * MIB),
					    &taken) > 0);
	tpt_vm_invalidate_end(h->vm, &taken);
	h->skew = skew = 1;
	host_level = TPT_LEVEL_2M;
	assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 0, 2 * BLOCK, RW, &done), 0);
	log_dirty(h, 4 * MIB, true);
	log_dirty(h, 4 * MIB, false);
	assert_int_equal(host_stats(h).direct.pages_4k, 2 * BLOCK);
	host_destroy(h);
}

/* An empty table has no frame to make a leaf of; one leaf is enough. */
static void one_leaf_is_enough(void **state)
{
	struct host *h = vm(1, 6 * MIB, TPT_LEVEL_2M, false);
	struct tpt_invalidation taken;

	(void)state;
	log_dirty(h, 6 * MIB, true);
	for (unsigned int block = 0; block < 2; block++) {
		tpt_hva end = tpt_hva_make(GIB + (block * BLOCK + 511 + block) * PAGE);

		assert_true(tpt_vm_invalidate_begin(h->vm, tpt_hva_make(GIB + block * BLOCK * PAGE),
						    end, &taken) > 0);
		tpt_vm_invalidate_end(h->vm, &taken);
	}
	log_dirty(h, 6 * MIB, false);
	assert_int_equal(host_mapping(h, TPT_TREE_DIRECT, 0, 0).level, TPT_LEVEL_2M);
	assert_int_equal(host_word(h, 0) & ADDRESS, GIB);
	assert_int_equal(host_stats(h).direct.pages_2m, 2);
	assert_int_equal(host_stats(h).direct.pages_4k, 0);
	host_destroy(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_split_is_as_if_mapped_small),
		cmocka_unit_test(a_1g_leaf_is_split_to_2m_ones),
		cmocka_unit_test(a_split_without_memory_leaves_large_what_it_cannot_split),
		cmocka_unit_test(what_is_recovered_is_as_if_mapped_large),
		cmocka_unit_test(one_flush_serves_many_tables),
		cmocka_unit_test(recovery_heeds_what_forbids_a_large_leaf),
		cmocka_unit_test(frames_that_are_not_aligned_stay_small),
		cmocka_unit_test(one_leaf_is_enough),
	};

	return cmocka_run_group_tests_name("resize", tests, NULL, NULL);
}
