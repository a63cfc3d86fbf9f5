// SPDX-License-Identifier: BSD-2-Clause
/* The pictures: that they show what the run says and nothing else, and that what is no run is
 * refused. Never looks at a colour. */
#include <sys/stat.h>

#include "bench/bench.h"
#include "bench/chart.h"
#include "bench/plot.h"
#include "tests/cli/command.h"

static char dir[] = "/tmp/triptych-plot-XXXXXX";
static char text[1 << 16];

static const char *in_dir(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void write_file(const char *name, const char *what)
{
	FILE *file = fopen(in_dir(name), "w");

	assert_non_null(file);
	assert_true(fputs(what, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static const char *read_picture(const char *name)
{
	FILE *file = fopen(in_dir(name), "r");
	size_t len;

	assert_non_null(file);
	len = fread(text, 1, sizeof(text) - 1, file);
	text[len] = 0;
	fclose(file);
	return text;
}

static unsigned int count(const char *in, const char *what)
{
	unsigned int nr = 0;

	for (; (in = strstr(in, what)); in += strlen(what))
		nr++;
	return nr;
}

/* JSON, with ' for ". */
static void write_json(const char *name, const char *json)
{
	static char proper[1 << 12];
	size_t i = 0;

	assert_true(strlen(json) < sizeof(proper));
	for (; json[i]; i++)
		proper[i] = (char)(json[i] == '\'' ? '"' : json[i]);
	proper[i] = 0;
	write_file(name, proper);
}

/* Draws what @run says; the exit status. */
static int draw(const char *run, const char *peers)
{
	write_json("run", run);
	write_file("peers", peers);
	return command(cmd_bench, "bench --plot %s --from %s/run --peers %s/peers", dir, dir, dir);
}

/* What any run has. */
#define FIRST                                \
	"{'rounds': 3, 'mib': 2, 'ops': [\n" \
	"{'op': 'loop', 'kind': 'harness', 'format': '-', 'unit': 'page', 'instr': 3}\n"

static const char run[] = FIRST ",{'op': 'least', 'kind': 'floor', 'format': '-', 'unit': 'page',"
				" 'ns_median': 1, 'instr': 11}\n"
				",{'op': 'one', 'kind': 'op', 'format': 'ept', 'unit': 'page',"
				" 'floor': 'least', 'floor_nr': 2, 'ns_median': 5, 'instr': 33}\n"
				",{'op': 'one', 'kind': 'op', 'format': 'npt', 'unit': 'page',"
				" 'floor': 'least', 'floor_nr': 2, 'ns_median': 4, 'instr': 32}\n"
				",{'op': 'two', 'kind': 'op', 'format': 'ept', 'unit': 'fault',"
				" 'ns_median': 70, 'instr': null}\n"
				",{'op': 'three', 'kind': 'op', 'format': 'ept', 'unit': 'page',"
				" 'ns_median': 6.5, 'instr': 44}\n"
				",{'op': 'touch', 'kind': 'linux', 'format': '-', 'unit': 'page',"
				" 'ns_median': 900, 'instr': null}\n"
				",{'op': 'many', 'kind': 'op', 'format': 'ept', 'unit': 'fault',"
				" 'curve': 'slots', 'param': 1, 'ns_min': 8, 'instr': 80}\n"
				",{'op': 'many', 'kind': 'op', 'format': 'ept', 'unit': 'fault',"
				" 'curve': 'slots', 'param': 100, 'ns_min': 9, 'instr': 90}\n"
				"]}";
static const char peers[] = "# a comment\npeer kvm7 KVM\npeer other Another\n"
			    "panel one Do one\nlinux one touch\n"
			    "cost kvm7 one 1013 93\ncost other one 55 -\n";

static void test_each_row_has_its_marks(void **state)
{
	(void)state;
	assert_int_equal(draw(run, peers), CLI_OK);
	/* One in the head, and a row each: two have instructions, three have a time. */
	assert_int_equal(count(read_picture("instructions.svg"), "class=\"ours\""), 1 + 2);
	assert_int_equal(count(text, "class=\"floor\""), 1 + 1);
	assert_int_equal(count(text, "class=\"kvm hollow\""), 1 + 1);
	assert_int_equal(count(read_picture("time.svg"), "class=\"ours\""), 1 + 3);
	assert_int_equal(count(text, "class=\"linux\""), 1 + 1);
	assert_int_equal(count(text, ">per page<") + count(text, ">per fault<"), 2);
}

static void test_numbers_are_those_of_the_run(void **state)
{
	(void)state;
	assert_int_equal(draw(run, peers), CLI_OK);
	/* The floor's, twice; ours; theirs; and how many times ours theirs is. */
	assert_non_null(strstr(read_picture("instructions.svg"), ">22<"));
	assert_non_null(strstr(text, ">33<"));
	assert_non_null(strstr(text, ">1,013<"));
	assert_non_null(strstr(text, ">30.7x<"));
	assert_non_null(strstr(read_picture("time.svg"), ">2.50x<"));
}

static void test_bars_are_as_long_as_what_they_show(void **state)
{
	double theirs = 0, ours = 0;
	const char *at;

	(void)state;
	assert_int_equal(draw(run, peers), CLI_OK);
	at = strstr(read_picture("peers.svg"), "class=\"kvm\"");
	assert_non_null(at);
	while (strncmp(at, "width=\"", 7) != 0)
		at--;
	theirs = strtod(at + 7, NULL);
	at = strstr(text, "class=\"ours\"");
	assert_non_null(at);
	while (strncmp(at, "width=\"", 7) != 0)
		at--;
	ours = strtod(at + 7, NULL);
	assert_true(ours > 0 && theirs / ours > 30 && theirs / ours < 31.5);
	assert_int_equal(count(text, "class=\"peer\""), 1);
}

static void test_a_curve_has_a_point_a_row(void **state)
{
	(void)state;
	assert_int_equal(draw(run, peers), CLI_OK);
	/* Time and instructions; a mark in each legend. */
	assert_int_equal(count(read_picture("scale.svg"), "<circle"), 2 * (1 + 2));
	assert_int_equal(count(text, "class=\"line s1\""), 2);
	assert_non_null(strstr(text, "many: 80 to 90 instructions"));
}

static const char tables[] =
	FIRST "],\n'threads': [\n"
	      "{'of': 'faults', 'ns_one': 10, 'ns_two': 12, 'ratio': 1.2, 'goal': 1.1}],\n"
	      "'memory': [\n"
	      "{'of': 'GiB', 'tables': 2000000, 'headers': 64, 'other': 0, 'all': 2000064},\n"
	      "{'of': 'a vCPU', 'tables': 0, 'headers': 0, 'other': 5, 'all': 5}]}";

static void test_tables_become_bars(void **state)
{
	(void)state;
	assert_int_equal(draw(tables, "peer kvm7 KVM\nbytes kvm7 3000000 GiB\n"), CLI_OK);
	assert_int_equal(count(read_picture("threads.svg"), "class=\"ours\""), 2);
	assert_int_equal(count(text, "class=\"goal\""), 1);
	assert_non_null(strstr(read_picture("memory.svg"), ">3,000,000<"));
	/* Tables and headers; all else is nothing in the one, and everything in the other. */
	assert_int_equal(count(text, "<rect"), 1 + 2 + 1 + 1);
}

static void test_the_same_run_is_the_same_picture(void **state)
{
	static char first[sizeof(text)];

	(void)state;
	assert_int_equal(draw(run, peers), CLI_OK);
	strcpy(first, read_picture("time.svg"));
	assert_int_equal(draw(run, peers), CLI_OK);
	assert_string_equal(first, read_picture("time.svg"));
}

static void test_what_a_run_has_nothing_of_is_not_drawn(void **state)
{
	(void)state;
	unlink(in_dir("threads.svg"));
	assert_int_equal(draw(run, peers), CLI_OK);
	assert_non_null(strstr(out, "threads.svg: nothing of it in the run"));
	assert_int_equal(access(in_dir("threads.svg"), F_OK), -1);
}

static void test_what_is_no_run_is_refused(void **state)
{
	static const char *const broken[] = {"",
					     "{",
					     "[1, 2",
					     "{'ops': [}",
					     "{'ops': 1}",
					     "{'ops': []}",
					     "{'ops': [{}]}",
					     "{'ops': [{'op': 'one'}]}",
					     "{'ops': [{'op': 'one}]}",
					     "{'ops': ['\\q']}",
					     "{'ops': [0x10]}",
					     "{'ops': [nan]}",
					     "{'ops': [01]}",
					     "{'ops': [1,]}",
					     "[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]"};
	char half[sizeof(run)];

	(void)state;
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++)
		if (draw(broken[i], "") != CLI_USAGE || !*err)
			fail_msg("taken for a run: %s", broken[i]);
	snprintf(text, sizeof(text), "%s {}", run);
	assert_int_equal(draw(text, ""), CLI_USAGE);
	for (size_t len = 0; len < sizeof(run) - 1; len++) {
		memcpy(half, run, len);
		half[len] = 0;
		if (draw(half, "") != CLI_USAGE)
			fail_msg("half a run is taken for one: %s", half);
	}
}

static void test_figures_of_others_that_are_not_understood_are_refused(void **state)
{
	static const char *const broken[] = {"peer kvm7",
					     "cost kvm7 one 1 2",
					     "peer a A\npeer a B",
					     "peer a A\ncost a one 1",
					     "peer a A\ncost a one x 2",
					     "peer a A\ncost a one -1 2",
					     "peer a A\nbytes a much it",
					     "something a b"};

	(void)state;
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++)
		if (draw(run, broken[i]) != CLI_USAGE || !strstr(err, "not understood"))
			fail_msg("taken for figures: %s", broken[i]);
}

static void test_the_command_says_what_it_cannot_do(void **state)
{
	(void)state;
	assert_int_equal(command(cmd_bench, "bench --plot %s", dir), CLI_USAGE);
	assert_int_equal(command(cmd_bench, "bench --from %s", dir), CLI_USAGE);
	assert_int_equal(command(cmd_bench, "bench --plot %s --from /no/such/run", dir), CLI_USAGE);
	write_json("run", run);
	assert_int_equal(command(cmd_bench, "bench --plot /no/such/place --from %s/run", dir),
			 CLI_USAGE);
	assert_non_null(strstr(err, "cannot be written"));
}

/* The figures that the project keeps are for rows that there are. */
static void test_the_kept_figures_are_of_rows_that_exist(void **state)
{
	struct plot p;

	(void)state;
	write_json("run", run);
	if (!plot_read(&p, in_dir("run"), "bench/peers"))
		fail_msg("%s", p.why);
	for (unsigned int i = 0; i < p.nr_figures; i++)
		if (p.figure[i].bytes < 0 && !bench_find(p.figure[i].op))
			fail_msg("bench/peers: there is no operation %s", p.figure[i].op);
	for (unsigned int i = 0; i < p.nr_linux; i++)
		if (!bench_find(p.linux_row[i].op) || !bench_find(p.linux_row[i].row))
			fail_msg("bench/peers: there is no operation %s", p.linux_row[i].row);
	plot_free(&p);
}

static void test_numbers_have_three_digits(void **state)
{
	char number[24];

	(void)state;
	assert_string_equal(chart_number(0.0714, number), "0.07");
	assert_string_equal(chart_number(13.49, number), "13.5");
	assert_string_equal(chart_number(113.4, number), "113");
	assert_string_equal(chart_number(60620, number), "60,620");
	assert_string_equal(chart_number(1234567.4, number), "1,234,567");
	assert_string_equal(chart_number(-1, number), "-");
}

static int make_dir(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	char line[64];

	(void)state;
	snprintf(line, sizeof(line), "rm -r %s", dir);
	return system(line);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_row_has_its_marks),
		cmocka_unit_test(test_numbers_are_those_of_the_run),
		cmocka_unit_test(test_bars_are_as_long_as_what_they_show),
		cmocka_unit_test(test_a_curve_has_a_point_a_row),
		cmocka_unit_test(test_tables_become_bars),
		cmocka_unit_test(test_the_same_run_is_the_same_picture),
		cmocka_unit_test(test_what_a_run_has_nothing_of_is_not_drawn),
		cmocka_unit_test(test_what_is_no_run_is_refused),
		cmocka_unit_test(test_figures_of_others_that_are_not_understood_are_refused),
		cmocka_unit_test(test_the_command_says_what_it_cannot_do),
		cmocka_unit_test(test_the_kept_figures_are_of_rows_that_exist),
		cmocka_unit_test(test_numbers_have_three_digits),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
