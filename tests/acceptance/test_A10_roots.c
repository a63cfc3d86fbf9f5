// SPDX-License-Identifier: BSD-2-Clause
/*
 * A10: which root a vCPU runs on. KVM keeps previous roots a vCPU in an order of last use; here a
 * root is the VM's and stays until it is invalidated, so that going back to any costs nothing.
 */
#include <sched.h>

#include "tests/support/host.h"

#define READ TPT_PFERR_USER

static struct tpt_roots load(struct tpt_vcpu *vcpu)
{
	struct tpt_roots roots;

	assert_int_equal(tpt_vcpu_load_roots(vcpu, &roots), 0);
	return roots;
}

static struct host *vm(uint32_t address_spaces, unsigned int nr_vcpus)
{
	struct tpt_vm_config c;
	struct host *h;

	host_config_npt(&c);
	c.address_spaces = address_spaces;
	h = host_create(&c, nr_vcpus);
	for (uint32_t as_id = 0; as_id < address_spaces; as_id++)
		assert_int_equal(host_slot(h, as_id, 0, 0, MIB, (as_id + 1) * GIB, 0), 0);
	h->level = TPT_LEVEL_4K;
	return h;
}

/* Expected: F1 (vCPUs of one role have one root), F13 (SMM is another role and another root). */
static void A10_vcpus_of_one_role_share_a_root(void **state)
{
	struct host *h = vm(2, 4);
	tpt_hpa normal = load(h->vcpu[0]).direct, smm;

	(void)state;
	for (unsigned int i = 1; i < 4; i++)
		assert_int_equal(load(h->vcpu[i]).direct.a, normal.a);
	assert_int_equal(host_stats(h).roots, 1);
	for (unsigned int i = 2; i < 4; i++)
		assert_int_equal(tpt_vcpu_set_smm(h->vcpu[i], true), 0);
	smm = load(h->vcpu[2]).direct;
	assert_int_not_equal(smm.a, normal.a);
	assert_int_equal(load(h->vcpu[3]).direct.a, smm.a);
	assert_int_equal(load(h->vcpu[1]).direct.a, normal.a);
	assert_int_equal(host_stats(h).roots, 2);
	host_destroy(h);
}

/* Expected: a previous root is found again, whole, and finding it holds nobody up. */
static void A10_going_back_to_a_root_makes_nothing_and_stops_nobody(void **state)
{
	struct host *h = vm(2, 1);
	tpt_hpa root[2];
	struct tpt_vm_stats before, after;

	(void)state;
	for (unsigned int smm = 0; smm < 2; smm++) {
		assert_int_equal(tpt_vcpu_set_smm(h->vcpu[0], smm), 0);
		root[smm] = load(h->vcpu[0]).direct;
		assert_int_equal(host_fault(h, 0, READ), TPT_RET_PF_FIXED);
	}
	before = host_stats(h);
	for (unsigned int i = 0; i < 100; i++) {
		assert_int_equal(tpt_vcpu_set_smm(h->vcpu[0], i & 1), 0);
		assert_int_equal(load(h->vcpu[0]).direct.a, root[i & 1].a);
		assert_int_equal(host_fault(h, 0, READ), TPT_RET_PF_SPURIOUS);
		tpt_vcpu_reset_context(h->vcpu[0]);
		assert_int_equal(load(h->vcpu[0]).direct.a, root[i & 1].a);
	}
	after = host_stats(h);
	assert_int_equal(after.direct.tables, before.direct.tables);
	/* Reading the counters is an exclusive section of its own. */
	assert_int_equal(after.exclusive, before.exclusive + 1);
	host_destroy(h);
}

/* Work that keeps the reclaimer busy, so that nothing behind it is freed. */
struct busy {
	struct tpt_deferred deferred;
	_Atomic bool stop;
};

static void be_busy(struct tpt_deferred *d)
{
	while (!atomic_load(&((struct busy *)d)->stop))
		sched_yield();
}

/* Expected: an invalid root is never loaded or walked again, though its page is still there. */
static void A10_an_invalid_root_is_never_used_again(void **state)
{
	struct host *h = vm(1, 2);
	struct busy busy = {.deferred.fn = be_busy};
	struct tpt_fault f = {.gpa = {0}, .error_code = READ};
	struct tpt_roots old, new_;

	(void)state;
	old = load(h->vcpu[0]);
	assert_int_equal(host_fault(h, 0, READ), TPT_RET_PF_FIXED);
	/* The old root is not freed: no chance that its page comes back as another. */
	h->config.platform->defer(h->config.platform_ctx, &busy.deferred);
	assert_int_equal(tpt_vm_zap_all_fast(h->vm), 0);
	/* Before it loads, a vCPU's fault means nothing. */
	assert_int_equal(tpt_vcpu_fault(h->vcpu[0], &f), TPT_RET_PF_RETRY);
	new_ = load(h->vcpu[0]);
	assert_int_not_equal(new_.direct.a, old.direct.a);
	assert_int_not_equal(new_.generation, old.generation);
	assert_int_equal(load(h->vcpu[1]).direct.a, new_.direct.a);
	assert_int_equal(tpt_vcpu_fault(h->vcpu[0], &f), TPT_RET_PF_FIXED);
	atomic_store(&busy.stop, true);
	assert_int_equal(host_stats(h).roots, 1);
	host_destroy(h);
}

/* Expected: F26, the table of section 0: context reset and zap-all-fast never touch a mirror. */
static void A10_a_mirror_root_is_kept(void **state)
{
	struct host *h = host_create_td(0, MIB, 2);
	struct tpt_roots old = load(h->vcpu[0]), new_;
	uint64_t calls;

	(void)state;
	assert_int_equal(host_fault(h, 0, READ), TPT_RET_PF_FIXED);
	calls = h->ext.logged;
	for (unsigned int i = 0; i < 4; i++) {
		if (i & 1)
			assert_int_equal(tpt_vm_zap_all_fast(h->vm), 0);
		tpt_vcpu_reset_context(h->vcpu[i / 2]);
		new_ = load(h->vcpu[i / 2]);
		assert_int_equal(new_.mirror.a, old.mirror.a);
	}
	assert_int_not_equal(new_.generation, old.generation);
	assert_int_equal(host_fault(h, 0, READ), TPT_RET_PF_SPURIOUS);
	assert_int_equal(h->ext.logged, calls);
	host_destroy(h);
}

/* Expected: F15, 5 levels only where 4 do not reach; a root's level is the VM's. */
static void A10_the_levels_reach_the_guests_addresses(void **state)
{
	static const struct {
		uint32_t levels, width;
		int ret;
	} rows[] = {{4, 48, 0}, {4, 49, -EINVAL}, {5, 48, 0}, {5, 52, 0}};

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		struct tpt_vm_config c;
		struct host *h;

		host_config_ept(&c);
		c.levels = rows[i].levels;
		c.guest_maxphyaddr = rows[i].width;
		h = host_prepare(&c);
		assert_int_equal(tpt_vm_create(&h->config, &h->vm), rows[i].ret);
		if (h->vm) {
			assert_int_equal(tpt_vcpu_create(h->vm, 0, &h->vcpu[0]), 0);
			assert_int_equal(load(h->vcpu[0]).levels, rows[i].levels);
		}
		assert_int_equal(host_end(h), 0);
	}
	assert_int_equal(tpt_vm_levels(46), 4);
	assert_int_equal(tpt_vm_levels(48), 4);
	assert_int_equal(tpt_vm_levels(49), 5);
	assert_int_equal(tpt_vm_levels(52), 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(A10_vcpus_of_one_role_share_a_root),
		cmocka_unit_test(A10_going_back_to_a_root_makes_nothing_and_stops_nobody),
		cmocka_unit_test(A10_an_invalid_root_is_never_used_again),
		cmocka_unit_test(A10_a_mirror_root_is_kept),
		cmocka_unit_test(A10_the_levels_reach_the_guests_addresses),
	};

	return cmocka_run_group_tests_name("A10 roots", tests, NULL, NULL);
}
