// SPDX-License-Identifier: BSD-2-Clause
/* Text without a libc: a small printf. Writes into a caller's buffer and nowhere else. */
#include "mmu/base/base.h"

struct out {
	char *text;
	size_t size, len;
};

struct spec {
	bool zero, alt, minus;
	unsigned int width, longs;
};

static void put(struct out *o, char c)
{
	if (o->len + 1 < o->size)
		o->text[o->len] = c;
	o->len++;
}

static void put_padded(struct out *o, const char *s, size_t len, const struct spec *f)
{
	size_t pad = f->width > len ? f->width - len : 0;

	for (; !f->minus && pad; pad--)
		put(o, ' ');
	for (size_t i = 0; i < len; i++)
		put(o, s[i]);
	for (; pad; pad--)
		put(o, ' ');
}

static void put_number(struct out *o, uint64_t v, unsigned int base, bool negative, struct spec *f)
{
	char digits[24];
	size_t n = sizeof(digits);

	do {
		digits[--n] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	while (f->zero && sizeof(digits) - n + negative + 2 * f->alt < f->width && n > 3)
		digits[--n] = '0';
	if (f->alt && base == 16) {
		digits[--n] = 'x';
		digits[--n] = '0';
	}
	if (negative)
		digits[--n] = '-';
	put_padded(o, digits + n, sizeof(digits) - n, f);
}

static const char *parse_spec(const char *p, struct spec *f)
{
	*f = (struct spec){0};
	for (;; p++) {
		if (*p == '0')
			f->zero = true;
		else if (*p == '#')
			f->alt = true;
		else if (*p == '-')
			f->minus = true;
		else
			break;
	}
	for (; *p >= '0' && *p <= '9'; p++)
		f->width = 10 * f->width + (unsigned int)(*p - '0');
	for (; *p == 'l' || *p == 'z'; p++)
		f->longs++;
	return p;
}

/* The caller's va_list by reference, so that its position survives the call. */
struct args {
	va_list list;
};

static void put_arg(struct out *o, char conversion, struct spec *f, struct args *args)
{
	char c;
	const char *s;
	size_t len = 0;
	int64_t v;

	switch (conversion) {
	case 'd':
		v = f->longs ? va_arg(args->list, long) : va_arg(args->list, int);
		put_number(o, v < 0 ? 0 - (uint64_t)v : (uint64_t)v, 10, v < 0, f);
		break;
	case 'u':
	case 'x':
		put_number(o,
			   f->longs ? va_arg(args->list, unsigned long)
				    : va_arg(args->list, unsigned int),
			   conversion == 'x' ? 16 : 10, false, f);
		break;
	case 'c':
		c = (char)va_arg(args->list, int);
		put_padded(o, &c, 1, f);
		break;
	case 's':
		s = va_arg(args->list, const char *);
		while (s[len])
			len++;
		put_padded(o, s, len, f);
		break;
	default:
		put(o, conversion);
	}
}

size_t text_vformat(char *text, size_t size, const char *format, va_list list)
{
	struct out o = {.text = text, .size = size};
	struct args args;
	struct spec f;

	va_copy(args.list, list);
	for (const char *p = format; *p; p++) {
		if (*p != '%') {
			put(&o, *p);
			continue;
		}
		p = parse_spec(p + 1, &f);
		if (!*p)
			break;
		put_arg(&o, *p, &f, &args);
	}
	va_end(args.list);
	if (size)
		text[o.len < size ? o.len : size - 1] = 0;
	return o.len;
}

size_t text_format(char *text, size_t size, const char *format, ...)
{
	va_list list;
	size_t len;

	va_start(list, format);
	len = text_vformat(text, size, format, list);
	va_end(list);
	return len;
}
