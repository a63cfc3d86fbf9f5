/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A second opinion on one TD: the rules of its memory calls written down once more, on trees of
 * plain structures instead of words, pages in an array instead of a PAMT. It says what a call must
 * answer before the module is asked. Calls come one at a time, so nothing here is a lock; what
 * conflicts within one call, or with vCPUs that run, is a list of pages in use.
 */
#ifndef TESTS_TDX_ORACLE_H
#define TESTS_TDX_ORACLE_H

#include "tests/tdx/world.h"

enum o_state {
	O_FREE,
	O_TABLE,
	O_TABLE_BLOCKED,
	O_MAPPED,
	O_BLOCKED,
	O_PENDING,
	O_PENDING_BLOCKED
};

struct o_entry {
	enum o_state state;
	uint64_t hpa;
	unsigned int accepted;	/* 4 KiB pieces of a 2 MiB page, while it is pending */
	uint16_t attributes[4]; /* of a leaf in each L2 VM; 0: no alias there */
	uint64_t l2_table[4];	/* of a table in each L2 VM; 0: none */
	struct o_entry *child;	/* 512 */
};

struct o_page {
	uint8_t pt;
	uint64_t owner, bepoch;
};

#define O_NR_PAGES (WORLD_SIZE / WORLD_PAGE)
#define O_MAX_USES 24

struct o_vcpu {
	uint64_t tdvpr;
	int lp; /* tied to; -1: none */
	bool running, suspected_before;
	uint64_t epoch;
	bool ve;
	/* Zero-step filter. */
	uint64_t rip, last_rip;
	unsigned int nr_faults, nr_gpas;
	uint64_t gpa[32];
};

struct oracle {
	struct world_kind kind;
	unsigned int gpa_width;
	struct o_entry root;	/* as if a table led to the root */
	struct o_page *page[3]; /* by size */
	uint64_t epoch;
	unsigned int inside[2];
	struct o_vcpu vcpu[4];
	bool ve_disable;
	int64_t polls; /* as of the machine */
	/* Of the call under way. */
	struct {
		uint64_t hpa;
		uint8_t level;
		bool exclusive;
	} use[O_MAX_USES];
	unsigned int nr_uses;
	struct tdx_regs regs;
	unsigned int lp;
	/* What the walk found. */
	struct o_entry *entry, *path[5];
	unsigned int level, goal;
	uint64_t gpa;
	/* Guest calls. */
	bool exits, again;
	uint8_t vector;
};

#define O_RCX TDX_OPERAND_RCX
#define O_RDX TDX_OPERAND_RDX
#define O_R8  TDX_OPERAND_R8

static inline uint64_t o_size(unsigned int level)
{
	return WORLD_PAGE << 9 * level;
}

/* -- pages -- */

static inline struct o_page *o_page(struct oracle *o, uint64_t hpa, unsigned int level)
{
	return &o->page[level][(hpa - WORLD_BASE) / o_size(level)];
}

/* In use by this call, or by a vCPU that runs? */
static inline bool o_used(const struct oracle *o, uint64_t hpa, unsigned int level, bool exclusive)
{
	uint64_t at = hpa / o_size(level);

	for (unsigned int i = 0; i < o->nr_uses; i++)
		if (o->use[i].level == level && o->use[i].hpa / o_size(level) == at &&
		    (exclusive || o->use[i].exclusive))
			return true;
	for (unsigned int i = 0; i < 4 && exclusive; i++)
		if (o->vcpu[i].running &&
		    (o->vcpu[i].tdvpr / o_size(level) == at || (level == 0 && hpa == WORLD_TDR)))
			return true;
	return false;
}

static inline void o_use(struct oracle *o, uint64_t hpa, unsigned int level, bool exclusive)
{
	assert_true(o->nr_uses < O_MAX_USES);
	o->use[o->nr_uses].hpa = hpa;
	o->use[o->nr_uses].level = (uint8_t)level;
	o->use[o->nr_uses++].exclusive = exclusive;
}

static inline uint64_t o_form(uint64_t hpa, uint64_t size, unsigned int op)
{
	if (hpa & (size - 1) || hpa >> 46)
		return TDX_OPERAND_INVALID | op;
	if (hpa - WORLD_BASE >= WORLD_SIZE)
		return TDX_OPERAND_ADDR_RANGE_ERROR | op;
	return 0;
}

/* Down to where the page's metadata are, or to @stop. */
static inline uint64_t o_walk_pages(struct oracle *o, uint64_t hpa, unsigned int op, bool exclusive,
				    unsigned int stop, unsigned int *level)
{
	for (*level = 2; *level; --*level) {
		bool last = *level == stop || o_page(o, hpa, *level)->pt == TDX_PT_REG;

		if (o_used(o, hpa, *level, last && exclusive))
			return TDX_OPERAND_BUSY | op;
		o_use(o, hpa, *level, last && exclusive);
		if (last)
			return 0;
	}
	if (o_used(o, hpa, 0, exclusive))
		return TDX_OPERAND_BUSY | op;
	o_use(o, hpa, 0, exclusive);
	return 0;
}

static inline uint64_t o_take_page(struct oracle *o, uint64_t hpa, unsigned int op, uint8_t pt,
				   bool exclusive)
{
	unsigned int level;
	uint64_t status = o_form(hpa, WORLD_PAGE, op);

	if (!status)
		status = o_walk_pages(o, hpa, op, exclusive, 0, &level);
	if (!status && (level || o_page(o, hpa, 0)->pt != pt))
		status = TDX_PAGE_METADATA_INCORRECT | op;
	return status;
}

static inline uint64_t o_take_free(struct oracle *o, uint64_t hpa, unsigned int op)
{
	return o_take_page(o, hpa, op, TDX_PT_NDA, true);
}

static inline uint64_t o_take_free_2m(struct oracle *o, uint64_t hpa)
{
	unsigned int level;
	uint64_t status = o_form(hpa, WORLD_2M, O_R8);

	if (!status)
		status = o_walk_pages(o, hpa, O_R8, true, 1, &level);
	if (status)
		return status;
	if (level != 1 || o_page(o, hpa, 1)->pt != TDX_PT_NDA)
		return TDX_PAGE_METADATA_INCORRECT | O_R8;
	for (unsigned int i = 0; i < 512; i++)
		if (o_page(o, hpa, 0)[i].pt != TDX_PT_NDA)
			return TDX_PAGE_METADATA_INCORRECT | O_R8;
	return 0;
}

static inline void o_give(struct oracle *o, uint64_t hpa, unsigned int level, uint8_t pt)
{
	*o_page(o, hpa, level) = (struct o_page){pt, WORLD_TDR, 0};
}

/* -- entries -- */

static inline bool o_leaf(const struct o_entry *e)
{
	return e->state >= O_MAPPED;
}

static inline bool o_blocked(const struct o_entry *e)
{
	return e->state == O_TABLE_BLOCKED || e->state == O_BLOCKED ||
	       e->state == O_PENDING_BLOCKED;
}

static inline bool o_pending(const struct o_entry *e)
{
	return e->state == O_PENDING || e->state == O_PENDING_BLOCKED;
}

static inline unsigned int o_public(const struct o_entry *e)
{
	static const uint8_t state[] = {0, 132, 129, 4, 1, 2, 3};

	return state[e->state];
}

static inline uint64_t o_details(struct oracle *o, uint64_t status)
{
	const struct o_entry *e = o->entry;
	uint64_t rwx = e->state == O_MAPPED || e->state == O_TABLE ? 7 : 0;

	o->regs.rcx = e->state == O_FREE ? 1ull << 63
		      : o_leaf(e) ? 1ull << 63 | e->hpa | (uint64_t)e->accepted << 12 | 0xf0 | rwx
				  : rwx;
	o->regs.rdx = o->level | o_public(e) << 8;
	return status | O_RCX;
}

static inline struct o_entry *o_new_table(void)
{
	struct o_entry *table = calloc(512, sizeof(*table));

	assert_non_null(table);
	return table;
}

static inline unsigned int o_root_level(const struct oracle *o)
{
	return o->kind.levels - 1;
}

/* To @goal, or where a table is missing, blocked, or a leaf. */
static inline bool o_walk(struct oracle *o, uint64_t gpa, unsigned int goal)
{
	const struct o_entry *table = &o->root;

	o->goal = goal;
	for (o->level = o_root_level(o);; o->level--) {
		o->entry = o->path[o->level] = &table->child[gpa >> (12 + 9 * o->level) & 511];
		if (o->level == goal)
			return true;
		if (o->entry->state != O_TABLE)
			return false;
		table = o->entry;
	}
}

static inline bool o_private(const struct oracle *o, uint64_t gpa)
{
	return !(gpa >> (o->gpa_width - 1));
}

/* GPA and level of RCX. */
static inline bool o_page_info(struct oracle *o, uint64_t rcx, unsigned int min, unsigned int max)
{
	o->goal = rcx & 7;
	o->gpa = rcx & ~7ull;
	return !(rcx & 0xff8) && !(rcx >> 52) && o->goal >= min && o->goal <= max &&
	       !(o->gpa & (o_size(o->goal) - 1)) && o_private(o, o->gpa);
}

/* The L2 tree ends above @level for @vm: at which level? -1: it doesn't. */
static inline int o_l2_ends(const struct oracle *o, unsigned int vm, unsigned int level)
{
	for (unsigned int l = o_root_level(o); l > level; l--)
		if (!o->path[l]->l2_table[vm])
			return (int)l;
	return -1;
}

/* -- tracking -- */

static inline bool o_tracked(const struct oracle *o, uint64_t bepoch)
{
	if (bepoch + 1 == o->epoch && !o->inside[bepoch & 1])
		return true;
	return bepoch + 1 < o->epoch;
}

static inline uint64_t *o_bepoch(struct oracle *o)
{
	return &o_page(o, o->entry->hpa, o_leaf(o->entry) ? o->level : 0)->bepoch;
}

static inline uint64_t o_check_tracked(struct oracle *o)
{
	if (!o->kind.runnable)
		return 0;
	if (!o_blocked(o->entry))
		return o_details(o, TDX_GPA_RANGE_NOT_BLOCKED);
	return o_tracked(o, *o_bepoch(o)) ? 0 : TDX_TLB_TRACKING_NOT_DONE | O_RCX;
}

static inline bool o_poll(struct oracle *o)
{
	if (o->polls > 0)
		return o->polls--, false;
	return o->polls == 0;
}

/* -- what every memory call begins with -- */

#define O_STATES(s) (1u << (s))
#define O_LEAVES                                                          \
	(O_STATES(O_MAPPED) | O_STATES(O_BLOCKED) | O_STATES(O_PENDING) | \
	 O_STATES(O_PENDING_BLOCKED))
#define O_TABLES (O_STATES(O_TABLE) | O_STATES(O_TABLE_BLOCKED))

/* @in: the input registers; @flags of RDX; levels; entry states. */
static inline uint64_t o_begin(struct oracle *o, const struct tdx_regs *in, uint64_t flags,
			       unsigned int min, unsigned int max, unsigned int states)
{
	uint64_t status = o_take_page(o, in->rdx & ~flags, O_RDX, TDX_PT_TDR, false);

	if (status)
		return status;
	if (max > o_root_level(o))
		max = o_root_level(o);
	if (!o_page_info(o, in->rcx, min, max))
		return TDX_OPERAND_INVALID | O_RCX;
	if (!o_walk(o, o->gpa, o->goal))
		return o_details(o, TDX_EPT_WALK_FAILED);
	if (!(O_STATES(o->entry->state) & states))
		return o_details(o, TDX_EPT_ENTRY_STATE_INCORRECT);
	return 0;
}

/* -- tables -- */

static inline uint64_t o_add_own_table(struct oracle *o, const struct tdx_regs *in, bool v1,
				       bool *add, bool *unused)
{
	if (in->r8 == TDX_NULL_PA) {
		if (!v1)
			return TDX_OPERAND_INVALID | O_R8;
		return o->entry->state == O_TABLE ? 0 : o_details(o, TDX_EPT_ENTRY_STATE_INCORRECT);
	}
	if (o->entry->state == O_TABLE) {
		*unused = true;
		return in->rdx & 1 ? 0 : o_details(o, TDX_EPT_ENTRY_STATE_INCORRECT);
	}
	*add = true;
	return o_take_free(o, in->r8 & ~(1ull << 63), O_R8);
}

static inline uint64_t o_l2_details(struct oracle *o, uint64_t status, unsigned int vm,
				    unsigned int level, bool table)
{
	o->regs.rcx = table ? 7 : 0;
	o->regs.rdx = level | (table ? 196u : 64u) << 8 | vm << 16;
	return status | vm << 16 | level;
}

static inline uint64_t o_add_l2_table(struct oracle *o, const struct tdx_regs *in, unsigned int vm,
				      bool *add, bool *unused)
{
	uint64_t page = in->gpr[8 + vm];
	int end;

	if (page == TDX_NULL_PA)
		return 0;
	if (vm > o->kind.nr_l2)
		return TDX_OPERAND_INVALID | (8 + vm);
	end = o_l2_ends(o, vm, o->level);
	if (end >= 0)
		return o_l2_details(o, TDX_L2_SEPT_WALK_FAILED, vm, (unsigned int)end, false);
	if (o->entry->l2_table[vm]) {
		*unused = true;
		return in->rdx & 1
			       ? 0
			       : o_l2_details(o, TDX_L2_SEPT_ENTRY_NOT_FREE, vm, o->level, true);
	}
	*add = true;
	return o_take_free(o, page & ~(1ull << 63), 8 + vm);
}

static inline void o_link(struct oracle *o, uint64_t page, unsigned int vm)
{
	page &= ~(1ull << 63);
	o_give(o, page, 0, TDX_PT_EPT);
	if (vm) {
		o->entry->l2_table[vm] = page;
	} else {
		*o->entry = (struct o_entry){.state = O_TABLE, .hpa = page, .child = o_new_table()};
	}
}

static inline uint64_t o_sept_add(struct oracle *o, const struct tdx_regs *in, unsigned int version)
{
	bool add[4] = {0}, unused[4] = {0};
	uint64_t status;

	if (version > 1)
		return TDX_OPERAND_INVALID;
	status = o_begin(o, in, 1, 1, 4, O_STATES(O_FREE) | O_STATES(O_TABLE));
	if (!status)
		status = o_add_own_table(o, in, version, &add[0], &unused[0]);
	for (unsigned int vm = 1; vm < 4 && version && !status; vm++)
		status = o_add_l2_table(o, in, vm, &add[vm], &unused[vm]);
	for (unsigned int vm = 0; vm < 4 && !status; vm++) {
		if (unused[vm] && version)
			o->regs.gpr[8 + vm] |= 1ull << 63;
		if (!add[vm])
			continue;
		if (vm > 1 && o_poll(o)) {
			o->regs.rcx = in->rcx;
			o->regs.rdx = in->rdx;
			return TDX_INTERRUPTED_RESUMABLE;
		}
		o_link(o, in->gpr[8 + vm], vm);
		if (version)
			o->regs.gpr[8 + vm] = TDX_NULL_PA;
	}
	return status;
}

static inline void o_drop_table(struct oracle *o, unsigned int version)
{
	o_page(o, o->entry->hpa, 0)->pt = TDX_PT_NDA;
	for (unsigned int vm = 1; vm < 4; vm++) {
		uint64_t page = o->entry->l2_table[vm];

		if (page)
			o_page(o, page, 0)->pt = TDX_PT_NDA;
		if (version)
			o->regs.gpr[8 + vm] = page ? page : TDX_NULL_PA;
	}
	o->regs.rcx = o->entry->hpa;
	free(o->entry->child);
}

static inline uint64_t o_sept_remove(struct oracle *o, const struct tdx_regs *in,
				     unsigned int version)
{
	uint64_t status;

	if (version > 1)
		return TDX_OPERAND_INVALID;
	status = o_begin(o, in, 0, 1, 4, O_TABLES);
	if (!status)
		status = o_check_tracked(o);
	for (unsigned int i = 0; i < 512 && !status; i++)
		if (o->entry->child[i].state != O_FREE)
			status = o_details(o, TDX_EPT_PAGE_NOT_FREE);
	if (status)
		return status;
	o_drop_table(o, version);
	*o->entry = (struct o_entry){.state = O_FREE};
	return 0;
}

static inline uint64_t o_all_attributes(const struct o_entry *e)
{
	uint64_t all = 0;

	for (unsigned int vm = 1; vm < 4; vm++)
		if (e->attributes[vm])
			all |= (uint64_t)(e->attributes[vm] | 0x8000) << 16 * vm;
	return all;
}

static inline uint64_t o_sept_rd(struct oracle *o, const struct tdx_regs *in)
{
	uint64_t status = o_take_page(o, in->rdx & ~1ull, O_RDX, TDX_PT_TDR, false);

	if (!status && in->rdx & 1 && !(o->kind.attributes & TDX_ATTR_DEBUG))
		return TDX_OPERAND_INVALID | O_RDX;
	o->nr_uses = 0;
	status = o_begin(o, in, 1, 0, 4, ~0u);
	if (status)
		return status;
	o_details(o, 0);
	if (in->rdx & 1)
		o->regs.r8 = o_leaf(o->entry) ? o_all_attributes(o->entry) : 0;
	return 0;
}

/* -- pages -- */

static inline uint64_t o_page_aug(struct oracle *o, const struct tdx_regs *in)
{
	uint64_t status = o_begin(o, in, 0, 0, 1, O_STATES(O_FREE));

	if (!status)
		status = o->level ? o_take_free_2m(o, in->r8) : o_take_free(o, in->r8, O_R8);
	if (status)
		return status;
	*o->entry = (struct o_entry){.state = O_PENDING, .hpa = in->r8};
	o_give(o, in->r8, o->level, TDX_PT_REG);
	return 0;
}

static inline uint64_t o_page_add(struct oracle *o, const struct tdx_regs *in)
{
	uint64_t status = o_take_page(o, in->rdx, O_RDX, TDX_PT_TDR, true);

	if (status)
		return status;
	if (o->kind.runnable)
		return TDX_OP_STATE_INCORRECT;
	if (!o_page_info(o, in->rcx, 0, 0))
		return TDX_OPERAND_INVALID | O_RCX;
	if (!o_walk(o, o->gpa, 0))
		return o_details(o, TDX_EPT_WALK_FAILED);
	if (o->entry->state != O_FREE)
		return o_details(o, TDX_EPT_ENTRY_STATE_INCORRECT);
	/* A shared key id, below 2^52; this machine's private ones are 32..63. */
	if (in->r9 & 0xfff || in->r9 >> 51)
		return TDX_OPERAND_INVALID | TDX_OPERAND_R9;
	status = o_take_free(o, in->r8, O_R8);
	if (status)
		return status;
	*o->entry = (struct o_entry){.state = O_MAPPED, .hpa = in->r8};
	o_give(o, in->r8, 0, TDX_PT_REG);
	return 0;
}

static inline uint64_t o_page_remove(struct oracle *o, const struct tdx_regs *in)
{
	uint64_t status = o_begin(o, in, 0, 0, 2, O_LEAVES);

	if (!status)
		status = o_check_tracked(o);
	if (status)
		return status;
	o->regs.rcx = o->entry->hpa;
	o_page(o, o->entry->hpa, o->level)->pt = TDX_PT_NDA;
	*o->entry = (struct o_entry){.state = O_FREE};
	return 0;
}

static inline void o_unblock_entry(struct o_entry *e)
{
	e->state = e->state == O_TABLE_BLOCKED	   ? O_TABLE
		   : e->state == O_BLOCKED	   ? O_MAPPED
		   : e->state == O_PENDING_BLOCKED ? O_PENDING
						   : e->state;
}

static inline uint64_t o_page_relocate(struct oracle *o, const struct tdx_regs *in)
{
	uint64_t status = o_begin(o, in, 0, 0, 0, O_LEAVES);

	if (!status && in->r8 == o->entry->hpa)
		return TDX_OPERAND_INVALID | O_R8;
	if (!status) {
		o_use(o, o->entry->hpa, 0, true);
		status = o_check_tracked(o);
	}
	if (!status)
		status = o_take_free(o, in->r8, O_R8);
	if (status)
		return status;
	o->regs.rcx = o->entry->hpa;
	o_page(o, o->entry->hpa, 0)->pt = TDX_PT_NDA;
	o_give(o, in->r8, 0, TDX_PT_REG);
	o->entry->hpa = in->r8;
	o_unblock_entry(o->entry);
	return 0;
}

static inline uint64_t o_mem_access(struct oracle *o, const struct tdx_regs *in)
{
	uint64_t status = o_take_page(o, in->rdx, O_RDX, TDX_PT_TDR, false);

	if (status)
		return status;
	if (!(o->kind.attributes & TDX_ATTR_DEBUG))
		return TDX_TD_NON_DEBUG;
	if (in->rcx & 7 || !o_private(o, in->rcx))
		return TDX_OPERAND_INVALID | O_RCX;
	o_walk(o, in->rcx, 0);
	return o->entry->state == O_MAPPED ? 0 : o_details(o, TDX_EPT_ENTRY_NOT_PRESENT);
}

/* -- sizes -- */

/* Children that are one page in 512 parts. */
static inline bool o_uniform(const struct oracle *o)
{
	const struct o_entry *c = o->entry->child;
	uint64_t step = o_size(o->level - 1);

	if ((c[0].state != O_MAPPED && c[0].state != O_PENDING) ||
	    c[0].hpa & (o_size(o->level) - 1))
		return false;
	for (unsigned int i = 1; i < 512; i++) {
		if (c[i].state != c[0].state || c[i].hpa != c[0].hpa + i * step)
			return false;
		/* Whether there are aliases is part of the entry; what they allow is looked at
		 * later. */
		for (unsigned int vm = 1; vm < 4; vm++)
			if (!c[i].attributes[vm] != !c[0].attributes[vm])
				return false;
	}
	return true;
}

static inline uint64_t o_promote_l2(struct oracle *o)
{
	const struct o_entry *c = o->entry->child;

	for (unsigned int vm = 1; vm <= o->kind.nr_l2; vm++) {
		if (!o->entry->l2_table[vm])
			continue;
		for (unsigned int i = 1; i < 512; i++)
			if (c[i].attributes[vm] != c[0].attributes[vm])
				return o_details(o, TDX_EPT_INVALID_PROMOTE_CONDITIONS);
		if (o_poll(o))
			return TDX_INTERRUPTED_RESTARTABLE;
	}
	return 0;
}

static inline uint64_t o_promote_check(struct oracle *o, const struct tdx_regs *in)
{
	uint64_t status = o_check_tracked(o);

	if (status)
		return status;
	if (!o_uniform(o))
		return o_details(o, TDX_EPT_INVALID_PROMOTE_CONDITIONS);
	status = o_poll(o) ? TDX_INTERRUPTED_RESTARTABLE : o_promote_l2(o);
	if (status == TDX_INTERRUPTED_RESTARTABLE) {
		o->regs.rcx = in->rcx;
		o->regs.rdx = in->rdx;
	}
	return status;
}

static inline uint64_t o_page_promote(struct oracle *o, const struct tdx_regs *in,
				      unsigned int version)
{
	struct o_entry leaf;
	uint64_t status;

	if (version > 1)
		return TDX_OPERAND_INVALID;
	status = o_begin(o, in, 0, 1, 2, O_TABLES);
	if (!status)
		status = o_promote_check(o, in);
	if (status)
		return status;
	leaf = o->entry->child[0];
	leaf.accepted = 0;
	for (unsigned int i = 0; i < 512; i++)
		o_page(o, leaf.hpa, o->level - 1)[i].pt = TDX_PT_NDA;
	o_page(o, leaf.hpa, o->level)->pt = TDX_PT_REG;
	o_page(o, leaf.hpa, o->level)->owner = WORLD_TDR;
	o_drop_table(o, version);
	*o->entry = leaf;
	return 0;
}

static inline uint64_t o_demote_pages(struct oracle *o, const struct tdx_regs *in, bool *l2)
{
	uint64_t status = o_take_free(o, in->r8, O_R8);

	for (unsigned int vm = 1; vm <= o->kind.nr_l2 && !status; vm++) {
		uint64_t page = in->gpr[8 + vm];
		bool aliased = o->entry->attributes[vm];

		if (aliased && page == TDX_NULL_PA)
			return TDX_L2_SEPT_PAGE_NOT_PROVIDED | (8 + vm);
		if (page == TDX_NULL_PA || (in->rdx & 1 && !aliased) ||
		    o_l2_ends(o, vm, o->level) >= 0)
			continue;
		l2[vm] = true;
		status = o_take_free(o, page, 8 + vm);
	}
	return status;
}

static inline void o_split(struct oracle *o, const struct tdx_regs *in, const bool *l2)
{
	struct o_entry leaf = *o->entry, *table = o_new_table();
	uint64_t step = o_size(o->level - 1);

	o_unblock_entry(&leaf);
	leaf.accepted = 0;
	for (unsigned int i = 0; i < 512; i++) {
		table[i] = leaf;
		table[i].hpa = leaf.hpa + i * step;
		o_give(o, table[i].hpa, o->level - 1, TDX_PT_REG);
	}
	o_page(o, leaf.hpa, o->level)->pt = TDX_PT_NDA;
	*o->entry = (struct o_entry){.state = O_TABLE, .hpa = in->r8, .child = table};
	/* The epoch of a page that becomes a table this way is left as it was. */
	o_page(o, in->r8, 0)->pt = TDX_PT_EPT;
	o_page(o, in->r8, 0)->owner = WORLD_TDR;
	for (unsigned int vm = 1; vm <= o->kind.nr_l2; vm++) {
		uint64_t page = in->gpr[8 + vm];

		if (!l2[vm]) {
			o->regs.gpr[8 + vm] |= 1ull << 63;
			continue;
		}
		o->entry->l2_table[vm] = page;
		o_page(o, page, 0)->pt = TDX_PT_EPT;
		o_page(o, page, 0)->owner = WORLD_TDR;
	}
}

static inline uint64_t o_page_demote(struct oracle *o, const struct tdx_regs *in)
{
	bool l2[4] = {true};
	uint64_t status = o_begin(o, in, 1, 1, 2, O_LEAVES);

	if (!status)
		status = o_check_tracked(o);
	if (!status)
		status = o_demote_pages(o, in, l2);
	for (unsigned int vm = 0; vm < 4 && !status; vm++)
		if (l2[vm] && o_poll(o)) {
			o->regs.rcx = in->rcx;
			o->regs.rdx = in->rdx;
			status = TDX_INTERRUPTED_RESTARTABLE;
		}
	if (!status)
		o_split(o, in, l2);
	return status;
}

/* -- blocking -- */

static inline uint64_t o_range_block(struct oracle *o, const struct tdx_regs *in)
{
	uint64_t status = o_begin(o, in, 0, 0, 4,
				  O_STATES(O_TABLE) | O_STATES(O_MAPPED) | O_STATES(O_PENDING));

	if (status == (TDX_EPT_ENTRY_STATE_INCORRECT | O_RCX) && o_blocked(o->entry))
		return TDX_GPA_RANGE_ALREADY_BLOCKED | O_RCX;
	if (status)
		return status;
	o->entry->state = o->entry->state == O_TABLE	? O_TABLE_BLOCKED
			  : o->entry->state == O_MAPPED ? O_BLOCKED
							: O_PENDING_BLOCKED;
	o->entry->accepted = 0;
	*o_bepoch(o) = o->epoch;
	return 0;
}

static inline uint64_t o_range_unblock(struct oracle *o, const struct tdx_regs *in)
{
	uint64_t status = o_begin(o, in, 0, 0, 4,
				  O_STATES(O_TABLE_BLOCKED) | O_STATES(O_BLOCKED) |
					  O_STATES(O_PENDING_BLOCKED));

	if (status)
		return status;
	if (o->kind.runnable && !o_tracked(o, *o_bepoch(o)))
		return TDX_TLB_TRACKING_NOT_DONE | TDX_OPERAND_SEPT_TREE;
	o_unblock_entry(o->entry);
	return 0;
}

static inline uint64_t o_track(struct oracle *o, const struct tdx_regs *in)
{
	uint64_t status = o_take_page(o, in->rcx, O_RCX, TDX_PT_TDR, false);

	if (status)
		return status;
	if (o->inside[(o->epoch - 1) & 1])
		return TDX_PREVIOUS_TLB_EPOCH_BUSY;
	o->epoch++;
	return 0;
}

/* -- physical pages -- */

static inline uint64_t o_find_page(struct oracle *o, uint64_t hpa, bool exclusive,
				   unsigned int *level)
{
	uint64_t status = o_form(hpa, WORLD_PAGE, O_RCX);

	return status ? status : o_walk_pages(o, hpa, O_RCX, exclusive, 0, level);
}

static inline uint64_t o_rdmd(struct oracle *o, const struct tdx_regs *in)
{
	const struct o_page *page;
	unsigned int level;
	uint64_t status;

	o->regs.r8 = o->regs.r9 = o->regs.r10 = o->regs.r11 = 0;
	status = o_find_page(o, in->rcx, false, &level);
	if (status)
		return status;
	page = o_page(o, in->rcx, level);
	o->regs.rcx = page->pt;
	o->regs.rdx = page->owner;
	o->regs.r8 = level;
	o->regs.r9 = page->pt == TDX_PT_REG || page->pt == TDX_PT_EPT ? page->bepoch : 0;
	return 0;
}

/* Of a TD that lives: never done. */
static inline uint64_t o_reclaim(struct oracle *o, const struct tdx_regs *in)
{
	const struct o_page *page;
	unsigned int level;
	uint64_t status;

	o->regs.r8 = 0;
	status = o_find_page(o, in->rcx, true, &level);
	if (status)
		return status;
	page = o_page(o, in->rcx, level);
	if (page->pt == TDX_PT_NDA)
		return TDX_PAGE_METADATA_INCORRECT | O_RCX;
	o->regs.rcx = page->pt;
	o->regs.rdx = page->owner;
	o->regs.r8 = level;
	if (in->rcx & (o_size(level) - 1))
		return TDX_OPERAND_INVALID | O_RCX;
	return TDX_LIFECYCLE_STATE_INCORRECT;
}

static inline uint64_t o_wbinvd(struct oracle *o, const struct tdx_regs *in)
{
	return o_take_page(o, in->rcx & ~(0x3full << 46), O_RCX, TDX_PT_NDA, false);
}

/* -- vCPUs -- */

static inline struct o_vcpu *o_on(struct oracle *o, unsigned int lp)
{
	for (unsigned int i = 0; i < 4; i++)
		if (o->vcpu[i].running && o->vcpu[i].lp == (int)lp)
			return &o->vcpu[i];
	return NULL;
}

static inline struct o_vcpu *o_vcpu_of(struct oracle *o, uint64_t tdvpr)
{
	for (unsigned int i = 0; i < o->kind.nr_vcpus; i++)
		if (o->vcpu[i].tdvpr == tdvpr)
			return &o->vcpu[i];
	return NULL;
}

/* The first GPA on the list that still faults. */
static inline bool o_held_back(struct oracle *o, const struct o_vcpu *vcpu)
{
	for (unsigned int i = 0; i < vcpu->nr_gpas; i++) {
		o_walk(o, vcpu->gpa[i], 0);
		if (o->entry->state == O_MAPPED)
			continue;
		o->regs = (struct tdx_regs){.rcx = 2, .r8 = vcpu->gpa[i]};
		return true;
	}
	return false;
}

static inline uint64_t o_enter(struct oracle *o, const struct tdx_regs *in)
{
	uint64_t status = o_take_page(o, in->rcx & ~(3ull << 52), O_RCX, TDX_PT_TDVPR, false);
	struct o_vcpu *vcpu;

	if (status)
		return status;
	if (!o->kind.runnable)
		return TDX_OP_STATE_INCORRECT;
	vcpu = o_vcpu_of(o, in->rcx & ~(3ull << 52));
	if (vcpu->running)
		return TDX_VCPU_STATE_INCORRECT;
	if (vcpu->lp >= 0 && vcpu->lp != (int)o->lp)
		return TDX_VCPU_ASSOCIATED;
	vcpu->lp = (int)o->lp;
	/* No exit here is trap-like, and no L2 VM ever ran. */
	if (in->rcx >> 52)
		return TDX_OPERAND_INVALID | O_RCX;
	vcpu->epoch = o->epoch;
	if (o_held_back(o, vcpu))
		return TDX_EXIT_EPT_VIOLATION;
	vcpu->running = true;
	o->inside[o->epoch & 1]++;
	return 0;
}

static inline uint64_t o_flush(struct oracle *o, const struct tdx_regs *in)
{
	uint64_t status = o_take_page(o, in->rcx, O_RCX, TDX_PT_TDVPR, true);
	struct o_vcpu *vcpu;

	if (status)
		return status;
	vcpu = o_vcpu_of(o, in->rcx);
	if (vcpu->lp != (int)o->lp)
		return TDX_VCPU_NOT_ASSOCIATED;
	vcpu->lp = -1;
	return 0;
}

/* The guest leaves; @regs is what the host sees. */
static inline uint64_t o_exit(struct oracle *o, const struct tdx_regs *regs)
{
	struct o_vcpu *vcpu = o_on(o, o->lp);

	if (vcpu->rip != vcpu->last_rip)
		vcpu->nr_faults = vcpu->nr_gpas = 0;
	vcpu->last_rip = vcpu->rip;
	vcpu->running = false;
	o->inside[vcpu->epoch & 1]--;
	o->exits = true;
	o->regs = *regs;
	return regs->rax;
}

static inline void o_suspect(struct o_vcpu *vcpu, uint64_t gpa)
{
	if (vcpu->rip != vcpu->last_rip)
		vcpu->nr_faults = vcpu->nr_gpas = 0;
	vcpu->last_rip = vcpu->rip;
	if (vcpu->nr_faults < 6) {
		vcpu->nr_faults++;
		return;
	}
	for (unsigned int i = 0; i < vcpu->nr_gpas; i++)
		if (vcpu->gpa[i] == gpa)
			return;
	if (vcpu->nr_gpas < 32)
		vcpu->gpa[vcpu->nr_gpas++] = gpa;
}

static inline void o_violation(struct oracle *o, uint64_t gpa, uint64_t qualification,
			       uint64_t extended)
{
	const struct tdx_regs regs = {.rax = TDX_EXIT_EPT_VIOLATION,
				      .rcx = qualification & ~0x1f80ull,
				      .rdx = extended,
				      .r8 = gpa & ~0xfffull};

	o_exit(o, &regs);
}

static inline void o_fault(struct oracle *o, uint64_t gpa, uint64_t qualification)
{
	struct o_vcpu *vcpu = o_on(o, o->lp);
	bool pending;

	if (gpa >> o->gpa_width && qualification & 0x80) {
		o->vector = 14;
		return;
	}
	if (gpa >> (o->gpa_width - 1) & 1) {
		o_violation(o, gpa, qualification, 0);
		return;
	}
	o_walk(o, gpa, 0);
	pending = o->entry->state == O_PENDING;
	if (pending && !o->ve_disable) {
		o->vector = vcpu->ve ? 8 : 20;
		vcpu->ve = true;
		return;
	}
	o_suspect(vcpu, gpa & ~0xfffull);
	o_violation(o, gpa, qualification, pending ? 6 : 0);
}

/* -- the guest's calls -- */

/* A page that the guest asks for isn't there: what it asked and what stood there go to the host. */
static inline uint64_t o_refer(struct oracle *o, unsigned int asked, unsigned int type)
{
	uint64_t info =
		asked | o->level << 3 | o_public(o->entry) << 6 | (uint64_t)o_leaf(o->entry) << 14;
	uint64_t rwx = o->entry->state == O_MAPPED || o->entry->state == O_TABLE ? 7 : 0;

	o_violation(o, o->gpa, 2 | rwx << 3, type | info << 32);
	return 0;
}

static inline bool o_accept_large(struct oracle *o)
{
	while (o->entry->accepted < 512) {
		o->entry->accepted++;
		if (o->entry->accepted < 512 && o_poll(o))
			return false;
	}
	return true;
}

static inline uint64_t o_accept(struct oracle *o, const struct tdx_regs *in)
{
	unsigned int asked;

	if (!o_page_info(o, in->rcx, 0, 1))
		return TDX_OPERAND_INVALID | O_RCX;
	asked = o->goal;
	if (!o_walk(o, o->gpa, asked)) {
		if (o->entry->state == O_MAPPED)
			return TDX_PAGE_ALREADY_ACCEPTED | o->level;
		return o_refer(o, asked, 1);
	}
	if (o->entry->state == O_TABLE || o->entry->state == O_TABLE_BLOCKED)
		return TDX_PAGE_SIZE_MISMATCH | asked;
	if (o->entry->state == O_MAPPED)
		return TDX_PAGE_ALREADY_ACCEPTED | asked;
	if (o->entry->state != O_PENDING)
		return o_refer(o, asked, 1);
	if (asked && !o_accept_large(o)) {
		o->again = true;
		return 0;
	}
	o->entry->accepted = 0;
	o->entry->state = O_MAPPED;
	return 0;
}

static inline void o_report(struct oracle *o)
{
	o->regs.rcx = (o->gpa & ~(o_size(o->level) - 1)) | o->level |
		      (o_pending(o->entry) ? 1ull << 62 : 0);
	o->regs.rdx = o_all_attributes(o->entry);
}

static inline uint64_t o_attr_rd(struct oracle *o, const struct tdx_regs *in)
{
	o->regs.rcx = o->regs.rdx = 0;
	o->gpa = in->rcx & ~0xfffull;
	if (!o_private(o, o->gpa))
		return TDX_OPERAND_INVALID | O_RCX;
	o_walk(o, o->gpa, 0);
	if (o->entry->state != O_MAPPED && o->entry->state != O_PENDING) {
		o_violation(o, o->gpa, 0, 0);
		return 0;
	}
	o_report(o);
	return 0;
}

static inline bool o_legal(uint16_t a)
{
	return !(a & 0x7f80) && (a & 1 || !(a & (2 | 32)));
}

static inline uint64_t o_attr_words(const struct oracle *o, const struct tdx_regs *in)
{
	for (unsigned int vm = 0; vm < 4; vm++) {
		uint16_t a = (uint16_t)(in->rdx >> 16 * vm), mask = (uint16_t)(in->r8 >> 16 * vm);
		bool exists = vm && vm <= o->kind.nr_l2;

		if (a && (!exists || !(a & 0x8000)))
			return TDX_OPERAND_INVALID | O_RDX;
		if (mask && !exists)
			return TDX_OPERAND_INVALID | O_R8;
	}
	return 0;
}

static inline uint64_t o_attr_check(const struct oracle *o, const struct tdx_regs *in,
				    uint16_t *wanted)
{
	for (unsigned int vm = 1; vm < 4; vm++) {
		uint16_t a = (uint16_t)(in->rdx >> 16 * vm), mask = in->r8 >> 16 * vm & 0xff;
		int end;

		wanted[vm] = o->entry->attributes[vm];
		if (!(a & 0x8000))
			continue;
		a &= 0x7fff;
		if (!o_legal(a))
			return TDX_PAGE_ATTR_INVALID;
		end = o_l2_ends(o, vm, o->level);
		if (end >= 0)
			return TDX_L2_SEPT_WALK_FAILED | vm << 16 | (unsigned int)end;
		wanted[vm] = (uint16_t)((wanted[vm] & ~mask) | (a & mask));
		if (!o_legal(wanted[vm]))
			return TDX_PAGE_ATTR_INVALID;
	}
	return 0;
}

static inline uint64_t o_attr_wr(struct oracle *o, const struct tdx_regs *in)
{
	uint16_t wanted[4];
	uint64_t status = o_attr_words(o, in);
	unsigned int asked;

	o->regs.rcx = o->regs.rdx = 0;
	if (status)
		return status;
	if (!o_page_info(o, in->rcx, 0, 2))
		return TDX_OPERAND_INVALID | O_RCX;
	asked = o->goal;
	if (!o_walk(o, o->gpa, asked))
		return o_refer(o, asked, 5);
	if (o->entry->state == O_TABLE || o->entry->state == O_TABLE_BLOCKED)
		return TDX_PAGE_SIZE_MISMATCH | asked;
	if (o->entry->state != O_MAPPED && o->entry->state != O_PENDING)
		return o_refer(o, asked, 5);
	status = o_attr_check(o, in, wanted);
	if (!status)
		memcpy(o->entry->attributes, wanted, sizeof(wanted[0]) * 4);
	o->entry->attributes[0] = 0;
	if (!status || status == TDX_PAGE_ATTR_INVALID)
		o_report(o);
	if (status)
		o->regs.rcx = 0;
	return status;
}

static inline uint64_t o_veinfo(struct oracle *o)
{
	struct o_vcpu *vcpu = o_on(o, o->lp);
	bool had = vcpu->ve;

	vcpu->ve = false;
	return had ? 0 : TDX_NO_VALID_VE_INFO;
}

/* -- one event -- */

/* Does the oracle know the call? What it doesn't know must not be played. */
static inline bool oracle_knows(const struct event *e)
{
	static const uint8_t host[] = {TDH_VP_ENTER,
				       TDH_MEM_PAGE_ADD,
				       TDH_MEM_SEPT_ADD,
				       TDH_MEM_PAGE_RELOCATE,
				       TDH_MEM_PAGE_AUG,
				       TDH_MEM_RANGE_BLOCK,
				       TDH_MEM_RD,
				       TDH_MEM_PAGE_DEMOTE,
				       TDH_VP_FLUSH,
				       TDH_MEM_PAGE_PROMOTE,
				       TDH_PHYMEM_PAGE_RDMD,
				       TDH_MEM_SEPT_RD,
				       TDH_MEM_PAGE_REMOVE,
				       TDH_PHYMEM_PAGE_RECLAIM,
				       TDH_MEM_SEPT_REMOVE,
				       TDH_MEM_TRACK,
				       TDH_MEM_RANGE_UNBLOCK,
				       TDH_PHYMEM_PAGE_WBINVD};
	uint64_t leaf = e->r[0] & 0xffff;

	if (e->kind == EV_GUEST)
		return leaf == TDG_MEM_PAGE_ACCEPT || leaf == TDG_MEM_PAGE_ATTR_RD ||
		       leaf == TDG_MEM_PAGE_ATTR_WR || leaf == TDG_VP_VEINFO_GET || leaf == 31;
	if (e->kind == EV_EXIT)
		return e->r[0] == TDX_EXIT_EPT_VIOLATION || e->r[0] == TDX_EXIT_INTERRUPT;
	if (e->kind != EV_HOST)
		return e->kind == EV_INTR || e->kind == EV_TOUCH;
	for (size_t i = 0; i < sizeof(host); i++)
		if (leaf == host[i])
			return true;
	return leaf == 200;
}

static inline uint64_t o_host_leaf(struct oracle *o, const struct tdx_regs *in,
				   unsigned int version)
{
	switch (in->rax & 0xffff) {
	case TDH_VP_ENTER:
		return o_enter(o, in);
	case TDH_VP_FLUSH:
		return o_flush(o, in);
	case TDH_MEM_TRACK:
		return o_track(o, in);
	case TDH_PHYMEM_PAGE_WBINVD:
		return o_wbinvd(o, in);
	default:
		break;
	}
	/* Outputs that are zero whatever comes. */
	o->regs.rcx = o->regs.rdx = 0;
	switch (in->rax & 0xffff) {
	case TDH_MEM_PAGE_ADD:
		return o_page_add(o, in);
	case TDH_MEM_SEPT_ADD:
		return o_sept_add(o, in, version);
	case TDH_MEM_PAGE_RELOCATE:
		return o_page_relocate(o, in);
	case TDH_MEM_PAGE_AUG:
		return o_page_aug(o, in);
	case TDH_MEM_RANGE_BLOCK:
		return o_range_block(o, in);
	case TDH_MEM_RD:
		o->regs.r8 = 0;
		return o_mem_access(o, in);
	case TDH_MEM_PAGE_DEMOTE:
		return o_page_demote(o, in);
	case TDH_MEM_PAGE_PROMOTE:
		return o_page_promote(o, in, version);
	case TDH_PHYMEM_PAGE_RDMD:
		return o_rdmd(o, in);
	case TDH_PHYMEM_PAGE_RECLAIM:
		return o_reclaim(o, in);
	case TDH_MEM_SEPT_RD:
		return o_sept_rd(o, in);
	case TDH_MEM_PAGE_REMOVE:
		return o_page_remove(o, in);
	case TDH_MEM_SEPT_REMOVE:
		return o_sept_remove(o, in, version);
	default:
		return o_range_unblock(o, in);
	}
}

static inline bool o_has_versions(uint64_t leaf)
{
	return leaf == TDH_MEM_SEPT_ADD || leaf == TDH_MEM_SEPT_REMOVE ||
	       leaf == TDH_MEM_PAGE_PROMOTE;
}

static inline uint64_t o_host(struct oracle *o, const struct tdx_regs *in)
{
	uint64_t leaf = in->rax & 0xffff, version = in->rax >> 16 & 0xff;

	if (in->rax >> 24 || leaf == 200 || (version && !o_has_versions(leaf)))
		return TDX_OPERAND_INVALID;
	return o_host_leaf(o, in, (unsigned int)version);
}

static inline uint64_t o_guest(struct oracle *o, const struct tdx_regs *in)
{
	if (in->rax >> 16)
		return TDX_OPERAND_INVALID;
	switch (in->rax) {
	case TDG_MEM_PAGE_ACCEPT:
		return o_accept(o, in);
	case TDG_MEM_PAGE_ATTR_RD:
		return o_attr_rd(o, in);
	case TDG_MEM_PAGE_ATTR_WR:
		return o_attr_wr(o, in);
	case TDG_VP_VEINFO_GET:
		return o_veinfo(o);
	default:
		return TDX_OPERAND_INVALID;
	}
}

/* What @e will come to; the oracle's TD changes as the module's must. */
static inline void oracle_play(struct oracle *o, const struct event *e)
{
	const struct tdx_regs in = {.rax = e->r[0],
				    .rcx = e->r[1],
				    .rdx = e->r[2],
				    .r8 = e->r[3],
				    .r9 = e->r[4],
				    .r10 = e->r[5],
				    .r11 = e->r[6]};
	const struct tdx_regs interrupt = {.rax = TDX_EXIT_INTERRUPT};
	uint64_t status;

	o->nr_uses = 0;
	o->exits = o->again = false;
	o->vector = 0;
	o->lp = e->lp;
	o->regs = in;
	if (e->kind == EV_HOST) {
		status = o_host(o, &in);
		o->regs.rax = status;
	} else if (e->kind == EV_GUEST) {
		status = o_guest(o, &in);
		if (!o->exits && !o->again) {
			o->regs.rax = status;
			o_on(o, e->lp)->rip += TDX_TDCALL_LENGTH;
		}
	} else {
		o_on(o, e->lp)->rip += e->r[4];
		if (e->r[0] == TDX_EXIT_INTERRUPT)
			o_exit(o, &interrupt);
		else
			o_fault(o, e->r[1], e->r[2]);
	}
}

/* -- as the world was built -- */

static inline void o_own(struct oracle *o, uint64_t hpa, uint8_t pt)
{
	*o_page(o, hpa, 0) = (struct o_page){pt, pt == TDX_PT_TDR ? 0 : WORLD_TDR, 0};
}

static inline void o_build_tables(struct oracle *o)
{
	uint64_t page = WORLD_TABLES;

	for (unsigned int level = o_root_level(o); level > 0; level--) {
		o_walk(o, 0, level);
		o_link(o, page, 0);
		page += WORLD_PAGE;
		for (unsigned int vm = 1; vm <= o->kind.nr_l2; vm++, page += WORLD_PAGE)
			o_link(o, page, vm);
	}
}

static inline struct oracle *oracle_create(const struct world_kind *kind)
{
	struct oracle *o = calloc(1, sizeof(*o));

	assert_non_null(o);
	o->kind = *kind;
	o->gpa_width = kind->flags & TDX_CONFIG_GPAW52 ? 52 : 48;
	o->ve_disable = kind->attributes & TDX_ATTR_SEPT_VE_DISABLE;
	o->epoch = 1;
	for (unsigned int level = 0; level < 3; level++) {
		o->page[level] = calloc(WORLD_SIZE / o_size(level), sizeof(struct o_page));
		assert_non_null(o->page[level]);
	}
	o->root.child = o_new_table();
	o_own(o, WORLD_TDR, TDX_PT_TDR);
	for (unsigned int i = 0; i < 6 + kind->nr_l2; i++)
		o_own(o, WORLD_TDCX + i * WORLD_PAGE, TDX_PT_TDCX);
	o_build_tables(o);
	for (unsigned int i = 0; i < kind->nr_vcpus; i++) {
		o->vcpu[i] = (struct o_vcpu){.tdvpr = WORLD_VCPU(i), .lp = -1, .rip = 0xfffffff0};
		o_own(o, WORLD_VCPU(i), TDX_PT_TDVPR);
		for (unsigned int page = 1; page < 6 + 3 * kind->nr_l2; page++)
			o_own(o, WORLD_VCPU(i) + page * WORLD_PAGE, TDX_PT_TDCX);
	}
	return o;
}

static inline void o_free_tables(struct o_entry *table)
{
	for (unsigned int i = 0; i < 512; i++)
		if (table->child[i].child)
			o_free_tables(&table->child[i]);
	free(table->child);
}

static inline void oracle_destroy(struct oracle *o)
{
	o_free_tables(&o->root);
	for (unsigned int level = 0; level < 3; level++)
		free(o->page[level]);
	free(o);
}

#endif
