// SPDX-License-Identifier: BSD-2-Clause
/*
 * How often is the owner of an external table called, against what its rules ask for at least: a
 * call a page and a table that comes, block and remove a page that goes, one track and one kick a
 * chunk of those; and after the guest's end one reclaim a page and a table.
 */
#include <string.h>

#include "bench/suite.h"

#define CHUNK	512 /* private mappings that one track is for: the library's default */
#define ENTRIES 512

/* Columns: n, a call each, and these. */
enum { KICKS = TPT_CALL_NR + 1, CALLS, LEAST };

static uint64_t calls[TPT_CALL_NR];

static int count_link(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_hpa table)
{
	(void)ctx, (void)gfn, (void)level, (void)table;
	calls[TPT_CALL_LINK]++;
	return 0;
}

static int count_map(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_pfn pfn)
{
	(void)ctx, (void)gfn, (void)level, (void)pfn;
	calls[TPT_CALL_MAP]++;
	return 0;
}

static int count_block(void *ctx, tpt_gfn gfn, enum tpt_level level)
{
	(void)ctx, (void)gfn, (void)level;
	calls[TPT_CALL_BLOCK]++;
	return 0;
}

static int count_unblock(void *ctx, tpt_gfn gfn, enum tpt_level level)
{
	(void)ctx, (void)gfn, (void)level;
	calls[TPT_CALL_UNBLOCK]++;
	return 0;
}

static int count_track(void *ctx)
{
	(void)ctx;
	calls[TPT_CALL_TRACK]++;
	return 0;
}

static int count_remove(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_pfn pfn)
{
	(void)ctx, (void)gfn, (void)level, (void)pfn;
	calls[TPT_CALL_REMOVE]++;
	return 0;
}

static int count_release(void *ctx)
{
	(void)ctx;
	calls[TPT_CALL_RELEASE]++;
	return 0;
}

static int count_reclaim(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_pfn pfn)
{
	(void)ctx, (void)gfn, (void)level, (void)pfn;
	calls[TPT_CALL_RECLAIM_LEAF]++;
	return 0;
}

static int count_free(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_hpa table)
{
	(void)ctx, (void)gfn, (void)level, (void)table;
	calls[TPT_CALL_FREE_TABLE]++;
	return 0;
}

static const struct tpt_external_ops counting = {.size = sizeof(counting),
						 .link = count_link,
						 .map = count_map,
						 .block = count_block,
						 .unblock = count_unblock,
						 .track = count_track,
						 .remove = count_remove,
						 .release = count_release,
						 .reclaim_leaf = count_reclaim,
						 .free_table = count_free};

/* ---- what is done, and what that takes at least ---- */

static uint64_t chunks(const struct bench *b)
{
	return (b->pages + CHUNK - 1) / CHUNK;
}

/* Tables below the root over all pages from 0 on. */
static uint64_t tables(const struct bench *b)
{
	uint64_t nr = 0, entries = b->pages;

	for (unsigned int level = 1; level < 4; level++) {
		entries = (entries + ENTRIES - 1) / ENTRIES;
		nr += entries;
	}
	return nr;
}

static uint64_t least_map(const struct bench *b)
{
	return b->pages + tables(b);
}

static uint64_t least_remove(const struct bench *b)
{
	return 2 * b->pages + chunks(b);
}

static uint64_t least_end(const struct bench *b)
{
	return 1 + b->pages + tables(b);
}

static uint64_t least_none(const struct bench *b)
{
	(void)b;
	return 0;
}

static int convert(struct bench *b)
{
	return tpt_vm_set_private(b->vm, 0, b->pages, false, NULL);
}

static int convert_back(struct bench *b)
{
	return tpt_vm_set_private(b->vm, 0, b->pages, true, NULL);
}

static int populate(struct bench *b)
{
	return bench_populate(b) ? 0 : -1;
}

static int fault_again(struct bench *b)
{
	struct tpt_fault fault = {.error_code = TPT_PFERR_WRITE};

	return tpt_vcpu_fault(b->vcpu, &fault) == TPT_RET_PF_SPURIOUS ? 0 : -1;
}

static int hole(struct bench *b)
{
	return tpt_gmem_punch_hole(b->gmem, 0, b->bytes);
}

static int invalidate(struct bench *b)
{
	struct tpt_invalidation token;
	int ret = tpt_vm_invalidate_begin(b->vm, tpt_hva_make(BENCH_HVA),
					  tpt_hva_make(BENCH_HVA + b->bytes), &token);

	if (ret < 0)
		return ret;
	tpt_vm_invalidate_end(b->vm, &token);
	return 0;
}

static int age(struct bench *b)
{
	return tpt_vm_age(b->vm, tpt_hva_make(BENCH_HVA), tpt_hva_make(BENCH_HVA + b->bytes), NULL);
}

static int zap_all(struct bench *b)
{
	return tpt_vm_zap_all_fast(b->vm);
}

static int delete_slot(struct bench *b)
{
	const struct tpt_memory_region none = {.size = 0};

	return tpt_vm_set_memory_region(b->vm, &none);
}

static int end(struct bench *b)
{
	return tpt_vm_teardown(b->vm);
}

struct job {
	const char *name;
	bool mapped; /* all memory is mapped before */
	int (*run)(struct bench *b);
	uint64_t (*least)(const struct bench *b);
};

static bool one_line(struct bench_table *t, struct bench *b, const struct job *job)
{
	uint64_t all = 0;
	struct tpt_vm_stats before, after;
	double *value;

	if (!bench_td(b, b->pages * TPT_PAGE_SIZE, &counting) ||
	    (job->mapped && !bench_populate(b)))
		return false;
	tpt_vm_get_stats(b->vm, &before);
	memset(calls, 0, sizeof(calls));
	if (job->run(b))
		return bench_fail(b, "%s failed", job->name);
	value = table_line(t, "%s", job->name);
	value[0] = (double)b->pages;
	for (unsigned int i = 0; i < TPT_CALL_NR; i++) {
		value[1 + i] = (double)calls[i];
		all += calls[i];
	}
	value[CALLS] = (double)all;
	value[LEAST] = (double)job->least(b);
	tpt_vm_get_stats(b->vm, &after);
	value[KICKS] = (double)(after.kick[TPT_KICK_TRACK] - before.kick[TPT_KICK_TRACK]);
	return true;
}

bool table_external(struct bench_table *t, struct bench *b, const struct bench_suite *s)
{
	static const struct job jobs[] = {
		{"map n pages, by faults", false, populate, least_map},
		{"fault on a mapped page", true, fault_again, least_none},
		{"hole of n pages", true, hole, least_remove},
		{"convert n pages to shared", true, convert, least_remove},
		{"convert n pages, none mapped", false, convert, least_none},
		{"convert to private what is", true, convert_back, least_none},
		{"delete a slot of n pages", true, delete_slot, least_remove},
		{"guest's end", true, end, least_end},
		{"invalidate n pages", true, invalidate, least_none},
		{"age n pages", true, age, least_none},
		{"zap_all_fast", true, zap_all, least_none},
	};
	bool good = true;

	(void)s;
	b->format = TPT_FORMAT_EPT;
	for (size_t i = 0; i < sizeof(jobs) / sizeof(jobs[0]) && good; i++) {
		good = one_line(t, b, &jobs[i]);
		bench_vm_destroy(b);
	}
	return good;
}
