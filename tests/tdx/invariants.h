/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The invariants that hold of the module's books after every call, checked from outside: the PAMT,
 * TDs and vCPUs by their views, the Secure EPTs by the words in memory, decoded here once more and
 * by the manual alone. Never a call.
 *
 *	I1 no lock stays taken but what running vCPUs hold	I2 one owner, one entry, same level
 *	I3 a free page is in no TD's tables			I4 a TD's page count
 *	I5 epoch counts; the last epoch's can only fall		I6 nothing freed or resized is in a
 *TLB I7 permissions follow from the state			I8 a large page's parts are not in
 *use I9 what failed changed nothing				L2 aliases follow their entries
 */
#ifndef TESTS_TDX_INVARIANTS_H
#define TESTS_TDX_INVARIANTS_H

#include "tests/tdx/world.h"

#define INV_MAX_TDS    32
#define INV_MAX_TABLES 512
#define INV_NR_2M      (WORLD_SIZE / WORLD_2M)
#define INV_NR_PAMT    (WORLD_NR_PAGES + INV_NR_2M + 2)
#define INV_HP	       2u /* host priority, in a lock word */
#define INV_HPA	       0x000ffffffffff000ull

struct inv_table {
	uint64_t hpa, gpa;
	uint8_t td, vm, level;
	uint64_t words[512];
};

/* One look at everything. */
struct inv_state {
	struct tdx_pamt_view pamt[INV_NR_PAMT];
	unsigned int nr_tds, nr_tables, nr_running;
	struct tdx_td_view td[INV_MAX_TDS];
	struct tdx_vcpu_view vcpu[WORLD_NR_LPS]; /* that runs on each processor */
	uint64_t tdvpr[WORLD_NR_LPS];		 /* 0: none */
	struct inv_table table[INV_MAX_TABLES];
	/* Entries that lead to each page of pamt[], and the size of the last. */
	uint8_t nr_leaves[INV_NR_PAMT], nr_tables_at[INV_NR_PAMT];
	uint8_t leaf_owner[INV_NR_PAMT];
	uint64_t owned[INV_MAX_TDS];
};

struct inv {
	struct world *w;
	struct inv_state *now, *before;
	const char *broken;
	uint64_t where;
};

static inline void inv_break(struct inv *inv, const char *rule, uint64_t where)
{
	if (!inv->broken) {
		inv->broken = rule;
		inv->where = where;
	}
}

#define INV_THAT(inv, good, rule, where)             \
	do {                                         \
		if (!(good))                         \
			inv_break(inv, rule, where); \
	} while (0)

static inline struct inv *inv_create(struct world *w)
{
	struct inv *inv = calloc(1, sizeof(*inv));

	assert_non_null(inv);
	inv->w = w;
	inv->now = calloc(1, sizeof(*inv->now));
	inv->before = calloc(1, sizeof(*inv->before));
	assert_non_null(inv->now);
	assert_non_null(inv->before);
	return inv;
}

static inline void inv_destroy(struct inv *inv)
{
	free(inv->now);
	free(inv->before);
	free(inv);
}

/* Place in pamt[] of the metadata of @hpa at @level; -1: outside of what is looked at. */
static inline int inv_index(uint64_t hpa, unsigned int level)
{
	uint64_t at = hpa - WORLD_BASE;

	if (at >= WORLD_SIZE || level > 2)
		return -1;
	if (level == 2)
		return (int)(WORLD_NR_PAGES + INV_NR_2M + at / WORLD_1G);
	if (level == 1)
		return (int)(WORLD_NR_PAGES + at / WORLD_2M);
	return at < WORLD_WINDOW ? (int)(at / WORLD_PAGE) : -1;
}

static inline uint64_t inv_hpa(unsigned int index, unsigned int *level)
{
	*level = index < WORLD_NR_PAGES ? 0 : index < WORLD_NR_PAGES + INV_NR_2M ? 1 : 2;
	if (*level == 2)
		return WORLD_BASE + (index - WORLD_NR_PAGES - INV_NR_2M) * WORLD_1G;
	if (*level == 1)
		return WORLD_BASE + (index - WORLD_NR_PAGES) * WORLD_2M;
	return WORLD_BASE + index * WORLD_PAGE;
}

/* Is the page of @level around @hpa a guest page as a whole? */
static inline bool inv_whole(const struct inv_state *s, uint64_t hpa, unsigned int level)
{
	int index = inv_index(hpa, level);

	return index >= 0 && s->pamt[index].pt == TDX_PT_REG;
}

/* -- the look -- */

static inline int inv_td(const struct inv_state *s, uint64_t tdr)
{
	for (unsigned int i = 0; i < s->nr_tds; i++)
		if (s->td[i].tdr == tdr)
			return (int)i;
	return -1;
}

static inline void inv_look_at_pamt(struct inv *inv)
{
	struct inv_state *s = inv->now;

	s->nr_tds = 0;
	for (unsigned int i = 0; i < INV_NR_PAMT; i++) {
		unsigned int level;
		uint64_t hpa = inv_hpa(i, &level);

		tdx_module_view_pamt(inv->w->module, hpa, level, &s->pamt[i]);
		if (s->pamt[i].pt != TDX_PT_TDR)
			continue;
		if (level || s->nr_tds == INV_MAX_TDS)
			inv_break(inv, "I8 TDR of another size, or too many TDs", hpa);
		else
			tdx_module_view_td(inv->w->module, hpa, &s->td[s->nr_tds++]);
	}
}

static inline void inv_look_at_processors(struct inv *inv)
{
	struct inv_state *s = inv->now;

	s->nr_running = 0;
	for (unsigned int lp = 0; lp < WORLD_NR_LPS; lp++) {
		s->tdvpr[lp] = tdx_module_running_vcpu(inv->w->module, lp);
		if (!s->tdvpr[lp])
			continue;
		s->nr_running++;
		if (tdx_module_view_vcpu(inv->w->module, s->tdvpr[lp], &s->vcpu[lp]))
			inv_break(inv, "I2 a vCPU without TDVPR runs", s->tdvpr[lp]);
	}
}

/* A table and all below it. @vm 0: the TD's own tree. */
static inline void inv_look_at_table(struct inv *inv, unsigned int td, unsigned int vm,
				     uint64_t hpa, uint64_t gpa, unsigned int level)
{
	struct inv_state *s = inv->now;
	const uint64_t *words = world_page(inv->w, hpa);
	struct inv_table *table;

	if (!words || s->nr_tables == INV_MAX_TABLES) {
		inv_break(inv, "I2 table outside the test's memory", hpa);
		return;
	}
	table = &s->table[s->nr_tables++];
	table->hpa = hpa;
	table->gpa = gpa;
	table->td = (uint8_t)td;
	table->vm = (uint8_t)vm;
	table->level = (uint8_t)level;
	for (unsigned int i = 0; i < 512; i++) {
		uint64_t raw = table->words[i] = __atomic_load_n(&words[i], __ATOMIC_SEQ_CST);
		bool is_free = vm ? !raw : (raw & ~(1ull << 52)) == 0x80e0000000000000ull;
		int index = inv_index(raw & INV_HPA, 0);

		if (is_free || raw >> 7 & 1)
			continue;
		if (level == 0 || index < 0) {
			inv_break(inv, "I2 table entry at the bottom, or out of the window", raw);
			continue;
		}
		s->nr_tables_at[index]++;
		s->leaf_owner[index] = (uint8_t)td;
		inv_look_at_table(inv, td, vm, raw & INV_HPA, gpa | (uint64_t)i << (12 + 9 * level),
				  level - 1);
	}
}

static inline void inv_look_at_trees(struct inv *inv)
{
	struct inv_state *s = inv->now;

	s->nr_tables = 0;
	memset(s->nr_leaves, 0, sizeof(s->nr_leaves));
	memset(s->nr_tables_at, 0, sizeof(s->nr_tables_at));
	for (unsigned int i = 0; i < s->nr_tds; i++) {
		/* From TEARDOWN on pages go one by one and the tree means nothing. */
		if (s->td[i].op_state == 0 || s->td[i].lifecycle >= 3)
			continue;
		for (unsigned int vm = 0; vm <= s->td[i].num_l2_vms; vm++)
			inv_look_at_table(inv, i, vm, s->td[i].sept_root[vm], 0,
					  s->td[i].sept_levels - 1);
	}
}

static inline void inv_look(struct inv *inv)
{
	struct inv_state *old = inv->before;

	inv->before = inv->now;
	inv->now = old;
	inv_look_at_pamt(inv);
	inv_look_at_processors(inv);
	inv_look_at_trees(inv);
}

/* -- entries: I2, I3, I7, L2 -- */

static inline uint64_t inv_leaf_hpa(uint64_t raw, unsigned int level, bool pending)
{
	return raw & INV_HPA & ~(level == 1 && pending ? 0x1ff000ull : 0);
}

static inline void inv_check_leaf(struct inv *inv, const struct inv_table *table, uint64_t raw)
{
	struct inv_state *s = inv->now;
	bool pending = raw >> 56 & 1, blocked = raw >> 55 & 1;
	uint64_t hpa = inv_leaf_hpa(raw, table->level, pending);
	int index = inv_index(hpa, table->level);

	INV_THAT(inv, (raw & 7) == (pending || blocked ? 0 : 7), "I7 leaf permissions", raw);
	INV_THAT(inv, (raw >> 3 & 0x1f) == 0x1e, "I7 leaf memory type", raw);
	INV_THAT(inv, !(raw & 0x6260000000000700ull), "I7 leaf bits of no state", raw);
	if (index < 0 || hpa & ((WORLD_PAGE << 9 * table->level) - 1)) {
		inv_break(inv, "I2 leaf outside the test's memory", raw);
		return;
	}
	s->nr_leaves[index]++;
	INV_THAT(inv,
		 s->pamt[index].pt == TDX_PT_REG && s->pamt[index].owner == s->td[table->td].tdr,
		 "I2 I3 leaf of a page that is not the TD's", raw);
}

static inline void inv_check_own_entry(struct inv *inv, const struct inv_table *table, uint64_t raw)
{
	INV_THAT(inv, raw >> 63, "I7 SVE", raw);
	INV_THAT(inv, !(raw >> 11 & 1), "I1 entry lock", raw);
	if ((raw & ~(1ull << 52)) == 0x80e0000000000000ull)
		return;
	if (raw >> 7 & 1)
		inv_check_leaf(inv, table, raw);
	else
		INV_THAT(inv, (raw & 0x62e00000000007ffull) == (raw >> 55 & 1 ? 1ull << 55 : 7),
			 "I7 table entry", raw);
}

/* The table of @vm that stands beside @table of the TD's own tree; NULL: none. */
static inline const struct inv_table *inv_twin(const struct inv_state *s,
					       const struct inv_table *table, unsigned int vm)
{
	for (unsigned int i = 0; i < s->nr_tables; i++) {
		const struct inv_table *t = &s->table[i];

		if (t->td == table->td && t->vm == vm && t->level == table->level &&
		    t->gpa == table->gpa)
			return t;
	}
	return NULL;
}

static inline void inv_check_alias(struct inv *inv, const struct inv_table *table, uint64_t l1,
				   bool aliased, uint64_t l2)
{
	bool leaf = l1 >> 7 & 1, blocked = l2 >> 55 & 1;

	INV_THAT(inv, aliased == (l2 != 0), "L2 entry without alias bit, or the other way", l2);
	if (!l2)
		return;
	INV_THAT(inv, (l2 >> 7 & 1) == leaf, "L2 alias of another kind", l2);
	INV_THAT(inv, blocked == ((l1 >> 55 & 1) || (l1 >> 56 & 1)), "L2 alias blocked as its twin",
		 l2);
	INV_THAT(inv, !blocked || !(l2 & 0x407), "L2 permissions of a blocked alias", l2);
	if (leaf)
		INV_THAT(inv,
			 (l2 & INV_HPA) == inv_leaf_hpa(l1, table->level, l1 >> 56 & 1) &&
				 l2 >> 6 & 1,
			 "L2 alias of another page", l2);
	else if (!blocked)
		INV_THAT(inv, (l2 & 0xfff) == 0x407, "L2 table entry", l2);
}

static inline void inv_check_aliases(struct inv *inv, const struct inv_table *table)
{
	struct inv_state *s = inv->now;

	for (unsigned int vm = 1; vm <= s->td[table->td].num_l2_vms; vm++) {
		const struct inv_table *twin = inv_twin(s, table, vm);

		for (unsigned int i = 0; i < 512; i++)
			inv_check_alias(inv, table, table->words[i],
					table->words[i] >> (57 + vm) & 1,
					twin ? twin->words[i] : 0);
	}
}

static inline void inv_check_trees(struct inv *inv)
{
	struct inv_state *s = inv->now;

	for (unsigned int t = 0; t < s->nr_tables; t++) {
		const struct inv_table *table = &s->table[t];

		if (table->vm) {
			/* A tree of its own has no place that the TD's tree has not. */
			INV_THAT(inv, inv_twin(s, table, 0), "L2 table without a twin", table->hpa);
			continue;
		}
		for (unsigned int i = 0; i < 512; i++)
			inv_check_own_entry(inv, table, table->words[i]);
		inv_check_aliases(inv, table);
	}
}

/* -- metadata: I1, I2, I3, I4, I8 -- */

/* Readers that running vCPUs account for. */
static inline unsigned int inv_readers(const struct inv_state *s, uint64_t hpa, unsigned int level)
{
	uint64_t size = WORLD_PAGE << 9 * level;
	unsigned int readers = 0;

	if (!s->nr_running)
		return 0;
	for (unsigned int lp = 0; lp < WORLD_NR_LPS; lp++) {
		readers += s->tdvpr[lp] && s->tdvpr[lp] / size == hpa / size;
		readers += s->tdvpr[lp] && level == 0 && s->vcpu[lp].tdr == hpa;
	}
	return readers;
}

static inline void inv_check_page(struct inv *inv, unsigned int index)
{
	struct inv_state *s = inv->now;
	const struct tdx_pamt_view *pamt = &s->pamt[index];
	unsigned int level;
	uint64_t hpa = inv_hpa(index, &level);
	int td =
		pamt->pt > TDX_PT_RSVD ? inv_td(s, pamt->pt == TDX_PT_TDR ? hpa : pamt->owner) : -1;
	/* Until its TD is in TEARDOWN. */
	bool bound = td >= 0 && s->td[td].lifecycle < 3;

	INV_THAT(inv, (pamt->lock & ~INV_HP) == 4 * inv_readers(s, hpa, level), "I1 PAMT lock",
		 hpa | level);
	if (pamt->pt > TDX_PT_RSVD && td < 0)
		inv_break(inv, "I2 page of a TD that does not exist", hpa | level);
	if (td >= 0 && pamt->pt != TDX_PT_TDR)
		s->owned[td] += 1ull << 9 * level;
	if (pamt->pt == TDX_PT_REG && bound)
		INV_THAT(inv, s->nr_leaves[index] == 1, "I2 guest page without exactly one leaf",
			 hpa | level);
	else
		INV_THAT(inv, !s->nr_leaves[index], "I3 leaf of a page that is not used", hpa);
	if (pamt->pt == TDX_PT_EPT && bound)
		INV_THAT(inv, s->nr_tables_at[index] == 1 && s->leaf_owner[index] == td,
			 "I2 table without exactly one parent", hpa);
	else
		INV_THAT(inv, !s->nr_tables_at[index], "I3 table entry to a page that is none",
			 hpa);
	if (level)
		INV_THAT(inv, pamt->pt == TDX_PT_NDA || pamt->pt == TDX_PT_REG,
			 "I8 large page that is no guest page", hpa | level);
	for (unsigned int above = level + 1; above <= 2; above++)
		INV_THAT(inv, pamt->pt == TDX_PT_NDA || !inv_whole(s, hpa, above),
			 "I8 part of a large page in use", hpa | level);
}

/* The 4 KiB entries outside of the window: all free, whatever was merged and split there. */
static inline void inv_check_rest(struct inv *inv)
{
	for (uint64_t hpa = WORLD_BASE + WORLD_WINDOW; hpa < WORLD_BASE + WORLD_SIZE;
	     hpa += WORLD_PAGE) {
		struct tdx_pamt_view pamt;

		tdx_module_view_pamt(inv->w->module, hpa, 0, &pamt);
		INV_THAT(inv, pamt.pt == TDX_PT_NDA && !(pamt.lock & ~INV_HP),
			 "I8 small page out of the window", hpa);
	}
}

static inline void inv_check_tds(struct inv *inv)
{
	struct inv_state *s = inv->now;

	for (unsigned int i = 0; i < s->nr_tds; i++) {
		const struct tdx_td_view *td = &s->td[i];

		INV_THAT(inv, s->owned[i] == td->chldcnt, "I4 page count", td->tdr);
		INV_THAT(inv, !(td->op_lock & ~INV_HP) && !td->sept_lock && !td->epoch_lock,
			 "I1 TD locks", td->tdr);
	}
}

/* -- epochs: I5, I6 -- */

static inline void inv_check_epochs(struct inv *inv)
{
	struct inv_state *s = inv->now;

	for (unsigned int i = 0; i < s->nr_tds; i++) {
		const struct tdx_td_view *td = &s->td[i];
		unsigned int count[2] = {0};

		for (unsigned int lp = 0; s->nr_running && lp < WORLD_NR_LPS; lp++) {
			uint64_t epoch = s->vcpu[lp].epoch;

			if (!s->tdvpr[lp] || s->vcpu[lp].tdr != td->tdr)
				continue;
			count[epoch & 1]++;
			INV_THAT(inv, epoch == td->td_epoch || epoch + 1 == td->td_epoch,
				 "I5 vCPU in a third epoch", epoch);
			INV_THAT(inv, s->vcpu[lp].state == 4 && s->vcpu[lp].assoc_lp == (int)lp,
				 "I5 a vCPU runs that is not active here", s->tdvpr[lp]);
			INV_THAT(inv, td->lifecycle == 1 && td->op_state == 2,
				 "I5 a vCPU of a TD runs that may not", td->tdr);
		}
		INV_THAT(inv, count[0] == td->refcount[0] && count[1] == td->refcount[1],
			 "I5 epoch counts", td->tdr);
	}
}

/* Nobody can enter in an epoch that is over. */
static inline void inv_check_old_epoch(struct inv *inv)
{
	for (unsigned int i = 0; i < inv->now->nr_tds; i++) {
		const struct tdx_td_view *td = &inv->now->td[i];
		int old = inv_td(inv->before, td->tdr);
		unsigned int parity = (td->td_epoch - 1) & 1;

		if (old < 0 || td->op_state != 2)
			continue;
		INV_THAT(inv, td->td_epoch - inv->before->td[old].td_epoch <= 1,
			 "I5 more than one epoch in a call", td->tdr);
		if (inv->before->td[old].td_epoch == td->td_epoch)
			INV_THAT(inv, td->refcount[parity] <= inv->before->td[old].refcount[parity],
				 "I5 somebody entered in the last epoch", td->tdr);
	}
}

/* Whose tree the table page @hpa was in: 0, the TD's own, if in none. */
static inline unsigned int inv_table_vm(const struct inv_state *s, uint64_t hpa)
{
	for (unsigned int i = 0; i < s->nr_tables; i++)
		if (s->table[i].hpa == hpa)
			return s->table[i].vm;
	return 0;
}

/* Page @index was given up or resized: nobody is inside who entered when it was still there. */
static inline void inv_check_gone(struct inv *inv, unsigned int index)
{
	const struct inv_state *old = inv->before;
	const struct tdx_pamt_view *was = &old->pamt[index];
	int td = inv_td(old, was->owner);
	unsigned int level;
	uint64_t hpa = inv_hpa(index, &level);

	if ((was->pt != TDX_PT_REG && was->pt != TDX_PT_EPT) || inv->now->pamt[index].pt == was->pt)
		return;
	INV_THAT(inv, inv->now->pamt[index].pt == TDX_PT_NDA, "I6 page became another in one call",
		 hpa);
	if (td < 0 || old->td[td].op_state != 2 || old->td[td].lifecycle != 1)
		return;
	/* An L2 table goes with its twin, and it is the twin's epoch that is written. */
	if (was->pt == TDX_PT_EPT && inv_table_vm(old, hpa))
		return;
	/* Merged: it is the table's epoch that counts, and its page that is given up. */
	if (inv_whole(inv->now, hpa, level + 1))
		return;
	for (unsigned int lp = 0; lp < WORLD_NR_LPS; lp++)
		if (old->tdvpr[lp] && old->vcpu[lp].tdr == was->owner)
			INV_THAT(inv, old->vcpu[lp].epoch > was->bepoch,
				 "I6 page gone under a running vCPU", hpa | level);
}

/* What a processor inside a TD may still use is that TD's. */
static inline void inv_check_tlbs(struct inv *inv)
{
	for (unsigned int lp = 0; lp < WORLD_NR_LPS; lp++) {
		const struct world_tlb *tlb = &inv->w->tlb[lp];

		for (unsigned int i = 0; inv->now->tdvpr[lp] && i < tlb->count; i++) {
			int index = inv_index(tlb->entry[i].hpa, tlb->entry[i].level);

			if (tlb->entry[i].tdr != inv->now->vcpu[lp].tdr)
				continue;
			INV_THAT(inv,
				 index >= 0 && inv->now->pamt[index].pt == TDX_PT_REG &&
					 inv->now->pamt[index].owner == tlb->entry[i].tdr,
				 "I6 stale translation in use", tlb->entry[i].hpa);
		}
	}
}

/* -- I9 -- */

static inline bool inv_same_td(const struct tdx_td_view *a, const struct tdx_td_view *b,
			       bool vcpus_moved)
{
	struct tdx_td_view x = *a, y = *b;

	x.op_lock = y.op_lock = 0;
	if (vcpus_moved) {
		memcpy(x.refcount, y.refcount, sizeof(x.refcount));
		x.num_assoc = y.num_assoc;
		x.td_ctls = y.td_ctls;
	}
	return x.tdr == y.tdr && x.chldcnt == y.chldcnt && x.lifecycle == y.lifecycle &&
	       x.num_tdcx == y.num_tdcx && x.op_state == y.op_state && x.td_epoch == y.td_epoch &&
	       x.refcount[0] == y.refcount[0] && x.refcount[1] == y.refcount[1] &&
	       x.num_vcpus == y.num_vcpus && x.num_assoc == y.num_assoc && x.td_ctls == y.td_ctls;
}

static inline bool inv_same_pamt(const struct tdx_pamt_view *a, const struct tdx_pamt_view *b)
{
	return a->pt == b->pt && a->owner == b->owner && a->bepoch == b->bepoch;
}

/* Words that differ in more than @but. */
static inline bool inv_same_tables(const struct inv_state *a, const struct inv_state *b,
				   uint64_t but)
{
	if (a->nr_tables != b->nr_tables)
		return false;
	for (unsigned int t = 0; t < a->nr_tables; t++) {
		if (a->table[t].hpa != b->table[t].hpa)
			return false;
		for (unsigned int i = 0; i < 512; i++)
			if ((a->table[t].words[i] ^ b->table[t].words[i]) & ~but)
				return false;
	}
	return true;
}

/* The books are as they were, but for host-priority bits, and @but in the entries. */
static inline void inv_check_unchanged(struct inv *inv, bool vcpus_moved, uint64_t but)
{
	const struct inv_state *a = inv->before, *b = inv->now;

	INV_THAT(inv, a->nr_tds == b->nr_tds, "I9 a TD came or went", b->nr_tds);
	for (unsigned int i = 0; i < a->nr_tds && a->nr_tds == b->nr_tds; i++)
		INV_THAT(inv, inv_same_td(&a->td[i], &b->td[i], vcpus_moved), "I9 a TD changed",
			 a->td[i].tdr);
	for (unsigned int i = 0; i < INV_NR_PAMT; i++)
		INV_THAT(inv, inv_same_pamt(&a->pamt[i], &b->pamt[i]), "I9 metadata changed", i);
	INV_THAT(inv, inv_same_tables(a, b, but | 1ull << 52), "I9 an entry changed", 0);
}

static inline bool inv_only_looks(uint64_t leaf)
{
	return leaf == TDH_MEM_SEPT_RD || leaf == TDH_MEM_RD || leaf == TDH_MEM_WR ||
	       leaf == TDH_PHYMEM_PAGE_RDMD || leaf == TDH_PHYMEM_PAGE_WBINVD ||
	       leaf == TDH_MNG_KEY_RECLAIMID;
}

static inline void inv_check_host_failure(struct inv *inv, const struct event *e,
					  const struct answer *a)
{
	uint64_t leaf = e->r[0] & TDX_RAX_LEAF;

	if (a->regs.rax == TDX_SUCCESS && !inv_only_looks(leaf))
		return;
	/* Pages that were taken are gone from its registers, and the call goes on from there. */
	if (leaf == TDH_MEM_SEPT_ADD && a->regs.rax == TDX_INTERRUPTED_RESUMABLE)
		return;
	/* These tie the vCPU to the processor, whatever comes then. */
	inv_check_unchanged(inv, leaf == TDH_VP_ENTER || leaf == TDH_VP_RD || leaf == TDH_VP_WR, 0);
}

static inline void inv_check_guest_event(struct inv *inv, const struct event *e,
					 const struct answer *a)
{
	bool accept = e->kind == EV_GUEST && e->r[0] == TDG_MEM_PAGE_ACCEPT;
	bool attributes = e->kind == EV_GUEST && e->r[0] == TDG_MEM_PAGE_ATTR_WR;

	if ((accept || attributes) && a->side == TDX_GUEST && a->regs.rax == TDX_SUCCESS)
		return;
	/* An accept that was interrupted keeps its counter in the entry. */
	inv_check_unchanged(inv, true,
			    accept && a->side == TDX_GUEST && !a->rip_delta ? 0x1ff000 : 0);
}

static inline void inv_check_failure(struct inv *inv, const struct event *e, const struct answer *a)
{
	if (e->kind == EV_HOST && a->done && a->side == TDX_HOST)
		inv_check_host_failure(inv, e, a);
	else if (e->kind == EV_HOST && a->done)
		inv_check_unchanged(inv, true, 0);
	else if (e->kind == EV_GUEST && a->done)
		inv_check_guest_event(inv, e, a);
	else
		inv_check_unchanged(inv, true, 0);
}

/* -- all of it -- */

/* What holds at any time that no call is under way. True: all is well. */
static inline bool inv_check(struct inv *inv)
{
	inv->broken = NULL;
	inv_look(inv);
	memset(inv->now->owned, 0, sizeof(inv->now->owned));
	inv_check_trees(inv);
	for (unsigned int i = 0; i < INV_NR_PAMT; i++)
		inv_check_page(inv, i);
	inv_check_tds(inv);
	inv_check_epochs(inv);
	inv_check_tlbs(inv);
	INV_THAT(inv, !inv->w->nr_fatal, "the module is dead", 0);
	return !inv->broken;
}

/* The same, and what one event may have changed since the last look. */
static inline bool inv_check_step(struct inv *inv, const struct event *e, const struct answer *a)
{
	inv_check(inv);
	inv_check_old_epoch(inv);
	for (unsigned int i = 0; i < INV_NR_PAMT; i++)
		inv_check_gone(inv, i);
	inv_check_failure(inv, e, a);
	return !inv->broken;
}

#endif
