/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A machine for random calls: two GiB of TDX memory, several TDs, several processors. What happens
 * is a list of events, so that it can be written down, played again and cut shorter. Never a
 * judgement of an answer.
 *
 * The machine is the one of the recordings, so what is printed here can be given to
 * `triptych seamcall` after its set-up "base" (which has more TDX memory, none of it used here).
 */
#ifndef TESTS_TDX_WORLD_H
#define TESTS_TDX_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tdx/module/module.h"

#define WORLD_PAGE     0x1000ull
#define WORLD_2M       0x200000ull
#define WORLD_1G       0x40000000ull
#define WORLD_BASE     0x100000000ull
#define WORLD_SIZE     (2 * WORLD_1G)
#define WORLD_GIANT    (WORLD_BASE + WORLD_1G) /* a GiB that is only used 2 MiB at a time */
#define WORLD_WINDOW   (6 * WORLD_2M)	       /* where everything else lies */
#define WORLD_NR_PAGES (WORLD_WINDOW / WORLD_PAGE)
#define WORLD_LOW      0x100000ull /* shared memory below 1 MiB */
#define WORLD_PARAMS   0x1000ull
#define WORLD_SOURCE   0x2000ull
#define WORLD_HKID     40
#define WORLD_NR_LPS   4
#define WORLD_TLB      32

/* Where a call may be stopped beside its use of a page. */
#define WORLD_POLL   1ull
#define WORLD_INVEPT 2ull

/* The pages of a TD as the recorded set-ups have them. */
#define WORLD_TDR     WORLD_BASE
#define WORLD_TDCX    (WORLD_BASE + 0x1000)
#define WORLD_TABLES  (WORLD_BASE + 0x10000)
#define WORLD_VCPU(i) (WORLD_BASE + 0x20000 + 0x10000ull * (i))
#define WORLD_FREE    (WORLD_BASE + 0x100000) /* free from here on */

struct rng {
	uint64_t state;
};

static inline uint64_t rng_next(struct rng *rng)
{
	rng->state ^= rng->state << 13;
	rng->state ^= rng->state >> 7;
	rng->state ^= rng->state << 17;
	return rng->state;
}

static inline unsigned int rng_below(struct rng *rng, unsigned int bound)
{
	return (unsigned int)(rng_next(rng) >> 20) % bound;
}

static inline bool rng_one_in(struct rng *rng, unsigned int n)
{
	return rng_below(rng, n) == 0;
}

enum event_kind {
	EV_HOST,   /* SEAMCALL: rax rcx rdx r8 r9 r10 r11 */
	EV_GUEST,  /* TDCALL: the same */
	EV_EXIT,   /* VM exit: reason, GPA, qualification, GLA, bytes that RIP went on before */
	EV_TOUCH,  /* the guest uses a GPA */
	EV_PARAMS, /* the host writes TD_PARAMS: attributes, flags, levels, vCPUs, L2 VMs */
	EV_INTR,   /* an interrupt is pending after that many polls; -1: none */
};

struct event {
	uint8_t kind, lp;
	uint64_t r[7];
};

/* What came of an event. */
struct answer {
	bool done;	      /* false: there was no guest on that processor, or one too many */
	enum tdx_side side;   /* where the processor is now */
	struct tdx_regs regs; /* the host's if it is in the host, else the guest's */
	uint64_t rip_delta;
	uint8_t vector;
};

struct world_tlb {
	unsigned int count;
	struct {
		uint64_t tdr, gpa, hpa;
		uint8_t level;
	} entry[WORLD_TLB];
};

struct world {
	struct tdx_module *module;
	char *low, *high;
	_Atomic uint64_t tsc;
	_Atomic int64_t intr_polls;
	_Atomic unsigned int nr_fatal;
	_Atomic bool kicked[WORLD_NR_LPS]; /* asked to leave, by another thread */
	struct world_tlb tlb[WORLD_NR_LPS];
	struct tdx_guest guest[WORLD_NR_LPS];
	/* For tests that stop a call in its middle: runs at the module's next use of @stop_page, or
	 * at its next poll for interrupts if that is WORLD_POLL. */
	uint64_t stop_page;
	void (*stop)(struct world *w, void *argument);
	void *stop_argument;
};

/* The words of a table page, or any page of the machine. */
static inline void *world_page(struct world *w, uint64_t hpa)
{
	if (hpa < WORLD_LOW)
		return w->low + hpa;
	return hpa - WORLD_BASE < WORLD_SIZE ? w->high + (hpa - WORLD_BASE) : NULL;
}

static inline void world_stop_at(struct world *w, uint64_t where)
{
	void (*stop)(struct world *, void *) = w->stop;

	if (!stop || where != w->stop_page)
		return;
	w->stop = NULL;
	stop(w, w->stop_argument);
}

static inline void *world_page_hook(void *ctx, uint64_t hpa)
{
	world_stop_at(ctx, hpa);
	return world_page(ctx, hpa);
}

static inline uint64_t world_rdtsc(void *ctx, unsigned int lp)
{
	struct world *w = ctx;

	(void)lp;
	return atomic_fetch_add(&w->tsc, 1000);
}

static inline bool world_interrupted(void *ctx, unsigned int lp)
{
	struct world *w = ctx;

	(void)lp;
	world_stop_at(w, WORLD_POLL);
	if (atomic_load(&w->intr_polls) < 0)
		return false;
	if (atomic_load(&w->intr_polls) == 0)
		return true;
	atomic_fetch_sub(&w->intr_polls, 1);
	return false;
}

static inline void world_fatal(void *ctx, const char *what)
{
	struct world *w = ctx;

	atomic_fetch_add(&w->nr_fatal, 1);
	print_error("module fatal: %s\n", what);
}

static inline void world_invalidate(void *ctx, unsigned int lp, uint64_t tdr)
{
	struct world_tlb *tlb = &((struct world *)ctx)->tlb[lp];
	unsigned int kept = 0;

	world_stop_at(ctx, WORLD_INVEPT);

	for (unsigned int i = 0; i < tlb->count; i++)
		if (tdr && tlb->entry[i].tdr != tdr)
			tlb->entry[kept++] = tlb->entry[i];
	tlb->count = kept;
}

static const struct tdx_port_processor world_processor = {.invalidate = world_invalidate};

static inline void *world_map(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_ptr_not_equal(memory, MAP_FAILED);
	return memory;
}

static inline uint64_t world_call(struct world *w, unsigned int lp, struct tdx_regs *regs)
{
	return tdx_module_seamcall(w->module, lp, regs) == TDX_GUEST ? TDX_SUCCESS : regs->rax;
}

/* One call with the registers most leaves use. */
static inline uint64_t world_leaf(struct world *w, unsigned int lp, unsigned int leaf, uint64_t rcx,
				  uint64_t rdx, uint64_t r8)
{
	struct tdx_regs regs = {.rax = leaf,
				.rcx = rcx,
				.rdx = rdx,
				.r8 = r8,
				.r9 = TDX_NULL_PA,
				.r10 = TDX_NULL_PA,
				.r11 = TDX_NULL_PA};

	return world_call(w, lp, &regs);
}

static inline struct world *world_create(void)
{
	struct world *w = calloc(1, sizeof(*w));
	struct tdx_module_config config = {
		.nr_lps = WORLD_NR_LPS,
		.nr_packages = 1,
		.hkid_start_bit = 46,
		.nr_hkid_bits = 6,
		.private_hkid_min = 32,
		.private_hkid_max = 63,
		.global_hkid = 32,
		.pml5 = true,
		.wb_blocks = 3,
		.nr_tdmrs = 1,
		.tdmr = {{.base = WORLD_BASE, .size = WORLD_SIZE}},
		.ctx = w,
		.page = world_page_hook,
		.rdtsc = world_rdtsc,
		.interrupt_pending = world_interrupted,
		.fatal = world_fatal,
		.processor = &world_processor,
		.processor_ctx = w,
	};

	assert_non_null(w);
	w->low = world_map(WORLD_LOW);
	w->high = world_map(WORLD_SIZE);
	atomic_store(&w->intr_polls, -1);
	w->module = tdx_module_create(&config, NULL, 0);
	assert_non_null(w->module);
	for (unsigned int i = 0; i < WORLD_SIZE / WORLD_PAGE / 1024; i++)
		assert_int_equal(world_leaf(w, 0, TDH_SYS_TDMR_INIT, WORLD_BASE, 0, 0),
				 TDX_SUCCESS);
	return w;
}

static inline void world_destroy(struct world *w)
{
	tdx_module_destroy(w->module);
	munmap(w->low, WORLD_LOW);
	munmap(w->high, WORLD_SIZE);
	free(w);
}

/* A TD to be built by world_build(). */
struct world_kind {
	uint64_t attributes, flags;
	unsigned int levels; /* 4 or 5 */
	unsigned int nr_l2;
	unsigned int nr_vcpus;
	bool runnable;
};

static inline void world_ok(struct world *w, unsigned int leaf, uint64_t rcx, uint64_t rdx,
			    uint64_t r8)
{
	assert_int_equal(world_leaf(w, 0, leaf, rcx, rdx, r8), TDX_SUCCESS);
}

/* The tables over GPA 0, with those of the L2 VMs behind the TD's own. */
static inline void world_add_tables(struct world *w, const struct world_kind *kind)
{
	uint64_t page = WORLD_TABLES;

	for (unsigned int level = kind->levels - 1; level > 0; level--) {
		struct tdx_regs regs = {.rax = TDH_MEM_SEPT_ADD | 1ull << TDX_RAX_VERSION_SHIFT,
					.rcx = level,
					.rdx = WORLD_TDR,
					.r8 = page,
					.r9 = TDX_NULL_PA,
					.r10 = TDX_NULL_PA,
					.r11 = TDX_NULL_PA};

		page += WORLD_PAGE;
		for (unsigned int vm = 1; vm <= kind->nr_l2; vm++, page += WORLD_PAGE)
			regs.gpr[8 + vm] = page;
		assert_int_equal(world_call(w, 0, &regs), TDX_SUCCESS);
	}
}

static inline void world_add_vcpu(struct world *w, const struct world_kind *kind, unsigned int i)
{
	world_ok(w, TDH_VP_CREATE, WORLD_VCPU(i), WORLD_TDR, 0);
	for (unsigned int page = 1; page < 6 + 3 * kind->nr_l2; page++)
		world_ok(w, TDH_VP_ADDCX, WORLD_VCPU(i) + page * WORLD_PAGE, WORLD_VCPU(i), 0);
	world_ok(w, TDH_VP_INIT, WORLD_VCPU(i), 0, 0);
	world_ok(w, TDH_VP_FLUSH, WORLD_VCPU(i), 0, 0);
}

static inline void world_build(struct world *w, const struct world_kind *kind)
{
	const struct tdx_td_params params = {
		.attributes = kind->attributes,
		.config_flags = kind->flags,
		.eptp_controls = tdx_eptp_controls(kind->levels),
		.max_vcpus = 4,
		.num_l2_vms = (uint8_t)kind->nr_l2,
		.xfam = 3,
		.tsc_frequency = 100,
	};

	memcpy(w->low + WORLD_PARAMS, &params, sizeof(params));
	world_ok(w, TDH_MNG_CREATE, WORLD_TDR, WORLD_HKID, 0);
	world_ok(w, TDH_MNG_KEY_CONFIG, WORLD_TDR, 0, 0);
	for (unsigned int i = 0; i < 6 + kind->nr_l2; i++)
		world_ok(w, TDH_MNG_ADDCX, WORLD_TDCX + i * WORLD_PAGE, WORLD_TDR, 0);
	world_ok(w, TDH_MNG_INIT, WORLD_TDR, WORLD_PARAMS, 0);
	world_add_tables(w, kind);
	for (unsigned int i = 0; i < kind->nr_vcpus; i++)
		world_add_vcpu(w, kind, i);
	if (kind->runnable)
		world_ok(w, TDH_MR_FINALIZE, WORLD_TDR, 0, 0);
}

/* -- events -- */

static inline void play_host(struct world *w, const struct event *e, struct answer *a)
{
	a->regs = (struct tdx_regs){.rax = e->r[0],
				    .rcx = e->r[1],
				    .rdx = e->r[2],
				    .r8 = e->r[3],
				    .r9 = e->r[4],
				    .r10 = e->r[5],
				    .r11 = e->r[6]};
	a->side = tdx_module_seamcall(w->module, e->lp, &a->regs);
	if (a->side == TDX_GUEST) {
		tdx_module_guest_state(w->module, e->lp, &w->guest[e->lp]);
		a->regs = w->guest[e->lp].regs;
	}
}

static inline void play_guest(struct world *w, const struct event *e, struct answer *a)
{
	struct tdx_guest *guest = &w->guest[e->lp];
	uint64_t rip = guest->rip;
	struct tdx_regs host;

	guest->regs = (struct tdx_regs){.rax = e->r[0],
					.rcx = e->r[1],
					.rdx = e->r[2],
					.r8 = e->r[3],
					.r9 = e->r[4],
					.r10 = e->r[5],
					.r11 = e->r[6]};
	a->side = tdx_module_tdcall(w->module, e->lp, guest, &host);
	a->regs = a->side == TDX_HOST ? host : guest->regs;
	a->rip_delta = guest->rip - rip;
	a->vector = guest->vector;
}

static inline void play_exit(struct world *w, const struct event *e, struct answer *a)
{
	const struct tdx_vmexit exit = {.reason = (uint32_t)e->r[0],
					.gpa = e->r[1],
					.qualification = e->r[2],
					.gla = e->r[3]};
	struct tdx_guest *guest = &w->guest[e->lp];
	struct tdx_regs host;

	guest->rip += e->r[4];
	a->side = tdx_module_vmexit(w->module, e->lp, &exit, guest, &host);
	a->regs = a->side == TDX_HOST ? host : guest->regs;
	a->vector = guest->vector;
}

/* A translation that is there is remembered. */
static inline void play_touch(struct world *w, const struct event *e)
{
	struct world_tlb *tlb = &w->tlb[e->lp];
	struct tdx_port_walk walk;
	struct tdx_port_td td;

	if (!tdx_module_port.td_entry(w->module, e->lp, &td) ||
	    tdx_module_port.private_walk(w->module, e->lp, e->r[0], &walk) || !walk.present ||
	    tlb->count == WORLD_TLB)
		return;
	for (unsigned int i = 0; i < tlb->count; i++)
		if (tlb->entry[i].tdr == td.tdr && tlb->entry[i].gpa == e->r[0] &&
		    tlb->entry[i].hpa == walk.hpa)
			return;
	tlb->entry[tlb->count].tdr = td.tdr;
	tlb->entry[tlb->count].gpa = e->r[0];
	tlb->entry[tlb->count].hpa = walk.hpa;
	tlb->entry[tlb->count++].level = walk.level;
}

static inline void play_params(struct world *w, const struct event *e)
{
	const struct tdx_td_params params = {
		.attributes = e->r[0],
		.config_flags = e->r[1],
		.eptp_controls = 6 | e->r[2] << 3,
		.max_vcpus = (uint16_t)e->r[3],
		.num_l2_vms = (uint8_t)e->r[4],
		.xfam = 3,
		.tsc_frequency = 100,
	};

	memcpy(w->low + WORLD_PARAMS, &params, sizeof(params));
}

static inline struct answer world_play(struct world *w, const struct event *e)
{
	bool guest = e->kind == EV_GUEST || e->kind == EV_EXIT || e->kind == EV_TOUCH;
	bool inside = tdx_module_running_vcpu(w->module, e->lp) != 0;
	struct answer a = {0};

	if ((guest && !inside) || (e->kind == EV_HOST && inside))
		return a;
	a.done = true;
	a.side = inside ? TDX_GUEST : TDX_HOST;
	atomic_fetch_add(&w->tsc, e->kind == EV_GUEST || e->kind == EV_EXIT ? 10000 : 0);
	if (e->kind == EV_HOST)
		play_host(w, e, &a);
	else if (e->kind == EV_GUEST)
		play_guest(w, e, &a);
	else if (e->kind == EV_EXIT)
		play_exit(w, e, &a);
	else if (e->kind == EV_TOUCH)
		play_touch(w, e);
	else if (e->kind == EV_PARAMS)
		play_params(w, e);
	else
		atomic_store(&w->intr_polls, (int64_t)e->r[0]);
	return a;
}

/* In the notation of the recordings. */
static inline void event_print(const struct event *e)
{
	static const char *const name[] = {"", "rcx", "rdx", "r8", "r9", "r10", "r11"};
	const unsigned long long *r = (const unsigned long long *)e->r;

	if (e->kind == EV_PARAMS) {
		print_error("params %#llx %llu %llu %llu %llu %llu %llu\n", WORLD_PARAMS, r[0],
			    r[1] & 1, r[2], r[3], r[4], r[1]);
	} else if (e->kind == EV_INTR) {
		print_error("intr %lld\n", (long long)r[0]);
	} else if (e->kind == EV_TOUCH) {
		print_error("lp %u\n# the guest uses %#llx\n", e->lp, r[0]);
	} else if (e->kind == EV_EXIT) {
		print_error(
			"lp %u\nX reason=%llu gpa=%#llx qual=%#llx gla=%#llx # after %llu bytes\n",
			e->lp, r[0], r[1], r[2], r[3], r[4]);
	} else {
		print_error("lp %u\n%c %llu", e->lp, e->kind == EV_HOST ? 'S' : 'T', r[0] & 0xffff);
		if (r[0] >> 16)
			print_error(" v=%llu", r[0] >> 16);
		for (unsigned int i = 1; i < 7; i++)
			if (r[i])
				print_error(" %s=%#llx", name[i], r[i]);
		print_error("\n");
	}
}

#endif
