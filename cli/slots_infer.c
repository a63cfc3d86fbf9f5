// SPDX-License-Identifier: BSD-2-Clause
/* The slots a trace itself speaks of, epoch by epoch between zap-alls. Reads no file and knows no
 * machine's layout. */
#include "cli/slots_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define GFN_END (1ull << (TRACE_GPA_BITS - 12))
/* Edges that nothing fixes are moved outwards to this: a slot smaller than a huge page would forbid
 * huge pages. */
#define EDGE_PAGES 512ull
/* No execution, in NPT. */
#define WORD_NX (1ull << 63)
/* A frame read-only at this many addresses is the host's shared zero page; ROM aliases come in
 * pairs. */
#define ZERO_PAGE_GFNS 3

enum point_kind { POINT_RW, POINT_RO };

/* One guest page (or huge page) seen mapped in one epoch. */
struct point {
	uint64_t gfn;
	uint64_t pages;
	uint64_t pfn;
	uint32_t zaps;
	bool logged; /* under a dirty log: small whatever the host has */
	enum point_kind kind;
};

struct inference {
	const struct trace *t;
	bool nx_huge; /* huge leaves let no code run */
	struct slot_history *h;
	struct point *points; /* by epoch, then gfn */
	size_t nr_points;
	uint64_t *holes; /* gfns that were MMIO at any time, ascending, unique */
	size_t nr_holes;
	uint64_t ram_end; /* gfn: the size of the largest host range made before the guest ran; 0:
			     none */
	uint16_t next_id;
	struct point *huge; /* the points that are huge pages */
	size_t nr_huge;
};

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static int by_epoch(const void *a, const void *b)
{
	const struct point *x = a, *y = b;

	if (x->zaps != y->zaps)
		return x->zaps < y->zaps ? -1 : 1;
	if (x->gfn != y->gfn)
		return x->gfn < y->gfn ? -1 : 1;
	/* Writable first: one writable word proves a writable slot, whatever else the page was. */
	return (int)x->kind - (int)y->kind;
}

static int by_frame(const void *a, const void *b)
{
	const struct point *x = a, *y = b;

	if (x->pfn != y->pfn)
		return x->pfn < y->pfn ? -1 : 1;
	return (x->gfn > y->gfn) - (x->gfn < y->gfn);
}

/* What the leaf that the fault installed says. */
static struct point point_of(const struct trace *t, const struct trace_fault *f)
{
	const struct trace_event *leaf = &t->events[f->leaf];

	return (struct point){
		.gfn = leaf->change.gfn,
		.pages = 1ull << 9 * (leaf->level - 1),
		.pfn = trace_word_pfn(leaf->change.new_word),
		.zaps = trace_zaps_before(t, f->leaf),
		.logged = f->logged,
		.kind = leaf->change.new_word & 2 ? POINT_RW : POINT_RO,
	};
}

static void add_point(struct inference *in, const struct trace_fault *f)
{
	const struct trace_event *leaf = &in->t->events[f->leaf];

	in->points[in->nr_points++] = point_of(in->t, f);
	in->nx_huge |= leaf->level > 1 && leaf->change.new_word & WORD_NX;
}

static int collect(struct inference *in)
{
	const struct trace *t = in->t;
	size_t room = (size_t)t->nr_faults + 1;
	bool ran = false;

	in->points = malloc(room * sizeof(*in->points));
	in->holes = malloc(room * sizeof(*in->holes));
	if (!in->points || !in->holes)
		return -ENOMEM;
	for (uint32_t i = 0; i < t->nr_faults; i++) {
		const struct trace_fault *f = &t->faults[i];

		if (f->outcome == TRACE_INSTALLED && f->leaf != TRACE_NONE)
			add_point(in, f);
		else if (f->outcome == TRACE_MMIO_CREATED || f->outcome == TRACE_MMIO_HIT)
			in->holes[in->nr_holes++] = t->events[f->event].fault.gpa >> 12;
	}
	for (uint32_t i = 0; i < t->nr_events && !ran; i++) {
		const struct trace_event *ev = &t->events[i];

		ran = ev->kind == TRACE_PAGE_FAULT;
		if (ev->kind == TRACE_UNMAP_HVA &&
		    (ev->hva.end - ev->hva.start) >> 12 > in->ram_end)
			in->ram_end = (ev->hva.end - ev->hva.start) >> 12;
	}
	return 0;
}

/*
 * A read-only word in a writable slot is a page the host shares: the zero page, at many addresses.
 * Points of such a frame say nothing of the slot's access, so they count as writable.
 */
static void drop_zero_page(struct inference *in)
{
	struct point *p = in->points;
	size_t n = in->nr_points;

	qsort(p, n, sizeof(*p), by_frame);
	for (size_t i = 0, end; i < n; i = end) {
		size_t gfns = 0;

		for (end = i; end < n && p[end].pfn == p[i].pfn; end++)
			gfns += p[end].kind == POINT_RO &&
				(end == i || p[end].gfn != p[end - 1].gfn);
		for (size_t k = i; gfns >= ZERO_PAGE_GFNS && k < end; k++)
			p[k].kind = POINT_RW;
	}
	qsort(p, n, sizeof(*p), by_epoch);
}

static void sort_holes(struct inference *in)
{
	size_t n = 0;

	qsort(in->holes, in->nr_holes, sizeof(*in->holes), by_number);
	for (size_t i = 0; i < in->nr_holes; i++)
		if (!n || in->holes[n - 1] != in->holes[i])
			in->holes[n++] = in->holes[i];
	in->nr_holes = n;
}

static int collect_huge(struct inference *in)
{
	in->huge = malloc((in->nr_points + 1) * sizeof(*in->huge));
	if (!in->huge)
		return -ENOMEM;
	for (size_t i = 0; i < in->nr_points; i++)
		if (in->points[i].pages > 1)
			in->huge[in->nr_huge++] = in->points[i];
	return 0;
}

/* The number in (lo, hi] with the most trailing zeros. Needs lo < hi. */
static uint64_t roundest(uint64_t lo, uint64_t hi)
{
	uint64_t best = hi;

	for (uint64_t step = 1; step <= hi && hi / step * step > lo; step <<= 1)
		best = hi / step * step;
	return best;
}

/* The lowest hole at or above @gfn, or GFN_END. */
static uint64_t hole_from(const struct inference *in, uint64_t gfn)
{
	size_t lo = 0, hi = in->nr_holes;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (in->holes[mid] < gfn)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < in->nr_holes ? in->holes[lo] : GFN_END;
}

/* One past the highest hole below @gfn, or 0. */
static uint64_t hole_below(const struct inference *in, uint64_t gfn)
{
	uint64_t at = 0;

	for (size_t i = 0; i < in->nr_holes && in->holes[i] < gfn; i++)
		at = in->holes[i] + 1;
	return at;
}

/* Was the page of @p part of a huge page, of the same host memory, in another epoch? */
static bool was_huge(const struct inference *in, const struct point *p)
{
	for (size_t i = 0; i < in->nr_huge; i++) {
		const struct point *o = &in->huge[i];

		if (p->gfn >= o->gfn && p->gfn < o->gfn + o->pages &&
		    p->pfn - p->gfn == o->pfn - o->gfn)
			return true;
	}
	return false;
}

/* Between two points of one kind: must an edge lie there? Yes over a hole or over the end of RAM.
 */
static bool must_part(const struct inference *in, const struct point *a, const struct point *b)
{
	uint64_t next = a->gfn + a->pages;

	if (hole_from(in, next) < b->gfn)
		return true;
	return in->ram_end && next <= in->ram_end && b->gfn >= in->ram_end;
}

static uint64_t outer_start(const struct inference *in, const struct point *p, uint64_t floor)
{
	uint64_t start = p->gfn / EDGE_PAGES * EDGE_PAGES, hole = hole_below(in, p->gfn);

	if (p->gfn < in->ram_end && p->kind == POINT_RW && !floor && !hole)
		return 0;
	if (start < hole)
		start = roundest(hole - 1, p->gfn);
	return start < floor ? floor : start;
}

static uint64_t outer_end(const struct inference *in, const struct point *p)
{
	uint64_t next = p->gfn + p->pages;
	uint64_t end = (next + EDGE_PAGES - 1) / EDGE_PAGES * EDGE_PAGES;
	uint64_t hole = hole_from(in, next);

	if (next <= in->ram_end && p->kind == POINT_RW)
		end = in->ram_end;
	return end > hole ? hole : end;
}

static uint16_t region_named(struct slot_history *h, bool readonly)
{
	return readonly && h->nr_regions > 1 ? 1 : 0;
}

static int add_slot(struct inference *in, uint64_t start, uint64_t end, enum point_kind kind)
{
	struct slot_history *h = in->h;
	struct slot_table *t = &h->tables[h->nr_tables - 1];
	const struct slot_table *before = h->nr_tables > 1 ? t - 1 : NULL;
	struct slot_def s = {
		.start = start << 12,
		.end = end << 12,
		.offset = start << 12,
		.region = region_named(h, kind == POINT_RO),
		.id = in->next_id,
		.readonly = kind == POINT_RO,
		.as_mask = (1u << SLOT_ADDRESS_SPACES) - 1,
	};
	void *p = realloc(t->slots, (t->nr_slots + 1) * sizeof(s));

	if (!p)
		return -ENOMEM;
	t->slots = p;
	for (uint32_t i = 0; before && i < before->nr_slots; i++) {
		s.id = before->slots[i].id;
		if (slots_same(&s, &before->slots[i]))
			goto add;
	}
	/* Fresh, so that a slot that changed never keeps the name of the one it replaced. */
	s.id = in->next_id;
	in->next_id++;
add:
	t->slots[t->nr_slots++] = s;
	return 0;
}

/*
 * Where a host huge page was mapped small, though it was huge in another epoch, a slot's edge must
 * lie inside it: nothing else in KVM does that but a dirty log. Where inside can't be told, so the
 * middle is taken.
 */
static int part_block(struct inference *in, const struct point *p)
{
	struct slot_table *t = &in->h->tables[in->h->nr_tables - 1];
	uint64_t first = p->gfn / EDGE_PAGES * EDGE_PAGES, edge = (first + EDGE_PAGES / 2) << 12;

	for (uint32_t i = 0; i < t->nr_slots; i++) {
		struct slot_def *s = &t->slots[i];
		uint64_t end = s->end;

		if (s->start > first << 12 || end < (first + EDGE_PAGES) << 12)
			continue;
		s->end = edge;
		/* No longer what an earlier table called by this id. */
		s->id = in->next_id++;
		return add_slot(in, edge >> 12, end >> 12, POINT_RW);
	}
	return 0;
}

static int part_blocks(struct inference *in, const struct point *p, size_t n)
{
	uint64_t done = UINT64_MAX;
	int rc = 0;

	/* Code that runs makes a block small as well, and nothing tells which. */
	if (in->nx_huge)
		return 0;
	for (size_t i = 0; !rc && i < n; i++) {
		uint64_t block = p[i].gfn / EDGE_PAGES;

		if (block == done || p[i].pages > 1 || p[i].logged || p[i].kind != POINT_RW ||
		    !was_huge(in, &p[i]))
			continue;
		rc = part_block(in, &p[i]);
		done = block;
	}
	return rc;
}

/* The points of one epoch, ascending, become slots. */
static int infer_epoch(struct inference *in, const struct point *p, size_t n)
{
	uint64_t start = 0;
	bool shared;
	int rc = 0;

	for (size_t i = 0; !rc && i < n; i++) {
		const struct point *b = i + 1 < n ? &p[i + 1] : NULL;
		uint64_t end = outer_end(in, &p[i]), next = p[i].gfn + p[i].pages;

		if (!i)
			start = outer_start(in, &p[i], 0);
		if (b && b->gfn < next)
			continue;
		if (b && b->kind == p[i].kind && !must_part(in, &p[i], b))
			continue;
		/* Two neighbours inside RAM with nothing between them share one edge. */
		shared = b && b->gfn < in->ram_end && hole_from(in, next) >= b->gfn;
		if (b && (shared || b->gfn < end))
			end = roundest(next - 1, b->gfn);
		rc = add_slot(in, start, end, p[i].kind);
		if (b)
			start = shared ? end : outer_start(in, b, end);
	}
	return rc;
}

static int begin_table(struct inference *in, uint32_t zaps)
{
	struct slot_history *h = in->h;
	const struct trace *t = in->t;
	struct slot_table *p = realloc(h->tables, (h->nr_tables + 1) * sizeof(*p));

	if (!p)
		return -ENOMEM;
	h->tables = p;
	p += h->nr_tables++;
	*p = (struct slot_table){.after = zaps};
	for (uint32_t i = 0; i < t->nr_faults; i++) {
		const struct trace_fault *f = &t->faults[i];

		if (f->mark != TRACE_NONE && !f->as_id && trace_zaps_before(t, f->mark) == zaps) {
			p->has_generation = true;
			p->generation = t->events[f->mark].mark.gen;
		}
	}
	return 0;
}

static int infer_tables(struct inference *in)
{
	int rc = 0;

	for (size_t i = 0, end; !rc && i < in->nr_points; i = end) {
		for (end = i; end < in->nr_points && in->points[end].zaps == in->points[i].zaps;
		     end++)
			;
		rc = begin_table(in, in->points[i].zaps);
		if (!rc)
			rc = infer_epoch(in, in->points + i, end - i);
		if (!rc)
			rc = part_blocks(in, in->points + i, end - i);
	}
	return rc;
}

int slots_infer(struct slot_history *h, const struct trace *t)
{
	struct inference in = {.t = t, .h = h};
	int rc;

	memset(h, 0, sizeof(*h));
	h->regions = calloc(2, sizeof(*h->regions));
	if (!h->regions)
		return -ENOMEM;
	h->nr_regions = 2;
	strcpy(h->regions[0].name, "ram");
	strcpy(h->regions[1].name, "rom");
	rc = collect(&in);
	if (!rc) {
		drop_zero_page(&in);
		sort_holes(&in);
		rc = collect_huge(&in);
	}
	if (!rc)
		rc = infer_tables(&in);
	free(in.points);
	free(in.huge);
	free(in.holes);
	return rc;
}
