// SPDX-License-Identifier: BSD-2-Clause
/*
 * A TD's vCPUs on the processor: entry, the guest's instructions, exits, and what a VMM does about
 * each. What the guest does about an exception is its own half's business.
 *
 * An LP's lock is held while its guest runs or is taken out of the TD, and never while the library
 * is called: a kick made inside of the library waits for it.
 */
#include "cli/td_internal.h"

#include <errno.h>
#include <sched.h>

/* Length of an instruction of the guest: any that moves RIP. */
#define INSTRUCTION_BYTES 4
/* Tries to enter, or to get one private fault through, before the host gives up. */
#define ENTER_TRIES 100000
#define FAULT_TRIES 10000000

#define EPT_RWX		7ull
#define EPT_SUPPRESS_VE (1ull << 63)

/* ---- where a thread is ---- */

unsigned int simtd_current_lp(void *ctx)
{
	struct simtd *td = ctx;
	uintptr_t place = (uintptr_t)pthread_getspecific(td->place);

	if (!place) {
		place = 1 + td->config.nr_vcpus +
			atomic_fetch_add(&td->next_host_lp, 1) % TD_HOST_LPS;
		pthread_setspecific(td->place, (void *)place);
	}
	return (unsigned int)place - 1;
}

unsigned int simtd_stand_on(struct simtd *td, unsigned int lp)
{
	unsigned int before = simtd_current_lp(td);

	pthread_setspecific(td->place, (void *)((uintptr_t)lp + 1));
	return before;
}

bool simtd_interrupt_pending(void *ctx, unsigned int lp)
{
	struct simtd *td = ctx;

	return atomic_load_explicit(&td->interrupted[lp], memory_order_relaxed);
}

/* The module, or a failure on purpose. */
static enum tdx_side call_module(struct simtd *td, unsigned int lp, struct tdx_regs *regs)
{
	const struct inject_rule *hit = inject_seamcall(td->config.inject, regs);
	enum tdx_side side;

	if (hit && hit->kind == INJECT_STATUS)
		return TDX_HOST;
	if (hit)
		atomic_store(&td->interrupted[lp], true);
	side = tdx_module_seamcall(td->module, lp, regs);
	if (hit)
		atomic_store(&td->interrupted[lp], false);
	return side;
}

enum tdx_side simtd_seamcall(void *ctx, unsigned int lp, struct tdx_regs *regs)
{
	struct simtd *td = ctx;
	enum tdx_side side;

	if (lp >= td->config.nr_vcpus)
		return call_module(td, lp, regs);
	pthread_mutex_lock(&td->lps[lp].lock);
	side = call_module(td, lp, regs);
	pthread_mutex_unlock(&td->lps[lp].lock);
	return side;
}

/* Takes the guest out by an external interrupt (SDM, basic exit reason 1). Under lp->lock. */
static void interrupt(struct simtd *td, unsigned int n)
{
	const struct tdx_vmexit exit = {.reason = TDX_EXIT_INTERRUPT};
	struct simtd_lp *lp = &td->lps[n];
	struct tdx_regs regs;

	if (!lp->inside)
		return;
	lp->inside = tdx_module_vmexit(td->module, n, &exit, &lp->guest, &regs) == TDX_GUEST;
	lp->stats.exits[TD_EXIT_INTERRUPT]++;
}

int simtd_run_on(void *ctx, unsigned int n, void (*fn)(void *arg), void *arg)
{
	struct simtd *td = ctx;
	unsigned int before;

	if (n >= td->config.nr_vcpus)
		return -ENXIO;
	pthread_mutex_lock(&td->lps[n].lock);
	interrupt(td, n);
	before = simtd_stand_on(td, n);
	fn(arg);
	simtd_stand_on(td, before);
	pthread_mutex_unlock(&td->lps[n].lock);
	return 0;
}

void simtd_kick(struct simtd *td)
{
	for (unsigned int i = 0; i < td->config.nr_vcpus; i++) {
		pthread_mutex_lock(&td->lps[i].lock);
		interrupt(td, i);
		pthread_mutex_unlock(&td->lps[i].lock);
	}
}

void simtd_on_kick(void *ctx, bool reload)
{
	struct simtd *td = ctx;

	/* Before the kick: an entry that missed it sees that its roots may be gone. */
	if (reload)
		atomic_fetch_add(&td->roots_gone, 1);
	simtd_kick(td);
}

void simtd_on_hold(void *ctx, bool held)
{
	struct simtd *td = ctx;

	if (!held) {
		atomic_fetch_sub(&td->held, 1);
		return;
	}
	atomic_fetch_add(&td->held, 1);
	simtd_kick(td);
}

unsigned int simtd_tries(const struct simtd *td, unsigned int usual)
{
	return td->config.tries ? td->config.tries : usual;
}

/* ---- what the VMM does about an exit; no lock is held ---- */

static void count(struct simtd *td, unsigned int n, enum simtd_exit exit)
{
	td->lps[n].stats.exits[exit]++;
}

static enum simtd_exit kind_of_violation(const struct simtd *td, const struct tdx_regs *exit)
{
	if (exit->r8 & td->shared)
		return TD_EXIT_SHARED;
	return (exit->rdx & 0xf) == TDX_EEQ_ACCEPT ? TD_EXIT_ACCEPT : TD_EXIT_PRIVATE;
}

static int try_fault(struct tpt_vcpu *vcpu, struct tpt_fault *fault)
{
	struct tpt_roots roots;
	int err = tpt_vcpu_load_roots(vcpu, &roots);

	if (err)
		return err == -EAGAIN ? TPT_RET_PF_RETRY : err;
	return tpt_vcpu_fault(vcpu, fault);
}

/*
 * A private fault is tried again here rather than by the guest: the module takes a guest that
 * faults again and again at one instruction for one that is being stepped, and doesn't let it in
 * until the page is accepted, which only the guest itself could do.
 */
static int fault_until(struct simtd *td, unsigned int n, const struct tpt_fault *fault,
		       bool patient)
{
	struct tpt_fault f = *fault;
	uint64_t retries = 0;
	int ret;

	while ((ret = try_fault(sim_vcpu(td->sim, n), &f)) == TPT_RET_PF_RETRY) {
		td->lps[n].stats.retries++;
		if (!patient)
			return 0;
		if (++retries == simtd_tries(td, FAULT_TRIES))
			return -EBUSY;
		sched_yield();
		f = *fault;
	}
	return ret;
}

static int handle_violation(struct simtd *td, unsigned int n, const struct tdx_regs *exit)
{
	bool shared = exit->r8 & td->shared;
	struct tpt_fault fault;
	int ret = tdx_exit_fault(td->tdx, exit, &fault);

	if (!ret)
		ret = fault_until(td, n, &fault, !shared);
	/* MMIO: the entry is there now, and the guest gets its #VE when it tries again. */
	if (ret == TPT_RET_PF_EMULATE)
		return shared ? 0 : -EFAULT;
	return ret < 0 ? ret : 0;
}

/* R12: first address, R13: bytes; R11 in the answer: where to go on, or what was wrong. */
static void map_gpa(struct simtd *td, unsigned int n, const struct tdx_regs *call)
{
	struct tdx_regs *answer = &td->lps[n].answer;
	uint64_t gpa = call->r12 & ~td->shared, size = call->r13, done;
	bool private_ = !(call->r12 & td->shared);
	const struct simtd_slot *slot;
	int err;

	answer->r11 = call->r12;
	answer->r10 = GHCI_ALIGN_ERROR;
	if ((call->r12 | size) % TD_PAGE)
		return;
	slot = simtd_find_slot(td, gpa, size);
	answer->r10 = GHCI_INVALID_OPERAND;
	if (!slot || !size)
		return;
	err = simtd_convert(td, slot, gpa, size < TD_MAP_GPA_MAX ? size : TD_MAP_GPA_MAX, private_,
			    &done);
	answer->r11 = call->r12 + done;
	if (!err && done == size)
		answer->r10 = GHCI_SUCCESS;
	else if (!err || err == -EBUSY)
		answer->r10 = GHCI_RETRY;
	td->lps[n].stats.map_gpa_retries += answer->r10 == GHCI_RETRY;
}

/* R12: bytes, R13: 1 for a write, R14: address, R15: data. R11 in the answer: data read. */
static void request_mmio(struct simtd *td, unsigned int n, const struct tdx_regs *call)
{
	struct tdx_regs *answer = &td->lps[n].answer;
	uint64_t size = call->r12, value = call->r15;
	bool write = call->r13 == 1;

	answer->r10 = GHCI_INVALID_OPERAND;
	if ((size != 1 && size != 2 && size != 4 && size != 8) || call->r13 > 1 ||
	    !(call->r14 & td->shared))
		return;
	if (!write)
		value = 0;
	if (td->config.mmio)
		td->config.mmio(td->config.ctx, n, call->r14 & ~td->shared, (unsigned int)size,
				write, &value);
	answer->r10 = GHCI_SUCCESS;
	answer->r11 = write ? 0 : value;
}

static int handle_vmcall(struct simtd *td, unsigned int n, const struct tdx_regs *call)
{
	td->lps[n].answer = (struct tdx_regs){.r10 = GHCI_UNSUPPORTED};
	if (call->r10 || (call->r11 != GHCI_MAP_GPA && call->r11 != GHCI_REQUEST_MMIO)) {
		count(td, n, TD_EXIT_OTHER);
	} else if (call->r11 == GHCI_MAP_GPA) {
		count(td, n, TD_EXIT_VMCALL_MAP_GPA);
		map_gpa(td, n, call);
	} else {
		count(td, n, TD_EXIT_VMCALL_MMIO);
		request_mmio(td, n, call);
	}
	return 0;
}

static int handle_exit(struct simtd *td, unsigned int n, const struct tdx_regs *exit)
{
	enum tdx_enter what = tdx_exit_classify(exit->rax);

	if (what == TDX_ENTER_BUSY)
		return 0;
	if (what != TDX_ENTER_EXIT)
		return -EIO;
	switch ((uint32_t)exit->rax) {
	case TDX_EXIT_EPT_VIOLATION:
	case TDX_EXIT_EPT_MISCONFIG:
		count(td, n, kind_of_violation(td, exit));
		return handle_violation(td, n, exit);
	case TDX_EXIT_VMCALL:
		return handle_vmcall(td, n, exit);
	default:
		count(td, n, TD_EXIT_OTHER);
		return 0;
	}
}

/* ---- entry ---- */

/* With the guest out and lp->lock held: VP.WR if the root is another, VP.ENTER. */
static enum tdx_enter try_enter(struct simtd *td, unsigned int n, tpt_hpa root,
				struct tdx_regs *regs, int *err)
{
	struct simtd_lp *lp = &td->lps[n];
	enum tdx_enter what;

	*err = 0;
	if (lp->shared_root.a != root.a)
		*err = tdx_vcpu_set_shared_eptp(lp->vcpu, root);
	if (*err)
		return *err == -EBUSY ? TDX_ENTER_BUSY : TDX_ENTER_REFUSED;
	lp->shared_root = root;
	*regs = lp->answer;
	what = tdx_vcpu_enter(lp->vcpu, regs);
	if (what == TDX_ENTER_GUEST) {
		lp->inside = true;
		*err = tdx_module_guest_state(td->module, n, &lp->guest);
	}
	return what;
}

/*
 * One try to be inside the TD with lp->lock held. 0: so it is. -EAGAIN: not yet, because of the
 * library or its callers, who will have done; -EBUSY: because of the module. Other errors: it never
 * will be. The lock is not held after an error.
 */
static int enter_once(struct simtd *td, unsigned int n)
{
	struct simtd_lp *lp = &td->lps[n];
	uint64_t roots_gone = atomic_load(&td->roots_gone);
	struct tpt_roots roots;
	struct tdx_regs regs;
	enum tdx_enter what;
	int err = tpt_vcpu_load_roots(sim_vcpu(td->sim, n), &roots);

	if (err)
		return err;
	pthread_mutex_lock(&lp->lock);
	if (lp->inside)
		return 0;
	if (atomic_load(&td->held) || atomic_load(&td->roots_gone) != roots_gone) {
		pthread_mutex_unlock(&lp->lock);
		return -EAGAIN;
	}
	what = try_enter(td, n, roots.direct, &regs, &err);
	if (what == TDX_ENTER_GUEST && !err)
		return 0;
	pthread_mutex_unlock(&lp->lock);
	if (what == TDX_ENTER_EXIT)
		err = handle_exit(td, n, &regs);
	else if (what != TDX_ENTER_BUSY)
		err = -EIO;
	return err ? err : -EBUSY;
}

/* Inside the TD with lp->lock held, or an error and no lock. */
static int enter(struct simtd *td, unsigned int n)
{
	for (unsigned int busy = 0; busy < simtd_tries(td, ENTER_TRIES);) {
		int err = enter_once(td, n);

		if (err != -EAGAIN && err != -EBUSY)
			return err;
		busy += err == -EBUSY;
		sched_yield();
	}
	return -EBUSY;
}

/* ---- the guest's instructions ---- */

/* What one attempt of an instruction came to. */
enum attempt {
	DONE,
	EXCEPTION,
	EXIT,	/* the guest left; the registers say why */
	AGAIN,	/* inside, but nothing was done: execute it again */
	BROKEN, /* the processor can't do it */
};

/*
 * Is this EPT violation one that the processor turns into #VE by itself? SDM vol. 3, "Convertible
 * EPT Violations": bit 63 of the entry that ended the walk is clear.
 */
static bool is_convertible(const struct machine_result *hw)
{
	return hw->level && !(hw->entry & EPT_SUPPRESS_VE) &&
	       (!(hw->entry & EPT_RWX) || hw->level <= TPT_LEVEL_1G);
}

static enum attempt vm_exit(struct simtd *td, unsigned int n, const struct machine_result *hw,
			    struct tdx_regs *exit)
{
	struct simtd_lp *lp = &td->lps[n];
	bool misconfig = hw->outcome == MACHINE_EPT_MISCONFIG;
	const struct tdx_vmexit vmexit = {
		.reason = misconfig ? TDX_EXIT_EPT_MISCONFIG : TDX_EXIT_EPT_VIOLATION,
		.qualification = hw->error,
		.gpa = hw->gpa,
		/* The guest's linear addresses are its physical ones. */
		.gla = misconfig ? 0 : hw->gpa,
	};

	if (hw->gpa & td->shared && !misconfig && is_convertible(hw) &&
	    !tdx_module_convert_violation(td->module, n, &vmexit, &lp->guest)) {
		lp->stats.ve_shared++;
		lp->vector = lp->guest.vector;
		return EXCEPTION;
	}
	if (tdx_module_vmexit(td->module, n, &vmexit, &lp->guest, exit) == TDX_HOST) {
		lp->inside = false;
		return EXIT;
	}
	lp->stats.ve_private += lp->guest.vector == TD_VECTOR_VE;
	lp->vector = lp->guest.vector;
	return lp->guest.vector ? EXCEPTION : AGAIN;
}

/* The guest read poison (SDM: #MC is an exception that makes the guest exit). */
static enum attempt machine_check(struct simtd *td, unsigned int n, struct tdx_regs *exit)
{
	const struct tdx_vmexit vmexit = {
		.reason = TDX_EXIT_EXCEPTION_NMI,
		.interrupt_info = TDX_INTERRUPT_MACHINE_CHECK,
	};
	struct simtd_lp *lp = &td->lps[n];

	lp->inside = tdx_module_vmexit(td->module, n, &vmexit, &lp->guest, exit) == TDX_GUEST;
	return EXIT;
}

static enum attempt try_access(struct simtd *td, unsigned int n, const struct simtd_access *a,
			       struct tdx_regs *exit)
{
	struct machine_cpu *cpu = machine_get_cpu(td->machine, n);
	struct simtd_lp *lp = &td->lps[n];
	struct machine_result hw;

	if (!a->buf)
		machine_access(cpu, a->gpa, a->kind, &hw);
	else if (a->kind & MACHINE_WRITE)
		machine_write(cpu, a->gpa, a->buf, a->len, &hw);
	else
		machine_read(cpu, a->gpa, a->buf, a->len, &hw);
	if (hw.outcome == MACHINE_EPT_VIOLATION || hw.outcome == MACHINE_EPT_MISCONFIG)
		return vm_exit(td, n, &hw, exit);
	if (hw.outcome == MACHINE_CHECK)
		return machine_check(td, n, exit);
	if (hw.outcome != MACHINE_OK)
		return BROKEN;
	lp->guest.rip += INSTRUCTION_BYTES;
	lp->stats.accesses++;
	return DONE;
}

/* Runs on LP @n; ends without the lock. */
static int access_on(struct simtd *td, unsigned int n, const struct simtd_access *a)
{
	for (;;) {
		struct tdx_regs exit;
		enum attempt attempt;
		int err = enter(td, n);

		if (err)
			return err;
		attempt = try_access(td, n, a, &exit);
		pthread_mutex_unlock(&td->lps[n].lock);
		if (attempt == BROKEN)
			return -EFAULT;
		if (attempt == DONE || attempt == EXCEPTION)
			return attempt == DONE ? TD_COMPLETED : TD_EXCEPTION;
		if (attempt == EXIT)
			err = handle_exit(td, n, &exit);
		if (err)
			return err;
	}
}

static bool access_valid(const struct simtd *td, unsigned int n, const struct simtd_access *a)
{
	return n < td->config.nr_vcpus &&
	       (!a->buf || (a->len && a->len <= TD_PAGE - a->gpa % TD_PAGE));
}

int simtd_access(struct simtd *td, unsigned int vcpu, const struct simtd_access *access)
{
	unsigned int before;
	int ret;

	if (!access_valid(td, vcpu, access))
		return -EINVAL;
	before = simtd_stand_on(td, vcpu);
	ret = access_on(td, vcpu, access);
	simtd_stand_on(td, before);
	return ret;
}

static void note_accept(struct simtd *td, unsigned int n, const struct tdx_regs *in)
{
	td->lps[n].stats.accepts++;
	if (td->config.accepted)
		td->config.accepted(td->config.ctx, n, in->rcx >> TPT_PAGE_SHIFT,
				    (enum tpt_level)((in->rcx & 7) + 1));
}

static enum attempt try_call(struct simtd *td, unsigned int n, const struct tdx_regs *in,
			     struct tdx_regs *exit)
{
	struct simtd_lp *lp = &td->lps[n];
	uint64_t rip = lp->guest.rip;

	lp->guest.regs = *in;
	lp->stats.tdcalls++;
	if (tdx_module_tdcall(td->module, n, &lp->guest, exit) == TDX_HOST) {
		lp->inside = false;
		return EXIT;
	}
	lp->vector = lp->guest.vector;
	if (lp->vector)
		return EXCEPTION;
	return lp->guest.rip == rip ? AGAIN : DONE;
}

/* A TDCALL that ended in the host is over if it was a VMCALL, and to be executed again if not. */
static int call_on(struct simtd *td, unsigned int n, struct tdx_regs *regs)
{
	const struct tdx_regs in = *regs;
	struct simtd_lp *lp = &td->lps[n];
	bool answered = false;

	for (;;) {
		struct tdx_regs exit;
		enum attempt attempt = DONE;
		int err = enter(td, n);

		if (err)
			return err;
		if (!answered)
			attempt = try_call(td, n, &in, &exit);
		if (attempt == DONE) {
			*regs = lp->guest.regs;
			if ((in.rax & TDX_RAX_LEAF) == TDG_MEM_PAGE_ACCEPT &&
			    regs->rax == TDX_SUCCESS)
				note_accept(td, n, &in);
		}
		pthread_mutex_unlock(&lp->lock);
		if (attempt == DONE || attempt == EXCEPTION)
			return attempt == DONE ? TD_COMPLETED : TD_EXCEPTION;
		if (attempt == EXIT)
			err = handle_exit(td, n, &exit);
		if (err)
			return err;
		answered = attempt == EXIT && exit.rax == TDX_EXIT_VMCALL;
	}
}

int simtd_call(struct simtd *td, unsigned int vcpu, struct tdx_regs *regs)
{
	unsigned int before;
	int ret;

	if (vcpu >= td->config.nr_vcpus)
		return -EINVAL;
	before = simtd_stand_on(td, vcpu);
	ret = call_on(td, vcpu, regs);
	simtd_stand_on(td, before);
	return ret;
}

unsigned int simtd_vector(struct simtd *td, unsigned int vcpu)
{
	return vcpu < td->config.nr_vcpus ? td->lps[vcpu].vector : 0;
}
