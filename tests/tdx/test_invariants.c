// SPDX-License-Identifier: BSD-2-Clause
/* The module's books stay right whatever is called: a seeded random sequence, checked at each step.
 */
#include "tests/tdx/check.h"
#include "tests/tdx/random.h"

#define STEPS 6000

static uint64_t choose_seed(void)
{
	const char *given = getenv("TDX_SEED");

	return given ? strtoull(given, NULL, 0) : 0x7d5eed0001ull;
}

static void checked(struct lab *lab, uint64_t seed, unsigned int step)
{
	if (!check_all(lab))
		fail_msg("seed %#llx step %u", (unsigned long long)seed, step);
}

static void one_step(struct lab *lab, struct rng *rng, unsigned int *nr_good)
{
	unsigned int kind = rng_below(rng, 10);

	if (rng_below(rng, 8) == 0)
		atomic_store(&lab->intr_polls, rng_below(rng, 4) ? -1 : (long)rng_below(rng, 3));
	if (rng_below(rng, 16) == 0)
		random_repair(lab, rng, 0);
	if (kind < 6)
		random_host_call(lab, rng, 0, nr_good);
	else
		random_guest_step(lab, rng, 1 + kind % 2, kind % 2);
}

/* What is done to an entry that is blocked and tracked, and the level at which it makes sense. */
static const struct {
	uint8_t leaf, level;
} plans[] = {
	{TDH_MEM_PAGE_REMOVE, 0},   {TDH_MEM_PAGE_REMOVE, 1},	{TDH_MEM_PAGE_RELOCATE, 0},
	{TDH_MEM_RANGE_UNBLOCK, 0}, {TDH_MEM_RANGE_UNBLOCK, 1}, {TDH_MEM_SEPT_REMOVE, 1},
	{TDH_MEM_PAGE_DEMOTE, 1},   {TDH_MEM_PAGE_PROMOTE, 1},
};

/* A host that does it right, but for a kick forgotten now and then; checked after each call. */
static void one_plan(struct lab *lab, struct rng *rng, unsigned int *nr_good, uint64_t seed,
		     unsigned int step)
{
	unsigned int i = rng_below(rng, sizeof(plans) / sizeof(plans[0]));
	uint64_t page_info = random_page_info(rng, plans[i].level);
	unsigned int leaf = plans[i].leaf;

	for (unsigned int turn = 0; turn < 2; turn++) {
		struct tdx_regs regs = {.rcx = page_info, .rdx = LAB_TDR, .r8 = random_4k(rng)};

		lab_call(lab, 0, TDH_MEM_RANGE_BLOCK, page_info, LAB_TDR, 0);
		checked(lab, seed, step);
		for (unsigned int lp = 1; lp <= 2; lp++)
			if (turn || rng_below(rng, 2))
				lab_kick(lab, lp);
		lab_call(lab, 0, TDH_MEM_TRACK, LAB_TDR, 0, 0);
		checked(lab, seed, step);
		nr_good[leaf] += lab_seamcall(lab, 0, leaf, &regs) == TDX_SUCCESS;
		checked(lab, seed, step);
		/* What was just split is still whole: merge it again, now and then. */
		if (leaf != TDH_MEM_PAGE_DEMOTE || rng_below(rng, 2))
			return;
		leaf = TDH_MEM_PAGE_PROMOTE;
		atomic_store(&lab->intr_polls, -1);
	}
}

/* Else the sequence would be all refusals. RECLAIM of a live TD's page is one on purpose. */
static void assert_every_leaf_succeeded(const unsigned int *nr_good)
{
	for (size_t i = 0; i < sizeof(random_host_leaves); i++)
		if (random_host_leaves[i] != TDH_PHYMEM_PAGE_RECLAIM &&
		    !nr_good[random_host_leaves[i]])
			fail_msg("leaf %u never succeeded", random_host_leaves[i]);
}

static void books_stay_right_under_random_calls(void **state)
{
	unsigned int nr_good[RANDOM_NR_LEAVES] = {0};
	uint64_t seed = choose_seed();

	(void)state;
	for (unsigned int round = 0; round < 2; round++, seed++) {
		struct rng rng = {seed};
		struct lab *lab = lab_create_running();

		print_message("seed %#llx\n", (unsigned long long)seed);
		for (unsigned int step = 0; step < STEPS; step++) {
			if (rng_below(&rng, 12) == 0)
				one_plan(lab, &rng, nr_good, seed, step);
			else
				one_step(lab, &rng, nr_good);
			checked(lab, seed, step);
		}
		lab_destroy(lab);
	}
	if (!getenv("TDX_SEED"))
		assert_every_leaf_succeeded(nr_good);
}

/* A checker that can't fail proves nothing: each kind of damage is seen. */
static void checker_sees_damage(void **state)
{
	struct lab *lab = lab_create_running();

	(void)state;
	lab_ok(lab, TDH_MEM_PAGE_AUG, 0, LAB_TDR, LAB_FREE);
	assert_true(check_all(lab));
	tdx_module_force_sept(lab->module, LAB_TDR, 0, 0, 7, 0);
	assert_false(check_all(lab));
	tdx_module_force_sept(lab->module, LAB_TDR, 0, 0, 0, 7);
	tdx_module_force_sept(lab->module, LAB_TDR, 0, 0, LAB_PAGE, 0);
	assert_false(check_all(lab));
	tdx_module_force_sept(lab->module, LAB_TDR, 0, 0, 0, LAB_PAGE);
	tdx_module_force_pamt_lock(lab->module, LAB_FREE, 0, 4);
	assert_false(check_all(lab));
	tdx_module_force_pamt_lock(lab->module, LAB_FREE, 0, 2);
	assert_true(check_all(lab));
	tdx_module_force(lab->module, TDX_FORCE_SEPT_LOCK, LAB_TDR, 2);
	assert_false(check_all(lab));
	tdx_module_force(lab->module, TDX_FORCE_SEPT_LOCK, LAB_TDR, 0);
	lab_destroy(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(books_stay_right_under_random_calls),
		cmocka_unit_test(checker_sees_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
