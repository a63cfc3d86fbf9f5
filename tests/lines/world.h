/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A VM whose vCPUs sit on threads of their own and act one after the other, each act recorded line
 * by line, and the judgement of what they wrote. Knows no kind of fault.
 *
 * One after the other, because then recordings are exact and always the same. They prove what
 * happens side by side too: if nothing that one vCPU writes is written or read by another, neither
 * can tell whether the other was there, so each does the same in any order and at the same time.
 */
#ifndef TESTS_LINES_WORLD_H
#define TESTS_LINES_WORLD_H

#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>

#include <triptych/posix.h>
#include <triptych/triptych.h>

#include "tests/lines/lines.h"

#define WORLD_VCPUS 64
#define WORLD_MMIO  (1ull << 44) /* GPA where no memslot is */

enum world_kind { WORLD_EPT, WORLD_NPT, WORLD_TD, WORLD_KINDS };

/* What there is in a world. */
struct setting {
	uint32_t vm_flags, slot_flags;
	bool private_; /* TD: the memslot is private memory; else it is shared */
	bool planted;  /* the backing writes a line that all vCPUs share */
	enum tpt_level
		level; /* of what the backing answers; each vCPU has what a table above maps */
};

struct world;
struct seat;
typedef int act_fn(struct seat *seat);

/* A vCPU on its thread. */
struct seat {
	_Alignas(LINE_BYTES) struct world *world;
	unsigned int nr;
	struct tpt_vcpu *vcpu;
	struct lines lines; /* of its last recorded act */
	uintptr_t parent;   /* number of the line that a link may write; 0: it linked nothing */

	/* The order: what it shall do, and what that returned. */
	act_fn *act;
	bool recorded;
	int ret;
	sem_t go, done;
	pthread_t thread;
};

/* Whose a block of the library's ordinary memory is; 0 and above: a vCPU's. */
enum { OF_VM = -1, OF_SLOT = -2 };
#define WORLD_BLOCKS 256
struct block {
	char *at;
	size_t bytes;
	int of;
};

struct world {
	enum world_kind kind;
	struct setting setting;
	unsigned int nr; /* seats */
	struct tpt_posix *posix;
	struct tpt_platform platform; /* posix's, but it notes blocks of memory */
	struct tpt_vm *vm;
	uint64_t slot_bytes;
	struct seat *seat;
	struct block block[WORLD_BLOCKS];
	int allocating_for;
};

struct world *world_create(enum world_kind kind, const struct setting *setting, unsigned int nr);
void world_destroy(struct world *w);

/* A GPA as the seat's processor would report it: with the shared bit, if there is one and the
 * memslot is shared. */
tpt_gpa seat_address(const struct seat *seat, uint64_t gpa);
/* GPA of leaf @n of the seat's own, in the same way. */
tpt_gpa seat_gpa(const struct seat *seat, unsigned int n);
/* On the seat's thread. */
int seat_fault(struct seat *seat, tpt_gpa gpa, uint64_t error_code);

/* Each seat acts once, in turn. False: one of them got another answer than @ret. */
bool world_act(struct world *w, act_fn *act, int ret);
/* The same, recorded. In a small world memory is compared too: what changed and was not recorded is
 * false as well. */
bool world_record(struct world *w, act_fn *act, int ret);

/* What a line is to the seat that wrote it. */
enum line_kind {
	LINE_OWN,      /* its vCPU's memory, its thread's variables */
	LINE_LOG,      /* a memslot, that is: its dirty bitmap */
	LINE_ENTRY,    /* of a table page */
	LINE_HEADER,   /* of a table */
	LINE_VM,       /* any other of the VM's */
	LINE_PLATFORM, /* none of the library's */
	LINE_KINDS,
};
enum line_kind line_kind(const struct seat *seat, const struct line *line);
/* Lines written, by kind. */
void seat_count(const struct seat *seat, unsigned int count[LINE_KINDS]);

/*
 * Pairs of a line that one vCPU wrote and another vCPU that wrote or read it. Neither a parent's
 * line counts nor what is of the kinds @but (1 << enum line_kind). @say: the first is told.
 */
unsigned int world_common(const struct world *w, unsigned int but, bool say);

#endif
