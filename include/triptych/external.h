/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How an external table is changed: the functions that its owner (a TDX module binding, a
 * paravisor, a test) gives the library. The library keeps a mirror of the table in host memory and
 * calls these, one entry at a time, while the mirror entry is FROZEN.
 */
#ifndef TRIPTYCH_EXTERNAL_H
#define TRIPTYCH_EXTERNAL_H

#include <triptych/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What an owner says of one external entry: for tpt_vm_audit() only. */
enum tpt_external_kind {
	TPT_EXTERNAL_NONE,
	TPT_EXTERNAL_TABLE,
	TPT_EXTERNAL_LEAF,
	TPT_EXTERNAL_BLOCKED_LEAF,
	TPT_EXTERNAL_BLOCKED_TABLE,
};

struct tpt_external_entry {
	enum tpt_external_kind kind;
	tpt_pfn pfn; /* of a leaf, blocked or not; 0 otherwise */
};

/*
 * Answers of every function: 0 done; -EBUSY not done, nothing changed, may be tried again (another
 * processor holds what the call needs); any other negative errno: not done and never will be. An
 * answer outside [-4095, 0] is a lie and kills the VM. @gfn is the first GFN of what @level covers.
 * @level is the level of the entry that is changed. A function must not call into the library.
 */
struct tpt_external_ops {
	size_t size; /* sizeof(struct tpt_external_ops) */

	/* Nonpresent to table: @table is a host page given to the owner until free_table(). Called
	 * by faulting vCPUs, side by side. */
	int (*link)(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_hpa table);
	/* Nonpresent to leaf. Called by faulting vCPUs, side by side. */
	int (*map)(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_pfn pfn);

	/*
	 * The two phases of removal, and of a change of size: block() takes a leaf, or a table with
	 * all below it, out of the guest's reach; unblock(), after a track(), gives it back as it
	 * was. Tables are blocked only to be merged. Called with the VM's exclusive section held,
	 * as are all functions below.
	 */
	int (*block)(void *ctx, tpt_gfn gfn, enum tpt_level level);
	int (*unblock)(void *ctx, tpt_gfn gfn, enum tpt_level level);
	/* Starts a new TLB-tracking epoch; the library kicks all vCPUs right after. -EBUSY: a vCPU
	 * still runs in the epoch before the last; the library holds all vCPUs out of the guest and
	 * tries again. An error for good kills the VM. */
	int (*track)(void *ctx);
	/* Blocked and tracked leaf to nonpresent; on return @pfn may be used for anything: written
	 * back and cleared. */
	int (*remove)(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_pfn pfn);

	/*
	 * Teardown. release() ends the life of the guest: after it no call above is made. 0: the
	 * owner's key is gone, pages are taken back one by one with reclaim_leaf() and
	 * free_table(), leaves before the tables above them. Error: nothing can be taken back;
	 * every page is leaked and counted.
	 */
	int (*release)(void *ctx);
	int (*reclaim_leaf)(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_pfn pfn);
	int (*free_table)(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_hpa table);

	/* What is there now? For tpt_vm_audit(); may be NULL. Never called while a call is made. */
	int (*read)(void *ctx, tpt_gfn gfn, enum tpt_level level, struct tpt_external_entry *entry);

	/*
	 * Size: both or neither (NULL: private leaves are of 4K). @level is that of the large leaf,
	 * 2M or 1G. After any failure the entry is blocked as before, and what was to be changed
	 * below it too.
	 *
	 * split(): a blocked and tracked leaf to a table, not blocked, of 512 leaves one level
	 * below over the same frames, which keep their content and what the guest made of them.
	 * @table is a host page given to the owner until merge() or free_table(). A call that was
	 * interrupted has changed nothing and is -EBUSY.
	 *
	 * merge(): a blocked and tracked table to a leaf, not blocked, over the frames of its 512
	 * leaves, which are all there, follow one another and are aligned. On return @table is the
	 * host's again and may be used for anything. Where the owner sees that the 512 are not of
	 * one kind (the guest has accepted some of them only) any error but -EBUSY says so; the
	 * table is unblocked then, and nobody's loss.
	 */
	int (*split)(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_hpa table);
	int (*merge)(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_hpa table);
};

#ifdef __cplusplus
}
#endif
#endif
