// SPDX-License-Identifier: BSD-2-Clause
/* Proves runs whose vCPUs have threads of their own (cli/run_engine.c, pthread_create()) with calls
 * that fail on purpose: what can be tried again leaves no trace, what can't leaves a report. */
#include "tests/cli/life.h"

#define THREADS                                                                              \
	"scenario threads\nvm td vcpus=3 chunk=16\nthreads on\nsteps 400\nslot 0 0+1M\n"     \
	"slot 1 4M+1M\nguest 0-1 random 0+1M write=50\nguest 2 random 4M+1M to=250 accept\n" \
	"every 20 punch 0+1M size=64K\nat 300 slot 1 delete\n"

static void judge_sound(const struct life *l)
{
	if (run_unsound(&l->run))
		run_screen(&l->run, stderr);
	assert_int_equal(run_unsound(&l->run), 0);
	assert_int_equal(run_leaked(&l->run, NULL), 0);
}

/* Memory is taken from under the vCPUs, and one call in ten is busy. */
static void failures_among_threads_are_got_over(void **state)
{
	static const char *const calls[] = {"AUG",	"SEPT.ADD",    "BLOCK",
					    "TRACK",	"PAGE.REMOVE", "PAGE.WBINVD",
					    "VP.ENTER", "map",	       "remove"};
	struct life *l = life_begin(THREADS);
	char rule[INJECT_TEXT_LEN];

	(void)state;
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		snprintf(rule, sizeof(rule), "%s:BUSY:10%%seed=%zu", calls[i], i);
		life_add(l, rule);
	}
	life_run(l);
	assert_true(inject_hits(&l->inject) > 100);
	judge_sound(l);
	assert_int_equal(life_ended(l), 400 + 400 + 250);
	life_end(l);
}

/* A page that can go neither way: everybody stops, and every page comes back all the same. */
static void a_vm_that_dies_among_threads_gives_all_back(void **state)
{
	struct life *l = life_begin(THREADS);

	(void)state;
	life_add(l, "PAGE.REMOVE:EPT_WALK_FAILED:40");
	life_add(l, "UNBLOCK:EPT_WALK_FAILED:1");
	life_run(l);
	judge_sound(l);
	assert_true(l->run.dead);
	assert_non_null(strstr(l->run.dead_text, "external remove failed"));
	life_end(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(failures_among_threads_are_got_over),
		cmocka_unit_test(a_vm_that_dies_among_threads_gives_all_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
