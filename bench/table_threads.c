// SPDX-License-Identifier: BSD-2-Clause
/* Two vCPUs that fault at once, on tables of their own, against one. */
#include <pthread.h>
#include <stdlib.h>

#include "bench/suite.h"

#define GOAL 1.1

/* One thread's part of a pass. On lines of its own. */
struct part {
	_Alignas(64) struct tpt_vcpu *vcpu;
	pthread_barrier_t *start;
	tpt_gfn first;
	uint64_t nr, wrong, ns;
};

static void *fault_all(void *arg)
{
	struct part *p = arg;
	uint64_t start, wrong = 0;

	pthread_barrier_wait(p->start);
	start = bench_cpu_ns();
	for (tpt_gfn gfn = p->first; gfn < p->first + p->nr; gfn++) {
		struct tpt_fault fault = {.gpa = {gfn << TPT_PAGE_SHIFT},
					  .error_code = TPT_PFERR_WRITE};
		int ret;

		/* Two that link the same table are one too many: that one tries again. */
		do
			ret = tpt_vcpu_fault(p->vcpu, &fault);
		while (ret == TPT_RET_PF_RETRY);
		wrong += ret != TPT_RET_PF_FIXED;
	}
	p->ns = bench_cpu_ns() - start;
	p->wrong = wrong;
	return NULL;
}

/* Each of @nr vCPUs does its part of all pages. *ns: CPU time of one fault. */
static bool pass(struct bench *b, struct tpt_vcpu **vcpu, unsigned int nr, double *ns)
{
	struct part part[2] = {{0}};
	pthread_barrier_t start;
	pthread_t thread;
	uint64_t sum = 0;

	pthread_barrier_init(&start, NULL, nr);
	for (unsigned int i = 0; i < nr; i++)
		part[i] = (struct part){.vcpu = vcpu[i],
					.start = &start,
					.first = b->pages / nr * i,
					.nr = b->pages / nr};
	if (nr > 1 && pthread_create(&thread, NULL, fault_all, &part[1]))
		return bench_fail(b, "no second thread");
	fault_all(&part[0]);
	if (nr > 1)
		pthread_join(thread, NULL);
	pthread_barrier_destroy(&start);
	b->wrong = part[0].wrong + part[1].wrong;
	sum = part[0].ns + part[1].ns;
	*ns = (double)sum / (double)b->pages;
	return bench_check_leaves(b, b->pages, 0);
}

/* Everything goes; the tables stay if @keep, as they do after an invalidation. */
static bool unmap(struct bench *b, bool keep)
{
	struct tpt_invalidation token;

	if (!keep)
		return !tpt_vm_zap_all_fast(b->vm) || bench_fail(b, "no zap");
	if (tpt_vm_invalidate_begin(b->vm, tpt_hva_make(BENCH_HVA),
				    tpt_hva_make(BENCH_HVA + b->bytes), &token) < 0)
		return bench_fail(b, "no invalidation");
	tpt_vm_invalidate_end(b->vm, &token);
	return true;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *ns, unsigned int nr)
{
	qsort(ns, nr, sizeof(*ns), by_value);
	return (ns[(nr - 1) / 2] + ns[nr / 2]) / 2;
}

static bool load(struct bench *b, struct tpt_vcpu **vcpu)
{
	struct tpt_roots roots;

	return (!tpt_vcpu_load_roots(vcpu[0], &roots) && !tpt_vcpu_load_roots(vcpu[1], &roots)) ||
	       bench_fail(b, "no roots");
}

/* Rounds of one and of two, in turn; ns[n - 1] is for n threads. */
static bool rounds(struct bench *b, unsigned int nr, bool keep, double *ns[2])
{
	struct tpt_vcpu *vcpu[2];
	double unused;
	bool good;

	if (!bench_vm(b, 0, b->pages * TPT_PAGE_SIZE, TPT_LEVEL_4K) ||
	    tpt_vcpu_create(b->vm, 1, &vcpu[1]))
		return bench_fail(b, "no second vCPU");
	vcpu[0] = b->vcpu;
	good = load(b, vcpu) && pass(b, vcpu, 2, &unused) && unmap(b, keep);
	for (unsigned int i = 0; i < nr && good; i++)
		for (unsigned int threads = 1; threads <= 2 && good; threads++)
			good = load(b, vcpu) && pass(b, vcpu, threads, &ns[threads - 1][i]) &&
			       unmap(b, keep);
	return good;
}

static bool one_line(struct bench_table *t, struct bench *b, unsigned int nr, bool keep)
{
	double *ns[2] = {calloc(nr, sizeof(double)), calloc(nr, sizeof(double))};
	bool good = ns[0] && ns[1] && rounds(b, nr, keep, ns);

	if (good) {
		double *value = table_line(t, keep ? "fault_4k, tables are there"
						   : "fault_4k, tables are linked");

		value[0] = median(ns[0], nr);
		value[1] = median(ns[1], nr);
		value[2] = value[1] / value[0];
		value[3] = GOAL;
	}
	bench_vm_destroy(b);
	free(ns[0]);
	free(ns[1]);
	return good;
}

bool table_threads(struct bench_table *t, struct bench *b, const struct bench_suite *s)
{
	b->format = TPT_FORMAT_EPT;
	return one_line(t, b, s->rounds, true) && one_line(t, b, s->rounds, false);
}
