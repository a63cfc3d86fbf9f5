// SPDX-License-Identifier: BSD-2-Clause
/* From an operand to a TD, and the checks that every TD leaf makes. Never changes a TD. */
#include "tdx/module/lines.h"

/* Every call begins by reading the TDR, under the module's key, and the TDCS, under the TD's. */
static bool read_pages(struct tdx_module *m, const struct td *td)
{
	if (!lines_module_check(m, m->global_key, td->tdr, PAGE_BYTES))
		return false;
	if (td_check_keys(td) != TDX_SUCCESS)
		return true;
	for (unsigned int i = 0; i < td->num_tdcx; i++)
		if (i != TDCX_SEPT_ROOT && /* read by walks */
		    !lines_module_check(m, td->key, td->tdcx[i], PAGE_BYTES))
			return false;
	return true;
}

uint64_t td_take(struct tdx_module *m, uint64_t tdr, unsigned int op, enum lock_mode mode,
		 struct td_hold *hold)
{
	uint64_t status;

	*hold = (struct td_hold){0};
	status = pamt_take_page(m, tdr, op, mode, TDX_PT_TDR, &hold->ref);
	if (status != TDX_SUCCESS)
		return status;
	hold->td = *hold->ref.object;
	if (read_pages(m, hold->td))
		return TDX_SUCCESS;
	pamt_release(&hold->ref);
	return TDX_SYS_SHUTDOWN;
}

bool td_take_implicit(struct tdx_module *m, struct td *td, struct td_hold *hold)
{
	*hold = (struct td_hold){.td = td};
	if (!pamt_take_implicit(m, td->tdr, 0, LOCK_SHARED, &hold->ref))
		return false;
	if (read_pages(m, td))
		return true;
	pamt_release(&hold->ref);
	return false;
}

uint64_t td_check_keys(const struct td *td)
{
	if (atomic_load(&td->fatal))
		return TDX_TD_FATAL;
	if (td->lifecycle != LIFE_KEYS_CONFIGURED)
		return TDX_TD_KEYS_NOT_CONFIGURED;
	return TDX_SUCCESS;
}

uint64_t td_check_state(struct td_hold *hold, unsigned int ops, bool lock_op)
{
	uint64_t status = td_check_keys(hold->td);

	if (status != TDX_SUCCESS)
		return status;
	if (hold->td->num_tdcx < MIN_TDCX)
		return TDX_TDCS_NOT_ALLOCATED;
	if (lock_op) {
		if (!hp_lock(&hold->td->op_lock, LOCK_SHARED))
			return TDX_OPERAND_BUSY | TDX_OPERAND_OP_STATE;
		hold->op_locked = true;
	}
	return OPS(hold->td->op_state) & ops ? TDX_SUCCESS : TDX_OP_STATE_INCORRECT;
}

void td_release(struct td_hold *hold)
{
	if (hold->op_locked)
		hp_unlock(&hold->td->op_lock, LOCK_SHARED);
	hold->op_locked = false;
	pamt_release(&hold->ref);
}

uint64_t td_run(struct call *call, uint64_t tdr, unsigned int op, enum lock_mode mode, td_fn *run)
{
	struct td_hold hold;
	uint64_t status = td_take(call->m, tdr, op, mode, &hold);

	if (status != TDX_SUCCESS)
		return status;
	status = run(call, &hold);
	td_release(&hold);
	return status;
}

void td_destroy(struct tdx_module *m, struct td *td)
{
	measure_destroy(m, td->mr);
	module_free(m, td);
}

bool td_private_gpa(const struct td *td, uint64_t gpa)
{
	return gpa < 1ull << td->shared_bit;
}

bool td_tracking_required(const struct td *td)
{
	return td->op_state == OP_RUNNABLE;
}

/*
 * The epoch can only have moved on between the reads, and then only because nobody was left in
 * the epoch before the last (TDH.MEM.TRACK). So reading the count after the epoch never says
 * "tracked" too early; and if the epoch moved meanwhile, the count may be the new epoch's.
 */
bool td_tracked(struct td *td, uint64_t bepoch)
{
	uint64_t epoch = atomic_load(&td->epoch);

	if (bepoch >> 63)
		return false;
	if (bepoch == epoch - 1 && atomic_load(&td->refcount[bepoch & 1]) == 0)
		return true;
	epoch = atomic_load(&td->epoch);
	return bepoch < epoch - 1;
}
