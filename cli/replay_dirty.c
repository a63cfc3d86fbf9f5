// SPDX-License-Identifier: BSD-2-Clause
/* Which calls of the dirty-log API a trace shows. Infers calls and ranges; never which entries they
 * change. */
#include "cli/replay_dirty.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/replay_state.h"

#define WORD_NX	   (1ull << 63)
#define WORD_PAGES 64u

/* What one call left behind. GFNs; @first and @last are events. */
struct run {
	int32_t pid;
	uint32_t first, last, as_id;
	const struct slot_def *def;
	uint64_t lo, hi; /* [lo, hi): what it changed */
	uint64_t at_gfn; /* its last entry */
	unsigned int at_level;
	bool splits, protects, splits_after, huge_protected, huge_tracked;
	bool joined; /* goes on from the run before: the words of a log on, after its splits */
	/* What had been writable before it began and still was at its end: between lo and hi, since
	 * when the first of them; the nearest on either side of it. */
	uint32_t behind_since;
	uint64_t behind_below, behind_above; /* end of the one below, start of the one above */
};

struct planning {
	struct dirty_plan *p;
	const struct trace *t;
	const struct slot_history *h;
	struct recorded_state s;
	struct run *runs;
	size_t nr_runs, room_runs;
	bool open;	       /* the last run may go on */
	uint32_t pending_page; /* a split's kvm_mmu_get_page, or TRACE_NONE */
	/* Memory under the table above 2M that a task removed last. */
	int32_t removed_pid;
	uint64_t removed_lo, removed_hi;
	struct {
		uint32_t event, as_id;
		uint64_t gfn;
		bool recover;
	} * offs;
	size_t nr_offs, room_offs;
};

/* Makes room for one more element; the array or NULL. */
static void *room_for(void *array, size_t nr, size_t *room, size_t size)
{
	void *p;

	if (nr < *room)
		return array;
	*room = *room ? 2 * *room : 16;
	p = realloc(array, *room * size);
	if (!p)
		*room = nr;
	return p;
}

static uint64_t pages_of(unsigned int level)
{
	return 1ull << (9 * (level - 1));
}

static const struct slot_def *slot_at(const struct planning *g, uint32_t event, uint32_t as_id,
				      uint64_t gfn)
{
	return slots_find(slots_table_at(g->h, trace_zaps_before(g->t, event)), as_id, gfn << 12);
}

/* ---- runs ---- */

static void look_behind(void *ctx, const struct state_leaf *l)
{
	struct run *r = ctx;
	uint64_t end = l->gfn + pages_of(l->level);

	if (l->as_id != r->as_id || l->writable == TRACE_NONE || l->writable >= r->first ||
	    l->gfn << 12 < r->def->start || l->gfn << 12 >= r->def->end)
		return;
	if (end <= r->lo) {
		r->behind_below = end > r->behind_below ? end : r->behind_below;
	} else if (l->gfn >= r->hi) {
		r->behind_above = l->gfn < r->behind_above ? l->gfn : r->behind_above;
	} else if (r->behind_since == TRACE_NONE || l->writable < r->behind_since) {
		r->behind_since = l->writable;
	}
}

static void close_run(struct planning *g)
{
	if (g->open)
		state_for_each(&g->s, look_behind, &g->runs[g->nr_runs - 1]);
	g->open = false;
	g->pending_page = TRACE_NONE;
}

/* Does the entry come after the run's last one, in the order of a walk? */
static bool goes_on(const struct run *r, const struct trace_event *ev)
{
	return ev->change.gfn > r->at_gfn ||
	       (ev->change.gfn == r->at_gfn && ev->level < r->at_level);
}

static struct run *open_run(struct planning *g, uint32_t i, const struct slot_def *def)
{
	const struct trace_event *ev = &g->t->events[i];
	struct run *r = g->open ? &g->runs[g->nr_runs - 1] : NULL, *n;
	bool same = r && r->pid == ev->pid && r->as_id == ev->change.as_id && r->def == def;
	uint32_t first = g->pending_page != TRACE_NONE ? g->pending_page : i;

	if (same && goes_on(r, ev))
		return r;
	close_run(g);
	n = room_for(g->runs, g->nr_runs, &g->room_runs, sizeof(*n));
	if (!n)
		return NULL;
	g->runs = n;
	n += g->nr_runs++;
	*n = (struct run){.pid = ev->pid,
			  .first = first,
			  .as_id = ev->change.as_id,
			  .def = def,
			  .lo = ev->change.gfn,
			  .behind_since = TRACE_NONE,
			  .behind_above = UINT64_MAX};
	/* Splits of the whole slot, then its words: one call. */
	n->joined = same && n > g->runs && !(n - 1)->protects;
	g->open = true;
	return n;
}

static int add_change(struct planning *g, uint32_t i)
{
	const struct trace_event *ev = &g->t->events[i];
	const struct slot_def *def = slot_at(g, i, ev->change.as_id, ev->change.gfn);
	bool split = g->t->attr[i] == TRACE_ATTR_SPLIT;
	uint64_t lost = ev->change.old_word & ~ev->change.new_word;
	struct run *r;

	if (!def)
		return 0;
	r = open_run(g, i, def);
	if (!r)
		return -ENOMEM;
	g->pending_page = TRACE_NONE;
	r->last = i;
	r->at_gfn = ev->change.gfn;
	r->at_level = ev->level;
	r->hi = ev->change.gfn + pages_of(ev->level);
	r->splits_after |= split && r->protects;
	r->splits |= split;
	r->protects |= !split;
	r->huge_protected |= !split && ev->level > 1 && lost & STATE_WRITE;
	r->huge_tracked |= !split && ev->level > 1 && lost & STATE_MMU_WRITABLE;
	return 0;
}

/* ---- log off ---- */

static int add_off(struct planning *g, uint32_t i, bool recover)
{
	const struct trace_event *ev = &g->t->events[i];
	void *p = room_for(g->offs, g->nr_offs, &g->room_offs, sizeof(*g->offs));

	if (!p)
		return -ENOMEM;
	g->offs = p;
	g->offs[g->nr_offs].event = i;
	g->offs[g->nr_offs].as_id = ev->change.as_id;
	g->offs[g->nr_offs].gfn = ev->change.gfn;
	g->offs[g->nr_offs++].recover = recover;
	return 0;
}

/* A table of 4K leaves that goes while the table above it stays. */
static int look_at_removal(struct planning *g, uint32_t i)
{
	const struct trace_event *ev = &g->t->events[i];

	if (trace_word_class(ev->change.old_word, ev->level) != TRACE_WORD_TABLE)
		return 0;
	if (g->removed_pid == ev->pid && ev->change.gfn >= g->removed_lo &&
	    ev->change.gfn < g->removed_hi)
		return 0;
	if (ev->level == 2)
		return add_off(g, i, false);
	g->removed_pid = ev->pid;
	g->removed_lo = ev->change.gfn;
	g->removed_hi = ev->change.gfn + pages_of(ev->level);
	return 0;
}

/* ---- the trace, once ---- */

static void look_at_host(struct planning *g, uint32_t i)
{
	const struct trace_event *ev = &g->t->events[i];
	struct dirty_plan *p = g->p;

	if (g->t->attr[i] == TRACE_ATTR_SPLIT && ev->kind == TRACE_SPTE_CHANGED)
		p->eager = HOST_ON;
	if (g->t->attr[i] != TRACE_ATTR_INSTALL || ev->level < 2 ||
	    trace_word_class(ev->change.new_word, ev->level) != TRACE_WORD_LEAF)
		return;
	p->huge = HOST_ON;
	if (ev->change.new_word & WORD_NX)
		p->nx = HOST_ON;
	else if (p->nx == HOST_UNKNOWN)
		p->nx = HOST_OFF;
}

static int look_at(struct planning *g, uint32_t i)
{
	const struct trace_event *ev = &g->t->events[i];
	enum trace_attr attr = (enum trace_attr)g->t->attr[i];
	bool dirty = attr == TRACE_ATTR_PROTECT || attr == TRACE_ATTR_SPLIT;

	look_at_host(g, i);
	if (g->open &&
	    (ev->kind == TRACE_ZAP_ALL_FAST || (!dirty && ev->pid == g->runs[g->nr_runs - 1].pid)))
		close_run(g);
	if (dirty && ev->kind == TRACE_GET_PAGE)
		g->pending_page = i;
	if (dirty && ev->kind == TRACE_SPTE_CHANGED)
		return add_change(g, i);
	if (dirty && g->open && ev->kind == TRACE_SPLIT_HUGE)
		g->runs[g->nr_runs - 1].last = i;
	if (attr == TRACE_ATTR_EXIT_ZAP && ev->kind == TRACE_SPTE_CHANGED)
		return look_at_removal(g, i);
	return attr == TRACE_ATTR_RECOVER ? add_off(g, i, true) : 0;
}

/* ---- from runs to calls ---- */

static int add_call(struct planning *g, const struct dirty_call *call)
{
	struct dirty_plan *p = g->p;
	size_t room = p->room;
	struct dirty_call *n = room_for(p->calls, p->nr_calls, &room, sizeof(*n));

	if (!n)
		return -ENOMEM;
	p->room = (uint32_t)room;
	p->calls = n;
	n[p->nr_calls++] = *call;
	p->counts[call->kind]++;
	return 0;
}

/* Is the slot's log on before call number @before? */
static bool is_on(const struct planning *g, const struct slot_def *def, uint32_t as_id)
{
	for (uint32_t i = g->p->nr_calls; i--;) {
		const struct dirty_call *c = &g->p->calls[i];

		if (c->as_id != as_id || !slots_same(c->def, def))
			continue;
		if (c->kind == DIRTY_LOG_ON || c->kind == DIRTY_LOG_OFF)
			return c->kind == DIRTY_LOG_ON;
	}
	return false;
}

static bool is_first(const struct planning *g, size_t n)
{
	const struct run *r = &g->runs[n];

	for (size_t i = 0; i < n; i++)
		if (g->runs[i].as_id == r->as_id && slots_same(g->runs[i].def, r->def))
			return false;
	return true;
}

static bool leaves_behind(const struct run *r)
{
	return r->behind_since != TRACE_NONE || r->behind_below || r->behind_above != UINT64_MAX;
}

/*
 * A log on protects every writable leaf and splits before it protects; it never takes KVM's
 * permission to give W back. A first run that is otherwise is a clear of a log that began full.
 */
static void infer_mode(struct planning *g)
{
	struct dirty_plan *p = g->p;
	bool initially_set = false, manual = false;

	for (size_t i = 0; i < g->nr_runs; i++) {
		const struct run *r = &g->runs[i];

		initially_set |= r->splits_after || r->huge_tracked;
		if (is_first(g, i))
			initially_set |= r->protects && !r->joined && leaves_behind(r);
		else
			manual |= !r->joined && leaves_behind(r);
		if (r->huge_protected && p->eager == HOST_UNKNOWN)
			p->eager = HOST_OFF;
	}
	p->mode = !g->nr_runs	  ? DIRTY_NONE
		  : initially_set ? DIRTY_MANUAL_INITIALLY_SET
		  : manual	  ? DIRTY_MANUAL
				  : DIRTY_AUTOMATIC;
	p->mode_shown = initially_set || manual;
}

struct in_slot {
	const struct slot_def *def;
	uint32_t as_id;
	bool writable;
};

static void look_in_slot(void *ctx, const struct state_leaf *l)
{
	struct in_slot *s = ctx;

	s->writable |= l->as_id == s->as_id && l->gfn << 12 >= s->def->start &&
		       l->gfn << 12 < s->def->end && l->writable != TRACE_NONE;
}

/*
 * When did the log go on that run @n shows first? A log that begins full leaves nothing behind: it
 * goes on with the first small leaf after the last huge one. Later, nothing huge was mapped; so
 * what was mapped before the log in truth was on is the same with it.
 */
static uint32_t on_since(const struct planning *g, size_t n)
{
	bool unseen =
		g->p->mode == DIRTY_MANUAL_INITIALLY_SET && !n && g->t->log_since != TRACE_NONE;
	uint32_t since = unseen ? g->t->log_since : g->runs[n].first;
	const struct trace_fault *f;

	if (!unseen)
		return since;
	/* Before the fault's first word: its tables. */
	f = &g->t->faults[g->t->fault_of[g->t->owner[since]]];
	return g->t->installs[f->first];
}

/*
 * The log of run @n's slot goes on, and with it those of the other writable slots: a VMM logs all
 * of its guest. But where a log on protects, a slot with something writable shows it by a run of
 * its own, then or never.
 */
static int switch_on(struct planning *g, size_t n, uint32_t last)
{
	const struct run *r = &g->runs[n];
	const struct slot_table *table = slots_table_at(g->h, trace_zaps_before(g->t, r->first));
	struct dirty_call call = {.kind = DIRTY_LOG_ON, .at = on_since(g, n), .last = TRACE_NONE};
	int err = 0;

	for (uint32_t as_id = 0; as_id < SLOT_ADDRESS_SPACES; as_id++)
		for (uint32_t i = 0; !err && table && i < table->nr_slots; i++) {
			struct in_slot in = {&table->slots[i], as_id, false};
			bool own = in.def == r->def && as_id == r->as_id;

			if (!(in.def->as_mask & 1u << as_id) || is_on(g, in.def, as_id))
				continue;
			if (!own && in.def->readonly)
				continue;
			if (!own && g->p->mode != DIRTY_MANUAL_INITIALLY_SET)
				state_for_each(&g->s, look_in_slot, &in);
			if (!own && in.writable)
				continue;
			call.as_id = as_id;
			call.def = in.def;
			call.last = own && call.at == r->first ? last : TRACE_NONE;
			err = add_call(g, &call);
		}
	return err;
}

/* The first event after @i, up to the run's end, that begins a word of 64 pages anew, if something
 * else changed the tables between: there a clear is cut in two. TRACE_NONE: nowhere. */
static uint32_t next_cut(const struct planning *g, const struct run *r, uint32_t i)
{
	uint64_t base = r->def->start >> 12, word = UINT64_MAX;
	bool foreign = false;

	for (; i <= r->last; i++) {
		const struct trace_event *ev = &g->t->events[i];
		enum trace_attr attr = (enum trace_attr)g->t->attr[i];

		foreign |= ev->kind == TRACE_SPTE_CHANGED &&
			   (attr == TRACE_ATTR_INSTALL || attr == TRACE_ATTR_HOST_ZAP);
		if (ev->pid != r->pid || attr != TRACE_ATTR_PROTECT)
			continue;
		if (foreign && word != UINT64_MAX && (ev->change.gfn - base) / WORD_PAGES != word)
			return i;
		word = (ev->change.gfn - base) / WORD_PAGES;
	}
	return TRACE_NONE;
}

static uint64_t word_start(const struct run *r, uint64_t gfn)
{
	uint64_t base = r->def->start >> 12;

	return (gfn - base) / WORD_PAGES * WORD_PAGES;
}

/* A run of a manual log: the slot, but for what had stayed writable around the run. */
static int add_clear(struct planning *g, const struct run *r)
{
	uint64_t base = r->def->start >> 12, npages = (r->def->end >> 12) - base;
	uint64_t pos = r->behind_below ? word_start(r, r->behind_below + WORD_PAGES - 1) : 0;
	uint64_t end = r->behind_above == UINT64_MAX ? npages : word_start(r, r->behind_above);
	uint64_t lo = word_start(r, r->lo), hi = word_start(r, r->hi - 1) + WORD_PAGES;
	struct dirty_call call = {
		.kind = DIRTY_CLEAR, .at = r->first, .as_id = r->as_id, .def = r->def};
	uint32_t cut;
	int err;

	pos = pos < lo ? pos : lo;
	end = end > hi ? end : hi;
	end = end < npages ? end : npages;
	do {
		cut = next_cut(g, r, call.at);
		call.first = pos;
		pos = cut == TRACE_NONE ? end : word_start(r, g->t->events[cut].change.gfn);
		call.npages = pos - call.first;
		call.last = cut == TRACE_NONE ? r->last : cut - 1;
		call.more = cut != TRACE_NONE;
		err = add_call(g, &call);
		call.at = cut;
	} while (!err && cut != TRACE_NONE);
	return err;
}

/* When was a log read that the run cleared? Before the first write that it didn't know of. */
static int add_read(struct planning *g, const struct run *r)
{
	struct dirty_call call = {.kind = DIRTY_READ,
				  .at = r->behind_since,
				  .last = TRACE_NONE,
				  .as_id = r->as_id,
				  .def = r->def};

	return r->behind_since == TRACE_NONE ? 0 : add_call(g, &call);
}

static int add_run(struct planning *g, size_t n)
{
	const struct run *r = &g->runs[n];
	struct dirty_call get = {.kind = DIRTY_GET,
				 .at = r->first,
				 .last = r->last,
				 .as_id = r->as_id,
				 .def = r->def};
	bool next_joined = n + 1 < g->nr_runs && g->runs[n + 1].joined;
	bool on = is_on(g, r->def, r->as_id);
	int err = 0;

	if (r->joined)
		return 0;
	if (!on)
		err = switch_on(g, n, next_joined ? g->runs[n + 1].last : r->last);
	if (err || (!on && g->p->mode != DIRTY_MANUAL_INITIALLY_SET))
		return err;
	if (g->p->mode == DIRTY_AUTOMATIC)
		return add_call(g, &get);
	/* A full log was read when it went on: no write is later than that. */
	err = on ? add_read(g, r) : 0;
	return err ? err : add_clear(g, r);
}

static int switch_off(struct planning *g, uint32_t at)
{
	uint32_t nr = g->p->nr_calls;
	int err = 0;

	for (uint32_t i = 0; !err && i < nr; i++) {
		struct dirty_call call = g->p->calls[i];

		if (call.kind != DIRTY_LOG_ON || !is_on(g, call.def, call.as_id))
			continue;
		call.kind = DIRTY_LOG_OFF;
		call.at = at;
		call.last = TRACE_NONE;
		err = add_call(g, &call);
	}
	return err;
}

/* Did the slot log until the moment of the call? */
static bool was_logged(const struct planning *g, const struct dirty_call *call)
{
	for (uint32_t i = 0; i < g->p->nr_calls; i++) {
		const struct dirty_call *c = &g->p->calls[i];

		if (c->kind == DIRTY_LOG_OFF && c->as_id == call->as_id &&
		    slots_same(c->def, call->def))
			return true;
	}
	return false;
}

static int add_offs(struct planning *g, size_t n)
{
	struct dirty_call call = {.kind = DIRTY_ZAP,
				  .at = g->offs[n].event,
				  .last = TRACE_NONE,
				  .as_id = g->offs[n].as_id,
				  .first = g->offs[n].gfn,
				  .npages = pages_of(2)};
	int err = switch_off(g, call.at);

	call.def = slot_at(g, call.at, call.as_id, call.first);
	if (err || g->offs[n].recover || !call.def)
		return err;
	if (g->p->nx == HOST_ON && !was_logged(g, &call))
		call.kind = DIRTY_NX_RECOVER;
	return add_call(g, &call);
}

static int by_at(const void *a, const void *b)
{
	const struct dirty_call *x = a, *y = b;

	return (x->at > y->at) - (x->at < y->at);
}

/* Insertion sort: calls are almost in order, and those of one moment must stay in theirs. */
static void sort_calls(struct dirty_plan *p)
{
	for (uint32_t i = 1; i < p->nr_calls; i++) {
		struct dirty_call call = p->calls[i];
		uint32_t k = i;

		for (; k && by_at(&p->calls[k - 1], &call) > 0; k--)
			p->calls[k] = p->calls[k - 1];
		p->calls[k] = call;
	}
}

/* Runs and ends of logs in the order of the trace, with the recorded tables as they were then. */
static int make_calls(struct planning *g)
{
	size_t run = 0, off = 0;
	int err = 0;

	state_free(&g->s);
	for (uint32_t i = 0; !err && i < g->t->nr_events; i++) {
		for (; !err && run < g->nr_runs && g->runs[run].first == i; run++)
			err = add_run(g, run);
		for (; !err && off < g->nr_offs && g->offs[off].event == i; off++) {
			g->p->recovers |= g->offs[off].recover;
			err = add_offs(g, off);
		}
		if (!err)
			err = state_apply(&g->s, g->t, i);
	}
	sort_calls(g->p);
	return err;
}

int dirty_plan_make(struct dirty_plan *p, const struct trace *t, const struct slot_history *h)
{
	struct planning g = {.p = p, .t = t, .h = h, .pending_page = TRACE_NONE, .removed_pid = -1};
	int err = 0;

	*p = (struct dirty_plan){0};
	for (uint32_t i = 0; !err && i < t->nr_events; i++) {
		err = look_at(&g, i);
		if (!err)
			err = state_apply(&g.s, t, i);
	}
	if (!err) {
		close_run(&g);
		infer_mode(&g);
		err = make_calls(&g);
	}
	state_free(&g.s);
	free(g.runs);
	free(g.offs);
	return err;
}

void dirty_plan_free(struct dirty_plan *p)
{
	free(p->calls);
	*p = (struct dirty_plan){0};
}

const char *dirty_mode_name(enum dirty_mode mode)
{
	static const char *const names[] = {
		[DIRTY_NONE] = "none",
		[DIRTY_AUTOMATIC] = "automatic: cleared when read",
		[DIRTY_MANUAL] = "manual: cleared by range",
		[DIRTY_MANUAL_INITIALLY_SET] = "manual and initially set: cleared by range",
	};

	return names[mode];
}
