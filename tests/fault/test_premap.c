// SPDX-License-Identifier: BSD-2-Clause
/*
 * The range map: the entries that prefaulting page by page would have made, at one walk and one
 * question a leaf table; and everything that is not plain goes the ordinary way.
 */
#include "tests/support/host.h"

#include "mmu/vm/vm.h"

#define PAGE  4096ull
#define READ  TPT_PFERR_USER
#define WRITE (TPT_PFERR_USER | TPT_PFERR_WRITE)
#define RW    (TPT_ACC_READ | TPT_ACC_WRITE)

static unsigned int ranges;	  /* questions by range */
static unsigned int most;	  /* pages that one answer may have; 0: no such limit */
static unsigned int longest;	  /* pages that a run may have; 0: no such limit */
static uint64_t scatter;	  /* turned in each frame number */
static uint64_t device_end;	  /* the pages from 900 up to this one are a device's */
static unsigned int fail_at;	  /* page of the slot that has no frame; 0: all have one */
static unsigned char dirty[8192]; /* how often a frame of the slot was said to be written */

/* This table dies between an answer and its entries; it lives when the host is asked again, and its
 * memory can't be written any more. */
static struct table *dying;

static void kill_or_revive(struct host *h, bool asked)
{
	if (!dying || (asked && !atomic_load(&dying->dead)))
		return;
	atomic_store(&dying->dead, !asked);
	if (!asked)
		return;
	dying = NULL;
	h->ro_start = GIB;
	h->ro_end = 2 * GIB;
}

static int lookup(void *ctx, const struct tpt_backing_query *query, struct tpt_backing_page *page)
{
	int err;

	kill_or_revive(ctx, true);
	err = host_lookup(ctx, query, page);

	if (fail_at && query->hva.a == GIB + fail_at * PAGE)
		return -EFAULT;
	page->device = query->gfn >= 900 && query->gfn < device_end;
	page->pfn.n ^= scatter;
	return err;
}

static bool continues(const struct tpt_backing_run *run, const struct tpt_backing_page *page)
{
	return page->pfn.n == run->pfn.n + run->nr && page->writable == run->writable &&
	       page->device == run->device && page->level == run->level &&
	       (!longest || run->nr < longest);
}

static int lookup_range(void *ctx, const struct tpt_backing_query *query, uint32_t nr,
			struct tpt_backing_run *run, uint32_t nr_runs)
{
	struct tpt_backing_query q = *query;
	struct tpt_backing_page page = {0};
	uint32_t n = 0;
	int err;

	ranges++;
	for (uint32_t i = 0; i < nr && (!most || i < most); i++, q.gfn++, q.hva.a += PAGE) {
		err = lookup(ctx, &q, &page);
		if (err)
			return i ? (int)n : err;
		if (n && continues(&run[n - 1], &page)) {
			run[n - 1].nr++;
			continue;
		}
		if (n == nr_runs)
			break;
		run[n++] = (struct tpt_backing_run){.pfn = page.pfn,
						    .nr = 1,
						    .writable = page.writable,
						    .device = page.device,
						    .level = page.level};
	}
	return (int)n;
}

static void note_dirty(tpt_pfn pfn, uint64_t nr)
{
	for (uint64_t i = 0; i < nr; i++) {
		uint64_t page = ((pfn.n + i) ^ scatter) - GIB / PAGE;

		if (page < sizeof(dirty))
			dirty[page]++;
	}
}

static void mark_dirty(void *ctx, tpt_pfn pfn, enum tpt_level level)
{
	kill_or_revive(ctx, false);
	host_mark_dirty(ctx, pfn, level);
	note_dirty(pfn, tpt_level_pages(level));
}

static void mark_dirty_range(void *ctx, tpt_pfn pfn, uint32_t nr)
{
	(void)ctx;
	note_dirty(pfn, nr);
}

static const struct tpt_backing_ops one_by_one = {
	.size = sizeof(one_by_one),
	.lookup = lookup,
	.mark_dirty = mark_dirty,
};

static const struct tpt_backing_ops by_range = {
	.size = sizeof(by_range),
	.lookup = lookup,
	.mark_dirty = mark_dirty,
	.lookup_range = lookup_range,
};

static const struct tpt_backing_ops all_by_range = {
	.size = sizeof(all_by_range),
	.lookup = lookup,
	.mark_dirty = mark_dirty,
	.lookup_range = lookup_range,
	.mark_dirty_range = mark_dirty_range,
};

/* A VM with a slot of @bytes at 0. */
static struct host *vm_of(const struct tpt_vm_config *c, const struct tpt_backing_ops *backing,
			  uint64_t bytes, enum tpt_level level, uint32_t flags)
{
	struct host *h = host_prepare(c);

	h->config.backing = backing;
	h->level = level;
	assert_int_equal(tpt_vm_create(&h->config, &h->vm), 0);
	assert_int_equal(tpt_vcpu_create(h->vm, 0, &h->vcpu[0]), 0);
	assert_int_equal(host_slot(h, 0, 0, 0, bytes, GIB, flags), 0);
	ranges = most = longest = fail_at = 0;
	scatter = device_end = 0;
	memset(dirty, 0, sizeof(dirty));
	return h;
}

/* NPT, asked by range or page by page. */
static struct host *vm(uint64_t bytes, bool range, enum tpt_level level, uint32_t flags)
{
	struct tpt_vm_config c;

	host_config_npt(&c);
	return vm_of(&c, range ? &by_range : &one_by_one, bytes, level, flags);
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

/* The three kinds of tables that there are. */
static void format(struct tpt_vm_config *c, unsigned int which)
{
	host_config_npt(c);
	if (which)
		c->format = TPT_FORMAT_EPT;
	if (which == 2)
		c->flags |= TPT_VM_NO_AD;
}

/* Some pages have been touched before. */
static void touch(struct host *h)
{
	enum tpt_level level = h->level;

	h->level = TPT_LEVEL_4K;
	for (unsigned int i = 5; i < 20; i++)
		assert_int_equal(host_fault(h, i * 77 * PAGE, READ), TPT_RET_PF_FIXED);
	h->level = level;
}

/* Both VMs have the same slot; one maps [gfn, gfn + npages) as a range, the other page by page. */
static void map_both(struct host *a, struct host *b, uint64_t gfn, uint64_t npages)
{
	uint64_t done;

	assert_int_equal(tpt_vcpu_premap(a->vcpu[0], gfn, npages, TPT_ACC_READ, &done), 0);
	assert_int_equal(done, npages);
	assert_int_equal(
		tpt_vcpu_prefault(b->vcpu[0], tpt_gpa_make(gfn * PAGE), npages * PAGE, &done), 0);
	assert_int_equal(done, npages * PAGE);
	assert_same_leaves(a, b);
}

static void compare_parts(const struct tpt_vm_config *c, const struct tpt_backing_ops *backing,
			  enum tpt_level level, uint32_t flags, unsigned int run, uint64_t turn)
{
	static const struct {
		uint64_t gfn, npages;
	} parts[] = {{0, 1}, {3, 700}, {511, 2}, {1024, 512}, {100, 3000}, {3584, 512}};
	static uint64_t log_a[64], log_b[64];
	struct host *a = vm_of(c, backing, 16 * MIB, level, flags);
	struct host *b = vm_of(c, backing, 16 * MIB, level, flags);

	longest = run;
	most = run * 7;
	scatter = turn;
	a->ro_start = b->ro_start = GIB + 600 * PAGE;
	a->ro_end = b->ro_end = GIB + 650 * PAGE;
	device_end = 950;
	touch(a);
	touch(b);
	for (unsigned int i = 40; i < 50; i++) {
		assert_int_equal(tpt_vm_write_track_add(a->vm, 0, i * 70), 0);
		assert_int_equal(tpt_vm_write_track_add(b->vm, 0, i * 70), 0);
	}
	for (unsigned int i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		map_both(a, b, parts[i].gfn, parts[i].npages);
	if (flags & TPT_MEM_LOG_DIRTY) {
		assert_int_equal(tpt_vm_get_dirty_log(a->vm, 0, 0, log_a), 0);
		assert_int_equal(tpt_vm_get_dirty_log(b->vm, 0, 0, log_b), 0);
		assert_memory_equal(log_a, log_b, sizeof(log_a));
	}
	host_destroy(a);
	host_destroy(b);
}

static void a_range_is_what_prefaulting_its_pages_is(void **state)
{
	static const struct tpt_backing_ops *const backings[] = {&one_by_one, &by_range,
								 &all_by_range};
	/* The longest run, and what is turned in frame numbers. */
	static const struct {
		unsigned int run;
		uint64_t turn;
	} frames[] = {{0, 0}, {16, 0}, {17, 0}, {0, 1}, {0, 8}, {3, 64}};
	static const uint32_t flags[] = {0, TPT_MEM_LOG_DIRTY, TPT_MEM_READONLY, TPT_MEM_LOG_DIRTY};
	struct tpt_vm_config c;

	(void)state;
	for (unsigned int which = 0; which < 3; which++) {
		format(&c, which);
		for (unsigned int i = 0; i < 3 * 6; i++)
			for (enum tpt_level level = TPT_LEVEL_4K; level <= TPT_LEVEL_2M; level++)
				compare_parts(&c, backings[i % 3], level, flags[i % 4],
					      frames[i / 3].run, frames[i / 3].turn);
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
	host_destroy(h);
}

static void it_stops_before_a_page_without_a_frame(void **state)
{
	(void)state;
	for (unsigned int page = 1; page < 600; page += page < 530 && page > 500 ? 1 : 37) {
		for (unsigned int scattered = 0; scattered < 2; scattered++) {
			struct host *h = vm(4 * MIB, true, TPT_LEVEL_4K, 0);
			uint64_t done;

			scatter = scattered;
			fail_at = page;
			assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 0, 1024, RW, &done), 0);
			assert_int_equal(done, page);
			assert_int_equal(host_stats(h).direct.pages_4k, page);
			assert_int_equal(tpt_vcpu_premap(h->vcpu[0], page, 1, RW, &done), -EFAULT);
			assert_int_equal(done, 0);
			host_destroy(h);
		}
	}
}

/* Runs of one page, for want of memory sixteen a question. */
static void without_memory_for_many_runs_it_takes_smaller_steps(void **state)
{
	struct host *h = vm(4 * MIB, true, TPT_LEVEL_4K, 0);
	uint64_t done;

	(void)state;
	scatter = 1;
	for (unsigned int half = 0; half < 2; half++) {
		ranges = 0;
		if (half)
			tpt_posix_fail_mem_alloc(h->posix, 1);
		assert_int_equal(tpt_vcpu_premap(h->vcpu[0], half * 512, 512, RW, &done), 0);
		assert_int_equal(done, 512);
		/* It tries again after the first refusal. */
		assert_int_equal(ranges, 2 + half);
	}
	host_destroy(h);
}

static void without_table_pages_it_says_how_far_it_came(void **state)
{
	unsigned int cut = 0;

	(void)state;
	for (uint64_t nth = 1; nth <= 8; nth++) {
		struct host *h = vm(6 * MIB, true, TPT_LEVEL_4K, 0);
		uint64_t done;
		int ret;

		tpt_posix_fail_page_alloc(h->posix, nth);
		ret = tpt_vcpu_premap(h->vcpu[0], 0, 1536, RW, &done);
		assert_int_equal(ret, done ? 0 : -ENOMEM);
		assert_int_equal(host_stats(h).direct.pages_4k, done);
		cut += done < 1536;
		tpt_posix_fail_page_alloc(h->posix, 0);
		assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 0, 1536, RW, &done), 0);
		assert_int_equal(done, 1536);
		host_destroy(h);
	}
	assert_true(cut >= 5);
}

/* An answer by range: three pages as they are, then this. */
static struct tpt_backing_run bad_run;
static int bad_nr;

static int bad_lookup_range(void *ctx, const struct tpt_backing_query *query, uint32_t nr,
			    struct tpt_backing_run *run, uint32_t nr_runs)
{
	(void)ctx;
	for (uint32_t i = 0; i < nr_runs; i++)
		run[i] = bad_run;
	run[0] = (struct tpt_backing_run){.pfn = {query->hva.a / PAGE},
					  .nr = nr < 3 ? nr : 3,
					  .writable = true,
					  .level = TPT_LEVEL_4K};
	return bad_nr;
}

/* The next page goes the ordinary way then, where the backing is asked again. */
static void an_answer_that_breaks_a_rule_is_told_and_not_used(void **state)
{
	static const struct tpt_backing_ops bad = {
		.size = sizeof(bad), .lookup = lookup, .lookup_range = bad_lookup_range};
	static const struct tpt_backing_run runs[] = {
		{.nr = 0, .writable = true, .level = TPT_LEVEL_4K},
		{.nr = 6, .writable = true, .level = TPT_LEVEL_4K},
		{.nr = ~0u, .writable = true, .level = TPT_LEVEL_4K},
		{.nr = 1, .writable = true, .level = (enum tpt_level)0},
		{.nr = 1, .writable = true, .level = (enum tpt_level)(TPT_LEVEL_1G + 1)},
		{.nr = 1, .writable = true, .level = (enum tpt_level) - 1},
		{.nr = 1, .level = TPT_LEVEL_4K},
		{.pfn = {1ull << 36}, .nr = 1, .writable = true, .level = TPT_LEVEL_4K},
		{.pfn = {(1ull << 36) - 2}, .nr = 5, .writable = true, .level = TPT_LEVEL_4K},
		{.pfn = {~0ull - 5}, .nr = 5, .writable = true, .level = TPT_LEVEL_4K},
		{.pfn = {~0ull - 1}, .nr = 5, .writable = true, .level = TPT_LEVEL_4K},
	};
	/* Runs that it says it made: two, none, and more than there is room for. */
	static const int nrs[] = {2, 0, 100000};
	struct tpt_vm_config c;

	(void)state;
	host_config_npt(&c);
	for (unsigned int i = 0; i < 3 * sizeof(runs) / sizeof(runs[0]); i++) {
		struct host *h = vm_of(&c, &bad, 4 * MIB, TPT_LEVEL_4K, 0);
		unsigned int lines = h->lines;
		uint64_t done;

		bad_run = runs[i / 3];
		bad_nr = nrs[i % 3];
		assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 504, 8, RW, &done), 0);
		assert_true(h->lines > lines);
		assert_non_null(strstr(h->line, "backing of gfn"));
		assert_int_equal(done, 8);
		for (uint64_t page = 504; page < 512; page++)
			assert_int_equal(host_word(h, page * PAGE) & 0x000ffffffffff000ull,
					 GIB + page * PAGE);
		host_destroy(h);
	}
}

static void each_frame_that_becomes_writable_is_told_once(void **state)
{
	static const struct tpt_backing_ops *const backings[] = {&one_by_one, &by_range,
								 &all_by_range};
	struct tpt_vm_config c;

	(void)state;
	host_config_ept(&c);
	for (unsigned int i = 0; i < 6; i++) {
		struct host *h = vm_of(&c, backings[i % 3], 8 * MIB, TPT_LEVEL_4K, 0);
		uint64_t done;

		scatter = i / 3;
		h->ro_start = GIB + 64 * PAGE;
		h->ro_end = GIB + 128 * PAGE;
		assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 10, 1000, TPT_ACC_READ, &done), 0);
		assert_int_equal(done, 1000);
		for (unsigned int page = 0; page < 2048; page++)
			assert_int_equal(dirty[page],
					 page >= 10 && page < 1010 && !(page >= 64 && page < 128));
		/* Not where the slot lets the guest read only. */
		memset(dirty, 0, sizeof(dirty));
		assert_int_equal(host_slot(h, 0, 1, 8 * MIB, MIB, GIB + 8 * MIB, TPT_MEM_READONLY),
				 0);
		assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 2048, 256, TPT_ACC_READ, &done), 0);
		for (unsigned int page = 0; page < sizeof(dirty); page++)
			assert_int_equal(dirty[page], 0);
		host_destroy(h);
	}
}

static void a_range_form_of_mark_dirty_needs_the_other(void **state)
{
	static const struct tpt_backing_ops half = {
		.size = sizeof(half), .lookup = lookup, .mark_dirty_range = mark_dirty_range};
	struct tpt_vm_config c;
	struct host *h;

	(void)state;
	host_config_npt(&c);
	h = host_prepare(&c);
	h->config.backing = &half;
	assert_int_equal(tpt_vm_create(&h->config, &h->vm), -EINVAL);
	assert_non_null(strstr(h->line, "backing"));
	assert_int_equal(host_end(h), 0);
}

static void a_dirty_ring_gets_each_page_that_becomes_writable(void **state)
{
	static struct tpt_dirty_gfn got[1024];
	struct tpt_vm_config c;
	struct host *h;
	uint64_t done;
	uint32_t nr;

	(void)state;
	host_config_npt(&c);
	c.flags = TPT_VM_DIRTY_RING;
	c.dirty_ring_size = 1024;
	h = vm_of(&c, &by_range, 4 * MIB, TPT_LEVEL_4K, TPT_MEM_LOG_DIRTY);
	h->ro_start = GIB + 64 * PAGE;
	h->ro_end = GIB + 128 * PAGE;
	assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 3, 500, TPT_ACC_READ, &done), 0);
	nr = tpt_vcpu_dirty_ring_collect(h->vcpu[0], got, 1024);
	assert_int_equal(nr, 500 - 64);
	for (uint32_t i = 0; i < nr; i++)
		assert_int_equal(got[i].offset, 3 + i + (i >= 61 ? 64 : 0));
	host_destroy(h);
}

/* A huge leaf over the range is all that there is to find out, whatever the host says now. */
static void what_is_mapped_huge_already_is_done_at_once(void **state)
{
	struct host *h = vm(8 * MIB, true, TPT_LEVEL_2M, 0);
	uint64_t done;

	(void)state;
	assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 0, 2048, RW, &done), 0);
	ranges = 0;
	h->level = TPT_LEVEL_4K;
	assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 0, 2048, RW, &done), 0);
	assert_int_equal(done, 2048);
	assert_int_equal(ranges, 4);
	assert_int_equal(host_stats(h).direct.pages_2m, 4);
	host_destroy(h);
}

static void a_tracked_page_costs_one_question_more(void **state)
{
	struct host *h = vm(2 * MIB, true, TPT_LEVEL_4K, 0);
	uint64_t done;

	(void)state;
	assert_int_equal(tpt_vm_write_track_add(h->vm, 0, 300), 0);
	assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 0, 512, RW, &done), 0);
	assert_int_equal(done, 512);
	/* The pages before; that page, by the fault's own door; and those behind. */
	assert_int_equal(ranges, 2);
	assert_int_equal(atomic_load(&h->lookups), 512);
	host_destroy(h);
}

/* The table at @level that is on the way to page 0. */
static struct table *table_at(struct host *h, enum tpt_level level)
{
	struct trees *trees = &h->vm->trees;
	struct tree_iter it;

	must(iter_start(&it, trees, TREE_DIRECT, 0, 1, TPT_LEVEL_4K));
	while (it.level > (unsigned int)level)
		iter_down(&it);
	return table_header(trees, it.path[level]);
}

/*
 * Entries that had to go again, with the table that they were in, for which a processor could have
 * used them: what it could have written is in the log.
 */
static void what_was_writable_for_a_moment_is_in_the_dirty_log(void **state)
{
	/* There is a leaf table and it dies, or there is none and what it is linked into dies. */
	static const enum tpt_level levels[] = {TPT_LEVEL_4K, TPT_LEVEL_2M};

	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		struct host *h = vm(4 * MIB, true, TPT_LEVEL_4K, TPT_MEM_LOG_DIRTY);
		uint64_t bitmap[16], done;

		assert_int_equal(
			tpt_vcpu_premap(h->vcpu[0], i ? 1000 : 511, 1, TPT_ACC_READ, &done), 0);
		assert_int_equal(tpt_vm_get_dirty_log(h->vm, 0, 0, bitmap), 0);
		dying = table_at(h, levels[i]);
		assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 0, 500, TPT_ACC_READ, &done), 0);
		assert_int_equal(done, 500);
		assert_null(dying);
		for (uint64_t page = 0; page < 500; page++)
			assert_int_equal(host_word(h, page * PAGE) & 2, 0);
		assert_int_equal(tpt_vm_get_dirty_log(h->vm, 0, 0, bitmap), 0);
		for (unsigned int page = 0; page < 1024; page++)
			assert_int_equal(bitmap[page / 64] >> (page % 64) & 1, page < 500);
		host_destroy(h);
	}
}

/* Tracked between the answer and the entries: none lets the guest write it. */
static void track_a_page(struct host *h)
{
	if (atomic_load(&h->lookups) == 100)
		assert_int_equal(tpt_vm_write_track_add(h->vm, 0, 70), 0);
}

static void a_page_that_is_tracked_meanwhile_is_not_writable(void **state)
{
	struct host *h = vm(2 * MIB, true, TPT_LEVEL_4K, 0);
	uint64_t done;

	(void)state;
	h->in_lookup = track_a_page;
	assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 0, 512, RW, &done), 0);
	assert_int_equal(done, 512);
	for (uint64_t page = 0; page < 512; page++)
		assert_int_equal(!(host_word(h, page * PAGE) & 2), page == 70);
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

/*
 * The host's pages grow and shrink under it, so that tables are made for small ones and give way to
 * large ones while others fill them.
 */
static int changing_lookup(void *ctx, const struct tpt_backing_query *query,
			   struct tpt_backing_page *page)
{
	static _Atomic unsigned int turn;
	int err = host_lookup(ctx, query, page);

	page->level = atomic_fetch_add(&turn, 1) % 5 ? TPT_LEVEL_4K : TPT_LEVEL_2M;
	return err;
}

static int changing_lookup_range(void *ctx, const struct tpt_backing_query *query, uint32_t nr,
				 struct tpt_backing_run *run, uint32_t nr_runs)
{
	struct tpt_backing_page page = {0};
	int err = changing_lookup(ctx, query, &page);

	(void)nr_runs;
	run[0] = (struct tpt_backing_run){
		.pfn = page.pfn, .nr = nr, .writable = page.writable, .level = page.level};
	return err ? err : 1;
}

static void beside_faults_and_invalidations_the_vm_stays_whole(void **state)
{
	static const struct tpt_backing_ops changing = {.size = sizeof(changing),
							.lookup = changing_lookup,
							.lookup_range = changing_lookup_range};
	struct tpt_vm_config c;
	struct runner r[3];
	pthread_t t[3];
	struct host *h;

	(void)state;
	host_config_npt(&c);
	h = host_prepare(&c);
	h->config.backing = &changing;
	assert_int_equal(tpt_vm_create(&h->config, &h->vm), 0);
	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(tpt_vcpu_create(h->vm, i, &h->vcpu[i]), 0);
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
		cmocka_unit_test(it_stops_before_a_page_without_a_frame),
		cmocka_unit_test(without_memory_for_many_runs_it_takes_smaller_steps),
		cmocka_unit_test(without_table_pages_it_says_how_far_it_came),
		cmocka_unit_test(an_answer_that_breaks_a_rule_is_told_and_not_used),
		cmocka_unit_test(each_frame_that_becomes_writable_is_told_once),
		cmocka_unit_test(a_range_form_of_mark_dirty_needs_the_other),
		cmocka_unit_test(a_dirty_ring_gets_each_page_that_becomes_writable),
		cmocka_unit_test(what_is_mapped_huge_already_is_done_at_once),
		cmocka_unit_test(a_tracked_page_costs_one_question_more),
		cmocka_unit_test(what_was_writable_for_a_moment_is_in_the_dirty_log),
		cmocka_unit_test(a_page_that_is_tracked_meanwhile_is_not_writable),
		cmocka_unit_test(stale_mmio_entries_give_way),
		cmocka_unit_test(private_pages_go_the_ordinary_way),
		cmocka_unit_test(an_answer_that_is_no_longer_true_is_not_used),
		cmocka_unit_test(beside_faults_and_invalidations_the_vm_stays_whole),
	};

	return cmocka_run_group_tests_name("premap", tests, NULL, NULL);
}
