/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of a simulated TD share. Never included by anybody else. */
#ifndef TRIPTYCH_CLI_TD_INTERNAL_H
#define TRIPTYCH_CLI_TD_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "cli/td.h"

#define TD_PAGE 4096ull
/* The one TDMR: below the key-id bits, far above shared memory. */
#define TDMR_BASE SIM_TABLES_BASE

/* Sub-functions and answers of TDG.VP.VMCALL: TDX GHCI, "TDG.VP.VMCALL Interface". */
#define GHCI_MAP_GPA	     0x10001ull
#define GHCI_REQUEST_MMIO    48ull /* the exit reason that the #VE stood for */
#define GHCI_SUCCESS	     0ull
#define GHCI_RETRY	     1ull
#define GHCI_INVALID_OPERAND (1ull << 63)
#define GHCI_ALIGN_ERROR     (1ull << 63 | 2)
#define GHCI_UNSUPPORTED     (1ull << 63 | 3)
/* RCX of the call: R10 to R15 are passed. */
#define GHCI_REGISTERS 0xfc00ull

/* One slot, its private frames and its shared ones, by page. 0: none. */
struct simtd_slot {
	struct simtd *td;
	uint64_t gpa, pages, hva;
	struct tpt_gmem *gmem;
	uint64_t *private_hpa, *shared_hpa;
	/* What the guest knows of each block of 2 MiB: it has converted some of it. */
	_Atomic uint8_t *converted;
};

/* An LP with a vCPU. Everything is under @lock unless it says
 * otherwise; @vcpu never changes. */
struct simtd_lp {
	_Alignas(64) pthread_mutex_t lock; /* recursive; innermost but for the machine's own */
	struct tdx_vcpu *vcpu;
	bool inside;		/* the LP is in SEAM non-root mode */
	struct tdx_guest guest; /* if inside */
	unsigned int vector;	/* of the last exception; the vCPU's thread only */
	struct tdx_regs answer; /* to the guest's TDG.VP.VMCALL, for the next entry */
	tpt_hpa shared_root;	/* as last written to the vCPU */
	struct simtd_stats stats;
};

struct simtd {
	struct simtd_config config;
	struct sim *sim;
	bool sim_given;
	struct machine *machine;
	struct tdx_module *module;
	struct tdx_host *host;
	struct tdx_td *tdx;
	uint64_t shared; /* the shared bit */
	uint64_t tdmr_bytes;
	uint64_t used_before; /* frames of the machine */
	pthread_key_t place;  /* of a thread: its LP + 1 */
	bool has_place;
	_Atomic uint64_t tsc;
	_Atomic unsigned int next_host_lp;
	_Atomic unsigned int held;		    /* vCPUs may not enter */
	_Atomic bool interrupted[MACHINE_MAX_CPUS]; /* by LP: a SEAMCALL is to find an interrupt */
	/* Moves when roots that vCPUs may have loaded are gone. */
	_Atomic uint64_t roots_gone;

	pthread_mutex_t frames; /* the slots' frames and counts of them */
	struct simtd_slot slots[TD_MAX_SLOTS];
	unsigned int nr_slots;
	uint64_t private_pages, shared_pages;
	uint64_t to_shared, to_private; /* pages converted */
	bool ended;
	struct tdx_td *others[TD_MAX_OTHERS]; /* oldest first; one thread */
	unsigned int nr_others;
	struct simtd_lp lps[TD_MAX_VCPUS];
};

/* The LP that the calling thread is on; a thread that is on none gets one without a vCPU. */
unsigned int simtd_current_lp(void *td);
/* Makes the calling thread be on @lp; returns where it was, for another such call. */
unsigned int simtd_stand_on(struct simtd *td, unsigned int lp);

/* td_memory.c: what stands behind GFNs that are shared; the context is the TD. */
extern const struct tpt_backing_ops simtd_backing_ops;
/* Frames are the embedder's: they go when nothing maps them any more. */
void simtd_free_slots(struct simtd *td);
/* The slot that holds all of [gpa, gpa + size), or NULL. */
struct simtd_slot *simtd_find_slot(struct simtd *td, uint64_t gpa, uint64_t size);
/*
 * Converts [gpa, gpa + size) inside one slot, backing included: what the old kind of memory held is
 * freed. *done: bytes converted, also on an error.
 */
int simtd_convert(struct simtd *td, const struct simtd_slot *slot, uint64_t gpa, uint64_t size,
		  bool private_, uint64_t *done);

/* The wires that td_run.c gives the simulation and the host half. */
void simtd_on_kick(void *td, bool reload);
void simtd_on_hold(void *td, bool held);
int simtd_run_on(void *td, unsigned int lp, void (*fn)(void *arg), void *arg);
/* How often something that stays busy is tried: config.tries, or @usual. */
unsigned int simtd_tries(const struct simtd *td, unsigned int usual);
/* The external ops with failures on purpose; the context is the TD (td_inject.c). */
extern const struct tpt_external_ops simtd_inject_ops;
/* tdx_module_config.interrupt_pending: only where one was injected. */
bool simtd_interrupt_pending(void *td, unsigned int lp);
enum tdx_side simtd_seamcall(void *td, unsigned int lp, struct tdx_regs *regs);

#endif
