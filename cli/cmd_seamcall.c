// SPDX-License-Identifier: BSD-2-Clause
/*
 * triptych seamcall: plays recorded calls on the module model and compares the answers. Options,
 * groups and the comparison; never a command of the notation.
 */
#include "cli/seamcall.h"

#include <getopt.h>
#include <string.h>

#include "cli/cli.h"

#define SHOWN_DIFFERENCES 10

static const char usage[] =
	"usage: triptych seamcall FILE [--compare] [--group A,B,...]\n"
	"\n"
	"Runs the SEAMCALLs, TDCALLs and exits of FILE (plain or compressed, - is standard input) on\n"
	"the module model and prints them with their answers.\n"
	"\n"
	"  --compare      compare with the answers recorded in FILE; the last line counts them;\n"
	"                 exit status 1 if any differs\n"
	"  --group LIST   only groups whose name, or its part before '_' or a blank, is in LIST\n";

static bool in_list(const char *list, const char *name, size_t length)
{
	while (*list) {
		size_t item = strcspn(list, ",");

		if (item == length && !strncmp(list, name, length))
			return true;
		list += item + (list[item] == ',');
	}
	return false;
}

static bool selected(const char *list, const struct sc_group *group)
{
	return !list || in_list(list, group->name, strcspn(group->name, "_ ")) ||
	       in_list(list, group->name, strlen(group->name));
}

/* Recorded answers of lines [first, end): a line with "=>", and those that go on with it. */
static void collect_recorded(const struct sc_script *script, const struct sc_group *group,
			     struct sc_answers *answers)
{
	for (size_t i = group->first; i < group->end; i++) {
		char text[2048];
		size_t next = i + 1;
		int length;

		if (strncmp(script->lines[i], "  =>", 4))
			continue;
		length = snprintf(text, sizeof(text), "%s", script->lines[i]);
		for (; next < group->end && !strncmp(script->lines[next], "     ", 5); next++)
			if ((size_t)length < sizeof(text))
				length += snprintf(text + length, sizeof(text) - (size_t)length,
						   "\n%s", script->lines[next]);
		sc_answers_add(answers, i + 1, text);
	}
}

/* What stands in for an answer that one side lacks; its line is the other side's. */
#define NO_ANSWER "  (no answer)"

static void show_difference(FILE *out, const struct sc_script *script, const char *group,
			    size_t line, const char *recorded, const char *ours)
{
	fprintf(out, "group %s, line %zu: %s\n", group, line, script->lines[line - 1]);
	fprintf(out, "  recorded:%s\n", recorded + 1);
	fprintf(out, "  model:   %s\n", ours + 1);
}

static void compare_answers(FILE *out, const struct sc_script *script, const char *group,
			    const struct sc_answers *recorded, const struct sc_answers *ours,
			    struct sc_result *result)
{
	size_t count = recorded->count > ours->count ? recorded->count : ours->count;

	for (size_t i = 0; i < count; i++) {
		const char *r = i < recorded->count ? recorded->item[i].text : NO_ANSWER;
		const char *o = i < ours->count ? ours->item[i].text : NO_ANSWER;
		size_t line = i < ours->count ? ours->item[i].line : recorded->item[i].line;

		result->compared++;
		if (!strcmp(r, o))
			continue;
		if (result->different++ < SHOWN_DIFFERENCES)
			show_difference(out, script, group, line, r, o);
	}
}

static int play_group(const char *path, const struct sc_script *script,
		      const struct sc_group *group, bool compare, FILE *out,
		      struct sc_result *result)
{
	struct sc_answers recorded = {0}, ours = {0};
	struct sc_player *player =
		sc_player_create(path, compare ? NULL : out, compare ? &ours : NULL);
	unsigned int errors;

	if (!player)
		return -1;
	errors = sc_player_setup(player, group->setup, group->attributes);
	if (!errors)
		errors = sc_player_run(player, script, group->first, group->end);
	result->errors += errors;
	if (compare) {
		collect_recorded(script, group, &recorded);
		compare_answers(out, script, group->name, &recorded, &ours, result);
	}
	sc_player_destroy(player);
	sc_answers_free(&recorded);
	sc_answers_free(&ours);
	return 0;
}

static bool worth_playing(const struct sc_script *script, const struct sc_group *group)
{
	for (size_t i = group->first; i < group->end; i++)
		if (*script->lines[i] && *script->lines[i] != '#')
			return true;
	return false;
}

/* Header lines are echoed with their group; what stands before the first one is a group of its own.
 */
static int play_groups(const char *path, const struct sc_script *script, const char *groups,
		       bool compare, FILE *out, struct sc_result *result)
{
	struct sc_group group = {.name = "", .setup = SC_SETUP_BASE}, next = {0};
	bool named = false;

	for (size_t i = 0; i <= script->nr_lines; i++) {
		int header = 1;

		if (i < script->nr_lines)
			header = sc_group_header(script->lines[i], &next);
		if (header < 0) {
			fprintf(stderr, "%s:%zu: a group wants 'SETUP base|td|run'\n", path, i + 1);
			result->errors++;
		}
		if (header <= 0)
			continue;
		group.end = i;
		if (selected(groups, &group) && (named || worth_playing(script, &group))) {
			if (!compare && named)
				fprintf(out, "%s\n", script->lines[group.first - 1]);
			if (play_group(path, script, &group, compare, out, result))
				return -1;
		}
		group = next;
		group.first = i + 1;
		named = true;
	}
	return 0;
}

int sc_play_file(const char *path, const char *groups, bool compare, FILE *out,
		 struct sc_result *result)
{
	struct sc_script script;
	int err;

	*result = (struct sc_result){0};
	if (sc_script_load(path, &script))
		return -1;
	err = play_groups(path, &script, groups, compare, out, result);
	sc_script_free(&script);
	return err;
}

static int report(bool compare, const struct sc_result *result)
{
	if (compare)
		printf("answers: %zu compared, %zu different\n", result->compared,
		       result->different);
	if (result->errors)
		return CLI_USAGE;
	return result->different ? CLI_DIFFERENT : CLI_OK;
}

int cmd_seamcall(int argc, char **argv)
{
	static const struct option options[] = {
		{"compare", no_argument, NULL, 'c'},
		{"group", required_argument, NULL, 'g'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	const char *groups = NULL;
	struct sc_result result;
	bool compare = false;
	int option;

	optind = 0;
	while ((option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		if (option == 'c') {
			compare = true;
		} else if (option == 'g') {
			groups = optarg;
		} else if (option == 'h') {
			fputs(usage, stdout);
			return CLI_OK;
		} else {
			return cli_bad_option("seamcall", option, argv);
		}
	}
	if (optind + 1 != argc)
		return cli_error("seamcall", "one FILE is wanted; see triptych seamcall --help");
	if (sc_play_file(argv[optind], groups, compare, stdout, &result))
		return CLI_USAGE;
	return report(compare, &result);
}
