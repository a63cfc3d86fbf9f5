// SPDX-License-Identifier: BSD-2-Clause
/*
 * Page-modification logging of one logical processor, SDM volume 3 section "Page-Modification
 * Logging". Never looks at an entry, and never decides when a log is read.
 */
#include "machine/internal.h"

#define PML_FIRST (MACHINE_PML_ENTRIES - 1)

static bool logs(const struct machine_cpu *cpu, const struct space *space)
{
	return cpu->pml.on && space->format == &ept_format && space->ad;
}

bool pml_is_full(const struct machine_cpu *cpu, const struct space *space)
{
	return logs(cpu, space) && cpu->pml.index > PML_FIRST;
}

void pml_log(struct machine_cpu *cpu, const struct space *space, uint64_t gpa)
{
	if (!logs(cpu, space))
		return;
	cpu->pml.gpa[cpu->pml.index--] = level_base(gpa, 1);
	cpu->counters.pml_logged++;
}

void machine_cpu_set_pml(struct machine_cpu *cpu, bool on)
{
	pthread_mutex_lock(&cpu->lock);
	cpu->pml.on = on;
	pthread_mutex_unlock(&cpu->lock);
}

uint16_t machine_cpu_pml_index(struct machine_cpu *cpu)
{
	uint16_t index;

	pthread_mutex_lock(&cpu->lock);
	index = cpu->pml.index;
	pthread_mutex_unlock(&cpu->lock);
	return index;
}

unsigned int machine_cpu_drain_pml(struct machine_cpu *cpu, uint64_t gpas[MACHINE_PML_ENTRIES])
{
	unsigned int n;

	pthread_mutex_lock(&cpu->lock);
	/* In 16 bits: 511 is none, 0xffff is all of them. */
	n = (uint16_t)(PML_FIRST - cpu->pml.index);
	for (unsigned int i = 0; i < n; i++)
		gpas[i] = cpu->pml.gpa[PML_FIRST - i];
	cpu->pml.index = PML_FIRST;
	pthread_mutex_unlock(&cpu->lock);
	return n;
}
