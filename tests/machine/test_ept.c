// SPDX-License-Identifier: BSD-2-Clause
/*
 * EPT as the SDM has it: every exit qualification, every reserved bit of every level, A and D.
 */
#include <errno.h>

#include "tests/machine/tree.h"

#define R   MACHINE_READ
#define W   MACHINE_WRITE
#define X   MACHINE_EXEC
#define GPA 0x0000123456789000ull

static const unsigned int kinds[] = {R, W, X, R | W};

static void tree_ept(struct tree *t, unsigned int levels, bool ad, uint8_t maxphyaddr)
{
	machine_config_default(&t->config);
	t->config.maxphyaddr = maxphyaddr;
	t->config.regions[0].size = 4 * GIB;
	tree_make(t, MACHINE_ROOT_EPT, levels, ad);
}

/* Each XWR in each level's entry, for each access, against the tables of the SDM. */
static void violation_tells_access_and_rights(void **state)
{
	(void)state;
	for (unsigned int ad = 0; ad < 2; ad++) {
		struct tree t;
		uint64_t *leaf;

		tree_ept(&t, 5, ad, 52);
		leaf = tree_entry(&t, GPA, 1);
		*leaf = page(&t) | 0x37;
		for (unsigned int level = 1; level <= 5; level++)
			for (unsigned int rwx = 0; rwx < 8; rwx++)
				for (unsigned int k = 0; k < 4; k++) {
					uint64_t *e = tree_entry(&t, GPA, level), old = *e;
					struct machine_result r;

					*e = (old & ~7ull) | rwx;
					r = fresh(&t, GPA + 5, kinds[k]);
					*e = old;
					if (rwx == 2 || rwx == 6) {
						assert_int_equal(r.outcome, MACHINE_EPT_MISCONFIG);
						assert_int_equal(r.error, 0);
					} else if (kinds[k] & ~rwx) {
						assert_int_equal(r.outcome, MACHINE_EPT_VIOLATION);
						assert_int_equal(r.error,
								 0x180 | rwx << 3 | kinds[k]);
					} else {
						assert_int_equal(r.outcome, MACHINE_OK);
						assert_int_equal(r.hpa, (*leaf & ~0xfffull) + 5);
						assert_int_equal(r.memtype, 6);
					}
					if (rwx == 0 || rwx == 2 || rwx == 6)
						assert_int_equal(r.level, level);
				}
		tree_free(&t);
	}
}

static void rights_are_the_and_of_all_levels(void **state)
{
	struct tree t;

	(void)state;
	tree_ept(&t, 4, false, 52);
	*tree_entry(&t, GPA, 1) = page(&t) | 0x35;
	*tree_entry(&t, GPA, 3) &= ~4ull;
	assert_int_equal(fresh(&t, GPA, W).error, 0x18a);
	assert_int_equal(fresh(&t, GPA, X).error, 0x18c);
	/* with one entry not present nothing is allowed, whatever the others say */
	*tree_entry(&t, GPA, 1) = 0;
	assert_int_equal(fresh(&t, GPA, W).error, 0x182);
	tree_free(&t);
}

static void known_values(void **state)
{
	struct tree t;
	uint64_t *e;

	(void)state;
	tree_ept(&t, 4, false, 52);
	e = tree_entry(&t, GPA, 1);
	assert_int_equal(fresh(&t, GPA, R).error, 0x181);
	*e = page(&t) | 0x31;
	assert_int_equal(fresh(&t, GPA, W).error, 0x18a);
	*e = (*e & ~7ull) | 3;
	assert_int_equal(fresh(&t, GPA, X).error, 0x19c);
	*e = (*e & ~7ull) | 4;
	assert_int_equal(fresh(&t, GPA, R).error, 0x1a1);
	*e = (*e & ~7ull) | 5;
	assert_int_equal(fresh(&t, GPA, W).error, 0x1aa);
	assert_int_equal(fresh(&t, GPA, W | MACHINE_NO_LINEAR).error, 0x02a);
	assert_int_equal(fresh(&t, GPA, W | MACHINE_USER).error, 0x1aa);
	tree_free(&t);
}

/* A guest table access is read and write with A/D on, and what it is without. */
static void guest_walk_qualification(void **state)
{
	struct tree t;
	unsigned int gw = MACHINE_GUEST_WALK;

	(void)state;
	tree_ept(&t, 4, true, 52);
	assert_int_equal(fresh(&t, GPA, R | gw).error, 0x083);
	*tree_entry(&t, GPA, 1) = page(&t) | 0x31;
	assert_int_equal(fresh(&t, GPA, R | gw).error, 0x08b);
	tree_free(&t);
	tree_ept(&t, 4, false, 52);
	assert_int_equal(fresh(&t, GPA, R | gw).error, 0x081);
	*tree_entry(&t, GPA, 1) = page(&t) | 0x31;
	assert_int_equal(fresh(&t, GPA, R | gw).outcome, MACHINE_OK);
	assert_int_equal(fresh(&t, GPA, R | W | gw).error, 0x08b);
	tree_free(&t);
}

/* The SDM's tables of entry formats, as ranges of bits that must be 0 in a present entry. */
static bool bit_reserved(unsigned int bit, unsigned int level, bool leaf, unsigned int maxphyaddr)
{
	if (bit >= maxphyaddr && bit <= 51)
		return true;
	if (level >= 4)
		return bit >= 3 && bit <= 7;
	if (!leaf)
		return bit >= 3 && bit <= 6;
	if (level == 3)
		return bit >= 12 && bit <= 29;
	if (level == 2)
		return bit >= 12 && bit <= 20;
	return false;
}

static void check_bits(struct tree *t, uint64_t *e, unsigned int level, bool leaf)
{
	uint64_t old = *e;

	for (unsigned int bit = 3; bit < 64; bit++) {
		struct machine_result r;

		if ((leaf && bit <= 7) || (!leaf && bit == 7 && level <= 3))
			continue; /* memory type and page size are other tests' */
		if (old >> bit & 1)
			continue;
		*e = old | 1ull << bit;
		r = fresh(t, GPA, R);
		*e = old;
		if (bit_reserved(bit, level, leaf, t->config.maxphyaddr)) {
			assert_int_equal(r.outcome, MACHINE_EPT_MISCONFIG);
			assert_int_equal(r.level, level);
			assert_int_equal(r.entry, old | 1ull << bit);
		} else {
			assert_true(r.outcome == MACHINE_OK || (bit >= 12 && bit <= 51));
			assert_int_not_equal(r.outcome, MACHINE_EPT_MISCONFIG);
		}
		/* an entry that is not present has no reserved bits */
		*e = (old & ~7ull) | 1ull << bit;
		r = fresh(t, GPA, R);
		*e = old;
		assert_int_equal(r.outcome, MACHINE_EPT_VIOLATION);
		assert_int_equal(r.error, 0x181);
	}
}

static void reserved_bits_of_every_level(void **state)
{
	(void)state;
	for (unsigned int leaf = 1; leaf <= 3; leaf++)
		for (unsigned int maxphyaddr = 46; maxphyaddr <= 52; maxphyaddr += 3) {
			struct tree t;

			tree_ept(&t, 5, false, maxphyaddr);
			*tree_entry(&t, GPA, leaf) = 8 * GIB | 0x37 | (leaf > 1 ? 0x80 : 0);
			for (unsigned int level = leaf; level <= 5; level++)
				check_bits(&t, tree_entry(&t, GPA, level), level, level == leaf);
			tree_free(&t);
		}
}

static void memory_types(void **state)
{
	(void)state;
	for (unsigned int leaf = 1; leaf <= 3; leaf++)
		for (unsigned int type = 0; type < 8; type++)
			for (unsigned int ipat = 0; ipat < 2; ipat++) {
				struct tree t;
				struct machine_result r;

				tree_ept(&t, 4, false, 52);
				*tree_entry(&t, GPA, leaf) =
					8 * GIB | 7 | type << 3 | ipat << 6 | (leaf > 1 ? 0x80 : 0);
				r = fresh(&t, GPA, R);
				if (type == 2 || type == 3 || type == 7) {
					assert_int_equal(r.outcome, MACHINE_EPT_MISCONFIG);
				} else {
					assert_int_equal(r.outcome, MACHINE_OK);
					assert_int_equal(r.memtype, type);
					assert_int_equal(r.ipat, ipat);
					assert_int_equal(r.level, leaf);
					assert_int_equal(
						r.hpa,
						8 * GIB + (GPA & ((1ull << shift(leaf)) - 1)));
				}
				tree_free(&t);
			}
}

static void features_that_are_off_are_misconfigurations(void **state)
{
	struct tree t;

	(void)state;
	machine_config_default(&t.config);
	t.config.ept_exec_only = false;
	t.config.page_1g = false;
	t.config.ept_ad = false;
	t.config.five_level = false;
	tree_make(&t, MACHINE_ROOT_EPT, 4, false);
	*tree_entry(&t, GPA, 1) = page(&t) | 0x34;
	assert_int_equal(fresh(&t, GPA, X).outcome, MACHINE_EPT_MISCONFIG);
	*tree_entry(&t, GPA, 3) = 8 * GIB | 0xb7;
	assert_int_equal(fresh(&t, GPA, R).outcome, MACHINE_EPT_MISCONFIG);
	t.root.pointer |= 1 << 6;
	assert_int_equal(machine_cpu_load(t.cpu, &t.root), -EINVAL);
	t.root.pointer = machine_eptp(t.root.pointer & ~0xfffull, 5, false);
	assert_int_equal(machine_cpu_load(t.cpu, &t.root), -EINVAL);
	tree_free(&t);
}

static void eptp_is_checked_as_at_vm_entry(void **state)
{
	struct tree t;
	uint64_t good;

	(void)state;
	tree_ept(&t, 4, true, 46);
	good = t.root.pointer;
	for (unsigned int bits = 0; bits < 4096; bits++) {
		bool type = (bits & 7) == 0 || (bits & 7) == 6;
		bool levels = (bits >> 3 & 7) == 3 || (bits >> 3 & 7) == 4;
		int want = type && levels && !(bits & 0xf80) ? 0 : -EINVAL;

		t.root.pointer = (good & ~0xfffull) | bits;
		assert_int_equal(machine_cpu_load(t.cpu, &t.root), want);
	}
	for (unsigned int bit = 46; bit < 64; bit++) {
		t.root.pointer = good | 1ull << bit;
		assert_int_equal(machine_cpu_load(t.cpu, &t.root), -EINVAL);
	}
	t.root.pointer = good + (1ull << 40);
	assert_int_equal(machine_cpu_load(t.cpu, &t.root), -EINVAL);
	t.root.pointer = good;
	t.root.tag = MACHINE_TAG_ALL;
	assert_int_equal(machine_cpu_load(t.cpu, &t.root), -EINVAL);
	tree_free(&t);
}

static void gpa_too_wide(void **state)
{
	struct tree t;

	(void)state;
	tree_ept(&t, 4, false, 50);
	for (unsigned int bit = 48; bit < 50; bit++) {
		struct machine_result r = fresh(&t, 1ull << bit, W);

		assert_int_equal(r.outcome, MACHINE_EPT_VIOLATION);
		assert_int_equal(r.error, 0x182);
		assert_int_equal(r.level, 0);
	}
	assert_int_equal(fresh(&t, 1ull << 50, R).outcome, MACHINE_BAD_GPA);
	assert_int_equal(fresh(&t, 1ull << 63, R).outcome, MACHINE_BAD_GPA);
	tree_free(&t);
	tree_ept(&t, 5, false, 52);
	*tree_entry(&t, 1ull << 51, 1) = page(&t) | 0x37;
	assert_int_equal(fresh(&t, 1ull << 51, R).outcome, MACHINE_OK);
	assert_int_equal(fresh(&t, 0, R).outcome, MACHINE_EPT_VIOLATION);
	tree_free(&t);
}

static void accessed_and_dirty(void **state)
{
	(void)state;
	for (unsigned int leaf = 1; leaf <= 3; leaf++) {
		struct tree t;
		uint64_t *e;

		tree_ept(&t, 5, true, 52);
		e = tree_entry(&t, GPA, leaf);
		*e = 8 * GIB | 0x37 | (leaf > 1 ? 0x80 : 0);
		assert_false(fresh(&t, GPA, R).dirty);
		for (unsigned int level = leaf; level <= 5; level++)
			assert_int_equal(*tree_entry(&t, GPA, level) & EPT_AD, 0x100);
		/* the cached translation is not dirty: the write goes back to the table */
		assert_true(touch(&t, GPA, W).dirty);
		assert_int_equal(*e & EPT_AD, 0x300);
		assert_true(touch(&t, GPA, W).tlb_hit);
		for (unsigned int level = leaf + 1; level <= 5; level++)
			assert_int_equal(*tree_entry(&t, GPA, level) & EPT_AD, 0x100);
		assert_int_equal(counters(&t).dirty_set, 1);
		assert_int_equal(counters(&t).accessed_set, 6 - leaf);
		tree_free(&t);
	}
}

static void flags_untouched_without_ad_and_on_faults(void **state)
{
	struct tree t;
	uint64_t *e;

	(void)state;
	tree_ept(&t, 4, false, 52);
	e = tree_entry(&t, GPA, 1);
	*e = page(&t) | 0x37;
	assert_true(fresh(&t, GPA, W).dirty);
	for (unsigned int level = 1; level <= 4; level++)
		assert_int_equal(*tree_entry(&t, GPA, level) & EPT_AD, 0);
	t.root.pointer |= 1 << 6;
	tree_load(&t);
	*e &= ~2ull;
	assert_int_equal(fresh(&t, GPA, W).outcome, MACHINE_EPT_VIOLATION);
	assert_int_equal(*e & EPT_AD, 0);
	assert_int_equal(*tree_entry(&t, GPA, 2) & EPT_AD, 0x100);
	/* a guest's page walk is a write and dirties the page of its table */
	*e |= 2;
	assert_int_equal(fresh(&t, GPA, R | MACHINE_GUEST_WALK).outcome, MACHINE_OK);
	assert_int_equal(*e & EPT_AD, 0x300);
	tree_free(&t);
}

static void refuses_kinds_that_do_not_exist(void **state)
{
	static const unsigned int bad[] = {0,	  MACHINE_USER,		  X | R,
					   X | W, X | MACHINE_GUEST_WALK, R | 64};
	struct tree t;
	struct machine_result r;

	(void)state;
	tree_ept(&t, 4, false, 52);
	for (unsigned int i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(machine_access(t.cpu, GPA, bad[i], &r), -EINVAL);
	assert_int_equal(counters(&t).accesses, 0);
	tree_free(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(violation_tells_access_and_rights),
		cmocka_unit_test(rights_are_the_and_of_all_levels),
		cmocka_unit_test(known_values),
		cmocka_unit_test(guest_walk_qualification),
		cmocka_unit_test(reserved_bits_of_every_level),
		cmocka_unit_test(memory_types),
		cmocka_unit_test(features_that_are_off_are_misconfigurations),
		cmocka_unit_test(eptp_is_checked_as_at_vm_entry),
		cmocka_unit_test(gpa_too_wide),
		cmocka_unit_test(accessed_and_dirty),
		cmocka_unit_test(flags_untouched_without_ad_and_on_faults),
		cmocka_unit_test(refuses_kinds_that_do_not_exist),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
