// SPDX-License-Identifier: BSD-2-Clause
/*
 * A8, aging on the model processor: young goes and comes back, nothing is flushed, nobody is
 * stopped, nothing external is called; and without accessed flags no access is lost and none is
 * given that wasn't there. Never looks inside the library.
 *
 * Expectations: A, R, W, X by the SDM's "Accessed and Dirty Flags for EPT" and the APM's "Page
 * Translation and Protection"; the bits where R and X are kept (54, 56) are KVM's; pages that are
 * young by what the guest touched since, kept here in a plain array.
 */
#include <errno.h>
#include <string.h>

#include "tests/support/host.h"

#include "cli/sim.h"

#include <triptych/aging.h>

#define HVA    0x7f0000000000ull
#define PAGES  2048u /* 8 MiB */
#define FRAME  0x200000u
#define LOW    0x1000ull /* of an alias slot: page 1 of what is behind */
#define ALIAS  (1ull << 32)
#define KEPT_R (1ull << 54)
#define KEPT_X (1ull << 56)

struct world {
	struct sim *sim;
	enum tpt_level host_level;
	bool readonly;
	unsigned int lookups;
	uint64_t young[PAGES / 64];
};

static int lookup(void *ctx, const struct tpt_backing_query *q, struct tpt_backing_page *page)
{
	struct world *w = ctx;

	w->lookups++;
	if (w->readonly && q->write)
		return -EPERM;
	*page = (struct tpt_backing_page){.pfn = {FRAME + ((q->hva.a - HVA) >> 12)},
					  .writable = !w->readonly,
					  .level = w->host_level};
	return 0;
}

static const struct tpt_backing_ops backing = {.size = sizeof(backing), .lookup = lookup};

static void set_log(struct world *w, bool on)
{
	const struct tpt_memory_region ram = {
		.flags = on ? TPT_MEM_LOG_DIRTY : 0, .size = PAGES * 4096ull, .hva = {HVA}};

	assert_int_equal(sim_set_memory_region(w->sim, &ram), 0);
}

static void start(struct world *w, enum tpt_format format, uint32_t flags)
{
	struct sim_config c = {.nr_vcpus = 2};
	char why[256];

	tpt_vm_config_init(&c.vm, format);
	c.vm.flags = flags;
	c.vm.address_spaces = 2;
	c.vm.backing = &backing;
	c.vm.backing_ctx = w;
	assert_int_equal(sim_create(&w->sim, &c, why, sizeof(why)), 0);
	set_log(w, false);
}

static void stop(struct world *w)
{
	char text[256];

	assert_int_equal(tpt_vm_audit(sim_vm(w->sim), text, sizeof(text)), 0);
	assert_int_equal(machine_report_count(sim_machine(w->sim)), 0);
	assert_int_equal(sim_destroy(w->sim), 0);
}

/* How many faults it took. */
static unsigned int touch(struct world *w, uint64_t gfn, unsigned int kind)
{
	struct sim_step last;
	unsigned int faults;

	assert_int_equal(sim_access(w->sim, 0, gfn << 12, kind, 4, &last, &faults), 0);
	assert_int_equal(last.hw.outcome, MACHINE_OK);
	return faults;
}

static struct tpt_vm_stats stats(struct world *w)
{
	struct tpt_vm_stats s;

	tpt_vm_get_stats(sim_vm(w->sim), &s);
	return s;
}

/* What a processor does by itself from time to time. */
static void forget(struct world *w)
{
	machine_flush(sim_machine(w->sim), NULL, MACHINE_TAG_ALL, 0, MACHINE_GPA_END,
		      MACHINE_FLUSH_LOCAL);
}

static int age(struct world *w, unsigned int first, unsigned int end)
{
	return tpt_vm_age(sim_vm(w->sim), tpt_hva_make(HVA + first * 4096ull),
			  tpt_hva_make(HVA + end * 4096ull), w->young);
}

static int test_age(struct world *w, unsigned int first, unsigned int end)
{
	return tpt_vm_test_age(sim_vm(w->sim), tpt_hva_make(HVA + first * 4096ull),
			       tpt_hva_make(HVA + end * 4096ull), w->young);
}

static bool is_young(const struct world *w, unsigned int page)
{
	return w->young[page / 64] >> (page % 64) & 1;
}

static unsigned int nr_young(const struct world *w, unsigned int pages)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < pages; i++)
		n += is_young(w, i);
	return n;
}

struct find {
	uint64_t gfn;
	uint64_t word;
};

static bool find_one(void *ctx, const struct tpt_mapping *m)
{
	struct find *f = ctx;

	if (!m->leaf || m->as_id || m->gfn != tpt_gfn_round(f->gfn, m->level))
		return true;
	f->word = m->spte.w;
	return false;
}

static uint64_t word(struct world *w, uint64_t gfn)
{
	struct find f = {.gfn = gfn};

	tpt_vm_for_each_mapping(sim_vm(w->sim), find_one, &f);
	return f.word;
}

/* ---- with A ---- */

static void A8_age_clears_A_flushes_nothing_and_an_access_brings_it_back(void **state)
{
	const enum tpt_format *format = *state;
	const uint64_t accessed = *format == TPT_FORMAT_EPT ? 1ull << 8 : 1ull << 5;
	struct world w = {.host_level = TPT_LEVEL_4K};
	struct tpt_vm_stats before, after;

	start(&w, *format, 0);
	for (unsigned int i = 0; i < 100; i++)
		touch(&w, i, i % 2 ? MACHINE_WRITE : MACHINE_READ);
	assert_true(word(&w, 7) & accessed);
	before = stats(&w);
	assert_int_equal(test_age(&w, 0, PAGES), 1);
	assert_int_equal(nr_young(&w, PAGES), 100);
	assert_true(word(&w, 7) & accessed);

	assert_int_equal(age(&w, 0, PAGES), 1);
	assert_int_equal(nr_young(&w, PAGES), 100);
	assert_false(word(&w, 7) & accessed);
	assert_int_equal(age(&w, 0, PAGES), 0);
	assert_int_equal(test_age(&w, 0, PAGES), 0);
	assert_int_equal(nr_young(&w, PAGES), 0);
	/* The translation is still there: used, and not seen. */
	assert_int_equal(touch(&w, 7, MACHINE_READ), 0);
	assert_int_equal(test_age(&w, 0, PAGES), 0);

	forget(&w);
	assert_int_equal(touch(&w, 7, MACHINE_READ), 0);
	assert_int_equal(touch(&w, 8, MACHINE_WRITE), 0);
	assert_int_equal(test_age(&w, 0, PAGES), 1);
	assert_int_equal(nr_young(&w, PAGES), 2);
	assert_true(is_young(&w, 7) && is_young(&w, 8));
	assert_true(word(&w, 7) & accessed);

	/* stats(), word() and audits are alone; aging never was, and nobody flushed for it. */
	after = stats(&w);
	assert_int_equal(after.remote_tlb_flush, before.remote_tlb_flush);
	assert_int_equal(after.vcpus.pf_taken, before.vcpus.pf_taken);
	stop(&w);
}

static void A8_aging_takes_no_exclusive_section(void **state)
{
	struct world w = {.host_level = TPT_LEVEL_4K};
	struct tpt_posix_stats before, after;

	(void)state;
	start(&w, TPT_FORMAT_NPT, 0);
	for (unsigned int i = 0; i < PAGES; i++)
		touch(&w, i, MACHINE_WRITE);
	tpt_posix_get_stats(sim_posix(w.sim), &before);
	assert_int_equal(age(&w, 0, PAGES), 1);
	assert_int_equal(test_age(&w, 0, PAGES), 0);
	tpt_posix_get_stats(sim_posix(w.sim), &after);
	assert_int_equal(after.locks, before.locks);
	stop(&w);
}

static void A8_only_the_range_is_aged_and_a_huge_page_as_a_whole(void **state)
{
	struct world w = {.host_level = TPT_LEVEL_4K};

	(void)state;
	start(&w, TPT_FORMAT_NPT, 0);
	for (unsigned int i = 500; i < 530; i++)
		touch(&w, i, MACHINE_READ);
	assert_int_equal(age(&w, 510, 520), 1);
	assert_int_equal(nr_young(&w, 10), 10);
	assert_int_equal(test_age(&w, 0, PAGES), 1);
	for (unsigned int i = 0; i < PAGES; i++)
		assert_int_equal(is_young(&w, i), (i >= 500 && i < 510) || (i >= 520 && i < 530));

	w.host_level = TPT_LEVEL_2M;
	touch(&w, 1024, MACHINE_READ);
	assert_int_equal(test_age(&w, 1024, PAGES), 1);
	assert_int_equal(nr_young(&w, PAGES - 1024), 512);
	/* One page of it asked for: all of it is old then. */
	assert_int_equal(age(&w, 1100, 1101), 1);
	assert_int_equal(test_age(&w, 1024, PAGES), 0);
	stop(&w);
}

/* Memory behind two slots and in two address spaces is young if any of them was used. */
static void A8_all_slots_over_the_memory_are_asked(void **state)
{
	struct world w = {.host_level = TPT_LEVEL_4K};
	struct tpt_memory_region alias = {
		.slot = 1, .gpa = {ALIAS}, .size = PAGES * 4096ull - LOW, .hva = {HVA + LOW}};
	struct sim_step last;
	unsigned int faults;

	(void)state;
	start(&w, TPT_FORMAT_NPT, 0);
	assert_int_equal(sim_set_memory_region(w.sim, &alias), 0);
	alias.as_id = 1;
	assert_int_equal(sim_set_memory_region(w.sim, &alias), 0);

	touch(&w, 3, MACHINE_READ);
	touch(&w, (ALIAS >> 12) + 4, MACHINE_READ); /* page 5 behind it */
	assert_int_equal(sim_set_address_space(w.sim, 1, 1), 0);
	assert_int_equal(sim_access(w.sim, 1, ALIAS + 9 * 4096, MACHINE_READ, 4, &last, &faults),
			 0);

	assert_int_equal(age(&w, 0, PAGES), 1);
	assert_int_equal(nr_young(&w, PAGES), 3);
	assert_true(is_young(&w, 3) && is_young(&w, 5) && is_young(&w, 10));
	assert_int_equal(test_age(&w, 0, PAGES), 0);
	stop(&w);
}

static void A8_a_bad_range_is_refused_and_ages_nothing(void **state)
{
	struct world w = {.host_level = TPT_LEVEL_4K};
	struct tpt_vm *vm;

	(void)state;
	start(&w, TPT_FORMAT_NPT, 0);
	vm = sim_vm(w.sim);
	touch(&w, 0, MACHINE_READ);
	assert_int_equal(tpt_vm_age(vm, tpt_hva_make(HVA), tpt_hva_make(HVA), NULL), -EINVAL);
	assert_int_equal(tpt_vm_age(vm, tpt_hva_make(HVA + 1), tpt_hva_make(HVA + 4096), NULL),
			 -EINVAL);
	assert_int_equal(tpt_vm_age(vm, tpt_hva_make(HVA), tpt_hva_make(HVA + 100), NULL), -EINVAL);
	assert_int_equal(tpt_vm_test_age(vm, tpt_hva_make(HVA + 4096), tpt_hva_make(HVA), NULL),
			 -EINVAL);
	/* Where no slot lies nothing is young. */
	assert_int_equal(tpt_vm_test_age(vm, tpt_hva_make(HVA - 8192), tpt_hva_make(HVA), NULL), 0);
	assert_int_equal(test_age(&w, 0, PAGES), 1);
	assert_int_equal(tpt_vm_teardown(vm), 0);
	assert_int_equal(test_age(&w, 0, PAGES), -EIO);
	assert_int_equal(sim_destroy(w.sim), 0);
}

static void A8_random_accesses_and_agings_agree_with_a_plain_array(void **state)
{
	const uint32_t *flags = *state;
	struct world w = {.host_level = TPT_LEVEL_4K};
	static bool young[PAGES];
	uint32_t x = 0x1b873593;

	start(&w, TPT_FORMAT_EPT, *flags);
	memset(young, 0, sizeof(young));
	for (unsigned int i = 0; i < 20000; i++) {
		unsigned int page, end;

		x ^= x << 13, x ^= x >> 17, x ^= x << 5;
		page = x % PAGES;
		if (i % 100) {
			touch(&w, page, x >> 20 & 1 ? MACHINE_WRITE : MACHINE_READ);
			young[page] = true;
			continue;
		}
		end = page + 1 + (x >> 12) % (PAGES - page);
		assert_in_range(i % 200 ? age(&w, page, end) : test_age(&w, page, end), 0, 1);
		for (unsigned int p = page; p < end; p++) {
			assert_int_equal(is_young(&w, p - page), young[p]);
			young[p] &= !(i % 200);
		}
		forget(&w);
	}
	stop(&w);
}

/* ---- without A ---- */

static void A8_without_A_access_is_taken_and_given_back_by_the_fast_path(void **state)
{
	struct world w = {.host_level = TPT_LEVEL_4K};
	unsigned int lookups;

	(void)state;
	start(&w, TPT_FORMAT_EPT, TPT_VM_NO_AD);
	touch(&w, 5, MACHINE_WRITE);
	touch(&w, 6, MACHINE_EXEC);
	assert_int_equal(word(&w, 5) & 7, 7);
	lookups = w.lookups;

	assert_int_equal(age(&w, 0, PAGES), 1);
	assert_int_equal(nr_young(&w, PAGES), 2);
	assert_int_equal(word(&w, 5) & (7 | KEPT_R | KEPT_X), KEPT_R | KEPT_X);
	assert_int_equal(test_age(&w, 0, PAGES), 0);
	assert_int_equal(stats(&w).remote_tlb_flush, 0);
	/* What a processor still has it uses. */
	assert_int_equal(touch(&w, 5, MACHINE_WRITE), 0);
	forget(&w);

	/* A read gives R and X back and not W. */
	assert_int_equal(touch(&w, 5, MACHINE_READ), 1);
	assert_int_equal(word(&w, 5) & (7 | KEPT_R | KEPT_X), 5);
	assert_int_equal(test_age(&w, 0, PAGES), 1);
	assert_int_equal(nr_young(&w, PAGES), 1);
	assert_int_equal(touch(&w, 5, MACHINE_READ), 0);
	assert_int_equal(touch(&w, 5, MACHINE_WRITE), 1);
	assert_int_equal(word(&w, 5) & (7 | KEPT_R | KEPT_X), 7);
	/* A write gives all of it back at once. */
	assert_int_equal(touch(&w, 6, MACHINE_WRITE), 1);
	assert_int_equal(word(&w, 6) & (7 | KEPT_R | KEPT_X), 7);
	assert_int_equal(touch(&w, 6, MACHINE_EXEC), 0);

	assert_int_equal(stats(&w).vcpus.pf_fast, 3);
	assert_int_equal(w.lookups, lookups);
	stop(&w);
}

static void A8_without_A_what_the_host_lets_only_be_read_is_never_written(void **state)
{
	struct world w = {.host_level = TPT_LEVEL_4K, .readonly = true};
	struct sim_step last;
	unsigned int faults;

	(void)state;
	start(&w, TPT_FORMAT_EPT, TPT_VM_NO_AD);
	touch(&w, 5, MACHINE_READ);
	assert_int_equal(word(&w, 5) & 7, 5);
	assert_int_equal(age(&w, 0, PAGES), 1);
	forget(&w);
	/* Aged: a write must not get what a read would not have had. */
	assert_int_equal(sim_access(w.sim, 0, 5 << 12, MACHINE_WRITE, 4, &last, &faults), 0);
	assert_int_equal(last.ret, TPT_RET_PF_EMULATE);
	assert_false(word(&w, 5) & 2);
	assert_int_equal(touch(&w, 5, MACHINE_READ), 1);
	assert_int_equal(word(&w, 5) & 7, 5);
	stop(&w);
}

static void A8_without_A_no_write_escapes_the_dirty_log(void **state)
{
	struct world w = {.host_level = TPT_LEVEL_4K};
	uint64_t bitmap[PAGES / 64];

	(void)state;
	start(&w, TPT_FORMAT_EPT, TPT_VM_NO_AD);
	touch(&w, 5, MACHINE_WRITE);
	touch(&w, 6, MACHINE_WRITE);
	/* Aged and not flushed: the processor may still write, and no W stands in the entry. */
	assert_int_equal(age(&w, 0, PAGES), 1);
	assert_int_equal(touch(&w, 5, MACHINE_WRITE), 0);
	set_log(&w, true);
	assert_int_equal(touch(&w, 5, MACHINE_WRITE), 1);
	assert_int_equal(touch(&w, 6, MACHINE_READ), 1);
	assert_int_equal(tpt_vm_get_dirty_log(sim_vm(w.sim), 0, 0, bitmap), 0);
	assert_int_equal(bitmap[0], 1ull << 5);

	/* Aged between: the log still hears of the next write, and of nothing else. */
	assert_int_equal(age(&w, 0, PAGES), 1);
	forget(&w);
	assert_int_equal(touch(&w, 5, MACHINE_READ), 1);
	assert_int_equal(tpt_vm_get_dirty_log(sim_vm(w.sim), 0, 0, bitmap), 0);
	assert_int_equal(bitmap[0], 0);
	assert_int_equal(touch(&w, 5, MACHINE_WRITE), 1);
	assert_int_equal(tpt_vm_get_dirty_log(sim_vm(w.sim), 0, 0, bitmap), 0);
	assert_int_equal(bitmap[0], 1ull << 5);
	stop(&w);
}

static void A8_without_A_a_split_and_a_prefetch_stay_aged(void **state)
{
	struct world w = {.host_level = TPT_LEVEL_2M};
	struct tpt_fault f = {.gpa = {1024 << 12}, .prefetch = true};
	struct tpt_roots roots;

	(void)state;
	start(&w, TPT_FORMAT_EPT, TPT_VM_NO_AD | TPT_VM_EAGER_PAGE_SPLIT);
	touch(&w, 5, MACHINE_WRITE);
	assert_int_equal(age(&w, 0, PAGES), 1);
	set_log(&w, true);
	assert_int_equal(stats(&w).direct.pages_4k, 512);
	assert_int_equal(test_age(&w, 0, PAGES), 0);
	assert_int_equal(touch(&w, 300, MACHINE_READ), 1);
	assert_int_equal(test_age(&w, 0, PAGES), 1);
	assert_int_equal(nr_young(&w, PAGES), 1);
	assert_true(is_young(&w, 300));

	assert_int_equal(tpt_vcpu_load_roots(sim_vcpu(w.sim, 0), &roots), 0);
	assert_int_equal(tpt_vcpu_fault(sim_vcpu(w.sim, 0), &f), TPT_RET_PF_FIXED);
	assert_int_equal(test_age(&w, 1024, PAGES), 0);
	assert_int_equal(touch(&w, 1024, MACHINE_READ), 1);
	assert_int_equal(test_age(&w, 1024, PAGES), 1);
	stop(&w);
}

/* ---- a VM with private memory ---- */

static uint64_t all_calls(struct host *h)
{
	struct tpt_vm_stats s = host_stats(h);
	uint64_t n = 0;

	for (unsigned int i = 0; i < TPT_CALL_NR; i++)
		n += s.vcpus.external_calls[i];
	return n;
}

static void A8_aging_a_td_makes_no_external_call(void **state)
{
	struct host *h = host_create_td(0, 4 * MIB, 1);
	uint64_t calls, young[1024 / 64];
	unsigned int n = 0;

	(void)state;
	assert_int_equal(tpt_vm_set_private(h->vm, 0, 512, false, NULL), 0);
	assert_int_equal(host_fault(h, HOST_SHARED, TPT_PFERR_WRITE), TPT_RET_PF_FIXED);
	assert_int_equal(host_fault(h, 2 * MIB, TPT_PFERR_WRITE | TPT_PFERR_PRIVATE),
			 TPT_RET_PF_FIXED);
	calls = all_calls(h);
	assert_true(calls > 0);
	assert_int_equal(tpt_vm_age(h->vm, tpt_hva_make(GIB), tpt_hva_make(GIB + 4 * MIB), young),
			 1);
	for (unsigned int i = 0; i < 1024; i++)
		n += young[i / 64] >> (i % 64) & 1;
	/* The shared huge page, and no private one. */
	assert_int_equal(n, 512);
	assert_int_equal(young[8], 0);
	assert_int_equal(
		tpt_vm_test_age(h->vm, tpt_hva_make(GIB), tpt_hva_make(GIB + 4 * MIB), NULL), 0);
	assert_int_equal(all_calls(h), calls);
	assert_int_equal(h->nr_flushes, 0);
	host_destroy(h);
}

/* Private pages of a VM that tells them by attribute are in the direct tree, and not the host's. */
static void A8_private_pages_without_a_mirror_are_not_aged(void **state)
{
	struct tpt_vm_config c;
	struct host *h;
	uint64_t young[512 / 64];

	(void)state;
	host_config_npt(&c);
	c.flags = TPT_VM_SW_PROTECTED;
	h = host_create(&c, 1);
	h->level = h->gmem_level = TPT_LEVEL_4K;
	assert_int_equal(tpt_gmem_create(h->vm, 2 * MIB, &host_gmem, h, &h->gmem), 0);
	assert_int_equal(host_slot(h, 0, 0, 0, 2 * MIB, GIB, TPT_MEM_GUEST_MEMFD), 0);
	assert_int_equal(tpt_vm_set_private(h->vm, 3, 6, true, NULL), 0);
	for (unsigned int i = 0; i < 8; i++)
		assert_int_equal(
			host_fault(h, i * 4096ull, i >= 3 && i < 6 ? TPT_PFERR_PRIVATE : 0),
			TPT_RET_PF_FIXED);
	assert_int_equal(tpt_vm_age(h->vm, tpt_hva_make(GIB), tpt_hva_make(GIB + 2 * MIB), young),
			 1);
	assert_int_equal(young[0], 0xc7);
	assert_true(host_word(h, 4 * 4096) & 1ull << 5);
	assert_false(host_word(h, 6 * 4096) & 1ull << 5);
	host_destroy(h);
}

int main(void)
{
	static enum tpt_format npt = TPT_FORMAT_NPT, ept = TPT_FORMAT_EPT;
	static uint32_t with_ad = 0, without_ad = TPT_VM_NO_AD;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(
			A8_age_clears_A_flushes_nothing_and_an_access_brings_it_back, &npt),
		cmocka_unit_test_prestate(
			A8_age_clears_A_flushes_nothing_and_an_access_brings_it_back, &ept),
		cmocka_unit_test(A8_aging_takes_no_exclusive_section),
		cmocka_unit_test(A8_only_the_range_is_aged_and_a_huge_page_as_a_whole),
		cmocka_unit_test(A8_all_slots_over_the_memory_are_asked),
		cmocka_unit_test(A8_a_bad_range_is_refused_and_ages_nothing),
		cmocka_unit_test_prestate(A8_random_accesses_and_agings_agree_with_a_plain_array,
					  &with_ad),
		cmocka_unit_test_prestate(A8_random_accesses_and_agings_agree_with_a_plain_array,
					  &without_ad),
		cmocka_unit_test(A8_without_A_access_is_taken_and_given_back_by_the_fast_path),
		cmocka_unit_test(A8_without_A_what_the_host_lets_only_be_read_is_never_written),
		cmocka_unit_test(A8_without_A_no_write_escapes_the_dirty_log),
		cmocka_unit_test(A8_without_A_a_split_and_a_prefetch_stay_aged),
		cmocka_unit_test(A8_aging_a_td_makes_no_external_call),
		cmocka_unit_test(A8_private_pages_without_a_mirror_are_not_aged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
