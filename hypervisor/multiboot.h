/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a multiboot loader tells (Multiboot Specification 0.6.96, "Boot information format"): read
 * from the one that loaded the hypervisor, written for the guest that it loads.
 */
#ifndef HYPERVISOR_MULTIBOOT_H
#define HYPERVISOR_MULTIBOOT_H

#include <stdint.h>

#define MULTIBOOT_HEADER 0x1badb002u /* begins an image's header */
#define MULTIBOOT_LOADED 0x2badb002u /* in EAX */

#define MULTIBOOT_MEMORY	(1u << 0) /* flags of the information */
#define MULTIBOOT_COMMAND_LINE	(1u << 2)
#define MULTIBOOT_MODULES	(1u << 3)
#define MULTIBOOT_RANGES	(1u << 6)
#define MULTIBOOT_HAS_ADDRESSES (1u << 16) /* flag of a header */

struct multiboot_header {
	uint32_t magic, flags, checksum;
	uint32_t header, load, load_end, bss_end, entry; /* HAS_ADDRESSES */
};

struct multiboot_info {
	uint32_t flags, mem_lower, mem_upper, boot_device, command_line, nr_modules, modules;
	uint32_t symbols[4], range_bytes, ranges;
};

struct multiboot_module {
	uint32_t start, end, words, reserved;
};

struct multiboot_range {
	uint32_t size; /* of what follows */
	uint64_t start, bytes;
	uint32_t type; /* as in e820 */
} __attribute__((packed));

#endif
