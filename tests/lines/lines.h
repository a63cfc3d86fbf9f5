/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which cache lines a thread writes and reads while it is recorded. Judges nothing.
 *
 * Sources compiled with -fsanitize=thread call a function at each store, load and atomic; lines.c
 * is those functions, so nothing here is ThreadSanitizer's. The C library is not compiled so: of
 * what it does only memcpy, memmove and memset are seen, by the linker's --wrap.
 */
#ifndef TESTS_LINES_LINES_H
#define TESTS_LINES_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINE_BYTES 64u

/* Most lines of one recording; a power of two. */
#define LINES_MAX 1024u

struct line {
	uintptr_t number; /* address / LINE_BYTES */
	uint32_t writes, reads;
	const void *writer; /* code address behind the first write */
};

/* A recording: a hash table by number, where 0 is an empty place. */
struct lines {
	uintptr_t local, local_end; /* where the thread's own thread-local variables lie */
	uint32_t nr;
	struct line line[LINES_MAX];
};

/* The calling thread's stack below @top is its own and not recorded; its thread-local variables
 * are. Before its first recording. */
void lines_thread(const void *top);

/* Records what the calling thread does into @lines, which is emptied, until lines_end(). */
void lines_begin(struct lines *lines);
void lines_end(void);

/* NULL: neither written nor read. */
const struct line *lines_find(const struct lines *lines, uintptr_t number);

/* Function, file and line of a line's writer, on standard output. */
void lines_print_code(const void *code);

#endif
