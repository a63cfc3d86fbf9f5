// SPDX-License-Identifier: BSD-2-Clause
/* The PAMT: finding, locking, taking, merging and splitting its entries. Never a page's content. */
#include "tdx/module/leaves.h"
#include "tdx/module/lines.h"

#include <errno.h>

#define ENTRIES_PER_INIT 1024

struct tdmr *pamt_tdmr(struct tdx_module *m, uint64_t hpa)
{
	for (unsigned int i = 0; i < m->config.nr_tdmrs; i++) {
		struct tdmr *tdmr = &m->tdmrs[i];

		if (hpa - tdmr->config.base < tdmr->config.size)
			return tdmr;
	}
	return NULL;
}

static struct pamt_entry *entry_in(const struct tdmr *tdmr, uint64_t hpa, unsigned int level)
{
	return &tdmr->entries[level][(hpa - tdmr->config.base) / level_size(level)];
}

struct pamt_entry *pamt_entry_at(struct tdx_module *m, uint64_t hpa, unsigned int level)
{
	struct tdmr *tdmr = pamt_tdmr(m, hpa);

	return tdmr ? entry_in(tdmr, hpa, level) : NULL;
}

void *pamt_object(struct tdx_module *m, uint64_t hpa)
{
	struct tdmr *tdmr = pamt_tdmr(m, hpa);

	return tdmr ? tdmr->objects[(hpa - tdmr->config.base) / PAGE_BYTES] : NULL;
}

/* A 1 GiB block counts only when its last page is done (TDH.SYS.TDMR.INIT). */
static bool block_ready(const struct tdmr *tdmr, uint64_t hpa)
{
	return hpa < (atomic_load(&tdmr->next_init) & ~(GIB - 1));
}

bool pamt_covers(struct tdx_module *m, uint64_t hpa)
{
	const struct tdmr *tdmr = pamt_tdmr(m, hpa);

	return tdmr && block_ready(tdmr, hpa);
}

static int tdmr_init(struct tdx_module *m, struct tdmr *tdmr, const struct tdx_tdmr_config *config)
{
	tdmr->config = *config;
	atomic_init(&tdmr->next_init, config->base);
	for (unsigned int level = 0; level < PAMT_LEVELS; level++) {
		size_t count = config->size / level_size(level);

		tdmr->entries[level] = module_alloc(m, count * sizeof(struct pamt_entry));
		if (!tdmr->entries[level])
			return -ENOMEM;
	}
	tdmr->objects = module_alloc(m, config->size / PAGE_BYTES * sizeof(void *));
	return tdmr->objects ? 0 : -ENOMEM;
}

int pamt_init(struct tdx_module *m)
{
	unsigned int count = m->config.nr_tdmrs;

	m->tdmrs = module_alloc(m, (count ? count : 1) * sizeof(*m->tdmrs));
	if (!m->tdmrs)
		return -ENOMEM;
	for (unsigned int i = 0; i < count; i++) {
		int err = tdmr_init(m, &m->tdmrs[i], &m->config.tdmr[i]);

		if (err)
			return err;
	}
	return 0;
}

void pamt_exit(struct tdx_module *m)
{
	for (unsigned int i = 0; m->tdmrs && i < m->config.nr_tdmrs; i++) {
		for (unsigned int level = 0; level < PAMT_LEVELS; level++)
			module_free(m, m->tdmrs[i].entries[level]);
		module_free(m, m->tdmrs[i].objects);
	}
	module_free(m, m->tdmrs);
}

bool pamt_operand_form(const struct tdx_module *m, uint64_t hpa, uint64_t size)
{
	return !(hpa & (size - 1)) && !(hpa & m->hkid_mask) && hpa < 1ull << MAX_PA_BITS;
}

void pamt_release(struct pamt_ref *ref)
{
	for (unsigned int level = 0; level < PAMT_LEVELS; level++) {
		if (!ref->held[level])
			continue;
		hp_unlock(&ref->held[level]->lock,
			  ref->held[level] == ref->entry ? ref->mode : LOCK_SHARED);
		ref->held[level] = NULL;
	}
	ref->entry = NULL;
}

/* The walk has reached the leaf, held shared at a large level. */
static bool walk_stop(struct pamt_ref *ref, unsigned int level, enum lock_mode mode)
{
	if (mode == LOCK_EXCLUSIVE && !hp_promote(&ref->held[level]->lock)) {
		pamt_release(ref);
		return false;
	}
	ref->entry = ref->held[level];
	ref->level = level;
	ref->mode = mode;
	return true;
}

bool pamt_walk(struct tdx_module *m, uint64_t hpa, enum lock_mode mode, unsigned int stop_level,
	       struct pamt_ref *ref)
{
	struct tdmr *tdmr = pamt_tdmr(m, hpa);

	*ref = (struct pamt_ref){.hpa = hpa};
	ref->object = &tdmr->objects[(hpa - tdmr->config.base) / PAGE_BYTES];
	for (unsigned int level = PAMT_LEVELS - 1; level > 0; level--) {
		struct pamt_entry *entry = entry_in(tdmr, hpa, level);

		if (!hp_lock(&entry->lock, LOCK_SHARED)) {
			pamt_release(ref);
			return false;
		}
		ref->held[level] = entry;
		if (atomic_load(&entry->pt) == TDX_PT_REG || level == stop_level)
			return walk_stop(ref, level, mode);
	}
	ref->held[0] = entry_in(tdmr, hpa, 0);
	if (!hp_lock(&ref->held[0]->lock, mode)) {
		ref->held[0] = NULL;
		pamt_release(ref);
		return false;
	}
	ref->entry = ref->held[0];
	ref->mode = mode;
	return true;
}

/* A page that is held and about to be used needs a state for its lines. */
static uint64_t prepare(struct tdx_module *m, struct pamt_ref *ref)
{
	if (lines_prepare(m, ref->hpa, level_size(ref->level)))
		return TDX_SUCCESS;
	pamt_release(ref);
	return TDX_SYS_BUSY;
}

uint64_t pamt_take_page(struct tdx_module *m, uint64_t hpa, unsigned int op, enum lock_mode mode,
			enum tdx_page_type pt, struct pamt_ref *ref)
{
	*ref = (struct pamt_ref){0};
	if (!pamt_operand_form(m, hpa, PAGE_BYTES))
		return TDX_OPERAND_INVALID | op;
	if (!pamt_covers(m, hpa))
		return TDX_OPERAND_ADDR_RANGE_ERROR | op;
	if (!pamt_walk(m, hpa, mode, 0, ref))
		return TDX_OPERAND_BUSY | op;
	if (ref->level != 0 || atomic_load(&ref->entry->pt) != pt) {
		pamt_release(ref);
		return TDX_PAGE_METADATA_INCORRECT | op;
	}
	return mode == LOCK_EXCLUSIVE && pt == TDX_PT_NDA ? prepare(m, ref) : TDX_SUCCESS;
}

uint64_t pamt_take_new_page(struct tdx_module *m, uint64_t hpa, unsigned int op,
			    struct pamt_ref *ref)
{
	uint64_t status = pamt_take_page(m, hpa, op, LOCK_EXCLUSIVE, TDX_PT_NDA, ref);

	if (status == TDX_SUCCESS && !module_page(m, hpa)) {
		pamt_release(ref);
		return TDX_OPERAND_ADDR_RANGE_ERROR | op;
	}
	return status;
}

/* No 4 KiB page of the 2 MiB range is in use; read without their locks, the range's entry is held.
 */
static bool all_children_free(struct tdx_module *m, uint64_t hpa)
{
	const struct pamt_entry *child = pamt_entry_at(m, hpa, 0);

	for (unsigned int i = 0; i < 512; i++)
		if (atomic_load(&child[i].pt) != TDX_PT_NDA)
			return false;
	return true;
}

uint64_t pamt_take_free_range(struct tdx_module *m, uint64_t hpa, unsigned int level,
			      unsigned int op, struct pamt_ref *ref)
{
	if (level == 0)
		return pamt_take_page(m, hpa, op, LOCK_EXCLUSIVE, TDX_PT_NDA, ref);
	*ref = (struct pamt_ref){0};
	if (!pamt_operand_form(m, hpa, level_size(level)))
		return TDX_OPERAND_INVALID | op;
	if (!pamt_covers(m, hpa))
		return TDX_OPERAND_ADDR_RANGE_ERROR | op;
	if (!pamt_walk(m, hpa, LOCK_EXCLUSIVE, level, ref))
		return TDX_OPERAND_BUSY | op;
	if (ref->level != level || atomic_load(&ref->entry->pt) != TDX_PT_NDA ||
	    !all_children_free(m, hpa)) {
		pamt_release(ref);
		return TDX_PAGE_METADATA_INCORRECT | op;
	}
	return prepare(m, ref);
}

bool pamt_take_implicit(struct tdx_module *m, uint64_t hpa, unsigned int level, enum lock_mode mode,
			struct pamt_ref *ref)
{
	struct tdmr *tdmr = pamt_tdmr(m, hpa);
	struct pamt_entry *entry;

	*ref = (struct pamt_ref){.hpa = hpa, .level = level, .mode = mode};
	if (!tdmr) {
		module_fatal(m, "a table entry names a page outside of every TDMR");
		return false;
	}
	entry = entry_in(tdmr, hpa, level);
	if (!hp_lock(&entry->lock, mode))
		return false;
	ref->held[level] = ref->entry = entry;
	ref->object = &tdmr->objects[(hpa - tdmr->config.base) / PAGE_BYTES];
	if (atomic_load(&entry->pt) <= TDX_PT_RSVD)
		module_fatal(m, "a page in use has free or reserved metadata");
	return true;
}

bool pamt_promote(struct tdx_module *m, uint64_t hpa, unsigned int level)
{
	struct pamt_entry *large = pamt_entry_at(m, hpa, level);
	struct pamt_entry *child = pamt_entry_at(m, hpa, level - 1);

	if (!hp_lock(&large->lock, LOCK_EXCLUSIVE))
		return false;
	pamt_set(large, atomic_load(&child->pt), pamt_owner(child));
	for (unsigned int i = 0; i < 512; i++)
		pamt_free(&child[i]);
	hp_unlock(&large->lock, LOCK_EXCLUSIVE);
	return true;
}

bool pamt_demote(struct tdx_module *m, uint64_t hpa, unsigned int level)
{
	struct pamt_entry *large = pamt_entry_at(m, hpa, level);
	struct pamt_entry *child = pamt_entry_at(m, hpa, level - 1);

	if (!hp_lock(&large->lock, LOCK_EXCLUSIVE))
		return false;
	for (unsigned int i = 0; i < 512; i++) {
		pamt_set(&child[i], atomic_load(&large->pt), pamt_owner(large));
		atomic_store(&child[i].bepoch, 0);
	}
	pamt_free(large);
	hp_unlock(&large->lock, LOCK_EXCLUSIVE);
	return true;
}

static bool reserved_page(const struct tdx_tdmr_config *config, uint64_t hpa)
{
	for (unsigned int i = 0; i < config->nr_reserved; i++)
		if (hpa - config->reserved[i].base < config->reserved[i].size)
			return true;
	return false;
}

static struct tdmr *tdmr_named(struct tdx_module *m, uint64_t base)
{
	struct tdmr *tdmr = pamt_tdmr(m, base);

	return tdmr && tdmr->config.base == base ? tdmr : NULL;
}

/*
 * Entries of the next 4 MiB. The arrays come zeroed, and a zero entry is a free page (NDA): only
 * what is reserved has to be written, and TDMRs that are never used cost no memory.
 */
static void init_next_entries(struct tdmr *tdmr)
{
	uint64_t next = atomic_load(&tdmr->next_init);

	for (unsigned int i = 0; i < ENTRIES_PER_INIT; i++, next += PAGE_BYTES)
		if (reserved_page(&tdmr->config, next))
			pamt_set(entry_in(tdmr, next, 0), TDX_PT_RSVD, 0);
	atomic_store(&tdmr->next_init, next);
}

/* TDH.SYS.TDMR.INIT */
uint64_t leaf_sys_tdmr_init(struct call *call)
{
	struct tdmr *tdmr = tdmr_named(call->m, call->rcx);
	uint64_t status = TDX_TDMR_ALREADY_INITIALIZED;

	call->regs->rdx = 0;
	if (!tdmr)
		return TDX_OPERAND_INVALID | TDX_OPERAND_RCX;
	if (!mutex8_lock(&tdmr->init_lock))
		return TDX_OPERAND_BUSY | TDX_OPERAND_RCX;
	if (atomic_load(&tdmr->next_init) < tdmr->config.base + tdmr->config.size) {
		init_next_entries(tdmr);
		call->regs->rdx = atomic_load(&tdmr->next_init) & ~(GIB - 1);
		status = TDX_SUCCESS;
	}
	mutex8_unlock(&tdmr->init_lock);
	return status;
}
