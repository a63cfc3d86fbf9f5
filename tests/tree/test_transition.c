// SPDX-License-Identifier: BSD-2-Clause
/*
 * The transition: every pair of kinds at every level in every tree and mode is either done, with
 * its one external call, or refused with the entry as it was and the VM dead. And what happens to a
 * change that loses a race, or that is made in a dead table.
 */
#include "tests/support/host.h"

#include "mmu/vm/vm.h"

#define NONE TPT_CALL_NR

/* An owner that does everything and remembers the last call. */
struct owner {
	enum tpt_external_call call;
	unsigned int calls;
	int answer;
};

static int owner_says(struct owner *o, enum tpt_external_call call)
{
	o->call = call;
	o->calls++;
	return o->answer;
}

static int o_link(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_hpa table)
{
	(void)gfn, (void)level, (void)table;
	return owner_says(ctx, TPT_CALL_LINK);
}

static int o_map(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_pfn pfn)
{
	(void)gfn, (void)level, (void)pfn;
	return owner_says(ctx, TPT_CALL_MAP);
}

static int o_block(void *ctx, tpt_gfn gfn, enum tpt_level level)
{
	(void)gfn, (void)level;
	return owner_says(ctx, TPT_CALL_BLOCK);
}

static int o_unblock(void *ctx, tpt_gfn gfn, enum tpt_level level)
{
	(void)gfn, (void)level;
	return owner_says(ctx, TPT_CALL_UNBLOCK);
}

static int o_track(void *ctx)
{
	return owner_says(ctx, TPT_CALL_TRACK);
}

static int o_remove(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_pfn pfn)
{
	(void)gfn, (void)level, (void)pfn;
	return owner_says(ctx, TPT_CALL_REMOVE);
}

static int o_release(void *ctx)
{
	return owner_says(ctx, TPT_CALL_RELEASE);
}

static int o_reclaim(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_pfn pfn)
{
	(void)gfn, (void)level, (void)pfn;
	return owner_says(ctx, TPT_CALL_RECLAIM_LEAF);
}

static int o_free(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_hpa table)
{
	(void)gfn, (void)level, (void)table;
	return owner_says(ctx, TPT_CALL_FREE_TABLE);
}

static int o_split(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_hpa table)
{
	(void)gfn, (void)level, (void)table;
	return owner_says(ctx, TPT_CALL_SPLIT);
}

static int o_merge(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_hpa table)
{
	(void)gfn, (void)level, (void)table;
	return owner_says(ctx, TPT_CALL_MERGE);
}

static const struct tpt_external_ops owner_ops = {
	sizeof(owner_ops), o_link,    o_map,  o_block, o_unblock, o_track, o_remove,
	o_release,	   o_reclaim, o_free, NULL,    o_split,	  o_merge,
};

/* A VM of 5 levels with a path of tables down to gfn 0 in one tree. */
struct bench {
	struct host *h;
	struct tpt_vm *vm;
	struct trees *trees;
	struct actor *actor;
	struct owner owner;
	enum tree_id id;
	struct table *path[TPT_LEVEL_MAX + 1];
	bool released;
};

static void bench_open(struct bench *b, enum tree_id id)
{
	struct tpt_vm_config c;

	memset(b, 0, sizeof(*b));
	b->id = id;
	host_config_td(&c);
	c.levels = 5;
	c.guest_maxphyaddr = 52;
	c.shared_bit = 51;
	c.external = &owner_ops;
	b->h = host_prepare(&c);
	b->h->config.external_ctx = &b->owner;
	assert_int_equal(tpt_vm_create(&b->h->config, &b->h->vm), 0);
	assert_int_equal(tpt_vcpu_create(b->h->vm, 0, &b->h->vcpu[0]), 0);
	b->vm = b->h->vm;
	b->trees = &b->vm->trees;
	b->actor = &b->h->vcpu[0]->fault.actor;

	assert_int_equal(tables_topup(b->trees, b->actor, true), 0);
	b->path[5] = root_make(b->trees, b->actor, id);
	for (unsigned int level = 5; level > 1; level--) {
		unsigned int index = id != TREE_MIRROR && level == 5 ? 8 : 0;
		struct table *t;

		assert_int_equal(tables_topup(b->trees, b->actor, true), 0);
		t = table_make(b->trees, b->actor, id, level - 1, 0);
		b->path[level - 1] = t;
		t->parent = &table_entries(b->trees, b->path[level]->hpa)[index];
		atomic_store(t->parent, pte_table(&b->trees->format, t->hpa).w);
	}
}

/* Entry 1 of the path's table at @level: its iterator, with @old put there. */
static entry_t *bench_at(struct bench *b, struct tree_iter *it, unsigned int level, tpt_spte old)
{
	tpt_gfn gfn = tpt_level_pages(level);
	bool found = iter_start(it, b->trees, b->id, gfn, gfn + 1, level);

	while (found && it->level > level)
		found = iter_next(it);
	assert_true(found);
	atomic_store(it->entry, old.w);
	iter_reread(it);
	return it->entry;
}

static void bench_close(struct bench *b)
{
	atomic_store(&b->vm->base.dead, 0);
	b->owner.answer = 0;
	b->trees->mirror.released = false;
	assert_int_equal(host_end(b->h), 0);
}

static int change(struct bench *b, struct tree_iter *it, tpt_spte new_, enum tree_mode mode)
{
	int ret;

	if (mode == TREE_SHARED) {
		assert_true(section_enter(b->actor));
		ret = tree_transition(b->actor, it, new_, mode);
		section_leave(b->actor);
	} else {
		section_exclusive_begin(&b->vm->base);
		ret = tree_transition(b->actor, it, new_, mode);
		section_exclusive_end(&b->vm->base);
	}
	return ret;
}

/* A word of a kind; for a TABLE a new one. */
static tpt_spte word(struct bench *b, enum pte_kind kind, unsigned int level, struct table **table)
{
	const struct pte_format *f = &b->trees->format;
	tpt_spte leaf =
		pte_make_leaf(f, &(struct pte_leaf){.pfn = {tpt_level_pages(level < 4 ? level : 4)},
						    .level = level,
						    .host_writable = true,
						    .write = true,
						    .accessed = true});

	switch (kind) {
	case PTE_MMIO:
		return pte_make_mmio(f, tpt_level_pages(level), 5, TPT_ACC_ALL);
	case PTE_TABLE:
		assert_int_equal(tables_topup(b->trees, b->actor, true), 0);
		*table = table_make(b->trees, b->actor, b->id, level - 1, tpt_level_pages(level));
		return pte_table(f, (*table)->hpa);
	case PTE_LEAF:
		return leaf;
	case PTE_FROZEN:
		return pte_frozen();
	case PTE_BLOCKED:
		return pte_block(leaf);
	case PTE_BLOCKED_TABLE:
		return pte_block(word(b, PTE_TABLE, level, table));
	default:
		return pte_empty();
	}
}

/* Can an entry of this kind be there at all? */
static bool exists(const struct bench *b, enum pte_kind kind, unsigned int level)
{
	bool mirror = b->id == TREE_MIRROR;

	switch (kind) {
	case PTE_MMIO:
		return !mirror && level == 1;
	case PTE_TABLE:
		return level > 1;
	case PTE_LEAF:
		return level <= 3;
	case PTE_BLOCKED:
		return mirror && level <= 3;
	case PTE_BLOCKED_TABLE:
		return mirror && level > 1;
	default:
		return true;
	}
}

/* The law, as DESIGN has it, and the call that each change of a mirror is. */
static const struct {
	enum pte_kind from, to;
	bool direct, shared, exclusive, released;
	enum tpt_external_call call;
} law[] = {
	{PTE_EMPTY, PTE_MMIO, true, false, false, false, NONE},
	{PTE_EMPTY, PTE_TABLE, true, true, true, false, TPT_CALL_LINK},
	{PTE_EMPTY, PTE_LEAF, true, true, true, false, TPT_CALL_MAP},
	{PTE_MMIO, PTE_EMPTY, true, false, false, false, NONE},
	{PTE_MMIO, PTE_MMIO, true, false, false, false, NONE},
	{PTE_MMIO, PTE_LEAF, true, false, false, false, NONE},
	{PTE_TABLE, PTE_LEAF, true, false, false, false, NONE},
	{PTE_TABLE, PTE_EMPTY, true, false, false, true, TPT_CALL_FREE_TABLE},
	{PTE_LEAF, PTE_EMPTY, true, false, false, true, TPT_CALL_RECLAIM_LEAF},
	{PTE_LEAF, PTE_LEAF, true, false, false, false, NONE},
	{PTE_LEAF, PTE_TABLE, true, false, false, false, NONE},
	{PTE_LEAF, PTE_BLOCKED, false, false, true, false, TPT_CALL_BLOCK},
	{PTE_BLOCKED, PTE_LEAF, false, false, true, false, TPT_CALL_UNBLOCK},
	{PTE_BLOCKED, PTE_EMPTY, false, false, true, true, TPT_CALL_REMOVE},
};

static bool is_lawful(const struct bench *b, enum pte_kind from, enum pte_kind to,
		      unsigned int level, enum tree_mode mode, enum tpt_external_call *call)
{
	*call = NONE;
	if (!exists(b, to, level))
		return false;
	for (unsigned int i = 0; i < sizeof(law) / sizeof(law[0]); i++) {
		if (law[i].from != from || law[i].to != to)
			continue;
		if (b->id != TREE_MIRROR)
			return law[i].direct;
		*call = b->released && from == PTE_BLOCKED ? TPT_CALL_RECLAIM_LEAF : law[i].call;
		if (b->released)
			return mode == TREE_EXCLUSIVE && law[i].released;
		return mode == TREE_SHARED ? law[i].shared : law[i].exclusive;
	}
	return false;
}

static int64_t count(struct bench *b, unsigned int what)
{
	return trees_count(b->trees, count_tree(tree_kind(b->id), what));
}

/* Leaves at the level, BLOCKED ones, MMIO entries: as a row of counts. */
struct counts {
	int64_t leaves, blocked, mmio;
};

static struct counts count_all(struct bench *b, unsigned int level)
{
	return (struct counts){level <= 3 ? count(b, level) : 0, count(b, COUNT_TREE_BLOCKED),
			       count(b, COUNT_TREE_MMIO)};
}

static struct counts counts_of(enum pte_kind kind)
{
	return (struct counts){kind == PTE_LEAF || kind == PTE_BLOCKED,
			       kind == PTE_BLOCKED || kind == PTE_BLOCKED_TABLE, kind == PTE_MMIO};
}

/* One pair. Tables that stay over are given back. */
static void try_pair(struct bench *b, enum pte_kind from, enum pte_kind to, unsigned int level,
		     enum tree_mode mode)
{
	struct table *old_table = NULL, *new_table = NULL;
	tpt_spte old = word(b, from, level, &old_table), new_ = word(b, to, level, &new_table);
	struct counts was, is, a = counts_of(from), z = counts_of(to);
	enum tpt_external_call call;
	bool lawful = is_lawful(b, from, to, level, mode, &call);
	struct tree_iter it;
	entry_t *entry = bench_at(b, &it, level, old);
	int ret;

	b->owner.calls = 0;
	was = count_all(b, level);
	ret = change(b, &it, new_, mode);
	is = count_all(b, level);

	if (from == PTE_FROZEN) {
		assert_int_equal(ret, -EBUSY);
	} else if (lawful) {
		if (ret)
			fail_msg("from %u to %u level %u mode %u: %d, %s", from, to, level, mode,
				 ret, tpt_vm_report(b->vm));
		assert_int_equal(atomic_load(entry), new_.w);
		assert_int_equal(it.old.w, new_.w);
		assert_int_equal(is.leaves - was.leaves, z.leaves - a.leaves);
		assert_int_equal(is.blocked - was.blocked, z.blocked - a.blocked);
		assert_int_equal(is.mmio - was.mmio, z.mmio - a.mmio);
		assert_int_equal(it.must_flush,
				 b->id != TREE_MIRROR && from == PTE_LEAF && to == PTE_EMPTY);
	} else {
		assert_int_equal(ret, -EIO);
		assert_true(tpt_vm_is_dead(b->vm));
		assert_non_null(strstr(tpt_vm_report(b->vm), "illegal change"));
	}
	if (!lawful || from == PTE_FROZEN) {
		assert_int_equal(atomic_load(entry), old.w);
		assert_memory_equal(&was, &is, sizeof(was));
		assert_int_equal(b->owner.calls, 0);
	} else if (b->id == TREE_MIRROR) {
		assert_int_equal(b->owner.calls, 1);
		assert_int_equal(b->owner.call, call);
	}
	if (lawful || from == PTE_FROZEN)
		assert_false(tpt_vm_is_dead(b->vm));

	/* Undo by hand. */
	atomic_store(&b->vm->base.dead, 0);
	atomic_store(entry, PTE_EMPTY_WORD);
	if (ret == 0)
		for (unsigned int i = 0; i < COUNT_TREE_NR; i++)
			if (i != COUNT_TREE_TABLE)
				count_add(b->actor, count_tree(tree_kind(b->id), i), -count(b, i));
	if (it.detached.table)
		tree_settle(b->actor, &it.detached);
	else if (old_table)
		table_unmake(old_table, b->actor);
	if (new_table)
		table_unmake(new_table, b->actor);
	wait_deferred(b->vm);
}

static unsigned int try_all(struct bench *b)
{
	unsigned int pairs = 0;

	for (unsigned int mode = 0; mode < 2; mode++)
		for (unsigned int level = 1; level <= 5; level++)
			for (unsigned int from = 0; from < PTE_KIND_NR; from++)
				for (unsigned int to = 0; to < PTE_KIND_NR; to++) {
					if (!exists(b, from, level) ||
					    ((to == PTE_TABLE || to == PTE_BLOCKED_TABLE) &&
					     level < 2))
						continue;
					try_pair(b, from, to, level, mode);
					pairs++;
				}
	return pairs;
}

/* A1: the law is written out here again, pair by pair, from the design: F9, and which changes lose
 * nothing. */
static void A1_exactly_the_lawful_changes_of_a_direct_tree_happen(void **state)
{
	struct bench b;

	(void)state;
	bench_open(&b, TREE_DIRECT);
	assert_true(try_all(&b) > 200);
	bench_close(&b);
}

/* A1: the design's section 2 lists what is legal on a mirror; it replaces F20 to F23. */
static void A1_exactly_the_lawful_changes_of_a_mirror_happen(void **state)
{
	struct bench b;

	(void)state;
	bench_open(&b, TREE_MIRROR);
	assert_true(try_all(&b) > 200);
	b.released = b.trees->mirror.released = true;
	assert_true(try_all(&b) > 200);
	b.released = b.trees->mirror.released = false;
	bench_close(&b);
}

/* ---- sizes: a table and the leaf that it stands for ---- */

enum flaw {
	FLAWLESS,
	OTHER_FRAMES,
	A_HOLE,
	A_BLOCKED_LEAF,
	FLAW_NR,
};

/* A table of leaves over what word(PTE_LEAF) maps, but for one flaw. */
static tpt_spte whole_table(struct bench *b, unsigned int level, enum flaw flaw,
			    struct table **table)
{
	tpt_spte leaf = word(b, PTE_LEAF, level - 1, NULL), e = word(b, PTE_TABLE, level, table);
	entry_t *entries = table_entries(b->trees, (*table)->hpa);
	uint64_t step = tpt_level_pages(level - 1) << TPT_PAGE_SHIFT;

	leaf.w += tpt_level_pages(level) << TPT_PAGE_SHIFT;
	leaf.w -= step;
	if (flaw == OTHER_FRAMES)
		leaf.w += tpt_level_pages(level) << TPT_PAGE_SHIFT;
	table_write(entries, TABLE_ENTRIES, leaf.w, step);
	if (flaw == A_HOLE)
		atomic_store(&entries[511], PTE_EMPTY_WORD);
	if (flaw == A_BLOCKED_LEAF)
		atomic_store(&entries[7], pte_block((tpt_spte){atomic_load(&entries[7])}).w);
	return e;
}

/* One change between a table, whole or not, and what can become of it. */
static void try_size(struct bench *b, enum pte_kind from, enum pte_kind to, unsigned int level,
		     enum flaw flaw, enum tree_mode mode)
{
	struct table *table;
	tpt_spte t = whole_table(b, level, flaw, &table), leaf = word(b, PTE_LEAF, level, NULL);
	tpt_spte words[PTE_KIND_NR] = {[PTE_TABLE] = t,
				       [PTE_LEAF] = leaf,
				       [PTE_BLOCKED] = pte_block(leaf),
				       [PTE_BLOCKED_TABLE] = pte_block(t)};
	struct counts was, is, a = counts_of(from), z = counts_of(to);
	bool whole = flaw == FLAWLESS || (from != PTE_BLOCKED && to != PTE_LEAF);
	bool opened = b->released && from == PTE_BLOCKED_TABLE && to == PTE_TABLE;
	bool lawful = mode == TREE_EXCLUSIVE && whole && (opened || !b->released);
	struct tree_iter it;
	entry_t *entry = bench_at(b, &it, level, words[from]);
	static const enum tpt_external_call calls[PTE_KIND_NR][PTE_KIND_NR] = {
		[PTE_BLOCKED] = {[PTE_TABLE] = TPT_CALL_SPLIT},
		[PTE_TABLE] = {[PTE_BLOCKED_TABLE] = TPT_CALL_BLOCK},
		[PTE_BLOCKED_TABLE] = {[PTE_TABLE] = TPT_CALL_UNBLOCK, [PTE_LEAF] = TPT_CALL_MERGE},
	};

	b->owner.calls = 0;
	was = count_all(b, level);
	assert_int_equal(change(b, &it, words[to], mode), lawful ? 0 : -EIO);
	is = count_all(b, level);
	assert_int_equal(tpt_vm_is_dead(b->vm), !lawful);
	assert_int_equal(atomic_load(entry), words[lawful ? to : from].w);
	assert_int_equal(b->owner.calls, lawful && !opened);
	if (lawful && !opened)
		assert_int_equal(b->owner.call, calls[from][to]);
	if (lawful) {
		assert_int_equal(is.leaves - was.leaves, z.leaves - a.leaves);
		assert_int_equal(is.blocked - was.blocked, z.blocked - a.blocked);
	}
	atomic_store(&b->vm->base.dead, 0);
	atomic_store(entry, PTE_EMPTY_WORD);
	for (unsigned int i = 0; i < COUNT_TREE_NR; i++)
		if (i != COUNT_TREE_TABLE)
			count_add(b->actor, count_tree(TPT_TREE_MIRROR, i), -count(b, i));
	table_unmake(table, b->actor);
}

static void a_mirrors_leaf_and_table_become_each_other_by_being_blocked(void **state)
{
	static const enum pte_kind pairs[][2] = {{PTE_BLOCKED, PTE_TABLE},
						 {PTE_TABLE, PTE_BLOCKED_TABLE},
						 {PTE_BLOCKED_TABLE, PTE_TABLE},
						 {PTE_BLOCKED_TABLE, PTE_LEAF}};
	struct bench b;

	(void)state;
	bench_open(&b, TREE_MIRROR);
	for (unsigned int n = 0; n < 2 * 2 * 2 * FLAW_NR * 4; n++) {
		unsigned int pair = n & 3, level = 2 + (n >> 2 & 1);

		b.released = b.trees->mirror.released = n >> 3 & 1;
		try_size(&b, pairs[pair][0], pairs[pair][1], level, (enum flaw)(n >> 5),
			 (enum tree_mode)(n >> 4 & 1));
	}
	bench_close(&b);
}

static void the_frame_behind_a_page_never_changes_in_place(void **state)
{
	static const struct {
		enum tree_id id;
		enum pte_kind from, to;
	} rows[] = {
		{TREE_DIRECT, PTE_LEAF, PTE_LEAF},
		{TREE_MIRROR, PTE_LEAF, PTE_BLOCKED},
		{TREE_MIRROR, PTE_BLOCKED, PTE_LEAF},
	};

	(void)state;
	for (unsigned int i = 0; i < 3; i++) {
		struct tree_iter it;
		struct bench b;
		tpt_spte new_;
		entry_t *e;

		bench_open(&b, rows[i].id);
		e = bench_at(&b, &it, 1, word(&b, rows[i].from, 1, NULL));
		new_ = word(&b, rows[i].to, 1, NULL);
		new_.w += 0x1000;
		assert_int_equal(change(&b, &it, new_, TREE_EXCLUSIVE), -EIO);
		assert_int_equal(atomic_load(e), it.old.w);
		assert_true(tpt_vm_is_dead(b.vm));
		assert_int_equal(b.owner.calls, 0);
		atomic_store(e, PTE_EMPTY_WORD);
		bench_close(&b);
	}
}

static void a_frame_must_be_aligned_to_its_level(void **state)
{
	struct tree_iter it;
	struct bench b;
	entry_t *e;

	(void)state;
	bench_open(&b, TREE_DIRECT);
	e = bench_at(&b, &it, 2, pte_empty());
	assert_int_equal(
		change(&b, &it, (tpt_spte){word(&b, PTE_LEAF, 2, NULL).w + 0x1000}, TREE_SHARED),
		-EIO);
	assert_int_equal(atomic_load(e), PTE_EMPTY_WORD);
	bench_close(&b);
}

/* A1: R2, R3, R5 and R6: a flush is owed for what a processor may have cached and no longer has. */
static void A1_only_what_a_leaf_loses_must_be_flushed(void **state)
{
	struct tree_iter it;
	struct bench b;
	tpt_spte leaf, less;
	entry_t *e;

	(void)state;
	bench_open(&b, TREE_DIRECT);
	leaf = word(&b, PTE_LEAF, 1, NULL);
	less.w = leaf.w & ~b.trees->format.writable;

	bench_at(&b, &it, 1, leaf);
	assert_int_equal(change(&b, &it, less, TREE_SHARED), 0);
	assert_true(it.must_flush);
	bench_at(&b, &it, 1, less);
	assert_int_equal(change(&b, &it, leaf, TREE_SHARED), 0);
	assert_false(it.must_flush);
	e = bench_at(&b, &it, 1, leaf);
	assert_int_equal(
		change(&b, &it, (tpt_spte){leaf.w & ~b.trees->format.accessed}, TREE_SHARED), 0);
	assert_false(it.must_flush);
	atomic_store(e, PTE_EMPTY_WORD);
	bench_close(&b);
}

static void a_lost_race_changes_nothing_and_shows_what_is_there(void **state)
{
	static const enum tree_id ids[] = {TREE_DIRECT, TREE_MIRROR};

	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		struct tree_iter it;
		struct bench b;
		entry_t *e;

		bench_open(&b, ids[i]);
		e = bench_at(&b, &it, 1, pte_empty());
		atomic_store(e, word(&b, PTE_LEAF, 1, NULL).w); /* somebody was faster */
		assert_int_equal(change(&b, &it, word(&b, PTE_LEAF, 1, NULL), TREE_SHARED), -EBUSY);
		assert_int_equal(it.old.w, word(&b, PTE_LEAF, 1, NULL).w);
		assert_int_equal(b.owner.calls, 0);
		assert_int_equal(count(&b, 1), 0);
		atomic_store(e, PTE_EMPTY_WORD);
		bench_close(&b);
	}
}

static void bits_that_a_processor_sets_meanwhile_do_not_stop_a_zap(void **state)
{
	struct tree_iter it;
	struct bench b;
	tpt_spte leaf;
	entry_t *e;

	(void)state;
	bench_open(&b, TREE_DIRECT);
	leaf = word(&b, PTE_LEAF, 1, NULL);
	e = bench_at(&b, &it, 1, (tpt_spte){leaf.w & ~b.trees->format.dirty});
	atomic_store(e, leaf.w);
	assert_int_equal(change(&b, &it, pte_empty(), TREE_EXCLUSIVE), 0);
	assert_int_equal(atomic_load(e), PTE_EMPTY_WORD);
	count_add(b.actor, count_tree(TPT_TREE_DIRECT, 1), 1);
	bench_close(&b);
}

static void a_call_that_is_refused_leaves_the_old_entry(void **state)
{
	static const struct {
		enum pte_kind from, to;
	} rows[] = {{PTE_EMPTY, PTE_LEAF},
		    {PTE_EMPTY, PTE_TABLE},
		    {PTE_LEAF, PTE_BLOCKED},
		    {PTE_BLOCKED, PTE_LEAF},
		    {PTE_BLOCKED, PTE_EMPTY}};

	(void)state;
	for (unsigned int i = 0; i < 5; i++) {
		struct table *table = NULL;
		struct tree_iter it;
		struct bench b;
		tpt_spte old, new_;
		entry_t *e;

		bench_open(&b, TREE_MIRROR);
		b.owner.answer = -EPERM;
		old = word(&b, rows[i].from, 2, NULL);
		new_ = word(&b, rows[i].to, 2, &table);
		e = bench_at(&b, &it, 2, old);
		assert_int_equal(change(&b, &it, new_, TREE_EXCLUSIVE), -EPERM);
		assert_int_equal(atomic_load(e), old.w);
		assert_int_equal(it.old.w, old.w);
		assert_int_equal(count(&b, 2), 0);
		assert_false(tpt_vm_is_dead(b.vm));
		if (table)
			table_unmake(table, b.actor);
		atomic_store(e, PTE_EMPTY_WORD);
		bench_close(&b);
	}
}

/* ---- dead tables ---- */

static void nothing_is_added_to_a_dead_table(void **state)
{
	static const struct {
		enum tree_id id;
		enum pte_kind from, to;
	} rows[] = {
		{TREE_DIRECT, PTE_EMPTY, PTE_LEAF},  {TREE_DIRECT, PTE_EMPTY, PTE_TABLE},
		{TREE_DIRECT, PTE_LEAF, PTE_LEAF},   {TREE_DIRECT, PTE_TABLE, PTE_LEAF},
		{TREE_MIRROR, PTE_EMPTY, PTE_TABLE}, {TREE_MIRROR, PTE_EMPTY, PTE_LEAF},
	};

	(void)state;
	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct table *old_table = NULL, *new_table = NULL;
		struct tree_iter it;
		struct bench b;
		tpt_spte old, new_;
		entry_t *e;

		bench_open(&b, rows[i].id);
		old = word(&b, rows[i].from, 2, &old_table);
		new_ = word(&b, rows[i].to, 2, &new_table);
		e = bench_at(&b, &it, 2, old);
		atomic_store(&b.path[2]->dead, 1);
		assert_int_equal(change(&b, &it, new_, TREE_SHARED), -EBUSY);
		assert_int_equal(atomic_load(e), old.w);
		assert_int_equal(b.owner.calls, 0);
		assert_int_equal(count(&b, 2), 0);
		assert_null(it.detached.table);
		atomic_store(&b.path[2]->dead, 0);
		atomic_store(e, PTE_EMPTY_WORD);
		if (old_table)
			table_unmake(old_table, b.actor);
		if (new_table)
			table_unmake(new_table, b.actor);
		wait_deferred(b.vm);
		bench_close(&b);
	}
}

static void a_table_that_others_saw_for_a_moment_is_not_used_again_at_once(void **state)
{
	struct table *table = NULL;
	struct tree_iter it;
	struct bench b;
	tpt_spte new_;
	uint32_t cached;

	(void)state;
	bench_open(&b, TREE_DIRECT);
	new_ = word(&b, PTE_TABLE, 2, &table);
	cached = b.actor->tables.nr;
	bench_at(&b, &it, 2, pte_empty());
	atomic_store(&b.path[2]->dead, 1);
	assert_int_equal(change(&b, &it, new_, TREE_SHARED), -EBUSY);
	atomic_store(&b.path[2]->dead, 0);
	/* A walk may stand in it: it goes the way of every linked table. */
	assert_true(section_enter(b.actor));
	table_unmake(table, b.actor);
	assert_int_equal(b.actor->tables.nr, cached);
	assert_int_equal(atomic_load(&b.vm->base.pages_deferred), 1);
	section_leave(b.actor);
	wait_deferred(b.vm);

	/* One that nobody saw does not. */
	word(&b, PTE_TABLE, 2, &table);
	cached = b.actor->tables.nr;
	table_unmake(table, b.actor);
	assert_int_equal(b.actor->tables.nr, cached + 1);
	assert_int_equal(atomic_load(&b.vm->base.pages_deferred), 0);
	bench_close(&b);
}

static void a_split_in_a_dead_table_is_undone_and_counts_nothing(void **state)
{
	struct tree_iter it;
	struct bench b;
	int64_t tables;
	tpt_spte leaf;
	entry_t *e;
	int ret;

	(void)state;
	bench_open(&b, TREE_DIRECT);
	leaf = word(&b, PTE_LEAF, 2, NULL);
	e = bench_at(&b, &it, 2, leaf);
	tables = count(&b, COUNT_TREE_TABLE);
	assert_int_equal(tables_topup(b.trees, b.actor, false), 0);
	atomic_store(&b.path[2]->dead, 1);
	assert_true(section_enter(b.actor));
	ret = tree_split(b.actor, &it, NX_NONE);
	section_leave(b.actor);
	assert_int_equal(ret, -EBUSY);
	assert_int_equal(atomic_load(e), leaf.w);
	wait_deferred(b.vm);
	assert_int_equal(count(&b, 1), 0);
	assert_int_equal(count(&b, COUNT_TREE_TABLE), tables);
	atomic_store(&b.path[2]->dead, 0);
	atomic_store(e, PTE_EMPTY_WORD);
	bench_close(&b);
}

static void a_split_keeps_frames_and_permissions(void **state)
{
	struct tree_iter it;
	struct bench b;
	tpt_spte leaf;

	(void)state;
	for (unsigned int level = 2; level <= 3; level++) {
		entry_t *e, *child;

		bench_open(&b, TREE_DIRECT);
		leaf = word(&b, PTE_LEAF, level, NULL);
		e = bench_at(&b, &it, level, leaf);
		count_add(b.actor, count_tree(TPT_TREE_DIRECT, level), 1);
		assert_int_equal(tables_topup(b.trees, b.actor, false), 0);
		assert_true(section_enter(b.actor));
		assert_int_equal(tree_split(b.actor, &it, NX_NONE), 0);
		section_leave(b.actor);
		assert_int_equal(count(&b, level), 0);
		assert_int_equal(count(&b, level - 1), 512);
		assert_int_equal(pte_kind(&b.trees->format, it.old, level), PTE_TABLE);
		child = table_entries(b.trees, pte_table_hpa(it.old));
		for (uint64_t i = 0; i < 512; i++) {
			uint64_t want = leaf.w + (i * tpt_level_pages(level - 1) << 12);

			if (level == 2)
				want &= ~(uint64_t)PTE_PS;
			assert_int_equal(atomic_load(&child[i]), want);
		}
		(void)e;
		bench_close(&b);
	}
}

static void marking_a_table_dead_marks_all_below_it(void **state)
{
	struct bench b;

	(void)state;
	bench_open(&b, TREE_DIRECT);
	table_mark_dead(b.path[4]);
	assert_int_equal(atomic_load(&b.path[5]->dead), 0);
	for (unsigned int level = 1; level <= 4; level++) {
		assert_int_equal(atomic_load(&b.path[level]->dead), 1);
		atomic_store(&b.path[level]->dead, 0);
	}
	table_mark_dead(b.path[1]);
	assert_int_equal(atomic_load(&b.path[2]->dead), 0);
	assert_int_equal(atomic_load(&b.path[1]->dead), 1);
	bench_close(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(A1_exactly_the_lawful_changes_of_a_direct_tree_happen),
		cmocka_unit_test(A1_exactly_the_lawful_changes_of_a_mirror_happen),
		cmocka_unit_test(a_mirrors_leaf_and_table_become_each_other_by_being_blocked),
		cmocka_unit_test(the_frame_behind_a_page_never_changes_in_place),
		cmocka_unit_test(a_frame_must_be_aligned_to_its_level),
		cmocka_unit_test(A1_only_what_a_leaf_loses_must_be_flushed),
		cmocka_unit_test(a_lost_race_changes_nothing_and_shows_what_is_there),
		cmocka_unit_test(bits_that_a_processor_sets_meanwhile_do_not_stop_a_zap),
		cmocka_unit_test(a_call_that_is_refused_leaves_the_old_entry),
		cmocka_unit_test(nothing_is_added_to_a_dead_table),
		cmocka_unit_test(a_table_that_others_saw_for_a_moment_is_not_used_again_at_once),
		cmocka_unit_test(a_split_in_a_dead_table_is_undone_and_counts_nothing),
		cmocka_unit_test(a_split_keeps_frames_and_permissions),
		cmocka_unit_test(marking_a_table_dead_marks_all_below_it),
	};

	return host_run_formats("transition", tests);
}
