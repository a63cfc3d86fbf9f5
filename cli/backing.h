/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What host memory stood behind each guest page at each moment of a trace, inferred from the whole
 * recording. Answers for one page never come from the entry that is being compared, but for a frame
 * number that nothing else tells; and then the answer says so. Level and write permission never do.
 * Never installs, compares or counts anything itself.
 *
 * Terms: a region is host memory that slots show (slots_file.h); a page is an index into a region,
 * in 4 KiB, so that two guest addresses that show the same host page are one. A page's lifetime is
 * cut into epochs by the notifier events that hit it: within an epoch its frame can't change.
 */
#ifndef TRIPTYCH_CLI_BACKING_H
#define TRIPTYCH_CLI_BACKING_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/slots_file.h"
#include "cli/trace.h"

/* How a frame number was told, best first. */
enum backing_frame {
	BACKING_FRAME_SAME_PAGE, /* another entry mapped the same host page in the same epoch */
	BACKING_FRAME_SAME_HUGE, /* another entry mapped another part of the same host huge page */
	BACKING_FRAME_REQUESTED, /* KVM's own kvm_mmu_spte_requested, before the entry was made */
	BACKING_FRAME_ZERO_PAGE, /* read before its first write, which copied it: the host's zero
				    page, known from others */
	BACKING_FRAME_RUN, /* the pages on both sides make it one run; no later record of it speaks
			      against that */
	BACKING_FRAME_OWN_LATER, /* a later record of the compared entry (its removal), not the word
				    compared */
	BACKING_FRAME_OWN,	 /* the compared word itself */
	BACKING_FRAMES,
};

/* How the host's page size was told. */
enum backing_level {
	BACKING_LEVEL_SAME_BLOCK, /* another entry inside the same 2 MiB of host memory */
	BACKING_LEVEL_REGION,	  /* most other 2 MiB blocks of the region */
	BACKING_LEVEL_NO_HUGE,	  /* no other entry shows any huge page in the region */
	BACKING_LEVELS,
};

/* How the host's write permission was told. */
enum backing_write {
	BACKING_WRITE_ACCESS,	/* the access is a write: the host makes the page writable for it */
	BACKING_WRITE_COPIED,	/* not writable: a later write made the host copy it */
	BACKING_WRITE_SHARED,	/* not writable: its frame is read-only at other pages too */
	BACKING_WRITE_ORDINARY, /* writable: memory is, unless something tells otherwise */
	BACKING_WRITES,
};

struct backing_page {
	uint64_t pfn;	      /* of the page asked for, in 4 KiB frames */
	uint32_t inner_unmap; /* notifier event to deliver inside this lookup, or TRACE_NONE */
	uint8_t host_level;   /* 1 or 2: what the host maps it with, slots not considered */
	bool writable;
	uint8_t frame; /* enum backing_frame */
	uint8_t level; /* enum backing_level */
	uint8_t write; /* enum backing_write */
};

struct backing;

/*
 * Builds the inference from a grouped trace and its slots; both must outlive the result and not
 * change. The caller frees
 * *@out with backing_free(). 0 or -ENOMEM.
 */
int backing_build(struct backing **out, const struct trace *t, const struct slot_history *h);

/*
 * What stands behind (@as_id, @gfn) when event @event happens. If @event is a kvm_page_fault at
 * that page, the entry it installed is the one being compared. @write: the access is a write. 0;
 * -ENOENT, no slot holds the page; -ENODATA, the trace tells no frame for it.
 */
int backing_lookup(const struct backing *b, uint32_t event, unsigned int as_id, uint64_t gfn,
		   bool write, struct backing_page *out);

/* How a region's host-virtual address became known. */
enum backing_hva_source {
	BACKING_HVA_FILE,     /* the slots file says it */
	BACKING_HVA_NOTIFIER, /* a notifier range and the words it removed */
	BACKING_HVA_SIZE,     /* the host range of the region's size, made before the first fault */
	BACKING_HVA_MADE_UP,  /* unknown: a free address, 1 GiB-aligned */
};

/* Host-virtual address of the start of @region, in bytes. @source may be NULL. */
uint64_t backing_region_hva(const struct backing *b, unsigned int region,
			    enum backing_hva_source *source);

/* Pages of a region: [first, first + count). */
struct backing_range {
	uint32_t region;
	uint64_t first;
	uint64_t count;
};

/*
 * The part of @region that the notifier event @event covers; false if none. Regions with a made-up
 * address are never covered.
 */
bool backing_covered(const struct backing *b, uint32_t event, unsigned int region,
		     struct backing_range *out);

/* What the inference says of every leaf the trace's faults installed, against what they installed.
 */
struct backing_survey {
	uint64_t leaves;
	uint64_t unknown; /* no slot or no frame */
	uint64_t frames[BACKING_FRAMES];
	uint64_t levels[BACKING_LEVELS];
	uint64_t writes[BACKING_WRITES];
	uint64_t frame_differs;
	uint64_t level_differs;	   /* after the slot's edges are taken into account */
	uint64_t write_differs;	   /* after the slot's access is taken into account */
	uint32_t first_difference; /* event, or TRACE_NONE */
};

void backing_survey(const struct backing *b, struct backing_survey *s);

const char *backing_frame_name(enum backing_frame frame);
const char *backing_level_name(enum backing_level level);
const char *backing_write_name(enum backing_write write);

void backing_free(struct backing *b);

#endif
