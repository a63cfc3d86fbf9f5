/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the host half share: objects and the one way to make a SEAMCALL. Never public.
 */
#ifndef TDX_HOST_INTERNAL_H
#define TDX_HOST_INTERNAL_H

#include <errno.h>
#include <stdatomic.h>

#include "tdx/host/host.h"

#define NR_TDCS_PAGES 6 /* of a TD without L2 VMs (TDH.MNG.INIT) */
#define NR_TDCX_PAGES 5 /* of its vCPU, the TDVPR not counted (TDH.VP.INIT) */
#define NO_PAGE	      TDX_NULL_PA
#define NO_LP	      (-1)

/* SEAMCALLs of one LP: written by the thread on it alone, read by anybody. */
struct lp_counts {
	_Alignas(64) _Atomic uint64_t ok[TDX_HOST_LEAVES];
	_Atomic uint64_t busy[TDX_HOST_LEAVES];
	_Atomic uint64_t failed[TDX_HOST_LEAVES];
};

struct tdx_host {
	struct tdx_host_config config;
	struct lp_counts *counts; /* one for each LP */
	_Atomic uint8_t *hkids;	  /* enum hkid_state of each of config.nr_hkids */
	_Atomic uint64_t own_pages, cleared_pages, leaked_pages, held_pages, unwritten_pages;
};

struct tdx_vcpu {
	struct tdx_td *td;
	struct tdx_vcpu *next; /* in td->vcpus */
	uint64_t tdvpr;	       /* HPA, or NO_PAGE when it was given back */
	uint64_t tdcx[NR_TDCX_PAGES];
	_Atomic int lp; /* LP with which it is, or may be, associated; NO_LP */
};

/* The page that tdx_td_add_page() is adding, for the map() that its fault ends in. */
struct adding {
	_Atomic int
		lp; /* LP of the adding thread, NO_LP if nobody adds; the rest is that thread's */
	tpt_gfn gfn;
	uint64_t source;
};

/* See stray.c. */
struct stray {
	struct stray *next;
	tpt_gfn gfn;
	enum tpt_level level;
	uint64_t hpa;
	bool is_table; /* that was merged: the entry is a leaf outside, a table to the library */
};

struct tdx_td {
	struct tdx_host *host;
	_Atomic int state; /* enum tdx_td_state */
	uint16_t hkid;
	bool hkid_is_hosts; /* hkid.c gave it, and hasn't got it back */
	unsigned int shared_bit;
	uint64_t tdr;
	uint64_t tdcs[NR_TDCS_PAGES];
	struct tdx_vcpu *vcpus;
	struct adding adding;
	_Atomic uint64_t blocked; /* entries between block and remove or unblock */
	struct stray *strays;
	bool measurement_broken;
	/* release(): what is done already */
	bool flush_done;
	bool written_back[TDX_HOST_MAX_PACKAGES];
};

/* -- call.c -- */

/* One SEAMCALL: operands in, answer out. RAX is made from the leaf. */
struct call {
	enum tdh_leaf leaf;
	struct tdx_regs in;
	struct tdx_regs out; /* valid when the module answered */
	uint64_t status;     /* out.rax */
};

/*
 * Makes the call on @lp, which the thread is on. Tries again while the module lacks entropy, up to
 * a bound. Counts each try. Returns tdx_status_errno(); -EPERM if the LP is inside a TD, -EINVAL if
 * there is no such LP (logged, nothing called). Logs nothing else.
 */
int host_call_once(struct tdx_host *host, unsigned int lp, struct call *call);
/* The same, until it isn't busy, up to config.busy_tries. */
int host_call_patient(struct tdx_host *host, unsigned int lp, struct call *call);
/* Logs the failed call if @err is neither 0 nor -EBUSY. Returns @err. */
int host_call_judge(struct tdx_host *host, const struct call *call, int err);
/* host_call_once() or host_call_patient() on the current LP, judged. */
int host_call_here(struct tdx_host *host, struct call *call);
int host_call_here_patient(struct tdx_host *host, struct call *call);
/* VP.ENTER with the guest's registers; which side the LP is on afterwards. */
enum tdx_side host_call_enter(struct tdx_host *host, unsigned int lp, struct tdx_regs *regs);

unsigned int host_lp(const struct tdx_host *host);
/* Runs @fn on @lp and waits for it. 0, or -EIO, logged, if @fn didn't run. */
int host_run_on(const struct tdx_host *host, unsigned int lp, void (*fn)(void *arg), void *arg);
void host_relax(const struct tdx_host *host);
void host_log(const struct tdx_host *host, enum tpt_log_level level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* -- page.c -- */

/* A page from config.page_alloc(), written back. 0 and *hpa, or -ENOMEM and NO_PAGE. */
int host_page_get(struct tdx_host *host, uint64_t *hpa);
/* Gives back a page that the module doesn't hold. */
void host_page_put(struct tdx_host *host, uint64_t hpa);
/* A new page given to the module with @call, which has all but the page (RCX). NO_PAGE on error. */
int host_page_donate(struct tdx_host *host, struct call *call, uint64_t *page);
void host_page_write_back(const struct tdx_host *host, uint64_t hpa, uint64_t bytes);
/* Memory that the module doesn't hold any more. */
void host_page_clear(struct tdx_host *host, uint64_t hpa, uint64_t bytes);
/* PHYMEM.PAGE.WBINVD under @hkid of each 4 KiB. */
int host_page_wbinvd(struct tdx_host *host, uint64_t hpa, uint64_t bytes, uint16_t hkid);
/* PHYMEM.PAGE.RECLAIM of a leaf or page of @level (triptych's) of a released TD; not cleared. */
int host_page_reclaim(struct tdx_host *host, uint64_t hpa, enum tpt_level level);
void host_page_leaked(struct tdx_host *host, uint64_t pages);
/* The same of pages that the module let go and that could not be written back. */
void host_page_unwritten(struct tdx_host *host, uint64_t pages);

/* -- stray.c -- */

/* NULL: there is none of that entry. */
struct stray *host_stray_find(const struct tdx_td *td, tpt_gfn gfn, enum tpt_level level);
/* NULL: no memory. */
struct stray *host_stray_add(struct tdx_td *td, const struct stray *stray);
void host_stray_forget(struct tdx_td *td, struct stray *stray);

/* -- hkid.c -- */

enum hkid_state {
	HKID_FREE,
	HKID_USED,
	HKID_LOST,
};

/* The lowest free key id. 0, or -ENOSPC, logged. */
int host_hkid_get(struct tdx_host *host, uint16_t *hkid);
/* A key id that host_hkid_get() gave, and that no TD has any more. */
void host_hkid_put(struct tdx_host *host, uint16_t hkid);
/* One that a TD keeps for ever; logged. */
void host_hkid_lost(struct tdx_host *host, uint16_t hkid);
uint64_t host_hkid_count(const struct tdx_host *host, enum hkid_state state);

/* -- release.c -- */

/* From BUILDING or RUNNABLE to RELEASED; nothing if that was done. */
int host_td_release(struct tdx_td *td);

/* -- names.c -- */

const char *host_state_name(enum tdx_td_state state);

/* -- td.c, vcpu.c -- */

static inline enum tdx_td_state td_state(const struct tdx_td *td)
{
	return (enum tdx_td_state)atomic_load_explicit(&td->state, memory_order_acquire);
}

static inline bool td_alive(const struct tdx_td *td)
{
	return td_state(td) == TDX_TD_BUILDING || td_state(td) == TDX_TD_RUNNABLE;
}

/* Logs that @what can't be done in the TD's state. Returns -EPERM. */
static inline int host_td_refuse(const struct tdx_td *td, const char *what)
{
	host_log(td->host, TPT_LOG_ERROR, "%s: not in state %s", what,
		 host_state_name(td_state(td)));
	return -EPERM;
}

/* VP.FLUSH on @vcpu's LP. Patient or not. */
int host_vcpu_flush(struct tdx_vcpu *vcpu, bool patient);

#endif
