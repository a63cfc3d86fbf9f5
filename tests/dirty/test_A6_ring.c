// SPDX-License-Identifier: BSD-2-Clause
/*
 * A6, the ring's own rules, and that no log makes an external call.
 *
 * Derived from KVM's ring: an entry a write that gives W back, 64 kept back (and a whole
 * modification log with PML), the exit before the next entry to the guest, as many reset as were
 * collected, and bounded by that. And from the contract: dirty logging is a direct tree's matter.
 */
#include <triptych/dirty.h>

#include "tests/support/host.h"

#define PAGES 1024u
#define LOG   TPT_MEM_LOG_DIRTY
#define WRITE TPT_PFERR_WRITE

static struct host *ring_host(uint32_t flags, uint32_t size)
{
	struct tpt_vm_config c;
	struct host *h;

	host_config_ept(&c);
	c.flags = flags | TPT_VM_DIRTY_RING;
	c.dirty_ring_size = size;
	h = host_create(&c, 2);
	assert_int_equal(host_slot(h, 0, 5, 0, PAGES * 4096ull, GIB, LOG), 0);
	return h;
}

static int write_page(struct host *h, unsigned int vcpu, uint64_t gfn)
{
	return host_fault_on(h->vcpu[vcpu], gfn << 12, WRITE, NULL);
}

static uint32_t collect(struct host *h, unsigned int vcpu, struct tpt_dirty_gfn *e, uint32_t max)
{
	return tpt_vcpu_dirty_ring_collect(h->vcpu[vcpu], e, max);
}

static bool writable(struct host *h, uint64_t gfn)
{
	return host_word(h, gfn << 12) & 2;
}

static unsigned int bitmap_bits(struct host *h)
{
	uint64_t bits[PAGES / 64];
	unsigned int n = 0;

	assert_int_equal(tpt_vm_get_dirty_log(h->vm, 0, 5, bits), 0);
	for (unsigned int i = 0; i < PAGES / 64; i++)
		n += (unsigned int)__builtin_popcountll(bits[i]);
	return n;
}

static void A6_a_ring_that_has_only_its_reserve_left_exits_until_it_is_reset(void **state)
{
	struct host *h = ring_host(0, 256);
	struct tpt_dirty_gfn e[256];
	struct tpt_roots roots;

	(void)state;
	for (uint64_t gfn = 0; gfn < 256 - 64; gfn++)
		assert_int_equal(write_page(h, 0, gfn), TPT_RET_PF_FIXED);
	assert_int_equal(tpt_vcpu_load_roots(h->vcpu[0], &roots), -ENOSPC);
	assert_int_equal(tpt_vcpu_exit(h->vcpu[0])->reason, TPT_EXIT_DIRTY_RING_FULL);
	/* Only its own vCPU. */
	assert_int_equal(write_page(h, 1, 500), TPT_RET_PF_FIXED);
	/* Collecting alone gives no room. */
	assert_int_equal(collect(h, 0, e, 100), 100);
	for (uint32_t i = 0; i < 100; i++) {
		assert_int_equal(e[i].as_id, 0);
		assert_int_equal(e[i].slot, 5);
		assert_int_equal(e[i].offset, i);
	}
	assert_int_equal(tpt_vcpu_load_roots(h->vcpu[0], &roots), -ENOSPC);
	assert_int_equal(tpt_vm_reset_dirty_rings(h->vm), 100);
	assert_int_equal(tpt_vcpu_load_roots(h->vcpu[0], &roots), 0);
	assert_int_equal(tpt_vcpu_dirty_ring_used(h->vcpu[0]), 92);
	/* What was not collected was not reset. */
	assert_false(writable(h, 99));
	assert_true(writable(h, 100));
	assert_true(writable(h, 500));
	assert_int_equal(tpt_vm_reset_dirty_rings(h->vm), 0);
	assert_int_equal(collect(h, 0, e, 256), 92);
	assert_int_equal(collect(h, 0, e, 256), 0);
	assert_int_equal(collect(h, 1, e, 256), 1);
	assert_int_equal(e[0].offset, 500);
	assert_int_equal(tpt_vm_reset_dirty_rings(h->vm), 93);
	assert_false(writable(h, 500));
	assert_int_equal(bitmap_bits(h), 0);
	host_destroy(h);
}

/* A VMM that enters no more but faults all the same: the reserve is used up, then nothing changes.
 */
static void A6_a_ring_without_any_room_refuses_the_fault_and_changes_nothing(void **state)
{
	struct host *h = ring_host(0, 256);
	struct tpt_fault f;

	(void)state;
	for (uint64_t gfn = 0; gfn < 256; gfn++) {
		f = (struct tpt_fault){.gpa = {gfn << 12}, .error_code = WRITE};
		assert_int_equal(tpt_vcpu_fault(h->vcpu[0], &f), TPT_RET_PF_FIXED);
	}
	f = (struct tpt_fault){.gpa = {256 << 12}, .error_code = WRITE};
	assert_int_equal(tpt_vcpu_fault(h->vcpu[0], &f), -ENOSPC);
	assert_int_equal(tpt_vcpu_exit(h->vcpu[0])->reason, TPT_EXIT_DIRTY_RING_FULL);
	assert_int_equal(host_word(h, 256 << 12), 0);
	assert_int_equal(bitmap_bits(h), 0);
	host_destroy(h);
}

static void A6_what_no_vcpu_wrote_and_what_a_ring_has_no_room_for_is_in_the_bitmap(void **state)
{
	struct host *h = ring_host(TPT_VM_PML, 1024);
	struct tpt_dirty_gfn e[1024];
	struct tpt_roots roots;
	tpt_gpa gpas[512];

	(void)state;
	tpt_vm_mark_dirty(h->vm, 0, 7);
	assert_int_equal(tpt_vcpu_dirty_ring_used(h->vcpu[0]), 0);
	assert_int_equal(bitmap_bits(h), 1);
	assert_int_equal(bitmap_bits(h), 0);

	for (unsigned int i = 0; i < 512; i++)
		gpas[i].a = i * 4096ull;
	/* A log's worth is kept back, so two fit and the exit is due after one. */
	tpt_vcpu_pml(h->vcpu[0], gpas, 512);
	assert_int_equal(tpt_vcpu_load_roots(h->vcpu[0], &roots), -ENOSPC);
	tpt_vcpu_pml(h->vcpu[0], gpas, 512);
	assert_int_equal(tpt_vcpu_dirty_ring_used(h->vcpu[0]), 1024);
	assert_int_equal(bitmap_bits(h), 0);
	tpt_vcpu_pml(h->vcpu[0], gpas, 512);
	assert_int_equal(tpt_vcpu_dirty_ring_used(h->vcpu[0]), 1024);
	assert_int_equal(bitmap_bits(h), 512);
	assert_int_equal(collect(h, 0, e, 1024), 1024);
	assert_int_equal(tpt_vm_reset_dirty_rings(h->vm), 1024);
	host_destroy(h);
}

/* One flush, and pages of a slot that is gone, or shorter, are counted and left alone. */
static void A6_a_reset_flushes_once_and_passes_over_slots_that_are_gone(void **state)
{
	struct host *h = ring_host(0, 1024);
	struct tpt_dirty_gfn e[1024];
	uint64_t flushes;

	(void)state;
	for (uint64_t i = 0; i < 300; i++)
		assert_int_equal(write_page(h, i & 1, i * 389 % PAGES), TPT_RET_PF_FIXED);
	assert_int_equal(collect(h, 0, e, 1024) + collect(h, 1, e, 1024), 300);
	flushes = host_stats(h).flush[TPT_FLUSH_DIRTY_LOG];
	assert_int_equal(tpt_vm_reset_dirty_rings(h->vm), 300);
	assert_int_equal(host_stats(h).flush[TPT_FLUSH_DIRTY_LOG], flushes + 1);
	for (uint64_t i = 0; i < 300; i++)
		assert_false(writable(h, i * 389 % PAGES));

	assert_int_equal(write_page(h, 0, 9), TPT_RET_PF_FIXED);
	assert_int_equal(write_page(h, 0, PAGES - 1), TPT_RET_PF_FIXED);
	assert_int_equal(collect(h, 0, e, 1024), 2);
	assert_int_equal(host_slot(h, 0, 5, 0, 0, 0, 0), 0);
	assert_int_equal(host_slot(h, 0, 5, 0, 16 * 4096, GIB, LOG), 0);
	/* Where the old slot ended another one is now, that nobody logs. */
	assert_int_equal(host_slot(h, 0, 6, 512 * 4096, 512 * 4096, 2 * GIB, 0), 0);
	h->level = TPT_LEVEL_4K;
	assert_int_equal(write_page(h, 1, 9), TPT_RET_PF_FIXED);
	assert_int_equal(write_page(h, 1, PAGES - 1), TPT_RET_PF_FIXED);
	assert_int_equal(tpt_vm_reset_dirty_rings(h->vm), 2);
	assert_false(writable(h, 9));
	assert_true(writable(h, PAGES - 1));
	host_destroy(h);
}

static void A6_rings_of_a_wrong_size_or_beside_manual_clear_are_refused(void **state)
{
	static const struct {
		uint32_t flags, size;
		int err;
	} rows[] = {
		{TPT_VM_DIRTY_RING, 256, 0},
		{TPT_VM_DIRTY_RING, TPT_DIRTY_RING_MAX, 0},
		{TPT_VM_DIRTY_RING | TPT_VM_PML, 1024, 0},
		{TPT_VM_DIRTY_RING, 0, -EINVAL},
		{TPT_VM_DIRTY_RING, 128, -EINVAL},
		{TPT_VM_DIRTY_RING, 1000, -EINVAL},
		{TPT_VM_DIRTY_RING, 2 * TPT_DIRTY_RING_MAX, -EINVAL},
		{TPT_VM_DIRTY_RING | TPT_VM_PML, 512, -EINVAL},
		{TPT_VM_DIRTY_RING | TPT_VM_DIRTY_MANUAL, 256, -EINVAL},
		{0, 256, -EINVAL},
		{TPT_VM_NO_AD | TPT_VM_PML, 0, -EINVAL},
	};

	(void)state;
	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct tpt_vm_config c;
		struct host *h;

		host_config_ept(&c);
		c.flags = rows[i].flags;
		c.dirty_ring_size = rows[i].size;
		h = host_prepare(&c);
		assert_int_equal(tpt_vm_create(&h->config, &h->vm), rows[i].err);
		assert_int_equal(host_end(h), 0);
	}
}

static void A6_no_ring_can_be_reset_where_there_is_none(void **state)
{
	struct tpt_vm_config c;
	struct tpt_dirty_gfn e;
	struct host *h;

	(void)state;
	host_config_ept(&c);
	h = host_create(&c, 1);
	assert_int_equal(tpt_vm_reset_dirty_rings(h->vm), -EINVAL);
	assert_int_equal(tpt_vcpu_dirty_ring_collect(h->vcpu[0], &e, 1), 0);
	assert_int_equal(tpt_vcpu_dirty_ring_used(h->vcpu[0]), 0);
	host_destroy(h);
}

/* ---- a TD ---- */

static uint64_t external_calls(struct host *h)
{
	uint64_t n = 0;

	for (unsigned int i = 0; i < TPT_CALL_NR; i++)
		n += h->ext.calls[i];
	return n;
}

#define SLOT_GPA (64 * MIB)

/* Private pages are mapped; a plain slot beside them is logged in every way, and they are as
 * before.
 */
static void log_beside_private(uint32_t flags, uint32_t ring)
{
	struct tpt_vm_config c;
	struct tpt_dirty_gfn e[256];
	uint64_t bits[PAGES / 64], calls, word;
	struct host *h;

	host_config_td(&c);
	c.flags |= flags;
	c.dirty_ring_size = ring;
	h = host_create(&c, 1);
	assert_int_equal(tpt_gmem_create(h->vm, MIB, &host_gmem, h, &h->gmem), 0);
	assert_int_equal(host_slot(h, 0, 0, 0, MIB, GIB, TPT_MEM_GUEST_MEMFD), 0);
	assert_int_equal(tpt_vm_set_private(h->vm, 0, MIB / 4096, true, NULL), 0);
	for (uint64_t gpa = 0; gpa < MIB; gpa += 4096)
		assert_int_equal(host_fault(h, gpa, WRITE), TPT_RET_PF_FIXED);
	h->level = TPT_LEVEL_2M;
	assert_int_equal(host_slot(h, 0, 1, SLOT_GPA, PAGES * 4096ull, 2 * GIB, 0), 0);
	for (uint64_t i = 0; i < PAGES; i += 512)
		assert_int_equal(host_fault(h, HOST_SHARED | (SLOT_GPA + i * 4096), WRITE),
				 TPT_RET_PF_FIXED);
	word = host_mapping(h, TPT_TREE_MIRROR, 0, 0x5000).spte.w;
	assert_int_not_equal(word, 0);

	calls = external_calls(h);
	/* The private slot itself can have no log (KVM: guest_memfd). */
	assert_int_equal(host_slot(h, 0, 0, 0, MIB, GIB, TPT_MEM_GUEST_MEMFD | LOG), -EINVAL);
	assert_int_equal(host_slot(h, 0, 1, SLOT_GPA, PAGES * 4096ull, 2 * GIB, LOG), 0);
	for (uint64_t i = 0; i < 100; i++)
		assert_true(host_fault(h, HOST_SHARED | (SLOT_GPA + i * 4096),
				       WRITE | TPT_PFERR_PRESENT) > 0);
	assert_int_equal(tpt_vm_get_dirty_log(h->vm, 0, 1, bits), 0);
	if (flags & TPT_VM_DIRTY_MANUAL)
		assert_int_equal(tpt_vm_clear_dirty_log(h->vm, 0, 1, 0, PAGES, bits), 0);
	if (ring) {
		assert_int_equal(collect(h, 0, e, 256), 100);
		assert_int_equal(tpt_vm_reset_dirty_rings(h->vm), 100);
	}
	assert_int_equal(host_slot(h, 0, 1, SLOT_GPA, PAGES * 4096ull, 2 * GIB, 0), 0);
	assert_int_equal(external_calls(h), calls);
	assert_int_equal(host_mapping(h, TPT_TREE_MIRROR, 0, 0x5000).spte.w, word);
	host_destroy(h);
}

static void A6_a_log_in_a_td_makes_no_external_call(void **state)
{
	(void)state;
	log_beside_private(0, 0);
	log_beside_private(TPT_VM_EAGER_PAGE_SPLIT, 0);
	log_beside_private(
		TPT_VM_EAGER_PAGE_SPLIT | TPT_VM_DIRTY_MANUAL | TPT_VM_DIRTY_INITIALLY_SET, 0);
	log_beside_private(TPT_VM_DIRTY_RING, 256);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(A6_a_ring_that_has_only_its_reserve_left_exits_until_it_is_reset),
		cmocka_unit_test(A6_a_ring_without_any_room_refuses_the_fault_and_changes_nothing),
		cmocka_unit_test(
			A6_what_no_vcpu_wrote_and_what_a_ring_has_no_room_for_is_in_the_bitmap),
		cmocka_unit_test(A6_a_reset_flushes_once_and_passes_over_slots_that_are_gone),
		cmocka_unit_test(A6_rings_of_a_wrong_size_or_beside_manual_clear_are_refused),
		cmocka_unit_test(A6_no_ring_can_be_reset_where_there_is_none),
		cmocka_unit_test(A6_a_log_in_a_td_makes_no_external_call),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
