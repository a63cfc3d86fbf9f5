// SPDX-License-Identifier: BSD-2-Clause
/*
 * One screen of a run, for people: what was counted here, what others published, and what is
 * estimated from both, each in a block of its own. Counts nothing.
 */
#include "cli/run.h"

#include <stdarg.h>
#include <string.h>

#include "cli/replay.h"
#include "cli/run_cost.h"

#define NUM(n) replay_number(n, (char[REPLAY_NUMBER_LEN]){0})
#define NAME   (-14)

static uint64_t value(const struct run *r, const char *name)
{
	const struct run_counter *c = run_counter(r, name);

	return c ? c->value : 0;
}

/* ---- lists ---- */

/* One line of "3 this, 4 that", broken where it gets long. */
struct list {
	FILE *out;
	unsigned int column, nr;
};

static void list_begin(struct list *l, FILE *out, const char *name)
{
	*l = (struct list){.out = out, .column = 15};
	fprintf(out, "%*s ", NAME, name);
}

__attribute__((format(printf, 2, 3))) static void list_item(struct list *l, const char *format, ...)
{
	char text[160];
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (l->nr && l->column + (unsigned int)len > 96) {
		fprintf(l->out, ",\n%*s ", NAME, "");
		l->column = 15;
	} else if (l->nr) {
		fprintf(l->out, ", ");
	}
	fprintf(l->out, "%s", text);
	l->column += (unsigned int)len + 2;
	l->nr++;
}

static void list_end(struct list *l)
{
	fprintf(l->out, "%s\n", l->nr ? "" : "none");
}

/* All counters that begin with @prefix and aren't 0, by the rest of their names. */
static void list_prefix(const struct run *r, struct list *l, const char *prefix)
{
	size_t n = strlen(prefix);

	for (uint32_t i = 0; i < r->nr_counters; i++)
		if (!strncmp(r->counters[i].name, prefix, n) && r->counters[i].value)
			list_item(l, "%s %s", NUM(r->counters[i].value), r->counters[i].name + n);
}

static void print_prefix(const struct run *r, FILE *out, const char *name, const char *prefix)
{
	struct list l;

	list_begin(&l, out, name);
	list_prefix(r, &l, prefix);
	list_end(&l);
}

/* ---- what it was ---- */

static void print_head(const struct run *r, FILE *out)
{
	static const char *const kinds[] = {"npt", "ept", "td"};
	static const char *const leaves[] = {"", "4K", "2M", "1G"};
	const struct scenario *s = r->sc;

	fprintf(out, "%*s %s\n", NAME, "scenario", s->name);
	for (uint32_t i = 0; i < s->nr_stories; i++)
		fprintf(out, "%*s %s\n", NAME, i ? "" : "story", s->story[i]);
	for (uint32_t i = 0; i < s->nr_sources; i++)
		fprintf(out, "%*s %s\n", NAME, i ? "" : "source", s->source[i]);
	fprintf(out, "%*s %s, %u levels, leaves up to %s, %u vCPUs, %u slots; %s\n", NAME, "vm",
		kinds[s->vm.kind], s->vm.levels, leaves[s->vm.leaf], s->vm.vcpus, r->nr_slots,
		s->threads ? "a thread for each vCPU" : "vCPUs in turn");
}

static void print_row(FILE *out, const struct run_phase *p, const struct run_phase *next)
{
	const struct run_snapshot *a = &p->at, *b = &next->at;

	fprintf(out, "  %-22.22s %9s %8s %8s %7s %8s %7s %7s %7s %6s %8s\n", p->name,
		NUM(b->accesses - a->accesses), NUM(b->taken - a->taken), NUM(b->fixed - a->fixed),
		NUM(b->fast - a->fast), NUM(b->spurious - a->spurious), NUM(b->retry - a->retry),
		NUM(b->emulate - a->emulate), NUM(b->flushes - a->flushes),
		NUM(b->kicks - a->kicks), NUM(b->calls - a->calls));
}

static void print_phases(const struct run *r, FILE *out)
{
	fprintf(out, "\n  %-22s %9s %8s %8s %7s %8s %7s %7s %7s %6s %8s\n", "phase", "accesses",
		"faults", "fixed", "fast", "spurious", "retry", "emulate", "flushes", "kicks",
		"ext.call");
	for (uint32_t i = 0; i + 1 < r->nr_phases; i++)
		if (r->phases[i].step < r->phases[i + 1].step)
			print_row(out, &r->phases[i], &r->phases[i + 1]);
}

/* ---- what was counted ---- */

static void print_tree(const struct run *r, FILE *out, const char *name)
{
	char tables[48], leaves[48], bytes[48];
	static const char *const sizes[] = {"4k", "2m", "1g"};
	struct list l;

	snprintf(tables, sizeof(tables), "%s.tables", name);
	snprintf(bytes, sizeof(bytes), "%s.table_bytes", name);
	list_begin(&l, out, name);
	list_item(&l, "%s tables, %s bytes", NUM(value(r, tables)), NUM(value(r, bytes)));
	for (unsigned int i = 0; i < 3; i++) {
		snprintf(leaves, sizeof(leaves), "%s.pages_%s", name, sizes[i]);
		if (value(r, leaves))
			list_item(&l, "%s leaves of %s", NUM(value(r, leaves)), sizes[i]);
	}
	list_end(&l);
}

static void print_pamt(const struct run *r, FILE *out)
{
	static const char *const sizes[][2] = {{"4k", "4 KiB"}, {"2m", "2 MiB"}, {"1g", "1 GiB"}};
	char name[48];
	struct list l;

	list_begin(&l, out, "PAMT");
	list_item(&l, "static, %s bytes for %s of TDX memory", NUM(value(r, "pamt.bytes")),
		  NUM(value(r, "pamt.memory_bytes")));
	for (unsigned int i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "pamt.bytes_%s", sizes[i][0]);
		list_item(&l, "%s for pages of %s", NUM(value(r, name)), sizes[i][1]);
	}
	list_end(&l);
	list_begin(&l, out, "  in use");
	for (unsigned int i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "pamt.leaves_%s", sizes[i][0]);
		list_item(&l, "%s guest pages of %s", NUM(value(r, name)), sizes[i][1]);
	}
	list_item(&l, "%s Secure-EPT pages", NUM(value(r, "pamt.table_pages")));
	list_item(&l, "%s of TDs and vCPUs", NUM(value(r, "pamt.control_pages")));
	list_end(&l);
}

static void print_td(const struct run *r, FILE *out)
{
	print_prefix(r, out, "ext. calls", "call.");
	print_prefix(r, out, "  busy", "busy.");
	print_prefix(r, out, "at teardown", "end.");
	print_prefix(r, out, "SEAMCALLs", "seamcall.TDH.");
	print_prefix(r, out, "TD exits", "exit.");
	fprintf(out, "%*s %s TDCALLs, %s accepts, %s #VE; pages to shared %s, to private %s\n",
		NAME, "guest half", NUM(value(r, "td.tdcalls")), NUM(value(r, "td.accepts")),
		NUM(value(r, "ve.private") + value(r, "ve.shared")), NUM(value(r, "td.to_shared")),
		NUM(value(r, "td.to_private")));
	print_pamt(r, out);
	if (value(r, "keys.further_tds") || value(r, "keys.refused") || value(r, "keys.lost"))
		fprintf(out, "%*s %s further TDs, %s refused for want of one, %s lost\n", NAME,
			"key ids", NUM(value(r, "keys.further_tds")), NUM(value(r, "keys.refused")),
			NUM(value(r, "keys.lost")));
}

static void print_injected(const struct run *r, FILE *out)
{
	char status[96];

	if (!r->inject)
		return;
	fprintf(out, "\nFAILURES ON PURPOSE\n\n");
	for (unsigned int i = 0; i < r->inject->nr; i++) {
		const struct inject_rule *rule = &r->inject->rule[i];

		inject_status_name(rule, status, sizeof(status));
		fprintf(out, "  %s: %s of %s calls answered %s%s\n", inject_call_name(rule),
			NUM(rule->hits), NUM(rule->calls), status,
			rule->hits ? "" : "; it never hit");
	}
	if (r->not_made[0])
		fprintf(out, "  the TD was given up before it ran: %s\n", r->not_made);
	if (r->totals.failed)
		fprintf(out, "  %s events failed, the first: %s\n", NUM(r->totals.failed),
			r->failed_text);
	if (r->logged)
		fprintf(out, "  %s errors logged, the first: %s\n", NUM(r->logged), r->log_text);
}

static void print_log(const struct run *r, FILE *out)
{
	if (value(r, "event.log_get"))
		fprintf(out,
			"%*s %s pages found dirty by %s gets, %s cleared, %s written and missed%s\n",
			NAME, "dirty log", NUM(value(r, "dirty.pages")),
			NUM(value(r, "event.log_get")), NUM(value(r, "dirty.cleared")),
			NUM(value(r, "dirty.missed")),
			r->sc->threads ? " (not looked for with threads)" : "");
}

static void print_rings(const struct run *r, FILE *out)
{
	if (r->sc->vm.ring)
		fprintf(out,
			"%*s %s entries collected, %s reset, %s exits because one was full; %s pages "
			"written and missed%s\n",
			NAME, "dirty rings", NUM(value(r, "ring.entries")),
			NUM(value(r, "ring.reset")), NUM(value(r, "ring.full_exits")),
			NUM(value(r, "dirty.missed")),
			r->sc->threads ? " (not looked for with threads)" : "");
	if (value(r, "cpu.pml_logged"))
		fprintf(out, "%*s %s pages logged by the processors\n", NAME, "",
			NUM(value(r, "cpu.pml_logged")));
	if (value(r, "event.nx_recover"))
		fprintf(out, "%*s %s tables unlinked by %s recoveries; %s stand at the end\n", NAME,
			"NX huge pages", NUM(value(r, "nx.recovered")),
			NUM(value(r, "event.nx_recover")), NUM(value(r, "nx_lpage_splits")));
}

static void print_host(const struct run *r, FILE *out)
{
	if (value(r, "invalidations"))
		fprintf(out,
			"%*s %s invalidations, which removed %s leaves; %s pages copied on write\n",
			NAME, "notifier", NUM(value(r, "invalidations")),
			NUM(value(r, "unmap.leaves")), NUM(value(r, "host.copied_pages")));
	if (value(r, "event.age") || value(r, "event.test_age"))
		fprintf(out, "%*s %s pages found young by %s calls that clear, %s that test\n",
			NAME, "aging", NUM(value(r, "age.young_pages")), NUM(value(r, "event.age")),
			NUM(value(r, "event.test_age")));
	if (value(r, "prefault.pages"))
		fprintf(out, "%*s %s pages\n", NAME, "prefaulted", NUM(value(r, "prefault.pages")));
	if (value(r, "host.restored_pages"))
		fprintf(out,
			"%*s %s pages; %s mapped and not filled in, %s accesses to such pages\n",
			NAME, "filled in", NUM(value(r, "host.restored_pages")),
			NUM(value(r, "host.mapped_unfilled_pages")),
			NUM(value(r, "guest.unfilled_accesses")));
}

static void print_measured(const struct run *r, FILE *out)
{
	fprintf(out, "\nCOUNTED HERE\n");
	print_phases(r, out);
	fprintf(out, "\n%*s %s accesses of memory, %s of devices; %s by the TLB, %s walks\n", NAME,
		"guest", NUM(value(r, "guest.accesses")), NUM(value(r, "guest.mmio")),
		NUM(value(r, "cpu.tlb_hits")), NUM(value(r, "cpu.walks")));
	fprintf(out, "%*s %s steps; the longest of one access: %s\n", NAME, "stalled",
		NUM(value(r, "guest.steps_stalled")), NUM(value(r, "guest.longest_stall")));
	print_prefix(r, out, "faults", "pf_");
	print_prefix(r, out, "flushes", "flush.");
	print_prefix(r, out, "kicks", "kick.");
	if (r->td)
		print_td(r, out);
	print_log(r, out);
	print_rings(r, out);
	print_host(r, out);
	fprintf(out, "%*s %s entries alone, %s beside faults; teardown included: %s\n", NAME,
		"longest hold", NUM(value(r, "hold.longest_exclusive")),
		NUM(value(r, "hold.longest_shared")), NUM(value(r, "hold.longest_with_teardown")));
	print_tree(r, out, "direct");
	if (r->td)
		print_tree(r, out, "mirror");
	fprintf(out, "%*s %s at the peak, caches included\n", NAME, "table pages",
		NUM(value(r, "table_pages_peak")));
	print_prefix(r, out, "events", "event.");
	print_injected(r, out);
	fprintf(out, "\nMEASURED HERE (by this machine's clock)\n\n");
	fprintf(out,
		"  longest exclusive section: %.1f us; audits on the way included, the last one not\n",
		(double)r->longest_lock_ns / 1000);
}

/* ---- what others say ---- */

static void print_time(FILE *out, double ns)
{
	if (ns >= 1e9)
		fprintf(out, "%.3g s", ns / 1e9);
	else if (ns >= 1e6)
		fprintf(out, "%.3g ms", ns / 1e6);
	else if (ns >= 1e3)
		fprintf(out, "%.3g us", ns / 1e3);
	else
		fprintf(out, "%.3g ns", ns);
}

static void print_estimate(const struct run *r, FILE *out, const struct run_estimate *e)
{
	const struct run_counter *c = run_counter(r, e->counter);

	fprintf(out, "  %s: ", e->what);
	if (!c) {
		fprintf(out, "there is no counter %s\n", e->counter);
	} else if (!e->known) {
		fprintf(out, "unknown (%s %s; no published figure for one is known)\n",
			NUM(c->value), c->name);
	} else {
		print_time(out, (double)c->value * e->each_ns);
		fprintf(out, " (%s %s of ", NUM(c->value), c->name);
		print_time(out, e->each_ns);
		fprintf(out, "; %s)\n", e->source);
	}
}

/* A price for each, and their sum by group: unknown if one of them is. */
static void print_price(const struct run *r, FILE *out, unsigned int i)
{
	const struct run_price *p = &r->cost->price[i];
	uint64_t n = run_cost_count(r, i);

	if (!n)
		return;
	fprintf(out, "      %s: %s %s", p->what, NUM(n), p->counter);
	if (!p->known) {
		fprintf(out, ", price unknown; %s\n", p->source);
		return;
	}
	fprintf(out, " at ");
	print_time(out, p->each_ns);
	fprintf(out, " = ");
	print_time(out, (double)n * p->each_ns);
	fprintf(out, "; %s\n", p->source);
}

static void print_cost(const struct run *r, FILE *out)
{
	struct run_bill bill;

	fprintf(out,
		"\nESTIMATES from %s (counts of ours times constants of others; not measured)\n",
		r->cost->path);
	for (unsigned int i = 0; i < r->cost->nr_prices; i++) {
		if (!run_cost_group(r, i, &bill))
			continue;
		fprintf(out, "  %s: ", r->cost->price[i].group);
		if (!bill.known)
			fprintf(out, "unknown%s", bill.ns > 0 ? "; the known part: " : "");
		if (bill.known || bill.ns > 0)
			print_time(out, bill.ns);
		fprintf(out, "\n");
		for (unsigned int k = i; k < r->cost->nr_prices; k++)
			if (!strcmp(r->cost->price[k].group, r->cost->price[i].group))
				print_price(r, out, k);
	}
}

static void print_published(FILE *out, const struct run_published *p)
{
	fprintf(out, "  %s: %s\n      machine: %s; source: %s\n", p->what, p->value, p->machine,
		p->source);
}

static void print_others(const struct run *r, FILE *out)
{
	const struct scenario *s = r->sc;

	if (s->nr_estimates)
		fprintf(out,
			"\nESTIMATES (a count of ours times a constant of others; not measured)\n");
	for (uint32_t i = 0; i < s->nr_estimates; i++)
		print_estimate(r, out, &s->estimates[i]);
	if (r->cost)
		print_cost(r, out);
	if (s->nr_published || (r->cost && r->cost->nr_published))
		fprintf(out, "\nPUBLISHED ELSEWHERE (not measured here)\n");
	for (unsigned int i = 0; r->cost && i < r->cost->nr_published; i++)
		print_published(out, &r->cost->published[i]);
	for (uint32_t i = 0; i < s->nr_published; i++)
		print_published(out, &s->published[i]);
}

/* ---- is it sound? ---- */

static void print_expects(const struct run *r, FILE *out)
{
	static const char *const relations[] = {"=", "<=", ">="};
	uint32_t held = 0;

	for (uint32_t i = 0; i < r->sc->nr_expects; i++) {
		const struct run_expect *e = &r->sc->expects[i];
		const struct run_counter *c = run_counter(r, e->counter);

		held += run_holds(r, e);
		if (run_holds(r, e) || r->injected_outside)
			continue;
		fprintf(out, "%*s line %u: %s %s %s%s%s, but it is %s%s%s\n", NAME, "EXPECTED",
			e->line, e->counter, relations[e->relation], e->other,
			e->other[0] ? ", which is " : "", NUM(run_expected(r, e)),
			c ? NUM(c->value) : "no counter", e->why[0] ? "; " : "", e->why);
	}
	if (r->sc->nr_expects)
		fprintf(out, "%*s %u of %u hold%s\n", NAME, "expectations", held, r->sc->nr_expects,
			r->injected_outside ? "; not judged: failures came from outside" : "");
}

static void print_errors(const struct run *r, FILE *out)
{
	for (unsigned int i = 0; r->vcpus && i < r->sc->vm.vcpus; i++) {
		const struct run_vcpu *v = &r->vcpus[i];

		if (v->errors)
			fprintf(out, "%*s vCPU %u: %s accesses failed, the first at 0x%lx: %s\n",
				NAME, "ERROR", i, NUM(v->errors), v->error_gpa,
				strerror(-v->first_error));
	}
}

static void print_checks(const struct run *r, FILE *out)
{
	bool accounted;
	uint64_t leaked = run_leaked(r, &accounted);

	fprintf(out, "\n");
	print_expects(r, out);
	print_errors(r, out);
	fprintf(out, "%*s %d faults%s%s\n", NAME, "audit", r->audit, r->audit ? ": " : "",
		r->audit ? r->audit_text : "");
	fprintf(out, "%*s %s reports%s%s\n", NAME, "judge", NUM(r->judge), r->judge ? ": " : "",
		r->judge ? r->judge_text : "");
	fprintf(out, "%*s %ld frames and table pages left over, %s rules of the platform broken",
		NAME, "balance", r->frames, NUM(r->misuses));
	if (r->sc->vm.kind == RUN_TD)
		fprintf(out, ", %s pages in use by the PAMT, %s pages leaked%s",
			NUM(r->remains.pamt_in_use), NUM(leaked),
			accounted ? "" : ", and the books do not agree");
	fprintf(out, "\n");
	if (r->sc->vm.kind == RUN_TD)
		print_prefix(r, out, "memory rules", "memory.");
	if (r->totals.calls)
		fprintf(out, "%*s %s made, %s answered otherwise than expected%s%s\n", NAME,
			"own calls", NUM(r->totals.calls), NUM(r->totals.unexpected),
			r->totals.unexpected ? ": " : "", r->unexpected_text);
	if (r->dead)
		fprintf(out, "%*s %s\n", NAME, "DEAD", r->dead_text);
	fprintf(out, "%*s %s%s\n", NAME, "verdict", run_unsound(r) ? "UNSOUND" : "sound",
		run_may_fail(r) ? ", for a host whose calls fail for good" : "");
}

void run_screen(const struct run *r, FILE *out)
{
	print_head(r, out);
	print_measured(r, out);
	print_others(r, out);
	print_checks(r, out);
}
