/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A small machine for tests of the module model: one TDMR of 1 GiB, flat memory, a TD ready to run.
 * Safe for several threads. Asserts with cmocka; never looks into the module's own structures.
 */
#ifndef TESTS_TDX_LAB_H
#define TESTS_TDX_LAB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tdx/module/module.h"

#define LAB_TDMR   0x100000000ull
#define LAB_SIZE   0x40000000ull
#define LAB_LOW	   0x100000ull /* shared memory below 1 MiB */
#define LAB_PAGE   0x1000ull
#define LAB_PARAMS 0x1000ull
#define LAB_SOURCE 0x2000ull
#define LAB_HKID   40

/* Pages of the TD, as the recorded set-ups have them. */
#define LAB_TDR	    LAB_TDMR
#define LAB_TDCX    (LAB_TDMR + 0x1000)
#define LAB_TABLES  (LAB_TDMR + 0x10000) /* the first three Secure-EPT pages, for GPA 0 */
#define LAB_VCPU(i) (LAB_TDMR + 0x20000 + 0x10000ull * (i))
#define LAB_FREE    (LAB_TDMR + 0x100000) /* free from here on */

#define LAB_NR_LPS 8

struct lab {
	struct tdx_module *module;
	char *low, *high;
	_Atomic uint64_t tsc;
	_Atomic long intr_polls; /* -1: never */
	_Atomic unsigned int invepts;
	_Atomic uint64_t last_invept;
	unsigned int nr_fatal;
};

static inline void *lab_page(void *ctx, uint64_t hpa)
{
	struct lab *lab = ctx;

	if (hpa < LAB_LOW)
		return lab->low + hpa;
	return hpa - LAB_TDMR < LAB_SIZE ? lab->high + (hpa - LAB_TDMR) : NULL;
}

static inline uint64_t lab_rdtsc(void *ctx, unsigned int lp)
{
	struct lab *lab = ctx;

	(void)lp;
	return atomic_fetch_add(&lab->tsc, 1000);
}

static inline bool lab_interrupted(void *ctx, unsigned int lp)
{
	struct lab *lab = ctx;

	(void)lp;
	if (atomic_load(&lab->intr_polls) < 0)
		return false;
	if (atomic_load(&lab->intr_polls) == 0)
		return true;
	atomic_fetch_sub(&lab->intr_polls, 1);
	return false;
}

static inline void lab_fatal(void *ctx, const char *what)
{
	struct lab *lab = ctx;

	lab->nr_fatal++;
	print_error("module fatal: %s\n", what);
}

static inline void lab_invalidate(void *ctx, unsigned int lp, uint64_t tdr)
{
	struct lab *lab = ctx;

	(void)lp;
	atomic_fetch_add(&lab->invepts, 1);
	atomic_store(&lab->last_invept, tdr);
}

static const struct tdx_port_processor lab_processor = {.invalidate = lab_invalidate};

static inline char *lab_map(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_ptr_not_equal(memory, MAP_FAILED);
	return memory;
}

static inline struct tdx_module_config lab_config(struct lab *lab)
{
	return (struct tdx_module_config){
		.nr_lps = LAB_NR_LPS,
		.nr_packages = 1,
		.hkid_start_bit = 46,
		.nr_hkid_bits = 6,
		.private_hkid_min = 32,
		.private_hkid_max = 63,
		.global_hkid = 32,
		.pml5 = true,
		.nr_tdmrs = 1,
		.tdmr = {{.base = LAB_TDMR, .size = LAB_SIZE}},
		.ctx = lab,
		.page = lab_page,
		.rdtsc = lab_rdtsc,
		.interrupt_pending = lab_interrupted,
		.fatal = lab_fatal,
		.processor = &lab_processor,
		.processor_ctx = lab,
	};
}

static inline struct lab *lab_create_with(struct tdx_module_config *config, struct lab *lab)
{
	char why[128] = "";

	lab->low = lab_map(LAB_LOW);
	lab->high = lab_map(LAB_SIZE);
	atomic_store(&lab->intr_polls, -1);
	lab->module = tdx_module_create(config, why, sizeof(why));
	assert_string_equal(why, "");
	assert_non_null(lab->module);
	return lab;
}

static inline struct lab *lab_create(void)
{
	struct lab *lab = calloc(1, sizeof(*lab));
	struct tdx_module_config config = lab_config(lab);

	return lab_create_with(&config, lab);
}

static inline void lab_destroy(struct lab *lab)
{
	assert_int_equal(lab->nr_fatal, 0);
	tdx_module_destroy(lab->module);
	munmap(lab->low, LAB_LOW);
	munmap(lab->high, LAB_SIZE);
	free(lab);
}

/* One call with the registers most leaves use; the answer in *regs. */
static inline uint64_t lab_seamcall(struct lab *lab, unsigned int lp, unsigned int leaf,
				    struct tdx_regs *regs)
{
	regs->rax = leaf;
	return tdx_module_seamcall(lab->module, lp, regs) == TDX_GUEST ? TDX_SUCCESS : regs->rax;
}

static inline uint64_t lab_call(struct lab *lab, unsigned int lp, unsigned int leaf, uint64_t rcx,
				uint64_t rdx, uint64_t r8)
{
	struct tdx_regs regs = {.rcx = rcx, .rdx = rdx, .r8 = r8, .r9 = TDX_NULL_PA};

	return lab_seamcall(lab, lp, leaf, &regs);
}

#define lab_ok(lab, leaf, rcx, rdx, r8) \
	assert_int_equal(lab_call(lab, 0, leaf, rcx, rdx, r8), TDX_SUCCESS)

static inline void lab_init_tdmr(struct lab *lab)
{
	for (unsigned int i = 0; i < LAB_SIZE / LAB_PAGE / 1024; i++)
		lab_ok(lab, TDH_SYS_TDMR_INIT, LAB_TDMR, 0, 0);
}

/* The TD of the set-up "td": INITIALIZED, four levels, 48 bits. */
static inline void lab_init_td(struct lab *lab, uint64_t attributes)
{
	struct tdx_td_params params = {
		.attributes = attributes,
		.xfam = 3,
		.max_vcpus = 4,
		.eptp_controls = tdx_eptp_controls(4),
		.tsc_frequency = 100,
	};

	memcpy(lab->low + LAB_PARAMS, &params, sizeof(params));
	lab_ok(lab, TDH_MNG_CREATE, LAB_TDR, LAB_HKID, 0);
	lab_ok(lab, TDH_MNG_KEY_CONFIG, LAB_TDR, 0, 0);
	for (unsigned int i = 0; i < 6; i++)
		lab_ok(lab, TDH_MNG_ADDCX, LAB_TDCX + i * LAB_PAGE, LAB_TDR, 0);
	lab_ok(lab, TDH_MNG_INIT, LAB_TDR, LAB_PARAMS, 0);
}

static inline void lab_add_tables(struct lab *lab)
{
	for (unsigned int level = 3; level >= 1; level--)
		lab_ok(lab, TDH_MEM_SEPT_ADD, level, LAB_TDR, LAB_TABLES + (3 - level) * LAB_PAGE);
}

static inline void lab_add_vcpu(struct lab *lab, unsigned int index)
{
	lab_ok(lab, TDH_VP_CREATE, LAB_VCPU(index), LAB_TDR, 0);
	for (unsigned int i = 1; i < 6; i++)
		lab_ok(lab, TDH_VP_ADDCX, LAB_VCPU(index) + i * LAB_PAGE, LAB_VCPU(index), 0);
	lab_ok(lab, TDH_VP_INIT, LAB_VCPU(index), 0x5eed, 0);
	lab_ok(lab, TDH_VP_FLUSH, LAB_VCPU(index), 0, 0);
}

/* The TD of the set-up "run": tables for GPA 0, two vCPUs, RUNNABLE. */
static inline struct lab *lab_create_running(void)
{
	struct lab *lab = lab_create();

	lab_init_tdmr(lab);
	lab_init_td(lab, 0);
	lab_add_tables(lab);
	lab_add_vcpu(lab, 0);
	lab_add_vcpu(lab, 1);
	lab_ok(lab, TDH_MR_FINALIZE, LAB_TDR, 0, 0);
	return lab;
}

static inline enum tdx_side lab_tdcall(struct lab *lab, unsigned int lp, unsigned int leaf,
				       uint64_t rcx, struct tdx_guest *guest, struct tdx_regs *host)
{
	*guest = (struct tdx_guest){.regs = {.rax = leaf, .rcx = rcx}, .rip = 0x1000};
	return tdx_module_tdcall(lab->module, lp, guest, host);
}

/* An external interrupt takes the guest on @lp out. */
static inline void lab_kick(struct lab *lab, unsigned int lp)
{
	const struct tdx_vmexit exit = {.reason = TDX_EXIT_INTERRUPT, .interrupt_info = 0x800000f0};
	struct tdx_guest guest = {.rip = 0x1000};
	struct tdx_regs host;

	if (tdx_module_running_vcpu(lab->module, lp))
		assert_int_equal(tdx_module_vmexit(lab->module, lp, &exit, &guest, &host),
				 TDX_HOST);
}

#endif
