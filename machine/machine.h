/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The model processor: physical memory, logical processors with TLBs, EPT and NPT walkers, and the
 * judge of flushes. Knows nothing of how a hypervisor's MMU works: tables are decoded from the
 * manuals (Intel SDM volume 3 chapter "VMX support for address translation", AMD APM volume 2
 * section 15.25), never by code shared with the tables' owner.
 *
 * Units: gpa and hpa are bytes. Levels are 1 = 4 KiB, 2 = 2 MiB, 3 = 1 GiB, 4 and 5 = tables only.
 * GPA ranges are [start, end) with end exclusive; MACHINE_GPA_END as end means "to the top".
 * Functions return 0 or a negative errno unless said otherwise. All functions may be called from
 * any thread, but at most one thread at a time drives one logical processor (LP).
 */
#ifndef MACHINE_MACHINE_H
#define MACHINE_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct machine;
struct machine_cpu;
struct tdx_port_module;
struct tdx_port_processor;

#define MACHINE_MAX_CPUS    64
#define MACHINE_MAX_REGIONS 64
#define MACHINE_MAX_ORDER   18 /* a block of 2^18 pages = 1 GiB */
#define MACHINE_MAX_LEVEL   5
#define MACHINE_MAX_REPORTS 256 /* kept; more are only counted */
#define MACHINE_GPA_END	    UINT64_MAX
#define MACHINE_TAG_ALL	    UINT64_MAX
#define MACHINE_NOW	    UINT64_MAX

/* ---- the machine ---------------------------------------------------------------------------- */

/* A range of physical memory that frames are handed out from. Bytes, both multiples of 2 MiB. */
struct machine_region {
	uint64_t start;
	uint64_t size;
};

enum machine_evict { MACHINE_EVICT_LRU, MACHINE_EVICT_RANDOM };

struct machine_config {
	unsigned int nr_cpus;	 /* 1..MACHINE_MAX_CPUS */
	unsigned int nr_regions; /* 1..MACHINE_MAX_REGIONS */
	struct machine_region
		regions[MACHINE_MAX_REGIONS]; /* must not overlap; below 2^maxphyaddr */
	uint8_t maxphyaddr;		      /* 36..52: entry bits 51:maxphyaddr are reserved */
	bool page_1g;	    /* 1 GiB leaves exist (EPT capability bit 17, CPUID Page1GB) */
	bool five_level;    /* 5-level tables may be loaded */
	bool ept_exec_only; /* XWR = 100b is legal (EPT capability bit 0) */
	bool ept_ad;	    /* EPTP bit 6 may be set (EPT capability bit 21) */
	bool npt_nxe;	    /* host EFER.NXE: entry bit 63 is NX, else reserved */
	bool npt_smep;	    /* host CR4.SMEP: with NXE or SMEP, #NPF reports instruction fetches */
	bool strict_free;   /* also report at machine_mem_free() when a cache still has the frame */
	uint32_t tlb_entries; /* capacity of one LP's cache, leaves and tables together; 0 = no
				 limit */
	enum machine_evict evict;
	uint64_t seed; /* of MACHINE_EVICT_RANDOM */
};

/*
 * Fill *config: 1 LP, maxphyaddr 52, every feature on, no capacity limit, one region of 64 GiB that
 * starts at 4 GiB.
 */
void machine_config_default(struct machine_config *config);

/* -EINVAL (a value out of the ranges above) or -ENOMEM. The caller owns *out: machine_destroy(). */
int machine_create(const struct machine_config *config, struct machine **out);
/* Frees everything, guest memory too. No LP may be in use. NULL is allowed. */
void machine_destroy(struct machine *machine);

const struct machine_config *machine_get_config(const struct machine *machine);
/* LP @id, or NULL if there is none. Lives as long as the machine. */
struct machine_cpu *machine_get_cpu(struct machine *machine, unsigned int id);
unsigned int machine_cpu_id(const struct machine_cpu *cpu);

/* ---- physical memory (mem.c) ---------------------------------------------------------------- */

/*
 * Take a free, naturally aligned block of 2^order pages out of region @region (or of any region if
 * negative) and return its HPA. Content is zero and is allocated by the host page by page on
 * first touch. Freed frames are handed out again late. -EINVAL, -ENOMEM.
 */
int machine_mem_alloc(struct machine *machine, int region, unsigned int order, uint64_t *hpa);
/*
 * Take exactly the block of 2^order pages at @hpa, inside or outside of every region (a frame that
 * a trace names, for example). -EINVAL (misaligned, beyond 2^52), -EEXIST (a page of it is in use).
 */
int machine_mem_add(struct machine *machine, uint64_t hpa, unsigned int order);
/*
 * Give a block back; a part of a bigger block may be given back alone. From now on a use of a frame
 * of it through any translation or paging-structure entry cached earlier is reported, even if the
 * frame has been taken again. -EINVAL; -ENOENT (a page of it is not in use), also reported as a
 * double free.
 */
int machine_mem_free(struct machine *machine, uint64_t hpa, unsigned int order);
/*
 * Pointer to the byte at @hpa, good to the end of its 4 KiB page (of its 2 MiB range if all its
 * pages are in use), or NULL if the page is not in use. Takes no lock.
 */
void *machine_mem_ptr(const struct machine *machine, uint64_t hpa);
/*
 * The inverse, for a pointer into an in-use page; false if it is none. Takes a lock if the page is
 * outside of every region.
 */
bool machine_mem_hpa(const struct machine *machine, const void *ptr, uint64_t *hpa);
bool machine_mem_in_use(const struct machine *machine, uint64_t hpa);
/* Pages in use now. */
uint64_t machine_mem_used(const struct machine *machine);

/* ---- roots ---------------------------------------------------------------------------------- */

enum machine_root_kind { MACHINE_ROOT_NONE, MACHINE_ROOT_EPT, MACHINE_ROOT_NPT, MACHINE_ROOT_TD };

/* What an LP translates by. */
struct machine_root {
	enum machine_root_kind kind;
	/*
	 * EPT: the EPTP, SDM "Extended-Page-Table Pointer": 2:0 memory type (0 or 6), 5:3 levels -
	 * 1, 6 A/D enable, 51:12 root table. NPT: nCR3; bits 51:12 are the root table, 11:0 are
	 * ignored. TD: unused; the module says which TD the LP is inside of.
	 */
	uint64_t pointer;
	uint8_t npt_levels; /* NPT: 4 or 5 (host CR4.LA57) */
	/*
	 * The VM, as machine_flush() and machine_promise() name it; not MACHINE_TAG_ALL. On NPT it
	 * is also the ASID: cached translations are found by tag alone, so changing nCR3 under one
	 * tag without a flush uses the old root's translations. On EPT they are found by the root's
	 * address (EP4TA), whatever the tag. In a TD the tag is the TDR's HPA, and this is unused.
	 */
	uint64_t tag;
};

/* The EPTP of a root table: write-back, @levels 4 or 5. */
uint64_t machine_eptp(uint64_t root_hpa, unsigned int levels, bool ad);

/*
 * Load a root (as VM entry would). Flushes nothing. MACHINE_ROOT_NONE unloads. -EINVAL for what VM
 * entry refuses: reserved EPTP bits, levels or A/D not supported, address beyond maxphyaddr, root
 * table not in memory; -ENODEV for a TD without machine_set_module(). On an error the old root
 * stays.
 */
int machine_cpu_load(struct machine_cpu *cpu, const struct machine_root *root);

/* ---- accesses (cpu.c) ----------------------------------------------------------------------- */

/* What an access is: READ, WRITE, both of them, or EXEC; and marks. EXEC excludes GUEST_WALK. */
enum machine_kind {
	MACHINE_READ = 1 << 0,
	MACHINE_WRITE = 1 << 1,
	MACHINE_EXEC = 1 << 2,
	/* By guest user code. Changes nothing today: EPT has no user bit and every NPT access is
	   user. */
	MACHINE_USER = 1 << 3,
	/*
	 * To a guest page-table entry, by the guest's own page walk. NPT: always a user write. EPT:
	 * a read and write if A/D is on, else as the kind says.
	 */
	MACHINE_GUEST_WALK = 1 << 4,
	/* No guest linear address belongs to it (EPT qualification bit 7 clear). */
	MACHINE_NO_LINEAR = 1 << 5,
};

/* How an access ended. Everything but MACHINE_OK means that it was not performed. */
enum machine_outcome {
	MACHINE_OK = 0,
	MACHINE_EPT_VIOLATION, /* VM exit 48 */
	MACHINE_EPT_MISCONFIG, /* VM exit 49 */
	MACHINE_NPF,	       /* #VMEXIT 400h */
	/*
	 * The GPA is wider than a guest on this processor can make (maxphyaddr), or than a 4-level
	 * NPT can address (hardware would truncate it silently; here it is an error of the
	 * caller's).
	 */
	MACHINE_BAD_GPA,
	MACHINE_NO_ROOT, /* nothing loaded, or in no TD */
	/* VM exit 62: A or D had to be set and the page-modification log is full; neither was set.
	 */
	MACHINE_PML_FULL,
	MACHINE_NO_MEMORY, /* a table, or the bytes of machine_read/write, are not in memory;
			      reported */
	MACHINE_KICKED, /* machine_kick() took the LP out of guest mode: handle requests, re-enter
			 */
	/* #MC: the module's memory has poison there, in the data or in a Secure-EPT table. */
	MACHINE_CHECK,
};

struct machine_result {
	enum machine_outcome outcome;
	uint64_t gpa; /* of the access; of the failing page for machine_read/write */
	uint64_t hpa; /* MACHINE_OK: the byte that @gpa stands for */
	/*
	 * EPT violation: the exit qualification (SDM table "Exit Qualification for EPT
	 * Violations"); NPF: EXITINFO1 (APM 15.25.6). Else 0.
	 */
	uint64_t error;
	uint64_t entry; /* value of the entry at @level where the walk ended; 0 on a TLB hit, in a
			   private walk */
	uint64_t entry_hpa; /* where that entry is; 0 as above */
	uint8_t level;	    /* of the leaf, or of the entry that failed; 0 if no entry was read */
	bool readable, writable, executable; /* MACHINE_OK: rights of the translation */
	bool dirty;	  /* the dirty flag is set, or there are no dirty flags */
	bool ipat;	  /* EPT: ignore PAT */
	uint8_t memtype;  /* EPT: memory type 0, 1, 4, 5, 6; NPT: index into the host PAT 0..7 */
	bool tlb_hit;	  /* answered without a walk */
	bool private_gpa; /* went through the Secure EPT */
};

/*
 * One access by the LP's thread. Returns the outcome, also in out->outcome; -EINVAL if @kind is not
 * a legal combination. Sets A and D in the tables by compare-and-exchange, as the architecture
 * does, and keeps the translation and the table entries that it passed through in the LP's TLB.
 */
int machine_access(struct machine_cpu *cpu, uint64_t gpa, unsigned int kind,
		   struct machine_result *out);

/*
 * Guest memory by bytes, through machine_access() page by page and, where a module is plugged in,
 * through its protection of memory (tdx_port_module.data), with no flush of this LP between
 * the translation and the copy. Return as machine_access(); pages before the failing one are done.
 */
int machine_read(struct machine_cpu *cpu, uint64_t gpa, void *buf, size_t len,
		 struct machine_result *out);
int machine_write(struct machine_cpu *cpu, uint64_t gpa, const void *buf, size_t len,
		  struct machine_result *out);

/* ---- page-modification log (pml.c) ---------------------------------------------------------- */

#define MACHINE_PML_ENTRIES 512

/*
 * An LP's log, SDM "Page-Modification Logging": while it is on, each access that sets D in an EPT
 * leaf writes its GPA, 4 KiB aligned, to entry `index`, which then counts down; it wraps to 0xffff
 * after 0, and from then on an access that would have to set A or D is MACHINE_PML_FULL. Of no
 * effect for NPT, for EPT without A/D flags and in a TD. What was logged stays until it is drained,
 * whether the log is on or off.
 */
void machine_cpu_set_pml(struct machine_cpu *cpu, bool on);
/* The PML index as the guest-state field has it: 511 = empty, 0xffff = full. */
uint16_t machine_cpu_pml_index(struct machine_cpu *cpu);
/* Copies what was logged to @gpas, oldest first, and sets the index back to 511. Any thread.
 * Returns the number of GPAs. */
unsigned int machine_cpu_drain_pml(struct machine_cpu *cpu, uint64_t gpas[MACHINE_PML_ENTRIES]);

/* ---- a walk to look at ---------------------------------------------------------------------- */

enum machine_entry_kind {
	MACHINE_ENTRY_NONE, /* not present */
	MACHINE_ENTRY_BAD,  /* present, and misconfigured (EPT) or with reserved bits set (NPT) */
	MACHINE_ENTRY_TABLE,
	MACHINE_ENTRY_LEAF,
	MACHINE_ENTRY_LOST, /* the table that should hold it is not in memory */
};

struct machine_step {
	uint64_t entry_hpa;
	uint64_t entry;
	uint64_t target; /* TABLE, LEAF: what it points to */
	uint8_t level;
	enum machine_entry_kind kind;
};

struct machine_walk {
	unsigned int nr_steps; /* the last step tells how the walk ended; 0: the GPA is too wide */
	struct machine_step steps[MACHINE_MAX_LEVEL]; /* root first */
	unsigned int rights; /* MACHINE_READ | WRITE | EXEC | USER: the AND over all steps */
	uint64_t hpa;	     /* if the last step is a leaf: of @gpa itself */
};

/* Walk the tables of an EPT or NPT root with no side effect at all. -EINVAL as machine_cpu_load().
 */
int machine_walk(const struct machine *machine, const struct machine_root *root, uint64_t gpa,
		 struct machine_walk *walk);

/* ---- flushes and their judge (judge.c) ------------------------------------------------------ */

enum machine_flush_reason {
	MACHINE_FLUSH_REMOTE, /* the VMM asked for it on behalf of another LP */
	MACHINE_FLUSH_LOCAL,  /* the VMM did it itself on this LP, for example before entry */
	MACHINE_FLUSH_MODULE, /* the TDX module's INVEPT */
	MACHINE_FLUSH_FAULT,  /* dropped by the architecture itself because an access faulted */
	MACHINE_NR_FLUSH_REASONS,
};

/*
 * Forget what @cpu (NULL: every LP) has cached of @tag (or MACHINE_TAG_ALL) for [start, end). On
 * return no access that began earlier on those LPs is still under way. Must not be called from
 * inside a module callback.
 */
void machine_flush(struct machine *machine, struct machine_cpu *cpu, uint64_t tag, uint64_t start,
		   uint64_t end, enum machine_flush_reason reason);

/* A ticket for machine_promise(): everything cached so far is earlier, everything later is not. */
uint64_t machine_now(struct machine *machine);

/*
 * "That change is complete": from now on, a use by any LP of a translation or table entry of @tag
 * in [start, end) that was cached before the ticket @since (MACHINE_NOW: before this call) is a
 * missing flush, and is reported. With several threads take the ticket before the change is begun,
 * so that translations made of new entries are not blamed. @reason must live as long as the machine
 * (a literal).
 */
void machine_promise(struct machine *machine, uint64_t tag, uint64_t start, uint64_t end,
		     uint64_t since, const char *reason);

/*
 * The same of a change that took leaves and left the tables as they were: table entries may be used
 * as before, and so may translations that were read through them after @since, a ticket.
 */
void machine_promise_leaves(struct machine *machine, uint64_t tag, uint64_t start, uint64_t end,
			    uint64_t since, const char *reason);

enum machine_report_kind {
	MACHINE_REPORT_STALE_LEAF,  /* a translation used after a promise that it is gone */
	MACHINE_REPORT_STALE_TABLE, /* the same for a paging-structure cache entry */
	MACHINE_REPORT_FREED_LEAF,  /* a cached translation used after its frame was freed */
	MACHINE_REPORT_FREED_TABLE, /* a paging-structure entry used after its table was freed */
	MACHINE_REPORT_MAPS_FREED,  /* a table in memory maps, or links to, a freed frame */
	MACHINE_REPORT_CACHED_FREE, /* strict_free: a frame was freed while a cache had it */
	MACHINE_REPORT_NO_TABLE,    /* a walk went to a table at an HPA with no memory */
	MACHINE_REPORT_DOUBLE_FREE, /* a frame was freed that was not in use */
	MACHINE_NR_REPORT_KINDS,
};

/* One error of the judged. Kinds without an LP have cpu -1. */
struct machine_report {
	enum machine_report_kind kind;
	int cpu;
	uint64_t tag;
	uint64_t gpa;
	uint64_t hpa;	    /* the frame or the table */
	uint8_t level;	    /* of the cached entry, 0 if none */
	uint64_t cached_at; /* ticket time at which it was cached, 0 if not cached */
	uint64_t broken_at; /* ticket time of the promise or the free */
	const char *reason; /* of the promise, or a fixed text */
};

/*
 * An access through an entry that is reported goes on as if the missing flush had been done for its
 * GPA: what is cached of it is dropped and the tables are walked, so that one error is one report.
 */
uint64_t machine_report_count(const struct machine *machine); /* all, kept or not */
/* Copy up to @max kept reports, oldest first, from number @first; returns how many. */
unsigned int machine_report_get(const struct machine *machine, unsigned int first,
				struct machine_report *reports, unsigned int max);
void machine_report_clear(struct machine *machine);
/* One line without newline; returns its length as snprintf does. */
int machine_report_text(const struct machine_report *report, char *buf, size_t size);

/* ---- guest mode and kicks ------------------------------------------------------------------- */

/*
 * The LP's thread is in guest mode between these two and must do nothing there but accesses. An
 * access outside of them is in guest mode for its own length.
 */
void machine_cpu_enter_guest(struct machine_cpu *cpu);
void machine_cpu_leave_guest(struct machine_cpu *cpu);
bool machine_cpu_in_guest(const struct machine_cpu *cpu);
/*
 * Return when each LP (or @cpu alone, if not NULL) has been out of guest mode at least once since
 * the call. An LP between enter and leave is told at its next access: MACHINE_KICKED, and it is
 * out. -EDEADLK, with nothing done, if the calling thread is itself in guest mode on one of them.
 */
int machine_kick(struct machine *machine, struct machine_cpu *cpu);

/* ---- the TDX module's side ------------------------------------------------------------------ */

/* Plug a module in before any LP runs a TD. @ops and @module stay the caller's and must outlive it.
 */
void machine_set_module(struct machine *machine, const struct tdx_port_module *ops, void *module);
/* What the module calls, with the struct machine as `processor`. */
extern const struct tdx_port_processor machine_processor_ops;

/* ---- counters ------------------------------------------------------------------------------- */

struct machine_counters {
	uint64_t accesses;
	uint64_t tlb_hits;
	uint64_t walks;	     /* from wherever they began */
	uint64_t table_hits; /* walks that began at a cached table entry */
	uint64_t entries_read;
	uint64_t faults[MACHINE_CHECK + 1]; /* by outcome; [MACHINE_OK] stays 0 */
	uint64_t accessed_set;		    /* A flags set in tables */
	uint64_t dirty_set;
	uint64_t pml_logged; /* GPAs written to page-modification logs */
	uint64_t ad_races;   /* compare-and-exchange lost, entry read again */
	uint64_t flushes[MACHINE_NR_FLUSH_REASONS];
	uint64_t flushed; /* cache entries that they dropped */
	uint64_t evictions;
	uint64_t kicks; /* times taken out of guest mode */
};

/* A consistent copy of one LP's counters. */
void machine_cpu_counters(struct machine_cpu *cpu, struct machine_counters *counters);
/* Number of leaves and table entries that the LP has cached now. */
size_t machine_cpu_cached(struct machine_cpu *cpu);

#endif
