// SPDX-License-Identifier: BSD-2-Clause
/* The machine as the host half sees it: its configuration, TDMRs, counts. Knows no TD. */
#include "tdx/host/internal.h"

#include <stdlib.h>
#include <string.h>

/* What is wrong, or NULL. */
static const char *check_config(const struct tdx_host_config *c)
{
	if (c->size != sizeof(*c))
		return "size is not that of struct tdx_host_config";
	if (!c->seamcall || !c->current_lp || !c->run_on || !c->page_alloc || !c->page_free ||
	    !c->page_ptr || !c->clear)
		return "a function that is not optional is NULL";
	if (!c->nr_lps)
		return "nr_lps is 0";
	if (!c->nr_packages || c->nr_packages > TDX_HOST_MAX_PACKAGES)
		return "nr_packages is not 1 to 8";
	for (unsigned int i = 0; i < c->nr_packages; i++)
		if (c->package_lp[i] >= c->nr_lps)
			return "package_lp names an LP that isn't there";
	if (c->hkid_start_bit < 32 || c->hkid_start_bit > 51)
		return "hkid_start_bit is not 32 to 51";
	if ((uint64_t)c->global_hkid >> (52 - c->hkid_start_bit))
		return "global_hkid is wider than the key-id bits";
	if (c->nr_hkids && ((uint64_t)c->first_hkid + c->nr_hkids - 1) >> (52 - c->hkid_start_bit))
		return "first_hkid and nr_hkids go beyond the key-id bits";
	if (c->global_hkid >= c->first_hkid && c->global_hkid - c->first_hkid < c->nr_hkids)
		return "global_hkid is among those of TDs";
	return NULL;
}

int tdx_host_create(const struct tdx_host_config *config, struct tdx_host **out)
{
	const char *why = check_config(config);
	struct tdx_host *host;

	if (why) {
		if (config->size == sizeof(*config) && config->log)
			config->log(config->ctx, TPT_LOG_ERROR, why);
		return -EINVAL;
	}
	host = calloc(1, sizeof(*host));
	if (!host)
		return -ENOMEM;
	host->config = *config;
	if (!host->config.busy_tries)
		host->config.busy_tries = TDX_HOST_BUSY_TRIES;
	host->counts =
		aligned_alloc(_Alignof(struct lp_counts), config->nr_lps * sizeof(*host->counts));
	host->hkids = calloc(config->nr_hkids + 1u, sizeof(*host->hkids));
	if (!host->counts || !host->hkids) {
		free(host->counts);
		free((void *)host->hkids);
		free(host);
		return -ENOMEM;
	}
	memset(host->counts, 0, config->nr_lps * sizeof(*host->counts));
	*out = host;
	return 0;
}

void tdx_host_destroy(struct tdx_host *host)
{
	if (!host)
		return;
	free(host->counts);
	free((void *)host->hkids);
	free(host);
}

static int init_tdmr(struct tdx_host *host, const struct tdx_tdmr *tdmr)
{
	struct call call = {.leaf = TDH_SYS_TDMR_INIT, .in.rcx = tdmr->base.a};
	int err;

	/* RDX: the address up to which the region is usable. */
	do {
		err = host_call_here_patient(host, &call);
	} while (!err && call.status == TDX_SUCCESS && call.out.rdx < tdmr->base.a + tdmr->size);
	return err;
}

int tdx_host_init_tdmrs(struct tdx_host *host, const struct tdx_tdmr *tdmrs, unsigned int nr)
{
	int err = 0;

	for (unsigned int i = 0; !err && i < nr; i++)
		err = init_tdmr(host, &tdmrs[i]);
	return err;
}

static uint64_t read_count(const _Atomic uint64_t *count)
{
	return atomic_load_explicit(count, memory_order_relaxed);
}

void tdx_host_get_stats(const struct tdx_host *host, struct tdx_host_stats *stats)
{
	*stats = (struct tdx_host_stats){
		.own_pages = atomic_load(&host->own_pages),
		.cleared_pages = atomic_load(&host->cleared_pages),
		.leaked_pages = atomic_load(&host->leaked_pages),
		.held_pages = atomic_load(&host->held_pages),
		.unwritten_pages = atomic_load(&host->unwritten_pages),
		.used_hkids = host_hkid_count(host, HKID_USED),
		.lost_hkids = host_hkid_count(host, HKID_LOST),
	};
	for (unsigned int lp = 0; lp < host->config.nr_lps; lp++)
		for (unsigned int i = 0; i < TDX_HOST_LEAVES; i++) {
			stats->leaf[i].ok += read_count(&host->counts[lp].ok[i]);
			stats->leaf[i].busy += read_count(&host->counts[lp].busy[i]);
			stats->leaf[i].failed += read_count(&host->counts[lp].failed[i]);
		}
	for (unsigned int i = 0; i < TDX_HOST_LEAVES; i++)
		stats->calls += stats->leaf[i].ok + stats->leaf[i].busy + stats->leaf[i].failed;
}
