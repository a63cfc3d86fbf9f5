// SPDX-License-Identifier: BSD-2-Clause
/* The bench itself: that it notices work which is not done, and a budget that is passed. Says
 * nothing of how fast anything is. */
#include "bench/suite.h"
#include "tests/cli/command.h"

#define PAGES 1024

static void run_nothing(struct bench *b)
{
	(void)b;
}

static void run_a_lie(struct bench *b)
{
	b->wrong = 0;
}

/* Those whose result is the same as if they had not been. */
static bool leaves_no_trace(const struct bench_op *op)
{
	static const char *const names[] = {
		"spurious",	  "age_old",	     "convert_unmapped",      "convert_ranges",
		"floor_walk_seq", "floor_walk_rand", "floor_walk_rand_fenced"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(op->name, names[i]))
			return true;
	return op->kind == BENCH_HARNESS || op->kind == BENCH_LINUX;
}

static void pass_all(bool (*pass)(const struct bench_op *op, struct bench *b))
{
	struct bench b;

	assert_true(bench_init(&b, PAGES));
	for (const struct bench_op *const *family = bench_families; *family; family++)
		for (const struct bench_op *op = *family; op->name; op++)
			for (b.format = TPT_FORMAT_EPT; b.format <= TPT_FORMAT_NPT; b.format++) {
				b.param = op->param[0];
				if ((op->formats & 1u << b.format || !op->formats) && !pass(op, &b))
					fail_msg("%s: %s", op->name, b.why);
			}
	bench_fini(&b);
}

static bool does_its_work(const struct bench_op *op, struct bench *b)
{
	uint64_t ns;

	return bench_pass(op, b, &ns);
}

static bool is_caught_with(const struct bench_op *op, struct bench *b, void (*run)(struct bench *b))
{
	struct bench_op idle = *op;
	uint64_t ns;

	idle.run = run;
	if (bench_pass(&idle, b, &ns))
		return bench_fail(b, "did nothing, and nobody noticed");
	return b->why[0];
}

static bool is_caught_idle(const struct bench_op *op, struct bench *b)
{
	return is_caught_with(op, b, run_nothing);
}

static bool is_caught_lying(const struct bench_op *op, struct bench *b)
{
	return leaves_no_trace(op) || is_caught_with(op, b, run_a_lie);
}

static void test_each_operation_does_its_work(void **state)
{
	(void)state;
	pass_all(does_its_work);
}

static void test_an_operation_that_does_nothing_is_caught(void **state)
{
	(void)state;
	pass_all(is_caught_idle);
}

static void test_an_operation_that_says_it_worked_is_not_believed(void **state)
{
	(void)state;
	pass_all(is_caught_lying);
}

static void test_floors_and_loops_that_are_named_exist(void **state)
{
	(void)state;
	for (const struct bench_op *const *family = bench_families; *family; family++)
		for (const struct bench_op *op = *family; op->name; op++) {
			assert_true(!op->floor || bench_find(op->floor)->kind == BENCH_FLOOR);
			assert_true(!op->harness || bench_find(op->harness)->kind == BENCH_HARNESS);
		}
}

static void test_external_calls_are_as_few_as_can_be(void **state)
{
	struct bench_table t = {.nr = 0};
	struct bench b;

	(void)state;
	assert_true(bench_init(&b, PAGES));
	assert_true(table_external(&t, &b, NULL));
	assert_true(t.nr > 0);
	for (unsigned int i = 0; i < t.nr; i++)
		assert_true(t.line[i].value[TPT_CALL_NR + 2] == t.line[i].value[TPT_CALL_NR + 3]);
	bench_fini(&b);
}

/* ---- the command ---- */

static void test_the_command_prints_rows_with_stable_names(void **state)
{
	static const char *const names[] = {"\"op\": \"wp_slot\"", "\"format\": \"npt\"",
					    "\"ns_median\": ",	   "\"ns_min\": ",
					    "\"floor_ratio\": ",   "\"instr\": null",
					    "\"locked\": null",	   "\"op\": \"floor_clear\""};

	(void)state;
	assert_int_equal(command(cmd_bench, "bench --json --only wp_slot --rounds 2 --size 2"),
			 CLI_OK);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strstr(out, names[i]))
			fail_msg("%s is not in: %s", names[i], out);
}

static void test_the_command_takes_counts_from_a_file(void **state)
{
	char path[] = "/tmp/triptych-counts-XXXXXX";
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	dprintf(fd, "# a comment\nwp_slot ept 17.25 1.004 17.25 0.00 512\n");
	close(fd);
	assert_int_equal(command(cmd_bench,
				 "bench --json --only wp_slot --rounds 1 --size 2 --format ept "
				 "--counts %s",
				 path),
			 CLI_OK);
	assert_non_null(strstr(out, "\"instr\": 17.2500, \"locked\": 1.0040"));
	unlink(path);
}

static void test_the_command_refuses_what_it_does_not_know(void **state)
{
	(void)state;
	assert_int_equal(command(cmd_bench, "bench --only map_4k_seq,no_such_thing"), CLI_USAGE);
	assert_non_null(strstr(err, "no_such_thing"));
	assert_int_equal(command(cmd_bench, "bench --format sept"), CLI_USAGE);
	assert_int_equal(command(cmd_bench, "bench --rounds 0"), CLI_USAGE);
	assert_int_equal(command(cmd_bench, "bench --size x"), CLI_USAGE);
	assert_int_equal(command(cmd_bench, "bench --counts /no/such/file"), CLI_USAGE);
	assert_int_equal(command(cmd_bench, "bench extra"), CLI_USAGE);
}

/* ---- budgets ---- */

static int check_counts(const char *counts)
{
	char path[] = "/tmp/triptych-budget-XXXXXX", line[256];
	int fd = mkstemp(path), status;

	assert_true(fd >= 0);
	dprintf(fd, "one * 10 1 100 here\ntwo ept 20 - 200 here\n%%\n%s", counts);
	close(fd);
	/* Two files of one: the budgets above the sign, the counts below. */
	snprintf(line, sizeof(line),
		 "sed '/%%/,$d' %s >%s.b; sed '1,/%%/d' %s >%s.c; bench/check %s.b %s.c >%s.o",
		 path, path, path, path, path, path, path);
	status = system(line);
	snprintf(line, sizeof(line), "rm -f %s %s.b %s.c %s.o", path, path, path, path);
	assert_int_equal(system(line), 0);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

#define ONE_EPT "one ept 10.00 1.004 10.00 0.00 512\n"
#define ONE_NPT "one npt 9.50 1.000 9.50 0.00 512\n"
#define TWO	"two ept 12.00 7.000 12.00 0.00 512\n"

static void test_counts_within_their_budgets_pass(void **state)
{
	(void)state;
	assert_int_equal(check_counts(ONE_EPT ONE_NPT TWO "three - 99 99 99 0 1\n"), 0);
}

static void test_a_count_over_its_budget_fails(void **state)
{
	(void)state;
	assert_int_equal(check_counts(ONE_EPT "one npt 10.01 1.000 10.01 0.00 512\n" TWO), 1);
}

static void test_a_locked_operation_too_many_fails(void **state)
{
	(void)state;
	assert_int_equal(check_counts(ONE_EPT "one npt 9.00 2.000 9.00 0.00 512\n" TWO), 1);
}

static void test_a_budget_that_nobody_counted_fails(void **state)
{
	(void)state;
	assert_int_equal(check_counts(ONE_EPT ONE_NPT), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_operation_does_its_work),
		cmocka_unit_test(test_an_operation_that_does_nothing_is_caught),
		cmocka_unit_test(test_an_operation_that_says_it_worked_is_not_believed),
		cmocka_unit_test(test_floors_and_loops_that_are_named_exist),
		cmocka_unit_test(test_external_calls_are_as_few_as_can_be),
		cmocka_unit_test(test_the_command_prints_rows_with_stable_names),
		cmocka_unit_test(test_the_command_takes_counts_from_a_file),
		cmocka_unit_test(test_the_command_refuses_what_it_does_not_know),
		cmocka_unit_test(test_counts_within_their_budgets_pass),
		cmocka_unit_test(test_a_count_over_its_budget_fails),
		cmocka_unit_test(test_a_locked_operation_too_many_fails),
		cmocka_unit_test(test_a_budget_that_nobody_counted_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
