/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The model's own structures, and what its rooms call of each other. Nothing here is seen outside
 * tdx/module.
 *
 * Who guards what: a TD's life cycle, attributes and page lists change under its TDR's PAMT entry
 * held exclusive; a vCPU's under its TDVPR's, or while it is ACTIVE by the processor that runs it.
 * Words that several processors change at once are atomic.
 */
#ifndef TDX_MODULE_INTERNAL_H
#define TDX_MODULE_INTERNAL_H

#include "tdx/module/locks.h"
#include "tdx/module/module.h"
#include "tdx/module/pamt.h"

#include <pthread.h>

#define MAX_VMS		4  /* the TD itself and three L2 VMs */
#define MIN_TDCX	6u /* TDCS pages without L2 VMs */
#define MAX_TDCX	9
#define TDCX_SEPT_ROOT	3 /* TDCS page that is the Secure EPT's root */
#define TDCX_L2_ROOT	6 /* first of the L2 roots */
#define MIN_TDVPS	6 /* TDVPR and five TDCX */
#define MAX_TDVPS	15
#define TDVPS_PER_L2_VM 3
#define MAX_PA_BITS	52

/* Where on the way of a TD's key the TD is. */
enum lifecycle {
	LIFE_HKID_ASSIGNED,
	LIFE_KEYS_CONFIGURED,
	LIFE_BLOCKED,
	LIFE_TEARDOWN,
};

/* Operation states. Those of migration are numbered but never entered. */
enum op_state {
	OP_UNINITIALIZED = 0,
	OP_INITIALIZED = 1,
	OP_RUNNABLE = 2,
};

/* Set of operation states in which a leaf is allowed. */
#define OPS(state) (1u << (state))
#define OPS_ANY	   0x7ffu

enum key_state { KEY_FREE, KEY_ASSIGNED, KEY_FLUSHED, KEY_RESERVED };

struct key_owner {
	uint8_t state;			   /* enum key_state */
	_Atomic uint8_t packages_to_flush; /* bit per package */
	struct mem_key *key;		   /* what it stands for now; NULL: none configured */
};

/* A key that memory is encrypted with: crypt.h. */
struct mem_key;

/* SHA-384 under way; an OpenSSL context behind it. */
struct measurement;

struct td {
	/* TDR: guarded by the TDR's PAMT entry. */
	uint64_t tdr; /* HPA */
	uint64_t uuid[4];
	enum lifecycle lifecycle;
	unsigned int hkid;
	struct mem_key *key; /* NULL until the first TDH.MNG.KEY.CONFIG */
	uint8_t packages_configured;
	_Atomic bool fatal;
	_Atomic uint64_t chldcnt; /* 4 KiB pages owned, without the TDR */

	/* TDCS. */
	unsigned int num_tdcx;
	uint64_t tdcx[MAX_TDCX];
	sharex_hp_t op_lock;
	enum op_state op_state;
	sharex_t sept_lock;
	sharex_t epoch_lock;
	_Atomic uint64_t epoch;
	_Atomic uint16_t refcount[2]; /* vCPUs inside the TD that entered in an even, odd epoch */
	_Atomic uint32_t num_vcpus;
	_Atomic uint32_t num_assoc;
	struct tdx_td_params params; /* as given to MNG.INIT */
	unsigned int shared_bit;     /* GPA bit that says shared: 47 or 51 */
	unsigned int root_level;     /* level of root entries: 3 or 4 */
	unsigned int num_l2_vms;
	_Atomic uint64_t td_ctls;
	_Atomic uint64_t notify_enables;
	struct measurement *mr;
	uint8_t mrtd[48];
};

enum vcpu_state { VCPU_UNINIT = 0, VCPU_READY = 2, VCPU_ACTIVE = 4 };

/* How a vCPU last left the TD: decides what TDH.VP.ENTER restores. */
enum last_exit { EXIT_ASYNC_FAULT, EXIT_ASYNC_TRAP, EXIT_VMCALL };

#define ZERO_STEP_THRESHOLD 6
#define ZERO_STEP_LIST	    32

struct ve_info {
	uint32_t valid;
	uint32_t reason;
	uint64_t qualification, gla, gpa;
	uint32_t instruction_length, instruction_info;
};

struct vcpu {
	struct td *td;
	uint64_t tdvpr; /* HPA */
	unsigned int num_pages;
	unsigned int index;
	_Atomic uint8_t state;
	_Atomic int32_t assoc_lp; /* -1: none */
	_Atomic uint64_t epoch;
	_Atomic uint64_t shared_eptp;
	enum last_exit last_exit;
	uint64_t vmcall_mask;
	uint64_t last_exit_tsc;
	struct tdx_regs regs; /* guest registers while it is not running */
	uint64_t rip;
	struct ve_info ve;
	/* Zero-step filter. */
	uint64_t last_exit_rip;
	unsigned int num_faults;
	unsigned int num_fault_gpas;
	uint64_t fault_gpas[ZERO_STEP_LIST];
	/* First of a row of host-priority failures. */
	bool hp_busy;
	uint64_t hp_busy_tsc;
};

struct lp {
	_Atomic(struct vcpu *) vcpu; /* inside the TD; NULL: host */
	struct pamt_ref tdvpr;	     /* held while inside */
	struct pamt_ref tdr;
	uint64_t last_tdvpr; /* whose translations may be here */
};

#define PAGE_LOCKS 64

enum module_state { MODULE_READY, MODULE_SHUTDOWN };

struct wb_point {
	mutex8_t lock;
	bool interrupted;
	unsigned int next_block;
	uint64_t begun;				/* lines_write_back_begin() */
	uint8_t keys[TDX_MODULE_MAX_HKIDS / 8]; /* key ids that were FLUSHED at the start */
};

struct tdx_module {
	struct tdx_module_config config;
	uint64_t hkid_mask; /* key-id bits of a physical address */
	_Atomic int state;
	_Atomic uint64_t next_random;
	struct tdmr *tdmrs;
	struct lp *lps;
	sharex_t kot_lock;
	struct key_owner kot[TDX_MODULE_MAX_HKIDS];
	struct wb_point wb[TDX_MODULE_MAX_PACKAGES];

	/* Memory's protection: crypt.c, lines_page.c. */
	_Atomic(struct mem_key *) keys; /* all there ever were */
	_Atomic uint64_t next_key;
	struct mem_key *global_key;
	_Atomic(struct mem_key *) *shared_keys; /* by key id, below the private ones */
	pthread_mutex_t page_locks[PAGE_LOCKS]; /* a page's lines; by its number */
	_Atomic uint64_t watch;			/* not 0: loads must look at line states */
	_Atomic uint64_t line_clock;		/* what was before what */
	_Atomic uint64_t flushed;		/* all caches were written back then */
	_Atomic uint64_t flushed_at[TDX_MODULE_MAX_PACKAGES];
	_Atomic uint64_t events[TDX_NR_MEMORY_EVENTS];
};

/* The vCPU that @lp runs; NULL: it is in no TD, or there is no such LP. */
static inline struct vcpu *vcpu_on(struct tdx_module *m, unsigned int lp)
{
	return lp < m->config.nr_lps ? atomic_load(&m->lps[lp].vcpu) : NULL;
}

/* How a guest's event goes on. */
enum outcome {
	OUTCOME_STATUS, /* the leaf's return value is the guest's RAX, the instruction is done */
	OUTCOME_RETRY,	/* the guest executes the instruction again, no register changed */
	OUTCOME_EXIT,	/* TD exit; call->host is filled */
};

/* One interface call under way: a leaf's view of the world. */
struct call {
	struct tdx_module *m;
	unsigned int lp;
	unsigned int version;
	struct tdx_regs *regs;
	uint64_t rcx, rdx; /* inputs, kept when the registers become outputs */
	/* Host calls. */
	enum tdx_side side; /* where the LP is afterwards */
	/* Guest calls. */
	struct vcpu *vcpu;
	struct tdx_guest *guest; /* call->regs are its registers */
	struct tdx_regs *host;
	enum outcome outcome;
};

typedef uint64_t leaf_fn(struct call *call);

/* embedder.c */
void *module_alloc(struct tdx_module *m, size_t size);
void module_free(struct tdx_module *m, void *memory);
void *module_page(struct tdx_module *m, uint64_t hpa);
uint64_t module_rdtsc(struct tdx_module *m, unsigned int lp);
bool module_interrupted(const struct call *call);
bool module_random(struct tdx_module *m, uint64_t *value);
void module_fatal(struct tdx_module *m, const char *what);
void module_invept(struct tdx_module *m, unsigned int lp, uint64_t tdr);

/* The key id in a physical address, and the address without it. */
static inline unsigned int pa_hkid(const struct tdx_module *m, uint64_t pa)
{
	return (pa & m->hkid_mask) >> m->config.hkid_start_bit;
}

/* Is [@pa, @pa + @align) memory that a VMM may hand over as shared: aligned, shared key id, no
 * SEAMRR? */
bool module_shared_operand(const struct tdx_module *m, uint64_t pa, uint64_t align);

/* td.c: from an operand to a TD, and the checks every TD leaf makes. */
struct td_hold {
	struct td *td;
	struct pamt_ref ref;
	bool op_locked;
};

/* A TDR page given by the host. @op names the register. On error nothing is held. */
uint64_t td_take(struct tdx_module *m, uint64_t tdr, unsigned int op, enum lock_mode mode,
		 struct td_hold *hold);
/* The TD that owns a page already held: its TDR alone, shared. False: taken. */
bool td_take_implicit(struct tdx_module *m, struct td *td, struct td_hold *hold);
/* Fatal, keys, TDCS, operation state in @ops; @lock_op: hold the operation state shared meanwhile.
 */
uint64_t td_check_state(struct td_hold *hold, unsigned int ops, bool lock_op);
/* The same without an operation state: fatal and keys only. */
uint64_t td_check_keys(const struct td *td);
void td_release(struct td_hold *hold);
/* A leaf on a whole TD: take the TDR, run, release. */
typedef uint64_t td_fn(struct call *call, struct td_hold *hold);
uint64_t td_run(struct call *call, uint64_t tdr, unsigned int op, enum lock_mode mode, td_fn *run);
void td_destroy(struct tdx_module *m, struct td *td);
/* GPA form: shared bit clear, nothing above it that the width excludes. */
bool td_private_gpa(const struct td *td, uint64_t gpa);
/* Must the leaf see blocking and tracking done? */
bool td_tracking_required(const struct td *td);
/* Has every vCPU that could hold a translation from epoch @bepoch left since? */
bool td_tracked(struct td *td, uint64_t bepoch);

/* vp.c */
void vcpu_destroy(struct tdx_module *m, struct vcpu *vcpu);

/* measure.c */
struct measurement *measure_create(struct tdx_module *m);
void measure_destroy(struct tdx_module *m, struct measurement *mr);
void measure_page_add(struct measurement *mr, uint64_t gpa);
void measure_extend(struct measurement *mr, uint64_t gpa, const uint8_t content[256]);
void measure_finalize(struct measurement *mr, uint8_t mrtd[48]);

#endif
