// SPDX-License-Identifier: BSD-2-Clause
/* The library without an operating system: what a hypervisor gives it, and its loop around a guest.
 * A process here, so that it can be run; no line would be another on bare metal but printf(). */
#include <stdio.h>
#include <triptych/bare.h>
#include <triptych/triptych.h>

/* All that the library will ever have: a hypervisor says where this is in physical memory. */
static _Alignas(4096) char memory[16 << 20];

/* Guest memory is the machine's own, at the same address. */
static int lookup(void *ctx, const struct tpt_backing_query *q, struct tpt_backing_page *page)
{
	(void)ctx;
	*page = (struct tpt_backing_page){{q->hva.a >> 12}, true, false, TPT_LEVEL_1G};
	return 0;
}

/* An NMI to the processor that runs this vCPU. */
static void ipi(void *ctx, uint32_t vcpu)
{
	(void)ctx;
	(void)vcpu;
}

/* VMRUN stands here. This guest touches one page, and then it is over. */
static int run_guest(tpt_hpa root, bool flush, int turn)
{
	(void)root;
	(void)flush;
	return turn;
}

int main(void)
{
	const struct tpt_bare_config platform = {.size = sizeof(platform),
						 .memory = memory,
						 .bytes = sizeof(memory),
						 .hpa = {0x40000000},
						 .nr_vcpus = 1,
						 .hooks = {.ipi = ipi}};
	const struct tpt_backing_ops backing = {.size = sizeof(backing), .lookup = lookup};
	const struct tpt_memory_region ram = {.size = 1 << 30};
	struct tpt_vm_config config;
	struct tpt_vcpu *vcpu;
	struct tpt_roots roots;
	struct tpt_bare *bare;
	struct tpt_vm *vm;
	bool flush = true;
	uint32_t told;

	tpt_vm_config_init(&config, TPT_FORMAT_NPT);
	if (tpt_bare_create(&platform, &bare))
		return 1;
	config.platform = tpt_bare_platform(bare);
	config.platform_ctx = bare;
	config.backing = &backing;
	if (tpt_vm_create(&config, &vm) || tpt_vm_set_memory_region(vm, &ram) ||
	    tpt_vcpu_create(vm, 0, &vcpu))
		return 1;
	for (int turn = 0, over = 0; !over;) {
		struct tpt_fault fault = {.gpa = {0x201000}, .error_code = TPT_PFERR_WRITE};

		if (tpt_vcpu_load_roots(vcpu, &roots))
			return 1;
		told = tpt_bare_guest_enter(bare, 0);
		if (told & TPT_BARE_FLUSH) {
			/* Owed from now on; and the roots may be others. */
			flush = true;
			tpt_bare_guest_leave(bare, 0);
		}
		if (told)
			continue;
		over = run_guest(roots.direct, flush, turn++);
		flush = false;
		tpt_bare_guest_leave(bare, 0);
		if (!over && tpt_vcpu_fault(vcpu, &fault) == TPT_RET_PF_FIXED)
			printf("gpa %#lx: entry %#lx\n", fault.gpa.a, fault.spte.w);
		tpt_bare_run_deferred(bare);
	}
	tpt_vm_destroy(vm);
	return tpt_bare_destroy(bare) != 0;
}
