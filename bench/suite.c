// SPDX-License-Identifier: BSD-2-Clause
/* Rounds over all rows, and what they come to: medians, minima, ratios. Prints nothing. */
#include <stdlib.h>
#include <string.h>

#include "bench/suite.h"

#define MAX_ROWS 256

/* ---- which ---- */

static bool is_named(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (const char *at = list; at; at = strchr(at, ','), at += !!at)
		if (!strncmp(at, name, len) && (at[len] == ',' || !at[len]))
			return true;
	return false;
}

static bool is_wanted(const struct bench_suite *s, const struct bench_op *op)
{
	if (!s->only || is_named(s->only, op->name))
		return true;
	/* What others are compared with, or counted without. */
	for (const struct bench_op *const *family = bench_families; *family; family++)
		for (const struct bench_op *o = *family; o->name; o++)
			if (is_named(s->only, o->name) &&
			    ((o->floor && !strcmp(o->floor, op->name)) ||
			     (o->harness && !strcmp(o->harness, op->name))))
				return true;
	return false;
}

static void add(struct bench_suite *s, const struct bench_op *op, enum tpt_format format)
{
	s->row[s->nr++] = (struct bench_row){.op = op,
					     .format = format,
					     .ns = calloc(s->rounds, sizeof(double)),
					     .median = -1,
					     .least = -1,
					     .floor_ratio = -1,
					     .instr = -1,
					     .locked = -1};
}

static void add_formats(struct bench_suite *s, const struct bench_op *op)
{
	if (!op->formats)
		add(s, op, TPT_FORMAT_EPT);
	for (enum tpt_format f = TPT_FORMAT_EPT; f <= TPT_FORMAT_NPT; f++)
		if (op->formats & s->formats & 1u << f)
			add(s, op, f);
}

/* Is each name of the list somebody's? */
static bool check_names(const char *list, struct bench *b)
{
	char name[64];
	size_t len;

	for (const char *at = list; at && *at; at += len + (at[len] == ',')) {
		len = strcspn(at, ",");
		snprintf(name, sizeof(name), "%.*s", (int)len, at);
		if (!bench_find(name))
			return bench_fail(b, "there is no operation %s", name);
	}
	return true;
}

bool suite_select(struct bench_suite *s, struct bench *b)
{
	s->row = calloc(MAX_ROWS, sizeof(*s->row));
	if (!s->row)
		return bench_fail(b, "no memory");
	if (!check_names(s->only, b))
		return false;
	for (const struct bench_op *const *family = bench_families; *family; family++)
		for (const struct bench_op *op = *family; op->name; op++)
			if (is_wanted(s, op) && s->nr + 2 <= MAX_ROWS)
				add_formats(s, op);
	return true;
}

void suite_free(struct bench_suite *s)
{
	for (unsigned int i = 0; i < s->nr; i++)
		free(s->row[i].ns);
	free(s->row);
}

/* ---- rounds ---- */

static bool fail_row(struct bench *b, const struct bench_row *row)
{
	char why[sizeof(b->why)];

	memcpy(why, b->why, sizeof(why));
	return bench_fail(b, "%s %s: %.180s", row->op->name,
			  bench_format_name(row->op, row->format), why);
}

static bool one_round(struct bench_suite *s, struct bench *b, int round)
{
	for (unsigned int i = 0; i < s->nr; i++) {
		struct bench_row *row = &s->row[i];
		uint64_t ns;

		if (row->op->untimed)
			continue;
		b->format = row->format;
		if (!bench_pass(row->op, b, &ns))
			return fail_row(b, row);
		if (round >= 0)
			row->ns[round] = (double)ns / (double)b->units;
	}
	return true;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void sum_up(struct bench_suite *s, struct bench_row *row)
{
	if (row->op->untimed)
		return;
	qsort(row->ns, s->rounds, sizeof(double), by_value);
	row->least = row->ns[0];
	row->median = (row->ns[(s->rounds - 1) / 2] + row->ns[s->rounds / 2]) / 2;
}

static void compare(struct bench_suite *s, struct bench_row *row)
{
	unsigned int nr = row->op->floor_nr ? row->op->floor_nr : 1;

	for (unsigned int i = 0; row->op->floor && i < s->nr; i++)
		if (!strcmp(s->row[i].op->name, row->op->floor) && s->row[i].median > 0)
			row->floor_ratio = row->median / (s->row[i].median * nr);
}

bool suite_time(struct bench_suite *s, struct bench *b)
{
	/* The first round warms the pool and resolves what the linker left open. */
	for (int round = -1; round < (int)s->rounds; round++)
		if (!one_round(s, b, round))
			return false;
	for (unsigned int i = 0; i < s->nr; i++)
		sum_up(s, &s->row[i]);
	for (unsigned int i = 0; i < s->nr; i++)
		compare(s, &s->row[i]);
	return true;
}

bool suite_count(struct bench_suite *s, struct bench *b)
{
	for (unsigned int i = 0; i < s->nr; i++) {
		struct bench_row *row = &s->row[i];
		const char *format = bench_format_name(row->op, row->format);
		uint64_t ns;

		if (row->op->uncounted)
			continue;
		b->format = row->format;
		/* The first pass warms, as above. */
		if (!bench_pass(row->op, b, &ns) || !bench_count(row->op, b))
			return fail_row(b, row);
		printf("%s %s %lu %s\n", row->op->name, format, b->units,
		       row->op->harness ? row->op->harness : "-");
		fflush(stdout);
	}
	return true;
}
