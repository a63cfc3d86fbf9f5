// SPDX-License-Identifier: BSD-2-Clause
/*
 * The written-out forms of a fault, its walk and its map against the plain ones: two VMs live the
 * same life, one of them the plain way only. Whatever is answered, mapped, logged and counted is
 * the same.
 */
#include <stdlib.h>

#include "tests/support/host.h"

#include "mmu/vm/vm.h"

#define PAGE	   TPT_PAGE_SIZE
#define SLOT_PAGES 2048u
#define GFN_TOP	   (SLOT_PAGES + 64)
#define BASE	   (16 * GIB / TPT_PAGE_SIZE)

/* The same host twice; @plain goes no written-out way. */
struct pair {
	struct host *quick, *plain;
	uint64_t random;
	uint32_t flags; /* of the slot */
	unsigned int outcome[8];
};

static uint64_t pick(struct pair *p, uint64_t n)
{
	p->random = p->random * 6364136223846793005ull + 1442695040888963407ull;
	return (p->random >> 33) % n;
}

static void go_plainly(struct host *h)
{
	h->vm->env.unusual = true;
	h->vm->trees.page_linear = h->vm->trees.record_linear = 0;
}

/* A watched section is never entered quickly. */
static void go_unwatched(struct host *h)
{
	atomic_fetch_and(&h->vm->base.turn, ~TURN_WATCHED);
	for (struct actor *a = h->vm->base.actors; a; a = a->next)
		a->watched = false;
}

static struct pair pair_create(const struct tpt_vm_config *c, uint64_t seed)
{
	struct pair p = {.quick = host_create(c, 2), .plain = host_create(c, 2), .random = seed};

	go_unwatched(p.quick);
	go_plainly(p.plain);
	assert_int_equal(host_slot(p.quick, 0, 0, BASE * PAGE, SLOT_PAGES * PAGE, BASE * PAGE, 0),
			 0);
	assert_int_equal(host_slot(p.plain, 0, 0, BASE * PAGE, SLOT_PAGES * PAGE, BASE * PAGE, 0),
			 0);
	return p;
}

static void same_fault(struct pair *p, unsigned int v, uint64_t gfn, uint64_t code, bool prefetch)
{
	struct tpt_roots roots;
	struct tpt_fault a = {.gpa = {gfn * PAGE}, .error_code = code, .prefetch = prefetch};
	struct tpt_fault b = a;
	int ret;

	assert_int_equal(tpt_vcpu_load_roots(p->quick->vcpu[v], &roots), 0);
	assert_int_equal(tpt_vcpu_load_roots(p->plain->vcpu[v], &roots), 0);
	ret = tpt_vcpu_fault(p->quick->vcpu[v], &a);
	assert_int_equal(tpt_vcpu_fault(p->plain->vcpu[v], &b), ret);
	assert_int_equal(a.goal_level, b.goal_level);
	assert_int_equal(a.slot, b.slot);
	assert_int_equal(a.spte.w, b.spte.w);
	assert_int_equal(a.pfn.n, b.pfn.n);
	assert_int_equal(a.tables_linked, b.tables_linked);
	assert_int_equal(a.gfn, b.gfn);
	assert_int_equal(tpt_vcpu_exit(p->quick->vcpu[v])->reason,
			 tpt_vcpu_exit(p->plain->vcpu[v])->reason);
	p->outcome[ret > 0 ? ret : 0]++;
}

static void same_lookup(struct pair *p, unsigned int v, uint64_t gfn)
{
	struct tpt_lookup a, b;
	int ret = tpt_vcpu_lookup(p->quick->vcpu[v], tpt_gpa_make(gfn * PAGE), &a);

	assert_int_equal(tpt_vcpu_lookup(p->plain->vcpu[v], tpt_gpa_make(gfn * PAGE), &b), ret);
	assert_int_equal(a.level, b.level);
	/* Tables of two VMs have other addresses. */
	if (ret)
		assert_int_equal(a.spte.w, b.spte.w);
}

static uint64_t code_of(struct pair *p)
{
	static const uint64_t codes[] = {
		TPT_PFERR_USER,
		TPT_PFERR_USER | TPT_PFERR_WRITE,
		TPT_PFERR_USER | TPT_PFERR_WRITE | TPT_PFERR_PRESENT,
		TPT_PFERR_USER | TPT_PFERR_FETCH,
		TPT_PFERR_USER | TPT_PFERR_FETCH | TPT_PFERR_PRESENT,
		TPT_PFERR_USER | TPT_PFERR_PRESENT,
		TPT_PFERR_USER | TPT_PFERR_PRESENT | TPT_PFERR_RSVD,
	};

	return codes[pick(p, sizeof(codes) / sizeof(codes[0]))];
}

static void same_log(struct pair *p)
{
	static uint64_t a[SLOT_PAGES / 64], b[SLOT_PAGES / 64];
	int ret = tpt_vm_get_dirty_log(p->quick->vm, 0, 0, a);

	assert_int_equal(tpt_vm_get_dirty_log(p->plain->vm, 0, 0, b), ret);
	if (!ret)
		assert_memory_equal(a, b, sizeof(a));
}

static void flags(struct pair *p, uint32_t flags)
{
	p->flags = flags;
	assert_int_equal(
		host_slot(p->quick, 0, 0, BASE * PAGE, SLOT_PAGES * PAGE, BASE * PAGE, p->flags),
		0);
	assert_int_equal(
		host_slot(p->plain, 0, 0, BASE * PAGE, SLOT_PAGES * PAGE, BASE * PAGE, p->flags),
		0);
}

/* Something that unlinks tables, takes leaves or takes permissions. */
static void upset(struct host *h, unsigned int what, uint64_t page, uint64_t pages)
{
	tpt_hva start = tpt_hva_make((BASE + page) * PAGE);
	tpt_hva end = tpt_hva_make((BASE + page + pages) * PAGE);
	struct tpt_invalidation token;

	switch (what) {
	case 0:
		must(tpt_vm_invalidate_begin(h->vm, start, end, &token) >= 0);
		tpt_vm_invalidate_end(h->vm, &token);
		break;
	case 1:
		must(tpt_vm_age(h->vm, start, end, NULL) >= 0);
		break;
	case 2:
		must(!tpt_vm_zap_all_fast(h->vm));
		break;
	default:
		must(!tpt_vm_apicv_changed(h->vm, BASE + page));
	}
}

static void live(struct pair *p, unsigned int steps)
{
	for (unsigned int i = 0; i < steps; i++) {
		uint64_t gfn = BASE + pick(p, GFN_TOP), page = pick(p, SLOT_PAGES);
		uint64_t pages = 1 + pick(p, SLOT_PAGES - page);
		unsigned int v = (unsigned int)pick(p, 2), what = (unsigned int)pick(p, 200);

		p->quick->level = p->plain->level = pick(p, 4) ? TPT_LEVEL_4K : TPT_LEVEL_2M;
		if (what < 4) {
			upset(p->quick, what, page, pages);
			upset(p->plain, what, page, pages);
		} else if (what == 4) {
			flags(p, p->flags ^ TPT_MEM_LOG_DIRTY);
		} else if (what < 10) {
			same_log(p);
		} else if (what < 40) {
			same_lookup(p, v, gfn);
		} else {
			same_fault(p, v, gfn, code_of(p), what == 40);
		}
	}
}

struct mappings {
	struct tpt_mapping m[2 * SLOT_PAGES];
	unsigned int nr;
};

static bool note_leaf(void *ctx, const struct tpt_mapping *m)
{
	struct mappings *all = ctx;

	if (m->leaf) {
		must(all->nr < 2 * SLOT_PAGES);
		all->m[all->nr++] = *m;
	}
	return true;
}

static void same_end(struct pair *p)
{
	static struct mappings a, b;
	struct tpt_vm_stats x = host_stats(p->quick), y = host_stats(p->plain);

	a.nr = b.nr = 0;
	tpt_vm_for_each_mapping(p->quick->vm, note_leaf, &a);
	tpt_vm_for_each_mapping(p->plain->vm, note_leaf, &b);
	assert_int_equal(a.nr, b.nr);
	for (unsigned int i = 0; i < a.nr; i++) {
		assert_int_equal(a.m[i].gfn, b.m[i].gfn);
		assert_int_equal(a.m[i].spte.w, b.m[i].spte.w);
	}
	assert_memory_equal(&x.vcpus, &y.vcpus, sizeof(x.vcpus));
	assert_memory_equal(&x.direct, &y.direct, sizeof(x.direct));
	assert_memory_equal(x.flush, y.flush, sizeof(x.flush));
	host_audit(p->quick);
	host_destroy(p->quick);
	host_destroy(p->plain);
}

static void live_and_end(const struct tpt_vm_config *c, uint64_t seed)
{
	struct pair p = pair_create(c, seed);

	live(&p, 40000);
	/* Each of them happened often enough to mean something. */
	for (int ret = TPT_RET_PF_EMULATE; ret <= TPT_RET_PF_SPURIOUS; ret++)
		if (ret != TPT_RET_PF_WRITE_PROTECTED && ret != TPT_RET_PF_INVALID)
			assert_true(p.outcome[ret] > 100);
	assert_true(host_stats(p.quick).vcpus.pf_fast > 500);
	same_end(&p);
}

static void an_npt_vm_lives_the_same_either_way(void **state)
{
	struct tpt_vm_config c;

	(void)state;
	host_config_npt(&c);
	live_and_end(&c, 1);
}

static void an_ept_vm_lives_the_same_either_way(void **state)
{
	struct tpt_vm_config c;

	(void)state;
	host_config_ept(&c);
	live_and_end(&c, 2);
}

static void a_vm_of_five_levels_lives_the_same_either_way(void **state)
{
	struct tpt_vm_config c;

	(void)state;
	host_config_ept(&c);
	c.levels = 5;
	live_and_end(&c, 3);
}

static void a_hint_does_not_outlive_its_table(void **state)
{
	struct tpt_vm_config c;
	struct tpt_lookup l;
	struct tpt_roots roots;
	struct pair p;

	(void)state;
	host_config_npt(&c);
	p = pair_create(&c, 4);
	p.quick->level = p.plain->level = TPT_LEVEL_4K;
	for (unsigned int i = 0; i < 100; i++) {
		same_fault(&p, 0, BASE + i, TPT_PFERR_USER | TPT_PFERR_WRITE, false);
		assert_int_equal(
			tpt_vcpu_lookup(p.quick->vcpu[0], tpt_gpa_make((BASE + i) * PAGE), &l), 1);
		upset(p.quick, 2, 0, 1);
		upset(p.plain, 2, 0, 1);
		assert_int_equal(tpt_vcpu_load_roots(p.quick->vcpu[0], &roots), 0);
		assert_int_equal(tpt_vcpu_load_roots(p.plain->vcpu[0], &roots), 0);
		assert_int_equal(
			tpt_vcpu_lookup(p.quick->vcpu[0], tpt_gpa_make((BASE + i) * PAGE), &l), 0);
	}
	same_end(&p);
}

static void a_lookup_says_what_is_there(void **state)
{
	struct host *h = host_create_td(0, MIB, 1);
	struct tpt_lookup l;

	(void)state;
	assert_int_equal(tpt_vcpu_lookup(h->vcpu[0], tpt_gpa_make(0), &l), 0);
	assert_int_equal(host_fault(h, 5 * PAGE, TPT_PFERR_USER), TPT_RET_PF_FIXED);
	/* Private and shared are two addresses. */
	assert_int_equal(tpt_vcpu_lookup(h->vcpu[0], tpt_gpa_make(5 * PAGE + 7), &l), 1);
	assert_int_equal(l.level, TPT_LEVEL_4K);
	assert_int_equal(pte_pfn(l.spte).n, HOST_GMEM_PFN + 5);
	assert_int_equal(tpt_vcpu_lookup(h->vcpu[0], tpt_gpa_make(HOST_SHARED | 5 * PAGE), &l), 0);
	assert_int_equal(tpt_vcpu_lookup(h->vcpu[0], tpt_gpa_make(6 * PAGE), &l), 0);
	assert_int_equal(tpt_vcpu_lookup(h->vcpu[0], tpt_gpa_make(1ull << 48), &l), -EINVAL);
	host_destroy(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_npt_vm_lives_the_same_either_way),
		cmocka_unit_test(an_ept_vm_lives_the_same_either_way),
		cmocka_unit_test(a_vm_of_five_levels_lives_the_same_either_way),
		cmocka_unit_test(a_hint_does_not_outlive_its_table),
		cmocka_unit_test(a_lookup_says_what_is_there),
	};

	return cmocka_run_group_tests_name("written-out forms", tests, NULL, NULL);
}
