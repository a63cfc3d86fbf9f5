// SPDX-License-Identifier: BSD-2-Clause
/*
 * The inference of host backing: right for every leaf of the recorded traces, and never by the word
 * of the entry asked about: whatever is done to that word, the answer stays.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/backing.h"

#define PC_SLOTS    "traces/qemu-pc-256m.slots"
#define SMALL_SLOTS "traces/kvm-npt-small.slots"

static char err[INPUT_ERR_LEN];

struct case_of {
	struct trace t;
	struct slot_history h;
	struct backing *b;
};

static void build(struct case_of *c)
{
	assert_int_equal(backing_build(&c->b, &c->t, &c->h), 0);
}

static void load(struct case_of *c, const char *trace, const char *slots)
{
	assert_int_equal(trace_read(&c->t, trace, NULL, NULL, err), 0);
	assert_int_equal(trace_group(&c->t), 0);
	if (slots)
		assert_int_equal(slots_read(&c->h, slots, err), 0);
	else
		assert_int_equal(slots_infer(&c->h, &c->t), 0);
	build(c);
}

static void unload(struct case_of *c)
{
	backing_free(c->b);
	slots_free(&c->h);
	trace_free(&c->t);
}

/* The leaf of the fault recorded on @line. */
static const struct trace_fault *fault_on(const struct case_of *c, uint32_t line)
{
	for (uint32_t i = 0; i < c->t.nr_faults; i++)
		if (c->t.events[c->t.faults[i].event].line == line)
			return &c->t.faults[i];
	fail_msg("no fault on line %u", line);
	return NULL;
}

static struct backing_page ask(const struct case_of *c, const struct trace_fault *f)
{
	const struct trace_event *ev = &c->t.events[f->event];
	struct backing_page page;

	assert_int_equal(backing_lookup(c->b, f->event, f->as_id, ev->fault.gpa >> 12,
					ev->fault.error_code & 2, &page),
			 0);
	return page;
}

static void every_recorded_leaf_is_explained(void **state)
{
	static const struct {
		const char *trace, *slots;
		uint64_t leaves, own_later;
	} cases[] = {
		{"traces/kvm-npt-linux-boot-4k.txt.xz", PC_SLOTS, 47304, 1782},
		{"traces/kvm-npt-linux-boot.txt.xz", PC_SLOTS, 595, 14},
		{"traces/kvm-npt-precopy.txt.xz", PC_SLOTS, 614, 15},
		{"traces/kvm-npt-small.txt.xz", SMALL_SLOTS, 70, 0},
		{"traces/kvm-npt-linux-boot-4k.txt.xz", NULL, 47304, UINT64_MAX},
		{"traces/kvm-npt-linux-boot.txt.xz", NULL, 595, UINT64_MAX},
		{"traces/kvm-npt-precopy.txt.xz", NULL, 614, UINT64_MAX},
		{"traces/kvm-npt-small.txt.xz", NULL, 70, UINT64_MAX},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct backing_survey s;
		struct case_of c;

		load(&c, cases[i].trace, cases[i].slots);
		backing_survey(c.b, &s);
		assert_int_equal(s.leaves, cases[i].leaves);
		assert_int_equal(s.unknown, 0);
		assert_int_equal(s.frame_differs, 0);
		assert_int_equal(s.level_differs, 0);
		assert_int_equal(s.write_differs, 0);
		assert_int_equal(s.frames[BACKING_FRAME_OWN], 0);
		if (cases[i].own_later != UINT64_MAX)
			assert_int_equal(s.frames[BACKING_FRAME_OWN_LATER], cases[i].own_later);
		unload(&c);
	}
}

/* Every 37th leaf of a trace gets a word that lies about everything; what is inferred for it must
 * not move. */
static void the_compared_word_never_answers_for_itself(void **state)
{
	static const char *const traces[] = {"traces/kvm-npt-linux-boot-4k.txt.xz",
					     "traces/kvm-npt-precopy.txt.xz"};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct case_of c;
		unsigned int tried = 0;

		load(&c, traces[i], PC_SLOTS);
		for (uint32_t n = 0; n < c.t.nr_faults && tried < 12; n += i ? 37 : 3737) {
			const struct trace_fault *f = &c.t.faults[n];
			struct trace_event *leaf = &c.t.events[f->leaf], was;
			struct backing_page before, after;

			if (f->outcome != TRACE_INSTALLED)
				continue;
			tried++;
			before = ask(&c, f);
			was = *leaf;
			/* Another frame, W off (or on), another level. */
			leaf->change.new_word ^= 1ull << 20 | 2;
			leaf->level = (uint8_t)(3 - leaf->level);
			leaf->change.gfn = c.t.events[f->event].fault.gpa >> 12;
			if (leaf->level == 2) {
				leaf->change.gfn &= ~511ull;
				leaf->change.new_word |= 1 << 7;
			}
			backing_free(c.b);
			build(&c);
			after = ask(&c, f);
			assert_int_equal(after.host_level, before.host_level);
			assert_int_equal(after.writable, before.writable);
			*leaf = was;
			/* The frame alone: the level stays, so later records of the entry still are
			 * its own. */
			leaf->change.new_word ^= 1ull << 20;
			backing_free(c.b);
			build(&c);
			after = ask(&c, f);
			assert_int_equal(after.pfn, before.pfn);
			*leaf = was;
		}
		assert_true(tried >= 8);
		unload(&c);
	}
}

/* One 2 MiB leaf and nothing else: its own word must not be taken for its size. */
static void a_lone_huge_page_is_not_its_own_witness(void **state)
{
	static const char text[] =
		" t-1 [000] ..... 1.000000: kvm_page_fault: vcpu 0 rip 0x0 address 0x200000 error_code 0x6\n"
		" t-1 [000] ..... 1.000000: kvm_tdp_mmu_spte_changed: as id 0 gfn 200 level 2 old_spte 0 "
		"new_spte 140000ee7\n"
		" t-1 [000] ..... 1.000000: kvm_page_fault: vcpu 0 rip 0x0 address 0x400000 error_code 0x6\n"
		" t-1 [000] ..... 1.000000: kvm_tdp_mmu_spte_changed: as id 0 gfn 400 level 2 old_spte 0 "
		"new_spte 150000ee7\n";
	static const char slots[] = "after 0:\nslot 0 0x0 0x1000000 rw\n";
	char path[] = P_tmpdir "/triptych-backing-XXXXXX";
	struct case_of c;
	struct backing_page page;
	FILE *f = fdopen(mkstemp(path), "w");

	(void)state;
	fputs(text, f);
	fclose(f);
	assert_int_equal(trace_read(&c.t, path, NULL, NULL, err), 0);
	unlink(path);
	assert_int_equal(trace_group(&c.t), 0);
	assert_int_equal(slots_parse(&c.h, "slots", slots, sizeof(slots) - 1, err), 0);
	build(&c);
	page = ask(&c, fault_on(&c, 1));
	assert_int_equal(page.host_level, 2);
	assert_int_equal(page.level, BACKING_LEVEL_REGION);
	backing_free(c.b);
	c.t.attr[3] = TRACE_ATTR_ODD_WORD;
	build(&c);
	page = ask(&c, fault_on(&c, 1));
	assert_int_equal(page.host_level, 1);
	assert_int_equal(page.level, BACKING_LEVEL_NO_HUGE);
	assert_int_equal(page.frame, BACKING_FRAME_OWN);
	unload(&c);
}

static void a_zero_page_is_read_only_until_it_is_copied(void **state)
{
	const struct trace_fault *f;
	struct backing_page page;
	struct case_of c;

	(void)state;
	load(&c, "traces/kvm-npt-linux-boot-4k.txt.xz", PC_SLOTS);
	f = fault_on(&c, 5844); /* read of 38000 */
	page = ask(&c, f);
	assert_int_equal(page.pfn, 0x55d10);
	assert_false(page.writable);
	assert_int_equal(page.write, BACKING_WRITE_COPIED);
	assert_int_equal(page.frame, BACKING_FRAME_ZERO_PAGE);
	f = fault_on(&c, 5848); /* the write that makes the host copy it, inside its own lookup */
	page = ask(&c, f);
	assert_int_equal(c.t.events[page.inner_unmap].line, 5850);
	assert_int_equal(page.pfn, 0x13b547);
	assert_true(page.writable);
	f = fault_on(&c, 5853); /* the retry */
	page = ask(&c, f);
	assert_int_equal(page.inner_unmap, TRACE_NONE);
	assert_int_equal(page.pfn, 0x13b547);
	f = fault_on(&c, 5840); /* 3f000: copied by KVM's own write, so only its neighbours in the
				   zero page tell */
	page = ask(&c, f);
	assert_false(page.writable);
	assert_int_equal(page.write, BACKING_WRITE_SHARED);
	unload(&c);
}

static void regions_are_found_where_the_host_put_them(void **state)
{
	enum backing_hva_source source;
	struct backing_range r;
	struct case_of c;

	(void)state;
	load(&c, "traces/kvm-npt-small.txt.xz", SMALL_SLOTS);
	assert_int_equal(backing_region_hva(c.b, 0, &source), 0x7f8c2cbde000);
	assert_int_equal(source, BACKING_HVA_NOTIFIER);
	for (uint32_t i = 0; i < c.t.nr_events; i++) {
		if (c.t.events[i].line != 525)
			continue;
		assert_true(backing_covered(c.b, i, 0, &r));
		assert_int_equal(r.first, 0x208);
		assert_int_equal(r.count, 4);
		assert_false(backing_covered(c.b, i, 1, &r));
	}
	unload(&c);
	load(&c, "traces/kvm-npt-linux-boot.txt.xz", PC_SLOTS);
	assert_int_equal(backing_region_hva(c.b, 0, &source), 0x7f4b1fe00000);
	assert_int_equal(source, BACKING_HVA_SIZE);
	backing_region_hva(c.b, 1, &source);
	assert_int_equal(source, BACKING_HVA_MADE_UP);
	unload(&c);
}

static void pages_outside_every_slot_have_no_backing(void **state)
{
	struct backing_page page;
	struct case_of c;

	(void)state;
	load(&c, "traces/kvm-npt-small.txt.xz", SMALL_SLOTS);
	assert_int_equal(backing_lookup(c.b, c.t.nr_events - 1, 0, 0x20000, false, &page), -ENOENT);
	assert_int_equal(backing_lookup(c.b, c.t.nr_events - 1, 0, 0xfff, false, &page), -ENODATA);
	unload(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_recorded_leaf_is_explained),
		cmocka_unit_test(the_compared_word_never_answers_for_itself),
		cmocka_unit_test(a_lone_huge_page_is_not_its_own_witness),
		cmocka_unit_test(a_zero_page_is_read_only_until_it_is_copied),
		cmocka_unit_test(regions_are_found_where_the_host_put_them),
		cmocka_unit_test(pages_outside_every_slot_have_no_backing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
