// SPDX-License-Identifier: BSD-2-Clause
/* `triptych replay`: options, input, and which screens are shown. Replays nothing by itself. */
#include "cli/replay.h"

#include <errno.h>
#include <getopt.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/replay_td.h"
#include "cli/report_replay.h"

/* The kinds of VM that a trace can be replayed as; the first is the default. */
static const struct replay_vm_ops *const kinds[] = {
	&replay_npt_ops,
	&replay_ept_ops,
	&replay_td_ops,
};
#define NR_KINDS (sizeof(kinds) / sizeof(kinds[0]))

#define BAD_LINES_SHOWN 10

struct options {
	const char *trace, *slots, *report;
	const struct replay_vm_ops *ops;
	enum host_setting eager, nx, thp;
	enum tpt_level private_level;
	bool compare, json;
};

/* Everything that is read or inferred before the guest runs. */
struct input_set {
	struct trace t;
	struct slot_history h;
	struct backing *b;
	struct dirty_plan dirty;
	bool cut;
};

static const char usage[] =
	"usage: triptych replay TRACE [--vm npt|ept|td] [--slots FILE] [--compare] [--json]\n"
	"                       [--report FILE.html] [--nx-huge-pages on|off]\n"
	"                       [--eager-page-split on|off] [--thp on|off]\n"
	"                       [--private-level 4k|2m]\n\n"
	"Replays a guest that KVM's trace events recorded: the model processor makes each access\n"
	"that faulted, and the library decides what to install. TRACE is the text of tracefs,\n"
	"trace-cmd or perf, plain or compressed (xz, gzip, zstd); - is standard input.\n\n"
	"  --vm KIND     the kind of VM: npt (default), ept or td\n"
	"  --slots FILE  the memslots the machine had, and when; without it they are inferred from\n"
	"                the trace, and printed\n"
	"  --compare     every outcome against the recording; exit 1 if anything differs (npt)\n"
	"  --json        the screen for programs\n"
	"  --nx-huge-pages, --eager-page-split, --thp on|off\n"
	"                what the recording host had; without it the trace tells, or KVM's default\n"
	"  --private-level 4k|2m\n"
	"                how large a TD's private pages may be (4k)\n"
	"  --report FILE writes one HTML page: the trees over guest memory and over time\n";

/* ---- progress ---- */

static void erase_progress(void)
{
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r\33[K");
}

static void reading(void *ctx, uint64_t lines, int per_mille)
{
	(void)ctx;
	if (!isatty(STDERR_FILENO))
		return;
	if (per_mille < 0)
		fprintf(stderr, "\rreading: %lu lines", lines);
	else
		fprintf(stderr, "\rreading: %3d %%", per_mille / 10);
}

static void replaying(void *ctx, uint32_t done, uint32_t total)
{
	int *last = ctx;
	int percent = total ? (int)(100ull * done / total) : 100;

	if (percent == *last || !isatty(STDERR_FILENO))
		return;
	*last = percent;
	fprintf(stderr, "\rreplaying: %3d %%", percent);
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* ---- input ---- */

static void tell_bad_lines(const struct trace *t, const char *path)
{
	for (uint32_t i = 0; i < t->nr_bad && i < BAD_LINES_SHOWN; i++)
		cli_error("replay", "%s line %u: %s", path, t->bad[i].line, t->bad[i].why);
	if (t->nr_bad > BAD_LINES_SHOWN)
		cli_error("replay", "%s: %u more bad lines", path, t->nr_bad - BAD_LINES_SHOWN);
	if (t->lost)
		cli_error("replay",
			  "%s: the recorder lost %lu events; what depends on them can't come out "
			  "right",
			  path, t->lost);
}

static int read_trace(struct input_set *in, const char *path)
{
	char err[INPUT_ERR_LEN];
	int rc = trace_read(&in->t, path, reading, NULL, err);

	erase_progress();
	if (rc)
		cli_error("replay", "%s", err);
	/* What was read before a cut is whole: it is replayed, and the exit status tells. */
	in->cut = rc && in->t.cut && in->t.nr_events;
	if (rc && !in->cut)
		return CLI_USAGE;
	tell_bad_lines(&in->t, path);
	if (!in->t.counts[TRACE_PAGE_FAULT])
		return cli_error("replay", "%s: %u lines, and no kvm_page_fault among them", path,
				 in->t.lines);
	return trace_group(&in->t) ? cli_error("replay", "no memory for the trace") : CLI_OK;
}

static int read_input(struct input_set *in, const struct options *o)
{
	char err[INPUT_ERR_LEN] = "";
	int ret = read_trace(in, o->trace);

	if (ret)
		return ret;
	if (o->slots && slots_read(&in->h, o->slots, err))
		return cli_error("replay", "%s", err);
	if (!o->slots && slots_infer(&in->h, &in->t))
		return cli_error("replay", "no memory for the slots");
	if (backing_build(&in->b, &in->t, &in->h))
		return cli_error("replay", "no memory for the backing");
	if (dirty_plan_make(&in->dirty, &in->t, &in->h))
		return cli_error("replay", "no memory for the dirty logs");
	return CLI_OK;
}

static void free_input(struct input_set *in)
{
	dirty_plan_free(&in->dirty);
	backing_free(in->b);
	slots_free(&in->h);
	trace_free(&in->t);
}

/* ---- the command ---- */

static void show(const struct replay_summary *s, bool json)
{
	if (json) {
		replay_json(s, stdout);
		return;
	}
	if (s->r->slots_inferred) {
		printf("# Memslots, inferred from the trace:\n");
		slots_write(s->r->h, stdout);
		printf("\n");
	}
	replay_screen(s, stdout);
}

static int write_report(struct report_replay *report, const struct replay_summary *s,
			const char *path)
{
	char err[REPORT_ERR_LEN];
	int ret = report_replay_write(report, s->r, s->compare, path, err);

	return ret ? cli_error("replay", "%s", err) : CLI_OK;
}

static int run(struct input_set *in, const struct options *o, double read_seconds)
{
	int percent = -1, err, ret = CLI_OK;
	struct replay r = {
		.t = &in->t,
		.h = &in->h,
		.slots_inferred = !o->slots,
		.b = in->b,
		.dirty = &in->dirty,
		.eager = o->eager,
		.private_level = o->private_level,
		.nx = o->nx,
		.thp = o->thp,
		.ops = o->ops,
		.progress = replaying,
		.progress_ctx = &percent,
	};
	struct replay_compare compare = {0};
	struct report_replay report = {0};
	struct replay_summary s = {.trace_path = o->trace,
				   .slots_path = o->slots,
				   .r = &r,
				   .compare = o->compare ? &compare : NULL,
				   .read_seconds = read_seconds};
	double start = seconds();

	if (o->compare)
		replay_compare_attach(&compare, &r);
	err = o->report ? report_replay_attach(&report, &r, o->trace) : 0;
	r.report = o->report ? &report : NULL;
	err = err ? replay_fail(&r, err, "no memory for the report") : replay_run(&r);
	s.replay_seconds = seconds() - start;
	erase_progress();
	if (err) {
		cli_error("replay", "%s: %s", o->trace, r.why);
		ret = CLI_USAGE;
	} else {
		show(&s, o->json);
		if (replay_unsound(&r) || (o->compare && replay_compare_failed(&compare)))
			ret = CLI_DIFFERENT;
	}
	if (o->report && !err && write_report(&report, &s, o->report))
		ret = CLI_USAGE;
	report_replay_free(&report);
	replay_compare_free(&compare);
	replay_free(&r);
	return ret ? ret : in->cut ? CLI_USAGE : CLI_OK;
}

static bool parse_kind(const char *text, struct options *o)
{
	for (size_t i = 0; i < NR_KINDS; i++) {
		if (!strcmp(text, kinds[i]->name)) {
			o->ops = kinds[i];
			return true;
		}
	}
	return false;
}

static int parse_setting(const char *command, const char *name, enum host_setting *setting)
{
	if (strcmp(optarg, "on") && strcmp(optarg, "off"))
		return cli_error(command, "%s is on or off, not %s", name, optarg);
	*setting = !strcmp(optarg, "on") ? HOST_ON : HOST_OFF;
	return CLI_OK;
}

static int parse_option(int option, struct options *o, char **argv)
{
	switch (option) {
	case 'c':
		o->compare = true;
		return CLI_OK;
	case 'j':
		o->json = true;
		return CLI_OK;
	case 's':
		o->slots = optarg;
		return CLI_OK;
	case 'r':
		o->report = optarg;
		return CLI_OK;
	case 'n':
		return parse_setting(argv[0], "--nx-huge-pages", &o->nx);
	case 'e':
		return parse_setting(argv[0], "--eager-page-split", &o->eager);
	case 't':
		return parse_setting(argv[0], "--thp", &o->thp);
	case 'p':
		if (strcmp(optarg, "4k") && strcmp(optarg, "2m"))
			return cli_error(argv[0], "--private-level is 4k or 2m, not %s", optarg);
		o->private_level = strcmp(optarg, "2m") ? TPT_LEVEL_4K : TPT_LEVEL_2M;
		return CLI_OK;
	case 'v':
		if (parse_kind(optarg, o))
			return CLI_OK;
		return cli_error(argv[0], "unknown kind of VM %s; see triptych replay --help",
				 optarg);
	default:
		return cli_bad_option(argv[0], option, argv);
	}
}

static int parse_rest(int argc, char **argv, struct options *o)
{
	if (optind == argc)
		return cli_error(argv[0], "no trace given; see triptych replay --help");
	if (optind + 1 < argc)
		return cli_error(argv[0], "one trace at a time: %s is one too many",
				 argv[optind + 1]);
	o->trace = argv[optind];
	if (o->compare && !o->ops->comparable)
		return cli_error(argv[0], "--compare needs --vm npt: the recording's entries are "
					  "NPT's");
	if (o->private_level && strcmp(o->ops->name, "td"))
		return cli_error(argv[0], "--private-level needs --vm td");
	if (o->slots && !strcmp(o->slots, "-") && !strcmp(o->trace, "-"))
		return cli_error(argv[0], "standard input can't be both the trace and the slots");
	return CLI_OK;
}

int cmd_replay(int argc, char **argv)
{
	static const struct option long_options[] = {
		{"vm", required_argument, NULL, 'v'},
		{"slots", required_argument, NULL, 's'},
		{"compare", no_argument, NULL, 'c'},
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{"report", required_argument, NULL, 'r'},
		{"nx-huge-pages", required_argument, NULL, 'n'},
		{"eager-page-split", required_argument, NULL, 'e'},
		{"thp", required_argument, NULL, 't'},
		{"private-level", required_argument, NULL, 'p'},
		{0},
	};
	struct options o = {.ops = kinds[0]};
	struct input_set in = {0};
	double start = seconds();
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
	ret = parse_rest(argc, argv, &o);
	if (ret)
		return ret;
	ret = read_input(&in, &o);
	if (!ret)
		ret = run(&in, &o, seconds() - start);
	free_input(&in);
	return ret;
}
