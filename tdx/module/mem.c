// SPDX-License-Identifier: BSD-2-Clause
/* The common part of the TDH.MEM leaves. Never a change of an entry's meaning. */
#include "tdx/module/mem.h"

#define PAGE_INFO_RESERVED 0xfff0000000000ff8ull

uint64_t mem_begin_td(struct mem_op *op, struct call *call, const struct mem_rules *rules)
{
	uint64_t status;

	*op = (struct mem_op){.call = call, .rules = rules};
	status =
		td_take(call->m, call->rdx & ~rules->flags, TDX_OPERAND_RDX, rules->tdr, &op->hold);
	if (status != TDX_SUCCESS)
		return status;
	op->td = op->hold.td;
	return td_check_state(&op->hold, rules->ops, rules->tdr == LOCK_SHARED);
}

static bool parse_page_info(struct mem_op *op)
{
	uint64_t rcx = op->call->rcx;
	unsigned int max = op->rules->max_level;

	if (max == ROOT_LEVEL)
		max = op->td->root_level;
	op->level = rcx & 7;
	op->gpa = rcx & ~7ull;
	if (rcx & PAGE_INFO_RESERVED || op->level < op->rules->min_level || op->level > max)
		return false;
	return !(op->gpa & (level_size(op->level) - 1)) && td_private_gpa(op->td, op->gpa);
}

uint64_t mem_lock_tree(struct mem_op *op)
{
	if (op->rules->tree == LOCK_NONE)
		return TDX_SUCCESS;
	if (!sharex_lock(&op->td->sept_lock, op->rules->tree))
		return TDX_OPERAND_BUSY | TDX_OPERAND_SEPT_TREE;
	op->tree_locked = true;
	return TDX_SUCCESS;
}

void mem_details(struct mem_op *op, uint64_t raw, unsigned int level)
{
	op->call->regs->rcx = sept_public_entry(raw);
	op->call->regs->rdx = level | (uint64_t)sept_public_state(raw) << 8;
}

uint64_t mem_refuse(struct mem_op *op, uint64_t status)
{
	mem_details(op, op->raw, op->walk.level);
	return status | TDX_OPERAND_RCX;
}

uint64_t mem_lock_entry(struct mem_op *op)
{
	op->entry = op->walk.entry;
	op->raw = op->walk.raw;
	if (op->rules->tree == LOCK_NONE)
		return TDX_SUCCESS;
	if (!sept_host_lock(op->entry))
		return mem_refuse(op, TDX_OPERAND_BUSY);
	op->entry_locked = true;
	op->raw = sept_read(op->entry) & ~SEPT_LOCK;
	return TDX_SUCCESS;
}

uint64_t mem_begin_entry(struct mem_op *op)
{
	uint64_t status;

	if (!parse_page_info(op))
		return TDX_OPERAND_INVALID | TDX_OPERAND_RCX;
	status = mem_lock_tree(op);
	if (status != TDX_SUCCESS)
		return status;
	if (!sept_walk(op->call->m, op->td, op->gpa, op->level, &op->walk)) {
		op->raw = op->walk.raw;
		return mem_refuse(op, TDX_EPT_WALK_FAILED);
	}
	status = mem_lock_entry(op);
	if (status != TDX_SUCCESS)
		return status;
	if (!sept_in(op->raw, op->rules->states))
		return mem_refuse(op, TDX_EPT_ENTRY_STATE_INCORRECT);
	return TDX_SUCCESS;
}

uint64_t mem_begin(struct mem_op *op, struct call *call, const struct mem_rules *rules)
{
	uint64_t status = mem_begin_td(op, call, rules);

	return status == TDX_SUCCESS ? mem_begin_entry(op) : status;
}

void mem_end(struct mem_op *op)
{
	if (op->entry_locked)
		sept_unlock(op->entry);
	if (op->tree_locked)
		sharex_unlock(&op->td->sept_lock, op->rules->tree);
	td_release(&op->hold);
}

uint64_t mem_run(struct call *call, const struct mem_rules *rules, mem_fn *run)
{
	struct mem_op op;
	uint64_t status = mem_begin(&op, call, rules);

	if (status == TDX_SUCCESS)
		status = run(&op);
	mem_end(&op);
	return status;
}

uint64_t mem_run_td(struct call *call, const struct mem_rules *rules, mem_fn *run)
{
	struct mem_op op;
	uint64_t status = mem_begin_td(&op, call, rules);

	if (status == TDX_SUCCESS)
		status = run(&op);
	mem_end(&op);
	return status;
}

uint64_t mem_check_tracked(struct mem_op *op, uint64_t bepoch)
{
	if (!td_tracking_required(op->td) || !sept_in(op->raw, S_NEEDS_TRACKING))
		return TDX_SUCCESS;
	if (!sept_in(op->raw, S_ANY_BLOCKED))
		return mem_refuse(op, TDX_GPA_RANGE_NOT_BLOCKED);
	if (!td_tracked(op->td, bepoch))
		return TDX_TLB_TRACKING_NOT_DONE | TDX_OPERAND_RCX;
	return TDX_SUCCESS;
}

void mem_store_locked(struct mem_op *op, uint64_t raw)
{
	op->raw = raw & ~SEPT_LOCK;
	sept_write(op->entry, op->entry_locked ? op->raw | SEPT_LOCK : op->raw);
}

void mem_store_unlock(struct mem_op *op, uint64_t raw)
{
	op->raw = raw & ~SEPT_LOCK;
	op->entry_locked = false;
	sept_write(op->entry, op->raw);
}
