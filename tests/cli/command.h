/* SPDX-License-Identifier: BSD-2-Clause */
/* Runs a subcommand as a shell would, in this process, and keeps what it printed. Judges nothing.
 */
#ifndef TESTS_CLI_COMMAND_H
#define TESTS_CLI_COMMAND_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/cli.h"

#define COMMAND_MAX_ARGS 16

/* What the last command printed. */
static char out[1 << 17], err[1 << 14];

struct capture {
	int fd, saved;
	FILE *file;
};

/* Sends @fd into a file of its own until restore(). */
static struct capture capture(int fd)
{
	struct capture c = {fd, dup(fd), tmpfile()};

	assert_true(c.saved >= 0 && c.file);
	assert_true(dup2(fileno(c.file), fd) >= 0);
	return c;
}

static void restore(struct capture *c, char *text, size_t size)
{
	size_t len;

	assert_true(dup2(c->saved, c->fd) >= 0);
	close(c->saved);
	rewind(c->file);
	len = fread(text, 1, size - 1, c->file);
	text[len] = 0;
	fclose(c->file);
}

/* Runs @function with the words of the line, the first of which is its name; fills out and err. */
__attribute__((format(printf, 2, 3))) static int command(int (*function)(int argc, char **argv),
							 const char *format, ...)
{
	char line[1024], *argv[COMMAND_MAX_ARGS + 1] = {0}, *rest;
	struct capture stdout_capture, stderr_capture;
	int argc = 0, ret;
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	for (char *word = strtok_r(line, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
		assert_true(argc < COMMAND_MAX_ARGS);
		argv[argc++] = word;
	}
	fflush(stdout);
	fflush(stderr);
	stdout_capture = capture(STDOUT_FILENO);
	stderr_capture = capture(STDERR_FILENO);
	ret = function(argc, argv);
	fflush(stdout);
	fflush(stderr);
	restore(&stdout_capture, out, sizeof(out));
	restore(&stderr_capture, err, sizeof(err));
	return ret;
}

#endif
