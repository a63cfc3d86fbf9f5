// SPDX-License-Identifier: BSD-2-Clause
/* Which of the host's private key ids are free. A key id comes back when its TD is released, and
 * never otherwise. Makes no call. */
#include "tdx/host/internal.h"

int host_hkid_get(struct tdx_host *host, uint16_t *hkid)
{
	for (unsigned int i = 0; i < host->config.nr_hkids; i++) {
		uint8_t unused = HKID_FREE;

		if (!atomic_compare_exchange_strong(&host->hkids[i], &unused, HKID_USED))
			continue;
		*hkid = (uint16_t)(host->config.first_hkid + i);
		return 0;
	}
	host_log(host, TPT_LOG_WARNING, "no key id is free: of %u, TDs use %llu and %llu are lost",
		 host->config.nr_hkids, (unsigned long long)host_hkid_count(host, HKID_USED),
		 (unsigned long long)host_hkid_count(host, HKID_LOST));
	return -ENOSPC;
}

void host_hkid_put(struct tdx_host *host, uint16_t hkid)
{
	atomic_store(&host->hkids[hkid - host->config.first_hkid], HKID_FREE);
}

void host_hkid_lost(struct tdx_host *host, uint16_t hkid)
{
	atomic_store(&host->hkids[hkid - host->config.first_hkid], HKID_LOST);
	host_log(host, TPT_LOG_ERROR, "key id %u is lost: its TD could not be released", hkid);
}

uint64_t host_hkid_count(const struct tdx_host *host, enum hkid_state state)
{
	uint64_t n = 0;

	for (unsigned int i = 0; i < host->config.nr_hkids; i++)
		n += atomic_load(&host->hkids[i]) == state;
	return n;
}
