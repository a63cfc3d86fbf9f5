// SPDX-License-Identifier: BSD-2-Clause
/* Random sequences on one TD of every kind, answer by answer what a second opinion says. */
#include "tests/tdx/moves.h"
#include "tests/tdx/oracle.h"

/* Events for each kind of TD; TDX_STEPS says otherwise, TDX_SEED where to begin. */
#define STEPS 12000
/* Events in the life of one TD: old ones are full of small pages. */
#define LIFE 2000

static uint64_t setting(const char *name, uint64_t otherwise)
{
	const char *given = getenv(name);

	return given ? strtoull(given, NULL, 0) : otherwise;
}

#define A_GIB 63 /* no leaf: pages of 1 GiB that were made */

struct run {
	struct moves m;
	struct oracle *o;
	struct event *event; /* all that was played */
	size_t count;
	uint64_t seed;
	unsigned int nr_good[64], nr_known;
};

static void wrong(struct run *run, const char *what, uint64_t expected, uint64_t found)
{
	size_t first = run->count < 40 ? 0 : run->count - 40;

	for (size_t i = first; i < run->count; i++)
		event_print(&run->event[i]);
	fail_msg("%s: %#llx expected, is %#llx (%u levels, %u L2 VMs, seed %#llx, event %zu)", what,
		 (unsigned long long)expected, (unsigned long long)found, run->o->kind.levels,
		 run->o->kind.nr_l2, (unsigned long long)run->seed, run->count);
}

#define SAME(run, what, expected, found)                       \
	do {                                                   \
		if ((expected) != (found))                     \
			wrong(run, what, (expected), (found)); \
	} while (0)

static void same_registers(struct run *run, const struct tdx_regs *found, unsigned int last)
{
	static const char *const name[] = {"RAX", "RCX", "RDX", "RBX", "RSP", "RBP",
					   "RSI", "RDI", "R8",	"R9",  "R10", "R11"};
	const struct tdx_regs *expected = &run->o->regs;

	for (unsigned int i = 0; i <= last; i++)
		SAME(run, name[i], expected->gpr[i], found->gpr[i]);
}

static void same_answer(struct run *run, const struct event *e, const struct answer *a)
{
	struct oracle *o = run->o;

	SAME(run, "polls left", (uint64_t)o->polls, (uint64_t)atomic_load(&run->m.w->intr_polls));
	if (e->kind == EV_HOST && o_on(o, e->lp)) {
		SAME(run, "side", TDX_GUEST, a->side);
		return;
	}
	if (e->kind == EV_HOST || o->exits) {
		SAME(run, "side", TDX_HOST, a->side);
		/* What was read of the memory is another test's. */
		same_registers(run, &a->regs, (e->r[0] & 0xffff) == TDH_MEM_RD ? 2 : 11);
		return;
	}
	SAME(run, "side", TDX_GUEST, a->side);
	SAME(run, "vector", o->vector, a->vector);
	if (e->kind == EV_GUEST)
		SAME(run, "RIP", o->again ? 0 : TDX_TDCALL_LENGTH, a->rip_delta);
	if (e->kind == EV_GUEST && e->r[0] != TDG_VP_VEINFO_GET)
		same_registers(run, &a->regs, 2);
}

static uint64_t moved(uint64_t value, unsigned int from, unsigned int to)
{
	return (value >> from & 1) << to;
}

/* The word of an L2 VM's entry beside @e (TDX module ABI, "L2 Secure EPT entry"). */
static uint64_t l2_word(const struct o_entry *e, unsigned int vm)
{
	uint64_t a = e->attributes[vm], word;

	if (!o_leaf(e)) {
		if (!e->l2_table[vm])
			return 0;
		return e->l2_table[vm] | (o_blocked(e) ? 1ull << 55 : 0x407);
	}
	if (!a)
		return 0;
	word = e->hpa | 0xc0 | moved(a, 4, 57) | moved(a, 5, 58) | moved(a, 6, 60);
	if (o_blocked(e) || o_pending(e))
		return word | 1ull << 55 | moved(a, 0, 3) | moved(a, 1, 59) | moved(a, 2, 4) |
		       moved(a, 3, 5);
	return word | 6 << 3 | (a & 7) | moved(a, 3, 10);
}

static void same_aliases(struct run *run, uint64_t gpa, unsigned int level)
{
	struct oracle *o = run->o;

	for (unsigned int vm = 1; vm <= o->kind.nr_l2; vm++) {
		struct tdx_sept_view view;

		if (o_l2_ends(o, vm, level) >= 0)
			continue;
		tdx_module_view_sept(run->m.w->module, WORLD_TDR, gpa, level, vm, &view);
		SAME(run, "L2 entry", l2_word(o->entry, vm), view.raw);
	}
}

/* Some entry, and those of the L2 VMs beside it. */
static void same_entry(struct run *run)
{
	struct oracle *o = run->o;
	struct tdx_sept_view view;
	unsigned int level = rng_below(&run->m.rng, o->kind.levels);
	uint64_t gpa = random_gpa(&run->m.rng, o->gpa_width);

	if (!o_walk(o, gpa, level))
		return;
	assert_int_equal(tdx_module_view_sept(run->m.w->module, WORLD_TDR, gpa, level, 0, &view),
			 0);
	SAME(run, "entry's state", o_public(o->entry), view.state);
	o_details(o, 0);
	if (o->entry->state != O_FREE && o->entry->state != O_TABLE &&
	    o->entry->state != O_TABLE_BLOCKED)
		SAME(run, "entry", o->regs.rcx, view.raw & 0x800ffffffffff0ffull);
	for (unsigned int vm = 1; vm <= o->kind.nr_l2; vm++)
		SAME(run, "alias bit", !!(o->entry->l2_table[vm] || o->entry->attributes[vm]),
		     view.raw >> (57 + vm) & 1);
	same_aliases(run, gpa, level);
}

static void same_td(struct run *run)
{
	struct tdx_td_view td;
	struct tdx_pamt_view pamt;
	uint64_t hpa = random_page(&run->m.rng);

	tdx_module_view_td(run->m.w->module, WORLD_TDR, &td);
	SAME(run, "TD epoch", run->o->epoch, td.td_epoch);
	SAME(run, "vCPUs of an even epoch", run->o->inside[0], td.refcount[0]);
	SAME(run, "vCPUs of an odd epoch", run->o->inside[1], td.refcount[1]);
	for (unsigned int level = 0; level < 3; level++) {
		const struct o_page *page = o_page(run->o, hpa, level);

		tdx_module_view_pamt(run->m.w->module, hpa, level, &pamt);
		SAME(run, "page type", page->pt, pamt.pt);
		SAME(run, "owner", page->owner, pamt.owner);
		SAME(run, "epoch of a page", page->bepoch, pamt.bepoch);
	}
}

static bool guest_event(const struct event *e)
{
	return e->kind == EV_GUEST || e->kind == EV_EXIT || e->kind == EV_TOUCH;
}

static void one_event(struct run *run)
{
	struct event *e = &run->event[run->count];
	bool inside;
	struct answer a;

	choose(&run->m, e);
	inside = o_on(run->o, e->lp);
	if (!oracle_knows(e) || inside != guest_event(e)) {
		if (e->kind != EV_INTR)
			return;
	}
	run->count++;
	run->o->polls = atomic_load(&run->m.w->intr_polls);
	if (e->kind <= EV_EXIT)
		oracle_play(run->o, e);
	a = world_play(run->m.w, e);
	if (e->kind > EV_EXIT)
		return;
	run->nr_known++;
	same_answer(run, e, &a);
	if (e->kind == EV_HOST && a.regs.rax == TDX_SUCCESS) {
		run->nr_good[(e->r[0] & 0xffff) % 64]++;
		run->nr_good[A_GIB] += (e->r[0] & 0xffff) == TDH_MEM_PAGE_PROMOTE && (e->r[1] & 2);
	}
	same_td(run);
	same_entry(run);
}

static void play_kind(const struct world_kind *kind, uint64_t seed, unsigned int steps,
		      unsigned int *nr_good)
{
	struct run run = {.m = {.w = world_create(), .rng = {seed}, .spoil = 8},
			  .o = oracle_create(kind),
			  .event = malloc(steps * sizeof(struct event)),
			  .seed = seed};

	assert_non_null(run.event);
	world_build(run.m.w, kind);
	for (unsigned int t = 0; t < NR_TDS; t++) {
		struct world_td *td = &run.m.td[t];

		*td = (struct world_td){.tdr = WORLD_TDR,
					.levels = (uint8_t)kind->levels,
					.nr_l2 = (uint8_t)kind->nr_l2};
		for (unsigned int i = 0; i < kind->nr_vcpus; i++)
			td->tdvpr[i] = WORLD_VCPU(i);
	}
	/* Some build a GiB out of 2 MiB pages first. */
	if (rng_one_in(&run.m.rng, 6))
		run.m.td[0].giant = 1;
	while (run.count < steps)
		one_event(&run);
	for (unsigned int i = 0; i < 64; i++)
		nr_good[i] += run.nr_good[i];
	oracle_destroy(run.o);
	world_destroy(run.m.w);
	free(run.event);
}

/* Both widths, four and five levels, none to three L2 VMs, before and after the build is over. */
static const struct world_kind kinds[] = {
	{.levels = 4, .nr_vcpus = 2, .runnable = true},
	{.levels = 5, .nr_vcpus = 2, .runnable = true, .attributes = TDX_ATTR_SEPT_VE_DISABLE},
	{.levels = 5, .nr_vcpus = 2, .runnable = true, .flags = TDX_CONFIG_GPAW52, .nr_l2 = 1},
	{.levels = 4, .nr_vcpus = 2, .runnable = true, .nr_l2 = 3, .attributes = TDX_ATTR_DEBUG},
	{.levels = 5, .nr_vcpus = 1, .flags = TDX_CONFIG_GPAW52, .attributes = TDX_ATTR_DEBUG},
	{.levels = 4, .nr_vcpus = 1, .nr_l2 = 2},
};

static void answers_are_those_of_a_second_opinion(void **state)
{
	static const uint8_t must[] = {TDH_MEM_SEPT_ADD,       TDH_MEM_PAGE_RELOCATE,
				       TDH_MEM_PAGE_AUG,       TDH_MEM_RANGE_BLOCK,
				       TDH_MEM_PAGE_DEMOTE,    TDH_VP_FLUSH,
				       TDH_MEM_PAGE_PROMOTE,   TDH_PHYMEM_PAGE_RDMD,
				       TDH_MEM_SEPT_RD,	       TDH_MEM_PAGE_REMOVE,
				       TDH_MEM_SEPT_REMOVE,    TDH_MEM_TRACK,
				       TDH_MEM_PAGE_ADD,       TDH_MEM_RD,
				       TDH_PHYMEM_PAGE_WBINVD, A_GIB};
	unsigned int steps = (unsigned int)setting("TDX_STEPS", STEPS), nr_good[64] = {0};
	uint64_t seed = setting("TDX_SEED", 0x5e900001);

	(void)state;
	for (unsigned int done = 0; done < steps; done += LIFE)
		for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
			play_kind(&kinds[i], seed++, LIFE, nr_good);
	for (size_t i = 0; steps >= STEPS && i < sizeof(must); i++)
		if (!nr_good[must[i]])
			fail_msg("leaf %u never succeeded", must[i]);
	for (unsigned int i = 0; i < 64; i++)
		if (nr_good[i])
			print_message("leaf %2u: %u good\n", i, nr_good[i]);
}

/* Bit 15 of a VM's mask; the attributes may be the present ones, given for nothing but that. */
static void attributes_drop_translations_when_asked_to(void **state)
{
	const struct event enter = {.kind = EV_HOST, .r = {TDH_VP_ENTER, WORLD_VCPU(0)}};
	const struct event accept = {.kind = EV_GUEST, .r = {TDG_MEM_PAGE_ACCEPT}};
	const struct event touch = {.kind = EV_TOUCH};
	struct event write = {.kind = EV_GUEST,
			      .r = {TDG_MEM_PAGE_ATTR_WR, 0, 0x80010000, 0x10000}};
	struct world *w = world_create();

	(void)state;
	world_build(w, &kinds[3]);
	world_ok(w, TDH_MEM_PAGE_AUG, 0, WORLD_TDR, WORLD_FREE);
	world_play(w, &enter);
	world_play(w, &accept);
	world_play(w, &touch);
	assert_int_equal(world_play(w, &write).regs.rax, TDX_SUCCESS);
	assert_int_equal(w->tlb[0].count, 1);
	write.r[3] |= 0x80000000;
	assert_int_equal(world_play(w, &write).regs.rdx, 0x80010000);
	assert_int_equal(w->tlb[0].count, 0);
	world_destroy(w);
}

/* 512 parts, and a look for interrupts after each but the last. */
static void a_large_accept_polls_between_its_parts_only(void **state)
{
	const struct event enter = {.kind = EV_HOST, .r = {TDH_VP_ENTER, WORLD_VCPU(0)}};
	const struct event accept = {.kind = EV_GUEST, .r = {TDG_MEM_PAGE_ACCEPT, WORLD_2M | 1}};
	struct world *w = world_create();
	struct tdx_sept_view sept;
	struct answer a;

	(void)state;
	world_build(w, &kinds[0]);
	world_ok(w, TDH_MEM_PAGE_AUG, WORLD_2M | 1, WORLD_TDR, WORLD_BASE + 2 * WORLD_2M);
	world_play(w, &enter);
	atomic_store(&w->intr_polls, 510);
	a = world_play(w, &accept);
	assert_int_equal(a.rip_delta, 0);
	tdx_module_view_sept(w->module, WORLD_TDR, WORLD_2M, 1, 0, &sept);
	assert_int_equal(sept.raw >> 12 & 511, 511);
	a = world_play(w, &accept);
	assert_int_equal(a.regs.rax, TDX_SUCCESS);
	assert_int_equal(a.rip_delta, TDX_TDCALL_LENGTH);
	world_destroy(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_are_those_of_a_second_opinion),
		cmocka_unit_test(attributes_drop_translations_when_asked_to),
		cmocka_unit_test(a_large_accept_polls_between_its_parts_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
