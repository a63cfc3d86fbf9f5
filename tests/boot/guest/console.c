// SPDX-License-Identifier: BSD-2-Clause
/*
 * Lines of text to the first serial port. No input, no lock: CPU 0 alone prints.
 */
#include <stdarg.h>

#include "tests/boot/guest/guest.h"

#define COM1	      0x3f8
#define LINE_STATUS   (COM1 + 5)
#define TRANSMIT_FREE 0x20

void console_init(void)
{
	out8(COM1 + 1, 0);    /* no interrupts */
	out8(COM1 + 3, 0x80); /* the divisor: 115200 */
	out8(COM1 + 0, 1);
	out8(COM1 + 1, 0);
	out8(COM1 + 3, 3);    /* 8 bits, no parity, one stop bit */
	out8(COM1 + 2, 0xc7); /* FIFOs on and empty */
}

static void put(char c)
{
	while (!(in8(LINE_STATUS) & TRANSMIT_FREE))
		cpu_pause();
	out8(COM1, (uint8_t)c);
}

struct text {
	char *at, *end; /* *end stays 0 */
};

static void add(struct text *text, char c)
{
	if (text->at < text->end)
		*text->at++ = c;
}

static void add_number(struct text *text, uint64_t n, unsigned int base)
{
	char digits[20];
	unsigned int i = 0;

	do
		digits[i++] = "0123456789abcdef"[n % base];
	while (n /= base);
	while (i)
		add(text, digits[--i]);
}

static void add_signed(struct text *text, int64_t n)
{
	if (n < 0)
		add(text, '-');
	add_number(text, n < 0 ? -(uint64_t)n : (uint64_t)n, 10);
}

static void add_string(struct text *text, const char *s)
{
	while (*s)
		add(text, *s++);
}

void print_into(char *buffer, size_t bytes, const char *fmt, va_list args)
{
	struct text text = {buffer, buffer + bytes - 1};

	for (; *fmt; fmt++) {
		bool wide;

		if (*fmt != '%') {
			add(&text, *fmt);
			continue;
		}
		wide = fmt[1] == 'l';
		fmt += 1 + wide;
		switch (*fmt) {
		case 's':
			add_string(&text, va_arg(args, const char *));
			break;
		case 'c':
			add(&text, (char)va_arg(args, int));
			break;
		case 'd':
			add_signed(&text, wide ? va_arg(args, int64_t) : va_arg(args, int));
			break;
		default:
			add_number(&text,
				   wide ? va_arg(args, uint64_t) : va_arg(args, unsigned int),
				   *fmt == 'x' ? 16 : 10);
		}
	}
	*text.at = 0;
}

void print(const char *fmt, ...)
{
	char line[256];
	va_list args;

	va_start(args, fmt);
	print_into(line, sizeof(line), fmt, args);
	va_end(args);
	for (const char *c = line; *c; c++)
		put(*c);
}
