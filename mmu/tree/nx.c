// SPDX-License-Identifier: BSD-2-Clause
/*
 * Tables that stand where a huge leaf could be but for code that runs there: in a list, oldest
 * first, with room in each header that nothing else needs while the table is linked. Never links or
 * unlinks one.
 *
 *	fault:     try lock -> in the list -> link it -> unlock    no lock: RETRY, nothing was done
 *	recovery:  lock -> out of the list -> unlock -> detach it
 *	reclaimer: lock -> out of the list -> unlock -> free it    only if nobody else took it out
 */
#include "mmu/tree/tree.h"

static bool try_lock(struct nx_list *list)
{
	return !atomic_exchange_explicit(&list->lock, 1, memory_order_acquire);
}

/* Held for a few stores, or for one transition: nobody waits for anything in between. */
static void lock(struct trees *trees)
{
	while (!try_lock(&trees->nx))
		trees->base->platform->relax(trees->base->platform_ctx);
}

static void unlock(struct nx_list *list)
{
	atomic_store_explicit(&list->lock, 0, memory_order_release);
}

static void count(struct nx_list *list, int64_t n)
{
	atomic_store_explicit(&list->nr,
			      atomic_load_explicit(&list->nr, memory_order_relaxed) + (uint64_t)n,
			      memory_order_relaxed);
}

static void append(struct nx_list *list, struct table *table)
{
	table->nx.prev = list->last;
	table->nx.next = NULL;
	*(list->last ? &list->last->nx.next : &list->first) = table;
	list->last = table;
	atomic_store_explicit(&table->nx_listed, 1, memory_order_relaxed);
	count(list, 1);
}

static void take_out(struct nx_list *list, struct table *table)
{
	*(table->nx.prev ? &table->nx.prev->nx.next : &list->first) = table->nx.next;
	*(table->nx.next ? &table->nx.next->nx.prev : &list->last) = table->nx.prev;
	count(list, -1);
	/* Last: whoever sees it may use the links' place for something else. */
	atomic_store_explicit(&table->nx_listed, 0, memory_order_release);
}

bool nx_link_begin(struct trees *trees, struct table *table, enum nx_mark mark)
{
	if (mark == NX_POSSIBLE && !try_lock(&trees->nx))
		return false;
	atomic_store_explicit(&table->nx_disallowed, mark != NX_NONE, memory_order_relaxed);
	if (mark == NX_POSSIBLE)
		append(&trees->nx, table);
	return true;
}

void nx_link_end(struct trees *trees, struct table *table, enum nx_mark mark, bool linked)
{
	if (mark != NX_POSSIBLE)
		return;
	if (!linked)
		take_out(&trees->nx, table);
	unlock(&trees->nx);
}

struct table *nx_take_oldest(struct trees *trees)
{
	struct table *table;

	lock(trees);
	table = trees->nx.first;
	if (table)
		take_out(&trees->nx, table);
	unlock(&trees->nx);
	return table;
}

void nx_forget(struct table *table)
{
	struct trees *trees = table->trees;

	if (!atomic_load_explicit(&table->nx_listed, memory_order_acquire))
		return;
	lock(trees);
	if (atomic_load_explicit(&table->nx_listed, memory_order_relaxed))
		take_out(&trees->nx, table);
	unlock(&trees->nx);
}
