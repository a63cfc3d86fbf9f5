// SPDX-License-Identifier: BSD-2-Clause
/* The trace reader: envelopes, events, bad lines, compressed input, and whose doing each event is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "cli/trace.h"

#define T0 " qemu-1-122 [000] ...1.  14.726604: "
#define T1 " CPU 1/KVM-123 [001] .....  14.800000: "
#define FAULT0 \
	T0 "kvm_page_fault: vcpu 0 rip 0xfff0 address 0x0000000000038123 error_code 0x100000006\n"
#define INSTALL \
	T0 "kvm_tdp_mmu_spte_changed: as id 1 gfn 38 level 1 old_spte 0 new_spte 13b547e67\n"

static char path[] = P_tmpdir "/triptych-trace-XXXXXX";
static char err[INPUT_ERR_LEN];

static const char *save(const void *data, size_t len)
{
	int fd;

	strcpy(path + sizeof(path) - 7, "XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), (ssize_t)len);
	close(fd);
	return path;
}

static int read_bytes(struct trace *t, const void *data, size_t len)
{
	int rc = trace_read(t, save(data, len), NULL, NULL, err);

	unlink(path);
	return rc;
}

static void read_text(struct trace *t, const char *text)
{
	assert_int_equal(read_bytes(t, text, strlen(text)), 0);
	assert_int_equal(trace_group(t), 0);
}

static enum trace_line parse(const char *line, struct trace_event *ev, const char **why)
{
	const char *name;
	size_t len;
	uint64_t lost = 0;

	return trace_parse_line(line, strlen(line), ev, &name, &len, why, &lost);
}

static void envelopes_of_three_tools_say_the_same(void **state)
{
	static const char *const lines[] = {
		" qemu-system-x86-122     [001] ...1.    14.500862: kvm_mmu_zap_all_fast: "
		"kvm-mmu-valid-gen 1 used_pages 1f",
		" CPU 0/KVM-122 (   77) [001] d..1.    14.500862: kvm_mmu_zap_all_fast: "
		"kvm-mmu-valid-gen 1 used_pages 1f",
		"       CPU 0/KVM-122   [001]  14.500862: kvm_mmu_zap_all_fast:   kvm-mmu-valid-gen 1 "
		"used_pages 1f",
		"CPU 0/KVM   77/122 [001]    14.500862: kvmmmu:kvm_mmu_zap_all_fast: "
		"kvm-mmu-valid-gen 1 used_pages 1f",
		"odd [7] name-9 [x]-122 [001] d..1. 14.500862000: kvm_mmu_zap_all_fast: "
		"kvm-mmu-valid-gen 1 used_pages 1f\r",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
		struct trace_event ev;
		const char *why = "";

		assert_int_equal(parse(lines[i], &ev, &why), TRACE_LINE_EVENT);
		assert_int_equal(ev.kind, TRACE_ZAP_ALL_FAST);
		assert_int_equal(ev.pid, 122);
		assert_int_equal(ev.cpu, 1);
		assert_int_equal(ev.time_us, 14500862);
		assert_int_equal(ev.zap_all.used_pages, 0x1f);
	}
}

static void every_event_keeps_its_fields(void **state)
{
	struct trace_event ev;
	const char *why;

	(void)state;
	assert_int_equal(parse(FAULT0, &ev, &why),
			 TRACE_LINE_BAD); /* a newline is no part of a line */
	parse(T0
	      "kvm_page_fault: vcpu 1 rip 0xffffffff81000000 address 0xfee000f0 error_code 0x10000000e",
	      &ev, &why);
	assert_int_equal(ev.fault.vcpu, 1);
	assert_int_equal(ev.fault.gpa, 0xfee000f0);
	assert_int_equal(ev.fault.error_code, 0x10000000e);
	parse(T0 "kvm_page_fault: address 12345000 error_code 6", &ev, &why);
	assert_int_equal(ev.fault.vcpu, -1);
	assert_int_equal(ev.fault.gpa, 0x12345000);
	parse(T0
	      "kvm_tdp_mmu_spte_changed: as id 1 gfn fee00 level 2 old_spte 8000000000000000 new_spte "
	      "13a3cd827",
	      &ev, &why);
	assert_int_equal(ev.change.as_id, 1);
	assert_int_equal(ev.change.gfn, 0xfee00);
	assert_int_equal(ev.level, 2);
	assert_int_equal(ev.change.old_word, 1ull << 63);
	assert_int_equal(ev.change.new_word, 0x13a3cd827);
	parse(T0
	      "fast_page_fault: vcpu 0 gva 2a093c0 error_code P|W|U sptep 00000000ccfb7ddf old 0x2209e65 "
	      "new 2209e67 spurious 0 fixed 1",
	      &ev, &why);
	assert_int_equal(ev.fast.gpa, 0x2a093c0);
	assert_int_equal(ev.fast.new_word, 0x2209e67);
	assert_true(ev.fast.fixed && !ev.fast.spurious);
	parse(T0 "kvm_mmio: mmio unsatisfied-read len 4 gpa 0x20000000 val 0x5a", &ev, &why);
	assert_int_equal(ev.mmio.type, TRACE_MMIO_READ_UNSATISFIED);
	assert_int_equal(ev.mmio.value, 0x5a);
	parse(T0 "mark_mmio_spte: sptep:000000008744fa92 gfn fee00 access 7 gen 3a", &ev, &why);
	assert_int_equal(ev.mark.gen, 0x3a);
	parse(T0 "kvm_mmu_split_huge_page: gfn 200 spte 135400ee7 level 2 errno -12", &ev, &why);
	assert_int_equal(ev.split.error, -12);
	parse(T0
	      "kvm_unmap_hva_range: mmu notifier unmap range: 0x007f2383e38000 -- 0x007f2383e39000",
	      &ev, &why);
	assert_int_equal(ev.hva.end - ev.hva.start, 0x1000);
}

static void shadow_page_text_is_read_in_both_forms(void **state)
{
	static const char nul[] =
		T0 "kvm_mmu_get_page: sp gen 0 gfn 12200 l1 8-byte q0 direct wux nxe ad root "
		   "1 sync\0 new";
	struct trace_event ev;
	const char *why, *name;
	size_t len;
	uint64_t lost = 0;

	(void)state;
	assert_int_equal(trace_parse_line(nul, sizeof(nul) - 1, &ev, &name, &len, &why, &lost),
			 TRACE_LINE_EVENT);
	assert_true(ev.page.is_new && ev.page.direct && !ev.page.invalid);
	assert_int_equal(ev.page.gfn, 0x12200);
	assert_int_equal(ev.page.root_count, 1);
	assert_int_equal(
		parse(T0
		      "kvm_mmu_get_page: new sp gfn 12200 1 q0 direct wux !pae nxe wp root 1 sync",
		      &ev, &why),
		TRACE_LINE_EVENT);
	assert_true(ev.page.is_new && ev.level == 1);
	assert_int_equal(
		parse(T0
		      "kvm_mmu_prepare_zap_page: sp gen 0 gfn 0 l2 8-byte q0 direct wux invalid nxe "
		      "ad root 0 sync",
		      &ev, &why),
		TRACE_LINE_EVENT);
	assert_true(ev.page.invalid && !ev.page.is_new);
}

static void damaged_fields_are_bad_lines_with_a_reason(void **state)
{
	static const struct {
		const char *line, *why;
	} bad[] = {
		{"junk", "no \"task-pid [cpu] time:\" in front"},
		{"task-12 [000] ..... 1.5", "no \"task-pid [cpu] time:\" in front"},
		{"task-12 [000] ..... 1.500000: no colon here", "no event name after the time"},
		{T0 "kvm_page_fault: vcpu 0 rip 0xfff0 address 0x38123",
		 "a field of the event is missing or not a number"},
		{T0 "kvm_page_fault: vcpu 0 rip 0x0 address 0x10000000000000 error_code 0x6",
		 "guest-physical address lies beyond 52 address bits"},
		{T0 "kvm_tdp_mmu_spte_changed: as id 0 gfn 38 level 6 old_spte 0 new_spte 0",
		 "level is not 1 to 5"},
		{T0 "kvm_tdp_mmu_spte_changed: as id 0 gfn 38 level 1 old_spte 0 new_spte 12xy",
		 "a field of the event is missing or not a number"},
		{T0
		 "kvm_tdp_mmu_spte_changed: as id 0 gfn 10000000000 level 1 old_spte 0 new_spte 0",
		 "gfn lies beyond 52 address bits"},
		{T0
		 "kvm_tdp_mmu_spte_changed: as id 0 gfn 1 level 1 old_spte 0 new_spte 11112222333344445",
		 "a field of the event is missing or not a number"},
		{T0 "kvm_unmap_hva_range: mmu notifier unmap range: 0x2000 -- 0x1000",
		 "unmap range is empty or wraps"},
		{T0 "kvm_mmu_zap_all_fast: kvm-mmu-valid-gen 0 used_pages 0 more",
		 "text left over after the event's last field"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct trace_event ev;
		const char *why = "";

		assert_int_equal(parse(bad[i].line, &ev, &why), TRACE_LINE_BAD);
		assert_string_equal(why, bad[i].why);
	}
}

static void bad_lines_are_numbered_and_lose_nothing_else(void **state)
{
	struct trace t;

	(void)state;
	read_text(&t, "# tracer: nop\n# entries-in-buffer/entries-written: 10/12   #P:2\n" FAULT0
		      "junk\n" T0 "kvm_page_fault: vcpu x\n" INSTALL "CPU:1 [LOST 5 EVENTS]\n" T0
		      "kvm_entry: vcpu 0, rip 0x1000 [immediate exit]\n" T0 "kvm_exit: vcpu 0\n" T0
		      "kvm_exit: vcpu 0\n" FAULT0 T0 "kvm_page_fault: vcpu 0 rip 0x0 addr");
	assert_int_equal(t.lines, 12);
	assert_int_equal(t.nr_events, 3);
	assert_int_equal(t.lost, 2 + 5);
	assert_int_equal(t.nr_bad, 3);
	assert_int_equal(t.bad[0].line, 4);
	assert_int_equal(t.bad[1].line, 5);
	assert_int_equal(t.bad[2].line, 12);
	assert_string_equal(t.bad[2].why, "cut off: no newline at the end of the input");
	assert_int_equal(t.nr_others, 2);
	assert_string_equal(t.others[1].name, "kvm_exit");
	assert_int_equal(t.others[1].count, 2);
	assert_int_equal(t.events[1].line, 6);
	assert_int_equal(t.faults[0].nr_installs, 1);
	trace_free(&t);
}

static void an_endless_line_is_one_bad_line(void **state)
{
	size_t n = 1 << 20;
	char *text = malloc(n + sizeof("\n" FAULT0));
	struct trace t;

	(void)state;
	memset(text, 'a', n);
	strcpy(text + n, "\n" FAULT0);
	read_text(&t, text);
	assert_int_equal(t.nr_bad, 1);
	assert_int_equal(t.bad[0].line, 1);
	assert_int_equal(t.nr_events, 1);
	assert_int_equal(t.events[0].line, 2);
	trace_free(&t);
	free(text);
}

/* Lines of text long enough that every decoder needs more than one step. */
static char *long_text(size_t *len, uint32_t faults)
{
	char *text = malloc((size_t)faults * 128), *p = text;

	for (uint32_t i = 0; i < faults; i++)
		p += sprintf(
			p,
			" task-%u [000] ..... 1.%06u: kvm_page_fault: vcpu 0 rip 0x0 address 0x%x000 "
			"error_code 0x6\n",
			i % 7 + 1, i, i * 2654435761u >> 8);
	*len = (size_t)(p - text);
	return text;
}

static size_t pack(const char *how, const char *text, size_t len, uint8_t *out, size_t room)
{
	size_t n = 0;

	if (!strcmp(how, "xz")) {
		assert_int_equal(lzma_easy_buffer_encode(1, LZMA_CHECK_CRC64, NULL,
							 (const uint8_t *)text, len, out, &n, room),
				 LZMA_OK);
	} else if (!strcmp(how, "gzip")) {
		z_stream z = {0};

		assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 16 + 15, 8, Z_DEFAULT_STRATEGY),
				 Z_OK);
		z.next_in = (Bytef *)(uintptr_t)text;
		z.avail_in = (uInt)len;
		z.next_out = out;
		z.avail_out = (uInt)room;
		assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
		n = z.total_out;
		deflateEnd(&z);
	} else if (!strcmp(how, "zstd")) {
		n = ZSTD_compress(out, room, text, len, 3);
		assert_false(ZSTD_isError(n));
	} else {
		memcpy(out, text, len);
		n = len;
	}
	return n;
}

static const char *const formats[] = {"plain", "xz", "gzip", "zstd"};

static void compressed_input_is_known_by_its_first_bytes(void **state)
{
	size_t len, room = 8 << 20;
	char *text = long_text(&len, 20000);
	uint8_t *out = malloc(room);

	(void)state;
	for (int i = 0; i < 4; i++) {
		size_t n = pack(formats[i], text, len / 2, out, room);
		struct input *in;
		struct trace t;

		/* Two streams, one behind the other, are one input. */
		n += pack(formats[i], text + len / 2, len - len / 2, out + n, room - n);
		assert_int_equal(read_bytes(&t, out, n), 0);
		assert_int_equal(t.nr_events, 20000);
		assert_int_equal(t.nr_bad, 0);
		trace_free(&t);
		assert_int_equal(input_open(save(out, n), &in, err), 0);
		assert_string_equal(input_format(in), formats[i]);
		input_close(in);
		unlink(path);
	}
	free(text);
	free(out);
}

static void cut_off_input_says_so_and_keeps_what_came_before(void **state)
{
	size_t len, room = 8 << 20;
	char *text = long_text(&len, 20000);
	uint8_t *out = malloc(room);

	(void)state;
	for (int i = 1; i < 4; i++) {
		size_t n = pack(formats[i], text, len, out, room);
		struct trace t;

		assert_int_equal(read_bytes(&t, out, n * 9 / 10), -ENODATA);
		assert_non_null(strstr(err, "cut off"));
		assert_true(t.cut);
		assert_in_range(t.nr_events, 10000, 19999);
		assert_true(t.nr_bad <= 1);
		assert_int_equal(t.events[t.nr_events - 1].line, t.nr_events);
		assert_int_equal(trace_group(&t), 0);
		assert_int_equal(t.nr_faults, t.nr_events);
		trace_free(&t);
	}
	free(text);
	free(out);
}

static void damaged_input_is_an_error(void **state)
{
	size_t len, room = 8 << 20;
	char *text = long_text(&len, 20000);
	uint8_t *out = malloc(room);

	(void)state;
	for (int i = 1; i < 4; i++) {
		size_t n = pack(formats[i], text, len, out, room);
		struct trace t;

		memset(out + n / 2, 0xff, 64);
		assert_int_equal(read_bytes(&t, out, n), -EBADMSG);
		assert_non_null(strstr(err, "damaged"));
		assert_true(t.cut);
		trace_free(&t);
	}
	assert_int_equal(read_bytes(&(struct trace){0}, "", 0), 0);
	free(text);
	free(out);
}

static void a_missing_file_is_named(void **state)
{
	struct trace t;

	(void)state;
	assert_int_equal(trace_read(&t, "/nonexistent/trace.txt", NULL, NULL, err), -ENOENT);
	assert_non_null(strstr(err, "/nonexistent/trace.txt"));
	trace_free(&t);
	assert_int_equal(trace_read(&t, "/", NULL, NULL, err), -EISDIR);
	trace_free(&t);
}

static void an_install_belongs_to_its_own_tasks_fault(void **state)
{
	struct trace t;

	(void)state;
	/* Task 123 faults between task 122's fault and its installs. */
	read_text(&t, FAULT0 T1
		  "kvm_page_fault: vcpu 1 rip 0x0 address 0x5000000 error_code 0x6\n" T0
		  "kvm_tdp_mmu_spte_changed: as id 1 gfn 0 level 2 old_spte 0 new_spte "
		  "3944827\n" INSTALL T1
		  "kvm_tdp_mmu_spte_changed: as id 0 gfn 5000 level 1 old_spte 0 new_spte "
		  "7eb20e67\n" T1
		  "kvm_page_fault: vcpu 1 rip 0x0 address 0x5000000 error_code 0xc\n" T1
		  "kvm_mmio: mmio read len 4 gpa 0x5000000 val 0x1\n");
	assert_int_equal(t.nr_faults, 3);
	assert_int_equal(t.faults[0].nr_installs, 2);
	assert_int_equal(t.installs[t.faults[0].first], 2);
	assert_int_equal(t.faults[0].leaf, 3);
	assert_int_equal(t.faults[0].as_id, 1);
	assert_int_equal(t.faults[1].leaf, 4);
	assert_int_equal(t.faults[1].as_id, 0);
	assert_int_equal(t.faults[2].outcome, TRACE_MMIO_HIT);
	assert_int_equal(t.faults[2].as_source, TRACE_AS_LAST);
	assert_int_equal(t.owner[4], 1);
	trace_free(&t);
}

static void what_cannot_be_placed_is_counted_by_reason(void **state)
{
	struct trace t;

	(void)state;
	read_text(
		&t, INSTALL FAULT0 T0
		"kvm_tdp_mmu_spte_changed: as id 0 gfn 39 level 1 old_spte 0 new_spte 7eb20e67\n" T0
		"kvm_tdp_mmu_spte_changed: as id 0 gfn 38 level 1 old_spte 5a0 new_spte 7eb20e67\n" T0
		"kvm_mmio: mmio read len 4 gpa 0x5000000 val 0x1\n");
	assert_int_equal(t.attrs[TRACE_ATTR_NO_FAULT], 1);
	assert_int_equal(t.attrs[TRACE_ATTR_WRONG_ADDRESS], 2);
	assert_int_equal(t.attrs[TRACE_ATTR_ODD_WORD], 1);
	assert_int_equal(t.outcomes[TRACE_UNCHANGED], 1);
	assert_int_equal(t.faults[0].nr_installs, 0);
	trace_free(&t);
}

static const struct {
	const char *path;
	uint32_t events, faults, installs, freezes, exit_zaps;
	uint32_t outcomes[TRACE_OUTCOMES];
} recorded[] = {
	{"traces/kvm-npt-linux-boot-4k.txt.xz",
	 157714,
	 48403,
	 47432,
	 12103,
	 47321,
	 {47304, 4, 1086, 0, 0, 9, 0, 0}},
	{"traces/kvm-npt-linux-boot.txt.xz",
	 15332,
	 1693,
	 625,
	 10163,
	 538,
	 {595, 4, 1094, 0, 0, 0, 0, 0}},
	{"traces/kvm-npt-precopy.txt.xz",
	 87528,
	 1694,
	 644,
	 10163,
	 35954,
	 {614, 4, 744, 332, 0, 0, 0, 0}},
	{"traces/kvm-npt-small.txt.xz", 3567, 132, 77, 3001, 0, {70, 1, 0, 60, 0, 0, 1, 0}},
};

static void every_event_of_the_recorded_traces_is_placed(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(recorded) / sizeof(*recorded); i++) {
		struct trace t;

		assert_int_equal(trace_read(&t, recorded[i].path, NULL, NULL, err), 0);
		assert_int_equal(trace_group(&t), 0);
		assert_int_equal(t.nr_events, recorded[i].events);
		assert_int_equal(t.nr_bad, 0);
		assert_int_equal(t.nr_faults, recorded[i].faults);
		assert_int_equal(t.nr_installs, recorded[i].installs);
		assert_int_equal(t.attrs[TRACE_ATTR_FREEZE], recorded[i].freezes);
		assert_int_equal(t.attrs[TRACE_ATTR_EXIT_ZAP], recorded[i].exit_zaps);
		for (int a = TRACE_ATTR_NO_FAULT; a < TRACE_ATTRS; a++)
			assert_int_equal(t.attrs[a], 0);
		for (int o = 0; o < TRACE_OUTCOMES; o++)
			assert_int_equal(t.outcomes[o], recorded[i].outcomes[o]);
		trace_free(&t);
	}
}

static void copies_inside_a_lookup_are_told_from_copies_between(void **state)
{
	static const uint32_t inside[] = {5850,	 5900,	55194, 55201, 55208,
					  55215, 55222, 55229, 55236};
	struct trace t;
	size_t n = 0, between = 0;

	(void)state;
	assert_int_equal(trace_read(&t, recorded[0].path, NULL, NULL, err), 0);
	assert_int_equal(trace_group(&t), 0);
	for (uint32_t i = 0; i < t.nr_events; i++) {
		if (t.attr[i] == TRACE_ATTR_HOST_INSIDE) {
			assert_in_range(n, 0, 8);
			assert_int_equal(t.events[i].line, inside[n++]);
			assert_int_equal(t.faults[t.fault_of[t.owner[i]]].outcome, TRACE_COW_RETRY);
		} else if (t.attr[i] == TRACE_ATTR_HOST) {
			assert_int_equal(t.events[i].line, 5855);
			between++;
		}
	}
	assert_int_equal(n, 9);
	assert_int_equal(between, 1);
	assert_int_equal(trace_zaps_before(&t, t.zap_alls[3]), 3);
	assert_int_equal(trace_zaps_before(&t, t.zap_alls[3] + 1), 4);
	trace_free(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(envelopes_of_three_tools_say_the_same),
		cmocka_unit_test(every_event_keeps_its_fields),
		cmocka_unit_test(shadow_page_text_is_read_in_both_forms),
		cmocka_unit_test(damaged_fields_are_bad_lines_with_a_reason),
		cmocka_unit_test(bad_lines_are_numbered_and_lose_nothing_else),
		cmocka_unit_test(an_endless_line_is_one_bad_line),
		cmocka_unit_test(compressed_input_is_known_by_its_first_bytes),
		cmocka_unit_test(cut_off_input_says_so_and_keeps_what_came_before),
		cmocka_unit_test(damaged_input_is_an_error),
		cmocka_unit_test(a_missing_file_is_named),
		cmocka_unit_test(an_install_belongs_to_its_own_tasks_fault),
		cmocka_unit_test(what_cannot_be_placed_is_counted_by_reason),
		cmocka_unit_test(every_event_of_the_recorded_traces_is_placed),
		cmocka_unit_test(copies_inside_a_lookup_are_told_from_copies_between),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
