// SPDX-License-Identifier: BSD-2-Clause
/*
 * A guest's process that uses memory in ways a shell can't: runs code it wrote, breaks huge pages
 * up, shares pages with a child until one of the two writes. Says what was wrong, nothing if all
 * was right.
 */
#include <cpuid.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hypervisor/abi.h"

#define PAGE	4096ul
#define HUGE	(512 * PAGE)
#define HUGES	8ul
#define TOUCHES 16384ul

static bool wrong(const char *what, size_t page)
{
	printf("memory: page %zu: %s\n", page, what);
	return false;
}

/* Each page knows where it is, and in which turn it was written. */
static uint64_t mark(size_t page, uint64_t turn)
{
	return (page + 1) * 0x9e3779b97f4a7c15u ^ turn;
}
static void fill(unsigned char *area, size_t from, size_t to, uint64_t turn)
{
	for (size_t page = from; page < to; page++) {
		uint64_t value = mark(page, turn);

		memcpy(area + page * PAGE, &value, sizeof(value));
		memcpy(area + (page + 1) * PAGE - sizeof(value), &value, sizeof(value));
	}
}
static bool is_filled(const unsigned char *area, size_t from, size_t to, uint64_t turn)
{
	for (size_t page = from; page < to; page++) {
		uint64_t value = turn ? mark(page, turn) : 0;

		if (memcmp(area + page * PAGE, &value, sizeof(value)) != 0 ||
		    memcmp(area + (page + 1) * PAGE - sizeof(value), &value, sizeof(value)) != 0)
			return wrong("another content than was written there", page);
	}
	return true;
}

/* Code is written, run, written anew: what is fetched must be what was stored. */
static bool run_code(void)
{
	const size_t pages = 64;
	unsigned char *area = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (area == MAP_FAILED)
		return wrong("no memory for code", 0);
	for (uint32_t turn = 1; turn <= 4; turn++) {
		for (size_t page = 0; page < pages; page++) {
			uint32_t value = (uint32_t)mark(page, turn);
			unsigned char *code = area + page * PAGE + 32 * turn;

			code[0] = 0xb8; /* mov eax, value */
			memcpy(code + 1, &value, sizeof(value));
			code[5] = 0xc3; /* ret */
		}
		if (mprotect(area, pages * PAGE, PROT_READ | PROT_EXEC) != 0)
			return wrong("code can't be made executable", 0);
		for (size_t page = 0; page < pages; page++) {
			uint32_t (*code)(void);
			const unsigned char *at = area + page * PAGE + 32 * turn;

			memcpy(&code, &at, sizeof(code));
			if (code() != (uint32_t)mark(page, turn))
				return wrong("other code ran than was written", page);
		}
		if (mprotect(area, pages * PAGE, PROT_READ | PROT_WRITE) != 0)
			return wrong("code can't be made writable", 0);
	}
	munmap(area, pages * PAGE);
	return true;
}

/* Huge pages lose a part to the system, a part to a protection, and come back. */
static bool break_up(unsigned char *area)
{
	const size_t pages = HUGES * HUGE / PAGE;

	madvise(area, HUGES * HUGE, MADV_HUGEPAGE);
	fill(area, 0, pages, 1);
	if (!is_filled(area, 0, pages, 1))
		return false;
	for (size_t huge = 0; huge < HUGES; huge += 2) {
		size_t page = huge * HUGE / PAGE;

		if (madvise(area + page * PAGE, 100 * PAGE, MADV_DONTNEED) != 0 ||
		    mprotect(area + (page + 200) * PAGE, 10 * PAGE, PROT_READ) != 0)
			return wrong("a huge page can't be broken up", page);
		if (!is_filled(area, page, page + 100, 0) ||
		    !is_filled(area, page + 100, page + 512, 1))
			return false;
	}
	if (mprotect(area, HUGES * HUGE, PROT_READ | PROT_WRITE) != 0)
		return wrong("the area can't be made writable", 0);
	fill(area, 0, pages, 2);
	return is_filled(area, 0, pages, 2);
}

/* What a child writes is its own, what it only reads stays its parent's. */
static bool share(unsigned char *area)
{
	const size_t pages = HUGES * HUGE / PAGE;
	int status = -1;
	pid_t child;

	fill(area, 0, pages, 3);
	fflush(stdout);
	child = fork();
	if (child < 0)
		return wrong("no child", 0);
	if (child == 0) {
		bool good = is_filled(area, 0, pages, 3);

		fill(area, 0, pages / 2, 4);
		good = good && is_filled(area, 0, pages / 2, 4) &&
		       is_filled(area, pages / 2, pages, 3);
		fflush(stdout);
		_exit(good ? 0 : 1);
	}
	fill(area, pages / 2, pages, 5);
	if (waitpid(child, &status, 0) != child || status != 0)
		return wrong("the child found something wrong, or died", 0);
	return is_filled(area, 0, pages / 2, 3) && is_filled(area, pages / 2, pages, 5);
}

/* Who this machine says it is, for whoever compares two machines. */
static void who(void)
{
	unsigned int eax, ebx, ecx, edx, name[3];
	bool ours;

	__cpuid(HV_CPUID, eax, name[0], name[1], name[2]);
	ours = memcmp(name, HV_CPUID_SIGNATURE, sizeof(name)) == 0;
	__cpuid(0x80000001, eax, ebx, ecx, edx);
	printf("memory: svm=%s hypervisor=%s\n", ecx & 4 ? "yes" : "no",
	       ours ? HV_CPUID_SIGNATURE : "another, or none");
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}
static int by_size(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* What the first touch of a small page costs, in the middle of many: the kernel's own fault, and,
 * of memory that nobody used since the machine started, one of the second stage. */
static bool touch(void)
{
	static uint64_t ns[TOUCHES];
	unsigned char *area = mmap(NULL, TOUCHES * PAGE, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (area == MAP_FAILED)
		return wrong("no memory to touch", 0);
	madvise(area, TOUCHES * PAGE, MADV_NOHUGEPAGE);
	for (size_t page = 0; page < TOUCHES; page++) {
		uint64_t start = now_ns();

		((volatile unsigned char *)area)[page * PAGE] = 1;
		ns[page] = now_ns() - start;
	}
	qsort(ns, TOUCHES, sizeof(*ns), by_size);
	printf("memory: touch=%llu\n", (unsigned long long)ns[TOUCHES / 2]);
	return true;
}

int main(int argc, char **argv)
{
	unsigned char *area;

	if (argc > 1 && strcmp(argv[1], "--who") == 0) {
		who();
		return 0;
	}
	if (argc > 1 && strcmp(argv[1], "--touch") == 0)
		return touch() ? 0 : 1;
	area = mmap(NULL, (HUGES + 1) * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		    -1, 0);
	if (area == MAP_FAILED)
		return wrong("no memory", 0) ? 0 : 1;
	area += -(uintptr_t)area & (HUGE - 1);
	return run_code() && break_up(area) && share(area) ? 0 : 1;
}
