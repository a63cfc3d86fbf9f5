// SPDX-License-Identifier: BSD-2-Clause
/* The simulated host. Wires only: every decision is the library's, every judgement the machine's.
 */
#include "cli/sim.h"

#include <errno.h>
#include <stdatomic.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sim_cpu {
	/* With a page-modification log: whoever has it keeps the vCPU out of guest and library. */
	pthread_mutex_t lock;
	struct machine_cpu *cpu;
	struct tpt_vcpu *vcpu;
	uint32_t as_id;
	bool loaded;
	tpt_hpa root; /* as loaded in the machine */
	uint32_t generation;
};

struct sim {
	struct sim_config config;
	struct machine *machine;
	struct tpt_posix *posix;
	struct tpt_vm *vm;
	struct sim_cpu cpu[SIM_MAX_VCPUS];
	struct sim_td td;
	bool has_td;
	/* Moves when roots that vCPUs may have loaded are gone. */
	_Atomic uint64_t roots_gone;
	uint64_t misuses;    /* of the platform, when it was destroyed */
	uint64_t shared_gpa; /* the shared bit as an address, 0 if there is none */
};

/* Tags name address spaces to the machine; a TD's translations are tagged by the module's TDR. */
static uint64_t tag_of(uint32_t as_id)
{
	return 1 + as_id;
}

/* ---- the platform's hooks ---- */

static void flush_range(struct sim *sim, uint32_t as_id, uint64_t start, uint64_t end)
{
	uint64_t tag = sim->has_td ? MACHINE_TAG_ALL : tag_of(as_id);

	machine_flush(sim->machine, NULL, tag, start | sim->shared_gpa, end | sim->shared_gpa,
		      MACHINE_FLUSH_REMOTE);
}

static void on_flush(void *ctx, struct tpt_vm *vm, const struct tpt_flush *flush)
{
	struct sim *sim = ctx;

	(void)vm;
	/* A vCPU in guest mode keeps the root that it entered with. */
	if (flush->all && sim->has_td)
		sim->td.kick(sim->td.ctx, true);
	if (flush->all && !sim->has_td) {
		atomic_fetch_add(&sim->roots_gone, 1);
		machine_kick(sim->machine, NULL);
	}
	if (flush->all)
		machine_flush(sim->machine, NULL, MACHINE_TAG_ALL, 0, MACHINE_GPA_END,
			      MACHINE_FLUSH_REMOTE);
	else
		flush_range(sim, flush->as_id, flush->range.start << TPT_PAGE_SHIFT,
			    flush->range.end << TPT_PAGE_SHIFT);
}

/* What the processor logged is the library's before the vCPU does anything else. Under its lock. */
static void drain_pml(struct sim_cpu *c)
{
	uint64_t log[MACHINE_PML_ENTRIES];
	tpt_gpa gpas[MACHINE_PML_ENTRIES];
	unsigned int n = machine_cpu_drain_pml(c->cpu, log);

	for (unsigned int i = 0; i < n; i++)
		gpas[i].a = log[i];
	if (n)
		tpt_vcpu_pml(c->vcpu, gpas, n);
}

static bool has_pml(const struct sim *sim)
{
	return sim->config.vm.flags & TPT_VM_PML;
}

static void step_begin(struct sim *sim, struct sim_cpu *c)
{
	if (has_pml(sim))
		pthread_mutex_lock(&c->lock);
}

static void step_end(struct sim *sim, struct sim_cpu *c)
{
	if (has_pml(sim))
		pthread_mutex_unlock(&c->lock);
}

static void drain_all(struct sim *sim)
{
	for (unsigned int i = 0; i < sim->config.nr_vcpus; i++) {
		step_begin(sim, &sim->cpu[i]);
		drain_pml(&sim->cpu[i]);
		step_end(sim, &sim->cpu[i]);
	}
}

static void on_kick(void *ctx, struct tpt_vm *vm, enum tpt_kick_reason reason)
{
	struct sim *sim = ctx;

	(void)vm;
	if (sim->has_td)
		sim->td.kick(sim->td.ctx, false);
	else
		machine_kick(sim->machine, NULL);
	if (reason == TPT_KICK_DIRTY_LOG)
		drain_all(sim);
}

static void on_hold(void *ctx, struct tpt_vm *vm, bool held)
{
	struct sim *sim = ctx;

	/* Without a TD vCPUs enter guest mode for one access at a time: out means out. */
	if (sim->has_td)
		sim->td.hold(sim->td.ctx, held);
	else if (held)
		on_kick(ctx, vm, TPT_KICK_RETRY);
}

static void on_log(void *ctx, enum tpt_log_level level, const char *text)
{
	struct sim *sim = ctx;

	if (sim->config.log)
		sim->config.log(sim->config.log_ctx, level, text);
	else
		fprintf(stderr, "triptych: %s\n", text);
}

static int table_alloc(void *ctx, tpt_hpa *hpa)
{
	struct sim *sim = ctx;

	return machine_mem_alloc(sim->machine, 0, 0, &hpa->a);
}

static void table_free(void *ctx, tpt_hpa hpa)
{
	struct sim *sim = ctx;

	machine_mem_free(sim->machine, hpa.a, 0);
}

static void *table_ptr(void *ctx, tpt_hpa hpa)
{
	struct sim *sim = ctx;

	return machine_mem_ptr(sim->machine, hpa.a);
}

static const struct tpt_posix_pages table_pages = {table_alloc, table_free, table_ptr};

/* ---- making one ---- */

static int make_machine(struct sim *sim)
{
	const struct sim_config *c = &sim->config;
	struct machine_config m;

	machine_config_default(&m);
	m.nr_cpus = c->nr_vcpus;
	m.maxphyaddr = (uint8_t)c->vm.maxphyaddr;
	m.nr_regions = 1 + c->nr_regions;
	m.regions[0] = (struct machine_region){c->tables_base, c->tables_bytes};
	for (unsigned int i = 0; i < c->nr_regions; i++)
		m.regions[1 + i] = c->regions[i];
	return machine_create(&m, &sim->machine);
}

static int make_platform(struct sim *sim)
{
	struct tpt_posix_config p = {
		.size = sizeof(p),
		.hpa_base = sim->config.tables_base,
		.bytes = sim->config.tables_bytes,
		.hooks = {on_flush, on_kick, on_hold, on_log},
		.hooks_ctx = sim,
		.pages = &table_pages,
		.pages_ctx = sim,
	};

	sim->posix = tpt_posix_create(&p);
	return sim->posix ? 0 : -errno;
}

static int fail(char *why, size_t size, const char *what, int err)
{
	snprintf(why, size, "%s: %s", what, strerror(-err));
	return err;
}

int sim_prepare(struct sim **out, const struct sim_config *config, char *why, size_t why_size)
{
	struct sim *sim;
	int err;

	if (!config->nr_vcpus || config->nr_vcpus > SIM_MAX_VCPUS || config->nr_regions > 4)
		return fail(why, why_size, "vCPUs: 1 to 64; regions: at most 4", -EINVAL);
	sim = calloc(1, sizeof(*sim));
	if (!sim)
		return fail(why, why_size, "simulation", -ENOMEM);
	sim->config = *config;
	for (unsigned int i = 0; i < SIM_MAX_VCPUS; i++)
		pthread_mutex_init(&sim->cpu[i].lock, NULL);
	if (!sim->config.tables_bytes) {
		sim->config.tables_base = SIM_TABLES_BASE;
		sim->config.tables_bytes = SIM_TABLES_BYTES;
	}
	err = make_machine(sim);
	if (!err)
		err = make_platform(sim);
	if (err) {
		sim_destroy(sim);
		return fail(why, why_size, "machine and platform", err);
	}
	*out = sim;
	return 0;
}

int sim_start(struct sim *sim, const struct tpt_vm_config *vm, char *why, size_t why_size)
{
	struct tpt_vm_config c = *vm;
	int err;

	c.size = sizeof(c);
	c.platform = tpt_posix_platform(sim->posix);
	c.platform_ctx = sim->posix;
	sim->config.vm = c;
	sim->shared_gpa = c.shared_bit ? 1ull << c.shared_bit : 0;
	err = tpt_vm_create(&c, &sim->vm);
	for (unsigned int i = 0; !err && i < sim->config.nr_vcpus; i++) {
		sim->cpu[i].cpu = machine_get_cpu(sim->machine, i);
		machine_cpu_set_pml(sim->cpu[i].cpu, has_pml(sim));
		err = tpt_vcpu_create(sim->vm, i, &sim->cpu[i].vcpu);
	}
	return err ? fail(why, why_size, "virtual machine", err) : 0;
}

int sim_create(struct sim **out, const struct sim_config *config, char *why, size_t why_size)
{
	int err = sim_prepare(out, config, why, why_size);

	if (err)
		return err;
	err = sim_start(*out, &config->vm, why, why_size);
	if (err)
		sim_destroy(*out);
	return err;
}

uint64_t sim_stop(struct sim *sim)
{
	if (sim->vm)
		tpt_vm_destroy(sim->vm);
	if (sim->posix)
		sim->misuses = tpt_posix_destroy(sim->posix);
	sim->vm = NULL;
	sim->posix = NULL;
	return sim->misuses;
}

uint64_t sim_destroy(struct sim *sim)
{
	uint64_t misuses = sim_stop(sim);

	machine_destroy(sim->machine);
	for (unsigned int i = 0; i < SIM_MAX_VCPUS; i++)
		pthread_mutex_destroy(&sim->cpu[i].lock);
	free(sim);
	return misuses;
}

struct machine *sim_machine(struct sim *sim)
{
	return sim->machine;
}

struct tpt_vm *sim_vm(struct sim *sim)
{
	return sim->vm;
}

struct tpt_vcpu *sim_vcpu(struct sim *sim, unsigned int vcpu)
{
	return sim->cpu[vcpu].vcpu;
}

struct tpt_posix *sim_posix(struct sim *sim)
{
	return sim->posix;
}

void sim_set_td(struct sim *sim, const struct sim_td *td)
{
	sim->td = *td;
	sim->has_td = true;
}

int sim_set_address_space(struct sim *sim, unsigned int vcpu, uint32_t as_id)
{
	struct sim_cpu *c = &sim->cpu[vcpu];
	int err = tpt_vcpu_set_smm(c->vcpu, as_id);

	if (!err && c->as_id != as_id) {
		c->as_id = as_id;
		c->loaded = false;
	}
	return err;
}

/* ---- accesses ---- */

static int load(struct sim *sim, unsigned int vcpu)
{
	struct sim_cpu *c = &sim->cpu[vcpu];
	struct machine_root root = {.tag = tag_of(c->as_id)};
	struct tpt_roots roots;
	int err = tpt_vcpu_load_roots(c->vcpu, &roots);

	if (err || (c->loaded && c->root.a == roots.direct.a && c->generation == roots.generation))
		return err;
	if (sim->config.vm.format == TPT_FORMAT_EPT) {
		root.kind = MACHINE_ROOT_EPT;
		root.pointer = machine_eptp(roots.direct.a, roots.levels,
					    !(sim->config.vm.flags & TPT_VM_NO_AD));
		err = machine_cpu_load(c->cpu, &root);
	} else {
		root.kind = MACHINE_ROOT_NPT;
		root.pointer = roots.direct.a;
		root.npt_levels = (uint8_t)roots.levels;
		err = machine_cpu_load(c->cpu, &root);
	}
	if (err)
		return err;
	c->loaded = true;
	c->root = roots.direct;
	c->generation = roots.generation;
	return 0;
}

/* What the library is told of the processor's answer. False: the guest goes on without the host. */
static bool error_code(const struct machine_result *hw, uint64_t *code)
{
	switch (hw->outcome) {
	case MACHINE_NPF:
		*code = tpt_pferr_from_npf(hw->error);
		return true;
	case MACHINE_EPT_VIOLATION:
		*code = tpt_pferr_from_ept(hw->error);
		return true;
	case MACHINE_EPT_MISCONFIG:
		*code = TPT_PFERR_EPT_MISCONFIG;
		return true;
	default:
		return false;
	}
}

/* What the guest does. */
struct access {
	uint64_t gpa;
	unsigned int kind;
	const void *buf; /* a store of @len bytes; NULL: nothing is stored */
	size_t len;
};

static void perform(struct sim_cpu *c, const struct access *a, struct machine_result *hw)
{
	if (a->buf)
		machine_write(c->cpu, a->gpa, a->buf, a->len, hw);
	else
		machine_access(c->cpu, a->gpa, a->kind, hw);
}

/*
 * In guest mode as long as the access takes. Roots that went since they were loaded are looked for
 * inside, where a kick reaches the vCPU: whoever takes them away waits until it is out.
 */
static void enter(struct sim *sim, struct sim_cpu *c, uint64_t roots_gone, const struct access *a,
		  struct machine_result *hw)
{
	machine_cpu_enter_guest(c->cpu);
	if (atomic_load(&sim->roots_gone) == roots_gone)
		perform(c, a, hw);
	else
		*hw = (struct machine_result){.outcome = MACHINE_KICKED, .gpa = a->gpa};
	machine_cpu_leave_guest(c->cpu);
}

/* One entry to the guest and what it exits with. */
static int run_once(struct sim *sim, unsigned int vcpu, const struct access *a,
		    struct sim_step *step)
{
	struct sim_cpu *c = &sim->cpu[vcpu];
	uint64_t code, roots_gone = atomic_load(&sim->roots_gone);
	int err = load(sim, vcpu);

	/* The root that was to be loaded may be gone, and freed: enter() sees that it is. */
	if (err && (err != -EINVAL || atomic_load(&sim->roots_gone) == roots_gone))
		return err;
	enter(sim, c, roots_gone, a, &step->hw);
	if (step->hw.outcome == MACHINE_OK)
		return 0;
	if (has_pml(sim))
		drain_pml(c);
	if (!error_code(&step->hw, &code))
		return 0;
	step->faulted = true;
	step->fault = (struct tpt_fault){.gpa = {step->hw.gpa}, .error_code = code};
	step->ret = tpt_vcpu_fault(c->vcpu, &step->fault);
	return 0;
}

static int try_once(struct sim *sim, unsigned int vcpu, const struct access *a,
		    struct sim_step *step)
{
	int err;

	memset(step, 0, sizeof(*step));
	if (sim->has_td)
		return -EPERM;
	step_begin(sim, &sim->cpu[vcpu]);
	err = run_once(sim, vcpu, a, step);
	step_end(sim, &sim->cpu[vcpu]);
	return err;
}

int sim_step(struct sim *sim, unsigned int vcpu, uint64_t gpa, unsigned int kind,
	     struct sim_step *step)
{
	const struct access a = {.gpa = gpa, .kind = kind};

	return try_once(sim, vcpu, &a, step);
}

/* Exits that the guest goes on from without the host's doing anything for the access. */
static bool just_enters_again(enum machine_outcome outcome)
{
	return outcome == MACHINE_KICKED || outcome == MACHINE_PML_FULL ||
	       outcome == MACHINE_EPT_VIOLATION;
}

static int try_often(struct sim *sim, unsigned int vcpu, const struct access *a, unsigned int tries,
		     struct sim_step *last, unsigned int *faults)
{
	*faults = 0;
	for (unsigned int i = 0; i < tries; i++) {
		int err = try_once(sim, vcpu, a, last);

		if (err)
			return err;
		*faults += last->faulted;
		if (last->hw.outcome == MACHINE_OK)
			return 0;
		if (last->faulted && (last->ret < 0 || last->ret == TPT_RET_PF_EMULATE))
			return last->ret < 0 ? last->ret : 0;
		if (!last->faulted && !just_enters_again(last->hw.outcome))
			return -EFAULT;
	}
	return -EAGAIN;
}

int sim_access(struct sim *sim, unsigned int vcpu, uint64_t gpa, unsigned int kind,
	       unsigned int tries, struct sim_step *last, unsigned int *faults)
{
	const struct access a = {.gpa = gpa, .kind = kind};

	return try_often(sim, vcpu, &a, tries, last, faults);
}

int sim_write(struct sim *sim, unsigned int vcpu, uint64_t gpa, const void *buf, size_t len,
	      unsigned int tries, struct sim_step *last, unsigned int *faults)
{
	const struct access a = {.gpa = gpa, .kind = MACHINE_WRITE, .buf = buf, .len = len};

	return try_often(sim, vcpu, &a, tries, last, faults);
}

/* ---- operations, and what they promise ---- */

static uint64_t tag_of_all(const struct sim *sim, uint32_t as_id)
{
	return sim->has_td ? MACHINE_TAG_ALL : tag_of(as_id);
}

static void promise(struct sim *sim, uint32_t as_id, uint64_t start, uint64_t end, uint64_t since,
		    const char *reason)
{
	machine_promise(sim->machine, tag_of_all(sim, as_id), start | sim->shared_gpa,
			end | sim->shared_gpa, since, reason);
}

int sim_set_memory_region(struct sim *sim, const struct tpt_memory_region *region)
{
	uint64_t since = machine_now(sim->machine);
	int err = tpt_vm_set_memory_region(sim->vm, region);

	/* Which addresses a deletion concerned only the library knows; with zap-all it is all. */
	if (!err && !region->size && (sim->config.vm.flags & TPT_VM_SLOT_ZAP_ALL))
		promise(sim, region->as_id, 0, MACHINE_GPA_END & ~sim->shared_gpa, since,
			"memslot deleted");
	return err;
}

int sim_invalidate(struct sim *sim, uint64_t hva_start, uint64_t hva_end)
{
	struct tpt_invalidation token;
	int zapped = tpt_vm_invalidate_begin(sim->vm, tpt_hva_make(hva_start),
					     tpt_hva_make(hva_end), &token);

	if (zapped >= 0)
		tpt_vm_invalidate_end(sim->vm, &token);
	return zapped;
}

int sim_set_private(struct sim *sim, tpt_gfn start, tpt_gfn end, bool private_, tpt_gfn *done)
{
	uint64_t since = machine_now(sim->machine);
	int err = tpt_vm_set_private(sim->vm, start, end, private_, done);

	if (err)
		return err;
	start <<= TPT_PAGE_SHIFT;
	end <<= TPT_PAGE_SHIFT;
	/* Of tables nothing was said: where nothing was mapped nothing was flushed. */
	if (private_)
		machine_promise_leaves(sim->machine, tag_of_all(sim, 0), start | sim->shared_gpa,
				       end | sim->shared_gpa, since, "converted to private");
	else if (sim->has_td)
		machine_promise_leaves(sim->machine, MACHINE_TAG_ALL, start, end, since,
				       "converted to shared");
	return 0;
}

int sim_zap_all_fast(struct sim *sim)
{
	uint64_t since = machine_now(sim->machine);
	int err = tpt_vm_zap_all_fast(sim->vm);

	if (!err)
		for (uint32_t as_id = 0; as_id < sim->config.vm.address_spaces; as_id++)
			promise(sim, as_id, 0, MACHINE_GPA_END & ~sim->shared_gpa, since,
				"zap all fast");
	return err;
}
