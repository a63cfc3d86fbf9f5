// SPDX-License-Identifier: BSD-2-Clause
/* A TD from its first page to the end of its build: TDH.MNG.CREATE, ADDCX, INIT, TDH.MR.FINALIZE.
 */
#include "tdx/module/leaves.h"
#include "tdx/module/lines.h"
#include "tdx/module/sept.h"

#include <string.h>

#define TDCX_MSR_BITMAPS 2 /* TDCS page that starts as all ones */

#define ATTR_LEGAL                                                                        \
	(TDX_ATTR_DEBUG | TDX_ATTR_SEPT_VE_DISABLE | TDX_ATTR_MIGRATABLE | TDX_ATTR_PKS | \
	 TDX_ATTR_PERFMON)
#define CONFIG_LEGAL	  (TDX_CONFIG_GPAW52 | TDX_CONFIG_FLEXIBLE_PENDING_VE | TDX_CONFIG_NO_RBP_MOD)
#define XFAM_REQUIRED	  3ull /* x87 and SSE */
#define TSC_FREQUENCY_MIN 4
#define TSC_FREQUENCY_MAX 400

static bool new_uuid(struct tdx_module *m, struct td *td)
{
	for (unsigned int i = 0; i < 4; i++)
		if (!module_random(m, &td->uuid[i]))
			return false;
	return true;
}

/* Both locks are held: the page's and the key table's. */
static uint64_t create_td(struct call *call, struct pamt_ref *page, unsigned int hkid)
{
	struct td *td;

	if (call->m->kot[hkid].state != KEY_FREE)
		return TDX_HKID_NOT_FREE;
	td = module_alloc(call->m, sizeof(*td));
	if (!td)
		return TDX_SYS_BUSY;
	if (!new_uuid(call->m, td)) {
		module_free(call->m, td);
		return TDX_RND_NO_ENTROPY;
	}
	td->tdr = call->rcx;
	td->hkid = hkid;
	lines_fill(call->m, call->m->global_key, call->rcx, NULL);
	call->m->kot[hkid].state = KEY_ASSIGNED;
	*page->object = td;
	pamt_set(page->entry, TDX_PT_TDR, 0);
	return TDX_SUCCESS;
}

/* TDH.MNG.CREATE: RCX page, RDX key id. */
uint64_t leaf_mng_create(struct call *call)
{
	const struct tdx_module_config *c = &call->m->config;
	struct pamt_ref page;
	uint64_t status;

	if (call->rdx < c->private_hkid_min || call->rdx > c->private_hkid_max)
		return TDX_OPERAND_INVALID | TDX_OPERAND_RDX;
	status = pamt_take_new_page(call->m, call->rcx, TDX_OPERAND_RCX, &page);
	if (status != TDX_SUCCESS)
		return status;
	status = TDX_OPERAND_BUSY | TDX_OPERAND_KOT;
	if (sharex_lock(&call->m->kot_lock, LOCK_EXCLUSIVE)) {
		status = create_td(call, &page, (unsigned int)call->rdx);
		sharex_unlock(&call->m->kot_lock, LOCK_EXCLUSIVE);
	}
	pamt_release(&page);
	return status;
}

static void fill_tdcx(struct tdx_module *m, unsigned int index, uint64_t hpa)
{
	void *page = module_page(m, hpa);

	if (index == TDCX_SEPT_ROOT)
		sept_fill_free(page);
	else
		memset(page, index == TDCX_MSR_BITMAPS ? 0xff : 0, PAGE_BYTES);
}

static uint64_t add_tdcx(struct call *call, struct td_hold *hold)
{
	struct td *td = hold->td;
	struct pamt_ref page;
	uint64_t status = td_check_keys(td);

	if (status != TDX_SUCCESS)
		return status;
	if (td->num_tdcx >= MAX_TDCX)
		return TDX_TDCX_NUM_INCORRECT;
	status = pamt_take_new_page(call->m, call->rcx, TDX_OPERAND_RCX, &page);
	if (status != TDX_SUCCESS)
		return status;
	if (td->num_tdcx >= MIN_TDCX && td->op_state != OP_UNINITIALIZED) {
		status = TDX_OP_STATE_INCORRECT;
		goto out;
	}
	lines_take(call->m, td->key, call->rcx);
	fill_tdcx(call->m, td->num_tdcx, call->rcx);
	td->tdcx[td->num_tdcx++] = call->rcx;
	atomic_fetch_add(&td->chldcnt, 1);
	pamt_set(page.entry, TDX_PT_TDCX, td->tdr);
out:
	pamt_release(&page);
	return status;
}

/* TDH.MNG.ADDCX: RCX page, RDX TDR. */
uint64_t leaf_mng_addcx(struct call *call)
{
	return td_run(call, call->rdx, TDX_OPERAND_RDX, LOCK_EXCLUSIVE, add_tdcx);
}

static bool all_zero(const uint8_t *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (bytes[i])
			return false;
	return true;
}

static bool attributes_legal(uint64_t attributes)
{
	if (attributes & ~ATTR_LEGAL)
		return false;
	return !(attributes & TDX_ATTR_MIGRATABLE) ||
	       !(attributes & (TDX_ATTR_DEBUG | TDX_ATTR_PERFMON));
}

static bool eptp_legal(const struct tdx_module *m, const struct tdx_td_params *p)
{
	uint64_t levels = p->eptp_controls >> 3 & 7;

	if ((p->eptp_controls & ~(7ull << 3)) != 6)
		return false;
	if (levels != 3 && !(levels == 4 && m->config.pml5))
		return false;
	return !(p->config_flags & TDX_CONFIG_GPAW52) || levels == 4;
}

/* In the module's order; what fails first is reported. */
static uint64_t check_params(const struct tdx_module *m, const struct td *td,
			     const struct tdx_td_params *p)
{
	if (!attributes_legal(p->attributes))
		return TDX_OPERAND_INVALID | TDX_OPERAND_ATTRIBUTES;
	if (p->xfam & ~m->config.xfam_supported || (p->xfam & XFAM_REQUIRED) != XFAM_REQUIRED)
		return TDX_OPERAND_INVALID | TDX_OPERAND_XFAM;
	if (!p->max_vcpus)
		return TDX_OPERAND_INVALID | TDX_OPERAND_MAX_VCPUS;
	if (p->num_l2_vms >= MAX_VMS)
		return TDX_OPERAND_INVALID | TDX_OPERAND_NUM_L2_VMS;
	if (td->num_tdcx < MIN_TDCX + p->num_l2_vms)
		return TDX_TDCS_NOT_ALLOCATED;
	if (!all_zero(p->reserved0, sizeof(p->reserved0)))
		return TDX_OPERAND_INVALID | TDX_OPERAND_RDX;
	if (p->config_flags & ~CONFIG_LEGAL)
		return TDX_OPERAND_INVALID | TDX_OPERAND_EXEC_CONTROLS;
	if (!eptp_legal(m, p))
		return TDX_OPERAND_INVALID | TDX_OPERAND_EPTP_CONTROLS;
	if (p->tsc_frequency < TSC_FREQUENCY_MIN || p->tsc_frequency > TSC_FREQUENCY_MAX)
		return TDX_OPERAND_INVALID | TDX_OPERAND_TSC_FREQUENCY;
	if (!all_zero(p->reserved1, sizeof(p->reserved1)) ||
	    !all_zero(p->reserved2, sizeof(p->reserved2)))
		return TDX_OPERAND_INVALID | TDX_OPERAND_RDX;
	if (p->attributes & TDX_ATTR_MIGRATABLE && p->num_l2_vms)
		return TDX_OPERAND_INVALID | TDX_OPERAND_RDX;
	return TDX_SUCCESS;
}

static uint64_t init_td(struct call *call, struct td_hold *hold)
{
	uint64_t status = td_check_state(hold, OPS(OP_UNINITIALIZED), false);
	struct tdx_td_params params;
	struct td *td = hold->td;

	if (status != TDX_SUCCESS)
		return status;
	if (!module_shared_operand(call->m, call->rdx, sizeof(params)))
		return TDX_OPERAND_INVALID | TDX_OPERAND_RDX;
	if (!module_page(call->m, call->rdx))
		return TDX_OPERAND_INVALID | TDX_OPERAND_RDX;
	if (!lines_module_load_shared(call->m, call->rdx, &params, sizeof(params)))
		return TDX_SYS_SHUTDOWN;
	status = check_params(call->m, td, &params);
	if (status != TDX_SUCCESS)
		return status;
	td->mr = measure_create(call->m);
	if (!td->mr)
		return TDX_SYS_BUSY;
	td->params = params;
	td->shared_bit = params.config_flags & TDX_CONFIG_GPAW52 ? 51 : 47;
	td->root_level = params.eptp_controls >> 3 & 7;
	td->num_l2_vms = params.num_l2_vms;
	atomic_store(&td->td_ctls, params.attributes & TDX_ATTR_SEPT_VE_DISABLE
					   ? TDX_TD_CTLS_PENDING_VE_DISABLE
					   : 0);
	atomic_store(&td->epoch, 1);
	td->op_state = OP_INITIALIZED;
	return TDX_SUCCESS;
}

/* TDH.MNG.INIT: RCX TDR, RDX TD_PARAMS. */
uint64_t leaf_mng_init(struct call *call)
{
	call->regs->rcx = 0;
	return td_run(call, call->rcx, TDX_OPERAND_RCX, LOCK_EXCLUSIVE, init_td);
}

static uint64_t finalize(struct call *call, struct td_hold *hold)
{
	uint64_t status = td_check_state(hold, OPS(OP_INITIALIZED), false);
	struct td *td = hold->td;

	(void)call;
	if (status != TDX_SUCCESS)
		return status;
	if (!atomic_load(&td->num_vcpus))
		return TDX_NO_VCPUS;
	measure_finalize(td->mr, td->mrtd);
	td->op_state = OP_RUNNABLE;
	return TDX_SUCCESS;
}

/* TDH.MR.FINALIZE: RCX TDR. */
uint64_t leaf_mr_finalize(struct call *call)
{
	return td_run(call, call->rcx, TDX_OPERAND_RCX, LOCK_EXCLUSIVE, finalize);
}
