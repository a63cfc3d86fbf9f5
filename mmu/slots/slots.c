// SPDX-License-Identifier: BSD-2-Clause
/* Birth and death of what a VM knows of guest-physical memory. Never changes it in between. */
#include "mmu/slots/slots.h"

void slots_init(struct slots *slots, struct vm_base *base, uint32_t address_spaces,
		uint32_t gpa_bits, bool private_memory)
{
	slots->base = base;
	slots->changes = 0;
	slots->in_flight = 0;
	slots->address_spaces = address_spaces;
	slots->gpa_bits = gpa_bits;
	slots->private_memory = private_memory;
	slots->dirty_initially_set = false;
	slots->attributes = (struct interval_tree){NULL, 0};
	slots->gmems = NULL;
	slots->write_notifiers = NULL;
	slots->in_progress = (struct interval_tree){NULL, 0};
	slots->has_structural = false;
	slots->nr_ended = 0;
	slots->forgotten_at = 0;
	for (unsigned int i = 0; i < INVAL_RING; i++)
		slots->ended_at[i] = 0;
	for (uint32_t i = 0; i < MAX_ADDRESS_SPACES; i++)
		slots->set[i] = (struct memslot_set){.generation = i};
}

void slots_destroy(struct slots *slots)
{
	struct tpt_gmem *next;

	for (uint32_t i = 0; i < MAX_ADDRESS_SPACES; i++)
		slot_free_all(slots, &slots->set[i]);
	attr_destroy(slots);
	for (struct tpt_gmem *gmem = slots->gmems; gmem; gmem = next) {
		next = gmem->next;
		mem_free(slots->base, gmem, sizeof(*gmem));
	}
	slots->gmems = NULL;
}

/* Is @n where [start, end) stands in @tree? */
static bool is_in(const struct interval_tree *tree, const struct tpt_interval *n, uint64_t start,
		  uint64_t end)
{
	struct interval_key key = {n->start, n->order};

	return n->start == start && n->end == end && interval_from(tree, key, start, end) == n;
}

static const char *slot_audit(const struct slots *slots, uint32_t as_id, const struct memslot *s)
{
	const struct memslot_set *set = &slots->set[as_id];

	if (s->as_id != as_id)
		return "slots: one is in another's address space";
	if (!is_in(&set->by_gfn, &s->by_gfn, s->base_gfn, s->base_gfn + s->npages))
		return "slots: one is not found by its GFN";
	if (!is_in(&set->by_id, &s->by_id, s->id, s->id + 1))
		return "slots: one is not found by its id";
	if (!is_in(&set->by_hva, &s->by_hva, s->hva.a, s->hva.a + (s->npages << TPT_PAGE_SHIFT)))
		return "slots: one is not found by its HVA";
	if (!s->gmem != !(s->flags & TPT_MEM_GUEST_MEMFD))
		return "slots: the gmem contradicts the flags";
	if (s->gmem &&
	    !is_in(&s->gmem->bound, &s->by_gmem, s->gmem_index, s->gmem_index + s->npages))
		return "slots: one is not found by its gmem";
	return NULL;
}

/* Counts the slots that have a gmem. */
static const char *set_audit(const struct slots *slots, uint32_t as_id, uint64_t *bound)
{
	const struct memslot_set *set = &slots->set[as_id];
	const char *wrong = interval_audit(&set->by_gfn);
	const struct memslot *s, *before = NULL;
	struct interval_key from = {0, 0};

	if (!wrong)
		wrong = interval_audit(&set->by_id);
	if (!wrong)
		wrong = interval_audit(&set->by_hva);
	while (!wrong && (s = slot_from_gfn(slots, as_id, from, 0, UINT64_MAX))) {
		if (before && s->base_gfn < before->base_gfn + before->npages)
			wrong = "slots: two overlap";
		else
			wrong = slot_audit(slots, as_id, s);
		*bound += s->gmem != NULL;
		from = slot_behind_gfn(s);
		before = s;
	}
	if (!wrong && (set->by_id.nr != set->by_gfn.nr || set->by_hva.nr != set->by_gfn.nr))
		wrong = "slots: by id or by HVA there are more";
	if (!wrong && set->generation % slots->address_spaces != as_id)
		wrong = "slots: the generation is not one of this address space";
	return wrong;
}

const char *slots_audit(const struct slots *slots)
{
	const char *wrong = attr_audit(slots);
	uint64_t bound = 0;

	if (!wrong)
		wrong = interval_audit(&slots->in_progress);
	for (uint32_t i = 0; i < slots->address_spaces && !wrong; i++)
		wrong = set_audit(slots, i, &bound);
	for (const struct tpt_gmem *g = slots->gmems; g && !wrong; g = g->next) {
		wrong = interval_audit(&g->bound);
		bound -= g->bound.nr;
	}
	if (!wrong && bound)
		wrong = "slots: in the gmems there are more, or fewer";
	return wrong;
}
