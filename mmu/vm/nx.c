// SPDX-License-Identifier: BSD-2-Clause
/* NX huge pages as their callers know them: who switches them, and the period's recovery. Decides
 * nothing about a page. */
#include <triptych/nx.h>

#include "mmu/vm/vm.h"

bool nx_is_on(const struct tpt_vm *vm)
{
	if (vm->nx_disabled)
		return false;
	return vm->nx_mode == TPT_NX_FORCE ||
	       (vm->nx_mode == TPT_NX_AUTO && (vm->flags & TPT_VM_ITLB_MULTIHIT));
}

/* What was mapped by the old rule goes. Exclusive section. */
static void apply(struct tpt_vm *vm)
{
	if (vm->trees.nx_huge_pages == nx_is_on(vm))
		return;
	vm->trees.nx_huge_pages = nx_is_on(vm);
	zap_all_fast(vm);
}

static int check_mode(struct tpt_vm *vm, enum tpt_nx_mode mode)
{
	const char *rule = NULL;
	int err = 0;

	if (vm->nx_mode == TPT_NX_NEVER) {
		rule = "the mode is NEVER for good";
		err = -ERR_PERM;
	} else if (mode == TPT_NX_NEVER && vm->vcpus) {
		rule = "NEVER is set before the first vCPU is made";
		err = -ERR_BUSY;
	}
	if (err)
		vm_log(&vm->base, TPT_LOG_WARNING, "NX huge pages, mode %d: %s", (int)mode, rule);
	return err;
}

int tpt_vm_set_nx_huge_pages(struct tpt_vm *vm, enum tpt_nx_mode mode)
{
	int err;

	if ((unsigned int)mode > TPT_NX_NEVER) {
		vm_log(&vm->base, TPT_LOG_WARNING, "NX huge pages: there is no mode %d", (int)mode);
		return -ERR_INVAL;
	}
	err = update_begin(vm);
	if (err)
		return err;
	err = check_mode(vm, mode);
	if (!err) {
		vm->nx_mode = mode;
		apply(vm);
	}
	update_end(vm);
	return err;
}

int tpt_vm_disable_nx_huge_pages(struct tpt_vm *vm)
{
	int err = update_begin(vm);

	if (err)
		return err;
	if (vm->vcpus) {
		vm_log(&vm->base, TPT_LOG_WARNING,
		       "NX huge pages are disabled before the first vCPU is made");
		err = -ERR_INVAL;
	} else {
		vm->nx_disabled = true;
		apply(vm);
	}
	update_end(vm);
	return err;
}

/* ---- recovery ---- */

/* One flush for each address space, then the tables can go. */
static void settle(struct actor *worker, struct range_nx *op)
{
	for (uint32_t as_id = 0; as_id < MAX_ADDRESS_SPACES; as_id++) {
		if (op->flush[as_id].start == op->flush[as_id].end)
			continue;
		vm_flush(worker, &(struct tpt_flush){.reason = TPT_FLUSH_NX_RECOVERY,
						     .as_id = as_id,
						     .range = op->flush[as_id]});
		op->flush[as_id] = (struct tpt_gfn_range){0, 0};
	}
	while (op->nr)
		table_reclaim_later(op->detached[--op->nr]);
}

static int recover_chunk(struct tpt_vm *vm, struct actor *worker, struct range_nx *op)
{
	int more = -ERR_IO;

	worker_enter(worker);
	if (!vm->env.ended && !vm_is_dead(&vm->base))
		more = range_nx_chunk(&vm->env, worker, op);
	/*
	 * Who takes memory away looks for entries to know what to flush, and finds none here any
	 * more: nobody may be alone before the flush is done.
	 */
	section_watch(worker, false);
	settle(worker, op);
	section_watch(worker, true);
	worker_leave(worker);
	return more;
}

int tpt_vm_nx_recover(struct tpt_vm *vm, uint32_t ratio)
{
	uint64_t splits = atomic_load_explicit(&vm->trees.nx.nr, memory_order_relaxed);
	struct range_nx op = {.left = ratio ? (splits + ratio - 1) / ratio : 0};
	struct actor *worker = worker_get(vm);
	int more;

	do
		more = recover_chunk(vm, worker, &op);
	while (more > 0);
	worker_put(vm, worker);
	if (more)
		return more;
	return op.done > INT32_MAX ? INT32_MAX : (int)op.done;
}
