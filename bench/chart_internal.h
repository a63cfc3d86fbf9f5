/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of charts share. For nobody else. */
#ifndef BENCH_CHART_INTERNAL_H
#define BENCH_CHART_INTERNAL_H

#include "bench/chart.h"

#define CHART_WIDTH 1000
#define MARGIN	    20

/* Opens the picture, with title and notes; what is below them starts at frame_height(). */
bool frame_begin(struct svg *s, const struct chart_frame *f, unsigned int height);
unsigned int frame_height(const struct chart_frame *f);

/* Whole decades from @from to @to on the picture. */
struct axis {
	int least, most; /* powers of 10 */
	double from, to;
};

struct axis axis_none(double from, double to);
/* Widens it so that @value has a place; what is not above 0 has none. */
void axis_take(struct axis *a, double value);
void axis_done(struct axis *a);
double axis_at(const struct axis *a, double value);
const char *axis_label(int decade, char text[24]);

#endif
