// SPDX-License-Identifier: BSD-2-Clause
/*
 * The hypervisor's monitor: each call's rules, one by one, as a host meets them that may lie; and
 * what a vCPU enters with.
 */
#include <pthread.h>
#include <sched.h>

#include "tests/hypervisor/arena.h"

#define EINVAL_ (-ERR_INVAL)
#define EBUSY_	(-ERR_BUSY)
#define L4K	TPT_LEVEL_4K
#define L2M	TPT_LEVEL_2M
#define L1G	TPT_LEVEL_1G
#define L512G	TPT_LEVEL_512G
#define TOP	(1ull << (SHARED_BIT - 12)) /* first GFN that is not private */
#define LEAF_4K 0x67ull			    /* P, W, U, A, D */
#define LEAF_2M 0xe7ull

static const struct tpt_external_ops *const ops = &monitor_ops;

static tpt_pfn frame(uint64_t n)
{
	return tpt_pfn_make(FIRST + n);
}

static uint64_t *content(uint64_t n)
{
	return phys((FIRST + n) << 12);
}

static uint64_t table_take(void)
{
	uint64_t pa = page_take(4096);

	memset(phys(pa), 0xa5, 4096);
	return pa;
}

static int link_at(tpt_gfn gfn, enum tpt_level level)
{
	return ops->link(NULL, gfn, level, (tpt_hpa){table_take()});
}

/* Tables down to the entry of @gfn at @level. */
static void link_to(tpt_gfn gfn, enum tpt_level level)
{
	for (enum tpt_level l = L512G; l > level; l--) {
		tpt_gfn at = tpt_gfn_round(gfn, l);
		struct tpt_external_entry e;

		assert_int_equal(ops->read(NULL, at, l, &e), 0);
		if (e.kind == TPT_EXTERNAL_NONE)
			assert_int_equal(link_at(at, l), 0);
	}
}

static void map_at(tpt_gfn gfn, enum tpt_level level, uint64_t n)
{
	link_to(gfn, level);
	assert_int_equal(ops->map(NULL, gfn, level, frame(n)), 0);
}

/* Blocked, and no vCPU can know it any more. */
static void block_at(tpt_gfn gfn, enum tpt_level level)
{
	assert_int_equal(ops->block(NULL, gfn, level), 0);
	assert_int_equal(ops->track(NULL), 0);
}

static int remove_at(tpt_gfn gfn, enum tpt_level level, uint64_t n)
{
	return ops->remove(NULL, gfn, level, frame(n));
}

static uint64_t word_at(tpt_gfn gfn)
{
	return walk(root, gfn << 12).word;
}

static enum tpt_external_kind kind_at(tpt_gfn gfn, enum tpt_level level)
{
	struct tpt_external_entry e;

	assert_int_equal(ops->read(NULL, gfn, level, &e), 0);
	return e.kind;
}

static uint64_t direct_root;

static void begin(void)
{
	arena_begin();
	direct_root = page_take(4096);
}

static void begin_final(void)
{
	begin();
	monitor_finalize();
}

/* *flush as it was told. */
static bool enter(unsigned int vcpu)
{
	bool flush = false;

	assert_true(monitor_enter(vcpu, direct_root, &flush) != 0);
	return flush;
}

/* Is vCPU @vcpu let in? */
static bool may_enter(unsigned int vcpu)
{
	bool flush = false;

	if (setjmp(panicked))
		return false;
	monitor_enter(vcpu, direct_root, &flush);
	return true;
}

static unsigned int nr_of_guest(void)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < FRAMES; i++)
		n += frames[i].owner == OWNER_GUEST;
	return n;
}

/* ---- map and link ---- */

static void a_mapped_page_is_zero_and_the_guests_to_use(void **state)
{
	(void)state;
	begin_final();
	memset(content(5), 0x5a, 4096);
	memset(content(512), 0x5a, 2 << 20);
	map_at(0x12345, L4K, 5);
	map_at(0x800, L2M, 512);
	assert_int_equal(word_at(0x12345), (FIRST + 5) << 12 | LEAF_4K);
	assert_int_equal(word_at(0x800 + 77), (FIRST + 512) << 12 | LEAF_2M);
	assert_int_equal(walk(root, 0x84d123).pa, ((FIRST + 512 + 77) << 12) + 0x123);
	assert_true(is_zero((FIRST + 5) << 12, 4096));
	assert_true(is_zero((FIRST + 512) << 12, 2 << 20));
	assert_int_equal(nr_of_guest(), 513);
	/* Next to it, nothing. */
	assert_int_equal(word_at(0x12346), 0);
	assert_int_equal(word_at(0x7ff), 0);
	assert_int_equal(word_at(0xa00), 0);
}

static void only_free_private_frames_are_mapped(void **state)
{
	static const struct {
		enum tpt_level level;
		uint64_t pfn;
	} rows[] = {
		{L4K, 0},
		{L4K, FIRST - 1},
		{L4K, FIRST + FRAMES},
		{L4K, ~0ull},
		{L4K, (1ull << 52) + FIRST},
		{L4K, FIRST + 7}, /* is mapped already */
		{L2M, FIRST + 1},
		{L2M, FIRST + 512 + 256},
		{L2M, FIRST},		/* one of them is */
		{L2M, FIRST + 8 * 512}, /* ends where frames do not */
		{L2M, FIRST - 512},
		{L2M, ~511ull},
	};

	(void)state;
	begin_final();
	map_at(0x10007, L4K, 7);
	link_to(0x400, L4K);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		tpt_gfn gfn = rows[i].level == L4K ? 0x401 : 0x600;
		int err = ops->map(NULL, gfn, rows[i].level, tpt_pfn_make(rows[i].pfn));

		if (err != EINVAL_)
			fail_msg("row %zu: %d", i, err);
		assert_int_equal(nr_of_guest(), 1);
		assert_int_equal(word_at(gfn), 0);
	}
	/* The last frame of all may be. */
	map_at(0x401, L4K, FRAMES - 1);
}

static void only_an_empty_private_entry_is_mapped(void **state)
{
	(void)state;
	begin_final();
	/* No table above. */
	assert_int_equal(ops->map(NULL, 0x400, L4K, frame(1)), EINVAL_);
	assert_int_equal(ops->map(NULL, 0x400, L2M, frame(512)), EINVAL_);
	map_at(0x400, L4K, 1);
	assert_int_equal(ops->map(NULL, 0x400, L4K, frame(2)), EINVAL_);
	/* A table is there; and below a large leaf there is none. */
	assert_int_equal(ops->map(NULL, 0x400, L2M, frame(512)), EINVAL_);
	map_at(0x600, L2M, 512);
	assert_int_equal(ops->map(NULL, 0x600, L4K, frame(2)), EINVAL_);
	assert_int_equal(ops->map(NULL, 0x600, L2M, frame(1024)), EINVAL_);
	/* Not aligned; too large, none at all; not private. */
	assert_int_equal(ops->map(NULL, 0x801, L2M, frame(1024)), EINVAL_);
	assert_int_equal(ops->map(NULL, 1 << 18, L1G, frame(0)), EINVAL_);
	assert_int_equal(ops->map(NULL, 1 << 18, TPT_LEVEL_NONE, frame(2)), EINVAL_);
	assert_int_equal(ops->map(NULL, 0, TPT_LEVEL_256T, frame(0)), EINVAL_);
	assert_int_equal(ops->map(NULL, TOP, L4K, frame(2)), EINVAL_);
	assert_int_equal(ops->map(NULL, TOP | 0x401, L4K, frame(2)), EINVAL_);
	assert_int_equal(ops->map(NULL, 1ull << 36 | 0x401, L4K, frame(2)), EINVAL_);
	assert_int_equal(nr_of_guest(), 513);
	/* The last private page is. */
	map_at(TOP - 1, L4K, 2);
	/* Blocked is not empty. */
	assert_int_equal(ops->block(NULL, 0x400, L4K), 0);
	assert_int_equal(ops->map(NULL, 0x400, L4K, frame(3)), EINVAL_);
}

static void a_table_is_a_page_of_the_hosts_under_an_empty_entry(void **state)
{
	uint64_t table;

	(void)state;
	begin_final();
	table = table_take();
	assert_int_equal(ops->link(NULL, 0, L4K, (tpt_hpa){table}), EINVAL_);
	assert_int_equal(ops->link(NULL, 0, L1G, (tpt_hpa){table}), EINVAL_);
	assert_int_equal(ops->link(NULL, 1, L512G, (tpt_hpa){table}), EINVAL_);
	assert_int_equal(ops->link(NULL, TOP, L512G, (tpt_hpa){table}), EINVAL_);
	/* Not a page; not an address; a page of the guest's, or to be. */
	assert_int_equal(ops->link(NULL, 0, L512G, (tpt_hpa){table + 8}), EINVAL_);
	assert_int_equal(ops->link(NULL, 0, L512G, (tpt_hpa){table | 1ull << 60}), EINVAL_);
	assert_int_equal(ops->link(NULL, 0, L512G, (tpt_hpa){0}), EINVAL_);
	assert_int_equal(ops->link(NULL, 0, L512G, (tpt_hpa){FIRST << 12}), EINVAL_);
	assert_int_equal(ops->link(NULL, 0, L512G, (tpt_hpa){(FIRST + FRAMES - 1) << 12}), EINVAL_);
	assert_int_equal(*(uint64_t *)phys(root), 0);
	assert_int_equal(*(uint64_t *)phys(table), 0xa5a5a5a5a5a5a5a5);

	assert_int_equal(ops->link(NULL, 0, L512G, (tpt_hpa){table}), 0);
	assert_int_equal(*(uint64_t *)phys(root), table | 0x27);
	assert_true(is_zero(table, 4096));
	assert_int_equal(ops->link(NULL, 0, L512G, (tpt_hpa){table_take()}), EINVAL_);
	map_at(0x200, L2M, 512);
	assert_int_equal(link_at(0x200, L2M), EINVAL_);
	assert_int_equal(*(uint64_t *)phys(root), table | 0x27);
}

/* ---- what a guest starts with ---- */

static void what_is_added_is_the_content_of_that_page_once(void **state)
{
	static uint64_t image[512];

	(void)state;
	begin();
	for (unsigned int i = 0; i < 512; i++)
		image[i] = 0x1000 + i;
	assert_int_equal(monitor_add(0x400, image), 0);
	map_at(0x401, L4K, 1);
	assert_true(is_zero((FIRST + 1) << 12, 4096));
	map_at(0x400, L4K, 2);
	assert_memory_equal(content(2), image, 4096);
	/* The next one there is as any other. */
	block_at(0x400, L4K);
	assert_int_equal(remove_at(0x400, L4K, 2), 0);
	map_at(0x400, L4K, 3);
	assert_true(is_zero((FIRST + 3) << 12, 4096));
	/* A page is what is added. */
	assert_int_equal(monitor_add(0x600, image), 0);
	map_at(0x600, L2M, 512);
	assert_true(is_zero((FIRST + 512) << 12, 2 << 20));
	/* A map that fails takes nothing. */
	assert_int_equal(monitor_add(0x402, image), 0);
	assert_int_equal(ops->map(NULL, 0x402, L4K, frame(3)), EINVAL_);
	map_at(0x402, L4K, 4);
	assert_memory_equal(content(4), image, 4096);
}

static void nothing_is_added_to_a_guest_that_is_final(void **state)
{
	static const uint64_t image[512] = {1};

	(void)state;
	begin();
	assert_int_equal(monitor_add(0x400, image), 0);
	monitor_finalize();
	assert_int_equal(monitor_add(0x400, image), EINVAL_);
	map_at(0x400, L4K, 1);
	assert_true(is_zero((FIRST + 1) << 12, 4096));
}

static void no_vcpu_enters_before_that(void **state)
{
	(void)state;
	begin();
	assert_false(may_enter(0));
	/* Nor counts as one that did. */
	assert_int_equal(ops->release(NULL), 0);
	begin_final();
	assert_true(may_enter(0));
}

/* ---- entering ---- */

static void a_vcpus_root_is_private_below_and_the_hosts_above(void **state)
{
	uint64_t *direct, *own;
	bool flush = false;

	(void)state;
	begin_final();
	map_at(0x400, L4K, 1);
	direct = phys(direct_root);
	for (unsigned int i = 0; i < 512; i++)
		direct[i] = 0x1000007 + i * 0x1000ull;
	own = phys(monitor_enter(2, direct_root, &flush));
	assert_ptr_not_equal(own, phys(root));
	assert_memory_equal(own + 256, direct + 256, 2048);
	assert_memory_equal(own, phys(root), 2048);
	assert_true(own[0] && !own[1]);
	/* The monitor's own is not the host's to see. */
	assert_true(is_zero(root + 2048, 2048));
	monitor_leave(2);
	/* Each time anew. */
	direct[300] = 0;
	assert_int_equal(link_at((tpt_gfn)255 << 27, L512G), 0);
	own = phys(monitor_enter(2, direct_root, &flush));
	assert_int_equal(own[300], 0);
	assert_true(own[255] != 0);
	/* And each vCPU's is its own. */
	assert_ptr_not_equal(own, phys(monitor_enter(1, direct_root, &flush)));
	/* Last GFN of the private half. */
	map_at(TOP - 1, L4K, 2);
	assert_int_equal(walk(monitor_enter(3, direct_root, &flush), (TOP - 1) << 12).pa,
			 (FIRST + 2) << 12);
}

static void the_shared_bit_says_how_much_of_a_root_is_whose(void **state)
{
	(void)state;
	for (unsigned int bit = 39; bit <= SHARED_BIT; bit++) {
		const tpt_gfn top = 1ull << (bit - 12), n = 1ull << (bit - 39);
		uint64_t *direct, *own;
		bool flush = false;

		begin();
		monitor_init(FIRST, FRAMES, bit, VCPUS);
		monitor_finalize();
		direct = phys(direct_root);
		memset(direct, 0x77, 4096);
		assert_int_equal(ops->map(NULL, top, L4K, frame(0)), EINVAL_);
		assert_int_equal(link_at(top, L512G), EINVAL_);
		map_at(top - 1, L4K, 1);
		own = phys(monitor_enter(0, direct_root, &flush));
		assert_int_equal(walk(seats[0].root, (top - 1) << 12).pa, (FIRST + 1) << 12);
		for (unsigned int i = 0; i < 512; i++) {
			if (i < n)
				assert_int_equal(own[i], ((uint64_t *)phys(root))[i]);
			else
				assert_int_equal(own[i], i < 2 * n ? direct[i] : 0);
		}
	}
}

static void a_vcpu_flushes_once_for_each_epoch(void **state)
{
	bool flush = true;

	(void)state;
	begin_final();
	assert_true(enter(0));
	monitor_leave(0);
	assert_false(enter(0));
	monitor_leave(0);
	assert_true(enter(1));
	monitor_leave(1);
	assert_int_equal(ops->track(NULL), 0);
	assert_true(enter(0));
	monitor_leave(0);
	assert_false(enter(0));
	monitor_leave(0);
	assert_int_equal(ops->track(NULL), 0);
	assert_int_equal(ops->track(NULL), 0);
	assert_true(enter(1));
	monitor_leave(1);
	/* What was owed before stays owed. */
	monitor_enter(1, direct_root, &flush);
	assert_true(flush);
}

static void track_and_remove(void)
{
	assert_int_equal(ops->track(NULL), 0);
	assert_int_equal(ops->remove(NULL, 0x400, L4K, frame(1)), 0);
}

static void an_epoch_that_begins_while_a_vcpu_enters_is_its_own(void **state)
{
	(void)state;
	begin_final();
	map_at(0x400, L4K, 1);
	enter(0);
	monitor_leave(0);
	assert_int_equal(ops->block(NULL, 0x400, L4K), 0);
	meanwhile = track_and_remove;
	assert_true(enter(0));
	/* It holds up nobody. */
	assert_int_equal(ops->track(NULL), 0);
	assert_int_equal(ops->track(NULL), EBUSY_);
}

static void release_now(void)
{
	assert_int_equal(ops->release(NULL), 0);
}

static void a_guest_that_ends_while_a_vcpu_enters_is_not_entered(void **state)
{
	(void)state;
	begin_final();
	meanwhile = release_now;
	assert_false(may_enter(0));
}

static void enter_now(void)
{
	enter(0);
}

static void a_guest_that_is_entered_while_it_ends_has_not_ended(void **state)
{
	(void)state;
	begin_final();
	meanwhile = enter_now;
	assert_int_equal(ops->release(NULL), EBUSY_);
	monitor_leave(0);
	assert_true(may_enter(0));
}

/* ---- removal ---- */

static void a_page_goes_after_block_track_and_the_last_vcpu(void **state)
{
	(void)state;
	begin_final();
	map_at(0x400, L4K, 1);
	content(1)[0] = 7;
	enter(0);
	assert_int_equal(remove_at(0x400, L4K, 1), EINVAL_);
	assert_int_equal(ops->block(NULL, 0x400, L4K), 0);
	assert_int_equal(word_at(0x400), 0);
	assert_int_equal(ops->block(NULL, 0x400, L4K), EINVAL_);
	assert_int_equal(remove_at(0x400, L4K, 1), EBUSY_);
	assert_int_equal(ops->track(NULL), 0);
	/* vCPU 0 is in since before; one that comes now knows nothing. */
	assert_true(enter(1));
	assert_int_equal(remove_at(0x400, L4K, 1), EBUSY_);
	assert_int_equal(content(1)[0], 7);
	assert_int_equal(frames[1].owner, OWNER_GUEST);
	monitor_leave(0);
	assert_int_equal(remove_at(0x400, L4K, 2), EINVAL_);
	assert_int_equal(ops->remove(NULL, 0x400, L2M, frame(1)), EINVAL_);
	assert_int_equal(remove_at(0x400, L4K, 1), 0);
	assert_int_equal(content(1)[0], 0);
	assert_int_equal(frames[1].owner, OWNER_HOST);
	assert_int_equal(kind_at(0x400, L4K), TPT_EXTERNAL_NONE);
	assert_int_equal(remove_at(0x400, L4K, 1), EINVAL_);
	map_at(0x400, L4K, 1);
}

static void a_vcpu_that_left_and_came_back_before_the_track_is_waited_for(void **state)
{
	(void)state;
	begin_final();
	map_at(0x400, L4K, 1);
	enter(0);
	assert_int_equal(ops->block(NULL, 0x400, L4K), 0);
	monitor_leave(0);
	/* No flush, so it may still know the page. */
	assert_false(enter(0));
	assert_int_equal(ops->track(NULL), 0);
	assert_int_equal(remove_at(0x400, L4K, 1), EBUSY_);
	monitor_leave(0);
	assert_int_equal(remove_at(0x400, L4K, 1), 0);
	assert_true(enter(0));
}

static void an_epoch_waits_for_who_is_in_the_one_before_the_last(void **state)
{
	(void)state;
	begin_final();
	enter(0);
	assert_int_equal(ops->track(NULL), 0);
	assert_int_equal(ops->track(NULL), EBUSY_);
	enter(1);
	assert_int_equal(ops->track(NULL), EBUSY_);
	monitor_leave(0);
	assert_int_equal(ops->track(NULL), 0);
	assert_int_equal(ops->track(NULL), EBUSY_);
	monitor_leave(1);
	assert_int_equal(ops->track(NULL), 0);
}

static void one_track_serves_many_pages_and_a_later_block_needs_its_own(void **state)
{
	(void)state;
	begin_final();
	for (unsigned int i = 0; i < 4; i++) {
		map_at(0x400 + i, L4K, i);
		if (i < 3)
			assert_int_equal(ops->block(NULL, 0x400 + i, L4K), 0);
	}
	assert_int_equal(ops->track(NULL), 0);
	assert_int_equal(remove_at(0x401, L4K, 1), 0);
	assert_int_equal(remove_at(0x400, L4K, 0), 0);
	assert_int_equal(ops->block(NULL, 0x403, L4K), 0);
	assert_int_equal(remove_at(0x403, L4K, 3), EBUSY_);
	assert_int_equal(ops->track(NULL), 0);
	assert_int_equal(remove_at(0x403, L4K, 3), 0);
	assert_int_equal(remove_at(0x402, L4K, 2), 0);
}

static void a_large_page_goes_whole(void **state)
{
	(void)state;
	begin_final();
	map_at(0x600, L2M, 512);
	content(512 + 511)[511] = 7;
	block_at(0x600, L2M);
	assert_int_equal(remove_at(0x600, L4K, 512), EINVAL_);
	assert_int_equal(remove_at(0x600, L2M, 1024), EINVAL_);
	assert_int_equal(remove_at(0x600, L2M, 512), 0);
	assert_true(is_zero((FIRST + 512) << 12, 2 << 20));
	assert_int_equal(nr_of_guest(), 0);
}

static void only_what_is_there_is_blocked(void **state)
{
	(void)state;
	begin_final();
	assert_int_equal(ops->block(NULL, 0x400, L4K), EINVAL_);
	link_to(0x400, L4K);
	assert_int_equal(ops->block(NULL, 0x400, L4K), EINVAL_);
	assert_int_equal(ops->block(NULL, 0x401, L2M), EINVAL_);
	assert_int_equal(ops->block(NULL, TOP, L512G), EINVAL_);
	assert_int_equal(ops->unblock(NULL, 0x400, L4K), EINVAL_);
}

static void what_is_unblocked_is_as_it_was(void **state)
{
	uint64_t word;

	(void)state;
	begin_final();
	map_at(0x400, L4K, 1);
	map_at(0x600, L2M, 512);
	content(1)[3] = 9;
	assert_int_equal(ops->unblock(NULL, 0x400, L4K), EINVAL_);
	word = word_at(0x400);
	assert_int_equal(ops->block(NULL, 0x400, L4K), 0);
	assert_int_equal(ops->unblock(NULL, 0x400, L4K), EBUSY_);
	assert_int_equal(ops->track(NULL), 0);
	assert_int_equal(ops->unblock(NULL, 0x400, L4K), 0);
	assert_int_equal(word_at(0x400), word);
	assert_int_equal(content(1)[3], 9);
	assert_int_equal(remove_at(0x400, L4K, 1), EINVAL_);
	/* A table, and a large leaf. */
	block_at(0x400, L2M);
	assert_int_equal(word_at(0x400), 0);
	assert_int_equal(ops->unblock(NULL, 0x400, L2M), 0);
	assert_int_equal(word_at(0x400), word);
	word = word_at(0x600);
	block_at(0x600, L2M);
	assert_int_equal(ops->unblock(NULL, 0x600, L2M), 0);
	assert_int_equal(word_at(0x600), word);
}

/* ---- sizes ---- */

static int split_at(tpt_gfn gfn, enum tpt_level level, uint64_t table)
{
	return ops->split(NULL, gfn, level, (tpt_hpa){table});
}

static int merge_at(tpt_gfn gfn, enum tpt_level level, uint64_t table)
{
	return ops->merge(NULL, gfn, level, (tpt_hpa){table});
}

static void a_split_leaf_is_512_over_the_same_frames(void **state)
{
	uint64_t table;

	(void)state;
	begin_final();
	map_at(0x600, L2M, 512);
	for (unsigned int i = 0; i < 512; i++)
		content(512 + i)[i] = 1000 + i;
	table = table_take();
	enter(0);
	assert_int_equal(split_at(0x600, L2M, table), EINVAL_);
	assert_int_equal(ops->block(NULL, 0x600, L2M), 0);
	assert_int_equal(split_at(0x600, L2M, table), EBUSY_);
	assert_int_equal(ops->track(NULL), 0);
	assert_int_equal(split_at(0x600, L2M, table), EBUSY_);
	monitor_leave(0);
	assert_int_equal(split_at(0x600, L2M, table + 16), EINVAL_);
	assert_int_equal(split_at(0x600, L2M, (FIRST + 4000) << 12), EINVAL_);
	assert_int_equal(split_at(0x600, L2M, 0), EINVAL_);
	assert_int_equal(kind_at(0x600, L2M), TPT_EXTERNAL_BLOCKED_LEAF);
	assert_int_equal(split_at(0x600, L2M, table), 0);
	for (unsigned int i = 0; i < 512; i++) {
		assert_int_equal(word_at(0x600 + i), (FIRST + 512 + i) << 12 | LEAF_4K);
		assert_int_equal(content(512 + i)[i], 1000 + i);
	}
	assert_int_equal(kind_at(0x600, L2M), TPT_EXTERNAL_TABLE);
	assert_int_equal(nr_of_guest(), 512);
	/* Each goes by itself. */
	block_at(0x6ff, L4K);
	assert_int_equal(remove_at(0x6ff, L4K, 512 + 0xff), 0);
	assert_int_equal(nr_of_guest(), 511);
}

static void only_a_large_leaf_is_split(void **state)
{
	(void)state;
	begin_final();
	map_at(0x400, L4K, 1);
	block_at(0x400, L4K);
	assert_int_equal(split_at(0x400, L4K, table_take()), EINVAL_);
	block_at(0x400, L2M);
	assert_int_equal(split_at(0x400, L2M, table_take()), EINVAL_);
	assert_int_equal(split_at(0x600, L2M, table_take()), EINVAL_);
}

/* A table of 512 at 0x600; where it is. */
static uint64_t map_512(uint64_t first)
{
	link_to(0x600, L4K);
	for (unsigned int i = 0; i < 512; i++) {
		map_at(0x600 + i, L4K, first + i);
		content(first + i)[i] = 1000 + i;
	}
	return *((uint64_t *)phys(*(uint64_t *)phys(*(uint64_t *)phys(root) & ~0xfffull) &
				  ~0xfffull) +
		 3) &
	       ~0xfffull;
}

static void a_merged_table_is_one_leaf_over_the_same_frames(void **state)
{
	uint64_t table;

	(void)state;
	begin_final();
	table = map_512(1024);
	enter(0);
	assert_int_equal(merge_at(0x600, L2M, table), EINVAL_);
	assert_int_equal(ops->block(NULL, 0x600, L2M), 0);
	assert_int_equal(merge_at(0x600, L2M, table), EBUSY_);
	assert_int_equal(ops->track(NULL), 0);
	assert_int_equal(merge_at(0x600, L2M, table), EBUSY_);
	monitor_leave(0);
	assert_int_equal(merge_at(0x600, L2M, table_take()), EINVAL_);
	assert_int_equal(kind_at(0x600, L2M), TPT_EXTERNAL_BLOCKED_TABLE);
	assert_int_equal(merge_at(0x600, L2M, table), 0);
	assert_int_equal(word_at(0x600), (FIRST + 1024) << 12 | LEAF_2M);
	for (unsigned int i = 0; i < 512; i++)
		assert_int_equal(content(1024 + i)[i], 1000 + i);
	assert_int_equal(nr_of_guest(), 512);
	/* And back. */
	block_at(0x600, L2M);
	assert_int_equal(split_at(0x600, L2M, table), 0);
	assert_int_equal(content(1024 + 9)[9], 1009);
	assert_int_equal(word_at(0x609), (FIRST + 1033) << 12 | LEAF_4K);
}

static void what_is_not_uniform_is_not_merged(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 5; i++) {
		uint64_t table;

		begin_final();
		table = map_512(i == 4 ? 1025 : 1024);
		switch (i) {
		case 0: /* one is missing */
			block_at(0x7ff, L4K);
			assert_int_equal(remove_at(0x7ff, L4K, 1024 + 511), 0);
			break;
		case 1: /* the first is */
			block_at(0x600, L4K);
			assert_int_equal(remove_at(0x600, L4K, 1024), 0);
			break;
		case 2: /* one is blocked */
			block_at(0x680, L4K);
			break;
		case 3: /* one has another frame */
			block_at(0x680, L4K);
			assert_int_equal(remove_at(0x680, L4K, 1024 + 0x80), 0);
			map_at(0x680, L4K, 9);
			break;
		default: /* the frames are not aligned */
			break;
		}
		block_at(0x600, L2M);
		assert_int_equal(merge_at(0x600, L2M, table), EINVAL_);
		assert_int_equal(kind_at(0x600, L2M), TPT_EXTERNAL_BLOCKED_TABLE);
		assert_int_equal(ops->unblock(NULL, 0x600, L2M), 0);
		assert_int_equal(word_at(0x601), (FIRST + 1025 + (i == 4)) << 12 | LEAF_4K);
	}
}

static void a_leaf_is_not_merged(void **state)
{
	(void)state;
	begin_final();
	map_at(0x400, L4K, 1);
	map_at(0x600, L2M, 512);
	assert_int_equal(ops->block(NULL, 0x400, L4K), 0);
	block_at(0x600, L2M);
	assert_int_equal(merge_at(0x400, L4K, (FIRST + 1) << 12), EINVAL_);
	assert_int_equal(merge_at(0x600, L2M, (FIRST + 512) << 12), EINVAL_);
	assert_int_equal(merge_at(0x800, L2M, 0), EINVAL_);
}

/* ---- the end ---- */

static void a_guest_ends_when_no_vcpu_is_in_it_and_for_good(void **state)
{
	(void)state;
	begin_final();
	map_at(0x400, L4K, 1);
	map_at(0x600, L2M, 512);
	map_at(0x401, L4K, 2);
	assert_int_equal(ops->block(NULL, 0x401, L4K), 0);
	enter(3);
	assert_int_equal(ops->reclaim_leaf(NULL, 0x400, L4K, frame(1)), EINVAL_);
	assert_int_equal(ops->release(NULL), EBUSY_);
	/* Nothing has changed. */
	assert_int_equal(ops->reclaim_leaf(NULL, 0x400, L4K, frame(1)), EINVAL_);
	assert_true(may_enter(2));
	monitor_leave(2);
	monitor_leave(3);
	assert_int_equal(ops->release(NULL), 0);
	assert_false(may_enter(2));
	/* Nothing but taking back is possible. */
	assert_int_equal(ops->map(NULL, 0x402, L4K, frame(3)), EINVAL_);
	assert_int_equal(link_at(0x800, L2M), EINVAL_);
	assert_int_equal(ops->block(NULL, 0x400, L4K), EINVAL_);
	assert_int_equal(ops->unblock(NULL, 0x401, L4K), EINVAL_);
	assert_int_equal(remove_at(0x401, L4K, 2), EINVAL_);
	assert_int_equal(kind_at(0x401, L4K), TPT_EXTERNAL_BLOCKED_LEAF);
	assert_int_equal(nr_of_guest(), 514);
}

static void leaves_are_taken_back_clean_blocked_or_not(void **state)
{
	(void)state;
	begin_final();
	map_at(0x400, L4K, 1);
	map_at(0x401, L4K, 2);
	map_at(0x600, L2M, 512);
	content(1)[5] = content(2)[5] = content(600)[5] = 5;
	assert_int_equal(ops->block(NULL, 0x401, L4K), 0);
	assert_int_equal(ops->release(NULL), 0);
	assert_int_equal(ops->reclaim_leaf(NULL, 0x400, L4K, frame(2)), EINVAL_);
	assert_int_equal(ops->reclaim_leaf(NULL, 0x400, L2M, frame(1)), EINVAL_);
	assert_int_equal(ops->reclaim_leaf(NULL, 0x402, L4K, frame(1)), EINVAL_);
	assert_int_equal(ops->reclaim_leaf(NULL, TOP, L4K, frame(1)), EINVAL_);
	assert_int_equal(ops->reclaim_leaf(NULL, 0x400, L4K, frame(1)), 0);
	assert_int_equal(ops->reclaim_leaf(NULL, 0x401, L4K, frame(2)), 0);
	assert_int_equal(ops->reclaim_leaf(NULL, 0x600, L2M, frame(512)), 0);
	assert_int_equal(ops->reclaim_leaf(NULL, 0x400, L4K, frame(1)), EINVAL_);
	assert_int_equal(nr_of_guest(), 0);
	assert_true(!content(1)[5] && !content(2)[5] && !content(600)[5]);
}

static void tables_are_taken_back_when_they_are_empty(void **state)
{
	uint64_t tables[3], at;

	(void)state;
	begin_final();
	map_at(0x400, L4K, 1);
	at = root;
	for (unsigned int i = 0; i < 3; i++)
		tables[i] = at = *((uint64_t *)phys(at) + (i == 2 ? 2 : 0)) & ~0xfffull;
	assert_int_equal(ops->free_table(NULL, 0x400, L2M, (tpt_hpa){tables[2]}), EINVAL_);
	assert_int_equal(ops->release(NULL), 0);
	assert_int_equal(ops->free_table(NULL, 0x400, L2M, (tpt_hpa){tables[2]}), EINVAL_);
	assert_int_equal(ops->reclaim_leaf(NULL, 0x400, L4K, frame(1)), 0);
	assert_int_equal(ops->free_table(NULL, 0, L1G, (tpt_hpa){tables[1]}), EINVAL_);
	assert_int_equal(ops->free_table(NULL, 0x400, L2M, (tpt_hpa){tables[1]}), EINVAL_);
	assert_int_equal(ops->free_table(NULL, 0x400, L2M, (tpt_hpa){tables[2]}), 0);
	assert_int_equal(ops->free_table(NULL, 0x400, L2M, (tpt_hpa){tables[2]}), EINVAL_);
	assert_int_equal(ops->free_table(NULL, 0, L1G, (tpt_hpa){tables[1]}), 0);
	assert_int_equal(ops->free_table(NULL, 0, L512G, (tpt_hpa){tables[0]}), 0);
	assert_true(is_zero(root, 4096));
}

/* A page of zeros looks as an empty table does. */
static void a_leaf_is_no_table_to_take_back(void **state)
{
	(void)state;
	begin_final();
	map_at(0x400, L4K, 1);
	map_at(0x600, L2M, 512);
	assert_int_equal(ops->release(NULL), 0);
	assert_int_equal(ops->free_table(NULL, 0x400, L4K, (tpt_hpa){(FIRST + 1) << 12}), EINVAL_);
	assert_int_equal(ops->free_table(NULL, 0x600, L2M, (tpt_hpa){(FIRST + 512) << 12}),
			 EINVAL_);
	assert_int_equal(kind_at(0x400, L4K), TPT_EXTERNAL_LEAF);
	assert_int_equal(kind_at(0x600, L2M), TPT_EXTERNAL_LEAF);
	/* Nor is nothing. */
	assert_int_equal(ops->free_table(NULL, 0x800, L2M, (tpt_hpa){0}), EINVAL_);
}

static void what_is_there_is_told_as_it_is(void **state)
{
	struct tpt_external_entry e;

	(void)state;
	begin_final();
	map_at(0x400, L4K, 1);
	map_at(0x600, L2M, 512);
	assert_int_equal(kind_at(0, L512G), TPT_EXTERNAL_TABLE);
	assert_int_equal(kind_at(0, L1G), TPT_EXTERNAL_TABLE);
	assert_int_equal(kind_at(0x400, L2M), TPT_EXTERNAL_TABLE);
	assert_int_equal(kind_at(0x401, L4K), TPT_EXTERNAL_NONE);
	assert_int_equal(kind_at(0x800, L2M), TPT_EXTERNAL_NONE);
	assert_int_equal(kind_at(0x600, L4K), TPT_EXTERNAL_NONE);
	assert_int_equal(kind_at(TOP, L512G), TPT_EXTERNAL_NONE);
	assert_int_equal(ops->read(NULL, 0x400, L4K, &e), 0);
	assert_int_equal(e.kind, TPT_EXTERNAL_LEAF);
	assert_int_equal(e.pfn.n, FIRST + 1);
	assert_int_equal(ops->block(NULL, 0x600, L2M), 0);
	assert_int_equal(ops->read(NULL, 0x600, L2M, &e), 0);
	assert_int_equal(e.kind, TPT_EXTERNAL_BLOCKED_LEAF);
	assert_int_equal(e.pfn.n, FIRST + 512);
	assert_int_equal(ops->block(NULL, 0x400, L2M), 0);
	assert_int_equal(ops->read(NULL, 0x400, L2M, &e), 0);
	assert_int_equal(e.kind, TPT_EXTERNAL_BLOCKED_TABLE);
	assert_int_equal(e.pfn.n, 0);
	/* Below it all is as it was. */
	assert_int_equal(kind_at(0x400, L4K), TPT_EXTERNAL_LEAF);
}

/* ---- side by side ---- */

static void map_the_same_frame(void)
{
	assert_int_equal(ops->map(NULL, 0x402, L4K, frame(515)), 0);
}

static void map_the_same_entry(void)
{
	assert_int_equal(ops->map(NULL, 0x401, L4K, frame(9)), 0);
}

static void link_the_same_entry(void)
{
	assert_int_equal(link_at(0x600, L2M), 0);
}

static void of_two_who_want_the_same_the_first_has_it(void **state)
{
	uint64_t table;

	(void)state;
	begin_final();
	link_to(0x400, L4K);
	meanwhile = map_the_same_frame;
	assert_int_equal(ops->map(NULL, 0x401, L4K, frame(515)), EINVAL_);
	assert_int_equal(nr_of_guest(), 1);
	block_at(0x402, L4K);
	assert_int_equal(remove_at(0x402, L4K, 515), 0);
	/* One of 512, and those before it are free again. */
	meanwhile = map_the_same_frame;
	assert_int_equal(ops->map(NULL, 0x600, L2M, frame(512)), EINVAL_);
	assert_int_equal(nr_of_guest(), 1);
	assert_int_equal(word_at(0x402), (FIRST + 515) << 12 | LEAF_4K);

	meanwhile = map_the_same_entry;
	assert_int_equal(ops->map(NULL, 0x401, L4K, frame(8)), EINVAL_);
	assert_int_equal(nr_of_guest(), 2);
	assert_int_equal(word_at(0x401), (FIRST + 9) << 12 | LEAF_4K);

	meanwhile = link_the_same_entry;
	assert_int_equal(link_at(0x600, L2M), EINVAL_);
	assert_int_equal(kind_at(0x600, L2M), TPT_EXTERNAL_TABLE);
	map_at(0x601, L4K, 10);
	table = *((uint64_t *)phys(*(uint64_t *)phys(*(uint64_t *)phys(root) & ~0xfffull) &
				   ~0xfffull) +
		  3);
	assert_int_equal(*((uint64_t *)phys(table & ~0xfffull) + 1), (FIRST + 10) << 12 | LEAF_4K);
}

#define ROUNDS 3000u

static pthread_barrier_t round_;

struct mapper {
	unsigned int id;
	bool same_entry; /* else the same frame */
	int answer;
	pthread_t thread;
};

static void *run_mapper(void *ctx)
{
	struct mapper *m = ctx;

	for (unsigned int i = 0; i < ROUNDS; i++) {
		pthread_barrier_wait(&round_);
		if (m->same_entry)
			m->answer = ops->map(NULL, 0x400, L4K, frame(m->id));
		else
			m->answer = ops->map(NULL, 0x400 + m->id, L4K, frame(7));
		pthread_barrier_wait(&round_);
		/* The first looks, and puts it back. */
		if (m->id)
			continue;
		for (unsigned int id = 0; id < 2; id++) {
			tpt_gfn gfn = 0x400 + (m->same_entry ? 0 : id);
			struct tpt_external_entry e;

			ops->read(NULL, gfn, L4K, &e);
			if (e.kind == TPT_EXTERNAL_NONE)
				continue;
			ops->block(NULL, gfn, L4K);
			ops->track(NULL);
			m[0].answer |= ops->remove(NULL, gfn, L4K, e.pfn) ? -1000 : 0;
		}
		if (m[0].answer + m[1].answer != EINVAL_ || nr_of_guest()) {
			fprintf(stderr, "round %u: %d and %d, %u frames are left\n", i, m[0].answer,
				m[1].answer, nr_of_guest());
			abort();
		}
	}
	return NULL;
}

static void map_side_by_side(bool same_entry)
{
	struct mapper m[2];

	begin_final();
	link_to(0x400, L4K);
	pthread_barrier_init(&round_, NULL, 2);
	for (unsigned int id = 0; id < 2; id++)
		m[id] = (struct mapper){.id = id, .same_entry = same_entry};
	for (unsigned int id = 0; id < 2; id++)
		assert_int_equal(pthread_create(&m[id].thread, NULL, run_mapper, &m[id]), 0);
	for (unsigned int id = 0; id < 2; id++)
		pthread_join(m[id].thread, NULL);
	pthread_barrier_destroy(&round_);
}

static void a_frame_that_two_vcpus_map_at_once_is_mapped_once(void **state)
{
	(void)state;
	map_side_by_side(false);
}

static void an_entry_that_two_vcpus_map_at_once_is_mapped_once(void **state)
{
	(void)state;
	map_side_by_side(true);
}

#define COMERS 3u

static _Atomic bool over;

struct comer {
	unsigned int id;
	uint64_t random, entries, flushes, hits;
	pthread_t thread;
};

/* A vCPU that comes and goes, and keeps what it knows of one page until it is told to forget it:
 * as long as it is in, the page it knows is its own. */
static void *run_comer(void *ctx)
{
	struct comer *c = ctx;
	uint64_t known = 0;

	while (!atomic_load(&over)) {
		bool flush = false;
		uint64_t top = monitor_enter(c->id, direct_root, &flush);
		_Atomic uint64_t *word;

		c->entries++;
		c->flushes += flush;
		if (flush)
			known = 0;
		if (!known)
			known = walk(top, 0x400000).pa;
		if (known) {
			word = (_Atomic uint64_t *)phys(known) + c->id;
			atomic_store(word, c->entries);
			c->random = c->random * 6364136223846793005ull + 1442695040888963407ull;
			for (unsigned int i = c->random >> 60; i; i--) {
				sched_yield();
				if (atomic_load(word) != c->entries) {
					fprintf(stderr, "vCPU %u: its page was taken\n", c->id);
					abort();
				}
			}
			c->hits++;
		}
		monitor_leave(c->id);
		if (c->entries % 64 == 0)
			sched_yield();
	}
	return NULL;
}

static void no_page_goes_while_a_vcpu_can_know_it(void **state)
{
	struct comer c[COMERS];
	unsigned int busy = 0;

	(void)state;
	begin_final();
	link_to(0x400, L4K);
	atomic_store(&over, false);
	for (unsigned int i = 0; i < COMERS; i++) {
		c[i] = (struct comer){.id = i, .random = i};
		assert_int_equal(pthread_create(&c[i].thread, NULL, run_comer, &c[i]), 0);
	}
	for (unsigned int i = 0; i < 2000; i++) {
		unsigned int n = i % 7;
		int err;

		assert_int_equal(ops->map(NULL, 0x400, L4K, frame(n)), 0);
		for (unsigned int j = i % 16; j; j--)
			sched_yield();
		assert_int_equal(ops->block(NULL, 0x400, L4K), 0);
		while (ops->track(NULL))
			sched_yield();
		do {
			err = remove_at(0x400, L4K, n);
			busy += err == EBUSY_;
			sched_yield();
		} while (err == EBUSY_);
		assert_int_equal(err, 0);
	}
	atomic_store(&over, true);
	for (unsigned int i = 0; i < COMERS; i++) {
		pthread_join(c[i].thread, NULL);
		print_message("vCPU %u: %llu entries, %llu flushes, %llu with the page\n", i,
			      (unsigned long long)c[i].entries, (unsigned long long)c[i].flushes,
			      (unsigned long long)c[i].hits);
	}
	print_message("%u removals were busy\n", busy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_mapped_page_is_zero_and_the_guests_to_use),
		cmocka_unit_test(only_free_private_frames_are_mapped),
		cmocka_unit_test(only_an_empty_private_entry_is_mapped),
		cmocka_unit_test(a_table_is_a_page_of_the_hosts_under_an_empty_entry),
		cmocka_unit_test(what_is_added_is_the_content_of_that_page_once),
		cmocka_unit_test(nothing_is_added_to_a_guest_that_is_final),
		cmocka_unit_test(no_vcpu_enters_before_that),
		cmocka_unit_test(a_vcpus_root_is_private_below_and_the_hosts_above),
		cmocka_unit_test(the_shared_bit_says_how_much_of_a_root_is_whose),
		cmocka_unit_test(a_vcpu_flushes_once_for_each_epoch),
		cmocka_unit_test(an_epoch_that_begins_while_a_vcpu_enters_is_its_own),
		cmocka_unit_test(a_guest_that_ends_while_a_vcpu_enters_is_not_entered),
		cmocka_unit_test(a_guest_that_is_entered_while_it_ends_has_not_ended),
		cmocka_unit_test(a_page_goes_after_block_track_and_the_last_vcpu),
		cmocka_unit_test(a_vcpu_that_left_and_came_back_before_the_track_is_waited_for),
		cmocka_unit_test(an_epoch_waits_for_who_is_in_the_one_before_the_last),
		cmocka_unit_test(one_track_serves_many_pages_and_a_later_block_needs_its_own),
		cmocka_unit_test(a_large_page_goes_whole),
		cmocka_unit_test(only_what_is_there_is_blocked),
		cmocka_unit_test(what_is_unblocked_is_as_it_was),
		cmocka_unit_test(a_split_leaf_is_512_over_the_same_frames),
		cmocka_unit_test(only_a_large_leaf_is_split),
		cmocka_unit_test(a_merged_table_is_one_leaf_over_the_same_frames),
		cmocka_unit_test(what_is_not_uniform_is_not_merged),
		cmocka_unit_test(a_leaf_is_not_merged),
		cmocka_unit_test(a_guest_ends_when_no_vcpu_is_in_it_and_for_good),
		cmocka_unit_test(leaves_are_taken_back_clean_blocked_or_not),
		cmocka_unit_test(tables_are_taken_back_when_they_are_empty),
		cmocka_unit_test(a_leaf_is_no_table_to_take_back),
		cmocka_unit_test(what_is_there_is_told_as_it_is),
		cmocka_unit_test(of_two_who_want_the_same_the_first_has_it),
		cmocka_unit_test(a_frame_that_two_vcpus_map_at_once_is_mapped_once),
		cmocka_unit_test(an_entry_that_two_vcpus_map_at_once_is_mapped_once),
		cmocka_unit_test(no_page_goes_while_a_vcpu_can_know_it),
	};

	return cmocka_run_group_tests_name("monitor", tests, NULL, NULL);
}
