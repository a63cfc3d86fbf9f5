// SPDX-License-Identifier: BSD-2-Clause
/* Calls from several processors at once: conflicts end in BUSY, and the books are right afterwards.
 */
#include <pthread.h>

#include "tests/tdx/check.h"
#include "tests/tdx/random.h"

#define STEPS 20000

struct actor {
	struct lab *lab;
	pthread_t thread;
	unsigned int lp;
	int vcpu; /* -1: a host */
	uint64_t seed;
	unsigned int nr_busy, nr_good[RANDOM_NR_LEAVES];
};

static void *run_actor(void *argument)
{
	struct actor *actor = argument;
	struct rng rng = {actor->seed};

	for (unsigned int i = 0; i < STEPS; i++) {
		uint64_t status;

		if (actor->vcpu >= 0) {
			random_guest_step(actor->lab, &rng, actor->lp, (unsigned int)actor->vcpu);
			continue;
		}
		if (rng_below(&rng, 16) == 0)
			random_repair(actor->lab, &rng, actor->lp);
		status = random_host_call(actor->lab, &rng, actor->lp, actor->nr_good);
		actor->nr_busy += (status & TDX_STATUS_MASK) == TDX_OPERAND_BUSY;
	}
	return NULL;
}

static void hosts_and_guests_side_by_side(void **state)
{
	struct lab *lab = lab_create_running();
	struct actor actors[] = {
		{.lp = 0, .vcpu = -1, .seed = 11},
		{.lp = 1, .vcpu = -1, .seed = 12},
		{.lp = 2, .vcpu = 0, .seed = 13},
		{.lp = 3, .vcpu = 1, .seed = 14},
	};

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		actors[i].lab = lab;
		assert_int_equal(pthread_create(&actors[i].thread, NULL, run_actor, &actors[i]), 0);
	}
	for (size_t i = 0; i < 4; i++)
		pthread_join(actors[i].thread, NULL);
	print_message("hosts: %u + %u pages mapped, %u + %u calls busy\n",
		      actors[0].nr_good[TDH_MEM_PAGE_AUG], actors[1].nr_good[TDH_MEM_PAGE_AUG],
		      actors[0].nr_busy, actors[1].nr_busy);
	assert_true(check_all(lab));
	lab_kick(lab, 2);
	lab_kick(lab, 3);
	assert_true(check_all(lab));
	/* Each host alone gets some through on an idle machine; a busy one may run them in turn. */
	assert_true(actors[0].nr_good[TDH_MEM_PAGE_AUG] + actors[1].nr_good[TDH_MEM_PAGE_AUG]);
	lab_destroy(lab);
}

/* Two processors map the same page at the same GPA: exactly one of all attempts wins each round. */
struct racer {
	struct lab *lab;
	pthread_t thread;
	pthread_barrier_t *barrier;
	unsigned int lp;
	unsigned int wins, refused;
};

#define ROUNDS 2000

static bool take_away(struct lab *lab, uint64_t gpa)
{
	return lab_call(lab, 0, TDH_MEM_RANGE_BLOCK, gpa, LAB_TDR, 0) == TDX_SUCCESS &&
	       lab_call(lab, 0, TDH_MEM_TRACK, LAB_TDR, 0, 0) == TDX_SUCCESS &&
	       lab_call(lab, 0, TDH_MEM_PAGE_REMOVE, gpa, LAB_TDR, 0) == TDX_SUCCESS;
}

static void *run_racer(void *argument)
{
	struct racer *racer = argument;

	for (uint64_t round = 0; round < ROUNDS; round++) {
		uint64_t gpa = (round & 511) * LAB_PAGE, status;

		pthread_barrier_wait(racer->barrier);
		do {
			status = lab_call(racer->lab, racer->lp, TDH_MEM_PAGE_AUG, gpa, LAB_TDR,
					  LAB_FREE);
		} while ((status & TDX_STATUS_MASK) == TDX_OPERAND_BUSY);
		racer->wins += status == TDX_SUCCESS;
		pthread_barrier_wait(racer->barrier);
		if (racer->lp == 0)
			racer->refused += !take_away(racer->lab, gpa);
	}
	return NULL;
}

static void one_winner_for_one_page(void **state)
{
	struct lab *lab = lab_create_running();
	pthread_barrier_t barrier;
	struct racer racers[2] = {{.lab = lab, .barrier = &barrier},
				  {.lab = lab, .barrier = &barrier, .lp = 1}};

	(void)state;
	pthread_barrier_init(&barrier, NULL, 2);
	for (size_t i = 0; i < 2; i++)
		pthread_create(&racers[i].thread, NULL, run_racer, &racers[i]);
	for (size_t i = 0; i < 2; i++)
		pthread_join(racers[i].thread, NULL);
	pthread_barrier_destroy(&barrier);
	assert_int_equal(racers[0].wins + racers[1].wins, ROUNDS);
	assert_int_equal(racers[0].refused, 0);
	assert_true(check_all(lab));
	lab_destroy(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hosts_and_guests_side_by_side),
		cmocka_unit_test(one_winner_for_one_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
