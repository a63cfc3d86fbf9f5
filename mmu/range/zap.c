// SPDX-License-Identifier: BSD-2-Clause
/* Who may zap what, and the walk over direct trees. Private entries go in private.c. */
#include "mmu/range/range.h"
#include "mmu/tree/walk.h"

/*
 * The filter of the whole library. DESIGN: memslot deletion private and shared; notifier shared
 * only; to shared private only; to private shared only; all else never private. What is a gmem's is
 * not the backing's to hear of.
 */
static const struct {
	uint8_t trees;
	bool tell; /* the backing */
	enum tpt_flush_reason flush;
} rules[ZAP_REASON_NR] = {
	[ZAP_MEMSLOT] = {TREE_DIRECT_ALL | TREE_MIRROR_BIT, true, TPT_FLUSH_ZAP_MEMSLOT},
	[ZAP_NOTIFIER] = {TREE_DIRECT_ALL, true, TPT_FLUSH_ZAP_NOTIFIER},
	[ZAP_TO_PRIVATE] = {TREE_DIRECT_ALL, true, TPT_FLUSH_ZAP_CONVERSION},
	[ZAP_TO_SHARED] = {TREE_MIRROR_BIT, false, TPT_FLUSH_ZAP_CONVERSION},
	[ZAP_GMEM_HOLE] = {TREE_MIRROR_BIT, false, TPT_FLUSH_ZAP_CONVERSION},
	[ZAP_GMEM_SHARED] = {TREE_DIRECT_ALL, false, TPT_FLUSH_ZAP_CONVERSION},
	[ZAP_APICV] = {TREE_DIRECT_ALL, true, TPT_FLUSH_ZAP_RANGE},
	[ZAP_NONCOHERENT] = {TREE_DIRECT_ALL, true, TPT_FLUSH_ZAP_RANGE},
	[ZAP_MMIO] = {TREE_DIRECT_ALL, true, TPT_FLUSH_ZAP_RANGE},
	[ZAP_CONTEXT] = {TREE_DIRECT_ALL, false, TPT_FLUSH_ROOT},
};

unsigned int zap_trees_of(enum zap_reason reason)
{
	return rules[reason].trees;
}

/* Does the backing hear how leaves were used that are gone? */
static bool is_told(const struct fault_env *env, const struct zap *zap)
{
	return env->backing->zapped && rules[zap->reason].tell;
}

static void tell_backing(const struct fault_env *env, const struct zap *zap,
			 const struct tree_iter *it, const struct tree_sweep *sweep)
{
	env->backing->zapped(env->backing_ctx,
			     &(struct tpt_zapped){.as_id = tree_as_id(zap->tree),
						  .level = (enum tpt_level)it->level,
						  .reason = rules[zap->reason].flush,
						  .gfn = it->gfn,
						  .nr = sweep->done,
						  .gone = sweep->hit,
						  .dirty = sweep->dirty,
						  .young = sweep->young});
}

static void flush(struct actor *actor, const struct zap *zap, tpt_gfn start, tpt_gfn end)
{
	vm_flush(actor, &(struct tpt_flush){.reason = rules[zap->reason].flush,
					    .as_id = tree_as_id(zap->tree),
					    .range = {start, end}});
}

/* Zaps leaves of one direct tree from zap->pos on. 1: there is more. */
static int zap_direct_chunk(struct fault_env *env, struct zap *zap)
{
	struct actor *actor = &env->base->self;
	struct tree_sweep sweep = {.rule = zap->reason == ZAP_MMIO ? TREE_ZAP_MMIO : TREE_ZAP};
	struct tpt_gfn_range gone = {0, 0}; /* whole leaves, which may reach out of the range */
	unsigned int hits;
	struct tree_iter it;
	bool more = iter_start_runs(&it, env->trees, zap->tree, zap->pos, zap->range.end,
				    TPT_LEVEL_4K, ZAP_DIRECT_CHUNK);

	for (; more; more = iter_next_run(&it, sweep.done)) {
		hits = tree_sweep(actor, &it, it.nr, &sweep);
		if (!hits)
			continue;
		zap->zapped += hits;
		range_cover(&gone, &it, sweep.hit, sweep.done);
		if (is_told(env, zap))
			tell_backing(env, zap, &it, &sweep);
	}
	hold_looked(actor, ZAP_DIRECT_CHUNK - it.left);
	zap->pos = iter_gave_way(&it) ? it.next : zap->range.end;
	if (gone.start < gone.end)
		flush(actor, zap, gone.start, gone.end);
	return vm_is_dead(env->base) ? -ERR_IO : iter_gave_way(&it);
}

static __attribute__((noinline)) int zap_trees_chunk(struct fault_env *env, struct zap *zap)
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

/* ---- one page ---- */

/* Hosts take memory back page by page: a path of its own, for where nobody listens. */
static inline bool is_one_page(const struct fault_env *env, const struct zap *zap)
{
	return zap->range.end - zap->pos == 1 && zap->trees == 1u << TREE_DIRECT &&
	       zap->reason != ZAP_MMIO && !env->unusual;
}

static inline void tell_page(const struct fault_env *env, enum tpt_flush_reason reason, tpt_gfn gfn,
			     tpt_spte leaf)
{
	static const uint64_t bit[2] = {0, 1};
	const struct pte_format *f = &env->trees->format;

	env->backing->zapped(env->backing_ctx,
			     &(struct tpt_zapped){.level = TPT_LEVEL_4K,
						  .reason = reason,
						  .gfn = gfn,
						  .nr = 1,
						  .gone = &bit[1],
						  .dirty = &bit[!!(leaf.w & f->dirty)],
						  .young = &bit[!!(leaf.w & f->young)]});
}

/* No hint: the spot of the page's 4K entry, if there is a table for it. */
static __attribute__((noinline)) bool walk_to_page(struct fault_env *env, tpt_gfn gfn,
						   uint64_t turn)
{
	const struct trees *trees = env->trees;
	struct tree_spot at;

	if (gfn >> trees->gfn_bits || !trees->root[TREE_DIRECT])
		return false;
	at = tree_walk_linear(trees, trees->root[TREE_DIRECT], gfn | trees->shared_gfn,
			      TPT_LEVEL_4K);
	hint_fill(&env->zap_hint, gfn, TPT_LEVEL_4K, turn, at);
	return at.level == TPT_LEVEL_4K;
}

/* A 4K leaf, or nothing. */
ALWAYS_INLINE int zap_page(struct fault_env *env, struct zap *zap, struct tree_spot at)
{
	struct actor *actor = &env->base->self;
	enum tpt_flush_reason reason = rules[zap->reason].flush;
	bool told = is_told(env, zap);
	tpt_gfn gfn = zap->pos;
	tpt_spte leaf;

	hold_looked(actor, 1);
	if (!pte_is_present(at.old))
		return 0;
	leaf = tree_zap_leaf(actor, at);
	zap->zapped++;
	if (told)
		tell_page(env, reason, gfn, leaf);
	vm_flush(actor, &(struct tpt_flush){.reason = reason, .range = {gfn, gfn + 1}});
	return 0;
}

int zap_chunk(struct fault_env *env, struct zap *zap)
{
	uint64_t turn = atomic_load_explicit(&env->base->turn, memory_order_relaxed);

	if (!is_one_page(env, zap) ||
	    (!hint_is_good(&env->zap_hint, zap->pos, TPT_LEVEL_4K, turn) &&
	     !walk_to_page(env, zap->pos, turn)))
		return zap_trees_chunk(env, zap);
	return zap_page(env, zap, hint_spot(&env->zap_hint, zap->pos, TPT_LEVEL_4K));
}
