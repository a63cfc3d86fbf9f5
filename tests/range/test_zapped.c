// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a backing hears of leaves that were zapped: each one once, with what its flags said, one
 * call a table; and nothing of what goes with whole tables.
 */
#include <triptych/aging.h>

#include "tests/support/host.h"

#define READ  TPT_PFERR_USER
#define WRITE (TPT_PFERR_USER | TPT_PFERR_WRITE)
#define PAGE  4096ull
#define PAGES 16384u
#define HVA   GIB

struct heard {
	uint8_t gone[PAGES], dirty[PAGES], young[PAGES]; /* times */
	unsigned int calls, wrong;
	struct tpt_zapped last;
};

static struct heard heard;

static bool bit(const uint64_t *words, unsigned int i)
{
	return words[i / 64] >> (i % 64) & 1;
}

static void hear(void *ctx, const struct tpt_zapped *z)
{
	uint64_t pages = 1ull << (9 * (z->level - 1));
	unsigned int any = 0;

	(void)ctx;
	heard.calls++;
	heard.last = *z;
	/* All of one table. */
	heard.wrong += !z->nr || z->nr > 512 ||
		       z->gfn >> (9 * z->level) != (z->gfn + (z->nr - 1) * pages) >> (9 * z->level);
	for (unsigned int i = 0; i < (z->nr + 63) / 64 * 64; i++) {
		heard.wrong += (bit(z->dirty, i) || bit(z->young, i)) && !bit(z->gone, i);
		heard.wrong += i >= z->nr && bit(z->gone, i);
		any += bit(z->gone, i);
		for (uint64_t n = 0; n < pages && bit(z->gone, i); n++) {
			uint64_t gfn = z->gfn + i * pages + n;

			heard.gone[gfn]++;
			heard.dirty[gfn] += bit(z->dirty, i);
			heard.young[gfn] += bit(z->young, i);
		}
	}
	heard.wrong += !any;
}

static void no_event(void *ctx, const struct tpt_event *event)
{
	(void)ctx;
	(void)event;
}

static const struct tpt_backing_ops backing = {
	.size = sizeof(backing),
	.lookup = host_lookup,
	.mark_dirty = host_mark_dirty,
	.zapped = hear,
};

static struct host *open_vm(enum tpt_format format, uint32_t flags, bool listen)
{
	struct tpt_vm_config c;
	struct tpt_roots roots;
	struct host *h;

	memset(&heard, 0, sizeof(heard));
	host_config_npt(&c);
	c.format = format;
	c.flags = flags;
	c.event = listen ? no_event : NULL;
	h = host_prepare(&c);
	h->config.backing = &backing;
	h->level = TPT_LEVEL_4K;
	assert_int_equal(tpt_vm_create(&h->config, &h->vm), 0);
	assert_int_equal(tpt_vcpu_create(h->vm, 0, &h->vcpu[0]), 0);
	assert_int_equal(tpt_vcpu_load_roots(h->vcpu[0], &roots), 0);
	assert_int_equal(host_slot(h, 0, 0, 0, PAGES * PAGE, HVA, 0), 0);
	return h;
}

static int unmap(struct host *h, unsigned int start, unsigned int end)
{
	struct tpt_invalidation t;
	int n = tpt_vm_invalidate_begin(h->vm, tpt_hva_make(HVA + start * PAGE),
					tpt_hva_make(HVA + end * PAGE), &t);

	if (n >= 0)
		tpt_vm_invalidate_end(h->vm, &t);
	return n;
}

/* Every third page is there; of those every other one can't be written; the first 600 are old. */
static bool is_there(unsigned int page)
{
	return page % 3 == 0;
}

static bool is_dirty(unsigned int page)
{
	return page % 6 == 0;
}

static void map_some(struct host *h)
{
	for (unsigned int page = 0; page < 2048; page++) {
		h->ro_start = page % 2 ? HVA + page * PAGE : 0;
		h->ro_end = page % 2 ? HVA + (page + 1) * PAGE : 0;
		if (is_there(page))
			assert_int_equal(host_fault(h, page * PAGE, READ), TPT_RET_PF_FIXED);
	}
	assert_int_equal(tpt_vm_age(h->vm, tpt_hva_make(HVA), tpt_hva_make(HVA + 600 * PAGE), NULL),
			 1);
}

static void each_leaf_is_told_once_with_its_flags(void **state)
{
	(void)state;
	for (unsigned int k = 0; k < 6; k++) {
		bool no_ad = k % 3 == 2;
		struct host *h = open_vm(k % 3 ? TPT_FORMAT_EPT : TPT_FORMAT_NPT,
					 no_ad ? TPT_VM_NO_AD : 0, k / 3);

		map_some(h);
		assert_int_equal(unmap(h, 100, 1900), 600);
		/* Four tables. */
		assert_int_equal(heard.calls, 4);
		assert_int_equal(heard.last.reason, TPT_FLUSH_ZAP_NOTIFIER);
		for (unsigned int page = 0; page < 2048; page++) {
			bool gone = is_there(page) && page >= 100 && page < 1900;
			bool young = gone && page >= 600;

			assert_int_equal(heard.gone[page], gone);
			assert_int_equal(heard.young[page], young);
			/* Without A aging takes W with all access. */
			assert_int_equal(heard.dirty[page],
					 gone && is_dirty(page) && (young || !no_ad));
		}
		assert_int_equal(unmap(h, 100, 1900), 0);
		assert_int_equal(heard.calls, 4);
		assert_int_equal(heard.wrong, 0);
		host_destroy(h);
	}
}

static void one_page_is_told_like_many(void **state)
{
	(void)state;
	for (unsigned int k = 0; k < 4; k++) {
		struct host *h = open_vm(k % 2 ? TPT_FORMAT_EPT : TPT_FORMAT_NPT, 0, k / 2);
		unsigned int there = 0;

		map_some(h);
		for (unsigned int page = 0; page < 2048; page++) {
			h->nr_flushes = 0;
			assert_int_equal(unmap(h, page, page + 1), is_there(page));
			there += is_there(page);
			assert_int_equal(heard.calls, there);
			assert_int_equal(heard.gone[page], is_there(page));
			assert_int_equal(heard.young[page], is_there(page) && page >= 600);
			assert_int_equal(heard.dirty[page], is_dirty(page));
			assert_int_equal(h->nr_flushes, is_there(page));
			if (is_there(page)) {
				assert_int_equal(h->flush[0].range.start, page);
				assert_int_equal(h->flush[0].range.end, page + 1);
				assert_int_equal(h->flush[0].reason, TPT_FLUSH_ZAP_NOTIFIER);
			}
		}
		assert_int_equal(heard.wrong, 0);
		host_destroy(h);
	}
}

/* However small a part of it was asked for. */
static void a_large_leaf_is_told_as_a_whole(void **state)
{
	(void)state;
	for (unsigned int k = 0; k < 4; k++) {
		struct host *h = open_vm(TPT_FORMAT_EPT, 0, k % 2);

		h->level = TPT_LEVEL_2M;
		assert_int_equal(host_fault(h, 3 * 512 * PAGE, WRITE), TPT_RET_PF_FIXED);
		assert_int_equal(unmap(h, 3 * 512 + 5, 3 * 512 + (k / 2 ? 6 : 9)), 1);
		assert_int_equal(heard.calls, 1);
		assert_int_equal(heard.last.level, TPT_LEVEL_2M);
		assert_int_equal(heard.last.gfn, 3 * 512);
		for (unsigned int page = 0; page < PAGES; page++) {
			assert_int_equal(heard.gone[page], page / 512 == 3);
			assert_int_equal(heard.dirty[page], page / 512 == 3);
			assert_int_equal(heard.young[page], page / 512 == 3);
		}
		assert_int_equal(h->flush[0].range.start, 3 * 512);
		assert_int_equal(h->flush[0].range.end, 4 * 512);
		assert_int_equal(heard.wrong, 0);
		host_destroy(h);
	}
}

/* A table in whose midst the walk gave way is told in two parts, and no leaf in both. */
static void a_long_walk_tells_each_leaf_once(void **state)
{
	struct host *h = open_vm(TPT_FORMAT_NPT, 0, false);

	(void)state;
	for (unsigned int page = 0; page < PAGES; page++)
		assert_int_equal(host_fault(h, page * PAGE, WRITE), TPT_RET_PF_FIXED);
	assert_int_equal(unmap(h, 0, PAGES), PAGES);
	for (unsigned int page = 0; page < PAGES; page++)
		assert_int_equal(heard.gone[page], 1);
	assert_in_range(heard.calls, PAGES / 512, PAGES / 512 + 4);
	assert_in_range(host_stats(h).longest_exclusive, 4000, 4096);
	assert_int_equal(heard.wrong, 0);
	host_destroy(h);
}

static void a_memslot_that_goes_is_told_and_whole_roots_are_not(void **state)
{
	(void)state;
	for (unsigned int k = 0; k < 2; k++) {
		struct host *h = open_vm(TPT_FORMAT_NPT, k ? TPT_VM_SLOT_ZAP_ALL : 0, false);

		map_some(h);
		assert_int_equal(host_slot(h, 0, 0, 0, 0, 0, 0), 0);
		assert_int_equal(heard.calls, k ? 0 : 4);
		if (!k)
			assert_int_equal(heard.last.reason, TPT_FLUSH_ZAP_MEMSLOT);
		assert_int_equal(host_slot(h, 0, 0, 0, PAGES * PAGE, HVA, 0), 0);
		heard.calls = 0;
		map_some(h);
		assert_int_equal(tpt_vm_apicv_changed(h->vm, 3), 0);
		assert_int_equal(heard.calls, 1);
		assert_int_equal(heard.last.reason, TPT_FLUSH_ZAP_RANGE);
		assert_int_equal(tpt_vm_zap_all_fast(h->vm), 0);
		assert_int_equal(heard.calls, 1);
		/* Beyond all that a guest can name: nothing is there. */
		assert_int_equal(tpt_vm_apicv_changed(h->vm, UINT64_MAX - 1), 0);
		assert_int_equal(heard.calls, 1);
		host_destroy(h);
	}
}

/* A gmem is not the backing's memory: what a hole or a conversion takes of it is not told. */
static void private_memory_is_not_told_of(void **state)
{
	struct tpt_vm_config c;
	struct host *h;

	(void)state;
	memset(&heard, 0, sizeof(heard));
	host_config_npt(&c);
	c.flags = TPT_VM_SW_PROTECTED;
	h = host_create(&c, 1);
	tpt_vm_destroy(h->vm);
	h->config.backing = &backing;
	assert_int_equal(tpt_vm_create(&h->config, &h->vm), 0);
	assert_int_equal(tpt_vcpu_create(h->vm, 0, &h->vcpu[0]), 0);
	h->level = h->gmem_level = TPT_LEVEL_4K;
	assert_int_equal(tpt_gmem_create(h->vm, 64 * PAGE, &host_gmem, h, &h->gmem), 0);
	assert_int_equal(host_slot(h, 0, 0, 0, 64 * PAGE, HVA, TPT_MEM_GUEST_MEMFD), 0);
	assert_int_equal(tpt_vm_set_private(h->vm, 0, 32, true, NULL), 0);
	for (unsigned int i = 0; i < 64; i++)
		assert_int_equal(host_fault(h, i * PAGE, READ | (i < 32 ? TPT_PFERR_PRIVATE : 0)),
				 TPT_RET_PF_FIXED);
	assert_int_equal(tpt_gmem_punch_hole(h->gmem, 0, 16 * PAGE), 0);
	assert_int_equal(tpt_vm_set_private(h->vm, 16, 32, false, NULL), 0);
	assert_int_equal(heard.calls, 0);
	assert_int_equal(tpt_vm_set_private(h->vm, 0, 64, true, NULL), 0);
	assert_int_equal(heard.calls, 1);
	assert_int_equal(heard.last.reason, TPT_FLUSH_ZAP_CONVERSION);
	for (unsigned int i = 0; i < 64; i++)
		assert_int_equal(heard.gone[i], i >= 32);
	assert_int_equal(heard.wrong, 0);
	host_destroy(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_leaf_is_told_once_with_its_flags),
		cmocka_unit_test(one_page_is_told_like_many),
		cmocka_unit_test(a_large_leaf_is_told_as_a_whole),
		cmocka_unit_test(a_long_walk_tells_each_leaf_once),
		cmocka_unit_test(a_memslot_that_goes_is_told_and_whole_roots_are_not),
		cmocka_unit_test(private_memory_is_not_told_of),
	};

	return cmocka_run_group_tests_name("zapped", tests, NULL, NULL);
}
