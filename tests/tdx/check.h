/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The invariants that hold of the module's books after every call, checked from outside: the PAMT
 *by its views, the Secure EPT by the words in memory, decoded here once more and by the manual
 *alone.
 *
 *	I1 no lock stays taken but what running vCPUs hold   I2 one owner, one entry, same level
 *	I4 the TD's page count                               I5 epoch counts
 *	I6 nothing freed or resized is still in a TLB        I7 permissions follow from the state
 *	I8 a large page's parts are not in use
 */
#ifndef TESTS_TDX_CHECK_H
#define TESTS_TDX_CHECK_H

#include "tests/tdx/lab.h"

/* Where the lab's pages lie: everything else must stay untouched by the test. */
#define CHECK_WINDOW   (16ull << 21) /* the first 32 MiB of the TDMR */
#define CHECK_PAGES    (CHECK_WINDOW / LAB_PAGE)
#define CHECK_NO_LEVEL 0xff
#define CHECK_HP       2u

struct check {
	struct lab *lab;
	struct tdx_td_view td;
	uint8_t leaf_level[CHECK_PAGES]; /* of the Secure-EPT leaf that begins at this page */
	uint8_t nr_leaves[CHECK_PAGES], nr_tables[CHECK_PAGES];
	uint64_t owned;
	unsigned int running[LAB_NR_LPS], nr_running;
	const char *broken;
	uint64_t where;
};

static inline void check_break(struct check *c, const char *rule, uint64_t where)
{
	if (!c->broken) {
		c->broken = rule;
		c->where = where;
	}
}

#define CHECK_THAT(c, good, rule, where)             \
	do {                                         \
		if (!(good))                         \
			check_break(c, rule, where); \
	} while (0)

static inline void check_leaf(struct check *c, uint64_t raw, unsigned int level)
{
	uint64_t hpa = raw & 0x000ffffffffff000ull & ~(level == 1 ? 0x1ff000ull : 0);
	bool pending = raw >> 56 & 1, blocked = raw >> 55 & 1;
	struct tdx_pamt_view pamt;

	CHECK_THAT(c, (raw & 7) == (pending || blocked ? 0 : 7), "I7 leaf permissions", raw);
	CHECK_THAT(c, (raw >> 3 & 0xf) == 0xe, "I7 leaf memory type", raw);
	if (hpa - LAB_TDMR >= CHECK_WINDOW || hpa & ((LAB_PAGE << 9 * level) - 1)) {
		check_break(c, "I2 leaf outside the test's memory", raw);
		return;
	}
	c->nr_leaves[(hpa - LAB_TDMR) / LAB_PAGE]++;
	c->leaf_level[(hpa - LAB_TDMR) / LAB_PAGE] = (uint8_t)level;
	tdx_module_view_pamt(c->lab->module, hpa, level, &pamt);
	CHECK_THAT(c, pamt.pt == TDX_PT_REG && pamt.owner == LAB_TDR, "I2 leaf without owner", raw);
}

static inline void check_table(struct check *c, uint64_t table, unsigned int level)
{
	const uint64_t *words = lab_page(c->lab, table);

	for (unsigned int i = 0; i < 512; i++) {
		uint64_t raw = __atomic_load_n(&words[i], __ATOMIC_SEQ_CST);
		uint64_t hpa = raw & 0x000ffffffffff000ull;

		CHECK_THAT(c, raw >> 63, "I7 SVE", raw);
		CHECK_THAT(c, !(raw >> 11 & 1), "I1 entry lock", raw);
		if ((raw & ~(1ull << 52)) == 0x80e0000000000000ull)
			continue;
		if (raw >> 7 & 1) {
			check_leaf(c, raw, level);
			continue;
		}
		CHECK_THAT(c, (raw & 7) == (raw >> 55 & 1 ? 0 : 7), "I7 table permissions", raw);
		if (level == 0 || hpa - LAB_TDMR >= CHECK_WINDOW) {
			check_break(c, "I2 table outside the test's memory", raw);
			continue;
		}
		c->nr_tables[(hpa - LAB_TDMR) / LAB_PAGE]++;
		check_table(c, hpa, level - 1);
	}
}

/* Readers that running vCPUs account for on the entry of @hpa at @level. */
static inline unsigned int check_readers(const struct check *c, uint64_t hpa, unsigned int level)
{
	uint64_t size = LAB_PAGE << 9 * level;
	unsigned int readers = level == 0 && hpa == LAB_TDR ? c->nr_running : 0;

	for (unsigned int i = 0; i < c->nr_running; i++)
		readers += LAB_VCPU(c->running[i]) / size == hpa / size;
	return readers;
}

static inline void check_entry(struct check *c, uint64_t hpa, unsigned int level)
{
	size_t page = (hpa - LAB_TDMR) / LAB_PAGE;
	struct tdx_pamt_view pamt, above;

	tdx_module_view_pamt(c->lab->module, hpa, level, &pamt);
	CHECK_THAT(c, (pamt.lock & ~CHECK_HP) == 4 * check_readers(c, hpa, level), "I1 PAMT lock",
		   hpa | level);
	if (pamt.pt > TDX_PT_RSVD && pamt.pt != TDX_PT_TDR)
		c->owned += 1ull << 9 * level;
	if (pamt.pt == TDX_PT_REG)
		CHECK_THAT(c, c->nr_leaves[page] == 1 && c->leaf_level[page] == level,
			   "I2 guest page without exactly one leaf", hpa | level);
	if (pamt.pt == TDX_PT_EPT)
		CHECK_THAT(c, c->nr_tables[page] == 1, "I2 table without exactly one parent", hpa);
	if (pamt.pt == TDX_PT_NDA && level == 0)
		CHECK_THAT(c, !c->nr_tables[page] && (!c->nr_leaves[page] || c->leaf_level[page]),
			   "I3 free page in use", hpa);
	if (level < 2 && !tdx_module_view_pamt(c->lab->module, hpa, level + 1, &above) &&
	    above.pt == TDX_PT_REG)
		CHECK_THAT(c, pamt.pt == TDX_PT_NDA, "I8 part of a large page in use", hpa);
}

static inline void check_epochs(struct check *c)
{
	unsigned int count[2] = {0};

	for (unsigned int i = 0; i < c->nr_running; i++) {
		struct tdx_vcpu_view vcpu;

		tdx_module_view_vcpu(c->lab->module, LAB_VCPU(c->running[i]), &vcpu);
		count[vcpu.epoch & 1]++;
		CHECK_THAT(c, vcpu.epoch == c->td.td_epoch || vcpu.epoch == c->td.td_epoch - 1,
			   "I5 vCPU in a third epoch", vcpu.epoch);
	}
	CHECK_THAT(c, count[0] == c->td.refcount[0] && count[1] == c->td.refcount[1],
		   "I5 epoch counts", c->td.td_epoch);
}

/* What a processor inside the TD may still use is the TD's, in one piece. */
static inline void check_tlb(struct check *c, unsigned int lp)
{
	const struct lab_tlb *tlb = &c->lab->tlb[lp];

	for (unsigned int i = 0; i < tlb->count; i++) {
		struct tdx_pamt_view pamt;

		tdx_module_view_pamt(c->lab->module, tlb->entry[i].hpa, tlb->entry[i].level, &pamt);
		CHECK_THAT(c, pamt.pt == TDX_PT_REG, "I6 stale translation in use",
			   tlb->entry[i].hpa | tlb->entry[i].level);
	}
}

/* All invariants; prints and returns false if one is broken. No call may be under way. */
static inline bool check_all(struct lab *lab)
{
	struct check *c = calloc(1, sizeof(*c));
	const char *broken;

	c->lab = lab;
	assert_int_equal(tdx_module_view_td(lab->module, LAB_TDR, &c->td), 0);
	for (unsigned int lp = 0; lp < LAB_NR_LPS; lp++) {
		uint64_t tdvpr = tdx_module_running_vcpu(lab->module, lp);

		if (!tdvpr)
			continue;
		c->running[c->nr_running++] = (unsigned int)((tdvpr - LAB_VCPU(0)) / 0x10000);
		check_tlb(c, lp);
	}
	check_table(c, c->td.sept_root[0], c->td.sept_levels - 1);
	for (uint64_t at = 0; at < CHECK_WINDOW; at += LAB_PAGE) {
		check_entry(c, LAB_TDMR + at, 0);
		if (!(at & 0x1fffff))
			check_entry(c, LAB_TDMR + at, 1);
	}
	check_entry(c, LAB_TDMR, 2);
	CHECK_THAT(c, c->owned == c->td.chldcnt, "I4 page count", c->td.chldcnt);
	CHECK_THAT(c, !(c->td.op_lock & ~CHECK_HP) && !c->td.sept_lock && !c->td.epoch_lock,
		   "I1 TD locks", c->td.op_lock);
	check_epochs(c);
	broken = c->broken;
	if (broken)
		print_error("%s (%#llx; counted %llu pages)\n", broken,
			    (unsigned long long)c->where, (unsigned long long)c->owned);
	free(c);
	return !broken;
}

#endif
