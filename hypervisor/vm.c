// SPDX-License-Identifier: BSD-2-Clause
/*
 * The guest's memory, as the library is told of it: one VM, its memslots, and what stands behind
 * them. Ordinary memory is the machine's own at the same address. Never an exit's meaning.
 *
 *	slots: 0 RAM below the hypervisor's | (the hypervisor) | 1 devices | 2 APIC | 3 ROM | 4 rest
 */
#include "hypervisor/hv.h"
#include "hypervisor/monitor.h"

#define SLOT_RAM  0
#define NR_SLOTS  5
#define GUEST_TOP (512 * GIB) /* identity up to here: firmware puts 64-bit windows above RAM */

struct tpt_bare *bare;
struct tpt_vm *vm;
static struct tpt_memory_region slots[NR_SLOTS];
static struct tpt_gmem *gmem;
static uint64_t *bitmap;

/* ---- what the platform asks for ---- */

static void on_ipi(void *ctx, uint32_t vcpu)
{
	(void)ctx;
	vcpu_kick(&vcpus[vcpu]);
}

static void on_log(void *ctx, enum tpt_log_level level, const char *text)
{
	(void)ctx;
	if (level != TPT_LOG_INFO)
		say("library: %s", text);
}

/* ---- what stands behind memory ---- */

static int lookup(void *ctx, const struct tpt_backing_query *q, struct tpt_backing_page *page)
{
	(void)ctx;
	*page = (struct tpt_backing_page){
		.pfn = {q->hva.a >> TPT_PAGE_SHIFT},
		.writable = true,
		.device = q->slot != SLOT_RAM,
		.level = TPT_LEVEL_1G,
	};
	return 0;
}

static enum tpt_level mapping_level(void *ctx, tpt_hva hva, tpt_pfn pfn)
{
	(void)ctx;
	(void)hva;
	(void)pfn;
	return TPT_LEVEL_1G;
}

static const struct tpt_backing_ops backing = {
	.size = sizeof(backing),
	.lookup = lookup,
	.mapping_level = mapping_level,
};

/* Private memory: the spare range, a frame for each of the guest's, in the same order. */
static int get_page(void *ctx, uint64_t index, tpt_pfn *pfn, enum tpt_level *level)
{
	(void)ctx;
	*pfn = (tpt_pfn){(spare.start >> TPT_PAGE_SHIFT) + index};
	*level = TPT_LEVEL_2M;
	return 0;
}

static const struct tpt_gmem_ops gmem_ops = {.size = sizeof(gmem_ops), .get_page = get_page};

/* ---- making it ---- */

static void make_platform(void)
{
	struct range rest = memory_rest();
	const struct tpt_bare_config config = {
		.size = sizeof(config),
		.memory = phys(rest.start),
		.bytes = (rest.end - rest.start) & ~4095ull,
		.hpa = {rest.start},
		.nr_vcpus = nr_vcpus,
		.hooks = {.ipi = on_ipi, .log = on_log},
	};
	int err = tpt_bare_create(&config, &bare);

	if (err)
		panic("vm: no platform, %d", err);
	if (options.break_shootdown)
		tpt_bare_break_shootdown(bare);
}

static void add_slot(unsigned int id, uint64_t start, uint64_t end, uint32_t flags)
{
	int err;

	slots[id] = (struct tpt_memory_region){
		.slot = id, .flags = flags, .gpa = {start}, .size = end - start, .hva = {start}};
	if (flags & TPT_MEM_GUEST_MEMFD)
		slots[id].gmem = gmem;
	err = tpt_vm_set_memory_region(vm, &slots[id]);
	if (err)
		panic("vm: memslot %u, %lx to %lx: %d", id, start, end, err);
}

static void make_gmem(void)
{
	int err = tpt_gmem_create(vm, own.start, &gmem_ops, NULL, &gmem);

	if (err)
		panic("vm: no gmem, %d", err);
}

static void make_slots(void)
{
	uint32_t flags = options.td ? TPT_MEM_GUEST_MEMFD : options.dirty ? TPT_MEM_LOG_DIRTY : 0;

	add_slot(SLOT_RAM, 0, own.start, flags);
	add_slot(1, own.end, APIC_BASE, 0);
	/* Reads go through, writes come out: lapic.c. */
	add_slot(2, APIC_BASE, APIC_BASE + 4096, TPT_MEM_READONLY);
	add_slot(3, APIC_BASE + 4096, 4 * GIB, 0);
	if (!spare.end)
		add_slot(4, 4 * GIB, GUEST_TOP, 0);
}

void vm_create(void)
{
	struct tpt_vm_config config;
	int err;

	tpt_vm_config_init(&config, TPT_FORMAT_NPT);
	config.maxphyaddr = cpuid(0x80000008, 0).a & 0xff;
	config.guest_maxphyaddr = config.maxphyaddr > 48 ? 48 : config.maxphyaddr;
	config.max_leaf_level = options.level;
	config.flags = options.split ? TPT_VM_EAGER_PAGE_SPLIT : 0;
	config.backing = &backing;
	if (options.td) {
		config.guest_maxphyaddr = options.shared_bit + 1;
		config.shared_bit = options.shared_bit;
		config.flags |= TPT_VM_SELF_SNOOP;
		config.external = &monitor_ops;
		config.max_private_level =
			options.level > TPT_LEVEL_2M ? TPT_LEVEL_2M : options.level;
	}
	bitmap = phys(page_take(8 * tpt_dirty_words(own.start / TPT_PAGE_SIZE)));
	if (options.td)
		monitor_init(spare.start >> TPT_PAGE_SHIFT, own.start >> TPT_PAGE_SHIFT,
			     options.shared_bit, nr_vcpus);
	make_platform();
	config.platform = tpt_bare_platform(bare);
	config.platform_ctx = bare;
	err = tpt_vm_create(&config, &vm);
	if (err)
		panic("vm: %d", err);
	if (options.td)
		make_gmem();
	make_slots();
	if (options.nx)
		tpt_vm_set_nx_huge_pages(vm, TPT_NX_FORCE);
	for (unsigned int i = 0; i < nr_vcpus; i++) {
		err = tpt_vcpu_create(vm, i, &vcpus[i].tpt);
		if (err)
			panic("vm: vCPU %u: %d", i, err);
	}
}

/* ---- what a confidential guest starts with ---- */

static void add_page(struct vcpu *v, uint64_t gpa)
{
	struct tpt_fault fault = {.gpa = {gpa},
				  .error_code = TPT_PFERR_WRITE,
				  .prefetch = true,
				  .max_level = TPT_LEVEL_4K};
	struct tpt_roots roots;
	int ret = monitor_add(gpa >> TPT_PAGE_SHIFT, phys(gpa));

	if (!ret)
		ret = tpt_vcpu_load_roots(v->tpt, &roots);
	if (!ret)
		ret = tpt_vcpu_fault(v->tpt, &fault);
	if (ret != TPT_RET_PF_FIXED && ret != TPT_RET_PF_SPURIOUS)
		panic("vm: page %lx of the guest's image can't be added: %d", gpa, ret);
}

void vm_start(struct vcpu *boot)
{
	struct range part;

	if (!options.td)
		return;
	if (tpt_vm_set_private(vm, 0, own.start >> TPT_PAGE_SHIFT, true, NULL))
		panic("vm: the guest's memory can't be made private");
	while (guest_next_part(&part)) {
		for (uint64_t gpa = part.start; gpa < part.end; gpa += TPT_PAGE_SIZE)
			add_page(boot, gpa);
	}
	monitor_finalize();
	/* What it was copied from is shared memory to come. */
	memset(phys(0), 0, 0x80000);
	memset(phys(MIB), 0, own.start - MIB);
}

/* ---- the guest runs ---- */

uint64_t vm_root(struct vcpu *v)
{
	struct tpt_roots roots;
	int err = tpt_vcpu_load_roots(v->tpt, &roots);

	if (!err)
		return roots.direct.a;
	if (err != -ERR_AGAIN && err != -ERR_NOMEM)
		machine_end(END_BAD, 0, tpt_vm_report(vm));
	return 0;
}

/* Memory that is there, whatever a fault says just now: its slot is being made again. */
static bool is_ram(uint64_t gpa)
{
	return options.slots && gpa < own.start;
}

/* The housekeeper is freeing tables; if it is not enough the guest makes no way, so it is told. */
static enum npf_answer no_memory(void)
{
	static _Atomic uint32_t told;

	if (!atomic_exchange(&told, 1))
		say("vm: no table page is left for a fault; it is tried again");
	return NPF_AGAIN;
}

enum npf_answer vm_fault(struct vcpu *v, uint64_t gpa, uint64_t exit_info1)
{
	struct tpt_fault fault = {.gpa = {gpa}, .error_code = tpt_pferr_from_npf(exit_info1)};
	int ret = tpt_vcpu_fault(v->tpt, &fault);

	switch (ret) {
	case TPT_RET_PF_RETRY:
	case TPT_RET_PF_FIXED:
	case TPT_RET_PF_SPURIOUS:
		return NPF_AGAIN;
	case -ERR_NOMEM:
		return no_memory();
	case TPT_RET_PF_EMULATE:
		if (fault.gfn == APIC_BASE >> TPT_PAGE_SHIFT)
			return NPF_APIC;
		return is_ram(gpa) ? NPF_AGAIN : NPF_NOBODY;
	case -ERR_IO:
		machine_end(END_BAD, 0, tpt_vm_report(vm));
	default:
		return NPF_NOBODY;
	}
}

int vm_convert(uint64_t gpa, uint64_t bytes, bool private_)
{
	tpt_gfn at = gpa >> TPT_PAGE_SHIFT, end = (gpa + bytes) >> TPT_PAGE_SHIFT;
	int err;

	if (!options.td || (gpa | bytes) & (TPT_PAGE_SIZE - 1) || gpa + bytes > own.start ||
	    gpa + bytes <= gpa)
		return -ERR_INVAL;
	do
		err = tpt_vm_set_private(vm, at, end, private_, &at);
	while (err == -ERR_BUSY);
	return err;
}

int vm_unmap(uint64_t gpa, uint64_t bytes)
{
	struct tpt_invalidation token;
	int ret = tpt_vm_invalidate_begin(vm, tpt_hva_make(gpa), tpt_hva_make(gpa + bytes), &token);

	if (ret < 0)
		return ret;
	tpt_vm_invalidate_end(vm, &token);
	return 0;
}

/* ---- what the housekeeper does to it ---- */

static void must(int err, const char *what)
{
	if (err < 0)
		machine_end(END_BAD, 0, what);
}

void vm_slots_again(void)
{
	struct tpt_memory_region gone = slots[SLOT_RAM];

	gone.size = 0;
	must(tpt_vm_set_memory_region(vm, &gone), "a memslot can't be deleted");
	must(tpt_vm_set_memory_region(vm, &slots[SLOT_RAM]), "a memslot can't be made again");
}

void vm_log_dirty(bool on)
{
	slots[SLOT_RAM].flags = on ? TPT_MEM_LOG_DIRTY : 0;
	must(tpt_vm_set_memory_region(vm, &slots[SLOT_RAM]), "a dirty log can't be switched");
}

const uint64_t *vm_dirty(void)
{
	must(tpt_vm_get_dirty_log(vm, 0, SLOT_RAM, bitmap), "a dirty log can't be read");
	return bitmap;
}

void vm_hold(bool held)
{
	tpt_bare_platform(bare)->hold(bare, vm, held);
}

void vm_age(void)
{
	must(tpt_vm_age(vm, tpt_hva_make(0), tpt_hva_make(own.start), NULL), "aging failed");
}

const uint64_t *vm_young(void)
{
	must(tpt_vm_test_age(vm, tpt_hva_make(0), tpt_hva_make(own.start), bitmap),
	     "young pages can't be asked for");
	return bitmap;
}

void vm_nx_recover(void)
{
	must((int)tpt_vm_nx_recover(vm, 4), "recovery of huge pages failed");
}
