/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What random hosts and guests do next in a world: mostly something that could succeed, chosen by a
 * look at the books; sometimes with one operand spoiled. TDs are built, used and taken down again.
 * Never a judgement of an answer.
 */
#ifndef TESTS_TDX_MOVES_H
#define TESTS_TDX_MOVES_H

#include "tests/tdx/world.h"

/* Steps of a plan that are no SEAMCALL. */
#define STEP_KICK   0xf0
#define STEP_PARAMS 0xf1

#define ANY_PT 0xff

#define NR_TDS	 3
#define NR_VCPUS 2

/* What its makers know of a TD beside the module. */
struct world_td {
	uint64_t tdr;	/* 0: none */
	uint8_t levels; /* as it is to be built */
	bool wide;	/* 52-bit GPAs */
	uint8_t nr_l2;
	uint64_t tdvpr[NR_VCPUS]; /* 0: none */
	uint8_t nr_tdvps[NR_VCPUS];
	unsigned int age, life; /* in events; then it is taken down */
	struct {
		uint8_t leaf, level;
		uint64_t gpa;
	} plan[8];
	unsigned int next_step, nr_steps;
	unsigned int giant; /* the next 2 MiB of a GiB that is being built, from 1; 0: none */
};

struct moves {
	struct world *w;
	struct rng rng;
	struct world_td td[NR_TDS];
	bool life;   /* TDs come and go */
	bool one_lp; /* processor @lp alone: the others belong to other threads */
	unsigned int lp;
	bool only_guests; /* no host beside what lets a vCPU in */
	/* A guest that does nothing but fault at one place, for so many times. */
	unsigned int stubborn[WORLD_NR_LPS];
	struct event fault[WORLD_NR_LPS];
	unsigned int spoil; /* one event in so many is spoiled; 0: none */
};

/* -- looking -- */

/* Type of the page at @hpa, at whichever size its metadata are. */
static inline uint8_t page_type(struct world *w, uint64_t hpa, struct tdx_pamt_view *view)
{
	for (unsigned int level = 2; level > 0; level--)
		if (!tdx_module_view_pamt(w->module, hpa, level, view) && view->pt == TDX_PT_REG)
			return view->pt;
	if (tdx_module_view_pamt(w->module, hpa, 0, view))
		return TDX_PT_RSVD;
	return view->pt;
}

/* Small pages are taken from the first half of the window, so that large ones find a place. */
#define NR_SMALL (WORLD_NR_PAGES / 2)

static inline uint64_t random_page(struct rng *rng)
{
	return WORLD_BASE + WORLD_PAGE * rng_below(rng, WORLD_NR_PAGES);
}

/* A free page, or any page if luck is against it. */
static inline uint64_t pick_free(struct moves *m)
{
	uint64_t hpa = 0;

	for (unsigned int i = 0; i < 32; i++) {
		struct tdx_pamt_view view;

		hpa = WORLD_BASE + WORLD_PAGE * rng_below(&m->rng, NR_SMALL);
		if (page_type(m->w, hpa, &view) == TDX_PT_NDA)
			break;
	}
	return hpa;
}

static inline uint64_t pick_2m(struct moves *m)
{
	unsigned int half = WORLD_WINDOW / WORLD_2M / 2;

	return WORLD_BASE + WORLD_2M * (half + rng_below(&m->rng, half));
}

static inline struct world_td *td_named(struct moves *m, uint64_t tdr)
{
	for (unsigned int i = 0; i < NR_TDS; i++)
		if (m->td[i].tdr && m->td[i].tdr == tdr)
			return &m->td[i];
	return NULL;
}

/* GPAs: two places far apart, one at the end of the TD's private memory. */
static inline uint64_t random_gpa(struct rng *rng, unsigned int gpa_width)
{
	uint64_t place = rng_below(rng, 3) ? 0 : (1ull << (gpa_width - 1)) - 2 * WORLD_1G;

	return place + WORLD_2M * rng_below(rng, 3) + WORLD_PAGE * rng_below(rng, 5);
}

static inline uint64_t gpa_at(uint64_t gpa, unsigned int level)
{
	return gpa & ~((WORLD_PAGE << 9 * level) - 1);
}

/* -- one host call -- */

static inline void fill_l2_pages(struct moves *m, const struct world_td *td, struct event *e)
{
	for (unsigned int vm = 1; vm <= 3; vm++)
		e->r[3 + vm] =
			vm <= td->nr_l2 && rng_below(&m->rng, 4) ? pick_free(m) : TDX_NULL_PA;
}

static inline void fill_sept_add(struct moves *m, const struct world_td *td, struct event *e)
{
	if (td->nr_l2 || rng_one_in(&m->rng, 4)) {
		e->r[0] |= 1ull << TDX_RAX_VERSION_SHIFT;
		fill_l2_pages(m, td, e);
		if (rng_one_in(&m->rng, 6))
			e->r[3] = TDX_NULL_PA;
	}
	if (rng_one_in(&m->rng, 3))
		e->r[2] |= TDX_SEPT_ADD_ALLOW_EXISTING;
}

/* The operands beside RCX and RDX. */
static inline void fill_operands(struct moves *m, const struct world_td *td, unsigned int level,
				 struct event *e)
{
	struct tdx_sept_view sept;

	e->r[3] = pick_free(m);
	switch (e->r[0]) {
	case TDH_MEM_SEPT_ADD:
		fill_sept_add(m, td, e);
		break;
	case TDH_MEM_PAGE_AUG:
		if (level == 1)
			e->r[3] = pick_2m(m);
		break;
	case TDH_MEM_PAGE_RELOCATE:
		if (rng_one_in(&m->rng, 8) &&
		    !tdx_module_view_sept(m->w->module, td->tdr, e->r[1], level, 0, &sept))
			e->r[3] = sept.raw & 0x000ffffffffff000ull;
		break;
	case TDH_MEM_PAGE_ADD:
		e->r[4] = WORLD_SOURCE;
		break;
	case TDH_MEM_PAGE_DEMOTE:
		fill_l2_pages(m, td, e);
		e->r[2] |= rng_below(&m->rng, 2) ? TDX_DEMOTE_L2_SPARSE : 0;
		break;
	case TDH_MEM_SEPT_REMOVE:
	case TDH_MEM_PAGE_PROMOTE:
		e->r[0] |= (uint64_t)rng_below(&m->rng, 2) << TDX_RAX_VERSION_SHIFT;
		break;
	default:
		break;
	}
}

/* A leaf on a GPA. */
static inline void memory_call(struct moves *m, const struct world_td *td, unsigned int leaf,
			       uint64_t gpa, unsigned int level, struct event *e)
{
	*e = (struct event){.kind = EV_HOST, .r = {leaf, gpa_at(gpa, level) | level, td->tdr}};
	fill_operands(m, td, level, e);
	if (leaf == TDH_MEM_TRACK)
		e->r[1] = td->tdr;
	if (leaf == TDH_MEM_RD || leaf == TDH_MEM_WR)
		e->r[1] = gpa + 8ull * rng_below(&m->rng, 512);
	if (leaf == TDH_MR_EXTEND)
		e->r[1] = gpa + 256ull * rng_below(&m->rng, 16);
}

static inline void plan(struct world_td *td, unsigned int leaf, uint64_t gpa, unsigned int level)
{
	if (td->next_step == td->nr_steps)
		td->next_step = td->nr_steps = 0;
	if (td->nr_steps == sizeof(td->plan) / sizeof(td->plan[0]))
		return;
	td->plan[td->nr_steps].leaf = (uint8_t)leaf;
	td->plan[td->nr_steps].level = (uint8_t)level;
	td->plan[td->nr_steps++].gpa = gpa;
}

/* What a host that knows its trade does before it takes an entry away. */
static inline void plan_blocked(struct moves *m, struct world_td *td, uint64_t gpa,
				unsigned int level, bool blocked)
{
	if (!blocked)
		plan(td, TDH_MEM_RANGE_BLOCK, gpa, level);
	if (rng_below(&m->rng, 12))
		plan(td, TDH_MEM_TRACK, gpa, level);
	if (rng_below(&m->rng, 12))
		plan(td, STEP_KICK, gpa, level);
}

static inline void plan_leaf(struct moves *m, struct world_td *td, uint64_t gpa, unsigned int level,
			     bool blocked, bool runnable)
{
	static const uint8_t ends[] = {TDH_MEM_PAGE_REMOVE, TDH_MEM_PAGE_REMOVE,
				       TDH_MEM_RANGE_UNBLOCK, TDH_MEM_PAGE_RELOCATE};
	static const uint8_t looks[] = {TDH_MEM_SEPT_RD,     TDH_MEM_RD,       TDH_MEM_WR,
					TDH_MEM_RANGE_BLOCK, TDH_MEM_PAGE_AUG, TDH_MEM_PAGE_REMOVE};

	if (!runnable && rng_below(&m->rng, 2)) {
		plan(td, TDH_MR_EXTEND, gpa, level);
		return;
	}
	if (rng_one_in(&m->rng, 4)) {
		plan(td, looks[rng_below(&m->rng, sizeof(looks))], gpa, level);
		return;
	}
	plan_blocked(m, td, gpa, level, blocked);
	if (level == 0 || rng_one_in(&m->rng, 3)) {
		plan(td, ends[rng_below(&m->rng, sizeof(ends))], gpa, level);
		return;
	}
	plan(td, TDH_MEM_PAGE_DEMOTE, gpa, level);
	/* What was just split is still whole: merge it again, now and then. */
	if (rng_below(&m->rng, 2)) {
		plan_blocked(m, td, gpa, level, false);
		plan(td, TDH_MEM_PAGE_PROMOTE, gpa, level);
	}
}

static inline bool table_empty(struct world *w, uint64_t table)
{
	const uint64_t *words = world_page(w, table);

	for (unsigned int i = 0; words && i < 512; i++)
		if (__atomic_load_n(&words[i], __ATOMIC_SEQ_CST) != 0x80e0000000000000ull)
			return false;
	return true;
}

static inline void plan_table(struct moves *m, struct world_td *td, uint64_t gpa,
			      unsigned int level, bool blocked, bool empty)
{
	static const uint8_t ends[] = {TDH_MEM_SEPT_REMOVE, TDH_MEM_PAGE_PROMOTE,
				       TDH_MEM_RANGE_UNBLOCK, TDH_MEM_SEPT_REMOVE};

	if (!blocked && !empty && rng_below(&m->rng, 2)) {
		plan(td, rng_below(&m->rng, 3) ? TDH_MEM_SEPT_ADD : TDH_MEM_SEPT_RD, gpa, level);
		return;
	}
	plan_blocked(m, td, gpa, level, blocked);
	plan(td, ends[rng_below(&m->rng, sizeof(ends))], gpa, level);
}

/* A page with content, and its content measured. */
static inline void plan_build(struct world_td *td, uint64_t gpa)
{
	plan(td, TDH_MEM_PAGE_ADD, gpa, 0);
	plan(td, TDH_MR_EXTEND, gpa, 0);
}

static inline void plan_free(struct moves *m, struct world_td *td, uint64_t gpa, unsigned int level,
			     bool runnable)
{
	if (level == 0 && runnable)
		plan(td, TDH_MEM_PAGE_AUG, gpa, 0);
	else if (level == 0)
		plan_build(td, gpa);
	else if (level == 1 && rng_below(&m->rng, 4))
		plan(td, TDH_MEM_PAGE_AUG, gpa, 1);
	else
		plan(td, TDH_MEM_SEPT_ADD, gpa, level);
}

/* Look down the tree at some GPA and do something about what is there. */
static inline void plan_memory(struct moves *m, struct world_td *td, const struct tdx_td_view *view)
{
	uint64_t gpa = random_gpa(&m->rng, view->gpa_width);

	for (int level = (int)view->sept_levels - 1; level >= 0; level--) {
		unsigned int l = (unsigned int)level;
		struct tdx_sept_view sept;
		bool empty;

		if (tdx_module_view_sept(m->w->module, td->tdr, gpa, l, 0, &sept))
			return;
		empty = sept.state == TDX_SEPT_NL_MAPPED &&
			table_empty(m->w, sept.raw & 0x000ffffffffff000ull);
		if (sept.state == TDX_SEPT_NL_MAPPED && rng_below(&m->rng, empty ? 2 : 16 * l))
			continue;
		if (sept.state == TDX_SEPT_NL_MAPPED || sept.state == TDX_SEPT_NL_BLOCKED)
			plan_table(m, td, gpa, l, sept.state == TDX_SEPT_NL_BLOCKED, empty);
		else if (sept.state == TDX_SEPT_FREE)
			plan_free(m, td, gpa, l, view->op_state == 2);
		else
			plan_leaf(m, td, gpa, l,
				  sept.state == TDX_SEPT_BLOCKED ||
					  sept.state == TDX_SEPT_PENDING_BLOCKED,
				  view->op_state == 2);
		return;
	}
}

/* -- a TD's life -- */

static inline int lp_that_runs(struct moves *m, uint64_t tdr)
{
	struct world *w = m->w;

	if (m->one_lp) {
		for (unsigned int lp = 0; lp < WORLD_NR_LPS; lp++)
			atomic_store(&w->kicked[lp], true);
		return tdx_module_running_vcpu(w->module, m->lp) ? (int)m->lp : -1;
	}
	for (unsigned int lp = 0; lp < WORLD_NR_LPS; lp++) {
		struct tdx_vcpu_view vcpu;
		uint64_t tdvpr = tdx_module_running_vcpu(w->module, lp);

		if (tdvpr && !tdx_module_view_vcpu(w->module, tdvpr, &vcpu) && vcpu.tdr == tdr)
			return (int)lp;
	}
	return -1;
}

static inline void kick(unsigned int lp, struct event *e)
{
	*e = (struct event){.kind = EV_EXIT, .lp = (uint8_t)lp, .r = {TDX_EXIT_INTERRUPT}};
}

static inline void params_event(struct moves *m, const struct world_td *td, struct event *e)
{
	*e = (struct event){
		.kind = EV_PARAMS,
		.r = {rng_below(&m->rng, 2) ? TDX_ATTR_DEBUG : 0,
		      (td->wide ? TDX_CONFIG_GPAW52 : 0) | TDX_CONFIG_FLEXIBLE_PENDING_VE,
		      td->levels - 1u, NR_VCPUS, td->nr_l2},
	};
	if (rng_one_in(&m->rng, 3))
		e->r[0] |= TDX_ATTR_SEPT_VE_DISABLE;
	if (rng_one_in(&m->rng, 8))
		e->r[rng_below(&m->rng, 5)] ^= 1ull << rng_below(&m->rng, 4);
}

/* The next step of the plan. False: it is done. */
static inline bool plan_step(struct moves *m, struct world_td *td, struct event *e)
{
	if (td->next_step == td->nr_steps)
		return false;
	if (td->plan[td->next_step].leaf == STEP_KICK) {
		int lp = lp_that_runs(m, td->tdr);

		if (lp >= 0) {
			kick((unsigned int)lp, e);
			return true;
		}
		td->next_step++;
		return plan_step(m, td, e);
	}
	if (td->plan[td->next_step].leaf == STEP_PARAMS)
		params_event(m, td, e);
	else
		memory_call(m, td, td->plan[td->next_step].leaf, td->plan[td->next_step].gpa,
			    td->plan[td->next_step].level, e);
	td->next_step++;
	return true;
}

static inline void begin_td(struct moves *m, struct world_td *td, struct event *e)
{
	*td = (struct world_td){
		.levels = rng_below(&m->rng, 2) ? 4 : 5,
		.nr_l2 = (uint8_t)(rng_below(&m->rng, 2) ? 0 : rng_below(&m->rng, 4)),
		.life = 200 + rng_below(&m->rng, 6000),
	};
	td->wide = td->levels == 5 && rng_below(&m->rng, 2);
	*e = (struct event){
		.kind = EV_HOST,
		.r = {TDH_MNG_CREATE, pick_free(m), WORLD_HKID + rng_below(&m->rng, 2 * NR_TDS)}};
}

static inline void build_tdcs(struct moves *m, struct world_td *td, const struct tdx_td_view *view,
			      struct event *e)
{
	if (view->lifecycle == 0) {
		*e = (struct event){.kind = EV_HOST, .r = {TDH_MNG_KEY_CONFIG, td->tdr}};
	} else if (view->num_tdcx < 6u + td->nr_l2) {
		*e = (struct event){.kind = EV_HOST, .r = {TDH_MNG_ADDCX, pick_free(m), td->tdr}};
	} else {
		params_event(m, td, e);
		/* The parameters now, the call next time. */
		plan(td, TDH_MNG_INIT, 0, 0);
	}
}

static inline void build_vcpu(struct moves *m, struct world_td *td, unsigned int i, struct event *e)
{
	*e = (struct event){.kind = EV_HOST};
	if (!td->tdvpr[i]) {
		e->r[0] = TDH_VP_CREATE;
		e->r[1] = pick_free(m);
		e->r[2] = td->tdr;
	} else if (td->nr_tdvps[i] < 6 + 3 * td->nr_l2) {
		e->r[0] = TDH_VP_ADDCX;
		e->r[1] = pick_free(m);
		e->r[2] = td->tdvpr[i];
	} else {
		e->r[0] = TDH_VP_INIT;
		e->r[1] = td->tdvpr[i];
		e->lp = (uint8_t)rng_below(&m->rng, WORLD_NR_LPS);
	}
}

/* A vCPU that is not whole yet; -1: none. */
static inline int vcpu_to_build(struct world *w, const struct world_td *td)
{
	for (int i = 0; i < NR_VCPUS; i++) {
		struct tdx_vcpu_view view;

		if (!td->tdvpr[i] || tdx_module_view_vcpu(w->module, td->tdvpr[i], &view) ||
		    view.state == 0)
			return i;
	}
	return -1;
}

static inline void build_initialized(struct moves *m, struct world_td *td,
				     const struct tdx_td_view *view, struct event *e)
{
	int vcpu = vcpu_to_build(m->w, td);

	if (rng_below(&m->rng, vcpu < 0 ? 60 : 2)) {
		plan_memory(m, td, view);
		if (plan_step(m, td, e))
			return;
	}
	if (vcpu >= 0 && rng_below(&m->rng, 40))
		build_vcpu(m, td, (unsigned int)vcpu, e);
	else
		*e = (struct event){.kind = EV_HOST, .r = {TDH_MR_FINALIZE, td->tdr}};
}

/* A page of @tdr of type @pt, its start at whichever size; 0: none. */
static inline uint64_t owned_page(struct world *w, uint64_t tdr, uint8_t pt)
{
	for (uint64_t hpa = WORLD_BASE; hpa < WORLD_BASE + WORLD_SIZE;) {
		struct tdx_pamt_view view;

		if ((pt == ANY_PT || pt == TDX_PT_REG) &&
		    !tdx_module_view_pamt(w->module, hpa, hpa & (WORLD_1G - 1) ? 1 : 2, &view) &&
		    view.pt == TDX_PT_REG && view.owner == tdr)
			return hpa;
		if (!(hpa & (WORLD_2M - 1)) && !tdx_module_view_pamt(w->module, hpa, 1, &view) &&
		    view.pt == TDX_PT_REG && view.owner == tdr && (pt == ANY_PT || pt == view.pt))
			return hpa;
		if (hpa < WORLD_BASE + WORLD_WINDOW) {
			page_type(w, hpa, &view);
			if (view.owner == tdr && view.pt > TDX_PT_RSVD &&
			    (pt == ANY_PT || view.pt == pt))
				return hpa;
		}
		hpa += hpa < WORLD_BASE + WORLD_WINDOW ? WORLD_PAGE : WORLD_2M;
	}
	return 0;
}

static inline bool tied(struct world *w, uint64_t tdvpr, uint64_t tdr, unsigned int *lp)
{
	struct tdx_vcpu_view view;

	if (tdx_module_view_vcpu(w->module, tdvpr, &view) || view.tdr != tdr || view.assoc_lp < 0)
		return false;
	*lp = (unsigned int)view.assoc_lp;
	return true;
}

/* A vCPU of @td that is tied to a processor: its TDVPR, 0 if none. */
static inline uint64_t associated_vcpu(struct moves *m, const struct world_td *td, unsigned int *lp)
{
	for (unsigned int i = 0; i < NR_VCPUS; i++)
		if (td->tdvpr[i] && tied(m->w, td->tdvpr[i], td->tdr, lp))
			return td->tdvpr[i];
	/* One that a spoiled call made; other threads spoil nothing. */
	for (uint64_t hpa = WORLD_BASE; !m->one_lp && hpa < WORLD_BASE + WORLD_WINDOW;
	     hpa += WORLD_PAGE)
		if (tied(m->w, hpa, td->tdr, lp))
			return hpa;
	return 0;
}

static inline void flush_keys(struct moves *m, struct world_td *td, struct event *e)
{
	unsigned int lp = 0;
	uint64_t tdvpr = associated_vcpu(m, td, &lp);

	if (tdvpr && tdx_module_running_vcpu(m->w->module, lp))
		kick(lp, e);
	else if (tdvpr)
		*e = (struct event){.kind = EV_HOST, .lp = (uint8_t)lp, .r = {TDH_VP_FLUSH, tdvpr}};
	else
		*e = (struct event){.kind = EV_HOST, .r = {TDH_MNG_VPFLUSHDONE, td->tdr}};
}

static inline void take_down(struct moves *m, struct world_td *td, const struct tdx_td_view *view,
			     struct event *e)
{
	uint64_t hpa;

	*e = (struct event){.kind = EV_HOST};
	if (view->lifecycle < 2) {
		flush_keys(m, td, e);
	} else if (view->lifecycle == 2) {
		e->r[0] = rng_below(&m->rng, 2) ? TDH_PHYMEM_CACHE_WB : TDH_MNG_KEY_FREEID;
		e->r[1] = e->r[0] == TDH_MNG_KEY_FREEID ? td->tdr : rng_below(&m->rng, 2);
	} else {
		hpa = owned_page(m->w, td->tdr, ANY_PT);
		e->r[0] = TDH_PHYMEM_PAGE_RECLAIM;
		e->r[1] = hpa ? hpa : td->tdr;
	}
}

/* -- a GiB in one piece: 512 pages of 2 MiB, merged, and what one does with that -- */

#define GIANT_GPA (4 * WORLD_1G)

static inline bool giant_free(struct world *w)
{
	for (uint64_t hpa = WORLD_GIANT; hpa < WORLD_BASE + WORLD_SIZE; hpa += WORLD_2M) {
		struct tdx_pamt_view view;

		if (page_type(w, hpa, &view) != TDX_PT_NDA)
			return false;
	}
	return true;
}

static inline void giant_merge(struct moves *m, struct world_td *td)
{
	plan(td, TDH_MEM_RANGE_BLOCK, GIANT_GPA, 2);
	plan(td, TDH_MEM_TRACK, GIANT_GPA, 2);
	plan(td, STEP_KICK, GIANT_GPA, 2);
	plan(td, TDH_MEM_PAGE_PROMOTE, GIANT_GPA, 2);
	if (rng_one_in(&m->rng, 3))
		return;
	plan(td, TDH_MEM_RANGE_BLOCK, GIANT_GPA, 2);
	plan(td, TDH_MEM_TRACK, GIANT_GPA, 2);
	plan(td, STEP_KICK, GIANT_GPA, 2);
	plan(td, rng_below(&m->rng, 2) ? TDH_MEM_PAGE_DEMOTE : TDH_MEM_PAGE_REMOVE, GIANT_GPA, 2);
}

/* The next of its steps; false: there is none. */
static inline bool giant_step(struct moves *m, struct world_td *td, const struct tdx_td_view *view,
			      struct event *e)
{
	struct tdx_sept_view sept;

	if (!td->giant && m->life && rng_one_in(&m->rng, 6000) && giant_free(m->w))
		td->giant = 1;
	if (!td->giant)
		return false;
	for (unsigned int level = view->sept_levels - 1; level > 1; level--) {
		tdx_module_view_sept(m->w->module, td->tdr, GIANT_GPA, level, 0, &sept);
		if (sept.state == TDX_SEPT_NL_MAPPED)
			continue;
		td->giant = sept.state == TDX_SEPT_FREE ? td->giant : 0;
		memory_call(m, td, TDH_MEM_SEPT_ADD, GIANT_GPA, level, e);
		return true;
	}
	memory_call(m, td, TDH_MEM_PAGE_AUG, GIANT_GPA + (td->giant - 1) * WORLD_2M, 1, e);
	e->r[3] = WORLD_GIANT + (td->giant - 1) * WORLD_2M;
	if (td->giant++ == 512) {
		td->giant = 0;
		giant_merge(m, td);
	}
	return true;
}

/* The host does something for one of its TDs. */
static inline void td_move(struct moves *m, struct event *e)
{
	struct world_td *td = &m->td[rng_below(&m->rng, NR_TDS)];
	struct tdx_td_view view;

	/* Five hundred calls for one page: get on with it. */
	for (unsigned int i = 0; i < NR_TDS; i++)
		if (m->td[i].giant && rng_below(&m->rng, 8))
			td = &m->td[i];
	if (!td->tdr || tdx_module_view_td(m->w->module, td->tdr, &view)) {
		begin_td(m, td, e);
		return;
	}
	td->age++;
	if (plan_step(m, td, e)) {
		if (e->r[0] == TDH_MNG_INIT && e->kind == EV_HOST)
			*e = (struct event){.kind = EV_HOST,
					    .r = {TDH_MNG_INIT, td->tdr, WORLD_PARAMS}};
		return;
	}
	if (view.lifecycle >= 2 || (m->life && td->age > td->life)) {
		take_down(m, td, &view, e);
	} else if (view.num_tdcx < 6 || view.op_state == 0) {
		build_tdcs(m, td, &view, e);
	} else if (view.op_state == 1) {
		build_initialized(m, td, &view, e);
	} else if (!giant_step(m, td, &view, e)) {
		plan_memory(m, td, &view);
		if (!plan_step(m, td, e))
			*e = (struct event){.kind = EV_HOST, .r = {TDH_MEM_TRACK, td->tdr}};
	}
}

/* Physical pages, asked for without their TD. */
static inline void page_move(struct moves *m, struct event *e)
{
	static const uint8_t leaves[] = {TDH_PHYMEM_PAGE_RDMD, TDH_PHYMEM_PAGE_WBINVD,
					 TDH_PHYMEM_PAGE_RECLAIM, TDH_PHYMEM_CACHE_WB,
					 TDH_MNG_KEY_RECLAIMID};

	*e = (struct event){.kind = EV_HOST,
			    .r = {leaves[rng_below(&m->rng, sizeof(leaves))],
				  rng_below(&m->rng, 2) ? pick_free(m) : pick_2m(m)}};
	if (e->r[0] == TDH_PHYMEM_CACHE_WB)
		e->r[1] = rng_below(&m->rng, 3);
	/* Nobody looks at a TD while somebody else takes it away. */
	if (e->r[0] == TDH_PHYMEM_PAGE_RECLAIM && m->one_lp)
		e->r[0] = TDH_PHYMEM_PAGE_RDMD;
}

/* -- a processor -- */

/* Any vCPU, rather one that was here last. */
static inline uint64_t pick_vcpu(struct moves *m, unsigned int lp)
{
	uint64_t tdvpr = 0;

	for (unsigned int i = 0; i < 4; i++) {
		struct tdx_vcpu_view view;

		tdvpr = m->td[rng_below(&m->rng, NR_TDS)].tdvpr[rng_below(&m->rng, NR_VCPUS)];
		if (tdvpr && !tdx_module_view_vcpu(m->w->module, tdvpr, &view) &&
		    view.assoc_lp == (int)lp)
			break;
	}
	return tdvpr;
}

static inline void enter_move(struct moves *m, unsigned int lp, struct event *e)
{
	uint64_t tdvpr = pick_vcpu(m, lp);
	struct tdx_vcpu_view view;

	*e = (struct event){.kind = EV_HOST, .lp = (uint8_t)lp, .r = {TDH_VP_ENTER, tdvpr}};
	if (!tdvpr || tdx_module_view_vcpu(m->w->module, tdvpr, &view))
		return;
	if (rng_one_in(&m->rng, 40)) {
		e->r[0] = rng_below(&m->rng, 2) ? TDH_VP_WR : TDH_VP_RD;
		e->r[2] = TDX_MD_SHARED_EPT_POINTER;
		e->r[3] = 0x7000;
		e->r[4] = ~0ull;
	} else if (view.assoc_lp >= 0 && view.assoc_lp != (int)lp && rng_below(&m->rng, 6)) {
		e->r[0] = TDH_VP_FLUSH;
		e->lp = (uint8_t)view.assoc_lp;
	}
}

/* A GPA of a page in @state, if one is found soon; *level: of what is there. */
static inline uint64_t gpa_in_state(struct moves *m, uint64_t tdr, unsigned int gpa_width,
				    uint8_t state, unsigned int *level)
{
	uint64_t gpa = random_gpa(&m->rng, gpa_width);

	for (unsigned int i = 0; i < 8; i++) {
		struct tdx_sept_view sept;

		if (!tdx_module_view_sept(m->w->module, tdr, gpa, 0, 0, &sept)) {
			*level = sept.level;
			if (sept.state == state)
				return gpa;
		}
		gpa = random_gpa(&m->rng, gpa_width);
	}
	return gpa;
}

static inline void accept_move(struct moves *m, uint64_t tdr, unsigned int gpa_width,
			       struct event *e)
{
	unsigned int level = 0;
	uint64_t gpa = gpa_in_state(m, tdr, gpa_width, TDX_SEPT_PENDING, &level);

	if (rng_one_in(&m->rng, 8))
		level ^= 1;
	e->kind = EV_GUEST;
	e->r[0] = TDG_MEM_PAGE_ACCEPT;
	e->r[1] = gpa_at(gpa, level) | level;
}

static inline void attribute_move(struct moves *m, const struct world_td *td, uint64_t gpa,
				  struct event *e)
{
	static const uint16_t some[] = {0x8001, 0x8003, 0x8007, 0x8005, 0x800f, 0x8000,
					0x8013, 0x8021, 0x8041, 0x8002, 0x0000};
	struct tdx_sept_view sept;
	unsigned int level = 0;

	if (!tdx_module_view_sept(m->w->module, td->tdr, gpa, 0, 0, &sept) && sept.level < 3)
		level = sept.level;
	e->kind = EV_GUEST;
	e->r[0] = TDG_MEM_PAGE_ATTR_WR;
	e->r[1] = gpa_at(gpa, level) | level;
	for (unsigned int vm = 1; vm <= 3 && vm <= td->nr_l2; vm++) {
		e->r[2] |= (uint64_t)some[rng_below(&m->rng, 11)] << 16 * vm;
		e->r[3] |= (uint64_t)(rng_below(&m->rng, 2) ? 0x7f : 0x8007) << 16 * vm;
	}
}

static inline void field_move(struct moves *m, struct event *e)
{
	static const uint64_t fields[] = {TDX_MD_CONFIG_FLAGS, TDX_MD_TD_CTLS,
					  TDX_MD_NOTIFY_ENABLES};

	e->kind = EV_GUEST;
	e->r[0] = rng_below(&m->rng, 2) ? TDG_VM_RD : TDG_VM_WR;
	e->r[2] = fields[rng_below(&m->rng, 3)];
	e->r[3] = rng_below(&m->rng, 2);
	e->r[4] = ~0ull;
}

static inline void fault_move(struct moves *m, uint64_t gpa, unsigned int gpa_width,
			      struct event *e)
{
	e->kind = EV_EXIT;
	e->r[0] = TDX_EXIT_EPT_VIOLATION;
	e->r[1] = gpa + 8;
	e->r[2] = rng_below(&m->rng, 2) ? 0x182 : 0x181;
	e->r[3] = 0xffff8008;
	e->r[4] = rng_one_in(&m->rng, 4) ? 16 : 0;
	if (rng_one_in(&m->rng, 6))
		e->r[1] |= 1ull << (gpa_width - 1 + rng_below(&m->rng, 2));
}

static inline void small_guest_call(struct moves *m, struct event *e)
{
	static const uint8_t leaves[] = {TDG_VP_INFO,	TDG_VP_VEINFO_GET, TDG_VP_VEINFO_GET,
					 TDG_VP_VMCALL, TDG_VP_INVEPT,	   31};

	e->kind = EV_GUEST;
	e->r[0] = leaves[rng_below(&m->rng, sizeof(leaves))];
	e->r[1] = e->r[0] == TDG_VP_VMCALL ? 0xfc00 : e->r[0] == TDG_VP_INVEPT ? 2 : 0;
}

static inline void guest_move(struct moves *m, unsigned int lp, struct event *e)
{
	struct tdx_port_td port;
	struct tdx_td_view view;
	const struct world_td *td;
	unsigned int level = 0;
	uint64_t gpa;

	tdx_module_port.td_entry(m->w->module, lp, &port);
	td = td_named(m, port.tdr);
	tdx_module_view_td(m->w->module, port.tdr, &view);
	gpa = random_gpa(&m->rng, view.gpa_width);
	if (m->stubborn[lp]) {
		m->stubborn[lp]--;
		*e = m->fault[lp];
		return;
	}
	*e = (struct event){
		.kind = EV_TOUCH,
		.lp = (uint8_t)lp,
		.r = {gpa_in_state(m, port.tdr, view.gpa_width, TDX_SEPT_MAPPED, &level)}};
	switch (rng_below(&m->rng, 16)) {
	case 0:
	case 1:
		kick(lp, e);
		break;
	case 2:
	case 3:
		*e = (struct event){.lp = (uint8_t)lp};
		fault_move(m, gpa, view.gpa_width, e);
		if (rng_one_in(&m->rng, 8)) {
			e->r[4] = 0;
			m->stubborn[lp] = 9;
			m->fault[lp] = *e;
		}
		break;
	case 4:
	case 5:
	case 6:
		*e = (struct event){.lp = (uint8_t)lp};
		if (td)
			attribute_move(m, td, gpa, e);
		break;
	case 7:
		*e = (struct event){
			.kind = EV_GUEST, .lp = (uint8_t)lp, .r = {TDG_MEM_PAGE_ATTR_RD, gpa}};
		break;
	case 8:
		*e = (struct event){.lp = (uint8_t)lp};
		field_move(m, e);
		break;
	case 9:
		*e = (struct event){.lp = (uint8_t)lp};
		small_guest_call(m, e);
		break;
	case 10:
	case 11:
	case 12:
		break;
	default:
		*e = (struct event){.lp = (uint8_t)lp};
		accept_move(m, port.tdr, view.gpa_width, e);
		break;
	}
}

/* -- the next event -- */

static inline void interrupt_move(struct moves *m, struct event *e)
{
	*e = (struct event){.kind = EV_INTR, .r = {~0ull}};
	switch (rng_below(&m->rng, 8)) {
	case 0:
		e->r[0] = rng_below(&m->rng, 3);
		break;
	case 1:
		e->r[0] = rng_below(&m->rng, 600);
		break;
	case 2:
		/* Near the end of a 2 MiB accept, and past it. */
		e->r[0] = 505 + rng_below(&m->rng, 40);
		break;
	default:
		break;
	}
}

/* One operand becomes another that is not far from right. */
static inline void spoil(struct moves *m, struct event *e)
{
	static const uint8_t bits[] = {0, 1, 2, 3, 11, 12, 16, 21, 39, 47, 48, 51, 52, 63};
	unsigned int i = rng_below(&m->rng, 7);

	if (e->kind != EV_HOST && e->kind != EV_GUEST)
		return;
	/* A small page there would never be found again. */
	if (e->r[3] - WORLD_GIANT < WORLD_1G)
		return;
	switch (rng_below(&m->rng, 6)) {
	case 0:
		e->r[i] = m->td[rng_below(&m->rng, NR_TDS)].tdr;
		break;
	case 1:
		e->r[i] = random_page(&m->rng);
		break;
	case 2:
		e->r[i] = rng_below(&m->rng, 2) ? TDX_NULL_PA : 0;
		break;
	default:
		e->r[i] ^= 1ull << bits[rng_below(&m->rng, sizeof(bits))];
		break;
	}
}

static inline void choose(struct moves *m, struct event *e)
{
	unsigned int lp = m->one_lp ? m->lp : rng_below(&m->rng, WORLD_NR_LPS);
	unsigned int kind = rng_below(&m->rng, m->only_guests ? 14 : 32);
	bool running = tdx_module_running_vcpu(m->w->module, lp);

	/* What another thread asked for, or needed before the host's calls can go on here. */
	if (m->one_lp && running && (atomic_exchange(&m->w->kicked[lp], false) || kind >= 14))
		kick(lp, e);
	else if (kind == 0 || (kind < 3 && atomic_load(&m->w->intr_polls) >= 0))
		interrupt_move(m, e);
	else if (kind < 14 && running)
		guest_move(m, lp, e);
	else if (kind < 14 && (lp || m->one_lp))
		enter_move(m, lp, e);
	else if (kind < 15)
		page_move(m, e);
	else
		td_move(m, e);
	if (m->one_lp)
		e->lp = (uint8_t)m->lp;
	if (m->spoil && rng_one_in(&m->rng, m->spoil))
		spoil(m, e);
}

/* -- what its success means for the next -- */

static inline void learn_vcpu(struct moves *m, const struct event *e)
{
	struct world_td *td = td_named(m, e->r[2]);

	for (unsigned int i = 0; td && i < NR_VCPUS; i++) {
		if (td->tdvpr[i])
			continue;
		td->tdvpr[i] = e->r[1];
		td->nr_tdvps[i] = 1;
		return;
	}
}

static inline void learn_tdvps(struct moves *m, uint64_t tdvpr)
{
	for (unsigned int i = 0; i < NR_TDS * NR_VCPUS; i++) {
		struct world_td *td = &m->td[i / NR_VCPUS];

		if (td->tdvpr[i % NR_VCPUS] == tdvpr)
			td->nr_tdvps[i % NR_VCPUS]++;
	}
}

static inline void forget_page(struct moves *m, uint64_t hpa)
{
	for (unsigned int i = 0; i < NR_TDS; i++) {
		struct world_td *td = &m->td[i];

		if (td->tdr == hpa)
			*td = (struct world_td){0};
		for (unsigned int v = 0; v < NR_VCPUS; v++)
			if (td->tdvpr[v] == hpa)
				td->tdvpr[v] = 0;
	}
}

static inline void learn(struct moves *m, const struct event *e, const struct answer *a)
{
	if (e->kind != EV_HOST || !a->done || a->side != TDX_HOST || a->regs.rax != TDX_SUCCESS)
		return;
	switch (e->r[0] & TDX_RAX_LEAF) {
	case TDH_MNG_CREATE:
		for (unsigned int i = 0; i < NR_TDS; i++)
			if (!m->td[i].tdr && m->td[i].levels) {
				m->td[i].tdr = e->r[1];
				return;
			}
		break;
	case TDH_VP_CREATE:
		learn_vcpu(m, e);
		break;
	case TDH_VP_ADDCX:
		learn_tdvps(m, e->r[2]);
		break;
	case TDH_PHYMEM_PAGE_RECLAIM:
		forget_page(m, e->r[1]);
		break;
	default:
		break;
	}
}

#endif
