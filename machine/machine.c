// SPDX-License-Identifier: BSD-2-Clause
/*
 * The machine as a whole: made, taken apart, and joined to the model of the TDX module. No rule of
 * the architecture is decided here.
 */
#include <errno.h>
#include <stdlib.h>

#include "machine/internal.h"

void machine_config_default(struct machine_config *config)
{
	*config = (struct machine_config){
		.nr_cpus = 1,
		.nr_regions = 1,
		.regions = {{.start = 4ull << 30, .size = 64ull << 30}},
		.maxphyaddr = 52,
		.page_1g = true,
		.five_level = true,
		.ept_exec_only = true,
		.ept_ad = true,
		.npt_nxe = true,
		.npt_smep = true,
	};
}

static bool region_valid(const struct machine_config *config, unsigned int n)
{
	const struct machine_region *r = &config->regions[n];

	if (!r->size || (r->start | r->size) & (CHUNK_BYTES - 1))
		return false;
	if (r->start + r->size < r->start || r->start + r->size > 1ull << config->maxphyaddr)
		return false;
	for (unsigned int i = 0; i < n; i++) {
		const struct machine_region *o = &config->regions[i];

		if (r->start < o->start + o->size && o->start < r->start + r->size)
			return false;
	}
	return true;
}

static bool config_valid(const struct machine_config *config)
{
	if (!config->nr_cpus || config->nr_cpus > MACHINE_MAX_CPUS)
		return false;
	if (!config->nr_regions || config->nr_regions > MACHINE_MAX_REGIONS)
		return false;
	if (config->maxphyaddr < 36 || config->maxphyaddr > PA_BITS)
		return false;
	for (unsigned int i = 0; i < config->nr_regions; i++)
		if (!region_valid(config, i))
			return false;
	return true;
}

static int cpus_init(struct machine *machine)
{
	unsigned int nr = machine->config.nr_cpus;

	machine->cpus = aligned_alloc(_Alignof(struct machine_cpu), nr * sizeof(*machine->cpus));
	if (!machine->cpus)
		return -ENOMEM;
	for (unsigned int i = 0; i < nr; i++)
		machine->cpus[i] = (struct machine_cpu){
			.machine = machine, .id = i, .pml = {.index = MACHINE_PML_ENTRIES - 1}};
	for (unsigned int i = 0; i < nr; i++) {
		pthread_mutex_init(&machine->cpus[i].lock, NULL);
		if (tlb_init(&machine->cpus[i].tlb, &machine->config, i))
			return -ENOMEM;
	}
	return 0;
}

int machine_create(const struct machine_config *config, struct machine **out)
{
	struct machine *machine;
	int ret;

	if (!config_valid(config))
		return -EINVAL;
	machine = aligned_alloc(_Alignof(struct machine), sizeof(*machine));
	if (!machine)
		return -ENOMEM;
	*machine = (struct machine){.config = *config, .clock = 1};
	pthread_mutex_init(&machine->judge.lock, NULL);
	ret = mem_init(machine);
	if (!ret)
		ret = cpus_init(machine);
	if (ret) {
		machine_destroy(machine);
		return ret;
	}
	*out = machine;
	return 0;
}

void machine_destroy(struct machine *machine)
{
	if (!machine)
		return;
	for (unsigned int i = 0; machine->cpus && i < machine->config.nr_cpus; i++) {
		tlb_exit(&machine->cpus[i].tlb);
		pthread_mutex_destroy(&machine->cpus[i].lock);
	}
	free(machine->cpus);
	mem_exit(machine);
	pthread_mutex_destroy(&machine->judge.lock);
	free(machine);
}

const struct machine_config *machine_get_config(const struct machine *machine)
{
	return &machine->config;
}

struct machine_cpu *machine_get_cpu(struct machine *machine, unsigned int id)
{
	return id < machine->config.nr_cpus ? &machine->cpus[id] : NULL;
}

unsigned int machine_cpu_id(const struct machine_cpu *cpu)
{
	return cpu->id;
}

void machine_cpu_counters(struct machine_cpu *cpu, struct machine_counters *counters)
{
	pthread_mutex_lock(&cpu->lock);
	*counters = cpu->counters;
	pthread_mutex_unlock(&cpu->lock);
}

size_t machine_cpu_cached(struct machine_cpu *cpu)
{
	size_t n;

	pthread_mutex_lock(&cpu->lock);
	n = cpu->tlb.nr_used;
	pthread_mutex_unlock(&cpu->lock);
	return n;
}

void machine_set_module(struct machine *machine, const struct tdx_port_module *ops, void *module)
{
	machine->module_ops = ops;
	machine->module = module;
}

/* INVEPT by TDR; 0 means every TD, but no VM that is not a TD. */
static void invalidate_td(struct tlb *tlb, struct cached *entry, void *arg)
{
	struct machine_cpu *cpu = arg;

	if (entry->id.kind != MACHINE_ROOT_TD)
		return;
	tlb_drop(tlb, entry);
	cpu->counters.flushed++;
}

static void processor_invalidate(void *processor, unsigned int lp, uint64_t tdr)
{
	struct machine_cpu *cpu = machine_get_cpu(processor, lp);

	if (!cpu)
		return;
	pthread_mutex_lock(&cpu->lock);
	cpu->counters.flushes[MACHINE_FLUSH_MODULE]++;
	tlb_each(&cpu->tlb, tdr ? tdr : MACHINE_TAG_ALL, 0, MACHINE_GPA_END, invalidate_td, cpu);
	pthread_mutex_unlock(&cpu->lock);
}

const struct tdx_port_processor machine_processor_ops = {.invalidate = processor_invalidate};
