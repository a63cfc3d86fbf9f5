// SPDX-License-Identifier: BSD-2-Clause
/*
 * The page-modification log as the SDM has it ("Page-Modification Logging"): what is logged, in
 * which order, and the exit when it is full.
 */
#include "tests/machine/tree.h"

#define R   MACHINE_READ
#define W   MACHINE_WRITE
#define GPA 0x0000123440000000ull
#define A   0x100ull
#define D   0x200ull

static void tree_pml(struct tree *t, bool ad)
{
	machine_config_default(&t->config);
	t->config.regions[0].size = 4 * GIB;
	tree_make(t, MACHINE_ROOT_EPT, 4, ad);
	machine_cpu_set_pml(t->cpu, true);
}

static void map(struct tree *t, uint64_t gpa, unsigned int pages, uint64_t flags)
{
	for (unsigned int i = 0; i < pages; i++)
		*tree_entry(t, gpa + 4096ull * i, 1) = page(t) | 0x37 | flags;
}

static void a_write_that_sets_d_logs_its_page_once_and_reads_log_nothing(void **state)
{
	uint64_t log[MACHINE_PML_ENTRIES];
	struct tree t;

	(void)state;
	tree_pml(&t, true);
	map(&t, GPA, 4, 0);
	assert_int_equal(machine_cpu_pml_index(t.cpu), 511);
	touch(&t, GPA + 0x1008, R);
	assert_int_equal(machine_cpu_pml_index(t.cpu), 511);
	assert_int_equal(touch(&t, GPA + 0x1008, W).outcome, MACHINE_OK);
	assert_int_equal(machine_cpu_pml_index(t.cpu), 510);
	touch(&t, GPA + 0x1234, W);
	assert_int_equal(machine_cpu_pml_index(t.cpu), 510);
	/* A walk that finds D set logs nothing either. */
	fresh(&t, GPA + 0x1234, W);
	assert_int_equal(machine_cpu_pml_index(t.cpu), 510);
	touch(&t, GPA + 0x3fff, W);
	touch(&t, GPA, W);

	assert_int_equal(machine_cpu_drain_pml(t.cpu, log), 3);
	assert_int_equal(log[0], GPA + 0x1000);
	assert_int_equal(log[1], GPA + 0x3000);
	assert_int_equal(log[2], GPA);
	assert_int_equal(machine_cpu_pml_index(t.cpu), 511);
	assert_int_equal(machine_cpu_drain_pml(t.cpu, log), 0);
	assert_int_equal(counters(&t).pml_logged, 3);
	tree_free(&t);
}

/* D cleared with no flush: the cached translation goes on without a log; after the flush it is
 * logged again. */
static void a_page_is_logged_again_after_its_d_was_cleared_and_flushed(void **state)
{
	struct tree t;

	(void)state;
	tree_pml(&t, true);
	map(&t, GPA, 1, 0);
	touch(&t, GPA, W);
	*tree_entry(&t, GPA, 1) &= ~D;
	touch(&t, GPA, W);
	assert_int_equal(machine_cpu_pml_index(t.cpu), 510);
	fresh(&t, GPA, W);
	assert_int_equal(machine_cpu_pml_index(t.cpu), 509);
	assert_true(*tree_entry(&t, GPA, 1) & D);
	tree_free(&t);
}

static void a_large_page_logs_the_4k_page_that_was_written(void **state)
{
	uint64_t log[MACHINE_PML_ENTRIES];
	struct tree t;

	(void)state;
	tree_pml(&t, true);
	*tree_entry(&t, GPA, 2) = block(&t, 9) | 0xb7;
	touch(&t, GPA + 0x155678, W);
	assert_int_equal(machine_cpu_drain_pml(t.cpu, log), 1);
	assert_int_equal(log[0], GPA + 0x155000);
	tree_free(&t);
}

static void the_513th_page_exits_before_it_is_written_and_goes_on_after_a_drain(void **state)
{
	uint64_t log[MACHINE_PML_ENTRIES];
	const uint64_t last = GPA + 512 * 4096ull;
	struct machine_result r;
	struct tree t;

	(void)state;
	tree_pml(&t, true);
	map(&t, GPA, 514, 0);
	touch(&t, GPA + 513 * 4096ull, R);
	for (unsigned int i = 0; i < 512; i++)
		assert_int_equal(touch(&t, GPA + 4096ull * i, W).outcome, MACHINE_OK);
	assert_int_equal(machine_cpu_pml_index(t.cpu), 0xffff);

	r = touch(&t, last, W);
	assert_int_equal(r.outcome, MACHINE_PML_FULL);
	assert_int_equal(r.gpa, last);
	assert_int_equal(*tree_entry(&t, last, 1) & (A | D), 0);
	/* "needs to set an accessed or dirty flag": a read that sets A exits too... */
	assert_int_equal(touch(&t, last, R).outcome, MACHINE_PML_FULL);
	/* ...one that sets nothing does not, nor does a write to a page that is dirty. */
	assert_int_equal(touch(&t, GPA + 513 * 4096ull, R).outcome, MACHINE_OK);
	assert_int_equal(fresh(&t, GPA, W).outcome, MACHINE_OK);
	/* An access that the entry forbids is an EPT violation, full or not. */
	*tree_entry(&t, last, 1) &= ~2ull;
	assert_int_equal(touch(&t, last, W).outcome, MACHINE_EPT_VIOLATION);
	*tree_entry(&t, last, 1) |= 2;
	assert_int_equal(counters(&t).faults[MACHINE_PML_FULL], 2);

	assert_int_equal(machine_cpu_drain_pml(t.cpu, log), 512);
	for (unsigned int i = 0; i < 512; i++)
		assert_int_equal(log[i], GPA + 4096ull * i);
	assert_int_equal(touch(&t, last, W).outcome, MACHINE_OK);
	assert_int_equal(machine_cpu_drain_pml(t.cpu, log), 1);
	assert_int_equal(log[0], last);
	tree_free(&t);
}

static void nothing_is_logged_without_ad_flags_on_npt_or_switched_off(void **state)
{
	uint64_t log[MACHINE_PML_ENTRIES];
	struct tree t;

	(void)state;
	tree_pml(&t, false);
	map(&t, GPA, 600, 0);
	for (unsigned int i = 0; i < 600; i++)
		assert_int_equal(touch(&t, GPA + 4096ull * i, W).outcome, MACHINE_OK);
	assert_int_equal(machine_cpu_drain_pml(t.cpu, log), 0);
	tree_free(&t);

	tree_default(&t, MACHINE_ROOT_NPT, 4);
	machine_cpu_set_pml(t.cpu, true);
	*tree_entry(&t, GPA, 1) = page(&t) | 7;
	assert_int_equal(touch(&t, GPA, W).outcome, MACHINE_OK);
	assert_int_equal(machine_cpu_drain_pml(t.cpu, log), 0);
	tree_free(&t);

	tree_pml(&t, true);
	map(&t, GPA, 2, 0);
	touch(&t, GPA, W);
	machine_cpu_set_pml(t.cpu, false);
	assert_int_equal(touch(&t, GPA + 4096, W).outcome, MACHINE_OK);
	machine_cpu_set_pml(t.cpu, true);
	assert_int_equal(machine_cpu_drain_pml(t.cpu, log), 1);
	assert_int_equal(log[0], GPA);
	tree_free(&t);
}

/* SDM "Accessed and Dirty Flags for EPT": the guest's own page walk writes its tables. */
static void a_guest_page_walk_logs_the_guests_table(void **state)
{
	uint64_t log[MACHINE_PML_ENTRIES];
	struct tree t;

	(void)state;
	tree_pml(&t, true);
	map(&t, GPA, 1, 0);
	touch(&t, GPA + 0x18, R | MACHINE_GUEST_WALK);
	assert_int_equal(machine_cpu_drain_pml(t.cpu, log), 1);
	assert_int_equal(log[0], GPA);
	tree_free(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_write_that_sets_d_logs_its_page_once_and_reads_log_nothing),
		cmocka_unit_test(a_page_is_logged_again_after_its_d_was_cleared_and_flushed),
		cmocka_unit_test(a_large_page_logs_the_4k_page_that_was_written),
		cmocka_unit_test(
			the_513th_page_exits_before_it_is_written_and_goes_on_after_a_drain),
		cmocka_unit_test(nothing_is_logged_without_ad_flags_on_npt_or_switched_off),
		cmocka_unit_test(a_guest_page_walk_logs_the_guests_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
