// SPDX-License-Identifier: BSD-2-Clause
/*
 * A vCPU's dirty ring: pushed by the vCPU, collected by the VMM, reset by whoever watches the pages
 * again. No lock, and no line that two of them write. Never write-protects anything.
 */
#include "mmu/slots/slots.h"

static uint32_t read_counter(const _Atomic uint32_t *counter)
{
	return atomic_load_explicit((_Atomic uint32_t *)counter, memory_order_acquire);
}

int ring_create(struct vm_base *base, uint32_t size, uint32_t reserved, struct dirty_ring **out)
{
	struct dirty_ring *ring = mem_alloc(base, sizeof(*ring));

	if (!ring)
		return -ERR_NOMEM;
	ring->entry = mem_alloc(base, size * sizeof(*ring->entry));
	if (!ring->entry) {
		mem_free(base, ring, sizeof(*ring));
		return -ERR_NOMEM;
	}
	ring->size = size;
	ring->soft = size - reserved;
	*out = ring;
	return 0;
}

void ring_destroy(struct vm_base *base, struct dirty_ring *ring)
{
	if (!ring)
		return;
	mem_free(base, ring->entry, ring->size * sizeof(*ring->entry));
	mem_free(base, ring, sizeof(*ring));
}

uint32_t ring_used(const struct dirty_ring *ring)
{
	uint32_t reset = read_counter(&ring->reset);

	return read_counter(&ring->pushed) - reset;
}

bool ring_is_full(const struct dirty_ring *ring)
{
	return ring_used(ring) >= ring->size;
}

bool ring_is_almost_full(const struct dirty_ring *ring)
{
	return ring_used(ring) >= ring->soft;
}

bool ring_push(struct dirty_ring *ring, const struct memslot *slot, tpt_gfn gfn)
{
	uint32_t n = atomic_load_explicit(&ring->pushed, memory_order_relaxed);

	if (ring_is_full(ring))
		return false;
	ring->entry[n & (ring->size - 1)] = (struct tpt_dirty_gfn){
		.as_id = slot->as_id, .slot = slot->id, .offset = gfn - slot->base_gfn};
	atomic_store_explicit(&ring->pushed, n + 1, memory_order_release);
	return true;
}

uint32_t ring_collect(struct dirty_ring *ring, struct tpt_dirty_gfn *out, uint32_t max)
{
	uint32_t from = atomic_load_explicit(&ring->collected, memory_order_relaxed);
	uint32_t n = read_counter(&ring->pushed) - from;

	if (n > max)
		n = max;
	for (uint32_t i = 0; i < n; i++)
		out[i] = ring->entry[(from + i) & (ring->size - 1)];
	atomic_store_explicit(&ring->collected, from + n, memory_order_release);
	return n;
}

struct ring_run ring_next_run(const struct dirty_ring *ring, uint32_t from, uint32_t most)
{
	struct ring_run run = {0};

	for (; run.entries < most; run.entries++) {
		const struct tpt_dirty_gfn *e =
			&ring->entry[(from + run.entries) & (ring->size - 1)];

		if (!run.entries)
			run = (struct ring_run){
				.as_id = e->as_id, .slot = e->slot, .offset = e->offset};
		if (e->as_id != run.as_id || e->slot != run.slot || e->offset < run.offset ||
		    e->offset - run.offset >= 64)
			break;
		run.mask |= 1ull << (e->offset - run.offset);
	}
	return run;
}
