/* SPDX-License-Identifier: BSD-2-Clause */
/* Kinds of charts: values in, marks on a picture out. Knows nothing of what the values are. */
#ifndef BENCH_CHART_H
#define BENCH_CHART_H

#include "bench/svg.h"

/* A value that there is none of is negative, in all of them. */

#define CHART_SERIES 4
#define CHART_ROWS   128
#define CHART_BARS   24
#define CHART_POINTS 16
#define CHART_CURVES 3
#define CHART_TEXT   160

/* What is above and below a chart. */
struct chart_frame {
	const char *path, *title;
	char note[4][CHART_TEXT]; /* lines below the title, up to one that is empty */
};

struct chart_series {
	const char *name;
	const char *style; /* as svg.h has it */
	enum svg_mark mark;
};

/* ---- a line a thing, a mark a series on one logarithmic axis, and the numbers beside ---- */

struct chart_dots {
	struct chart_frame frame;
	const char *unit; /* of the axis */
	struct chart_series series[CHART_SERIES];
	unsigned int nr_series;
	unsigned int strong; /* the series that it is about */
	/* The last column: how many times the value of @of is that of @by. */
	unsigned int of, by;
	const char *ratio;
	unsigned int nr;
	struct chart_row {
		const char *label, *what;
		const char *per; /* a heading where it is another than the row's before */
		double value[CHART_SERIES];
	} row[CHART_ROWS];
};

/* False: it can't be written. The same for the others. */
bool chart_dots(const struct chart_dots *c);

/* ---- panels of bars, two side by side, each panel on a linear axis of its own ---- */

struct chart_panel {
	char title[CHART_TEXT];
	const char *unit;
	double goal; /* a mark on the axis; 0: none */
	unsigned int nr;
	struct chart_bar {
		char label[64];
		double part[3]; /* end to end */
		const char *style[3];
		char text[32]; /* at its end */
	} bar[CHART_BARS];
};

struct chart_bars {
	struct chart_frame frame;
	unsigned int nr, columns;
	unsigned int label_width;
	struct chart_panel panel[8];
};

bool chart_bars(const struct chart_bars *c);

/* ---- panels of lines, both axes logarithmic ---- */

/* With a point at least. */
struct chart_curve {
	const char *name;
	unsigned int nr;
	double x[CHART_POINTS], y[CHART_POINTS];
};

struct chart_plane {
	char title[64];
	const char *x, *y; /* what the axes are in */
	unsigned int nr;
	struct chart_curve curve[CHART_CURVES];
};

struct chart_lines {
	struct chart_frame frame;
	unsigned int nr;
	struct chart_plane plane[12]; /* two side by side; one without curves stays empty */
};

bool chart_lines(const struct chart_lines *c);

/* A value with about three digits. */
const char *chart_number(double value, char text[24]);

#endif
