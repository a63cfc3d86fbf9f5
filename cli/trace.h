/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A recorded trace of KVM's MMU events in memory, and which event is whose doing. Reads and groups;
 *never judges an outcome, and knows nothing of the library under test.
 *
 * Texts are those of Linux's kvm and kvmmmu trace events, in the envelopes of tracefs, `trace-cmd
 *report` and `perf script`:
 *
 *	<comm>-<pid> [<cpu>] <flags> <sec>.<usec>: <event>: <text>	tracefs
 *	<comm>-<pid> [<cpu>] <sec>.<usec>: <event>: <text>		trace-cmd
 *	<comm> <pid>[/<tid>] [<cpu>] <sec>.<usec>: <sys>:<event>: <text>	perf
 *
 * Units: addresses are bytes, gfn and pfn are 4 KiB pages, levels are 1 (4 KiB) to 5.
 */
#ifndef TRIPTYCH_CLI_TRACE_H
#define TRIPTYCH_CLI_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "cli/input.h"

#define TRACE_NONE UINT32_MAX
/* Guest-physical addresses end at bit 51: the widest that any entry of a second-stage table can
 * hold. */
#define TRACE_GPA_BITS 52

enum trace_kind {
	TRACE_PAGE_FAULT,
	TRACE_SPTE_CHANGED,
	TRACE_GET_PAGE,
	TRACE_PREPARE_ZAP,
	TRACE_ZAP_ALL_FAST,
	TRACE_UNMAP_HVA,
	TRACE_SET_SPTE_HVA,
	TRACE_SPLIT_HUGE,
	TRACE_MMIO,
	TRACE_MARK_MMIO,
	TRACE_FAST_FAULT,
	TRACE_SPTE_REQUESTED,
	TRACE_KINDS,
};

enum trace_mmio_type { TRACE_MMIO_READ_UNSATISFIED, TRACE_MMIO_READ, TRACE_MMIO_WRITE };

/* One event. Which member of the union holds it is said by @kind. */
struct trace_event {
	uint64_t time_us;
	uint32_t line; /* of the input, from 1 */
	int32_t pid;   /* the task (a thread) that recorded it */
	uint16_t cpu;  /* of the host */
	uint8_t kind;  /* enum trace_kind */
	uint8_t level; /* 1..5 where the event has one, else 0 */
	union {
		struct {
			uint64_t gpa;
			uint64_t error_code; /* as the vendor prints it: NPF code or exit
						qualification */
			uint64_t rip;
			int32_t vcpu; /* -1: an old kernel that doesn't print it */
		} fault;
		struct {
			uint64_t gfn;
			uint64_t old_word;
			uint64_t new_word;
			uint32_t as_id;
		} change;
		struct {
			uint64_t gfn;
			uint32_t root_count;
			bool direct;
			bool invalid;
			bool is_new;
		} page; /* get_page, prepare_zap */
		struct {
			uint32_t valid_gen;
			uint32_t used_pages;
		} zap_all;
		struct {
			uint64_t start; /* host-virtual, bytes; end is exclusive */
			uint64_t end;
		} hva; /* unmap: a range; set_spte: one page */
		struct {
			uint64_t gfn;
			uint64_t word;
			int32_t error; /* 0 or negative errno, as recorded */
		} split;
		struct {
			uint64_t gpa;
			uint64_t value;
			uint32_t len;
			uint8_t type; /* enum trace_mmio_type */
		} mmio;
		struct {
			uint64_t gfn;
			uint64_t gen;
			uint32_t access;
		} mark;
		struct {
			uint64_t gpa;
			uint64_t old_word;
			uint64_t new_word;
			int32_t vcpu;
			bool spurious;
			bool fixed;
		} fast;
		struct {
			uint64_t gfn;
			uint64_t pfn; /* bit 63 set: KVM's "no page", not a frame */
		} requested;
	};
};

/* What one recorded word is. Told by KVM's own bits, which are the same on NPT and on EPT. */
enum trace_word {
	TRACE_WORD_EMPTY,  /* 0, or bit 63 alone (KVM since 6.11: suppress #VE) */
	TRACE_WORD_FROZEN, /* a change is under way: 0x5a0, with or without bit 63 */
	TRACE_WORD_MMIO,
	TRACE_WORD_TABLE,
	TRACE_WORD_LEAF,
};

enum trace_word trace_word_class(uint64_t word, unsigned int level);
/* Frame number in a present word, bits 51:12. */
uint64_t trace_word_pfn(uint64_t word);

/* What the recording shows of a fault's end. */
enum trace_outcome {
	TRACE_INSTALLED,    /* installed a leaf; it may have linked tables on the way */
	TRACE_MMIO_CREATED, /* installed an MMIO word, then the access was emulated */
	TRACE_MMIO_HIT,	    /* met an MMIO word (RSVD); only emulated */
	TRACE_FAST_FIXED, /* the fast path gave back write access; no table was walked under a lock
			   */
	TRACE_FAST_SPURIOUS,
	TRACE_COW_RETRY, /* the backing was copied inside the fault's own lookup; nothing installed
			  */
	TRACE_RO_EMULATED, /* a write to memory mapped read-only was emulated */
	TRACE_UNCHANGED,   /* nothing recorded: answered by another vCPU's install, or retried */
	TRACE_OUTCOMES,
};

/* Where a fault's address space was read off. */
enum trace_as_source { TRACE_AS_OWN, TRACE_AS_LAST, TRACE_AS_DEFAULT };

struct trace_fault {
	uint32_t event; /* index of its kvm_page_fault */
	uint32_t first; /* its installs: trace.installs[first, first + nr_installs), tables before
			   the leaf */
	uint32_t leaf;	/* event that installed the leaf or MMIO word, or TRACE_NONE */
	uint32_t mark;	/* mark_mmio_spte, or TRACE_NONE */
	uint32_t mmio;	/* the last of its kvm_mmio, or TRACE_NONE */
	uint32_t fast;	/* fast_page_fault, or TRACE_NONE */
	uint32_t requested;   /* kvm_mmu_spte_requested, or TRACE_NONE */
	uint32_t inner_unmap; /* kvm_unmap_hva_range to deliver inside the backing lookup, or
				 TRACE_NONE */
	uint32_t zapped;      /* removal of a huge leaf that the fault maps a part of (before Linux
				 6.2), or TRACE_NONE */
	uint16_t nr_installs;
	uint16_t nr_mmio;
	uint8_t as_id;
	uint8_t as_source; /* enum trace_as_source */
	bool logged;	 /* since a dirty log was seen at work: what it mapped is small whatever the
			    host     has */
	uint8_t outcome; /* enum trace_outcome */
};

/* Why an event is where it is. Every event has exactly one of these. */
enum trace_attr {
	TRACE_ATTR_FAULT,	 /* is a fault; owner: itself */
	TRACE_ATTR_INSTALL,	 /* a word that fault `owner` installed */
	TRACE_ATTR_FAULT_DETAIL, /* mark, mmio, fast, get_page, requested of fault `owner` */
	TRACE_ATTR_ZAP_ALL,	 /* a kvm_mmu_zap_all_fast; owner: itself */
	TRACE_ATTR_ZAP_ALL_ZAP,	 /* a word removed, or a page zapped, by zap-all `owner` */
	TRACE_ATTR_HOST,	 /* a notifier event that removed guest mappings; owner: itself */
	TRACE_ATTR_HOST_INSIDE,	 /* the same, inside the lookup of fault `owner` */
	TRACE_ATTR_HOST_OTHER,	 /* a notifier event that touched no mapping of the guest */
	TRACE_ATTR_HOST_ZAP,	 /* a word removed by notifier event `owner` */
	TRACE_ATTR_FREEZE,	 /* an empty word frozen or emptied while a table is taken down */
	TRACE_ATTR_PROTECT,	 /* a present word changed in place: dirty logging */
	TRACE_ATTR_SPLIT, /* kvm_mmu_split_huge_page, its new page, and the word that links it */
	TRACE_ATTR_FAULT_ZAP,	  /* a huge leaf removed by fault `owner`, to map a part of it */
	TRACE_ATTR_RECOVER,	  /* a table made one huge leaf again, in place */
	TRACE_ATTR_ROOT,	  /* a root page got before any fault is under way */
	TRACE_ATTR_EXIT_ZAP,	  /* a word removed with no cause recorded: the VM's end */
	TRACE_ATTR_NO_FAULT,	  /* could not be placed: an install by a task that had no fault */
	TRACE_ATTR_WRONG_ADDRESS, /* could not be placed: does not cover its task's fault address */
	TRACE_ATTR_ODD_WORD,	  /* could not be placed: a pair of words no rule explains */
	TRACE_ATTRS,
};

/* A line that was not understood. @why is a constant string. */
struct trace_bad_line {
	uint32_t line;
	const char *why;
};

/* Events that are passed over, by name. */
struct trace_other {
	char name[48];
	uint64_t count;
};

struct trace {
	struct trace_event *events;
	uint32_t nr_events;
	uint32_t lines; /* lines read, all kinds */
	uint64_t counts[TRACE_KINDS];

	struct trace_bad_line *bad;
	uint32_t nr_bad;
	struct trace_other *others;
	uint32_t nr_others;
	/* Events the recorder itself says were lost: overwritten, or dropped from a full buffer. */
	uint64_t lost;
	/* The input ended in an error; everything before it is here. */
	bool cut;

	/* Filled by trace_group(). */
	uint8_t *attr;	 /* enum trace_attr, one an event */
	uint32_t *owner; /* event index, or TRACE_NONE, one an event */
	struct trace_fault *faults;
	uint32_t nr_faults;
	uint32_t *fault_of; /* one an event: index into faults for a kvm_page_fault, else TRACE_NONE
			     */
	uint32_t *installs; /* event indexes, grouped by fault */
	uint32_t nr_installs;
	/* A log that begins full leaves nothing behind when it goes on. It may have been on since
	 * this event: nothing huge was mapped from here to the first sign of a log. TRACE_NONE: no
	 * such doubt. */
	uint32_t log_since;
	uint32_t *zap_alls; /* event indexes of kvm_mmu_zap_all_fast, ascending */
	uint32_t nr_zap_alls;
	uint64_t attrs[TRACE_ATTRS];
	uint64_t outcomes[TRACE_OUTCOMES];
	uint64_t as_sources[3];
};

/*
 * Progress: called now and then with lines read so far and the share of the input consumed in per
 * mille, or -1 when its size can't be known. May be NULL.
 */
typedef void (*trace_progress_fn)(void *ctx, uint64_t lines, int per_mille);

/*
 * Reads @path ("-": standard input) into @t, which need not be initialised and is ended with
 * trace_free() whatever is returned. 0, or a negative errno with @err saying what and where: -errno
 * of open or read, -ENOMEM, -ENODATA and -EBADMSG of a compressed stream that is cut off or
 * damaged; after the last two (and a read error) @t holds all events before it, whole and usable,
 * with @cut set. Bad lines are no error: they are in @t->bad.
 */
int trace_read(struct trace *t, const char *path, trace_progress_fn progress, void *ctx,
	       char err[INPUT_ERR_LEN]);

/*
 * Attaches every event to what caused it. Call once, after trace_read(). 0 or -ENOMEM. The rules:
 *
 * - A fault's installs are its task's changes of an empty word, up to that task's next fault; and
 *   what its slow path makes of a leaf at its address: a table in its place, or write access.
 * - Words a task removes belong to the last zap-all or notifier event of that task.
 * - A notifier range that holds the words removed right after it by the same task hit the guest; it
 * came from inside the fault's backing lookup if the fault had installed nothing yet and the
 * range's removed words are the fault's own page.
 */
int trace_group(struct trace *t);

void trace_free(struct trace *t);

/* How many kvm_mmu_zap_all_fast events come before event @i. Needs trace_group(). */
uint32_t trace_zaps_before(const struct trace *t, uint32_t i);

const char *trace_kind_name(enum trace_kind kind);
const char *trace_attr_name(enum trace_attr attr);
const char *trace_outcome_name(enum trace_outcome outcome);

/* What one line turned out to be. */
enum trace_line { TRACE_LINE_EVENT, TRACE_LINE_OTHER, TRACE_LINE_HEADER, TRACE_LINE_BAD };

/*
 * Parses one line of @len bytes without its newline into @ev (line number excepted). On OTHER,
 * @name and @name_len say which event it is; on BAD, *@why is a constant string; on HEADER, *@lost
 * grows by the events it says were lost. The line's bytes are only read.
 */
enum trace_line trace_parse_line(const char *line, size_t len, struct trace_event *ev,
				 const char **name, size_t *name_len, const char **why,
				 uint64_t *lost);

#endif
