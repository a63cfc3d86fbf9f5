// SPDX-License-Identifier: BSD-2-Clause
/* A run's screen for programs: one JSON object, with names that stay. Counts nothing. */
#include "cli/run.h"

#include "cli/cli.h"

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

static void json_published(const struct run *r, FILE *out)
{
	fprintf(out, " \"published\": [");
	for (uint32_t i = 0; i < r->sc->nr_published; i++) {
		const struct run_published *p = &r->sc->published[i];

		fprintf(out, "%s\n  {", i ? "," : "");
		text(out, "what", p->what, ", ");
		text(out, "value", p->value, ", ");
		text(out, "machine", p->machine, ", ");
		text(out, "source", p->source, "}");
	}
	fprintf(out, "],\n");
}

static void json_checks(const struct run *r, FILE *out)
{
	uint32_t held = 0;

	for (uint32_t i = 0; i < r->sc->nr_expects; i++)
		held += run_holds(r, &r->sc->expects[i]);
	fprintf(out,
		" \"checks\": {\"audit_faults\": %d, \"judge_reports\": %lu, \"frames_left\": %ld, "
		"\"misuses\": %lu, \"dead\": %s, \"expectations\": %u, \"expectations_held\": %u, "
		"\"sound\": %s}\n}\n",
		r->audit, r->judge, r->frames, r->misuses, r->dead ? "true" : "false",
		r->sc->nr_expects, held, run_unsound(r) ? "false" : "true");
}

void run_json(const struct run *r, FILE *out)
{
	json_head(r, out);
	json_phases(r, out);
	json_counters(r, out);
	json_estimates(r, out);
	json_published(r, out);
	json_checks(r, out);
}
