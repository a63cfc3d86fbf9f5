// SPDX-License-Identifier: BSD-2-Clause
/* The chart of bars. Reads no file. */
#include <math.h>
#include <string.h>

#include "bench/chart_internal.h"

#define BAR  22.0
#define TEXT 84.0
#define HEAD 30.0
#define AXIS 44.0

struct place {
	double left, top, width, label;
	double most; /* what is at the axis' end */
};

static double panel_height(const struct chart_panel *p)
{
	return HEAD + p->nr * BAR + AXIS;
}

static double at(const struct place *where, double value)
{
	return where->left + MARGIN + where->label +
	       (where->width - 2 * MARGIN - where->label - TEXT) * value / where->most;
}

static double sum(const struct chart_bar *b)
{
	double all = 0;

	for (unsigned int i = 0; i < 3; i++)
		all += b->part[i] > 0 ? b->part[i] : 0;
	return all;
}

/* A distance between ticks, 1, 2 or 5 times a power of 10, so that there are at most five. */
static double tick(double most)
{
	double power = pow(10, floor(log10(most / 5))), times = most / 5 / power;

	return power * (times > 5 ? 10 : times > 2 ? 5 : times > 1 ? 2 : 1);
}

static double panel_most(const struct chart_panel *p)
{
	double most = p->goal;

	for (unsigned int i = 0; i < p->nr; i++)
		most = fmax(most, sum(&p->bar[i]));
	return most > 0 ? most : 1;
}

static void panel_axis(struct svg *s, const struct chart_panel *p, const struct place *where)
{
	double top = where->top + HEAD - 4, bottom = where->top + HEAD + p->nr * BAR;
	double step = tick(where->most);
	char text[24];

	for (unsigned int i = 0; i * step <= where->most * 1.0001; i++) {
		double x = at(where, i * step);

		svg_line(s, x, top, x, bottom, i ? "grid" : "axis");
		svg_text(s, x, bottom + 15, "middle", "note", "%s", chart_number(i * step, text));
	}
	svg_text(s, (at(where, 0) + at(where, where->most)) / 2, bottom + 31, "middle", "note",
		 "%s", p->unit);
}

/* Its text stands behind @clear, too. */
static void panel_bar(struct svg *s, const struct chart_bar *b, const struct place *where,
		      double clear, double y)
{
	double from = 0;

	svg_text(s, at(where, 0) - 8, y + 15, "end", "", "%s", b->label);
	for (unsigned int i = 0; i < 3; i++) {
		if (b->part[i] <= 0)
			continue;
		svg_rect(s, at(where, from), y + 3, at(where, from + b->part[i]) - at(where, from),
			 BAR - 6, b->style[i]);
		from += b->part[i];
	}
	svg_text(s, at(where, fmax(from, clear)) + 6, y + 15, "start", "mono", "%s", b->text);
}

static void panel(struct svg *s, const struct chart_panel *p, struct place where)
{
	double x;

	where.most = panel_most(p);
	svg_text(s, where.left + MARGIN, where.top + 14, "start", "head", "%s", p->title);
	panel_axis(s, p, &where);
	for (unsigned int i = 0; i < p->nr; i++)
		panel_bar(s, &p->bar[i], &where, p->goal, where.top + HEAD + i * BAR);
	if (p->goal > 0) {
		x = at(&where, p->goal);
		svg_line(s, x, where.top + HEAD - 4, x, where.top + HEAD + p->nr * BAR, "goal");
	}
}

/* Height of the row of panels that begins with @first. */
static double row_height(const struct chart_bars *c, unsigned int first)
{
	double height = 0;

	for (unsigned int i = first; i < c->nr && i < first + c->columns; i++)
		height = fmax(height, panel_height(&c->panel[i]));
	return height;
}

bool chart_bars(const struct chart_bars *c)
{
	double top = frame_height(&c->frame) + 8, height = top;
	struct svg s;

	for (unsigned int i = 0; i < c->nr; i += c->columns)
		height += row_height(c, i);
	if (!frame_begin(&s, &c->frame, (unsigned int)height + 4))
		return false;
	for (unsigned int i = 0; i < c->nr; i++) {
		double width = (double)CHART_WIDTH / c->columns;

		panel(&s, &c->panel[i],
		      (struct place){.left = i % c->columns * width,
				     .top = top,
				     .width = width,
				     .label = c->label_width});
		if (i % c->columns == c->columns - 1)
			top += row_height(c, i + 1 - c->columns);
	}
	return svg_end(&s);
}
