// SPDX-License-Identifier: BSD-2-Clause
/*
 * What nested page-table entries, nCR3 and #NPF are, from AMD APM volume 2, sections 5.3 (long-mode
 * translation tables) and 15.25 (nested paging). Keeps no state and reads no memory.
 *
 *	bits	entry that links a table	entry that maps a page
 *	0	present				present
 *	2:1	U W				U W
 *	4:3	PCD PWT				PCD PWT
 *	6:5	ignored, accessed		dirty, accessed
 *	7	0 (must be zero at 4, 5)	PAT at level 1; 1 at levels 2, 3
 *	8	must be zero at 4, 5		global: no meaning here
 *	11:9	available			available
 *	51:12	table				page; bit 12 is PAT at 2, 3; the rest below its size
 *is 0 62:52	available			available 63	no execute, or must be zero if
 *EFER.NXE is 0
 */
#include <errno.h>

#include "machine/internal.h"

#define NPT_P	     (1ull << 0)
#define NPT_W	     (1ull << 1)
#define NPT_U	     (1ull << 2)
#define NPT_ACCESSED (1ull << 5)
#define NPT_DIRTY    (1ull << 6)
#define NPT_PAGE     (1ull << 7)
#define NPT_PAT_4K   (1ull << 7)
#define NPT_G	     (1ull << 8)
#define NPT_PAT_BIG  (1ull << 12)
#define NPT_NX	     (1ull << 63)

/* EXITINFO1 of #NPF, APM 15.25.6 */
#define NPF_P	  (1ull << 0)
#define NPF_W	  (1ull << 1)
#define NPF_U	  (1ull << 2)
#define NPF_RSVD  (1ull << 3)
#define NPF_FETCH (1ull << 4)
#define NPF_FINAL (1ull << 32)
#define NPF_WALK  (1ull << 33)

static bool npt_is_leaf(const struct machine_config *config, uint64_t entry, unsigned int level)
{
	return level == 1 || (entry & NPT_PAGE && (level == 2 || (level == 3 && config->page_1g)));
}

/* Bits that must be 0 in a present entry. */
static uint64_t npt_reserved(const struct machine_config *config, unsigned int level, bool leaf)
{
	uint64_t mask = ADDRESS_MASK & ~((1ull << config->maxphyaddr) - 1);

	if (!config->npt_nxe)
		mask |= NPT_NX;
	if (leaf && level > 1)
		mask |= ((1ull << level_shift(level)) - 1) & ADDRESS_MASK & ~NPT_PAT_BIG;
	if (!leaf)
		mask |= NPT_PAGE;
	if (level >= 4)
		mask |= NPT_G;
	return mask;
}

static void npt_decode(const struct machine_config *config, uint64_t entry, unsigned int level,
		       struct decoded *out)
{
	bool leaf = npt_is_leaf(config, entry, level);
	uint64_t pat = level == 1 ? NPT_PAT_4K : NPT_PAT_BIG;

	*out = (struct decoded){.kind = MACHINE_ENTRY_NONE};
	if (!(entry & NPT_P))
		return;
	out->rights = RIGHT_R | ((entry & NPT_W) ? RIGHT_W : 0) | ((entry & NPT_U) ? RIGHT_U : 0) |
		      ((entry & NPT_NX) ? 0 : RIGHT_X);
	out->target = entry & ADDRESS_MASK;
	out->kind = leaf ? MACHINE_ENTRY_LEAF : MACHINE_ENTRY_TABLE;
	if (entry & npt_reserved(config, level, leaf))
		out->kind = MACHINE_ENTRY_BAD;
	if (!leaf)
		return;
	out->memtype = (entry >> 3 & 3) | ((entry & pat) ? 4 : 0);
	if (level > 1)
		out->target &= ~NPT_PAT_BIG;
}

/* APM 15.25.5: every nested access is a user access; a guest table walk is a write. */
static unsigned int npt_need(unsigned int kind, bool ad)
{
	unsigned int need = RIGHT_U | (kind & (RIGHT_R | RIGHT_W | RIGHT_X));

	(void)ad;
	return (kind & MACHINE_GUEST_WALK) ? need | RIGHT_W : need;
}

static void npt_fault(const struct machine_config *config, unsigned int kind, bool ad,
		      enum machine_entry_kind end, unsigned int rights, struct machine_result *out)
{
	unsigned int need = npt_need(kind, ad);

	(void)rights;
	out->outcome = MACHINE_NPF;
	out->error = NPF_U | ((kind & MACHINE_GUEST_WALK) ? NPF_WALK : NPF_FINAL);
	if (end != MACHINE_ENTRY_NONE)
		out->error |= NPF_P;
	if (end == MACHINE_ENTRY_BAD)
		out->error |= NPF_RSVD;
	if (need & RIGHT_W)
		out->error |= NPF_W;
	/* As for #PF, a fetch is told apart only if the host has something to forbid it with. */
	if (need & RIGHT_X && (config->npt_nxe || config->npt_smep))
		out->error |= NPF_FETCH;
}

const struct format npt_format = {
	.accessed = NPT_ACCESSED,
	.dirty = NPT_DIRTY,
	.decode = npt_decode,
	.need = npt_need,
	.fault = npt_fault,
};

/* APM 15.25.3 and 15.25.4: nCR3 is laid out as CR3; its must-be-zero bits are checked at VMRUN. */
int npt_space(const struct machine *machine, const struct machine_root *root, struct space *space)
{
	const struct machine_config *config = &machine->config;

	if (root->npt_levels != 4 && !(root->npt_levels == 5 && config->five_level))
		return -EINVAL;
	if (root->pointer >> config->maxphyaddr)
		return -EINVAL;
	*space = (struct space){
		.format = &npt_format,
		.id = {MACHINE_ROOT_NPT, root->tag},
		.tag = root->tag,
		.root = root->pointer & ADDRESS_MASK,
		.levels = root->npt_levels,
		.ad = true,
	};
	return 0;
}
