// SPDX-License-Identifier: BSD-2-Clause
/* Pages on their way to the module and back: allocate, write back, reclaim, clear, count. */
#include "tdx/host/internal.h"

static tpt_hpa to_hpa(uint64_t hpa)
{
	return (tpt_hpa){hpa};
}

void host_page_write_back(const struct tdx_host *host, uint64_t hpa, uint64_t bytes)
{
	if (host->config.write_back)
		host->config.write_back(host->config.ctx, to_hpa(hpa), bytes);
}

void host_page_clear(struct tdx_host *host, uint64_t hpa, uint64_t bytes)
{
	host->config.clear(host->config.ctx, to_hpa(hpa), bytes);
	atomic_fetch_add(&host->cleared_pages, bytes / TPT_PAGE_SIZE);
}

void host_page_leaked(struct tdx_host *host, uint64_t pages)
{
	atomic_fetch_add(&host->leaked_pages, pages);
}

void host_page_unwritten(struct tdx_host *host, uint64_t pages)
{
	atomic_fetch_add(&host->unwritten_pages, pages);
	host_page_leaked(host, pages);
}

int host_page_get(struct tdx_host *host, uint64_t *hpa)
{
	tpt_hpa page;
	int err = host->config.page_alloc(host->config.ctx, &page);

	*hpa = NO_PAGE;
	if (err) {
		host_log(host, TPT_LOG_ERROR, "no page for the module: page_alloc() answered %d",
			 err);
		return -ENOMEM;
	}
	*hpa = page.a;
	atomic_fetch_add(&host->own_pages, 1);
	host_page_write_back(host, page.a, TPT_PAGE_SIZE);
	return 0;
}

void host_page_put(struct tdx_host *host, uint64_t hpa)
{
	host->config.page_free(host->config.ctx, to_hpa(hpa));
	atomic_fetch_sub(&host->own_pages, 1);
}

int host_page_donate(struct tdx_host *host, struct call *call, uint64_t *page)
{
	int err = host_page_get(host, page);

	if (err)
		return err;
	call->in.rcx = *page;
	err = host_call_here_patient(host, call);
	if (err) {
		host_page_put(host, *page);
		*page = NO_PAGE;
	}
	return err;
}

int host_page_wbinvd(struct tdx_host *host, uint64_t hpa, uint64_t bytes, uint16_t hkid)
{
	for (uint64_t at = hpa; at < hpa + bytes; at += TPT_PAGE_SIZE) {
		struct call call = {
			.leaf = TDH_PHYMEM_PAGE_WBINVD,
			.in.rcx = at | (uint64_t)hkid << host->config.hkid_start_bit,
		};
		int err = host_call_here_patient(host, &call);

		if (err)
			return err;
	}
	return 0;
}

int host_page_reclaim(struct tdx_host *host, uint64_t hpa, enum tpt_level level)
{
	struct call call = {.leaf = TDH_PHYMEM_PAGE_RECLAIM, .in.rcx = hpa};
	int err = host_call_here_patient(host, &call);

	if (err)
		return err;
	/* R8: the size that the module held it at, 0 = 4 KiB. */
	if (call.out.r8 + 1 != (uint64_t)level) {
		host_log(host, TPT_LOG_ERROR, "page 0x%llx came back with size %llu, not %d",
			 (unsigned long long)hpa, (unsigned long long)call.out.r8, level - 1);
		return -EIO;
	}
	return 0;
}
