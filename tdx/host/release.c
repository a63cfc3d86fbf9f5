// SPDX-License-Identifier: BSD-2-Clause
/*
 * The end of a TD's key: flush its vCPUs, write back the caches, free the key id. What is done is
 * remembered, so that a release that failed goes on where it stopped. Reclaims no page.
 */
#include "tdx/host/internal.h"

#include <string.h>

/* Interrupts that one write-back of a package's caches may take. */
#define WRITE_BACK_TRIES 10000

static int flush_vcpus(struct tdx_td *td)
{
	for (struct tdx_vcpu *vcpu = td->vcpus; vcpu; vcpu = vcpu->next) {
		int err = host_vcpu_flush(vcpu, true);

		if (err)
			return err;
	}
	return 0;
}

static int flush_done(struct tdx_td *td)
{
	struct call call = {.leaf = TDH_MNG_VPFLUSHDONE, .in.rcx = td->tdr};
	int err;

	if (td->flush_done)
		return 0;
	err = host_call_here_patient(td->host, &call);
	td->flush_done = !err;
	return err;
}

struct write_back {
	struct tdx_td *td;
	unsigned int lp;
	int err;
};

/* RCX 1 goes on after an interrupt; another TD's start may have taken the place to go on from. */
static void write_back_package(void *arg)
{
	struct write_back *wb = arg;
	struct tdx_host *host = wb->td->host;
	struct call call = {.leaf = TDH_PHYMEM_CACHE_WB};

	for (int i = 0; i < WRITE_BACK_TRIES; i++) {
		wb->err = host_call_once(host, wb->lp, &call);
		switch (call.status & TDX_STATUS_MASK) {
		case TDX_INTERRUPTED_RESUMABLE:
			call.in.rcx = 1;
			break;
		case TDX_WBCACHE_RESUME_ERROR:
			call.in.rcx = 0;
			wb->err = -EBUSY;
			break;
		default:
			if (wb->err == -EBUSY)
				host_relax(host);
		}
		if (wb->err != -EBUSY)
			break;
	}
	host_call_judge(host, &call, wb->err);
}

static int write_back(struct tdx_td *td)
{
	const struct tdx_host_config *c = &td->host->config;

	for (unsigned int i = 0; i < c->nr_packages; i++) {
		struct write_back wb = {.td = td, .lp = c->package_lp[i]};
		int err;

		if (td->written_back[i])
			continue;
		err = host_run_on(td->host, wb.lp, write_back_package, &wb);
		if (err || wb.err)
			return err ? err : wb.err;
		td->written_back[i] = true;
	}
	return 0;
}

/* A package that has not written back after all: all of them are asked again. */
static int free_key(struct tdx_td *td)
{
	struct call call = {.leaf = TDH_MNG_KEY_FREEID, .in.rcx = td->tdr};
	int err = host_call_here_patient(td->host, &call);

	if ((call.status & TDX_STATUS_MASK) != TDX_WBCACHE_NOT_COMPLETE)
		return err;
	memset(td->written_back, 0, sizeof(td->written_back));
	return -EBUSY;
}

int host_td_release(struct tdx_td *td)
{
	int err;

	if (!td_alive(td))
		return 0;
	err = flush_vcpus(td);
	if (!err)
		err = flush_done(td);
	if (!err)
		err = write_back(td);
	if (!err)
		err = free_key(td);
	if (err)
		return err;
	atomic_store(&td->state, TDX_TD_RELEASED);
	if (td->hkid_is_hosts)
		host_hkid_put(td->host, td->hkid);
	td->hkid_is_hosts = false;
	return 0;
}
