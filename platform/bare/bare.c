// SPDX-License-Identifier: BSD-2-Clause
/* A platform from its making to its end: how its memory is cut up, and its balances. */
#include "platform/bare/internal.h"

static const struct tpt_platform functions = {
	.size = sizeof(struct tpt_platform),
	.page_alloc = bare_page_alloc,
	.page_free = bare_page_free,
	.page_ptr = bare_page_ptr,
	.page_record = bare_page_record,
	.mem_alloc = bare_mem_alloc,
	.mem_free = bare_mem_free,
	.defer = bare_defer,
	.barrier = bare_barrier,
	.lock = bare_lock,
	.unlock = bare_unlock,
	.relax = bare_relax,
	.flush = bare_flush,
	.kick = bare_kick,
	.hold = bare_hold,
	.log = bare_log,
};

/* Offsets into the memory, in its order; the platform itself comes first, table pages last. */
struct layout {
	uint64_t records;
	uint64_t state;
	uint64_t heap, heap_bytes;
	uint64_t pages, nr_pages;
};

static uint64_t round_up(uint64_t v, uint64_t to)
{
	return (v + to - 1) & ~(to - 1);
}

static bool config_is_valid(const struct tpt_bare_config *c)
{
	return c && c->size == sizeof(*c) && c->memory && c->hooks.ipi && c->nr_vcpus &&
	       c->nr_vcpus <= TPT_BARE_VCPUS &&
	       !(((uintptr_t)c->memory | c->bytes | c->hpa.a) & (TPT_PAGE_SIZE - 1));
}

static bool config_fits(const struct tpt_bare_config *c)
{
	return c->bytes <= 1ull << 43 && c->hpa.a <= (1ull << 52) - c->bytes &&
	       c->bytes <= UINTPTR_MAX - (uintptr_t)c->memory && c->object_bytes <= c->bytes;
}

/* Lays out @nr table pages; false: they don't fit. */
static bool lay_out(struct layout *l, const struct tpt_bare_config *c, uint64_t nr)
{
	l->nr_pages = nr;
	l->records = sizeof(struct tpt_bare);
	l->state = l->records + nr * RECORD_BYTES;
	l->heap = round_up(l->state + nr * sizeof(uint32_t), CACHE_LINE);
	l->heap_bytes = (c->object_bytes ? c->object_bytes : c->bytes / 4) & ~(CACHE_LINE - 1ull);
	l->pages = round_up(l->heap + l->heap_bytes, TPT_PAGE_SIZE);
	return l->pages + nr * TPT_PAGE_SIZE <= c->bytes;
}

/* As many table pages as fit. */
static int cut_up(struct layout *l, const struct tpt_bare_config *c)
{
	uint64_t one = TPT_PAGE_SIZE + RECORD_BYTES + sizeof(uint32_t), nr;

	if (!lay_out(l, c, 1) || l->heap_bytes < HEAP_MIN_BYTES)
		return -ERR_NOMEM;
	/* All but pages comes in cache lines, and pages end where the memory does: none is lost. */
	nr = (c->bytes - l->heap_bytes - sizeof(struct tpt_bare)) / one;
	return lay_out(l, c, nr) ? 0 : -ERR_NOMEM;
}

int tpt_bare_create(const struct tpt_bare_config *config, struct tpt_bare **bare)
{
	struct layout l;
	struct tpt_bare *b;
	char *memory;
	int err;

	if (!config_is_valid(config) || !config_fits(config))
		return -ERR_INVAL;
	err = cut_up(&l, config);
	if (err)
		return err;
	memory = config->memory;
	b = config->memory;
	memset(b, 0, sizeof(*b));
	b->platform = functions;
	b->hooks = config->hooks;
	b->hooks_ctx = config->hooks_ctx;
	b->nr_vcpus = config->nr_vcpus;
	b->platform.page_linear = (uintptr_t)memory - config->hpa.a;
	b->platform.record_linear =
		(uintptr_t)memory + l.records - (config->hpa.a + l.pages) / RECORD_BYTES;
	bare_pages_init(b, config->hpa.a + l.pages, l.nr_pages, (uint32_t *)(memory + l.state));
	bare_heap_init(b, memory + l.heap, l.heap_bytes);
	bare_queue_init(b);
	*bare = b;
	return 0;
}

/* What must be over at the end. */
static void tell_what_is_left(struct tpt_bare *bare)
{
	uint64_t in_guest = bare_seats_in_guest(bare);

	if (bare_spin_is_taken(&bare->lock))
		bare_misuse(bare, "platform destroyed while its lock is taken");
	if (in_guest)
		bare_misuse(bare, "platform destroyed while %lu vCPUs are in the guest", in_guest);
}

/* Each page and each object counts, but a line tells of all. */
static void tell_leaks(struct tpt_bare *bare)
{
	uint64_t pages = bare_read(&bare->pages.live), objects = bare_read(&bare->heap.live);

	if (pages) {
		bare_misuse(bare, "%lu table pages leaked", pages);
		bare_count(&bare->misuses, pages - 1);
	}
	if (objects) {
		bare_misuse(bare, "%lu objects leaked, %lu bytes", objects,
			    bare_read(&bare->heap.bytes));
		bare_count(&bare->misuses, objects - 1);
	}
}

uint64_t tpt_bare_destroy(struct tpt_bare *bare)
{
	if (!bare)
		return 0;
	tell_what_is_left(bare);
	bare_queue_drain(bare);
	tell_leaks(bare);
	return bare_read(&bare->misuses);
}

const struct tpt_platform *tpt_bare_platform(const struct tpt_bare *bare)
{
	return &bare->platform;
}

void tpt_bare_get_stats(const struct tpt_bare *bare, struct tpt_bare_stats *stats)
{
	/* In this order, so that no more is ever run than was deferred. */
	uint64_t run = atomic_load_explicit(&bare->queue.run, memory_order_acquire);
	uint64_t deferred = bare_read(&bare->queue.deferred);

	*stats = (struct tpt_bare_stats){
		.pages = bare->pages.nr,
		.pages_live = bare_read(&bare->pages.live),
		.pages_peak = bare_read(&bare->pages.peak),
		.mem_live = bare_read(&bare->heap.live),
		.mem_bytes = bare_read(&bare->heap.bytes),
		.deferred = deferred,
		.pending = deferred - run,
		.locks = bare_read(&bare->locks),
		.flushes = bare_read(&bare->flushes),
		.kicks = bare_read(&bare->kicks),
		.holds = bare_read(&bare->holds),
		.ipis = bare_read(&bare->ipis),
		.misuses = bare_read(&bare->misuses),
	};
}
