// SPDX-License-Identifier: BSD-2-Clause
/* Rounds over all rows, and what they come to: medians, minima, ratios. Prints nothing. */
#include <stdlib.h>
#include <string.h>

#include "bench/suite.h"

#define MAX_ROWS 256
/* Points of a curve above it would have callgrind set up for minutes. */
#define MOST_COUNTED 10000

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

static void add(struct bench_suite *s, struct bench *b, const struct bench_op *op)
{
	struct bench_row *row = &s->row[s->nr];
	unsigned int rounds = s->rounds;

	if (s->nr == MAX_ROWS)
		return;
	s->nr++;
	if (op->most_rounds && op->most_rounds < rounds)
		rounds = op->most_rounds;
	*row = (struct bench_row){.op = op,
				  .format = b->format,
				  .param = b->param,
				  .rounds = rounds,
				  .ns = calloc(rounds, sizeof(double)),
				  .median = -1,
				  .least = -1,
				  .floor_ratio = -1,
				  .instr = -1,
				  .locked = -1};
	bench_row_name(op, b, row->name);
}

static void add_points(struct bench_suite *s, struct bench *b, const struct bench_op *op)
{
	unsigned int i = 0;

	do {
		b->param = op->param[i];
		add(s, b, op);
	} while (op->param[i] && op->param[++i]);
}

static void add_formats(struct bench_suite *s, struct bench *b, const struct bench_op *op)
{
	for (b->format = TPT_FORMAT_EPT; b->format <= TPT_FORMAT_NPT; b->format++)
		if (op->formats & s->formats & 1u << b->format ||
		    (!op->formats && b->format == TPT_FORMAT_EPT))
			add_points(s, b, op);
}

static const struct bench_table *find_table(const char *name)
{
	for (const struct bench_table *t = bench_tables; t->name; t++)
		if (!strcmp(t->name, name))
			return t;
	return NULL;
}

/* Is each name of the list somebody's? */
static bool check_names(const char *list, struct bench *b)
{
	char name[64];
	size_t len;

	for (const char *at = list; at && *at; at += len + (at[len] == ',')) {
		len = strcspn(at, ",");
		snprintf(name, sizeof(name), "%.*s", (int)len, at);
		if (!bench_find(name) && !find_table(name))
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
			if (is_wanted(s, op))
				add_formats(s, b, op);
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
	return bench_fail(b, "%s: %.180s", row->name, why);
}

/* What the pass is told. */
static void take_row(struct bench *b, const struct bench_row *row)
{
	b->format = row->format;
	b->param = row->param;
}

static bool one_round(struct bench_suite *s, struct bench *b, int round)
{
	for (unsigned int i = 0; i < s->nr; i++) {
		struct bench_row *row = &s->row[i];
		uint64_t ns;

		if (row->op->untimed || round >= (int)row->rounds)
			continue;
		take_row(b, row);
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

static void sum_up(struct bench_row *row)
{
	if (row->op->untimed)
		return;
	qsort(row->ns, row->rounds, sizeof(double), by_value);
	row->least = row->ns[0];
	row->median = (row->ns[(row->rounds - 1) / 2] + row->ns[row->rounds / 2]) / 2;
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
		sum_up(&s->row[i]);
	for (unsigned int i = 0; i < s->nr; i++)
		compare(s, &s->row[i]);
	return true;
}

bool suite_count(struct bench_suite *s, struct bench *b)
{
	for (unsigned int i = 0; i < s->nr; i++) {
		struct bench_row *row = &s->row[i];
		uint64_t ns;

		if (row->op->uncounted || row->param > MOST_COUNTED)
			continue;
		take_row(b, row);
		/* The first pass warms, as above. */
		if (!bench_pass(row->op, b, &ns) || !bench_count(row->op, b))
			return fail_row(b, row);
		printf("%s %lu %s\n", row->name, b->units,
		       row->op->harness ? row->op->harness : "-");
		fflush(stdout);
	}
	return true;
}

bool suite_fill(struct bench_suite *s, struct bench *b)
{
	for (struct bench_table *t = bench_tables; t->name; t++) {
		char why[sizeof(b->why)];

		t->nr = 0;
		if ((s->only && !is_named(s->only, t->name)) || t->fill(t, b, s))
			continue;
		memcpy(why, b->why, sizeof(why));
		return bench_fail(b, "%s: %.200s", t->name, why);
	}
	return true;
}

bool suite_read_counts(struct bench_suite *s, struct bench *b)
{
	char line[256], name[40], format[8];
	FILE *in = fopen(s->counts, "r");
	double instr, locked;

	if (!in)
		return bench_fail(b, "%s cannot be read", s->counts);
	while (fgets(line, sizeof(line), in)) {
		if (sscanf(line, "%39s %7s %lf %lf", name, format, &instr, &locked) != 4)
			continue;
		snprintf(line, sizeof(line), "%s %s", name, format);
		for (unsigned int i = 0; i < s->nr; i++) {
			if (strcmp(s->row[i].name, line) != 0)
				continue;
			s->row[i].instr = instr;
			s->row[i].locked = locked;
		}
	}
	fclose(in);
	return true;
}
