// SPDX-License-Identifier: BSD-2-Clause
/* COM2: the hypervisor's voice. The guest has COM1. */
#include "hypervisor/abi.h"
#include "hypervisor/hv.h"

#define COM2	    0x2f8
#define COM_DIVISOR 1 /* 115200 */
#define COM_IDLE    (1u << 5)

static _Atomic uint32_t voice;

void console_init(void)
{
	outb(COM2 + 1, 0);
	outb(COM2 + 3, 0x80); /* the divisor comes */
	outb(COM2, COM_DIVISOR);
	outb(COM2 + 1, 0);
	outb(COM2 + 3, 0x03); /* 8 bits */
	outb(COM2 + 2, 0x07); /* FIFOs */
}

static void put(char c)
{
	while (!(inb(COM2 + 5) & COM_IDLE))
		cpu_pause();
	outb(COM2, (uint8_t)c);
}

static void put_number(uint64_t value, unsigned int base, unsigned int width, char fill)
{
	char text[24];
	unsigned int n = 0;

	do {
		text[n++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	for (unsigned int i = n; i < width; i++)
		put(fill);
	while (n)
		put(text[--n]);
}

/* Behind the '%': the value that follows, as it says. */
static const char *put_value(const char *f, va_list *args)
{
	char fill = *f == '0' ? '0' : ' ';
	unsigned int width = (unsigned int)str_number(f, &f);
	bool wide = false;
	uint64_t value;

	for (; *f == 'l' || *f == 'z'; f++)
		wide = true;
	switch (*f) {
	case 's':
		for (const char *s = va_arg(*args, const char *); *s; s++)
			put(*s);
		break;
	case 'c':
		put((char)va_arg(*args, int));
		break;
	case 'd': {
		int64_t n = wide ? va_arg(*args, int64_t) : va_arg(*args, int);

		if (n < 0)
			put('-');
		put_number(n < 0 ? -(uint64_t)n : (uint64_t)n, 10, width, fill);
		break;
	}
	case 'u':
	case 'x':
		value = wide ? va_arg(*args, uint64_t) : va_arg(*args, unsigned int);
		put_number(value, *f == 'x' ? 16 : 10, width, fill);
		break;
	default:
		put(*f);
	}
	return f + 1;
}

static void put_all(const char *f, va_list *args)
{
	while (*f) {
		if (*f == '%')
			f = put_value(f + 1, args);
		else
			put(*f++);
	}
	put('\n');
}

void say(const char *format, ...)
{
	va_list args;

	while (atomic_exchange_explicit(&voice, 1, memory_order_acquire))
		cpu_pause();
	va_start(args, format);
	put_all(format, &args);
	va_end(args);
	atomic_store_explicit(&voice, 0, memory_order_release);
}

/* Whoever spoke may be what is broken: no lock. */
void panic(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	put_all(format, &args);
	va_end(args);
	va_start(args, format);
	for (const char *s = "result: bad: "; *s; s++)
		put(*s);
	put_all(format, &args);
	va_end(args);
	outb(HV_PORT_EXIT, BAD_STATUS);
	for (;;)
		cpu_halt();
}
