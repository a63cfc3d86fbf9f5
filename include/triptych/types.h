/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The units that everything here is counted in. Types keep them apart where the compiler can do
 * so at no cost: only a GFN is a plain integer, because only GFNs are computed with all the time.
 */
#ifndef TRIPTYCH_TYPES_H
#define TRIPTYCH_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TPT_PAGE_SHIFT 12
#define TPT_PAGE_SIZE  4096u

/* Guest frame number: guest-physical address / 4 KiB, shared bit removed unless said otherwise. */
typedef uint64_t tpt_gfn;

/* Guest-physical address, as the guest or processor used it (the shared bit may be in it). */
typedef struct {
	uint64_t a;
} tpt_gpa;

/* Host page frame number: host-physical address / 4 KiB. */
typedef struct {
	uint64_t n;
} tpt_pfn;

/* Host-physical address. */
typedef struct {
	uint64_t a;
} tpt_hpa;

/* Host-virtual address: what a memslot's ordinary memory is named by. Never dereferenced here. */
typedef struct {
	uint64_t a;
} tpt_hva;

/* One entry of a second-stage page table, in whichever format its tree has. */
typedef struct {
	uint64_t w;
} tpt_spte;

/* Level of an entry: what a leaf there maps. The numbers are KVM's PG_LEVEL_*. */
enum tpt_level {
	TPT_LEVEL_NONE = 0,
	TPT_LEVEL_4K = 1,
	TPT_LEVEL_2M = 2,
	TPT_LEVEL_1G = 3,
	TPT_LEVEL_512G = 4, /* tables only */
	TPT_LEVEL_256T = 5, /* tables only */
};
#define TPT_LEVEL_MAX	   5
#define TPT_LEVEL_MAX_LEAF TPT_LEVEL_1G

/* Formats of the tables that a processor walks. */
enum tpt_format {
	TPT_FORMAT_EPT = 0, /* Intel SDM vol. 3, "The Extended Page Table Mechanism" */
	TPT_FORMAT_NPT = 1, /* AMD APM vol. 2, "Nested Paging": long-mode paging entries */
};

/* The three sets of tables. External tables are not ours; a mirror entry stands for its twin. */
enum tpt_tree_kind {
	TPT_TREE_DIRECT = 0,
	TPT_TREE_MIRROR = 1,
};

/* Access bits of a mapping or an access. */
#define TPT_ACC_EXEC  1u
#define TPT_ACC_WRITE 2u
#define TPT_ACC_READ  4u /* "user" in long-mode tables: a second-stage access always is one */
#define TPT_ACC_ALL   7u

static inline tpt_gpa tpt_gpa_make(uint64_t a)
{
	return (tpt_gpa){a};
}

static inline tpt_hva tpt_hva_make(uint64_t a)
{
	return (tpt_hva){a};
}

static inline tpt_pfn tpt_pfn_make(uint64_t n)
{
	return (tpt_pfn){n};
}

static inline tpt_hpa tpt_pfn_to_hpa(tpt_pfn pfn)
{
	return (tpt_hpa){pfn.n << TPT_PAGE_SHIFT};
}

static inline tpt_pfn tpt_hpa_to_pfn(tpt_hpa hpa)
{
	return (tpt_pfn){hpa.a >> TPT_PAGE_SHIFT};
}

/* 4 KiB pages that an entry at @level, 1 or more, covers: 1, 512, 262144, ... The mask is the one
 * that a 64-bit shift has. */
static inline uint64_t tpt_level_pages(unsigned int level)
{
	return 1ull << (9 * (level - 1) & 63);
}

/* First GFN of the block at @level that @gfn lies in. */
static inline tpt_gfn tpt_gfn_round(tpt_gfn gfn, unsigned int level)
{
	return gfn & ~(tpt_level_pages(level) - 1);
}

/* Half-open range of guest frames [start, end). Empty if start >= end. */
struct tpt_gfn_range {
	tpt_gfn start;
	tpt_gfn end;
};

#ifdef __cplusplus
}
#endif
#endif
