/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A host with a processor: an NPT or EPT VM on the model processor, whose vCPUs enter guest mode
 * the way a VMM's do, over a backing that takes pages away and gives others. Judges nothing.
 */
#ifndef TESTS_SUPPORT_GUEST_H
#define TESTS_SUPPORT_GUEST_H

#include "tests/support/host.h"

#include "machine/machine.h"

#define GUEST_HVA   (1ull << 32)
#define GUEST_PAGES 8192u /* of host-virtual memory from GUEST_HVA on */
#define GUEST_BLOCK 512u

struct guest {
	struct tpt_posix *posix;
	struct tpt_vm *vm;
	struct tpt_vm_config config;
	struct machine *machine;
	struct {
		struct tpt_vcpu *vcpu;
		struct machine_cpu *cpu;
		_Atomic bool reload; /* a request, looked at after entering guest mode */
		uint32_t generation;
		uint32_t as_id, loaded_as;
	} v[HOST_VCPUS];
	unsigned int nr_vcpus;

	pthread_mutex_t lock;
	uint64_t random;
	uint64_t hpa[GUEST_PAGES];		  /* 0: nothing there yet */
	bool large[GUEST_PAGES / GUEST_BLOCK];	  /* one block of frames */
	bool readonly[GUEST_PAGES / GUEST_BLOCK]; /* until somebody writes */
	unsigned int large_percent;
};

static inline uint64_t guest_pick(uint64_t *random, uint64_t n)
{
	*random = *random * 6364136223846793005ull + 1442695040888963407ull;
	return (*random >> 32) % n;
}

/* ---- memory ---- */

static inline void guest_populate(struct guest *g, unsigned int page)
{
	unsigned int block = page / GUEST_BLOCK, first = block * GUEST_BLOCK;
	bool empty = true;
	uint64_t hpa;

	for (unsigned int i = 0; i < GUEST_BLOCK; i++)
		empty &= !g->hpa[first + i];
	if (empty)
		g->readonly[block] = guest_pick(&g->random, 4) == 0;
	g->large[block] = empty && guest_pick(&g->random, 100) < g->large_percent &&
			  !machine_mem_alloc(g->machine, 1, 9, &hpa);
	if (g->large[block]) {
		for (unsigned int i = 0; i < GUEST_BLOCK; i++)
			g->hpa[first + i] = hpa + i * 4096ull;
	} else {
		must(!machine_mem_alloc(g->machine, 1, 0, &g->hpa[page]));
	}
}

static inline int guest_lookup(void *ctx, const struct tpt_backing_query *q,
			       struct tpt_backing_page *page)
{
	struct guest *g = ctx;
	unsigned int n = (q->hva.a - GUEST_HVA) >> 12;

	pthread_mutex_lock(&g->lock);
	if (!g->hpa[n])
		guest_populate(g, n);
	if (q->write)
		g->readonly[n / GUEST_BLOCK] = false;
	*page = (struct tpt_backing_page){
		.pfn = tpt_pfn_make(g->hpa[n] >> 12),
		.writable = !g->readonly[n / GUEST_BLOCK],
		.level = g->large[n / GUEST_BLOCK] ? TPT_LEVEL_2M : TPT_LEVEL_4K,
	};
	pthread_mutex_unlock(&g->lock);
	return 0;
}

static const struct tpt_backing_ops guest_backing = {
	.size = sizeof(guest_backing),
	.lookup = guest_lookup,
};

/* The host takes pages [start, end) away, as an MMU notifier would tell. */
static inline void guest_reclaim(struct guest *g, unsigned int start, unsigned int end)
{
	struct tpt_invalidation t;

	must(tpt_vm_invalidate_begin(g->vm, tpt_hva_make(GUEST_HVA + start * 4096ull),
				     tpt_hva_make(GUEST_HVA + end * 4096ull), &t) >= 0);
	pthread_mutex_lock(&g->lock);
	for (unsigned int i = start; i < end; i++) {
		if (!g->hpa[i])
			continue;
		machine_mem_free(g->machine, g->hpa[i], 0);
		g->hpa[i] = 0;
		g->large[i / GUEST_BLOCK] = false;
	}
	pthread_mutex_unlock(&g->lock);
	tpt_vm_invalidate_end(g->vm, &t);
}

/* The host puts one block of frames where there were many, and so lets large leaves come. */
static inline void guest_collapse(struct guest *g, unsigned int block)
{
	unsigned int first = block * GUEST_BLOCK;
	uint64_t hpa, old[GUEST_BLOCK];
	struct tpt_invalidation t;

	must(tpt_vm_invalidate_begin(g->vm, tpt_hva_make(GUEST_HVA + first * 4096ull),
				     tpt_hva_make(GUEST_HVA + (first + GUEST_BLOCK) * 4096ull),
				     &t) >= 0);
	pthread_mutex_lock(&g->lock);
	memcpy(old, &g->hpa[first], sizeof(old));
	if (!machine_mem_alloc(g->machine, 1, 9, &hpa)) {
		for (unsigned int i = 0; i < GUEST_BLOCK; i++) {
			g->hpa[first + i] = hpa + i * 4096ull;
			if (old[i])
				machine_mem_free(g->machine, old[i], 0);
		}
		/* Only from time to time is it told at once that it is large. */
		g->large[block] = guest_pick(&g->random, 2);
	}
	pthread_mutex_unlock(&g->lock);
	tpt_vm_invalidate_end(g->vm, &t);
}

/* What lies in one block of frames is known as such from now on. */
static inline void guest_notice(struct guest *g, unsigned int block)
{
	unsigned int first = block * GUEST_BLOCK;
	bool whole;

	pthread_mutex_lock(&g->lock);
	whole = g->hpa[first] && !(g->hpa[first] & 0x1fffff);
	for (unsigned int i = 0; i < GUEST_BLOCK && whole; i++)
		whole = g->hpa[first + i] == g->hpa[first] + i * 4096ull;
	if (whole)
		g->large[block] = true;
	pthread_mutex_unlock(&g->lock);
}

/* ---- the platform's hooks ---- */

static inline void guest_on_flush(void *ctx, struct tpt_vm *vm, const struct tpt_flush *flush)
{
	struct guest *g = ctx;

	(void)vm;
	if (flush->all) {
		for (unsigned int i = 0; i < g->nr_vcpus; i++)
			atomic_store(&g->v[i].reload, true);
		machine_kick(g->machine, NULL);
		machine_flush(g->machine, NULL, MACHINE_TAG_ALL, 0, MACHINE_GPA_END,
			      MACHINE_FLUSH_REMOTE);
		return;
	}
	machine_flush(g->machine, NULL, 1 + flush->as_id, flush->range.start << 12,
		      flush->range.end << 12, MACHINE_FLUSH_REMOTE);
}

static inline void guest_on_kick(void *ctx, struct tpt_vm *vm, enum tpt_kick_reason reason)
{
	struct guest *g = ctx;

	(void)vm, (void)reason;
	machine_kick(g->machine, NULL);
}

/* Refusals are looked at by their errno; misuses of the platform by its count. */
static inline void guest_on_log(void *ctx, enum tpt_log_level level, const char *text)
{
	(void)ctx;
	if (level == TPT_LOG_ERROR)
		print_message("%s\n", text);
}

static inline int guest_table_alloc(void *ctx, tpt_hpa *hpa)
{
	struct guest *g = ctx;

	return machine_mem_alloc(g->machine, 0, 0, &hpa->a);
}

static inline void guest_table_free(void *ctx, tpt_hpa hpa)
{
	struct guest *g = ctx;

	machine_mem_free(g->machine, hpa.a, 0);
}

static inline void *guest_table_ptr(void *ctx, tpt_hpa hpa)
{
	struct guest *g = ctx;

	return machine_mem_ptr(g->machine, hpa.a);
}

static const struct tpt_posix_pages guest_pages = {guest_table_alloc, guest_table_free,
						   guest_table_ptr};

/* ---- making one ---- */

static inline struct guest *guest_create(const struct tpt_vm_config *config, unsigned int nr_vcpus,
					 uint64_t seed)
{
	struct guest *g = calloc(1, sizeof(*g));
	struct machine_config m;
	struct tpt_posix_config p = {
		.size = sizeof(p),
		.flags = TPT_POSIX_POISON | TPT_POSIX_WATCH,
		.hpa_base = 4 * GIB,
		.bytes = GIB,
		.hooks = {guest_on_flush, guest_on_kick, NULL, guest_on_log},
		.hooks_ctx = g,
		.pages = &guest_pages,
		.pages_ctx = g,
	};

	machine_config_default(&m);
	m.nr_cpus = nr_vcpus;
	m.maxphyaddr = (uint8_t)config->maxphyaddr;
	m.nr_regions = 2;
	m.regions[0] = (struct machine_region){4 * GIB, GIB};
	m.regions[1] = (struct machine_region){8 * GIB, GIB};
	assert_int_equal(machine_create(&m, &g->machine), 0);
	g->posix = tpt_posix_create(&p);
	assert_non_null(g->posix);
	pthread_mutex_init(&g->lock, NULL);
	g->random = seed;
	g->large_percent = 30;
	g->config = *config;
	g->config.platform = tpt_posix_platform(g->posix);
	g->config.platform_ctx = g->posix;
	g->config.backing = &guest_backing;
	g->config.backing_ctx = g;
	assert_int_equal(tpt_vm_create(&g->config, &g->vm), 0);
	g->nr_vcpus = nr_vcpus;
	for (unsigned int i = 0; i < nr_vcpus; i++) {
		assert_int_equal(tpt_vcpu_create(g->vm, i, &g->v[i].vcpu), 0);
		g->v[i].cpu = machine_get_cpu(g->machine, i);
		g->v[i].reload = true;
	}
	return g;
}

static inline void guest_check(struct guest *g)
{
	struct machine_report report;
	char text[256];
	int faults = tpt_vm_audit(g->vm, text, sizeof(text));

	if (faults)
		print_message("audit: %s\n", text);
	if (tpt_vm_is_dead(g->vm))
		print_message("dead: %s\n", tpt_vm_report(g->vm));
	assert_int_equal(faults, 0);
	assert_false(tpt_vm_is_dead(g->vm));
	if (machine_report_get(g->machine, 0, &report, 1)) {
		machine_report_text(&report, text, sizeof(text));
		print_message("machine: %s\n", text);
	}
	assert_int_equal(machine_report_count(g->machine), 0);
}

static inline void guest_destroy(struct guest *g)
{
	tpt_vm_destroy(g->vm);
	assert_int_equal(tpt_posix_destroy(g->posix), 0);
	assert_int_equal(machine_report_count(g->machine), 0);
	machine_destroy(g->machine);
	pthread_mutex_destroy(&g->lock);
	free(g);
}

/* ---- a vCPU's life ---- */

static inline int guest_load(struct guest *g, unsigned int i)
{
	/* Before the roots are asked for: a request that comes later finds them stale again. */
	bool reload = atomic_exchange(&g->v[i].reload, false);
	struct tpt_roots roots;
	int err = tpt_vcpu_load_roots(g->v[i].vcpu, &roots);

	if (err)
		return err;
	if (reload || g->v[i].generation != roots.generation ||
	    g->v[i].loaded_as != g->v[i].as_id) {
		struct machine_root root = {.tag = 1 + g->v[i].as_id,
					    .npt_levels = (uint8_t)roots.levels};

		root.kind =
			g->config.format == TPT_FORMAT_EPT ? MACHINE_ROOT_EPT : MACHINE_ROOT_NPT;
		root.pointer = g->config.format == TPT_FORMAT_EPT
				       ? machine_eptp(roots.direct.a, roots.levels,
						      !(g->config.flags & TPT_VM_NO_AD))
				       : roots.direct.a;
		g->v[i].generation = roots.generation;
		g->v[i].loaded_as = g->v[i].as_id;
		/* Roots may be gone again by now: the request says so. */
		if (machine_cpu_load(g->v[i].cpu, &root))
			atomic_store(&g->v[i].reload, true);
	}
	return 0;
}

/*
 * One access, until it is done or must be emulated. Returns 0 (*hpa filled), TPT_RET_PF_EMULATE, or
 * a negative errno.
 */
static inline int guest_access(struct guest *g, unsigned int i, uint64_t gpa, unsigned int kind,
			       uint64_t *hpa)
{
	for (unsigned int tries = 0; tries < 1000000; tries++) {
		struct tpt_fault f = {.gpa = {gpa}};
		struct machine_result r;
		int ret = guest_load(g, i);

		if (ret)
			return ret;
		machine_cpu_enter_guest(g->v[i].cpu);
		if (atomic_load(&g->v[i].reload)) {
			machine_cpu_leave_guest(g->v[i].cpu);
			continue;
		}
		machine_access(g->v[i].cpu, gpa, kind, &r);
		machine_cpu_leave_guest(g->v[i].cpu);
		*hpa = r.hpa;
		switch (r.outcome) {
		case MACHINE_OK:
			return 0;
		case MACHINE_KICKED:
			continue;
		case MACHINE_NPF:
			f.error_code = tpt_pferr_from_npf(r.error);
			break;
		case MACHINE_EPT_VIOLATION:
			f.error_code = tpt_pferr_from_ept(r.error);
			break;
		case MACHINE_EPT_MISCONFIG:
			f.error_code = TPT_PFERR_EPT_MISCONFIG;
			break;
		default:
			return -EFAULT;
		}
		ret = tpt_vcpu_fault(g->v[i].vcpu, &f);
		if (ret < 0 || ret == TPT_RET_PF_EMULATE)
			return ret;
		if (ret == TPT_RET_PF_RETRY)
			sched_yield();
	}
	return -EAGAIN;
}

#endif
