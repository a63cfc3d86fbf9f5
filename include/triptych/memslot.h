/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What guest-physical memory exists and what stands behind it: memslots, the ordinary backing,
 * guest_memfd-like private backing, private/shared attributes, and invalidations by the host.
 */
#ifndef TRIPTYCH_MEMSLOT_H
#define TRIPTYCH_MEMSLOT_H

#include <triptych/platform.h>
#include <triptych/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct tpt_vm;
struct tpt_gmem;

/* Memslot flags; the numbers are those of KVM_SET_USER_MEMORY_REGION2. */
#define TPT_MEM_LOG_DIRTY   (1u << 0) /* dirty.h; may be switched on and off */
#define TPT_MEM_READONLY    (1u << 1)
#define TPT_MEM_GUEST_MEMFD (1u << 2)

/* Ids are 0 .. TPT_MEMSLOT_IDS - 1 in each address space, as with KVM_CAP_NR_MEMSLOTS. */
#define TPT_MEMSLOT_IDS 32764u
/* Most pages a memslot may have (KVM_MEM_MAX_NR_PAGES). */
#define TPT_MEMSLOT_MAX_PAGES ((1ull << 31) - 1)

/* One call of KVM_SET_USER_MEMORY_REGION2. */
struct tpt_memory_region {
	uint32_t as_id;	       /* address space: 0, or 1 (SMM) if the VM has two */
	uint32_t slot;	       /* id, unique in its address space */
	uint32_t flags;	       /* TPT_MEM_* */
	tpt_gpa gpa;	       /* first byte; 4 KiB aligned; without the shared bit */
	uint64_t size;	       /* bytes, a multiple of 4 KiB; 0 deletes the slot */
	tpt_hva hva;	       /* ordinary memory behind it; 4 KiB aligned */
	struct tpt_gmem *gmem; /* TPT_MEM_GUEST_MEMFD: private memory behind it; else NULL */
	uint64_t gmem_offset;  /* bytes into gmem, 4 KiB aligned */
};

/*
 * Creates, deletes, moves a slot or changes its flags. May sleep; takes the VM's exclusive section;
 * two calls on one VM are serialised. On return of a deletion or move no processor and no table
 * reaches the old memory. Errors, nothing changed:
 *  -EINVAL  unaligned or wrapping gpa, size or hva; unknown flag; bad slot id or address space; gpa
 *           beyond the VM's guest-physical width; size change; hva or READONLY changed on an
 *           existing slot; a gmem slot changed; gmem of another VM, or a range outside it;
 *           READONLY or LOG_DIRTY with GUEST_MEMFD; GUEST_MEMFD in a VM without private memory;
 * deletion of a slot that isn't there -EEXIST  overlaps a slot of the same address space, or a gmem
 * range bound already -ENOMEM  no memory;  -EIO  the VM is dead -EBUSY   deletion or move: a
 * private page behind the slot could not be removed yet (external calls stayed busy). The slot is
 * still there; call again.
 */
int tpt_vm_set_memory_region(struct tpt_vm *vm, const struct tpt_memory_region *region);

/* What the ordinary backing says of one page. */
struct tpt_backing_page {
	tpt_pfn pfn;   /* frame behind the page asked for */
	bool writable; /* the host lets it be written (map_writable) */
	bool device;   /* a device's registers, not memory: EPT memory type UC */
	enum tpt_level
		level; /* largest host mapping around it: 4K, 2M or 1G, contiguous and aligned */
};

/* What a lookup is asked. */
struct tpt_backing_query {
	uint32_t as_id;
	uint32_t slot;
	tpt_gfn gfn;
	tpt_hva hva; /* of the page */
	bool write;  /* the guest writes: break copy-on-write, fail if it can't be written */
	bool nowait; /* -EINPROGRESS is an answer: the vCPU can do something else meanwhile */
};

/* What it says of consecutive pages over consecutive frames: page i has frame pfn + i. */
struct tpt_backing_run {
	tpt_pfn pfn;	      /* frame behind the first page */
	uint32_t nr;	      /* pages; not 0 */
	bool writable;	      /* of each of them, as in struct tpt_backing_page */
	bool device;	      /* the same */
	enum tpt_level level; /* host mapping around the first page, as there */
};

/*
 * Leaves of one table that were zapped, and how the guest had used the memory behind them: what a
 * host marks its pages by. Bit n of each word array is the leaf at guest frame @gfn + n times the
 * frames of one; which host page is behind it the memslots say.
 *
 * Young: used since it was last aged (aging.h), dirty: written, by the processor's own flags as
 * they were when the entry went. A leaf that is installed writable is dirty from the start, and
 * mark_dirty() told so: what a dirty log with TPT_VM_PML clears is D, so a page that only its log
 * holds is not dirty here. Without such flags (TPT_VM_NO_AD) young is a leaf that lets any access
 * through, and dirty one that lets the guest write: what aging or a dirty log took from it counts
 * no more. No page is lost by that: whatever was ever writable was told to mark_dirty().
 */
struct tpt_zapped {
	tpt_gfn gfn;	/* first frame of bit 0's leaf, which may lie before what was asked for */
	uint32_t as_id; /* address space: 0, or 1 for SMM */
	enum tpt_level level;	       /* of the leaves: 4K, 2M or 1G */
	enum tpt_flush_reason reason;  /* why; the flush itself may be still to come */
	uint32_t nr;		       /* bits, 1 to 512; those behind in the last word are 0 */
	const uint64_t *gone;	       /* the leaves that went, one or more */
	const uint64_t *dirty, *young; /* of those */
};

/* The ordinary backing: one a VM. Called by vCPU threads; lookup() outside of any section. */
struct tpt_backing_ops {
	size_t size; /* sizeof(struct tpt_backing_ops) */
	/*
	 * Which frame stands behind a page? May sleep. 0; -EAGAIN: not now, the guest tries again;
	 * -EFAULT: nothing is there; -EPERM: a write to memory that the host can only read (the
	 * access is emulated as MMIO); -EHWPOISON: the frame is broken; -EINTR: a signal;
	 * -EINPROGRESS: being fetched (query->nowait; see TPT_EXIT_ASYNC_PF). It may
	 * call tpt_vm_invalidate_begin()/_end(): the fault then ends in RETRY.
	 */
	int (*lookup)(void *ctx, const struct tpt_backing_query *query,
		      struct tpt_backing_page *page);
	/*
	 * The frame may be written from now on (a writable entry was installed). May be NULL.
	 * Called before the guest can write, inside a section: must not sleep, nor call back.
	 */
	void (*mark_dirty)(void *ctx, tpt_pfn pfn, enum tpt_level level);
	/*
	 * Largest host mapping around the page at @hva, whose frame is @pfn: may small leaves
	 * become one again? NULL: they never do. Called inside a section: must not sleep.
	 */
	enum tpt_level (*mapping_level)(void *ctx, tpt_hva hva, tpt_pfn pfn);
	/*
	 * lookup() for the @nr pages from query->gfn on, all of one memslot, whose hva follow
	 * query->hva: fills run[0 .. n), n <= @nr_runs, which follow one another from the first
	 * page on and hold @nr pages at most, and returns n > 0, or what lookup() would answer for
	 * the first page. It may stop anywhere, as before a page that has no frame, and need not
	 * make runs as long as they could be; but a run costs, and a page in it does not. What
	 * lookup() may not answer (a frame that the host's physical addresses do not reach, or one
	 * that can't be written for a write), an empty run and one of more pages than are left are
	 * logged, and not used, nor what follows. In no section; may sleep; may call
	 * tpt_vm_invalidate_begin()/_end(). May be NULL: pages are looked up one by one.
	 */
	int (*lookup_range)(void *ctx, const struct tpt_backing_query *query, uint32_t nr,
			    struct tpt_backing_run *run, uint32_t nr_runs);
	/*
	 * mark_dirty() for @nr frames of 4 KiB from @pfn on, at once, under the same rules. May be
	 * NULL: mark_dirty() is called for each. Not without mark_dirty().
	 */
	void (*mark_dirty_range)(void *ctx, tpt_pfn pfn, uint32_t nr);
	/*
	 * Leaves of direct trees were zapped: by an invalidation, with a memslot, by a conversion
	 * to private, or because APICv or memory types changed. Called for each table that had any,
	 * and once more for one in whose midst a chunk of work ended, with *z good until it
	 * returns; a memslot's private memory in such a tree is told of too. May be NULL. Inside
	 * the exclusive section: must not sleep, nor call back.
	 *
	 * Never called for what goes with whole tables: with roots (tpt_vm_zap_all_fast(), a
	 * deletion with TPT_VM_SLOT_ZAP_ALL), with a table that became one leaf or was recovered.
	 * There mark_dirty() has told of each page that could be written; young is lost, a hint.
	 */
	void (*zapped)(void *ctx, const struct tpt_zapped *z);
};

/*
 * Write tracking, for device models that must see each write to a page (after KVM's page_track):
 * while a page is tracked no table lets the guest write it, a leaf over it is 4K, and a write to it
 * is TPT_RET_PF_WRITE_PROTECTED. Counted: a page is tracked until it was removed as often as added,
 * or its memslot is deleted or moved. -EINVAL: no memslot there; add() only: -EOVERFLOW (65535
 * times already), -ENOMEM; remove() only: -EINVAL: not tracked; -EOPNOTSUPP: not with an external
 * table, whose guest's writes nobody can see; -EIO.
 */
int tpt_vm_write_track_add(struct tpt_vm *vm, uint32_t as_id, tpt_gfn gfn);
int tpt_vm_write_track_remove(struct tpt_vm *vm, uint32_t as_id, tpt_gfn gfn);

/* A device model that listens; the caller's memory. Callbacks must not call the library. */
struct tpt_write_notifier {
	struct tpt_write_notifier *next; /* the library's, while registered */
	/* A write that the VMM emulated, whether tracked or not. May be NULL. */
	void (*write)(struct tpt_write_notifier *n, uint32_t as_id, tpt_gpa gpa, const void *data,
		      size_t bytes);
	/* A memslot goes, and with it what was tracked in [gfn, gfn + npages). May be NULL. */
	void (*gone)(struct tpt_write_notifier *n, uint32_t as_id, tpt_gfn gfn, uint64_t npages);
};
/* -EOPNOTSUPP with an external table; -EIO. */
int tpt_vm_write_notifier_add(struct tpt_vm *vm, struct tpt_write_notifier *n);
/* On return no callback runs. -EINVAL: not registered. */
int tpt_vm_write_notifier_remove(struct tpt_vm *vm, struct tpt_write_notifier *n);
/* The VMM wrote @bytes of @data for the guest: tells every notifier. Any thread. */
void tpt_vm_tell_write(struct tpt_vm *vm, uint32_t as_id, tpt_gpa gpa, const void *data,
		       size_t bytes);

/* One of many intervals that the library keeps in order: a node of its tree. All of it is its. */
struct tpt_interval {
	struct tpt_interval *child[2]; /* lower, higher */
	uint64_t start, end;
	uint64_t order;	  /* of those with the same start */
	uint64_t highest; /* end in the tree under it */
	uint32_t height;  /* of that tree */
};

/*
 * The host takes back [start, end) of host-virtual memory (an MMU notifier's range): on return of
 * begin() no processor and no table reaches it through a shared mapping. Private mappings are
 * never touched. Between begin and end, faults on those pages return RETRY. Invalidations nest
 * and overlap; what each costs a fault elsewhere is nothing, and one more of n in progress costs
 * O(log n). begin() fills *token, which is the caller's memory and stays where it is until end(),
 * and returns the number of leaves zapped, or -EINVAL (empty or unaligned range), -ENOMEM, -EIO (VM
 * dead); after an error no end() is owed.
 */
struct tpt_invalidation {
	tpt_hva start, end;
	struct tpt_interval interval; /* the library's, between begin and end */
};
int tpt_vm_invalidate_begin(struct tpt_vm *vm, tpt_hva start, tpt_hva end,
			    struct tpt_invalidation *token);
void tpt_vm_invalidate_end(struct tpt_vm *vm, struct tpt_invalidation *token);

/*
 * Shared accesses to a slot find the gmem's page too, not the ordinary backing: one copy of the
 * memory, converted in place. A page is mapped on one side at a time, and keeps its frame; what a
 * conversion leaves of its content is the owner of the external table's say.
 */
#define TPT_GMEM_IN_PLACE (1u << 0)

/* guest_memfd: private memory of one VM, by page index. */
struct tpt_gmem_ops {
	size_t size;	/* sizeof(struct tpt_gmem_ops) */
	uint32_t flags; /* TPT_GMEM_* */
	/* Frame behind page @index and the largest aligned contiguous block around it. Allocates
	 * on first use. 0, -ENOMEM, -EAGAIN, -EHWPOISON. vCPU threads; may sleep. */
	int (*get_page)(void *ctx, uint64_t index, tpt_pfn *pfn, enum tpt_level *level);
	/* Pages [start, end) are unreachable from any table now: free them. May be NULL. */
	void (*free_range)(void *ctx, uint64_t start, uint64_t end);
};

/* Creates a gmem of @bytes (multiple of 4 KiB, not 0). -EINVAL, -ENOMEM. */
int tpt_gmem_create(struct tpt_vm *vm, uint64_t bytes, const struct tpt_gmem_ops *ops, void *ctx,
		    struct tpt_gmem **gmem);
/*
 * Punches [offset, offset + len) (bytes, 4 KiB aligned): private entries over it are removed, then
 * ops->free_range() is called. Shared entries are touched only where memory is IN_PLACE. -EINVAL;
 * -EBUSY as for slots: some entries are still there, nothing was freed; call again. -ENOMEM: no
 * page for the table that a large private leaf becomes of which the hole takes a part.
 */
int tpt_gmem_punch_hole(struct tpt_gmem *gmem, uint64_t offset, uint64_t len);
/* Destroys it. -EBUSY while a slot is bound to it. Its pages are the embedder's: no free_range().
 */
int tpt_gmem_destroy(struct tpt_gmem *gmem);

/*
 * Private/shared attribute. Default: shared. set_private() converts [start, end): to private zaps
 * shared entries only, to shared removes private entries only; pages that already have the
 * attribute cost nothing. Work: O(ranges), never pages, but for the entries that were mapped.
 * -EINVAL (empty range, beyond the guest-physical width, a part of it in no memslot, a VM without
 * private memory), -ENOMEM,
 * -EBUSY (external calls stayed busy: attributes unchanged from *done on; call again from there),
 * -EIO. @done may be NULL; it gets the first GFN not converted (== end on success).
 */
int tpt_vm_set_private(struct tpt_vm *vm, tpt_gfn start, tpt_gfn end, bool private_, tpt_gfn *done);
/* Is @gfn private now? */
bool tpt_vm_is_private(struct tpt_vm *vm, tpt_gfn gfn);

/*
 * Private leaves of [start, end) become larger ones, up to max_private_level: wherever 512 of them
 * lie side by side over one aligned block of frames, inside one memslot, with one attribute, and
 * the gmem says that it is one block. Costs a block and a merge a leaf made, and a track and a kick
 * for every few of them. The owner has the last word: 512 that it sees a difference in, as where
 * the guest has accepted only some, stay what they are. Whose choice it is when, is the caller's;
 * after a conversion back it is worth while once the guest has accepted what it got. *made (NULL is
 * allowed) counts the leaves that were made, whatever is returned: 0; -EINVAL (empty range, or
 * beyond the guest-physical width); -EOPNOTSUPP (private leaves are 4K); -EBUSY (external calls
 * stayed busy: faults in a block may be RETRY until this, or a removal there, is called again);
 * -EIO. Any thread but in a callback.
 */
int tpt_vm_private_recover(struct tpt_vm *vm, tpt_gfn start, tpt_gfn end, uint64_t *made);

#ifdef __cplusplus
}
#endif
#endif
