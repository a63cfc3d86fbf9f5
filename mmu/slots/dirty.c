// SPDX-License-Identifier: BSD-2-Clause
/*
 * Dirty bitmaps of memslots. Laid out so that 512 aligned GFNs are one cache line: two vCPUs that
 * dirty pages of different leaf tables write no common line. Never write-protects anything.
 */
#include "mmu/slots/slots.h"

size_t dirty_bytes(tpt_gfn base_gfn, uint64_t npages)
{
	uint64_t bits = base_gfn + npages - dirty_base(base_gfn);

	return (size_t)((bits + CACHE_LINE * 8 - 1) / (CACHE_LINE * 8) * CACHE_LINE);
}

int dirty_create(struct slots *slots, const struct memslot *slot, bool all_set,
		 _Atomic uint64_t **dirty)
{
	size_t bytes = dirty_bytes(slot->base_gfn, slot->npages);

	*dirty = mem_alloc(slots->base, bytes);
	if (!*dirty)
		return -ERR_NOMEM;
	for (size_t i = 0; all_set && i < bytes / sizeof(uint64_t); i++)
		atomic_store_explicit(&(*dirty)[i], ~0ull, memory_order_relaxed);
	return 0;
}

void dirty_destroy(struct slots *slots, const struct memslot *slot, _Atomic uint64_t *dirty)
{
	if (dirty)
		mem_free(slots->base, dirty, dirty_bytes(slot->base_gfn, slot->npages));
}

static void put(_Atomic uint64_t *word, uint64_t mask)
{
	/* Most pages are dirty already: looking first keeps the line shared. */
	if (mask & ~atomic_load_explicit(word, memory_order_relaxed))
		atomic_fetch_or_explicit(word, mask, memory_order_seq_cst);
}

void slot_mark_dirty_word(const struct memslot *slot, uint64_t page, uint64_t mask)
{
	uint64_t bit = slot->base_gfn + page - dirty_base(slot->base_gfn);
	_Atomic uint64_t *word = &slot->dirty[bit / 64];
	unsigned int shift = bit % 64;

	put(word, mask << shift);
	/* The caller's words begin at any page, ours at a leaf table's. */
	if (shift && mask >> (64 - shift))
		put(word + 1, mask >> (64 - shift));
}

/* Which of 64 pages from @page of the slot on exist. */
static uint64_t existing(const struct memslot *slot, uint64_t page)
{
	uint64_t left = slot->npages - page;

	return left < 64 ? (1ull << left) - 1 : ~0ull;
}

static uint64_t take(_Atomic uint64_t *word, uint64_t mask, bool clear)
{
	uint64_t old = atomic_load_explicit(word, memory_order_relaxed) & mask;

	return old && clear ? atomic_fetch_and_explicit(word, ~mask, memory_order_seq_cst) & mask
			    : old;
}

uint64_t slot_dirty_word(const struct memslot *slot, uint64_t page, uint64_t mask, bool clear)
{
	uint64_t bit = slot->base_gfn + page - dirty_base(slot->base_gfn);
	_Atomic uint64_t *word = &slot->dirty[bit / 64];
	unsigned int shift = bit % 64;
	uint64_t found;

	mask &= existing(slot, page);
	found = take(word, mask << shift, clear) >> shift;
	/* The caller's words begin at the slot's first page, ours at a leaf table's. */
	if (shift && mask >> (64 - shift))
		found |= take(word + 1, mask >> (64 - shift), clear) << (64 - shift);
	return found;
}
