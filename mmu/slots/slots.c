// SPDX-License-Identifier: BSD-2-Clause
/* Birth and death of what a VM knows of guest-physical memory. Never changes it in between. */
#include "mmu/slots/slots.h"

/* Slots that an address space has room for at first. */
#define ROOM_FIRST 8

static void set_free(struct slots *slots, struct memslot_set *set)
{
	for (uint32_t i = 0; i < set->nr; i++) {
		dirty_destroy(slots, set->slot[i], set->slot[i]->dirty);
		track_destroy(slots, set->slot[i]);
		mem_free(slots->base, set->slot[i], sizeof(struct memslot));
	}
	if (set->slot)
		mem_free(slots->base, set->slot, 2ul * set->room * sizeof(*set->slot));
	set->slot = set->by_id = NULL;
	set->nr = set->room = 0;
}

static bool set_init(struct slots *slots, struct memslot_set *set, uint32_t as_id, uint32_t room)
{
	set->nr = 0;
	set->room = room;
	set->generation = as_id;
	set->changed = 0;
	set->slot = NULL;
	if (room)
		set->slot = mem_alloc(slots->base, 2ul * room * sizeof(*set->slot));
	set->by_id = set->slot ? set->slot + room : NULL;
	return set->slot || !room;
}

int slots_init(struct slots *slots, struct vm_base *base, uint32_t address_spaces,
	       uint32_t gpa_bits, bool private_memory)
{
	slots->base = base;
	slots->changes = 0;
	slots->in_flight = 0;
	slots->address_spaces = address_spaces;
	slots->gpa_bits = gpa_bits;
	slots->private_memory = private_memory;
	slots->attributes = NULL;
	slots->nr_private_ranges = 0;
	slots->gmems = NULL;
	slots->write_notifiers = NULL;
	slots->in_progress = NULL;
	slots->has_structural = false;
	slots->dirty_initially_set = false;
	slots->nr_ended = 0;
	slots->forgotten_at = 0;
	for (unsigned int i = 0; i < INVAL_RING; i++)
		slots->ended_at[i] = 0;

	for (uint32_t i = 0; i < MAX_ADDRESS_SPACES; i++) {
		if (set_init(slots, &slots->set[i], i, i < address_spaces ? ROOM_FIRST : 0))
			continue;
		while (i--)
			set_free(slots, &slots->set[i]);
		return -ERR_NOMEM;
	}
	return 0;
}

void slots_destroy(struct slots *slots)
{
	struct tpt_gmem *next;

	for (uint32_t i = 0; i < MAX_ADDRESS_SPACES; i++)
		set_free(slots, &slots->set[i]);
	attr_destroy(slots);
	for (struct tpt_gmem *gmem = slots->gmems; gmem; gmem = next) {
		next = gmem->next;
		mem_free(slots->base, gmem, sizeof(*gmem));
	}
	slots->gmems = NULL;
}

static const char *set_audit(const struct slots *slots, uint32_t as_id)
{
	const struct memslot_set *set = &slots->set[as_id];

	for (uint32_t i = 0; i < set->nr; i++) {
		const struct memslot *s = set->slot[i];

		if (s->as_id != as_id || slot_by_id(slots, as_id, s->id) != s)
			return "slots: one is not found by its id";
		if (i && s->base_gfn < set->slot[i - 1]->base_gfn + set->slot[i - 1]->npages)
			return "slots: out of order, or they overlap";
		if (i && set->by_id[i]->id <= set->by_id[i - 1]->id)
			return "slots: ids are out of order";
		if (!s->gmem != !(s->flags & TPT_MEM_GUEST_MEMFD))
			return "slots: the gmem contradicts the flags";
	}
	if (set->generation % slots->address_spaces != as_id)
		return "slots: the generation is not one of this address space";
	return NULL;
}

const char *slots_audit(const struct slots *slots)
{
	uint32_t bound = 0, listed = 0;
	const char *wrong = attr_audit(slots);

	for (uint32_t i = 0; i < slots->address_spaces && !wrong; i++) {
		wrong = set_audit(slots, i);
		for (uint32_t k = 0; k < slots->set[i].nr; k++)
			bound += slots->set[i].slot[k]->gmem != NULL;
	}
	for (const struct tpt_gmem *g = slots->gmems; g && !wrong; g = g->next) {
		for (const struct memslot *s = g->bound; s && !wrong; s = s->gmem_next, listed++) {
			if (s->gmem != g || slot_find(slots, s->as_id, s->base_gfn) != s)
				wrong = "gmem: a slot in its list is not one of its slots";
		}
	}
	if (!wrong && bound != listed)
		wrong = "gmem: a slot is in no gmem's list";
	return wrong;
}
