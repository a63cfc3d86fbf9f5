// SPDX-License-Identifier: BSD-2-Clause
/* Secure-EPT entries: every state's word, its public number, and the way from one to the next. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tdx/module/sept.h"
#include "tdx/module/sept_l2.h"
#include "tdx/seamcall.h"

#define H 0x100040000ull

static void each_state_has_its_word(void **state)
{
	static const struct {
		uint64_t raw;
		enum sept_state state;
		uint8_t public_state;
	} rows[] = {
		{0x80e0000000000000, S_FREE, TDX_SEPT_FREE},
		{0x8000000000000007 | H, S_NL_MAPPED, TDX_SEPT_NL_MAPPED},
		{0x8080000000000000 | H, S_NL_BLOCKED, TDX_SEPT_NL_BLOCKED},
		{0x80000000000000f7 | H, S_MAPPED, TDX_SEPT_MAPPED},
		{0x80800000000000f0 | H, S_BLOCKED, TDX_SEPT_BLOCKED},
		{0x81000000000000f0 | H, S_PENDING, TDX_SEPT_PENDING},
		{0x81800000000000f0 | H, S_PENDING_BLOCKED, TDX_SEPT_PENDING_BLOCKED},
		{0x80c0000000000000, S_OTHER, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(sept_state(rows[i].raw), rows[i].state);
		assert_int_equal(sept_public_state(rows[i].raw), rows[i].public_state);
		/* Lock, host priority and aliases are no part of the state. */
		assert_int_equal(sept_state(rows[i].raw | SEPT_LOCK | SEPT_HOST | SEPT_TDAL),
				 rows[i].state);
	}
	assert_int_equal(sept_free_entry(), rows[0].raw);
	assert_int_equal(sept_table_entry(H), rows[1].raw);
	assert_int_equal(sept_leaf_entry(S_MAPPED, H), rows[3].raw);
	assert_int_equal(sept_leaf_entry(S_PENDING, H), rows[5].raw);
}

static void blocking_and_unblocking_are_each_others_inverse(void **state)
{
	const uint64_t entries[] = {sept_table_entry(H), sept_leaf_entry(S_MAPPED, H),
				    sept_leaf_entry(S_PENDING, H) | SEPT_TDAL};
	const enum sept_state blocked[] = {S_NL_BLOCKED, S_BLOCKED, S_PENDING_BLOCKED};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(sept_state(sept_block(entries[i], 0)), blocked[i]);
		assert_int_equal(sept_unblock(sept_block(entries[i], 0)), entries[i]);
	}
	assert_int_equal(sept_accept(sept_leaf_entry(S_PENDING, H)), sept_leaf_entry(S_MAPPED, H));
}

static void accept_counter_is_no_address_and_dies_when_blocked(void **state)
{
	uint64_t entry = sept_leaf_entry(S_PENDING, 0x110000000) | 6ull << 12;

	(void)state;
	assert_int_equal(sept_hpa(entry, 1), 0x110000000);
	assert_int_equal(sept_block(entry, 1), 0x81800001100000f0);
	/* It shows in RCX, as on the real module. */
	assert_int_equal(sept_public_entry(entry), 0x80000001100060f0);
}

static void public_view_hides_tables(void **state)
{
	(void)state;
	assert_int_equal(sept_public_entry(sept_free_entry()), 0x8000000000000000);
	assert_int_equal(sept_public_entry(sept_table_entry(H)), 7);
	assert_int_equal(sept_public_entry(sept_block(sept_table_entry(H), 1)), 0);
}

static void l2_leaf_keeps_its_attributes_while_blocked(void **state)
{
	(void)state;
	for (unsigned int attributes = 1; attributes < 0x80; attributes++) {
		uint64_t raw = sept_l2_leaf_entry(H, (uint16_t)attributes);
		uint64_t blocked = sept_l2_block(raw);

		assert_int_equal(blocked & SEPT_RWX, 0);
		assert_int_equal(sept_l2_unblock(blocked), raw);
		assert_int_equal(sept_l2_attributes(raw), attributes | L2_ATTR_VALID);
		assert_int_equal(sept_l2_attributes(blocked), attributes | L2_ATTR_VALID);
	}
	assert_int_equal(sept_l2_leaf_entry(H, 7), 0x00000001000400f7);
	assert_int_equal(sept_l2_block(0x00000001000400f7), 0x08800001000400d8);
	assert_int_equal(sept_l2_block(sept_l2_table_entry(0x100112000)), 0x0080000100112000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_state_has_its_word),
		cmocka_unit_test(blocking_and_unblocking_are_each_others_inverse),
		cmocka_unit_test(accept_counter_is_no_address_and_dies_when_blocked),
		cmocka_unit_test(public_view_hides_tables),
		cmocka_unit_test(l2_leaf_keeps_its_attributes_while_blocked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
