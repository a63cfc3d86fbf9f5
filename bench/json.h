/* SPDX-License-Identifier: BSD-2-Clause */
/* Reads JSON into a tree: enough for what the bench writes, strict about all of it. Knows nothing
 * of what it says. */
#ifndef BENCH_JSON_H
#define BENCH_JSON_H

#include <stdbool.h>

enum json_kind { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_TEXT, JSON_LIST, JSON_OBJECT };

struct json {
	enum json_kind kind;
	char *name;    /* in an object; else NULL */
	char *text;    /* JSON_TEXT */
	double number; /* JSON_NUMBER; JSON_BOOL: 0 or 1 */
	struct json *child, *next;
};

/* The caller frees it. NULL: *why says what is wrong with @text, *at where; or there is no memory.
 */
struct json *json_parse(const char *text, const char **why, const char **at);
void json_free(struct json *j);

/* What @object has under @name, or NULL. @object may be NULL, or no object. */
const struct json *json_get(const struct json *object, const char *name);
/* The same as a number; -1: there is none. */
double json_number(const struct json *object, const char *name);
/* The same as a text; "": there is none. Lives as long as the tree. */
const char *json_text(const struct json *object, const char *name);

#endif
