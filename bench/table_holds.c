// SPDX-License-Identifier: BSD-2-Clause
/*
 * How long does anybody keep others out of a VM of 1 TiB? Each long operation on each shape of
 * memory, in a VM of its own, which keeps only its longest.
 */
#include "bench/suite.h"
#include "mmu/vm/vm.h"

#define TIB	(1ull << 40)
#define GIB	(1ull << 30)
#define ENTRIES 512

struct shape {
	const char *name;
	enum tpt_level level; /* of the backing */
	uint64_t step;	      /* bytes from one access to the next */
};

struct job {
	const char *name;
	bool (*run)(struct bench *b);
};

/* The exclusive lock as the VM sees it: for how long is it held at most? CPU time of the holder, so
 * that who else runs on the machine is not in it. */
static struct {
	void (*lock)(void *ctx);
	void (*unlock)(void *ctx);
	uint64_t since, longest;
} hold;

static void watch_lock(void *ctx)
{
	hold.lock(ctx);
	hold.since = bench_cpu_ns();
}

static void watch_unlock(void *ctx)
{
	uint64_t ns = bench_cpu_ns() - hold.since;

	if (ns > hold.longest)
		hold.longest = ns;
	hold.unlock(ctx);
}

static bool init_watched(struct bench *b)
{
	if (!bench_init(b, ENTRIES))
		return false;
	hold.lock = b->platform.lock;
	hold.unlock = b->platform.unlock;
	b->platform.lock = watch_lock;
	b->platform.unlock = watch_unlock;
	return true;
}

static bool answer(struct bench *b, int64_t ret)
{
	return ret >= 0 || bench_fail(b, "answered %ld", ret);
}

static bool invalidate(struct bench *b)
{
	struct tpt_invalidation token;
	int ret = tpt_vm_invalidate_begin(b->vm, tpt_hva_make(BENCH_HVA),
					  tpt_hva_make(BENCH_HVA + b->bytes), &token);

	if (ret >= 0)
		tpt_vm_invalidate_end(b->vm, &token);
	return answer(b, ret);
}

static bool delete_slot(struct bench *b)
{
	const struct tpt_memory_region none = {.size = 0};

	return answer(b, tpt_vm_set_memory_region(b->vm, &none));
}

static bool zap_all(struct bench *b)
{
	return answer(b, tpt_vm_zap_all_fast(b->vm));
}

static bool age(struct bench *b)
{
	return answer(b, tpt_vm_age(b->vm, tpt_hva_make(BENCH_HVA),
				    tpt_hva_make(BENCH_HVA + b->bytes), NULL));
}

static bool log_on(struct bench *b)
{
	return bench_log_dirty(b, true);
}

static bool populate(struct bench *b, uint64_t step)
{
	for (uint64_t gpa = 0; gpa < b->bytes; gpa += step) {
		struct tpt_fault fault = {.gpa = {gpa}, .error_code = TPT_PFERR_WRITE};

		if (tpt_vcpu_fault(b->vcpu, &fault) != TPT_RET_PF_FIXED)
			return bench_fail(b, "no page at %#lx", gpa);
	}
	return true;
}

/* The library's own chunk, and the table that it was in when that was full. */
#define BOUND (RANGE_SWEEP_CHUNK + ENTRIES)
_Static_assert(ZAP_DIRECT_CHUNK <= RANGE_SWEEP_CHUNK, "one bound for both");

static bool one_line(struct bench_table *t, struct bench *b, const struct shape *shape,
		     const struct job *job)
{
	struct tpt_vm_stats s;
	double *value;
	uint64_t ns;

	if (!bench_vm(b, 0, TIB, shape->level) || !populate(b, shape->step))
		return false;
	hold.longest = 0;
	ns = bench_cpu_ns();
	if (!job->run(b))
		return false;
	ns = bench_cpu_ns() - ns;
	value = table_line(t, "%s, %s", job->name, shape->name);
	value[3] = (double)hold.longest;
	value[4] = (double)ns;
	tpt_vm_get_stats(b->vm, &s);
	value[0] = (double)s.longest_exclusive;
	value[1] = (double)s.longest_shared;
	value[2] = BOUND;
	return true;
}

bool table_holds(struct bench_table *t, struct bench *b, const struct bench_suite *s)
{
	static const struct shape shapes[] = {{"a page a GiB", TPT_LEVEL_4K, GIB},
					      {"2M leaves", TPT_LEVEL_2M, 2 << 20},
					      {"1G leaves", TPT_LEVEL_1G, GIB}};
	static const struct job jobs[] = {{"invalidate", invalidate},
					  {"log_on", log_on},
					  {"age", age},
					  {"delete_slot", delete_slot},
					  {"zap_all_fast", zap_all}};
	struct bench own;
	bool good = true;

	(void)s;
	for (unsigned int i = 0; i < 3; i++)
		for (unsigned int j = 0; j < 5 && good; j++) {
			good = init_watched(&own) && one_line(t, &own, &shapes[i], &jobs[j]);
			bench_vm_destroy(&own);
			bench_fini(&own);
		}
	return good || bench_fail(b, "%.200s", own.why);
}
