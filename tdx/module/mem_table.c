// SPDX-License-Identifier: BSD-2-Clause
/* Secure-EPT pages come and go: TDH.MEM.SEPT.ADD, SEPT.REMOVE, SEPT.RD. Never guest pages. */
#include "tdx/module/lines.h"
#include "tdx/module/mem.h"

#include <string.h>

#define R8_IGNORED \
	(1ull << 63) /* of a page operand: "not used" in the answer, ignored in the call */

/* One page operand of SEPT.ADD: R8 for the TD's own tree, R9.. for L2 VMs. */
struct new_table {
	bool wanted;  /* a page is to be linked */
	bool existed; /* a table was there already */
	struct pamt_ref page;
	struct sept_walk walk; /* the L2 parent entry */
};

static uint64_t *page_operand(struct mem_op *op, unsigned int vm)
{
	return &op->call->regs->gpr[TDX_OPERAND_R8 + vm];
}

static uint64_t check_own_table(struct mem_op *op, struct new_table *table)
{
	uint64_t r8 = *page_operand(op, 0);

	if (r8 == TDX_NULL_PA) {
		if (!op->call->version)
			return TDX_OPERAND_INVALID | TDX_OPERAND_R8;
		return sept_state(op->raw) == S_NL_MAPPED
			       ? TDX_SUCCESS
			       : mem_refuse(op, TDX_EPT_ENTRY_STATE_INCORRECT);
	}
	if (sept_state(op->raw) == S_NL_MAPPED) {
		table->existed = true;
		return op->call->rdx & TDX_SEPT_ADD_ALLOW_EXISTING
			       ? TDX_SUCCESS
			       : mem_refuse(op, TDX_EPT_ENTRY_STATE_INCORRECT);
	}
	table->wanted = true;
	return pamt_take_new_page(op->call->m, r8 & ~R8_IGNORED, TDX_OPERAND_R8, &table->page);
}

/* An L2 entry's description, and the status that names VM and level. */
static uint64_t refuse_l2(struct mem_op *op, uint64_t status, unsigned int vm,
			  const struct sept_walk *walk)
{
	op->call->regs->rcx = sept_is_leaf(walk->raw) ? walk->raw & (SEPT_RWX | SEPT_PS | SEPT_HPA)
						      : walk->raw & SEPT_RWX;
	op->call->regs->rdx =
		walk->level | (uint64_t)sept_l2_public_state(walk->raw) << 8 | (uint64_t)vm << 16;
	return status | vm << 16 | walk->level;
}

static uint64_t check_l2_table(struct mem_op *op, unsigned int vm, struct new_table *table)
{
	uint64_t page = *page_operand(op, vm);
	unsigned int operand = TDX_OPERAND_R8 + vm;

	if (page == TDX_NULL_PA)
		return TDX_SUCCESS;
	if (vm > op->td->num_l2_vms)
		return TDX_OPERAND_INVALID | operand;
	if (!sept_l2_find(op->call->m, op->td, vm, op->gpa, op->level, &table->walk))
		return refuse_l2(op, TDX_L2_SEPT_WALK_FAILED, vm, &table->walk);
	if (table->walk.raw) {
		table->existed = true;
		return op->call->rdx & TDX_SEPT_ADD_ALLOW_EXISTING
			       ? TDX_SUCCESS
			       : refuse_l2(op, TDX_L2_SEPT_ENTRY_NOT_FREE, vm, &table->walk);
	}
	table->wanted = true;
	return pamt_take_new_page(op->call->m, page & ~R8_IGNORED, operand, &table->page);
}

static void own_table(struct mem_op *op, struct new_table *table)
{
	atomic_store(&table->page.entry->bepoch, 0);
	pamt_set(table->page.entry, TDX_PT_EPT, op->td->tdr);
	atomic_fetch_add(&op->td->chldcnt, 1);
}

static void link_table(struct mem_op *op, unsigned int vm, struct new_table *table)
{
	uint64_t hpa = table->page.hpa;

	lines_take(op->call->m, op->td->key, hpa);
	if (vm == 0) {
		sept_fill_free(sept_table(op->call->m, hpa));
		mem_store_locked(op, sept_table_entry(hpa));
	} else {
		memset(sept_table(op->call->m, hpa), 0, PAGE_BYTES);
		mem_store_locked(op, op->raw | sept_l2_alias_bit(vm));
		sept_write(table->walk.entry, sept_l2_table_entry(hpa));
	}
	own_table(op, table);
	if (op->call->version)
		*page_operand(op, vm) = TDX_NULL_PA;
}

/* All operands are checked and held. An interrupt between L2 pages leaves what is done so far. */
static uint64_t link_tables(struct mem_op *op, struct new_table *tables)
{
	for (unsigned int vm = 0; vm < MAX_VMS; vm++) {
		if (tables[vm].existed && op->call->version)
			*page_operand(op, vm) |= R8_IGNORED;
		if (!tables[vm].wanted)
			continue;
		if (vm > 1 && module_interrupted(op->call)) {
			op->call->regs->rcx = op->call->rcx;
			op->call->regs->rdx = op->call->rdx;
			return TDX_INTERRUPTED_RESUMABLE;
		}
		link_table(op, vm, &tables[vm]);
	}
	return TDX_SUCCESS;
}

static uint64_t add_tables(struct mem_op *op)
{
	struct new_table tables[MAX_VMS] = {0};
	unsigned int count = op->call->version ? MAX_VMS : 1;
	uint64_t status = check_own_table(op, &tables[0]);

	for (unsigned int vm = 1; vm < count && status == TDX_SUCCESS; vm++)
		status = check_l2_table(op, vm, &tables[vm]);
	if (status == TDX_SUCCESS)
		status = link_tables(op, tables);
	for (unsigned int vm = 0; vm < MAX_VMS; vm++)
		pamt_release(&tables[vm].page);
	return status;
}

/* TDH.MEM.SEPT.ADD: RCX page info of the parent entry, RDX TDR and flags, R8 page, version 1:
 * R9..R11. */
uint64_t leaf_mem_sept_add(struct call *call)
{
	static const struct mem_rules rules = {
		.flags = TDX_SEPT_ADD_ALLOW_EXISTING,
		.ops = OPS(OP_INITIALIZED) | OPS(OP_RUNNABLE),
		.tdr = LOCK_SHARED,
		.tree = LOCK_SHARED,
		.min_level = 1,
		.max_level = ROOT_LEVEL,
		.states = STATES(S_FREE) | STATES(S_NL_MAPPED),
	};

	if (call->version > 1)
		return TDX_OPERAND_INVALID | TDX_OPERAND_RAX;
	return mem_run(call, &rules, add_tables);
}

static bool table_free(struct tdx_module *m, uint64_t hpa)
{
	const uint64_t *table = sept_table(m, hpa);

	for (unsigned int i = 0; i < 512; i++)
		if (sept_state(sept_read(&table[i])) != S_FREE)
			return false;
	return true;
}

/* The L2 tables beside the page: taken first, all of them or none. */
static bool take_l2_tables(struct mem_op *op, struct pamt_ref *pages)
{
	for (unsigned int vm = 1; vm <= op->td->num_l2_vms; vm++) {
		struct sept_walk walk;

		if (!sept_l2_has_alias(op->raw, vm))
			continue;
		sept_l2_find(op->call->m, op->td, vm, op->gpa, op->level, &walk);
		if (!pamt_take_implicit(op->call->m, walk.raw & SEPT_HPA, 0, LOCK_EXCLUSIVE,
					&pages[vm]))
			return false;
	}
	return true;
}

static void free_table(struct mem_op *op, struct pamt_ref *page)
{
	lines_release(op->call->m, page->hpa, 0);
	pamt_free(page->entry);
	atomic_fetch_sub(&op->td->chldcnt, 1);
}

static void unlink_tables(struct mem_op *op, struct pamt_ref *pages)
{
	struct tdx_regs *regs = op->call->regs;

	sept_l2_clear_all(op->call->m, op->td, op->gpa, op->level, op->raw);
	mem_store_unlock(op, sept_free_entry());
	for (unsigned int vm = 0; vm < MAX_VMS; vm++) {
		if (pages[vm].entry)
			free_table(op, &pages[vm]);
		if (vm && op->call->version)
			*page_operand(op, vm) = pages[vm].entry ? pages[vm].hpa : TDX_NULL_PA;
	}
	regs->rcx = pages[0].hpa;
}

static uint64_t remove_tables(struct mem_op *op)
{
	struct pamt_ref pages[MAX_VMS] = {0};
	uint64_t hpa = op->raw & SEPT_HPA;
	uint64_t status = TDX_OPERAND_BUSY | TDX_OPERAND_RCX;

	if (!pamt_take_implicit(op->call->m, hpa, 0, LOCK_EXCLUSIVE, &pages[0]))
		return status;
	status = mem_check_tracked(op, atomic_load(&pages[0].entry->bepoch));
	if (status == TDX_SUCCESS && !lines_module_check(op->call->m, op->td->key, hpa, PAGE_BYTES))
		status = TDX_SYS_SHUTDOWN;
	if (status == TDX_SUCCESS && !table_free(op->call->m, hpa))
		status = mem_refuse(op, TDX_EPT_PAGE_NOT_FREE);
	if (status == TDX_SUCCESS && !take_l2_tables(op, pages))
		status = TDX_OPERAND_BUSY | TDX_OPERAND_RCX;
	if (status == TDX_SUCCESS)
		unlink_tables(op, pages);
	for (unsigned int vm = 0; vm < MAX_VMS; vm++)
		pamt_release(&pages[vm]);
	return status;
}

/* TDH.MEM.SEPT.REMOVE: RCX page info of the parent entry, RDX TDR. */
uint64_t leaf_mem_sept_remove(struct call *call)
{
	static const struct mem_rules rules = {
		.ops = OPS_ANY & ~OPS(OP_UNINITIALIZED),
		.tdr = LOCK_SHARED,
		.tree = LOCK_EXCLUSIVE,
		.min_level = 1,
		.max_level = ROOT_LEVEL,
		.states = S_ANY_NON_LEAF,
	};

	if (call->version > 1)
		return TDX_OPERAND_INVALID | TDX_OPERAND_RAX;
	return mem_run(call, &rules, remove_tables);
}

static uint64_t read_entry(struct mem_op *op)
{
	bool l2 = op->call->rdx & TDX_SEPT_RD_L2_ATTRIBUTES;
	uint64_t status;

	if (l2 && !(op->td->params.attributes & TDX_ATTR_DEBUG))
		return TDX_OPERAND_INVALID | TDX_OPERAND_RDX;
	status = mem_begin_entry(op);
	if (status != TDX_SUCCESS)
		return status;
	mem_details(op, op->raw, op->level);
	if (l2)
		op->call->regs->r8 =
			sept_l2_attributes_all(op->call->m, op->td, op->gpa, op->level, op->raw);
	return TDX_SUCCESS;
}

/* TDH.MEM.SEPT.RD: RCX page info, RDX TDR and flags. */
uint64_t leaf_mem_sept_rd(struct call *call)
{
	static const struct mem_rules rules = {
		.flags = TDX_SEPT_RD_L2_ATTRIBUTES,
		.ops = OPS_ANY & ~OPS(OP_UNINITIALIZED),
		.tdr = LOCK_SHARED,
		.tree = LOCK_SHARED,
		.max_level = ROOT_LEVEL,
		.states = ~0u,
	};

	return mem_run_td(call, &rules, read_entry);
}
