/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Table pages and their headers, roots and roles, the iterator, and THE transition: the one place
 * where an entry changes. Knows no memslot, no backing and no reason why.
 *
 *	             root (role)
 *	               |                 header: 64 bytes, in the platform's record of the page
 *	        +------+------+
 *	      table         table        every table: 512 entries, one parent entry, one header
 *	      |   |           |
 *	    leaf  FROZEN    EMPTY        every entry: one of pte.h's seven kinds
 *
 * A mirror has the same shape, at the natural GFN; each of its tables but the root has an external
 * twin page that belongs to the owner of the external table.
 */
#ifndef MMU_TREE_H
#define MMU_TREE_H

#include "mmu/base/base.h"
#include "mmu/mirror/mirror.h"
#include "mmu/pte/pte.h"

#define TABLE_ENTRIES 512

/* Role of a table; bits as in KVM's kvm_mmu_page_role, so that raw words read the same. */
#define ROLE_LEVEL(role) ((role)&0xf)
#define ROLE_DIRECT	 (1u << 7)
#define ROLE_ACCESS_ALL	 (7u << 8)
#define ROLE_EFER_NX	 (1u << 12)
#define ROLE_CR0_WP	 (1u << 13)
#define ROLE_AD_DISABLED (1u << 16)
#define ROLE_IS_MIRROR	 (1u << 19)
#define ROLE_SMM	 (1u << 24)

/* Roots of a VM. */
enum tree_id {
	TREE_DIRECT,	 /* address space 0 */
	TREE_DIRECT_SMM, /* address space 1 */
	TREE_MIRROR,
	TREE_NR,
};
#define TREE_DIRECT_ALL ((1u << TREE_DIRECT) | (1u << TREE_DIRECT_SMM))
#define TREE_MIRROR_BIT (1u << TREE_MIRROR)

static inline enum tpt_tree_kind tree_kind(enum tree_id id)
{
	return id == TREE_MIRROR ? TPT_TREE_MIRROR : TPT_TREE_DIRECT;
}

/* Direct tree of an address space, and back. */
_Static_assert(TREE_DIRECT == 0 && TREE_DIRECT_SMM == 1, "an address space is its tree");
static inline enum tree_id tree_direct(uint32_t as_id)
{
	return (enum tree_id)as_id;
}

static inline uint32_t tree_as_id(enum tree_id id)
{
	return id == TREE_DIRECT_SMM;
}

typedef _Atomic uint64_t entry_t;

/* Header of a table page. */
struct table {
	struct trees *trees;
	tpt_hpa hpa;	  /* of the table page */
	tpt_hpa external; /* mirror: its twin, given to the owner; 0 for roots and direct tables */
	tpt_gfn gfn;	  /* first GFN that entry 0 covers */
	union {
		entry_t *parent;   /* the entry that points here; NULL for roots */
		uint64_t unlinked; /* once it is: what grace_begin() answered */
	};
	uint32_t role;
	_Atomic uint8_t dead;	       /* unlinked, or about to be: gains no entry any more */
	_Atomic uint8_t nx_disallowed; /* code ran here: no huge leaf takes its place */
	_Atomic uint8_t nx_listed;     /* written under the list's lock */
	union {
		struct tpt_deferred deferred; /* once it is unlinked, and not listed */
		struct {
			struct table *prev, *next; /* while it is listed */
		} nx;
	};
};
_Static_assert(sizeof(struct table) == CACHE_LINE, "a table's header is one cache line");

/* Tables that NX recovery may unlink, oldest first; see nx.c. */
struct nx_list {
	_Alignas(CACHE_LINE) _Atomic uint32_t lock;
	struct table *first, *last;
	_Atomic uint64_t nr; /* KVM's nx_lpage_splits; written under the lock */
};

struct trees {
	struct vm_base *base;
	uintptr_t page_linear, record_linear; /* the platform's; both or neither */
	bool told;			      /* somebody listens to events */
	struct mirror mirror;
	struct pte_format format;
	uint32_t levels;
	uint32_t gfn_bits;   /* GFNs are below 1 << gfn_bits, shared bit left out */
	uint64_t shared_gfn; /* index bit of direct trees in a VM with a shared bit, else 0 */
	struct table *root[TREE_NR]; /* written in the exclusive section */
	bool nx_huge_pages;	     /* no huge direct leaf is executable; exclusive section */
	struct nx_list nx;
	/* What the reclaimer takes off the counters; added to by whichever thread it runs on. */
	_Atomic int64_t late[COUNT_NR];
};

void trees_init(struct trees *trees, struct vm_base *base);
int64_t trees_count(const struct trees *trees, unsigned int counter);

/* ---- table.c ---- */

static inline entry_t *table_entries(const struct trees *trees, tpt_hpa hpa)
{
	const struct vm_base *base = trees->base;

	return trees->page_linear ? (entry_t *)(trees->page_linear + hpa.a)
				  : (entry_t *)base->platform->page_ptr(base->platform_ctx, hpa);
}

static inline struct table *table_header(const struct trees *trees, tpt_hpa hpa)
{
	const struct vm_base *base = trees->base;

	return trees->record_linear
		       ? (struct table *)(trees->record_linear + hpa.a / CACHE_LINE)
		       : (struct table *)base->platform->page_record(base->platform_ctx, hpa);
}

static inline tpt_spte entry_read(const entry_t *e)
{
	return (tpt_spte){atomic_load_explicit((entry_t *)e, memory_order_acquire)};
}

/* Fills an actor's caches so that one fault can link tables down from a root. No section held.
 * -ERR_NOMEM: what was got stays for later. */
int tables_refill(struct trees *trees, struct actor *actor, bool mirror);
static inline int tables_topup(struct trees *trees, struct actor *actor, bool mirror)
{
	if (actor->tables.nr < actor->tables.want ||
	    (mirror && actor->external.nr < actor->external.want))
		return tables_refill(trees, actor, mirror);
	return 0;
}
/* Gives an actor's cached pages back to the platform. */
void tables_drop(struct trees *trees, struct actor *actor);

/* A new table with 512 EMPTY entries, from the actor's cache: never fails after a topup. */
struct table *table_make(struct trees *trees, struct actor *actor, enum tree_id id,
			 unsigned int level, tpt_gfn gfn);
/* The same, its entries undefined: the caller writes them all before it links the table. */
struct table *table_make_blank(struct trees *trees, struct actor *actor, enum tree_id id,
			       unsigned int level, tpt_gfn gfn);
/* Writes @nr entries of a table that nobody can reach yet: @word, and @step more in each. Plain
 * stores: the transition that links the table makes them visible. */
static inline void table_write(entry_t *entry, unsigned int nr, uint64_t word, uint64_t step)
{
	for (; nr & 3; nr--, word += step)
		atomic_store_explicit(entry++, word, memory_order_relaxed);
	/* Four at a time: the loop costs as much as a store. */
	for (; nr; nr -= 4, entry += 4, word += 4 * step) {
		atomic_store_explicit(&entry[0], word, memory_order_relaxed);
		atomic_store_explicit(&entry[1], word + step, memory_order_relaxed);
		atomic_store_explicit(&entry[2], word + 2 * step, memory_order_relaxed);
		atomic_store_explicit(&entry[3], word + 3 * step, memory_order_relaxed);
	}
}

/* Takes back a table that was not linked, or was for a moment only and is dead: then others
 * may be in it, and it is reclaimed later. */
void table_unmake(struct table *table, struct actor *actor);

/* An unlinked table and all below it: freed after the grace period, a table a call. */
void table_reclaim_later(struct table *table);
/* Marks it and every table below dead. Before its parent entry is replaced. */
void table_mark_dead(struct table *table);

/* ---- nx.c ---- */

/* What is to be remembered of a table that is linked. */
enum nx_mark {
	NX_NONE,
	NX_DISALLOWED, /* an exec fault needs it: no huge leaf takes its place */
	NX_POSSIBLE,   /* the same, and a huge leaf could: recovery shall know */
};

/*
 * Around the transition that links @table, of a direct tree: what the mark says. False: somebody is
 * at the list; nothing was done, RETRY, and no end() is owed. Shared section.
 */
bool nx_link_begin(struct trees *trees, struct table *table, enum nx_mark mark);
void nx_link_end(struct trees *trees, struct table *table, enum nx_mark mark, bool linked);
/* Takes the oldest table out of the list; NULL if it is empty. Shared section: until its end the
 * table's header can be read, whoever unlinks it. */
struct table *nx_take_oldest(struct trees *trees);
/* An unlinked table leaves the list, if it is in it. Before it is handed to the platform. */
void nx_forget(struct table *table);

/* ---- root.c ---- */

/* Makes the root if there is none. Exclusive section, after a topup. */
struct table *root_make(struct trees *trees, struct actor *actor, enum tree_id id);
/*
 * Invalidates the roots in @mask: no fault uses them from now on, and after the flush no processor
 * does; their tables are reclaimed later. Never a mirror's. Exclusive section.
 */
void roots_invalidate(struct trees *trees, struct actor *actor, unsigned int mask);

/* ---- iter.c ---- */

/* A table that a transition unlinked, and the guest frames that it translated. */
struct tree_detached {
	struct table *table; /* NULL: none */
	uint32_t as_id;
	struct tpt_gfn_range range;
};

/*
 * A position in a tree. @old is the entry as last read. Valid inside the section it was started in.
 */
struct tree_iter {
	struct trees *trees;
	enum tree_id id;
	unsigned int level, root_level, min_level;
	unsigned int nr,
		left;	   /* by runs: entries from here on; those that may still be looked at */
	tpt_gfn gfn;	   /* first GFN of the current entry */
	tpt_gfn next, end; /* where to go on; first GFN not wanted */
	tpt_gfn shared;	   /* index bit of this tree */
	tpt_spte old;
	entry_t *entry;
	tpt_hpa path[TPT_LEVEL_MAX + 1]; /* table at each level down to here; not below */
	bool must_flush; /* an entry that a processor may have cached lost something */
	struct tree_detached detached; /* tree_settle() is owed if there is a table */
};

/* Starts at the root's entry for @gfn. False if there is no root or @gfn >= @end. */
bool iter_start(struct tree_iter *it, struct trees *trees, enum tree_id id, tpt_gfn gfn,
		tpt_gfn end, unsigned int min_level);
/* Steps to the next entry, pre-order. False at the end. */
bool iter_next(struct tree_iter *it);
/* Steps into the table below; the current entry must be a TABLE. */
void iter_down(struct tree_iter *it);
void iter_reread(struct tree_iter *it);

static inline enum pte_kind iter_kind(const struct tree_iter *it)
{
	return pte_kind(&it->trees->format, it->old, it->level);
}

/* Every entry in [start, end) down to @min, parents first. */
#define for_each_tree_entry(it, trees, id, start, end, min) \
	for (bool _more = iter_start(it, trees, id, start, end, min); _more; _more = iter_next(it))

/*
 * The same a run at a time: it->nr entries from the iterator's on that lie side by side in one
 * table. At @min a run is whatever is there; above, it begins where there is neither a table nor
 * nothing, and whoever works on it stops before a table. At most @look entries are looked at, those
 * of runs included: then the walk gives way.
 */
#define ITER_ALL UINT32_MAX
bool iter_start_runs(struct tree_iter *it, struct trees *trees, enum tree_id id, tpt_gfn gfn,
		     tpt_gfn end, unsigned int min, unsigned int look);
/* The first @done of the run are done with: goes on behind them. False: at the end, or gives way.
 */
bool iter_next_run(struct tree_iter *it, unsigned int done);

/* The same entry by entry, tables above @min and EMPTY entries there passed over. */
static inline bool iter_next_of_runs(struct tree_iter *it)
{
	if (it->nr == 1 || it->level > it->min_level)
		return iter_next_run(it, 1);
	it->nr--;
	it->left--;
	it->gfn += tpt_level_pages(it->level);
	it->old = entry_read(++it->entry);
	return true;
}

/* At the end: did it give way, to be started again at it->next? */
static inline bool iter_gave_way(const struct tree_iter *it)
{
	return it->next < it->end;
}

/* ---- transition.c ---- */

enum tree_mode {
	TREE_SHARED,	/* in a shared section: others change entries too */
	TREE_EXCLUSIVE, /* in the exclusive section: only processors write, A and D */
};

/*
 * THE transition: it->old becomes @new_, here and, for a mirror, outside.
 *  0           done; it->old is the new entry, it->must_flush says if a flush is owed
 *  -ERR_BUSY   not done: the entry had changed, its table is dead, or the owner was busy; it->old
 * is what is there now -ERR_IO     not done: illegal, the VM is dead other       not done: the
 * owner of the external table refused
 */
int tree_transition(struct actor *actor, struct tree_iter *it, tpt_spte new_, enum tree_mode mode);
/* The same in the exclusive section of what is a leaf of a mirror, to BLOCKED; and of what is
 * BLOCKED, to EMPTY. */
int tree_block(struct actor *actor, struct tree_iter *it);
int tree_remove(struct actor *actor, struct tree_iter *it);
/*
 * The same of a table of a mirror that could be merged, to BLOCKED_TABLE: whoever remembers a walk
 * through it walks anew.
 */
int tree_block_table(struct actor *actor, struct tree_iter *it);
/* Flushes what was translated through a detached table and hands it to the reclaimer. No shared
 * section: the flush is the embedder's. Does nothing if there is none. */
void tree_settle(struct actor *actor, struct tree_detached *detached);

/* The transition that links @table, with what is to be remembered of it. Shared section. */
int tree_link(struct actor *actor, struct tree_iter *it, struct table *table, enum nx_mark mark);

/* ---- split.c ---- */

/*
 * tree_link() of a table that @leaves leaves were written into before: counts them, and takes back
 * the table that could not be linked.
 */
int tree_link_filled(struct actor *actor, struct tree_iter *it, struct table *table,
		     unsigned int leaves, enum nx_mark mark);

/*
 * Splits the direct leaf at the iterator into a table of leaves one level below that map the same
 * frames with the same permissions; with NX huge pages 4K leaves are executable. Shared section,
 * after a topup. Answers as the transition's. No flush is owed: every cached translation stays
 * right.
 */
int tree_split(struct actor *actor, struct tree_iter *it, enum nx_mark mark);

/* ---- resize.c: a mirror's leaves, in the exclusive section ---- */

/* First entry of the table that @table, an entry of any level above 4K, points to. */
tpt_spte tree_first(const struct trees *trees, tpt_spte table);
/* Are its entries 512 leaves over frames that follow one another, so aligned that one leaf at
 * @level, where the entry is, could map them? */
bool tree_is_uniform(const struct trees *trees, tpt_spte table, unsigned int level);

/*
 * What was blocked, and tracked since, changes its size, or goes back to what it was. Answers as
 * the transition's; after any error the entry is BLOCKED, or BLOCKED_TABLE, as before.
 *
 * tree_split_blocked(): BLOCKED to a table of leaves one level below. After a topup.
 * tree_merge_blocked(): BLOCKED_TABLE to the leaf; the owner's page of the table goes home.
 * tree_unblock(): either of them to the leaf, or the table, that it was.
 */
int tree_split_blocked(struct actor *actor, struct tree_iter *it);
int tree_merge_blocked(struct actor *actor, struct tree_iter *it);
int tree_unblock(struct actor *actor, struct tree_iter *it);

/* What became of @why, a change that failed for good: tree_unblock(), or the VM is dead. @why,
 * -ERR_BUSY if even that must be tried again, or -ERR_IO. */
int tree_go_back(struct actor *actor, struct tree_iter *it, const char *what, int why);

/* ---- sweep.c ---- */

/* Of a leaf: was it written? Without D it is enough that it could be. */
static inline uint64_t tree_dirty_bits(const struct pte_format *f)
{
	return f->dirty ? f->dirty : f->write;
}

/* What a sweep takes from each leaf. */
enum tree_rule {
	TREE_WRITE_PROTECT, /* W: a write faults, and the fast path gives it back */
	TREE_WRITE_TRACK,   /* W, and the mark that lets the fast path give it back */
	TREE_CLEAR_DIRTY,   /* D: the processor logs the next write */
	TREE_AGE,	    /* A; without A all access, which the fast path gives back */
	TREE_TEST_AGE,	    /* nothing: what TREE_AGE would hit */
	TREE_ZAP,	    /* all: EMPTY. Exclusive section */
	TREE_ZAP_MMIO,	    /* the same, and MMIO entries, which are no hits */
};

#define TREE_SWEEP_WORDS (TABLE_ENTRIES / 64)

/* Words of bits, one an entry, bit 0 the iterator's; as many as the entries swept need are written.
 */
struct tree_sweep {
	enum tree_rule rule;
	const uint64_t *mask;		/* those swept; NULL: all */
	uint64_t hit[TREE_SWEEP_WORDS]; /* out: the leaves that had something to lose */
	/* Out, of TREE_ZAP: of those, the leaves that were dirty and young when they went. */
	uint64_t dirty[TREE_SWEEP_WORDS], young[TREE_SWEEP_WORDS];
	unsigned int
		done; /* out: entries from the first on up to a table, which a walk goes into */
};

/*
 * Sweeps @nr entries from the iterator's on, all in one table of a direct tree: leaves lose what
 * the rule says, all else stays. Either section. Returns how many lost something; it->must_flush
 * if a processor may have cached that (an aged leaf owes no flush: young is a hint). Above
 * it->min_level it stops before a table.
 */
unsigned int tree_sweep(struct actor *actor, struct tree_iter *it, unsigned int nr,
			struct tree_sweep *sweep);

/* ---- fill.c ---- */

/* Leaves of consecutive entries over consecutive frames. */
struct tree_run {
	tpt_spte leaf;	 /* the first */
	unsigned int nr; /* how many; not 0 */
};

/* The first @nr bits, and no other. */
static inline void tree_first_bits(uint64_t bits[TREE_SWEEP_WORDS], unsigned int nr)
{
	for (unsigned int i = 0; i < TREE_SWEEP_WORDS; i++)
		bits[i] = nr >= 64 * (i + 1) ? ~0ull : nr > 64 * i ? (1ull << (nr % 64)) - 1 : 0;
}

/*
 * Fills the entries from the iterator's on, all in one table of a direct tree, with the leaves of
 * @nr_runs runs, one after the other. Entries that are leaves stay what they are; it stops before
 * one that is neither EMPTY nor a leaf. Shared section. Returns how many entries from the first on
 * are leaves now, and in @hit which of them it filled (bit i: entry i). No flush is owed.
 *  -ERR_BUSY  the table is dead: what was filled was taken back, but for what another fault has
 *             gone on from; @hit says which entries there were for a moment
 *  -ERR_IO    one of the leaves is none of this level: nothing was filled, the VM is dead
 */
int tree_fill(struct actor *actor, struct tree_iter *it, const struct tree_run *run,
	      unsigned int nr_runs, uint64_t hit[TREE_SWEEP_WORDS]);

/*
 * The same where there is no table yet: @it stands on the EMPTY entry above. A table is filled from
 * its entry @first on before anybody can reach it, with no atomic operation an entry, and linked.
 * Shared section, after a topup. 0, or as the transition; after -ERR_BUSY its entries may have been
 * there for a moment.
 */
int tree_fill_new(struct actor *actor, struct tree_iter *it, unsigned int first,
		  const struct tree_run *run, unsigned int nr_runs);

/* Moves the iterator @n entries on inside its table: the next step goes on behind them. */
static inline void iter_skip(struct tree_iter *it, unsigned int n)
{
	it->entry += n;
	it->gfn += n * tpt_level_pages(it->level);
}

#endif
