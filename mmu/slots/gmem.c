// SPDX-License-Identifier: BSD-2-Clause
/*
 * guest_memfd-like private backing: which pages of which gmem stand behind which slot. Never asks
 * a gmem for a page and never frees one.
 */
#include "mmu/slots/slots.h"

int gmem_create(struct slots *slots, uint64_t bytes, const struct tpt_gmem_ops *ops, void *ctx,
		struct tpt_gmem **gmem)
{
	struct tpt_gmem *g;

	if (!bytes || bytes & (TPT_PAGE_SIZE - 1)) {
		vm_log(slots->base, TPT_LOG_WARNING,
		       "gmem of %#lx bytes: not a multiple of 4 KiB above 0", bytes);
		return -ERR_INVAL;
	}
	if (!ops || ops->size < sizeof(*ops) || !ops->get_page) {
		vm_log(slots->base, TPT_LOG_WARNING,
		       "gmem operations of %lu bytes: %lu and a get_page() are needed",
		       ops ? ops->size : 0, sizeof(*ops));
		return -ERR_INVAL;
	}
	g = mem_alloc(slots->base, sizeof(*g));
	if (!g)
		return -ERR_NOMEM;

	g->base = slots->base;
	g->ops = ops;
	g->ctx = ctx;
	g->npages = bytes >> TPT_PAGE_SHIFT;
	g->bound = NULL;
	g->next = slots->gmems;
	slots->gmems = g;
	*gmem = g;
	return 0;
}

int gmem_destroy(struct slots *slots, struct tpt_gmem *gmem)
{
	struct tpt_gmem **link = &slots->gmems;

	while (*link && *link != gmem)
		link = &(*link)->next;
	if (!*link) {
		vm_log(slots->base, TPT_LOG_WARNING, "gmem to destroy: not one of this VM");
		return -ERR_INVAL;
	}
	if (gmem->bound) {
		vm_log(slots->base, TPT_LOG_WARNING,
		       "gmem to destroy: still behind slot %u of address space %u", gmem->bound->id,
		       gmem->bound->as_id);
		return -ERR_BUSY;
	}
	*link = gmem->next;
	mem_free(slots->base, gmem, sizeof(*gmem));
	return 0;
}

int gmem_check_binding(const struct slots *slots, const struct tpt_gmem *gmem, uint64_t index,
		       uint64_t npages)
{
	if (gmem->base != slots->base) {
		vm_log(slots->base, TPT_LOG_WARNING, "gmem of %#lx pages: belongs to another VM",
		       gmem->npages);
		return -ERR_INVAL;
	}
	if (index > gmem->npages || npages > gmem->npages - index) {
		vm_log(slots->base, TPT_LOG_WARNING,
		       "gmem pages %#lx + %#lx: beyond the gmem's %#lx pages", index, npages,
		       gmem->npages);
		return -ERR_INVAL;
	}
	for (const struct memslot *slot = gmem->bound; slot; slot = slot->gmem_next) {
		if (index >= slot->gmem_index + slot->npages || slot->gmem_index >= index + npages)
			continue;
		vm_log(slots->base, TPT_LOG_WARNING,
		       "gmem pages %#lx + %#lx: overlap those behind slot %u of address space %u",
		       index, npages, slot->id, slot->as_id);
		return -ERR_EXIST;
	}
	return 0;
}

void gmem_bind(struct memslot *slot)
{
	struct tpt_gmem *gmem = slot->gmem;

	if (!gmem)
		return;
	slot->gmem_next = gmem->bound;
	gmem->bound = slot;
}

void gmem_unbind(struct memslot *slot)
{
	struct memslot **link;

	if (!slot->gmem)
		return;
	link = &slot->gmem->bound;
	while (*link != slot)
		link = &(*link)->gmem_next;
	*link = slot->gmem_next;
}
