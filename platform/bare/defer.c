// SPDX-License-Identifier: BSD-2-Clause
/* Deferred work: a queue, and whoever comes by and runs it. Never runs any while it has a lock. */
#include "platform/bare/internal.h"

/* Most items that one call runs. */
#define BATCH 64u

void bare_queue_init(struct tpt_bare *bare)
{
	bare->queue.last = &bare->queue.first;
}

void bare_defer(void *ctx, struct tpt_deferred *d)
{
	struct tpt_bare *bare = ctx;
	struct queue *q = &bare->queue;

	bare_spin_lock(bare, &q->lock);
	d->next = NULL;
	*q->last = d;
	q->last = &d->next;
	bare_count(&q->deferred, 1);
	bare_spin_unlock(&q->lock);
}

static struct tpt_deferred *take_oldest(struct tpt_bare *bare)
{
	struct queue *q = &bare->queue;
	struct tpt_deferred *d;

	bare_spin_lock(bare, &q->lock);
	d = q->first;
	if (d) {
		q->first = d->next;
		if (!q->first)
			q->last = &q->first;
	}
	bare_spin_unlock(&q->lock);
	return d;
}

/* One at a time, so that @run counts in the order of defer(). */
uint32_t tpt_bare_run_deferred(struct tpt_bare *bare)
{
	struct queue *q = &bare->queue;
	struct tpt_deferred *d;
	uint32_t nr = 0;

	if (atomic_exchange_explicit(&q->running, true, memory_order_acquire))
		return 0;
	while (nr < BATCH && (d = take_oldest(bare))) {
		d->fn(d);
		nr++;
		/* Whoever waits sees what the work did. */
		atomic_fetch_add_explicit(&q->run, 1, memory_order_release);
	}
	atomic_store_explicit(&q->running, false, memory_order_release);
	return nr;
}

void bare_barrier(void *ctx)
{
	struct tpt_bare *bare = ctx;
	struct queue *q = &bare->queue;
	uint64_t earlier = bare_read(&q->deferred);

	while (atomic_load_explicit(&q->run, memory_order_acquire) < earlier)
		if (!tpt_bare_run_deferred(bare))
			bare_relax(bare);
}

void bare_queue_drain(struct tpt_bare *bare)
{
	struct queue *q = &bare->queue;

	while (bare_read(&q->run) < bare_read(&q->deferred))
		bare_barrier(bare);
	while (atomic_load_explicit(&q->running, memory_order_acquire))
		bare_relax(bare);
}
