/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Failures on purpose: which call of a run is answered with which failure, and when. A failure that
 * is injected is one that the real call can give without having done anything. Makes no call.
 *
 *	CALL:STATUS:WHEN
 *
 *	CALL	a SEAMCALL that the host half makes ("TDH.MEM.PAGE.AUG", or the end of its name if
 *		only one has it: "PAGE.AUG", "AUG"), in capitals; or an external call in small
 *		letters ("map")
 *	STATUS	of a SEAMCALL: the status's name, with TDX_ or without; BUSY, HOST_PRIORITY and
 *		NO_ENTROPY are short for what they mean. Of an external call: an errno's name, or
 *		BUSY
 *	WHEN	N (the N-th call of its kind), first=N, from=N (and all after it), every=N, P%
 *		or P%seed=N. Each try is a call.
 */
#ifndef TRIPTYCH_CLI_INJECT_H
#define TRIPTYCH_CLI_INJECT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <triptych/event.h>

#include "tdx/seamcall.h"

#define INJECT_MAX	32
#define INJECT_TEXT_LEN 128
#define INJECT_WHY_LEN	2048

enum inject_when {
	INJECT_NTH,
	INJECT_FIRST,
	INJECT_FROM,
	INJECT_EVERY,
	INJECT_PERCENT,
};

/* What the answer is made of. */
enum inject_kind {
	INJECT_STATUS,	  /* the module isn't called: its status is the answer */
	INJECT_INTERRUPT, /* the module is called with an interrupt pending, which it finds */
	INJECT_ERRNO,	  /* the owner of the external table isn't called */
};

struct inject_rule {
	char text[INJECT_TEXT_LEN]; /* as it was given */
	enum inject_kind kind;
	unsigned int call; /* leaf, or enum tpt_external_call */
	uint64_t status;   /* operand included */
	int error;	   /* INJECT_ERRNO: negative errno */
	/* The call may succeed if it is made again: whoever makes it has a rule for that. */
	bool transient;
	enum inject_when when;
	uint64_t n, seed;
	_Atomic uint64_t calls, hits;
	_Atomic uint64_t row, longest; /* hits one after the other: now, and at most */
};

struct inject {
	struct inject_rule rule[INJECT_MAX];
	unsigned int nr;
};

/* Adds a rule. 0, or -EINVAL with a message that names the value and what is allowed. */
int inject_add(struct inject *inject, const char *text, char why[INJECT_WHY_LEN]);
/* Prints every call with the failures that it can be given. */
void inject_list(FILE *out);

/* Is there a rule of that kind at all? NULL is allowed. */
bool inject_has(const struct inject *inject, enum inject_kind kind);
/*
 * A SEAMCALL is about to be made with *regs. The rule that hits it, the first one of the set, or
 * NULL; INJECT_STATUS: *regs is the answer. Several threads at once. @inject may be NULL.
 */
const struct inject_rule *inject_seamcall(struct inject *inject, struct tdx_regs *regs);
/* The same for an external call: its answer, or 0 if it is to be made. */
int inject_external(struct inject *inject, enum tpt_external_call call);

uint64_t inject_hits(const struct inject *inject);
/* Did a rule hit whose failure is for good, or one that never ends? */
bool inject_hit_for_good(const struct inject *inject);
/* What the rule injects: "TDH.MEM.PAGE.AUG", "TDX_OPERAND_BUSY(SEPT_TREE)"; of @size bytes. */
const char *inject_call_name(const struct inject_rule *rule);
void inject_status_name(const struct inject_rule *rule, char *text, size_t size);

#endif
