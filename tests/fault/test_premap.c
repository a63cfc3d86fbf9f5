// SPDX-License-Identifier: BSD-2-Clause
/*
 * The range map: the entries that prefaulting page by page would have made, at one walk and one
 * question a leaf table; and everything that is not plain goes the ordinary way.
 */
#include "tests/support/host.h"

#define PAGE  4096ull
#define READ  TPT_PFERR_USER
#define WRITE (TPT_PFERR_USER | TPT_PFERR_WRITE)
#define RW    (TPT_ACC_READ | TPT_ACC_WRITE)

static unsigned int ranges; /* questions by range */
static unsigned int most;   /* pages that one answer may have; 0: no such limit */

static int lookup_range(void *ctx, const struct tpt_backing_query *query, uint32_t nr,
			struct tpt_backing_page *page)
{
	struct tpt_backing_query q = *query;
	int err;

	ranges++;
	for (uint32_t i = 0; i < nr && (!most || i < most); i++) {
		err = host_lookup(ctx, &q, &page[i]);
		if (err)
			return i ? (int)i : err;
		q.gfn++;
		q.hva.a += PAGE;
	}
	return most && most < nr ? (int)most : (int)nr;
}

static const struct tpt_backing_ops by_range = {
	.size = sizeof(by_range),
	.lookup = host_lookup,
	.mark_dirty = host_mark_dirty,
	.lookup_range = lookup_range,
};

/* NPT with a slot of @bytes at 0, asked by range or page by page. */
static struct host *vm(uint64_t bytes, bool range, enum tpt_level level, uint32_t flags)
{
	struct tpt_vm_config c;
	struct host *h;

	host_config_npt(&c);
	h = host_prepare(&c);
	if (range)
		h->config.backing = &by_range;
	h->level = level;
	assert_int_equal(tpt_vm_create(&h->config, &h->vm), 0);
	assert_int_equal(tpt_vcpu_create(h->vm, 0, &h->vcpu[0]), 0);
	assert_int_equal(host_slot(h, 0, 0, 0, bytes, GIB, flags), 0);
	ranges = most = 0;
	return h;
}

struct list {
	unsigned int nr;
	struct tpt_mapping m[8192];
};

static bool note(void *ctx, const struct tpt_mapping *m)
{
	struct list *l = ctx;

	if (m->leaf)
		l->m[l->nr++] = *m;
	return l->nr < 8192;
}

static void assert_same_leaves(struct host *a, struct host *b)
{
	static struct list la, lb;

	la.nr = lb.nr = 0;
	tpt_vm_for_each_mapping(a->vm, note, &la);
	tpt_vm_for_each_mapping(b->vm, note, &lb);
	assert_int_equal(la.nr, lb.nr);
	for (unsigned int i = 0; i < la.nr; i++) {
		assert_int_equal(la.m[i].gfn, lb.m[i].gfn);
		assert_int_equal(la.m[i].level, lb.m[i].level);
		assert_int_equal(la.m[i].spte.w, lb.m[i].spte.w);
	}
}

static void a_range_is_what_prefaulting_its_pages_is(void **state)
{
	static const struct {
		uint64_t gfn, npages;
	} parts[] = {{0, 1}, {3, 700}, {511, 2}, {1024, 512}, {100, 3000}};

	(void)state;
	for (unsigned int range = 0; range < 2; range++) {
		for (enum tpt_level level = TPT_LEVEL_4K; level <= TPT_LEVEL_2M; level++) {
			struct host *a = vm(16 * MIB, range, level, 0);
			struct host *b = vm(16 * MIB, range, level, 0);
			uint64_t done;

			most = range ? 100 : 0;
			/* Some pages have been touched, some written. */
			for (unsigned int i = 5; i < 20; i++) {
				a->level = b->level = TPT_LEVEL_4K;
				assert_int_equal(host_fault(a, i * 77 * PAGE, READ), 5);
				assert_int_equal(host_fault(b, i * 77 * PAGE, READ), 5);
				a->level = b->level = level;
			}
			for (unsigned int i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
				assert_int_equal(tpt_vcpu_premap(a->vcpu[0], parts[i].gfn,
								 parts[i].npages, TPT_ACC_READ,
								 &done),
						 0);
				assert_int_equal(done, parts[i].npages);
				assert_int_equal(
					tpt_vcpu_prefault(b->vcpu[0],
							  tpt_gpa_make(parts[i].gfn * PAGE),
							  parts[i].npages * PAGE, &done),
					0);
				assert_same_leaves(a, b);
			}
			host_destroy(a);
			host_destroy(b);
		}
	}
}

/* Expected: 8 MiB of 4K pages are four leaf tables. */
static void it_costs_one_question_and_one_walk_a_leaf_table(void **state)
{
	struct host *h = vm(8 * MIB, true, TPT_LEVEL_4K, 0);
	struct tpt_vm_stats s;
	uint64_t done;

	(void)state;
	assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 0, 2048, TPT_ACC_READ, &done), 0);
	s = host_stats(h);
	assert_int_equal(done, 2048);
	assert_int_equal(ranges, 4);
	assert_int_equal(s.direct.pages_4k, 2048);
	assert_int_equal(s.direct.tables, 1 + 1 + 1 + 4);
	assert_int_equal(s.vcpus.pf_taken + s.remote_tlb_flush, 0);
	/* And again: nothing changes. */
	assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 0, 2048, RW, &done), 0);
	assert_int_equal(done, 2048);
	assert_int_equal(ranges, 8);
	host_destroy(h);
}

static void huge_pages_are_mapped_huge(void **state)
{
	struct host *h = vm(8 * MIB, false, TPT_LEVEL_2M, 0);
	struct tpt_vm_stats s;
	uint64_t done;

	(void)state;
	assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 100, 1500, TPT_ACC_READ, &done), 0);
	s = host_stats(h);
	assert_int_equal(done, 1500);
	assert_int_equal(s.direct.pages_2m, 4);
	assert_int_equal(s.direct.pages_4k, 0);
	/* One question to see that it is huge, one by the fault's own door. */
	assert_int_equal(atomic_load(&h->lookups), 8);
	host_destroy(h);
}

static void what_becomes_writable_is_in_the_dirty_log(void **state)
{
	struct host *h = vm(4 * MIB, true, TPT_LEVEL_2M, TPT_MEM_LOG_DIRTY);
	uint64_t bitmap[16], done;

	(void)state;
	/* The last page was mapped and forgotten before. */
	assert_int_equal(host_fault(h, 599 * PAGE, READ), TPT_RET_PF_FIXED);
	assert_int_equal(tpt_vm_get_dirty_log(h->vm, 0, 0, bitmap), 0);
	h->ro_start = GIB + 64 * PAGE;
	h->ro_end = GIB + 128 * PAGE;
	assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 0, 600, TPT_ACC_READ, &done), 0);
	assert_int_equal(done, 600);
	assert_int_equal(tpt_vm_get_dirty_log(h->vm, 0, 0, bitmap), 0);
	for (unsigned int page = 0; page < 1024; page++) {
		bool writable = page < 599 && !(page >= 64 && page < 128);

		assert_int_equal(bitmap[page / 64] >> (page % 64) & 1, writable);
	}
	assert_true(atomic_load(&h->dirtied) >= 599 - 64);
	host_destroy(h);
}

static void it_stops_where_nothing_can_be_mapped(void **state)
{
	struct host *h = vm(MIB, true, TPT_LEVEL_4K, 0);
	uint64_t done;

	(void)state;
	/* The slot ends. */
	assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 0, 512, TPT_ACC_READ, &done), 0);
	assert_int_equal(done, 256);
	assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 256, 256, TPT_ACC_READ, &done), -ENOENT);
	assert_int_equal(done, 0);
	/* A read-only slot, and host memory that can't be written. */
	assert_int_equal(host_slot(h, 0, 1, MIB, MIB, 2 * GIB, TPT_MEM_READONLY), 0);
	assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 256, 8, RW, &done), -ENOENT);
	assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 256, 8, TPT_ACC_READ, &done), 0);
	assert_int_equal(host_slot(h, 0, 2, 2 * MIB, MIB, 3 * GIB, 0), 0);
	h->ro_start = 3 * GIB + 4 * PAGE;
	h->ro_end = 4 * GIB;
	assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 512, 8, RW, &done), 0);
	assert_int_equal(done, 4);
	assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 516, 8, RW, &done), -ENOENT);
	/* Numbers. */
	assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 0, 0, RW, &done), -EINVAL);
	assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 1ull << 36, 1, RW, &done), -EINVAL);
	assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 1, ~0ull, RW, &done), -EINVAL);
	assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 0, 1, TPT_ACC_WRITE, &done), -EINVAL);
	assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 0, 1, 8 | TPT_ACC_READ, &done), -EINVAL);
	/* No memory to work with. */
	tpt_posix_fail_mem_alloc(h->posix, 1);
	assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 0, 1, RW, &done), -ENOMEM);
	host_destroy(h);
}

/* A guest touched the range before its slot was there: MMIO entries are in the way. */
static void stale_mmio_entries_give_way(void **state)
{
	struct host *h = vm(MIB, true, TPT_LEVEL_4K, 0);
	struct tpt_vm_stats s;
	uint64_t done;

	(void)state;
	assert_int_equal(host_fault(h, 300 * PAGE, READ), TPT_RET_PF_EMULATE);
	assert_int_equal(host_slot(h, 0, 1, MIB, MIB, 2 * GIB, 0), 0);
	assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 0, 512, TPT_ACC_READ, &done), 0);
	s = host_stats(h);
	assert_int_equal(done, 512);
	assert_int_equal(s.direct.pages_4k, 512);
	assert_int_equal(s.direct.mmio, 0);
	host_destroy(h);
}

/* A TD: private pages go one by one through the mirror, shared ones between them by range. */
static void private_pages_go_the_ordinary_way(void **state)
{
	struct host *h = host_create_td(0, 4 * MIB, 1);
	struct tpt_vm_stats s;
	uint64_t done;

	(void)state;
	h->level = TPT_LEVEL_4K;
	assert_int_equal(tpt_vm_allow_prefault(h->vm, true), 0);
	assert_int_equal(tpt_vm_set_private(h->vm, 10, 500, false, NULL), 0);
	assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 0, 600, TPT_ACC_READ, &done), 0);
	s = host_stats(h);
	assert_int_equal(done, 600);
	assert_int_equal(s.mirror.pages_4k, 110);
	assert_int_equal(s.direct.pages_4k, 490);
	assert_int_equal(h->ext.calls[TPT_CALL_MAP], 110);
	assert_int_equal(host_fault(h, HOST_SHARED | 10 * PAGE, WRITE), TPT_RET_PF_SPURIOUS);
	host_destroy(h);
}

/* The host takes a page away between the question and the entries. */
static void take_a_page(struct host *h)
{
	struct tpt_invalidation t;

	if (atomic_load(&h->lookups) != 100)
		return;
	assert_true(tpt_vm_invalidate_begin(h->vm, tpt_hva_make(GIB + 7 * PAGE),
					    tpt_hva_make(GIB + 8 * PAGE), &t) >= 0);
	tpt_vm_invalidate_end(h->vm, &t);
}

static void an_answer_that_is_no_longer_true_is_not_used(void **state)
{
	struct host *h = vm(2 * MIB, true, TPT_LEVEL_4K, 0);
	uint64_t done;

	(void)state;
	h->in_lookup = take_a_page;
	assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 0, 512, TPT_ACC_READ, &done), 0);
	assert_int_equal(done, 512);
	/* 512, all for nothing; one page the ordinary way; 511. */
	assert_int_equal(atomic_load(&h->lookups), 512 + 1 + 511);
	host_destroy(h);
}

/* ---- beside others ---- */

struct runner {
	struct host *h;
	unsigned int i;
};

static void *touch_and_map(void *arg)
{
	const struct runner *r = arg;
	uint64_t done, seed = r->i + 1;

	for (unsigned int n = 0; n < 300; n++) {
		uint64_t gfn;

		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		gfn = (seed >> 33) % 2048;
		if (seed >> 60 & 1) {
			int ret = tpt_vcpu_premap(r->h->vcpu[r->i], gfn, 2048 - gfn, RW, &done);

			must(!ret || ret == -EAGAIN);
		} else {
			must(host_fault_on(r->h->vcpu[r->i], gfn * PAGE, WRITE, NULL) > 0);
		}
	}
	return NULL;
}

static void *invalidate(void *arg)
{
	const struct runner *r = arg;
	struct tpt_invalidation t;
	uint64_t seed = 99;

	for (unsigned int n = 0; n < 300; n++) {
		uint64_t page;

		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		page = (seed >> 33) % 2000;
		must(tpt_vm_invalidate_begin(r->h->vm, tpt_hva_make(GIB + page * PAGE),
					     tpt_hva_make(GIB + (page + 40) * PAGE), &t) >= 0);
		tpt_vm_invalidate_end(r->h->vm, &t);
		if (n % 16 == 0)
			must(!tpt_vm_zap_all_fast(r->h->vm));
	}
	return NULL;
}

static void beside_faults_and_invalidations_the_vm_stays_whole(void **state)
{
	struct tpt_vm_config c;
	struct runner r[3];
	pthread_t t[3];
	struct host *h;

	(void)state;
	host_config_npt(&c);
	h = host_create(&c, 2);
	h->level = TPT_LEVEL_4K;
	assert_int_equal(host_slot(h, 0, 0, 0, 8 * MIB, GIB, 0), 0);
	for (unsigned int i = 0; i < 3; i++) {
		r[i] = (struct runner){h, i};
		assert_int_equal(
			pthread_create(&t[i], NULL, i < 2 ? touch_and_map : invalidate, &r[i]), 0);
	}
	for (unsigned int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	host_destroy(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_range_is_what_prefaulting_its_pages_is),
		cmocka_unit_test(it_costs_one_question_and_one_walk_a_leaf_table),
		cmocka_unit_test(huge_pages_are_mapped_huge),
		cmocka_unit_test(what_becomes_writable_is_in_the_dirty_log),
		cmocka_unit_test(it_stops_where_nothing_can_be_mapped),
		cmocka_unit_test(stale_mmio_entries_give_way),
		cmocka_unit_test(private_pages_go_the_ordinary_way),
		cmocka_unit_test(an_answer_that_is_no_longer_true_is_not_used),
		cmocka_unit_test(beside_faults_and_invalidations_the_vm_stays_whole),
	};

	return cmocka_run_group_tests_name("premap", tests, NULL, NULL);
}
