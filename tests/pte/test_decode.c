// SPDX-License-Identifier: BSD-2-Clause
/* Proves the explanation of entry words: known words of real machines, and the words that we build.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <triptych/spte.h>

#include "mmu/pte/pte.h"

static const struct tpt_word_field *field(const struct tpt_word *w, const char *name)
{
	for (uint32_t i = 0; i < w->nr_fields; i++)
		if (!strcmp(w->field[i].name, name))
			return &w->field[i];
	fail_msg("no field %s in a %s", name, w->kind);
	return NULL;
}

/* What is known of a word: how it is guessed, what it is, and the PFN or GFN in it. */
struct known {
	uint64_t word;
	enum tpt_word_format format;
	const char *kind;
	const char *frame; /* name of the field, NULL if there is none */
	uint64_t value;
};

static void check_known(const struct known *known, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		const struct known *k = &known[i];
		const char *reason = NULL;
		enum tpt_word_format guess = tpt_word_guess(k->word, &reason);
		struct tpt_word w;

		tpt_word_decode(k->word, k->format, &w);
		if (guess != k->format || strcmp(w.kind, k->kind) != 0)
			fail_msg("0x%llx: %s %s", (unsigned long long)k->word,
				 tpt_word_format_name(guess), w.kind);
		assert_true(reason && strlen(reason) > 20);
		assert_int_equal(w.format, k->format);
		if (k->frame)
			assert_int_equal(field(&w, k->frame)->value, k->value);
	}
}

/* cloud-hypervisor issue 8663: an AMD host with a 5-level root. */
static void public_sample_is_read_as_its_authors_found_it(void **state)
{
	static const struct known known[] = {
		{0xf39adc827, TPT_WORD_NPT, "table", "PFN", 0xf39adc},
		{0xa58e8f827, TPT_WORD_NPT, "table", "PFN", 0xa58e8f},
		{0x841cc0827, TPT_WORD_NPT, "table", "PFN", 0x841cc0},
		{0x2e76400ee7, TPT_WORD_NPT, "large leaf", "PFN", 0x2e76400},
		{0x420c94827, TPT_WORD_NPT, "table", "PFN", 0x420c94},
		{0x3124373e67, TPT_WORD_NPT, "leaf", "PFN", 0x3124373},
		{0x8000000000000000, TPT_WORD_EPT, "empty", NULL, 0},
	};
	struct tpt_word w;

	(void)state;
	check_known(known, sizeof(known) / sizeof(known[0]));
	tpt_word_decode(0x2e76400ee7, TPT_WORD_NPT, &w);
	assert_int_equal(field(&w, "P")->value, 1);
	assert_int_equal(field(&w, "W")->value, 1);
	assert_int_equal(field(&w, "U")->value, 1);
	assert_int_equal(field(&w, "A")->value, 1);
	assert_int_equal(field(&w, "D")->value, 1);
	assert_int_equal(field(&w, "PS")->value, 1);
	assert_int_equal(field(&w, "MMU_PRESENT")->value, 1);
	assert_int_equal(field(&w, "HOST_WRITABLE")->value, 1);
	assert_int_equal(field(&w, "MMU_WRITABLE")->value, 1);
	/* The same word as EPT: legal, but odd. */
	tpt_word_decode(0x2e76400ee7, TPT_WORD_EPT, &w);
	assert_string_equal(field(&w, "MEMTYPE")->meaning, "write-through (WT)");
	assert_int_equal(field(&w, "IPAT")->value, 1);
	assert_int_equal(field(&w, "D")->value, 1);
	assert_int_equal(field(&w, "A")->value, 0);
	/* The table word can't be EPT: reserved bits. */
	tpt_word_decode(0xf39adc827, TPT_WORD_EPT, &w);
	assert_int_equal(field(&w, "RESERVED")->value, 4);
}

/* Linux 6.1 on AMD: what the recorded traces hold. */
static void words_of_recorded_traces_are_known(void **state)
{
	static const struct known known[] = {
		{0x123456825, TPT_WORD_NPT, "leaf", "PFN", 0x123456},
		{0x123456e67, TPT_WORD_NPT, "leaf", "PFN", 0x123456},
		{0x123456e65, TPT_WORD_NPT, "leaf", "PFN", 0x123456},
		{0x123400ee7, TPT_WORD_NPT, "large leaf", "PFN", 0x123400},
		{0x123456827, TPT_WORD_NPT, "table", "PFN", 0x123456},
		{0x825, TPT_WORD_NPT, "leaf", "PFN", 0},
		{0xe67, TPT_WORD_NPT, "leaf", "PFN", 0},
		{0xee7, TPT_WORD_NPT, "large leaf", "PFN", 0},
		{0x827, TPT_WORD_NPT, "table", "PFN", 0},
		{0x80000fee001d7, TPT_WORD_MMIO, "MMIO", "GFN", 0xfee00},
		{0x80000fec002a7, TPT_WORD_MMIO, "MMIO", "GFN", 0xfec00},
		{0x80000fed00027, TPT_WORD_MMIO, "MMIO", "GFN", 0xfed00},
		{0, TPT_WORD_EPT, "empty", NULL, 0},
		{0x5a0, TPT_WORD_EPT, "frozen", NULL, 0},
		{0x80000000000005a0, TPT_WORD_EPT, "frozen", NULL, 0},
	};
	struct tpt_word w;

	(void)state;
	check_known(known, sizeof(known) / sizeof(known[0]));
	tpt_word_decode(0x80000fee001d7, TPT_WORD_MMIO, &w);
	assert_int_equal(field(&w, "GENERATION_LOW")->value, 0x3a);
	assert_int_equal(field(&w, "GENERATION_HIGH")->value, 0);
	tpt_word_decode(0x3080000fec002a7, TPT_WORD_MMIO, &w);
	assert_int_equal(field(&w, "GENERATION_LOW")->value, 0x54);
	assert_int_equal(field(&w, "GENERATION_HIGH")->value, 0x30);
}

/* Raw entries of TDX module 1.5.01, as it kept them in answers that were recorded. */
static void secure_ept_states_are_known(void **state)
{
	static const struct known known[] = {
		{0x80e0000000000000, TPT_WORD_SEPT, "FREE", "PFN", 0},
		{0x8000000100014007, TPT_WORD_SEPT, "NL_MAPPED", "PFN", 0x100014},
		{0x8080000100012000, TPT_WORD_SEPT, "NL_BLOCKED", "PFN", 0x100012},
		{0x80000001100000f7, TPT_WORD_SEPT, "MAPPED", "PFN", 0x110000},
		{0x80800001000400f0, TPT_WORD_SEPT, "BLOCKED", "PFN", 0x100040},
		{0x81000001100000f0, TPT_WORD_SEPT, "PENDING", "PFN", 0x110000},
		{0x81800001000400f0, TPT_WORD_SEPT, "PENDING_BLOCKED", "PFN", 0x100040},
		{0x81100001000400f0, TPT_WORD_SEPT, "PENDING", "PFN", 0x100040},
		{0x84000001000400f7, TPT_WORD_SEPT, "MAPPED", "PFN", 0x100040},
		{0x84800001000400f0, TPT_WORD_SEPT, "BLOCKED", "PFN", 0x100040},
		{0x80c0000000000000, TPT_WORD_SEPT, "REMOVED", "PFN", 0},
	};
	struct tpt_word w;

	(void)state;
	check_known(known, sizeof(known) / sizeof(known[0]));
	tpt_word_decode(0x81000001100000f0, TPT_WORD_SEPT, &w);
	assert_string_equal(field(&w, "TDP")->meaning, "pending: the guest has yet to accept it");
	assert_string_equal(field(&w, "MEMTYPE")->meaning, "write-back (WB)");
	/* Locked: bit 11 is the MMU's mark elsewhere, so that only who knows can say. */
	tpt_word_decode(0x81100001000408f0, TPT_WORD_SEPT, &w);
	assert_string_equal(w.kind, "PENDING");
	assert_int_equal(field(&w, "TDEL")->value, 1);
	tpt_word_decode(0x00000001000410f3, TPT_WORD_SEPT, &w);
	assert_string_equal(w.kind, "in no state that the module has");
}

/* ---- the words that the library builds ------------------------------------------------------ */

static void check_built(tpt_spte e, enum tpt_word_format format, const char *kind)
{
	const struct known known = {e.w, format, kind, NULL, 0};

	check_known(&known, 1);
}

static void leaves_that_we_build_are_recognised(void **state)
{
	static const enum tpt_word_format formats[] = {TPT_WORD_EPT, TPT_WORD_NPT};
	static const struct pte_options options = {.maxphyaddr = 46};

	(void)state;
	for (unsigned int n = 0; n < 2 * 2 * 2 * 3 * 2; n++) {
		struct pte_format f;
		struct pte_leaf leaf = {
			.pfn = {0x40000 * 5},
			.level = TPT_LEVEL_4K + n / 8 % 3,
			.host_writable = n & 1,
			.write = n & 2,
			.accessed = true,
		};
		struct tpt_word w;
		tpt_spte e;

		pte_format_init(&f, (enum tpt_format)(n / 24), &options);
		leaf.memtype = n & 4 ? f.memtype_wb_ipat : f.memtype_wb;
		e = pte_make_leaf(&f, &leaf);
		check_built(e, formats[n / 24], leaf.level > TPT_LEVEL_4K ? "large leaf" : "leaf");
		tpt_word_decode(e.w, formats[n / 24], &w);
		assert_int_equal(field(&w, "PFN")->value, leaf.pfn.n);
		assert_int_equal(field(&w, "W")->value, leaf.host_writable && leaf.write);
		assert_int_equal(field(&w, "D")->value, leaf.host_writable && leaf.write);
		assert_int_equal(field(&w, "HOST_WRITABLE")->value, leaf.host_writable);
		assert_int_equal(field(&w, "MMU_WRITABLE")->value,
				 leaf.host_writable && leaf.write);
		assert_int_equal(field(&w, "A")->value, 1);
		assert_int_equal(field(&w, "MMU_PRESENT")->value, 1);
	}
}

static void other_words_that_we_build_are_recognised(void **state)
{
	static const struct pte_options plain = {.maxphyaddr = 46};
	static const struct pte_options td = {.maxphyaddr = 46, .td = true};
	struct pte_format ept, npt, tdx;
	struct pte_leaf leaf = {.pfn = {0x12345}, .level = TPT_LEVEL_4K};
	tpt_spte e;
	struct tpt_word w;

	(void)state;
	pte_format_init(&ept, TPT_FORMAT_EPT, &plain);
	pte_format_init(&npt, TPT_FORMAT_NPT, &plain);
	pte_format_init(&tdx, TPT_FORMAT_EPT, &td);
	check_built(pte_table(&ept, (tpt_hpa){0x7000}), TPT_WORD_EPT, "table");
	check_built(pte_table(&npt, (tpt_hpa){0x7000}), TPT_WORD_NPT, "table");
	check_built(pte_empty(), TPT_WORD_EPT, "empty");
	check_built(pte_frozen(), TPT_WORD_EPT, "frozen");
	check_built(pte_make_mmio(&ept, 0xfee00, 0x30154, 7), TPT_WORD_MMIO, "MMIO");
	check_built(pte_make_mmio(&npt, 0xfee00, 0x30154, 7), TPT_WORD_MMIO, "MMIO");
	check_built(pte_make_mmio(&tdx, 0xfee00, 0x30154, 7), TPT_WORD_MMIO, "MMIO of a TD");
	tpt_word_decode(pte_make_mmio(&npt, 0xfee00, 0x30154, 7).w, TPT_WORD_MMIO, &w);
	assert_int_equal(field(&w, "GENERATION_LOW")->value, 0x54);
	assert_int_equal(field(&w, "GENERATION_HIGH")->value, 0x301);
	leaf.memtype = ept.memtype_wb;
	e = pte_block(pte_make_leaf(&ept, &leaf));
	check_built(e, TPT_WORD_EPT, "blocked leaf");
	tpt_word_decode(e.w, TPT_WORD_EPT, &w);
	assert_int_equal(field(&w, "PFN")->value, 0x12345);
	assert_int_equal(field(&w, "BLOCKED")->value, 1);
	leaf = (struct pte_leaf){.pfn = {0x12200}, .level = TPT_LEVEL_2M};
	e = pte_block(pte_make_leaf(&ept, &leaf));
	check_built(e, TPT_WORD_EPT, "blocked large leaf");
}

/* ---- every word ----------------------------------------------------------------------------- */

static uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

/* Fields go down from bit 63, hold the word's bits, and what they leave out is 0. */
static void check_fields(uint64_t word, const struct tpt_word *w)
{
	uint64_t seen = 0, said = 0;
	unsigned int below = 64;

	assert_true(w->nr_fields > 0 && w->nr_fields <= TPT_WORD_MAX_FIELDS);
	assert_non_null(w->kind);
	for (uint32_t i = 0; i < w->nr_fields; i++) {
		const struct tpt_word_field *f = &w->field[i];
		uint64_t mask = (f->high - f->low == 63 ? 0 : 1ull << (f->high - f->low + 1)) - 1;

		assert_true(f->high < below && f->low <= f->high);
		below = f->low;
		assert_true(f->name && f->meaning && f->source);
		seen |= mask << f->low;
		said |= f->value << f->low;
	}
	assert_true(said == word);
	assert_true((word & ~seen) == 0);
}

static void every_word_is_explained_whole_in_every_format(void **state)
{
	uint64_t x = 0x9e3779b97f4a7c15;

	(void)state;
	for (unsigned int n = 0; n < 200000; n++) {
		uint64_t word = next_random(&x), other = next_random(&x);
		const char *reason = NULL;
		struct tpt_word w;

		/* Also words with few bits set, and with few clear. */
		if (n % 3 == 1)
			word &= other & other >> 32;
		else if (n % 3 == 2)
			word |= other | other << 32;
		for (int format = 0; format < TPT_WORD_NR; format++) {
			tpt_word_decode(word, format, &w);
			assert_int_equal(w.format, format);
			check_fields(word, &w);
		}
		assert_true(tpt_word_guess(word, &reason) < TPT_WORD_NR);
		assert_non_null(reason);
	}
}

static void formats_have_names(void **state)
{
	(void)state;
	assert_string_equal(tpt_word_format_name(TPT_WORD_EPT), "ept");
	assert_string_equal(tpt_word_format_name(TPT_WORD_NPT), "npt");
	assert_string_equal(tpt_word_format_name(TPT_WORD_SEPT), "sept");
	assert_string_equal(tpt_word_format_name(TPT_WORD_MMIO), "mmio");
	assert_string_equal(tpt_word_format_name(TPT_WORD_NR), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(public_sample_is_read_as_its_authors_found_it),
		cmocka_unit_test(words_of_recorded_traces_are_known),
		cmocka_unit_test(secure_ept_states_are_known),
		cmocka_unit_test(leaves_that_we_build_are_recognised),
		cmocka_unit_test(other_words_that_we_build_are_recognised),
		cmocka_unit_test(every_word_is_explained_whole_in_every_format),
		cmocka_unit_test(formats_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
