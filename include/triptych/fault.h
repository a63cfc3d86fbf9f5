/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The one door: a guest access that the tables could not answer, and what became of it.
 */
#ifndef TRIPTYCH_FAULT_H
#define TRIPTYCH_FAULT_H

#include <triptych/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct tpt_vcpu;

/*
 * Error code of a fault: bits 0 to 5 as in a page-fault error code (SDM vol. 3 "Page-Fault
 * Exceptions"; APM vol. 2 "#PF"), 32 and 33 as in EXITINFO1 of #VMEXIT(NPF), 49 as KVM's
 * PFERR_PRIVATE_ACCESS. Any other bit is reserved and answered with -EINVAL.
 */
#define TPT_PFERR_PRESENT     (1ull << 0)
#define TPT_PFERR_WRITE	      (1ull << 1)
#define TPT_PFERR_USER	      (1ull << 2)
#define TPT_PFERR_RSVD	      (1ull << 3)
#define TPT_PFERR_FETCH	      (1ull << 4)
#define TPT_PFERR_GUEST_FINAL (1ull << 32)
#define TPT_PFERR_GUEST_PAGE  (1ull << 33)
#define TPT_PFERR_PRIVATE     (1ull << 49)

/* Outcome of a fault; names and numbers are KVM's RET_PF_*. */
enum tpt_ret_pf {
	TPT_RET_PF_CONTINUE = 0,	/* inside the library only */
	TPT_RET_PF_RETRY = 1,		/* let the guest try the access again */
	TPT_RET_PF_EMULATE = 2,		/* MMIO: *exit says what; the VMM does the access */
	TPT_RET_PF_WRITE_PROTECTED = 3, /* the page is write-tracked: emulate */
	TPT_RET_PF_INVALID = 4,		/* inside the library only */
	TPT_RET_PF_FIXED = 5,		/* an entry was installed or changed */
	TPT_RET_PF_SPURIOUS = 6,	/* somebody else had fixed it already */
};

enum tpt_exit_reason {
	TPT_EXIT_NONE = 0,
	TPT_EXIT_MMIO,	       /* no memslot, or a write to a read-only one */
	TPT_EXIT_MEMORY_FAULT, /* private/shared mismatch, or no backing: KVM_EXIT_MEMORY_FAULT */
	TPT_EXIT_INTERNAL,     /* the VM is dead: tpt_vm_report() says why */
	TPT_EXIT_DIRTY_RING_FULL, /* collect and reset the vCPU's ring: KVM_EXIT_DIRTY_RING_FULL */
	TPT_EXIT_ASYNC_PF, /* the page is being fetched: tpt_vcpu_async_ready() when it is there */
};

#define TPT_MEMORY_FAULT_PRIVATE (1ull << 3) /* KVM_MEMORY_EXIT_FLAG_PRIVATE */

/*
 * What a VMM must act on. Valid after a fault that returned EMULATE or a negative errno, and after
 * RETRY, where the reason is NONE or ASYNC_PF.
 */
struct tpt_exit {
	enum tpt_exit_reason reason;
	tpt_gpa gpa;	 /* MMIO, ASYNC_PF: as accessed; MEMORY_FAULT: of the page, no shared bit */
	uint64_t size;	 /* MEMORY_FAULT: bytes concerned */
	uint64_t token;	 /* ASYNC_PF: for tpt_vcpu_async_ready(); equal for equal accesses */
	uint64_t flags;	 /* MEMORY_FAULT: TPT_MEMORY_FAULT_* */
	uint32_t access; /* TPT_ACC_* of the access */
};

/*
 * A fault. The caller fills the first part; the library fills the rest, whatever the outcome.
 */
struct tpt_fault {
	/* in */
	tpt_gpa gpa;	     /* as the processor reported it, shared bit included */
	uint64_t error_code; /* TPT_PFERR_* */
	bool prefetch;	     /* not an access of the guest: no A bit, no exit record */
	/* Caller's cap, e.g. of an ACCEPT; NONE = no cap. A larger leaf that is there already
	 * stays, but for one of a mirror under an access of the guest (no prefetch): that is split.
	 */
	enum tpt_level max_level;

	/* out: how it was understood */
	bool is_private;
	tpt_gfn gfn; /* shared bit removed */
	uint32_t as_id;
	int32_t slot; /* id of the memslot, -1 if there is none */

	/* out: what was decided; NONE and 0 where it did not come to that */
	tpt_pfn pfn; /* first frame of the entry at goal_level */
	bool map_writable;
	enum tpt_level req_level;  /* largest level that slot, attributes and backing permit */
	enum tpt_level goal_level; /* level of the entry that was installed, wanted, or there */
	tpt_spte spte;		   /* FIXED: the entry installed */
	uint32_t tables_linked;	   /* table pages this fault linked */
};

/*
 * Handles a fault of @vcpu. Runs on that vCPU's thread; any number of vCPUs at once. May sleep in
 * the platform's allocator and in the backing, never waits inside the library, but to split a
 * private leaf (max_level), which takes the VM's exclusive section. Returns TPT_RET_PF_*
 * above 0, or: -EINVAL (reserved error-code bits, GPA wider than the VM's, private access in a VM
 * without private memory), -EFAULT and -EHWPOISON (exit MEMORY_FAULT), -ENOMEM, -EINTR, -EIO (VM
 * dead), -ENOSPC (exit DIRTY_RING_FULL: not even the reserve is left). An error changes no entry.
 */
int tpt_vcpu_fault(struct tpt_vcpu *vcpu, struct tpt_fault *fault);

/*
 * Maps guest memory before the guest asks for it: KVM_PRE_FAULT_MEMORY. Each page of [gpa, gpa +
 * size) is mapped as a read would, private or shared as its attribute says, with no A bit. Bytes
 * done are told in *done (NULL is allowed) and counted by mappings: one that reaches past the end
 * is done to the end. 0 if any page was mapped, even if not all were; otherwise what stopped it:
 *  -EINVAL      gpa or size is no multiple of 4 KiB, the range is empty or wraps; gpa has the
 *               shared bit, or is wider than the VM's
 *  -EOPNOTSUPP  not yet: tpt_vm_allow_prefault()
 *  -ENOENT      no memslot is there
 *  -EAGAIN      the memslot is being deleted or moved, or something else is under way there
 *  others       as of tpt_vcpu_fault()
 * vCPU thread, outside of guest mode. Waits for exclusive sections; never for a memslot.
 */
int tpt_vcpu_prefault(struct tpt_vcpu *vcpu, tpt_gpa gpa, uint64_t size, uint64_t *done);

/*
 * The same for @npages from @gfn on at table speed, for accesses @access (TPT_ACC_READ, and WRITE
 * if the backing shall make the pages writable): ordinary memory is mapped by one walk and one pass
 * a leaf table, and the backing is asked by range. What is there already stays. *done counts
 * pages. Errors as tpt_vcpu_prefault(), and -EINVAL for another @access or frames beyond the VM's;
 * -ENOENT also for a write to a read-only memslot.
 */
int tpt_vcpu_premap(struct tpt_vcpu *vcpu, tpt_gfn gfn, uint64_t npages, uint32_t access,
		    uint64_t *done);

/*
 * The backing has fetched the page that a fault ended in TPT_EXIT_ASYNC_PF for: maps it before the
 * guest tries again. vCPU thread. FIXED, SPURIOUS, RETRY (the vCPU is in the other address space,
 * or somebody is at the entry: the guest's own fault will do), or a negative errno as of a fault;
 * -EINVAL: no such token. A token may be used late, twice or never.
 */
int tpt_vcpu_async_ready(struct tpt_vcpu *vcpu, uint64_t token);

/* What a vCPU's trees say of an address. */
struct tpt_lookup {
	tpt_spte spte;	      /* the last entry on its path */
	enum tpt_level level; /* that the entry is at; NONE: there is no root */
};

/*
 * Is @gpa mapped for @vcpu now, by a leaf? 1 or 0, and the last entry on its path in *lookup;
 * -EAGAIN: somebody is alone in the VM, try again; -EINVAL: wider than the VM's GPAs. A GPA without
 * the shared bit, in a VM that has one, is looked up in the mirror. vCPU thread; never waits. What
 * it says may be over when it returns.
 */
int tpt_vcpu_lookup(struct tpt_vcpu *vcpu, tpt_gpa gpa, struct tpt_lookup *lookup);

/* The exit record of the last fault. Valid until the vCPU's next call. */
const struct tpt_exit *tpt_vcpu_exit(const struct tpt_vcpu *vcpu);

/*
 * Error code for an EPT violation, from its exit qualification (SDM vol. 3 table "Exit
 * Qualification for EPT Violations"). PRIVATE is the caller's to add; a VM with a shared bit takes
 * it from the GPA and needs no such help.
 */
uint64_t tpt_pferr_from_ept(uint64_t exit_qualification);
/* Error code for an EPT misconfiguration: the mark of an MMIO entry. */
#define TPT_PFERR_EPT_MISCONFIG TPT_PFERR_RSVD
/* Error code for #VMEXIT(NPF), from EXITINFO1; bits the library has no use for are dropped. */
uint64_t tpt_pferr_from_npf(uint64_t exitinfo1);

#ifdef __cplusplus
}
#endif
#endif
