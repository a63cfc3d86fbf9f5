// SPDX-License-Identifier: BSD-2-Clause
/* What memory costs, by the platform's own count: per GiB mapped, per vCPU, per VM. */
#include "bench/suite.h"

#define GIB	     (1ull << 30)
#define HEADER_BYTES 64

enum { TABLES, HEADERS, OTHER, ALL };

struct use {
	uint64_t pages, bytes;
};

static struct use now(const struct bench *b)
{
	struct tpt_posix_stats s;

	tpt_posix_get_stats(b->posix, &s);
	return (struct use){s.pages_live, s.mem_bytes};
}

static void put(struct bench_table *t, const char *name, const struct bench *b, struct use before)
{
	struct use after = now(b);
	double *value = table_line(t, "%s", name);

	value[TABLES] = (double)(after.pages - before.pages) * TPT_PAGE_SIZE;
	value[HEADERS] = (double)(after.pages - before.pages) * HEADER_BYTES;
	value[OTHER] = (double)(after.bytes - before.bytes);
	value[ALL] = value[TABLES] + value[HEADERS] + value[OTHER];
}

/* Writes to all of the second GiB, or the first. */
static bool populate(struct bench *b, bool second)
{
	uint64_t start = second ? GIB : 0, step = tpt_level_pages(b->level) * TPT_PAGE_SIZE;

	for (uint64_t gpa = start; gpa < start + GIB; gpa += step) {
		struct tpt_fault fault = {.gpa = {gpa}, .error_code = TPT_PFERR_WRITE};

		if (tpt_vcpu_fault(b->vcpu, &fault) != TPT_RET_PF_FIXED)
			return bench_fail(b, "no page at %#lx", gpa);
	}
	return true;
}

/* What the second GiB takes: the first one brings what there is one of, and fills the caches. */
static bool gib(struct bench_table *t, struct bench *b, const char *name)
{
	struct use before;

	if (!populate(b, false))
		return false;
	before = now(b);
	if (!populate(b, true))
		return false;
	put(t, name, b, before);
	return true;
}

static bool direct(struct bench_table *t, struct bench *b, const char *name, enum tpt_level level)
{
	bool good = bench_vm(b, 0, 2 * GIB, level) && gib(t, b, name);

	bench_vm_destroy(b);
	return good;
}

static bool mirror(struct bench_table *t, struct bench *b)
{
	bool good = bench_td(b, 2 * GIB, NULL) && gib(t, b, "GiB at 4K, mirror and external");

	bench_vm_destroy(b);
	return good;
}

static bool dirty_log(struct bench_table *t, struct bench *b)
{
	struct use before;
	bool good = bench_vm(b, 0, GIB, TPT_LEVEL_4K);

	before = now(b);
	good = good && bench_log_dirty(b, true);
	if (good)
		put(t, "GiB of dirty log", b, before);
	bench_vm_destroy(b);
	return good;
}

/* Its own memory, and the table pages that it keeps for its next fault. */
static bool vcpu(struct bench_table *t, struct bench *b, const char *name)
{
	struct tpt_fault fault = {.error_code = TPT_PFERR_WRITE};
	struct use before = now(b);
	struct tpt_vcpu *vcpu;
	struct tpt_roots roots;

	if (tpt_vcpu_create(b->vm, 1, &vcpu) || tpt_vcpu_load_roots(vcpu, &roots) ||
	    tpt_vcpu_fault(vcpu, &fault) < 0)
		return bench_fail(b, "no second vCPU");
	put(t, name, b, before);
	return true;
}

static bool objects(struct bench_table *t, struct bench *b)
{
	struct use before = now(b);
	bool good = bench_vm(b, 0, GIB, TPT_LEVEL_4K) && bench_populate(b);

	good = good && vcpu(t, b, "a vCPU");
	bench_vm_destroy(b);
	good = good && bench_td(b, GIB, NULL) && bench_populate(b) && vcpu(t, b, "a vCPU of a TD");
	bench_vm_destroy(b);
	good = good && bench_vm(b, 0, GIB, TPT_LEVEL_4K);
	if (good)
		put(t, "a VM, a vCPU, a memslot; nothing mapped", b, before);
	bench_vm_destroy(b);
	return good;
}

bool table_memory(struct bench_table *t, struct bench *b, const struct bench_suite *s)
{
	(void)s;
	b->format = TPT_FORMAT_EPT;
	return direct(t, b, "GiB at 4K, direct", TPT_LEVEL_4K) &&
	       direct(t, b, "GiB at 2M, direct", TPT_LEVEL_2M) && mirror(t, b) && dirty_log(t, b) &&
	       objects(t, b);
}
