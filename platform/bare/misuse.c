// SPDX-License-Identifier: BSD-2-Clause
/* What the platform says: its log, and the rules that were broken. Decides none. */
#include "platform/bare/internal.h"

/* One line; what doesn't fit is left out. */
struct line {
	char text[128];
	size_t len;
};

static void put(struct line *line, char c)
{
	if (line->len + 1 < sizeof(line->text))
		line->text[line->len++] = c;
}

static void put_number(struct line *line, unsigned long v, unsigned int base)
{
	char digits[20];
	size_t n = 0;

	do {
		digits[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	while (n)
		put(line, digits[--n]);
}

/* The caller's va_list by reference, so that its position survives the call. */
struct args {
	va_list list;
};

/* @p is behind a '%': %lu and %#lx, nothing else. Returns its last character. */
static const char *put_arg(struct line *line, const char *p, struct args *args)
{
	if (*p == '#') {
		put(line, '0');
		put(line, 'x');
		p++;
	}
	p++;
	put_number(line, va_arg(args->list, unsigned long), *p == 'x' ? 16 : 10);
	return p;
}

void bare_log(void *ctx, enum tpt_log_level level, const char *text)
{
	const struct tpt_bare *bare = ctx;

	if (bare->hooks.log)
		bare->hooks.log(bare->hooks_ctx, level, text);
}

void bare_misuse(struct tpt_bare *bare, const char *format, ...)
{
	struct line line = {.len = 0};
	struct args args;

	va_start(args.list, format);
	for (const char *p = format; *p; p++) {
		if (*p == '%')
			p = put_arg(&line, p + 1, &args);
		else
			put(&line, *p);
	}
	va_end(args.list);
	bare_count(&bare->misuses, 1);
	bare_log(bare, TPT_LOG_ERROR, line.text);
}
