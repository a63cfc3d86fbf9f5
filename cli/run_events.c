// SPDX-License-Identifier: BSD-2-Clause
/* A scenario's timed events: what the host, or the guest's conversions, do between accesses. Each
 * is a call of the library's; what comes of it is counted and not judged. */
#include "cli/run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <triptych/aging.h>

#include "cli/td_internal.h"

/* Times that an operation is called again while external calls stay busy. */
#define BUSY_TRIES 100

static struct run_slot *slot_of(struct run *r, uint32_t id)
{
	for (uint32_t i = 0; i < r->nr_slots; i++)
		if (r->slots[i].id == id)
			return &r->slots[i];
	return NULL;
}

static int failed(struct run *r, const struct run_event *e, int err, const char *what)
{
	if (err == -EBUSY)
		r->totals.busy++;
	if (inject_hits(r->inject)) {
		if (!r->totals.failed++)
			snprintf(r->failed_text, sizeof(r->failed_text), "line %u: %s: %s", e->line,
				 what, strerror(-err));
		return 0;
	}
	return run_fail(r, err, "line %u: %s: %s", e->line, what, strerror(-err));
}

/* The part of the area that this time is for. */
static struct run_area piece_of(struct run *r, const struct run_event *e)
{
	uint32_t n = (uint32_t)(e - r->sc->events);
	struct run_area a = e->area;
	uint64_t which;

	if (!e->piece)
		return a;
	which = e->walking ? r->place[n].position++ : run_random(&r->place[n].random);
	a.start += which % (a.size / e->piece) * e->piece;
	a.size = e->piece;
	return a;
}

/* The part of the area that the slot has; false: none. */
static bool slot_part(const struct run_slot *s, const struct run_area *a, struct run_area *part)
{
	uint64_t top = s->gpa + s->pages * RUN_PAGE, end = a->start + a->size;

	if (!s->there || s->gpa >= end || top <= a->start)
		return false;
	part->start = a->start > s->gpa ? a->start : s->gpa;
	part->size = (end < top ? end : top) - part->start;
	return true;
}

static uint64_t count_bits(const uint64_t *bitmap, size_t words)
{
	uint64_t n = 0;

	for (size_t i = 0; i < words; i++)
		n += (uint64_t)__builtin_popcountll(bitmap[i]);
	return n;
}

/* ---- slots ---- */

static struct tpt_memory_region region_of(const struct run_slot *s, uint64_t gpa)
{
	return (struct tpt_memory_region){
		.slot = s->id,
		.flags = (s->def->readonly ? TPT_MEM_READONLY : 0) |
			 (s->logging ? TPT_MEM_LOG_DIRTY : 0),
		.gpa = tpt_gpa_make(gpa),
		.size = s->pages * RUN_PAGE,
		.hva = tpt_hva_make(s->hva),
	};
}

int events_create_slot(struct run *r, struct run_slot *s, uint64_t gpa)
{
	struct tpt_memory_region region = region_of(s, gpa);
	int err = sim_set_memory_region(r->sim, &region);

	if (err)
		return err;
	s->gpa = gpa;
	s->there = true;
	return run_slots_note(r);
}

static int create_slot(struct run *r, const struct run_event *e)
{
	struct run_slot *s = slot_of(r, e->slot);
	int err;

	if (s->there)
		return run_fail(r, -EEXIST, "line %u: slot %u is there already", e->line, s->id);
	s->logging = s->def->log;
	memset(s->written, 0, tpt_dirty_words(s->pages) * sizeof(*s->written));
	err = events_create_slot(r, s, s->gpa);
	return err ? failed(r, e, err, "slot create") : 0;
}

static int delete_slot(struct run *r, const struct run_event *e)
{
	struct run_slot *s = slot_of(r, e->slot);
	struct tpt_memory_region region = {.slot = s->id};
	int err = s->there ? -EBUSY : -ENOENT;

	for (unsigned int i = 0; err == -EBUSY && i < BUSY_TRIES; i++)
		err = sim_set_memory_region(r->sim, &region);
	if (err)
		return failed(r, e, err, "slot delete");
	s->there = false;
	return run_slots_note(r);
}

static int move_slot(struct run *r, const struct run_event *e)
{
	struct run_slot *s = slot_of(r, e->slot);
	int err = s->there ? events_create_slot(r, s, e->to) : -ENOENT;

	return err ? failed(r, e, err, "slot move") : 0;
}

/* ---- dirty logs ---- */

static int switch_log(struct run *r, const struct run_event *e)
{
	struct run_slot *s = slot_of(r, e->slot);
	bool on = e->kind == RUN_EVENT_LOG_ON;
	int err;

	if (!s->there || s->logging == on)
		return failed(r, e, -EINVAL, "log: the slot is not there, or nothing changes");
	s->logging = on;
	/* Writes from here on must be found. */
	if (on)
		memset(s->written, 0, tpt_dirty_words(s->pages) * sizeof(*s->written));
	err = events_create_slot(r, s, s->gpa);
	return err ? failed(r, e, err, on ? "log on" : "log off") : 0;
}

/* Pages that the guest wrote and the log does not have. */
static uint64_t missed(struct run *r, const struct run_slot *s, size_t words)
{
	uint64_t n = 0;

	/* With threads a write may be seen by one and not yet by the other. */
	for (size_t i = 0; i < words && !r->sc->threads; i++)
		n += (uint64_t)__builtin_popcountll(s->written[i] & ~s->bitmap[i]);
	return n;
}

static int get_log(struct run *r, const struct run_event *e)
{
	struct run_slot *s = slot_of(r, e->slot);
	size_t words = tpt_dirty_words(s->pages);
	int err = tpt_vm_get_dirty_log(sim_vm(r->sim), 0, s->id, s->bitmap);

	if (err)
		return failed(r, e, err, "log get");
	r->totals.dirty += count_bits(s->bitmap, words);
	r->totals.dirty_missed += missed(r, s, words);
	if (!(r->sc->vm.flags & TPT_VM_DIRTY_MANUAL))
		memset(s->written, 0, words * sizeof(*s->written));
	return 0;
}

static int clear_log(struct run *r, const struct run_event *e)
{
	struct run_slot *s = slot_of(r, e->slot);
	size_t words = tpt_dirty_words(s->pages);
	int err = tpt_vm_clear_dirty_log(sim_vm(r->sim), 0, s->id, 0, s->pages, s->bitmap);

	if (err)
		return failed(r, e, err, "log clear");
	for (size_t i = 0; i < words; i++) {
		r->totals.copied += (uint64_t)__builtin_popcountll(s->bitmap[i]);
		s->written[i] &= ~s->bitmap[i];
	}
	return 0;
}

/* ---- dirty rings ---- */

#define COLLECT 256

/* Entries that were collected: their pages are copied after the reset. */
static void found(struct run *r, const struct tpt_dirty_gfn *gfns, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++) {
		struct run_slot *s = slot_of(r, gfns[i].slot);
		uint64_t page = gfns[i].offset;

		r->totals.ring_entries++;
		if (s && page < s->pages && !r->sc->threads)
			s->written[page / 64] &= ~(1ull << (page % 64));
	}
}

int events_drain_rings(struct run *r)
{
	struct tpt_dirty_gfn gfns[COLLECT];
	int64_t reset;

	pthread_mutex_lock(&r->ring);
	for (unsigned int i = 0; i < r->sc->vm.vcpus; i++) {
		uint32_t nr;

		while ((nr = tpt_vcpu_dirty_ring_collect(sim_vcpu(r->sim, i), gfns, COLLECT)))
			found(r, gfns, nr);
	}
	reset = tpt_vm_reset_dirty_rings(sim_vm(r->sim));
	if (reset > 0)
		r->totals.ring_reset += (uint64_t)reset;
	pthread_mutex_unlock(&r->ring);
	return reset < 0 ? (int)reset : 0;
}

int events_last_log(struct run *r)
{
	int err = 0;

	if (!(r->sc->vm.flags & TPT_VM_DIRTY_RING))
		return 0;
	/* Processors hand over what they logged, and the bitmap has what no ring had room for. */
	for (uint32_t i = 0; !err && i < r->nr_slots; i++) {
		struct run_slot *s = &r->slots[i];

		if (s->there && s->logging)
			err = tpt_vm_get_dirty_log(sim_vm(r->sim), 0, s->id, s->bitmap);
	}
	if (!err)
		err = events_drain_rings(r);
	for (uint32_t i = 0; !err && i < r->nr_slots; i++)
		if (r->slots[i].there && r->slots[i].logging)
			r->totals.dirty_missed +=
				missed(r, &r->slots[i], tpt_dirty_words(r->slots[i].pages));
	return err;
}

/* ---- NX huge pages ---- */

static int nx_mode(struct run *r, const struct run_event *e)
{
	int err = tpt_vm_set_nx_huge_pages(sim_vm(r->sim), e->mode);

	return err ? failed(r, e, err, "nx") : 0;
}

static int nx_recover(struct run *r, const struct run_event *e)
{
	int n = tpt_vm_nx_recover(sim_vm(r->sim), e->ratio);

	if (n < 0)
		return failed(r, e, n, "nx recover");
	r->totals.nx_recovered += (uint64_t)n;
	return 0;
}

/* ---- the host takes memory back ---- */

static struct run_pending *free_pending(struct run *r)
{
	for (unsigned int i = 0; i < RUN_MAX; i++)
		if (!r->pending[i].used)
			return &r->pending[i];
	return NULL;
}

static int unmap_part(struct run *r, const struct run_event *e, uint64_t step, struct run_slot *s,
		      const struct run_area *a)
{
	struct run_pending *p = free_pending(r);
	int removed;

	if (!p)
		return run_fail(r, -ENOSPC, "line %u: more than %d invalidations at one time",
				e->line, RUN_MAX);
	removed = memory_unmap_begin(r, s, a->start, a->size, e->drop, &p->token);
	if (removed < 0)
		return failed(r, e, removed, "unmap");
	r->totals.unmapped += (uint64_t)removed;
	p->used = e->lasts;
	p->end = step + e->lasts;
	if (!p->used)
		memory_unmap_end(r, &p->token);
	return 0;
}

static int unmap(struct run *r, const struct run_event *e, uint64_t step)
{
	struct run_area a = piece_of(r, e), part;
	int err = 0;

	for (uint32_t i = 0; !err && i < r->nr_slots; i++)
		if (slot_part(&r->slots[i], &a, &part))
			err = unmap_part(r, e, step, &r->slots[i], &part);
	return err;
}

static void end_pending(struct run *r, uint64_t step)
{
	for (unsigned int i = 0; i < RUN_MAX; i++) {
		struct run_pending *p = &r->pending[i];

		if (!p->used || p->end > step)
			continue;
		memory_unmap_end(r, &p->token);
		p->used = false;
	}
}

void events_end(struct run *r)
{
	end_pending(r, UINT64_MAX);
}

/* ---- aging, and mapping ahead ---- */

static int age_part(struct run *r, const struct run_event *e, const struct run_slot *s,
		    const struct run_area *a)
{
	tpt_hva start = tpt_hva_make(s->hva + (a->start - s->gpa));
	tpt_hva end = tpt_hva_make(start.a + a->size);
	size_t words = tpt_age_words(start, end);
	uint64_t *young = calloc(words, sizeof(*young));
	int ret;

	if (!young)
		return run_fail(r, -ENOMEM, "no memory");
	ret = e->kind == RUN_EVENT_AGE ? tpt_vm_age(sim_vm(r->sim), start, end, young)
				       : tpt_vm_test_age(sim_vm(r->sim), start, end, young);
	r->totals.young += count_bits(young, words);
	free(young);
	return ret < 0 ? failed(r, e, ret, "age") : 0;
}

static int age(struct run *r, const struct run_event *e)
{
	struct run_area a = piece_of(r, e), part;
	int err = 0;

	for (uint32_t i = 0; !err && i < r->nr_slots; i++)
		if (slot_part(&r->slots[i], &a, &part))
			err = age_part(r, e, &r->slots[i], &part);
	return err;
}

static int map_ahead(struct run *r, const struct run_event *e)
{
	struct tpt_vcpu *vcpu = sim_vcpu(r->sim, e->vcpu);
	uint32_t access = TPT_ACC_READ | (e->write ? TPT_ACC_WRITE : 0);
	struct run_area a = piece_of(r, e);
	uint64_t done = 0;
	int err;

	if (e->kind == RUN_EVENT_PREFAULT) {
		err = tpt_vcpu_prefault(vcpu, tpt_gpa_make(a.start), a.size, &done);
		done /= RUN_PAGE;
	} else {
		err = tpt_vcpu_premap(vcpu, a.start / RUN_PAGE, a.size / RUN_PAGE, access, &done);
	}
	r->totals.prefaulted += done;
	return err ? failed(r, e, err, "prefault") : 0;
}

/* ---- private memory ---- */

static int convert(struct run *r, const struct run_event *e)
{
	struct run_area a = piece_of(r, e);
	bool private_ = e->kind == RUN_EVENT_CONVERT_PRIVATE;
	int err = simtd_guest_map_gpa(r->td, e->vcpu, a.start, a.size, private_);

	if (err)
		return failed(r, e, err, "convert");
	if (e->accept)
		err = simtd_guest_accept(r->td, e->vcpu, a.start, a.size);
	if (err)
		return failed(r, e, err, "accept");
	for (uint64_t at = a.start; at < a.start + a.size; at += RUN_PAGE) {
		struct run_slot *s = memory_slot_at(r, at);

		atomic_store(&s->shared[(at - s->gpa) / RUN_PAGE], !private_);
	}
	return 0;
}

static int punch(struct run *r, const struct run_event *e)
{
	struct run_area a = piece_of(r, e);
	struct simtd_slot *s = simtd_find_slot(r->td, a.start, a.size);
	int err = s ? -EBUSY : -ENOENT;

	for (unsigned int i = 0; err == -EBUSY && i < BUSY_TRIES; i++)
		err = tpt_gmem_punch_hole(s->gmem, a.start - s->gpa, a.size);
	return err ? failed(r, e, err, "punch") : 0;
}

/* ---- further TDs ---- */

static int create_tds(struct run *r, const struct run_event *e)
{
	int err = 0;

	for (uint32_t i = 0; !err && i < e->nr; i++) {
		err = simtd_add_other(r->td);
		r->totals.tds += !err;
		if (err == -ENOSPC) {
			r->totals.tds_refused++;
			err = 0;
		}
	}
	return err ? failed(r, e, err, "tds create") : 0;
}

static int end_tds(struct run *r, const struct run_event *e)
{
	int err = 0;

	for (uint32_t i = 0; !err && i < e->nr; i++)
		err = simtd_end_other(r->td);
	return err ? failed(r, e, err, "tds end") : 0;
}

/* ---- all of them ---- */

static int audit(struct run *r, const struct run_event *e)
{
	char text[RUN_WHY_LEN];
	int faults = tpt_vm_audit(run_vm(r), text, sizeof(text));

	if (faults && !r->audit)
		snprintf(r->audit_text, sizeof(r->audit_text), "line %u: %.200s", e->line, text);
	r->audit += faults;
	return 0;
}

static int phase(struct run *r, const struct run_event *e, uint64_t step)
{
	struct run_phase *p = &r->phases[r->nr_phases++];

	*p = (struct run_phase){.name = e->text, .step = step};
	run_snap(r, &p->at);
	return 0;
}

static int do_event(struct run *r, const struct run_event *e, uint64_t step)
{
	r->totals.times[e->kind]++;
	switch (e->kind) {
	case RUN_EVENT_PHASE:
		return phase(r, e, step);
	case RUN_EVENT_SLOT_CREATE:
		return create_slot(r, e);
	case RUN_EVENT_SLOT_DELETE:
		return delete_slot(r, e);
	case RUN_EVENT_SLOT_MOVE:
		return move_slot(r, e);
	case RUN_EVENT_LOG_ON:
	case RUN_EVENT_LOG_OFF:
		return switch_log(r, e);
	case RUN_EVENT_LOG_GET:
		return get_log(r, e);
	case RUN_EVENT_LOG_CLEAR:
		return clear_log(r, e);
	case RUN_EVENT_UNMAP:
		return unmap(r, e, step);
	case RUN_EVENT_CONVERT_PRIVATE:
	case RUN_EVENT_CONVERT_SHARED:
		return convert(r, e);
	case RUN_EVENT_PUNCH:
		return punch(r, e);
	case RUN_EVENT_ZAP_ALL:
		return sim_zap_all_fast(r->sim);
	case RUN_EVENT_AGE:
	case RUN_EVENT_TEST_AGE:
		return age(r, e);
	case RUN_EVENT_PREFAULT:
	case RUN_EVENT_PREMAP:
		return map_ahead(r, e);
	case RUN_EVENT_NX_MODE:
		return nx_mode(r, e);
	case RUN_EVENT_NX_RECOVER:
		return nx_recover(r, e);
	case RUN_EVENT_RING_DRAIN:
		return events_drain_rings(r);
	case RUN_EVENT_AUDIT:
		return audit(r, e);
	case RUN_EVENT_KILL:
		r->killed = true;
		return 0;
	case RUN_EVENT_KICK:
		simtd_kick(r->td);
		return 0;
	case RUN_EVENT_NAME:
	case RUN_EVENT_SEAMCALL:
	case RUN_EVENT_TDCALL:
	case RUN_EVENT_TOUCH:
		return raw_event(r, e);
	case RUN_EVENT_TDS_CREATE:
		return create_tds(r, e);
	case RUN_EVENT_TDS_END:
		return end_tds(r, e);
	case RUN_EVENT_KINDS:
		break;
	}
	return 0;
}

static bool due(const struct run_event *e, uint64_t step)
{
	if (e->finally || step < e->first || step > e->last)
		return false;
	return e->period ? !((step - e->first) % e->period) : step == e->first;
}

int events_at(struct run *r, uint64_t step)
{
	int err = 0;

	end_pending(r, step);
	for (uint32_t i = 0; !err && !r->killed && i < r->sc->nr_events; i++)
		if (due(&r->sc->events[i], step))
			err = do_event(r, &r->sc->events[i], step);
	return err;
}

int events_finally(struct run *r)
{
	int err = 0;

	for (uint32_t i = 0; !err && i < r->sc->nr_events; i++)
		if (r->sc->events[i].finally)
			err = do_event(r, &r->sc->events[i], r->sc->steps);
	return err;
}
