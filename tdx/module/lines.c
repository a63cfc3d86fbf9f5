// SPDX-License-Identifier: BSD-2-Clause
/* The rules of one line: what a load finds, what a store leaves, what a cache may still do to it.
 * Never how states are kept, or who asks. */
#include "tdx/module/lines_page.h"

#include <string.h>

/* How a line answers a load under another key than its own. */
enum clash {
	CLASH_NONSENSE, /* it is decrypted with the wrong key */
	CLASH_ZEROS,
	CLASH_POISON,
};

static enum clash clash_of(const struct tdx_module *m, const struct mem_key *reader,
			   const struct mem_key *owner)
{
	bool seam = key_is_private(reader);

	if (m->config.memory == TDX_MEMORY_NO_OWNER)
		return CLASH_NONSENSE;
	if (seam != key_is_private(owner)) /* the TD-owner bit is not what the access demands */
		return seam ? CLASH_POISON : CLASH_ZEROS;
	return seam && m->config.memory == TDX_MEMORY_CI ? CLASH_POISON : CLASH_NONSENSE;
}

/* What @to's owner sees of a line that @line's key was used for. */
static void decrypt_wrongly(const struct place *at, const struct line *line,
			    const struct mem_key *to, uint8_t out[LINE_BYTES])
{
	bytes_get(out, at->bytes, LINE_BYTES);
	crypt_line(at->m, line->key, at->hpa, true, out, out);
	crypt_line(at->m, to, at->hpa, false, out, out);
}

/* The same cells of memory, seen with another key from now on. */
static void adopt(const struct place *at, struct line *line, struct mem_key *key)
{
	uint8_t seen[LINE_BYTES];

	decrypt_wrongly(at, line, key, seen);
	bytes_put(at->bytes, seen, LINE_BYTES);
	line->key = key;
}

/* The old version leaves its cache only now. */
static void land(const struct place *at, struct line *line)
{
	page_event(at->m, TDX_MEMORY_LATE_WRITE_BACK, at->hpa, line->key, line->stale_key);
	bytes_put(at->bytes, page_stale_bytes(at), LINE_BYTES);
	*line = (struct line){.key = line->stale_key};
}

/*
 * Two versions of the line under different key ids: in which order they reach memory is nowhere
 * said, so whoever reads finds the other's.
 */
static void settle(const struct place *at, struct line *line, const struct mem_key *reader)
{
	if (line->stale && line->stale_key == reader)
		line->stale = false;
	else if (line->stale)
		land(at, line);
}

bool line_load(const struct place *at, struct line *line, struct mem_key *key, uint8_t *out)
{
	enum clash clash = CLASH_POISON;

	settle(at, line, key);
	if (!line->poisoned) {
		if (line->key == key) {
			if (out)
				bytes_get(out, at->bytes, LINE_BYTES);
			return true;
		}
		clash = clash_of(at->m, key, line->key);
	}
	switch (clash) {
	case CLASH_NONSENSE:
		if (out)
			decrypt_wrongly(at, line, key, out);
		else
			adopt(at, line, key);
		return true;
	case CLASH_ZEROS:
		if (out)
			memset(out, 0, LINE_BYTES);
		return true;
	default:
		line->poisoned = true;
		page_event(at->m, TDX_MEMORY_MACHINE_CHECK, at->hpa, key, line->key);
		return false;
	}
}

/* A host stores what is not its own any more, or not yet again. */
static void note_host_store(const struct place *at, const struct line *line,
			    const struct mem_key *key, bool heals)
{
	if (key_is_private(key))
		return;
	if (page_in_use(at->m, at->hpa))
		page_event(at->m, TDX_MEMORY_HOST_WRITE, at->hpa, key, line->key);
	else if (clash_of(at->m, key, line->key) == CLASH_ZEROS && !heals)
		page_event(at->m, TDX_MEMORY_STALE_POISON, at->hpa, key, line->key);
}

static void mark_dirty(struct tdx_module *m, struct line *line)
{
	line->dirty = m->config.write_back == TDX_WRITE_BACK_LATE;
	line->stamp = key_is_private(line->key) ? STAMP_OPEN : page_now(m);
}

void line_store(const struct place *at, struct line *line, struct mem_key *key, unsigned int from,
		const uint8_t *data, unsigned int len)
{
	settle(at, line, key); /* the store fetches the line first */
	note_host_store(at, line, key, false);
	if (line->key != key && !line->poisoned) {
		if (clash_of(at->m, key, line->key) == CLASH_NONSENSE)
			adopt(at, line, key);
		else
			line->poisoned = true;
	}
	bytes_put(at->bytes + from, data, len);
	if (!line->poisoned)
		mark_dirty(at->m, line);
}

/* What a cache has under another key id stays there: it will come later. */
static void leave_behind(const struct place *at, struct line *line, const struct mem_key *key)
{
	if (line->stale && !page_dirty(at->m, line->stale_key, line->stale_stamp)) {
		page_event(at->m, TDX_MEMORY_LATE_WRITE_BACK, at->hpa, line->key, line->stale_key);
		line->stale = false;
	}
	if (line->stale && line->stale_key == key)
		line->stale = false;
	if (!line->dirty || line->key == key || !page_dirty(at->m, line->key, line->stamp))
		return;
	if (!page_save_stale(at))
		return;
	/* Who attacks a page in use is not expected to keep its caches clean. */
	if (key_is_private(key) || !page_in_use(at->m, at->hpa))
		page_event(at->m, TDX_MEMORY_NO_WRITE_BACK, at->hpa, key, line->key);
	line->stale = true;
	line->stale_key = line->key;
	line->stale_stamp = line->stamp;
}

void line_store_full(const struct place *at, struct line *line, struct mem_key *key,
		     const uint8_t *data)
{
	static const uint8_t zeros[LINE_BYTES];

	note_host_store(at, line, key, true);
	leave_behind(at, line, key);
	line->key = key;
	line->poisoned = false;
	line->dirty = false;
	bytes_put(at->bytes, data ? data : zeros, LINE_BYTES);
}

void line_take(const struct place *at, struct line *line, struct mem_key *key)
{
	leave_behind(at, line, key);
	line->key = key;
	line->poisoned = false;
	mark_dirty(at->m, line);
}

void line_flush(const struct place *at, struct line *line, unsigned int hkid)
{
	if (line->dirty && key_hkid(line->key) == hkid)
		line->dirty = false;
	if (line->stale && key_hkid(line->stale_key) == hkid)
		land(at, line);
}
