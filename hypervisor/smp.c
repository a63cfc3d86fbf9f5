// SPDX-License-Identifier: BSD-2-Clause
/* Starts the machine's other processors: INIT, then a start-up IPI (APM vol. 2, "Multiple Processor
 * Initialization"). Each gets a struct cpu and a stack. */
#include "hypervisor/hv.h"

#define TRAMPOLINE  0x7000 /* boot.S */
#define STACK_BYTES 16384
#define WAIT_MS	    1000

extern char trampoline[], trampoline_end[], trampoline_root[], trampoline_stack[],
	trampoline_entry[];

struct cpu cpus[TPT_BARE_VCPUS];
unsigned int nr_cpus;
static void (*cpu_entry)(void);
static _Atomic uint32_t arrived;
static struct cpu *next_cpu;

static void cpu_setup(struct cpu *cpu)
{
	interrupts_load();
	cpu->self = cpu;
	wrmsr(MSR_GS_BASE, (uint64_t)cpu);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
}

static void cpu_arrives(void)
{
	cpu_setup(next_cpu);
	atomic_store(&arrived, 1);
	cpu_entry();
}

static void fill_in(const char *word, uint64_t value)
{
	*(uint64_t *)((char *)phys(TRAMPOLINE) + ((uint64_t)word - (uint64_t)trampoline)) = value;
}

static void start_one(struct cpu *cpu)
{
	uint64_t start = now_ms();

	next_cpu = cpu;
	atomic_store(&arrived, 0);
	fill_in(trampoline_stack, (uint64_t)phys(page_take(STACK_BYTES)) + STACK_BYTES);
	apic_send(cpu->apic_id, ICR_INIT << 8 | ICR_ASSERT);
	wait_us(10000);
	for (int tries = 0; tries < 2 && !atomic_load(&arrived); tries++) {
		apic_send(cpu->apic_id, ICR_STARTUP << 8 | ICR_ASSERT | TRAMPOLINE >> 12);
		wait_us(300);
	}
	while (!atomic_load(&arrived)) {
		cpu_pause();
		if (now_ms() - start > WAIT_MS)
			panic("smp: processor with APIC id %u does not come", cpu->apic_id);
	}
}

void smp_start(void (*entry)(void))
{
	uint8_t self = (uint8_t)(apic_read(APIC_ID) >> 24);
	uint64_t low_bytes = (uint64_t)trampoline_end - (uint64_t)trampoline;

	cpu_setup(&cpus[0]);
	cpus[0].apic_id = self;
	nr_cpus = 1;
	cpu_entry = entry;
	memcpy(phys(TRAMPOLINE), trampoline, low_bytes);
	fill_in(trampoline_root, own_root);
	fill_in(trampoline_entry, (uint64_t)cpu_arrives);
	memory_map_low(true);
	for (unsigned int i = 0; i < nr_apic_ids; i++) {
		if (apic_ids[i] == self)
			continue;
		cpus[nr_cpus] = (struct cpu){.index = nr_cpus, .apic_id = apic_ids[i]};
		start_one(&cpus[nr_cpus]);
		nr_cpus++;
	}
	memory_map_low(false);
	memset(phys(TRAMPOLINE), 0, low_bytes);
}
