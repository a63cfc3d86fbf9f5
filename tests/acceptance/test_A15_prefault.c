// SPDX-License-Identifier: BSD-2-Clause
/*
 * A15: mapping before the guest asks. KVM's pre_fault_memory_test as a table, the errors of
 * KVM_PRE_FAULT_MEMORY, and bug B9: who prefaults must not wait for a memslot that is going away.
 */
#include <unistd.h>

#include "tests/support/host.h"

#define PAGE 4096ull
#define READ TPT_PFERR_USER
#define SIZE (2 * MIB + PAGE) /* of the slot, as in KVM's test */
#define BASE (64 * MIB)

enum kind { NPT, EPT, SW_SHARED, SW_PRIVATE, TD_SHARED, TD_PRIVATE, KINDS };

static bool is_private(enum kind kind)
{
	return kind == SW_PRIVATE || kind == TD_PRIVATE;
}

/* A VM of @kind with one slot of SIZE bytes at BASE. */
static struct host *vm_of(enum kind kind, enum tpt_level level)
{
	struct tpt_vm_config c;
	struct host *h;

	if (kind >= TD_SHARED)
		host_config_td(&c);
	else if (kind == NPT)
		host_config_npt(&c);
	else
		host_config_ept(&c);
	if (kind == SW_SHARED || kind == SW_PRIVATE)
		c.flags |= TPT_VM_SW_PROTECTED;
	h = host_create(&c, 1);
	h->level = h->gmem_level = level;
	if (is_private(kind)) {
		assert_int_equal(tpt_gmem_create(h->vm, BASE + SIZE, &host_gmem, h, &h->gmem), 0);
		assert_int_equal(host_slot(h, 0, 0, BASE, SIZE, GIB, TPT_MEM_GUEST_MEMFD), 0);
		assert_int_equal(
			tpt_vm_set_private(h->vm, BASE / PAGE, (BASE + SIZE) / PAGE, true, NULL),
			0);
	} else {
		assert_int_equal(host_slot(h, 0, 0, BASE, SIZE, GIB, 0), 0);
	}
	assert_int_equal(tpt_vm_allow_prefault(h->vm, true), 0);
	return h;
}

static uint64_t leaves(struct host *h, enum tpt_tree_kind tree)
{
	struct tpt_vm_stats s = host_stats(h);

	return host_leaves(tree == TPT_TREE_MIRROR ? &s.mirror : &s.direct);
}

/* Asks until nothing is left or it fails: what is left, and the last answer. */
static uint64_t prefault(struct host *h, uint64_t gpa, uint64_t size, int *last)
{
	uint64_t done;

	do {
		*last = tpt_vcpu_prefault(h->vcpu[0], tpt_gpa_make(gpa), size, &done);
		/* Either it came further or it failed, never both and never neither. */
		assert_true((*last == 0) == (done > 0));
		assert_true(done <= size && done % PAGE == 0);
		gpa += done;
		size -= done;
	} while (!*last && size);
	return size;
}

/* Expected: the three calls of pre_fault_memory_test.c and what it asserts is left after each. */
static void A15_the_table_of_pre_fault_memory_test(void **state)
{
	static const struct {
		uint64_t offset, size, left;
	} rows[] = {
		{0, 2 * MIB, 0},
		{2 * MIB, 2 * PAGE, PAGE},
		{SIZE, PAGE, PAGE},
	};

	(void)state;
	for (enum kind kind = NPT; kind < KINDS; kind++) {
		for (enum tpt_level level = TPT_LEVEL_4K; level <= TPT_LEVEL_2M; level++) {
			struct host *h = vm_of(kind, level);
			int last;

			for (unsigned int i = 0; i < 3; i++) {
				assert_int_equal(
					prefault(h, BASE + rows[i].offset, rows[i].size, &last),
					rows[i].left);
				assert_int_equal(last, rows[i].left ? -ENOENT : 0);
			}
			/* The guest then reads every page: nothing is left to fix. */
			for (uint64_t at = 0; at < SIZE; at += PAGE) {
				uint64_t gpa = BASE + at, code = READ;

				if (kind == SW_PRIVATE)
					code |= TPT_PFERR_PRIVATE;
				if (kind == TD_SHARED)
					gpa |= HOST_SHARED;
				assert_int_equal(host_fault(h, gpa, code), TPT_RET_PF_SPURIOUS);
			}
			host_destroy(h);
		}
	}
}

/* Expected: F79, "as if read-faulted, no A bit"; so the word of a read fault without A (bit 8). */
static void A15_the_entry_is_a_read_faults_without_the_accessed_bit(void **state)
{
	struct host *h = vm_of(EPT, TPT_LEVEL_4K);
	struct tpt_vcpu_stats s;
	uint64_t before, word;
	int last;

	(void)state;
	assert_int_equal(host_fault(h, BASE, READ), TPT_RET_PF_FIXED);
	before = host_word(h, BASE);
	assert_true(before & 1u << 8);
	assert_int_equal(prefault(h, BASE, 2 * PAGE, &last), 0);
	assert_int_equal(host_word(h, BASE), before);
	word = host_word(h, BASE + PAGE);
	assert_int_equal(word, (before + PAGE) & ~(1ull << 8));
	/* Nothing of it counts as a fault of the guest's. */
	tpt_vcpu_get_stats(h->vcpu[0], &s);
	assert_int_equal(s.pf_taken, 1);
	assert_int_equal(s.pf_fixed, 1);
	host_destroy(h);
}

/* Expected: progress by mapping size; one question a mapping shows how many there were. */
static void A15_a_huge_mapping_is_one_step(void **state)
{
	struct host *h = vm_of(NPT, TPT_LEVEL_2M);
	uint64_t done;

	(void)state;
	assert_int_equal(tpt_vcpu_prefault(h->vcpu[0], tpt_gpa_make(BASE + MIB), MIB + PAGE, &done),
			 0);
	assert_int_equal(done, MIB + PAGE);
	assert_int_equal(atomic_load(&h->lookups), 2);
	/* It may begin below the range and end behind it. */
	assert_int_equal(host_mapping(h, TPT_TREE_DIRECT, 0, BASE).level, TPT_LEVEL_2M);
	host_destroy(h);
}

/* Expected: the checks of KVM_PRE_FAULT_MEMORY (F79, 3.21). */
static void A15_ranges_that_cannot_be_are_refused(void **state)
{
	static const struct {
		uint64_t gpa, size;
	} bad[] = {
		{BASE + 1, PAGE}, {BASE, PAGE - 1},   {BASE, 0}, {~0ull & ~(PAGE - 1), PAGE},
		{BASE, 0 - BASE}, {1ull << 48, PAGE},
	};
	struct host *h = vm_of(NPT, TPT_LEVEL_4K);
	uint64_t done;

	(void)state;
	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		unsigned int lines = h->lines;

		done = 7;
		assert_int_equal(
			tpt_vcpu_prefault(h->vcpu[0], tpt_gpa_make(bad[i].gpa), bad[i].size, &done),
			-EINVAL);
		assert_int_equal(done, 0);
		assert_int_equal(h->lines, lines + 1);
	}
	assert_int_equal(leaves(h, TPT_TREE_DIRECT), 0);
	host_destroy(h);
}

/* Expected: F79, an alias of the page (the shared bit in the gpa) is -EINVAL. */
static void A15_a_tds_alias_is_refused(void **state)
{
	struct host *h = vm_of(TD_SHARED, TPT_LEVEL_4K);
	uint64_t done;

	(void)state;
	assert_int_equal(
		tpt_vcpu_prefault(h->vcpu[0], tpt_gpa_make(BASE | HOST_SHARED), PAGE, &done),
		-EINVAL);
	assert_int_equal(tpt_vcpu_prefault(h->vcpu[0], tpt_gpa_make(BASE), PAGE, &done), 0);
	assert_int_equal(leaves(h, TPT_TREE_DIRECT), 1);
	host_destroy(h);
}

/* Expected: 3.21, a TD before its finalization is -EOPNOTSUPP; any other VM may at once. */
static void A15_a_td_must_be_final_first(void **state)
{
	struct tpt_vm_config c;
	struct host *h = host_create_td(0, 4 * MIB, 1);
	uint64_t done;

	(void)state;
	assert_int_equal(tpt_vcpu_prefault(h->vcpu[0], tpt_gpa_make(0), PAGE, &done), -EOPNOTSUPP);
	assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 0, 1, TPT_ACC_READ, &done), -EOPNOTSUPP);
	assert_int_equal(done, 0);
	assert_int_equal(h->ext.calls[TPT_CALL_MAP], 0);
	assert_int_equal(tpt_vm_allow_prefault(h->vm, true), 0);
	assert_int_equal(tpt_vcpu_prefault(h->vcpu[0], tpt_gpa_make(0), PAGE, &done), 0);
	assert_int_equal(h->ext.calls[TPT_CALL_MAP], 1);
	host_destroy(h);

	host_config_npt(&c);
	h = host_create(&c, 1);
	assert_int_equal(host_slot(h, 0, 0, 0, MIB, GIB, 0), 0);
	assert_int_equal(tpt_vcpu_prefault(h->vcpu[0], tpt_gpa_make(0), PAGE, &done), 0);
	host_destroy(h);
}

/* Expected: a final answer of the owner's ends it; -EBUSY, which may be tried again, does not. */
static void A15_what_the_external_table_answers_comes_through(void **state)
{
	struct host *h = vm_of(TD_PRIVATE, TPT_LEVEL_4K);
	uint64_t done;

	(void)state;
	h->ext.script[TPT_CALL_MAP] = (struct ext_script){.at = 3, .times = 1, .answer = -EBUSY};
	assert_int_equal(tpt_vcpu_prefault(h->vcpu[0], tpt_gpa_make(BASE), 4 * PAGE, &done), 0);
	assert_int_equal(done, 4 * PAGE);
	h->ext.script[TPT_CALL_MAP] =
		(struct ext_script){.at = 3, .times = 1, .answer = -EOPNOTSUPP};
	assert_int_equal(tpt_vcpu_prefault(h->vcpu[0], tpt_gpa_make(BASE), 8 * PAGE, &done), 0);
	assert_int_equal(done, 6 * PAGE);
	h->ext.script[TPT_CALL_MAP] =
		(struct ext_script){.at = 1, .times = 1, .answer = -EOPNOTSUPP};
	assert_int_equal(tpt_vcpu_prefault(h->vcpu[0], tpt_gpa_make(BASE + 6 * PAGE), PAGE, &done),
			 -EOPNOTSUPP);
	h->ext.script[TPT_CALL_MAP] = (struct ext_script){.at = 1, .times = ~0u, .answer = -EBUSY};
	assert_int_equal(tpt_vcpu_prefault(h->vcpu[0], tpt_gpa_make(BASE + 6 * PAGE), PAGE, &done),
			 -EAGAIN);
	h->ext.script[TPT_CALL_MAP].times = 0;
	host_destroy(h);
}

/* ---- B9 ---- */

static struct {
	struct host *h;
	const struct tpt_platform *platform;
	unsigned int at; /* the lock call that somebody prefaults before */
	int ret, ret_premap;
} b9;

/* The deletion has given way between two chunks: the slot is INVALID, and nobody is inside. */
static void lock_after_a_prefault(void *ctx)
{
	uint64_t done;

	if (b9.at && !--b9.at) {
		b9.ret = tpt_vcpu_prefault(b9.h->vcpu[0], tpt_gpa_make(0), PAGE, &done);
		b9.ret_premap = tpt_vcpu_premap(b9.h->vcpu[0], 0, 8, TPT_ACC_READ, &done);
	}
	b9.platform->lock(ctx);
}

/*
 * Expected: B9. Here the deletion cannot go on before the prefault returns, as in KVM where its
 * grace period waits for the prefaulting vCPU: a prefault that waits for the slot never ends.
 */
static void A15_B9_a_slot_that_goes_away_is_not_waited_for(void **state)
{
	struct tpt_platform platform;
	struct tpt_vm_config c;
	struct host *h;

	(void)state;
	host_config_npt(&c);
	h = host_prepare(&c);
	b9.h = h;
	b9.platform = h->config.platform;
	platform = *b9.platform;
	platform.lock = lock_after_a_prefault;
	h->config.platform = &platform;
	assert_int_equal(tpt_vm_create(&h->config, &h->vm), 0);
	assert_int_equal(tpt_vcpu_create(h->vm, 0, &h->vcpu[0]), 0);
	h->level = TPT_LEVEL_4K;
	assert_int_equal(host_slot(h, 0, 0, 0, 64 * MIB, GIB, 0), 0);
	for (uint64_t gpa = 0; gpa < 64 * MIB; gpa += PAGE)
		assert_int_equal(host_fault(h, gpa, READ), TPT_RET_PF_FIXED);

	alarm(5);
	b9.at = 2; /* the first enters the update, the second comes after the first chunk */
	b9.ret = b9.ret_premap = 1;
	assert_int_equal(host_slot(h, 0, 0, 0, 0, 0, 0), 0);
	alarm(0);
	assert_int_equal(b9.at, 0);
	assert_int_equal(b9.ret, -EAGAIN);
	assert_int_equal(b9.ret_premap, -EAGAIN);
	assert_int_equal(leaves(h, TPT_TREE_DIRECT), 0);
	host_destroy(h);
}

/* Expected: the contract in fault.h; an invalidation in progress may be the caller's own. */
static void A15_an_invalidation_in_progress_is_not_waited_for(void **state)
{
	struct host *h = vm_of(NPT, TPT_LEVEL_4K);
	struct tpt_invalidation t;
	uint64_t done;

	(void)state;
	alarm(5);
	assert_true(tpt_vm_invalidate_begin(h->vm, tpt_hva_make(GIB + 4 * PAGE),
					    tpt_hva_make(GIB + 5 * PAGE), &t) >= 0);
	assert_int_equal(tpt_vcpu_prefault(h->vcpu[0], tpt_gpa_make(BASE), 8 * PAGE, &done), 0);
	assert_int_equal(done, 4 * PAGE);
	assert_int_equal(tpt_vcpu_prefault(h->vcpu[0], tpt_gpa_make(BASE + 4 * PAGE), PAGE, &done),
			 -EAGAIN);
	assert_int_equal(tpt_vcpu_premap(h->vcpu[0], BASE / PAGE, 8, TPT_ACC_READ, &done), 0);
	assert_int_equal(done, 4);
	tpt_vm_invalidate_end(h->vm, &t);
	assert_int_equal(tpt_vcpu_premap(h->vcpu[0], BASE / PAGE, 8, TPT_ACC_READ, &done), 0);
	assert_int_equal(done, 8);
	alarm(0);
	host_destroy(h);
}

/* Expected: the errors of the backing, as tpt_vcpu_fault() gives them, but no exit for a prefetch.
 */
static void A15_the_backings_errors_end_it(void **state)
{
	static const int errors[] = {-EINTR, -ENOMEM, -EFAULT};
	struct host *h = vm_of(NPT, TPT_LEVEL_4K);
	uint64_t done;

	(void)state;
	for (unsigned int i = 0; i < 3; i++) {
		h->error = errors[i];
		assert_int_equal(tpt_vcpu_prefault(h->vcpu[0], tpt_gpa_make(BASE), PAGE, &done),
				 errors[i]);
		assert_int_equal(tpt_vcpu_premap(h->vcpu[0], BASE / PAGE, 1, TPT_ACC_READ, &done),
				 errors[i]);
		assert_int_equal(tpt_vcpu_exit(h->vcpu[0])->reason, TPT_EXIT_NONE);
	}
	h->error = 0;
	host_destroy(h);
}

/* Converts the page in the gap of its own prefault, once. */
static void convert_in_the_gap(struct host *h)
{
	h->in_lookup = NULL;
	assert_int_equal(tpt_vm_set_private(h->vm, BASE / PAGE, BASE / PAGE + 1, false, NULL), 0);
}

/* Expected: the attribute at the end says which memory is mapped: a race is not an error. */
static void A15_a_conversion_under_way_decides_which_memory(void **state)
{
	struct host *h = vm_of(TD_PRIVATE, TPT_LEVEL_4K);
	uint64_t done;

	(void)state;
	h->in_lookup = convert_in_the_gap;
	assert_int_equal(tpt_vcpu_prefault(h->vcpu[0], tpt_gpa_make(BASE), PAGE, &done), 0);
	assert_int_equal(leaves(h, TPT_TREE_MIRROR), 0);
	assert_int_equal(leaves(h, TPT_TREE_DIRECT), 1);
	host_destroy(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(A15_the_table_of_pre_fault_memory_test),
		cmocka_unit_test(A15_the_entry_is_a_read_faults_without_the_accessed_bit),
		cmocka_unit_test(A15_a_huge_mapping_is_one_step),
		cmocka_unit_test(A15_ranges_that_cannot_be_are_refused),
		cmocka_unit_test(A15_a_tds_alias_is_refused),
		cmocka_unit_test(A15_a_td_must_be_final_first),
		cmocka_unit_test(A15_what_the_external_table_answers_comes_through),
		cmocka_unit_test(A15_B9_a_slot_that_goes_away_is_not_waited_for),
		cmocka_unit_test(A15_an_invalidation_in_progress_is_not_waited_for),
		cmocka_unit_test(A15_the_backings_errors_end_it),
		cmocka_unit_test(A15_a_conversion_under_way_decides_which_memory),
	};

	return host_run_formats("A15 prefault", tests);
}
