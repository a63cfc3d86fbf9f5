// SPDX-License-Identifier: BSD-2-Clause
/*
 * Proves that `triptych replay` finds the calls behind a dirty log in every way of logging: nothing
 * differs on what our own library wrote, nor on what a kernel before Linux 6.2 writes, which takes
 * huge leaves and tables away where today's splits and recovers. And a strange word is seen.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/cli.h"

static char out[1 << 16];

/* ---- running a command ---- */

/* Runs it with the words of @line; fills out with what it printed. */
static int command(int (*cmd)(int, char **), const char *line)
{
	char words[512], *argv[16] = {0}, *rest;
	int argc = 0, ret, saved = dup(STDOUT_FILENO);
	FILE *file = tmpfile();
	size_t len;

	snprintf(words, sizeof(words), "%s", line);
	for (char *w = strtok_r(words, " ", &rest); w; w = strtok_r(NULL, " ", &rest))
		argv[argc++] = w;
	fflush(stdout);
	assert_true(dup2(fileno(file), STDOUT_FILENO) >= 0);
	ret = cmd(argc, argv);
	fflush(stdout);
	assert_true(dup2(saved, STDOUT_FILENO) >= 0);
	close(saved);
	rewind(file);
	len = fread(out, 1, sizeof(out) - 1, file);
	out[len] = 0;
	fclose(file);
	return ret;
}

struct temporary {
	char path[64];
};

static struct temporary write_temporary(const char *text)
{
	struct temporary t = {"/tmp/triptych-dirty-XXXXXX"};
	int fd = mkstemp(t.path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (long)strlen(text));
	close(fd);
	return t;
}

static int replay_file(const char *path, const char *options)
{
	char line[256];

	snprintf(line, sizeof(line), "replay %s --compare %s", path, options);
	return command(cmd_replay, line);
}

static int replay_text(const char *text, const char *options)
{
	struct temporary t = write_temporary(text);
	int ret = replay_file(t.path, options);

	unlink(t.path);
	return ret;
}

static void assert_has(const char *part)
{
	if (!strstr(out, part))
		fail_msg("\"%s\" is not in:\n%s", part, out);
}

/* ---- what our own library writes ---- */

static const char scenario[] = "scenario logging\n"
			       "vm npt vcpus=2 leaf=2m %s\n"
			       "seed 1\n"
			       "steps 3000\n"
			       "slot 0 0+16M page=2m\n"
			       "guest all sequential 0+16M to=1024 divided write=50\n"
			       "guest all hot 0+16M from=1024 hot=2M hotness=80 write=40\n"
			       "at 1024 log 0 on\n"
			       "at 1500 log 0 get\n%s"
			       "at 2000 log 0 get\n%s"
			       "at 2600 log 0 off\n";

/* @delay: steps between reading the log and clearing it; -1: it is not cleared. */
static void replay_of_a_run(const char *flags, int delay, const char *mode, const char *eager)
{
	char first[64] = "", second[64] = "";
	char text[1024], line[256];
	struct temporary s, t = write_temporary("");

	if (delay >= 0) {
		snprintf(first, sizeof(first), "at %d log 0 clear\n", 1500 + delay);
		snprintf(second, sizeof(second), "at %d log 0 clear\n", 2000 + delay);
	}
	snprintf(text, sizeof(text), scenario, flags, first, second);
	s = write_temporary(text);
	snprintf(line, sizeof(line), "run %s --trace %s", s.path, t.path);
	assert_int_equal(command(cmd_run, line), CLI_OK);
	if (replay_file(t.path, "") != CLI_OK)
		fail_msg("%s:\n%s", flags, out);
	assert_has(" 0 different\n");
	assert_has(mode);
	assert_has(eager);
	assert_has("0 missing flushes, 0 audit findings");
	unlink(s.path);
	unlink(t.path);
}

static void nothing_differs_in_any_way_of_logging(void **state)
{
	static const char on[] = "eager page split on (trace)", off[] = "split off (trace)";

	(void)state;
	replay_of_a_run("eager_page_split", -1, "dirty logs  automatic", on);
	replay_of_a_run("", -1, "dirty logs  automatic", off);
	/* All that was read is cleared: that looks like an automatic log. */
	replay_of_a_run("dirty_manual eager_page_split", 0, "would look the same", on);
	replay_of_a_run("dirty_manual", 0, "would look the same", off);
	replay_of_a_run("dirty_manual dirty_initially_set eager_page_split", 0,
			"dirty logs  manual and initially set: cleared by range (the trace", on);
	replay_of_a_run("dirty_manual dirty_initially_set", 0,
			"dirty logs  manual and initially set: cleared by range (the trace", off);
}

/* What is written between is not cleared: the bitmap is the one that was read. */
static void a_log_that_is_cleared_later_was_read_before(void **state)
{
	static const char on[] = "eager page split on (trace)", off[] = "split off (trace)";
	static const char manual[] = "dirty logs  manual: cleared by range (the trace shows it)";
	static const char full[] = "dirty logs  manual and initially set: cleared by range";

	(void)state;
	replay_of_a_run("dirty_manual eager_page_split", 100, manual, on);
	assert_has("2 logs read");
	replay_of_a_run("dirty_manual", 100, manual, off);
	replay_of_a_run("dirty_manual dirty_initially_set eager_page_split", 100, full, on);
	/* A log that begins full is read as full, whenever that was. */
	assert_has("1 logs read");
	replay_of_a_run("dirty_manual dirty_initially_set", 100, full, off);
}

/* ---- what an older kernel writes ---- */

#define VCPU  201
#define VMM   200
#define FRAME 0x40000000ull /* behind guest page 0 */
#define NX    (1ull << 63)

/* A trace that is being written. */
struct text {
	FILE *file;
	char *bytes;
	size_t len;
	unsigned int line;
	uint64_t nx; /* of its huge leaves */
};

static void text_begin(struct text *t, uint64_t nx)
{
	*t = (struct text){.nx = nx};
	t->file = open_memstream(&t->bytes, &t->len);
	assert_non_null(t->file);
}

__attribute__((format(printf, 3, 4))) static void say(struct text *t, int pid, const char *format,
						      ...)
{
	va_list args;

	fprintf(t->file, "             vmm-%-7d [000] .....     1.%06u: ", pid, ++t->line);
	va_start(args, format);
	vfprintf(t->file, format, args);
	va_end(args);
	fputc('\n', t->file);
}

static void change(struct text *t, int pid, uint64_t gpa, int level, uint64_t old, uint64_t new_)
{
	say(t, pid, "kvm_tdp_mmu_spte_changed: as id 0 gfn %lx level %d old_spte %lx new_spte %lx",
	    gpa >> 12, level, old, new_);
}

static void fault(struct text *t, uint64_t gpa, uint64_t code)
{
	say(t, VCPU, "kvm_page_fault: vcpu 0 rip 0x1000 address 0x%016lx error_code 0x%lx", gpa,
	    (uint64_t)1 << 32 | code);
}

static void fast(struct text *t, uint64_t gpa, uint64_t old, uint64_t new_)
{
	say(t, VCPU,
	    "fast_page_fault: vcpu 0 gva %lx error_code P|W|U sptep 0 old 0x%lx new %lx spurious 0 "
	    "fixed %d",
	    gpa, old, new_, old != new_);
}

static uint64_t block(unsigned int n)
{
	return (uint64_t)n << 21;
}

static uint64_t page(unsigned int n, unsigned int k)
{
	return block(n) + ((uint64_t)k << 12);
}

/* The guest writes to block @n, which the host has as a huge page. */
static void huge(struct text *t, unsigned int n)
{
	fault(t, block(n), 6);
	change(t, VCPU, block(n), 2, 0, t->nx | (FRAME + block(n) + 0xee7));
}

static void six_huge(struct text *t)
{
	fault(t, 0, 6);
	change(t, VCPU, 0, 4, 0, 0x3004827);
	change(t, VCPU, 0, 3, 0, 0x3003827);
	change(t, VCPU, 0, 2, 0, t->nx | (FRAME + 0xee7));
	for (unsigned int n = 1; n < 6; n++)
		huge(t, n);
}

/* The huge leaf @old goes, a table comes, and one page of it. */
static void part(struct text *t, unsigned int n, unsigned int k, uint64_t old)
{
	change(t, VCPU, block(n), 2, old, 0x5a0);
	change(t, VCPU, block(n), 2, 0, 0x5000827 + ((uint64_t)n << 12));
	change(t, VCPU, page(n, k), 1, 0, FRAME + page(n, k) + 0xe67);
}

/* The table of block @n goes, with what its entries @k, @m say. */
static void table_goes(struct text *t, int pid, unsigned int n, unsigned int k, uint64_t k_flags,
		       unsigned int m, uint64_t m_flags)
{
	change(t, pid, block(n), 2, 0x5000827 + ((uint64_t)n << 12), 0x5a0);
	say(t, pid,
	    "kvm_mmu_prepare_zap_page: sp gen 0 gfn %lx l1 8-byte q0 direct wux nxe ad root 0 sync",
	    block(n) >> 12);
	for (unsigned int i = 0; i < 512; i++) {
		uint64_t flags = i == k ? k_flags : i == m ? m_flags : 0;

		change(t, pid, page(n, i), 1, flags ? FRAME + page(n, i) + flags : 0, 0x5a0);
	}
}

/* Linux 6.1 without eager split: a log goes on, pages are written, it is read and goes off. */
static char *an_older_kernels_log(void)
{
	struct text t;

	text_begin(&t, 0);
	six_huge(&t);
	for (unsigned int n = 0; n < 6; n++)
		change(&t, VMM, block(n), 2, FRAME + block(n) + 0xee7, FRAME + block(n) + 0xee5);
	for (unsigned int n = 0; n < 4; n += 2) {
		fault(&t, page(n, 3), 7);
		fast(&t, page(n, 3), FRAME + block(n) + 0xee5, FRAME + block(n) + 0xee5);
		part(&t, n, 3, FRAME + block(n) + 0xee5);
		fault(&t, page(n, 7), 6);
		change(&t, VCPU, page(n, 7), 1, 0, FRAME + page(n, 7) + 0xe67);
	}
	for (unsigned int i = 0; i < 4; i++) {
		uint64_t at = page(i & 2, i & 1 ? 7 : 3);

		change(&t, VMM, at, 1, FRAME + at + 0xe67, FRAME + at + 0xe65);
	}
	fault(&t, page(2, 7), 7);
	fast(&t, page(2, 7), FRAME + page(2, 7) + 0xe65, FRAME + page(2, 7) + 0xe67);
	table_goes(&t, VMM, 0, 3, 0xe65, 7, 0xe65);
	table_goes(&t, VMM, 2, 3, 0xe65, 7, 0xe67);
	huge(&t, 0);
	huge(&t, 2);
	/* Protected still, but nobody logs: all of it gets W back at once. */
	fault(&t, page(4, 5), 7);
	fast(&t, page(4, 5), FRAME + block(4) + 0xee5, FRAME + block(4) + 0xee7);
	fclose(t.file);
	return t.bytes;
}

static void an_older_kernel_takes_huge_leaves_and_tables_away(void **state)
{
	char *text = an_older_kernels_log();

	(void)state;
	assert_int_equal(replay_text(text, ""), CLI_OK);
	assert_has("installs: 16 recorded, 16 compared, 0 different\n");
	assert_has("dirty logs  automatic");
	assert_has("eager page split off (trace)");
	assert_has("1 read and cleared");
	assert_has("2 tables taken away");
	assert_has("protected 10 recorded, 10 compared, 0 different");
	assert_has("fast faults 2 recorded, 2 compared, 0 different");
	assert_int_equal(replay_text(text, "--eager-page-split on"), CLI_DIFFERENT);
	assert_has("eager page split on (said)");
	free(text);
}

/* NX huge pages on: code runs in a block, and a worker takes its table away later. */
static void nx_huge_pages_are_told_and_recovered(void **state)
{
	struct text t;

	(void)state;
	text_begin(&t, NX);
	six_huge(&t);
	fault(&t, page(2, 5), 0x15);
	part(&t, 2, 5, NX | (FRAME + block(2) + 0xee7));
	fault(&t, page(2, 9), 6);
	change(&t, VCPU, page(2, 9), 1, 0, FRAME + page(2, 9) + 0xe67);
	table_goes(&t, 300, 2, 5, 0xe67, 9, 0xe67);
	huge(&t, 2);
	fclose(t.file);
	assert_int_equal(replay_text(t.bytes, ""), CLI_OK);
	assert_has("installs: 12 recorded, 12 compared, 0 different\n");
	assert_has("NX huge pages on (trace)");
	assert_has("recovered 1 recorded, 1 compared, 0 different");
	assert_int_equal(replay_text(t.bytes, "--nx-huge-pages off"), CLI_DIFFERENT);
	free(t.bytes);
}

static void a_setting_that_is_wrong_differs(void **state)
{
	static const char precopy[] = "traces/kvm-npt-precopy.txt.xz";

	(void)state;
	assert_int_equal(replay_file(precopy, "--eager-page-split on --thp on --nx-huge-pages off"),
			 CLI_OK);
	assert_int_equal(replay_file(precopy, "--eager-page-split off"), CLI_DIFFERENT);
	assert_int_equal(replay_file(precopy, "--thp off"), CLI_DIFFERENT);
	assert_int_equal(replay_file(precopy, "--nx-huge-pages on"), CLI_DIFFERENT);
	assert_int_equal(replay_file(precopy, "--nx-huge-pages maybe"), CLI_USAGE);
}

/* A clear of a part of the slot is a clear of that part: the rest stays as it was. */
static void a_part_of_a_slot_is_cleared(void **state)
{
	struct text t;

	(void)state;
	text_begin(&t, 0);
	six_huge(&t);
	for (unsigned int n = 1; n < 3; n++) {
		say(&t, VMM,
		    "kvm_mmu_get_page: sp gen 0 gfn %lx l1 8-byte q0 direct wux nxe ad root 0 sync "
		    "new",
		    block(n) >> 12);
		change(&t, VMM, block(n), 2, FRAME + block(n) + 0xee7, 0x5000827);
		say(&t, VMM, "kvm_mmu_split_huge_page: gfn %lx spte %llx level 2 errno 0",
		    block(n) >> 12, (unsigned long long)(FRAME + block(n) + 0xee7));
		for (unsigned int k = 0; k < 512; k++)
			change(&t, VMM, page(n, k), 1, FRAME + page(n, k) + 0xe67,
			       FRAME + page(n, k) + 0xe65);
	}
	fclose(t.file);
	assert_int_equal(replay_text(t.bytes, ""), CLI_OK);
	assert_has("0 different\n");
	assert_has("manual and initially set");
	assert_has("1 ranges cleared");
	assert_has("splits    2 recorded, 2 compared, 0 different");
	assert_has("protected 1,024 recorded, 1,024 compared, 0 different");
	/* 1,024 small leaves, and four huge ones that nobody cleared. */
	assert_has("left behind 1,028 recorded, 1,028 compared, 0 different");
	free(t.bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_differs_in_any_way_of_logging),
		cmocka_unit_test(a_log_that_is_cleared_later_was_read_before),
		cmocka_unit_test(an_older_kernel_takes_huge_leaves_and_tables_away),
		cmocka_unit_test(nx_huge_pages_are_told_and_recovered),
		cmocka_unit_test(a_setting_that_is_wrong_differs),
		cmocka_unit_test(a_part_of_a_slot_is_cleared),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
