// SPDX-License-Identifier: BSD-2-Clause
/*
 * A14: memslots that come, move and go under a running guest: never MMIO for memory that is only
 * moving, never a frame that is no longer behind a page. With KVM's set_memory_region_test,
 * memslot_modification_stress_test and mmu_stress_test, as far as they speak of the MMU.
 */
#include <sched.h>

#include "tests/support/host.h"

#define PAGE  4096ull
#define READ  TPT_PFERR_USER
#define WRITE (TPT_PFERR_USER | TPT_PFERR_WRITE)

static struct host *vm(uint32_t flags, unsigned int nr_vcpus)
{
	struct tpt_vm_config c;
	struct host *h;

	host_config_npt(&c);
	c.flags = flags;
	h = host_create(&c, nr_vcpus);
	h->level = TPT_LEVEL_4K;
	return h;
}

/* The quirk, and without it. */
static const uint32_t quirks[] = {0, TPT_VM_SLOT_ZAP_ALL};

/* Expected: set_memory_region_test.c "delete": 0, MMIO after the delete, 0 after the slot is made
 * again, MMIO again. An access through a stale MMIO entry is a reserved-bit fault. */
static void A14_a_deleted_slot_is_mmio_and_a_new_one_is_memory(void **state)
{
	(void)state;
	for (unsigned int q = 0; q < 2; q++) {
		struct host *h = vm(quirks[q], 1);

		for (unsigned int round = 0; round < 3; round++) {
			uint64_t hva = (1 + round) * GIB;

			assert_int_equal(host_slot(h, 0, 7, GIB, 4 * MIB, hva, 0), 0);
			assert_int_equal(
				host_fault(h, GIB, round ? TPT_PFERR_RSVD : (uint64_t)READ),
				TPT_RET_PF_FIXED);
			assert_int_equal(host_mapping(h, TPT_TREE_DIRECT, 0, GIB).spte.w >> 12 &
						 0xffffffffff,
					 hva / PAGE);
			assert_int_equal(host_slot(h, 0, 7, 0, 0, 0, 0), 0);
			assert_int_equal(host_word(h, GIB), 0);
			assert_int_equal(host_fault(h, GIB, READ), TPT_RET_PF_EMULATE);
			assert_int_equal(tpt_vcpu_exit(h->vcpu[0])->gpa.a, GIB);
			assert_int_equal(host_fault(h, GIB, TPT_PFERR_RSVD), TPT_RET_PF_EMULATE);
		}
		host_destroy(h);
	}
}

/* ---- while a slot goes ---- */

static struct {
	struct host *h;
	const struct tpt_platform *platform;
	unsigned int at; /* the lock call before which the guest accesses */
	uint64_t gpa, code;
	int ret;
	enum tpt_exit_reason reason;
} between;

static void lock_after_an_access(void *ctx)
{
	if (between.at && !--between.at) {
		between.ret = host_fault(between.h, between.gpa, between.code);
		between.reason = tpt_vcpu_exit(between.h->vcpu[0])->reason;
	}
	between.platform->lock(ctx);
}

/*
 * Expected: 3.19, F84: between the two swaps of a move or a deletion an access to the slot is
 * RETRY, whatever the tables say; MMIO only afterwards. The zap gives way after its first chunk.
 */
static void A14_an_access_to_a_slot_that_is_going_is_tried_again(void **state)
{
	static const uint64_t codes[] = {READ, WRITE, TPT_PFERR_RSVD, WRITE | TPT_PFERR_PRESENT};

	(void)state;
	for (unsigned int i = 0; i < 8; i++) {
		bool move = i & 1;
		struct tpt_platform platform;
		struct tpt_vm_config c;
		struct host *h;

		host_config_npt(&c);
		h = host_prepare(&c);
		between.h = h;
		between.platform = h->config.platform;
		platform = *between.platform;
		platform.lock = lock_after_an_access;
		between.gpa = 0;
		between.code = codes[i / 2];
		between.at = 0;
		h->config.platform = &platform;
		h->level = TPT_LEVEL_4K;
		assert_int_equal(tpt_vm_create(&h->config, &h->vm), 0);
		assert_int_equal(tpt_vcpu_create(h->vm, 0, &h->vcpu[0]), 0);
		assert_int_equal(host_slot(h, 0, 0, 0, 32 * MIB, GIB, 0), 0);
		for (uint64_t gpa = 0; gpa < 32 * MIB; gpa += PAGE)
			assert_int_equal(host_fault(h, gpa, WRITE), TPT_RET_PF_FIXED);
		between.at = 2;
		assert_int_equal(
			host_slot(h, 0, 0, move ? GIB : 0, move ? 32 * MIB : 0, move ? GIB : 0, 0),
			0);
		assert_int_equal(between.at, 0);
		assert_int_equal(between.ret, TPT_RET_PF_RETRY);
		assert_int_equal(between.reason, TPT_EXIT_NONE);
		/* Afterwards it is MMIO where it was, and memory where it went. */
		assert_int_equal(host_fault(h, 0, READ), TPT_RET_PF_EMULATE);
		if (move)
			assert_int_equal(host_fault(h, GIB, READ), TPT_RET_PF_FIXED);
		host_destroy(h);
	}
}

/* The slot is deleted, and made again over other memory, in the gap of a fault. */
static void replace_the_slot(struct host *h)
{
	h->in_lookup = NULL;
	assert_int_equal(host_slot(h, 0, 0, 0, 0, 0, 0), 0);
	assert_int_equal(host_slot(h, 0, 0, 0, MIB, 8 * GIB, 0), 0);
}

/* The host takes the memory back in the gap: its notifier, and right after it the swap. */
static void invalidate_and_replace(struct host *h)
{
	struct tpt_invalidation t;

	h->in_lookup = NULL;
	assert_int_equal(
		tpt_vm_invalidate_begin(h->vm, tpt_hva_make(GIB), tpt_hva_make(2 * GIB), &t), 0);
	assert_int_equal(host_slot(h, 0, 0, 0, 0, 0, 0), 0);
	assert_int_equal(host_slot(h, 0, 0, 0, MIB, 8 * GIB, 0), 0);
	tpt_vm_invalidate_end(h->vm, &t);
}

/* Expected: what was answered for the old slot is never mapped for the new one. */
static void A14_a_frame_of_the_old_slot_is_never_mapped(void **state)
{
	void (*const races[])(struct host * h) = {replace_the_slot, invalidate_and_replace};

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		struct host *h = vm(quirks[i / 2], 1);

		assert_int_equal(host_slot(h, 0, 0, 0, MIB, GIB, 0), 0);
		h->in_lookup = races[i & 1];
		assert_int_equal(host_fault(h, 0, WRITE), TPT_RET_PF_RETRY);
		assert_int_equal(host_word(h, 0), 0);
		assert_int_equal(host_fault(h, 0, WRITE), TPT_RET_PF_FIXED);
		assert_int_equal(host_word(h, 0) >> 12 & 0xffffffffff, 8 * GIB / PAGE);
		host_destroy(h);
	}
}

/* ---- a guest on a thread of its own ---- */

struct guest {
	struct host *h;
	unsigned int vcpu;
	uint64_t start, bytes;
	_Atomic bool stop;
	_Atomic bool may_be_mmio; /* the slot is, or may be, elsewhere */
	_Atomic uint64_t accesses, mmio;
};

static void *run(void *arg)
{
	struct guest *g = arg;

	for (uint64_t at = 0; !atomic_load(&g->stop); at = (at + PAGE) % g->bytes) {
		bool before = atomic_load(&g->may_be_mmio);
		int ret = host_fault_on(g->h->vcpu[g->vcpu], g->start + at, WRITE, NULL);

		must(ret > 0);
		if (ret == TPT_RET_PF_EMULATE) {
			/* Only if the slot was away at some time during the access. */
			must(before || atomic_load(&g->may_be_mmio));
			atomic_fetch_add(&g->mmio, 1);
		}
		atomic_fetch_add(&g->accesses, 1);
	}
	return NULL;
}

static void wait_for(struct guest *g, uint64_t accesses)
{
	uint64_t until = atomic_load(&g->accesses) + accesses;

	while (atomic_load(&g->accesses) < until)
		sched_yield();
}

/* Expected: set_memory_region_test.c "move": up by 4 KiB and back, over memory that is misaligned
 * then; MMIO only at the page that the slot left. */
static void A14_set_memory_region_test_move(void **state)
{
	(void)state;
	for (unsigned int q = 0; q < 2; q++) {
		struct host *h = vm(quirks[q], 2);
		struct guest g = {.h = h, .start = GIB, .bytes = PAGE};
		pthread_t t;

		assert_int_equal(host_slot(h, 0, 3, GIB, 8 * MIB, 2 * GIB, 0), 0);
		assert_int_equal(pthread_create(&t, NULL, run, &g), 0);
		for (unsigned int round = 0; round < 40; round++) {
			wait_for(&g, 5);
			atomic_store(&g.may_be_mmio, true);
			assert_int_equal(host_slot(h, 0, 3, GIB + PAGE, 8 * MIB, 2 * GIB, 0), 0);
			wait_for(&g, 5);
			assert_int_equal(host_slot(h, 0, 3, GIB, 8 * MIB, 2 * GIB, 0), 0);
			wait_for(&g, 2);
			atomic_store(&g.may_be_mmio, false);
		}
		atomic_store(&g.stop, true);
		pthread_join(t, NULL);
		assert_true(atomic_load(&g.mmio) > 0);
		host_destroy(h);
	}
}

/* Expected: memslot_modification_stress_test.c: a slot elsewhere comes and goes, the guest never
 * notices; and, without the quirk, its entries stay: each page faults once. */
static void A14_memslot_modification_stress_test(void **state)
{
	const uint64_t pages = 512;

	(void)state;
	for (unsigned int q = 0; q < 2; q++) {
		struct host *h = vm(quirks[q], 2);
		struct guest g = {.h = h, .start = 0, .bytes = pages * PAGE};
		struct tpt_vm_stats s;
		pthread_t t;
		int ret;

		assert_int_equal(host_slot(h, 0, 0, 0, g.bytes, GIB, 0), 0);
		assert_int_equal(pthread_create(&t, NULL, run, &g), 0);
		wait_for(&g, pages);
		for (unsigned int i = 0; i < 200; i++) {
			assert_int_equal(host_slot(h, 0, 1, 4 * GIB, MIB, 2 * GIB, 0), 0);
			do {
				/* The other vCPU may be making itself a root. */
				ret = host_fault_on(h->vcpu[1], 4 * GIB, WRITE, NULL);
			} while (ret == TPT_RET_PF_RETRY);
			assert_int_equal(ret, TPT_RET_PF_FIXED);
			assert_int_equal(host_slot(h, 0, 1, 0, 0, 0, 0), 0);
		}
		wait_for(&g, pages);
		atomic_store(&g.stop, true);
		pthread_join(t, NULL);
		s = host_stats(h);
		if (quirks[q])
			assert_true(s.zap_all_fast >= 200);
		else
			assert_int_equal(s.vcpus.pf_fixed, pages + 200);
		assert_int_equal(atomic_load(&g.mmio), 0);
		host_destroy(h);
	}
}

/* ---- set_memory_region_test's errors ---- */

/* Expected: its "flags" and "max slots": each flag that there isn't, and one slot too many. */
static void A14_set_memory_region_test_errors(void **state)
{
	struct host *h = vm(0, 1);

	(void)state;
	for (unsigned int bit = 0; bit < 32; bit++) {
		uint32_t flag = 1u << bit;
		int expected = flag & (TPT_MEM_LOG_DIRTY | TPT_MEM_READONLY) ? 0 : -EINVAL;

		assert_int_equal(host_slot(h, 0, 0, 0, MIB, GIB, flag), expected);
		if (!expected)
			assert_int_equal(host_slot(h, 0, 0, 0, 0, 0, 0), 0);
	}
	for (uint32_t id = 0; id < TPT_MEMSLOT_IDS; id++)
		assert_int_equal(host_slot(h, 0, id, id * 2 * MIB, 2 * MIB, GIB, 0), 0);
	assert_int_equal(host_slot(h, 0, TPT_MEMSLOT_IDS, TPT_MEMSLOT_IDS * 2 * MIB, MIB, GIB, 0),
			 -EINVAL);
	assert_int_equal(host_fault(h, (TPT_MEMSLOT_IDS - 1) * 2 * MIB, READ), TPT_RET_PF_FIXED);
	host_destroy(h);
}

static int bind_gmem(struct host *h, uint32_t id, uint64_t gpa, uint64_t offset, uint32_t flags)
{
	const struct tpt_memory_region r = {.slot = id,
					    .flags = TPT_MEM_GUEST_MEMFD | flags,
					    .gpa = {gpa},
					    .size = 2 * MIB,
					    .hva = {GIB},
					    .gmem = h->gmem,
					    .gmem_offset = offset};

	return tpt_vm_set_memory_region(h->vm, &r);
}

/* Expected: its "private region" and "overlapping" parts, for a gmem of 6 MiB. */
static void A14_set_memory_region_test_private_regions(void **state)
{
	struct host *h = vm(TPT_VM_SW_PROTECTED, 1), *other = vm(TPT_VM_SW_PROTECTED, 1);
	struct tpt_gmem *mine;

	(void)state;
	assert_int_equal(tpt_gmem_create(other->vm, 6 * MIB, &host_gmem, other, &other->gmem), 0);
	assert_int_equal(tpt_gmem_create(h->vm, 6 * MIB, &host_gmem, h, &mine), 0);
	/* None, another VM's, past its end, unaligned; with a log, read-only. */
	assert_int_equal(bind_gmem(h, 0, 0, 0, 0), -EINVAL);
	h->gmem = other->gmem;
	assert_int_equal(bind_gmem(h, 0, 0, 0, 0), -EINVAL);
	h->gmem = mine;
	assert_int_equal(bind_gmem(h, 0, 0, 4 * MIB + PAGE, 0), -EINVAL);
	assert_int_equal(bind_gmem(h, 0, 0, 6 * MIB, 0), -EINVAL);
	assert_int_equal(bind_gmem(h, 0, 0, 1, 0), -EINVAL);
	assert_int_equal(bind_gmem(h, 0, 0, 0, TPT_MEM_LOG_DIRTY), -EINVAL);
	assert_int_equal(bind_gmem(h, 0, 0, 0, TPT_MEM_READONLY), -EINVAL);

	assert_int_equal(bind_gmem(h, 0, 0, 2 * MIB, 0), 0);
	/* The same pages of it, from the left and from the right. */
	assert_int_equal(bind_gmem(h, 1, 8 * MIB, MIB, 0), -EEXIST);
	assert_int_equal(bind_gmem(h, 1, 8 * MIB, 3 * MIB, 0), -EEXIST);
	assert_int_equal(bind_gmem(h, 1, 8 * MIB, 4 * MIB, 0), 0);
	/* What a slot leaves can be bound again. */
	assert_int_equal(host_slot(h, 0, 0, 0, 0, 0, 0), 0);
	assert_int_equal(bind_gmem(h, 2, 16 * MIB, MIB, 0), 0);
	host_destroy(h);
	host_destroy(other);
}

/* Expected: private_mem_kvm_exits_test.c: private, but the slot has no gmem, or is gone: -EFAULT
 * and an exit that names the page, PRIVATE. */
static void A14_private_mem_kvm_exits_test(void **state)
{
	struct host *h = vm(TPT_VM_SW_PROTECTED, 1);
	const struct tpt_exit *exit = tpt_vcpu_exit(h->vcpu[0]);

	(void)state;
	assert_int_equal(host_slot(h, 0, 0, 0, MIB, GIB, 0), 0);
	assert_int_equal(tpt_vm_set_private(h->vm, 0, 4, true, NULL), 0);
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(host_fault(h, 3 * PAGE + 5, READ | TPT_PFERR_PRIVATE), -EFAULT);
		assert_int_equal(exit->reason, TPT_EXIT_MEMORY_FAULT);
		assert_int_equal(exit->flags, TPT_MEMORY_FAULT_PRIVATE);
		assert_int_equal(exit->gpa.a, 3 * PAGE);
		assert_int_equal(exit->size, PAGE);
		if (!i)
			assert_int_equal(host_slot(h, 0, 0, 0, 0, 0, 0), 0);
	}
	host_destroy(h);
}

/* ---- mmu_stress_test ---- */

static void everywhere(struct host *h, uint64_t bytes, uint64_t code, int expected)
{
	for (uint64_t gpa = 0; gpa < bytes; gpa += PAGE)
		assert_int_equal(host_fault(h, gpa, code), expected);
}

static void protect(struct host *h, bool readonly)
{
	struct tpt_invalidation t;

	assert_true(tpt_vm_invalidate_begin(h->vm, tpt_hva_make(GIB), tpt_hva_make(2 * GIB), &t) >=
		    0);
	h->ro_start = GIB;
	h->ro_end = readonly ? 2 * GIB : GIB;
	tpt_vm_invalidate_end(h->vm, &t);
}

/*
 * Expected: its stages: write all; context reset, write all again; mprotect(PROT_READ), read all;
 * every write fails at the host; mprotect(PROT_WRITE), write all; slots go half by half.
 */
static void A14_mmu_stress_test(void **state)
{
	const uint64_t slot = MIB, bytes = 8 * slot;
	struct host *h = vm(0, 1);

	(void)state;
	for (uint32_t id = 0; id < 8; id++)
		assert_int_equal(host_slot(h, 0, id, id * slot, slot, GIB + id * slot, 0), 0);
	everywhere(h, bytes, WRITE, TPT_RET_PF_FIXED);
	tpt_vcpu_reset_context(h->vcpu[0]);
	everywhere(h, bytes, WRITE, TPT_RET_PF_SPURIOUS);
	protect(h, true);
	everywhere(h, bytes, READ, TPT_RET_PF_FIXED);
	everywhere(h, bytes, READ, TPT_RET_PF_SPURIOUS);
	everywhere(h, bytes, WRITE | TPT_PFERR_PRESENT, TPT_RET_PF_EMULATE);
	protect(h, false);
	everywhere(h, bytes, WRITE, TPT_RET_PF_FIXED);
	for (uint32_t left = 8; left > 1; left /= 2) {
		for (uint32_t id = left / 2; id < left; id++)
			assert_int_equal(host_slot(h, 0, id, 0, 0, 0, 0), 0);
		everywhere(h, left / 2 * slot, WRITE, TPT_RET_PF_SPURIOUS);
		assert_int_equal(host_fault(h, left / 2 * slot, READ), TPT_RET_PF_EMULATE);
	}
	host_destroy(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(A14_a_deleted_slot_is_mmio_and_a_new_one_is_memory),
		cmocka_unit_test(A14_an_access_to_a_slot_that_is_going_is_tried_again),
		cmocka_unit_test(A14_a_frame_of_the_old_slot_is_never_mapped),
		cmocka_unit_test(A14_set_memory_region_test_move),
		cmocka_unit_test(A14_memslot_modification_stress_test),
		cmocka_unit_test(A14_set_memory_region_test_errors),
		cmocka_unit_test(A14_set_memory_region_test_private_regions),
		cmocka_unit_test(A14_private_mem_kvm_exits_test),
		cmocka_unit_test(A14_mmu_stress_test),
	};

	return cmocka_run_group_tests_name("A14 memslots", tests, NULL, NULL);
}
