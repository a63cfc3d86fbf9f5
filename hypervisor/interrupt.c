// SPDX-License-Identifier: BSD-2-Clause
/* The hypervisor's own exceptions and interrupts, and its clock. Never the guest's. */
#include "hypervisor/hv.h"

#define PIT_HZ 1193182u

struct gate {
	uint16_t low, selector;
	uint8_t stack, attributes;
	uint16_t middle;
	uint32_t high, reserved;
};

extern char vectors[];
void gdt_load(void);
void interrupt(struct interrupt_frame *frame);

static struct gate gates[256];
uint64_t tsc_per_ms = 1000000;

void interrupts_init(void)
{
	for (unsigned int i = 0; i < 256; i++) {
		uint64_t at = (uint64_t)vectors + 16 * i;

		gates[i] = (struct gate){(uint16_t)at,	       8, 0, 0x8e, (uint16_t)(at >> 16),
					 (uint32_t)(at >> 32), 0};
	}
}

void interrupts_load(void)
{
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) idt = {sizeof(gates) - 1, (uint64_t)gates};

	gdt_load();
	__asm__ volatile("lidt %0" : : "m"(idt));
}

/* An NMI is a kick that came when its processor was outside already: it has done its work. */
void interrupt(struct interrupt_frame *f)
{
	if (f->vector == VECTOR_NMI) {
		this_cpu()->nmis++;
		return;
	}
	if (f->vector < 32)
		panic("exception %lu, error %lx, at %lx, address %lx, processor %u", f->vector,
		      f->error, f->rip, read_cr2(), rdmsr(MSR_GS_BASE) ? this_cpu()->index : 0);
	apic_write(APIC_EOI, 0);
}

/* Channel 2 of the PIT counts 10 ms down once, with the speaker off. */
void tsc_calibrate(void)
{
	const uint32_t ms = 10, count = PIT_HZ * ms / 1000;
	uint64_t start;

	outb(0x61, (inb(0x61) & ~2u) | 1u);
	outb(0x43, 0xb0);
	outb(0x42, (uint8_t)count);
	outb(0x42, (uint8_t)(count >> 8));
	start = rdtsc();
	while (!(inb(0x61) & 0x20))
		cpu_pause();
	tsc_per_ms = (rdtsc() - start) / ms;
}

void wait_us(uint64_t us)
{
	uint64_t start = rdtsc();

	while (rdtsc() - start < us * tsc_per_ms / 1000)
		cpu_pause();
}
