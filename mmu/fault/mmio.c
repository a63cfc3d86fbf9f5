// SPDX-License-Identifier: BSD-2-Clause
/* Accesses that no memslot backs: cached MMIO entries read back, exit records filled. */
#include "mmu/fault/fault.h"

int fault_cached_mmio(struct fault_vcpu *vcpu, const struct tpt_fault *fault)
{
	const struct fault_env *env = vcpu->env;
	uint64_t generation = env->slots->set[fault->as_id].generation & PTE_MMIO_GEN_MASK;
	enum tree_id id = fault_tree(env, fault);
	struct tree_spot at;

	if (id == TREE_MIRROR)
		return TPT_RET_PF_RETRY;
	at = tree_walk(env->trees, id, fault->gfn, TPT_LEVEL_4K);
	/* Somebody changed it since the processor looked. */
	if (pte_kind(&env->trees->format, at.old, at.level) != PTE_MMIO)
		return TPT_RET_PF_RETRY;
	/* Made before the memslots last changed: it proves nothing now. */
	if (pte_mmio_generation(at.old) != generation)
		return TPT_RET_PF_INVALID;
	return TPT_RET_PF_EMULATE;
}

int fault_emulate(struct fault_vcpu *vcpu, const struct tpt_fault *fault)
{
	vcpu->exit = (struct tpt_exit){
		.reason = TPT_EXIT_MMIO,
		.gpa = fault->gpa,
		.access = fault_fetches(fault)	? TPT_ACC_EXEC
			  : fault_writes(fault) ? TPT_ACC_WRITE
						: TPT_ACC_READ,
	};
	/* A guest whose memory the VMM can't read can't be emulated: the VMM must convert or stop.
	 */
	if (fault->is_private) {
		vcpu->exit = (struct tpt_exit){
			.reason = TPT_EXIT_MEMORY_FAULT,
			.gpa = {fault->gfn << TPT_PAGE_SHIFT},
			.size = TPT_PAGE_SIZE,
			.flags = TPT_MEMORY_FAULT_PRIVATE,
		};
		return -ERR_FAULT;
	}
	return TPT_RET_PF_EMULATE;
}
