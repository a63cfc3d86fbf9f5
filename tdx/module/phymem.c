// SPDX-License-Identifier: BSD-2-Clause
/* Physical pages seen without their TD: TDH.PHYMEM.PAGE.RDMD, RECLAIM, WBINVD. Never a Secure EPT.
 */
#include "tdx/module/leaves.h"
#include "tdx/module/lines.h"

/* A page of any kind: form, range, leaf. 0 or the status; nothing held then. */
static uint64_t take_any(struct tdx_module *m, uint64_t hpa, enum lock_mode mode,
			 struct pamt_ref *ref)
{
	if (!pamt_operand_form(m, hpa, PAGE_BYTES))
		return TDX_OPERAND_INVALID | TDX_OPERAND_RCX;
	if (!pamt_covers(m, hpa))
		return TDX_OPERAND_ADDR_RANGE_ERROR | TDX_OPERAND_RCX;
	if (!pamt_walk(m, hpa, mode, 0, ref))
		return TDX_OPERAND_BUSY | TDX_OPERAND_RCX;
	return TDX_SUCCESS;
}

static void report_page(struct tdx_regs *regs, const struct pamt_ref *ref)
{
	regs->rcx = atomic_load(&ref->entry->pt);
	regs->rdx = pamt_owner(ref->entry);
	regs->r8 = ref->level;
}

/* TDH.PHYMEM.PAGE.RDMD: RCX page. */
uint64_t leaf_phymem_page_rdmd(struct call *call)
{
	struct tdx_regs *regs = call->regs;
	struct pamt_ref ref;
	uint64_t status;

	regs->r8 = regs->r9 = regs->r10 = regs->r11 = 0;
	status = take_any(call->m, call->rcx, LOCK_SHARED, &ref);
	if (status != TDX_SUCCESS)
		return status;
	report_page(regs, &ref);
	if (regs->rcx == TDX_PT_REG || regs->rcx == TDX_PT_EPT)
		regs->r9 = atomic_load(&ref.entry->bepoch);
	pamt_release(&ref);
	return TDX_SUCCESS;
}

static uint64_t reclaim_tdr(struct tdx_module *m, struct pamt_ref *ref)
{
	struct td *td = *ref->object;

	if (td->lifecycle != LIFE_TEARDOWN)
		return TDX_LIFECYCLE_STATE_INCORRECT;
	if (atomic_load(&td->chldcnt))
		return TDX_TD_ASSOCIATED_PAGES_EXIST;
	*ref->object = NULL;
	lines_release(m, ref->hpa, 0);
	pamt_free(ref->entry);
	td_destroy(m, td);
	return TDX_SUCCESS;
}

/* Any page but a TDR; its TD is known by the owner alone. */
static uint64_t reclaim_child(struct tdx_module *m, struct pamt_ref *ref)
{
	struct pamt_ref tdr;
	uint64_t status = TDX_LIFECYCLE_STATE_INCORRECT;
	struct td *td;

	if (!pamt_take_implicit(m, pamt_owner(ref->entry), 0, LOCK_SHARED, &tdr))
		return TDX_OPERAND_BUSY | TDX_OPERAND_TDR;
	td = *tdr.object;
	if (td->lifecycle == LIFE_TEARDOWN) {
		if (atomic_load(&ref->entry->pt) == TDX_PT_TDVPR) {
			vcpu_destroy(m, *ref->object);
			*ref->object = NULL;
		}
		atomic_fetch_sub(&td->chldcnt, level_size(ref->level) / PAGE_BYTES);
		lines_release(m, ref->hpa, ref->level);
		pamt_free(ref->entry);
		status = TDX_SUCCESS;
	}
	pamt_release(&tdr);
	return status;
}

/* TDH.PHYMEM.PAGE.RECLAIM: RCX page. */
uint64_t leaf_phymem_page_reclaim(struct call *call)
{
	struct pamt_ref ref;
	uint64_t status;
	uint8_t pt;

	call->regs->r8 = 0;
	status = take_any(call->m, call->rcx, LOCK_EXCLUSIVE, &ref);
	if (status != TDX_SUCCESS)
		return status;
	pt = atomic_load(&ref.entry->pt);
	if (pt <= TDX_PT_RSVD) {
		pamt_release(&ref);
		return TDX_PAGE_METADATA_INCORRECT | TDX_OPERAND_RCX;
	}
	report_page(call->regs, &ref);
	if (call->rcx & (level_size(ref.level) - 1))
		status = TDX_OPERAND_INVALID | TDX_OPERAND_RCX;
	else
		status = pt == TDX_PT_TDR ? reclaim_tdr(call->m, &ref)
					  : reclaim_child(call->m, &ref);
	pamt_release(&ref);
	return status;
}

/* TDH.PHYMEM.PAGE.WBINVD: RCX page, with any key id: its lines under that key are written back. */
uint64_t leaf_phymem_page_wbinvd(struct call *call)
{
	uint64_t hpa = call->rcx & ~call->m->hkid_mask;
	struct pamt_ref ref;
	uint64_t status =
		pamt_take_page(call->m, hpa, TDX_OPERAND_RCX, LOCK_SHARED, TDX_PT_NDA, &ref);

	if (status != TDX_SUCCESS)
		return status;
	lines_flush(call->m, pa_hkid(call->m, call->rcx), hpa, PAGE_BYTES);
	pamt_release(&ref);
	return TDX_SUCCESS;
}
