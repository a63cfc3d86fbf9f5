// SPDX-License-Identifier: BSD-2-Clause
/*
 * The guest's writes to its local APIC. It is the real one, and all goes through, but for what
 * would reset a processor under the hypervisor, or reach the processor that keeps house.
 */
#include "hypervisor/hv.h"

#define ICR_LOGICAL (1u << 11)
#define ICR_LEVEL   (1u << 15)
#define DFR_FLAT    0xf
#define TO_ALL_IDS  0xff
#define TO_SELF	    1
#define TO_ALL	    2

/* APM vol. 2, "Logical Destination Mode": a bit for each, or clusters of four. */
static bool is_meant_logically(const struct vcpu *to, uint32_t id)
{
	uint32_t own_bits = atomic_load(&to->apic_ldr) >> 24;

	if (apic_read(APIC_DFR) >> 28 == DFR_FLAT)
		return id & own_bits;
	return (id >> 4 == own_bits >> 4 || id >> 4 == 0xf) && id & own_bits & 0xf;
}

/* Is @to meant by what the guest wrote? */
static bool is_meant(const struct vcpu *from, const struct vcpu *to, uint32_t command)
{
	uint32_t id = apic_read(APIC_ICR2) >> 24;

	if (ICR_TO(command) == TO_SELF)
		return to == from;
	if (ICR_TO(command))
		return to != from || ICR_TO(command) == TO_ALL;
	if (command & ICR_LOGICAL)
		return is_meant_logically(to, id);
	return id == TO_ALL_IDS || id == to->cpu->apic_id;
}

static void tell(struct vcpu *to, uint32_t command)
{
	switch (ICR_MODE(command)) {
	case ICR_INIT:
		/* The other half of an old way to send it: nothing happens. */
		if (!(command & ICR_ASSERT) && (command & ICR_LEVEL))
			return;
		vcpu_ask(to, ASK_INIT);
		break;
	case ICR_STARTUP:
		to->startup_vector = (uint8_t)command;
		vcpu_ask(to, ASK_STARTUP);
		break;
	case ICR_NMI:
		vcpu_ask(to, ASK_NMI);
		break;
	default:
		apic_send(to->cpu->apic_id, command & ~(ICR_TO_MASK | ICR_LOGICAL));
	}
}

static void send(struct vcpu *v, uint32_t command)
{
	uint32_t mode = ICR_MODE(command);
	bool watched = mode == ICR_INIT || mode == ICR_STARTUP || mode == ICR_NMI;

	if (!watched && ICR_TO(command) <= TO_SELF) {
		apic_write(APIC_ICR, command);
		return;
	}
	for (unsigned int i = 0; i < nr_vcpus; i++)
		if (is_meant(v, &vcpus[i], command))
			tell(&vcpus[i], command);
}

void lapic_write(struct vcpu *v, uint32_t reg, uint32_t value)
{
	/* Kicks go to the id that it has. */
	if (reg == APIC_ID)
		return;
	if (reg == APIC_LDR)
		atomic_store(&v->apic_ldr, value);
	if (reg == APIC_ICR)
		send(v, value);
	else
		apic_write(reg, value);
}
