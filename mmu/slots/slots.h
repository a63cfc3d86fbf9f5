/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What guest-physical memory exists: memslots, private/shared attributes, gmem bindings, the levels
 * that all of these permit, and invalidations in flight. Knows no table, no root and no entry.
 *
 * Everything here is read inside a section (shared or exclusive) and changed inside the exclusive
 * one, so readers need no lock of their own. What a reader carries across a gap between two
 * sections (a fault does, around the backing's lookup) it checks again with slots_snapshot.
 */
#ifndef MMU_SLOTS_H
#define MMU_SLOTS_H

#include <triptych/dirty.h>
#include <triptych/memslot.h>

#include "mmu/base/base.h"
#include "mmu/slots/interval.h"

#define MAX_ADDRESS_SPACES 2

/* One memslot. Constant while it is in a set, but for @invalid, LOG_DIRTY, @dirty and @track. */
struct memslot {
	tpt_gfn base_gfn;
	uint64_t npages;
	tpt_hva hva;
	uint32_t as_id, id, flags;  /* TPT_MEM_* */
	bool invalid;		    /* being deleted or moved: faults are RETRY */
	uint8_t max_level[2];	    /* that hva [0] and gmem [1] are congruent to GFNs at */
	_Atomic uint64_t *dirty;    /* LOG_DIRTY: see dirty.c */
	struct track_block **track; /* NULL: nothing was ever write-tracked; see track.c */
	struct tpt_gmem *gmem;
	uint64_t gmem_index;			   /* page of gmem behind base_gfn */
	struct tpt_interval by_gfn, by_id, by_hva; /* in its set's trees */
	struct tpt_interval by_gmem;		   /* pages; in its gmem's, if there is one */
};

/* The slots of one address space, in three orders. */
struct memslot_set {
	struct interval_tree by_gfn; /* no two overlap */
	struct interval_tree by_id;  /* [id, id + 1) */
	struct interval_tree by_hva; /* bytes, which may overlap; then by id */
	/*
	 * KVM's count of swaps of this address space's array: starts at as_id; a create adds the
	 * number of address spaces once, delete and move twice (the slot passes through INVALID).
	 */
	uint64_t generation;
	uint64_t changed; /* slots->changes when the set last changed */
};

/* Constant from creation to destruction, but for the tree and the list. */
struct tpt_gmem {
	struct vm_base *base; /* of the VM that it belongs to */
	const struct tpt_gmem_ops *ops;
	void *ctx;
	uint64_t npages;
	struct interval_tree bound; /* slots over it, by_gmem; no two share a page */
	struct tpt_gmem *next;	    /* the VM's gmems */
};

/* What an invalidation covers. */
enum inval_kind {
	INVAL_HVA,  /* host-virtual bytes, from a notifier */
	INVAL_GMEM, /* pages of one gmem */
	INVAL_GFN,  /* guest frames of every address space, from a conversion */
};

struct inval_range {
	enum inval_kind kind;
	const struct tpt_gmem *gmem; /* INVAL_GMEM */
	uint64_t start, end;	     /* half-open; unit by kind */
};

/* The last invalidations that ended, so that a fault which began before one can see it. */
#define INVAL_RING 64

struct slots {
	struct vm_base *base;
	/*
	 * Moves on whenever the answer to slots_must_retry() may have changed. Odd: something is in
	 * flight, an invalidation, a conversion, a hole or a slot on its way out.
	 */
	uint64_t changes;
	uint32_t in_flight; /* how many */
	uint32_t address_spaces;
	uint32_t gpa_bits; /* width of guest-physical addresses without the shared bit: 32 .. 52 */
	bool private_memory;	  /* attributes may be set, slots may have a gmem */
	bool dirty_initially_set; /* bitmaps are made with every page dirty */
	struct memslot_set set[MAX_ADDRESS_SPACES];
	struct interval_tree attributes; /* private GFNs; no two overlap or touch */
	struct tpt_gmem *gmems;
	struct tpt_write_notifier *write_notifiers;

	/* Invalidations begun and not yet ended, and those that ended. */
	struct interval_tree in_progress; /* notifiers': bytes; order is the token's address */
	bool has_structural;
	struct inval_range structural; /* a conversion or a hole: one at a time */
	uint64_t nr_ended;
	struct inval_range ended[INVAL_RING]; /* number n stands at n % INVAL_RING */
	uint64_t ended_at[INVAL_RING];	      /* slots->changes from their end on */
	uint64_t forgotten_at;		      /* the same of the last that left the ring */
};

/* Before any other use of @slots, whose content is ignored. Allocates nothing. */
void slots_init(struct slots *slots, struct vm_base *base, uint32_t address_spaces,
		uint32_t gpa_bits, bool private_memory);
/* Frees slots, ranges and gmems; free_range() is not called. Nobody else may be around. */
void slots_destroy(struct slots *slots);
/* What is wrong with the order, counts and lists of all that is here? NULL: nothing. Exclusive. */
const char *slots_audit(const struct slots *slots);

/* ---- memslot.c ---- */

/* The slot that @gfn is in, INVALID or not, or NULL. O(log n). Section. */
struct memslot *slot_find(const struct slots *slots, uint32_t as_id, tpt_gfn gfn);
/*
 * What was found last in one address space: every GFN of [start, start + npages) is in @slot, or
 * in none if that is NULL. Good as long as the set's generation is the same.
 */
struct slot_cache {
	const struct memslot_set *set;
	uint64_t generation; /* of the set when it was asked */
	tpt_gfn start;
	uint64_t npages; /* 0: nothing yet */
	struct memslot *slot;
};

/* Makes it one of an address space, empty. */
static inline void slot_cache_init(struct slot_cache *cache, const struct slots *slots,
				   uint32_t as_id)
{
	*cache = (struct slot_cache){.set = &slots->set[as_id]};
}

/* Finds and fills the cache. */
struct memslot *slot_find_filling(tpt_gfn gfn, struct slot_cache *cache);

/* Does the cache know what @gfn is in? */
static inline bool slot_cache_is_good(const struct slot_cache *cache, tpt_gfn gfn)
{
	return cache->generation == cache->set->generation && gfn - cache->start < cache->npages;
}

/* slot_find() of a caller who mostly asks for the same slot. */
static inline struct memslot *slot_find_cached(tpt_gfn gfn, struct slot_cache *cache)
{
	return slot_cache_is_good(cache, gfn) ? cache->slot : slot_find_filling(gfn, cache);
}

/* The slot with this id, or NULL. O(log n). Section. */
struct memslot *slot_by_id(const struct slots *slots, uint32_t as_id, uint32_t id);

/*
 * The first slot of an address space that overlaps [start, end), in the order of GFNs or of HVAs
 * and ids, of those from @from on, or NULL. @from is all 0 at first, then what is behind the last
 * one; slots may come and go meanwhile. Section. O(log n).
 */
struct memslot *slot_from_gfn(const struct slots *slots, uint32_t as_id, struct interval_key from,
			      tpt_gfn start, tpt_gfn end);
struct memslot *slot_from_hva(const struct slots *slots, uint32_t as_id, struct interval_key from,
			      tpt_hva start, tpt_hva end);

static inline struct interval_key slot_behind_gfn(const struct memslot *slot)
{
	return interval_behind(&slot->by_gfn);
}

static inline struct interval_key slot_behind_hva(const struct memslot *slot)
{
	return interval_behind(&slot->by_hva);
}

/* Does every frame of [start, end) lie in a slot of the address space? Section. O(log n) for each
 * slot in it. */
bool slots_cover(const struct slots *slots, uint32_t as_id, tpt_gfn start, tpt_gfn end);

static inline tpt_hva slot_hva(const struct memslot *slot, tpt_gfn gfn)
{
	return (tpt_hva){slot->hva.a + ((gfn - slot->base_gfn) << TPT_PAGE_SHIFT)};
}

static inline uint64_t slot_gmem_index(const struct memslot *slot, tpt_gfn gfn)
{
	return slot->gmem_index + (gfn - slot->base_gfn);
}

/* The gmem that an access to @slot finds its page in; NULL: the ordinary backing. */
static inline struct tpt_gmem *slot_source(const struct memslot *slot, bool private_)
{
	if (!slot->gmem || private_ || slot->gmem->ops->flags & TPT_GMEM_IN_PLACE)
		return slot->gmem;
	return NULL;
}

enum slot_change {
	SLOT_CREATE,
	SLOT_DELETE,
	SLOT_MOVE,
	SLOT_FLAGS, /* LOG_DIRTY on or off */
	SLOT_SAME,  /* nothing differs: nothing to do, not even a generation */
};

/* An update that was checked and has all its memory; not yet visible. */
struct slot_update {
	enum slot_change change;
	struct memslot *old;	 /* DELETE, MOVE, FLAGS; else NULL */
	uint32_t flags;		 /* FLAGS: the new ones */
	_Atomic uint64_t *dirty; /* the new bitmap, if the slot logs from now on */
	struct memslot *new_;	 /* CREATE, MOVE; else NULL */
};

/*
 * Checks a region against the rules of tpt_vm_set_memory_region() and gets the memory. No section
 * needed: an update is under way, and nothing that is read here changes but by one.
 * Returns its -EINVAL, -EEXIST and -ENOMEM, having logged value and rule; nothing visible changed.
 * After 0 exactly one of slot_update_commit() and slot_update_abort() is owed, with no other update
 * of the VM's slots between. Whoever zaps @old in between marks it invalid first.
 */
int slot_update_prepare(struct slots *slots, const struct tpt_memory_region *region,
			struct slot_update *update);
/* Makes the update visible, counts the generation, binds and unbinds gmems, frees the old slot.
 * Exclusive. O(log n); cannot fail. */
void slot_update_commit(struct slots *slots, struct slot_update *update);
/* Gives the memory back; an old slot that was marked invalid is valid again. Exclusive. */
void slot_update_abort(struct slots *slots, struct slot_update *update);
/* Frees all slots of a set, which is empty then. Nobody else may be around. */
void slot_free_all(struct slots *slots, struct memslot_set *set);
/* Marks a slot that is on its way out, and takes the mark away. Exclusive. */
void slot_set_invalid(struct slots *slots, struct memslot *slot, bool invalid);

/* ---- dirty.c ---- */

/* Bytes of the bitmap for a slot. */
size_t dirty_bytes(tpt_gfn base_gfn, uint64_t npages);
/* A bitmap for @slot, all clear or all set. -ERR_NOMEM. Freed with dirty_destroy(); NULL is
 * allowed. */
int dirty_create(struct slots *slots, const struct memslot *slot, bool all_set,
		 _Atomic uint64_t **dirty);
void dirty_destroy(struct slots *slots, const struct memslot *slot, _Atomic uint64_t *dirty);

static inline bool slot_logs_dirty(const struct memslot *slot)
{
	return slot->dirty;
}

/* GFN of bit 0 of a bitmap: its first line begins at a leaf table's edge. */
static inline tpt_gfn dirty_base(tpt_gfn base_gfn)
{
	return base_gfn & ~(tpt_gfn)(CACHE_LINE * 8 - 1);
}

/* The guest may write @gfn, or wrote it: in its log, which the slot has. Section. */
static inline void dirty_mark(const struct memslot *slot, tpt_gfn gfn)
{
	uint64_t bit = gfn - dirty_base(slot->base_gfn);
	_Atomic uint64_t *word = &slot->dirty[bit / 64];

	/* Most pages are dirty already: looking first keeps the line shared. */
	if (!(atomic_load_explicit(word, memory_order_relaxed) >> (bit % 64) & 1))
		atomic_fetch_or_explicit(word, 1ull << (bit % 64), memory_order_seq_cst);
}

/* The same, if it has one. */
static inline void slot_mark_dirty(const struct memslot *slot, tpt_gfn gfn)
{
	if (slot->dirty)
		dirty_mark(slot, gfn);
}
/* The same of those of the 64 pages from page @page of the slot on that @mask says, each of them in
 * the slot. The slot has a log. */
void slot_mark_dirty_word(const struct memslot *slot, uint64_t page, uint64_t mask);
/*
 * Which of the 64 pages from page @page of the slot on, as far as @mask wants them, are dirty?
 * @clear: they are not any more. The slot has a log. Section.
 */
uint64_t slot_dirty_word(const struct memslot *slot, uint64_t page, uint64_t mask, bool clear);

/* ---- ring.c ---- */

/*
 * One vCPU's dirty ring. Counters run freely; entry n stands at n % size. Who writes what has a
 * line of his own:  reset <= collected <= pushed <= reset + size.
 */
struct dirty_ring {
	_Alignas(CACHE_LINE) struct tpt_dirty_gfn *entry;
	uint32_t size, soft;				 /* entries; how many make it almost full */
	_Atomic uint32_t pushed;			 /* the vCPU's thread */
	_Alignas(CACHE_LINE) _Atomic uint32_t collected; /* the VMM */
	_Alignas(CACHE_LINE) _Atomic uint32_t reset;	 /* whoever resets */
};

/* -ERR_NOMEM. @reserved of the @size entries are kept back. */
int ring_create(struct vm_base *base, uint32_t size, uint32_t reserved, struct dirty_ring **ring);
/* NULL is allowed. */
void ring_destroy(struct vm_base *base, struct dirty_ring *ring);
/* False, and nothing pushed, if there is no room. The vCPU's thread; section. */
bool ring_push(struct dirty_ring *ring, const struct memslot *slot, tpt_gfn gfn);
uint32_t ring_used(const struct dirty_ring *ring);
bool ring_is_full(const struct dirty_ring *ring);
/* Only what was kept back is left. */
bool ring_is_almost_full(const struct dirty_ring *ring);
uint32_t ring_collect(struct dirty_ring *ring, struct tpt_dirty_gfn *out, uint32_t max);

/* Entries of one slot that one sweep can watch again: bit n is page @offset + n. */
struct ring_run {
	uint32_t as_id, slot;
	uint64_t offset, mask;
	uint32_t entries; /* 0: there was none */
};

/* Up to @most entries from number @from on as one run: those that follow one another and lie
 * within 64 pages. One resetter at a time. */
struct ring_run ring_next_run(const struct dirty_ring *ring, uint32_t from, uint32_t most);

/* ---- track.c ---- */

/* slot_is_tracked() of a slot in which something was tracked once. */
bool track_is_counted(const struct memslot *slot, tpt_gfn gfn);

/* May no table let the guest write @gfn? Section. O(1). */
static inline bool slot_is_tracked(const struct memslot *slot, tpt_gfn gfn)
{
	return slot->track && track_is_counted(slot, gfn);
}

/* The same of any page of the block at @level that @gfn lies in and that is all in the slot, or, at
 * 2M, in part. */
bool slot_tracks_any(const struct memslot *slot, tpt_gfn gfn, enum tpt_level level);
/* Once more, and once less. Exclusive. *edge: it was not tracked before, or is not any more.
 * -ERR_OVERFLOW, -ERR_NOMEM; -ERR_INVAL: it was not tracked. */
int track_add(struct slots *slots, struct memslot *slot, tpt_gfn gfn, bool *edge);
int track_remove(struct slots *slots, struct memslot *slot, tpt_gfn gfn, bool *edge);
void track_destroy(struct slots *slots, struct memslot *slot);

/* ---- attributes.c ---- */

/* All ranges are half-open, in GFNs, not empty. */

/* attr_is_private() where there are private ranges. */
bool attr_find_private(const struct slots *slots, tpt_gfn gfn);

/* Section. O(log n) in the number of private ranges. */
static inline bool attr_is_private(const struct slots *slots, tpt_gfn gfn)
{
	const struct tpt_interval *n = slots->attributes.root;

	/* What is private is mostly one large range. */
	if (!n || gfn - n->start < n->end - n->start)
		return n;
	return attr_find_private(slots, gfn);
}

/* Do all of [start, end) have one attribute? If so *private_ says which. Section. O(log n). */
bool attr_uniform(const struct slots *slots, tpt_gfn start, tpt_gfn end, bool *private_);
/*
 * First subrange of [start, end) whose attribute differs from @private_: what a conversion has to
 * work on. False if there is none. Section. O(log n).
 */
bool attr_next_change(const struct slots *slots, tpt_gfn start, tpt_gfn end, bool private_,
		      struct tpt_gfn_range *range);
/*
 * May the attributes of [start, end) be set? 0, or -EINVAL with value and rule logged: the range is
 * empty or beyond the guest-physical width, or the VM has no private memory.
 */
int attr_check(const struct slots *slots, tpt_gfn start, tpt_gfn end);
/*
 * Sets [start, end), which attr_check() has passed. Exclusive. 0, or -ENOMEM with nothing changed;
 * never fails where nothing differs. Allocates at most one range. O(log n) for each range that it
 * makes, cuts or swallows.
 */
int attr_set(struct slots *slots, tpt_gfn start, tpt_gfn end, bool private_);
/* What is wrong with the ranges? NULL: nothing. Section. O(n log n). */
const char *attr_audit(const struct slots *slots);
/* Frees all ranges: everything is shared. */
void attr_destroy(struct slots *slots);

/* ---- level.c ---- */

/* Largest level at which GFNs from @base_gfn on are congruent to the pages from @behind on. */
enum tpt_level level_congruent(tpt_gfn base_gfn, uint64_t behind);
/* slot_max_level() of a slot without a log, whose memory is congruent at @cap. */
enum tpt_level level_inside(const struct slots *slots, const struct memslot *slot, tpt_gfn gfn,
			    enum tpt_level cap);

/*
 * Largest level, at most @cap (4K .. 1G), at which a leaf around @gfn lies inside @slot, is
 * congruent to the memory behind it (hva, or gmem index if @private_), is not write-tracked in any
 * page and has one attribute; 4K in a slot with a log of pages. @gfn is in @slot, and @slot has a
 * gmem if @private_. Only the congruence, which is constant, is stored. Section. O(log n) in the
 * number of private ranges.
 */
static inline enum tpt_level slot_max_level(const struct slots *slots, const struct memslot *slot,
					    tpt_gfn gfn, bool private_, enum tpt_level cap)
{
	if (cap > slot->max_level[private_])
		cap = slot->max_level[private_];
	if (cap == TPT_LEVEL_4K || slot_logs_dirty(slot))
		return TPT_LEVEL_4K;
	return level_inside(slots, slot, gfn, cap);
}

/* ---- invalidate.c ---- */

/* What a fault remembers before it leaves its first section: slots->changes. */
struct slots_snapshot {
	uint64_t changes;
	uint32_t as_id;
};

static inline struct slots_snapshot slots_snapshot(const struct slots *slots, uint32_t as_id)
{
	return (struct slots_snapshot){.changes = slots->changes, .as_id = as_id};
}

/* slots_must_retry() and slots_invalidating() where the quick answer is not enough. */
bool inval_must_retry(const struct slots *slots, const struct slots_snapshot *then,
		      const struct memslot *slot, tpt_gfn gfn, uint64_t pages, bool private_);
bool inval_overlaps(const struct slots *slots, const struct memslot *slot, tpt_gfn gfn,
		    uint64_t pages, bool private_);

static inline bool slots_are_quiet(const struct slots *slots)
{
	return !(slots->changes & 1);
}

/*
 * Must a fault retry that took @then and now wants to map [gfn, gfn + pages) of @slot? True if the
 * address space's slots changed, if @slot is being deleted or moved, if an invalidation in progress
 * overlaps, or if one that ended since overlaps (or more than INVAL_RING ended: nobody knows).
 * Host-virtual ranges concern shared mappings only, a gmem's private ones only, guest frames both.
 * Section. @slot is looked at only if the address space's slots are the same. Where nothing is in
 * flight and nothing happened, one look.
 */
static inline bool slots_must_retry(const struct slots *slots, const struct slots_snapshot *then,
				    const struct memslot *slot, tpt_gfn gfn, uint64_t pages,
				    bool private_)
{
	if (slots->changes == then->changes && slots_are_quiet(slots))
		return false;
	return inval_must_retry(slots, then, slot, gfn, pages, private_);
}

/* Does an invalidation in progress overlap? (Before a lookup that would be in vain.) Section. */
static inline bool slots_invalidating(const struct slots *slots, const struct memslot *slot,
				      tpt_gfn gfn, uint64_t pages, bool private_)
{
	return !slots_are_quiet(slots) && inval_overlaps(slots, slot, gfn, pages, private_);
}

/* Something changed: so many more things are in flight, or fewer. Exclusive. */
void slots_count_change(struct slots *slots, int in_flight);

/* A notifier's range begins: token->start .. end, not empty. Exclusive. O(log n) in progress. */
void inval_begin(struct slots *slots, struct tpt_invalidation *token);
/* It ends. A token that isn't in progress is logged and changes nothing. Exclusive. O(log n). */
void inval_end(struct slots *slots, struct tpt_invalidation *token);
/*
 * A conversion or a hole begins and ends; the exclusive section may be left in between. One at a
 * time: a second begin before the end is not allowed. Exclusive.
 */
void inval_structural_begin(struct slots *slots, const struct inval_range *range);
void inval_structural_end(struct slots *slots);
/* Something was invalidated within one exclusive section: begun and ended. Exclusive. */
void inval_note(struct slots *slots, const struct inval_range *range);

/*
 * The guest frames of @slot that lie in host-virtual [start, end), each that is touched by a byte
 * of it. False if none do.
 */
bool slot_hva_range(const struct memslot *slot, tpt_hva start, tpt_hva end,
		    struct tpt_gfn_range *range);
/* The same for pages [start, end) of the slot's gmem. */
bool slot_gmem_range(const struct memslot *slot, uint64_t start, uint64_t end,
		     struct tpt_gfn_range *range);

/* ---- gmem.c ---- */

/* As tpt_gmem_create(), tpt_gmem_destroy() and their errors. Exclusive. */
int gmem_create(struct slots *slots, uint64_t bytes, const struct tpt_gmem_ops *ops, void *ctx,
		struct tpt_gmem **gmem);
int gmem_destroy(struct slots *slots, struct tpt_gmem *gmem);
/*
 * May [index, index + npages) of @gmem stand behind a new slot of this VM? 0; -EINVAL (another VM's
 * gmem, or beyond its end), -EEXIST (a page is bound already), with value and rule logged.
 */
int gmem_check_binding(const struct slots *slots, const struct tpt_gmem *gmem, uint64_t index,
		       uint64_t npages);
/* Puts a slot in its gmem's tree and takes it out. Does nothing if it has none. Exclusive. */
void gmem_bind(struct memslot *slot);
void gmem_unbind(struct memslot *slot);

static inline bool gmem_is_bound(const struct tpt_gmem *gmem)
{
	return gmem->bound.root;
}

/* The first slot from page @start on that pages [start, end) of the gmem stand behind, or NULL. No
 * two share a page: the next stands behind its last. Section. O(log n). */
struct memslot *gmem_first_slot(const struct tpt_gmem *gmem, uint64_t start, uint64_t end);

#endif
