/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The report of a replay: an observer that tells the report what it sees. Replays nothing and
 * decides nothing; a kind of VM with an external table tells it two things more.
 */
#ifndef TRIPTYCH_CLI_REPORT_REPLAY_H
#define TRIPTYCH_CLI_REPORT_REPLAY_H

#include "cli/replay.h"
#include "cli/report.h"

/*
 * The external entry at @level for @gfn, as its owner has it now, in *word. False: there is none.
 * Called inside of the library's sections: it must not call the library.
 */
typedef bool report_external_fn(void *ctx, tpt_gfn gfn, unsigned int level, uint64_t *word);

struct report_replay {
	struct report *report;
	enum tpt_word_format format; /* of direct and mirror trees */
	report_external_fn *external;
	void *external_ctx;

	/* Of the act under way. */
	uint32_t attempts, tables, calls;
	bool zapped_all;
	uint64_t begin_ns;
};

/*
 * Makes the report and attaches it to @r, which has its ops and has not run. @name stands for the
 * trace. 0, -ENOMEM, or -ENOSPC: @r has no room for one observer more. End with
 * report_replay_free(), after @r has run, whatever is returned.
 */
int report_replay_attach(struct report_replay *o, struct replay *r, const char *name);

/* From here on every call to the external table is followed by a look at the entry it changed. */
void report_replay_external(struct report_replay *o, report_external_fn *external, void *ctx);

/*
 * The guest accepted a page. Inside a fault it is part of that fault, else an event of its own;
 * ours, as no trace has it.
 */
void report_replay_accepted(struct report_replay *o, struct replay *r, tpt_gfn gfn,
			    unsigned int level);

/*
 * Something that is not in the trace has just been done: a conversion, a page added at build, the
 * teardown. All that changed since the last act belongs to it. @text may be NULL.
 */
void report_replay_event(struct report_replay *o, struct replay *r, enum report_event_kind kind,
			 struct tpt_gfn_range range, const char *text);

/* After replay_run(): adds the counters and writes. @compare may be NULL. As report_write(). */
int report_replay_write(struct report_replay *o, const struct replay *r,
			const struct replay_compare *compare, const char *path,
			char err[REPORT_ERR_LEN]);

void report_replay_free(struct report_replay *o);

#endif
