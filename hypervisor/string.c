// SPDX-License-Identifier: BSD-2-Clause
/* Bytes and words. The first four are those that a compiler calls on its own. */
#include "hypervisor/hv.h"

void *memcpy(void *to, const void *from, size_t bytes)
{
	void *d = to;
	size_t words = bytes / 8, rest = bytes % 8;

	__asm__ volatile("rep movsq" : "+D"(d), "+S"(from), "+c"(words) : : "memory");
	__asm__ volatile("rep movsb" : "+D"(d), "+S"(from), "+c"(rest) : : "memory");
	return to;
}

void *memmove(void *to, const void *from, size_t bytes)
{
	char *d = (char *)to + bytes - 1;
	const char *s = (const char *)from + bytes - 1;

	if ((uintptr_t)to - (uintptr_t)from >= bytes)
		return memcpy(to, from, bytes);
	/* Down from the end; DF is clear everywhere else. */
	__asm__ volatile("std; rep movsb; cld" : "+D"(d), "+S"(s), "+c"(bytes) : : "memory");
	return to;
}

void *memset(void *to, int byte, size_t bytes)
{
	void *d = to;
	size_t words = bytes / 8, rest = bytes % 8;
	uint64_t word = 0x0101010101010101ull * (uint8_t)byte;

	__asm__ volatile("rep stosq" : "+D"(d), "+c"(words) : "a"(word) : "memory");
	__asm__ volatile("rep stosb" : "+D"(d), "+c"(rest) : "a"(word) : "memory");
	return to;
}

int memcmp(const void *a, const void *b, size_t bytes)
{
	const uint8_t *x = a, *y = b;

	for (size_t i = 0; i < bytes; i++)
		if (x[i] != y[i])
			return x[i] < y[i] ? -1 : 1;
	return 0;
}

size_t strlen(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	return n;
}

bool str_starts(const char *s, const char *prefix)
{
	while (*prefix)
		if (*s++ != *prefix++)
			return false;
	return true;
}

uint64_t str_number(const char *s, const char **end)
{
	uint64_t value = 0, base = 10;

	if (str_starts(s, "0x")) {
		base = 16;
		s += 2;
	}
	for (;; s++) {
		unsigned int digit = *s >= '0' && *s <= '9' ? (unsigned int)(*s - '0')
				     : (*s | 32) >= 'a'	    ? (unsigned int)((*s | 32) - 'a' + 10)
							    : 99;

		if (digit >= base)
			break;
		value = value * base + digit;
	}
	*end = s;
	return value;
}
