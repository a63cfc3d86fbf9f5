/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A TD on the simulated host: module model, a VMM's TDX half and the library over one machine, and
 * the guest's half of the conversation. Knows no trace; never decides what a fault becomes.
 *
 *	guest (td_guest.c)   simtd_access, simtd_call            #VE: accept, MMIO, MapGPA
 *	processor, host      enter -> access -> TD exit -> tdx_exit_fault -> tpt_vcpu_fault
 *	                              access -> #VE by the processor, no exit
 *	memory               one TDMR: table pages, external pages, TDX control pages, private
 *	                     frames; outside of it: shared frames
 *
 * LP n is vCPU n's for ever. A thread that drives vCPU n is on LP n while one of the functions with
 * @vcpu runs; otherwise it is on an LP of its own that runs no guest. At most one thread at a time
 * drives one vCPU; different vCPUs may have different threads, and the rest of the functions may be
 * called from any other thread meanwhile unless they say otherwise.
 *
 * Between two accesses a vCPU stays inside the TD: until an exit, or until it is kicked.
 * Functions return 0 or a negative errno unless said otherwise. Addresses and sizes are bytes.
 */
#ifndef TRIPTYCH_CLI_TD_H
#define TRIPTYCH_CLI_TD_H

#include <triptych/triptych.h>

#include "cli/inject.h"
#include "cli/sim.h"
#include "tdx/host/host.h"
#include "tdx/module/memory.h"
#include "tdx/module/module.h"

/* LPs without a vCPU, for threads that only make SEAMCALLs. */
#define TD_HOST_LPS 8
/* vCPUs and those LPs are the processors of one machine. */
#define TD_MAX_VCPUS (MACHINE_MAX_CPUS - TD_HOST_LPS)
#define TD_MAX_SLOTS 64
/* Key ids: so many bits from that bit of a physical address on; the upper half is private. */
#define TD_HKID_START 46
#define TD_HKID_BITS  6
/* Further TDs on the machine, at most. */
#define TD_MAX_OTHERS 64
/* Pages that the guest may use at most through one MapGPA before it is sent round again: KVM's. */
#define TD_MAP_GPA_MAX (2u << 20)

struct simtd;
struct simtd_remains;

struct simtd_config {
	unsigned int nr_vcpus;	/* 1 .. TD_MAX_VCPUS */
	uint64_t private_bytes; /* private memory that there can be at most */
	uint64_t shared_bytes;	/* the same for shared memory */
	uint64_t attributes;	/* TDX_ATTR_* */
	uint32_t zap_chunk;	/* tpt_vm_config.zap_chunk */
	/* Frames behind shared and private memory come in blocks of this size, and private pages
	 * are accepted and mapped so where they can be: 4K or 2M; NONE = 4K. */
	enum tpt_level shared_level, private_level;

	/* Hears all that the library tells. May be NULL. */
	tpt_event_fn *event;
	void *event_ctx;
	/* The guest accepted a page of @level. Called by the vCPU's thread. May be NULL. */
	void (*accepted)(void *ctx, unsigned int vcpu, tpt_gfn gfn, enum tpt_level level);
	/* A device's register, without the shared bit in @gpa. NULL: reads give 0. */
	void (*mmio)(void *ctx, unsigned int vcpu, uint64_t gpa, unsigned int size, bool write,
		     uint64_t *value);
	void *ctx; /* of accepted() and mmio() */
	/* Failures on purpose, or NULL. The caller's; outlives the TD. */
	struct inject *inject;
	/* Tries of a call, an entry, a private fault or a MapGPA that stays busy; 0: a great many.
	 */
	uint32_t tries;
	/* If making the TD fails: what was left of it. May be NULL. */
	struct simtd_remains *remains;

	/* Gets what host half and library log; NULL: standard error. */
	void (*log)(void *ctx, enum tpt_log_level level, const char *text);
	void *log_ctx;
};

/*
 * A TD that is being built: its key, its pages, its vCPUs, the VM, no memory yet. The caller frees
 * *out with simtd_destroy(). On failure @why names the step.
 */
int simtd_create(struct simtd **out, const struct simtd_config *config, char *why, size_t why_size);

struct sim *simtd_sim(struct simtd *td);
struct tpt_vm *simtd_vm(struct simtd *td);
struct tdx_host *simtd_host(struct simtd *td);
struct tdx_module *simtd_module(struct simtd *td);
struct tdx_td *simtd_tdx(struct simtd *td);
/* The address bit that means shared. */
uint64_t simtd_shared(const struct simtd *td);

/*
 * [gpa, gpa + size) becomes RAM, private from the beginning, with a gmem of its own. Before
 * simtd_finalize(). -ENOSPC: TD_MAX_SLOTS; errors of the library.
 */
int simtd_add_slot(struct simtd *td, uint64_t gpa, uint64_t size);
/* PAGE.ADD of one page with @content (4 KiB), measured by MR.EXTEND if @measure. One thread. */
int simtd_add_page(struct simtd *td, uint64_t gpa, const void *content, bool measure);
/* MR.FINALIZE: from here on the guest runs, and memory comes by fault. */
int simtd_finalize(struct simtd *td);
/* Host-virtual address that shared memory at @gpa has; in no slot too. */
uint64_t simtd_hva(uint64_t gpa);
/* The host's own view of shared memory at @gpa, to the end of its page; NULL if no frame is there.
 */
void *simtd_shared_ptr(struct simtd *td, uint64_t gpa);

/* ---- the guest on the processor (td_run.c) ---- */

/* What the guest's half gets back from one instruction. */
enum simtd_outcome {
	TD_COMPLETED,
	TD_EXCEPTION, /* simtd_vector() says which; the instruction was not performed */
};

#define TD_VECTOR_VE 20u

/* One load, store or fetch. */
struct simtd_access {
	uint64_t gpa;	   /* with the shared bit, if the guest's page tables have it there */
	unsigned int kind; /* enum machine_kind */
	void *buf;	   /* data to load or store; NULL: the access touches only */
	size_t len;	   /* of @buf; inside one page */
};

/*
 * The guest on @vcpu performs @access, however many exits it takes. enum simtd_outcome, or: -EFAULT
 * the host has nothing there, or the wrong attribute; -EACCES a page that was not accepted, in a
 * guest without #VE; -EBUSY the module stayed busy; -EIO the vCPU, the TD or the VM is dead.
 */
int simtd_access(struct simtd *td, unsigned int vcpu, const struct simtd_access *access);
/*
 * The same for TDCALL with *regs (leaf in RAX); on completion *regs is what the guest finds. A call
 * that the host must act on first (ACCEPT of a page that isn't there) is executed again after it.
 */
int simtd_call(struct simtd *td, unsigned int vcpu, struct tdx_regs *regs);
unsigned int simtd_vector(struct simtd *td, unsigned int vcpu);

/* Every vCPU has been out of the TD when it returns. What the library's kicks are made of. */
void simtd_kick(struct simtd *td);

/* ---- the guest's own half (td_guest.c) ---- */

/* What became of an access. */
enum simtd_touch {
	TD_TOUCHED, /* memory: done */
	TD_MMIO,    /* a device: done by TDG.VP.VMCALL<MMIO> */
};

/*
 * An access by a guest that handles its #VE: a page that it has not accepted is accepted and the
 * access made again; a shared address without memory is asked of the host as MMIO. enum
 * simtd_touch, or an error of simtd_access(), or -EPROTO: the module or host answered what it must
 * not.
 */
int simtd_guest_touch(struct simtd *td, unsigned int vcpu, const struct simtd_access *access);
/*
 * TDG.MEM.PAGE.ACCEPT of each page of [gpa, gpa + size). Pages accepted before are no error. With
 * private_level 2M a guest accepts whole blocks that it has never converted a part of, also around
 * the page of a #VE; where the size doesn't fit it falls back to small pages.
 */
int simtd_guest_accept(struct simtd *td, unsigned int vcpu, uint64_t gpa, uint64_t size);
/*
 * MapGPA: [gpa, gpa + size) becomes shared or private, in as many calls as the host wants. @gpa
 * without shared bit. Converting to private leaves pages that must be accepted. -EINVAL: the host
 * refused the range; -EBUSY: it never came to an end.
 */
int simtd_guest_map_gpa(struct simtd *td, unsigned int vcpu, uint64_t gpa, uint64_t size,
			bool private_);

/* ---- further TDs on the machine, with a key and no memory (td_others.c) ---- */

/*
 * One more. -ENOSPC: every key id is in use or lost, or there are TD_MAX_OTHERS; errors of
 * tdx_td_create().
 */
int simtd_add_other(struct simtd *td);
/* The oldest one ends. -ENOENT: there is none; errors of tdx_td_destroy(): it is gone all the same,
 * and what it kept is lost. */
int simtd_end_other(struct simtd *td);

/* What the PAMT, which is static, takes and says. */
struct simtd_pamt {
	uint64_t memory;    /* bytes of TDX memory that it describes */
	uint64_t bytes[3];  /* its own, for pages of 4 KiB, 2 MiB, 1 GiB */
	uint64_t leaves[3]; /* pages of each size that belong to somebody's guest */
	uint64_t tables;    /* Secure-EPT pages */
	uint64_t control;   /* pages of TDs and vCPUs */
};
void simtd_get_pamt(struct simtd *td, struct simtd_pamt *pamt);

/* ---- counters ---- */

/* Why vCPUs left the TD. */
enum simtd_exit {
	TD_EXIT_INTERRUPT,	/* a kick */
	TD_EXIT_PRIVATE,	/* EPT violation at a private address */
	TD_EXIT_ACCEPT,		/* ACCEPT of a page that the host must first provide */
	TD_EXIT_SHARED,		/* EPT violation or misconfiguration at a shared address */
	TD_EXIT_VMCALL_MMIO,	/* TDG.VP.VMCALL<#VE.RequestMMIO> */
	TD_EXIT_VMCALL_MAP_GPA, /* TDG.VP.VMCALL<MapGPA> */
	TD_EXIT_OTHER,
	TD_EXITS,
};

const char *simtd_exit_name(enum simtd_exit exit);

struct simtd_stats {
	uint64_t accesses; /* completed by memory */
	uint64_t tdcalls;  /* executed, repeated ones counted again */
	uint64_t exits[TD_EXITS];
	uint64_t ve_private;	  /* #VE because a page was not accepted */
	uint64_t ve_shared;	  /* #VE by the processor at a shared address, without an exit */
	uint64_t accepts;	  /* ACCEPTs that succeeded */
	uint64_t map_gpa_retries; /* MapGPA calls answered "again from here" */
	uint64_t to_shared, to_private;	      /* pages converted */
	uint64_t retries;		      /* faults that ended in RETRY */
	uint64_t private_pages, shared_pages; /* frames of 4 KiB in use now */
};
/* Exact while no vCPU runs. */
void simtd_get_stats(struct simtd *td, struct simtd_stats *stats);

/* ---- the end ---- */

/* What is left of a TD after its end. All but the first three are errors if they aren't 0. */
struct simtd_remains {
	uint64_t reclaimed_leaves; /* private pages that came back, 4 KiB each */
	uint64_t reclaimed_tables; /* Secure EPT pages */
	uint64_t pamt_pages;	   /* PAMT entries of 4 KiB looked at */
	uint64_t pamt_in_use; /* pages of 4 KiB that PAMT entries of any size say are somebody's */
	uint64_t pamt_tables; /* of those, Secure-EPT pages */
	uint64_t leaked;      /* pages that the owner of the external table kept, library's count */
	uint64_t leaked_by_host; /* the same, the host half's count */
	int64_t frames;		 /* frames of the machine in use, less those before the TD */
	uint64_t misuses;	 /* rules of the platform broken */
	uint64_t memory[TDX_NR_MEMORY_EVENTS]; /* rules of TDX memory broken, by kind */
	uint64_t held; /* control pages that the module keeps: PAMT entries that @leaked lacks */
	int teardown;  /* of tpt_vm_teardown() */
	int destroy;   /* of tdx_td_destroy() */
	struct tpt_vm_stats stats; /* after teardown */
	struct tdx_host_stats host;
};

/*
 * Ends the TD: no vCPU enters any more, the key goes first, every page is reclaimed, the VM is
 * destroyed. No thread drives a vCPU. Once; simtd_destroy() does it if nobody did.
 */
void simtd_end(struct simtd *td, struct simtd_remains *remains);
/* Did everything come back? */
bool simtd_ended_clean(const struct simtd_remains *remains);
/* The simulation is the caller's from now on: simtd_destroy() leaves it alone. After simtd_end().
 */
void simtd_give_sim(struct simtd *td);
/* NULL is allowed. */
void simtd_destroy(struct simtd *td);

#endif
