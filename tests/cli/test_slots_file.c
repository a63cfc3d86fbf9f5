// SPDX-License-Identifier: BSD-2-Clause
/* The slots file: what it accepts, what it refuses and how it says so; and the slots inferred from
 * a trace. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/slots_file.h"

static char err[INPUT_ERR_LEN];

static int parse(struct slot_history *h, const char *text)
{
	return slots_parse(h, "f", text, strlen(text), err);
}

static void a_table_is_found_by_zaps_passed(void **state)
{
	struct slot_history h;
	const struct slot_def *s;

	(void)state;
	assert_int_equal(
		parse(&h, "# none yet\nregion ram hva=0x7f0000000000\nafter 2:\n"
			  "slot 0 0x0 0x10000 rw # default region\n"
			  "slot 7 65536 0x20000 ro bios+0x1000 as=1\n\nafter 5\ngeneration 0x10\n"),
		0);
	assert_null(slots_table_at(&h, 1));
	assert_int_equal(slots_table_at(&h, 2)->after, 2);
	assert_int_equal(slots_table_at(&h, 4)->nr_slots, 2);
	assert_int_equal(slots_table_at(&h, 99)->after, 5);
	assert_int_equal(slots_table_at(&h, 5)->generation, 0x10);
	s = slots_find(slots_table_at(&h, 3), 0, 0xffff);
	assert_non_null(s);
	assert_string_equal(h.regions[s->region].name, "ram");
	assert_int_equal(h.regions[s->region].hva, 0x7f0000000000);
	assert_int_equal(s->as_mask, 3);
	assert_null(slots_find(slots_table_at(&h, 3), 0, 0x10000));
	s = slots_find(slots_table_at(&h, 3), 1, 0x10000);
	assert_true(s && s->readonly && s->offset == 0x1000 && s->id == 7 && s->line == 5);
	assert_null(slots_find(slots_table_at(&h, 3), 1, 0x20000));
	assert_null(slots_find(slots_table_at(&h, 1), 0, 0));
	slots_free(&h);
}

static void broken_files_are_refused_with_line_value_and_rule(void **state)
{
	static const struct {
		const char *text, *message;
	} bad[] = {
		{"", "f:0: no \"after N:\": the file describes no slots"},
		{"slot 0 0 0x1000 rw\n", "f:1: slot before the first \"after N:\""},
		{"after 0:\nslot 0 0x0 0x1800 rw\n", "f:2: end 0x1800 is not a multiple of 4096"},
		{"after 0:\nslot 0 0x2000 0x1000 rw\n",
		 "f:2: slot 0: end 0x1000 is not above start 0x2000: empty or wrapping"},
		{"after 0:\nslot 0 0x1000 0x1000 rw\n",
		 "f:2: slot 0: end 0x1000 is not above start 0x1000: empty or wrapping"},
		{"after 0:\nslot 0 0x0 0x20000000000000 rw\n",
		 "f:2: end 0x20000000000000 lies beyond 52 address bits"},
		{"after 0:\nslot 0 0x0 0x3000 rw\nslot 1 0x2000 0x4000 ro\n",
		 "f:3: slot 1 [0x2000, 0x4000) overlaps slot 0 [0x0, 0x3000) of line 2"},
		{"after 0:\nslot 0 0x0 0x3000 rw\nslot 0 0x3000 0x4000 ro\n",
		 "f:3: slot id 0 is already used on line 2"},
		{"after 0:\nslot 0 0x0 0x2000 rw ram+0xffffffffff000\n",
		 "f:2: slot 0: offset 0xffffffffff000 plus its size lies beyond 52 address bits"},
		{"after 0:\nslot 32768 0x0 0x2000 rw\n", "f:2: slot id 32768 is above 32767"},
		{"after 0:\nslot 0 0x0 0x2000 rx\n", "f:2: access \"rx\" is not rw or ro"},
		{"after 0:\nslot 0 0x0 0x2000 rw as=2\n", "f:2: address space 2 is not 0 or 1"},
		{"after 0:\nslot 0 -1 0x2000 rw\n", "f:2: start \"-1\" is not a number"},
		{"after 0:\nslot 0 0 0x2000\n",
		 "f:2: a slot line is: slot ID START END rw|ro [REGION[+OFFSET]] [as=N]"},
		{"after 3:\nafter 3:\n", "f:2: after 3 does not come after 3: tables must ascend"},
		{"region ram hva=0x123\n",
		 "f:1: host-virtual address 0x123 is not a multiple of 4096"},
		{"slots\n", "f:1: \"slots\" is not region, after, generation or slot"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct slot_history h;

		assert_int_equal(parse(&h, bad[i].text), -EINVAL);
		assert_string_equal(err, bad[i].message);
		slots_free(&h);
	}
}

static void slots_of_different_address_spaces_may_overlap(void **state)
{
	struct slot_history h;

	(void)state;
	assert_int_equal(
		parse(&h, "after 0:\nslot 0 0x0 0x3000 rw as=0\nslot 0 0x1000 0x2000 ro as=1\n"),
		0);
	assert_false(slots_find(h.tables, 0, 0x1000)->readonly);
	assert_true(slots_find(h.tables, 1, 0x1000)->readonly);
	slots_free(&h);
}

static char *text_of(const struct slot_history *h)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	slots_write(h, f);
	fclose(f);
	return text;
}

static void what_is_written_reads_back_the_same(void **state)
{
	struct slot_history h, again;
	char *one, *two;

	(void)state;
	assert_int_equal(slots_read(&h, "traces/qemu-pc-256m.slots", err), 0);
	one = text_of(&h);
	assert_int_equal(parse(&again, one), 0);
	two = text_of(&again);
	assert_string_equal(one, two);
	assert_int_equal(h.nr_tables, again.nr_tables);
	free(one);
	free(two);
	slots_free(&h);
	slots_free(&again);
}

/*
 * KVM's generation grows by 2 for every swap of the address space's memslot array: 1 a create, 2 a
 * delete. And each delete, in each address space, is one kvm_mmu_zap_all_fast. The file must agree
 * with both.
 */
static void the_files_deletes_explain_zaps_and_generations(void **state)
{
	struct slot_history h;
	uint64_t swaps = 0, zaps = 0;

	(void)state;
	assert_int_equal(slots_read(&h, "traces/qemu-pc-256m.slots", err), 0);
	for (uint32_t n = 0; n < h.nr_tables; n++) {
		const struct slot_table *t = &h.tables[n];

		for (uint32_t i = 0; n && i < t[-1].nr_slots; i++) {
			const struct slot_def *old = &t[-1].slots[i];
			const struct slot_def *now = slots_find(t, 0, old->start);

			if (now && slots_same(old, now))
				continue;
			swaps += 2;
			zaps += old->as_mask == 3 ? 2 : 1;
		}
		for (uint32_t i = 0; i < t->nr_slots; i++) {
			const struct slot_def *old =
				n ? slots_find(t - 1, 0, t->slots[i].start) : NULL;

			swaps += !old || !slots_same(old, &t->slots[i]);
		}
		assert_int_equal(zaps, t->after);
		if (t->has_generation)
			assert_int_equal(swaps * 2, t->generation);
	}
	assert_int_equal(zaps, 23);
	slots_free(&h);
}

static void infer(const char *path, struct trace *t, struct slot_history *h)
{
	assert_int_equal(trace_read(t, path, NULL, NULL, err), 0);
	assert_int_equal(trace_group(t), 0);
	assert_int_equal(slots_infer(h, t), 0);
}

static void inferred_slots_form_a_valid_file(void **state)
{
	static const char *const paths[] = {
		"traces/kvm-npt-linux-boot-4k.txt.xz",
		"traces/kvm-npt-linux-boot.txt.xz",
		"traces/kvm-npt-precopy.txt.xz",
		"traces/kvm-npt-small.txt.xz",
	};

	(void)state;
	for (int i = 0; i < 4; i++) {
		struct slot_history h, again;
		struct trace t;
		char *text;

		infer(paths[i], &t, &h);
		text = text_of(&h);
		assert_int_equal(parse(&again, text), 0);
		assert_int_equal(again.nr_tables, h.nr_tables);
		free(text);
		slots_free(&h);
		slots_free(&again);
		trace_free(&t);
	}
}

static void inferred_slots_know_rom_holes_and_the_size_of_ram(void **state)
{
	struct slot_history h;
	struct trace t;
	const struct slot_table *reset, *end;

	(void)state;
	infer("traces/kvm-npt-linux-boot.txt.xz", &t, &h);
	reset = slots_table_at(&h, 1);
	end = slots_table_at(&h, 23);
	assert_false(slots_find(reset, 0, 0x6000)->readonly);
	assert_true(slots_find(reset, 0, 0xfe000)->readonly);
	assert_true(slots_find(reset, 0, 0xfffeb000)->readonly);
	assert_false(slots_find(end, 0, 0xfe000)->readonly);
	assert_non_null(slots_find(end, 0, 0xffff000));
	assert_null(slots_find(end, 0, 0x10000000));
	assert_null(slots_find(end, 0, 0xfee00000));
	assert_null(slots_find(end, 0, 0xfec00000));
	assert_int_equal(end->generation, 0x54);
	/* The first 2 MiB are mapped small though the host's page is huge: an edge lies inside. */
	assert_ptr_not_equal(slots_find(end, 0, 0), slots_find(end, 0, 0x1ff000));
	assert_ptr_equal(slots_find(end, 0, 0x200000), slots_find(end, 0, 0xffff000));
	slots_free(&h);
	trace_free(&t);
}

static void a_zero_page_does_not_make_ram_read_only(void **state)
{
	struct slot_history h;
	struct trace t;

	(void)state;
	infer("traces/kvm-npt-linux-boot-4k.txt.xz", &t, &h);
	/* Frame 55d10 stands read-only here and at 15 other pages. */
	assert_false(slots_find(slots_table_at(&h, 17), 0, 0x38000)->readonly);
	assert_false(slots_find(slots_table_at(&h, 23), 0, 0x98000)->readonly);
	slots_free(&h);
	trace_free(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_table_is_found_by_zaps_passed),
		cmocka_unit_test(broken_files_are_refused_with_line_value_and_rule),
		cmocka_unit_test(slots_of_different_address_spaces_may_overlap),
		cmocka_unit_test(what_is_written_reads_back_the_same),
		cmocka_unit_test(the_files_deletes_explain_zaps_and_generations),
		cmocka_unit_test(inferred_slots_form_a_valid_file),
		cmocka_unit_test(inferred_slots_know_rom_holes_and_the_size_of_ram),
		cmocka_unit_test(a_zero_page_does_not_make_ram_read_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
