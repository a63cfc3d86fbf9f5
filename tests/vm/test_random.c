// SPDX-License-Identifier: BSD-2-Clause
/*
 * The whole API at random against plain maps: an ordinary VM on the model processor, whose judge
 * must have nothing to say, and a TD over an external table that is busy now and then. The seed is
 * printed; TRIPTYCH_SEED sets it.
 */
#include <sched.h>
#include <time.h>

#include "tests/support/guest.h"

#define PAGE 4096ull

static uint64_t first_seed(void)
{
	const char *text = getenv("TRIPTYCH_SEED");
	uint64_t seed = text ? strtoull(text, NULL, 0) : (uint64_t)time(NULL);

	print_message("TRIPTYCH_SEED=%llu\n", (unsigned long long)seed);
	return seed;
}

/* ---- an ordinary VM ---- */

#define SLOTS	  6
#define GFNS	  16384u
#define ORD_STEPS 12000

struct plain_slot {
	bool there, readonly;
	uint32_t gfn, npages, page; /* page: of the guest's host memory */
};

struct ordinary {
	struct guest *g;
	uint64_t random;
	struct plain_slot slot[2][SLOTS];
};

static const struct plain_slot *slot_at(const struct ordinary *o, uint32_t as_id, uint32_t gfn)
{
	for (unsigned int i = 0; i < SLOTS; i++) {
		const struct plain_slot *s = &o->slot[as_id][i];

		if (s->there && gfn >= s->gfn && gfn < s->gfn + s->npages)
			return s;
	}
	return NULL;
}

static bool overlaps(const struct ordinary *o, uint32_t as_id, unsigned int but, uint32_t gfn,
		     uint32_t npages)
{
	for (unsigned int i = 0; i < SLOTS; i++) {
		const struct plain_slot *s = &o->slot[as_id][i];

		if (i != but && s->there && gfn < s->gfn + s->npages && s->gfn < gfn + npages)
			return true;
	}
	return false;
}

static int set_slot(struct ordinary *o, uint32_t as_id, unsigned int id, const struct plain_slot *s)
{
	const struct tpt_memory_region r = {
		.as_id = as_id,
		.slot = id,
		.flags = s->readonly ? TPT_MEM_READONLY : 0,
		.gpa = tpt_gpa_make(s->gfn * PAGE),
		.size = s->there ? s->npages * PAGE : 0,
		.hva = tpt_hva_make(GUEST_HVA + s->page * PAGE),
	};

	return tpt_vm_set_memory_region(o->g->vm, &r);
}

static void change_slot(struct ordinary *o)
{
	uint32_t as_id = guest_pick(&o->random, 2);
	unsigned int id = guest_pick(&o->random, SLOTS);
	struct plain_slot *s = &o->slot[as_id][id], n = *s;
	bool move = s->there && guest_pick(&o->random, 2);
	int want = 0;

	if (s->there && !move) {
		n.there = false;
	} else {
		/* Often congruent to 2M, so that large leaves come. */
		n.gfn = guest_pick(&o->random, 28) * 512 +
			(guest_pick(&o->random, 3) ? 0 : guest_pick(&o->random, 512));
		if (!move) {
			n.there = true;
			n.readonly = guest_pick(&o->random, 5) == 0;
			n.npages = 1 + guest_pick(&o->random, 2048);
			n.page = guest_pick(&o->random, 11) * 512 +
				 (guest_pick(&o->random, 3) ? 0 : guest_pick(&o->random, 512));
		}
		want = overlaps(o, as_id, id, n.gfn, n.npages) ? -EEXIST : 0;
	}
	assert_int_equal(set_slot(o, as_id, id, &n), want);
	if (!want)
		*s = n;
}

static void access_one(struct ordinary *o)
{
	unsigned int v = guest_pick(&o->random, 2);
	uint32_t gfn = guest_pick(&o->random, GFNS), as_id = guest_pick(&o->random, 8) == 0;
	unsigned int kind = guest_pick(&o->random, 2) ? MACHINE_READ : MACHINE_WRITE;
	const struct plain_slot *s;
	uint64_t hpa = 0;
	int ret;

	assert_int_equal(tpt_vcpu_set_smm(o->g->v[v].vcpu, as_id), 0);
	o->g->v[v].as_id = as_id;
	ret = guest_access(o->g, v, gfn * PAGE + 0x123, kind, &hpa);
	s = slot_at(o, as_id, gfn);
	if (!s || (s->readonly && kind == MACHINE_WRITE)) {
		if (ret != TPT_RET_PF_EMULATE)
			fail_msg("gfn %#x: %d, not emulated", gfn, ret);
	} else if (ret || hpa != o->g->hpa[s->page + gfn - s->gfn] + 0x123) {
		fail_msg("gfn %#x: %d, at %#llx and not %#llx", gfn, ret, (unsigned long long)hpa,
			 (unsigned long long)o->g->hpa[s->page + gfn - s->gfn] + 0x123);
	}
}

static void ordinary_step(struct ordinary *o)
{
	unsigned int start = guest_pick(&o->random, GUEST_PAGES);
	unsigned int block = guest_pick(&o->random, GUEST_PAGES / GUEST_BLOCK);

	switch (guest_pick(&o->random, 100)) {
	case 0:
	case 1:
		change_slot(o);
		break;
	case 2:
		guest_reclaim(o->g, start, start + 1);
		break;
	case 3:
		start = guest_pick(&o->random, GUEST_PAGES - 1024);
		guest_reclaim(o->g, start, start + 1 + guest_pick(&o->random, 1024));
		break;
	case 4:
		guest_collapse(o->g, block);
		break;
	case 5:
	case 6:
		guest_notice(o->g, block);
		break;
	case 7:
		if (guest_pick(&o->random, 8) == 0)
			assert_int_equal(tpt_vm_zap_all_fast(o->g->vm), 0);
		break;
	case 8:
		tpt_vcpu_reset_context(o->g->v[guest_pick(&o->random, 2)].vcpu);
		break;
	case 9:
		assert_int_equal(tpt_vm_apicv_changed(o->g->vm, guest_pick(&o->random, GFNS)), 0);
		break;
	case 10:
		assert_int_equal(tpt_vm_set_noncoherent_dma(o->g->vm, guest_pick(&o->random, 2)),
				 0);
		break;
	default:
		access_one(o);
	}
}

static void run_ordinary(const struct tpt_vm_config *c, uint64_t seed,
			 uint64_t flushes[TPT_FLUSH_NR])
{
	struct tpt_vm_stats s;
	struct ordinary o = {.g = guest_create(c, 2, seed), .random = seed};

	for (unsigned int i = 0; i < ORD_STEPS; i++) {
		ordinary_step(&o);
		if (i % 500 == 0)
			guest_check(o.g);
	}
	guest_check(o.g);
	tpt_vm_get_stats(o.g->vm, &s);
	for (unsigned int i = 0; i < TPT_FLUSH_NR; i++)
		flushes[i] += s.flush[i];
	guest_destroy(o.g);
}

static void an_ordinary_vm_translates_as_a_plain_map(void **state)
{
	uint64_t seed = first_seed(), flushes[TPT_FLUSH_NR] = {0};

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		struct tpt_vm_config c;

		if (i & 1)
			host_config_ept(&c);
		else
			host_config_npt(&c);
		c.address_spaces = 2;
		c.flags = i & 2 ? TPT_VM_SLOT_ZAP_ALL : i & 1 ? TPT_VM_IGNORE_GUEST_PAT : 0;
		run_ordinary(&c, seed + i, flushes);
	}
	/* Each of the ways was gone. */
	assert_true(flushes[TPT_FLUSH_COLLAPSE] && flushes[TPT_FLUSH_ROOT] &&
		    flushes[TPT_FLUSH_ZAP_MEMSLOT] && flushes[TPT_FLUSH_ZAP_NOTIFIER] &&
		    flushes[TPT_FLUSH_ZAP_RANGE]);
}

/* ---- a TD ---- */

#define TD_PAGES 2048u
#define TD_STEPS 20000

struct td {
	struct host *h;
	uint64_t random;
	bool private_[TD_PAGES];
	bool slot[4]; /* each a quarter */
};

static int td_slot(struct td *t, unsigned int i, bool there)
{
	uint64_t bytes = TD_PAGES / 4 * PAGE;

	return host_slot(t->h, 0, i, i * bytes, there ? bytes : 0, GIB + i * bytes,
			 TPT_MEM_GUEST_MEMFD);
}

static void td_fault(struct td *t)
{
	uint32_t gfn = guest_pick(&t->random, TD_PAGES);
	bool private_ = guest_pick(&t->random, 4) ? t->private_[gfn] : !t->private_[gfn];
	uint64_t gpa = gfn * PAGE | (private_ ? 0 : HOST_SHARED);
	struct tpt_fault f;
	int ret = host_fault_on(t->h->vcpu[guest_pick(&t->random, 2)], gpa, TPT_PFERR_WRITE, &f);

	if (private_ != t->private_[gfn] || (private_ && !t->slot[gfn / (TD_PAGES / 4)])) {
		assert_int_equal(ret, -EFAULT);
	} else if (!t->slot[gfn / (TD_PAGES / 4)]) {
		assert_int_equal(ret, TPT_RET_PF_EMULATE);
	} else if (ret != TPT_RET_PF_RETRY) { /* busy, or BLOCKED still */
		struct tpt_mapping m = host_mapping(
			t->h, private_ ? TPT_TREE_MIRROR : TPT_TREE_DIRECT, 0, gfn * PAGE);
		uint64_t want = private_ ? HOST_GMEM_PFN + gfn : GIB / PAGE + gfn;

		assert_true(ret == TPT_RET_PF_FIXED || ret == TPT_RET_PF_SPURIOUS);
		assert_int_equal((m.spte.w & 0xffffffffff000) >> 12,
				 want & ~(tpt_level_pages(m.level) - 1));
	}
}

/* Do slots cover [start, end)? */
static bool td_covered(const struct td *t, tpt_gfn start, tpt_gfn end)
{
	for (tpt_gfn i = start / (TD_PAGES / 4); i <= (end - 1) / (TD_PAGES / 4); i++)
		if (!t->slot[i])
			return false;
	return true;
}

static void td_convert(struct td *t)
{
	tpt_gfn start = guest_pick(&t->random, TD_PAGES), done = 0;
	tpt_gfn end = start + 1 + guest_pick(&t->random, TD_PAGES - start);
	bool private_ = guest_pick(&t->random, 2);
	int err;

	if (end > start + 64 && guest_pick(&t->random, 4))
		end = start + 64;
	err = tpt_vm_set_private(t->h->vm, start, end, private_, &done);
	if (td_covered(t, start, end)) {
		assert_true(err == 0 || err == -EBUSY);
		assert_int_equal(err == 0, done == end);
	} else {
		assert_int_equal(err, -EINVAL);
		assert_int_equal(done, start);
	}
	for (tpt_gfn gfn = start; gfn < done; gfn++)
		t->private_[gfn] = private_;
	for (tpt_gfn gfn = start; gfn < end; gfn++)
		assert_int_equal(tpt_vm_is_private(t->h->vm, gfn), t->private_[gfn]);
}

static void td_step(struct td *t)
{
	unsigned int i = guest_pick(&t->random, 4);
	uint64_t page = guest_pick(&t->random, TD_PAGES);
	uint64_t freed = atomic_load(&t->h->gmem_freed);
	struct tpt_invalidation inv;
	int err;

	switch (guest_pick(&t->random, 150)) {
	case 0:
		err = td_slot(t, i, !t->slot[i]);
		assert_int_equal(err == 0 || (err == -EBUSY && t->slot[i]), true);
		if (!err)
			t->slot[i] = !t->slot[i];
		break;
	case 1:
	case 2:
		td_convert(t);
		break;
	case 3:
		err = tpt_gmem_punch_hole(t->h->gmem, page * PAGE, PAGE);
		assert_true(err == 0 || err == -EBUSY);
		assert_int_equal(atomic_load(&t->h->gmem_freed) - freed, err ? 0 : 1);
		break;
	case 4:
		assert_true(tpt_vm_invalidate_begin(t->h->vm, tpt_hva_make(GIB + page * PAGE),
						    tpt_hva_make(GIB + (page + 9) * PAGE),
						    &inv) >= 0);
		tpt_vm_invalidate_end(t->h->vm, &inv);
		break;
	case 5:
		if (!guest_pick(&t->random, 8))
			assert_int_equal(tpt_vm_zap_all_fast(t->h->vm), 0);
		break;
	case 6:
		t->h->level = guest_pick(&t->random, 2) ? TPT_LEVEL_4K : TPT_LEVEL_2M;
		break;
	default:
		td_fault(t);
	}
}

/* The external table holds exactly what the mirror holds: the audit; and no private page less. */
static void td_check(struct td *t)
{
	struct tpt_vm_stats s = host_stats(t->h);

	host_audit(t->h);
	assert_int_equal(s.mirror.pages_4k, t->h->ext.leaves);
	assert_int_equal(s.mirror.tables, t->h->ext.tables + 1);
}

static void run_a_td(enum tpt_format format)
{
	uint64_t seed = first_seed();

	host_td_format = format;
	for (unsigned int busy = 0; busy <= 90; busy += 30) {
		struct td t = {.random = seed + busy};
		struct tpt_vm_config c;

		host_config_td(&c);
		c.zap_chunk = 1 + guest_pick(&t.random, 40);
		t.h = host_create(&c, 2);
		t.h->ext.busy_percent = busy;
		t.h->ext.random = seed;
		assert_int_equal(
			tpt_gmem_create(t.h->vm, TD_PAGES * PAGE, &host_gmem, t.h, &t.h->gmem), 0);
		for (unsigned int i = 0; i < TD_STEPS; i++) {
			td_step(&t);
			if (i % 500 == 0)
				td_check(&t);
		}
		td_check(&t);
		/* Quiet again: whatever was stuck goes. */
		t.h->ext.busy_percent = 0;
		for (unsigned int i = 0; i < 4; i++)
			if (!t.slot[i])
				assert_int_equal(td_slot(&t, i, true), 0);
		assert_int_equal(tpt_vm_set_private(t.h->vm, 0, TD_PAGES, false, NULL), 0);
		for (unsigned int i = 0; i < 4; i++)
			assert_int_equal(td_slot(&t, i, false), 0);
		assert_int_equal(t.h->ext.leaves, 0);
		host_destroy(t.h);
	}
}

static void a_td_over_a_busy_owner_loses_nothing(void **state)
{
	(void)state;
	run_a_td(TPT_FORMAT_EPT);
	run_a_td(TPT_FORMAT_NPT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_ordinary_vm_translates_as_a_plain_map),
		cmocka_unit_test(a_td_over_a_busy_owner_loses_nothing),
	};

	return cmocka_run_group_tests_name("random", tests, NULL, NULL);
}
