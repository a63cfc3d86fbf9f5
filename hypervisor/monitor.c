// SPDX-License-Identifier: BSD-2-Clause
/*
 * The monitor's half of private memory: tables in NPT format (APM vol. 2, "Nested Paging"), made
 * and read by itself; whose each frame is; and epochs, by which it knows that no processor can
 * still have a translation of what it gives back. Trusts nothing that the hypervisor says of frames
 * or of the order of calls; but its tables stand in pages that the hypervisor gave, and that only a
 * real module could take out of its reach.
 *
 *	root of vCPU n:  | private: this file's | shared: copied from the direct root | nothing |
 *			 0             1 << (shared bit - 39)                        2 <<
 */
#include "hypervisor/hv.h"
#include "hypervisor/monitor.h"

#define P	   (1ull << 0)
#define W	   (1ull << 1)
#define U	   (1ull << 2)
#define A	   (1ull << 5)
#define D	   (1ull << 6)
#define PS	   (1ull << 7)
#define BLOCKED	   (1ull << 9) /* ours: P was taken away */
#define ADDR	   0x000ffffffffff000ull
#define TABLE	   (P | W | U | A)
#define LEAF	   (P | W | U | A | D)
#define ENTRIES	   512
#define LEVELS	   4
#define ROOT_SHIFT 39 /* of what an entry of the root covers */
#define NO_GFN	   (~0ull)

enum owner { OWNER_HOST, OWNER_GUEST };

/* One private frame. */
struct frame {
	_Atomic uint8_t owner;
};

struct seat {
	_Atomic uint64_t epoch; /* that it entered in; 0: outside */
	uint64_t last;		/* that its translations are of */
	uint64_t root;
};

static uint64_t root, first_frame, nr_frames, private_end;
static uint64_t half; /* bytes of a root's private entries; as many shared ones follow */
static unsigned int nr_seats;
static struct frame *frames;
static struct seat seats[TPT_BARE_VCPUS];
static _Atomic uint64_t epoch = 1;
static uint64_t blocked_epoch; /* of the last block: nothing before it needs more than it */
static bool finalized;
static _Atomic bool released;
static tpt_gfn adding = NO_GFN;
static const void *adding_content;

void monitor_init(uint64_t first, uint64_t nr, unsigned int shared_bit, unsigned int nr_vcpus_)
{
	first_frame = first;
	nr_frames = nr;
	private_end = 1ull << (shared_bit - TPT_PAGE_SHIFT);
	half = sizeof(uint64_t) << (shared_bit - ROOT_SHIFT);
	nr_seats = nr_vcpus_;
	root = page_take(4096);
	frames = phys(page_take(nr * sizeof(*frames)));
	for (unsigned int i = 0; i < nr_seats; i++)
		seats[i].root = page_take(4096);
}

int monitor_add(tpt_gfn gfn, const void *content)
{
	if (finalized)
		return -ERR_INVAL;
	adding = gfn;
	adding_content = content;
	return 0;
}

void monitor_finalize(void)
{
	finalized = true;
	adding = NO_GFN;
}

typedef _Atomic uint64_t entry_t;

/* ---- entering ---- */

/* Entry by entry, each whole: other vCPUs link tables there meanwhile. */
static void copy_half(uint64_t to, uint64_t from, uint64_t start)
{
	entry_t *t = phys(to + start), *f = phys(from + start);

	for (uint64_t i = 0; i < half / sizeof(*t); i++)
		atomic_store_explicit(&t[i], atomic_load_explicit(&f[i], memory_order_acquire),
				      memory_order_relaxed);
}

uint64_t monitor_enter(unsigned int vcpu, uint64_t direct_root, bool *flush)
{
	struct seat *s = &seats[vcpu];
	uint64_t now;

	if (!finalized)
		panic("monitor: a vCPU enters a guest that is still being made");
	/* Marked first, then looked again: who starts an epoch sees the mark, or is seen. */
	do {
		now = atomic_load(&epoch);
		atomic_store(&s->epoch, now);
	} while (now != atomic_load(&epoch));
	if (atomic_load(&released)) {
		atomic_store(&s->epoch, 0);
		panic("monitor: a vCPU enters a guest that is over");
	}
	if (s->last != now)
		*flush = true;
	s->last = now;
	copy_half(s->root, root, 0);
	copy_half(s->root, direct_root, half);
	return s->root;
}

void monitor_leave(unsigned int vcpu)
{
	atomic_store_explicit(&seats[vcpu].epoch, 0, memory_order_release);
}

/* Is some vCPU in the guest since before @since? */
static bool any_inside_before(uint64_t since)
{
	for (unsigned int i = 0; i < nr_seats; i++) {
		uint64_t at = atomic_load(&seats[i].epoch);

		if (at && at < since)
			return true;
	}
	return false;
}

/* ---- tables ---- */

static entry_t *entry_at(tpt_gfn gfn, unsigned int level)
{
	entry_t *table = phys(root);

	if (gfn >= private_end || level < 1 || level > LEVELS || gfn & (tpt_level_pages(level) - 1))
		return NULL;
	for (unsigned int l = LEVELS;; l--) {
		entry_t *e = &table[gfn >> 9 * (l - 1) & (ENTRIES - 1)];
		uint64_t w = atomic_load(e);

		if (l == level)
			return e;
		/* A blocked table still is where its entries are. */
		if (!(w & (P | BLOCKED)) || (w & PS))
			return NULL;
		table = phys(w & ADDR);
	}
}

/* Of a guest that is not over. */
static entry_t *entry_alive(tpt_gfn gfn, unsigned int level)
{
	return atomic_load(&released) ? NULL : entry_at(gfn, level);
}

static bool is_private(uint64_t pfn)
{
	return pfn >= first_frame && pfn - first_frame < nr_frames;
}

/* A page that can be a table without doing harm to the guest's own. */
static bool is_table_page(uint64_t pa)
{
	return pa && !(pa & ~ADDR) && !is_private(pa >> TPT_PAGE_SHIFT);
}

static bool is_leaf(uint64_t w, unsigned int level)
{
	return (w & (P | BLOCKED)) && (level == TPT_LEVEL_4K || (w & PS));
}

static uint64_t leaf_word(tpt_pfn pfn, unsigned int level)
{
	return pfn.n << TPT_PAGE_SHIFT | LEAF | (level > TPT_LEVEL_4K ? PS : 0);
}

/* The frames of a leaf change hands. False, nothing done: one is not @from's, or not private. */
static bool frames_give(tpt_pfn pfn, unsigned int level, enum owner from, enum owner to)
{
	uint64_t n = tpt_level_pages(level), at = pfn.n - first_frame;

	if (!is_private(pfn.n) || n > nr_frames - at || pfn.n & (n - 1))
		return false;
	/* One by one: another vCPU may want the same. */
	for (uint64_t i = 0; i < n; i++) {
		uint8_t owner = from;

		if (atomic_compare_exchange_strong(&frames[at + i].owner, &owner, to))
			continue;
		while (i--)
			atomic_store(&frames[at + i].owner, from);
		return false;
	}
	return true;
}

static void clear(tpt_pfn pfn, unsigned int level)
{
	memset(phys(pfn.n << TPT_PAGE_SHIFT), 0, tpt_level_pages(level) << TPT_PAGE_SHIFT);
}

/* ---- the external ops: contracts in triptych/external.h ---- */

static int monitor_link(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_hpa table)
{
	entry_t *e = entry_alive(gfn, level);
	uint64_t empty = 0;

	(void)ctx;
	if (!e || level == TPT_LEVEL_4K || atomic_load(e) || !is_table_page(table.a))
		return -ERR_INVAL;
	memset(phys(table.a), 0, 4096);
	return atomic_compare_exchange_strong(e, &empty, table.a | TABLE) ? 0 : -ERR_INVAL;
}

static int monitor_map(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_pfn pfn)
{
	entry_t *e = entry_alive(gfn, level);
	bool added = adding == gfn;
	uint64_t empty = 0;

	(void)ctx;
	if (!e || level > TPT_LEVEL_2M || atomic_load(e) ||
	    !frames_give(pfn, level, OWNER_HOST, OWNER_GUEST))
		return -ERR_INVAL;
	if (added && level == TPT_LEVEL_4K)
		memcpy(phys(pfn.n << TPT_PAGE_SHIFT), adding_content, 4096);
	else
		clear(pfn, level);
	if (!atomic_compare_exchange_strong(e, &empty, leaf_word(pfn, level))) {
		clear(pfn, level);
		frames_give(pfn, level, OWNER_GUEST, OWNER_HOST);
		return -ERR_INVAL;
	}
	if (added)
		adding = NO_GFN;
	return 0;
}

/* Takes P away: from now on a walk ends there; what was walked before is the epoch's matter. */
static int monitor_block(void *ctx, tpt_gfn gfn, enum tpt_level level)
{
	entry_t *e = entry_alive(gfn, level);

	(void)ctx;
	if (!e || !(atomic_load(e) & P))
		return -ERR_INVAL;
	/* The processor may be writing A and D. */
	atomic_fetch_or(e, BLOCKED);
	atomic_fetch_and(e, ~P);
	blocked_epoch = atomic_load(&epoch);
	return 0;
}

/* 0: no processor can have a translation of what is blocked. */
static int is_tracked(const entry_t *e)
{
	if (!e || !(atomic_load(e) & BLOCKED))
		return -ERR_INVAL;
	if (blocked_epoch == atomic_load(&epoch) || any_inside_before(blocked_epoch + 1))
		return -ERR_BUSY;
	return 0;
}

static int monitor_unblock(void *ctx, tpt_gfn gfn, enum tpt_level level)
{
	entry_t *e = entry_alive(gfn, level);
	int err = is_tracked(e);

	(void)ctx;
	if (!err)
		atomic_store(e, (atomic_load(e) | P) & ~BLOCKED);
	return err;
}

static int monitor_track(void *ctx)
{
	(void)ctx;
	if (any_inside_before(atomic_load(&epoch)))
		return -ERR_BUSY;
	atomic_fetch_add(&epoch, 1);
	return 0;
}

static int give_back(entry_t *e, unsigned int level, tpt_pfn pfn)
{
	uint64_t w = atomic_load(e);

	if (!is_leaf(w, level) || (w & ADDR) != pfn.n << TPT_PAGE_SHIFT ||
	    !atomic_compare_exchange_strong(e, &w, 0))
		return -ERR_INVAL;
	/* Clean, and only then anybody's. */
	clear(pfn, level);
	return frames_give(pfn, level, OWNER_GUEST, OWNER_HOST) ? 0 : -ERR_INVAL;
}

static int monitor_remove(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_pfn pfn)
{
	entry_t *e = entry_alive(gfn, level);
	int err = is_tracked(e);

	(void)ctx;
	return err ? err : give_back(e, level, pfn);
}

static int monitor_release(void *ctx)
{
	(void)ctx;
	/* As an epoch begins: who enters sees it, or is seen. */
	atomic_store(&released, true);
	if (!any_inside_before(~0ull))
		return 0;
	atomic_store(&released, false);
	return -ERR_BUSY;
}

static int monitor_reclaim_leaf(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_pfn pfn)
{
	entry_t *e = entry_at(gfn, level);

	(void)ctx;
	return !released || !e ? -ERR_INVAL : give_back(e, level, pfn);
}

static bool table_is_empty(uint64_t table)
{
	const entry_t *e = phys(table);

	for (unsigned int i = 0; i < ENTRIES; i++)
		if (atomic_load(&e[i]))
			return false;
	return true;
}

static int monitor_free_table(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_hpa table)
{
	entry_t *e = entry_at(gfn, level);

	(void)ctx;
	if (!released || !e || !atomic_load(e) || is_leaf(atomic_load(e), level) ||
	    (atomic_load(e) & ADDR) != table.a || !table_is_empty(table.a))
		return -ERR_INVAL;
	atomic_store(e, 0);
	return 0;
}

static int monitor_read(void *ctx, tpt_gfn gfn, enum tpt_level level,
			struct tpt_external_entry *entry)
{
	entry_t *e = entry_at(gfn, level);
	uint64_t w = e ? atomic_load(e) : 0;

	(void)ctx;
	*entry = (struct tpt_external_entry){TPT_EXTERNAL_NONE, {0}};
	if (is_leaf(w, level)) {
		entry->kind = w & P ? TPT_EXTERNAL_LEAF : TPT_EXTERNAL_BLOCKED_LEAF;
		entry->pfn = tpt_pfn_make((w & ADDR) >> TPT_PAGE_SHIFT);
	} else if (w) {
		entry->kind = w & P ? TPT_EXTERNAL_TABLE : TPT_EXTERNAL_BLOCKED_TABLE;
	}
	return 0;
}

static int monitor_split(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_hpa table)
{
	entry_t *e = entry_alive(gfn, level), *below = phys(table.a);
	uint64_t pages = tpt_level_pages(level) / ENTRIES;
	int err = is_tracked(e);

	(void)ctx;
	if (err || level == TPT_LEVEL_4K || !is_leaf(atomic_load(e), level) ||
	    !is_table_page(table.a))
		return err ? err : -ERR_INVAL;
	for (unsigned int i = 0; i < ENTRIES; i++)
		atomic_store(&below[i],
			     leaf_word(tpt_pfn_make(((atomic_load(e) & ADDR) >> 12) + i * pages),
				       level - 1));
	atomic_store(e, table.a | TABLE);
	return 0;
}

static int monitor_merge(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_hpa table)
{
	entry_t *e = entry_alive(gfn, level), *below = phys(table.a);
	uint64_t pages = tpt_level_pages(level) / ENTRIES, pfn;
	int err = is_tracked(e);

	(void)ctx;
	if (err || (atomic_load(e) & ADDR) != table.a || is_leaf(atomic_load(e), level))
		return err ? err : -ERR_INVAL;
	pfn = (atomic_load(&below[0]) & ADDR) >> TPT_PAGE_SHIFT;
	for (unsigned int i = 0; i < ENTRIES; i++)
		if ((atomic_load(&below[i]) | A | D) !=
		    leaf_word(tpt_pfn_make(pfn + i * pages), level - 1))
			return -ERR_INVAL;
	if (pfn & (tpt_level_pages(level) - 1))
		return -ERR_INVAL;
	atomic_store(e, leaf_word(tpt_pfn_make(pfn), level));
	memset(phys(table.a), 0, 4096);
	return 0;
}

const struct tpt_external_ops monitor_ops = {
	.size = sizeof(monitor_ops),
	.link = monitor_link,
	.map = monitor_map,
	.block = monitor_block,
	.unblock = monitor_unblock,
	.track = monitor_track,
	.remove = monitor_remove,
	.release = monitor_release,
	.reclaim_leaf = monitor_reclaim_leaf,
	.free_table = monitor_free_table,
	.read = monitor_read,
	.split = monitor_split,
	.merge = monitor_merge,
};
