// SPDX-License-Identifier: BSD-2-Clause
/*
 * B8, as far as it concerns direct paging and mirrors: the NX policy was read before it was set,
 * and pages were wanted zeroed that a split, or the owner of an external table, fills anyway.
 *
 * Expectations: nx.h's rule (no huge leaf lets code run) holds for the very first entry, whoever
 * makes it; every page that the platform gives out is full of 0xa5, and each of a split's 512
 * entries is its leaf's word with the address of its part.
 */
#include <triptych/nx.h>

#include "tests/support/host.h"

#define PAGE  4096ull
#define READ  TPT_PFERR_USER
#define FETCH (TPT_PFERR_USER | TPT_PFERR_FETCH)
#define WRITE (TPT_PFERR_USER | TPT_PFERR_WRITE)

/* ---- the policy is known before anything is mapped ---- */

enum first { FAULT, PREFAULT, PREMAP, SMM_FAULT, FIRSTS };

static const struct {
	uint32_t flags;
	enum tpt_nx_mode mode; /* AUTO: not set at all */
	bool disabled;
	bool on;
} policies[] = {
	{0, TPT_NX_AUTO, false, false},
	{TPT_VM_ITLB_MULTIHIT, TPT_NX_AUTO, false, true},
	{0, TPT_NX_FORCE, false, true},
	{TPT_VM_ITLB_MULTIHIT, TPT_NX_OFF, false, false},
	{TPT_VM_ITLB_MULTIHIT, TPT_NX_NEVER, false, false},
	{TPT_VM_ITLB_MULTIHIT, TPT_NX_AUTO, true, false},
	{TPT_VM_ITLB_MULTIHIT, TPT_NX_FORCE, true, false},
};

static bool may_execute(enum tpt_format format, tpt_spte spte)
{
	/* EPT: X is bit 2; long mode: NX is bit 63. */
	return format == TPT_FORMAT_EPT ? spte.w & 4 : !(spte.w >> 63);
}

static struct host *vm_with(enum tpt_format format, unsigned int policy)
{
	struct tpt_vm_config c;
	struct tpt_roots roots;
	struct host *h;

	host_config_npt(&c);
	c.format = format;
	c.flags = policies[policy].flags;
	c.address_spaces = 2;
	h = host_create(&c, 0);
	/* All that a VMM does between making the VM and its first vCPU. */
	if (policies[policy].mode != TPT_NX_AUTO)
		assert_int_equal(tpt_vm_set_nx_huge_pages(h->vm, policies[policy].mode), 0);
	if (policies[policy].disabled)
		assert_int_equal(tpt_vm_disable_nx_huge_pages(h->vm), 0);
	h->level = TPT_LEVEL_2M;
	for (uint32_t as_id = 0; as_id < 2; as_id++)
		assert_int_equal(host_slot(h, as_id, 0, 0, GIB, GIB, 0), 0);
	assert_int_equal(tpt_vcpu_create(h->vm, 0, &h->vcpu[0]), 0);
	h->nr_vcpus = 1;
	assert_int_equal(tpt_vcpu_load_roots(h->vcpu[0], &roots), 0);
	return h;
}

/* The first mapping of the VM's life, at @gpa. */
static void map_first(struct host *h, enum first first, uint64_t gpa)
{
	uint64_t done;

	switch (first) {
	case PREFAULT:
		assert_int_equal(tpt_vcpu_prefault(h->vcpu[0], tpt_gpa_make(gpa), PAGE, &done), 0);
		break;
	case PREMAP:
		assert_int_equal(tpt_vcpu_premap(h->vcpu[0], gpa / PAGE, 512, TPT_ACC_READ, &done),
				 0);
		break;
	case SMM_FAULT:
		assert_int_equal(tpt_vcpu_set_smm(h->vcpu[0], true), 0);
		/* Fall through. */
	default:
		assert_int_equal(host_fault(h, gpa, READ), TPT_RET_PF_FIXED);
	}
}

static void B8_the_first_huge_leaf_obeys_the_nx_policy(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < sizeof(policies) / sizeof(policies[0]) * FIRSTS * 2; i++) {
		enum tpt_format format = i % 2 ? TPT_FORMAT_EPT : TPT_FORMAT_NPT;
		enum first first = (enum first)(i / 2 % FIRSTS);
		unsigned int policy = i / 2 / FIRSTS;
		struct host *h = vm_with(format, policy);
		struct tpt_mapping m;

		map_first(h, first, 4 * MIB);
		m = host_mapping(h, TPT_TREE_DIRECT, first == SMM_FAULT, 4 * MIB);
		assert_int_equal(m.level, TPT_LEVEL_2M);
		assert_int_equal(may_execute(format, m.spte), !policies[policy].on);
		host_destroy(h);
	}
}

static void B8_the_first_fault_being_code_is_mapped_small_and_counted(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < sizeof(policies) / sizeof(policies[0]) * 2; i++) {
		enum tpt_format format = i % 2 ? TPT_FORMAT_EPT : TPT_FORMAT_NPT;
		unsigned int policy = i / 2;
		struct host *h = vm_with(format, policy);
		struct tpt_mapping m;

		assert_int_equal(host_fault(h, 4 * MIB, FETCH), TPT_RET_PF_FIXED);
		m = host_mapping(h, TPT_TREE_DIRECT, 0, 4 * MIB);
		assert_int_equal(m.level, policies[policy].on ? TPT_LEVEL_4K : TPT_LEVEL_2M);
		assert_true(may_execute(format, m.spte));
		assert_int_equal(host_stats(h).nx_lpage_splits, policies[policy].on);
		host_destroy(h);
	}
}

/* ---- pages full of something ---- */

/* The leaves of one level in a range, in order. */
struct children {
	tpt_gfn start, end;
	enum tpt_level level;
	unsigned int nr;
	tpt_spte leaf[512];
};

static bool collect(void *ctx, const struct tpt_mapping *m)
{
	struct children *c = ctx;

	if (m->tree != TPT_TREE_DIRECT || !m->leaf || m->gfn < c->start || m->gfn >= c->end)
		return true;
	if (m->level == c->level) {
		must(c->nr < 512);
		c->leaf[c->nr++] = m->spte;
	}
	return true;
}

/* The pages that the library gets are full of something. */
static void assert_poisoned(struct host *h)
{
	const struct tpt_platform *p = h->config.platform;
	tpt_hpa hpa;

	assert_int_equal(p->page_alloc(h->posix, &hpa), 0);
	for (unsigned int i = 0; i < PAGE; i++)
		assert_int_equal(((uint8_t *)p->page_ptr(h->posix, hpa))[i], 0xa5);
	p->page_free(h->posix, hpa);
}

/*
 * Children of a leaf at @level that lay over gfn 0: the word with the part's address, at 4K without
 * the size bit (7); where code may not run from huge leaves it may from these.
 */
static void assert_children(struct host *h, enum tpt_format format, tpt_spte leaf,
			    enum tpt_level level, bool nx)
{
	static struct children c;

	c = (struct children){.end = tpt_level_pages(level), .level = level - 1};
	tpt_vm_for_each_mapping(h->vm, collect, &c);
	assert_int_equal(c.nr, level == TPT_LEVEL_2M ? 512 : 511);
	/* The first one was split further, or the access changed it. */
	for (unsigned int i = 1; i < 512; i++) {
		tpt_spte child = c.leaf[level == TPT_LEVEL_2M ? i : i - 1];
		uint64_t want = leaf.w + i * tpt_level_pages(level - 1) * PAGE;

		if (level == TPT_LEVEL_2M) {
			want &= ~(1ull << 7);
			if (nx && format == TPT_FORMAT_EPT)
				want |= 4;
			if (nx && format == TPT_FORMAT_NPT)
				want &= ~(1ull << 63);
		}
		assert_int_equal(child.w, want);
	}
}

static void B8_a_split_fills_every_entry_of_a_page_full_of_something(void **state)
{
	(void)state;
	/* By code, where none runs from huge leaves; by a write to what is logged; by both. */
	for (unsigned int i = 2; i < 8; i++) {
		enum tpt_format format = i & 1 ? TPT_FORMAT_EPT : TPT_FORMAT_NPT;
		struct tpt_memory_region ram = {
			.flags = TPT_MEM_LOG_DIRTY, .size = GIB, .hva = {GIB}};
		struct tpt_vm_config c;
		struct host *h;
		tpt_spte giga;

		host_config_npt(&c);
		c.format = format;
		c.flags = (i & 2 ? TPT_VM_ITLB_MULTIHIT : 0) | (i & 4 ? TPT_VM_DIRTY_MANUAL : 0);
		h = host_create(&c, 1);
		assert_poisoned(h);
		assert_int_equal(host_slot(h, 0, 0, 0, GIB, GIB, 0), 0);
		assert_int_equal(host_fault(h, 0, READ), TPT_RET_PF_FIXED);
		assert_int_equal(host_mapping(h, TPT_TREE_DIRECT, 0, 0).level, TPT_LEVEL_1G);
		if (i & 4)
			assert_int_equal(tpt_vm_set_memory_region(h->vm, &ram), 0);
		giga = host_mapping(h, TPT_TREE_DIRECT, 0, 0).spte;
		assert_true(host_fault(h, 0, (i & 4 ? WRITE : FETCH) | TPT_PFERR_PRESENT) > 0);
		assert_int_equal(host_stats(h).direct.tables, 4);
		assert_int_equal(host_stats(h).direct.pages_4k, 512);
		assert_int_equal(host_stats(h).direct.pages_2m, 511);
		assert_children(h, format, giga, TPT_LEVEL_1G, i & 2);
		assert_children(h, format, giga, TPT_LEVEL_2M, i & 2);
		host_audit(h);
		host_destroy(h);
	}
}

/* The record beside a page is as full: headers, marks and counts come from the library alone. */
static void B8_linked_tables_are_empty_where_nothing_was_mapped(void **state)
{
	static const enum tpt_format formats[] = {TPT_FORMAT_NPT, TPT_FORMAT_EPT};

	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		struct tpt_vm_config c;
		struct host *h;

		host_config_npt(&c);
		c.format = formats[i];
		c.address_spaces = 2;
		h = host_create(&c, 1);
		assert_poisoned(h);
		h->level = TPT_LEVEL_4K;
		for (uint32_t as_id = 0; as_id < 2; as_id++) {
			assert_int_equal(host_slot(h, as_id, 0, 0, GIB, GIB, 0), 0);
			assert_int_equal(tpt_vcpu_set_smm(h->vcpu[0], as_id), 0);
			assert_int_equal(host_fault(h, 77 * PAGE, READ), TPT_RET_PF_FIXED);
		}
		assert_int_equal(host_stats(h).direct.pages_4k, 2);
		assert_int_equal(host_stats(h).direct.tables, 2 * 4);
		host_destroy(h);
	}
}

/* F24: what the owner of an external table is given, the library neither clears nor reads. */
static void B8_pages_for_the_external_table_are_given_as_they_are(void **state)
{
	struct host *h = host_create_td(0, 64 * MIB, 1);
	unsigned int seen = 0;

	(void)state;
	for (uint64_t gpa = 0; gpa < 64 * MIB; gpa += 2 * MIB)
		assert_int_equal(host_fault(h, gpa, READ), TPT_RET_PF_FIXED);
	for (unsigned int level = 2; level <= 4; level++) {
		for (uint64_t i = 0; i <= EXT_GFNS >> (9 * (level - 1)); i++) {
			const struct ext_entry *e = &h->ext.entry[level][i];
			const uint8_t *bytes;

			if (e->kind != TPT_EXTERNAL_TABLE)
				continue;
			bytes = h->config.platform->page_ptr(h->posix, (tpt_hpa){e->value});
			for (unsigned int at = 0; at < PAGE; at++)
				assert_int_equal(bytes[at], 0xa5);
			seen++;
		}
	}
	assert_int_equal(seen, 2 + 32);
	host_destroy(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(B8_the_first_huge_leaf_obeys_the_nx_policy),
		cmocka_unit_test(B8_the_first_fault_being_code_is_mapped_small_and_counted),
		cmocka_unit_test(B8_a_split_fills_every_entry_of_a_page_full_of_something),
		cmocka_unit_test(B8_linked_tables_are_empty_where_nothing_was_mapped),
		cmocka_unit_test(B8_pages_for_the_external_table_are_given_as_they_are),
	};

	return cmocka_run_group_tests_name("B8", tests, NULL, NULL);
}
