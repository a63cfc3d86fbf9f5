// SPDX-License-Identifier: BSD-2-Clause
/*
 * A walk without any side effect, for tests, audits and reports. Never touches a TLB, a flag or a
 * counter.
 */
#include <errno.h>

#include "machine/internal.h"

int root_space(const struct machine *machine, const struct machine_root *root, struct space *space)
{
	int ret = -EINVAL;

	if (root->tag == MACHINE_TAG_ALL)
		return -EINVAL;
	if (root->kind == MACHINE_ROOT_EPT)
		ret = ept_space(machine, root, space);
	else if (root->kind == MACHINE_ROOT_NPT)
		ret = npt_space(machine, root, space);
	if (!ret && !machine_mem_in_use(machine, space->root))
		return -EINVAL;
	return ret;
}

static void look(const struct machine *machine, const struct space *space, uint64_t table,
		 uint64_t gpa, struct machine_step *step, struct machine_walk *walk)
{
	uint64_t *entry;
	struct decoded d;

	step->entry_hpa = table + (gpa >> level_shift(step->level) & 511) * 8;
	step->kind = MACHINE_ENTRY_LOST;
	entry = machine_mem_ptr(machine, step->entry_hpa);
	if (!entry)
		return;
	step->entry = __atomic_load_n(entry, __ATOMIC_ACQUIRE);
	space->format->decode(&machine->config, step->entry, step->level, &d);
	step->kind = d.kind;
	step->target = d.kind == MACHINE_ENTRY_TABLE || d.kind == MACHINE_ENTRY_LEAF ? d.target : 0;
	walk->rights &= d.rights;
}

int machine_walk(const struct machine *machine, const struct machine_root *root, uint64_t gpa,
		 struct machine_walk *walk)
{
	struct machine_step *step = walk->steps;
	struct space space;
	uint64_t table;
	int ret = root_space(machine, root, &space);

	if (ret)
		return ret;
	*walk = (struct machine_walk){.rights = RIGHT_ALL};
	if (gpa >> machine->config.maxphyaddr || gpa >> (level_shift(space.levels) + 9))
		return 0;
	table = space.root;
	for (unsigned int level = space.levels; level; level--) {
		step = &walk->steps[walk->nr_steps++];
		step->level = level;
		look(machine, &space, table, gpa, step, walk);
		if (step->kind != MACHINE_ENTRY_TABLE)
			break;
		table = step->target;
	}
	if (step->kind == MACHINE_ENTRY_LEAF)
		walk->hpa = step->target | (gpa & ((1ull << level_shift(step->level)) - 1));
	return 0;
}
