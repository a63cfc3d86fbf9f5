// SPDX-License-Identifier: BSD-2-Clause
/* The tables beside the rows: which there are, and their lines. Fills none. */
#include <stdarg.h>

#include "bench/suite.h"

struct bench_table bench_tables[] = {
	{.name = "threads",
	 .what = "CPU time of one fault by one vCPU, and by two at once on other pages",
	 .fill = table_threads,
	 .column = {"ns_one", "ns_two", "ratio", "goal"}},
	{.name = "holds",
	 .what = "a VM of 1 TiB: most entries looked at before giving way, alone and beside "
		 "faults, and CPU time: the longest that anybody was alone, and all of it",
	 .fill = table_holds,
	 .column = {"exclusive", "shared", "bound", "exclusive_ns", "total_ns"}},
	{.name = "memory",
	 .what = "bytes that a GiB mapped takes, or one of something",
	 .fill = table_memory,
	 .column = {"tables", "headers", "other", "all"}},
	{.name = "external",
	 .what = "external calls of a TD, and how many the module's rules ask for",
	 .fill = table_external,
	 .column = {"n", "link", "map", "block", "unblock", "track", "remove", "release", "reclaim",
		    "free", "kicks", "calls", "least"}},
	{.name = NULL},
};

double *table_line(struct bench_table *t, const char *format, ...)
{
	unsigned int nr = t->nr < TABLE_LINES ? t->nr++ : TABLE_LINES - 1;
	va_list args;

	va_start(args, format);
	vsnprintf(t->line[nr].name, sizeof(t->line[nr].name), format, args);
	va_end(args);
	for (unsigned int i = 0; i < TABLE_COLUMNS; i++)
		t->line[nr].value[i] = -1;
	return t->line[nr].value;
}
