// SPDX-License-Identifier: BSD-2-Clause
/* `triptych run`: options, the scenario's file, and which screen is shown. Runs nothing by itself.
 */
#include "cli/run.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/run_cost.h"

struct options {
	const char *scenario, *trace, *slots, *cost;
	const char *inject[INJECT_MAX];
	unsigned int nr_inject;
	bool json;
};

static const char usage[] =
	"usage: triptych run SCENARIO [--json] [--trace FILE] [--slots FILE] [--cost FILE]\n"
	"                    [--inject CALL:STATUS:WHEN]...\n"
	"       triptych run --list-failures\n\n"
	"Plays a written situation: vCPUs of the model processor touch memory, host events come in\n"
	"between, and the library answers. Prints what was counted; figures that others published\n"
	"stand apart. SCENARIO is a file in the form of scenarios/README.md, or - for standard "
	"input.\n\n"
	"  --json        the screen for programs\n"
	"  --trace FILE  writes what the library did as a trace that triptych replay reads\n"
	"  --slots FILE  writes the memslots, and when there were which, for replay --slots\n"
	"  --cost FILE   estimates what the calls would take, from published constants\n"
	"  --inject CALL:STATUS:WHEN  a td's calls to the module, or of its external table, fail on\n"
	"                purpose, as the real one can; WHEN is N, first=N, from=N, every=N, P% or\n"
	"                P%seed=N. May be repeated. The run is sound if the three trees agree\n"
	"                afterwards, or the VM is dead with a report, and every page is accounted for\n"
	"  --list-failures  the calls, and what each can fail with\n\n"
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

/* The scenario's rules, and those of the command line. NULL and *ret: a bad one, told. */
static struct inject *make_inject(const struct scenario *s, const struct options *o, int *ret)
{
	struct inject *inject = calloc(1, sizeof(*inject));
	char why[INJECT_WHY_LEN];
	int err = inject ? 0 : -1;

	snprintf(why, sizeof(why), "no memory");
	for (uint32_t i = 0; !err && i < s->nr_injects; i++)
		err = inject_add(inject, s->injects[i], why);
	for (unsigned int i = 0; !err && i < o->nr_inject; i++)
		err = inject_add(inject, o->inject[i], why);
	if (!err && inject->nr && s->vm.kind != RUN_TD) {
		snprintf(why, sizeof(why), "--inject: only a td makes these calls");
		err = -1;
	}
	*ret = err ? cli_error("run", "%s", why) : CLI_OK;
	if (!err)
		return inject;
	free(inject);
	return NULL;
}

static int play(const struct scenario *s, struct run_cost *cost, const struct options *o)
{
	struct slot_history history = {0};
	struct run r = {.sc = s, .history = o->slots ? &history : NULL, .cost = cost};
	struct inject *inject;
	int err, ret;

	inject = make_inject(s, o, &ret);
	if (ret)
		return ret;
	r.inject = inject->nr ? inject : NULL;
	r.injected_outside = o->nr_inject;
	err = o->trace ? run_trace_open(&r.trace, o->trace) : 0;
	if (err) {
		free(inject);
		return cli_error("run", "%s: %s", o->trace, strerror(-err));
	}
	err = run_run(&r);
	ret = err ? cli_error("run", "%s: %s", o->scenario, r.why) : show(&r, o);
	run_free(&r);
	slots_free(&history);
	free(inject);
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
	struct run_cost *cost = NULL;
	char err[INPUT_ERR_LEN];
	int ret;

	if (!s)
		return cli_error("run", "no memory");
	ret = scenario_read(s, o->scenario, err);
	if (!ret && o->cost)
		ret = run_cost_read(&cost, o->cost, err);
	ret = ret ? cli_error("run", "%s", err) : play(s, cost, o);
	scenario_free(s);
	free(s);
	free(cost);
	return ret;
}

int cmd_run(int argc, char **argv)
{
	static const struct option long_options[] = {
		{"json", no_argument, NULL, 'j'},	  {"trace", required_argument, NULL, 't'},
		{"slots", required_argument, NULL, 's'},  {"cost", required_argument, NULL, 'c'},
		{"inject", required_argument, NULL, 'i'}, {"list-failures", no_argument, NULL, 'l'},
		{"help", no_argument, NULL, 'h'},	  {0},
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
		case 'c':
			o.cost = optarg;
			break;
		case 'i':
			if (o.nr_inject == INJECT_MAX)
				return cli_error(argv[0], "more than %d --inject", INJECT_MAX);
			o.inject[o.nr_inject++] = optarg;
			break;
		case 'l':
			return inject_list(stdout), CLI_OK;
		default:
			return cli_bad_option(argv[0], option, argv);
		}
	}
	ret = parse_rest(argc, argv, &o);
	return ret ? ret : read_and_play(&o);
}
