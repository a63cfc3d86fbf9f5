/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which calls of the dirty-log API a trace shows, and what it tells of the host's settings. Infers
 * calls and ranges, a burst at a time; never which entries they change: that is the library's.
 *
 * A burst is what one task changed with nothing else of its own in between; a run is the part of it
 * that lies in one memslot, in ascending order: what one call leaves behind in the trace.
 *
 *	log on     a slot's first run. It protected every writable leaf (splits first, then words),
 *		   unless the log is "initially set": then nothing, and the run is a clear
 *	get        automatic logs: a later run; reads and clears the whole slot
 *	clear      manual logs: a later run; the slot, less what stayed writable around the run
 *	log off    tables removed with no other cause, or made huge leaves again
 */
#ifndef TRIPTYCH_CLI_REPLAY_DIRTY_H
#define TRIPTYCH_CLI_REPLAY_DIRTY_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/slots_file.h"
#include "cli/trace.h"

/* How a VMM's dirty logs are cleared. */
enum dirty_mode {
	DIRTY_NONE,		    /* no dirty log in the trace */
	DIRTY_AUTOMATIC,	    /* when they are read */
	DIRTY_MANUAL,		    /* by KVM_CLEAR_DIRTY_LOG */
	DIRTY_MANUAL_INITIALLY_SET, /* the same, and every page is dirty to begin with */
};

enum dirty_call_kind {
	DIRTY_LOG_ON,
	DIRTY_LOG_OFF,
	DIRTY_READ,  /* a manual log is read: what the next clear takes */
	DIRTY_GET,   /* an automatic log is read and cleared */
	DIRTY_CLEAR, /* a range of a manual log is cleared */
	DIRTY_ZAP, /* no call: a table of small leaves is taken away (log off, before Linux 6.14) */
	DIRTY_NX_RECOVER, /* nor of a log: NX recovery takes the oldest split page away */
	DIRTY_CALLS,
};

struct dirty_call {
	enum dirty_call_kind kind;
	uint32_t at;   /* event before which it is made */
	uint32_t last; /* last event that it left behind, or TRACE_NONE */
	uint32_t as_id;
	const struct slot_def *def;
	bool more;		/* CLEAR: another range of the same reading follows */
	uint64_t first, npages; /* CLEAR: in the slot; ZAP, NX_RECOVER: first is a GFN */
};

/* A setting of the recording host. */
enum host_setting { HOST_UNKNOWN, HOST_OFF, HOST_ON };

struct dirty_plan {
	struct dirty_call *calls; /* by @at */
	uint32_t nr_calls, room;
	enum dirty_mode mode;
	bool mode_shown;	 /* false: a manual log, all of it cleared, would look the same */
	enum host_setting eager; /* kvm.eager_page_split */
	enum host_setting nx;	 /* NX huge pages */
	enum host_setting huge;	 /* a huge leaf was ever installed */
	bool recovers;		 /* log off makes huge leaves in place */
	uint32_t counts[DIRTY_CALLS];
};

/* @t and @h must outlive the plan; ended with dirty_plan_free() whatever is returned. 0 or
 * -ENOMEM. */
int dirty_plan_make(struct dirty_plan *p, const struct trace *t, const struct slot_history *h);
void dirty_plan_free(struct dirty_plan *p);

const char *dirty_mode_name(enum dirty_mode mode);

#endif
