/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The VM and its vCPUs: who owns which room's state, and every operation that spans rooms. Knows
 * no entry word and makes no external call by itself.
 */
#ifndef MMU_VM_H
#define MMU_VM_H

#include <triptych/nx.h>
#include <triptych/stats.h>
#include <triptych/vm.h>

#include "mmu/range/range.h"

/* Entries of a page-modification log (SDM "Page-Modification Logging"). */
#define PML_ENTRIES 512

/* Threads that may walk in shared sections at one time; more wait for their turn. */
#define VM_WORKERS 4

struct tpt_vm {
	struct vm_base base;
	struct trees trees;
	struct slots slots;
	struct fault_env env;
	uint32_t flags;			   /* TPT_VM_* */
	uint32_t ring_size, ring_reserved; /* of each vCPU's dirty ring; 0: there are none */
	enum tpt_nx_mode nx_mode;
	bool nx_disabled; /* whatever the mode */
	bool updating;	  /* exclusive section: a structural operation is between two chunks */
	struct tpt_vcpu *vcpus;
	struct actor worker[VM_WORKERS];
	_Atomic uint32_t worker_busy[VM_WORKERS];
	uint64_t nr_invalidations, nr_zap_all_fast;
};

struct tpt_vcpu {
	struct fault_vcpu fault;
	struct tpt_vm *vm;
	uint32_t id;
	tpt_hpa direct_root, mirror_root; /* as last loaded */
	struct tpt_vcpu *next;
};

/*
 * Structural operations (slots, conversions, holes, teardown) are one at a time, also while one of
 * them has left the exclusive section between two chunks. begin() enters the section; -ERR_IO: the
 * VM is dead or torn down, nothing is entered.
 */
int update_begin(struct tpt_vm *vm);
/* The same for the VM's end: enters whatever state the VM is in. */
void update_enter(struct tpt_vm *vm);
/* Leaves and enters the exclusive section again while the update goes on. */
void update_give_way(struct tpt_vm *vm);
void update_take_back(struct tpt_vm *vm);
void update_end(struct tpt_vm *vm);

/* Runs a zap to its end, giving way between chunks. Exclusive section, left and entered again. */
int zap_all_chunks(struct tpt_vm *vm, struct zap *zap);

/* Invalidates every direct root. Exclusive section. */
void zap_direct_roots(struct tpt_vm *vm);
/* The same as KVM's zap-all-fast: counted and told. Exclusive section. */
void zap_all_fast(struct tpt_vm *vm);

/* Waits until every detached table is freed. No section. */
void wait_deferred(struct tpt_vm *vm);

/* ---- worker.c ---- */

/*
 * Walks in shared sections by threads that are no vCPU: they wait for their turn, and for an
 * exclusive section to end, but hold nobody up. worker_enter() and worker_leave() bracket one
 * chunk.
 */
void workers_init(struct tpt_vm *vm);
struct actor *worker_get(struct tpt_vm *vm);
void worker_put(struct tpt_vm *vm, struct actor *worker);
void worker_enter(struct actor *worker);
void worker_leave(struct actor *worker);

/* ---- nx.c ---- */

/* Are NX huge pages on, by mode, processor and the VM's own say? */
bool nx_is_on(const struct tpt_vm *vm);

/* ---- track.c ---- */

/* The slot is about to go: device models forget what they tracked in it. Exclusive section. */
void track_slot_gone(struct tpt_vm *vm, const struct memslot *slot);

/* ---- dirty.c ---- */

/* LOG_DIRTY of the slot was switched: its entries must be watched from now on, or need not be any
 * more. An update is under way; no section. */
int dirty_log_on(struct tpt_vm *vm, const struct memslot *slot);
int dirty_log_off(struct tpt_vm *vm, const struct memslot *slot);

/* What is taken from an entry so that the next write to it is told. */
enum tree_rule dirty_rule(const struct tpt_vm *vm);

#endif
