/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The physical-address metadata table: for every 4 KiB of TDX memory who owns it, as what, since
 * when it is blocked, and who holds it now. It never looks into a page or into a Secure EPT.
 *
 * One entry per page and size; the page's metadata live at exactly one level:
 *
 *	1G.PT == REG -> there;  else 2M.PT == REG -> there;  else at 4K
 *
 * An explicit operand is found by a walk that holds the 1G and 2M entries shared and the leaf as
 * asked. An implicit access (its owner is already known and held) locks the leaf alone.
 */
#ifndef TDX_MODULE_PAMT_H
#define TDX_MODULE_PAMT_H

#include "tdx/module/locks.h"
#include "tdx/module/module.h"

#define PAMT_LEVELS 3
#define PAGE_BYTES  4096ull
#define GIB	    (1ull << 30)

/* Bytes mapped by an entry of @level. */
static inline uint64_t level_size(unsigned int level)
{
	return PAGE_BYTES << (9 * level);
}

/* 16 bytes, as in the module. PT and BEPOCH are read by some without the lock, hence all atomic. */
struct pamt_entry {
	sharex_hp_t lock;
	_Atomic uint8_t pt;
	_Atomic uint8_t owner_high; /* TDR PA 51:44 */
	_Atomic uint32_t owner_low; /* TDR PA 43:12 */
	_Atomic uint64_t bepoch;    /* TD epoch of the last block */
};
static_assert(sizeof(struct pamt_entry) == 16, "a PAMT entry is 16 bytes");

struct tdmr {
	struct tdx_tdmr_config config;
	mutex8_t init_lock;
	_Atomic uint64_t next_init; /* HPA of the first 4 KiB page whose entry is not initialized */
	struct pamt_entry *entries[PAMT_LEVELS];
	void **objects; /* per 4 KiB page: the module's structure behind a TDR or TDVPR page */
	_Atomic(struct line_page *) *line_blocks; /* per 2 MiB: lines_page.c */
};

/* A page's metadata, found and held. Filled by the functions below, given back by pamt_release().
 */
struct pamt_ref {
	struct pamt_entry *held[PAMT_LEVELS]; /* held[level] is the leaf; higher ones are shared */
	struct pamt_entry *entry;	      /* the leaf; NULL: nothing is held */
	void **object;			      /* the 4 KiB page's structure */
	uint64_t hpa;
	uint8_t level;
	enum lock_mode mode;
};

static inline uint64_t pamt_owner(const struct pamt_entry *entry)
{
	return ((uint64_t)atomic_load(&entry->owner_high) << 32 | atomic_load(&entry->owner_low))
	       << 12;
}

static inline void pamt_set(struct pamt_entry *entry, enum tdx_page_type pt, uint64_t owner)
{
	atomic_store(&entry->owner_high, (uint8_t)(owner >> 44));
	atomic_store(&entry->owner_low, (uint32_t)(owner >> 12));
	atomic_store(&entry->pt, (uint8_t)pt);
}

/* Give the page back; owner and BEPOCH stay as they were. */
static inline void pamt_free(struct pamt_entry *entry)
{
	atomic_store(&entry->pt, TDX_PT_NDA);
}

int pamt_init(struct tdx_module *m);
/* Frees the tables; what the objects point to is the caller's. */
void pamt_exit(struct tdx_module *m);

/* The TDMR that @hpa is in, initialized or not; NULL if none. */
struct tdmr *pamt_tdmr(struct tdx_module *m, uint64_t hpa);

/* Entry covering @hpa at @level in any TDMR, initialized or not; NULL if none. */
struct pamt_entry *pamt_entry_at(struct tdx_module *m, uint64_t hpa, unsigned int level);

/* The structure behind the 4 KiB page @hpa of a TDMR; NULL if there is none. */
void *pamt_object(struct tdx_module *m, uint64_t hpa);

/* Is @hpa inside a fully initialized 1 GiB block of a TDMR? */
bool pamt_covers(struct tdx_module *m, uint64_t hpa);

/* Alignment to @size, no key id, below 2^52: the form of a private page operand. */
bool pamt_operand_form(const struct tdx_module *m, uint64_t hpa, uint64_t size);

/*
 * Walk to the leaf of @hpa and lock it as @mode, not below @stop_level. False: a lock was taken by
 * someone else; nothing is held then.
 */
bool pamt_walk(struct tdx_module *m, uint64_t hpa, enum lock_mode mode, unsigned int stop_level,
	       struct pamt_ref *ref);

/*
 * An explicit 4 KiB page operand that must have type @pt; @op names it in the status. 0, or
 * OPERAND_INVALID, ADDR_RANGE_ERROR, BUSY, METADATA_INCORRECT in that order; nothing held then.
 */
uint64_t pamt_take_page(struct tdx_module *m, uint64_t hpa, unsigned int op, enum lock_mode mode,
			enum tdx_page_type pt, struct pamt_ref *ref);

/* As pamt_take_page() for a free page that will hold a table of the module: memory must stand
 * behind it. */
uint64_t pamt_take_new_page(struct tdx_module *m, uint64_t hpa, unsigned int op,
			    struct pamt_ref *ref);

/* A wholly free range of @level 0 or 1, exclusive. Results as above. */
uint64_t pamt_take_free_range(struct tdx_module *m, uint64_t hpa, unsigned int level,
			      unsigned int op, struct pamt_ref *ref);

/* Lock the leaf of a page whose level is known, no parents. False: taken. */
bool pamt_take_implicit(struct tdx_module *m, uint64_t hpa, unsigned int level, enum lock_mode mode,
			struct pamt_ref *ref);

/* Unlock whatever @ref holds, leaf first; a ref that holds nothing is fine. */
void pamt_release(struct pamt_ref *ref);

/* Merge 512 leaves below @level 1 or 2 at @hpa into one, or split one. False: the large entry is
 * taken. */
bool pamt_promote(struct tdx_module *m, uint64_t hpa, unsigned int level);
bool pamt_demote(struct tdx_module *m, uint64_t hpa, unsigned int level);

#endif
