// SPDX-License-Identifier: BSD-2-Clause
/*
 * Private and shared memory of a TD: which of the two a page is, what becomes of content, and that
 * what is taken away is gone at once. Plain memory is test_memory.c's.
 */
#include "tests/boot/guest/probe.h"

#define VECTOR_GP 13

const struct test td_tests[] = {
	{0},
};
