// SPDX-License-Identifier: BSD-2-Clause
/*
 * Loads a multiboot guest: ELF, 32 or 64 bit, or flat with addresses in its header (Multiboot
 * Specification 0.6.96; System V ABI, "Program Header").
 */
#include <elf.h>

#include "hypervisor/hv.h"
#include "hypervisor/multiboot.h"

#define HEADER_WITHIN 8192 /* bytes */
/* What the guest is told lies here. */
#define INFO	     0x9000
#define INFO_MODULES 0x9080
#define INFO_RANGES  0x9100
#define INFO_WORDS   0x9800
#define INFO_BYTES   0x1000
/* The first word of a command line is the image's name. */
#define NAME "guest.elf "

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

static void put_part64(const Elf64_Phdr *p)
{
	if (p->p_type == PT_LOAD)
		put(p->p_paddr, p->p_offset, p->p_filesz, p->p_memsz);
}

static void put_part32(const Elf32_Phdr *p)
{
	if (p->p_type == PT_LOAD)
		put(p->p_paddr, p->p_offset, p->p_filesz, p->p_memsz);
}

static uint64_t load_elf(void)
{
	const Elf32_Ehdr *e32 = (const void *)image;
	const Elf64_Ehdr *e64 = (const void *)image;
	bool wide = e32->e_ident[EI_CLASS] == ELFCLASS64;
	uint64_t at = wide ? e64->e_phoff : e32->e_phoff;
	uint64_t step = wide ? e64->e_phentsize : e32->e_phentsize;
	unsigned int nr = wide ? e64->e_phnum : e32->e_phnum;

	if (at > image_bytes || nr * step > image_bytes - at ||
	    step < (wide ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)))
		panic("elf: %u program headers of %lu bytes at %lx are not in the file", nr, step,
		      at);
	for (unsigned int i = 0; i < nr; i++) {
		if (wide)
			put_part64((const void *)(image + at + i * step));
		else
			put_part32((const void *)(image + at + i * step));
	}
	return wide ? e64->e_entry : e32->e_entry;
}

static uint64_t load_flat(const struct multiboot_header *h)
{
	uint64_t offset = (uint64_t)((const char *)h - image) - (h->header - h->load);
	uint64_t filesz = h->load_end ? h->load_end - h->load : image_bytes - offset;
	uint64_t memsz = h->bss_end ? h->bss_end - h->load : filesz;

	put(h->load, offset, filesz, memsz);
	return h->entry;
}

static const struct multiboot_header *find_header(void)
{
	for (uint64_t at = 0;
	     at < HEADER_WITHIN && at + sizeof(struct multiboot_header) <= image_bytes; at += 4) {
		const struct multiboot_header *h = (const void *)(image + at);

		if (h->magic == MULTIBOOT_HEADER && !(h->magic + h->flags + h->checksum))
			return h;
	}
	panic("guest: neither a Linux kernel nor a multiboot image");
}

static void tell_ranges(struct multiboot_info *info)
{
	struct multiboot_range *r = phys(INFO_RANGES);

	for (unsigned int i = 0; i < guest_map.nr; i++) {
		const struct range *g = &guest_map.ranges[i];

		r[i] = (struct multiboot_range){20, g->start, g->end - g->start, g->type};
		if (g->start == MIB)
			info->mem_upper = (uint32_t)((g->end - MIB) / KIB);
	}
	info->range_bytes = guest_map.nr * (uint32_t)sizeof(*r);
	info->ranges = INFO_RANGES;
}

static void tell_rest(struct multiboot_info *info, uint64_t at, uint64_t bytes)
{
	struct multiboot_module *m = phys(INFO_MODULES);

	*m = (struct multiboot_module){(uint32_t)at, (uint32_t)(at + bytes), INFO_WORDS, 0};
	info->flags |= MULTIBOOT_MODULES;
	info->nr_modules = 1;
	info->modules = INFO_MODULES;
	guest_wrote(at, bytes);
}

void elf_load(struct vcpu *boot, const struct module *module, const struct module *rest)
{
	const struct multiboot_header *header;
	struct multiboot_info *info = phys(INFO);
	uint64_t entry, rest_at = 0, rest_bytes = rest ? rest->end - rest->start : 0;

	/* Both to the top, out of the way of what is loaded. */
	image_bytes = module->end - module->start;
	rest_at = (own.start - rest_bytes) & ~4095ull;
	image = phys((rest_at - image_bytes) & ~4095ull);
	if (rest)
		memmove(phys(rest_at), phys(rest->start), rest_bytes);
	memmove((void *)image, phys(module->start), image_bytes);

	header = find_header();
	entry = image_bytes > sizeof(Elf64_Ehdr) && !memcmp(image, ELFMAG, SELFMAG) &&
				!(header->flags & MULTIBOOT_HAS_ADDRESSES)
			? load_elf()
			: load_flat(header);
	memset(info, 0, INFO_BYTES);
	*info = (struct multiboot_info){.flags = MULTIBOOT_MEMORY | MULTIBOOT_COMMAND_LINE |
						 MULTIBOOT_RANGES,
					.mem_lower = 639};
	tell_ranges(info);
	if (strlen(options.guest_words) + sizeof(NAME) > INFO + INFO_BYTES - INFO_WORDS)
		panic("guest: a command line of %lu bytes is too long",
		      strlen(options.guest_words));
	memcpy(phys(INFO_WORDS), NAME, sizeof(NAME));
	memcpy((char *)phys(INFO_WORDS) + sizeof(NAME) - 1, options.guest_words,
	       strlen(options.guest_words) + 1);
	info->command_line = INFO_WORDS;
	if (rest)
		tell_rest(info, rest_at, rest_bytes);
	guest_wrote(INFO, INFO_BYTES);
	vcpu_init_flat(boot, entry);
	boot->vmcb->rax = MULTIBOOT_LOADED;
	boot->regs.rbx = INFO;
}
