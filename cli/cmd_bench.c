// SPDX-License-Identifier: BSD-2-Clause
/* `triptych bench`: what the operations cost, beside what they cannot cost less than. Measures
 * nothing by itself. */
#include <getopt.h>
#include <string.h>

#include "bench/plot.h"
#include "bench/suite.h"
#include "cli/cli.h"

static const char usage[] =
	"usage: triptych bench [OPTION...]\n\n"
	"Times every operation of the library in rounds, interleaved with hand-written floors and\n"
	"with the kernel's own page tables: CPU time of the thread, median and least of the rounds,\n"
	"and the median against the floor's. Then what no time of one operation says: threads, holds\n"
	"of the exclusive section, memory, external calls. Ends with status 1 if an operation did not\n"
	"do its work.\n\n"
	"Options:\n"
	"  --only OP[,OP]    these operations, and the floors they are compared with\n"
	"  --format ept|npt  this format alone\n"
	"  --rounds N        rounds (default 15)\n"
	"  --size MIB        guest memory of an operation on 4K pages (default 256)\n"
	"  --json            the same as JSON\n"
	"  --save FILE       the same as JSON into a file besides\n"
	"  --counts FILE     instructions and locked operations, from a file that bench/instr made\n"
	"  --list            the operations, and what each is\n"
	"  --count           under callgrind: count instead of timing (see bench/instr)\n"
	"  --plot DIR        measure nothing: draw pictures into DIR, of the run in --from\n"
	"  --from FILE       what an earlier --save wrote\n"
	"  --peers FILE      what others cost, for the pictures (bench/peers)\n"
	"  --help            this text\n";

#define MAX_ROUNDS 1000
#define MAX_MIB	   (1u << 16)

struct options {
	struct bench_suite suite;
	const char *save, *plot, *from, *peers;
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
		return parse_number(argv[0], "size", MAX_MIB, &o->suite.mib);
	case 'j':
		o->json = true;
		return CLI_OK;
	case 'l':
		o->list = true;
		return CLI_OK;
	case 'c':
		o->count = true;
		return CLI_OK;
	case 'S':
		o->save = optarg;
		return CLI_OK;
	case 'P':
		o->plot = optarg;
		return CLI_OK;
	case 'F':
		o->from = optarg;
		return CLI_OK;
	case 'E':
		o->peers = optarg;
		return CLI_OK;
	case 'C':
		o->suite.counts = optarg;
		return CLI_OK;
	default:
		return cli_bad_option(argv[0], option, argv);
	}
}

static void list(void)
{
	for (const struct bench_op *const *family = bench_families; *family; family++)
		for (const struct bench_op *op = *family; op->name; op++)
			printf("%-24s per %-6s %s\n", op->name, op->unit, op->what);
	for (const struct bench_table *t = bench_tables; t->name; t++)
		printf("%-24s a table    %s\n", t->name, t->what);
}

static int save(const struct options *o, const char *command)
{
	FILE *out = fopen(o->save, "w");

	if (!out)
		return cli_error(command, "%s cannot be written", o->save);
	suite_print_json(&o->suite, out);
	return fclose(out) ? cli_error(command, "%s cannot be written", o->save) : CLI_OK;
}

/* Bad input is found before anything is measured. */
static bool prepare(struct options *o, struct bench *b)
{
	return bench_init(b, o->suite.mib << (20 - TPT_PAGE_SHIFT)) && suite_select(&o->suite, b) &&
	       (!o->suite.counts || suite_read_counts(&o->suite, b));
}

static bool measure(struct options *o, struct bench *b)
{
	if (o->count)
		return suite_count(&o->suite, b);
	return suite_time(&o->suite, b) && suite_fill(&o->suite, b);
}

static int run(struct options *o, const char *command)
{
	struct bench b;
	int ret = CLI_OK;

	if (!prepare(o, &b)) {
		ret = cli_error(command, "%s", b.why);
	} else if (!measure(o, &b)) {
		cli_error(command, "%s", b.why);
		ret = CLI_DIFFERENT;
	} else if (!o->count) {
		(o->json ? suite_print_json : suite_print)(&o->suite, stdout);
		ret = o->save ? save(o, command) : CLI_OK;
	}
	suite_free(&o->suite);
	bench_fini(&b);
	return ret;
}

static int plot(const struct options *o, const char *command)
{
	struct plot p;
	int ret = CLI_OK;

	if (!o->plot || !o->from)
		return cli_error(command, "--plot and --from belong together");
	if (!plot_read(&p, o->from, o->peers) || !plot_draw(&p, o->plot))
		ret = cli_error(command, "%s", p.why);
	plot_free(&p);
	return ret;
}

int cmd_bench(int argc, char **argv)
{
	static const struct option long_options[] = {
		{"only", required_argument, NULL, 'o'},	  {"format", required_argument, NULL, 'f'},
		{"rounds", required_argument, NULL, 'r'}, {"size", required_argument, NULL, 's'},
		{"json", no_argument, NULL, 'j'},	  {"list", no_argument, NULL, 'l'},
		{"save", required_argument, NULL, 'S'},	  {"counts", required_argument, NULL, 'C'},
		{"plot", required_argument, NULL, 'P'},	  {"from", required_argument, NULL, 'F'},
		{"peers", required_argument, NULL, 'E'},  {"count", no_argument, NULL, 'c'},
		{"help", no_argument, NULL, 'h'},	  {0},
	};
	struct options o = {.suite = {.formats = BENCH_BOTH, .rounds = 15, .mib = 256}};
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
	if (o.plot || o.from)
		return plot(&o, argv[0]);
	if (o.count && !bench_can_count())
		return cli_error(argv[0], "--count is for callgrind, and with its header; see "
					  "bench/instr");
	if (o.list)
		return list(), CLI_OK;
	return run(&o, argv[0]);
}
