// SPDX-License-Identifier: BSD-2-Clause
/* Table pages and their records: one reserved range of addresses, pages handed out by index. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "platform/posix/internal.h"

static void *reserve(size_t bytes)
{
	void *va = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return va == MAP_FAILED ? NULL : va;
}

static void release(void *va, size_t bytes)
{
	if (va)
		munmap(va, bytes);
}

void posix_arena_fini(struct tpt_posix *posix)
{
	struct arena *a = &posix->arena;

	release(a->pages, a->nr_pages * TPT_PAGE_SIZE);
	release(a->records, a->nr_pages * RECORD_BYTES);
	release(a->state, a->nr_pages * sizeof(*a->state));
	release(a->next, a->nr_pages * sizeof(*a->next));
}

int posix_arena_init(struct tpt_posix *posix)
{
	struct arena *a = &posix->arena;

	a->hpa_base = posix->config.hpa_base;
	a->nr_pages = posix->config.bytes / TPT_PAGE_SIZE;
	if (!posix->config.pages)
		a->pages = reserve(posix->config.bytes);
	a->records = reserve(a->nr_pages * RECORD_BYTES);
	a->state = reserve(a->nr_pages * sizeof(*a->state));
	a->next = reserve(a->nr_pages * sizeof(*a->next));
	if (!a->records || !a->state || !a->next || (!a->pages && !posix->config.pages)) {
		posix_arena_fini(posix);
		return -ENOMEM;
	}
	/* The core takes the linear way for both or for neither. */
	if (a->pages) {
		posix->platform.page_linear = (uintptr_t)a->pages - a->hpa_base;
		posix->platform.record_linear = (uintptr_t)a->records - a->hpa_base / RECORD_BYTES;
	}
	return 0;
}

static bool index_of(const struct arena *a, tpt_hpa hpa, uint64_t *index)
{
	*index = (hpa.a - a->hpa_base) / TPT_PAGE_SIZE;
	return hpa.a >= a->hpa_base && *index < a->nr_pages && !(hpa.a & (TPT_PAGE_SIZE - 1));
}

static bool pop_free(struct arena *a, uint64_t *index)
{
	uint64_t top = atomic_load(&a->free);

	while ((uint32_t)top) {
		uint64_t below = atomic_load(&a->next[(uint32_t)top - 1]);
		uint64_t turn = (top >> 32) + 1;

		if (atomic_compare_exchange_weak(&a->free, &top, turn << 32 | below)) {
			*index = (uint32_t)top - 1;
			return true;
		}
	}
	return false;
}

static void push_free(struct arena *a, uint64_t index)
{
	uint64_t top = atomic_load(&a->free);
	uint64_t turn;

	do {
		atomic_store(&a->next[index], (unsigned int)top);
		turn = (top >> 32) + 1;
	} while (!atomic_compare_exchange_weak(&a->free, &top, turn << 32 | (index + 1)));
}

static bool take_virgin(struct arena *a, uint64_t *index)
{
	*index = atomic_load(&a->virgin);
	while (*index < a->nr_pages)
		if (atomic_compare_exchange_weak(&a->virgin, index, *index + 1))
			return true;
	return false;
}

static int take_index(struct tpt_posix *posix, uint64_t *index)
{
	struct arena *a = &posix->arena;
	tpt_hpa hpa;
	int ret;

	if (a->pages)
		return pop_free(a, index) || take_virgin(a, index) ? 0 : -ENOMEM;
	ret = posix->config.pages->alloc(posix->config.pages_ctx, &hpa);
	if (ret)
		return ret;
	if (index_of(a, hpa, index))
		return 0;
	posix_misuse(posix, "page source gave 0x%llx, outside of the configured range",
		     (unsigned long long)hpa.a);
	posix->config.pages->free(posix->config.pages_ctx, hpa);
	return -ENOMEM;
}

static void poison(struct tpt_posix *posix, tpt_hpa hpa, int byte)
{
	if (!(posix->config.flags & TPT_POSIX_POISON))
		return;
	memset(posix_page_ptr(posix, hpa), byte, TPT_PAGE_SIZE);
	memset(posix_page_record(posix, hpa), byte, RECORD_BYTES);
}

static void count_live(struct arena *a)
{
	uint64_t live = atomic_fetch_add(&a->live, 1) + 1;
	uint64_t peak = atomic_load(&a->peak);

	while (peak < live && !atomic_compare_exchange_weak(&a->peak, &peak, live))
		;
	atomic_fetch_add(&a->allocs, 1);
}

int posix_page_alloc(void *ctx, tpt_hpa *hpa)
{
	struct tpt_posix *posix = ctx;
	struct arena *a = &posix->arena;
	uint64_t index;
	int ret;

	posix_check_may_sleep(posix, "page_alloc");
	if (tpt_posix_lock_held(posix))
		posix_misuse(posix, "page_alloc called with the exclusive lock held");
	if (posix_fail_now(&a->fail_in))
		return -ENOMEM;
	ret = take_index(posix, &index);
	if (ret)
		return ret;
	*hpa = (tpt_hpa){a->hpa_base + index * TPT_PAGE_SIZE};
	if (atomic_exchange(&a->state[index], PAGE_LIVE) == PAGE_LIVE)
		posix_misuse(posix, "page 0x%llx handed out twice", (unsigned long long)hpa->a);
	count_live(a);
	poison(posix, *hpa, 0xa5);
	return 0;
}

void posix_page_free(void *ctx, tpt_hpa hpa)
{
	struct tpt_posix *posix = ctx;
	struct arena *a = &posix->arena;
	unsigned char live = PAGE_LIVE;
	uint64_t index;

	if (!index_of(a, hpa, &index)) {
		posix_misuse(posix, "wild free of page 0x%llx", (unsigned long long)hpa.a);
		return;
	}
	/* Only one of two frees may go on, and only after the poison is the page anybody else's. */
	if (!atomic_compare_exchange_strong(&a->state[index], &live, PAGE_FREE)) {
		posix_misuse(posix, "double free of page 0x%llx", (unsigned long long)hpa.a);
		return;
	}
	poison(posix, hpa, 0xdd);
	atomic_fetch_sub(&a->live, 1);
	if (a->pages)
		push_free(a, index);
	else
		posix->config.pages->free(posix->config.pages_ctx, hpa);
}

void *posix_page_ptr(void *ctx, tpt_hpa hpa)
{
	struct tpt_posix *posix = ctx;

	if (posix->arena.pages)
		return posix->arena.pages + (hpa.a - posix->arena.hpa_base);
	return posix->config.pages->ptr(posix->config.pages_ctx, hpa);
}

void *posix_page_record(void *ctx, tpt_hpa hpa)
{
	struct tpt_posix *posix = ctx;

	return posix->arena.records + (hpa.a - posix->arena.hpa_base) / RECORD_BYTES;
}

int tpt_posix_arena(const struct tpt_posix *posix, tpt_hpa *hpa_base, void **va, uint64_t *bytes)
{
	const struct arena *a = &posix->arena;

	if (!a->pages)
		return -ENOENT;
	if (hpa_base)
		*hpa_base = (tpt_hpa){a->hpa_base};
	if (va)
		*va = a->pages;
	if (bytes)
		*bytes = a->nr_pages * TPT_PAGE_SIZE;
	return 0;
}
