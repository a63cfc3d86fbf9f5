// SPDX-License-Identifier: BSD-2-Clause
/*
 * A simulated TD from its first page to its last: what it costs in calls, what becomes of content,
 * what a busy module and several vCPUs do to it, and that nothing of it is left.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "cli/td.h"

#define PAGE 4096ull
#define MIB  (1ull << 20)
#define RAM  (8 * MIB)

static char why[256];
static _Atomic unsigned int logged;
static char first_log[256];

static void keep_log(void *ctx, enum tpt_log_level level, const char *text)
{
	(void)ctx;
	(void)level;
	if (!atomic_fetch_add(&logged, 1))
		snprintf(first_log, sizeof(first_log), "%s", text);
}

static struct simtd_config config_of(unsigned int nr_vcpus)
{
	atomic_store(&logged, 0);
	return (struct simtd_config){
		.nr_vcpus = nr_vcpus,
		.private_bytes = RAM,
		.shared_bytes = RAM,
		.log = keep_log,
	};
}

static struct simtd *make(const struct simtd_config *config)
{
	struct simtd *td;

	why[0] = 0;
	if (simtd_create(&td, config, why, sizeof(why)))
		fail_msg("%s (%s)", why, first_log);
	assert_int_equal(simtd_add_slot(td, 0, RAM), 0);
	return td;
}

static struct simtd *make_running(unsigned int nr_vcpus)
{
	struct simtd_config config = config_of(nr_vcpus);
	struct simtd *td = make(&config);

	assert_int_equal(simtd_finalize(td), 0);
	return td;
}

/* Audit and judge have nothing to say, and no page is missing at the end. */
static void check(struct simtd *td)
{
	char text[256] = "";
	struct machine_report report;

	if (tpt_vm_audit(simtd_vm(td), text, sizeof(text)))
		fail_msg("audit: %s", text);
	if (machine_report_get(sim_machine(simtd_sim(td)), 0, &report, 1)) {
		machine_report_text(&report, text, sizeof(text));
		fail_msg("judge: %s", text);
	}
}

static void finish(struct simtd *td)
{
	struct simtd_remains r;

	check(td);
	simtd_end(td, &r);
	assert_int_equal(r.teardown, 0);
	assert_int_equal(r.destroy, 0);
	assert_int_equal(r.pamt_in_use, 0);
	assert_int_equal(r.frames, 0);
	assert_int_equal(r.leaked, 0);
	assert_int_equal(r.leaked_by_host, 0);
	assert_int_equal(r.misuses, 0);
	assert_true(simtd_ended_clean(&r));
	assert_true(r.pamt_pages >= 262144);
	simtd_destroy(td);
}

static uint64_t calls_ok(struct simtd *td, enum tdh_leaf leaf)
{
	struct tdx_host_stats s;

	tdx_host_get_stats(simtd_host(td), &s);
	return s.leaf[leaf].ok;
}

static uint64_t calls_busy(struct simtd *td, enum tdh_leaf leaf)
{
	struct tdx_host_stats s;

	tdx_host_get_stats(simtd_host(td), &s);
	return s.leaf[leaf].busy;
}

static struct simtd_stats stats_of(struct simtd *td)
{
	struct simtd_stats s;

	simtd_get_stats(td, &s);
	return s;
}

static struct tpt_vm_stats vm_stats_of(struct simtd *td)
{
	struct tpt_vm_stats s;

	tpt_vm_get_stats(simtd_vm(td), &s);
	return s;
}

static int touch(struct simtd *td, unsigned int vcpu, uint64_t gpa, unsigned int kind)
{
	const struct simtd_access a = {.gpa = gpa, .kind = kind};

	return simtd_guest_touch(td, vcpu, &a);
}

static void put(struct simtd *td, unsigned int vcpu, uint64_t gpa, uint64_t value)
{
	const struct simtd_access a = {gpa, MACHINE_WRITE, &value, sizeof(value)};

	assert_int_equal(simtd_guest_touch(td, vcpu, &a), TD_TOUCHED);
}

static uint64_t get(struct simtd *td, unsigned int vcpu, uint64_t gpa)
{
	uint64_t value = ~0ull;
	const struct simtd_access a = {gpa, MACHINE_READ, &value, sizeof(value)};

	assert_int_equal(simtd_guest_touch(td, vcpu, &a), TD_TOUCHED);
	return value;
}

/* ---- build ---- */

static void built_pages_are_measured_and_found_by_the_guest(void **state)
{
	struct simtd_config config = config_of(1);
	uint8_t content[PAGE], mrtd[2][48];

	(void)state;
	for (int run = 0; run < 2; run++) {
		struct simtd *td = make(&config);
		uint64_t tdr = tdx_td_tdr(simtd_tdx(td)).a;

		for (uint64_t gpa = 0; gpa < 4 * PAGE; gpa += PAGE) {
			memset(content, (int)(0x10 + gpa / PAGE), sizeof(content));
			content[100] = (uint8_t)run;
			assert_int_equal(simtd_add_page(td, gpa, content, gpa < 3 * PAGE), 0);
		}
		assert_int_equal(simtd_add_page(td, 0, content, true), -EEXIST);
		/* 3 tables lead to 2 MiB of pages. */
		assert_int_equal(calls_ok(td, TDH_MEM_SEPT_ADD), 3);
		assert_int_equal(calls_ok(td, TDH_MEM_PAGE_ADD), 4);
		assert_int_equal(calls_ok(td, TDH_MR_EXTEND), 3 * 16);
		assert_int_equal(simtd_finalize(td), 0);
		assert_int_equal(tdx_module_view_mrtd(simtd_module(td), tdr, mrtd[run]), 0);
		assert_int_equal(get(td, 0, 2 * PAGE + 8), 0x1212121212121212);
		assert_int_equal(get(td, 0, 3 * PAGE + 8), 0x1313131313131313);
		assert_int_equal(stats_of(td).ve_private, 0);
		assert_int_equal(calls_ok(td, TDH_MEM_PAGE_AUG), 0);
		finish(td);
	}
	/* One byte of what was measured differed. */
	assert_memory_not_equal(mrtd[0], mrtd[1], sizeof(mrtd[0]));
}

static void nothing_is_mapped_blindly_before_it_is_finalised(void **state)
{
	struct simtd_config config = config_of(1);
	struct simtd *td = make(&config);

	(void)state;
	assert_int_equal(touch(td, 0, 0x1000, MACHINE_READ), -EIO);
	assert_int_equal(calls_ok(td, TDH_VP_ENTER), 0);
	assert_int_equal(simtd_finalize(td), 0);
	assert_int_equal(simtd_finalize(td), -EPERM);
	assert_int_equal(touch(td, 0, 0x1000, MACHINE_READ), TD_TOUCHED);
	finish(td);
}

/* ---- run ---- */

static void a_first_touch_is_one_aug_one_ve_and_one_accept(void **state)
{
	struct simtd *td = make_running(1);
	struct simtd_stats s;

	(void)state;
	put(td, 0, 0x5008, 77);
	s = stats_of(td);
	assert_int_equal(s.exits[TD_EXIT_PRIVATE], 1);
	assert_int_equal(s.ve_private, 1);
	assert_int_equal(s.accepts, 1);
	assert_int_equal(s.accesses, 1);
	/* VEINFO.GET and ACCEPT. */
	assert_int_equal(s.tdcalls, 2);
	assert_int_equal(calls_ok(td, TDH_MEM_PAGE_AUG), 1);
	assert_int_equal(calls_ok(td, TDH_MEM_SEPT_ADD), 3);
	assert_int_equal(calls_ok(td, TDH_VP_ENTER), 2);
	/* The same page again: the guest alone. */
	assert_int_equal(get(td, 0, 0x5008), 77);
	assert_int_equal(get(td, 0, 0x5010), 0);
	assert_int_equal(calls_ok(td, TDH_VP_ENTER), 2);
	assert_int_equal(stats_of(td).tdcalls, 2);
	/* Its neighbour: no table any more. */
	put(td, 0, 0x6000, 1);
	assert_int_equal(calls_ok(td, TDH_MEM_PAGE_AUG), 2);
	assert_int_equal(calls_ok(td, TDH_MEM_SEPT_ADD), 3);
	finish(td);
}

static void accepting_first_asks_the_host_by_its_own_exit(void **state)
{
	struct simtd *td = make_running(1);
	struct simtd_stats s;

	(void)state;
	assert_int_equal(simtd_guest_accept(td, 0, 0x10000, 3 * PAGE), 0);
	s = stats_of(td);
	assert_int_equal(s.exits[TD_EXIT_ACCEPT], 3);
	assert_int_equal(s.exits[TD_EXIT_PRIVATE], 0);
	assert_int_equal(s.accepts, 3);
	assert_int_equal(s.ve_private, 0);
	assert_int_equal(s.tdcalls, 6);
	/* Once more: accepted already, and no error. */
	assert_int_equal(simtd_guest_accept(td, 0, 0x10000, 3 * PAGE), 0);
	assert_int_equal(stats_of(td).accepts, 3);
	put(td, 0, 0x11000, 5);
	assert_int_equal(stats_of(td).exits[TD_EXIT_PRIVATE], 0);
	assert_int_equal(simtd_guest_accept(td, 0, 0x10001, PAGE), -EINVAL);
	assert_int_equal(simtd_guest_accept(td, 0, 2 * RAM, PAGE), -EFAULT);
	finish(td);
}

static void a_guest_without_ve_is_at_fault_for_what_it_has_not_accepted(void **state)
{
	struct simtd_config config = config_of(1);
	struct simtd *td;

	(void)state;
	config.attributes = TDX_ATTR_SEPT_VE_DISABLE;
	td = make(&config);
	assert_int_equal(simtd_finalize(td), 0);
	assert_int_equal(touch(td, 0, 0x3000, MACHINE_WRITE), -EACCES);
	assert_int_equal(simtd_guest_accept(td, 0, 0x4000, PAGE), 0);
	assert_int_equal(touch(td, 0, 0x4000, MACHINE_WRITE), TD_TOUCHED);
	finish(td);
}

struct device {
	uint64_t gpa, value;
	unsigned int size, reads, writes;
};

static void device_access(void *ctx, unsigned int vcpu, uint64_t gpa, unsigned int size, bool write,
			  uint64_t *value)
{
	struct device *d = ctx;

	(void)vcpu;
	d->gpa = gpa;
	d->size = size;
	if (write) {
		d->value = *value;
		d->writes++;
	} else {
		*value = d->value + 1;
		d->reads++;
	}
}

static void mmio_is_a_ve_without_an_exit_once_the_entry_is_cached(void **state)
{
	struct device device = {0};
	struct simtd_config config = config_of(1);
	uint32_t word = 41;
	struct simtd_access a = {.kind = MACHINE_WRITE, .buf = &word, .len = 4};
	struct simtd *td;

	(void)state;
	config.mmio = device_access;
	config.ctx = &device;
	td = make(&config);
	assert_int_equal(simtd_finalize(td), 0);
	a.gpa = 0xfee00010 | simtd_shared(td);
	assert_int_equal(simtd_guest_touch(td, 0, &a), TD_MMIO);
	assert_int_equal(device.value, 41);
	assert_int_equal(device.gpa, 0xfee00010);
	assert_int_equal(device.size, 4);
	/* One exit to make the entry, then #VE, then the guest's call. */
	assert_int_equal(stats_of(td).exits[TD_EXIT_SHARED], 1);
	assert_int_equal(stats_of(td).ve_shared, 1);
	a.kind = MACHINE_READ;
	assert_int_equal(simtd_guest_touch(td, 0, &a), TD_MMIO);
	assert_int_equal(word, 42);
	assert_int_equal(device.reads, 1);
	assert_int_equal(stats_of(td).exits[TD_EXIT_SHARED], 1);
	assert_int_equal(stats_of(td).ve_shared, 2);
	assert_int_equal(stats_of(td).exits[TD_EXIT_VMCALL_MMIO], 2);
	assert_int_equal(vm_stats_of(td).direct.mmio, 1);
	finish(td);
}

/* ---- convert ---- */

static void converting_costs_a_block_and_a_remove_a_page_and_one_track_a_chunk(void **state)
{
	struct simtd_config config = config_of(2);
	const uint64_t window = 2 * MIB;
	struct tpt_vm_stats s;
	struct simtd *td;

	(void)state;
	config.zap_chunk = 16;
	td = make(&config);
	assert_int_equal(simtd_finalize(td), 0);
	for (uint64_t i = 0; i < 40; i++)
		put(td, i % 2, window + i * PAGE, 1000 + i);
	put(td, 1, 0, 5);
	assert_int_equal(simtd_guest_map_gpa(td, 0, window, 2 * MIB, false), 0);
	s = vm_stats_of(td);
	assert_int_equal(s.vcpus.external_calls[TPT_CALL_BLOCK], 40);
	assert_int_equal(s.vcpus.external_calls[TPT_CALL_TRACK], 3);
	assert_int_equal(s.vcpus.external_calls[TPT_CALL_REMOVE], 40);
	assert_int_equal(s.kick[TPT_KICK_TRACK], 3);
	assert_int_equal(calls_ok(td, TDH_MEM_TRACK), 3);
	assert_int_equal(calls_ok(td, TDH_PHYMEM_PAGE_WBINVD), 40);
	/* vCPU 1 was inside and was taken out once; vCPU 0 had left for the call. */
	assert_int_equal(stats_of(td).exits[TD_EXIT_INTERRUPT], 1);
	assert_int_equal(stats_of(td).private_pages, 1);
	assert_int_equal(stats_of(td).to_shared, 512);
	assert_int_equal(get(td, 1, 0), 5);
	check(td);
	finish(td);
}

static void content_is_lost_by_conversion_and_nothing_else(void **state)
{
	struct simtd *td = make_running(1);
	const uint64_t window = 4 * MIB, shared = window | simtd_shared(td);

	(void)state;
	put(td, 0, window, 11);
	put(td, 0, window - 8, 12);
	assert_int_equal(simtd_guest_map_gpa(td, 0, window, 2 * PAGE, false), 0);
	assert_false(tpt_vm_is_private(simtd_vm(td), window / PAGE));
	assert_true(tpt_vm_is_private(simtd_vm(td), window / PAGE + 2));
	assert_int_equal(get(td, 0, shared), 0);
	put(td, 0, shared, 13);
	assert_int_equal(get(td, 0, shared), 13);
	/* The other way in is closed. */
	assert_int_equal(touch(td, 0, window, MACHINE_READ), -EFAULT);
	assert_int_equal(touch(td, 0, (window + 2 * PAGE) | simtd_shared(td), MACHINE_READ),
			 -EFAULT);
	check(td);
	assert_int_equal(stats_of(td).shared_pages, 1);
	assert_int_equal(simtd_guest_map_gpa(td, 0, window, 2 * PAGE, true), 0);
	assert_int_equal(stats_of(td).shared_pages, 0);
	assert_int_equal(get(td, 0, window), 0);
	assert_int_equal(get(td, 0, window - 8), 12);
	assert_int_equal(touch(td, 0, shared, MACHINE_READ), -EFAULT);
	assert_int_equal(calls_ok(td, TDH_MEM_RANGE_BLOCK), 1);
	finish(td);
}

static void a_large_range_is_converted_in_pieces_of_2_mib(void **state)
{
	struct simtd *td = make_running(1);

	(void)state;
	assert_int_equal(simtd_guest_map_gpa(td, 0, 0, RAM, false), 0);
	assert_int_equal(stats_of(td).exits[TD_EXIT_VMCALL_MAP_GPA], RAM / TD_MAP_GPA_MAX);
	assert_int_equal(stats_of(td).map_gpa_retries, RAM / TD_MAP_GPA_MAX - 1);
	assert_false(tpt_vm_is_private(simtd_vm(td), RAM / PAGE - 1));
	/* Not RAM, not whole pages, nothing at all. */
	assert_int_equal(simtd_guest_map_gpa(td, 0, RAM, PAGE, false), -EINVAL);
	assert_int_equal(simtd_guest_map_gpa(td, 0, 0x800, PAGE, false), -EINVAL);
	assert_int_equal(simtd_guest_map_gpa(td, 0, 0, 0, false), -EINVAL);
	assert_int_equal(simtd_guest_map_gpa(td, 0, RAM - PAGE, 2 * PAGE, false), -EINVAL);
	finish(td);
}

static void shared_memory_can_be_one_large_leaf(void **state)
{
	struct simtd_config config = config_of(1);
	struct tpt_vm_stats s;
	struct simtd *td;

	(void)state;
	config.shared_level = TPT_LEVEL_2M;
	td = make(&config);
	assert_int_equal(simtd_finalize(td), 0);
	assert_int_equal(simtd_guest_map_gpa(td, 0, 2 * MIB, 2 * MIB, false), 0);
	put(td, 0, (2 * MIB + 0x5000) | simtd_shared(td), 9);
	put(td, 0, (2 * MIB + 0x9000) | simtd_shared(td), 10);
	s = vm_stats_of(td);
	assert_int_equal(s.direct.pages_2m, 1);
	assert_int_equal(s.direct.pages_4k, 0);
	assert_int_equal(stats_of(td).shared_pages, 512);
	assert_int_equal(simtd_guest_map_gpa(td, 0, 2 * MIB, PAGE, true), 0);
	assert_int_equal(get(td, 0, (2 * MIB + 0x5000) | simtd_shared(td)), 9);
	assert_int_equal(stats_of(td).shared_pages, 511);
	assert_int_equal(vm_stats_of(td).direct.pages_4k, 1);
	finish(td);
}

static void dropping_the_direct_roots_gives_a_vcpu_inside_new_ones(void **state)
{
	struct simtd *td = make_running(1);
	const uint64_t at = 0x3000 | simtd_shared(td);

	(void)state;
	assert_int_equal(simtd_guest_map_gpa(td, 0, 0x3000, PAGE, false), 0);
	put(td, 0, at, 21);
	put(td, 0, 0x5000, 22);
	assert_int_equal(sim_zap_all_fast(simtd_sim(td)), 0);
	assert_int_equal(get(td, 0, at), 21);
	assert_int_equal(get(td, 0, 0x5000), 22);
	assert_int_equal(calls_ok(td, TDH_MEM_RANGE_BLOCK), 0);
	assert_int_equal(calls_ok(td, TDH_VP_WR), 2);
	finish(td);
}

/* ---- a module that is busy ---- */

/* The lock word of a processor in the middle of a call: SEPT tree, exclusive. */
#define TREE_TAKEN 0x1u

static void force(struct simtd *td, enum tdx_force what, uint64_t raw)
{
	assert_int_equal(tdx_module_force(simtd_module(td), what, tdx_td_tdr(simtd_tdx(td)).a, raw),
			 0);
}

struct waiting {
	struct simtd *td;
	_Atomic int done;
	int ret;
};

static void *touch_thread(void *arg)
{
	struct waiting *w = arg;

	w->ret = touch(w->td, 0, 0x7000, MACHINE_WRITE);
	atomic_store(&w->done, 1);
	return NULL;
}

static void a_fault_waits_for_a_busy_secure_ept(void **state)
{
	struct simtd *td = make_running(1);
	struct waiting w = {.td = td};
	pthread_t thread;

	(void)state;
	force(td, TDX_FORCE_SEPT_LOCK, TREE_TAKEN);
	assert_int_equal(pthread_create(&thread, NULL, touch_thread, &w), 0);
	while (!calls_busy(td, TDH_MEM_SEPT_ADD))
		sched_yield();
	assert_int_equal(atomic_load(&w.done), 0);
	force(td, TDX_FORCE_SEPT_LOCK, 0);
	pthread_join(thread, NULL);
	assert_int_equal(w.ret, TD_TOUCHED);
	assert_true(stats_of(td).retries > 0);
	finish(td);
}

static void a_conversion_that_stays_busy_is_tried_again_by_the_guest(void **state)
{
	struct simtd *td = make_running(1);

	(void)state;
	put(td, 0, 0x8000, 1);
	put(td, 0, 0x9000, 2);
	simtd_kick(td);
	force(td, TDX_FORCE_SEPT_LOCK, TREE_TAKEN);
	assert_int_equal(simtd_guest_map_gpa(td, 0, 0x8000, 2 * PAGE, false), -EBUSY);
	assert_int_equal(calls_ok(td, TDH_MEM_RANGE_BLOCK), 0);
	assert_true(vm_stats_of(td).hold > 0);
	assert_true(tpt_vm_is_private(simtd_vm(td), 8));
	force(td, TDX_FORCE_SEPT_LOCK, 0);
	assert_int_equal(get(td, 0, 0x8000), 1);
	check(td);
	assert_int_equal(simtd_guest_map_gpa(td, 0, 0x8000, 2 * PAGE, false), 0);
	assert_int_equal(calls_ok(td, TDH_MEM_RANGE_BLOCK), 2);
	assert_int_equal(get(td, 0, 0x8000 | simtd_shared(td)), 0);
	finish(td);
}

static void nobody_is_inside_while_vcpus_are_held(void **state)
{
	struct simtd *td = make_running(1);
	struct tpt_posix *posix = sim_posix(simtd_sim(td));
	const struct tpt_platform *platform = tpt_posix_platform(posix);
	struct waiting w = {.td = td};
	uint64_t entries;
	pthread_t thread;

	(void)state;
	put(td, 0, 0x1000, 1);
	assert_true(tdx_module_running_vcpu(simtd_module(td), 0) != 0);
	platform->hold(posix, simtd_vm(td), true);
	assert_int_equal(tdx_module_running_vcpu(simtd_module(td), 0), 0);
	entries = calls_ok(td, TDH_VP_ENTER);
	assert_int_equal(pthread_create(&thread, NULL, touch_thread, &w), 0);
	for (int i = 0; i < 1000; i++)
		sched_yield();
	assert_int_equal(atomic_load(&w.done), 0);
	assert_int_equal(calls_ok(td, TDH_VP_ENTER), entries);
	platform->hold(posix, simtd_vm(td), false);
	pthread_join(thread, NULL);
	assert_int_equal(w.ret, TD_TOUCHED);
	finish(td);
}

static void an_entry_waits_for_a_busy_epoch(void **state)
{
	struct simtd *td = make_running(1);

	(void)state;
	force(td, TDX_FORCE_EPOCH_LOCK, TREE_TAKEN);
	assert_int_equal(touch(td, 0, 0x7000, MACHINE_WRITE), -EBUSY);
	assert_int_equal(calls_ok(td, TDH_VP_ENTER), 0);
	force(td, TDX_FORCE_EPOCH_LOCK, 0);
	assert_int_equal(touch(td, 0, 0x7000, MACHINE_WRITE), TD_TOUCHED);
	finish(td);
}

/* ---- several vCPUs at once ---- */

#define THREADS 3
#define ROUNDS	6

struct worker {
	struct simtd *td;
	unsigned int vcpu;
	_Atomic int *stop;
	_Atomic uint64_t rounds;
	uint64_t errors;
	int first;
};

/* Its own pages, and pages that all fault on together; a word that it wrote must stay. */
static void *work(void *arg)
{
	struct worker *w = arg;
	uint64_t base = MIB * (1 + w->vcpu), own, value, n = 0;

	while (!atomic_load(w->stop) || n < 200) {
		struct simtd_access a = {.kind = MACHINE_WRITE, .buf = &value, .len = 8};
		int ret;

		own = base + n % 100 * PAGE + 64;
		value = own ^ 0x5a;
		a.gpa = own;
		ret = simtd_guest_touch(w->td, w->vcpu, &a);
		if (ret != TD_TOUCHED && !w->errors++)
			w->first = ret;
		a.gpa = n % 50 * PAGE + w->vcpu * 8;
		ret = simtd_guest_touch(w->td, w->vcpu, &a);
		if (ret != TD_TOUCHED && !w->errors++)
			w->first = ret;
		a.gpa = own;
		a.kind = MACHINE_READ;
		value = 0;
		ret = simtd_guest_touch(w->td, w->vcpu, &a);
		if ((ret != TD_TOUCHED || value != (own ^ 0x5a)) && !w->errors++)
			w->first = ret;
		atomic_store(&w->rounds, ++n);
	}
	return NULL;
}

static void vcpus_fault_and_accept_while_one_converts(void **state)
{
	struct simtd *td = make_running(THREADS + 1);
	struct worker workers[THREADS] = {0};
	pthread_t threads[THREADS];
	_Atomic int stop = 0;
	const uint64_t window = 6 * MIB;

	(void)state;
	for (unsigned int i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){.td = td, .vcpu = i, .stop = &stop};
		assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
	}
	for (unsigned int i = 0; i < THREADS; i++)
		while (!atomic_load(&workers[i].rounds))
			sched_yield();
	for (uint64_t n = 0; n < ROUNDS; n++) {
		for (uint64_t i = 0; i < 64; i++)
			put(td, THREADS, window + i * PAGE, n + i);
		assert_int_equal(simtd_guest_map_gpa(td, THREADS, window, 64 * PAGE, false), 0);
		put(td, THREADS, window | simtd_shared(td), n);
		assert_int_equal(get(td, THREADS, window | simtd_shared(td)), n);
		assert_int_equal(simtd_guest_map_gpa(td, THREADS, window, 64 * PAGE, true), 0);
		assert_int_equal(get(td, THREADS, window), 0);
	}
	atomic_store(&stop, 1);
	for (unsigned int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (unsigned int i = 0; i < THREADS; i++)
		if (workers[i].errors)
			fail_msg("vCPU %u: %llu errors, first %d (%s)", i,
				 (unsigned long long)workers[i].errors, workers[i].first,
				 first_log);
	assert_int_equal(calls_ok(td, TDH_MEM_TRACK), ROUNDS);
	assert_true(stats_of(td).exits[TD_EXIT_INTERRUPT] > 0);
	finish(td);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(built_pages_are_measured_and_found_by_the_guest),
		cmocka_unit_test(nothing_is_mapped_blindly_before_it_is_finalised),
		cmocka_unit_test(a_first_touch_is_one_aug_one_ve_and_one_accept),
		cmocka_unit_test(accepting_first_asks_the_host_by_its_own_exit),
		cmocka_unit_test(a_guest_without_ve_is_at_fault_for_what_it_has_not_accepted),
		cmocka_unit_test(mmio_is_a_ve_without_an_exit_once_the_entry_is_cached),
		cmocka_unit_test(
			converting_costs_a_block_and_a_remove_a_page_and_one_track_a_chunk),
		cmocka_unit_test(content_is_lost_by_conversion_and_nothing_else),
		cmocka_unit_test(a_large_range_is_converted_in_pieces_of_2_mib),
		cmocka_unit_test(shared_memory_can_be_one_large_leaf),
		cmocka_unit_test(dropping_the_direct_roots_gives_a_vcpu_inside_new_ones),
		cmocka_unit_test(a_fault_waits_for_a_busy_secure_ept),
		cmocka_unit_test(a_conversion_that_stays_busy_is_tried_again_by_the_guest),
		cmocka_unit_test(nobody_is_inside_while_vcpus_are_held),
		cmocka_unit_test(an_entry_waits_for_a_busy_epoch),
		cmocka_unit_test(vcpus_fault_and_accept_while_one_converts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
