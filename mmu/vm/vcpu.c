// SPDX-License-Identifier: BSD-2-Clause
/* A vCPU: its making and end, its roots, and the door to fault/. Decides nothing about a fault. */
#include "mmu/vm/vm.h"

int tpt_vcpu_create(struct tpt_vm *vm, uint32_t id, struct tpt_vcpu **out)
{
	struct tpt_vcpu *vcpu, *other;
	int err = 0;

	if (!vm || !out || id > INT32_MAX)
		return -ERR_INVAL;
	vcpu = mem_alloc(&vm->base, sizeof(*vcpu));
	if (!vcpu)
		return -ERR_NOMEM;
	actor_init(&vm->base, &vcpu->fault.actor, (int32_t)id);
	vcpu->fault.env = &vm->env;
	slot_cache_init(&vcpu->fault.slot_cache, &vm->slots, 0);
	vcpu->vm = vm;
	vcpu->id = id;
	if (vm->ring_size)
		err = ring_create(&vm->base, vm->ring_size, vm->ring_reserved, &vcpu->fault.ring);
	if (err) {
		mem_free(&vm->base, vcpu, sizeof(*vcpu));
		return err;
	}

	section_exclusive_begin(&vm->base);
	for (other = vm->vcpus; other; other = other->next)
		if (other->id == id)
			err = -ERR_EXIST;
	if (vm->env.ended || vm_is_dead(&vm->base))
		err = -ERR_IO;
	if (!err) {
		vcpu->next = vm->vcpus;
		vm->vcpus = vcpu;
		actor_add(&vcpu->fault.actor);
	}
	section_exclusive_end(&vm->base);

	if (err) {
		ring_destroy(&vm->base, vcpu->fault.ring);
		mem_free(&vm->base, vcpu, sizeof(*vcpu));
	} else {
		*out = vcpu;
	}
	return err;
}

void tpt_vcpu_destroy(struct tpt_vcpu *vcpu)
{
	struct tpt_vm *vm = vcpu->vm;
	struct tpt_vcpu **link = &vm->vcpus;

	tables_drop(&vm->trees, &vcpu->fault.actor);
	/* Not while rings are being reset. */
	update_enter(vm);
	while (*link != vcpu)
		link = &(*link)->next;
	*link = vcpu->next;
	actor_remove(&vcpu->fault.actor);
	update_end(vm);
	ring_destroy(&vm->base, vcpu->fault.ring);
	mem_free(&vm->base, vcpu, sizeof(*vcpu));
}

/* The vCPU's roots are what the VM has now. Either section. */
static void take_roots(struct tpt_vcpu *vcpu)
{
	struct tpt_vm *vm = vcpu->vm;

	vcpu->fault.root_generation = atomic_load(&vm->base.roots);
	vcpu->direct_root = vm->trees.root[tree_direct(fault_as_id(&vcpu->fault))]->hpa;
	vcpu->mirror_root = vm->env.has_mirror ? vm->trees.root[TREE_MIRROR]->hpa : (tpt_hpa){0};
}

/* Most roots are there already: another vCPU's, or this one's before it went to SMM and back. */
static bool find_roots(struct tpt_vcpu *vcpu)
{
	struct tpt_vm *vm = vcpu->vm;
	bool found;

	if (!section_enter(&vcpu->fault.actor))
		return false;
	found = !vm->env.ended && vm->trees.root[tree_direct(fault_as_id(&vcpu->fault))] &&
		(!vm->env.has_mirror || vm->trees.root[TREE_MIRROR]);
	if (found)
		take_roots(vcpu);
	section_leave(&vcpu->fault.actor);
	return found;
}

/* Makes the roots that the vCPU needs. Its caches were filled. */
static int make_roots(struct tpt_vcpu *vcpu)
{
	struct tpt_vm *vm = vcpu->vm;
	struct actor *actor = &vcpu->fault.actor;
	int err = 0;

	section_exclusive_begin(&vm->base);
	if (vm->env.ended || vm_is_dead(&vm->base)) {
		err = -ERR_IO;
	} else {
		if (vm->env.has_mirror)
			root_make(&vm->trees, actor, TREE_MIRROR);
		root_make(&vm->trees, actor, tree_direct(fault_as_id(&vcpu->fault)));
		take_roots(vcpu);
	}
	section_exclusive_end(&vm->base);
	return err;
}

int tpt_vcpu_load_roots(struct tpt_vcpu *vcpu, struct tpt_roots *roots)
{
	struct tpt_vm *vm = vcpu->vm;
	uint32_t generation = atomic_load_explicit(&vm->base.roots, memory_order_acquire);
	int err;

	if (vm_is_dead(&vm->base))
		return -ERR_IO;
	if (vcpu->fault.ring && ring_is_almost_full(vcpu->fault.ring)) {
		vcpu->fault.exit = (struct tpt_exit){.reason = TPT_EXIT_DIRTY_RING_FULL};
		return -ERR_NOSPC;
	}
	if (vcpu->fault.root_generation != generation) {
		/* A root for each tree, and then one fault's worth: the first fault follows at
		 * once. */
		err = tables_topup(&vm->trees, &vcpu->fault.actor, vm->env.has_mirror);
		if (!err && !find_roots(vcpu))
			err = make_roots(vcpu);
		if (err)
			return err;
	}
	*roots = (struct tpt_roots){.direct = vcpu->direct_root,
				    .mirror = vcpu->mirror_root,
				    .levels = vm->trees.levels,
				    .generation = vcpu->fault.root_generation};
	return 0;
}

int tpt_vcpu_set_smm(struct tpt_vcpu *vcpu, bool smm)
{
	if (smm && vcpu->vm->slots.address_spaces < 2)
		return -ERR_INVAL;
	if (vcpu->fault.smm != smm) {
		vcpu->fault.smm = smm;
		vcpu->fault.direct_hint = vcpu->fault.huge_hint = (struct tree_hint){0};
		slot_cache_init(&vcpu->fault.slot_cache, &vcpu->vm->slots, smm);
		vcpu->fault.root_generation = 0;
	}
	return 0;
}

void tpt_vcpu_reset_context(struct tpt_vcpu *vcpu)
{
	vcpu->fault.root_generation = 0;
}

int tpt_vcpu_fault(struct tpt_vcpu *vcpu, struct tpt_fault *fault)
{
	return fault_take(&vcpu->fault, fault);
}

int tpt_vcpu_lookup(struct tpt_vcpu *vcpu, tpt_gpa gpa, struct tpt_lookup *lookup)
{
	return fault_lookup(&vcpu->fault, gpa, lookup);
}

const struct tpt_exit *tpt_vcpu_exit(const struct tpt_vcpu *vcpu)
{
	return &vcpu->fault.exit;
}

uint64_t tpt_pferr_from_ept(uint64_t qualification)
{
	uint64_t code = qualification & 1 ? TPT_PFERR_USER : 0;

	/* SDM vol. 3, "Exit Qualification for EPT Violations": bits 1 and 2 the access, 5:3 what
	 * the entries allowed, 7 GLA valid, 8 final translation rather than a guest table. */
	if (qualification & 1 << 1)
		code |= TPT_PFERR_WRITE;
	if (qualification & 1 << 2)
		code |= TPT_PFERR_FETCH;
	if (qualification & 7 << 3)
		code |= TPT_PFERR_PRESENT;
	if (qualification & 1 << 7)
		code |= qualification & 1 << 8 ? TPT_PFERR_GUEST_FINAL : TPT_PFERR_GUEST_PAGE;
	return code;
}

uint64_t tpt_pferr_from_npf(uint64_t exitinfo1)
{
	/* APM vol. 2, "Nested Page Faults": the low five bits are a #PF error code's. */
	return exitinfo1 & (TPT_PFERR_PRESENT | TPT_PFERR_WRITE | TPT_PFERR_USER | TPT_PFERR_RSVD |
			    TPT_PFERR_FETCH | TPT_PFERR_GUEST_FINAL | TPT_PFERR_GUEST_PAGE);
}
