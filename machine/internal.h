/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the parts of the model processor share among themselves. Included by machine/ .c files only;
 * no rule of the architecture is decided here.
 *
 * Locks, outermost first: one LP's lock; then the memory's or the reports' lock. No two LPs' locks
 * are ever held at once.
 */
#ifndef MACHINE_INTERNAL_H
#define MACHINE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "machine/machine.h"
#include "tdx/port.h"

#define PAGE_SHIFT   12
#define PAGE_BYTES   (1ull << PAGE_SHIFT)
#define CHUNK_SHIFT  21
#define CHUNK_BYTES  (1ull << CHUNK_SHIFT)
#define CHUNK_PAGES  512u
#define CHUNK_WORDS  (CHUNK_PAGES / 64)
#define PA_BITS	     52
#define ADDRESS_MASK 0x000ffffffffff000ull /* bits 51:12 of every table entry and root pointer */

#define RIGHT_R	  MACHINE_READ
#define RIGHT_W	  MACHINE_WRITE
#define RIGHT_X	  MACHINE_EXEC
#define RIGHT_U	  MACHINE_USER
#define RIGHT_ALL (RIGHT_R | RIGHT_W | RIGHT_X | RIGHT_U)

static inline unsigned int level_shift(unsigned int level)
{
	return PAGE_SHIFT + 9 * (level - 1);
}

static inline uint64_t level_base(uint64_t addr, unsigned int level)
{
	return addr & ~((1ull << level_shift(level)) - 1);
}

/* ---- mem.c ---------------------------------------------------------------------------------- */

/* The state of 2 MiB of frames. Made on first use, lives as long as the machine. */
struct chunk {
	_Atomic uint64_t used[CHUNK_WORDS]; /* one bit a page; written under mem.lock */
	uint64_t dirty[CHUNK_WORDS];	    /* pages that once were in use: not known to be zero */
	_Atomic uint64_t freed_whole;	    /* clock of the last free of all of it */
	_Atomic(_Atomic uint64_t *) freed_page; /* 512 clocks of single frees, made on first use */
	uint8_t *base;				/* content; pages appear on first touch */
	uint64_t hpa;
	struct chunk *next_outside; /* list of the chunks outside of every region */
};

#define DIR_BITS 15
#define TOP_BITS (PA_BITS - CHUNK_SHIFT - DIR_BITS)

struct chunk_dir {
	_Atomic(struct chunk *) chunk[1u << DIR_BITS];
};

struct region {
	uint64_t start, size;
	uint8_t *base;
	uint64_t next_small;  /* byte offset where the search for a small block goes on, upward */
	uint64_t next_large;  /* and for one of whole chunks, downward from the end */
	uint64_t small_freed; /* pages freed since the upward search last began at the bottom */
};

struct mem {
	pthread_mutex_t lock; /* allocation and free; never lookups */
	struct region regions[MACHINE_MAX_REGIONS];
	unsigned int nr_regions;
	struct chunk *outside;
	_Atomic uint64_t used;
	_Atomic(struct chunk_dir *) *top;
};

int mem_init(struct machine *machine);
void mem_exit(struct machine *machine);
/*
 * Give a block back; *when is the clock of it. Nobody is told: machine_mem_free() is the judge's.
 * -EINVAL; -ENOENT if a page of it is not in use; -ENOMEM.
 */
int mem_free_block(struct machine *machine, uint64_t hpa, unsigned int order, uint64_t *when);
/* Clock of the last free of the frame that @hpa is in; 0 if it never was freed. Lock-free. */
uint64_t mem_freed_at(const struct machine *machine, uint64_t hpa);

/* ---- tlb.c ---------------------------------------------------------------------------------- */

/* What a cached entry was made for: together with the GPA and level, its identity. */
struct space_id {
	enum machine_root_kind kind;
	uint64_t ctx; /* EPT: root table (EP4TA); NPT: tag (ASID); TD: TDR */
};

/* One translation (leaf) or one paging-structure cache entry (table) of one LP. */
struct cached {
	struct space_id id;
	uint64_t tag;
	uint64_t root;	    /* table under which it was made; 0 for a private one */
	uint64_t gpa;	    /* first byte that it covers */
	uint64_t hpa;	    /* leaf: of the first byte; table: of the next table */
	uint64_t read_at;   /* clock when its own entry was read: judges frees */
	uint64_t path_at;   /* clock of the oldest entry that led to it: judges promises */
	uint64_t broken_at; /* ticket of the promise that it should not have outlived, 0 = none */
	const char *reason; /* of that promise */
	uint8_t level;	    /* of its own entry */
	bool table;
	uint8_t rights; /* AND over the path */
	uint8_t memtype;
	bool ipat;
	bool dirty; /* writes need not set D */
	/* the cache's own */
	uint32_t hash_next, older, newer;
};

struct tlb {
	struct cached *slots;
	uint32_t *buckets;
	uint32_t nr_slots, nr_buckets, nr_used;
	uint32_t unused;			  /* list of free slots, by hash_next */
	uint32_t oldest, newest;		  /* use order */
	uint32_t count[2][MACHINE_MAX_LEVEL + 1]; /* [table][level] */
	uint32_t limit;				  /* 0 = none */
	bool random;
	uint64_t seed;
};

int tlb_init(struct tlb *tlb, const struct machine_config *config, unsigned int cpu);
void tlb_exit(struct tlb *tlb);
/* The entry of @level that covers @gpa, or NULL; it becomes the newest. */
struct cached *tlb_find(struct tlb *tlb, struct space_id id, uint64_t gpa, unsigned int level,
			bool table);
/* Copy *entry in, replacing one of the same identity; returns the number of entries evicted. */
unsigned int tlb_insert(struct tlb *tlb, const struct cached *entry);
void tlb_drop(struct tlb *tlb, struct cached *entry);
/* Drop every leaf and table entry that covers @gpa; returns how many. */
unsigned int tlb_drop_gpa(struct tlb *tlb, struct space_id id, uint64_t gpa);
/* Call @fn for each entry of @tag that overlaps [start, end); @fn may drop the entry it is given.
 */
void tlb_each(struct tlb *tlb, uint64_t tag, uint64_t start, uint64_t end,
	      void (*fn)(struct tlb *tlb, struct cached *entry, void *arg), void *arg);

/* ---- walk_ept.c, walk_npt.c ----------------------------------------------------------------- */

/* The tables that one access goes through. */
struct space {
	const struct format *format; /* NULL: the Secure EPT, walked by the module */
	struct space_id id;
	uint64_t tag;
	uint64_t root;
	uint8_t levels;
	bool ad; /* the processor maintains A and D */
};

/* One entry, understood. */
struct decoded {
	enum machine_entry_kind kind;
	uint8_t rights;
	uint64_t target;
	uint8_t memtype;
	bool ipat;
};

struct format {
	uint64_t accessed, dirty; /* flag bits */
	void (*decode)(const struct machine_config *config, uint64_t entry, unsigned int level,
		       struct decoded *out);
	/* Rights that an access of @kind needs; RIGHT_W also means that it sets D. */
	unsigned int (*need)(unsigned int kind, bool ad);
	/* Fill out->outcome and out->error for a walk that ended at an entry of @end with @rights.
	 */
	void (*fault)(const struct machine_config *config, unsigned int kind, bool ad,
		      enum machine_entry_kind end, unsigned int rights, struct machine_result *out);
};

extern const struct format ept_format;
extern const struct format npt_format;

/* Check a root as VM entry does and describe its space. -EINVAL. */
int ept_space(const struct machine *machine, const struct machine_root *root, struct space *space);
int npt_space(const struct machine *machine, const struct machine_root *root, struct space *space);
/* The same for either kind. */
int root_space(const struct machine *machine, const struct machine_root *root, struct space *space);

/* ---- pml.c ---------------------------------------------------------------------------------- */

/* One LP's page-modification log. */
struct pml {
	bool on;
	uint16_t index; /* next entry to write: 511 downwards; above it: full */
	uint64_t gpa[MACHINE_PML_ENTRIES];
};

/* Must an access that sets A or D in a table of @space exit instead? Under cpu->lock. */
bool pml_is_full(const struct machine_cpu *cpu, const struct space *space);
/* An access to @gpa set D in a leaf of @space. Not if pml_is_full(). Under cpu->lock. */
void pml_log(struct machine_cpu *cpu, const struct space *space, uint64_t gpa);

/* ---- machine.c, cpu.c, judge.c -------------------------------------------------------------- */

struct machine_cpu {
	_Alignas(64) pthread_mutex_t lock; /* everything below up to the atomics */
	struct machine *machine;
	unsigned int id;
	struct machine_root root;
	struct space space; /* of an EPT or NPT root */
	uint64_t loaded_at; /* clock of machine_cpu_load() */
	struct tlb tlb;
	struct pml pml;
	struct machine_counters counters;
	_Atomic uint64_t stay; /* odd: in guest mode; a new number for each stay */
	_Atomic bool kick;     /* leave at the next access */
	_Atomic bool entered;  /* between enter and leave, by thread `owner` */
	_Atomic(pthread_t) owner;
};

struct judge {
	pthread_mutex_t lock;
	struct machine_report kept[MACHINE_MAX_REPORTS];
	unsigned int nr_kept;
	uint64_t count;
};

struct machine {
	struct machine_config config;
	struct mem mem;
	struct judge judge;
	const struct tdx_port_module *module_ops;
	void *module;
	struct machine_cpu *cpus;
	_Alignas(64) _Atomic uint64_t clock; /* moves at each ticket and each free */
};

/* Move the clock; returns the new time. */
static inline uint64_t clock_tick(struct machine *machine)
{
	return atomic_fetch_add(&machine->clock, 1) + 1;
}

void judge_report(struct machine *machine, const struct machine_report *report);
/*
 * May @entry of @cpu be used for @gpa? If not, false is returned, it is reported, and all that is
 * cached for @gpa is dropped, as the missing flush would have done: one error is one report. Under
 * cpu->lock.
 */
bool judge_use(struct machine_cpu *cpu, struct cached *entry, uint64_t gpa);
/* A walk of @cpu met a table or a leaf at @hpa: report it if that is freed memory. */
void judge_target(struct machine_cpu *cpu, const struct space *space, uint64_t gpa, uint64_t hpa,
		  unsigned int level, bool table);

#endif
