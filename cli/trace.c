// SPDX-License-Identifier: BSD-2-Clause
/* A trace's life: lines in, events kept, everything freed. What a line means is trace_parse.c's,
 * whose doing it was is trace_group.c's. */
#include "cli/trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* KVM's own lines stay under 300 bytes; a longer one is not an event and must not grow the buffer
 * without end. */
#define MAX_LINE     65536
#define READ_SIZE    (1u << 18)
#define REPORT_EVERY 4096

struct reader {
	struct trace *t;
	uint32_t events_room;
	uint32_t bad_room;
	trace_progress_fn progress;
	void *ctx;
	struct input *in;
	/* Bytes of lines not yet taken: buf[0, fill). */
	char *buf;
	size_t fill;
	/* Inside a line too long to hold: skip to its end. */
	bool skipping;
};

static void *grow(void *array, uint32_t used, uint32_t *room, size_t size)
{
	uint32_t want = *room ? *room * 2 : 1024;
	void *p;

	if (used < *room)
		return array;
	if (want < *room)
		return NULL;
	p = realloc(array, (size_t)want * size);
	if (p)
		*room = want;
	return p;
}

static int add_bad(struct reader *r, const char *why)
{
	struct trace *t = r->t;
	void *p = grow(t->bad, t->nr_bad, &r->bad_room, sizeof(*t->bad));

	if (!p)
		return -ENOMEM;
	t->bad = p;
	t->bad[t->nr_bad++] = (struct trace_bad_line){t->lines, why};
	return 0;
}

static int add_event(struct reader *r, const struct trace_event *ev)
{
	struct trace *t = r->t;
	void *p = grow(t->events, t->nr_events, &r->events_room, sizeof(*t->events));

	if (!p)
		return -ENOMEM;
	t->events = p;
	t->events[t->nr_events] = *ev;
	t->events[t->nr_events].line = t->lines;
	t->nr_events++;
	t->counts[ev->kind]++;
	return 0;
}

static int count_other(struct trace *t, const char *name, size_t len)
{
	struct trace_other *o;
	void *p;

	if (len >= sizeof(o->name))
		len = sizeof(o->name) - 1;
	for (o = t->others; o < t->others + t->nr_others; o++) {
		if (!memcmp(o->name, name, len) && !o->name[len]) {
			o->count++;
			return 0;
		}
	}
	p = realloc(t->others, (t->nr_others + 1) * sizeof(*t->others));
	if (!p)
		return -ENOMEM;
	t->others = p;
	o = &t->others[t->nr_others++];
	memset(o, 0, sizeof(*o));
	memcpy(o->name, name, len);
	o->count = 1;
	return 0;
}

static void report(const struct reader *r)
{
	uint64_t size = input_size(r->in);

	if (r->progress)
		r->progress(r->ctx, r->t->lines,
			    size ? (int)(input_consumed(r->in) * 1000 / size) : -1);
}

static int take_line(struct reader *r, const char *line, size_t len)
{
	struct trace_event ev;
	const char *name, *why;
	size_t name_len;

	r->t->lines++;
	if (r->t->lines % REPORT_EVERY == 0)
		report(r);
	switch (trace_parse_line(line, len, &ev, &name, &name_len, &why, &r->t->lost)) {
	case TRACE_LINE_EVENT:
		return add_event(r, &ev);
	case TRACE_LINE_OTHER:
		return count_other(r->t, name, name_len);
	case TRACE_LINE_BAD:
		return add_bad(r, why);
	case TRACE_LINE_HEADER:
		break;
	}
	return 0;
}

/* Takes the whole lines in the buffer and moves what is left to its front. */
static int take_lines(struct reader *r)
{
	char *p = r->buf, *end = r->buf + r->fill, *nl;
	int rc = 0;

	while (!rc && (nl = memchr(p, '\n', (size_t)(end - p)))) {
		if (!r->skipping)
			rc = take_line(r, p, (size_t)(nl - p));
		r->skipping = false;
		p = nl + 1;
	}
	if (rc)
		return rc;
	r->fill = (size_t)(end - p);
	memmove(r->buf, p, r->fill);
	if (r->fill > MAX_LINE) {
		if (!r->skipping) {
			r->t->lines++;
			rc = add_bad(r, "line longer than 65536 bytes");
		}
		r->skipping = true;
		r->fill = 0;
	}
	return rc;
}

/*
 * A last line without a newline may have lost the end of its last number and still look whole, so
 * it is never used: it counts as cut off.
 */
static int take_rest(struct reader *r)
{
	if (!r->fill || r->skipping)
		return 0;
	r->t->lines++;
	return add_bad(r, "cut off: no newline at the end of the input");
}

static int read_all(struct reader *r, char err[INPUT_ERR_LEN])
{
	for (;;) {
		long n = input_read(r->in, r->buf + r->fill, READ_SIZE, err);
		int rc;

		if (n < 0) {
			r->t->cut = n != -ENOMEM;
			rc = take_rest(r);
			return rc ? rc : (int)n;
		}
		if (!n)
			return take_rest(r);
		r->fill += (size_t)n;
		rc = take_lines(r);
		if (rc)
			return rc;
	}
}

int trace_read(struct trace *t, const char *path, trace_progress_fn progress, void *ctx,
	       char err[INPUT_ERR_LEN])
{
	struct reader r = {.t = t, .progress = progress, .ctx = ctx};
	int rc;

	memset(t, 0, sizeof(*t));
	err[0] = '\0';
	rc = input_open(path, &r.in, err);
	if (rc)
		return rc;
	r.buf = malloc(READ_SIZE + MAX_LINE + 1);
	rc = r.buf ? read_all(&r, err) : -ENOMEM;
	if (rc == -ENOMEM)
		snprintf(err, INPUT_ERR_LEN, "%s: out of memory after line %u", path, t->lines);
	if (!rc)
		report(&r);
	free(r.buf);
	input_close(r.in);
	return rc;
}

void trace_free(struct trace *t)
{
	free(t->events);
	free(t->bad);
	free(t->others);
	free(t->attr);
	free(t->owner);
	free(t->faults);
	free(t->fault_of);
	free(t->installs);
	free(t->zap_alls);
	memset(t, 0, sizeof(*t));
}

/* KVM marks a shadow-present word with bit 11 on every format (its SPTE_MMU_PRESENT_MASK). */
#define WORD_PRESENT (1ull << 11)
#define WORD_LARGE   (1ull << 7)
/* Bit 63 of a nonpresent word: suppress #VE, since KVM's TDX preparation, on AMD too. */
#define WORD_NO_VE  (1ull << 63)
#define WORD_FROZEN 0x5a0ull
#define WORD_PFN    0x000ffffffffff000ull

enum trace_word trace_word_class(uint64_t word, unsigned int level)
{
	if (word & WORD_PRESENT)
		return level == 1 || (word & WORD_LARGE) ? TRACE_WORD_LEAF : TRACE_WORD_TABLE;
	if (!(word & ~WORD_NO_VE))
		return TRACE_WORD_EMPTY;
	if ((word & ~WORD_NO_VE) == WORD_FROZEN)
		return TRACE_WORD_FROZEN;
	return TRACE_WORD_MMIO;
}

uint64_t trace_word_pfn(uint64_t word)
{
	return (word & WORD_PFN) >> 12;
}
