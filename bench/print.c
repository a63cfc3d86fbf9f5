// SPDX-License-Identifier: BSD-2-Clause
/* What came out, for people and for programs. Computes nothing. */
#include <string.h>

#include "bench/suite.h"

static void print_number(FILE *out, int width, int digits, double value)
{
	if (value < 0)
		fprintf(out, " %*s", width, "-");
	else
		fprintf(out, " %*.*f", width, digits, value);
}

static void print_rows(const struct bench_suite *s, FILE *out)
{
	fprintf(out,
		"CPU time of the thread, %u rounds; the pool of table pages asks for huge pages.\n\n",
		s->rounds);
	fprintf(out, "%-31s %-6s %10s %10s %8s %8s %7s\n", "operation, format", "per", "ns median",
		"ns min", "x floor", "instr", "locked");
	for (unsigned int i = 0; i < s->nr; i++) {
		const struct bench_row *r = &s->row[i];

		if (r->op->untimed)
			continue;
		fprintf(out, "%-31s %-6s", r->name, r->op->unit);
		print_number(out, 10, 2, r->median);
		print_number(out, 10, 2, r->least);
		print_number(out, 8, 2, r->floor_ratio);
		print_number(out, 8, 1, r->instr);
		print_number(out, 7, 2, r->locked);
		fputc('\n', out);
	}
}

static int width(const char *column)
{
	return strlen(column) > 8 ? (int)strlen(column) : 8;
}

static void print_table(const struct bench_table *t, FILE *out)
{
	fprintf(out, "\n%s: %s\n%-40s", t->name, t->what, "");
	for (unsigned int c = 0; t->column[c]; c++)
		fprintf(out, " %*s", width(t->column[c]), t->column[c]);
	fputc('\n', out);
	for (unsigned int i = 0; i < t->nr; i++) {
		fprintf(out, "%-40s", t->line[i].name);
		for (unsigned int c = 0; t->column[c]; c++) {
			double value = t->line[i].value[c];

			print_number(out, width(t->column[c]),
				     value == (double)(int64_t)value ? 0 : 2, value);
		}
		fputc('\n', out);
	}
}

void suite_print(const struct bench_suite *s, FILE *out)
{
	if (s->nr)
		print_rows(s, out);
	for (const struct bench_table *t = bench_tables; t->name; t++)
		if (t->nr)
			print_table(t, out);
}

/* ---- JSON. No text of ours has a character in it that would want an escape. ---- */

static void json_number(FILE *out, const char *name, double value)
{
	if (value < 0)
		fprintf(out, ", \"%s\": null", name);
	else
		fprintf(out, ", \"%s\": %.4f", name, value);
}

static void json_row(const struct bench_row *r, FILE *out)
{
	static const char *const kinds[] = {"op", "harness", "floor", "linux"};

	fprintf(out, "{\"op\": \"%s\", \"format\": \"%s\", \"unit\": \"%s\"", r->op->name,
		strchr(r->name, ' ') + 1, r->op->unit);
	fprintf(out, ", \"kind\": \"%s\", \"what\": \"%s\"", kinds[r->op->kind], r->op->what);
	if (r->op->curve)
		fprintf(out, ", \"curve\": \"%s\", \"param\": %lu", r->op->curve, r->param);
	if (r->op->floor)
		fprintf(out, ", \"floor\": \"%s\", \"floor_nr\": %u", r->op->floor,
			r->op->floor_nr ? r->op->floor_nr : 1);
	json_number(out, "ns_median", r->median);
	json_number(out, "ns_min", r->least);
	json_number(out, "floor_ratio", r->floor_ratio);
	json_number(out, "instr", r->instr);
	json_number(out, "locked", r->locked);
	fputc('}', out);
}

static void json_table(const struct bench_table *t, FILE *out)
{
	fprintf(out, ",\n \"%s\": [", t->name);
	for (unsigned int i = 0; i < t->nr; i++) {
		fprintf(out, "%s\n  {\"of\": \"%s\"", i ? "," : "", t->line[i].name);
		for (unsigned int c = 0; t->column[c]; c++)
			json_number(out, t->column[c], t->line[i].value[c]);
		fputc('}', out);
	}
	fputs("\n ]", out);
}

void suite_print_json(const struct bench_suite *s, FILE *out)
{
	const char *comma = "";
	struct bench_where where;

	bench_where(&where);
	fprintf(out, "{\"machine\": \"%s\",\n \"compiler\": \"%s\",\n \"date\": \"%s\",\n",
		where.machine, where.compiler, where.date);
	fprintf(out, " \"rounds\": %u,\n \"mib\": %lu,\n \"ops\": [", s->rounds, s->mib);
	for (unsigned int i = 0; i < s->nr; i++) {
		if (s->row[i].op->untimed)
			continue;
		fprintf(out, "%s\n  ", comma);
		json_row(&s->row[i], out);
		comma = ",";
	}
	fputs("\n ]", out);
	for (const struct bench_table *t = bench_tables; t->name; t++)
		json_table(t, out);
	fputs("}\n", out);
}
