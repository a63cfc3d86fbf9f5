// SPDX-License-Identifier: BSD-2-Clause
/* The reader of JSON (RFC 8259). Never looks at what it read. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "bench/json.h"

/* What the bench writes is four deep. */
#define MAX_DEPTH 16

struct reader {
	const char *at, *why;
	unsigned int depth;
};

static struct json *read_value(struct reader *r);

static void *fail(struct reader *r, const char *why)
{
	if (!r->why)
		r->why = why;
	return NULL;
}

static char skip_blanks(struct reader *r)
{
	r->at += strspn(r->at, " \t\r\n");
	return *r->at;
}

static bool take(struct reader *r, char c)
{
	if (skip_blanks(r) != c)
		return false;
	r->at++;
	return true;
}

/* What an escape stands for, or 0. \u is for what ASCII has: nobody here writes more. */
static char unescape(struct reader *r)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *found = *r->at ? strchr(from, *r->at) : NULL;
	unsigned int value = 0;

	if (found) {
		r->at++;
		return to[found - from];
	}
	if (*r->at++ != 'u')
		return 0;
	for (int i = 0; i < 4; i++, r->at++) {
		if (!isxdigit((unsigned char)*r->at))
			return 0;
		value = value * 16 + (unsigned int)(isdigit((unsigned char)*r->at)
							    ? *r->at - '0'
							    : (*r->at | 32) - 'a' + 10);
	}
	return value < 128 ? (char)value : 0;
}

static char *read_text(struct reader *r)
{
	char *text, *to;

	if (!take(r, '"'))
		return fail(r, "no string");
	text = to = calloc(strlen(r->at) + 1, 1);
	if (!text)
		return fail(r, "no memory");
	while (*r->at != '"') {
		char c = *r->at;

		if ((unsigned char)c >= ' ')
			r->at++;
		if (c == '\\')
			c = unescape(r);
		if ((unsigned char)c < ' ' && c != '\n' && c != '\t') {
			free(text);
			return fail(r, "a string that doesn't end, or has what none may have");
		}
		*to++ = c;
	}
	r->at++;
	*to = 0;
	return text;
}

static bool read_members(struct reader *r, struct json *j, char end)
{
	struct json **last = &j->child;

	if (take(r, end))
		return true;
	do {
		char *name = j->kind == JSON_OBJECT ? read_text(r) : NULL;

		if (j->kind == JSON_OBJECT && (!name || !take(r, ':'))) {
			free(name);
			return fail(r, "no \"name\": in an object");
		}
		*last = read_value(r);
		if (!*last) {
			free(name);
			return false;
		}
		(*last)->name = name;
		last = &(*last)->next;
	} while (take(r, ','));
	return take(r, end) || fail(r, "neither a comma nor an end");
}

/* strtod() reads more than JSON has: hexadecimal, names, a leading zero or plus. */
static bool read_number(struct reader *r, struct json *j)
{
	const char *digits = r->at + (*r->at == '-');
	char *end;

	j->kind = JSON_NUMBER;
	if (!isdigit((unsigned char)*digits) ||
	    (*digits == '0' && isalnum((unsigned char)digits[1])))
		return fail(r, "no value");
	j->number = strtod(r->at, &end);
	r->at = end;
	return true;
}

static bool read_word(struct reader *r, struct json *j)
{
	static const struct {
		const char *word;
		enum json_kind kind;
	} words[] = {{"null", JSON_NULL}, {"true", JSON_BOOL}, {"false", JSON_BOOL}};

	for (unsigned int i = 0; i < 3; i++) {
		size_t len = strlen(words[i].word);

		if (strncmp(r->at, words[i].word, len) != 0)
			continue;
		r->at += len;
		j->kind = words[i].kind;
		j->number = i == 1;
		return true;
	}
	return read_number(r, j);
}

static bool read_into(struct reader *r, struct json *j)
{
	switch (skip_blanks(r)) {
	case '{':
		r->at++;
		j->kind = JSON_OBJECT;
		return read_members(r, j, '}');
	case '[':
		r->at++;
		j->kind = JSON_LIST;
		return read_members(r, j, ']');
	case '"':
		j->kind = JSON_TEXT;
		j->text = read_text(r);
		return j->text;
	default:
		return read_word(r, j);
	}
}

static struct json *read_value(struct reader *r)
{
	struct json *j = r->depth < MAX_DEPTH ? calloc(1, sizeof(*j)) : NULL;

	if (!j)
		return fail(r, r->depth < MAX_DEPTH ? "no memory" : "too deep");
	r->depth++;
	if (!read_into(r, j)) {
		json_free(j);
		j = NULL;
	}
	r->depth--;
	return j;
}

struct json *json_parse(const char *text, const char **why, const char **at)
{
	struct reader r = {.at = text};
	struct json *j = read_value(&r);

	if (j && skip_blanks(&r)) {
		json_free(j);
		j = fail(&r, "more than one value");
	}
	*why = r.why;
	*at = r.at;
	return j;
}

/* As deep as reading was. */
void json_free(struct json *j)
{
	while (j) {
		struct json *next = j->next;

		json_free(j->child);
		free(j->name);
		free(j->text);
		free(j);
		j = next;
	}
}

const struct json *json_get(const struct json *object, const char *name)
{
	const struct json *j = object && object->kind == JSON_OBJECT ? object->child : NULL;

	while (j && strcmp(j->name, name) != 0)
		j = j->next;
	return j;
}

double json_number(const struct json *object, const char *name)
{
	const struct json *j = json_get(object, name);

	return j && j->kind == JSON_NUMBER ? j->number : -1;
}

const char *json_text(const struct json *object, const char *name)
{
	const struct json *j = json_get(object, name);

	return j && j->kind == JSON_TEXT ? j->text : "";
}
