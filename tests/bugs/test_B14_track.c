// SPDX-License-Identifier: BSD-2-Clause
/*
 * B14: a TRACK and the kick that follows it are one step to every other TRACK. If another comes in
 * between, guests of the epoch before the last may still run, and the module answers
 * PREVIOUS_TLB_EPOCH_BUSY, which KVM did not try again.
 *
 * Expectations: with guests inside at every TRACK and two threads removing private pages at once,
 * the module never answers so; and where somebody else's TRACK did come without a kick, it is
 * answered so once, the guests are held, and the removal is done all the same.
 */
#include <sched.h>

#include "mmu/vm/vm.h"
#include "tests/host/real.h"

#define PAGE  4096ull
#define VCPUS 2u
/* Pages that each of the two threads has for itself. */
#define PAGES  24u
#define ROUNDS 60u

/* In threads of the test's own cmocka can't fail one test alone. */
#define must(condition)                                                                         \
	do {                                                                                    \
		if (!(condition)) {                                                             \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                                \
		}                                                                               \
	} while (0)

static unsigned int leaf_of(const struct tdx_regs *regs)
{
	return regs->rax & TDX_RAX_LEAF;
}

/* Every guest that is outside goes in: it is of the epoch that a TRACK would end. */
static void all_guests_in(struct real *r)
{
	unsigned int before = real_lp;

	for (unsigned int i = 0; i < r->nr_vcpus; i++) {
		struct tdx_regs regs = {0};

		if (r->vcpu[i].inside)
			continue;
		real_lp = i;
		must(tdx_vcpu_enter(r->vcpu[i].tdx, &regs) == TDX_ENTER_GUEST);
		must(!tdx_module_guest_state(r->module, i, &r->vcpu[i].guest));
		r->vcpu[i].inside = true;
	}
	real_lp = before;
}

static uint64_t guests_in_before_a_track(struct real *r, const struct tdx_regs *regs)
{
	if (leaf_of(regs) == TDH_MEM_TRACK)
		all_guests_in(r);
	return TDX_SUCCESS;
}

/* The platform with a kick that takes its time: who could come in between does. */
static struct {
	const struct tpt_platform *posix;
	struct tpt_platform slow;
} platforms;

static void kick_slowly(void *ctx, struct tpt_vm *vm, enum tpt_kick_reason reason)
{
	for (unsigned int i = 0; i < 20; i++)
		sched_yield();
	platforms.posix->kick(ctx, vm, reason);
}

static void slow_kicks_down(struct real *r)
{
	platforms.posix = r->vm->base.platform;
	platforms.slow = *platforms.posix;
	platforms.slow.kick = kick_slowly;
	r->vm->base.platform = &platforms.slow;
}

struct remover {
	pthread_t thread;
	struct real *r;
	unsigned int lp;
	tpt_gfn first;
	uint64_t removals;
};

static void map_pages(struct remover *w)
{
	for (tpt_gfn gfn = w->first; gfn < w->first + PAGES; gfn++) {
		int ret;

		do {
			struct tpt_fault fault = {
				.gpa = tpt_gpa_make(gfn << 12),
				.error_code = TPT_PFERR_WRITE | TPT_PFERR_PRIVATE,
			};

			ret = tpt_vcpu_fault(w->r->vcpu[w->lp].tpt, &fault);
		} while (ret == TPT_RET_PF_RETRY);
		must(ret == TPT_RET_PF_FIXED || ret == TPT_RET_PF_SPURIOUS);
	}
}

/* Conversions there and back, and holes: each removes private pages. */
static void *remove_pages(void *arg)
{
	struct remover *w = arg;
	tpt_gfn end = w->first + PAGES;

	real_lp = VCPUS + (w->lp & 1);
	for (unsigned int i = 0; i < ROUNDS; i++) {
		map_pages(w);
		if (i % 3 == 2) {
			must(!tpt_gmem_punch_hole(w->r->gmem, w->first * PAGE, PAGES * PAGE));
		} else {
			must(!tpt_vm_set_private(w->r->vm, w->first, end, false, NULL));
			must(!tpt_vm_set_private(w->r->vm, w->first, end, true, NULL));
		}
		w->removals++;
	}
	return NULL;
}

static void B14_two_threads_that_remove_private_pages_never_find_the_epoch_busy(void **state)
{
	struct real *r = real_create(VCPUS, 0);
	struct remover w[2];
	struct tdx_leaf_stats track;

	(void)state;
	assert_int_equal(tdx_td_finalize(r->td), 0);
	slow_kicks_down(r);
	r->spy = guests_in_before_a_track;
	for (unsigned int i = 0; i < 2; i++) {
		/* Each in a 2 MiB of its own. */
		w[i] = (struct remover){.r = r, .lp = i, .first = 0x400 * (i + 1)};
		assert_int_equal(pthread_create(&w[i].thread, NULL, remove_pages, &w[i]), 0);
	}
	for (unsigned int i = 0; i < 2; i++) {
		pthread_join(w[i].thread, NULL);
		assert_int_equal(w[i].removals, ROUNDS);
	}
	r->spy = NULL;

	track = real_leaf(r, TDH_MEM_TRACK);
	assert_int_equal(track.busy, 0);
	assert_int_equal(track.failed, 0);
	assert_int_equal(track.ok, 2 * ROUNDS);
	assert_int_equal(r->kicks, track.ok);
	assert_int_equal(real_leaf(r, TDH_MEM_PAGE_REMOVE).ok, 2 * ROUNDS * PAGES);
	assert_int_equal(real_leaf(r, TDH_MEM_PAGE_REMOVE).busy, 0);
	assert_int_equal(real_leaf(r, TDH_MEM_PAGE_REMOVE).failed, 0);
	real_stop(r);
	real_audit(r);
	real_destroy(r);
}

/* Somebody else's TRACK, without its kick, and a guest inside since before it. */
static void B14_an_epoch_that_is_busy_is_tried_again_with_the_guests_held(void **state)
{
	struct real *r = real_create(1, 0);
	struct tpt_vm_stats stats;

	(void)state;
	assert_int_equal(tdx_td_finalize(r->td), 0);
	real_accept_by_fault(r, 0, 0x400000, 0);
	assert_true(r->vcpu[0].inside);
	assert_int_equal(tdx_external_ops.track(r->td), 0);
	assert_int_equal(tdx_external_ops.track(r->td), -EBUSY);
	assert_int_equal(real_leaf(r, TDH_MEM_TRACK).busy, 1);

	assert_int_equal(tpt_vm_set_private(r->vm, 0x400, 0x401, false, NULL), 0);
	assert_false(r->vcpu[0].inside);
	assert_int_equal(real_leaf(r, TDH_MEM_TRACK).busy, 2);
	assert_int_equal(real_leaf(r, TDH_MEM_TRACK).ok, 2);
	assert_int_equal(real_leaf(r, TDH_MEM_TRACK).failed, 0);
	assert_int_equal(real_leaf(r, TDH_MEM_PAGE_REMOVE).ok, 1);
	tpt_vm_get_stats(r->vm, &stats);
	assert_int_equal(stats.hold, 1);
	assert_int_equal(stats.mirror.pages_4k, 0);
	assert_false(tpt_vm_is_dead(r->vm));
	real_audit(r);
	real_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			B14_two_threads_that_remove_private_pages_never_find_the_epoch_busy),
		cmocka_unit_test(B14_an_epoch_that_is_busy_is_tried_again_with_the_guests_held),
	};

	return cmocka_run_group_tests_name("B14", tests, NULL, NULL);
}
