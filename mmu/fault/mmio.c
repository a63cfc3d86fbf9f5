// SPDX-License-Identifier: BSD-2-Clause
/* Accesses that no memslot backs: cached MMIO entries read back, exit records filled. */
#include "mmu/fault/fault.h"

int fault_cached_mmio(struct fault_vcpu *vcpu, const struct tpt_fault *fault)
{
	const struct fault_env *env = vcpu->env;
	uint64_t generation = env->slots->set[fault->as_id].generation & PTE_MMIO_GEN_MASK;
	struct tree_iter it;

	if (fault->is_private && env->has_mirror)
		return TPT_RET_PF_RETRY;
	if (!iter_start(&it, env->trees, tree_direct(fault->as_id), fault->gfn, fault->gfn + 1,
			TPT_LEVEL_4K))
		return TPT_RET_PF_RETRY;
	while (it.level > TPT_LEVEL_4K && iter_kind(&it) == PTE_TABLE)
		iter_down(&it);
	/* Somebody changed it since the processor looked. */
	if (iter_kind(&it) != PTE_MMIO)
		return TPT_RET_PF_RETRY;
	/* Made before the memslots last changed: it proves nothing now. */
	if (pte_mmio_generation(it.old) != generation)
		return TPT_RET_PF_INVALID;
	return TPT_RET_PF_EMULATE;
}

int fault_emulate(struct fault_vcpu *vcpu, const struct tpt_fault *fault)
{
	vcpu->exit = (struct tpt_exit){
		.reason = TPT_EXIT_MMIO,
		.gpa = fault->gpa,
		.access = fault->exec	 ? TPT_ACC_EXEC
			  : fault->write ? TPT_ACC_WRITE
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
