// SPDX-License-Identifier: BSD-2-Clause
/*
 * Which pages of a memslot no table may let the guest write, and how often each was asked for.
 * Costs nothing where nothing is tracked. Never write-protects anything.
 */
#include "mmu/slots/slots.h"

#define BLOCK 512u

/* Counts of the pages under one leaf table. */
struct track_block {
	uint32_t nr; /* pages with a count */
	uint16_t count[BLOCK];
};

static uint64_t first_block(const struct memslot *slot)
{
	return slot->base_gfn / BLOCK;
}

static size_t nr_blocks(const struct memslot *slot)
{
	return (size_t)((slot->base_gfn + slot->npages - 1) / BLOCK - first_block(slot) + 1);
}

static struct track_block *block_of(const struct memslot *slot, tpt_gfn gfn)
{
	return slot->track ? slot->track[gfn / BLOCK - first_block(slot)] : NULL;
}

bool track_is_counted(const struct memslot *slot, tpt_gfn gfn)
{
	const struct track_block *block = block_of(slot, gfn);

	return block && block->count[gfn % BLOCK];
}

bool slot_tracks_any(const struct memslot *slot, tpt_gfn gfn, enum tpt_level level)
{
	tpt_gfn start = tpt_gfn_round(gfn, level), end = start + tpt_level_pages(level);

	for (; slot->track && start < end; start += BLOCK) {
		const struct track_block *block = block_of(slot, start);

		if (block && block->nr)
			return true;
	}
	return false;
}

/* Makes the block for @gfn, and the list of blocks, if they are not there. */
static struct track_block *block_make(struct slots *slots, struct memslot *slot, tpt_gfn gfn)
{
	struct track_block **at;

	if (!slot->track)
		slot->track = mem_alloc(slots->base, nr_blocks(slot) * sizeof(*slot->track));
	if (!slot->track)
		return NULL;
	at = &slot->track[gfn / BLOCK - first_block(slot)];
	if (!*at)
		*at = mem_alloc(slots->base, sizeof(**at));
	return *at;
}

int track_add(struct slots *slots, struct memslot *slot, tpt_gfn gfn, bool *edge)
{
	struct track_block *block = block_make(slots, slot, gfn);
	uint16_t *count;

	if (!block)
		return -ERR_NOMEM;
	count = &block->count[gfn % BLOCK];
	if (*count == UINT16_MAX)
		return -ERR_OVERFLOW;
	*edge = !(*count)++;
	block->nr += *edge;
	return 0;
}

int track_remove(struct slots *slots, struct memslot *slot, tpt_gfn gfn, bool *edge)
{
	struct track_block *block = block_of(slot, gfn);

	(void)slots;
	if (!slot_is_tracked(slot, gfn))
		return -ERR_INVAL;
	*edge = !--block->count[gfn % BLOCK];
	block->nr -= *edge;
	return 0;
}

void track_destroy(struct slots *slots, struct memslot *slot)
{
	if (!slot->track)
		return;
	for (size_t i = 0; i < nr_blocks(slot); i++)
		if (slot->track[i])
			mem_free(slots->base, slot->track[i], sizeof(*slot->track[i]));
	mem_free(slots->base, slot->track, nr_blocks(slot) * sizeof(*slot->track));
	slot->track = NULL;
}
