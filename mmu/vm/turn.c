// SPDX-License-Identifier: BSD-2-Clause
/* Structural operations take turns: in and out of the exclusive section, one at a time. Changes no
 * slot and no tree. */
#include "mmu/vm/vm.h"

void update_enter(struct tpt_vm *vm)
{
	for (;;) {
		section_exclusive_begin(&vm->base);
		if (!vm->updating)
			break;
		section_exclusive_end(&vm->base);
		vm->base.platform->relax(vm->base.platform_ctx);
	}
	vm->updating = true;
}

void update_end(struct tpt_vm *vm)
{
	vm->updating = false;
	section_exclusive_end(&vm->base);
}

void update_give_way(struct tpt_vm *vm)
{
	section_exclusive_end(&vm->base);
}

void update_take_back(struct tpt_vm *vm)
{
	section_exclusive_begin(&vm->base);
}

int update_begin(struct tpt_vm *vm)
{
	update_enter(vm);
	if (!vm->env.ended && !vm_is_dead(&vm->base))
		return 0;
	update_end(vm);
	return -ERR_IO;
}
