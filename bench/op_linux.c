// SPDX-License-Identifier: BSD-2-Clause
/* The kernel's own page tables, as a process sees them: first touches and range calls. */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/bench.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* A kernel's fault takes a hundred times what ours does: a part of the pages is enough. */
#define PART 8

struct area {
	volatile char *va;
	size_t bytes;
	int fd;
};

static bool map_area(struct bench *b, bool file)
{
	struct area *a = calloc(1, sizeof(*a));

	b->own = a;
	if (!a)
		return false;
	b->units = b->pages / PART;
	a->bytes = b->units * TPT_PAGE_SIZE;
	a->fd = file ? memfd_create("triptych-bench", 0) : -1;
	if (file && (a->fd < 0 || ftruncate(a->fd, (off_t)a->bytes)))
		return bench_fail(b, "no memfd");
	a->va = mmap(NULL, a->bytes, PROT_READ | PROT_WRITE,
		     file ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, a->fd, 0);
	if (a->va == MAP_FAILED)
		return bench_fail(b, "no mapping");
	madvise((void *)a->va, a->bytes, MADV_NOHUGEPAGE);
	return true;
}

static void touch(struct bench *b)
{
	struct area *a = b->own;

	for (size_t at = 0; at < a->bytes; at += TPT_PAGE_SIZE)
		a->va[at] = 1;
	b->wrong = 0;
}

static void dontneed(struct bench *b)
{
	struct area *a = b->own;

	b->wrong = madvise((void *)a->va, a->bytes, MADV_DONTNEED) != 0;
}

static void populate(struct bench *b)
{
	struct area *a = b->own;

	b->wrong = madvise((void *)a->va, a->bytes, MADV_POPULATE_WRITE) != 0;
}

static void protect(struct bench *b)
{
	struct area *a = b->own;

	b->wrong = mprotect((void *)a->va, a->bytes, PROT_READ) != 0;
}

static bool setup_anon(struct bench *b)
{
	return map_area(b, false);
}

static bool setup_touched(struct bench *b)
{
	if (!setup_anon(b))
		return false;
	touch(b);
	return true;
}

/* The page cache is warm, no entry is there. */
static bool setup_memfd(struct bench *b)
{
	if (!map_area(b, true))
		return false;
	touch(b);
	dontneed(b);
	return true;
}

static bool setup_memfd_touched(struct bench *b)
{
	if (!map_area(b, true))
		return false;
	touch(b);
	return true;
}

/* What is resident, by the kernel's own word. For a file that is the page cache. */
static bool check_resident(struct bench *b)
{
	struct area *a = b->own;
	unsigned char *there = calloc(b->units, 1);
	uint64_t nr = 0;

	if (!there || mincore((void *)a->va, a->bytes, there)) {
		free(there);
		return bench_fail(b, "no answer of mincore()");
	}
	for (uint64_t i = 0; i < b->units; i++)
		nr += there[i] & 1;
	free(there);
	if (nr != b->units || b->wrong)
		return bench_fail(b, "%lu of %lu pages are resident", nr, b->units);
	return true;
}

static bool check_answer(struct bench *b)
{
	return !b->wrong || bench_fail(b, "the kernel refused");
}

static void unmap(struct bench *b)
{
	struct area *a = b->own;

	if (a && a->va && a->va != MAP_FAILED)
		munmap((void *)a->va, a->bytes);
	if (a && a->fd > 0)
		close(a->fd);
	free(a);
	b->own = NULL;
}

const struct bench_op bench_linux[] = {
	{.name = "linux_memfd_touch",
	 .unit = "page",
	 .kind = BENCH_LINUX,
	 .uncounted = true,
	 .what = "first write to a page of a memfd whose page cache is warm",
	 .setup = setup_memfd,
	 .run = touch,
	 .check = check_resident,
	 .teardown = unmap},
	{.name = "linux_anon_touch",
	 .unit = "page",
	 .kind = BENCH_LINUX,
	 .uncounted = true,
	 .what = "first write to an anonymous page, which the kernel clears",
	 .setup = setup_anon,
	 .run = touch,
	 .check = check_resident,
	 .teardown = unmap},
	{.name = "linux_memfd_populate",
	 .unit = "page",
	 .kind = BENCH_LINUX,
	 .uncounted = true,
	 .what = "MADV_POPULATE_WRITE of a memfd whose page cache is warm",
	 .setup = setup_memfd,
	 .run = populate,
	 .check = check_resident,
	 .teardown = unmap},
	{.name = "linux_anon_mprotect",
	 .unit = "page",
	 .kind = BENCH_LINUX,
	 .uncounted = true,
	 .what = "mprotect() to read-only",
	 .setup = setup_touched,
	 .run = protect,
	 .check = check_answer,
	 .teardown = unmap},
	{.name = "linux_memfd_dontneed",
	 .unit = "page",
	 .kind = BENCH_LINUX,
	 .uncounted = true,
	 .what = "MADV_DONTNEED of a memfd's pages",
	 .setup = setup_memfd_touched,
	 .run = dontneed,
	 .check = check_answer,
	 .teardown = unmap},
	{.name = "linux_anon_dontneed",
	 .unit = "page",
	 .kind = BENCH_LINUX,
	 .uncounted = true,
	 .what = "MADV_DONTNEED of anonymous pages, which frees them",
	 .setup = setup_touched,
	 .run = dontneed,
	 .check = check_answer,
	 .teardown = unmap},
	{0},
};
