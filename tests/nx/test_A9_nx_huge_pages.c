// SPDX-License-Identifier: BSD-2-Clause
/*
 * A9, NX huge pages on the model processor: KVM's own table step by step, with the mitigation on
 * and off; who may switch it; recovery by ratio, oldest first, beside faults and with nothing
 * external called; and that no translation ever names another frame (B2) or slips the mitigation
 * through another address space (B3).
 *
 * Expectations: the table is that of KVM's selftest nx_huge_pages_test (huge pages, nx_lpage_splits
 * after each step); ceil(splits / ratio) is KVM's rule for one period; what a frame is follows from
 * the backing here: page n is frame FRAME + n.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "tests/support/host.h"

#include "cli/sim.h"

#include "mmu/vm/vm.h"

#define HVA   0x7f0000000000ull
#define HUGE  512u /* pages of one */
#define BASE  HUGE /* first page of the slot: huge page #1 is at HUGE */
#define PAGES (200 * HUGE)
#define FRAME 0x200000u
#define GIGA  (1u << 18)

struct world {
	struct sim *sim;
	enum tpt_level host_level;
};

static int lookup(void *ctx, const struct tpt_backing_query *q, struct tpt_backing_page *page)
{
	const struct world *w = ctx;

	*page = (struct tpt_backing_page){.pfn = {FRAME + ((q->hva.a - HVA) >> 12)},
					  .writable = true,
					  .level = w->host_level};
	return 0;
}

static enum tpt_level mapping_level(void *ctx, tpt_hva hva, tpt_pfn pfn)
{
	const struct world *w = ctx;

	(void)hva, (void)pfn;
	return w->host_level;
}

static const struct tpt_backing_ops backing = {
	.size = sizeof(backing), .lookup = lookup, .mapping_level = mapping_level};

static void set_slot(struct world *w, uint32_t as_id, uint32_t flags)
{
	const struct tpt_memory_region ram = {
		.as_id = as_id, .flags = flags, .size = PAGES * 4096ull, .hva = {HVA}};

	assert_int_equal(sim_set_memory_region(w->sim, &ram), 0);
}

static void config(struct sim_config *c, struct world *w, enum tpt_format format, uint32_t flags)
{
	*c = (struct sim_config){.nr_vcpus = 2};
	tpt_vm_config_init(&c->vm, format);
	c->vm.flags = flags;
	c->vm.address_spaces = 2;
	c->vm.backing = &backing;
	c->vm.backing_ctx = w;
}

static void start(struct world *w, enum tpt_format format, uint32_t flags)
{
	struct sim_config c;
	char why[256];

	config(&c, w, format, flags);
	assert_int_equal(sim_create(&w->sim, &c, why, sizeof(why)), 0);
	set_slot(w, 0, 0);
}

static void stop(struct world *w)
{
	char text[256] = "";

	if (tpt_vm_audit(sim_vm(w->sim), text, sizeof(text)))
		fail_msg("audit: %s", text);
	assert_string_equal(tpt_vm_report(sim_vm(w->sim)), "");
	assert_int_equal(machine_report_count(sim_machine(w->sim)), 0);
	assert_int_equal(sim_destroy(w->sim), 0);
}

static struct tpt_vm_stats stats(struct world *w)
{
	struct tpt_vm_stats s;

	tpt_vm_get_stats(sim_vm(w->sim), &s);
	return s;
}

/* An access by one vCPU; what it reaches is what is behind it. How many faults it took. */
static unsigned int touch_by(struct world *w, unsigned int vcpu, uint64_t page, unsigned int kind)
{
	struct sim_step last;
	unsigned int faults;
	int err = sim_access(w->sim, vcpu, page << 12, kind, 4, &last, &faults);

	if (err || last.hw.outcome != MACHINE_OK)
		fail_msg("page %#lx: %d, outcome %d, ret %d; %s", page, err, last.hw.outcome,
			 last.ret, tpt_vm_report(sim_vm(w->sim)));
	assert_int_equal(last.hw.hpa >> 12, FRAME + page);
	return faults;
}

static unsigned int touch(struct world *w, uint64_t page, unsigned int kind)
{
	return touch_by(w, 0, page, kind);
}

/* ---- KVM's table ---- */

struct variant {
	enum tpt_format format;
	uint32_t flags;
	int mode; /* -1: left alone */
	bool on;
};

static const struct {
	unsigned int huge; /* 0: five periods go by */
	unsigned int kind;
	unsigned int huge_on, splits_on, huge_off;
} steps[] = {
	{1, MACHINE_READ, 1, 0, 1}, {2, MACHINE_READ, 2, 0, 2}, {1, MACHINE_EXEC, 1, 1, 2},
	{3, MACHINE_EXEC, 1, 2, 3}, {1, MACHINE_READ, 1, 2, 3}, {0, 0, 1, 0, 3},
	{3, MACHINE_READ, 2, 0, 3},
};

static void start_variant(struct world *w, const struct variant *v)
{
	struct sim_config c;
	char why[256];

	config(&c, w, v->format, v->flags);
	assert_int_equal(sim_prepare(&w->sim, &c, why, sizeof(why)), 0);
	assert_int_equal(sim_start(w->sim, &c.vm, why, sizeof(why)), 0);
	if (v->mode >= 0)
		assert_int_equal(
			tpt_vm_set_nx_huge_pages(sim_vm(w->sim), (enum tpt_nx_mode)v->mode), 0);
	set_slot(w, 0, 0);
}

static void A9_each_step_of_kvms_nx_huge_pages_test_counts_as_there(void **state)
{
	static const struct variant variants[] = {
		{TPT_FORMAT_NPT, TPT_VM_ITLB_MULTIHIT, -1, true},
		{TPT_FORMAT_EPT, TPT_VM_ITLB_MULTIHIT, -1, true},
		{TPT_FORMAT_EPT, TPT_VM_ITLB_MULTIHIT | TPT_VM_NO_AD, -1, true},
		{TPT_FORMAT_EPT, 0, TPT_NX_FORCE, true},
		{TPT_FORMAT_EPT, TPT_VM_ITLB_MULTIHIT, TPT_NX_AUTO, true},
		{TPT_FORMAT_EPT, TPT_VM_ITLB_MULTIHIT, TPT_NX_OFF, false},
		{TPT_FORMAT_EPT, 0, -1, false},
		{TPT_FORMAT_NPT, 0, TPT_NX_AUTO, false},
	};

	(void)state;
	for (unsigned int i = 0; i < sizeof(variants) / sizeof(variants[0]); i++) {
		const struct variant *v = &variants[i];
		struct world w = {.host_level = TPT_LEVEL_2M};

		start_variant(&w, v);
		assert_int_equal(stats(&w).direct.pages_2m, 0);
		assert_int_equal(stats(&w).nx_lpage_splits, 0);
		for (unsigned int s = 0; s < sizeof(steps) / sizeof(steps[0]); s++) {
			if (steps[s].huge)
				touch(&w, steps[s].huge * HUGE, steps[s].kind);
			for (unsigned int p = 0; !steps[s].huge && p < 5; p++)
				assert_in_range(tpt_vm_nx_recover(sim_vm(w.sim), 1), 0, 2);
			assert_int_equal(stats(&w).direct.pages_2m,
					 v->on ? steps[s].huge_on : steps[s].huge_off);
			assert_int_equal(stats(&w).nx_lpage_splits, v->on ? steps[s].splits_on : 0);
		}
		stop(&w);
	}
}

static int exec_huge_of(const struct tpt_mapping *m, enum tpt_format format)
{
	if (!m->leaf || m->level == TPT_LEVEL_4K)
		return 0;
	return format == TPT_FORMAT_EPT ? m->spte.w >> 2 & 1 : !(m->spte.w >> 63);
}

struct search {
	enum tpt_format format;
	unsigned int huge, exec_huge, small, exec_small;
};

static bool look(void *ctx, const struct tpt_mapping *m)
{
	struct search *s = ctx;

	if (!m->leaf)
		return true;
	s->exec_huge += exec_huge_of(m, s->format);
	s->huge += m->level > TPT_LEVEL_4K;
	s->small += m->level == TPT_LEVEL_4K;
	if (m->level == TPT_LEVEL_4K)
		s->exec_small +=
			s->format == TPT_FORMAT_EPT ? m->spte.w >> 2 & 1 : !(m->spte.w >> 63);
	return true;
}

static struct search search(struct world *w, enum tpt_format format)
{
	struct search s = {.format = format};

	tpt_vm_for_each_mapping(sim_vm(w->sim), look, &s);
	return s;
}

/* By whatever way a leaf comes: mapped, split by a fault or by a log, made huge again. */
static void A9_code_never_runs_from_a_huge_leaf_and_always_from_a_small_one(void **state)
{
	const enum tpt_format *format = *state;
	struct world w = {.host_level = TPT_LEVEL_2M};
	struct search s;

	start(&w, *format, TPT_VM_ITLB_MULTIHIT | TPT_VM_EAGER_PAGE_SPLIT);
	for (unsigned int i = 1; i <= 4; i++)
		touch(&w, i * HUGE, MACHINE_WRITE);
	touch(&w, 2 * HUGE + 7, MACHINE_EXEC);
	assert_int_equal(touch(&w, 2 * HUGE + 8, MACHINE_EXEC), 0);
	s = search(&w, *format);
	assert_int_equal(s.huge, 3);
	assert_int_equal(s.exec_huge, 0);
	assert_int_equal(s.small, 512);
	assert_int_equal(s.exec_small, 512);

	set_slot(&w, 0, TPT_MEM_LOG_DIRTY);
	s = search(&w, *format);
	assert_int_equal(s.huge, 0);
	assert_int_equal(s.exec_small, 4 * 512);
	assert_int_equal(touch(&w, 3 * HUGE + 9, MACHINE_EXEC), 0);

	/* Recovered in place, and the one table that was counted is not any more. */
	set_slot(&w, 0, 0);
	s = search(&w, *format);
	assert_int_equal(s.huge, 4);
	assert_int_equal(s.exec_huge, 0);
	assert_int_equal(stats(&w).nx_lpage_splits, 0);
	touch(&w, 4 * HUGE + 1, MACHINE_EXEC);
	assert_int_equal(stats(&w).nx_lpage_splits, 1);
	stop(&w);
}

/* ---- who may switch it ---- */

static void A9_a_change_of_the_mode_zaps_all_and_the_same_again_nothing(void **state)
{
	struct world w = {.host_level = TPT_LEVEL_2M};
	struct tpt_vm *vm;

	(void)state;
	start(&w, TPT_FORMAT_EPT, TPT_VM_ITLB_MULTIHIT);
	vm = sim_vm(w.sim);
	touch(&w, HUGE, MACHINE_EXEC);
	assert_int_equal(tpt_vm_set_nx_huge_pages(vm, TPT_NX_FORCE), 0);
	assert_int_equal(stats(&w).zap_all_fast, 0);
	assert_int_equal(stats(&w).nx_lpage_splits, 1);
	assert_int_equal(tpt_vm_set_nx_huge_pages(vm, TPT_NX_OFF), 0);
	assert_int_equal(stats(&w).zap_all_fast, 1);
	assert_int_equal(stats(&w).nx_lpage_splits, 0);
	touch(&w, HUGE, MACHINE_EXEC);
	assert_int_equal(search(&w, TPT_FORMAT_EPT).exec_huge, 1);
	assert_int_equal(tpt_vm_set_nx_huge_pages(vm, TPT_NX_AUTO), 0);
	assert_int_equal(stats(&w).zap_all_fast, 2);
	assert_int_equal(search(&w, TPT_FORMAT_EPT).exec_huge, 0);
	assert_int_equal(tpt_vm_set_nx_huge_pages(vm, (enum tpt_nx_mode)4), -EINVAL);
	/* Too late for these two. */
	assert_int_equal(tpt_vm_set_nx_huge_pages(vm, TPT_NX_NEVER), -EBUSY);
	assert_int_equal(tpt_vm_disable_nx_huge_pages(vm), -EINVAL);
	touch(&w, HUGE, MACHINE_EXEC);
	assert_int_equal(stats(&w).nx_lpage_splits, 1);
	stop(&w);
}

static void A9_a_vm_without_vcpus_may_do_without_for_good(void **state)
{
	struct tpt_vm_config c;
	struct host *h;

	(void)state;
	host_config_ept(&c);
	c.flags = TPT_VM_ITLB_MULTIHIT;
	h = host_create(&c, 0);
	assert_int_equal(tpt_vm_disable_nx_huge_pages(h->vm), 0);
	/* Whatever the mode. */
	assert_int_equal(tpt_vm_set_nx_huge_pages(h->vm, TPT_NX_FORCE), 0);
	assert_int_equal(tpt_vcpu_create(h->vm, 0, &h->vcpu[0]), 0);
	assert_int_equal(host_slot(h, 0, 0, 0, GIB, GIB, 0), 0);
	h->level = TPT_LEVEL_2M;
	assert_int_equal(host_fault(h, 0, TPT_PFERR_FETCH), TPT_RET_PF_FIXED);
	assert_int_equal(host_stats(h).direct.pages_2m, 1);
	assert_int_equal(host_stats(h).nx_lpage_splits, 0);
	host_destroy(h);

	h = host_create(&c, 0);
	assert_int_equal(tpt_vm_set_nx_huge_pages(h->vm, TPT_NX_NEVER), 0);
	assert_int_equal(tpt_vm_set_nx_huge_pages(h->vm, TPT_NX_FORCE), -EPERM);
	assert_int_equal(tpt_vm_set_nx_huge_pages(h->vm, TPT_NX_NEVER), -EPERM);
	assert_int_equal(tpt_vcpu_create(h->vm, 0, &h->vcpu[0]), 0);
	assert_int_equal(host_slot(h, 0, 0, 0, GIB, GIB, 0), 0);
	assert_int_equal(host_fault(h, 0, TPT_PFERR_FETCH), TPT_RET_PF_FIXED);
	assert_int_equal(host_stats(h).direct.pages_1g, 1);
	assert_int_equal(host_stats(h).nx_lpage_splits, 0);
	host_destroy(h);
}

static void A9_periods_are_kvms(void **state)
{
	(void)state;
	assert_int_equal(tpt_nx_recovery_period(0, 60), 60000);
	assert_int_equal(tpt_nx_recovery_period(0, 1), 3600000);
	assert_int_equal(tpt_nx_recovery_period(0, 100000), 1000);
	assert_int_equal(tpt_nx_recovery_period(100, 1), 100);
	assert_int_equal(tpt_nx_recovery_period(100, 0), 0);
	assert_int_equal(tpt_nx_recovery_period(0, 0), 0);
}

/* ---- recovery ---- */

static bool is_huge(struct world *w, unsigned int huge)
{
	uint64_t before = stats(w).direct.pages_2m;

	touch(w, huge * HUGE + 3, MACHINE_READ);
	return stats(w).direct.pages_2m > before;
}

static void A9_recovery_takes_one_in_ratio_rounded_up_oldest_first(void **state)
{
	struct world w = {.host_level = TPT_LEVEL_2M};
	struct tpt_vm *vm;

	(void)state;
	start(&w, TPT_FORMAT_NPT, TPT_VM_ITLB_MULTIHIT);
	vm = sim_vm(w.sim);
	for (unsigned int i = 1; i <= 10; i++)
		touch(&w, i * HUGE, MACHINE_EXEC);
	assert_int_equal(tpt_vm_nx_recover(vm, 0), 0);
	assert_int_equal(stats(&w).nx_lpage_splits, 10);
	assert_int_equal(tpt_vm_nx_recover(vm, 3), 4);
	assert_int_equal(stats(&w).nx_lpage_splits, 6);
	for (unsigned int i = 1; i <= 10; i++)
		assert_int_equal(is_huge(&w, i), i <= 4);
	assert_int_equal(tpt_vm_nx_recover(vm, 100), 1);
	assert_int_equal(stats(&w).nx_lpage_splits, 5);
	assert_true(is_huge(&w, 5));
	assert_int_equal(tpt_vm_nx_recover(vm, 1), 5);
	assert_int_equal(tpt_vm_nx_recover(vm, 1), 0);
	assert_int_equal(tpt_vm_teardown(vm), 0);
	assert_int_equal(tpt_vm_nx_recover(vm, 1), -EIO);
	assert_int_equal(sim_destroy(w.sim), 0);
}

/* 150 tables: three batches of at most 64, a flush each, no exclusive section, few entries. */
static void A9_recovery_flushes_a_batch_at_once_and_stops_nobody(void **state)
{
	struct world w = {.host_level = TPT_LEVEL_2M};
	struct tpt_posix_stats before, after;

	(void)state;
	start(&w, TPT_FORMAT_EPT, TPT_VM_ITLB_MULTIHIT);
	for (unsigned int i = 1; i <= 150; i++)
		touch(&w, i * HUGE, MACHINE_EXEC);
	tpt_posix_get_stats(sim_posix(w.sim), &before);
	assert_int_equal(tpt_vm_nx_recover(sim_vm(w.sim), 1), 150);
	tpt_posix_get_stats(sim_posix(w.sim), &after);
	assert_int_equal(after.locks, before.locks);
	assert_int_equal(stats(&w).flush[TPT_FLUSH_NX_RECOVERY], 3);
	assert_int_equal(stats(&w).remote_tlb_flush, 3);
	assert_int_equal(stats(&w).direct.pages_4k, 0);
	assert_in_range(stats(&w).longest_shared, 1, 64);
	stop(&w);
}

static void A9_a_giga_page_gives_way_twice_and_comes_back_whole(void **state)
{
	struct world w = {.host_level = TPT_LEVEL_1G};
	const struct tpt_memory_region ram = {
		.slot = 1, .gpa = {(uint64_t)GIGA << 12}, .size = GIB, .hva = {HVA + GIB}};
	const uint64_t page = GIGA + 5 * HUGE + 3;
	struct tpt_tree_stats direct;

	(void)state;
	start(&w, TPT_FORMAT_EPT, TPT_VM_ITLB_MULTIHIT);
	assert_int_equal(sim_set_memory_region(w.sim, &ram), 0);
	touch(&w, GIGA, MACHINE_WRITE);
	assert_int_equal(stats(&w).direct.pages_1g, 1);
	touch(&w, page, MACHINE_EXEC);
	/* A table for the 1G leaf, and one for the 2M leaf around the code. */
	assert_int_equal(stats(&w).nx_lpage_splits, 2);
	assert_int_equal(stats(&w).direct.pages_1g, 0);
	assert_int_equal(stats(&w).direct.pages_2m, 511);
	assert_int_equal(stats(&w).direct.pages_4k, 512);
	/* Data beside it is mapped at 2M, and the code stays. */
	assert_int_equal(touch(&w, page + HUGE, MACHINE_WRITE), 0);
	assert_int_equal(touch(&w, page + 1, MACHINE_EXEC), 0);

	/* The upper one is older, and the lower one goes with it. */
	assert_int_equal(tpt_vm_nx_recover(sim_vm(w.sim), 2), 1);
	assert_int_equal(stats(&w).nx_lpage_splits, 0);
	direct = stats(&w).direct;
	assert_int_equal(host_leaves(&direct), 0);
	touch(&w, page, MACHINE_WRITE);
	assert_int_equal(stats(&w).direct.pages_1g, 1);
	stop(&w);
}

static void A9_a_slot_that_logs_dirty_is_only_not_counted_any_more(void **state)
{
	struct world w = {.host_level = TPT_LEVEL_2M};
	uint64_t bitmap[PAGES / 64];

	(void)state;
	start(&w, TPT_FORMAT_NPT, TPT_VM_ITLB_MULTIHIT);
	touch(&w, HUGE, MACHINE_EXEC);
	touch(&w, HUGE + 9, MACHINE_WRITE);
	set_slot(&w, 0, TPT_MEM_LOG_DIRTY);
	touch(&w, HUGE + 9, MACHINE_WRITE);
	assert_int_equal(tpt_vm_nx_recover(sim_vm(w.sim), 1), 1);
	assert_int_equal(stats(&w).nx_lpage_splits, 0);
	assert_int_equal(stats(&w).flush[TPT_FLUSH_NX_RECOVERY], 0);
	assert_int_equal(stats(&w).direct.pages_4k, 2);
	assert_int_equal(touch(&w, HUGE, MACHINE_EXEC), 0);
	assert_int_equal(tpt_vm_get_dirty_log(sim_vm(w.sim), 0, 0, bitmap), 0);
	assert_int_equal(bitmap[(HUGE + 9) / 64], 1ull << 9);
	stop(&w);
}

/* B3: the slot is looked up in the address space whose table it is. */
static void A9_B3_the_other_address_spaces_log_keeps_no_table(void **state)
{
	(void)state;
	for (uint32_t logged = 0; logged < 2; logged++) {
		struct world w = {.host_level = TPT_LEVEL_2M};
		uint32_t other = !logged;

		start(&w, TPT_FORMAT_EPT, TPT_VM_ITLB_MULTIHIT);
		set_slot(&w, 1, 0);
		assert_int_equal(sim_set_address_space(w.sim, 1, 1), 0);
		touch_by(&w, 0, HUGE + 1, MACHINE_EXEC);
		touch_by(&w, 1, 2 * HUGE + 2, MACHINE_EXEC);
		set_slot(&w, logged, TPT_MEM_LOG_DIRTY);
		assert_int_equal(stats(&w).nx_lpage_splits, 2);
		assert_int_equal(tpt_vm_nx_recover(sim_vm(w.sim), 1), 2);
		/* One is gone, and with it the way around the mitigation; one is the log's. */
		assert_int_equal(stats(&w).direct.pages_4k, 1);
		assert_int_equal(
			touch_by(&w, logged, (logged + 1) * HUGE + logged + 1, MACHINE_EXEC), 0);
		assert_int_equal(touch_by(&w, other, (other + 1) * HUGE + other + 1, MACHINE_READ),
				 1);
		assert_int_equal(stats(&w).direct.pages_2m, 1);
		stop(&w);
	}
}

/* B2: where the goal comes down to a table that stays, the frame comes with it; touch() looks. */
static void A9_B2_a_page_beside_code_is_mapped_to_its_own_frame(void **state)
{
	struct world w = {.host_level = TPT_LEVEL_2M};
	uint32_t x = 0x9e3779b9;

	(void)state;
	start(&w, TPT_FORMAT_NPT, TPT_VM_ITLB_MULTIHIT);
	touch(&w, 3 * HUGE + 5, MACHINE_EXEC);
	for (unsigned int i = 0; i < HUGE; i += 7)
		touch(&w, 3 * HUGE + i, i % 2 ? MACHINE_READ : MACHINE_WRITE);
	assert_int_equal(stats(&w).direct.pages_2m, 0);
	assert_int_equal(stats(&w).nx_lpage_splits, 1);

	/* And at random, with recovery and with what processors forget. */
	for (unsigned int i = 0; i < 20000; i++) {
		x ^= x << 13, x ^= x >> 17, x ^= x << 5;
		touch_by(&w, x >> 31, x % (8 * HUGE),
			 (x >> 16) % 8 == 0 ? MACHINE_EXEC
			 : (x >> 16) % 2    ? MACHINE_READ
					    : MACHINE_WRITE);
		if (i % 50 == 0)
			assert_true(tpt_vm_nx_recover(sim_vm(w.sim), 1 + i % 3) >= 0);
	}
	stop(&w);
}

/*
 * Expected: frames never move, so what the guest wrote it reads, through whatever it still has
 * cached of before.
 */
static void A7_content_never_changes_through_splits_and_recoveries_for_nx(void **state)
{
	struct world w = {.host_level = TPT_LEVEL_2M};
	struct machine_result r;

	(void)state;
	start(&w, TPT_FORMAT_EPT, TPT_VM_ITLB_MULTIHIT | TPT_VM_EAGER_PAGE_SPLIT);
	assert_int_equal(machine_mem_add(sim_machine(w.sim), (uint64_t)FRAME << 12, 11), 0);
	for (uint64_t round = 1; round < 40; round++) {
		uint64_t page = HUGE + round * 11 % HUGE, value = round << 32 | page, seen = 0;

		/* Both vCPUs keep a translation from before each change. */
		touch_by(&w, 0, page, MACHINE_WRITE);
		touch_by(&w, 1, page, MACHINE_READ);
		assert_int_equal(machine_write(machine_get_cpu(sim_machine(w.sim), 0), page << 12,
					       &value, sizeof(value), &r),
				 MACHINE_OK);
		switch (round % 4) {
		case 0:
			set_slot(&w, 0, TPT_MEM_LOG_DIRTY);
			break;
		case 1:
			touch_by(&w, 0, page ^ 1, MACHINE_EXEC);
			break;
		case 2:
			assert_true(tpt_vm_nx_recover(sim_vm(w.sim), 1) >= 0);
			break;
		default:
			set_slot(&w, 0, 0);
		}
		touch_by(&w, 1, page, MACHINE_READ);
		assert_int_equal(machine_read(machine_get_cpu(sim_machine(w.sim), 1), page << 12,
					      &seen, sizeof(seen), &r),
				 MACHINE_OK);
		assert_int_equal(seen, value);
	}
	stop(&w);
}

/* ---- what faults and others may not see ---- */

static void A9_a_fault_never_waits_for_the_list(void **state)
{
	struct tpt_vm_config c;
	struct host *h;

	(void)state;
	host_config_npt(&c);
	c.flags = TPT_VM_ITLB_MULTIHIT;
	h = host_create(&c, 1);
	h->level = TPT_LEVEL_2M;
	assert_int_equal(host_slot(h, 0, 0, 0, GIB, GIB, 0), 0);
	atomic_store(&h->vm->trees.nx.lock, 1);
	assert_int_equal(host_fault(h, 0, TPT_PFERR_FETCH), TPT_RET_PF_RETRY);
	/* Others do not even look at it. */
	assert_int_equal(host_fault(h, 2 * MIB, TPT_PFERR_WRITE), TPT_RET_PF_FIXED);
	assert_int_equal(host_fault(h, 2 * MIB, TPT_PFERR_FETCH), TPT_RET_PF_RETRY);
	atomic_store(&h->vm->trees.nx.lock, 0);
	assert_int_equal(host_stats(h).nx_lpage_splits, 0);
	assert_int_equal(host_stats(h).direct.pages_2m, 1);
	assert_int_equal(host_fault(h, 0, TPT_PFERR_FETCH), TPT_RET_PF_FIXED);
	assert_int_equal(host_stats(h).nx_lpage_splits, 1);
	host_destroy(h);
}

static struct {
	const struct tpt_platform *posix;
	struct host *h;
	pthread_t thread;
	bool started;
	_Atomic bool returned, too_early;
} race;

static void *invalidate(void *ctx)
{
	struct tpt_invalidation t;

	(void)ctx;
	must(tpt_vm_invalidate_begin(race.h->vm, tpt_hva_make(GIB), tpt_hva_make(GIB + 2 * MIB),
				     &t) == 0);
	atomic_store(&race.returned, true);
	tpt_vm_invalidate_end(race.h->vm, &t);
	return NULL;
}

/* The host asks for the memory behind the table while its flush is still under way. */
static void slow_flush(void *ctx, struct tpt_vm *vm, const struct tpt_flush *flush)
{
	const struct timespec a_while = {.tv_nsec = 50 * 1000 * 1000};

	if (flush->reason == TPT_FLUSH_NX_RECOVERY) {
		race.started = true;
		must(!pthread_create(&race.thread, NULL, invalidate, NULL));
		nanosleep(&a_while, NULL);
		atomic_store(&race.too_early, race.returned);
	}
	race.posix->flush(ctx, vm, flush);
}

static void A9_memory_is_not_given_back_before_recoverys_flush(void **state)
{
	struct tpt_platform platform;
	struct tpt_vm_config c;
	struct tpt_roots roots;

	(void)state;
	host_config_npt(&c);
	c.flags = TPT_VM_ITLB_MULTIHIT;
	race.h = host_prepare(&c);
	race.posix = race.h->config.platform;
	platform = *race.posix;
	platform.flush = slow_flush;
	race.h->config.platform = &platform;
	race.h->level = TPT_LEVEL_2M;
	assert_int_equal(tpt_vm_create(&race.h->config, &race.h->vm), 0);
	assert_int_equal(tpt_vcpu_create(race.h->vm, 0, &race.h->vcpu[0]), 0);
	assert_int_equal(tpt_vcpu_load_roots(race.h->vcpu[0], &roots), 0);
	assert_int_equal(host_slot(race.h, 0, 0, 0, GIB, GIB, 0), 0);
	assert_int_equal(host_fault(race.h, 0, TPT_PFERR_FETCH), TPT_RET_PF_FIXED);

	assert_int_equal(tpt_vm_nx_recover(race.h->vm, 1), 1);
	assert_true(race.started);
	pthread_join(race.thread, NULL);
	assert_true(race.returned);
	assert_false(race.too_early);
	host_destroy(race.h);
}

static void *recover(void *ctx)
{
	struct host *h = ctx;

	must(tpt_vm_nx_recover(h->vm, 1) == 1);
	return NULL;
}

/* A fault that stands in the table while it is unlinked puts nothing into it any more. */
static void A9_a_fault_in_a_recovered_table_starts_again(void **state)
{
	struct tpt_vm_config c;
	struct actor *actor;
	struct tree_iter it;
	pthread_t thread;
	struct host *h;
	tpt_spte leaf;

	(void)state;
	host_config_npt(&c);
	c.flags = TPT_VM_ITLB_MULTIHIT;
	h = host_create(&c, 1);
	h->level = TPT_LEVEL_2M;
	assert_int_equal(host_slot(h, 0, 0, 0, GIB, GIB, 0), 0);
	assert_int_equal(host_fault(h, 0, TPT_PFERR_FETCH), TPT_RET_PF_FIXED);
	leaf = (tpt_spte){host_word(h, 0) + 7 * 4096};

	actor = &h->vcpu[0]->fault.actor;
	assert_true(section_enter(actor));
	assert_true(iter_start(&it, &h->vm->trees, TREE_DIRECT, 7, 8, TPT_LEVEL_4K));
	while (it.level > TPT_LEVEL_4K)
		iter_down(&it);
	assert_int_equal(pthread_create(&thread, NULL, recover, h), 0);
	pthread_join(thread, NULL);
	assert_int_equal(tree_transition(actor, &it, leaf, TREE_SHARED), -EBUSY);
	assert_int_equal(atomic_load(it.entry), PTE_EMPTY_WORD);
	section_leave(actor);
	assert_int_equal(host_stats(h).direct.pages_4k, 0);
	host_destroy(h);
}

static uint64_t all_calls(struct host *h)
{
	struct tpt_vm_stats s = host_stats(h);
	uint64_t n = 0;

	for (unsigned int i = 0; i < TPT_CALL_NR; i++)
		n += s.vcpus.external_calls[i];
	return n;
}

static void A9_a_tds_recovery_makes_no_external_call_and_mirrors_are_no_matter(void **state)
{
	struct tpt_vm_config c;
	struct host *h;
	uint64_t calls;

	(void)state;
	host_config_td(&c);
	c.flags |= TPT_VM_ITLB_MULTIHIT;
	h = host_create(&c, 1);
	assert_int_equal(tpt_gmem_create(h->vm, 8 * MIB, &host_gmem, h, &h->gmem), 0);
	assert_int_equal(host_slot(h, 0, 0, 0, 8 * MIB, GIB, TPT_MEM_GUEST_MEMFD), 0);
	assert_int_equal(tpt_vm_set_private(h->vm, 0, 512, true, NULL), 0);
	assert_int_equal(host_fault(h, 5 * 4096, TPT_PFERR_FETCH | TPT_PFERR_PRIVATE),
			 TPT_RET_PF_FIXED);
	assert_int_equal(host_stats(h).nx_lpage_splits, 0);
	h->level = TPT_LEVEL_2M;
	assert_int_equal(host_fault(h, HOST_SHARED | 2 * MIB, TPT_PFERR_WRITE), TPT_RET_PF_FIXED);
	assert_int_equal(host_fault(h, HOST_SHARED | 2 * MIB, TPT_PFERR_FETCH),
			 TPT_RET_PF_SPURIOUS);
	assert_int_equal(host_stats(h).nx_lpage_splits, 1);

	calls = all_calls(h);
	assert_int_equal(tpt_vm_nx_recover(h->vm, 1), 1);
	assert_int_equal(tpt_vm_set_nx_huge_pages(h->vm, TPT_NX_OFF), 0);
	assert_int_equal(all_calls(h), calls);
	assert_int_equal(host_stats(h).mirror.pages_4k, 1);
	assert_int_equal(host_stats(h).direct.pages_4k, 0);
	host_destroy(h);
}

int main(void)
{
	static enum tpt_format npt = TPT_FORMAT_NPT, ept = TPT_FORMAT_EPT;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(A9_each_step_of_kvms_nx_huge_pages_test_counts_as_there),
		cmocka_unit_test_prestate(
			A9_code_never_runs_from_a_huge_leaf_and_always_from_a_small_one, &npt),
		cmocka_unit_test_prestate(
			A9_code_never_runs_from_a_huge_leaf_and_always_from_a_small_one, &ept),
		cmocka_unit_test(A9_a_change_of_the_mode_zaps_all_and_the_same_again_nothing),
		cmocka_unit_test(A9_a_vm_without_vcpus_may_do_without_for_good),
		cmocka_unit_test(A9_periods_are_kvms),
		cmocka_unit_test(A9_recovery_takes_one_in_ratio_rounded_up_oldest_first),
		cmocka_unit_test(A9_recovery_flushes_a_batch_at_once_and_stops_nobody),
		cmocka_unit_test(A9_a_giga_page_gives_way_twice_and_comes_back_whole),
		cmocka_unit_test(A9_a_slot_that_logs_dirty_is_only_not_counted_any_more),
		cmocka_unit_test(A9_B3_the_other_address_spaces_log_keeps_no_table),
		cmocka_unit_test(A9_B2_a_page_beside_code_is_mapped_to_its_own_frame),
		cmocka_unit_test(A7_content_never_changes_through_splits_and_recoveries_for_nx),
		cmocka_unit_test(A9_a_fault_never_waits_for_the_list),
		cmocka_unit_test(A9_a_fault_in_a_recovered_table_starts_again),
		cmocka_unit_test(A9_memory_is_not_given_back_before_recoverys_flush),
		cmocka_unit_test(
			A9_a_tds_recovery_makes_no_external_call_and_mirrors_are_no_matter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
