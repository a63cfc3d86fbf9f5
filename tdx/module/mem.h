/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What every TDH.MEM leaf does before and after its own work: take the TD, check its state, find
 * and lock one Secure-EPT entry. Never a change of the entry.
 *
 *	TDR -> state -> page info -> GPA -> tree -> walk -> entry lock -> entry state
 */
#ifndef TDX_MODULE_MEM_H
#define TDX_MODULE_MEM_H

#include "tdx/module/leaves.h"
#include "tdx/module/sept.h"
#include "tdx/module/sept_l2.h"

#define ROOT_LEVEL 0xff /* as a highest level: the TD's root entries */

/* A leaf's rules. */
struct mem_rules {
	uint64_t flags;	    /* bits of RDX that are not the TDR's address */
	unsigned int ops;   /* operation states */
	enum lock_mode tdr; /* exclusive: no other call on this TD, no further lock is taken */
	enum lock_mode tree;
	uint8_t min_level, max_level;
	unsigned int states; /* entry states */
};

struct mem_op {
	struct call *call;
	const struct mem_rules *rules;
	struct td_hold hold;
	struct td *td;
	bool tree_locked;
	bool entry_locked;
	uint64_t gpa;
	unsigned int level;
	struct sept_walk walk;
	uint64_t *entry;
	uint64_t raw; /* as read under the lock; lock bit clear */
};

/* Both steps: 0 or the status. mem_end() is owed in any case. */
uint64_t mem_begin(struct mem_op *op, struct call *call, const struct mem_rules *rules);

/* The steps apart, for leaves with a check between them. */
uint64_t mem_begin_td(struct mem_op *op, struct call *call, const struct mem_rules *rules);
uint64_t mem_begin_entry(struct mem_op *op);
uint64_t mem_lock_tree(struct mem_op *op);
uint64_t mem_lock_entry(struct mem_op *op);
void mem_end(struct mem_op *op);

/* A leaf: the common part, then @run if nothing was wrong, then everything given back. */
typedef uint64_t mem_fn(struct mem_op *op);
uint64_t mem_run(struct call *call, const struct mem_rules *rules, mem_fn *run);
/* The same with the TD alone; @run finds the entry. */
uint64_t mem_run_td(struct call *call, const struct mem_rules *rules, mem_fn *run);

/* Describe an entry in RCX and RDX. */
void mem_details(struct mem_op *op, uint64_t raw, unsigned int level);

/* @status with operand RCX, the entry described. */
uint64_t mem_refuse(struct mem_op *op, uint64_t status);

/* Blocked and tracked, if this TD and entry must be; @bepoch is that of what the entry maps. */
uint64_t mem_check_tracked(struct mem_op *op, uint64_t bepoch);

/* Store the entry: still locked, or unlocked by the same store. */
void mem_store_locked(struct mem_op *op, uint64_t raw);
void mem_store_unlock(struct mem_op *op, uint64_t raw);

#endif
