// SPDX-License-Identifier: BSD-2-Clause
/*
 * The books that the report keeps of every tree, and how changes become a few bytes each. Never
 * sees a file or a page.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/report_internal.h"

/* ---- bytes ---------------------------------------------------------------------------------- */

static bool bytes_reserve(struct report_bytes *b, size_t len)
{
	size_t cap = b->cap ? b->cap : 4096;
	uint8_t *data;

	if (b->failed)
		return false;
	if (len <= b->cap - b->len)
		return true;
	while (cap - b->len < len)
		cap *= 2;
	data = realloc(b->data, cap);
	if (!data) {
		b->failed = true;
		return false;
	}
	b->data = data;
	b->cap = cap;
	return true;
}

void bytes_add(struct report_bytes *b, const void *data, size_t len)
{
	if (!len || !bytes_reserve(b, len))
		return;
	memcpy(b->data + b->len, data, len);
	b->len += len;
}

void bytes_u8(struct report_bytes *b, unsigned int value)
{
	uint8_t byte = (uint8_t)value;

	bytes_add(b, &byte, 1);
}

void bytes_number(struct report_bytes *b, uint64_t value)
{
	while (value >= 0x80) {
		bytes_u8(b, (value & 0x7f) | 0x80);
		value >>= 7;
	}
	bytes_u8(b, (unsigned int)value);
}

void bytes_signed(struct report_bytes *b, int64_t value)
{
	bytes_number(b, ((uint64_t)value << 1) ^ (value < 0 ? UINT64_MAX : 0));
}

void bytes_text(struct report_bytes *b, const char *text)
{
	bytes_add(b, text, strlen(text));
}

void bytes_format(struct report_bytes *b, const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	bytes_text(b, text);
}

/* ---- arrays and hashes ---------------------------------------------------------------------- */

void *report_grow(void *array, uint32_t *cap, uint32_t nr, size_t size)
{
	uint32_t new_cap = *cap ? *cap * 2 : 16;
	void *grown;

	if (nr < *cap)
		return array;
	if (new_cap <= *cap)
		return NULL;
	grown = realloc(array, new_cap * size);
	if (grown)
		*cap = new_cap;
	return grown;
}

static uint64_t mix(uint64_t x)
{
	x *= 0x9e3779b97f4a7c15ull;
	return x ^ x >> 29;
}

/* Is entry @index the one that @key means; and what is its hash? */
typedef bool same_fn(const struct report *r, uint32_t index, const void *key);
typedef uint64_t hash_fn(const struct report *r, uint32_t index);

static uint32_t *hash_slot(const struct report *r, const struct report_hash *h, uint64_t hash,
			   same_fn *same, const void *key)
{
	for (uint32_t i = (uint32_t)mix(hash);; i++) {
		uint32_t *slot = &h->slots[i & (h->size - 1)];

		if (!*slot || same(r, *slot - 1, key))
			return slot;
	}
}

static bool never_same(const struct report *r, uint32_t index, const void *key)
{
	(void)r, (void)index, (void)key;
	return false;
}

/* Keeps a third of the slots free. */
static bool hash_reserve(const struct report *r, struct report_hash *h, hash_fn *hash_of)
{
	struct report_hash bigger = {.size = h->size ? h->size * 2 : 64, .used = h->used};

	if (h->used + 1 <= h->size - h->size / 3)
		return true;
	bigger.slots = calloc(bigger.size, sizeof(*bigger.slots));
	if (!bigger.slots)
		return false;
	for (uint32_t i = 0; i < h->size; i++) {
		uint32_t index = h->slots[i];

		if (index)
			*hash_slot(r, &bigger, hash_of(r, index - 1), never_same, NULL) = index;
	}
	free(h->slots);
	*h = bigger;
	return true;
}

/* ---- strings -------------------------------------------------------------------------------- */

/* Length of the UTF-8 sequence at @s, 0: there is none (RFC 3629, section 4). */
static size_t utf8_length(const uint8_t *s)
{
	static const struct {
		uint8_t first, last, low, high, length;
	} forms[] = {
		{0x01, 0x7f, 0x00, 0x00, 1}, {0xc2, 0xdf, 0x80, 0xbf, 2},
		{0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
		{0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
		{0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4},
		{0xf4, 0xf4, 0x80, 0x8f, 4},
	};

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		size_t n = forms[i].length;

		if (s[0] < forms[i].first || s[0] > forms[i].last)
			continue;
		if (n > 1 && (s[1] < forms[i].low || s[1] > forms[i].high))
			return 0;
		for (size_t j = 2; j < n; j++)
			if ((s[j] & 0xc0) != 0x80)
				return 0;
		return n;
	}
	return 0;
}

char *report_copy(const char *text)
{
	static const char unknown[] = "\xef\xbf\xbd"; /* U+FFFD, for a byte that is no text */
	struct report_bytes b = {0};

	for (const char *s = text; *s;) {
		size_t n = utf8_length((const uint8_t *)s);

		bytes_add(&b, n ? s : unknown, n ? n : sizeof(unknown) - 1);
		s += n ? n : 1;
	}
	bytes_u8(&b, 0);
	if (!b.failed)
		return (char *)b.data;
	free(b.data);
	return NULL;
}

static uint64_t text_hash(const char *text)
{
	uint64_t hash = 0xcbf29ce484222325ull;

	for (; *text; text++)
		hash = (hash ^ (uint8_t)*text) * 0x100000001b3ull;
	return hash;
}

static uint64_t string_hash(const struct report *r, uint32_t index)
{
	return text_hash(r->strings[index]);
}

static bool same_string(const struct report *r, uint32_t index, const void *key)
{
	return !strcmp(r->strings[index], key);
}

bool report_intern(struct report *r, const char *text, uint32_t *index)
{
	char *copy = report_copy(text), **grown;
	uint32_t *slot;

	if (!copy)
		return false;
	if (!hash_reserve(r, &r->string_hash, string_hash))
		goto fail;
	slot = hash_slot(r, &r->string_hash, text_hash(copy), same_string, copy);
	if (*slot) {
		free(copy);
	} else {
		grown = report_grow(r->strings, &r->cap_strings, r->nr_strings, sizeof(*grown));
		if (!grown)
			goto fail;
		r->strings = grown;
		r->strings[r->nr_strings++] = copy;
		*slot = r->nr_strings;
		r->string_hash.used++;
	}
	*index = *slot - 1;
	return true;
fail:
	free(copy);
	return false;
}

/* ---- patterns ------------------------------------------------------------------------------- */

static const char *field_text(const struct tpt_word *word, const char *name)
{
	for (uint32_t i = 0; i < word->nr_fields; i++)
		if (!strcmp(word->field[i].name, name))
			return word->field[i].value ? "set" : NULL;
	return NULL;
}

static enum report_state sept_state_of(const struct tpt_word *word)
{
	bool leaf = field_text(word, "LEAF");

	if (!strcmp(word->kind, "FREE") || !strcmp(word->kind, "REMOVED"))
		return REPORT_EMPTY;
	if (field_text(word, "TDB"))
		return REPORT_BLOCKED;
	if (!leaf)
		return REPORT_TABLE;
	return field_text(word, "TDP") ? REPORT_PENDING : REPORT_ACCEPTED;
}

enum report_state report_state_of(uint64_t word, enum tpt_word_format format, unsigned int level)
{
	struct tpt_word w;
	const char *kind;

	tpt_word_decode(word, format, &w);
	kind = w.kind;
	if (format == TPT_WORD_SEPT)
		return word ? sept_state_of(&w) : REPORT_EMPTY;
	if (!strncmp(kind, "MMIO", 4))
		return REPORT_MMIO;
	if (!strcmp(kind, "frozen"))
		return REPORT_FROZEN;
	if (!strncmp(kind, "blocked", 7))
		return REPORT_BLOCKED;
	if (!strcmp(kind, "empty") || !strncmp(kind, "not ", 4))
		return REPORT_EMPTY;
	if (level > TPT_LEVEL_4K && strcmp(kind, "large leaf") != 0)
		return REPORT_TABLE;
	return field_text(&w, "W") ? REPORT_WRITABLE : REPORT_READ_ONLY;
}

static uint64_t pattern_key_hash(const struct report_pattern *p)
{
	return mix(p->flags) + ((uint64_t)p->format << 2 | p->with_address << 1 | p->level_1);
}

static uint64_t pattern_hash(const struct report *r, uint32_t index)
{
	return pattern_key_hash(&r->patterns[index]);
}

static bool same_pattern(const struct report *r, uint32_t index, const void *key)
{
	const struct report_pattern *a = &r->patterns[index], *b = key;

	return a->flags == b->flags && a->format == b->format &&
	       a->with_address == b->with_address && a->level_1 == b->level_1;
}

/*
 * Bit 51 is in a pattern, though it is an address bit: where it is reserved, it makes the word an
 * MMIO word (mmu/pte).
 */
static bool find_pattern(struct report *r, uint64_t word, enum tpt_word_format format,
			 unsigned int level, uint32_t *index)
{
	struct report_pattern p = {
		.word = word,
		.flags = (word & ~REPORT_ADDR_MASK) | (word & (1ull << 51)),
		.format = (uint8_t)format,
		.with_address = word & REPORT_ADDR_MASK,
		.level_1 = level == TPT_LEVEL_4K,
	};
	struct report_pattern *grown;
	uint32_t *slot;

	if (!hash_reserve(r, &r->pattern_hash, pattern_hash))
		return false;
	slot = hash_slot(r, &r->pattern_hash, pattern_key_hash(&p), same_pattern, &p);
	if (!*slot) {
		if (r->nr_patterns == REPORT_MAX_PATTERNS) {
			r->full = true;
			*index = 0;
			return true;
		}
		grown = report_grow(r->patterns, &r->cap_patterns, r->nr_patterns, sizeof(p));
		if (!grown)
			return false;
		r->patterns = grown;
		p.state = (uint8_t)report_state_of(word, format, level);
		r->patterns[r->nr_patterns++] = p;
		*slot = r->nr_patterns;
		r->pattern_hash.used++;
	}
	*index = *slot - 1;
	return true;
}

/* ---- nodes ---------------------------------------------------------------------------------- */

struct node_key {
	uint64_t index;
	unsigned int tree, level;
};

static uint64_t node_key_hash(const struct node_key *k)
{
	return k->index * 32 + k->tree * 8 + k->level;
}

static uint64_t node_hash(const struct report *r, uint32_t i)
{
	const struct report_node *n = r->nodes[i];

	return node_key_hash(&(struct node_key){n->index, n->tree, n->level});
}

static bool same_node(const struct report *r, uint32_t i, const void *key)
{
	const struct report_node *n = r->nodes[i];
	const struct node_key *k = key;

	return n->index == k->index && n->tree == k->tree && n->level == k->level;
}

static uint64_t node_index(tpt_gfn gfn, unsigned int level)
{
	return gfn >> (9 * level);
}

static unsigned int entry_index(tpt_gfn gfn, unsigned int level)
{
	return gfn >> (9 * (level - 1)) & (REPORT_ENTRIES - 1);
}

/* Number of the node that holds an entry of @level at @gfn, UINT32_MAX: there is none. */
static uint32_t lookup_node(const struct report *r, enum report_tree tree, tpt_gfn gfn,
			    unsigned int level)
{
	struct node_key key = {node_index(gfn, level), tree, level};

	if (!r->node_hash.size)
		return UINT32_MAX;
	return *hash_slot(r, &r->node_hash, node_key_hash(&key), same_node, &key) - 1;
}

static bool add_node(struct report *r, const struct node_key *key, uint32_t *node)
{
	struct report_node *n, **grown;

	if (!hash_reserve(r, &r->node_hash, node_hash))
		return false;
	grown = report_grow(r->nodes, &r->cap_nodes, r->nr_nodes, sizeof(*grown));
	if (!grown)
		return false;
	r->nodes = grown;
	n = calloc(1, sizeof(*n));
	if (!n)
		return false;
	n->index = key->index;
	n->tree = (uint8_t)key->tree;
	n->level = (uint8_t)key->level;
	*hash_slot(r, &r->node_hash, node_key_hash(key), same_node, key) = r->nr_nodes + 1;
	r->node_hash.used++;
	*node = r->nr_nodes;
	r->nodes[r->nr_nodes++] = n;
	return true;
}

static bool find_node(struct report *r, const struct report_change *c, uint32_t *node, bool *is_new)
{
	struct node_key key = {node_index(c->gfn, c->level), c->tree, c->level};

	*node = lookup_node(r, c->tree, c->gfn, c->level);
	*is_new = *node == UINT32_MAX;
	return !*is_new || add_node(r, &key, node);
}

/* ---- changes -------------------------------------------------------------------------------- */

/* How a word is empty in this format: what becomes of an entry that goes with its table. */
static uint64_t empty_word(enum tpt_word_format format)
{
	return format == TPT_WORD_NPT ? 0 : 1ull << 63;
}

/* False: memory ran out. @pattern is the word's. */
static bool put_word(struct report *r, enum report_tree tree, uint64_t word,
		     enum tpt_word_format format, unsigned int level, uint32_t *pattern)
{
	int64_t pfn = (int64_t)((word & REPORT_ADDR_MASK) >> TPT_PAGE_SHIFT);

	if (!find_pattern(r, word, format, level, pattern))
		return false;
	bytes_number(&r->scratch, *pattern);
	if (!r->patterns[*pattern].with_address)
		return true;
	bytes_signed(&r->scratch, pfn - r->last_pfn[tree]);
	r->last_pfn[tree] = pfn;
	return true;
}

static bool entry_is_empty(const struct report *r, const struct report_node *n, unsigned int entry)
{
	return !n->word[entry] || r->patterns[n->pattern[entry]].state == REPORT_EMPTY;
}

static bool is_empty_word(uint64_t word, enum tpt_word_format format, unsigned int level)
{
	return !word || report_state_of(word, format, level) == REPORT_EMPTY;
}

static bool put_entry(struct report *r, const struct report_change *c, unsigned int extra_flags)
{
	unsigned int entry = entry_index(c->gfn, c->level), flags = extra_flags;
	struct report_node *n;
	uint32_t node, pattern, old_pattern;
	bool is_new;

	if (!find_node(r, c, &node, &is_new))
		return false;
	n = r->nodes[node];
	if (is_new)
		flags |= CHANGE_NODE_NEW;
	else if (node != r->last_node)
		flags |= CHANGE_NODE_KNOWN;
	if (entry == n->last + 1u)
		flags |= CHANGE_NEXT;
	if (!c->old_unknown && c->old_word != n->word[entry] &&
	    !(entry_is_empty(r, n, entry) && is_empty_word(c->old_word, c->format, c->level)))
		flags |= CHANGE_OLD;
	bytes_u8(&r->scratch, flags);
	if (flags & CHANGE_NODE_NEW) {
		bytes_u8(&r->scratch, c->level << 4 | c->tree);
		bytes_number(&r->scratch, n->index);
	} else if (flags & CHANGE_NODE_KNOWN) {
		bytes_signed(&r->scratch, (int64_t)node - r->last_node);
	}
	if (!(flags & CHANGE_NEXT))
		bytes_signed(&r->scratch, (int64_t)entry - n->last);
	if (!put_word(r, c->tree, c->new_word, c->format, c->level, &pattern))
		return false;
	if (flags & CHANGE_OLD &&
	    !put_word(r, c->tree, c->old_word, c->format, c->level, &old_pattern))
		return false;
	r->last_node = node;
	n->last = (uint16_t)entry;
	n->word[entry] = c->new_word;
	n->pattern[entry] = (uint16_t)pattern;
	n->told[entry] = true;
	r->scratch_changes++;
	return true;
}

/* Empties one table page of the books, and all below it. */
static bool drop_node(struct report *r, uint32_t node)
{
	struct report_node *n = r->nodes[node];

	for (unsigned int i = 0; i < REPORT_ENTRIES; i++) {
		enum tpt_word_format format = r->patterns[n->pattern[i]].format;
		struct report_change c = {
			.tree = n->tree,
			.level = n->level,
			.gfn = (n->index << 9 | i) << (9 * (n->level - 1)),
			.old_word = n->word[i],
			.new_word = empty_word(format),
			.format = format,
		};
		uint32_t below;

		if (entry_is_empty(r, n, i))
			continue;
		if (!put_entry(r, &c, CHANGE_WITH_TABLE))
			return false;
		if (c.level == TPT_LEVEL_4K)
			continue;
		below = lookup_node(r, c.tree, c.gfn, c.level - 1);
		if (below != UINT32_MAX && !drop_node(r, below))
			return false;
	}
	return true;
}

/*
 * What hung on a table is not shown once its parent's entry is gone, so it stays in the books until
 * something is begun at that entry again: changes that are told in between find what they expect.
 */
bool report_put_change(struct report *r, const struct report_change *c)
{
	uint32_t node, below;

	if (c->level > TPT_LEVEL_4K && !is_empty_word(c->new_word, c->format, c->level)) {
		node = lookup_node(r, c->tree, c->gfn, c->level);
		below = lookup_node(r, c->tree, c->gfn, c->level - 1);
		if (node != UINT32_MAX && below != UINT32_MAX &&
		    entry_is_empty(r, r->nodes[node], entry_index(c->gfn, c->level)) &&
		    r->nodes[node]->told[entry_index(c->gfn, c->level)] && !drop_node(r, below))
			return false;
	}
	return put_entry(r, c, 0);
}

bool report_put_dropped(struct report *r, enum report_tree tree)
{
	for (uint32_t i = 0; i < r->nr_nodes; i++)
		if (r->nodes[i]->tree == tree && !drop_node(r, i))
			return false;
	return true;
}

void report_free_encoder(struct report *r)
{
	for (uint32_t i = 0; i < r->nr_nodes; i++)
		free(r->nodes[i]);
	for (uint32_t i = 0; i < r->nr_strings; i++)
		free(r->strings[i]);
	free(r->nodes);
	free(r->strings);
	free(r->patterns);
	free(r->node_hash.slots);
	free(r->string_hash.slots);
	free(r->pattern_hash.slots);
	free(r->stream.data);
	free(r->scratch.data);
}
