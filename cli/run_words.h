/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One line of a scenario's text while it is read: its words one after the other, and what they say
 * as values. Functions that return int: 0, or -EINVAL with a message that names file, line, value
 * and rule.
 */
#ifndef TRIPTYCH_CLI_RUN_WORDS_H
#define TRIPTYCH_CLI_RUN_WORDS_H

#include "cli/run.h"

#define MAX_WORDS 32

struct parser {
	struct scenario *s;
	const char *name, *dir; /* of the file */
	uint32_t line;
	char *words[MAX_WORDS];
	unsigned int nr, at;
	bool has_vm;
	char *err;
};

int word_bad(struct parser *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Splits @text in place: the line's words. Quotes keep blanks; '#' begins a comment. */
int word_split(struct parser *p, char *text);
/* The next word, or NULL. */
const char *word_peek(const struct parser *p);
/* Is it the next word? Then it is taken. */
bool word_take(struct parser *p, const char *word);
/* "key=value": the value, if the next word has that key; then it is taken. */
const char *word_key(struct parser *p, const char *key);
/* The next word must be there; @what says what it would be. */
int word_next(struct parser *p, const char *what, const char **word);
/* No word may be left. */
int word_end(struct parser *p);

int word_number(struct parser *p, const char *what, const char *text, uint64_t max, uint64_t *n);
int word_number32(struct parser *p, const char *what, const char *text, uint32_t max, uint32_t *n);
/* Bytes, whole pages: a number, or one with K, M, G or T after it. */
int word_bytes(struct parser *p, const char *what, const char *text, uint64_t *n);
/* Next word: START+SIZE. */
int word_area(struct parser *p, struct run_area *a);
int word_level(struct parser *p, const char *what, const char *text, enum tpt_level *l);
/* Next word: N or N-M. */
int word_span(struct parser *p, const char *what, uint32_t max, uint32_t *first, uint32_t *last);
/* Next word, of less than @size characters. */
int word_text(struct parser *p, const char *what, char *to, size_t size);
/* key="...", which must be there. */
int word_key_text(struct parser *p, const char *key, char *to, size_t size);

#define WORD_ROOM(p, nr)                                                                \
	do {                                                                            \
		if ((nr) == RUN_MAX)                                                    \
			return word_bad(p, "more than %d lines of this kind", RUN_MAX); \
	} while (0)

/* ---- the statements of one kind (run_parse_events.c) ---- */

int parse_at(struct parser *p);
int parse_every(struct parser *p);
int parse_finally(struct parser *p);
/* The rest of a line of a call that the scenario makes by itself (run_parse_calls.c). */
int parse_name_event(struct parser *p, struct run_event *e);
int parse_seamcall_event(struct parser *p, struct run_event *e);
int parse_tdcall_event(struct parser *p, struct run_event *e);
int parse_touch_event(struct parser *p, struct run_event *e);

#endif
