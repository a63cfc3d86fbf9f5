// SPDX-License-Identifier: BSD-2-Clause
/* How large a leaf slots and attributes permit. Derived each time; never stored, never counted. */
#include "mmu/slots/slots.h"

static bool level_fits(const struct slots *slots, const struct memslot *slot, tpt_gfn gfn,
		       bool private_, enum tpt_level level)
{
	uint64_t pages = tpt_level_pages(level);
	tpt_gfn start = tpt_gfn_round(gfn, level);
	uint64_t behind = private_ ? slot->gmem_index : slot->hva.a >> TPT_PAGE_SHIFT;
	bool any;

	if ((slot->base_gfn ^ behind) & (pages - 1))
		return false;
	if (start < slot->base_gfn || start + pages > slot->base_gfn + slot->npages)
		return false;
	if (slot_tracks_any(slot, gfn, level))
		return false;
	return attr_uniform(slots, start, start + pages, &any);
}

enum tpt_level slot_max_level(const struct slots *slots, const struct memslot *slot, tpt_gfn gfn,
			      bool private_, enum tpt_level cap)
{
	unsigned int level = TPT_LEVEL_4K;

	/* A log of pages needs entries of pages. */
	if (slot_logs_dirty(slot))
		return TPT_LEVEL_4K;
	/* Each condition of a large block holds of the smaller one in it: the first refusal ends.
	 */
	while (level < cap && level_fits(slots, slot, gfn, private_, level + 1))
		level++;
	return level;
}
