/* SPDX-License-Identifier: BSD-2-Clause */
/* One run of a scenario in this process, with failures on purpose: what the command does, without
 * its screens. Judges nothing. */
#ifndef TESTS_CLI_LIFE_H
#define TESTS_CLI_LIFE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/run.h"

struct life {
	struct scenario scenario;
	struct inject inject;
	struct run run;
};

static inline struct life *life_begin(const char *text)
{
	struct life *l = calloc(1, sizeof(*l));
	char why[INPUT_ERR_LEN] = "";

	assert_non_null(l);
	if (scenario_parse(&l->scenario, "test", text, strlen(text), why))
		fail_msg("%s", why);
	l->run.sc = &l->scenario;
	return l;
}

static inline void life_add(struct life *l, const char *rule)
{
	char why[INJECT_WHY_LEN];

	if (inject_add(&l->inject, rule, why))
		fail_msg("%s", why);
	l->run.inject = &l->inject;
}

static inline void life_run(struct life *l)
{
	if (run_run(&l->run))
		fail_msg("%s: %s", l->inject.nr ? l->inject.rule[0].text : "no rule", l->run.why);
}

static inline void life_end(struct life *l)
{
	run_free(&l->run);
	scenario_free(&l->scenario);
	free(l);
}

static inline uint64_t life_counted(const struct life *l, const char *name)
{
	const struct run_counter *c = run_counter(&l->run, name);

	return c ? c->value : 0;
}

/* Accesses that came to an end, one way or another. */
static inline uint64_t life_ended(const struct life *l)
{
	uint64_t n = 0;

	for (unsigned int i = 0; i < l->scenario.vm.vcpus && l->run.vcpus; i++)
		n += l->run.vcpus[i].accesses + l->run.vcpus[i].mmio + l->run.vcpus[i].errors;
	return n;
}

#endif
