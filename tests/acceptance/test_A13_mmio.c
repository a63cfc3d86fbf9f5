// SPDX-License-Identifier: BSD-2-Clause
/*
 * A13: cached MMIO entries, and bug B12: their generation has 19 bits, not the 18 that KVM's own
 * documentation names.
 */
#include "tests/support/host.h"

#include "mmu/vm/vm.h"

#define PAGE 4096ull
#define READ TPT_PFERR_USER
#define RSVD TPT_PFERR_RSVD

static struct host *vm(bool td)
{
	struct tpt_vm_config c;

	host_config_ept(&c);
	if (td)
		host_config_td(&c);
	return host_create(&c, 1);
}

/* Entries made so far: an access that found its entry makes none. */
static uint64_t made(struct host *h)
{
	return host_stats(h).vcpus.pf_mmio_spte_created;
}

/* The word that the processor would meet at @gpa. */
static uint64_t word_at(struct host *h, uint64_t gpa)
{
	struct tree_iter it;

	assert_true(iter_start(&it, &h->vm->trees, TREE_DIRECT, gpa / PAGE, gpa / PAGE + 1, 1));
	while (it.level > 1 && iter_kind(&it) == PTE_TABLE)
		iter_down(&it);
	assert_int_equal(it.level, 1);
	return it.old.w;
}

static void set_generation(struct host *h, uint64_t generation)
{
	h->vm->slots.set[0].generation = generation;
}

/* Expected: F52, F53; each change of memslots is one more generation. */
static void A13_a_change_of_memslots_makes_an_entry_stale(void **state)
{
	struct host *h = vm(false);

	(void)state;
	assert_int_equal(host_fault(h, GIB, READ), TPT_RET_PF_EMULATE);
	assert_int_equal(made(h), 1);
	assert_int_equal(host_fault(h, GIB, RSVD), TPT_RET_PF_EMULATE);
	assert_int_equal(made(h), 1);
	assert_int_equal(tpt_vcpu_exit(h->vcpu[0])->reason, TPT_EXIT_MMIO);

	assert_int_equal(host_slot(h, 0, 0, 0, MIB, GIB, 0), 0);
	assert_int_equal(host_fault(h, GIB, RSVD), TPT_RET_PF_EMULATE);
	assert_int_equal(made(h), 2);
	/* And where the change was a memslot over the entry: memory it is. */
	assert_int_equal(host_slot(h, 0, 1, GIB, MIB, 2 * GIB, 0), 0);
	assert_int_equal(host_fault(h, GIB, RSVD), TPT_RET_PF_FIXED);
	host_destroy(h);
}

/* Expected: B12; an entry is as old as all 19 bits say: 2^18 changes later it is stale, not fresh.
 */
static void A13_B12_the_generation_has_19_bits(void **state)
{
	struct host *h = vm(false);

	(void)state;
	for (unsigned int bit = 0; bit < 19; bit++) {
		uint64_t before = made(h);

		set_generation(h, 0);
		assert_int_equal(host_fault(h, bit * PAGE, READ), TPT_RET_PF_EMULATE);
		set_generation(h, 1ull << bit);
		assert_int_equal(host_fault(h, bit * PAGE, RSVD), TPT_RET_PF_EMULATE);
		assert_int_equal(made(h), before + 2);
		assert_int_equal(host_fault(h, bit * PAGE, RSVD), TPT_RET_PF_EMULATE);
		assert_int_equal(made(h), before + 2);
	}
	/* The bits are where F52 has them: 7:0 in 10:3, 18:8 in 62:52. */
	set_generation(h, 0x40081);
	assert_int_equal(host_fault(h, 0x5a000, READ), TPT_RET_PF_EMULATE);
	assert_int_equal(word_at(h, 0x5a000), 0x6ull | 0x5a000 | 0x81ull << 3 | 0x400ull << 52);
	set_generation(h, 0);
	host_destroy(h);
}

/* Expected: F55; after 2^19 changes a stale entry would look fresh, so all of them go. And B12:
 * nothing goes at 2^18. */
static void A13_a_generation_that_wraps_zaps_all(void **state)
{
	struct host *h = vm(false);
	uint64_t before;

	(void)state;
	set_generation(h, (1ull << 18) - 1);
	assert_int_equal(host_fault(h, GIB, READ), TPT_RET_PF_EMULATE);
	assert_int_equal(host_slot(h, 0, 0, 0, MIB, GIB, 0), 0);
	assert_int_equal(host_stats(h).zap_all_fast, 0);

	set_generation(h, (1ull << 19) - 1);
	assert_int_equal(host_fault(h, GIB, READ), TPT_RET_PF_EMULATE);
	assert_int_equal(host_slot(h, 0, 1, MIB, MIB, 2 * GIB, 0), 0);
	assert_int_equal(host_stats(h).zap_all_fast, 1);
	assert_int_equal(host_stats(h).direct.mmio, 0);
	before = made(h);
	assert_int_equal(host_fault(h, GIB, READ), TPT_RET_PF_EMULATE);
	assert_int_equal(made(h), before + 1);
	host_destroy(h);
}

/* Expected: F57: RWX = 0 and suppress-#VE (bit 63) = 0, so that the guest has its #VE and no exit
 * follows; any other empty entry of a TD keeps bit 63. */
static void A13_a_tds_mmio_is_the_guests_own_ve(void **state)
{
	struct host *h = vm(true);
	uint64_t word;

	(void)state;
	assert_int_equal(host_fault(h, HOST_SHARED | GIB, READ), TPT_RET_PF_EMULATE);
	word = word_at(h, GIB);
	assert_int_equal(word & (1ull << 63 | 7), 0);
	assert_int_equal(word_at(h, GIB + PAGE), 1ull << 63);
	/* EPT without a TD: a misconfiguration, write and execute without read. */
	host_destroy(h);
	h = vm(false);
	assert_int_equal(host_fault(h, GIB, READ), TPT_RET_PF_EMULATE);
	assert_int_equal(word_at(h, GIB) & (1ull << 63 | 7), 6);
	host_destroy(h);
}

/* Expected: every GFN that a guest can have, and every generation, come out as they went in, and no
 * entry is anything but MMIO: what KVM moves for L1TF stands where no frame of the host's can be.
 */
static void A13_gfn_and_generation_round_trip(void **state)
{
	static const struct {
		enum tpt_format format;
		struct pte_options o;
		unsigned int bits;
	} rows[] = {
		{TPT_FORMAT_EPT, {.maxphyaddr = 52}, 40},
		{TPT_FORMAT_EPT, {.maxphyaddr = 46, .td = true}, 40},
		{TPT_FORMAT_NPT, {.maxphyaddr = 48}, 39},
	};
	uint64_t random = 3;

	(void)state;
	for (unsigned int i = 0; i < 3; i++) {
		struct pte_format f;

		pte_format_init(&f, rows[i].format, &rows[i].o);
		for (unsigned int n = 0; n < 100000; n++) {
			tpt_gfn gfn;
			uint32_t generation;
			tpt_spte w;

			random = random * 6364136223846793005ull + 1442695040888963407ull;
			/* A bit more each time, so that small and large ones come. */
			gfn = random >> 20 & ((1ull << (1 + n % rows[i].bits)) - 1);
			generation = random >> 7 & PTE_MMIO_GEN_MASK;
			w = pte_make_mmio(&f, gfn, generation, n & 7);
			assert_int_equal(pte_kind(&f, w, 1), PTE_MMIO);
			assert_int_equal(pte_mmio_gfn(&f, w), gfn);
			assert_int_equal(pte_mmio_generation(w), generation);
		}
	}
}

/* Expected: F56: caching off, or a host of 52 bits with NPT: emulated each time, no entry. */
static void A13_without_caching_each_access_is_emulated(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		struct tpt_vm_config c;
		struct host *h;

		host_config_npt(&c);
		if (i)
			c.maxphyaddr = 52;
		else
			c.flags = TPT_VM_NO_MMIO_CACHING;
		h = host_create(&c, 1);
		for (unsigned int n = 0; n < 3; n++)
			assert_int_equal(host_fault(h, GIB, READ), TPT_RET_PF_EMULATE);
		assert_int_equal(made(h), 0);
		assert_int_equal(host_stats(h).direct.tables, 1);
		host_destroy(h);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(A13_a_change_of_memslots_makes_an_entry_stale),
		cmocka_unit_test(A13_B12_the_generation_has_19_bits),
		cmocka_unit_test(A13_a_generation_that_wraps_zaps_all),
		cmocka_unit_test(A13_a_tds_mmio_is_the_guests_own_ve),
		cmocka_unit_test(A13_gfn_and_generation_round_trip),
		cmocka_unit_test(A13_without_caching_each_access_is_emulated),
	};

	return cmocka_run_group_tests_name("A13 mmio", tests, NULL, NULL);
}
