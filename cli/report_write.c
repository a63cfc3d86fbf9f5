// SPDX-License-Identifier: BSD-2-Clause
/*
 * Puts what was collected into the page and the page into a file. Every text is escaped here, and
 * only here; nothing in the file refers to anything outside of it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/report_internal.h"

/* ---- escaping ------------------------------------------------------------------------------- */

static void put_html(struct report_bytes *b, const char *text)
{
	for (; *text; text++) {
		switch (*text) {
		case '&':
			bytes_text(b, "&amp;");
			break;
		case '<':
			bytes_text(b, "&lt;");
			break;
		case '>':
			bytes_text(b, "&gt;");
			break;
		case '"':
			bytes_text(b, "&quot;");
			break;
		case '\'':
			bytes_text(b, "&#39;");
			break;
		default:
			bytes_add(b, text, 1);
		}
	}
}

/* JSON that can stand in a script element: nothing in it can end or open an element. */
static void put_string(struct report_bytes *b, const char *text)
{
	bytes_u8(b, '"');
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c < 0x20 || c == 0x7f || strchr("\"\\<>&'", c))
			bytes_format(b, "\\u%04x", c);
		else
			bytes_add(b, text, 1);
	}
	bytes_u8(b, '"');
}

static void put_base64(struct report_bytes *b, const uint8_t *data, size_t len)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < len; i += 3) {
		size_t n = len - i < 3 ? len - i : 3;
		uint32_t v = (uint32_t)data[i] << 16;
		char four[4];

		if (n > 1)
			v |= (uint32_t)data[i + 1] << 8;
		if (n > 2)
			v |= data[i + 2];
		four[0] = digits[v >> 18];
		four[1] = digits[v >> 12 & 63];
		four[2] = n > 1 ? digits[v >> 6 & 63] : '=';
		four[3] = n > 2 ? digits[v & 63] : '=';
		bytes_add(b, four, sizeof(four));
	}
}

/* ---- what the page is told ------------------------------------------------------------------ */

static void put_key(struct report_bytes *b, const char *key)
{
	bytes_format(b, ",\"%s\":", key);
}

static bool put_fields(struct report *r, struct report_bytes *b, const struct tpt_word *word)
{
	bytes_text(b, "[");
	for (uint32_t i = 0; i < word->nr_fields; i++) {
		const struct tpt_word_field *f = &word->field[i];
		uint32_t name, meaning, source;

		if (!report_intern(r, f->name, &name) || !report_intern(r, f->meaning, &meaning) ||
		    !report_intern(r, f->source, &source))
			return false;
		bytes_format(b, "%s[%u,%u,%u,%u,%u]", i ? "," : "", f->high, f->low, name, meaning,
			     source);
	}
	bytes_text(b, "]");
	return true;
}

/* More than this many kinds of words is no trace of anything; the rest stays unexplained. */
#define MAX_EXPLAINED 2048

/* Explanations come from the one decoder there is; the page only fills in values. */
static bool put_patterns(struct report *r, struct report_bytes *b)
{
	bytes_text(b, "[");
	for (uint32_t i = 0; i < r->nr_patterns; i++) {
		const struct report_pattern *p = &r->patterns[i];
		struct tpt_word word;
		uint32_t kind;

		tpt_word_decode(p->word, p->format, &word);
		if (!report_intern(r, word.kind, &kind))
			return false;
		bytes_format(b, "%s[\"%llx\",%u,%u,%u,%u,", i ? ",\n" : "",
			     (unsigned long long)p->flags, p->format, p->state, p->with_address,
			     kind);
		if (i >= MAX_EXPLAINED)
			word.nr_fields = 0;
		if (!put_fields(r, b, &word))
			return false;
		bytes_text(b, "]");
	}
	bytes_text(b, "]");
	return true;
}

static void put_regions(const struct report *r, struct report_bytes *b)
{
	bytes_text(b, "[");
	for (uint32_t i = 0; i < r->nr_regions; i++) {
		const struct report_range *region = &r->regions[i];

		bytes_format(b, "%s[%llu,%llu,%u,", i ? "," : "",
			     (unsigned long long)region->range.start,
			     (unsigned long long)region->range.end, region->readonly);
		put_string(b, region->name);
		bytes_text(b, "]");
	}
	bytes_text(b, "]");
}

static void put_counters(const struct report *r, struct report_bytes *b)
{
	bytes_text(b, "[");
	for (uint32_t i = 0; i < r->nr_counters; i++) {
		const struct report_counter *c = &r->counters[i];

		bytes_text(b, i ? ",[" : "[");
		put_string(b, c->group);
		bytes_text(b, ",");
		put_string(b, c->name);
		bytes_format(b, ",%llu]", (unsigned long long)c->value);
	}
	bytes_text(b, "]");
}

static void put_strings(struct report_bytes *b, char *const *strings, uint32_t nr)
{
	bytes_text(b, "[");
	for (uint32_t i = 0; i < nr; i++) {
		bytes_text(b, i ? ",\n" : "");
		put_string(b, strings[i]);
	}
	bytes_text(b, "]");
}

static bool put_meta(struct report *r, struct report_bytes *b)
{
	static const char *const vms[] = {"npt", "ept", "td"};

	bytes_format(b, "{\"vm\":\"%s\"", vms[r->vm]);
	put_key(b, "trace");
	put_string(b, r->trace);
	put_key(b, "version");
	put_string(b, r->version);
	put_key(b, "timeNote");
	put_string(b, r->time_note);
	bytes_format(b, ",\"faults\":%u,\"events\":%u,\"changes\":%u", r->nr_faults, r->nr_events,
		     r->nr_changes);
	bytes_format(b, ",\"lost\":[%llu,%llu,%u]", (unsigned long long)r->lost_acts,
		     (unsigned long long)r->lost_changes, r->full_line);
	put_key(b, "regions");
	put_regions(r, b);
	put_key(b, "counters");
	put_counters(r, b);
	put_key(b, "notes");
	put_strings(b, r->notes, r->nr_notes);
	put_key(b, "patterns");
	if (!put_patterns(r, b))
		return false;
	put_key(b, "strings");
	put_strings(b, r->strings, r->nr_strings);
	bytes_text(b, "}");
	return !b->failed;
}

/* ---- the page ------------------------------------------------------------------------------- */

/* Puts in what @@name@@ stands for; false: memory ran out. */
static bool put_part(struct report *r, struct report_bytes *b, const char *name, size_t len)
{
	if (len == 5 && !memcmp(name, "title", 5))
		put_html(b, r->trace);
	else if (len == 3 && !memcmp(name, "css", 3))
		bytes_add(b, report_page_css, report_page_css_size);
	else if (len == 6 && !memcmp(name, "script", 6))
		bytes_add(b, report_page_js, report_page_js_size);
	else if (len == 4 && !memcmp(name, "meta", 4))
		return put_meta(r, b);
	else if (len == 6 && !memcmp(name, "stream", 6))
		put_base64(b, r->stream.data, r->stream.len);
	return !b->failed;
}

static bool put_page(struct report *r, struct report_bytes *b)
{
	const char *at = report_page_html, *end = report_page_html + report_page_html_size;

	while (at < end) {
		const char *open = memmem(at, (size_t)(end - at), "@@", 2);
		const char *close =
			open ? memmem(open + 2, (size_t)(end - open - 2), "@@", 2) : NULL;

		if (!close) {
			bytes_add(b, at, (size_t)(end - at));
			break;
		}
		bytes_add(b, at, (size_t)(open - at));
		if (!put_part(r, b, open + 2, (size_t)(close - open - 2)))
			return false;
		at = close + 2;
	}
	return !b->failed;
}

/* ---- the file ------------------------------------------------------------------------------- */

static int write_whole(const char *path, const struct report_bytes *b)
{
	FILE *f = fopen(path, "wb");
	int err = 0;

	if (!f)
		return -errno;
	if (fwrite(b->data, 1, b->len, f) != b->len || fflush(f))
		err = errno ? -errno : -EIO;
	if (fclose(f) && !err)
		err = -errno;
	return err;
}

/* By way of a new file beside @path, so that a full disk leaves the old report as it was. */
static int write_beside(const char *path, const struct report_bytes *b)
{
	size_t len = strlen(path) + 16;
	char *beside = malloc(len);
	int err;

	if (!beside)
		return -ENOMEM;
	snprintf(beside, len, "%s.%ld.new", path, (long)getpid());
	err = write_whole(beside, b);
	if (!err && rename(beside, path))
		err = -errno;
	if (err)
		unlink(beside);
	free(beside);
	return err;
}

static int write_file(const char *path, const struct report_bytes *b)
{
	struct stat st;

	/* A pipe or a terminal is written to, not replaced; a link's target is what is meant. */
	if (!lstat(path, &st) && !S_ISREG(st.st_mode))
		return write_whole(path, b);
	return write_beside(path, b);
}

int report_write(struct report *r, const char *path, char err[REPORT_ERR_LEN])
{
	struct report_bytes page = {0};
	int ret = r->error;

	if (!ret && r->acts[0].nr)
		ret = report_event(r, &(struct report_event){.kind = REPORT_EVENT_OTHER,
							     .ours = true,
							     .line = (uint32_t)r->last_line,
							     .time_us = (uint64_t)r->last_time,
							     .text = "after the last act"});
	if (!ret && !put_page(r, &page))
		ret = -ENOMEM;
	if (ret)
		snprintf(err, REPORT_ERR_LEN, "%s: no memory for the report", path);
	if (!ret) {
		ret = write_file(path, &page);
		if (ret)
			snprintf(err, REPORT_ERR_LEN, "%s: can't write the report: %s", path,
				 strerror(-ret));
	}
	free(page.data);
	return ret;
}
