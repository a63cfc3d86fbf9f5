// SPDX-License-Identifier: BSD-2-Clause
/*
 * B10: a compare-and-exchange on a mirror's entry that fails must leave what is there in the
 * iterator. KVM's did not: who lost went on with the entry as it had been, and tried it again.
 *
 * Expectation: after BUSY the iterator's entry is the word in the table, read by nobody but the
 * exchange itself; so who loops until it sees the other's leaf comes to an end.
 */
#include "tests/support/host.h"

#include "mmu/vm/vm.h"

#define READ TPT_PFERR_USER
#define PAGE 4096ull

/* Two vCPUs' iterators on the last level's entry of @gfn, or on the entry of its 2M at @level. */
static void stand(struct host *h, enum tree_id id, struct tree_iter it[2], tpt_gfn gfn,
		  unsigned int level)
{
	for (unsigned int i = 0; i < 2; i++) {
		bool found = iter_start(&it[i], &h->vm->trees, id, gfn, gfn + 1, level);

		while (found && it[i].level > level)
			found = iter_next(&it[i]);
		assert_true(found);
	}
	assert_ptr_equal(it[0].entry, it[1].entry);
}

static tpt_spte leaf_for(struct host *h, const struct tree_iter *it, uint64_t pfn)
{
	return pte_make_leaf(&h->vm->trees.format,
			     &(struct pte_leaf){.pfn = {pfn},
						.level = it->level,
						.host_writable = true,
						.write = true,
						.accessed = true,
						.memtype = h->vm->trees.format.memtype_wb});
}

static int change(struct host *h, unsigned int vcpu, struct tree_iter *it, tpt_spte new_)
{
	struct actor *actor = &h->vcpu[vcpu]->fault.actor;
	int ret;

	assert_true(section_enter(actor));
	ret = tree_transition(actor, it, new_, TREE_SHARED);
	section_leave(actor);
	return ret;
}

static struct host *two_vcpus(enum tree_id id)
{
	struct host *h = host_create_td(0, 64 * MIB, 2);

	if (id == TREE_DIRECT)
		assert_int_equal(tpt_vm_set_private(h->vm, 0, 64 * MIB / PAGE, false, NULL), 0);
	h->level = TPT_LEVEL_4K;
	/* Tables; of the same 2M for the leaves, of another one's for the links. */
	assert_int_equal(host_fault(h, id == TREE_DIRECT ? HOST_SHARED : 0, READ),
			 TPT_RET_PF_FIXED);
	return h;
}

static void B10_the_loser_of_a_leaf_sees_the_winners(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		enum tree_id id = i ? TREE_DIRECT : TREE_MIRROR;
		struct host *h = two_vcpus(id);
		struct tree_iter it[2];
		uint64_t calls = h->ext.calls[TPT_CALL_MAP];

		stand(h, id, it, 7, TPT_LEVEL_4K);
		assert_int_equal(change(h, 0, &it[0], leaf_for(h, &it[0], HOST_GMEM_PFN + 7)), 0);
		assert_int_equal(iter_kind(&it[1]), PTE_EMPTY);
		assert_int_equal(change(h, 1, &it[1], leaf_for(h, &it[1], HOST_GMEM_PFN + 8)),
				 -EBUSY);
		assert_int_equal(it[1].old.w, atomic_load(it[1].entry));
		assert_int_equal(it[1].old.w, it[0].old.w);
		assert_int_equal(iter_kind(&it[1]), PTE_LEAF);
		assert_int_equal(h->ext.calls[TPT_CALL_MAP], calls + (id == TREE_MIRROR));
		host_destroy(h);
	}
}

static void B10_the_loser_of_a_link_sees_the_winners_table(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		enum tree_id id = i ? TREE_DIRECT : TREE_MIRROR;
		struct host *h = two_vcpus(id);
		struct trees *trees = &h->vm->trees;
		struct table *table[2];
		struct tree_iter it[2];

		stand(h, id, it, 3 * 512, TPT_LEVEL_2M);
		for (unsigned int v = 0; v < 2; v++) {
			struct actor *actor = &h->vcpu[v]->fault.actor;

			assert_int_equal(tables_topup(trees, actor, true), 0);
			table[v] = table_make(trees, actor, id, TPT_LEVEL_4K, 3 * 512);
		}
		assert_int_equal(change(h, 0, &it[0], pte_table(&trees->format, table[0]->hpa)), 0);
		assert_int_equal(change(h, 1, &it[1], pte_table(&trees->format, table[1]->hpa)),
				 -EBUSY);
		table_unmake(table[1], &h->vcpu[1]->fault.actor);
		assert_int_equal(iter_kind(&it[1]), PTE_TABLE);
		assert_int_equal(pte_table_hpa(it[1].old).a, table[0]->hpa.a);
		/* From where it stands it can go on: into the other's table. */
		iter_down(&it[1]);
		assert_int_equal(it[1].path[1].a, table[0]->hpa.a);
		host_destroy(h);
	}
}

/* ---- while the winner's call is under way, and when it is refused ---- */

struct middle {
	struct host *h;
	struct tree_iter it;
	int ret;
	enum pte_kind seen;
};

static void lose_in_the_middle(void *ctx, enum tpt_external_call call, tpt_gfn gfn)
{
	struct middle *m = ctx;

	(void)call, (void)gfn;
	m->h->ext.in_call = NULL;
	m->ret = change(m->h, 1, &m->it, leaf_for(m->h, &m->it, HOST_GMEM_PFN + 8));
	m->seen = iter_kind(&m->it);
}

static void B10_who_loses_to_a_call_under_way_sees_frozen_and_then_what_became_of_it(void **state)
{
	static const int answers[] = {0, -EBUSY, -EIO};

	(void)state;
	for (unsigned int i = 0; i < 3; i++) {
		struct host *h = two_vcpus(TREE_MIRROR);
		struct middle m = {.h = h};
		struct tree_iter it[2];

		stand(h, TREE_MIRROR, it, 7, TPT_LEVEL_4K);
		m.it = it[1];
		ext_fail(&h->ext, TPT_CALL_MAP, 1, answers[i] != 0, answers[i]);
		h->ext.in_call = lose_in_the_middle;
		h->ext.in_call_ctx = &m;
		assert_int_equal(change(h, 0, &it[0], leaf_for(h, &it[0], HOST_GMEM_PFN + 7)),
				 answers[i]);
		assert_int_equal(m.ret, -EBUSY);
		assert_int_equal(m.seen, PTE_FROZEN);
		/* Who was refused stands on the entry as it was, and may try again at once. */
		assert_int_equal(it[0].old.w, atomic_load(it[0].entry));
		assert_int_equal(iter_kind(&it[0]), answers[i] ? PTE_EMPTY : PTE_LEAF);
		iter_reread(&m.it);
		if (answers[i])
			assert_int_equal(change(h, 1, &m.it, leaf_for(h, &m.it, HOST_GMEM_PFN + 7)),
					 0);
		assert_int_equal(iter_kind(&m.it), PTE_LEAF);
		host_destroy(h);
	}
}

/* ---- two mappers at once ---- */

#define ENTRIES 512u
#define TRIES	1000000u

struct mapper {
	pthread_t thread;
	struct host *h;
	pthread_barrier_t *start;
	unsigned int vcpu, won;
};

static tpt_spte on_gfn(struct mapper *m, struct tree_iter *it, tpt_gfn gfn)
{
	bool found = iter_start(it, &m->h->vm->trees, TREE_MIRROR, gfn, gfn + 1, TPT_LEVEL_4K);

	while (found && it->level > TPT_LEVEL_4K)
		found = iter_next(it);
	must(found);
	return leaf_for(m->h, it, HOST_GMEM_PFN + gfn);
}

/* Tries until it won or sees a leaf; only FROZEN, which is a call under way, is read again. */
static void *map_entries(void *arg)
{
	struct mapper *m = arg;
	struct actor *actor = &m->h->vcpu[m->vcpu]->fault.actor;

	for (tpt_gfn gfn = 1; gfn < ENTRIES; gfn++) {
		struct tree_iter it;
		tpt_spte leaf;
		unsigned int tries = 0;

		must(section_enter(actor));
		leaf = on_gfn(m, &it, gfn);
		/* Both stand on the empty entry before either goes on. */
		pthread_barrier_wait(m->start);
		while (iter_kind(&it) == PTE_EMPTY || iter_kind(&it) == PTE_FROZEN) {
			must(tries++ < TRIES);
			if (iter_kind(&it) == PTE_FROZEN) {
				sched_yield();
				iter_reread(&it);
			} else if (!tree_transition(actor, &it, leaf, TREE_SHARED)) {
				m->won++;
			}
		}
		must(pte_same(it.old, leaf));
		section_leave(actor);
		pthread_barrier_wait(m->start);
	}
	return NULL;
}

static void B10_two_mappers_on_one_entry_make_one_call_and_both_come_to_an_end(void **state)
{
	struct host *h = two_vcpus(TREE_MIRROR);
	pthread_barrier_t start;
	struct mapper m[2];

	(void)state;
	pthread_barrier_init(&start, NULL, 2);
	for (unsigned int i = 0; i < 2; i++) {
		m[i] = (struct mapper){.h = h, .vcpu = i, .start = &start};
		assert_int_equal(pthread_create(&m[i].thread, NULL, map_entries, &m[i]), 0);
	}
	for (unsigned int i = 0; i < 2; i++)
		pthread_join(m[i].thread, NULL);
	pthread_barrier_destroy(&start);
	assert_int_equal(m[0].won + m[1].won, ENTRIES - 1);
	assert_int_equal(h->ext.calls[TPT_CALL_MAP], ENTRIES);
	assert_int_equal(host_stats(h).mirror.pages_4k, ENTRIES);
	host_destroy(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(B10_the_loser_of_a_leaf_sees_the_winners),
		cmocka_unit_test(B10_the_loser_of_a_link_sees_the_winners_table),
		cmocka_unit_test(
			B10_who_loses_to_a_call_under_way_sees_frozen_and_then_what_became_of_it),
		cmocka_unit_test(
			B10_two_mappers_on_one_entry_make_one_call_and_both_come_to_an_end),
	};

	return cmocka_run_group_tests_name("B10", tests, NULL, NULL);
}
