// SPDX-License-Identifier: BSD-2-Clause
/*
 * Recorded guests as TDs: each recorded fault is made, accounted for and paid with the calls that
 * it must cost, by the stated rules; and nothing of the TD is left.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "cli/replay_td.h"
#include "cli/replay_td_plan.h"

#define PC_SLOTS "traces/qemu-pc-256m.slots"

struct input_set {
	struct trace t;
	struct slot_history h;
	struct backing *b;
	struct replay r;
};

static char err[INPUT_ERR_LEN];

static void load(struct input_set *in, const char *trace, const char *slots)
{
	memset(in, 0, sizeof(*in));
	assert_int_equal(trace_read(&in->t, trace, NULL, NULL, err), 0);
	assert_int_equal(trace_group(&in->t), 0);
	if (slots)
		assert_int_equal(slots_read(&in->h, slots, err), 0);
	else
		assert_int_equal(slots_infer(&in->h, &in->t), 0);
	assert_int_equal(backing_build(&in->b, &in->t, &in->h), 0);
	in->r = (struct replay){.t = &in->t,
				.h = &in->h,
				.slots_inferred = !slots,
				.b = in->b,
				.ops = &replay_td_ops};
}

static const struct replay_td *run(struct input_set *in)
{
	if (replay_run(&in->r))
		fail_msg("%s", in->r.why);
	return in->r.vm;
}

static void unload(struct input_set *in)
{
	replay_free(&in->r);
	backing_free(in->b);
	slots_free(&in->h);
	trace_free(&in->t);
}

static uint64_t sum_of(const struct replay *r, enum replay_result result)
{
	uint64_t n = 0;

	for (int a = 0; a < REPLAY_ACCESSES; a++)
		n += r->counts.results[a][result];
	return n;
}

/* What holds of every trace. */
static void check_clean(const struct replay *r, const struct replay_td *td)
{
	const uint64_t *calls = r->stats.vcpus.external_calls;

	assert_string_equal(r->kind_text, "");
	assert_false(replay_unsound(r));
	assert_int_equal(sum_of(r, REPLAY_ERROR), 0);
	assert_int_equal(td->audits, 3);
	assert_true(td->torn_down);
	assert_true(simtd_ended_clean(&td->remains));
	/* Each recorded fault has one result. */
	assert_int_equal(r->counts.faults, r->t->nr_faults);
	/* Every page came by PAGE.ADD or AUG, and each AUG was accepted. */
	assert_int_equal(calls[TPT_CALL_MAP], td->built + td->stats.accepts);
	assert_int_equal(td->host.leaf[TDH_MEM_PAGE_AUG].ok, td->stats.accepts);
	assert_int_equal(td->host.leaf[TDH_MR_EXTEND].ok, 16 * td->built);
	assert_int_equal(td->external_pending, 0);
	assert_int_equal(td->external_blocked, 0);
	assert_int_equal(td->external_mapped, r->stats.mirror.pages_4k);
	assert_int_equal(td->external_tables, r->stats.mirror.tables);
	/* Two phases for what the window took, none for the rest: the key went first. */
	assert_int_equal(calls[TPT_CALL_BLOCK], td->window_removed);
	assert_int_equal(calls[TPT_CALL_REMOVE], td->window_removed);
	assert_int_equal(calls[TPT_CALL_TRACK], (td->window_removed + 511) / 512);
	assert_int_equal(td->remains.reclaimed_leaves, td->external_mapped);
	assert_int_equal(td->remains.stats.vcpus.external_calls[TPT_CALL_BLOCK],
			 calls[TPT_CALL_BLOCK]);
	/* MMIO: one #VE and one call each. */
	assert_int_equal(td->stats.ve_shared, td->stats.exits[TD_EXIT_VMCALL_MMIO]);
	assert_int_equal(td->stats.ve_shared, sum_of(r, REPLAY_MMIO));
	assert_int_equal(td->window_words, 1024);
	assert_int_equal(td->window_accepts, 512);
	assert_int_equal(td->words_wrong, 0);
	assert_true(td->words_checked > 0);
}

static void the_tiny_guest(void **state)
{
	struct input_set in;
	const struct replay_td *td;

	(void)state;
	load(&in, "traces/kvm-npt-small.txt.xz", "traces/kvm-npt-small.slots");
	td = run(&in);
	check_clean(&in.r, td);
	/* Its 64 pages at 2 MiB are the window. */
	assert_int_equal(td->window, 2 << 20);
	assert_int_equal(td->window_removed, 64);
	assert_int_equal(td->stats.exits[TD_EXIT_PRIVATE], 64);
	assert_int_equal(td->stats.ve_private, 64);
	assert_int_equal(td->stats.exits[TD_EXIT_ACCEPT], 512);
	/* The read-only window at 256 MiB: read (so built in), then written. */
	assert_int_equal(td->built, 257);
	assert_int_equal(td->read_only_bytes, 1 << 20);
	assert_int_equal(td->rules[REPLAY_TD_ROM_WRITE], 1);
	assert_int_equal(td->zap_alls, 1);
	/* 4 pages punched out of the backing lie in the window while it is shared. */
	assert_int_equal(in.r.counts.host_removed, 4);
	unload(&in);
}

static void linux_boots_as_a_td(void **state)
{
	struct input_set in;
	const struct replay_td *td;

	(void)state;
	load(&in, "traces/kvm-npt-linux-boot.txt.xz", PC_SLOTS);
	td = run(&in);
	check_clean(&in.r, td);
	assert_int_equal(sum_of(&in.r, REPLAY_MMIO), 1098);
	/* SMM: one fault, in a state that a TD doesn't have. */
	assert_int_equal(in.r.counts.skips[REPLAY_SKIP_BAD_AS], 1);
	assert_int_equal(sum_of(&in.r, REPLAY_SKIPPED), 1);
	/* Memory of a host with pages of 2 MiB: the window is one page of the direct tree. */
	assert_int_equal(td->stats.exits[TD_EXIT_SHARED], 4);
	assert_int_equal(in.r.stats.direct.mmio, 3);
	unload(&in);
}

static void a_guest_of_48000_faults_costs_what_it_must(void **state)
{
	struct input_set in;
	const struct replay_td *td;

	(void)state;
	load(&in, "traces/kvm-npt-linux-boot-4k.txt.xz", PC_SLOTS);
	td = run(&in);
	check_clean(&in.r, td);
	assert_int_equal(in.r.counts.faults, 48403);
	assert_int_equal(in.r.counts.skips[REPLAY_SKIP_BAD_AS], 7);
	/* Each page that came by fault: one exit, one AUG, one #VE, one ACCEPT. */
	assert_int_equal(td->stats.exits[TD_EXIT_PRIVATE], sum_of(&in.r, REPLAY_FIXED));
	assert_int_equal(td->stats.ve_private, sum_of(&in.r, REPLAY_FIXED));
	assert_int_equal(td->stats.accepts, sum_of(&in.r, REPLAY_FIXED) + td->window_accepts);
	assert_int_equal(td->window_removed, 512);
	unload(&in);
}

static void a_measurement_depends_on_the_trace_alone(void **state)
{
	uint8_t mrtd[3][48];

	(void)state;
	for (int i = 0; i < 3; i++) {
		struct input_set in;

		load(&in,
		     i < 2 ? "traces/kvm-npt-small.txt.xz" : "traces/kvm-npt-linux-boot.txt.xz",
		     i < 2 ? "traces/kvm-npt-small.slots" : PC_SLOTS);
		memcpy(mrtd[i], run(&in)->mrtd, sizeof(mrtd[i]));
		unload(&in);
	}
	assert_memory_equal(mrtd[0], mrtd[1], sizeof(mrtd[0]));
	assert_memory_not_equal(mrtd[0], mrtd[2], sizeof(mrtd[0]));
}

static void inferred_slots_will_do(void **state)
{
	struct input_set in;
	const struct replay_td *td;

	(void)state;
	load(&in, "traces/kvm-npt-linux-boot.txt.xz", NULL);
	td = run(&in);
	assert_string_equal(in.r.kind_text, "");
	assert_false(replay_unsound(&in.r));
	assert_true(simtd_ended_clean(&td->remains));
	assert_int_equal(in.r.counts.faults, in.t.nr_faults);
	unload(&in);
}

/* ---- what makes it fail ---- */

struct vandal {
	struct replay *r;
	uint64_t seen;
	bool done;
};

/* Memory that does not keep its content: a page of the image that the guest has yet to read. */
static void scribble(void *ctx, struct replay *r, const struct tpt_event *e)
{
	struct vandal *v = ctx;
	struct machine *m = sim_machine(r->sim);

	if (v->done || e->kind != TPT_EVENT_MIRROR_CHANGED || e->level != 1 || ++v->seen < 300)
		return;
	for (uint64_t hpa = 1ull << 44; hpa < (1ull << 44) + (64 << 20); hpa += 4096) {
		uint8_t *page = machine_mem_in_use(m, hpa) ? machine_mem_ptr(m, hpa) : NULL;
		uint64_t first;

		if (!page)
			continue;
		memcpy(&first, page, sizeof(first));
		if (first == td_plan_word(0xfffff000ull) || first == td_plan_word(0x10000000ull)) {
			memset(page, 0x5a, 4096);
			v->done = true;
		}
	}
}

static void content_that_changes_by_itself_is_noticed(void **state)
{
	struct vandal v = {0};
	const struct replay_observer observer = {.event = scribble, .ctx = &v};
	struct input_set in;
	const struct replay_td *td;

	(void)state;
	load(&in, "traces/kvm-npt-small.txt.xz", "traces/kvm-npt-small.slots");
	assert_true(replay_observe(&in.r, &observer));
	td = run(&in);
	assert_true(v.done);
	assert_true(td->words_wrong > 0);
	assert_true(replay_unsound(&in.r));
	assert_string_not_equal(in.r.kind_text, "");
	unload(&in);
}

/* ---- the plan ---- */

static void the_image_is_what_is_found_before_it_is_written(void **state)
{
	struct input_set in;
	struct td_plan plan;
	uint64_t image = 0, above = 0;

	(void)state;
	load(&in, "traces/kvm-npt-linux-boot-4k.txt.xz", PC_SLOTS);
	assert_int_equal(td_plan_make(&plan, &in.t, &in.h), 0);
	assert_int_equal(plan.nr_ranges, 2);
	assert_int_equal(plan.bytes, (256ull << 20) + (256ull << 10));
	assert_int_equal(plan.read_only_bytes, 256 << 10);
	assert_false(plan.huge_pages);
	for (uint64_t gpa = 0; gpa < 256ull << 20; gpa += 4096) {
		image += td_plan_page(&plan, gpa)->image;
		above += gpa >= 16 << 20 && gpa < 64 << 20 && td_plan_page(&plan, gpa)->image;
	}
	/* The kernel was put at 1 MiB and is read there; 16 MiB to 64 MiB is written first. */
	for (uint64_t gpa = 0; gpa < 8 << 20; gpa += 4096)
		assert_true(td_plan_page(&plan, gpa)->image);
	assert_int_equal(above, 0);
	assert_in_range(image, 2048, 4096);
	/* The reset vector is fetched from the BIOS; PCI holes are no memory. */
	assert_true(td_plan_page(&plan, 0xfffffff0)->image);
	assert_null(td_plan_page(&plan, 0xfee00000));
	assert_null(td_plan_page(&plan, 0x10000000));
	td_plan_free(&plan);
	unload(&in);
}

/* The same guest, sound in all the same ways, for a fraction of the calls. */
static void private_pages_of_2m_cost_less(void **state)
{
	uint64_t maps[2], links[2], leaves[2];
	struct input_set in;

	(void)state;
	for (unsigned int large = 0; large < 2; large++) {
		const struct replay_td *td;

		load(&in, "traces/kvm-npt-linux-boot-4k.txt.xz", NULL);
		in.r.private_level = large ? TPT_LEVEL_2M : TPT_LEVEL_4K;
		td = run(&in);
		assert_int_equal(td->audit_findings, 0);
		assert_int_equal(td->window_removed, 512);
		maps[large] = in.r.stats.vcpus.external_calls[TPT_CALL_MAP];
		links[large] = in.r.stats.vcpus.external_calls[TPT_CALL_LINK];
		leaves[large] = in.r.stats.mirror.pages_4k + in.r.stats.mirror.pages_2m;
		unload(&in);
	}
	/* What is built is of 4 KiB both times. */
	assert_true(maps[1] * 10 < maps[0]);
	assert_true(links[1] * 5 < links[0]);
	assert_true(leaves[1] * 10 < leaves[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_tiny_guest),
		cmocka_unit_test(linux_boots_as_a_td),
		cmocka_unit_test(a_guest_of_48000_faults_costs_what_it_must),
		cmocka_unit_test(a_measurement_depends_on_the_trace_alone),
		cmocka_unit_test(inferred_slots_will_do),
		cmocka_unit_test(content_that_changes_by_itself_is_noticed),
		cmocka_unit_test(the_image_is_what_is_found_before_it_is_written),
		cmocka_unit_test(private_pages_of_2m_cost_less),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
