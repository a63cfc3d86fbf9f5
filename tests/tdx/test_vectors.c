// SPDX-License-Identifier: BSD-2-Clause
/* The model answers as the real module was recorded to, call by call; and bad scripts are refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cli/seamcall.h"

#define VECTORS "tests/data/tdx/vectors.txt"
#define RANDOM	"tests/data/tdx/random.txt.xz"

static struct sc_result play(const char *path, const char *groups, bool compare)
{
	struct sc_result result = {0};
	FILE *out = fopen("/dev/null", "w");

	assert_non_null(out);
	assert_int_equal(sc_play_file(path, groups, compare, out, &result), 0);
	fclose(out);
	return result;
}

static void same_answers(const char *path, const char *groups, size_t count)
{
	struct sc_result result = play(path, groups, true);

	assert_int_equal(result.errors, 0);
	assert_int_equal(result.compared, count);
	assert_int_equal(result.different, 0);
}

static void each_group_answers_as_recorded(void **state)
{
	static const struct {
		const char *group;
		size_t answers;
	} groups[] = {
		{"A", 48},  {"B", 46}, {"C", 25}, {"C2", 17}, {"D", 27},  {"E", 65}, {"F", 75},
		{"F2", 20}, {"I", 42}, {"J", 65}, {"K", 49},  {"L", 12},  {"L2", 2}, {"M", 9},
		{"M2", 4},  {"N", 45}, {"O", 20}, {"R", 45},  {"R2", 12}, {"S", 40}, {"S2", 16},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++)
		same_answers(VECTORS, groups[i].group, groups[i].answers);
	same_answers(VECTORS, NULL, 684);
}

static void random_sequences_answer_as_recorded(void **state)
{
	(void)state;
	same_answers(RANDOM, NULL, 7841);
}

/* Play @text as if it were a file; it never touches a disk. */
static struct sc_result play_text(const char *text, bool compare)
{
	int fd = memfd_create("script", 0);
	struct sc_result result;
	char path[32];

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	result = play(path, NULL, compare);
	close(fd);
	return result;
}

#define HEADER "################ GROUP Z_test SETUP run\n"
#define TRACK_OK                    \
	"S TDH.MEM.TRACK rcx=tdr\n" \
	"  => 0000000000000000 TDX_SUCCESS rcx=100000000 rdx=0\n"

static void a_wrong_answer_is_different(void **state)
{
	struct sc_result good = play_text(HEADER TRACK_OK, true);
	struct sc_result status = play_text(
		HEADER "S TDH.MEM.TRACK rcx=tdr\n"
		       "  => 8000020100000000 TDX_PREVIOUS_TLB_EPOCH_BUSY rcx=100000000 rdx=0\n",
		true);
	struct sc_result missing = play_text(HEADER TRACK_OK "S TDH.MEM.TRACK rcx=tdr\n", true);
	struct sc_result surplus = play_text(HEADER TRACK_OK "  => 0\n", true);

	(void)state;
	assert_int_equal(good.compared, 1);
	assert_int_equal(good.different, 0);
	assert_int_equal(status.different, 1);
	assert_int_equal(missing.different, 1);
	assert_int_equal(surplus.different, 1);
}

/* The lines that go on with an answer count with it. */
static void a_wrong_continuation_is_different(void **state)
{
	static const char script[] =
		HEADER "lp 1\nS TDH.VP.ENTER rcx=v0\n"
		       "  => TD_ENTRY guest rax=0000000000000000 TDX_SUCCESS rcx=0 rdx=0\n"
		       "T 31 rcx=0\n"
		       "  => TD_ENTRY guest rax=c000010000000000 TDX_OPERAND_INVALID rcx=0 rdx=0\n"
		       "     rip_delta=%c\n";
	char text[sizeof(script)];

	(void)state;
	snprintf(text, sizeof(text), script, '4');
	assert_int_equal(play_text(text, true).different, 0);
	snprintf(text, sizeof(text), script, '0');
	assert_int_equal(play_text(text, true).different, 1);
}

static void bad_lines_are_reported_and_lose_nothing_else(void **state)
{
	static const char *const bad[] = {
		"frobnicate 1\n",
		"S TDH.NO.SUCH rcx=1\n",
		"S TDH.MEM.TRACK rcx\n",
		"S TDH.MEM.TRACK rcx=\n",
		"S TDH.MEM.TRACK rcx=1+\n",
		"S TDH.MEM.TRACK rcx=0xzz\n",
		"S TDH.MEM.TRACK rcx=99999999999999999999\n",
		"S TDH.MEM.TRACK xyz=1\n",
		"S\n",
		"T\n",
		"X colour=1\n",
		"lp 8\n",
		"lp -1\n",
		"let 1 2\n",
		"let a\n",
		"rep 2 i 0 1 S TDH.MEM.TRACK rcx=tdr\n",
		"rep 99999999 i 0 1 :: S TDH.MEM.TRACK rcx=tdr\n",
		"rep 2 i 0 1 :: rep 2 j 0 1 :: rep 2 k 0 1 :: rep 2 l 0 1 :: rep 2 m 0 1 :: lp 0\n",
		"rep 1000000 i 0 1 :: rep 1000000 j 0 1 :: lp 0\n",
		"lock nothing 1\n",
		"lock sept\n",
		"plock 0x50000000 0 1\n",
		"plock tdr 9 1\n",
		"septset 0 9 1\n",
		"poke 1 1\n",
		"poke 0 1 99999999\n",
		"peek 3\n",
		"params 0x1001 0 0 3 4 0\n",
		"params 1\n",
		"quiet\n",
		"pamt unknown\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct sc_result result;
		char text[512];

		snprintf(text, sizeof(text), HEADER "%s" TRACK_OK, bad[i]);
		result = play_text(text, true);
		if (result.errors != 1 || result.different || result.compared != 1)
			fail_msg("%s: %u errors, %zu compared, %zu different", bad[i],
				 result.errors, result.compared, result.different);
	}
}

static void bad_files_are_refused(void **state)
{
	struct sc_result result;

	(void)state;
	assert_int_equal(sc_play_file("tests/data/tdx/none.txt", NULL, true, stdout, &result), -1);
	assert_int_equal(play_text("################ GROUP Z SETUP nothing\n", true).errors, 1);
	assert_int_equal(play_text("", true).compared, 0);
	assert_int_equal(play_text("  => an answer without a call\n", true).errors, 0);
}

/* Recorded text with one byte changed must never crash the player, whatever it makes of it. */
static void damaged_scripts_never_crash(void **state)
{
	struct sc_script script;
	uint64_t random = 0x5eed;
	char line[2048];

	(void)state;
	assert_int_equal(sc_script_load(VECTORS, &script), 0);
	for (unsigned int round = 0; round < 300; round++) {
		struct sc_player *player = sc_player_create("damaged", NULL, NULL);
		struct sc_script damaged;
		char text[4096] = "";

		assert_non_null(player);
		sc_player_setup(player, SC_SETUP_RUN, 0);
		for (unsigned int i = 0; i < 8; i++) {
			random = random * 6364136223846793005ull + 1442695040888963407ull;
			snprintf(line, sizeof(line), "%.400s\n",
				 script.lines[(random >> 33) % script.nr_lines]);
			line[(random >> 20) % strlen(line)] = (char)(' ' + (random >> 45) % 94);
			strcat(text, line);
		}
		assert_int_equal(sc_script_parse(text, &damaged), 0);
		sc_player_run(player, &damaged, 0, damaged.nr_lines);
		sc_script_free(&damaged);
		sc_player_destroy(player);
	}
	sc_script_free(&script);
}

/* The built-in set-ups say the same as the files that the recordings came with. */
static void built_in_setups_are_the_recorded_ones(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < SC_NR_SETUPS; i++) {
		struct sc_script files, built_in;
		size_t k = 0;

		assert_int_equal(sc_setup_load(VECTORS, i, &files), 0);
		assert_int_equal(sc_setup_load("tests/none/x", i, &built_in), 0);
		for (size_t line = 0; line < files.nr_lines; line++) {
			if (*files.lines[line] == '#')
				continue;
			assert_true(k < built_in.nr_lines);
			assert_string_equal(files.lines[line], built_in.lines[k++]);
		}
		assert_int_equal(k, built_in.nr_lines);
		sc_script_free(&files);
		sc_script_free(&built_in);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_group_answers_as_recorded),
		cmocka_unit_test(random_sequences_answer_as_recorded),
		cmocka_unit_test(a_wrong_answer_is_different),
		cmocka_unit_test(a_wrong_continuation_is_different),
		cmocka_unit_test(bad_lines_are_reported_and_lose_nothing_else),
		cmocka_unit_test(bad_files_are_refused),
		cmocka_unit_test(damaged_scripts_never_crash),
		cmocka_unit_test(built_in_setups_are_the_recorded_ones),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
