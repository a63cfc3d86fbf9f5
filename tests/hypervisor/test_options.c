// SPDX-License-Identifier: BSD-2-Clause
/* The words on the hypervisor's command line: what each does, and what is refused, by its name. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* NOLINTBEGIN(bugprone-suspicious-include) */
#include "hypervisor/options.c"
/* The hypervisor's own words, beside those of this process. */
#define memcpy	own_memcpy
#define memmove own_memmove
#define memset	own_memset
#define memcmp	own_memcmp
#define strlen	own_strlen
#include "hypervisor/string.c"
#undef memcpy
#undef memmove
#undef memset
#undef memcmp
#undef strlen
/* NOLINTEND(bugprone-suspicious-include) */

static char said[512];
static jmp_buf refused;
static struct options first;
static char line[512];

void panic(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(said, sizeof(said), format, args);
	va_end(args);
	longjmp(refused, 1);
}

/* Is it understood? If not, the reason is in said. */
static bool parse(const char *words)
{
	options = first;
	said[0] = 0;
	snprintf(line, sizeof(line), "%s", words);
	if (setjmp(refused))
		return false;
	options_parse(line);
	return true;
}

static void assert_refused(const char *words, const char *why)
{
	if (parse(words))
		fail_msg("\"%s\" is understood", words);
	if (!strstr(said, why))
		fail_msg("\"%s\": \"%s\", and not \"%s\"", words, said, why);
}

static void assert_like(const struct options *want)
{
	assert_int_equal(options.level, want->level);
	assert_int_equal(options.dirty, want->dirty);
	assert_int_equal(options.age, want->age);
	assert_int_equal(options.split, want->split);
	assert_int_equal(options.zap, want->zap);
	assert_int_equal(options.slots, want->slots);
	assert_int_equal(options.live, want->live);
	assert_int_equal(options.shared_bit, want->shared_bit);
	assert_int_equal(options.nx, want->nx);
	assert_int_equal(options.td, want->td);
	assert_int_equal(options.break_shootdown, want->break_shootdown);
	assert_string_equal(options.guest_words, want->guest_words);
}

static void no_word_leaves_all_as_it_is(void **state)
{
	const struct options want = {
		.level = TPT_LEVEL_2M, .live = 1000, .shared_bit = 47, .guest_words = ""};

	(void)state;
	assert_true(parse(""));
	assert_like(&want);
	assert_true(parse(" , ,,  "));
	assert_like(&want);
}

static void each_word_changes_its_own_option(void **state)
{
	static const struct {
		const char *word;
		struct options want;
	} rows[] = {
		{"4k", {.level = TPT_LEVEL_4K}},
		{"2m", {.level = TPT_LEVEL_2M}},
		{"1g", {.level = TPT_LEVEL_1G}},
		{"nx", {.nx = true}},
		{"td", {.td = true}},
		{"dirty=7", {.dirty = 7}},
		{"age=10", {.age = 10}},
		{"split=250", {.split = 250}},
		{"zap=0x20", {.zap = 32}},
		{"slots=4294967295", {.slots = ~0u}},
		{"live=50", {.live = 50}},
		{"break=shootdown", {.break_shootdown = true}},
		{"shared=40", {.shared_bit = 40}},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct options want = rows[i].want;
		char words[64];

		want.level = want.level ? want.level : TPT_LEVEL_2M;
		want.live = want.live ? want.live : 1000;
		want.shared_bit = want.shared_bit ? want.shared_bit : 47;
		want.guest_words = "";
		assert_true(parse(rows[i].word));
		assert_like(&want);
		snprintf(words, sizeof(words), "  mode=%s,", rows[i].word);
		assert_true(parse(words));
		assert_like(&want);
		snprintf(words, sizeof(words), ",%s -- quiet", rows[i].word);
		want.guest_words = "quiet";
		assert_true(parse(words));
		assert_like(&want);
	}
}

static void words_combine_with_spaces_and_commas(void **state)
{
	const struct options want = {.level = TPT_LEVEL_1G,
				     .nx = true,
				     .dirty = 20,
				     .split = 30,
				     .age = 40,
				     .live = 0,
				     .shared_bit = 39,
				     .break_shootdown = true,
				     .guest_words = "console=ttyS0 quiet"};

	(void)state;
	assert_true(parse(
		" mode=nx,dirty=20,split=30 age=40,,live=0 shared=39 4k 1g break=shootdown -- "
		"console=ttyS0 quiet"));
	assert_like(&want);
	/* The last one of two is meant. */
	assert_true(parse("dirty=5 1g dirty=0x10,4k"));
	assert_int_equal(options.dirty, 16);
	assert_int_equal(options.level, TPT_LEVEL_4K);
}

static void all_behind_two_dashes_is_the_guests(void **state)
{
	static const struct {
		const char *words, *guest;
		bool td;
	} rows[] = {
		{" td -- a b", "a b", true}, {" td -- a -- b", "a -- b", true},
		{" -- td", "td", false},     {"-- td", "td", false},
		{" td --  a", " a", true},   {" td -- ", "", true},
		{" td --", "", true},	     {"--", "", false},
		{" td -- --", "--", true},   {" td", "", true},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (!parse(rows[i].words))
			fail_msg("\"%s\": %s", rows[i].words, said);
		assert_string_equal(options.guest_words, rows[i].guest);
		assert_int_equal(options.td, rows[i].td);
	}
	/* Words that have dashes are not that. */
	assert_refused("td --nx", "\"--nx\"");
	assert_refused("td--", "\"td--\"");
	assert_refused("td --- a", "\"---\"");
}

static void what_is_not_known_is_refused_by_its_name(void **state)
{
	static const char *const words[] = {
		"tdx",
		"t",
		"8k",
		"4kx",
		"4K",
		"nx=1",
		"dirty",
		"dirty=",
		"dirty=x",
		"dirty=5x",
		"dirty=-1",
		"dirty=0x",
		"dirty=0xg",
		"live=0x-",
		"break",
		"break=",
		"break=shootdowns",
		"mod=td",
		"Mode=td",
		"=",
		"quiet",
		"td;nx",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		char all[96], name[64];

		snprintf(name, sizeof(name), "\"%s\"", words[i]);
		assert_refused(words[i], name);
		snprintf(all, sizeof(all), " nx,%s td -- quiet", words[i]);
		assert_refused(all, name);
		snprintf(all, sizeof(all), "age=3 mode=%s,td", words[i]);
		assert_refused(all, name);
	}
	/* And what would be known is said. */
	assert_refused("what", "4k 2m 1g nx td dirty=");
}

/* A number that doesn't fit would be another one, or 0: never. */
static void a_number_of_more_than_32_bits_is_refused(void **state)
{
	static const char *const words[] = {
		"dirty=4294967296",	     "age=0x100000000",
		"zap=18446744073709551616",  "slots=18446744073709551617",
		"split=0x10000000000000001", "live=99999999999999999999999",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		assert_refused(words[i], words[i]);
	assert_true(parse("dirty=4294967295,age=0xffffffff"));
	assert_int_equal(options.dirty, ~0u);
	assert_int_equal(options.age, ~0u);
}

static void a_private_guest_has_no_dirty_log_and_keeps_its_slots(void **state)
{
	(void)state;
	assert_refused("td dirty=1", "dirty");
	assert_refused("dirty=1 td", "dirty");
	assert_refused("mode=td,split=1", "split");
	assert_refused("slots=1,td", "slots");
	assert_true(parse("td dirty=0 split=0 slots=0"));
	assert_true(parse("td nx 4k age=1 zap=2 live=3 break=shootdown"));
	assert_true(parse("dirty=1 split=1 slots=1"));
}

static void a_shared_bit_chooses_an_entry_of_the_root(void **state)
{
	(void)state;
	for (unsigned int bit = 0; bit < 70; bit++) {
		char words[32];

		snprintf(words, sizeof(words), "td shared=%u", bit);
		if (bit < 39 || bit > 47)
			assert_refused(words, words + 3);
		else
			assert_true(parse(words) && options.shared_bit == bit);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_word_leaves_all_as_it_is),
		cmocka_unit_test(each_word_changes_its_own_option),
		cmocka_unit_test(words_combine_with_spaces_and_commas),
		cmocka_unit_test(all_behind_two_dashes_is_the_guests),
		cmocka_unit_test(what_is_not_known_is_refused_by_its_name),
		cmocka_unit_test(a_number_of_more_than_32_bits_is_refused),
		cmocka_unit_test(a_private_guest_has_no_dirty_log_and_keeps_its_slots),
		cmocka_unit_test(a_shared_bit_chooses_an_entry_of_the_root),
	};

	first = options;
	return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
