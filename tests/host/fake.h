/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A machine without a module: SEAMCALLs are recorded and answered by script, pages are numbers.
 * What the host half asks for is seen here, never whether it may.
 */
#ifndef TESTS_HOST_FAKE_H
#define TESTS_HOST_FAKE_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tdx/host/host.h"

#define FAKE_CALLS    65536
#define FAKE_PAGES    64
#define FAKE_BASE     0x40000000ull
#define FAKE_HKID     5
#define FAKE_GLOBAL   2
#define FAKE_HKID_BIT 46
#define FAKE_FOREVER  (-1)
#define FAKE_TDR      FAKE_BASE /* the first page that a TD gets */
#define FAKE_TD_CALLS 10	/* of tdx_td_create() with two packages */
#define FAKE_HOST_LP  1		/* where the test's thread is */
#define FAKE_LPS      4

struct fake_call {
	unsigned int lp, leaf;
	uint64_t rcx, rdx, r8, r9;
};

/* From the @skip-th call of @leaf on, the next @times are answered with @status. */
struct fake_script {
	int leaf; /* -1: none */
	int skip, times;
	uint64_t status;
};

struct fake {
	struct tdx_host_config config;
	struct tdx_host *host;
	unsigned int lp;
	struct fake_call call[FAKE_CALLS];
	unsigned int calls;
	struct fake_script script[2];
	/* Answers of PAGE.REMOVE, PAGE.PROMOTE and SEPT.RD. */
	uint64_t remove_hpa, promote_hpa, sept_rcx, sept_rdx;
	uint64_t reclaim_size;
	bool guest;		  /* VP.ENTER goes in */
	unsigned int unreachable; /* LP that run_on() can't reach; 0 = none */
	char page[FAKE_PAGES][4096];
	bool live[FAKE_PAGES];
	unsigned int pages_live, pages_ever, page_fail; /* the page_fail-th alloc fails; 0 = none */
	uint64_t cleared, written_back;			/* bytes */
	unsigned int relaxed, lines;
	char line[256]; /* last one logged as an error */
};

static inline uint64_t fake_scripted(struct fake *f, unsigned int leaf)
{
	for (unsigned int i = 0; i < 2; i++) {
		struct fake_script *s = &f->script[i];

		if (s->leaf != (int)leaf || !s->times)
			continue;
		if (s->skip) {
			s->skip--;
			continue;
		}
		if (s->times > 0)
			s->times--;
		return s->status;
	}
	return TDX_SUCCESS;
}

static inline enum tdx_side fake_seamcall(void *ctx, unsigned int lp, struct tdx_regs *regs)
{
	struct fake *f = ctx;
	unsigned int leaf = regs->rax & TDX_RAX_LEAF;

	assert_in_range(f->calls, 0, FAKE_CALLS - 1);
	f->call[f->calls++] =
		(struct fake_call){lp, leaf, regs->rcx, regs->rdx, regs->r8, regs->r9};
	regs->rax = fake_scripted(f, leaf);
	if (leaf == TDH_VP_ENTER && f->guest && !regs->rax)
		return TDX_GUEST;
	if (leaf == TDH_SYS_TDMR_INIT)
		regs->rdx = regs->rcx + (1ull << 30);
	if (leaf == TDH_MEM_PAGE_REMOVE)
		regs->rcx = f->remove_hpa;
	if (leaf == TDH_MEM_PAGE_PROMOTE)
		regs->rcx = f->promote_hpa;
	if (leaf == TDH_PHYMEM_PAGE_RECLAIM)
		regs->r8 = f->reclaim_size;
	if (leaf == TDH_MEM_SEPT_RD) {
		regs->rcx = f->sept_rcx;
		regs->rdx = f->sept_rdx;
	}
	return TDX_HOST;
}

static inline unsigned int fake_current_lp(void *ctx)
{
	return ((struct fake *)ctx)->lp;
}

static inline int fake_run_on(void *ctx, unsigned int lp, void (*fn)(void *arg), void *arg)
{
	struct fake *f = ctx;
	unsigned int before = f->lp;

	if (f->unreachable && lp == f->unreachable)
		return -ENXIO;
	f->lp = lp;
	fn(arg);
	f->lp = before;
	return 0;
}

static inline int fake_page_alloc(void *ctx, tpt_hpa *page)
{
	struct fake *f = ctx;

	if (f->page_fail && f->pages_ever + 1 == f->page_fail)
		return -ENOMEM;
	assert_in_range(f->pages_ever, 0, FAKE_PAGES - 1);
	f->live[f->pages_ever] = true;
	f->pages_live++;
	page->a = FAKE_BASE + 4096ull * f->pages_ever++;
	return 0;
}

static inline void fake_page_free(void *ctx, tpt_hpa page)
{
	struct fake *f = ctx;
	uint64_t i = (page.a - FAKE_BASE) / 4096;

	assert_in_range(i, 0, FAKE_PAGES - 1);
	assert_true(f->live[i]);
	f->live[i] = false;
	f->pages_live--;
}

static inline void *fake_page_ptr(void *ctx, tpt_hpa page)
{
	return ((struct fake *)ctx)->page[(page.a - FAKE_BASE) / 4096];
}

static inline void fake_clear(void *ctx, tpt_hpa hpa, uint64_t bytes)
{
	(void)hpa;
	((struct fake *)ctx)->cleared += bytes;
}

static inline void fake_write_back(void *ctx, tpt_hpa hpa, uint64_t bytes)
{
	(void)hpa;
	((struct fake *)ctx)->written_back += bytes;
}

static inline void fake_relax(void *ctx)
{
	((struct fake *)ctx)->relaxed++;
}

static inline void fake_log(void *ctx, enum tpt_log_level level, const char *text)
{
	struct fake *f = ctx;

	if (level != TPT_LOG_ERROR)
		return;
	f->lines++;
	snprintf(f->line, sizeof(f->line), "%s", text);
}

static inline struct fake *fake_create(void)
{
	struct fake *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->lp = FAKE_HOST_LP;
	f->script[0].leaf = f->script[1].leaf = -1;
	f->config = (struct tdx_host_config){
		.size = sizeof(f->config),
		.seamcall = fake_seamcall,
		.seamcall_ctx = f,
		.nr_lps = FAKE_LPS,
		.nr_packages = 2,
		.package_lp = {2, 3},
		.hkid_start_bit = FAKE_HKID_BIT,
		.global_hkid = FAKE_GLOBAL,
		.busy_tries = 5,
		.ctx = f,
		.current_lp = fake_current_lp,
		.run_on = fake_run_on,
		.page_alloc = fake_page_alloc,
		.page_free = fake_page_free,
		.page_ptr = fake_page_ptr,
		.clear = fake_clear,
		.write_back = fake_write_back,
		.relax = fake_relax,
		.log = fake_log,
	};
	assert_int_equal(tdx_host_create(&f->config, &f->host), 0);
	return f;
}

static inline void fake_destroy(struct fake *f)
{
	tdx_host_destroy(f->host);
	free(f);
}

static inline void fake_answer(struct fake *f, int leaf, int skip, int times, uint64_t status)
{
	f->script[0] = (struct fake_script){leaf, skip, times, status};
}

static const struct tdx_td_config fake_td_config = {
	.size = sizeof(struct tdx_td_config),
	.hkid = FAKE_HKID,
	.max_vcpus = 4,
	.levels = 4,
};

static inline struct tdx_td *fake_td(struct fake *f)
{
	struct tdx_td *td;

	assert_int_equal(tdx_td_create(f->host, &fake_td_config, &td), 0);
	return td;
}

/* A finalised TD with one vCPU on FAKE_HOST_LP; calls so far are forgotten. */
static inline struct tdx_td *fake_runnable(struct fake *f, struct tdx_vcpu **vcpu)
{
	struct tdx_td *td = fake_td(f);

	assert_int_equal(tdx_vcpu_create(td, 0x77, vcpu), 0);
	assert_int_equal(tdx_td_finalize(td), 0);
	f->calls = 0;
	f->cleared = f->written_back = 0;
	return td;
}

/* The recorded leaves from @first on are exactly these @n. */
static inline void fake_expect(const struct fake *f, unsigned int first, const unsigned int *leaves,
			       unsigned int n)
{
	assert_int_equal(f->calls, first + n);
	for (unsigned int i = 0; i < n; i++)
		if (f->call[first + i].leaf != leaves[i])
			fail_msg("call %u is %s, expected %s", first + i,
				 tdx_leaf_name(f->call[first + i].leaf), tdx_leaf_name(leaves[i]));
}
#define FAKE_EXPECT(f, first, ...)                                 \
	fake_expect(f, first, (const unsigned int[]){__VA_ARGS__}, \
		    sizeof((const unsigned int[]){__VA_ARGS__}) / sizeof(unsigned int))

static inline struct tdx_leaf_stats fake_leaf(const struct fake *f, unsigned int leaf)
{
	struct tdx_host_stats stats;

	tdx_host_get_stats(f->host, &stats);
	return stats.leaf[leaf];
}

static inline struct tdx_host_stats fake_stats(const struct fake *f)
{
	struct tdx_host_stats stats;

	tdx_host_get_stats(f->host, &stats);
	return stats;
}

#endif
