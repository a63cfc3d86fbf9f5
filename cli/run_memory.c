// SPDX-License-Identifier: BSD-2-Clause
/*
 * The host's memory behind a scenario's slots: blocks of one size, zero pages that are copied at
 * the first write, content that comes later than the frame. Answers the library's lookups and takes
 * memory back; decides nothing about tables.
 */
#include "cli/run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FRAMES_REGION 1
#define ZERO	      1ull /* in run_slot.frame: the zero page, to be copied */

static struct run_slot *slot_by_id(struct run *r, uint32_t id)
{
	return id < TPT_MEMSLOT_IDS && r->by_id[id] ? &r->slots[r->by_id[id] - 1] : NULL;
}

struct run_slot *memory_slot_at(struct run *r, uint64_t gpa)
{
	for (uint32_t i = 0; i < r->nr_slots; i++) {
		struct run_slot *s = &r->slots[i];

		if (s->there && gpa >= s->gpa && gpa - s->gpa < s->pages * RUN_PAGE)
			return s;
	}
	return NULL;
}

/* ---- frames ---- */

static unsigned int order_of(unsigned int level)
{
	return 9 * (level - 1);
}

/* A block of @level around page @index, if the slot has all of it and nothing of it yet. */
static bool alloc_block(struct run *r, struct run_slot *s, uint64_t index, unsigned int level)
{
	uint64_t nr = tpt_level_pages(level), first = index & ~(nr - 1), hpa;

	if (first + nr > s->pages)
		return false;
	for (uint64_t i = first; i < first + nr; i++)
		if (atomic_load(&s->frame[i]))
			return false;
	if (machine_mem_alloc(sim_machine(r->sim), FRAMES_REGION, order_of(level), &hpa))
		return false;
	for (uint64_t i = 0; i < nr; i++) {
		atomic_store(&s->frame[first + i], hpa + i * RUN_PAGE);
		atomic_store(&s->block[first + i], (uint8_t)level);
	}
	return true;
}

static int alloc_frame(struct run *r, struct run_slot *s, uint64_t index)
{
	for (unsigned int level = s->def->page; level >= TPT_LEVEL_4K; level--)
		if (alloc_block(r, s, index, level))
			return 0;
	return -ENOMEM;
}

static void free_frames(struct run *r, struct run_slot *s, uint64_t first, uint64_t nr)
{
	uint64_t whole = tpt_level_pages(s->def->page);
	uint64_t from = first & ~(whole - 1), to = (first + nr + whole - 1) & ~(whole - 1);

	for (uint64_t i = first; i < first + nr; i++) {
		uint64_t hpa = atomic_exchange(&s->frame[i], 0);

		if (hpa && !(hpa & ZERO))
			machine_mem_free(sim_machine(r->sim), hpa, 0);
		atomic_store(&s->filled[i], 0);
	}
	/* What is left of a block is single pages. */
	for (uint64_t i = from; i < to && i < s->pages; i++)
		atomic_store(&s->block[i], TPT_LEVEL_4K);
}

/* The host fills in what the page's first use asks for. */
static void fill(struct run *r, struct run_slot *s, uint64_t index)
{
	uint64_t nr, first;

	if (!s->def->restore || atomic_load(&s->filled[index]))
		return;
	nr = tpt_level_pages(s->def->restore);
	first = index & ~(nr - 1);
	for (uint64_t i = first; i < first + nr && i < s->pages; i++) {
		r->totals.restored += !atomic_load(&s->filled[i]);
		atomic_store(&s->filled[i], 1);
	}
}

/* ---- taking memory back ---- */

void memory_event(void *run, const struct tpt_event *e)
{
	struct run *r = run;

	if (r->trace)
		run_trace_event(r->trace, e);
	/* Inside the exclusive section: one at a time. */
	if (e->kind == TPT_EVENT_ZAP_ALL_FAST)
		r->zaps++;
	/* Leaves: what was one, and is not. The VM's own changes have no vCPU. */
	if (e->vcpu >= 0 || !r->collecting || e->kind != TPT_EVENT_SPTE_CHANGED ||
	    trace_word_class(e->old_spte.w, e->level) != TRACE_WORD_LEAF)
		return;
	if (r->nr_removed == r->room_removed) {
		size_t room = r->room_removed ? 2 * r->room_removed : 64;
		void *p = realloc(r->removed, room * sizeof(*r->removed));

		if (!p)
			return;
		r->removed = p;
		r->room_removed = room;
	}
	r->removed[r->nr_removed++] = (struct run_removed){e->gfn, e->level, e->as_id};
}

/* No cached translation of what was removed may be used from now on. Tables stay. */
static void promise(struct run *r, uint64_t since)
{
	for (size_t i = 0; i < r->nr_removed; i++) {
		const struct run_removed *e = &r->removed[i];

		machine_promise(sim_machine(r->sim), 1 + e->as_id, e->gfn << TPT_PAGE_SHIFT,
				(e->gfn + tpt_level_pages(e->level)) << TPT_PAGE_SHIFT, since,
				"memory taken back by the host");
	}
}

/* With r->memory. */
static int unmap_begin(struct run *r, struct run_slot *s, uint64_t first, uint64_t nr,
		       struct tpt_invalidation *token)
{
	uint64_t since = machine_now(sim_machine(r->sim)), hva = s->hva + first * RUN_PAGE;
	int removed;

	r->nr_removed = 0;
	r->collecting = true;
	removed = tpt_vm_invalidate_begin(sim_vm(r->sim), tpt_hva_make(hva),
					  tpt_hva_make(hva + nr * RUN_PAGE), token);
	r->collecting = false;
	if (removed >= 0)
		promise(r, since);
	return removed;
}

int memory_unmap_begin(struct run *r, struct run_slot *s, uint64_t gpa, uint64_t size, bool drop,
		       struct tpt_invalidation *token)
{
	uint64_t first = (gpa - s->gpa) / RUN_PAGE, nr = size / RUN_PAGE;
	int removed;

	pthread_mutex_lock(&r->memory);
	removed = unmap_begin(r, s, first, nr, token);
	if (removed >= 0 && drop)
		free_frames(r, s, first, nr);
	pthread_mutex_unlock(&r->memory);
	return removed;
}

void memory_unmap_end(struct run *r, struct tpt_invalidation *token)
{
	tpt_vm_invalidate_end(sim_vm(r->sim), token);
}

/* ---- lookups ---- */

/* A write to the zero page: the host copies it, and says so first. With r->memory. */
static int copy_page(struct run *r, struct run_slot *s, uint64_t index)
{
	struct tpt_invalidation token;
	int ret = unmap_begin(r, s, index, 1, &token);

	if (ret < 0)
		return ret;
	atomic_store(&s->frame[index], 0);
	ret = alloc_frame(r, s, index);
	tpt_vm_invalidate_end(sim_vm(r->sim), &token);
	r->totals.cow_copies++;
	return ret;
}

/* With r->memory. */
static int find_frame(struct run *r, struct run_slot *s, uint64_t index, bool write)
{
	uint64_t now = atomic_load(&s->frame[index]);

	if (now & ZERO)
		return write ? copy_page(r, s, index) : 0;
	if (now)
		return 0;
	if (s->def->cow && !write) {
		atomic_store(&s->frame[index], r->zero_page | ZERO);
		r->totals.zero_reads++;
		return 0;
	}
	return alloc_frame(r, s, index);
}

static enum tpt_level host_level(const struct run_slot *s, uint64_t index)
{
	unsigned int block = atomic_load(&s->block[index]);
	unsigned int told = s->def->told ? s->def->told : s->def->page;

	return (enum tpt_level)(block < told ? block : told);
}

static int lookup(void *ctx, const struct tpt_backing_query *q, struct tpt_backing_page *page)
{
	struct run *r = ctx;
	struct run_slot *s = slot_by_id(r, q->slot);
	uint64_t index, frame;
	int err;

	if (!s || q->hva.a < s->hva || q->hva.a - s->hva >= s->pages * RUN_PAGE)
		return -EFAULT;
	index = (q->hva.a - s->hva) / RUN_PAGE;
	pthread_mutex_lock(&r->memory);
	err = find_frame(r, s, index, q->write && !s->def->readonly);
	if (!err)
		fill(r, s, index);
	frame = atomic_load(&s->frame[index]);
	if (!err)
		*page = (struct tpt_backing_page){
			.pfn = tpt_hpa_to_pfn((tpt_hpa){frame & ~ZERO}),
			.writable = !(frame & ZERO),
			.level = frame & ZERO ? TPT_LEVEL_4K : host_level(s, index),
		};
	pthread_mutex_unlock(&r->memory);
	if (!err && r->trace)
		run_trace_requested(r->trace, q->gfn, page->pfn, page->level);
	return err;
}

/* Inside of a section: no lock. */
static enum tpt_level mapping_level(void *ctx, tpt_hva hva, tpt_pfn pfn)
{
	struct run *r = ctx;
	uint64_t n = (hva.a - RUN_HVA_BASE) / RUN_HVA_STRIDE, index;
	struct run_slot *s = n < r->nr_slots ? &r->slots[n] : NULL;

	if (hva.a < RUN_HVA_BASE || !s)
		return TPT_LEVEL_4K;
	index = (hva.a - s->hva) / RUN_PAGE;
	if (index >= s->pages || atomic_load(&s->frame[index]) != tpt_pfn_to_hpa(pfn).a)
		return TPT_LEVEL_4K;
	return host_level(s, index);
}

const struct tpt_backing_ops memory_backing_ops = {
	.size = sizeof(memory_backing_ops),
	.lookup = lookup,
	.mapping_level = mapping_level,
};

/* ---- pages that a table maps and the host never filled ---- */

struct unfilled {
	struct run *r;
	uint64_t pages;
};

static bool count_unfilled(void *ctx, const struct tpt_mapping *m)
{
	struct unfilled *u = ctx;
	struct run_slot *s = memory_slot_at(u->r, m->gfn << TPT_PAGE_SHIFT);
	uint64_t first;

	if (!m->leaf || !s || !s->def->restore)
		return true;
	first = m->gfn - (s->gpa >> TPT_PAGE_SHIFT);
	for (uint64_t i = first; i < first + tpt_level_pages(m->level) && i < s->pages; i++)
		u->pages += !atomic_load(&s->filled[i]);
	return true;
}

uint64_t memory_unfilled(struct run *r)
{
	struct unfilled u = {r, 0};

	tpt_vm_for_each_mapping(sim_vm(r->sim), count_unfilled, &u);
	return u.pages;
}

/* ---- making and freeing ---- */

static int alloc_slot(struct run_slot *s)
{
	size_t words = tpt_dirty_words(s->pages);

	s->frame = calloc(s->pages, sizeof(*s->frame));
	s->block = calloc(s->pages, sizeof(*s->block));
	s->filled = calloc(s->pages, sizeof(*s->filled));
	s->bitmap = calloc(words, sizeof(*s->bitmap));
	s->written = calloc(words, sizeof(*s->written));
	return s->frame && s->block && s->filled && s->bitmap && s->written ? 0 : -ENOMEM;
}

int memory_init(struct run *r)
{
	int err = machine_mem_alloc(sim_machine(r->sim), FRAMES_REGION, 0, &r->zero_page);

	r->by_id = calloc(TPT_MEMSLOT_IDS, sizeof(*r->by_id));
	if (!r->by_id)
		return -ENOMEM;
	for (uint32_t i = 0; !err && i < r->nr_slots; i++) {
		r->by_id[r->slots[i].id] = i + 1;
		err = alloc_slot(&r->slots[i]);
	}
	return err;
}

void memory_end(struct run *r)
{
	for (uint32_t i = 0; i < r->nr_slots; i++) {
		struct run_slot *s = &r->slots[i];

		if (s->frame && s->block && s->filled)
			free_frames(r, s, 0, s->pages);
		free((void *)s->frame);
		free((void *)s->block);
		free((void *)s->filled);
		free(s->bitmap);
		free(s->written);
	}
	if (r->zero_page)
		machine_mem_free(sim_machine(r->sim), r->zero_page, 0);
	r->zero_page = 0;
	free(r->by_id);
	free(r->removed);
	r->by_id = NULL;
	r->removed = NULL;
}
