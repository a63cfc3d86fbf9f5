// SPDX-License-Identifier: BSD-2-Clause
/*
 * Write tracking as device models know it: pages that the guest may not write unseen, and who is
 * told of what the VMM writes for it. Never emulates anything.
 */
#include "mmu/vm/vm.h"

static int refuse(struct tpt_vm *vm, uint32_t as_id, tpt_gfn gfn, int err, const char *rule)
{
	vm_log(&vm->base, TPT_LOG_WARNING, "write tracking of gfn %#lx, address space %u: %s", gfn,
	       as_id, rule);
	return err;
}

/* The slot that @gfn may be tracked in. Exclusive section. */
static int find_slot(struct tpt_vm *vm, uint32_t as_id, tpt_gfn gfn, struct memslot **slot)
{
	if (vm->env.has_mirror)
		return refuse(vm, as_id, gfn, -ERR_OPNOTSUPP,
			      "nobody sees what a guest with an external table writes");
	*slot = as_id < vm->slots.address_spaces ? slot_find(&vm->slots, as_id, gfn) : NULL;
	return *slot ? 0 : refuse(vm, as_id, gfn, -ERR_INVAL, "no memslot is there");
}

/* Takes W from the leaf over @gfn, with no way back but by a fault that looks at the counts. */
static void protect(struct tpt_vm *vm, uint32_t as_id, tpt_gfn gfn)
{
	struct actor *actor = &vm->base.self;
	struct range_sweep op = {.rule = TREE_WRITE_TRACK,
				 .min_level = TPT_LEVEL_4K,
				 .tree = tree_direct(as_id),
				 .range = {gfn, gfn + 1},
				 .pos = gfn};

	range_sweep_chunk(&vm->env, actor, &op);
	if (op.flush.start < op.flush.end)
		vm_flush(actor, &(struct tpt_flush){.reason = TPT_FLUSH_PERMISSION,
						    .as_id = as_id,
						    .range = op.flush});
}

int tpt_vm_write_track_add(struct tpt_vm *vm, uint32_t as_id, tpt_gfn gfn)
{
	struct memslot *slot;
	bool first = false;
	int err = update_begin(vm);

	if (err)
		return err;
	err = find_slot(vm, as_id, gfn, &slot);
	if (!err) {
		err = track_add(&vm->slots, slot, gfn, &first);
		if (err)
			refuse(vm, as_id, gfn, err,
			       err == -ERR_NOMEM ? "no memory" : "65535 times already");
	}
	if (first)
		protect(vm, as_id, gfn);
	update_end(vm);
	return err;
}

int tpt_vm_write_track_remove(struct tpt_vm *vm, uint32_t as_id, tpt_gfn gfn)
{
	struct memslot *slot;
	bool last;
	int err = update_begin(vm);

	if (err)
		return err;
	err = find_slot(vm, as_id, gfn, &slot);
	/* The next write faults and gets its W: nothing to do in the tables. */
	if (!err && track_remove(&vm->slots, slot, gfn, &last))
		err = refuse(vm, as_id, gfn, -ERR_INVAL, "it is not tracked");
	update_end(vm);
	return err;
}

int tpt_vm_write_notifier_add(struct tpt_vm *vm, struct tpt_write_notifier *n)
{
	int err = update_begin(vm);

	if (err)
		return err;
	if (vm->env.has_mirror) {
		err = -ERR_OPNOTSUPP;
	} else {
		n->next = vm->slots.write_notifiers;
		vm->slots.write_notifiers = n;
	}
	update_end(vm);
	return err;
}

int tpt_vm_write_notifier_remove(struct tpt_vm *vm, struct tpt_write_notifier *n)
{
	struct tpt_write_notifier **link = &vm->slots.write_notifiers;
	int err = -ERR_INVAL;

	/* In whatever state the VM is: the caller's memory goes. */
	update_enter(vm);
	while (*link && *link != n)
		link = &(*link)->next;
	if (*link) {
		*link = n->next;
		err = 0;
	}
	update_end(vm);
	return err;
}

void tpt_vm_tell_write(struct tpt_vm *vm, uint32_t as_id, tpt_gpa gpa, const void *data,
		       size_t bytes)
{
	struct actor *worker = worker_get(vm);

	worker_enter(worker);
	for (struct tpt_write_notifier *n = vm->slots.write_notifiers; n; n = n->next)
		if (n->write)
			n->write(n, as_id, gpa, data, bytes);
	worker_leave(worker);
	worker_put(vm, worker);
}

void track_slot_gone(struct tpt_vm *vm, const struct memslot *slot)
{
	for (struct tpt_write_notifier *n = vm->slots.write_notifiers; n; n = n->next)
		if (n->gone)
			n->gone(n, slot->as_id, slot->base_gfn, slot->npages);
}
