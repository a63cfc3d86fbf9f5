// SPDX-License-Identifier: BSD-2-Clause
/* Proves `triptych run`: the shipped scenarios are sound and count what arithmetic says, bad text
 * is refused by line, value and rule, and what a run writes as a trace replays with no difference.
 */
#include "cli/input.h"
#include "tests/cli/command.h"

/* ---- running commands ---- */

static void assert_has(const char *text, const char *part)
{
	if (!text || !strstr(text, part))
		fail_msg("\"%s\" is not in:\n%s", part, text ? text : "nothing");
}

struct temporary {
	char path[64];
};

static struct temporary write_temporary(const char *text)
{
	struct temporary t = {P_tmpdir "/triptych-run-XXXXXX"};
	int fd = mkstemp(t.path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (long)strlen(text));
	close(fd);
	return t;
}

/* Runs a scenario given as text; @options may be "". */
static int run_text(const char *text, const char *options)
{
	struct temporary t = write_temporary(text);
	int ret = command(cmd_run, "run %s %s", t.path, options);

	unlink(t.path);
	return ret;
}

/* A counter of the JSON in out. */
static uint64_t counted(const char *name)
{
	char key[80];
	const char *at = strstr(out, "\"counted\"");
	unsigned long n;

	assert_non_null(at);
	snprintf(key, sizeof(key), "\"%s\": ", name);
	at = strstr(at, key);
	if (!at)
		fail_msg("no counter %s in:\n%s", name, out);
	assert_int_equal(sscanf(at + strlen(key), "%lu", &n), 1);
	return n;
}

static void assert_sound(int ret)
{
	if (ret)
		fail_msg("exit status %d\n%s%s", ret, err, out);
	assert_has(out, "\"audit_faults\": 0");
	assert_has(out, "\"judge_reports\": 0");
	assert_has(out, "\"frames_left\": 0");
	assert_has(out, "\"misuses\": 0");
	assert_has(out, "\"sound\": true");
}

static void run_shipped(const char *name)
{
	assert_sound(command(cmd_run, "run scenarios/%s.tpt --json", name));
}

/* ---- the shipped scenarios, and what must be exact ---- */

static void precopy_loses_no_page_and_puts_huge_pages_together(void **state)
{
	(void)state;
	run_shipped("precopy-dirty");
	assert_int_equal(counted("dirty.missed"), 0);
	/* 64 MiB in 2 MiB pages. */
	assert_int_equal(counted("direct.pages_2m"), 32);
	assert_int_equal(counted("flush.collapse"), 1);
	/* One for switching the log on, one for each of four clears. */
	assert_int_equal(counted("flush.dirty_log"), 5);
	assert_int_equal(counted("dirty.pages"), counted("dirty.cleared"));
	assert_true(counted("pf_fast") > counted("dirty.pages"));
	assert_int_equal(counted("calls"), 0);
}

static void restore_with_huge_pages_maps_what_nobody_filled_in(void **state)
{
	(void)state;
	run_shipped("snapshot-restore-thp");
	/* 8 blocks of 512 pages, one of each restored; each of 4096 pages is touched once. */
	assert_int_equal(counted("host.mapped_unfilled_pages"), 8 * 511);
	assert_int_equal(counted("guest.unfilled_accesses"), 8 * 511);
	assert_int_equal(counted("pf_fixed"), 8 + 4096 + 8);
}

static void nx_recovery_costs_one_flush_and_stops_nobody(void **state)
{
	(void)state;
	run_shipped("nx-recovery-jitter");
	/* Code runs in 16 huge pages: 6 recoveries of all, 6 of an eighth. */
	assert_int_equal(counted("nx.recovered"), 6 * 16 + 6 * 2);
	assert_int_equal(counted("flush.nx_recovery"), 12);
	assert_int_equal(counted("direct.pages_2m"), 16);
	assert_int_equal(counted("nx_lpage_splits"), 16);
	assert_int_equal(counted("pf_retry"), 0);
}

static void notifier_storm_starves_nobody(void **state)
{
	(void)state;
	run_shipped("numa-notifier-storm");
	assert_int_equal(counted("invalidations"), 3200 / 4);
	assert_true(counted("pf_retry") > 0);
	assert_int_equal(counted("pf_retry"), counted("guest.steps_stalled"));
	/* Every invalidation lasts 3 steps, and at most one is under way. */
	assert_true(counted("guest.longest_stall") <= 3);
	assert_true(counted("flush.notifier") <= 800);
}

static void churn_takes_only_what_the_slot_mapped(void **state)
{
	(void)state;
	run_shipped("memslot-churn");
	assert_int_equal(counted("zap_all_fast"), 0);
	assert_int_equal(counted("guest.mmio"), 60 * 30 + 30 * 80);
	assert_int_equal(counted("pf_retry"), 0);
	/* The slot's first pages are touched in each of its lives: one flush each. */
	assert_true(counted("flush.memslot") <= 120);
}

static void conversions_cost_two_calls_a_page_and_one_track_each(void **state)
{
	(void)state;
	run_shipped("conversion-storm");
	assert_int_equal(counted("call.block"), 64 * 16);
	assert_int_equal(counted("call.remove"), 64 * 16);
	assert_int_equal(counted("call.track"), 64);
	assert_int_equal(counted("seamcall.TDH.MEM.TRACK"), 64);
	assert_int_equal(counted("seamcall.TDH.MEM.RANGE.BLOCK"), 64 * 16);
	assert_int_equal(counted("flush.conversion"), 64);
}

static void a_boot_with_huge_pages_costs_one_of_each_a_block(void **state)
{
	(void)state;
	run_shipped("td-huge");
	/* 64 MiB, and a page that left and came back. */
	assert_int_equal(counted("exit.accept_violation"), 32 + 1);
	assert_int_equal(counted("seamcall.TDH.MEM.PAGE.AUG"), 32 + 1);
	assert_int_equal(counted("seamcall.TDH.MEM.SEPT.ADD"), 2);
	assert_int_equal(counted("seamcall.TDH.MEM.PAGE.DEMOTE"), 1);
	assert_int_equal(counted("mirror.pages_2m"), 31);
	assert_int_equal(counted("mirror.pages_4k"), 512);
}

static void boot_costs_one_exit_and_one_aug_a_page(void **state)
{
	(void)state;
	run_shipped("td-boot-storm");
	assert_int_equal(counted("exit.accept_violation"), 16 * 1024);
	assert_int_equal(counted("seamcall.TDH.MEM.PAGE.AUG"), 16 * 1024);
	/* 64 MiB: 32 leaf tables, one of level 2, one of level 3. */
	assert_int_equal(counted("seamcall.TDH.MEM.SEPT.ADD"), 34);
	assert_int_equal(counted("mirror.pages_4k"), 16 * 1024);
	assert_int_equal(counted("mirror.table_bytes"), 35 * (4096 + 64));
}

static void teardown_with_the_key_gone_costs_one_call_a_page(void **state)
{
	(void)state;
	run_shipped("td-teardown");
	assert_int_equal(counted("call.block"), 4096);
	assert_int_equal(counted("call.remove"), 4096);
	assert_int_equal(counted("call.track"), 4096 / 512);
	assert_int_equal(counted("end.block"), 0);
	assert_int_equal(counted("end.track"), 0);
	assert_int_equal(counted("end_kicks"), 0);
	assert_int_equal(counted("end.reclaim_leaf"), 4096);
	assert_int_equal(counted("td.pamt_in_use"), 0);
}

static void memory_comes_by_adding_by_accepting_ahead_and_by_touching(void **state)
{
	(void)state;
	run_shipped("td-boot-built");
	/* 1 MiB added; 4 MiB accepted ahead; one page in eight of 4 MiB touched. */
	assert_int_equal(counted("seamcall.TDH.MEM.PAGE.ADD"), 256);
	assert_int_equal(counted("seamcall.TDH.MEM.PAGE.AUG"), 1024 + 128);
	assert_int_equal(counted("ve.private"), 128);
	assert_int_equal(counted("pamt.leaves_4k"), 256 + 1024 + 128);
}

static void without_ve_a_guest_accepts_first_or_is_stopped(void **state)
{
	(void)state;
	run_shipped("td-ve-disable");
	assert_int_equal(counted("ve.private"), 0);
	assert_int_equal(counted("guest.mmio"), counted("ve.shared"));
	assert_int_equal(counted("own.calls"), 3);
}

static void conversions_cost_what_they_must_and_nothing_for_what_is_not_there(void **state)
{
	(void)state;
	run_shipped("td-conversions");
	/* For n mapped pages: n BLOCK, 1 TRACK, 1 kick, n REMOVE, n PAGE.WBINVD. */
	assert_int_equal(counted("call.block"), 16 + 8 + 10 + 512);
	assert_int_equal(counted("call.remove"), counted("call.block"));
	assert_int_equal(counted("seamcall.TDH.PHYMEM.PAGE.WBINVD"), counted("call.remove") + 1);
	assert_int_equal(counted("call.track"), 1 + 1 + 10 + 1);
	assert_int_equal(counted("kick.track"), counted("call.track"));
}

static void teardown_page_by_page_costs_four_calls_a_page(void **state)
{
	(void)state;
	run_shipped("td-teardown-pages");
	assert_int_equal(counted("call.block") + counted("call.remove"), 2 * 4096);
	assert_int_equal(counted("call.track"), 4096 / 512);
	assert_int_equal(counted("end.reclaim_leaf"), 0);
	assert_int_equal(counted("end.free_table"), 10);
	/* What the module gave back was cleared: pages, tables, TDR and TDCS, 6 for each vCPU. */
	assert_int_equal(counted("td.cleared_pages"), 4096 + 10 + 7 + 4 * 6);
}

static void key_ids_run_out_come_back_and_a_lost_one_is_told(void **state)
{
	(void)state;
	assert_int_equal(command(cmd_run, "run scenarios/td-keys.tpt --json"), CLI_OK);
	assert_has(out, "\"frames_left\": 7, ");
	assert_has(out, "\"leaked_pages\": 7, \"leaks_accounted\": true, ");
	assert_int_equal(counted("keys.refused"), 5);
	assert_int_equal(counted("keys.lost"), 1);
	assert_int_equal(counted("td.leaked_pages"), 7);
	assert_int_equal(command(cmd_run, "run scenarios/td-keys.tpt"), CLI_OK);
	assert_has(out, "key ids        41 further TDs, 5 refused for want of one, 1 lost");
	/* Nobody lost it on purpose: that would be wrong. */
	assert_int_equal(run_text("scenario keys\nvm td\nsteps 5\nslot 0 0+1M\n"
				  "at 1 tds create 31\nat 2 tds end 30\n"
				  "expect keys.refused = 1\n",
				  "--json"),
			 CLI_OK);
	assert_int_equal(counted("keys.lost"), 0);
}

static void an_unfriendly_host_is_refused_and_the_books_stay_right(void **state)
{
	(void)state;
	run_shipped("td-attack-host");
	assert_int_equal(counted("own.calls"), 47);
	assert_int_equal(counted("own.unexpected"), 0);
	assert_int_equal(counted("event.audit"), 4);
}

static void an_unfriendly_guest_is_answered_and_the_books_stay_right(void **state)
{
	(void)state;
	run_shipped("td-attack-guest");
	assert_int_equal(counted("own.unexpected"), 0);
	assert_int_equal(counted("td.to_shared"), 0);
	/* 4 vCPUs, 256 steps, 16 pages: each of them was accepted once. */
	assert_int_equal(counted("td.accepts"), 17);
	assert_true(counted("td.tdcalls") > 4 * 256);
}

static void the_pamt_is_static_and_counted_by_page_size(void **state)
{
	(void)state;
	assert_sound(run_text("scenario pamt\nvm td vcpus=2\nsteps 40\nslot 0 0+4M\n"
			      "guest 0 sequential 0+128K to=32\n",
			      "--json"));
	/* 16 bytes for each page of each size of 1 GiB. */
	assert_int_equal(counted("pamt.memory_bytes"), 1 << 30);
	assert_int_equal(counted("pamt.bytes_4k"), 16 << 18);
	assert_int_equal(counted("pamt.bytes_2m"), 16 << 9);
	assert_int_equal(counted("pamt.bytes_1g"), 16);
	assert_int_equal(counted("pamt.bytes"), 16 * ((1 << 18) + (1 << 9) + 1));
	assert_int_equal(counted("pamt.leaves_4k"), 32);
	assert_int_equal(counted("pamt.leaves_2m"), 0);
	assert_int_equal(counted("pamt.table_pages"), 3);
	assert_int_equal(counted("pamt.control_pages"), 7 + 2 * 6);
}

/* ---- what calls cost others ---- */

static int run_cost(const char *tsv, const char *options)
{
	struct temporary t = write_temporary(tsv);
	int ret = command(cmd_run, "run scenarios/td-teardown.tpt --cost %s %s", t.path, options);

	unlink(t.path);
	return ret;
}

static void an_unknown_price_makes_its_sum_unknown(void **state)
{
	(void)state;
	assert_int_equal(
		run_cost("# a comment\n"
			 "estimate\tall known\tcall.block\t2us\ta block\tsomebody\n"
			 "estimate\tall known\tcall.track\t1ms\ta track\tsomebody\n"
			 "estimate\thalf known\tcall.block\t2us\ta block\tsomebody\n"
			 "estimate\thalf known\tcall.remove\tunknown\ta remove\tnobody\n"
			 "estimate\tnever made\tcall.unblock\tunknown\tan unblock\tnobody\n"
			 "estimate\tunmade part\tcall.block\t1us\ta block\tsomebody\n"
			 "estimate\tunmade part\tcall.unblock\tunknown\tone\tnobody\n"
			 "published\tteardown\t9 s\ttheirs\tthem\n",
			 ""),
		CLI_OK);
	/* 4096 BLOCKs, 8 TRACKs. */
	assert_has(out, "  all known: 16.2 ms\n");
	assert_has(out, "      a block: 4,096 call.block at 2 us = 8.19 ms; somebody\n");
	assert_has(out, "  half known: unknown; the known part: 8.19 ms\n");
	assert_has(out, "      a remove: 4,096 call.remove, price unknown; nobody\n");
	assert_null(strstr(out, "never made"));
	assert_has(out, "  unmade part: 4.1 ms\n");
	assert_true(strstr(out, "PUBLISHED ELSEWHERE") < strstr(out, "teardown: 9 s"));
	assert_int_equal(run_cost("estimate\thalf\tcall.block\t2us\ta block\tsomebody\n"
				  "estimate\thalf\tcall.remove\tunknown\ta remove\tnobody\n",
				  "--json"),
			 CLI_OK);
	assert_has(out, "{\"group\": \"half\", \"ns\": null, \"known_ns\": 8192000, ");
	assert_has(out, "\"each_ns\": null, \"source\": \"nobody\"}");
}

static void every_price_has_a_source_and_bad_files_are_refused(void **state)
{
	static const struct {
		const char *tsv, *message;
	} bad[] = {
		{"estimate\ta\tb\t5\tc\td\n",
		 "line 1: \"5\": must be a time like 4.45us, or unknown"},
		{"\n\nestimate\ta\tb\t5us\tc\n", "line 3: must be estimate, group, counter, time"},
		{"estimate\ta\tb\t5us\tc\t\n", "line 1: column 6, the source: 1 to 255 characters"},
		{"published\ta\tb\tc\td\te\tf\n", "line 1: more than 6 columns"},
		{"nonsense\n", "line 1: must be estimate, "},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(run_cost(bad[i].tsv, ""), CLI_USAGE);
		assert_has(err, bad[i].message);
		assert_string_equal(out, "");
	}
	assert_int_equal(command(cmd_run, "run scenarios/td-teardown.tpt --cost /none/there"),
			 CLI_USAGE);
	/* The one that we ship. */
	assert_int_equal(
		command(cmd_run, "run scenarios/td-teardown.tpt --cost scenarios/costs.tsv --json"),
		CLI_OK);
	assert_has(out, "\"group\": \"teardown after the key is gone\", \"ns\": null, ");
}

static void published_figures_stand_apart(void **state)
{
	const char *ours, *measured, *estimates, *published;

	(void)state;
	assert_int_equal(command(cmd_run, "run scenarios/precopy-dirty.tpt"), 0);
	ours = strstr(out, "COUNTED HERE");
	measured = strstr(out, "MEASURED HERE (by this machine's clock)");
	estimates = strstr(out, "ESTIMATES (a count of ours times a constant of others");
	published = strstr(out, "PUBLISHED ELSEWHERE (not measured here)");
	assert_true(ours && measured > ours && estimates > measured && published > estimates);
	/* What is counted has no unit of time, and what was timed stands apart. */
	for (const char *p = ours; p < measured; p++)
		assert_false(!strncmp(p, " ms", 3) || !strncmp(p, " us", 3));
	assert_has(estimates, "unknown (5 flush.dirty_log; no published figure for one is known)");
	assert_has(published, "machine: ");
	assert_has(published, "source: cloud-hypervisor#8899");
}

static void the_same_scenario_counts_the_same_again(void **state)
{
	static char first[sizeof(out)];

	(void)state;
	run_shipped("numa-notifier-storm");
	memcpy(first, out, sizeof(out));
	run_shipped("numa-notifier-storm");
	assert_string_equal(first, out);
}

/* ---- small situations ---- */

#define HEAD "scenario test\n"

static void an_access_stalls_as_long_as_the_invalidation_over_it(void **state)
{
	(void)state;
	/* Steps 10 to 16: the invalidation begins before the access of its step and ends before
	 * that of step 17. The page next to it is nobody's business. */
	assert_sound(run_text(HEAD "vm npt vcpus=2\nsteps 40\nslot 0 0+1M\n"
				   "guest 0 sequential 64K+4K write=100\n"
				   "guest 1 sequential 68K+4K write=100\n"
				   "at 10 unmap 64K+4K lasts=7 drop\n",
			      "--json"));
	assert_int_equal(counted("guest.steps_stalled"), 7);
	assert_int_equal(counted("guest.longest_stall"), 7);
	assert_int_equal(counted("guest.accesses"), 40 + 40 - 7);
	assert_int_equal(counted("pf_retry"), 7);
	assert_int_equal(counted("pf_fixed"), 3);
	assert_int_equal(counted("unmap.leaves"), 1);
}

static void no_walk_holds_longer_than_a_chunk(void **state)
{
	(void)state;
	/* 16384 pages of 4 KiB: a chunk looks at 4096 entries. */
	assert_sound(run_text(HEAD "vm npt vcpus=4\nsteps 4100\nslot 0 0+64M\n"
				   "guest all sequential 0+64M to=4096 divided write=100\n"
				   "at 4097 unmap 0+64M\n",
			      "--json"));
	assert_int_equal(counted("unmap.leaves"), 16384);
	assert_int_equal(counted("hold.longest_exclusive"), 4096);
	assert_true(counted("flush.notifier") >= 4);
	/* The same beside faults. */
	assert_sound(run_text(HEAD "vm npt vcpus=4\nsteps 4100\nslot 0 0+64M\n"
				   "guest all sequential 0+64M to=4096 divided write=100\n"
				   "at 4097 log 0 on\nat 4098 log 0 get\n",
			      "--json"));
	assert_true(counted("hold.longest_shared") >= 4096);
	assert_true(counted("hold.longest_shared") < 4096 + 512);
	assert_true(counted("hold.longest_exclusive") <= 1);
}

static void zero_pages_are_copied_at_the_first_write(void **state)
{
	(void)state;
	assert_sound(run_text(HEAD "vm ept\nsteps 768\nslot 0 0+1M cow\n"
				   "guest 0 sequential 0+1M to=256\n"
				   "guest 0 sequential 0+1M from=256 write=100\n",
			      "--json"));
	assert_int_equal(counted("host.zero_pages"), 256);
	assert_int_equal(counted("host.copied_pages"), 256);
	assert_int_equal(counted("unmap.leaves"), 0);
	assert_int_equal(counted("flush.notifier"), 256);
	/* The notifier comes from inside the fault's lookup: RETRY, and the access in the next
	 * step. */
	assert_int_equal(counted("guest.steps_stalled"), 256);
	assert_int_equal(counted("guest.accesses"), 512);
}

static void aging_finds_what_was_used(void **state)
{
	(void)state;
	/* 256 pages used, then 16 of them again. */
	assert_sound(run_text(HEAD "vm npt\nsteps 300\nslot 0 0+1M\n"
				   "guest 0 sequential 0+1M to=256\n"
				   "guest 0 sequential 0+64K from=256\n"
				   "at 256 age 0+1M\nat 299 test-age 64K+64K\n",
			      "--json"));
	assert_int_equal(counted("age.young_pages"), 256);
	assert_int_equal(counted("flushes"), 0);
}

static void every_way_of_logging_misses_nothing(void **state)
{
	static const char *const vms[] = {"npt",
					  "npt dirty_manual",
					  "npt eager_page_split",
					  "npt dirty_manual dirty_initially_set eager_page_split",
					  "ept",
					  "ept pml",
					  "ept no_ad",
					  "ept pml dirty_manual"};
	char text[1024];

	(void)state;
	for (size_t i = 0; i < sizeof(vms) / sizeof(vms[0]); i++) {
		snprintf(text, sizeof(text),
			 HEAD "vm %s vcpus=2\nsteps 2500\nslot 0 0+4M page=2m\n"
			      "guest all random 0+4M write=60\nat 300 log 0 on\n"
			      "every 500 from=400 log 0 get\n%sat 2450 log 0 off\n",
			 vms[i],
			 strstr(vms[i], "manual") ? "every 500 from=450 log 0 clear\n" : "");
		assert_sound(run_text(text, "--json"));
		assert_int_equal(counted("dirty.missed"), 0);
		/* 100 steps and 1000 accesses, 60 % of them writes, to 1024 pages. */
		assert_true(counted("dirty.pages") > 800);
	}
	assert_true(counted("cpu.pml_logged") > 800);
}

static void a_full_ring_loses_nothing(void **state)
{
	(void)state;
	assert_sound(run_text(HEAD
			      "vm npt vcpus=2 ring=256\nsteps 3000\nslot 0 0+8M page=2m log\n"
			      "guest all random 0+8M write=60\nevery 1000 from=500 ring drain\n",
			      "--json"));
	assert_int_equal(counted("dirty.missed"), 0);
	assert_true(counted("ring.full_exits") > 5);
	assert_true(counted("ring.entries") > 1000);
	assert_int_equal(counted("ring.entries"), counted("ring.reset"));
	assert_sound(run_text(HEAD
			      "vm ept pml vcpus=2 ring=1024\nsteps 3000\n"
			      "slot 0 0+8M page=2m log\n"
			      "guest all random 0+8M write=60\nevery 1000 from=500 ring drain\n",
			      "--json"));
	assert_int_equal(counted("dirty.missed"), 0);
}

static void memory_mapped_ahead_takes_no_fault(void **state)
{
	(void)state;
	assert_sound(run_text(HEAD "vm npt leaf=4k\nsteps 256\nslot 0 0+1M\n"
				   "guest 0 sequential 0+1M write=50\nat 0 premap 0+1M write\n",
			      "--json"));
	assert_int_equal(counted("prefault.pages"), 256);
	assert_int_equal(counted("pf_taken"), 0);
	assert_sound(run_text(HEAD "vm npt leaf=4k\nsteps 256\nslot 0 0+1M\n"
				   "guest 0 sequential 0+1M\nat 0 prefault 0+1M\n",
			      "--json"));
	assert_int_equal(counted("prefault.pages"), 256);
	assert_int_equal(counted("pf_taken"), 0);
}

static void a_killed_guest_does_nothing_more(void **state)
{
	(void)state;
	assert_sound(run_text(HEAD "vm npt vcpus=2\nsteps 1000\nslot 0 0+1M\n"
				   "guest all random 0+1M\nat 100 kill\n",
			      "--json"));
	assert_int_equal(counted("guest.accesses"), 200);
}

static void threads_run_side_by_side(void **state)
{
	(void)state;
	assert_sound(run_text(
		HEAD "vm npt vcpus=4 dirty_manual eager_page_split\nthreads on\nsteps 3000\n"
		     "slot 0 0+16M page=2m\nslot 1 32M+4M cow\nslot 2 64M+4M\n"
		     "guest 0-1 random 0+16M write=50 exec=20\n"
		     "guest 2 random 32M+4M write=50\nguest 3 random 64M+4M write=50\n"
		     "every 100 from=50 unmap 0+16M size=64K drop\n"
		     "every 200 from=100 log 0 on\nevery 200 from=150 log 0 get\n"
		     "every 200 from=160 log 0 clear\nevery 200 from=180 log 0 off\n"
		     "every 300 from=10 slot 2 delete\nevery 300 from=110 slot 2 create\n"
		     "every 250 age 0+16M\nevery 1000 zap-all\n"
		     "at 900 nx force\nevery 200 from=1000 nx recover ratio=2\n",
		"--json"));
	assert_sound(run_text(HEAD "vm td vcpus=3\nthreads on\nsteps 1500\nslot 0 0+8M\n"
				   "guest all random 0+8M write=50\n"
				   "every 100 punch 0+8M size=128K\n",
			      "--json"));
}

static void a_recorded_guest_can_be_played(void **state)
{
	char dir[4096], text[8192];

	(void)state;
	/* Files that a scenario names lie beside it, or have a whole path. */
	assert_non_null(getcwd(dir, sizeof(dir)));
	snprintf(text, sizeof(text),
		 HEAD "vm npt\nsteps 3000\nslot 0 0+16M page=2m\n"
		      "guest 0 trace 0+16M file=%s/traces/kvm-npt-small.txt.xz\n",
		 dir);
	assert_sound(run_text(text, "--json"));
	assert_true(counted("guest.accesses") > 10);
	assert_true(counted("pf_fixed") > 1);
}

/* ---- calls that a scenario makes by itself ---- */

#define TD "scenario test\nvm td vcpus=2\nsteps 20\nslot 0 0+1M\n"

static void a_call_that_is_answered_otherwise_fails_the_run(void **state)
{
	(void)state;
	assert_int_equal(run_text(TD "guest 0 sequential 0+16K\nat 5 kick\n"
				     "at 5 seamcall TDH.MEM.PAGE.REMOVE rcx=0x1000 rdx=tdr expect "
				     "EPT_WALK_FAILED\n",
				  ""),
			 CLI_DIFFERENT);
	assert_has(out,
		   "own calls      1 made, 1 answered otherwise than expected: line 7: the outcome "
		   "must be EPT_WALK_FAILED, and is TDX_GPA_RANGE_NOT_BLOCKED(RCX)");
	/* A status without its operand matches, another operand doesn't; registers are compared. */
	assert_int_equal(run_text(TD "guest 0 sequential 0+16K\nat 5 kick\n"
				     "at 5 seamcall TDH.MEM.PAGE.REMOVE rcx=0x1000 rdx=tdr expect "
				     "GPA_RANGE_NOT_BLOCKED(RDX)\n",
				  ""),
			 CLI_DIFFERENT);
	assert_int_equal(run_text(TD "guest 0 sequential 0+16K\nat 5 kick\n"
				     "at 5 seamcall TDH.MEM.PAGE.REMOVE rcx=0x1000 rdx=tdr expect "
				     "TDX_GPA_RANGE_NOT_BLOCKED rdx=0x401\n",
				  ""),
			 CLI_DIFFERENT);
	assert_has(out, "a register must be 0x401, and is 0x400");
	assert_int_equal(run_text(TD "guest 0 sequential 0+16K\n"
				     "at 5 touch vcpu=1 0x10000 expect done\n",
				  ""),
			 CLI_DIFFERENT);
	assert_has(out, "the outcome must be done, and is VE");
	/* What succeeds behind the library's back is found by the audit. */
	assert_int_equal(run_text(TD "guest 0 sequential 0+16K\nat 18 kick\n"
				     "at 19 seamcall TDH.MEM.RANGE.BLOCK rcx=0x1000 rdx=tdr expect "
				     "SUCCESS\n",
				  "--json"),
			 CLI_DIFFERENT);
	assert_has(out, "\"audit_faults\": 1");
	assert_int_equal(run_text(TD "at 5 seamcall TDH.MEM.RANGE.BLOCK rcx=page:0x5000 rdx=tdr "
				     "expect SUCCESS\n",
				  ""),
			 CLI_USAGE);
	assert_has(err, "line 5: \"page:0x5000\" can't be known now");
}

/* ---- expectations ---- */

static void an_expectation_that_fails_is_told_and_fails_the_run(void **state)
{
	(void)state;
	assert_int_equal(run_text(HEAD "vm npt\nsteps 10\nslot 0 0+1M\n"
				       "guest 0 sequential 0+1M\nexpect pf_taken = 11 \"no\"\n"
				       "expect pf_taken <= 10\nexpect pf_taken >= 11\n"
				       "expect nothing_such = 0\nexpect pf_fixed = pf_taken\n",
				  ""),
			 CLI_DIFFERENT);
	assert_has(out, "line 6: pf_taken = 11, but it is 10; no");
	assert_has(out, "line 8: pf_taken >= 11, but it is 10");
	assert_has(out, "line 9: nothing_such = 0, but it is no counter");
	assert_has(out, "2 of 5 hold");
	assert_has(out, "UNSOUND");
}

static void accesses_that_fail_are_told_and_fail_the_run(void **state)
{
	(void)state;
	/* Converted behind the guest's back there is nothing: private memory beyond the slot. */
	assert_int_equal(run_text(HEAD "vm td\nsteps 4\nslot 0 0+1M\n"
				       "guest 0 sequential 2M+1M\n",
				  ""),
			 CLI_DIFFERENT);
	assert_has(out, "vCPU 0: 4 accesses failed, the first at 0x200000");
}

/* ---- bad text ---- */

#define VM HEAD "vm npt vcpus=2\nsteps 10\nslot 0 0+1M\n"

static const struct {
	const char *text, *message;
} bad_texts[] = {
	{"", "the scenario has no name"},
	{HEAD, "has no vm line"},
	{HEAD "vm npt\nslot 0 0+1M\n", "has no steps"},
	{HEAD "vm npt\nsteps 5\n", "has no slot"},
	{HEAD "nonsense 1\n", "line 2: \"nonsense\" begins no line of a scenario"},
	{HEAD "vm arm\n", "line 2: kind of VM \"arm\": must be npt, ept or td"},
	{HEAD "vm npt vcpus=65\n", "line 2: vcpus=65: 1 to 64 for this kind of VM"},
	{HEAD "vm npt vcpus=0\n", "line 2: vcpus=0: 1 to 64"},
	{HEAD "vm npt vcpus=x\n", "line 2: vcpus \"x\" is not a number"},
	{HEAD "vm npt levels=3\n", "line 2: levels=3: 4 or 5"},
	{HEAD "vm npt leaf=3m\n", "line 2: leaf \"3m\": must be 4k, 2m or 1g"},
	{HEAD "vm npt dirty_initially_set\n", "line 2: dirty_initially_set needs dirty_manual"},
	{HEAD "vm td eager_page_split\n", "line 2: a td has 4 levels and none of these flags"},
	{HEAD "vm npt pml\n", "line 2: pml and no_ad: only with ept"},
	{HEAD "vm ept pml no_ad\n", "line 2: pml needs dirty flags: not with no_ad"},
	{HEAD "vm npt ring=100\n", "line 2: ring=100: a power of two, from 256"},
	{HEAD "vm ept pml ring=512\n",
	 "line 2: ring=512: a power of two, from 256 (with pml: 1024)"},
	{HEAD "vm npt ring=256 dirty_manual\n", "line 2: ring: not with dirty_manual"},
	{VM "at 3 ring drain\n", "line 5: ring: the vm line has no ring=ENTRIES"},
	{VM "at 3 nx never\n", "line 5: \"never\" can't be done to it"},
	{HEAD "vm npt shiny\n", "line 2: \"shiny\": unknown here"},
	{HEAD "slot 0 0+1M\n", "line 2: slot: the vm line comes first"},
	{VM "slot 32764 0+1M\n", "line 5: a slot's id 32764: at most 32763"},
	{VM "slot 1 1M\n", "line 5: area \"1M\": must be START+SIZE"},
	{VM "slot 1 1M+100\n", "line 5: size 100: must be whole pages of 4 KiB"},
	{VM "slot 1 1M+0\n", "line 5: area \"1M+0\" is empty"},
	{VM "slot 1 8T+1T\nslot 1 0+1Q\n", "at most"},
	{VM "slot 1 1M+9999999T\n", "line 5: size 9999999T lies beyond 52 address bits"},
	{VM "slot 1-3 1M+16K\n", "line 5: 4 pages can't be divided among 3 slots"},
	{VM "slot 3-1 1M+16K\n", "line 5: a slot's id 3-1: the last comes before the first"},
	{VM "slot 0 1M+1M\n", "slot 0 is on line 4 and on line 5"},
	{VM "slot 1 1M+1M told=2m\n", "line 5: told: the host can't report a larger page"},
	{VM "slot 1 1M+1M cow page=2m\n", "line 5: cow: only with page=4k"},
	{VM "guest 2 random 0+1M\n", "line 5: vCPU 2: the VM has 0 to 1"},
	{VM "guest 0 wild 0+1M\n", "line 5: pattern \"wild\": must be sequential"},
	{VM "guest 0 stride 0+1M\n", "line 5: stride=0: 4 KiB to the area's size"},
	{VM "guest 0 hot 0+1M hot=2M\n", "line 5: hot=2097152: 4 KiB to the area's size"},
	{VM "guest 0 random 0+1M write=101\n", "line 5: write 101: at most 100"},
	{VM "guest 0 random 0+1M write=60 exec=50\n", "write=60 and exec=50: together at most 100"},
	{VM "guest 0 random 0+1M from=5 to=5\n", "from=5 to=5: no step lies in between"},
	{VM "guest 0 random 0+1M accept\n", "accept: only a td's guest accepts memory"},
	{VM "guest all random 0+12K divided\n", "divided: 3 pages among 2 vCPUs"},
	{VM "guest 0 trace 0+1M\n", "pattern trace and file=FILE go together"},
	{VM "guest 0 trace 0+1M file=/none/there\n", "line 5: file=/none/there: "},
	{VM "at 3\n", "line 5: an event is missing"},
	{VM "at x unmap 0+1M\n", "line 5: step \"x\" is not a number"},
	{VM "at 3 dance\n", "line 5: event \"dance\" is unknown"},
	{VM "every 0 unmap 0+1M\n", "line 5: every 0: at least 1"},
	{VM "at 3 unmap 0+1M size=300K\n", "the area must be a multiple of it"},
	{VM "at 3 slot 7 delete\n", "line 5: slot 7: no slot line before has it"},
	{VM "at 3 slot 0 polish\n", "line 5: \"polish\" can't be done to it"},
	{VM "at 3 slot 0 move\n", "line 5: move: to=ADDRESS is missing"},
	{VM "at 3 log 0 clear\n", "line 5: log clear: only with dirty_manual"},
	{VM "at 3 convert private 0+1M\n", "line 5: convert: only a td has private memory"},
	{VM "every 3 kill\n", "line 5: kill: once, with at"},
	{VM "published \"a\" \"b\"\n", "line 5: machine=\"...\" is missing"},
	{VM "published \"a\" \"b\" machine=\"c\"\n", "line 5: source=\"...\" is missing"},
	{VM "estimate \"a\" pf_taken 5\n", "line 5: \"5\": a time ends with ns, us, ms or s"},
	{VM "estimate \"a\" pf_taken 5us\n", "line 5: source=\"...\" is missing"},
	{VM "expect pf_taken 5\n", "line 5: expect: =, <= or >= after the counter"},
	{VM "story \"never ends\n", "line 5: a quote is not closed"},
	{HEAD "vm npt sept_ve_disable\n", "line 2: sept_ve_disable: only a td has that attribute"},
	{VM "build 0+4K\n", "line 5: build: only a td is built from pages"},
	{VM "inject BLOCK:BUSY:1\n", "line 5: inject: only a td makes these calls"},
	{VM "at 3 kick\n", "line 5: kick: only a td"},
	{TD "inject BLOCK:BUSY\n", "line 5: inject \"BLOCK:BUSY\": must be CALL:STATUS:WHEN"},
	{TD "inject BLOCK:BUSY:never\n", "line 5: inject BLOCK:BUSY:never: \"never\" is no time"},
	{TD "guest 0 random 0+1M shared accept\n", "line 5: shared: only a td's guest"},
	{TD "at 1 convert shared 0+4K accept\n", "line 5: accept: only what becomes private"},
	{TD "at 1 seamcall TDH.NOTHING expect SUCCESS\n",
	 "line 5: leaf \"TDH.NOTHING\" is unknown"},
	{TD "at 1 seamcall TDH.VP.ENTER expect SUCCESS\n", "line 5: TDH.VP.ENTER: guests enter"},
	{TD "at 1 seamcall TDH.MEM.TRACK rcx=tdr\n", "line 5: \"expect OUTCOME\" is missing"},
	{TD "at 1 seamcall TDH.MEM.TRACK rax=1 expect SUCCESS\n", "line 5: \"rax=1\": a register"},
	{TD "at 1 seamcall TDH.MEM.TRACK rcx=1+ expect SUCCESS\n", "line 5: value \"1+\": must be"},
	{TD "at 1 tdcall vcpu=9 TDG.VP.INFO expect SUCCESS\n", "line 5: vcpu 9: at most 1"},
	{TD "at 1 touch expect done\n", "is missing"},
	{TD "at 1 name 5x tdr\n", "line 5: name \"5x\": a letter first"},
	{TD "at 1 tds create 99\n", "line 5: tds 99: at most 64"},
	{TD "finally kick\n", "line 5: finally: a seamcall and nothing else"},
	{TD "threads on\nat 1 touch 0 expect done\n",
	 "line 6: with threads on a vCPU can't be made"},
	{HEAD "vm td\nsteps 5\nslot 1 0+1M\n", "slot 1 on line 4: a td's slots are one each, 0, 1"},
	{HEAD "vm td\nsteps 5\nslot 0 0+1M\nthreads on\nat 1 convert shared 0+1M\n",
	 "line 6: with threads on a vCPU can't be made to do it"},
};

static void bad_text_is_refused_by_line_value_and_rule(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad_texts) / sizeof(bad_texts[0]); i++) {
		if (run_text(bad_texts[i].text, "") != CLI_USAGE)
			fail_msg("accepted:\n%s", bad_texts[i].text);
		assert_has(err, bad_texts[i].message);
		assert_string_equal(out, "");
	}
}

static void bad_options_are_refused(void **state)
{
	(void)state;
	assert_int_equal(command(cmd_run, "run"), CLI_USAGE);
	assert_has(err, "no scenario given");
	assert_int_equal(command(cmd_run, "run a b"), CLI_USAGE);
	assert_int_equal(command(cmd_run, "run --fast a"), CLI_USAGE);
	assert_int_equal(command(cmd_run, "run a --trace"), CLI_USAGE);
	assert_int_equal(command(cmd_run, "run %s/no-such-file", P_tmpdir), CLI_USAGE);
	assert_int_equal(
		command(cmd_run, "run scenarios/td-teardown.tpt --trace %s/none/there", P_tmpdir),
		CLI_USAGE);
	assert_int_equal(command(cmd_run, "run --help"), CLI_OK);
}

static void an_event_that_cannot_be_done_ends_the_run(void **state)
{
	(void)state;
	assert_int_equal(run_text(VM "at 3 slot 0 create\n", ""), CLI_USAGE);
	assert_has(err, "line 5: slot 0 is there already");
	assert_int_equal(run_text(VM "slot 1 512K+4K\n", ""), CLI_USAGE);
	assert_has(err, "slot 1: File exists");
	assert_int_equal(run_text(VM "at 3 log 0 get\n", ""), CLI_USAGE);
	assert_has(err, "line 5: log get: No such file");
}

/* ---- there and back ---- */

/* Every word that the run installed is installed again by the replay. */
static void round_trip(const char *scenario)
{
	struct temporary t = write_temporary(""), slots = write_temporary("");
	unsigned long recorded, compared, different;
	const char *last;
	int ret = command(cmd_run, "run %s --trace %s --slots %s", scenario, t.path, slots.path);

	if (ret)
		fail_msg("%s: %d\n%s%s", scenario, ret, err, out);
	ret = command(cmd_replay, "replay %s --slots %s --compare", t.path, slots.path);
	unlink(t.path);
	unlink(slots.path);
	if (ret)
		fail_msg("%s: replay says %d\n%s%s", scenario, ret, err, out);
	last = strstr(out, "\ninstalls: ");
	assert_non_null(last);
	assert_int_equal(sscanf(last + 1, "installs: %lu recorded, %lu compared, %lu different",
				&recorded, &compared, &different),
			 3);
	assert_true(recorded > 0);
	assert_int_equal(compared, recorded);
	assert_int_equal(different, 0);
	assert_has(out, " 0 bad");
}

static void a_trace_of_a_run_replays_without_a_difference(void **state)
{
	struct temporary t;

	(void)state;
	round_trip("scenarios/snapshot-restore-thp.tpt");
	round_trip("scenarios/numa-notifier-storm.tpt");
	round_trip("scenarios/precopy-dirty.tpt");
	/* The log's own lines are there to be compared, as KVM writes them. */
	assert_null(strstr(out, "fast faults 0 recorded"));
	assert_null(strstr(out, "splits    0 recorded"));
	t = write_temporary(HEAD "vm npt vcpus=3 slot_zap_all\nsteps 400\n"
				 "slot 0 0+4M page=2m\nslot 1 16M+1M cow\nslot 2 32M+1M ro\n"
				 "guest 0 random 0+4M write=50\nguest 1 random 16M+1M write=50\n"
				 "guest 2 random 32M+2M write=30\n"
				 "every 50 from=20 unmap 16M+1M size=64K drop\n"
				 "at 300 slot 2 delete\n");
	round_trip(t.path);
	unlink(t.path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(precopy_loses_no_page_and_puts_huge_pages_together),
		cmocka_unit_test(restore_with_huge_pages_maps_what_nobody_filled_in),
		cmocka_unit_test(nx_recovery_costs_one_flush_and_stops_nobody),
		cmocka_unit_test(notifier_storm_starves_nobody),
		cmocka_unit_test(churn_takes_only_what_the_slot_mapped),
		cmocka_unit_test(conversions_cost_two_calls_a_page_and_one_track_each),
		cmocka_unit_test(boot_costs_one_exit_and_one_aug_a_page),
		cmocka_unit_test(a_boot_with_huge_pages_costs_one_of_each_a_block),
		cmocka_unit_test(teardown_with_the_key_gone_costs_one_call_a_page),
		cmocka_unit_test(memory_comes_by_adding_by_accepting_ahead_and_by_touching),
		cmocka_unit_test(without_ve_a_guest_accepts_first_or_is_stopped),
		cmocka_unit_test(conversions_cost_what_they_must_and_nothing_for_what_is_not_there),
		cmocka_unit_test(teardown_page_by_page_costs_four_calls_a_page),
		cmocka_unit_test(key_ids_run_out_come_back_and_a_lost_one_is_told),
		cmocka_unit_test(an_unfriendly_host_is_refused_and_the_books_stay_right),
		cmocka_unit_test(an_unfriendly_guest_is_answered_and_the_books_stay_right),
		cmocka_unit_test(the_pamt_is_static_and_counted_by_page_size),
		cmocka_unit_test(an_unknown_price_makes_its_sum_unknown),
		cmocka_unit_test(every_price_has_a_source_and_bad_files_are_refused),
		cmocka_unit_test(published_figures_stand_apart),
		cmocka_unit_test(the_same_scenario_counts_the_same_again),
		cmocka_unit_test(an_access_stalls_as_long_as_the_invalidation_over_it),
		cmocka_unit_test(no_walk_holds_longer_than_a_chunk),
		cmocka_unit_test(zero_pages_are_copied_at_the_first_write),
		cmocka_unit_test(aging_finds_what_was_used),
		cmocka_unit_test(every_way_of_logging_misses_nothing),
		cmocka_unit_test(a_full_ring_loses_nothing),
		cmocka_unit_test(memory_mapped_ahead_takes_no_fault),
		cmocka_unit_test(a_killed_guest_does_nothing_more),
		cmocka_unit_test(threads_run_side_by_side),
		cmocka_unit_test(a_recorded_guest_can_be_played),
		cmocka_unit_test(a_call_that_is_answered_otherwise_fails_the_run),
		cmocka_unit_test(an_expectation_that_fails_is_told_and_fails_the_run),
		cmocka_unit_test(accesses_that_fail_are_told_and_fail_the_run),
		cmocka_unit_test(bad_text_is_refused_by_line_value_and_rule),
		cmocka_unit_test(bad_options_are_refused),
		cmocka_unit_test(an_event_that_cannot_be_done_ends_the_run),
		cmocka_unit_test(a_trace_of_a_run_replays_without_a_difference),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
