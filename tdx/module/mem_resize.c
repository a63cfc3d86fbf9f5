// SPDX-License-Identifier: BSD-2-Clause
/*
 * One large page from 512, and 512 from one: TDH.MEM.PAGE.PROMOTE, PAGE.DEMOTE. The content of the
 * pages is never touched.
 *
 * Both prepare everything first, may then be interrupted with nothing done, and commit in one go.
 */
#include "tdx/module/lines.h"
#include "tdx/module/mem.h"

#include <string.h>

#define NR_CHILDREN 512

/* A table that takes part: the TD's own, or an L2 VM's. */
struct resize_table {
	struct pamt_ref page;
	uint64_t *words;
	uint64_t *parent; /* L2 only: the entry that names or will name the page */
	uint64_t first;	  /* the first child's value */
	bool used;
};

static uint64_t interrupted(struct call *call)
{
	call->regs->rcx = call->rcx;
	call->regs->rdx = call->rdx;
	return TDX_INTERRUPTED_RESTARTABLE;
}

static void release_tables(struct resize_table *tables)
{
	for (unsigned int vm = 0; vm < MAX_VMS; vm++)
		pamt_release(&tables[vm].page);
}

/* A child as it is compared: without the counter that an unfinished accept leaves in a 2 MiB page.
 */
static uint64_t child_value(uint64_t raw, unsigned int level)
{
	return level == 1 && sept_state(raw) == S_PENDING ? raw & ~SEPT_ACCEPT_COUNTER : raw;
}

static bool first_child_fits(const struct mem_op *op, uint64_t raw)
{
	return sept_in(raw, STATES(S_MAPPED) | STATES(S_PENDING)) &&
	       !(raw & SEPT_HPA & (level_size(op->level) - 1));
}

/* Lock and compare; *nr_locked tells how far it came. */
static uint64_t lock_children(struct mem_op *op, struct resize_table *table,
			      unsigned int *nr_locked)
{
	uint64_t step = level_size(op->level - 1);

	for (unsigned int i = 0; i < NR_CHILDREN; i++) {
		uint64_t *child = &table->words[i];
		uint64_t raw;

		if (!sept_host_lock(child))
			return mem_refuse(op, TDX_OPERAND_BUSY);
		*nr_locked = i + 1;
		raw = child_value(sept_read(child), op->level - 1);
		if (i == 0) {
			table->first = raw;
			if (!first_child_fits(op, raw))
				return mem_refuse(op, TDX_EPT_INVALID_PROMOTE_CONDITIONS);
		} else if (raw != table->first + i * step) {
			return mem_refuse(op, TDX_EPT_INVALID_PROMOTE_CONDITIONS);
		}
	}
	return TDX_SUCCESS;
}

static void unlock_children(struct resize_table *table, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		sept_unlock(&table->words[i]);
}

/* An L2 table fits if it is empty, or if every child has an alias with the same attributes. */
static bool l2_children_fit(const struct mem_op *op, const struct resize_table *table, bool aliased)
{
	uint64_t step = aliased ? level_size(op->level - 1) : 0;

	if (!aliased && table->first)
		return false;
	for (unsigned int i = 1; i < NR_CHILDREN; i++)
		if (sept_read(&table->words[i]) != table->first + i * step)
			return false;
	return true;
}

static uint64_t check_l2_tables(struct mem_op *op, struct resize_table *tables)
{
	struct tdx_module *m = op->call->m;

	for (unsigned int vm = 1; vm <= op->td->num_l2_vms; vm++) {
		struct resize_table *table = &tables[vm];
		struct sept_walk walk;

		if (!sept_l2_has_alias(op->raw, vm))
			continue;
		sept_l2_find(m, op->td, vm, op->gpa, op->level, &walk);
		if (!pamt_take_implicit(m, walk.raw & SEPT_HPA, 0, LOCK_EXCLUSIVE, &table->page))
			return TDX_OPERAND_BUSY | TDX_OPERAND_RCX;
		table->used = true;
		table->parent = walk.entry;
		table->words = sept_table(m, walk.raw & SEPT_HPA);
		if (!lines_module_check(m, op->td->key, table->page.hpa, PAGE_BYTES))
			return TDX_SYS_SHUTDOWN;
		table->first = sept_read(&table->words[0]);
		if (!l2_children_fit(op, table, sept_l2_has_alias(tables[0].first, vm)))
			return mem_refuse(op, TDX_EPT_INVALID_PROMOTE_CONDITIONS);
		if (module_interrupted(op->call))
			return interrupted(op->call);
	}
	return TDX_SUCCESS;
}

/* From here on nothing fails. The children stay locked: their page is no table any more. */
static void commit_promote(struct mem_op *op, struct resize_table *tables)
{
	struct tdx_regs *regs = op->call->regs;

	for (unsigned int vm = 0; vm < MAX_VMS; vm++) {
		struct resize_table *table = &tables[vm];

		if (vm && op->call->version)
			regs->gpr[TDX_OPERAND_R8 + vm] =
				table->used ? table->page.hpa : TDX_NULL_PA;
		if (!table->used)
			continue;
		if (vm)
			sept_write(table->parent, table->first);
		lines_release(op->call->m, table->page.hpa, 0);
		pamt_free(table->page.entry);
		atomic_fetch_sub(&op->td->chldcnt, 1);
	}
	mem_store_unlock(op, tables[0].first);
	regs->rcx = tables[0].page.hpa;
}

static uint64_t promote_tables(struct mem_op *op, struct resize_table *tables)
{
	unsigned int nr_locked = 0;
	uint64_t status = lock_children(op, &tables[0], &nr_locked);

	if (status == TDX_SUCCESS && module_interrupted(op->call))
		status = interrupted(op->call);
	if (status == TDX_SUCCESS)
		status = check_l2_tables(op, tables);
	if (status == TDX_SUCCESS &&
	    !pamt_promote(op->call->m, tables[0].first & SEPT_HPA, op->level))
		status = TDX_OPERAND_BUSY | TDX_OPERAND_RCX;
	if (status == TDX_SUCCESS)
		commit_promote(op, tables);
	else
		unlock_children(&tables[0], nr_locked);
	return status;
}

static uint64_t promote(struct mem_op *op)
{
	struct resize_table tables[MAX_VMS] = {0};
	uint64_t hpa = op->raw & SEPT_HPA;
	uint64_t status;

	if (!pamt_take_implicit(op->call->m, hpa, 0, LOCK_EXCLUSIVE, &tables[0].page))
		return TDX_OPERAND_BUSY | TDX_OPERAND_RCX;
	tables[0].used = true;
	tables[0].words = sept_table(op->call->m, hpa);
	status = mem_check_tracked(op, atomic_load(&tables[0].page.entry->bepoch));
	if (status == TDX_SUCCESS && !lines_module_check(op->call->m, op->td->key, hpa, PAGE_BYTES))
		status = TDX_SYS_SHUTDOWN;
	if (status == TDX_SUCCESS)
		status = promote_tables(op, tables);
	release_tables(tables);
	return status;
}

/* TDH.MEM.PAGE.PROMOTE: RCX page info of the entry that becomes a leaf, RDX TDR. */
uint64_t leaf_mem_page_promote(struct call *call)
{
	static const struct mem_rules rules = {
		.ops = OPS(OP_INITIALIZED) | OPS(OP_RUNNABLE),
		.tdr = LOCK_SHARED,
		.tree = LOCK_SHARED,
		.min_level = 1,
		.max_level = 2,
		.states = S_ANY_NON_LEAF,
	};

	if (call->version > 1)
		return TDX_OPERAND_INVALID | TDX_OPERAND_RAX;
	return mem_run(call, &rules, promote);
}

/* The L2 page operands that are needed or welcome; taken. */
static uint64_t take_l2_pages(struct mem_op *op, struct resize_table *tables)
{
	bool sparse = op->call->rdx & TDX_DEMOTE_L2_SPARSE;

	for (unsigned int vm = 1; vm <= op->td->num_l2_vms; vm++) {
		unsigned int operand = TDX_OPERAND_R8 + vm;
		uint64_t page = op->call->regs->gpr[operand];
		bool aliased = sept_l2_has_alias(op->raw, vm);
		struct sept_walk walk;
		uint64_t status;

		if (aliased && page == TDX_NULL_PA)
			return TDX_L2_SEPT_PAGE_NOT_PROVIDED | operand;
		if (page == TDX_NULL_PA || (sparse && !aliased) ||
		    !sept_l2_find(op->call->m, op->td, vm, op->gpa, op->level, &walk))
			continue;
		status = pamt_take_new_page(op->call->m, page, operand, &tables[vm].page);
		if (status != TDX_SUCCESS)
			return status;
		tables[vm].used = true;
		tables[vm].parent = walk.entry;
		tables[vm].first = walk.raw;
		tables[vm].words = sept_table(op->call->m, page);
	}
	return TDX_SUCCESS;
}

/* A table of the same leaf in 512 parts; @first 0 gives an empty L2 table. */
static void fill_children(const struct mem_op *op, struct resize_table *table)
{
	uint64_t step = table->first ? level_size(op->level - 1) : 0;

	lines_take(op->call->m, op->td->key, table->page.hpa);
	for (unsigned int i = 0; i < NR_CHILDREN; i++)
		sept_write(&table->words[i], table->first + i * step);
}

static uint64_t prepare_demote(struct mem_op *op, struct resize_table *tables)
{
	bool pending = sept_in(op->raw, S_ANY_PENDING);
	uint64_t leaf = child_value(sept_unblock(op->raw), op->level);

	tables[0].first = leaf & ~SEPT_HOST;
	for (unsigned int vm = 0; vm < MAX_VMS; vm++) {
		if (!tables[vm].used)
			continue;
		if (vm && tables[vm].first && !pending)
			tables[vm].first = sept_l2_unblock(tables[vm].first);
		fill_children(op, &tables[vm]);
		if (module_interrupted(op->call))
			return interrupted(op->call);
	}
	return TDX_SUCCESS;
}

static void commit_demote(struct mem_op *op, struct resize_table *tables)
{
	uint64_t entry = sept_table_entry(tables[0].page.hpa) | (op->raw & SEPT_TDAL);

	for (unsigned int vm = 0; vm < MAX_VMS; vm++) {
		if (!tables[vm].used) {
			if (vm && vm <= op->td->num_l2_vms)
				op->call->regs->gpr[TDX_OPERAND_R8 + vm] |= 1ull << 63;
			continue;
		}
		if (vm) {
			entry |= sept_l2_alias_bit(vm);
			sept_write(tables[vm].parent, sept_l2_table_entry(tables[vm].page.hpa));
		}
		pamt_set(tables[vm].page.entry, TDX_PT_EPT, op->td->tdr);
		atomic_fetch_add(&op->td->chldcnt, 1);
	}
	mem_store_locked(op, entry);
}

static uint64_t demote(struct mem_op *op)
{
	struct tdx_module *m = op->call->m;
	struct resize_table tables[MAX_VMS] = {0};
	uint64_t hpa = sept_hpa(op->raw, op->level);
	uint64_t r8 = op->call->regs->r8;
	/* Read without the page's lock: the entry's lock keeps others from blocking it anew. */
	uint64_t status =
		mem_check_tracked(op, atomic_load(&pamt_entry_at(m, hpa, op->level)->bepoch));

	if (status != TDX_SUCCESS)
		return status;
	status = pamt_take_new_page(m, r8, TDX_OPERAND_R8, &tables[0].page);
	if (status != TDX_SUCCESS)
		return status;
	tables[0].used = true;
	tables[0].words = sept_table(m, r8);
	status = take_l2_pages(op, tables);
	if (status == TDX_SUCCESS)
		status = prepare_demote(op, tables);
	if (status == TDX_SUCCESS && !pamt_demote(m, hpa, op->level))
		status = TDX_OPERAND_BUSY | TDX_OPERAND_RCX;
	if (status == TDX_SUCCESS)
		commit_demote(op, tables);
	for (unsigned int vm = 0; status != TDX_SUCCESS && vm < MAX_VMS; vm++)
		if (tables[vm].used)
			lines_release(m, tables[vm].page.hpa, 0);
	release_tables(tables);
	return status;
}

/* TDH.MEM.PAGE.DEMOTE: RCX page info, RDX TDR and flag, R8 page, R9..R11 pages for L2 VMs. */
uint64_t leaf_mem_page_demote(struct call *call)
{
	static const struct mem_rules rules = {
		.flags = TDX_DEMOTE_L2_SPARSE,
		.ops = OPS(OP_INITIALIZED) | OPS(OP_RUNNABLE),
		.tdr = LOCK_SHARED,
		.tree = LOCK_SHARED,
		.min_level = 1,
		.max_level = 2,
		.states = S_ANY_LEAF,
	};

	return mem_run(call, &rules, demote);
}
