/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the parts of the report share: the books that are kept of the trees, and the bytes that the
 * page decodes. Of no interest to anybody who only writes a report.
 *
 * The stream is a row of acts, each followed by its changes. Numbers are varints (7 bits a byte,
 * low ones first, bit 7: more follows); a signed one has its sign in bit 0 (zigzag).
 *
 *	act	kind:u8 (1 fault, 2 event)  flags:u8  line:signed, after the last act's
 *		time_us:signed, after the last act's  changes:number  then, by kind:
 *	fault	vcpu+1  gfn:signed, after the last fault's  offset in the page
 *		error code:string  outcome:string  retries  tables  external  slot+1  cost_ns note+1
 *	event	kind:u8  gfn:signed, after the last event's  pages  external  cost_ns  text+1
 *	change	flags:u8  [node]  [index]  word  [old word]
 *	node	CHANGE_NODE_KNOWN: signed, after the last change's node; CHANGE_NODE_NEW: level and
 *		tree in one byte, then the GFN of its first entry / pages it covers
 *	index	signed, after the node's last; absent with CHANGE_NEXT: one more than that
 *	word	pattern, then (if it has an address) frame:signed, after the tree's last
 *
 * A node is one table page's worth of entries: 512 words. Strings and patterns are numbered in the
 * order of their first use, and stand in the page's JSON.
 */
#ifndef TRIPTYCH_CLI_REPORT_INTERNAL_H
#define TRIPTYCH_CLI_REPORT_INTERNAL_H

#include "cli/report.h"

#define ACT_FAULT 1
#define ACT_EVENT 2

/* Flags of an act: 2:0 are the access of a fault (TPT_ACC_*). */
#define ACT_SMM	      0x08u
#define ACT_OURS      0x10u
#define ACT_DIFFERENT 0x20u

/* Flags of a change: 1:0 say which node. */
#define CHANGE_NODE_SAME  0x00u
#define CHANGE_NODE_KNOWN 0x01u
#define CHANGE_NODE_NEW	  0x02u
#define CHANGE_NEXT	  0x04u
#define CHANGE_OLD	  0x08u /* the old word was told otherwise than the books have it */
#define CHANGE_WITH_TABLE 0x10u /* gone with the table it hung on */

#define REPORT_ADDR_MASK 0x000ffffffffff000ull
#define REPORT_MAX_GFN	 (1ull << 40)
#define REPORT_ENTRIES	 512u

struct report_bytes {
	uint8_t *data;
	size_t len, cap;
	bool failed; /* out of memory: nothing is added any more */
};

void bytes_add(struct report_bytes *b, const void *data, size_t len);
void bytes_u8(struct report_bytes *b, unsigned int value);
void bytes_number(struct report_bytes *b, uint64_t value);
void bytes_signed(struct report_bytes *b, int64_t value);
void bytes_text(struct report_bytes *b, const char *text);
void bytes_format(struct report_bytes *b, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* A word without its address: a few of these are all words of a run. */
struct report_pattern {
	uint64_t word;	/* the first word of its kind that was met */
	uint64_t flags; /* bits 63:52 and 11:0; with_address decides on the others */
	uint8_t format; /* enum tpt_word_format */
	uint8_t state;	/* enum report_state */
	bool with_address;
	bool level_1;
};

struct report_node {
	uint64_t index; /* GFN of the first entry / pages that the node covers */
	uint8_t tree, level;
	uint16_t last; /* entry that changed last */
	uint16_t pattern[REPORT_ENTRIES];
	uint64_t word[REPORT_ENTRIES];
	bool told[REPORT_ENTRIES]; /* a change of it was told */
};

/* Open addressing over an array that is kept elsewhere: slots hold index + 1. */
struct report_hash {
	uint32_t *slots;
	uint32_t size; /* a power of two, or 0 */
	uint32_t used;
};

struct report_act {
	struct report_change *changes;
	uint32_t nr, cap;
};

#define REPORT_MAX_ACTS	    9
#define REPORT_MAX_PATTERNS 65535u

struct report_counter {
	char *group, *name;
	uint64_t value;
};

struct report_range {
	struct tpt_gfn_range range;
	char *name;
	bool readonly;
};

struct report {
	enum report_vm vm;
	char *trace, *version, *time_note;
	size_t max_data;
	int error; /* latched: 0 or -ENOMEM */

	struct report_range *regions;
	uint32_t nr_regions, cap_regions;
	struct report_counter *counters;
	uint32_t nr_counters, cap_counters;
	char **notes;
	uint32_t nr_notes, cap_notes;

	/* Acts under way, outermost first. */
	struct report_act acts[REPORT_MAX_ACTS];
	unsigned int depth;

	/* What is in the stream, and what came after it was full. */
	struct report_bytes stream;
	struct report_bytes scratch; /* the changes of the act that is being put */
	uint32_t scratch_changes;
	uint32_t nr_faults, nr_events, nr_changes;
	bool full;
	uint32_t full_line;
	uint64_t lost_acts, lost_changes;

	/* The encoder's memory; the page's decoder has the same. */
	struct report_node **nodes;
	uint32_t nr_nodes, cap_nodes;
	struct report_hash node_hash;
	struct report_pattern *patterns;
	uint32_t nr_patterns, cap_patterns;
	struct report_hash pattern_hash;
	char **strings;
	uint32_t nr_strings, cap_strings;
	struct report_hash string_hash;
	uint32_t last_node;
	int64_t last_pfn[REPORT_TREES];
	int64_t last_line, last_time, last_fault_gfn, last_event_gfn;
};

/*
 * @array, or a larger one in its place, so that one more than @nr elements of @size fit. NULL: out
 * of memory, @array is as it was.
 */
void *report_grow(void *array, uint32_t *cap, uint32_t nr, size_t size);
/* A copy of @text that is valid UTF-8 whatever @text is; NULL: out of memory. */
char *report_copy(const char *text);

/* These return false when memory ran out. The changes go to the scratch bytes. */
bool report_intern(struct report *r, const char *text, uint32_t *index);
bool report_put_change(struct report *r, const struct report_change *change);
/* Everything of the tree is gone. */
bool report_put_dropped(struct report *r, enum report_tree tree);
void report_free_encoder(struct report *r);

/* The page, as it is before anything is put into it, and the sizes of its parts in bytes. */
extern const char report_page_html[], report_page_css[], report_page_js[];
extern const uint64_t report_page_html_size, report_page_css_size, report_page_js_size;

#endif
