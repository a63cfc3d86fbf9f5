// SPDX-License-Identifier: BSD-2-Clause
/*
 * Nested paging as the APM has it: every #NPF code, every reserved bit of every level, A and D.
 */
#include <errno.h>

#include "tests/machine/tree.h"

#define R     MACHINE_READ
#define W     MACHINE_WRITE
#define X     MACHINE_EXEC
#define GW    MACHINE_GUEST_WALK
#define NX    (1ull << 63)
#define GPA   0x0000023456789000ull
#define FINAL 0x100000000ull
#define WALK  0x200000000ull

static void tree_npt(struct tree *t, unsigned int levels, uint8_t maxphyaddr)
{
	machine_config_default(&t->config);
	t->config.maxphyaddr = maxphyaddr;
	t->config.regions[0].size = 4 * GIB;
	tree_make(t, MACHINE_ROOT_NPT, levels, true);
}

static void known_values(void **state)
{
	struct tree t;
	uint64_t *e, leaf;

	(void)state;
	tree_npt(&t, 4, 48);
	e = tree_entry(&t, GPA, 1);
	leaf = page(&t) | 7;
	assert_int_equal(fresh(&t, GPA, R).error, 0x100000004);
	assert_int_equal(fresh(&t, GPA, W).error, 0x100000006);
	assert_int_equal(fresh(&t, GPA, X).error, 0x100000014);
	assert_int_equal(fresh(&t, GPA, R | GW).error, 0x200000006);
	*e = leaf & ~2ull;
	assert_int_equal(fresh(&t, GPA, W).error, 0x100000007);
	assert_int_equal(fresh(&t, GPA, R | GW).error, 0x200000007);
	*e = leaf & ~4ull;
	assert_int_equal(fresh(&t, GPA, R).error, 0x100000005);
	*e = leaf | NX;
	assert_int_equal(fresh(&t, GPA, X).error, 0x100000015);
	assert_int_equal(fresh(&t, GPA, R | GW).outcome, MACHINE_OK);
	/* an MMIO entry: reserved bits, and whatever the access was */
	*e = 1ull << 51 | 0x8001ull;
	assert_int_equal(fresh(&t, GPA, R).error, 0x10000000d);
	assert_int_equal(fresh(&t, GPA, W).error, 0x10000000f);
	assert_int_equal(fresh(&t, GPA, X).error, 0x10000001d);
	assert_int_equal(fresh(&t, GPA, R | GW).error, 0x20000000f);
	*e = 0;
	*tree_entry(&t, GPA, 4) |= 0x80;
	assert_int_equal(fresh(&t, GPA, R | GW).error, 0x20000000f);
	tree_free(&t);
}

/* Each combination of P, W, U and NX at each level, for each access. */
static void code_of_each_right_at_each_level(void **state)
{
	static const unsigned int kinds[] = {R, W, X, R | W, R | GW, R | MACHINE_USER};
	struct tree t;

	(void)state;
	tree_npt(&t, 5, 52);
	*tree_entry(&t, GPA, 1) = page(&t) | 7;
	for (unsigned int n = 0; n < 5 * 16 * 6; n++) {
		unsigned int level = n % 5 + 1, bits = n / 5 % 16, kind = kinds[n / 80];
		uint64_t *e = tree_entry(&t, GPA, level), old = *e;
		bool write = kind & (W | GW);
		uint64_t want =
			(kind & GW ? WALK : FINAL) | 4 | (write ? 2 : 0) | (kind & X ? 16 : 0);
		struct machine_result r;

		*e = (old & ~7ull) | (bits & 7) | (bits & 8 ? NX : 0);
		r = fresh(&t, GPA, kind);
		*e = old;
		if (bits & 1)
			want |= 1;
		if ((bits & 5) == 5 && !(write && !(bits & 2)) && !(kind & X && bits & 8)) {
			assert_int_equal(r.outcome, MACHINE_OK);
			continue;
		}
		assert_int_equal(r.outcome, MACHINE_NPF);
		assert_int_equal(r.error, want);
		assert_int_equal(r.level, bits & 1 ? 1 : level);
	}
	tree_free(&t);
}

/* The APM's figures of entry formats, as bits that must be zero in a present entry. */
static bool bit_reserved(unsigned int bit, unsigned int level, bool leaf, unsigned int maxphyaddr,
			 bool nxe)
{
	if (bit >= maxphyaddr && bit <= 51)
		return true;
	if (bit == 63)
		return !nxe;
	if (level >= 4)
		return bit == 7 || bit == 8;
	if (leaf && level == 3)
		return bit >= 13 && bit <= 29;
	if (leaf && level == 2)
		return bit >= 13 && bit <= 20;
	return false;
}

static void check_bits(struct tree *t, unsigned int level, bool leaf)
{
	uint64_t *e = tree_entry(t, GPA, level), old = *e;

	for (unsigned int bit = 3; bit < 64; bit++) {
		bool bad = bit_reserved(bit, level, leaf, t->config.maxphyaddr, t->config.npt_nxe);
		struct machine_result r;

		if (old >> bit & 1 || (bit == 7 && !leaf && level <= 3))
			continue;
		*e = old | 1ull << bit;
		r = fresh(t, GPA, R);
		assert_true(bad == (r.outcome == MACHINE_NPF && r.error == 0x10000000d));
		assert_true(!bad || r.level == level);
		*e &= ~1ull; /* not present: no bit is reserved */
		assert_int_equal(fresh(t, GPA, R).error, 0x100000004);
		*e = old;
	}
}

static void reserved_bits_of_every_level(void **state)
{
	(void)state;
	for (unsigned int n = 0; n < 3 * 3 * 2; n++) {
		unsigned int leaf = n % 3 + 1;
		struct tree t;

		machine_config_default(&t.config);
		t.config.maxphyaddr = 46 + n / 3 % 3 * 3;
		t.config.npt_nxe = n / 9;
		t.config.regions[0].size = 4 * GIB;
		tree_make(&t, MACHINE_ROOT_NPT, 5, true);
		*tree_entry(&t, GPA, leaf) = 8 * GIB | 7 | (leaf > 1 ? 0x80 : 0);
		for (unsigned int level = leaf; level <= 5; level++)
			check_bits(&t, level, level == leaf);
		tree_free(&t);
	}
}

/* A fetch is told apart if the host has EFER.NXE or CR4.SMEP. */
static void fetch_bit_follows_nxe_and_smep(void **state)
{
	(void)state;
	for (unsigned int n = 0; n < 4; n++) {
		struct tree t;

		machine_config_default(&t.config);
		t.config.npt_nxe = n & 1;
		t.config.npt_smep = n & 2;
		tree_make(&t, MACHINE_ROOT_NPT, 4, true);
		assert_int_equal(fresh(&t, GPA, X).error, n ? 0x100000014 : 0x100000004);
		*tree_entry(&t, GPA, 1) = page(&t) | 7 | NX;
		if (n & 1)
			assert_int_equal(fresh(&t, GPA, X).error, 0x100000015);
		else
			assert_int_equal(fresh(&t, GPA, X).error, n ? 0x10000001d : 0x10000000d);
		tree_free(&t);
	}
}

static void large_pages_and_pat(void **state)
{
	(void)state;
	for (unsigned int n = 0; n < 3 * 8; n++) {
		unsigned int leaf = n % 3 + 1, pat = n / 3;
		uint64_t bits =
			(pat & 3) << 3 | (pat & 4 ? (leaf > 1 ? 1ull << 12 : 1ull << 7) : 0);
		struct machine_result r;
		struct tree t;

		tree_npt(&t, 4, 48);
		*tree_entry(&t, GPA, leaf) = 8 * GIB | 7 | bits | (leaf > 1 ? 0x80 : 0);
		r = fresh(&t, GPA + 8, R);
		assert_int_equal(r.outcome, MACHINE_OK);
		assert_int_equal(r.memtype, pat);
		assert_int_equal(r.level, leaf);
		assert_int_equal(r.hpa, 8 * GIB + ((GPA + 8) & ((1ull << shift(leaf)) - 1)));
		tree_free(&t);
	}
}

static void no_1g_pages(void **state)
{
	struct tree t;

	(void)state;
	machine_config_default(&t.config);
	t.config.page_1g = false;
	tree_make(&t, MACHINE_ROOT_NPT, 4, true);
	*tree_entry(&t, GPA, 3) = 8 * GIB | 0x87;
	assert_int_equal(fresh(&t, GPA, R).error, 0x10000000d);
	tree_free(&t);
}

static void accessed_and_dirty_always(void **state)
{
	(void)state;
	for (unsigned int leaf = 1; leaf <= 3; leaf++) {
		uint64_t big = leaf > 1 ? 0x80 : 0;
		struct tree t;
		uint64_t *e;

		tree_npt(&t, 5, 52);
		e = tree_entry(&t, GPA, leaf);
		*e = 8 * GIB | 7 | big;
		fresh(&t, GPA, R);
		assert_int_equal(*e & 0xff, 0x27 | big);
		touch(&t, GPA, W);
		assert_int_equal(*e & 0xff, 0x67 | big);
		for (unsigned int level = leaf + 1; level <= 5; level++)
			assert_int_equal(*tree_entry(&t, GPA, level) & 0xff, 0x27);
		/* a guest's walk alone sets both */
		*e = 8 * GIB | 7 | big;
		fresh(&t, GPA, R | GW);
		assert_int_equal(*e & 0xff, 0x67 | big);
		/* a fault leaves the leaf alone, and the tables above marked */
		*e = 8 * GIB | 5 | big;
		*tree_entry(&t, GPA, 5) &= ~0x20ull;
		fresh(&t, GPA, W);
		assert_int_equal(*e & 0xff, 5 | big);
		assert_int_equal(*tree_entry(&t, GPA, 5) & 0xff, 0x27);
		tree_free(&t);
	}
}

static void gpa_too_wide_is_an_error_not_a_wrap(void **state)
{
	struct tree t;

	(void)state;
	tree_npt(&t, 4, 52);
	*tree_entry(&t, 0, 1) = page(&t) | 7;
	assert_int_equal(fresh(&t, 0, R).outcome, MACHINE_OK);
	for (unsigned int bit = 48; bit < 64; bit++)
		assert_int_equal(fresh(&t, 1ull << bit, R).outcome, MACHINE_BAD_GPA);
	tree_free(&t);
	tree_npt(&t, 5, 52);
	assert_int_equal(fresh(&t, 1ull << 51, R).outcome, MACHINE_NPF);
	assert_int_equal(fresh(&t, 1ull << 52, R).outcome, MACHINE_BAD_GPA);
	tree_free(&t);
}

static void bad_roots_are_refused(void **state)
{
	struct tree t;
	uint64_t good;

	(void)state;
	tree_npt(&t, 4, 40);
	good = t.root.pointer;
	t.root.pointer = good | 0xfff;
	assert_int_equal(machine_cpu_load(t.cpu, &t.root), 0);
	for (unsigned int bit = 40; bit < 64; bit++) {
		t.root.pointer = good | 1ull << bit;
		assert_int_equal(machine_cpu_load(t.cpu, &t.root), -EINVAL);
	}
	t.root.pointer = good;
	t.root.npt_levels = 3;
	assert_int_equal(machine_cpu_load(t.cpu, &t.root), -EINVAL);
	t.root.npt_levels = 4;
	t.root.kind = MACHINE_ROOT_TD;
	assert_int_equal(machine_cpu_load(t.cpu, &t.root), -ENODEV);
	t.root.kind = MACHINE_ROOT_NONE;
	assert_int_equal(machine_cpu_load(t.cpu, &t.root), 0);
	assert_int_equal(fresh(&t, 0, R).outcome, MACHINE_NO_ROOT);
	tree_free(&t);
}

static void walk_shows_the_path_and_changes_nothing(void **state)
{
	struct machine_walk w;
	struct tree t;
	uint64_t leaf;

	(void)state;
	tree_npt(&t, 4, 48);
	leaf = page(&t);
	*tree_entry(&t, GPA, 1) = leaf | 5;
	assert_int_equal(machine_walk(t.m, &t.root, GPA + 3, &w), 0);
	assert_int_equal(w.nr_steps, 4);
	for (unsigned int i = 0; i < 4; i++) {
		assert_ptr_equal(word(&t, w.steps[i].entry_hpa), tree_entry(&t, GPA, 4 - i));
		assert_int_equal(w.steps[i].entry, *tree_entry(&t, GPA, 4 - i));
		assert_int_equal(w.steps[i].entry & 0x60, 0);
		assert_int_equal(w.steps[i].kind, i < 3 ? MACHINE_ENTRY_TABLE : MACHINE_ENTRY_LEAF);
	}
	assert_int_equal(w.hpa, leaf + 3);
	assert_int_equal(w.rights, R | X | MACHINE_USER);
	assert_int_equal(counters(&t).walks, 0);
	*tree_entry(&t, GPA, 2) |= 1ull << 50;
	assert_int_equal(machine_walk(t.m, &t.root, GPA, &w), 0);
	assert_int_equal(w.nr_steps, 3);
	assert_int_equal(w.steps[2].kind, MACHINE_ENTRY_BAD);
	*tree_entry(&t, GPA, 3) = 0x7000 | 7;
	assert_int_equal(machine_walk(t.m, &t.root, GPA, &w), 0);
	assert_int_equal(w.steps[2].kind, MACHINE_ENTRY_LOST);
	assert_int_equal(machine_walk(t.m, &t.root, 1ull << 48, &w), 0);
	assert_int_equal(w.nr_steps, 0);
	tree_free(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_values),
		cmocka_unit_test(code_of_each_right_at_each_level),
		cmocka_unit_test(reserved_bits_of_every_level),
		cmocka_unit_test(fetch_bit_follows_nxe_and_smep),
		cmocka_unit_test(large_pages_and_pat),
		cmocka_unit_test(no_1g_pages),
		cmocka_unit_test(accessed_and_dirty_always),
		cmocka_unit_test(gpa_too_wide_is_an_error_not_a_wrap),
		cmocka_unit_test(bad_roots_are_refused),
		cmocka_unit_test(walk_shows_the_path_and_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
