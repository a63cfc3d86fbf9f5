// SPDX-License-Identifier: BSD-2-Clause
/*
 * Two-phase removal against an external table that fails on demand: how many calls in which order,
 * and what each failure in each phase leaves behind. And the end of a VM.
 */
#include "tests/support/host.h"

#define READ  TPT_PFERR_USER
#define PAGE  4096ull
#define TRIES 17 /* of a call that stays busy: one, and 16 with all vCPUs held */

/* A TD with @nr private pages mapped from 0 on. */
static struct host *td(uint32_t chunk, unsigned int nr)
{
	struct host *h = host_create_td(chunk, 64 * MIB, 1);

	for (unsigned int i = 0; i < nr; i++)
		assert_int_equal(host_fault(h, i * PAGE, READ), TPT_RET_PF_FIXED);
	ext_log_clear(&h->ext);
	h->kicks = 0;
	return h;
}

static int to_shared(struct host *h, unsigned int nr, tpt_gfn *done)
{
	return tpt_vm_set_private(h->vm, 0, nr, false, done);
}

static void append(char *log, char letter, unsigned int times)
{
	size_t len = strlen(log);

	memset(log + len, letter, times);
	log[len + times] = 0;
}

/* A5: the minimum that the module's rules allow: a page needs its own block and remove, an epoch
 * serves all. */
static void A5_a_chunk_of_n_is_n_blocks_one_track_one_kick_n_removes(void **state)
{
	static const unsigned int chunks[] = {1, 2, 7, 100, 512, 0}, nr = 600;

	(void)state;
	for (unsigned int i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
		unsigned int chunk = chunks[i] ? chunks[i] : 512;
		struct host *h = td(chunks[i], nr);
		char want[4 * 600 + 1] = "";

		for (unsigned int left = nr, n; left; left -= n) {
			n = left < chunk ? left : chunk;
			append(want, 'b', n);
			append(want, 't', 1);
			append(want, 'K', 1);
			append(want, 'r', n);
		}
		assert_int_equal(to_shared(h, nr, NULL), 0);
		assert_string_equal(h->ext.log, want);
		assert_int_equal(host_stats(h).mirror.pages_4k, 0);
		assert_int_equal(host_stats(h).kick[TPT_KICK_TRACK], (nr + chunk - 1) / chunk);
		assert_int_equal(h->ext.leaves, 0);
		host_destroy(h);
	}
}

static void holes_between_pages_cost_no_call(void **state)
{
	struct host *h = td(4, 0);

	(void)state;
	for (unsigned int i = 0; i < 6; i++)
		assert_int_equal(host_fault(h, i * 600 * PAGE, READ), TPT_RET_PF_FIXED);
	ext_log_clear(&h->ext);
	assert_int_equal(to_shared(h, 64 * MIB / PAGE, NULL), 0);
	assert_string_equal(h->ext.log, "bbbbtKrrrrbbtKrr");
	ext_log_clear(&h->ext);
	assert_int_equal(tpt_vm_set_private(h->vm, 0, 16384, true, NULL), 0);
	assert_int_equal(to_shared(h, 16384, NULL), 0);
	assert_string_equal(h->ext.log, "");
	host_destroy(h);
}

static void a_busy_call_is_tried_again_with_all_vcpus_held(void **state)
{
	static const struct {
		enum tpt_external_call call;
		const char *log;
	} rows[] = {
		{TPT_CALL_BLOCK, "bbhbbbHbbtKrrrr"},
		{TPT_CALL_TRACK, "bbbbthttHKrrrr"},
		{TPT_CALL_REMOVE, "bbbbtKrrhrrHrr"},
	};

	(void)state;
	for (unsigned int i = 0; i < 3; i++) {
		struct host *h = td(0, 4);
		unsigned int at = rows[i].call == TPT_CALL_TRACK ? 1 : 2;
		unsigned int times = rows[i].call == TPT_CALL_BLOCK ? 3 : 2;

		ext_fail(&h->ext, rows[i].call, at, times, -EBUSY);
		assert_int_equal(to_shared(h, 4, NULL), 0);
		assert_string_equal(h->ext.log, rows[i].log);
		assert_int_equal(host_stats(h).hold, 1);
		assert_int_equal(h->ext.leaves, 0);
		host_destroy(h);
	}
}

static void a_block_that_stays_busy_ends_the_chunk_before_it(void **state)
{
	struct host *h = td(0, 4);
	tpt_gfn done = 99;

	(void)state;
	ext_fail(&h->ext, TPT_CALL_BLOCK, 3, TRIES, -EBUSY);
	assert_int_equal(to_shared(h, 4, &done), -EBUSY);
	assert_int_equal(done, 0);
	/* What was blocked went its way; the rest is as it was, and so is the attribute. */
	assert_int_equal(host_stats(h).mirror.pages_4k, 2);
	assert_int_equal(host_stats(h).mirror.blocked, 0);
	assert_true(tpt_vm_is_private(h->vm, 0));
	assert_int_equal(host_fault(h, 0, READ), TPT_RET_PF_FIXED);
	assert_int_equal(host_fault(h, 2 * PAGE, READ), TPT_RET_PF_SPURIOUS);
	host_audit(h);
	assert_int_equal(to_shared(h, 4, &done), 0);
	assert_int_equal(done, 4);
	assert_int_equal(h->ext.leaves, 0);
	host_destroy(h);
}

static void a_remove_that_stays_busy_stays_blocked_and_is_tried_again(void **state)
{
	struct host *h = td(0, 4);

	(void)state;
	ext_fail(&h->ext, TPT_CALL_REMOVE, 2, TRIES, -EBUSY);
	assert_int_equal(to_shared(h, 4, NULL), -EBUSY);
	assert_int_equal(host_stats(h).mirror.pages_4k, 1);
	assert_int_equal(host_stats(h).mirror.blocked, 1);
	assert_true(host_mapping(h, TPT_TREE_MIRROR, 0, PAGE).blocked);
	assert_true(tpt_vm_is_private(h->vm, 1));
	/* A fault on it waits; elsewhere life goes on. */
	assert_int_equal(host_fault(h, PAGE, READ), TPT_RET_PF_RETRY);
	assert_int_equal(host_fault(h, 2 * PAGE, READ), TPT_RET_PF_FIXED);
	host_audit(h);
	ext_log_clear(&h->ext);
	assert_int_equal(to_shared(h, 4, NULL), 0);
	/* It was blocked and tracked already. */
	assert_string_equal(h->ext.log, "btKrr");
	assert_int_equal(host_stats(h).mirror.blocked, 0);
	host_destroy(h);
}

static void a_track_that_stays_busy_leaves_blocked_entries_that_a_later_one_serves(void **state)
{
	struct host *h = td(0, 4);

	(void)state;
	assert_int_equal(host_fault(h, 8 * PAGE, READ), TPT_RET_PF_FIXED);
	ext_fail(&h->ext, TPT_CALL_TRACK, 1, TRIES, -EBUSY);
	assert_int_equal(to_shared(h, 4, NULL), -EBUSY);
	assert_int_equal(host_stats(h).mirror.blocked, 4);
	assert_int_equal(host_fault(h, 0, READ), TPT_RET_PF_RETRY);
	host_audit(h);
	/* Somebody else's track, with nothing new to block, does for all. */
	ext_log_clear(&h->ext);
	assert_int_equal(tpt_gmem_punch_hole(h->gmem, 12 * PAGE, PAGE), 0);
	assert_int_equal(to_shared(h, 4, NULL), 0);
	assert_string_equal(h->ext.log, "tKrrrr");
	host_destroy(h);
}

static void an_error_for_good_in_phase_one_loses_nothing(void **state)
{
	struct host *h = td(0, 4);

	(void)state;
	ext_fail(&h->ext, TPT_CALL_BLOCK, 2, 1, -EPERM);
	assert_int_equal(to_shared(h, 4, NULL), -EPERM);
	assert_string_equal(h->ext.log, "bbtKr");
	assert_int_equal(host_stats(h).mirror.pages_4k, 3);
	host_audit(h);
	assert_int_equal(to_shared(h, 4, NULL), 0);
	host_destroy(h);
}

static void an_error_for_good_in_phase_two_gives_the_page_back_to_the_guest(void **state)
{
	struct host *h = td(0, 4);

	(void)state;
	ext_fail(&h->ext, TPT_CALL_REMOVE, 2, 1, -EPERM);
	assert_int_equal(to_shared(h, 4, NULL), -EPERM);
	assert_string_equal(h->ext.log, "bbbbtKrrurr");
	assert_int_equal(host_stats(h).mirror.pages_4k, 1);
	assert_int_equal(host_stats(h).mirror.blocked, 0);
	assert_int_equal(host_fault(h, PAGE, READ), TPT_RET_PF_SPURIOUS);
	host_audit(h);
	assert_int_equal(to_shared(h, 4, NULL), 0);
	host_destroy(h);
}

/* Runs a conversion of 4 pages that must kill the VM; everything still comes back at the end. */
static void assert_kills(struct host *h, const char *evidence)
{
	assert_int_equal(to_shared(h, 4, NULL), -EIO);
	assert_true(tpt_vm_is_dead(h->vm));
	if (!strstr(tpt_vm_report(h->vm), evidence))
		fail_msg("report: %s", tpt_vm_report(h->vm));
	assert_int_equal(tpt_vm_teardown(h->vm), 0);
	assert_int_equal(h->ext.leaves, 0);
	assert_int_equal(h->ext.tables, 0);
	assert_int_equal(host_end(h), 0);
}

static void what_leaves_no_way_out_kills_the_vm_with_a_report(void **state)
{
	struct host *h = td(0, 4);

	(void)state;
	ext_fail(&h->ext, TPT_CALL_TRACK, 1, 1, -EPERM);
	assert_kills(h, "external track failed with -1");

	h = td(0, 4);
	ext_fail(&h->ext, TPT_CALL_REMOVE, 2, 1, -EPERM);
	ext_fail(&h->ext, TPT_CALL_UNBLOCK, 1, 1, -EINVAL);
	assert_kills(h, "external remove failed with -1, and so did unblock");

	h = td(0, 4);
	ext_fail(&h->ext, TPT_CALL_REMOVE, 2, 1, -EPERM);
	ext_fail(&h->ext, TPT_CALL_UNBLOCK, 1, TRIES, -EBUSY);
	assert_kills(h, "external remove failed with -1, and so did unblock");
}

static void a_lie_in_any_phase_kills_the_vm(void **state)
{
	static const enum tpt_external_call calls[] = {TPT_CALL_BLOCK, TPT_CALL_TRACK,
						       TPT_CALL_REMOVE, TPT_CALL_UNBLOCK};

	(void)state;
	for (unsigned int i = 0; i < 8; i++) {
		struct host *h = td(0, 4);
		enum tpt_external_call call = calls[i / 2];

		if (call == TPT_CALL_UNBLOCK)
			ext_fail(&h->ext, TPT_CALL_REMOVE, 1, 1, -EPERM);
		h->ext.script[call] = (struct ext_script){1, 1, i & 1 ? 3 : -5000, false};
		assert_kills(h, tpt_external_call_name(call));
	}
}

/* A5: after any failure mirror and external table are equal again: the audit. */
/* Fails the n-th call of a whole removal, whichever kind it is; then again until it goes through.
 */
static void A5_whichever_call_fails_nothing_is_lost(void **state)
{
	static const enum tpt_external_call calls[] = {TPT_CALL_BLOCK, TPT_CALL_REMOVE};
	static const int answers[] = {-EBUSY, -EPERM};

	(void)state;
	for (unsigned int n = 0; n < 4 * 10; n++) {
		struct host *h = td(3, 10);
		int answer = answers[n & 1], err;

		ext_fail(&h->ext, calls[n >> 1 & 1], 1 + n / 4, answer == -EBUSY ? TRIES : 1,
			 answer);
		err = to_shared(h, 10, NULL);
		assert_int_equal(err, answer);
		host_audit(h);
		assert_int_equal(host_stats(h).mirror.pages_4k, h->ext.leaves);
		assert_int_equal(to_shared(h, 10, NULL), 0);
		assert_int_equal(h->ext.leaves, 0);
		host_destroy(h);
	}
}

static void a_slot_whose_pages_stay_is_still_there(void **state)
{
	struct host *h = td(0, 4);

	(void)state;
	ext_fail(&h->ext, TPT_CALL_REMOVE, 2, TRIES, -EBUSY);
	assert_int_equal(host_slot(h, 0, 0, 0, 0, 0, 0), -EBUSY);
	assert_int_equal(host_fault(h, 0, READ), TPT_RET_PF_FIXED);
	assert_int_equal(host_fault(h, PAGE, READ), TPT_RET_PF_RETRY);
	host_audit(h);
	assert_int_equal(host_slot(h, 0, 0, 0, 0, 0, 0), 0);
	assert_int_equal(host_fault(h, 0, READ), -EFAULT);
	host_destroy(h);
}

static void a_hole_that_is_busy_frees_nothing(void **state)
{
	struct host *h = td(0, 4);

	(void)state;
	ext_fail(&h->ext, TPT_CALL_REMOVE, 2, TRIES, -EBUSY);
	assert_int_equal(tpt_gmem_punch_hole(h->gmem, 0, 4 * PAGE), -EBUSY);
	assert_int_equal(atomic_load(&h->gmem_freed), 0);
	assert_int_equal(tpt_gmem_punch_hole(h->gmem, 0, 4 * PAGE), 0);
	assert_int_equal(atomic_load(&h->gmem_freed), 4);
	host_destroy(h);
}

/* ---- the end ---- */

/* A18: freed plus leaked is what was allocated, and nothing is leaked. */
static void A18_teardown_is_one_release_and_one_reclaim_a_page(void **state)
{
	struct host *h = td(0, 600);
	struct tpt_fault f = {.gpa = {0}, .error_code = READ};
	struct tpt_roots roots;
	char want[700] = "R";

	(void)state;
	/* 600 leaves; 2 tables of them, one above, one above that. Leaves first, then upward. */
	append(want, 'c', 600);
	append(want, 'f', 4);
	assert_int_equal(tpt_vm_teardown(h->vm), 0);
	assert_string_equal(h->ext.log, want);
	assert_int_equal(h->ext.leaves, 0);
	assert_int_equal(h->ext.tables, 0);
	assert_int_equal(host_stats(h).leaked_pages, 0);
	assert_int_equal(host_stats(h).mirror.pages_4k, 0);
	assert_int_equal(host_stats(h).mirror.tables, 0);
	/* Again: nothing. */
	assert_int_equal(tpt_vm_teardown(h->vm), 0);
	assert_string_equal(h->ext.log, want);
	/* Over is over. */
	assert_int_equal(tpt_vcpu_fault(h->vcpu[0], &f), -EIO);
	assert_int_equal(tpt_vcpu_load_roots(h->vcpu[0], &roots), -EIO);
	assert_int_equal(host_slot(h, 0, 1, GIB, MIB, GIB, 0), -EIO);
	assert_int_equal(tpt_vm_set_private(h->vm, 0, 1, false, NULL), -EIO);
	host_destroy(h);
}

static void a_fault_after_the_end_of_a_vm_that_never_ran_is_an_error_too(void **state)
{
	struct tpt_fault f = {.gpa = {0}, .error_code = READ};
	struct tpt_vm_config c;
	struct host *h;

	(void)state;
	host_config_npt(&c);
	h = host_create(&c, 0);
	assert_int_equal(tpt_vcpu_create(h->vm, 0, &h->vcpu[0]), 0);
	assert_int_equal(tpt_vm_teardown(h->vm), 0);
	assert_int_equal(tpt_vcpu_fault(h->vcpu[0], &f), -EIO);
	host_destroy(h);
}

/* A18: at an arbitrary point, with removal outstanding. */
static void A18_teardown_takes_back_what_is_blocked(void **state)
{
	struct host *h = td(0, 4);

	(void)state;
	ext_fail(&h->ext, TPT_CALL_REMOVE, 1, 4 * TRIES, -EBUSY);
	assert_int_equal(to_shared(h, 4, NULL), -EBUSY);
	assert_int_equal(host_stats(h).mirror.blocked, 4);
	assert_int_equal(tpt_vm_teardown(h->vm), 0);
	assert_int_equal(h->ext.leaves, 0);
	assert_int_equal(host_stats(h).mirror.blocked, 0);
	host_destroy(h);
}

static void busy_answers_at_the_end_are_tried_again(void **state)
{
	struct host *h = td(0, 4);

	(void)state;
	ext_fail(&h->ext, TPT_CALL_RELEASE, 1, 2, -EBUSY);
	ext_fail(&h->ext, TPT_CALL_RECLAIM_LEAF, 2, 3, -EBUSY);
	ext_fail(&h->ext, TPT_CALL_FREE_TABLE, 1, 1, -EBUSY);
	assert_int_equal(tpt_vm_teardown(h->vm), 0);
	assert_int_equal(h->ext.leaves + h->ext.tables, 0);
	assert_int_equal(host_stats(h).leaked_pages, 0);
	host_destroy(h);
}

/* A18: freed plus leaked is what was allocated. */
/* What is leaked is as much as the platform misses: allocated = freed + leaked. */
static void A18_what_the_owner_keeps_is_leaked_and_counted(void **state)
{
	struct host *h = td(0, 600);
	struct tpt_posix_stats p;
	struct tpt_vm_stats s;

	(void)state;
	ext_fail(&h->ext, TPT_CALL_RECLAIM_LEAF, 10, 5, -EIO);
	ext_fail(&h->ext, TPT_CALL_FREE_TABLE, 2, 2, -EIO);
	assert_int_equal(tpt_vm_teardown(h->vm), 0);
	s = host_stats(h);
	assert_int_equal(s.leaked_pages, 5 + 2);
	assert_int_equal(s.mirror.pages_4k, 0);
	assert_int_equal(s.mirror.tables, 0);
	assert_int_equal(h->ext.leaves, 5);
	assert_int_equal(h->ext.tables, 2);
	tpt_vcpu_destroy(h->vcpu[0]);
	tpt_posix_get_stats(h->posix, &p);
	assert_int_equal(p.pages_live, 2);
	assert_int_equal(host_stats(h).table_pages_live, 2);
	assert_int_equal(h->ext.wrong, 0);
	/* The two twins, reported as one misuse: leaked. */
	assert_int_equal(host_end(h), 1);
}

static void a_release_that_fails_leaks_every_page_of_the_owner(void **state)
{
	struct host *h = td(0, 600);
	struct tpt_posix_stats p;

	(void)state;
	ext_fail(&h->ext, TPT_CALL_RELEASE, 1, 1, -EIO);
	assert_int_equal(tpt_vm_teardown(h->vm), -EIO);
	assert_string_equal(h->ext.log, "R");
	assert_int_equal(host_stats(h).leaked_pages, 600 + 4);
	tpt_vcpu_destroy(h->vcpu[0]);
	(void)host_stats(h);
	tpt_posix_get_stats(h->posix, &p);
	assert_int_equal(p.pages_live, 4);
	assert_int_equal(host_end(h), 1);
}

static void a_lie_at_the_end_leaks_and_says_so(void **state)
{
	struct host *h = td(0, 4);

	(void)state;
	h->ext.script[TPT_CALL_RECLAIM_LEAF] = (struct ext_script){2, 1, 7, false};
	assert_int_equal(tpt_vm_teardown(h->vm), 0);
	assert_true(tpt_vm_is_dead(h->vm));
	assert_int_equal(host_stats(h).leaked_pages, 1);
	assert_int_equal(host_end(h), 0);

	h = td(0, 4);
	h->ext.script[TPT_CALL_RELEASE] = (struct ext_script){1, 1, 7, false};
	assert_int_equal(tpt_vm_teardown(h->vm), -EIO);
	assert_true(tpt_vm_is_dead(h->vm));
	assert_int_equal(host_stats(h).leaked_pages, 4 + 3);
	assert_int_equal(host_end(h), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(A5_a_chunk_of_n_is_n_blocks_one_track_one_kick_n_removes),
		cmocka_unit_test(holes_between_pages_cost_no_call),
		cmocka_unit_test(a_busy_call_is_tried_again_with_all_vcpus_held),
		cmocka_unit_test(a_block_that_stays_busy_ends_the_chunk_before_it),
		cmocka_unit_test(a_remove_that_stays_busy_stays_blocked_and_is_tried_again),
		cmocka_unit_test(
			a_track_that_stays_busy_leaves_blocked_entries_that_a_later_one_serves),
		cmocka_unit_test(an_error_for_good_in_phase_one_loses_nothing),
		cmocka_unit_test(an_error_for_good_in_phase_two_gives_the_page_back_to_the_guest),
		cmocka_unit_test(what_leaves_no_way_out_kills_the_vm_with_a_report),
		cmocka_unit_test(a_lie_in_any_phase_kills_the_vm),
		cmocka_unit_test(A5_whichever_call_fails_nothing_is_lost),
		cmocka_unit_test(a_slot_whose_pages_stay_is_still_there),
		cmocka_unit_test(a_hole_that_is_busy_frees_nothing),
		cmocka_unit_test(A18_teardown_is_one_release_and_one_reclaim_a_page),
		cmocka_unit_test(a_fault_after_the_end_of_a_vm_that_never_ran_is_an_error_too),
		cmocka_unit_test(A18_teardown_takes_back_what_is_blocked),
		cmocka_unit_test(busy_answers_at_the_end_are_tried_again),
		cmocka_unit_test(A18_what_the_owner_keeps_is_leaked_and_counted),
		cmocka_unit_test(a_release_that_fails_leaks_every_page_of_the_owner),
		cmocka_unit_test(a_lie_at_the_end_leaks_and_says_so),
	};

	return host_run_formats("mirror removal", tests);
}
