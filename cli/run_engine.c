// SPDX-License-Identifier: BSD-2-Clause
/*
 * A scenario from beginning to end: the VM is made, its vCPUs make their accesses step by step, in
 * turn or each on a thread of its own, and everything is taken down and looked at.
 */
#include "cli/run.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

/* Attempts of one access in one step: a fault, what it fixed, and a race or two. */
#define TRIES	    8
#define FRAMES_BASE (1ull << 40)
#define GIB	    (1ull << 30)
#define PHYS_BITS   48
/* Where calls fail on purpose, one after the other, nobody needs the patience of a host among many.
 */
#define INJECT_TRIES 64

/* ---- accesses ---- */

static void completed(struct run *r, unsigned int vcpu)
{
	struct run_vcpu *v = &r->vcpus[vcpu];
	struct run_slot *s;
	uint64_t page;

	v->accesses++;
	v->stall = 0;
	guest_done(r, vcpu);
	if (r->td)
		return;
	s = memory_slot_at(r, v->gpa);
	if (!s)
		return;
	page = (v->gpa - s->gpa) / RUN_PAGE;
	if (s->logging && v->kind & MACHINE_WRITE && !r->sc->threads)
		s->written[page / 64] |= 1ull << (page % 64);
	v->unfilled += s->def->restore && !atomic_load(&s->filled[page]);
}

static void gave_up(struct run *r, unsigned int vcpu, int err)
{
	struct run_vcpu *v = &r->vcpus[vcpu];

	if (!v->errors++) {
		v->first_error = err;
		v->error_gpa = v->gpa;
	}
	guest_done(r, vcpu);
}

/* The access is made again in the next step. */
static void stalls(struct run_vcpu *v)
{
	v->stalled++;
	v->stall++;
	if (v->stall > v->longest_stall)
		v->longest_stall = v->stall;
}

static void emulated(struct run *r, unsigned int vcpu)
{
	struct run_vcpu *v = &r->vcpus[vcpu];

	v->mmio++;
	v->stall = 0;
	if (r->trace)
		run_trace_mmio(r->trace, vcpu, v->gpa, v->kind & MACHINE_WRITE);
	guest_done(r, vcpu);
}

/* The vCPU's dirty ring is full: the VMM empties all rings, and the access is made again. */
static void ring_full(struct run *r, unsigned int vcpu)
{
	int err = events_drain_rings(r);

	r->vcpus[vcpu].ring_full++;
	if (err)
		gave_up(r, vcpu, err);
}

static void access_direct(struct run *r, unsigned int vcpu)
{
	struct run_vcpu *v = &r->vcpus[vcpu];
	struct sim_step step;

	for (unsigned int i = 0; i < TRIES; i++) {
		int err = sim_step(r->sim, vcpu, v->gpa, v->kind, &step);

		if (err == -EAGAIN)
			break;
		if (err == -ENOSPC || (!err && step.faulted && step.ret == -ENOSPC)) {
			ring_full(r, vcpu);
			if (!v->pending)
				return;
			continue;
		}
		if (err)
			return gave_up(r, vcpu, err);
		if (step.hw.outcome == MACHINE_OK)
			return completed(r, vcpu);
		if (!step.faulted && step.hw.outcome != MACHINE_KICKED &&
		    step.hw.outcome != MACHINE_PML_FULL)
			return gave_up(r, vcpu, -EFAULT);
		if (!step.faulted)
			continue;
		if (step.ret < 0)
			return gave_up(r, vcpu, step.ret);
		if (step.ret == TPT_RET_PF_EMULATE || step.ret == TPT_RET_PF_WRITE_PROTECTED)
			return emulated(r, vcpu);
		if (step.ret == TPT_RET_PF_RETRY)
			break;
	}
	stalls(v);
}

/* The guest uses each page as what it made of it. */
static bool is_shared(struct run *r, uint64_t gpa)
{
	struct run_slot *s = memory_slot_at(r, gpa);

	return s && atomic_load(&s->shared[(gpa - s->gpa) / RUN_PAGE]);
}

static void access_td(struct run *r, unsigned int vcpu)
{
	struct run_vcpu *v = &r->vcpus[vcpu];
	bool shared = v->doing->shared || is_shared(r, v->gpa);
	struct simtd_access a = {.gpa = v->gpa | (shared ? simtd_shared(r->td) : 0),
				 /* Nobody executes shared memory (TDX: #PF or exit). */
				 .kind = shared && v->kind & MACHINE_EXEC ? MACHINE_READ : v->kind};
	int ret = v->doing->accept && !shared
			  ? simtd_guest_accept(r->td, vcpu, v->gpa & ~(RUN_PAGE - 1), RUN_PAGE)
			  : simtd_guest_touch(r->td, vcpu, &a);

	if (ret < 0)
		gave_up(r, vcpu, ret);
	else if (ret == TD_MMIO)
		emulated(r, vcpu);
	else
		completed(r, vcpu);
}

static void one_step(struct run *r, unsigned int vcpu, uint64_t step)
{
	if (!guest_next(r, vcpu, step))
		return;
	run_trace_task((int)vcpu);
	if (r->td)
		access_td(r, vcpu);
	else
		access_direct(r, vcpu);
	run_trace_task(-1);
}

/* ---- steps ---- */

static int in_turn(struct run *r)
{
	int err = 0;

	for (uint64_t step = 0; !err && !r->killed && step < r->sc->steps; step++) {
		err = events_at(r, step);
		for (unsigned int i = 0; !err && !r->killed && i < r->sc->vm.vcpus; i++)
			one_step(r, i, step);
	}
	return err;
}

struct worker {
	struct run *r;
	unsigned int vcpu;
	pthread_t thread;
	bool started;
};

static void *vcpu_thread(void *arg)
{
	struct worker *w = arg;
	struct run_vcpu *v = &w->r->vcpus[w->vcpu];

	for (uint64_t step = 0; step < w->r->sc->steps && !atomic_load(&w->r->stop); step++) {
		one_step(w->r, w->vcpu, step);
		atomic_store(&v->step, step + 1);
	}
	atomic_store(&v->step, UINT64_MAX);
	return NULL;
}

/* The step that every vCPU has come to. */
static uint64_t slowest(struct run *r)
{
	uint64_t least = UINT64_MAX;

	for (unsigned int i = 0; i < r->sc->vm.vcpus; i++) {
		uint64_t step = atomic_load(&r->vcpus[i].step);

		least = step < least ? step : least;
	}
	return least;
}

static int side_by_side(struct run *r)
{
	struct worker *w = calloc(r->sc->vm.vcpus, sizeof(*w));
	int err = 0;

	if (!w)
		return run_fail(r, -ENOMEM, "no memory");
	for (unsigned int i = 0; !err && i < r->sc->vm.vcpus; i++) {
		w[i].r = r;
		w[i].vcpu = i;
		err = -pthread_create(&w[i].thread, NULL, vcpu_thread, &w[i]);
		w[i].started = !err;
	}
	for (uint64_t step = 0; !err && !r->killed && step < r->sc->steps; step++) {
		while (slowest(r) < step)
			sched_yield();
		err = events_at(r, step);
	}
	if (err || r->killed)
		atomic_store(&r->stop, true);
	for (unsigned int i = 0; i < r->sc->vm.vcpus; i++)
		if (w[i].started)
			pthread_join(w[i].thread, NULL);
	free(w);
	return err;
}

/* ---- making it ---- */

static int make_slots(struct run *r)
{
	uint32_t nr = 0, n = 0;

	for (uint32_t i = 0; i < r->sc->nr_slots; i++)
		nr += r->sc->slots[i].nr;
	r->slots = calloc(nr ? nr : 1, sizeof(*r->slots));
	if (!r->slots)
		return run_fail(r, -ENOMEM, "no memory");
	for (uint32_t i = 0; i < r->sc->nr_slots; i++) {
		const struct run_slot_line *l = &r->sc->slots[i];

		for (uint32_t k = 0; k < l->nr; k++, n++)
			r->slots[n] = (struct run_slot){
				.def = l,
				.id = l->id + k,
				.gpa = l->area.start + k * (l->area.size / l->nr),
				.pages = l->area.size / l->nr / RUN_PAGE,
				.hva = RUN_HVA_BASE + n * RUN_HVA_STRIDE,
				.logging = l->log,
			};
	}
	r->nr_slots = nr;
	return 0;
}

static int make_vcpus(struct run *r)
{
	size_t bytes = r->sc->vm.vcpus * sizeof(*r->vcpus);

	r->vcpus = aligned_alloc(_Alignof(struct run_vcpu), bytes);
	if (!r->vcpus)
		return run_fail(r, -ENOMEM, "no memory");
	memset(r->vcpus, 0, bytes);
	for (unsigned int i = 0; i < r->sc->vm.vcpus; i++)
		for (unsigned int k = 0; k < RUN_MAX; k++)
			r->vcpus[i].place[k].random = r->sc->seed << 32 ^ (i + 1) << 8 ^ k;
	for (unsigned int k = 0; k < RUN_MAX; k++)
		r->place[k].random = r->sc->seed << 32 ^ k;
	return 0;
}

static uint64_t all_bytes(const struct run *r)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < r->sc->nr_slots; i++)
		bytes += r->sc->slots[i].area.size;
	return bytes;
}

static int make_direct(struct run *r, char why[RUN_WHY_LEN])
{
	const struct run_vm *vm = &r->sc->vm;
	const struct tpt_vm_config c = {
		.format = vm->kind == RUN_EPT ? TPT_FORMAT_EPT : TPT_FORMAT_NPT,
		.flags = vm->flags,
		.levels = vm->levels,
		.maxphyaddr = PHYS_BITS,
		.guest_maxphyaddr = PHYS_BITS,
		/* As KVM has it with SMM; a replay of the trace counts generations so. */
		.address_spaces = 2,
		.max_leaf_level = vm->leaf,
		.max_private_level = TPT_LEVEL_4K,
		.dirty_ring_size = vm->ring,
		.backing = &memory_backing_ops,
		.backing_ctx = r,
		.event = memory_event,
		.event_ctx = r,
	};
	/* Room for whole blocks at both ends of each slot. */
	uint64_t frames = all_bytes(r) + (r->nr_slots + 2) * GIB;
	const struct sim_config sc = {
		.vm = c,
		.nr_vcpus = vm->vcpus,
		.nr_regions = 1,
		.regions = {{FRAMES_BASE, (frames + GIB - 1) / GIB * GIB}},
	};
	int err = sim_prepare(&r->sim, &sc, why, RUN_WHY_LEN);

	if (err)
		return err;
	r->used_before = machine_mem_used(sim_machine(r->sim));
	err = sim_start(r->sim, &c, why, RUN_WHY_LEN);
	if (!err && memory_init(r)) {
		snprintf(why, RUN_WHY_LEN, "no memory for the slots");
		err = -ENOMEM;
	}
	for (uint32_t i = 0; !err && i < r->nr_slots; i++) {
		struct run_slot *s = &r->slots[i];

		if (s->def->absent)
			continue;
		err = events_create_slot(r, s, s->gpa);
		if (err)
			snprintf(why, RUN_WHY_LEN, "line %u: slot %u: %s", s->def->line, s->id,
				 strerror(-err));
	}
	return err;
}

/* What the host half and the library log. Where it is us who make calls fail, the first line is
 * enough. */
static void hear(void *ctx, enum tpt_log_level level, const char *text)
{
	struct run *r = ctx;

	if (!r->inject)
		fprintf(stderr, "triptych: td: %s\n", text);
	else if (level == TPT_LOG_ERROR && !atomic_fetch_add(&r->logged, 1))
		snprintf(r->log_text, sizeof(r->log_text), "%s", text);
}

/* Each page begins with its own address. */
static int build(struct run *r, char why[RUN_WHY_LEN])
{
	uint64_t page[RUN_PAGE / sizeof(uint64_t)] = {0};

	for (uint32_t i = 0; i < r->sc->nr_builds; i++) {
		const struct run_build *l = &r->sc->builds[i];

		for (uint64_t gpa = l->area.start; gpa < l->area.start + l->area.size;
		     gpa += RUN_PAGE) {
			int err;

			page[0] = gpa;
			err = simtd_add_page(r->td, gpa, page, !l->unmeasured);
			if (!err)
				continue;
			snprintf(why, RUN_WHY_LEN, "line %u: building page 0x%lx: %s", l->line, gpa,
				 strerror(-err));
			return err;
		}
	}
	return 0;
}

static int make_td(struct run *r, char why[RUN_WHY_LEN])
{
	const struct simtd_config c = {
		.nr_vcpus = r->sc->vm.vcpus,
		.private_bytes = all_bytes(r),
		.shared_bytes = all_bytes(r),
		.attributes = r->sc->vm.ve_disable ? TDX_ATTR_SEPT_VE_DISABLE : 0,
		.zap_chunk = r->sc->vm.chunk,
		.shared_level = r->sc->slots[0].page,
		.private_level = r->sc->vm.private_level,
		.event = memory_event,
		.event_ctx = r,
		.inject = r->inject,
		.tries = r->inject && !r->sc->threads ? INJECT_TRIES : 0,
		.remains = &r->remains,
		.log = hear,
		.log_ctx = r,
	};
	int err = simtd_create(&r->td, &c, why, RUN_WHY_LEN);

	for (uint32_t i = 0; !err && i < r->nr_slots; i++) {
		struct run_slot *s = &r->slots[i];

		s->shared = calloc(s->pages, sizeof(*s->shared));
		err = s->shared ? simtd_add_slot(r->td, s->gpa, s->pages * RUN_PAGE) : -ENOMEM;
		s->there = !err;
		if (err)
			snprintf(why, RUN_WHY_LEN, "line %u: slot %u: %s", s->def->line, s->id,
				 strerror(-err));
	}
	if (err)
		return err;
	r->sim = simtd_sim(r->td);
	err = build(r, why);
	if (err)
		return err;
	err = simtd_finalize(r->td);
	if (!err)
		err = tpt_vm_allow_prefault(simtd_vm(r->td), true);
	if (err)
		snprintf(why, RUN_WHY_LEN, "finalize: %s", strerror(-err));
	return err;
}

static int make(struct run *r)
{
	char why[RUN_WHY_LEN] = "";
	int err;

	pthread_mutex_init(&r->memory, NULL);
	pthread_mutex_init(&r->ring, NULL);
	err = make_slots(r);
	if (!err)
		err = make_vcpus(r);
	if (!err) {
		err = r->sc->vm.kind == RUN_TD ? make_td(r, why) : make_direct(r, why);
		if (err)
			run_fail(r, err, "%s", why);
	}
	return err;
}

/* ---- looking at it ---- */

static void judge(struct run *r)
{
	struct machine_report report;

	r->judge = machine_report_count(sim_machine(r->sim));
	if (r->judge && machine_report_get(sim_machine(r->sim), 0, &report, 1))
		machine_report_text(&report, r->judge_text, sizeof(r->judge_text));
}

static void look(struct run *r)
{
	struct tpt_vm *vm = run_vm(r);
	struct tpt_posix_stats posix;
	struct run_phase *end = &r->phases[r->nr_phases++];

	*end = (struct run_phase){.name = NULL, .step = r->sc->steps};
	run_snap(r, &end->at);
	if (!r->td)
		r->unfilled = memory_unfilled(r);
	tpt_vm_get_stats(vm, &r->stats);
	/* Before the audit, which looks at everything in one go. */
	tpt_posix_get_stats(sim_posix(r->sim), &posix);
	r->peak_pages = posix.pages_peak;
	r->longest_lock_ns = posix.longest_lock_ns;
	if (!r->audit)
		r->audit = tpt_vm_audit(vm, r->audit_text, sizeof(r->audit_text));
	r->dead = tpt_vm_is_dead(vm);
	snprintf(r->dead_text, sizeof(r->dead_text), "%.200s", tpt_vm_report(vm));
	for (unsigned int i = 0; i < r->sc->vm.vcpus; i++) {
		struct machine_counters c;

		machine_cpu_counters(machine_get_cpu(sim_machine(r->sim), i), &c);
		r->cpu.accesses += c.accesses;
		r->cpu.tlb_hits += c.tlb_hits;
		r->cpu.walks += c.walks;
		r->cpu.entries_read += c.entries_read;
		r->cpu.accessed_set += c.accessed_set;
		r->cpu.dirty_set += c.dirty_set;
		r->cpu.pml_logged += c.pml_logged;
	}
	if (!r->td)
		return;
	simtd_get_stats(r->td, &r->td_stats);
	simtd_get_pamt(r->td, &r->pamt);
}

static void end_direct(struct run *r)
{
	tpt_vm_teardown(sim_vm(r->sim));
	tpt_vm_get_stats(sim_vm(r->sim), &r->final_stats);
	r->misuses = sim_stop(r->sim);
	memory_end(r);
	r->frames = (int64_t)machine_mem_used(sim_machine(r->sim)) - (int64_t)r->used_before;
}

static void end_td(struct run *r)
{
	raw_end(r);
	simtd_end(r->td, &r->remains);
	r->final_stats = r->remains.stats;
	r->misuses = r->remains.misuses;
	r->frames = r->remains.frames;
}

/* From the first step to the last, and a look at what is there then. */
static int play(struct run *r)
{
	int err;

	r->phases[r->nr_phases++] = (struct run_phase){.name = "start"};
	run_snap(r, &r->phases[0].at);
	err = r->sc->threads ? side_by_side(r) : in_turn(r);
	if (!r->td)
		events_end(r);
	if (!err)
		err = events_last_log(r);
	if (err)
		return run_fail(r, err, "an event failed: %s", strerror(-err));
	look(r);
	return 0;
}

/* A TD that was never finished because a call failed on purpose is an outcome like others. */
static int not_made(struct run *r, int err)
{
	if (!inject_hits(r->inject))
		return err;
	snprintf(r->not_made, sizeof(r->not_made), "%s", r->why);
	r->why[0] = 0;
	if (r->td)
		look(r);
	return 0;
}

static int end(struct run *r)
{
	if (r->td)
		end_td(r);
	else if (r->sim)
		end_direct(r);
	if (r->sim)
		judge(r);
	return r->td ? events_finally(r) : 0;
}

int run_run(struct run *r)
{
	int err = make(r);

	err = err ? not_made(r, err) : play(r);
	if (!err)
		err = end(r);
	if (err)
		return err;
	err = run_count(r);
	return err ? run_fail(r, err, "no memory") : 0;
}

void run_free(struct run *r)
{
	if (r->td) {
		simtd_destroy(r->td);
	} else if (r->sim) {
		sim_stop(r->sim);
		if (r->by_id)
			memory_end(r);
		sim_destroy(r->sim);
	}
	for (uint32_t i = 0; r->slots && i < r->nr_slots; i++)
		free((void *)r->slots[i].shared);
	free(r->slots);
	free(r->vcpus);
	free(r->counters);
	pthread_mutex_destroy(&r->memory);
	pthread_mutex_destroy(&r->ring);
}
