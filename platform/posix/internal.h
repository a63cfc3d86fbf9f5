/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of platform/posix share. Nothing outside of this directory includes it. */
#ifndef PLATFORM_POSIX_INTERNAL_H
#define PLATFORM_POSIX_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include <triptych/posix.h>

#define RECORD_BYTES 64u

enum page_state { PAGE_FREE, PAGE_LIVE };

/*
 * Table pages by index. Free ones are a lock-free stack: @free holds the index of the top plus 1 in
 * its low half and a counter in its high half, so that a top that went and came back is noticed.
 */
struct arena {
	uint64_t hpa_base;
	uint64_t nr_pages;
	char *pages;	     /* NULL if pages come from the configuration's functions */
	char *records;	     /* RECORD_BYTES each */
	atomic_uchar *state; /* enum page_state each */
	atomic_uint *next;   /* index + 1 of the free page below, 0 at the bottom */
	/* What each page handed out writes is one cache line, which nothing else reads. */
	_Alignas(64) _Atomic uint64_t free; /* see above */
	_Atomic uint64_t virgin;	    /* first index that was never handed out */
	_Atomic uint64_t live;
	_Atomic uint64_t peak;
	_Atomic uint64_t allocs;
	_Atomic uint64_t fail_in; /* calls until one fails; 0 = never */
};

/* Deferred work, oldest first, and the thread that runs it. All but the thread under @lock. */
struct reclaimer {
	pthread_mutex_t lock;
	pthread_cond_t work; /* something was deferred, or stop */
	pthread_cond_t done; /* a batch was run */
	struct tpt_deferred *first, **last;
	uint64_t deferred; /* calls so far */
	uint64_t run;	   /* of those: finished */
	bool stop;
	pthread_t thread;
};

struct tpt_posix {
	struct tpt_platform platform; /* first: what the core reads on its fast path */
	struct tpt_posix_config config;
	struct arena arena;
	struct reclaimer reclaimer;

	pthread_mutex_t lock;	     /* the VM's exclusive section */
	_Atomic(const void *) owner; /* thread_self() of its holder */
	unsigned int extra;	     /* recursive calls of the holder, already reported */

	_Atomic uint64_t mem_live, mem_bytes, mem_allocs, mem_fail_in;
	_Atomic uint64_t locks;
	uint64_t locked_at;		  /* ns; the lock's holder's */
	_Atomic uint64_t longest_lock_ns; /* written by the lock's holder */
	_Atomic uint64_t misuses;
};

/* Counts a call down; true if this is the one that is to fail. */
static inline bool posix_fail_now(_Atomic uint64_t *fail_in)
{
	uint64_t left = atomic_load_explicit(fail_in, memory_order_relaxed);

	while (left)
		if (atomic_compare_exchange_weak(fail_in, &left, left - 1))
			return left == 1;
	return false;
}

/* misuse.c */
void posix_log(void *ctx, enum tpt_log_level level, const char *text);
/* A broken rule of platform.h: counted and logged. */
void posix_misuse(struct tpt_posix *posix, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* arena.c */
int posix_arena_init(struct tpt_posix *posix);
void posix_arena_fini(struct tpt_posix *posix);
int posix_page_alloc(void *ctx, tpt_hpa *hpa);
void posix_page_free(void *ctx, tpt_hpa hpa);
void *posix_page_ptr(void *ctx, tpt_hpa hpa);
void *posix_page_record(void *ctx, tpt_hpa hpa);

/* memory.c */
void *posix_mem_alloc(void *ctx, size_t bytes);
void posix_mem_free(void *ctx, void *mem, size_t bytes);

/* section.c: deferred work, the exclusive lock, sections where they are watched */
int posix_section_init(struct tpt_posix *posix);
void posix_section_fini(struct tpt_posix *posix);
void posix_watch(void *ctx, bool inside);
/* @what must not be called by a thread that is in a section: is it kept? */
bool posix_must_not_sleep(struct tpt_posix *posix, const char *what);
extern _Thread_local unsigned int posix_depth; /* sections that the thread is in */
static inline bool posix_check_may_sleep(struct tpt_posix *posix, const char *what)
{
	return __builtin_expect(!posix_depth, 1) || posix_must_not_sleep(posix, what);
}
void posix_defer(void *ctx, struct tpt_deferred *d);
void posix_barrier(void *ctx);
void posix_lock(void *ctx);
void posix_unlock(void *ctx);

#endif
