/* SPDX-License-Identifier: BSD-2-Clause */
/* Marks on a picture: SVG that is readable on light and on dark, and the same for the same calls.
 * Knows nothing of charts. */
#ifndef BENCH_SVG_H
#define BENCH_SVG_H

#include <stdbool.h>
#include <stdio.h>

struct svg {
	FILE *out;
	unsigned int points; /* of the path under way */
};

/*
 * What a thing is decides how it looks: "ours", "floor", "kvm", "linux", "peer", "s1" to "s3" for
 * lines; of text besides "title", "note", "head", "mono". Classes of a style sheet, a blank
 * between two.
 */

/* A picture of @width by @height in @path, with what it shows in words. False: it can't be written.
 */
bool svg_begin(struct svg *s, const char *path, int width, int height, const char *title);
/* False: not all of it could be written. */
bool svg_end(struct svg *s);

/* @anchor: "start", "middle", "end": which of its ends is at @x. @y is the base line. */
void svg_text(struct svg *s, double x, double y, const char *anchor, const char *style,
	      const char *format, ...) __attribute__((format(printf, 6, 7)));
void svg_rect(struct svg *s, double x, double y, double width, double height, const char *style);
void svg_line(struct svg *s, double x1, double y1, double x2, double y2, const char *style);

enum svg_mark { SVG_DOT, SVG_BAR, SVG_DIAMOND, SVG_SQUARE };
/* A point of a chart. */
void svg_mark(struct svg *s, enum svg_mark mark, double x, double y, const char *style);

/* One line through all that comes until svg_path_end(). */
void svg_path_begin(struct svg *s, const char *style);
void svg_path_to(struct svg *s, double x, double y);
void svg_path_end(struct svg *s);

/* All that comes until svg_group_end() says @what when pointed at. */
void svg_group(struct svg *s, const char *what);
void svg_group_end(struct svg *s);

#endif
