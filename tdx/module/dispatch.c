// SPDX-License-Identifier: BSD-2-Clause
/* From a SEAMCALL's RAX to its leaf: what is checked before any leaf runs. Never what a leaf does.
 */
#include "tdx/module/leaves.h"

struct host_leaf {
	leaf_fn *run;
	bool clears_details; /* RCX and RDX are outputs and zero from the start, on errors too */
	bool has_versions;   /* checks the version itself */
};

#define LEAF(fn)            \
	{                   \
		.run = (fn) \
	}
#define LEAF_DETAILS(fn)                            \
	{                                           \
		.run = (fn), .clears_details = true \
	}
#define LEAF_DETAILS_VERSION(fn)                                          \
	{                                                                 \
		.run = (fn), .clears_details = true, .has_versions = true \
	}

static const struct host_leaf leaves[] = {
	[TDH_VP_ENTER] = LEAF(leaf_vp_enter),
	[TDH_MNG_ADDCX] = LEAF(leaf_mng_addcx),
	[TDH_MEM_PAGE_ADD] = LEAF_DETAILS(leaf_mem_page_add),
	[TDH_MEM_SEPT_ADD] = LEAF_DETAILS_VERSION(leaf_mem_sept_add),
	[TDH_VP_ADDCX] = LEAF(leaf_vp_addcx),
	[TDH_MEM_PAGE_RELOCATE] = LEAF_DETAILS(leaf_mem_page_relocate),
	[TDH_MEM_PAGE_AUG] = LEAF_DETAILS(leaf_mem_page_aug),
	[TDH_MEM_RANGE_BLOCK] = LEAF_DETAILS(leaf_mem_range_block),
	[TDH_MNG_KEY_CONFIG] = LEAF(leaf_mng_key_config),
	[TDH_MNG_CREATE] = LEAF(leaf_mng_create),
	[TDH_VP_CREATE] = LEAF(leaf_vp_create),
	[TDH_MEM_RD] = LEAF_DETAILS(leaf_mem_rd),
	[TDH_MEM_WR] = LEAF_DETAILS(leaf_mem_wr),
	[TDH_MEM_PAGE_DEMOTE] = LEAF_DETAILS(leaf_mem_page_demote),
	[TDH_MR_EXTEND] = LEAF_DETAILS(leaf_mr_extend),
	[TDH_MR_FINALIZE] = LEAF(leaf_mr_finalize),
	[TDH_VP_FLUSH] = LEAF(leaf_vp_flush),
	[TDH_MNG_VPFLUSHDONE] = LEAF(leaf_mng_vpflushdone),
	[TDH_MNG_KEY_FREEID] = LEAF(leaf_mng_key_freeid),
	[TDH_MNG_INIT] = LEAF(leaf_mng_init),
	[TDH_VP_INIT] = LEAF(leaf_vp_init),
	[TDH_MEM_PAGE_PROMOTE] = LEAF_DETAILS_VERSION(leaf_mem_page_promote),
	[TDH_PHYMEM_PAGE_RDMD] = LEAF_DETAILS(leaf_phymem_page_rdmd),
	[TDH_MEM_SEPT_RD] = LEAF_DETAILS(leaf_mem_sept_rd),
	[TDH_VP_RD] = LEAF(leaf_vp_rd),
	[TDH_MNG_KEY_RECLAIMID] = LEAF(leaf_mng_key_reclaimid),
	[TDH_PHYMEM_PAGE_RECLAIM] = LEAF_DETAILS(leaf_phymem_page_reclaim),
	[TDH_MEM_PAGE_REMOVE] = LEAF_DETAILS(leaf_mem_page_remove),
	[TDH_MEM_SEPT_REMOVE] = LEAF_DETAILS_VERSION(leaf_mem_sept_remove),
	[TDH_SYS_TDMR_INIT] = LEAF(leaf_sys_tdmr_init),
	[TDH_MEM_TRACK] = LEAF(leaf_mem_track),
	[TDH_MEM_RANGE_UNBLOCK] = LEAF_DETAILS(leaf_mem_range_unblock),
	[TDH_PHYMEM_CACHE_WB] = LEAF(leaf_phymem_cache_wb),
	[TDH_PHYMEM_PAGE_WBINVD] = LEAF(leaf_phymem_page_wbinvd),
	[TDH_VP_WR] = LEAF(leaf_vp_wr),
};

static const struct host_leaf *leaf_of(uint64_t rax)
{
	uint64_t number = rax & TDX_RAX_LEAF;

	if (number >= sizeof(leaves) / sizeof(leaves[0]) || !leaves[number].run)
		return NULL;
	return &leaves[number];
}

/* A call in which the module dies has no other answer, unless it has let the guest in. */
static uint64_t survivor(const struct call *call, uint64_t status)
{
	return atomic_load(&call->m->state) == MODULE_SHUTDOWN ? TDX_SYS_SHUTDOWN : status;
}

static uint64_t run_host_leaf(struct call *call)
{
	uint64_t rax = call->regs->rax;
	const struct host_leaf *leaf = leaf_of(rax);

	call->version = rax >> TDX_RAX_VERSION_SHIFT & 0xff;
	if (rax & TDX_RAX_RESERVED)
		return TDX_OPERAND_INVALID | TDX_OPERAND_RAX;
	if (call->version && (!leaf || !leaf->has_versions))
		return TDX_OPERAND_INVALID | TDX_OPERAND_RAX;
	if (atomic_load(&call->m->state) == MODULE_SHUTDOWN)
		return TDX_SYS_SHUTDOWN;
	if (!leaf)
		return TDX_OPERAND_INVALID | TDX_OPERAND_RAX;
	if (leaf->clears_details)
		call->regs->rcx = call->regs->rdx = 0;
	return survivor(call, leaf->run(call));
}

enum tdx_side tdx_module_seamcall(void *module, unsigned int lp, struct tdx_regs *regs)
{
	struct tdx_module *m = module;
	struct call call = {.m = m,
			    .lp = lp,
			    .regs = regs,
			    .rcx = regs->rcx,
			    .rdx = regs->rdx,
			    .side = TDX_HOST};
	uint64_t status;

	if (lp >= m->config.nr_lps) {
		regs->rax = TDX_SYS_NOT_READY;
		return TDX_HOST;
	}
	if (atomic_load(&m->lps[lp].vcpu))
		return TDX_GUEST;
	status = run_host_leaf(&call);
	if (call.side == TDX_HOST)
		regs->rax = status;
	return call.side;
}
