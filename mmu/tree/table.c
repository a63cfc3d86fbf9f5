// SPDX-License-Identifier: BSD-2-Clause
/* Table pages: made from an actor's cache, freed by the reclaimer. Never links one. */
#include "mmu/tree/tree.h"

void trees_init(struct trees *trees, struct vm_base *base)
{
	trees->base = base;
	if (base->platform->page_linear && base->platform->record_linear) {
		trees->page_linear = base->platform->page_linear;
		trees->record_linear = base->platform->record_linear;
	}
	trees->told = base->event;
	trees->mirror.base = base;
}

static void count_late(struct trees *trees, unsigned int counter, int64_t n)
{
	if (n)
		atomic_fetch_add_explicit(&trees->late[counter], n, memory_order_relaxed);
}

int64_t trees_count(const struct trees *trees, unsigned int counter)
{
	return count_sum(trees->base, counter) +
	       atomic_load_explicit(&((struct trees *)trees)->late[counter], memory_order_relaxed);
}

static int cache_fill(struct trees *trees, struct actor *actor, struct page_cache *cache,
		      uint32_t nr)
{
	struct vm_base *base = trees->base;
	int err;

	if (cache->nr < nr && section_is_inside(actor)) {
		vm_die(base, "vcpu %d fills its page cache inside a section", actor->vcpu);
		return -ERR_NOMEM;
	}
	while (cache->nr < nr) {
		err = base->platform->page_alloc(base->platform_ctx, &cache->page[cache->nr]);
		if (err)
			return -ERR_NOMEM;
		cache->nr++;
		count_add(actor, COUNT_PAGES_LIVE, 1);
	}
	return 0;
}

static void cache_drop(struct trees *trees, struct actor *actor, struct page_cache *cache)
{
	struct vm_base *base = trees->base;

	while (cache->nr) {
		base->platform->page_free(base->platform_ctx, cache->page[--cache->nr]);
		count_add(actor, COUNT_PAGES_LIVE, -1);
	}
}

int tables_refill(struct trees *trees, struct actor *actor, bool mirror)
{
	int err;

	actor->tables.want = actor->external.want = trees->levels;
	err = cache_fill(trees, actor, &actor->tables, trees->levels);

	if (!err && mirror)
		err = cache_fill(trees, actor, &actor->external, trees->levels);
	return err;
}

void tables_drop(struct trees *trees, struct actor *actor)
{
	cache_drop(trees, actor, &actor->tables);
	cache_drop(trees, actor, &actor->external);
}

static uint32_t role_make(const struct trees *trees, enum tree_id id, unsigned int level)
{
	uint32_t role = level | ROLE_DIRECT | ROLE_ACCESS_ALL | ROLE_EFER_NX | ROLE_CR0_WP;

	if (!trees->format.accessed)
		role |= ROLE_AD_DISABLED;
	if (id == TREE_MIRROR)
		role |= ROLE_IS_MIRROR;
	if (id == TREE_DIRECT_SMM)
		role |= ROLE_SMM;
	return role;
}

static void page_event(const struct table *table, const struct actor *actor,
		       enum tpt_event_kind kind)
{
	vm_event(table->trees->base, &(struct tpt_event){.kind = kind,
							 .vcpu = actor ? actor->vcpu : -1,
							 .as_id = !!(table->role & ROLE_SMM),
							 .level = ROLE_LEVEL(table->role),
							 .gfn = table->gfn,
							 .role = table->role});
}

static enum tpt_tree_kind table_kind(const struct table *table)
{
	return table->role & ROLE_IS_MIRROR ? TPT_TREE_MIRROR : TPT_TREE_DIRECT;
}

struct table *table_make_blank(struct trees *trees, struct actor *actor, enum tree_id id,
			       unsigned int level, tpt_gfn gfn)
{
	tpt_hpa hpa = actor->tables.page[--actor->tables.nr];
	struct table *table = table_header(trees, hpa);

	*table = (struct table){
		.trees = trees, .hpa = hpa, .gfn = gfn, .role = role_make(trees, id, level)};
	if (id == TREE_MIRROR && level < trees->levels)
		table->external = actor->external.page[--actor->external.nr];

	count_add(actor, count_tree(table_kind(table), COUNT_TREE_TABLE), 1);
	page_event(table, actor, TPT_EVENT_GET_PAGE);
	return table;
}

struct table *table_make(struct trees *trees, struct actor *actor, enum tree_id id,
			 unsigned int level, tpt_gfn gfn)
{
	struct table *table = table_make_blank(trees, actor, id, level, gfn);

	table_write(table_entries(trees, table->hpa), TABLE_ENTRIES, PTE_EMPTY_WORD, 0);
	return table;
}

void table_unmake(struct table *table, struct actor *actor)
{
	if (atomic_load_explicit(&table->dead, memory_order_relaxed)) {
		table_reclaim_later(table);
		return;
	}
	page_event(table, actor, TPT_EVENT_PREPARE_ZAP_PAGE);
	count_add(actor, count_tree(table_kind(table), COUNT_TREE_TABLE), -1);
	if (table->external.a)
		actor->external.page[actor->external.nr++] = table->external;
	actor->tables.page[actor->tables.nr++] = table->hpa;
}

static void reclaim_after(struct table *table, uint64_t unlinked);

/* How many entries of each kind a dead table has; its children are handed on. */
static void reclaim_entries(struct table *table, unsigned int nr[PTE_KIND_NR])
{
	struct trees *trees = table->trees;
	unsigned int level = ROLE_LEVEL(table->role);
	const entry_t *entries = table_entries(trees, table->hpa);

	for (unsigned int i = 0; i < TABLE_ENTRIES; i++) {
		tpt_spte e = entry_read(&entries[i]);
		enum pte_kind kind = pte_kind(&trees->format, e, level);

		nr[kind]++;
		if (kind == PTE_TABLE || kind == PTE_BLOCKED_TABLE)
			reclaim_after(table_header(trees, pte_table_hpa(e)), table->unlinked);
	}
}

/*
 * Frees one dead table. Its children are handed to the platform again, one by one, so that no call
 * does more than one table's work, however large the tree was; nobody has to be waited for again.
 */
static void table_reclaim(struct tpt_deferred *d)
{
	struct table *table = container_of(d, struct table, deferred);
	struct trees *trees = table->trees;
	struct vm_base *base = trees->base;
	enum tpt_tree_kind kind = table_kind(table);
	unsigned int nr[PTE_KIND_NR] = {0};

	grace_wait(base, table->unlinked);
	reclaim_entries(table, nr);
	count_late(trees, count_tree(kind, ROLE_LEVEL(table->role)),
		   -(int64_t)(nr[PTE_LEAF] + nr[PTE_BLOCKED]));
	count_late(trees, count_tree(kind, COUNT_TREE_BLOCKED),
		   -(int64_t)(nr[PTE_BLOCKED] + nr[PTE_BLOCKED_TABLE]));
	count_late(trees, count_tree(kind, COUNT_TREE_MMIO), -(int64_t)nr[PTE_MMIO]);
	page_event(table, NULL, TPT_EVENT_PREPARE_ZAP_PAGE);
	count_late(trees, count_tree(kind, COUNT_TREE_TABLE), -1);
	count_late(trees, COUNT_PAGES_LIVE, -1);
	base->platform->page_free(base->platform_ctx, table->hpa);
	/* Last: whoever waits for this may free the VM at once. */
	atomic_fetch_sub_explicit(&base->pages_deferred, 1, memory_order_release);
}

static void reclaim_after(struct table *table, uint64_t unlinked)
{
	struct vm_base *base = table->trees->base;

	nx_forget(table);
	atomic_fetch_add_explicit(&base->pages_deferred, 1, memory_order_relaxed);
	table->unlinked = unlinked;
	table->deferred.fn = table_reclaim;
	base->platform->defer(base->platform_ctx, &table->deferred);
}

void table_reclaim_later(struct table *table)
{
	reclaim_after(table, grace_begin(table->trees->base));
}

void table_mark_dead(struct table *top)
{
	struct trees *trees = top->trees;
	struct table *path[TPT_LEVEL_MAX + 1];
	unsigned int index[TPT_LEVEL_MAX + 1] = {0};
	unsigned int top_level = ROLE_LEVEL(top->role), level = top_level;

	path[level] = top;
	atomic_store_explicit(&top->dead, 1, memory_order_seq_cst);
	while (level <= top_level) {
		entry_t *entries = table_entries(trees, path[level]->hpa);
		tpt_spte e;

		if (level == TPT_LEVEL_4K || index[level] == TABLE_ENTRIES) {
			level++;
			continue;
		}
		/* After the mark, in one order with it: a link that this misses sees the mark. */
		e.w = atomic_load_explicit(&entries[index[level]++], memory_order_seq_cst);
		if (pte_kind(&trees->format, e, level) != PTE_TABLE)
			continue;
		path[level - 1] = table_header(trees, pte_table_hpa(e));
		atomic_store_explicit(&path[level - 1]->dead, 1, memory_order_seq_cst);
		index[--level] = 0;
	}
}
