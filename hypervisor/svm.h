/* SPDX-License-Identifier: BSD-2-Clause */
/* The virtual machine control block: APM vol. 2, appendix B. Layout and numbers only. */
#ifndef HYPERVISOR_SVM_H
#define HYPERVISOR_SVM_H

#include <stddef.h>
#include <stdint.h>

/* Intercepts, first word: VMCB offset 00Ch. */
#define SVM_INTERCEPT_NMI      (1u << 1)
#define SVM_INTERCEPT_INIT     (1u << 3)
#define SVM_INTERCEPT_CPUID    (1u << 18)
#define SVM_INTERCEPT_IRET     (1u << 20)
#define SVM_INTERCEPT_INVLPGA  (1u << 26)
#define SVM_INTERCEPT_IOIO     (1u << 27)
#define SVM_INTERCEPT_MSR      (1u << 28)
#define SVM_INTERCEPT_SHUTDOWN (1u << 31)
/* Second word, 010h: VMRUN, VMMCALL, VMLOAD, VMSAVE, STGI, CLGI, SKINIT. */
#define SVM_INTERCEPT_SVM 0x7fu

/* Exit codes: APM vol. 2, appendix C. */
#define SVM_EXIT_NMI	  0x61
#define SVM_EXIT_INIT	  0x63
#define SVM_EXIT_CPUID	  0x72
#define SVM_EXIT_IRET	  0x74
#define SVM_EXIT_INVLPGA  0x7a
#define SVM_EXIT_IOIO	  0x7b
#define SVM_EXIT_MSR	  0x7c
#define SVM_EXIT_SHUTDOWN 0x7f
#define SVM_EXIT_VMRUN	  0x80
#define SVM_EXIT_VMMCALL  0x81
#define SVM_EXIT_SKINIT	  0x86
#define SVM_EXIT_NPF	  0x400
#define SVM_EXIT_INVALID  (~0ull)

/* EVENTINJ and EXITINTINFO: APM vol. 2, "Event Injection". */
#define SVM_EVENT_VALID	    (1ull << 31)
#define SVM_EVENT_ERROR	    (1ull << 11)
#define SVM_EVENT_VECTOR(e) ((unsigned int)(e)&255)
#define SVM_EVENT_TYPE(e)   ((unsigned int)((e) >> 8) & 7)
enum svm_event_type {
	SVM_EVENT_INTR = 0,
	SVM_EVENT_NMI = 2,
	SVM_EVENT_EXCEPTION = 3,
	SVM_EVENT_SOFT = 4,
};

/* EXITINFO1 of IOIO: APM vol. 2, "IOIO Intercept Information". */
#define SVM_IO_IN	(1u << 0)
#define SVM_IO_STRING	(1u << 2)
#define SVM_IO_SIZE(i)	((unsigned int)(i) >> 4 & 7) /* bytes */
#define SVM_IO_PORT(i)	((uint16_t)((i) >> 16))
#define SVM_IOPM_BYTES	(3 * 4096)
#define SVM_MSRPM_BYTES (2 * 4096)

#define SVM_TLB_FLUSH_ALL 1 /* TLB_CONTROL */

struct svm_segment {
	uint16_t selector, attributes; /* attributes: descriptor bits 55:52 and 47:40 */
	uint32_t limit;
	uint64_t base;
};

#define SVM_SEG_CODE64 0xa9b
#define SVM_SEG_CODE32 0xc9b
#define SVM_SEG_CODE16 0x09b
#define SVM_SEG_DATA32 0xc93
#define SVM_SEG_DATA16 0x093
#define SVM_SEG_LDT    0x082
#define SVM_SEG_TSS    0x08b
#define SVM_SEG_L      (1u << 9)
#define SVM_SEG_D      (1u << 10)

struct vmcb {
	/* Control area. */
	uint32_t intercept_cr, intercept_dr, intercept_exceptions;
	uint32_t intercept1, intercept2;
	uint8_t reserved1[0x040 - 0x014];
	uint64_t iopm, msrpm, tsc_offset;
	uint32_t asid;
	uint8_t tlb_control, reserved2[3];
	uint64_t v_intr, interrupt_shadow;
	uint64_t exit_code, exit_info1, exit_info2, exit_int_info;
	uint64_t np_enable, avic_bar, ghcb, event_inj, ncr3;
	uint8_t reserved3[0x400 - 0x0b8];

	/* State save area. */
	struct svm_segment es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
	uint8_t reserved4[0x4cb - 0x4a0], cpl, reserved5[4];
	uint64_t efer;
	uint8_t reserved6[0x548 - 0x4d8];
	uint64_t cr4, cr3, cr0, dr7, dr6, rflags, rip;
	uint8_t reserved7[0x5d8 - 0x580];
	uint64_t rsp, s_cet, ssp, isst, rax;
	uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip, cr2;
	uint8_t reserved8[0x668 - 0x648];
	uint64_t g_pat;
	uint8_t reserved9[0x1000 - 0x670];
};

_Static_assert(offsetof(struct vmcb, iopm) == 0x040, "APM appendix B: IOPM_BASE_PA");
_Static_assert(offsetof(struct vmcb, asid) == 0x058, "APM appendix B: guest ASID");
_Static_assert(offsetof(struct vmcb, exit_code) == 0x070, "APM appendix B: EXITCODE");
_Static_assert(offsetof(struct vmcb, np_enable) == 0x090, "APM appendix B: NP_ENABLE");
_Static_assert(offsetof(struct vmcb, event_inj) == 0x0a8, "APM appendix B: EVENTINJ");
_Static_assert(offsetof(struct vmcb, ncr3) == 0x0b0, "APM appendix B: N_CR3");
_Static_assert(offsetof(struct vmcb, es) == 0x400, "APM appendix B: state save area");
_Static_assert(offsetof(struct vmcb, cpl) == 0x4cb, "APM appendix B: CPL");
_Static_assert(offsetof(struct vmcb, efer) == 0x4d0, "APM appendix B: EFER");
_Static_assert(offsetof(struct vmcb, cr4) == 0x548, "APM appendix B: CR4");
_Static_assert(offsetof(struct vmcb, rip) == 0x578, "APM appendix B: RIP");
_Static_assert(offsetof(struct vmcb, rsp) == 0x5d8, "APM appendix B: RSP");
_Static_assert(offsetof(struct vmcb, rax) == 0x5f8, "APM appendix B: RAX");
_Static_assert(offsetof(struct vmcb, cr2) == 0x640, "APM appendix B: CR2");
_Static_assert(offsetof(struct vmcb, g_pat) == 0x668, "APM appendix B: G_PAT");
_Static_assert(sizeof(struct vmcb) == 4096, "a VMCB is a page");

#endif
