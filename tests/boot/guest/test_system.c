// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a guest may know of the machine below. No memory is tested here.
 */
#include "tests/boot/guest/probe.h"

#define CPUID_EXTENDED 0x80000001u
#define ECX_SVM	       (1u << 2)
#define VECTOR_GP      13

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
	const uint64_t enosys = 38;

	expect(hv_call(0, 0, 0, 0).rax == -enosys, "call 0 is answered");
	expect(hv_call(~0ull, 0, 0, 0).rax == -enosys, "call -1 is answered");
}

const struct test system_tests[] = {
	{"system_svm_is_hidden", svm_is_hidden, NEEDS_HV},
	{"system_unknown_calls_are_refused", unknown_calls_are_refused, NEEDS_HV},
	{0},
};
