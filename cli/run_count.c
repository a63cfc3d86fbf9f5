// SPDX-License-Identifier: BSD-2-Clause
/* What was counted in a run, as a list of names and numbers, and what was expected of it. Knows no
 * times. */
#include "cli/run.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of a table: its page, and its header of one cache line (platform.h). */
#define TABLE_BYTES  (4096 + 64)
#define MAX_COUNTERS 512

static const char *const flush_names[TPT_FLUSH_NR] = {
	[TPT_FLUSH_ZAP_MEMSLOT] = "memslot",
	[TPT_FLUSH_ZAP_NOTIFIER] = "notifier",
	[TPT_FLUSH_ZAP_CONVERSION] = "conversion",
	[TPT_FLUSH_ZAP_RANGE] = "range",
	[TPT_FLUSH_ROOT] = "root",
	[TPT_FLUSH_COLLAPSE] = "collapse",
	[TPT_FLUSH_DIRTY_LOG] = "dirty_log",
	[TPT_FLUSH_PERMISSION] = "permission",
	[TPT_FLUSH_NX_RECOVERY] = "nx_recovery",
};

static const char *const kick_names[TPT_KICK_NR] = {
	[TPT_KICK_TRACK] = "track",
	[TPT_KICK_RETRY] = "retry",
	[TPT_KICK_DIRTY_LOG] = "dirty_log",
	[TPT_KICK_DEAD] = "dead",
};

static const char *const event_names[RUN_EVENT_KINDS] = {
	[RUN_EVENT_PHASE] = "phase",
	[RUN_EVENT_SLOT_CREATE] = "slot_create",
	[RUN_EVENT_SLOT_DELETE] = "slot_delete",
	[RUN_EVENT_SLOT_MOVE] = "slot_move",
	[RUN_EVENT_LOG_ON] = "log_on",
	[RUN_EVENT_LOG_OFF] = "log_off",
	[RUN_EVENT_LOG_GET] = "log_get",
	[RUN_EVENT_LOG_CLEAR] = "log_clear",
	[RUN_EVENT_UNMAP] = "unmap",
	[RUN_EVENT_CONVERT_PRIVATE] = "convert_private",
	[RUN_EVENT_CONVERT_SHARED] = "convert_shared",
	[RUN_EVENT_PUNCH] = "punch",
	[RUN_EVENT_ZAP_ALL] = "zap_all",
	[RUN_EVENT_AGE] = "age",
	[RUN_EVENT_TEST_AGE] = "test_age",
	[RUN_EVENT_PREFAULT] = "prefault",
	[RUN_EVENT_PREMAP] = "premap",
	[RUN_EVENT_NX_MODE] = "nx_mode",
	[RUN_EVENT_NX_RECOVER] = "nx_recover",
	[RUN_EVENT_RING_DRAIN] = "ring_drain",
	[RUN_EVENT_AUDIT] = "audit",
	[RUN_EVENT_KILL] = "kill",
	[RUN_EVENT_KICK] = "kick",
	[RUN_EVENT_NAME] = "name",
	[RUN_EVENT_SEAMCALL] = "seamcall",
	[RUN_EVENT_TDCALL] = "tdcall",
	[RUN_EVENT_TOUCH] = "touch",
	[RUN_EVENT_TDS_CREATE] = "tds_create",
	[RUN_EVENT_TDS_END] = "tds_end",
};

__attribute__((format(printf, 3, 4))) static void add(struct run *r, uint64_t value,
						      const char *format, ...)
{
	struct run_counter *c;
	va_list args;

	if (r->nr_counters == MAX_COUNTERS)
		return;
	c = &r->counters[r->nr_counters++];
	c->value = value;
	va_start(args, format);
	vsnprintf(c->name, sizeof(c->name), format, args);
	va_end(args);
}

static void count_guest(struct run *r)
{
	uint64_t accesses = 0, mmio = 0, errors = 0, stalled = 0, longest = 0, unfilled = 0;

	for (unsigned int i = 0; i < r->sc->vm.vcpus; i++) {
		const struct run_vcpu *v = &r->vcpus[i];

		accesses += v->accesses;
		mmio += v->mmio;
		errors += v->errors;
		stalled += v->stalled;
		unfilled += v->unfilled;
		longest = v->longest_stall > longest ? v->longest_stall : longest;
	}
	add(r, accesses, "guest.accesses");
	add(r, mmio, "guest.mmio");
	add(r, errors, "guest.errors");
	add(r, stalled, "guest.steps_stalled");
	add(r, longest, "guest.longest_stall");
	add(r, unfilled, "guest.unfilled_accesses");
	add(r, r->cpu.tlb_hits, "cpu.tlb_hits");
	add(r, r->cpu.walks, "cpu.walks");
	add(r, r->cpu.entries_read, "cpu.entries_read");
	add(r, r->cpu.accessed_set, "cpu.accessed_set");
	add(r, r->cpu.dirty_set, "cpu.dirty_set");
	add(r, r->cpu.pml_logged, "cpu.pml_logged");
}

static void count_faults(struct run *r)
{
	const struct tpt_vcpu_stats *s = &r->stats.vcpus;

	add(r, s->pf_taken, "pf_taken");
	add(r, s->pf_fixed, "pf_fixed");
	add(r, s->pf_fast, "pf_fast");
	add(r, s->pf_spurious, "pf_spurious");
	add(r, s->pf_retry, "pf_retry");
	add(r, s->pf_emulate, "pf_emulate");
	add(r, s->pf_error, "pf_error");
	add(r, s->pf_mmio_spte_created, "pf_mmio_spte_created");
	add(r, s->cas_lost, "cas_lost");
}

static void count_flushes(struct run *r)
{
	uint64_t kicks = 0;

	add(r, r->stats.remote_tlb_flush, "flushes");
	for (unsigned int i = 0; i < TPT_FLUSH_NR; i++)
		add(r, r->stats.flush[i], "flush.%s", flush_names[i]);
	for (unsigned int i = 0; i < TPT_KICK_NR; i++)
		kicks += r->stats.kick[i];
	add(r, kicks, "kicks");
	for (unsigned int i = 0; i < TPT_KICK_NR; i++)
		add(r, r->stats.kick[i], "kick.%s", kick_names[i]);
	add(r, r->stats.hold, "vcpu_holds");
}

static void count_calls(struct run *r)
{
	const struct tpt_vcpu_stats *s = &r->stats.vcpus, *f = &r->final_stats.vcpus;
	uint64_t all = 0, end = 0, end_kicks = 0;

	for (unsigned int i = 0; i < TPT_CALL_NR; i++) {
		const char *name = tpt_external_call_name((enum tpt_external_call)i);

		add(r, s->external_calls[i], "call.%s", name);
		add(r, s->external_busy[i], "busy.%s", name);
		add(r, f->external_calls[i] - s->external_calls[i], "end.%s", name);
		all += s->external_calls[i];
		end += f->external_calls[i] - s->external_calls[i];
	}
	for (unsigned int i = 0; i < TPT_KICK_NR; i++)
		end_kicks += r->final_stats.kick[i] - r->stats.kick[i];
	add(r, all, "calls");
	add(r, end, "end_calls");
	add(r, end_kicks, "end_kicks");
}

static void count_seamcalls(struct run *r)
{
	const struct tdx_host_stats *h = &r->remains.host;

	add(r, h->calls, "seamcall");
	for (unsigned int i = 0; i < TDX_HOST_LEAVES; i++) {
		const struct tdx_leaf_stats *l = &h->leaf[i];
		const char *name = tdx_leaf_name(i);

		if (!name || !(l->ok | l->busy | l->failed))
			continue;
		/* Only the audit reads entries. */
		if (i == TDH_MEM_SEPT_RD) {
			add(r, l->ok, "audit.%s", name);
			continue;
		}
		add(r, l->ok, "seamcall.%s", name);
		if (l->busy)
			add(r, l->busy, "seamcall.%s.busy", name);
		if (l->failed)
			add(r, l->failed, "seamcall.%s.failed", name);
	}
	for (unsigned int i = 0; i < TD_EXITS; i++)
		add(r, r->td_stats.exits[i], "exit.%s", simtd_exit_name((enum simtd_exit)i));
	add(r, r->td_stats.ve_private, "ve.private");
	add(r, r->td_stats.ve_shared, "ve.shared");
	add(r, r->td_stats.accepts, "td.accepts");
	add(r, r->td_stats.tdcalls, "td.tdcalls");
	add(r, r->td_stats.map_gpa_retries, "td.map_gpa_retries");
	add(r, r->td_stats.to_private, "td.to_private");
	add(r, r->td_stats.to_shared, "td.to_shared");
	add(r, r->remains.reclaimed_leaves, "td.reclaimed_leaves");
	add(r, r->remains.reclaimed_tables, "td.reclaimed_tables");
	add(r, r->remains.pamt_in_use, "td.pamt_in_use");
	add(r, run_leaked(r, NULL), "td.leaked_pages");
	add(r, r->remains.host.unwritten_pages, "td.unwritten_pages");
	add(r, r->remains.host.cleared_pages, "td.cleared_pages");
}

static void count_pamt(struct run *r)
{
	static const char *const sizes[] = {"4k", "2m", "1g"};
	uint64_t bytes = 0;

	add(r, r->pamt.memory, "pamt.memory_bytes");
	for (unsigned int i = 0; i < 3; i++) {
		add(r, r->pamt.bytes[i], "pamt.bytes_%s", sizes[i]);
		bytes += r->pamt.bytes[i];
	}
	add(r, bytes, "pamt.bytes");
	for (unsigned int i = 0; i < 3; i++)
		add(r, r->pamt.leaves[i], "pamt.leaves_%s", sizes[i]);
	add(r, r->pamt.tables, "pamt.table_pages");
	add(r, r->pamt.control, "pamt.control_pages");
}

static void count_memory(struct run *r)
{
	static const char *const names[TDX_NR_MEMORY_EVENTS] = {
		[TDX_MEMORY_HOST_WRITE] = "host_writes",
		[TDX_MEMORY_STALE_POISON] = "stale_poison",
		[TDX_MEMORY_NO_WRITE_BACK] = "no_write_back",
		[TDX_MEMORY_LATE_WRITE_BACK] = "late_write_back",
		[TDX_MEMORY_MACHINE_CHECK] = "machine_checks",
	};

	for (unsigned int i = 0; i < TDX_NR_MEMORY_EVENTS; i++)
		add(r, r->remains.memory[i], "memory.%s", names[i]);
}

static void count_keys(struct run *r)
{
	add(r, r->totals.tds, "keys.further_tds");
	add(r, r->totals.tds_refused, "keys.refused");
	add(r, r->remains.host.used_hkids, "keys.used_at_end");
	add(r, r->remains.host.lost_hkids, "keys.lost");
	add(r, r->totals.calls, "own.calls");
	add(r, r->totals.unexpected, "own.unexpected");
	add(r, inject_hits(r->inject), "inject.hits");
	add(r, r->totals.failed, "inject.failed_events");
}

static void count_tree(struct run *r, const char *name, const struct tpt_tree_stats *t)
{
	add(r, t->pages_4k, "%s.pages_4k", name);
	add(r, t->pages_2m, "%s.pages_2m", name);
	add(r, t->pages_1g, "%s.pages_1g", name);
	add(r, t->tables, "%s.tables", name);
	add(r, t->tables * TABLE_BYTES, "%s.table_bytes", name);
	add(r, t->mmio, "%s.mmio", name);
}

static void count_host(struct run *r)
{
	const struct run_totals *t = &r->totals;
	uint64_t full = 0;

	for (unsigned int i = 0; i < r->sc->vm.vcpus; i++)
		full += r->vcpus[i].ring_full;
	for (unsigned int i = 0; i < RUN_EVENT_KINDS; i++)
		add(r, t->times[i], "event.%s", event_names[i]);
	add(r, t->unmapped, "unmap.leaves");
	add(r, r->stats.nx_lpage_splits, "nx_lpage_splits");
	add(r, t->nx_recovered, "nx.recovered");
	add(r, t->ring_entries, "ring.entries");
	add(r, t->ring_reset, "ring.reset");
	add(r, full, "ring.full_exits");
	add(r, t->young, "age.young_pages");
	add(r, t->prefaulted, "prefault.pages");
	add(r, t->dirty, "dirty.pages");
	add(r, t->copied, "dirty.cleared");
	add(r, t->dirty_missed, "dirty.missed");
	add(r, t->restored, "host.restored_pages");
	add(r, t->zero_reads, "host.zero_pages");
	add(r, t->cow_copies, "host.copied_pages");
	add(r, r->unfilled, "host.mapped_unfilled_pages");
}

int run_count(struct run *r)
{
	r->counters = calloc(MAX_COUNTERS, sizeof(*r->counters));
	if (!r->counters)
		return -ENOMEM;
	count_guest(r);
	count_faults(r);
	count_flushes(r);
	count_calls(r);
	if (r->sc->vm.kind == RUN_TD) {
		count_seamcalls(r);
		count_pamt(r);
		count_memory(r);
		count_keys(r);
	}
	add(r, r->stats.longest_exclusive, "hold.longest_exclusive");
	add(r, r->stats.longest_shared, "hold.longest_shared");
	add(r, r->final_stats.longest_exclusive, "hold.longest_with_teardown");
	count_tree(r, "direct", &r->stats.direct);
	count_tree(r, "mirror", &r->stats.mirror);
	add(r, r->peak_pages, "table_pages_peak");
	add(r, r->stats.zap_all_fast, "zap_all_fast");
	add(r, r->stats.invalidations, "invalidations");
	count_host(r);
	return 0;
}

const struct run_counter *run_counter(const struct run *r, const char *name)
{
	for (uint32_t i = 0; i < r->nr_counters; i++)
		if (!strcmp(r->counters[i].name, name))
			return &r->counters[i];
	return NULL;
}

uint64_t run_expected(const struct run *r, const struct run_expect *e)
{
	const struct run_counter *c = e->other[0] ? run_counter(r, e->other) : NULL;

	return c ? c->value : e->value;
}

bool run_holds(const struct run *r, const struct run_expect *e)
{
	const struct run_counter *c = run_counter(r, e->counter);
	uint64_t value = run_expected(r, e);

	if (!c || (e->other[0] && !run_counter(r, e->other)))
		return false;
	switch (e->relation) {
	case RUN_EQUAL:
		return c->value == value;
	case RUN_AT_MOST:
		return c->value <= value;
	case RUN_AT_LEAST:
		return c->value >= value;
	}
	return false;
}

bool run_may_fail(const struct run *r)
{
	return inject_hit_for_good(r->inject);
}

uint64_t run_leaked(const struct run *r, bool *accounted)
{
	const struct simtd_remains *m = &r->remains;
	uint64_t held = m->leaked + m->held;

	/* What the library and the host half say is lost, against what the module says it has, and
	 * against what the machine misses. A page that came back and could not be written back is
	 * in nobody's books but the host half's. */
	if (accounted)
		*accounted = held == m->pamt_in_use && m->frames >= (int64_t)held &&
			     m->frames <= (int64_t)(held + m->host.unwritten_pages);
	return held + m->host.unwritten_pages;
}

/* What nothing that was injected excuses. */
static unsigned int never(const struct run *r)
{
	unsigned int n = !!r->judge + !!r->totals.dirty_missed + !!r->totals.unexpected;

	for (unsigned int i = 0; i < TDX_NR_MEMORY_EVENTS; i++)
		n += !!r->remains.memory[i];
	/* Tables that the module keeps are the one thing that the platform misses. */
	n += r->misuses != (run_may_fail(r) && r->remains.pamt_tables);

	if (!r->dead && !r->not_made[0])
		n += (unsigned int)r->audit;
	/* Who dies says why. */
	return n + (r->dead && !r->dead_text[0]);
}

static unsigned int errors(const struct run *r)
{
	unsigned int n = r->dead + !!r->not_made[0] + !!r->totals.failed;

	for (unsigned int i = 0; r->vcpus && i < r->sc->vm.vcpus; i++)
		n += !!r->vcpus[i].errors;
	return n;
}

unsigned int run_unsound(const struct run *r)
{
	unsigned int n = never(r);
	bool accounted;

	if (r->sc->vm.kind != RUN_TD) {
		n += errors(r) + !!r->frames;
	} else if (run_may_fail(r)) {
		run_leaked(r, &accounted);
		n += !accounted;
	} else {
		n += errors(r) + !simtd_ended_clean(&r->remains) + !!r->remains.host.lost_hkids;
	}
	/* Failures from outside change counts. */
	for (uint32_t i = 0; !r->injected_outside && i < r->sc->nr_expects; i++)
		n += !run_holds(r, &r->sc->expects[i]);
	return n;
}
