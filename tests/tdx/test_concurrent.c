// SPDX-License-Identifier: BSD-2-Clause
/* Calls from several processors at once: conflicts end in BUSY, and the books are right whenever
 * all have stopped. */
#include <pthread.h>

#include "tests/tdx/invariants.h"
#include "tests/tdx/moves.h"

#define NR_ACTORS WORLD_NR_LPS
#define ROUNDS	  10
#define STEPS	  8000
#define NR_LEAVES 64

struct actor {
	struct moves m;
	pthread_t thread;
	unsigned int nr_busy, nr_good[NR_LEAVES], nr_accepted;
};

static void note(struct actor *actor, const struct event *e, const struct answer *a)
{
	if (!a->done)
		return;
	actor->nr_busy += (a->regs.rax & TDX_STATUS_MASK) == TDX_OPERAND_BUSY;
	if (e->kind == EV_HOST && (a->side == TDX_GUEST || a->regs.rax == TDX_SUCCESS))
		actor->nr_good[(e->r[0] & TDX_RAX_LEAF) % NR_LEAVES]++;
	actor->nr_accepted += e->kind == EV_GUEST && e->r[0] == TDG_MEM_PAGE_ACCEPT &&
			      a->side == TDX_GUEST && a->regs.rax == TDX_SUCCESS;
}

static void *act(void *argument)
{
	struct actor *actor = argument;

	for (unsigned int i = 0; i < STEPS; i++) {
		struct event e;
		struct answer a;

		choose(&actor->m, &e);
		a = world_play(actor->m.w, &e);
		learn(&actor->m, &e, &a);
		note(actor, &e, &a);
	}
	return NULL;
}

/* All act, all stop, the books are looked at; again and again. */
static void play_together(struct world *w, struct actor *actors)
{
	struct inv *inv = inv_create(w);

	for (unsigned int round = 0; round < ROUNDS; round++) {
		for (unsigned int i = 0; i < NR_ACTORS; i++)
			assert_int_equal(pthread_create(&actors[i].thread, NULL, act, &actors[i]),
					 0);
		for (unsigned int i = 0; i < NR_ACTORS; i++)
			pthread_join(actors[i].thread, NULL);
		/* What failed under a writer stays counted until that writer leaves: not at rest.
		 */
		if (!inv_check(inv))
			fail_msg("round %u: %s (%#llx)", round, inv->broken,
				 (unsigned long long)inv->where);
	}
	inv_check_rest(inv);
	assert_null(inv->broken);
	inv_destroy(inv);
}

static unsigned int total(const struct actor *actors, unsigned int leaf)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < NR_ACTORS; i++)
		count += actors[i].nr_good[leaf];
	return count;
}

static void print_busy(const struct actor *actors)
{
	for (unsigned int i = 0; i < NR_ACTORS; i++)
		print_message("processor %u: %u calls busy\n", i, actors[i].nr_busy);
}

static bool all_happened(const struct actor *actors)
{
	return total(actors, TDH_MEM_PAGE_AUG) && total(actors, TDH_MEM_PAGE_REMOVE) &&
	       total(actors, TDH_MEM_PAGE_DEMOTE) && total(actors, TDH_MEM_RANGE_BLOCK) &&
	       actors[2].nr_accepted + actors[3].nr_accepted;
}

static void init_hosts_and_vcpus(struct actor *actors, struct world *w, unsigned int life)
{
	for (unsigned int i = 0; i < NR_ACTORS; i++) {
		struct moves *m = &actors[i].m;

		*m = (struct moves){.w = w,
				    .rng = {1000 + 10 * life + i},
				    .one_lp = true,
				    .lp = i,
				    .spoil = 16};
		m->only_guests = i >= 2;
		for (unsigned int t = 0; t < NR_TDS; t++) {
			m->td[t] = (struct world_td){
				.tdr = WORLD_TDR, .levels = 5, .wide = true, .nr_l2 = 2};
			for (unsigned int v = 0; m->only_guests && v < NR_VCPUS; v++)
				m->td[t].tdvpr[v] = WORLD_VCPU(i - 2);
		}
	}
}

/* One life of the TD: did all happen that should? */
static bool live_once(unsigned int life)
{
	static const struct world_kind kind = {.flags = TDX_CONFIG_GPAW52,
					       .levels = 5,
					       .nr_l2 = 2,
					       .nr_vcpus = 2,
					       .runnable = true};
	struct actor *actors = calloc(NR_ACTORS, sizeof(*actors));
	struct world *w = world_create();
	bool happened;

	world_build(w, &kind);
	init_hosts_and_vcpus(actors, w, life);
	play_together(w, actors);
	print_busy(actors);
	print_message("%u pages mapped, %u removed; %u accepted\n", total(actors, TDH_MEM_PAGE_AUG),
		      total(actors, TDH_MEM_PAGE_REMOVE),
		      actors[2].nr_accepted + actors[3].nr_accepted);
	happened = all_happened(actors);
	world_destroy(w);
	free(actors);
	return happened;
}

/*
 * Two hosts map, block, split, merge, move and remove what two vCPUs accept. Who runs when is not
 * ours to say: a vCPU may fault again and again before it accepts anything, and then is not let in
 * any more as long as nobody maps just those pages (the filter against zero-step attacks). So what
 * did not happen in one life is waited for in another, not in more of the same.
 */
static void two_hosts_and_two_vcpus_on_one_td(void **state)
{
	bool happened = false;

	(void)state;
	for (unsigned int life = 0; life < 20 && !happened; life++)
		happened = live_once(life);
	assert_true(happened);
}

/* Each processor builds TDs, runs them and takes them down; they meet in PAMT and key table. */
static void tds_come_and_go_on_every_processor(void **state)
{
	struct actor *actors = calloc(NR_ACTORS, sizeof(*actors));
	struct world *w = world_create();

	(void)state;
	for (unsigned int i = 0; i < NR_ACTORS; i++)
		actors[i].m = (struct moves){
			.w = w, .rng = {2000 + i}, .life = true, .one_lp = true, .lp = i};
	play_together(w, actors);
	print_busy(actors);
	print_message("%u TDs made, %u run, %u keys freed\n", total(actors, TDH_MNG_CREATE),
		      total(actors, TDH_MR_FINALIZE), total(actors, TDH_MNG_KEY_FREEID));
	assert_true(total(actors, TDH_MNG_CREATE) && total(actors, TDH_MR_FINALIZE));
	assert_true(total(actors, TDH_VP_ENTER));
	world_destroy(w);
	free(actors);
}

/* Two processors map the same page at the same GPA: exactly one of all attempts wins each round. */
struct racer {
	struct world *w;
	pthread_t thread;
	pthread_barrier_t *barrier;
	unsigned int lp;
	unsigned int wins, refused;
};

#define RACES 2000

static bool take_away(struct world *w, uint64_t gpa)
{
	return world_leaf(w, 0, TDH_MEM_RANGE_BLOCK, gpa, WORLD_TDR, 0) == TDX_SUCCESS &&
	       world_leaf(w, 0, TDH_MEM_TRACK, WORLD_TDR, 0, 0) == TDX_SUCCESS &&
	       world_leaf(w, 0, TDH_MEM_PAGE_REMOVE, gpa, WORLD_TDR, 0) == TDX_SUCCESS;
}

static void *run_racer(void *argument)
{
	struct racer *racer = argument;

	for (uint64_t race = 0; race < RACES; race++) {
		uint64_t gpa = (race & 511) * WORLD_PAGE, status;

		pthread_barrier_wait(racer->barrier);
		do {
			status = world_leaf(racer->w, racer->lp, TDH_MEM_PAGE_AUG, gpa, WORLD_TDR,
					    WORLD_FREE);
		} while ((status & TDX_STATUS_MASK) == TDX_OPERAND_BUSY);
		racer->wins += status == TDX_SUCCESS;
		pthread_barrier_wait(racer->barrier);
		if (racer->lp == 0)
			racer->refused += !take_away(racer->w, gpa);
	}
	return NULL;
}

static void one_winner_for_one_page(void **state)
{
	static const struct world_kind kind = {.levels = 4, .nr_vcpus = 1, .runnable = true};
	struct world *w = world_create();
	struct inv *inv = inv_create(w);
	pthread_barrier_t barrier;
	struct racer racers[2] = {{.w = w, .barrier = &barrier},
				  {.w = w, .barrier = &barrier, .lp = 1}};

	(void)state;
	world_build(w, &kind);
	pthread_barrier_init(&barrier, NULL, 2);
	for (size_t i = 0; i < 2; i++)
		pthread_create(&racers[i].thread, NULL, run_racer, &racers[i]);
	for (size_t i = 0; i < 2; i++)
		pthread_join(racers[i].thread, NULL);
	pthread_barrier_destroy(&barrier);
	assert_int_equal(racers[0].wins + racers[1].wins, RACES);
	assert_int_equal(racers[0].refused, 0);
	assert_true(inv_check(inv));
	inv_destroy(inv);
	world_destroy(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_hosts_and_two_vcpus_on_one_td),
		cmocka_unit_test(tds_come_and_go_on_every_processor),
		cmocka_unit_test(one_winner_for_one_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
