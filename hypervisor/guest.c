// SPDX-License-Identifier: BSD-2-Clause
/* What memory the guest is told of, what of it the hypervisor may touch, and which loader fits. */
#include "hypervisor/hv.h"

#define LINUX_HEADER 0x202 /* Linux/x86 boot protocol: "HdrS" */
#define WROTE_MAX    32

struct guest_map guest_map;
static struct range wrote[WROTE_MAX];
static unsigned int nr_wrote;

static void map_add(uint64_t start, uint64_t end, uint32_t type)
{
	if (start < end && guest_map.nr < MAX_RANGES)
		guest_map.ranges[guest_map.nr++] = (struct range){start, end, type};
}

/* The firmware's map, with the hypervisor's part of it reserved. Copies are kept, and private
 * memory is, of what lies below only. */
static void make_map(void)
{
	for (unsigned int i = 0; i < nr_machine_ranges; i++) {
		const struct range *r = &machine_ranges[i];
		bool above = r->start >= 4 * GIB && r->type == 1;

		if (r->end == own.end && r->type == 1) {
			map_add(r->start, own.start, 1);
			map_add(own.start, own.end, 2);
		} else {
			map_add(r->start, r->end, above && spare.end ? 2 : r->type);
		}
	}
}

void *guest_memory(uint64_t gpa, uint64_t bytes)
{
	if (options.td)
		return NULL;
	for (unsigned int i = 0; i < guest_map.nr; i++) {
		const struct range *r = &guest_map.ranges[i];

		if (r->type == 1 && gpa >= r->start && gpa < r->end && bytes <= r->end - gpa)
			return phys(gpa);
	}
	return NULL;
}

void guest_wrote(uint64_t gpa, uint64_t bytes)
{
	if (nr_wrote == WROTE_MAX)
		panic("guest: the image has more than %u parts", WROTE_MAX);
	wrote[nr_wrote++] = (struct range){gpa & ~4095ull, (gpa + bytes + 4095) & ~4095ull, 1};
}

bool guest_next_part(struct range *part)
{
	if (!nr_wrote)
		return false;
	*part = wrote[--nr_wrote];
	return true;
}

void guest_load(struct vcpu *boot)
{
	const char *image = phys(modules[0].start);
	uint64_t bytes = modules[0].end - modules[0].start;
	bool is_linux = bytes > 4096 && !memcmp(image + LINUX_HEADER, "HdrS", 4);

	make_map();
	if (is_linux && options.td)
		panic("guest: Linux does not know this kind of confidential VM: mode td needs a guest "
		      "that does");
	if (is_linux)
		linux_load(boot, &modules[0], nr_modules > 1 ? &modules[1] : NULL);
	else
		elf_load(boot, &modules[0], nr_modules > 1 ? &modules[1] : NULL);
}
