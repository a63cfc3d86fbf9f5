/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the recorded tables held at a moment of the trace: every leaf, by address. Follows recorded
 * changes only; never looks at our tables.
 */
#ifndef TRIPTYCH_CLI_REPLAY_STATE_H
#define TRIPTYCH_CLI_REPLAY_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cli/trace.h"

/* Bits of a leaf that the recorded formats (NPT, and KVM's own bits in it) agree on. */
#define STATE_WRITE (1ull << 1)
#define STATE_PS    (1ull << 7)
/* KVM's "may be given W back", NPT leaves (Linux 6.1 and later): bit 10. */
#define STATE_MMU_WRITABLE (1ull << 10)

struct state_leaf {
	uint64_t gfn;
	uint64_t word;	   /* 0: none */
	uint32_t writable; /* event since which it has W; TRACE_NONE: it has none */
	uint8_t as_id;
	uint8_t level; /* 0: the place is free */
};

/* Zeroed: empty. */
struct recorded_state {
	struct state_leaf *places; /* a hash table, room is a power of two */
	size_t room, used;
};

/* Applies event @i of @t, events in order. 0 or -ENOMEM. */
int state_apply(struct recorded_state *s, const struct trace *t, uint32_t i);
/* The leaf of exactly this level, or NULL. */
const struct state_leaf *state_leaf(const struct recorded_state *s, unsigned int as_id,
				    unsigned int level, uint64_t gfn);
/* Calls fn for each leaf, in no order. */
void state_for_each(const struct recorded_state *s,
		    void (*fn)(void *ctx, const struct state_leaf *leaf), void *ctx);
void state_free(struct recorded_state *s);

#endif
