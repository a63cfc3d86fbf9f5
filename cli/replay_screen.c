// SPDX-License-Identifier: BSD-2-Clause
/* One screen of a replay, for people. Counts nothing. */
#include "cli/replay.h"

#include <stdarg.h>
#include <string.h>

#define NAME_WIDTH 11

const char *replay_number(uint64_t n, char buf[REPLAY_NUMBER_LEN])
{
	char digits[24];
	int len = snprintf(digits, sizeof(digits), "%lu", n), out = 0;

	for (int i = 0; i < len; i++) {
		if (i && !((len - i) % 3))
			buf[out++] = ',';
		buf[out++] = digits[i];
	}
	buf[out] = 0;
	return buf;
}

/* A number for an argument list: one buffer for each use. */
#define NUM(n) replay_number(n, (char[REPLAY_NUMBER_LEN]){0})

void replay_line(FILE *out, const char *name, const char *format, ...)
{
	va_list args;

	fprintf(out, "%-*s ", NAME_WIDTH, name);
	va_start(args, format);
	vfprintf(out, format, args);
	va_end(args);
	fputc('\n', out);
}

/* A list of "3 this, 4 that", or "none". */
struct list {
	char text[512];
	size_t len;
};

__attribute__((format(printf, 3, 4))) static void list_add(struct list *l, uint64_t n,
							   const char *format, ...)
{
	char what[160];
	va_list args;
	int added;

	if (!n || l->len >= sizeof(l->text))
		return;
	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	added = snprintf(l->text + l->len, sizeof(l->text) - l->len, "%s%s %s", l->len ? ", " : "",
			 NUM(n), what);
	l->len += added > 0 ? (size_t)added : 0;
}

static const char *list_text(const struct list *l)
{
	return l->len ? l->text : "none";
}

/* ---- input ---- */

static void print_setting(const char *name, enum host_setting setting, const char *source,
			  FILE *out)
{
	fprintf(out, "%s %s (%s)", name, setting == HOST_ON ? "on" : "off", source);
}

/* The recording host, as the VM here was made for it. */
static void print_settings(const struct replay *r, FILE *out)
{
	const struct replay_settings s = replay_settings(r);

	fprintf(out, "%-*s ", NAME_WIDTH, "");
	print_setting("eager page split", s.eager, s.eager_source, out);
	print_setting(", NX huge pages", s.nx, s.nx_source, out);
	print_setting(", huge host pages", s.thp, s.thp_source, out);
	fputc('\n', out);
}

static void print_dirty(const struct replay *r, FILE *out)
{
	const uint64_t *n = r->counts.dirty_calls;

	if (n[DIRTY_NX_RECOVER])
		replay_line(out, "", "%s tables taken away by NX recovery",
			    NUM(n[DIRTY_NX_RECOVER]));
	if (n[DIRTY_ZAP] && r->dirty->mode == DIRTY_NONE)
		replay_line(out, "", "%s tables of small leaves taken away", NUM(n[DIRTY_ZAP]));
	if (r->dirty->mode == DIRTY_NONE)
		return;
	replay_line(out, "dirty logs", "%s (%s)", dirty_mode_name(r->dirty->mode),
		    r->dirty->mode_shown ? "the trace shows it"
					 : "a manual log cleared as a whole would look the same");
	if (r->counts.dirty_calls_skipped)
		replay_line(out, "", "%s calls passed over: this kind of VM has none",
			    NUM(r->counts.dirty_calls_skipped));
	else
		replay_line(out, "",
			    "%s slots logged, %s no more; %s logs read, %s read and cleared, %s "
			    "ranges cleared; %s tables taken away",
			    NUM(n[DIRTY_LOG_ON]), NUM(n[DIRTY_LOG_OFF]), NUM(n[DIRTY_READ]),
			    NUM(n[DIRTY_GET]), NUM(n[DIRTY_CLEAR]), NUM(n[DIRTY_ZAP]));
}

static void print_input(const struct replay_summary *s, FILE *out)
{
	const struct replay *r = s->r;
	const struct trace *t = r->t;
	const struct replay_counts *c = &r->counts;
	struct list zaps = {0};
	uint64_t others = 0;

	for (uint32_t i = 0; i < t->nr_others; i++)
		others += t->others[i].count;
	replay_line(out, "trace", "%s lines, %s events, %s of no use here, %u bad%s", NUM(t->lines),
		    NUM(t->nr_events), NUM(others), t->nr_bad, t->cut ? "; cut off" : "");
	list_add(&zaps, c->zaps_without_delete, "that no deletion explains");
	list_add(&zaps, c->deletes_without_zap, "deletions without one");
	replay_line(out, "slots", "%s; %s made, %s deleted, %s zap-alls%s%s",
		    s->slots_path ? s->slots_path : "inferred from the trace (above)",
		    NUM(c->slots_created), NUM(c->slots_deleted), NUM(c->zaps),
		    zaps.len ? "; of them: " : "", zaps.len ? zaps.text : "");
	if (c->fillers)
		replay_line(out, "",
			    "%s changes of unused slots, to reach the generations recorded in MMIO "
			    "entries",
			    NUM(c->fillers));
	if (c->generations_different)
		replay_line(out, "", "%s of %s generations differ from the slots' history",
			    NUM(c->generations_different), NUM(c->generations));
	replay_line(out, "host",
		    "%s notifier ranges delivered; they removed %s entries (recorded: %s)",
		    NUM(c->host_events), NUM(c->host_removed), NUM(c->host_removed_recorded));
	print_settings(r, out);
	print_dirty(r, out);
}

/* ---- faults ---- */

static void print_access(const struct replay_counts *c, enum replay_access a, FILE *out)
{
	static const char *const names[REPLAY_ACCESSES] = {"  read", "  write", "  fetch",
							   "  page walk"};
	uint64_t total = 0;

	for (int k = 0; k < REPLAY_RESULTS; k++)
		total += c->results[a][k];
	if (!total)
		return;
	fprintf(out, "%-*s ", NAME_WIDTH, names[a]);
	for (int k = 0; k < REPLAY_RESULTS; k++)
		fprintf(out, "%10s", NUM(c->results[a][k]));
	fprintf(out, "%10s\n", NUM(total));
}

static void print_faults(const struct replay *r, FILE *out)
{
	fprintf(out, "\n%-*s ", NAME_WIDTH, "faults");
	for (int k = 0; k < REPLAY_RESULTS; k++)
		fprintf(out, "%10s", replay_result_name((enum replay_result)k));
	fprintf(out, "%10s\n", "all");
	for (int a = 0; a < REPLAY_ACCESSES; a++)
		print_access(&r->counts, (enum replay_access)a, out);
	for (int k = REPLAY_SKIP_NONE + 1; k < REPLAY_SKIPS; k++)
		if (r->counts.skips[k])
			replay_line(out, "", "%s: %s", NUM(r->counts.skips[k]),
				    replay_skip_name((enum replay_skip)k));
}

/* ---- trees ---- */

static void print_tree(const struct tpt_tree_stats *t, const char *name, FILE *out)
{
	fprintf(out, "%-*s %10s%10s%10s%10s%10s%10s   %s KiB\n", NAME_WIDTH, name, NUM(t->pages_4k),
		NUM(t->pages_2m), NUM(t->pages_1g), NUM(t->mmio), NUM(t->blocked), NUM(t->tables),
		NUM(t->tables * 4));
}

static void print_trees(const struct replay *r, FILE *out)
{
	const struct tpt_vm_stats *s = &r->stats;

	fprintf(out, "\n%-*s %10s%10s%10s%10s%10s%10s   %s\n", NAME_WIDTH, "at the end", "4 KiB",
		"2 MiB", "1 GiB", "MMIO", "blocked", "tables", "table memory");
	print_tree(&s->direct, "  direct", out);
	if (s->mirror.tables)
		print_tree(&s->mirror, "  mirror", out);
}

/* ---- calls, flushes, kicks ---- */

static void print_calls(const struct replay *r, FILE *out)
{
	struct list l = {0}, busy = {0};

	for (int k = 0; k < TPT_CALL_NR; k++) {
		const char *name = tpt_external_call_name((enum tpt_external_call)k);

		list_add(&l, r->stats.vcpus.external_calls[k], "%s", name);
		list_add(&busy, r->stats.vcpus.external_busy[k], "%s", name);
	}
	replay_line(out, "external", "%s%s%s", list_text(&l), busy.len ? "; busy: " : "",
		    busy.len ? busy.text : "");
}

static void print_flushes(const struct replay *r, FILE *out)
{
	struct list flushes = {0}, kicks = {0};

	for (int k = 0; k < TPT_FLUSH_NR; k++)
		list_add(&flushes, r->stats.flush[k], "%s", replay_flush_text((unsigned int)k));
	for (int k = 0; k < TPT_KICK_NR; k++)
		list_add(&kicks, r->stats.kick[k], "%s", replay_kick_text((unsigned int)k));
	replay_line(out, "flushes", "%s", list_text(&flushes));
	replay_line(out, "kicks", "%s", list_text(&kicks));
}

static void print_soundness(const struct replay *r, FILE *out)
{
	replay_line(out, "processor", "%s accesses, %s TLB hits, %s walks, %s entries read",
		    NUM(r->cpu.accesses), NUM(r->cpu.tlb_hits), NUM(r->cpu.walks),
		    NUM(r->cpu.entries_read));
	replay_line(out, "checks",
		    "%s missing flushes, %d audit findings, %s platform rules broken or pages "
		    "leaked%s",
		    NUM(r->judge_reports), r->audit_faults, NUM(r->misuses),
		    r->dead ? ", THE VM IS DEAD" : "");
	if (r->counts.not_fixed)
		replay_line(out, "", "%s accesses failed again after the library had fixed them",
			    NUM(r->counts.not_fixed));
	if (r->judge_reports)
		replay_line(out, "", "first: %s", r->judge_text);
	if (r->audit_faults)
		replay_line(out, "", "first: %s", r->audit_text);
	if (r->dead)
		replay_line(out, "", "%s", r->dead_text);
	if (r->kind_text[0])
		replay_line(out, "", "%s", r->kind_text);
}

/* ---- the comparison ---- */

static void print_sources(const struct replay_summary *s, FILE *out)
{
	const struct replay_compare *c = s->compare;

	replay_line(out, "",
		    "what stood behind the leaves was told, never by the word compared, by:");
	for (int k = 0; k < BACKING_FRAME_OWN_LATER; k++)
		if (c->frames[k])
			replay_line(out, "  frames", "%9s  %s", NUM(c->frames[k]),
				    backing_frame_name((enum backing_frame)k));
	for (int k = 0; k < BACKING_LEVELS; k++)
		if (c->levels[k])
			replay_line(out, "  levels", "%9s  %s", NUM(c->levels[k]),
				    backing_level_name((enum backing_level)k));
	for (int k = 0; k < BACKING_WRITES; k++)
		if (c->writes[k])
			replay_line(out, "  access", "%9s  %s", NUM(c->writes[k]),
				    backing_write_name((enum backing_write)k));
	replay_line(out, "", "apart from these, by the compared entry itself:");
	replay_line(out, "  frames", "%9s  its word; %s a later record of it (its removal)",
		    NUM(c->frames[BACKING_FRAME_OWN]), NUM(c->frames[BACKING_FRAME_OWN_LATER]));
	replay_line(out, "  levels", "%9s  %s", NUM(c->level_from_own),
		    s->slots_path ? "" : "slot edges inferred from it alone");
	replay_line(out, "  access", "%9s  %s", NUM(c->access_from_own),
		    s->slots_path ? "" : "slots inferred from it alone");
}

static void print_left_out(const struct replay_compare *c, FILE *out)
{
	uint64_t faults = 0, installs = c->unplaced_installs;

	for (int k = REPLAY_SKIP_NONE + 1; k < REPLAY_SKIPS; k++) {
		faults += c->skipped_faults[k];
		installs += c->skipped_installs[k];
	}
	replay_line(out, "  left out", "%s faults and %s installs", NUM(faults), NUM(installs));
	for (int k = REPLAY_SKIP_NONE + 1; k < REPLAY_SKIPS; k++)
		if (c->skipped_faults[k])
			replay_line(out, "", "%s faults, %s installs: %s",
				    NUM(c->skipped_faults[k]), NUM(c->skipped_installs[k]),
				    replay_skip_name((enum replay_skip)k));
	if (c->unplaced_installs)
		replay_line(out, "", "%s installs that belong to no recorded fault",
			    NUM(c->unplaced_installs));
}

static void print_tally(const char *name, const struct replay_tally *t, FILE *out)
{
	replay_line(out, name, "%s recorded, %s compared, %s different", NUM(t->recorded),
		    NUM(t->compared), NUM(t->different));
}

static void print_dirty_compare(const struct replay_compare *c, FILE *out)
{
	const struct replay_compare_dirty *d = &c->dirty;

	if (d->first_line)
		replay_line(out, "  dirty log", "lines %u-%u", d->first_line, d->last_line);
	print_tally("  protected", &d->words, out);
	print_tally("  splits", &d->splits, out);
	print_tally("  fast faults", &d->fast, out);
	print_tally("  left behind", &d->behind, out);
	if (d->recovered.recorded)
		print_tally("  recovered", &d->recovered, out);
}

static void print_compare(const struct replay_summary *s, FILE *out)
{
	const struct replay_compare *c = s->compare;

	fprintf(out, "\n");
	replay_line(out, "compare",
		    "%s leaves, %s tables (but for their address), %s MMIO words "
		    "(whole)",
		    NUM(c->leaves), NUM(c->tables), NUM(c->mmio));
	print_sources(s, out);
	print_left_out(c, out);
	print_dirty_compare(c, out);
	replay_line(out, "  outcomes", "%s recorded, %s compared, %s different", NUM(c->outcomes),
		    NUM(c->outcomes_compared), NUM(c->outcomes_different));
	replay_line(out, "  codes", "%s error codes compared, %s different", NUM(c->codes_compared),
		    NUM(c->codes_different));
	if (c->codes_lenient)
		replay_line(
			out, "",
			"in %s the recording says RSVD without P; a processor sets both (APM 2, "
			"15.25.6): P is not compared there",
			NUM(c->codes_lenient));
	if (c->nr_findings)
		fprintf(out, "\nfirst differences\n");
	replay_compare_findings(c, out);
}

void replay_screen(const struct replay_summary *s, FILE *out)
{
	const struct replay *r = s->r;

	fprintf(out, "%s as %s, %u vCPU%s\n", s->trace_path, r->ops->name, r->nr_vcpus,
		r->nr_vcpus == 1 ? "" : "s");
	print_input(s, out);
	print_faults(r, out);
	print_trees(r, out);
	fprintf(out, "\n");
	print_calls(r, out);
	print_flushes(r, out);
	if (r->ops->screen)
		r->ops->screen(r, out);
	print_soundness(r, out);
	if (s->compare)
		print_compare(s, out);
	replay_line(out, "time", "%.2f s to read and infer, %.2f s to replay", s->read_seconds,
		    s->replay_seconds);
	if (s->compare)
		fprintf(out, "installs: %lu recorded, %lu compared, %lu different\n",
			s->compare->installs, s->compare->compared, s->compare->different);
}
