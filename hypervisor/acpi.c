// SPDX-License-Identifier: BSD-2-Clause
/*
 * The firmware's ACPI tables (ACPI Specification 6.4, chapter 5): the port that powers off, and the
 * processors; one of which the guest is not told of. All else in them is the guest's to read.
 */
#include "hypervisor/hv.h"

struct table {
	char signature[4];
	uint32_t bytes;
	uint8_t revision, checksum, rest[26];
};

#define MADT_LOCAL_APIC 0
#define MADT_ENABLED	1u
#define FADT_PM1A	64 /* offset of PM1a_CNT_BLK */

/* MADT entry "Processor Local APIC". */
struct madt_apic {
	uint8_t type, bytes, processor, apic_id;
	uint32_t flags;
} __attribute__((packed));

uint16_t acpi_power_port;
uint64_t acpi_rsdp;
uint8_t apic_ids[TPT_BARE_VCPUS];
unsigned int nr_apic_ids;

static uint8_t sum(const void *at, size_t bytes)
{
	const uint8_t *b = at;
	uint8_t total = 0;

	while (bytes--)
		total += *b++;
	return total;
}

/* In the BIOS' read-only memory, on a 16-byte boundary. */
static void find_rsdp(void)
{
	for (uint64_t at = 0xe0000; at < 0x100000 && !acpi_rsdp; at += 16)
		if (!memcmp(phys(at), "RSD PTR ", 8) && !sum(phys(at), 20))
			acpi_rsdp = at;
}

static struct table *find_table(const char *signature)
{
	const struct table *rsdt;
	const uint32_t *entry;

	if (!acpi_rsdp)
		return NULL;
	rsdt = phys(*(const uint32_t *)((const char *)phys(acpi_rsdp) + 16));
	entry = (const uint32_t *)(rsdt + 1);
	for (uint32_t n = (rsdt->bytes - (uint32_t)sizeof(*rsdt)) / 4; n--; entry++) {
		struct table *t = phys(*entry);

		if (!memcmp(t->signature, signature, 4))
			return t;
	}
	return NULL;
}

static struct madt_apic *next_apic(struct table *madt, struct madt_apic *before)
{
	char *at = before ? (char *)before + before->bytes : (char *)(madt + 1) + 8;
	char *end = (char *)madt + madt->bytes;

	for (; at < end; at += ((struct madt_apic *)at)->bytes) {
		struct madt_apic *a = (struct madt_apic *)at;

		if (a->type == MADT_LOCAL_APIC && (a->flags & MADT_ENABLED))
			return a;
	}
	return NULL;
}

void acpi_read(void)
{
	struct table *fadt, *madt;

	find_rsdp();
	fadt = find_table("FACP");
	madt = find_table("APIC");
	if (!fadt || !madt)
		panic("acpi: no %s table, so it can't be known %s", fadt ? "APIC" : "FACP",
		      fadt ? "which processors there are" : "how to power off");
	acpi_power_port = (uint16_t) * (uint32_t *)((char *)fadt + FADT_PM1A);
	for (struct madt_apic *a = next_apic(madt, NULL); a; a = next_apic(madt, a))
		if (nr_apic_ids < TPT_BARE_VCPUS)
			apic_ids[nr_apic_ids++] = a->apic_id;
}

void acpi_hide(uint8_t apic_id)
{
	struct table *madt = find_table("APIC");

	for (struct madt_apic *a = next_apic(madt, NULL); a; a = next_apic(madt, a))
		if (a->apic_id == apic_id)
			a->flags = 0;
	madt->checksum -= sum(madt, madt->bytes);
}
