/* SPDX-License-Identifier: BSD-2-Clause */
/* What the commands of `triptych` share: how they are called, how they complain, how they read
 * numbers. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Exit statuses of every command. */
enum {
	CLI_OK = 0,
	CLI_DIFFERENT = 1, /* it worked, and what was compared differs */
	CLI_USAGE = 2,	   /* bad options or bad input: nothing was done */
};

/* One command a file. @argv[0] is the command's name; options as getopt_long() reads them. They
 * return an exit status. */
int cmd_bench(int argc, char **argv);
int cmd_decode(int argc, char **argv);
int cmd_replay(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_seamcall(int argc, char **argv);

/*
 * Complains on standard error: "triptych COMMAND: text". @command NULL: without it. Returns
 * CLI_USAGE, so that a command can return it.
 */
int cli_error(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* After getopt_long() returned '?' (an unknown option) or ':' (its argument is missing; the option
 * string begins with ':'): says which. Returns CLI_USAGE. */
int cli_bad_option(const char *command, int found, char **argv);

/*
 * Reads a whole text as a number of 64 bits: hexadecimal, "0x" or not, with @hex; else as C has it
 * (decimal, 0x, no octal). False if it is anything else, or wider.
 */
bool cli_parse_u64(const char *text, bool hex, uint64_t *value);

/* Writes @text as a JSON string, quotes included. */
void cli_json_string(FILE *out, const char *text);

#endif
