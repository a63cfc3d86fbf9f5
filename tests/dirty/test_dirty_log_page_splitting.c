// SPDX-License-Identifier: BSD-2-Clause
/*
 * A7: KVM's dirty_log_page_splitting_test: what a log does to the number of huge pages, exactly.
 *
 * Derived from that test's assertions, on memory that is 2M and 1G behind: after a log without
 * manual clear is on no page is huge, with an initially-set one all are until the first clear;
 * after it is off and every page was touched once, huge pages are as many as before. Stronger here:
 * the counts are equal, not just bounds, and recovery needs no fault to bring a huge page back.
 * Content: neither a split nor a recovery changes a frame (R6, R7), so what is read, through
 * whatever a processor still has cached of before, is what was written last.
 */
#include "tests/dirty/log.h"

#define PAGES	  (2u << 18) /* 2 GiB: one by 1G, one by 2M */
#define FIRST	  (4u << 18) /* GFN */
#define FAR_FRAME (1ull << 26)
#define SLOT	  1u

struct big {
	struct sim *sim;
	uint64_t bitmap[PAGES / 64];
};

static enum tpt_level level_of(uint64_t gfn)
{
	return gfn < FIRST + PAGES / 2 ? TPT_LEVEL_1G : TPT_LEVEL_2M;
}

static int lookup(void *ctx, const struct tpt_backing_query *q, struct tpt_backing_page *page)
{
	(void)ctx;
	*page = (struct tpt_backing_page){
		.pfn = {FAR_FRAME + q->gfn}, .writable = true, .level = level_of(q->gfn)};
	return 0;
}

static enum tpt_level mapping_level(void *ctx, tpt_hva hva, tpt_pfn pfn)
{
	(void)ctx;
	(void)hva;
	return level_of(pfn.n - FAR_FRAME);
}

static const struct tpt_backing_ops big_backing = {
	.size = sizeof(big_backing), .lookup = lookup, .mapping_level = mapping_level};

static void log_is(struct big *b, bool on)
{
	const struct tpt_memory_region ram = {.slot = SLOT,
					      .flags = on ? TPT_MEM_LOG_DIRTY : 0,
					      .gpa = {(uint64_t)FIRST << 12},
					      .size = PAGES * 4096ull,
					      .hva = {(uint64_t)FIRST << 12}};

	assert_int_equal(sim_set_memory_region(b->sim, &ram), 0);
}

static void open_big(struct big *b, enum tpt_format format, uint32_t flags)
{
	struct sim_config c = {.nr_vcpus = 1};
	char why[256];

	memset(b, 0, sizeof(*b));
	tpt_vm_config_init(&c.vm, format);
	c.vm.flags = flags;
	c.vm.dirty_ring_size = flags & TPT_VM_DIRTY_RING ? 4096 : 0;
	c.vm.backing = &big_backing;
	assert_int_equal(sim_create(&b->sim, &c, why, sizeof(why)), 0);
	log_is(b, false);
}

static void close_big(struct big *b)
{
	char text[256] = "";

	assert_int_equal(tpt_vm_audit(sim_vm(b->sim), text, sizeof(text)), 0);
	assert_int_equal(machine_report_count(sim_machine(b->sim)), 0);
	assert_int_equal(sim_destroy(b->sim), 0);
}

/* One write in each 2 MiB: what brings back by faults all that faults can. */
static unsigned int touch_all(struct big *b)
{
	unsigned int faults, sum = 0;
	struct sim_step last;

	for (uint64_t gfn = FIRST; gfn < FIRST + PAGES; gfn += 512) {
		assert_int_equal(sim_access(b->sim, 0, gfn << 12, MACHINE_WRITE, 8, &last, &faults),
				 0);
		sum += faults;
	}
	return sum;
}

static void expect(struct big *b, uint64_t p1g, uint64_t p2m, uint64_t p4k)
{
	struct tpt_vm_stats s;

	tpt_vm_get_stats(sim_vm(b->sim), &s);
	assert_int_equal(s.direct.pages_1g, p1g);
	assert_int_equal(s.direct.pages_2m, p2m);
	assert_int_equal(s.direct.pages_4k, p4k);
}

static const struct {
	enum tpt_format format;
	uint32_t flags;
} ways[] = {
	{TPT_FORMAT_NPT, 0},
	{TPT_FORMAT_EPT, TPT_VM_PML},
	{TPT_FORMAT_EPT, TPT_VM_NO_AD},
	{TPT_FORMAT_EPT, TPT_VM_DIRTY_RING},
};

static void populate(struct big *b)
{
	assert_int_equal(touch_all(b), 1 + 512);
	expect(b, 1, 512, 0);
}

/* Off again: all is huge at once, and one more touch of every page changes no count. */
static void switch_off(struct big *b)
{
	log_is(b, false);
	expect(b, 1, 512, 0);
	touch_all(b);
	expect(b, 1, 512, 0);
	assert_int_equal(touch_all(b), 0);
	close_big(b);
}

static void A7_dirty_log_page_splitting_splits_all_when_the_log_is_switched_on(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		struct big *b = malloc(sizeof(*b));

		assert_non_null(b);
		open_big(b, ways[i].format, ways[i].flags | TPT_VM_EAGER_PAGE_SPLIT);
		populate(b);
		log_is(b, true);
		expect(b, 0, 0, PAGES);
		touch_all(b);
		expect(b, 0, 0, PAGES);
		/* A table whose first leaves are gone is made whole from another one. */
		assert_true(sim_invalidate(b->sim, ((uint64_t)FIRST + PAGES - 512) << 12,
					   ((uint64_t)FIRST + PAGES - 509) << 12) >= 0);
		expect(b, 0, 0, PAGES - 3);
		switch_off(b);
		free(b);
	}
}

static void
A7_dirty_log_page_splitting_splits_at_the_first_clear_of_an_initially_set_log(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 3; i++) {
		struct big *b = malloc(sizeof(*b));

		assert_non_null(b);
		open_big(b, ways[i].format,
			 ways[i].flags | TPT_VM_EAGER_PAGE_SPLIT | TPT_VM_DIRTY_MANUAL |
				 TPT_VM_DIRTY_INITIALLY_SET);
		populate(b);
		log_is(b, true);
		expect(b, 1, 512, 0);
		assert_int_equal(tpt_vm_get_dirty_log(sim_vm(b->sim), 0, SLOT, b->bitmap), 0);
		expect(b, 1, 512, 0);
		/* A clear of one word of each half splits just what lies under it. */
		assert_int_equal(tpt_vm_clear_dirty_log(sim_vm(b->sim), 0, SLOT, 0, 64, b->bitmap),
				 0);
		expect(b, 0, 512 + 511, 512);
		assert_int_equal(
			tpt_vm_clear_dirty_log(sim_vm(b->sim), 0, SLOT, PAGES / 2, 64, b->bitmap),
			0);
		expect(b, 0, 511 + 511, 1024);
		assert_int_equal(
			tpt_vm_clear_dirty_log(sim_vm(b->sim), 0, SLOT, 0, PAGES, b->bitmap), 0);
		expect(b, 0, 0, PAGES);
		switch_off(b);
		free(b);
	}
}

/* Without eager split: one split a huge page that is written, by the write's own fault. */
static void A7_dirty_log_page_splitting_by_faults_splits_what_is_written(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		struct big *b = malloc(sizeof(*b));
		struct sim_step last;
		unsigned int faults;

		assert_non_null(b);
		open_big(b, ways[i].format, ways[i].flags);
		populate(b);
		log_is(b, true);
		expect(b, 1, 512, 0);
		assert_int_equal(sim_access(b->sim, 0, (uint64_t)FIRST << 12, MACHINE_READ, 8,
					    &last, &faults),
				 0);
		expect(b, 1, 512, 0);
		assert_int_equal(sim_access(b->sim, 0, ((uint64_t)FIRST + 7) << 12, MACHINE_WRITE,
					    8, &last, &faults),
				 0);
		expect(b, 0, 512 + 511, 512);
		assert_int_equal(sim_access(b->sim, 0, ((uint64_t)FIRST + PAGES - 1) << 12,
					    MACHINE_WRITE, 8, &last, &faults),
				 0);
		expect(b, 0, 511 + 511, 1024);
		switch_off(b);
		free(b);
	}
}

/* ---- content, through translations from before ---- */

#define HUGE_BLOCKS 7u /* of LOG_PAGES from LOG_BASE on, those that are whole: GFN 1024 .. 4607 */

/* The vCPU's own access: which frame, and what is in it. */
static void read_is(struct log *l, unsigned int vcpu, unsigned int page, uint64_t value)
{
	struct sim_step last;
	unsigned int faults;

	assert_int_equal(sim_access(l->sim, vcpu, log_gpa(page), MACHINE_READ, 8, &last, &faults),
			 0);
	assert_int_equal(last.hw.hpa, (LOG_FRAME + LOG_BASE + page) << 12);
	assert_int_equal(*(uint64_t *)machine_mem_ptr(sim_machine(l->sim), last.hw.hpa), value);
}

static void write_always(struct log *l, unsigned int vcpu, unsigned int page, uint64_t value)
{
	int err;

	while ((err = log_write(l, vcpu, page, value)) == -ENOSPC)
		assert_int_equal(log_collect(l), 0);
	assert_int_equal(err, 0);
}

/* Off: what was split is whole again, by the recovery and one touch of what was never mapped. */
static void all_huge_again(struct log *l, const uint64_t *value)
{
	struct tpt_vm_stats s;

	for (unsigned int page = 0; page < LOG_PAGES; page++)
		read_is(l, page % l->nr_vcpus, page, value[page]);
	tpt_vm_get_stats(sim_vm(l->sim), &s);
	assert_int_equal(s.direct.pages_2m, HUGE_BLOCKS);
	assert_int_equal(s.direct.pages_4k, LOG_PAGES - HUGE_BLOCKS * 512);
}

static void A7_content_never_changes_through_splits_and_recoveries_by_the_log(void **state)
{
	(void)state;
	for (unsigned int m = 0; m < LOG_MODES; m++) {
		uint64_t value[LOG_PAGES] = {0}, random = m + 1;
		struct tpt_vm_stats s;
		struct log l;

		log_open(&l, &log_modes[m], 2);
		for (unsigned int round = 0; round < 6; round++) {
			log_switch(&l, true);
			for (unsigned int i = 0; i < 600; i++) {
				unsigned int page = (unsigned int)log_pick(&random, LOG_PAGES);

				if (log_pick(&random, 2)) {
					value[page] = (uint64_t)round << 32 | i;
					write_always(&l, i % 2, page, value[page]);
				}
				/* The other one may have it cached from any time before. */
				read_is(&l, !(i % 2), page, value[page]);
				if (i % 200 == 199)
					assert_int_equal(log_collect(&l), 0);
			}
			tpt_vm_get_stats(sim_vm(l.sim), &s);
			assert_true(s.direct.pages_2m < HUGE_BLOCKS);
			assert_int_equal(log_collect(&l), 0);
			log_switch(&l, false);
			all_huge_again(&l, value);
		}
		log_close(&l);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			A7_dirty_log_page_splitting_splits_all_when_the_log_is_switched_on),
		cmocka_unit_test(
			A7_dirty_log_page_splitting_splits_at_the_first_clear_of_an_initially_set_log),
		cmocka_unit_test(A7_dirty_log_page_splitting_by_faults_splits_what_is_written),
		cmocka_unit_test(A7_content_never_changes_through_splits_and_recoveries_by_the_log),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
