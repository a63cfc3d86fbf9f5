/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What one entry says. Pure: bits in, meaning out. Never touches a table, a lock or a VM.
 *
 * Every entry of every tree is one of seven kinds:
 *
 *	EMPTY    nothing is mapped             MMIO    nothing ever will be: a cached "no memslot"
 *	TABLE    points to a table             LEAF    maps memory
 *	FROZEN   somebody is changing it
 *	BLOCKED  a mirror's leaf, blocked outside, not yet removed or split
 *	BLOCKED_TABLE  a mirror's table, blocked outside, not yet merged
 */
#ifndef MMU_PTE_H
#define MMU_PTE_H

#include <triptych/types.h>

enum pte_kind {
	PTE_EMPTY,
	PTE_MMIO,
	PTE_TABLE,
	PTE_LEAF,
	PTE_FROZEN, /* from here on: nobody may map anything there now */
	PTE_BLOCKED,
	PTE_BLOCKED_TABLE,
	PTE_KIND_NR,
};

/*
 * Bits that are the same in both formats, so that a walk need not ask which one it is in. Hardware
 * bits: SDM vol. 3 "EPT Paging Structures"; APM vol. 2 "Long-Mode Page Translation".
 */
#define PTE_PS		(1ull << 7)  /* leaf above 4K, both manuals */
#define PTE_MMU_PRESENT (1ull << 11) /* ours; ignored by the processor in both formats */
#define PTE_BLOCKED_BIT (1ull << 59) /* ours; EPT ignores it in an entry with RWX = 0 */
#define PTE_AD_DISABLED (1ull << 52) /* ours: the processor keeps no A and D here */
#define PTE_ADDR_MASK	0x000ffffffffff000ull

/* Where an old leaf keeps its R and X if the processor has no A; ours, ignored by EPT. */
#define PTE_KEPT_SHIFT 54

/* Bit 63 keeps an EPT violation from becoming a #VE (SDM "Suppress #VE"); NPT: of no meaning here.
 */
#define PTE_EMPTY_WORD (1ull << 63)
/* RWX and P clear, no PFN bits: no processor sees anything in it, and nothing else looks like it.
 */
#define PTE_FROZEN_WORD ((1ull << 63) | 0x5a0ull)

/* A format of one VM. Made once by pte_format_init(), constant from then on. */
struct pte_format {
	enum tpt_format format;
	uint64_t table;	   /* a table entry, but for the address */
	uint64_t leaf;	   /* a readable, executable leaf, but for address, A, memory type, PS */
	uint64_t writable; /* what a writable leaf has more: W, D and our two marks */
	uint64_t write;	   /* hardware's W */
	uint64_t accessed, dirty; /* hardware's A and D, 0 where it keeps none */
	uint64_t young; /* a leaf with any of these is young: A, or without A all of R, W, X */
	uint64_t kept;	/* of those, what an old leaf keeps at << PTE_KEPT_SHIFT; 0 with A */
	uint64_t host_writable, mmu_writable;
	uint64_t exec;		  /* hardware's X, or 0 where execution is the default */
	uint64_t nx;		  /* hardware's NX, or 0 */
	uint64_t memtype_wb;	  /* leaf: guest's PAT honoured */
	uint64_t memtype_wb_ipat; /* leaf: guest's PAT ignored */
	uint64_t memtype_uc;	  /* leaf: host MMIO */
	/* MMIO entry: (w & mmio_mask) == mmio_value. 0 mask: none are made. */
	uint64_t mmio_mask, mmio_value;
	uint64_t mmio_access[8]; /* bits that store an access (TPT_ACC_*) */
	uint64_t mmio_access_mask;
};

/* What is special about this VM's entries. */
struct pte_options {
	uint32_t maxphyaddr; /* host's, 32 .. 52 */
	bool td;	     /* MMIO entries must let the guest have its #VE */
	bool no_mmio_caching;
	bool no_ad; /* EPT: the processor keeps no A and D; the format has neither */
};

void pte_format_init(struct pte_format *f, enum tpt_format format, const struct pte_options *o);

static inline bool pte_is_leaf_word(tpt_spte e, unsigned int level)
{
	return level == TPT_LEVEL_4K || (e.w & PTE_PS);
}

/* Is it a TABLE, of an entry above the lowest level? */
static inline bool pte_is_table_word(tpt_spte e)
{
	return (e.w & (PTE_MMU_PRESENT | PTE_PS)) == PTE_MMU_PRESENT;
}

static inline enum pte_kind pte_kind(const struct pte_format *f, tpt_spte e, unsigned int level)
{
	if (e.w & PTE_MMU_PRESENT)
		return pte_is_leaf_word(e, level) ? PTE_LEAF : PTE_TABLE;
	if (e.w == PTE_EMPTY_WORD)
		return PTE_EMPTY;
	if (e.w == PTE_FROZEN_WORD)
		return PTE_FROZEN;
	if (f->mmio_mask && (e.w & f->mmio_mask) == f->mmio_value)
		return PTE_MMIO;
	return pte_is_leaf_word(e, level) ? PTE_BLOCKED : PTE_BLOCKED_TABLE;
}

static inline bool pte_is_present(tpt_spte e)
{
	return e.w & PTE_MMU_PRESENT;
}

static inline bool pte_same(tpt_spte a, tpt_spte b)
{
	return a.w == b.w;
}

static inline tpt_pfn pte_pfn(tpt_spte e)
{
	return (tpt_pfn){(e.w & PTE_ADDR_MASK) >> TPT_PAGE_SHIFT};
}

static inline tpt_hpa pte_table_hpa(tpt_spte e)
{
	return (tpt_hpa){e.w & PTE_ADDR_MASK};
}

static inline tpt_spte pte_empty(void)
{
	return (tpt_spte){PTE_EMPTY_WORD};
}

static inline tpt_spte pte_frozen(void)
{
	return (tpt_spte){PTE_FROZEN_WORD};
}

static inline tpt_spte pte_table(const struct pte_format *f, tpt_hpa table)
{
	return (tpt_spte){f->table | table.a};
}

/* What a leaf is made of. */
struct pte_leaf {
	tpt_pfn pfn;	    /* of the first frame, aligned to the level */
	unsigned int level; /* 4K .. 1G */
	bool host_writable; /* the backing may be written */
	bool write;	    /* let the guest write now */
	bool accessed;
	bool nx;	  /* code may not run from it */
	uint64_t memtype; /* one of pte_format.memtype_* */
};

/* A leaf as BLOCKED, a table as BLOCKED_TABLE: keeps address and level. */
static inline tpt_spte pte_block(tpt_spte e)
{
	return (tpt_spte){(e.w & (PTE_ADDR_MASK | PTE_PS)) | PTE_EMPTY_WORD | PTE_BLOCKED_BIT};
}

/* Was the leaf used since it was last aged? */
static inline bool pte_is_young(const struct pte_format *f, tpt_spte leaf)
{
	return leaf.w & f->young;
}

/*
 * A leaf that was aged where the processor has no A: nothing is let through, so that the next
 * access tells. R and X are kept in it, W is not: only a write brings that back.
 */
static inline bool pte_is_tracked(const struct pte_format *f, tpt_spte leaf)
{
	return f->kept && !pte_is_young(f, leaf);
}

/* The leaf aged, and back: without A only. Both change nothing the second time. */
static inline tpt_spte pte_age(const struct pte_format *f, tpt_spte leaf)
{
	return (tpt_spte){(leaf.w & ~f->young) | (leaf.w & f->kept) << PTE_KEPT_SHIFT};
}

static inline tpt_spte pte_restore(const struct pte_format *f, tpt_spte leaf)
{
	return (tpt_spte){(leaf.w & ~(f->kept << PTE_KEPT_SHIFT)) |
			  (leaf.w >> PTE_KEPT_SHIFT & f->kept)};
}

/* May code run from the leaf, now or, if it is tracked, as soon as that ends? */
static inline bool pte_is_exec(const struct pte_format *f, tpt_spte leaf)
{
	return f->exec ? leaf.w & (f->exec | (f->kept & f->exec) << PTE_KEPT_SHIFT)
		       : !(leaf.w & f->nx);
}

/* The same leaf with that as told. */
static inline tpt_spte pte_with_exec(const struct pte_format *f, tpt_spte leaf, bool exec)
{
	uint64_t x = pte_is_tracked(f, leaf) ? f->exec << PTE_KEPT_SHIFT : f->exec;

	return (tpt_spte){exec ? (leaf.w | x) & ~f->nx : (leaf.w & ~x) | f->nx};
}

static inline tpt_spte pte_make_leaf(const struct pte_format *f, const struct pte_leaf *leaf)
{
	uint64_t w = f->leaf | leaf->memtype | leaf->pfn.n << TPT_PAGE_SHIFT;

	if (leaf->nx)
		w = pte_with_exec(f, (tpt_spte){w}, false).w;
	if (leaf->accessed)
		w |= f->accessed;
	if (leaf->level > TPT_LEVEL_4K)
		w |= PTE_PS;
	if (leaf->host_writable)
		w |= f->host_writable;
	/* D is set at once: the backing was told, and no processor need come back to set it. */
	if (leaf->host_writable && leaf->write)
		w |= f->writable;
	if (leaf->accessed || !f->kept)
		return (tpt_spte){w};
	/* Nobody has used it: without A the first access must tell. */
	return pte_age(f, (tpt_spte){w});
}

/* Does the leaf let this access (TPT_ACC_*) through? */
static inline bool pte_allows(const struct pte_format *f, tpt_spte leaf, unsigned int access)
{
	if (pte_is_tracked(f, leaf))
		return false;
	if ((access & TPT_ACC_WRITE) && !(leaf.w & f->write))
		return false;
	if (access & TPT_ACC_EXEC)
		return f->exec ? leaf.w & f->exec : !(leaf.w & f->nx);
	return true;
}

/* MMIO entries: GFN in bits 51:12, 19 bits of the memslots' generation around it. */
#define PTE_MMIO_GEN_LOW_SHIFT	3
#define PTE_MMIO_GEN_LOW_BITS	8
#define PTE_MMIO_GEN_HIGH_SHIFT 52
#define PTE_MMIO_GEN_HIGH_BITS	11
#define PTE_MMIO_GEN_MASK	((1u << (PTE_MMIO_GEN_LOW_BITS + PTE_MMIO_GEN_HIGH_BITS)) - 1)

tpt_spte pte_make_mmio(const struct pte_format *f, tpt_gfn gfn, uint32_t generation,
		       unsigned int access);
uint32_t pte_mmio_generation(tpt_spte mmio);
tpt_gfn pte_mmio_gfn(const struct pte_format *f, tpt_spte mmio);

#endif
