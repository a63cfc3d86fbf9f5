// SPDX-License-Identifier: BSD-2-Clause
/*
 * A6 with threads: two and four vCPUs write while another thread collects, watches again and
 * copies, as a live migration does; host reclaim and aging go on beside them. At the end the copy
 * must be the memory: a write that no log told of would be missing from it.
 *
 * Derived from the contract of the log: a write after the call is in the next one, so a page's last
 * write is followed by a copy of it. No flush may be forgotten, which the processors judge.
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>

#include "tests/dirty/log.h"

/* A thread can't fail one test alone. */
#define must(condition)                                                                         \
	do {                                                                                    \
		if (!(condition)) {                                                             \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                                \
		}                                                                               \
	} while (0)

#define ROUNDS 80u
#define ENOUGH 12000u /* pages collected */

struct writer {
	struct log *l;
	unsigned int vcpu;
	_Atomic bool *stop;
	uint64_t ring_full;
};

/* Each vCPU has a word of its own in every page. Nothing is stored if nobody collects any more. */
static void store(struct writer *w, unsigned int page, uint64_t value)
{
	struct sim_step last;
	unsigned int faults;
	int err;

	for (;;) {
		err = sim_write(w->l->sim, w->vcpu, log_gpa(page) + 8ull * w->vcpu, &value, 8, 8,
				&last, &faults);
		if (!err || (err == -ENOSPC && atomic_load(w->stop)))
			return;
		must(err == -EAGAIN || err == -ENOSPC);
		w->ring_full += err == -ENOSPC;
		sched_yield();
	}
}

static void *write_all_the_time(void *arg)
{
	struct writer *w = arg;
	uint64_t random = 77 + w->vcpu;

	for (uint64_t i = 1; !atomic_load(w->stop); i++) {
		/* A hot part that everybody writes, so that entries change under collection. */
		uint64_t n = log_pick(&random, 2) ? 130 : LOG_PAGES;

		store(w, (unsigned int)log_pick(&random, n), i);
		if (!(i % 64))
			sched_yield();
	}
	return NULL;
}

static void copy_page(struct log *l, uint64_t copy[LOG_PAGES][LOG_VCPUS], unsigned int page)
{
	for (unsigned int v = 0; v < l->nr_vcpus; v++)
		copy[page][v] = __atomic_load_n(log_word(l, page) + v, __ATOMIC_RELAXED);
}

static void collect_and_copy(struct log *l, uint64_t copy[LOG_PAGES][LOG_VCPUS])
{
	log_forget(l);
	must(log_collect(l) == 0);
	for (unsigned int page = 0; page < LOG_PAGES; page++)
		if (log_has(l->found, page))
			copy_page(l, copy, page);
}

/* The host takes back and gives again the same memory: entries go and come beside the log. */
static void upset(struct log *l, uint64_t *random)
{
	uint64_t start = LOG_HVA + log_gpa((unsigned int)log_pick(random, LOG_PAGES - 64));

	must(sim_invalidate(l->sim, start, start + (4096 << log_pick(random, 7))) >= 0);
}

static void migrate(const struct log_mode *mode, unsigned int nr_vcpus)
{
	static uint64_t copy[LOG_PAGES][LOG_VCPUS];
	struct writer w[LOG_VCPUS];
	pthread_t thread[LOG_VCPUS];
	_Atomic bool stop = false;
	uint64_t random = 5;
	struct log l;

	log_open(&l, mode, nr_vcpus);
	for (unsigned int page = 0; page < LOG_PAGES; page += 100)
		assert_int_equal(log_write(&l, 0, page, 1), 0);
	for (unsigned int v = 0; v < nr_vcpus; v++) {
		w[v] = (struct writer){.l = &l, .vcpu = v, .stop = &stop};
		must(!pthread_create(&thread[v], NULL, write_all_the_time, &w[v]));
	}
	log_switch(&l, true);
	/* The first pass of a migration copies everything. */
	for (unsigned int page = 0; page < LOG_PAGES; page++)
		copy_page(&l, copy, page);
	/* The processors' locks are what the judge and the guest compete for. */
	l.max_promises = 4;
	for (unsigned int round = 0; round < ROUNDS || l.collected < ENOUGH; round++) {
		collect_and_copy(&l, copy);
		if (!(round % 4))
			upset(&l, &random);
		sched_yield();
	}
	atomic_store(&stop, true);
	for (unsigned int v = 0; v < nr_vcpus; v++)
		pthread_join(thread[v], NULL);
	collect_and_copy(&l, copy);

	for (unsigned int page = 0; page < LOG_PAGES; page++)
		for (unsigned int v = 0; v < nr_vcpus; v++)
			if (copy[page][v] != log_word(&l, page)[v])
				fail_msg("%s: page %u, vcpu %u: copied %lu, is %lu", mode->name,
					 page, v, copy[page][v], log_word(&l, page)[v]);
	log_close(&l);
}

static void A6_two_vcpus_write_while_another_thread_collects_and_none_is_lost(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < LOG_MODES; i++)
		migrate(&log_modes[i], 2);
}

static void A6_four_vcpus_write_while_another_thread_collects_and_none_is_lost(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < LOG_MODES; i++)
		migrate(&log_modes[i], 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(A6_two_vcpus_write_while_another_thread_collects_and_none_is_lost),
		cmocka_unit_test(
			A6_four_vcpus_write_while_another_thread_collects_and_none_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
