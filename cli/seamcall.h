/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The parts of `triptych seamcall`: a script of calls, the machine it runs on, the player between.
 * Nothing here knows what a call does.
 */
#ifndef CLI_SEAMCALL_H
#define CLI_SEAMCALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "tdx/module/module.h"

/* -- seamcall_names.c: names of the notation -- */

/* Leaf number by name, SEAMCALL or TDCALL; -1 if there is none. */
int sc_leaf_number(const char *name, bool guest);
/* Index into tdx_regs.gpr by lower-case name; -1. */
int sc_register(const char *name);
/* A status as the notation prints it: "TDX_OPERAND_INVALID(RCX)". */
void sc_status_name(uint64_t rax, char *text, size_t size);

/* -- seamcall_machine.c: what the recorded calls ran on -- */

#define SC_NR_LPS 8

struct sc_machine {
	struct tdx_module *module;
	struct sc_memory *memory;
	uint64_t tsc;
	int64_t intr_polls; /* polls that still read false; -1: all of them */
	struct {
		struct tdx_regs host; /* as the last SEAMCALL set them */
		struct tdx_guest guest;
		bool in_td;
	} lp[SC_NR_LPS];
};

/* A fresh machine, or NULL (message printed). */
struct sc_machine *sc_machine_create(void);
void sc_machine_destroy(struct sc_machine *machine);
/* The 64-bit word at @hpa; NULL if unaligned or out of memory. Pages appear when touched. */
uint64_t *sc_machine_word(struct sc_machine *machine, uint64_t hpa);
/* The 4 KiB page at @hpa, or NULL. */
void *sc_machine_page(struct sc_machine *machine, uint64_t hpa);

/* -- seamcall_script.c: files, lines and groups -- */

struct sc_script {
	char *text;
	char **lines; /* 0-based; line number is index + 1 */
	size_t nr_lines;
};

/* Read @path ("-": standard input), plain or xz. 0, or -1 with a message on stderr. */
int sc_script_load(const char *path, struct sc_script *script);
/* The same from text in memory. */
int sc_script_parse(const char *text, struct sc_script *script);
void sc_script_free(struct sc_script *script);

enum sc_setup { SC_SETUP_BASE, SC_SETUP_TD, SC_SETUP_RUN, SC_NR_SETUPS };

struct sc_group {
	char name[64];
	enum sc_setup setup;
	uint64_t attributes;
	size_t first, end; /* lines, header excluded */
};

/* Is @line a group's header? Fills name, setup, attributes. -1: a header that can't be read. */
int sc_group_header(const char *line, struct sc_group *group);

/* The documented set-ups, or files of that name beside the script. */
extern const char *const sc_setup_name[SC_NR_SETUPS];
int sc_setup_load(const char *script_path, enum sc_setup setup, struct sc_script *script);

/* -- seamcall_player.c -- */

/* One answer: its line "  => ..." and those that go on with it. */
struct sc_answer {
	size_t line; /* of the command that gave it */
	char *text;
};

struct sc_answers {
	struct sc_answer *item;
	size_t count, capacity;
};

void sc_answers_add(struct sc_answers *answers, size_t line, const char *text);
void sc_answers_free(struct sc_answers *answers);

struct sc_player;

/*
 * A player on a fresh machine. Commands and answers go to @transcript if not NULL, answers to
 * @answers if not NULL; errors to stderr, prefixed with @path.
 */
struct sc_player *sc_player_create(const char *path, FILE *transcript, struct sc_answers *answers);
void sc_player_destroy(struct sc_player *player);
/* Run a set-up: silent, every call must succeed. Returns the number of errors. */
unsigned int sc_player_setup(struct sc_player *player, enum sc_setup setup, uint64_t attributes);
/* Run lines [first, end) of @script, passing over recorded answers. Returns the number of errors.
 */
unsigned int sc_player_run(struct sc_player *player, const struct sc_script *script, size_t first,
			   size_t end);

/* -- what tests and the command share -- */

struct sc_result {
	size_t compared, different;
	unsigned int errors;
};

/*
 * Play every group of @path whose name begins with one of @groups (comma separated; NULL: all).
 * @compare: print differences to @out; else the transcript.
 */
int sc_play_file(const char *path, const char *groups, bool compare, FILE *out,
		 struct sc_result *result);

#endif
