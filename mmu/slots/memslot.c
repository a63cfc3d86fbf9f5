// SPDX-License-Identifier: BSD-2-Clause
/*
 * Memslots: looking them up, and the rules under which they come, move and go (those of
 * KVM_SET_USER_MEMORY_REGION2). Never zaps what a slot maps: that is for who calls.
 */
#include "mmu/slots/slots.h"

#define MEM_FLAGS (TPT_MEM_LOG_DIRTY | TPT_MEM_READONLY | TPT_MEM_GUEST_MEMFD)

/* ---- lookup ---- */

static struct memslot *of_gfn(struct tpt_interval *n)
{
	return n ? container_of(n, struct memslot, by_gfn) : NULL;
}

struct memslot *slot_find(const struct slots *slots, uint32_t as_id, tpt_gfn gfn)
{
	tpt_gfn start, end;

	return of_gfn(interval_at(&slots->set[as_id].by_gfn, gfn, &start, &end));
}

struct memslot *slot_find_filling(tpt_gfn gfn, struct slot_cache *cache)
{
	const struct memslot_set *set = cache->set;
	tpt_gfn end;

	cache->slot = of_gfn(interval_at(&set->by_gfn, gfn, &cache->start, &end));
	cache->npages = end - cache->start;
	cache->generation = set->generation;
	return cache->slot;
}

struct memslot *slot_by_id(const struct slots *slots, uint32_t as_id, uint32_t id)
{
	uint64_t start, end;
	struct tpt_interval *n = interval_at(&slots->set[as_id].by_id, id, &start, &end);

	return n ? container_of(n, struct memslot, by_id) : NULL;
}

struct memslot *slot_from_gfn(const struct slots *slots, uint32_t as_id, struct interval_key from,
			      tpt_gfn start, tpt_gfn end)
{
	return of_gfn(interval_from(&slots->set[as_id].by_gfn, from, start, end));
}

struct memslot *slot_from_hva(const struct slots *slots, uint32_t as_id, struct interval_key from,
			      tpt_hva start, tpt_hva end)
{
	struct tpt_interval *n = interval_from(&slots->set[as_id].by_hva, from, start.a, end.a);

	return n ? container_of(n, struct memslot, by_hva) : NULL;
}

bool slots_cover(const struct slots *slots, uint32_t as_id, tpt_gfn start, tpt_gfn end)
{
	tpt_gfn first;

	while (start < end)
		if (!interval_at(&slots->set[as_id].by_gfn, start, &first, &start))
			return false;
	return true;
}

/* ---- rules ---- */

static int refuse(const struct slots *slots, const struct tpt_memory_region *region, int error,
		  uint64_t value, const char *rule)
{
	vm_log(slots->base, TPT_LOG_WARNING, "memory region, address space %u slot %u: %#lx: %s",
	       region->as_id, region->slot, value, rule);
	return error;
}

static bool page_aligned(uint64_t value)
{
	return !(value & (TPT_PAGE_SIZE - 1));
}

static int check_flags(const struct slots *slots, const struct tpt_memory_region *r)
{
	if (r->flags & ~MEM_FLAGS)
		return refuse(slots, r, -ERR_INVAL, r->flags, "unknown flag");
	if (r->flags & TPT_MEM_GUEST_MEMFD && r->flags & TPT_MEM_READONLY)
		return refuse(slots, r, -ERR_INVAL, r->flags, "READONLY with GUEST_MEMFD");
	if (r->flags & TPT_MEM_GUEST_MEMFD && r->flags & TPT_MEM_LOG_DIRTY)
		return refuse(slots, r, -ERR_INVAL, r->flags, "LOG_DIRTY with GUEST_MEMFD");
	if (r->flags & TPT_MEM_GUEST_MEMFD && !slots->private_memory)
		return refuse(slots, r, -ERR_INVAL, r->flags,
			      "GUEST_MEMFD in a VM without private memory");
	return 0;
}

/* Ids, alignment and wrap-around: what can be said without looking at any slot. */
static int check_numbers(const struct slots *slots, const struct tpt_memory_region *r)
{
	if (r->as_id >= slots->address_spaces)
		return refuse(slots, r, -ERR_INVAL, r->as_id, "no such address space");
	if (r->slot >= TPT_MEMSLOT_IDS)
		return refuse(slots, r, -ERR_INVAL, r->slot, "slot id beyond the highest");
	if (!page_aligned(r->size))
		return refuse(slots, r, -ERR_INVAL, r->size, "size is not a multiple of 4 KiB");
	if (!page_aligned(r->gpa.a))
		return refuse(slots, r, -ERR_INVAL, r->gpa.a, "gpa is not 4 KiB aligned");
	if (!page_aligned(r->hva.a))
		return refuse(slots, r, -ERR_INVAL, r->hva.a, "hva is not 4 KiB aligned");
	if (r->size >> TPT_PAGE_SHIFT > TPT_MEMSLOT_MAX_PAGES)
		return refuse(slots, r, -ERR_INVAL, r->size, "size is beyond 2^31 - 1 pages");
	if (r->gpa.a + r->size < r->gpa.a)
		return refuse(slots, r, -ERR_INVAL, r->gpa.a, "gpa + size wraps");
	if (r->hva.a + r->size < r->hva.a)
		return refuse(slots, r, -ERR_INVAL, r->hva.a, "hva + size wraps");
	return 0;
}

/* Where a slot wants to lie: within the guest's addresses, and on no other slot. */
static int check_place(const struct slots *slots, const struct tpt_memory_region *r)
{
	struct interval_key from = {0, 0};
	const struct memslot *other;
	tpt_gfn start = r->gpa.a >> TPT_PAGE_SHIFT;
	tpt_gfn end = start + (r->size >> TPT_PAGE_SHIFT);

	if (r->gpa.a + r->size > 1ull << slots->gpa_bits)
		return refuse(slots, r, -ERR_INVAL, r->gpa.a + r->size,
			      "end is beyond the guest-physical width, shared bit excluded");

	while ((other = slot_from_gfn(slots, r->as_id, from, start, end))) {
		from = slot_behind_gfn(other);
		/* A slot that moves may overlap where it was. */
		if (other->id == r->slot)
			continue;
		vm_log(slots->base, TPT_LOG_WARNING,
		       "memory region, address space %u slot %u: gpa %#lx + %#lx: overlaps slot %u "
		       "at %#lx",
		       r->as_id, r->slot, r->gpa.a, r->size, other->id,
		       other->base_gfn << TPT_PAGE_SHIFT);
		return -ERR_EXIST;
	}
	return 0;
}

static int check_gmem(const struct slots *slots, const struct tpt_memory_region *r)
{
	if (!(r->flags & TPT_MEM_GUEST_MEMFD)) {
		if (r->gmem)
			return refuse(slots, r, -ERR_INVAL, r->flags,
				      "flags: a gmem without GUEST_MEMFD");
		return 0;
	}
	if (!r->gmem)
		return refuse(slots, r, -ERR_INVAL, r->flags, "flags: GUEST_MEMFD without a gmem");
	if (!page_aligned(r->gmem_offset))
		return refuse(slots, r, -ERR_INVAL, r->gmem_offset,
			      "gmem_offset is not 4 KiB aligned");
	return gmem_check_binding(slots, r->gmem, r->gmem_offset >> TPT_PAGE_SHIFT,
				  r->size >> TPT_PAGE_SHIFT);
}

/* What may change of a slot that exists: its place, and only that. */
static int check_change(const struct slots *slots, const struct tpt_memory_region *r,
			const struct memslot *old)
{
	if (r->flags & TPT_MEM_GUEST_MEMFD || old->gmem)
		return refuse(slots, r, -ERR_INVAL, r->flags,
			      "flags: a slot with a gmem can only be deleted");
	if (r->gmem)
		return refuse(slots, r, -ERR_INVAL, r->flags, "flags: a gmem without GUEST_MEMFD");
	if (r->size >> TPT_PAGE_SHIFT != old->npages)
		return refuse(slots, r, -ERR_INVAL, r->size, "the size of a slot cannot change");
	if (r->hva.a != old->hva.a)
		return refuse(slots, r, -ERR_INVAL, r->hva.a, "the hva of a slot cannot change");
	if ((r->flags ^ old->flags) & TPT_MEM_READONLY)
		return refuse(slots, r, -ERR_INVAL, r->flags,
			      "flags: READONLY of a slot cannot change");
	return 0;
}

/* Which change a region asks for, after every rule has been looked at. */
static int classify(const struct slots *slots, const struct tpt_memory_region *r,
		    struct slot_update *update)
{
	struct memslot *old = NULL;
	int ret = check_flags(slots, r);

	if (!ret)
		ret = check_numbers(slots, r);
	if (ret)
		return ret;

	old = slot_by_id(slots, r->as_id, r->slot);
	if (!r->size) {
		if (!old)
			return refuse(slots, r, -ERR_INVAL, r->slot,
				      "no slot with this id to delete");
		update->change = SLOT_DELETE;
		update->old = old;
		return 0;
	}
	if (!old) {
		update->change = SLOT_CREATE;
		ret = check_place(slots, r);
		return ret ? ret : check_gmem(slots, r);
	}

	ret = check_change(slots, r, old);
	if (ret)
		return ret;
	if (r->gpa.a >> TPT_PAGE_SHIFT != old->base_gfn) {
		update->change = SLOT_MOVE;
		update->old = old;
		return check_place(slots, r);
	}
	if (r->flags != old->flags) {
		update->change = SLOT_FLAGS;
		update->old = old;
		update->flags = r->flags;
	}
	return 0;
}

/* ---- update ---- */

static struct memslot *slot_alloc(const struct slots *slots, const struct tpt_memory_region *r)
{
	struct memslot *slot = mem_alloc(slots->base, sizeof(*slot));

	if (!slot)
		return NULL;
	*slot = (struct memslot){
		.base_gfn = r->gpa.a >> TPT_PAGE_SHIFT,
		.npages = r->size >> TPT_PAGE_SHIFT,
		.hva = r->hva,
		.as_id = r->as_id,
		.id = r->slot,
		.flags = r->flags,
		.gmem = r->gmem,
		.gmem_index = r->gmem ? r->gmem_offset >> TPT_PAGE_SHIFT : 0,
	};
	slot->max_level[0] = level_congruent(slot->base_gfn, slot->hva.a >> TPT_PAGE_SHIFT);
	slot->max_level[1] = level_congruent(slot->base_gfn, slot->gmem_index);
	return slot;
}

static void slot_free(struct slots *slots, struct memslot *slot)
{
	dirty_destroy(slots, slot, slot->dirty);
	track_destroy(slots, slot);
	mem_free(slots->base, slot, sizeof(*slot));
}

int slot_update_prepare(struct slots *slots, const struct tpt_memory_region *region,
			struct slot_update *update)
{
	int ret;

	*update = (struct slot_update){.change = SLOT_SAME};
	ret = classify(slots, region, update);
	if (ret || update->change == SLOT_SAME || update->change == SLOT_DELETE)
		return ret;
	if (update->change == SLOT_FLAGS)
		return update->flags & TPT_MEM_LOG_DIRTY
			       ? dirty_create(slots, update->old, slots->dirty_initially_set,
					      &update->dirty)
			       : 0;

	update->new_ = slot_alloc(slots, region);
	if (!update->new_)
		goto nomem;
	if (region->flags & TPT_MEM_LOG_DIRTY &&
	    dirty_create(slots, update->new_, slots->dirty_initially_set, &update->dirty))
		goto nomem;
	return 0;
nomem:
	slot_update_abort(slots, update);
	return refuse(slots, region, -ERR_NOMEM, region->size, "no memory for a slot of this size");
}

void slot_update_abort(struct slots *slots, struct slot_update *update)
{
	const struct memslot *any = update->new_ ? update->new_ : update->old;

	if (update->old)
		slot_set_invalid(slots, update->old, false);
	if (any)
		dirty_destroy(slots, any, update->dirty);
	if (update->new_)
		mem_free(slots->base, update->new_, sizeof(*update->new_));
	*update = (struct slot_update){.change = SLOT_SAME};
}

void slot_set_invalid(struct slots *slots, struct memslot *slot, bool invalid)
{
	if (slot->invalid == invalid)
		return;
	slot->invalid = invalid;
	slots_count_change(slots, invalid ? 1 : -1);
}

static void set_insert(struct memslot_set *set, struct memslot *slot)
{
	interval_insert(&set->by_gfn, &slot->by_gfn, slot->base_gfn, slot->base_gfn + slot->npages,
			0);
	interval_insert(&set->by_id, &slot->by_id, slot->id, slot->id + 1, 0);
	interval_insert(&set->by_hva, &slot->by_hva, slot->hva.a,
			slot->hva.a + (slot->npages << TPT_PAGE_SHIFT), slot->id);
	gmem_bind(slot);
}

static void set_remove(struct memslot_set *set, struct memslot *slot)
{
	gmem_unbind(slot);
	interval_remove(&set->by_hva, &slot->by_hva);
	interval_remove(&set->by_id, &slot->by_id);
	interval_remove(&set->by_gfn, &slot->by_gfn);
}

void slot_free_all(struct slots *slots, struct memslot_set *set)
{
	while (set->by_gfn.root) {
		struct memslot *slot = of_gfn(set->by_gfn.root);

		set_remove(set, slot);
		slot_free(slots, slot);
	}
}

void slot_update_commit(struct slots *slots, struct slot_update *update)
{
	const struct memslot *any = update->old ? update->old : update->new_;
	struct memslot_set *set;

	if (update->change == SLOT_SAME)
		return;

	set = &slots->set[any->as_id];
	slots_count_change(slots, update->old && update->old->invalid ? -1 : 0);
	set->changed = slots->changes;
	set->generation += slots->address_spaces;
	if (update->old && update->change == SLOT_FLAGS) {
		dirty_destroy(slots, update->old, update->old->dirty);
		update->old->dirty = update->dirty;
		update->old->flags = update->flags;
		*update = (struct slot_update){.change = SLOT_SAME};
		return;
	}
	if (update->old) {
		set->generation += slots->address_spaces;
		set_remove(set, update->old);
		slot_free(slots, update->old);
	}
	if (update->new_) {
		update->new_->dirty = update->dirty;
		set_insert(set, update->new_);
	}
	*update = (struct slot_update){.change = SLOT_SAME};
}
