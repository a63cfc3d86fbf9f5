// SPDX-License-Identifier: BSD-2-Clause
/* What the recorded tables held at a moment of the trace. Follows recorded changes only; never
 * looks at our tables. */
#include "cli/replay_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_ROOM 1024

static size_t hash(unsigned int as_id, unsigned int level, uint64_t gfn)
{
	uint64_t h = (gfn << 4 | level << 1 | as_id) * 0x9e3779b97f4a7c15ull;

	return (size_t)(h >> 24);
}

/* Where the leaf is, or would be. Leaves never move out of a place: a removed one keeps it. */
static struct state_leaf *place_of(struct state_leaf *places, size_t room, unsigned int as_id,
				   unsigned int level, uint64_t gfn)
{
	size_t at = hash(as_id, level, gfn) & (room - 1);

	while (places[at].level &&
	       (places[at].gfn != gfn || places[at].level != level || places[at].as_id != as_id))
		at = (at + 1) & (room - 1);
	return &places[at];
}

static int grow(struct recorded_state *s)
{
	size_t room = s->room ? 2 * s->room : FIRST_ROOM;
	struct state_leaf *places = calloc(room, sizeof(*places));

	if (!places)
		return -ENOMEM;
	s->used = 0;
	for (size_t i = 0; i < s->room; i++) {
		const struct state_leaf *l = &s->places[i];

		if (!l->level || !l->word)
			continue;
		*place_of(places, room, l->as_id, l->level, l->gfn) = *l;
		s->used++;
	}
	free(s->places);
	s->places = places;
	s->room = room;
	return 0;
}

/* The leaf is @word from event @at on; 0 removes it. */
static int set(struct recorded_state *s, unsigned int as_id, unsigned int level, uint64_t gfn,
	       uint64_t word, uint32_t at)
{
	struct state_leaf *l;

	if (2 * s->used >= s->room && grow(s))
		return -ENOMEM;
	l = place_of(s->places, s->room, as_id, level, gfn);
	if (!l->level) {
		if (!word)
			return 0;
		*l = (struct state_leaf){gfn, 0, TRACE_NONE, (uint8_t)as_id, (uint8_t)level};
		s->used++;
	}
	if (!(word & STATE_WRITE))
		l->writable = TRACE_NONE;
	else if (!(l->word & STATE_WRITE))
		l->writable = at;
	l->word = word;
	return 0;
}

/* A table stands for a huge leaf: 512 leaves that say what it said. */
static int split(struct recorded_state *s, const struct trace_event *ev, uint32_t at)
{
	unsigned int level = ev->level - 1u;
	uint64_t pages = 1ull << (9 * (level - 1)), word = ev->change.old_word;
	const struct state_leaf *was = state_leaf(s, ev->change.as_id, ev->level, ev->change.gfn);
	uint32_t since = was ? was->writable : at;
	int err = set(s, ev->change.as_id, ev->level, ev->change.gfn, 0, at);

	if (level == 1)
		word &= ~STATE_PS;
	for (unsigned int i = 0; !err && i < 512; i++)
		err = set(s, ev->change.as_id, level, ev->change.gfn + i * pages,
			  word + (i * pages << 12), since);
	return err;
}

static int change(struct recorded_state *s, const struct trace_event *ev, uint32_t at)
{
	enum trace_word was = trace_word_class(ev->change.old_word, ev->level);
	enum trace_word is = trace_word_class(ev->change.new_word, ev->level);

	if (was == TRACE_WORD_LEAF && is == TRACE_WORD_TABLE)
		return split(s, ev, at);
	return set(s, ev->change.as_id, ev->level, ev->change.gfn,
		   is == TRACE_WORD_LEAF ? ev->change.new_word : 0, at);
}

static void clear(struct recorded_state *s)
{
	if (s->room)
		memset(s->places, 0, s->room * sizeof(*s->places));
	s->used = 0;
}

int state_apply(struct recorded_state *s, const struct trace *t, uint32_t i)
{
	const struct trace_event *ev = &t->events[i];
	const struct trace_fault *f;
	uint64_t gfn;
	bool huge;

	switch ((enum trace_kind)ev->kind) {
	case TRACE_ZAP_ALL_FAST:
		/* Nobody uses the old roots any more; what is taken from them is recorded later. */
		clear(s);
		return 0;
	case TRACE_SPTE_CHANGED:
		return t->attr[i] == TRACE_ATTR_ZAP_ALL_ZAP ? 0 : change(s, ev, i);
	case TRACE_FAST_FAULT:
		if (!ev->fast.fixed || t->attr[i] != TRACE_ATTR_FAULT_DETAIL)
			return 0;
		f = &t->faults[t->fault_of[t->owner[i]]];
		huge = (ev->fast.new_word & STATE_PS) != 0;
		gfn = ev->fast.gpa >> 12;
		return set(s, f->as_id, huge ? 2 : 1, huge ? gfn & ~511ull : gfn, ev->fast.new_word,
			   i);
	default:
		return 0;
	}
}

const struct state_leaf *state_leaf(const struct recorded_state *s, unsigned int as_id,
				    unsigned int level, uint64_t gfn)
{
	const struct state_leaf *l;

	if (!s->room)
		return NULL;
	l = place_of(s->places, s->room, as_id, level, gfn);
	return l->level && l->word ? l : NULL;
}

void state_for_each(const struct recorded_state *s,
		    void (*fn)(void *ctx, const struct state_leaf *leaf), void *ctx)
{
	for (size_t i = 0; i < s->room; i++)
		if (s->places[i].level && s->places[i].word)
			fn(ctx, &s->places[i]);
}

void state_free(struct recorded_state *s)
{
	free(s->places);
	*s = (struct recorded_state){0};
}
