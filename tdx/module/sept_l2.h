/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The Secure EPTs of L2 VMs: trees that mirror the TD's own one, entry by entry, where an alias
 * exists (bits 60:58 of the TD's entry). Only what an L2 entry says and how it follows its L1 twin.
 *
 * Locking: the L1 entry's lock covers its aliases.
 */
#ifndef TDX_MODULE_SEPT_L2_H
#define TDX_MODULE_SEPT_L2_H

#include <stdbool.h>
#include <stdint.h>

#include "tdx/module/sept.h"

/* Attributes of one VM, 16 bits (TDG.MEM.PAGE.ATTR.RD/WR). */
#define L2_ATTR_R     (1u << 0)
#define L2_ATTR_W     (1u << 1)
#define L2_ATTR_XS    (1u << 2)
#define L2_ATTR_XU    (1u << 3)
#define L2_ATTR_VGP   (1u << 4)
#define L2_ATTR_PWA   (1u << 5)
#define L2_ATTR_SSS   (1u << 6)
#define L2_ATTR_SVE   (1u << 7)
#define L2_ATTR_RSVD  0x7f00u
#define L2_ATTR_VALID (1u << 15)

static inline bool sept_l2_has_alias(uint64_t l1, unsigned int vm)
{
	return l1 >> (SEPT_TDAL_SHIFT + vm - 1) & 1;
}

static inline uint64_t sept_l2_alias_bit(unsigned int vm)
{
	return 1ull << (SEPT_TDAL_SHIFT + vm - 1);
}

uint8_t sept_l2_public_state(uint64_t raw);
uint64_t sept_l2_table_entry(uint64_t hpa);
uint64_t sept_l2_leaf_entry(uint64_t hpa, uint16_t attributes);
uint64_t sept_l2_block(uint64_t raw);
uint64_t sept_l2_unblock(uint64_t raw);
/* Attributes of a leaf entry, blocked or not; 0 if it is none. */
uint16_t sept_l2_attributes(uint64_t raw);

/* Entry of @gpa at @level in @vm's tree, through blocked tables too. False: the tree ends above. */
bool sept_l2_find(struct tdx_module *m, const struct td *td, unsigned int vm, uint64_t gpa,
		  unsigned int level, struct sept_walk *walk);

/* The aliases of L1 entry @l1 follow it. */
void sept_l2_block_all(struct tdx_module *m, const struct td *td, uint64_t gpa, unsigned int level,
		       uint64_t l1);
void sept_l2_unblock_all(struct tdx_module *m, const struct td *td, uint64_t gpa,
			 unsigned int level, uint64_t l1);
void sept_l2_clear_all(struct tdx_module *m, const struct td *td, uint64_t gpa, unsigned int level,
		       uint64_t l1);
void sept_l2_move_all(struct tdx_module *m, const struct td *td, uint64_t gpa, uint64_t l1,
		      uint64_t hpa);

/* RDX of ATTR.RD and R8 of SEPT.RD: 16 bits for each VM. */
uint64_t sept_l2_attributes_all(struct tdx_module *m, const struct td *td, uint64_t gpa,
				unsigned int level, uint64_t l1);

#endif
