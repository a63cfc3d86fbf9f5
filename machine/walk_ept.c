// SPDX-License-Identifier: BSD-2-Clause
/*
 * What EPT entries, the EPTP and EPT's VM exits are, from Intel SDM volume 3, chapter "VMX Support
 *for Address Translation", sections "EPT Translation Mechanism" and "EPT-Induced VM Exits". Keeps
 *no state and reads no memory.
 *
 *	bits	entry that links a table	entry that maps a page
 *	2:0	X W R				X W R
 *	5:3	reserved			memory type
 *	6	reserved			ignore PAT
 *	7	0 (reserved at levels 4, 5)	1 at levels 2, 3; ignored at level 1
 *	8	accessed			accessed
 *	9	ignored				dirty
 *	11:10	ignored				ignored
 *	51:12	table				page; bits below its size are reserved
 *	63:52	ignored				ignored
 */
#include <errno.h>

#include "machine/internal.h"

#define EPT_RWX	     0x7ull
#define EPT_R	     0x1ull
#define EPT_W	     0x2ull
#define EPT_X	     0x4ull
#define EPT_IPAT     (1ull << 6)
#define EPT_PAGE     (1ull << 7)
#define EPT_ACCESSED (1ull << 8)
#define EPT_DIRTY    (1ull << 9)

#define EPTP_AD	      (1ull << 6)
#define EPTP_RESERVED 0xfff0000000000f80ull /* bits 11:7 and 63:52 */

/* Exit qualification for EPT violations. */
#define QUAL_READ	   (1u << 0)
#define QUAL_WRITE	   (1u << 1)
#define QUAL_FETCH	   (1u << 2)
#define QUAL_RIGHTS_SHIFT  3
#define QUAL_LINEAR_VALID  (1u << 7)
#define QUAL_LINEAR_ACCESS (1u << 8)

static unsigned int ept_type(uint64_t entry)
{
	return entry >> 3 & 7;
}

static bool type_reserved(unsigned int type)
{
	return type == 2 || type == 3 || type == 7;
}

static bool ept_is_leaf(const struct machine_config *config, uint64_t entry, unsigned int level)
{
	return level == 1 || (entry & EPT_PAGE && (level == 2 || (level == 3 && config->page_1g)));
}

/* Bits that must be 0 in a present entry. */
static uint64_t ept_reserved(const struct machine_config *config, unsigned int level, bool leaf)
{
	uint64_t above = ADDRESS_MASK & ~((1ull << config->maxphyaddr) - 1);

	if (leaf)
		return above | (((1ull << level_shift(level)) - 1) & ADDRESS_MASK);
	/* A page bit that does not make a leaf is one that this level does not have. */
	return above | 0x78 | EPT_PAGE;
}

/* SDM "EPT Misconfigurations" */
static bool ept_misconfigured(const struct machine_config *config, uint64_t entry,
			      unsigned int level, bool leaf)
{
	if (!(entry & EPT_R) && (entry & EPT_W || !config->ept_exec_only))
		return true;
	if (entry & ept_reserved(config, level, leaf))
		return true;
	return leaf && type_reserved(ept_type(entry));
}

static void ept_decode(const struct machine_config *config, uint64_t entry, unsigned int level,
		       struct decoded *out)
{
	bool leaf = ept_is_leaf(config, entry, level);

	*out = (struct decoded){.kind = MACHINE_ENTRY_NONE};
	if (!(entry & EPT_RWX))
		return;
	out->rights = RIGHT_U | ((entry & EPT_R) ? RIGHT_R : 0) | ((entry & EPT_W) ? RIGHT_W : 0) |
		      ((entry & EPT_X) ? RIGHT_X : 0);
	out->target = entry & ADDRESS_MASK;
	out->kind = leaf ? MACHINE_ENTRY_LEAF : MACHINE_ENTRY_TABLE;
	if (ept_misconfigured(config, entry, level, leaf))
		out->kind = MACHINE_ENTRY_BAD;
	if (!leaf)
		return;
	out->memtype = ept_type(entry);
	out->ipat = entry & EPT_IPAT;
}

/*
 * SDM "Accessed and Dirty Flags for EPT": with the flags enabled, accesses to guest paging
 * structures are writes, and are reported as reads and writes.
 */
static unsigned int ept_need(unsigned int kind, bool ad)
{
	unsigned int need = kind & (RIGHT_R | RIGHT_W | RIGHT_X);

	if (ad && kind & MACHINE_GUEST_WALK)
		need |= RIGHT_R | RIGHT_W;
	return need;
}

static void ept_fault(const struct machine_config *config, unsigned int kind, bool ad,
		      enum machine_entry_kind end, unsigned int rights, struct machine_result *out)
{
	unsigned int need = ept_need(kind, ad);
	uint64_t q = 0;

	(void)config;
	out->outcome = MACHINE_EPT_MISCONFIG;
	if (end == MACHINE_ENTRY_BAD)
		return;
	out->outcome = MACHINE_EPT_VIOLATION;
	q |= (need & RIGHT_R) ? QUAL_READ : 0;
	q |= (need & RIGHT_W) ? QUAL_WRITE : 0;
	q |= (need & RIGHT_X) ? QUAL_FETCH : 0;
	/* Bits 5:3 are the AND over all entries, and so 0 where one is not present. */
	q |= (rights & RIGHT_R) ? QUAL_READ << QUAL_RIGHTS_SHIFT : 0;
	q |= (rights & RIGHT_W) ? QUAL_WRITE << QUAL_RIGHTS_SHIFT : 0;
	q |= (rights & RIGHT_X) ? QUAL_FETCH << QUAL_RIGHTS_SHIFT : 0;
	if (!(kind & MACHINE_NO_LINEAR)) {
		q |= QUAL_LINEAR_VALID;
		q |= (kind & MACHINE_GUEST_WALK) ? 0 : QUAL_LINEAR_ACCESS;
	}
	out->error = q;
}

const struct format ept_format = {
	.accessed = EPT_ACCESSED,
	.dirty = EPT_DIRTY,
	.decode = ept_decode,
	.need = ept_need,
	.fault = ept_fault,
};

uint64_t machine_eptp(uint64_t root_hpa, unsigned int levels, bool ad)
{
	return root_hpa | 6 | (uint64_t)(levels - 1) << 3 | (ad ? EPTP_AD : 0);
}

/* SDM "VM-Execution Control Fields" checks on the EPTP at VM entry */
int ept_space(const struct machine *machine, const struct machine_root *root, struct space *space)
{
	const struct machine_config *config = &machine->config;
	uint64_t eptp = root->pointer, type = eptp & 7, levels = (eptp >> 3 & 7) + 1;

	if (type != 0 && type != 6)
		return -EINVAL;
	if (levels != 4 && !(levels == 5 && config->five_level))
		return -EINVAL;
	if (eptp & EPTP_RESERVED || (eptp & EPTP_AD && !config->ept_ad))
		return -EINVAL;
	if ((eptp & ADDRESS_MASK) >> config->maxphyaddr)
		return -EINVAL;
	*space = (struct space){
		.format = &ept_format,
		.id = {MACHINE_ROOT_EPT, eptp & ADDRESS_MASK},
		.tag = root->tag,
		.root = eptp & ADDRESS_MASK,
		.levels = levels,
		.ad = eptp & EPTP_AD,
	};
	return 0;
}
