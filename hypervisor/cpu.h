/* SPDX-License-Identifier: BSD-2-Clause */
/* Instructions that C has no words for, and the numbers that go with them. Decides nothing. */
#ifndef HYPERVISOR_CPU_H
#define HYPERVISOR_CPU_H

#include <stdint.h>

/* MSRs: APM vol. 2, appendix A. */
#define MSR_APIC_BASE  0x0000001bu
#define MSR_X2APIC     0x00000800u /* to 8ffh */
#define MSR_EFER       0xc0000080u
#define MSR_GS_BASE    0xc0000101u
#define MSR_SMM_BASE   0xc0010111u
#define MSR_SMM_MASK   0xc0010113u
#define MSR_VM_CR      0xc0010114u
#define MSR_VM_HSAVE   0xc0010117u
#define EFER_SCE       (1ull << 0)
#define EFER_LME       (1ull << 8)
#define EFER_LMA       (1ull << 10)
#define EFER_NXE       (1ull << 11)
#define EFER_SVME      (1ull << 12)
#define EFER_FFXSR     (1ull << 14)
#define VM_CR_SVMDIS   (1ull << 4)
#define APIC_BASE_X2   (1ull << 10)
#define APIC_BASE_ON   (1ull << 11)
#define APIC_BASE_ADDR 0x000ffffffffff000ull

/* Leaf 8000_0001h, ECX. */
#define CPUID_EXT_SVM (1u << 2)

#define CR0_PE	    (1ull << 0)
#define CR0_ET	    (1ull << 4)
#define CR0_PG	    (1ull << 31)
#define CR4_PSE	    (1ull << 4)
#define CR4_PAE	    (1ull << 5)
#define CR4_LA57    (1ull << 12)
#define CR4_OSXSAVE (1ull << 18)

/* Exception vectors: APM vol. 2, "Exceptions and Interrupts". */
#define VECTOR_NMI 2
#define VECTOR_BP  3
#define VECTOR_OF  4
#define VECTOR_UD  6
#define VECTOR_GP  13

struct cpuid {
	uint32_t a, b, c, d;
};

static inline struct cpuid cpuid(uint32_t leaf, uint32_t sub)
{
	struct cpuid r;

	__asm__ volatile("cpuid"
			 : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d)
			 : "a"(leaf), "c"(sub));
	return r;
}

static inline uint64_t rdmsr(uint32_t msr)
{
	uint32_t low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
	return (uint64_t)high << 32 | low;
}

static inline void wrmsr(uint32_t msr, uint64_t value)
{
	__asm__ volatile("wrmsr"
			 :
			 : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
			 : "memory");
}

static inline uint64_t rdtsc(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

static inline uint8_t inb(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline void outb(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint16_t inw(uint16_t port)
{
	uint16_t value;

	__asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline void outw(uint16_t port, uint16_t value)
{
	__asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint32_t inl(uint16_t port)
{
	uint32_t value;

	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline void outl(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static inline void cpu_pause(void)
{
	__asm__ volatile("pause" : : : "memory");
}

/* Interrupts on, and asleep until one comes: none can slip in between (STI's shadow). */
static inline void cpu_sleep(void)
{
	__asm__ volatile("sti; hlt; cli" : : : "memory");
}

static inline void cpu_halt(void)
{
	__asm__ volatile("hlt" : : : "memory");
}

/* Global interrupt flag: APM vol. 2, "Global Interrupt Flag, STGI and CLGI Instructions". */
static inline void cpu_clgi(void)
{
	__asm__ volatile("clgi" : : : "memory");
}

static inline void cpu_stgi(void)
{
	__asm__ volatile("stgi" : : : "memory");
}

static inline void write_cr3(uint64_t cr3)
{
	__asm__ volatile("mov %0, %%cr3" : : "r"(cr3) : "memory");
}

static inline uint64_t read_cr2(void)
{
	uint64_t cr2;

	__asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
	return cr2;
}

#endif
