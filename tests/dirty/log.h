/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest whose writes are logged: a VM on the model processor in each way there is of logging,
 * over memory that really is written, and one way to collect them all. Judges nothing.
 */
#ifndef TESTS_DIRTY_LOG_H
#define TESTS_DIRTY_LOG_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "cli/sim.h"

/* KVM's dirty_log_test has 2^18 + 3 pages; neither end here is a multiple of 64 pages. */
#define LOG_PAGES 4099u
#define LOG_WORDS ((LOG_PAGES + 63) / 64)
#define LOG_BASE  519u	       /* first GFN */
#define LOG_HVA	  (1ull << 40) /* of GFN 0 */
#define LOG_FRAME 0x200000ull  /* of GFN 0 */
#define LOG_VCPUS 4u

struct log_mode {
	const char *name;
	enum tpt_format format;
	uint32_t flags;
	uint32_t ring;
};

#define LOG_EAGER  TPT_VM_EAGER_PAGE_SPLIT
#define LOG_MANUAL TPT_VM_DIRTY_MANUAL
#define LOG_SET	   (TPT_VM_DIRTY_MANUAL | TPT_VM_DIRTY_INITIALLY_SET)

static const struct log_mode log_modes[] = {
	{"npt", TPT_FORMAT_NPT, 0, 0},
	{"npt, eager split", TPT_FORMAT_NPT, LOG_EAGER, 0},
	{"npt, manual", TPT_FORMAT_NPT, LOG_MANUAL, 0},
	{"npt, ring", TPT_FORMAT_NPT, TPT_VM_DIRTY_RING, 256},
	{"ept", TPT_FORMAT_EPT, LOG_EAGER, 0},
	{"ept, initially set", TPT_FORMAT_EPT, LOG_SET, 0},
	{"ept, initially set, eager split", TPT_FORMAT_EPT, LOG_SET | LOG_EAGER, 0},
	{"ept, pml", TPT_FORMAT_EPT, TPT_VM_PML, 0},
	{"ept, pml, manual, eager split", TPT_FORMAT_EPT, TPT_VM_PML | LOG_MANUAL | LOG_EAGER, 0},
	{"ept, pml, initially set", TPT_FORMAT_EPT, TPT_VM_PML | LOG_SET, 0},
	{"ept, pml, initially set, eager split", TPT_FORMAT_EPT, TPT_VM_PML | LOG_SET | LOG_EAGER,
	 0},
	{"ept, pml, ring", TPT_FORMAT_EPT, TPT_VM_PML | TPT_VM_DIRTY_RING, 1024},
	{"ept, ring, eager split", TPT_FORMAT_EPT, TPT_VM_DIRTY_RING | LOG_EAGER, 512},
	{"ept without A/D", TPT_FORMAT_EPT, TPT_VM_NO_AD, 0},
	{"ept without A/D, manual, eager split", TPT_FORMAT_EPT,
	 TPT_VM_NO_AD | LOG_MANUAL | LOG_EAGER, 0},
	{"ept without A/D, ring", TPT_FORMAT_EPT, TPT_VM_NO_AD | TPT_VM_DIRTY_RING, 256},
};
#define LOG_MODES (sizeof(log_modes) / sizeof(log_modes[0]))

struct log {
	const struct log_mode *mode;
	struct sim *sim;
	unsigned int nr_vcpus;
	uint64_t found[LOG_WORDS]; /* collected since log_forget() */
	uint64_t collected;	   /* entries or bits, altogether */
	unsigned int max_promises; /* runs of pages that the judge is told of at a time; 0: all */
};

/* ---- what the guest's memory is ---- */

static inline int log_lookup(void *ctx, const struct tpt_backing_query *q,
			     struct tpt_backing_page *page)
{
	(void)ctx;
	*page = (struct tpt_backing_page){
		.pfn = {LOG_FRAME + q->gfn}, .writable = true, .level = TPT_LEVEL_2M};
	return 0;
}

static inline enum tpt_level log_mapping_level(void *ctx, tpt_hva hva, tpt_pfn pfn)
{
	(void)ctx;
	(void)hva;
	(void)pfn;
	return TPT_LEVEL_2M;
}

static const struct tpt_backing_ops log_backing = {
	.size = sizeof(log_backing), .lookup = log_lookup, .mapping_level = log_mapping_level};

static inline uint64_t log_gpa(unsigned int page)
{
	return (LOG_BASE + (uint64_t)page) << 12;
}

/* The first word of a page, as the host sees it. */
static inline uint64_t *log_word(struct log *l, unsigned int page)
{
	return machine_mem_ptr(sim_machine(l->sim), (LOG_FRAME + LOG_BASE + page) << 12);
}

/* ---- making one ---- */

static inline void log_switch(struct log *l, bool on)
{
	const struct tpt_memory_region ram = {.slot = 3,
					      .flags = on ? TPT_MEM_LOG_DIRTY : 0,
					      .gpa = {log_gpa(0)},
					      .size = LOG_PAGES * 4096ull,
					      .hva = {LOG_HVA + log_gpa(0)}};

	assert_int_equal(sim_set_memory_region(l->sim, &ram), 0);
}

static inline void log_open(struct log *l, const struct log_mode *mode, unsigned int nr_vcpus)
{
	struct sim_config c = {.nr_vcpus = nr_vcpus};
	char why[256];

	*l = (struct log){.mode = mode, .nr_vcpus = nr_vcpus};
	tpt_vm_config_init(&c.vm, mode->format);
	c.vm.flags = mode->flags;
	c.vm.dirty_ring_size = mode->ring;
	c.vm.backing = &log_backing;
	c.vm.backing_ctx = l;
	assert_int_equal(sim_create(&l->sim, &c, why, sizeof(why)), 0);
	for (uint64_t gfn = 0; gfn < LOG_BASE + LOG_PAGES; gfn += 512)
		assert_int_equal(machine_mem_add(sim_machine(l->sim), (LOG_FRAME + gfn) << 12, 9),
				 0);
	log_switch(l, false);
}

/* Nothing broken inside, no flush forgotten, everything given back. */
static inline void log_close(struct log *l)
{
	struct machine_report report;
	char text[256] = "";

	assert_int_equal(tpt_vm_audit(sim_vm(l->sim), text, sizeof(text)), 0);
	if (machine_report_get(sim_machine(l->sim), 0, &report, 1)) {
		machine_report_text(&report, text, sizeof(text));
		print_message("%s: %s\n", l->mode->name, text);
	}
	assert_int_equal(machine_report_count(sim_machine(l->sim)), 0);
	assert_int_equal(sim_destroy(l->sim), 0);
}

/* The guest writes a page's first word: 0, or -ENOSPC: its ring wants to be collected. */
static inline int log_write(struct log *l, unsigned int vcpu, unsigned int page, uint64_t value)
{
	struct sim_step last;
	unsigned int faults;
	int err;

	do
		err = sim_write(l->sim, vcpu, log_gpa(page), &value, sizeof(value), 8, &last,
				&faults);
	while (err == -EAGAIN);
	return err;
}

/* ---- collecting ---- */

static inline bool log_has(const uint64_t *bitmap, unsigned int page)
{
	return bitmap[page / 64] >> (page % 64) & 1;
}

/* From now on a translation of those pages that was cached before @since is a forgotten flush. */
static inline void log_promise(struct log *l, const uint64_t *taken, uint64_t since)
{
	unsigned int end, runs = 0;

	for (unsigned int i = 0; i < LOG_PAGES && (!l->max_promises || runs < l->max_promises);
	     i = end + 1) {
		for (end = i; end < LOG_PAGES && log_has(taken, end);)
			end++;
		if (end == i)
			continue;
		runs++;
		machine_promise(sim_machine(l->sim), 1, log_gpa(i), log_gpa(end), since,
				"the page is watched again");
	}
}

static inline void log_take(struct log *l, const uint64_t *taken, uint64_t since)
{
	log_promise(l, taken, since);
	for (unsigned int i = 0; i < LOG_WORDS; i++) {
		l->found[i] |= taken[i];
		l->collected += (unsigned int)__builtin_popcountll(taken[i]);
	}
}

static inline int log_collect_bitmap(struct log *l)
{
	struct tpt_vm *vm = sim_vm(l->sim);
	uint64_t bits[LOG_WORDS], since = machine_now(sim_machine(l->sim));
	int err = tpt_vm_get_dirty_log(vm, 0, 3, bits);

	if (!err && l->mode->flags & TPT_VM_DIRTY_MANUAL)
		err = tpt_vm_clear_dirty_log(vm, 0, 3, 0, LOG_PAGES, bits);
	if (!err)
		log_take(l, bits, since);
	return err;
}

static inline int log_collect_rings(struct log *l)
{
	uint64_t taken[LOG_WORDS] = {0}, since = machine_now(sim_machine(l->sim));
	struct tpt_dirty_gfn e[100];
	int64_t n = 0;
	/* First, for the processors' logs go to the rings at that; and what these have no room for.
	 */
	int err = log_collect_bitmap(l);

	if (err)
		return err;
	for (unsigned int v = 0; v < l->nr_vcpus; v++) {
		uint32_t got;

		while ((got = tpt_vcpu_dirty_ring_collect(sim_vcpu(l->sim, v), e, 100)) > 0) {
			for (uint32_t i = 0; i < got; i++) {
				if (e[i].as_id || e[i].slot != 3 || e[i].offset >= LOG_PAGES)
					return -ERANGE;
				taken[e[i].offset / 64] |= 1ull << e[i].offset % 64;
			}
			n += got;
		}
	}
	if (tpt_vm_reset_dirty_rings(sim_vm(l->sim)) != n)
		return -ENODATA;
	log_take(l, taken, since);
	return 0;
}

/* Everything that was logged goes to l->found, and is watched again. 0, or what went wrong. */
static inline int log_collect(struct log *l)
{
	return l->mode->ring ? log_collect_rings(l) : log_collect_bitmap(l);
}

static inline void log_forget(struct log *l)
{
	memset(l->found, 0, sizeof(l->found));
}

static inline uint64_t log_pick(uint64_t *random, uint64_t n)
{
	*random = *random * 6364136223846793005ull + 1442695040888963407ull;
	return (*random >> 33) % n;
}

#endif
