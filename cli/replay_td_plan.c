// SPDX-License-Identifier: BSD-2-Clause
/* The memory of a TD in a trace's place, from slots and faults. Makes no access. */
#include "cli/replay_td_plan.h"

#include <errno.h>
#include <stdlib.h>

#define FIRST_MEGABYTE (1ull << 20)
#define CODE_WRITE     (1ull << 1) /* of a page-fault error code */

/* ---- ranges ---- */

static bool in_first_space(const struct slot_def *s)
{
	return s->as_mask & 1;
}

static int by_start(const void *a, const void *b)
{
	const struct td_range *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

/* Neighbours become one. */
static void merge(struct td_plan *p)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < p->nr_ranges; i++) {
		struct td_range *r = &p->ranges[i];

		if (n && r->start <= p->ranges[n - 1].end) {
			if (r->end > p->ranges[n - 1].end)
				p->ranges[n - 1].end = r->end;
		} else {
			p->ranges[n++] = *r;
		}
	}
	p->nr_ranges = n;
}

static int collect(struct td_plan *p, const struct slot_history *h)
{
	uint64_t slots = 0;

	for (uint32_t i = 0; i < h->nr_tables; i++)
		slots += h->tables[i].nr_slots;
	p->ranges = calloc(slots + 1, sizeof(*p->ranges));
	if (!p->ranges)
		return -ENOMEM;
	for (uint32_t i = 0; i < h->nr_tables; i++)
		for (uint32_t k = 0; k < h->tables[i].nr_slots; k++) {
			const struct slot_def *s = &h->tables[i].slots[k];

			if (in_first_space(s) && s->start < s->end)
				p->ranges[p->nr_ranges++] =
					(struct td_range){s->start, s->end, NULL};
		}
	qsort(p->ranges, p->nr_ranges, sizeof(*p->ranges), by_start);
	merge(p);
	return 0;
}

static int make_pages(struct td_plan *p)
{
	for (uint32_t i = 0; i < p->nr_ranges; i++) {
		struct td_range *r = &p->ranges[i];

		r->pages = calloc((r->end - r->start) / TD_PLAN_PAGE, sizeof(*r->pages));
		if (!r->pages)
			return -ENOMEM;
		p->bytes += r->end - r->start;
	}
	return 0;
}

struct td_page *td_plan_page(const struct td_plan *p, uint64_t gpa)
{
	for (uint32_t i = 0; i < p->nr_ranges; i++)
		if (gpa >= p->ranges[i].start && gpa < p->ranges[i].end)
			return &p->ranges[i].pages[(gpa - p->ranges[i].start) / TD_PLAN_PAGE];
	return NULL;
}

/* ---- what is built in ---- */

/* Until the plan is made, by_fault says "touched already". */
static void mark_image(struct td_plan *p, const struct trace *t)
{
	for (uint32_t n = 0; n < t->nr_faults; n++) {
		const struct trace_fault *f = &t->faults[n];
		const struct trace_event *ev = &t->events[f->event];
		struct td_page *page = f->as_id ? NULL : td_plan_page(p, ev->fault.gpa);

		if (!page || page->by_fault || f->outcome == TRACE_MMIO_CREATED ||
		    f->outcome == TRACE_MMIO_HIT)
			continue;
		page->by_fault = true;
		page->image = !(ev->fault.error_code & CODE_WRITE);
	}
}

static void finish_pages(struct td_plan *p)
{
	for (uint32_t i = 0; i < p->nr_ranges; i++) {
		const struct td_range *r = &p->ranges[i];

		for (uint64_t gpa = r->start; gpa < r->end; gpa += TD_PLAN_PAGE) {
			struct td_page *page = &r->pages[(gpa - r->start) / TD_PLAN_PAGE];

			page->by_fault = false;
			page->image |= gpa < FIRST_MEGABYTE;
		}
	}
}

/* Read-only wherever it is shown, page by page of every table. */
static uint64_t read_only_bytes(const struct td_plan *p, const struct slot_history *h)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < p->nr_ranges; i++)
		for (uint64_t gpa = p->ranges[i].start; gpa < p->ranges[i].end;
		     gpa += TD_PLAN_PAGE) {
			bool writable = false;

			for (uint32_t k = 0; k < h->nr_tables && !writable; k++) {
				const struct slot_def *s = slots_find(&h->tables[k], 0, gpa);

				writable = s && !s->readonly;
			}
			bytes += writable ? 0 : TD_PLAN_PAGE;
		}
	return bytes;
}

static bool has_huge_pages(const struct trace *t)
{
	for (uint32_t i = 0; i < t->nr_installs; i++) {
		const struct trace_event *ev = &t->events[t->installs[i]];

		if (ev->level == 2 &&
		    trace_word_class(ev->change.new_word, ev->level) == TRACE_WORD_LEAF)
			return true;
	}
	return false;
}

int td_plan_make(struct td_plan *p, const struct trace *t, const struct slot_history *h)
{
	int err;

	*p = (struct td_plan){0};
	err = collect(p, h);
	if (!err)
		err = make_pages(p);
	if (err)
		return err;
	mark_image(p, t);
	finish_pages(p);
	p->read_only_bytes = read_only_bytes(p, h);
	p->huge_pages = has_huge_pages(t);
	return 0;
}

void td_plan_free(struct td_plan *p)
{
	for (uint32_t i = 0; p->ranges && i < p->nr_ranges; i++)
		free(p->ranges[i].pages);
	free(p->ranges);
	*p = (struct td_plan){0};
}

uint64_t td_plan_word(uint64_t gpa)
{
	/* Any content will do that differs from page to page and from word to word. */
	uint64_t x = (gpa + 1) * 0x9e3779b97f4a7c15ull;

	return (x ^ x >> 29) * 0xbf58476d1ce4e5b9ull;
}
