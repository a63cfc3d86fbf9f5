// SPDX-License-Identifier: BSD-2-Clause
/*
 * A8 and A9 with threads: pages are aged, tables that code ran in are unlinked, logs switched and
 * modes changed while vCPUs read, write and run code. Every access must reach the frame behind its
 * page, at rest everything must hold, and the judge of the processor have nothing to say.
 */
#include "tests/support/guest.h"

#include <triptych/aging.h>
#include <triptych/dirty.h>
#include <triptych/nx.h>

#define PAGE 4096ull

#if defined(__SANITIZE_THREAD__)
#define SLOWER 16
#elif defined(__SANITIZE_ADDRESS__)
#define SLOWER 4
#else
#define SLOWER 1
#endif

#define ACCESSES (40000 / SLOWER)
#define EVENTS	 (100 / (SLOWER > 4 ? 4 : SLOWER)) /* at least */

/* vCPUs go on until those who upset things did enough, and these until the vCPUs are through. */
static _Atomic bool through;
static _Atomic unsigned int upset_enough;

struct run {
	struct guest *g;
	bool moving; /* frames are taken away and given anew, and modes change */
	bool logging;
};

struct runner {
	const struct run *run;
	uint64_t random, done, wrong;
	pthread_t thread;
	unsigned int v;
	int error;
};

static uint64_t frame_of(struct guest *g, unsigned int page)
{
	uint64_t hpa;

	pthread_mutex_lock(&g->lock);
	hpa = g->hpa[page];
	pthread_mutex_unlock(&g->lock);
	return hpa;
}

static void *run_vcpu(void *ctx)
{
	static const unsigned int kinds[] = {MACHINE_READ, MACHINE_WRITE, MACHINE_WRITE,
					     MACHINE_EXEC};
	struct runner *r = ctx;
	struct guest *g = r->run->g;

	for (unsigned int i = 0; (i < ACCESSES || upset_enough < 2) && !r->error; i++) {
		unsigned int page = guest_pick(&r->random, GUEST_PAGES);
		unsigned int kind = kinds[guest_pick(&r->random, 4)];
		uint64_t hpa = 0;
		int ret = guest_access(g, r->v, page * PAGE, kind, &hpa);

		if (ret)
			r->error = ret;
		r->wrong += !ret && !r->run->moving && hpa != frame_of(g, page);
		r->done++;
		/* What a processor forgets by itself. */
		if (i % 32 == 0)
			machine_flush(g->machine, g->v[r->v].cpu, MACHINE_TAG_ALL, 0,
				      MACHINE_GPA_END, MACHINE_FLUSH_LOCAL);
	}
	return NULL;
}

static void set_log(struct guest *g, bool on)
{
	const struct tpt_memory_region region = {.flags = on ? TPT_MEM_LOG_DIRTY : 0,
						 .size = GUEST_PAGES * PAGE,
						 .hva = tpt_hva_make(GUEST_HVA)};

	must(!tpt_vm_set_memory_region(g->vm, &region));
}

struct upsetter {
	const struct run *run;
	uint64_t random, young, recovered;
	pthread_t thread;
};

/* The host's memory management: pages are aged, and now and then taken away. */
static void *upset_pages(void *ctx)
{
	struct upsetter *u = ctx;
	struct guest *g = u->run->g;
	uint64_t bitmap[GUEST_PAGES / 64];

	for (unsigned int i = 0; i < EVENTS || !through; i++) {
		unsigned int page = guest_pick(&u->random, GUEST_PAGES);
		unsigned int end = page + 1 + guest_pick(&u->random, GUEST_PAGES - page);
		tpt_hva from = tpt_hva_make(GUEST_HVA + page * PAGE);
		tpt_hva to = tpt_hva_make(GUEST_HVA + end * PAGE);
		int ret = guest_pick(&u->random, 3) ? tpt_vm_age(g->vm, from, to, bitmap)
						    : tpt_vm_test_age(g->vm, from, to, NULL);

		must(ret >= 0);
		upset_enough += i == EVENTS - 1;
		u->young += (uint64_t)ret;
		if (u->run->moving && !guest_pick(&u->random, 16))
			guest_reclaim(g, page, end < page + 64 ? end : page + 64);
	}
	return NULL;
}

/* The VM's own: recovery, the log, the mode. */
static void *upset_vm(void *ctx)
{
	struct upsetter *u = ctx;
	struct guest *g = u->run->g;
	uint64_t bitmap[GUEST_PAGES / 64];
	bool on = false;

	for (unsigned int i = 0; i < EVENTS || !through; i++) {
		int ret = tpt_vm_nx_recover(g->vm, 1 + (uint32_t)guest_pick(&u->random, 4));

		must(ret >= 0);
		upset_enough += i == EVENTS - 1;
		u->recovered += (uint64_t)ret;
		if (u->run->logging && !guest_pick(&u->random, 64)) {
			on = !on;
			set_log(g, on);
		}
		if (on && !guest_pick(&u->random, 16))
			must(!tpt_vm_get_dirty_log(g->vm, 0, 0, bitmap));
		if (u->run->moving && !guest_pick(&u->random, 128))
			must(!tpt_vm_set_nx_huge_pages(
				g->vm, (enum tpt_nx_mode)guest_pick(&u->random, TPT_NX_NEVER)));
	}
	if (on)
		set_log(g, false);
	return NULL;
}

static void run(unsigned int nr, enum tpt_format format, uint32_t flags, bool logging, bool moving)
{
	struct upsetter pages = {.random = 21}, vm = {.random = 22};
	struct runner r[HOST_VCPUS];
	struct tpt_vm_config c;
	struct run this = {.logging = logging, .moving = moving};
	uint64_t hpa;

	host_config_npt(&c);
	c.format = format;
	c.flags = flags;
	this.g = guest_create(&c, nr, 7);
	/* Where nothing moves everything is huge if it may. */
	this.g->large_percent = moving ? 50 : 100;
	set_log(this.g, false);
	/* However the threads are scheduled, the first recovery finds this page's table. */
	assert_int_equal(guest_access(this.g, 0, 0, MACHINE_EXEC, &hpa), 0);
	through = false;
	upset_enough = 0;
	pages.run = vm.run = &this;
	for (unsigned int i = 0; i < nr; i++) {
		r[i] = (struct runner){.run = &this, .v = i, .random = 100 + i};
		pthread_create(&r[i].thread, NULL, run_vcpu, &r[i]);
	}
	pthread_create(&pages.thread, NULL, upset_pages, &pages);
	pthread_create(&vm.thread, NULL, upset_vm, &vm);
	for (unsigned int i = 0; i < nr; i++)
		pthread_join(r[i].thread, NULL);
	through = true;
	pthread_join(pages.thread, NULL);
	pthread_join(vm.thread, NULL);

	guest_check(this.g);
	for (unsigned int i = 0; i < nr; i++) {
		assert_int_equal(r[i].error, 0);
		assert_int_equal(r[i].wrong, 0);
		assert_true(r[i].done >= ACCESSES);
	}
	assert_true(pages.young > 0);
	if (flags & TPT_VM_ITLB_MULTIHIT && !moving)
		assert_true(vm.recovered > 0);
	print_message("%u vCPUs: young %lu times, %lu tables recovered\n", nr, pages.young,
		      vm.recovered);
	guest_destroy(this.g);
}

static void A8_two_vcpus_fault_while_pages_are_aged(void **state)
{
	(void)state;
	run(2, TPT_FORMAT_NPT, 0, true, false);
	run(2, TPT_FORMAT_EPT, TPT_VM_NO_AD, true, false);
}

static void A8_four_vcpus_fault_while_pages_are_aged_and_taken_away(void **state)
{
	(void)state;
	run(4, TPT_FORMAT_EPT, 0, false, true);
	run(4, TPT_FORMAT_EPT, TPT_VM_NO_AD, false, true);
}

static void A9_two_vcpus_run_code_while_tables_are_recovered(void **state)
{
	(void)state;
	run(2, TPT_FORMAT_NPT, TPT_VM_ITLB_MULTIHIT, false, false);
	run(2, TPT_FORMAT_EPT, TPT_VM_ITLB_MULTIHIT | TPT_VM_NO_AD, true, false);
}

static void A9_four_vcpus_run_code_while_tables_are_recovered_and_modes_change(void **state)
{
	(void)state;
	run(4, TPT_FORMAT_EPT, TPT_VM_ITLB_MULTIHIT, false, true);
	run(4, TPT_FORMAT_NPT, TPT_VM_ITLB_MULTIHIT | TPT_VM_EAGER_PAGE_SPLIT, true, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(A8_two_vcpus_fault_while_pages_are_aged),
		cmocka_unit_test(A8_four_vcpus_fault_while_pages_are_aged_and_taken_away),
		cmocka_unit_test(A9_two_vcpus_run_code_while_tables_are_recovered),
		cmocka_unit_test(
			A9_four_vcpus_run_code_while_tables_are_recovered_and_modes_change),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
