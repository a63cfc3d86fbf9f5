// SPDX-License-Identifier: BSD-2-Clause
/*
 * What an LP caches, for how long, and what the judge says of it: staleness that is legal, missing
 * flushes, memory freed too early, the TD's two spaces, guest mode and kicks.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "tdx/port.h"
#include "tests/machine/tree.h"

#define R   MACHINE_READ
#define W   MACHINE_WRITE
#define X   MACHINE_EXEC
#define GPA 0x40201000ull

static void tree_cpus(struct tree *t, enum machine_root_kind kind, unsigned int nr_cpus)
{
	machine_config_default(&t->config);
	t->config.nr_cpus = nr_cpus;
	tree_make(t, kind, 4, true);
	for (unsigned int i = 1; i < nr_cpus; i++)
		assert_int_equal(machine_cpu_load(machine_get_cpu(t->m, i), &t->root), 0);
}

static uint64_t map(struct tree *t, uint64_t gpa)
{
	uint64_t hpa = page(t);

	*tree_entry(t, gpa, 1) = hpa | (t->root.kind == MACHINE_ROOT_EPT ? 0x37 : 7);
	return hpa;
}

static void flush_page(struct tree *t, uint64_t gpa)
{
	machine_flush(t->m, NULL, TAG, gpa, gpa + 4096, MACHINE_FLUSH_REMOTE);
}

static void translation_outlives_its_entry_until_flushed(void **state)
{
	static const enum machine_root_kind kinds[] = {MACHINE_ROOT_EPT, MACHINE_ROOT_NPT};

	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		struct tree t;
		uint64_t old, new;

		tree_cpus(&t, kinds[i], 1);
		old = map(&t, GPA);
		touch(&t, GPA, W);
		new = map(&t, GPA);
		for (unsigned int n = 0; n < 100; n++)
			assert_int_equal(touch(&t, GPA + n, W).hpa, old + n);
		assert_int_equal(counters(&t).tlb_hits, 100);
		assert_int_equal(counters(&t).walks, 1);
		/* flushes of what is elsewhere, by tag or by range, do nothing to it */
		machine_flush(t.m, NULL, TAG + 1, 0, MACHINE_GPA_END, MACHINE_FLUSH_REMOTE);
		machine_flush(t.m, NULL, TAG, 0, GPA, MACHINE_FLUSH_REMOTE);
		machine_flush(t.m, NULL, TAG, GPA + 4096, MACHINE_GPA_END, MACHINE_FLUSH_REMOTE);
		assert_int_equal(touch(&t, GPA, W).hpa, old);
		flush_page(&t, GPA);
		assert_int_equal(touch(&t, GPA, W).hpa, new);
		assert_int_equal(machine_report_count(t.m), 0);
		tree_free(&t);
	}
}

/* A detached table is still walked by the LP that cached the way to it. */
static void table_entry_outlives_its_unlinking_until_flushed(void **state)
{
	uint64_t hpa, *pde;
	struct tree t;

	(void)state;
	tree_cpus(&t, MACHINE_ROOT_NPT, 1);
	hpa = map(&t, GPA + 4096);
	map(&t, GPA);
	touch(&t, GPA, R);
	pde = tree_entry(&t, GPA, 2);
	*pde = 0;
	assert_int_equal(touch(&t, GPA + 4096, R).hpa, hpa);
	assert_int_equal(counters(&t).table_hits, 1);
	machine_flush(t.m, t.cpu, TAG, 0, MACHINE_GPA_END, MACHINE_FLUSH_LOCAL);
	assert_int_equal(touch(&t, GPA + 4096, R).outcome, MACHINE_NPF);
	assert_int_equal(machine_report_count(t.m), 0);
	tree_free(&t);
}

static void nothing_absent_is_cached(void **state)
{
	struct tree t;

	(void)state;
	tree_cpus(&t, MACHINE_ROOT_EPT, 1);
	tree_entry(&t, GPA, 1);
	assert_int_equal(touch(&t, GPA, R).outcome, MACHINE_EPT_VIOLATION);
	map(&t, GPA);
	assert_int_equal(touch(&t, GPA, R).outcome, MACHINE_OK);
	*tree_entry(&t, GPA + 4096, 1) = 6;
	assert_int_equal(touch(&t, GPA + 4096, R).outcome, MACHINE_EPT_MISCONFIG);
	map(&t, GPA + 4096);
	assert_int_equal(touch(&t, GPA + 4096, R).outcome, MACHINE_OK);
	tree_free(&t);
}

/* Rights that were added need no flush; a fault drops what was cached for its address. */
static void too_little_right_asks_the_tables(void **state)
{
	uint64_t hpa, *e;
	struct tree t;

	(void)state;
	tree_cpus(&t, MACHINE_ROOT_EPT, 1);
	hpa = map(&t, GPA);
	e = tree_entry(&t, GPA, 1);
	*e = hpa | 0x31;
	touch(&t, GPA, R);
	assert_int_equal(touch(&t, GPA, W).error, 0x18a);
	assert_int_equal(machine_cpu_cached(t.cpu), 0);
	assert_int_equal(counters(&t).flushes[MACHINE_FLUSH_FAULT], 1);
	assert_int_equal(counters(&t).faults[MACHINE_EPT_VIOLATION], 1);
	touch(&t, GPA, R);
	*e = hpa | 0x33;
	assert_int_equal(touch(&t, GPA, W).outcome, MACHINE_OK);
	/* and rights that were taken away are kept */
	*e = hpa | 0x31;
	assert_int_equal(touch(&t, GPA, W).outcome, MACHINE_OK);
	tree_free(&t);
}

static void cleared_flags_stay_clear_while_cached(void **state)
{
	struct tree t;
	uint64_t *e;

	(void)state;
	tree_cpus(&t, MACHINE_ROOT_EPT, 1);
	map(&t, GPA);
	e = tree_entry(&t, GPA, 1);
	touch(&t, GPA, W);
	*e &= ~EPT_AD;
	touch(&t, GPA, W);
	assert_int_equal(*e & EPT_AD, 0);
	flush_page(&t, GPA);
	touch(&t, GPA, W);
	assert_int_equal(*e & EPT_AD, EPT_AD);
	tree_free(&t);
}

/* EPT translations belong to the root table, NPT ones to the ASID. */
static void who_may_hit_what(void **state)
{
	static const enum machine_root_kind kinds[] = {MACHINE_ROOT_EPT, MACHINE_ROOT_NPT};

	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		bool npt = kinds[i] == MACHINE_ROOT_NPT;
		struct machine_root first;
		uint64_t one, two, other;
		struct tree t;

		tree_cpus(&t, kinds[i], 1);
		one = map(&t, GPA);
		touch(&t, GPA, R);
		first = t.root;
		other = page(&t);
		t.root.pointer = npt ? other : machine_eptp(other, 4, true);
		tree_load(&t);
		two = map(&t, GPA);
		assert_int_equal(touch(&t, GPA, R).hpa, npt ? one : two);
		t.root.tag = TAG + 1;
		tree_load(&t);
		assert_int_equal(touch(&t, GPA, R).hpa, two);
		assert_int_equal(machine_cpu_load(t.cpu, &first), 0);
		assert_true(touch(&t, GPA, R).tlb_hit);
		tree_free(&t);
	}
}

static void broken_promise_is_reported_with_its_reason(void **state)
{
	char text[256];
	struct machine_report r;
	struct machine_cpu *cpu1;
	struct machine_result out;
	struct tree t;
	uint64_t hpa, ticket;

	(void)state;
	tree_cpus(&t, MACHINE_ROOT_EPT, 2);
	cpu1 = machine_get_cpu(t.m, 1);
	hpa = map(&t, GPA);
	touch(&t, GPA, R);
	machine_access(cpu1, GPA, R, &out);
	ticket = machine_now(t.m);
	*tree_entry(&t, GPA, 1) = 0;
	machine_flush(t.m, t.cpu, TAG, GPA, GPA + 4096, MACHINE_FLUSH_LOCAL);
	machine_promise(t.m, TAG, GPA, GPA + 4096, ticket, "zap returned");
	assert_int_equal(touch(&t, GPA, R).outcome, MACHINE_EPT_VIOLATION);
	assert_int_equal(machine_report_count(t.m), 0);
	/* LP 1 was forgotten: reported once, and then it goes on as if flushed */
	assert_int_equal(machine_access(cpu1, GPA, R, &out), MACHINE_EPT_VIOLATION);
	assert_int_equal(machine_report_get(t.m, 0, &r, 1), 1);
	assert_int_equal(r.cpu, 1);
	machine_report_text(&r, text, sizeof(text));
	assert_non_null(strstr(text, "zap returned"));
	assert_non_null(strstr(text, "gpa 0x40201000"));
	assert_int_equal(machine_report_count(t.m), 1);
	assert_int_equal(r.kind, MACHINE_REPORT_STALE_LEAF);
	assert_int_equal(r.hpa, hpa);
	machine_report_clear(t.m);
	assert_int_equal(machine_access(cpu1, GPA, R, &out), MACHINE_EPT_VIOLATION);
	assert_int_equal(machine_report_count(t.m), 0);
	tree_free(&t);
}

static void promise_spares_other_ranges_tags_and_later_fills(void **state)
{
	struct tree t;
	uint64_t ticket;

	(void)state;
	tree_cpus(&t, MACHINE_ROOT_NPT, 1);
	map(&t, GPA);
	map(&t, GPA + 4096);
	ticket = machine_now(t.m);
	touch(&t, GPA, R); /* after the ticket: made of a new entry */
	machine_promise(t.m, TAG, GPA, GPA + 4096, ticket, "zap");
	touch(&t, GPA, R);
	machine_promise(t.m, TAG + 1, 0, MACHINE_GPA_END, MACHINE_NOW, "another VM");
	machine_promise(t.m, TAG, GPA + (1ull << 39), MACHINE_GPA_END, MACHINE_NOW, "elsewhere");
	touch(&t, GPA, R);
	assert_int_equal(machine_report_count(t.m), 0);
	machine_promise(t.m, MACHINE_TAG_ALL, 0, MACHINE_GPA_END, MACHINE_NOW, "all");
	touch(&t, GPA, R);
	assert_true(machine_report_count(t.m) > 0);
	tree_free(&t);
}

/* A translation made through a table entry that was owed is owed as well. */
static void promise_follows_the_path(void **state)
{
	struct tree t;
	uint64_t ticket, *pde;

	(void)state;
	tree_cpus(&t, MACHINE_ROOT_NPT, 1);
	map(&t, GPA);
	map(&t, GPA + 4096);
	touch(&t, GPA, R);
	ticket = machine_now(t.m);
	pde = tree_entry(&t, GPA, 2);
	*pde = 0;
	touch(&t, GPA + 4096, R); /* later than the ticket, by way of the detached table */
	machine_promise(t.m, TAG, GPA + 4096, GPA + 8192, ticket, "detach");
	touch(&t, GPA + 4096, R);
	assert_true(machine_report_count(t.m) > 0);
	tree_free(&t);
}

/* Leaves that went leave the tables: those may be used, and what was read through them since. */
static void promise_of_leaves_spares_the_tables(void **state)
{
	struct tree t;
	uint64_t ticket;

	(void)state;
	tree_cpus(&t, MACHINE_ROOT_NPT, 1);
	map(&t, GPA);
	map(&t, GPA + 4096);
	touch(&t, GPA, R);
	ticket = machine_now(t.m);
	machine_promise_leaves(t.m, TAG, GPA + 4096, GPA + 8192, ticket, "zap");
	touch(&t, GPA + 4096, R); /* by way of table entries that are older than the ticket */
	machine_promise_leaves(t.m, TAG, GPA + 4096, GPA + 8192, ticket, "zap");
	touch(&t, GPA + 4096, R);
	assert_int_equal(machine_report_count(t.m), 0);
	/* A leaf that is older is owed. */
	machine_promise_leaves(t.m, TAG, GPA, GPA + 4096, ticket, "zap");
	touch(&t, GPA, R);
	assert_int_equal(machine_report_count(t.m), 1);
	tree_free(&t);
}

static void freed_frame_used_through_the_tlb(void **state)
{
	struct tree t;
	uint64_t hpa;

	(void)state;
	tree_cpus(&t, MACHINE_ROOT_EPT, 1);
	hpa = map(&t, GPA);
	touch(&t, GPA, R);
	*tree_entry(&t, GPA, 1) = 0;
	assert_int_equal(machine_mem_free(t.m, hpa, 0), 0);
	assert_int_equal(machine_report_count(t.m), 0);
	/* taken again by somebody else: still an error */
	assert_int_equal(machine_mem_add(t.m, hpa, 0), 0);
	assert_int_equal(touch(&t, GPA, R).outcome, MACHINE_EPT_VIOLATION);
	expect_report(&t, MACHINE_REPORT_FREED_LEAF, GPA, hpa);
	/* and a new mapping of the reused frame is none */
	*tree_entry(&t, GPA, 1) = hpa | 0x37;
	assert_int_equal(touch(&t, GPA, R).outcome, MACHINE_OK);
	touch(&t, GPA, R);
	assert_int_equal(machine_report_count(t.m), 0);
	tree_free(&t);
}

/* One 4 KiB piece of a 2 MiB translation goes: only its use is an error. */
static void freed_piece_of_a_large_page(void **state)
{
	struct tree t;
	uint64_t hpa;

	(void)state;
	tree_cpus(&t, MACHINE_ROOT_EPT, 1);
	hpa = block(&t, 9);
	*tree_entry(&t, GPA, 2) = hpa | 0xb7;
	touch(&t, GPA, R);
	assert_int_equal(machine_mem_free(t.m, hpa + 0x3000, 0), 0);
	touch(&t, GPA, R);
	assert_int_equal(machine_report_count(t.m), 0);
	*tree_entry(&t, GPA, 2) = 0;
	touch(&t, GPA + 0x2000, R);
	expect_report(&t, MACHINE_REPORT_FREED_LEAF, GPA + 0x2000, hpa + 0x3000);
	tree_free(&t);
}

static void freed_table_used_through_the_tlb(void **state)
{
	uint64_t table, *pde;
	struct tree t;

	(void)state;
	tree_cpus(&t, MACHINE_ROOT_NPT, 1);
	map(&t, GPA);
	touch(&t, GPA, R);
	pde = tree_entry(&t, GPA, 2);
	table = *pde & ~0xfffull;
	*pde = 0;
	assert_int_equal(machine_mem_free(t.m, table, 0), 0);
	assert_int_equal(touch(&t, GPA + 4096, R).outcome, MACHINE_NPF);
	expect_report(&t, MACHINE_REPORT_FREED_TABLE, GPA + 4096, table);
	tree_free(&t);
}

static void freed_root(void **state)
{
	struct machine_root old;
	struct tree t;
	uint64_t root, hpa;

	(void)state;
	tree_cpus(&t, MACHINE_ROOT_EPT, 1);
	root = t.root.pointer & ~0xfffull;
	hpa = map(&t, GPA);
	touch(&t, GPA, R);
	old = t.root;
	assert_int_equal(machine_mem_free(t.m, root, 0), 0);
	assert_int_equal(machine_mem_add(t.m, root, 0), 0);
	/* the same page is a root again: the translations of its former life must be gone */
	assert_int_equal(machine_cpu_load(t.cpu, &old), 0);
	assert_int_not_equal(touch(&t, GPA, R).hpa, hpa);
	assert_true(machine_report_count(t.m) > 0);
	machine_report_clear(t.m);
	/* freed while loaded: the next walk from it */
	assert_int_equal(machine_mem_free(t.m, root, 0), 0);
	assert_int_equal(touch(&t, GPA + (1ull << 40), R).outcome, MACHINE_NO_MEMORY);
	assert_true(machine_report_count(t.m) > 0);
	tree_free(&t);
}

static void tables_that_point_to_freed_or_no_memory(void **state)
{
	struct tree t;
	uint64_t hpa;

	(void)state;
	tree_cpus(&t, MACHINE_ROOT_EPT, 1);
	hpa = map(&t, GPA);
	machine_mem_free(t.m, hpa, 0);
	assert_int_equal(touch(&t, GPA, R).outcome, MACHINE_OK);
	expect_report(&t, MACHINE_REPORT_MAPS_FREED, GPA, hpa);
	*tree_entry(&t, GPA, 2) = hpa | 7;
	tree_flush(&t);
	assert_int_equal(touch(&t, GPA, R).outcome, MACHINE_NO_MEMORY);
	expect_report(&t, MACHINE_REPORT_MAPS_FREED, GPA, hpa);
	*tree_entry(&t, GPA, 2) = 0xdead000 | 7;
	assert_int_equal(fresh(&t, GPA, R).outcome, MACHINE_NO_MEMORY);
	expect_report(&t, MACHINE_REPORT_NO_TABLE, GPA, 0xdead000);
	/* a leaf may map a device */
	*tree_entry(&t, GPA, 2) = 0xfee00000 | 0x87;
	assert_int_equal(fresh(&t, GPA, R).hpa, 0xfee01000);
	assert_int_equal(machine_report_count(t.m), 0);
	tree_free(&t);
}

static void strict_mode_reports_at_the_free(void **state)
{
	struct tree t;
	uint64_t hpa, other;

	(void)state;
	machine_config_default(&t.config);
	t.config.strict_free = true;
	tree_make(&t, MACHINE_ROOT_EPT, 4, true);
	hpa = map(&t, GPA);
	other = page(&t);
	touch(&t, GPA, R);
	assert_int_equal(machine_mem_free(t.m, other, 0), 0);
	assert_int_equal(machine_report_count(t.m), 0);
	assert_int_equal(machine_mem_free(t.m, hpa, 0), 0);
	expect_report(&t, MACHINE_REPORT_CACHED_FREE, GPA, hpa);
	tree_free(&t);
}

static void reports_are_bounded_but_all_counted(void **state)
{
	struct tree t;

	(void)state;
	tree_cpus(&t, MACHINE_ROOT_EPT, 1);
	for (unsigned int i = 0; i < 2 * MACHINE_MAX_REPORTS; i++)
		assert_int_equal(machine_mem_free(t.m, 0x1000, 0), -ENOENT);
	assert_int_equal(machine_report_count(t.m), 2 * MACHINE_MAX_REPORTS);
	assert_int_equal(machine_report_get(t.m, MACHINE_MAX_REPORTS, NULL, 1), 0);
	tree_free(&t);
}

static void capacity_evicts_and_only_capacity(void **state)
{
	static const uint32_t limits[] = {0, 8, 64, 1000};

	(void)state;
	for (unsigned int n = 0; n < 8; n++) {
		struct tree t;

		machine_config_default(&t.config);
		t.config.tlb_entries = limits[n / 2];
		t.config.evict = n & 1 ? MACHINE_EVICT_RANDOM : MACHINE_EVICT_LRU;
		tree_make(&t, MACHINE_ROOT_NPT, 4, true);
		for (unsigned int i = 0; i < 500; i++)
			map(&t, GPA + i * 4096ull);
		for (unsigned int i = 0; i < 1000; i++)
			assert_int_equal(touch(&t, GPA + i % 500 * 4096ull, R).outcome, MACHINE_OK);
		if (limits[n / 2] && limits[n / 2] < 500) {
			assert_int_equal(machine_cpu_cached(t.cpu), limits[n / 2]);
			assert_true(counters(&t).evictions > 0);
		} else {
			assert_int_equal(machine_cpu_cached(t.cpu), 503);
			assert_int_equal(counters(&t).tlb_hits, 500);
			assert_int_equal(counters(&t).evictions, 0);
		}
		tree_free(&t);
	}
}

static void lru_keeps_what_is_used(void **state)
{
	struct tree t;

	(void)state;
	machine_config_default(&t.config);
	t.config.tlb_entries = 16;
	tree_make(&t, MACHINE_ROOT_NPT, 4, true);
	for (unsigned int i = 0; i < 200; i++) {
		map(&t, GPA + i * 4096ull);
		touch(&t, GPA + i * 4096ull, R);
		assert_true(i == 0 || touch(&t, GPA, R).tlb_hit);
	}
	tree_free(&t);
}

/* ---- a TD ----------------------------------------------------------------------------------- */

struct fake_module {
	bool inside;
	struct tdx_port_td td;
	struct tdx_port_walk walk;
	uint64_t asked;
};

static bool fake_entry(void *module, unsigned int lp, struct tdx_port_td *td)
{
	struct fake_module *f = module;

	if (!f->inside || lp)
		return false;
	*td = f->td;
	return true;
}

static int fake_walk(void *module, unsigned int lp, uint64_t gpa, struct tdx_port_walk *walk)
{
	struct fake_module *f = module;

	if (!f->inside || lp)
		return -ENOENT;
	f->asked = gpa;
	*walk = f->walk;
	return 0;
}

static const struct tdx_port_module fake_ops = {.td_entry = fake_entry, .private_walk = fake_walk};

static void tree_td(struct tree *t, struct fake_module *f)
{
	tree_cpus(t, MACHINE_ROOT_EPT, 1);
	*f = (struct fake_module){.inside = true};
	f->td = (struct tdx_port_td){.tdr = 0x5000,
				     .shared_eptp = t->root.pointer & ~0xfffull,
				     .shared_bit = 47,
				     .eptp_levels = 4};
	f->walk = (struct tdx_port_walk){.present = true, .rwx = 7, .hpa = page(t), .nr_tables = 4};
	for (unsigned int i = 0; i < 4; i++)
		f->walk.tables[i] = page(t);
	machine_set_module(t->m, &fake_ops, f);
	assert_int_equal(machine_cpu_load(t->cpu, &(struct machine_root){.kind = MACHINE_ROOT_TD}),
			 0);
}

static void shared_bit_chooses_the_tree(void **state)
{
	uint64_t shared = 1ull << 47, hpa;
	struct machine_result r;
	struct fake_module f;
	struct tree t;

	(void)state;
	tree_td(&t, &f);
	hpa = map(&t, GPA | shared);
	r = touch(&t, GPA + 8, W);
	assert_true(r.private_gpa);
	assert_int_equal(r.hpa, f.walk.hpa + 8);
	assert_int_equal(f.asked, GPA + 8);
	r = touch(&t, GPA | shared, W);
	assert_false(r.private_gpa);
	assert_int_equal(r.hpa, hpa);
	assert_int_equal(*tree_entry(&t, GPA | shared, 1) & EPT_AD, 0);
	/* the alias without the shared bit is not in the shared tree's view */
	assert_int_equal(touch(&t, GPA, R).hpa, f.walk.hpa);
	r = touch(&t, GPA | shared | 1ull << 48, R);
	assert_int_equal(r.outcome, MACHINE_EPT_VIOLATION);
	assert_int_equal(r.error, 0x181);
	assert_int_equal(touch(&t, GPA | 1ull << 48, R).error, 0x181);
	assert_int_equal(touch(&t, 1ull << 52, R).outcome, MACHINE_BAD_GPA);
	f.td.shared_eptp = 0;
	assert_int_equal(touch(&t, (GPA + 4096) | shared, W).error, 0x182);
	f.inside = false;
	assert_int_equal(touch(&t, GPA, R).outcome, MACHINE_NO_ROOT);
	tree_free(&t);
}

static void private_violation_and_staleness(void **state)
{
	struct fake_module f;
	struct tree t;
	uint64_t hpa;

	(void)state;
	tree_td(&t, &f);
	hpa = f.walk.hpa;
	touch(&t, GPA, R);
	f.walk.present = false;
	f.walk.rwx = 0;
	assert_int_equal(touch(&t, GPA, R).hpa, hpa); /* blocked, but cached */
	machine_processor_ops.invalidate(t.m, 0, 0x6000);
	assert_int_equal(touch(&t, GPA, R).hpa, hpa);
	machine_processor_ops.invalidate(t.m, 0, 0x5000);
	assert_int_equal(touch(&t, GPA, W).error, 0x182);
	f.walk.present = true;
	f.walk.rwx = 7;
	touch(&t, GPA, R);
	machine_processor_ops.invalidate(t.m, 0, 0);
	assert_int_equal(machine_cpu_cached(t.cpu), 0);
	assert_int_equal(counters(&t).flushes[MACHINE_FLUSH_MODULE], 3);
	/* removed and freed with no invalidation */
	touch(&t, GPA, R);
	machine_mem_free(t.m, hpa, 0);
	f.walk.hpa = page(&t);
	assert_int_equal(touch(&t, GPA, R).hpa, f.walk.hpa);
	expect_report(&t, MACHINE_REPORT_FREED_LEAF, GPA, hpa);
	tree_free(&t);
}

static void freed_secure_table_still_cached(void **state)
{
	struct fake_module f;
	struct tree t;
	uint64_t table;

	(void)state;
	tree_td(&t, &f);
	touch(&t, GPA, R);
	table = f.walk.tables[3];
	machine_mem_free(t.m, table, 0);
	f.walk.tables[3] = page(&t);
	touch(&t, GPA + 4096, R);
	expect_report(&t, MACHINE_REPORT_FREED_TABLE, GPA + 4096, table);
	tree_free(&t);
}

static void invalidate_of_all_tds_spares_vms(void **state)
{
	struct tree t;

	(void)state;
	tree_cpus(&t, MACHINE_ROOT_EPT, 1);
	map(&t, GPA);
	touch(&t, GPA, R);
	machine_processor_ops.invalidate(t.m, 0, 0);
	assert_true(touch(&t, GPA, R).tlb_hit);
	tree_free(&t);
}

/* ---- guest mode ----------------------------------------------------------------------------- */

static void bytes_go_through_the_tables(void **state)
{
	uint8_t in[5000], out[5000];
	struct machine_result r;
	struct tree t;
	uint64_t first, second;

	(void)state;
	tree_cpus(&t, MACHINE_ROOT_NPT, 1);
	second = map(&t, GPA + 4096);
	first = map(&t, GPA);
	for (unsigned int i = 0; i < sizeof(in); i++)
		in[i] = i * 7;
	assert_int_equal(machine_write(t.cpu, GPA + 3, in, sizeof(in), &r), MACHINE_OK);
	assert_memory_equal((uint8_t *)word(&t, first) + 3, in, 4093);
	assert_memory_equal(word(&t, second), in + 4093, sizeof(in) - 4093);
	assert_int_equal(machine_read(t.cpu, GPA + 3, out, sizeof(out), &r), MACHINE_OK);
	assert_memory_equal(in, out, sizeof(in));
	assert_int_equal(machine_read(t.cpu, GPA + 4096, out, 4097, &r), MACHINE_NPF);
	assert_int_equal(r.gpa, GPA + 8192);
	*tree_entry(&t, GPA + 8192, 1) = 0xfee00000 | 7;
	assert_int_equal(machine_read(t.cpu, GPA + 8192, out, 1, &r), MACHINE_NO_MEMORY);
	tree_free(&t);
}

struct guest {
	struct tree *t;
	atomic_bool stop;
	atomic_uint kicked;
};

static void *guest_run(void *arg)
{
	struct guest *g = arg;
	struct machine_cpu *cpu = machine_get_cpu(g->t->m, 1);
	struct machine_result r;

	while (!atomic_load(&g->stop)) {
		machine_cpu_enter_guest(cpu);
		while (machine_access(cpu, GPA, R, &r) != MACHINE_KICKED && !atomic_load(&g->stop))
			;
		if (r.outcome == MACHINE_KICKED) {
			g->kicked += !machine_cpu_in_guest(cpu);
			continue;
		}
		machine_cpu_leave_guest(cpu);
	}
	return NULL;
}

static void kick_takes_a_guest_out(void **state)
{
	struct tree t;
	struct guest g = {.t = &t};
	pthread_t thread;

	(void)state;
	tree_cpus(&t, MACHINE_ROOT_NPT, 2);
	map(&t, GPA);
	pthread_create(&thread, NULL, guest_run, &g);
	while (atomic_load(&g.kicked) < 100)
		assert_int_equal(machine_kick(t.m, NULL), 0);
	atomic_store(&g.stop, true);
	pthread_join(thread, NULL);
	assert_false(machine_cpu_in_guest(machine_get_cpu(t.m, 1)));
	/* a thread that is itself in guest mode is told so instead of waiting for itself */
	machine_cpu_enter_guest(t.cpu);
	assert_int_equal(machine_kick(t.m, NULL), -EDEADLK);
	assert_int_equal(machine_kick(t.m, machine_get_cpu(t.m, 1)), 0);
	machine_cpu_leave_guest(t.cpu);
	assert_int_equal(machine_kick(t.m, NULL), 0);
	tree_free(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(translation_outlives_its_entry_until_flushed),
		cmocka_unit_test(table_entry_outlives_its_unlinking_until_flushed),
		cmocka_unit_test(nothing_absent_is_cached),
		cmocka_unit_test(too_little_right_asks_the_tables),
		cmocka_unit_test(cleared_flags_stay_clear_while_cached),
		cmocka_unit_test(who_may_hit_what),
		cmocka_unit_test(broken_promise_is_reported_with_its_reason),
		cmocka_unit_test(promise_spares_other_ranges_tags_and_later_fills),
		cmocka_unit_test(promise_follows_the_path),
		cmocka_unit_test(promise_of_leaves_spares_the_tables),
		cmocka_unit_test(freed_frame_used_through_the_tlb),
		cmocka_unit_test(freed_piece_of_a_large_page),
		cmocka_unit_test(freed_table_used_through_the_tlb),
		cmocka_unit_test(freed_root),
		cmocka_unit_test(tables_that_point_to_freed_or_no_memory),
		cmocka_unit_test(strict_mode_reports_at_the_free),
		cmocka_unit_test(reports_are_bounded_but_all_counted),
		cmocka_unit_test(capacity_evicts_and_only_capacity),
		cmocka_unit_test(lru_keeps_what_is_used),
		cmocka_unit_test(shared_bit_chooses_the_tree),
		cmocka_unit_test(private_violation_and_staleness),
		cmocka_unit_test(freed_secure_table_still_cached),
		cmocka_unit_test(invalidate_of_all_tds_spares_vms),
		cmocka_unit_test(bytes_go_through_the_tables),
		cmocka_unit_test(kick_takes_a_guest_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
