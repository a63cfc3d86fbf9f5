// SPDX-License-Identifier: BSD-2-Clause
/* What a TD's replay adds to the screen and to the JSON object. Counts nothing. */
#include "cli/replay_td.h"

#include "cli/cli.h"

#define NUM(n) replay_number(n, (char[REPLAY_NUMBER_LEN]){0})

static const char *const rule_texts[REPLAY_TD_RULES] = {
	[REPLAY_TD_ROM_WRITE] = "writes to read-only slots are writes to memory",
	[REPLAY_TD_MMIO_AS_RAM] = "accesses that were MMIO then are in memory here",
	[REPLAY_TD_WINDOW_ACCESS] = "accesses in the window while it was shared, by the shared bit",
	[REPLAY_TD_SHARED_FETCH] = "fetches from shared memory or a device: left out",
	[REPLAY_TD_HIT] = "found their page there: built in, kept, or asked for once more",
};

static const char *const rule_keys[REPLAY_TD_RULES] = {
	[REPLAY_TD_ROM_WRITE] = "rom_writes",
	[REPLAY_TD_MMIO_AS_RAM] = "mmio_as_ram",
	[REPLAY_TD_WINDOW_ACCESS] = "window_accesses",
	[REPLAY_TD_SHARED_FETCH] = "shared_fetches",
	[REPLAY_TD_HIT] = "hits",
};

static const char *const exit_texts[TD_EXITS] = {
	[TD_EXIT_INTERRUPT] = "kicks",
	[TD_EXIT_PRIVATE] = "private violations",
	[TD_EXIT_ACCEPT] = "ACCEPTs of absent pages",
	[TD_EXIT_SHARED] = "shared violations",
	[TD_EXIT_VMCALL_MMIO] = "MMIO calls",
	[TD_EXIT_VMCALL_MAP_GPA] = "MapGPA calls",
	[TD_EXIT_OTHER] = "other",
};

static void print_mrtd(const uint8_t mrtd[48], char text[97])
{
	for (int i = 0; i < 48; i++)
		snprintf(text + 2 * i, 3, "%02x", mrtd[i]);
}

/* ---- the screen ---- */

static void print_trace_part(const struct replay_td *td, FILE *out)
{
	fprintf(out, "\nfrom the trace, under a TD's rules\n");
	replay_line(out, "  memory",
		    "%s KiB that a slot ever showed, all private; %s KiB of it was read-only",
		    NUM(td->ram_bytes >> 10), NUM(td->read_only_bytes >> 10));
	replay_line(out, "", "%s slot changes and %s more zap-alls passed over",
		    NUM(td->slot_changes), NUM(td->zap_alls));
	for (int i = 0; i < REPLAY_TD_RULES; i++)
		if (td->rules[i])
			replay_line(out, i ? "" : "  rules", "%s %s", NUM(td->rules[i]),
				    rule_texts[i]);
}

static void print_window(const struct replay_td *td, FILE *out)
{
	if (td->window == ~0ull) {
		replay_line(out, "  window",
			    "none: no block of 2 MiB had pages that came by fault");
		return;
	}
	replay_line(out, "  window",
		    "[%#lx, %#lx) shared from line %lu to line %lu: %s pages removed,", td->window,
		    td->window + REPLAY_TD_WINDOW, td->window_open_line, td->window_close_line,
		    NUM(td->window_removed));
	replay_line(out, "", "%s words passed between guest and host, %s pages accepted again",
		    NUM(td->window_words), NUM(td->window_accepts));
}

static void print_own_part(const struct replay_td *td, FILE *out)
{
	char mrtd[97];

	print_mrtd(td->mrtd, mrtd);
	fprintf(out, "\nours, in no trace\n");
	replay_line(out, "  built",
		    "%s pages added and measured: %s of the first megabyte, %s that the",
		    NUM(td->built), NUM(td->built_first_megabyte),
		    NUM(td->built - td->built_first_megabyte));
	replay_line(out, "", "guest reads or executes before it writes them");
	replay_line(out, "  MRTD", "%s", mrtd);
	replay_line(out, "  accepts", "%s pages, after %s #VEs because a page was not accepted",
		    NUM(td->stats.accepts), NUM(td->stats.ve_private));
	print_window(td, out);
	replay_line(out, "  content", "%s words read back, %s wrong", NUM(td->words_checked),
		    NUM(td->words_wrong));
}

static void print_exits(const struct replay_td *td, FILE *out)
{
	char text[256];
	size_t len = 0;

	for (int i = 0; i < TD_EXITS && len < sizeof(text); i++)
		if (td->stats.exits[i])
			len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s %s",
						len ? ", " : "", NUM(td->stats.exits[i]),
						exit_texts[i]);
	replay_line(out, "TD exits", "%s", len ? text : "none");
	replay_line(out, "#VE", "%s by the processor at shared addresses, without an exit",
		    NUM(td->stats.ve_shared));
}

static void print_calls(const struct replay_td *td, FILE *out)
{
	const struct tdx_host_stats *h = &td->remains.host;
	const char *name = "SEAMCALLs";

	for (unsigned int i = 0; i < TDX_HOST_LEAVES; i++) {
		const struct tdx_leaf_stats *l = &h->leaf[i];

		if (!l->ok && !l->busy && !l->failed)
			continue;
		fprintf(out, "%-11s %-26s %10s", name, tdx_leaf_name(i), NUM(l->ok));
		if (l->busy)
			fprintf(out, ", %s busy", NUM(l->busy));
		if (l->failed)
			fprintf(out, ", %s failed", NUM(l->failed));
		fprintf(out, "\n");
		name = "";
	}
	fprintf(out, "%-11s %-26s %10s\n", "", "all, teardown included", NUM(h->calls));
}

static void print_end(const struct replay_td *td, FILE *out)
{
	const struct simtd_remains *e = &td->remains;

	replay_line(out, "teardown", "%s pages and %s tables came back after the key was gone",
		    NUM(e->reclaimed_leaves), NUM(e->reclaimed_tables));
	replay_line(out, "",
		    "%s PAMT entries looked at, %s still in use; %s pages leaked; frames %+ld",
		    NUM(e->pamt_pages), NUM(e->pamt_in_use), NUM(e->leaked + e->leaked_by_host),
		    e->frames);
	replay_line(out, "audits", "%s while it ran, %s findings%s%s", NUM(td->audits),
		    NUM(td->audit_findings), td->audit_findings ? ": " : "", td->audit_text);
	if (td->failed)
		replay_line(out, "FAILED", "%s accesses; the first: %s", NUM(td->failed),
			    td->failed_text);
}

void replay_td_screen(const struct replay *r, FILE *out)
{
	const struct replay_td *td = r->vm;

	if (!td)
		return;
	replay_line(out, "Secure EPT", "%s pages accepted, %s pending, %s blocked, %s tables",
		    NUM(td->external_mapped), NUM(td->external_pending), NUM(td->external_blocked),
		    NUM(td->external_tables));
	print_exits(td, out);
	print_calls(td, out);
	print_end(td, out);
	print_trace_part(td, out);
	print_own_part(td, out);
	fprintf(out, "\n");
}

/* ---- JSON ---- */

static void member(FILE *out, const char *name, uint64_t value)
{
	fprintf(out, "\"%s\": %lu, ", name, value);
}

static void last(FILE *out, const char *name, uint64_t value)
{
	fprintf(out, "\"%s\": %lu}", name, value);
}

static void json_rules(const struct replay_td *td, FILE *out)
{
	fprintf(out, "\"rules\": {");
	for (int i = 0; i < REPLAY_TD_RULES; i++)
		member(out, rule_keys[i], td->rules[i]);
	member(out, "slot_changes", td->slot_changes);
	last(out, "zap_alls", td->zap_alls);
	fprintf(out, ", ");
}

static void json_window(const struct replay_td *td, FILE *out)
{
	bool any = td->window != ~0ull;

	fprintf(out, "\"window\": {\"converted\": %s, ", any ? "true" : "false");
	member(out, "gpa", any ? td->window : 0);
	member(out, "bytes", any ? REPLAY_TD_WINDOW : 0);
	member(out, "open_line", td->window_open_line);
	member(out, "close_line", td->window_close_line);
	member(out, "removed", td->window_removed);
	member(out, "accepts", td->window_accepts);
	last(out, "words", td->window_words);
	fprintf(out, ", ");
}

static void json_guest(const struct replay_td *td, FILE *out)
{
	member(out, "accepts", td->stats.accepts);
	member(out, "ve_private", td->stats.ve_private);
	member(out, "ve_shared", td->stats.ve_shared);
	member(out, "tdcalls", td->stats.tdcalls);
	member(out, "map_gpa_retries", td->stats.map_gpa_retries);
	member(out, "fault_retries", td->stats.retries);
	fprintf(out, "\"exits\": {");
	for (int i = 0; i < TD_EXITS; i++)
		fprintf(out, "\"%s\": %lu%s", simtd_exit_name((enum simtd_exit)i),
			td->stats.exits[i], i + 1 < TD_EXITS ? ", " : "}, ");
}

static void json_seamcalls(const struct tdx_host_stats *h, FILE *out)
{
	fprintf(out, "\"seamcalls\": {");
	for (unsigned int i = 0; i < TDX_HOST_LEAVES; i++) {
		const struct tdx_leaf_stats *l = &h->leaf[i];

		if (!tdx_leaf_name(i) || (!l->ok && !l->busy && !l->failed))
			continue;
		fprintf(out, "\"%s\": {", tdx_leaf_name(i));
		member(out, "ok", l->ok);
		member(out, "busy", l->busy);
		last(out, "failed", l->failed);
		fprintf(out, ", ");
	}
	last(out, "all", h->calls);
	fprintf(out, ", ");
}

static void json_end(const struct replay_td *td, FILE *out)
{
	const struct simtd_remains *e = &td->remains;

	fprintf(out, "\"teardown\": {");
	fprintf(out, "\"clean\": %s, ", td->torn_down && simtd_ended_clean(e) ? "true" : "false");
	member(out, "reclaimed_leaves", e->reclaimed_leaves);
	member(out, "reclaimed_tables", e->reclaimed_tables);
	member(out, "pamt_entries", e->pamt_pages);
	member(out, "pamt_in_use", e->pamt_in_use);
	member(out, "leaked", e->leaked + e->leaked_by_host);
	fprintf(out, "\"frames\": %ld}, ", e->frames);
}

void replay_td_json(const struct replay *r, FILE *out)
{
	const struct replay_td *td = r->vm;
	char mrtd[97];

	if (!td)
		return;
	print_mrtd(td->mrtd, mrtd);
	fprintf(out, " \"td\": {\"mrtd\": \"%s\", ", mrtd);
	member(out, "ram_bytes", td->ram_bytes);
	member(out, "read_only_bytes", td->read_only_bytes);
	member(out, "built", td->built);
	member(out, "built_first_megabyte", td->built_first_megabyte);
	json_rules(td, out);
	json_window(td, out);
	json_guest(td, out);
	fprintf(out, "\"external\": {");
	member(out, "mapped", td->external_mapped);
	member(out, "pending", td->external_pending);
	member(out, "blocked", td->external_blocked);
	last(out, "tables", td->external_tables);
	fprintf(out, ", ");
	json_seamcalls(&td->remains.host, out);
	json_end(td, out);
	member(out, "words_checked", td->words_checked);
	member(out, "words_wrong", td->words_wrong);
	member(out, "audits", td->audits);
	member(out, "audit_findings", td->audit_findings);
	last(out, "failed_accesses", td->failed);
	fprintf(out, ",\n");
}
