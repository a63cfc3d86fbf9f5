/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is measured, and how: one structure describes one operation, the runner times it or counts
 * its instructions, and believes nothing that a check does not confirm. Never a place for what an
 * operation does.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <stdio.h>

#include <triptych/posix.h>
#include <triptych/triptych.h>

struct bench;

/* Formats that an operation is measured in. */
#define BENCH_EPT  (1u << TPT_FORMAT_EPT)
#define BENCH_NPT  (1u << TPT_FORMAT_NPT)
#define BENCH_BOTH (BENCH_EPT | BENCH_NPT)
#define BENCH_NONE 0u /* has nothing to do with a format: measured once */

/* Most points of a curve. */
#define BENCH_POINTS 8

enum bench_kind {
	BENCH_OP,      /* of the library */
	BENCH_HARNESS, /* what the loop around an operation costs by itself */
	BENCH_FLOOR,   /* the least that the same work can be, written by hand */
	BENCH_LINUX,   /* the kernel's own page tables */
};

/*
 * One operation. A pass is setup(), run(), check(), teardown(); only run() is measured, and does
 * b->units of the operation. setup() and check() say what is wrong by bench_fail(). teardown()
 * copes with a setup() that failed halfway.
 */
struct bench_op {
	const char *name; /* stable: part of the JSON */
	const char *unit; /* what a figure is for: "page", "fault", "2M" */
	const char *what;
	enum bench_kind kind;
	unsigned int formats;	 /* BENCH_EPT, BENCH_NPT */
	const char *floor;	 /* the floor it is compared with; NULL: none */
	unsigned int floor_nr;	 /* units of the floor that one of its own is made of; 0 is 1 */
	const char *harness;	 /* counted instructions are less this row's; NULL: no loop */
	bool untimed, uncounted; /* has no place in a bench of times, or of instructions */
	/* A curve: a row for each of these, up to a 0; of what there are so many is @curve. */
	const char *curve;
	uint64_t param[BENCH_POINTS + 1];
	unsigned int most_rounds; /* its set-up is long; 0: as many as are asked for */
	bool (*setup)(struct bench *b);
	void (*run)(struct bench *b);
	bool (*check)(struct bench *b);
	void (*teardown)(struct bench *b);
};

/* The operations of one family, which ends with one that has no name. */
extern const struct bench_op bench_floors[], bench_linux[], bench_maps[], bench_faults[],
	bench_dirty[], bench_ages[], bench_zaps[], bench_sizes[], bench_mirrors[], bench_scales[];
/* All of them, in the order of the report; ends with NULL. */
extern const struct bench_op *const bench_families[];

/* The one with this name, or NULL. */
const struct bench_op *bench_find(const char *name);

/* Where a memslot's memory is said to be; frames are these addresses / 4 KiB. */
#define BENCH_HVA (1ull << 40)

/* What a pass works with. */
struct bench {
	enum tpt_format format;
	uint64_t pages; /* 4K pages of an operation on small leaves; a multiple of 512 */
	uint64_t huge;	/* 2M leaves of an operation on those */
	/* Numbers below @pages (or @huge, those that are) in order, and in a fixed disorder. */
	uint32_t *in_order, *in_disorder;

	/* host.c */
	struct tpt_posix *posix; /* one for all passes, so that the pool is warm */
	struct tpt_platform platform;
	struct tpt_vm *vm;
	struct tpt_vcpu *vcpu;
	struct tpt_gmem *gmem;
	uint64_t bytes;	      /* of the VM's one memslot */
	enum tpt_level level; /* what its backing answers */
	bool scattered;	      /* no two frames of it follow one another */

	/* The pass under way. */
	uint64_t param; /* the point of the curve, if it is one */
	uint64_t units; /* setup: how many run() does */
	uint64_t wrong; /* run: answers that were not as they should be */
	int64_t answer; /* run: of a call that is one for all units */
	void *own;	/* the family's */
	char why[256];	/* what went wrong, if something did */
};

/* False, with the reason kept. */
bool bench_fail(struct bench *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- host.c: a VM to work on ---- */

/* @pages is rounded up to a multiple of 512. False: no memory. */
bool bench_init(struct bench *b, uint64_t pages);
void bench_fini(struct bench *b);

/* A VM with one vCPU and one memslot of @bytes at 0, over memory in blocks of @level. */
bool bench_vm(struct bench *b, uint32_t vm_flags, uint64_t bytes, enum tpt_level level);
/* The same as a TD, all of the memory private. @ops NULL: its external table does nothing; else @b
 * is their context. */
bool bench_td(struct bench *b, uint64_t bytes, const struct tpt_external_ops *ops);
/* One page of it, as a shared GPA. */
#define BENCH_SHARED (1ull << 47)
void bench_vm_destroy(struct bench *b);
/* Writes to each page of the slot, or each 2M block of it, so that all is mapped. */
bool bench_populate(struct bench *b);
/* Switches the slot's dirty log. */
bool bench_log_dirty(struct bench *b, bool on);

/* Runs what was handed to defer() since, and says how many works that was. The library's own
 * barrier() does the same. */
uint64_t bench_run_deferred(void);
/* An operation by itself: what is deferred is run, and there is some. The check: nothing waits. */
void bench_run_only_deferred(struct bench *b);
bool bench_check_nothing_deferred(struct bench *b);

/* Is the number of direct leaves, or of private ones, as it should be, and was every answer? */
bool bench_check_leaves(struct bench *b, uint64_t small, uint64_t large);
bool bench_check_private(struct bench *b, uint64_t small);
bool bench_check_answers(struct bench *b);
/* Direct leaves that have any of @bits. */
uint64_t bench_leaves_with(struct bench *b, uint64_t bits);

/* ---- run.c ---- */

/* CPU time of the calling thread, ns. */
uint64_t bench_cpu_ns(void);
/* One pass. False: it did not do its work, b->why says so. *ns is what run() took, all units. */
bool bench_pass(const struct bench_op *op, struct bench *b, uint64_t *ns);
/* One pass under valgrind's callgrind, which writes its count under the row's name. */
bool bench_count(const struct bench_op *op, struct bench *b);
/* Is the process run by callgrind, or could it be? */
bool bench_can_count(void);

#define BENCH_NAME 64
/* "name format", or "name/param format"; both without a blank in them. "-" is no format. */
void bench_row_name(const struct bench_op *op, const struct bench *b, char name[BENCH_NAME]);

#endif
