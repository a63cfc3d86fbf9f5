// SPDX-License-Identifier: BSD-2-Clause
/*
 * THE transition: the one place where an entry of any tree changes. It alone does the
 * compare-and-exchange, the external call, accounting, child freeing and tracing, and it alone says
 * which changes are legal. It never says why one is made.
 *
 *	direct, shared:     old --compare-and-exchange--> new      lost: BUSY
 *	direct, exclusive:  old --exchange--> new                  only A and D can have changed
 *	direct, a table to a leaf or to nothing:
 *	                    old -> FROZEN, mark the table dead, -> new; then tree_settle()
 *	mirror:             old -> FROZEN, external call, -> new, or -> old if it was refused
 *	                    (who is alone needs no exchange there: no processor writes it)
 *	mirror, a size:     LEAF -> BLOCKED -> TABLE, TABLE -> BLOCKED_TABLE -> LEAF; track and kick
 *	                    in between are the caller's
 *
 *	In a shared section the table's dead mark is read after the change; if it is set, the change
 *	is taken back: an unlinked table never gains a usable entry. If another fault in the same
 *	dead table has gone on from it meanwhile it stands, counted, and goes with the table: the
 *	detach's flush is still to come, or no processor reaches the table any more.
 */
#include "mmu/tree/walk.h"

/* Legal changes: rows are old kinds, bits of a row are new kinds. */
#define TO(kind) (1u << PTE_##kind)

static const uint8_t legal_direct[PTE_KIND_NR] = {
	[PTE_EMPTY] = TO(MMIO) | TO(TABLE) | TO(LEAF),
	[PTE_MMIO] = TO(EMPTY) | TO(MMIO) | TO(TABLE) | TO(LEAF),
	[PTE_TABLE] = TO(EMPTY) | TO(LEAF),
	[PTE_LEAF] = TO(EMPTY) | TO(LEAF) | TO(TABLE),
};

static const uint8_t legal_mirror_shared[PTE_KIND_NR] = {
	[PTE_EMPTY] = TO(TABLE) | TO(LEAF),
};

static const uint8_t legal_mirror_exclusive[PTE_KIND_NR] = {
	[PTE_EMPTY] = TO(TABLE) | TO(LEAF),
	[PTE_LEAF] = TO(BLOCKED),
	[PTE_BLOCKED] = TO(LEAF) | TO(EMPTY) | TO(TABLE),
	[PTE_TABLE] = TO(BLOCKED_TABLE),
	[PTE_BLOCKED_TABLE] = TO(TABLE) | TO(LEAF),
};

/* After release() there is no guest and no key: pages go straight back, and nothing is blocked. */
static const uint8_t legal_mirror_released[PTE_KIND_NR] = {
	[PTE_TABLE] = TO(EMPTY),
	[PTE_LEAF] = TO(EMPTY),
	[PTE_BLOCKED] = TO(EMPTY),
	[PTE_BLOCKED_TABLE] = TO(TABLE),
};

/* The one rule that a leaf's permissions are held to: the processor's own safety is at stake. */
static inline bool may_run_code(const struct tree_iter *it, tpt_spte leaf)
{
	return it->level == TPT_LEVEL_4K || it->id == TREE_MIRROR || !it->trees->nx_huge_pages ||
	       !pte_is_exec(&it->trees->format, leaf);
}

static inline bool fits_level(const struct tree_iter *it, tpt_spte new_, enum pte_kind kind)
{
	if (kind == PTE_MMIO)
		return it->level == TPT_LEVEL_4K;
	if (kind == PTE_LEAF)
		return it->level == TPT_LEVEL_4K ||
		       (it->level <= TPT_LEVEL_MAX_LEAF && may_run_code(it, new_) &&
			!(pte_pfn(new_).n & (tpt_level_pages(it->level) - 1)));
	return true;
}

/* Is the table one of leaves that map what @leaf maps? */
static __attribute__((noinline)) bool maps_the_same(const struct tree_iter *it, tpt_spte table,
						    tpt_spte leaf)
{
	return tree_is_uniform(it->trees, table, it->level) &&
	       pte_pfn(tree_first(it->trees, table)).n == pte_pfn(leaf).n;
}

/* What becomes of a mirror's entry keeps what it stands for: a frame, or a table. */
static inline __attribute__((always_inline)) bool
keeps_mirrored(const struct tree_iter *it, enum pte_kind from, tpt_spte new_, enum pte_kind to)
{
	if (to == PTE_EMPTY || from == PTE_EMPTY)
		return true;
	if (to == PTE_BLOCKED || to == PTE_BLOCKED_TABLE)
		return pte_same(new_, pte_block(it->old));
	if (from == PTE_BLOCKED_TABLE && to == PTE_TABLE)
		return pte_table_hpa(new_).a == pte_table_hpa(it->old).a;
	if (from == PTE_BLOCKED_TABLE)
		return maps_the_same(it, it->old, new_);
	if (from == PTE_BLOCKED && to == PTE_TABLE)
		return maps_the_same(it, new_, it->old);
	return from != PTE_BLOCKED || to != PTE_LEAF || pte_pfn(it->old).n == pte_pfn(new_).n;
}

static inline __attribute__((always_inline)) bool is_legal(const struct tree_iter *it,
							   enum pte_kind old, tpt_spte new_,
							   enum pte_kind kind, enum tree_mode mode)
{
	const uint8_t *legal = legal_direct;

	if (it->id == TREE_MIRROR) {
		legal = mode == TREE_SHARED	     ? legal_mirror_shared
			: it->trees->mirror.released ? legal_mirror_released
						     : legal_mirror_exclusive;
		if (mode == TREE_SHARED && it->trees->mirror.released)
			return false;
	}
	if (!(legal[old] & 1u << kind) || !fits_level(it, new_, kind))
		return false;
	if (it->id == TREE_MIRROR)
		return keeps_mirrored(it, old, new_, kind);
	/* The frame behind a mapped page never changes in place. */
	return old != PTE_LEAF || kind != PTE_LEAF || pte_pfn(it->old).n == pte_pfn(new_).n;
}

static __attribute__((noinline)) int refuse(const struct tree_iter *it, tpt_spte new_)
{
	vm_die(it->trees->base, "illegal change of a %s entry: gfn %#lx level %u, %#lx to %#lx",
	       it->id == TREE_MIRROR ? "mirror" : "direct", it->gfn, it->level, it->old.w, new_.w);
	return -ERR_IO;
}

/* Does a processor that cached the old entry have more than the new one gives? */
static inline bool loses(const struct pte_format *f, tpt_spte old, enum pte_kind from,
			 tpt_spte new_, enum pte_kind to)
{
	if (from != PTE_LEAF)
		return false;
	if (to != PTE_LEAF)
		return to == PTE_EMPTY;
	return (old.w & ~new_.w & (f->write | f->exec)) || (new_.w & ~old.w & f->nx) ||
	       (old.w & ~new_.w & f->mmu_writable);
}

static inline bool is_leaf_kind(enum pte_kind kind)
{
	return kind == PTE_LEAF || kind == PTE_BLOCKED;
}

static inline void account(struct actor *actor, enum tpt_tree_kind tree, unsigned int level,
			   enum pte_kind kind, int n)
{
	if (is_leaf_kind(kind))
		count_add(actor, count_tree(tree, level), n);
	if (kind == PTE_BLOCKED || kind == PTE_BLOCKED_TABLE)
		count_add(actor, count_tree(tree, COUNT_TREE_BLOCKED), n);
	if (kind == PTE_MMIO)
		count_add(actor, count_tree(tree, COUNT_TREE_MMIO), n);
}

static __attribute__((noinline)) void tell(const struct actor *actor, const struct tree_iter *it,
					   tpt_spte new_)
{
	if (pte_same(it->old, new_))
		return;
	vm_event(it->trees->base,
		 &(struct tpt_event){.kind = it->id == TREE_MIRROR ? TPT_EVENT_MIRROR_CHANGED
								   : TPT_EVENT_SPTE_CHANGED,
				     .vcpu = actor->vcpu,
				     .as_id = tree_as_id(it->id),
				     .level = it->level,
				     .gfn = it->gfn,
				     .old_spte = it->old,
				     .new_spte = new_});
}

/* The change is visible: count it, tell it, and make the iterator stand on it. */
static inline __attribute__((always_inline)) void changed(struct actor *actor, struct tree_iter *it,
							  enum pte_kind from, tpt_spte new_,
							  enum pte_kind to)
{
	enum tpt_tree_kind tree = tree_kind(it->id);

	/* A leaf that is blocked, or back, is a leaf. */
	if (is_leaf_kind(from) && is_leaf_kind(to) && from != to)
		count_add(actor, count_tree(tree, COUNT_TREE_BLOCKED), to == PTE_BLOCKED ? 1 : -1);
	if (!is_leaf_kind(from) || !is_leaf_kind(to)) {
		account(actor, tree, it->level, from, -1);
		account(actor, tree, it->level, to, 1);
	}
	if (tree == TPT_TREE_DIRECT && loses(&it->trees->format, it->old, from, new_, to))
		it->must_flush = true;
	PROBE5(transition, it->id, it->gfn, it->level, it->old.w, new_.w);
	if (it->trees->base->event)
		tell(actor, it, new_);
	it->old = new_;
}

static inline bool exchange(struct tree_iter *it, tpt_spte new_)
{
	return atomic_compare_exchange_strong_explicit(it->entry, &it->old.w, new_.w,
						       memory_order_seq_cst, memory_order_acquire);
}

static inline void store(struct tree_iter *it, tpt_spte e)
{
	atomic_store_explicit(it->entry, e.w, memory_order_release);
}

static inline bool table_is_dead(const struct tree_iter *it)
{
	struct table *table = table_header(it->trees, it->path[it->level]);

	return atomic_load_explicit(&table->dead, memory_order_seq_cst);
}

static struct table *child_of(const struct tree_iter *it, tpt_spte e)
{
	return table_header(it->trees, pte_table_hpa(e));
}

/* A table gives way: nobody may add to it once the parent entry is replaced. */
static int detach_direct(struct actor *actor, struct tree_iter *it, tpt_spte new_, enum pte_kind to,
			 enum tree_mode mode)
{
	tpt_spte old = it->old;
	struct table *child = child_of(it, old);

	if (!exchange(it, pte_frozen()))
		return -ERR_BUSY;
	if (mode == TREE_SHARED && table_is_dead(it)) {
		store(it, old);
		return -ERR_BUSY;
	}
	table_mark_dead(child);
	store(it, new_);
	changed(actor, it, PTE_TABLE, new_, to);
	it->detached = (struct tree_detached){
		.table = child,
		.as_id = tree_as_id(it->id),
		.range = {it->gfn, it->gfn + tpt_level_pages(it->level)},
	};
	return 0;
}

void tree_settle(struct actor *actor, struct tree_detached *detached)
{
	if (!detached->table)
		return;
	vm_flush(actor, &(struct tpt_flush){.reason = TPT_FLUSH_COLLAPSE,
					    .as_id = detached->as_id,
					    .range = detached->range});
	table_reclaim_later(detached->table);
	detached->table = NULL;
}

/* False: another fault has gone on from it, so it stands. */
bool tree_take_back(const struct trees *trees, entry_t *entry, tpt_spte old, tpt_spte new_)
{
	const struct pte_format *f = &trees->format;
	uint64_t now = new_.w;

	/* A processor may set A and D in between. */
	while (!((now ^ new_.w) & ~(f->accessed | f->dirty)))
		if (atomic_compare_exchange_strong_explicit(
			    entry, &now, old.w, memory_order_seq_cst, memory_order_acquire))
			return true;
	return false;
}

/* Undoes a change that turned out to be in a dead table. A table that was linked may have been
 * seen: nobody may add to it from now on. */
static __attribute__((noinline)) bool take_back(struct tree_iter *it, tpt_spte old, tpt_spte new_,
						enum pte_kind to)
{
	if (to == PTE_TABLE)
		table_mark_dead(child_of(it, new_));
	return tree_take_back(it->trees, it->entry, old, new_);
}

static inline int change_direct(struct actor *actor, struct tree_iter *it, enum pte_kind from,
				tpt_spte new_, enum pte_kind to, enum tree_mode mode)
{
	tpt_spte old = it->old;

	if (from == PTE_TABLE)
		return detach_direct(actor, it, new_, to, mode);

	if (mode == TREE_EXCLUSIVE) {
		it->old.w = atomic_exchange_explicit(it->entry, new_.w, memory_order_seq_cst);
	} else {
		if (!exchange(it, new_))
			return -ERR_BUSY;
		if (table_is_dead(it) && take_back(it, old, new_, to))
			return -ERR_BUSY;
	}
	changed(actor, it, from, new_, to);
	return 0;
}

/* The same of a table that is blocked: it is merged or given back. */
static __attribute__((noinline)) int call_of_table(struct actor *actor, struct tree_iter *it,
						   tpt_spte old, enum pte_kind to)
{
	struct mirror *m = &it->trees->mirror;
	struct mirror_entry e = {it->gfn, (enum tpt_level)it->level};

	if (to == PTE_LEAF)
		return mirror_merge(m, actor, e, child_of(it, old)->external);
	/* Once the key is gone nobody is asked: there is no table out there any more. */
	return m->released ? 0 : mirror_unblock(m, actor, e);
}

/* What the owner is asked for this change. */
static inline __attribute__((always_inline)) int call_external(struct actor *actor,
							       struct tree_iter *it,
							       enum pte_kind from, tpt_spte old,
							       tpt_spte new_, enum pte_kind to)
{
	struct mirror *m = &it->trees->mirror;
	struct mirror_entry e = {it->gfn, (enum tpt_level)it->level};

	if (from == PTE_BLOCKED_TABLE)
		return call_of_table(actor, it, old, to);
	if (to == PTE_TABLE && from == PTE_BLOCKED)
		return mirror_split(m, actor, e, child_of(it, new_)->external);
	if (to == PTE_TABLE)
		return mirror_link(m, actor, e, child_of(it, new_)->external);
	if (to == PTE_BLOCKED || to == PTE_BLOCKED_TABLE)
		return mirror_block(m, actor, e);
	if (to == PTE_LEAF)
		return from == PTE_BLOCKED ? mirror_unblock(m, actor, e)
					   : mirror_map(m, actor, e, pte_pfn(new_));
	if (from == PTE_TABLE)
		return mirror_free_table(m, actor, e, child_of(it, old)->external);
	return m->released ? mirror_reclaim_leaf(m, actor, e, pte_pfn(old))
			   : mirror_remove(m, actor, e, pte_pfn(old));
}

/* No processor writes a mirror: who is alone there needs no exchange. */
static inline bool freeze(struct tree_iter *it, enum tree_mode mode)
{
	tpt_spte now;

	if (mode == TREE_SHARED)
		return exchange(it, pte_frozen());
	now = entry_read(it->entry);
	if (!pte_same(now, it->old)) {
		it->old = now;
		return false;
	}
	store(it, pte_frozen());
	return true;
}

static inline __attribute__((always_inline)) int
change_mirror(struct actor *actor, struct tree_iter *it, enum pte_kind from, tpt_spte new_,
	      enum pte_kind to, enum tree_mode mode)
{
	tpt_spte old = it->old;
	int err;

	if (!freeze(it, mode))
		return -ERR_BUSY;
	if (mode == TREE_SHARED && table_is_dead(it)) {
		store(it, old);
		return -ERR_BUSY;
	}
	err = call_external(actor, it, from, old, new_, to);
	store(it, err ? old : new_);
	if (err)
		return err;
	changed(actor, it, from, new_, to);
	return 0;
}

/* All of it. Where it is told what becomes of what, only that is left of it. */
static inline __attribute__((always_inline)) int transition(struct actor *actor,
							    struct tree_iter *it,
							    enum pte_kind from, tpt_spte new_,
							    enum pte_kind to, enum tree_mode mode)
{
	int err;

	if (!is_legal(it, from, new_, to, mode))
		return refuse(it, new_);
	/* Before anybody can reach it. */
	if (to == PTE_TABLE)
		child_of(it, new_)->parent = it->entry;
	if (it->id == TREE_MIRROR)
		err = change_mirror(actor, it, from, new_, to, mode);
	else
		err = change_direct(actor, it, from, new_, to, mode);
	if (err == -ERR_BUSY)
		count_add(actor, COUNT_CAS_LOST, 1);
	return err;
}

int tree_transition(struct actor *actor, struct tree_iter *it, tpt_spte new_, enum tree_mode mode)
{
	enum pte_kind from = iter_kind(it), to = pte_kind(&it->trees->format, new_, it->level);

	if (from == PTE_FROZEN)
		return -ERR_BUSY;
	return transition(actor, it, from, new_, to, mode);
}

/* What both phases of a removal share: of a mirror, and nobody else is there. */
static inline __attribute__((always_inline)) int phase(struct actor *actor, struct tree_iter *it,
						       enum pte_kind from, tpt_spte new_,
						       enum pte_kind to)
{
	return it->id == TREE_MIRROR ? transition(actor, it, from, new_, to, TREE_EXCLUSIVE)
				     : refuse(it, new_);
}

int tree_block(struct actor *actor, struct tree_iter *it)
{
	return phase(actor, it, PTE_LEAF, pte_block(it->old), PTE_BLOCKED);
}

int tree_block_table(struct actor *actor, struct tree_iter *it)
{
	int err = phase(actor, it, PTE_TABLE, pte_block(it->old), PTE_BLOCKED_TABLE);

	if (!err)
		grace_begin(it->trees->base);
	return err;
}

int tree_remove(struct actor *actor, struct tree_iter *it)
{
	return phase(actor, it, PTE_BLOCKED, pte_empty(), PTE_EMPTY);
}

int tree_link(struct actor *actor, struct tree_iter *it, struct table *table, enum nx_mark mark)
{
	struct trees *trees = it->trees;
	int err;

	if (!nx_link_begin(trees, table, mark))
		return -ERR_BUSY;
	err = tree_transition(actor, it, pte_table(&trees->format, table->hpa), TREE_SHARED);
	nx_link_end(trees, table, mark, !err);
	return err;
}
