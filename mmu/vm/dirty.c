// SPDX-License-Identifier: BSD-2-Clause
/*
 * Dirty logging as its callers know it: switched on and off, read, cleared. Splits, sweeps and
 * flushes in the order that loses no write; touches direct trees only.
 *
 *	clear:  take the bits -> take W (or D) of those entries -> flush -> only then tell the
 *caller write:  give W back -> set the bit
 */
#include <triptych/dirty.h>

#include "mmu/vm/vm.h"

enum tree_rule dirty_rule(const struct tpt_vm *vm)
{
	return vm->flags & TPT_VM_PML ? TREE_CLEAR_DIRTY : TREE_WRITE_PROTECT;
}

static void flush_slot(struct actor *worker, const struct memslot *slot, tpt_gfn start, tpt_gfn end)
{
	vm_flush(worker, &(struct tpt_flush){.reason = TPT_FLUSH_DIRTY_LOG,
					     .as_id = slot->as_id,
					     .range = {start, end}});
}

/* Splits every leaf above 4K in [start, end) of the slot's tree. */
static int split_range(struct tpt_vm *vm, struct actor *worker, const struct memslot *slot,
		       tpt_gfn start, tpt_gfn end)
{
	struct range_split op = {.tree = tree_direct(slot->as_id),
				 .range = {start, end},
				 .pos = start,
				 .level = TPT_LEVEL_4K};
	int more;

	do {
		if (tables_topup(&vm->trees, worker, false))
			return -ERR_NOMEM;
		worker_enter(worker);
		more = range_split_chunk(&vm->env, worker, &op);
		worker_leave(worker);
	} while (more > 0);
	return more;
}

/* Sweeps the slot's leaves of @min level and above. A flush is owed. */
static int sweep_slot(struct tpt_vm *vm, struct actor *worker, const struct memslot *slot,
		      enum tree_rule rule, enum tpt_level min)
{
	struct range_sweep op = {.rule = rule,
				 .min_level = min,
				 .tree = tree_direct(slot->as_id),
				 .range = {slot->base_gfn, slot->base_gfn + slot->npages},
				 .pos = slot->base_gfn};
	int more;

	do {
		worker_enter(worker);
		more = range_sweep_chunk(&vm->env, worker, &op);
		worker_leave(worker);
	} while (more > 0);
	return more;
}

int dirty_log_on(struct tpt_vm *vm, const struct memslot *slot)
{
	struct actor *worker;
	int err = 0;

	/* Every page is dirty to begin with: entries are split and protected as they are cleared.
	 */
	if (vm->flags & TPT_VM_DIRTY_INITIALLY_SET)
		return 0;
	worker = worker_get(vm);
	if (vm->flags & TPT_VM_EAGER_PAGE_SPLIT)
		err = split_range(vm, worker, slot, slot->base_gfn, slot->base_gfn + slot->npages);
	/* What could not be split for the want of memory is split by the first write to it. */
	if (err != -ERR_IO)
		err = sweep_slot(vm, worker, slot, dirty_rule(vm), TPT_LEVEL_4K);
	/* A huge leaf has one D for all its pages: the first write must fault. */
	if (!err && dirty_rule(vm) == TREE_CLEAR_DIRTY)
		err = sweep_slot(vm, worker, slot, TREE_WRITE_PROTECT, TPT_LEVEL_2M);
	/* Whatever the sweeps found: an entry may have lost its W before without a flush, to aging
	 * or with a table that is being detached. */
	flush_slot(worker, slot, slot->base_gfn, slot->base_gfn + slot->npages);
	worker_put(vm, worker);
	return err;
}

/* Flushes what was translated through a chunk's tables, and hands them to the reclaimer. */
static void settle(struct actor *worker, struct range_recover *op)
{
	if (op->nr)
		vm_flush(worker, &(struct tpt_flush){.reason = TPT_FLUSH_COLLAPSE,
						     .as_id = tree_as_id(op->tree),
						     .range = op->flush});
	while (op->nr)
		table_reclaim_later(op->detached[--op->nr]);
}

static int recover_range(struct tpt_vm *vm, struct actor *worker, struct range_recover *op)
{
	int more;

	do {
		worker_enter(worker);
		more = range_recover_chunk(&vm->env, worker, op);
		worker_leave(worker);
		settle(worker, op);
	} while (more > 0);
	return more;
}

int dirty_log_off(struct tpt_vm *vm, const struct memslot *slot)
{
	struct range_recover op = {.tree = tree_direct(slot->as_id),
				   .range = {slot->base_gfn, slot->base_gfn + slot->npages},
				   .pos = slot->base_gfn,
				   .host_level = vm->env.backing->mapping_level,
				   .host_ctx = vm->env.backing_ctx};
	struct actor *worker;
	int err;

	if (!op.host_level)
		return 0;
	worker = worker_get(vm);
	err = recover_range(vm, worker, &op);
	worker_put(vm, worker);
	return err;
}

/* ---- reading and clearing ---- */

/*
 * Watches those pages again whose bits were taken: @nr words from @gfn on, no more than one section
 * sweeps, the first and the last not 0.
 */
static int protect_words(struct tpt_vm *vm, struct actor *worker, const struct memslot *slot,
			 tpt_gfn gfn, const uint64_t *bits, unsigned int nr)
{
	tpt_gfn first = gfn + (tpt_gfn)__builtin_ctzll(bits[0]);
	tpt_gfn end = gfn + 64 * nr - (tpt_gfn)__builtin_clzll(bits[nr - 1]);
	int err = 0;

	if (vm->flags & TPT_VM_DIRTY_INITIALLY_SET && vm->flags & TPT_VM_EAGER_PAGE_SPLIT)
		err = split_range(vm, worker, slot, first, end);
	if (err == -ERR_IO)
		return err;
	worker_enter(worker);
	range_sweep_masked(&vm->env, worker, tree_direct(slot->as_id), dirty_rule(vm), gfn, bits,
			   nr);
	worker_leave(worker);
	return err;
}

/* What is taken of a log in one go: words for one leaf table, or one word for two. */
struct taken {
	tpt_gfn gfn; /* of the first word, which is not 0 */
	uint64_t bits[RANGE_MASK_WORDS];
	unsigned int nr, used; /* words; those up to the last that is not 0 */
};

/* Does the word for 64 pages from @gfn on belong to what is being taken? */
static bool fits(const struct taken *t, tpt_gfn gfn)
{
	return !t->nr ||
	       tpt_gfn_round(gfn + 63, TPT_LEVEL_2M) == tpt_gfn_round(t->gfn, TPT_LEVEL_2M);
}

static void add(struct taken *t, tpt_gfn gfn, uint64_t bits)
{
	if (!t->nr && !bits)
		return;
	if (!t->nr)
		t->gfn = gfn;
	t->bits[t->nr++] = bits;
	if (bits)
		t->used = t->nr;
}

/*
 * Takes the wanted bits of pages [first, first + npages) and watches those pages again, a leaf
 * table's worth in a section. @out, if not NULL, gets what was taken.
 */
static int take_and_protect(struct tpt_vm *vm, const struct memslot *slot, uint64_t first,
			    uint64_t npages, const uint64_t *want, uint64_t *out)
{
	struct actor *worker = worker_get(vm);
	uint64_t words = tpt_dirty_words(npages);
	bool flush = false;
	int err = 0;

	for (uint64_t i = 0; i < words && !err;) {
		struct taken t;

		t.gfn = 0;
		t.nr = t.used = 0;
		for (; i < words && fits(&t, slot->base_gfn + first + 64 * i); i++) {
			uint64_t bits =
				slot_dirty_word(slot, first + 64 * i, want ? want[i] : ~0ull, true);

			if (out)
				out[i] = bits;
			add(&t, slot->base_gfn + first + 64 * i, bits);
		}
		if (!t.used)
			continue;
		flush = true;
		err = protect_words(vm, worker, slot, t.gfn, t.bits, t.used);
	}
	/* KVM's rule: flush if any bit was taken, whoever cleared the entry's W before. */
	if (flush)
		flush_slot(worker, slot, slot->base_gfn + first, slot->base_gfn + first + npages);
	worker_put(vm, worker);
	return err;
}

/* The slot with a log. An update is under way, so that it stays. */
static int find_log(struct tpt_vm *vm, uint32_t as_id, uint32_t id, const struct memslot **slot)
{
	if (as_id >= vm->slots.address_spaces || id >= TPT_MEMSLOT_IDS)
		return -ERR_INVAL;
	*slot = slot_by_id(&vm->slots, as_id, id);
	if (!*slot)
		return -ERR_INVAL;
	return slot_logs_dirty(*slot) ? 0 : -ERR_NOENT;
}

/*
 * What processors logged and nobody has read yet comes in: they leave the guest. In no section, for
 * those who hand it over enter one.
 */
static void sync_processors(struct tpt_vm *vm)
{
	struct actor *worker;

	if (!(vm->flags & TPT_VM_PML))
		return;
	worker = worker_get(vm);
	vm_kick(worker, TPT_KICK_DIRTY_LOG);
	worker_put(vm, worker);
}

int tpt_vm_get_dirty_log(struct tpt_vm *vm, uint32_t as_id, uint32_t id, uint64_t *bitmap)
{
	const struct memslot *slot;
	int err = update_begin(vm);

	if (err)
		return err;
	err = find_log(vm, as_id, id, &slot);
	if (!err) {
		update_give_way(vm);
		sync_processors(vm);
		if (vm->flags & TPT_VM_DIRTY_MANUAL)
			for (uint64_t i = 0; i < tpt_dirty_words(slot->npages); i++)
				bitmap[i] = slot_dirty_word(slot, 64 * i, ~0ull, false);
		else
			err = take_and_protect(vm, slot, 0, slot->npages, NULL, bitmap);
		update_take_back(vm);
	}
	update_end(vm);
	return err;
}

static int check_clear(const struct tpt_vm *vm, const struct memslot *slot, uint64_t first,
		       uint64_t npages)
{
	const char *rule = NULL;

	if (!(vm->flags & TPT_VM_DIRTY_MANUAL))
		rule = "the VM clears its logs when they are read";
	else if (first % 64 || first > slot->npages || npages > slot->npages - first)
		rule = "the first page is a multiple of 64, and all lie in the slot";
	else if (npages % 64 && first + npages != slot->npages)
		rule = "the number of pages is a multiple of 64, or reaches the slot's end";
	if (!rule)
		return 0;
	vm_log((struct vm_base *)&vm->base, TPT_LOG_WARNING,
	       "clear of dirty log, pages %#lx + %#lx of slot %u: %s", first, npages, slot->id,
	       rule);
	return -ERR_INVAL;
}

int tpt_vm_clear_dirty_log(struct tpt_vm *vm, uint32_t as_id, uint32_t id, uint64_t first,
			   uint64_t npages, const uint64_t *bitmap)
{
	const struct memslot *slot;
	int err = update_begin(vm);

	if (err)
		return err;
	err = find_log(vm, as_id, id, &slot);
	if (!err)
		err = check_clear(vm, slot, first, npages);
	if (!err) {
		update_give_way(vm);
		sync_processors(vm);
		err = take_and_protect(vm, slot, first, npages, bitmap, NULL);
		update_take_back(vm);
	}
	update_end(vm);
	return err;
}

static void mark_in_section(struct tpt_vm *vm, uint32_t as_id, tpt_gfn gfn)
{
	const struct memslot *slot = slot_find(&vm->slots, as_id, gfn);

	if (slot)
		slot_mark_dirty(slot, gfn);
}

void tpt_vm_mark_dirty(struct tpt_vm *vm, uint32_t as_id, tpt_gfn gfn)
{
	struct actor *worker = worker_get(vm);

	worker_enter(worker);
	if (as_id < vm->slots.address_spaces)
		mark_in_section(vm, as_id, gfn);
	worker_leave(worker);
	worker_put(vm, worker);
}

void tpt_vcpu_pml(struct tpt_vcpu *vcpu, const tpt_gpa *gpas, uint32_t n)
{
	struct tpt_vm *vm = vcpu->vm;

	worker_enter(&vcpu->fault.actor);
	for (uint32_t i = 0; i < n; i++) {
		tpt_gfn gfn = gpas[i].a >> TPT_PAGE_SHIFT & ~vm->env.shared_gfn;
		const struct memslot *slot = slot_find(&vm->slots, fault_as_id(&vcpu->fault), gfn);

		if (slot)
			fault_mark_dirty(&vcpu->fault, slot, gfn);
	}
	worker_leave(&vcpu->fault.actor);
}
