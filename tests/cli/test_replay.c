// SPDX-License-Identifier: BSD-2-Clause
/* Proves `triptych replay`: nothing differs on the recorded traces, anything damaged does, and bad
 * input is refused by name. */
#include "cli/input.h"
#include "tests/cli/command.h"

#define SMALL	    "traces/kvm-npt-small.txt.xz"
#define SMALL_SLOTS "traces/kvm-npt-small.slots"
#define BOOT	    "traces/kvm-npt-linux-boot.txt.xz"
#define BOOT_4K	    "traces/kvm-npt-linux-boot-4k.txt.xz"
#define PRECOPY	    "traces/kvm-npt-precopy.txt.xz"
#define LINUX_SLOTS "traces/qemu-pc-256m.slots"

/* ---- running the command ---- */

#define replay(...) command(cmd_replay, "replay " __VA_ARGS__)

static const char *last_line(void)
{
	size_t len = strlen(out);

	assert_true(len > 1 && out[len - 1] == '\n');
	while (len > 1 && out[len - 2] != '\n')
		len--;
	return out + len - 1;
}

/* The last number of the last line. */
static unsigned long different(void)
{
	unsigned long recorded, compared, d;

	if (sscanf(last_line(), "installs: %lu recorded, %lu compared, %lu different\n", &recorded,
		   &compared, &d) != 3)
		fail_msg("last line: %s", last_line());
	return d;
}

static void assert_has(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("\"%s\" is not in:\n%s", part, text);
}

/* ---- copies of a trace with one thing changed ---- */

#define MAX_TEXT (16u << 20)

/* The whole text of a trace; the caller frees it. */
static char *read_text(const char *path, size_t *len)
{
	char why[INPUT_ERR_LEN], *text = malloc(MAX_TEXT);
	struct input *in;
	long n;

	assert_non_null(text);
	assert_int_equal(input_open(path, &in, why), 0);
	for (*len = 0; (n = input_read(in, text + *len, MAX_TEXT - 1 - *len, why)); *len += n)
		assert_true(n > 0);
	text[*len] = 0;
	input_close(in);
	return text;
}

struct temporary {
	char path[64];
};

static struct temporary write_temporary(const void *bytes, size_t len)
{
	struct temporary t = {"/tmp/triptych-replay-XXXXXX"};
	int fd = mkstemp(t.path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, len), (long)len);
	close(fd);
	return t;
}

/* Replays @text with the @len bytes at @at replaced by @with, under @slots (NULL: inferred). */
static int replay_changed(const char *text, size_t at, size_t len, const char *with,
			  const char *slots)
{
	size_t total = strlen(text), added = strlen(with);
	char *copy = malloc(total + added + 1);
	struct temporary t;
	int ret;

	assert_non_null(copy);
	memcpy(copy, text, at);
	memcpy(copy + at, with, added);
	memcpy(copy + at + added, text + at + len, total - at - len + 1);
	t = write_temporary(copy, total - len + added);
	free(copy);
	ret = slots ? replay("%s --compare --slots %s", t.path, slots)
		    : replay("%s --compare", t.path);
	unlink(t.path);
	return ret;
}

/* Offset of the number after @key in the first line at or after the one that holds @mark. */
static size_t find_number(const char *text, const char *mark, const char *key, size_t *len)
{
	const char *line = strstr(text, mark), *at;

	assert_non_null(line);
	at = strstr(line, key);
	assert_non_null(at);
	at += strlen(key);
	*len = strcspn(at, " \n");
	return (size_t)(at - text);
}

/* Flips each bit of @bits in turn in the hexadecimal number after @key in the line of @mark. */
static void flip_number(const char *path, const char *slots, const char *mark, const char *key,
			uint64_t bits)
{
	size_t text_len, len, at;
	char *text = read_text(path, &text_len), with[32];
	uint64_t word;

	at = find_number(text, mark, key, &len);
	word = strtoull(text + at, NULL, 16);
	for (unsigned int bit = 0; bit < 64; bit++) {
		if (!(bits >> bit & 1))
			continue;
		snprintf(with, sizeof(with), "%lx", word ^ (uint64_t)1 << bit);
		if (replay_changed(text, at, len, with, slots) != CLI_DIFFERENT || !different())
			fail_msg("%s%s: bit %u flipped, and: %s", mark, key, bit, last_line());
	}
	free(text);
}

/* The same in the word installed by the line. */
static void flip_bits(const char *path, const char *slots, const char *mark, uint64_t bits)
{
	flip_number(path, slots, mark, "new_spte ", bits);
}

/* ---- nothing differs ---- */

static void whole(const char *trace, const char *slots, const char *line)
{
	int ret = slots ? replay("%s --compare --slots %s", trace, slots)
			: replay("%s --compare", trace);

	assert_string_equal(last_line(), line);
	assert_string_equal(err, "");
	assert_int_equal(ret, CLI_OK);
	assert_has(out, "0 missing flushes, 0 audit findings, 0 platform rules broken");
}

static void nothing_differs_with_slots(void **state)
{
	(void)state;
	whole(SMALL, SMALL_SLOTS, "installs: 77 recorded, 77 compared, 0 different\n");
	whole(BOOT, LINUX_SLOTS, "installs: 625 recorded, 625 compared, 0 different\n");
	whole(PRECOPY, LINUX_SLOTS, "installs: 644 recorded, 644 compared, 0 different\n");
	whole(BOOT_4K, LINUX_SLOTS, "installs: 47432 recorded, 47432 compared, 0 different\n");
}

static void nothing_differs_with_inferred_slots(void **state)
{
	(void)state;
	whole(SMALL, NULL, "installs: 77 recorded, 77 compared, 0 different\n");
	whole(BOOT, NULL, "installs: 625 recorded, 625 compared, 0 different\n");
	assert_has(out, "# Memslots, inferred from the trace:\nregion ram\n");
	whole(PRECOPY, NULL, "installs: 644 recorded, 644 compared, 0 different\n");
	whole(BOOT_4K, NULL, "installs: 47432 recorded, 47432 compared, 0 different\n");
}

static void what_was_inferred_from_the_compared_is_told_apart(void **state)
{
	(void)state;
	assert_int_equal(replay(BOOT_4K " --compare --json --slots " LINUX_SLOTS), CLI_OK);
	assert_has(out, "\"levels_from_compared_entry\": 0");
	assert_has(out, "\"permissions_from_compared_entry\": 0");
	assert_has(out, "\"own\": 0}");
	/* Without the machine's slots, a slot that shows one page is known from that page alone. */
	assert_int_equal(replay(SMALL " --compare --json"), CLI_OK);
	assert_has(out, "\"permissions_from_compared_entry\": 1");
}

static void rsvd_without_p_is_lenient_and_said(void **state)
{
	(void)state;
	assert_int_equal(replay(BOOT " --compare --slots " LINUX_SLOTS), CLI_OK);
	assert_has(out, "in 1,094 the recording says RSVD without P");
	assert_has(out, "1,693 error codes compared, 0 different");
}

static void dirty_logging_is_compared_entry_by_entry(void **state)
{
	(void)state;
	assert_int_equal(replay(SMALL " --compare --slots " SMALL_SLOTS), CLI_OK);
	assert_has(out, "dirty log lines 460-869");
	assert_has(out, "protected 129 recorded, 129 compared, 0 different");
	assert_has(out, "fast faults 60 recorded, 60 compared, 0 different");
	/* 65 leaves when the log went on; 65 after it was read: 4 were punched out and came again.
	 */
	assert_has(out, "left behind 130 recorded, 130 compared, 0 different");
	assert_has(out, "left out  0 faults and 0 installs");
	assert_has(out, "dirty logs  automatic");
	assert_int_equal(replay(PRECOPY " --compare --slots " LINUX_SLOTS), CLI_OK);
	assert_has(out, "dirty log lines 14328-51456");
	assert_has(out, "protected 36,136 recorded, 36,136 compared, 0 different");
	assert_has(out, "splits    69 recorded, 69 compared, 0 different");
	assert_has(out, "fast faults 332 recorded, 332 compared, 0 different");
	assert_has(out, "left out  0 faults and 0 installs");
	assert_has(out, "dirty logs  manual and initially set: cleared by range (the trace shows");
	assert_has(out, "eager page split on (trace), NX huge pages off (trace)");
}

static void host_events_remove_what_they_removed(void **state)
{
	(void)state;
	assert_int_equal(replay(BOOT_4K " --compare --slots " LINUX_SLOTS), CLI_OK);
	assert_has(out, "they removed 10 entries (recorded: 10)");
	assert_int_equal(replay(SMALL " --compare --slots " SMALL_SLOTS), CLI_OK);
	assert_has(out, "they removed 4 entries (recorded: 4)");
}

static void a_host_event_that_hits_nothing_owes_no_flush(void **state)
{
	/* The page that the guest touches next: nothing maps it yet, but its table is in use. */
	static const char unmap[] =
		"            vmm1-106     [000] .....     4.367000: kvm_unmap_hva_range: mmu "
		"notifier unmap range: 0x00007f8c2cdef000 -- 0x00007f8c2cdf0000\n";
	size_t text_len;
	char *text = read_text(SMALL, &text_len), *at = strstr(text, "gfn 210 level 1 old_spte 0 ");

	(void)state;
	assert_non_null(at);
	at = strchr(at, '\n') + 1;
	assert_int_equal(replay_changed(text, (size_t)(at - text), 0, unmap, SMALL_SLOTS), CLI_OK);
	assert_has(out, "2 notifier ranges delivered; they removed 4 entries");
	assert_has(out, "0 missing flushes");
	free(text);
}

static void an_impossible_generation_is_not_chased(void **state)
{
	size_t text_len, len, at;
	char *text = read_text(SMALL, &text_len);

	(void)state;
	at = find_number(text, "mark_mmio_spte", " gen ", &len);
	assert_int_equal(replay_changed(text, at, len, "7ffffffffffffffe", NULL), CLI_DIFFERENT);
	assert_has(out, "1 of 1 generations differ from the slots' history");
	free(text);
}

static void generations_follow_the_slots(void **state)
{
	(void)state;
	assert_int_equal(replay(BOOT " --json --slots " LINUX_SLOTS), CLI_OK);
	assert_has(out, "\"history\": \"region ram\\u000a");
	assert_has(out, "\"zaps_without_delete\": 0, \"deletes_without_zap\": 0, "
			"\"filler_changes\": 0, \"generations\": 5, \"generations_different\": 0");
}

static void ept_has_the_same_outcomes(void **state)
{
	static const char *const faults = "\"faults\": {";
	static char npt[4096];

	(void)state;
	assert_int_equal(replay(BOOT_4K " --json --slots " LINUX_SLOTS), CLI_OK);
	assert_non_null(strstr(out, faults));
	snprintf(npt, sizeof(npt), "%.*s", (int)strcspn(strstr(out, faults), "\n"),
		 strstr(out, faults));
	assert_int_equal(replay(BOOT_4K " --vm ept --json --slots " LINUX_SLOTS), CLI_OK);
	assert_has(out, npt);
	assert_has(out, "\"missing_flushes\": 0, \"audit_findings\": 0, \"platform_misuses\": 0");
}

/* ---- anything damaged does ---- */

#define PFN_BITS 0x000ffffffffff000ull

static void every_bit_of_a_word_counts(void **state)
{
	(void)state;
	flip_bits(SMALL, SMALL_SLOTS, "gfn 210 level 1 old_spte 0 ", UINT64_MAX);
	flip_bits(SMALL, SMALL_SLOTS, "gfn 20000 level 1 old_spte 0 ", UINT64_MAX);
	/* Of a table, all but where it lies. */
	flip_bits(SMALL, SMALL_SLOTS, "gfn 10000 level 2 old_spte 0 ", ~PFN_BITS);
	flip_bits(BOOT, LINUX_SLOTS, "gfn fe00 level 2 old_spte 0 new_spte 2000ee7", UINT64_MAX);
}

static void every_bit_of_a_dirty_logs_word_counts(void **state)
{
	static const char protected[] = "gfn 210 level 1 old_spte 3fdcfe67 new_spte 3fdcfe65";
	static const char split[] = "gfn 1000 level 2 old_spte 7ec00ee7 new_spte";
	static const char fast[] = "fast_page_fault: vcpu 0 gva 200000 ";

	(void)state;
	flip_number(SMALL, SMALL_SLOTS, protected, "new_spte ", UINT64_MAX);
	flip_number(SMALL, SMALL_SLOTS, protected, "old_spte ", UINT64_MAX);
	flip_number(SMALL, SMALL_SLOTS, fast, " new ", UINT64_MAX);
	flip_number(SMALL, SMALL_SLOTS, fast, " old 0x", UINT64_MAX);
	/* Of the flags of a table that stands for a huge leaf, all; and of that leaf, the most
	 * telling: each takes a replay of the whole trace. */
	flip_number(PRECOPY, LINUX_SLOTS, split, "new_spte ", 0x8000000000000fffull);
	flip_number(PRECOPY, LINUX_SLOTS, split, "old_spte ", 0x8000000000200ee7ull);
}

static void a_missing_or_strange_change_counts(void **state)
{
	static const struct {
		const char *path, *slots, *mark, *key, *with;
	} rows[] = {
		{PRECOPY, LINUX_SLOTS, "gfn 1000 level 2 old_spte 7ec00ee7", "level ", "3"},
		{PRECOPY, LINUX_SLOTS, "split_huge_page: gfn 1000 spte", "spte ", "7ec00ee5"},
		{PRECOPY, LINUX_SLOTS, "split_huge_page: gfn 1000 spte", "errno ", "-12"},
		{PRECOPY, LINUX_SLOTS, "gfn 1a04 level 1 old_spte 7e604e67", "gfn ", "1a05"},
		{SMALL, SMALL_SLOTS, "gfn 210 level 1 old_spte 3fdcfe67", "gfn ", "211"},
		{SMALL, SMALL_SLOTS, "fast_page_fault: vcpu 0 gva 200000 ", "fixed ", "0"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		size_t text_len, len, at, line;
		char *text = read_text(rows[i].path, &text_len);

		at = find_number(text, rows[i].mark, rows[i].key, &len);
		if (replay_changed(text, at, len, rows[i].with, rows[i].slots) != CLI_DIFFERENT ||
		    !different())
			fail_msg("%s %s%s: %s", rows[i].mark, rows[i].key, rows[i].with,
				 last_line());
		/* Without its line altogether. */
		for (line = at; line && text[line - 1] != '\n'; line--)
			;
		len = strcspn(text + line, "\n") + 1;
		if (!strstr(rows[i].mark, "split_huge_page") &&
		    (replay_changed(text, line, len, "", rows[i].slots) != CLI_DIFFERENT ||
		     !different()))
			fail_msg("%s left out: %s", rows[i].mark, last_line());
		free(text);
	}
}

static void a_table_may_lie_anywhere(void **state)
{
	size_t text_len, len, at;
	char *text = read_text(SMALL, &text_len);

	(void)state;
	at = find_number(text, "gfn 10000 level 2 old_spte 0 ", "new_spte ", &len);
	assert_int_equal(replay_changed(text, at, len, "123456827", SMALL_SLOTS), CLI_OK);
	assert_int_equal(different(), 0);
	free(text);
}

static void a_level_counts(void **state)
{
	static const struct {
		const char *path, *slots, *mark, *level;
	} rows[] = {
		{SMALL, SMALL_SLOTS, "gfn 210 level 1 old_spte 0 ", "2"},
		{SMALL, SMALL_SLOTS, "gfn 10000 level 2 old_spte 0 ", "3"},
		{SMALL, SMALL_SLOTS, "gfn 10000 level 2 old_spte 0 ", "1"},
		{BOOT, LINUX_SLOTS, "gfn fe00 level 2 old_spte 0 new_spte 2000ee7", "1"},
		{BOOT, LINUX_SLOTS, "gfn fe00 level 2 old_spte 0 new_spte 2000ee7", "3"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		size_t text_len, len, at;
		char *text = read_text(rows[i].path, &text_len);

		at = find_number(text, rows[i].mark, "level ", &len);
		if (replay_changed(text, at, len, rows[i].level, rows[i].slots) != CLI_DIFFERENT ||
		    !different())
			fail_msg("%sas level %s: %s", rows[i].mark, rows[i].level, last_line());
		free(text);
	}
}

static void a_slot_flag_counts(void **state)
{
	static const struct {
		const char *path, *slots, *line, *flag;
	} rows[] = {
		{SMALL, SMALL_SLOTS, "slot 0 0x0 0x1000000 ", "ro"},
		{SMALL, SMALL_SLOTS, "slot 1 0x10000000 0x10100000 ", "rw"},
		{BOOT, LINUX_SLOTS, "slot 3 0xe0000 0x100000 ", "rw"},
		{BOOT, LINUX_SLOTS, "slot 16 0xc3000 0xe8000 ", "ro"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		size_t text_len;
		char *text = read_text(rows[i].slots, &text_len), *at = strstr(text, rows[i].line);
		struct temporary t;

		assert_non_null(at);
		memcpy(at + strlen(rows[i].line), rows[i].flag, 2);
		t = write_temporary(text, text_len);
		assert_int_equal(replay("%s --compare --slots %s", rows[i].path, t.path),
				 CLI_DIFFERENT);
		unlink(t.path);
		assert_true(different() > 0);
		free(text);
	}
}

static void a_slot_edge_counts(void **state)
{
	static const char edge[] = "slot 15 0x100000 0x10000000 rw ram+0x100000";
	static const char other[] = "slot 15 0x101000 0x10000000 rw ram+0x101000";
	size_t text_len;
	char *text = read_text(LINUX_SLOTS, &text_len), *at = text;
	struct temporary t;

	(void)state;
	while ((at = strstr(at, edge)))
		memcpy(at, other, sizeof(other) - 1);
	t = write_temporary(text, text_len);
	assert_int_equal(replay(BOOT " --compare --slots %s", t.path), CLI_DIFFERENT);
	unlink(t.path);
	assert_true(different() > 0);
	free(text);
}

static void an_error_code_counts(void **state)
{
	size_t text_len, len, at;
	char *text = read_text(SMALL, &text_len);

	(void)state;
	/* A write of the read-only window, without P. */
	at = find_number(text, "error_code 0x100000007", "error_code ", &len);
	assert_int_equal(replay_changed(text, at, len, "0x100000006", SMALL_SLOTS), CLI_DIFFERENT);
	assert_has(out, "1 different");
	assert_has(out, "another error code");
	free(text);
}

static void differences_are_decoded_side_by_side(void **state)
{
	size_t text_len, len, at;
	char *text = read_text(SMALL, &text_len);

	(void)state;
	at = find_number(text, "gfn 210 level 1 old_spte 0 ", "new_spte ", &len);
	/* W is clear. */
	assert_int_equal(replay_changed(text, at, len, "3fdcfe65", SMALL_SLOTS), CLI_DIFFERENT);
	assert_int_equal(different(), 1);
	assert_has(out, "another word");
	assert_has(out, "0x3fdcfe65");
	assert_has(out, "0x3fdcfe67");
	assert_has(out, "<- differs");
	free(text);
}

/* ---- bad input ---- */

static void usage_is_checked(void **state)
{
	(void)state;
	assert_int_equal(replay(" "), CLI_USAGE);
	assert_has(err, "no trace given");
	assert_int_equal(replay("a b"), CLI_USAGE);
	assert_has(err, "b is one too many");
	assert_int_equal(replay(SMALL " --fast"), CLI_USAGE);
	assert_has(err, "--fast");
	assert_int_equal(replay(SMALL " --slots"), CLI_USAGE);
	assert_has(err, "--slots needs an argument");
	assert_int_equal(replay(SMALL " --vm sev"), CLI_USAGE);
	assert_has(err, "unknown kind of VM sev");
	assert_int_equal(replay(SMALL " --vm ept --compare"), CLI_USAGE);
	assert_has(err, "--compare needs --vm npt");
	assert_int_equal(replay("- --slots -"), CLI_USAGE);
	assert_has(err, "standard input");
	assert_int_equal(replay("--help"), CLI_OK);
	assert_has(out, "usage: triptych replay TRACE");
}

static void missing_files_are_named(void **state)
{
	(void)state;
	assert_int_equal(replay("traces/nothing.txt"), CLI_USAGE);
	assert_has(err, "traces/nothing.txt");
	assert_string_equal(out, "");
	assert_int_equal(replay(SMALL " --slots traces/nothing.slots"), CLI_USAGE);
	assert_has(err, "traces/nothing.slots");
	assert_string_equal(out, "");
}

static void a_truncated_trace_is_replayed_as_far_as_it_goes(void **state)
{
	FILE *file = fopen(BOOT_4K, "rb");
	static char bytes[200000];
	struct temporary t;

	(void)state;
	assert_non_null(file);
	assert_int_equal(fread(bytes, 1, sizeof(bytes), file), sizeof(bytes));
	fclose(file);
	t = write_temporary(bytes, sizeof(bytes));
	assert_int_equal(replay("%s --compare --slots " LINUX_SLOTS, t.path), CLI_USAGE);
	unlink(t.path);
	assert_has(err, t.path);
	assert_has(out, "cut off");
	assert_int_equal(different(), 0);
	/* Cut before its first line. */
	t = write_temporary(bytes, 40);
	assert_int_equal(replay("%s", t.path), CLI_USAGE);
	unlink(t.path);
	assert_string_equal(out, "");
	assert_has(err, t.path);
}

static void junk_is_told_by_line_and_loses_nothing_else(void **state)
{
	static const char junk[] = "kvm_page_fault: rip what address\n\1\2\3\n";
	size_t text_len, at;
	char *text = read_text(SMALL, &text_len);
	const char *half;
	struct temporary t;

	(void)state;
	half = strchr(text + text_len / 2, '\n');
	assert_non_null(half);
	at = (size_t)(half + 1 - text);
	assert_int_equal(replay_changed(text, at, 0, junk, SMALL_SLOTS), CLI_OK);
	assert_has(err, "line ");
	assert_string_equal(last_line(), "installs: 77 recorded, 77 compared, 0 different\n");
	free(text);

	t = write_temporary(junk, sizeof(junk) - 1);
	assert_int_equal(replay("%s", t.path), CLI_USAGE);
	unlink(t.path);
	assert_has(err, "no kvm_page_fault");
	assert_string_equal(out, "");
}

static void impossible_addresses_are_counted(void **state)
{
	size_t text_len, len, at;
	char *text = read_text(SMALL, &text_len);

	(void)state;
	/* The write to the read-only window, at 2^50: nothing was installed by it. */
	at = find_number(text, "address 0x0000000010000004 error_code 0x100000007", "address ",
			 &len);
	replay_changed(text, at, len, "0x0004000000000000", SMALL_SLOTS);
	assert_has(out, "the address is wider than the guest's");
	assert_int_equal(different(), 0);
	free(text);
}

static void slots_that_overlap_are_refused(void **state)
{
	static const char slots[] = "region ram\nafter 0:\nslot 0 0x0 0x2000 rw\n"
				    "slot 1 0x1000 0x3000 rw\n";
	struct temporary t = write_temporary(slots, sizeof(slots) - 1);

	(void)state;
	assert_int_equal(replay(SMALL " --slots %s", t.path), CLI_USAGE);
	unlink(t.path);
	assert_has(err, "overlap");
	assert_string_equal(out, "");
}

static void slots_beyond_the_guest_are_refused(void **state)
{
	static const char slots[] =
		"region ram\nafter 0:\nslot 0 0x1000000000000 0x1000000001000 rw ram+0x0\n";
	struct temporary t = write_temporary(slots, sizeof(slots) - 1);

	(void)state;
	assert_int_equal(replay(SMALL " --slots %s", t.path), CLI_USAGE);
	unlink(t.path);
	assert_has(err, "slot 0 of address space 0 (slots file line 3) can't be created");
	assert_string_equal(out, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_differs_with_slots),
		cmocka_unit_test(nothing_differs_with_inferred_slots),
		cmocka_unit_test(what_was_inferred_from_the_compared_is_told_apart),
		cmocka_unit_test(rsvd_without_p_is_lenient_and_said),
		cmocka_unit_test(dirty_logging_is_compared_entry_by_entry),
		cmocka_unit_test(every_bit_of_a_dirty_logs_word_counts),
		cmocka_unit_test(a_missing_or_strange_change_counts),
		cmocka_unit_test(host_events_remove_what_they_removed),
		cmocka_unit_test(a_host_event_that_hits_nothing_owes_no_flush),
		cmocka_unit_test(an_impossible_generation_is_not_chased),
		cmocka_unit_test(generations_follow_the_slots),
		cmocka_unit_test(ept_has_the_same_outcomes),
		cmocka_unit_test(every_bit_of_a_word_counts),
		cmocka_unit_test(a_table_may_lie_anywhere),
		cmocka_unit_test(a_level_counts),
		cmocka_unit_test(a_slot_flag_counts),
		cmocka_unit_test(a_slot_edge_counts),
		cmocka_unit_test(an_error_code_counts),
		cmocka_unit_test(differences_are_decoded_side_by_side),
		cmocka_unit_test(usage_is_checked),
		cmocka_unit_test(missing_files_are_named),
		cmocka_unit_test(a_truncated_trace_is_replayed_as_far_as_it_goes),
		cmocka_unit_test(junk_is_told_by_line_and_loses_nothing_else),
		cmocka_unit_test(impossible_addresses_are_counted),
		cmocka_unit_test(slots_that_overlap_are_refused),
		cmocka_unit_test(slots_beyond_the_guest_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
