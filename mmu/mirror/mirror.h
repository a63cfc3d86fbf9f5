/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How an external table is changed: one call for one entry, and what each answer means. Walks
 * nothing and stores no entry; the transition in tree/ does, around these calls.
 *
 *	one entry, faults:    EMPTY -> FROZEN -> link() or map() -> TABLE, LEAF
 *	                                  `-- BUSY or error --> EMPTY again
 *
 *	many entries, zaps:   phase one  LEAF -> FROZEN -> block() -> BLOCKED       (each leaf)
 *	                      once       track(), kick
 *	                      phase two  BLOCKED -> FROZEN -> remove() -> EMPTY     (each leaf)
 *	                                            `-- error: unblock() -> LEAF, or the VM is dead
 *
 *	size:                 LEAF -> BLOCKED, track(), kick, -> FROZEN -> split() -> TABLE
 *	                      TABLE -> BLOCKED_TABLE, track(), kick, -> FROZEN -> merge() -> LEAF
 *	                                            `-- error: unblock(), as it was
 *
 *	teardown:             release(), then LEAF -> reclaim_leaf() -> EMPTY
 *	                                      TABLE -> free_table() -> EMPTY
 */
#ifndef MMU_MIRROR_H
#define MMU_MIRROR_H

#include <triptych/external.h>

#include "mmu/base/base.h"
#include "mmu/pte/pte.h"

struct mirror {
	struct vm_base *base;
	const struct tpt_external_ops *ops; /* NULL: the VM has no external table */
	void *ctx;
	bool released;	/* release() succeeded: pages are reclaimed, not removed */
	bool untracked; /* entries were BLOCKED since the last track */
};

/* An entry of the external table. */
struct mirror_entry {
	tpt_gfn gfn; /* first one */
	enum tpt_level level;
};

/* Judges and tells an answer that is not 0, or that somebody wants to hear of. */
int mirror_answered(struct mirror *m, struct actor *actor, enum tpt_external_call call,
		    struct mirror_entry e, int result);

/* Counts an answer and says what it means. */
static inline int mirror_answer(struct mirror *m, struct actor *actor, enum tpt_external_call call,
				struct mirror_entry e, int result)
{
	count_add(actor, COUNT_CALL + call, 1);
	PROBE4(external_call, call, e.gfn, e.level, result);
	if (__builtin_expect(result || m->base->event, 0))
		return mirror_answered(m, actor, call, e, result);
	return 0;
}

/*
 * What the owner must be asked when a mirror entry goes from one kind to another. All return 0;
 * -ERR_BUSY: nothing changed, try again; another error: nothing changed and it is no use. A lie
 * (any other number) kills the VM and is -ERR_IO.
 */
int mirror_link(struct mirror *m, struct actor *actor, struct mirror_entry e, tpt_hpa table);
static inline int mirror_map(struct mirror *m, struct actor *actor, struct mirror_entry e,
			     tpt_pfn pfn)
{
	return mirror_answer(m, actor, TPT_CALL_MAP, e, m->ops->map(m->ctx, e.gfn, e.level, pfn));
}

/* Asks a call that was answered busy again. @what: a PFN or the HPA of a table, as the call wants.
 */
int mirror_ask_again(struct mirror *m, struct actor *actor, enum tpt_external_call call,
		     struct mirror_entry e, uint64_t what);

/* The first answer, and what follows if it was busy. */
static inline int mirror_until(struct mirror *m, struct actor *actor, enum tpt_external_call call,
			       struct mirror_entry e, uint64_t what, int result)
{
	result = mirror_answer(m, actor, call, e, result);
	return __builtin_expect(result == -ERR_BUSY, 0) ? mirror_ask_again(m, actor, call, e, what)
							: result;
}

/*
 * Exclusive section. A busy answer is tried again while all vCPUs are held out of the guest;
 * -ERR_BUSY means that even that was no use.
 */
static inline int mirror_block(struct mirror *m, struct actor *actor, struct mirror_entry e)
{
	return mirror_until(m, actor, TPT_CALL_BLOCK, e, 0, m->ops->block(m->ctx, e.gfn, e.level));
}

int mirror_unblock(struct mirror *m, struct actor *actor, struct mirror_entry e);

static inline int mirror_remove(struct mirror *m, struct actor *actor, struct mirror_entry e,
				tpt_pfn pfn)
{
	return mirror_until(m, actor, TPT_CALL_REMOVE, e, pfn.n,
			    m->ops->remove(m->ctx, e.gfn, e.level, pfn));
}

/* Of a blocked and tracked leaf, and of a table that is. @table: the owner's page of the table. */
int mirror_split(struct mirror *m, struct actor *actor, struct mirror_entry e, tpt_hpa table);
int mirror_merge(struct mirror *m, struct actor *actor, struct mirror_entry e, tpt_hpa table);

/* One epoch and its kick. After -ERR_BUSY it is still owed. Any other failure leaves BLOCKED
 * entries for good: the VM is dead. */
int mirror_track(struct mirror *m, struct actor *actor);

/* The guest's end, and after it. Busy answers are tried again as above. */
int mirror_release(struct mirror *m, struct actor *actor);
int mirror_reclaim_leaf(struct mirror *m, struct actor *actor, struct mirror_entry e, tpt_pfn pfn);
int mirror_free_table(struct mirror *m, struct actor *actor, struct mirror_entry e, tpt_hpa table);

#endif
