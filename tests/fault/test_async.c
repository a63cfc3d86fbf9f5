// SPDX-License-Identifier: BSD-2-Clause
/* Pages that are being fetched, and pages that are broken: what the VMM is told, and what it does.
 */
#include "tests/support/host.h"

#define PAGE  4096ull
#define READ  TPT_PFERR_USER
#define WRITE (TPT_PFERR_USER | TPT_PFERR_WRITE)

static bool asked_nowait;

/* Not there yet, but only for who can wait. */
static int slow_lookup(void *ctx, const struct tpt_backing_query *q, struct tpt_backing_page *page)
{
	struct host *h = ctx;

	asked_nowait = q->nowait;
	if (h->error == -EINPROGRESS && !q->nowait)
		return -EAGAIN;
	return host_lookup(ctx, q, page);
}

static const struct tpt_backing_ops slow = {.size = sizeof(slow), .lookup = slow_lookup};

static struct host *vm(uint32_t address_spaces)
{
	struct tpt_vm_config c;
	struct host *h;

	host_config_npt(&c);
	c.address_spaces = address_spaces;
	h = host_prepare(&c);
	h->config.backing = &slow;
	h->level = TPT_LEVEL_4K;
	assert_int_equal(tpt_vm_create(&h->config, &h->vm), 0);
	assert_int_equal(tpt_vcpu_create(h->vm, 0, &h->vcpu[0]), 0);
	assert_int_equal(host_slot(h, 0, 0, 0, MIB, GIB, 0), 0);
	return h;
}

static void a_page_that_is_being_fetched_is_announced_and_mapped_when_ready(void **state)
{
	struct host *h = vm(1);
	const struct tpt_exit *exit = tpt_vcpu_exit(h->vcpu[0]);
	struct tpt_vcpu_stats s;
	uint64_t token;

	(void)state;
	h->error = -EINPROGRESS;
	assert_int_equal(host_fault(h, 5 * PAGE + 9, WRITE), TPT_RET_PF_RETRY);
	assert_true(asked_nowait);
	assert_int_equal(exit->reason, TPT_EXIT_ASYNC_PF);
	assert_int_equal(exit->gpa.a, 5 * PAGE + 9);
	token = exit->token;
	/* The same access is the same token, another is another. */
	assert_int_equal(host_fault(h, 5 * PAGE, WRITE), TPT_RET_PF_RETRY);
	assert_int_equal(exit->token, token);
	assert_int_equal(host_fault(h, 6 * PAGE, WRITE), TPT_RET_PF_RETRY);
	assert_int_not_equal(exit->token, token);
	assert_int_equal(host_fault(h, 5 * PAGE, READ), TPT_RET_PF_RETRY);
	assert_int_not_equal(exit->token, token);
	assert_int_equal(host_word(h, 5 * PAGE), 0);

	h->error = 0;
	assert_int_equal(tpt_vcpu_async_ready(h->vcpu[0], token), TPT_RET_PF_FIXED);
	assert_false(asked_nowait);
	assert_int_equal(exit->reason, TPT_EXIT_NONE);
	assert_int_equal(host_fault(h, 5 * PAGE, WRITE), TPT_RET_PF_SPURIOUS);
	assert_int_equal(tpt_vcpu_async_ready(h->vcpu[0], token), TPT_RET_PF_SPURIOUS);
	/* KVM's accounting: ready counts as fixed, and as nothing else. */
	tpt_vcpu_get_stats(h->vcpu[0], &s);
	assert_int_equal(s.pf_taken, 5);
	assert_int_equal(s.pf_fixed, 1);
	host_destroy(h);
}

static void a_plain_retry_announces_nothing(void **state)
{
	struct host *h = vm(1);

	(void)state;
	h->error = -EINPROGRESS;
	assert_int_equal(host_fault(h, 0, READ), TPT_RET_PF_RETRY);
	h->error = -EAGAIN;
	assert_int_equal(host_fault(h, 0, READ), TPT_RET_PF_RETRY);
	assert_int_equal(tpt_vcpu_exit(h->vcpu[0])->reason, TPT_EXIT_NONE);
	host_destroy(h);
}

static void who_prefaults_is_not_told_later(void **state)
{
	struct host *h = vm(1);
	uint64_t done;

	(void)state;
	h->error = -EINPROGRESS;
	assert_int_equal(tpt_vcpu_prefault(h->vcpu[0], tpt_gpa_make(0), PAGE, &done), -EAGAIN);
	assert_false(asked_nowait);
	assert_int_equal(tpt_vcpu_exit(h->vcpu[0])->reason, TPT_EXIT_NONE);
	host_destroy(h);
}

static void tokens_are_looked_at(void **state)
{
	struct host *h = vm(2);
	uint64_t token;

	(void)state;
	h->error = -EINPROGRESS;
	assert_int_equal(host_fault(h, 0, READ), TPT_RET_PF_RETRY);
	token = tpt_vcpu_exit(h->vcpu[0])->token;
	h->error = 0;
	assert_int_equal(tpt_vcpu_async_ready(h->vcpu[0], 0), -EINVAL);
	assert_int_equal(tpt_vcpu_async_ready(h->vcpu[0], token ^ 1), -EINVAL);
	assert_int_equal(tpt_vcpu_async_ready(h->vcpu[0], token | 0x800), -EINVAL);
	assert_int_equal(tpt_vcpu_async_ready(h->vcpu[0], token | 1ull << 60), -EINVAL);
	/* The vCPU is in SMM meanwhile: its page 0 is another's. */
	assert_int_equal(tpt_vcpu_set_smm(h->vcpu[0], true), 0);
	assert_int_equal(tpt_vcpu_async_ready(h->vcpu[0], token), TPT_RET_PF_RETRY);
	assert_int_equal(host_word(h, 0), 0);
	assert_int_equal(tpt_vcpu_set_smm(h->vcpu[0], false), 0);
	assert_int_equal(tpt_vcpu_async_ready(h->vcpu[0], token), TPT_RET_PF_FIXED);
	host_destroy(h);
}

/* Expected: 3.21, private faults are never asynchronous: the answer is not one, so it is an exit.
 */
static void a_private_page_is_never_fetched_behind_the_guests_back(void **state)
{
	struct host *h = host_create_td(0, MIB, 1);

	(void)state;
	h->gmem_error = -EINPROGRESS;
	assert_int_equal(host_fault(h, 0, READ), -EFAULT);
	assert_int_equal(tpt_vcpu_exit(h->vcpu[0])->reason, TPT_EXIT_MEMORY_FAULT);
	host_destroy(h);
}

/* Expected: KVM_EXIT_MEMORY_FAULT's page, with errno EHWPOISON; private if it was. */
static void a_broken_page_is_named(void **state)
{
	struct host *h = host_create_td(0, 2 * MIB, 1);
	const struct tpt_exit *exit = tpt_vcpu_exit(h->vcpu[0]);

	(void)state;
	assert_int_equal(tpt_vm_set_private(h->vm, 8, 16, false, NULL), 0);
	h->error = h->gmem_error = -EHWPOISON;
	for (unsigned int page = 7; page < 9; page++) {
		uint64_t gpa = page * PAGE, shared = page == 8 ? HOST_SHARED : 0;

		assert_int_equal(host_fault(h, shared | gpa | 0x123, READ), -EHWPOISON);
		assert_int_equal(exit->reason, TPT_EXIT_MEMORY_FAULT);
		assert_int_equal(exit->gpa.a, gpa);
		assert_int_equal(exit->size, PAGE);
		assert_int_equal(exit->flags, page == 7 ? TPT_MEMORY_FAULT_PRIVATE : 0);
	}
	host_destroy(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_page_that_is_being_fetched_is_announced_and_mapped_when_ready),
		cmocka_unit_test(a_plain_retry_announces_nothing),
		cmocka_unit_test(who_prefaults_is_not_told_later),
		cmocka_unit_test(tokens_are_looked_at),
		cmocka_unit_test(a_private_page_is_never_fetched_behind_the_guests_back),
		cmocka_unit_test(a_broken_page_is_named),
	};

	return cmocka_run_group_tests_name("async", tests, NULL, NULL);
}
