// SPDX-License-Identifier: BSD-2-Clause
/* A replay's screen for programs: one JSON object, with names that stay. Counts nothing. */
#include "cli/replay.h"

#include <stdlib.h>

#include "cli/cli.h"

/* Members are written with a comma after each; the last of an object is written by hand. */
static void member(FILE *out, const char *name, uint64_t value)
{
	fprintf(out, "\"%s\": %lu, ", name, value);
}

static void last(FILE *out, const char *name, uint64_t value)
{
	fprintf(out, "\"%s\": %lu}", name, value);
}

static void flag(FILE *out, const char *name, bool value, const char *end)
{
	fprintf(out, "\"%s\": %s%s", name, value ? "true" : "false", end);
}

static void text(FILE *out, const char *name, const char *value)
{
	fprintf(out, "\"%s\": ", name);
	cli_json_string(out, value);
	fprintf(out, ", ");
}

static void open_object(FILE *out, const char *name)
{
	fprintf(out, " \"%s\": {", name);
}

static void close_object(FILE *out)
{
	fprintf(out, ",\n");
}

/* The slots' history in its file's form, as one string. */
static void json_history(const struct slot_history *h, FILE *out)
{
	char *written = NULL;
	size_t len;
	FILE *memory = open_memstream(&written, &len);

	if (!memory)
		return;
	slots_write(h, memory);
	fclose(memory);
	text(out, "history", written);
	free(written);
}

static void json_settings(const struct replay *r, FILE *out)
{
	static const char *const calls[] = {
		[DIRTY_LOG_ON] = "log_on",
		[DIRTY_LOG_OFF] = "log_off",
		[DIRTY_READ] = "read",
		[DIRTY_GET] = "get",
		[DIRTY_CLEAR] = "clear_range",
		[DIRTY_ZAP] = "tables_taken",
		[DIRTY_NX_RECOVER] = "nx_recovered",
	};
	const struct replay_settings s = replay_settings(r);

	open_object(out, "settings");
	flag(out, "eager_page_split", s.eager == HOST_ON, ", ");
	text(out, "eager_page_split_from", s.eager_source);
	flag(out, "nx_huge_pages", s.nx == HOST_ON, ", ");
	text(out, "nx_huge_pages_from", s.nx_source);
	flag(out, "thp", s.thp == HOST_ON, ", ");
	text(out, "thp_from", s.thp_source);
	text(out, "dirty_log", dirty_mode_name(r->dirty->mode));
	flag(out, "dirty_log_shown", r->dirty->mode_shown, "}");
	close_object(out);
	open_object(out, "dirty_calls");
	for (int k = 0; k < DIRTY_CALLS; k++)
		member(out, calls[k], r->counts.dirty_calls[k]);
	last(out, "passed_over", r->counts.dirty_calls_skipped);
	close_object(out);
}

static void json_input(const struct replay_summary *s, FILE *out)
{
	const struct replay *r = s->r;
	const struct replay_counts *c = &r->counts;

	open_object(out, "trace");
	text(out, "path", s->trace_path);
	member(out, "lines", r->t->lines);
	member(out, "events", r->t->nr_events);
	member(out, "bad_lines", r->t->nr_bad);
	member(out, "lost_events", r->t->lost);
	flag(out, "cut", r->t->cut, "}");
	close_object(out);
	open_object(out, "slots");
	text(out, "path", s->slots_path ? s->slots_path : "");
	flag(out, "inferred", r->slots_inferred, ", ");
	json_history(r->h, out);
	member(out, "created", c->slots_created);
	member(out, "deleted", c->slots_deleted);
	member(out, "zap_alls", c->zaps);
	member(out, "zaps_without_delete", c->zaps_without_delete);
	member(out, "deletes_without_zap", c->deletes_without_zap);
	member(out, "filler_changes", c->fillers);
	member(out, "generations", c->generations);
	last(out, "generations_different", c->generations_different);
	close_object(out);
	open_object(out, "host");
	member(out, "events", c->host_events);
	member(out, "removed", c->host_removed);
	last(out, "removed_recorded", c->host_removed_recorded);
	close_object(out);
	json_settings(r, out);
}

static void json_faults(const struct replay *r, FILE *out)
{
	open_object(out, "faults");
	for (int a = 0; a < REPLAY_ACCESSES; a++) {
		fprintf(out, "\"%s\": {", replay_access_name((enum replay_access)a));
		for (int k = 0; k < REPLAY_RESULTS; k++)
			fprintf(out, "\"%s\": %lu%s", replay_result_name((enum replay_result)k),
				r->counts.results[a][k], k + 1 < REPLAY_RESULTS ? ", " : "}, ");
	}
	last(out, "all", r->counts.faults);
	close_object(out);
	open_object(out, "skipped");
	for (int k = REPLAY_SKIP_NONE + 1; k < REPLAY_SKIPS; k++)
		fprintf(out, "\"%s\": %lu%s", replay_skip_key((enum replay_skip)k),
			r->counts.skips[k], k + 1 < REPLAY_SKIPS ? ", " : "}");
	close_object(out);
}

static void json_tree(const struct tpt_tree_stats *t, const char *name, FILE *out)
{
	fprintf(out, "\"%s\": {", name);
	member(out, "pages_4k", t->pages_4k);
	member(out, "pages_2m", t->pages_2m);
	member(out, "pages_1g", t->pages_1g);
	member(out, "mmio", t->mmio);
	member(out, "blocked", t->blocked);
	member(out, "tables", t->tables);
	last(out, "table_bytes", t->tables * TPT_PAGE_SIZE);
}

static void json_vm(const struct replay *r, FILE *out)
{
	const struct tpt_vm_stats *s = &r->stats;

	open_object(out, "trees");
	json_tree(&s->direct, "direct", out);
	fprintf(out, ", ");
	json_tree(&s->mirror, "mirror", out);
	fprintf(out, "}");
	close_object(out);
	open_object(out, "external_calls");
	for (int k = 0; k < TPT_CALL_NR; k++)
		fprintf(out, "\"%s\": %lu%s", tpt_external_call_name((enum tpt_external_call)k),
			s->vcpus.external_calls[k], k + 1 < TPT_CALL_NR ? ", " : "}");
	close_object(out);
	open_object(out, "external_busy");
	for (int k = 0; k < TPT_CALL_NR; k++)
		fprintf(out, "\"%s\": %lu%s", tpt_external_call_name((enum tpt_external_call)k),
			s->vcpus.external_busy[k], k + 1 < TPT_CALL_NR ? ", " : "}");
	close_object(out);
	open_object(out, "flushes");
	for (unsigned int k = 0; k < TPT_FLUSH_NR; k++)
		member(out, replay_flush_key(k), s->flush[k]);
	last(out, "all", s->remote_tlb_flush);
	close_object(out);
	open_object(out, "kicks");
	for (unsigned int k = 0; k < TPT_KICK_NR; k++)
		fprintf(out, "\"%s\": %lu%s", replay_kick_key(k), s->kick[k],
			k + 1 < TPT_KICK_NR ? ", " : "}");
	close_object(out);
}

static void json_checks(const struct replay *r, FILE *out)
{
	open_object(out, "checks");
	member(out, "not_fixed", r->counts.not_fixed);
	member(out, "missing_flushes", r->judge_reports);
	member(out, "audit_findings", (uint64_t)r->audit_faults);
	member(out, "platform_misuses", r->misuses);
	text(out, "first_missing_flush", r->judge_text);
	text(out, "first_audit_finding", r->audit_faults ? r->audit_text : "");
	flag(out, "dead", r->dead, "}");
	close_object(out);
}

static void json_sources(const struct replay_compare *c, FILE *out)
{
	static const char *const frames[BACKING_FRAMES] = {
		[BACKING_FRAME_SAME_PAGE] = "same_page",
		[BACKING_FRAME_SAME_HUGE] = "same_huge",
		[BACKING_FRAME_REQUESTED] = "requested",
		[BACKING_FRAME_ZERO_PAGE] = "zero_page",
		[BACKING_FRAME_RUN] = "run",
		[BACKING_FRAME_OWN_LATER] = "own_later",
		[BACKING_FRAME_OWN] = "own",
	};

	fprintf(out, "\"frames\": {");
	for (int k = 0; k < BACKING_FRAMES; k++)
		fprintf(out, "\"%s\": %lu%s", frames[k], c->frames[k],
			k + 1 < BACKING_FRAMES ? ", " : "}, ");
	member(out, "levels_from_compared_entry", c->level_from_own);
	member(out, "permissions_from_compared_entry", c->access_from_own);
}

static void json_tally(const struct replay_tally *t, const char *name, FILE *out)
{
	fprintf(out, "\"%s\": {", name);
	member(out, "recorded", t->recorded);
	member(out, "compared", t->compared);
	last(out, "different", t->different);
	fprintf(out, ", ");
}

static void json_compare(const struct replay_compare *c, FILE *out)
{
	open_object(out, "compare");
	member(out, "installs", c->installs);
	member(out, "compared", c->compared);
	member(out, "different", c->different);
	member(out, "only_here", c->extra);
	member(out, "misplaced", c->misplaced);
	member(out, "leaves", c->leaves);
	member(out, "tables", c->tables);
	member(out, "mmio", c->mmio);
	member(out, "outcomes", c->outcomes);
	member(out, "outcomes_compared", c->outcomes_compared);
	member(out, "outcomes_different", c->outcomes_different);
	member(out, "codes_compared", c->codes_compared);
	member(out, "codes_lenient", c->codes_lenient);
	member(out, "codes_different", c->codes_different);
	json_sources(c, out);
	fprintf(out, "\"left_out_faults\": {");
	for (int k = REPLAY_SKIP_NONE + 1; k < REPLAY_SKIPS; k++)
		fprintf(out, "\"%s\": %lu%s", replay_skip_key((enum replay_skip)k),
			c->skipped_faults[k], k + 1 < REPLAY_SKIPS ? ", " : "}, ");
	fprintf(out, "\"left_out_installs\": {");
	for (int k = REPLAY_SKIP_NONE + 1; k < REPLAY_SKIPS; k++)
		member(out, replay_skip_key((enum replay_skip)k), c->skipped_installs[k]);
	last(out, "no_fault", c->unplaced_installs);
	fprintf(out, ", \"dirty_log\": {");
	member(out, "first_line", c->dirty.first_line);
	member(out, "last_line", c->dirty.last_line);
	json_tally(&c->dirty.words, "words", out);
	json_tally(&c->dirty.splits, "splits", out);
	json_tally(&c->dirty.fast, "fast_faults", out);
	json_tally(&c->dirty.behind, "left_behind", out);
	json_tally(&c->dirty.recovered, "nx_recovered", out);
	last(out, "only_here", c->dirty.extra);
	fprintf(out, "}");
	close_object(out);
}

void replay_json(const struct replay_summary *s, FILE *out)
{
	const struct replay *r = s->r;

	fprintf(out, "{");
	text(out, "vm", r->ops->name);
	member(out, "vcpus", r->nr_vcpus);
	fprintf(out, "\n");
	json_input(s, out);
	json_faults(r, out);
	json_vm(r, out);
	json_checks(r, out);
	if (r->ops->json)
		r->ops->json(r, out);
	if (s->compare)
		json_compare(s->compare, out);
	fprintf(out, " \"seconds\": {\"read\": %.3f, \"replay\": %.3f}}\n", s->read_seconds,
		s->replay_seconds);
}
