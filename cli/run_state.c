// SPDX-License-Identifier: BSD-2-Clause
/* What a run is asked while it goes on: its VM, its counts so far, why it failed. Changes no VM. */
#include "cli/run.h"

#include <stdarg.h>

int run_fail(struct run *r, int err, const char *format, ...)
{
	va_list args;

	if (r->why[0])
		return err;
	va_start(args, format);
	vsnprintf(r->why, sizeof(r->why), format, args);
	va_end(args);
	return err;
}

struct tpt_vm *run_vm(struct run *r)
{
	return r->td ? simtd_vm(r->td) : sim_vm(r->sim);
}

void run_snap(struct run *r, struct run_snapshot *at)
{
	struct tpt_vm_stats s;

	tpt_vm_get_stats(run_vm(r), &s);
	*at = (struct run_snapshot){
		.taken = s.vcpus.pf_taken,
		.fixed = s.vcpus.pf_fixed,
		.fast = s.vcpus.pf_fast,
		.spurious = s.vcpus.pf_spurious,
		.retry = s.vcpus.pf_retry,
		.emulate = s.vcpus.pf_emulate,
		.flushes = s.remote_tlb_flush,
	};
	for (unsigned int i = 0; i < TPT_KICK_NR; i++)
		at->kicks += s.kick[i];
	for (unsigned int i = 0; i < TPT_CALL_NR; i++)
		at->calls += s.vcpus.external_calls[i];
	/* With threads: of vCPUs that go on meanwhile. */
	for (unsigned int i = 0; i < r->sc->vm.vcpus && !r->sc->threads; i++)
		at->accesses += r->vcpus[i].accesses + r->vcpus[i].mmio;
}
