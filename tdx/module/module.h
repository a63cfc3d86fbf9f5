/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A model of the TDX module 1.5.01: registers in, registers out. Public header of libtdxmodule;
 * the model's own structures are never seen from outside.
 *
 *	host   --tdx_module_seamcall-->  module  --config.page-->     memory
 *	guest  --tdx_module_tdcall---->  module  --processor table--> processor's caches
 *	guest  --tdx_module_vmexit---->  module
 *
 * What it holds: PAMT, key ids, TD life cycle, Secure EPT (as 64-bit words in the memory of its
 * pages), TLB-tracking epochs, vCPU entry and exit, measurement, guest page acceptance and #VE.
 * What it leaves out: TD migration and service TDs; running an L2 VM (its Secure EPT is kept, it is
 * never entered); CPUID and MSR virtualisation; reports and run-time measurement (TDG.MR.*);
 * metadata but for the fields named in tdx/seamcall.h (so an L2 table that TDG.MEM.PAGE.ATTR.WR
 * misses is always told by its status, never by a TD exit); the #VE that NOTIFY_ENABLES asks for;
 * TDG.VP.ENTER and INVVPID; configuration of CPUID (CPUID_CONFIG of TD_PARAMS is not checked); XMM
 * registers of TDG.VP.VMCALL; single-stepping at exits; SYS.* leaves other than SYS.TDMR.INIT (the
 * model is created ready). A call to a leaf it lacks is answered as an unknown leaf:
 * TDX_OPERAND_INVALID(RAX).
 *
 * Memory is protected as config.memory says: tdx/module/memory.h. A machine check inside the module
 * is its end: TDX_SYS_SHUTDOWN from then on.
 *
 * Concurrency: one call at a time on one logical processor, any number of processors at once. All
 * functions with an @lp belong to that processor's thread. The module's own lock words are real
 * atomics: where the real module finds one taken it answers BUSY, and so does the model. Nothing
 * here waits but for another access to lines of the same page.
 *
 * No global state: any number of modules in one process. Who links it also links libcrypto
 *(AES-XTS, SHA-384) and pthreads.
 */
#ifndef TDX_MODULE_MODULE_H
#define TDX_MODULE_MODULE_H

#include <stddef.h>

#include "tdx/module/memory.h"
#include "tdx/port.h"
#include "tdx/seamcall.h"

struct tdx_module;

#define TDX_MODULE_MAX_TDMRS	64
#define TDX_MODULE_MAX_RESERVED 16
#define TDX_MODULE_MAX_PACKAGES 8
#define TDX_MODULE_MAX_HKIDS	2048

/* A part of a TDMR that is not TDX memory: bytes, 4 KiB granular, HPAs. */
struct tdx_reserved_area {
	uint64_t base, size;
};

/* One TD memory region: bytes; base and size multiples of 1 GiB; ordered, not overlapping. */
struct tdx_tdmr_config {
	uint64_t base, size;
	unsigned int nr_reserved;
	struct tdx_reserved_area reserved[TDX_MODULE_MAX_RESERVED];
	unsigned int package; /* whose memory controllers, and so whose keys, encrypt it */
};

/*
 * What the module runs on. Copied by tdx_module_create(), pointers and all; what @ctx points to
 * must outlive the module. All functions may be called from several threads at once.
 */
struct tdx_module_config {
	/* Machine. */
	unsigned int nr_lps;	     /* logical processors, 1.. ; @lp arguments are below it */
	unsigned int nr_packages;    /* 1..8; a processor's package is lp % nr_packages */
	unsigned int hkid_start_bit; /* lowest key-id bit of a physical address, 32..51 */
	unsigned int nr_hkid_bits;   /* 1..11; start + number at most 52 */
	unsigned int private_hkid_min, private_hkid_max; /* inclusive */
	unsigned int global_hkid;	   /* the module's own; inside the private range */
	uint64_t seamrr_base, seamrr_size; /* bytes; size 0: none */
	uint64_t tsc_hz;		   /* ticks of rdtsc() in a second; 0 means 2.5 GHz */
	uint64_t xfam_supported; /* XFAM bits that a TD may have; bits 0 and 1 always are */
	bool pml5;		 /* 5-level EPT exists */
	unsigned int wb_blocks; /* parts of a cache write-back between interrupt polls; 0 means 1 */
	enum tdx_memory_mode memory;	/* 0: TDX_MEMORY_CI */
	enum tdx_write_back write_back; /* 0: TDX_WRITE_BACK_AT_ONCE */
	unsigned int key_bits;		/* AES-XTS keys: 128 or 256; 0 means 128 */
	uint64_t key_seed;		/* what they come from, beside random() */
	unsigned int nr_tdmrs;
	struct tdx_tdmr_config tdmr[TDX_MODULE_MAX_TDMRS];

	/* Context of every function below. */
	void *ctx;
	/*
	 * The 4 KiB page of physical memory at @hpa (page aligned, no key id), 4 KiB of bytes that
	 * stay where they are as long as the module lives; NULL if there is none. A page that
	 * becomes a Secure-EPT page and has no memory is refused with ADDR_RANGE_ERROR; content of
	 * a guest page without memory reads as zero, and writes to it are lost.
	 */
	void *(*page)(void *ctx, uint64_t hpa);
	/* Zeroed memory for the module's own tables, or NULL; and back. NULL pointers mean calloc,
	 * free. */
	void *(*alloc)(void *ctx, size_t size);
	void (*free)(void *ctx, void *memory);
	/* Time-stamp counter of @lp. NULL: a counter that never moves. */
	uint64_t (*rdtsc)(void *ctx, unsigned int lp);
	/* Is an interrupt pending on @lp? Polled by long calls. NULL means never. */
	bool (*interrupt_pending)(void *ctx, unsigned int lp);
	/* Random for a TD's unique id and keys; false means out of entropy. NULL: a counter, and
	 * keys from key_seed alone. */
	bool (*random)(void *ctx, uint64_t *value);
	/* The module found its own books broken (a model bug, or host writes to TD memory). NULL:
	 * ignore. */
	void (*fatal)(void *ctx, const char *what);
	/* A rule of memory was broken (tdx/module/memory.h). May call tdx_module_memory_events()
	 * and nothing else here. NULL: ignore. */
	void (*memory_event)(void *ctx, const struct tdx_memory_event *event);
	/* The processor's caches; NULL if it has none. May be set later:
	 * tdx_module_set_processor(). */
	const struct tdx_port_processor *processor;
	void *processor_ctx;
};

/*
 * Make a module that is ready for SEAMCALLs; its TDMRs still want TDH.SYS.TDMR.INIT. Returns NULL
 * with errno EINVAL (and a message naming value and rule in @why, if not NULL) or ENOMEM.
 */
struct tdx_module *tdx_module_create(const struct tdx_module_config *config, char *why,
				     size_t why_size);

/* Free a module, TDs and all. No other call may be under way. */
void tdx_module_destroy(struct tdx_module *module);

/* Set whom the module tells about INVEPT. Before any call that runs a guest. */
void tdx_module_set_processor(struct tdx_module *module, const struct tdx_port_processor *processor,
			      void *ctx);

/* The functions by which a processor model looks into the module; their context is the module. */
extern const struct tdx_port_module tdx_module_port;

/*
 * One SEAMCALL: a tdx_seamcall_fn with the module as context. See tdx/seamcall.h. An @lp that is
 * inside a TD can make none: TDX_GUEST, nothing done.
 */
enum tdx_side tdx_module_seamcall(void *module, unsigned int lp, struct tdx_regs *regs);

/* A guest's side of the processor between two events. */
struct tdx_guest {
	struct tdx_regs regs;
	uint64_t rip;
	uint8_t vector; /* out: exception to deliver before the next instruction; 0 = none */
	bool has_error_code;
	uint32_t error_code;
	uint64_t cr2; /* out: with vector 14, the linear address */
};

/* tdx_vmexit.interrupt_info of a machine check: valid, hardware exception, vector 18. */
#define TDX_INTERRUPT_MACHINE_CHECK 0x80000312u

/* A VM exit that the guest took. Fields that the reason has no use for are zero (SDM, 28.2). */
struct tdx_vmexit {
	uint32_t reason; /* basic exit reason */
	uint32_t interrupt_info;
	uint64_t qualification;
	uint64_t gpa; /* guest-physical address, offset included */
	uint64_t gla; /* guest-linear address; valid if qualification bit 7 */
};

/*
 * The state with which the TD on @lp goes on after TDH.VP.ENTER: registers, RIP, no pending vector.
 * Returns 0, or -ENOENT if @lp is in no TD.
 */
int tdx_module_guest_state(struct tdx_module *module, unsigned int lp, struct tdx_guest *guest);

/*
 * The guest on @lp executes TDCALL. In: its registers (leaf in RAX) and RIP. On TDX_GUEST the guest
 * goes on with *guest: registers, RIP (advanced unless the instruction is to be executed again),
 * vector. On TDX_HOST it has left; *host is filled, and *guest is dead.
 * -- An @lp in no TD: TDX_HOST with host->rax = TDX_SYS_NOT_READY.
 */
enum tdx_side tdx_module_tdcall(struct tdx_module *module, unsigned int lp, struct tdx_guest *guest,
				struct tdx_regs *host);

/* The guest on @lp takes a VM exit. Parameters and result as above. */
enum tdx_side tdx_module_vmexit(struct tdx_module *module, unsigned int lp,
				const struct tdx_vmexit *exit, struct tdx_guest *guest,
				struct tdx_regs *host);

/*
 * The processor turned an EPT violation of the guest on @lp into #VE by itself: the entry of a
 * shared EPT that ended the walk had bit 63 clear (SDM, "Convertible EPT Violations"). What it
 * writes into the vCPU's pages is written; *guest takes vector 20. 0; -ENOENT if @lp is in no TD;
 * -EBUSY, nothing done, if the guest has not fetched the last #VE: then it is an exit.
 */
int tdx_module_convert_violation(struct tdx_module *module, unsigned int lp,
				 const struct tdx_vmexit *exit, struct tdx_guest *guest);

/* Number of bytes by which the RIP of a completed TDCALL advances. */
#define TDX_TDCALL_LENGTH 4

/* -- Inspection: for tests, checkers and people. Values are a snapshot, taken without locks. -- */

struct tdx_pamt_view {
	uint8_t pt;	/* enum tdx_page_type */
	uint64_t owner; /* HPA of the owning TDR; 0 = none */
	uint64_t bepoch;
	uint16_t lock; /* raw lock word */
};

/* The PAMT entry that covers @hpa at @level 0..2. -ERANGE if no TDMR has it. */
int tdx_module_view_pamt(struct tdx_module *module, uint64_t hpa, unsigned int level,
			 struct tdx_pamt_view *view);

struct tdx_td_view {
	uint64_t tdr;
	uint64_t chldcnt;
	uint8_t lifecycle; /* 0 HKID assigned, 1 keys configured, 2 blocked, 3 teardown */
	unsigned int hkid;
	unsigned int num_tdcx;
	bool fatal;
	/* From here on all zero while the TDCS has fewer than 6 pages. */
	uint8_t op_state; /* 0 uninitialized, 1 initialized, 2 runnable */
	uint64_t td_epoch;
	uint16_t refcount[2];
	unsigned int num_vcpus, num_assoc;
	uint16_t op_lock, sept_lock, epoch_lock; /* raw lock words */
	unsigned int gpa_width;			 /* 48 or 52 */
	unsigned int sept_levels;		 /* 4 or 5 */
	unsigned int num_l2_vms;
	uint64_t attributes;
	uint64_t td_ctls;
	uint64_t sept_root[4]; /* HPAs of the roots: VM 0 (the TD itself) and its L2 VMs */
};

/* The TD of TDR page @tdr. -ENOENT if there is none. */
int tdx_module_view_td(struct tdx_module *module, uint64_t tdr, struct tdx_td_view *view);

/* Its MRTD, final once TDH.MR.FINALIZE succeeded, else zero. */
int tdx_module_view_mrtd(struct tdx_module *module, uint64_t tdr, uint8_t mrtd[48]);

struct tdx_ve_view {
	uint32_t valid; /* 0xffffffff or 0 */
	uint32_t reason;
	uint64_t qualification, gpa, gla;
};

struct tdx_vcpu_view {
	uint64_t tdr;
	unsigned int index;
	uint8_t state;	  /* 0 uninitialized, 2 ready, 4 active */
	int32_t assoc_lp; /* -1 = none */
	uint64_t epoch;
	uint64_t shared_eptp;
	struct tdx_ve_view ve;
};

/* The vCPU of TDVPR page @tdvpr. -ENOENT if there is none. */
int tdx_module_view_vcpu(struct tdx_module *module, uint64_t tdvpr, struct tdx_vcpu_view *view);

/* HPA of the TDVPR that runs on @lp, 0 if none. */
uint64_t tdx_module_running_vcpu(struct tdx_module *module, unsigned int lp);

struct tdx_sept_view {
	uint64_t raw;  /* the entry's word */
	uint8_t level; /* where the walk stopped */
	uint8_t state; /* public state */
};

/*
 * Secure-EPT entry of @gpa at @level for VM @vm (0: the TD, 1..3: L2), whatever its permissions
 * are; if the tree ends above @level, the entry where it ends. -ENOENT no such TD or VM, -EINVAL
 * level.
 */
int tdx_module_view_sept(struct tdx_module *module, uint64_t tdr, uint64_t gpa, unsigned int level,
			 unsigned int vm, struct tdx_sept_view *view);

/* -- Forcing: what another processor in the middle of a call would have left there. Tests only. --
 */

enum tdx_force {
	TDX_FORCE_SEPT_LOCK,  /* target: TDR */
	TDX_FORCE_OP_LOCK,    /* target: TDR */
	TDX_FORCE_EPOCH_LOCK, /* target: TDR */
	TDX_FORCE_KOT_LOCK,   /* target: none */
	TDX_FORCE_TD_CTLS,    /* target: TDR */
};

/* Store @raw into a word of the module. 0, or -ENOENT. */
int tdx_module_force(struct tdx_module *module, enum tdx_force what, uint64_t target, uint64_t raw);

/* Store @raw into the lock word of a PAMT entry. 0, or -ERANGE. */
int tdx_module_force_pamt_lock(struct tdx_module *module, uint64_t hpa, unsigned int level,
			       uint16_t raw);

/* Set and clear bits of a Secure-EPT entry (as found by view_sept, VM 0). 0, or its error. */
int tdx_module_force_sept(struct tdx_module *module, uint64_t tdr, uint64_t gpa, unsigned int level,
			  uint64_t set, uint64_t clear);

#endif
