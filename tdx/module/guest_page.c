// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a guest does with its own pages: TDG.MEM.PAGE.ACCEPT, ATTR.RD, ATTR.WR. Takes entry locks
 * only: what the walk goes through can't vanish while this vCPU is counted in its epoch.
 */
#include "tdx/module/leaves.h"
#include "tdx/module/lines.h"
#include "tdx/module/sept.h"
#include "tdx/module/sept_l2.h"
#include "tdx/module/vcpu.h"

#define PAGE_INFO_RESERVED 0xfff0000000000ff8ull
#define ATTR_PENDING	   (1ull << 62)
#define NR_CHUNKS	   512

/* Bit 15 of each VM's part of ATTR.WR's mask: drop that VM's translations too. */
#define ATTR_MASK_INVEPT 0x8000800080008000ull

struct page_op {
	struct call *call;
	struct td *td;
	unsigned int level; /* asked for */
	uint64_t gpa;
	struct sept_walk walk;
	uint64_t raw; /* as read under the lock; lock bit clear */
};

static bool parse_page_info(struct page_op *op, struct call *call, unsigned int max_level)
{
	*op = (struct page_op){.call = call, .td = call->vcpu->td};
	op->level = call->rcx & 7;
	op->gpa = call->rcx & ~7ull;
	return !(call->rcx & PAGE_INFO_RESERVED) && op->level <= max_level &&
	       !(op->gpa & (level_size(op->level) - 1)) && td_private_gpa(op->td, op->gpa);
}

static uint64_t lock_entry(struct page_op *op)
{
	uint64_t status = sept_guest_lock(op->walk.entry);

	if (status != TDX_SUCCESS)
		return status | TDX_OPERAND_RCX;
	op->raw = sept_read(op->walk.entry) & ~SEPT_LOCK;
	return TDX_SUCCESS;
}

static void unlock_entry(struct page_op *op)
{
	sept_unlock(op->walk.entry);
}

/* The host must do something about @raw, found at the walk's level, before the guest can go on. */
static uint64_t exit_violation(struct page_op *op, uint64_t raw, unsigned int type)
{
	uint64_t info = op->level | (uint64_t)op->walk.level << 3 |
			(uint64_t)sept_public_state(raw) << 6 | (uint64_t)sept_is_leaf(raw) << 14;
	const struct exit_details details = {
		.reason = TDX_EXIT_EPT_VIOLATION,
		.qualification = 2 | (raw & SEPT_RWX) << 3,
		.extended = type | info << 32,
		.gpa = op->gpa,
	};

	exit_async(op->call, &details);
	return TDX_SUCCESS;
}

/*
 * Zero a 2 MiB page from where the counter says. False: an interrupt came in between; the counter
 * is stored, and the guest comes again.
 */
static bool zero_large_page(struct page_op *op)
{
	uint64_t hpa = sept_hpa(op->raw, 1);
	unsigned int chunk = (op->raw & SEPT_ACCEPT_COUNTER) >> 12;

	op->raw &= ~SEPT_ACCEPT_COUNTER;
	while (chunk < NR_CHUNKS) {
		lines_fill(op->call->m, op->td->key, hpa + chunk * PAGE_BYTES, NULL);
		chunk++;
		if (chunk < NR_CHUNKS && module_interrupted(op->call)) {
			op->raw |= (uint64_t)chunk << 12;
			return false;
		}
	}
	return true;
}

/* The entry is locked and PENDING. */
static uint64_t accept(struct page_op *op)
{
	struct tdx_module *m = op->call->m;

	if (op->level == 0) {
		lines_fill(m, op->td->key, sept_hpa(op->raw, 0), NULL);
	} else if (!zero_large_page(op)) {
		sept_write(op->walk.entry, op->raw);
		op->call->outcome = OUTCOME_RETRY;
		return TDX_SUCCESS;
	}
	sept_l2_unblock_all(m, op->td, op->gpa, op->level, op->raw);
	sept_write(op->walk.entry, sept_accept(op->raw));
	return TDX_SUCCESS;
}

/* TDG.MEM.PAGE.ACCEPT: RCX page info. */
uint64_t leaf_guest_page_accept(struct call *call)
{
	struct page_op op;
	uint64_t status;

	if (!parse_page_info(&op, call, 1))
		return TDX_OPERAND_INVALID | TDX_OPERAND_RCX;
	if (!sept_walk(call->m, op.td, op.gpa, op.level, &op.walk)) {
		if (sept_state(op.walk.raw) == S_MAPPED)
			return TDX_PAGE_ALREADY_ACCEPTED | op.walk.level;
		return exit_violation(&op, op.walk.raw, TDX_EEQ_ACCEPT);
	}
	status = lock_entry(&op);
	if (status != TDX_SUCCESS)
		return status;
	/* Leaf or not is asked of the word as read before the lock, as the module does. */
	if (sept_state(op.raw) != S_FREE && !sept_is_leaf(op.walk.raw))
		status = TDX_PAGE_SIZE_MISMATCH | op.level;
	else if (sept_state(op.raw) == S_MAPPED)
		status = TDX_PAGE_ALREADY_ACCEPTED | op.level;
	else if (sept_state(op.raw) == S_PENDING)
		return accept(&op);
	unlock_entry(&op);
	return status == TDX_SUCCESS ? exit_violation(&op, op.raw, TDX_EEQ_ACCEPT) : status;
}

/* What both ATTR leaves answer: GPA and level of the page found, pending or not, attributes. */
static void report_attributes(const struct page_op *op)
{
	unsigned int level = op->walk.level;
	struct tdx_regs *regs = op->call->regs;

	regs->rcx = (op->gpa & ~(level_size(level) - 1)) | level;
	if (sept_in(op->raw, S_ANY_PENDING))
		regs->rcx |= ATTR_PENDING;
	regs->rdx = sept_l2_attributes_all(op->call->m, op->td, op->gpa, level, op->raw);
}

static uint64_t fail_attributes(const struct page_op *op, uint64_t status)
{
	op->call->regs->rcx = op->call->regs->rdx = 0;
	return status;
}

/* TDG.MEM.PAGE.ATTR.RD: RCX GPA. */
uint64_t leaf_guest_page_attr_rd(struct call *call)
{
	const struct exit_details violation = {.reason = TDX_EXIT_EPT_VIOLATION, .gpa = call->rcx};
	struct page_op op = {.call = call, .td = call->vcpu->td};
	uint64_t status;

	op.gpa = call->rcx & ~(PAGE_BYTES - 1);
	if (!td_private_gpa(op.td, op.gpa))
		return fail_attributes(&op, TDX_OPERAND_INVALID | TDX_OPERAND_RCX);
	sept_walk_leaf(call->m, op.td, op.gpa, &op.walk);
	status = lock_entry(&op);
	if (status != TDX_SUCCESS)
		return fail_attributes(&op, status);
	if (sept_in(op.raw, STATES(S_MAPPED) | STATES(S_PENDING))) {
		report_attributes(&op);
		unlock_entry(&op);
		return TDX_SUCCESS;
	}
	unlock_entry(&op);
	exit_async(call, &violation);
	return TDX_SUCCESS;
}

/* 16 bits of VM @vm in RDX or R8 of ATTR.WR. */
static uint16_t attributes_of(uint64_t word, unsigned int vm)
{
	return (uint16_t)(word >> (16 * vm));
}

static uint64_t check_attribute_words(const struct page_op *op)
{
	uint64_t rdx = op->call->rdx, r8 = op->call->regs->r8;

	for (unsigned int vm = 0; vm < MAX_VMS; vm++) {
		bool exists = vm && vm <= op->td->num_l2_vms;
		uint16_t attributes = attributes_of(rdx, vm);

		if (!exists && attributes)
			return TDX_OPERAND_INVALID | TDX_OPERAND_RDX;
		if (!exists && attributes_of(r8, vm))
			return TDX_OPERAND_INVALID | TDX_OPERAND_R8;
		if (attributes && !(attributes & L2_ATTR_VALID))
			return TDX_OPERAND_INVALID | TDX_OPERAND_RDX;
	}
	return TDX_SUCCESS;
}

static bool attributes_legal(uint16_t attributes)
{
	bool needs_r = attributes & (L2_ATTR_W | L2_ATTR_PWA);

	return !(attributes & (L2_ATTR_SVE | L2_ATTR_RSVD)) && (!needs_r || attributes & L2_ATTR_R);
}

/* The new attributes of one VM: requested bits under the mask, the others as they are. */
static uint16_t merged_attributes(const struct page_op *op, unsigned int vm, uint64_t l2)
{
	uint16_t mask = attributes_of(op->call->regs->r8, vm) & 0xff;
	uint16_t wanted = attributes_of(op->call->rdx, vm);

	return (uint16_t)(((sept_l2_attributes(l2) & ~mask) | (wanted & (mask | L2_ATTR_RSVD))) &
			  ~L2_ATTR_VALID);
}

static uint64_t set_vm_attributes(struct page_op *op, unsigned int vm, bool commit)
{
	unsigned int level = op->walk.level;
	struct sept_walk l2;
	uint16_t attributes;
	uint64_t raw;

	if (!(attributes_of(op->call->rdx, vm) & L2_ATTR_VALID))
		return TDX_SUCCESS;
	if (!attributes_legal(attributes_of(op->call->rdx, vm) & ~L2_ATTR_VALID))
		return TDX_PAGE_ATTR_INVALID;
	if (!sept_l2_find(op->call->m, op->td, vm, op->gpa, level, &l2))
		return TDX_L2_SEPT_WALK_FAILED | vm << 16 | l2.level;
	attributes = merged_attributes(op, vm, l2.raw);
	if (!attributes_legal(attributes))
		return TDX_PAGE_ATTR_INVALID;
	if (!commit)
		return TDX_SUCCESS;
	raw = attributes ? sept_l2_leaf_entry(sept_hpa(op->raw, level), attributes) : 0;
	if (raw && sept_in(op->raw, S_ANY_PENDING))
		raw = sept_l2_block(raw);
	sept_write(l2.entry, raw);
	op->raw &= ~sept_l2_alias_bit(vm);
	if (raw)
		op->raw |= sept_l2_alias_bit(vm);
	return TDX_SUCCESS;
}

/* All VMs are checked before the first is changed. */
static uint64_t set_attributes(struct page_op *op)
{
	uint64_t status = TDX_SUCCESS;

	for (unsigned int vm = 1; vm < MAX_VMS && status == TDX_SUCCESS; vm++)
		status = set_vm_attributes(op, vm, false);
	if (status == TDX_PAGE_ATTR_INVALID) {
		report_attributes(op);
		op->call->regs->rcx = 0;
		return status;
	}
	if (status != TDX_SUCCESS)
		return fail_attributes(op, status);
	for (unsigned int vm = 1; vm < MAX_VMS; vm++)
		set_vm_attributes(op, vm, true);
	sept_write(op->walk.entry, op->raw | SEPT_LOCK);
	if (op->call->regs->r8 & ATTR_MASK_INVEPT)
		module_invept(op->call->m, op->call->lp, op->td->tdr);
	report_attributes(op);
	return TDX_SUCCESS;
}

/* TDG.MEM.PAGE.ATTR.WR: RCX page info, RDX attributes, R8 mask. */
uint64_t leaf_guest_page_attr_wr(struct call *call)
{
	struct page_op op;
	bool form = parse_page_info(&op, call, 2);
	uint64_t status = check_attribute_words(&op);

	if (status != TDX_SUCCESS)
		return fail_attributes(&op, status);
	if (!form)
		return fail_attributes(&op, TDX_OPERAND_INVALID | TDX_OPERAND_RCX);
	if (!sept_walk(call->m, op.td, op.gpa, op.level, &op.walk))
		return exit_violation(&op, op.walk.raw, TDX_EEQ_ATTR_WR);
	status = lock_entry(&op);
	if (status != TDX_SUCCESS)
		return fail_attributes(&op, status);
	if (sept_in(op.raw, STATES(S_MAPPED) | STATES(S_PENDING)))
		status = set_attributes(&op);
	else if (sept_in(op.raw, S_ANY_NON_LEAF))
		status = fail_attributes(&op, TDX_PAGE_SIZE_MISMATCH | op.level);
	else
		call->outcome = OUTCOME_EXIT;
	unlock_entry(&op);
	if (call->outcome == OUTCOME_EXIT)
		return exit_violation(&op, op.raw, TDX_EEQ_ATTR_WR);
	return status;
}
