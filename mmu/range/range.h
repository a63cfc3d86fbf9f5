/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From a reason to a walk: which trees a reason may touch, and the walks themselves, a chunk at a
 * time. Never decides that something must go, and maps nothing.
 */
#ifndef MMU_RANGE_H
#define MMU_RANGE_H

#include "mmu/fault/fault.h"

/* Why entries are zapped. Which trees each may touch stands in one table in zap.c. */
enum zap_reason {
	ZAP_MEMSLOT,	 /* a memslot is deleted or moved */
	ZAP_NOTIFIER,	 /* the host takes ordinary memory back */
	ZAP_TO_PRIVATE,	 /* conversion: shared entries go */
	ZAP_TO_SHARED,	 /* conversion: private entries go */
	ZAP_GMEM_HOLE,	 /* private memory is freed */
	ZAP_GMEM_SHARED, /* the same, where shared accesses find it too */
	ZAP_APICV,	 /* APICv was inhibited or allowed */
	ZAP_NONCOHERENT, /* memory types change */
	ZAP_MMIO,    /* a memslot is created where MMIO entries may be cached without generation */
	ZAP_CONTEXT, /* context reset, zap-all-fast: whole direct roots */
	ZAP_REASON_NR,
};

/*
 * Trees (bits of enum tree_id) that a reason may touch in this VM. Without a mirror private memory
 * is mapped by the direct tree, and told apart by the ranges that are zapped.
 */
unsigned int zap_trees_of(enum zap_reason reason);
static inline unsigned int zap_trees(const struct fault_env *env, enum zap_reason reason)
{
	return env->has_mirror ? zap_trees_of(reason) : TREE_DIRECT_ALL;
}

/* A zap under way. The caller keeps it between chunks. */
struct zap {
	enum zap_reason reason;
	unsigned int trees; /* of those allowed, the ones wanted: by address space */
	struct tpt_gfn_range range;
	tpt_gfn pos;	   /* where the next chunk begins; set to range.start first */
	enum tree_id tree; /* which tree it is in; set to 0 first */
	uint32_t ready;	   /* pages from @pos on whose private leaves go as they are; 0 first */
	uint64_t zapped;   /* leaves gone so far */
};

static inline struct zap zap_make(const struct fault_env *env, enum zap_reason reason,
				  unsigned int trees, tpt_gfn start, tpt_gfn end)
{
	return (struct zap){.reason = reason,
			    .trees = trees & zap_trees(env, reason),
			    .range = {start, end},
			    .pos = start};
}

/*
 * One chunk. Exclusive section; the caller may leave and enter it again between chunks. Whatever
 * the chunk zapped is flushed, or tracked, kicked and removed, when it returns.
 *  1      there is more: call again
 *  0      done
 *  -ERR_BUSY  external calls stay busy: nothing is lost, call again later
 *  other  an external call failed for good, or -ERR_IO: the VM is dead
 */
int zap_chunk(struct fault_env *env, struct zap *zap);

/* Most entries that one chunk looks at in a direct tree before it gives way. */
#define ZAP_DIRECT_CHUNK 4096
/* Private mappings that one chunk removes, unless the VM says otherwise. */
#define ZAP_PRIVATE_CHUNK 512

/* One chunk of two-phase removal in the mirror; see private.c. */
int zap_private_chunk(struct fault_env *env, struct zap *zap);

/* ---- private_size.c; exclusive section ---- */

/*
 * Private leaves that reach out of the range are split, at both its ends. After a topup of the VM's
 * own actor, which serves one range. 0; -ERR_BUSY: call again; -ERR_NOMEM: no topup; others for
 * good, or -ERR_IO.
 */
int private_split_ends(struct fault_env *env, struct tpt_gfn_range range);
/*
 * Tables of [start, end) that one leaf could stand for are merged, up to *done: a chunk's work.
 * What the owner does not merge stays a table. 0; -ERR_BUSY: something is blocked, call again;
 * -ERR_IO.
 */
int private_merge_ahead(struct fault_env *env, tpt_gfn start, tpt_gfn end, tpt_gfn *done);
/* What was blocked there to be merged is, or goes back. Answers as above; adds to *merged. */
int private_merge_blocked(struct fault_env *env, tpt_gfn start, tpt_gfn end, uint64_t *merged);

/* Tables that one chunk of a recovery merges: one look at all their entries is a chunk's work. */
#define PRIVATE_RECOVER_CHUNK 8

/* A recovery of large private leaves at one level. The caller keeps it between its three steps. */
struct private_recover {
	unsigned int level; /* of the leaves to be made */
	struct tpt_gfn_range range;
	tpt_gfn from, pos; /* what was looked at last; pos set to range.start first */
	uint64_t made;	   /* leaves so far */
	unsigned int nr;
	struct {
		tpt_gfn gfn;
		tpt_pfn pfn; /* of the first leaf */
		const struct memslot *slot;
	} found[PRIVATE_RECOVER_CHUNK];
};

/* Finds tables from @pos on that the library sees nothing against. 1: there is more behind them. */
int private_recover_find(struct fault_env *env, struct private_recover *op);
/* Of those found, leaves the ones that the gmem has as one block. An update is under way; no
 * section: the gmem may sleep. */
void private_recover_ask(struct private_recover *op);
/* Merges those that are left and still as they were found. Answers as private_merge_blocked(). */
int private_recover_merge(struct fault_env *env, struct private_recover *op);

/* Pages that zap.ready can tell of; a multiple of the largest leaf. */
#define ZAP_READY_MAX (1ull << 31)

/* How far a mirror's teardown is. The caller keeps it between chunks. */
struct mirror_end {
	unsigned int level; /* set to TPT_LEVEL_4K first */
	tpt_gfn pos;	    /* set to 0 first */
};

/*
 * After the guest's end: gives every private page and table page back to the host, leaves before
 * tables, lowest level first, one chunk a call. Exclusive section, which may be left between calls.
 * What the owner refuses is counted as leaked. 1: there is more; 0: the mirror is gone.
 */
int mirror_teardown_chunk(struct fault_env *env, struct mirror_end *end);

/* ---- sweep.c ---- */

/* A sweep under way over one direct tree. The caller keeps it between chunks. */
struct range_sweep {
	enum tree_rule rule;
	enum tpt_level min_level; /* leaves below it are left alone */
	enum tree_id tree;
	struct tpt_gfn_range range;
	tpt_gfn pos; /* set to range.start first */
	/* Told of each run of @nr entries from @gfn on in which bits of @hit lost something. */
	void (*found)(void *ctx, tpt_gfn gfn, unsigned int level, const uint64_t *hit,
		      unsigned int nr);
	void *found_ctx;
	uint64_t hits;
	struct tpt_gfn_range flush; /* what the caller owes a flush for; empty: nothing */
};

/* Most entries that a chunk looks at before it gives way. */
#define RANGE_SWEEP_CHUNK 4096

/* Adds to @flush the leaves of a run of @nr entries at the iterator whose bit in @hit is set. */
void range_cover(struct tpt_gfn_range *flush, const struct tree_iter *it, const uint64_t *hit,
		 unsigned int nr);

/* One chunk. Either section, as @actor. 1: there is more; 0: done. */
int range_sweep_chunk(struct fault_env *env, struct actor *actor, struct range_sweep *op);

/* Words of a mask that one call sweeps by: a leaf table's worth of frames. */
#define RANGE_MASK_WORDS TREE_SWEEP_WORDS

/*
 * Sweeps those frames from @gfn on whose bit is set in @nr words of @mask, RANGE_MASK_WORDS at
 * most; a huge leaf over one of them is write-protected where the rule is to clear D. Either
 * section. Returns how many leaves lost something; a flush is owed for all the frames of the mask
 * if any did.
 */
unsigned int range_sweep_masked(struct fault_env *env, struct actor *actor, enum tree_id tree,
				enum tree_rule rule, tpt_gfn gfn, const uint64_t *mask,
				unsigned int nr);

/* ---- age.c ---- */

/* Young pages of host-virtual memory, looked for in all direct trees. Kept between chunks. */
struct range_age {
	bool clear; /* they are old from now on; else nothing changes */
	tpt_hva start, end;
	uint64_t *young; /* bit n is page n from @start: those found are set; NULL: nobody asks */
	uint32_t as_id;	 /* where the next chunk begins; all 0 first */
	struct interval_key slot; /* by HVA */
	tpt_gfn pos;		  /* in it */
	bool found;		  /* a page was young */
};

/* One chunk. Shared section. 1: there is more; 0: done. No flush is owed. */
int range_age_chunk(struct fault_env *env, struct actor *actor, struct range_age *op);

/* ---- split.c ---- */

/* A split under way over one direct tree. The caller keeps it between chunks. */
struct range_split {
	enum tree_id tree;
	struct tpt_gfn_range range;
	tpt_gfn pos;	      /* set to range.start first */
	enum tpt_level level; /* leaves above it are split */
	uint64_t split;	      /* how many were */
};

/* Tables that one chunk of recovery detaches before they are flushed. */
#define RANGE_RECOVER_CHUNK 64

/* A recovery under way over one direct tree. The caller keeps it between chunks. */
struct range_recover {
	enum tree_id tree;
	struct tpt_gfn_range range;
	tpt_gfn pos; /* set to range.start first */
	/* The largest host mapping around a page whose frame is @pfn. */
	enum tpt_level (*host_level)(void *ctx, tpt_hva hva, tpt_pfn pfn);
	void *host_ctx;
	uint64_t recovered; /* leaves made */
	/* Out: to flush, if there is a table, then to reclaim, outside of the section. */
	struct tpt_gfn_range flush;
	struct table *detached[RANGE_RECOVER_CHUNK];
	unsigned int nr;
};

/*
 * One chunk of splitting. Shared section. 1: there is more; fill the actor's cache and call again;
 * 0: done; -ERR_IO.
 */
int range_split_chunk(struct fault_env *env, struct actor *actor, struct range_split *op);
/*
 * One chunk of recovery. Shared section; op->nr is 0. 1: there is more; 0: done; -ERR_IO. Whatever
 * it answers, what it detached is to be settled.
 */
int range_recover_chunk(struct fault_env *env, struct actor *actor, struct range_recover *op);

/* ---- nx.c ---- */

/* Tables that one chunk of NX recovery unlinks before it is flushed. */
#define RANGE_NX_CHUNK 64

/* An NX recovery under way. The caller keeps it between chunks. */
struct range_nx {
	uint64_t left, done; /* tables to take off the list, and taken off it */
	/* Out: to flush, then to reclaim, before anybody is alone in the VM. */
	struct tpt_gfn_range flush[MAX_ADDRESS_SPACES];
	struct table *detached[RANGE_NX_CHUNK];
	unsigned int nr;
};

/* One chunk. Shared section; op->nr is 0. 1: there is more; 0: done; -ERR_IO. Whatever it answers,
 * what it detached is to be settled. */
int range_nx_chunk(struct fault_env *env, struct actor *actor, struct range_nx *op);

#endif
