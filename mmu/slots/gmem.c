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
	g->bound = (struct interval_tree){NULL, 0};
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
	if (gmem_is_bound(gmem)) {
		const struct memslot *slot = gmem_first_slot(gmem, 0, gmem->npages);

		vm_log(slots->base, TPT_LOG_WARNING,
		       "gmem to destroy: still behind slot %u of address space %u", slot->id,
		       slot->as_id);
		return -ERR_BUSY;
	}
	*link = gmem->next;
	mem_free(slots->base, gmem, sizeof(*gmem));
	return 0;
}

int gmem_check_binding(const struct slots *slots, const struct tpt_gmem *gmem, uint64_t index,
		       uint64_t npages)
{
	const struct memslot *slot;

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
	slot = gmem_first_slot(gmem, index, index + npages);
	if (!slot)
		return 0;
	vm_log(slots->base, TPT_LOG_WARNING,
	       "gmem pages %#lx + %#lx: overlap those behind slot %u of address space %u", index,
	       npages, slot->id, slot->as_id);
	return -ERR_EXIST;
}

void gmem_bind(struct memslot *slot)
{
	if (slot->gmem)
		interval_insert(&slot->gmem->bound, &slot->by_gmem, slot->gmem_index,
				slot->gmem_index + slot->npages, 0);
}

void gmem_unbind(struct memslot *slot)
{
	if (slot->gmem)
		interval_remove(&slot->gmem->bound, &slot->by_gmem);
}

struct memslot *gmem_first_slot(const struct tpt_gmem *gmem, uint64_t start, uint64_t end)
{
	struct tpt_interval *n = interval_first(&gmem->bound, start, end);

	return n ? container_of(n, struct memslot, by_gmem) : NULL;
}
