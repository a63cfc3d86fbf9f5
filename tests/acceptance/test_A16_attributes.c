// SPDX-License-Identifier: BSD-2-Clause
/*
 * A16: private and shared. The ranges of KVM's private_mem_conversions_test, the level of every
 * mapping against brute force, and a price that does not know how many pages there are.
 */
#include "tests/support/host.h"

#define PAGE  4096ull
#define READ  TPT_PFERR_USER
#define BYTES (8 * MIB)
#define PAGES (BYTES / PAGE)
#define HVA   (4 * GIB)

enum kind { SW_4K, SW_2M, TD_EPT, TD_NPT, KINDS };

static bool is_td(enum kind kind)
{
	return kind >= TD_EPT;
}

/* A VM with one slot of BYTES at 0, a gmem and ordinary memory behind it, all of it shared. */
static struct host *vm(enum kind kind)
{
	struct tpt_vm_config c;
	struct host *h;

	if (is_td(kind)) {
		host_td_format = kind == TD_NPT ? TPT_FORMAT_NPT : TPT_FORMAT_EPT;
		host_config_td(&c);
	} else {
		host_config_ept(&c);
		c.flags |= TPT_VM_SW_PROTECTED;
	}
	h = host_create(&c, 1);
	h->level = h->gmem_level = kind == SW_2M ? TPT_LEVEL_2M : TPT_LEVEL_4K;
	assert_int_equal(tpt_gmem_create(h->vm, BYTES, &host_gmem, h, &h->gmem), 0);
	assert_int_equal(host_slot(h, 0, 0, 0, BYTES, HVA, TPT_MEM_GUEST_MEMFD), 0);
	return h;
}

static int access_as(struct host *h, enum kind kind, uint64_t gpa, bool private_,
		     struct tpt_fault *f)
{
	if (is_td(kind))
		return host_fault_on(h->vcpu[0], gpa | (private_ ? 0 : HOST_SHARED), READ, f);
	return host_fault_on(h->vcpu[0], gpa, READ | (private_ ? TPT_PFERR_PRIVATE : 0), f);
}

/* The page is the one it should be, and as the other one it cannot be had. */
static void assert_page(struct host *h, enum kind kind, uint64_t gfn, bool private_)
{
	uint64_t frame = private_ ? HOST_GMEM_PFN + gfn : HVA / PAGE + gfn;
	struct tpt_fault f;

	assert_int_equal(access_as(h, kind, gfn * PAGE, !private_, &f), -EFAULT);
	assert_int_equal(tpt_vcpu_exit(h->vcpu[0])->reason, TPT_EXIT_MEMORY_FAULT);
	assert_int_equal(tpt_vcpu_exit(h->vcpu[0])->flags, private_ ? 0 : TPT_MEMORY_FAULT_PRIVATE);
	assert_true(access_as(h, kind, gfn * PAGE, private_, &f) >= TPT_RET_PF_FIXED);
	must(f.goal_level >= TPT_LEVEL_4K);
	assert_int_equal(f.pfn.n + gfn - tpt_gfn_round(gfn, f.goal_level), frame);
	assert_int_equal(tpt_vm_is_private(h->vm, gfn), private_);
}

/* Pages in and around [start, end), each as @which says. */
static void assert_pages(struct host *h, enum kind kind, uint64_t start, uint64_t end,
			 bool (*which)(uint64_t gfn, uint64_t start, uint64_t end))
{
	for (uint64_t gfn = 0; gfn < PAGES; gfn += gfn + 3 < start || gfn > end + 3 ? 61 : 1)
		assert_page(h, kind, gfn, which(gfn, start, end));
}

static bool none(uint64_t gfn, uint64_t start, uint64_t end)
{
	(void)gfn, (void)start, (void)end;
	return false;
}

static bool inside(uint64_t gfn, uint64_t start, uint64_t end)
{
	return gfn >= start && gfn < end;
}

static bool inside_and_even(uint64_t gfn, uint64_t start, uint64_t end)
{
	return inside(gfn, start, end) && (gfn - start) % 2 == 0;
}

/* Expected: the ranges and the stages of private_mem_conversions_test.c: what is converted has the
 * other memory, all else keeps its own; odd pages back, the even ones stay; all back; a hole. */
static void A16_private_mem_conversions_test(void **state)
{
	static const struct {
		uint64_t offset, size;
	} rows[] = {
		{0, PAGE}, {0, 2 * MIB}, {PAGE, PAGE}, {PAGE, 2 * MIB}, {2 * MIB, PAGE},
	};

	(void)state;
	for (enum kind kind = 0; kind < KINDS; kind++) {
		struct host *h = vm(kind);

		for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
			uint64_t start = rows[i].offset / PAGE;
			uint64_t end = start + rows[i].size / PAGE, done = 0, freed;

			assert_pages(h, kind, start, end, none);
			assert_int_equal(tpt_vm_set_private(h->vm, start, end, true, &done), 0);
			assert_int_equal(done, end);
			assert_pages(h, kind, start, end, inside);
			for (uint64_t gfn = start + 1; gfn < end; gfn += 2)
				assert_int_equal(
					tpt_vm_set_private(h->vm, gfn, gfn + 1, false, NULL), 0);
			assert_pages(h, kind, start, end, inside_and_even);
			assert_int_equal(tpt_vm_set_private(h->vm, start, end, false, NULL), 0);
			assert_pages(h, kind, start, end, none);

			/* PUNCH_HOLE under private pages: they are asked for anew. */
			assert_int_equal(tpt_vm_set_private(h->vm, start, end, true, NULL), 0);
			assert_pages(h, kind, start, end, inside);
			freed = atomic_load(&h->gmem_freed);
			assert_int_equal(
				tpt_gmem_punch_hole(h->gmem, start * PAGE, (end - start) * PAGE),
				0);
			assert_int_equal(atomic_load(&h->gmem_freed) - freed, end - start);
			assert_int_equal(host_mapping(h, is_td(kind), 0, start * PAGE).spte.w, 0);
			assert_pages(h, kind, start, end, inside);
			assert_int_equal(tpt_vm_set_private(h->vm, start, end, false, NULL), 0);
		}
		host_destroy(h);
	}
}

/* ---- brute force ---- */

#define SLOT_START 100u /* not aligned, and its end isn't either */
#define SLOT_END   1900u

/* Expected: F59 to F62 by the definition: a 2M block lies in the slot and is all of one kind. */
static enum tpt_level level_by_hand(const bool *private_, uint64_t gfn)
{
	uint64_t start = gfn & ~511ull;

	if (start < SLOT_START || start + 512 > SLOT_END)
		return TPT_LEVEL_4K;
	for (uint64_t i = start; i < start + 512; i++)
		if (private_[i] != private_[start])
			return TPT_LEVEL_4K;
	return TPT_LEVEL_2M;
}

static uint64_t random_state = 11;

static uint64_t pick(uint64_t n)
{
	random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
	return (random_state >> 33) % n;
}

static void A16_levels_are_what_brute_force_says(void **state)
{
	static bool private_[PAGES];
	struct tpt_vm_config c;
	struct host *h;
	unsigned int large = 0, small = 0;

	(void)state;
	host_config_npt(&c);
	c.flags |= TPT_VM_SW_PROTECTED;
	h = host_create(&c, 1);
	h->level = h->gmem_level = TPT_LEVEL_2M;
	assert_int_equal(tpt_gmem_create(h->vm, BYTES, &host_gmem, h, &h->gmem), 0);
	assert_int_equal(host_slot(h, 0, 0, SLOT_START * PAGE, (SLOT_END - SLOT_START) * PAGE,
				   HVA + SLOT_START * PAGE, TPT_MEM_GUEST_MEMFD),
			 0);
	for (unsigned int round = 0; round < 400; round++) {
		uint64_t start = SLOT_START + pick(SLOT_END - SLOT_START);
		uint64_t end = start + 1 + pick(pick(3) ? 40 : SLOT_END - start);
		bool to = pick(2);

		/* Often the whole, so that large blocks come back. */
		if (pick(6) == 0)
			start = SLOT_START, end = SLOT_END;
		if (end > SLOT_END)
			end = SLOT_END;
		assert_int_equal(tpt_vm_set_private(h->vm, start, end, to, NULL), 0);
		for (uint64_t gfn = start; gfn < end; gfn++)
			private_[gfn] = to;
		for (unsigned int i = 0; i < 20; i++) {
			uint64_t gfn = SLOT_START + pick(SLOT_END - SLOT_START);
			struct tpt_fault f;

			/* What is there already is not decided again. */
			assert_int_equal(tpt_vm_zap_all_fast(h->vm), 0);
			assert_int_equal(access_as(h, SW_2M, gfn * PAGE, private_[gfn], &f),
					 TPT_RET_PF_FIXED);
			assert_int_equal(f.req_level, level_by_hand(private_, gfn));
			*(f.req_level == TPT_LEVEL_2M ? &large : &small) += 1;
		}
		if (round % 50 == 0)
			host_audit(h);
	}
	/* Both happened often enough to mean something. */
	assert_true(large > 500 && small > 500);
	host_destroy(h);
}

/* Expected: a conversion is one range, however long; 2^28 pages are no more to remember than one.
 */
static void A16_a_terabyte_is_converted_at_the_price_of_a_page(void **state)
{
	struct tpt_vm_config c;
	struct tpt_posix_stats before, after;
	struct host *h;

	(void)state;
	host_config_ept(&c);
	c.flags |= TPT_VM_SW_PROTECTED;
	h = host_create(&c, 1);
	assert_int_equal(host_slot(h, 0, 0, 0, 1024 * GIB, HVA, 0), 0);
	tpt_posix_get_stats(h->posix, &before);
	for (unsigned int i = 0; i < 1000; i++)
		assert_int_equal(
			tpt_vm_set_private(h->vm, i & 1, (1ull << 28) - (i & 2), !(i & 4), NULL),
			0);
	tpt_posix_get_stats(h->posix, &after);
	assert_true(after.mem_live - before.mem_live <= 3);
	assert_true(after.mem_allocs - before.mem_allocs <= 1000);
	host_destroy(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(A16_private_mem_conversions_test),
		cmocka_unit_test(A16_levels_are_what_brute_force_says),
		cmocka_unit_test(A16_a_terabyte_is_converted_at_the_price_of_a_page),
	};

	return cmocka_run_group_tests_name("A16 attributes", tests, NULL, NULL);
}
