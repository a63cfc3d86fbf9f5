// SPDX-License-Identifier: BSD-2-Clause
/* Secure-EPT entries and walks (TDX module 1.5 ABI, "Secure EPT entry"). Never PAMT or registers.
 */
#include "tdx/module/sept.h"
#include "tdx/module/lines.h"

static const struct {
	uint64_t bits;
	uint8_t public_state;
} states[] = {
	[S_FREE] = {SEPT_TDB | SEPT_TDBW | SEPT_TDEX, TDX_SEPT_FREE},
	[S_NL_MAPPED] = {0, TDX_SEPT_NL_MAPPED},
	[S_NL_BLOCKED] = {SEPT_TDB, TDX_SEPT_NL_BLOCKED},
	[S_MAPPED] = {SEPT_PS | SEPT_IPAT, TDX_SEPT_MAPPED},
	[S_BLOCKED] = {SEPT_PS | SEPT_IPAT | SEPT_TDB, TDX_SEPT_BLOCKED},
	[S_PENDING] = {SEPT_PS | SEPT_IPAT | SEPT_TDP, TDX_SEPT_PENDING},
	[S_PENDING_BLOCKED] = {SEPT_PS | SEPT_IPAT | SEPT_TDP | SEPT_TDB, TDX_SEPT_PENDING_BLOCKED},
};

enum sept_state sept_state(uint64_t raw)
{
	for (unsigned int state = 0; state < S_OTHER; state++)
		if ((raw & SEPT_STATE_BITS) == states[state].bits)
			return state;
	return S_OTHER;
}

uint8_t sept_public_state(uint64_t raw)
{
	enum sept_state state = sept_state(raw);

	return state == S_OTHER ? 0 : states[state].public_state;
}

uint64_t sept_free_entry(void)
{
	return SEPT_SVE | states[S_FREE].bits;
}

uint64_t sept_table_entry(uint64_t hpa)
{
	return SEPT_SVE | hpa | SEPT_RWX;
}

uint64_t sept_leaf_entry(enum sept_state state, uint64_t hpa)
{
	return SEPT_SVE | hpa | SEPT_MT_WB | states[state].bits |
	       (state == S_MAPPED ? SEPT_RWX : 0);
}

uint64_t sept_block(uint64_t raw, unsigned int level)
{
	if (level == 1 && sept_state(raw) == S_PENDING)
		raw &= ~SEPT_ACCEPT_COUNTER;
	return (raw & ~SEPT_RWX) | SEPT_TDB;
}

uint64_t sept_unblock(uint64_t raw)
{
	raw &= ~SEPT_TDB;
	return raw & SEPT_TDP ? raw : raw | SEPT_RWX;
}

uint64_t sept_accept(uint64_t raw)
{
	return (raw & ~SEPT_TDP) | SEPT_RWX;
}

uint64_t sept_hpa(uint64_t raw, unsigned int level)
{
	uint64_t hpa = raw & SEPT_HPA;

	return level == 1 && sept_is_leaf(raw) ? hpa & ~SEPT_ACCEPT_COUNTER : hpa;
}

uint64_t sept_public_entry(uint64_t raw)
{
	/* The accept counter of a PENDING 2 MiB page shows through in 20:12, as on the real module.
	 */
	if (sept_is_leaf(raw))
		return raw & (SEPT_RWX | SEPT_MT | SEPT_IPAT | SEPT_PS | SEPT_HPA | SEPT_SVE);
	if (sept_state(raw) == S_FREE)
		return raw & SEPT_SVE;
	return raw & (SEPT_RWX | SEPT_PS);
}

bool sept_host_lock(uint64_t *entry)
{
	if (__atomic_fetch_or(entry, SEPT_LOCK, __ATOMIC_SEQ_CST) & SEPT_LOCK) {
		__atomic_fetch_or(entry, SEPT_HOST, __ATOMIC_SEQ_CST);
		return false;
	}
	__atomic_fetch_and(entry, ~SEPT_HOST, __ATOMIC_SEQ_CST);
	return true;
}

uint64_t sept_guest_lock(uint64_t *entry)
{
	uint64_t before = __atomic_fetch_or(entry, SEPT_LOCK, __ATOMIC_SEQ_CST);

	if (before & SEPT_LOCK)
		return TDX_OPERAND_BUSY;
	if (before & SEPT_HOST) {
		sept_unlock(entry);
		return TDX_OPERAND_BUSY_HOST_PRIORITY;
	}
	return TDX_SUCCESS;
}

void sept_unlock(uint64_t *entry)
{
	__atomic_fetch_and(entry, ~SEPT_LOCK, __ATOMIC_SEQ_CST);
}

uint64_t *sept_table(struct tdx_module *m, uint64_t hpa)
{
	return module_page(m, hpa);
}

void sept_fill_free(uint64_t *table)
{
	for (unsigned int i = 0; i < 512; i++)
		sept_write(&table[i], sept_free_entry());
}

static uint64_t *entry_of(uint64_t *table, uint64_t gpa, unsigned int level)
{
	return &table[gpa >> (12 + 9 * level) & 511];
}

/* Hardware's rule: an entry without permission, or a leaf, ends the walk. */
static bool descend_present(uint64_t raw)
{
	return raw & SEPT_RWX && !sept_is_leaf(raw);
}

static bool descend_any_table(uint64_t raw)
{
	return sept_in(raw, S_ANY_NON_LEAF);
}

static bool read_entry(struct tdx_module *m, struct mem_key *key, uint64_t *table, uint64_t gpa,
		       struct sept_walk *walk)
{
	uint64_t hpa = walk->tables[walk->nr_tables - 1];

	walk->entry = entry_of(table, gpa, walk->level);
	walk->raw = sept_read(walk->entry);
	if (!key || lines_check(m, key, hpa + (gpa >> (12 + 9 * walk->level) & 511) * 8, 8))
		return true;
	walk->raw = sept_free_entry();
	walk->level = SEPT_NO_LEVEL;
	return false;
}

bool sept_walk_down(struct tdx_module *m, const struct td *td, uint64_t root, struct mem_key *key,
		    uint64_t gpa, unsigned int level, sept_descend_fn *descend,
		    struct sept_walk *walk)
{
	uint64_t *table = sept_table(m, root);

	*walk = (struct sept_walk){.level = td->root_level, .nr_tables = 1, .tables = {root}};
	if (!read_entry(m, key, table, gpa, walk))
		return false;
	while (walk->level > level && descend(walk->raw)) {
		uint64_t hpa = walk->raw & SEPT_HPA;

		table = sept_table(m, hpa);
		if (!table) {
			module_fatal(m, "a table entry names a page without memory");
			return true;
		}
		walk->tables[walk->nr_tables++] = hpa;
		walk->level--;
		if (!read_entry(m, key, table, gpa, walk))
			return false;
	}
	return true;
}

bool sept_walk_module(struct tdx_module *m, const struct td *td, uint64_t root, uint64_t gpa,
		      unsigned int level, sept_descend_fn *descend, struct sept_walk *walk)
{
	if (!sept_walk_down(m, td, root, td->key, gpa, level, descend, walk))
		module_fatal(m, "machine check inside the module: a spoiled table");
	return walk->level == level;
}

bool sept_walk(struct tdx_module *m, const struct td *td, uint64_t gpa, unsigned int level,
	       struct sept_walk *walk)
{
	return sept_walk_module(m, td, td->tdcx[TDCX_SEPT_ROOT], gpa, level, descend_present, walk);
}

static bool leaf_present(const struct sept_walk *walk)
{
	return sept_is_leaf(walk->raw) && walk->raw & SEPT_RWX;
}

bool sept_walk_leaf(struct tdx_module *m, const struct td *td, uint64_t gpa, struct sept_walk *walk)
{
	sept_walk(m, td, gpa, 0, walk);
	return leaf_present(walk);
}

bool sept_walk_processor(struct tdx_module *m, const struct td *td, uint64_t gpa,
			 struct sept_walk *walk)
{
	sept_walk_down(m, td, td->tdcx[TDCX_SEPT_ROOT], td->key, gpa, 0, descend_present, walk);
	return leaf_present(walk);
}

bool sept_walk_any(struct tdx_module *m, const struct td *td, uint64_t gpa, unsigned int level,
		   struct sept_walk *walk)
{
	sept_walk_down(m, td, td->tdcx[TDCX_SEPT_ROOT], NULL, gpa, level, descend_any_table, walk);
	return walk->level == level;
}
