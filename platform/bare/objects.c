// SPDX-License-Identifier: BSD-2-Clause
/*
 * Memory for the core's objects: blocks with a header each, split when taken, joined when free.
 * Never moves one, and takes no time that grows with how many there are, unless memory is short.
 */
#include "platform/bare/internal.h"

#define UNIT CACHE_LINE

/* Before each object; as long as its alignment, so that the object keeps it. */
struct block {
	_Alignas(UNIT) uint64_t units; /* of UNIT bytes, the header included */
	uint64_t before;	       /* units of the block before this one; 0: it is the first */
	uint64_t bytes;		       /* as asked for */
	uint64_t mark;		       /* what it is: mark_of() */
	struct block *next, **link;    /* free: the next one of the class, and what points here */
};
_Static_assert(sizeof(struct block) == UNIT, "a header is as long as the alignment");

#define MARK_LIVE 0x6c697665626c6f63ull
#define MARK_FREE 0x66726565626c6f63ull

/* Of its place too, so that a copy of a header is none. */
static uint64_t mark_of(const struct block *b, uint64_t what)
{
	return what ^ (uintptr_t)b;
}

static struct block *block_after(const struct block *b)
{
	return (struct block *)b + b->units;
}

/* Up to 8 units a class each, then eight classes to each power of two. */
static unsigned int class_of(uint64_t units)
{
	unsigned int log = 63 - (unsigned int)__builtin_clzll(units);

	return units < 8 ? (unsigned int)units
			 : (log - 2) << 3 | (unsigned int)(units >> (log - 3) & 7);
}

static void link_free(struct heap *h, struct block *b)
{
	unsigned int class = class_of(b->units);

	b->mark = mark_of(b, MARK_FREE);
	b->next = h->free[class];
	b->link = &h->free[class];
	if (b->next)
		b->next->link = &b->next;
	h->free[class] = b;
	h->filled[class / 64] |= 1ull << class % 64;
}

static void unlink_free(struct heap *h, struct block *b)
{
	unsigned int class = class_of(b->units);

	*b->link = b->next;
	if (b->next)
		b->next->link = b->link;
	if (!h->free[class])
		h->filled[class / 64] &= ~(1ull << class % 64);
	b->mark = 0;
}

/* Tells the block after @b how long @b is. */
static void tell_after(const struct heap *h, const struct block *b)
{
	struct block *after = block_after(b);

	if (after != h->end)
		after->before = b->units;
}

/* Any block of class @class or above; they are all large enough for who asks. */
static struct block *find_above(const struct heap *h, unsigned int class)
{
	uint64_t bits = ~0ull << class % 64;

	for (unsigned int word = class / 64; word < HEAP_WORDS; word++, bits = ~0ull) {
		bits &= h->filled[word];
		if (bits)
			return h->free[word * 64 + (unsigned int)__builtin_ctzll(bits)];
	}
	return NULL;
}

/* The classes above that of one unit less hold nothing that is too small; its own may. */
static struct block *find(const struct heap *h, uint64_t units)
{
	unsigned int class = class_of(units - 1);
	struct block *b = find_above(h, class + 1);

	if (b || class_of(units) != class)
		return b;
	for (b = h->free[class]; b; b = b->next)
		if (b->units >= units)
			return b;
	return NULL;
}

/*
 * Makes what @b, which is in no list, has above @units a free block. One of a header alone is of
 * use to nobody until it is joined with the next one.
 */
static void split(struct heap *h, struct block *b, uint64_t units)
{
	struct block *rest = b + units;

	if (b->units == units)
		return;
	rest->units = b->units - units;
	rest->before = units;
	tell_after(h, rest);
	b->units = units;
	link_free(h, rest);
}

static struct block *take(struct heap *h, uint64_t units, size_t bytes)
{
	struct block *b = find(h, units);

	if (!b)
		return NULL;
	unlink_free(h, b);
	split(h, b, units);
	b->mark = mark_of(b, MARK_LIVE);
	b->bytes = bytes;
	bare_count(&h->live, 1);
	bare_count(&h->bytes, bytes);
	return b;
}

static bool is_free(const struct heap *h, const struct block *b)
{
	return b != h->end && b->mark == mark_of(b, MARK_FREE);
}

static void give(struct heap *h, struct block *b)
{
	struct block *after = block_after(b), *before = b - b->before;

	bare_count(&h->live, (uint64_t)-1);
	bare_count(&h->bytes, -(uint64_t)b->bytes);
	b->mark = 0;
	if (is_free(h, after)) {
		unlink_free(h, after);
		b->units += after->units;
	}
	if (b->before && is_free(h, before)) {
		unlink_free(h, before);
		before->units += b->units;
		b = before;
	}
	tell_after(h, b);
	link_free(h, b);
}

void bare_heap_init(struct tpt_bare *bare, void *memory, uint64_t bytes)
{
	struct heap *h = &bare->heap;

	h->first = memory;
	h->end = h->first + bytes / UNIT;
	*h->first = (struct block){.units = bytes / UNIT};
	link_free(h, h->first);
}

void *bare_mem_alloc(void *ctx, size_t bytes)
{
	struct tpt_bare *bare = ctx;
	struct heap *h = &bare->heap;
	struct block *b;

	/* Also keeps what follows from wrapping. */
	if (bytes > (uintptr_t)h->end - (uintptr_t)h->first)
		return NULL;
	bare_spin_lock(bare, &h->lock);
	b = take(h, 1 + (bytes ? (bytes + UNIT - 1) / UNIT : 1), bytes);
	bare_spin_unlock(&h->lock);
	if (!b)
		return NULL;
	memset(b + 1, 0, (b->units - 1) * UNIT);
	return b + 1;
}

/* Could an object be at @mem? */
static bool is_inside(const struct heap *h, const void *mem)
{
	uintptr_t at = (uintptr_t)mem;

	return at > (uintptr_t)h->first && at < (uintptr_t)h->end && !(at & (UNIT - 1));
}

void bare_mem_free(void *ctx, void *mem, size_t bytes)
{
	struct tpt_bare *bare = ctx;
	struct heap *h = &bare->heap;
	struct block *b = mem;
	uint64_t asked = 0;
	bool live = false;

	if (!mem)
		return;
	if (is_inside(h, mem)) {
		b--;
		bare_spin_lock(bare, &h->lock);
		live = b->mark == mark_of(b, MARK_LIVE);
		if (live) {
			asked = b->bytes;
			give(h, b);
		}
		bare_spin_unlock(&h->lock);
	}
	if (!live)
		bare_misuse(bare, "mem_free of %#lx, which is no object", (unsigned long)mem);
	else if (asked != bytes)
		bare_misuse(bare, "mem_free with %lu bytes of an object of %lu", bytes, asked);
}
