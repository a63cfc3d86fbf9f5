/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tables made by hand for the model processor's tests, entry by entry from the manuals' figures.
 * Holds no expectation of what the processor makes of them.
 */
#ifndef TESTS_MACHINE_TREE_H
#define TESTS_MACHINE_TREE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "machine/machine.h"

#define GIB    (1ull << 30)
#define EPT_AD 0x300ull
#define TAG    7

struct tree {
	struct machine_config config;
	struct machine *m;
	struct machine_cpu *cpu;
	struct machine_root root;
	unsigned int levels;
	uint64_t link; /* low bits of an entry that links a table */
};

static inline uint64_t page(struct tree *t)
{
	uint64_t hpa;

	assert_int_equal(machine_mem_alloc(t->m, -1, 0, &hpa), 0);
	return hpa;
}

static inline uint64_t block(struct tree *t, unsigned int order)
{
	uint64_t hpa;

	assert_int_equal(machine_mem_alloc(t->m, -1, order, &hpa), 0);
	return hpa;
}

static inline uint64_t *word(struct tree *t, uint64_t hpa)
{
	uint64_t *p = machine_mem_ptr(t->m, hpa);

	assert_non_null(p);
	return p;
}

static inline unsigned int shift(unsigned int level)
{
	return 12 + 9 * (level - 1);
}

static inline void tree_load(struct tree *t)
{
	assert_int_equal(machine_cpu_load(t->cpu, &t->root), 0);
}

/* A machine as t->config says, and an empty EPT or NPT tree that is loaded on LP 0. */
static inline void tree_make(struct tree *t, enum machine_root_kind kind, unsigned int levels,
			     bool ad)
{
	uint64_t root;

	assert_int_equal(machine_create(&t->config, &t->m), 0);
	t->cpu = machine_get_cpu(t->m, 0);
	t->levels = levels;
	t->link = 7;
	root = page(t);
	t->root = (struct machine_root){.kind = kind, .tag = TAG, .pointer = root};
	if (kind == MACHINE_ROOT_EPT)
		t->root.pointer = machine_eptp(root, levels, ad);
	t->root.npt_levels = levels;
	tree_load(t);
}

static inline void tree_default(struct tree *t, enum machine_root_kind kind, unsigned int levels)
{
	machine_config_default(&t->config);
	tree_make(t, kind, levels, kind == MACHINE_ROOT_EPT);
}

static inline void tree_free(struct tree *t)
{
	machine_destroy(t->m);
}

/* The entry of @gpa at @level; tables above are linked as needed. */
static inline uint64_t *tree_entry(struct tree *t, uint64_t gpa, unsigned int level)
{
	uint64_t table = t->root.pointer & 0xffffffffff000ull;

	for (unsigned int l = t->levels;; l--) {
		uint64_t *e = word(t, table + (gpa >> shift(l) & 511) * 8);

		if (l == level)
			return e;
		if (!*e)
			*e = page(t) | t->link;
		table = *e & 0xffffffffff000ull;
	}
}

static inline void tree_flush(struct tree *t)
{
	machine_flush(t->m, NULL, MACHINE_TAG_ALL, 0, MACHINE_GPA_END, MACHINE_FLUSH_REMOTE);
}

/* One access with nothing cached before it. */
static inline struct machine_result fresh(struct tree *t, uint64_t gpa, unsigned int kind)
{
	struct machine_result r;

	tree_flush(t);
	assert_true(machine_access(t->cpu, gpa, kind, &r) >= 0);
	return r;
}

static inline struct machine_result touch(struct tree *t, uint64_t gpa, unsigned int kind)
{
	struct machine_result r;

	assert_true(machine_access(t->cpu, gpa, kind, &r) >= 0);
	return r;
}

static inline struct machine_counters counters(struct tree *t)
{
	struct machine_counters c;

	machine_cpu_counters(t->cpu, &c);
	return c;
}

/* The only report so far is of this kind; forget it. */
static inline void expect_report(struct tree *t, enum machine_report_kind kind, uint64_t gpa,
				 uint64_t hpa)
{
	struct machine_report r;

	assert_int_equal(machine_report_count(t->m), 1);
	assert_int_equal(machine_report_get(t->m, 0, &r, 1), 1);
	assert_int_equal(r.kind, kind);
	assert_int_equal(r.gpa, gpa);
	assert_int_equal(r.hpa, hpa);
	machine_report_clear(t->m);
}

static inline uint64_t rnd(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

#endif
