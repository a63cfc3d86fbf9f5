// SPDX-License-Identifier: BSD-2-Clause
/*
 * Dirty rings as the VMM knows them: collected, and reset. The reset watches the pages of all rings
 * again, run by run, and flushes once an address space; touches direct trees only.
 */
#include <triptych/dirty.h>

#include "mmu/vm/vm.h"

/* Entries that a reset watches again before it gives way. */
#define RING_RESET_CHUNK 512

/* A reset under way. */
struct reset {
	struct tpt_vm *vm;
	struct actor *worker;
	struct tpt_gfn_range flush[MAX_ADDRESS_SPACES];
	int64_t entries;
};

uint32_t tpt_vcpu_dirty_ring_collect(struct tpt_vcpu *vcpu, struct tpt_dirty_gfn *out, uint32_t max)
{
	return vcpu->fault.ring ? ring_collect(vcpu->fault.ring, out, max) : 0;
}

uint32_t tpt_vcpu_dirty_ring_used(const struct tpt_vcpu *vcpu)
{
	return vcpu->fault.ring ? ring_used(vcpu->fault.ring) : 0;
}

static void owe_flush(struct tpt_gfn_range *flush, tpt_gfn start, tpt_gfn end)
{
	if (flush->start >= flush->end) {
		*flush = (struct tpt_gfn_range){start, end};
		return;
	}
	if (start < flush->start)
		flush->start = start;
	if (end > flush->end)
		flush->end = end;
}

/* The pages of a run are watched again, those that the slot still has. Section. */
static void watch(struct reset *r, const struct ring_run *run)
{
	const struct memslot *slot = slot_by_id(&r->vm->slots, run->as_id, run->slot);
	uint64_t mask = run->mask, left;
	tpt_gfn gfn;

	if (!slot || !slot_logs_dirty(slot) || run->offset >= slot->npages)
		return;
	gfn = slot->base_gfn + run->offset;
	left = slot->npages - run->offset;
	if (left < 64)
		mask &= (1ull << left) - 1;
	range_sweep_masked(&r->vm->env, r->worker, tree_direct(slot->as_id), dirty_rule(r->vm), gfn,
			   &mask, 1);
	/* Also where nothing was lost: whoever took it may not have flushed yet. */
	owe_flush(&r->flush[slot->as_id], gfn, gfn + 64);
}

/* What was collected from one ring when this began. */
static void reset_ring(struct reset *r, struct dirty_ring *ring)
{
	uint32_t end = atomic_load_explicit(&ring->collected, memory_order_acquire);
	uint32_t from = atomic_load_explicit(&ring->reset, memory_order_relaxed);

	while (from != end) {
		uint32_t most = end - from < RING_RESET_CHUNK ? end - from : RING_RESET_CHUNK;

		worker_enter(r->worker);
		while (most) {
			struct ring_run run = ring_next_run(ring, from, most);

			watch(r, &run);
			from += run.entries;
			most -= run.entries;
			r->entries += run.entries;
		}
		worker_leave(r->worker);
		/* Room for others only now: a full ring stays full until its pages are watched. */
		atomic_store_explicit(&ring->reset, from, memory_order_release);
	}
}

static void flush_all(struct reset *r)
{
	for (uint32_t as_id = 0; as_id < MAX_ADDRESS_SPACES; as_id++)
		if (r->flush[as_id].start < r->flush[as_id].end)
			vm_flush(r->worker, &(struct tpt_flush){.reason = TPT_FLUSH_DIRTY_LOG,
								.as_id = as_id,
								.range = r->flush[as_id]});
}

int64_t tpt_vm_reset_dirty_rings(struct tpt_vm *vm)
{
	struct reset r = {.vm = vm};
	struct tpt_vcpu *first;
	int err;

	if (!vm->ring_size)
		return -ERR_INVAL;
	err = update_begin(vm);
	if (err)
		return err;
	/* New ones go before it, and none goes away while an update is under way. */
	first = vm->vcpus;
	update_give_way(vm);
	r.worker = worker_get(vm);
	for (struct tpt_vcpu *vcpu = first; vcpu; vcpu = vcpu->next)
		reset_ring(&r, vcpu->fault.ring);
	flush_all(&r);
	worker_put(vm, r.worker);
	update_take_back(vm);
	update_end(vm);
	return r.entries;
}
