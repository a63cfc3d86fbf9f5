// SPDX-License-Identifier: BSD-2-Clause
/* What charts share (frame, axes, numbers), and the charts of dots and of lines. Reads no file. */
#include <limits.h>
#include <math.h>
#include <string.h>

#include "bench/chart_internal.h"

const char *chart_number(double value, char text[24])
{
	if (value < 0)
		strcpy(text, "-");
	else if (value >= 99.95 || value == (double)(int)value)
		snprintf(text, 24, "%.0f", value);
	else
		snprintf(text, 24, "%.*f", value >= 9.995 ? 1 : 2, value);
	/* Thousands apart, from the end on. */
	if (value >= 999.5)
		for (size_t len = strlen(text), at = len; at > 3 && len < 20; len++) {
			at -= 3;
			memmove(text + at + 1, text + at, len - at + 1);
			text[at] = ',';
		}
	return text;
}

/* ---- frame ---- */

unsigned int frame_height(const struct chart_frame *f)
{
	unsigned int lines = 0;

	while (lines < 4 && f->note[lines][0])
		lines++;
	return 44 + lines * 18;
}

bool frame_begin(struct svg *s, const struct chart_frame *f, unsigned int height)
{
	if (!svg_begin(s, f->path, CHART_WIDTH, (int)height, f->title))
		return false;
	svg_text(s, MARGIN, 32, "start", "title", "%s", f->title);
	for (unsigned int i = 0; i < 4 && f->note[i][0]; i++)
		svg_text(s, MARGIN, 54 + i * 18, "start", "note", "%s", f->note[i]);
	return true;
}

/* ---- logarithmic axes ---- */

struct axis axis_none(double from, double to)
{
	return (struct axis){INT_MAX, INT_MIN, from, to};
}

void axis_take(struct axis *a, double value)
{
	int low, high;

	if (value <= 0)
		return;
	low = (int)floor(log10(value) + 1e-9);
	high = (int)ceil(log10(value) - 1e-9);
	a->least = low < a->least ? low : a->least;
	a->most = high > a->most ? high : a->most;
}

void axis_done(struct axis *a)
{
	if (a->least > a->most)
		a->least = 0, a->most = 1;
	if (a->least >= a->most)
		a->most = a->least + 1;
}

/* What is 0 lies at the low end. */
double axis_at(const struct axis *a, double value)
{
	double part = value > 0 ? (log10(value) - a->least) / (a->most - a->least) : 0;

	return a->from + (a->to - a->from) * part;
}

const char *axis_label(int decade, char text[24])
{
	if (decade < 0)
		snprintf(text, 24, "%.*f", -decade, pow(10, decade));
	else if (decade >= 6)
		snprintf(text, 24, "%.0fM", pow(10, decade - 6));
	else
		chart_number(pow(10, decade), text);
	return text;
}

/* ---- dots ---- */

#define ROW	   20.0
#define LABEL_END  222.0
#define DOTS_START 234.0
#define COLUMN	   78.0

static double dots_end(const struct chart_dots *c)
{
	return CHART_WIDTH - MARGIN - COLUMN * (c->nr_series + 1) - 8;
}

static bool begins_group(const struct chart_dots *c, unsigned int i)
{
	return !i || strcmp(c->row[i].per, c->row[i - 1].per) != 0;
}

static unsigned int dots_rows(const struct chart_dots *c)
{
	unsigned int nr = c->nr;

	for (unsigned int i = 0; i < c->nr; i++)
		nr += begins_group(c, i);
	return nr;
}

/* The names of the columns are the legend. */
static void dots_head(struct svg *s, const struct chart_dots *c, double y)
{
	for (unsigned int i = 0; i < c->nr_series; i++) {
		double x = CHART_WIDTH - MARGIN - COLUMN * (c->nr_series - i);

		svg_mark(s, c->series[i].mark, x - 6, y - 22, c->series[i].style);
		svg_text(s, x, y - 4, "end", "head", "%s", c->series[i].name);
	}
	svg_text(s, CHART_WIDTH - MARGIN, y - 4, "end", "head", "%s", c->ratio);
}

static void dots_grid(struct svg *s, const struct chart_dots *c, const struct axis *a, double top,
		      double bottom)
{
	char text[24];

	for (int d = a->least; d <= a->most; d++) {
		double x = axis_at(a, pow(10, d));

		svg_line(s, x, top, x, bottom, "grid");
		svg_text(s, x, top - 4, "middle", "note", "%s", axis_label(d, text));
		svg_text(s, x, bottom + 16, "middle", "note", "%s", axis_label(d, text));
	}
	svg_text(s, (a->from + a->to) / 2, bottom + 34, "middle", "note", "%s", c->unit);
}

static void dots_row(struct svg *s, const struct chart_dots *c, const struct axis *a,
		     const struct chart_row *r, double y)
{
	double least = INFINITY, most = 0;
	char text[24];

	svg_group(s, r->what);
	svg_text(s, LABEL_END, y + 4, "end", "mono", "%s", r->label);
	for (unsigned int i = 0; i < c->nr_series; i++)
		if (r->value[i] >= 0) {
			least = fmin(least, axis_at(a, r->value[i]));
			most = fmax(most, axis_at(a, r->value[i]));
		}
	if (least < most)
		svg_line(s, least, y, most, y, "reach");
	for (unsigned int i = 0; i < c->nr_series; i++) {
		if (r->value[i] >= 0)
			svg_mark(s, c->series[i].mark, axis_at(a, r->value[i]), y,
				 c->series[i].style);
		svg_text(s, CHART_WIDTH - MARGIN - COLUMN * (c->nr_series - i), y + 4, "end",
			 i == c->strong ? "mono strong" : "mono", "%s",
			 chart_number(r->value[i], text));
	}
	if (r->value[c->by] > 0 && r->value[c->of] >= 0)
		svg_text(s, CHART_WIDTH - MARGIN, y + 4, "end", "mono", "%sx",
			 chart_number(r->value[c->of] / r->value[c->by], text));
	svg_group_end(s);
}

bool chart_dots(const struct chart_dots *c)
{
	double top = frame_height(&c->frame) + 48, bottom = top + dots_rows(c) * ROW + 6;
	struct axis a = axis_none(DOTS_START, dots_end(c));
	double y = top + ROW / 2 + 2;
	struct svg s;

	for (unsigned int i = 0; i < c->nr; i++)
		for (unsigned int j = 0; j < c->nr_series; j++)
			axis_take(&a, c->row[i].value[j]);
	axis_done(&a);
	if (!frame_begin(&s, &c->frame, (unsigned int)bottom + 46))
		return false;
	dots_head(&s, c, top);
	dots_grid(&s, c, &a, top, bottom);
	for (unsigned int i = 0; i < c->nr; i++, y += ROW) {
		if (begins_group(c, i)) {
			svg_rect(&s, MARGIN, y - ROW / 2, CHART_WIDTH - 2 * MARGIN, ROW, "band");
			svg_text(&s, MARGIN + 6, y + 4, "start", "head", "per %s", c->row[i].per);
			y += ROW;
		}
		dots_row(&s, c, &a, &c->row[i], y);
	}
	return svg_end(&s);
}

/* ---- lines ---- */

#define PLANE_HEIGHT 250.0
#define PLANE_WIDTH  (CHART_WIDTH / 2.0)

static const char *const line_styles[CHART_CURVES] = {"s1", "s2", "s3"};
static const enum svg_mark line_marks[CHART_CURVES] = {SVG_DOT, SVG_DIAMOND, SVG_SQUARE};

static void plane_grid(struct svg *s, const struct chart_plane *p, const struct axis *x,
		       const struct axis *y)
{
	char text[24];

	for (int d = y->least; d <= y->most; d++) {
		double at = axis_at(y, pow(10, d));

		svg_line(s, x->from, at, x->to, at, d == y->least ? "axis" : "grid");
		svg_text(s, x->from - 6, at + 4, "end", "note", "%s", axis_label(d, text));
	}
	for (int d = x->least; d <= x->most; d++) {
		double at = axis_at(x, pow(10, d));

		svg_line(s, at, y->to, at, y->from, d == x->least ? "axis" : "grid");
		svg_text(s, at, y->from + 16, "middle", "note", "%s", axis_label(d, text));
	}
	svg_text(s, (x->from + x->to) / 2, y->from + 33, "middle", "note", "%s", p->x);
}

static void plane_curve(struct svg *s, const struct chart_curve *c, const char *style,
			enum svg_mark mark, const struct axis *x, const struct axis *y)
{
	svg_path_begin(s, style);
	for (unsigned int i = 0; i < c->nr; i++)
		svg_path_to(s, axis_at(x, c->x[i]), axis_at(y, c->y[i]));
	svg_path_end(s);
	for (unsigned int i = 0; i < c->nr; i++)
		svg_mark(s, mark, axis_at(x, c->x[i]), axis_at(y, c->y[i]), style);
}

/* Where the ends of a curve are, in words: what one reads off first.
 */
static void plane_legend(struct svg *s, const struct chart_plane *p, double left, double y)
{
	for (unsigned int i = 0; i < p->nr && i < CHART_CURVES; i++) {
		const struct chart_curve *c = &p->curve[i];
		char first[24], last[24];

		svg_mark(s, line_marks[i], left + 5, y + i * 17 - 4, line_styles[i]);
		svg_text(s, left + 16, y + i * 17, "start", "", "%s: %s to %s %s", c->name,
			 chart_number(c->y[0], first), chart_number(c->y[c->nr - 1], last), p->y);
	}
}

static void plane(struct svg *s, const struct chart_plane *p, double left, double top)
{
	struct axis x = axis_none(left + 68, left + PLANE_WIDTH - 24);
	struct axis y = axis_none(top + PLANE_HEIGHT - 52, top + 30 + p->nr * 17);

	for (unsigned int i = 0; i < p->nr; i++)
		for (unsigned int j = 0; j < p->curve[i].nr; j++) {
			axis_take(&x, p->curve[i].x[j]);
			axis_take(&y, p->curve[i].y[j]);
		}
	axis_done(&x);
	axis_done(&y);
	svg_text(s, left + MARGIN, top + 14, "start", "head", "%s", p->title);
	plane_legend(s, p, left + MARGIN, top + 34);
	plane_grid(s, p, &x, &y);
	for (unsigned int i = 0; i < p->nr && i < CHART_CURVES; i++)
		plane_curve(s, &p->curve[i], line_styles[i], line_marks[i], &x, &y);
}

bool chart_lines(const struct chart_lines *c)
{
	unsigned int top = frame_height(&c->frame) + 8;
	struct svg s;

	if (!frame_begin(&s, &c->frame, top + (c->nr + 1) / 2 * (unsigned int)PLANE_HEIGHT))
		return false;
	for (unsigned int i = 0; i < c->nr; i++)
		if (c->plane[i].nr)
			plane(&s, &c->plane[i], i % 2 * PLANE_WIDTH,
			      top + (i - i % 2) * PLANE_HEIGHT / 2);
	return svg_end(&s);
}
