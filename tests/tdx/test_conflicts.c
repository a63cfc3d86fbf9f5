// SPDX-License-Identifier: BSD-2-Clause
/*
 * Which locks each call takes, how, and what it says when somebody else has them: first with the
 * lock words as another processor's call would have left them, then with a call that is really
 * stopped in its middle.
 */
#include "tests/tdx/invariants.h"

#define TDR   WORLD_TDR
#define PAGE  (WORLD_BASE + 0x400000) /* of another 2 MiB than all of the TD's own pages */
#define LARGE (WORLD_BASE + 0x600000)
#define OTHER (WORLD_BASE + 0x801000)
#define TABLE (WORLD_TABLES + 2 * WORLD_PAGE) /* the table of GPA 0's 4 KiB entries */

/* A place that has no table yet, level by level. */
#define FAR_GPA WORLD_1G

enum lock_word { NO_LOCK, PAMT, OP, TREE, EPOCH, KOT, ENTRY };
enum taken_as {
	NOT_TAKEN,
	SHARED,
	EXCLUSIVE,
	SHARED_THEN_EXCLUSIVE /* by the walk, then made the call's own */
};

struct taken {
	enum lock_word word;
	enum taken_as as;
	unsigned int operand;
	uint64_t at; /* HPA, or GPA */
	uint8_t level;
};

struct leaf_case {
	const char *name;
	bool initialized; /* else runnable */
	bool guest;
	void (*prepare)(struct world *w);
	struct tdx_regs regs;
	struct taken lock[9];
};

/* -- set-ups: what lets the call succeed -- */

static void ok(struct world *w, unsigned int leaf, uint64_t rcx, uint64_t rdx, uint64_t r8)
{
	world_ok(w, leaf, rcx, rdx, r8);
}

static void block_and_track(struct world *w, uint64_t page_info)
{
	ok(w, TDH_MEM_RANGE_BLOCK, page_info, TDR, 0);
	ok(w, TDH_MEM_TRACK, TDR, 0, 0);
}

static void with_page(struct world *w)
{
	ok(w, TDH_MEM_PAGE_AUG, 0, TDR, PAGE);
}

static void with_blocked_page(struct world *w)
{
	with_page(w);
	block_and_track(w, 0);
}

static void with_blocked_table(struct world *w)
{
	ok(w, TDH_MEM_SEPT_ADD, FAR_GPA | 2, TDR, PAGE);
	block_and_track(w, FAR_GPA | 2);
}

static void with_blocked_large_page(struct world *w)
{
	ok(w, TDH_MEM_PAGE_AUG, WORLD_2M | 1, TDR, LARGE);
	block_and_track(w, WORLD_2M | 1);
}

static void with_blocked_full_table(struct world *w)
{
	with_blocked_large_page(w);
	ok(w, TDH_MEM_PAGE_DEMOTE, WORLD_2M | 1, TDR, PAGE);
	block_and_track(w, WORLD_2M | 1);
}

static void with_built_page(struct world *w)
{
	struct tdx_regs regs = {
		.rax = TDH_MEM_PAGE_ADD, .rdx = TDR, .r8 = PAGE, .r9 = WORLD_SOURCE};

	assert_int_equal(world_call(w, 0, &regs), TDX_SUCCESS);
}

static void with_associated_vcpu(struct world *w)
{
	struct tdx_regs regs = {
		.rax = TDH_VP_RD, .rcx = WORLD_VCPU(0), .rdx = TDX_MD_SHARED_EPT_POINTER};

	assert_int_equal(world_call(w, 0, &regs), TDX_SUCCESS);
}

static void with_new_vcpu(struct world *w)
{
	ok(w, TDH_VP_CREATE, PAGE, TDR, 0);
	for (unsigned int i = 1; i < 6; i++)
		ok(w, TDH_VP_ADDCX, PAGE + i * WORLD_PAGE, PAGE, 0);
}

static void with_second_td(struct world *w)
{
	ok(w, TDH_MNG_CREATE, PAGE, WORLD_HKID + 1, 0);
}

static void with_second_tds_key(struct world *w)
{
	with_second_td(w);
	ok(w, TDH_MNG_KEY_CONFIG, PAGE, 0, 0);
}

static void with_second_tds_pages(struct world *w)
{
	with_second_tds_key(w);
	for (unsigned int i = 1; i <= 6; i++)
		ok(w, TDH_MNG_ADDCX, PAGE + i * WORLD_PAGE, PAGE, 0);
}

static void with_flushed_key(struct world *w)
{
	ok(w, TDH_MNG_VPFLUSHDONE, TDR, 0, 0);
}

static void with_written_back_key(struct world *w)
{
	with_flushed_key(w);
	ok(w, TDH_PHYMEM_CACHE_WB, 0, 0, 0);
}

static void with_dead_td(struct world *w)
{
	with_page(w);
	with_written_back_key(w);
	ok(w, TDH_MNG_KEY_FREEID, TDR, 0, 0);
}

static void inside(struct world *w)
{
	struct tdx_regs regs = {.rax = TDH_VP_ENTER, .rcx = WORLD_VCPU(0)};

	assert_int_equal(tdx_module_seamcall(w->module, 0, &regs), TDX_GUEST);
}

static void inside_with_page(struct world *w)
{
	with_page(w);
	inside(w);
}

/* -- the table (TDX module ABI: "concurrency restrictions" of each leaf) -- */

#define LOCK_TDR(how, op)                                           \
	{PAMT, how, op, TDR, 0}, {PAMT, SHARED, op, WORLD_BASE, 1}, \
	{                                                           \
		PAMT, SHARED, op, WORLD_BASE, 2                     \
	}
#define LOCK_OP(how)                                \
	{                                           \
		OP, how, TDX_OPERAND_OP_STATE, 0, 0 \
	}
#define LOCK_TREE(how)                                 \
	{                                              \
		TREE, how, TDX_OPERAND_SEPT_TREE, 0, 0 \
	}
#define LOCK_ENTRY(a, l)                                \
	{                                               \
		ENTRY, EXCLUSIVE, TDX_OPERAND_RCX, a, l \
	}
#define LOCK_PAGE(how, op, a)          \
	{PAMT, how, op, a, 0},         \
	{                              \
		PAMT, SHARED, op, a, 1 \
	}
/* Known to be the TD's: no walk, so nothing above is taken. */
#define LOCK_IMPLICIT(how, op, a)        \
	{PAMT, how, op, a, 0},           \
	{                                \
		PAMT, NOT_TAKEN, 0, a, 1 \
	}

#define RCX TDX_OPERAND_RCX
#define RDX TDX_OPERAND_RDX
#define R8  TDX_OPERAND_R8

static const struct leaf_case cases[] = {
	{.name = "SEPT.ADD",
	 .regs = {.rax = TDH_MEM_SEPT_ADD, .rcx = FAR_GPA | 2, .rdx = TDR, .r8 = PAGE},
	 .lock = {LOCK_TDR(SHARED, RDX), LOCK_OP(SHARED), LOCK_TREE(SHARED), LOCK_ENTRY(FAR_GPA, 2),
		  LOCK_PAGE(EXCLUSIVE, R8, PAGE)}},
	{.name = "SEPT.REMOVE",
	 .prepare = with_blocked_table,
	 .regs = {.rax = TDH_MEM_SEPT_REMOVE, .rcx = FAR_GPA | 2, .rdx = TDR},
	 .lock = {LOCK_TDR(SHARED, RDX), LOCK_OP(SHARED), LOCK_TREE(EXCLUSIVE),
		  LOCK_ENTRY(FAR_GPA, 2), LOCK_IMPLICIT(EXCLUSIVE, RCX, PAGE)}},
	{.name = "SEPT.RD",
	 .prepare = with_page,
	 .regs = {.rax = TDH_MEM_SEPT_RD, .rdx = TDR},
	 .lock = {LOCK_TDR(SHARED, RDX),
		  LOCK_OP(SHARED),
		  LOCK_TREE(SHARED),
		  LOCK_ENTRY(0, 0),
		  {PAMT, NOT_TAKEN, 0, PAGE, 0}}},
	{.name = "PAGE.ADD",
	 .initialized = true,
	 .regs = {.rax = TDH_MEM_PAGE_ADD, .rdx = TDR, .r8 = PAGE, .r9 = WORLD_SOURCE},
	 .lock = {LOCK_TDR(EXCLUSIVE, RDX), LOCK_OP(NOT_TAKEN), LOCK_TREE(NOT_TAKEN),
		  LOCK_PAGE(EXCLUSIVE, R8, PAGE)}},
	{.name = "PAGE.AUG 4K",
	 .regs = {.rax = TDH_MEM_PAGE_AUG, .rdx = TDR, .r8 = PAGE},
	 .lock = {LOCK_TDR(SHARED, RDX), LOCK_OP(SHARED), LOCK_TREE(SHARED), LOCK_ENTRY(0, 0),
		  LOCK_PAGE(EXCLUSIVE, R8, PAGE)}},
	{.name = "PAGE.AUG 2M",
	 .regs = {.rax = TDH_MEM_PAGE_AUG, .rcx = WORLD_2M | 1, .rdx = TDR, .r8 = LARGE},
	 .lock = {LOCK_TDR(SHARED, RDX),
		  LOCK_OP(SHARED),
		  LOCK_TREE(SHARED),
		  LOCK_ENTRY(WORLD_2M, 1),
		  {PAMT, SHARED_THEN_EXCLUSIVE, R8, LARGE, 1},
		  {PAMT, NOT_TAKEN, 0, LARGE, 0}}},
	{.name = "PAGE.REMOVE",
	 .prepare = with_blocked_page,
	 .regs = {.rax = TDH_MEM_PAGE_REMOVE, .rdx = TDR},
	 .lock = {LOCK_TDR(SHARED, RDX), LOCK_OP(SHARED), LOCK_TREE(SHARED), LOCK_ENTRY(0, 0),
		  LOCK_IMPLICIT(EXCLUSIVE, RCX, PAGE)}},
	{.name = "PAGE.PROMOTE",
	 .prepare = with_blocked_full_table,
	 .regs = {.rax = TDH_MEM_PAGE_PROMOTE, .rcx = WORLD_2M | 1, .rdx = TDR},
	 .lock = {LOCK_TDR(SHARED, RDX),
		  LOCK_OP(SHARED),
		  LOCK_TREE(SHARED),
		  LOCK_ENTRY(WORLD_2M, 1),
		  LOCK_ENTRY(WORLD_2M + 300 * WORLD_PAGE, 0),
		  {PAMT, EXCLUSIVE, RCX, LARGE, 1}}},
	{.name = "PAGE.PROMOTE, the table",
	 .prepare = with_blocked_full_table,
	 .regs = {.rax = TDH_MEM_PAGE_PROMOTE, .rcx = WORLD_2M | 1, .rdx = TDR},
	 .lock = {LOCK_IMPLICIT(EXCLUSIVE, RCX, PAGE), {PAMT, NOT_TAKEN, 0, LARGE, 0}}},
	{.name = "PAGE.DEMOTE",
	 .prepare = with_blocked_large_page,
	 .regs = {.rax = TDH_MEM_PAGE_DEMOTE, .rcx = WORLD_2M | 1, .rdx = TDR, .r8 = PAGE},
	 .lock = {LOCK_TDR(SHARED, RDX),
		  LOCK_OP(SHARED),
		  LOCK_TREE(SHARED),
		  LOCK_ENTRY(WORLD_2M, 1),
		  LOCK_PAGE(EXCLUSIVE, R8, PAGE),
		  {PAMT, EXCLUSIVE, RCX, LARGE, 1}}},
	{.name = "PAGE.RELOCATE",
	 .prepare = with_blocked_page,
	 .regs = {.rax = TDH_MEM_PAGE_RELOCATE, .rdx = TDR, .r8 = OTHER},
	 .lock = {LOCK_TDR(SHARED, RDX),
		  LOCK_OP(SHARED),
		  LOCK_TREE(SHARED),
		  LOCK_ENTRY(0, 0),
		  {PAMT, EXCLUSIVE, RCX, PAGE, 0},
		  LOCK_PAGE(EXCLUSIVE, R8, OTHER)}},
	{.name = "RANGE.BLOCK",
	 .prepare = with_page,
	 .regs = {.rax = TDH_MEM_RANGE_BLOCK, .rdx = TDR},
	 .lock = {LOCK_TDR(SHARED, RDX),
		  LOCK_OP(SHARED),
		  LOCK_TREE(EXCLUSIVE),
		  LOCK_ENTRY(0, 0),
		  {PAMT, NOT_TAKEN, 0, PAGE, 0}}},
	{.name = "RANGE.UNBLOCK",
	 .prepare = with_blocked_page,
	 .regs = {.rax = TDH_MEM_RANGE_UNBLOCK, .rdx = TDR},
	 .lock = {LOCK_TDR(SHARED, RDX),
		  LOCK_OP(SHARED),
		  LOCK_TREE(EXCLUSIVE),
		  LOCK_ENTRY(0, 0),
		  {PAMT, NOT_TAKEN, 0, PAGE, 0}}},
	{.name = "TRACK",
	 .regs = {.rax = TDH_MEM_TRACK, .rcx = TDR},
	 .lock = {LOCK_TDR(SHARED, RCX),
		  LOCK_OP(SHARED),
		  LOCK_TREE(NOT_TAKEN),
		  {EPOCH, EXCLUSIVE, TDX_OPERAND_TD_EPOCH, 0, 0}}},
	{.name = "MEM.RD",
	 .initialized = true,
	 .prepare = with_built_page,
	 .regs = {.rax = TDH_MEM_RD, .rdx = TDR},
	 .lock = {LOCK_TDR(SHARED, RDX),
		  LOCK_OP(SHARED),
		  LOCK_TREE(SHARED),
		  LOCK_ENTRY(0, 0),
		  {PAMT, NOT_TAKEN, 0, PAGE, 0}}},
	{.name = "MEM.WR",
	 .initialized = true,
	 .prepare = with_built_page,
	 .regs = {.rax = TDH_MEM_WR, .rdx = TDR},
	 .lock = {LOCK_TDR(SHARED, RDX),
		  LOCK_OP(SHARED),
		  LOCK_TREE(SHARED),
		  LOCK_ENTRY(0, 0),
		  {PAMT, NOT_TAKEN, 0, PAGE, 0}}},
	{.name = "MR.EXTEND",
	 .initialized = true,
	 .prepare = with_built_page,
	 .regs = {.rax = TDH_MR_EXTEND, .rdx = TDR},
	 .lock = {LOCK_TDR(EXCLUSIVE, RDX),
		  LOCK_OP(NOT_TAKEN),
		  LOCK_TREE(NOT_TAKEN),
		  {PAMT, NOT_TAKEN, 0, PAGE, 0}}},
	{.name = "MR.FINALIZE",
	 .initialized = true,
	 .regs = {.rax = TDH_MR_FINALIZE, .rcx = TDR},
	 .lock = {LOCK_TDR(EXCLUSIVE, RCX), LOCK_OP(NOT_TAKEN), LOCK_TREE(NOT_TAKEN)}},
	{.name = "VP.ENTER",
	 .regs = {.rax = TDH_VP_ENTER, .rcx = WORLD_VCPU(0)},
	 .lock = {{PAMT, SHARED, RCX, WORLD_VCPU(0), 0},
		  {PAMT, SHARED, RCX, WORLD_VCPU(0), 1},
		  {PAMT, SHARED, RCX, WORLD_VCPU(0), 2},
		  {PAMT, SHARED, TDX_OPERAND_TDR, TDR, 0},
		  LOCK_OP(SHARED),
		  LOCK_TREE(NOT_TAKEN),
		  {EPOCH, SHARED, TDX_OPERAND_TD_EPOCH, 0, 0}}},
	{.name = "VP.FLUSH",
	 .prepare = with_associated_vcpu,
	 .regs = {.rax = TDH_VP_FLUSH, .rcx = WORLD_VCPU(0)},
	 .lock = {{PAMT, EXCLUSIVE, RCX, WORLD_VCPU(0), 0},
		  {PAMT, SHARED, RCX, WORLD_VCPU(0), 1},
		  {PAMT, SHARED, TDX_OPERAND_TDR, TDR, 0},
		  LOCK_OP(NOT_TAKEN)}},
	{.name = "VP.CREATE",
	 .initialized = true,
	 .regs = {.rax = TDH_VP_CREATE, .rcx = PAGE, .rdx = TDR},
	 .lock = {LOCK_TDR(SHARED, RDX), LOCK_OP(SHARED), LOCK_PAGE(EXCLUSIVE, RCX, PAGE)}},
	{.name = "VP.ADDCX",
	 .initialized = true,
	 .prepare = with_new_vcpu,
	 .regs = {.rax = TDH_VP_ADDCX, .rcx = OTHER, .rdx = PAGE},
	 .lock = {LOCK_PAGE(EXCLUSIVE, RDX, PAGE),
		  {PAMT, SHARED, TDX_OPERAND_TDR, TDR, 0},
		  {PAMT, NOT_TAKEN, 0, TDR, 1},
		  LOCK_OP(SHARED),
		  LOCK_PAGE(EXCLUSIVE, RCX, OTHER)}},
	{.name = "VP.INIT",
	 .initialized = true,
	 .prepare = with_new_vcpu,
	 .regs = {.rax = TDH_VP_INIT, .rcx = PAGE},
	 .lock = {LOCK_PAGE(EXCLUSIVE, RCX, PAGE),
		  {PAMT, SHARED, TDX_OPERAND_TDR, TDR, 0},
		  {PAMT, NOT_TAKEN, 0, TDR, 1},
		  LOCK_OP(SHARED)}},
	{.name = "MNG.CREATE",
	 .regs = {.rax = TDH_MNG_CREATE, .rcx = PAGE, .rdx = WORLD_HKID + 1},
	 .lock = {LOCK_PAGE(EXCLUSIVE, RCX, PAGE), {KOT, EXCLUSIVE, TDX_OPERAND_KOT, 0, 0}}},
	{.name = "MNG.KEY.CONFIG",
	 .prepare = with_second_td,
	 .regs = {.rax = TDH_MNG_KEY_CONFIG, .rcx = PAGE},
	 .lock = {LOCK_PAGE(EXCLUSIVE, RCX, PAGE)}},
	{.name = "MNG.ADDCX",
	 .prepare = with_second_tds_key,
	 .regs = {.rax = TDH_MNG_ADDCX, .rcx = OTHER, .rdx = PAGE},
	 .lock = {LOCK_PAGE(EXCLUSIVE, RDX, PAGE), LOCK_PAGE(EXCLUSIVE, RCX, OTHER)}},
	{.name = "MNG.INIT",
	 .prepare = with_second_tds_pages,
	 .regs = {.rax = TDH_MNG_INIT, .rcx = PAGE, .rdx = WORLD_PARAMS},
	 .lock = {LOCK_PAGE(EXCLUSIVE, RCX, PAGE)}},
	{.name = "MNG.VPFLUSHDONE",
	 .regs = {.rax = TDH_MNG_VPFLUSHDONE, .rcx = TDR},
	 .lock = {LOCK_TDR(EXCLUSIVE, RCX),
		  LOCK_OP(NOT_TAKEN),
		  {KOT, EXCLUSIVE, TDX_OPERAND_KOT, 0, 0}}},
	{.name = "PHYMEM.CACHE.WB",
	 .prepare = with_flushed_key,
	 .regs = {.rax = TDH_PHYMEM_CACHE_WB},
	 .lock = {{PAMT, NOT_TAKEN, 0, TDR, 0}, {KOT, SHARED, TDX_OPERAND_KOT, 0, 0}}},
	{.name = "MNG.KEY.FREEID",
	 .prepare = with_written_back_key,
	 .regs = {.rax = TDH_MNG_KEY_FREEID, .rcx = TDR},
	 .lock = {LOCK_TDR(EXCLUSIVE, RCX), {KOT, EXCLUSIVE, TDX_OPERAND_KOT, 0, 0}}},
	{.name = "PHYMEM.PAGE.RDMD",
	 .prepare = with_page,
	 .regs = {.rax = TDH_PHYMEM_PAGE_RDMD, .rcx = PAGE},
	 .lock = {LOCK_PAGE(SHARED, RCX, PAGE), {PAMT, NOT_TAKEN, 0, TDR, 0}}},
	{.name = "PHYMEM.PAGE.WBINVD",
	 .regs = {.rax = TDH_PHYMEM_PAGE_WBINVD, .rcx = PAGE},
	 .lock = {LOCK_PAGE(SHARED, RCX, PAGE)}},
	{.name = "PHYMEM.PAGE.RECLAIM",
	 .prepare = with_dead_td,
	 .regs = {.rax = TDH_PHYMEM_PAGE_RECLAIM, .rcx = PAGE},
	 .lock = {LOCK_PAGE(EXCLUSIVE, RCX, PAGE),
		  {PAMT, SHARED, TDX_OPERAND_TDR, TDR, 0},
		  {PAMT, NOT_TAKEN, 0, TDR, 1}}},
	{.name = "TDG.MEM.PAGE.ACCEPT",
	 .guest = true,
	 .prepare = inside_with_page,
	 .regs = {.rax = TDG_MEM_PAGE_ACCEPT},
	 .lock = {LOCK_ENTRY(0, 0),
		  LOCK_TREE(NOT_TAKEN),
		  LOCK_OP(NOT_TAKEN),
		  {PAMT, NOT_TAKEN, 0, PAGE, 0},
		  {EPOCH, NOT_TAKEN, 0, 0, 0}}},
	{.name = "TDG.MEM.PAGE.ATTR.RD",
	 .guest = true,
	 .prepare = inside_with_page,
	 .regs = {.rax = TDG_MEM_PAGE_ATTR_RD},
	 .lock = {LOCK_ENTRY(0, 0), LOCK_TREE(NOT_TAKEN), {PAMT, NOT_TAKEN, 0, PAGE, 0}}},
	{.name = "TDG.MEM.PAGE.ATTR.WR",
	 .guest = true,
	 .prepare = inside_with_page,
	 .regs = {.rax = TDG_MEM_PAGE_ATTR_WR},
	 .lock = {LOCK_ENTRY(0, 0), LOCK_TREE(NOT_TAKEN), {PAMT, NOT_TAKEN, 0, PAGE, 0}}},
};

/* -- holding a lock as another processor would -- */

static bool has_host_priority(enum lock_word word)
{
	return word == PAMT || word == OP;
}

/* The word while another call holds it. */
static uint64_t held_word(const struct taken *lock, enum taken_as as)
{
	if (lock->word == ENTRY)
		return 1ull << 11;
	if (as == EXCLUSIVE)
		return 1;
	return has_host_priority(lock->word) ? 4 : 2;
}

/* What a refused try makes of it. */
static uint64_t refused_word(const struct leaf_case *c, const struct taken *lock, uint64_t held)
{
	bool shared_try = lock->as == SHARED || (lock->as == SHARED_THEN_EXCLUSIVE && held == 1);

	if (lock->word == ENTRY)
		return held | (c->guest ? 0 : 1ull << 52);
	if (has_host_priority(lock->word))
		return held | 2 | (shared_try ? 4 : 0);
	return held | (shared_try ? 2 : 0);
}

static void force(struct world *w, const struct taken *lock, uint64_t raw)
{
	static const enum tdx_force forces[] = {[OP] = TDX_FORCE_OP_LOCK,
						[TREE] = TDX_FORCE_SEPT_LOCK,
						[EPOCH] = TDX_FORCE_EPOCH_LOCK,
						[KOT] = TDX_FORCE_KOT_LOCK};

	if (lock->word == PAMT)
		tdx_module_force_pamt_lock(w->module, lock->at, lock->level, (uint16_t)raw);
	else if (lock->word == ENTRY)
		tdx_module_force_sept(w->module, TDR, lock->at, lock->level, raw,
				      (1ull << 11 | 1ull << 52) & ~raw);
	else
		tdx_module_force(w->module, forces[lock->word], TDR, raw);
}

/* Its present word; the key table's can't be seen. */
static uint64_t word_now(struct world *w, const struct taken *lock, uint64_t otherwise)
{
	struct tdx_pamt_view pamt;
	struct tdx_sept_view sept;
	struct tdx_td_view td;

	tdx_module_view_td(w->module, TDR, &td);
	switch (lock->word) {
	case PAMT:
		tdx_module_view_pamt(w->module, lock->at, lock->level, &pamt);
		return pamt.lock;
	case ENTRY:
		tdx_module_view_sept(w->module, TDR, lock->at, lock->level, 0, &sept);
		return sept.raw & (1ull << 11 | 1ull << 52);
	case OP:
		return td.op_lock;
	case TREE:
		return td.sept_lock;
	case EPOCH:
		return td.epoch_lock;
	default:
		return otherwise;
	}
}

static struct world *world_for(const struct leaf_case *c)
{
	const struct world_kind kind = {.attributes = TDX_ATTR_DEBUG,
					.levels = 4,
					.nr_vcpus = 1,
					.runnable = !c->initialized};
	struct world *w = world_create();

	world_build(w, &kind);
	if (c->prepare)
		c->prepare(w);
	return w;
}

static uint64_t call(struct world *w, const struct leaf_case *c)
{
	struct tdx_regs regs = c->regs;
	struct tdx_guest guest = {.rip = 0x1000, .regs = c->regs};

	if (!c->guest)
		return world_call(w, 0, &regs);
	assert_int_equal(tdx_module_tdcall(w->module, 0, &guest, &regs), TDX_GUEST);
	return guest.regs.rax;
}

static bool conflict(const struct taken *lock, enum taken_as held)
{
	if (lock->as == NOT_TAKEN)
		return false;
	return lock->as != SHARED || held == EXCLUSIVE;
}

static void try_while_held(const struct leaf_case *c, const struct taken *lock, enum taken_as held)
{
	struct world *w = world_for(c);
	uint64_t raw = held_word(lock, held), status, after;
	bool busy = conflict(lock, held);

	force(w, lock, raw);
	status = call(w, c);
	after = word_now(w, lock, refused_word(c, lock, raw));
	if (status != (busy ? TDX_OPERAND_BUSY | lock->operand : TDX_SUCCESS))
		fail_msg("%s: word %u (%#llx level %u) held %s by another: %#llx", c->name,
			 lock->word, (unsigned long long)lock->at, lock->level,
			 held == EXCLUSIVE ? "exclusive" : "shared", (unsigned long long)status);
	if (busy && after != refused_word(c, lock, raw))
		fail_msg("%s: refused lock word %u (%#llx level %u) is %#llx", c->name, lock->word,
			 (unsigned long long)lock->at, lock->level, (unsigned long long)after);
	/* Let go, and it works, however often it was refused before. */
	if (busy) {
		force(w, lock, has_host_priority(lock->word) ? 2 : 0);
		assert_int_equal(call(w, c), TDX_SUCCESS);
	}
	world_destroy(w);
}

static void each_call_conflicts_where_its_locks_do(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct leaf_case *c = &cases[i];

		for (size_t k = 0; k < 9 && c->lock[k].word; k++) {
			try_while_held(c, &c->lock[k], EXCLUSIVE);
			if (c->lock[k].word != ENTRY)
				try_while_held(c, &c->lock[k], SHARED);
		}
	}
}

/* Nothing stays taken after any of the calls. */
static void each_call_gives_its_locks_back(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct world *w = world_for(&cases[i]);
		struct inv *inv = inv_create(w);

		assert_int_equal(call(w, &cases[i]), TDX_SUCCESS);
		if (!inv_check(inv))
			fail_msg("%s: %s", cases[i].name, inv->broken);
		inv_destroy(inv);
		world_destroy(w);
	}
}

/* The page at GPA 0 is blocked; while its vCPU is inside, unblocking has to wait for its exit. */
static void track_and_unblock(struct world *w)
{
	const struct event leave = {.kind = EV_EXIT, .r = {TDX_EXIT_INTERRUPT}};

	assert_int_equal(world_leaf(w, 1, TDH_MEM_TRACK, TDR, 0, 0), TDX_SUCCESS);
	world_play(w, &leave);
	ok(w, TDH_MEM_RANGE_UNBLOCK, 0, TDR, 0);
	inside(w);
}

/* A guest gives way to a host that was refused, sees plain BUSY, and the host's next try ends it.
 */
static void a_refused_host_goes_before_the_guest(void **state)
{
	const struct leaf_case *accept = NULL;
	struct taken entry = {ENTRY, EXCLUSIVE, RCX, 0, 0};
	struct tdx_regs regs = {.rax = TDH_MEM_SEPT_RD, .rdx = TDR};
	struct world *w;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (cases[i].prepare == inside_with_page && !accept)
			accept = &cases[i];
	assert_non_null(accept);
	w = world_for(accept);
	force(w, &entry, 1ull << 11);
	assert_int_equal(world_call(w, 1, &regs), TDX_OPERAND_BUSY | RCX);
	assert_int_equal(word_now(w, &entry, 0), 1ull << 11 | 1ull << 52);
	force(w, &entry, 1ull << 52);
	assert_int_equal(call(w, accept), TDX_OPERAND_BUSY | RCX);
	assert_int_equal(word_now(w, &entry, 0), 1ull << 52);
	/* The wish is gone with the lock, and is not stored again with what was read before. */
	regs = (struct tdx_regs){.rax = TDH_MEM_RANGE_BLOCK, .rdx = TDR};
	assert_int_equal(world_call(w, 1, &regs), TDX_SUCCESS);
	assert_int_equal(word_now(w, &entry, 0), 0);
	track_and_unblock(w);
	assert_int_equal(call(w, accept), TDX_SUCCESS);
	world_destroy(w);
}

/* -- a call that is really in its middle -- */

struct probe {
	struct tdx_regs regs;
	uint64_t status;
};

struct stopped {
	const char *name;
	void (*prepare)(struct world *w);
	struct tdx_regs regs;
	uint64_t where; /* the page whose use stops it, or WORLD_POLL, WORLD_INVEPT */
	struct probe probe[6];
	bool initialized, guest;
	bool stopped; /* out */
};

#define BUSY(op) (TDX_OPERAND_BUSY | (op))
#define CALL(leaf, c, d, e)                                                          \
	{                                                                            \
		.rax = (leaf), .rcx = (c), .rdx = (d), .r8 = (e), .r9 = WORLD_SOURCE \
	}

static void probe_all(struct world *w, void *argument)
{
	struct stopped *s = argument;

	s->stopped = true;
	for (size_t i = 0; i < 6 && (s->probe[i].regs.rcx || s->probe[i].regs.rdx); i++) {
		struct tdx_regs regs = s->probe[i].regs;
		uint64_t status = world_call(w, 1, &regs);

		if (status != s->probe[i].status)
			fail_msg("during %s, probe %zu (leaf %llu): %#llx", s->name, i,
				 (unsigned long long)s->probe[i].regs.rax,
				 (unsigned long long)status);
	}
}

static void inside_with_large_page(struct world *w)
{
	ok(w, TDH_MEM_PAGE_AUG, WORLD_2M | 1, TDR, LARGE);
	inside(w);
}

/* Six violations at one place, and the seventh puts its GPA on the list. */
static void suspected(struct world *w)
{
	const struct tdx_vmexit exit = {.reason = TDX_EXIT_EPT_VIOLATION, .gpa = 0x5000};
	struct tdx_guest guest = {.rip = 0x1000};
	struct tdx_regs host;

	for (unsigned int i = 0; i < 7; i++) {
		inside(w);
		assert_int_equal(tdx_module_vmexit(w->module, 0, &exit, &guest, &host), TDX_HOST);
	}
}

static struct stopped stops[] = {
	{.name = "SEPT.ADD",
	 .regs = CALL(TDH_MEM_SEPT_ADD, FAR_GPA | 2, TDR, PAGE),
	 .where = PAGE,
	 .probe = {{CALL(TDH_MNG_VPFLUSHDONE, TDR, 0, 0), BUSY(RCX)},
		   {CALL(TDH_MEM_RANGE_BLOCK, 1, TDR, 0), BUSY(TDX_OPERAND_SEPT_TREE)},
		   {CALL(TDH_MEM_SEPT_RD, FAR_GPA | 2, TDR, 0), BUSY(RCX)},
		   {CALL(TDH_PHYMEM_PAGE_RDMD, PAGE, 0, 0), BUSY(RCX)},
		   {CALL(TDH_MEM_PAGE_AUG, WORLD_2M | 1, TDR, PAGE), BUSY(R8)},
		   {CALL(TDH_MEM_PAGE_AUG, 0x1000, TDR, OTHER), TDX_SUCCESS}}},
	{.name = "RANGE.BLOCK",
	 .prepare = with_page,
	 .regs = CALL(TDH_MEM_RANGE_BLOCK, 0, TDR, 0),
	 .where = TABLE,
	 .probe = {{CALL(TDH_MEM_PAGE_AUG, 0x1000, TDR, OTHER), BUSY(TDX_OPERAND_SEPT_TREE)},
		   {CALL(TDH_MEM_RANGE_UNBLOCK, 0, TDR, 0), BUSY(TDX_OPERAND_SEPT_TREE)},
		   {CALL(TDH_MEM_SEPT_RD, 0, TDR, 0), BUSY(TDX_OPERAND_SEPT_TREE)},
		   {CALL(TDH_MEM_TRACK, TDR, 0, 0), TDX_SUCCESS},
		   {CALL(TDH_PHYMEM_PAGE_RDMD, PAGE, 0, 0), TDX_SUCCESS}}},
	{.name = "PAGE.DEMOTE",
	 .prepare = with_blocked_large_page,
	 .regs = CALL(TDH_MEM_PAGE_DEMOTE, WORLD_2M | 1, TDR, PAGE),
	 .where = WORLD_POLL,
	 .probe = {{CALL(TDH_MEM_SEPT_RD, WORLD_2M | 1, TDR, 0), BUSY(RCX)},
		   {CALL(TDH_MEM_PAGE_REMOVE, WORLD_2M | 1, TDR, 0), BUSY(RCX)},
		   {CALL(TDH_PHYMEM_PAGE_RDMD, PAGE, 0, 0), BUSY(RCX)},
		   {CALL(TDH_PHYMEM_PAGE_RDMD, LARGE, 0, 0), TDX_SUCCESS},
		   {CALL(TDH_MEM_RANGE_UNBLOCK, WORLD_2M | 1, TDR, 0), BUSY(TDX_OPERAND_SEPT_TREE)},
		   {CALL(TDH_MEM_PAGE_AUG, 0x1000, TDR, OTHER), TDX_SUCCESS}}},
	{.name = "PAGE.PROMOTE",
	 .prepare = with_blocked_full_table,
	 .regs = CALL(TDH_MEM_PAGE_PROMOTE, WORLD_2M | 1, TDR, 0),
	 .where = WORLD_POLL,
	 .probe = {{CALL(TDH_MEM_SEPT_RD, WORLD_2M | 1, TDR, 0), BUSY(RCX)},
		   {CALL(TDH_PHYMEM_PAGE_RDMD, PAGE, 0, 0), BUSY(RCX)},
		   {CALL(TDH_MEM_SEPT_REMOVE, WORLD_2M | 1, TDR, 0), BUSY(TDX_OPERAND_SEPT_TREE)},
		   {CALL(TDH_MEM_SEPT_RD, WORLD_2M, TDR, 0), TDX_EPT_WALK_FAILED | RCX},
		   {CALL(TDH_MEM_PAGE_AUG, 0x1000, TDR, OTHER), TDX_SUCCESS}}},
	{.name = "PAGE.RELOCATE",
	 .initialized = true,
	 .prepare = with_built_page,
	 .regs = CALL(TDH_MEM_PAGE_RELOCATE, 0, TDR, OTHER),
	 .where = OTHER,
	 .probe = {{CALL(TDH_PHYMEM_PAGE_RDMD, PAGE, 0, 0), BUSY(RCX)},
		   {CALL(TDH_PHYMEM_PAGE_RDMD, OTHER, 0, 0), BUSY(RCX)},
		   {CALL(TDH_MEM_RD, 0, TDR, 0), BUSY(RCX)},
		   {CALL(TDH_MEM_PAGE_AUG, 0x1000, TDR, OTHER), BUSY(R8)}}},
	{.name = "PAGE.ADD",
	 .initialized = true,
	 .regs = CALL(TDH_MEM_PAGE_ADD, 0, TDR, PAGE),
	 .where = WORLD_SOURCE,
	 .probe = {{CALL(TDH_MEM_PAGE_ADD, 0x1000, TDR, OTHER), BUSY(RDX)},
		   {CALL(TDH_MEM_SEPT_RD, 0x1000, TDR, 0), BUSY(RDX)},
		   {CALL(TDH_MEM_TRACK, TDR, 0, 0), BUSY(RCX)},
		   {CALL(TDH_PHYMEM_PAGE_RDMD, PAGE, 0, 0), BUSY(RCX)}}},
	{.name = "MNG.CREATE",
	 .regs = CALL(TDH_MNG_CREATE, PAGE, WORLD_HKID + 1, 0),
	 .where = PAGE,
	 .probe = {{CALL(TDH_MNG_CREATE, PAGE, WORLD_HKID + 2, 0), BUSY(RCX)}}},
	{.name = "VP.ENTER",
	 .regs = CALL(TDH_VP_ENTER, WORLD_VCPU(0), 0, 0),
	 .where = WORLD_INVEPT,
	 .probe = {{CALL(TDH_VP_FLUSH, WORLD_VCPU(0), 0, 0), BUSY(RCX)},
		   {CALL(TDH_MNG_VPFLUSHDONE, TDR, 0, 0), BUSY(RCX)},
		   {CALL(TDH_VP_ENTER, WORLD_VCPU(0), 0, 0), TDX_VCPU_ASSOCIATED},
		   {CALL(TDH_MEM_TRACK, TDR, 0, 0), TDX_SUCCESS},
		   {CALL(TDH_MEM_TRACK, TDR, 0, 0), TDX_PREVIOUS_TLB_EPOCH_BUSY}}},
	{.name = "VP.ENTER, zero-step filter",
	 .prepare = suspected,
	 .regs = CALL(TDH_VP_ENTER, WORLD_VCPU(0), 0, 0),
	 .where = TABLE,
	 .probe = {{CALL(TDH_MEM_PAGE_AUG, 0x5000, TDR, PAGE), BUSY(TDX_OPERAND_SEPT_TREE)},
		   {CALL(TDH_MEM_RANGE_BLOCK, 1, TDR, 0), BUSY(TDX_OPERAND_SEPT_TREE)}}},
	{.name = "VP.FLUSH",
	 .prepare = with_associated_vcpu,
	 .regs = CALL(TDH_VP_FLUSH, WORLD_VCPU(0), 0, 0),
	 .where = WORLD_INVEPT,
	 .probe = {{CALL(TDH_VP_ENTER, WORLD_VCPU(0), 0, 0), BUSY(RCX)},
		   {CALL(TDH_MNG_VPFLUSHDONE, TDR, 0, 0), BUSY(RCX)}}},
	{.name = "PHYMEM.CACHE.WB",
	 .prepare = with_flushed_key,
	 .regs = CALL(TDH_PHYMEM_CACHE_WB, 0, 0, 0),
	 .where = WORLD_POLL,
	 .probe = {{CALL(TDH_MNG_CREATE, PAGE, WORLD_HKID + 1, 0), BUSY(TDX_OPERAND_KOT)},
		   {CALL(TDH_MNG_KEY_FREEID, TDR, 0, 0), BUSY(TDX_OPERAND_KOT)},
		   {CALL(TDH_PHYMEM_CACHE_WB, 1, 0, 0), BUSY(TDX_OPERAND_WBCACHE)},
		   {CALL(TDH_MNG_VPFLUSHDONE, TDR, 0, 0), BUSY(TDX_OPERAND_KOT)}}},
	{.name = "TDG.MEM.PAGE.ACCEPT",
	 .guest = true,
	 .prepare = inside_with_large_page,
	 .regs = CALL(TDG_MEM_PAGE_ACCEPT, WORLD_2M | 1, 0, 0),
	 .where = WORLD_POLL,
	 .probe = {{CALL(TDH_MEM_RANGE_BLOCK, WORLD_2M | 1, TDR, 0), BUSY(RCX)},
		   {CALL(TDH_MEM_SEPT_RD, WORLD_2M | 1, TDR, 0), BUSY(RCX)},
		   {CALL(TDH_MEM_PAGE_AUG, 0x1000, TDR, OTHER), TDX_SUCCESS},
		   {CALL(TDH_PHYMEM_PAGE_RDMD, LARGE, 0, 0), TDX_SUCCESS},
		   {CALL(TDH_VP_FLUSH, WORLD_VCPU(0), 0, 0), BUSY(RCX)}}},
};

static void a_call_in_its_middle_holds_its_locks(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(stops) / sizeof(stops[0]); i++) {
		struct stopped *s = &stops[i];
		const struct leaf_case c = {.name = s->name,
					    .initialized = s->initialized,
					    .guest = s->guest,
					    .prepare = s->prepare,
					    .regs = s->regs};
		struct world *w = world_for(&c);
		uint64_t status;

		w->stop_page = s->where;
		w->stop_argument = s;
		w->stop = probe_all;
		status = call(w, &c);
		assert_true(s->stopped);
		/* The filter's answer is an exit; all others succeed in spite of the probes. */
		if (status != TDX_SUCCESS && status != TDX_EXIT_EPT_VIOLATION)
			fail_msg("%s: %#llx", s->name, (unsigned long long)status);
		world_destroy(w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_call_conflicts_where_its_locks_do),
		cmocka_unit_test(each_call_gives_its_locks_back),
		cmocka_unit_test(a_refused_host_goes_before_the_guest),
		cmocka_unit_test(a_call_in_its_middle_holds_its_locks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
