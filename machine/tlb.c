// SPDX-License-Identifier: BSD-2-Clause
/*
 * One LP's cache of translations and table entries: a hash table in order of use. Forgets only what
 * it is told to and, if it has a limit, what does not fit. Never decides whether an entry is stale.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "machine/internal.h"

#define NO_SLOT	   UINT32_MAX
#define FIRST_SIZE 256u

static uint32_t bucket_of(const struct tlb *tlb, uint64_t gpa, unsigned int level, bool table)
{
	uint64_t key = (gpa >> level_shift(level)) * 16 + level * 2 + table;

	return (key * 0x9e3779b97f4a7c15ull >> 32) & (tlb->nr_buckets - 1);
}

static void rehash(struct tlb *tlb)
{
	memset(tlb->buckets, 0xff, tlb->nr_buckets * sizeof(*tlb->buckets));
	for (uint32_t i = tlb->oldest; i != NO_SLOT; i = tlb->slots[i].newer) {
		struct cached *e = &tlb->slots[i];
		uint32_t *head = &tlb->buckets[bucket_of(tlb, e->gpa, e->level, e->table)];

		e->hash_next = *head;
		*head = i;
	}
}

static int grow(struct tlb *tlb)
{
	uint32_t nr = tlb->nr_slots ? tlb->nr_slots * 2 : FIRST_SIZE, buckets = nr;
	struct cached *slots;
	uint32_t *heads;

	if (tlb->limit && nr > tlb->limit)
		nr = tlb->limit;
	if (nr <= tlb->nr_slots)
		return -ENOSPC;
	slots = realloc(tlb->slots, nr * sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	tlb->slots = slots;
	heads = realloc(tlb->buckets, buckets * sizeof(*heads));
	if (!heads)
		return -ENOMEM;
	tlb->buckets = heads;
	tlb->nr_buckets = buckets;
	for (uint32_t i = tlb->nr_slots; i < nr; i++) {
		slots[i].hash_next = tlb->unused;
		tlb->unused = i;
	}
	tlb->nr_slots = nr;
	rehash(tlb);
	return 0;
}

int tlb_init(struct tlb *tlb, const struct machine_config *config, unsigned int cpu)
{
	memset(tlb, 0, sizeof(*tlb));
	tlb->limit = config->tlb_entries;
	tlb->random = config->evict == MACHINE_EVICT_RANDOM;
	tlb->seed = (config->seed + cpu) * 2 + 1;
	tlb->unused = tlb->oldest = tlb->newest = NO_SLOT;
	return grow(tlb);
}

void tlb_exit(struct tlb *tlb)
{
	free(tlb->slots);
	free(tlb->buckets);
}

static void order_remove(struct tlb *tlb, struct cached *e)
{
	if (e->older == NO_SLOT)
		tlb->oldest = e->newer;
	else
		tlb->slots[e->older].newer = e->newer;
	if (e->newer == NO_SLOT)
		tlb->newest = e->older;
	else
		tlb->slots[e->newer].older = e->older;
}

static void order_append(struct tlb *tlb, struct cached *e)
{
	uint32_t slot = e - tlb->slots;

	e->older = tlb->newest;
	e->newer = NO_SLOT;
	if (tlb->newest == NO_SLOT)
		tlb->oldest = slot;
	else
		tlb->slots[tlb->newest].newer = slot;
	tlb->newest = slot;
}

struct cached *tlb_find(struct tlb *tlb, struct space_id id, uint64_t gpa, unsigned int level,
			bool table)
{
	uint64_t base = level_base(gpa, level);
	uint32_t i;

	if (!tlb->count[table][level])
		return NULL;
	for (i = tlb->buckets[bucket_of(tlb, gpa, level, table)]; i != NO_SLOT;
	     i = tlb->slots[i].hash_next) {
		struct cached *e = &tlb->slots[i];

		if (e->gpa != base || e->level != level || e->table != table ||
		    e->id.ctx != id.ctx || e->id.kind != id.kind)
			continue;
		if (tlb->limit && tlb->newest != i) { /* the order matters to eviction only */
			order_remove(tlb, e);
			order_append(tlb, e);
		}
		return e;
	}
	return NULL;
}

void tlb_drop(struct tlb *tlb, struct cached *entry)
{
	uint32_t slot = entry - tlb->slots;
	uint32_t *link = &tlb->buckets[bucket_of(tlb, entry->gpa, entry->level, entry->table)];

	while (*link != slot)
		link = &tlb->slots[*link].hash_next;
	*link = entry->hash_next;
	order_remove(tlb, entry);
	tlb->count[entry->table][entry->level]--;
	tlb->nr_used--;
	entry->hash_next = tlb->unused;
	tlb->unused = slot;
}

unsigned int tlb_drop_gpa(struct tlb *tlb, struct space_id id, uint64_t gpa)
{
	unsigned int dropped = 0;

	for (unsigned int n = 0; n < 2 * MACHINE_MAX_LEVEL; n++) {
		struct cached *e = tlb_find(tlb, id, gpa, n / 2 + 1, n & 1);

		if (!e)
			continue;
		tlb_drop(tlb, e);
		dropped++;
	}
	return dropped;
}

/* All slots are in use when this is asked, so any slot number is an entry. */
static struct cached *victim(struct tlb *tlb)
{
	if (!tlb->random)
		return &tlb->slots[tlb->oldest];
	tlb->seed = tlb->seed * 6364136223846793005ull + 1442695040888963407ull;
	return &tlb->slots[(tlb->seed >> 33) % tlb->nr_slots];
}

unsigned int tlb_insert(struct tlb *tlb, const struct cached *entry)
{
	struct cached *e = tlb_find(tlb, entry->id, entry->gpa, entry->level, entry->table);
	unsigned int evicted = 0;
	uint32_t *head, slot;

	if (e)
		tlb_drop(tlb, e);
	if (tlb->unused == NO_SLOT && grow(tlb)) {
		tlb_drop(tlb, victim(tlb));
		evicted = 1;
	}
	slot = tlb->unused;
	e = &tlb->slots[slot];
	tlb->unused = e->hash_next;
	*e = *entry;
	head = &tlb->buckets[bucket_of(tlb, e->gpa, e->level, e->table)];
	e->hash_next = *head;
	*head = slot;
	order_append(tlb, e);
	tlb->count[e->table][e->level]++;
	tlb->nr_used++;
	return evicted;
}

static bool overlaps(const struct cached *e, uint64_t tag, uint64_t start, uint64_t end)
{
	if (tag != MACHINE_TAG_ALL && e->tag != tag)
		return false;
	return e->gpa < end && e->gpa + ((1ull << level_shift(e->level)) - 1) >= start;
}

/* The entries of one level around [start, end), found by their buckets. */
static void each_at(struct tlb *tlb, uint64_t tag, uint64_t start, uint64_t end, unsigned int level,
		    bool table, void (*fn)(struct tlb *, struct cached *, void *), void *arg)
{
	for (uint64_t gpa = level_base(start, level); gpa < end;
	     gpa += 1ull << level_shift(level)) {
		uint32_t next, i = tlb->buckets[bucket_of(tlb, gpa, level, table)];

		for (; i != NO_SLOT; i = next) {
			struct cached *e = &tlb->slots[i];

			next = e->hash_next;
			if (e->level == level && e->table == table && e->gpa == gpa &&
			    overlaps(e, tag, start, end))
				fn(tlb, e, arg);
		}
	}
}

void tlb_each(struct tlb *tlb, uint64_t tag, uint64_t start, uint64_t end,
	      void (*fn)(struct tlb *tlb, struct cached *entry, void *arg), void *arg)
{
	uint32_t next;

	if (start < end && end >> PA_BITS == 0 && (end - start) >> PAGE_SHIFT < tlb->nr_used / 4) {
		for (unsigned int n = 0; n < 2 * MACHINE_MAX_LEVEL; n++)
			if (tlb->count[n & 1][n / 2 + 1])
				each_at(tlb, tag, start, end, n / 2 + 1, n & 1, fn, arg);
		return;
	}
	for (uint32_t i = tlb->oldest; i != NO_SLOT; i = next) {
		next = tlb->slots[i].newer;
		if (overlaps(&tlb->slots[i], tag, start, end))
			fn(tlb, &tlb->slots[i], arg);
	}
}
