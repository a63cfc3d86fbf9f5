// SPDX-License-Identifier: BSD-2-Clause
/*
 * vCPUs on threads of their own, faulting while others zap, take memory back, convert, punch holes
 * and change slots. At rest everything must hold, and the judge of the processor have nothing to
 * say.
 */
#include <sched.h>
#include <time.h>

#include "tests/support/guest.h"

#define PAGE 4096ull

#if defined(__SANITIZE_THREAD__)
#define SLOWER 8
#elif defined(__SANITIZE_ADDRESS__)
#define SLOWER 4
#else
#define SLOWER 1
#endif

/* vCPUs run until those who upset things are through. */
static _Atomic bool quiet;

/* ---- an ordinary VM on the model processor ---- */

#define ACCESSES (20000 / SLOWER)
#define EVENTS	 (300 / SLOWER)

struct runner {
	struct guest *g;
	unsigned int v;
	int error;
	uint64_t random;
	uint64_t done, emulated;
	pthread_t thread;
};

/* Slot 0 is always there; slot 1 comes and goes, read-only now and then. */
static void *run_vcpu(void *ctx)
{
	struct runner *r = ctx;
	uint64_t hpa;

	for (unsigned int i = 0; (i < ACCESSES || !quiet) && !r->error; i++) {
		uint64_t gpa = guest_pick(&r->random, GUEST_PAGES) * PAGE;
		unsigned int kind = guest_pick(&r->random, 2) ? MACHINE_READ : MACHINE_WRITE;
		int ret = guest_access(r->g, r->v, gpa, kind, &hpa);

		if (ret < 0)
			r->error = ret;
		else if (ret)
			r->emulated++;
		else
			r->done++;
	}
	return NULL;
}

static int set_slot(struct guest *g, uint32_t id, bool there, uint32_t flags)
{
	uint64_t half = GUEST_PAGES / 2 * PAGE;
	const struct tpt_memory_region region = {
		.slot = id,
		.flags = flags,
		.gpa = tpt_gpa_make(id * half),
		.size = there ? half : 0,
		.hva = tpt_hva_make(GUEST_HVA + id * half),
	};

	return tpt_vm_set_memory_region(g->vm, &region);
}

struct upsetter {
	struct guest *g;
	uint64_t random;
	bool slots; /* this one changes slots */
	pthread_t thread;
};

static void *upset(void *ctx)
{
	struct upsetter *u = ctx;
	bool there = true;

	for (unsigned int i = 0; i < EVENTS; i++) {
		unsigned int page = guest_pick(&u->random, GUEST_PAGES - 64);
		unsigned int block = guest_pick(&u->random, GUEST_PAGES / GUEST_BLOCK);

		switch (guest_pick(&u->random, 8)) {
		case 0:
			if (!u->slots)
				break;
			there = !there;
			must(!set_slot(u->g, 1, there,
				       guest_pick(&u->random, 4) ? 0 : TPT_MEM_READONLY));
			break;
		case 1:
			must(!tpt_vm_zap_all_fast(u->g->vm));
			break;
		case 2:
			guest_collapse(u->g, block);
			break;
		case 3:
		case 4:
			guest_notice(u->g, block);
			break;
		case 5:
			must(!tpt_vm_apicv_changed(u->g->vm, page));
			break;
		default:
			guest_reclaim(u->g, page, page + 1 + guest_pick(&u->random, 64));
		}
		sched_yield();
	}
	return NULL;
}

static void run_ordinary(unsigned int nr, enum tpt_format format, uint32_t flags)
{
	struct upsetter u[2];
	struct tpt_vm_config c;
	struct runner r[HOST_VCPUS];
	struct tpt_vm_stats s;
	struct guest *g;

	host_config_npt(&c);
	c.format = format;
	c.flags = flags;
	g = guest_create(&c, nr, 7);
	assert_int_equal(set_slot(g, 0, true, 0), 0);
	assert_int_equal(set_slot(g, 1, true, 0), 0);
	quiet = false;
	for (unsigned int i = 0; i < nr; i++) {
		r[i] = (struct runner){.g = g, .v = i, .random = 100 + i};
		pthread_create(&r[i].thread, NULL, run_vcpu, &r[i]);
	}
	for (unsigned int i = 0; i < 2; i++) {
		u[i] = (struct upsetter){.g = g, .random = 200 + i, .slots = i};
		pthread_create(&u[i].thread, NULL, upset, &u[i]);
	}
	for (unsigned int i = 0; i < 2; i++)
		pthread_join(u[i].thread, NULL);
	quiet = true;
	for (unsigned int i = 0; i < nr; i++)
		pthread_join(r[i].thread, NULL);

	guest_check(g);
	tpt_vm_get_stats(g->vm, &s);
	for (unsigned int i = 0; i < nr; i++) {
		assert_int_equal(r[i].error, 0);
		assert_true(r[i].done + r[i].emulated >= ACCESSES);
		assert_true(r[i].done);
	}
	assert_true(s.vcpus.pf_fixed > 1000 / SLOWER);
	guest_destroy(g);
}

static void two_vcpus_fault_while_the_host_upsets_everything(void **state)
{
	(void)state;
	run_ordinary(2, TPT_FORMAT_NPT, 0);
	run_ordinary(2, TPT_FORMAT_EPT, TPT_VM_SLOT_ZAP_ALL);
}

/* A17: no step may wait for ever, no table may be used after its grace period (poison, sanitizers),
 * the audit finds nothing. */
static void A17_four_vcpus_fault_while_the_host_upsets_everything(void **state)
{
	(void)state;
	run_ordinary(4, TPT_FORMAT_NPT, TPT_VM_SLOT_ZAP_ALL);
	run_ordinary(4, TPT_FORMAT_EPT, 0);
}

/* ---- collapse and split of one table, again and again ---- */

#define FIGHTS (8000 / SLOWER)

struct fighter {
	struct host *h;
	unsigned int v;
	int error;
	uint64_t random;
	pthread_t thread;
};

/* The backing's mind changes with each question: 4K, 2M or 1G; read-only or not. */
static int fickle_lookup(void *ctx, const struct tpt_backing_query *q,
			 struct tpt_backing_page *page)
{
	static _Atomic uint32_t n;
	uint32_t i = atomic_fetch_add(&n, 1) * 2654435761u >> 16;

	(void)ctx;
	*page = (struct tpt_backing_page){
		.pfn = tpt_pfn_make(q->hva.a >> TPT_PAGE_SHIFT),
		.writable = q->write || i % 3 == 0,
		.level = i % 16 == 0  ? TPT_LEVEL_1G
			 : i % 4 == 0 ? TPT_LEVEL_2M
				      : TPT_LEVEL_4K,
	};
	return 0;
}

static const struct tpt_backing_ops fickle = {.size = sizeof(fickle), .lookup = fickle_lookup};

static void *fight(void *ctx)
{
	struct fighter *f = ctx;

	for (unsigned int i = 0; i < FIGHTS && !f->error; i++) {
		uint64_t gpa =
			guest_pick(&f->random, 4) * 2 * MIB + guest_pick(&f->random, 3) * PAGE;
		int ret = host_fault_on(f->h->vcpu[f->v], gpa,
					guest_pick(&f->random, 2) ? TPT_PFERR_WRITE : 0, NULL);

		if (ret < 0)
			f->error = ret;
	}
	return NULL;
}

static void tables_come_and_go_under_faulting_vcpus(void **state)
{
	struct fighter f[HOST_VCPUS];
	struct tpt_vm_config c;
	struct tpt_vm_stats s;
	struct host *h;

	(void)state;
	host_config_npt(&c);
	h = host_prepare(&c);
	h->config.backing = &fickle;
	assert_int_equal(tpt_vm_create(&h->config, &h->vm), 0);
	assert_int_equal(host_slot(h, 0, 0, 0, GIB, GIB, 0), 0);
	for (unsigned int i = 0; i < HOST_VCPUS; i++)
		assert_int_equal(tpt_vcpu_create(h->vm, i, &h->vcpu[i]), 0);
	for (unsigned int round = 0; round < 20; round++) {
		for (unsigned int i = 0; i < HOST_VCPUS; i++) {
			f[i] = (struct fighter){.h = h, .v = i, .random = round * 10 + i};
			pthread_create(&f[i].thread, NULL, fight, &f[i]);
		}
		/* An upper leaf that serves all ends the fight: begin anew. */
		for (unsigned int i = 0; i < 200 / SLOWER; i++) {
			assert_int_equal(tpt_vm_apicv_changed(h->vm, 0), 0);
			sched_yield();
		}
		for (unsigned int i = 0; i < HOST_VCPUS; i++) {
			pthread_join(f[i].thread, NULL);
			assert_int_equal(f[i].error, 0);
		}
		host_audit(h);
	}
	s = host_stats(h);
	assert_true(s.flush[TPT_FLUSH_COLLAPSE] > 20);
	host_destroy(h);
}

/* ---- a TD over an external table ---- */

#define TD_PAGES  4096u
#define TD_FAULTS (20000 / SLOWER)

struct td_vcpu {
	struct host *h;
	unsigned int v;
	int error;
	uint64_t random;
	uint64_t outcome[8];
	pthread_t thread;
};

static void *run_td(void *ctx)
{
	struct td_vcpu *t = ctx;

	for (unsigned int i = 0; (i < TD_FAULTS || !quiet) && !t->error; i++) {
		uint64_t gpa = guest_pick(&t->random, TD_PAGES) * PAGE;
		struct tpt_fault f;
		time_t end;
		int ret;

		if (guest_pick(&t->random, 2))
			gpa |= HOST_SHARED;
		/* Whoever waits gets on, but for what an owner that stays busy left BLOCKED. */
		end = time(NULL) + (t->h->ext.busy_percent ? 0 : 20);
		do {
			ret = host_fault_on(t->h->vcpu[t->v], gpa, TPT_PFERR_WRITE, &f);
			if (ret == TPT_RET_PF_RETRY)
				sched_yield();
		} while (ret == TPT_RET_PF_RETRY && time(NULL) < end);
		if (ret == TPT_RET_PF_RETRY && !t->h->ext.busy_percent)
			t->error = -EAGAIN;
		if (ret == -EIO && !tpt_vm_is_dead(t->h->vm))
			break; /* the VM's end */
		if (ret < 0 && ret != -EFAULT)
			t->error = ret;
		if (ret > 0)
			t->outcome[ret]++;
	}
	return NULL;
}

static void td_upset(struct host *h, uint64_t *random, bool slots)
{
	uint64_t start = guest_pick(random, TD_PAGES - 256), len = 1 + guest_pick(random, 256);
	struct tpt_invalidation inv;
	int err = 0;

	switch (guest_pick(random, 8)) {
	case 0:
		err = tpt_gmem_punch_hole(h->gmem, start * PAGE, len * PAGE);
		break;
	case 1:
		must(tpt_vm_invalidate_begin(h->vm, tpt_hva_make(GIB + start * PAGE),
					     tpt_hva_make(GIB + (start + len) * PAGE), &inv) >= 0);
		sched_yield();
		tpt_vm_invalidate_end(h->vm, &inv);
		break;
	case 2:
		must(!tpt_vm_zap_all_fast(h->vm));
		break;
	case 3:
		if (!slots)
			break;
		err = host_slot(h, 0, 0, 0, 0, 0, 0);
		sched_yield();
		if (!err)
			must(!host_slot(h, 0, 0, 0, TD_PAGES * PAGE, GIB, TPT_MEM_GUEST_MEMFD));
		break;
	default:
		err = tpt_vm_set_private(h->vm, start, start + len, guest_pick(random, 2), NULL);
		/* Another thread may have taken the slot away for a moment. */
		if (err == -EINVAL)
			err = 0;
	}
	must(err == 0 || err == -EBUSY);
}

struct td_upsetter {
	struct host *h;
	uint64_t random;
	bool slots;
	pthread_t thread;
};

static void *run_td_upset(void *ctx)
{
	struct td_upsetter *u = ctx;

	for (unsigned int i = 0; i < 120 / SLOWER; i++) {
		td_upset(u->h, &u->random, u->slots);
		sched_yield();
	}
	return NULL;
}

static void run_a_td(unsigned int nr, enum tpt_format format, unsigned int busy, bool end_early)
{
	struct td_vcpu t[HOST_VCPUS];
	struct td_upsetter u[2];
	uint64_t fixed = 0;
	struct tpt_vm_config c;
	struct host *h;

	host_td_format = format;
	host_config_td(&c);
	c.zap_chunk = 16;
	h = host_create(&c, nr);
	h->ext.busy_percent = busy;
	assert_int_equal(tpt_gmem_create(h->vm, TD_PAGES * PAGE, &host_gmem, h, &h->gmem), 0);
	assert_int_equal(host_slot(h, 0, 0, 0, TD_PAGES * PAGE, GIB, TPT_MEM_GUEST_MEMFD), 0);
	assert_int_equal(tpt_vm_set_private(h->vm, 0, TD_PAGES / 2, true, NULL), 0);
	quiet = false;
	for (unsigned int i = 0; i < nr; i++) {
		t[i] = (struct td_vcpu){.h = h, .v = i, .random = 10 * i + busy};
		pthread_create(&t[i].thread, NULL, run_td, &t[i]);
	}
	for (unsigned int i = 0; i < 2; i++) {
		u[i] = (struct td_upsetter){.h = h, .random = 300 + i, .slots = i};
		pthread_create(&u[i].thread, NULL, run_td_upset, &u[i]);
	}
	for (unsigned int i = 0; i < 2; i++)
		pthread_join(u[i].thread, NULL);
	quiet = !end_early;
	if (end_early) {
		host_audit(h);
		assert_int_equal(tpt_vm_teardown(h->vm), 0);
	}
	for (unsigned int i = 0; i < nr; i++) {
		pthread_join(t[i].thread, NULL);
		assert_int_equal(t[i].error, 0);
		fixed += t[i].outcome[TPT_RET_PF_FIXED];
	}
	assert_true(end_early || fixed > 500 / SLOWER);
	if (!end_early) {
		host_audit(h);
		assert_int_equal(host_stats(h).mirror.pages_4k, h->ext.leaves);
	}
	host_destroy(h);
}

static void two_vcpus_of_a_td_fault_while_pages_are_converted(void **state)
{
	(void)state;
	run_a_td(2, TPT_FORMAT_EPT, 0, false);
	run_a_td(2, TPT_FORMAT_NPT, 20, false);
}

/* A17: the same with an external table. */
static void A17_four_vcpus_of_a_td_fault_while_pages_are_converted(void **state)
{
	(void)state;
	run_a_td(4, TPT_FORMAT_NPT, 0, false);
	run_a_td(4, TPT_FORMAT_EPT, 5, false);
}

/* A18: teardown at an arbitrary point leaves the counts balanced. */
static void A18_a_td_ends_while_its_vcpus_still_fault(void **state)
{
	(void)state;
	run_a_td(4, TPT_FORMAT_EPT, 0, true);
	run_a_td(2, TPT_FORMAT_NPT, 0, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_vcpus_fault_while_the_host_upsets_everything),
		cmocka_unit_test(A17_four_vcpus_fault_while_the_host_upsets_everything),
		cmocka_unit_test(tables_come_and_go_under_faulting_vcpus),
		cmocka_unit_test(two_vcpus_of_a_td_fault_while_pages_are_converted),
		cmocka_unit_test(A17_four_vcpus_of_a_td_fault_while_pages_are_converted),
		cmocka_unit_test(A18_a_td_ends_while_its_vcpus_still_fault),
	};

	return cmocka_run_group_tests_name("threads", tests, NULL, NULL);
}
