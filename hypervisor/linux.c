// SPDX-License-Identifier: BSD-2-Clause
/*
 * Loads a Linux kernel: "The Linux/x86 Boot Protocol", with its 64-bit entry (2.12 and later). The
 * kernel goes where it would like to be, its initrd to the top of the guest's low memory.
 */
#include "hypervisor/hv.h"

/* In the zero page, and, but for the first three, in the kernel's own header. */
#define ZP_RSDP		  0x070
#define ZP_E820_ENTRIES	  0x1e8
#define ZP_E820		  0x2d0
#define HDR_START	  0x1f1
#define HDR_SETUP_SECTORS 0x1f1
#define HDR_SYS_SIZE	  0x1f4 /* of what follows the setup, in 16 bytes */
#define HDR_JUMP	  0x201 /* the header ends this far behind 202h */
#define HDR_VERSION	  0x206
#define HDR_LOADER	  0x210
#define HDR_RAMDISK	  0x218
#define HDR_RAMDISK_BYTES 0x21c
#define HDR_COMMAND_LINE  0x228
#define HDR_RAMDISK_MAX	  0x22c
#define HDR_XLOADFLAGS	  0x236
#define HDR_COMMAND_SIZE  0x238
#define HDR_PREFERRED	  0x258
#define HDR_INIT_SIZE	  0x260
#define XLF_KERNEL_64	  (1u << 0)
#define LOADER_UNKNOWN	  0xff
#define ENTRY_64	  0x200

/* Where things are put, below what a kernel uses before it has read them. */
#define ZERO_PAGE    0x10000
#define PAGE_TABLES  0x11000 /* 6 pages */
#define COMMAND_LINE 0x20000

/* The zero page has room for 128 of them, more than guest_map has. */
struct e820 {
	uint64_t start, bytes;
	uint32_t type;
} __attribute__((packed));

static uint16_t get16(const char *at)
{
	uint16_t value;

	memcpy(&value, at, 2);
	return value;
}

static uint32_t get32(const char *at)
{
	uint32_t value;

	memcpy(&value, at, 4);
	return value;
}

static void put32(char *at, uint64_t value)
{
	uint32_t low = (uint32_t)value;

	memcpy(at, &low, 4);
}

/* 4 GiB as they are, 2 MiB a page. */
static void make_page_tables(void)
{
	uint64_t *root = phys(PAGE_TABLES), *pointers = root + 512, *pages = pointers + 512;

	memset(root, 0, 2 * 4096);
	root[0] = (PAGE_TABLES + 4096) | 3;
	for (unsigned int i = 0; i < 4; i++)
		pointers[i] = (uint64_t)(PAGE_TABLES + 2 * 4096 + 4096 * i) | 3;
	for (uint64_t i = 0; i < 4 * 512; i++)
		pages[i] = i * 2 * MIB | 0x83;
}

static void put_map(char *zero)
{
	struct e820 *e = (struct e820 *)(zero + ZP_E820);

	for (unsigned int i = 0; i < guest_map.nr; i++) {
		const struct range *r = &guest_map.ranges[i];

		e[i] = (struct e820){r->start, r->end - r->start, r->type};
		zero[ZP_E820_ENTRIES] = (char)(i + 1);
	}
}

static void put_command_line(char *zero, const char *header)
{
	size_t n = strlen(options.guest_words);

	if (n > get32(header + HDR_COMMAND_SIZE))
		panic("linux: a command line of %lu bytes, this kernel takes %u", n,
		      get32(header + HDR_COMMAND_SIZE));
	memcpy(phys(COMMAND_LINE), options.guest_words, n + 1);
	put32(zero + HDR_COMMAND_LINE, COMMAND_LINE);
}

/* First of all: what was loaded behind the kernel may lie where the kernel goes. */
static void put_initrd(char *zero, const char *header, const struct module *initrd)
{
	uint64_t bytes = initrd->end - initrd->start, end = own.start;

	if (end > (uint64_t)get32(header + HDR_RAMDISK_MAX) + 1)
		end = (uint64_t)get32(header + HDR_RAMDISK_MAX) + 1;
	end = (end - bytes) & ~4095ull;
	memmove(phys(end), phys(initrd->start), bytes);
	put32(zero + HDR_RAMDISK, end);
	put32(zero + HDR_RAMDISK_BYTES, bytes);
}

/* Before the kernel itself; 0 sectors mean 4, for kernels that are older than this. */
static uint64_t setup_bytes(const char *header)
{
	uint8_t sectors = (uint8_t)header[HDR_SETUP_SECTORS];

	return ((sectors ? sectors : 4) + 1) * 512ul;
}

static void check(const char *header, uint64_t bytes, uint64_t load, uint64_t initrd_bytes)
{
	uint64_t whole = setup_bytes(header) + 16ul * get32(header + HDR_SYS_SIZE);
	uint64_t end = load + get32(header + HDR_INIT_SIZE);

	if (get16(header + HDR_VERSION) < 0x20c ||
	    !(get16(header + HDR_XLOADFLAGS) & XLF_KERNEL_64))
		panic("linux: boot protocol %x without a 64-bit entry",
		      get16(header + HDR_VERSION));
	if (whole > bytes)
		panic("linux: the kernel has %lu bytes, its file only %lu", whole, bytes);
	if (end + initrd_bytes + TPT_PAGE_SIZE > own.start)
		panic("linux: the kernel wants %lx to %lx and its initrd %lu bytes, the guest's memory "
		      "ends at %lx",
		      load, end, initrd_bytes, own.start);
}

void linux_load(struct vcpu *boot, const struct module *kernel, const struct module *initrd)
{
	static char header[4096];
	const char *image = phys(kernel->start);
	char *zero = phys(ZERO_PAGE);
	uint64_t bytes = kernel->end - kernel->start, load;

	memcpy(header, image, sizeof(header));
	memcpy(&load, header + HDR_PREFERRED, 8);
	check(header, bytes, load, initrd ? initrd->end - initrd->start : 0);
	memset(zero, 0, 4096);
	memcpy(zero + HDR_START, header + HDR_START,
	       (size_t)(0x202 + (uint8_t)header[HDR_JUMP] - HDR_START));
	zero[HDR_LOADER] = (char)LOADER_UNKNOWN;
	memcpy(zero + ZP_RSDP, &acpi_rsdp, 8);
	if (initrd)
		put_initrd(zero, header, initrd);
	memmove(phys(load), image + setup_bytes(header), bytes - setup_bytes(header));
	put_map(zero);
	put_command_line(zero, header);
	make_page_tables();
	vcpu_init_long(boot, load + ENTRY_64, PAGE_TABLES);
	boot->regs.rsi = ZERO_PAGE;
}
