// SPDX-License-Identifier: BSD-2-Clause
/*
 * The thread that runs deferred work, the exclusive lock, and what may be called inside of which
 * section, where that is watched.
 */
#include <errno.h>
#include <time.h>

#include "platform/posix/internal.h"

/* Sections that the thread is in, of any platform. */
_Thread_local unsigned int posix_depth;

unsigned int tpt_posix_section_depth(void)
{
	return posix_depth;
}

void posix_watch(void *ctx, bool inside)
{
	if (inside)
		posix_depth++;
	else if (posix_depth)
		posix_depth--;
	else
		posix_misuse(ctx, "a section is left that was not entered");
}

bool posix_must_not_sleep(struct tpt_posix *posix, const char *what)
{
	posix_misuse(posix, "%s called inside a section", what);
	return false;
}

/* ---- deferred work -------------------------------------------------------------------------- */

void posix_defer(void *ctx, struct tpt_deferred *d)
{
	struct reclaimer *r = &((struct tpt_posix *)ctx)->reclaimer;

	pthread_mutex_lock(&r->lock);
	d->next = NULL;
	*r->last = d;
	r->last = &d->next;
	r->deferred++;
	pthread_cond_signal(&r->work);
	pthread_mutex_unlock(&r->lock);
}

void posix_barrier(void *ctx)
{
	struct tpt_posix *posix = ctx;
	struct reclaimer *r = &posix->reclaimer;
	uint64_t ticket;

	if (!posix_check_may_sleep(posix, "barrier"))
		return;
	if (pthread_equal(pthread_self(), r->thread)) {
		posix_misuse(posix, "barrier called by deferred work");
		return;
	}
	pthread_mutex_lock(&r->lock);
	ticket = r->deferred;
	while (r->run < ticket)
		pthread_cond_wait(&r->done, &r->lock);
	pthread_mutex_unlock(&r->lock);
}

/* Runs everything deferred so far. Called and returns with the lock. */
static void run_batch(struct tpt_posix *posix)
{
	struct reclaimer *r = &posix->reclaimer;
	struct tpt_deferred *d = r->first;
	uint64_t nr = 0;

	r->first = NULL;
	r->last = &r->first;
	pthread_mutex_unlock(&r->lock);
	while (d) {
		struct tpt_deferred *next = d->next;

		d->fn(d);
		d = next;
		nr++;
	}
	pthread_mutex_lock(&r->lock);
	r->run += nr;
	pthread_cond_broadcast(&r->done);
}

static void *reclaim(void *ctx)
{
	struct tpt_posix *posix = ctx;
	struct reclaimer *r = &posix->reclaimer;

	pthread_mutex_lock(&r->lock);
	while (r->first || !r->stop) {
		if (r->first)
			run_batch(posix);
		else
			pthread_cond_wait(&r->work, &r->lock);
	}
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

/* ---- the exclusive section ------------------------------------------------------------------ */

/* An address that no other live thread has. */
static const void *thread_self(void)
{
	return &posix_depth;
}

bool tpt_posix_lock_held(const struct tpt_posix *posix)
{
	return atomic_load_explicit(&posix->owner, memory_order_relaxed) == thread_self();
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

void posix_lock(void *ctx)
{
	struct tpt_posix *posix = ctx;

	posix_check_may_sleep(posix, "lock");
	if (tpt_posix_lock_held(posix)) {
		posix_misuse(posix, "lock is not recursive, and this thread holds it");
		posix->extra++;
		return;
	}
	pthread_mutex_lock(&posix->lock);
	atomic_store_explicit(&posix->owner, thread_self(), memory_order_relaxed);
	atomic_fetch_add_explicit(&posix->locks, 1, memory_order_relaxed);
	posix->locked_at = now_ns();
}

void posix_unlock(void *ctx)
{
	struct tpt_posix *posix = ctx;
	uint64_t held;

	if (!tpt_posix_lock_held(posix)) {
		posix_misuse(posix, "unlock by a thread that doesn't hold the lock");
		return;
	}
	if (posix->extra) {
		posix->extra--;
		return;
	}
	held = now_ns() - posix->locked_at;
	if (held > atomic_load_explicit(&posix->longest_lock_ns, memory_order_relaxed))
		atomic_store_explicit(&posix->longest_lock_ns, held, memory_order_relaxed);
	atomic_store_explicit(&posix->owner, NULL, memory_order_relaxed);
	pthread_mutex_unlock(&posix->lock);
}

int posix_section_init(struct tpt_posix *posix)
{
	struct reclaimer *r = &posix->reclaimer;

	pthread_mutex_init(&posix->lock, NULL);
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->work, NULL);
	pthread_cond_init(&r->done, NULL);
	r->last = &r->first;
	return -pthread_create(&r->thread, NULL, reclaim, posix);
}

void posix_section_fini(struct tpt_posix *posix)
{
	struct reclaimer *r = &posix->reclaimer;

	pthread_mutex_lock(&r->lock);
	r->stop = true;
	pthread_cond_signal(&r->work);
	pthread_mutex_unlock(&r->lock);
	pthread_join(r->thread, NULL);
}
