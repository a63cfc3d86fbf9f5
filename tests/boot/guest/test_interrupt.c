// SPDX-License-Identifier: BSD-2-Clause
/*
 * Interrupts and exceptions arrive once each, also where their delivery itself meets nested faults.
 * On one CPU; what CPUs send each other is in test_smp.c.
 */
#include "tests/boot/guest/probe.h"

/* Page fault error codes: AMD64 APM vol. 2, 8.4.2. */
#define ERROR_PRESENT 1u
#define ERROR_WRITE   2u
#define ERROR_FETCH   16u

/*
 * IDT, GDT, TSS and a stack far from each other, on memory that zaps reach: after one, each costs a
 * fault of its own while an interrupt is delivered. The first frame lies across two pages.
 */
static void use_far_tables(void)
{
	uint8_t *open = open_memory(machine.free, 4 * LARGE_PAGE);
	struct tables far = {
		.idt = (struct gate *)open,
		.gdt = (uint64_t *)(open + LARGE_PAGE),
		.tss = (struct tss *)(open + 2 * LARGE_PAGE),
		.stack = (uint64_t)open + 3 * LARGE_PAGE + 2 * PAGE + 16,
	};

	tables_load(&far);
}

static void use_home_tables(void)
{
	tables_load_home();
	close_memory(machine.free, 4 * LARGE_PAGE);
}

/* Comes when @arrived is one more; two more is wrong as well. */
static bool expect_one(const volatile uint32_t *arrived, uint32_t before, const char *what)
{
	WAIT_UNTIL(*arrived != before);
	return expect(*arrived == before + 1, "%s: %u arrived after %u", what, *arrived, before);
}

static void send_self(unsigned int n)
{
	const volatile uint32_t *arrived = &this_cpu()->arrived[VECTOR_IPI];
	uint32_t first = *arrived;

	for (uint32_t i = 0; i < n; i++) {
		zap_all();
		apic_send_self(VECTOR_IPI);
		if (!expect_one(arrived, first + i, "self-IPI"))
			return;
	}
	zap_all();
	expect(*arrived == first + n, "%u self-IPIs for %u", *arrived - first, n);
}

static void each_self_ipi_arrives_once(void)
{
	send_self(100 * machine.rounds);
}

static void each_self_ipi_arrives_through_far_tables(void)
{
	use_far_tables();
	send_self(100 * machine.rounds);
	use_home_tables();
}

/* One that waits while interrupts are off comes when they are on. */
static void held_interrupt_arrives(void)
{
	const volatile uint32_t *arrived = &this_cpu()->arrived[VECTOR_IPI];

	use_far_tables();
	for (unsigned int i = 0; i < 20 * machine.rounds; i++) {
		uint32_t before = *arrived;

		interrupts_off();
		apic_send_self(VECTOR_IPI);
		zap_all();
		expect(*arrived == before, "arrived while interrupts were off");
		interrupts_on();
		if (!expect_one(arrived, before, "held"))
			break;
	}
	use_home_tables();
}

static void timer_fires_once(void)
{
	const volatile uint32_t *arrived = &this_cpu()->arrived[VECTOR_TIMER];
	uint32_t first = *arrived, n = 20 * machine.rounds;

	for (uint32_t i = 0; i < n; i++) {
		apic_timer_once(20000 + i);
		zap_all();
		if (!expect_one(arrived, first + i, "timer"))
			break;
	}
	apic_timer_stop();
	expect(*arrived == first + n, "%u for %u", *arrived - first, n);
}

static void periodic_timer_goes_on(void)
{
	const volatile uint32_t *arrived = &this_cpu()->arrived[VECTOR_TIMER];
	uint32_t first = *arrived, n = 10 * machine.rounds;

	use_far_tables();
	apic_timer_periodic(2000000);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t before = *arrived;

		zap_all();
		if (!expect(WAIT_UNTIL(*arrived != before), "stopped after %u", before - first))
			break;
	}
	apic_timer_stop();
	use_home_tables();
}

/* A CPU that sleeps on can't say so: another has an eye on it. */
static void watch(void *awake)
{
	if (!WAIT_UNTIL(__atomic_load_n((bool *)awake, __ATOMIC_ACQUIRE)))
		panic("the halted CPU doesn't wake up");
}

static void halt_until_timer(void)
{
	const volatile uint32_t *arrived = &this_cpu()->arrived[VECTOR_TIMER];
	uint32_t before = *arrived;

	interrupts_off();
	apic_timer_periodic(1000000); /* more than one: should the first come before HLT */
	zap_all();
	while (*arrived == before) {
		interrupts_on_and_halt();
		interrupts_off();
	}
	apic_timer_stop();
	interrupts_on();
}

static void halted_cpu_wakes_up(void)
{
	bool awake = false;

	if (smp_count() > 1)
		smp_begin(1, watch, &awake);
	for (unsigned int i = 0; i < 5 * machine.rounds; i++)
		halt_until_timer();
	__atomic_store_n(&awake, true, __ATOMIC_RELEASE);
	if (smp_count() > 1)
		smp_end(1);
}

static void expect_exception(int vector, int wanted, uint64_t error, uint32_t arrived_before)
{
	const struct cpu *cpu = this_cpu();

	if (!expect(vector == wanted, "exception %d for %d", vector, wanted))
		return;
	expect(cpu->fault.error == error, "exception %d: error %lx for %lx", vector,
	       cpu->fault.error, error);
	expect(cpu->arrived[wanted] == arrived_before + 1, "exception %d: %u times", vector,
	       cpu->arrived[wanted] - arrived_before);
}

static void undefined_and_divide_arrive(void)
{
	const volatile uint32_t *arrived = this_cpu()->arrived;

	for (unsigned int i = 0; i < 20 * machine.rounds; i++) {
		uint32_t ud = arrived[VECTOR_UD], de = arrived[VECTOR_DE];

		zap_all();
		expect_exception(probe_undefined(), VECTOR_UD, 0, ud);
		zap_all();
		expect_exception(probe_divide(0), VECTOR_DE, 0, de);
	}
	expect(probe_divide(1) == NO_FAULT, "dividing by 1 faults");
}

static void exceptions_arrive_once(void)
{
	undefined_and_divide_arrive();
	use_far_tables();
	undefined_and_divide_arrive();
	use_home_tables();
}

/* One of the three accesses, and the page's entry that it meets. */
struct access {
	int (*probe)(uint64_t va);
	uint64_t entry;
	uint64_t error;
};

static void expect_page_fault(const struct access *access)
{
	uint64_t va = scratch_map(1, access->entry | (machine.free_end - PAGE));
	uint32_t before = this_cpu()->arrived[VECTOR_PF];

	zap_all();
	expect_exception(access->probe(va), VECTOR_PF, access->error, before);
	expect(this_cpu()->fault.cr2 == va, "CR2 %lx for %lx", this_cpu()->fault.cr2, va);
}

/* The guest's own faults are its own, whatever the walk met below. */
static void page_faults_arrive_with_their_codes(void)
{
	static const struct access accesses[] = {
		{probe_read1, 0, 0},
		{probe_write1, 0, ERROR_WRITE},
		{probe_call, 0, ERROR_FETCH},
		{probe_write1, PTE_PRESENT, ERROR_PRESENT | ERROR_WRITE},
		{probe_call, PTE_PRESENT | PTE_NX, ERROR_PRESENT | ERROR_FETCH},
	};

	use_far_tables();
	for (unsigned int round = 0; round < 10 * machine.rounds; round++)
		for (size_t i = 0; i < sizeof(accesses) / sizeof(accesses[0]); i++)
			expect_page_fault(&accesses[i]);
	use_home_tables();
}

const struct test interrupt_tests[] = {
	{"interrupt_each_self_ipi_arrives_once", each_self_ipi_arrives_once, NEEDS_NOTHING},
	{"interrupt_each_self_ipi_arrives_through_far_tables",
	 each_self_ipi_arrives_through_far_tables, NEEDS_NOTHING},
	{"interrupt_held_arrives", held_interrupt_arrives, NEEDS_NOTHING},
	{"interrupt_timer_fires_once", timer_fires_once, NEEDS_NOTHING},
	{"interrupt_periodic_timer_goes_on", periodic_timer_goes_on, NEEDS_NOTHING},
	{"interrupt_halted_cpu_wakes_up", halted_cpu_wakes_up, NEEDS_NOTHING},
	{"exception_arrives_once", exceptions_arrive_once, NEEDS_NOTHING},
	{"exception_page_faults_have_their_codes", page_faults_arrive_with_their_codes,
	 NEEDS_NOTHING},
	{0},
};
