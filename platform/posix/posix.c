// SPDX-License-Identifier: BSD-2-Clause
/* A platform from its making to its end, its hooks and its balances. */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "platform/posix/internal.h"

static void posix_relax(void *ctx)
{
	(void)ctx;
	sched_yield();
}

static void posix_flush(void *ctx, struct tpt_vm *vm, const struct tpt_flush *flush)
{
	struct tpt_posix *posix = ctx;

	posix_check_may_sleep(posix, "flush");
	if (posix->config.hooks.flush)
		posix->config.hooks.flush(posix->config.hooks_ctx, vm, flush);
}

static void posix_kick(void *ctx, struct tpt_vm *vm, enum tpt_kick_reason reason)
{
	struct tpt_posix *posix = ctx;

	posix_check_may_sleep(posix, "kick");
	if (posix->config.hooks.kick)
		posix->config.hooks.kick(posix->config.hooks_ctx, vm, reason);
}

static void posix_hold(void *ctx, struct tpt_vm *vm, bool held)
{
	struct tpt_posix *posix = ctx;

	posix_check_may_sleep(posix, "hold");
	if (posix->config.hooks.hold)
		posix->config.hooks.hold(posix->config.hooks_ctx, vm, held);
}

static const struct tpt_platform functions = {
	.size = sizeof(struct tpt_platform),
	.page_alloc = posix_page_alloc,
	.page_free = posix_page_free,
	.page_ptr = posix_page_ptr,
	.page_record = posix_page_record,
	.mem_alloc = posix_mem_alloc,
	.mem_free = posix_mem_free,
	.defer = posix_defer,
	.barrier = posix_barrier,
	.lock = posix_lock,
	.unlock = posix_unlock,
	.relax = posix_relax,
	.flush = posix_flush,
	.kick = posix_kick,
	.hold = posix_hold,
	.log = posix_log,
};

static bool config_is_valid(const struct tpt_posix_config *c)
{
	const struct tpt_posix_pages *pages = c->pages;

	return !((c->hpa_base | c->bytes) & (TPT_PAGE_SIZE - 1)) && c->bytes <= 1ull << 43 &&
	       c->hpa_base <= (1ull << 52) - c->bytes &&
	       !(c->flags & ~(TPT_POSIX_POISON | TPT_POSIX_WATCH)) &&
	       (!pages || (pages->alloc && pages->free && pages->ptr));
}

static struct tpt_posix *posix_new(const struct tpt_posix_config *config)
{
	struct tpt_posix *posix = aligned_alloc(64, (sizeof(*posix) + 63) & ~(size_t)63);

	if (!posix)
		return NULL;
	memset(posix, 0, sizeof(*posix));
	posix->platform = functions;
	posix->config = *config;
	if (config->flags & TPT_POSIX_WATCH)
		posix->platform.watch = posix_watch;
	if (!posix->config.hpa_base)
		posix->config.hpa_base = TPT_POSIX_DEFAULT_HPA_BASE;
	if (!posix->config.bytes)
		posix->config.bytes = TPT_POSIX_DEFAULT_BYTES;
	return posix;
}

struct tpt_posix *tpt_posix_create(const struct tpt_posix_config *config)
{
	const struct tpt_posix_config defaults = {.size = sizeof(defaults)};
	struct tpt_posix *posix;
	int ret;

	if (!config)
		config = &defaults;
	if (config->size != sizeof(*config)) {
		errno = EINVAL;
		return NULL;
	}
	posix = posix_new(config);
	if (!posix)
		return NULL;
	ret = config_is_valid(&posix->config) ? posix_arena_init(posix) : -EINVAL;
	if (!ret) {
		ret = posix_section_init(posix);
		if (!ret)
			return posix;
		posix_arena_fini(posix);
	}
	free(posix);
	errno = -ret;
	return NULL;
}

uint64_t tpt_posix_destroy(struct tpt_posix *posix)
{
	struct tpt_posix_stats stats;

	if (!posix)
		return 0;
	if (atomic_load(&posix->owner))
		posix_misuse(posix, "platform destroyed while its lock is held");
	posix_section_fini(posix);
	tpt_posix_get_stats(posix, &stats);
	if (stats.pages_live)
		posix_misuse(posix, "%llu table pages leaked",
			     (unsigned long long)stats.pages_live);
	if (stats.mem_live)
		posix_misuse(posix, "%llu blocks of memory leaked, %llu bytes",
			     (unsigned long long)stats.mem_live,
			     (unsigned long long)stats.mem_bytes);
	posix_arena_fini(posix);
	stats.misuses = atomic_load(&posix->misuses);
	free(posix);
	return stats.misuses;
}

const struct tpt_platform *tpt_posix_platform(const struct tpt_posix *posix)
{
	return &posix->platform;
}

void tpt_posix_get_stats(const struct tpt_posix *posix, struct tpt_posix_stats *stats)
{
	struct reclaimer *r = (struct reclaimer *)&posix->reclaimer;

	*stats = (struct tpt_posix_stats){
		.pages_live = atomic_load(&posix->arena.live),
		.pages_peak = atomic_load(&posix->arena.peak),
		.page_allocs = atomic_load(&posix->arena.allocs),
		.mem_live = atomic_load(&posix->mem_live),
		.mem_bytes = atomic_load(&posix->mem_bytes),
		.mem_allocs = atomic_load(&posix->mem_allocs),
		.locks = atomic_load(&posix->locks),
		.longest_lock_ns = atomic_load(&posix->longest_lock_ns),
		.misuses = atomic_load(&posix->misuses),
	};
	pthread_mutex_lock(&r->lock);
	stats->deferred = r->deferred;
	stats->pending = r->deferred - r->run;
	pthread_mutex_unlock(&r->lock);
}

void tpt_posix_fail_page_alloc(struct tpt_posix *posix, uint64_t nth)
{
	atomic_store(&posix->arena.fail_in, nth);
}

void tpt_posix_fail_mem_alloc(struct tpt_posix *posix, uint64_t nth)
{
	atomic_store(&posix->mem_fail_in, nth);
}
