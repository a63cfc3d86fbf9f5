/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The library, the host half and the module model together: one TDMR of real bytes, a tpt_vm that
 * is a TD, guests on LPs 0.. that the test drives by hand. The test's own thread is on the last LP.
 */
#ifndef TESTS_HOST_REAL_H
#define TESTS_HOST_REAL_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <triptych/posix.h>
#include <triptych/triptych.h>

#include "tdx/host/host.h"
#include "tdx/module/module.h"
#include "tdx/module/memory.h"

#define GIB		(1ull << 30)
#define REAL_BASE	(4 * GIB)     /* of the TDMR */
#define REAL_POOL	(64ull << 20) /* tables and pages for the module, from its start */
#define REAL_PRIVATE	(REAL_BASE + (128ull << 20)) /* frame of gmem page 0 */
#define REAL_SHARED	(REAL_BASE + (512ull << 20)) /* frame of ordinary page 0 */
#define REAL_GUEST	(64ull << 20)		     /* bytes of guest memory from GPA 0 */
#define REAL_HKID	40
#define REAL_GLOBAL	32
#define REAL_LPS	5
#define REAL_HOST_LP	(REAL_LPS - 1)
#define REAL_MAX_VCPUS	4
#define REAL_SHARED_BIT (1ull << 47)

struct real_vcpu {
	struct tdx_vcpu *tdx;
	struct tpt_vcpu *tpt;
	pthread_mutex_t lock; /* held while something is done with a guest that may be inside */
	bool inside;	      /* the guest runs on the LP of the same number */
	struct tdx_guest guest;
};

struct real {
	char *bytes; /* of the TDMR */
	pthread_mutex_t lock;
	uint64_t next, free_list; /* of the pool: next never used, first freed (0 = none) */
	uint64_t pool_live;
	struct tdx_module *module;
	struct tdx_host *host;
	struct tpt_posix *posix;
	struct tdx_td *td;
	struct tpt_vm *vm;
	struct tpt_gmem *gmem;
	enum tpt_level level; /* of private leaves and of the gmem's blocks */
	bool late;	      /* caches write back as late as they may, and memory is watched */
	struct real_vcpu vcpu[REAL_MAX_VCPUS];
	unsigned int nr_vcpus, nr_fatal, lines;
	_Atomic unsigned int kicks;
	_Atomic int held; /* holds that vCPUs are out for */
	char line[256];
	/* Before each SEAMCALL; not TDX_SUCCESS: the answer, without a call. May be NULL. */
	uint64_t (*spy)(struct real *r, const struct tdx_regs *regs);
};

/* The LP that a thread is on. */
static _Thread_local unsigned int real_lp = REAL_HOST_LP;

static inline void *real_bytes(void *ctx, uint64_t hpa)
{
	struct real *r = ctx;

	return hpa - REAL_BASE < GIB ? r->bytes + (hpa - REAL_BASE) : NULL;
}

/* -- Pages -- */

static inline int real_page_alloc(void *ctx, tpt_hpa *page)
{
	struct real *r = ctx;

	pthread_mutex_lock(&r->lock);
	if (r->free_list) {
		page->a = r->free_list;
		memcpy(&r->free_list, real_bytes(r, page->a), sizeof(r->free_list));
	} else {
		page->a = r->next;
		r->next += TPT_PAGE_SIZE;
	}
	r->pool_live++;
	pthread_mutex_unlock(&r->lock);
	return page->a < REAL_BASE + REAL_POOL ? 0 : -ENOMEM;
}

static inline void real_page_free(void *ctx, tpt_hpa page)
{
	struct real *r = ctx;

	pthread_mutex_lock(&r->lock);
	memcpy(real_bytes(r, page.a), &r->free_list, sizeof(r->free_list));
	r->free_list = page.a;
	r->pool_live--;
	pthread_mutex_unlock(&r->lock);
}

static inline void *real_page_ptr(void *ctx, tpt_hpa page)
{
	return real_bytes(ctx, page.a);
}

static const struct tpt_posix_pages real_pages = {real_page_alloc, real_page_free, real_page_ptr};

static inline void real_clear(void *ctx, tpt_hpa hpa, uint64_t bytes)
{
	struct real *r = ctx;

	if (r->late)
		tdx_module_host_write_lines(r->module, hpa.a, NULL, bytes);
	else
		memset(real_bytes(ctx, hpa.a), 0, bytes);
}

static inline void real_write_back(void *ctx, tpt_hpa hpa, uint64_t bytes)
{
	struct real *r = ctx;

	if (r->late)
		tdx_module_host_flush(r->module, hpa.a, bytes);
}

/* -- The machine -- */

static inline unsigned int real_current_lp(void *ctx)
{
	(void)ctx;
	return real_lp;
}

static inline int real_run_on(void *ctx, unsigned int lp, void (*fn)(void *arg), void *arg)
{
	unsigned int before = real_lp;

	(void)ctx;
	real_lp = lp;
	fn(arg);
	real_lp = before;
	return 0;
}

static inline enum tdx_side real_seamcall(void *ctx, unsigned int lp, struct tdx_regs *regs)
{
	struct real *r = ctx;
	uint64_t status = r->spy ? r->spy(r, regs) : TDX_SUCCESS;

	if (!status)
		return tdx_module_seamcall(r->module, lp, regs);
	regs->rax = status;
	return TDX_HOST;
}

static inline void real_log(void *ctx, enum tpt_log_level level, const char *text)
{
	struct real *r = ctx;

	pthread_mutex_lock(&r->lock);
	if (level == TPT_LOG_ERROR) {
		r->lines++;
		snprintf(r->line, sizeof(r->line), "%s", text);
	}
	pthread_mutex_unlock(&r->lock);
}

static inline void real_fatal(void *ctx, const char *what)
{
	((struct real *)ctx)->nr_fatal++;
	print_error("module fatal: %s\n", what);
}

/* An interrupt for every guest that is inside: a TD exit. */
static inline void real_kick(void *ctx, struct tpt_vm *vm, enum tpt_kick_reason reason)
{
	static const struct tdx_vmexit interrupt = {.reason = TDX_EXIT_INTERRUPT};
	struct real *r = ctx;

	(void)vm;
	(void)reason;
	atomic_fetch_add(&r->kicks, 1);
	for (unsigned int i = 0; i < r->nr_vcpus; i++) {
		struct tdx_regs exit;

		pthread_mutex_lock(&r->vcpu[i].lock);
		if (r->vcpu[i].inside)
			assert_int_equal(tdx_module_vmexit(r->module, i, &interrupt,
							   &r->vcpu[i].guest, &exit),
					 TDX_HOST);
		r->vcpu[i].inside = false;
		pthread_mutex_unlock(&r->vcpu[i].lock);
	}
}

static inline void real_hold(void *ctx, struct tpt_vm *vm, bool held)
{
	atomic_fetch_add(&((struct real *)ctx)->held, held ? 1 : -1);
	if (held)
		real_kick(ctx, vm, TPT_KICK_RETRY);
}

/* -- Backing -- */

static inline int real_lookup(void *ctx, const struct tpt_backing_query *query,
			      struct tpt_backing_page *page)
{
	(void)ctx;
	*page = (struct tpt_backing_page){
		.pfn = tpt_pfn_make((REAL_SHARED >> 12) + query->gfn),
		.writable = true,
		.level = TPT_LEVEL_4K,
	};
	return 0;
}

static const struct tpt_backing_ops real_backing = {
	.size = sizeof(real_backing),
	.lookup = real_lookup,
};

static inline int real_get_page(void *ctx, uint64_t index, tpt_pfn *pfn, enum tpt_level *level)
{
	*pfn = tpt_pfn_make((REAL_PRIVATE >> 12) + index);
	*level = ((struct real *)ctx)->level;
	return 0;
}

static const struct tpt_gmem_ops real_gmem = {
	.size = sizeof(real_gmem),
	.get_page = real_get_page,
};

/* -- Making one -- */

static inline void real_make_module(struct real *r)
{
	struct tdx_module_config config = {
		.nr_lps = REAL_LPS,
		.nr_packages = 2,
		.hkid_start_bit = 46,
		.nr_hkid_bits = 6,
		.private_hkid_min = 32,
		.private_hkid_max = 63,
		.global_hkid = REAL_GLOBAL,
		.write_back = r->late ? TDX_WRITE_BACK_LATE : TDX_WRITE_BACK_AT_ONCE,
		.nr_tdmrs = 1,
		.tdmr = {{.base = REAL_BASE, .size = GIB}},
		.ctx = r,
		.page = real_bytes,
		.fatal = real_fatal,
	};
	char why[128] = "";

	r->module = tdx_module_create(&config, why, sizeof(why));
	assert_string_equal(why, "");
	assert_non_null(r->module);
}

static inline void real_make_host(struct real *r)
{
	const struct tdx_host_config config = {
		.size = sizeof(config),
		.seamcall = real_seamcall,
		.seamcall_ctx = r,
		.nr_lps = REAL_LPS,
		.nr_packages = 2,
		.package_lp = {0, 1},
		.hkid_start_bit = 46,
		.global_hkid = REAL_GLOBAL,
		.busy_tries = 100000,
		.ctx = r,
		.current_lp = real_current_lp,
		.run_on = real_run_on,
		.page_alloc = real_page_alloc,
		.page_free = real_page_free,
		.page_ptr = real_page_ptr,
		.clear = real_clear,
		.write_back = real_write_back,
		.log = real_log,
	};
	const struct tdx_tdmr tdmr = {{REAL_BASE}, GIB};

	assert_int_equal(tdx_host_create(&config, &r->host), 0);
	assert_int_equal(tdx_host_init_tdmrs(r->host, &tdmr, 1), 0);
}

static inline void real_make_vm(struct real *r)
{
	const struct tpt_posix_config posix = {
		.size = sizeof(posix),
		.flags = TPT_POSIX_POISON | TPT_POSIX_WATCH,
		.hpa_base = REAL_BASE,
		.bytes = REAL_POOL,
		.hooks = {.kick = real_kick, .hold = real_hold, .log = real_log},
		.hooks_ctx = r,
		.pages = &real_pages,
		.pages_ctx = r,
	};
	struct tpt_vm_config config = {
		.size = sizeof(config),
		.format = TPT_FORMAT_EPT,
		.flags = TPT_VM_SELF_SNOOP,
		.levels = 4,
		.maxphyaddr = 46,
		.guest_maxphyaddr = 48,
		.shared_bit = tdx_td_shared_bit(r->td),
		.address_spaces = 1,
		.max_leaf_level = TPT_LEVEL_2M,
		.max_private_level = r->level,
		.backing = &real_backing,
		.external = &tdx_external_ops,
		.external_ctx = r->td,
	};

	r->posix = tpt_posix_create(&posix);
	assert_non_null(r->posix);
	config.platform = tpt_posix_platform(r->posix);
	config.platform_ctx = r->posix;
	assert_int_equal(tpt_vm_create(&config, &r->vm), 0);
}

static inline void real_make_memory(struct real *r)
{
	struct tpt_memory_region region = {
		.flags = TPT_MEM_GUEST_MEMFD,
		.size = REAL_GUEST,
		.hva = tpt_hva_make(0x7f0000000000),
	};

	assert_int_equal(tpt_gmem_create(r->vm, REAL_GUEST, &real_gmem, r, &r->gmem), 0);
	region.gmem = r->gmem;
	assert_int_equal(tpt_vm_set_memory_region(r->vm, &region), 0);
	assert_int_equal(tpt_vm_set_private(r->vm, 0, REAL_GUEST >> 12, true, NULL), 0);
}

static inline void real_make_vcpus(struct real *r, unsigned int nr)
{
	r->nr_vcpus = nr;
	for (unsigned int i = 0; i < nr; i++) {
		struct tpt_roots roots;

		real_lp = i;
		pthread_mutex_init(&r->vcpu[i].lock, NULL);
		assert_int_equal(tpt_vcpu_create(r->vm, i, &r->vcpu[i].tpt), 0);
		assert_int_equal(tdx_vcpu_create(r->td, 0, &r->vcpu[i].tdx), 0);
		assert_int_equal(tpt_vcpu_load_roots(r->vcpu[i].tpt, &roots), 0);
		assert_int_equal(tdx_vcpu_set_shared_eptp(r->vcpu[i].tdx, roots.direct), 0);
	}
	real_lp = REAL_HOST_LP;
}

static inline struct real *real_create_of(unsigned int nr_vcpus, uint64_t attributes,
					  enum tpt_level level, bool late)
{
	const struct tdx_td_config config = {
		.size = sizeof(config),
		.hkid = REAL_HKID,
		.attributes = attributes,
		.max_vcpus = REAL_MAX_VCPUS,
		.levels = 4,
	};
	struct real *r = calloc(1, sizeof(*r));

	assert_non_null(r);
	pthread_mutex_init(&r->lock, NULL);
	r->next = REAL_BASE;
	r->level = level;
	r->late = late;
	r->bytes = mmap(NULL, GIB, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(r->bytes, MAP_FAILED);
	real_make_module(r);
	real_make_host(r);
	assert_int_equal(tdx_td_create(r->host, &config, &r->td), 0);
	real_make_vm(r);
	real_make_memory(r);
	real_make_vcpus(r, nr_vcpus);
	return r;
}

static inline struct real *real_create(unsigned int nr_vcpus, uint64_t attributes)
{
	return real_create_of(nr_vcpus, attributes, TPT_LEVEL_4K, false);
}

/* -- Driving it -- */

static inline struct tdx_leaf_stats real_leaf(struct real *r, unsigned int leaf)
{
	struct tdx_host_stats stats;

	tdx_host_get_stats(r->host, &stats);
	return stats.leaf[leaf];
}

static inline void real_audit(struct real *r)
{
	char text[256];

	if (tpt_vm_audit(r->vm, text, sizeof(text)))
		fail_msg("audit: %s", text);
}

static inline void real_enter(struct real *r, unsigned int i)
{
	struct tdx_regs regs = {0};

	real_lp = i;
	assert_int_equal(tdx_vcpu_enter(r->vcpu[i].tdx, &regs), TDX_ENTER_GUEST);
	real_lp = REAL_HOST_LP;
	assert_int_equal(tdx_module_guest_state(r->module, i, &r->vcpu[i].guest), 0);
	r->vcpu[i].inside = true;
}

/* The guest's TDG.MEM.PAGE.ACCEPT. TDX_HOST: it left, *exit says why. */
static inline enum tdx_side real_accept(struct real *r, unsigned int i, uint64_t gpa,
					unsigned int level, struct tdx_regs *exit)
{
	struct tdx_guest *guest = &r->vcpu[i].guest;
	enum tdx_side side;

	guest->regs.rax = TDG_MEM_PAGE_ACCEPT;
	guest->regs.rcx = tdx_page_info(gpa, level);
	side = tdx_module_tdcall(r->module, i, guest, exit);
	r->vcpu[i].inside = side == TDX_GUEST;
	return side;
}

/* What a VMM does about a TD exit that is a fault; the library's answer. */
static inline int real_handle(struct real *r, unsigned int i, const struct tdx_regs *exit)
{
	struct tpt_fault fault;
	int ret;

	assert_int_equal(tdx_exit_fault(r->td, exit, &fault), 0);
	real_lp = i;
	ret = tpt_vcpu_fault(r->vcpu[i].tpt, &fault);
	real_lp = REAL_HOST_LP;
	return ret;
}

/* The guest accepts an absent page: exit, fault, again. It stays inside. */
static inline void real_accept_by_fault(struct real *r, unsigned int i, uint64_t gpa,
					unsigned int level)
{
	struct tdx_regs exit;

	if (!r->vcpu[i].inside)
		real_enter(r, i);
	assert_int_equal(real_accept(r, i, gpa, level, &exit), TDX_HOST);
	assert_int_equal(real_handle(r, i, &exit), TPT_RET_PF_FIXED);
	real_enter(r, i);
	assert_int_equal(real_accept(r, i, gpa, level, &exit), TDX_GUEST);
	assert_int_equal(r->vcpu[i].guest.regs.rax, TDX_SUCCESS);
}

static inline void real_stop(struct real *r)
{
	real_kick(r, r->vm, TPT_KICK_DEAD);
}

static inline unsigned int real_owned_pages(struct real *r)
{
	unsigned int owned = 0;

	for (uint64_t hpa = REAL_BASE; hpa < REAL_BASE + GIB; hpa += TPT_PAGE_SIZE) {
		struct tdx_pamt_view view;

		assert_int_equal(tdx_module_view_pamt(r->module, hpa, 0, &view), 0);
		owned += view.pt != TDX_PT_NDA;
	}
	for (uint64_t hpa = REAL_BASE; hpa < REAL_BASE + GIB; hpa += 2ull << 20) {
		struct tdx_pamt_view view;

		assert_int_equal(tdx_module_view_pamt(r->module, hpa, 1, &view), 0);
		owned += view.pt != TDX_PT_NDA;
	}
	return owned;
}

/* The whole way down: nothing is the TD's any more, and nothing is lost. */
static inline void real_destroy(struct real *r)
{
	struct tdx_host_stats stats;

	real_stop(r);
	assert_int_equal(tpt_vm_teardown(r->vm), 0);
	assert_int_equal(tdx_td_state(r->td), TDX_TD_RELEASED);
	assert_int_equal(tdx_td_destroy(r->td), 0);
	tpt_vm_destroy(r->vm);
	tdx_td_free(r->td);
	tdx_host_get_stats(r->host, &stats);
	assert_int_equal(stats.leaked_pages, 0);
	assert_int_equal(stats.own_pages, 0);
	assert_int_equal(tpt_posix_destroy(r->posix), 0);
	assert_int_equal(r->pool_live, 0);
	assert_int_equal(real_owned_pages(r), 0);
	assert_int_equal(r->nr_fatal, 0);
	tdx_host_destroy(r->host);
	tdx_module_destroy(r->module);
	munmap(r->bytes, GIB);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

#endif
