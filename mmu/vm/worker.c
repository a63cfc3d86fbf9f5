// SPDX-License-Identifier: BSD-2-Clause
/* Actors for threads that are no vCPU and walk in shared sections. Never says what they do there.
 */
#include "mmu/vm/vm.h"

void workers_init(struct tpt_vm *vm)
{
	for (unsigned int i = 0; i < VM_WORKERS; i++) {
		actor_init(&vm->base, &vm->worker[i], -1);
		actor_add(&vm->worker[i]);
	}
}

struct actor *worker_get(struct tpt_vm *vm)
{
	for (;;) {
		for (unsigned int i = 0; i < VM_WORKERS; i++) {
			uint32_t no = 0;

			if (atomic_compare_exchange_strong(&vm->worker_busy[i], &no, 1))
				return &vm->worker[i];
		}
		vm->base.platform->relax(vm->base.platform_ctx);
	}
}

void worker_put(struct tpt_vm *vm, struct actor *worker)
{
	atomic_store_explicit(&vm->worker_busy[worker - vm->worker], 0, memory_order_release);
}

void worker_enter(struct actor *worker)
{
	struct vm_base *base = worker->base;

	while (!section_enter(worker))
		base->platform->relax(base->platform_ctx);
	hold_begin(worker);
}

void worker_leave(struct actor *worker)
{
	hold_end(worker);
	section_leave(worker);
}
