// SPDX-License-Identifier: BSD-2-Clause
/* The smallest VMM: one memslot, one vCPU, one fault. Never a place for anything more. */
#include <stdio.h>
#include <triptych/posix.h>
#include <triptych/triptych.h>

/* Guest memory is one block of host memory at 4 GiB, in huge pages. */
static int lookup(void *ctx, const struct tpt_backing_query *q, struct tpt_backing_page *page)
{
	(void)ctx;
	*page = (struct tpt_backing_page){{0x100000 + q->gfn}, true, false, TPT_LEVEL_2M};
	return 0;
}

int main(void)
{
	const struct tpt_backing_ops backing = {.size = sizeof(backing), .lookup = lookup};
	const struct tpt_memory_region ram = {.size = 64 << 20, .hva = {0x7f0000000000}};
	struct tpt_fault fault = {.gpa = {0x201000}, .error_code = TPT_PFERR_WRITE};
	struct tpt_posix *posix = tpt_posix_create(NULL);
	struct tpt_vm_config config;
	struct tpt_vcpu *vcpu;
	struct tpt_roots roots;
	struct tpt_vm *vm;

	tpt_vm_config_init(&config, TPT_FORMAT_EPT);
	config.platform = tpt_posix_platform(posix);
	config.platform_ctx = posix;
	config.backing = &backing;
	if (tpt_vm_create(&config, &vm) || tpt_vm_set_memory_region(vm, &ram) ||
	    tpt_vcpu_create(vm, 0, &vcpu) || tpt_vcpu_load_roots(vcpu, &roots))
		return 1;
	if (tpt_vcpu_fault(vcpu, &fault) == TPT_RET_PF_FIXED) /* what an EPT violation asks */
		printf("gpa %#lx: entry %#lx\n", fault.gpa.a, fault.spte.w);
	tpt_vm_destroy(vm);
	return tpt_posix_destroy(posix) != 0;
}
