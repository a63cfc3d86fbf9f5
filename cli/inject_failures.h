/* SPDX-License-Identifier: BSD-2-Clause */
/* What can be injected into which call: tables only. */
#ifndef TRIPTYCH_CLI_INJECT_FAILURES_H
#define TRIPTYCH_CLI_INJECT_FAILURES_H

#include <stdbool.h>
#include <stdint.h>

#include "tdx/seamcall.h"

/* The leaves that have failures, by index. */
unsigned int inject_nr_leaves(void);
enum tdh_leaf inject_leaf(unsigned int index);
/* The leaf's @n-th failure, operand included; 0: it has no more. */
uint64_t inject_failure(enum tdh_leaf leaf, unsigned int n);
/* Does the module give it by itself if an interrupt is pending? Then it must: it remembers where to
 * go on. */
bool inject_by_interrupt(uint64_t status);

/* What an external call can be answered with: any of them. */
struct inject_errno {
	const char *name;
	int error; /* negative */
};
/* NULL: there are no more. */
const struct inject_errno *inject_errno(unsigned int n);

#endif
