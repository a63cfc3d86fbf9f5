/* SPDX-License-Identifier: BSD-2-Clause */
/* A run of many operations: which, how often, and what came out. Measures nothing by itself. */
#ifndef BENCH_SUITE_H
#define BENCH_SUITE_H

#include "bench/bench.h"

/* One operation in one format. A figure that was not taken is negative. */
struct bench_row {
	const struct bench_op *op;
	enum tpt_format format;
	uint64_t param;
	char name[BENCH_NAME];
	unsigned int rounds;
	double *ns; /* per unit, a round each; sorted in the end */
	double median, least, floor_ratio;
	double instr, locked; /* from a file of counts */
};

struct bench_suite {
	unsigned int formats; /* BENCH_EPT, BENCH_NPT */
	unsigned int rounds;
	uint64_t mib;	    /* guest memory of an operation on 4K pages */
	const char *only;   /* names, comma between; NULL: all */
	const char *counts; /* file that bench/instr wrote; NULL: none */
	struct bench_row *row;
	unsigned int nr;
};

/*
 * What is no time of one operation: figures by line and column, each column with a name that is
 * stable. A figure that there is none of is negative.
 */
#define TABLE_COLUMNS 15
#define TABLE_LINES   32
struct bench_table {
	const char *name, *what;
	/* Fills the rest. False, and b->why: it cannot be. */
	bool (*fill)(struct bench_table *t, struct bench *b, const struct bench_suite *s);
	const char *column[TABLE_COLUMNS + 1]; /* ends with NULL */
	unsigned int nr;
	struct {
		char name[48];
		double value[TABLE_COLUMNS];
	} line[TABLE_LINES];
};

/* Ends with one that has no name. */
extern struct bench_table bench_tables[];

/* The next line of @t, with values for its columns that are all still negative. */
double *table_line(struct bench_table *t, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

bool table_threads(struct bench_table *t, struct bench *b, const struct bench_suite *s);
bool table_holds(struct bench_table *t, struct bench *b, const struct bench_suite *s);
bool table_memory(struct bench_table *t, struct bench *b, const struct bench_suite *s);
bool table_external(struct bench_table *t, struct bench *b, const struct bench_suite *s);

/* Those that are wanted. */
bool suite_fill(struct bench_suite *s, struct bench *b);

/* Which operations, with the floors that they are compared with. False and b->why. */
bool suite_select(struct bench_suite *s, struct bench *b);
void suite_free(struct bench_suite *s);

/* Every row once, then @rounds times, all rows in each round. False: one did not do its work. */
bool suite_time(struct bench_suite *s, struct bench *b);
/* Every row once under callgrind; prints "NAME FORMAT UNITS HARNESS" of each. */
bool suite_count(struct bench_suite *s, struct bench *b);

/* Takes instructions and locked operations from s->counts. */
bool suite_read_counts(struct bench_suite *s, struct bench *b);

/* The machine, the compiler of this program, and today; without what JSON would want an escape for.
 */
struct bench_where {
	char machine[128], compiler[64], date[16];
};
void bench_where(struct bench_where *where);

void suite_print(const struct bench_suite *s, FILE *out);
void suite_print_json(const struct bench_suite *s, FILE *out);

#endif
