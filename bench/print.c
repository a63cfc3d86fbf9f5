// SPDX-License-Identifier: BSD-2-Clause
/* What came out, for people and for programs. Computes nothing. */
#include "bench/suite.h"

static void print_number(FILE *out, int width, int digits, double value)
{
	if (value < 0)
		fprintf(out, " %*s", width, "-");
	else
		fprintf(out, " %*.*f", width, digits, value);
}

void suite_print(const struct bench_suite *s, FILE *out)
{
	fprintf(out, "%-26s %-6s %-5s %10s %10s %8s %8s %7s\n", "operation", "per", "table",
		"ns median", "ns min", "x floor", "instr", "locked");
	for (unsigned int i = 0; i < s->nr; i++) {
		const struct bench_row *r = &s->row[i];

		if (r->op->untimed)
			continue;
		fprintf(out, "%-26s %-6s %-5s", r->op->name, r->op->unit,
			bench_format_name(r->op, r->format));
		print_number(out, 10, 2, r->median);
		print_number(out, 10, 2, r->least);
		print_number(out, 8, 2, r->floor_ratio);
		print_number(out, 8, 1, r->instr);
		print_number(out, 7, 2, r->locked);
		fputc('\n', out);
	}
}

static void json_number(FILE *out, const char *name, double value)
{
	if (value < 0)
		fprintf(out, ", \"%s\": null", name);
	else
		fprintf(out, ", \"%s\": %.4f", name, value);
}

void suite_print_json(const struct bench_suite *s, FILE *out)
{
	static const char *const kinds[] = {"op", "harness", "floor", "linux"};
	const char *comma = "";

	fprintf(out, "{\"rounds\": %u,\n \"ops\": [", s->rounds);
	for (unsigned int i = 0; i < s->nr; i++) {
		const struct bench_row *r = &s->row[i];

		if (r->op->untimed)
			continue;
		fprintf(out, "%s\n  {\"op\": \"%s\", \"format\": \"%s\", \"unit\": \"%s\"", comma,
			r->op->name, bench_format_name(r->op, r->format), r->op->unit);
		fprintf(out, ", \"kind\": \"%s\", \"what\": \"%s\"", kinds[r->op->kind],
			r->op->what);
		json_number(out, "ns_median", r->median);
		json_number(out, "ns_min", r->least);
		json_number(out, "floor_ratio", r->floor_ratio);
		json_number(out, "instr", r->instr);
		json_number(out, "locked", r->locked);
		fputc('}', out);
		comma = ",";
	}
	fprintf(out, "\n ]}\n");
}
