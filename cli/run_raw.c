// SPDX-License-Identifier: BSD-2-Clause
/*
 * Calls that a scenario makes by itself: SEAMCALLs behind the host half's back, TDCALLs and
 * accesses of a guest that handles nothing. The host half and the library go on beside them. What
 * comes of a call is compared with what the scenario expects; nothing here knows what should.
 */
#include "cli/run.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/seamcall.h"
#include "cli/td_internal.h"

#define ENTRY_HPA  0x000ffffffffff000ull
#define TERM_LEN   RUN_VALUE_LEN
#define STATUS_LEN 96

/* ---- values ---- */

/* A number, with K, M or G after it. */
static bool number_of(const char *term, uint64_t *value)
{
	static const char units[] = "KMG";
	size_t len = strlen(term);
	const char *unit = len > 1 ? strchr(units, term[len - 1]) : NULL;
	char digits[TERM_LEN];

	if (!isdigit((unsigned char)term[0]))
		return false;
	snprintf(digits, sizeof(digits), "%.*s", (int)(unit ? len - 1 : len), term);
	if (!cli_parse_u64(digits, false, value))
		return false;
	*value <<= unit ? 10 * (unsigned int)(unit - units + 1) : 0;
	return true;
}

/* "prefixN": N, below @max. */
static bool index_of(const char *term, const char *prefix, uint64_t max, uint64_t *n)
{
	size_t len = strlen(prefix);

	return !strncmp(term, prefix, len) && number_of(term + len, n) && *n < max;
}

/* The page that the Secure-EPT entry of @gpa at @level names. */
static bool page_at(struct run *r, uint64_t gpa, unsigned int level, uint64_t *hpa)
{
	struct tdx_sept_view view;

	if (tdx_module_view_sept(r->td->module, tdx_td_tdr(r->td->tdx).a, gpa, level, 0, &view) ||
	    view.level != level)
		return false;
	*hpa = view.raw & ENTRY_HPA;
	return *hpa;
}

static bool spare(struct run *r, uint64_t n, uint64_t *hpa)
{
	if (!r->spare[n] && machine_mem_alloc(r->td->machine, 0, 0, &r->spare[n]))
		return false;
	*hpa = r->spare[n];
	return true;
}

static bool named(const struct run *r, const char *term, uint64_t *value)
{
	for (uint32_t i = 0; i < r->nr_names; i++) {
		if (strcmp(r->names[i].name, term) != 0)
			continue;
		*value = r->names[i].value;
		return true;
	}
	return false;
}

/* What only a TD that is there can tell. */
static bool of_td(struct run *r, const char *term, uint64_t *value)
{
	uint64_t n;

	if (!strcmp(term, "tdr"))
		return *value = tdx_td_tdr(r->td->tdx).a, true;
	if (index_of(term, "tdvpr", r->sc->vm.vcpus, &n))
		return *value = tdx_vcpu_tdvpr(r->td->lps[n].vcpu).a, true;
	if (index_of(term, "page:", UINT64_MAX, &n))
		return page_at(r, n, 0, value);
	if (index_of(term, "table:", UINT64_MAX, &n))
		return page_at(r, n, 1, value);
	if (index_of(term, "spare", RUN_SPARES, &n))
		return spare(r, n, value);
	return false;
}

static bool term_value(struct run *r, const char *term, uint64_t *value)
{
	uint64_t n;

	if (number_of(term, value) || named(r, term, value))
		return true;
	if (!strcmp(term, "shared"))
		return *value = simtd_shared(r->td), true;
	if (index_of(term, "key:", 1u << TD_HKID_BITS, &n))
		return *value = n << TD_HKID_START, true;
	return r->td->tdx && of_td(r, term, value);
}

/* Cuts the next term off @text: what follows it, or NULL at the end. @joint: what joined it. */
static const char *cut(const char *text, char term[TERM_LEN], char *joint)
{
	size_t n = strcspn(text, "+|");

	snprintf(term, TERM_LEN, "%.*s", (int)n, text);
	*joint = text[n];
	return text[n] ? text + n + 1 : NULL;
}

/* Names that a line gives aren't known before it runs. */
bool raw_value_is_valid(const char *text)
{
	char term[TERM_LEN], joint;
	uint64_t n;

	do {
		text = cut(text, term, &joint);
		if (isdigit((unsigned char)term[0]) ? !number_of(term, &n)
						    : !isalpha((unsigned char)term[0]))
			return false;
	} while (text);
	return true;
}

static int value_of(struct run *r, const struct run_event *e, const char *text, uint64_t *value)
{
	char term[TERM_LEN], joint, before = '+';
	uint64_t n;

	*value = 0;
	do {
		text = cut(text, term, &joint);
		if (!term_value(r, term, &n))
			return run_fail(r, -ENOENT, "line %u: \"%s\" can't be known now", e->line,
					term);
		*value = before == '+' ? *value + n : *value | n;
		before = joint;
	} while (text);
	return 0;
}

static int fill(struct run *r, const struct run_event *e, const struct run_operand *list,
		uint32_t nr, struct tdx_regs *regs)
{
	int err = 0;

	for (uint32_t i = 0; !err && i < nr; i++)
		err = value_of(r, e, list[i].value, &regs->gpr[list[i].reg]);
	return err;
}

/* ---- what came of it ---- */

/* TDX_ may be left out, and so may the operand. */
static bool status_matches(const char *expected, const char *got)
{
	size_t n = strcspn(got, "(");

	if (strncmp(expected, "TDX_", 4) != 0 && !strncmp(got, "TDX_", 4)) {
		got += 4;
		n -= 4;
	}
	return !strcmp(expected, got) || (strlen(expected) == n && !strncmp(expected, got, n));
}

static void differs(struct run *r, const struct run_event *e, const char *what,
		    const char *expected, const char *got)
{
	if (!r->totals.unexpected++)
		snprintf(r->unexpected_text, sizeof(r->unexpected_text),
			 "line %u: %s must be %s, and is %s", e->line, what, expected, got);
}

/* @outs: answers in registers, or none if there is no call to have them. */
static int compare(struct run *r, const struct run_event *e, const char *got,
		   const struct tdx_regs *regs)
{
	const struct run_call *c = &r->sc->calls[e->call];
	struct tdx_regs expected = {0};
	int err = fill(r, e, c->out, c->nr_out, &expected);

	r->totals.calls++;
	if (err)
		return err;
	if (!status_matches(c->expect, got)) {
		differs(r, e, "the outcome", c->expect, got);
		return 0;
	}
	for (uint32_t i = 0; regs && i < c->nr_out; i++) {
		unsigned int reg = c->out[i].reg;
		char text[24];

		if (regs->gpr[reg] == expected.gpr[reg])
			continue;
		snprintf(text, sizeof(text), "0x%lx", regs->gpr[reg]);
		differs(r, e, "a register", c->out[i].value, text);
	}
	return 0;
}

/* An exception (SDM vol. 3, "Exceptions and Interrupts"), an errno, or @done. */
static void outcome(struct run *r, unsigned int vcpu, int ret, const char *done, char *text,
		    size_t size)
{
	unsigned int vector = simtd_vector(r->td, vcpu);

	if (ret < 0)
		snprintf(text, size, "%s", strerrorname_np(-ret));
	else if (ret == TD_COMPLETED)
		snprintf(text, size, "%s", done);
	else
		snprintf(text, size, "%s",
			 vector == TD_VECTOR_VE ? "VE"
			 : vector == 8		? "DF"
			 : vector == 13		? "GP"
			 : vector == 14		? "PF"
						: "another exception");
}

/* ---- the calls ---- */

static int seamcall(struct run *r, const struct run_event *e)
{
	const struct run_call *c = &r->sc->calls[e->call];
	struct tdx_regs regs = {.rax = tdx_rax(c->leaf, 0)};
	char got[STATUS_LEN];
	int err = fill(r, e, c->in, c->nr_in, &regs);

	if (err)
		return err;
	/* On a processor of the host's: never the host half's counts, never a failure on purpose.
	 */
	tdx_module_seamcall(r->td->module, simtd_current_lp(r->td), &regs);
	sc_status_name(regs.rax, got, sizeof(got));
	return compare(r, e, got, &regs);
}

static int tdcall(struct run *r, const struct run_event *e)
{
	const struct run_call *c = &r->sc->calls[e->call];
	struct tdx_regs regs = {.rax = c->leaf};
	char got[STATUS_LEN], status[STATUS_LEN];
	int err = fill(r, e, c->in, c->nr_in, &regs), ret;

	if (err)
		return err;
	ret = simtd_call(r->td, e->vcpu, &regs);
	sc_status_name(regs.rax, status, sizeof(status));
	outcome(r, e->vcpu, ret, status, got, sizeof(got));
	return compare(r, e, got, ret == TD_COMPLETED ? &regs : NULL);
}

static int touch(struct run *r, const struct run_event *e)
{
	const struct run_call *c = &r->sc->calls[e->call];
	struct simtd_access a = {.kind = c->access};
	char got[STATUS_LEN];
	int err = value_of(r, e, c->address, &a.gpa);

	if (err)
		return err;
	outcome(r, e->vcpu, simtd_access(r->td, e->vcpu, &a), "done", got, sizeof(got));
	return compare(r, e, got, NULL);
}

static int name(struct run *r, const struct run_event *e)
{
	struct run_name *n = &r->names[r->nr_names];
	uint64_t value;
	int err = value_of(r, e, r->sc->calls[e->call].address, &value);

	if (err)
		return err;
	for (uint32_t i = 0; i < r->nr_names; i++)
		if (!strcmp(r->names[i].name, e->text))
			n = &r->names[i];
	if (n == &r->names[r->nr_names])
		r->nr_names++;
	snprintf(n->name, sizeof(n->name), "%.31s", e->text);
	n->value = value;
	return 0;
}

int raw_event(struct run *r, const struct run_event *e)
{
	switch (e->kind) {
	case RUN_EVENT_SEAMCALL:
		return seamcall(r, e);
	case RUN_EVENT_TDCALL:
		return tdcall(r, e);
	case RUN_EVENT_TOUCH:
		return touch(r, e);
	default:
		return name(r, e);
	}
}

void raw_end(struct run *r)
{
	for (unsigned int i = 0; i < RUN_SPARES; i++) {
		if (r->spare[i])
			machine_mem_free(r->td->machine, r->spare[i], 0);
		r->spare[i] = 0;
	}
}
