// SPDX-License-Identifier: BSD-2-Clause
/*
 * Physical memory: blocks, fixed frames, regions, lazy content, reuse and errors.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "tests/machine/tree.h"

#define MIB (1ull << 20)

static struct machine *machine_of(uint64_t start, uint64_t size)
{
	struct machine_config config;
	struct machine *m;

	machine_config_default(&config);
	config.regions[0] = (struct machine_region){start, size};
	assert_int_equal(machine_create(&config, &m), 0);
	return m;
}

static void blocks_are_aligned_zero_and_apart(void **state)
{
	struct machine *m = machine_of(4 * GIB, 8 * GIB);
	uint64_t hpa[MACHINE_MAX_ORDER + 1], used = 0;

	(void)state;
	for (unsigned int o = 0; o <= MACHINE_MAX_ORDER; o++) {
		uint64_t size = 4096ull << o;

		assert_int_equal(machine_mem_alloc(m, -1, o, &hpa[o]), 0);
		assert_int_equal(hpa[o] & (size - 1), 0);
		used += 1ull << o;
		assert_int_equal(machine_mem_used(m), used);
		for (unsigned int p = 0; p < o; p++)
			assert_true(hpa[o] + size <= hpa[p] || hpa[p] + (4096ull << p) <= hpa[o]);
		for (uint64_t at = 0; at<size; at += size / 2> 4096 ? size / 2 : 4096) {
			uint64_t *p = machine_mem_ptr(m, hpa[o] + at + 8);

			assert_int_equal(*p, 0);
			*p = hpa[o] + at;
		}
	}
	for (unsigned int o = 0; o <= MACHINE_MAX_ORDER; o++) {
		assert_int_equal(*(uint64_t *)machine_mem_ptr(m, hpa[o] + 8), hpa[o]);
		assert_int_equal(machine_mem_free(m, hpa[o], o), 0);
		assert_null(machine_mem_ptr(m, hpa[o]));
		assert_null(machine_mem_ptr(m, hpa[o] + (4096ull << o) - 1));
	}
	assert_int_equal(machine_mem_used(m), 0);
	machine_destroy(m);
}

static void full_region_then_reuse_with_zero_content(void **state)
{
	static const unsigned int orders[] = {0, 3, 8, 9};

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		unsigned int o = orders[i], n = 0, nr = 8 * MIB >> (12 + o);
		struct machine *m = machine_of(2 * MIB, 8 * MIB);
		uint64_t *hpa = calloc(nr, sizeof(*hpa)), extra;

		for (; n < nr; n++) {
			assert_int_equal(machine_mem_alloc(m, 0, o, &hpa[n]), 0);
			memset(machine_mem_ptr(m, hpa[n]), 0xaa, 4096);
		}
		assert_int_equal(machine_mem_alloc(m, 0, o, &extra), -ENOMEM);
		for (n = 0; n < nr; n++)
			assert_int_equal(machine_mem_free(m, hpa[n], o), 0);
		for (n = 0; n < nr; n++) {
			assert_int_equal(machine_mem_alloc(m, 0, o, &hpa[n]), 0);
			assert_int_equal(*(uint64_t *)machine_mem_ptr(m, hpa[n]), 0);
		}
		free(hpa);
		machine_destroy(m);
	}
}

/* Freed page by page, a large block can be taken from it, and it is zero. */
static void small_frees_make_a_large_block(void **state)
{
	struct machine *m = machine_of(2 * MIB, 2 * MIB);
	uint64_t hpa, large;

	(void)state;
	for (unsigned int i = 0; i < 512; i++) {
		assert_int_equal(machine_mem_alloc(m, 0, 0, &hpa), 0);
		memset(machine_mem_ptr(m, hpa), 0x55, 4096);
		assert_int_equal(machine_mem_alloc(m, 0, 9, &large), -ENOMEM);
	}
	for (unsigned int i = 0; i < 512; i++)
		assert_int_equal(machine_mem_free(m, 2 * MIB + i * 4096ull, 0), 0);
	assert_int_equal(machine_mem_alloc(m, 0, 9, &large), 0);
	for (unsigned int i = 0; i < 2 * MIB / 8; i++)
		assert_int_equal(((uint64_t *)machine_mem_ptr(m, large))[i], 0);
	/* and a part of a block may be given back */
	assert_int_equal(machine_mem_free(m, large + 0x5000, 0), 0);
	assert_int_equal(machine_mem_free(m, large, 9), -ENOENT);
	assert_int_equal(machine_mem_used(m), 511);
	machine_destroy(m);
}

static void frames_at_fixed_addresses(void **state)
{
	struct machine *m = machine_of(4 * GIB, GIB);
	static const uint64_t where[] = {0, 0xfee00000, 4 * GIB, 0xffffffffff000};
	uint64_t hpa;

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		assert_int_equal(machine_mem_add(m, where[i], 0), 0);
		assert_int_equal(machine_mem_add(m, where[i], 0), -EEXIST);
		memset(machine_mem_ptr(m, where[i]), i + 1, 4096);
	}
	for (unsigned int i = 0; i < 4; i++) {
		assert_int_equal(*(uint8_t *)machine_mem_ptr(m, where[i] + 99), i + 1);
		assert_true(machine_mem_hpa(m, machine_mem_ptr(m, where[i] + 99), &hpa));
		assert_int_equal(hpa, where[i] + 99);
	}
	assert_int_equal(machine_mem_alloc(m, 0, 0, &hpa), 0);
	assert_int_not_equal(hpa, 4 * GIB);
	assert_int_equal(machine_mem_add(m, 4 * GIB, 9), -EEXIST);
	assert_int_equal(machine_mem_add(m, 4 * GIB + 2 * MIB, 9), 0);
	assert_int_equal(machine_mem_add(m, 64 * GIB, 18), 0);
	assert_non_null(machine_mem_ptr(m, 65 * GIB - 1));
	assert_false(machine_mem_hpa(m, &hpa, &hpa));
	machine_destroy(m);
}

static void bad_requests_change_nothing(void **state)
{
	struct machine *m = machine_of(4 * GIB, GIB);
	uint64_t hpa;

	(void)state;
	assert_int_equal(machine_mem_add(m, 0x1800, 0), -EINVAL);
	assert_int_equal(machine_mem_add(m, 0x1000, 1), -EINVAL);
	assert_int_equal(machine_mem_add(m, 1ull << 52, 0), -EINVAL);
	assert_int_equal(machine_mem_add(m, 0, 19), -EINVAL);
	assert_int_equal(machine_mem_alloc(m, 0, 19, &hpa), -EINVAL);
	assert_int_equal(machine_mem_alloc(m, 1, 0, &hpa), -EINVAL);
	assert_int_equal(machine_mem_free(m, 0x1800, 0), -EINVAL);
	assert_int_equal(machine_report_count(m), 0);
	assert_int_equal(machine_mem_free(m, 0x1000, 0), -ENOENT);
	assert_int_equal(machine_report_count(m), 1);
	assert_null(machine_mem_ptr(m, 1ull << 52));
	assert_null(machine_mem_ptr(m, UINT64_MAX));
	assert_int_equal(machine_mem_used(m), 0);
	machine_destroy(m);
}

static void bad_machines_are_refused(void **state)
{
	struct machine_config good, bad;
	struct machine *m = NULL;

	(void)state;
	machine_config_default(&good);
#define REFUSED(change)                                              \
	do {                                                         \
		bad = good;                                          \
		change;                                              \
		assert_int_equal(machine_create(&bad, &m), -EINVAL); \
	} while (0)
	REFUSED(bad.nr_cpus = 0);
	REFUSED(bad.nr_cpus = 65);
	REFUSED(bad.nr_regions = 0);
	REFUSED(bad.nr_regions = 65);
	REFUSED(bad.maxphyaddr = 35);
	REFUSED(bad.maxphyaddr = 53);
	REFUSED(bad.regions[0].size = 0);
	REFUSED(bad.regions[0].start += 4096);
	REFUSED(bad.regions[0].size = 1ull << 52);
	REFUSED(bad.nr_regions = 2; bad.regions[1] = bad.regions[0]);
	assert_null(m);
	machine_destroy(NULL);
}

/* 128 GiB of frames costs the host no memory worth speaking of. */
static void large_blocks_are_cheap(void **state)
{
	struct machine *m = machine_of(0, 128 * GIB);
	uint64_t hpa;

	(void)state;
	for (unsigned int i = 0; i < 128; i++)
		assert_int_equal(machine_mem_alloc(m, 0, 18, &hpa), 0);
	assert_int_equal(machine_mem_alloc(m, 0, 0, &hpa), -ENOMEM);
	*(uint64_t *)machine_mem_ptr(m, 77 * GIB + 8) = 5;
	assert_int_equal(machine_mem_used(m), 128ull << 18);
	machine_destroy(m);
}

static void regions_are_used_as_named(void **state)
{
	struct machine_config config;
	struct machine *m;
	uint64_t hpa;

	(void)state;
	machine_config_default(&config);
	config.nr_regions = 3;
	for (unsigned int i = 0; i < 3; i++)
		config.regions[i] = (struct machine_region){(i + 1) * GIB, 2 * MIB};
	assert_int_equal(machine_create(&config, &m), 0);
	for (int i = 2; i >= 0; i--) {
		assert_int_equal(machine_mem_alloc(m, i, 0, &hpa), 0);
		assert_int_equal(hpa / GIB, i + 1);
	}
	for (unsigned int i = 3; i < 3 * 512; i++)
		assert_int_equal(machine_mem_alloc(m, -1, 0, &hpa), 0);
	assert_int_equal(machine_mem_alloc(m, -1, 0, &hpa), -ENOMEM);
	machine_destroy(m);
}

struct churn {
	struct machine *m;
	uint64_t seed;
};

/* Each thread writes its own mark to what it holds; two owners of one frame would be seen. */
static void *churn_run(void *arg)
{
	struct churn *c = arg;
	uint64_t held[64] = {0}, seed = c->seed;
	unsigned int order[64] = {0};
	uintptr_t bad = 0;

	for (unsigned int i = 0; i < 20000; i++) {
		unsigned int n = rnd(&seed) % 64;

		if (held[n]) {
			bad += *(uint64_t *)machine_mem_ptr(c->m, held[n]) != c->seed;
			bad += machine_mem_free(c->m, held[n], order[n]) != 0;
			held[n] = 0;
			continue;
		}
		order[n] = rnd(&seed) % 11;
		if (machine_mem_alloc(c->m, -1, order[n], &held[n])) {
			held[n] = 0;
			continue;
		}
		bad += *(uint64_t *)machine_mem_ptr(c->m, held[n]) != 0;
		*(uint64_t *)machine_mem_ptr(c->m, held[n]) = c->seed;
	}
	for (unsigned int n = 0; n < 64; n++)
		if (held[n])
			machine_mem_free(c->m, held[n], order[n]);
	return (void *)bad;
}

static void threads_never_share_a_block(void **state)
{
	struct machine *m = machine_of(2 * MIB, 64 * MIB);
	struct churn c[3] = {{m, 11}, {m, 22}, {m, 33}};
	pthread_t thread[3];
	void *bad;

	(void)state;
	for (unsigned int i = 0; i < 3; i++)
		pthread_create(&thread[i], NULL, churn_run, &c[i]);
	for (unsigned int i = 0; i < 3; i++) {
		pthread_join(thread[i], &bad);
		assert_null(bad);
	}
	assert_int_equal(machine_mem_used(m), 0);
	assert_int_equal(machine_report_count(m), 0);
	machine_destroy(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_are_aligned_zero_and_apart),
		cmocka_unit_test(full_region_then_reuse_with_zero_content),
		cmocka_unit_test(small_frees_make_a_large_block),
		cmocka_unit_test(frames_at_fixed_addresses),
		cmocka_unit_test(bad_requests_change_nothing),
		cmocka_unit_test(bad_machines_are_refused),
		cmocka_unit_test(large_blocks_are_cheap),
		cmocka_unit_test(regions_are_used_as_named),
		cmocka_unit_test(threads_never_share_a_block),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
