// SPDX-License-Identifier: BSD-2-Clause
/*
 * The ordinary kinds of VM: the guest on NPT, or on EPT, with two address spaces and one direct
 * tree for each. Makes the access, answers what stands behind a page, and moves the slots; compares
 * nothing.
 */
#include "cli/replay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The recording machines' guests have 48-bit physical addresses at most, and 4-level tables. */
#define GPA_BITS 48
/* Fillers: memslots at the top of the guest's addresses, where no guest has anything. */
#define FILLER_ID  32000u
#define FILLER_GPA ((1ull << GPA_BITS) - (64ull << 12))
/* An MMIO entry holds 19 bits of the generation: no larger one can be recorded. */
#define GENERATION_END (1ull << 19)

struct removed {
	uint64_t gfn;
	uint32_t level, as_id;
};

/* A memslot that logs. */
struct logging {
	const struct slot_def *def;
	uint32_t as_id;
	uint64_t *bitmap; /* as it was read last; NULL: not since the last clear */
};

struct direct {
	struct replay *r;
	struct tpt_backing_ops backing;
	struct logging *logs;
	size_t nr_logs;
	struct replay_fault *fault; /* being made, or NULL */
	bool no_frame;		    /* its lookup found none */
	bool zapped;		    /* its huge leaf was removed inside the lookup */
	int failed;		    /* something inside a lookup ended the replay */
	uint64_t generation[2];	    /* of the memslots, as the library counts it */
	unsigned int fillers;
	/* Leaves that the notifier under way removed. */
	bool in_host;
	struct removed *removed;
	size_t nr_removed, room_removed;
};

/* ---- what stands behind a page ---- */

/* The host's page size, where the user says it. */
static void overrule_level(const struct replay *r, const struct tpt_backing_query *q,
			   struct backing_page *page)
{
	if (r->thp == HOST_OFF)
		page->host_level = TPT_LEVEL_4K;
	else if (r->thp == HOST_ON && !((page->pfn ^ (q->hva.a >> TPT_PAGE_SHIFT)) & 511))
		page->host_level = TPT_LEVEL_2M;
}

/*
 * Linux before 6.2 removes a huge leaf inside the fault that maps a part of it; today's KVM, and
 * our library, split it. What that kernel did on its own is delivered as the host's doing, and the
 * guest tries again.
 */
static int zap_huge(struct direct *d, const struct tpt_backing_query *q)
{
	const struct trace_fault *f = d->fault->recorded;
	const struct trace_event *ev;
	uint64_t start, bytes;
	int removed;

	if (f->zapped == TRACE_NONE || d->zapped)
		return 0;
	ev = &d->r->t->events[f->zapped];
	bytes = tpt_level_pages(ev->level) << TPT_PAGE_SHIFT;
	start = q->hva.a - ((q->gfn - ev->change.gfn) << TPT_PAGE_SHIFT);
	d->zapped = true;
	removed = d->r->ops->host(d->r, start, start + bytes);
	return removed < 0 ? removed : 0;
}

static int lookup(void *ctx, const struct tpt_backing_query *q, struct tpt_backing_page *page)
{
	struct direct *d = ctx;
	struct replay *r = d->r;
	struct replay_fault *f = d->fault;
	int err;

	err = backing_lookup(r->b, f->recorded->event, q->as_id, q->gfn, q->write, &f->page);
	if (err) {
		d->no_frame = true;
		return -EFAULT;
	}
	f->asked = true;
	overrule_level(r, q, &f->page);
	/* A shared page is copied inside the lookup, and the notifier comes from there. */
	if (f->page.inner_unmap != TRACE_NONE)
		d->failed = replay_deliver_host(r, f->page.inner_unmap);
	if (!d->failed)
		d->failed = zap_huge(d, q);
	if (!d->failed)
		d->failed = replay_add_frames(r, f->page.pfn, f->page.host_level);
	if (d->failed)
		return -EFAULT;
	*page = (struct tpt_backing_page){.pfn = tpt_pfn_make(f->page.pfn),
					  .writable = f->page.writable,
					  .level = (enum tpt_level)f->page.host_level};
	return 0;
}

/* What the host maps a page with, for a log that is switched off. */
static enum tpt_level mapping_level(void *ctx, tpt_hva hva, tpt_pfn pfn)
{
	const struct direct *d = ctx;
	const struct slot_table *table = replay_table(d->r);

	(void)pfn;
	for (uint32_t i = 0; table && i < table->nr_slots; i++) {
		const struct slot_def *def = &table->slots[i];
		uint64_t at = hva.a - replay_slot_hva(d->r, def);
		struct backing_page page;
		unsigned int as_id = def->as_mask & 1 ? 0 : 1;

		if (at >= def->end - def->start)
			continue;
		if (backing_lookup(d->r->b, d->r->at, as_id, (def->start + at) >> TPT_PAGE_SHIFT,
				   false, &page))
			return TPT_LEVEL_4K;
		return d->r->thp == HOST_OFF ? TPT_LEVEL_4K : (enum tpt_level)page.host_level;
	}
	return TPT_LEVEL_4K;
}

/* ---- host events ---- */

/* The library's events, on their way to the observers: a notifier's removals are noted. */
static void on_event(void *ctx, const struct tpt_event *e)
{
	struct direct *d = ctx;
	enum trace_word was = trace_word_class(e->old_spte.w, e->level);

	if (d->in_host && e->kind == TPT_EVENT_SPTE_CHANGED && was == TRACE_WORD_LEAF) {
		struct removed *p = d->removed;

		if (d->nr_removed == d->room_removed) {
			d->room_removed = d->room_removed ? 2 * d->room_removed : 16;
			p = realloc(p, d->room_removed * sizeof(*p));
		}
		if (p) {
			p[d->nr_removed++] = (struct removed){e->gfn, e->level, e->as_id};
			d->removed = p;
		} else {
			d->failed = replay_fail(d->r, -ENOMEM, "no memory");
			d->room_removed = d->nr_removed;
		}
	}
	replay_event(d->r, e);
}

/*
 * No cached translation of what was removed may be used once the notifier returned. Tables stay,
 * and so may what is cached of them where nothing was removed.
 */
static void promise(struct replay *r, uint64_t since)
{
	struct direct *d = r->vm;

	for (size_t i = 0; i < d->nr_removed; i++) {
		const struct removed *e = &d->removed[i];

		machine_promise(sim_machine(r->sim), 1 + e->as_id, e->gfn << TPT_PAGE_SHIFT,
				(e->gfn + tpt_level_pages(e->level)) << TPT_PAGE_SHIFT, since,
				"memory taken back by the host");
	}
}

static int direct_host(struct replay *r, uint64_t start, uint64_t end)
{
	struct direct *d = r->vm;
	uint64_t since = machine_now(sim_machine(r->sim));
	int removed;

	/* A notifier's end may lie inside a page. */
	start &= ~0xfffull;
	end = (end + 0xfff) & ~0xfffull;
	d->in_host = true;
	d->nr_removed = 0;
	removed = sim_invalidate(r->sim, start, end);
	d->in_host = false;
	promise(r, since);
	return d->failed ? d->failed : removed;
}

/* ---- the VM ---- */

static uint32_t vm_flags(const struct replay *r)
{
	static const uint32_t modes[] = {
		[DIRTY_MANUAL] = TPT_VM_DIRTY_MANUAL,
		[DIRTY_MANUAL_INITIALLY_SET] = TPT_VM_DIRTY_MANUAL | TPT_VM_DIRTY_INITIALLY_SET,
	};

	bool eager = replay_settings(r).eager == HOST_ON;

	return TPT_VM_SLOT_ZAP_ALL | (eager ? TPT_VM_EAGER_PAGE_SPLIT : 0) | modes[r->dirty->mode];
}

static int set_nx(struct replay *r)
{
	bool on = replay_settings(r).nx == HOST_ON;
	int err = tpt_vm_set_nx_huge_pages(sim_vm(r->sim), on ? TPT_NX_FORCE : TPT_NX_OFF);

	return err ? replay_fail(r, err, "NX huge pages: %s", strerror(-err)) : 0;
}

static int start(struct replay *r, enum tpt_format format)
{
	struct direct *d = calloc(1, sizeof(*d));
	struct sim_config c = {
		.vm = {.format = format,
		       .flags = vm_flags(r),
		       .levels = 4,
		       .maxphyaddr = 48,
		       .guest_maxphyaddr = GPA_BITS,
		       .address_spaces = 2,
		       .max_leaf_level = TPT_LEVEL_1G,
		       .max_private_level = TPT_LEVEL_4K,
		       .backing = d ? &d->backing : NULL,
		       .backing_ctx = d,
		       .event = on_event,
		       .event_ctx = d},
		.nr_vcpus = r->nr_vcpus,
	};
	char why[REPLAY_WHY_LEN];
	int err;

	if (!d)
		return replay_fail(r, -ENOMEM, "no memory");
	d->r = r;
	d->backing = (struct tpt_backing_ops){
		.size = sizeof(d->backing),
		.lookup = lookup,
		.mapping_level = r->dirty->recovers ? mapping_level : NULL,
	};
	/* KVM's: they start at the address space's number. */
	d->generation[1] = 1;
	r->vm = d;
	err = sim_create(&r->sim, &c, why, sizeof(why));
	return err ? replay_fail(r, err, "%s", why) : set_nx(r);
}

static int start_npt(struct replay *r)
{
	return start(r, TPT_FORMAT_NPT);
}

static int start_ept(struct replay *r)
{
	return start(r, TPT_FORMAT_EPT);
}

static void direct_free(struct replay *r)
{
	struct direct *d = r->vm;

	for (size_t i = 0; d && i < d->nr_logs; i++)
		free(d->logs[i].bitmap);
	if (d) {
		free(d->logs);
		free(d->removed);
	}
	free(d);
	r->vm = NULL;
}

/* ---- slots ---- */

static int set_region(struct replay *r, const struct tpt_memory_region *region, const char *what,
		      unsigned int line)
{
	struct direct *d = r->vm;
	int err = sim_set_memory_region(r->sim, region);

	if (err)
		return replay_fail(
			r, err, "slot %u of address space %u (slots file line %u) can't be %s: %s",
			region->slot, region->as_id, line, what, strerror(-err));
	/* Two for a swap of the array; a deletion swaps twice. */
	d->generation[region->as_id] += region->size ? 2 : 4;
	return 0;
}

static struct tpt_memory_region region_of(struct replay *r, const struct slot_def *def,
					  uint32_t as_id)
{
	return (struct tpt_memory_region){
		.as_id = as_id,
		.slot = def->id,
		.flags = def->readonly ? TPT_MEM_READONLY : 0,
		.gpa = tpt_gpa_make(def->start),
		.size = def->end - def->start,
		.hva = tpt_hva_make(replay_slot_hva(r, def)),
	};
}

static struct logging *log_of(struct direct *d, const struct slot_def *def, uint32_t as_id)
{
	for (size_t i = 0; i < d->nr_logs; i++)
		if (d->logs[i].as_id == as_id && slots_same(d->logs[i].def, def))
			return &d->logs[i];
	return NULL;
}

static void forget_log(struct direct *d, struct logging *l)
{
	free(l->bitmap);
	*l = d->logs[--d->nr_logs];
}

static int direct_slot(struct replay *r, const struct replay_slot *s)
{
	struct direct *d = r->vm;
	const struct slot_def *def = s->def;
	struct tpt_memory_region region = region_of(r, def, s->as_id);
	struct logging *l = log_of(d, def, s->as_id);

	if (!s->create)
		region.size = 0;
	if (l)
		forget_log(d, l);
	return set_region(r, &region, s->create ? "created" : "deleted", def->line);
}

/* ---- dirty logs ---- */

static int switch_log(struct replay *r, const struct dirty_call *call)
{
	struct direct *d = r->vm;
	struct tpt_memory_region region = region_of(r, call->def, call->as_id);
	struct logging *l = log_of(d, call->def, call->as_id), *n;
	bool on = call->kind == DIRTY_LOG_ON;

	if (on == (l != NULL))
		return 0;
	if (on) {
		n = realloc(d->logs, (d->nr_logs + 1) * sizeof(*n));
		if (!n)
			return replay_fail(r, -ENOMEM, "no memory");
		d->logs = n;
		n[d->nr_logs++] = (struct logging){call->def, call->as_id, NULL};
		region.flags |= TPT_MEM_LOG_DIRTY;
	} else {
		forget_log(d, l);
	}
	return set_region(r, &region, on ? "logged" : "logged no more", call->def->line);
}

static size_t log_words(const struct slot_def *def)
{
	return tpt_dirty_words((def->end - def->start) >> TPT_PAGE_SHIFT);
}

static int read_log(struct replay *r, const struct dirty_call *call, struct logging *l)
{
	int err;

	if (!l->bitmap)
		l->bitmap = calloc(log_words(call->def) + 1, sizeof(*l->bitmap));
	if (!l->bitmap)
		return replay_fail(r, -ENOMEM, "no memory");
	err = tpt_vm_get_dirty_log(sim_vm(r->sim), call->as_id, call->def->id, l->bitmap);
	return err ? replay_fail(r, err, "slot %u: reading its dirty log: %s", call->def->id,
				 strerror(-err))
		   : 0;
}

/* What was read is cleared once: each range of it takes its own words. */
static int clear_log(struct replay *r, const struct dirty_call *call, struct logging *l)
{
	int err = l->bitmap ? 0 : read_log(r, call, l);

	if (err)
		return err;
	err = tpt_vm_clear_dirty_log(sim_vm(r->sim), call->as_id, call->def->id, call->first,
				     call->npages, l->bitmap + call->first / 64);
	if (!call->more) {
		free(l->bitmap);
		l->bitmap = NULL;
	}
	return err ? replay_fail(r, err, "slot %u: clearing pages %#lx + %#lx of its log: %s",
				 call->def->id, call->first, call->npages, strerror(-err))
		   : 0;
}

/* Tables of small leaves that went when a log ended: what they mapped. */
static int zap_table(struct replay *r, const struct dirty_call *call)
{
	uint64_t start = call->first << TPT_PAGE_SHIFT;
	uint64_t end = (call->first + call->npages) << TPT_PAGE_SHIFT;
	uint64_t hva = replay_slot_hva(r, call->def);
	int removed;

	start = start > call->def->start ? start - call->def->start : 0;
	end = (end < call->def->end ? end : call->def->end) - call->def->start;
	removed = r->ops->host(r, hva + start, hva + end);
	return removed < 0 ? replay_fail(r, removed, "table at gfn %#lx: %s", call->first,
					 strerror(-removed))
			   : 0;
}

/* One table, the oldest. */
static int recover_nx(struct replay *r)
{
	int recovered = tpt_vm_nx_recover(sim_vm(r->sim), UINT32_MAX);

	return recovered < 0 ? replay_fail(r, recovered, "NX recovery: %s", strerror(-recovered))
			     : 0;
}

static int direct_dirty(struct replay *r, const struct dirty_call *call)
{
	struct direct *d = r->vm;
	struct logging *l = log_of(d, call->def, call->as_id);

	switch (call->kind) {
	case DIRTY_LOG_ON:
	case DIRTY_LOG_OFF:
		return switch_log(r, call);
	case DIRTY_ZAP:
		return zap_table(r, call);
	case DIRTY_NX_RECOVER:
		return recover_nx(r);
	case DIRTY_CALLS:
		break;
	case DIRTY_READ:
	case DIRTY_GET:
		return l ? read_log(r, call, l) : 0;
	case DIRTY_CLEAR:
		return l ? clear_log(r, call, l) : 0;
	}
	return 0;
}

/*
 * What a slots file knows, an inferred history doesn't: slots that came and went unseen. MMIO
 * entries carry the generation that they left, so memslots of no other use make it up: one more is
 * 2, one less is 4.
 */
static int make_up(struct replay *r, uint64_t target)
{
	struct direct *d = r->vm;
	int err = 0;

	while (!err && target < GENERATION_END && d->generation[0] + 2 <= target) {
		bool create = !d->fillers || d->generation[0] + 4 > target;
		unsigned int n = create ? d->fillers : d->fillers - 1;
		struct tpt_memory_region region = {
			.slot = FILLER_ID + n,
			.gpa = tpt_gpa_make(FILLER_GPA + ((uint64_t)n << 12)),
			.size = create ? 1 << 12 : 0,
		};

		err = set_region(r, &region, "made", 0);
		d->fillers += create ? 1 : -1u;
		r->counts.fillers++;
	}
	return err;
}

static int direct_slots_done(struct replay *r, const struct slot_table *table)
{
	struct direct *d = r->vm;
	int err = 0;

	if (!table->has_generation)
		return 0;
	if (r->slots_inferred)
		err = make_up(r, table->generation);
	r->counts.generations++;
	r->counts.generations_different += d->generation[0] != table->generation;
	return err;
}

static int direct_zap_all(struct replay *r)
{
	int err = sim_zap_all_fast(r->sim);

	return err ? replay_fail(r, err, "zap-all: %s", strerror(-err)) : 0;
}

/* ---- faults ---- */

/* Would the processor find a translation that lets the access through? Looks, and leaves no trace
 * in TLB or tables. */
static bool is_mapped(struct replay *r, const struct replay_fault *f)
{
	struct tpt_roots roots;
	struct machine_root root = {.tag = 1 + f->recorded->as_id};
	struct machine_walk walk;
	unsigned int needs = f->kind & (MACHINE_READ | MACHINE_WRITE | MACHINE_EXEC);

	if (tpt_vcpu_load_roots(sim_vcpu(r->sim, f->vcpu), &roots))
		return false;
	root.pointer = roots.direct.a;
	root.npt_levels = (uint8_t)roots.levels;
	root.kind = r->ops == &replay_ept_ops ? MACHINE_ROOT_EPT : MACHINE_ROOT_NPT;
	if (root.kind == MACHINE_ROOT_EPT)
		root.pointer = machine_eptp(roots.direct.a, roots.levels, true);
	if (machine_walk(sim_machine(r->sim), &root, f->event->fault.gpa, &walk) || !walk.nr_steps)
		return false;
	return walk.steps[walk.nr_steps - 1].kind == MACHINE_ENTRY_LEAF &&
	       (walk.rights & needs) == needs;
}

static void classify(struct direct *d, struct replay_fault *f)
{
	const struct sim_step *s = &f->step;
	static const uint8_t results[] = {
		[TPT_RET_PF_RETRY] = REPLAY_RETRY,	    [TPT_RET_PF_EMULATE] = REPLAY_MMIO,
		[TPT_RET_PF_WRITE_PROTECTED] = REPLAY_MMIO, [TPT_RET_PF_FIXED] = REPLAY_FIXED,
		[TPT_RET_PF_SPURIOUS] = REPLAY_SPURIOUS,
	};

	if (!s->faulted)
		f->result = s->hw.outcome == MACHINE_OK ? REPLAY_HIT : REPLAY_ERROR;
	else if (s->ret <= 0 || (size_t)s->ret >= sizeof(results))
		f->result = REPLAY_ERROR;
	else
		f->result = (enum replay_result)results[s->ret];
	if (f->result == REPLAY_ERROR && d->no_frame)
		f->skip = REPLAY_SKIP_NO_FRAME;
}

/* Is there an access to make? */
static enum replay_skip reason_to_skip(struct replay *r, const struct replay_fault *f)
{
	if (f->event->fault.gpa >> GPA_BITS)
		return REPLAY_SKIP_BAD_GPA;
	/* Whoever was first had done it by now, or else nobody recorded why it was tried again. */
	if (f->recorded->outcome == TRACE_UNCHANGED && !f->recorded->nr_installs &&
	    !is_mapped(r, f))
		return REPLAY_SKIP_UNDECIDED;
	return REPLAY_SKIP_NONE;
}

/* The guest runs the instruction again, and gets through: that is what a fix is. */
static int run_again(struct replay *r, const struct replay_fault *f)
{
	struct sim_step again;
	int err;

	if (f->result != REPLAY_FIXED && f->result != REPLAY_SPURIOUS)
		return 0;
	err = sim_step(r->sim, f->vcpu, f->event->fault.gpa, f->kind, &again);
	if (err)
		return replay_fail(r, err, "line %u: roots: %s", f->event->line, strerror(-err));
	r->counts.not_fixed += again.hw.outcome != MACHINE_OK;
	return 0;
}

/* What the recorded kernel did within one fault takes two here; the code is the first one's. */
static int try_again(struct replay *r, struct replay_fault *f)
{
	uint64_t code = f->step.hw.error;
	int err = sim_step(r->sim, f->vcpu, f->event->fault.gpa, f->kind, &f->step);

	f->step.hw.error = code;
	return err;
}

static int direct_fault(struct replay *r, struct replay_fault *f)
{
	struct direct *d = r->vm;
	int err = sim_set_address_space(r->sim, f->vcpu, f->recorded->as_id);

	if (err)
		return replay_fail(r, err, "line %u: address space %u: %s", f->event->line,
				   f->recorded->as_id, strerror(-err));
	f->skip = reason_to_skip(r, f);
	if (f->skip != REPLAY_SKIP_NONE) {
		f->result = REPLAY_SKIPPED;
		return 0;
	}
	d->fault = f;
	d->no_frame = false;
	d->zapped = false;
	err = sim_step(r->sim, f->vcpu, f->event->fault.gpa, f->kind, &f->step);
	if (!err && !d->failed && d->zapped)
		err = try_again(r, f);
	if (d->failed)
		return d->failed;
	if (err)
		return replay_fail(r, err, "line %u: roots: %s", f->event->line, strerror(-err));
	if (f->step.faulted)
		f->exit = *tpt_vcpu_exit(sim_vcpu(r->sim, f->vcpu));
	classify(d, f);
	err = run_again(r, f);
	d->fault = NULL;
	return err;
}

const struct replay_vm_ops replay_npt_ops = {
	.name = "npt",
	.comparable = true,
	.address_spaces = 2,
	.start = start_npt,
	.slot = direct_slot,
	.slots_done = direct_slots_done,
	.zap_all = direct_zap_all,
	.dirty = direct_dirty,
	.fault = direct_fault,
	.host = direct_host,
	.free = direct_free,
};

const struct replay_vm_ops replay_ept_ops = {
	.name = "ept",
	.address_spaces = 2,
	.start = start_ept,
	.slot = direct_slot,
	.slots_done = direct_slots_done,
	.zap_all = direct_zap_all,
	.dirty = direct_dirty,
	.fault = direct_fault,
	.host = direct_host,
	.free = direct_free,
};
