// SPDX-License-Identifier: BSD-2-Clause
/* The one way to a module: makes SEAMCALLs, counts them, tries again, logs. Knows no sequence. */
#include "tdx/host/internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define ENTROPY_TRIES 10

void host_log(const struct tdx_host *host, enum tpt_log_level level, const char *format, ...)
{
	char text[256];
	va_list args;

	if (!host->config.log)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	host->config.log(host->config.ctx, level, text);
}

unsigned int host_lp(const struct tdx_host *host)
{
	return host->config.current_lp(host->config.ctx);
}

int host_run_on(const struct tdx_host *host, unsigned int lp, void (*fn)(void *arg), void *arg)
{
	int err = host->config.run_on(host->config.ctx, lp, fn, arg);

	if (!err)
		return 0;
	host_log(host, TPT_LOG_ERROR, "LP %u can't be reached: %d", lp, err);
	return -EIO;
}

void host_relax(const struct tdx_host *host)
{
	if (host->config.relax)
		host->config.relax(host->config.ctx);
}

/* Only the thread on the LP writes here. */
static void bump(_Atomic uint64_t *count)
{
	atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + 1,
			      memory_order_relaxed);
}

static void count(struct tdx_host *host, unsigned int lp, unsigned int leaf, int err)
{
	struct lp_counts *counts = &host->counts[lp];

	if (!err)
		bump(&counts->ok[leaf]);
	else if (err == -EBUSY)
		bump(&counts->busy[leaf]);
	else
		bump(&counts->failed[leaf]);
}

static int check_lp(const struct tdx_host *host, unsigned int lp, enum tdh_leaf leaf)
{
	if (lp < host->config.nr_lps)
		return 0;
	host_log(host, TPT_LOG_ERROR, "%s on LP %u: there are only %u", tdx_leaf_name(leaf), lp,
		 host->config.nr_lps);
	return -EINVAL;
}

static int call_try(struct tdx_host *host, unsigned int lp, struct call *call)
{
	int err;

	call->out = call->in;
	call->out.rax = tdx_rax(call->leaf, 0);
	if (host->config.seamcall(host->config.seamcall_ctx, lp, &call->out) == TDX_GUEST) {
		host_log(host, TPT_LOG_ERROR, "%s on LP %u: it is inside a TD",
			 tdx_leaf_name(call->leaf), lp);
		call->status = TDX_SUCCESS;
		return -EPERM;
	}
	call->status = call->out.rax;
	err = tdx_status_errno(call->status);
	count(host, lp, call->leaf, err);
	return err;
}

int host_call_once(struct tdx_host *host, unsigned int lp, struct call *call)
{
	int err = check_lp(host, lp, call->leaf);

	call->status = TDX_SUCCESS;
	for (int i = 0; !err && i < ENTROPY_TRIES; i++) {
		err = call_try(host, lp, call);
		if ((call->status & TDX_STATUS_MASK) != TDX_RND_NO_ENTROPY)
			break;
		if (i + 1 < ENTROPY_TRIES)
			err = 0;
	}
	return err;
}

int host_call_patient(struct tdx_host *host, unsigned int lp, struct call *call)
{
	int err = host_call_once(host, lp, call);

	for (unsigned int i = 1; err == -EBUSY && i < host->config.busy_tries; i++) {
		host_relax(host);
		err = host_call_once(host, lp, call);
	}
	if (err == -EBUSY)
		host_log(host, TPT_LOG_WARNING, "%s: still %s after %u tries",
			 tdx_leaf_name(call->leaf), tdx_status_name(call->status),
			 host->config.busy_tries);
	return err;
}

int host_call_judge(struct tdx_host *host, const struct call *call, int err)
{
	const char *name = tdx_status_name(call->status);

	/* A call that was not made has been logged. */
	if (!err || err == -EBUSY || call->status == TDX_SUCCESS)
		return err;
	host_log(host, TPT_LOG_ERROR,
		 "%s: %s (0x%016" PRIx64 "), rcx 0x%" PRIx64 " rdx 0x%" PRIx64 " r8 0x%" PRIx64
		 " r9 0x%" PRIx64,
		 tdx_leaf_name(call->leaf), name ? name : "unknown status", call->status,
		 call->in.rcx, call->in.rdx, call->in.r8, call->in.r9);
	return err;
}

int host_call_here(struct tdx_host *host, struct call *call)
{
	return host_call_judge(host, call, host_call_once(host, host_lp(host), call));
}

int host_call_here_patient(struct tdx_host *host, struct call *call)
{
	return host_call_judge(host, call, host_call_patient(host, host_lp(host), call));
}

enum tdx_side host_call_enter(struct tdx_host *host, unsigned int lp, struct tdx_regs *regs)
{
	enum tdx_side side;

	if (check_lp(host, lp, TDH_VP_ENTER)) {
		regs->rax = TDX_OPERAND_INVALID;
		return TDX_HOST;
	}
	regs->rax = tdx_rax(TDH_VP_ENTER, 0);
	side = host->config.seamcall(host->config.seamcall_ctx, lp, regs);
	count(host, lp, TDH_VP_ENTER, side == TDX_GUEST ? 0 : tdx_status_errno(regs->rax));
	return side;
}
