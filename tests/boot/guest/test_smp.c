// SPDX-License-Identifier: BSD-2-Clause
/*
 * CPUs that use memory, and each other's, while CPU 0 has the tables below taken away. Private
 * memory is test_td.c's.
 */
#include "tests/boot/guest/guest.h"

static void begin_others(work_fn *work, void *arg)
{
	for (unsigned int id = 1; id < smp_count(); id++)
		smp_begin(id, work, arg);
}

static bool others_work(void)
{
	for (unsigned int id = 1; id < smp_count(); id++)
		if (smp_working(id))
			return true;
	return false;
}

static void end_others(void)
{
	for (unsigned int id = 1; id < smp_count(); id++)
		smp_end(id);
}

static void all_cpus_check_in(void)
{
	unsigned int wanted = machine.vcpus;

	expect(!machine.hv || smp_count() == wanted, "%u CPUs for %u", smp_count(), wanted);
	for (unsigned int i = 0; i < smp_count(); i++)
		for (unsigned int j = 0; j < i; j++)
			expect(cpus[i].apic_id != cpus[j].apic_id, "%u and %u have one APIC ID", i,
			       j);
}

/* A counter with its lock and one without; how often each CPU adds, once all are there. */
struct counters {
	struct spinlock lock;
	uint32_t n, there;
	volatile uint64_t locked;
	uint64_t atomic;
};

static void add_to_counters(void *arg)
{
	struct counters *counters = arg;

	__atomic_fetch_add(&counters->there, 1, __ATOMIC_ACQ_REL);
	WAIT_UNTIL(__atomic_load_n(&counters->there, __ATOMIC_ACQUIRE) == smp_count());
	for (uint32_t i = 0; i < counters->n; i++) {
		if (this_cpu()->id == 0 && i % 16384 == 0)
			zap_all();
		spin_lock(&counters->lock);
		counters->locked++;
		spin_unlock(&counters->lock);
	}
	for (uint32_t i = 0; i < counters->n; i++)
		__atomic_fetch_add(&counters->atomic, 1, __ATOMIC_RELAXED);
}

static void counters_are_exact(void)
{
	struct counters *counters = open_memory(machine.free, PAGE);
	uint64_t wanted;

	*counters = (struct counters){.n = 400000 * machine.rounds};
	wanted = (uint64_t)counters->n * smp_count();
	begin_others(add_to_counters, counters);
	add_to_counters(counters);
	end_others();
	expect(counters->locked == wanted, "under a lock: %lu for %lu", counters->locked, wanted);
	expect(counters->atomic == wanted, "atomic: %lu for %lu", counters->atomic, wanted);
	close_memory(machine.free, PAGE);
}

#define PART (2 * LARGE_PAGE)

/* Pages of all CPUs in turn: they meet in the tables, and in a large leaf. */
static void use_own_pages(void *memory)
{
	const unsigned int id = this_cpu()->id, step = smp_count();
	uint8_t *at = memory;

	for (unsigned int round = 0; round < 4 * machine.rounds; round++) {
		for (uint64_t i = id; i < PART / PAGE; i += step)
			fill(at + i * PAGE, PAGE, i + round);
		for (uint64_t i = id; i < PART / PAGE; i += step)
			expect_filled(at + i * PAGE, PAGE, i + round, "own page");
	}
}

static void unmap_some(uint64_t *random)
{
	uint64_t first = random_next(random) % (PART / PAGE);
	uint64_t pages = 1 + random_next(random) % (PART / PAGE - first);

	hv_call(HV_CALL_UNMAP, machine.free + first * PAGE, pages * PAGE, 0);
}

static void pages_survive_zaps(void)
{
	void *open = open_memory(machine.free, PART);

	begin_others(use_own_pages, open);
	do
		zap_all();
	while (others_work());
	end_others();
	close_memory(machine.free, PART);
}

static void all_touch_fresh_pages_at_once(void)
{
	void *open = open_memory(machine.free, PART);

	for (unsigned int i = 0; i < 2 * machine.rounds; i++) {
		zap_all();
		begin_others(use_own_pages, open);
		use_own_pages(open);
		end_others();
	}
	close_memory(machine.free, PART);
}

static void pages_survive_unmaps(void)
{
	void *open = open_memory(machine.free, PART);
	uint64_t random = 3;

	begin_others(use_own_pages, open);
	do
		unmap_some(&random);
	while (others_work());
	end_others();
	close_memory(machine.free, PART);
}

/* A page that a CPU reads all the time, and what that has cost once it's gone. */
struct watched {
	const volatile uint64_t *page;
	bool gone; /* set after the call that takes it away has returned */
	uint32_t reads;
	uint64_t faults;
};

static uint64_t all_faults(void)
{
	struct hv_answer faults = hv_call(HV_CALL_FAULTS, 0, 0, 0);

	return faults.rax + faults.rdi;
}

/* All that is used here is mapped before faults are counted: then only what is taken away costs
 * one. */
static void read_until_gone(void *arg)
{
	struct watched *watched = arg;
	uint64_t before = 0;

	for (unsigned int i = 0; i < 100; i++) {
		(void)*watched->page;
		before = all_faults();
	}
	while (!__atomic_load_n(&watched->gone, __ATOMIC_ACQUIRE)) {
		(void)*watched->page;
		__atomic_fetch_add(&watched->reads, 1, __ATOMIC_RELAXED);
	}
	(void)*watched->page;
	watched->faults = all_faults() - before;
}

static void take_away(uint64_t gpa, const void *page, bool zap)
{
	struct watched watched = {.page = page};

	smp_begin(1, read_until_gone, &watched);
	expect(WAIT_UNTIL(__atomic_load_n(&watched.reads, __ATOMIC_RELAXED) > 1000), "no reads");
	if (zap)
		zap_all();
	else
		hv_call(HV_CALL_UNMAP, gpa, PAGE, 0);
	__atomic_store_n(&watched.gone, true, __ATOMIC_RELEASE);
	smp_end(1);
	expect(watched.faults != 0, "read without a fault after %s", zap ? "a zap" : "an unmap");
}

/* Another CPU's translation doesn't outlive the call, though what it leads to would still be there.
 */
static void taken_away_is_gone_at_once(void)
{
	uint64_t gpa = machine.free + PART / 2;
	void *open = open_memory(gpa, PAGE);

	for (unsigned int i = 0; i < 8 * machine.rounds; i++)
		take_away(gpa, open, i & 1);
	close_memory(gpa, PAGE);
}

/* A page that CPU 1 writes all the time. */
struct counter {
	volatile uint64_t *page;
	bool over;
};

static void count_up(void *arg)
{
	struct counter *counter = arg;

	while (!__atomic_load_n(&counter->over, __ATOMIC_ACQUIRE))
		(*counter->page)++;
}

/*
 * Two more than there were when the log was last asked: the second of them began later than that.
 * A CPU that may still write without telling, by an old translation, is found here.
 */
static void each_harvest_tells_of_later_writes(void)
{
	uint64_t gpa = machine.free + PART / 2, seen, missed = 0;
	struct counter counter = {.page = open_memory(gpa, PAGE)};

	smp_begin(1, count_up, &counter);
	hv_call(HV_CALL_WRITTEN, gpa, 0, 0);
	for (unsigned int i = 0; i < 100 * machine.rounds; i++) {
		seen = *counter.page;
		if (!WAIT_UNTIL(*counter.page >= seen + 2))
			break;
		missed += hv_call(HV_CALL_WRITTEN, gpa, 0, 0).rax != 1;
	}
	__atomic_store_n(&counter.over, true, __ATOMIC_RELEASE);
	smp_end(1);
	hv_call(HV_CALL_WRITTEN, gpa, 0, 0);
	expect(missed == 0, "%lu harvests missed a page that was written", missed);
	expect(hv_call(HV_CALL_WRITTEN, gpa, 0, 0).rax == 0, "told of a page that nobody wrote");
	close_memory(gpa, PAGE);
}

static void each_ipi_arrives_once(void)
{
	for (unsigned int id = 1; id < smp_count(); id++) {
		const volatile uint32_t *arrived = &cpus[id].arrived[VECTOR_IPI];
		uint32_t first = *arrived, n = 50 * machine.rounds;

		for (uint32_t i = 0; i < n && *arrived == first + i; i++) {
			zap_all();
			apic_send(id, VECTOR_IPI);
			WAIT_UNTIL(*arrived != first + i);
		}
		expect(*arrived == first + n, "CPU %u: %u IPIs for %u", id, *arrived - first, n);
	}
}

const struct test smp_tests[] = {
	{"smp_all_cpus_check_in", all_cpus_check_in, NEEDS_CPUS},
	{"smp_counters_are_exact", counters_are_exact, NEEDS_CPUS},
	{"smp_each_ipi_arrives_once", each_ipi_arrives_once, NEEDS_CPUS},
	{"smp_all_touch_fresh_pages_at_once", all_touch_fresh_pages_at_once, NEEDS_CPUS},
	{"smp_pages_survive_zaps", pages_survive_zaps, NEEDS_CPUS},
	{"smp_pages_survive_unmaps", pages_survive_unmaps, NEEDS_HV | NEEDS_CPUS},
	{"smp_taken_away_is_gone_at_once", taken_away_is_gone_at_once, NEEDS_HV | NEEDS_CPUS},
	{"smp_each_harvest_tells_of_later_writes", each_harvest_tells_of_later_writes,
	 NEEDS_LOG | NEEDS_CPUS},
	{0},
};
