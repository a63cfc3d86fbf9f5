// SPDX-License-Identifier: BSD-2-Clause
/* Takes in a run and the figures of others, and refuses what is neither. Draws nothing. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/plot.h"

#define MAX_FILE (1 << 22)

static __attribute__((format(printf, 2, 3))) bool fail(struct plot *p, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(p->why, sizeof(p->why), format, args);
	va_end(args);
	return false;
}

static char *read_file(struct plot *p, const char *path)
{
	FILE *in = fopen(path, "r");
	char *text = in ? malloc(MAX_FILE) : NULL;
	size_t len = text ? fread(text, 1, MAX_FILE, in) : 0;

	if (!text)
		fail(p, "%s cannot be read: %s", path, strerror(errno));
	else if (len == MAX_FILE || strnlen(text, len) < len || ferror(in))
		fail(p, "%s: no text, or too much of it", path);
	else
		text[len] = 0;
	if (in)
		fclose(in);
	if (!p->why[0])
		return text;
	free(text);
	return NULL;
}

/* ---- the run ---- */

static unsigned int line_of(const char *text, const char *at)
{
	unsigned int line = 1;

	for (; text < at; text++)
		line += *text == '\n';
	return line;
}

/* Is it what a bench writes? Names and units become text; figures are numbers, or not there. */
static bool check_run(struct plot *p, const char *path)
{
	static const char *const texts[] = {"op", "format", "unit", "kind"};
	const struct json *ops = json_get(p->run, "ops");

	if (!ops || ops->kind != JSON_LIST || !ops->child)
		return fail(p, "%s: no run of a bench: it has no list \"ops\"", path);
	for (const struct json *row = ops->child; row; row = row->next)
		for (unsigned int i = 0; i < 4; i++)
			if (!json_text(row, texts[i])[0])
				return fail(p, "%s: a row of \"ops\" has no \"%s\"", path,
					    texts[i]);
	return true;
}

static bool read_run(struct plot *p, const char *path)
{
	char *text = read_file(p, path);
	const char *why, *at;

	if (!text)
		return false;
	p->run = json_parse(text, &why, &at);
	if (!p->run)
		fail(p, "%s: line %u: %s", path, line_of(text, at), why);
	free(text);
	return p->run && check_run(p, path);
}

/* ---- the others ---- */

static unsigned int find_peer(const struct plot *p, const char *key)
{
	unsigned int i = 0;

	while (i < p->nr_peers && strcmp(p->peer[i].key, key) != 0)
		i++;
	return i;
}

/* A dash is no figure. */
static bool parse_figure(const char *text, double *value)
{
	char *end;

	*value = -1;
	if (!strcmp(text, "-"))
		return true;
	*value = strtod(text, &end);
	return !*end && *value >= 0;
}

static bool copy(char *to, size_t size, const char *from)
{
	size_t len = strlen(from);

	if (len >= size)
		return false;
	memcpy(to, from, len + 1);
	return true;
}

static bool take_peer(struct plot *p, const char *key, const char *name)
{
	struct plot_peer *peer = &p->peer[p->nr_peers];

	if (p->nr_peers == PLOT_PEERS || find_peer(p, key) < p->nr_peers ||
	    !copy(peer->key, sizeof(peer->key), key) || !copy(peer->name, sizeof(peer->name), name))
		return false;
	p->nr_peers++;
	return true;
}

static bool take_figure(struct plot *p, const char *key, const char *op, const char *instr,
			const char *ns, const char *bytes)
{
	struct plot_figure *f = &p->figure[p->nr_figures];

	if (p->nr_figures == PLOT_FIGURES || !copy(f->op, sizeof(f->op), op) ||
	    !parse_figure(instr, &f->instr) || !parse_figure(ns, &f->ns) ||
	    !parse_figure(bytes, &f->bytes))
		return false;
	f->peer = find_peer(p, key);
	p->nr_figures += f->peer < p->nr_peers;
	return f->peer < p->nr_peers;
}

static bool take_linux(struct plot *p, const char *op, const char *row)
{
	struct plot_linux *l = &p->linux_row[p->nr_linux];

	if (p->nr_linux == PLOT_PEERS || !copy(l->op, sizeof(l->op), op) ||
	    !copy(l->row, sizeof(l->row), row))
		return false;
	p->nr_linux++;
	return true;
}

static bool take_panel(struct plot *p, const char *op, const char *title)
{
	struct plot_panel *panel = &p->panel[p->nr_panels];

	if (p->nr_panels == PLOT_PANELS || !copy(panel->op, sizeof(panel->op), op) ||
	    !copy(panel->title, sizeof(panel->title), title))
		return false;
	p->nr_panels++;
	return true;
}

static bool take_line(struct plot *p, const char *line)
{
	char what[8], key[48], rest[160], op[160], instr[16], ns[16];

	if (sscanf(line, "%7s %47s %159[^\n]", what, key, rest) != 3)
		return false;
	if (!strcmp(what, "peer"))
		return take_peer(p, key, rest);
	if (!strcmp(what, "panel"))
		return take_panel(p, key, rest);
	if (!strcmp(what, "linux"))
		return take_linux(p, key, rest);
	if (!strcmp(what, "bytes") && sscanf(rest, "%15s %159[^\n]", instr, op) == 2)
		return take_figure(p, key, op, "-", "-", instr);
	if (!strcmp(what, "cost") && sscanf(rest, "%159s %15s %15s", op, instr, ns) == 3)
		return take_figure(p, key, op, instr, ns, "-");
	return false;
}

static bool read_peers(struct plot *p, const char *path)
{
	char *text = read_file(p, path), *rest = NULL;
	bool good = text;

	for (char *line = strtok_r(text, "\n", &rest); good && line;
	     line = strtok_r(NULL, "\n", &rest)) {
		good = *line == '#' || take_line(p, line);
		if (!good)
			fail(p, "%s: not understood: %.120s", path, line);
	}
	free(text);
	return good;
}

bool plot_read(struct plot *p, const char *run, const char *peers)
{
	memset(p, 0, sizeof(*p));
	return read_run(p, run) && (!peers || read_peers(p, peers));
}

void plot_free(struct plot *p)
{
	json_free(p->run);
	p->run = NULL;
}

/* ---- looking up ---- */

const struct json *plot_row(const struct plot *p, const char *op)
{
	const struct json *row = json_get(p->run, "ops")->child;

	while (row && strcmp(json_text(row, "op"), op) != 0)
		row = row->next;
	return row;
}

const struct plot_figure *plot_figure(const struct plot *p, const char *key, const char *op)
{
	for (unsigned int i = 0; i < p->nr_figures; i++)
		if (!strcmp(p->figure[i].op, op) && !strcmp(p->peer[p->figure[i].peer].key, key))
			return &p->figure[i];
	return NULL;
}
