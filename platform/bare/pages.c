// SPDX-License-Identifier: BSD-2-Clause
/* Table pages: which are free. Never looks into a page or its record. */
#include "platform/bare/internal.h"

void bare_pages_init(struct tpt_bare *bare, uint64_t first, uint64_t nr, uint32_t *state)
{
	bare->pages.first = first;
	bare->pages.nr = nr;
	bare->pages.state = state;
}

static bool index_of(const struct pages *p, tpt_hpa hpa, uint64_t *index)
{
	*index = (hpa.a - p->first) / TPT_PAGE_SIZE;
	return hpa.a >= p->first && *index < p->nr && !(hpa.a & (TPT_PAGE_SIZE - 1));
}

static bool take_index(struct pages *p, uint64_t *index)
{
	if (p->free) {
		*index = p->free - 1;
		p->free = p->state[*index];
	} else if (p->virgin < p->nr) {
		*index = p->virgin++;
	} else {
		return false;
	}
	p->state[*index] = PAGE_LIVE;
	return true;
}

static bool give_index(struct pages *p, uint64_t index)
{
	if (index >= p->virgin || p->state[index] != PAGE_LIVE)
		return false;
	p->state[index] = p->free;
	p->free = (uint32_t)index + 1;
	return true;
}

/* Under the lock, so that the peak is one that there was. */
static void count_live(struct pages *p)
{
	uint64_t live = bare_read(&p->live) + 1;

	bare_count(&p->live, 1);
	if (live > bare_read(&p->peak))
		atomic_store_explicit(&p->peak, live, memory_order_relaxed);
}

int bare_page_alloc(void *ctx, tpt_hpa *hpa)
{
	struct tpt_bare *bare = ctx;
	struct pages *p = &bare->pages;
	uint64_t index;
	bool taken;

	bare_spin_lock(bare, &p->lock);
	taken = take_index(p, &index);
	if (taken)
		count_live(p);
	bare_spin_unlock(&p->lock);
	if (!taken)
		return -ERR_NOMEM;
	*hpa = (tpt_hpa){p->first + index * TPT_PAGE_SIZE};
	return 0;
}

void bare_page_free(void *ctx, tpt_hpa hpa)
{
	struct tpt_bare *bare = ctx;
	struct pages *p = &bare->pages;
	uint64_t index;
	bool given;

	if (!index_of(p, hpa, &index)) {
		bare_misuse(bare, "wild free of page %#lx", hpa.a);
		return;
	}
	bare_spin_lock(bare, &p->lock);
	given = give_index(p, index);
	if (given)
		bare_count(&p->live, (uint64_t)-1);
	bare_spin_unlock(&p->lock);
	if (!given)
		bare_misuse(bare, "double free of page %#lx", hpa.a);
}

void *bare_page_ptr(void *ctx, tpt_hpa hpa)
{
	const struct tpt_bare *bare = ctx;

	return (void *)(bare->platform.page_linear + hpa.a);
}

void *bare_page_record(void *ctx, tpt_hpa hpa)
{
	const struct tpt_bare *bare = ctx;

	return (void *)(bare->platform.record_linear + hpa.a / RECORD_BYTES);
}
