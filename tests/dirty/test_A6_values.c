// SPDX-License-Identifier: BSD-2-Clause
/*
 * A6: KVM's dirty_log_test in each way of logging, on processors that keep translations for as long
 * as they may, or drop them whenever they like.
 *
 * Derived from dirty_log_test's rules: the guest writes the number of the iteration to random
 * pages; after it, a page found dirty has that number, a page found clean has a smaller one. KVM's
 * test must forgive iteration - 1, because its guest runs on while the log is read; here each store
 * is done or not done when the log is read, so the rules hold exactly, both ways.
 */
#include "tests/dirty/log.h"

#define ITERATIONS 12u
#define WRITES	   2500u

struct seen {
	uint64_t ring_full, pml_full, pml_logged, fast;
};

/* A processor may forget a translation at any time. */
static void forget_some(struct log *l, uint64_t *random)
{
	unsigned int page = (unsigned int)log_pick(random, LOG_PAGES);
	unsigned int cpu = (unsigned int)log_pick(random, l->nr_vcpus);
	uint64_t pages = 1ull << log_pick(random, 10);

	machine_flush(sim_machine(l->sim), machine_get_cpu(sim_machine(l->sim), cpu),
		      MACHINE_TAG_ALL, log_gpa(page), log_gpa(page) + (pages << 12),
		      MACHINE_FLUSH_LOCAL);
}

static void write_somewhere(struct log *l, struct seen *seen, uint64_t *random, uint64_t value)
{
	unsigned int vcpu = (unsigned int)log_pick(random, l->nr_vcpus);
	unsigned int page = (unsigned int)log_pick(random, LOG_PAGES);
	int err;

	while ((err = log_write(l, vcpu, page, value)) == -ENOSPC) {
		assert_int_equal(tpt_vcpu_exit(sim_vcpu(l->sim, vcpu))->reason,
				 TPT_EXIT_DIRTY_RING_FULL);
		seen->ring_full++;
		assert_int_equal(log_collect(l), 0);
	}
	assert_int_equal(err, 0);
}

static void check_values(struct log *l, uint64_t iteration)
{
	for (unsigned int page = 0; page < LOG_PAGES; page++) {
		uint64_t value = *log_word(l, page);

		if (log_has(l->found, page) ? value == iteration : value < iteration)
			continue;
		fail_msg("%s: iteration %lu, page %u: %s, value %lu", l->mode->name, iteration,
			 page, log_has(l->found, page) ? "dirty" : "clean", value);
	}
}

static void run(struct log *l, struct seen *seen, uint64_t seed)
{
	uint64_t random = seed;
	struct tpt_vm_stats s;

	/* Most of it is there before: by huge pages, but for both ends. */
	for (unsigned int page = 0; page < LOG_PAGES; page++)
		if (page / 1024 != 1)
			assert_int_equal(log_write(l, page % l->nr_vcpus, page, 1), 0);
	log_switch(l, true);
	if (l->mode->flags & TPT_VM_DIRTY_INITIALLY_SET) {
		assert_int_equal(log_collect(l), 0);
		for (unsigned int page = 0; page < LOG_PAGES; page++)
			assert_true(log_has(l->found, page));
		log_forget(l);
	}
	for (uint64_t iteration = 2; iteration < 2 + ITERATIONS; iteration++) {
		/* In some, so many writes that logs and rings are full more than once. */
		unsigned int writes = iteration % 4 ? WRITES / 4 : 2 * WRITES;

		for (unsigned int i = 0; i < writes; i++) {
			write_somewhere(l, seen, &random, iteration);
			if (!log_pick(&random, 8))
				forget_some(l, &random);
			if (!log_pick(&random, 400))
				assert_int_equal(log_collect(l), 0);
		}
		assert_int_equal(log_collect(l), 0);
		check_values(l, iteration);
		log_forget(l);
	}
	for (unsigned int v = 0; v < l->nr_vcpus; v++) {
		struct machine_counters c;

		machine_cpu_counters(machine_get_cpu(sim_machine(l->sim), v), &c);
		seen->pml_full += c.faults[MACHINE_PML_FULL];
		seen->pml_logged += c.pml_logged;
	}
	tpt_vm_get_stats(sim_vm(l->sim), &s);
	seen->fast += s.vcpus.pf_fast;
}

static void A6_a_dirty_page_has_this_iterations_value_and_a_clean_page_an_older_one(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < LOG_MODES; i++) {
		const uint32_t flags = log_modes[i].flags;
		struct seen seen = {0};
		struct log l;

		log_open(&l, &log_modes[i], 2);
		run(&l, &seen, 0x9e3779b9 + i);
		/* Each way did what it is there for. */
		assert_true(l.collected > 1000);
		assert_int_equal(seen.ring_full > 0, log_modes[i].ring > 0);
		assert_int_equal(seen.pml_logged > 0, !!(flags & TPT_VM_PML));
		/* Half a huge page each: only what is split and not eagerly is given back here. */
		assert_true(seen.fast > 0 || flags & TPT_VM_PML);
		log_close(&l);
	}
}

/* All 4099 pages D clear, then written in one go: 8 logs of 512 are full, the 9th is not. */
static void A6_a_full_modification_log_exits_and_loses_nothing(void **state)
{
	static const struct log_mode mode = {"pml", TPT_FORMAT_EPT, TPT_VM_PML | LOG_EAGER, 0};
	struct machine_counters before, after;
	struct log l;

	(void)state;
	log_open(&l, &mode, 1);
	for (unsigned int page = 0; page < LOG_PAGES; page++)
		assert_int_equal(log_write(&l, 0, page, 1), 0);
	log_switch(&l, true);
	assert_int_equal(log_collect(&l), 0);
	log_forget(&l);
	machine_cpu_counters(machine_get_cpu(sim_machine(l.sim), 0), &before);
	for (unsigned int page = 0; page < LOG_PAGES; page++)
		assert_int_equal(log_write(&l, 0, page, 2), 0);
	machine_cpu_counters(machine_get_cpu(sim_machine(l.sim), 0), &after);
	assert_int_equal(after.pml_logged - before.pml_logged, LOG_PAGES);
	/* The one full exit for each 512 but for the last, which nothing follows that sets D; and
	 * no fault at all: neither A nor D nor W brings one. */
	assert_int_equal(after.faults[MACHINE_PML_FULL] - before.faults[MACHINE_PML_FULL],
			 (LOG_PAGES - 1) / 512);
	assert_int_equal(after.faults[MACHINE_EPT_VIOLATION], before.faults[MACHINE_EPT_VIOLATION]);
	assert_int_equal(log_collect(&l), 0);
	check_values(&l, 2);
	log_close(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			A6_a_dirty_page_has_this_iterations_value_and_a_clean_page_an_older_one),
		cmocka_unit_test(A6_a_full_modification_log_exits_and_loses_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
