// SPDX-License-Identifier: BSD-2-Clause
/* How large a leaf may be: derived from slots and attributes, held equal to brute force. */
#include "tests/slots/fake_platform.h"

#define HVA  0x7f0040000000ull
#define GMEM (16 * GIB)

static enum tpt_level level_at(struct world *w, tpt_gfn gfn, bool private_, enum tpt_level cap)
{
	return slot_max_level(&w->slots, slot_find(&w->slots, 0, gfn), gfn, private_, cap);
}

static void a_slot_aligned_to_1g_takes_leaves_of_1g(void **state)
{
	struct world *w = *state;

	assert_int_equal(slot_set(w, 0, 0, 0, GIB, 2 * GIB, HVA), 0);
	assert_int_equal(level_at(w, GIB >> 12, false, TPT_LEVEL_1G), TPT_LEVEL_1G);
	assert_int_equal(level_at(w, (3 * GIB >> 12) - 1, false, TPT_LEVEL_1G), TPT_LEVEL_1G);
	assert_int_equal(level_at(w, GIB >> 12, false, TPT_LEVEL_2M), TPT_LEVEL_2M);
	assert_int_equal(level_at(w, GIB >> 12, false, TPT_LEVEL_4K), TPT_LEVEL_4K);
}

static void unaligned_ends_of_a_slot_take_small_leaves(void **state)
{
	struct world *w = *state;
	tpt_gfn start = (GIB - 2 * MIB - 4096) >> 12;

	/* From 4 KiB before a 2 MiB block before 1 GiB to 4 KiB after 2 GiB. */
	assert_int_equal(
		slot_set(w, 0, 0, 0, start << 12, GIB + 2 * MIB + 8192, HVA - 2 * MIB - 4096), 0);
	assert_int_equal(level_at(w, start, false, TPT_LEVEL_1G), TPT_LEVEL_4K);
	assert_int_equal(level_at(w, start + 1, false, TPT_LEVEL_1G), TPT_LEVEL_2M);
	assert_int_equal(level_at(w, GIB >> 12, false, TPT_LEVEL_1G), TPT_LEVEL_1G);
	assert_int_equal(level_at(w, 2 * GIB >> 12, false, TPT_LEVEL_1G), TPT_LEVEL_4K);

	/* One page short of a block, at its start and at its end. */
	assert_int_equal(slot_set(w, 0, 1, 0, 4 * GIB + 4096, 4 * MIB - 8192, HVA + 4096), 0);
	assert_int_equal(level_at(w, (4 * GIB >> 12) + 5, false, TPT_LEVEL_1G), TPT_LEVEL_4K);
	assert_int_equal(level_at(w, (4 * GIB >> 12) + 520, false, TPT_LEVEL_1G), TPT_LEVEL_4K);
}

static void memory_that_is_not_congruent_limits_the_level(void **state)
{
	struct world *w = *state;

	assert_int_equal(slot_set(w, 0, 0, 0, GIB, 2 * GIB, HVA + 2 * MIB), 0);
	assert_int_equal(level_at(w, GIB >> 12, false, TPT_LEVEL_1G), TPT_LEVEL_2M);
	assert_int_equal(slot_set(w, 0, 1, 0, 4 * GIB, 2 * GIB, HVA + 4096), 0);
	assert_int_equal(level_at(w, 4 * GIB >> 12, false, TPT_LEVEL_1G), TPT_LEVEL_4K);
}

static void private_leaves_go_by_the_gmem_and_shared_ones_by_the_hva(void **state)
{
	struct world *w = *state;
	struct tpt_gmem *gmem = gmem_make(w, GMEM);

	/* hva is congruent (see slot_set_gmem), the gmem at 4 KiB, 2 MiB and not at all less. */
	assert_int_equal(slot_set_gmem(w, 0, 0, 0, GIB, gmem, 4096), 0);
	assert_int_equal(slot_set_gmem(w, 0, 1, GIB, GIB, gmem, 4 * GIB + 2 * MIB), 0);
	assert_int_equal(slot_set_gmem(w, 0, 2, 2 * GIB, GIB, gmem, 8 * GIB), 0);
	for (uint64_t i = 0; i < 3; i++) {
		assert_int_equal(level_at(w, i * GIB >> 12, true, TPT_LEVEL_1G), i + 1);
		assert_int_equal(level_at(w, i * GIB >> 12, false, TPT_LEVEL_1G), TPT_LEVEL_1G);
	}
}

static void one_page_of_the_other_kind_limits_the_blocks_around_it(void **state)
{
	struct world *w = *state;

	assert_int_equal(slot_set(w, 0, 0, 0, 0, 4 * GIB, HVA), 0);
	assert_int_equal(attr_set(&w->slots, 0x40205, 0x40206, true), 0);
	assert_int_equal(level_at(w, 0x40205, true, TPT_LEVEL_1G), TPT_LEVEL_4K);
	assert_int_equal(level_at(w, 0x40200, false, TPT_LEVEL_1G), TPT_LEVEL_4K);
	assert_int_equal(level_at(w, 0x403ff, false, TPT_LEVEL_1G), TPT_LEVEL_4K);
	assert_int_equal(level_at(w, 0x40400, false, TPT_LEVEL_1G), TPT_LEVEL_2M);
	assert_int_equal(level_at(w, 0x401ff, false, TPT_LEVEL_1G), TPT_LEVEL_2M);
	assert_int_equal(level_at(w, 0x80000, false, TPT_LEVEL_1G), TPT_LEVEL_1G);
	assert_int_equal(attr_set(&w->slots, 0x40205, 0x40206, false), 0);
	assert_int_equal(level_at(w, 0x40200, false, TPT_LEVEL_1G), TPT_LEVEL_1G);
}

static void a_tracked_page_limits_the_blocks_around_it(void **state)
{
	struct world *w = *state;
	bool edge;

	assert_int_equal(slot_set(w, 0, 0, 0, 0, 4 * GIB, HVA), 0);
	assert_int_equal(track_add(&w->slots, slot_by_id(&w->slots, 0, 0), 0x40205, &edge), 0);
	assert_int_equal(level_at(w, 0x40200, false, TPT_LEVEL_1G), TPT_LEVEL_4K);
	assert_int_equal(level_at(w, 0x40400, false, TPT_LEVEL_1G), TPT_LEVEL_2M);
	assert_int_equal(level_at(w, 0x80000, false, TPT_LEVEL_1G), TPT_LEVEL_1G);
	assert_int_equal(track_remove(&w->slots, slot_by_id(&w->slots, 0, 0), 0x40205, &edge), 0);
	assert_int_equal(level_at(w, 0x40200, false, TPT_LEVEL_1G), TPT_LEVEL_1G);
}

static void a_log_of_pages_takes_small_leaves(void **state)
{
	struct world *w = *state;

	assert_int_equal(slot_set(w, 0, 0, TPT_MEM_LOG_DIRTY, 0, 4 * GIB, HVA), 0);
	assert_int_equal(level_at(w, 0x40200, false, TPT_LEVEL_1G), TPT_LEVEL_4K);
	assert_int_equal(slot_set(w, 0, 0, 0, 0, 4 * GIB, HVA), 0);
	assert_int_equal(level_at(w, 0x40200, false, TPT_LEVEL_1G), TPT_LEVEL_1G);
}

/* ---- brute force: page by page ---- */

struct layout {
	uint64_t base, pages, behind[2]; /* behind: hva page, gmem index */
};

/* Every page of the block is in the slot, on the frame that the block's first implies, and alike.
 */
static bool brute_fits(const struct slots *slots, const struct layout *l, tpt_gfn gfn,
		       bool private_, unsigned int level)
{
	uint64_t pages = 1ull << (9 * (level - 1));
	tpt_gfn start = gfn / pages * pages;
	/* Only multiples of 512 pages differ in this test's attributes. */
	uint64_t step = level == 3 ? 512 : 1;

	if (start < l->base || start + pages > l->base + l->pages)
		return false;
	if ((l->behind[private_] + (start - l->base)) % pages)
		return false;
	for (tpt_gfn g = start; g < start + pages; g += step) {
		if (attr_is_private(slots, g) != attr_is_private(slots, start))
			return false;
	}
	return true;
}

static uint64_t random_page(struct rng *rng, uint64_t gigs)
{
	static const uint64_t grain[] = {1, 512, 262144, 262144};
	uint64_t unit = grain[rng_below(rng, 4)];

	return rng_below(rng, gigs * 262144) / unit * unit;
}

/* A16: brute force over every page of every block. */
static void A16_random_layouts_agree_with_brute_force(void **state)
{
	struct rng rng = rng_create("levels");
	unsigned int seen[4] = {0};

	(void)state;
	for (int i = 0; i < 400; i++) {
		struct world *w = world_create();
		struct tpt_gmem *gmem = gmem_make(w, 8 * GIB);
		struct layout l = {.base = random_page(&rng, 4)};

		l.pages = 1 + random_page(&rng, 4);
		l.behind[0] = (HVA >> 12) + random_page(&rng, 4);
		l.behind[1] = random_page(&rng, 4);
		assert_int_equal(
			region_set(w,
				   &(struct tpt_memory_region){.flags = TPT_MEM_GUEST_MEMFD,
							       .gpa = {l.base << 12},
							       .size = l.pages << 12,
							       .hva = {l.behind[0] << 12},
							       .gmem = gmem,
							       .gmem_offset = l.behind[1] << 12}),
			0);
		for (uint64_t k = rng_below(&rng, 4); k; k--) {
			tpt_gfn start = (l.base + rng_below(&rng, l.pages)) / 512 * 512;

			assert_int_equal(attr_set(&w->slots, start,
						  start + 512 * (1 + rng_below(&rng, 1024)),
						  rng_below(&rng, 3)),
					 0);
		}
		for (int k = 0; k < 100; k++) {
			tpt_gfn gfn = l.base + rng_below(&rng, l.pages);
			bool private_ = rng_below(&rng, 2);
			enum tpt_level cap = 1 + rng_below(&rng, 3);
			unsigned int expected = cap;

			while (expected > 1 && !brute_fits(&w->slots, &l, gfn, private_, expected))
				expected--;
			assert_int_equal(level_at(w, gfn, private_, cap), expected);
			seen[expected]++;
		}
		world_destroy(w);
	}
	for (int level = 1; level <= 3; level++)
		assert_true(seen[level] > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		world_test(a_slot_aligned_to_1g_takes_leaves_of_1g),
		world_test(unaligned_ends_of_a_slot_take_small_leaves),
		world_test(memory_that_is_not_congruent_limits_the_level),
		world_test(private_leaves_go_by_the_gmem_and_shared_ones_by_the_hva),
		world_test(one_page_of_the_other_kind_limits_the_blocks_around_it),
		world_test(a_tracked_page_limits_the_blocks_around_it),
		world_test(a_log_of_pages_takes_small_leaves),
		cmocka_unit_test(A16_random_layouts_agree_with_brute_force),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
