// SPDX-License-Identifier: BSD-2-Clause
/* What was counted, events as text, mappings as a list. Changes nothing. */
#include "mmu/vm/vm.h"

static uint64_t read_count(const struct actor *actor, unsigned int counter)
{
	return (uint64_t)atomic_load_explicit(&((struct actor *)actor)->count[counter],
					      memory_order_relaxed);
}

static void add_vcpu_stats(struct tpt_vcpu_stats *s, const struct actor *a)
{
	/* A fault is counted once, by how it ended. */
	for (unsigned int i = COUNT_PF; i <= COUNT_PF_END; i++)
		s->pf_taken += read_count(a, i);
	s->pf_taken += read_count(a, COUNT_PF_FIXED_FAST) - read_count(a, COUNT_PF_PREFETCH);
	s->pf_fixed +=
		read_count(a, COUNT_PF + TPT_RET_PF_FIXED) + read_count(a, COUNT_PF_FIXED_FAST);
	s->pf_emulate += read_count(a, COUNT_PF + TPT_RET_PF_EMULATE) +
			 read_count(a, COUNT_PF + TPT_RET_PF_WRITE_PROTECTED);
	s->pf_spurious += read_count(a, COUNT_PF + TPT_RET_PF_SPURIOUS);
	s->pf_retry += read_count(a, COUNT_PF + TPT_RET_PF_RETRY);
	s->pf_error += read_count(a, COUNT_PF);
	s->pf_fast += read_count(a, COUNT_PF_FAST) + read_count(a, COUNT_PF_FIXED_FAST);
	s->pf_mmio_spte_created += read_count(a, COUNT_PF_MMIO_SPTE_CREATED);
	s->cas_lost += read_count(a, COUNT_CAS_LOST);
	for (unsigned int i = 0; i < TPT_CALL_NR; i++) {
		s->external_calls[i] += read_count(a, COUNT_CALL + i);
		s->external_busy[i] += read_count(a, COUNT_CALL_BUSY + i);
	}
}

void tpt_vcpu_get_stats(const struct tpt_vcpu *vcpu, struct tpt_vcpu_stats *stats)
{
	*stats = (struct tpt_vcpu_stats){0};
	add_vcpu_stats(stats, &vcpu->fault.actor);
}

static void tree_stats(const struct tpt_vm *vm, enum tpt_tree_kind kind, struct tpt_tree_stats *s)
{
	const struct trees *t = &vm->trees;

	s->pages_4k = (uint64_t)trees_count(t, count_tree(kind, TPT_LEVEL_4K));
	s->pages_2m = (uint64_t)trees_count(t, count_tree(kind, TPT_LEVEL_2M));
	s->pages_1g = (uint64_t)trees_count(t, count_tree(kind, TPT_LEVEL_1G));
	s->blocked = (uint64_t)trees_count(t, count_tree(kind, COUNT_TREE_BLOCKED));
	s->tables = (uint64_t)trees_count(t, count_tree(kind, COUNT_TREE_TABLE));
	s->mmio = (uint64_t)trees_count(t, count_tree(kind, COUNT_TREE_MMIO));
}

void tpt_vm_get_stats(struct tpt_vm *vm, struct tpt_vm_stats *stats)
{
	struct trees *t = &vm->trees;

	wait_deferred(vm);
	section_exclusive_begin(&vm->base);
	*stats = (struct tpt_vm_stats){
		.roots = !!t->root[TREE_DIRECT] + !!t->root[TREE_DIRECT_SMM] +
			 !!t->root[TREE_MIRROR],
		.hold = (uint64_t)trees_count(t, COUNT_HOLD),
		.exclusive = vm->base.nr_exclusive,
		.longest_exclusive = vm->base.longest_exclusive,
		.longest_shared = atomic_load(&vm->base.longest_shared),
		.invalidations = vm->nr_invalidations,
		.zap_all_fast = vm->nr_zap_all_fast,
		.nx_lpage_splits = atomic_load(&t->nx.nr),
		.table_pages_live = (uint64_t)trees_count(t, COUNT_PAGES_LIVE),
		.table_pages_deferred = (uint64_t)atomic_load(&vm->base.pages_deferred),
		.leaked_pages = (uint64_t)trees_count(t, COUNT_LEAKED),
	};
	add_vcpu_stats(&stats->vcpus, &vm->base.self);
	for (const struct actor *a = vm->base.actors; a; a = a->next)
		add_vcpu_stats(&stats->vcpus, a);
	tree_stats(vm, TPT_TREE_DIRECT, &stats->direct);
	tree_stats(vm, TPT_TREE_MIRROR, &stats->mirror);
	for (unsigned int i = 0; i < TPT_FLUSH_NR; i++) {
		stats->flush[i] = (uint64_t)trees_count(t, COUNT_FLUSH + i);
		stats->remote_tlb_flush += stats->flush[i];
	}
	for (unsigned int i = 0; i < TPT_KICK_NR; i++)
		stats->kick[i] = (uint64_t)trees_count(t, COUNT_KICK + i);
	section_exclusive_end(&vm->base);
}

bool tpt_vm_is_dead(const struct tpt_vm *vm)
{
	return vm_is_dead(&vm->base);
}

const char *tpt_vm_report(const struct tpt_vm *vm)
{
	return atomic_load_explicit(&((struct tpt_vm *)vm)->base.dead, memory_order_acquire) == 2
		       ? vm->base.report
		       : "";
}

void tpt_vm_for_each_mapping(struct tpt_vm *vm, bool (*fn)(void *ctx, const struct tpt_mapping *m),
			     void *ctx)
{
	tpt_gfn end = 1ull << vm->trees.gfn_bits;
	struct tree_iter it;
	bool more = true;

	section_exclusive_begin(&vm->base);
	for (enum tree_id id = 0; id < TREE_NR && more; id++) {
		for_each_tree_entry (&it, &vm->trees, id, 0, end, TPT_LEVEL_4K) {
			enum pte_kind kind = iter_kind(&it);
			struct tpt_mapping m = {
				.tree = tree_kind(id),
				.as_id = tree_as_id(id),
				.level = (enum tpt_level)it.level,
				.gfn = it.gfn,
				.spte = it.old,
				.leaf = kind != PTE_TABLE && kind != PTE_BLOCKED_TABLE,
				.blocked = kind == PTE_BLOCKED || kind == PTE_BLOCKED_TABLE,
			};

			if (kind == PTE_EMPTY || kind == PTE_MMIO)
				continue;
			more = fn(ctx, &m);
			if (!more)
				break;
		}
	}
	section_exclusive_end(&vm->base);
}
