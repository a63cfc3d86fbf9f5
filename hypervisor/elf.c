// SPDX-License-Identifier: BSD-2-Clause
/*
 * Loads a multiboot guest: ELF, 32 or 64 bit, or flat with addresses in its header (Multiboot
 * Specification 0.6.96; System V ABI, "Program Header").
 */
#include "hypervisor/hv.h"

#define HEADER_MAGIC   0x1badb002u
#define HEADER_WITHIN  8192
#define FLAG_ADDRESSES (1u << 16)
#define GUEST_MAGIC    0x2badb002u
#define PT_LOAD	       1
/* What the guest is told lies here. */
#define INFO	     0x9000
#define INFO_MODULES 0x9080
#define INFO_RANGES  0x9100
#define INFO_WORDS   0x9800
#define INFO_BYTES   0x1000
/* The first word of a command line is the image's name. */
#define NAME "guest.elf "

struct header {
	uint32_t magic, flags, checksum;
	uint32_t header, load, load_end, bss_end, entry;
};

/* ELF32 and ELF64 headers: what is used of them. */
struct elf {
	uint8_t ident[16];
	uint16_t type, machine;
	uint32_t version;
};
struct elf32 {
	struct elf elf;
	uint32_t entry, phoff, shoff, flags;
	uint16_t ehsize, phentsize, phnum;
};
struct elf64 {
	struct elf elf;
	uint64_t entry, phoff, shoff;
	uint32_t flags;
	uint16_t ehsize, phentsize, phnum;
};
struct phdr32 {
	uint32_t type, offset, vaddr, paddr, filesz, memsz;
};
struct phdr64 {
	uint32_t type, flags;
	uint64_t offset, vaddr, paddr, filesz, memsz;
};

struct info {
	uint32_t flags, mem_lower, mem_upper, boot_device, words, nr_modules, modules;
	uint32_t symbols[4], range_bytes, ranges;
};
struct info_module {
	uint32_t start, end, words, reserved;
};
struct info_range {
	uint32_t size;
	uint64_t start, bytes;
	uint32_t type;
} __attribute__((packed));

/* The image is moved away first: its parts go to low memory, where it was loaded itself. */
static const char *image;
static uint64_t image_bytes;

static void put(uint64_t gpa, uint64_t offset, uint64_t filesz, uint64_t memsz)
{
	if (offset > image_bytes || filesz > image_bytes - offset || filesz > memsz)
		panic("elf: a part at %lx of the file, %lx bytes, is not in the file", offset,
		      filesz);
	if (gpa + memsz > own.start || gpa + memsz < gpa)
		panic("elf: a part at %lx, %lx bytes, reaches out of the guest's memory, which ends "
		      "at %lx",
		      gpa, memsz, own.start);
	memcpy(phys(gpa), image + offset, filesz);
	memset((char *)phys(gpa) + filesz, 0, memsz - filesz);
	guest_wrote(gpa, memsz);
}

static uint64_t load_elf(void)
{
	const struct elf32 *e32 = (const void *)image;
	const struct elf64 *e64 = (const void *)image;
	bool wide = e32->elf.ident[4] == 2;
	uint64_t at = wide ? e64->phoff : e32->phoff;
	unsigned int nr = wide ? e64->phnum : e32->phnum;
	unsigned int step = wide ? e64->phentsize : e32->phentsize;

	for (unsigned int i = 0; i < nr; i++) {
		const struct phdr32 *p = (const void *)(image + at + i * step);
		const struct phdr64 *q = (const void *)(image + at + i * step);

		if ((wide ? q->type : p->type) != PT_LOAD)
			continue;
		if (wide)
			put(q->paddr, q->offset, q->filesz, q->memsz);
		else
			put(p->paddr, p->offset, p->filesz, p->memsz);
	}
	return wide ? e64->entry : e32->entry;
}

static uint64_t load_flat(const struct header *h)
{
	uint64_t offset = (uint64_t)((const char *)h - image) - (h->header - h->load);
	uint64_t filesz = h->load_end ? h->load_end - h->load : image_bytes - offset;
	uint64_t memsz = h->bss_end ? h->bss_end - h->load : filesz;

	put(h->load, offset, filesz, memsz);
	return h->entry;
}

static const struct header *find_header(void)
{
	for (uint64_t at = 0; at < HEADER_WITHIN && at + sizeof(struct header) <= image_bytes;
	     at += 4) {
		const struct header *h = (const void *)(image + at);

		if (h->magic == HEADER_MAGIC && !(h->magic + h->flags + h->checksum))
			return h;
	}
	panic("guest: neither a Linux kernel nor a multiboot image");
}

static void tell_ranges(struct info *info)
{
	struct info_range *r = phys(INFO_RANGES);

	for (unsigned int i = 0; i < guest_map.nr; i++) {
		const struct range *g = &guest_map.ranges[i];

		r[i] = (struct info_range){20, g->start, g->end - g->start, g->type};
		if (g->start == MIB)
			info->mem_upper = (uint32_t)((g->end - MIB) / KIB);
	}
	info->range_bytes = guest_map.nr * (uint32_t)sizeof(*r);
	info->ranges = INFO_RANGES;
}

static void tell_rest(struct info *info, uint64_t at, uint64_t bytes)
{
	struct info_module *m = phys(INFO_MODULES);

	*m = (struct info_module){(uint32_t)at, (uint32_t)(at + bytes), INFO_WORDS, 0};
	info->flags |= 1u << 3;
	info->nr_modules = 1;
	info->modules = INFO_MODULES;
	guest_wrote(at, bytes);
}

void elf_load(struct vcpu *boot, const struct module *module, const struct module *rest)
{
	const struct header *header;
	struct info *info = phys(INFO);
	uint64_t entry, rest_at = 0, rest_bytes = rest ? rest->end - rest->start : 0;

	/* Both to the top, out of the way of what is loaded. */
	image_bytes = module->end - module->start;
	rest_at = (own.start - rest_bytes) & ~4095ull;
	image = phys((rest_at - image_bytes) & ~4095ull);
	if (rest)
		memmove(phys(rest_at), phys(rest->start), rest_bytes);
	memmove((void *)image, phys(module->start), image_bytes);

	header = find_header();
	entry = image_bytes > sizeof(struct elf64) && !memcmp(image, "\177ELF", 4) &&
				!(header->flags & FLAG_ADDRESSES)
			? load_elf()
			: load_flat(header);
	memset(info, 0, INFO_BYTES);
	*info = (struct info){.flags = 1u << 0 | 1u << 2 | 1u << 6, .mem_lower = 639};
	tell_ranges(info);
	if (strlen(options.guest_words) + sizeof(NAME) > INFO + INFO_BYTES - INFO_WORDS)
		panic("guest: a command line of %lu bytes is too long",
		      strlen(options.guest_words));
	memcpy(phys(INFO_WORDS), NAME, sizeof(NAME));
	memcpy((char *)phys(INFO_WORDS) + sizeof(NAME) - 1, options.guest_words,
	       strlen(options.guest_words) + 1);
	info->words = INFO_WORDS;
	if (rest)
		tell_rest(info, rest_at, rest_bytes);
	guest_wrote(INFO, INFO_BYTES);
	vcpu_init_flat(boot, entry);
	boot->vmcb->rax = GUEST_MAGIC;
	boot->regs.rbx = INFO;
}
