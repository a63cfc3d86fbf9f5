// SPDX-License-Identifier: BSD-2-Clause
/* Aging as its callers know it, by workers in shared sections. Never takes the exclusive one. */
#include <triptych/aging.h>

#include "mmu/vm/vm.h"

static int check_range(struct tpt_vm *vm, tpt_hva start, tpt_hva end)
{
	if (start.a < end.a && !((start.a | end.a) & (TPT_PAGE_SIZE - 1)))
		return 0;
	vm_log(&vm->base, TPT_LOG_WARNING,
	       "aging of [%#lx, %#lx): must be whole pages, and not empty", start.a, end.a);
	return -ERR_INVAL;
}

/* One chunk; what the VM's end has to say is looked at in the section. */
static int age_chunk(struct tpt_vm *vm, struct actor *worker, struct range_age *op)
{
	int more = -ERR_IO;

	worker_enter(worker);
	if (!vm->env.ended && !vm_is_dead(&vm->base))
		more = range_age_chunk(&vm->env, worker, op);
	worker_leave(worker);
	return more;
}

static int age(struct tpt_vm *vm, struct range_age *op)
{
	struct actor *worker;
	int more = check_range(vm, op->start, op->end);

	if (more)
		return more;
	vm_event(&vm->base,
		 &(struct tpt_event){.kind = op->clear ? TPT_EVENT_AGE_HVA : TPT_EVENT_TEST_AGE_HVA,
				     .vcpu = -1,
				     .start = op->start,
				     .end = op->end});
	for (size_t i = 0; op->young && i < tpt_age_words(op->start, op->end); i++)
		op->young[i] = 0;
	worker = worker_get(vm);
	do
		more = age_chunk(vm, worker, op);
	while (more > 0);
	worker_put(vm, worker);
	return more ? more : op->found;
}

int tpt_vm_age(struct tpt_vm *vm, tpt_hva start, tpt_hva end, uint64_t *young)
{
	return age(vm,
		   &(struct range_age){.clear = true, .start = start, .end = end, .young = young});
}

int tpt_vm_test_age(struct tpt_vm *vm, tpt_hva start, tpt_hva end, uint64_t *young)
{
	return age(vm, &(struct range_age){.start = start, .end = end, .young = young});
}
