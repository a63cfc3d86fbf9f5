/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a guest can ask of the hypervisor: numbers only, shared by both sides. Never a type of the
 * library's.
 */
#ifndef HYPERVISOR_ABI_H
#define HYPERVISOR_ABI_H

/* CPUID leaf 4000_0000h: EBX, ECX, EDX spell "TriptychHV". A guest without it runs on the bare
 * machine, where VMMCALL is #UD. */
#define HV_CPUID	   0x40000000u
#define HV_CPUID_SIGNATURE "TriptychHV\0"

/*
 * VMMCALL: RAX the number, RDI, RSI, RDX the arguments; RAX the answer (a negative errno where
 * something can fail), RDI and RSI more of it. Other registers stay. An unknown number is answered
 * with -ENOSYS.
 *
 * An access that nobody answers is #GP(0): to the hypervisor's memory, and to the alias of a page,
 * private or shared, that it has not now.
 */

/* RAX HV_INFO_*; RDI, RSI: first and last + 1 byte of the hypervisor's own memory, which no guest
 * reaches. */
#define HV_CALL_INFO 0x54500000
/* Every direct table goes at once (tpt_vm_zap_all_fast). */
#define HV_CALL_ZAP_ALL 0x54500001
/* RAX: faults of this vCPU that installed or changed an entry; RDI: that were answered with "again"
 * or "was there already". */
#define HV_CALL_FAULTS 0x54500002
/* RDI gpa without the shared bit, RSI bytes, RDX 1 private, 0 shared; some may be of that kind
 * already. Newly private memory is zeros. -EINVAL in a VM without private memory, or not whole
 * pages. */
#define HV_CALL_CONVERT 0x54500003
/* RDI register offset in the local APIC's page, RSI value: a write, for guests whose code the
 * hypervisor can't read. */
#define HV_CALL_APIC 0x54500004
/* RDI gpa, with the shared bit for the shared alias: is it mapped now? RAX 1 or 0; RDI the level.
 */
#define HV_CALL_LOOKUP 0x54500005
/* RDI gpa, RSI bytes: the host takes its memory back for a moment, as an MMU notifier does: shared
 * mappings go. */
#define HV_CALL_UNMAP 0x54500006
/* RDI gpa of RAM: was the page written since this was last asked about it? RAX 1 or 0; the dirty
 * log is harvested for it. -EINVAL where there is none. */
#define HV_CALL_WRITTEN 0x54500007

/* Of HV_CALL_INFO: the GPA bit that means shared (0: there is none); vCPUs; the largest leaf's
 * level (1, 2, 3); nothing but the guest changes its tables, so that faults can be counted; there
 * is a dirty log. */
#define HV_INFO_SHARED_BIT(info) ((unsigned int)(info)&63)
#define HV_INFO_VCPUS(info)	 ((unsigned int)((info) >> 8) & 255)
#define HV_INFO_LEVEL(info)	 ((unsigned int)((info) >> 16) & 3)
#define HV_INFO_QUIET(info)	 ((unsigned int)((info) >> 20) & 1)
#define HV_INFO_LOGS(info)	 ((unsigned int)((info) >> 21) & 1)

/* Port at which a guest ends the machine: QEMU's isa-debug-exit, whose exit status will be
 * (value << 1) | 1. */
#define HV_PORT_EXIT 0xf4

#endif
