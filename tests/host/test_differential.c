// SPDX-License-Identifier: BSD-2-Clause
/*
 * The library, the host half and the module model, with caches that write back late, against a
 * plain map of what each page holds: random conversions, holes, accepts of both sizes, splits,
 * recoveries and busy calls, by guests on threads of their own; content compared byte for byte.
 */
#include "tests/host/real.h"

#define BLOCK	(2ull << 20)
#define BLOCKS	4 /* of each guest */
#define PAGES	(BLOCKS * 512)
#define GUESTS	2
#define STEPS	400
#define NOT_HIS (-1) /* shared, or private and not accepted */

/* A guest, its part of memory, and the thread that is its vCPU and its VMM. */
struct guest {
	struct real *r;
	unsigned int lp;
	uint64_t base, random;
	int16_t page[PAGES]; /* the byte that all of the page holds */
	uint64_t compared, sizes[2];
	pthread_t thread;
	unsigned int steps; /* that it lives */
};

/* Calls that are answered so without being made, of a hundred. */
static _Thread_local uint64_t luck = 1;
static _Atomic unsigned int bad_luck;

static uint32_t draw(uint64_t *random)
{
	*random = *random * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(*random >> 33);
}

static uint64_t refuse_some(struct real *r, const struct tdx_regs *regs)
{
	unsigned int leaf = regs->rax & TDX_RAX_LEAF;

	(void)r;
	/* Not the guest's entry, which is leaf 0. */
	if (leaf < TDH_MEM_PAGE_ADD || leaf == TDH_MEM_SEPT_RD ||
	    draw(&luck) % 100 >= atomic_load(&bad_luck))
		return TDX_SUCCESS;
	if (leaf == TDH_MEM_PAGE_DEMOTE || leaf == TDH_MEM_PAGE_PROMOTE)
		return TDX_INTERRUPTED_RESTARTABLE;
	return TDX_OPERAND_BUSY | TDX_OPERAND_RCX;
}

/* ---- the guest's side: its LP's lock is held, and the library is not called ---- */

static void get_in(struct guest *g)
{
	struct real_vcpu *v = &g->r->vcpu[g->lp];

	real_lp = g->lp;
	for (;;) {
		struct tdx_regs regs = {0};

		pthread_mutex_lock(&v->lock);
		if (!v->inside && !atomic_load(&g->r->held)) {
			enum tdx_enter how = tdx_vcpu_enter(v->tdx, &regs);

			v->inside = how == TDX_ENTER_GUEST;
			if (v->inside)
				tdx_module_guest_state(g->r->module, g->lp, &v->guest);
			else if (how != TDX_ENTER_BUSY)
				fail_msg("VP.ENTER: %d, %#lx", how, regs.rax);
		}
		if (v->inside)
			return;
		pthread_mutex_unlock(&v->lock);
		sched_yield();
	}
}

static void let_go(struct guest *g)
{
	pthread_mutex_unlock(&g->r->vcpu[g->lp].lock);
}

/* An access to a page that the guest has accepted. */
static void touch(struct guest *g, unsigned int page, void *buf, bool write)
{
	uint64_t gpa = g->base + page * TPT_PAGE_SIZE;
	struct tdx_sept_view view;

	get_in(g);
	tdx_module_view_sept(g->r->module, tdx_td_tdr(g->r->td).a, gpa, 0, 0, &view);
	if (view.state != TDX_SEPT_MAPPED)
		fail_msg("gpa %#lx: state %u at level %u", gpa, view.state, view.level);
	if (tdx_module_guest_access(g->r->module, g->lp, REAL_PRIVATE + gpa, true, buf,
				    TPT_PAGE_SIZE, write))
		fail_msg("gpa %#lx: a machine check", gpa);
	let_go(g);
}

static void compare(struct guest *g, unsigned int page)
{
	uint8_t is[TPT_PAGE_SIZE], want[TPT_PAGE_SIZE];

	if (g->page[page] == NOT_HIS)
		return;
	memset(want, g->page[page], sizeof(want));
	touch(g, page, is, false);
	if (memcmp(is, want, sizeof(is)))
		fail_msg("guest %u page %u is not what was written", g->lp, page);
	g->compared++;
}

static void put(struct guest *g, unsigned int page)
{
	uint8_t bytes[TPT_PAGE_SIZE];

	if (g->page[page] == NOT_HIS)
		return;
	g->page[page] = (int16_t)(draw(&g->random) & 0xff);
	memset(bytes, g->page[page], sizeof(bytes));
	touch(g, page, bytes, true);
}

/* TDG.MEM.PAGE.ACCEPT, and what its VMM does about it, until there is an answer. */
static uint64_t accept(struct guest *g, unsigned int page, unsigned int level)
{
	struct real_vcpu *v = &g->r->vcpu[g->lp];
	uint64_t gpa = g->base + page * TPT_PAGE_SIZE, answer;
	struct tdx_regs exit;
	enum tdx_side side;
	int ret;

	for (;;) {
		get_in(g);
		side = real_accept(g->r, g->lp, gpa, level, &exit);
		answer = v->guest.regs.rax;
		let_go(g);
		if (side == TDX_GUEST && (answer & TDX_STATUS_MASK) != TDX_OPERAND_BUSY)
			return answer;
		if (side == TDX_GUEST)
			continue;
		while ((ret = real_handle(g->r, g->lp, &exit)) == TPT_RET_PF_RETRY)
			sched_yield();
		if (ret == -EFAULT)
			return TDX_OPERAND_INVALID; /* it is shared */
		if (ret < 0)
			fail_msg("fault at %#lx: %d, %s", gpa, ret, tpt_vm_report(g->r->vm));
	}
}

static void accept_small(struct guest *g, unsigned int page)
{
	uint64_t answer = accept(g, page, 0);

	if (answer == TDX_SUCCESS) {
		assert_int_equal(g->page[page], NOT_HIS);
		g->page[page] = 0;
		g->sizes[0]++;
	} else if ((answer & TDX_STATUS_MASK) == TDX_PAGE_ALREADY_ACCEPTED) {
		assert_int_not_equal(g->page[page], NOT_HIS);
	} else {
		assert_int_equal(answer, TDX_OPERAND_INVALID);
	}
}

/* As Linux does it: the large size first, and the small one where that doesn't fit. */
static void accept_block(struct guest *g, unsigned int page)
{
	uint64_t answer;

	page &= ~511u;
	answer = accept(g, page, 1);
	if (answer == TDX_SUCCESS) {
		memset(&g->page[page], 0, 512 * sizeof(g->page[0]));
		g->sizes[1]++;
	} else if ((answer & TDX_STATUS_MASK) == TDX_PAGE_SIZE_MISMATCH) {
		for (unsigned int i = 0; i < 512; i++)
			accept_small(g, page + i);
	}
}

/* ---- its VMM's side ---- */

static void forget(struct guest *g, unsigned int page, unsigned int end)
{
	for (; page < end; page++)
		g->page[page] = NOT_HIS;
}

static void stand_outside(struct guest *g)
{
	real_lp = REAL_HOST_LP - g->lp;
}

static void convert(struct guest *g, unsigned int page, unsigned int end, bool private_)
{
	tpt_gfn base = g->base >> 12, done = base + page;
	int err;

	stand_outside(g);
	do
		err = tpt_vm_set_private(g->r->vm, done, base + end, private_, &done);
	while (err == -EBUSY);
	if (err)
		fail_msg("conversion: %d, %s", err, tpt_vm_report(g->r->vm));
	if (!private_)
		forget(g, page, end);
}

static void punch(struct guest *g, unsigned int page, unsigned int end)
{
	int err;

	stand_outside(g);
	do
		err = tpt_gmem_punch_hole(g->r->gmem, g->base + page * TPT_PAGE_SIZE,
					  (end - page) * TPT_PAGE_SIZE);
	while (err == -EBUSY);
	if (err)
		fail_msg("hole: %d, %s", err, tpt_vm_report(g->r->vm));
	forget(g, page, end);
}

static void recover(struct guest *g)
{
	int err;

	stand_outside(g);
	do
		err = tpt_vm_private_recover(g->r->vm, g->base >> 12, (g->base >> 12) + PAGES,
					     NULL);
	while (err == -EBUSY);
	if (err)
		fail_msg("recovery: %d, %s", err, tpt_vm_report(g->r->vm));
}

static void step(struct guest *g)
{
	unsigned int page = draw(&g->random) % PAGES, n = 1 + draw(&g->random) % 40;
	unsigned int end = page + n < PAGES ? page + n : PAGES;

	switch (draw(&g->random) % 12) {
	case 0:
		convert(g, page, end, false);
		break;
	case 1:
		convert(g, page & ~511u, (page & ~511u) + 512, draw(&g->random) & 1);
		break;
	case 2:
	case 3:
		convert(g, 0, PAGES, true);
		break;
	case 4:
		punch(g, page, end);
		break;
	case 5:
		punch(g, page & ~511u, (page & ~511u) + 512);
		break;
	case 6:
		recover(g);
		break;
	case 7:
	case 8:
		accept_block(g, page);
		break;
	default:
		for (unsigned int i = page; i < end; i++)
			accept_small(g, i);
	}
	for (unsigned int i = 0; i < 24; i++) {
		put(g, draw(&g->random) % PAGES);
		compare(g, draw(&g->random) % PAGES);
	}
}

static void *live(void *arg)
{
	struct guest *g = arg;

	luck = g->random;
	for (unsigned int i = 0; i < g->steps; i++)
		step(g);
	for (unsigned int i = 0; i < PAGES && g->steps == STEPS; i++)
		compare(g, i);
	return NULL;
}

static void watch_memory(struct real *r)
{
	for (unsigned int kind = 0; kind < TDX_NR_MEMORY_EVENTS; kind++)
		if (tdx_module_memory_events(r->module, kind))
			fail_msg("%s", tdx_memory_event_name(kind));
}

/* The guests live, each so many steps. */
static void let_live(struct real *r, struct guest *g, uint64_t seed, unsigned int percent,
		     unsigned int steps)
{
	assert_int_equal(tdx_td_finalize(r->td), 0);
	r->spy = refuse_some;
	atomic_store(&bad_luck, percent);
	for (unsigned int i = 0; i < GUESTS; i++) {
		g[i] = (struct guest){.r = r,
				      .lp = i,
				      .base = i * BLOCKS * BLOCK,
				      .random = seed * 100 + i,
				      .steps = steps};
		forget(&g[i], 0, PAGES);
		assert_int_equal(pthread_create(&g[i].thread, NULL, live, &g[i]), 0);
	}
	for (unsigned int i = 0; i < GUESTS; i++)
		pthread_join(g[i].thread, NULL);
	r->spy = NULL;
	real_lp = REAL_HOST_LP;
	real_stop(r);
}

/* One world, from its build to its end in whatever state the guests left it. */
static void run(uint64_t seed, unsigned int percent)
{
	struct real *r = real_create_of(GUESTS, 0, TPT_LEVEL_2M, true);
	static struct guest g[GUESTS];
	uint64_t small = 0, large = 0;

	let_live(r, g, seed, percent, STEPS);
	real_audit(r);
	for (unsigned int i = 0; i < GUESTS; i++) {
		assert_true(g[i].compared > STEPS);
		small += g[i].sizes[0];
		large += g[i].sizes[1];
	}
	assert_true(small > 100 && large > 2);
	assert_true(real_leaf(r, TDH_MEM_PAGE_DEMOTE).ok > 2);
	assert_true(real_leaf(r, TDH_MEM_PAGE_PROMOTE).ok > 2);
	watch_memory(r);
	real_destroy(r);
}

static void test_every_page_holds_what_was_written_to_it(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 3; seed++)
		run(seed, 0);
}

static void test_the_same_while_calls_are_busy_and_interrupted(void **state)
{
	(void)state;
	run(11, 10);
	run(12, 40);
}

/* Killed after a step or a few: whatever was pending, blocked or half converted goes back. */
static void test_a_td_that_is_killed_anywhere_gives_all_back(void **state)
{
	static struct guest g[GUESTS];

	(void)state;
	for (unsigned int i = 0; i < 24; i++) {
		struct real *r = real_create_of(GUESTS, 0, TPT_LEVEL_2M, true);

		let_live(r, g, 100 + i, i % 3 * 20, 1 + i % 6);
		real_audit(r);
		watch_memory(r);
		real_destroy(r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_page_holds_what_was_written_to_it),
		cmocka_unit_test(test_the_same_while_calls_are_busy_and_interrupted),
		cmocka_unit_test(test_a_td_that_is_killed_anywhere_gives_all_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
