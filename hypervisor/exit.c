// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the guest did that it could not do alone: one function an exit code. All devices are the
 * guest's own; only what would hand it the machine, or hide its end, comes here.
 */
#include "hypervisor/abi.h"
#include "hypervisor/hv.h"

#define PORT_COM2	0x2f8 /* to 2ffh */
#define PORT_KEYBOARD	0x64
#define KEYBOARD_RESET	0xfe
#define PORT_CONFIG	0x510 /* QEMU's fw_cfg: selector, and 511h data */
#define CONFIG_CPUS	5
#define CONFIG_MAX_CPUS 15
#define PM1_SLEEP	(1u << 13) /* ACPI 6.4, "PM1 Control Registers": SLP_EN */
#define CPUID1_X2APIC	(1u << 21)
#define CPUID1_OSXSAVE	(1u << 27)

/* ---- which MSRs and ports come here ---- */

/* APM vol. 2, "MSR Intercepts": two bits an MSR, read and write, in four ranges. */
static void intercept_msr(uint8_t *map, uint32_t msr)
{
	uint32_t bit = 2 * (msr & 0x1fff);

	if (msr >= 0xc0010000)
		map += 0x1000;
	else if (msr >= 0xc0000000)
		map += 0x800;
	map[bit / 8] |= (uint8_t)(3u << bit % 8);
}

static void intercept_ports(uint8_t *map, uint32_t first, uint32_t nr)
{
	for (uint32_t port = first; port < first + nr; port++)
		map[port / 8] |= (uint8_t)(1u << port % 8);
}

static void make_maps(uint64_t *iopm, uint64_t *msrpm)
{
	*iopm = page_take(SVM_IOPM_BYTES);
	intercept_ports(phys(*iopm), PORT_COM2, 8);
	intercept_ports(phys(*iopm), PORT_KEYBOARD, 1);
	intercept_ports(phys(*iopm), HV_PORT_EXIT, 1);
	intercept_ports(phys(*iopm), PORT_RESET, 1);
	intercept_ports(phys(*iopm), PORT_CONFIG, 2);
	intercept_ports(phys(*iopm), acpi_power_port, 2);

	*msrpm = page_take(SVM_MSRPM_BYTES);
	intercept_msr(phys(*msrpm), MSR_EFER);
	intercept_msr(phys(*msrpm), MSR_VM_CR);
	intercept_msr(phys(*msrpm), MSR_VM_HSAVE);
	intercept_msr(phys(*msrpm), MSR_APIC_BASE);
	/* Where system-management code lies: it runs below everything. */
	intercept_msr(phys(*msrpm), MSR_SMM_BASE);
	intercept_msr(phys(*msrpm), MSR_SMM_MASK);
	for (uint32_t msr = MSR_X2APIC; msr < MSR_X2APIC + 0x100; msr++)
		intercept_msr(phys(*msrpm), msr);
}

void exits_init(struct vmcb *b)
{
	static uint64_t iopm, msrpm;

	if (!iopm)
		make_maps(&iopm, &msrpm);
	b->intercept1 = SVM_INTERCEPT_NMI | SVM_INTERCEPT_INIT | SVM_INTERCEPT_CPUID |
			SVM_INTERCEPT_INVLPGA | SVM_INTERCEPT_IOIO | SVM_INTERCEPT_MSR |
			SVM_INTERCEPT_SHUTDOWN;
	b->intercept2 = SVM_INTERCEPT_SVM;
	b->iopm = iopm;
	b->msrpm = msrpm;
	b->asid = 1;
	b->np_enable = 1;
}

/* ---- one exit each ---- */

static void inject_gp(struct vcpu *v)
{
	vcpu_inject(v, SVM_EVENT_EXCEPTION, VECTOR_GP, true, 0);
}

static void inject_ud(struct vcpu *v)
{
	vcpu_inject(v, SVM_EVENT_EXCEPTION, VECTOR_UD, false, 0);
}

static void on_npf(struct vcpu *v)
{
	struct store store;
	uint64_t gpa = v->vmcb->exit_info2;

	switch (vm_fault(v, gpa, v->vmcb->exit_info1)) {
	case NPF_AGAIN:
		v->exits[EXIT_NPF]++;
		return;
	case NPF_APIC:
		v->exits[EXIT_APIC]++;
		if (decode_store(v, &store) && store.bytes == 4 && !(gpa & 3)) {
			lapic_write(v, (uint32_t)gpa & 0xfff, (uint32_t)store.value);
			vcpu_skip(v, store.length);
			return;
		}
		break;
	case NPF_NOBODY:
		v->exits[EXIT_NPF]++;
		break;
	}
	/* Whatever was being delivered when it happened can't be delivered. */
	inject_gp(v);
}

static void on_cpuid(struct vcpu *v)
{
	static const char signature[] = HV_CPUID_SIGNATURE;
	uint32_t leaf = (uint32_t)v->vmcb->rax;
	struct cpuid r = cpuid(leaf, (uint32_t)v->regs.rcx);

	if (leaf == 1) {
		r.c &= ~(CPUID1_X2APIC | CPUID1_OSXSAVE);
		r.c |= v->vmcb->cr4 & CR4_OSXSAVE ? CPUID1_OSXSAVE : 0;
	} else if (leaf == 0x80000001) {
		r.c &= ~CPUID_EXT_SVM;
	} else if (leaf == 0x8000000a) {
		r = (struct cpuid){0};
	} else if (leaf == HV_CPUID) {
		r.a = HV_CPUID;
		memcpy(&r.b, &signature[0], 4);
		memcpy(&r.c, &signature[4], 4);
		memcpy(&r.d, &signature[8], 4);
	}
	v->vmcb->rax = r.a;
	v->regs.rbx = r.b;
	v->regs.rcx = r.c;
	v->regs.rdx = r.d;
	vcpu_skip(v, 2);
}

static bool read_msr(struct vcpu *v, uint32_t msr, uint64_t *value)
{
	if (msr == MSR_EFER)
		*value = v->vmcb->efer & ~EFER_SVME;
	else if (msr == MSR_VM_CR)
		*value = VM_CR_SVMDIS;
	else if (msr == MSR_APIC_BASE)
		*value = rdmsr(msr);
	else
		return false;
	return true;
}

static bool write_msr(struct vcpu *v, uint32_t msr, uint64_t value)
{
	const uint64_t efer_writable = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE | EFER_FFXSR;

	if (msr == MSR_EFER && !(value & ~efer_writable)) {
		/* LMA follows the guest's paging, not its wish. */
		v->vmcb->efer = (value & ~EFER_LMA) | (v->vmcb->efer & EFER_LMA) | EFER_SVME;
		return true;
	}
	/* The APIC stays where its page is watched, and on, or no kick would come through it. */
	if (msr == MSR_APIC_BASE && (value & APIC_BASE_ADDR) == APIC_BASE &&
	    !(value & APIC_BASE_X2)) {
		wrmsr(msr, value | APIC_BASE_ON);
		return true;
	}
	return false;
}

static void on_msr(struct vcpu *v)
{
	uint32_t msr = (uint32_t)v->regs.rcx;
	uint64_t value = v->regs.rdx << 32 | (uint32_t)v->vmcb->rax;
	bool done;

	if (v->vmcb->exit_info1) {
		done = write_msr(v, msr, value);
	} else {
		done = read_msr(v, msr, &value);
		if (done) {
			v->vmcb->rax = (uint32_t)value;
			v->regs.rdx = value >> 32;
		}
	}
	if (done)
		vcpu_skip(v, 2);
	else
		inject_gp(v);
}

/*
 * QEMU's configuration says how many processors there are; the one that keeps house is not the
 * guest's. Its data port is watched only while that number is selected: it is read in strings, too.
 */
static bool config_is_cpus;

static void config_select(struct vcpu *v, uint32_t selector)
{
	uint8_t *map = phys(v->vmcb->iopm), bit = 1u << (PORT_CONFIG + 1) % 8;

	config_is_cpus = selector == CONFIG_CPUS || selector == CONFIG_MAX_CPUS;
	if (config_is_cpus)
		map[(PORT_CONFIG + 1) / 8] |= bit;
	else
		map[(PORT_CONFIG + 1) / 8] &= (uint8_t)~bit;
}

static uint32_t port_read(uint16_t port, unsigned int bytes)
{
	if (port >= PORT_COM2 && port < PORT_COM2 + 8)
		return ~0u;
	if (port == PORT_CONFIG + 1 && config_is_cpus) {
		uint32_t low = inb(port);

		/* The high byte follows, which is 0 for all that fit here. */
		return low ? low - 1 : 0;
	}
	return bytes == 1 ? inb(port) : bytes == 2 ? inw(port) : inl(port);
}

static void port_write(struct vcpu *v, uint16_t port, unsigned int bytes, uint32_t value)
{
	if (port >= PORT_COM2 && port < PORT_COM2 + 8)
		return;
	if (port == HV_PORT_EXIT)
		machine_end(END_EXIT, value, NULL);
	if (port == acpi_power_port && (value & PM1_SLEEP))
		machine_end(END_POWER_OFF, value, NULL);
	if ((port == PORT_KEYBOARD && value == KEYBOARD_RESET) ||
	    (port == PORT_RESET && (value & RESET_NOW)))
		machine_end(END_RESET, 0, NULL);
	if (port == PORT_CONFIG)
		config_select(v, value);
	if (bytes == 1)
		outb(port, (uint8_t)value);
	else if (bytes == 2)
		outw(port, (uint16_t)value);
	else
		outl(port, value);
}

static void on_io(struct vcpu *v)
{
	uint64_t info = v->vmcb->exit_info1;
	unsigned int bytes = SVM_IO_SIZE(info);
	uint64_t mask = bytes == 1 ? 0xff : bytes == 2 ? 0xffff : 0xffffffff;

	/* None of these ports has a use for strings. */
	if (info & SVM_IO_STRING) {
		inject_gp(v);
		return;
	}
	if (info & SVM_IO_IN)
		v->vmcb->rax = bytes == 4 ? port_read(SVM_IO_PORT(info), 4)
					  : (v->vmcb->rax & ~mask) |
						    (port_read(SVM_IO_PORT(info), bytes) & mask);
	else
		port_write(v, SVM_IO_PORT(info), bytes, (uint32_t)(v->vmcb->rax & mask));
	v->vmcb->rip = v->vmcb->exit_info2;
	v->vmcb->interrupt_shadow = 0;
}

/* ---- calls: abi.h ---- */

static uint64_t call_info(struct vcpu *v)
{
	v->regs.rdi = own.start;
	v->regs.rsi = own.end;
	return (options.td ? options.shared_bit : 0) | nr_vcpus << 8 |
	       (uint64_t)options.level << 16 | (uint64_t)housekeeper_is_quiet() << 20 |
	       (uint64_t) !!options.dirty << 21;
}

static uint64_t call_faults(struct vcpu *v)
{
	struct tpt_vcpu_stats stats;

	tpt_vcpu_get_stats(v->tpt, &stats);
	v->regs.rdi = stats.pf_retry + stats.pf_spurious;
	return stats.pf_fixed;
}

static uint64_t call_lookup(struct vcpu *v)
{
	struct tpt_lookup lookup;
	int mapped;

	do
		mapped = tpt_vcpu_lookup(v->tpt, tpt_gpa_make(v->regs.rdi), &lookup);
	while (mapped == -ERR_AGAIN);
	v->regs.rdi = lookup.level;
	return (uint64_t)mapped;
}

static uint64_t call_written(uint64_t gpa)
{
	if (!options.dirty || gpa >= own.start)
		return (uint64_t)-ERR_INVAL;
	return housekeeper_was_written(gpa);
}

static void on_call(struct vcpu *v)
{
	struct registers *r = &v->regs;
	uint64_t *answer = &v->vmcb->rax;

	if (v->vmcb->cpl) {
		inject_ud(v);
		return;
	}
	vcpu_skip(v, 3);
	switch (*answer) {
	case HV_CALL_INFO:
		*answer = call_info(v);
		break;
	case HV_CALL_ZAP_ALL:
		*answer = (uint64_t)tpt_vm_zap_all_fast(vm);
		break;
	case HV_CALL_FAULTS:
		*answer = call_faults(v);
		break;
	case HV_CALL_CONVERT:
		*answer = (uint64_t)vm_convert(r->rdi, r->rsi, r->rdx);
		break;
	case HV_CALL_APIC:
		lapic_write(v, (uint32_t)r->rdi & 0xffc, (uint32_t)r->rsi);
		*answer = 0;
		break;
	case HV_CALL_LOOKUP:
		*answer = call_lookup(v);
		break;
	case HV_CALL_UNMAP:
		*answer = (uint64_t)vm_unmap(r->rdi, r->rsi);
		break;
	case HV_CALL_WRITTEN:
		*answer = call_written(r->rdi);
		break;
	default:
		*answer = (uint64_t)-ERR_NOSYS;
	}
}

void exit_handle(struct vcpu *v)
{
	uint64_t code = v->vmcb->exit_code;

	switch (code) {
	case SVM_EXIT_NPF:
		on_npf(v);
		break;
	case SVM_EXIT_NMI: /* vcpu_loop() takes it */
	case SVM_EXIT_INIT:
		v->exits[EXIT_KICK]++;
		break;
	case SVM_EXIT_IRET: /* from its handler of an NMI; the instruction is still to come */
		v->exits[EXIT_OTHER]++;
		v->nmi_masked = false;
		v->vmcb->intercept1 &= ~SVM_INTERCEPT_IRET;
		break;
	case SVM_EXIT_CPUID:
		v->exits[EXIT_CPUID]++;
		on_cpuid(v);
		break;
	case SVM_EXIT_MSR:
		v->exits[EXIT_MSR]++;
		on_msr(v);
		break;
	case SVM_EXIT_IOIO:
		v->exits[EXIT_IO]++;
		on_io(v);
		break;
	case SVM_EXIT_VMMCALL:
		v->exits[EXIT_CALL]++;
		on_call(v);
		break;
	case SVM_EXIT_SHUTDOWN:
		machine_end(END_BAD, 0, "the guest's processor shut down (a triple fault)");
	case SVM_EXIT_INVALID:
		machine_end(END_BAD, 0, "VMRUN refused the guest's state");
	default:
		v->exits[EXIT_OTHER]++;
		if (code == SVM_EXIT_INVLPGA || (code >= SVM_EXIT_VMRUN && code <= SVM_EXIT_SKINIT))
			inject_ud(v);
		else
			panic("exit %lx at %lx, information %lx %lx", code, v->vmcb->rip,
			      v->vmcb->exit_info1, v->vmcb->exit_info2);
	}
}
