/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A platform for tests of rooms that need memory and a log and nothing else: counts allocations,
 * fails the n-th, keeps the last line logged. Has no table pages, no grace periods, no vCPUs.
 */
#ifndef TESTS_SLOTS_FAKE_PLATFORM_H
#define TESTS_SLOTS_FAKE_PLATFORM_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mmu/slots/slots.h"

#define KIB 1024ull
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

struct fake {
	struct tpt_platform ops;
	struct vm_base base;
	int64_t live;		/* allocations not yet freed */
	int64_t bytes;		/* of them */
	int64_t nr;		/* allocations asked for, ever */
	int64_t fail_at;	/* the allocation to refuse, counted from 1; 0: none */
	unsigned int lines;	/* logged */
	char line[REPORT_SIZE]; /* the last of them */
};

/* Stands before each block, so that a wrong size given to mem_free() is seen. */
struct fake_block {
	_Alignas(64) size_t bytes;
};

static inline void *fake_mem_alloc(void *ctx, size_t bytes)
{
	struct fake *fake = ctx;
	struct fake_block *block;

	if (++fake->nr == fake->fail_at)
		return NULL;
	block = aligned_alloc(64, sizeof(*block) + (bytes + 63) / 64 * 64);
	assert_non_null(block);
	memset(block, 0, sizeof(*block) + bytes);
	block->bytes = bytes;
	fake->live++;
	fake->bytes += (int64_t)bytes;
	return block + 1;
}

static inline void fake_mem_free(void *ctx, void *mem, size_t bytes)
{
	struct fake *fake = ctx;
	struct fake_block *block = (struct fake_block *)mem - 1;

	assert_int_equal(block->bytes, bytes);
	fake->live--;
	fake->bytes -= (int64_t)bytes;
	memset(mem, 0xa5, bytes);
	free(block);
}

static inline void fake_log(void *ctx, enum tpt_log_level level, const char *text)
{
	struct fake *fake = ctx;

	(void)level;
	fake->lines++;
	snprintf(fake->line, sizeof(fake->line), "%s", text);
}

/* A platform with nothing allocated and an empty VM base over it. */
static inline struct fake *fake_create(void)
{
	struct fake *fake = aligned_alloc(CACHE_LINE, sizeof(*fake));

	assert_non_null(fake);
	memset(fake, 0, sizeof(*fake));
	fake->ops.size = sizeof(fake->ops);
	fake->ops.mem_alloc = fake_mem_alloc;
	fake->ops.mem_free = fake_mem_free;
	fake->ops.log = fake_log;
	base_init(&fake->base, &fake->ops, fake);
	return fake;
}

/* Nothing may be left. */
static inline void fake_destroy(struct fake *fake)
{
	assert_int_equal(fake->live, 0);
	assert_int_equal(fake->bytes, 0);
	free(fake);
}

/* A line was logged since @lines that contains @text. */
#define assert_logged(fake, lines_before, text)                                       \
	do {                                                                          \
		if ((fake)->lines == (lines_before) || !strstr((fake)->line, (text))) \
			fail_msg("\"%s\" does not say \"%s\"", (fake)->line, (text)); \
	} while (0)

/* slots of a VM with two address spaces, 46-bit guest-physical addresses, private memory. */
struct world {
	struct fake *fake;
	struct slots slots;
};

static inline struct world *world_create(void)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->fake = fake_create();
	memset(&w->slots, 0xa5, sizeof(w->slots)); /* slots_init() may not rely on anything */
	slots_init(&w->slots, &w->fake->base, 2, 46, true);
	return w;
}

static inline void world_destroy(struct world *w)
{
	const char *wrong = slots_audit(&w->slots);

	if (wrong)
		fail_msg("%s", wrong);
	slots_destroy(&w->slots);
	fake_destroy(w->fake);
	free(w);
}

static inline int world_setup(void **state)
{
	*state = world_create();
	return 0;
}

static inline int world_teardown(void **state)
{
	world_destroy(*state);
	return 0;
}

#define world_test(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

/* Prepares and commits. */
static inline int region_set(struct world *w, const struct tpt_memory_region *region)
{
	struct slot_update update;
	int ret = slot_update_prepare(&w->slots, region, &update);

	if (!ret)
		slot_update_commit(&w->slots, &update);
	return ret;
}

static inline int slot_set(struct world *w, uint32_t as_id, uint32_t id, uint32_t flags,
			   uint64_t gpa, uint64_t size, uint64_t hva)
{
	return region_set(w, &(struct tpt_memory_region){.as_id = as_id,
							 .slot = id,
							 .flags = flags,
							 .gpa = {gpa},
							 .size = size,
							 .hva = {hva}});
}

static inline int slot_set_gmem(struct world *w, uint32_t as_id, uint32_t id, uint64_t gpa,
				uint64_t size, struct tpt_gmem *gmem, uint64_t offset)
{
	return region_set(w, &(struct tpt_memory_region){.as_id = as_id,
							 .slot = id,
							 .flags = TPT_MEM_GUEST_MEMFD,
							 .gpa = {gpa},
							 .size = size,
							 .hva = {0x7f0000000000 + gpa},
							 .gmem = gmem,
							 .gmem_offset = offset});
}

static inline int fake_get_page(void *ctx, uint64_t index, tpt_pfn *pfn, enum tpt_level *level)
{
	(void)ctx;
	*pfn = tpt_pfn_make(index);
	*level = TPT_LEVEL_4K;
	return 0;
}

static const struct tpt_gmem_ops fake_gmem_ops = {
	.size = sizeof(struct tpt_gmem_ops),
	.get_page = fake_get_page,
};

static inline struct tpt_gmem *gmem_make(struct world *w, uint64_t bytes)
{
	struct tpt_gmem *gmem = NULL;

	assert_int_equal(gmem_create(&w->slots, bytes, &fake_gmem_ops, NULL, &gmem), 0);
	return gmem;
}

/* Random numbers (splitmix64). The seed is printed, and TRIPTYCH_SEED repeats a run. */
struct rng {
	uint64_t state;
};

static inline struct rng rng_create(const char *what)
{
	const char *text = getenv("TRIPTYCH_SEED");
	struct rng r = {.state = text ? strtoull(text, NULL, 0) : 0x7121470001};

	print_message("%s: TRIPTYCH_SEED=%#" PRIx64 "\n", what, r.state);
	return r;
}

static inline uint64_t rng_next(struct rng *r)
{
	uint64_t z = r->state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static inline uint64_t rng_below(struct rng *r, uint64_t limit)
{
	return rng_next(r) % limit;
}

#endif
