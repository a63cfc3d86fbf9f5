// SPDX-License-Identifier: BSD-2-Clause
/*
 * Physical memory: which frames are in use, since when they are free, and the bytes in them. Knows
 * nothing of what the frames are used for.
 *
 * Frames are kept in chunks of 2 MiB, found through two arrays without a lock. A region's content
 * is one reservation of address space, so the host gives it memory page by page, on first touch.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "machine/internal.h"

/* Freed pages of a region rest until this many were freed, so that a stale use finds them free. */
#define REST_PAGES 4096

static struct chunk *chunk_find(const struct machine *machine, uint64_t hpa)
{
	struct chunk_dir *dir;
	uint64_t n = hpa >> CHUNK_SHIFT;

	if (hpa >> PA_BITS)
		return NULL;
	dir = atomic_load_explicit(&machine->mem.top[n >> DIR_BITS], memory_order_acquire);
	if (!dir)
		return NULL;
	return atomic_load_explicit(&dir->chunk[n & ((1u << DIR_BITS) - 1)], memory_order_acquire);
}

static uint8_t *reserve(uint64_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	madvise(p, bytes, MADV_NOHUGEPAGE); /* or a first touch would cost the host 2 MiB */
	return p;
}

static struct region *region_of(struct mem *mem, uint64_t hpa)
{
	for (unsigned int i = 0; i < mem->nr_regions; i++)
		if (hpa - mem->regions[i].start < mem->regions[i].size)
			return &mem->regions[i];
	return NULL;
}

static int chunk_place(struct mem *mem, struct chunk *chunk)
{
	struct region *region = region_of(mem, chunk->hpa);

	if (region) {
		chunk->base = region->base + (chunk->hpa - region->start);
		return 0;
	}
	chunk->base = reserve(CHUNK_BYTES);
	if (!chunk->base)
		return -ENOMEM;
	chunk->next_outside = mem->outside;
	mem->outside = chunk;
	return 0;
}

/* The chunk of @hpa, made if need be. Under mem.lock. */
static struct chunk *chunk_get(struct machine *machine, uint64_t hpa)
{
	uint64_t n = hpa >> CHUNK_SHIFT;
	struct chunk_dir *dir = atomic_load(&machine->mem.top[n >> DIR_BITS]);
	struct chunk *chunk = chunk_find(machine, hpa);

	if (chunk)
		return chunk;
	if (!dir) {
		dir = calloc(1, sizeof(*dir));
		if (!dir)
			return NULL;
		atomic_store(&machine->mem.top[n >> DIR_BITS], dir);
	}
	chunk = calloc(1, sizeof(*chunk));
	if (!chunk)
		return NULL;
	chunk->hpa = n << CHUNK_SHIFT;
	if (chunk_place(&machine->mem, chunk)) {
		free(chunk);
		return NULL;
	}
	atomic_store(&dir->chunk[n & ((1u << DIR_BITS) - 1)], chunk);
	return chunk;
}

/* The bits of word @w that pages [first, first + nr) of a chunk cover. */
static uint64_t word_mask(unsigned int w, unsigned int first, unsigned int nr)
{
	unsigned int from = w * 64 > first ? w * 64 : first;
	unsigned int to = w * 64 + 64 < first + nr ? w * 64 + 64 : first + nr;

	if (from >= to)
		return 0;
	return (to - from == 64 ? ~0ull : ((1ull << (to - from)) - 1)) << (from % 64);
}

/* How many of the pages are in use? @chunk may be NULL. */
static unsigned int pages_used(const struct chunk *chunk, unsigned int first, unsigned int nr)
{
	unsigned int used = 0;

	for (unsigned int w = first / 64; chunk && w <= (first + nr - 1) / 64; w++)
		used += __builtin_popcountll(atomic_load(&chunk->used[w]) &
					     word_mask(w, first, nr));
	return used;
}

/* A block as a run of pages inside each of the chunks that it covers. */
struct run {
	uint64_t hpa, left;
	unsigned int first, nr;
};

static struct run run_start(uint64_t hpa, unsigned int order)
{
	struct run run = {.hpa = hpa, .left = 1ull << order};

	run.first = (hpa >> PAGE_SHIFT) % CHUNK_PAGES;
	run.nr = run.left < CHUNK_PAGES ? run.left : CHUNK_PAGES;
	return run;
}

static void run_next(struct run *run)
{
	run->left -= run->nr;
	run->hpa += run->nr * PAGE_BYTES;
}

static uint64_t block_used(const struct machine *machine, uint64_t hpa, unsigned int order)
{
	uint64_t used = 0;

	for (struct run r = run_start(hpa, order); r.left; run_next(&r))
		used += pages_used(chunk_find(machine, r.hpa), r.first, r.nr);
	return used;
}

static void pages_clear(struct chunk *chunk, unsigned int first, unsigned int nr)
{
	uint64_t any = 0;

	for (unsigned int w = 0; w < CHUNK_WORDS; w++)
		any |= chunk->dirty[w] & word_mask(w, first, nr);
	if (!any)
		return;
	if (nr == CHUNK_PAGES)
		madvise(chunk->base, CHUNK_BYTES,
			MADV_DONTNEED); /* gives zero pages on next touch */
	else
		memset(chunk->base + first * PAGE_BYTES, 0, nr * PAGE_BYTES);
}

static void pages_take(struct chunk *chunk, unsigned int first, unsigned int nr)
{
	pages_clear(chunk, first, nr);
	for (unsigned int w = 0; w < CHUNK_WORDS; w++) {
		chunk->dirty[w] |= word_mask(w, first, nr);
		atomic_fetch_or(&chunk->used[w], word_mask(w, first, nr));
	}
}

/* Mark a block that is wholly free as in use. All chunks are made before the first is marked. */
static int block_take(struct machine *machine, uint64_t hpa, unsigned int order)
{
	for (struct run r = run_start(hpa, order); r.left; run_next(&r))
		if (!chunk_get(machine, r.hpa))
			return -ENOMEM;
	for (struct run r = run_start(hpa, order); r.left; run_next(&r))
		pages_take(chunk_find(machine, r.hpa), r.first, r.nr);
	atomic_fetch_add(&machine->mem.used, 1ull << order);
	return 0;
}

/* Search [from, to) of a region upward for a free block smaller than a chunk. */
static bool find_up(const struct machine *machine, const struct region *region, uint64_t from,
		    uint64_t to, unsigned int order, uint64_t *hpa)
{
	uint64_t step = PAGE_BYTES << order;

	for (uint64_t at = (from + step - 1) & ~(step - 1); at < to; at += step) {
		const struct chunk *chunk = chunk_find(machine, region->start + at);
		unsigned int first = (at >> PAGE_SHIFT) % CHUNK_PAGES;

		if (!pages_used(chunk, first, 1u << order)) {
			*hpa = region->start + at;
			return true;
		}
		if (first % 64 == 0 && atomic_load(&chunk->used[first / 64]) == ~0ull && order < 6)
			at += 64 * PAGE_BYTES - step;
	}
	return false;
}

/* Search offsets [from, to) downward for a free block of whole chunks, aligned by its HPA. */
static bool find_down(const struct machine *machine, const struct region *region, uint64_t from,
		      uint64_t to, unsigned int order, uint64_t *hpa)
{
	uint64_t step = PAGE_BYTES << order;
	uint64_t end = (region->start + to) & ~(step - 1);

	for (; end >= step && end - step >= region->start + from; end -= step)
		if (!block_used(machine, end - step, order)) {
			*hpa = end - step;
			return true;
		}
	return false;
}

static bool region_find(const struct machine *machine, struct region *region, unsigned int order,
			uint64_t *hpa)
{
	if (order >= CHUNK_SHIFT - PAGE_SHIFT) {
		if (!find_down(machine, region, 0, region->next_large, order, hpa) &&
		    !find_down(machine, region, 0, region->size, order, hpa))
			return false;
		region->next_large = *hpa - region->start;
		return true;
	}
	if (region->small_freed >= REST_PAGES) {
		region->small_freed = 0;
		region->next_small = 0;
	}
	if (!find_up(machine, region, region->next_small, region->size, order, hpa) &&
	    !find_up(machine, region, 0, region->size, order, hpa))
		return false;
	if (order == 0)
		region->next_small = *hpa - region->start + PAGE_BYTES;
	return true;
}

int machine_mem_alloc(struct machine *machine, int region, unsigned int order, uint64_t *hpa)
{
	struct mem *mem = &machine->mem;
	unsigned int i = region < 0 ? 0 : region, end = region < 0 ? mem->nr_regions : i + 1;
	int ret = -ENOMEM;

	if (order > MACHINE_MAX_ORDER || end > mem->nr_regions)
		return -EINVAL;
	pthread_mutex_lock(&mem->lock);
	for (; i < end && ret; i++)
		if (region_find(machine, &mem->regions[i], order, hpa))
			ret = block_take(machine, *hpa, order);
	pthread_mutex_unlock(&mem->lock);
	return ret;
}

static bool block_valid(uint64_t hpa, unsigned int order)
{
	return order <= MACHINE_MAX_ORDER && !(hpa & ((PAGE_BYTES << order) - 1)) &&
	       !(hpa >> PA_BITS);
}

int machine_mem_add(struct machine *machine, uint64_t hpa, unsigned int order)
{
	int ret;

	if (!block_valid(hpa, order))
		return -EINVAL;
	pthread_mutex_lock(&machine->mem.lock);
	ret = block_used(machine, hpa, order) ? -EEXIST : block_take(machine, hpa, order);
	pthread_mutex_unlock(&machine->mem.lock);
	return ret;
}

/* Note the time of the free; the array of single pages is made on the first one. */
static int stamp_free(struct chunk *chunk, unsigned int first, unsigned int nr, uint64_t now)
{
	_Atomic uint64_t *page = atomic_load(&chunk->freed_page);

	if (nr == CHUNK_PAGES) {
		atomic_store(&chunk->freed_whole, now);
		return 0;
	}
	if (!page) {
		page = calloc(CHUNK_PAGES, sizeof(*page));
		if (!page)
			return -ENOMEM;
		atomic_store(&chunk->freed_page, page);
	}
	for (unsigned int i = first; i < first + nr; i++)
		atomic_store(&page[i], now);
	return 0;
}

static void pages_free(struct chunk *chunk, unsigned int first, unsigned int nr)
{
	for (unsigned int w = 0; w < CHUNK_WORDS; w++)
		atomic_fetch_and(&chunk->used[w], ~word_mask(w, first, nr));
	if (nr == CHUNK_PAGES) {
		madvise(chunk->base, CHUNK_BYTES, MADV_DONTNEED);
		memset(chunk->dirty, 0, sizeof(chunk->dirty));
	}
}

/* Under mem.lock. The time is noted before the frames can be seen free, and so before their reuse.
 */
static int block_free(struct machine *machine, uint64_t hpa, unsigned int order, uint64_t *now)
{
	struct region *region = region_of(&machine->mem, hpa);

	if (block_used(machine, hpa, order) != 1ull << order)
		return -ENOENT;
	*now = clock_tick(machine);
	for (struct run r = run_start(hpa, order); r.left; run_next(&r)) {
		int ret = stamp_free(chunk_find(machine, r.hpa), r.first, r.nr, *now);

		if (ret)
			return ret;
	}
	for (struct run r = run_start(hpa, order); r.left; run_next(&r))
		pages_free(chunk_find(machine, r.hpa), r.first, r.nr);
	if (region && order < CHUNK_SHIFT - PAGE_SHIFT)
		region->small_freed += 1ull << order;
	atomic_fetch_sub(&machine->mem.used, 1ull << order);
	return 0;
}

int mem_free_block(struct machine *machine, uint64_t hpa, unsigned int order, uint64_t *when)
{
	int ret;

	if (!block_valid(hpa, order))
		return -EINVAL;
	pthread_mutex_lock(&machine->mem.lock);
	ret = block_free(machine, hpa, order, when);
	pthread_mutex_unlock(&machine->mem.lock);
	return ret;
}

static bool chunk_uses(const struct chunk *chunk, uint64_t hpa)
{
	unsigned int page = (hpa >> PAGE_SHIFT) % CHUNK_PAGES;

	return chunk &&
	       (atomic_load_explicit(&chunk->used[page / 64], memory_order_acquire) >> (page % 64) &
		1);
}

void *machine_mem_ptr(const struct machine *machine, uint64_t hpa)
{
	const struct chunk *chunk = chunk_find(machine, hpa);

	return chunk_uses(chunk, hpa) ? chunk->base + (hpa & (CHUNK_BYTES - 1)) : NULL;
}

bool machine_mem_in_use(const struct machine *machine, uint64_t hpa)
{
	return chunk_uses(chunk_find(machine, hpa), hpa);
}

static bool outside_hpa(struct mem *mem, const uint8_t *ptr, uint64_t *hpa)
{
	const struct chunk *chunk;

	pthread_mutex_lock(&mem->lock);
	for (chunk = mem->outside; chunk; chunk = chunk->next_outside)
		if ((uintptr_t)ptr - (uintptr_t)chunk->base < CHUNK_BYTES)
			break;
	pthread_mutex_unlock(&mem->lock);
	if (chunk)
		*hpa = chunk->hpa + (ptr - chunk->base);
	return chunk;
}

bool machine_mem_hpa(const struct machine *machine, const void *ptr, uint64_t *hpa)
{
	struct mem *mem = (struct mem *)&machine->mem; /* const but for its lock */
	uint64_t found;

	for (unsigned int i = 0; i < mem->nr_regions; i++) {
		struct region *region = &mem->regions[i];
		uint64_t offset = (uintptr_t)ptr - (uintptr_t)region->base;

		if (offset >= region->size)
			continue;
		*hpa = region->start + offset;
		return machine_mem_in_use(machine, *hpa);
	}
	if (!outside_hpa(mem, ptr, &found) || !machine_mem_in_use(machine, found))
		return false;
	*hpa = found;
	return true;
}

uint64_t machine_mem_used(const struct machine *machine)
{
	return atomic_load(&machine->mem.used);
}

uint64_t mem_freed_at(const struct machine *machine, uint64_t hpa)
{
	const struct chunk *chunk = chunk_find(machine, hpa);
	uint64_t whole, page = 0;
	_Atomic uint64_t *pages;

	if (!chunk)
		return 0;
	whole = atomic_load_explicit(&chunk->freed_whole, memory_order_acquire);
	pages = atomic_load_explicit(&chunk->freed_page, memory_order_acquire);
	if (pages)
		page = atomic_load_explicit(&pages[(hpa >> PAGE_SHIFT) % CHUNK_PAGES],
					    memory_order_acquire);
	return whole > page ? whole : page;
}

int mem_init(struct machine *machine)
{
	const struct machine_config *config = &machine->config;
	struct mem *mem = &machine->mem;

	pthread_mutex_init(&mem->lock, NULL);
	mem->top = calloc(1u << TOP_BITS, sizeof(*mem->top));
	if (!mem->top)
		return -ENOMEM;
	for (unsigned int i = 0; i < config->nr_regions; i++) {
		struct region *region = &mem->regions[i];

		region->start = config->regions[i].start;
		region->size = config->regions[i].size;
		region->next_large = region->size;
		region->base = reserve(region->size);
		if (!region->base)
			return -ENOMEM;
		mem->nr_regions++;
	}
	return 0;
}

static void dir_free(struct chunk_dir *dir)
{
	for (unsigned int i = 0; dir && i < 1u << DIR_BITS; i++) {
		struct chunk *chunk = atomic_load(&dir->chunk[i]);

		if (chunk)
			free((void *)atomic_load(&chunk->freed_page));
		free(chunk);
	}
	free(dir);
}

void mem_exit(struct machine *machine)
{
	struct mem *mem = &machine->mem;

	for (struct chunk *chunk = mem->outside; chunk; chunk = chunk->next_outside)
		munmap(chunk->base, CHUNK_BYTES);
	for (unsigned int i = 0; i < mem->nr_regions; i++)
		munmap(mem->regions[i].base, mem->regions[i].size);
	for (unsigned int i = 0; mem->top && i < 1u << TOP_BITS; i++)
		dir_free(atomic_load(&mem->top[i]));
	free((void *)mem->top);
	pthread_mutex_destroy(&mem->lock);
}
