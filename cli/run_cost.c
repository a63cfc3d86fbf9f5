// SPDX-License-Identifier: BSD-2-Clause
/*
 * The cost file: what others published about the price of one call or exit, and what a run's counts
 * come to with that. A price that nobody published is unknown, and so is every sum that needs it.
 * Measures nothing.
 */
#include "cli/run_cost.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define MAX_FILE    (1u << 18)
#define MAX_COLUMNS 6

struct reader {
	struct run_cost *cost;
	const char *path;
	unsigned int line;
	char *column[MAX_COLUMNS];
	unsigned int nr;
	char *err;
};

__attribute__((format(printf, 2, 3))) static int bad(const struct reader *r, const char *format,
						     ...)
{
	int len = snprintf(r->err, INPUT_ERR_LEN, "%s line %u: ", r->path, r->line);
	va_list args;

	va_start(args, format);
	if (len > 0 && len < INPUT_ERR_LEN)
		vsnprintf(r->err + len, INPUT_ERR_LEN - (size_t)len, format, args);
	va_end(args);
	return -EINVAL;
}

bool run_duration(const char *text, double *ns)
{
	static const struct {
		const char *name;
		double ns;
	} units[] = {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}};
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return false;
	*ns = strtod(text, &end);
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(end, units[i].name) != 0)
			continue;
		*ns *= units[i].ns;
		return true;
	}
	return false;
}

static int copy(const struct reader *r, char *to, size_t size, unsigned int column,
		const char *what)
{
	if (!*r->column[column] || strlen(r->column[column]) >= size)
		return bad(r, "column %u, %s: 1 to %zu characters", column + 1, what, size - 1);
	snprintf(to, size, "%s", r->column[column]);
	return 0;
}

/* estimate GROUP COUNTER EACH WHAT SOURCE */
static int read_price(struct reader *r)
{
	struct run_price *p = &r->cost->price[r->cost->nr_prices];
	int err;

	if (r->cost->nr_prices == RUN_MAX)
		return bad(r, "more than %d lines of this kind", RUN_MAX);
	err = copy(r, p->group, sizeof(p->group), 1, "the group");
	err = err ? err : copy(r, p->counter, sizeof(p->counter), 2, "a counter");
	err = err ? err : copy(r, p->what, sizeof(p->what), 4, "what one of them is");
	err = err ? err : copy(r, p->source, sizeof(p->source), 5, "the source");
	if (err)
		return err;
	p->known = strcmp(r->column[3], "unknown") != 0;
	if (p->known && !run_duration(r->column[3], &p->each_ns))
		return bad(r, "\"%s\": must be a time like 4.45us, or unknown", r->column[3]);
	r->cost->nr_prices++;
	return 0;
}

/* published WHAT VALUE MACHINE SOURCE */
static int read_published(struct reader *r)
{
	struct run_published *p = &r->cost->published[r->cost->nr_published];
	int err;

	if (r->cost->nr_published == RUN_MAX)
		return bad(r, "more than %d lines of this kind", RUN_MAX);
	err = copy(r, p->what, sizeof(p->what), 1, "what was measured");
	err = err ? err : copy(r, p->value, sizeof(p->value), 2, "the figure");
	err = err ? err : copy(r, p->machine, sizeof(p->machine), 3, "the machine");
	err = err ? err : copy(r, p->source, sizeof(p->source), 4, "the source");
	r->cost->nr_published += !err;
	return err;
}

static int read_line(struct reader *r, char *text)
{
	r->nr = 0;
	if (!*text || *text == '#')
		return 0;
	for (char *at = text; at && r->nr < MAX_COLUMNS; r->nr++) {
		char *tab = strchr(at, '\t');

		if (tab)
			*tab++ = 0;
		r->column[r->nr] = at;
		at = tab;
		if (at && r->nr + 1 == MAX_COLUMNS)
			return bad(r, "more than %d columns", MAX_COLUMNS);
	}
	if (!strcmp(r->column[0], "estimate") && r->nr == 6)
		return read_price(r);
	if (!strcmp(r->column[0], "published") && r->nr == 5)
		return read_published(r);
	return bad(r, "must be estimate, group, counter, time, what, source or published, what, "
		      "figure, machine, source, with tabs between");
}

static int read_all(struct reader *r, char *text)
{
	int err = 0;

	for (char *from = text, *end; !err && from; from = end) {
		end = strchr(from, '\n');
		if (end)
			*end++ = 0;
		r->line++;
		err = read_line(r, from);
	}
	return err;
}

static long read_whole(const char *path, char *text, char err[INPUT_ERR_LEN])
{
	struct input *in;
	long n = input_open(path, &in, err), len = 0;

	if (n)
		return n;
	while ((n = input_read(in, text + len, MAX_FILE - 1 - (size_t)len, err)) > 0)
		len += n;
	input_close(in);
	return n ? n : len;
}

int run_cost_read(struct run_cost **out, const char *path, char err[INPUT_ERR_LEN])
{
	struct run_cost *cost = calloc(1, sizeof(*cost));
	char *text = malloc(MAX_FILE);
	struct reader r = {.cost = cost, .path = path, .err = err};
	long len;
	int ret;

	snprintf(err, INPUT_ERR_LEN, "%s: no memory", path);
	len = cost && text ? read_whole(path, text, err) : -ENOMEM;
	ret = (int)len;
	if (len >= 0) {
		text[len] = 0;
		snprintf(cost->path, sizeof(cost->path), "%.255s", path);
		ret = read_all(&r, text);
	}
	free(text);
	if (ret)
		free(cost);
	else
		*out = cost;
	return ret;
}

/* ---- what it comes to ---- */

static uint64_t count_of(const struct run *r, const struct run_price *p)
{
	const struct run_counter *c = run_counter(r, p->counter);

	/* A call that was never made has no counter. */
	return c ? c->value : 0;
}

bool run_cost_group(const struct run *r, unsigned int first, struct run_bill *bill)
{
	const struct run_cost *cost = r->cost;
	const char *group = cost->price[first].group;

	*bill = (struct run_bill){.known = true};
	for (unsigned int i = 0; i < cost->nr_prices; i++) {
		const struct run_price *p = &cost->price[i];
		uint64_t n = count_of(r, p);

		if (strcmp(p->group, group) != 0)
			continue;
		if (i < first)
			return false;
		bill->known &= p->known || !n;
		bill->ns += (double)n * p->each_ns;
		bill->items += n;
	}
	return bill->items;
}

uint64_t run_cost_count(const struct run *r, unsigned int price)
{
	return count_of(r, &r->cost->price[price]);
}
