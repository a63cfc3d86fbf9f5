// SPDX-License-Identifier: BSD-2-Clause
/*
 * Every outcome against the recording: words bit for bit, ends, error codes. An observer: nothing
 * it knows reaches the library.
 */
#include "cli/replay.h"

#include <stdlib.h>
#include <string.h>

#define NPF_P	 (1ull << 0)
#define NPF_RSVD (1ull << 3)

/* ---- words ---- */

static struct replay_word recorded_word(const struct trace_event *ev)
{
	return (struct replay_word){true, ev->change.as_id, ev->level, ev->change.gfn,
				    ev->change.new_word};
}

static struct replay_finding *add_finding(struct replay_compare *c, const struct replay_fault *f,
					  enum replay_difference what)
{
	struct replay_finding *n = replay_compare_find(c, what, f->event->line);

	if (!n)
		return NULL;
	n->vcpu = f->vcpu;
	n->gpa = f->event->fault.gpa;
	n->error_code = f->event->fault.error_code;
	n->our_code = f->step.hw.error;
	n->expected = trace_outcome_name((enum trace_outcome)f->recorded->outcome);
	n->result = replay_result_name(f->result);
	return n;
}

static void word_differs(struct replay_compare *c, const struct replay_fault *f, unsigned int nr,
			 const struct replay_word *recorded, const struct replay_word *ours)
{
	struct replay_finding *n = add_finding(c, f,
					       !recorded->there ? REPLAY_DIFFERENT_EXTRA
					       : !ours->there	? REPLAY_DIFFERENT_MISSING
								: REPLAY_DIFFERENT_WORD);

	c->different++;
	c->extra += !recorded->there;
	if (!n)
		return;
	n->nr = nr + 1;
	n->recorded = *recorded;
	n->ours = *ours;
}

static void count_word(struct replay_compare *c, const struct replay_word *w)
{
	enum trace_word what = trace_word_class(w->word, w->level);

	c->compared++;
	c->tables += what == TRACE_WORD_TABLE;
	c->leaves += what == TRACE_WORD_LEAF;
	c->mmio += what == TRACE_WORD_MMIO;
}

/* Returns how many differ. */
static unsigned int compare_words(struct replay_compare *c, const struct replay *r,
				  const struct replay_fault *f)
{
	unsigned int nr = f->recorded->nr_installs, differ = 0;

	for (unsigned int i = 0; i < nr || i < c->nr_words; i++) {
		struct replay_word recorded = {0}, ours = {0};

		if (i < nr)
			recorded = recorded_word(
				&r->t->events[r->t->installs[f->recorded->first + i]]);
		if (i < c->nr_words)
			ours = c->words[i];
		if (recorded.there)
			count_word(c, &recorded);
		if (replay_same_word(&recorded, &ours))
			continue;
		differ++;
		word_differs(c, f, i, &recorded, &ours);
	}
	return differ;
}

/* ---- ends ---- */

/* Whether a mark_mmio_spte was recorded as it happened here: GFN, access, generation. */
static bool same_mark(const struct replay_compare *c, const struct replay *r,
		      const struct trace_fault *f)
{
	const struct trace_event *ev;

	if (f->mark == TRACE_NONE)
		return true;
	ev = &r->t->events[f->mark];
	return c->marked && c->mark.gfn == ev->mark.gfn && c->mark.access == ev->mark.access &&
	       c->mark.generation == ev->mark.gen;
}

/* The access is the VMM's, at the address that the guest used. */
static bool is_emulated(const struct replay_fault *f)
{
	return f->result == REPLAY_MMIO && f->exit.reason == TPT_EXIT_MMIO &&
	       f->exit.gpa.a == f->event->fault.gpa;
}

static bool same_outcome(const struct replay_compare *c, const struct replay *r,
			 const struct replay_fault *f)
{
	switch ((enum trace_outcome)f->recorded->outcome) {
	case TRACE_INSTALLED:
		return f->result == REPLAY_FIXED;
	case TRACE_MMIO_CREATED:
		return is_emulated(f) && same_mark(c, r, f->recorded);
	case TRACE_MMIO_HIT:
	case TRACE_RO_EMULATED:
		return is_emulated(f);
	case TRACE_COW_RETRY:
		return f->result == REPLAY_RETRY;
	case TRACE_FAST_FIXED:
		return f->result == REPLAY_FIXED;
	case TRACE_UNCHANGED:
	case TRACE_FAST_SPURIOUS:
	case TRACE_OUTCOMES:
		break;
	}
	/* Recorded with no answer: whoever was first, or the guest tried again. */
	return f->result == REPLAY_HIT || f->result == REPLAY_SPURIOUS || f->result == REPLAY_RETRY;
}

static void compare_outcome(struct replay_compare *c, const struct replay *r,
			    const struct replay_fault *f, bool words_differ)
{
	c->outcomes_compared++;
	if (same_outcome(c, r, f))
		return;
	c->outcomes_different++;
	if (!words_differ)
		add_finding(c, f, REPLAY_DIFFERENT_OUTCOME);
}

/*
 * The processor's error code. RSVD means that the entry was present (APM vol. 2, 15.25.6), so P
 * must be set with it; where the recording processor left P clear, that bit alone is not compared.
 */
static void compare_code(struct replay_compare *c, const struct replay_fault *f)
{
	uint64_t recorded = f->event->fault.error_code, differs = recorded ^ f->step.hw.error;

	if (!f->step.faulted)
		return;
	c->codes_compared++;
	if (differs == NPF_P && recorded & NPF_RSVD) {
		c->codes_lenient++;
	} else if (differs) {
		c->codes_different++;
		add_finding(c, f, REPLAY_DIFFERENT_CODE);
	}
}

/* ---- what had been inferred from what ---- */

/* One installed leaf: the slot that the inferred history gives it, and its block of 2 MiB. */
struct replay_evidence {
	const struct slot_def *slot;
	uint64_t gfn;
};

static int by_slot(const void *a, const void *b)
{
	const struct replay_evidence *x = a, *y = b;

	if (x->slot != y->slot)
		return x->slot < y->slot ? -1 : 1;
	return (x->gfn > y->gfn) - (x->gfn < y->gfn);
}

static const struct slot_def *slot_of_leaf(const struct replay *r, const struct trace_fault *f)
{
	const struct trace_event *ev = &r->t->events[f->leaf];

	return slots_find(slots_table_at(r->h, trace_zaps_before(r->t, f->event)), ev->change.as_id,
			  ev->change.gfn << 12);
}

/* Only an inferred history can have taken a slot's access or edges from a leaf alone. */
static void gather_evidence(struct replay_compare *c, const struct replay *r)
{
	struct replay_evidence *e = malloc(((size_t)r->t->nr_faults + 1) * sizeof(*e));
	size_t n = 0;

	c->evidence = e;
	for (uint32_t i = 0; e && i < r->t->nr_faults; i++) {
		const struct trace_fault *f = &r->t->faults[i];

		if (f->outcome == TRACE_INSTALLED)
			e[n++] = (struct replay_evidence){slot_of_leaf(r, f),
							  r->t->events[f->leaf].change.gfn};
	}
	c->nr_evidence = n;
	if (e)
		qsort(e, n, sizeof(*e), by_slot);
}

/* Is there a leaf of another page in the same slot, within [first, end)? */
static bool has_other(const struct replay_compare *c, const struct slot_def *slot, uint64_t first,
		      uint64_t end, uint64_t gfn)
{
	size_t lo = 0, hi = c->nr_evidence;
	const struct replay_evidence key = {slot, first};

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (by_slot(&c->evidence[mid], &key) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo < c->nr_evidence && c->evidence[lo].slot == slot && c->evidence[lo].gfn < end;
	     lo++)
		if (c->evidence[lo].gfn != gfn)
			return true;
	return false;
}

static void count_sources(struct replay_compare *c, const struct replay *r,
			  const struct replay_fault *f)
{
	const struct trace_event *leaf;
	const struct slot_def *slot;
	uint64_t gfn, block;
	bool own;

	if (f->recorded->outcome != TRACE_INSTALLED || !f->asked)
		return;
	c->frames[f->page.frame]++;
	c->levels[f->page.level]++;
	c->writes[f->page.write]++;
	/* A frame that is read-only at other pages too: which frame, was the compared word's to
	 * say.
	 */
	own = f->page.write == BACKING_WRITE_SHARED && f->page.frame == BACKING_FRAME_OWN;
	c->access_from_own += own;
	if (!c->nr_evidence)
		return;
	leaf = &r->t->events[f->recorded->leaf];
	slot = slot_of_leaf(r, f->recorded);
	gfn = leaf->change.gfn;
	block = gfn & ~511ull;
	c->access_from_own += !own && !has_other(c, slot, 0, UINT64_MAX, gfn);
	c->level_from_own +=
		f->page.host_level > leaf->level && !has_other(c, slot, block, block + 512, gfn);
}

/* ---- the observer ---- */

static void on_fault_begin(void *ctx, struct replay *r, const struct replay_fault *f)
{
	struct replay_compare *c = ctx;

	(void)r;
	(void)f;
	c->in_fault = true;
	c->nr_words = 0;
	c->marked = false;
}

static void on_event(void *ctx, struct replay *r, const struct tpt_event *e)
{
	struct replay_compare *c = ctx;
	enum trace_word what;

	if (r->call)
		replay_compare_dirty_event(c, r, e);
	if (!c->in_fault)
		return;
	if (e->kind == TPT_EVENT_MARK_MMIO) {
		c->marked = true;
		c->mark = *e;
	}
	if (e->kind != TPT_EVENT_SPTE_CHANGED)
		return;
	what = trace_word_class(e->new_spte.w, e->level);
	if (what == TRACE_WORD_EMPTY || what == TRACE_WORD_FROZEN ||
	    c->nr_words == REPLAY_MAX_WORDS)
		return;
	if (!c->nr_words)
		c->old_word = e->old_spte.w;
	c->words[c->nr_words++] =
		(struct replay_word){true, e->as_id, e->level, e->gfn, e->new_spte.w};
}

/*
 * A leaf's own word tells its frame. Where words were recorded and no frame is known, they are no
 * leaf of memory that the slots say is there: that is a difference, not a gap.
 */
static bool is_left_out(const struct replay_fault *f)
{
	return f->skip != REPLAY_SKIP_NONE &&
	       !(f->skip == REPLAY_SKIP_NO_FRAME && f->recorded->nr_installs);
}

static bool is_fast(const struct replay_fault *f)
{
	return f->recorded->outcome == TRACE_FAST_FIXED ||
	       f->recorded->outcome == TRACE_FAST_SPURIOUS;
}

static void on_fault_end(void *ctx, struct replay *r, const struct replay_fault *f)
{
	struct replay_compare *c = ctx;
	bool differ;

	c->in_fault = false;
	if (is_left_out(f)) {
		c->skipped_faults[f->skip]++;
		c->skipped_installs[f->skip] += f->recorded->nr_installs;
		return;
	}
	differ = is_fast(f) ? replay_compare_dirty_fast(c, r, f) : compare_words(c, r, f) > 0;
	compare_outcome(c, r, f, differ);
	compare_code(c, f);
	count_sources(c, r, f);
}

static void on_dirty(void *ctx, struct replay *r, const struct dirty_call *call)
{
	replay_compare_dirty_call(ctx, r, call);
}

static void on_played(void *ctx, struct replay *r, uint32_t event)
{
	replay_compare_dirty_played(ctx, r, event);
}

/* A fault installs on the way to its own address alone: no decision of ours could equal this. */
static void place_differs(struct replay_compare *c, const struct trace *t, uint32_t i)
{
	const struct replay_word recorded = recorded_word(&t->events[i]);
	const struct trace_event *fault = &t->events[t->owner[i]];

	c->misplaced++;
	c->different++;
	count_word(c, &recorded);
	if (c->nr_findings < REPLAY_MAX_FINDINGS)
		c->findings[c->nr_findings++] = (struct replay_finding){
			.what = REPLAY_DIFFERENT_PLACE,
			.line = t->events[i].line,
			.gpa = fault->fault.gpa,
			.error_code = fault->fault.error_code,
			.recorded = recorded,
		};
}

/* What of the recording is nobody's. */
static void survey(struct replay_compare *c, const struct trace *t)
{
	for (uint32_t i = 0; i < t->nr_events; i++) {
		const struct trace_event *ev = &t->events[i];
		bool change = ev->kind == TRACE_SPTE_CHANGED;

		c->unplaced_installs += change && t->attr[i] == TRACE_ATTR_NO_FAULT;
		if (change && t->attr[i] == TRACE_ATTR_WRONG_ADDRESS)
			place_differs(c, t, i);
	}
}

void replay_compare_attach(struct replay_compare *c, struct replay *r)
{
	const struct replay_observer o = {
		.fault_begin = on_fault_begin,
		.event = on_event,
		.fault_end = on_fault_end,
		.dirty = on_dirty,
		.played = on_played,
		.ctx = c,
	};

	memset(c, 0, sizeof(*c));
	survey(c, r->t);
	replay_compare_dirty_survey(c, r->t);
	c->installs = r->t->nr_installs + c->unplaced_installs + c->misplaced;
	c->outcomes = r->t->nr_faults;
	if (r->slots_inferred)
		gather_evidence(c, r);
	replay_observe(r, &o);
}

void replay_compare_free(struct replay_compare *c)
{
	replay_compare_dirty_end(c);
	free(c->evidence);
	c->evidence = NULL;
	c->nr_evidence = 0;
}

bool replay_compare_failed(const struct replay_compare *c)
{
	return c->different || c->outcomes_different || c->codes_different || c->dirty.failed;
}
