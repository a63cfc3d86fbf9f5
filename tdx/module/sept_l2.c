// SPDX-License-Identifier: BSD-2-Clause
/* L2 Secure-EPT entries and how they follow their L1 twins. Never PAMT, registers or the L1 entry.
 */
#include "tdx/module/sept_l2.h"
#include "tdx/module/internal.h"

#define L2_XU	(1ull << 10)
#define L2_TDB	(1ull << 55)
#define L2_VGP	(1ull << 57)
#define L2_PWA	(1ull << 58)
#define L2_TDWR (1ull << 59) /* W of a blocked leaf */
#define L2_SSS	(1ull << 60)
/* R, Xs, Xu of a blocked leaf, where a mapped one has its memory type. */
#define L2_TDRD (1ull << 3)
#define L2_TDXS (1ull << 4)
#define L2_TDXU (1ull << 5)

#define L2_TABLE_BITS (SEPT_RWX | L2_XU)

static bool is_table(uint64_t raw)
{
	return raw && !sept_is_leaf(raw);
}

uint8_t sept_l2_public_state(uint64_t raw)
{
	/* The module looks up the state by a key that holds R: a readable leaf finds nothing. */
	if (!raw)
		return 64;
	if (!sept_is_leaf(raw))
		return raw & L2_TDB ? 193 : 196;
	if (raw & SEPT_R)
		return 0;
	return raw & L2_TDB ? 65 : 68;
}

uint64_t sept_l2_table_entry(uint64_t hpa)
{
	return hpa | L2_TABLE_BITS;
}

static uint64_t pick(uint64_t from, uint64_t bit, uint64_t to)
{
	return from & bit ? to : 0;
}

uint64_t sept_l2_leaf_entry(uint64_t hpa, uint16_t attributes)
{
	return hpa | SEPT_PS | SEPT_IPAT | SEPT_MT_WB | (attributes & SEPT_RWX) |
	       pick(attributes, L2_ATTR_XU, L2_XU) | pick(attributes, L2_ATTR_VGP, L2_VGP) |
	       pick(attributes, L2_ATTR_PWA, L2_PWA) | pick(attributes, L2_ATTR_SSS, L2_SSS) |
	       pick(attributes, L2_ATTR_SVE, SEPT_SVE);
}

uint64_t sept_l2_block(uint64_t raw)
{
	if (!sept_is_leaf(raw))
		return (raw & SEPT_HPA) | L2_TDB;
	return (raw & ~(SEPT_MT | SEPT_RWX | L2_XU)) | L2_TDB | pick(raw, SEPT_R, L2_TDRD) |
	       pick(raw, SEPT_W, L2_TDWR) | pick(raw, SEPT_X, L2_TDXS) | pick(raw, L2_XU, L2_TDXU);
}

uint64_t sept_l2_unblock(uint64_t raw)
{
	if (!sept_is_leaf(raw))
		return sept_l2_table_entry(raw & SEPT_HPA);
	return (raw & ~(SEPT_MT | L2_TDB | L2_TDWR)) | SEPT_MT_WB | pick(raw, L2_TDRD, SEPT_R) |
	       pick(raw, L2_TDWR, SEPT_W) | pick(raw, L2_TDXS, SEPT_X) | pick(raw, L2_TDXU, L2_XU);
}

uint16_t sept_l2_attributes(uint64_t raw)
{
	if (!sept_is_leaf(raw))
		return 0;
	if (raw & L2_TDB)
		raw = sept_l2_unblock(raw);
	return (uint16_t)(L2_ATTR_VALID | (raw & SEPT_RWX) | pick(raw, L2_XU, L2_ATTR_XU) |
			  pick(raw, L2_VGP, L2_ATTR_VGP) | pick(raw, L2_PWA, L2_ATTR_PWA) |
			  pick(raw, L2_SSS, L2_ATTR_SSS) | pick(raw, SEPT_SVE, L2_ATTR_SVE));
}

bool sept_l2_find(struct tdx_module *m, const struct td *td, unsigned int vm, uint64_t gpa,
		  unsigned int level, struct sept_walk *walk)
{
	return sept_walk_module(m, td, td->tdcx[TDCX_L2_ROOT + vm - 1], gpa, level, is_table, walk);
}

/* The alias that @vm has of L1 entry @l1; NULL if it has none. */
static uint64_t *alias(struct tdx_module *m, const struct td *td, unsigned int vm, uint64_t gpa,
		       unsigned int level, uint64_t l1)
{
	struct sept_walk walk;

	if (vm > td->num_l2_vms || !sept_l2_has_alias(l1, vm))
		return NULL;
	if (sept_l2_find(m, td, vm, gpa, level, &walk))
		return walk.entry;
	module_fatal(m, "an L2 alias has no entry");
	return NULL;
}

typedef uint64_t change_fn(uint64_t raw);

static void change_all(struct tdx_module *m, const struct td *td, uint64_t gpa, unsigned int level,
		       uint64_t l1, change_fn *change)
{
	for (unsigned int vm = 1; vm < MAX_VMS; vm++) {
		uint64_t *entry = alias(m, td, vm, gpa, level, l1);

		if (entry)
			sept_write(entry, change(sept_read(entry)));
	}
}

/* An alias of a pending page is blocked already. */
static uint64_t block_once(uint64_t raw)
{
	return raw & L2_TDB ? raw : sept_l2_block(raw);
}

static uint64_t unblock_once(uint64_t raw)
{
	return raw & L2_TDB ? sept_l2_unblock(raw) : raw;
}

static uint64_t clear(uint64_t raw)
{
	(void)raw;
	return 0;
}

void sept_l2_block_all(struct tdx_module *m, const struct td *td, uint64_t gpa, unsigned int level,
		       uint64_t l1)
{
	change_all(m, td, gpa, level, l1, block_once);
}

void sept_l2_unblock_all(struct tdx_module *m, const struct td *td, uint64_t gpa,
			 unsigned int level, uint64_t l1)
{
	change_all(m, td, gpa, level, l1, unblock_once);
}

void sept_l2_clear_all(struct tdx_module *m, const struct td *td, uint64_t gpa, unsigned int level,
		       uint64_t l1)
{
	change_all(m, td, gpa, level, l1, clear);
}

void sept_l2_move_all(struct tdx_module *m, const struct td *td, uint64_t gpa, uint64_t l1,
		      uint64_t hpa)
{
	for (unsigned int vm = 1; vm < MAX_VMS; vm++) {
		uint64_t *entry = alias(m, td, vm, gpa, 0, l1);

		if (entry)
			sept_write(entry, (sept_read(entry) & ~SEPT_HPA) | hpa);
	}
}

uint64_t sept_l2_attributes_all(struct tdx_module *m, const struct td *td, uint64_t gpa,
				unsigned int level, uint64_t l1)
{
	uint64_t all = 0;

	if (!sept_is_leaf(l1))
		return 0;
	for (unsigned int vm = 1; vm < MAX_VMS; vm++) {
		uint64_t *entry = alias(m, td, vm, gpa, level, l1);

		if (entry)
			all |= (uint64_t)sept_l2_attributes(sept_read(entry)) << (16 * vm);
	}
	return all;
}
