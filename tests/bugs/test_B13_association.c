// SPDX-License-Identifier: BSD-2-Clause
/*
 * B13, the half in the host of TDX: which LP a TD's vCPU is tied to. KVM's rule: off the LP's list
 * before the vCPU says that it is on none; here: the books say "none" only after VP.FLUSH did it,
 * and say an LP from before anybody could be told otherwise.
 *
 * Expectations, seen at each SEAMCALL of a random life of three vCPUs on four LPs: a VP.FLUSH is
 * made on the LP that the books name, an entry only where the books name that LP or none; the
 * module never answers VCPU_ASSOCIATED or VCPU_NOT_ASSOCIATED; and at the end the key is freed at
 * once.
 */
#include "tests/host/real.h"

#define VCPUS 3u
#define STEPS 4000u

static struct {
	unsigned int flushes, enters, wrong;
	/* The next VP.FLUSH is answered so, without a call. */
	uint64_t refuse;
} seen;

/* NULL: the one that never runs, on LP 2. */
static struct tdx_vcpu *vcpu_of(struct real *r, uint64_t tdvpr)
{
	for (unsigned int i = 0; i < r->nr_vcpus; i++)
		if (tdx_vcpu_tdvpr(r->vcpu[i].tdx).a == tdvpr)
			return r->vcpu[i].tdx;
	return NULL;
}

static uint64_t look(struct real *r, const struct tdx_regs *regs)
{
	unsigned int leaf = regs->rax & TDX_RAX_LEAF;
	struct tdx_vcpu *vcpu;
	uint64_t answer = seen.refuse;
	int lp;

	if (leaf != TDH_VP_FLUSH && leaf != TDH_VP_ENTER && leaf != TDH_VP_WR)
		return TDX_SUCCESS;
	vcpu = vcpu_of(r, regs->rcx);
	lp = vcpu ? tdx_vcpu_lp(vcpu) : 2;
	if (leaf == TDH_VP_FLUSH) {
		seen.flushes++;
		seen.wrong += lp != (int)real_lp;
		seen.refuse = 0;
		return answer;
	}
	seen.enters += leaf == TDH_VP_ENTER;
	seen.wrong += lp != -1 && lp != (int)real_lp;
	return TDX_SUCCESS;
}

static uint64_t pick(uint64_t *random, uint64_t n)
{
	*random = *random * 6364136223846793005ull + 1442695040888963407ull;
	return (*random >> 33) % n;
}

/* In on one LP and out again; the tie stays. */
static void run_on_lp(struct real *r, unsigned int i, unsigned int lp)
{
	static const struct tdx_vmexit interrupt = {.reason = TDX_EXIT_INTERRUPT};
	struct tdx_regs regs = {0}, exit;

	real_lp = lp;
	if (tdx_vcpu_lp(r->vcpu[i].tdx) != -1 && tdx_vcpu_lp(r->vcpu[i].tdx) != (int)lp) {
		assert_int_equal(tdx_vcpu_enter(r->vcpu[i].tdx, &regs), TDX_ENTER_ELSEWHERE);
		assert_int_equal(tdx_vcpu_migrate(r->vcpu[i].tdx), 0);
		assert_int_equal(tdx_vcpu_lp(r->vcpu[i].tdx), -1);
	}
	assert_int_equal(tdx_vcpu_enter(r->vcpu[i].tdx, &regs), TDX_ENTER_GUEST);
	assert_int_equal(tdx_vcpu_lp(r->vcpu[i].tdx), lp);
	assert_int_equal(tdx_module_guest_state(r->module, lp, &r->vcpu[i].guest), 0);
	/* While it runs nobody takes it off its LP. */
	real_lp = REAL_HOST_LP;
	assert_int_equal(tdx_module_vmexit(r->module, lp, &interrupt, &r->vcpu[i].guest, &exit),
			 TDX_HOST);
	assert_int_equal(tdx_vcpu_lp(r->vcpu[i].tdx), lp);
}

static struct real *three_vcpus(void)
{
	struct real *r = real_create(VCPUS, 0);
	struct tdx_vcpu *idle;

	memset(&seen, 0, sizeof(seen));
	/* VP.INIT ties a vCPU to where it was made, also one that will never run. */
	real_lp = 2;
	assert_int_equal(tdx_vcpu_create(r->td, 0, &idle), 0);
	assert_int_equal(tdx_vcpu_lp(idle), 2);
	real_lp = REAL_HOST_LP;
	assert_int_equal(tdx_td_finalize(r->td), 0);
	r->spy = look;
	return r;
}

static void B13_the_books_name_the_lp_until_the_flush_is_done(void **state)
{
	struct real *r = three_vcpus();
	uint64_t random = 13;

	(void)state;
	for (unsigned int step = 0; step < STEPS; step++) {
		unsigned int i = (unsigned int)pick(&random, VCPUS);
		unsigned int lp = (unsigned int)pick(&random, REAL_LPS - 1);
		struct tpt_roots roots;

		switch (pick(&random, 8)) {
		case 0:
			assert_int_equal(tdx_vcpu_flush(r->vcpu[i].tdx), 0);
			assert_int_equal(tdx_vcpu_lp(r->vcpu[i].tdx), -1);
			break;
		case 1:
			real_lp = lp;
			assert_int_equal(tdx_vcpu_migrate(r->vcpu[i].tdx), 0);
			assert_int_equal(tpt_vcpu_load_roots(r->vcpu[i].tpt, &roots), 0);
			assert_int_equal(tdx_vcpu_set_shared_eptp(r->vcpu[i].tdx, roots.direct), 0);
			assert_int_equal(tdx_vcpu_lp(r->vcpu[i].tdx), lp);
			real_lp = REAL_HOST_LP;
			break;
		default:
			run_on_lp(r, i, lp);
		}
	}
	assert_true(seen.enters > STEPS / 2 && seen.flushes > STEPS / 4);
	assert_int_equal(seen.wrong, 0);
	assert_int_equal(real_leaf(r, TDH_VP_ENTER).failed, 0);
	assert_int_equal(real_leaf(r, TDH_VP_FLUSH).failed, 0);
	assert_int_equal(real_leaf(r, TDH_VP_FLUSH).busy, 0);

	/* The end: every vCPU that is still tied is flushed on its LP, and none is left over. */
	real_destroy(r);
	assert_int_equal(seen.wrong, 0);
}

/* A flush that did not happen leaves the tie in the books: the end still finds it. */
static void B13_a_flush_that_fails_keeps_the_tie(void **state)
{
	static const uint64_t answers[] = {TDX_OPERAND_BUSY, TDX_OPERAND_INVALID};
	struct real *r = three_vcpus();

	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		run_on_lp(r, 0, 1);
		seen.refuse = answers[i];
		assert_true(tdx_vcpu_flush(r->vcpu[0].tdx) < 0);
		assert_int_equal(tdx_vcpu_lp(r->vcpu[0].tdx), 1);
		/* It may go on there. */
		run_on_lp(r, 0, 1);
		assert_int_equal(tdx_vcpu_flush(r->vcpu[0].tdx), 0);
		assert_int_equal(tdx_vcpu_lp(r->vcpu[0].tdx), -1);
	}
	assert_int_equal(seen.wrong, 0);
	real_destroy(r);
}

/* The library's vCPU may go first, whatever LP the module has its twin on. */
static void B13_a_vcpu_that_is_destroyed_while_tied_holds_nothing_up(void **state)
{
	struct real *r = three_vcpus();

	(void)state;
	run_on_lp(r, 0, 3);
	real_accept_by_fault(r, 1, 0x400000, 0);
	real_stop(r);
	tpt_vcpu_destroy(r->vcpu[0].tpt);
	assert_int_equal(tdx_vcpu_lp(r->vcpu[0].tdx), 3);
	real_accept_by_fault(r, 1, 0x401000, 0);
	real_stop(r);
	real_audit(r);
	real_destroy(r);
	assert_int_equal(seen.wrong, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(B13_the_books_name_the_lp_until_the_flush_is_done),
		cmocka_unit_test(B13_a_flush_that_fails_keeps_the_tie),
		cmocka_unit_test(B13_a_vcpu_that_is_destroyed_while_tied_holds_nothing_up),
	};

	return cmocka_run_group_tests_name("B13 association", tests, NULL, NULL);
}
