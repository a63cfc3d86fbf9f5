// SPDX-License-Identifier: BSD-2-Clause
/*
 * The local APIC: interrupts between CPUs, the timer. In a TD it's reached as all devices are,
 * through shared memory, and written by asking the hypervisor. AMD64 APM vol. 2, 16.
 */
#include "tests/boot/guest/guest.h"

#define APIC_BASE 0xfee00000ull

/* The masks of the two 8259s, whose interrupts the firmware has left where exceptions are. */
#define PIC_MASK_1 0x21
#define PIC_MASK_2 0xa1

#define REG_ID	       0x20
#define REG_EOI	       0xb0
#define REG_SPURIOUS   0xf0
#define REG_ICR_LOW    0x300
#define REG_ICR_HIGH   0x310
#define REG_LVT_TIMER  0x320
#define REG_TIMER_INIT 0x380
#define REG_DIVIDE     0x3e0

#define ICR_INIT     0x500u
#define ICR_STARTUP  0x600u
#define ICR_PENDING  0x1000u
#define ICR_ASSERT   0x4000u
#define ICR_SELF     0x40000u
#define ICR_OTHERS   0xc0000u
#define LVT_MASKED   0x10000u
#define LVT_PERIODIC 0x20000u
#define DIVIDE_BY_1  0xbu

uint64_t apic_address(void)
{
	return is_td() ? shared_address(APIC_BASE) : APIC_BASE;
}

uint32_t apic_read(unsigned int reg)
{
	return *(volatile uint32_t *)(apic_address() + reg);
}

void apic_write(unsigned int reg, uint32_t value)
{
	if (is_td()) {
		hv_call(HV_CALL_APIC, reg, value, 0);
		return;
	}
	/* The plainest of stores: a hypervisor that intercepts it has to read the instruction. */
	__asm__ volatile("movl %0, (%1)" : : "a"(value), "d"(apic_address() + reg) : "memory");
}

void apic_eoi(void)
{
	apic_write(REG_EOI, 0);
}

void apic_init(void)
{
	out8(PIC_MASK_1, 0xff);
	out8(PIC_MASK_2, 0xff);
	apic_write(REG_SPURIOUS, 0x1ff); /* on; spurious interrupts are vector 255 */
	apic_write(REG_DIVIDE, DIVIDE_BY_1);
	apic_timer_stop();
	this_cpu()->apic_id = apic_read(REG_ID) >> 24;
}

static void write_icr(uint32_t value)
{
	WAIT_UNTIL(!(apic_read(REG_ICR_LOW) & ICR_PENDING));
	apic_write(REG_ICR_LOW, value);
}

/* AMD64 APM vol. 2, 16.5: the vector of a startup IPI is the page to start at. */
void apic_wake_others(unsigned int page)
{
	uint64_t since;

	write_icr(ICR_OTHERS | ICR_ASSERT | ICR_INIT);
	for (since = rdtsc(); rdtsc() - since < 20000000;)
		cpu_pause();
	write_icr(ICR_OTHERS | ICR_ASSERT | ICR_STARTUP | page);
}

void apic_send(unsigned int id, unsigned int vector)
{
	apic_write(REG_ICR_HIGH, cpus[id].apic_id << 24);
	write_icr(ICR_ASSERT | vector);
}

void apic_send_self(unsigned int vector)
{
	write_icr(ICR_SELF | ICR_ASSERT | vector);
}

void apic_timer_once(uint32_t count)
{
	apic_write(REG_LVT_TIMER, VECTOR_TIMER);
	apic_write(REG_TIMER_INIT, count);
}

void apic_timer_periodic(uint32_t count)
{
	apic_write(REG_LVT_TIMER, LVT_PERIODIC | VECTOR_TIMER);
	apic_write(REG_TIMER_INIT, count);
}

void apic_timer_stop(void)
{
	apic_write(REG_LVT_TIMER, LVT_MASKED | VECTOR_TIMER);
	apic_write(REG_TIMER_INIT, 0);
}
