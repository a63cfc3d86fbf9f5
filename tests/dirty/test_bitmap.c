// SPDX-License-Identifier: BSD-2-Clause
/*
 * Dirty bitmaps on the model processor: what is protected, what is logged, and that no write is
 * lost, with splits and without. Never looks inside the library.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "cli/sim.h"

#define HVA   0x7f0000000000ull
#define PAGES 2048u /* 8 MiB */
#define FRAME 0x200000u

struct world {
	struct sim *sim;
	enum tpt_level host_level;
	uint64_t bitmap[PAGES / 64];
};

static int lookup(void *ctx, const struct tpt_backing_query *q, struct tpt_backing_page *page)
{
	const struct world *w = ctx;

	*page = (struct tpt_backing_page){
		.pfn = {FRAME + q->gfn}, .writable = true, .level = w->host_level};
	return 0;
}

static enum tpt_level mapping_level(void *ctx, tpt_hva hva, tpt_pfn pfn)
{
	const struct world *w = ctx;

	(void)hva;
	(void)pfn;
	return w->host_level;
}

static const struct tpt_backing_ops backing = {
	.size = sizeof(backing), .lookup = lookup, .mapping_level = mapping_level};

static void set_log(struct world *w, bool on)
{
	const struct tpt_memory_region ram = {
		.flags = on ? TPT_MEM_LOG_DIRTY : 0, .size = PAGES * 4096ull, .hva = {HVA}};

	assert_int_equal(sim_set_memory_region(w->sim, &ram), 0);
}

static void start(struct world *w, enum tpt_format format, uint32_t flags)
{
	struct sim_config c = {.nr_vcpus = 2};
	char why[256];

	tpt_vm_config_init(&c.vm, format);
	c.vm.flags = flags;
	c.vm.backing = &backing;
	c.vm.backing_ctx = w;
	assert_int_equal(sim_create(&w->sim, &c, why, sizeof(why)), 0);
	set_log(w, false);
}

static void stop(struct world *w)
{
	char text[256];

	assert_int_equal(tpt_vm_audit(sim_vm(w->sim), text, sizeof(text)), 0);
	assert_int_equal(machine_report_count(sim_machine(w->sim)), 0);
	assert_int_equal(sim_destroy(w->sim), 0);
}

static unsigned int touch(struct world *w, uint64_t gfn, unsigned int kind)
{
	struct sim_step last;
	unsigned int faults;

	assert_int_equal(sim_access(w->sim, gfn & 1, gfn << 12, kind, 4, &last, &faults), 0);
	return faults;
}

static struct tpt_vm_stats stats(struct world *w)
{
	struct tpt_vm_stats s;

	tpt_vm_get_stats(sim_vm(w->sim), &s);
	return s;
}

static void get(struct world *w)
{
	memset(w->bitmap, 0x5a, sizeof(w->bitmap));
	assert_int_equal(tpt_vm_get_dirty_log(sim_vm(w->sim), 0, 0, w->bitmap), 0);
}

static bool is_dirty(const struct world *w, unsigned int page)
{
	return w->bitmap[page / 64] >> (page % 64) & 1;
}

static unsigned int nr_dirty(const struct world *w)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < PAGES / 64; i++)
		n += (unsigned int)__builtin_popcountll(w->bitmap[i]);
	return n;
}

static void each_write_after_a_read_of_the_log_is_in_the_next(void **state)
{
	struct world w = {.host_level = TPT_LEVEL_4K};

	(void)state;
	start(&w, TPT_FORMAT_NPT, 0);
	for (unsigned int i = 0; i < 100; i++)
		touch(&w, i, MACHINE_WRITE);
	set_log(&w, true);
	get(&w);
	assert_int_equal(nr_dirty(&w), 0);

	for (unsigned int i = 0; i < 100; i += 3)
		assert_int_equal(touch(&w, i, MACHINE_WRITE), 1);
	/* The second write costs nothing, reads never fault. */
	assert_int_equal(touch(&w, 3, MACHINE_WRITE), 0);
	assert_int_equal(touch(&w, 4, MACHINE_READ), 0);
	get(&w);
	for (unsigned int i = 0; i < 100; i++)
		assert_int_equal(is_dirty(&w, i), i % 3 == 0);
	assert_int_equal(nr_dirty(&w), 34);
	/* All answered by the fast path, none by the backing. */
	assert_int_equal(stats(&w).vcpus.pf_fast, 34);

	/* Read, and so protected, once more. */
	assert_int_equal(touch(&w, 3, MACHINE_WRITE), 1);
	get(&w);
	assert_int_equal(nr_dirty(&w), 1);
	assert_true(is_dirty(&w, 3));
	stop(&w);
}

static void a_log_with_eager_split_leaves_no_huge_page_and_recovery_brings_all_back(void **state)
{
	struct world w = {.host_level = TPT_LEVEL_2M};

	(void)state;
	start(&w, TPT_FORMAT_EPT, TPT_VM_EAGER_PAGE_SPLIT);
	for (unsigned int i = 0; i < PAGES; i += 512)
		touch(&w, i, MACHINE_WRITE);
	assert_int_equal(stats(&w).direct.pages_2m, PAGES / 512);

	set_log(&w, true);
	assert_int_equal(stats(&w).direct.pages_2m, 0);
	assert_int_equal(stats(&w).direct.pages_4k, PAGES);
	touch(&w, 700, MACHINE_WRITE);
	get(&w);
	assert_int_equal(nr_dirty(&w), 1);
	assert_true(is_dirty(&w, 700));

	set_log(&w, false);
	assert_int_equal(stats(&w).direct.pages_2m, PAGES / 512);
	assert_int_equal(stats(&w).direct.pages_4k, 0);
	/* What the first leaf of each had lost is given back by a fault, without the backing. */
	touch(&w, 700, MACHINE_WRITE);
	assert_int_equal(touch(&w, 701, MACHINE_WRITE), 0);
	stop(&w);
}

static void without_eager_split_the_first_write_splits(void **state)
{
	struct world w = {.host_level = TPT_LEVEL_2M};

	(void)state;
	start(&w, TPT_FORMAT_NPT, 0);
	touch(&w, 0, MACHINE_WRITE);
	touch(&w, 512, MACHINE_WRITE);
	set_log(&w, true);
	assert_int_equal(stats(&w).direct.pages_2m, 2);
	touch(&w, 513, MACHINE_WRITE);
	assert_int_equal(stats(&w).direct.pages_2m, 1);
	assert_int_equal(stats(&w).direct.pages_4k, 512);
	get(&w);
	assert_int_equal(nr_dirty(&w), 1);
	assert_true(is_dirty(&w, 513));
	stop(&w);
}

static void an_initially_set_log_is_all_ones_and_protects_what_is_cleared(void **state)
{
	const uint32_t flags =
		TPT_VM_DIRTY_MANUAL | TPT_VM_DIRTY_INITIALLY_SET | TPT_VM_EAGER_PAGE_SPLIT;
	struct world w = {.host_level = TPT_LEVEL_2M};
	uint64_t ones[8];

	(void)state;
	memset(ones, 0xff, sizeof(ones));
	start(&w, TPT_FORMAT_NPT, flags);
	touch(&w, 0, MACHINE_WRITE);
	touch(&w, 512, MACHINE_WRITE);
	set_log(&w, true);
	assert_int_equal(stats(&w).direct.pages_2m, 2);
	get(&w);
	assert_int_equal(nr_dirty(&w), PAGES);
	/* Reading clears nothing here. */
	get(&w);
	assert_int_equal(nr_dirty(&w), PAGES);

	assert_int_equal(tpt_vm_clear_dirty_log(sim_vm(w.sim), 0, 0, 0, 512, ones), 0);
	assert_int_equal(stats(&w).direct.pages_2m, 1);
	get(&w);
	assert_int_equal(nr_dirty(&w), PAGES - 512);
	assert_int_equal(touch(&w, 5, MACHINE_WRITE), 1);
	/* Not cleared, so not watched. */
	assert_int_equal(touch(&w, 513, MACHINE_WRITE), 0);
	get(&w);
	assert_int_equal(nr_dirty(&w), PAGES - 511);
	assert_true(is_dirty(&w, 5));
	stop(&w);
}

static void a_clear_out_of_its_rules_is_refused_and_changes_nothing(void **state)
{
	struct world w = {.host_level = TPT_LEVEL_4K};
	uint64_t ones[PAGES / 64];
	struct tpt_vm *vm;

	(void)state;
	memset(ones, 0xff, sizeof(ones));
	start(&w, TPT_FORMAT_NPT, TPT_VM_DIRTY_MANUAL);
	vm = sim_vm(w.sim);
	assert_int_equal(tpt_vm_clear_dirty_log(vm, 0, 0, 0, 64, ones), -ENOENT);
	assert_int_equal(tpt_vm_get_dirty_log(vm, 0, 0, w.bitmap), -ENOENT);
	set_log(&w, true);
	touch(&w, 3, MACHINE_WRITE);
	assert_int_equal(tpt_vm_clear_dirty_log(vm, 0, 0, 1, 64, ones), -EINVAL);
	assert_int_equal(tpt_vm_clear_dirty_log(vm, 0, 0, 0, 63, ones), -EINVAL);
	assert_int_equal(tpt_vm_clear_dirty_log(vm, 0, 0, PAGES, 64, ones), -EINVAL);
	assert_int_equal(tpt_vm_clear_dirty_log(vm, 0, 0, 64, PAGES, ones), -EINVAL);
	assert_int_equal(tpt_vm_clear_dirty_log(vm, 1, 0, 0, 64, ones), -EINVAL);
	assert_int_equal(tpt_vm_clear_dirty_log(vm, 0, 1, 0, 64, ones), -EINVAL);
	get(&w);
	assert_int_equal(nr_dirty(&w), 1);
	assert_int_equal(tpt_vm_clear_dirty_log(vm, 0, 0, 0, PAGES, ones), 0);
	get(&w);
	assert_int_equal(nr_dirty(&w), 0);
	stop(&w);
}

static void random_writes_and_reads_of_the_log_agree_with_a_plain_array(void **state)
{
	struct world w = {.host_level = TPT_LEVEL_2M};
	static bool written[PAGES];
	uint32_t x = 0x2545f491;

	(void)state;
	start(&w, TPT_FORMAT_EPT, TPT_VM_EAGER_PAGE_SPLIT);
	set_log(&w, true);
	memset(written, 0, sizeof(written));
	for (unsigned int i = 0; i < 20000; i++) {
		unsigned int page;

		x ^= x << 13, x ^= x >> 17, x ^= x << 5;
		page = x % PAGES;
		if (i % 997 == 0) {
			get(&w);
			for (unsigned int p = 0; p < PAGES; p++)
				assert_true(is_dirty(&w, p) || !written[p]);
			memset(written, 0, sizeof(written));
		}
		touch(&w, page, x >> 20 & 1 ? MACHINE_WRITE : MACHINE_READ);
		written[page] |= x >> 20 & 1;
	}
	stop(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_write_after_a_read_of_the_log_is_in_the_next),
		cmocka_unit_test(
			a_log_with_eager_split_leaves_no_huge_page_and_recovery_brings_all_back),
		cmocka_unit_test(without_eager_split_the_first_write_splits),
		cmocka_unit_test(an_initially_set_log_is_all_ones_and_protects_what_is_cleared),
		cmocka_unit_test(a_clear_out_of_its_rules_is_refused_and_changes_nothing),
		cmocka_unit_test(random_writes_and_reads_of_the_log_agree_with_a_plain_array),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
