/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The module's lock words and the only ways to take and leave them. Every take is one try: nothing
 * here waits, and nothing here knows what a lock protects.
 *
 * A failed shared take leaves its reader counted in two of the kinds. That is the module's own
 * behaviour and visible in dumps; the exclusive owner's release wipes it.
 */
#ifndef TDX_MODULE_LOCKS_H
#define TDX_MODULE_LOCKS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum lock_mode { LOCK_NONE, LOCK_SHARED, LOCK_EXCLUSIVE };

/* sharex: bit 0 exclusive, bits 15:1 readers. */
typedef _Atomic uint16_t sharex_t;

#define SHAREX_EX     1u
#define SHAREX_READER 2u

static inline bool sharex_lock(sharex_t *lock, enum lock_mode mode)
{
	uint16_t free = 0;

	if (mode == LOCK_SHARED)
		return !(atomic_fetch_add(lock, SHAREX_READER) & SHAREX_EX);
	return atomic_compare_exchange_strong(lock, &free, SHAREX_EX);
}

static inline void sharex_unlock(sharex_t *lock, enum lock_mode mode)
{
	if (mode == LOCK_SHARED)
		atomic_fetch_sub(lock, SHAREX_READER);
	else
		atomic_store(lock, 0);
}

/* sharex_hp: bit 0 exclusive, bit 1 host priority, bits 15:2 readers. */
typedef _Atomic uint16_t sharex_hp_t;

#define HP_EX	  1u
#define HP_HOST	  2u
#define HP_READER 4u

/* The host's takes: failure leaves the host-priority bit, success consumes it. */
static inline bool hp_lock_shared(sharex_hp_t *lock)
{
	uint16_t before = atomic_fetch_add(lock, HP_READER);

	if (before & HP_EX) {
		atomic_fetch_or(lock, HP_HOST);
		return false;
	}
	if (before & HP_HOST)
		atomic_fetch_and(lock, (uint16_t)~HP_HOST);
	return true;
}

/* From @readers counted (0: not held; HP_READER: the caller's own) to exclusive. */
static inline bool hp_take_exclusive(sharex_hp_t *lock, uint16_t readers)
{
	uint16_t alone = readers, alone_hp = readers | HP_HOST;

	if (atomic_compare_exchange_strong(lock, &alone, HP_EX) ||
	    atomic_compare_exchange_strong(lock, &alone_hp, HP_EX))
		return true;
	atomic_fetch_or(lock, HP_HOST);
	return false;
}

static inline bool hp_lock(sharex_hp_t *lock, enum lock_mode mode)
{
	return mode == LOCK_SHARED ? hp_lock_shared(lock) : hp_take_exclusive(lock, 0);
}

/* The caller's shared hold becomes exclusive; on failure it stays shared. */
static inline bool hp_promote(sharex_hp_t *lock)
{
	return hp_take_exclusive(lock, HP_READER);
}

static inline void hp_unlock(sharex_hp_t *lock, enum lock_mode mode)
{
	if (mode == LOCK_SHARED)
		atomic_fetch_sub(lock, HP_READER);
	else
		atomic_fetch_and(lock, HP_HOST);
}

/* mutex: 8 bits, 0 free, 1 taken. */
typedef _Atomic uint8_t mutex8_t;

static inline bool mutex8_lock(mutex8_t *lock)
{
	uint8_t free = 0;

	return atomic_compare_exchange_strong(lock, &free, 1);
}

static inline void mutex8_unlock(mutex8_t *lock)
{
	atomic_store(lock, 0);
}

#endif
