// SPDX-License-Identifier: BSD-2-Clause
/*
 * One processor of the guest, on one of the machine's: its registers, its loop, and how it is got
 * out. Interrupts go straight to the guest; the one thing that gets it out is an NMI. Each that
 * comes is taken for the hypervisor's: two that meet are one, so it can't be known better. A
 * device's would be lost; those that the guest sends itself never become real ones.
 */
#include "hypervisor/hv.h"
#include "hypervisor/monitor.h"

#define GUEST_PAT  0x0007040600070406ull /* APM vol. 2, "PAT Register": as after a reset */
#define RFLAGS_ONE 2ull
#define NMI_WAITS  1000

void guest_run(struct vcpu *v);

struct vcpu *vcpus;
unsigned int nr_vcpus;

void vcpus_init(void)
{
	/* The last processor keeps house; alone, there is nobody to do it. */
	if (nr_cpus < 2)
		panic("one processor: one more than the guest has is needed, for the housekeeping");
	nr_vcpus = nr_cpus - 1;
	vcpus = phys(page_take(nr_vcpus * sizeof(*vcpus)));
	for (unsigned int i = 0; i < nr_vcpus; i++) {
		struct vcpu *v = &vcpus[i];

		v->id = i;
		v->cpu = &cpus[i];
		v->waiting = true;
		cpus[i].vcpu = v;
		v->vmcb_pa = page_take(4096);
		v->host_vmcb_pa = page_take(4096);
		v->hsave_pa = page_take(4096);
		v->vmcb = phys(v->vmcb_pa);
		exits_init(v->vmcb);
	}
	acpi_hide(cpus[nr_vcpus].apic_id);
}

/* ---- registers ---- */

static struct svm_segment segment(uint16_t selector, uint16_t attributes, uint32_t limit)
{
	return (struct svm_segment){selector, attributes, limit, 0};
}

/* What all ways to start have in common; APM vol. 2, "Processor Initialization State". */
static void init_common(struct vcpu *v, struct svm_segment code, struct svm_segment data)
{
	struct vmcb *b = v->vmcb;

	v->regs = (struct registers){0};
	b->es = b->ss = b->ds = b->fs = b->gs = data;
	b->cs = code;
	b->gdtr = b->idtr = segment(0, 0, 0xffff);
	b->ldtr = segment(0, SVM_SEG_LDT, 0xffff);
	b->tr = segment(0, SVM_SEG_TSS, 0xffff);
	b->cpl = 0;
	b->efer = EFER_SVME;
	b->cr0 = CR0_ET;
	b->cr2 = b->cr3 = b->cr4 = 0;
	b->dr6 = 0xffff0ff0;
	b->dr7 = 0x400;
	b->rflags = RFLAGS_ONE;
	b->rip = b->rsp = b->rax = 0;
	b->g_pat = GUEST_PAT;
	b->event_inj = b->interrupt_shadow = 0;
	b->intercept1 &= ~SVM_INTERCEPT_IRET;
	v->nmi_pending = v->nmi_masked = v->waiting = false;
}

void vcpu_init_real(struct vcpu *v, uint8_t startup_vector)
{
	struct svm_segment code = segment((uint16_t)(startup_vector << 8), SVM_SEG_CODE16, 0xffff);

	code.base = (uint64_t)startup_vector << 12;
	init_common(v, code, segment(0, SVM_SEG_DATA16, 0xffff));
	v->regs.rdx = cpuid(1, 0).a;
}

void vcpu_init_flat(struct vcpu *v, uint64_t rip)
{
	init_common(v, segment(8, SVM_SEG_CODE32, ~0u), segment(16, SVM_SEG_DATA32, ~0u));
	v->vmcb->cr0 |= CR0_PE;
	v->vmcb->rip = rip;
}

void vcpu_init_long(struct vcpu *v, uint64_t rip, uint64_t cr3)
{
	init_common(v, segment(16, SVM_SEG_CODE64, ~0u), segment(24, SVM_SEG_DATA32, ~0u));
	v->vmcb->cr0 |= CR0_PE | CR0_PG;
	v->vmcb->cr4 = CR4_PAE;
	v->vmcb->cr3 = cr3;
	v->vmcb->efer |= EFER_LME | EFER_LMA;
	v->vmcb->rip = rip;
}

void vcpu_inject(struct vcpu *v, enum svm_event_type type, unsigned int vector, bool has_error,
		 uint32_t error)
{
	/* Only one at a time. */
	if (v->vmcb->event_inj & SVM_EVENT_VALID)
		machine_end(END_BAD, 0, "an exception in the delivery of another event");
	v->vmcb->event_inj = SVM_EVENT_VALID | (uint64_t)type << 8 | vector |
			     (has_error ? SVM_EVENT_ERROR | (uint64_t)error << 32 : 0);
}

void vcpu_skip(struct vcpu *v, unsigned int bytes)
{
	v->vmcb->rip += bytes;
	v->vmcb->interrupt_shadow = 0;
}

/*
 * An event whose delivery came to an exit is not pending anywhere any more: it is put back. Two
 * exceptions. What an instruction raised (INT n, INT3, INTO) it raises again when it runs again.
 * And an interrupt that QEMU's emulator delivered by itself is told as an exception with a vector
 * that no exception has, and a stale error code.
 */
static void reinject(struct vcpu *v)
{
	uint64_t e = v->vmcb->exit_int_info;
	unsigned int type = SVM_EVENT_TYPE(e), vector = SVM_EVENT_VECTOR(e);

	if (!(e & SVM_EVENT_VALID) || type == SVM_EVENT_SOFT)
		return;
	if (type == SVM_EVENT_EXCEPTION && (vector == VECTOR_BP || vector == VECTOR_OF))
		return;
	if (type == SVM_EVENT_EXCEPTION && vector > 31)
		e = SVM_EVENT_VALID | SVM_EVENT_INTR << 8 | vector;
	v->vmcb->event_inj = e;
	v->reinjected++;
}

/* ---- out of the guest ---- */

void vcpu_kick(struct vcpu *v)
{
	apic_send(v->cpu->apic_id, ICR_NMI << 8 | ICR_ASSERT);
}

void vcpu_ask(struct vcpu *v, uint32_t what)
{
	atomic_fetch_or(&v->asked, what);
	vcpu_kick(v);
}

/*
 * The guest's own NMIs, which it asks for at its APIC. One at a time, until its handler returns;
 * where another event goes first, a kick brings the vCPU out again right behind it.
 */
static void inject_nmi(struct vcpu *v)
{
	if (!v->nmi_pending || v->nmi_masked)
		return;
	if (v->vmcb->event_inj & SVM_EVENT_VALID) {
		vcpu_kick(v);
		return;
	}
	vcpu_inject(v, SVM_EVENT_NMI, VECTOR_NMI, false, 0);
	v->nmi_pending = false;
	v->nmi_masked = true;
	v->vmcb->intercept1 |= SVM_INTERCEPT_IRET;
}

/* Lets an NMI that is pending come through to the hypervisor's own handler. */
static void take_nmi(void)
{
	uint64_t before = this_cpu()->nmis;

	for (unsigned int i = 0; i < NMI_WAITS && this_cpu()->nmis == before; i++) {
		cpu_stgi();
		cpu_pause();
		cpu_clgi();
	}
}

void vcpu_park(struct vcpu *v)
{
	atomic_store(&v->parked, 1);
	for (;;)
		cpu_halt();
}

static void do_asked(struct vcpu *v)
{
	uint32_t asked = atomic_exchange(&v->asked, 0);

	if (asked & ASK_STOP)
		vcpu_park(v);
	if (asked & ASK_INIT)
		v->waiting = true;
	if ((asked & ASK_STARTUP) && v->waiting)
		vcpu_init_real(v, v->startup_vector);
	if (asked & ASK_NMI)
		v->nmi_pending = true;
}

/* The housekeeper kicks again whoever sleeps over what he was asked. */
static void wait_for_startup(void)
{
	cpu_stgi();
	cpu_halt();
	cpu_clgi();
}

/* ---- into the guest ---- */

/*
 * Is the vCPU in guest mode for all that the platform knows? Roots are loaded before that; what
 * came in between has asked for a flush at least, so they are loaded again.
 */
static bool enter(struct vcpu *v, bool *flush)
{
	uint64_t root = vm_root(v);
	uint32_t told;

	if (!root)
		return false;
	told = tpt_bare_guest_enter(bare, v->id);
	if (told & TPT_BARE_HELD)
		return false;
	if ((told & TPT_BARE_FLUSH) || atomic_load(&v->asked)) {
		*flush |= told & TPT_BARE_FLUSH;
		tpt_bare_guest_leave(bare, v->id);
		return false;
	}
	if (options.td)
		root = monitor_enter(v->id, root, flush);
	v->vmcb->ncr3 = root;
	return true;
}

/* How long the guest waited for a fault's answer: counted by powers of two of nanoseconds. */
static void count_fault(struct vcpu *v, uint64_t tsc)
{
	uint64_t ns = tsc * 1000000 / tsc_per_ms | 1;

	v->npf_tsc += tsc;
	v->npf_times[63 - __builtin_clzll(ns)]++;
}

static void run_once(struct vcpu *v, bool *flush)
{
	uint64_t now, faults = v->exits[EXIT_NPF];

	if (!enter(v, flush)) {
		cpu_pause();
		return;
	}
	v->vmcb->tlb_control = *flush ? SVM_TLB_FLUSH_ALL : 0;
	v->flushes += *flush;
	*flush = false;
	v->entries++;
	guest_run(v);
	now = rdtsc();
	if (options.td)
		monitor_leave(v->id);
	tpt_bare_guest_leave(bare, v->id);
	v->vmcb->event_inj = 0;
	reinject(v);
	exit_handle(v);
	now = rdtsc() - now;
	if (v->exits[EXIT_NPF] != faults)
		count_fault(v, now);
}

void vcpu_loop(struct vcpu *v)
{
	bool flush = true;

	wrmsr(MSR_VM_HSAVE, v->hsave_pa);
	__asm__ volatile("vmsave %0" : : "a"(v->host_vmcb_pa) : "memory");
	cpu_clgi();
	for (;;) {
		do_asked(v);
		if (v->waiting) {
			wait_for_startup();
			continue;
		}
		inject_nmi(v);
		run_once(v, &flush);
		if (v->vmcb->exit_code != SVM_EXIT_NMI)
			continue;
		v->vmcb->exit_code = 0;
		take_nmi();
	}
}
