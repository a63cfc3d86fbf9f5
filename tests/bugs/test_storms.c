// SPDX-License-Identifier: BSD-2-Clause
/*
 * Notifier storms do not starve faults: a vCPU gets through beside two threads that invalidate all
 * the time, in tries that are counted. Never looks at a clock.
 *
 * Derivation of the bounds. A try fails for one of three reasons. (1) The host is alone in the VM
 * at that moment: the vCPU tries again at once and the host's section is short; how often that is
 * so is the scheduler's matter, so only a wide bound is set. (2) An invalidation overlapped the
 * page: nobody may map it then, and the next gap is as long as the host leaves it. (3) More
 * invalidations ended while the backing was asked than the ring remembers. Outside of all ranges
 * (2) never happens, and (3) not where fewer ended: there the backing is asked once.
 */
#include "tests/support/host.h"

#include "mmu/vm/vm.h"

#define READ  TPT_PFERR_USER
#define PAGE  4096ull
#define SPAN  512u /* pages that each storm is over */
#define ROUND 60u  /* pages that the vCPU faults on, inside as outside */
/* Tries of one fault: what only a fault that is starved would need. */
#define BOUND 1000000u

/* Pages 0 .. and 2 * SPAN .. are under a storm each, those in between are not. */
static uint64_t page_of(bool inside, unsigned int i)
{
	return inside ? (i & 1) * 2 * SPAN + i / 2 : SPAN + i;
}

/* ---- by hand: what a storm in the gap of one fault does ---- */

static unsigned int storms; /* invalidations in each gap */
static uint64_t storm_start, storm_end;

static void storm_in_the_gap(struct host *h)
{
	for (unsigned int i = 0; i < storms; i++) {
		struct tpt_invalidation t;

		assert_true(tpt_vm_invalidate_begin(h->vm, tpt_hva_make(GIB + storm_start * PAGE),
						    tpt_hva_make(GIB + storm_end * PAGE), &t) >= 0);
		tpt_vm_invalidate_end(h->vm, &t);
	}
}

static struct host *vm(unsigned int nr_vcpus)
{
	struct tpt_vm_config c;
	struct host *h;

	host_config_npt(&c);
	h = host_create(&c, nr_vcpus);
	h->level = TPT_LEVEL_4K;
	assert_int_equal(host_slot(h, 0, 0, 0, 3 * SPAN * PAGE, GIB, 0), 0);
	return h;
}

static void a_storm_outside_costs_a_fault_no_try_at_all(void **state)
{
	struct host *h = vm(1);

	(void)state;
	/* Two ranges far apart would, if they were one, lie over the page. */
	storms = INVAL_RING / 2;
	h->in_lookup = storm_in_the_gap;
	for (unsigned int i = 0; i < 64; i++) {
		storm_start = i & 1 ? 2 * SPAN : 0;
		storm_end = storm_start + SPAN;
		assert_int_equal(host_fault(h, page_of(false, i) * PAGE, READ), TPT_RET_PF_FIXED);
	}
	/* Right up to the page on either side, and with as many as the ring remembers. */
	storms = INVAL_RING;
	storm_start = SPAN;
	storm_end = SPAN + 100;
	assert_int_equal(host_fault(h, (SPAN + 100) * PAGE, READ), TPT_RET_PF_FIXED);
	storm_start = SPAN + 102;
	storm_end = SPAN + 110;
	assert_int_equal(host_fault(h, (SPAN + 101) * PAGE, READ), TPT_RET_PF_FIXED);
	assert_int_equal(atomic_load(&h->lookups), 64 + 2);
	h->in_lookup = NULL;
	host_destroy(h);
}

/* One try for each gap in which the page was taken, and the first quiet one gets through. */
static void a_storm_inside_costs_a_try_for_each_gap_that_it_hits(void **state)
{
	struct host *h = vm(1);

	(void)state;
	storm_start = 0;
	storm_end = SPAN;
	for (unsigned int hits = 0; hits < 20; hits++) {
		storms = 1;
		h->in_lookup = storm_in_the_gap;
		for (unsigned int i = 0; i < hits; i++)
			assert_int_equal(host_fault(h, hits * PAGE, READ), TPT_RET_PF_RETRY);
		h->in_lookup = NULL;
		assert_int_equal(host_fault(h, hits * PAGE, READ), TPT_RET_PF_FIXED);
	}
	host_destroy(h);
}

/* ---- by hand: two storms that begin and end at random, and every try foretold ---- */

static struct {
	struct host *h;
	uint64_t random;
	struct tpt_invalidation token[2];
	bool in_progress[2];
	unsigned int ended[2]; /* since the try began */
} hand;

static unsigned int toss(unsigned int n)
{
	hand.random = hand.random * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned int)(hand.random >> 33) % n;
}

/* Each storm does up to three steps: a range begins, or ends. */
static void some_steps(struct host *h)
{
	for (unsigned int n = toss(7); n; n--) {
		unsigned int i = toss(2);
		uint64_t start = GIB + i * 2 * SPAN * PAGE;

		if (hand.in_progress[i])
			tpt_vm_invalidate_end(h->vm, &hand.token[i]);
		else
			assert_true(tpt_vm_invalidate_begin(h->vm, tpt_hva_make(start),
							    tpt_hva_make(start + SPAN * PAGE),
							    &hand.token[i]) >= 0);
		hand.ended[i] += hand.in_progress[i];
		hand.in_progress[i] = !hand.in_progress[i];
	}
}

/* One try at a page under storm @i (2: under none): does it fail only when it must? */
static int foretold_try(struct host *h, uint64_t page, unsigned int i)
{
	bool must_fail;
	int ret;

	some_steps(h);
	hand.ended[0] = hand.ended[1] = 0;
	must_fail = i < 2 && hand.in_progress[i];
	ret = host_fault(h, page * PAGE, READ);
	must_fail |= i < 2 && (hand.in_progress[i] || hand.ended[i]);
	/* It was there already, and nothing was asked. */
	if (ret != TPT_RET_PF_SPURIOUS)
		assert_int_equal(ret, must_fail ? TPT_RET_PF_RETRY : TPT_RET_PF_FIXED);
	return ret;
}

static void a_try_fails_only_while_its_own_page_is_taken(void **state)
{
	struct host *h = vm(1);
	unsigned int most = 0;

	(void)state;
	memset(&hand, 0, sizeof(hand));
	hand.h = h;
	h->in_lookup = some_steps;
	for (unsigned int n = 0; n < 6000; n++) {
		unsigned int i = toss(3), tries = 1;
		uint64_t page = (i == 2 ? SPAN : i * 2 * SPAN) + toss(SPAN);

		while (foretold_try(h, page, i) == TPT_RET_PF_RETRY)
			tries++;
		if (i == 2)
			assert_int_equal(tries, 1);
		most = tries > most ? tries : most;
	}
	/* A quiet gap is likelier than one in ten: 6000 faults that each take 200 are not. */
	assert_true(most > 1 && most < 200);
	h->in_lookup = NULL;
	for (unsigned int i = 0; i < 2; i++)
		if (hand.in_progress[i])
			tpt_vm_invalidate_end(h->vm, &hand.token[i]);
	host_destroy(h);
}

/* ---- two threads, all the time ---- */

struct storm {
	pthread_t thread;
	struct host *h;
	uint64_t start;
	_Atomic uint64_t blows;
	_Atomic bool *stop;
};

static void *blow(void *arg)
{
	struct storm *s = arg;

	while (!atomic_load(s->stop)) {
		struct tpt_invalidation t;

		must(tpt_vm_invalidate_begin(s->h->vm, tpt_hva_make(GIB + s->start * PAGE),
					     tpt_hva_make(GIB + (s->start + SPAN) * PAGE),
					     &t) >= 0);
		tpt_vm_invalidate_end(s->h->vm, &t);
		atomic_fetch_add(&s->blows, 1);
	}
	return NULL;
}

/* Most tries of one fault, and all of them. */
struct tries {
	uint64_t most, all;
};

static struct tries fault_all(struct host *h, bool inside)
{
	struct tries t = {0, 0};

	for (unsigned int i = 0; i < ROUND; i++) {
		uint64_t tries = 1;
		int ret;

		while ((ret = host_fault(h, page_of(inside, i) * PAGE, READ)) == TPT_RET_PF_RETRY ||
		       ret == -EAGAIN) {
			must(tries++ < BOUND);
			sched_yield();
		}
		must(ret == TPT_RET_PF_FIXED || ret == TPT_RET_PF_SPURIOUS);
		t.most = tries > t.most ? tries : t.most;
		t.all += tries;
	}
	return t;
}

static void two_storms_do_not_starve_a_fault(void **state)
{
	(void)state;
	for (unsigned int inside = 0; inside < 2; inside++) {
		struct host *h = vm(1);
		_Atomic bool stop = false;
		struct storm s[2];
		struct tries t;

		for (unsigned int i = 0; i < 2; i++) {
			s[i].h = h;
			s[i].start = i * 2 * SPAN;
			s[i].stop = &stop;
			atomic_init(&s[i].blows, 0);
			assert_int_equal(pthread_create(&s[i].thread, NULL, blow, &s[i]), 0);
		}
		while (!atomic_load(&s[0].blows) || !atomic_load(&s[1].blows))
			sched_yield();
		t = fault_all(h, inside);
		atomic_store(&stop, true);
		for (unsigned int i = 0; i < 2; i++)
			pthread_join(s[i].thread, NULL);
		print_message("%s: %u faults in %llu tries, at most %llu; %llu + %llu blows\n",
			      inside ? "inside" : "outside", ROUND, (unsigned long long)t.all,
			      (unsigned long long)t.most,
			      (unsigned long long)atomic_load(&s[0].blows),
			      (unsigned long long)atomic_load(&s[1].blows));
		assert_true(t.most < (inside ? BOUND : BOUND / 20));
		/* What the storms are not over they did not take. */
		if (!inside)
			assert_int_equal(host_stats(h).direct.pages_4k, ROUND);
		host_destroy(h);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_storm_outside_costs_a_fault_no_try_at_all),
		cmocka_unit_test(a_storm_inside_costs_a_try_for_each_gap_that_it_hits),
		cmocka_unit_test(a_try_fails_only_while_its_own_page_is_taken),
		cmocka_unit_test(two_storms_do_not_starve_a_fault),
	};

	return cmocka_run_group_tests_name("storms", tests, NULL, NULL);
}
