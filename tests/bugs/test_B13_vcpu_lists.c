// SPDX-License-Identifier: BSD-2-Clause
/*
 * B13, the half in the library: a VM's list of vCPUs (and of actors, which is what an exclusive
 * section waits for) changes in the exclusive section alone, so that no vCPU that comes or goes
 * breaks it for those that fault.
 *
 * Expectations: seen at each lock and unlock of the platform, a vCPU is in both lists or in
 * neither, and the lists are as they were when the lock was taken; at the end every fault of every
 * vCPU that ever was is in the VM's sum, which a lost list entry would take away.
 */
#include "tests/support/host.h"

#include "mmu/vm/vm.h"

#define READ TPT_PFERR_USER
#define PAGE 4096ull

/* ---- when a list changes ---- */

#define LISTED 8u

struct lists {
	unsigned int vcpus, actors;
	const void *vcpu[LISTED], *actor[LISTED];
};

static struct {
	struct host *h;
	const struct tpt_platform *posix;
	struct tpt_platform platform;
	struct lists outside; /* as the last unlock left them */
	unsigned int sections, changed_inside;
} watch;

static struct lists lists_now(void)
{
	struct tpt_vm *vm = watch.h->vm;
	struct lists l;

	memset(&l, 0, sizeof(l));
	for (struct tpt_vcpu *v = vm->vcpus; v; v = v->next) {
		assert_true(l.vcpus < LISTED);
		l.vcpu[l.vcpus++] = v;
	}
	for (struct actor *a = vm->base.actors; a; a = a->next) {
		assert_true(l.actors < LISTED);
		l.actor[l.actors++] = a;
	}
	return l;
}

static void lock_and_look(void *ctx)
{
	struct lists now;

	watch.posix->lock(ctx);
	if (!watch.h->vm)
		return;
	now = lists_now();
	assert_memory_equal(&now, &watch.outside, sizeof(now));
	watch.sections++;
}

static void look_and_unlock(void *ctx)
{
	if (watch.h->vm) {
		struct lists now = lists_now();

		watch.changed_inside += memcmp(&now, &watch.outside, sizeof(now)) != 0;
		watch.outside = now;
	}
	watch.posix->unlock(ctx);
}

/* What is given back is in no list any more. */
static void look_and_free(void *ctx, void *mem, size_t bytes)
{
	if (watch.h->vm && mem != watch.h->vm) {
		struct lists now = lists_now();

		assert_memory_equal(&now, &watch.outside, sizeof(now));
		for (unsigned int i = 0; i < LISTED; i++)
			assert_ptr_not_equal(now.vcpu[i], mem);
	}
	watch.posix->mem_free(ctx, mem, bytes);
}

static void B13_vcpus_enter_and_leave_the_lists_in_the_exclusive_section(void **state)
{
	struct tpt_vm_config c;
	struct tpt_vcpu *vcpu[4];
	struct host *h;
	unsigned int actors;

	(void)state;
	host_config_npt(&c);
	memset(&watch, 0, sizeof(watch));
	watch.h = h = host_prepare(&c);
	watch.posix = h->config.platform;
	watch.platform = *watch.posix;
	watch.platform.lock = lock_and_look;
	watch.platform.unlock = look_and_unlock;
	watch.platform.mem_free = look_and_free;
	h->config.platform = &watch.platform;
	assert_int_equal(tpt_vm_create(&h->config, &h->vm), 0);
	watch.outside = lists_now();
	actors = watch.outside.actors;

	for (unsigned int i = 0; i < 4; i++) {
		assert_int_equal(tpt_vcpu_create(h->vm, i, &vcpu[i]), 0);
		assert_int_equal(lists_now().vcpus, i + 1);
		assert_int_equal(lists_now().actors, actors + i + 1);
	}
	assert_int_equal(watch.changed_inside, 4);
	/* One that is refused changes nothing. */
	assert_int_equal(tpt_vcpu_create(h->vm, 2, &h->vcpu[0]), -EEXIST);
	assert_int_equal(watch.changed_inside, 4);
	for (unsigned int i = 0; i < 4; i++) {
		static const unsigned int order[] = {2, 0, 3, 1};

		tpt_vcpu_destroy(vcpu[order[i]]);
		assert_int_equal(lists_now().vcpus, 3 - i);
		assert_int_equal(lists_now().actors, actors + 3 - i);
	}
	assert_int_equal(watch.changed_inside, 8);
	assert_true(watch.sections >= 8);
	h->vcpu[0] = NULL;
	host_destroy(h);
}

/* ---- beside vCPUs that fault ---- */

#define ROUNDS 3000u
#define SPAN   1024u /* pages */

struct worker {
	pthread_t thread;
	struct host *h;
	unsigned int id;
	uint64_t random, faults;
	_Atomic bool *stop;
};

static uint64_t pick(uint64_t *random, uint64_t n)
{
	*random = *random * 6364136223846793005ull + 1442695040888963407ull;
	return (*random >> 33) % n;
}

static void fault_some(struct worker *w, struct tpt_vcpu *vcpu, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		struct tpt_fault f = {.gpa = {pick(&w->random, SPAN) * PAGE}, .error_code = READ};
		struct tpt_roots roots;
		int ret = tpt_vcpu_load_roots(vcpu, &roots);

		if (ret == -EAGAIN)
			continue;
		must(!ret);
		ret = tpt_vcpu_fault(vcpu, &f);
		must(ret == TPT_RET_PF_FIXED || ret == TPT_RET_PF_SPURIOUS ||
		     ret == TPT_RET_PF_RETRY);
		w->faults++;
	}
}

static void *stay(void *arg)
{
	struct worker *w = arg;

	while (!atomic_load(w->stop))
		fault_some(w, w->h->vcpu[w->id], 16);
	return NULL;
}

/* A vCPU comes, faults, and goes; two threads do so at once. */
static void *come_and_go(void *arg)
{
	struct worker *w = arg;

	for (unsigned int i = 0; i < ROUNDS; i++) {
		struct tpt_vcpu *vcpu[2];

		for (unsigned int n = 0; n < 2; n++)
			must(!tpt_vcpu_create(w->h->vm, 100 * w->id + n, &vcpu[n]));
		fault_some(w, vcpu[0], 8);
		fault_some(w, vcpu[1], 8);
		tpt_vcpu_destroy(vcpu[i % 2]);
		fault_some(w, vcpu[!(i % 2)], 4);
		tpt_vcpu_destroy(vcpu[!(i % 2)]);
	}
	return NULL;
}

/* The host takes memory away meanwhile: each time every vCPU is waited for, whoever is in the list.
 */
static void *take_away(void *arg)
{
	struct worker *w = arg;

	while (!atomic_load(w->stop)) {
		uint64_t start = GIB + pick(&w->random, SPAN - 64) * PAGE;
		struct tpt_invalidation t;

		must(tpt_vm_invalidate_begin(w->h->vm, tpt_hva_make(start),
					     tpt_hva_make(start + 64 * PAGE), &t) >= 0);
		tpt_vm_invalidate_end(w->h->vm, &t);
		sched_yield();
	}
	return NULL;
}

static void B13_vcpus_come_and_go_while_others_fault_and_none_is_lost(void **state)
{
	static void *(*const jobs[])(void *) = {stay, take_away, come_and_go, come_and_go};
	_Atomic bool stop = false;
	struct worker w[4];
	struct tpt_vm_config c;
	struct host *h;
	uint64_t faults = 0;

	(void)state;
	host_config_npt(&c);
	h = host_create(&c, 1);
	h->level = TPT_LEVEL_4K;
	assert_int_equal(host_slot(h, 0, 0, 0, SPAN * PAGE, GIB, 0), 0);
	for (unsigned int i = 0; i < 4; i++) {
		w[i] = (struct worker){.h = h, .id = i, .random = i + 1, .stop = &stop};
		assert_int_equal(pthread_create(&w[i].thread, NULL, jobs[i], &w[i]), 0);
	}
	pthread_join(w[2].thread, NULL);
	pthread_join(w[3].thread, NULL);
	atomic_store(&stop, true);
	pthread_join(w[0].thread, NULL);
	pthread_join(w[1].thread, NULL);
	for (unsigned int i = 0; i < 4; i++)
		faults += w[i].faults;
	assert_int_equal(host_stats(h).vcpus.pf_taken, faults);
	assert_ptr_equal(h->vm->vcpus, h->vcpu[0]);
	assert_null(h->vcpu[0]->next);
	host_destroy(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(B13_vcpus_enter_and_leave_the_lists_in_the_exclusive_section),
		cmocka_unit_test(B13_vcpus_come_and_go_while_others_fault_and_none_is_lost),
	};

	return cmocka_run_group_tests_name("B13 lists", tests, NULL, NULL);
}
