// SPDX-License-Identifier: BSD-2-Clause
/*
 * The functions that instrumented code calls, and the recordings that they fill. A function that a
 * compiler wants and that is not here fails the link: no store goes unseen for the want of one.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lines/lines.h"

static _Thread_local struct lines *recording;
/* The thread's stack, and behind it its thread-local variables. */
static _Thread_local uintptr_t stack_low, stack_top, local_end;

void lines_thread(const void *top)
{
	pthread_attr_t attr;
	void *low;
	size_t bytes;

	pthread_getattr_np(pthread_self(), &attr);
	pthread_attr_getstack(&attr, &low, &bytes);
	pthread_attr_destroy(&attr);
	stack_low = (uintptr_t)low;
	stack_top = (uintptr_t)top;
	local_end = stack_low + bytes;
}

void lines_begin(struct lines *lines)
{
	memset(lines, 0, sizeof(*lines));
	lines->local = stack_top;
	lines->local_end = local_end;
	recording = lines;
}

void lines_end(void)
{
	recording = NULL;
}

static struct line *place_of(struct lines *lines, uintptr_t number)
{
	size_t i = number % LINES_MAX;

	while (lines->line[i].number && lines->line[i].number != number)
		i = (i + 1) % LINES_MAX;
	return &lines->line[i];
}

const struct line *lines_find(const struct lines *lines, uintptr_t number)
{
	const struct line *line = place_of((struct lines *)lines, number);

	return line->number ? line : NULL;
}

static struct line *get(uintptr_t number)
{
	struct line *line = place_of(recording, number);

	if (line->number)
		return line;
	/* One place stays empty: it ends every search. */
	if (++recording->nr == LINES_MAX) {
		fprintf(stderr, "more than %u lines in one recording\n", LINES_MAX - 1);
		abort();
	}
	line->number = number;
	return line;
}

static void note(const volatile void *at, size_t bytes, bool write, const void *code)
{
	uintptr_t a = (uintptr_t)at;

	if (!recording || !bytes || (a >= stack_low && a < stack_top))
		return;
	for (uintptr_t n = a / LINE_BYTES; n <= (a + bytes - 1) / LINE_BYTES; n++) {
		struct line *line = get(n);

		if (write && !line->writes++)
			line->writer = code;
		line->reads += !write;
	}
}

void lines_print_code(const void *code)
{
	extern const char __executable_start[];
	char program[256] = "", command[400];

	if (readlink("/proc/self/exe", program, sizeof(program) - 1) <= 0)
		return;
	snprintf(command, sizeof(command), "addr2line -fipe '%s' %#tx", program,
		 (const char *)code - __executable_start - 1);
	if (system(command))
		fprintf(stderr, "not done: %s\n", command);
}

#define CALLER __builtin_return_address(0)

/* ---- plain loads and stores ---- */

#define PLAIN(name, bytes)                      \
	void __tsan_read##name(void *at)        \
	{                                       \
		note(at, bytes, false, CALLER); \
	}                                       \
	void __tsan_write##name(void *at)       \
	{                                       \
		note(at, bytes, true, CALLER);  \
	}

#define UNALIGNED(bytes)                             \
	void __tsan_unaligned_read##bytes(void *at)  \
	{                                            \
		note(at, bytes, false, CALLER);      \
	}                                            \
	void __tsan_unaligned_write##bytes(void *at) \
	{                                            \
		note(at, bytes, true, CALLER);       \
	}

PLAIN(1, 1)
PLAIN(2, 2)
PLAIN(4, 4)
PLAIN(8, 8)
PLAIN(16, 16)
UNALIGNED(2)
UNALIGNED(4)
UNALIGNED(8)
UNALIGNED(16)

void __tsan_read_range(void *at, size_t bytes)
{
	note(at, bytes, false, CALLER);
}

void __tsan_write_range(void *at, size_t bytes)
{
	note(at, bytes, true, CALLER);
}

/* ---- atomics: done here, always in the strongest order, and noted ---- */

#define LOAD_STORE(bits)                                                                        \
	uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t *at, int order) \
	{                                                                                       \
		(void)order;                                                                    \
		note(at, sizeof(*at), false, CALLER);                                           \
		return __atomic_load_n(at, __ATOMIC_SEQ_CST);                                   \
	}                                                                                       \
	void __tsan_atomic##bits##_store(volatile uint##bits##_t *at, uint##bits##_t new_,      \
					 int order)                                             \
	{                                                                                       \
		(void)order;                                                                    \
		note(at, sizeof(*at), true, CALLER);                                            \
		__atomic_store_n(at, new_, __ATOMIC_SEQ_CST);                                   \
	}

#define MODIFY(bits, name, builtin)                                                  \
	uint##bits##_t __tsan_atomic##bits##_##name(volatile uint##bits##_t *at,     \
						    uint##bits##_t value, int order) \
	{                                                                            \
		(void)order;                                                         \
		note(at, sizeof(*at), true, CALLER);                                 \
		return builtin(at, value, __ATOMIC_SEQ_CST);                         \
	}

/* One that fails has the line for itself too: it counts as a write. */
#define COMPARE_EXCHANGE(bits, name)                                                              \
	int __tsan_atomic##bits##_compare_exchange_##name(                                        \
		volatile uint##bits##_t *at, uint##bits##_t *old, uint##bits##_t new_, int order, \
		int order_failed)                                                                 \
	{                                                                                         \
		(void)order;                                                                      \
		(void)order_failed;                                                               \
		note(at, sizeof(*at), true, CALLER);                                              \
		return __atomic_compare_exchange_n(at, old, new_, false, __ATOMIC_SEQ_CST,        \
						   __ATOMIC_SEQ_CST);                             \
	}

/* clang's form of both. */
#define COMPARE_EXCHANGE_VAL(bits)                                                               \
	uint##bits##_t __tsan_atomic##bits##_compare_exchange_val(                               \
		volatile uint##bits##_t *at, uint##bits##_t old, uint##bits##_t new_, int order, \
		int order_failed)                                                                \
	{                                                                                        \
		(void)order;                                                                     \
		(void)order_failed;                                                              \
		note(at, sizeof(*at), true, CALLER);                                             \
		__atomic_compare_exchange_n(at, &old, new_, false, __ATOMIC_SEQ_CST,             \
					    __ATOMIC_SEQ_CST);                                   \
		return old;                                                                      \
	}

#define ATOMICS(bits)                               \
	LOAD_STORE(bits)                            \
	MODIFY(bits, exchange, __atomic_exchange_n) \
	MODIFY(bits, fetch_add, __atomic_fetch_add) \
	MODIFY(bits, fetch_sub, __atomic_fetch_sub) \
	MODIFY(bits, fetch_and, __atomic_fetch_and) \
	MODIFY(bits, fetch_or, __atomic_fetch_or)   \
	COMPARE_EXCHANGE(bits, strong)              \
	COMPARE_EXCHANGE(bits, weak)                \
	COMPARE_EXCHANGE_VAL(bits)

ATOMICS(8)
ATOMICS(32)
ATOMICS(64)

/* ---- what the C library writes ---- */

void *__real_memcpy(void *to, const void *from, size_t bytes);
void *__real_memmove(void *to, const void *from, size_t bytes);
void *__real_memset(void *to, int byte, size_t bytes);

void *__wrap_memcpy(void *to, const void *from, size_t bytes)
{
	note(from, bytes, false, CALLER);
	note(to, bytes, true, CALLER);
	return __real_memcpy(to, from, bytes);
}

void *__wrap_memmove(void *to, const void *from, size_t bytes)
{
	note(from, bytes, false, CALLER);
	note(to, bytes, true, CALLER);
	return __real_memmove(to, from, bytes);
}

void *__wrap_memset(void *to, int byte, size_t bytes)
{
	note(to, bytes, true, CALLER);
	return __real_memset(to, byte, bytes);
}

/* ---- of no interest: calls, and orders that ThreadSanitizer is told of ---- */

void __tsan_init(void)
{
}

void __tsan_func_entry(void *caller)
{
	(void)caller;
}

void __tsan_func_exit(void)
{
}

void __tsan_acquire(void *at)
{
	(void)at;
}

void __tsan_release(void *at)
{
	(void)at;
}
