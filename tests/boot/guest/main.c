// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the machine is, which tests are wanted, and how they went. Tests nothing itself.
 */
#include <stdarg.h>

#include "tests/boot/guest/guest.h"

#define MULTIBOOT_LOADED 0x2badb002u
#define HAS_MEMORY	 1u
#define HAS_CMDLINE	 4u
#define FREE_MAX	 (64ull << 20)
#define FREE_MIN	 (16ull << 20)

struct multiboot {
	uint32_t flags, mem_lower, mem_upper /* KiB from 1 MiB */, boot_device, cmdline;
};

extern uint32_t boot_magic, boot_info;
extern char image_end[];
void guest_main(void);

struct machine machine;
static char cmdline[256];

static struct {
	const char *name;
	unsigned int passed, failed, skipped;
} run;

static struct spinlock failure_lock;
static char failure[160]; /* of the running test; the first */

bool expect(bool ok, const char *what, ...)
{
	va_list args;

	if (ok)
		return true;
	spin_lock(&failure_lock);
	if (!failure[0]) {
		va_start(args, what);
		print_into(failure, sizeof(failure), what, args);
		va_end(args);
	}
	spin_unlock(&failure_lock);
	return false;
}

static _Noreturn void end_machine(void)
{
	print("%u passed, %u failed, %u skipped\n", run.passed, run.failed, run.skipped);
	out8(HV_PORT_EXIT, run.failed || !run.passed);
	for (;;)
		cpu_pause();
}

void panic(const char *why, ...)
{
	char text[160];
	va_list args;

	interrupts_off();
	va_start(args, why);
	print_into(text, sizeof(text), why, args);
	va_end(args);
	print("FAIL %s: %s\n", run.name ? run.name : "boot", text);
	run.failed++;
	end_machine();
}

static bool same(const char *a, const char *b, size_t bytes)
{
	while (bytes && *a == *b)
		a++, b++, bytes--;
	return bytes == 0;
}

static size_t word_length(const char *word)
{
	size_t n = 0;

	while (word[n] && word[n] != ' ')
		n++;
	return n;
}

static bool is_wish(const char *word, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (word[i] == '=')
			return false;
	return length;
}

/* Loaders put the image's name first. */
static bool is_wanted(const char *name)
{
	bool wishes = false;
	size_t length = word_length(cmdline);

	for (const char *word = cmdline + length; *word; word += length + (word[length] == ' ')) {
		length = word_length(word);
		if (!is_wish(word, length))
			continue;
		if (same(word, name, length))
			return true;
		wishes = true;
	}
	return !wishes;
}

static unsigned int number_of(const char *key, unsigned int otherwise)
{
	size_t length;
	unsigned int n = 0;

	for (length = 0; key[length]; length++)
		;
	for (const char *at = cmdline; *at; at++) {
		if (!same(at, key, length))
			continue;
		for (at += length; *at >= '0' && *at <= '9'; at++)
			n = n * 10 + (unsigned int)(*at - '0');
		return n;
	}
	return otherwise;
}

static const char *why_not(unsigned int needs)
{
	if ((needs & NEEDS_HV) && !machine.hv)
		return "no hypervisor";
	if ((needs & NEEDS_TD) && !is_td())
		return "no private memory";
	if ((needs & NEEDS_PLAIN) && is_td())
		return "memory is private";
	if ((needs & NEEDS_CPUS) && smp_count() < 2)
		return "one CPU";
	if ((needs & NEEDS_QUIET) && !machine.quiet)
		return "faults can't be counted";
	if ((needs & NEEDS_LOG) && !machine.logs)
		return "no dirty log";
	return NULL;
}

static void run_test(const struct test *test)
{
	const char *why = why_not(test->needs);

	if (why) {
		print("SKIP %s: %s\n", test->name, why);
		run.skipped++;
		return;
	}
	failure[0] = 0;
	run.name = test->name;
	test->run();
	if (failure[0]) {
		print("FAIL %s: %s\n", test->name, failure);
		run.failed++;
	} else {
		print("PASS %s\n", test->name);
		run.passed++;
	}
	run.name = NULL;
}

static void run_tests(void)
{
	static const struct test *const tables[] = {system_tests,    memory_tests, code_tests,
						    interrupt_tests, fence_tests,  smp_tests,
						    td_tests,	     time_tests};

	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		for (const struct test *test = tables[i]; test->name; test++)
			if (is_wanted(test->name))
				run_test(test);
}

static bool find_hypervisor(void)
{
	struct cpuid c = cpuid(HV_CPUID);
	uint32_t signature[3];

	memcpy(signature, HV_CPUID_SIGNATURE, sizeof(signature));
	return c.ebx == signature[0] && c.ecx == signature[1] && c.edx == signature[2];
}

static void ask_hypervisor(void)
{
	struct hv_answer info;

	machine.vcpus = cpuid(1).ebx >> 16 & 0xff;
	machine.hv = find_hypervisor();
	if (!machine.hv)
		return;
	info = hv_call(HV_CALL_INFO, 0, 0, 0);
	machine.shared_bit = HV_INFO_SHARED_BIT(info.rax);
	machine.vcpus = HV_INFO_VCPUS(info.rax);
	machine.level = HV_INFO_LEVEL(info.rax);
	machine.quiet = HV_INFO_QUIET(info.rax);
	machine.logs = HV_INFO_LOGS(info.rax);
	machine.hv_first = info.rdi;
	machine.hv_end = info.rsi;
}

/* The loader's words are copied before anything else is written: they lie wherever it liked. */
static void read_boot_info(void)
{
	const struct multiboot *info = (const struct multiboot *)(uintptr_t)boot_info;
	uint64_t end;

	if (boot_magic != MULTIBOOT_LOADED || !(info->flags & HAS_MEMORY))
		panic("not loaded by a multiboot loader that knows the memory");
	if (info->flags & HAS_CMDLINE) {
		const char *from = (const char *)(uintptr_t)info->cmdline;

		for (size_t i = 0; i < sizeof(cmdline) - 1 && from[i]; i++)
			cmdline[i] = from[i];
	}
	end = (1ull << 20) + ((uint64_t)info->mem_upper << 10);
	machine.free = ((uint64_t)image_end + LARGE_PAGE - 1) & -LARGE_PAGE;
	machine.free_end = end & -LARGE_PAGE;
	if (machine.free_end > machine.free + FREE_MAX)
		machine.free_end = machine.free + FREE_MAX;
	if (machine.free_end < machine.free + FREE_MIN)
		panic("16 MiB of free memory are needed, there are %lu KiB to %lx", end >> 10, end);
}

/* From cpu_main(), on CPU 0. */
void guest_main(void)
{
	console_init();
	read_boot_info();
	machine.rounds = number_of("rounds=", 2);
	ask_hypervisor();
	memory_init();
	apic_init();
	interrupts_on();
	smp_start();
	print("INFO cpus=%u\nINFO free_mib=%lu\n", smp_count(),
	      (machine.free_end - machine.free) >> 20);
	if (machine.hv)
		print("INFO shared_bit=%u\nINFO level=%u\n", machine.shared_bit, machine.level);
	run_tests();
	end_machine();
}
