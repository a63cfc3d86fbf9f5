// SPDX-License-Identifier: BSD-2-Clause
/* Words and values of one line of a scenario. Knows no statement. */
#include "cli/run_words.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "cli/cli.h"

int word_bad(struct parser *p, const char *format, ...)
{
	int len = snprintf(p->err, INPUT_ERR_LEN, "%s line %u: ", p->name, p->line);
	va_list args;

	va_start(args, format);
	if (len > 0 && len < INPUT_ERR_LEN)
		vsnprintf(p->err + len, INPUT_ERR_LEN - (size_t)len, format, args);
	va_end(args);
	return -EINVAL;
}

/* ---- words ---- */

const char *word_peek(const struct parser *p)
{
	return p->at < p->nr ? p->words[p->at] : NULL;
}

bool word_take(struct parser *p, const char *word)
{
	if (!word_peek(p) || strcmp(word_peek(p), word) != 0)
		return false;
	p->at++;
	return true;
}

/* "key=value": the value, if the next word has that key. */
const char *word_key(struct parser *p, const char *key)
{
	size_t n = strlen(key);

	if (!word_peek(p) || strncmp(word_peek(p), key, n) != 0 || word_peek(p)[n] != '=')
		return NULL;
	return p->words[p->at++] + n + 1;
}

int word_next(struct parser *p, const char *what, const char **word)
{
	*word = word_peek(p);
	if (!*word)
		return word_bad(p, "%s is missing", what);
	p->at++;
	return 0;
}

int word_end(struct parser *p)
{
	return word_peek(p)
		       ? word_bad(p, "\"%s\": unknown here, or one word too many", word_peek(p))
		       : 0;
}

/*
 * Splits a line into words in place. Quotes keep blanks, after a '=' too; '#' outside of them
 * begins a comment.
 */
int word_split(struct parser *p, char *text)
{
	char *from = text;

	p->nr = p->at = 0;
	for (;;) {
		char *to;
		bool quoted = false;

		while (isspace((unsigned char)*from))
			from++;
		if (!*from || *from == '#')
			return 0;
		if (p->nr == MAX_WORDS)
			return word_bad(p, "more than %d words", MAX_WORDS);
		p->words[p->nr++] = to = from;
		for (; *from && (quoted || !isspace((unsigned char)*from)); from++) {
			if (*from == '"')
				quoted = !quoted;
			else
				*to++ = *from;
		}
		if (quoted)
			return word_bad(p, "a quote is not closed");
		if (*from)
			from++;
		*to = 0;
	}
}

/* ---- values ---- */

int word_number(struct parser *p, const char *what, const char *text, uint64_t max, uint64_t *n)
{
	if (!cli_parse_u64(text, false, n))
		return word_bad(p, "%s \"%s\" is not a number", what, text);
	if (*n > max)
		return word_bad(p, "%s %s: at most %lu", what, text, max);
	return 0;
}

int word_number32(struct parser *p, const char *what, const char *text, uint32_t max, uint32_t *n)
{
	uint64_t wide = 0;
	int err = word_number(p, what, text, max, &wide);

	*n = (uint32_t)wide;
	return err;
}

/* Bytes: a number, or one with K, M, G or T after it. */
int word_bytes(struct parser *p, const char *what, const char *text, uint64_t *n)
{
	static const char units[] = "KMGT";
	size_t len = strlen(text);
	const char *unit = len ? strchr(units, text[len - 1]) : NULL;
	unsigned int shift = unit ? 10 * (unsigned int)(unit - units + 1) : 0;
	char digits[32];

	if (!len || len >= sizeof(digits))
		return word_bad(p, "%s \"%s\" is not a number of bytes", what, text);
	memcpy(digits, text, len + 1);
	if (unit)
		digits[len - 1] = 0;
	if (!cli_parse_u64(digits, false, n))
		return word_bad(p, "%s \"%s\" is not a number of bytes", what, text);
	if (*n >> (52 - shift))
		return word_bad(p, "%s %s lies beyond 52 address bits", what, text);
	*n <<= shift;
	if (*n % RUN_PAGE)
		return word_bad(p, "%s %s: must be whole pages of 4 KiB", what, text);
	return 0;
}

/* START+SIZE */
int word_area(struct parser *p, struct run_area *a)
{
	char start[64], *plus;
	const char *word;
	int err = word_next(p, "an area, START+SIZE,", &word);

	if (err)
		return err;
	snprintf(start, sizeof(start), "%s", word);
	plus = strchr(start, '+');
	if (!plus)
		return word_bad(p, "area \"%s\": must be START+SIZE", word);
	*plus = 0;
	err = word_bytes(p, "start", start, &a->start);
	if (!err)
		err = word_bytes(p, "size", plus + 1, &a->size);
	if (!err && !a->size)
		err = word_bad(p, "area \"%s\" is empty", word);
	if (!err && (a->start + a->size) >> 52)
		err = word_bad(p, "area \"%s\" ends beyond 52 address bits", word);
	return err;
}

int word_level(struct parser *p, const char *what, const char *text, enum tpt_level *l)
{
	static const char *const names[] = {"4k", "2m", "1g"};

	for (unsigned int i = 0; i < 3; i++) {
		if (!strcmp(text, names[i])) {
			*l = (enum tpt_level)(i + 1);
			return 0;
		}
	}
	return word_bad(p, "%s \"%s\": must be 4k, 2m or 1g", what, text);
}

/* N or N-M */
int word_span(struct parser *p, const char *what, uint32_t max, uint32_t *first, uint32_t *last)
{
	char text[32], *dash;
	const char *word;
	int err = word_next(p, what, &word);

	if (err)
		return err;
	snprintf(text, sizeof(text), "%s", word);
	dash = strchr(text, '-');
	if (dash)
		*dash = 0;
	err = word_number32(p, what, text, max, first);
	*last = *first;
	if (!err && dash)
		err = word_number32(p, what, dash + 1, max, last);
	if (!err && *last < *first)
		err = word_bad(p, "%s %s: the last comes before the first", what, word);
	return err;
}

int word_text(struct parser *p, const char *what, char *to, size_t size)
{
	const char *word;
	int err = word_next(p, what, &word);

	if (!err && strlen(word) >= size)
		err = word_bad(p, "%s is longer than %zu characters", what, size - 1);
	if (!err)
		snprintf(to, size, "%s", word);
	return err;
}

int word_key_text(struct parser *p, const char *key, char *to, size_t size)
{
	const char *value = word_key(p, key);

	if (!value)
		return word_bad(p, "%s=\"...\" is missing", key);
	if (!*value || strlen(value) >= size)
		return word_bad(p, "%s: 1 to %zu characters", key, size - 1);
	snprintf(to, size, "%s", value);
	return 0;
}
