/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `triptych replay`: a recorded guest on our tables. The driver plays the trace's faults, slots and
 * host events, in order, to one kind of VM; observers watch. Nothing here decides what a fault
 * becomes: that is the library's, and nothing recorded about a fault's answer reaches it.
 *
 *	trace --> schedule --> driver --> VM kind (NPT, EPT, TD) --> sim: machine <-> library
 *	                                                                        |
 *	          observers (compare, report)  <---- fault, event, slot, host --+
 */
#ifndef TRIPTYCH_CLI_REPLAY_H
#define TRIPTYCH_CLI_REPLAY_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "cli/backing.h"
#include "cli/replay_dirty.h"
#include "cli/replay_state.h"
#include "cli/sim.h"
#include "cli/slots_file.h"
#include "cli/trace.h"

#define REPLAY_WHY_LEN 256

/* What the guest did. */
enum replay_access {
	REPLAY_READ,
	REPLAY_WRITE,
	REPLAY_FETCH,
	REPLAY_GUEST_WALK, /* its own page walk, to one of its page tables */
	REPLAY_ACCESSES,
};

/* What became of one recorded fault here. */
enum replay_result {
	REPLAY_FIXED,	 /* the library installed an entry */
	REPLAY_MMIO,	 /* the access is the VMM's: MMIO, or a write to a read-only slot */
	REPLAY_RETRY,	 /* the guest tries again */
	REPLAY_SPURIOUS, /* the library found it fixed */
	REPLAY_HIT,	 /* the processor could translate: no fault */
	REPLAY_ERROR,	 /* the library or the processor refused */
	REPLAY_SKIPPED,	 /* no access was made; see enum replay_skip */
	REPLAY_RESULTS,
};

/* Why a recorded fault, or the comparison of one, was left out. */
enum replay_skip {
	REPLAY_SKIP_NONE,
	REPLAY_SKIP_NO_FRAME,  /* the trace tells no frame for the page */
	REPLAY_SKIP_BAD_GPA,   /* wider than the VM's guest-physical addresses */
	REPLAY_SKIP_BAD_AS,    /* an address space that the VM hasn't got */
	REPLAY_SKIP_UNDECIDED, /* recorded without an answer, and nothing maps the page yet */
	REPLAY_SKIP_NO_PLACE,  /* the rules of this kind of VM have no place for it (TD) */
	REPLAY_SKIPS,
};

/* One recorded fault as it is made here. The driver fills the first part, the VM kind the rest. */
struct replay_fault {
	const struct trace_fault *recorded;
	const struct trace_event *event; /* its kvm_page_fault */
	unsigned int vcpu;		 /* dense index, 0 .. replay.nr_vcpus - 1 */
	enum replay_access access;
	unsigned int kind; /* enum machine_kind of the access */

	enum replay_result result;
	enum replay_skip skip;	  /* REPLAY_SKIPPED, or why an ERROR is no finding */
	struct sim_step step;	  /* last attempt; zeros if there was none */
	bool asked;		  /* the backing was asked */
	struct backing_page page; /* its answer */
	struct tpt_exit exit;	  /* what the VMM must act on, if the library was asked */
};

/* One memslot that comes or goes. */
struct replay_slot {
	bool create;
	uint32_t as_id;
	const struct slot_def *def;
	uint64_t hva; /* of its first byte */
};

struct replay;
struct report_replay;

/*
 * A kind of VM. Functions return 0 or a negative errno with a message in replay.why; an error ends
 * the replay. Faults that fail are no error: they are in replay_fault.
 */
struct replay_vm_ops {
	const char *name;		/* of --vm */
	bool comparable;		/* --compare: its entries have the recording's format */
	unsigned int address_spaces;	/* slots and faults of others are not delivered */
	int (*start)(struct replay *r); /* makes r->sim and r->vm */
	int (*slot)(struct replay *r, const struct replay_slot *slot);
	/* All slots of @table are there. May be NULL. */
	int (*slots_done)(struct replay *r, const struct slot_table *table);
	/* A recorded zap-all that no deletion explains. */
	int (*zap_all)(struct replay *r);
	int (*fault)(struct replay *r, struct replay_fault *f);
	/* A call of the dirty-log API. May be NULL: this kind has no dirty log. */
	int (*dirty)(struct replay *r, const struct dirty_call *call);
	/* A recorded notifier range; returns the number of leaves it removed. */
	int (*host)(struct replay *r, uint64_t hva_start, uint64_t hva_end);
	/* Called before each trace event, for what the kind does on its own while the guest runs.
	 * May be NULL. */
	int (*tick)(struct replay *r);
	/* The trace is over, the VM still runs. May be NULL. */
	int (*finish)(struct replay *r);
	/* Stock was taken: ends the guest, before the simulation is destroyed. Also after an error
	 * of start(). May be NULL. */
	void (*teardown)(struct replay *r);
	/*
	 * What only this kind has to say, after replay_run() and before free(): lines of the screen
	 * (see replay_line()), and members of the JSON object, each ended by a comma. May be NULL.
	 */
	void (*screen)(const struct replay *r, FILE *out);
	void (*json)(const struct replay *r, FILE *out);
	/* Frees r->vm, which may be NULL, at the very end. */
	void (*free)(struct replay *r);
};

extern const struct replay_vm_ops replay_npt_ops;
extern const struct replay_vm_ops replay_ept_ops;
/* replay_td_ops: replay_td.h */

/*
 * Who watches. Any function may be NULL. All are called by the driver's thread; @event inside of
 * the library's sections, so it must not call the library. The line and time of the trace that is
 * being replayed are replay_now()'s.
 */
struct replay_observer {
	void (*fault_begin)(void *ctx, struct replay *r, const struct replay_fault *f);
	void (*event)(void *ctx, struct replay *r, const struct tpt_event *e);
	void (*fault_end)(void *ctx, struct replay *r, const struct replay_fault *f);
	void (*slot)(void *ctx, struct replay *r, const struct replay_slot *slot);
	/* Before a call of the dirty-log API; while it is made it is replay.call. */
	void (*dirty)(void *ctx, struct replay *r, const struct dirty_call *call);
	/* After all that is due at trace event @event. */
	void (*played)(void *ctx, struct replay *r, uint32_t event);
	void (*host)(void *ctx, struct replay *r, uint32_t event, int removed);
	/* After the trace, before the VM is torn down: trees can be read. */
	void (*end)(void *ctx, struct replay *r);
	void *ctx;
};

#define REPLAY_MAX_OBSERVERS 4

struct replay_counts {
	uint64_t faults; /* delivered to the VM kind, skipped ones included */
	uint64_t results[REPLAY_ACCESSES][REPLAY_RESULTS];
	uint64_t skips[REPLAY_SKIPS];
	uint64_t not_fixed; /* the library said fixed, and the access failed again: an error */
	uint64_t slots_created, slots_deleted;
	uint64_t zaps;		      /* recorded zap-alls */
	uint64_t zaps_without_delete; /* of those: no deletion explains them */
	uint64_t deletes_without_zap;
	uint64_t fillers; /* memslots made only to bring the generation to the recorded one */
	uint64_t generations, generations_different; /* checked against the slots' history */
	uint64_t host_events, host_removed;	     /* delivered; leaves they removed */
	uint64_t host_removed_recorded;
	uint64_t dirty_calls[DIRTY_CALLS];	/* made */
	uint64_t dirty_calls_skipped;		/* this kind of VM has no dirty log */
	uint64_t frames;			/* of 4 KiB, given to the machine */
	uint64_t frame_sources[BACKING_FRAMES]; /* of the backing's answers */
};

struct replay {
	/* Input; not the replay's own. */
	const struct trace *t;
	const struct slot_history *h;
	bool slots_inferred;
	const struct backing *b;
	const struct dirty_plan *dirty; /* NULL: nothing is logged */
	/* The recording host, where the user says what the trace can't. */
	enum host_setting eager, nx, thp;
	enum tpt_level private_level; /* of a TD's private pages at most: 2M; NONE: 4K */
	const struct replay_vm_ops *ops;

	struct sim *sim;
	void *vm; /* the VM kind's */
	unsigned int nr_vcpus;
	uint32_t at;			  /* event being replayed; t->nr_events: after the last */
	const struct replay_fault *fault; /* being made, or NULL */
	const struct dirty_call *call;	  /* being made, or NULL */
	struct replay_counts counts;
	struct replay_observer observers[REPLAY_MAX_OBSERVERS];
	unsigned int nr_observers;
	/* One of the observers, for what no event tells (external trees, what isn't in the trace);
	 * NULL: there is none. */
	struct report_replay *report;
	/* Called now and then. May be NULL. */
	void (*progress)(void *ctx, uint32_t done, uint32_t total);
	void *progress_ctx;
	char why[REPLAY_WHY_LEN];

	/* Filled by replay_run(). */
	int audit_faults; /* of tpt_vm_audit(), at the end */
	char audit_text[REPLAY_WHY_LEN];
	struct tpt_vm_stats stats;   /* at the end, before teardown */
	struct machine_counters cpu; /* sum over all processors */
	uint64_t judge_reports;
	char judge_text[REPLAY_WHY_LEN]; /* the first of them */
	bool dead;
	char dead_text[REPLAY_WHY_LEN];
	uint64_t misuses;		/* rules of the platform broken, leaked pages included */
	char kind_text[REPLAY_WHY_LEN]; /* what the VM kind found wrong; "": nothing */

	/* The driver's own. */
	struct replay_driver *driver;
};

/* Line and time of the event being replayed; after the last one, the last one's. */
struct replay_moment {
	uint32_t line;
	uint64_t time_us;
};
struct replay_moment replay_now(const struct replay *r);

/* False if there are REPLAY_MAX_OBSERVERS already. */
bool replay_observe(struct replay *r, const struct replay_observer *observer);
/* For tpt_vm_config.event, with the struct replay as event_ctx: hands it to the observers. */
void replay_event(void *replay, const struct tpt_event *event);
/* Writes replay.why and returns @err. */
int replay_fail(struct replay *r, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Ends what replay_run() left for the screens. */
void replay_free(struct replay *r);

/*
 * Replays all of r->t, audits, reads all counters and destroys the VM. Fill the input part of a
 * zeroed *r, the ops and the observers first. 0, or a negative errno with r->why; what was counted
 * until then stands. A recorded fault that ends in an error here is no error of this function.
 */
int replay_run(struct replay *r);

/* The recording host's settings that are in force, and what says so. */
struct replay_settings {
	enum host_setting eager, nx, thp; /* never UNKNOWN */
	const char *eager_source, *nx_source, *thp_source;
};
struct replay_settings replay_settings(const struct replay *r);

/* The slots that are in force now. */
const struct slot_table *replay_table(const struct replay *r);
/* Host-virtual address of a slot's first byte. */
uint64_t replay_slot_hva(const struct replay *r, const struct slot_def *def);
/*
 * Delivers a recorded notifier event to the VM, once: the driver does it at its moment, a VM kind
 * inside the lookup of the fault that it belongs to. 0, or a negative errno with replay.why.
 */
int replay_deliver_host(struct replay *r, uint32_t event);
/* Makes sure that the machine has the frames of the 4 KiB or 2 MiB block at @pfn. 0 or negative. */
int replay_add_frames(struct replay *r, uint64_t pfn, unsigned int level);

const char *replay_access_name(enum replay_access access);
const char *replay_result_name(enum replay_result result);
/* A sentence, and a name for programs. */
const char *replay_skip_name(enum replay_skip skip);
const char *replay_skip_key(enum replay_skip skip);
/* The same for enum tpt_flush_reason and enum tpt_kick_reason. */
const char *replay_flush_text(unsigned int reason);
const char *replay_flush_key(unsigned int reason);
const char *replay_kick_text(unsigned int reason);
const char *replay_kick_key(unsigned int reason);

/* ---- replay_compare.c ---- */

/* What of a fault differed. */
enum replay_difference {
	REPLAY_DIFFERENT_WORD,	  /* an installed word, its level, place or order */
	REPLAY_DIFFERENT_MISSING, /* recorded, not installed here */
	REPLAY_DIFFERENT_EXTRA,	  /* installed here, not recorded */
	REPLAY_DIFFERENT_PLACE,	  /* recorded at an address that is not its fault's */
	REPLAY_DIFFERENT_OUTCOME, /* the words are right, how the fault ended is not */
	REPLAY_DIFFERENT_CODE,	  /* the processor's error code */
	REPLAY_DIFFERENT_CHANGE,  /* what a dirty-log call changed */
	REPLAY_DIFFERENT_FAST,	  /* what a fast fault changed */
	REPLAY_DIFFERENT_BEHIND,  /* a leaf after a dirty-log call */
};

struct replay_evidence;

/* One word of one side. */
struct replay_word {
	bool there;
	uint32_t as_id;
	uint32_t level;
	uint64_t gfn;
	uint64_t word;
};

struct replay_finding {
	enum replay_difference what;
	uint32_t line;
	unsigned int vcpu;
	uint64_t gpa, error_code, our_code;
	uint32_t nr; /* which of the fault's words, from 1 */
	struct replay_word recorded, ours;
	uint64_t recorded_old, our_old; /* CHANGE, FAST: the words before */
	const char *expected, *result;	/* OUTCOME */
};

#define REPLAY_MAX_FINDINGS 8
/* Words that one fault can install: a table for each level above the leaf, and the leaf. */
#define REPLAY_MAX_WORDS 16

/* One kind of change that dirty logging makes. */
struct replay_tally {
	uint64_t recorded, compared, different;
};

/* What dirty logs do to entries, entry by entry: replay_compare_dirty.c. */
struct replay_compare_dirty {
	struct replay_tally words;     /* write-protected, or given W back by a walk */
	struct replay_tally splits;    /* and tables made huge leaves again */
	struct replay_tally fast;      /* fast faults */
	struct replay_tally recovered; /* tables taken away by NX recovery */
	struct replay_tally behind;    /* leaves after a call, the whole slot */
	uint64_t extra;		       /* of the different: changed only here */
	uint32_t first_line, last_line;

	/* What the calls changed here and nobody has recorded yet, oldest first. */
	struct replay_change *queue;
	size_t nr_queue, room_queue, head;
	const struct dirty_call *call; /* the last one made */
	struct recorded_state state;
	bool failed; /* no memory */
};

struct replay_compare {
	uint64_t installs, compared, different; /* the last line's */
	uint64_t extra;				/* of the different: words nobody recorded */
	uint64_t misplaced;			/* of the different: not at their fault's address */
	uint64_t leaves, tables, mmio;		/* of the compared */
	uint64_t outcomes, outcomes_compared, outcomes_different;
	uint64_t codes_compared, codes_lenient, codes_different;
	uint64_t skipped_faults[REPLAY_SKIPS], skipped_installs[REPLAY_SKIPS];
	uint64_t unplaced_installs; /* recorded words that belong to no fault */
	/* How what was compared had been inferred; compared leaves only. */
	uint64_t frames[BACKING_FRAMES], levels[BACKING_LEVELS], writes[BACKING_WRITES];
	uint64_t level_from_own, access_from_own;
	struct replay_compare_dirty dirty;

	struct replay_finding findings[REPLAY_MAX_FINDINGS];
	unsigned int nr_findings;

	/* The fault under way. */
	struct replay_word words[REPLAY_MAX_WORDS];
	uint64_t old_word; /* what the first of them replaced */
	unsigned int nr_words;
	bool in_fault;
	bool marked;
	struct tpt_event mark; /* its MARK_MMIO, if marked */
	/* Leaves by slot, for a history that was inferred from them. */
	struct replay_evidence *evidence;
	size_t nr_evidence;
};

/* ---- replay_compare_dirty.c, for replay_compare.c ---- */

/* Counts what is recorded. */
void replay_compare_dirty_survey(struct replay_compare *c, const struct trace *t);
/* Is the word the same, but for where a table lies? */
bool replay_same_word(const struct replay_word *a, const struct replay_word *b);
/* One of the findings, or NULL if there are enough. */
struct replay_finding *replay_compare_find(struct replay_compare *c, enum replay_difference what,
					   uint32_t line);
void replay_compare_dirty_call(struct replay_compare *c, struct replay *r,
			       const struct dirty_call *call);
void replay_compare_dirty_event(struct replay_compare *c, const struct replay *r,
				const struct tpt_event *e);
void replay_compare_dirty_played(struct replay_compare *c, struct replay *r, uint32_t event);
/* A fault that the fast path answered when it was recorded. Returns whether it differs. */
bool replay_compare_dirty_fast(struct replay_compare *c, const struct replay *r,
			       const struct replay_fault *f);
void replay_compare_dirty_end(struct replay_compare *c);

/* Attaches to @r, which must not have run yet; ended with replay_compare_free(). */
void replay_compare_attach(struct replay_compare *c, struct replay *r);
/* Frees what @c holds; a zeroed one holds nothing. */
void replay_compare_free(struct replay_compare *c);
/* Anything that makes the command fail. */
bool replay_compare_failed(const struct replay_compare *c);
/* Findings, decoded field by field. */
void replay_compare_findings(const struct replay_compare *c, FILE *out);

/* ---- replay_screen.c, replay_json.c ---- */

struct replay_summary {
	const char *trace_path, *slots_path; /* slots_path: NULL, inferred */
	double read_seconds, replay_seconds;
	const struct replay *r;
	const struct replay_compare *compare; /* NULL: not compared */
};

/* "1,234,567" into @buf, which it returns. */
#define REPLAY_NUMBER_LEN 32
const char *replay_number(uint64_t n, char buf[REPLAY_NUMBER_LEN]);
/* One line of the screen: a name in the first column, then the text. */
void replay_line(FILE *out, const char *name, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Anything but the comparison that makes the command fail: audit, judge, platform, a dead VM. */
bool replay_unsound(const struct replay *r);

void replay_screen(const struct replay_summary *s, FILE *out);
void replay_json(const struct replay_summary *s, FILE *out);

#endif
