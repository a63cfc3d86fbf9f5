/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From a fault to a decision to a map. The one door: everything that a guest's access can ask of
 * the tables comes through fault_handle(). Removes nothing and never walks more than one path.
 *
 *	section   which slot, private or shared, what is under way        -> retry, MMIO, exit
 *	   gap    what stands behind it (the backing may sleep)           -> retry, exit
 *	section   is all that still so?  link tables, install one entry   -> fixed, spurious, retry
 */
#ifndef MMU_FAULT_H
#define MMU_FAULT_H

#include <triptych/fault.h>

#include "mmu/slots/slots.h"
#include "mmu/tree/tree.h"

/* What faults need to know of their VM. */
struct fault_env {
	struct vm_base *base;
	struct trees *trees;
	struct slots *slots;
	const struct tpt_backing_ops *backing;
	void *backing_ctx;
	uint32_t gpa_bits;   /* guest-physical width, shared bit included */
	uint32_t maxphyaddr; /* host-physical width */
	uint64_t shared_gfn; /* the shared bit as a GFN bit; 0: there is none */
	bool has_mirror;
	bool private_memory; /* has_mirror, or private by attribute alone */
	bool ignore_guest_pat;
	bool noncoherent_dma;  /* written in the exclusive section */
	bool ended;	       /* the guest's life is over; written in the exclusive section */
	bool prefault_allowed; /* written in the exclusive section */
	enum tpt_level max_leaf_level, max_private_level;
	uint32_t zap_chunk; /* private mappings a chunk of two-phase removal */
};

/* A vCPU as this room sees it. All of it but the actor's first line is the vCPU thread's own. */
struct fault_vcpu {
	struct actor actor;
	struct fault_env *env;
	bool smm;
	bool loaded;		       /* the vCPU knows its roots */
	uint32_t root_generation;      /* of those */
	struct tree_detached detached; /* by the fault under way */
	struct dirty_ring *ring;       /* NULL: the slots' bitmaps say what it wrote */
	struct tpt_exit exit;
};

static inline uint32_t fault_as_id(const struct fault_vcpu *vcpu)
{
	return vcpu->smm;
}

/* The vCPU may write @gfn, or wrote it: in the slot's log, if it has one. Section. */
static inline void fault_mark_dirty(struct fault_vcpu *vcpu, const struct memslot *slot,
				    tpt_gfn gfn)
{
	if (!slot_logs_dirty(slot))
		return;
	/* No page is lost for the want of room. */
	if (!vcpu->ring || !ring_push(vcpu->ring, slot, gfn))
		slot_mark_dirty(slot, gfn);
}

/* What the access needs of an entry: TPT_ACC_*. */
static inline unsigned int fault_access(const struct tpt_fault *fault)
{
	return TPT_ACC_READ | (fault->write ? TPT_ACC_WRITE : 0) | (fault->exec ? TPT_ACC_EXEC : 0);
}

/*
 * An access as a token: the page's GPA, and below it what kind of access it was, in which address
 * space, and a mark that makes every token odd. It holds nothing that could grow stale.
 */
#define TOKEN_MARK  1ull
#define TOKEN_CODE  (TPT_PFERR_WRITE | TPT_PFERR_USER | TPT_PFERR_FETCH)
#define TOKEN_AS_ID (1ull << 6)

static inline uint64_t fault_token(const struct tpt_fault *fault)
{
	return (fault->gpa.a & ~(uint64_t)(TPT_PAGE_SIZE - 1)) | (fault->error_code & TOKEN_CODE) |
	       (fault->as_id ? TOKEN_AS_ID : 0) | TOKEN_MARK;
}

/* tpt_vcpu_fault() without its counters. */
int fault_handle(struct fault_vcpu *vcpu, struct tpt_fault *fault);

/* ---- map.c ---- */

/* A vCPU whose roots are gone must load them again before its fault means anything. */
static inline bool roots_are_stale(const struct fault_vcpu *vcpu)
{
	return !vcpu->loaded ||
	       vcpu->root_generation !=
		       atomic_load_explicit(&vcpu->env->trees->generation, memory_order_acquire);
}

/*
 * Walks to the entry at fault->goal_level and links the tables that are missing. Shared section,
 * after a topup. CONTINUE: the iterator stands there; else how the fault ends.
 */
int fault_walk(struct fault_vcpu *vcpu, struct tpt_fault *fault, struct tree_iter *it);

/*
 * Installs the entry that @fault decided on: goal_level, pfn, map_writable; @slot NULL means MMIO.
 * Shared section, after a topup. RET_PF or a negative errno.
 */
int fault_map(struct fault_vcpu *vcpu, struct tpt_fault *fault, const struct memslot *slot,
	      bool device);

/* Memory type of a leaf over a device's registers or over memory. */
uint64_t fault_memtype(const struct fault_env *env, bool device);

/* ---- prefault.c ---- */

/*
 * Maps what @gpa's page needs for an access with @error_code that the guest has not made, private
 * or shared as its attribute says. 0 and *next (first GFN behind the mapping), or a negative errno.
 * No section.
 */
int fault_prefault(struct fault_vcpu *vcpu, tpt_gpa gpa, uint64_t error_code, tpt_gfn *next);
/* Enters a shared section, however long somebody is alone. For who may wait. */
void fault_section_enter(struct fault_vcpu *vcpu);

/* ---- premap.c ---- */

/* Working memory of a premap: what the backing says, and what is made of it. */
struct premap {
	struct tpt_backing_run *run;
	struct tree_run *leaf;
	uint32_t room; /* of each */
	bool full;     /* out: with more room there would have been more of an answer */
};

/*
 * Maps some of [gfn, end), which is not empty, from @gfn on: of one leaf table at most, or one
 * mapping. 0 and *next, or a negative errno. No section.
 */
int fault_premap(struct fault_vcpu *vcpu, struct premap *work, tpt_gfn gfn, tpt_gfn end,
		 unsigned int access, tpt_gfn *next);

/* ---- fast.c ---- */

/*
 * Gives back a W that was taken for a dirty log, and what aging took where the processor has no A.
 * Shared section. FIXED, SPURIOUS, or INVALID: not for this path.
 */
int fault_fast(struct fault_vcpu *vcpu, struct tpt_fault *fault);

/* ---- mmio.c ---- */

/* The processor met a reserved bit: is it a cached MMIO entry, and is that still right? Shared
 * section. EMULATE, RETRY, or INVALID: handle it as a fault like any other. */
int fault_cached_mmio(struct fault_vcpu *vcpu, const struct tpt_fault *fault);

/* Fills the exit record for an access that the VMM must do. */
int fault_emulate(struct fault_vcpu *vcpu, const struct tpt_fault *fault);

#endif
