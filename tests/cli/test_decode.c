// SPDX-License-Identifier: BSD-2-Clause
/* Proves `triptych decode`: what it prints of the public sample, how it guesses, what it refuses.
 */
#include "tests/cli/command.h"

static int decode(const char *line)
{
	return command(cmd_decode, "decode %s", line);
}

static void assert_says(const char *text)
{
	if (!strstr(out, text))
		fail_msg("nowhere \"%s\" in:\n%s", text, out);
}

static void assert_refused(const char *line, const char *why)
{
	assert_int_equal(decode(line), CLI_USAGE);
	assert_string_equal(out, "");
	if (!strstr(err, why) || strncmp(err, "triptych decode: ", 17) != 0)
		fail_msg("nowhere \"%s\" in: %s", why, err);
}

/* cloud-hypervisor issue 8663: one 4 KiB page was restored, and 512 were mapped with it. */
static void public_sample_shows_the_bug_in_one_line(void **state)
{
	(void)state;
	assert_int_equal(decode("0xf39adc827 0x8000000000000000 0x2e76400ee7 --gfn 0x4d19"),
			 CLI_OK);
	assert_says("0xf39adc827  npt, table\n");
	assert_says("  51:12  PFN             0xf39adc      frame of the table  [APM 5.4.1");
	assert_says(
		"0x8000000000000000  npt, empty\n  read as npt: 0xf39adc827, given with it, is a "
		"table entry of npt\n");
	assert_says("0x2e76400ee7  npt, large leaf\n");
	assert_says(
		"  maps 512 frames, 0x2e76400 to 0x2e765ff: 2 MiB (the frame isn't aligned to 1 "
		"GiB)\n");
	assert_says(
		"  gfn 0x4d19 is frame 0x2e76519 (0x2e76400 + 0x119); mapped with it: gfns 0x4c00 "
		"to 0x4dff\n");
	assert_string_equal(err, "");
}

static void whole_sample_is_of_one_amd_host(void **state)
{
	(void)state;
	assert_int_equal(
		decode("8000000000000000 f39adc827 a58e8f827 841cc0827 2e76400ee7 420c94827 "
		       "3124373e67 --gfn 4d19"),
		CLI_OK);
	assert_null(strstr(out, "  ept, "));
	assert_says("0x420c94827  npt, table\n");
	assert_says("0x3124373e67  npt, leaf\n");
	assert_says(
		"  10     MMU_WRITABLE    0x1           the MMU may make it writable  [software]");
	assert_says(
		"  9      HOST_WRITABLE   0x1           the host's page is writable  [software]");
	assert_says("  11     MMU_PRESENT     0x1           present to the MMU  [software]");
	assert_says("  maps 1 frame, 0x3124373\n  gfn 0x4d19 is frame 0x3124373\n");
}

static void a_guess_says_why_and_an_order_is_obeyed(void **state)
{
	(void)state;
	assert_int_equal(decode("0x2e76400ee7"), CLI_OK);
	assert_says("  read as npt: bit 10 is MMU_WRITABLE in npt");
	assert_int_equal(decode("--format ept 0x2e76400ee7"), CLI_OK);
	assert_null(strstr(out, "read as"));
	assert_says("0x2e76400ee7  ept, large leaf\n");
	assert_says("write-through (WT)  [SDM 29.3.7");
	assert_int_equal(decode("81100001000408f0 --format sept"), CLI_OK);
	assert_says("  sept, PENDING\n");
	assert_says("  11     TDEL            0x1           the entry is locked");
}

static void mmio_words_tell_gfn_and_generation(void **state)
{
	(void)state;
	assert_int_equal(decode("80000fee001d7"), CLI_OK);
	assert_says("0x80000fee001d7  mmio, MMIO\n");
	assert_says("  gfn 0xfee00 had no memslot in generation 0x3a; another generation makes it "
		    "void\n");
	assert_int_equal(decode("3080000fec002a7"), CLI_OK);
	assert_says("generation 0x3054;");
	assert_int_equal(decode("825 --format mmio"), CLI_OK);
	assert_says("0x825  mmio, not MMIO\n");
}

static void large_leaves_that_could_be_1g_are_not_called_2m(void **state)
{
	(void)state;
	assert_int_equal(decode("80000ee7"), CLI_OK);
	assert_says("at level 2 (2 MiB), or 262144 at level 3 (1 GiB)\n");
}

static void json_says_the_same(void **state)
{
	(void)state;
	assert_int_equal(decode("--json 2e76400ee7 80000fee001d7 --gfn 4d19"), CLI_OK);
	assert_true(!strncmp(out, "[\n", 2) && !strcmp(out + strlen(out) - 3, "\n]\n"));
	assert_says(
		"{\"word\": \"0x2e76400ee7\", \"format\": \"npt\", \"guessed\": true, \"reason\": ");
	assert_says("\"kind\": \"large leaf\", \"pfn_of_gfn\": \"0x2e76519\"");
	assert_says("{\"high\": 51, \"low\": 12, \"name\": \"PFN\", \"value\": \"0x2e76400\", "
		    "\"meaning\": \"frame that is mapped\", \"source\": \"APM 5.4.1 \\\"Field "
		    "Definitions\\\"\"}");
	assert_says("\"kind\": \"MMIO\", \"gfn\": \"0xfee00\", \"generation\": \"0x3a\"");
}

static void bad_input_is_refused_with_its_reason(void **state)
{
	(void)state;
	assert_refused("", "no word given");
	assert_refused("--json", "no word given");
	assert_refused("xyz", "xyz is not a word: 1 to 16 hexadecimal digits");
	assert_refused("0x", "0x is not a word");
	assert_refused("0x0x1", "0x0x1 is not a word");
	assert_refused("827 -1", "unknown option -1");
	assert_refused("12345678123456781", "12345678123456781 is not a word");
	assert_refused("827, 3", "827, is not a word");
	assert_refused("827 --format arm", "unknown format arm: there are ept, npt, sept and mmio");
	assert_refused("827 --format", "option --format needs an argument");
	assert_refused("827 --colour", "unknown option --colour");
	assert_refused("827 --gfn zz", "--gfn zz is not a guest frame number");
	assert_refused("827 --gfn 10000000000", "is not a guest frame number");
}

static void help_names_every_option(void **state)
{
	(void)state;
	assert_int_equal(decode("--help"), CLI_OK);
	assert_says("--format");
	assert_says("--gfn");
	assert_says("--json");
	assert_string_equal(err, "");
}

static void numbers_are_read_whole_or_not_at_all(void **state)
{
	uint64_t v = 0;

	(void)state;
	assert_true(cli_parse_u64("ffffffffffffffff", true, &v) && v == UINT64_MAX);
	assert_true(cli_parse_u64("0XfF", true, &v) && v == 255);
	assert_true(cli_parse_u64("010", false, &v) && v == 10);
	assert_true(cli_parse_u64("0x10", false, &v) && v == 16);
	assert_false(cli_parse_u64("18446744073709551616", false, &v));
	assert_false(cli_parse_u64("1f", false, &v));
	assert_false(cli_parse_u64(" 1", false, &v));
	assert_false(cli_parse_u64("+1", true, &v));
	assert_false(cli_parse_u64("", true, &v));
	assert_true(v == 16);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(public_sample_shows_the_bug_in_one_line),
		cmocka_unit_test(whole_sample_is_of_one_amd_host),
		cmocka_unit_test(a_guess_says_why_and_an_order_is_obeyed),
		cmocka_unit_test(mmio_words_tell_gfn_and_generation),
		cmocka_unit_test(large_leaves_that_could_be_1g_are_not_called_2m),
		cmocka_unit_test(json_says_the_same),
		cmocka_unit_test(bad_input_is_refused_with_its_reason),
		cmocka_unit_test(help_names_every_option),
		cmocka_unit_test(numbers_are_read_whole_or_not_at_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
