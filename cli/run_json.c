// SPDX-License-Identifier: BSD-2-Clause
/* A run's screen for programs: one JSON object, with names that stay. Counts nothing. */
#include "cli/run.h"

#include <string.h>

#include "cli/cli.h"
#include "cli/run_cost.h"

static void text(FILE *out, const char *name, const char *value, const char *end)
{
	fprintf(out, "\"%s\": ", name);
	cli_json_string(out, value);
	fputs(end, out);
}

static void json_head(const struct run *r, FILE *out)
{
	static const char *const kinds[] = {"npt", "ept", "td"};
	const struct scenario *s = r->sc;

	fprintf(out, "{\n ");
	text(out, "scenario", s->name, ",\n ");
	fprintf(out, "\"story\": [");
	for (uint32_t i = 0; i < s->nr_stories; i++) {
		fputs(i ? ", " : "", out);
		cli_json_string(out, s->story[i]);
	}
	fprintf(out, "],\n \"sources\": [");
	for (uint32_t i = 0; i < s->nr_sources; i++) {
		fputs(i ? ", " : "", out);
		cli_json_string(out, s->source[i]);
	}
	fprintf(out,
		"],\n \"vm\": {\"kind\": \"%s\", \"vcpus\": %u, \"levels\": %u, \"slots\": %u, "
		"\"threads\": %s, \"steps\": %lu, \"seed\": %lu},\n",
		kinds[s->vm.kind], s->vm.vcpus, s->vm.levels, r->nr_slots,
		s->threads ? "true" : "false", s->steps, s->seed);
}

static void json_phases(const struct run *r, FILE *out)
{
	const char *comma = "";

	fprintf(out, " \"phases\": [");
	for (uint32_t i = 0; i + 1 < r->nr_phases; i++) {
		const struct run_snapshot *a = &r->phases[i].at, *b = &r->phases[i + 1].at;

		if (r->phases[i].step >= r->phases[i + 1].step)
			continue;
		fprintf(out, "%s\n  {", comma);
		comma = ",";
		text(out, "name", r->phases[i].name, ", ");
		fprintf(out,
			"\"step\": %lu, \"accesses\": %lu, \"faults\": %lu, \"fixed\": %lu, "
			"\"fast\": %lu, \"spurious\": %lu, \"retry\": %lu, \"emulate\": %lu, "
			"\"flushes\": %lu, \"kicks\": %lu, \"external_calls\": %lu}",
			r->phases[i].step, b->accesses - a->accesses, b->taken - a->taken,
			b->fixed - a->fixed, b->fast - a->fast, b->spurious - a->spurious,
			b->retry - a->retry, b->emulate - a->emulate, b->flushes - a->flushes,
			b->kicks - a->kicks, b->calls - a->calls);
	}
	fprintf(out, "],\n");
}

static void json_counters(const struct run *r, FILE *out)
{
	fprintf(out, " \"counted\": {");
	for (uint32_t i = 0; i < r->nr_counters; i++)
		fprintf(out, "%s\n  \"%s\": %lu", i ? "," : "", r->counters[i].name,
			r->counters[i].value);
	fprintf(out, "},\n");
}

static void json_injected(const struct run *r, FILE *out)
{
	char status[96];

	fprintf(out, " \"injected\": [");
	for (unsigned int i = 0; r->inject && i < r->inject->nr; i++) {
		const struct inject_rule *rule = &r->inject->rule[i];

		inject_status_name(rule, status, sizeof(status));
		fprintf(out, "%s\n  {", i ? "," : "");
		text(out, "rule", rule->text, ", ");
		text(out, "call", inject_call_name(rule), ", ");
		text(out, "status", status, ", ");
		fprintf(out, "\"calls\": %lu, \"hits\": %lu}", rule->calls, rule->hits);
	}
	fprintf(out, "],\n");
}

static void json_estimates(const struct run *r, FILE *out)
{
	fprintf(out, " \"estimates\": [");
	for (uint32_t i = 0; i < r->sc->nr_estimates; i++) {
		const struct run_estimate *e = &r->sc->estimates[i];
		const struct run_counter *c = run_counter(r, e->counter);

		fprintf(out, "%s\n  {", i ? "," : "");
		text(out, "what", e->what, ", ");
		text(out, "counter", e->counter, ", ");
		if (e->known && c)
			fprintf(out, "\"each_ns\": %.9g, \"ns\": %.9g, ", e->each_ns,
				(double)c->value * e->each_ns);
		else
			fprintf(out, "\"each_ns\": null, \"ns\": null, ");
		text(out, "source", e->source, "}");
	}
	fprintf(out, "],\n");
}

static void json_time(FILE *out, const char *name, bool known, double ns, const char *end)
{
	if (known)
		fprintf(out, "\"%s\": %.9g%s", name, ns, end);
	else
		fprintf(out, "\"%s\": null%s", name, end);
}

static void json_prices(const struct run *r, FILE *out, const char *group)
{
	const char *comma = "";

	for (unsigned int i = 0; i < r->cost->nr_prices; i++) {
		const struct run_price *p = &r->cost->price[i];
		uint64_t n = run_cost_count(r, i);

		if (strcmp(p->group, group) != 0 || !n)
			continue;
		fprintf(out, "%s\n    {", comma);
		comma = ",";
		text(out, "what", p->what, ", ");
		text(out, "counter", p->counter, ", ");
		fprintf(out, "\"count\": %lu, ", n);
		json_time(out, "each_ns", p->known, p->each_ns, ", ");
		text(out, "source", p->source, "}");
	}
}

static void json_cost(const struct run *r, FILE *out)
{
	const char *comma = "";
	struct run_bill bill;

	fprintf(out, " \"cost\": [");
	for (unsigned int i = 0; r->cost && i < r->cost->nr_prices; i++) {
		if (!run_cost_group(r, i, &bill))
			continue;
		fprintf(out, "%s\n  {", comma);
		comma = ",";
		text(out, "group", r->cost->price[i].group, ", ");
		json_time(out, "ns", bill.known, bill.ns, ", ");
		json_time(out, "known_ns", true, bill.ns, ", \"items\": [");
		json_prices(r, out, r->cost->price[i].group);
		fprintf(out, "]}");
	}
	fprintf(out, "],\n");
}

static void json_figure(FILE *out, const struct run_published *p, bool first)
{
	fprintf(out, "%s\n  {", first ? "" : ",");
	text(out, "what", p->what, ", ");
	text(out, "value", p->value, ", ");
	text(out, "machine", p->machine, ", ");
	text(out, "source", p->source, "}");
}

static void json_published(const struct run *r, FILE *out)
{
	unsigned int nr = r->cost ? r->cost->nr_published : 0;

	fprintf(out, " \"published\": [");
	for (unsigned int i = 0; i < nr; i++)
		json_figure(out, &r->cost->published[i], !i);
	for (uint32_t i = 0; i < r->sc->nr_published; i++)
		json_figure(out, &r->sc->published[i], !nr && !i);
	fprintf(out, "],\n");
}

static void json_checks(const struct run *r, FILE *out)
{
	uint32_t held = 0;
	bool accounted;

	run_leaked(r, &accounted);
	for (uint32_t i = 0; i < r->sc->nr_expects; i++)
		held += run_holds(r, &r->sc->expects[i]);
	fprintf(out,
		" \"checks\": {\"audit_faults\": %d, \"judge_reports\": %lu, \"frames_left\": %ld, "
		"\"misuses\": %lu, \"dead\": %s, \"made\": %s, \"leaked_pages\": %lu, "
		"\"leaks_accounted\": %s, \"expectations\": %u, \"expectations_held\": %u, "
		"\"sound\": %s}\n}\n",
		r->audit, r->judge, r->frames, r->misuses, r->dead ? "true" : "false",
		r->not_made[0] ? "false" : "true", run_leaked(r, NULL),
		accounted ? "true" : "false", r->sc->nr_expects, held,
		run_unsound(r) ? "false" : "true");
}

void run_json(const struct run *r, FILE *out)
{
	json_head(r, out);
	json_phases(r, out);
	json_counters(r, out);
	json_injected(r, out);
	json_estimates(r, out);
	json_cost(r, out);
	json_published(r, out);
	json_checks(r, out);
}
