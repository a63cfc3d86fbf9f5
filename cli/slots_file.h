/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which guest-physical memory a traced machine had, and when: read from a small text file, or
 *inferred from the trace. Holds and checks descriptions; never makes a memslot.
 *
 * The file, line by line ('#' begins a comment; numbers are decimal or 0x hexadecimal, addresses
 *are bytes):
 *
 *	region NAME [hva=ADDRESS]	host memory that slots show; its address where it is known
 *	after N:			the slots from the Nth kvm_mmu_zap_all_fast on (0: from the
 *start), as they are when every deletion that led here is done generation G
 *of address space 0's memslots then; only checked against, never needed slot ID START END rw|ro
 *[REGION[+OFFSET]] [as=0|1] [START, END) shows REGION from OFFSET on; default ram+START, for ro
 *rom+START; in both address spaces unless told
 *
 * A slot that is the same in two tables that follow one another, by all its fields, was kept; any
 *other was deleted or created.
 */
#ifndef TRIPTYCH_CLI_SLOTS_FILE_H
#define TRIPTYCH_CLI_SLOTS_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "cli/input.h"
#include "cli/trace.h"

/* Address spaces of a VM: ordinary and SMM, as KVM has them on x86. */
#define SLOT_ADDRESS_SPACES 2
/* KVM's memslot ids are shorts. */
#define SLOT_MAX_ID 32767
/* More slots than KVM allows in one address space would only come from a broken file. */
#define SLOT_MAX_IN_TABLE 32768

struct slot_region {
	char name[32];
	bool has_hva;
	uint64_t hva; /* bytes, page-aligned */
};

struct slot_def {
	uint64_t start;	 /* guest-physical, bytes, page-aligned */
	uint64_t end;	 /* exclusive */
	uint64_t offset; /* into the region, bytes, page-aligned */
	uint32_t line;	 /* of the file; 0: inferred */
	uint16_t region; /* index into slot_history.regions */
	uint16_t id;
	bool readonly;
	uint8_t as_mask; /* bit n: is in address space n */
};

struct slot_table {
	uint32_t after; /* zap-alls passed */
	bool has_generation;
	uint64_t generation;
	struct slot_def *slots;
	uint32_t nr_slots;
};

struct slot_history {
	struct slot_table *tables; /* ascending by after */
	uint32_t nr_tables;
	struct slot_region *regions;
	uint32_t nr_regions;
};

/*
 * Reads @path ("-": standard input). @h need not be initialised and is ended with slots_free()
 * whatever is returned. 0; -EINVAL with @err naming file, line, value and rule; or an error of
 * input_open() or input_read().
 */
int slots_read(struct slot_history *h, const char *path, char err[INPUT_ERR_LEN]);

/* The same from @len bytes of text; @name stands for the file in messages. */
int slots_parse(struct slot_history *h, const char *name, const char *text, size_t len,
		char err[INPUT_ERR_LEN]);

/*
 * Infers the history of a grouped trace: what was mapped writable, read-only or as MMIO in each
 * epoch between zap-alls. Edges that nothing in the trace fixes are put at the roundest address
 * between what was seen on either side. 0 or -ENOMEM.
 */
int slots_infer(struct slot_history *h, const struct trace *t);

/* Writes @h in the file's form; slots_parse() reads it back to the same. */
void slots_write(const struct slot_history *h, FILE *out);

/* The table in force after @zaps zap-alls, or NULL before the first. */
const struct slot_table *slots_table_at(const struct slot_history *h, uint32_t zaps);

/* The slot of @table that holds guest-physical @gpa in address space @as_id, or NULL. @table may be
 * NULL. */
const struct slot_def *slots_find(const struct slot_table *table, unsigned int as_id, uint64_t gpa);

/* All fields but the line are equal: across a zap-all, the slot was kept. */
bool slots_same(const struct slot_def *a, const struct slot_def *b);

void slots_free(struct slot_history *h);

#endif
