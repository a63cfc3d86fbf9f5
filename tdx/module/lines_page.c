// SPDX-License-Identifier: BSD-2-Clause
/* Where the states of lines are kept, how they are found, and accesses cut into lines. Never what a
 * state means to a load or a store. */
#include "tdx/module/lines_page.h"

#include <errno.h>
#include <string.h>

#define LINES	    64 /* of a page */
#define BLOCK_BYTES (2ull << 20)
#define BLOCK_PAGES 512

struct line_split {
	struct line line[LINES];
	uint8_t stale[LINES][LINE_BYTES];
};

/* All lines alike, but for which of them are dirty; or each by itself. */
struct line_page {
	struct mem_key *key;
	uint64_t stamp;
	uint64_t dirty; /* a bit a line */
	struct line_split *split;
};

/* ---- finding ---- */

static struct line_page *page_find(struct tdx_module *m, uint64_t hpa)
{
	const struct tdmr *tdmr = pamt_tdmr(m, hpa);
	struct line_page *block;

	if (!tdmr)
		return NULL;
	block = atomic_load(&tdmr->line_blocks[(hpa - tdmr->config.base) / BLOCK_BYTES]);
	return block ? &block[hpa / PAGE_BYTES % BLOCK_PAGES] : NULL;
}

static bool prepare_block(struct tdx_module *m, _Atomic(struct line_page *) *slot)
{
	struct line_page *none = NULL, *block;

	if (atomic_load(slot))
		return true;
	block = module_alloc(m, BLOCK_PAGES * sizeof(*block));
	if (!block)
		return false;
	if (!atomic_compare_exchange_strong(slot, &none, block))
		module_free(m, block);
	return true;
}

bool lines_prepare(struct tdx_module *m, uint64_t hpa, uint64_t size)
{
	const struct tdmr *tdmr = pamt_tdmr(m, hpa);
	uint64_t first, end;

	if (!tdmr || m->config.memory == TDX_MEMORY_PLAIN)
		return true;
	first = (hpa - tdmr->config.base) / BLOCK_BYTES;
	end = (hpa + size - 1 - tdmr->config.base) / BLOCK_BYTES + 1;
	for (uint64_t i = first; i < end; i++)
		if (!prepare_block(m, &tdmr->line_blocks[i]))
			return false;
	return true;
}

static void page_lock(struct tdx_module *m, uint64_t hpa)
{
	pthread_mutex_lock(&m->page_locks[hpa / PAGE_BYTES % PAGE_LOCKS]);
}

static void page_unlock(struct tdx_module *m, uint64_t hpa)
{
	pthread_mutex_unlock(&m->page_locks[hpa / PAGE_BYTES % PAGE_LOCKS]);
}

bool page_in_use(struct tdx_module *m, uint64_t hpa)
{
	for (unsigned int level = PAMT_LEVELS - 1; level > 0; level--)
		if (atomic_load(&pamt_entry_at(m, hpa, level)->pt) == TDX_PT_REG)
			return true;
	return atomic_load(&pamt_entry_at(m, hpa, 0)->pt) > TDX_PT_RSVD;
}

/* ---- time and events ---- */

uint64_t page_now(struct tdx_module *m)
{
	return atomic_fetch_add(&m->line_clock, 1) + 1;
}

bool page_dirty(const struct tdx_module *m, const struct mem_key *key, uint64_t stamp)
{
	return !(key && atomic_load(&key->retired)) && stamp > atomic_load(&m->flushed);
}

void page_event(struct tdx_module *m, enum tdx_memory_event_kind kind, uint64_t hpa,
		const struct mem_key *by, const struct mem_key *of)
{
	const struct tdx_memory_event event = {kind, hpa, key_hkid(by), key_hkid(of)};

	atomic_fetch_add(&m->events[kind], 1);
	atomic_fetch_add(&m->watch, 1); /* and never back: something is wrong from now on */
	if (m->config.memory_event)
		m->config.memory_event(m->config.ctx, &event);
}

uint64_t lines_write_back_begin(struct tdx_module *m)
{
	return page_now(m);
}

void lines_write_back_end(struct tdx_module *m, unsigned int package, uint64_t begun)
{
	uint64_t all = UINT64_MAX;

	atomic_store(&m->flushed_at[package], begun);
	for (unsigned int i = 0; i < m->config.nr_packages; i++) {
		uint64_t at = atomic_load(&m->flushed_at[i]);

		all = at < all ? at : all;
	}
	atomic_store(&m->flushed, all);
}

/* ---- one line's state ---- */

static unsigned int index_of(uint64_t hpa)
{
	return hpa / LINE_BYTES % LINES;
}

static struct line line_get(const struct line_page *page, unsigned int i)
{
	if (page->split)
		return page->split->line[i];
	return (struct line){.key = page->key, .stamp = page->stamp, .dirty = page->dirty >> i & 1};
}

static bool page_split(struct tdx_module *m, struct line_page *page)
{
	struct line_split *split;

	if (page->split)
		return true;
	split = module_alloc(m, sizeof(*split));
	if (!split) {
		module_fatal(m, "no memory for the state of a page's lines");
		return false;
	}
	for (unsigned int i = 0; i < LINES; i++)
		split->line[i] = line_get(page, i);
	page->split = split;
	atomic_fetch_add(&m->watch, 1);
	return true;
}

static void line_put(struct tdx_module *m, struct line_page *page, unsigned int i,
		     const struct line *line)
{
	uint64_t bit = 1ull << i;

	if (!page->split && line->key == page->key && !line->poisoned && !line->stale) {
		/* One stamp for all: what is no longer dirty must not become so again by it. */
		if (!page_dirty(m, page->key, page->stamp))
			page->dirty = 0;
		page->dirty = line->dirty ? page->dirty | bit : page->dirty & ~bit;
		page->stamp = line->stamp > page->stamp ? line->stamp : page->stamp;
	} else if (page_split(m, page)) {
		page->split->line[i] = *line;
	}
}

/* All lines alike again? */
static void page_join(struct tdx_module *m, struct line_page *page)
{
	struct line_split *split = page->split;
	uint64_t stamp = 0, dirty = 0;

	if (!split)
		return;
	for (unsigned int i = 0; i < LINES; i++) {
		const struct line *line = &split->line[i];

		if (line->key != split->line[0].key || line->poisoned || line->stale)
			return;
		if (!line->dirty)
			continue;
		dirty |= 1ull << i;
		stamp = line->stamp > stamp ? line->stamp : stamp;
	}
	*page = (struct line_page){split->line[0].key, stamp, dirty, NULL};
	module_free(m, split);
	atomic_fetch_sub(&m->watch, 1);
}

bool page_save_stale(const struct place *at)
{
	if (!page_split(at->m, at->page))
		return false;
	bytes_get(at->page->split->stale[index_of(at->hpa)], at->bytes, LINE_BYTES);
	return true;
}

const uint8_t *page_stale_bytes(const struct place *at)
{
	return at->page->split->stale[index_of(at->hpa)];
}

/* ---- whole pages ---- */

/* What is done to the line at @at; @arg is the caller's. False: stop. */
typedef bool line_fn(const struct place *at, struct line *line, void *arg);

/* Lines that [@hpa, @hpa + @len) touches, inside one page. False: @fn said so. */
static bool for_lines(struct tdx_module *m, struct line_page *page, uint64_t hpa, size_t len,
		      line_fn *fn, void *arg)
{
	uint8_t *bytes = module_page(m, hpa), none[LINE_BYTES] = {0};
	uint64_t end = hpa + len;
	bool good = true;

	for (hpa &= ~(LINE_BYTES - 1ull); good && hpa < end; hpa += LINE_BYTES) {
		const struct place at = {m, page, hpa,
					 bytes ? bytes + (hpa & (PAGE_BYTES - 1)) : none};
		struct line line = line_get(page, index_of(hpa));

		good = fn(&at, &line, arg);
		line_put(m, page, index_of(hpa), &line);
	}
	page_join(m, page);
	return good;
}

static bool take_line(const struct place *at, struct line *line, void *arg)
{
	line_take(at, line, arg);
	return true;
}

/* Has a cache lines of the page that are not @key's? */
static bool foreign_dirty(const struct tdx_module *m, const struct line_page *page,
			  const struct mem_key *key)
{
	return page->dirty && page->key != key && page_dirty(m, page->key, page->stamp);
}

static void take_page(struct tdx_module *m, struct mem_key *key, uint64_t hpa)
{
	bool late = m->config.write_back == TDX_WRITE_BACK_LATE;
	struct line_page *page = page_find(m, hpa);

	if (!page)
		return;
	if (page->split || foreign_dirty(m, page, key))
		for_lines(m, page, hpa, PAGE_BYTES, take_line, key);
	else
		*page = (struct line_page){key, STAMP_OPEN, late ? UINT64_MAX : 0, NULL};
}

void lines_take(struct tdx_module *m, struct mem_key *key, uint64_t hpa)
{
	page_lock(m, hpa);
	take_page(m, key, hpa);
	page_unlock(m, hpa);
}

void lines_fill(struct tdx_module *m, struct mem_key *key, uint64_t hpa, const uint8_t *content)
{
	uint8_t *page = module_page(m, hpa);

	page_lock(m, hpa);
	take_page(m, key, hpa);
	if (page && content)
		memcpy(page, content, PAGE_BYTES);
	else if (page)
		memset(page, 0, PAGE_BYTES);
	page_unlock(m, hpa);
}

static void close_stamp(uint64_t *stamp, uint64_t now)
{
	if (*stamp == STAMP_OPEN)
		*stamp = now;
}

void lines_release(struct tdx_module *m, uint64_t hpa, unsigned int level)
{
	uint64_t end = hpa + level_size(level), now;

	if (m->config.write_back != TDX_WRITE_BACK_LATE)
		return;
	now = page_now(m);
	for (; hpa < end; hpa += PAGE_BYTES) {
		struct line_page *page = page_find(m, hpa);

		if (!page)
			continue;
		page_lock(m, hpa);
		close_stamp(&page->stamp, now);
		for (unsigned int i = 0; page->split && i < LINES; i++) {
			close_stamp(&page->split->line[i].stamp, now);
			close_stamp(&page->split->line[i].stale_stamp, now);
		}
		page_unlock(m, hpa);
	}
}

static bool flush_line(const struct place *at, struct line *line, void *arg)
{
	line_flush(at, line, *(unsigned int *)arg);
	return true;
}

static size_t to_page_end(uint64_t hpa, size_t len)
{
	size_t left = PAGE_BYTES - (hpa & (PAGE_BYTES - 1));

	return left < len ? left : len;
}

void lines_flush(struct tdx_module *m, unsigned int hkid, uint64_t hpa, size_t len)
{
	while (len) {
		size_t n = to_page_end(hpa, len);
		struct line_page *page = page_find(m, hpa);

		if (page) {
			page_lock(m, hpa);
			for_lines(m, page, hpa, n, flush_line, &hkid);
			page_unlock(m, hpa);
		}
		hpa += n;
		len -= n;
	}
}

/* ---- accesses ---- */

struct access {
	struct mem_key *key;
	uint64_t hpa; /* of the first byte */
	uint8_t *buf;
	size_t len;
	enum line_op op;
};

/* The part of the line at @at that the access touches. */
static unsigned int part_of(const struct access *a, const struct place *at, unsigned int *from,
			    uint8_t **buf)
{
	uint64_t start = a->hpa > at->hpa ? a->hpa : at->hpa;
	uint64_t end = a->hpa + a->len, line_end = at->hpa + LINE_BYTES;

	*from = (unsigned int)(start - at->hpa);
	*buf = a->buf ? a->buf + (start - a->hpa) : NULL;
	return (unsigned int)((end < line_end ? end : line_end) - start);
}

static bool access_line(const struct place *at, struct line *line, void *arg)
{
	const struct access *a = arg;
	uint8_t seen[LINE_BYTES], *buf;
	unsigned int from, len = part_of(a, at, &from, &buf);

	switch (a->op) {
	case LINE_STORE:
		line_store(at, line, a->key, from, buf, buf ? len : 0);
		return true;
	case LINE_STORE_FULL:
		line_store_full(at, line, a->key, buf);
		return true;
	default:
		if (!line_load(at, line, a->key, seen))
			return false;
		if (buf)
			memcpy(buf, seen + from, len);
		return true;
	}
}

/* No state, no rules. */
static void access_plain(struct tdx_module *m, const struct access *a)
{
	uint8_t *bytes = module_page(m, a->hpa);

	if (bytes)
		bytes += a->hpa & (PAGE_BYTES - 1);
	if (a->op == LINE_LOAD && a->buf) {
		if (bytes)
			bytes_get(a->buf, bytes, a->len);
	} else if (bytes && a->op == LINE_STORE_FULL && !a->buf) {
		memset(bytes, 0, a->len); /* nobody else has this page */
	} else if (bytes && a->op != LINE_LOAD && a->buf) {
		bytes_put(bytes, a->buf, a->len);
	}
}

/* A page that came back from a TD, written back, cleared at one go: what a good host does. */
static bool clears_clean_page(struct tdx_module *m, const struct line_page *page,
			      const struct access *a)
{
	return a->op == LINE_STORE_FULL && a->len == PAGE_BYTES && !page->split &&
	       !foreign_dirty(m, page, a->key) && !page_in_use(m, a->hpa);
}

static bool access_page(struct tdx_module *m, struct access *a)
{
	struct line_page *page = page_find(m, a->hpa);
	bool good = true;

	/* A host's line can be late, too. */
	if (!page && a->op == LINE_STORE && m->config.write_back == TDX_WRITE_BACK_LATE &&
	    lines_prepare(m, a->hpa, a->len))
		page = page_find(m, a->hpa);
	if (!page) {
		access_plain(m, a);
		return true;
	}
	page_lock(m, a->hpa);
	if (clears_clean_page(m, page, a)) {
		*page = (struct line_page){.key = a->key};
		access_plain(m, a);
	} else {
		good = for_lines(m, page, a->hpa, a->len, access_line, a);
	}
	page_unlock(m, a->hpa);
	return good;
}

bool lines_access(struct tdx_module *m, struct mem_key *key, uint64_t hpa, void *buf, size_t len,
		  enum line_op op)
{
	uint8_t *at = buf;

	if (op == LINE_LOAD && buf)
		memset(buf, 0, len);
	while (len) {
		struct access a = {key, hpa, at, to_page_end(hpa, len), op};

		if (!access_page(m, &a))
			return false;
		hpa += a.len;
		len -= a.len;
		at = at ? at + a.len : NULL;
	}
	return true;
}

bool lines_plain(struct tdx_module *m, uint64_t hpa)
{
	return !page_find(m, hpa);
}

static bool check_line(const struct place *at, struct line *line, void *arg)
{
	return line_load(at, line, arg, NULL);
}

bool lines_check(struct tdx_module *m, struct mem_key *key, uint64_t hpa, size_t len)
{
	struct line_page *page = lines_watched(m) ? page_find(m, hpa) : NULL;
	bool good;

	if (!page)
		return true;
	page_lock(m, hpa);
	good = for_lines(m, page, hpa, len, check_line, key);
	page_unlock(m, hpa);
	return good;
}

static bool survived(struct tdx_module *m, bool good)
{
	if (!good)
		module_fatal(m, "machine check inside the module: it read a spoiled line");
	return good;
}

bool lines_module_check(struct tdx_module *m, struct mem_key *key, uint64_t hpa, size_t len)
{
	return survived(m, lines_check(m, key, hpa, len));
}

bool lines_module_load(struct tdx_module *m, struct mem_key *key, uint64_t hpa, void *buf,
		       size_t len)
{
	return survived(m, lines_access(m, key, hpa, buf, len, LINE_LOAD));
}

bool lines_module_load_shared(struct tdx_module *m, uint64_t pa, void *buf, size_t len)
{
	return lines_module_load(m, lines_shared_key(m, pa_hkid(m, pa)), pa & ~m->hkid_mask, buf,
				 len);
}

/* ---- views ---- */

void lines_view(struct tdx_module *m, uint64_t hpa, struct tdx_line_view *view)
{
	struct line_page *page = page_find(m, hpa);
	struct line line;

	*view = (struct tdx_line_view){0};
	if (!page)
		return;
	page_lock(m, hpa);
	line = line_get(page, index_of(hpa));
	page_unlock(m, hpa);
	view->hkid = key_hkid(line.key);
	view->td_owner = key_is_private(line.key);
	view->poisoned = line.poisoned;
	view->dirty = line.dirty && page_dirty(m, line.key, line.stamp);
	view->stale = line.stale;
	view->stale_hkid = line.stale ? key_hkid(line.stale_key) : 0;
}

void lines_bus(struct tdx_module *m, uint64_t hpa, uint8_t out[LINE_BYTES])
{
	struct line_page *page = page_find(m, hpa);
	const uint8_t *bytes = module_page(m, hpa);
	struct mem_key *key;

	if (page)
		page_lock(m, hpa);
	key = page ? line_get(page, index_of(hpa)).key : NULL;
	memset(out, 0, LINE_BYTES);
	if (bytes)
		bytes_get(out, bytes + (hpa & (PAGE_BYTES - 1)), LINE_BYTES);
	if (page)
		page_unlock(m, hpa);
	crypt_line(m, key, hpa, true, out, out);
}

/* ---- keys of the host, beginning and end ---- */

struct mem_key *lines_shared_key(struct tdx_module *m, unsigned int hkid)
{
	struct mem_key *key, *none = NULL;

	if (!hkid)
		return NULL;
	key = atomic_load(&m->shared_keys[hkid]);
	if (key)
		return key;
	key = key_create(m, hkid, false);
	if (key && !atomic_compare_exchange_strong(&m->shared_keys[hkid], &none, key))
		return none; /* somebody was first; ours stays on the list of all keys */
	return key;
}

int lines_init(struct tdx_module *m)
{
	for (unsigned int i = 0; i < PAGE_LOCKS; i++)
		pthread_mutex_init(&m->page_locks[i], NULL);
	m->shared_keys = module_alloc(m, m->config.private_hkid_min * sizeof(*m->shared_keys));
	m->global_key = key_create(m, m->config.global_hkid, true);
	if (!m->shared_keys || !m->global_key)
		return -ENOMEM;
	for (unsigned int i = 0; i < m->config.nr_tdmrs; i++) {
		struct tdmr *tdmr = &m->tdmrs[i];

		tdmr->line_blocks = module_alloc(m, tdmr->config.size / BLOCK_BYTES *
							    sizeof(*tdmr->line_blocks));
		if (!tdmr->line_blocks)
			return -ENOMEM;
	}
	return 0;
}

static void free_blocks(struct tdx_module *m, struct tdmr *tdmr)
{
	for (uint64_t i = 0; tdmr->line_blocks && i < tdmr->config.size / BLOCK_BYTES; i++) {
		struct line_page *block = atomic_load(&tdmr->line_blocks[i]);

		for (unsigned int k = 0; block && k < BLOCK_PAGES; k++)
			module_free(m, block[k].split);
		module_free(m, block);
	}
	module_free(m, tdmr->line_blocks);
}

void lines_exit(struct tdx_module *m)
{
	for (unsigned int i = 0; m->tdmrs && i < m->config.nr_tdmrs; i++)
		free_blocks(m, &m->tdmrs[i]);
	module_free(m, m->shared_keys);
	keys_exit(m);
	for (unsigned int i = 0; i < PAGE_LOCKS; i++)
		pthread_mutex_destroy(&m->page_locks[i]);
}
