/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What every room stands on: the VM's platform, its shared and exclusive sections, whoever acts in
 * them, counters, and the end of a VM whose invariants broke. Knows no table and no guest memory.
 *
 *	shared section:    an actor marks its own cache line and looks whether anybody wants to be
 *	                   alone; if so it unmarks itself and the fault is RETRY. It never waits.
 *	exclusive section: one thread says that it wants to be alone and waits until every actor's
 *	                   line is unmarked. Kicks are for guest mode; this is for the library.
 *	grace period:      the mark is the turn at which the section began. Who unlinked something
 *	                   makes a new turn, and frees it when no mark is of an older one.
 */
#ifndef MMU_BASE_H
#define MMU_BASE_H

#include <stdatomic.h>
#include <stdarg.h>

#include <triptych/event.h>
#include <triptych/fault.h>
#include <triptych/platform.h>
#include <triptych/stats.h>
#include <triptych/types.h>

#include "mmu/base/probe.h"

#define CACHE_LINE 64

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* errno values of the API: Linux's numbers, which the core must know without a libc. */
enum {
	ERR_PERM = 1,
	ERR_NOENT = 2,
	ERR_INTR = 4,
	ERR_IO = 5,
	ERR_AGAIN = 11,
	ERR_NOMEM = 12,
	ERR_FAULT = 14,
	ERR_BUSY = 16,
	ERR_EXIST = 17,
	ERR_INVAL = 22,
	ERR_NOSPC = 28,
	ERR_OVERFLOW = 75,
	ERR_OPNOTSUPP = 95,
	ERR_INPROGRESS = 115,
	ERR_HWPOISON = 133,
	ERR_MAX = 4095,
};

/* What an actor counts, on lines of its own. Sums over all actors are exact at rest. */
enum counter {
	COUNT_PF, /* how faults ended: one each of enum tpt_ret_pf, and 0 for an errno */
	COUNT_PF_END = COUNT_PF + TPT_RET_PF_SPURIOUS,
	COUNT_PF_MMIO_SPTE_CREATED,
	COUNT_PF_FAST,
	COUNT_PF_FIXED_FAST, /* ended FIXED, by the fast path; not counted as COUNT_PF + FIXED */
	COUNT_PF_PREFETCH,   /* of those faults: not the guest's */
	COUNT_CAS_LOST,
	COUNT_CALL, /* one each of enum tpt_external_call */
	COUNT_CALL_BUSY = COUNT_CALL + TPT_CALL_NR,
	COUNT_FLUSH = COUNT_CALL_BUSY + TPT_CALL_NR, /* one each of enum tpt_flush_reason */
	COUNT_KICK = COUNT_FLUSH + TPT_FLUSH_NR,     /* one each of enum tpt_kick_reason */
	COUNT_HOLD = COUNT_KICK + TPT_KICK_NR,
	/* Leaves and tables, up and down; one set for each enum tpt_tree_kind. */
	COUNT_TREE,
	COUNT_TREE_TABLE = 0, /* + level of a leaf: TPT_LEVEL_4K .. TPT_LEVEL_1G */
	COUNT_TREE_BLOCKED = TPT_LEVEL_1G + 1,
	COUNT_TREE_MMIO,
	COUNT_TREE_NR,
	COUNT_PAGES_LIVE = COUNT_TREE + 2 * COUNT_TREE_NR,
	COUNT_LEAKED,
	COUNT_NR,
};

/* Table pages that an actor took from the platform before it entered a section. */
#define PAGE_CACHE_MAX 8
struct page_cache {
	uint32_t nr, want; /* pages in it, and how many a section may need */
	tpt_hpa page[PAGE_CACHE_MAX];
};

/* actor.mark */
#define MARK_OUTSIDE 0ull
#define MARK_INSIDE  1ull /* in a shared section; the rest is the turn at which it began */
#define MARK_REFUSED 2ull /* outside: it wanted in, and somebody was alone */

/* vm_base.turn */
#define TURN_ALONE   1ull /* somebody is alone, or wants to be */
#define TURN_WATCHED 2ull /* the platform wants to hear of sections */
#define TURN_STEP    4ull

/*
 * Whoever acts: a vCPU, or the VM itself inside its exclusive section. The first line is what the
 * exclusive side and the reclaimer read; all other lines are only the actor's.
 */
struct actor {
	_Alignas(CACHE_LINE) _Atomic uint64_t mark;
	struct actor *next; /* all actors of the VM; base->actors_lock */
	_Alignas(CACHE_LINE) struct vm_base *base;
	bool watched; /* the platform wants to hear of sections */
	int32_t vcpu; /* id, -1 for the VM itself */
	/* What a fault asks for a page in the gap between its sections: stays alive until NULL. */
	_Atomic(const void *) asking;
	struct page_cache tables, external;
	uint64_t looked; /* entries that walks looked at since it holds what it holds */
	_Atomic int64_t count[COUNT_NR];
};

#define REPORT_SIZE 512

struct vm_base {
	const struct tpt_platform *platform;
	void *platform_ctx;
	struct tpt_vm *vm; /* for the platform's functions only */
	tpt_event_fn *event;
	void *event_ctx;

	/* Read by every fault, written by the exclusive side and by who unlinks a table. */
	_Alignas(CACHE_LINE) _Atomic uint64_t turn;
	_Atomic uint32_t roots; /* generation, from 1: who knows another loads his roots again */
	_Atomic uint32_t dead;	/* and then nobody's roots are good any more */

	/* The list is written in the exclusive section, the reclaimer reads it outside. */
	_Alignas(CACHE_LINE) _Atomic uint32_t actors_lock;
	_Atomic uint64_t grace_done; /* sections that began before this turn are over */
	struct actor *actors;

	/* Exclusive section. */
	bool in_exclusive;
	uint64_t nr_exclusive;
	uint64_t longest_exclusive;	 /* most entries looked at in one exclusive section */
	_Atomic uint64_t longest_shared; /* the same of one shared section of a walk */
	struct actor self;		 /* the VM as an actor */
	_Atomic int64_t pages_deferred;	 /* table pages waiting for a grace period */
	char report[REPORT_SIZE];
};

void base_init(struct vm_base *base, const struct tpt_platform *platform, void *ctx);
void actor_init(struct vm_base *base, struct actor *actor, int32_t vcpu);

/* Adds and removes an actor. Exclusive section. Removal folds its counters into base->self. */
void actor_add(struct actor *actor);
void actor_remove(struct actor *actor);

/* Somebody is alone, or the platform wants to hear of it. */
uint64_t section_enter_slowly(struct actor *actor, uint64_t turn);
/* Tells the platform that the actor's thread is in a section now, or is not. */
void section_watch(const struct actor *actor, bool inside);

/*
 * Enters a shared section. 0 if somebody is or wants to be alone: RETRY; else the turn, in which
 * whatever was not unlinked before it is not freed before the section ends.
 */
static inline uint64_t section_enter(struct actor *actor)
{
	_Atomic uint64_t *turn = &actor->base->turn;
	uint64_t now = atomic_load_explicit(turn, memory_order_relaxed);

	/* Both sides write their own word, then read the other's: one of them must see it. */
	atomic_exchange_explicit(&actor->mark, now | MARK_INSIDE, memory_order_seq_cst);
	now = atomic_load_explicit(turn, memory_order_seq_cst);
	if (__builtin_expect(now & (TURN_ALONE | TURN_WATCHED), 0))
		return section_enter_slowly(actor, now);
	return now;
}

static inline void section_leave(struct actor *actor)
{
	if (__builtin_expect(actor->watched, 0))
		section_watch(actor, false);
	atomic_store_explicit(&actor->mark, MARK_OUTSIDE, memory_order_release);
}

static inline bool section_is_inside(const struct actor *actor)
{
	return atomic_load_explicit(&((struct actor *)actor)->mark, memory_order_relaxed) &
	       MARK_INSIDE;
}

/*
 * The same for who would rather go another way than be refused, or be watched: nothing is entered
 * if the answer has any of TURN_BUSY. What it enters section_leave_quickly() leaves.
 */
#define TURN_BUSY (TURN_ALONE | TURN_WATCHED)
static inline uint64_t section_enter_quickly(struct actor *actor, struct vm_base *base)
{
	uint64_t now = atomic_load_explicit(&base->turn, memory_order_relaxed);

	atomic_exchange_explicit(&actor->mark, now | MARK_INSIDE, memory_order_seq_cst);
	now = atomic_load_explicit(&base->turn, memory_order_seq_cst);
	if (__builtin_expect(now & TURN_BUSY, 0))
		atomic_store_explicit(&actor->mark, MARK_OUTSIDE, memory_order_release);
	return now;
}

static inline void section_leave_quickly(struct actor *actor)
{
	atomic_store_explicit(&actor->mark, MARK_OUTSIDE, memory_order_release);
}

/* What was unlinked before grace_begin() is out of everybody's reach after grace_wait() of its
 * answer, which waits for sections to end: deferred work only. */
uint64_t grace_begin(struct vm_base *base);
void grace_wait(struct vm_base *base, uint64_t begun);

/* Enters the exclusive section: waits for the platform's lock and for all actors. */
void section_exclusive_begin(struct vm_base *base);
void section_exclusive_end(struct vm_base *base);

/* A walk of @actor looked at @n more entries. */
static inline void hold_looked(struct actor *actor, uint64_t n)
{
	actor->looked += n;
}
/* A walk's shared section begins, or ends: how long was it held? Faults aren't asked. */
void hold_begin(struct actor *actor);
void hold_end(struct actor *actor);

static inline bool vm_is_dead(const struct vm_base *base)
{
	return atomic_load_explicit(&((struct vm_base *)base)->dead, memory_order_acquire);
}

/* A broken invariant: the VM stops, with this text as its report. The first report is kept. */
void vm_die(struct vm_base *base, const char *format, ...) __attribute__((format(printf, 2, 3)));
void vm_log(struct vm_base *base, enum tpt_log_level level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Asks the platform for a kick, and counts it. */
void vm_kick(struct actor *actor, enum tpt_kick_reason reason);

static inline void vm_event(const struct vm_base *base, const struct tpt_event *event)
{
	if (base->event)
		base->event(base->event_ctx, event);
}

/* Counters have one writer, so a plain load and store of an atomic do. */
static inline void count_add(struct actor *actor, unsigned int counter, int64_t n)
{
	_Atomic int64_t *c = &actor->count[counter];

	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

void flush_tell(const struct actor *actor, const struct tpt_flush *flush);

/* Asks the platform for a flush, and counts it. */
static inline __attribute__((always_inline)) void vm_flush(struct actor *actor,
							   const struct tpt_flush *flush)
{
	const struct vm_base *base = actor->base;

	count_add(actor, COUNT_FLUSH + flush->reason, 1);
	if (__builtin_expect(base->event != NULL, 0))
		flush_tell(actor, flush);
	PROBE4(flush, flush->reason, flush->as_id, flush->range.start, flush->range.end);
	base->platform->flush(base->platform_ctx, base->vm, flush);
}

static inline unsigned int count_tree(enum tpt_tree_kind kind, unsigned int what)
{
	return COUNT_TREE + (unsigned int)kind * COUNT_TREE_NR + what;
}

/* Sum of a counter over all actors. Exact at rest. */
int64_t count_sum(const struct vm_base *base, unsigned int counter);

/* printf's %s %d %u %x %c with l and ll, widths and 0 and # flags; no libc. Returns the whole
 * length. */
size_t text_format(char *text, size_t size, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
size_t text_vformat(char *text, size_t size, const char *format, va_list args);

static inline void *mem_alloc(struct vm_base *base, size_t bytes)
{
	return base->platform->mem_alloc(base->platform_ctx, bytes);
}

static inline void mem_free(struct vm_base *base, void *mem, size_t bytes)
{
	base->platform->mem_free(base->platform_ctx, mem, bytes);
}

#endif
