/* SPDX-License-Identifier: BSD-2-Clause */
/* What lines.c (the rules) and lines_page.c (where states are kept) have of each other. Nobody
 * else's. */
#ifndef TDX_MODULE_LINES_PAGE_H
#define TDX_MODULE_LINES_PAGE_H

#include "tdx/module/lines.h"

#define STAMP_OPEN UINT64_MAX /* may be written at any time: the page is the module's */

struct line {
	struct mem_key *key;
	uint64_t stamp; /* when it was last written, page_now() */
	bool dirty;
	bool poisoned;
	/* A cache has an older version, under another key. Its bytes: page_stale_bytes(). */
	bool stale;
	struct mem_key *stale_key;
	uint64_t stale_stamp;
};

/* One line of a page whose lock is held. */
struct place {
	struct tdx_module *m;
	struct line_page *page;
	uint64_t hpa;	/* of the line */
	uint8_t *bytes; /* LINE_BYTES; scratch, if no memory is there */
};

/* A guest, or a walk of its tables, may be at the same bytes: single atomic loads and stores. */
static inline void bytes_put(uint8_t *to, const uint8_t *from, size_t len)
{
	for (size_t i = 0; i < len; i++)
		__atomic_store_n(&to[i], from[i], __ATOMIC_RELAXED);
}

static inline void bytes_get(uint8_t *to, const uint8_t *from, size_t len)
{
	for (size_t i = 0; i < len; i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

/* -- lines.c. @key: of the access -- */

/* @out NULL: the bytes themselves become what @key sees. False: a machine check. */
bool line_load(const struct place *at, struct line *line, struct mem_key *key, uint8_t *out);
/* @len bytes at @from, inside the line. */
void line_store(const struct place *at, struct line *line, struct mem_key *key, unsigned int from,
		const uint8_t *data, unsigned int len);
/* The whole line at once, past the cache. */
void line_store_full(const struct place *at, struct line *line, struct mem_key *key,
		     const uint8_t *data);
/* The module writes the whole line, after this. */
void line_take(const struct place *at, struct line *line, struct mem_key *key);
void line_flush(const struct place *at, struct line *line, unsigned int hkid);

/* -- lines_page.c -- */

/* A clock that tells only what was before what. */
uint64_t page_now(struct tdx_module *m);
/* Does a cache still have what was written then? */
bool page_dirty(const struct tdx_module *m, const struct mem_key *key, uint64_t stamp);
/* The module's, or a TD's, by the PAMT. */
bool page_in_use(struct tdx_module *m, uint64_t hpa);
/* Keep the line's bytes as its stale version. False: no memory, the module is dead. */
bool page_save_stale(const struct place *at);
const uint8_t *page_stale_bytes(const struct place *at);
void page_event(struct tdx_module *m, enum tdx_memory_event_kind kind, uint64_t hpa,
		const struct mem_key *by, const struct mem_key *of);

#endif
