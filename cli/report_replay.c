// SPDX-License-Identifier: BSD-2-Clause
/*
 * Watches a replay and tells the report. Errors of the report (memory, alone) are latched in it and
 * come out when it is written, so that no replay ends for the sake of its picture.
 */
#include "cli/report_replay.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static void begin_act(struct report_replay *o)
{
	o->attempts = 0;
	o->tables = 0;
	o->calls = 0;
	o->zapped_all = false;
	o->begin_ns = now_ns();
}

/* ---- what the library tells ---- */

static void tell_change(struct report_replay *o, const struct tpt_event *e, enum report_tree tree)
{
	if (e->level > TPT_LEVEL_4K &&
	    report_state_of(e->new_spte.w, o->format, e->level) == REPORT_TABLE)
		o->tables++;
	report_change(o->report, &(struct report_change){.tree = tree,
							 .gfn = e->gfn,
							 .level = e->level,
							 .old_word = e->old_spte.w,
							 .new_word = e->new_spte.w,
							 .format = o->format});
}

/* What the owner has now; an entry that it no longer has is empty. */
static void look_outside(struct report_replay *o, tpt_gfn gfn, unsigned int level)
{
	struct report_change c = {.tree = REPORT_TREE_EXTERNAL,
				  .gfn = gfn,
				  .level = level,
				  .format = TPT_WORD_SEPT,
				  .old_unknown = true};

	if (!o->external)
		return;
	if (!o->external(o->external_ctx, gfn, level, &c.new_word))
		c.new_word = 0;
	report_change(o->report, &c);
}

static void on_event(void *ctx, struct replay *r, const struct tpt_event *e)
{
	struct report_replay *o = ctx;

	(void)r;
	switch (e->kind) {
	case TPT_EVENT_PAGE_FAULT:
		o->attempts++;
		break;
	case TPT_EVENT_SPTE_CHANGED:
		tell_change(o, e, e->as_id ? REPORT_TREE_DIRECT_SMM : REPORT_TREE_DIRECT);
		break;
	case TPT_EVENT_MIRROR_CHANGED:
		tell_change(o, e, REPORT_TREE_MIRROR);
		break;
	case TPT_EVENT_ZAP_ALL_FAST:
		o->zapped_all = true;
		report_drop_tree(o->report, REPORT_TREE_DIRECT);
		report_drop_tree(o->report, REPORT_TREE_DIRECT_SMM);
		break;
	case TPT_EVENT_EXTERNAL:
		o->calls++;
		/* A track is about no entry; a call that failed changed none. */
		if (!e->result && e->call != TPT_CALL_TRACK)
			look_outside(o, e->gfn, e->level);
		break;
	default:
		break;
	}
}

/* ---- faults ---- */

static uint32_t access_bits(enum replay_access access)
{
	static const uint32_t bits[REPLAY_ACCESSES] = {
		[REPLAY_READ] = TPT_ACC_READ,
		[REPLAY_WRITE] = TPT_ACC_READ | TPT_ACC_WRITE,
		[REPLAY_FETCH] = TPT_ACC_READ | TPT_ACC_EXEC,
		[REPLAY_GUEST_WALK] = TPT_ACC_READ,
	};

	return bits[access];
}

static const char *note_of(const struct replay_fault *f)
{
	if (f->skip != REPLAY_SKIP_NONE)
		return replay_skip_name(f->skip);
	if (f->result == REPLAY_ERROR)
		return "refused";
	return f->page.inner_unmap != TRACE_NONE && f->asked ? "copied inside its own lookup"
							     : NULL;
}

static void on_fault_begin(void *ctx, struct replay *r, const struct replay_fault *f)
{
	(void)r;
	(void)f;
	begin_act(ctx);
}

static void on_fault_end(void *ctx, struct replay *r, const struct replay_fault *f)
{
	struct report_replay *o = ctx;
	const struct trace_event *ev = f->event;
	const struct slot_def *slot =
		slots_find(replay_table(r), f->recorded->as_id, ev->fault.gpa);
	struct report_fault fault = {
		.line = ev->line,
		.time_us = ev->time_us,
		.vcpu = ev->fault.vcpu < -1 ? -1 : ev->fault.vcpu,
		.as_id = f->recorded->as_id,
		.gpa = ev->fault.gpa & ((1ull << TRACE_GPA_BITS) - 1),
		.error_code = ev->fault.error_code,
		.access = access_bits(f->access),
		.outcome = replay_result_name(f->result),
		.retries = o->attempts > 1 ? o->attempts - 1 : 0,
		.tables = o->tables,
		.external = o->calls,
		.slot = slot ? slot->id : -1,
		.cost_ns = now_ns() - o->begin_ns,
		.note = note_of(f),
	};

	report_fault(o->report, &fault);
	begin_act(o);
}

/* ---- slots, host and ourselves ---- */

static void end_event(struct report_replay *o, struct replay *r, struct report_event *e)
{
	struct replay_moment at = replay_now(r);

	e->line = at.line;
	e->time_us = at.time_us;
	e->external = o->calls;
	report_event(o->report, e);
	begin_act(o);
}

static void on_slot(void *ctx, struct replay *r, const struct replay_slot *slot)
{
	struct report_replay *o = ctx;
	const struct slot_def *def = slot->def;
	const char *region = r->h->regions[def->region].name;
	struct tpt_gfn_range range = {def->start >> TPT_PAGE_SHIFT, def->end >> TPT_PAGE_SHIFT};
	char text[128];

	snprintf(text, sizeof(text), "slot %u %s: %s%s, address space %u", def->id,
		 slot->create ? "created" : "deleted", region, def->readonly ? ", read-only" : "",
		 slot->as_id);
	if (slot->create)
		report_region(o->report, &(struct report_region){range, region, def->readonly});
	end_event(o, r,
		  &(struct report_event){.kind = o->zapped_all ? REPORT_EVENT_ZAP_ALL
							       : REPORT_EVENT_SLOTS,
					 .range = range,
					 .text = text});
}

static void on_host(void *ctx, struct replay *r, uint32_t event, int removed)
{
	const struct trace_event *ev = &r->t->events[event];
	char text[128];

	snprintf(text, sizeof(text), "HVA 0x%llx, %llu KiB: %d removed",
		 (unsigned long long)ev->hva.start,
		 (unsigned long long)(ev->hva.end - ev->hva.start) >> 10, removed);
	/* Ranges of the host's own memory are most of a trace, and nothing here. */
	if (removed)
		end_event(ctx, r,
			  &(struct report_event){.kind = REPORT_EVENT_NOTIFIER, .text = text});
}

void report_replay_accepted(struct report_replay *o, struct replay *r, tpt_gfn gfn,
			    unsigned int level)
{
	look_outside(o, gfn, level);
	if (!r->fault)
		report_replay_event(o, r, REPORT_EVENT_ACCEPT,
				    (struct tpt_gfn_range){gfn, gfn + tpt_level_pages(level)},
				    NULL);
}

void report_replay_event(struct report_replay *o, struct replay *r, enum report_event_kind kind,
			 struct tpt_gfn_range range, const char *text)
{
	end_event(o, r,
		  &(struct report_event){.kind = kind, .range = range, .ours = true, .text = text});
}

void report_replay_external(struct report_replay *o, report_external_fn *external, void *ctx)
{
	o->external = external;
	o->external_ctx = ctx;
}

/* ---- begin and end ---- */

static enum report_vm vm_kind(const char *name)
{
	if (!strcmp(name, "td"))
		return REPORT_VM_TD;
	return strcmp(name, "npt") != 0 ? REPORT_VM_EPT : REPORT_VM_NPT;
}

int report_replay_attach(struct report_replay *o, struct replay *r, const char *name)
{
	const struct report_info info = {
		.trace = name,
		.vm = vm_kind(r->ops->name),
		.version = TRIPTYCH_VERSION,
		.time_note = "Times beside lines are the recording's; the time that a fault took "
			     "is the replay's, on this machine, its processor model included.",
	};
	const struct replay_observer observer = {
		.fault_begin = on_fault_begin,
		.event = on_event,
		.fault_end = on_fault_end,
		.slot = on_slot,
		.host = on_host,
		.ctx = o,
	};
	int err;

	memset(o, 0, sizeof(*o));
	o->format = info.vm == REPORT_VM_NPT ? TPT_WORD_NPT : TPT_WORD_EPT;
	err = report_create(&o->report, &info);
	if (err)
		return err;
	return replay_observe(r, &observer) ? 0 : -ENOSPC;
}

static void count_vcpus(struct report *r, const struct tpt_vcpu_stats *s)
{
	report_counter(r, "Faults", "pf_taken", s->pf_taken);
	report_counter(r, "Faults", "pf_fixed", s->pf_fixed);
	report_counter(r, "Faults", "pf_emulate", s->pf_emulate);
	report_counter(r, "Faults", "pf_spurious", s->pf_spurious);
	report_counter(r, "Faults", "pf_retry", s->pf_retry);
	report_counter(r, "Faults", "pf_mmio_spte_created", s->pf_mmio_spte_created);
	for (int i = 0; i < TPT_CALL_NR; i++)
		if (s->external_calls[i])
			report_counter(r, "Calls to the external table",
				       tpt_external_call_name((enum tpt_external_call)i),
				       s->external_calls[i]);
	for (int i = 0; i < TPT_CALL_NR; i++)
		if (s->external_busy[i])
			report_counter(r, "Calls answered busy",
				       tpt_external_call_name((enum tpt_external_call)i),
				       s->external_busy[i]);
}

static void count_tree(struct report *r, const char *group, const struct tpt_tree_stats *s)
{
	report_counter(r, group, "pages_4k", s->pages_4k);
	report_counter(r, group, "pages_2m", s->pages_2m);
	report_counter(r, group, "pages_1g", s->pages_1g);
	report_counter(r, group, "MMIO entries", s->mmio);
	report_counter(r, group, "blocked", s->blocked);
	report_counter(r, group, "tables, 4 KiB each", s->tables);
}

static void count_flushes(struct report *r, const struct tpt_vm_stats *s)
{
	for (unsigned int i = 0; i < TPT_FLUSH_NR; i++)
		if (s->flush[i])
			report_counter(r, "Flushes, by reason", replay_flush_text(i), s->flush[i]);
	for (unsigned int i = 0; i < TPT_KICK_NR; i++)
		if (s->kick[i])
			report_counter(r, "Kicks, by reason", replay_kick_text(i), s->kick[i]);
}

static void count_all(struct report *r, const struct replay *replay,
		      const struct replay_compare *compare)
{
	const struct tpt_vm_stats *s = &replay->stats;

	count_vcpus(r, &s->vcpus);
	count_tree(r, "Direct trees at the end", &s->direct);
	if (!strcmp(replay->ops->name, "td"))
		count_tree(r, "Mirror at the end", &s->mirror);
	count_flushes(r, s);
	if (compare) {
		report_counter(r, "Comparison with the recording", "installs recorded",
			       compare->installs);
		report_counter(r, "Comparison with the recording", "installs compared",
			       compare->compared);
		report_counter(r, "Comparison with the recording", "installs different",
			       compare->different);
	}
}

static void count_checks(struct report *r, const struct replay *replay)
{
	report_counter(r, "Checks", "missing flushes", replay->judge_reports);
	report_counter(r, "Checks", "audit findings", (uint64_t)replay->audit_faults);
	report_counter(r, "Checks", "platform rules broken", replay->misuses);
	report_counter(r, "Checks", "trace lines that are no good", replay->t->nr_bad);
	if (replay->t->cut)
		report_note(r, "The trace is cut off: its end is missing.");
	if (replay->slots_inferred)
		report_note(r, "The memslots were inferred from the trace.");
	if (replay->dead)
		report_note(r, replay->dead_text);
}

int report_replay_write(struct report_replay *o, const struct replay *r,
			const struct replay_compare *compare, const char *path,
			char err[REPORT_ERR_LEN])
{
	count_all(o->report, r, compare);
	count_checks(o->report, r);
	return report_write(o->report, path, err);
}

void report_replay_free(struct report_replay *o)
{
	report_destroy(o->report);
	o->report = NULL;
}
