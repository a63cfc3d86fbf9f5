// SPDX-License-Identifier: BSD-2-Clause
/* The commands' common small things. Knows no command. */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

int cli_error(const char *command, const char *format, ...)
{
	va_list args;

	/* In order with what the command said so far, wherever the two go. */
	fflush(stdout);
	fprintf(stderr, command ? "triptych %s: " : "triptych: ", command);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return CLI_USAGE;
}

int cli_bad_option(const char *command, int found, char **argv)
{
	const char *text = argv[optind - 1];

	if (found == ':')
		return cli_error(command, "option %s needs an argument", text);
	/* optopt: a short option, possibly one of several in an argument not yet passed. */
	if (optopt && strncmp(text, "--", 2) != 0)
		return cli_error(command, "unknown option -%c; see triptych %s --help", optopt,
				 command);
	return cli_error(command, "unknown option %s; see triptych %s --help", text, command);
}

bool cli_parse_u64(const char *text, bool hex, uint64_t *value)
{
	bool prefixed = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
	unsigned long long number;
	char *end;

	/* strtoull() would take blanks and signs too. */
	if (prefixed)
		text += 2;
	if (!isxdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	number = strtoull(text, &end, hex || prefixed ? 16 : 10);
	if (errno || *end || (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')))
		return false;
	*value = number;
	return true;
}

void cli_json_string(FILE *out, const char *text)
{
	fputc('"', out);
	for (; *text; text++) {
		unsigned char c = *text;

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			fprintf(out, "\\u%04x", c);
		else
			fputc(c, out);
	}
	fputc('"', out);
}
