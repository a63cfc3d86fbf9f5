/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What one Secure-EPT entry says, and how to reach it. Bits in, meaning out; a walk down the words
 * in memory; the entry's own lock. Never ownership, epochs or registers.
 *
 *  63  62  61  60..58  57  56  55  54   53   52   51........12  11   10 9 8  7  6    5..3 2 1 0
 * SVE TDIO TDUP TDAL  VPW TDP TDB TDBW TDEX TDHP  HPA           TDEL Xu D A PS IPAT MT   X W R
 */
#ifndef TDX_MODULE_SEPT_H
#define TDX_MODULE_SEPT_H

#include <stdbool.h>
#include <stdint.h>

#define SEPT_R		(1ull << 0)
#define SEPT_W		(1ull << 1)
#define SEPT_X		(1ull << 2)
#define SEPT_RWX	7ull
#define SEPT_MT		(7ull << 3)
#define SEPT_MT_WB	(6ull << 3)
#define SEPT_IPAT	(1ull << 6)
#define SEPT_PS		(1ull << 7)
#define SEPT_D		(1ull << 9)
#define SEPT_LOCK	(1ull << 11)
#define SEPT_HPA	0x000ffffffffff000ull
#define SEPT_HOST	(1ull << 52) /* host priority */
#define SEPT_TDEX	(1ull << 53)
#define SEPT_TDBW	(1ull << 54)
#define SEPT_TDB	(1ull << 55)
#define SEPT_TDP	(1ull << 56)
#define SEPT_TDAL_SHIFT 58
#define SEPT_TDAL	(7ull << SEPT_TDAL_SHIFT) /* bit per L2 VM that has an alias of this entry */
#define SEPT_SVE	(1ull << 63)

#define SEPT_STATE_BITS (SEPT_PS | SEPT_IPAT | SEPT_TDP | SEPT_TDB | SEPT_TDBW | SEPT_TDEX | SEPT_D)

/* A 2 MiB page that is being accepted keeps here how many of its 4 KiB are zeroed. */
#define SEPT_ACCEPT_COUNTER (0x1ffull << 12)

/* The states; those of migration are not modelled and read as SEPT_OTHER. */
enum sept_state {
	S_FREE,
	S_NL_MAPPED,
	S_NL_BLOCKED,
	S_MAPPED,
	S_BLOCKED,
	S_PENDING,
	S_PENDING_BLOCKED,
	S_OTHER,
};

#define STATES(s) (1u << (s))

enum sept_state sept_state(uint64_t raw);
/* The state's number in the ABI, 0 for one that does not exist. */
uint8_t sept_public_state(uint64_t raw);

static inline bool sept_in(uint64_t raw, unsigned int states)
{
	return STATES(sept_state(raw)) & states;
}

#define S_ANY_BLOCKED  (STATES(S_NL_BLOCKED) | STATES(S_BLOCKED) | STATES(S_PENDING_BLOCKED))
#define S_ANY_NON_LEAF (STATES(S_NL_MAPPED) | STATES(S_NL_BLOCKED))
#define S_ANY_PENDING  (STATES(S_PENDING) | STATES(S_PENDING_BLOCKED))
#define S_ANY_LEAF     (STATES(S_MAPPED) | STATES(S_BLOCKED) | S_ANY_PENDING)

/* Memory that the entry gives a translation to, now or again later: tracking is owed for it. */
#define S_NEEDS_TRACKING (S_ANY_LEAF | S_ANY_NON_LEAF)

static inline bool sept_is_leaf(uint64_t raw)
{
	return raw & SEPT_PS;
}

/* A new entry. */
uint64_t sept_free_entry(void);
uint64_t sept_table_entry(uint64_t hpa);
uint64_t sept_leaf_entry(enum sept_state state, uint64_t hpa);

/* The same entry in its blocked, or unblocked, twin state; lock bits and aliases stay. */
uint64_t sept_block(uint64_t raw, unsigned int level);
uint64_t sept_unblock(uint64_t raw);
/* PENDING becomes MAPPED, readable, writable and executable. */
uint64_t sept_accept(uint64_t raw);

/* HPA of the page or table, without the accept counter of a 2 MiB page. */
uint64_t sept_hpa(uint64_t raw, unsigned int level);

/* What the ABI shows of an entry in RCX. */
uint64_t sept_public_entry(uint64_t raw);

/* Bits of the memory word, read and written as one atomic access. */
static inline uint64_t sept_read(const uint64_t *entry)
{
	return __atomic_load_n(entry, __ATOMIC_SEQ_CST);
}

static inline void sept_write(uint64_t *entry, uint64_t raw)
{
	__atomic_store_n(entry, raw, __ATOMIC_SEQ_CST);
}

/* The entry's lock: bit 11, with bit 52 saying that the host wants it. */
bool sept_host_lock(uint64_t *entry);
/* 0, OPERAND_BUSY or OPERAND_BUSY_HOST_PRIORITY, without operand. */
uint64_t sept_guest_lock(uint64_t *entry);
void sept_unlock(uint64_t *entry);

struct tdx_module;
struct mem_key;
struct td;

#define SEPT_NO_LEVEL 7u /* of no entry */

struct sept_walk {
	uint64_t *entry;
	uint64_t raw;	    /* as read on the way */
	unsigned int level; /* where it stopped; SEPT_NO_LEVEL: at a line that can't be read */
	uint8_t nr_tables;
	uint64_t tables[5]; /* HPAs, root first */
};

/*
 * Down to @level, or to where an entry has no permission or is a leaf. True: stopped at @level.
 * @level 0 with sept_walk_leaf: to any leaf that is present.
 */
bool sept_walk(struct tdx_module *m, const struct td *td, uint64_t gpa, unsigned int level,
	       struct sept_walk *walk);
bool sept_walk_leaf(struct tdx_module *m, const struct td *td, uint64_t gpa,
		    struct sept_walk *walk);

/* What the processor's walk finds: as sept_walk_leaf(), but poison is the guest's end, not ours. */
bool sept_walk_processor(struct tdx_module *m, const struct td *td, uint64_t gpa,
			 struct sept_walk *walk);

/* Down to @level through blocked tables too: for dumps. True: stopped at @level. */
bool sept_walk_any(struct tdx_module *m, const struct td *td, uint64_t gpa, unsigned int level,
		   struct sept_walk *walk);

/*
 * Down any tree of this shape from table @root to @level or to an entry that @descend does not go
 * through. A line that can't be read under @key (NULL: nobody looks) ends it: false.
 */
typedef bool sept_descend_fn(uint64_t raw);
bool sept_walk_down(struct tdx_module *m, const struct td *td, uint64_t root, struct mem_key *key,
		    uint64_t gpa, unsigned int level, sept_descend_fn *descend,
		    struct sept_walk *walk);
/* The same by the module itself, under the TD's key: a machine check is its end. */
bool sept_walk_module(struct tdx_module *m, const struct td *td, uint64_t root, uint64_t gpa,
		      unsigned int level, sept_descend_fn *descend, struct sept_walk *walk);

/* The words of a table page; NULL if no memory stands behind it. */
uint64_t *sept_table(struct tdx_module *m, uint64_t hpa);
void sept_fill_free(uint64_t *table);

#endif
