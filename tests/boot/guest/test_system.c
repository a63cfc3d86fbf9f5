// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a guest may know of the machine below. No memory is tested here.
 */
#include "tests/boot/guest/probe.h"

#define CPUID_EXTENDED 0x80000001u
#define ECX_SVM	       (1u << 2)

static void svm_is_hidden(void)
{
	uint64_t efer = rdmsr(MSR_EFER);

	expect(!(cpuid(CPUID_EXTENDED).ecx & ECX_SVM), "CPUID shows SVM");
	expect(!(efer & EFER_SVME), "EFER.SVME reads 1");
	expect(probe_wrmsr(MSR_EFER, efer | EFER_SVME) == VECTOR_GP, "EFER.SVME can be set");
	expect(probe_wrmsr(MSR_EFER, efer) == NO_FAULT, "EFER can't be written as it was read");
	expect(rdmsr(MSR_EFER) == efer, "EFER was %lx, is %lx", efer, rdmsr(MSR_EFER));
}

static void unknown_calls_are_refused(void)
{
	const int64_t enosys = 38;

	expect(hv_call(0, 0, 0, 0).rax == (uint64_t)-enosys, "call 0 is answered");
	expect(hv_call(~0ull, 0, 0, 0).rax == (uint64_t)-enosys, "call -1 is answered");
}

static void plain_memory_is_not_converted(void)
{
	const int64_t einval = 22;
	volatile uint64_t *word = (volatile uint64_t *)machine.free;

	*word = 1;
	expect(hv_call(HV_CALL_CONVERT, machine.free, PAGE, 0).rax == (uint64_t)-einval,
	       "made shared");
	expect(hv_call(HV_CALL_CONVERT, machine.free, PAGE, 1).rax == (uint64_t)-einval,
	       "made private");
	expect(*word == 1, "content lost");
}

const struct test system_tests[] = {
	{"system_svm_is_hidden", svm_is_hidden, NEEDS_HV},
	{"system_unknown_calls_are_refused", unknown_calls_are_refused, NEEDS_HV},
	{"system_plain_memory_is_not_converted", plain_memory_is_not_converted,
	 NEEDS_HV | NEEDS_PLAIN},
	{0},
};
