// SPDX-License-Identifier: BSD-2-Clause
/* What the multiboot loader brought: read once, and kept. */
#include "hypervisor/hv.h"
#include "hypervisor/multiboot.h"

#define WORDS_MAX 2048

struct module modules[2];
unsigned int nr_modules;
static char command_line[WORDS_MAX];

static void copy_words(uint32_t from)
{
	const char *s = phys(from);
	size_t n = strlen(s);

	if (n >= WORDS_MAX)
		panic("multiboot: a command line of %lu bytes, %u are the most", n, WORDS_MAX - 1);
	memcpy(command_line, s, n + 1);
}

static void read_ranges(const struct multiboot_info *info)
{
	const char *at = phys(info->ranges), *end = at + info->range_bytes;

	while (at < end && nr_machine_ranges < MAX_RANGES) {
		const struct multiboot_range *r = (const void *)at;

		machine_ranges[nr_machine_ranges++] =
			(struct range){r->start, r->start + r->bytes, r->type};
		at += sizeof(r->size) + r->size;
	}
}

static void read_modules(const struct multiboot_info *info)
{
	const struct multiboot_module *m = phys(info->modules);

	for (unsigned int i = 0; i < info->nr_modules && i < 2; i++) {
		modules[i] = (struct module){m[i].start, m[i].end};
		nr_modules++;
	}
}

void multiboot_read(uint64_t at)
{
	const struct multiboot_info *info = phys(at);
	char *words = command_line;

	if (!(info->flags & MULTIBOOT_RANGES))
		panic("multiboot: the loader has no memory map");
	read_ranges(info);
	if (info->flags & MULTIBOOT_MODULES)
		read_modules(info);
	if (info->flags & MULTIBOOT_COMMAND_LINE)
		copy_words(info->command_line);
	/* The first word is the image's own name. */
	while (*words && *words != ' ')
		words++;
	options_parse(words);
	if (!nr_modules)
		panic("multiboot: no module, so there is no guest");
}
