// SPDX-License-Identifier: BSD-2-Clause
/*
 * The audit: everything that must hold of a VM at rest, looked at entry by entry. Changes nothing,
 * and trusts no counter, header or mirror that it can check against something else.
 */
#include "mmu/vm/vm.h"

/* Frames of a private leaf. */
struct private_leaf {
	uint64_t pfn, pages;
};

struct audit {
	struct tpt_vm *vm;
	char *text;
	size_t size;
	int faults;
	enum tree_id tree;
	uint64_t leaves[TREE_NR][TPT_LEVEL_MAX + 1], blocked, mmio;
	uint64_t tables[2]; /* by enum tpt_tree_kind */
	uint64_t nx;	    /* tables in the list of NX recovery */
	struct private_leaf *private_;
	size_t nr_private, room_private;
};

static void fault(struct audit *a, const struct tree_iter *it, const char *what)
{
	if (!a->faults++ && a->size)
		text_format(a->text, a->size, "%s: tree %u gfn %#lx level %u entry %#lx", what,
			    (unsigned int)a->tree, it ? it->gfn : 0, it ? it->level : 0,
			    it ? it->old.w : 0);
}

/* ---- private frames, sorted, to look things up in ---- */

static void sift_down(struct private_leaf *heap, size_t i, size_t n)
{
	for (size_t child; (child = 2 * i + 1) < n; i = child) {
		struct private_leaf tmp;

		if (child + 1 < n && heap[child + 1].pfn > heap[child].pfn)
			child++;
		if (heap[i].pfn >= heap[child].pfn)
			return;
		tmp = heap[i];
		heap[i] = heap[child];
		heap[child] = tmp;
	}
}

static void sort(struct private_leaf *v, size_t n)
{
	for (size_t i = n / 2; i--;)
		sift_down(v, i, n);
	for (size_t i = n; i-- > 1;) {
		struct private_leaf tmp = v[0];

		v[0] = v[i];
		v[i] = tmp;
		sift_down(v, 0, i);
	}
}

/* Is any private frame in [pfn, pfn + pages)? None is in two leaves, or that was told already. */
static bool is_private_frame(const struct audit *a, uint64_t pfn, uint64_t pages)
{
	size_t low = 0, high = a->nr_private;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (a->private_[mid].pfn + a->private_[mid].pages <= pfn)
			low = mid + 1;
		else
			high = mid;
	}
	return low < a->nr_private && a->private_[low].pfn < pfn + pages;
}

static void note_private(struct audit *a, tpt_pfn pfn, uint64_t pages)
{
	if (a->nr_private < a->room_private)
		a->private_[a->nr_private++] = (struct private_leaf){pfn.n, pages};
}

/* ---- one entry ---- */

static void check_external(struct audit *a, const struct tree_iter *it, enum tpt_external_kind kind)
{
	struct mirror *m = &a->vm->trees.mirror;
	struct tpt_external_entry e = {TPT_EXTERNAL_NONE, {0}};
	int err;

	if (!m->ops->read || m->released)
		return;
	err = m->ops->read(m->ctx, it->gfn, (enum tpt_level)it->level, &e);
	if (err || e.kind != kind)
		fault(a, it, "mirror and external table differ");
	else if ((kind == TPT_EXTERNAL_LEAF || kind == TPT_EXTERNAL_BLOCKED_LEAF) &&
		 e.pfn.n != pte_pfn(it->old).n)
		fault(a, it, "mirror and external table name different frames");
}

static void check_nx(struct audit *a, const struct tree_iter *it, struct table *table)
{
	a->nx += !!atomic_load(&table->nx_listed);
	if (atomic_load(&table->nx_listed) &&
	    (!atomic_load(&table->nx_disallowed) || a->tree == TREE_MIRROR))
		fault(a, it, "a table is listed for NX recovery that no code needs");
}

static void check_table(struct audit *a, const struct tree_iter *it)
{
	const struct trees *t = &a->vm->trees;
	const struct table *table = table_header(t, pte_table_hpa(it->old));
	bool mirror = a->tree == TREE_MIRROR;

	a->tables[tree_kind(a->tree)]++;
	if (iter_kind(it) == PTE_TABLE && (it->old.w & ~PTE_ADDR_MASK) != t->format.table)
		fault(a, it, "table entry has bits of no table");
	if (table->trees != t || table->hpa.a != pte_table_hpa(it->old).a)
		fault(a, it, "entry points to a page that is no table of this VM");
	else if (table->parent != it->entry || table->gfn != it->gfn ||
		 ROLE_LEVEL(table->role) != it->level - 1)
		fault(a, it, "table's header does not fit its place");
	else if (!!(table->role & ROLE_IS_MIRROR) != mirror || !!table->external.a != mirror ||
		 !!(table->role & ROLE_SMM) != (a->tree == TREE_DIRECT_SMM))
		fault(a, it, "table's role does not fit its tree");
	if (atomic_load(&((struct table *)table)->dead))
		fault(a, it, "a dead table is linked");
	check_nx(a, it, (struct table *)table);
	if (mirror)
		check_external(a, it,
			       iter_kind(it) == PTE_TABLE ? TPT_EXTERNAL_TABLE
							  : TPT_EXTERNAL_BLOCKED_TABLE);
}

/* A table that was to be merged: no walk goes into it. Only one of leaves is. */
static void check_blocked_table(struct audit *a, const struct tree_iter *it)
{
	check_table(a, it);
	a->blocked++;
	a->leaves[a->tree][it->level - 1] += TABLE_ENTRIES;
	if (!tree_is_uniform(it->trees, it->old, it->level))
		fault(a, it, "a table is blocked that could not be merged");
}

static void check_leaf(struct audit *a, const struct tree_iter *it, bool blocked)
{
	const struct slots *slots = &a->vm->slots;
	uint64_t pages = tpt_level_pages(it->level);
	const struct memslot *slot = slot_find(slots, tree_as_id(a->tree), it->gfn);
	bool uniform, private_ = false;

	a->leaves[a->tree][it->level]++;
	a->blocked += blocked;
	if (it->level > TPT_LEVEL_MAX_LEAF || pte_pfn(it->old).n & (pages - 1))
		fault(a, it, "leaf above 1G, or frame not aligned to its level");
	if (a->vm->trees.nx_huge_pages && a->tree != TREE_MIRROR && pages > 1 &&
	    pte_is_exec(&a->vm->trees.format, it->old))
		fault(a, it, "code may run from a huge leaf");
	if (!slot || slot->base_gfn > it->gfn || slot->base_gfn + slot->npages < it->gfn + pages)
		fault(a, it, "leaf maps what no memslot covers");
	uniform = attr_uniform(slots, it->gfn, it->gfn + pages, &private_);
	if (a->vm->env.has_mirror && !blocked && (!uniform || private_ != (a->tree == TREE_MIRROR)))
		fault(a, it, "leaf is in the wrong tree for its private/shared attribute");
	if (a->tree == TREE_MIRROR)
		check_external(a, it, blocked ? TPT_EXTERNAL_BLOCKED_LEAF : TPT_EXTERNAL_LEAF);
	else if (is_private_frame(a, pte_pfn(it->old).n, pages))
		fault(a, it, "a private frame is reachable from a direct tree");
}

static void check_entry(struct audit *a, const struct tree_iter *it)
{
	switch (iter_kind(it)) {
	case PTE_TABLE:
		check_table(a, it);
		break;
	case PTE_LEAF:
	case PTE_BLOCKED:
		check_leaf(a, it, iter_kind(it) == PTE_BLOCKED);
		break;
	case PTE_BLOCKED_TABLE:
		check_blocked_table(a, it);
		break;
	case PTE_MMIO:
		a->mmio++;
		if (it->level != TPT_LEVEL_4K ||
		    pte_mmio_gfn(&a->vm->trees.format, it->old) != it->gfn)
			fault(a, it, "MMIO entry names another gfn");
		break;
	case PTE_EMPTY:
		if (a->tree == TREE_MIRROR)
			check_external(a, it, TPT_EXTERNAL_NONE);
		break;
	default:
		fault(a, it, "entry is FROZEN at rest");
	}
}

/* ---- whole trees ---- */

static void check_tree(struct audit *a, enum tree_id id)
{
	const struct table *root = a->vm->trees.root[id];
	tpt_gfn end = 1ull << a->vm->trees.gfn_bits;
	struct tree_iter it;

	a->tree = id;
	if (!root)
		return;
	a->tables[tree_kind(id)]++;
	if (root->parent || root->external.a || ROLE_LEVEL(root->role) != a->vm->trees.levels)
		fault(a, NULL, "root's header is not a root's");
	for_each_tree_entry (&it, &a->vm->trees, id, 0, end, TPT_LEVEL_4K)
		check_entry(a, &it);
}

static void collect_private(struct audit *a)
{
	tpt_gfn end = 1ull << a->vm->trees.gfn_bits;
	struct tree_iter it;

	a->tree = TREE_MIRROR;
	for_each_tree_entry (&it, &a->vm->trees, TREE_MIRROR, 0, end, TPT_LEVEL_4K) {
		enum pte_kind kind = iter_kind(&it);

		if (kind == PTE_LEAF || kind == PTE_BLOCKED)
			note_private(a, pte_pfn(it.old), tpt_level_pages(it.level));
		else if (kind == PTE_BLOCKED_TABLE)
			note_private(a, pte_pfn(tree_first(it.trees, it.old)),
				     tpt_level_pages(it.level));
	}
	sort(a->private_, a->nr_private);
	for (size_t i = 1; i < a->nr_private; i++)
		if (a->private_[i].pfn < a->private_[i - 1].pfn + a->private_[i - 1].pages)
			fault(a, NULL, "a private frame is mapped twice");
}

static void check_count(struct audit *a, unsigned int counter, uint64_t seen, const char *what)
{
	if ((uint64_t)trees_count(&a->vm->trees, counter) != seen)
		fault(a, NULL, what);
}

static void check_counts(struct audit *a)
{
	const unsigned int d = TPT_TREE_DIRECT, m = TPT_TREE_MIRROR;

	for (unsigned int level = TPT_LEVEL_4K; level <= TPT_LEVEL_MAX_LEAF; level++) {
		check_count(a, count_tree(d, level),
			    a->leaves[TREE_DIRECT][level] + a->leaves[TREE_DIRECT_SMM][level],
			    "count of direct leaves is wrong");
		check_count(a, count_tree(m, level), a->leaves[TREE_MIRROR][level],
			    "count of mirror leaves is wrong");
	}
	check_count(a, count_tree(d, COUNT_TREE_MMIO), a->mmio, "count of MMIO entries is wrong");
	check_count(a, count_tree(m, COUNT_TREE_BLOCKED), a->blocked, "count of BLOCKED is wrong");
	check_count(a, count_tree(d, COUNT_TREE_TABLE), a->tables[d],
		    "count of direct tables is wrong");
	check_count(a, count_tree(m, COUNT_TREE_TABLE), a->tables[m],
		    "count of mirror tables is wrong");
	if (atomic_load(&a->vm->trees.nx.nr) != a->nx)
		fault(a, NULL, "the list of NX recovery has tables that are not linked");
}

int tpt_vm_audit(struct tpt_vm *vm, char *text, size_t size)
{
	struct audit a = {.vm = vm, .text = text, .size = size};
	const char *what;

	if (size)
		text[0] = 0;
	wait_deferred(vm);
	section_exclusive_begin(&vm->base);
	for (unsigned int level = TPT_LEVEL_4K; level <= TPT_LEVEL_MAX_LEAF; level++)
		a.room_private +=
			(size_t)trees_count(&vm->trees, count_tree(TPT_TREE_MIRROR, level));
	if (a.room_private)
		a.private_ = mem_alloc(&vm->base, a.room_private * sizeof(*a.private_));
	if (a.room_private && !a.private_)
		fault(&a, NULL, "no memory to audit private frames with");
	else
		collect_private(&a);
	for (enum tree_id id = 0; id < TREE_NR; id++)
		check_tree(&a, id);
	check_counts(&a);
	what = slots_audit(&vm->slots);
	if (what)
		fault(&a, NULL, what);
	if (a.private_)
		mem_free(&vm->base, a.private_, a.room_private * sizeof(*a.private_));
	section_exclusive_end(&vm->base);
	return a.faults;
}
