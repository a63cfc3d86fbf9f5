// SPDX-License-Identifier: BSD-2-Clause
/* `triptych`: finds the command and hands over. Knows nothing of what commands do. */
#include <string.h>

#include "cli/cli.h"

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *what;
} commands[] = {
	{"bench", cmd_bench, "measure what operations cost, beside floors and the kernel's own"},
	{"decode", cmd_decode, "explain page-table entry words field by field"},
	{"replay", cmd_replay,
	 "replay a recorded guest on the tables, and compare with the recording"},
	{"run", cmd_run, "play a written situation on the library, and count what it costs"},
	{"seamcall", cmd_seamcall, "play recorded SEAMCALLs on the model of the TDX module"},
};
#define NR_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static int print_help(void)
{
	printf("usage: triptych COMMAND [OPTION...] [ARGUMENT...]\n\n"
	       "KVM's x86 MMU with TDX mirror page tables, in user space.\n\nCommands:\n");
	for (size_t i = 0; i < NR_COMMANDS; i++)
		printf("  %-10s %s\n", commands[i].name, commands[i].what);
	printf("\nOptions:\n"
	       "  --help     this text; triptych COMMAND --help explains a command\n"
	       "  --version  the version\n");
	return CLI_OK;
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return cli_error(NULL, "no command given; see triptych --help");
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
		return print_help();
	if (!strcmp(argv[1], "--version")) {
		printf("triptych %s\n", TRIPTYCH_VERSION);
		return CLI_OK;
	}
	for (size_t i = 0; i < NR_COMMANDS; i++)
		if (!strcmp(argv[1], commands[i].name))
			return commands[i].run(argc - 1, argv + 1);
	return cli_error(NULL, "unknown %s %s; see triptych --help",
			 argv[1][0] == '-' ? "option" : "command", argv[1]);
}
