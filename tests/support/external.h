/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An external table of our own: a plain map that fails, or lies, when told to, and judges whether
 * the library keeps the protocol of external.h. Decides nothing for the library.
 */
#ifndef TESTS_SUPPORT_EXTERNAL_H
#define TESTS_SUPPORT_EXTERNAL_H

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <triptych/posix.h>
#include <triptych/triptych.h>

/* GFNs and PFNs that the map has room for. */
#define EXT_GFNS (1ull << 20)
#define EXT_PFNS (1ull << 22)
/* Calls that the log holds, and the letter of each. */
#define EXT_LOG	    4096
#define EXT_LETTERS "lmbutrsgRcf"

struct ext_entry {
	uint8_t kind;	/* enum tpt_external_kind */
	uint8_t busy;	/* a call is under way */
	uint32_t epoch; /* of the block */
	uint64_t value; /* PFN, or HPA of the table */
};

/* What a kind of call answers from its @at-th call on (1 = the next), @times times. */
struct ext_script {
	unsigned int at, times;
	int answer;
	bool done; /* does the thing all the same: a lie */
};

struct ext {
	pthread_mutex_t lock;
	struct tpt_posix *posix; /* to see who holds the exclusive section; NULL: not looked at */
	unsigned int levels;
	struct ext_entry *entry[TPT_LEVEL_MAX + 1];
	uint8_t *pfn_used;
	struct ext_script script[TPT_CALL_NR];
	unsigned int busy_percent; /* of all calls, at random */
	uint64_t random;

	uint64_t calls[TPT_CALL_NR], done[TPT_CALL_NR];
	char log[EXT_LOG + 1]; /* a letter a call, 'K' a kick, 'h' and 'H' a hold's ends */
	unsigned int logged;
	uint32_t epoch, kicked; /* tracks so far; those of them that a kick followed */
	bool released, leaks;	/* leaks: a reclaim was refused, tables may go before leaves */
	uint64_t leaves, tables;
	unsigned int wrong; /* rules that the library broke, and the first of them */
	char what[160];

	/* Called in the middle of a call, before it does anything; without the lock. */
	void (*in_call)(void *ctx, enum tpt_external_call call, tpt_gfn gfn);
	void *in_call_ctx;
};

static inline void ext_wrong(struct ext *e, const char *what, tpt_gfn gfn, unsigned int level)
{
	if (!e->wrong++)
		snprintf(e->what, sizeof(e->what), "%s: gfn %#llx level %u", what,
			 (unsigned long long)gfn, level);
}

static inline void ext_note(struct ext *e, char letter)
{
	if (e->logged < EXT_LOG)
		e->log[e->logged++] = letter;
}

static inline struct ext_entry *ext_at(struct ext *e, tpt_gfn gfn, unsigned int level)
{
	static struct ext_entry nowhere;

	if (gfn >= EXT_GFNS || level < 1 || level > e->levels || level > TPT_LEVEL_MAX ||
	    gfn & (tpt_level_pages(level) - 1)) {
		ext_wrong(e, "an entry that cannot be", gfn, level);
		nowhere = (struct ext_entry){0};
		return &nowhere;
	}
	return &e->entry[level][gfn >> (9 * (level - 1))];
}

static inline uint32_t ext_random(struct ext *e)
{
	e->random = e->random * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(e->random >> 33);
}

/* Begins a call: 0 do it; else the answer. @entry may be NULL. Takes the lock. */
static inline bool ext_enter(struct ext *e, enum tpt_external_call call, struct ext_entry *entry,
			     tpt_gfn gfn, unsigned int level, int *answer)
{
	struct ext_script *s = &e->script[call];
	bool faulting = call == TPT_CALL_LINK || call == TPT_CALL_MAP;
	bool ending = call >= TPT_CALL_RELEASE;

	pthread_mutex_lock(&e->lock);
	*answer = 0;
	e->calls[call]++;
	ext_note(e, EXT_LETTERS[call]);
	if (entry && entry->busy++)
		ext_wrong(e, "two calls at once on one entry", gfn, level);
	if (e->released && (!ending || call == TPT_CALL_RELEASE))
		ext_wrong(e, "a call after release", gfn, level);
	if (!e->released && ending && call != TPT_CALL_RELEASE)
		ext_wrong(e, "a reclaim before release", gfn, level);
	if (!faulting && e->posix && !tpt_posix_lock_held(e->posix))
		ext_wrong(e, "a removal outside of the exclusive section", gfn, level);
	if (e->in_call) {
		pthread_mutex_unlock(&e->lock);
		e->in_call(e->in_call_ctx, call, gfn);
		pthread_mutex_lock(&e->lock);
	}

	if (e->busy_percent && ext_random(e) % 100 < e->busy_percent) {
		*answer = -EBUSY;
		return false;
	}
	if (!s->times || (s->at > 1 && s->at--))
		return true;
	s->times--;
	*answer = s->answer;
	return s->done;
}

static inline int ext_leave(struct ext *e, enum tpt_external_call call, struct ext_entry *entry,
			    int answer)
{
	if (entry)
		entry->busy--;
	if (!answer)
		e->done[call]++;
	pthread_mutex_unlock(&e->lock);
	return answer;
}

static inline void ext_parent(struct ext *e, tpt_gfn gfn, unsigned int level)
{
	if (level < e->levels &&
	    ext_at(e, tpt_gfn_round(gfn, level + 1), level + 1)->kind != TPT_EXTERNAL_TABLE)
		ext_wrong(e, "no table above", gfn, level);
}

/* The frames of a leaf are somebody's from now on. */
static inline void ext_use(struct ext *e, tpt_gfn gfn, unsigned int level, uint64_t pfn)
{
	if (pfn & (tpt_level_pages(level) - 1))
		ext_wrong(e, "map: the frame is not aligned", gfn, level);
	for (uint64_t i = 0; i < tpt_level_pages(level); i++)
		if (pfn + i >= EXT_PFNS || e->pfn_used[pfn + i]++)
			ext_wrong(e, "map: the frame is mapped already", gfn, level);
}

static inline int ext_link(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_hpa table)
{
	struct ext *e = ctx;
	struct ext_entry *at = ext_at(e, gfn, level);
	int answer;

	if (ext_enter(e, TPT_CALL_LINK, at, gfn, level, &answer)) {
		if (at->kind != TPT_EXTERNAL_NONE || !table.a || level < 2)
			ext_wrong(e, "link: not an empty entry and a table", gfn, level);
		ext_parent(e, gfn, level);
		*at = (struct ext_entry){TPT_EXTERNAL_TABLE, at->busy, 0, table.a};
		e->tables++;
	}
	return ext_leave(e, TPT_CALL_LINK, at, answer);
}

static inline int ext_map(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_pfn pfn)
{
	struct ext *e = ctx;
	struct ext_entry *at = ext_at(e, gfn, level);
	int answer;

	if (ext_enter(e, TPT_CALL_MAP, at, gfn, level, &answer)) {
		if (at->kind != TPT_EXTERNAL_NONE)
			ext_wrong(e, "map: the entry is not empty", gfn, level);
		ext_use(e, gfn, level, pfn.n);
		ext_parent(e, gfn, level);
		*at = (struct ext_entry){TPT_EXTERNAL_LEAF, at->busy, 0, pfn.n};
		e->leaves++;
	}
	return ext_leave(e, TPT_CALL_MAP, at, answer);
}

static inline int ext_block(void *ctx, tpt_gfn gfn, enum tpt_level level)
{
	struct ext *e = ctx;
	struct ext_entry *at = ext_at(e, gfn, level);
	int answer;

	if (ext_enter(e, TPT_CALL_BLOCK, at, gfn, level, &answer)) {
		if (at->kind != TPT_EXTERNAL_LEAF && at->kind != TPT_EXTERNAL_TABLE)
			ext_wrong(e, "block: neither a leaf nor a table", gfn, level);
		at->kind = at->kind == TPT_EXTERNAL_TABLE ? TPT_EXTERNAL_BLOCKED_TABLE
							  : TPT_EXTERNAL_BLOCKED_LEAF;
		at->epoch = e->epoch;
	}
	return ext_leave(e, TPT_CALL_BLOCK, at, answer);
}

/* Blocked, and since then a track and a kick. */
static inline bool ext_tracked(const struct ext *e, const struct ext_entry *at,
			       enum tpt_external_kind kind)
{
	return at->kind == kind && at->epoch < e->epoch && e->kicked == e->epoch;
}

static inline int ext_unblock(void *ctx, tpt_gfn gfn, enum tpt_level level)
{
	struct ext *e = ctx;
	struct ext_entry *at = ext_at(e, gfn, level);
	int answer;

	if (ext_enter(e, TPT_CALL_UNBLOCK, at, gfn, level, &answer)) {
		bool table = at->kind == TPT_EXTERNAL_BLOCKED_TABLE;

		if (!table && !ext_tracked(e, at, TPT_EXTERNAL_BLOCKED_LEAF))
			ext_wrong(e, "unblock: not blocked, tracked and kicked", gfn, level);
		if (table && !ext_tracked(e, at, TPT_EXTERNAL_BLOCKED_TABLE))
			ext_wrong(e, "unblock: a table not tracked and kicked", gfn, level);
		at->kind = table ? TPT_EXTERNAL_TABLE : TPT_EXTERNAL_LEAF;
	}
	return ext_leave(e, TPT_CALL_UNBLOCK, at, answer);
}

static inline int ext_track(void *ctx)
{
	struct ext *e = ctx;
	int answer;

	if (ext_enter(e, TPT_CALL_TRACK, NULL, 0, 0, &answer)) {
		if (e->kicked != e->epoch)
			ext_wrong(e, "track: the one before had no kick", 0, 0);
		e->epoch++;
	}
	return ext_leave(e, TPT_CALL_TRACK, NULL, answer);
}

static inline void ext_take(struct ext *e, struct ext_entry *at, tpt_gfn gfn, unsigned int level,
			    tpt_pfn pfn)
{
	if (at->value != pfn.n)
		ext_wrong(e, "a page goes back with another frame", gfn, level);
	for (uint64_t i = 0; i < tpt_level_pages(level); i++)
		if (at->value + i < EXT_PFNS)
			e->pfn_used[at->value + i]--;
	at->kind = TPT_EXTERNAL_NONE;
	e->leaves--;
}

static inline int ext_remove(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_pfn pfn)
{
	struct ext *e = ctx;
	struct ext_entry *at = ext_at(e, gfn, level);
	int answer;

	if (ext_enter(e, TPT_CALL_REMOVE, at, gfn, level, &answer)) {
		if (!ext_tracked(e, at, TPT_EXTERNAL_BLOCKED_LEAF))
			ext_wrong(e, "remove: not blocked, tracked and kicked", gfn, level);
		ext_take(e, at, gfn, level, pfn);
	}
	return ext_leave(e, TPT_CALL_REMOVE, at, answer);
}

static inline int ext_split(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_hpa table)
{
	struct ext *e = ctx;
	struct ext_entry *at = ext_at(e, gfn, level);
	int answer;

	if (ext_enter(e, TPT_CALL_SPLIT, at, gfn, level, &answer)) {
		struct ext_entry *below = ext_at(e, gfn, level - 1);

		if (!ext_tracked(e, at, TPT_EXTERNAL_BLOCKED_LEAF) || !table.a)
			ext_wrong(e, "split: not blocked, tracked and kicked", gfn, level);
		for (unsigned int i = 0; i < 512; i++) {
			if (below[i].kind != TPT_EXTERNAL_NONE)
				ext_wrong(e, "split: there is something below", gfn, level);
			below[i] = (struct ext_entry){TPT_EXTERNAL_LEAF, 0, 0,
						      at->value + i * tpt_level_pages(level - 1)};
		}
		at->kind = TPT_EXTERNAL_TABLE;
		at->value = table.a;
		e->leaves += 511;
		e->tables++;
	}
	return ext_leave(e, TPT_CALL_SPLIT, at, answer);
}

static inline int ext_merge(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_hpa table)
{
	struct ext *e = ctx;
	struct ext_entry *at = ext_at(e, gfn, level);
	int answer;

	if (ext_enter(e, TPT_CALL_MERGE, at, gfn, level, &answer)) {
		struct ext_entry *below = ext_at(e, gfn, level - 1);
		uint64_t first = below->value;

		if (!ext_tracked(e, at, TPT_EXTERNAL_BLOCKED_TABLE) || at->value != table.a)
			ext_wrong(e, "merge: not blocked, tracked and kicked", gfn, level);
		if (first & (tpt_level_pages(level) - 1))
			ext_wrong(e, "merge: not aligned", gfn, level);
		for (unsigned int i = 0; i < 512; i++) {
			if (below[i].kind != TPT_EXTERNAL_LEAF ||
			    below[i].value != first + i * tpt_level_pages(level - 1))
				ext_wrong(e, "merge: not uniform", gfn, level);
			below[i] = (struct ext_entry){0};
		}
		at->kind = TPT_EXTERNAL_LEAF;
		at->value = first;
		e->leaves -= 511;
		e->tables--;
	}
	return ext_leave(e, TPT_CALL_MERGE, at, answer);
}

static inline int ext_release(void *ctx)
{
	struct ext *e = ctx;
	int answer;

	if (ext_enter(e, TPT_CALL_RELEASE, NULL, 0, 0, &answer))
		e->released = true;
	return ext_leave(e, TPT_CALL_RELEASE, NULL, answer);
}

static inline int ext_reclaim(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_pfn pfn)
{
	struct ext *e = ctx;
	struct ext_entry *at = ext_at(e, gfn, level);
	int answer;

	if (ext_enter(e, TPT_CALL_RECLAIM_LEAF, at, gfn, level, &answer)) {
		if (at->kind != TPT_EXTERNAL_LEAF && at->kind != TPT_EXTERNAL_BLOCKED_LEAF)
			ext_wrong(e, "reclaim: not a leaf", gfn, level);
		ext_take(e, at, gfn, level, pfn);
	} else {
		e->leaks = true;
	}
	return ext_leave(e, TPT_CALL_RECLAIM_LEAF, at, answer);
}

static inline int ext_free_table(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_hpa table)
{
	struct ext *e = ctx;
	struct ext_entry *at = ext_at(e, gfn, level);
	int answer;

	if (ext_enter(e, TPT_CALL_FREE_TABLE, at, gfn, level, &answer)) {
		struct ext_entry *below = ext_at(e, gfn, level - 1);

		if ((at->kind != TPT_EXTERNAL_TABLE && at->kind != TPT_EXTERNAL_BLOCKED_TABLE) ||
		    at->value != table.a)
			ext_wrong(e, "free_table: not this table", gfn, level);
		for (unsigned int i = 0; i < 512 && !e->leaks; i++)
			if (below[i].kind != TPT_EXTERNAL_NONE)
				ext_wrong(e, "free_table: not empty", gfn, level);
		at->kind = TPT_EXTERNAL_NONE;
		e->tables--;
	} else {
		e->leaks = true;
	}
	return ext_leave(e, TPT_CALL_FREE_TABLE, at, answer);
}

static inline int ext_read(void *ctx, tpt_gfn gfn, enum tpt_level level,
			   struct tpt_external_entry *entry)
{
	struct ext *e = ctx;
	const struct ext_entry *at;

	*entry = (struct tpt_external_entry){TPT_EXTERNAL_NONE, {0}};
	if (gfn >= EXT_GFNS)
		return 0;
	at = ext_at(e, gfn, level);
	entry->kind = (enum tpt_external_kind)at->kind;
	if (at->kind == TPT_EXTERNAL_LEAF || at->kind == TPT_EXTERNAL_BLOCKED_LEAF)
		entry->pfn = tpt_pfn_make(at->value);
	return 0;
}

static const struct tpt_external_ops ext_ops = {
	.size = sizeof(ext_ops),
	.link = ext_link,
	.map = ext_map,
	.block = ext_block,
	.unblock = ext_unblock,
	.track = ext_track,
	.remove = ext_remove,
	.release = ext_release,
	.reclaim_leaf = ext_reclaim,
	.free_table = ext_free_table,
	.read = ext_read,
	.split = ext_split,
	.merge = ext_merge,
};

static inline void ext_kicked(struct ext *e)
{
	pthread_mutex_lock(&e->lock);
	ext_note(e, 'K');
	e->kicked = e->epoch;
	pthread_mutex_unlock(&e->lock);
}

static inline void ext_held(struct ext *e, bool held)
{
	pthread_mutex_lock(&e->lock);
	ext_note(e, held ? 'h' : 'H');
	pthread_mutex_unlock(&e->lock);
}

static inline void ext_init(struct ext *e, unsigned int levels)
{
	memset(e, 0, sizeof(*e));
	pthread_mutex_init(&e->lock, NULL);
	e->levels = levels;
	for (unsigned int l = 1; l <= levels; l++)
		e->entry[l] = calloc((EXT_GFNS >> (9 * (l - 1))) + 512, sizeof(*e->entry[l]));
	e->pfn_used = calloc(EXT_PFNS, 1);
}

static inline void ext_fini(struct ext *e)
{
	for (unsigned int l = 1; l <= TPT_LEVEL_MAX; l++)
		free(e->entry[l]);
	free(e->pfn_used);
}

/* From its @at-th call on, @times times, @call answers @answer. */
static inline void ext_fail(struct ext *e, enum tpt_external_call call, unsigned int at,
			    unsigned int times, int answer)
{
	e->script[call] = (struct ext_script){at, times, answer, answer > 0};
}

/* Forgets the log. */
static inline void ext_log_clear(struct ext *e)
{
	memset(e->log, 0, sizeof(e->log));
	e->logged = 0;
}

#endif
