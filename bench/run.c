// SPDX-License-Identifier: BSD-2-Clause
/* One pass of one operation: timed, or counted by callgrind. Never judges a figure. */
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include "bench/bench.h"

/* Its header is all that is needed of valgrind: outside of it the requests are a few moves. */
#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#define HAVE_CALLGRIND 1
#else
#define HAVE_CALLGRIND			0
#define CALLGRIND_START_INSTRUMENTATION ((void)0)
#define CALLGRIND_STOP_INSTRUMENTATION	((void)0)
#define CALLGRIND_DUMP_STATS_AT(name)	((void)(name))
#define RUNNING_ON_VALGRIND		0
#endif

const struct bench_op *const bench_families[] = {
	bench_floors, bench_linux, bench_maps,	  bench_faults, bench_dirty, bench_ages,
	bench_zaps,   bench_sizes, bench_mirrors, bench_scales, NULL,
};

const struct bench_op *bench_find(const char *name)
{
	for (const struct bench_op *const *family = bench_families; *family; family++)
		for (const struct bench_op *op = *family; op->name; op++)
			if (!strcmp(op->name, name))
				return op;
	return NULL;
}

bool bench_fail(struct bench *b, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(b->why, sizeof(b->why), format, args);
	va_end(args);
	return false;
}

uint64_t bench_cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static bool prepare(const struct bench_op *op, struct bench *b)
{
	b->units = b->wrong = 0;
	b->why[0] = 0;
	if (!op->setup(b))
		return b->why[0] ? false : bench_fail(b, "its set-up failed");
	/* A run that says nothing of its answers has not run. */
	b->wrong = UINT64_MAX;
	return b->units ? true : bench_fail(b, "it has nothing to do");
}

bool bench_pass(const struct bench_op *op, struct bench *b, uint64_t *ns)
{
	bool good = prepare(op, b);

	if (good) {
		uint64_t start = bench_cpu_ns();

		op->run(b);
		*ns = bench_cpu_ns() - start;
		good = op->check(b);
	}
	op->teardown(b);
	return good;
}

bool bench_can_count(void)
{
	return HAVE_CALLGRIND && RUNNING_ON_VALGRIND;
}

void bench_row_name(const struct bench_op *op, const struct bench *b, char name[BENCH_NAME])
{
	const char *format = b->format == TPT_FORMAT_EPT ? "ept" : "npt";

	if (!op->formats)
		format = "-";
	if (op->curve)
		snprintf(name, BENCH_NAME, "%s/%lu %s", op->name, b->param, format);
	else
		snprintf(name, BENCH_NAME, "%s %s", op->name, format);
}

bool bench_count(const struct bench_op *op, struct bench *b)
{
	bool good = prepare(op, b);
	char name[BENCH_NAME];

	bench_row_name(op, b, name);
	if (good) {
		CALLGRIND_START_INSTRUMENTATION;
		op->run(b);
		CALLGRIND_DUMP_STATS_AT(name);
		CALLGRIND_STOP_INSTRUMENTATION;
		good = op->check(b);
	}
	op->teardown(b);
	return good;
}
