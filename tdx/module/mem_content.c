// SPDX-License-Identifier: BSD-2-Clause
/* The host looks at or measures a TD's content: TDH.MEM.RD, TDH.MEM.WR, TDH.MR.EXTEND. */
#include "tdx/module/lines.h"
#include "tdx/module/mem.h"

#define EXTEND_BYTES 256

static unsigned int leaf_offset(const struct mem_op *op, uint64_t gpa)
{
	return gpa & (PAGE_BYTES - 1) & (level_size(op->walk.level) - 1);
}

/* HPA of the 4 KiB page that holds @gpa under the leaf that the walk reached. */
static uint64_t leaf_page(const struct mem_op *op, uint64_t gpa)
{
	uint64_t within = gpa & (level_size(op->walk.level) - 1) & ~(PAGE_BYTES - 1);

	return sept_hpa(op->raw, op->walk.level) + within;
}

/* An 8-byte access by the host, and the old value. */
static uint64_t access_word(struct mem_op *op, const uint64_t *new_value)
{
	uint8_t *page = module_page(op->call->m, leaf_page(op, op->gpa));
	uint64_t old = 0;

	if (!lines_module_check(op->call->m, op->td->key,
				leaf_page(op, op->gpa) + leaf_offset(op, op->gpa), sizeof(old)))
		return TDX_SYS_SHUTDOWN;
	if (page) {
		uint64_t *word = (uint64_t *)(page + leaf_offset(op, op->gpa));

		old = __atomic_load_n(word, __ATOMIC_SEQ_CST);
		if (new_value)
			__atomic_store_n(word, *new_value, __ATOMIC_SEQ_CST);
	}
	op->call->regs->r8 = old;
	return TDX_SUCCESS;
}

static uint64_t debug_access(struct mem_op *op, const uint64_t *new_value)
{
	uint64_t status;

	if (!(op->td->params.attributes & TDX_ATTR_DEBUG))
		return TDX_TD_NON_DEBUG;
	op->gpa = op->call->rcx;
	if (op->gpa & 7)
		return TDX_OPERAND_INVALID | TDX_OPERAND_RCX;
	status = mem_lock_tree(op);
	if (status != TDX_SUCCESS)
		return status;
	if (!td_private_gpa(op->td, op->gpa))
		return TDX_OPERAND_INVALID | TDX_OPERAND_RCX;
	if (!sept_walk_leaf(op->call->m, op->td, op->gpa, &op->walk)) {
		op->raw = op->walk.raw;
		return mem_refuse(op, TDX_EPT_ENTRY_NOT_PRESENT);
	}
	status = mem_lock_entry(op);
	if (status != TDX_SUCCESS)
		return status;
	if (!sept_in(op->raw, op->rules->states))
		return mem_refuse(op, TDX_EPT_ENTRY_STATE_INCORRECT);
	return access_word(op, new_value);
}

static const struct mem_rules access_rules = {
	.ops = OPS(OP_INITIALIZED) | OPS(OP_RUNNABLE),
	.tdr = LOCK_SHARED,
	.tree = LOCK_SHARED,
	.states = STATES(S_MAPPED),
};

static uint64_t access_leaf(struct call *call, const uint64_t *new_value)
{
	struct mem_op op;
	uint64_t status;

	call->regs->r8 = 0;
	status = mem_begin_td(&op, call, &access_rules);
	if (status == TDX_SUCCESS)
		status = debug_access(&op, new_value);
	mem_end(&op);
	return status;
}

/* TDH.MEM.RD: RCX GPA, RDX TDR; R8 = value. */
uint64_t leaf_mem_rd(struct call *call)
{
	return access_leaf(call, NULL);
}

/* TDH.MEM.WR: RCX GPA, RDX TDR, R8 value; R8 = old value. */
uint64_t leaf_mem_wr(struct call *call)
{
	uint64_t value = call->regs->r8;

	return access_leaf(call, &value);
}

static uint64_t extend(struct mem_op *op)
{
	uint8_t content[EXTEND_BYTES];

	op->gpa = op->call->rcx;
	if (op->gpa & (EXTEND_BYTES - 1) || !td_private_gpa(op->td, op->gpa))
		return TDX_OPERAND_INVALID | TDX_OPERAND_RCX;
	if (!sept_walk_leaf(op->call->m, op->td, op->gpa, &op->walk)) {
		op->raw = op->walk.raw;
		return mem_refuse(op, TDX_EPT_ENTRY_NOT_PRESENT);
	}
	op->raw = op->walk.raw;
	if (!sept_in(op->raw, op->rules->states))
		return TDX_EPT_ENTRY_NOT_PRESENT;
	if (!lines_module_load(op->call->m, op->td->key,
			       leaf_page(op, op->gpa) + leaf_offset(op, op->gpa), content,
			       sizeof(content)))
		return TDX_SYS_SHUTDOWN;
	measure_extend(op->td->mr, op->gpa, content);
	return TDX_SUCCESS;
}

/* TDH.MR.EXTEND: RCX GPA, RDX TDR. */
uint64_t leaf_mr_extend(struct call *call)
{
	static const struct mem_rules rules = {
		.ops = OPS(OP_INITIALIZED),
		.tdr = LOCK_EXCLUSIVE,
		.tree = LOCK_NONE,
		.states = STATES(S_MAPPED),
	};

	return mem_run_td(call, &rules, extend);
}
