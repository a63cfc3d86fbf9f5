// SPDX-License-Identifier: BSD-2-Clause
/* Who may zap what, and the walk over direct trees. Private entries go in private.c. */
#include "mmu/range/range.h"

/*
 * The filter of the whole library. DESIGN: memslot deletion private and shared; notifier shared
 * only; to shared private only; to private shared only; all else never private.
 */
static const struct {
	uint8_t trees;
	enum tpt_flush_reason flush;
} rules[ZAP_REASON_NR] = {
	[ZAP_MEMSLOT] = {TREE_DIRECT_ALL | TREE_MIRROR_BIT, TPT_FLUSH_ZAP_MEMSLOT},
	[ZAP_NOTIFIER] = {TREE_DIRECT_ALL, TPT_FLUSH_ZAP_NOTIFIER},
	[ZAP_TO_PRIVATE] = {TREE_DIRECT_ALL, TPT_FLUSH_ZAP_CONVERSION},
	[ZAP_TO_SHARED] = {TREE_MIRROR_BIT, TPT_FLUSH_ZAP_CONVERSION},
	[ZAP_GMEM_HOLE] = {TREE_MIRROR_BIT, TPT_FLUSH_ZAP_CONVERSION},
	[ZAP_GMEM_SHARED] = {TREE_DIRECT_ALL, TPT_FLUSH_ZAP_CONVERSION},
	[ZAP_APICV] = {TREE_DIRECT_ALL, TPT_FLUSH_ZAP_RANGE},
	[ZAP_NONCOHERENT] = {TREE_DIRECT_ALL, TPT_FLUSH_ZAP_RANGE},
	[ZAP_MMIO] = {TREE_DIRECT_ALL, TPT_FLUSH_ZAP_RANGE},
	[ZAP_CONTEXT] = {TREE_DIRECT_ALL, TPT_FLUSH_ROOT},
};

unsigned int zap_trees(const struct fault_env *env, enum zap_reason reason)
{
	return env->has_mirror ? rules[reason].trees : TREE_DIRECT_ALL;
}

/* Zaps leaves of one direct tree from zap->pos on. 1: there is more. */
static int zap_direct_chunk(struct fault_env *env, struct zap *zap)
{
	struct actor *actor = &env->base->self;
	struct tree_iter it;
	struct tpt_gfn_range gone = {0, 0}; /* whole leaves, which may reach out of the range */
	unsigned int seen = 0;
	tpt_gfn start = zap->pos;
	int more = 0, err = 0;

	for_each_tree_entry (&it, env->trees, zap->tree, zap->pos, zap->range.end, TPT_LEVEL_4K) {
		enum pte_kind kind = iter_kind(&it);

		if (seen++ >= ZAP_DIRECT_CHUNK && it.gfn > start) {
			more = 1;
			break;
		}
		if (kind != PTE_LEAF && !(kind == PTE_MMIO && zap->reason == ZAP_MMIO))
			continue;
		err = tree_transition(actor, &it, pte_empty(), TREE_EXCLUSIVE);
		if (err)
			break;
		zap->zapped += kind == PTE_LEAF;
		if (!it.must_flush)
			continue;
		if (gone.start == gone.end)
			gone.start = it.gfn;
		gone.end = it.gfn + tpt_level_pages(it.level);
	}
	zap->pos = more ? it.gfn : zap->range.end;
	hold_looked(actor, seen);
	if (gone.start < gone.end)
		vm_flush(actor, &(struct tpt_flush){.reason = rules[zap->reason].flush,
						    .as_id = tree_as_id(zap->tree),
						    .range = gone});
	return err ? err : more;
}

int zap_chunk(struct fault_env *env, struct zap *zap)
{
	int more;

	for (; zap->tree < TREE_NR; zap->tree++, zap->pos = zap->range.start) {
		if (!(zap->trees & 1u << zap->tree) || !env->trees->root[zap->tree])
			continue;
		more = zap->tree == TREE_MIRROR ? zap_private_chunk(env, zap)
						: zap_direct_chunk(env, zap);
		if (more)
			return more;
	}
	return 0;
}
