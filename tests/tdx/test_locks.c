// SPDX-License-Identifier: BSD-2-Clause
/* The module's lock words, value by value: who gets in, and what a failed try leaves behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tdx/module/locks.h"
#include "tdx/module/sept.h"
#include "tdx/seamcall.h"

static void sharex_readers_count_and_a_writer_is_alone(void **state)
{
	sharex_t lock = 0;

	(void)state;
	assert_true(sharex_lock(&lock, LOCK_SHARED));
	assert_true(sharex_lock(&lock, LOCK_SHARED));
	assert_int_equal(lock, 4);
	assert_false(sharex_lock(&lock, LOCK_EXCLUSIVE));
	assert_int_equal(lock, 4);
	sharex_unlock(&lock, LOCK_SHARED);
	sharex_unlock(&lock, LOCK_SHARED);
	assert_true(sharex_lock(&lock, LOCK_EXCLUSIVE));
	assert_int_equal(lock, 1);
	assert_false(sharex_lock(&lock, LOCK_EXCLUSIVE));
}

static void sharex_refused_reader_stays_counted_until_the_writer_leaves(void **state)
{
	sharex_t lock = 1;

	(void)state;
	assert_false(sharex_lock(&lock, LOCK_SHARED));
	assert_int_equal(lock, 3);
	sharex_unlock(&lock, LOCK_EXCLUSIVE);
	assert_int_equal(lock, 0);
}

static void host_failure_leaves_host_priority_and_success_consumes_it(void **state)
{
	sharex_hp_t lock = 4;

	(void)state;
	assert_false(hp_lock(&lock, LOCK_EXCLUSIVE));
	assert_int_equal(lock, 6);
	assert_true(hp_lock(&lock, LOCK_SHARED));
	assert_int_equal(lock, 8);
	hp_unlock(&lock, LOCK_SHARED);
	hp_unlock(&lock, LOCK_SHARED);
	lock = 2;
	assert_true(hp_lock(&lock, LOCK_EXCLUSIVE));
	assert_int_equal(lock, 1);
}

static void host_reader_refused_by_a_writer(void **state)
{
	sharex_hp_t lock = 1;

	(void)state;
	assert_false(hp_lock(&lock, LOCK_SHARED));
	assert_int_equal(lock, 7);
	hp_unlock(&lock, LOCK_EXCLUSIVE);
	assert_int_equal(lock, 2);
}

static void only_the_last_reader_can_be_promoted(void **state)
{
	sharex_hp_t lock = 4;

	(void)state;
	assert_true(hp_promote(&lock));
	assert_int_equal(lock, 1);
	lock = 6;
	assert_true(hp_promote(&lock));
	assert_int_equal(lock, 1);
	lock = 8;
	assert_false(hp_promote(&lock));
	assert_int_equal(lock, 10);
}

static void mutex_lets_one_in(void **state)
{
	mutex8_t lock = 0;

	(void)state;
	assert_true(mutex8_lock(&lock));
	assert_false(mutex8_lock(&lock));
	mutex8_unlock(&lock);
	assert_true(mutex8_lock(&lock));
}

static void entry_lock_lets_the_host_go_first(void **state)
{
	uint64_t entry = sept_leaf_entry(S_PENDING, 0x100040000);
	uint64_t free = entry;

	(void)state;
	assert_true(sept_host_lock(&entry));
	assert_int_equal(entry, free | SEPT_LOCK);
	assert_int_equal(sept_guest_lock(&entry), TDX_OPERAND_BUSY);
	assert_int_equal(entry, free | SEPT_LOCK);
	assert_false(sept_host_lock(&entry));
	assert_int_equal(entry, free | SEPT_LOCK | SEPT_HOST);
	sept_unlock(&entry);
	assert_int_equal(sept_guest_lock(&entry), TDX_OPERAND_BUSY_HOST_PRIORITY);
	assert_int_equal(entry, free | SEPT_HOST);
	assert_true(sept_host_lock(&entry));
	sept_unlock(&entry);
	assert_int_equal(sept_guest_lock(&entry), TDX_SUCCESS);
	assert_int_equal(entry, free | SEPT_LOCK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sharex_readers_count_and_a_writer_is_alone),
		cmocka_unit_test(sharex_refused_reader_stays_counted_until_the_writer_leaves),
		cmocka_unit_test(host_failure_leaves_host_priority_and_success_consumes_it),
		cmocka_unit_test(host_reader_refused_by_a_writer),
		cmocka_unit_test(only_the_last_reader_can_be_promoted),
		cmocka_unit_test(mutex_lets_one_in),
		cmocka_unit_test(entry_lock_lets_the_host_go_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
