// SPDX-License-Identifier: BSD-2-Clause
/* The writer of SVG, and the one style sheet. Decides no place and no number. */
#include <stdarg.h>

#include "bench/svg.h"

/* The colours are those of the replay's report. */
static const char style_sheet[] =
	"<style>\n"
	"svg { --bg: #ffffff; --ink: #1b2430; --dim: #5b6675; --line: #dfe3e9; --ours: #1f5fbf;\n"
	"  --floor: #5b6675; --kvm: #c2410c; --linux: #0f8a61; --peer: #a9b8cc; }\n"
	"@media (prefers-color-scheme: dark) { svg { --bg: #12161c; --ink: #e3e8ef; --dim: #98a4b3;\n"
	"  --line: #2a323d; --ours: #7fb2ff; --floor: #b4bfcc; --kvm: #ff9b5c; --linux: #55d3a5;\n"
	"  --peer: #4c5b70; } }\n"
	"text { font: 12px 'DejaVu Sans', system-ui, sans-serif; fill: var(--ink); }\n"
	"text.title { font-size: 17px; font-weight: 600; }\n"
	"text.head { font-size: 13px; font-weight: 600; }\n"
	"text.note { fill: var(--dim); }\n"
	"text.mono { font-family: 'DejaVu Sans Mono', ui-monospace, monospace; }\n"
	"text.strong { font-weight: 700; }\n"
	".grid { stroke: var(--line); } .axis { stroke: var(--dim); }\n"
	".reach { stroke: var(--line); stroke-width: 3; }\n"
	".goal { stroke: var(--kvm); stroke-width: 2; stroke-dasharray: 4 3; }\n"
	".bg { fill: var(--bg); } .band { fill: var(--line); opacity: .35; }\n"
	".ours, .s1 { fill: var(--ours); stroke: var(--ours); }\n"
	".floor { fill: var(--floor); stroke: var(--floor); }\n"
	".kvm, .s2 { fill: var(--kvm); stroke: var(--kvm); }\n"
	".linux, .s3 { fill: var(--linux); stroke: var(--linux); }\n"
	".peer { fill: var(--peer); stroke: var(--peer); }\n"
	".hollow { fill: var(--bg); stroke-width: 1.8; }\n"
	"path.line { fill: none; stroke-width: 2; }\n"
	"rect { stroke: none; } text { stroke: none !important; }\n"
	"</style>\n";

static void put_escaped(struct svg *s, const char *text)
{
	for (; *text; text++)
		switch (*text) {
		case '&':
			fputs("&amp;", s->out);
			break;
		case '<':
			fputs("&lt;", s->out);
			break;
		case '>':
			fputs("&gt;", s->out);
			break;
		default:
			fputc(*text, s->out);
		}
}

bool svg_begin(struct svg *s, const char *path, int width, int height, const char *title)
{
	s->out = fopen(path, "w");
	if (!s->out)
		return false;
	fprintf(s->out,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
		"height=\"%d\" role=\"img\">\n<title>",
		width, height, width, height);
	put_escaped(s, title);
	fprintf(s->out, "</title>\n%s", style_sheet);
	svg_rect(s, 0, 0, width, height, "bg");
	return true;
}

bool svg_end(struct svg *s)
{
	bool good = fputs("</svg>\n", s->out) >= 0 && !ferror(s->out);

	return !fclose(s->out) && good;
}

void svg_text(struct svg *s, double x, double y, const char *anchor, const char *style,
	      const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	fprintf(s->out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" class=\"%s\">", x, y,
		anchor, style);
	put_escaped(s, text);
	fputs("</text>\n", s->out);
}

void svg_rect(struct svg *s, double x, double y, double width, double height, const char *style)
{
	fprintf(s->out,
		"<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" class=\"%s\"/>\n", x, y,
		width, height, style);
}

void svg_line(struct svg *s, double x1, double y1, double x2, double y2, const char *style)
{
	fprintf(s->out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"%s\"/>\n",
		x1, y1, x2, y2, style);
}

void svg_mark(struct svg *s, enum svg_mark mark, double x, double y, const char *style)
{
	switch (mark) {
	case SVG_DOT:
		fprintf(s->out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4.5\" class=\"%s\"/>\n", x, y,
			style);
		return;
	case SVG_BAR:
		svg_rect(s, x - 1.5, y - 7, 3, 14, style);
		return;
	case SVG_SQUARE:
		fprintf(s->out, "<path d=\"M%.1f %.1fh8v8h-8z\" class=\"%s\"/>\n", x - 4, y - 4,
			style);
		return;
	case SVG_DIAMOND:
		fprintf(s->out, "<path d=\"M%.1f %.1fl5 5l-5 5l-5 -5z\" class=\"%s\"/>\n", x, y - 5,
			style);
	}
}

void svg_path_begin(struct svg *s, const char *style)
{
	fprintf(s->out, "<path class=\"line %s\" d=\"", style);
	s->points = 0;
}

void svg_path_to(struct svg *s, double x, double y)
{
	fprintf(s->out, "%c%.1f %.1f", s->points++ ? 'L' : 'M', x, y);
}

void svg_path_end(struct svg *s)
{
	fputs("\"/>\n", s->out);
}

void svg_group(struct svg *s, const char *what)
{
	fputs("<g><title>", s->out);
	put_escaped(s, what);
	fputs("</title>\n", s->out);
}

void svg_group_end(struct svg *s)
{
	fputs("</g>\n", s->out);
}
