/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A VM, its vCPUs, and the operations on the whole of it.
 */
#ifndef TRIPTYCH_VM_H
#define TRIPTYCH_VM_H

#include <triptych/event.h>
#include <triptych/external.h>
#include <triptych/memslot.h>
#include <triptych/platform.h>
#include <triptych/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct tpt_vm;
struct tpt_vcpu;

/* tpt_vm_config.flags */
/* Zap all direct roots when a memslot is deleted or moved (KVM_X86_QUIRK_SLOT_ZAP_ALL); otherwise
 * only what the slot maps. Not with an external table. */
#define TPT_VM_SLOT_ZAP_ALL (1u << 0)
/* EPT: ignore the guest's PAT (memory type WB, IPAT) while no non-coherent DMA is attached
 * (KVM_X86_QUIRK_IGNORE_GUEST_PAT). Not with an external table. */
#define TPT_VM_IGNORE_GUEST_PAT (1u << 1)
/* The processor self-snoops: needed for an external table. */
#define TPT_VM_SELF_SNOOP (1u << 2)
/* No cached MMIO entries: each MMIO access faults as not present. */
#define TPT_VM_NO_MMIO_CACHING (1u << 3)
/* The VM has private memory told apart by attribute, without a shared bit or an external table
 * (KVM_X86_SW_PROTECTED_VM): TPT_PFERR_PRIVATE says which an access is. */
#define TPT_VM_SW_PROTECTED (1u << 4)
/* Split huge pages when a dirty log is switched on or cleared, not at the first write
 * (kvm.eager_page_split). */
#define TPT_VM_EAGER_PAGE_SPLIT (1u << 5)
/* Dirty logs are cleared by tpt_vm_clear_dirty_log() (KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE), not
 * when they are read. */
#define TPT_VM_DIRTY_MANUAL (1u << 6)
/* A dirty log begins with every page dirty, and nothing is protected before it is cleared
 * (KVM_DIRTY_LOG_INITIALLY_SET). Needs DIRTY_MANUAL. */
#define TPT_VM_DIRTY_INITIALLY_SET (1u << 7)
/* EPT: the processor logs writes by itself; D is cleared instead of W, and tpt_vcpu_pml() is told.
 */
#define TPT_VM_PML (1u << 8)
/* EPT without accessed and dirty flags (EPTP bit 6 clear: roots are loaded so): what is written is
 * told by W alone. Not with PML. */
#define TPT_VM_NO_AD (1u << 9)
/* What vCPUs write is told by a ring of each vCPU's (dirty.h), not by the slots' bitmaps
 * (KVM_CAP_DIRTY_LOG_RING_ACQ_REL). Not with DIRTY_MANUAL. */
#define TPT_VM_DIRTY_RING (1u << 10)

/* The processor can be stopped for good by code in huge pages (iTLB multihit): see nx.h. */
#define TPT_VM_ITLB_MULTIHIT (1u << 11)

/* How a VM is made. */
struct tpt_vm_config {
	size_t size; /* sizeof(struct tpt_vm_config) */
	enum tpt_format format;
	uint32_t flags;	     /* TPT_VM_* */
	uint32_t levels;     /* levels of the trees: 4 or 5 */
	uint32_t maxphyaddr; /* host-physical width, 32 .. 52; bits above are reserved in entries */
	uint32_t guest_maxphyaddr; /* guest-physical width, 32 .. 52, shared bit included */
	uint32_t shared_bit; /* GPA bit that means shared: guest_maxphyaddr - 1; 0: no such bit */
	uint32_t address_spaces; /* 1, or 2: the second is SMM's. 1 with an external table */
	uint32_t max_leaf_level; /* enum tpt_level: largest leaf, 4K .. 1G */
	/* The same, for mirror leaves; above 4K only with external->split. 1G: faults map 2M at
	 * most, and larger ones come of those, by tpt_vm_private_recover() */
	uint32_t max_private_level;
	uint32_t zap_chunk; /* private mappings a chunk of two-phase removal; 0 = 512 */
	/* DIRTY_RING: entries of each vCPU's, a power of two, 256 (1024 with PML) to
	 * TPT_DIRTY_RING_MAX; else 0 */
	uint32_t dirty_ring_size;

	const struct tpt_platform *platform;
	void *platform_ctx;
	const struct tpt_backing_ops *backing;
	void *backing_ctx;
	const struct tpt_external_ops *external; /* NULL: no external table, no mirror */
	void *external_ctx;
	tpt_event_fn *event; /* NULL: nobody listens */
	void *event_ctx;
};

/*
 * Levels that a guest of this guest-physical width (bits, shared bit included) should have: 4 where
 * they reach, even on a processor with 5: each level more is a load more in every walk.
 */
static inline uint32_t tpt_vm_levels(uint32_t guest_maxphyaddr)
{
	return guest_maxphyaddr <= 48 ? 4 : 5;
}

/*
 * Fills *config with what most VMs want; the tables of functions are NULL and the caller's to set.
 * 4 levels, 46 bits of physical address on both sides, one address space, leaves up to 1 GiB,
 * private ones of 4 KiB, no flags.
 */
void tpt_vm_config_init(struct tpt_vm_config *config, enum tpt_format format);

/*
 * Creates a VM. 0 and *vm, or -EINVAL (a field is out of its range, or flags contradict: the log
 * says which), -ENOMEM. An external table needs shared_bit, SELF_SNOOP and neither
 * SLOT_ZAP_ALL nor IGNORE_GUEST_PAT.
 */
int tpt_vm_create(const struct tpt_vm_config *config, struct tpt_vm **vm);

/*
 * Ends the guest's life. No vCPU may be in guest mode or enter it again; faults return -EIO from
 * now on. With an external table: release() is called and each page is reclaimed. Idempotent.
 * Returns 0, or the error of release(): what could not be taken back is in leaked_pages.
 */
int tpt_vm_teardown(struct tpt_vm *vm);
/* Tears down if that wasn't done, destroys vCPUs, slots and gmems, waits for deferred frees. */
void tpt_vm_destroy(struct tpt_vm *vm);

/* A vCPU. @id is the caller's, unique in the VM. -EEXIST, -ENOMEM, -EIO. */
int tpt_vcpu_create(struct tpt_vm *vm, uint32_t id, struct tpt_vcpu **vcpu);
void tpt_vcpu_destroy(struct tpt_vcpu *vcpu);

/* Roots to load before entering the guest. */
struct tpt_roots {
	tpt_hpa direct; /* root table of the direct tree of the vCPU's address space */
	tpt_hpa mirror; /* of the mirror, for observers; 0 if there is none */
	uint32_t levels;
	uint32_t generation; /* changes whenever the vCPU must load again */
};

/*
 * Makes sure that the vCPU has valid roots and tells them. Call before each entry to the guest;
 * costs one load and a compare if nothing changed. vCPU thread. -ENOMEM, -EIO, -EAGAIN (an
 * exclusive section is under way: call again), -ENOSPC (exit DIRTY_RING_FULL: the vCPU's dirty ring
 * has only its reserve left; collect, reset, call again).
 */
int tpt_vcpu_load_roots(struct tpt_vcpu *vcpu, struct tpt_roots *roots);
/* Which address space the vCPU is in: true = SMM. vCPU thread. -EINVAL if the VM has only one. */
int tpt_vcpu_set_smm(struct tpt_vcpu *vcpu, bool smm);
/* The guest changed its paging mode: direct roots are dropped and looked up again at the next
 * load; a mirror is never touched. vCPU thread. */
void tpt_vcpu_reset_context(struct tpt_vcpu *vcpu);

/*
 * Invalidates all direct roots at once: on return no processor uses them; their tables are freed
 * piece by piece afterwards. Never touches a mirror.
 */
int tpt_vm_zap_all_fast(struct tpt_vm *vm);
/* APICv was inhibited or allowed again: the page at @gfn is zapped in direct trees. Never private.
 */
int tpt_vm_apicv_changed(struct tpt_vm *vm, tpt_gfn gfn);
/* The first non-coherent device came, or the last one left: memory types change. Never private. */
int tpt_vm_set_noncoherent_dma(struct tpt_vm *vm, bool attached);

/*
 * May tpt_vcpu_prefault() and _premap() map? A VM with an external table begins with no: what is
 * put into a guest before its measurement is final must not come this way. Any thread. -EIO.
 */
int tpt_vm_allow_prefault(struct tpt_vm *vm, bool allowed);

/* Is the VM dead (a broken invariant)? Then every call returns -EIO. */
bool tpt_vm_is_dead(const struct tpt_vm *vm);
/* The evidence, as text; "" if it is not dead. */
const char *tpt_vm_report(const struct tpt_vm *vm);

/*
 * Looks for everything that must hold of a VM at rest: shape of the trees, headers and roles,
 * counts, mirror against external table, no private frame mapped twice, nothing private reachable
 * from a direct tree. Takes the exclusive section for its whole time. Returns the number of faults
 * found; the first is described in @text (if @size > 0).
 */
int tpt_vm_audit(struct tpt_vm *vm, char *text, size_t size);

/* One present entry, for reports and tools. */
struct tpt_mapping {
	enum tpt_tree_kind tree;
	uint32_t as_id;
	enum tpt_level level;
	tpt_gfn gfn;
	tpt_spte spte;
	bool leaf;
	bool blocked;
};
/* Calls fn for each present entry, pre-order, until it returns false. Exclusive section. */
void tpt_vm_for_each_mapping(struct tpt_vm *vm, bool (*fn)(void *ctx, const struct tpt_mapping *m),
			     void *ctx);

#ifdef __cplusplus
}
#endif
#endif
