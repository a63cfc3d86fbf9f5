// SPDX-License-Identifier: BSD-2-Clause
/*
 * The driver: a trace's faults, slots and host events, each at its moment. Makes no access and
 * decides no outcome: that is the VM kind's and the library's.
 */
#include "cli/replay.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* Faults between two calls of the progress function. */
#define PROGRESS_STEP 256

struct replay_driver {
	/* Schedule: faults that are made right before event i, a chain from due[i]. */
	uint32_t *due;	   /* one an event, and one for the end: fault + 1, 0: none */
	uint32_t *next;	   /* one a fault */
	bool *delivered;   /* one an event: a notifier event that came already */
	int32_t *vcpu_ids; /* by dense index */
	/* Slots. */
	uint32_t zaps;	  /* zap-alls passed */
	uint32_t table;	  /* index of the table in force; TRACE_NONE: none yet */
	uint32_t calls;	  /* of the dirty plan, made */
	uint32_t deleted; /* deletions done on the way to the next table */
};

/* ---- small things ---- */

int replay_fail(struct replay *r, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(r->why, sizeof(r->why), format, args);
	va_end(args);
	return err;
}

bool replay_observe(struct replay *r, const struct replay_observer *observer)
{
	if (r->nr_observers == REPLAY_MAX_OBSERVERS)
		return false;
	r->observers[r->nr_observers++] = *observer;
	return true;
}

/* Calls one function of every observer that has it. */
#define TELL(r, call, ...)                                                                         \
	do {                                                                                       \
		for (unsigned int o_ = 0; o_ < (r)->nr_observers; o_++)                            \
			if ((r)->observers[o_].call)                                               \
				(r)->observers[o_].call((r)->observers[o_].ctx, r, ##__VA_ARGS__); \
	} while (0)

void replay_event(void *replay, const struct tpt_event *event)
{
	struct replay *r = replay;

	TELL(r, event, event);
}

struct replay_moment replay_now(const struct replay *r)
{
	const struct trace *t = r->t;
	uint32_t i = r->at < t->nr_events ? r->at : t->nr_events - 1;

	if (!t->nr_events)
		return (struct replay_moment){0, 0};
	return (struct replay_moment){t->events[i].line, t->events[i].time_us};
}

static enum host_setting decide(enum host_setting said, enum host_setting shown,
				enum host_setting otherwise, const char **source)
{
	*source = said != HOST_UNKNOWN ? "said" : shown != HOST_UNKNOWN ? "trace" : "default";
	return said != HOST_UNKNOWN ? said : shown != HOST_UNKNOWN ? shown : otherwise;
}

struct replay_settings replay_settings(const struct replay *r)
{
	struct replay_settings s;

	s.eager = decide(r->eager, r->dirty->eager, HOST_ON, &s.eager_source);
	s.nx = decide(r->nx, r->dirty->nx, HOST_OFF, &s.nx_source);
	s.thp = decide(r->thp, r->dirty->huge, HOST_OFF, &s.thp_source);
	return s;
}

const struct slot_table *replay_table(const struct replay *r)
{
	return r->driver->table == TRACE_NONE ? NULL : &r->h->tables[r->driver->table];
}

uint64_t replay_slot_hva(const struct replay *r, const struct slot_def *def)
{
	return backing_region_hva(r->b, def->region, NULL) + def->offset;
}

static int add_page(struct replay *r, uint64_t hpa)
{
	struct machine *m = sim_machine(r->sim);
	int err = machine_mem_in_use(m, hpa) ? 0 : machine_mem_add(m, hpa, 0);

	if (err)
		return replay_fail(r, err, "frame %#lx of the trace: %s", hpa >> 12,
				   strerror(-err));
	r->counts.frames++;
	return 0;
}

int replay_add_frames(struct replay *r, uint64_t pfn, unsigned int level)
{
	struct machine *m = sim_machine(r->sim);
	uint64_t pages = tpt_level_pages(level), first = pfn & ~(pages - 1);
	int err = 0;

	if (machine_mem_in_use(m, pfn << 12) && level == 1)
		return 0;
	if (level > 1 && !machine_mem_add(m, first << 12, 9 * (level - 1))) {
		r->counts.frames += pages;
		return 0;
	}
	for (uint64_t i = 0; !err && i < pages; i++)
		if (!machine_mem_in_use(m, (first + i) << 12))
			err = add_page(r, (first + i) << 12);
	return err;
}

/* ---- schedule ---- */

/*
 * When is a fault made? At the moment its first word was recorded: another vCPU's fault may stand
 * between its own line and that, and linked tables first. A fault whose backing was copied: when
 * the copy's notifier came. One that
 * the fast path answered: when it did. One with no answer at all ends before its task's next fault.
 */
static uint32_t moment_of(const struct trace *t, const struct trace_fault *f, uint32_t next)
{
	if (f->nr_installs)
		return t->installs[f->first];
	if (f->inner_unmap != TRACE_NONE)
		return f->inner_unmap;
	if (f->outcome == TRACE_FAST_FIXED || f->outcome == TRACE_FAST_SPURIOUS)
		return f->fast;
	if (f->outcome == TRACE_UNCHANGED)
		return next;
	return f->event;
}

/* Fills next_of[fault]: event of the same task's next fault, or the number of events. */
static int find_next(const struct trace *t, uint32_t *next_of)
{
	struct {
		int32_t pid;
		uint32_t event;
	} *tasks = NULL;
	size_t nr = 0, i;

	for (uint32_t n = t->nr_faults; n--;) {
		const struct trace_event *ev = &t->events[t->faults[n].event];

		for (i = 0; i < nr && tasks[i].pid != ev->pid; i++)
			;
		if (i == nr) {
			void *p = realloc(tasks, (nr + 1) * sizeof(*tasks));

			if (!p) {
				free(tasks);
				return -ENOMEM;
			}
			tasks = p;
			tasks[nr].pid = ev->pid;
			tasks[nr++].event = t->nr_events;
		}
		next_of[n] = tasks[i].event;
		tasks[i].event = t->faults[n].event;
	}
	free(tasks);
	return 0;
}

static int make_schedule(struct replay *r)
{
	const struct trace *t = r->t;
	struct replay_driver *d = r->driver;
	uint32_t *next_of = malloc(((size_t)t->nr_faults + 1) * sizeof(*next_of));
	int err = next_of ? find_next(t, next_of) : -ENOMEM;

	/* From the last to the first, so that each chain is in the order of the trace. */
	for (uint32_t n = t->nr_faults; !err && n--;) {
		uint32_t *head = &d->due[moment_of(t, &t->faults[n], next_of[n])];

		d->next[n] = *head;
		*head = n + 1;
	}
	free(next_of);
	return err;
}

/* The dense index of a vCPU; traces of old kernels have tasks only. */
static int vcpu_of(struct replay *r, const struct trace_event *ev, unsigned int *vcpu)
{
	int32_t id = ev->fault.vcpu >= 0 ? ev->fault.vcpu : ev->pid;

	for (*vcpu = 0; *vcpu < r->nr_vcpus; (*vcpu)++)
		if (r->driver->vcpu_ids[*vcpu] == id)
			return 0;
	if (r->nr_vcpus == SIM_MAX_VCPUS)
		return replay_fail(r, -E2BIG,
				   "line %u: vCPU %d is one more than the %d there can be",
				   ev->line, id, SIM_MAX_VCPUS);
	r->driver->vcpu_ids[r->nr_vcpus++] = id;
	return 0;
}

static int find_vcpus(struct replay *r)
{
	unsigned int vcpu;
	int err = 0;

	for (uint32_t n = 0; !err && n < r->t->nr_faults; n++)
		err = vcpu_of(r, &r->t->events[r->t->faults[n].event], &vcpu);
	if (!r->nr_vcpus)
		r->nr_vcpus = 1;
	return err;
}

static int make_driver(struct replay *r)
{
	struct replay_driver *d = calloc(1, sizeof(*d));
	size_t events = (size_t)r->t->nr_events + 1;

	if (!d)
		return replay_fail(r, -ENOMEM, "no memory");
	r->driver = d;
	d->table = TRACE_NONE;
	d->due = calloc(events, sizeof(*d->due));
	d->delivered = calloc(events, sizeof(*d->delivered));
	d->next = calloc((size_t)r->t->nr_faults + 1, sizeof(*d->next));
	d->vcpu_ids = calloc(SIM_MAX_VCPUS, sizeof(*d->vcpu_ids));
	if (!d->due || !d->delivered || !d->next || !d->vcpu_ids || make_schedule(r))
		return replay_fail(r, -ENOMEM, "no memory");
	return find_vcpus(r);
}

static void free_driver(struct replay *r)
{
	if (!r->driver)
		return;
	free(r->driver->due);
	free(r->driver->next);
	free(r->driver->delivered);
	free(r->driver->vcpu_ids);
	free(r->driver);
	r->driver = NULL;
}

/* ---- slots ---- */

static int change_slot(struct replay *r, const struct slot_def *def, uint32_t as_id, bool create)
{
	struct replay_slot slot = {create, as_id, def, replay_slot_hva(r, def)};
	int err = r->ops->slot(r, &slot);

	if (err)
		return err;
	if (create)
		r->counts.slots_created++;
	else
		r->counts.slots_deleted++;
	TELL(r, slot, &slot);
	return 0;
}

/* Is the slot in @t too, in address space @as_id? */
static bool is_in(const struct slot_table *t, const struct slot_def *def)
{
	for (uint32_t i = 0; t && i < t->nr_slots; i++)
		if (slots_same(&t->slots[i], def))
			return true;
	return false;
}

/* Slot @n, in the order in which a VMM goes through them: address space 0 first. NULL: no more. */
static const struct slot_def *nth_gone(const struct replay *r, const struct slot_table *from,
				       const struct slot_table *to, uint32_t n, uint32_t *as_id)
{
	for (*as_id = 0; *as_id < r->ops->address_spaces; (*as_id)++)
		for (uint32_t i = 0; from && i < from->nr_slots; i++)
			if (from->slots[i].as_mask & 1u << *as_id && !is_in(to, &from->slots[i]) &&
			    !n--)
				return &from->slots[i];
	return NULL;
}

static uint32_t count_gone(const struct replay *r, const struct slot_table *from,
			   const struct slot_table *to)
{
	uint32_t as_id, n = 0;

	while (nth_gone(r, from, to, n, &as_id))
		n++;
	return n;
}

static int create_slots(struct replay *r, const struct slot_table *from,
			const struct slot_table *to)
{
	uint32_t as_id;
	int err = 0;

	for (uint32_t n = 0; !err; n++) {
		const struct slot_def *def = nth_gone(r, to, from, n, &as_id);

		if (!def)
			break;
		err = change_slot(r, def, as_id, true);
	}
	return err;
}

/* The table after @d->table, or NULL. */
static const struct slot_table *next_table(const struct replay *r)
{
	uint32_t next = r->driver->table == TRACE_NONE ? 0 : r->driver->table + 1;

	return next < r->h->nr_tables ? &r->h->tables[next] : NULL;
}

static int enter_table(struct replay *r, const struct slot_table *to)
{
	struct replay_driver *d = r->driver;
	int err = create_slots(r, replay_table(r), to);

	if (err)
		return err;
	d->table = (uint32_t)(to - r->h->tables);
	d->deleted = 0;
	return r->ops->slots_done ? r->ops->slots_done(r, to) : 0;
}

/*
 * A recorded zap-all: one deletion on the way to the next table, and at the last zap before it all
 * that are left, and the creations. A zap that no deletion explains is one by itself.
 */
static int zap_all(struct replay *r)
{
	struct replay_driver *d = r->driver;
	const struct slot_table *from = replay_table(r), *to = next_table(r);
	uint32_t gone = to ? count_gone(r, from, to) : 0, deletes = 0, as_id;
	bool last = to && d->zaps + 1 == to->after;
	int err = 0;

	r->counts.zaps++;
	d->zaps++;
	while (!err && d->deleted < gone && (!deletes || last)) {
		const struct slot_def *def = nth_gone(r, from, to, d->deleted++, &as_id);

		err = change_slot(r, def, as_id, false);
		r->counts.deletes_without_zap += deletes++ > 0;
	}
	if (!err && !deletes) {
		r->counts.zaps_without_delete++;
		err = r->ops->zap_all(r);
	}
	return !err && last ? enter_table(r, to) : err;
}

/* ---- events ---- */

static enum replay_access access_of(uint64_t code)
{
	/* NPF error code: APM vol. 2, 15.25.6. */
	if (code & 1ull << 33)
		return REPLAY_GUEST_WALK;
	if (code & 1 << 4)
		return REPLAY_FETCH;
	return code & 1 << 1 ? REPLAY_WRITE : REPLAY_READ;
}

static unsigned int machine_kind_of(uint64_t code)
{
	static const unsigned int kinds[REPLAY_ACCESSES] = {
		[REPLAY_READ] = MACHINE_READ,
		[REPLAY_WRITE] = MACHINE_WRITE,
		[REPLAY_FETCH] = MACHINE_EXEC,
		[REPLAY_GUEST_WALK] = MACHINE_READ | MACHINE_GUEST_WALK,
	};
	enum replay_access access = access_of(code);

	if (access == REPLAY_GUEST_WALK && code & 1 << 1)
		return MACHINE_WRITE | MACHINE_GUEST_WALK;
	return kinds[access];
}

static int make_fault(struct replay *r, uint32_t n)
{
	struct replay_fault f = {.recorded = &r->t->faults[n]};
	int err;

	f.event = &r->t->events[f.recorded->event];
	f.access = access_of(f.event->fault.error_code);
	f.kind = machine_kind_of(f.event->fault.error_code);
	err = vcpu_of(r, f.event, &f.vcpu);
	if (err)
		return err;
	r->fault = &f;
	TELL(r, fault_begin, &f);
	if (f.recorded->as_id >= r->ops->address_spaces) {
		f.result = REPLAY_SKIPPED;
		f.skip = REPLAY_SKIP_BAD_AS;
	} else {
		err = r->ops->fault(r, &f);
	}
	r->counts.faults++;
	r->counts.results[f.access][f.result]++;
	r->counts.skips[f.skip]++;
	if (f.asked)
		r->counts.frame_sources[f.page.frame]++;
	TELL(r, fault_end, &f);
	r->fault = NULL;
	return err;
}

int replay_deliver_host(struct replay *r, uint32_t i)
{
	const struct trace_event *ev = &r->t->events[i];
	int removed;

	if (ev->kind != TRACE_UNMAP_HVA || r->driver->delivered[i])
		return 0;
	r->driver->delivered[i] = true;
	removed = r->ops->host(r, ev->hva.start, ev->hva.end);
	if (removed < 0)
		return replay_fail(r, removed, "line %u: notifier range [%#lx, %#lx): %s", ev->line,
				   ev->hva.start, ev->hva.end, strerror(-removed));
	r->counts.host_events++;
	r->counts.host_removed += (unsigned int)removed;
	TELL(r, host, i, removed);
	return 0;
}

/* The calls of the dirty-log API that come before event @i. */
static int make_calls(struct replay *r, uint32_t i)
{
	struct replay_driver *d = r->driver;
	int err = 0;

	for (; !err && r->dirty && d->calls < r->dirty->nr_calls; d->calls++) {
		const struct dirty_call *call = &r->dirty->calls[d->calls];

		if (call->at != i)
			break;
		if (!r->ops->dirty) {
			r->counts.dirty_calls_skipped++;
			continue;
		}
		TELL(r, dirty, call);
		r->call = call;
		err = r->ops->dirty(r, call);
		r->call = NULL;
		r->counts.dirty_calls[call->kind]++;
	}
	return err;
}

static int play_event(struct replay *r, uint32_t i)
{
	switch (r->t->attr[i]) {
	case TRACE_ATTR_ZAP_ALL:
		return zap_all(r);
	case TRACE_ATTR_HOST:
	case TRACE_ATTR_HOST_INSIDE:
	case TRACE_ATTR_HOST_OTHER:
		return replay_deliver_host(r, i);
	case TRACE_ATTR_HOST_ZAP:
		r->counts.host_removed_recorded++;
		return 0;
	default:
		return 0;
	}
}

static int play(struct replay *r, uint32_t i)
{
	struct replay_driver *d = r->driver;
	int err = r->ops->tick ? r->ops->tick(r) : 0;

	r->at = i;
	if (!err)
		err = make_calls(r, i);
	for (uint32_t n = d->due[i]; !err && n; n = d->next[n - 1])
		err = make_fault(r, n - 1);
	if (err || i == r->t->nr_events)
		return err;
	err = play_event(r, i);
	if (!err)
		TELL(r, played, i);
	return err;
}

static int play_all(struct replay *r)
{
	const struct slot_table *first = next_table(r);
	int err = first && !first->after ? enter_table(r, first) : 0;

	for (uint32_t i = 0; !err && i <= r->t->nr_events; i++) {
		if (r->progress && !(i % PROGRESS_STEP))
			r->progress(r->progress_ctx, i, r->t->nr_events);
		err = play(r, i);
	}
	if (!err && r->ops->finish)
		err = r->ops->finish(r);
	return err;
}

/* ---- the end ---- */

static void add_counters(struct machine_counters *sum, const struct machine_counters *c)
{
	/* All members are counters. */
	const uint64_t *from = (const uint64_t *)c;
	uint64_t *to = (uint64_t *)sum;

	_Static_assert(sizeof(*c) % sizeof(*from) == 0, "counters only");
	for (size_t i = 0; i < sizeof(*c) / sizeof(*from); i++)
		to[i] += from[i];
}

static void read_judge(struct replay *r)
{
	struct machine *m = sim_machine(r->sim);
	struct machine_report report;

	r->judge_reports = machine_report_count(m);
	if (r->judge_reports && machine_report_get(m, 0, &report, 1))
		machine_report_text(&report, r->judge_text, sizeof(r->judge_text));
}

static void take_stock(struct replay *r)
{
	struct tpt_vm *vm = sim_vm(r->sim);

	if (!vm)
		return;
	r->audit_faults = tpt_vm_audit(vm, r->audit_text, sizeof(r->audit_text));
	tpt_vm_get_stats(vm, &r->stats);
	r->dead = tpt_vm_is_dead(vm);
	snprintf(r->dead_text, sizeof(r->dead_text), "%s", tpt_vm_report(vm));
	for (unsigned int i = 0; i < r->nr_vcpus; i++) {
		struct machine_counters c;

		machine_cpu_counters(machine_get_cpu(sim_machine(r->sim), i), &c);
		add_counters(&r->cpu, &c);
	}
	read_judge(r);
	TELL(r, end);
}

int replay_run(struct replay *r)
{
	static const struct dirty_plan none = {.mode = DIRTY_NONE};
	int err;

	if (!r->dirty)
		r->dirty = &none;
	err = make_driver(r);

	if (!err)
		err = r->ops->start(r);
	if (!err)
		err = play_all(r);
	if (r->sim) {
		take_stock(r);
		if (r->ops->teardown)
			r->ops->teardown(r);
		r->misuses = sim_destroy(r->sim);
		r->sim = NULL;
	}
	free_driver(r);
	return err;
}

void replay_free(struct replay *r)
{
	r->ops->free(r);
}

bool replay_unsound(const struct replay *r)
{
	return r->counts.not_fixed || r->audit_faults || r->judge_reports || r->dead ||
	       r->misuses || r->kind_text[0];
}
