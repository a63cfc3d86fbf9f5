/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The platform of a process: struct tpt_platform on pthreads and mmap. Also what a
 * test needs of it: balances, misuse reports, allocations that fail on demand. Never decides
 * anything about tables.
 *
 * One struct tpt_posix serves one VM: it has one exclusive lock. It is the platform's ctx.
 */
#ifndef TRIPTYCH_POSIX_H
#define TRIPTYCH_POSIX_H

#include <triptych/platform.h>

#ifdef __cplusplus
extern "C" {
#endif

struct tpt_posix;

/* tpt_posix_config.flags */
/* Fill a table page and its record with 0xa5 when it is allocated and with 0xdd when it is freed:
 * whoever relies on their content or uses them afterwards is found. */
#define TPT_POSIX_POISON (1u << 0)
/* Watch shared sections: a call inside of one that may sleep is a misuse. Costs a call each time
 * that one is entered or left. */
#define TPT_POSIX_WATCH (1u << 1)

#define TPT_POSIX_DEFAULT_HPA_BASE (1ull << 40)
#define TPT_POSIX_DEFAULT_BYTES	   (1ull << 30)

/*
 * What the process does to its processors. Each may be NULL: there are none, or nothing is cached.
 * @ctx is tpt_posix_config.hooks_ctx. Contracts as in platform.h.
 */
struct tpt_posix_hooks {
	void (*flush)(void *ctx, struct tpt_vm *vm, const struct tpt_flush *flush);
	void (*kick)(void *ctx, struct tpt_vm *vm, enum tpt_kick_reason reason);
	void (*hold)(void *ctx, struct tpt_vm *vm, bool held);
	/* NULL: warnings and errors go to standard error. */
	void (*log)(void *ctx, enum tpt_log_level level, const char *text);
};

/*
 * Table pages from somewhere else than the arena: a model processor's memory, for example. All
 * three or none. Thread-safe. @ctx is tpt_posix_config.pages_ctx. Pages must lie in [hpa_base,
 * hpa_base + bytes) of the configuration. Balances and double frees are watched as with the arena.
 */
struct tpt_posix_pages {
	int (*alloc)(void *ctx, tpt_hpa *hpa); /* 0 or -ENOMEM */
	void (*free)(void *ctx, tpt_hpa hpa);
	void *(*ptr)(void *ctx, tpt_hpa hpa);
};

/* How a platform is made. All zero but size: the defaults. */
struct tpt_posix_config {
	size_t size;	   /* sizeof(struct tpt_posix_config) */
	uint32_t flags;	   /* TPT_POSIX_* */
	uint64_t hpa_base; /* HPA of the first table page, 4 KiB aligned; 0 = the default */
	uint64_t bytes;	   /* of the arena, a multiple of 4 KiB, at most 2^43; 0 = the default. Only
			      what is touched takes memory. hpa_base + bytes is at most 2^52 */
	struct tpt_posix_hooks hooks;
	void *hooks_ctx;
	const struct tpt_posix_pages *pages; /* NULL: the arena; must outlive the platform */
	void *pages_ctx;
};

/*
 * Makes a platform, with its arena reserved and its reclaiming thread running; a NULL @config means
 * all defaults. NULL and errno:
 * EINVAL (a field is out of its range), ENOMEM, EAGAIN (no thread).
 */
struct tpt_posix *tpt_posix_create(const struct tpt_posix_config *config);
/*
 * Runs what is still deferred, then frees everything. No VM uses it any more, no thread is in a
 * section. Pages or memory still allocated are misuses. Returns the number of all misuses in the
 * platform's life. NULL is allowed (0).
 */
uint64_t tpt_posix_destroy(struct tpt_posix *posix);

/* The table of functions to give to tpt_vm_create(), with @posix as platform_ctx. Lives as long. */
const struct tpt_platform *tpt_posix_platform(const struct tpt_posix *posix);

/*
 * The arena: page at hpa is at va + (hpa - hpa_base). Any pointer may be NULL. -ENOENT, nothing
 * filled, if pages come from tpt_posix_config.pages.
 */
int tpt_posix_arena(const struct tpt_posix *posix, tpt_hpa *hpa_base, void **va, uint64_t *bytes);

/* Does the calling thread hold the exclusive lock? */
bool tpt_posix_lock_held(const struct tpt_posix *posix);
/* How many sections is the calling thread in, of any platform that watches them? */
unsigned int tpt_posix_section_depth(void);

/*
 * Balances, exact while no other thread is in the platform. A misuse is a broken rule of
 * platform.h: recursive or foreign lock, sleeping call in a section, unbalanced section (both if
 * watched), double or wild free, wrong size at mem_free(), leak at destroy. It is logged as an
 * error and made harmless as far as possible.
 */
struct tpt_posix_stats {
	uint64_t pages_live;	  /* table pages allocated and not freed */
	uint64_t pages_peak;	  /* most pages used at once, rounded up by what was in flight */
	uint64_t page_allocs;	  /* successful calls so far */
	uint64_t mem_live;	  /* blocks of mem_alloc() not freed */
	uint64_t mem_bytes;	  /* their bytes, as asked for */
	uint64_t mem_allocs;	  /* successful calls so far */
	uint64_t deferred;	  /* defer() calls so far */
	uint64_t pending;	  /* of those: not yet run */
	uint64_t locks;		  /* exclusive sections so far */
	uint64_t longest_lock_ns; /* longest time that one was held, nanoseconds */
	uint64_t misuses;
};
void tpt_posix_get_stats(const struct tpt_posix *posix, struct tpt_posix_stats *stats);

/*
 * Failure injection: the @nth call from now on fails once (1 = the next one; 0 = none any more),
 * as if there were no memory.
 */
void tpt_posix_fail_page_alloc(struct tpt_posix *posix, uint64_t nth);
void tpt_posix_fail_mem_alloc(struct tpt_posix *posix, uint64_t nth);

#ifdef __cplusplus
}
#endif
#endif
