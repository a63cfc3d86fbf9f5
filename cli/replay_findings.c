// SPDX-License-Identifier: BSD-2-Clause
/* Differences that a comparison found: when two words are the same, what is kept of one that is
 * not, and how it is printed, field by field. Looks for none. */
#include "cli/replay.h"

#include <string.h>

#include <triptych/spte.h>

#define ADDR_MASK 0x000ffffffffff000ull

/* Where a table lies is the host's affair; all else of its word is not. */
bool replay_same_word(const struct replay_word *a, const struct replay_word *b)
{
	enum trace_word what = trace_word_class(a->word, a->level);
	uint64_t differs = a->word ^ b->word;

	if (a->there != b->there || a->as_id != b->as_id || a->level != b->level ||
	    a->gfn != b->gfn || what != trace_word_class(b->word, b->level))
		return false;
	return !(what == TRACE_WORD_TABLE ? differs & ~ADDR_MASK : differs);
}

struct replay_finding *replay_compare_find(struct replay_compare *c, enum replay_difference what,
					   uint32_t line)
{
	struct replay_finding *n;

	if (c->nr_findings == REPLAY_MAX_FINDINGS)
		return NULL;
	n = &c->findings[c->nr_findings++];
	*n = (struct replay_finding){.what = what, .line = line};
	return n;
}

/* ---- findings as text ---- */

static enum tpt_word_format format_of(const struct replay_word *w)
{
	return trace_word_class(w->word, w->level) == TRACE_WORD_MMIO ? TPT_WORD_MMIO
								      : TPT_WORD_NPT;
}

static void print_row(FILE *out, const char *name, bool a, uint64_t x, bool b, uint64_t y)
{
	char left[32] = "-", right[32] = "-";

	if (a)
		snprintf(left, sizeof(left), "%#lx", x);
	if (b)
		snprintf(right, sizeof(right), "%#lx", y);
	fprintf(out, "      %-16s %-20s %-20s%s\n", name, left, right,
		a != b || x != y ? " <- differs" : "");
}

static const struct tpt_word_field *field_named(const struct tpt_word *w, const char *name)
{
	for (uint32_t i = 0; i < w->nr_fields; i++)
		if (!strcmp(w->field[i].name, name))
			return &w->field[i];
	return NULL;
}

static void print_fields(FILE *out, const struct replay_word *a, const struct replay_word *b)
{
	struct tpt_word x = {0}, y = {0};

	if (a->there)
		tpt_word_decode(a->word, format_of(a), &x);
	if (b->there)
		tpt_word_decode(b->word, format_of(b), &y);
	for (uint32_t i = 0; i < x.nr_fields; i++) {
		const struct tpt_word_field *f = field_named(&y, x.field[i].name);

		print_row(out, x.field[i].name, true, x.field[i].value, f, f ? f->value : 0);
	}
	for (uint32_t i = 0; i < y.nr_fields; i++)
		if (!field_named(&x, y.field[i].name))
			print_row(out, y.field[i].name, false, 0, true, y.field[i].value);
}

static void print_words(FILE *out, const struct replay_finding *n)
{
	const struct replay_word *a = &n->recorded, *b = &n->ours;

	fprintf(out, "      %-16s %-20s %s\n", "", "recorded", "here");
	print_row(out, "address space", a->there, a->as_id, b->there, b->as_id);
	print_row(out, "level", a->there, a->level, b->there, b->level);
	print_row(out, "gfn", a->there, a->gfn, b->there, b->gfn);
	print_row(out, "word", a->there, a->word, b->there, b->word);
	if (n->recorded_old || n->our_old)
		print_row(out, "word before", a->there, n->recorded_old, b->there, n->our_old);
	print_fields(out, a, b);
}

void replay_compare_findings(const struct replay_compare *c, FILE *out)
{
	static const char *const what[] = {
		[REPLAY_DIFFERENT_WORD] = "another word",
		[REPLAY_DIFFERENT_MISSING] = "not installed here",
		[REPLAY_DIFFERENT_EXTRA] = "installed only here",
		[REPLAY_DIFFERENT_PLACE] = "recorded where its fault can't install",
		[REPLAY_DIFFERENT_OUTCOME] = "another end",
		[REPLAY_DIFFERENT_CODE] = "another error code",
		[REPLAY_DIFFERENT_CHANGE] = "dirty log: another change",
		[REPLAY_DIFFERENT_FAST] = "fast fault: another change",
		[REPLAY_DIFFERENT_BEHIND] = "another leaf after a call of the dirty log",
	};

	for (unsigned int i = 0; i < c->nr_findings; i++) {
		const struct replay_finding *n = &c->findings[i];

		if (n->what == REPLAY_DIFFERENT_CHANGE || n->what == REPLAY_DIFFERENT_BEHIND)
			fprintf(out, "  line %u: %s\n", n->line, what[n->what]);
		else
			fprintf(out, "  line %u: vCPU %u, gpa %#lx, error code %#lx: %s\n", n->line,
				n->vcpu, n->gpa, n->error_code, what[n->what]);
		if (n->what == REPLAY_DIFFERENT_CODE)
			print_row(out, "error code", true, n->error_code, true, n->our_code);
		else if (n->what == REPLAY_DIFFERENT_OUTCOME)
			fprintf(out, "      recorded: %s; here: %s\n", n->expected, n->result);
		else
			print_words(out, n);
	}
}
