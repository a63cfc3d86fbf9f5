/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The report of a replay: one HTML file that shows the three trees over guest-physical memory at
 * every moment of a run. Collects what it is told and writes the file; never asks the library, the
 * machine or a trace for anything, and judges nothing.
 *
 * The run is a row of acts (a guest's fault, or an event: a zap-all, a conversion, an accept), and
 * every change of an entry belongs to the act that made it:
 *
 *	report_change() ... report_change() report_fault()	the changes are the fault's
 *	report_change() ... report_event()			the changes are the event's
 *
 * An act inside another (a notifier's unmap within a fault's lookup) is opened with
 * report_begin(); it comes before the outer one in the report, because it ends first.
 *
 * Not thread-safe: one caller at a time. No text is kept by pointer, unless it says so. Once memory
 * has run out, every call returns -ENOMEM and report_write() does so too.
 */
#ifndef TRIPTYCH_CLI_REPORT_H
#define TRIPTYCH_CLI_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <triptych/event.h>
#include <triptych/spte.h>
#include <triptych/types.h>

/* Room for a message of report_write(): a path and a sentence. */
#define REPORT_ERR_LEN 512

/* What is kept of a run unless told otherwise, in bytes before base64 makes them a third more. */
#define REPORT_MAX_DATA (4u << 20)

enum report_vm {
	REPORT_VM_NPT,
	REPORT_VM_EPT,
	REPORT_VM_TD,
};

/* Every set of tables there is: a direct tree for each address space, and a TD's two others. */
enum report_tree {
	REPORT_TREE_DIRECT,
	REPORT_TREE_DIRECT_SMM, /* address space 1 */
	REPORT_TREE_MIRROR,
	REPORT_TREE_EXTERNAL,
	REPORT_TREES,
};

/* What an entry is, and with it the colour of what it maps. */
enum report_state {
	REPORT_EMPTY,
	REPORT_TABLE,
	REPORT_READ_ONLY, /* leaf */
	REPORT_WRITABLE,  /* leaf */
	REPORT_MMIO,
	REPORT_PENDING,	 /* external leaf that the guest has yet to accept */
	REPORT_ACCEPTED, /* external leaf that the guest can use */
	REPORT_BLOCKED,	 /* leaf or table: blocked outside, not yet removed */
	REPORT_FROZEN,	 /* one call or one removal is under way */
	REPORT_STATES,
};

enum report_event_kind {
	REPORT_EVENT_OTHER,
	REPORT_EVENT_ZAP_ALL,	 /* fast zap of all roots */
	REPORT_EVENT_NOTIFIER,	 /* the host took back memory */
	REPORT_EVENT_SLOTS,	 /* memslots changed */
	REPORT_EVENT_TO_SHARED,	 /* range converted; it is shown as a shared window from here on */
	REPORT_EVENT_TO_PRIVATE, /* range converted back */
	REPORT_EVENT_ACCEPT,	 /* the guest accepted the range */
	REPORT_EVENT_BUILD,	 /* a page added and measured before the TD ran */
	REPORT_EVENT_FLUSH,
	REPORT_EVENT_KICK,
	REPORT_EVENT_DIRTY_LOG, /* write-protection or splitting for dirty logging */
	REPORT_EVENT_TEARDOWN,
	REPORT_EVENTS,
};

/* Guest memory as the machine has it. Ranges of different slots over time may overlap. */
struct report_region {
	struct tpt_gfn_range range;
	const char *name; /* "RAM", "BIOS"; any text; copied */
	bool readonly;
};

struct report_info {
	const char *trace; /* name of what was replayed; any bytes; copied */
	enum report_vm vm;
	const char *version;   /* of the program; copied */
	const char *time_note; /* a sentence on what the times mean, or NULL; copied */
	size_t max_data; /* bytes kept of the run; 0: REPORT_MAX_DATA. What comes later is only
			    counted, and the page says so. */
};

/* One entry of one tree changed. */
struct report_change {
	enum report_tree tree;
	tpt_gfn gfn;	    /* any that the entry covers; below 2^40 */
	unsigned int level; /* 1 .. 5 */
	uint64_t old_word;  /* as told; the report notes where its own books differ */
	uint64_t new_word;
	enum tpt_word_format format; /* of both words */
	bool old_unknown;	     /* nobody told old_word: it is what the books say */
};

/* One fault, at its end. */
struct report_fault {
	uint32_t line;	  /* of the trace, from 1; 0: in no trace */
	uint64_t time_us; /* the trace's clock, microseconds */
	int32_t vcpu;	  /* -1: unknown */
	uint32_t as_id;	  /* 0 or 1 */
	uint64_t gpa;	  /* bytes, below 2^52 */
	uint64_t error_code;
	uint32_t access;     /* TPT_ACC_* */
	const char *outcome; /* "fixed", "spurious", ...; a few different texts; copied */
	uint32_t retries;    /* times it was tried again after the first */
	uint32_t tables;     /* table pages linked */
	uint32_t external;   /* calls to the external table */
	int32_t slot;	     /* id of the memslot of @gpa, -1: none */
	uint64_t cost_ns;    /* time that the library took, 0: not measured */
	bool ours;	     /* not from the trace */
	bool different;	     /* the comparison found something */
	const char *note;    /* what is odd about it, or NULL; copied */
};

/* One event, at its end. */
struct report_event {
	enum report_event_kind kind;
	uint32_t line;
	uint64_t time_us;
	struct tpt_gfn_range range; /* what it is about; empty: all memory, or nothing */
	uint32_t external;
	uint64_t cost_ns;
	bool ours;
	const char *text; /* what happened, or NULL: the kind says it all; copied */
};

struct report;

/* 0, -EINVAL (no trace name, no such VM) or -ENOMEM. The caller ends *@out with report_destroy().
 */
int report_create(struct report **out, const struct report_info *info);

/* Memory that the guest has. -EINVAL: empty, or beyond 2^40 frames. The same range twice is once.
 */
int report_region(struct report *r, const struct report_region *region);

/* Opens an act inside the one under way. -EOVERFLOW: eight are open. */
int report_begin(struct report *r);

/*
 * An entry changed in the innermost act under way. When a table is unlinked, what hung on it is
 * gone with it, whether changes of that are told or not. -EINVAL: no such tree, level, format or
 * GFN; nothing is kept of it then.
 */
int report_change(struct report *r, const struct report_change *change);

/* A tree's root was dropped whole: everything in it is gone, as part of the act under way. */
int report_drop_tree(struct report *r, enum report_tree tree);

/* End the innermost act under way. -EINVAL: a value out of range; the act stays open. */
int report_fault(struct report *r, const struct report_fault *fault);
int report_event(struct report *r, const struct report_event *event);

/* A line of the summary: @group and @name as shown, copied. Rows of a group stand in this order. */
int report_counter(struct report *r, const char *group, const char *name, uint64_t value);

/* A sentence that the reader must know: what was left out, what is an assumption. Copied. */
int report_note(struct report *r, const char *text);

/*
 * Writes the file: all of it, or what stood at @path before is still there. May be called again,
 * after more was told. 0, or a negative errno with @err saying what and where.
 */
int report_write(struct report *r, const char *path, char err[REPORT_ERR_LEN]);

/* NULL is allowed. */
void report_destroy(struct report *r);

/* What a word is at @level, by tpt_word_decode(). */
enum report_state report_state_of(uint64_t word, enum tpt_word_format format, unsigned int level);

#endif
