// SPDX-License-Identifier: BSD-2-Clause
/* Rules of failures on purpose: their text, and whom they hit. What can fail how is
 * inject_failures.c's. */
#include "cli/inject.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/inject_failures.h"
#include "cli/seamcall.h"
#include "tdx/host/host.h"

/* Failures one after the other that somebody who tries again may take for the last word: the host
 * half asks for entropy that often. */
#define PATIENCE 10

/* ---- messages ---- */

struct text {
	char *to;
	size_t size, len;
};

__attribute__((format(printf, 2, 3))) static void add(struct text *t, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(t->to + t->len, t->size - t->len, format, args);
	va_end(args);
	if (n > 0)
		t->len += (size_t)n < t->size - t->len ? (size_t)n : t->size - t->len - 1;
}

/* The name of a status without the TDX_ that all have. */
static const char *short_status(uint64_t status)
{
	const char *name = tdx_status_name(status);

	return name && !strncmp(name, "TDX_", 4) ? name + 4 : "?";
}

static void add_failures(struct text *t, enum tdh_leaf leaf)
{
	uint64_t status;

	for (unsigned int n = 0; (status = inject_failure(leaf, n)); n++) {
		bool known = false;

		/* One status with two operands is one name. */
		for (unsigned int k = 0; k < n; k++)
			known |= !((inject_failure(leaf, k) ^ status) & TDX_STATUS_MASK);
		if (!known)
			add(t, "%s%s", n ? ", " : "", short_status(status));
	}
}

static void add_errnos(struct text *t)
{
	for (unsigned int n = 0; inject_errno(n); n++)
		add(t, "%s%s", n ? ", " : "", inject_errno(n)->name);
}

static void add_calls(struct text *t)
{
	for (unsigned int i = 0; i < inject_nr_leaves(); i++)
		add(t, "%s%s", i ? ", " : "", tdx_leaf_name(inject_leaf(i)));
	for (unsigned int i = 0; i < TPT_CALL_NR; i++)
		add(t, ", %s", tpt_external_call_name((enum tpt_external_call)i));
}

void inject_list(FILE *out)
{
	char line[INJECT_WHY_LEN];

	for (unsigned int i = 0; i < inject_nr_leaves(); i++) {
		struct text t = {line, sizeof(line), 0};

		add_failures(&t, inject_leaf(i));
		fprintf(out, "  %s\n      %s\n", tdx_leaf_name(inject_leaf(i)), line);
	}
	for (unsigned int i = 0; i < TPT_CALL_NR; i++)
		fprintf(out, "%s%s", i ? ", " : "  ",
			tpt_external_call_name((enum tpt_external_call)i));
	add_errnos(&(struct text){line, sizeof(line), 0});
	fprintf(out, "\n      %s\n", line);
}

/* ---- CALL ---- */

static bool ends_with_word(const char *name, const char *end)
{
	size_t n = strlen(name), m = strlen(end);

	return m <= n && !strcmp(name + n - m, end) && (m == n || name[n - m - 1] == '.');
}

static int parse_leaf(struct inject_rule *r, const char *call, struct text *why)
{
	unsigned int found = 0;

	for (unsigned int i = 0; i < inject_nr_leaves(); i++) {
		if (!ends_with_word(tdx_leaf_name(inject_leaf(i)), call))
			continue;
		r->call = inject_leaf(i);
		found++;
	}
	if (found == 1)
		return 0;
	add(why, "inject %s: call \"%s\" %s; the calls are ", r->text, call,
	    found ? "is the end of more than one name" : "is unknown");
	add_calls(why);
	return -EINVAL;
}

static int parse_call(struct inject_rule *r, const char *call, struct text *why)
{
	for (unsigned int i = 0; i < TPT_CALL_NR; i++) {
		if (strcmp(call, tpt_external_call_name((enum tpt_external_call)i)) != 0)
			continue;
		r->kind = INJECT_ERRNO;
		r->call = i;
		return 0;
	}
	return parse_leaf(r, call, why);
}

/* ---- STATUS ---- */

static const char *spelled_out(const char *name)
{
	static const char *const brief[][2] = {
		{"BUSY", "OPERAND_BUSY"},
		{"HOST_PRIORITY", "OPERAND_BUSY_HOST_PRIORITY"},
		{"NO_ENTROPY", "RND_NO_ENTROPY"},
	};

	if (!strncmp(name, "TDX_", 4))
		return name + 4;
	for (size_t i = 0; i < sizeof(brief) / sizeof(brief[0]); i++)
		if (!strcmp(name, brief[i][0]))
			return brief[i][1];
	return name;
}

static int parse_errno(struct inject_rule *r, const char *name, struct text *why)
{
	for (unsigned int n = 0; inject_errno(n); n++) {
		if (strcmp(name, inject_errno(n)->name) != 0)
			continue;
		r->error = inject_errno(n)->error;
		r->transient = r->error == -EBUSY;
		return 0;
	}
	add(why, "inject %s: \"%s\" is no answer of an external call; those are ", r->text, name);
	add_errnos(why);
	return -EINVAL;
}

static int parse_status(struct inject_rule *r, const char *name, struct text *why)
{
	enum tdh_leaf leaf = (enum tdh_leaf)r->call;
	uint64_t status;

	if (r->kind == INJECT_ERRNO)
		return parse_errno(r, name, why);
	for (unsigned int n = 0; (status = inject_failure(leaf, n)); n++) {
		if (strcmp(spelled_out(name), short_status(status)) != 0)
			continue;
		r->status = status;
		r->kind = inject_by_interrupt(status) ? INJECT_INTERRUPT : INJECT_STATUS;
		r->transient = tdx_status_errno(status) == -EBUSY;
		return 0;
	}
	add(why, "inject %s: %s can't fail with \"%s\" before it has done anything; it can with ",
	    r->text, tdx_leaf_name(leaf), name);
	add_failures(why, leaf);
	return -EINVAL;
}

/* ---- WHEN ---- */

static bool parse_percent(struct inject_rule *r, char *text)
{
	char *rest = strchr(text, '%');

	if (!rest)
		return false;
	*rest++ = 0;
	r->when = INJECT_PERCENT;
	r->seed = 1;
	if (*rest && (strncmp(rest, "seed=", 5) != 0 || !cli_parse_u64(rest + 5, false, &r->seed)))
		return false;
	return cli_parse_u64(text, false, &r->n) && r->n <= 100;
}

static bool parse_count(struct inject_rule *r, const char *text)
{
	static const struct {
		const char *name;
		enum inject_when when;
	} forms[] = {{"first=", INJECT_FIRST}, {"from=", INJECT_FROM}, {"every=", INJECT_EVERY}};

	r->when = INJECT_NTH;
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		size_t n = strlen(forms[i].name);

		if (strncmp(text, forms[i].name, n) != 0)
			continue;
		r->when = forms[i].when;
		text += n;
		break;
	}
	return cli_parse_u64(text, false, &r->n) && r->n;
}

static int parse_when(struct inject_rule *r, const char *text, struct text *why)
{
	char copy[INJECT_TEXT_LEN];

	snprintf(copy, sizeof(copy), "%s", text);
	if (strchr(text, '%') ? parse_percent(r, copy) : parse_count(r, text))
		return 0;
	add(why,
	    "inject %s: \"%s\" is no time; must be N, first=N, from=N or every=N (N from 1 on), or "
	    "P%% or P%%seed=N (P 0 to 100)",
	    r->text, text);
	return -EINVAL;
}

/* ---- a rule ---- */

int inject_add(struct inject *inject, const char *text, char why[INJECT_WHY_LEN])
{
	struct inject_rule *r = &inject->rule[inject->nr];
	struct text message = {why, INJECT_WHY_LEN, 0};
	char copy[INJECT_TEXT_LEN], *status, *when;
	int err;

	why[0] = 0;
	if (inject->nr == INJECT_MAX) {
		add(&message, "inject %s: more than %d rules", text, INJECT_MAX);
		return -EINVAL;
	}
	snprintf(copy, sizeof(copy), "%s", text);
	status = strchr(copy, ':');
	when = status ? strchr(status + 1, ':') : NULL;
	if (!when || strlen(text) >= sizeof(copy)) {
		add(&message, "inject \"%.200s\": must be CALL:STATUS:WHEN", text);
		return -EINVAL;
	}
	*status++ = 0;
	*when++ = 0;
	memset(r, 0, sizeof(*r));
	snprintf(r->text, sizeof(r->text), "%s", text);
	err = parse_call(r, copy, &message);
	err = err ? err : parse_status(r, status, &message);
	err = err ? err : parse_when(r, when, &message);
	inject->nr += !err;
	return err;
}

bool inject_has(const struct inject *inject, enum inject_kind kind)
{
	for (unsigned int i = 0; inject && i < inject->nr; i++)
		if (inject->rule[i].kind == kind)
			return true;
	return false;
}

/* ---- calls ---- */

/* splitmix64, as run_random(): the same call of the same seed is hit again. */
static uint64_t chance(uint64_t seed, uint64_t call)
{
	uint64_t z = seed * 0x9e3779b97f4a7c15ull + call * 0xd1342543de82ef95ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

/* @call: from 1 on. */
static bool is_time(const struct inject_rule *r, uint64_t call)
{
	switch (r->when) {
	case INJECT_NTH:
		return call == r->n;
	case INJECT_FIRST:
		return call <= r->n;
	case INJECT_FROM:
		return call >= r->n;
	case INJECT_EVERY:
		return !(call % r->n);
	case INJECT_PERCENT:
		return chance(r->seed, call) % 100 < r->n;
	}
	return false;
}

/* Counts the call for @r. */
static bool hits(struct inject_rule *r)
{
	uint64_t call = atomic_fetch_add(&r->calls, 1) + 1, row, longest;

	if (!is_time(r, call)) {
		atomic_store(&r->row, 0);
		return false;
	}
	atomic_fetch_add(&r->hits, 1);
	row = atomic_fetch_add(&r->row, 1) + 1;
	longest = atomic_load(&r->longest);
	while (row > longest && !atomic_compare_exchange_weak(&r->longest, &longest, row))
		;
	return true;
}

/* Every rule for the call counts it; the first that hits decides. */
static struct inject_rule *find(struct inject *inject, bool external, unsigned int call)
{
	struct inject_rule *hit = NULL;

	for (unsigned int i = 0; inject && i < inject->nr; i++) {
		struct inject_rule *r = &inject->rule[i];

		if ((r->kind == INJECT_ERRNO) != external || r->call != call)
			continue;
		if (!hit && hits(r))
			hit = r;
		else if (hit)
			atomic_fetch_add(&r->calls, 1);
	}
	return hit;
}

/* Leaves that describe an entry or a page clear RCX and RDX first (ABI, "output operands"). */
static bool describes(unsigned int leaf)
{
	switch (leaf) {
	case TDH_MEM_PAGE_ADD:
	case TDH_MEM_SEPT_ADD:
	case TDH_MEM_PAGE_AUG:
	case TDH_MEM_RANGE_BLOCK:
	case TDH_MEM_RANGE_UNBLOCK:
	case TDH_MEM_PAGE_REMOVE:
	case TDH_MEM_PAGE_PROMOTE:
	case TDH_MEM_PAGE_DEMOTE:
	case TDH_MEM_SEPT_RD:
	case TDH_MR_EXTEND:
	case TDH_PHYMEM_PAGE_RECLAIM:
		return true;
	default:
		return false;
	}
}

const struct inject_rule *inject_seamcall(struct inject *inject, struct tdx_regs *regs)
{
	unsigned int leaf = regs->rax & TDX_RAX_LEAF;
	const struct inject_rule *r = find(inject, false, leaf);

	if (!r || r->kind != INJECT_STATUS)
		return r;
	regs->rax = r->status;
	if (describes(leaf))
		regs->rcx = regs->rdx = 0;
	return r;
}

int inject_external(struct inject *inject, enum tpt_external_call call)
{
	const struct inject_rule *r = find(inject, true, call);

	return r ? r->error : 0;
}

/* ---- what came of it ---- */

uint64_t inject_hits(const struct inject *inject)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; inject && i < inject->nr; i++)
		sum += atomic_load(&inject->rule[i].hits);
	return sum;
}

bool inject_hit_for_good(const struct inject *inject)
{
	for (unsigned int i = 0; inject && i < inject->nr; i++) {
		const struct inject_rule *r = &inject->rule[i];

		if (atomic_load(&r->hits) &&
		    (!r->transient || atomic_load(&r->longest) >= PATIENCE))
			return true;
	}
	return false;
}

const char *inject_call_name(const struct inject_rule *r)
{
	return r->kind == INJECT_ERRNO ? tpt_external_call_name((enum tpt_external_call)r->call)
				       : tdx_leaf_name(r->call);
}

void inject_status_name(const struct inject_rule *r, char *text, size_t size)
{
	if (r->kind == INJECT_ERRNO) {
		for (unsigned int n = 1; inject_errno(n); n++)
			if (inject_errno(n)->error == r->error)
				snprintf(text, size, "%s", inject_errno(n)->name);
		return;
	}
	sc_status_name(r->status, text, size);
}
