// SPDX-License-Identifier: BSD-2-Clause
/*
 * B4: who zaps a range takes leaves and nothing else. KVM changed kvm_zap_gfn_range() so, took the
 * change back when guests no longer booted, and made it again: what can break is that tables stay
 * and are used again, and that nobody may count on all roots being new afterwards.
 *
 * Expectations: the table of who may zap what gives the leaves; every table entry is the same word
 * before and after, roots have the generation that they had, a later fault links no table.
 */
#include "tests/support/guest.h"

#define PAGE  4096ull
#define READ  TPT_PFERR_USER
#define SIZE  (16 * MIB)
#define TABLE 256u

/* Every table entry of every tree. */
struct tables {
	unsigned int nr;
	struct tpt_mapping at[TABLE];
};

static bool collect(void *ctx, const struct tpt_mapping *m)
{
	struct tables *t = ctx;

	if (!m->leaf) {
		must(t->nr < TABLE);
		t->at[t->nr++] = *m;
	}
	return true;
}

static struct tables tables_of(struct tpt_vm *vm)
{
	struct tables t;

	memset(&t, 0, sizeof(t));
	tpt_vm_for_each_mapping(vm, collect, &t);
	return t;
}

static void assert_same_tables(const struct tables *a, const struct tables *b)
{
	assert_int_equal(a->nr, b->nr);
	for (unsigned int i = 0; i < a->nr; i++) {
		assert_int_equal(a->at[i].tree, b->at[i].tree);
		assert_int_equal(a->at[i].level, b->at[i].level);
		assert_int_equal(a->at[i].gfn, b->at[i].gfn);
		assert_int_equal(a->at[i].spte.w, b->at[i].spte.w);
	}
}

/* ---- each reason to zap a range ---- */

enum reason { NOTIFIER, APICV, DMA, TO_PRIVATE, TO_SHARED, HOLE, DELETE, MOVE, REASONS };

static void do_zap(struct host *h, enum reason reason)
{
	struct tpt_invalidation t;

	switch (reason) {
	case NOTIFIER:
		assert_int_equal(tpt_vm_invalidate_begin(h->vm, tpt_hva_make(GIB),
							 tpt_hva_make(GIB + SIZE), &t),
				 SIZE / PAGE);
		tpt_vm_invalidate_end(h->vm, &t);
		break;
	case APICV:
		assert_int_equal(tpt_vm_apicv_changed(h->vm, 5), 0);
		break;
	case DMA:
		assert_int_equal(tpt_vm_set_noncoherent_dma(h->vm, true), 0);
		break;
	case TO_PRIVATE:
	case TO_SHARED:
		assert_int_equal(
			tpt_vm_set_private(h->vm, 0, SIZE / PAGE, reason == TO_PRIVATE, NULL), 0);
		break;
	case HOLE:
		assert_int_equal(tpt_gmem_punch_hole(h->gmem, 0, SIZE), 0);
		break;
	case DELETE:
		assert_int_equal(host_slot(h, 0, 0, 0, 0, 0, 0), 0);
		assert_int_equal(host_slot(h, 0, 0, 0, SIZE, GIB, 0), 0);
		break;
	default:
		assert_int_equal(host_slot(h, 0, 0, 2 * GIB, SIZE, GIB, 0), 0);
		assert_int_equal(host_slot(h, 0, 0, 0, SIZE, GIB, 0), 0);
	}
}

static bool is_td(enum reason reason)
{
	return reason == TO_PRIVATE || reason == TO_SHARED || reason == HOLE;
}

/* The gpa of a page, and the code, by which it is reached before the zap or after it. */
static uint64_t gpa_of(enum reason reason, uint64_t page, bool after)
{
	bool shared = reason == TO_PRIVATE ? !after : after;

	if (!is_td(reason) || reason == HOLE)
		return page * PAGE;
	return page * PAGE | (shared ? HOST_SHARED : 0);
}

static struct host *vm_for(enum reason reason)
{
	struct tpt_vm_config c;
	struct host *h;

	if (is_td(reason)) {
		h = host_create_td(0, SIZE, 1);
		if (reason == TO_PRIVATE)
			assert_int_equal(tpt_vm_set_private(h->vm, 0, SIZE / PAGE, false, NULL), 0);
	} else {
		host_config_ept(&c);
		c.flags = reason == DMA ? TPT_VM_IGNORE_GUEST_PAT : 0;
		h = host_create(&c, 1);
		assert_int_equal(host_slot(h, 0, 0, 0, SIZE, GIB, 0), 0);
	}
	h->level = h->gmem_level = TPT_LEVEL_4K;
	return h;
}

static void map_all(struct host *h, enum reason reason, bool after, bool linking)
{
	for (uint64_t page = 0; page < SIZE / PAGE; page++) {
		struct tpt_fault f;
		int ret = host_fault_on(h->vcpu[0], gpa_of(reason, page, after), READ, &f);

		if (after && reason == APICV && page != 5)
			assert_int_equal(ret, TPT_RET_PF_SPURIOUS);
		else
			assert_int_equal(ret, TPT_RET_PF_FIXED);
		assert_true(linking || !f.tables_linked);
	}
}

static void B4_a_range_zap_leaves_every_table_where_it_is(void **state)
{
	(void)state;
	for (enum reason reason = NOTIFIER; reason < REASONS; reason++) {
		struct host *h = vm_for(reason);
		struct tpt_vm_stats before, after;
		struct tpt_roots old, now;
		struct tables tables, left;
		uint64_t gone = reason == APICV ? 1 : SIZE / PAGE;

		/* Where a conversion leads to there is a tree as well, and it stays. */
		map_all(h, reason, false, true);
		assert_int_equal(tpt_vcpu_load_roots(h->vcpu[0], &old), 0);
		tables = tables_of(h->vm);
		before = host_stats(h);
		h->nr_flushes = 0;
		do_zap(h, reason);
		after = host_stats(h);
		left = tables_of(h->vm);

		assert_int_equal(host_leaves(&before.direct) + host_leaves(&before.mirror) - gone,
				 host_leaves(&after.direct) + host_leaves(&after.mirror));
		assert_same_tables(&tables, &left);
		assert_int_equal(after.direct.tables, before.direct.tables);
		assert_int_equal(after.mirror.tables, before.mirror.tables);
		assert_int_equal(after.table_pages_deferred, 0);
		assert_int_equal(after.zap_all_fast, 0);
		for (unsigned int i = 0; i < h->nr_flushes; i++)
			assert_false(h->flush[i].all);
		assert_int_equal(tpt_vcpu_load_roots(h->vcpu[0], &now), 0);
		assert_int_equal(now.generation, old.generation);
		assert_int_equal(now.direct.a, old.direct.a);
		assert_int_equal(now.mirror.a, old.mirror.a);
		host_audit(h);

		/* And they serve again: not one is linked where the same tree is used. */
		map_all(h, reason, true, reason == TO_PRIVATE || reason == TO_SHARED);
		host_destroy(h);
	}
}

/* The table that a huge leaf would need is not there; those above it are, and stay. */
static void B4_a_huge_leaf_goes_whole_and_the_tables_above_it_stay(void **state)
{
	struct tpt_invalidation t;
	struct tpt_vm_config c;
	struct tpt_fault f;
	struct host *h;

	(void)state;
	host_config_npt(&c);
	h = host_create(&c, 1);
	assert_int_equal(host_slot(h, 0, 0, 0, GIB, GIB, 0), 0);
	h->level = TPT_LEVEL_2M;
	assert_int_equal(host_fault(h, 4 * MIB, READ), TPT_RET_PF_FIXED);
	assert_int_equal(host_fault(h, 6 * MIB, READ), TPT_RET_PF_FIXED);
	assert_int_equal(host_stats(h).direct.tables, 3);
	assert_int_equal(tpt_vm_invalidate_begin(h->vm, tpt_hva_make(GIB + 5 * MIB),
						 tpt_hva_make(GIB + 5 * MIB + PAGE), &t),
			 1);
	tpt_vm_invalidate_end(h->vm, &t);
	assert_int_equal(host_stats(h).direct.tables, 3);
	assert_int_equal(host_stats(h).direct.pages_2m, 1);
	h->level = TPT_LEVEL_4K;
	assert_int_equal(host_fault_on(h->vcpu[0], 5 * MIB, READ, &f), TPT_RET_PF_FIXED);
	assert_int_equal(f.tables_linked, 1);
	host_destroy(h);
}

/* ---- what did not boot: a guest on a processor, and ranges that are zapped under it ---- */

static uint64_t word(uint64_t round, unsigned int page)
{
	return round << 32 | page;
}

/*
 * The guest writes and reads all its pages while the host's ranges come and go. Expected: a frame
 * stays, so what was written is read; a round costs one fault for each leaf that was zapped in it
 * and none more; and the processor never walks into what is gone.
 */
static void B4_a_guest_runs_on_through_the_same_tables(void **state)
{
	static const struct {
		unsigned int start, end;
	} ranges[] = {{0, 1}, {3, 700}, {511, 513}, {512, 1024}, {0, 2048}, {2047, 2048}};
	static const enum tpt_format formats[] = {TPT_FORMAT_NPT, TPT_FORMAT_EPT};

	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		const struct tpt_memory_region ram = {.size = 2048 * PAGE, .hva = {GUEST_HVA}};
		struct tpt_vm_config c;
		struct tables tables, left;
		struct guest *g;
		uint64_t hpa = 0;

		host_config_npt(&c);
		c.format = formats[i];
		c.maxphyaddr = 46;
		g = guest_create(&c, 1, 1);
		g->large_percent = 0;
		assert_int_equal(tpt_vm_set_memory_region(g->vm, &ram), 0);
		for (unsigned int page = 0; page < 2048; page++) {
			assert_int_equal(guest_access(g, 0, page * PAGE, MACHINE_WRITE, &hpa), 0);
			*(uint64_t *)machine_mem_ptr(g->machine, hpa) = word(0, page);
		}
		tables = tables_of(g->vm);

		for (unsigned int r = 0; r < 6; r++) {
			struct tpt_invalidation t;
			struct tpt_vcpu_stats before, after;

			tpt_vcpu_get_stats(g->v[0].vcpu, &before);
			assert_int_equal(
				tpt_vm_invalidate_begin(
					g->vm, tpt_hva_make(GUEST_HVA + ranges[r].start * PAGE),
					tpt_hva_make(GUEST_HVA + ranges[r].end * PAGE), &t),
				ranges[r].end - ranges[r].start);
			tpt_vm_invalidate_end(g->vm, &t);
			for (unsigned int page = 0; page < 2048; page++) {
				uint64_t *at;

				assert_int_equal(
					guest_access(g, 0, page * PAGE, MACHINE_WRITE, &hpa), 0);
				at = machine_mem_ptr(g->machine, hpa);
				assert_int_equal(*at, word(r, page));
				*at = word(r + 1, page);
			}
			tpt_vcpu_get_stats(g->v[0].vcpu, &after);
			assert_int_equal(after.pf_taken - before.pf_taken,
					 ranges[r].end - ranges[r].start);
			left = tables_of(g->vm);
			assert_same_tables(&tables, &left);
			guest_check(g);
		}
		guest_destroy(g);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(B4_a_range_zap_leaves_every_table_where_it_is),
		cmocka_unit_test(B4_a_huge_leaf_goes_whole_and_the_tables_above_it_stay),
		cmocka_unit_test(B4_a_guest_runs_on_through_the_same_tables),
	};

	return cmocka_run_group_tests_name("B4", tests, NULL, NULL);
}
