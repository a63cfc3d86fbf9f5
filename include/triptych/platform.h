/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an embedder gives the library: memory, deferred work, one lock, and a hold on its vCPUs.
 * The core calls nothing else, allocates nowhere else, and keeps no state outside what it got here.
 */
#ifndef TRIPTYCH_PLATFORM_H
#define TRIPTYCH_PLATFORM_H

#include <triptych/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct tpt_vm;

/* Work handed to tpt_platform.defer; lives inside the object that it frees. */
struct tpt_deferred {
	struct tpt_deferred *next; /* the platform's, from defer() until fn() is called */
	void (*fn)(struct tpt_deferred *d);
};

/* Why translations must be flushed. Each has a counter of its own (stats.h). */
enum tpt_flush_reason {
	TPT_FLUSH_ZAP_MEMSLOT,	  /* a memslot was deleted or moved */
	TPT_FLUSH_ZAP_NOTIFIER,	  /* the host takes the memory back */
	TPT_FLUSH_ZAP_CONVERSION, /* shared memory became private */
	TPT_FLUSH_ZAP_RANGE,	  /* APICv toggle, non-coherent DMA, test of an embedder */
	TPT_FLUSH_ROOT,		  /* whole roots were invalidated */
	TPT_FLUSH_COLLAPSE,	  /* a table was replaced by a leaf */
	TPT_FLUSH_DIRTY_LOG,	  /* pages are watched for writes again */
	TPT_FLUSH_PERMISSION,	  /* a leaf lost a permission */
	TPT_FLUSH_NX_RECOVERY,	  /* tables that code ran in were unlinked */
	TPT_FLUSH_NR,
};

/* What has to be flushed. */
struct tpt_flush {
	enum tpt_flush_reason reason;
	unsigned int as_id;	    /* address space: 0, or 1 for SMM */
	struct tpt_gfn_range range; /* these GFNs, in every direct tree of @as_id */
	bool all; /* instead: everything that was ever cached for this VM, roots included */
};

/* Why vCPUs are kicked out of guest mode. Each has a counter of its own. */
enum tpt_kick_reason {
	TPT_KICK_TRACK,	    /* the second half of a TLB-tracking epoch (two-phase removal) */
	TPT_KICK_RETRY,	    /* an external call was busy because of a running vCPU */
	TPT_KICK_DIRTY_LOG, /* processors shall hand over what they logged */
	TPT_KICK_DEAD,	    /* the VM is dead */
	TPT_KICK_NR,
};

enum tpt_log_level {
	TPT_LOG_ERROR,
	TPT_LOG_WARNING,
	TPT_LOG_INFO,
};

/*
 * The functions. @ctx is the pointer given to tpt_vm_create() with the table: one a VM, or one for
 * several VMs if their lock may be shared. The table is constant and outlives the VM.
 */
struct tpt_platform {
	/* sizeof(struct tpt_platform) as the embedder compiled it. */
	size_t size;

	/*
	 * Table pages. A page is 4 KiB, aligned, at a host-physical address, reachable by the core
	 * through page_ptr(). Beside each page the platform keeps a record of 64 bytes, aligned to
	 * 64, which the core uses for the page's header and which lives as long as the page.
	 * Content of page and record at allocation is undefined. NULL-like answer: page_alloc()
	 * returns -ENOMEM and the core passes it on before it has changed anything. Called without
	 * any lock of the library's held; may sleep. page_free() may be called from deferred work.
	 */
	int (*page_alloc)(void *ctx, tpt_hpa *hpa);
	void (*page_free)(void *ctx, tpt_hpa hpa);
	void *(*page_ptr)(void *ctx, tpt_hpa hpa);
	void *(*page_record)(void *ctx, tpt_hpa hpa);

	/*
	 * If not 0: page_ptr(hpa) == page_linear + hpa and page_record(hpa) == record_linear +
	 * hpa / 64 for every page that page_alloc() returns, and the core does without the calls.
	 */
	uintptr_t page_linear;
	uintptr_t record_linear;

	/*
	 * Ordinary memory for objects (VM, vCPUs, memslots, ranges), zeroed, aligned to 64. NULL if
	 * there is none. May sleep; may be called inside the exclusive section. @bytes at
	 * mem_free() is what was asked for.
	 */
	void *(*mem_alloc)(void *ctx, size_t bytes);
	void (*mem_free)(void *ctx, void *mem, size_t bytes);

	/*
	 * Deferred work: d->fn(d) is called once for each defer(), later, on a thread that is in no
	 * section and holds no lock of the library: one in no call of it, or one that waits in
	 * barrier(). It waits for sections to end, and may call defer() again. Calls may come from
	 * inside a section. barrier() returns when every earlier defer() has run; it may sleep;
	 * never called inside a section, by deferred work, or with a lock held.
	 */
	void (*defer)(void *ctx, struct tpt_deferred *d);
	void (*barrier)(void *ctx);

	/*
	 * For checkers, NULL otherwise: the calling thread is inside a shared section from
	 * watch(true) to watch(false). Inside of one nothing is called that may sleep, and of the
	 * embedder's functions none but external calls, mark_dirty(), mapping_level() and events.
	 */
	void (*watch)(void *ctx, bool inside);

	/*
	 * The VM's exclusive section: a mutex, not recursive, may sleep. relax() is called in a
	 * loop while the holder waits for vCPUs to leave the library: a pause, or a yield.
	 */
	void (*lock)(void *ctx);
	void (*unlock)(void *ctx);
	void (*relax)(void *ctx);

	/*
	 * Flush: on return no processor uses a translation described by *flush that it cached
	 * before the call. How (IPIs, requests checked at entry, INVEPT, TLB_CONTROL) is the
	 * platform's. Called with the VM's exclusive section held or kept away, or by a faulting
	 * vCPU's thread: must not wait for the library.
	 */
	void (*flush)(void *ctx, struct tpt_vm *vm, const struct tpt_flush *flush);

	/*
	 * Kick: on return every vCPU of the VM has been out of guest mode at least once since the
	 * call; it says nothing of whether a vCPU's thread is inside the library.
	 */
	void (*kick)(void *ctx, struct tpt_vm *vm, enum tpt_kick_reason reason);

	/*
	 * Hold: between hold(true) and hold(false) no vCPU enters guest mode, and on return of
	 * hold(true) none is in it. Used to get an external call through that a vCPU keeps busy.
	 */
	void (*hold)(void *ctx, struct tpt_vm *vm, bool held);

	/* One line of text without newline. May be NULL. Any context. */
	void (*log)(void *ctx, enum tpt_log_level level, const char *text);
};

#ifdef __cplusplus
}
#endif
#endif
