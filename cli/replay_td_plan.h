/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a TD in a trace's place is given: its memory, and which pages are built in. Read off the
 * trace and the slots before anything runs; knows no TD.
 */
#ifndef TRIPTYCH_CLI_REPLAY_TD_PLAN_H
#define TRIPTYCH_CLI_REPLAY_TD_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/slots_file.h"
#include "cli/trace.h"

#define TD_PLAN_PAGE 4096ull

/* One page of the guest's memory, and what the guest last did to it. */
struct td_page {
	uint64_t word; /* last written, at byte @at; if has_word */
	uint16_t at;
	bool has_word;
	bool image;    /* built in: content is td_plan_word() */
	bool by_fault; /* came by a fault, private */
};

/* [start, end) in bytes. */
struct td_range {
	uint64_t start, end;
	struct td_page *pages;
};

struct td_plan {
	struct td_range *ranges; /* ascending, apart from each other */
	uint32_t nr_ranges;
	uint64_t bytes;		  /* of all of them */
	uint64_t read_only_bytes; /* of those: read-only in every table that shows them */
	bool huge_pages;	  /* the recording host had pages of 2 MiB behind the guest */
};

/* 0 or -ENOMEM. End with td_plan_free(), whatever is returned. */
int td_plan_make(struct td_plan *plan, const struct trace *t, const struct slot_history *h);
void td_plan_free(struct td_plan *plan);
/* The page at @gpa, or NULL: no memory. */
struct td_page *td_plan_page(const struct td_plan *plan, uint64_t gpa);
/* The 8 bytes at @gpa (aligned to 8) of a page that is built in. */
uint64_t td_plan_word(uint64_t gpa);

#endif
