// SPDX-License-Identifier: BSD-2-Clause
/* The module's books stay right whatever is called: seeded random events, checked after each. A
 * sequence that breaks them is cut down to what is needed and printed. */
#include "tests/tdx/invariants.h"
#include "tests/tdx/moves.h"

/* How many events; TDX_STEPS says otherwise, TDX_SEED where to begin. */
#define STEPS	     24000
#define NR_LEAVES    64
#define REST_EVERY   20000    /* events between looks at the memory that is rarely used */
#define MAX_REPLAYED 30000000 /* events, for a shorter way to a failure */

static uint64_t setting(const char *name, uint64_t otherwise)
{
	const char *given = getenv(name);

	return given ? strtoull(given, NULL, 0) : otherwise;
}

struct story {
	struct event *event;
	size_t count;
};

/* -- cutting down -- */

/* Play without looking, then look once. True: what was found before is there again. */
static bool still_broken(const struct event *event, size_t count, const char *rule)
{
	struct world *w = world_create();
	struct inv *inv = inv_create(w);
	struct answer a = {0};
	bool broken;

	for (size_t i = 0; i + 1 < count; i++)
		world_play(w, &event[i]);
	inv_check(inv);
	if (count)
		a = world_play(w, &event[count - 1]);
	inv_check_step(inv, &event[count - 1], &a);
	inv_check_rest(inv);
	broken = inv->broken && !strcmp(inv->broken, rule);
	inv_destroy(inv);
	world_destroy(w);
	return broken;
}

/* Leave out pieces, halves first, as long as the last event still breaks the same rule. */
static void cut_down(struct story *story, const char *rule)
{
	size_t replayed = 0;

	for (size_t size = story->count / 2; size && replayed < MAX_REPLAYED; size /= 2) {
		for (size_t at = 0; at + size < story->count && replayed < MAX_REPLAYED;) {
			size_t rest = story->count - at - size;
			struct event *without = malloc((at + rest) * sizeof(*without));

			memcpy(without, story->event, at * sizeof(*without));
			memcpy(without + at, story->event + at + size, rest * sizeof(*without));
			replayed += at + rest;
			if (still_broken(without, at + rest, rule)) {
				free(story->event);
				story->event = without;
				story->count = at + rest;
			} else {
				free(without);
				at += size;
			}
		}
	}
}

static void tell(struct story *story, const char *rule, uint64_t where, uint64_t seed)
{
	size_t step = story->count;

	print_error("%s (%#llx), seed %#llx, event %zu; the shortest way there that was found:\n",
		    rule, (unsigned long long)where, (unsigned long long)seed, step);
	cut_down(story, rule);
	for (size_t i = 0; i < story->count; i++)
		event_print(&story->event[i]);
	fail_msg("%s, seed %#llx, event %zu", rule, (unsigned long long)seed, step);
}

/* -- playing -- */

struct tally {
	uint64_t good[NR_LEAVES], bad[NR_LEAVES];	      /* host calls */
	uint64_t guest_good[NR_LEAVES], guest_bad[NR_LEAVES]; /* guest calls */
	uint64_t nr_calls, nr_exits;
};

static void count(struct tally *tally, const struct event *e, const struct answer *a)
{
	unsigned int leaf = (e->r[0] & TDX_RAX_LEAF) % NR_LEAVES;
	bool success = a->regs.rax == TDX_SUCCESS || (e->kind == EV_HOST && a->side == TDX_GUEST);

	if (!a->done)
		return;
	if (e->kind == EV_HOST)
		(success ? tally->good : tally->bad)[leaf]++;
	if (e->kind == EV_GUEST)
		(success ? tally->guest_good : tally->guest_bad)[leaf]++;
	tally->nr_exits += e->kind == EV_EXIT;
	tally->nr_calls += e->kind <= EV_EXIT;
}

static void play_story(uint64_t seed, uint64_t nr_calls, struct tally *tally)
{
	struct moves m = {.w = world_create(), .rng = {seed}, .life = true, .spoil = 10};
	struct inv *inv = inv_create(m.w);
	size_t capacity = nr_calls + nr_calls / 2 + 1024;
	struct story story = {.event = malloc(capacity * sizeof(*story.event))};
	uint64_t until = tally->nr_calls + nr_calls;

	assert_non_null(story.event);
	assert_true(inv_check(inv));
	while (tally->nr_calls < until && story.count < capacity) {
		struct event *e = &story.event[story.count++];
		struct answer a;

		choose(&m, e);
		a = world_play(m.w, e);
		learn(&m, e, &a);
		count(tally, e, &a);
		inv_check_step(inv, e, &a);
		if (story.count % REST_EVERY == 0)
			inv_check_rest(inv);
		if (inv->broken)
			break;
	}
	if (!inv->broken)
		inv_check_rest(inv);
	if (inv->broken)
		tell(&story, inv->broken, inv->where, seed);
	free(story.event);
	inv_destroy(inv);
	world_destroy(m.w);
}

/* Else the sequence would be all refusals. */
static void assert_all_were_done(const struct tally *tally)
{
	static const uint8_t host[] = {TDH_VP_ENTER,
				       TDH_MNG_ADDCX,
				       TDH_MEM_PAGE_ADD,
				       TDH_MEM_SEPT_ADD,
				       TDH_VP_ADDCX,
				       TDH_MEM_PAGE_RELOCATE,
				       TDH_MEM_PAGE_AUG,
				       TDH_MEM_RANGE_BLOCK,
				       TDH_MNG_KEY_CONFIG,
				       TDH_MNG_CREATE,
				       TDH_VP_CREATE,
				       TDH_MEM_RD,
				       TDH_MEM_WR,
				       TDH_MEM_PAGE_DEMOTE,
				       TDH_MR_EXTEND,
				       TDH_MR_FINALIZE,
				       TDH_VP_FLUSH,
				       TDH_MNG_VPFLUSHDONE,
				       TDH_MNG_KEY_FREEID,
				       TDH_MNG_INIT,
				       TDH_VP_INIT,
				       TDH_MEM_PAGE_PROMOTE,
				       TDH_PHYMEM_PAGE_RDMD,
				       TDH_MEM_SEPT_RD,
				       TDH_MNG_KEY_RECLAIMID,
				       TDH_PHYMEM_PAGE_RECLAIM,
				       TDH_MEM_PAGE_REMOVE,
				       TDH_MEM_SEPT_REMOVE,
				       TDH_MEM_TRACK,
				       TDH_MEM_RANGE_UNBLOCK,
				       TDH_PHYMEM_CACHE_WB,
				       TDH_PHYMEM_PAGE_WBINVD};
	static const uint8_t guest[] = {
		TDG_VP_INFO, TDG_VP_VEINFO_GET,	   TDG_MEM_PAGE_ACCEPT, TDG_VM_RD,
		TDG_VM_WR,   TDG_MEM_PAGE_ATTR_RD, TDG_MEM_PAGE_ATTR_WR};

	for (size_t i = 0; i < sizeof(host); i++)
		if (!tally->good[host[i]])
			fail_msg("host leaf %u never succeeded", host[i]);
	for (size_t i = 0; i < sizeof(guest); i++)
		if (!tally->guest_good[guest[i]])
			fail_msg("guest leaf %u never succeeded", guest[i]);
}

static void print_tally(const struct tally *tally)
{
	for (unsigned int leaf = 0; leaf < NR_LEAVES; leaf++)
		if (tally->good[leaf] + tally->bad[leaf])
			print_message("host leaf %2u: %8llu good %8llu refused\n", leaf,
				      (unsigned long long)tally->good[leaf],
				      (unsigned long long)tally->bad[leaf]);
	for (unsigned int leaf = 0; leaf < NR_LEAVES; leaf++)
		if (tally->guest_good[leaf] + tally->guest_bad[leaf])
			print_message("guest leaf %2u: %7llu good %8llu other\n", leaf,
				      (unsigned long long)tally->guest_good[leaf],
				      (unsigned long long)tally->guest_bad[leaf]);
	print_message("%llu calls and exits, %llu of them exits\n",
		      (unsigned long long)tally->nr_calls, (unsigned long long)tally->nr_exits);
}

static void books_stay_right_under_random_calls(void **state)
{
	uint64_t seed = setting("TDX_SEED", 0x7d5eed0001), steps = setting("TDX_STEPS", STEPS);
	struct tally *tally = calloc(1, sizeof(*tally));

	(void)state;
	for (uint64_t left = steps; left; seed++) {
		uint64_t part = left < 100000 ? left : 100000;

		play_story(seed, part, tally);
		left -= part;
	}
	print_tally(tally);
	if (steps >= STEPS)
		assert_all_were_done(tally);
	free(tally);
}

/* A checker that can't fail proves nothing: each kind of damage that can be done from outside is
 * seen, by its rule. What only the module itself could do wrong is seen in the module's mutations.
 */
static void damage_is_seen_by_its_rule(void **state)
{
	static const struct world_kind kind = {
		.levels = 4, .nr_l2 = 1, .nr_vcpus = 1, .runnable = true};
	struct world *w = world_create();
	struct inv *inv = inv_create(w);
	uint64_t *twin = (uint64_t *)((char *)world_page(w, WORLD_TABLES + 5 * WORLD_PAGE)) + 7;

	(void)state;
	world_build(w, &kind);
	world_ok(w, TDH_MEM_PAGE_AUG, 0, WORLD_TDR, WORLD_FREE);
	assert_true(inv_check(inv));
#define SEEN(damage, repair, rule)                         \
	do {                                               \
		damage;                                    \
		assert_false(inv_check(inv));              \
		assert_memory_equal(inv->broken, rule, 2); \
		repair;                                    \
		assert_true(inv_check(inv));               \
	} while (0)
#define SEPT(set, clear) tdx_module_force_sept(w->module, WORLD_TDR, 0, 0, set, clear)
#define PLOCK(hpa, raw)	 tdx_module_force_pamt_lock(w->module, hpa, 0, raw)
#define LOCK(which, raw) tdx_module_force(w->module, TDX_FORCE_##which##_LOCK, WORLD_TDR, raw)
	SEEN(SEPT(7, 0), SEPT(0, 7), "I7");
	SEEN(SEPT(0, 1ull << 63), SEPT(1ull << 63, 0), "I7");
	SEEN(SEPT(1ull << 9, 0), SEPT(0, 1ull << 9), "I7");
	SEEN(SEPT(1ull << 11, 0), SEPT(0, 1ull << 11), "I1");
	SEEN(SEPT(WORLD_PAGE, 0), SEPT(0, WORLD_PAGE), "I2");
	SEEN(SEPT(1ull << 58, 0), SEPT(0, 1ull << 58), "L2");
	SEEN(*twin = WORLD_FREE | 0xf7, *twin = 0, "L2");
	SEEN(PLOCK(WORLD_FREE, 4), PLOCK(WORLD_FREE, 0), "I1");
	SEEN(PLOCK(WORLD_TDR, 1), PLOCK(WORLD_TDR, 2), "I1");
	SEEN(LOCK(SEPT, 2), LOCK(SEPT, 0), "I1");
	SEEN(LOCK(OP, 4), LOCK(OP, 2), "I1");
	SEEN(LOCK(EPOCH, 1), LOCK(EPOCH, 0), "I1");
#undef SEEN
	inv_destroy(inv);
	world_destroy(w);
}

/* A clock that went back, processors that are elsewhere or don't exist, a guest that isn't there.
 */
static void calls_out_of_place_change_nothing(void **state)
{
	static const struct world_kind kind = {.levels = 4, .nr_vcpus = 1, .runnable = true};
	const struct event enter = {.kind = EV_HOST, .lp = 1, .r = {TDH_VP_ENTER, WORLD_VCPU(0)}};
	const struct event leave = {.kind = EV_EXIT, .lp = 1, .r = {TDX_EXIT_INTERRUPT}};
	struct tdx_regs regs = {.rax = TDH_MEM_TRACK, .rcx = WORLD_TDR};
	struct tdx_guest guest = {.regs = {.rax = TDG_MEM_PAGE_ACCEPT}};
	struct world *w = world_create();
	struct inv *inv = inv_create(w);
	struct answer a;

	(void)state;
	world_build(w, &kind);
	atomic_store(&w->tsc, 1000000);
	world_play(w, &enter);
	world_play(w, &leave);
	atomic_store(&w->tsc, 5);
	assert_true(inv_check(inv));
	a = world_play(w, &enter);
	assert_int_equal(a.regs.rax, TDX_TSC_ROLLBACK);
	assert_true(inv_check_step(inv, &enter, &a));
	tdx_module_tdcall(w->module, 1, &guest, &regs);
	tdx_module_seamcall(w->module, WORLD_NR_LPS, &regs);
	atomic_store(&w->tsc, 1000000000);
	world_play(w, &enter);
	tdx_module_seamcall(w->module, 1, &regs);
	assert_true(inv_check(inv));
	inv_destroy(inv);
	world_destroy(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(books_stay_right_under_random_calls),
		cmocka_unit_test(damage_is_seen_by_its_rule),
		cmocka_unit_test(calls_out_of_place_change_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
