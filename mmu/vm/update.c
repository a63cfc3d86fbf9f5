// SPDX-License-Identifier: BSD-2-Clause
/*
 * Operations that span rooms: slot update, conversion, holes, invalidation, zap-all. Each is a
 * structural change in slots/ with the zap that it owes, in the right order; none walks a tree.
 */
#include "mmu/vm/vm.h"

int zap_all_chunks(struct tpt_vm *vm, struct zap *zap)
{
	int more;

	while ((more = zap_chunk(&vm->env, zap)) > 0) {
		/* Give way: faults elsewhere and other invalidations come in between. */
		section_exclusive_end(&vm->base);
		section_exclusive_begin(&vm->base);
		if (vm_is_dead(&vm->base))
			return -ERR_IO;
	}
	return more;
}

#define TREE_ALL (TREE_DIRECT_ALL | TREE_MIRROR_BIT)

static unsigned int trees_of(const struct memslot *slot)
{
	return slot->as_id ? 1u << TREE_DIRECT_SMM : 1u << TREE_DIRECT | TREE_MIRROR_BIT;
}

void zap_direct_roots(struct tpt_vm *vm)
{
	roots_invalidate(&vm->trees, &vm->base.self, zap_trees(&vm->env, ZAP_CONTEXT));
}

void zap_all_fast(struct tpt_vm *vm)
{
	vm->nr_zap_all_fast++;
	vm_event(&vm->base, &(struct tpt_event){.kind = TPT_EVENT_ZAP_ALL_FAST,
						.vcpu = -1,
						.generation = (uint32_t)vm->nr_zap_all_fast & 1});
	zap_direct_roots(vm);
}

/* ---- memslots ---- */

/* Everything that the slot maps goes, while faults on it are RETRY. */
static int zap_slot(struct tpt_vm *vm, struct memslot *slot)
{
	struct zap zap = zap_make(&vm->env, ZAP_MEMSLOT, trees_of(slot), slot->base_gfn,
				  slot->base_gfn + slot->npages);
	int err = 0;

	slot_set_invalid(&vm->slots, slot, true);
	if (vm->flags & TPT_VM_SLOT_ZAP_ALL)
		zap_all_fast(vm);
	else
		err = zap_all_chunks(vm, &zap);
	if (err)
		slot_set_invalid(&vm->slots, slot, false);
	return err;
}

/* MMIO entries of a TD carry no generation that anybody checks: a new slot must remove them. */
static int zap_mmio_under(struct tpt_vm *vm, const struct memslot *slot)
{
	struct zap zap = zap_make(&vm->env, ZAP_MMIO, trees_of(slot), slot->base_gfn,
				  slot->base_gfn + slot->npages);

	return vm->env.has_mirror ? zap_all_chunks(vm, &zap) : 0;
}

static int apply(struct tpt_vm *vm, struct slot_update *update)
{
	int err = 0;

	if (update->change == SLOT_DELETE || update->change == SLOT_MOVE)
		err = zap_slot(vm, update->old);
	if (!err && (update->change == SLOT_CREATE || update->change == SLOT_MOVE))
		err = zap_mmio_under(vm, update->new_);
	return err;
}

/* A log was switched: its walks are long, and faults go on beside them. */
static int switch_dirty_log(struct tpt_vm *vm, const struct memslot *slot)
{
	int err;

	update_give_way(vm);
	err = slot_logs_dirty(slot) ? dirty_log_on(vm, slot) : dirty_log_off(vm, slot);
	update_take_back(vm);
	return err;
}

/* A log of a terabyte is 32 MiB to clear: not while nobody else may go on. Slots, gmems and
 * attributes change in updates only. */
static int prepare(struct tpt_vm *vm, const struct tpt_memory_region *region,
		   struct slot_update *update)
{
	int err;

	if (!(region->flags & TPT_MEM_LOG_DIRTY))
		return slot_update_prepare(&vm->slots, region, update);
	update_give_way(vm);
	err = slot_update_prepare(&vm->slots, region, update);
	update_take_back(vm);
	return err;
}

int tpt_vm_set_memory_region(struct tpt_vm *vm, const struct tpt_memory_region *region)
{
	struct slot_update update;
	const struct memslot *switched;
	uint64_t before, after;
	int err;

	err = update_begin(vm);
	if (err)
		return err;
	err = prepare(vm, region, &update);
	if (err)
		goto out;
	err = apply(vm, &update);
	if (err) {
		slot_update_abort(&vm->slots, &update);
		goto out;
	}
	if (update.change == SLOT_DELETE || update.change == SLOT_MOVE)
		track_slot_gone(vm, update.old);
	before = vm->slots.set[region->as_id].generation & PTE_MMIO_GEN_MASK;
	switched = update.change == SLOT_FLAGS ? update.old : NULL;
	slot_update_commit(&vm->slots, &update);
	after = vm->slots.set[region->as_id].generation & PTE_MMIO_GEN_MASK;
	/* A generation that wraps would make stale MMIO entries look fresh. */
	if (after < before)
		zap_all_fast(vm);
	if (switched)
		err = switch_dirty_log(vm, switched);
out:
	update_end(vm);
	return err;
}

/* ---- invalidation by the host ---- */

/*
 * Zaps what of @range has the attribute @private_, and adds the leaves to *zapped. With a mirror
 * the reason's trees see to that; where both kinds of memory are in one tree the ranges do.
 */
static int zap_where(struct tpt_vm *vm, enum zap_reason reason, unsigned int trees,
		     struct tpt_gfn_range range, bool private_, int64_t *zapped)
{
	bool one_tree = vm->env.private_memory && !vm->env.has_mirror;
	struct tpt_gfn_range part = range;
	int err = 0;

	for (tpt_gfn pos = range.start; !err && pos < range.end; pos = part.end) {
		struct zap zap;

		if (one_tree && !attr_next_change(&vm->slots, pos, range.end, !private_, &part))
			break;
		zap = zap_make(&vm->env, reason, trees, part.start, part.end);
		err = zap_all_chunks(vm, &zap);
		*zapped += (int64_t)zap.zapped;
	}
	return err;
}

/* Zaps what the slots of one address space map of [start, end). Their set may change in between. */
static int64_t zap_hva(struct tpt_vm *vm, uint32_t as_id, tpt_hva start, tpt_hva end)
{
	struct interval_key from = {0, 0};
	const struct memslot *slot;
	int64_t zapped = 0;
	int err = 0;

	while (!err && (slot = slot_from_hva(&vm->slots, as_id, from, start, end))) {
		struct tpt_gfn_range range;

		from = slot_behind_hva(slot);
		if (slot_hva_range(slot, start, end, &range))
			err = zap_where(vm, ZAP_NOTIFIER, trees_of(slot), range, false, &zapped);
	}
	return err ? err : zapped;
}

int tpt_vm_invalidate_begin(struct tpt_vm *vm, tpt_hva start, tpt_hva end,
			    struct tpt_invalidation *token)
{
	int64_t zapped = 0, n = 0;

	if (start.a >= end.a || (start.a | end.a) & (TPT_PAGE_SIZE - 1)) {
		vm_log(&vm->base, TPT_LOG_WARNING,
		       "invalidation [%#lx, %#lx): must be whole pages, and not empty", start.a,
		       end.a);
		return -ERR_INVAL;
	}
	section_exclusive_begin(&vm->base);
	if (vm->env.ended || vm_is_dead(&vm->base)) {
		section_exclusive_end(&vm->base);
		return -ERR_IO;
	}
	vm->nr_invalidations++;
	vm_event(&vm->base,
		 &(struct tpt_event){
			 .kind = TPT_EVENT_UNMAP_HVA, .vcpu = -1, .start = start, .end = end});
	*token = (struct tpt_invalidation){.start = start, .end = end};
	inval_begin(&vm->slots, token);
	for (uint32_t as_id = 0; as_id < vm->slots.address_spaces && n >= 0; as_id++) {
		n = zap_hva(vm, as_id, start, end);
		zapped += n;
	}
	if (n < 0)
		inval_end(&vm->slots, token);
	section_exclusive_end(&vm->base);
	if (n < 0)
		return (int)n;
	return zapped > INT32_MAX ? INT32_MAX : (int)zapped;
}

void tpt_vm_invalidate_end(struct tpt_vm *vm, struct tpt_invalidation *token)
{
	section_exclusive_begin(&vm->base);
	inval_end(&vm->slots, token);
	section_exclusive_end(&vm->base);
}

/* ---- private memory ---- */

/*
 * Before private memory in a range of frames is removed: table pages for the large leaves that
 * reach out of it. Leaves the exclusive section, if there are too few, and enters it again.
 */
static int topup_private(struct tpt_vm *vm)
{
	struct actor *self = &vm->base.self;
	int err;

	if (vm->env.max_merge_level == TPT_LEVEL_4K ||
	    (self->tables.nr >= vm->trees.levels && self->external.nr >= vm->trees.levels))
		return 0;
	update_give_way(vm);
	err = tables_refill(&vm->trees, self, true);
	update_take_back(vm);
	return err;
}

/* Converts one range that has the other attribute: zap, then set. Faults on it are RETRY. */
static int convert(struct tpt_vm *vm, struct tpt_gfn_range range, bool private_)
{
	struct zap zap = zap_make(&vm->env, private_ ? ZAP_TO_PRIVATE : ZAP_TO_SHARED, TREE_ALL,
				  range.start, range.end);
	int err;

	inval_structural_begin(
		&vm->slots,
		&(struct inval_range){.kind = INVAL_GFN, .start = range.start, .end = range.end});
	err = zap_all_chunks(vm, &zap);
	if (!err)
		err = attr_set(&vm->slots, range.start, range.end, private_);
	inval_structural_end(&vm->slots);
	return err;
}

int tpt_vm_set_private(struct tpt_vm *vm, tpt_gfn start, tpt_gfn end, bool private_, tpt_gfn *done)
{
	struct tpt_gfn_range range;
	tpt_gfn pos = start;
	int err;

	err = update_begin(vm);
	if (err)
		return err;
	err = attr_check(&vm->slots, start, end);
	if (!err && !slots_cover(&vm->slots, 0, start, end)) {
		vm_log(&vm->base, TPT_LOG_WARNING,
		       "attributes of gfns [%#lx, %#lx): a part of them lies in no memslot", start,
		       end);
		err = -ERR_INVAL;
	}
	while (!err && attr_next_change(&vm->slots, pos, end, private_, &range)) {
		err = private_ ? 0 : topup_private(vm);
		if (!err)
			err = convert(vm, range, private_);
		pos = err ? range.start : range.end;
	}
	update_end(vm);
	if (done)
		*done = err ? pos : end;
	return err;
}

bool tpt_vm_is_private(struct tpt_vm *vm, tpt_gfn gfn)
{
	bool private_;

	section_exclusive_begin(&vm->base);
	private_ = attr_is_private(&vm->slots, gfn);
	section_exclusive_end(&vm->base);
	return private_;
}

/* All of one level, smaller ones first: those of the next are made of them. */
static int recover_level(struct tpt_vm *vm, struct private_recover *op)
{
	int more, err;

	do {
		more = private_recover_find(&vm->env, op);
		update_give_way(vm);
		private_recover_ask(op);
		update_take_back(vm);
		err = vm_is_dead(&vm->base) ? -ERR_IO : private_recover_merge(&vm->env, op);
	} while (!err && more);
	return err;
}

int tpt_vm_private_recover(struct tpt_vm *vm, tpt_gfn start, tpt_gfn end, uint64_t *made)
{
	struct private_recover op = {.range = {start, end}};
	int err = update_begin(vm);

	if (made)
		*made = 0;
	if (err)
		return err;
	if (vm->env.max_merge_level == TPT_LEVEL_4K)
		err = -ERR_OPNOTSUPP;
	else
		err = attr_check(&vm->slots, start, end);
	for (op.level = TPT_LEVEL_2M; !err && op.level <= (unsigned int)vm->env.max_merge_level;
	     op.level++) {
		op.pos = start;
		err = recover_level(vm, &op);
	}
	update_end(vm);
	if (made)
		*made = op.made;
	return err;
}

int tpt_gmem_create(struct tpt_vm *vm, uint64_t bytes, const struct tpt_gmem_ops *ops, void *ctx,
		    struct tpt_gmem **gmem)
{
	int err = update_begin(vm);

	if (err)
		return err;
	err = gmem_create(&vm->slots, bytes, ops, ctx, gmem);
	update_end(vm);
	return err;
}

int tpt_gmem_destroy(struct tpt_gmem *gmem)
{
	struct tpt_vm *vm = gmem->base->vm;
	int err;

	update_enter(vm);
	/* A fault in its gap may still be asking it for a page; it holds no section meanwhile. */
	for (struct actor *a = vm->base.actors; a && !gmem_is_bound(gmem); a = a->next)
		while (atomic_load(&a->asking) == gmem)
			vm->base.platform->relax(vm->base.platform_ctx);
	err = gmem_destroy(&vm->slots, gmem);
	update_end(vm);
	return err;
}

/* Removes entries over pages [start, end) of the gmem from every slot bound to it. */
static int zap_hole(struct tpt_vm *vm, struct tpt_gmem *gmem, uint64_t start, uint64_t end)
{
	const struct memslot *slot;
	int64_t zapped = 0;
	int err = 0;

	/* Bindings stay as they are: structural operations are one at a time. */
	while (!err && (slot = gmem_first_slot(gmem, start, end))) {
		struct tpt_gfn_range range;

		slot_gmem_range(slot, start, end, &range);
		start = slot->gmem_index + slot->npages;
		err = topup_private(vm);
		if (err)
			break;
		err = zap_where(vm, ZAP_GMEM_HOLE, TREE_ALL, range, true, &zapped);
		if (!err && gmem->ops->flags & TPT_GMEM_IN_PLACE)
			err = zap_where(vm, ZAP_GMEM_SHARED, TREE_ALL, range, false, &zapped);
	}
	return err;
}

int tpt_gmem_punch_hole(struct tpt_gmem *gmem, uint64_t offset, uint64_t len)
{
	struct tpt_vm *vm = gmem->base->vm;
	uint64_t start = offset >> TPT_PAGE_SHIFT, end = (offset + len) >> TPT_PAGE_SHIFT;
	int err;

	if ((offset | len) & (TPT_PAGE_SIZE - 1) || !len || offset + len < offset ||
	    end > gmem->npages) {
		vm_log(&vm->base, TPT_LOG_WARNING,
		       "hole at %#lx of %#lx bytes: must be whole pages of a gmem of %#lx", offset,
		       len, gmem->npages << TPT_PAGE_SHIFT);
		return -ERR_INVAL;
	}
	err = update_begin(vm);
	if (err)
		return err;
	inval_structural_begin(
		&vm->slots, &(struct inval_range){
				    .kind = INVAL_GMEM, .gmem = gmem, .start = start, .end = end});
	err = zap_hole(vm, gmem, start, end);
	if (!err && gmem->ops->free_range)
		gmem->ops->free_range(gmem->ctx, start, end);
	inval_structural_end(&vm->slots);
	update_end(vm);
	return err;
}

/* ---- the rest of who may zap what ---- */

int tpt_vm_zap_all_fast(struct tpt_vm *vm)
{
	int err = update_begin(vm);

	if (err)
		return err;
	zap_all_fast(vm);
	update_end(vm);
	return 0;
}

int tpt_vm_apicv_changed(struct tpt_vm *vm, tpt_gfn gfn)
{
	struct zap zap = zap_make(&vm->env, ZAP_APICV, TREE_ALL, gfn, gfn + 1);
	int err = update_begin(vm);

	if (err)
		return err;
	err = zap_all_chunks(vm, &zap);
	update_end(vm);
	return err;
}

int tpt_vm_set_noncoherent_dma(struct tpt_vm *vm, bool attached)
{
	struct zap zap =
		zap_make(&vm->env, ZAP_NONCOHERENT, TREE_ALL, 0, 1ull << vm->trees.gfn_bits);
	int err = update_begin(vm);

	if (err)
		return err;
	/* Memory types depend on it only where the guest's PAT is ignored without such a device. */
	if (vm->env.noncoherent_dma != attached) {
		vm->env.noncoherent_dma = attached;
		fault_words_init(&vm->env);
		if (vm->env.ignore_guest_pat)
			err = zap_all_chunks(vm, &zap);
	}
	update_end(vm);
	return err;
}
