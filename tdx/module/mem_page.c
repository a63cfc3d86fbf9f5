// SPDX-License-Identifier: BSD-2-Clause
/* Guest pages come, move and go: TDH.MEM.PAGE.ADD, AUG, RELOCATE, REMOVE. Never a change of size.
 */
#include "tdx/module/lines.h"
#include "tdx/module/mem.h"

static void own_page(struct td *td, struct pamt_ref *ref, unsigned int level)
{
	atomic_store(&ref->entry->bepoch, 0);
	pamt_set(ref->entry, TDX_PT_REG, td->tdr);
	atomic_fetch_add(&td->chldcnt, level_size(level) / PAGE_BYTES);
}

static uint64_t add_page(struct mem_op *op)
{
	struct tdx_module *m = op->call->m;
	uint64_t hpa = op->call->regs->r8, source = op->call->regs->r9;
	uint8_t content[PAGE_BYTES];
	struct pamt_ref page;
	uint64_t status;

	if (!module_shared_operand(m, source, PAGE_BYTES))
		return TDX_OPERAND_INVALID | TDX_OPERAND_R9;
	status = pamt_take_page(m, hpa, TDX_OPERAND_R8, LOCK_EXCLUSIVE, TDX_PT_NDA, &page);
	if (status != TDX_SUCCESS)
		return status;
	if (!lines_module_load_shared(m, source, content, sizeof(content))) {
		pamt_release(&page);
		return TDX_SYS_SHUTDOWN;
	}
	lines_fill(m, op->td->key, hpa, content);
	mem_store_unlock(op, sept_leaf_entry(S_MAPPED, hpa));
	measure_page_add(op->td->mr, op->gpa);
	own_page(op->td, &page, 0);
	pamt_release(&page);
	return TDX_SUCCESS;
}

/* TDH.MEM.PAGE.ADD: RCX page info, RDX TDR, R8 page, R9 source. */
uint64_t leaf_mem_page_add(struct call *call)
{
	static const struct mem_rules rules = {
		.ops = OPS(OP_INITIALIZED),
		.tdr = LOCK_EXCLUSIVE,
		.tree = LOCK_NONE,
		.states = STATES(S_FREE),
	};

	return mem_run(call, &rules, add_page);
}

static uint64_t aug_page(struct mem_op *op)
{
	uint64_t hpa = op->call->regs->r8;
	struct pamt_ref page;
	uint64_t status = pamt_take_free_range(op->call->m, hpa, op->level, TDX_OPERAND_R8, &page);

	if (status != TDX_SUCCESS)
		return status;
	mem_store_unlock(op, sept_leaf_entry(S_PENDING, hpa));
	own_page(op->td, &page, op->level);
	pamt_release(&page);
	return TDX_SUCCESS;
}

/* TDH.MEM.PAGE.AUG: RCX page info, RDX TDR, R8 page of the level's size. */
uint64_t leaf_mem_page_aug(struct call *call)
{
	static const struct mem_rules rules = {
		.ops = OPS(OP_INITIALIZED) | OPS(OP_RUNNABLE),
		.tdr = LOCK_SHARED,
		.tree = LOCK_SHARED,
		.max_level = 1,
		.states = STATES(S_FREE),
	};

	return mem_run(call, &rules, aug_page);
}

static uint64_t remove_page(struct mem_op *op)
{
	uint64_t hpa = sept_hpa(op->raw, op->level);
	struct pamt_ref page;
	uint64_t status;

	if (!pamt_take_implicit(op->call->m, hpa, op->level, LOCK_EXCLUSIVE, &page))
		return TDX_OPERAND_BUSY | TDX_OPERAND_RCX;
	status = mem_check_tracked(op, atomic_load(&page.entry->bepoch));
	if (status == TDX_SUCCESS) {
		lines_release(op->call->m, hpa, op->level);
		sept_l2_clear_all(op->call->m, op->td, op->gpa, op->level, op->raw);
		mem_store_unlock(op, sept_free_entry());
		atomic_fetch_sub(&op->td->chldcnt, level_size(op->level) / PAGE_BYTES);
		pamt_free(page.entry);
		op->call->regs->rcx = hpa;
	}
	pamt_release(&page);
	return status;
}

/* TDH.MEM.PAGE.REMOVE: RCX page info, RDX TDR. */
uint64_t leaf_mem_page_remove(struct call *call)
{
	static const struct mem_rules rules = {
		.ops = OPS(OP_INITIALIZED) | OPS(OP_RUNNABLE),
		.tdr = LOCK_SHARED,
		.tree = LOCK_SHARED,
		.max_level = 2,
		.states = S_ANY_LEAF,
	};

	return mem_run(call, &rules, remove_page);
}

/* Both pages are held. False: the old one can't be read. */
static bool move_page(struct mem_op *op, struct pamt_ref *old, struct pamt_ref *new)
{
	struct tdx_module *m = op->call->m;
	bool pending = sept_in(op->raw, S_ANY_PENDING);
	uint8_t content[PAGE_BYTES];

	if (!pending) {
		if (!lines_module_load(m, op->td->key, old->hpa, content, sizeof(content)))
			return false;
		lines_fill(m, op->td->key, new->hpa, content);
	}
	lines_release(m, old->hpa, 0);
	pamt_free(old->entry);
	atomic_store(&new->entry->bepoch, 0);
	pamt_set(new->entry, TDX_PT_REG, op->td->tdr);
	sept_l2_move_all(m, op->td, op->gpa, op->raw, new->hpa);
	if (!pending)
		sept_l2_unblock_all(m, op->td, op->gpa, 0, op->raw);
	mem_store_unlock(op, (sept_unblock(op->raw) & ~SEPT_HPA) | new->hpa);
	op->call->regs->rcx = old->hpa;
	return true;
}

static uint64_t relocate_page(struct mem_op *op)
{
	struct tdx_module *m = op->call->m;
	uint64_t hpa = op->raw & SEPT_HPA;
	struct pamt_ref old, new;
	uint64_t status;

	if (op->call->regs->r8 == hpa)
		return TDX_OPERAND_INVALID | TDX_OPERAND_R8;
	if (!pamt_take_implicit(m, hpa, 0, LOCK_EXCLUSIVE, &old))
		return TDX_OPERAND_BUSY | TDX_OPERAND_RCX;
	status = mem_check_tracked(op, atomic_load(&old.entry->bepoch));
	if (status == TDX_SUCCESS)
		status = pamt_take_page(m, op->call->regs->r8, TDX_OPERAND_R8, LOCK_EXCLUSIVE,
					TDX_PT_NDA, &new);
	if (status == TDX_SUCCESS) {
		if (!move_page(op, &old, &new))
			status = TDX_SYS_SHUTDOWN;
		pamt_release(&new);
	}
	pamt_release(&old);
	return status;
}

/* TDH.MEM.PAGE.RELOCATE: RCX page info, RDX TDR, R8 new page. */
uint64_t leaf_mem_page_relocate(struct call *call)
{
	static const struct mem_rules rules = {
		.ops = OPS(OP_INITIALIZED) | OPS(OP_RUNNABLE),
		.tdr = LOCK_SHARED,
		.tree = LOCK_SHARED,
		.states = S_ANY_LEAF,
	};

	return mem_run(call, &rules, relocate_page);
}
