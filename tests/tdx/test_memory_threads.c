// SPDX-License-Identifier: BSD-2-Clause
/* Protected memory from many threads: guests, a host that does everything right, one that attacks.
 */
#include <errno.h>
#include <pthread.h>

#include "tests/tdx/lab.h"

#define PAGES  16
#define ROUNDS 300

struct worker {
	struct lab *lab;
	unsigned int lp;
	uint64_t gpa, hpa;
	unsigned int wrong;
	atomic_bool *stop;
};

static struct lab *start(void)
{
	struct lab *lab = calloc(1, sizeof(*lab));
	struct tdx_module_config config = lab_config(lab);

	config.write_back = TDX_WRITE_BACK_LATE;
	lab_create_with(&config, lab);
	lab_init_tdmr(lab);
	lab_init_td(lab, 0);
	lab_add_tables(lab);
	lab_add_vcpu(lab, 0);
	lab_add_vcpu(lab, 1);
	lab_ok(lab, TDH_MR_FINALIZE, LAB_TDR, 0, 0);
	return lab;
}

/* As often as the module is busy with somebody else. */
static uint64_t insist(struct lab *lab, unsigned int lp, unsigned int leaf, uint64_t rcx,
		       uint64_t rdx, uint64_t r8)
{
	uint64_t status;

	do
		status = lab_call(lab, lp, leaf, rcx, rdx, r8) & TDX_STATUS_MASK;
	while (status == TDX_OPERAND_BUSY || status == TDX_PREVIOUS_TLB_EPOCH_BUSY ||
	       status == TDX_TLB_TRACKING_NOT_DONE);
	return status;
}

static bool accept(struct lab *lab, unsigned int lp, uint64_t gpa)
{
	struct tdx_guest guest;
	struct tdx_regs host;

	do
		if (lab_tdcall(lab, lp, TDG_MEM_PAGE_ACCEPT, gpa, &guest, &host) == TDX_HOST)
			return false;
	while ((guest.regs.rax & TDX_STATUS_MASK) == TDX_OPERAND_BUSY);
	return guest.regs.rax == TDX_SUCCESS;
}

/* A page comes, is used by the guest, and goes back to the host, clean. */
static bool one_page(struct worker *w, uint64_t at, uint64_t value)
{
	struct lab *lab = w->lab;
	uint64_t got = 1;
	unsigned int lp = w->lp;

	if (insist(lab, lp, TDH_MEM_PAGE_AUG, w->gpa + at, LAB_TDR, w->hpa + at) ||
	    insist(lab, lp, TDH_VP_ENTER, LAB_VCPU(lp), 0, 0) || !accept(lab, lp, w->gpa + at) ||
	    tdx_module_guest_access(lab->module, lp, w->hpa + at, true, &value, 8, true) ||
	    tdx_module_guest_access(lab->module, lp, w->hpa + at, true, &got, 8, false) ||
	    got != value)
		return false;
	lab_kick(lab, lp);
	if ((insist(lab, lp, TDH_MEM_RANGE_BLOCK, w->gpa + at, LAB_TDR, 0)) ||
	    insist(lab, lp, TDH_MEM_TRACK, LAB_TDR, 0, 0) ||
	    insist(lab, lp, TDH_MEM_PAGE_REMOVE, w->gpa + at, LAB_TDR, 0) ||
	    insist(lab, lp, TDH_PHYMEM_PAGE_WBINVD, (w->hpa + at) | (uint64_t)LAB_HKID << 46, 0, 0))
		return false;
	tdx_module_host_write_lines(lab->module, w->hpa + at, NULL, LAB_PAGE);
	tdx_module_host_write(lab->module, w->hpa + at, &value, 8);
	return !tdx_module_host_read(lab->module, w->hpa + at, &got, 8) && got == value &&
	       !tdx_module_host_flush(lab->module, w->hpa + at, LAB_PAGE);
}

static void *churn(void *arg)
{
	struct worker *w = arg;

	for (uint64_t i = 0; i < ROUNDS && !w->wrong; i++)
		w->wrong += !one_page(w, i % PAGES * LAB_PAGE, i + 1);
	return NULL;
}

/* Everything that a host may look at, all the time. */
static void *look(void *arg)
{
	struct worker *w = arg;
	uint8_t line[TDX_LINE_BYTES];
	struct tdx_line_view view;

	while (!atomic_load(w->stop))
		for (uint64_t at = 0; at < PAGES * LAB_PAGE; at += 512) {
			w->wrong +=
				tdx_module_host_read(w->lab->module, w->hpa + at, line, 64) != 0;
			tdx_module_bus_read(w->lab->module, w->hpa + at, line, 64);
			tdx_module_view_line(w->lab->module, w->hpa + at, &view);
		}
	return NULL;
}

static void a_right_host_is_right_at_any_speed(void **state)
{
	struct lab *lab = start();
	atomic_bool stop = false;
	struct worker w[3] = {
		{lab, 0, 0, LAB_FREE, 0, &stop},
		{lab, 1, PAGES * LAB_PAGE, LAB_FREE + PAGES * LAB_PAGE, 0, &stop},
		{lab, 2, 0, LAB_FREE, 0, &stop},
	};
	pthread_t thread[3];

	(void)state;
	pthread_create(&thread[2], NULL, look, &w[2]);
	for (unsigned int i = 0; i < 2; i++)
		pthread_create(&thread[i], NULL, churn, &w[i]);
	for (unsigned int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	atomic_store(&stop, true);
	pthread_join(thread[2], NULL);
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(w[i].wrong, 0);
	for (unsigned int kind = 0; kind < TDX_NR_MEMORY_EVENTS; kind++)
		assert_int_equal(tdx_module_memory_events(lab->module, kind), 0);
	lab_destroy(lab);
}

/* Stores to the guest's page until it notices. */
static void *attack(void *arg)
{
	struct worker *w = arg;
	uint64_t junk = 0x6666666666666666;

	while (!atomic_load(w->stop))
		tdx_module_host_write(w->lab->module, w->hpa + 64, &junk, 8);
	return NULL;
}

static void *notice(void *arg)
{
	struct worker *w = arg;
	uint64_t value = 5, got;

	do {
		tdx_module_guest_access(w->lab->module, w->lp, w->hpa, true, &value, 8, true);
		w->wrong += tdx_module_guest_access(w->lab->module, w->lp, w->hpa, true, &got, 8,
						    false) ||
			    got != value;
	} while (tdx_module_guest_access(w->lab->module, w->lp, w->hpa + 64, true, &got, 8,
					 false) != -EIO);
	atomic_store(w->stop, true);
	return NULL;
}

static void an_attack_is_noticed_by_the_next_read(void **state)
{
	struct lab *lab = start();
	atomic_bool stop = false;
	struct worker w[2] = {{lab, 2, 0, LAB_FREE, 0, &stop}, {lab, 0, 0, LAB_FREE, 0, &stop}};
	pthread_t thread[2];

	(void)state;
	assert_int_equal(insist(lab, 0, TDH_MEM_PAGE_AUG, 0, LAB_TDR, LAB_FREE), 0);
	assert_int_equal(insist(lab, 0, TDH_VP_ENTER, LAB_VCPU(0), 0, 0), 0);
	assert_true(accept(lab, 0, 0));
	pthread_create(&thread[0], NULL, attack, &w[0]);
	pthread_create(&thread[1], NULL, notice, &w[1]);
	for (unsigned int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(w[1].wrong, 0);
	assert_true(tdx_module_memory_events(lab->module, TDX_MEMORY_HOST_WRITE) > 0);
	lab_kick(lab, 0);
	lab_destroy(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_right_host_is_right_at_any_speed),
		cmocka_unit_test(an_attack_is_noticed_by_the_next_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
