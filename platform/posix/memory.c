// SPDX-License-Identifier: BSD-2-Clause
/* Ordinary memory for the core's objects. Each block knows its size, so that a free can be judged.
 */
#include <stdlib.h>
#include <string.h>

#include "platform/posix/internal.h"

#define ALIGN 64u

/* Before each block; as long as the alignment, so that the block keeps it. */
struct header {
	_Alignas(ALIGN) size_t bytes;
};

void *posix_mem_alloc(void *ctx, size_t bytes)
{
	struct tpt_posix *posix = ctx;
	struct header *header;
	size_t total;

	posix_check_may_sleep(posix, "mem_alloc");
	if (posix_fail_now(&posix->mem_fail_in) || bytes > SIZE_MAX / 2)
		return NULL;
	total = sizeof(*header) + ((bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1));
	header = aligned_alloc(ALIGN, total);
	if (!header)
		return NULL;
	memset(header, 0, total);
	header->bytes = bytes;
	atomic_fetch_add(&posix->mem_live, 1);
	atomic_fetch_add(&posix->mem_bytes, bytes);
	atomic_fetch_add(&posix->mem_allocs, 1);
	return header + 1;
}

void posix_mem_free(void *ctx, void *mem, size_t bytes)
{
	struct tpt_posix *posix = ctx;
	struct header *header = mem;

	if (!mem)
		return;
	header--;
	if (header->bytes != bytes)
		posix_misuse(posix, "mem_free with %zu bytes of a block of %zu", bytes,
			     header->bytes);
	atomic_fetch_sub(&posix->mem_live, 1);
	atomic_fetch_sub(&posix->mem_bytes, header->bytes);
	free(header);
}
