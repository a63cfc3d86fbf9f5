// SPDX-License-Identifier: BSD-2-Clause
/*
 * One entry of a mirror while the owner is asked to link or map it: every answer, and other vCPUs
 * that come by meanwhile.
 */
#include "tests/support/host.h"

#define READ TPT_PFERR_USER
#define PAGE 4096ull

static struct host *td(void)
{
	return host_create_td(0, 64 * MIB, 2);
}

/* Which words does the mirror hold for page 0, from any level? */
static void assert_nothing_mapped(struct host *h)
{
	assert_int_equal(host_stats(h).mirror.pages_4k, 0);
	assert_int_equal(h->ext.leaves, 0);
}

/* A3: an entry that is refused is the old one again, and waiters get on (B10: it is read afresh).
 */
static void A3_busy_is_a_retry_and_the_next_try_goes_on(void **state)
{
	struct host *h = td();

	(void)state;
	/* Each of the three links and the map once busy. */
	for (unsigned int i = 0; i < 3; i++) {
		ext_fail(&h->ext, TPT_CALL_LINK, 1, 1, -EBUSY);
		assert_int_equal(host_fault(h, 0, READ), TPT_RET_PF_RETRY);
		assert_nothing_mapped(h);
		assert_int_equal(h->ext.tables, i);
		host_audit(h);
		/* The second link of the try is busy: one table more than before. */
		ext_fail(&h->ext, TPT_CALL_LINK, 2, 1, -EBUSY);
		ext_fail(&h->ext, TPT_CALL_MAP, 1, 1, -EBUSY);
		assert_int_equal(host_fault(h, 0, READ), TPT_RET_PF_RETRY);
		assert_int_equal(h->ext.tables, i + 1);
		host_audit(h);
	}
	ext_fail(&h->ext, TPT_CALL_LINK, 1, 0, 0);
	ext_fail(&h->ext, TPT_CALL_MAP, 1, 1, -EBUSY);
	assert_int_equal(host_fault(h, 0, READ), TPT_RET_PF_RETRY);
	assert_nothing_mapped(h);
	assert_int_equal(host_fault(h, 0, READ), TPT_RET_PF_FIXED);
	assert_int_equal(h->ext.done[TPT_CALL_LINK], 3);
	assert_int_equal(h->ext.done[TPT_CALL_MAP], 1);
	/* The library holds nobody for a fault. */
	assert_int_equal(h->holds, 0);
	host_destroy(h);
}

/* A3: final state old or new, never present here and absent outside. */
static void A3_an_error_for_good_is_the_faults_and_changes_nothing(void **state)
{
	static const int errors[] = {-EINVAL, -EIO, -EPERM, -4095};

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		struct host *h = td();

		ext_fail(&h->ext, TPT_CALL_LINK, 2, 1, errors[i]);
		assert_int_equal(host_fault(h, 0, READ), errors[i]);
		assert_int_equal(h->ext.tables, 1);
		host_audit(h);
		ext_fail(&h->ext, TPT_CALL_MAP, 1, 1, errors[i]);
		assert_int_equal(host_fault(h, 0, READ), errors[i]);
		assert_nothing_mapped(h);
		host_audit(h);
		assert_int_equal(host_fault(h, 0, READ), TPT_RET_PF_FIXED);
		host_destroy(h);
	}
}

/* A VM that died: it says so everywhere, and still gives everything back. */
static void assert_dead_and_clean(struct host *h, const char *evidence)
{
	struct tpt_invalidation t;
	struct tpt_vcpu *vcpu;
	struct tpt_roots roots;
	struct tpt_fault f = {.gpa = {0}, .error_code = READ};

	assert_true(tpt_vm_is_dead(h->vm));
	if (!strstr(tpt_vm_report(h->vm), evidence))
		fail_msg("report: %s", tpt_vm_report(h->vm));
	assert_int_equal(tpt_vcpu_fault(h->vcpu[0], &f), -EIO);
	assert_int_equal(tpt_vcpu_exit(h->vcpu[0])->reason, TPT_EXIT_INTERNAL);
	assert_int_equal(tpt_vcpu_load_roots(h->vcpu[0], &roots), -EIO);
	assert_int_equal(tpt_vcpu_create(h->vm, 9, &vcpu), -EIO);
	assert_int_equal(host_slot(h, 0, 5, GIB, MIB, GIB, 0), -EIO);
	assert_int_equal(tpt_vm_set_private(h->vm, 0, 1, false, NULL), -EIO);
	assert_int_equal(tpt_gmem_punch_hole(h->gmem, 0, PAGE), -EIO);
	assert_int_equal(tpt_vm_zap_all_fast(h->vm), -EIO);
	assert_int_equal(tpt_vm_apicv_changed(h->vm, 0), -EIO);
	assert_int_equal(tpt_vm_set_noncoherent_dma(h->vm, true), -EIO);
	assert_int_equal(tpt_vm_invalidate_begin(h->vm, tpt_hva_make(0), tpt_hva_make(PAGE), &t),
			 -EIO);
	assert_int_equal(host_end(h), 0);
}

static void a_lie_about_link_or_map_kills_the_vm(void **state)
{
	static const int lies[] = {1, 4096, -4096, INT32_MAX, INT32_MIN};

	(void)state;
	for (unsigned int i = 0; i < 5; i++) {
		struct host *h = td();
		struct ext_script *s = &h->ext.script[TPT_CALL_LINK];

		*s = (struct ext_script){1, 1, lies[i], false};
		assert_int_equal(host_fault(h, 0, READ), -EIO);
		assert_dead_and_clean(h, "external link");

		h = td();
		s = &h->ext.script[TPT_CALL_MAP];
		*s = (struct ext_script){1, 1, lies[i], false};
		assert_int_equal(host_fault(h, 0, READ), -EIO);
		assert_dead_and_clean(h, "external map of gfn 0x0 level 1");
	}
}

static void a_lie_that_is_no_number_is_found_by_the_audit(void **state)
{
	struct host *h = td();
	char text[128];

	(void)state;
	/* It says that it mapped, and did not. */
	h->ext.script[TPT_CALL_MAP] = (struct ext_script){1, 1, 0, false};
	assert_int_equal(host_fault(h, 0, READ), TPT_RET_PF_FIXED);
	assert_int_equal(tpt_vm_audit(h->vm, text, sizeof(text)), 1);
	assert_non_null(strstr(text, "mirror and external table differ"));
	/* Put it right, for a clean end. */
	assert_int_equal(ext_map(&h->ext, 0, TPT_LEVEL_4K, tpt_pfn_make(HOST_GMEM_PFN)), 0);
	host_destroy(h);
}

/* ---- in the middle of a call ---- */

struct middle {
	struct host *h;
	unsigned int seen;
	int ret;
};

/* Another vCPU's fault on the same page while the entry is FROZEN. */
static void fault_in_the_middle(void *ctx, enum tpt_external_call call, tpt_gfn gfn)
{
	struct middle *m = ctx;
	uint64_t calls = m->h->ext.calls[call];
	struct tpt_fault f = {.gpa = {gfn << TPT_PAGE_SHIFT}, .error_code = READ};

	if (m->seen++)
		return;
	m->ret = tpt_vcpu_fault(m->h->vcpu[1], &f);
	/* Not one call more, and nothing changed. */
	assert_int_equal(m->h->ext.calls[call], calls);
	assert_int_equal(f.tables_linked, 0);
}

/* A3: F6: FROZEN is RETRY, without a call. */
static void A3_a_fault_on_a_frozen_entry_retries_and_calls_nobody(void **state)
{
	static const int answers[] = {0, -EBUSY, -EIO};

	(void)state;
	for (unsigned int i = 0; i < 6; i++) {
		enum tpt_external_call call = i & 1 ? TPT_CALL_MAP : TPT_CALL_LINK;
		int answer = answers[i / 2];
		struct host *h = td();
		struct middle m = {.h = h};

		if (call == TPT_CALL_MAP) { /* tables first */
			assert_int_equal(host_fault(h, PAGE, READ), TPT_RET_PF_FIXED);
		}
		h->ext.script[call] = (struct ext_script){1, answer != 0, answer, false};
		h->ext.in_call = fault_in_the_middle;
		h->ext.in_call_ctx = &m;
		assert_int_equal(host_fault(h, 0, READ), answer == -EBUSY ? TPT_RET_PF_RETRY
							 : answer	  ? answer
									  : TPT_RET_PF_FIXED);
		assert_true(m.seen >= 1);
		assert_int_equal(m.ret, TPT_RET_PF_RETRY);
		/* Whoever waited gets on. */
		assert_int_equal(host_fault_on(h->vcpu[1], 0, READ, NULL),
				 answer ? TPT_RET_PF_FIXED : TPT_RET_PF_SPURIOUS);
		h->ext.in_call = NULL;
		host_destroy(h);
	}
}

/* Another vCPU's fault on a neighbour is not held up. */
static void neighbour_in_the_middle(void *ctx, enum tpt_external_call call, tpt_gfn gfn)
{
	struct middle *m = ctx;
	struct tpt_fault f = {.gpa = {(gfn + 1) << TPT_PAGE_SHIFT}, .error_code = READ};

	(void)call;
	if (!m->seen++)
		m->ret = tpt_vcpu_fault(m->h->vcpu[1], &f);
}

static void a_call_under_way_holds_up_nobody_else(void **state)
{
	struct host *h = td();
	struct middle m = {.h = h};

	(void)state;
	assert_int_equal(host_fault(h, 8 * PAGE, READ), TPT_RET_PF_FIXED);
	h->ext.in_call = neighbour_in_the_middle;
	h->ext.in_call_ctx = &m;
	assert_int_equal(host_fault(h, 0, READ), TPT_RET_PF_FIXED);
	assert_int_equal(m.ret, TPT_RET_PF_FIXED);
	assert_int_equal(h->ext.leaves, 3);
	host_destroy(h);
}

static void one_vms_table_of_functions_must_be_whole(void **state)
{
	struct tpt_external_ops ops;
	struct tpt_vm_config c;
	struct tpt_vm *vm;
	struct host *h;

	(void)state;
	host_config_td(&c);
	h = host_prepare(&c);
	h->config.external = &ops;
	/* Every function but read() is needed: each is 8 bytes behind the size. */
	for (size_t at = 0; at < offsetof(struct tpt_external_ops, read); at += 8) {
		ops = ext_ops;
		memset((char *)&ops + at, 0, 8);
		assert_int_equal(tpt_vm_create(&h->config, &vm), -EINVAL);
	}
	ops = ext_ops;
	ops.read = NULL;
	assert_int_equal(tpt_vm_create(&h->config, &vm), 0);
	h->vm = vm;
	host_destroy(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(A3_busy_is_a_retry_and_the_next_try_goes_on),
		cmocka_unit_test(A3_an_error_for_good_is_the_faults_and_changes_nothing),
		cmocka_unit_test(a_lie_about_link_or_map_kills_the_vm),
		cmocka_unit_test(a_lie_that_is_no_number_is_found_by_the_audit),
		cmocka_unit_test(A3_a_fault_on_a_frozen_entry_retries_and_calls_nobody),
		cmocka_unit_test(a_call_under_way_holds_up_nobody_else),
		cmocka_unit_test(one_vms_table_of_functions_must_be_whole),
	};

	return host_run_formats("mirror frozen", tests);
}
