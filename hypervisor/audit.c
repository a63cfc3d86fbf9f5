// SPDX-License-Identifier: BSD-2-Clause
/*
 * The tables as a processor reads them, walked by the manual (APM vol. 2, "Nested Paging" and
 * "Long-Mode Page Translation"), held against what the library says it mapped. The flags A and D
 * are those that the processor left there. Shares no code with the library, and changes nothing.
 */
#include "hypervisor/hv.h"
#include "hypervisor/monitor.h"

#define P	(1ull << 0)
#define W	(1ull << 1)
#define U	(1ull << 2)
#define A	(1ull << 5)
#define D	(1ull << 6)
#define PS	(1ull << 7)
#define RSVD_51 (1ull << 51)
#define ADDR	0x000ffffffffff000ull
#define ENTRIES 512
#define SAY_MAX 8

struct walk {
	uint64_t root;
	uint64_t leaves[4], tables, accessed, dirty, writable; /* leaves by level */
	uint64_t mappings;				       /* that the library told of */
	const uint64_t *young;				       /* a bit a page, as it says */
	unsigned int faults;
};

static void fault(struct walk *w, const char *what, uint64_t gpa, unsigned int level,
		  uint64_t entry)
{
	if (w->faults++ < SAY_MAX)
		say("audit: %s: gpa %lx level %u entry %lx", what, gpa, level, entry);
}

static bool overlaps(const struct range *r, uint64_t start, uint64_t bytes)
{
	return start < r->end && start + bytes > r->start;
}

/* Young is what the processor marked: not more, not less. */
static void check_young(struct walk *w, uint64_t gpa, unsigned int level, uint64_t entry)
{
	uint64_t first = (gpa & ~shared_mask()) / 4096, n = 1ull << 9 * (level - 1);

	for (uint64_t page = first; page < first + n && page < own.start / 4096; page++) {
		if ((w->young[page / 64] >> page % 64 & 1) == !!(entry & A))
			continue;
		fault(w, "the library says another thing of its use", page * 4096, level, entry);
		return;
	}
}

/* Shared and ordinary memory is the machine's at its own address; private memory is the spare. */
static void check_leaf(struct walk *w, uint64_t gpa, unsigned int level, uint64_t entry)
{
	uint64_t bytes = 4096ull << 9 * (level - 1), pa = entry & ADDR & ~(bytes - 1);
	bool is_private = options.td && !(gpa & shared_mask());

	w->leaves[level]++;
	w->accessed += !!(entry & A);
	w->dirty += !!(entry & D);
	w->writable += !!(entry & W);
	if ((entry & ADDR & (bytes - 1)) || !(entry & U))
		fault(w, "a leaf that the processor would not take", gpa, level, entry);
	/* Where writes are watched W is taken from what was written. */
	if ((entry & D) && !(entry & W) && !options.dirty && !options.split)
		fault(w, "a leaf was written that can't be", gpa, level, entry);
	if (is_private) {
		if (pa != spare.start + gpa)
			fault(w, "private memory is not behind its address", gpa, level, entry);
		return;
	}
	check_young(w, gpa, level, entry);
	if (pa != (gpa & ~shared_mask()))
		fault(w, "memory is not behind its own address", gpa, level, entry);
	if (overlaps(&own, pa, bytes))
		fault(w, "the hypervisor's memory is in reach", gpa, level, entry);
	if ((entry & W) && overlaps(&(struct range){APIC_BASE, APIC_BASE + 4096, 0}, pa, bytes))
		fault(w, "the local APIC can be written", gpa, level, entry);
}

static void walk_table(struct walk *w, uint64_t table, uint64_t gpa, unsigned int level)
{
	const volatile uint64_t *entries = phys(table);

	w->tables++;
	for (uint64_t i = 0; i < ENTRIES; i++) {
		uint64_t at = gpa + (i << (12 + 9 * (level - 1))), entry = entries[i];

		/* A reserved bit: the processor goes no further (a cached "nothing is there"). */
		if (!(entry & P) || (entry & RSVD_51))
			continue;
		if (level == 1 || (entry & PS))
			check_leaf(w, at, level, entry);
		else
			walk_table(w, entry & ADDR, at, level - 1);
	}
}

static uint64_t entry_of(const struct walk *w, uint64_t gpa, unsigned int level)
{
	uint64_t table = w->root;

	for (unsigned int l = 4;; l--) {
		uint64_t entry =
			((const volatile uint64_t *)phys(table))[gpa >> (12 + 9 * (l - 1)) & 511];

		if (l == level || !(entry & P) || (entry & PS))
			return l == level ? entry : 0;
		table = entry & ADDR;
	}
}

static bool check_mapping(void *ctx, const struct tpt_mapping *m)
{
	struct walk *w = ctx;
	uint64_t gpa = m->gfn << TPT_PAGE_SHIFT, entry;

	if (!m->leaf)
		return true;
	if (m->tree == TPT_TREE_DIRECT)
		gpa |= shared_mask();
	entry = entry_of(w, gpa, m->level);
	if (m->blocked != !(entry & P))
		fault(w, "what the processor sees of it is another", gpa, m->level, entry);
	if (m->blocked)
		return true;
	w->mappings++;
	if (m->tree == TPT_TREE_MIRROR ? (entry & ADDR) != (m->spte.w & ADDR) : entry != m->spte.w)
		fault(w, "the library says something else", gpa, m->level, entry);
	return true;
}

unsigned int audit(void)
{
	struct walk w = {0};
	char text[256];
	bool flush = false;
	unsigned int found = (unsigned int)tpt_vm_audit(vm, text, sizeof(text));

	if (found)
		say("audit: the library finds %u faults: %s", found, text);
	w.root = vm_root(&vcpus[0]);
	if (options.td) {
		w.root = monitor_enter(0, w.root, &flush);
		monitor_leave(0);
	}
	w.young = vm_young();
	walk_table(&w, w.root, 0, 4);
	tpt_vm_for_each_mapping(vm, check_mapping, &w);
	if (w.mappings != w.leaves[1] + w.leaves[2] + w.leaves[3])
		fault(&w, "the processor sees another number of leaves", 0, 0, w.mappings);
	say("audit: %lu leaves of 4K, %lu of 2M, %lu of 1G in %lu tables, as the library says; A in %lu, "
	    "D in %lu, W in %lu; faults found: %u",
	    w.leaves[1], w.leaves[2], w.leaves[3], w.tables, w.accessed, w.dirty, w.writable,
	    found + w.faults);
	return found + w.faults;
}
