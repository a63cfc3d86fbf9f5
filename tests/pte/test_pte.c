// SPDX-License-Identifier: BSD-2-Clause
/* Entry words against recorded ones and against the manuals, bit for bit. Touches no table. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "mmu/pte/pte.h"

#define MMU_PRESENT (1ull << 11)

static struct pte_format npt(void)
{
	struct pte_format f;

	pte_format_init(&f, TPT_FORMAT_NPT, &(struct pte_options){.maxphyaddr = 48});
	return f;
}

static struct pte_format ept(bool td)
{
	struct pte_format f;

	pte_format_init(&f, TPT_FORMAT_EPT, &(struct pte_options){.maxphyaddr = 48, .td = td});
	return f;
}

static void npt_words_are_those_that_kvm_installs(void **state)
{
	struct pte_format f = npt();
	struct pte_leaf leaf = {.pfn = {0x12345}, .level = TPT_LEVEL_4K, .accessed = true};

	(void)state;
	assert_int_equal(pte_make_leaf(&f, &leaf).w, 0x12345825);
	leaf.host_writable = true;
	assert_int_equal(pte_make_leaf(&f, &leaf).w, 0x12345a25);
	leaf.write = true;
	assert_int_equal(pte_make_leaf(&f, &leaf).w, 0x12345e67);
	leaf.accessed = false;
	assert_int_equal(pte_make_leaf(&f, &leaf).w, 0x12345e47);
	leaf.accessed = true;
	leaf.level = TPT_LEVEL_2M;
	leaf.pfn.n = 0x12200;
	assert_int_equal(pte_make_leaf(&f, &leaf).w, 0x12200ee7);
	/* A page that the host can't write is not writable, whatever is asked. */
	leaf.host_writable = false;
	assert_int_equal(pte_make_leaf(&f, &leaf).w, 0x122008a5);
	assert_int_equal(pte_table(&f, (tpt_hpa){0xabc000}).w, 0xabc827);
}

static void ept_words_carry_memory_type_and_suppress_ve(void **state)
{
	struct pte_format f = ept(false);
	struct pte_leaf leaf = {.pfn = {0x12345},
				.level = TPT_LEVEL_4K,
				.host_writable = true,
				.write = true,
				.accessed = true,
				.memtype = f.memtype_wb};

	(void)state;
	/* 63 suppress #VE, 58 and 57 ours, 11 ours, D 9, A 8, WB 6 in 5:3, XWR. */
	assert_int_equal(pte_make_leaf(&f, &leaf).w, 0x8600000012345b37);
	leaf.memtype = f.memtype_wb_ipat;
	assert_int_equal(pte_make_leaf(&f, &leaf).w, 0x8600000012345b77);
	leaf.memtype = f.memtype_uc;
	assert_int_equal(pte_make_leaf(&f, &leaf).w, 0x8600000012345b07);
	leaf.memtype = f.memtype_wb;
	leaf.host_writable = leaf.write = false;
	assert_int_equal(pte_make_leaf(&f, &leaf).w, 0x8000000012345935);
	leaf.accessed = false;
	leaf.level = TPT_LEVEL_1G;
	leaf.pfn.n = 0x40000;
	assert_int_equal(pte_make_leaf(&f, &leaf).w, 0x80000000400008b5);
	assert_int_equal(pte_table(&f, (tpt_hpa){0xabc000}).w, 0x8000000000abc907);
}

static void mmio_words_are_those_that_kvm_records(void **state)
{
	struct pte_format f = npt();
	struct pte_format e = ept(false);
	struct pte_format td = ept(true);

	(void)state;
	/* GFN fed00 in generations that a recording has. */
	assert_int_equal(pte_make_mmio(&f, 0xfed00, 0x3a, TPT_ACC_ALL).w, 0x80000fed001d7);
	assert_int_equal(pte_make_mmio(&f, 0xfed00, 0x54, TPT_ACC_ALL).w, 0x80000fed002a7);
	assert_int_equal(pte_make_mmio(&f, 0xfed00, 4, TPT_ACC_ALL).w, 0x80000fed00027);
	/* Writable and executable, not readable: a misconfiguration. */
	assert_int_equal(pte_make_mmio(&e, 0xfed00, 4, TPT_ACC_ALL).w, 0xfed00026);
	/* A TD's has nothing but address and generation: not present, #VE not suppressed. */
	assert_int_equal(pte_make_mmio(&td, 0xfed00, 4, TPT_ACC_ALL).w, 0xfed00020);
}

static void an_mmio_word_gives_back_generation_and_gfn(void **state)
{
	struct pte_format formats[] = {npt(), ept(false), ept(true)};

	(void)state;
	for (unsigned int i = 0; i < 3; i++) {
		for (uint32_t gen = 0; gen <= PTE_MMIO_GEN_MASK; gen++) {
			tpt_gfn gfn = (gen * 0x9e3779b97f4aull) & ((1ull << 36) - 1);
			tpt_spte e = pte_make_mmio(&formats[i], gfn, gen, TPT_ACC_ALL);

			if (pte_mmio_generation(e) != gen || pte_mmio_gfn(&formats[i], e) != gfn ||
			    pte_kind(&formats[i], e, 1) != PTE_MMIO)
				fail_msg("format %u generation %#x: %#llx", i, gen,
					 (unsigned long long)e.w);
		}
		/* What does not fit is dropped, not smeared. */
		assert_int_equal(pte_make_mmio(&formats[i], 1, 1u << 19, 7).w,
				 pte_make_mmio(&formats[i], 1, 0, 7).w);
	}
}

static void no_mmio_entries_where_they_cannot_be(void **state)
{
	struct pte_format f;

	(void)state;
	pte_format_init(&f, TPT_FORMAT_NPT, &(struct pte_options){.maxphyaddr = 52});
	assert_int_equal(f.mmio_mask, 0); /* no reserved bit is left */
	pte_format_init(&f, TPT_FORMAT_NPT, &(struct pte_options){.maxphyaddr = 51});
	assert_int_not_equal(f.mmio_mask, 0);
	pte_format_init(&f, TPT_FORMAT_EPT,
			&(struct pte_options){.maxphyaddr = 48, .no_mmio_caching = true});
	assert_int_equal(f.mmio_mask, 0);
}

static void a_blocked_leaf_keeps_frame_and_size_and_is_nothing_else(void **state)
{
	struct pte_format formats[] = {npt(), ept(false), ept(true)};
	static const uint64_t pfns[] = {0, 1, 0x12345, 0xfffffffff};

	(void)state;
	for (unsigned int i = 0; i < 3; i++) {
		for (unsigned int k = 0; k < 4; k++) {
			struct pte_leaf leaf = {.pfn = {pfns[k]},
						.level = TPT_LEVEL_4K,
						.host_writable = true,
						.write = true,
						.accessed = true,
						.memtype = formats[i].memtype_wb};
			tpt_spte small = pte_block(pte_make_leaf(&formats[i], &leaf)), large;

			leaf.level = TPT_LEVEL_2M;
			leaf.pfn.n &= ~511ull;
			large = pte_block(pte_make_leaf(&formats[i], &leaf));
			assert_int_equal(pte_kind(&formats[i], small, 1), PTE_BLOCKED);
			assert_int_equal(pte_kind(&formats[i], large, 2), PTE_BLOCKED);
			assert_int_equal(pte_pfn(small).n, pfns[k]);
			assert_int_equal(pte_pfn(large).n, pfns[k] & ~511ull);
			assert_true(large.w & PTE_PS);
			/* No processor sees anything in it, and it brings no #VE. */
			assert_int_equal(small.w & 7, 0);
			assert_true(small.w >> 63);
			assert_false(pte_is_present(small));
		}
	}
}

static void every_kind_is_told_from_every_other(void **state)
{
	struct pte_format formats[] = {npt(), ept(false), ept(true)};

	(void)state;
	for (unsigned int i = 0; i < 3; i++) {
		const struct pte_format *f = &formats[i];
		tpt_spte leaf = pte_make_leaf(
			f, &(struct pte_leaf){.pfn = {0x200}, .level = 2, .accessed = true});

		for (unsigned int level = 1; level <= 5; level++) {
			assert_int_equal(pte_kind(f, pte_empty(), level), PTE_EMPTY);
			assert_int_equal(pte_kind(f, pte_frozen(), level), PTE_FROZEN);
		}
		assert_int_equal(pte_kind(f, pte_table(f, (tpt_hpa){0x1000}), 2), PTE_TABLE);
		assert_int_equal(pte_kind(f, pte_table(f, (tpt_hpa){0x1000}), 5), PTE_TABLE);
		assert_int_equal(pte_kind(f, leaf, 2), PTE_LEAF);
		assert_int_equal(pte_kind(f, leaf, 1), PTE_LEAF);
		/* The constants are those that a word dump of KVM has. */
		assert_int_equal(pte_frozen().w, 0x80000000000005a0);
		assert_int_equal(pte_empty().w, 0x8000000000000000);
		assert_int_equal((pte_frozen().w | pte_empty().w) & (MMU_PRESENT | 7), 0);
	}
}

static void a_leaf_says_which_accesses_it_lets_through(void **state)
{
	struct pte_format formats[] = {npt(), ept(false)};

	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		const struct pte_format *f = &formats[i];
		struct pte_leaf leaf = {.pfn = {1}, .level = 1, .host_writable = true};
		tpt_spte read_only = pte_make_leaf(f, &leaf), writable;

		leaf.write = true;
		writable = pte_make_leaf(f, &leaf);
		assert_true(pte_allows(f, read_only, TPT_ACC_READ));
		assert_true(pte_allows(f, read_only, TPT_ACC_READ | TPT_ACC_EXEC));
		assert_false(pte_allows(f, read_only, TPT_ACC_READ | TPT_ACC_WRITE));
		assert_true(pte_allows(f, writable, TPT_ACC_READ | TPT_ACC_WRITE));
		assert_true(pte_allows(f, writable, TPT_ACC_READ | TPT_ACC_EXEC));
		writable.w = (writable.w | f->nx) & ~f->exec;
		assert_false(pte_allows(f, writable, TPT_ACC_READ | TPT_ACC_EXEC));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(npt_words_are_those_that_kvm_installs),
		cmocka_unit_test(ept_words_carry_memory_type_and_suppress_ve),
		cmocka_unit_test(mmio_words_are_those_that_kvm_records),
		cmocka_unit_test(an_mmio_word_gives_back_generation_and_gfn),
		cmocka_unit_test(no_mmio_entries_where_they_cannot_be),
		cmocka_unit_test(a_blocked_leaf_keeps_frame_and_size_and_is_nothing_else),
		cmocka_unit_test(every_kind_is_told_from_every_other),
		cmocka_unit_test(a_leaf_says_which_accesses_it_lets_through),
	};

	return cmocka_run_group_tests_name("pte", tests, NULL, NULL);
}
