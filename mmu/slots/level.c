// SPDX-License-Identifier: BSD-2-Clause
/* How large a leaf slots and attributes permit. Derived each time; never counted. */
#include "mmu/slots/slots.h"

enum tpt_level level_congruent(tpt_gfn base_gfn, uint64_t behind)
{
	unsigned int level = TPT_LEVEL_MAX_LEAF;

	while ((base_gfn ^ behind) & (tpt_level_pages(level) - 1))
		level--;
	return level;
}

static bool level_fits(const struct slots *slots, const struct memslot *slot, tpt_gfn gfn,
		       enum tpt_level level)
{
	uint64_t pages = tpt_level_pages(level);
	tpt_gfn start = tpt_gfn_round(gfn, level);
	bool any;

	if (start < slot->base_gfn || start + pages > slot->base_gfn + slot->npages)
		return false;
	if (slot_tracks_any(slot, gfn, level))
		return false;
	return attr_uniform(slots, start, start + pages, &any);
}

enum tpt_level level_inside(const struct slots *slots, const struct memslot *slot, tpt_gfn gfn,
			    enum tpt_level cap)
{
	/* The largest is what most are. */
	while (cap > TPT_LEVEL_4K && !level_fits(slots, slot, gfn, cap))
		cap--;
	return cap;
}
