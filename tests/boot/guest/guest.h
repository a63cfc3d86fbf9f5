/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The test guest's parts, as they see each other: what was found at boot, the console, tests, CPUs,
 * interrupts, memory. Never a word of the hypervisor's beyond hypervisor/abi.h.
 */
#ifndef TESTS_BOOT_GUEST_GUEST_H
#define TESTS_BOOT_GUEST_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hypervisor/abi.h"
#include "tests/boot/guest/cpu.h"

#define PAGE	   4096ull
#define LARGE_PAGE 0x200000ull

/* ---- main.c: what this machine is ---------------------------------------------------------------
 */

struct machine {
	bool hv;		   /* there is a hypervisor below */
	unsigned int shared_bit;   /* of a GPA; 0: no private memory */
	unsigned int vcpus;	   /* as the hypervisor says, else as CPUID hints */
	unsigned int level;	   /* largest leaf below */
	bool quiet;		   /* faults can be counted */
	bool logs;		   /* written pages are logged */
	uint64_t hv_first, hv_end; /* the hypervisor's own memory */
	uint64_t free, free_end;   /* RAM that is the tests', from a 2 MiB boundary to one */
	unsigned int rounds;	   /* how often the long tests do it again */
};

extern struct machine machine;

static inline bool is_td(void)
{
	return machine.shared_bit != 0;
}

/* ---- console.c ----------------------------------------------------------------------------------
 */

#define PRINTF(fmt) __attribute__((format(printf, fmt, fmt + 1)))

void console_init(void);
/* %s %c %d %u %x, with l for 64 bits. */
PRINTF(1) void print(const char *fmt, ...);
void print_into(char *text, size_t bytes, const char *fmt, __builtin_va_list args);

/* ---- main.c: tests ------------------------------------------------------------------------------
 */

enum need {
	NEEDS_NOTHING = 0,
	NEEDS_HV = 1,	  /* there is nothing to test on a bare machine */
	NEEDS_TD = 2,	  /* private memory */
	NEEDS_PLAIN = 4,  /* none of it */
	NEEDS_CPUS = 8,	  /* two of them */
	NEEDS_QUIET = 16, /* countable faults */
	NEEDS_LOG = 32,	  /* a log of written pages */
};

/* The name is the behaviour. A table of tests ends with one that has none. */
struct test {
	const char *name;
	void (*run)(void);
	unsigned int needs;
};

extern const struct test system_tests[], memory_tests[], code_tests[], interrupt_tests[],
	fence_tests[], smp_tests[], td_tests[], time_tests[];

/* False fails the running test, with the text if it's the first; returns @ok. On any CPU. */
PRINTF(2) bool expect(bool ok, const char *what, ...);
/* The test can't go on, nor any other: says so, ends the machine. */
PRINTF(1) _Noreturn void panic(const char *why, ...);

/* ---- smp.c: CPUs --------------------------------------------------------------------------------
 */

#define MAX_CPUS   8
#define TRAMPOLINE 0x8000ull

/* What came of an instruction that may fault: vector, or NO_FAULT. */
#define NO_FAULT (-1)
struct fault {
	int vector;
	uint64_t error, cr2;
};

typedef void work_fn(void *arg);

/* GS points to it. boot.S knows nothing of it; PROBE in probe.h knows the first three places. */
struct cpu {
	struct cpu *self;
	uint64_t fixup;	    /* where to go on after an exception; 0: it's fatal */
	uint64_t fixup_rsp; /* the stack there */
	struct fault fault;
	unsigned int id;		/* in the order of arrival, 0 the first */
	unsigned int apic_id;		/* see apic.c */
	volatile uint32_t arrived[256]; /* by vector */
	work_fn *volatile work;
	void *arg;
};

static inline struct cpu *this_cpu(void)
{
	struct cpu *cpu;

	__asm__ volatile("movq %%gs:0, %0" : "=r"(cpu));
	return cpu;
}

extern struct cpu cpus[MAX_CPUS];

/* Wakes all others; those that came in time are counted. */
void smp_start(void);
unsigned int smp_count(void);
/* Starts @work on another CPU; waits for its end. One that doesn't come back is a panic. */
void smp_begin(unsigned int id, work_fn *work, void *arg);
void smp_end(unsigned int id);
bool smp_working(unsigned int id);

struct spinlock {
	volatile uint32_t held;
};

static inline void spin_lock(struct spinlock *lock)
{
	while (__atomic_exchange_n(&lock->held, 1, __ATOMIC_ACQUIRE))
		cpu_pause();
}

static inline void spin_unlock(struct spinlock *lock)
{
	__atomic_store_n(&lock->held, 0, __ATOMIC_RELEASE);
}

/* ---- interrupt.c --------------------------------------------------------------------------------
 */

struct gate;
struct tss;

/* Where the processor finds what it needs to deliver an interrupt. */
struct tables {
	struct gate *idt; /* 256 */
	uint64_t *gdt;	  /* GDT_ENTRIES */
	struct tss *tss;
	uint64_t stack; /* top of the stack of all handlers; 0: the one that is interrupted */
};
#define GDT_ENTRIES 6

/* Fills and loads them. */
void tables_load(const struct tables *tables);
/* The tables in the image, this CPU's own. */
void tables_load_home(void);

/* ---- apic.c: the local APIC ---------------------------------------------------------------------
 */

#define VECTOR_IPI   0x40u
#define VECTOR_TIMER 0x50u

void apic_init(void);
uint64_t apic_address(void); /* virtual, as this kind of machine has to reach it */
uint32_t apic_read(unsigned int reg);
void apic_write(unsigned int reg, uint32_t value);
void apic_eoi(void);
void apic_wake_others(unsigned int page);
void apic_send(unsigned int id, unsigned int vector);
void apic_send_self(unsigned int vector);
void apic_timer_once(uint32_t count);
void apic_timer_periodic(uint32_t count);
void apic_timer_stop(void);

/* ---- memory.c -----------------------------------------------------------------------------------
 */

/* Maps shared memory at its window, in a TD. */
void memory_init(void);
/* Virtual address of the shared alias of @gpa, below 4 GiB. TD only. */
uint64_t shared_address(uint64_t gpa);
/*
 * Memory that the hypervisor's zaps reach, at @gpa of the free RAM: all of it in a plain VM (and on
 * a bare machine), shared memory in a TD, where it's converted. Content is undefined. Returns where
 * to find it; close_memory() makes it private again.
 */
void *open_memory(uint64_t gpa, uint64_t bytes);
void close_memory(uint64_t gpa, uint64_t bytes);
/* Converts, TD only. */
void convert(uint64_t gpa, uint64_t bytes, bool private);
/* GPA of opened memory as HV_CALL_LOOKUP wants it. */
uint64_t open_gpa(uint64_t gpa);
void zap_all(void); /* nothing on a bare machine */

/* Maps @entry, in a table of @level (1 to 4), to an address of its own, which it returns. */
uint64_t scratch_map(unsigned int level, uint64_t entry);

/* 8-byte words that differ by seed and place. Lengths in bytes, multiples of 8. */
void fill(void *at, size_t bytes, uint64_t seed);
/* Offset of the first byte that isn't what fill() wrote; @bytes if there is none. */
size_t first_wrong(const void *at, size_t bytes, uint64_t seed);
size_t first_nonzero(const void *at, size_t bytes);
/* expect() over one of them. */
bool expect_filled(const void *at, size_t bytes, uint64_t seed, const char *what);

/* The next of a sequence that is the same each time; *state isn't 0. */
uint64_t random_next(uint64_t *state);

void *memcpy(void *to, const void *from, size_t bytes);
void *memset(void *to, int byte, size_t bytes);

#endif
