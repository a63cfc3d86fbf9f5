// SPDX-License-Identifier: BSD-2-Clause
/* A simulated TD whose host goes for its memory: what the guest reads next ends it, and its pages
 * come back all the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/td.h"

#define GPA 0x5000ull
#define RAM (8ull << 20)

static char last_log[256];

static void keep_log(void *ctx, enum tpt_log_level level, const char *text)
{
	(void)ctx;
	(void)level;
	snprintf(last_log, sizeof(last_log), "%s", text);
}

/* A TD with one page that holds "secret"; *hpa is where it is. */
static struct simtd *make(uint64_t *hpa)
{
	const struct simtd_config config = {
		.nr_vcpus = 1, .private_bytes = RAM, .shared_bytes = RAM, .log = keep_log};
	char why[256] = "", secret[] = "secret";
	const struct simtd_access store = {GPA, MACHINE_WRITE, secret, sizeof(secret)};
	struct tdx_sept_view entry;
	struct simtd *td;

	last_log[0] = 0;
	if (simtd_create(&td, &config, why, sizeof(why)))
		fail_msg("%s", why);
	assert_int_equal(simtd_add_slot(td, 0, RAM), 0);
	assert_int_equal(simtd_finalize(td), 0);
	assert_int_equal(simtd_guest_touch(td, 0, &store), TD_TOUCHED);
	assert_int_equal(tdx_module_view_sept(simtd_module(td), tdx_td_tdr(simtd_tdx(td)).a, GPA, 0,
					      0, &entry),
			 0);
	*hpa = entry.raw & 0x000ffffffffff000ull;
	return td;
}

/* The guest reads its page. */
static int load(struct simtd *td, char buf[7])
{
	const struct simtd_access access = {GPA, MACHINE_READ, buf, 7};

	return simtd_guest_touch(td, 0, &access);
}

static void finish(struct simtd *td)
{
	struct simtd_remains remains;

	simtd_end(td, &remains);
	assert_int_equal(remains.teardown, 0);
	assert_int_equal(remains.destroy, 0);
	assert_int_equal(remains.frames, 0);
	simtd_destroy(td);
}

static void the_host_sees_zeros_and_the_guest_its_secret(void **state)
{
	char buf[7];
	uint64_t hpa;
	struct simtd *td = make(&hpa);

	(void)state;
	assert_int_equal(tdx_module_host_read(simtd_module(td), hpa, buf, 7), 0);
	assert_int_equal(buf[0], 0);
	assert_int_equal(load(td, buf), TD_TOUCHED);
	assert_string_equal(buf, "secret");
	assert_string_equal(last_log, "");
	finish(td);
}

static void what_a_host_wrote_ends_the_td(void **state)
{
	char buf[7];
	uint64_t hpa;
	struct simtd *td = make(&hpa);

	(void)state;
	assert_int_equal(tdx_module_host_write(simtd_module(td), hpa, "x", 1), 0);
	assert_non_null(strstr(last_log, "host write: page"));
	assert_int_equal(load(td, buf), -EIO);
	assert_int_equal(load(td, buf), -EIO);
	assert_int_equal(tdx_module_memory_events(simtd_module(td), TDX_MEMORY_MACHINE_CHECK), 1);
	finish(td);
}

static void a_touch_that_moves_no_bytes_is_a_read_too(void **state)
{
	const struct simtd_access touch = {.gpa = GPA, .kind = MACHINE_READ};
	uint64_t hpa;
	struct simtd *td = make(&hpa);

	(void)state;
	assert_int_equal(tdx_module_host_write_lines(simtd_module(td), hpa, NULL, 64), 0);
	assert_int_equal(simtd_guest_touch(td, 0, &touch), -EIO);
	finish(td);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_host_sees_zeros_and_the_guest_its_secret),
		cmocka_unit_test(what_a_host_wrote_ends_the_td),
		cmocka_unit_test(a_touch_that_moves_no_bytes_is_a_read_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
