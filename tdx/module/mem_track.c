// SPDX-License-Identifier: BSD-2-Clause
/* TDH.MEM.RANGE.BLOCK, RANGE.UNBLOCK and TDH.MEM.TRACK: when a translation is surely gone. */
#include "tdx/module/mem.h"

/* Metadata of what an entry leads to: the mapped page at its size, or the table page. */
static struct pamt_entry *target_pamt(const struct mem_op *op)
{
	unsigned int level = sept_is_leaf(op->raw) ? op->level : 0;

	return pamt_entry_at(op->call->m, sept_hpa(op->raw, op->level), level);
}

static uint64_t block(struct mem_op *op)
{
	uint64_t before = op->raw;

	mem_store_locked(op, sept_block(before, op->level));
	sept_l2_block_all(op->call->m, op->td, op->gpa, op->level, before);
	/* The epoch is read after the entry is blocked: who enters later can't fill a TLB from it.
	 */
	atomic_store(&target_pamt(op)->bepoch, atomic_load(&op->td->epoch));
	return TDX_SUCCESS;
}

/* TDH.MEM.RANGE.BLOCK: RCX page info, RDX TDR. */
uint64_t leaf_mem_range_block(struct call *call)
{
	static const struct mem_rules rules = {
		.ops = OPS(OP_INITIALIZED) | OPS(OP_RUNNABLE),
		.tdr = LOCK_SHARED,
		.tree = LOCK_EXCLUSIVE,
		.max_level = ROOT_LEVEL,
		.states = STATES(S_NL_MAPPED) | STATES(S_MAPPED) | STATES(S_PENDING),
	};
	struct mem_op op;
	uint64_t status = mem_begin(&op, call, &rules);

	if (status == (TDX_EPT_ENTRY_STATE_INCORRECT | TDX_OPERAND_RCX) &&
	    sept_in(op.raw, S_ANY_BLOCKED))
		status = TDX_GPA_RANGE_ALREADY_BLOCKED | TDX_OPERAND_RCX;
	if (status == TDX_SUCCESS)
		status = block(&op);
	mem_end(&op);
	return status;
}

static uint64_t unblock(struct mem_op *op)
{
	uint64_t bepoch = atomic_load(&target_pamt(op)->bepoch);

	if (td_tracking_required(op->td) && !td_tracked(op->td, bepoch))
		return TDX_TLB_TRACKING_NOT_DONE | TDX_OPERAND_SEPT_TREE;
	if (!sept_in(op->raw, S_ANY_PENDING))
		sept_l2_unblock_all(op->call->m, op->td, op->gpa, op->level, op->raw);
	mem_store_unlock(op, sept_unblock(op->raw));
	return TDX_SUCCESS;
}

/* TDH.MEM.RANGE.UNBLOCK: RCX page info, RDX TDR. */
uint64_t leaf_mem_range_unblock(struct call *call)
{
	static const struct mem_rules rules = {
		.ops = OPS(OP_INITIALIZED) | OPS(OP_RUNNABLE),
		.tdr = LOCK_SHARED,
		.tree = LOCK_EXCLUSIVE,
		.max_level = ROOT_LEVEL,
		.states = S_ANY_BLOCKED,
	};

	return mem_run(call, &rules, unblock);
}

/* At most two epochs are alive: the next may begin only when nobody is left in the last but one. */
static uint64_t next_epoch(struct call *call, struct td_hold *hold)
{
	uint64_t status = td_check_state(hold, OPS(OP_INITIALIZED) | OPS(OP_RUNNABLE), true);
	struct td *td = hold->td;
	uint64_t epoch;

	(void)call;
	if (status != TDX_SUCCESS)
		return status;
	if (!sharex_lock(&td->epoch_lock, LOCK_EXCLUSIVE))
		return TDX_OPERAND_BUSY | TDX_OPERAND_TD_EPOCH;
	epoch = atomic_load(&td->epoch);
	if (atomic_load(&td->refcount[(epoch - 1) & 1]))
		status = TDX_PREVIOUS_TLB_EPOCH_BUSY;
	else
		atomic_store(&td->epoch, epoch + 1);
	sharex_unlock(&td->epoch_lock, LOCK_EXCLUSIVE);
	return status;
}

/* TDH.MEM.TRACK: RCX TDR. */
uint64_t leaf_mem_track(struct call *call)
{
	return td_run(call, call->rcx, TDX_OPERAND_RCX, LOCK_SHARED, next_epoch);
}
