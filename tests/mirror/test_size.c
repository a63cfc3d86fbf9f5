// SPDX-License-Identifier: BSD-2-Clause
/*
 * Private mappings of 2 MiB and 1 GiB against an external table that fails on demand: what is
 * mapped large, how many calls a change of size takes, and what each failure leaves behind.
 */
#include "tests/support/host.h"

#define READ  TPT_PFERR_USER
#define PAGE  4096ull
#define BLOCK (2 * MIB)
#define TRIES 17 /* of a call that stays busy: one, and 16 with all vCPUs held */

/* A TD of @bytes from 0 on whose private leaves may be of @level. */
static struct host *td_of(enum tpt_level level, uint64_t bytes)
{
	struct tpt_vm_config c;
	struct host *h;

	host_config_td(&c);
	c.max_private_level = level;
	h = host_create(&c, 2);
	assert_int_equal(tpt_gmem_create(h->vm, bytes, &host_gmem, h, &h->gmem), 0);
	assert_int_equal(host_slot(h, 0, 0, 0, bytes, GIB, TPT_MEM_GUEST_MEMFD), 0);
	assert_int_equal(tpt_vm_set_private(h->vm, 0, bytes / PAGE, true, NULL), 0);
	return h;
}

static void map_small(struct host *h, uint64_t gpa, unsigned int nr)
{
	h->gmem_level = TPT_LEVEL_4K;
	for (unsigned int i = 0; i < nr; i++)
		assert_int_equal(host_fault(h, gpa + i * PAGE, READ), TPT_RET_PF_FIXED);
	h->gmem_level = TPT_LEVEL_1G;
}

static void forget(struct host *h)
{
	ext_log_clear(&h->ext);
	h->kicks = 0;
}

/* A TD with one 2 MiB leaf at 2 MiB. */
static struct host *td(void)
{
	struct host *h = td_of(TPT_LEVEL_2M, 64 * MIB);

	assert_int_equal(host_fault(h, BLOCK + 5 * PAGE, READ), TPT_RET_PF_FIXED);
	assert_int_equal(host_stats(h).mirror.pages_2m, 1);
	forget(h);
	return h;
}

/* A TD with 512 small leaves at 2 MiB that one could stand for. */
static struct host *td_uniform(void)
{
	struct host *h = td_of(TPT_LEVEL_2M, 64 * MIB);

	map_small(h, BLOCK, 512);
	forget(h);
	return h;
}

static int convert(struct host *h, uint64_t start, uint64_t end, bool private_)
{
	return tpt_vm_set_private(h->vm, start / PAGE, end / PAGE, private_, NULL);
}

static int accept_small(struct host *h, uint64_t gpa)
{
	struct tpt_fault f = {.gpa = {gpa}, .error_code = READ, .max_level = TPT_LEVEL_4K};
	int ret = tpt_vcpu_fault(h->vcpu[0], &f);

	if (ret == TPT_RET_PF_FIXED) {
		assert_int_equal(f.goal_level, TPT_LEVEL_4K);
		assert_int_equal(f.pfn.n, HOST_GMEM_PFN + gpa / PAGE);
		assert_int_equal(f.spte.w, host_mapping(h, TPT_TREE_MIRROR, 0, gpa).spte.w);
	}
	return ret;
}

static void append(char *log, char letter, unsigned int times)
{
	size_t len = strlen(log);

	memset(log + len, letter, times);
	log[len + times] = 0;
}

/* The log is @before, and then that of n small pages that go. */
static void assert_log(struct host *h, const char *before, unsigned int n)
{
	char want[2048] = "";

	strcpy(want, before);
	if (n) {
		append(want, 'b', n);
		strcat(want, "tK");
		append(want, 'r', n);
	}
	assert_string_equal(h->ext.log, want);
}

/* ---- what is mapped large ---- */

static void a_fault_maps_2m_in_one_call_where_everything_allows_it(void **state)
{
	struct host *h = td_of(TPT_LEVEL_2M, 63 * MIB);

	(void)state;
	assert_int_equal(host_fault(h, 5 * BLOCK + 7 * PAGE, READ), TPT_RET_PF_FIXED);
	assert_string_equal(h->ext.log, "llm");
	assert_int_equal(host_fault(h, 5 * BLOCK, READ), TPT_RET_PF_SPURIOUS);
	/* A slot's end, a backing of small pages, an attribute that is not the whole block's. */
	assert_int_equal(host_fault(h, 62 * MIB, READ), TPT_RET_PF_FIXED);
	h->gmem_level = TPT_LEVEL_4K;
	assert_int_equal(host_fault(h, 6 * BLOCK, READ), TPT_RET_PF_FIXED);
	h->gmem_level = TPT_LEVEL_1G;
	assert_int_equal(convert(h, 7 * BLOCK + PAGE, 7 * BLOCK + 2 * PAGE, false), 0);
	assert_int_equal(host_fault(h, 7 * BLOCK, READ), TPT_RET_PF_FIXED);
	/* What the guest asked for. */
	assert_int_equal(accept_small(h, 8 * BLOCK), TPT_RET_PF_FIXED);
	assert_int_equal(host_stats(h).mirror.pages_4k, 4);
	assert_int_equal(host_stats(h).mirror.pages_2m, 1);
	/* Where a table is, it stays. */
	assert_int_equal(host_fault(h, 6 * BLOCK + PAGE, READ), TPT_RET_PF_FIXED);
	assert_int_equal(host_stats(h).mirror.pages_4k, 5);
	host_destroy(h);
}

static void a_fault_never_maps_1g(void **state)
{
	struct host *h = td_of(TPT_LEVEL_1G, GIB);

	(void)state;
	assert_int_equal(host_fault(h, 0, READ), TPT_RET_PF_FIXED);
	assert_int_equal(host_stats(h).mirror.pages_2m, 1);
	host_destroy(h);
}

static void large_leaves_need_an_owner_that_splits(void **state)
{
	struct tpt_external_ops ops = ext_ops;
	struct tpt_vm_config c;
	struct tpt_vm *vm;
	struct host *h;

	(void)state;
	host_config_td(&c);
	h = host_prepare(&c);
	h->config.external = &ops;
	h->config.max_private_level = TPT_LEVEL_2M;
	ops.merge = NULL;
	assert_int_equal(tpt_vm_create(&h->config, &vm), -EINVAL);
	ops.split = NULL;
	assert_int_equal(tpt_vm_create(&h->config, &vm), -EINVAL);
	h->config.max_private_level = TPT_LEVEL_512G;
	assert_int_equal(tpt_vm_create(&h->config, &vm), -EINVAL);
	h->config.max_private_level = TPT_LEVEL_4K;
	assert_int_equal(tpt_vm_create(&h->config, &h->vm), 0);
	host_destroy(h);
}

/* ---- what goes ---- */

static void a_large_leaf_is_one_mapping_of_a_removal(void **state)
{
	struct host *h = td();

	(void)state;
	for (unsigned int i = 2; i < 5; i++)
		assert_int_equal(host_fault(h, i * BLOCK, READ), TPT_RET_PF_FIXED);
	forget(h);
	assert_int_equal(convert(h, 0, 64 * MIB, false), 0);
	assert_string_equal(h->ext.log, "bbbbtKrrrr");
	assert_int_equal(h->kicks, 1);
	assert_int_equal(h->ext.leaves, 0);
	host_destroy(h);
}

static void a_large_leaf_and_its_tables_are_one_reclaim_each(void **state)
{
	struct host *h = td();

	(void)state;
	assert_int_equal(tpt_vm_teardown(h->vm), 0);
	assert_string_equal(h->ext.log, "Rcff");
	assert_int_equal(h->ext.leaves, 0);
	assert_int_equal(h->ext.tables, 0);
	host_destroy(h);
}

static void a_part_of_a_large_leaf_goes_after_a_split(void **state)
{
	struct host *h = td();

	(void)state;
	assert_int_equal(convert(h, BLOCK + 3 * PAGE, BLOCK + 10 * PAGE, false), 0);
	/* It reaches out of both ends, and is split once. */
	assert_log(h, "btKs", 7);
	assert_int_equal(h->kicks, 2);
	assert_int_equal(host_stats(h).mirror.pages_4k, 505);
	assert_int_equal(host_stats(h).mirror.pages_2m, 0);
	assert_int_equal(host_fault(h, BLOCK + 2 * PAGE, READ), TPT_RET_PF_SPURIOUS);
	assert_int_equal(host_fault(h, BLOCK + 10 * PAGE, READ), TPT_RET_PF_SPURIOUS);
	host_destroy(h);
}

static void two_leaves_at_both_ends_share_a_track(void **state)
{
	struct host *h = td();

	(void)state;
	assert_int_equal(host_fault(h, 2 * BLOCK, READ), TPT_RET_PF_FIXED);
	assert_int_equal(host_fault(h, 3 * BLOCK, READ), TPT_RET_PF_FIXED);
	forget(h);
	/* 2 small ones, a large one and 3 small ones. */
	assert_int_equal(convert(h, 2 * BLOCK - 2 * PAGE, 3 * BLOCK + 3 * PAGE, false), 0);
	assert_log(h, "bbtKss", 6);
	assert_int_equal(host_stats(h).mirror.pages_4k, 510 + 509);
	host_destroy(h);
}

static void a_hole_in_a_gmem_splits_too(void **state)
{
	struct host *h = td();

	(void)state;
	assert_int_equal(tpt_gmem_punch_hole(h->gmem, BLOCK, PAGE), 0);
	assert_log(h, "btKs", 1);
	assert_int_equal(h->gmem_freed, 1);
	assert_int_equal(host_stats(h).mirror.pages_4k, 511);
	host_destroy(h);
}

static void a_slot_that_goes_takes_its_leaves_whole(void **state)
{
	struct host *h = td();

	(void)state;
	assert_int_equal(host_slot(h, 0, 0, 0, 0, GIB, 0), 0);
	assert_string_equal(h->ext.log, "btKr");
	host_destroy(h);
}

/* ---- accept ---- */

static void an_accept_of_less_than_the_leaf_splits_it(void **state)
{
	struct host *h = td();

	(void)state;
	assert_int_equal(accept_small(h, BLOCK + 9 * PAGE), TPT_RET_PF_FIXED);
	assert_string_equal(h->ext.log, "btKs");
	assert_int_equal(h->kicks, 1);
	assert_int_equal(host_stats(h).mirror.pages_4k, 512);
	assert_int_equal(accept_small(h, BLOCK + 10 * PAGE), TPT_RET_PF_SPURIOUS);
	assert_string_equal(h->ext.log, "btKs");
	host_destroy(h);
}

static void a_prefetch_splits_nothing(void **state)
{
	struct host *h = td();
	struct tpt_fault f = {
		.gpa = {BLOCK}, .error_code = READ, .max_level = TPT_LEVEL_4K, .prefetch = true};

	(void)state;
	assert_int_equal(tpt_vcpu_fault(h->vcpu[0], &f), TPT_RET_PF_SPURIOUS);
	assert_string_equal(h->ext.log, "");
	host_destroy(h);
}

/* Each call of a split busy to the end, or refused for good; then the guest tries again. */
static void a_split_that_fails_leaves_the_leaf(void **state)
{
	static const struct {
		enum tpt_external_call call;
		unsigned int times;
		int answer, ret;
		bool blocked;
	} rows[] = {
		{TPT_CALL_BLOCK, TRIES, -EBUSY, TPT_RET_PF_RETRY, false},
		{TPT_CALL_BLOCK, 1, -EPERM, -EPERM, false},
		{TPT_CALL_TRACK, TRIES, -EBUSY, TPT_RET_PF_RETRY, true},
		{TPT_CALL_SPLIT, TRIES, -EBUSY, TPT_RET_PF_RETRY, false},
		{TPT_CALL_SPLIT, 1, -EPERM, -EPERM, false},
	};

	(void)state;
	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct host *h = td();

		ext_fail(&h->ext, rows[i].call, 1, rows[i].times, rows[i].answer);
		assert_int_equal(accept_small(h, BLOCK), rows[i].ret);
		assert_int_equal(host_stats(h).mirror.pages_2m, 1);
		assert_int_equal(host_stats(h).mirror.blocked, rows[i].blocked);
		host_audit(h);
		/* Who doesn't mind its size waits for a BLOCKED one. */
		assert_int_equal(host_fault(h, BLOCK, READ),
				 rows[i].blocked ? TPT_RET_PF_RETRY : TPT_RET_PF_SPURIOUS);
		assert_int_equal(accept_small(h, BLOCK), TPT_RET_PF_FIXED);
		assert_int_equal(host_stats(h).mirror.pages_4k, 512);
		host_destroy(h);
	}
}

static void a_split_that_can_go_neither_way_stays_blocked_or_is_the_end(void **state)
{
	struct host *h = td();

	(void)state;
	ext_fail(&h->ext, TPT_CALL_SPLIT, 1, TRIES, -EBUSY);
	ext_fail(&h->ext, TPT_CALL_UNBLOCK, 1, TRIES, -EBUSY);
	assert_int_equal(accept_small(h, BLOCK), TPT_RET_PF_RETRY);
	assert_int_equal(host_stats(h).mirror.blocked, 1);
	host_audit(h);
	forget(h);
	assert_int_equal(accept_small(h, BLOCK), TPT_RET_PF_FIXED);
	assert_string_equal(h->ext.log, "s");
	host_destroy(h);

	h = td();
	ext_fail(&h->ext, TPT_CALL_SPLIT, 1, 1, -EPERM);
	ext_fail(&h->ext, TPT_CALL_UNBLOCK, 1, 1, -EPERM);
	assert_int_equal(accept_small(h, BLOCK), -EIO);
	assert_non_null(strstr(tpt_vm_report(h->vm), "external split failed with -1, and so did"));
	assert_int_equal(tpt_vm_teardown(h->vm), 0);
	assert_int_equal(h->ext.leaves, 0);
	assert_int_equal(h->ext.tables, 0);
	assert_int_equal(host_end(h), 0);
}

/* ---- merging what goes ---- */

static void uniform_tables_are_merged_before_they_go(void **state)
{
	struct host *h = td_uniform();

	(void)state;
	map_small(h, 2 * BLOCK, 512);
	map_small(h, 3 * BLOCK, 511);
	forget(h);
	assert_int_equal(convert(h, 0, 64 * MIB, false), 0);
	/* 2 tables, 511 pages that are no block: 513 mappings, in chunks of 512. */
	char want[2048] = "bbtKgg";
	append(want, 'b', 512);
	strcat(want, "tK");
	append(want, 'r', 512);
	strcat(want, "btKr");
	assert_string_equal(h->ext.log, want);
	assert_int_equal(h->ext.leaves, 0);
	/* The root's two, and the one that was no block. */
	assert_int_equal(h->ext.tables, 3);
	host_destroy(h);
}

static void a_table_that_reaches_out_of_the_range_is_not_merged(void **state)
{
	struct host *h = td_uniform();

	(void)state;
	assert_int_equal(convert(h, BLOCK + PAGE, 2 * BLOCK, false), 0);
	assert_log(h, "", 511);
	host_destroy(h);
}

static void frames_that_do_not_follow_one_another_are_not_merged(void **state)
{
	struct host *h = td_of(TPT_LEVEL_2M, 64 * MIB);

	(void)state;
	/* Page 7 of the block has a frame of another block. */
	map_small(h, BLOCK, 7);
	map_small(h, BLOCK + 8 * PAGE, 504);
	forget(h);
	assert_int_equal(convert(h, BLOCK, 2 * BLOCK, false), 0);
	assert_log(h, "", 511);
	host_destroy(h);
}

/* The guest has accepted only some: each table is asked for once. */
static void what_the_owner_does_not_merge_goes_leaf_by_leaf(void **state)
{
	struct host *h = td_uniform();

	(void)state;
	ext_fail(&h->ext, TPT_CALL_MERGE, 1, 1, -EAGAIN);
	assert_int_equal(convert(h, BLOCK, 2 * BLOCK, false), 0);
	assert_log(h, "btKgu", 512);
	assert_int_equal(h->ext.leaves, 0);
	host_destroy(h);

	h = td_uniform();
	map_small(h, 2 * BLOCK, 512);
	forget(h);
	ext_fail(&h->ext, TPT_CALL_MERGE, 1, 2, -EAGAIN);
	assert_int_equal(convert(h, BLOCK, 3 * BLOCK, false), 0);
	assert_int_equal(h->ext.calls[TPT_CALL_MERGE], 2);
	assert_int_equal(h->ext.leaves, 0);
	host_destroy(h);
}

/* A removal of small leaves that can be merged, whose call @call fails; then again. */
static void a_merge_that_fails_loses_nothing(void **state)
{
	static const struct {
		enum tpt_external_call call;
		unsigned int times;
		int answer, ret;
	} rows[] = {
		{TPT_CALL_BLOCK, TRIES, -EBUSY, 0},	 {TPT_CALL_BLOCK, 1, -EPERM, 0},
		{TPT_CALL_TRACK, TRIES, -EBUSY, -EBUSY}, {TPT_CALL_MERGE, TRIES, -EBUSY, 0},
		{TPT_CALL_MERGE, 1, -EPERM, 0},
	};

	(void)state;
	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct host *h = td_uniform();

		ext_fail(&h->ext, rows[i].call, 1, rows[i].times, rows[i].answer);
		assert_int_equal(convert(h, BLOCK, 2 * BLOCK, false), rows[i].ret);
		host_audit(h);
		if (rows[i].ret) {
			assert_int_equal(host_stats(h).mirror.blocked, 1);
			assert_int_equal(host_stats(h).mirror.pages_4k, 512);
			assert_int_equal(host_fault(h, BLOCK + 5 * PAGE, READ), TPT_RET_PF_RETRY);
			assert_int_equal(convert(h, BLOCK, 2 * BLOCK, false), 0);
		}
		assert_int_equal(h->ext.leaves, 0);
		host_destroy(h);
	}
}

static void a_table_left_blocked_is_anybodys_to_finish(void **state)
{
	struct host *h = td_uniform();

	(void)state;
	/* Neither merged nor given back. */
	ext_fail(&h->ext, TPT_CALL_MERGE, 1, 1, -EAGAIN);
	ext_fail(&h->ext, TPT_CALL_UNBLOCK, 1, TRIES, -EBUSY);
	assert_int_equal(convert(h, BLOCK, 2 * BLOCK, false), -EBUSY);
	assert_int_equal(host_stats(h).mirror.blocked, 1);
	host_audit(h);
	/* Somebody takes a part of it: it is opened for him. */
	forget(h);
	assert_int_equal(tpt_gmem_punch_hole(h->gmem, BLOCK + PAGE, PAGE), 0);
	assert_log(h, "u", 1);
	assert_int_equal(host_stats(h).mirror.blocked, 0);
	host_destroy(h);

	/* Or the guest ends. */
	h = td_uniform();
	ext_fail(&h->ext, TPT_CALL_MERGE, 1, 1, -EAGAIN);
	ext_fail(&h->ext, TPT_CALL_UNBLOCK, 1, TRIES, -EBUSY);
	assert_int_equal(convert(h, BLOCK, 2 * BLOCK, false), -EBUSY);
	assert_int_equal(tpt_vm_teardown(h->vm), 0);
	assert_int_equal(h->ext.leaves, 0);
	assert_int_equal(h->ext.tables, 0);
	host_destroy(h);

	/* Or nothing can be taken back at all. */
	h = td_uniform();
	ext_fail(&h->ext, TPT_CALL_MERGE, 1, 1, -EAGAIN);
	ext_fail(&h->ext, TPT_CALL_UNBLOCK, 1, TRIES, -EBUSY);
	ext_fail(&h->ext, TPT_CALL_RELEASE, 1, 1, -EPERM);
	assert_int_equal(convert(h, BLOCK, 2 * BLOCK, false), -EBUSY);
	assert_int_equal(tpt_vm_teardown(h->vm), -EPERM);
	assert_int_equal(host_stats(h).leaked_pages, 512 + 3);
	assert_int_equal(host_stats(h).mirror.blocked, 0);
	/* Of the library's pages only the owner's are gone: one complaint. */
	assert_int_equal(host_end(h), 1);
}

/* ---- recovery ---- */

static void recovery_makes_a_leaf_of_each_block_that_it_may(void **state)
{
	struct host *h = td_uniform();
	uint64_t made;

	(void)state;
	map_small(h, 2 * BLOCK, 512);
	map_small(h, 3 * BLOCK, 511);
	for (unsigned int i = 4; i < 14; i++)
		map_small(h, i * BLOCK, 512);
	forget(h);
	assert_int_equal(tpt_vm_private_recover(h->vm, 0, 16384, &made), 0);
	assert_int_equal(made, 12);
	/* Eight tables are looked at in a chunk, of which one has a hole. */
	assert_string_equal(h->ext.log, "bbbbbbbtKgggggggbbbbbtKggggg");
	assert_int_equal(host_stats(h).mirror.pages_2m, 12);
	assert_int_equal(host_stats(h).mirror.pages_4k, 511);
	assert_int_equal(host_stats(h).mirror.tables, 4);
	assert_int_equal(host_fault(h, BLOCK + 5 * PAGE, READ), TPT_RET_PF_SPURIOUS);
	host_audit(h);
	/* And nothing more. */
	forget(h);
	assert_int_equal(tpt_vm_private_recover(h->vm, 0, 16384, &made), 0);
	assert_int_equal(made, 0);
	assert_string_equal(h->ext.log, "");
	host_destroy(h);
}

static void what_speaks_against_a_leaf_is_heard(void **state)
{
	struct host *h = td_uniform();
	uint64_t made = 9;

	(void)state;
	/* Only a part of the block is asked for. */
	assert_int_equal(tpt_vm_private_recover(h->vm, 513, 16384, &made), 0);
	assert_int_equal(made, 0);
	/* The gmem doesn't have it as one block, or doesn't know. */
	h->gmem_level = TPT_LEVEL_4K;
	assert_int_equal(tpt_vm_private_recover(h->vm, 0, 16384, &made), 0);
	h->gmem_level = TPT_LEVEL_2M;
	h->gmem_error = -EAGAIN;
	assert_int_equal(tpt_vm_private_recover(h->vm, 0, 16384, &made), 0);
	h->gmem_error = 0;
	assert_string_equal(h->ext.log, "");
	/* A part of it is somebody else's to see. */
	assert_int_equal(convert(h, BLOCK, BLOCK + PAGE, false), 0);
	assert_int_equal(tpt_vm_private_recover(h->vm, 0, 16384, &made), 0);
	assert_int_equal(h->ext.calls[TPT_CALL_MERGE], 0);
	/* Back again, and mapped: now it may. */
	assert_int_equal(convert(h, BLOCK, BLOCK + PAGE, true), 0);
	assert_int_equal(host_fault(h, BLOCK, READ), TPT_RET_PF_FIXED);
	/* The owner says no, then yes. */
	ext_fail(&h->ext, TPT_CALL_MERGE, 1, 1, -EAGAIN);
	assert_int_equal(tpt_vm_private_recover(h->vm, 0, 16384, &made), 0);
	assert_int_equal(made, 0);
	host_audit(h);
	assert_int_equal(tpt_vm_private_recover(h->vm, 0, 16384, &made), 0);
	assert_int_equal(made, 1);
	assert_int_equal(tpt_vm_private_recover(h->vm, 5, 5, &made), -EINVAL);
	host_destroy(h);

	h = host_create_td(0, 64 * MIB, 1);
	assert_int_equal(tpt_vm_private_recover(h->vm, 0, 16384, &made), -EOPNOTSUPP);
	host_destroy(h);
}

/* Another vCPU accepts less, or takes a hole out of it, while the gmem is asked. */
static void split_meanwhile(struct host *h)
{
	h->in_lookup = NULL;
	assert_int_equal(accept_small(h, 2 * BLOCK), TPT_RET_PF_FIXED);
}

static void a_guest_may_split_what_is_being_recovered(void **state)
{
	struct host *h = td_of(TPT_LEVEL_1G, GIB);
	uint64_t made;

	(void)state;
	for (unsigned int i = 0; i < 512; i++)
		assert_int_equal(host_fault(h, i * BLOCK, READ), TPT_RET_PF_FIXED);
	h->in_lookup = split_meanwhile;
	assert_int_equal(tpt_vm_private_recover(h->vm, 0, GIB / PAGE, &made), 0);
	assert_int_equal(made, 0);
	assert_int_equal(host_stats(h).mirror.pages_2m, 511);
	host_audit(h);
	/* From small ones to 1 GiB in one go. */
	forget(h);
	assert_int_equal(tpt_vm_private_recover(h->vm, 0, GIB / PAGE, &made), 0);
	assert_int_equal(made, 2);
	assert_string_equal(h->ext.log, "btKgbtKg");
	assert_int_equal(host_stats(h).mirror.pages_1g, 1);
	assert_int_equal(host_stats(h).mirror.tables, 2);
	host_audit(h);
	/* A small part of it goes: two sizes down, at both ends, with two tracks. */
	forget(h);
	assert_int_equal(convert(h, BLOCK - 2 * PAGE, BLOCK + 3 * PAGE, false), 0);
	assert_log(h, "btKsbbtKss", 5);
	host_audit(h);
	/* An accept goes two down as well. */
	assert_int_equal(accept_small(h, 100 * BLOCK), TPT_RET_PF_FIXED);
	host_audit(h);
	assert_int_equal(tpt_vm_teardown(h->vm), 0);
	assert_int_equal(h->ext.leaves, 0);
	host_destroy(h);
}

static void a_gigabyte_is_one_mapping(void **state)
{
	struct host *h = td_of(TPT_LEVEL_1G, GIB);

	(void)state;
	for (unsigned int i = 0; i < 512; i++)
		assert_int_equal(host_fault(h, i * BLOCK, READ), TPT_RET_PF_FIXED);
	forget(h);
	/* 512 of 2 MiB, merged before they go. */
	assert_int_equal(convert(h, 0, GIB, false), 0);
	assert_string_equal(h->ext.log, "btKgbtKr");
	host_destroy(h);
}

static void a_recovery_that_stays_busy_can_be_called_again(void **state)
{
	static const enum tpt_external_call calls[] = {TPT_CALL_BLOCK, TPT_CALL_TRACK,
						       TPT_CALL_MERGE};

	(void)state;
	for (unsigned int i = 0; i < 3; i++) {
		struct host *h = td_uniform();
		uint64_t made = 0;
		int err;

		map_small(h, 2 * BLOCK, 512);
		ext_fail(&h->ext, calls[i], 1, TRIES, -EBUSY);
		err = tpt_vm_private_recover(h->vm, 0, 16384, &made);
		assert_int_equal(err, calls[i] == TPT_CALL_TRACK ? -EBUSY : 0);
		assert_int_equal(made, calls[i] == TPT_CALL_TRACK ? 0 : 1);
		host_audit(h);
		assert_int_equal(tpt_vm_private_recover(h->vm, 0, 16384, NULL), 0);
		assert_int_equal(host_stats(h).mirror.pages_2m, 2);
		assert_int_equal(host_stats(h).mirror.blocked, 0);
		host_destroy(h);
	}
}

/* ---- anything, while calls fail ---- */

#define RANDOM_BLOCKS 8

/* Each page's side, and what has come of it, against the plain map that the audit reads. */
static void random_step(struct host *h, uint64_t *random)
{
	uint64_t r = *random = *random * 6364136223846793005ull + 1442695040888963407ull;
	uint64_t page = (r >> 33) % (RANDOM_BLOCKS * 512), n = 1 + (r >> 20) % 700;
	uint64_t end = page + n < RANDOM_BLOCKS * 512 ? page + n : RANDOM_BLOCKS * 512;

	h->gmem_level = r >> 60 & 3 ? TPT_LEVEL_1G : TPT_LEVEL_4K;
	switch (r >> 56 & 15) {
	case 0:
		tpt_vm_set_private(h->vm, page, end, false, NULL);
		break;
	case 1:
	case 2:
		tpt_vm_set_private(h->vm, page, end, true, NULL);
		break;
	case 3:
		tpt_gmem_punch_hole(h->gmem, page * PAGE, (end - page) * PAGE);
		break;
	case 7:
	case 8:
		/* All of it new. */
		tpt_vm_set_private(h->vm, page, end, true, NULL);
		page = tpt_gfn_round(page, TPT_LEVEL_2M);
		tpt_gmem_punch_hole(h->gmem, page * PAGE, BLOCK);
		h->gmem_level = TPT_LEVEL_1G;
		host_fault(h, page * PAGE, READ);
		break;
	case 4:
		h->gmem_level = TPT_LEVEL_1G;
		tpt_vm_private_recover(h->vm, 0, RANDOM_BLOCKS * 512, NULL);
		break;
	case 5:
		accept_small(h, page * PAGE);
		break;
	case 6:
		page = tpt_gfn_round(page, TPT_LEVEL_2M);
		tpt_vm_set_private(h->vm, page, page + 512, true, NULL);
		for (unsigned int i = 0; i < 512; i++)
			accept_small(h, (page + i) * PAGE);
		break;
	default:
		host_fault(h, page * PAGE, READ);
	}
}

static void random_sizes_with_random_failures_leave_the_trees_equal(void **state)
{
	uint64_t splits = 0, merges = 0;

	(void)state;
	for (unsigned int seed = 1; seed <= 8; seed++) {
		struct host *h = td_of(TPT_LEVEL_2M, RANDOM_BLOCKS * BLOCK);
		uint64_t random = seed;

		h->ext.random = seed;
		for (unsigned int i = 0; i < 400; i++) {
			/* From none to so many that calls fail after 17 tries too. */
			static const unsigned int percent[] = {0, 20, 80, 0};

			h->ext.busy_percent = percent[i / 20 % 4];
			random_step(h, &random);
			h->ext.busy_percent = 0;
			host_audit(h);
		}
		splits += h->ext.done[TPT_CALL_SPLIT];
		merges += h->ext.done[TPT_CALL_MERGE];
		assert_int_equal(tpt_vm_teardown(h->vm), 0);
		assert_int_equal(h->ext.leaves, 0);
		assert_int_equal(h->ext.tables, 0);
		host_destroy(h);
	}
	assert_true(splits > 50);
	assert_true(merges > 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_fault_maps_2m_in_one_call_where_everything_allows_it),
		cmocka_unit_test(a_fault_never_maps_1g),
		cmocka_unit_test(large_leaves_need_an_owner_that_splits),
		cmocka_unit_test(a_large_leaf_is_one_mapping_of_a_removal),
		cmocka_unit_test(a_large_leaf_and_its_tables_are_one_reclaim_each),
		cmocka_unit_test(a_part_of_a_large_leaf_goes_after_a_split),
		cmocka_unit_test(two_leaves_at_both_ends_share_a_track),
		cmocka_unit_test(a_hole_in_a_gmem_splits_too),
		cmocka_unit_test(a_slot_that_goes_takes_its_leaves_whole),
		cmocka_unit_test(an_accept_of_less_than_the_leaf_splits_it),
		cmocka_unit_test(a_prefetch_splits_nothing),
		cmocka_unit_test(a_split_that_fails_leaves_the_leaf),
		cmocka_unit_test(a_split_that_can_go_neither_way_stays_blocked_or_is_the_end),
		cmocka_unit_test(uniform_tables_are_merged_before_they_go),
		cmocka_unit_test(a_table_that_reaches_out_of_the_range_is_not_merged),
		cmocka_unit_test(frames_that_do_not_follow_one_another_are_not_merged),
		cmocka_unit_test(what_the_owner_does_not_merge_goes_leaf_by_leaf),
		cmocka_unit_test(a_merge_that_fails_loses_nothing),
		cmocka_unit_test(a_table_left_blocked_is_anybodys_to_finish),
		cmocka_unit_test(recovery_makes_a_leaf_of_each_block_that_it_may),
		cmocka_unit_test(what_speaks_against_a_leaf_is_heard),
		cmocka_unit_test(a_guest_may_split_what_is_being_recovered),
		cmocka_unit_test(a_gigabyte_is_one_mapping),
		cmocka_unit_test(a_recovery_that_stays_busy_can_be_called_again),
		cmocka_unit_test(random_sizes_with_random_failures_leave_the_trees_equal),
	};

	return host_run_formats("mirror size", tests);
}
