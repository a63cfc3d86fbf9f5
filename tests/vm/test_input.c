// SPDX-License-Identifier: BSD-2-Clause
/* Bad input to every public function: an errno, a line that names the value, and nothing changed.
 */
#include "tests/support/host.h"

#define PAGE 4096ull

static struct host *td(void)
{
	return host_create_td(0, 64 * MIB, 1);
}

/* ---- creation ---- */

struct wrong {
	const char *says;
	void (*set)(struct tpt_vm_config *c);
};

#define WRONG(name, text, change)                         \
	static void wrong_##name(struct tpt_vm_config *c) \
	{                                                 \
		change;                                   \
	}
#define FIELDS(X)                                                   \
	X(format, "format", c->format = (enum tpt_format)2)         \
	X(flags, "flags", c->flags = 1u << 31)                      \
	X(levels_3, "levels", c->levels = 3)                        \
	X(levels_6, "levels", c->levels = 6)                        \
	X(pa_31, "maxphyaddr", c->maxphyaddr = 31)                  \
	X(pa_53, "maxphyaddr", c->maxphyaddr = 53)                  \
	X(gpa_31, "guest_maxphyaddr", c->guest_maxphyaddr = 31)     \
	X(gpa_53, "guest_maxphyaddr", c->guest_maxphyaddr = 53)     \
	X(gpa_49, "levels do not reach", c->guest_maxphyaddr = 49)  \
	X(spaces_0, "address_spaces", c->address_spaces = 0)        \
	X(spaces_3, "address_spaces", c->address_spaces = 3)        \
	X(leaf_0, "max_leaf_level", c->max_leaf_level = 0)          \
	X(leaf_4, "max_leaf_level", c->max_leaf_level = 4)          \
	X(private_2, "max_private_level", c->max_private_level = 2) \
	X(no_backing, "backing", c->backing = NULL)                 \
	X(shared_alone, "shared_bit", c->shared_bit = 47)           \
	X(protected_smm, "one address space",                       \
	  (c->flags = TPT_VM_SW_PROTECTED, c->address_spaces = 2))
#define FIELDS_TD(X)                                                       \
	X(td_no_bit, "external", c->shared_bit = 0)                        \
	X(td_low_bit, "shared_bit", c->shared_bit = 31)                    \
	X(td_high_bit, "shared_bit", c->shared_bit = 48)                   \
	X(td_snoop, "self-snoop", c->flags = 0)                            \
	X(td_smm, "one address space", c->address_spaces = 2)              \
	X(td_zap_all, "SLOT_ZAP_ALL", c->flags |= TPT_VM_SLOT_ZAP_ALL)     \
	X(td_pat, "IGNORE_GUEST_PAT", c->flags |= TPT_VM_IGNORE_GUEST_PAT) \
	X(td_protected, "SW_PROTECTED", c->flags |= TPT_VM_SW_PROTECTED)
FIELDS(WRONG)
FIELDS_TD(WRONG)
#define ROW(name, text, change) {text, wrong_##name},
static const struct wrong fields[] = {FIELDS(ROW)};
static const struct wrong fields_td[] = {FIELDS_TD(ROW)};

static void refuse_all(const struct tpt_vm_config *c, const struct wrong *rows, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		struct host *h = host_prepare(c);
		struct tpt_vm *vm = NULL;

		rows[i].set(&h->config);
		assert_int_equal(tpt_vm_create(&h->config, &vm), -EINVAL);
		assert_null(vm);
		if (!strstr(h->line, rows[i].says))
			fail_msg("row %zu says: %s", i, h->line);
		assert_int_equal(host_end(h), 0);
	}
}

static void a_configuration_that_cannot_be_is_refused_by_name(void **state)
{
	struct tpt_vm_config c;

	(void)state;
	host_config_npt(&c);
	refuse_all(&c, fields, sizeof(fields) / sizeof(fields[0]));
	host_config_td(&c);
	refuse_all(&c, fields_td, sizeof(fields_td) / sizeof(fields_td[0]));
}

static void a_platform_must_be_whole(void **state)
{
	static const size_t optional[] = {offsetof(struct tpt_platform, page_linear),
					  offsetof(struct tpt_platform, record_linear),
					  offsetof(struct tpt_platform, watch),
					  offsetof(struct tpt_platform, log)};
	struct tpt_platform p;
	struct tpt_vm_config c;
	struct tpt_vm *vm;
	struct host *h;

	(void)state;
	host_config_npt(&c);
	h = host_prepare(&c);
	for (size_t at = 0; at < sizeof(p); at += 8) {
		bool skip = false;

		for (unsigned int i = 0; i < 4; i++)
			skip |= at == optional[i];
		if (skip)
			continue;
		p = *tpt_posix_platform(h->posix);
		memset((char *)&p + at, 0, 8);
		h->config.platform = &p;
		assert_int_equal(tpt_vm_create(&h->config, &vm), -EINVAL);
	}
	h->config.platform = NULL;
	assert_int_equal(tpt_vm_create(&h->config, &vm), -EINVAL);
	h->config.platform = tpt_posix_platform(h->posix);
	h->config.size--;
	assert_int_equal(tpt_vm_create(&h->config, &vm), -EINVAL);
	h->config.size++;
	assert_int_equal(tpt_vm_create(NULL, &vm), -EINVAL);
	assert_int_equal(tpt_vm_create(&h->config, NULL), -EINVAL);
	assert_int_equal(host_end(h), 0);
}

static void creation_fails_for_want_of_memory_and_leaks_nothing(void **state)
{
	unsigned int failed = 0;

	(void)state;
	for (unsigned int nth = 1; nth < 8; nth++) {
		struct tpt_vm_config c;
		struct tpt_vcpu *vcpu;
		struct host *h;
		int ret;

		host_config_td(&c);
		h = host_prepare(&c);
		tpt_posix_fail_mem_alloc(h->posix, nth);
		ret = tpt_vm_create(&h->config, &h->vm);
		if (ret) {
			assert_int_equal(ret, -ENOMEM);
			assert_null(h->vm);
			failed++;
		} else {
			ret = tpt_vcpu_create(h->vm, 0, &vcpu);
			assert_true(ret == 0 || ret == -ENOMEM);
			failed += ret != 0;
		}
		assert_int_equal(host_end(h), 0);
	}
	/* The VM, and the vCPU. */
	assert_int_equal(failed, 2);
}

/* ---- vCPUs ---- */

static void vcpus_have_ids_of_their_own_and_modes_that_exist(void **state)
{
	struct host *h = td();
	struct tpt_vcpu *vcpu = NULL;

	(void)state;
	assert_int_equal(tpt_vcpu_create(h->vm, 0, &vcpu), -EEXIST);
	assert_int_equal(tpt_vcpu_create(h->vm, 1u << 31, &vcpu), -EINVAL);
	assert_int_equal(tpt_vcpu_create(NULL, 1, &vcpu), -EINVAL);
	assert_int_equal(tpt_vcpu_create(h->vm, 1, NULL), -EINVAL);
	assert_null(vcpu);
	assert_int_equal(tpt_vcpu_set_smm(h->vcpu[0], true), -EINVAL);
	assert_int_equal(host_fault(h, 0, 0), TPT_RET_PF_FIXED);
	/* Gone, its id is free. */
	tpt_vcpu_destroy(h->vcpu[0]);
	assert_int_equal(tpt_vcpu_create(h->vm, 0, &h->vcpu[0]), 0);
	assert_int_equal(host_stats(h).vcpus.pf_fixed, 1);
	host_destroy(h);
}

/* ---- memory ---- */

static void a_memory_region_that_cannot_be_changes_nothing(void **state)
{
	struct host *h = td();
	const struct tpt_memory_region good = {
		.slot = 1, .gpa = {GIB}, .size = MIB, .hva = {8 * GIB}};
	struct {
		struct tpt_memory_region r;
		int err;
	} rows[] = {
		{good, -EINVAL}, {good, -EINVAL}, {good, -EINVAL}, {good, -EINVAL}, {good, -EINVAL},
		{good, -EINVAL}, {good, -EINVAL}, {good, -EINVAL}, {good, -EEXIST}, {good, -EINVAL},
		{good, -EINVAL}, {good, -EINVAL}, {good, -EEXIST}, {good, -EINVAL}, {good, -EINVAL},
	};
	struct tpt_vm_stats before, after;

	(void)state;
	assert_int_equal(host_fault(h, 0, 0), TPT_RET_PF_FIXED);
	before = host_stats(h);
	rows[0].r.as_id = 1;
	rows[1].r.slot = TPT_MEMSLOT_IDS;
	rows[2].r.flags = 1u << 9;
	rows[3].r.gpa.a++;
	rows[4].r.size++;
	rows[5].r.hva.a++;
	rows[6].r.gpa.a = HOST_SHARED - PAGE;
	rows[7].r.size = 0; /* nothing there to delete */
	rows[8].r.gpa.a = 64 * MIB - PAGE;
	rows[9].r.hva.a = UINT64_MAX & ~0xfffull;
	rows[10].r.flags = TPT_MEM_GUEST_MEMFD;
	rows[11].r.gmem = h->gmem;
	rows[12].r.flags = TPT_MEM_GUEST_MEMFD; /* bound already */
	rows[12].r.gmem = h->gmem;
	rows[13].r.flags = TPT_MEM_GUEST_MEMFD;
	rows[13].r.gmem = h->gmem;
	rows[13].r.gmem_offset = 64 * MIB;
	rows[14].r.gpa.a = UINT64_MAX & ~0xfffull;
	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		unsigned int lines = h->lines;
		int err = tpt_vm_set_memory_region(h->vm, &rows[i].r);

		if (err != rows[i].err)
			fail_msg("row %u: %d", i, err);
		assert_true(h->lines > lines);
	}
	after = host_stats(h);
	assert_int_equal(after.mirror.pages_4k, before.mirror.pages_4k);
	assert_int_equal(h->nr_flushes, 0);
	host_destroy(h);
}

static void ranges_must_be_whole_pages_that_exist(void **state)
{
	struct host *h = td();
	struct tpt_invalidation t;
	struct tpt_gmem *other = NULL;
	tpt_gfn done = 7, limit = HOST_SHARED / PAGE;

	(void)state;
	assert_int_equal(tpt_vm_set_private(h->vm, 5, 5, true, &done), -EINVAL);
	assert_int_equal(tpt_vm_set_private(h->vm, 6, 5, true, &done), -EINVAL);
	assert_int_equal(tpt_vm_set_private(h->vm, 0, limit + 1, true, &done), -EINVAL);
	assert_int_equal(tpt_vm_set_private(h->vm, UINT64_MAX, 1, true, NULL), -EINVAL);
	/* Attributes outside of slots: wholly, and by one page. */
	assert_int_equal(tpt_vm_set_private(h->vm, limit - 1, limit, true, &done), -EINVAL);
	assert_non_null(strstr(h->line, "lies in no memslot"));
	assert_int_equal(tpt_vm_set_private(h->vm, 8, 64 * MIB / PAGE + 1, false, &done), -EINVAL);
	assert_true(tpt_vm_is_private(h->vm, 8));
	assert_int_equal(tpt_vm_set_private(h->vm, 8, 64 * MIB / PAGE, false, &done), 0);
	assert_int_equal(done, 64 * MIB / PAGE);
	assert_false(tpt_vm_is_private(h->vm, UINT64_MAX));

	assert_int_equal(tpt_vm_invalidate_begin(h->vm, tpt_hva_make(PAGE), tpt_hva_make(PAGE), &t),
			 -EINVAL);
	assert_int_equal(
		tpt_vm_invalidate_begin(h->vm, tpt_hva_make(2 * PAGE), tpt_hva_make(PAGE), &t),
		-EINVAL);
	assert_int_equal(
		tpt_vm_invalidate_begin(h->vm, tpt_hva_make(PAGE + 1), tpt_hva_make(2 * PAGE), &t),
		-EINVAL);
	/* An end without a beginning is told and changes nothing. */
	t = (struct tpt_invalidation){.start = {PAGE}, .end = {2 * PAGE}};
	tpt_vm_invalidate_end(h->vm, &t);
	assert_non_null(strstr(h->line, "not in progress"));

	assert_int_equal(tpt_gmem_punch_hole(h->gmem, 1, PAGE), -EINVAL);
	assert_int_equal(tpt_gmem_punch_hole(h->gmem, 0, 0), -EINVAL);
	assert_int_equal(tpt_gmem_punch_hole(h->gmem, 0, 64 * MIB + PAGE), -EINVAL);
	assert_int_equal(tpt_gmem_punch_hole(h->gmem, UINT64_MAX & ~0xfffull, 2 * PAGE), -EINVAL);
	assert_int_equal(tpt_gmem_create(h->vm, 0, &host_gmem, h, &other), -EINVAL);
	assert_int_equal(tpt_gmem_create(h->vm, PAGE + 1, &host_gmem, h, &other), -EINVAL);
	assert_int_equal(tpt_gmem_create(h->vm, PAGE, NULL, h, &other), -EINVAL);
	assert_int_equal(tpt_gmem_destroy(h->gmem), -EBUSY);
	assert_int_equal(atomic_load(&h->gmem_freed), 0);
	host_destroy(h);
}

static void a_vm_without_private_memory_has_no_attributes(void **state)
{
	struct tpt_vm_config c;
	struct host *h;

	(void)state;
	host_config_npt(&c);
	h = host_create(&c, 1);
	assert_int_equal(tpt_vm_set_private(h->vm, 0, 1, true, NULL), -EINVAL);
	assert_false(tpt_vm_is_private(h->vm, 0));
	/* Any GFN may be named to APICv; what is not there is not zapped. */
	assert_int_equal(tpt_vm_apicv_changed(h->vm, UINT64_MAX), 0);
	host_destroy(h);
}

static void operations_that_want_memory_fail_and_can_be_called_again(void **state)
{
	(void)state;
	for (unsigned int nth = 1; nth < 4; nth++) {
		struct host *h = td();
		int ret;

		/* A hole in the one private range needs a second one. */
		tpt_posix_fail_mem_alloc(h->posix, nth);
		ret = tpt_vm_set_private(h->vm, 5, 6, false, NULL);
		assert_int_equal(ret, nth == 1 ? -ENOMEM : 0);
		if (ret) {
			assert_true(tpt_vm_is_private(h->vm, 5));
			assert_int_equal(tpt_vm_set_private(h->vm, 5, 6, false, NULL), 0);
		}
		assert_false(tpt_vm_is_private(h->vm, 5));
		assert_true(tpt_vm_is_private(h->vm, 6));
		tpt_posix_fail_mem_alloc(h->posix, 1);
		assert_int_equal(host_slot(h, 0, 1, GIB, MIB, 8 * GIB, 0), -ENOMEM);
		assert_int_equal(host_slot(h, 0, 1, GIB, MIB, 8 * GIB, 0), 0);
		host_destroy(h);
	}
}

/* ---- small things ---- */

static void error_codes_come_from_exits_as_the_manuals_have_them(void **state)
{
	(void)state;
	/* EPT violation: data write to a final address, entry had R and X. */
	assert_int_equal(tpt_pferr_from_ept(0x1aa),
			 TPT_PFERR_WRITE | TPT_PFERR_PRESENT | TPT_PFERR_GUEST_FINAL);
	assert_int_equal(tpt_pferr_from_ept(0x81), TPT_PFERR_USER | TPT_PFERR_GUEST_PAGE);
	assert_int_equal(tpt_pferr_from_ept(0x4), TPT_PFERR_FETCH);
	assert_int_equal(tpt_pferr_from_ept(0x101), TPT_PFERR_USER);
	assert_int_equal(tpt_pferr_from_npf(0x100000006),
			 TPT_PFERR_WRITE | TPT_PFERR_USER | TPT_PFERR_GUEST_FINAL);
	assert_int_equal(tpt_pferr_from_npf(~0ull) & ~(0x1full | 3ull << 32), 0);
}

static void names_of_calls_that_do_not_exist_are_harmless(void **state)
{
	(void)state;
	assert_string_equal(tpt_external_call_name(TPT_CALL_FREE_TABLE), "free_table");
	assert_string_equal(tpt_external_call_name((enum tpt_external_call)99), "?");
	assert_string_equal(tpt_external_call_name((enum tpt_external_call) - 1), "?");
}

static void the_audit_and_the_list_write_no_more_than_they_may(void **state)
{
	struct host *h = td();
	char text[8] = "1234567";

	(void)state;
	h->ext.script[TPT_CALL_MAP] = (struct ext_script){1, 1, 0, false}; /* a lie */
	assert_int_equal(host_fault(h, 0, 0), TPT_RET_PF_FIXED);
	assert_int_equal(tpt_vm_audit(h->vm, NULL, 0), 1);
	assert_int_equal(tpt_vm_audit(h->vm, text, 3), 1);
	assert_string_equal(text, "mi");
	assert_int_equal(text[3], '4');
	assert_int_equal(ext_map(&h->ext, 0, TPT_LEVEL_4K, tpt_pfn_make(HOST_GMEM_PFN)), 0);
	host_destroy(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_configuration_that_cannot_be_is_refused_by_name),
		cmocka_unit_test(a_platform_must_be_whole),
		cmocka_unit_test(creation_fails_for_want_of_memory_and_leaks_nothing),
		cmocka_unit_test(vcpus_have_ids_of_their_own_and_modes_that_exist),
		cmocka_unit_test(a_memory_region_that_cannot_be_changes_nothing),
		cmocka_unit_test(ranges_must_be_whole_pages_that_exist),
		cmocka_unit_test(a_vm_without_private_memory_has_no_attributes),
		cmocka_unit_test(operations_that_want_memory_fail_and_can_be_called_again),
		cmocka_unit_test(error_codes_come_from_exits_as_the_manuals_have_them),
		cmocka_unit_test(names_of_calls_that_do_not_exist_are_harmless),
		cmocka_unit_test(the_audit_and_the_list_write_no_more_than_they_may),
	};

	return cmocka_run_group_tests_name("bad input", tests, NULL, NULL);
}
