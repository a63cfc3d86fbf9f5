/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The processor's instructions that C has no words for, a call to the hypervisor among them. No
 * state and no policy.
 */
#ifndef TESTS_BOOT_GUEST_CPU_H
#define TESTS_BOOT_GUEST_CPU_H

#include <stdint.h>

#define MSR_EFER    0xc0000080u
#define EFER_SVME   (1u << 12)
#define MSR_GS_BASE 0xc0000101u

/* Page-table entries: AMD64 APM vol. 2, 5.3. */
#define PTE_PRESENT 1ull
#define PTE_WRITE   2ull
#define PTE_LARGE   0x80ull
#define PTE_NX	    (1ull << 63)

struct cpuid {
	uint32_t eax, ebx, ecx, edx;
};

static inline struct cpuid cpuid(uint32_t leaf)
{
	struct cpuid r = {.eax = leaf};

	__asm__ volatile("cpuid" : "+a"(r.eax), "=b"(r.ebx), "+c"(r.ecx), "=d"(r.edx) : : "memory");
	return r;
}

static inline void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint8_t in8(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline uint64_t rdmsr(uint32_t msr)
{
	uint32_t low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
	return (uint64_t)high << 32 | low;
}

static inline void wrmsr(uint32_t msr, uint64_t value)
{
	__asm__ volatile("wrmsr"
			 :
			 : "a"((uint32_t)value), "d"((uint32_t)(value >> 32)), "c"(msr)
			 : "memory");
}

static inline uint64_t rdtsc(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

static inline uint64_t read_cr2(void)
{
	uint64_t value;

	__asm__ volatile("movq %%cr2, %0" : "=r"(value) : : "memory");
	return value;
}

static inline void invlpg(uint64_t va)
{
	__asm__ volatile("invlpg (%0)" : : "r"(va) : "memory");
}

static inline void cpu_pause(void)
{
	__asm__ volatile("pause" : : : "memory");
}

static inline void interrupts_on(void)
{
	__asm__ volatile("sti" : : : "memory");
}

static inline void interrupts_off(void)
{
	__asm__ volatile("cli" : : : "memory");
}

/* STI lets nothing in before the next instruction has begun: no interrupt can come before HLT. */
static inline void interrupts_on_and_halt(void)
{
	__asm__ volatile("sti; hlt" : : : "memory");
}

/* Answer of a VMMCALL, see hypervisor/abi.h. */
struct hv_answer {
	uint64_t rax, rdi, rsi;
};

static inline struct hv_answer hv_call(uint64_t number, uint64_t a, uint64_t b, uint64_t c)
{
	struct hv_answer r = {number, a, b};

	__asm__ volatile("vmmcall" : "+a"(r.rax), "+D"(r.rdi), "+S"(r.rsi) : "d"(c) : "memory");
	return r;
}

/* While @cond is false, for some seconds at most; its last value. */
#define A_WHILE 20000000000ull /* TSC cycles */
#define WAIT_UNTIL(cond)                                      \
	__extension__({                                       \
		uint64_t since_ = rdtsc();                    \
		while (!(cond) && rdtsc() - since_ < A_WHILE) \
			cpu_pause();                          \
		(cond);                                       \
	})

#endif
