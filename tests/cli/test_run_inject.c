// SPDX-License-Identifier: BSD-2-Clause
/* Proves failures on purpose: rules hit when they say, bad ones are refused, and each failure of
 * each call at each point of whole lives of a TD is got over, or ends in a dead VM with a report,
 * with every page accounted for. */
#include <errno.h>
#include <time.h>

#include "cli/inject_failures.h"
#include "tdx/host/host.h"
#include "tests/cli/command.h"
#include "tests/cli/life.h"

static void assert_has(const char *text, const char *part)
{
	if (!text || !strstr(text, part))
		fail_msg("\"%s\" is not in:\n%s", part, text ? text : "nothing");
}

/* ---- every failure of every call, at every point ---- */

static const char *const lives[][2] = {
	{"a boot from added pages",
	 "scenario boot\nvm td vcpus=2\nsteps 4\nslot 0 0+32K\nbuild 0+4K\nbuild 4K+4K unmeasured\n"
	 "guest all sequential 0+8K\n"},
	{"faults and accepts",
	 "scenario faults\nvm td vcpus=2\nsteps 6\nslot 0 0+16K\nslot 1 4M+16K\n"
	 "guest 0 sequential 0+16K write=50\nguest 1 sequential 4M+16K accept\n"},
	{"conversions both ways",
	 "scenario convert\nvm td vcpus=2 chunk=2\nsteps 12\nslot 0 0+24K\n"
	 "guest 0 sequential 0+24K write=50\nguest 1 sequential 8K+16K write=50\n"
	 "at 4 convert shared 4K+12K\nat 8 convert private 4K+12K\n"},
	{"a slot deleted, and teardown with the key first",
	 "scenario delete\nvm td vcpus=2 chunk=4\nsteps 8\nslot 0 0+16K\nslot 1 4M+24K\n"
	 "guest 0 sequential 0+16K\nguest 1 sequential 4M+24K to=6\nat 6 slot 1 delete\n"},
	{"teardown page by page, then the key",
	 "scenario pages\nvm td vcpus=1 chunk=4\nsteps 8\nslot 0 0+24K\n"
	 "guest 0 sequential 0+24K to=6\nat 6 punch 0+24K\n"},
};

struct tally {
	uint64_t points, over, dead, not_made, leaking, leaked, failed_events, guest_errors;
};

/* Who may cost pages: what ends the key, and what gives pages back after it. */
static uint64_t may_leak(const struct inject_rule *rule, uint64_t all)
{
	if (rule->transient)
		return 0;
	if (rule->kind == INJECT_ERRNO)
		switch (rule->call) {
		case TPT_CALL_RELEASE:
			return all;
		case TPT_CALL_RECLAIM_LEAF:
		case TPT_CALL_FREE_TABLE:
			return 2; /* the page, and the TDR that can't go before it */
		default:
			return 0;
		}
	switch (rule->call) {
	case TDH_VP_FLUSH:
	case TDH_MNG_VPFLUSHDONE:
	case TDH_PHYMEM_CACHE_WB:
	case TDH_MNG_KEY_FREEID:
		return all;
	case TDH_PHYMEM_PAGE_RECLAIM:
		return 2;
	case TDH_PHYMEM_PAGE_WBINVD:
		return 1; /* the TDR: no write-back of all caches comes after it */
	default:
		return 0;
	}
}

static unsigned int complaints;

/* All that is wrong is told before the test fails; the first case whole. */
static void complain(const struct life *l, const char *what, const char *rule)
{
	print_message("%s, %s: %s (leaked %lu)%s%s\n", l->scenario.name, rule, what,
		      run_leaked(&l->run, NULL), l->run.dead ? "; dead: " : "", l->run.dead_text);
	if (!complaints++)
		run_screen(&l->run, stderr);
}

static void judge(const struct life *l, const char *rule, uint64_t accesses, struct tally *t)
{
	const struct run *r = &l->run;
	const struct inject_rule *hit = &l->inject.rule[0];
	uint64_t leaked = run_leaked(r, NULL);
	/* Control pages of a TD, its vCPUs, and what it mapped: more than that is not there. */
	uint64_t all = 7 + 6ull * l->scenario.vm.vcpus + 64;

	if (!hit->hits)
		complain(l, "it never hit", rule);
	/* Who can't read the external table can't compare it, and says so. */
	if (!hit->transient && hit->kind == INJECT_STATUS && hit->call == TDH_MEM_SEPT_RD)
		return r->audit ? (void)t->points++ : complain(l, "the audit saw nothing", rule);
	if (run_unsound(r))
		complain(l, "unsound", rule);
	if (!r->not_made[0] && life_ended(l) != accesses)
		complain(l, "a vCPU did not come to its end", rule);
	if (hit->transient && (r->dead || r->not_made[0] || r->totals.failed))
		complain(l, "it could have been tried again", rule);
	if (leaked > may_leak(hit, all))
		complain(l, "pages leaked that need not have", rule);
	if (r->dead && !r->dead_text[0])
		complain(l, "dead without a word", rule);
	t->points++;
	t->dead += r->dead;
	t->not_made += !!r->not_made[0];
	t->over += !r->dead && !r->not_made[0] && !r->totals.failed && !leaked;
	t->leaking += !!leaked;
	t->leaked += leaked;
	t->failed_events += r->totals.failed;
}

static void inject_at(const char *text, const char *call, const char *status, uint64_t n,
		      uint64_t accesses, struct tally *t)
{
	struct life *l = life_begin(text);
	char rule[INJECT_TEXT_LEN];

	snprintf(rule, sizeof(rule), "%s:%s:%lu", call, status, n);
	life_add(l, rule);
	life_run(l);
	judge(l, rule, accesses, t);
	life_end(l);
}

/* Calls of one kind in a life where nothing fails. */
static uint64_t calls_of(const char *text, const char *call, uint64_t *accesses)
{
	struct life *l = life_begin(text);
	char rule[INJECT_TEXT_LEN];
	uint64_t n;

	snprintf(rule, sizeof(rule), "%s:BUSY:from=1000000", call);
	life_add(l, rule);
	life_run(l);
	assert_int_equal(run_unsound(&l->run), 0);
	n = l->inject.rule[0].calls;
	*accesses = life_ended(l);
	life_end(l);
	return n;
}

static void each_point(const char *text, const char *call, const char *status, uint64_t calls,
		       uint64_t accesses, struct tally *t)
{
	/* The memory regions are initialised by a few hundred calls that are all the same. */
	uint64_t step = calls > 100 ? calls / 3 : 1;

	for (uint64_t n = 1; n <= calls; n += step)
		inject_at(text, call, status, n, accesses, t);
}

static void each_failure_of_each_seamcall(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(lives) / sizeof(lives[0]); i++) {
		struct tally t = {0};

		for (unsigned int k = 0; k < inject_nr_leaves(); k++) {
			enum tdh_leaf leaf = inject_leaf(k);
			uint64_t accesses, status;
			uint64_t calls = calls_of(lives[i][1], tdx_leaf_name(leaf), &accesses);

			for (unsigned int f = 0; (status = inject_failure(leaf, f)); f++)
				each_point(lives[i][1], tdx_leaf_name(leaf),
					   tdx_status_name(status), calls, accesses, &t);
		}
		print_message("%s: %lu points: %lu got over, %lu dead with a report, %lu TDs never "
			      "finished, %lu leaked %lu pages, %lu events failed\n",
			      lives[i][0], t.points, t.over, t.dead, t.not_made, t.leaking,
			      t.leaked, t.failed_events);
		assert_true(t.points > 100);
	}
	assert_int_equal(complaints, 0);
}

static void each_failure_of_each_external_call(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(lives) / sizeof(lives[0]); i++) {
		struct tally t = {0};

		for (unsigned int k = 0; k < TPT_CALL_NR; k++) {
			const char *call = tpt_external_call_name((enum tpt_external_call)k);
			uint64_t accesses, calls = calls_of(lives[i][1], call, &accesses);

			for (unsigned int e = 0; inject_errno(e); e++)
				each_point(lives[i][1], call, inject_errno(e)->name, calls,
					   accesses, &t);
		}
		print_message("%s: %lu points: %lu got over, %lu dead with a report, %lu TDs never "
			      "finished, %lu leaked %lu pages, %lu events failed\n",
			      lives[i][0], t.points, t.over, t.dead, t.not_made, t.leaking,
			      t.leaked, t.failed_events);
		assert_true(t.points > 30);
	}
	assert_int_equal(complaints, 0);
}

/* ---- failures that do not end ---- */

#define BUSY_LIFE                                                                       \
	"scenario busy\nvm td vcpus=2 chunk=4\nsteps 12\nslot 0 0+16K\nslot 1 4M+24K\n" \
	"guest 0 sequential 0+16K write=50\nguest 1 sequential 4M+24K to=6\n"           \
	"at 6 slot 1 delete\nat 7 convert shared 0+8K\nat 9 convert private 0+8K\n"

/* No accesses to count: who waits for ever is told so after a while. */
static void judge_forever(const struct life *l, const char *rule, struct tally *t)
{
	if (run_unsound(&l->run))
		complain(l, "unsound", rule);
	t->points++;
	t->dead += l->run.dead;
	t->not_made += !!l->run.not_made[0];
	t->leaked += run_leaked(&l->run, NULL);
}

static void busy_from(const char *call, uint64_t n, struct tally *t)
{
	struct life *l = life_begin(BUSY_LIFE);
	char rule[INJECT_TEXT_LEN];

	snprintf(rule, sizeof(rule), "%s:BUSY:from=%lu", call, n);
	life_add(l, rule);
	life_run(l);
	judge_forever(l, rule, t);
	life_end(l);
}

static void a_call_that_stays_busy_stops_neither_the_books_nor_the_end(void **state)
{
	struct tally t = {0};
	uint64_t accesses;

	(void)state;
	for (unsigned int k = 0; k < inject_nr_leaves() + TPT_CALL_NR; k++) {
		unsigned int op = k - inject_nr_leaves();
		const char *call = k < inject_nr_leaves()
					   ? tdx_leaf_name(inject_leaf(k))
					   : tpt_external_call_name((enum tpt_external_call)op);
		uint64_t calls = calls_of(BUSY_LIFE, call, &accesses);

		/* Only the audit reads entries: see judge(). */
		if (!calls || !strcmp(call, "TDH.MEM.SEPT.RD"))
			continue;
		busy_from(call, 1, &t);
		busy_from(call, (calls + 1) / 2, &t);
	}
	print_message(
		"busy for ever: %lu points: %lu dead with a report, %lu TDs never finished, %lu "
		"pages leaked\n",
		t.points, t.dead, t.not_made, t.leaked);
	assert_int_equal(complaints, 0);
}

/* Half of all calls of every kind, and the same calls of the same seed. */
static void random_failures_are_got_over_and_repeat(void **state)
{
	uint64_t hits[2], accesses;

	(void)state;
	calls_of(BUSY_LIFE, "TDH.MEM.TRACK", &accesses);
	for (unsigned int i = 0; i < 2; i++) {
		struct life *l = life_begin(BUSY_LIFE);
		char rule[INJECT_TEXT_LEN];

		for (unsigned int k = 0; k < inject_nr_leaves(); k++) {
			snprintf(rule, sizeof(rule), "%s:BUSY:30%%seed=7",
				 tdx_leaf_name(inject_leaf(k)));
			life_add(l, rule);
		}
		life_run(l);
		hits[i] = inject_hits(&l->inject);
		assert_int_equal(run_unsound(&l->run), 0);
		assert_false(l->run.dead);
		assert_int_equal(life_ended(l), accesses);
		assert_int_equal(run_leaked(&l->run, NULL), 0);
		life_end(l);
	}
	assert_int_equal(hits[0], hits[1]);
	assert_true(hits[0] > 100);
}

/* ---- rules ---- */

/* Which of the calls 1 to 12 of a leaf are hit: bit n - 1. */
static unsigned int hit_of(const char *rule)
{
	struct inject *inject = calloc(1, sizeof(*inject));
	char why[INJECT_WHY_LEN];
	unsigned int hit = 0;

	assert_non_null(inject);
	if (inject_add(inject, rule, why))
		fail_msg("%s", why);
	for (unsigned int n = 0; n < 12; n++) {
		struct tdx_regs regs = {.rax = TDH_MEM_TRACK, .rcx = 5}, other = {.rax = 1};

		assert_null(inject_seamcall(inject, &other));
		assert_int_equal(other.rax, 1);
		if (!inject_seamcall(inject, &regs))
			continue;
		assert_int_equal(regs.rax, TDX_OPERAND_BUSY | TDX_OPERAND_TD_EPOCH);
		assert_int_equal(regs.rcx, 5);
		hit |= 1u << n;
	}
	assert_int_equal(inject->rule[0].calls, 12);
	assert_int_equal(inject_hits(inject), __builtin_popcount(hit));
	free(inject);
	return hit;
}

static void rules_hit_when_they_say(void **state)
{
	(void)state;
	assert_int_equal(hit_of("TDH.MEM.TRACK:TDX_OPERAND_BUSY:3"), 1u << 2);
	assert_int_equal(hit_of("MEM.TRACK:OPERAND_BUSY:first=3"), 7);
	assert_int_equal(hit_of("TRACK:BUSY:from=11"), 3u << 10);
	assert_int_equal(hit_of("TRACK:BUSY:every=4"), 1u << 3 | 1u << 7 | 1u << 11);
	assert_int_equal(hit_of("TRACK:BUSY:100%"), 0xfff);
	assert_int_equal(hit_of("TRACK:BUSY:0%"), 0);
	assert_int_equal(hit_of("TRACK:BUSY:50%seed=3"), hit_of("TRACK:BUSY:50%seed=3"));
	assert_int_not_equal(hit_of("TRACK:BUSY:50%seed=3"), hit_of("TRACK:BUSY:50%seed=4"));
}

static void bad_rules_are_refused_by_value_and_rule(void **state)
{
	static const struct {
		const char *rule, *message;
	} bad[] = {
		{"BLOCK", "inject \"BLOCK\": must be CALL:STATUS:WHEN"},
		{"BLOCK:BUSY", "must be CALL:STATUS:WHEN"},
		{"NOTHING:BUSY:1", "call \"NOTHING\" is unknown; the calls are TDH.VP.ENTER, "},
		{"PAGE:BUSY:1", "call \"PAGE\" is unknown"},
		{"ADDCX:BUSY:1", "call \"ADDCX\" is the end of more than one name"},
		{"TDH.MEM.RD:BUSY:1", "call \"TDH.MEM.RD\" is unknown"},
		{"BLOCK:WBCACHE_NOT_COMPLETE:1",
		 "TDH.MEM.RANGE.BLOCK can't fail with \"WBCACHE_NOT_COMPLETE\" before it has done "
		 "anything; it can with OPERAND_BUSY, EPT_WALK_FAILED, "},
		{"BLOCK:SUCCESS:1", "can't fail with \"SUCCESS\""},
		{"block:OPERAND_BUSY:1", "\"OPERAND_BUSY\" is no answer of an external call; those "
					 "are BUSY, EBUSY, EIO"},
		{"block:BUSY:0", "\"0\" is no time; must be N, first=N, from=N or every=N"},
		{"block:BUSY:every=0", "\"every=0\" is no time"},
		{"block:BUSY:sometimes", "\"sometimes\" is no time"},
		{"block:BUSY:101%", "\"101%\" is no time"},
		{"block:BUSY:5%seed=x", "\"5%seed=x\" is no time"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(
			command(cmd_run, "run scenarios/td-teardown.tpt --inject %s", bad[i].rule),
			CLI_USAGE);
		assert_has(err, bad[i].message);
		assert_string_equal(out, "");
	}
	assert_int_equal(command(cmd_run, "run scenarios/precopy-dirty.tpt --inject BLOCK:BUSY:1"),
			 CLI_USAGE);
	assert_has(err, "only a td makes these calls");
}

static void the_report_says_what_was_injected_and_how_often(void **state)
{
	(void)state;
	assert_int_equal(command(cmd_run, "run scenarios/conversion-storm.tpt --json --inject "
					  "BLOCK:BUSY:every=10 --inject remove:EIO:7"),
			 CLI_OK);
	assert_has(out, "{\"rule\": \"BLOCK:BUSY:every=10\", \"call\": \"TDH.MEM.RANGE.BLOCK\", "
			"\"status\": \"TDX_OPERAND_BUSY(SEPT_TREE)\", \"calls\": ");
	assert_has(out, "{\"rule\": \"remove:EIO:7\", \"call\": \"remove\", \"status\": \"EIO\", ");
	assert_has(out, "\"hits\": 1}");
	assert_int_equal(command(cmd_run, "run scenarios/conversion-storm.tpt --inject "
					  "UNBLOCK:BUSY:1"),
			 CLI_OK);
	assert_has(out, "FAILURES ON PURPOSE");
	assert_has(out, "TDH.MEM.RANGE.UNBLOCK: 0 of 0 calls answered TDX_OPERAND_BUSY(SEPT_TREE); "
			"it never hit");
	assert_int_equal(command(cmd_run, "run --list-failures"), CLI_OK);
	assert_has(out, "  TDH.PHYMEM.CACHE.WB\n      OPERAND_BUSY, INTERRUPTED_RESUMABLE, ");
}

/* The module itself finds the interrupt, and goes on from there. */
static void an_interrupted_write_back_is_the_modules_own(void **state)
{
	struct life *l = life_begin(BUSY_LIFE);

	(void)state;
	life_add(l, "CACHE.WB:INTERRUPTED_RESUMABLE:first=2");
	life_run(l);
	assert_int_equal(run_unsound(&l->run), 0);
	assert_int_equal(l->inject.rule[0].hits, 2);
	assert_int_equal(life_counted(l, "seamcall.TDH.PHYMEM.CACHE.WB.busy"), 2);
	assert_int_equal(life_counted(l, "seamcall.TDH.PHYMEM.CACHE.WB"), 1);
	life_end(l);
}

static void a_tree_that_differs_is_found_all_the_same(void **state)
{
	struct life *l =
		life_begin("scenario differ\nvm td\nsteps 4\nslot 0 0+16K\n"
			   "guest 0 sequential 0+16K\nat 3 kick\n"
			   "at 3 seamcall TDH.MEM.RANGE.BLOCK rcx=0x1000 rdx=tdr expect SUCCESS\n");

	(void)state;
	life_add(l, "MEM.PAGE.AUG:EPT_WALK_FAILED:1");
	life_run(l);
	assert_true(run_may_fail(&l->run));
	assert_int_equal(l->run.audit, 1);
	assert_true(run_unsound(&l->run) > 0);
	life_end(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rules_hit_when_they_say),
		cmocka_unit_test(bad_rules_are_refused_by_value_and_rule),
		cmocka_unit_test(the_report_says_what_was_injected_and_how_often),
		cmocka_unit_test(an_interrupted_write_back_is_the_modules_own),
		cmocka_unit_test(a_tree_that_differs_is_found_all_the_same),
		cmocka_unit_test(random_failures_are_got_over_and_repeat),
		cmocka_unit_test(a_call_that_stays_busy_stops_neither_the_books_nor_the_end),
		cmocka_unit_test(each_failure_of_each_seamcall),
		cmocka_unit_test(each_failure_of_each_external_call),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
