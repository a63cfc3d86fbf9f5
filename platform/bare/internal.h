/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of platform/bare share. Nothing outside of this directory includes it. */
#ifndef PLATFORM_BARE_INTERNAL_H
#define PLATFORM_BARE_INTERNAL_H

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <triptych/bare.h>

/* Freestanding: the numbers are Linux's. */
enum {
	ERR_NOMEM = 12,
	ERR_INVAL = 22,
};

#define CACHE_LINE   64u
#define RECORD_BYTES 64u

/* What a compiler may call on its own anyway; whoever links the library brings it. */
void *memset(void *s, int c, size_t n);

/* A fair spinlock: who draws a number is served in its order. */
struct spin {
	_Atomic uint32_t next;	  /* number that is drawn next */
	_Atomic uint32_t serving; /* number that has the lock; it is free if that is @next */
};

/* Table pages by index. Those that were freed are a list, those never handed out are none. */
struct pages {
	_Alignas(CACHE_LINE) struct spin lock;
	uint64_t first;	 /* HPA of page 0 */
	uint64_t nr;	 /* below PAGE_LIVE */
	uint64_t virgin; /* first index that was never handed out; @state ends there */
	uint32_t *state; /* PAGE_LIVE, or index + 1 of the free page below, 0 at the bottom */
	uint32_t free;	 /* index + 1 of the free page on top, 0: none */
	_Atomic uint64_t live, peak;
};
#define PAGE_LIVE UINT32_MAX

/* Sizes of free blocks fall into classes, eight to each power of two (objects.c). */
#define HEAP_CLASSES 288u
#define HEAP_WORDS   ((HEAP_CLASSES + 63) / 64)

struct block;

/* Objects: blocks side by side, no two free ones next to each other. */
struct heap {
	_Alignas(CACHE_LINE) struct spin lock;
	struct block *first, *end;
	uint64_t filled[HEAP_WORDS];	  /* a bit a class: there is a free block of it */
	struct block *free[HEAP_CLASSES]; /* newest first */
	_Atomic uint64_t live, bytes;
};

/* Deferred work, oldest first. */
struct queue {
	_Alignas(CACHE_LINE) struct spin lock;
	struct tpt_deferred *first, **last;
	_Atomic uint64_t deferred; /* calls so far */
	_Atomic uint64_t run;	   /* of those: finished, in their order */
	atomic_bool running;	   /* somebody is at it */
};

/*
 * A vCPU's place: a line that its processor alone writes, but for @request. @turns is odd while it
 * is in the guest, and each entering and each leaving adds one: who saw an odd number waits until
 * it is another one.
 */
struct seat {
	_Alignas(CACHE_LINE) _Atomic uint64_t turns;
	_Atomic uint32_t request; /* TPT_BARE_FLUSH or 0 */
};

struct tpt_bare {
	struct tpt_platform platform; /* first: what the core reads on its fast path */
	struct tpt_bare_hooks hooks;
	void *hooks_ctx;
	uint32_t nr_vcpus;

	_Alignas(CACHE_LINE) struct spin lock; /* the VM's exclusive section */
	_Atomic uint64_t locks;

	_Alignas(CACHE_LINE) _Atomic uint64_t flushes;
	_Atomic uint64_t kicks, holds, ipis, misuses;

	/* What each entry of a guest looks at, in a line that is seldom written. */
	_Alignas(CACHE_LINE) _Atomic uint32_t held; /* hold(true) without its hold(false) */
	atomic_bool broken;			    /* tpt_bare_break_shootdown() */

	struct pages pages;
	struct heap heap;
	struct queue queue;
	struct seat seats[TPT_BARE_VCPUS];
};

static inline void bare_count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static inline uint64_t bare_read(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

/* misuse.c */
void bare_log(void *ctx, enum tpt_log_level level, const char *text);
/* A broken rule of platform.h or bare.h: counted and logged. Knows %lu and %#lx. */
void bare_misuse(struct tpt_bare *bare, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* lock.c */
void bare_relax(void *ctx);
void bare_spin_lock(struct tpt_bare *bare, struct spin *spin);
void bare_spin_unlock(struct spin *spin);
bool bare_spin_is_taken(const struct spin *spin);
void bare_lock(void *ctx);
void bare_unlock(void *ctx);

/* pages.c */
void bare_pages_init(struct tpt_bare *bare, uint64_t first, uint64_t nr, uint32_t *state);
int bare_page_alloc(void *ctx, tpt_hpa *hpa);
void bare_page_free(void *ctx, tpt_hpa hpa);
void *bare_page_ptr(void *ctx, tpt_hpa hpa);
void *bare_page_record(void *ctx, tpt_hpa hpa);

/* objects.c */
/* Least that a heap needs, for one object; a heap is made of as much as divides by CACHE_LINE. */
#define HEAP_MIN_BYTES (2ull * CACHE_LINE)
void bare_heap_init(struct tpt_bare *bare, void *memory, uint64_t bytes);
void *bare_mem_alloc(void *ctx, size_t bytes);
void bare_mem_free(void *ctx, void *mem, size_t bytes);

/* defer.c */
void bare_queue_init(struct tpt_bare *bare);
/* Runs all that there is; on return nobody is at it. */
void bare_queue_drain(struct tpt_bare *bare);
void bare_defer(void *ctx, struct tpt_deferred *d);
void bare_barrier(void *ctx);

/* guest.c */
uint32_t bare_seats_in_guest(const struct tpt_bare *bare);
void bare_flush(void *ctx, struct tpt_vm *vm, const struct tpt_flush *flush);
void bare_kick(void *ctx, struct tpt_vm *vm, enum tpt_kick_reason reason);
void bare_hold(void *ctx, struct tpt_vm *vm, bool held);

#endif
