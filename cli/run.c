// SPDX-License-Identifier: BSD-2-Clause
/* `triptych run`: options, the scenario's file, and which screen is shown. Runs nothing by itself.
 */
#include "cli/run.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

struct options {
	const char *scenario, *trace, *slots;
	bool json;
};

static const char usage[] =
	"usage: triptych run SCENARIO [--json] [--trace FILE] [--slots FILE]\n\n"
	"Plays a written situation: vCPUs of the model processor touch memory, host events come in\n"
	"between, and the library answers. Prints what was counted; figures that others published\n"
	"stand apart. SCENARIO is a file in the form of scenarios/README.md, or - for standard "
	"input.\n\n"
	"  --json        the screen for programs\n"
	"  --trace FILE  writes what the library did as a trace that triptych replay reads\n"
	"  --slots FILE  writes the memslots, and when there were which, for replay --slots\n\n"
	"Exit status 1: the audit, the judge of flushes, a balance or an expectation of the\n"
	"scenario has something to say.\n";

static int show(const struct run *r, const struct options *o)
{
	int err = o->slots ? run_slots_write(r, o->slots) : 0;

	if (o->json)
		run_json(r, stdout);
	else
		run_screen(r, stdout);
	if (err)
		return cli_error("run", "%s: %s", o->slots, strerror(-err));
	return run_unsound(r) ? CLI_DIFFERENT : CLI_OK;
}

static int play(const struct scenario *s, const struct options *o)
{
	struct slot_history history = {0};
	struct run r = {.sc = s, .history = o->slots ? &history : NULL};
	int err = o->trace ? run_trace_open(&r.trace, o->trace) : 0, ret;

	if (err)
		return cli_error("run", "%s: %s", o->trace, strerror(-err));
	err = run_run(&r);
	ret = err ? cli_error("run", "%s: %s", o->scenario, r.why) : show(&r, o);
	run_free(&r);
	slots_free(&history);
	err = run_trace_close(r.trace);
	if (err)
		ret = cli_error("run", "%s: %s", o->trace, strerror(-err));
	return ret;
}

static int parse_rest(int argc, char **argv, struct options *o)
{
	if (optind == argc)
		return cli_error(argv[0], "no scenario given; see triptych run --help");
	if (optind + 1 < argc)
		return cli_error(argv[0], "one scenario at a time: %s is one too many",
				 argv[optind + 1]);
	o->scenario = argv[optind];
	return CLI_OK;
}

static int read_and_play(const struct options *o)
{
	struct scenario *s = malloc(sizeof(*s));
	char err[INPUT_ERR_LEN];
	int ret;

	if (!s)
		return cli_error("run", "no memory");
	ret = scenario_read(s, o->scenario, err) ? cli_error("run", "%s", err) : play(s, o);
	scenario_free(s);
	free(s);
	return ret;
}

int cmd_run(int argc, char **argv)
{
	static const struct option long_options[] = {
		{"json", no_argument, NULL, 'j'},
		{"trace", required_argument, NULL, 't'},
		{"slots", required_argument, NULL, 's'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	struct options o = {0};
	int option, ret;

	optind = 0; /* 0, not 1: a second call in one process starts afresh */
	opterr = 0;
	while ((option = getopt_long(argc, argv, ":h", long_options, NULL)) != -1) {
		switch (option) {
		case 'h':
			return fputs(usage, stdout), CLI_OK;
		case 'j':
			o.json = true;
			break;
		case 't':
			o.trace = optarg;
			break;
		case 's':
			o.slots = optarg;
			break;
		default:
			return cli_bad_option(argv[0], option, argv);
		}
	}
	ret = parse_rest(argc, argv, &o);
	return ret ? ret : read_and_play(&o);
}
