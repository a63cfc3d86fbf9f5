// SPDX-License-Identifier: BSD-2-Clause
/* A TD's making and end, and what is left when it is gone. No guest runs here. */
#include "cli/td_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GIB (1ull << 30)
#define MIB (1ull << 20)

#define SHARED_BASE (1ull << 40)
/* The upper half of the key ids is private, and the first of it the module's own. */
#define HKID_MIN    32
#define HKID_MAX    63
#define HKID_GLOBAL HKID_MIN
/* Of each kind; the rest is only counted by the module. */
#define MEMORY_EVENTS_LOGGED 16
/* A cache write-back looks for interrupts between its parts. */
#define WB_BLOCKS 4
/* 4 levels: 48 bits of guest-physical address, the uppermost of which means shared. */
#define LEVELS	 4
#define GPA_BITS 48

/* ---- what the module, the host half and the library are given ---- */

static void *module_page(void *ctx, uint64_t hpa)
{
	struct simtd *td = ctx;

	return machine_mem_ptr(td->machine, hpa);
}

static uint64_t module_rdtsc(void *ctx, unsigned int lp)
{
	struct simtd *td = ctx;

	(void)lp;
	return atomic_fetch_add(&td->tsc, 1000) + 1000;
}

static void simtd_log(struct simtd *td, enum tpt_log_level level, const char *text)
{
	if (td->config.log)
		td->config.log(td->config.log_ctx, level, text);
	else
		fprintf(stderr, "triptych: td: %s\n", text);
}

static void module_fatal(void *ctx, const char *what)
{
	simtd_log(ctx, TPT_LOG_ERROR, what);
}

static int control_alloc(void *ctx, tpt_hpa *page)
{
	struct simtd *td = ctx;

	return machine_mem_alloc(td->machine, 0, 0, &page->a);
}

static void control_free(void *ctx, tpt_hpa page)
{
	struct simtd *td = ctx;

	machine_mem_free(td->machine, page.a, 0);
}

static void *control_ptr(void *ctx, tpt_hpa page)
{
	struct simtd *td = ctx;

	return machine_mem_ptr(td->machine, page.a);
}

static void clear(void *ctx, tpt_hpa hpa, uint64_t bytes)
{
	struct simtd *td = ctx;

	tdx_module_host_write_lines(td->module, hpa.a, NULL, bytes);
}

static void write_back(void *ctx, tpt_hpa hpa, uint64_t bytes)
{
	struct simtd *td = ctx;

	tdx_module_host_flush(td->module, hpa.a, bytes);
}

/* The host is to blame for each of them, or somebody attacks the guest. */
static void memory_event(void *ctx, const struct tdx_memory_event *event)
{
	struct simtd *td = ctx;
	char text[256];

	if (tdx_module_memory_events(td->module, event->kind) > MEMORY_EVENTS_LOGGED)
		return;
	tdx_memory_event_text(event, text, sizeof(text));
	simtd_log(ctx, TPT_LOG_ERROR, text);
}

static void host_log(void *ctx, enum tpt_log_level level, const char *text)
{
	simtd_log(ctx, level, text);
}

/* ---- making one ---- */

static uint64_t round_up(uint64_t n, uint64_t to)
{
	return (n + to - 1) / to * to;
}

static int fail(char *why, size_t size, const char *what, int err)
{
	snprintf(why, size, "%s: %s", what, strerror(-err));
	return err;
}

/* Private frames, and for tables of three trees: a 128th and some. */
static uint64_t tdmr_bytes(const struct simtd_config *c)
{
	uint64_t shared = c->shared_bytes / 256, own = (64 + 16ull * c->nr_vcpus) * TD_PAGE;

	return round_up(c->private_bytes + c->private_bytes / 64 + shared + own + 64 * MIB, GIB);
}

static int make_machine(struct simtd *td, char *why, size_t why_size)
{
	struct sim_config c = {
		.vm.maxphyaddr = 52,
		.nr_vcpus = td->config.nr_vcpus,
		.tables_base = TDMR_BASE,
		.tables_bytes = td->tdmr_bytes,
		.nr_regions = 1,
		.regions = {{SHARED_BASE, round_up(td->config.shared_bytes + 4 * MIB, 2 * MIB)}},
		.log = td->config.log,
		.log_ctx = td->config.log_ctx,
	};
	const struct sim_td wires = {simtd_on_kick, simtd_on_hold, td};
	int err = sim_prepare(&td->sim, &c, why, why_size);

	if (err)
		return err;
	sim_set_td(td->sim, &wires);
	td->machine = sim_machine(td->sim);
	td->used_before = machine_mem_used(td->machine);
	return 0;
}

static int make_module(struct simtd *td, char *why, size_t why_size)
{
	struct tdx_module_config c = {
		.nr_lps = td->config.nr_vcpus + TD_HOST_LPS,
		.nr_packages = 1,
		.hkid_start_bit = TD_HKID_START,
		.nr_hkid_bits = TD_HKID_BITS,
		.private_hkid_min = HKID_MIN,
		.private_hkid_max = HKID_MAX,
		.global_hkid = HKID_GLOBAL,
		/* As late as a cache can be: a host that forgets a write-back is found out. */
		.memory = TDX_MEMORY_CI,
		.write_back = TDX_WRITE_BACK_LATE,
		.memory_event = memory_event,
		.nr_tdmrs = 1,
		.tdmr = {{.base = TDMR_BASE, .size = td->tdmr_bytes}},
		.ctx = td,
		.page = module_page,
		.rdtsc = module_rdtsc,
		.interrupt_pending = simtd_interrupt_pending,
		.wb_blocks = WB_BLOCKS,
		.fatal = module_fatal,
		.processor = &machine_processor_ops,
		.processor_ctx = td->machine,
	};

	td->module = tdx_module_create(&c, why, why_size);
	if (!td->module)
		return -errno;
	machine_set_module(td->machine, &tdx_module_port, td->module);
	return 0;
}

static int make_host(struct simtd *td, char *why, size_t why_size)
{
	const struct tdx_host_config c = {
		.size = sizeof(c),
		.seamcall = simtd_seamcall,
		.seamcall_ctx = td,
		.nr_lps = td->config.nr_vcpus + TD_HOST_LPS,
		.nr_packages = 1,
		.hkid_start_bit = TD_HKID_START,
		.global_hkid = HKID_GLOBAL,
		.busy_tries = td->config.tries,
		.first_hkid = HKID_GLOBAL + 1,
		.nr_hkids = HKID_MAX - HKID_GLOBAL,
		.ctx = td,
		.current_lp = simtd_current_lp,
		.run_on = simtd_run_on,
		.page_alloc = control_alloc,
		.page_free = control_free,
		.page_ptr = control_ptr,
		.clear = clear,
		.write_back = write_back,
		.log = host_log,
	};
	const struct tdx_tdmr tdmr = {{TDMR_BASE}, td->tdmr_bytes};
	int err = tdx_host_create(&c, &td->host);

	if (!err)
		err = tdx_host_init_tdmrs(td->host, &tdmr, 1);
	return err ? fail(why, why_size, "TDX memory regions", err) : 0;
}

static int make_td(struct simtd *td, char *why, size_t why_size)
{
	const struct tdx_td_config c = {
		.size = sizeof(c),
		.hkid = TDX_HKID_ANY,
		.attributes = td->config.attributes,
		.max_vcpus = (uint16_t)td->config.nr_vcpus,
		.levels = LEVELS,
	};
	int err = tdx_td_create(td->host, &c, &td->tdx);

	if (err)
		return fail(why, why_size, "TD", err);
	td->shared = 1ull << tdx_td_shared_bit(td->tdx);
	return 0;
}

static int make_vm(struct simtd *td, char *why, size_t why_size)
{
	bool inject = inject_has(td->config.inject, INJECT_ERRNO);
	const struct tpt_vm_config c = {
		.format = TPT_FORMAT_EPT,
		.flags = TPT_VM_SELF_SNOOP,
		.levels = LEVELS,
		.maxphyaddr = TD_HKID_START,
		.guest_maxphyaddr = GPA_BITS,
		.shared_bit = tdx_td_shared_bit(td->tdx),
		.address_spaces = 1,
		.max_leaf_level = TPT_LEVEL_2M,
		.max_private_level =
			td->config.private_level ? td->config.private_level : TPT_LEVEL_4K,
		.zap_chunk = td->config.zap_chunk,
		.backing = &simtd_backing_ops,
		.backing_ctx = td,
		.external = inject ? &simtd_inject_ops : &tdx_external_ops,
		.external_ctx = inject ? (void *)td : td->tdx,
		.event = td->config.event,
		.event_ctx = td->config.event_ctx,
	};

	return sim_start(td->sim, &c, why, why_size);
}

/* VP.INIT ties a vCPU to the LP that it is made on. */
static int make_vcpus(struct simtd *td, char *why, size_t why_size)
{
	const struct machine_root root = {.kind = MACHINE_ROOT_TD};
	int err = 0;

	for (unsigned int i = 0; !err && i < td->config.nr_vcpus; i++) {
		unsigned int place = simtd_stand_on(td, i);

		err = tdx_vcpu_create(td->tdx, i, &td->lps[i].vcpu);
		if (!err)
			err = machine_cpu_load(machine_get_cpu(td->machine, i), &root);
		simtd_stand_on(td, place);
	}
	return err ? fail(why, why_size, "virtual processors", err) : 0;
}

static int init_locks(struct simtd *td)
{
	pthread_mutexattr_t recursive;

	if (pthread_key_create(&td->place, NULL))
		return -EAGAIN;
	td->has_place = true;
	pthread_mutex_init(&td->frames, NULL);
	pthread_mutexattr_init(&recursive);
	pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
	for (unsigned int i = 0; i < TD_MAX_VCPUS; i++)
		pthread_mutex_init(&td->lps[i].lock, &recursive);
	pthread_mutexattr_destroy(&recursive);
	return 0;
}

static int make_all(struct simtd *td, char *why, size_t why_size)
{
	int err = make_machine(td, why, why_size);

	if (!err)
		err = make_module(td, why, why_size);
	if (!err)
		err = make_host(td, why, why_size);
	if (!err)
		err = make_td(td, why, why_size);
	if (!err)
		err = make_vm(td, why, why_size);
	if (!err)
		err = make_vcpus(td, why, why_size);
	return err;
}

int simtd_create(struct simtd **out, const struct simtd_config *config, char *why, size_t why_size)
{
	struct simtd *td;
	int err;

	if (!config->nr_vcpus || config->nr_vcpus > TD_MAX_VCPUS)
		return fail(why, why_size, "virtual processors", -EINVAL);
	td = aligned_alloc(_Alignof(struct simtd), sizeof(*td));
	if (!td)
		return fail(why, why_size, "TD", -ENOMEM);
	memset(td, 0, sizeof(*td));
	td->config = *config;
	td->tdmr_bytes = tdmr_bytes(config);
	err = init_locks(td);
	if (!err)
		err = make_all(td, why, why_size);
	if (!err) {
		*out = td;
		return 0;
	}
	if (config->remains && td->sim)
		simtd_end(td, config->remains);
	simtd_destroy(td);
	return err;
}

struct sim *simtd_sim(struct simtd *td)
{
	return td->sim;
}

struct tpt_vm *simtd_vm(struct simtd *td)
{
	return sim_vm(td->sim);
}

struct tdx_host *simtd_host(struct simtd *td)
{
	return td->host;
}

struct tdx_module *simtd_module(struct simtd *td)
{
	return td->module;
}

struct tdx_td *simtd_tdx(struct simtd *td)
{
	return td->tdx;
}

uint64_t simtd_shared(const struct simtd *td)
{
	return td->shared;
}

/* ---- what it is built from ---- */

int simtd_add_page(struct simtd *td, uint64_t gpa, const void *content, bool measure)
{
	struct tpt_roots roots;
	struct tpt_vcpu *vcpu = sim_vcpu(td->sim, 0);
	uint64_t source;
	int err = tpt_vcpu_load_roots(vcpu, &roots);

	if (!err)
		err = machine_mem_alloc(td->machine, 1, 0, &source);
	if (err)
		return err;
	memcpy(machine_mem_ptr(td->machine, source), content, TD_PAGE);
	err = tdx_td_add_page(td->tdx, vcpu, tpt_gpa_make(gpa), (tpt_hpa){source}, measure);
	machine_mem_free(td->machine, source, 0);
	return err;
}

int simtd_finalize(struct simtd *td)
{
	int err = tdx_td_finalize(td->tdx);

	/* From now on pages come by fault, and may come before one. */
	if (!err)
		tpt_vm_allow_prefault(sim_vm(td->sim), true);
	return err;
}

/* ---- counters ---- */

const char *simtd_exit_name(enum simtd_exit exit)
{
	static const char *const names[TD_EXITS] = {
		[TD_EXIT_INTERRUPT] = "interrupt",
		[TD_EXIT_PRIVATE] = "private_violation",
		[TD_EXIT_ACCEPT] = "accept_violation",
		[TD_EXIT_SHARED] = "shared_violation",
		[TD_EXIT_VMCALL_MMIO] = "vmcall_mmio",
		[TD_EXIT_VMCALL_MAP_GPA] = "vmcall_map_gpa",
		[TD_EXIT_OTHER] = "other",
	};

	return exit < TD_EXITS ? names[exit] : "?";
}

static void add_stats(struct simtd_stats *sum, const struct simtd_stats *s)
{
	const uint64_t *from = (const uint64_t *)s;
	uint64_t *to = (uint64_t *)sum;

	_Static_assert(sizeof(*s) % sizeof(*from) == 0, "counters only");
	for (size_t i = 0; i < sizeof(*s) / sizeof(*from); i++)
		to[i] += from[i];
}

void simtd_get_stats(struct simtd *td, struct simtd_stats *stats)
{
	memset(stats, 0, sizeof(*stats));
	for (unsigned int i = 0; i < td->config.nr_vcpus; i++) {
		pthread_mutex_lock(&td->lps[i].lock);
		add_stats(stats, &td->lps[i].stats);
		pthread_mutex_unlock(&td->lps[i].lock);
	}
	pthread_mutex_lock(&td->frames);
	stats->private_pages = td->private_pages;
	stats->shared_pages = td->shared_pages;
	stats->to_private = td->to_private;
	stats->to_shared = td->to_shared;
	pthread_mutex_unlock(&td->frames);
}

/* ---- the end ---- */

/* An entry of a larger page is somebody's only if the page is one: NDA otherwise. */
static void count_pamt(struct simtd *td, unsigned int level, uint64_t bytes,
		       struct simtd_remains *r)
{
	struct tdx_pamt_view view;

	for (uint64_t at = 0; at < td->tdmr_bytes; at += bytes) {
		if (tdx_module_view_pamt(td->module, TDMR_BASE + at, level, &view) ||
		    view.pt != TDX_PT_NDA)
			r->pamt_in_use += bytes / TD_PAGE;
		r->pamt_tables += view.pt == TDX_PT_EPT;
		r->pamt_pages += !level;
	}
}

static void end_vm(struct simtd *td, struct simtd_remains *r)
{
	struct tpt_vm *vm = simtd_vm(td);

	if (!vm)
		return;
	r->teardown = tpt_vm_teardown(vm);
	tpt_vm_get_stats(vm, &r->stats);
	r->leaked = r->stats.leaked_pages;
	r->reclaimed_leaves = r->stats.vcpus.external_calls[TPT_CALL_RECLAIM_LEAF];
	r->reclaimed_tables = r->stats.vcpus.external_calls[TPT_CALL_FREE_TABLE];
}

static void end_tdx(struct simtd *td, struct simtd_remains *r)
{
	if (td->tdx)
		r->destroy = tdx_td_destroy(td->tdx);
	tdx_td_free(td->tdx);
	td->tdx = NULL;
	if (td->host) {
		tdx_host_get_stats(td->host, &r->host);
		r->leaked_by_host = r->host.leaked_pages;
		r->held = r->host.held_pages;
	}
}

void simtd_end(struct simtd *td, struct simtd_remains *remains)
{
	*remains = (struct simtd_remains){0};
	if (td->ended)
		return;
	td->ended = true;
	atomic_fetch_add(&td->held, 1);
	simtd_kick(td);
	while (td->nr_others)
		simtd_end_other(td);
	end_vm(td, remains);
	remains->misuses = sim_stop(td->sim);
	end_tdx(td, remains);
	simtd_free_slots(td);
	if (td->module) {
		for (unsigned int i = 0; i < TDX_NR_MEMORY_EVENTS; i++)
			remains->memory[i] =
				tdx_module_memory_events(td->module, (enum tdx_memory_event_kind)i);
		count_pamt(td, 0, TD_PAGE, remains);
		count_pamt(td, 1, 2 * MIB, remains);
		count_pamt(td, 2, GIB, remains);
	}
	remains->frames = (int64_t)machine_mem_used(td->machine) - (int64_t)td->used_before;
}

bool simtd_ended_clean(const struct simtd_remains *r)
{
	return !r->pamt_in_use && !r->leaked && !r->leaked_by_host && !r->frames && !r->misuses &&
	       !r->teardown && !r->destroy;
}

void simtd_give_sim(struct simtd *td)
{
	td->sim_given = true;
}

void simtd_destroy(struct simtd *td)
{
	struct simtd_remains remains;

	if (!td)
		return;
	if (td->sim) {
		simtd_end(td, &remains);
		if (!td->sim_given)
			sim_destroy(td->sim);
	}
	tdx_host_destroy(td->host);
	tdx_module_destroy(td->module);
	for (unsigned int i = 0; i < TD_MAX_VCPUS; i++)
		pthread_mutex_destroy(&td->lps[i].lock);
	if (td->has_place)
		pthread_key_delete(td->place);
	free(td);
}
