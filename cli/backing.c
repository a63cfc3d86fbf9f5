// SPDX-License-Identifier: BSD-2-Clause
/*
 * The inference behind cli/backing.h: sightings of host pages, sorted by page, and the notifier
 *events that cut their lives. Looks at recorded words only as evidence about other entries.
 *
 *	sightings, by (region, page, level, event)        hits, by (region, block, event)
 *	  ram  page 38  4K  ev 5845  frame 55d10            ram  block 0  ev 5850  pages [38, 39)
 *	  ram  page 38  4K  ev 5854  frame 13b547           ...
 *	                              ^ another epoch: one hit lies between
 */
#include "cli/backing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_PAGES 512ull
/* A range longer than this is kept whole: a broken file's or trace's could have any length. */
#define WIDE_PAGES (64 * BLOCK_PAGES)
/* Made-up addresses: far above any x86-64 user address, so that no recorded range covers them. */
#define MADE_UP_BASE 0x4000000000000000ull
#define MADE_UP_STEP (1ull << TRACE_GPA_BITS)

/* One life of one entry: a leaf that a fault installed. */
struct sighting {
	uint64_t page;	    /* first page of the region that it maps */
	uint64_t pfn;	    /* its frame, from the installed word */
	uint64_t later_pfn; /* from a later record of the same entry */
	uint32_t event;	    /* that installed it */
	uint16_t region;
	uint8_t level;
	bool has_later;
	bool writable; /* W in the installed word */
	bool ro_slot;
	bool may_be_2m; /* its slot allowed 2 MiB here, and no dirty log was on */
};

struct hit {
	uint64_t block;
	uint64_t first; /* pages of the region */
	uint64_t end;
	uint32_t event;
	uint16_t region;
};

/* A frame that a writable slot showed read-only, and where. */
struct shared_frame {
	uint64_t pfn;
	uint64_t page;
	uint16_t region;
};

struct region {
	uint64_t hva;
	enum backing_hva_source source;
	uint64_t pages; /* up to the highest that any slot shows */
	/* 2 MiB blocks by what was seen in them, where a slot's edges left the choice. */
	uint64_t huge_blocks;
	uint64_t small_blocks;
};

struct backing {
	const struct trace *t;
	const struct slot_history *h;
	struct region *regions;
	struct sighting *seen;
	size_t nr_seen;
	size_t *seen_of; /* one a fault: index + 1 of its sighting, 0: none */
	struct hit *hits;
	size_t nr_hits;
	size_t hits_room;
	struct hit *wide; /* longer than WIDE_PAGES: not cut into blocks, in the trace's order */
	size_t nr_wide;
	struct shared_frame *shared;
	size_t nr_shared;
};

/* Where a guest page lies. */
struct place {
	const struct slot_def *slot;
	uint16_t region;
	uint64_t page;
};

static bool place_of(const struct backing *b, uint32_t event, unsigned int as_id, uint64_t gfn,
		     struct place *p)
{
	const struct slot_table *t = slots_table_at(b->h, trace_zaps_before(b->t, event));

	p->slot = slots_find(t, as_id, gfn << 12);
	if (!p->slot)
		return false;
	p->region = p->slot->region;
	p->page = (p->slot->offset >> 12) + gfn - (p->slot->start >> 12);
	return true;
}

/* KVM allows 2 MiB where the slot holds the whole aligned block and guest and host addresses are
 * congruent to it. */
static bool slot_allows_2m(const struct backing *b, const struct slot_def *s, uint64_t gfn)
{
	uint64_t hva = b->regions[s->region].hva + s->offset;
	uint64_t first = gfn & ~(BLOCK_PAGES - 1);

	if (((hva ^ s->start) >> 12) & (BLOCK_PAGES - 1))
		return false;
	return first >= s->start >> 12 && first + BLOCK_PAGES <= s->end >> 12;
}

static int by_place(const void *a, const void *b)
{
	const struct sighting *x = a, *y = b;

	if (x->region != y->region)
		return x->region < y->region ? -1 : 1;
	if (x->page != y->page)
		return x->page < y->page ? -1 : 1;
	if (x->level != y->level)
		return x->level < y->level ? -1 : 1;
	return (x->event > y->event) - (x->event < y->event);
}

static int by_block(const void *a, const void *b)
{
	const struct hit *x = a, *y = b;

	if (x->region != y->region)
		return x->region < y->region ? -1 : 1;
	if (x->block != y->block)
		return x->block < y->block ? -1 : 1;
	return (x->event > y->event) - (x->event < y->event);
}

static int by_frame(const void *a, const void *b)
{
	const struct shared_frame *x = a, *y = b;

	if (x->pfn != y->pfn)
		return x->pfn < y->pfn ? -1 : 1;
	if (x->region != y->region)
		return x->region < y->region ? -1 : 1;
	return (x->page > y->page) - (x->page < y->page);
}

/* First sighting at or after (region, page). */
static size_t seen_from(const struct backing *b, uint16_t region, uint64_t page)
{
	size_t lo = 0, hi = b->nr_seen;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct sighting *s = &b->seen[mid];

		if (s->region < region || (s->region == region && s->page < page))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Did a notifier event between events @a and @b hit any of the pages [first, end) of one block? */
static bool hit_between(const struct backing *b, uint16_t region, uint64_t first, uint64_t end,
			uint32_t x, uint32_t y)
{
	uint64_t block = first / BLOCK_PAGES;
	uint32_t from = x < y ? x : y, to = x < y ? y : x;
	size_t lo = 0, hi = b->nr_hits;

	for (size_t i = 0; i < b->nr_wide; i++) {
		const struct hit *w = &b->wide[i];

		if (w->region == region && w->event >= from && w->event < to && w->first < end &&
		    first < w->end)
			return true;
	}
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct hit *h = &b->hits[mid];

		if (h->region < region || (h->region == region && h->block < block) ||
		    (h->region == region && h->block == block && h->event < from))
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo < b->nr_hits; lo++) {
		const struct hit *h = &b->hits[lo];

		if (h->region != region || h->block != block || h->event >= to)
			return false;
		if (h->first < end && first < h->end)
			return true;
	}
	return false;
}

/*
 * Building: regions and their addresses.
 */

static void size_regions(struct backing *b)
{
	for (uint32_t i = 0; i < b->h->nr_tables; i++) {
		const struct slot_table *t = &b->h->tables[i];

		for (uint32_t n = 0; n < t->nr_slots; n++) {
			const struct slot_def *s = &t->slots[n];
			uint64_t end = (s->offset + s->end - s->start) >> 12;

			if (end > b->regions[s->region].pages)
				b->regions[s->region].pages = end;
		}
	}
}

/*
 * A range that removed a word tells where that word's page lies: exactly, if the range is one page;
 * so those are asked first. In a longer one the first page removed is taken for the first of the
 * range.
 */
static void hva_by_notifier(struct backing *b, uint64_t longest)
{
	const struct trace *t = b->t;

	for (uint32_t i = 0; i < t->nr_events; i++) {
		const struct trace_event *ev = &t->events[i], *host;
		struct region *r;
		struct place p;

		if (t->attr[i] != TRACE_ATTR_HOST_ZAP ||
		    !place_of(b, i, ev->change.as_id, ev->change.gfn, &p))
			continue;
		host = &t->events[t->owner[i]];
		r = &b->regions[p.region];
		if (r->source != BACKING_HVA_MADE_UP || p.page << 12 > host->hva.start ||
		    host->hva.end - host->hva.start > longest)
			continue;
		r->hva = host->hva.start - (p.page << 12);
		r->source = BACKING_HVA_NOTIFIER;
	}
}

/*
 * The machine's memory is allocated before its first fault, and a fresh range of just a region's
 * size is how the trace shows it. Two such ranges at different places prove nothing.
 */
static void hva_by_size(struct backing *b)
{
	const struct trace *t = b->t;
	uint32_t first_fault = t->nr_faults ? t->faults[0].event : t->nr_events;

	for (uint32_t n = 0; n < b->h->nr_regions; n++) {
		struct region *r = &b->regions[n];
		uint64_t found = 0;
		bool unique = true;

		for (uint32_t i = 0; i < first_fault && r->source == BACKING_HVA_MADE_UP; i++) {
			const struct trace_event *ev = &t->events[i];

			if (ev->kind != TRACE_UNMAP_HVA ||
			    (ev->hva.end - ev->hva.start) >> 12 != r->pages)
				continue;
			unique &= !found || found == ev->hva.start;
			found = ev->hva.start;
		}
		if (found && unique) {
			r->hva = found;
			r->source = BACKING_HVA_SIZE;
		}
	}
}

static void find_regions(struct backing *b)
{
	for (uint32_t i = 0; i < b->h->nr_regions; i++) {
		const struct slot_region *s = &b->h->regions[i];
		struct region *r = &b->regions[i];

		r->hva = s->has_hva ? s->hva : MADE_UP_BASE + i * MADE_UP_STEP;
		r->source = s->has_hva ? BACKING_HVA_FILE : BACKING_HVA_MADE_UP;
	}
	size_regions(b);
	hva_by_notifier(b, 1ull << 12);
	hva_by_notifier(b, UINT64_MAX);
	hva_by_size(b);
}

/*
 * Building: hits.
 */

static int add_hit(struct backing *b, const struct hit *h)
{
	if (b->nr_hits == b->hits_room) {
		size_t room = b->hits_room ? b->hits_room * 2 : 64;
		void *p = realloc(b->hits, room * sizeof(*b->hits));

		if (!p)
			return -ENOMEM;
		b->hits = p;
		b->hits_room = room;
	}
	b->hits[b->nr_hits++] = *h;
	return 0;
}

bool backing_covered(const struct backing *b, uint32_t event, unsigned int region,
		     struct backing_range *out)
{
	const struct trace_event *ev = &b->t->events[event];
	const struct region *r = &b->regions[region];
	uint64_t end = r->hva + (r->pages << 12);
	uint64_t from = ev->hva.start, to = ev->hva.end;

	if (r->source == BACKING_HVA_MADE_UP || from >= end || to <= r->hva)
		return false;
	from = from < r->hva ? r->hva : from;
	to = to > end ? end : to;
	out->region = region;
	out->first = (from - r->hva) >> 12;
	out->count = ((to - r->hva + 0xfff) >> 12) - out->first;
	return true;
}

static int add_wide(struct backing *b, const struct hit *h)
{
	void *p = realloc(b->wide, (b->nr_wide + 1) * sizeof(*b->wide));

	if (!p)
		return -ENOMEM;
	b->wide = p;
	b->wide[b->nr_wide++] = *h;
	return 0;
}

static int add_range(struct backing *b, const struct backing_range *r, uint32_t event)
{
	uint64_t end = r->first + r->count;
	struct hit h = {.event = event, .region = (uint16_t)r->region, .first = r->first};
	int rc = 0;

	if (r->count > WIDE_PAGES) {
		h.end = end;
		return add_wide(b, &h);
	}
	for (; !rc && h.first < end; h.first = h.end) {
		h.block = h.first / BLOCK_PAGES;
		h.end = (h.block + 1) * BLOCK_PAGES;
		if (h.end > end)
			h.end = end;
		rc = add_hit(b, &h);
	}
	return rc;
}

static int find_hits(struct backing *b)
{
	int rc = 0;

	for (uint32_t i = 0; i < b->t->nr_events; i++) {
		/* kvm_set_spte_hva always stands inside an unmap of the same page, which already
		 * ended its epoch. */
		if (b->t->events[i].kind != TRACE_UNMAP_HVA)
			continue;
		for (uint32_t n = 0; !rc && n < b->h->nr_regions; n++) {
			struct backing_range r;

			if (backing_covered(b, i, n, &r))
				rc = add_range(b, &r, i);
		}
	}
	if (b->nr_hits)
		qsort(b->hits, b->nr_hits, sizeof(*b->hits), by_block);
	return rc;
}

/*
 * Building: sightings, and the later records of each.
 */

/* Entries that are live while the trace is walked, by (address space, level, gfn). */
struct live {
	size_t next; /* index + 1; 0 ends the chain */
	uint64_t gfn;
	uint32_t as_id;
	uint8_t level;
	bool gone;
};

struct live_map {
	size_t *heads;
	size_t mask;
	struct live *nodes; /* same index as sightings */
};

static size_t *live_head(const struct live_map *m, uint32_t as_id, uint8_t level, uint64_t gfn)
{
	uint64_t x = (gfn << 8 | level << 4 | as_id) * 0x9e3779b97f4a7c15ull;

	return &m->heads[(x >> 32) & m->mask];
}

/* The life that a later record is about: the one with the recorded frame, or else the oldest still
 * there. */
static struct sighting *later_record(struct backing *b, struct live_map *m,
				     const struct trace_event *ev, bool gone)
{
	uint64_t pfn = trace_word_pfn(ev->change.old_word);
	size_t found = 0;

	for (size_t i = *live_head(m, ev->change.as_id, ev->level, ev->change.gfn); i;
	     i = m->nodes[i - 1].next) {
		const struct live *l = &m->nodes[i - 1];

		if (l->gone || l->gfn != ev->change.gfn || l->level != ev->level ||
		    l->as_id != ev->change.as_id)
			continue;
		/* Chains run from the newest to the oldest. */
		found = i;
		if (b->seen[i - 1].pfn == pfn)
			break;
	}
	if (!found)
		return NULL;
	m->nodes[found - 1].gone = gone;
	return &b->seen[found - 1];
}

/* Was the leaf installed under a dirty log? Then it is small whatever the host has. */
static bool is_logged(const struct trace *t, uint32_t i)
{
	return t->owner[i] != TRACE_NONE && t->faults[t->fault_of[t->owner[i]]].logged;
}

static void add_sighting(struct backing *b, struct live_map *m, uint32_t i)
{
	const struct trace_event *ev = &b->t->events[i];
	struct sighting *s = &b->seen[b->nr_seen];
	struct place p;
	size_t *head;

	if (!place_of(b, i, ev->change.as_id, ev->change.gfn, &p))
		return;
	*s = (struct sighting){
		.page = p.page,
		.pfn = trace_word_pfn(ev->change.new_word),
		.event = i,
		.region = p.region,
		.level = ev->level,
		.writable = ev->change.new_word & 2,
		.ro_slot = p.slot->readonly,
		.may_be_2m = slot_allows_2m(b, p.slot, ev->change.gfn) &&
			     (ev->level > 1 || !is_logged(b->t, i)),
	};
	head = live_head(m, ev->change.as_id, ev->level, ev->change.gfn);
	m->nodes[b->nr_seen] = (struct live){.next = *head,
					     .gfn = ev->change.gfn,
					     .as_id = ev->change.as_id,
					     .level = ev->level};
	*head = ++b->nr_seen;
}

static void note_later(struct backing *b, struct live_map *m, uint32_t i)
{
	const struct trace_event *ev = &b->t->events[i];
	enum trace_word is = trace_word_class(ev->change.new_word, ev->level);
	struct sighting *s;

	if (trace_word_class(ev->change.old_word, ev->level) != TRACE_WORD_LEAF)
		return;
	s = later_record(b, m, ev, is != TRACE_WORD_LEAF);
	if (!s || s->has_later)
		return;
	s->later_pfn = trace_word_pfn(ev->change.old_word);
	s->has_later = true;
}

static int find_sightings(struct backing *b)
{
	const struct trace *t = b->t;
	struct live_map m = {.mask = 1};
	size_t room = (size_t)t->nr_installs + 1;

	while (m.mask < room)
		m.mask <<= 1;
	m.heads = calloc(m.mask, sizeof(*m.heads));
	m.nodes = malloc(room * sizeof(*m.nodes));
	b->seen = malloc(room * sizeof(*b->seen));
	if (!m.heads || !m.nodes || !b->seen) {
		free(m.heads);
		free(m.nodes);
		return -ENOMEM;
	}
	m.mask--;
	for (uint32_t i = 0; i < t->nr_events; i++) {
		const struct trace_event *ev = &t->events[i];

		if (ev->kind != TRACE_SPTE_CHANGED)
			continue;
		if (t->attr[i] == TRACE_ATTR_INSTALL &&
		    trace_word_class(ev->change.new_word, ev->level) == TRACE_WORD_LEAF)
			add_sighting(b, &m, i);
		else
			note_later(b, &m, i);
	}
	free(m.heads);
	free(m.nodes);
	qsort(b->seen, b->nr_seen, sizeof(*b->seen), by_place);
	return 0;
}

static int index_sightings(struct backing *b)
{
	b->seen_of = calloc((size_t)b->t->nr_faults + 1, sizeof(*b->seen_of));
	b->shared = malloc((b->nr_seen + 1) * sizeof(*b->shared));
	if (!b->seen_of || !b->shared)
		return -ENOMEM;
	for (size_t i = 0; i < b->nr_seen; i++) {
		const struct sighting *s = &b->seen[i];

		b->seen_of[b->t->fault_of[b->t->owner[s->event]]] = i + 1;
		if (!s->writable && !s->ro_slot)
			b->shared[b->nr_shared++] =
				(struct shared_frame){s->pfn, s->page, s->region};
	}
	qsort(b->shared, b->nr_shared, sizeof(*b->shared), by_frame);
	return 0;
}

/* What one block's sightings say of its size, one of them left out. Returns 0 if nothing, else 1
 * or 2. */
static int block_says(const struct backing *b, uint16_t region, uint64_t page, uint32_t event,
		      const struct sighting *except)
{
	uint64_t first = page & ~(BLOCK_PAGES - 1);
	int says = 0;

	for (size_t i = seen_from(b, region, first); i < b->nr_seen; i++) {
		const struct sighting *s = &b->seen[i];

		if (s->region != region || s->page >= first + BLOCK_PAGES)
			break;
		if (s == except || !s->may_be_2m ||
		    hit_between(b, region, first, first + BLOCK_PAGES, s->event, event))
			continue;
		if (s->level == 2)
			return 2;
		says = 1;
		/* Huge sightings of the block stand at its first page: past that, small ones
		 * decide. */
		if (s->page > first)
			break;
	}
	return says;
}

/* What the block of sighting @i counts for, its own epochs put together. Returns the next block's
 * first sighting. */
static size_t count_block(const struct backing *b, size_t i, uint64_t *huge_blocks,
			  uint64_t *small_blocks)
{
	const struct sighting *s = &b->seen[i];
	uint64_t end = (s->page & ~(BLOCK_PAGES - 1)) + BLOCK_PAGES;
	uint16_t region = s->region;
	bool huge = false, small = false;

	for (; i < b->nr_seen && b->seen[i].region == region && b->seen[i].page < end; i++) {
		huge |= b->seen[i].level == 2;
		small |= b->seen[i].level == 1 && b->seen[i].may_be_2m;
	}
	*huge_blocks = huge;
	*small_blocks = small && !huge;
	return i;
}

static void count_blocks(struct backing *b)
{
	for (size_t i = 0; i < b->nr_seen;) {
		struct region *r = &b->regions[b->seen[i].region];
		uint64_t huge, small;

		i = count_block(b, i, &huge, &small);
		r->huge_blocks += huge;
		r->small_blocks += small;
	}
}

int backing_build(struct backing **out, const struct trace *t, const struct slot_history *h)
{
	struct backing *b = calloc(1, sizeof(*b));
	int rc;

	*out = NULL;
	if (!b)
		return -ENOMEM;
	b->t = t;
	b->h = h;
	b->regions = calloc((size_t)h->nr_regions + 1, sizeof(*b->regions));
	rc = b->regions ? 0 : -ENOMEM;
	if (!rc) {
		find_regions(b);
		rc = find_hits(b);
	}
	if (!rc)
		rc = find_sightings(b);
	if (!rc)
		rc = index_sightings(b);
	if (rc) {
		backing_free(b);
		return rc;
	}
	count_blocks(b);
	*out = b;
	return 0;
}

/*
 * Answering.
 */

/* One question, with what is settled about it so far. */
struct question {
	const struct backing *b;
	uint16_t region;
	uint64_t page;
	uint32_t at; /* event whose epoch counts */
	bool write;
	const struct trace_fault *fault; /* NULL: not asked for a fault */
	const struct sighting *own;	 /* the entry being compared; NULL: none */
};

static void tell_level(const struct question *q, struct backing_page *out)
{
	const struct region *r = &q->b->regions[q->region];
	int says = block_says(q->b, q->region, q->page, q->at, q->own);
	uint64_t huge = r->huge_blocks, small = r->small_blocks;
	size_t first = seen_from(q->b, q->region, q->page & ~(BLOCK_PAGES - 1));

	if (says) {
		out->host_level = (uint8_t)says;
		out->level = BACKING_LEVEL_SAME_BLOCK;
		return;
	}
	/* No other entry speaks of this block now, so only the other blocks count. */
	if (first < q->b->nr_seen && q->b->seen[first].region == q->region &&
	    q->b->seen[first].page / BLOCK_PAGES == q->page / BLOCK_PAGES) {
		uint64_t own_huge, own_small;

		count_block(q->b, first, &own_huge, &own_small);
		huge -= own_huge;
		small -= own_small;
	}
	out->host_level = huge > small ? 2 : 1;
	out->level = huge ? BACKING_LEVEL_REGION : BACKING_LEVEL_NO_HUGE;
}

/* The frame of @page that most other entries of its epoch agree on. A host huge page is one object:
 * level 2 sightings cover. */
static bool same_page(const struct question *q, uint64_t page, uint64_t *pfn)
{
	const struct backing *b = q->b;
	uint64_t starts[2] = {page, page & ~(BLOCK_PAGES - 1)};
	unsigned int votes = 0;

	for (int k = 0; k < 2; k++) {
		for (size_t i = seen_from(b, q->region, starts[k]); i < b->nr_seen; i++) {
			const struct sighting *s = &b->seen[i];
			uint64_t value = s->pfn + page - s->page;

			if (s->region != q->region || s->page != starts[k])
				break;
			if (s == q->own || s->level != k + 1 ||
			    hit_between(b, q->region, page, page + 1, s->event, q->at))
				continue;
			/* Majority by pairing off: a lone damaged word is outvoted. */
			if (!votes)
				*pfn = value;
			votes += votes && *pfn != value ? -1u : 1u;
		}
	}
	return votes > 0;
}

/* Any other entry of the same host huge page tells the offset between pages and frames. */
static bool same_huge(const struct question *q, uint64_t *pfn)
{
	const struct backing *b = q->b;
	uint64_t first = q->page & ~(BLOCK_PAGES - 1);
	unsigned int votes = 0;

	for (size_t i = seen_from(b, q->region, first); i < b->nr_seen; i++) {
		const struct sighting *s = &b->seen[i];
		uint64_t value = s->pfn + q->page - s->page;

		if (s->region != q->region || s->page >= first + BLOCK_PAGES)
			break;
		if (s == q->own ||
		    hit_between(b, q->region, first, first + BLOCK_PAGES, s->event, q->at))
			continue;
		if (!votes)
			*pfn = value;
		votes += votes && *pfn != value ? -1u : 1u;
		if (votes > 2)
			break;
	}
	return votes > 0;
}

/* The first notifier event, from event q->at on, that hits the page; TRACE_NONE: none does. */
static uint32_t next_hit(const struct question *q)
{
	const struct backing *b = q->b;
	uint64_t block = q->page / BLOCK_PAGES;
	size_t lo = 0, hi = b->nr_hits;
	uint32_t wide = TRACE_NONE;

	for (size_t i = 0; i < b->nr_wide && wide == TRACE_NONE; i++) {
		const struct hit *w = &b->wide[i];

		if (w->region == q->region && w->event >= q->at && q->page >= w->first &&
		    q->page < w->end)
			wide = w->event;
	}
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct hit *h = &b->hits[mid];

		if (h->region < q->region || (h->region == q->region && h->block < block) ||
		    (h->region == q->region && h->block == block && h->event < q->at))
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo < b->nr_hits; lo++) {
		const struct hit *h = &b->hits[lo];

		if (h->region != q->region || h->block != block)
			break;
		if (q->page >= h->first && q->page < h->end)
			return h->event < wide ? h->event : wide;
	}
	return wide;
}

/* A fault's write made the host copy this page later on, in the epoch asked about. */
static bool copied_later(const struct question *q)
{
	uint32_t hit = next_hit(q);

	return hit != TRACE_NONE && q->b->t->attr[hit] == TRACE_ATTR_HOST_INSIDE;
}

/* Is @pfn read-only in a writable slot at a page other than the one asked about? */
static bool shared_elsewhere(const struct question *q, uint64_t pfn)
{
	const struct backing *b = q->b;
	size_t lo = 0, hi = b->nr_shared;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (b->shared[mid].pfn < pfn)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo < b->nr_shared && b->shared[lo].pfn == pfn; lo++)
		if (b->shared[lo].page != q->page || b->shared[lo].region != q->region)
			return true;
	return false;
}

/* The frame that stands read-only at the most other pages of writable slots: the host's zero page.
 */
static bool zero_page(const struct question *q, uint64_t *pfn)
{
	const struct backing *b = q->b;
	size_t best = 0;

	for (size_t i = 0, end; i < b->nr_shared; i = end) {
		size_t others = 0;

		for (end = i; end < b->nr_shared && b->shared[end].pfn == b->shared[i].pfn; end++)
			others += b->shared[end].page != q->page ||
				  b->shared[end].region != q->region;
		if (others > best) {
			best = others;
			*pfn = b->shared[i].pfn;
		}
	}
	return best >= 2;
}

/* A run: the pages on both sides lie two frames apart, in either direction. */
static bool in_run(const struct question *q, uint64_t *pfn)
{
	struct question side = *q;
	uint64_t below, above;

	side.own = NULL;
	if (!q->page || !same_page(&side, q->page - 1, &below) ||
	    !same_page(&side, q->page + 1, &above))
		return false;
	if (above - below != 2 && below - above != 2)
		return false;
	*pfn = above - below == 2 ? below + 1 : above + 1;
	return !q->own || !q->own->has_later || q->own->later_pfn + q->page - q->own->page == *pfn;
}

static int tell_frame(const struct question *q, struct backing_page *out)
{
	const struct trace_event *asked = q->fault && q->fault->requested != TRACE_NONE
						  ? &q->b->t->events[q->fault->requested]
						  : NULL;

	if (same_page(q, q->page, &out->pfn)) {
		out->frame = BACKING_FRAME_SAME_PAGE;
	} else if (out->host_level == 2 && same_huge(q, &out->pfn)) {
		out->frame = BACKING_FRAME_SAME_HUGE;
	} else if (asked && !(asked->requested.pfn >> (TRACE_GPA_BITS - 12))) {
		out->frame = BACKING_FRAME_REQUESTED;
		out->pfn = asked->requested.pfn;
	} else if (!q->write && copied_later(q) && zero_page(q, &out->pfn)) {
		out->frame = BACKING_FRAME_ZERO_PAGE;
	} else if (in_run(q, &out->pfn)) {
		out->frame = BACKING_FRAME_RUN;
	} else if (q->own && q->own->has_later) {
		out->frame = BACKING_FRAME_OWN_LATER;
		out->pfn = q->own->later_pfn + q->page - q->own->page;
	} else if (q->own) {
		out->frame = BACKING_FRAME_OWN;
		out->pfn = q->own->pfn + q->page - q->own->page;
	} else {
		return -ENODATA;
	}
	return 0;
}

static void tell_write(const struct question *q, struct backing_page *out)
{
	if (q->write)
		out->write = BACKING_WRITE_ACCESS;
	else if (copied_later(q))
		out->write = BACKING_WRITE_COPIED;
	else if (shared_elsewhere(q, out->pfn))
		out->write = BACKING_WRITE_SHARED;
	else
		out->write = BACKING_WRITE_ORDINARY;
	out->writable = out->write == BACKING_WRITE_ACCESS || out->write == BACKING_WRITE_ORDINARY;
}

int backing_lookup(const struct backing *b, uint32_t event, unsigned int as_id, uint64_t gfn,
		   bool write, struct backing_page *out)
{
	struct question q = {.b = b, .at = event, .write = write};
	uint32_t fault = event < b->t->nr_events ? b->t->fault_of[event] : TRACE_NONE;
	struct place p;

	memset(out, 0, sizeof(*out));
	out->inner_unmap = TRACE_NONE;
	if (!place_of(b, event, as_id, gfn, &p))
		return -ENOENT;
	q.region = p.region;
	q.page = p.page;
	if (fault != TRACE_NONE && b->t->events[event].fault.gpa >> 12 == gfn) {
		q.fault = &b->t->faults[fault];
		if (b->seen_of[fault])
			q.own = &b->seen[b->seen_of[fault] - 1];
		if (q.fault->inner_unmap != TRACE_NONE) {
			/* The copy is made inside the lookup, so what is found is what stands there
			 * after it. */
			out->inner_unmap = q.fault->inner_unmap;
			q.at = q.fault->inner_unmap + 1;
		}
	}
	tell_level(&q, out);
	if (tell_frame(&q, out))
		return -ENODATA;
	tell_write(&q, out);
	return 0;
}

uint64_t backing_region_hva(const struct backing *b, unsigned int region,
			    enum backing_hva_source *source)
{
	if (source)
		*source = b->regions[region].source;
	return b->regions[region].hva;
}

static void survey_leaf(const struct backing *b, uint32_t fault, struct backing_survey *s)
{
	const struct trace *t = b->t;
	const struct trace_fault *f = &t->faults[fault];
	const struct trace_event *ev = &t->events[f->leaf], *fe = &t->events[f->event];
	uint64_t gfn = fe->fault.gpa >> 12;
	struct backing_page page;
	struct place p;
	bool frame, level, write;

	s->leaves++;
	if (backing_lookup(b, f->event, f->as_id, gfn, fe->fault.error_code & 2, &page) ||
	    !place_of(b, f->event, f->as_id, gfn, &p)) {
		s->unknown++;
		return;
	}
	s->frames[page.frame]++;
	s->levels[page.level]++;
	s->writes[page.write]++;
	if (page.host_level == 2 && !slot_allows_2m(b, p.slot, gfn))
		page.host_level = 1;
	frame = trace_word_pfn(ev->change.new_word) + gfn - ev->change.gfn != page.pfn;
	level = ev->level != page.host_level;
	write = !!(ev->change.new_word & 2) != (page.writable && !p.slot->readonly);
	s->frame_differs += frame;
	s->level_differs += level;
	s->write_differs += write;
	if ((frame || level || write) && s->first_difference == TRACE_NONE)
		s->first_difference = f->leaf;
}

void backing_survey(const struct backing *b, struct backing_survey *s)
{
	memset(s, 0, sizeof(*s));
	s->first_difference = TRACE_NONE;
	for (uint32_t i = 0; i < b->t->nr_faults; i++)
		if (b->t->faults[i].outcome == TRACE_INSTALLED)
			survey_leaf(b, i, s);
}

const char *backing_frame_name(enum backing_frame frame)
{
	static const char *const names[BACKING_FRAMES] = {
		[BACKING_FRAME_SAME_PAGE] = "another entry of the same host page",
		[BACKING_FRAME_SAME_HUGE] = "another entry of the same host huge page",
		[BACKING_FRAME_REQUESTED] = "kvm_mmu_spte_requested",
		[BACKING_FRAME_ZERO_PAGE] = "the host's zero page, copied later",
		[BACKING_FRAME_RUN] = "the run its neighbours make",
		[BACKING_FRAME_OWN_LATER] = "a later record of the compared entry",
		[BACKING_FRAME_OWN] = "the compared word itself",
	};

	return frame < BACKING_FRAMES ? names[frame] : "?";
}

const char *backing_level_name(enum backing_level level)
{
	static const char *const names[BACKING_LEVELS] = {
		[BACKING_LEVEL_SAME_BLOCK] = "another entry in the same 2 MiB",
		[BACKING_LEVEL_REGION] = "most other blocks of the region",
		[BACKING_LEVEL_NO_HUGE] = "no huge page elsewhere in the region",
	};

	return level < BACKING_LEVELS ? names[level] : "?";
}

const char *backing_write_name(enum backing_write write)
{
	static const char *const names[BACKING_WRITES] = {
		[BACKING_WRITE_ACCESS] = "the access writes",
		[BACKING_WRITE_COPIED] = "copied by a later write",
		[BACKING_WRITE_SHARED] = "read-only at other pages too",
		[BACKING_WRITE_ORDINARY] = "ordinary memory",
	};

	return write < BACKING_WRITES ? names[write] : "?";
}

void backing_free(struct backing *b)
{
	if (!b)
		return;
	free(b->regions);
	free(b->seen);
	free(b->seen_of);
	free(b->hits);
	free(b->wide);
	free(b->shared);
	free(b);
}
