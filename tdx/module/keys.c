// SPDX-License-Identifier: BSD-2-Clause
/*
 * Key ids: FREE -> ASSIGNED -> FLUSHED -> FREE, beside the TD's life cycle, and the cache
 *write-back between. Never pages.
 *
 *	KEY.CONFIG (each package) .. VPFLUSHDONE .. PHYMEM.CACHE.WB (each package) .. KEY.FREEID
 */
#include "tdx/module/leaves.h"
#include "tdx/module/lines.h"

#include <string.h>

static unsigned int package_of(const struct call *call)
{
	return call->lp % call->m->config.nr_packages;
}

static uint8_t all_packages(const struct tdx_module *m)
{
	return (uint8_t)((1u << m->config.nr_packages) - 1);
}

static uint64_t config_key(struct call *call, struct td_hold *hold)
{
	struct td *td = hold->td;
	uint8_t bit = (uint8_t)(1u << package_of(call));

	if (atomic_load(&td->fatal))
		return TDX_TD_FATAL;
	if (td->lifecycle != LIFE_HKID_ASSIGNED)
		return TDX_LIFECYCLE_STATE_INCORRECT;
	if (td->packages_configured & bit)
		return TDX_KEY_CONFIGURED;
	if (!td->key)
		td->key = key_create(call->m, td->hkid, true);
	if (!td->key || !key_configure(call->m, td->key, package_of(call)))
		return TDX_KEY_GENERATION_FAILED;
	call->m->kot[td->hkid].key = td->key;
	td->packages_configured |= bit;
	if (td->packages_configured == all_packages(call->m))
		td->lifecycle = LIFE_KEYS_CONFIGURED;
	return TDX_SUCCESS;
}

/* TDH.MNG.KEY.CONFIG: RCX TDR; on one processor of each package. */
uint64_t leaf_mng_key_config(struct call *call)
{
	return td_run(call, call->rcx, TDX_OPERAND_RCX, LOCK_EXCLUSIVE, config_key);
}

static uint64_t flush_done(struct tdx_module *m, struct td *td)
{
	if (td->lifecycle > LIFE_KEYS_CONFIGURED)
		return TDX_LIFECYCLE_STATE_INCORRECT;
	if (td->num_tdcx >= MIN_TDCX && td->op_state != OP_UNINITIALIZED &&
	    atomic_load(&td->num_assoc))
		return TDX_FLUSHVP_NOT_DONE;
	atomic_store(&m->kot[td->hkid].packages_to_flush, all_packages(m));
	m->kot[td->hkid].state = KEY_FLUSHED;
	td->lifecycle = LIFE_BLOCKED;
	return TDX_SUCCESS;
}

static uint64_t lock_and_flush_done(struct call *call, struct td_hold *hold)
{
	uint64_t status;

	if (!sharex_lock(&call->m->kot_lock, LOCK_EXCLUSIVE))
		return TDX_OPERAND_BUSY | TDX_OPERAND_KOT;
	status = flush_done(call->m, hold->td);
	sharex_unlock(&call->m->kot_lock, LOCK_EXCLUSIVE);
	return status;
}

/* TDH.MNG.VPFLUSHDONE: RCX TDR. */
uint64_t leaf_mng_vpflushdone(struct call *call)
{
	return td_run(call, call->rcx, TDX_OPERAND_RCX, LOCK_EXCLUSIVE, lock_and_flush_done);
}

static uint64_t free_key(struct call *call, struct td_hold *hold)
{
	uint64_t status = TDX_WBCACHE_NOT_COMPLETE;
	struct tdx_module *m = call->m;
	struct td *td = hold->td;

	if (td->lifecycle != LIFE_BLOCKED)
		return TDX_LIFECYCLE_STATE_INCORRECT;
	if (!sharex_lock(&m->kot_lock, LOCK_EXCLUSIVE))
		return TDX_OPERAND_BUSY | TDX_OPERAND_KOT;
	if (!atomic_load(&m->kot[td->hkid].packages_to_flush)) {
		m->kot[td->hkid].state = KEY_FREE;
		m->kot[td->hkid].key = NULL;
		td->lifecycle = LIFE_TEARDOWN;
		status = TDX_SUCCESS;
	}
	sharex_unlock(&m->kot_lock, LOCK_EXCLUSIVE);
	return status;
}

/* TDH.MNG.KEY.FREEID: RCX TDR. */
uint64_t leaf_mng_key_freeid(struct call *call)
{
	return td_run(call, call->rcx, TDX_OPERAND_RCX, LOCK_EXCLUSIVE, free_key);
}

/* TDH.MNG.KEY.RECLAIMID: kept by the ABI for old hosts; does nothing. */
uint64_t leaf_mng_key_reclaimid(struct call *call)
{
	(void)call;
	return TDX_SUCCESS;
}

static bool key_was_flushed(const struct wb_point *wb, unsigned int hkid)
{
	return wb->keys[hkid / 8] >> (hkid % 8) & 1;
}

/* Remember which key ids wait for this write-back. False: none. */
static bool start_write_back(struct tdx_module *m, struct wb_point *wb)
{
	bool any = false;

	wb->begun = lines_write_back_begin(m);
	memset(wb->keys, 0, sizeof(wb->keys));
	wb->next_block = 0;
	for (unsigned int hkid = 0; hkid < TDX_MODULE_MAX_HKIDS; hkid++) {
		if (m->kot[hkid].state != KEY_FLUSHED)
			continue;
		wb->keys[hkid / 8] |= (uint8_t)(1u << (hkid % 8));
		any = true;
	}
	return any;
}

/* Nothing is written under a key that is FLUSHED: once no cache has its lines, none ever will. */
static void finish_write_back(struct tdx_module *m, const struct wb_point *wb, unsigned int package)
{
	uint8_t bit = (uint8_t)(1u << package);

	lines_write_back_end(m, package, wb->begun);
	for (unsigned int hkid = 0; hkid < TDX_MODULE_MAX_HKIDS; hkid++) {
		struct key_owner *owner = &m->kot[hkid];

		if (key_was_flushed(wb, hkid) &&
		    atomic_fetch_and(&owner->packages_to_flush, (uint8_t)~bit) == bit && owner->key)
			atomic_store(&owner->key->retired, true);
	}
}

static uint64_t write_back(struct call *call, struct wb_point *wb)
{
	if (call->rcx == 0 && !start_write_back(call->m, wb))
		return TDX_NO_HKID_READY_TO_WBCACHE;
	if (call->rcx == 1 && !wb->interrupted)
		return TDX_WBCACHE_RESUME_ERROR;
	wb->interrupted = false;
	while (++wb->next_block < call->m->config.wb_blocks) {
		if (!module_interrupted(call))
			continue;
		wb->interrupted = true;
		return TDX_INTERRUPTED_RESUMABLE;
	}
	finish_write_back(call->m, wb, package_of(call));
	return TDX_SUCCESS;
}

/* TDH.PHYMEM.CACHE.WB: RCX 0 start, 1 resume; on one processor of each package. */
uint64_t leaf_phymem_cache_wb(struct call *call)
{
	struct wb_point *wb = &call->m->wb[package_of(call)];
	uint64_t status = TDX_OPERAND_BUSY | TDX_OPERAND_KOT;

	if (call->rcx > 1)
		return TDX_OPERAND_INVALID | TDX_OPERAND_RCX;
	if (!mutex8_lock(&wb->lock))
		return TDX_OPERAND_BUSY | TDX_OPERAND_WBCACHE;
	if (sharex_lock(&call->m->kot_lock, LOCK_SHARED)) {
		status = write_back(call, wb);
		sharex_unlock(&call->m->kot_lock, LOCK_SHARED);
	}
	mutex8_unlock(&wb->lock);
	return status;
}
