/* SPDX-License-Identifier: BSD-2-Clause */
/* A run of many operations: which, how often, and what came out. Measures nothing by itself. */
#ifndef BENCH_SUITE_H
#define BENCH_SUITE_H

#include "bench/bench.h"

/* One operation in one format. A figure that was not taken is negative. */
struct bench_row {
	const struct bench_op *op;
	enum tpt_format format;
	double *ns; /* per unit, a round each; sorted in the end */
	double median, least, floor_ratio;
	double instr, locked; /* from a file of counts */
};

struct bench_suite {
	unsigned int formats; /* BENCH_EPT, BENCH_NPT */
	unsigned int rounds;
	const char *only;   /* names, comma between; NULL: all */
	const char *counts; /* file that bench/instr wrote; NULL: none */
	struct bench_row *row;
	unsigned int nr;
};

/* Which operations, with the floors that they are compared with. False and b->why. */
bool suite_select(struct bench_suite *s, struct bench *b);
void suite_free(struct bench_suite *s);

/* Every row once, then @rounds times, all rows in each round. False: one did not do its work. */
bool suite_time(struct bench_suite *s, struct bench *b);
/* Every row once under callgrind; prints "NAME FORMAT UNITS HARNESS" of each. */
bool suite_count(struct bench_suite *s, struct bench *b);

void suite_print(const struct bench_suite *s, FILE *out);
void suite_print_json(const struct bench_suite *s, FILE *out);

#endif
