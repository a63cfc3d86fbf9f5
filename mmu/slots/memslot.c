// SPDX-License-Identifier: BSD-2-Clause
/*
 * Memslots: looking them up, and the rules under which they come, move and go (those of
 * KVM_SET_USER_MEMORY_REGION2). Never zaps what a slot maps: that is for who calls.
 */
#include "mmu/slots/slots.h"

#define MEM_FLAGS (TPT_MEM_LOG_DIRTY | TPT_MEM_READONLY | TPT_MEM_GUEST_MEMFD)

/* ---- lookup ---- */

uint32_t slot_first_above(const struct memslot_set *set, tpt_gfn gfn)
{
	uint32_t low = 0, high = set->nr;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct memslot *slot = set->slot[middle];

		if (slot->base_gfn + slot->npages <= gfn)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct memslot *slot_find(const struct slots *slots, uint32_t as_id, tpt_gfn gfn)
{
	const struct memslot_set *set = &slots->set[as_id];
	uint32_t i = slot_first_above(set, gfn);

	return i < set->nr && set->slot[i]->base_gfn <= gfn ? set->slot[i] : NULL;
}

struct memslot *slot_find_filling(tpt_gfn gfn, struct slot_cache *cache)
{
	const struct memslot_set *set = cache->set;
	uint32_t i = slot_first_above(set, gfn);
	tpt_gfn start = i ? set->slot[i - 1]->base_gfn + set->slot[i - 1]->npages : 0;
	tpt_gfn end = i < set->nr ? set->slot[i]->base_gfn : UINT64_MAX;
	struct memslot *slot = NULL;

	if (end <= gfn) {
		slot = set->slot[i];
		start = slot->base_gfn;
		end = start + slot->npages;
	}
	*cache = (struct slot_cache){set, set->generation, start, end - start, slot};
	return slot;
}

/* Index in by_id of the first slot with at least this id. */
static uint32_t id_index(const struct memslot_set *set, uint32_t id)
{
	uint32_t low = 0, high = set->nr;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (set->by_id[middle]->id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct memslot *slot_by_id(const struct slots *slots, uint32_t as_id, uint32_t id)
{
	const struct memslot_set *set = &slots->set[as_id];
	uint32_t i = id_index(set, id);

	return i < set->nr && set->by_id[i]->id == id ? set->by_id[i] : NULL;
}

bool slots_cover(const struct slots *slots, uint32_t as_id, tpt_gfn start, tpt_gfn end)
{
	const struct memslot_set *set = &slots->set[as_id];

	for (uint32_t i = slot_first_above(set, start); start < end; i++) {
		if (i >= set->nr || set->slot[i]->base_gfn > start)
			return false;
		start = set->slot[i]->base_gfn + set->slot[i]->npages;
	}
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
	const struct memslot_set *set = &slots->set[r->as_id];
	tpt_gfn start = r->gpa.a >> TPT_PAGE_SHIFT;
	tpt_gfn end = start + (r->size >> TPT_PAGE_SHIFT);

	if (r->gpa.a + r->size > 1ull << slots->gpa_bits)
		return refuse(slots, r, -ERR_INVAL, r->gpa.a + r->size,
			      "end is beyond the guest-physical width, shared bit excluded");

	for (uint32_t i = slot_first_above(set, start); i < set->nr; i++) {
		const struct memslot *other = set->slot[i];

		if (other->base_gfn >= end)
			break;
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
	slot->base_gfn = r->gpa.a >> TPT_PAGE_SHIFT;
	slot->npages = r->size >> TPT_PAGE_SHIFT;
	slot->hva = r->hva;
	slot->as_id = r->as_id;
	slot->id = r->slot;
	slot->flags = r->flags;
	slot->invalid = false;
	slot->gmem = r->gmem;
	slot->gmem_index = r->gmem ? r->gmem_offset >> TPT_PAGE_SHIFT : 0;
	slot->gmem_next = NULL;
	slot->max_level[0] = level_congruent(slot->base_gfn, slot->hva.a >> TPT_PAGE_SHIFT);
	slot->max_level[1] = level_congruent(slot->base_gfn, slot->gmem_index);
	slot->dirty = NULL;
	slot->track = NULL;
	return slot;
}

int slot_update_prepare(struct slots *slots, const struct tpt_memory_region *region,
			struct slot_update *update)
{
	const struct memslot_set *set;
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

	set = &slots->set[region->as_id];
	update->new_ = slot_alloc(slots, region);
	if (!update->new_)
		goto nomem;
	if (region->flags & TPT_MEM_LOG_DIRTY &&
	    dirty_create(slots, update->new_, slots->dirty_initially_set, &update->dirty))
		goto nomem;
	if (update->change == SLOT_CREATE && set->nr == set->room) {
		update->room = 2 * set->room;
		update->array = mem_alloc(slots->base, 2ul * update->room * sizeof(*set->slot));
		if (!update->array)
			goto nomem;
	}
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
	if (update->array)
		mem_free(slots->base, update->array, 2ul * update->room * sizeof(*update->array));
	*update = (struct slot_update){.change = SLOT_SAME};
}

void slot_set_invalid(struct slots *slots, struct memslot *slot, bool invalid)
{
	if (slot->invalid == invalid)
		return;
	slot->invalid = invalid;
	slots_count_change(slots, invalid ? 1 : -1);
}

/* Shifting by a chain of exchanges: compilers make a library call of a plain move. */
static void array_insert(struct memslot **array, uint32_t nr, uint32_t at, struct memslot *slot)
{
	for (uint32_t i = at; i <= nr; i++) {
		struct memslot *next = array[i];

		array[i] = slot;
		slot = next;
	}
}

static void array_remove(struct memslot **array, uint32_t nr, uint32_t at)
{
	struct memslot *slot = NULL;

	for (uint32_t i = nr; i-- > at;) {
		struct memslot *next = array[i];

		array[i] = slot;
		slot = next;
	}
}

static void set_insert(struct memslot_set *set, struct memslot *slot)
{
	array_insert(set->slot, set->nr, slot_first_above(set, slot->base_gfn), slot);
	array_insert(set->by_id, set->nr, id_index(set, slot->id), slot);
	set->nr++;
}

static void set_remove(struct memslot_set *set, const struct memslot *slot)
{
	array_remove(set->slot, set->nr, slot_first_above(set, slot->base_gfn));
	array_remove(set->by_id, set->nr, id_index(set, slot->id));
	set->nr--;
}

static void set_grow(struct slots *slots, struct memslot_set *set, struct memslot **array,
		     uint32_t room)
{
	for (uint32_t i = 0; i < set->nr; i++) {
		array[i] = set->slot[i];
		array[room + i] = set->by_id[i];
	}
	mem_free(slots->base, set->slot, 2ul * set->room * sizeof(*set->slot));
	set->slot = array;
	set->by_id = array + room;
	set->room = room;
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
	if (update->array)
		set_grow(slots, set, update->array, update->room);
	if (update->old) {
		set->generation += slots->address_spaces;
		gmem_unbind(update->old);
		set_remove(set, update->old);
		dirty_destroy(slots, update->old, update->old->dirty);
		track_destroy(slots, update->old);
		mem_free(slots->base, update->old, sizeof(*update->old));
	}
	if (update->new_) {
		update->new_->dirty = update->dirty;
		set_insert(set, update->new_);
		gmem_bind(update->new_);
	}
	*update = (struct slot_update){.change = SLOT_SAME};
}
