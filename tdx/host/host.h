/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A VMM's half of TDX: a TD from its first page to its last, and the external table of a tpt_vm
 * that is that TD's Secure EPT; each step a sequence of SEAMCALLs. Never what a call does inside.
 *
 *	tdx_host_create, tdx_host_init_tdmrs                            machine, once
 *	tdx_td_create, tpt_vm_create, tdx_vcpu_create, tdx_td_add_page  BUILDING
 *	tdx_td_finalize                                                 RUNNABLE
 *	tdx_vcpu_enter, tpt_vcpu_fault, ...
 *	tpt_vm_teardown                                                 RELEASED
 *	tdx_td_destroy, tdx_td_free                                     DESTROYED
 *
 * Errors, unless said otherwise: 0; -EINVAL a parameter or operand is out of its range; -EPERM not
 * in this state of the TD; -EBUSY not done, nothing changed, may be tried again; -ENOMEM; -EIO the
 * module refused for good. Each error but -EBUSY is logged with leaf, status and operands.
 *
 * A status that only asks to be called again (no entropy: always; busy: in the life-cycle
 *functions, reclaim and release) is tried again up to a bound; external calls that the library
 *repeats by its own rules (link, map, block, unblock, track, remove) answer -EBUSY at the first
 *busy status.
 *
 * "The current LP" is what config.current_lp() says of the calling thread; the thread must stay
 * there until the function returns. No global state; a host serves any number of TDs.
 */
#ifndef TDX_HOST_HOST_H
#define TDX_HOST_HOST_H

#include <triptych/external.h>
#include <triptych/fault.h>
#include <triptych/platform.h>
#include <triptych/vm.h>

#include "tdx/seamcall.h"

#ifdef __cplusplus
extern "C" {
#endif

struct tdx_host;
struct tdx_td;
struct tdx_vcpu;

#define TDX_HOST_MAX_PACKAGES 8
/* Leaf numbers are below it. */
#define TDX_HOST_LEAVES	    46
#define TDX_HOST_BUSY_TRIES 1000u

/* -- The machine -- */

/*
 * What the host half runs on. Copied; what the pointers lead to outlives the host. Functions with
 * @ctx may be called from any thread that calls in here, several at once, also inside external
 * calls (a read section of the library): none may sleep but run_on() and page_alloc().
 */
struct tdx_host_config {
	size_t size; /* sizeof(struct tdx_host_config) */

	tdx_seamcall_fn *seamcall; /* the only way to a module */
	void *seamcall_ctx;

	unsigned int nr_lps;	  /* logical processors, at least 1; every LP number is below it */
	unsigned int nr_packages; /* 1 .. TDX_HOST_MAX_PACKAGES */
	unsigned int package_lp[TDX_HOST_MAX_PACKAGES]; /* one LP of each package */
	unsigned int hkid_start_bit; /* lowest key-id bit of a physical address, 32 .. 51 */
	uint16_t global_hkid;	     /* the module's own key id: TDR pages are cached under it */
	/* Private key ids that TDX_HKID_ANY may take: [first_hkid, first_hkid + nr_hkids); 0: none.
	 */
	uint16_t first_hkid, nr_hkids;
	unsigned int busy_tries; /* bound on tries of a busy call; 0 = TDX_HOST_BUSY_TRIES */

	void *ctx; /* of every function below */

	/* The LP that the calling thread runs on. */
	unsigned int (*current_lp)(void *ctx);
	/*
	 * Runs fn(arg) on @lp, not inside a TD there, and returns when it is done; called straight
	 * if the thread is there already. 0, or a negative errno if the LP can't be reached and fn
	 * has not run. Used for VP.FLUSH, KEY.CONFIG and CACHE.WB.
	 */
	int (*run_on)(void *ctx, unsigned int lp, void (*fn)(void *arg), void *arg);

	/*
	 * 4 KiB pages inside TDMRs, for TDR, TDCS and TDVPS and, for a moment, TD_PARAMS. 0 or
	 * -ENOMEM. A page that was the module's is cleared before page_free(). page_ptr(): its
	 * bytes, before it is given to the module.
	 */
	int (*page_alloc)(void *ctx, tpt_hpa *page);
	void (*page_free)(void *ctx, tpt_hpa page);
	void *(*page_ptr)(void *ctx, tpt_hpa page);

	/* Fills memory that a TD gave back with zeros in a way that heals its integrity
	 * (MOVDIR64B).
	 * @bytes is 4 KiB or 2 MiB. */
	void (*clear)(void *ctx, tpt_hpa hpa, uint64_t bytes);
	/* Writes back and drops cache lines before memory goes to a TD (CLFLUSH). May be NULL. */
	void (*write_back)(void *ctx, tpt_hpa hpa, uint64_t bytes);
	/* A pause between two tries. May be NULL. */
	void (*relax)(void *ctx);
	/* One line of text without newline. May be NULL. */
	void (*log)(void *ctx, enum tpt_log_level level, const char *text);
};

/* 0 and *host; -EINVAL (a field is out of its range: the log says which), -ENOMEM. */
int tdx_host_create(const struct tdx_host_config *config, struct tdx_host **host);
/* Frees it. All its TDs are freed. NULL is allowed. */
void tdx_host_destroy(struct tdx_host *host);

/* A TD memory region: bytes, multiples of 1 GiB. */
struct tdx_tdmr {
	tpt_hpa base;
	uint64_t size;
};
/*
 * TDH.SYS.TDMR.INIT until every region is initialised, on the current LP. One that is initialised
 * already is no error. Stops at the first error; call again to go on from there.
 */
int tdx_host_init_tdmrs(struct tdx_host *host, const struct tdx_tdmr *tdmrs, unsigned int nr);

/* SEAMCALLs of one leaf. calls == ok + busy + failed. */
struct tdx_leaf_stats {
	uint64_t ok;   /* did what was asked, or told that it was so already; VP.ENTER: a TD exit */
	uint64_t busy; /* did nothing, may be tried again */
	uint64_t failed; /* any other status */
};

struct tdx_host_stats {
	struct tdx_leaf_stats leaf[TDX_HOST_LEAVES]; /* by leaf number */
	uint64_t calls;				     /* sum of all */
	uint64_t own_pages; /* 4 KiB pages from page_alloc() and not freed, leaked ones excluded */
	uint64_t cleared_pages; /* 4 KiB pages that came back from TDs and were cleared */
	uint64_t leaked_pages;	/* 4 KiB pages of any kind that are lost for ever: the sum of those
				 * two, and of guest pages and tables that could not be reclaimed */
	uint64_t held_pages;	/* pages from page_alloc() that the module keeps */
	/* Of config.nr_hkids. A key id is free again once KEY.FREEID succeeded, and not before. */
	uint64_t used_hkids, lost_hkids; /* with a TD; with one that was freed and kept its key */
	uint64_t unwritten_pages; /* pages that it let go and whose lines could not be written back
				   */
};

/* Exact for all calls that have returned. Any thread, any time. */
void tdx_host_get_stats(const struct tdx_host *host, struct tdx_host_stats *stats);

/* "TDH.MEM.SEPT.ADD"; NULL for a number that names no leaf. */
const char *tdx_leaf_name(unsigned int leaf);
/* "TDX_OPERAND_BUSY"; the operand half is ignored. NULL if unknown. */
const char *tdx_status_name(uint64_t status);
/* What a status means to a caller in general: 0 (done, or was so already), -EBUSY, -EINVAL, -EIO...
 */
int tdx_status_errno(uint64_t status);

/* -- A TD -- */

enum tdx_td_state {
	TDX_TD_BUILDING,  /* pages are added and measured; no guest runs */
	TDX_TD_RUNNABLE,  /* finalised */
	TDX_TD_RELEASED,  /* its key is gone: pages are reclaimed */
	TDX_TD_DESTROYED, /* nothing is left in the module but what leaked */
};

#define TDX_HKID_ANY 0xffffu

struct tdx_td_config {
	size_t size;   /* sizeof(struct tdx_td_config) */
	uint16_t hkid; /* private key id, free; TDX_HKID_ANY: the lowest free one of the host's */
	uint64_t attributes; /* TDX_ATTR_* */
	uint64_t xfam;	     /* 0 = x87 and SSE (3) */
	uint16_t max_vcpus;  /* at least 1 */
	unsigned int levels; /* of Secure and shared EPT: 4 or 5 */
	bool gpaw52;	     /* guest-physical width 52, shared bit 51 (5 levels); else 48 and 47 */
	uint64_t config_flags;	/* further TDX_CONFIG_*, without GPAW52 */
	uint16_t tsc_frequency; /* units of 25 MHz; 0 = 100 (2.5 GHz) */
	uint8_t mrconfigid[48], mrowner[48], mrownerconfig[48];
};

/*
 * A TD with its management pages and parameters: MNG.CREATE, KEY.CONFIG on each package, ADDCX six
 * times, MNG.INIT. On failure everything is taken back as far as the module lets it; what it keeps
 * is in leaked_pages. -EEXIST: the key id is in use; -ENOSPC: TDX_HKID_ANY, and none is free.
 */
int tdx_td_create(struct tdx_host *host, const struct tdx_td_config *config, struct tdx_td **td);

/* Frees pages first if that wasn't done; pages that could not be taken back are leaked and counted.
 * The tpt_vm over it is destroyed. NULL is allowed. */
void tdx_td_free(struct tdx_td *td);

enum tdx_td_state tdx_td_state(const struct tdx_td *td);
tpt_hpa tdx_td_tdr(const struct tdx_td *td);
/* GPA bit that means shared: 47 or 51; what tpt_vm_config.shared_bit must be. */
unsigned int tdx_td_shared_bit(const struct tdx_td *td);

/*
 * The external table of a tpt_vm: a struct tdx_td is its ctx. A TD serves one VM.
 *
 *	link          SEPT.ADD
 *	map           PAGE.AUG if RUNNABLE; PAGE.ADD of the page that tdx_td_add_page() is adding;
 *	              otherwise -EPERM: nothing is mapped blindly before the TD is finalised
 *	block         RANGE.BLOCK         unblock       RANGE.UNBLOCK
 *	track         MEM.TRACK if RUNNABLE; nothing before: no guest ran, nothing is owed
 *	remove        PAGE.REMOVE, PHYMEM.PAGE.WBINVD and clear for each 4 KiB; a page that can't be
 *	              written back stays, as BLOCKED, until remove is called again or, after
 *	              release, reclaim_leaf, which makes no call for it
 *	split         PAGE.DEMOTE, again while it is interrupted
 *	merge         PAGE.PROMOTE, the same way; PHYMEM.PAGE.WBINVD and clear of the table's page,
 *	              or -EBUSY until that goes through. -EAGAIN: some of the 512 are accepted and
 *	              some are not
 *	release       VP.FLUSH of each vCPU on its LP, MNG.VPFLUSHDONE, PHYMEM.CACHE.WB on each
 *	              package, MNG.KEY.FREEID; after a failure it goes on where it stopped, or
 *	              with the write-backs if FREEID misses one
 *	reclaim_leaf  PHYMEM.PAGE.RECLAIM, clear (caches were written back at release)
 *	free_table    PHYMEM.PAGE.RECLAIM, clear
 *	read          MEM.SEPT.RD
 *
 * All on the current LP but where said. Two vCPU threads may link and map at the same time.
 */
extern const struct tpt_external_ops tdx_external_ops;

/*
 * Adds the private page @gpa with the 4 KiB of @source (shared memory, 4 KiB aligned) and, if
 * @measure, extends MRTD with its content. @vcpu belongs to the tpt_vm over this TD; its slot has
 * private memory there, and the attribute is private. Calls tpt_vcpu_fault() until the page is
 * there: Secure-EPT pages are linked on the way. One thread at a time: the order of calls is what
 * is measured. -EEXIST: a page is there already; other errors of tpt_vcpu_fault(); -EPERM: not
 * BUILDING. If measuring fails after the page was added the TD can't be finalised any more.
 */
int tdx_td_add_page(struct tdx_td *td, struct tpt_vcpu *vcpu, tpt_gpa gpa, tpt_hpa source,
		    bool measure);

/* MR.FINALIZE: BUILDING to RUNNABLE. -EPERM: not BUILDING, no vCPU, or a measurement is broken. */
int tdx_td_finalize(struct tdx_td *td);

/*
 * After tpt_vm_teardown() (without a tpt_vm: at once, release included): reclaims and clears all
 * pages of vCPUs, then the TDCS, then the TDR with PHYMEM.PAGE.WBINVD under the global key id.
 * -EBUSY: Secure-EPT or guest pages are still there (no teardown yet), or the module stayed busy:
 * the TD is RELEASED, call again. Idempotent once DESTROYED.
 */
int tdx_td_destroy(struct tdx_td *td);

/* -- A vCPU. One thread at a time, but where said -- */

/*
 * VP.CREATE, ADDCX five times, VP.INIT on the current LP, with which it is associated then. @rcx is
 * what the guest finds in RCX and R8. BUILDING only; one thread at a time for a TD. -ENOSPC: more
 * than max_vcpus. Freed with the TD; after an error its pages come back with the TD's.
 */
int tdx_vcpu_create(struct tdx_td *td, uint64_t rcx, struct tdx_vcpu **vcpu);
tpt_hpa tdx_vcpu_tdvpr(const struct tdx_vcpu *vcpu);
/* LP that it is, or after a failed entry may be, associated with; -1 if with none. */
int tdx_vcpu_lp(const struct tdx_vcpu *vcpu);

/* VP.WR of the shared EPT's root: tpt_roots.direct. Current LP; -EXDEV: associated with another. */
int tdx_vcpu_set_shared_eptp(struct tdx_vcpu *vcpu, tpt_hpa root);

/* VP.FLUSH on the LP that the vCPU is associated with; nothing if with none. -EBUSY: it runs. */
int tdx_vcpu_flush(struct tdx_vcpu *vcpu);
/* The same, if it is associated with another LP than the current one. Before enter. */
int tdx_vcpu_migrate(struct tdx_vcpu *vcpu);

/* What became of VP.ENTER, or of the run that it began. */
enum tdx_enter {
	TDX_ENTER_GUEST, /* the current LP is inside the TD; *regs is unchanged but RAX and RCX */
	TDX_ENTER_EXIT,	 /* TD exit: *regs holds it (at once: the zero-step filter's) */
	TDX_ENTER_BUSY,	 /* not entered; enter again */
	TDX_ENTER_ELSEWHERE, /* associated with another LP: tdx_vcpu_migrate(), enter again */
	TDX_ENTER_VCPU_DEAD, /* this vCPU will never run again */
	TDX_ENTER_TD_DEAD,   /* no vCPU of this TD will */
	TDX_ENTER_REFUSED,   /* the call was wrong: logged */
};

/*
 * VP.ENTER on the current LP. *regs: RAX and RCX are overwritten, the others answer a
 * TDG.VP.VMCALL. Refused without a call if the TD isn't RUNNABLE.
 */
enum tdx_enter tdx_vcpu_enter(struct tdx_vcpu *vcpu, struct tdx_regs *regs);
/* The same judgement of RAX as a TD exit delivered it after TDX_ENTER_GUEST: never GUEST. */
enum tdx_enter tdx_exit_classify(uint64_t rax);

/*
 * The fault to hand to tpt_vcpu_fault() for a TD exit with reason EPT violation or
 * misconfiguration. A private access is taken as a write (frames are never shared); an ACCEPT caps
 * the level at what the guest asked for. Fills *fault. 0; -EINVAL another reason, or an instruction
 * fetch from shared memory; -EACCES the guest touched a private page that it has not accepted and
 * is not told so by #VE: it is at fault, the TD should be ended.
 */
int tdx_exit_fault(const struct tdx_td *td, const struct tdx_regs *exit, struct tpt_fault *fault);

#ifdef __cplusplus
}
#endif
#endif
