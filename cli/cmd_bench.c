// SPDX-License-Identifier: BSD-2-Clause
/* `triptych bench`: what the operations cost, beside what they cannot cost less than. Measures
 * nothing by itself. */
#include <getopt.h>
#include <string.h>

#include "bench/suite.h"
#include "cli/cli.h"

static const char usage[] =
	"usage: triptych bench [OPTION...]\n\n"
	"Times every operation of the library in rounds, interleaved with hand-written floors and\n"
	"with the kernel's own page tables: CPU time of the thread, median and least of the rounds,\n"
	"and the median against the floor's. Ends with status 1 if an operation did not do its work.\n"
	"\n"
	"Options:\n"
	"  --only OP[,OP]    these operations, and the floors they are compared with\n"
	"  --format ept|npt  this format alone\n"
	"  --rounds N        rounds (default 7)\n"
	"  --size MIB        guest memory of an operation on 4K pages (default 256)\n"
	"  --json            the same as JSON\n"
	"  --list            the operations, and what each is\n"
	"  --count           under callgrind: count instead of timing (see bench/instr)\n"
	"  --help            this text\n";

#define MAX_ROUNDS 1000
#define MAX_MIB	   (1u << 16)

struct options {
	struct bench_suite suite;
	uint64_t mib;
	bool json, list, count;
};

static int parse_number(const char *command, const char *name, uint64_t most, uint64_t *value)
{
	if (cli_parse_u64(optarg, false, value) && *value && *value <= most)
		return CLI_OK;
	return cli_error(command, "--%s %s: a number from 1 to %lu", name, optarg,
			 (unsigned long)most);
}

static int parse_format(const char *command, struct options *o)
{
	if (strcmp(optarg, "ept") != 0 && strcmp(optarg, "npt") != 0)
		return cli_error(command, "unknown format %s: there are ept and npt", optarg);
	o->suite.formats = optarg[0] == 'e' ? BENCH_EPT : BENCH_NPT;
	return CLI_OK;
}

static int parse_option(int option, struct options *o, char **argv)
{
	uint64_t rounds = 0;
	int ret;

	switch (option) {
	case 'o':
		o->suite.only = optarg;
		return CLI_OK;
	case 'f':
		return parse_format(argv[0], o);
	case 'r':
		ret = parse_number(argv[0], "rounds", MAX_ROUNDS, &rounds);
		o->suite.rounds = (unsigned int)rounds;
		return ret;
	case 's':
		return parse_number(argv[0], "size", MAX_MIB, &o->mib);
	case 'j':
		o->json = true;
		return CLI_OK;
	case 'l':
		o->list = true;
		return CLI_OK;
	case 'c':
		o->count = true;
		return CLI_OK;
	default:
		return cli_bad_option(argv[0], option, argv);
	}
}

static void list(void)
{
	for (const struct bench_op *const *family = bench_families; *family; family++)
		for (const struct bench_op *op = *family; op->name; op++)
			printf("%-26s per %-6s %s\n", op->name, op->unit, op->what);
}

static int run(struct options *o, const char *command)
{
	struct bench b;
	bool good = bench_init(&b, o->mib << (20 - TPT_PAGE_SHIFT)) && suite_select(&o->suite, &b);
	int ret;

	if (!good)
		ret = cli_error(command, "%s", b.why);
	else if (!(o->count ? suite_count(&o->suite, &b) : suite_time(&o->suite, &b)))
		ret = (cli_error(command, "%s", b.why), CLI_DIFFERENT);
	else
		ret = CLI_OK;
	if (!ret && !o->count)
		(o->json ? suite_print_json : suite_print)(&o->suite, stdout);
	suite_free(&o->suite);
	bench_fini(&b);
	return ret;
}

int cmd_bench(int argc, char **argv)
{
	static const struct option long_options[] = {
		{"only", required_argument, NULL, 'o'},
		{"format", required_argument, NULL, 'f'},
		{"rounds", required_argument, NULL, 'r'},
		{"size", required_argument, NULL, 's'},
		{"json", no_argument, NULL, 'j'},
		{"list", no_argument, NULL, 'l'},
		{"count", no_argument, NULL, 'c'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	struct options o = {.suite = {.formats = BENCH_BOTH, .rounds = 7}, .mib = 256};
	int option, ret;

	optind = 0; /* 0, not 1: a second call in one process starts afresh */
	opterr = 0;
	while ((option = getopt_long(argc, argv, ":h", long_options, NULL)) != -1) {
		if (option == 'h')
			return fputs(usage, stdout), CLI_OK;
		ret = parse_option(option, &o, argv);
		if (ret)
			return ret;
	}
	if (optind < argc)
		return cli_error(argv[0], "what is %s? see triptych bench --help", argv[optind]);
	if (o.count && !bench_can_count())
		return cli_error(argv[0], "--count is for callgrind, and with its header; see "
					  "bench/instr");
	if (o.list)
		return list(), CLI_OK;
	return run(&o, argv[0]);
}
