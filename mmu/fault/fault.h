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
#include "mmu/tree/walk.h"

/* What faults need to know of their VM. */
struct fault_env {
	struct vm_base *base;
	struct trees *trees;
	struct slots *slots;
	const struct tpt_backing_ops *backing;
	void *backing_ctx;
	uint64_t gpa_reserved; /* bits that no GPA has, the shared bit is none of them */
	uint64_t pfn_reserved; /* bits that no PFN has */
	uint64_t code_refused; /* bits that no error code has */
	uint64_t code_unusual; /* these, and others that fault_handle() must see */
	uint64_t gfn_mask;     /* all but the shared bit */
	bool unusual;	       /* all faults are for fault_handle() from the start */
	uint64_t shared_gfn;   /* the shared bit as a GFN bit; 0: there is none */
	bool has_mirror;
	bool private_memory; /* has_mirror, or private by attribute alone */
	bool ignore_guest_pat;
	bool noncoherent_dma;  /* written in the exclusive section */
	bool ended;	       /* the guest's life is over; written in the exclusive section */
	bool prefault_allowed; /* written in the exclusive section */
	/* A young 4K leaf over memory, but for its frame: [1] writable, [0] not; fault_words_init()
	 */
	uint64_t leaf_word[2];
	enum tpt_level max_leaf_level;
	enum tpt_level max_private_level; /* that a fault maps in a mirror */
	enum tpt_level max_merge_level;	  /* that private leaves can be merged to; at least that */
	uint32_t zap_chunk;		  /* private mappings a chunk of two-phase removal */
	struct tree_hint zap_hint;	  /* who zaps page by page; exclusive section */
};

/* A vCPU as this room sees it. All of it but the actor's first line is the vCPU thread's own. */
struct fault_vcpu {
	struct actor actor;
	struct fault_env *env;
	bool smm;
	uint32_t root_generation; /* of the roots that the vCPU knows; 0: it knows none */
	/* Of 4K, of 4K, of 2M; the direct ones are of the address space that the vCPU is in. */
	struct tree_hint direct_hint, mirror_hint, huge_hint;
	struct slot_cache slot_cache;
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

/* Bits that an error code may have. */
#define FAULT_CODE_KNOWN                                                                           \
	(TPT_PFERR_PRESENT | TPT_PFERR_WRITE | TPT_PFERR_USER | TPT_PFERR_RSVD | TPT_PFERR_FETCH | \
	 TPT_PFERR_GUEST_FINAL | TPT_PFERR_GUEST_PAGE | TPT_PFERR_PRIVATE)

/* What the processor said of the access. */
static inline bool fault_writes(const struct tpt_fault *fault)
{
	return fault->error_code & TPT_PFERR_WRITE;
}

static inline bool fault_fetches(const struct tpt_fault *fault)
{
	return fault->error_code & TPT_PFERR_FETCH;
}

static inline bool fault_was_present(const struct tpt_fault *fault)
{
	return fault->error_code & TPT_PFERR_PRESENT;
}

static inline bool fault_met_reserved(const struct tpt_fault *fault)
{
	return fault->error_code & TPT_PFERR_RSVD;
}

/* What the access needs of an entry: TPT_ACC_*. */
static inline unsigned int fault_access(const struct tpt_fault *fault)
{
	return TPT_ACC_READ | (fault_writes(fault) ? TPT_ACC_WRITE : 0) |
	       (fault_fetches(fault) ? TPT_ACC_EXEC : 0);
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

/* tpt_vcpu_fault(). */
int fault_take(struct fault_vcpu *vcpu, struct tpt_fault *fault);
/* The same of a fault that nobody had: neither counted nor told. */
int fault_handle(struct fault_vcpu *vcpu, struct tpt_fault *fault);

/* ---- lookup.c ---- */

/* tpt_vcpu_lookup(). */
int fault_lookup(struct fault_vcpu *vcpu, tpt_gpa gpa, struct tpt_lookup *lookup);

/* ---- map.c ---- */

/* A vCPU whose roots are gone must load them again before its fault means anything. */
static inline bool roots_are_stale(const struct fault_vcpu *vcpu, const struct vm_base *base)
{
	return vcpu->root_generation !=
	       atomic_load_explicit(&((struct vm_base *)base)->roots, memory_order_acquire);
}

/*
 * Walks to the entry at fault->goal_level and links the tables that are missing. Shared section,
 * after a topup. CONTINUE: the iterator stands there; else how the fault ends.
 */
int fault_walk(struct fault_vcpu *vcpu, struct tpt_fault *fault, struct tree_iter *it);

/*
 * Installs the entry that @fault decided on: goal_level, pfn, map_writable; @slot NULL means MMIO.
 * Shared section of @turn, after a topup. RET_PF or a negative errno.
 */
int fault_map(struct fault_vcpu *vcpu, struct tpt_fault *fault, const struct memslot *slot,
	      bool device, uint64_t turn);

/* What env->leaf_word is made of has changed. Exclusive section, or nobody is there yet. */
void fault_words_init(struct fault_env *env);

/* The tree that the access is answered from. */
static inline enum tree_id fault_tree(const struct fault_env *env, const struct tpt_fault *fault)
{
	return fault->is_private && env->has_mirror ? TREE_MIRROR : tree_direct(fault->as_id);
}

/* Memory type of a leaf over a device's registers or over memory. */
uint64_t fault_memtype(const struct fault_env *env, bool device);

/* ---- accept.c ---- */

/*
 * The guest wants its private page in a leaf of fault->max_level at most, and a larger one is
 * there: splits it. No section, after a topup. FIXED, RETRY, or a negative errno.
 */
int fault_split_private(struct fault_vcpu *vcpu, struct tpt_fault *fault);

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

/* Could a leaf that is there be given back what the access wants? What KVM counts as fast. */
static inline bool fault_may_be_fast(const struct fault_env *env, const struct tpt_fault *fault)
{
	if (fault->is_private && env->has_mirror)
		return false;
	/* An aged leaf without A looks like none to the processor. */
	return fault_was_present(fault) ? fault_writes(fault) : env->trees->format.kept;
}

/*
 * There is a leaf already: it allows the access, or is given back a W that was taken for a dirty
 * log, or what aging took where the processor has no A. Shared section of @turn, roots not stale.
 * FIXED, SPURIOUS, or INVALID: not for this path.
 */
int fault_fast(struct fault_vcpu *vcpu, struct tpt_fault *fault, uint64_t turn);

/* ---- mmio.c ---- */

/* The processor met a reserved bit: is it a cached MMIO entry, and is that still right? Shared
 * section. EMULATE, RETRY, or INVALID: handle it as a fault like any other. */
int fault_cached_mmio(struct fault_vcpu *vcpu, const struct tpt_fault *fault);

/* Fills the exit record for an access that the VMM must do. */
int fault_emulate(struct fault_vcpu *vcpu, const struct tpt_fault *fault);

#endif
