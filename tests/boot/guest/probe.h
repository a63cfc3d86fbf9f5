/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Instructions that may fault: each returns the vector of the exception it met, or NO_FAULT. Error
 * code and CR2 are in this_cpu()->fault. What the exception means is the caller's.
 */
#ifndef TESTS_BOOT_GUEST_PROBE_H
#define TESTS_BOOT_GUEST_PROBE_H

#include "tests/boot/guest/guest.h"

#define VECTOR_DE 0
#define VECTOR_UD 6
#define VECTOR_GP 13
#define VECTOR_PF 14

_Static_assert(offsetof(struct cpu, fixup) == 8, "PROBE");
_Static_assert(offsetof(struct cpu, fixup_rsp) == 16, "PROBE");

/* An exception within goes on at label 1, with the stack as it is here: interrupt() sees to it. */
#define PROBE(instruction) \
	"movq $1f, %%gs:8\n\tmovq %%rsp, %%gs:16\n\t" instruction "\n1:\tmovq $0, %%gs:8\n\t"

static inline void probe_begin(void)
{
	this_cpu()->fault.vector = NO_FAULT;
}

static inline int probe_end(void)
{
	return this_cpu()->fault.vector;
}

static inline int probe_read8(uint64_t va, uint64_t *value)
{
	probe_begin();
	__asm__ volatile(PROBE("movq (%1), %0") : "+r"(*value) : "r"(va) : "memory");
	return probe_end();
}

static inline int probe_read1(uint64_t va)
{
	probe_begin();
	__asm__ volatile(PROBE("movb (%0), %%al") : : "r"(va) : "rax", "memory");
	return probe_end();
}

static inline int probe_write8(uint64_t va, uint64_t value)
{
	probe_begin();
	__asm__ volatile(PROBE("movq %1, (%0)") : : "r"(va), "r"(value) : "memory");
	return probe_end();
}

static inline int probe_write1(uint64_t va)
{
	probe_begin();
	__asm__ volatile(PROBE("movb $0x5a, (%0)") : : "r"(va) : "memory");
	return probe_end();
}

static inline int probe_xadd(uint64_t va)
{
	probe_begin();
	__asm__ volatile(PROBE("lock xaddq %1, (%0)") : : "r"(va), "r"(1ull) : "memory", "cc");
	return probe_end();
}

static inline int probe_copy(uint64_t to, uint64_t from, uint64_t bytes)
{
	probe_begin();
	__asm__ volatile(PROBE("rep movsb") : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
	return probe_end();
}

static inline int probe_call(uint64_t va)
{
	probe_begin();
	__asm__ volatile(PROBE("call *%0")
			 :
			 : "b"(va)
			 : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory",
			   "cc");
	return probe_end();
}

static inline int probe_wrmsr(uint32_t msr, uint64_t value)
{
	probe_begin();
	__asm__ volatile(PROBE("wrmsr")
			 :
			 : "a"((uint32_t)value), "d"((uint32_t)(value >> 32)), "c"(msr)
			 : "memory");
	return probe_end();
}

static inline int probe_undefined(void)
{
	probe_begin();
	__asm__ volatile(PROBE("ud2") : : : "memory");
	return probe_end();
}

static inline int probe_divide(uint32_t by)
{
	uint32_t low = 1, high = 0;

	probe_begin();
	__asm__ volatile(PROBE("divl %2") : "+a"(low), "+d"(high) : "r"(by) : "memory", "cc");
	return probe_end();
}

#endif
