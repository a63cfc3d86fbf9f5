// SPDX-License-Identifier: BSD-2-Clause
/*
 * Who may zap what: for each reason the entries that go from the direct tree and from the mirror,
 * and the external calls and flushes that it costs.
 */
#include "tests/support/host.h"

#define READ  TPT_PFERR_USER
#define PAGE  4096ull
#define NR    64u /* private pages, and shared ones behind them */
#define BYTES (2 * NR * PAGE)

/* A TD with NR private pages mapped at 0 and NR shared ones mapped behind them. */
static struct host *td(uint32_t chunk)
{
	struct host *h = host_create_td(chunk, 64 * MIB, 1);

	h->level = TPT_LEVEL_4K;
	assert_int_equal(tpt_vm_set_private(h->vm, NR, 2 * NR, false, NULL), 0);
	for (unsigned int i = 0; i < NR; i++) {
		assert_int_equal(host_fault(h, i * PAGE, READ), TPT_RET_PF_FIXED);
		assert_int_equal(host_fault(h, HOST_SHARED | ((NR + i) * PAGE), READ),
				 TPT_RET_PF_FIXED);
	}
	ext_log_clear(&h->ext);
	return h;
}

struct left {
	uint64_t private_, shared, calls;
	unsigned int flushes;
};

/* What is left, what it cost, and the end of the VM, audited. */
static struct left finish(struct host *h)
{
	struct tpt_vm_stats s = host_stats(h);
	struct left left = {host_leaves(&s.mirror), host_leaves(&s.direct), h->ext.logged,
			    h->nr_flushes};

	host_destroy(h);
	return left;
}

#define assert_left(l, p, s, c, f)                 \
	do {                                       \
		assert_int_equal((l).private_, p); \
		assert_int_equal((l).shared, s);   \
		assert_int_equal((l).calls, c);    \
		assert_int_equal((l).flushes, f);  \
	} while (0)

/* A2: the zap filter: memslot deletion, private yes, shared yes. */
static void A2_deleting_a_memslot_zaps_private_and_shared(void **state)
{
	struct host *h = td(0);
	struct left l;

	(void)state;
	assert_int_equal(host_slot(h, 0, 0, 0, 0, 0, 0), 0);
	l = finish(h);
	/* n blocks, 1 track, 1 kick, n removes. */
	assert_left(l, 0, 0, 2 * NR + 2, 1);
}

/* A2: the zap filter: MMU notifier, private no, shared yes. */
static void A2_a_notifier_zaps_shared_only(void **state)
{
	struct host *h = td(0);
	struct tpt_invalidation t;
	struct left l;

	(void)state;
	/* The hva of everything, private pages too. */
	assert_int_equal(tpt_vm_invalidate_begin(h->vm, tpt_hva_make(0), tpt_hva_make(8 * GIB), &t),
			 NR);
	tpt_vm_invalidate_end(h->vm, &t);
	assert_int_equal(h->flush[0].reason, TPT_FLUSH_ZAP_NOTIFIER);
	assert_int_equal(h->flush[0].range.start, NR);
	assert_int_equal(h->flush[0].range.end, 2 * NR);
	l = finish(h);
	assert_left(l, NR, 0, 0, 1);
}

/* A2: the zap filter: conversion to private, private no, shared yes. */
static void A2_conversion_to_private_zaps_shared_only(void **state)
{
	struct host *h = td(0);
	struct left l;

	(void)state;
	assert_int_equal(tpt_vm_set_private(h->vm, 0, 2 * NR, true, NULL), 0);
	assert_int_equal(h->flush[0].reason, TPT_FLUSH_ZAP_CONVERSION);
	l = finish(h);
	assert_left(l, NR, 0, 0, 1);
}

/* A2: the zap filter: conversion to shared, private yes, shared no. */
static void A2_conversion_to_shared_zaps_private_only(void **state)
{
	struct host *h = td(0);
	tpt_gfn done = 0;
	struct left l;

	(void)state;
	assert_int_equal(tpt_vm_set_private(h->vm, 0, 2 * NR, false, &done), 0);
	assert_int_equal(done, 2 * NR);
	assert_string_not_equal(h->ext.log, "");
	l = finish(h);
	assert_left(l, 0, NR, 2 * NR + 2, 0);
}

/* A2: the zap filter: punched hole, private yes, shared no. */
static void A2_a_gmem_hole_zaps_private_only_and_then_frees(void **state)
{
	struct host *h = td(0);
	struct left l;

	(void)state;
	assert_int_equal(tpt_gmem_punch_hole(h->gmem, 8 * PAGE, 16 * PAGE), 0);
	assert_int_equal(atomic_load(&h->gmem_freed), 16);
	/* Over shared pages: nothing is mapped of it. */
	assert_int_equal(tpt_gmem_punch_hole(h->gmem, NR * PAGE, NR * PAGE), 0);
	l = finish(h);
	assert_left(l, NR - 16, NR, 2 * 16 + 2, 0);
}

/* A2: the zap filter: context reset, zap-all-fast, APICv, non-coherent DMA: private never. */
static void A2_what_belongs_to_the_processor_never_touches_private(void **state)
{
	struct host *h = td(0);
	struct tpt_roots before, after;
	struct left l;

	(void)state;
	assert_int_equal(tpt_vcpu_load_roots(h->vcpu[0], &before), 0);
	tpt_vcpu_reset_context(h->vcpu[0]);
	assert_int_equal(tpt_vm_set_noncoherent_dma(h->vm, true), 0);
	assert_int_equal(tpt_vm_set_noncoherent_dma(h->vm, false), 0);
	assert_int_equal(tpt_vm_apicv_changed(h->vm, 3), 0);
	assert_int_equal(h->nr_flushes, 0);
	assert_int_equal(tpt_vm_apicv_changed(h->vm, NR + 3), 0);
	assert_int_equal(h->nr_flushes, 1);
	assert_int_equal(host_stats(h).direct.pages_4k, NR - 1);
	assert_int_equal(tpt_vm_zap_all_fast(h->vm), 0);
	assert_true(h->flush[1].all);
	assert_int_equal(tpt_vcpu_load_roots(h->vcpu[0], &after), 0);
	assert_int_equal(before.mirror.a, after.mirror.a);
	assert_int_not_equal(before.direct.a, after.direct.a);
	l = finish(h);
	assert_left(l, NR, 0, 0, 2);
}

static void pages_that_have_the_attribute_already_cost_nothing(void **state)
{
	struct host *h = td(0);
	struct left l;

	(void)state;
	assert_int_equal(tpt_vm_set_private(h->vm, 0, NR, true, NULL), 0);
	assert_int_equal(tpt_vm_set_private(h->vm, NR, 2 * NR, false, NULL), 0);
	l = finish(h);
	assert_left(l, NR, NR, 0, 0);
}

/* ---- one tree for both kinds ---- */

static void by_attribute_alone_the_filter_is_the_same(void **state)
{
	struct tpt_invalidation t;
	struct tpt_vm_config c;
	struct host *h;

	(void)state;
	host_config_npt(&c);
	c.flags = TPT_VM_SW_PROTECTED;
	h = host_create(&c, 1);
	h->level = h->gmem_level = TPT_LEVEL_4K;
	assert_int_equal(tpt_gmem_create(h->vm, BYTES, &host_gmem, h, &h->gmem), 0);
	assert_int_equal(host_slot(h, 0, 0, 0, BYTES, GIB, TPT_MEM_GUEST_MEMFD), 0);
	assert_int_equal(tpt_vm_set_private(h->vm, 0, NR, true, NULL), 0);
	for (unsigned int i = 0; i < 2 * NR; i++)
		assert_int_equal(host_fault(h, i * PAGE, READ | (i < NR ? TPT_PFERR_PRIVATE : 0)),
				 TPT_RET_PF_FIXED);
	assert_int_equal(tpt_vm_invalidate_begin(h->vm, tpt_hva_make(0), tpt_hva_make(8 * GIB), &t),
			 NR);
	tpt_vm_invalidate_end(h->vm, &t);
	assert_int_equal(host_stats(h).direct.pages_4k, NR);
	for (unsigned int i = NR; i < 2 * NR; i++)
		assert_int_equal(host_fault(h, i * PAGE, READ), TPT_RET_PF_FIXED);
	assert_int_equal(tpt_gmem_punch_hole(h->gmem, 0, BYTES), 0);
	assert_int_equal(host_stats(h).direct.pages_4k, NR);
	assert_int_equal(host_word(h, 0), 0);
	assert_int_not_equal(host_word(h, NR * PAGE), 0);
	host_destroy(h);
}

/* ---- ordinary VMs ---- */

static struct host *ordinary(uint32_t flags, uint32_t spaces)
{
	struct tpt_vm_config c;
	struct host *h;

	host_config_ept(&c);
	c.flags = flags;
	c.address_spaces = spaces;
	h = host_create(&c, 1);
	h->level = TPT_LEVEL_2M;
	for (uint32_t as = 0; as < spaces; as++) {
		assert_int_equal(host_slot(h, as, 0, 0, 64 * MIB, GIB, 0), 0);
		assert_int_equal(host_slot(h, as, 1, GIB, 64 * MIB, 2 * GIB, 0), 0);
		assert_int_equal(tpt_vcpu_set_smm(h->vcpu[0], as), 0);
		for (unsigned int i = 0; i < 4; i++) {
			assert_int_equal(host_fault(h, i * 2 * MIB, READ), TPT_RET_PF_FIXED);
			assert_int_equal(host_fault(h, GIB + i * 2 * MIB, READ), TPT_RET_PF_FIXED);
		}
	}
	return h;
}

static void creating_slots_zaps_nothing(void **state)
{
	struct host *h = ordinary(0, 1);

	(void)state;
	assert_int_equal(host_stats(h).zap_all_fast, 0);
	assert_int_equal(host_stats(h).direct.pages_2m, 8);
	assert_int_equal(h->nr_flushes, 0);
	host_destroy(h);
}

static void deleting_a_slot_zaps_what_it_maps_or_everything(void **state)
{
	struct host *h = ordinary(0, 2);

	(void)state;
	assert_int_equal(host_slot(h, 1, 1, 0, 0, 0, 0), 0);
	assert_int_equal(host_stats(h).direct.pages_2m, 12);
	assert_int_equal(h->nr_flushes, 1);
	assert_int_equal(h->flush[0].as_id, 1);
	assert_int_equal(h->flush[0].reason, TPT_FLUSH_ZAP_MEMSLOT);
	assert_int_equal(h->flush[0].range.start, GIB / PAGE);
	assert_int_equal(h->flush[0].range.end, (GIB + 8 * MIB) / PAGE);
	assert_int_equal(host_mapping(h, TPT_TREE_DIRECT, 1, GIB).spte.w, 0);
	assert_int_not_equal(host_mapping(h, TPT_TREE_DIRECT, 0, GIB).spte.w, 0);
	host_destroy(h);

	h = ordinary(TPT_VM_SLOT_ZAP_ALL, 2);
	assert_int_equal(host_slot(h, 1, 1, 0, 0, 0, 0), 0);
	assert_int_equal(host_stats(h).direct.pages_2m, 0);
	assert_int_equal(host_stats(h).zap_all_fast, 1);
	assert_int_equal(h->nr_flushes, 1);
	assert_true(h->flush[0].all);
	host_destroy(h);
}

static void moving_a_slot_zaps_where_it_was(void **state)
{
	struct host *h = ordinary(0, 1);
	struct tpt_fault f;

	(void)state;
	assert_int_equal(host_slot(h, 0, 1, 4 * GIB, 64 * MIB, 2 * GIB, 0), 0);
	assert_int_equal(host_stats(h).direct.pages_2m, 4);
	assert_int_equal(host_fault(h, GIB, READ), TPT_RET_PF_EMULATE);
	assert_int_equal(host_fault_on(h->vcpu[0], 4 * GIB, READ, &f), TPT_RET_PF_FIXED);
	assert_int_equal(f.pfn.n, 2 * GIB / PAGE);
	host_destroy(h);
}

static void a_notifier_zaps_every_slot_over_its_range_in_every_address_space(void **state)
{
	struct host *h = ordinary(0, 2);
	struct tpt_invalidation t;

	(void)state;
	/* hva 1G + 3M .. + 5M: the second and third large page of slot 0 of both. */
	assert_int_equal(tpt_vm_invalidate_begin(h->vm, tpt_hva_make(GIB + 3 * MIB),
						 tpt_hva_make(GIB + 5 * MIB), &t),
			 4);
	tpt_vm_invalidate_end(h->vm, &t);
	assert_int_equal(host_stats(h).direct.pages_2m, 12);
	assert_int_equal(h->nr_flushes, 2);
	host_destroy(h);
}

static void the_flush_of_a_large_leaf_covers_all_of_it(void **state)
{
	struct host *h = ordinary(0, 1);
	struct tpt_invalidation t;

	(void)state;
	assert_int_equal(tpt_vm_invalidate_begin(h->vm, tpt_hva_make(GIB + 3 * MIB),
						 tpt_hva_make(GIB + 3 * MIB + PAGE), &t),
			 1);
	tpt_vm_invalidate_end(h->vm, &t);
	assert_int_equal(h->nr_flushes, 1);
	assert_int_equal(h->flush[0].range.start, 512);
	assert_int_equal(h->flush[0].range.end, 1024);
	host_destroy(h);
}

static void dma_that_is_not_coherent_matters_only_where_the_pat_is_ignored(void **state)
{
	struct host *h = ordinary(TPT_VM_IGNORE_GUEST_PAT, 1);

	(void)state;
	assert_int_equal(tpt_vm_set_noncoherent_dma(h->vm, false), 0);
	assert_int_equal(host_stats(h).direct.pages_2m, 8);
	assert_int_equal(tpt_vm_set_noncoherent_dma(h->vm, true), 0);
	assert_int_equal(host_stats(h).direct.pages_2m, 0);
	assert_int_equal(h->flush[0].reason, TPT_FLUSH_ZAP_RANGE);
	host_destroy(h);

	h = ordinary(0, 1);
	assert_int_equal(tpt_vm_set_noncoherent_dma(h->vm, true), 0);
	assert_int_equal(host_stats(h).direct.pages_2m, 8);
	host_destroy(h);
}

static void a_generation_that_wraps_drops_the_mmio_entries(void **state)
{
	struct tpt_vm_config c;
	struct host *h;
	uint64_t left = 1ull << 19;

	(void)state;
	host_config_npt(&c);
	h = host_create(&c, 1);
	/* Create and delete count three: up to just below the wrap. */
	for (; left > 3; left -= 3) {
		assert_int_equal(host_slot(h, 0, 0, 0, PAGE, GIB, 0), 0);
		assert_int_equal(host_slot(h, 0, 0, 0, 0, 0, 0), 0);
	}
	assert_int_equal(host_fault(h, 8 * GIB, READ), TPT_RET_PF_EMULATE);
	assert_int_equal(host_stats(h).direct.mmio, 1);
	assert_int_equal(host_stats(h).zap_all_fast, 0);
	assert_int_equal(host_slot(h, 0, 0, 0, PAGE, GIB, 0), 0);
	assert_int_equal(host_stats(h).zap_all_fast, left == 1);
	assert_int_equal(host_slot(h, 0, 0, 0, 0, 0, 0), 0);
	assert_int_equal(host_stats(h).zap_all_fast, 1);
	assert_int_equal(host_stats(h).direct.mmio, 0);
	host_destroy(h);
}

static void a_zap_of_much_gives_way_and_loses_nothing(void **state)
{
	struct tpt_vm_config c;
	struct host *h;
	uint64_t exclusive;

	(void)state;
	host_config_npt(&c);
	h = host_create(&c, 1);
	h->level = TPT_LEVEL_4K;
	assert_int_equal(host_slot(h, 0, 0, 0, 64 * MIB, GIB, 0), 0);
	for (unsigned int i = 0; i < 16384; i++)
		assert_int_equal(host_fault(h, i * PAGE, READ), TPT_RET_PF_FIXED);
	exclusive = host_stats(h).exclusive;
	assert_int_equal(host_slot(h, 0, 0, 0, 0, 0, 0), 0);
	assert_int_equal(host_stats(h).direct.pages_4k, 0);
	/* 16384 entries and 32 tables' by 4096 a chunk. */
	assert_int_equal(host_stats(h).exclusive - exclusive, 5 + 2);
	assert_int_equal(h->nr_flushes, 5);
	host_destroy(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(A2_deleting_a_memslot_zaps_private_and_shared),
		cmocka_unit_test(A2_a_notifier_zaps_shared_only),
		cmocka_unit_test(A2_conversion_to_private_zaps_shared_only),
		cmocka_unit_test(A2_conversion_to_shared_zaps_private_only),
		cmocka_unit_test(A2_a_gmem_hole_zaps_private_only_and_then_frees),
		cmocka_unit_test(A2_what_belongs_to_the_processor_never_touches_private),
		cmocka_unit_test(pages_that_have_the_attribute_already_cost_nothing),
		cmocka_unit_test(by_attribute_alone_the_filter_is_the_same),
		cmocka_unit_test(creating_slots_zaps_nothing),
		cmocka_unit_test(deleting_a_slot_zaps_what_it_maps_or_everything),
		cmocka_unit_test(moving_a_slot_zaps_where_it_was),
		cmocka_unit_test(a_notifier_zaps_every_slot_over_its_range_in_every_address_space),
		cmocka_unit_test(the_flush_of_a_large_leaf_covers_all_of_it),
		cmocka_unit_test(dma_that_is_not_coherent_matters_only_where_the_pat_is_ignored),
		cmocka_unit_test(a_generation_that_wraps_drops_the_mmio_entries),
		cmocka_unit_test(a_zap_of_much_gives_way_and_loses_nothing),
	};

	return host_run_formats("range filter", tests);
}
