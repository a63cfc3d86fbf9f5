// SPDX-License-Identifier: BSD-2-Clause
/* What else is on a TD's machine: further TDs, which have a key and no memory, and the books of
 * physical pages that all of them share. Runs no guest. */
#include "cli/td_internal.h"

#include <errno.h>
#include <string.h>

#define PAMT_ENTRY 16ull /* bytes: TDX module ABI, PAMT_ENTRY_SIZE */

int simtd_add_other(struct simtd *td)
{
	const struct tdx_td_config c = {
		.size = sizeof(c), .hkid = TDX_HKID_ANY, .max_vcpus = 1, .levels = 4};
	int err;

	if (td->nr_others == TD_MAX_OTHERS)
		return -ENOSPC;
	err = tdx_td_create(td->host, &c, &td->others[td->nr_others]);
	td->nr_others += !err;
	return err;
}

int simtd_end_other(struct simtd *td)
{
	struct tdx_td *oldest = td->others[0];
	int err;

	if (!td->nr_others)
		return -ENOENT;
	err = tdx_td_destroy(oldest);
	tdx_td_free(oldest);
	td->nr_others--;
	memmove(td->others, td->others + 1, td->nr_others * sizeof(td->others[0]));
	return err;
}

static void look_at(struct simtd *td, unsigned int level, struct simtd_pamt *pamt)
{
	uint64_t size = TD_PAGE << 9 * level;
	struct tdx_pamt_view view;

	pamt->bytes[level] = td->tdmr_bytes / size * PAMT_ENTRY;
	for (uint64_t at = TDMR_BASE; at < TDMR_BASE + td->tdmr_bytes; at += size) {
		if (tdx_module_view_pamt(td->module, at, level, &view))
			continue;
		pamt->leaves[level] += view.pt == TDX_PT_REG;
		pamt->tables += view.pt == TDX_PT_EPT;
		pamt->control +=
			view.pt == TDX_PT_TDR || view.pt == TDX_PT_TDCX || view.pt == TDX_PT_TDVPR;
	}
}

void simtd_get_pamt(struct simtd *td, struct simtd_pamt *pamt)
{
	*pamt = (struct simtd_pamt){.memory = td->tdmr_bytes};
	for (unsigned int level = 0; level < 3; level++)
		look_at(td, level, pamt);
}
