// SPDX-License-Identifier: BSD-2-Clause
/*
 * CPUs: how the others are woken, and how they get work. What they do is the tests'.
 */
#include "tests/boot/guest/guest.h"

extern const char trampoline[];
extern const uint32_t trampoline_bytes;
extern volatile uint32_t cpus_started; /* boot.S: each takes a number */
extern void guest_main(void);
void cpu_main(unsigned int id);

struct cpu cpus[MAX_CPUS];
static volatile uint32_t ready; /* have checked in */

/* How long one waits for a CPU of which nobody said that it exists; TSC cycles. */
#define A_MOMENT 300000000ull

static void set_up_cpu(unsigned int id)
{
	struct cpu *cpu = &cpus[id];

	cpu->self = cpu;
	cpu->id = id;
	wrmsr(MSR_GS_BASE, (uint64_t)cpu);
	tables_load_home();
}

static _Noreturn void work_for_ever(struct cpu *cpu)
{
	for (;;) {
		work_fn *work = __atomic_load_n(&cpu->work, __ATOMIC_ACQUIRE);

		if (work) {
			work(cpu->arg);
			__atomic_store_n(&cpu->work, NULL, __ATOMIC_RELEASE);
		}
		cpu_pause();
	}
}

/* From boot.S, on each CPU. */
void cpu_main(unsigned int id)
{
	set_up_cpu(id);
	if (id == 0)
		guest_main();
	apic_init();
	__atomic_fetch_add(&ready, 1, __ATOMIC_RELEASE);
	interrupts_on();
	work_for_ever(&cpus[id]);
}

unsigned int smp_count(void)
{
	return 1 + __atomic_load_n(&ready, __ATOMIC_ACQUIRE);
}

void smp_start(void)
{
	uint64_t since;

	memcpy((void *)TRAMPOLINE, trampoline, trampoline_bytes);
	apic_wake_others(TRAMPOLINE / PAGE);
	if (machine.vcpus > 1)
		WAIT_UNTIL(smp_count() >= machine.vcpus);
	/* CPUID's hint is of one socket. Who has begun is waited for. */
	for (since = rdtsc(); !machine.hv && rdtsc() - since < A_MOMENT;)
		cpu_pause();
	WAIT_UNTIL(smp_count() >= cpus_started || smp_count() == MAX_CPUS);
}

void smp_begin(unsigned int id, work_fn *work, void *arg)
{
	cpus[id].arg = arg;
	__atomic_store_n(&cpus[id].work, work, __ATOMIC_RELEASE);
}

bool smp_working(unsigned int id)
{
	return __atomic_load_n(&cpus[id].work, __ATOMIC_ACQUIRE) != NULL;
}

void smp_end(unsigned int id)
{
	if (!WAIT_UNTIL(!smp_working(id)))
		panic("CPU %u doesn't come back", id);
}
