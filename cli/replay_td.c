// SPDX-License-Identifier: BSD-2-Clause
/*
 * A recorded guest as a TD: builds it, makes each recorded access in it, moves its window, takes it
 * down. What becomes of an access is the library's, the module's and the guest's own half's.
 */
#include "cli/replay_td.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/replay_td_plan.h"
#include "cli/report_replay.h"

#define PAGE TD_PLAN_PAGE

enum window { WINDOW_NOT_YET, WINDOW_OPEN, WINDOW_DONE };

struct td_replay {
	struct replay_td out; /* first: what the screen gets as replay.vm */
	struct replay *r;
	struct simtd *td;
	struct td_plan plan;
	enum window window;
	uint32_t open_at, close_at; /* recorded faults made by then */
	uint64_t tokens;	    /* words written so far: each is another */
	bool closing;		    /* the guest takes its window back */
	bool changed;		    /* an entry, during the access under way */
};

/* ---- watchers ---- */

static void on_event(void *ctx, const struct tpt_event *e)
{
	struct td_replay *m = ctx;

	m->changed |= e->kind == TPT_EVENT_SPTE_CHANGED || e->kind == TPT_EVENT_MIRROR_CHANGED;
	replay_event(m->r, e);
}

static void on_accept(void *ctx, unsigned int vcpu, tpt_gfn gfn, enum tpt_level level)
{
	struct td_replay *m = ctx;

	(void)vcpu;
	m->out.window_accepts += m->closing;
	if (m->r->report)
		report_replay_accepted(m->r->report, m->r, gfn, level);
}

static void tell(struct td_replay *m, enum report_event_kind kind, uint64_t gpa, uint64_t size,
		 const char *text)
{
	struct tpt_gfn_range range = {gpa / PAGE, (gpa + size) / PAGE};

	if (m->r->report)
		report_replay_event(m->r->report, m->r, kind, range, text);
}

/* The owner's entry for the report. After the key's end pages come back without an entry. */
static bool look_outside(void *ctx, tpt_gfn gfn, unsigned int level, uint64_t *word)
{
	struct td_replay *m = ctx;
	struct tdx_sept_view view;
	enum tdx_td_state state;

	if (!simtd_tdx(m->td))
		return false;
	state = tdx_td_state(simtd_tdx(m->td));
	if (state != TDX_TD_BUILDING && state != TDX_TD_RUNNABLE)
		return false;
	if (tdx_module_view_sept(simtd_module(m->td), tdx_td_tdr(simtd_tdx(m->td)).a, gfn * PAGE,
				 level - 1, 0, &view) ||
	    view.level != level - 1 || view.state == TDX_SEPT_FREE)
		return false;
	*word = view.raw;
	return true;
}

static void audit(struct td_replay *m)
{
	char text[REPLAY_WHY_LEN] = "";
	int found = tpt_vm_audit(simtd_vm(m->td), text, sizeof(text));

	m->out.audits++;
	if (found && !m->out.audit_findings)
		snprintf(m->out.audit_text, sizeof(m->out.audit_text), "%s", text);
	m->out.audit_findings += (uint64_t)found;
}

/* ---- building ---- */

static int add_slots(struct td_replay *m)
{
	for (uint32_t i = 0; i < m->plan.nr_ranges; i++) {
		const struct td_range *g = &m->plan.ranges[i];
		int err = simtd_add_slot(m->td, g->start, g->end - g->start);

		if (err)
			return replay_fail(m->r, err, "memory [%#lx, %#lx) of the TD: %s", g->start,
					   g->end, strerror(-err));
	}
	return 0;
}

static int build_page(struct td_replay *m, uint64_t gpa)
{
	uint64_t content[PAGE / 8];
	int err;

	for (uint64_t i = 0; i < PAGE / 8; i++)
		content[i] = td_plan_word(gpa + 8 * i);
	err = simtd_add_page(m->td, gpa, content, true);
	if (err)
		return replay_fail(m->r, err, "page %#lx of the TD's image: %s", gpa,
				   strerror(-err));
	m->out.built++;
	m->out.built_first_megabyte += gpa < 1 << 20;
	tell(m, REPORT_EVENT_BUILD, gpa, PAGE, NULL);
	return 0;
}

static int build(struct td_replay *m)
{
	int err = add_slots(m);

	for (uint32_t i = 0; !err && i < m->plan.nr_ranges; i++) {
		const struct td_range *g = &m->plan.ranges[i];

		for (uint64_t gpa = g->start; !err && gpa < g->end; gpa += PAGE)
			if (g->pages[(gpa - g->start) / PAGE].image)
				err = build_page(m, gpa);
	}
	if (err)
		return err;
	err = simtd_finalize(m->td);
	if (!err)
		err = tdx_module_view_mrtd(simtd_module(m->td), tdx_td_tdr(simtd_tdx(m->td)).a,
					   m->out.mrtd);
	if (err)
		return replay_fail(m->r, err, "the TD can't be finalised: %s", strerror(-err));
	audit(m);
	return 0;
}

static int make_td(struct td_replay *m)
{
	struct replay *r = m->r;
	const struct simtd_config c = {
		.nr_vcpus = r->nr_vcpus,
		.private_bytes = m->plan.bytes,
		.shared_bytes = 2 * REPLAY_TD_WINDOW,
		.shared_level = m->plan.huge_pages ? TPT_LEVEL_2M : TPT_LEVEL_4K,
		.private_level = r->private_level,
		.event = on_event,
		.event_ctx = m,
		.accepted = on_accept,
		.ctx = m,
	};
	char why[REPLAY_WHY_LEN / 2] = "";
	int err;

	if (r->nr_vcpus > TD_MAX_VCPUS)
		return replay_fail(r, -E2BIG, "%u vCPUs: a TD has at most %u here", r->nr_vcpus,
				   TD_MAX_VCPUS);
	err = simtd_create(&m->td, &c, why, sizeof(why));
	if (err)
		return replay_fail(r, err, "the TD can't be made: %s", why);
	r->sim = simtd_sim(m->td);
	simtd_give_sim(m->td);
	if (r->report)
		report_replay_external(r->report, look_outside, m);
	return 0;
}

static int td_start(struct replay *r)
{
	struct td_replay *m = calloc(1, sizeof(*m));
	int err;

	if (!m)
		return replay_fail(r, -ENOMEM, "no memory");
	r->vm = m;
	m->r = r;
	m->out.window = ~0ull;
	m->open_at = r->t->nr_faults / 2;
	m->close_at = r->t->nr_faults - r->t->nr_faults / 4;
	if (td_plan_make(&m->plan, r->t, r->h))
		return replay_fail(r, -ENOMEM, "no memory");
	m->out.ram_bytes = m->plan.bytes;
	m->out.read_only_bytes = m->plan.read_only_bytes;
	err = make_td(m);
	return err ? err : build(m);
}

/* ---- accesses ---- */

static bool in_window(const struct td_replay *m, uint64_t gpa)
{
	return m->window == WINDOW_OPEN && gpa - m->out.window < REPLAY_TD_WINDOW;
}

/* What a page that nobody has written holds. */
static uint64_t initial_word(const struct td_replay *m, const struct td_page *page, uint64_t gpa)
{
	return page->image && !in_window(m, gpa) ? td_plan_word(gpa) : 0;
}

static int write_word(struct td_replay *m, unsigned int vcpu, uint64_t gpa, uint64_t shared)
{
	struct td_page *page = td_plan_page(&m->plan, gpa);
	uint64_t word = ++m->tokens << 20 | vcpu;
	const struct simtd_access a = {gpa | shared, MACHINE_WRITE, &word, sizeof(word)};
	int ret = simtd_guest_touch(m->td, vcpu, &a);

	if (ret == TD_TOUCHED) {
		page->word = word;
		page->at = gpa % PAGE;
		page->has_word = true;
	}
	return ret;
}

/* Reads where the page was last written, if it was: the page is what matters to the trees. */
static int read_word(struct td_replay *m, unsigned int vcpu, uint64_t gpa, uint64_t shared)
{
	const struct td_page *page = td_plan_page(&m->plan, gpa);
	uint64_t at = page->has_word ? (gpa & ~(PAGE - 1)) + page->at : gpa;
	uint64_t expected = page->has_word ? page->word : initial_word(m, page, at), word = 0;
	const struct simtd_access a = {at | shared, MACHINE_READ, &word, sizeof(word)};
	int ret = simtd_guest_touch(m->td, vcpu, &a);

	if (ret == TD_TOUCHED) {
		m->out.words_checked++;
		m->out.words_wrong += word != expected;
	}
	return ret;
}

static int touch_memory(struct td_replay *m, const struct replay_fault *f, uint64_t gpa,
			uint64_t shared)
{
	const struct simtd_access a = {.gpa = gpa | shared, .kind = f->kind};

	switch (f->access) {
	case REPLAY_WRITE:
		return write_word(m, f->vcpu, gpa & ~7ull, shared);
	case REPLAY_READ:
		return read_word(m, f->vcpu, gpa & ~7ull, shared);
	default:
		return simtd_guest_touch(m->td, f->vcpu, &a);
	}
}

static int touch_device(struct td_replay *m, const struct replay_fault *f, uint64_t gpa)
{
	const struct simtd_access a = {.gpa = gpa | simtd_shared(m->td),
				       .kind = f->kind & ~(unsigned int)MACHINE_GUEST_WALK};

	return simtd_guest_touch(m->td, f->vcpu, &a);
}

static void apply_rules(struct td_replay *m, const struct replay_fault *f, bool memory)
{
	uint64_t *rules = m->out.rules;

	if (!memory)
		return;
	rules[REPLAY_TD_ROM_WRITE] += f->recorded->outcome == TRACE_RO_EMULATED;
	rules[REPLAY_TD_MMIO_AS_RAM] += f->recorded->outcome == TRACE_MMIO_CREATED ||
					f->recorded->outcome == TRACE_MMIO_HIT;
}

static void skip(struct replay_fault *f, enum replay_skip why)
{
	f->result = REPLAY_SKIPPED;
	f->skip = why;
}

/* Where the fault's page is now, and what that makes of its result. */
static void classify(struct td_replay *m, struct replay_fault *f, struct td_page *page,
		     uint64_t shared, int ret)
{
	if (ret < 0) {
		f->result = REPLAY_ERROR;
		if (!m->out.failed++)
			snprintf(m->out.failed_text, sizeof(m->out.failed_text),
				 "line %u, vCPU %u, gpa %#lx: %s", f->event->line, f->vcpu,
				 f->event->fault.gpa, strerror(-ret));
	} else if (ret == TD_MMIO) {
		f->result = REPLAY_MMIO;
	} else {
		f->result = m->changed ? REPLAY_FIXED : REPLAY_HIT;
		m->out.rules[REPLAY_TD_HIT] += !m->changed;
		if (m->changed && !shared)
			page->by_fault = true;
	}
}

static int td_fault(struct replay *r, struct replay_fault *f)
{
	struct td_replay *m = r->vm;
	uint64_t gpa = f->event->fault.gpa, shared;
	struct td_page *page = td_plan_page(&m->plan, gpa);
	int ret;

	if (gpa >= simtd_shared(m->td)) {
		skip(f, REPLAY_SKIP_BAD_GPA);
		return 0;
	}
	shared = !page || in_window(m, gpa) ? simtd_shared(m->td) : 0;
	if (shared && f->kind & MACHINE_EXEC) {
		m->out.rules[REPLAY_TD_SHARED_FETCH]++;
		skip(f, REPLAY_SKIP_NO_PLACE);
		return 0;
	}
	apply_rules(m, f, page);
	m->out.rules[REPLAY_TD_WINDOW_ACCESS] += page && shared;
	m->changed = false;
	ret = page ? touch_memory(m, f, gpa, shared) : touch_device(m, f, gpa);
	classify(m, f, page, shared, ret);
	if (ret < 0 && tpt_vm_is_dead(simtd_vm(m->td)))
		return replay_fail(r, ret, "line %u: the VM is dead: %s", f->event->line,
				   tpt_vm_report(simtd_vm(m->td)));
	return 0;
}

/* ---- what is passed over, and the host ---- */

static int td_slot(struct replay *r, const struct replay_slot *slot)
{
	struct td_replay *m = r->vm;

	(void)slot;
	m->out.slot_changes++;
	return 0;
}

static int td_zap_all(struct replay *r)
{
	struct td_replay *m = r->vm;

	m->out.zap_alls++;
	return 0;
}

/* What slots of the recorded machine show of the range is taken back from the TD's. */
static int td_host(struct replay *r, uint64_t start, uint64_t end)
{
	const struct slot_table *t = replay_table(r);
	int removed = 0;

	start &= ~(PAGE - 1);
	end = (end + PAGE - 1) & ~(PAGE - 1);
	for (uint32_t i = 0; t && i < t->nr_slots && removed >= 0; i++) {
		const struct slot_def *s = &t->slots[i];
		uint64_t hva = replay_slot_hva(r, s), hva_end = hva + s->end - s->start;
		uint64_t from = start > hva ? start : hva, to = end < hva_end ? end : hva_end;
		int n;

		if (!(s->as_mask & 1) || from >= to)
			continue;
		n = sim_invalidate(r->sim, simtd_hva(s->start + (from - hva)),
				   simtd_hva(s->start + (to - hva)));
		removed = n < 0 ? n : removed + n;
	}
	return removed;
}

/* ---- the window ---- */

/* Pages of the block that came by fault, 0 if it can't be the window: part of the image is in it.
 */
static uint64_t pages_by_fault(const struct td_range *g, uint64_t gpa)
{
	uint64_t n = 0, first = (gpa - g->start) / PAGE;

	for (uint64_t i = first; i < first + REPLAY_TD_WINDOW / PAGE; i++) {
		if (g->pages[i].image)
			return 0;
		n += g->pages[i].by_fault;
	}
	return n;
}

/* The block with most pages that came by fault; the uppermost of several. */
static bool choose_window(struct td_replay *m)
{
	uint64_t most = 0;

	for (uint32_t i = 0; i < m->plan.nr_ranges; i++) {
		const struct td_range *g = &m->plan.ranges[i];
		uint64_t gpa = (g->start + REPLAY_TD_WINDOW - 1) & ~(REPLAY_TD_WINDOW - 1);

		for (; gpa + REPLAY_TD_WINDOW <= g->end; gpa += REPLAY_TD_WINDOW) {
			uint64_t n = pages_by_fault(g, gpa);

			if (!n || n < most)
				continue;
			most = n;
			m->out.window = gpa;
		}
	}
	return most;
}

/* The window's pages are empty on the other side. */
static void forget_window(struct td_replay *m)
{
	for (uint64_t gpa = m->out.window; gpa < m->out.window + REPLAY_TD_WINDOW; gpa += PAGE) {
		struct td_page *page = td_plan_page(&m->plan, gpa);

		page->has_word = false;
		page->by_fault = false;
	}
}

static int window_fail(struct td_replay *m, int err, const char *what)
{
	return replay_fail(m->r, err, "the window at %#lx: %s: %s", m->out.window, what,
			   strerror(-err));
}

/* The guest leaves a word in each page, the host finds it and answers, the guest finds that. */
static int bounce(struct td_replay *m)
{
	for (uint64_t i = 0; i < REPLAY_TD_WINDOW / PAGE; i++) {
		unsigned int vcpu = (unsigned int)(i % m->r->nr_vcpus);
		uint64_t gpa = m->out.window + i * PAGE + 8 * (i % 512), *word;
		struct td_page *page = td_plan_page(&m->plan, gpa);
		int ret = write_word(m, vcpu, gpa, simtd_shared(m->td));

		if (ret != TD_TOUCHED)
			return window_fail(m, ret < 0 ? ret : -EFAULT, "a write of the guest");
		word = simtd_shared_ptr(m->td, gpa);
		m->out.words_wrong += !word || *word != page->word;
		if (word)
			*word = page->word = ~page->word;
		ret = read_word(m, (vcpu + 1) % m->r->nr_vcpus, gpa, simtd_shared(m->td));
		if (ret != TD_TOUCHED)
			return window_fail(m, ret < 0 ? ret : -EFAULT, "a read of the guest");
		m->out.window_words += 2;
	}
	return 0;
}

static uint64_t private_pages(const struct tpt_vm_stats *s)
{
	return s->mirror.pages_4k + 512 * s->mirror.pages_2m;
}

static int open_window(struct td_replay *m)
{
	struct tpt_vm_stats before, after;
	int err;

	m->window = WINDOW_DONE;
	if (!choose_window(m))
		return 0;
	tpt_vm_get_stats(simtd_vm(m->td), &before);
	err = simtd_guest_map_gpa(m->td, 0, m->out.window, REPLAY_TD_WINDOW, false);
	if (err)
		return window_fail(m, err, "MapGPA to shared");
	tell(m, REPORT_EVENT_TO_SHARED, m->out.window, REPLAY_TD_WINDOW,
	     "the guest makes its bounce buffer shared");
	tpt_vm_get_stats(simtd_vm(m->td), &after);
	m->out.window_removed = private_pages(&before) - private_pages(&after);
	m->out.window_open_line = replay_now(m->r).line;
	m->window = WINDOW_OPEN;
	forget_window(m);
	err = bounce(m);
	if (!err)
		tell(m, REPORT_EVENT_OTHER, m->out.window, REPLAY_TD_WINDOW,
		     "guest and host pass each other words in the bounce buffer");
	audit(m);
	return err;
}

static int close_window(struct td_replay *m)
{
	int err = simtd_guest_map_gpa(m->td, 0, m->out.window, REPLAY_TD_WINDOW, true);

	if (err)
		return window_fail(m, err, "MapGPA to private");
	tell(m, REPORT_EVENT_TO_PRIVATE, m->out.window, REPLAY_TD_WINDOW,
	     "the guest makes its bounce buffer private again");
	m->closing = true;
	err = simtd_guest_accept(m->td, 0, m->out.window, REPLAY_TD_WINDOW);
	m->closing = false;
	if (err)
		return window_fail(m, err, "ACCEPT");
	forget_window(m);
	m->window = WINDOW_DONE;
	m->out.window_close_line = replay_now(m->r).line;
	/* Empty, as the module promises. */
	for (uint64_t i = 0; !err && i < REPLAY_TD_WINDOW / PAGE; i++)
		err = read_word(m, 0, m->out.window + i * PAGE, 0);
	audit(m);
	return err ? window_fail(m, err, "a read after ACCEPT") : 0;
}

static int td_tick(struct replay *r)
{
	struct td_replay *m = r->vm;

	if (m->window == WINDOW_NOT_YET && r->counts.faults >= m->open_at)
		return open_window(m);
	if (m->window == WINDOW_OPEN && r->counts.faults >= m->close_at)
		return close_window(m);
	return 0;
}

/* ---- the end ---- */

struct looking {
	struct td_replay *m;
	struct replay_td *out;
};

static bool count_external(void *ctx, const struct tpt_mapping *mapping)
{
	struct looking *l = ctx;
	struct tdx_sept_view view;

	if (mapping->tree != TPT_TREE_MIRROR)
		return true;
	if (tdx_module_view_sept(simtd_module(l->m->td), tdx_td_tdr(simtd_tdx(l->m->td)).a,
				 mapping->gfn * PAGE, mapping->level - 1, 0, &view))
		return true;
	l->out->external_mapped += view.state == TDX_SEPT_MAPPED;
	l->out->external_pending += view.state == TDX_SEPT_PENDING;
	l->out->external_blocked +=
		view.state == TDX_SEPT_BLOCKED || view.state == TDX_SEPT_PENDING_BLOCKED;
	l->out->external_tables += view.state == TDX_SEPT_NL_MAPPED;
	return true;
}

static int td_finish(struct replay *r)
{
	struct td_replay *m = r->vm;
	struct looking l = {m, &m->out};
	int err = m->window == WINDOW_OPEN ? close_window(m) : 0;

	if (err)
		return err;
	tpt_vm_for_each_mapping(simtd_vm(m->td), count_external, &l);
	/* The root is the TD's own: a TDCS page. */
	m->out.external_tables++;
	simtd_get_stats(m->td, &m->out.stats);
	tdx_host_get_stats(simtd_host(m->td), &m->out.host);
	return 0;
}

/* What is wrong with a TD that has ended, or NULL. */
static const char *verdict(const struct replay_td *out)
{
	if (out->audit_findings)
		return "an audit while the guest ran found something";
	if (out->failed)
		return "an access of the guest failed";
	if (out->words_wrong)
		return "memory lost or kept what it must not";
	if (!simtd_ended_clean(&out->remains))
		return "pages did not come back from the TD";
	return NULL;
}

static void td_teardown(struct replay *r)
{
	struct td_replay *m = r->vm;
	const char *wrong;

	if (!m || !m->td)
		return;
	simtd_end(m->td, &m->out.remains);
	m->out.torn_down = true;
	tell(m, REPORT_EVENT_TEARDOWN, 0, 0, "the key is gone, every page is taken back");
	simtd_destroy(m->td);
	m->td = NULL;
	wrong = verdict(&m->out);
	if (wrong)
		snprintf(r->kind_text, sizeof(r->kind_text), "%s", wrong);
}

static void td_free(struct replay *r)
{
	struct td_replay *m = r->vm;

	if (!m)
		return;
	simtd_destroy(m->td);
	td_plan_free(&m->plan);
	free(m);
	r->vm = NULL;
}

const struct replay_vm_ops replay_td_ops = {
	.name = "td",
	.address_spaces = 1,
	.start = td_start,
	.slot = td_slot,
	.zap_all = td_zap_all,
	.fault = td_fault,
	.host = td_host,
	.tick = td_tick,
	.finish = td_finish,
	.teardown = td_teardown,
	.screen = replay_td_screen,
	.json = replay_td_json,
	.free = td_free,
};
