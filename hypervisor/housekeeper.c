// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a host does beside its guest, on a processor of its own: it harvests dirty pages, ages,
 * splits, zaps, frees tables, tells how it goes; and ends the machine. All of it while the guest
 * runs, with whatever races that brings.
 */
#include "hypervisor/abi.h"
#include "hypervisor/hv.h"

#define TICK_MS	     1
#define NX_PERIOD_MS 200
#define PAGE_WORDS   512

struct ending {
	enum end_kind kind;
	uint32_t value;
	const char *why;
};

static struct ending ending;
static _Atomic uint32_t ended;	 /* 1: being written, 2: to be done */
static bool logging;		 /* the dirty log is on, for a round of splits */
static _Atomic uint32_t harvest; /* 1: somebody reads the log, or its memslot changes */
static uint64_t *told;		 /* pages that the log had, and nobody asked about; with it */
static uint64_t started_ms;
static uint64_t rounds_dirty, pages_dirty, rounds_age, rounds_split, rounds_zap, rounds_slots;

/* ---- jobs ---- */

static void harvest_begin(void)
{
	while (atomic_exchange_explicit(&harvest, 1, memory_order_acquire))
		cpu_pause();
}

static void harvest_end(void)
{
	atomic_store_explicit(&harvest, 0, memory_order_release);
}

static void copy_page(uint64_t page)
{
	memcpy(phys(spare.start + page * TPT_PAGE_SIZE), phys(page * TPT_PAGE_SIZE), TPT_PAGE_SIZE);
	pages_dirty++;
}

/* Inside of a harvest. */
static void copy_dirty(void)
{
	const uint64_t *dirty = vm_dirty();

	for (uint64_t i = 0; i < tpt_dirty_words(own.start / TPT_PAGE_SIZE); i++) {
		told[i] |= dirty[i];
		for (uint64_t word = dirty[i]; word; word &= word - 1)
			copy_page(i * 64 + (uint64_t)__builtin_ctzll(word));
	}
}

/* The guest stands still, and all that it wrote is copied: the log may go, and come again. */
static void stand_still(void)
{
	harvest_begin();
	vm_hold(true);
	copy_dirty();
}

static void go_on(void)
{
	vm_hold(false);
	harvest_end();
}

bool housekeeper_was_written(uint64_t gpa)
{
	uint64_t page = gpa / TPT_PAGE_SIZE, bit = 1ull << page % 64;
	bool written;

	harvest_begin();
	copy_dirty();
	written = told[page / 64] & bit;
	told[page / 64] &= ~bit;
	harvest_end();
	return written;
}

static void do_dirty(void)
{
	harvest_begin();
	copy_dirty();
	harvest_end();
	rounds_dirty++;
}

static void do_age(void)
{
	vm_age();
	rounds_age++;
}

/*
 * A log that is switched on splits what is huge, one that is switched off makes it huge again. If
 * it is needed all the time it is off only while the guest stands still.
 */
static void do_split(void)
{
	if (options.dirty) {
		stand_still();
		vm_log_dirty(false);
		vm_log_dirty(true);
		go_on();
	} else {
		logging = !logging;
		vm_log_dirty(logging);
	}
	rounds_split++;
}

static void do_zap(void)
{
	tpt_vm_zap_all_fast(vm);
	rounds_zap++;
}

/* A log goes with its memslot. */
static void do_slots(void)
{
	if (options.dirty)
		stand_still();
	vm_slots_again();
	if (options.dirty)
		go_on();
	rounds_slots++;
}

static void do_live(void)
{
	struct tpt_vm_stats s;
	uint64_t exits = 0;

	tpt_vm_get_stats(vm, &s);
	for (unsigned int i = 0; i < nr_vcpus; i++)
		for (unsigned int kind = 0; kind < EXIT_NR; kind++)
			exits += vcpus[i].exits[kind];
	say("%4lu s: exits %lu, faults %lu fixed %lu again %lu, pages 4k %lu 2m %lu 1g %lu, tables %lu, "
	    "flushes %lu, private 4k %lu 2m %lu, dirty %lu",
	    (now_ms() - started_ms) / 1000, exits, s.vcpus.pf_taken, s.vcpus.pf_fixed,
	    s.vcpus.pf_retry + s.vcpus.pf_spurious, s.direct.pages_4k, s.direct.pages_2m,
	    s.direct.pages_1g, s.direct.tables + s.mirror.tables, s.remote_tlb_flush,
	    s.mirror.pages_4k, s.mirror.pages_2m, pages_dirty);
}

struct job {
	const uint32_t *period; /* ms; 0: never */
	void (*run)(void);
	uint64_t next;
};

static uint32_t nx_period;
static struct job jobs[] = {
	{&options.dirty, do_dirty, 0}, {&options.age, do_age, 0},
	{&options.split, do_split, 0}, {&options.zap, do_zap, 0},
	{&options.slots, do_slots, 0}, {&nx_period, vm_nx_recover, 0},
	{&options.live, do_live, 0},
};

bool housekeeper_is_quiet(void)
{
	return !(options.dirty || options.age || options.split || options.zap || options.slots ||
		 options.nx);
}

/* ---- the end ---- */

/* The next power of two above half of them. */
static uint64_t median_ns(const struct vcpu *v)
{
	uint64_t seen = 0;
	unsigned int n = 0;

	while (n < 63 && 2 * (seen += v->npf_times[n]) < v->exits[EXIT_NPF])
		n++;
	return 2ull << n;
}

static void report_exits(void)
{
	for (unsigned int i = 0; i < nr_vcpus; i++) {
		const struct vcpu *v = &vcpus[i];

		say("vcpu %u: entries %lu, npf %lu, kick %lu, apic %lu, io %lu, cpuid %lu, msr %lu, "
		    "call %lu, other %lu; events put back %lu; flushes %lu",
		    i, v->entries, v->exits[EXIT_NPF], v->exits[EXIT_KICK], v->exits[EXIT_APIC],
		    v->exits[EXIT_IO], v->exits[EXIT_CPUID], v->exits[EXIT_MSR],
		    v->exits[EXIT_CALL], v->exits[EXIT_OTHER], v->reinjected, v->flushes);
		if (v->exits[EXIT_NPF])
			say("vcpu %u: half of the faults are answered within %lu ns, all took %lu ms",
			    i, median_ns(v), v->npf_tsc / tsc_per_ms);
	}
}

static void report_library(void)
{
	struct tpt_vm_stats s;
	struct tpt_bare_stats b;

	tpt_vm_get_stats(vm, &s);
	tpt_bare_get_stats(bare, &b);
	say("faults: pf_taken %lu, pf_fixed %lu, pf_fast %lu, pf_spurious %lu, pf_retry %lu, "
	    "pf_emulate %lu, pf_error %lu",
	    s.vcpus.pf_taken, s.vcpus.pf_fixed, s.vcpus.pf_fast, s.vcpus.pf_spurious,
	    s.vcpus.pf_retry, s.vcpus.pf_emulate, s.vcpus.pf_error);
	say("direct: pages_4k %lu, pages_2m %lu, pages_1g %lu, tables %lu, nx_lpage_splits %lu",
	    s.direct.pages_4k, s.direct.pages_2m, s.direct.pages_1g, s.direct.tables,
	    s.nx_lpage_splits);
	if (options.td)
		say("private: pages_4k %lu, pages_2m %lu, tables %lu; calls: link %lu, map %lu, block "
		    "%lu, track %lu, remove %lu, split %lu, merge %lu",
		    s.mirror.pages_4k, s.mirror.pages_2m, s.mirror.tables,
		    s.vcpus.external_calls[TPT_CALL_LINK], s.vcpus.external_calls[TPT_CALL_MAP],
		    s.vcpus.external_calls[TPT_CALL_BLOCK], s.vcpus.external_calls[TPT_CALL_TRACK],
		    s.vcpus.external_calls[TPT_CALL_REMOVE], s.vcpus.external_calls[TPT_CALL_SPLIT],
		    s.vcpus.external_calls[TPT_CALL_MERGE]);
	say("flushes: remote_tlb_flush %lu, zap_all_fast %lu, exclusive %lu; platform: IPIs %lu, table "
	    "pages %lu of %lu at most, objects %lu bytes",
	    s.remote_tlb_flush, s.zap_all_fast, s.exclusive, b.ipis, b.pages_peak, b.pages,
	    b.mem_bytes);
	say("house: dirty %lu rounds %lu pages, age %lu, split %lu, zap %lu, slots %lu",
	    rounds_dirty, pages_dirty, rounds_age, rounds_split, rounds_zap, rounds_slots);
}

/* What was copied as the dirty log said is what is there: nothing was missed. */
static bool copy_is_equal(void)
{
	const uint64_t *was = phys(0), *is = phys(spare.start);

	copy_dirty();
	for (uint64_t i = 0; i < own.start / 8; i++) {
		if (was[i] == is[i])
			continue;
		say("dirty log: %lx was written and not told: %lx, copied as %lx", i * 8, was[i],
		    is[i]);
		return false;
	}
	say("dirty log: a copy made of it alone, %lu pages, equals the guest's memory",
	    own.start / TPT_PAGE_SIZE);
	return true;
}

static void stop_vcpus(void)
{
	for (unsigned int i = 0; i < nr_vcpus; i++) {
		while (!atomic_load(&vcpus[i].parked)) {
			vcpu_ask(&vcpus[i], ASK_STOP);
			wait_us(1000);
		}
	}
}

/* Tears everything down, to see that all of it comes back. */
static const char *take_down(void)
{
	struct tpt_bare_stats b;

	tpt_vm_destroy(vm);
	tpt_bare_get_stats(bare, &b);
	if (b.pages_live || b.mem_live || b.misuses) {
		say("platform: table pages %lu, objects %lu were not given back, misuses %lu",
		    b.pages_live, b.mem_live, b.misuses);
		return "the library kept something, or misused its platform";
	}
	return NULL;
}

static const char *judge(void)
{
	if (ending.kind == END_BAD)
		return ending.why;
	if (tpt_vm_is_dead(vm))
		return tpt_vm_report(vm);
	if (audit())
		return "the audit of the tables";
	if (options.dirty && !copy_is_equal())
		return "the dirty log";
	return take_down();
}

static void do_end(void) __attribute__((noreturn));
static void do_end(void)
{
	const char *wrong;

	stop_vcpus();
	report_exits();
	report_library();
	wrong = judge();
	if (wrong)
		say("result: bad: %s", wrong);
	else
		say("result: good");
	switch (wrong ? END_BAD : ending.kind) {
	case END_POWER_OFF:
		outw(acpi_power_port, (uint16_t)ending.value);
		break;
	case END_EXIT:
		outb(HV_PORT_EXIT, (uint8_t)ending.value);
		break;
	case END_RESET:
		outb(PORT_RESET, RESET_NOW | 2); /* of all, not of the processor alone */
		break;
	case END_BAD:
		outb(HV_PORT_EXIT, BAD_STATUS);
	}
	for (;;)
		cpu_halt();
}

void machine_end(enum end_kind kind, uint32_t value, const char *why)
{
	uint32_t no = 0;

	if (atomic_compare_exchange_strong(&ended, &no, 1)) {
		ending = (struct ending){kind, value, why};
		atomic_store(&ended, 2);
	}
	if (!this_cpu()->vcpu)
		do_end();
	vcpu_park(this_cpu()->vcpu);
}

/* ---- the loop ---- */

static void run_jobs(void)
{
	for (size_t i = 0; i < sizeof(jobs) / sizeof(jobs[0]); i++) {
		struct job *j = &jobs[i];

		if (!*j->period || now_ms() < j->next)
			continue;
		j->run();
		j->next = now_ms() + *j->period;
	}
}

/* Who sleeps over what he was asked: the NMI came just before he fell asleep. */
static void kick_sleepers(void)
{
	for (unsigned int i = 0; i < nr_vcpus; i++)
		if (atomic_load(&vcpus[i].asked))
			vcpu_kick(&vcpus[i]);
}

void housekeeper_init(void)
{
	if (options.dirty)
		told = phys(page_take(8 * tpt_dirty_words(own.start / TPT_PAGE_SIZE)));
}

void housekeeper_loop(void)
{
	nx_period = options.nx ? NX_PERIOD_MS : 0;
	started_ms = now_ms();
	for (size_t i = 0; i < sizeof(jobs) / sizeof(jobs[0]); i++)
		jobs[i].next = started_ms + *jobs[i].period;
	if (options.dirty)
		memcpy(phys(spare.start), phys(0), own.start);
	apic_tick(TICK_MS);
	while (atomic_load(&ended) != 2) {
		cpu_sleep();
		run_jobs();
		kick_sleepers();
		while (tpt_bare_run_deferred(bare))
			;
	}
	do_end();
}
