// SPDX-License-Identifier: BSD-2-Clause
/* The machine's local APICs, as the hypervisor uses them: IPIs, and its own timer. */
#include "hypervisor/hv.h"

#define ICR_PENDING    (1u << 12)
#define TIMER_PERIODIC (1u << 17)
#define TIMER_MASKED   (1u << 16)
#define DIVIDE_BY_16   3
#define SVR_ENABLE     (1u << 8)

static volatile uint32_t *reg_at(uint32_t reg)
{
	return (volatile uint32_t *)((char *)phys(APIC_BASE) + reg);
}

uint32_t apic_read(uint32_t reg)
{
	return *reg_at(reg);
}

void apic_write(uint32_t reg, uint32_t value)
{
	*reg_at(reg) = value;
}

void apic_send(uint8_t apic_id, uint32_t command)
{
	uint32_t icr2 = apic_read(APIC_ICR2);

	while (apic_read(APIC_ICR) & ICR_PENDING)
		cpu_pause();
	apic_write(APIC_ICR2, (uint32_t)apic_id << 24);
	apic_write(APIC_ICR, command);
	while (apic_read(APIC_ICR) & ICR_PENDING)
		cpu_pause();
	apic_write(APIC_ICR2, icr2);
}

void apic_tick(uint32_t ms)
{
	uint32_t ticks;

	apic_write(APIC_SVR, SVR_ENABLE | 0xff);
	apic_write(APIC_DIVIDE, DIVIDE_BY_16);
	apic_write(APIC_TIMER, TIMER_MASKED | VECTOR_TICK);
	apic_write(APIC_COUNT, ~0u);
	wait_us(4000);
	ticks = (~0u - apic_read(APIC_LEFT)) / 4;
	apic_write(APIC_TIMER, TIMER_PERIODIC | VECTOR_TICK);
	apic_write(APIC_COUNT, ticks * ms);
}
