/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A simulated host: the model processor, the library on it, and the wires between the two. Knows
 * no trace and no scenario, and never decides what a guest does.
 *
 *	guest access -> machine (walk, TLB) -> exit -> tpt_vcpu_fault() -> tables in machine memory
 *	library: flush, kick, hold -> machine; pages of tables <- machine memory
 */
#ifndef TRIPTYCH_CLI_SIM_H
#define TRIPTYCH_CLI_SIM_H

#include <triptych/posix.h>
#include <triptych/triptych.h>

#include "machine/machine.h"

#define SIM_MAX_VCPUS MACHINE_MAX_CPUS

/* Where table pages are taken from: far above the frames that recorded hosts have. */
#define SIM_TABLES_BASE	 (1ull << 44)
#define SIM_TABLES_BYTES (1ull << 36)

struct sim;

struct sim_config {
	/* The VM; platform and platform_ctx are the simulation's and ignored here. */
	struct tpt_vm_config vm;
	unsigned int nr_vcpus; /* 1 .. SIM_MAX_VCPUS */
	/* Physical memory for tables and, with an external table, its pages; 0, 0: the default. */
	uint64_t tables_base, tables_bytes;
	/* More regions of frames (machine_mem_alloc region 1, 2, ...). */
	struct machine_region regions[4];
	unsigned int nr_regions;
	/* Gets what the library logs; NULL: standard error. */
	void (*log)(void *ctx, enum tpt_log_level level, const char *text);
	void *log_ctx;
};

/* What one attempt of an access came to. */
struct sim_step {
	struct machine_result hw; /* the processor's answer */
	bool faulted;		  /* it could not translate, and the library was asked */
	int ret;		  /* if faulted: TPT_RET_PF_* or a negative errno */
	struct tpt_fault fault;	  /* if faulted */
};

/* 0, or a negative errno with a message in @why. The caller frees *out with sim_destroy(). */
int sim_create(struct sim **out, const struct sim_config *config, char *why, size_t why_size);
/*
 * The same in two steps, for what must exist before the VM does (a TD): the machine first, then
 * the VM on it. sim_start() takes the vm part of the configuration as it is then.
 */
int sim_prepare(struct sim **out, const struct sim_config *config, char *why, size_t why_size);
int sim_start(struct sim *sim, const struct tpt_vm_config *vm, char *why, size_t why_size);
/*
 * Destroys the VM and its platform; the machine stays, for who wants to see what is left in it.
 * Returns the number of rules that the platform saw broken, leaks included. Idempotent.
 */
uint64_t sim_stop(struct sim *sim);
/* Destroys everything. Returns what sim_stop() returned, or does. */
uint64_t sim_destroy(struct sim *sim);

struct machine *sim_machine(struct sim *sim);
struct tpt_vm *sim_vm(struct sim *sim);
struct tpt_vcpu *sim_vcpu(struct sim *sim, unsigned int vcpu);
struct tpt_posix *sim_posix(struct sim *sim);

/* Which address space a vCPU is in: 0, or 1 for SMM. */
int sim_set_address_space(struct sim *sim, unsigned int vcpu, uint32_t as_id);

/*
 * A TD's vCPUs stay inside it between accesses and are driven by somebody else (td.h): this is how
 * they hear of what the library asks of the platform. sim_step() and sim_access() then answer
 * -EPERM. Before sim_start().
 */
struct sim_td {
	/* Every vCPU must be out of the TD once. @reload: roots are gone, the next entry loads
	 * others. */
	void (*kick)(void *ctx, bool reload);
	/* No vCPU may be inside between hold(true) and hold(false). */
	void (*hold)(void *ctx, bool held);
	void *ctx;
};
void sim_set_td(struct sim *sim, const struct sim_td *td);

/*
 * One attempt of an access (kind: MACHINE_READ, ... as machine_access()) with at most one fault. 0,
 * or a negative errno if roots could not be loaded (-ENOSPC: the vCPU's dirty ring wants a reset).
 * With TPT_VM_PML the processor logs; each exit, and a reader of the dirty log, hands its log over.
 */
int sim_step(struct sim *sim, unsigned int vcpu, uint64_t gpa, unsigned int kind,
	     struct sim_step *step);
/* Attempts until the access is done, must be emulated, or fails: at most @tries. Returns the last
 * attempt's errno, -EAGAIN if tries ran out. *faults counts the faults it took. */
int sim_access(struct sim *sim, unsigned int vcpu, uint64_t gpa, unsigned int kind,
	       unsigned int tries, struct sim_step *last, unsigned int *faults);

/* The same for a store of @len bytes, which lie in one page and are in the machine's memory. */
int sim_write(struct sim *sim, unsigned int vcpu, uint64_t gpa, const void *buf, size_t len,
	      unsigned int tries, struct sim_step *last, unsigned int *faults);

/* The library's operations with the judge told what they promise. Results are the library's. */
int sim_set_memory_region(struct sim *sim, const struct tpt_memory_region *region);
int sim_invalidate(struct sim *sim, uint64_t hva_start, uint64_t hva_end);
int sim_set_private(struct sim *sim, tpt_gfn start, tpt_gfn end, bool private_, tpt_gfn *done);
int sim_zap_all_fast(struct sim *sim);

#endif
