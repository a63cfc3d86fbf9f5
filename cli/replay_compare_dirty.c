// SPDX-License-Identifier: BSD-2-Clause
/*
 * What dirty logging does to entries, against the recording: words protected, huge leaves split,
 * fast faults, and the whole slot after each call. Part of the comparison: nothing it knows reaches
 * the library.
 */
#include "cli/replay.h"

#include <stdlib.h>

/* One change that a call made here. */
struct replay_change {
	bool page; /* a table page was made: no words */
	struct replay_word now;
	uint64_t old;
};

static bool same_key(const struct replay_change *a, const struct replay_change *b)
{
	return a->page == b->page && a->now.level == b->now.level && a->now.gfn == b->now.gfn &&
	       (a->page || a->now.as_id == b->now.as_id);
}

/* The word before: the same but for where a table lies. */
static bool same_old(const struct replay_change *a, const struct replay_change *b)
{
	struct replay_word x = a->now, y = b->now;

	x.word = a->old;
	y.word = b->old;
	return replay_same_word(&x, &y);
}

static bool is_split(const struct replay_change *c)
{
	return c->page || trace_word_class(c->now.word, c->now.level) == TRACE_WORD_TABLE ||
	       trace_word_class(c->old, c->now.level) == TRACE_WORD_TABLE;
}

static struct replay_tally *tally_of(struct replay_compare *c, const struct replay_change *change)
{
	return is_split(change) ? &c->dirty.splits : &c->dirty.words;
}

static void differs(struct replay_compare *c, struct replay_tally *tally, uint32_t line,
		    const struct replay_change *recorded, const struct replay_change *ours)
{
	struct replay_finding *n = replay_compare_find(c, REPLAY_DIFFERENT_CHANGE, line);

	tally->different++;
	c->different++;
	if (!recorded) {
		c->dirty.extra++;
		c->extra++;
	}
	if (!n)
		return;
	if (recorded) {
		n->recorded = recorded->now;
		n->recorded_old = recorded->old;
	}
	if (ours) {
		n->ours = ours->now;
		n->our_old = ours->old;
	}
}

/* ---- here ---- */

static void forget_queue(struct replay_compare *c, uint32_t line)
{
	struct replay_compare_dirty *d = &c->dirty;

	for (; d->head < d->nr_queue; d->head++)
		differs(c, tally_of(c, &d->queue[d->head]), line, NULL, &d->queue[d->head]);
	d->head = d->nr_queue = 0;
}

void replay_compare_dirty_call(struct replay_compare *c, struct replay *r,
			       const struct dirty_call *call)
{
	c->dirty.recovered.recorded += call->kind == DIRTY_NX_RECOVER;
	/* Calls of one moment leave one burst behind. */
	if (!c->dirty.call || c->dirty.call->at != call->at)
		forget_queue(c, replay_now(r).line);
	if (!c->dirty.call || c->dirty.call->at != call->at || call->last != TRACE_NONE)
		c->dirty.call = call;
}

/* Which table NX recovery takes is the library's to decide. */
static void compare_recovered(struct replay_compare *c, const struct replay *r,
			      const struct tpt_event *e)
{
	const struct replay_change ours = {
		false, {true, e->as_id, e->level, e->gfn, e->new_spte.w}, e->old_spte.w};

	if (e->kind != TPT_EVENT_SPTE_CHANGED || e->level != TPT_LEVEL_2M ||
	    trace_word_class(e->old_spte.w, e->level) != TRACE_WORD_TABLE)
		return;
	c->dirty.recovered.compared++;
	if (e->gfn != r->call->first || e->as_id != r->call->as_id)
		differs(c, &c->dirty.recovered, replay_now(r).line, NULL, &ours);
}

void replay_compare_dirty_event(struct replay_compare *c, const struct replay *r,
				const struct tpt_event *e)
{
	struct replay_compare_dirty *d = &c->dirty;
	bool page = e->kind == TPT_EVENT_GET_PAGE;
	enum trace_word is = trace_word_class(e->new_spte.w, e->level);
	struct replay_change *n;

	if (r->call->kind == DIRTY_NX_RECOVER)
		compare_recovered(c, r, e);
	if (!page && (e->kind != TPT_EVENT_SPTE_CHANGED || is == TRACE_WORD_EMPTY ||
		      is == TRACE_WORD_FROZEN))
		return;
	if (d->nr_queue == d->room_queue) {
		d->room_queue = d->room_queue ? 2 * d->room_queue : 1024;
		n = realloc(d->queue, d->room_queue * sizeof(*n));
		if (!n) {
			d->room_queue = d->nr_queue;
			d->failed = true;
			return;
		}
		d->queue = n;
	}
	d->queue[d->nr_queue++] = (struct replay_change){
		page, {true, e->as_id, e->level, e->gfn, e->new_spte.w}, e->old_spte.w};
}

/* ---- recorded ---- */

/* The oldest change here of the same entry; those before it were made only here. */
static const struct replay_change *take(struct replay_compare *c, uint32_t line,
					const struct replay_change *recorded)
{
	struct replay_compare_dirty *d = &c->dirty;
	size_t at = d->head;

	while (at < d->nr_queue && !same_key(&d->queue[at], recorded))
		at++;
	if (at == d->nr_queue)
		return NULL;
	for (; d->head < at; d->head++)
		differs(c, tally_of(c, &d->queue[d->head]), line, NULL, &d->queue[d->head]);
	return &d->queue[d->head++];
}

static void compare_change(struct replay_compare *c, uint32_t line,
			   const struct replay_change *recorded)
{
	struct replay_tally *tally = tally_of(c, recorded);
	const struct replay_change *ours = take(c, line, recorded);

	/* A split is counted once, with its word. */
	tally->compared += !recorded->page;
	if (!ours || (!recorded->page &&
		      (!replay_same_word(&recorded->now, &ours->now) || !same_old(recorded, ours))))
		differs(c, tally, line, recorded, ours);
}

/* kvm_mmu_split_huge_page follows the change that it tells of. */
static void compare_told(struct replay_compare *c, const struct trace *t, uint32_t i)
{
	const struct trace_event *told = &t->events[i], *ev;
	uint32_t n = i;
	struct replay_change recorded;

	while (n && t->events[n - 1].pid != told->pid)
		n--;
	ev = n ? &t->events[n - 1] : NULL;
	if (ev && !told->split.error && ev->kind == TRACE_SPTE_CHANGED &&
	    ev->change.gfn == told->split.gfn && ev->level == told->level &&
	    ev->change.old_word == told->split.word)
		return;
	recorded = (struct replay_change){
		false, {true, 0, told->level, told->split.gfn, told->split.word}, told->split.word};
	differs(c, &c->dirty.splits, told->line, &recorded, NULL);
}

static void compare_recorded(struct replay_compare *c, const struct trace *t, uint32_t i)
{
	const struct trace_event *ev = &t->events[i];
	enum trace_attr attr = (enum trace_attr)t->attr[i];
	struct replay_change change = {.now = {.there = true, .level = ev->level}};

	if (attr != TRACE_ATTR_PROTECT && attr != TRACE_ATTR_SPLIT && attr != TRACE_ATTR_RECOVER)
		return;
	if (ev->kind == TRACE_SPLIT_HUGE) {
		compare_told(c, t, i);
		return;
	}
	if (ev->kind == TRACE_GET_PAGE) {
		change.page = true;
		change.now.gfn = ev->page.gfn;
	} else {
		change.now.as_id = ev->change.as_id;
		change.now.gfn = ev->change.gfn;
		change.now.word = ev->change.new_word;
		change.old = ev->change.old_word;
	}
	compare_change(c, ev->line, &change);
}

/* ---- what a call leaves behind ---- */

struct behind {
	struct replay_compare *c;
	struct replay *r;
	uint32_t line;
	uint64_t ours, recorded;
};

static bool in_slot(const struct dirty_call *call, uint32_t as_id, uint64_t gfn)
{
	return as_id == call->as_id && gfn << 12 >= call->def->start && gfn << 12 < call->def->end;
}

static void behind_differs(struct behind *b, const struct replay_word *recorded,
			   const struct replay_word *ours)
{
	struct replay_finding *n = replay_compare_find(b->c, REPLAY_DIFFERENT_BEHIND, b->line);

	b->c->dirty.behind.different++;
	b->c->different++;
	if (!n)
		return;
	if (recorded)
		n->recorded = *recorded;
	if (ours)
		n->ours = *ours;
}

/* A fault that was made here with its first word, while its leaf is still to be recorded. */
static bool is_under_way(const struct replay *r, const struct tpt_mapping *m)
{
	for (uint32_t n = 0; n < r->t->nr_faults; n++) {
		const struct trace_fault *f = &r->t->faults[n];
		const struct trace_event *leaf;

		if (f->leaf == TRACE_NONE || f->leaf <= r->at || r->t->installs[f->first] > r->at)
			continue;
		leaf = &r->t->events[f->leaf];
		if (leaf->change.gfn == m->gfn && leaf->level == (unsigned int)m->level)
			return true;
	}
	return false;
}

static bool look_at_mapping(void *ctx, const struct tpt_mapping *m)
{
	struct behind *b = ctx;
	struct replay_word ours = {true, m->as_id, (uint32_t)m->level, m->gfn, m->spte.w};
	struct replay_word recorded = ours;
	const struct state_leaf *l;

	if (!m->leaf || !in_slot(b->c->dirty.call, m->as_id, m->gfn) ||
	    trace_word_class(m->spte.w, (unsigned int)m->level) != TRACE_WORD_LEAF)
		return true;
	l = state_leaf(&b->c->dirty.state, m->as_id, (unsigned int)m->level, m->gfn);
	if (!l && is_under_way(b->r, m))
		return true;
	b->c->dirty.behind.compared++;
	b->ours += l != NULL;
	if (!l) {
		behind_differs(b, NULL, &ours);
	} else if (l->word != m->spte.w) {
		recorded.word = l->word;
		behind_differs(b, &recorded, &ours);
	}
	return true;
}

static void count_recorded(void *ctx, const struct state_leaf *l)
{
	struct behind *b = ctx;

	b->recorded += in_slot(b->c->dirty.call, l->as_id, l->gfn);
}

static void compare_behind(struct replay_compare *c, struct replay *r)
{
	struct behind b = {.c = c, .r = r, .line = replay_now(r).line};

	tpt_vm_for_each_mapping(sim_vm(r->sim), look_at_mapping, &b);
	state_for_each(&c->dirty.state, count_recorded, &b);
	c->dirty.behind.recorded += b.recorded;
	for (; b.ours < b.recorded; b.ours++)
		behind_differs(&b, NULL, NULL);
}

void replay_compare_dirty_played(struct replay_compare *c, struct replay *r, uint32_t event)
{
	struct replay_compare_dirty *d = &c->dirty;

	compare_recorded(c, r->t, event);
	d->failed |= state_apply(&d->state, r->t, event) != 0;
	if (!d->call || d->call->last != event)
		return;
	forget_queue(c, replay_now(r).line);
	compare_behind(c, r);
}

/* ---- fast faults ---- */

bool replay_compare_dirty_fast(struct replay_compare *c, const struct replay *r,
			       const struct replay_fault *f)
{
	const struct trace_event *fast = &r->t->events[f->recorded->fast];
	bool fixed = fast->fast.fixed;
	struct replay_finding *n;

	c->dirty.fast.compared++;
	if (fixed && f->result == REPLAY_FIXED && !f->asked && c->nr_words == 1 &&
	    c->old_word == fast->fast.old_word && c->words[0].word == fast->fast.new_word)
		return false;
	if (!fixed && !c->nr_words)
		return false;
	c->dirty.fast.different++;
	c->different++;
	n = replay_compare_find(c, REPLAY_DIFFERENT_FAST, fast->line);
	if (!n)
		return true;
	n->vcpu = f->vcpu;
	n->gpa = f->event->fault.gpa;
	n->error_code = f->event->fault.error_code;
	n->recorded_old = fast->fast.old_word;
	n->recorded = (struct replay_word){true, f->recorded->as_id, 1, n->gpa >> 12,
					   fast->fast.new_word};
	n->our_old = c->old_word;
	if (c->nr_words)
		n->ours = c->words[0];
	return true;
}

/* ---- all of it ---- */

static bool is_change(const struct trace *t, uint32_t i, enum trace_attr attr)
{
	return t->attr[i] == attr && t->events[i].kind == TRACE_SPTE_CHANGED;
}

void replay_compare_dirty_survey(struct replay_compare *c, const struct trace *t)
{
	struct replay_compare_dirty *d = &c->dirty;

	for (uint32_t i = 0; i < t->nr_events; i++) {
		bool word = is_change(t, i, TRACE_ATTR_PROTECT);
		bool split =
			is_change(t, i, TRACE_ATTR_SPLIT) || is_change(t, i, TRACE_ATTR_RECOVER);

		d->words.recorded += word;
		d->splits.recorded += split;
		if (!word && !split)
			continue;
		d->first_line = d->first_line ? d->first_line : t->events[i].line;
		d->last_line = t->events[i].line;
	}
	for (uint32_t n = 0; n < t->nr_faults; n++)
		d->fast.recorded += t->faults[n].outcome == TRACE_FAST_FIXED ||
				    t->faults[n].outcome == TRACE_FAST_SPURIOUS;
}

void replay_compare_dirty_end(struct replay_compare *c)
{
	free(c->dirty.queue);
	c->dirty.queue = NULL;
	state_free(&c->dirty.state);
}
