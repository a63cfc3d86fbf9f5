// SPDX-License-Identifier: BSD-2-Clause
/* From the loader to the guest's first instruction. */
#include "hypervisor/hv.h"

#define CPUID_SVM_NPT (1u << 0)

void hypervisor_main(uint64_t multiboot_info);

static _Atomic uint32_t ready;

static void need_svm(void)
{
	if (!(cpuid(0x80000001, 0).c & CPUID_EXT_SVM))
		panic("this processor has no SVM");
	if (!(cpuid(0x8000000a, 0).d & CPUID_SVM_NPT))
		panic("this processor has no nested paging");
	if (rdmsr(MSR_VM_CR) & VM_CR_SVMDIS)
		panic("SVM is switched off by the firmware");
}

static void cpu_main(void)
{
	while (!atomic_load(&ready))
		cpu_pause();
	if (this_cpu()->vcpu)
		vcpu_loop(this_cpu()->vcpu);
	housekeeper_loop();
}

void hypervisor_main(uint64_t multiboot_info)
{
	console_init();
	need_svm();
	memory_init(multiboot_info);
	interrupts_init();
	interrupts_load();
	tsc_calibrate();
	acpi_read();
	smp_start(cpu_main);
	vcpus_init();
	housekeeper_init();
	vm_create();
	guest_load(&vcpus[0]);
	vm_start(&vcpus[0]);
	say("hypervisor: %u processors for the guest, 1 for the house; %lx to %lx is its own",
	    nr_vcpus, own.start, own.end);
	atomic_store(&ready, 1);
	cpu_main();
}
