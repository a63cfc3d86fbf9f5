/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The platform of a machine without an operating system: struct tpt_platform on one piece of
 * memory, spinlocks, and a protocol by which processors are got out of guest mode. Never touches a
 * processor's registers: how an interrupt is sent, and how a guest is entered, is the embedder's.
 *
 * One struct tpt_bare serves one VM: it has one exclusive lock. It is the platform's ctx. Works as
 * well inside a process, which is how it is tested. Nothing here, nor the library on it, is called
 * by an interrupt handler: the locks are not made for that.
 */
#ifndef TRIPTYCH_BARE_H
#define TRIPTYCH_BARE_H

#include <triptych/platform.h>

#ifdef __cplusplus
extern "C" {
#endif

struct tpt_bare;

/* Most vCPUs that a platform has seats for. */
#define TPT_BARE_VCPUS 64u

/* What the embedder does. @ctx is tpt_bare_config.hooks_ctx. */
struct tpt_bare_hooks {
	/*
	 * Makes the processor that runs vCPU @vcpu leave guest mode soon, if it is in it: an
	 * interrupt that the guest cannot mask. Never called for a vCPU that is outside; may be
	 * called when it has just left. Must not wait. Any processor. Never NULL.
	 */
	void (*ipi)(void *ctx, uint32_t vcpu);
	/* Once a turn of every waiting loop. NULL: the pause instruction. */
	void (*relax)(void *ctx);
	/* NULL: nobody listens. */
	void (*log)(void *ctx, enum tpt_log_level level, const char *text);
};

/* How a platform is made. */
struct tpt_bare_config {
	size_t size;	/* sizeof(struct tpt_bare_config) */
	void *memory;	/* all that there will ever be: 4 KiB aligned, mapped for good */
	uint64_t bytes; /* of it, a multiple of 4 KiB, at most 2^43 */
	/*
	 * Of its first byte, 4 KiB aligned; the memory is physically contiguous and ends at 2^52 at
	 * most. Where it is mapped at just this address the library works, but asks for each
	 * table's address by a call: a linear map by 0 looks like none (platform.h).
	 */
	tpt_hpa hpa;
	uint64_t object_bytes; /* of @bytes: for objects (VM, slots, bitmaps); 0: a quarter */
	uint32_t nr_vcpus;     /* seats, 1 to TPT_BARE_VCPUS */
	struct tpt_bare_hooks hooks;
	void *hooks_ctx;
};

/*
 * Makes a platform inside @config->memory. 0; -EINVAL: a field is out of its range; -ENOMEM: the
 * memory does not hold the platform itself, one table page and one object.
 */
int tpt_bare_create(const struct tpt_bare_config *config, struct tpt_bare **bare);
/*
 * Runs what is still deferred; from then on the memory is the caller's again. No VM uses the
 * platform any more. Returns the number of misuses (struct tpt_bare_stats) in its life; each page
 * and each object that is still allocated is one. NULL is allowed (0).
 */
uint64_t tpt_bare_destroy(struct tpt_bare *bare);

/* The table of functions to give to tpt_vm_create(), with @bare as platform_ctx. Lives as long. */
const struct tpt_platform *tpt_bare_platform(const struct tpt_bare *bare);

/* What tpt_bare_guest_enter() says. */
/* Before you enter: drop everything that was cached for this VM, and load the roots again, which
 * may be others now. */
#define TPT_BARE_FLUSH (1u << 0)
/* Not now: vCPUs are held out. Nothing was entered; ask again. */
#define TPT_BARE_HELD (1u << 1)

/*
 * vCPU @vcpu (its seat, below nr_vcpus) is about to enter guest mode: to be called with interrupts
 * off, after tpt_vcpu_load_roots(), as the last thing before the guest is entered, so that an ipi()
 * sent from now on makes it leave again. TPT_BARE_FLUSH, TPT_BARE_HELD or 0; a seat that does not
 * exist is HELD. Only after 0 are the roots that were loaded before good for this entry. Whoever is
 * told to flush, or finds another reason not to enter, calls tpt_bare_guest_leave(); he owes the
 * flush that he was told of, and begins again with the roots.
 *
 * A request reaches the processor that enters next with this seat. So a vCPU that comes to another
 * processor than it ran on last flushes there for this VM before it enters.
 */
uint32_t tpt_bare_guest_enter(struct tpt_bare *bare, uint32_t vcpu);
/*
 * It has left. Not after TPT_BARE_HELD; before the vCPU's processor calls the library, which may
 * wait until all seats have left.
 */
void tpt_bare_guest_leave(struct tpt_bare *bare, uint32_t vcpu);

/*
 * Runs deferred work, oldest first, in a bounded piece: returns how many items were run; 0 also if
 * another processor is at it. Any processor that is outside of guest mode and in no call of the
 * library; somebody has to call it now and then.
 */
uint32_t tpt_bare_run_deferred(struct tpt_bare *bare);

/*
 * Balances, exact while no other processor is in the platform. A misuse is a broken rule of
 * platform.h or of this header: double or wild free, wrong size at mem_free(), unlock of a lock
 * that is not taken, hold(false) without hold(true), a seat that does not exist, enter or leave
 * twice; at destroy a leak, a lock that is taken, vCPUs that are in the guest. It is logged as an
 * error and made harmless as far as possible.
 */
struct tpt_bare_stats {
	uint64_t pages;			/* table pages that there are */
	uint64_t pages_live;		/* allocated and not freed */
	uint64_t pages_peak;		/* most of them at once */
	uint64_t mem_live;		/* objects allocated and not freed */
	uint64_t mem_bytes;		/* their bytes, as asked for */
	uint64_t deferred;		/* defer() calls so far */
	uint64_t pending;		/* of those: not yet run */
	uint64_t locks;			/* exclusive sections so far */
	uint64_t flushes, kicks, holds; /* calls by the library; of hold() those that begin one */
	uint64_t ipis;			/* of the hook */
	uint64_t misuses;
};
void tpt_bare_get_stats(const struct tpt_bare *bare, struct tpt_bare_stats *stats);

/*
 * For tests that the embedder catches it: from now on flush() and kick() reach no processor but the
 * caller's. What a host does that forgot its shootdowns.
 */
void tpt_bare_break_shootdown(struct tpt_bare *bare);

#ifdef __cplusplus
}
#endif
#endif
