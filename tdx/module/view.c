// SPDX-License-Identifier: BSD-2-Clause
/* Looking in from outside: the processor's port, views and forced words. Never a leaf. */
#include "tdx/module/lines.h"
#include "tdx/module/sept.h"
#include "tdx/module/sept_l2.h"

#include <errno.h>
#include <string.h>

static bool port_td_entry(void *module, unsigned int lp, struct tdx_port_td *td)
{
	const struct vcpu *vcpu = vcpu_on(module, lp);

	if (!vcpu)
		return false;
	*td = (struct tdx_port_td){
		.tdr = vcpu->td->tdr,
		.vcpu = vcpu->tdvpr,
		.shared_eptp = atomic_load(&vcpu->shared_eptp),
		.hkid = (uint16_t)vcpu->td->hkid,
		.shared_bit = (uint8_t)vcpu->td->shared_bit,
		.eptp_levels = (uint8_t)(vcpu->td->root_level + 1),
	};
	return true;
}

static int port_private_walk(void *module, unsigned int lp, uint64_t gpa,
			     struct tdx_port_walk *walk)
{
	const struct vcpu *vcpu = vcpu_on(module, lp);
	struct sept_walk found;

	if (!vcpu)
		return -ENOENT;
	memset(walk, 0, sizeof(*walk));
	walk->present = sept_walk_processor(module, vcpu->td, gpa, &found);
	walk->machine_check = found.level == SEPT_NO_LEVEL;
	walk->level = (uint8_t)found.level;
	walk->rwx = found.raw & SEPT_RWX;
	if (walk->present)
		walk->hpa = sept_hpa(found.raw, found.level);
	walk->nr_tables = found.nr_tables;
	memcpy(walk->tables, found.tables, sizeof(walk->tables));
	return 0;
}

const struct tdx_port_module tdx_module_port = {
	.td_entry = port_td_entry,
	.private_walk = port_private_walk,
	.data = memory_port_data,
};

/* The structure behind a page of type @pt; NULL if it is none. */
static void *object_at(struct tdx_module *m, uint64_t hpa, enum tdx_page_type pt)
{
	struct pamt_entry *entry = pamt_entry_at(m, hpa, 0);

	if (!entry || atomic_load(&entry->pt) != pt)
		return NULL;
	return pamt_object(m, hpa);
}

int tdx_module_view_pamt(struct tdx_module *m, uint64_t hpa, unsigned int level,
			 struct tdx_pamt_view *view)
{
	struct pamt_entry *entry = level < PAMT_LEVELS ? pamt_entry_at(m, hpa, level) : NULL;

	if (!entry)
		return -ERANGE;
	*view = (struct tdx_pamt_view){
		.pt = atomic_load(&entry->pt),
		.owner = pamt_owner(entry),
		.bepoch = atomic_load(&entry->bepoch),
		.lock = atomic_load(&entry->lock),
	};
	return 0;
}

static void view_tdcs(struct td *td, struct tdx_td_view *view)
{
	view->op_state = (uint8_t)td->op_state;
	view->td_epoch = atomic_load(&td->epoch);
	view->refcount[0] = atomic_load(&td->refcount[0]);
	view->refcount[1] = atomic_load(&td->refcount[1]);
	view->num_vcpus = atomic_load(&td->num_vcpus);
	view->num_assoc = atomic_load(&td->num_assoc);
	view->op_lock = atomic_load(&td->op_lock);
	view->sept_lock = atomic_load(&td->sept_lock);
	view->epoch_lock = atomic_load(&td->epoch_lock);
	view->gpa_width = td->shared_bit + 1;
	view->sept_levels = td->root_level + 1;
	view->num_l2_vms = td->num_l2_vms;
	view->attributes = td->params.attributes;
	view->td_ctls = atomic_load(&td->td_ctls);
	view->sept_root[0] = td->tdcx[TDCX_SEPT_ROOT];
	for (unsigned int vm = 1; vm <= td->num_l2_vms; vm++)
		view->sept_root[vm] = td->tdcx[TDCX_L2_ROOT + vm - 1];
}

int tdx_module_view_td(struct tdx_module *m, uint64_t tdr, struct tdx_td_view *view)
{
	struct td *td = object_at(m, tdr, TDX_PT_TDR);

	if (!td)
		return -ENOENT;
	*view = (struct tdx_td_view){
		.tdr = td->tdr,
		.chldcnt = atomic_load(&td->chldcnt),
		.lifecycle = (uint8_t)td->lifecycle,
		.hkid = td->hkid,
		.num_tdcx = td->num_tdcx,
		.fatal = atomic_load(&td->fatal),
	};
	if (td->num_tdcx >= MIN_TDCX)
		view_tdcs(td, view);
	return 0;
}

int tdx_module_view_mrtd(struct tdx_module *m, uint64_t tdr, uint8_t mrtd[48])
{
	const struct td *td = object_at(m, tdr, TDX_PT_TDR);

	if (!td)
		return -ENOENT;
	memcpy(mrtd, td->mrtd, sizeof(td->mrtd));
	return 0;
}

int tdx_module_view_vcpu(struct tdx_module *m, uint64_t tdvpr, struct tdx_vcpu_view *view)
{
	struct vcpu *vcpu = object_at(m, tdvpr, TDX_PT_TDVPR);

	if (!vcpu)
		return -ENOENT;
	*view = (struct tdx_vcpu_view){
		.tdr = vcpu->td->tdr,
		.index = vcpu->index,
		.state = atomic_load(&vcpu->state),
		.assoc_lp = atomic_load(&vcpu->assoc_lp),
		.epoch = atomic_load(&vcpu->epoch),
		.shared_eptp = atomic_load(&vcpu->shared_eptp),
		.ve = {vcpu->ve.valid, vcpu->ve.reason, vcpu->ve.qualification, vcpu->ve.gpa,
		       vcpu->ve.gla},
	};
	return 0;
}

uint64_t tdx_module_running_vcpu(struct tdx_module *m, unsigned int lp)
{
	const struct vcpu *vcpu = vcpu_on(m, lp);

	return vcpu ? vcpu->tdvpr : 0;
}

static int find_sept(struct tdx_module *m, uint64_t tdr, uint64_t gpa, unsigned int level,
		     unsigned int vm, struct sept_walk *walk)
{
	const struct td *td = object_at(m, tdr, TDX_PT_TDR);

	if (!td || td->op_state == OP_UNINITIALIZED || vm > td->num_l2_vms)
		return -ENOENT;
	if (level > td->root_level)
		return -EINVAL;
	if (vm)
		sept_l2_find(m, td, vm, gpa, level, walk);
	else
		sept_walk_any(m, td, gpa, level, walk);
	return 0;
}

int tdx_module_view_sept(struct tdx_module *m, uint64_t tdr, uint64_t gpa, unsigned int level,
			 unsigned int vm, struct tdx_sept_view *view)
{
	struct sept_walk walk;
	int err = find_sept(m, tdr, gpa, level, vm, &walk);

	if (err)
		return err;
	*view = (struct tdx_sept_view){
		.raw = walk.raw,
		.level = (uint8_t)walk.level,
		.state = vm ? sept_l2_public_state(walk.raw) : sept_public_state(walk.raw),
	};
	return 0;
}

int tdx_module_force(struct tdx_module *m, enum tdx_force what, uint64_t target, uint64_t raw)
{
	struct td *td = object_at(m, target, TDX_PT_TDR);

	if (what == TDX_FORCE_KOT_LOCK) {
		atomic_store(&m->kot_lock, (uint16_t)raw);
		return 0;
	}
	if (!td)
		return -ENOENT;
	if (what == TDX_FORCE_SEPT_LOCK)
		atomic_store(&td->sept_lock, (uint16_t)raw);
	else if (what == TDX_FORCE_OP_LOCK)
		atomic_store(&td->op_lock, (uint16_t)raw);
	else if (what == TDX_FORCE_EPOCH_LOCK)
		atomic_store(&td->epoch_lock, (uint16_t)raw);
	else
		atomic_store(&td->td_ctls, raw);
	return 0;
}

int tdx_module_force_pamt_lock(struct tdx_module *m, uint64_t hpa, unsigned int level, uint16_t raw)
{
	struct pamt_entry *entry = level < PAMT_LEVELS ? pamt_entry_at(m, hpa, level) : NULL;

	if (!entry)
		return -ERANGE;
	atomic_store(&entry->lock, raw);
	return 0;
}

int tdx_module_force_sept(struct tdx_module *m, uint64_t tdr, uint64_t gpa, unsigned int level,
			  uint64_t set, uint64_t clear)
{
	struct sept_walk walk;
	int err = find_sept(m, tdr, gpa, level, 0, &walk);

	if (!err)
		sept_write(walk.entry, (walk.raw | set) & ~clear);
	return err;
}
