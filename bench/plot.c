// SPDX-License-Identifier: BSD-2-Clause
/* Which pictures there are, and what goes into each. Computes no figure, and measures none. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/chart.h"
#include "bench/plot.h"

#define KVM "kvm7"
/* Kinds of units that a chart has headings for. */
#define UNITS 8
/* Bytes that would hide fewer of them on one axis. */
#define MUCH (1 << 20)

enum { NOTHING, DRAWN, FAILED };

/* The rows that are no peer's business: each of them once, and each format's where it is EPT's. */
static bool is_shown(const struct json *row, const char *measure)
{
	return !strcmp(json_text(row, "kind"), "op") && !json_get(row, "curve") &&
	       strcmp(json_text(row, "format"), "npt") != 0 && json_number(row, measure) >= 0;
}

static const struct json *rows(const struct plot *p)
{
	return json_get(p->run, "ops")->child;
}

/* What the floor of @row costs for the same work. */
static double floor_of(const struct plot *p, const struct json *row, const char *measure)
{
	double nr = json_number(row, "floor_nr");
	double one = json_number(plot_row(p, json_text(row, "floor")), measure);

	return one < 0 ? -1 : one * (nr > 0 ? nr : 1);
}

static double kvm_of(const struct plot *p, const struct json *row, bool instr)
{
	const struct plot_figure *f = plot_figure(p, KVM, json_text(row, "op"));

	return !f ? -1 : instr ? f->instr : f->ns;
}

static double linux_of(const struct plot *p, const struct json *row)
{
	for (unsigned int i = 0; i < p->nr_linux; i++)
		if (!strcmp(p->linux_row[i].op, json_text(row, "op")))
			return json_number(plot_row(p, p->linux_row[i].row), "ns_median");
	return -1;
}

/* Where, when and how much, as far as the run tells. */
static void say_run(const struct plot *p, char note[CHART_TEXT])
{
	const char *machine = json_text(p->run, "machine"), *date = json_text(p->run, "date");
	const char *compiler = json_text(p->run, "compiler");

	snprintf(note, CHART_TEXT, "This run: %.0f rounds over %.0f MiB%s%s%s%s%s%s",
		 json_number(p->run, "rounds"), json_number(p->run, "mib"), *machine ? "; " : "",
		 machine, *compiler ? "; " : "", compiler, *date ? "; " : "", date);
}

/* ---- every operation ---- */

/* Units in the order in which they come; how many. */
static unsigned int list_units(const struct plot *p, const char *measure, const char **unit)
{
	unsigned int nr = 0, i;

	for (const struct json *row = rows(p); row; row = row->next) {
		for (i = 0; i < nr && strcmp(unit[i], json_text(row, "unit")) != 0; i++)
			;
		if (i == nr && nr < UNITS && is_shown(row, measure))
			unit[nr++] = json_text(row, "unit");
	}
	return nr;
}

static void add_rows(const struct plot *p, struct chart_dots *c, const char *unit,
		     const char *measure)
{
	bool instr = !strcmp(measure, "instr");

	for (const struct json *row = rows(p); row && c->nr < CHART_ROWS; row = row->next)
		if (is_shown(row, measure) && !strcmp(json_text(row, "unit"), unit))
			c->row[c->nr++] = (struct chart_row){
				.label = json_text(row, "op"),
				.what = json_text(row, "what"),
				.per = unit,
				.value = {floor_of(p, row, measure), json_number(row, measure),
					  kvm_of(p, row, instr), instr ? -1 : linux_of(p, row)}};
}

static void add_units(const struct plot *p, struct chart_dots *c, const char *measure)
{
	const char *unit[UNITS];
	unsigned int nr = list_units(p, measure, unit);

	for (unsigned int i = 0; i < nr; i++)
		add_rows(p, c, unit[i], measure);
}

#define FLOOR                             \
	{                                 \
		"floor", "floor", SVG_BAR \
	}
#define OURS                                \
	{                                   \
		"Triptych", "ours", SVG_DOT \
	}
#define KVM_IT                                       \
	{                                            \
		"KVM 7.2", "kvm hollow", SVG_DIAMOND \
	}
#define LINUX                                \
	{                                    \
		"Linux", "linux", SVG_SQUARE \
	}

static int draw_instructions(const struct plot *p, const char *path)
{
	struct chart_dots c = {
		.frame =
			{.path = path,
			 .title = "Instructions of each operation",
			 .note = {{0},
				  "floor: the same work written by hand, with no section, accounting or "
				  "check. Floor and Triptych are of this run, counted by callgrind.",
				  "KVM 7.2: its own code in a process, measured elsewhere by the same "
				  "tool; its maps and faults include 47 instructions of a loop."}},
		.unit = "instructions, logarithmic",
		.series = {FLOOR, OURS, KVM_IT},
		.nr_series = 3,
		.of = 2,
		.by = 1,
		.strong = 1,
		.ratio = "KVM/ours"};

	say_run(p, c.frame.note[0]);
	add_units(p, &c, "instr");
	return !c.nr ? NOTHING : chart_dots(&c) ? DRAWN : FAILED;
}

static int draw_time(const struct plot *p, const char *path)
{
	struct chart_dots c = {
		.frame =
			{.path = path,
			 .title = "Time of each operation",
			 .note = {{0},
				  "CPU time of the thread, medians. Floor, Triptych and Linux are of "
				  "this run, interleaved. Linux: this machine's kernel doing the like for",
				  "a process (page faults with their trap, madvise, mprotect). KVM 7.2: "
				  "its own code in a process, measured elsewhere on a quiet machine."}},
		.unit = "ns, logarithmic",
		.series = {FLOOR, OURS, KVM_IT, LINUX},
		.nr_series = 4,
		.of = 1,
		.by = 0,
		.strong = 1,
		.ratio = "x floor"};

	say_run(p, c.frame.note[0]);
	add_units(p, &c, "ns_median");
	return !c.nr ? NOTHING : chart_dots(&c) ? DRAWN : FAILED;
}

/* ---- peers ---- */

static void add_bar(struct chart_panel *p, const char *label, double value, const char *style)
{
	struct chart_bar *b = &p->bar[p->nr];
	char text[24];

	if (value < 0 || p->nr == CHART_BARS)
		return;
	p->nr++;
	*b = (struct chart_bar){.part = {value, -1, -1}, .style = {style}};
	snprintf(b->label, sizeof(b->label), "%s", label);
	snprintf(b->text, sizeof(b->text), "%s", chart_number(value, text));
}

static int by_length(const void *a, const void *b)
{
	double x = ((const struct chart_bar *)a)->part[0];
	double y = ((const struct chart_bar *)b)->part[0];

	return (x > y) - (x < y);
}

static void add_peer_panel(const struct plot *p, struct chart_bars *c, const char *op,
			   const char *title)
{
	const struct json *row = plot_row(p, op);
	struct chart_panel *panel = &c->panel[c->nr];

	if (c->nr == sizeof(c->panel) / sizeof(c->panel[0]) || json_number(row, "instr") < 0)
		return;
	c->nr++;
	*panel = (struct chart_panel){.unit = "instructions"};
	snprintf(panel->title, sizeof(panel->title), "%s (%s)", title, op);
	add_bar(panel, "floor", floor_of(p, row, "instr"), "floor");
	add_bar(panel, "Triptych", json_number(row, "instr"), "ours");
	for (unsigned int i = 0; i < p->nr_figures; i++) {
		const struct plot_figure *f = &p->figure[i];
		const char *key = p->peer[f->peer].key;

		if (!strcmp(f->op, op))
			add_bar(panel, p->peer[f->peer].name, f->instr,
				strcmp(key, KVM) != 0 ? "peer" : "kvm");
	}
	qsort(panel->bar, panel->nr, sizeof(panel->bar[0]), by_length);
}

static int draw_peers(const struct plot *p, const char *path)
{
	struct chart_bars c = {
		.frame =
			{.path = path,
			 .title = "Instructions: Triptych among others",
			 .note = {{0},
				  "Blue, and the floor (the same work written by hand): this run. All "
				  "others: their own code in a process, measured elsewhere by the same tool;",
				  "docs/performance.md says which version, what is in each figure, and what "
				  "they leave out that Triptych and KVM do."}},
		.label_width = 168,
		.columns = 2};

	say_run(p, c.frame.note[0]);
	for (unsigned int i = 0; i < p->nr_panels; i++)
		add_peer_panel(p, &c, p->panel[i].op, p->panel[i].title);
	return !c.nr ? NOTHING : chart_bars(&c) ? DRAWN : FAILED;
}

/* ---- curves ---- */

static struct chart_plane *find_plane(struct chart_lines *c, const char *of)
{
	unsigned int i = 0;

	while (i < c->nr && strcmp(c->plane[i].x, of) != 0)
		i += 2;
	if (i + 1 >= sizeof(c->plane) / sizeof(c->plane[0]))
		return NULL;
	if (i == c->nr) {
		c->plane[i] = (struct chart_plane){.x = of, .y = "ns"};
		c->plane[i + 1] = (struct chart_plane){.x = of, .y = "instructions"};
		snprintf(c->plane[i].title, 64, "Time against %s", of);
		snprintf(c->plane[i + 1].title, 64, "Instructions against %s", of);
		c->nr += 2;
	}
	return &c->plane[i];
}

static void add_point(struct chart_plane *plane, const struct json *row, const char *measure)
{
	double x = json_number(row, "param"), y = json_number(row, measure);
	struct chart_curve *curve = plane->curve;

	while (curve < plane->curve + plane->nr && strcmp(curve->name, json_text(row, "op")) != 0)
		curve++;
	if (x <= 0 || y <= 0 || curve == plane->curve + CHART_CURVES)
		return;
	if (curve == plane->curve + plane->nr) {
		plane->nr++;
		*curve = (struct chart_curve){.name = json_text(row, "op")};
	}
	if (curve->nr == CHART_POINTS)
		return;
	curve->x[curve->nr] = x;
	curve->y[curve->nr++] = y;
}

static int draw_scale(const struct plot *p, const char *path)
{
	struct chart_lines c = {
		.frame = {
			.path = path,
			.title = "What a whole operation costs beside more and more of something",
			.note = {
				{0},
				"Both axes are logarithmic. Time: CPU time of the thread, the least "
				"of the rounds. Instructions: by callgrind, for points it can set up."}}};

	say_run(p, c.frame.note[0]);
	for (const struct json *row = rows(p); row; row = row->next) {
		struct chart_plane *plane = NULL;

		if (json_get(row, "curve"))
			plane = find_plane(&c, json_text(row, "curve"));
		if (!plane)
			continue;
		add_point(&plane[0], row, "ns_min");
		add_point(&plane[1], row, "instr");
	}
	return !c.nr ? NOTHING : chart_lines(&c) ? DRAWN : FAILED;
}

/* ---- threads ---- */

static const struct json *table(const struct plot *p, const char *name)
{
	const struct json *t = json_get(p->run, name);

	return t && t->kind == JSON_LIST ? t->child : NULL;
}

static void add_threads_panel(struct chart_bars *c, const struct json *line)
{
	struct chart_panel *panel = &c->panel[c->nr];
	double one = json_number(line, "ns_one"), goal = json_number(line, "goal");

	if (c->nr == sizeof(c->panel) / sizeof(c->panel[0]) || one < 0)
		return;
	c->nr++;
	*panel = (struct chart_panel){.unit = "ns of CPU time, a fault", .goal = one * goal};
	snprintf(panel->title, sizeof(panel->title), "%s: %.2f times", json_text(line, "of"),
		 json_number(line, "ratio"));
	add_bar(panel, "1 vCPU, 1 thread", one, "ours");
	add_bar(panel, "2 vCPUs, 2 threads", json_number(line, "ns_two"), "ours");
}

static int draw_threads(const struct plot *p, const char *path)
{
	struct chart_bars c = {
		.frame =
			{.path = path,
			 .title = "Faults side by side",
			 .note = {{0},
				  "Dashed: 1.1 times the time of one, the goal. Two are on pages of their "
				  "own, at once. 2 threads share a machine of 2 processors with what else runs;",
				  "what is exact: at 2, 8 and 64 vCPUs, faults on different leaf tables write "
				  "no common cache line (tests/lines records each line written)."}},
		.label_width = 150,
		.columns = 2};

	say_run(p, c.frame.note[0]);
	for (const struct json *line = table(p, "threads"); line; line = line->next)
		add_threads_panel(&c, line);
	return !c.nr ? NOTHING : chart_bars(&c) ? DRAWN : FAILED;
}

/* ---- memory ---- */

static void add_memory_bar(struct chart_panel *panel, const struct json *line)
{
	struct chart_bar *b = &panel->bar[panel->nr];
	char text[24];

	if (panel->nr == CHART_BARS)
		return;
	panel->nr++;
	*b = (struct chart_bar){.part = {json_number(line, "tables"), json_number(line, "headers"),
					 json_number(line, "other")},
				.style = {"ours", "linux", "floor"}};
	snprintf(b->label, sizeof(b->label), "%s", json_text(line, "of"));
	snprintf(b->text, sizeof(b->text), "%s", chart_number(json_number(line, "all"), text));
}

/* Lines of one size share an axis: a mapped GiB of small leaves hides all others. */
static void add_memory_panel(const struct plot *p, struct chart_bars *c, double least, double most)
{
	struct chart_panel *panel = &c->panel[c->nr];

	*panel = (struct chart_panel){.unit = "bytes"};
	snprintf(panel->title, sizeof(panel->title), "%s",
		 least > 0 ? "Much: a mapped GiB of 4K leaves" : "Little: all else");
	for (const struct json *line = table(p, "memory"); line; line = line->next) {
		const struct plot_figure *kvm = plot_figure(p, KVM, json_text(line, "of"));
		double all = json_number(line, "all");

		if (all < least || all >= most)
			continue;
		add_memory_bar(panel, line);
		if (kvm)
			add_bar(panel, "the same, KVM 7.2", kvm->bytes, "kvm");
	}
	c->nr += panel->nr > 0;
}

static int draw_memory(const struct plot *p, const char *path)
{
	struct chart_bars c = {
		.frame =
			{.path = path,
			 .title = "Memory: bytes by kind",
			 .note = {{0},
				  "Blue: table pages. Green: their headers, 64 bytes each. Grey: all "
				  "else. Counted by the platform in this run; no time is in it.",
				  "Orange: KVM 7.2, reckoned elsewhere from the sizes of its structures "
				  "(184 bytes a header, 40 objects a cache)."}},
		.label_width = 280,
		.columns = 1};

	say_run(p, c.frame.note[0]);
	add_memory_panel(p, &c, MUCH, INFINITY);
	add_memory_panel(p, &c, 0, MUCH);
	return !c.nr ? NOTHING : chart_bars(&c) ? DRAWN : FAILED;
}

/* ---- all ---- */

bool plot_draw(struct plot *p, const char *dir)
{
	static const struct {
		const char *name;
		int (*draw)(const struct plot *p, const char *path);
	} pictures[] = {{"instructions", draw_instructions},
			{"peers", draw_peers},
			{"time", draw_time},
			{"scale", draw_scale},
			{"threads", draw_threads},
			{"memory", draw_memory}};
	static const char *const says[] = {"nothing of it in the run", "drawn"};

	for (unsigned int i = 0; i < sizeof(pictures) / sizeof(pictures[0]); i++) {
		char path[512];
		int ret;

		snprintf(path, sizeof(path), "%s/%s.svg", dir, pictures[i].name);
		ret = pictures[i].draw(p, path);
		if (ret == FAILED) {
			snprintf(p->why, sizeof(p->why), "%.200s cannot be written", path);
			return false;
		}
		printf("%s: %s\n", path, says[ret]);
	}
	return true;
}
