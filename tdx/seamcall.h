/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The ABI between a host (or a guest) and the TDX module, all that the two sides share: leaf
 * numbers, status codes, operand ids, register and memory layouts. Never what a call does.
 *
 * Numbers are those of the TDX module 1.5 ABI specification; "TDH.x" and "TDG.x" name its leaves.
 * Levels are the module's: 0 = 4 KiB, 1 = 2 MiB, 2 = 1 GiB, 3 and 4 = table levels above.
 */
#ifndef TDX_SEAMCALL_H
#define TDX_SEAMCALL_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * General registers in the processor's encoding order, so that bit i of a TDG.VP.VMCALL mask
 * names gpr[i]. RSP is never passed through an interface function; it has its place only to keep
 * the order.
 */
struct tdx_regs {
	union {
		struct {
			uint64_t rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi;
			uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
		};
		uint64_t gpr[16];
	};
};
static_assert(sizeof(struct tdx_regs) == 128, "sixteen registers and nothing else");

/* Where a logical processor is when an interface function returns. */
enum tdx_side {
	TDX_HOST,  /* in the VMM: *regs holds the answer */
	TDX_GUEST, /* inside the TD: *regs is as the caller passed it, the answer comes with the TD
		      exit */
};

/*
 * One SEAMCALL on logical processor @lp: leaf and version in regs->rax, operands in the others;
 * status in regs->rax afterwards, outputs in the others.
 *
 * Returns TDX_HOST when the call is over. Returns TDX_GUEST when TDH.VP.ENTER succeeded: @lp is
 * then inside the TD, and *regs is unchanged. On a real machine the instruction has not completed;
 * here the caller makes the guest run on @lp, and the registers of the TD exit that ends the run
 * are what the instruction would have returned.
 *
 * Calls on different @lp may run at the same time; calls on one @lp may not. Never blocks.
 */
typedef enum tdx_side tdx_seamcall_fn(void *ctx, unsigned int lp, struct tdx_regs *regs);

/* RAX of a call: leaf 15:0, version 23:16, the rest zero. */
#define TDX_RAX_LEAF	      0xffffull
#define TDX_RAX_VERSION_SHIFT 16
#define TDX_RAX_RESERVED      (~0xffffffull)

static inline uint64_t tdx_rax(unsigned int leaf, unsigned int version)
{
	return (uint64_t)leaf | (uint64_t)version << TDX_RAX_VERSION_SHIFT;
}

enum tdh_leaf {
	TDH_VP_ENTER = 0,
	TDH_MNG_ADDCX = 1,
	TDH_MEM_PAGE_ADD = 2,
	TDH_MEM_SEPT_ADD = 3,
	TDH_VP_ADDCX = 4,
	TDH_MEM_PAGE_RELOCATE = 5,
	TDH_MEM_PAGE_AUG = 6,
	TDH_MEM_RANGE_BLOCK = 7,
	TDH_MNG_KEY_CONFIG = 8,
	TDH_MNG_CREATE = 9,
	TDH_VP_CREATE = 10,
	TDH_MNG_RD = 11,
	TDH_MEM_RD = 12,
	TDH_MNG_WR = 13,
	TDH_MEM_WR = 14,
	TDH_MEM_PAGE_DEMOTE = 15,
	TDH_MR_EXTEND = 16,
	TDH_MR_FINALIZE = 17,
	TDH_VP_FLUSH = 18,
	TDH_MNG_VPFLUSHDONE = 19,
	TDH_MNG_KEY_FREEID = 20,
	TDH_MNG_INIT = 21,
	TDH_VP_INIT = 22,
	TDH_MEM_PAGE_PROMOTE = 23,
	TDH_PHYMEM_PAGE_RDMD = 24,
	TDH_MEM_SEPT_RD = 25,
	TDH_VP_RD = 26,
	TDH_MNG_KEY_RECLAIMID = 27,
	TDH_PHYMEM_PAGE_RECLAIM = 28,
	TDH_MEM_PAGE_REMOVE = 29,
	TDH_MEM_SEPT_REMOVE = 30,
	TDH_SYS_KEY_CONFIG = 31,
	TDH_SYS_INFO = 32,
	TDH_SYS_INIT = 33,
	TDH_SYS_RD = 34,
	TDH_SYS_LP_INIT = 35,
	TDH_SYS_TDMR_INIT = 36,
	TDH_SYS_RDALL = 37,
	TDH_MEM_TRACK = 38,
	TDH_MEM_RANGE_UNBLOCK = 39,
	TDH_PHYMEM_CACHE_WB = 40,
	TDH_PHYMEM_PAGE_WBINVD = 41,
	TDH_VP_WR = 43,
	TDH_SYS_LP_SHUTDOWN = 44,
	TDH_SYS_CONFIG = 45,
};

enum tdg_leaf {
	TDG_VP_VMCALL = 0,
	TDG_VP_INFO = 1,
	TDG_MR_RTMR_EXTEND = 2,
	TDG_VP_VEINFO_GET = 3,
	TDG_MR_REPORT = 4,
	TDG_VP_CPUIDVE_SET = 5,
	TDG_MEM_PAGE_ACCEPT = 6,
	TDG_VM_RD = 7,
	TDG_VM_WR = 8,
	TDG_VP_RD = 9,
	TDG_VP_WR = 10,
	TDG_SYS_RD = 11,
	TDG_SYS_RDALL = 12,
	TDG_SERVTD_RD = 18,
	TDG_SERVTD_WR = 20,
	TDG_MR_VERIFYREPORT = 22,
	TDG_MEM_PAGE_ATTR_RD = 23,
	TDG_MEM_PAGE_ATTR_WR = 24,
	TDG_VP_ENTER = 25,
	TDG_VP_INVEPT = 26,
	TDG_VP_INVVPID = 27,
};

/*
 * Status codes: bit 63 error, 62 non-recoverable, 61 fatal, 60 hint, 47:40 class, 39:32 detail;
 * bits 31:0 carry an operand id, a level or a VM exit reason and are zero here.
 */
#define TDX_STATUS_MASK	 0xffffffff00000000ull
#define TDX_STATUS_ERROR (1ull << 63)

#define TDX_SUCCESS			       0x0000000000000000ull
#define TDX_NON_RECOVERABLE_VCPU	       0x4000000100000000ull
#define TDX_NON_RECOVERABLE_TD		       0x6000000200000000ull
#define TDX_INTERRUPTED_RESUMABLE	       0x8000000300000000ull
#define TDX_INTERRUPTED_RESTARTABLE	       0x8000000400000000ull
#define TDX_NON_RECOVERABLE_TD_NON_ACCESSIBLE  0x6000000500000000ull
#define TDX_INVALID_RESUMPTION		       0xC000000600000000ull
#define TDX_NON_RECOVERABLE_TD_WRONG_APIC_MODE 0xE000000700000000ull
#define TDX_CROSS_TD_FAULT		       0x8000000800000000ull
#define TDX_CROSS_TD_TRAP		       0x9000000900000000ull
#define TDX_OPERAND_INVALID		       0xC000010000000000ull
#define TDX_OPERAND_ADDR_RANGE_ERROR	       0xC000010100000000ull
#define TDX_OPERAND_BUSY		       0x8000020000000000ull
#define TDX_PREVIOUS_TLB_EPOCH_BUSY	       0x8000020100000000ull
#define TDX_SYS_BUSY			       0x8000020200000000ull
#define TDX_RND_NO_ENTROPY		       0x8000020300000000ull
#define TDX_OPERAND_BUSY_HOST_PRIORITY	       0x8000020400000000ull
#define TDX_HOST_PRIORITY_BUSY_TIMEOUT	       0x9000020500000000ull
#define TDX_PAGE_METADATA_INCORRECT	       0xC000030000000000ull
#define TDX_PAGE_ALREADY_FREE		       0x0000030100000000ull
#define TDX_PAGE_NOT_OWNED_BY_TD	       0xC000030200000000ull
#define TDX_PAGE_NOT_FREE		       0xC000030300000000ull
#define TDX_TD_ASSOCIATED_PAGES_EXIST	       0xC000040000000000ull
#define TDX_SYS_NOT_READY		       0xC000050500000000ull
#define TDX_SYS_SHUTDOWN		       0xC000050600000000ull
#define TDX_TD_FATAL			       0xE000060400000000ull
#define TDX_TD_NON_DEBUG		       0xC000060500000000ull
#define TDX_TDCS_NOT_ALLOCATED		       0xC000060600000000ull
#define TDX_LIFECYCLE_STATE_INCORRECT	       0xC000060700000000ull
#define TDX_OP_STATE_INCORRECT		       0xC000060800000000ull
#define TDX_NO_VCPUS			       0xC000060900000000ull
#define TDX_TDCX_NUM_INCORRECT		       0xC000061000000000ull
#define TDX_VCPU_STATE_INCORRECT	       0xC000070000000000ull
#define TDX_VCPU_ASSOCIATED		       0x8000070100000000ull
#define TDX_VCPU_NOT_ASSOCIATED		       0x8000070200000000ull
#define TDX_NO_VALID_VE_INFO		       0xC000070400000000ull
#define TDX_MAX_VCPUS_EXCEEDED		       0xC000070500000000ull
#define TDX_TSC_ROLLBACK		       0xC000070600000000ull
#define TDX_KEY_GENERATION_FAILED	       0x8000080000000000ull
#define TDX_TD_KEYS_NOT_CONFIGURED	       0x8000081000000000ull
#define TDX_KEY_STATE_INCORRECT		       0xC000081100000000ull
#define TDX_KEY_CONFIGURED		       0x0000081500000000ull
#define TDX_WBCACHE_NOT_COMPLETE	       0x8000081700000000ull
#define TDX_HKID_NOT_FREE		       0xC000082000000000ull
#define TDX_NO_HKID_READY_TO_WBCACHE	       0x0000082100000000ull
#define TDX_WBCACHE_RESUME_ERROR	       0xC000082300000000ull
#define TDX_FLUSHVP_NOT_DONE		       0x8000082400000000ull
#define TDX_INCONSISTENT_MSR		       0xC000092000000000ull
#define TDX_TDMR_ALREADY_INITIALIZED	       0x00000A0300000000ull
#define TDX_PAMT_OVERLAP		       0xC0000A1200000000ull
#define TDX_EPT_WALK_FAILED		       0xC0000B0000000000ull
#define TDX_EPT_ENTRY_FREE		       0xC0000B0100000000ull
#define TDX_EPT_ENTRY_NOT_FREE		       0xC0000B0200000000ull
#define TDX_EPT_ENTRY_NOT_PRESENT	       0xC0000B0300000000ull
#define TDX_EPT_ENTRY_NOT_LEAF		       0xC0000B0400000000ull
#define TDX_EPT_ENTRY_LEAF		       0xC0000B0500000000ull
#define TDX_GPA_RANGE_NOT_BLOCKED	       0xC0000B0600000000ull
#define TDX_GPA_RANGE_ALREADY_BLOCKED	       0x00000B0700000000ull
#define TDX_TLB_TRACKING_NOT_DONE	       0xC0000B0800000000ull
#define TDX_EPT_INVALID_PROMOTE_CONDITIONS     0xC0000B0900000000ull
#define TDX_PAGE_ALREADY_ACCEPTED	       0x00000B0A00000000ull
#define TDX_PAGE_SIZE_MISMATCH		       0xC0000B0B00000000ull
#define TDX_GPA_RANGE_BLOCKED		       0xC0000B0C00000000ull
#define TDX_EPT_ENTRY_STATE_INCORRECT	       0xC0000B0D00000000ull
#define TDX_EPT_PAGE_NOT_FREE		       0xC0000B0E00000000ull
#define TDX_L2_SEPT_WALK_FAILED		       0xC0000B0F00000000ull
#define TDX_L2_SEPT_ENTRY_NOT_FREE	       0xC0000B1000000000ull
#define TDX_PAGE_ATTR_INVALID		       0xC0000B1100000000ull
#define TDX_L2_SEPT_PAGE_NOT_PROVIDED	       0xC0000B1200000000ull
#define TDX_METADATA_FIELD_ID_INCORRECT	       0xC0000C0000000000ull
#define TDX_METADATA_FIELD_NOT_WRITABLE	       0xC0000C0100000000ull
#define TDX_METADATA_FIELD_NOT_READABLE	       0xC0000C0200000000ull
#define TDX_METADATA_FIELD_VALUE_NOT_VALID     0xC0000C0300000000ull

/* What the low half of a status names when it names an operand. */
enum tdx_operand {
	TDX_OPERAND_RAX = 0,
	TDX_OPERAND_RCX = 1,
	TDX_OPERAND_RDX = 2,
	TDX_OPERAND_RBX = 3,
	TDX_OPERAND_RBP = 5,
	TDX_OPERAND_RSI = 6,
	TDX_OPERAND_RDI = 7,
	TDX_OPERAND_R8 = 8,
	TDX_OPERAND_R9 = 9,
	TDX_OPERAND_R10 = 10,
	TDX_OPERAND_R11 = 11,
	TDX_OPERAND_R12 = 12,
	TDX_OPERAND_R13 = 13,
	TDX_OPERAND_R14 = 14,
	TDX_OPERAND_R15 = 15,
	TDX_OPERAND_ATTRIBUTES = 64,
	TDX_OPERAND_XFAM = 65,
	TDX_OPERAND_EXEC_CONTROLS = 66,
	TDX_OPERAND_EPTP_CONTROLS = 67,
	TDX_OPERAND_MAX_VCPUS = 68,
	TDX_OPERAND_CPUID_CONFIG = 69,
	TDX_OPERAND_TSC_FREQUENCY = 70,
	TDX_OPERAND_NUM_L2_VMS = 71,
	TDX_OPERAND_ARCH_CAPABILITIES = 72,
	TDX_OPERAND_PAGE = 95,
	TDX_OPERAND_TDMR_INFO_PA = 96,
	TDX_OPERAND_GPA_LIST_ENTRY = 97,
	TDX_OPERAND_MIG_BUFF_LIST_ENTRY = 98,
	TDX_OPERAND_NEW_PAGE_LIST_ENTRY = 99,
	TDX_OPERAND_TDR = 128,
	TDX_OPERAND_TDCX = 129,
	TDX_OPERAND_TDVPR = 130,
	TDX_OPERAND_REG_PAGE = 132,
	TDX_OPERAND_TDCS = 144,
	TDX_OPERAND_TDVPS = 145,
	TDX_OPERAND_SEPT_TREE = 146,
	TDX_OPERAND_SEPT_ENTRY = 147,
	TDX_OPERAND_RTMR = 168,
	TDX_OPERAND_TD_EPOCH = 169,
	TDX_OPERAND_L2_VAPIC_GPA = 170,
	TDX_OPERAND_MIGSC = 171,
	TDX_OPERAND_OP_STATE = 172,
	TDX_OPERAND_MIG = 173,
	TDX_OPERAND_SERVTD_BINDINGS = 174,
	TDX_OPERAND_METADATA_FIELD = 176,
	TDX_OPERAND_SYS = 184,
	TDX_OPERAND_TDMR = 185,
	TDX_OPERAND_KOT = 186,
	TDX_OPERAND_KET = 187,
	TDX_OPERAND_WBCACHE = 188,
};

/* An operand that means "no page here" (TDH.MEM.SEPT.ADD version 1, PAGE.DEMOTE). */
#define TDX_NULL_PA 0xffffffffffffffffull

/* Page types of the PAMT as TDH.PHYMEM.PAGE.RDMD reports them. */
enum tdx_page_type {
	TDX_PT_NDA = 0,
	TDX_PT_RSVD = 1,
	TDX_PT_REG = 3,
	TDX_PT_TDR = 4,
	TDX_PT_TDCX = 5,
	TDX_PT_TDVPR = 6,
	TDX_PT_EPT = 8,
};

/* Secure-EPT entry states as RDX 15:8 of the memory leaves reports them. */
enum tdx_sept_public_state {
	TDX_SEPT_FREE = 0,
	TDX_SEPT_BLOCKED = 1,
	TDX_SEPT_PENDING = 2,
	TDX_SEPT_PENDING_BLOCKED = 3,
	TDX_SEPT_MAPPED = 4,
	TDX_SEPT_REMOVED = 5,
	TDX_SEPT_NL_BLOCKED = 129,
	TDX_SEPT_NL_MAPPED = 132,
};

/* RCX of the memory leaves: GPA 51:12, level 2:0. */
static inline uint64_t tdx_page_info(uint64_t gpa, unsigned int level)
{
	return (gpa & 0x000ffffffffff000ull) | level;
}

/* RDX of a memory leaf's answer when it describes a Secure-EPT entry. */
static inline unsigned int tdx_details_level(uint64_t rdx)
{
	return rdx & 7;
}

static inline unsigned int tdx_details_state(uint64_t rdx)
{
	return rdx >> 8 & 0xff;
}

/* RDX flags of leaves that take a TDR. */
#define TDX_SEPT_ADD_ALLOW_EXISTING 1ull
#define TDX_SEPT_RD_L2_ATTRIBUTES   1ull
#define TDX_DEMOTE_L2_SPARSE	    1ull

/* RCX flags of TDH.VP.ENTER. */
#define TDX_ENTER_RECOVERABILITY_HINT (1ull << 52)
#define TDX_ENTER_RESUME_L1	      (1ull << 53)

/* TD attributes and configuration flags (TD_PARAMS). */
#define TDX_ATTR_DEBUG		       (1ull << 0)
#define TDX_ATTR_SEPT_VE_DISABLE       (1ull << 28)
#define TDX_ATTR_MIGRATABLE	       (1ull << 29)
#define TDX_ATTR_PKS		       (1ull << 30)
#define TDX_ATTR_PERFMON	       (1ull << 63)
#define TDX_CONFIG_GPAW52	       (1ull << 0)
#define TDX_CONFIG_FLEXIBLE_PENDING_VE (1ull << 1)
#define TDX_CONFIG_NO_RBP_MOD	       (1ull << 2)

/* EPTP_CONTROLS: memory type 2:0 (6 = write-back), levels minus one 5:3. */
static inline uint64_t tdx_eptp_controls(unsigned int levels)
{
	return 6 | (uint64_t)(levels - 1) << 3;
}

/* TD_PARAMS: the page that TDH.MNG.INIT reads; 1 KiB, aligned to it, in shared memory. */
struct tdx_td_params {
	uint64_t attributes;
	uint64_t xfam;
	uint16_t max_vcpus;
	uint8_t num_l2_vms;
	uint8_t msr_config_ctls;
	uint8_t reserved0[4];
	uint64_t eptp_controls;
	uint64_t config_flags;
	uint16_t tsc_frequency; /* units of 25 MHz */
	uint8_t reserved1[38];
	uint8_t mrconfigid[48];
	uint8_t mrowner[48];
	uint8_t mrownerconfig[48];
	uint64_t arch_capabilities;
	uint8_t reserved2[24];
	uint8_t cpuid_config[768];
};
static_assert(sizeof(struct tdx_td_params) == 1024, "TD_PARAMS is 1 KiB");
static_assert(offsetof(struct tdx_td_params, eptp_controls) == 24, "TD_PARAMS.EPTP_CONTROLS");
static_assert(offsetof(struct tdx_td_params, mrconfigid) == 80, "TD_PARAMS.MRCONFIGID");
static_assert(offsetof(struct tdx_td_params, cpuid_config) == 256, "TD_PARAMS.CPUID_CONFIG");

/*
 * Metadata field ids. A field is named by class 61:56 and code 23:0; the other bits (size, context,
 * sequence) may be given or left zero.
 */
#define TDX_MD_FIELD_MASK 0x3f00000000ffffffull
#define TDX_MD_SHARED_EPT_POINTER \
	0x000000000000203Cull /* vCPU, class VMCS: HPA of the shared EPT's root */
#define TDX_MD_CONFIG_FLAGS 0x1110000300000016ull /* TD: as in TD_PARAMS */
#define TDX_MD_TD_CTLS	    0x1110000300000017ull /* TD: bit 0 PENDING_VE_DISABLE */
#define TDX_MD_NOTIFY_ENABLES \
	0x9100000000000010ull /* TD: bit 0 a #VE when zero-step attacks are suspected */
#define TDX_TD_CTLS_PENDING_VE_DISABLE (1ull << 0)

/* Why the guest left for the host: bits 31:0 of RAX after a TD exit (SDM, basic exit reasons). */
#define TDX_EXIT_EXCEPTION_NMI 0u
#define TDX_EXIT_INTERRUPT     1u
#define TDX_EXIT_EPT_VIOLATION 48u
#define TDX_EXIT_EPT_MISCONFIG 49u
#define TDX_EXIT_VMCALL	       77u

/* Type in RDX 3:0 after an EPT-violation TD exit: what the guest was doing (extended
 * qualification). */
#define TDX_EEQ_NONE	0u
#define TDX_EEQ_ACCEPT	1u
#define TDX_EEQ_ATTR_WR 5u
#define TDX_EEQ_PENDING 6u

/* RDX of a TD exit of type ACCEPT: the level that the guest asked for, and what stood there. */
static inline unsigned int tdx_eeq_requested_level(uint64_t rdx)
{
	return rdx >> 32 & 7;
}

static inline unsigned int tdx_eeq_found_level(uint64_t rdx)
{
	return rdx >> 35 & 7;
}

static inline unsigned int tdx_eeq_found_state(uint64_t rdx)
{
	return rdx >> 38 & 0xff;
}

#endif
