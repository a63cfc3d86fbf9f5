/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `triptych run`: a written situation, played by the model processor on the library. The scenario
 * says what guest and host do; nothing here decides what a fault becomes, and nothing is counted
 * that did not happen here.
 *
 *	file --> scenario --> engine: vCPUs' accesses, timed events --> sim or td: machine <->
 *library |                                                     | counters  <------------ stats,
 *machine, module ----------+--> trace
 *
 * The text form is described in scenarios/README.md. Units: addresses and sizes are bytes, time is
 * in steps. In one step each vCPU makes at most one access.
 */
#ifndef TRIPTYCH_CLI_RUN_H
#define TRIPTYCH_CLI_RUN_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "cli/inject.h"
#include "cli/input.h"
#include "cli/sim.h"
#include "cli/slots_file.h"
#include "cli/td.h"

#include <triptych/nx.h>

#define RUN_WHY_LEN   256
#define RUN_TEXT_LEN  256
#define RUN_MAX	      64 /* lines of one kind in a scenario, unless said otherwise */
#define RUN_VALUE_LEN 64
#define RUN_OPERANDS  8
#define RUN_SPARES    8
#define RUN_PAGE      ((uint64_t)4096)
/* Host-virtual memory: 64 GiB for each slot, in the order of the file. */
#define RUN_HVA_BASE   ((uint64_t)1 << 44)
#define RUN_HVA_STRIDE ((uint64_t)1 << 36)

/* ---- the scenario (run_parse.c) ---- */

struct run_area {
	uint64_t start, size; /* bytes, multiples of 4 KiB */
};

enum run_vm_kind { RUN_NPT, RUN_EPT, RUN_TD };

struct run_vm {
	enum run_vm_kind kind;
	uint32_t vcpus;
	uint32_t levels;
	enum tpt_level leaf;
	uint32_t chunk;		      /* tpt_vm_config.zap_chunk */
	uint32_t flags;		      /* TPT_VM_* */
	uint32_t ring;		      /* tpt_vm_config.dirty_ring_size */
	bool ve_disable;	      /* td: TDX_ATTR_SEPT_VE_DISABLE */
	enum tpt_level private_level; /* td: largest private page; NONE: 4K */
};

/* A memslot and the host memory behind it. */
struct run_slot_line {
	uint32_t line;
	uint32_t id, nr; /* ids [id, id + nr): the area is divided among them */
	struct run_area area;
	enum tpt_level page;	/* blocks that the host has memory in */
	enum tpt_level told;	/* page size that the host reports */
	enum tpt_level restore; /* how much the host fills in at a page's first use; NONE: all is
				   there */
	bool cow, readonly, log, absent;
};

enum run_pattern { RUN_SEQUENTIAL, RUN_STRIDE, RUN_RANDOM, RUN_HOT, RUN_FILE };

/* What vCPUs do from one step to another. */
struct run_guest_line {
	uint32_t line;
	uint32_t first, last; /* vCPUs */
	enum run_pattern pattern;
	struct run_area area;
	uint64_t from, to; /* steps [from, to) */
	uint64_t stride, hot;
	uint32_t write, exec, hotness; /* per cent */
	bool divided, accept, shared;
	/* RUN_FILE: accesses of a recorded trace, in its order; area is where they may go. */
	uint64_t *gpas;
	uint8_t *kinds; /* enum machine_kind */
	uint64_t nr_gpas;
};

enum run_event_kind {
	RUN_EVENT_PHASE,
	RUN_EVENT_SLOT_CREATE,
	RUN_EVENT_SLOT_DELETE,
	RUN_EVENT_SLOT_MOVE,
	RUN_EVENT_LOG_ON,
	RUN_EVENT_LOG_OFF,
	RUN_EVENT_LOG_GET,
	RUN_EVENT_LOG_CLEAR,
	RUN_EVENT_UNMAP,
	RUN_EVENT_CONVERT_PRIVATE,
	RUN_EVENT_CONVERT_SHARED,
	RUN_EVENT_PUNCH,
	RUN_EVENT_ZAP_ALL,
	RUN_EVENT_AGE,
	RUN_EVENT_TEST_AGE,
	RUN_EVENT_PREFAULT,
	RUN_EVENT_PREMAP,
	RUN_EVENT_NX_MODE,
	RUN_EVENT_NX_RECOVER,
	RUN_EVENT_RING_DRAIN,
	RUN_EVENT_AUDIT,
	RUN_EVENT_KILL,
	RUN_EVENT_KICK,
	RUN_EVENT_NAME,
	RUN_EVENT_SEAMCALL,
	RUN_EVENT_TDCALL,
	RUN_EVENT_TOUCH,
	RUN_EVENT_TDS_CREATE,
	RUN_EVENT_TDS_END,
	RUN_EVENT_KINDS,
};

/* An operand or an answer of a call that the scenario makes by itself: a register and its value. */
struct run_operand {
	uint8_t reg; /* index into tdx_regs.gpr */
	char value[RUN_VALUE_LEN];
};

/* A SEAMCALL or TDCALL with registers, or a bare access, and what must come of it. */
struct run_call {
	unsigned int leaf;
	unsigned int access; /* enum machine_kind */
	char address[RUN_VALUE_LEN];
	struct run_operand in[RUN_OPERANDS], out[RUN_OPERANDS];
	uint32_t nr_in, nr_out;
	char expect[64];
};

struct run_event {
	uint32_t line;
	enum run_event_kind kind;
	uint64_t first, period, last; /* steps; period 0: once */
	bool finally;		      /* when the TD is gone */
	uint32_t slot, vcpu;
	struct run_area area;
	uint64_t piece; /* bytes of the area that one event takes; 0: all */
	bool walking;	/* pieces in order, not at random */
	bool accept;	/* convert: the guest accepts at once what became private */
	bool drop;	/* unmap: the host's memory goes with it */
	bool write;	/* premap: for writing, too */
	uint32_t lasts; /* unmap: steps until the invalidation ends */
	uint32_t ratio; /* nx recover */
	enum tpt_nx_mode mode;
	uint64_t to;   /* move: guest-physical address */
	uint32_t nr;   /* tds */
	uint32_t call; /* index into scenario.calls */
	char text[RUN_TEXT_LEN];
};

/* A figure that somebody else published: never mixed with ours. */
struct run_published {
	char what[RUN_TEXT_LEN], value[RUN_TEXT_LEN], machine[RUN_TEXT_LEN], source[RUN_TEXT_LEN];
};

/* A counter of ours times a constant of somebody else's. */
struct run_estimate {
	char what[RUN_TEXT_LEN], counter[64], source[RUN_TEXT_LEN];
	bool known;
	double each_ns;
};

enum run_relation { RUN_EQUAL, RUN_AT_MOST, RUN_AT_LEAST };

struct run_expect {
	uint32_t line;
	char counter[64], why[RUN_TEXT_LEN];
	enum run_relation relation;
	char other[64]; /* another counter; "": @value */
	uint64_t value;
};

/* Pages that a TD has before it runs. */
struct run_build {
	uint32_t line;
	struct run_area area;
	bool unmeasured;
};

struct scenario {
	char name[64];
	char story[RUN_MAX][RUN_TEXT_LEN], source[RUN_MAX][RUN_TEXT_LEN];
	uint32_t nr_stories, nr_sources;
	struct run_vm vm;
	bool threads;
	uint64_t seed, steps;
	struct run_slot_line slots[RUN_MAX];
	struct run_guest_line guests[RUN_MAX];
	struct run_event events[RUN_MAX];
	struct run_published published[RUN_MAX];
	struct run_estimate estimates[RUN_MAX];
	struct run_expect expects[RUN_MAX];
	struct run_build builds[RUN_MAX];
	struct run_call calls[RUN_MAX];
	char injects[INJECT_MAX][INJECT_TEXT_LEN];
	uint32_t nr_builds, nr_calls, nr_injects;
	uint32_t nr_slots, nr_guests, nr_events, nr_published, nr_estimates, nr_expects;
};

/*
 * Reads @path ("-": standard input). *@s is ended with scenario_free() whatever is returned. 0;
 * -EINVAL with @err naming file, line, value and rule; -ENOMEM; or an error of input_open() or
 * input_read(). Files that the scenario names lie beside it.
 */
int scenario_read(struct scenario *s, const char *path, char err[INPUT_ERR_LEN]);
/* The same from text; @name stands for the file in messages. */
int scenario_parse(struct scenario *s, const char *name, const char *text, size_t len,
		   char err[INPUT_ERR_LEN]);
void scenario_free(struct scenario *s);

/* ---- the host's memory behind a VM without a TD (run_memory.c) ---- */

struct run;

/* One memslot, whether it is there now or not. */
struct run_slot {
	const struct run_slot_line *def;
	uint32_t id;
	uint64_t gpa, pages, hva;
	bool there, logging;
	_Atomic uint64_t *frame; /* by page: HPA, 0 = none yet; bit 0: the host's zero page, for
				    reading */
	_Atomic uint8_t *block;	 /* by page: level of the host's block that it is in */
	_Atomic uint8_t *filled; /* by page: the host has put its content there */
	uint64_t *bitmap;	 /* what the last get returned */
	_Atomic uint8_t *shared; /* td, by page: the guest made it shared */
	uint64_t *written;	 /* pages written and not yet cleared: what a log must hold */
};

int memory_init(struct run *r);
/* Gives all frames back. */
void memory_end(struct run *r);
extern const struct tpt_backing_ops memory_backing_ops;
/*
 * The host takes [gpa, gpa + size) of a slot back; @drop: its frames are gone, and others come
 * instead. begin() returns the number of leaves that went, or a negative errno; end() is owed if it
 * is not negative.
 */
int memory_unmap_begin(struct run *r, struct run_slot *s, uint64_t gpa, uint64_t size, bool drop,
		       struct tpt_invalidation *token);
void memory_unmap_end(struct run *r, struct tpt_invalidation *token);
/* Slot that is there now and holds @gpa, or NULL. */
struct run_slot *memory_slot_at(struct run *r, uint64_t gpa);
/* For tpt_vm_config.event, with the run as ctx. */
void memory_event(void *run, const struct tpt_event *event);
/* Pages that a table maps and the host never filled. */
uint64_t memory_unfilled(struct run *r);

/* ---- the run ---- */

/* What is counted at a phase's beginning, and again at its end. */
struct run_snapshot {
	uint64_t accesses, taken, fixed, fast, spurious, retry, emulate, flushes, kicks, calls;
};

struct run_phase {
	const char *name;
	uint64_t step; /* where it begins */
	struct run_snapshot at;
};

/* One vCPU's place in what it does. Its thread's only. */
struct run_vcpu {
	_Alignas(64) uint64_t accesses, errors, mmio, stalled, stall, longest_stall;
	uint64_t ring_full;
	uint64_t unfilled; /* accesses to pages that the host had not filled in */
	int first_error;
	uint64_t error_gpa;
	/* The access under way; kept while it is to be tried again. */
	bool pending;
	uint64_t gpa;
	unsigned int kind;
	struct run_guest_line *doing;
	struct {
		uint64_t position, random;
	} place[RUN_MAX]; /* by guest line */
	_Atomic uint64_t step;
};

/* What events came to. */
struct run_totals {
	uint64_t times[RUN_EVENT_KINDS];
	uint64_t unmapped; /* leaves */
	uint64_t ring_entries, ring_reset, nx_recovered;
	uint64_t young, prefaulted;		   /* pages */
	uint64_t dirty, dirty_missed, copied;	   /* pages */
	uint64_t restored, zero_reads, cow_copies; /* pages; of lookups */
	uint64_t busy;				   /* events that the library answered -EBUSY to */
	uint64_t failed;	    /* events that failed because a failure was injected */
	uint64_t calls, unexpected; /* of the scenario's own: made, and answered otherwise */
	uint64_t tds, tds_refused;  /* further TDs made; not made, for want of a key id */
};

/* An invalidation that lasts. */
struct run_pending {
	bool used;
	uint64_t end;
	struct tpt_invalidation token;
};

struct run_counter {
	char name[48];
	uint64_t value;
};

/* A value that the scenario gave a name. */
struct run_name {
	char name[32];
	uint64_t value;
};

struct run_trace;
struct run_cost;

struct run {
	const struct scenario *sc;
	struct sim *sim;
	struct simtd *td; /* NULL: no TD */
	struct run_slot *slots;
	uint32_t nr_slots;
	struct run_vcpu *vcpus;
	struct run_trace *trace;      /* NULL: none */
	struct slot_history *history; /* NULL: nobody wants it */
	struct inject *inject;	      /* NULL: nothing fails on purpose */
	bool injected_outside;	      /* not by the scenario, which can't know what to expect */
	const struct run_cost *cost;  /* NULL: none */
	uint32_t zaps;		      /* zap-all events so far */
	pthread_mutex_t ring;	      /* one collects and resets at a time */
	pthread_mutex_t memory;	      /* frames; never taken inside of a section of the library */
	uint64_t zero_page;	      /* HPA */
	uint32_t *by_id;	      /* slots by id: index + 1 */
	/* Leaves that the invalidation under way removed. Under @memory. */
	struct run_removed {
		uint64_t gfn;
		uint32_t level, as_id;
	} * removed;
	size_t nr_removed, room_removed;
	bool collecting;
	uint64_t used_before; /* frames of the machine */
	struct run_pending pending[RUN_MAX];
	struct {
		uint64_t position, random;
	} place[RUN_MAX]; /* by event */
	struct run_phase phases[RUN_MAX + 2];
	uint32_t nr_phases;
	struct run_totals totals;
	struct run_name names[RUN_MAX];
	uint32_t nr_names;
	uint64_t spare[RUN_SPARES]; /* HPAs of pages for the scenario's own calls; 0: none yet */
	bool killed;
	_Atomic uint64_t logged;	   /* errors that the host half and the library logged */
	char log_text[RUN_WHY_LEN];	   /* the first of them, if failures are on purpose */
	char failed_text[RUN_WHY_LEN];	   /* the first event that a failure on purpose made fail */
	char not_made[RUN_WHY_LEN];	   /* a failure on purpose: the TD was never finished */
	char unexpected_text[RUN_WHY_LEN]; /* the first call that was answered otherwise */
	_Atomic bool stop;		   /* threads: something failed */
	char why[RUN_WHY_LEN];

	/* Filled at the end. */
	struct tpt_vm_stats stats;	 /* when the guest stopped */
	struct tpt_vm_stats final_stats; /* after teardown */
	struct simtd_stats td_stats;
	struct simtd_remains remains;
	struct simtd_pamt pamt; /* when the guest stopped */
	struct machine_counters cpu;
	uint64_t peak_pages;	  /* table pages, caches included */
	uint64_t longest_lock_ns; /* an exclusive section of the run, by this machine's clock */
	uint64_t unfilled;
	int audit;
	char audit_text[RUN_WHY_LEN];
	uint64_t judge;
	char judge_text[RUN_WHY_LEN];
	char dead_text[RUN_WHY_LEN];
	bool dead;
	uint64_t misuses;
	int64_t frames; /* of the machine that are missing or too many */
	struct run_counter *counters;
	uint32_t nr_counters;
};

/* Runs all of r->sc; fill it and r->trace of a zeroed *r first. 0, or a negative errno with
 * r->why. Ended by run_free() in any case. */
int run_run(struct run *r);
void run_free(struct run *r);

/* Of a run under way (run_state.c). */
struct tpt_vm *run_vm(struct run *r);
void run_snap(struct run *r, struct run_snapshot *at);
/* Writes r->why, once, and returns @err. */
int run_fail(struct run *r, int err, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The next access of a vCPU at a step; false: it has nothing to do (run_guest.c). */
bool guest_next(struct run *r, unsigned int vcpu, uint64_t step);
/* The vCPU's access was made, or is given up. */
void guest_done(struct run *r, unsigned int vcpu);
uint64_t run_random(uint64_t *state);

/* Events of one step (run_events.c). 0, or a negative errno with r->why. */
int events_at(struct run *r, uint64_t step);
/* Those that wait for the TD's end. */
int events_finally(struct run *r);
/* Ends all invalidations that last. */
void events_end(struct run *r);
/* Collects and resets all dirty rings. 0 or a negative errno. */
int events_drain_rings(struct run *r);
/* What was written and never found, at the end. */
int events_last_log(struct run *r);
int events_create_slot(struct run *r, struct run_slot *s, uint64_t gpa);

/* ---- calls that the scenario makes by itself (run_raw.c) ---- */

/* Is it a sum of values that can be known at run time? */
bool raw_value_is_valid(const char *text);
/* Does the event. What is answered otherwise than expected is counted. 0, or a negative errno with
 * r->why: a value can't be known. */
int raw_event(struct run *r, const struct run_event *e);
/* Gives the spare pages back. Before the TD's end. */
void raw_end(struct run *r);

/* ---- counters and screens (run_count.c, run_screen.c, run_json.c) ---- */

/* Fills r->counters. -ENOMEM. */
int run_count(struct run *r);
/* NULL: there is no such counter. */
const struct run_counter *run_counter(const struct run *r, const char *name);
/* What an expectation compares with. */
uint64_t run_expected(const struct run *r, const struct run_expect *e);
/* Does an expectation hold? */
bool run_holds(const struct run *r, const struct run_expect *e);
/* Something was injected that can't be got over: the TD may die, and pages may leak. */
bool run_may_fail(const struct run *r);
/* Pages that leaked, and whether that is all of them: @accounted. */
uint64_t run_leaked(const struct run *r, bool *accounted);
/* What is wrong with the run: audit, judge, balances, expectations that fail. 0: nothing. */
unsigned int run_unsound(const struct run *r);
void run_screen(const struct run *r, FILE *out);
void run_json(const struct run *r, FILE *out);

/* ---- the slots' history, as a replay reads it (run_slots.c) ---- */

/* The slots have changed: r->history, if it is there, gets a table for the zap-alls so far, or a
 * new one instead. -ENOMEM. */
int run_slots_note(struct run *r);
/* Writes r->history to a new file. 0 or a negative errno. */
int run_slots_write(const struct run *r, const char *path);

/* ---- the trace (run_trace.c) ---- */

/* 0 or a negative errno; ended by run_trace_close(). */
int run_trace_open(struct run_trace **out, const char *path);
/* A tpt_event_fn with the struct run_trace as ctx. */
void run_trace_event(void *trace, const struct tpt_event *event);
/* The host told the library what stands behind a page. */
void run_trace_requested(struct run_trace *trace, tpt_gfn gfn, tpt_pfn pfn, enum tpt_level level);
/* The VMM did an access that the library left to it. */
void run_trace_mmio(struct run_trace *trace, unsigned int vcpu, uint64_t gpa, bool write);
/* The calling thread does vCPU @vcpu's work from now on; -1: the VMM's. */
void run_trace_task(int vcpu);
/* 0, or a negative errno if something could not be written. NULL is allowed. */
int run_trace_close(struct run_trace *trace);

#endif
