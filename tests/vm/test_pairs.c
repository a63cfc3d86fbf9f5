// SPDX-License-Identifier: BSD-2-Clause
/*
 * Every pair of operations at the same time, each on a thread of its own, while two vCPUs use
 * memory on the model processor, whose TLBs keep what they may. After each pair, at rest, the audit
 * and the judge have nothing to say. What one operation does is proved elsewhere.
 */
#include <triptych/aging.h>
#include <triptych/dirty.h>
#include <triptych/nx.h>

#include "tests/support/guest.h"

#define PAGE 4096ull
#define HALF (GUEST_PAGES / 2)

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define ROUNDS 3
#else
#define ROUNDS 8
#endif

/* One who does an operation: with a vCPU of his own where it needs one. */
struct doer {
	struct guest *g;
	unsigned int op, v;
	uint64_t random;
	pthread_t thread;
};

static int set_slot(struct guest *g, uint32_t id, bool there, uint32_t flags)
{
	const struct tpt_memory_region region = {
		.slot = id,
		.flags = flags,
		.gpa = tpt_gpa_make(id * HALF * PAGE),
		.size = there ? HALF * PAGE : 0,
		.hva = tpt_hva_make(GUEST_HVA + id * HALF * PAGE),
	};

	return tpt_vm_set_memory_region(g->vm, &region);
}

static tpt_hva hva_of(uint64_t page)
{
	return tpt_hva_make(GUEST_HVA + page * PAGE);
}

static void zap_all(struct doer *d)
{
	must(!tpt_vm_zap_all_fast(d->g->vm));
}

static void notifier(struct doer *d)
{
	unsigned int page = guest_pick(&d->random, GUEST_PAGES - 64);

	guest_reclaim(d->g, page, page + 64);
}

static void collapse(struct doer *d)
{
	unsigned int block = guest_pick(&d->random, GUEST_PAGES / GUEST_BLOCK);

	guest_collapse(d->g, block);
	guest_notice(d->g, block);
}

static void apicv(struct doer *d)
{
	must(!tpt_vm_apicv_changed(d->g->vm, guest_pick(&d->random, GUEST_PAGES)));
}

static void dma(struct doer *d)
{
	must(!tpt_vm_set_noncoherent_dma(d->g->vm, guest_pick(&d->random, 2)));
}

/* The second slot goes and comes; two who do it meet: one of them finds it done. */
static void slot(struct doer *d)
{
	int err = set_slot(d->g, 1, false, 0);

	must(!err || err == -EINVAL);
	err = set_slot(d->g, 1, true, 0);
	must(!err || err == -EEXIST);
}

static void log_switch(struct doer *d)
{
	must(!set_slot(d->g, 0, true, TPT_MEM_LOG_DIRTY));
	must(!set_slot(d->g, 0, true, 0));
}

static void log_read(struct doer *d)
{
	static _Thread_local uint64_t bitmap[HALF / 64];
	int err = set_slot(d->g, 0, true, TPT_MEM_LOG_DIRTY);

	must(!err);
	/* The other one may have switched it off meanwhile. */
	err = tpt_vm_get_dirty_log(d->g->vm, 0, 0, bitmap);
	must(!err || err == -ENOENT);
}

static void age(struct doer *d)
{
	must(tpt_vm_age(d->g->vm, hva_of(0), hva_of(GUEST_PAGES), NULL) >= 0);
}

static void test_age(struct doer *d)
{
	must(tpt_vm_test_age(d->g->vm, hva_of(0), hva_of(GUEST_PAGES), NULL) >= 0);
}

static void nx_switch(struct doer *d)
{
	must(!tpt_vm_set_nx_huge_pages(d->g->vm,
				       guest_pick(&d->random, 2) ? TPT_NX_FORCE : TPT_NX_OFF));
}

static void nx_recover(struct doer *d)
{
	must(tpt_vm_nx_recover(d->g->vm, 2) >= 0);
}

/* Another access than a touch, on a vCPU that is not in the guest. */
static void prefault(struct doer *d)
{
	uint64_t done, gpa = guest_pick(&d->random, GUEST_PAGES - 600) * PAGE;
	struct tpt_roots roots;
	int err;

	must(!tpt_vcpu_load_roots(d->g->v[d->v].vcpu, &roots));
	err = tpt_vcpu_prefault(d->g->v[d->v].vcpu, tpt_gpa_make(gpa), 600 * PAGE, &done);
	/* The slot is away, or on its way. */
	must(!err || err == -ENOENT || err == -EAGAIN);
}

static void premap(struct doer *d)
{
	uint64_t done, gfn = guest_pick(&d->random, GUEST_PAGES - 600);
	struct tpt_roots roots;
	int err;

	must(!tpt_vcpu_load_roots(d->g->v[d->v].vcpu, &roots));
	err = tpt_vcpu_premap(d->g->v[d->v].vcpu, gfn, 600, TPT_ACC_READ, &done);
	must(!err || err == -ENOENT || err == -EAGAIN);
}

static void statistics(struct doer *d)
{
	struct tpt_vm_stats s;

	tpt_vm_get_stats(d->g->vm, &s);
}

static const struct {
	const char *name;
	void (*fn)(struct doer *d);
} ops[] = {
	{"zap-all", zap_all},
	{"notifier", notifier},
	{"collapse", collapse},
	{"apicv", apicv},
	{"dma", dma},
	{"slot", slot},
	{"log on/off", log_switch},
	{"log read", log_read},
	{"age", age},
	{"test age", test_age},
	{"nx switch", nx_switch},
	{"nx recover", nx_recover},
	{"prefault", prefault},
	{"premap", premap},
	{"stats", statistics},
};
#define NR_OPS (sizeof(ops) / sizeof(ops[0]))

static void *run_doer(void *ctx)
{
	struct doer *d = ctx;

	for (unsigned int i = 0; i < ROUNDS; i++)
		ops[d->op].fn(d);
	return NULL;
}

static _Atomic bool quiet;

static void *run_vcpu(void *ctx)
{
	struct doer *d = ctx;
	uint64_t hpa;

	while (!quiet) {
		uint64_t gpa = guest_pick(&d->random, GUEST_PAGES) * PAGE;
		unsigned int kinds[] = {MACHINE_READ, MACHINE_WRITE, MACHINE_EXEC};

		must(guest_access(d->g, d->v, gpa, kinds[guest_pick(&d->random, 3)], &hpa) >= 0);
	}
	return NULL;
}

static void run_pair(struct guest *g, unsigned int a, unsigned int b)
{
	struct doer d[4];

	quiet = false;
	for (unsigned int i = 0; i < 4; i++) {
		d[i] = (struct doer){
			.g = g, .op = i == 2 ? a : b, .v = i, .random = 64 * a + b + i};
		pthread_create(&d[i].thread, NULL, i < 2 ? run_vcpu : run_doer, &d[i]);
	}
	pthread_join(d[2].thread, NULL);
	pthread_join(d[3].thread, NULL);
	quiet = true;
	pthread_join(d[0].thread, NULL);
	pthread_join(d[1].thread, NULL);
}

static void every_pair(enum tpt_format format, uint32_t flags)
{
	struct tpt_vm_config c;
	struct guest *g;

	host_config_npt(&c);
	c.format = format;
	c.flags = flags;
	g = guest_create(&c, 4, 11);
	assert_int_equal(set_slot(g, 0, true, 0), 0);
	assert_int_equal(set_slot(g, 1, true, 0), 0);
	for (unsigned int a = 0; a < NR_OPS; a++) {
		for (unsigned int b = a; b < NR_OPS; b++) {
			run_pair(g, a, b);
			if (tpt_vm_is_dead(g->vm) || machine_report_count(g->machine))
				print_message("pair: %s, %s\n", ops[a].name, ops[b].name);
			guest_check(g);
		}
	}
	guest_destroy(g);
}

static void every_pair_of_operations_on_npt(void **state)
{
	(void)state;
	every_pair(TPT_FORMAT_NPT, TPT_VM_EAGER_PAGE_SPLIT | TPT_VM_SLOT_ZAP_ALL);
}

static void every_pair_of_operations_on_ept(void **state)
{
	(void)state;
	every_pair(TPT_FORMAT_EPT, TPT_VM_IGNORE_GUEST_PAT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_pair_of_operations_on_npt),
		cmocka_unit_test(every_pair_of_operations_on_ept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
