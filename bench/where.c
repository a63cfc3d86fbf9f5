// SPDX-License-Identifier: BSD-2-Clause
/* Where and when a run was, for those who read its figures later. Measures nothing. */
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "bench/suite.h"

/* The processor as the kernel names it, without what JSON would want an escape for. */
static void name_processor(char *name, size_t size)
{
	FILE *in = fopen("/proc/cpuinfo", "r");
	char line[256];

	snprintf(name, size, "unknown processor");
	while (in && fgets(line, sizeof(line), in))
		if (!strncmp(line, "model name", 10) && strchr(line, ':')) {
			snprintf(name, size, "%.*s", 48, strchr(line, ':') + 2);
			break;
		}
	if (in)
		fclose(in);
	name[strcspn(name, "\n\"\\")] = 0;
}

void bench_where(struct bench_where *where)
{
	struct utsname kernel;
	time_t now = time(NULL);
	char name[64];

	name_processor(name, sizeof(name));
	uname(&kernel);
	kernel.release[strcspn(kernel.release, "-+")] = 0;
	snprintf(where->machine, sizeof(where->machine), "%s, %ld processors, Linux %.32s", name,
		 sysconf(_SC_NPROCESSORS_ONLN), kernel.release);
#ifdef __clang__
	snprintf(where->compiler, sizeof(where->compiler), "clang %s", __clang_version__);
#else
	snprintf(where->compiler, sizeof(where->compiler), "gcc %s", __VERSION__);
#endif
	strftime(where->date, sizeof(where->date), "%Y-%m-%d", gmtime(&now));
}
