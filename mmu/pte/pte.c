// SPDX-License-Identifier: BSD-2-Clause
/* Makes entries of each format. Bit layouts stand here once, with the manual's section beside. */
#include "mmu/pte/pte.h"

/* EPT: SDM vol. 3, "EPT Paging Structures", tables "Format of an EPT ... Entry". */
#define EPT_R		(1ull << 0)
#define EPT_W		(1ull << 1)
#define EPT_X		(1ull << 2)
#define EPT_MEMTYPE(t)	((uint64_t)(t) << 3)
#define EPT_IPAT	(1ull << 6)
#define EPT_A		(1ull << 8)
#define EPT_D		(1ull << 9)
#define EPT_SUPPRESS_VE (1ull << 63)
/* Ours, in bits that EPT ignores. */
#define EPT_HOST_WRITABLE (1ull << 57)
#define EPT_MMU_WRITABLE  (1ull << 58)

/* Memory types: SDM vol. 3, "Memory Types That Can Be Encoded in MTRRs". */
#define MEMTYPE_UC 0
#define MEMTYPE_WB 6

/* NPT: APM vol. 2, "4-Kbyte Page Translation - Long Mode". */
#define NPT_P  (1ull << 0)
#define NPT_W  (1ull << 1)
#define NPT_U  (1ull << 2)
#define NPT_A  (1ull << 5)
#define NPT_D  (1ull << 6)
#define NPT_NX (1ull << 63)
/* Ours, in bits "available to software". */
#define NPT_HOST_WRITABLE (1ull << 9)
#define NPT_MMU_WRITABLE  (1ull << 10)
/* Reserved while the host's physical addresses are narrower than 52 bits: a sure #NPF(RSVD). */
#define NPT_RSVD_51 (1ull << 51)

_Static_assert((PTE_FROZEN_WORD & (PTE_MMU_PRESENT | PTE_BLOCKED_BIT | 7)) == 0,
	       "FROZEN is neither present nor BLOCKED in any format");
_Static_assert(((EPT_R | EPT_X) << PTE_KEPT_SHIFT &
		(EPT_HOST_WRITABLE | EPT_MMU_WRITABLE | PTE_BLOCKED_BIT | PTE_AD_DISABLED)) == 0,
	       "what an old leaf keeps has bits of its own");
_Static_assert(PTE_MMIO_GEN_LOW_BITS + PTE_MMIO_GEN_HIGH_BITS == 19,
	       "KVM's generation has 19 bits");

static void init_ept(struct pte_format *f, const struct pte_options *o)
{
	uint64_t present = EPT_SUPPRESS_VE | PTE_MMU_PRESENT | EPT_R | EPT_X;

	/* SDM "Accessed and Dirty Flags for EPT": ignored while EPTP bit 6 is clear. */
	f->accessed = o->no_ad ? 0 : EPT_A;
	f->dirty = o->no_ad ? 0 : EPT_D;
	f->young = o->no_ad ? EPT_R | EPT_W | EPT_X : EPT_A;
	f->kept = o->no_ad ? EPT_R | EPT_X : 0;
	if (o->no_ad)
		present |= PTE_AD_DISABLED;
	f->table = present | EPT_W | f->accessed;
	f->leaf = present;
	f->writable = EPT_W | f->dirty | EPT_HOST_WRITABLE | EPT_MMU_WRITABLE;
	f->write = EPT_W;
	f->exec = EPT_X;
	f->host_writable = EPT_HOST_WRITABLE;
	f->mmu_writable = EPT_MMU_WRITABLE;
	f->memtype_wb = EPT_MEMTYPE(MEMTYPE_WB);
	f->memtype_wb_ipat = EPT_MEMTYPE(MEMTYPE_WB) | EPT_IPAT;
	f->memtype_uc = EPT_MEMTYPE(MEMTYPE_UC);
	if (o->no_mmio_caching)
		return;
	/* W and X without R is a misconfiguration (SDM "EPT Misconfigurations"). In a TD the entry
	 * is plainly not present with suppress-#VE clear, so that the guest gets its #VE. */
	f->mmio_mask = EPT_SUPPRESS_VE | EPT_R | EPT_W | EPT_X;
	f->mmio_value = o->td ? 0 : EPT_W | EPT_X;
}

static void init_npt(struct pte_format *f, const struct pte_options *o)
{
	uint64_t present = PTE_MMU_PRESENT | NPT_P | NPT_U;

	f->table = present | NPT_W | NPT_A;
	f->leaf = present;
	f->writable = NPT_W | NPT_D | NPT_HOST_WRITABLE | NPT_MMU_WRITABLE;
	f->write = NPT_W;
	f->nx = NPT_NX;
	f->accessed = NPT_A;
	f->young = NPT_A;
	f->dirty = NPT_D;
	f->host_writable = NPT_HOST_WRITABLE;
	f->mmu_writable = NPT_MMU_WRITABLE;
	if (o->no_mmio_caching || o->maxphyaddr > 51)
		return;
	f->mmio_mask = NPT_RSVD_51 | NPT_P;
	f->mmio_value = NPT_RSVD_51 | NPT_P;
	for (unsigned int access = 0; access < 8; access++)
		f->mmio_access[access] =
			(access & TPT_ACC_WRITE ? NPT_W : 0) | (access & TPT_ACC_READ ? NPT_U : 0);
	f->mmio_access_mask = NPT_W | NPT_U;
}

void pte_format_init(struct pte_format *f, enum tpt_format format, const struct pte_options *o)
{
	*f = (struct pte_format){.format = format};
	if (format == TPT_FORMAT_EPT)
		init_ept(f, o);
	else
		init_npt(f, o);
}

tpt_spte pte_make_mmio(const struct pte_format *f, tpt_gfn gfn, uint32_t generation,
		       unsigned int access)
{
	uint64_t gen = generation & PTE_MMIO_GEN_MASK;
	uint64_t low = gen & ((1u << PTE_MMIO_GEN_LOW_BITS) - 1);
	uint64_t high = gen >> PTE_MMIO_GEN_LOW_BITS;

	return (tpt_spte){f->mmio_value | f->mmio_access[access] | gfn << TPT_PAGE_SHIFT |
			  low << PTE_MMIO_GEN_LOW_SHIFT | high << PTE_MMIO_GEN_HIGH_SHIFT};
}

uint32_t pte_mmio_generation(tpt_spte mmio)
{
	uint32_t low = mmio.w >> PTE_MMIO_GEN_LOW_SHIFT & ((1u << PTE_MMIO_GEN_LOW_BITS) - 1);
	uint32_t high = mmio.w >> PTE_MMIO_GEN_HIGH_SHIFT & ((1u << PTE_MMIO_GEN_HIGH_BITS) - 1);

	return high << PTE_MMIO_GEN_LOW_BITS | low;
}

tpt_gfn pte_mmio_gfn(const struct pte_format *f, tpt_spte mmio)
{
	return (mmio.w & PTE_ADDR_MASK & ~f->mmio_value) >> TPT_PAGE_SHIFT;
}
