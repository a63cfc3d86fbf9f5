// SPDX-License-Identifier: BSD-2-Clause
/* What a multiboot loader brought (Multiboot Specification 0.6.96, "Boot information format"): read
 * once, and kept. */
#include "hypervisor/hv.h"

#define INFO_COMMAND_LINE (1u << 2)
#define INFO_MODULES	  (1u << 3)
#define INFO_MEMORY_MAP	  (1u << 6)
#define WORDS_MAX	  2048

struct info {
	uint32_t flags, mem_lower, mem_upper, boot_device, command_line, nr_modules, modules;
	uint32_t symbols[4], map_bytes, map;
};

struct info_module {
	uint32_t start, end, words, reserved;
};

struct info_range {
	uint32_t size; /* of what follows */
	uint64_t start, bytes;
	uint32_t type;
} __attribute__((packed));

struct module modules[2];
unsigned int nr_modules;
static char command_line[WORDS_MAX], module_words[2][WORDS_MAX / 4];

static void copy_words(char *to, size_t room, uint32_t from)
{
	const char *s = phys(from);
	size_t n = strlen(s);

	if (n >= room)
		panic("multiboot: a command line of %lu bytes, %lu are the most", n, room - 1);
	memcpy(to, s, n + 1);
}

static void read_ranges(const struct info *info)
{
	const char *at = phys(info->map), *end = at + info->map_bytes;

	while (at < end && nr_machine_ranges < MAX_RANGES) {
		const struct info_range *r = (const void *)at;

		machine_ranges[nr_machine_ranges++] =
			(struct range){r->start, r->start + r->bytes, r->type};
		at += sizeof(r->size) + r->size;
	}
}

static void read_modules(const struct info *info)
{
	const struct info_module *m = phys(info->modules);

	for (unsigned int i = 0; i < info->nr_modules && i < 2; i++) {
		modules[i] = (struct module){m[i].start, m[i].end, module_words[i]};
		copy_words(module_words[i], sizeof(module_words[i]), m[i].words);
		nr_modules++;
	}
}

void multiboot_read(uint64_t at)
{
	const struct info *info = phys(at);
	char *words = command_line;

	if (!(info->flags & INFO_MEMORY_MAP))
		panic("multiboot: the loader has no memory map");
	read_ranges(info);
	if (info->flags & INFO_MODULES)
		read_modules(info);
	if (info->flags & INFO_COMMAND_LINE)
		copy_words(command_line, sizeof(command_line), info->command_line);
	/* The first word is the image's own name. */
	while (*words && *words != ' ')
		words++;
	options_parse(words);
	if (!nr_modules)
		panic("multiboot: no module, so there is no guest");
}
