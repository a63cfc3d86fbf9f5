// SPDX-License-Identifier: BSD-2-Clause
/* A VM's making and end, its vCPUs and their roots. Never handles a fault. */
#include "mmu/vm/vm.h"

/* ---- configuration ---- */

struct rule {
	bool broken;
	const char *text;
};

static bool platform_is_whole(const struct tpt_platform *p)
{
	return p && p->size == sizeof(*p) && p->page_alloc && p->page_free && p->page_ptr &&
	       p->page_record && p->mem_alloc && p->mem_free && p->defer && p->barrier && p->lock &&
	       p->unlock && p->relax && p->flush && p->kick && p->hold;
}

static bool external_is_whole(const struct tpt_external_ops *o)
{
	return o->size == sizeof(*o) && o->link && o->map && o->block && o->unblock && o->track &&
	       o->remove && o->release && o->reclaim_leaf && o->free_table &&
	       !o->split == !o->merge;
}

/* The shared bit is the top one: every GPA is then either shared or private, and covered. */
static bool shared_bit_fits(const struct tpt_vm_config *c)
{
	return !c->shared_bit || c->shared_bit == c->guest_maxphyaddr - 1;
}

static bool tree_covers_guest(const struct tpt_vm_config *c)
{
	return c->guest_maxphyaddr <= TPT_PAGE_SHIFT + 9 * c->levels;
}

/* Entries of a dirty ring that are kept back, as in KVM: some for the exit, and a whole
 * page-modification log. */
static uint32_t ring_reserve(uint32_t flags)
{
	return TPT_DIRTY_RING_RESERVED + (flags & TPT_VM_PML ? PML_ENTRIES : 0);
}

static bool ring_size_fits(const struct tpt_vm_config *c)
{
	uint32_t size = c->dirty_ring_size, least = c->flags & TPT_VM_PML ? 1024 : 256;

	if (!(c->flags & TPT_VM_DIRTY_RING))
		return !size;
	return !(size & (size - 1)) && size >= least && size <= TPT_DIRTY_RING_MAX;
}

static int config_check(const struct tpt_vm_config *c)
{
	const struct rule rules[] = {
		{c->format != TPT_FORMAT_EPT && c->format != TPT_FORMAT_NPT, "format: EPT or NPT"},
		{c->flags >> 12, "flags: unknown bits"},
		{(c->flags & TPT_VM_DIRTY_INITIALLY_SET) && !(c->flags & TPT_VM_DIRTY_MANUAL),
		 "DIRTY_INITIALLY_SET: needs DIRTY_MANUAL"},
		{(c->flags & TPT_VM_PML) && c->format != TPT_FORMAT_EPT, "PML: needs EPT"},
		{(c->flags & TPT_VM_NO_AD) && c->format != TPT_FORMAT_EPT, "NO_AD: needs EPT"},
		{(c->flags & TPT_VM_NO_AD) && (c->flags & TPT_VM_PML), "NO_AD: not with PML"},
		{(c->flags & TPT_VM_DIRTY_RING) && (c->flags & TPT_VM_DIRTY_MANUAL),
		 "DIRTY_RING: not with DIRTY_MANUAL"},
		{!ring_size_fits(c), "dirty_ring_size: a power of two, 256 (1024 with PML) to "
				     "65536; 0 without DIRTY_RING"},
		{c->levels != 4 && c->levels != 5, "levels: 4 or 5"},
		{c->maxphyaddr < 32 || c->maxphyaddr > 52, "maxphyaddr: 32 to 52"},
		{c->guest_maxphyaddr < 32 || c->guest_maxphyaddr > 52,
		 "guest_maxphyaddr: 32 to 52"},
		{!tree_covers_guest(c), "guest_maxphyaddr: the levels do not reach that far"},
		{!shared_bit_fits(c), "shared_bit: 0, or guest_maxphyaddr - 1"},
		{c->address_spaces != 1 && c->address_spaces != 2, "address_spaces: 1 or 2"},
		{c->max_leaf_level < 1 || c->max_leaf_level > TPT_LEVEL_MAX_LEAF,
		 "max_leaf_level: 4K to 1G"},
		{c->max_private_level < 1 || c->max_private_level > TPT_LEVEL_MAX_LEAF,
		 "max_private_level: 4K to 1G"},
		{c->max_private_level > TPT_LEVEL_4K && !(c->external && c->external->split),
		 "max_private_level: larger ones need an external table that can be split"},
		{!c->backing || c->backing->size != sizeof(*c->backing) || !c->backing->lookup ||
			 (c->backing->mark_dirty_range && !c->backing->mark_dirty),
		 "backing: a whole table of this version"},
		{c->external && !external_is_whole(c->external),
		 "external: a whole table of this version"},
		{c->external && (!c->shared_bit || !(c->flags & TPT_VM_SELF_SNOOP) ||
				 c->address_spaces != 1),
		 "external: needs a shared bit, self-snoop and one address space"},
		{c->external && (c->flags & (TPT_VM_SLOT_ZAP_ALL | TPT_VM_IGNORE_GUEST_PAT)),
		 "external: neither SLOT_ZAP_ALL nor IGNORE_GUEST_PAT"},
		{c->external && (c->flags & TPT_VM_NO_AD),
		 "external: needs accessed and dirty flags"},
		{!c->external && c->shared_bit, "shared_bit: needs an external table"},
		{c->external && (c->flags & TPT_VM_SW_PROTECTED),
		 "SW_PROTECTED: without external table"},
		{(c->flags & TPT_VM_SW_PROTECTED) && c->address_spaces != 1,
		 "private memory: one address space"},
	};

	if (!platform_is_whole(c->platform))
		return -ERR_INVAL;
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		if (rules[i].broken) {
			if (c->platform->log)
				c->platform->log(c->platform_ctx, TPT_LOG_ERROR, rules[i].text);
			return -ERR_INVAL;
		}
	}
	return 0;
}

static void init_trees(struct tpt_vm *vm, const struct tpt_vm_config *c)
{
	struct trees *t = &vm->trees;
	const struct pte_options options = {
		.maxphyaddr = c->maxphyaddr,
		.td = c->external,
		.no_mmio_caching = c->flags & TPT_VM_NO_MMIO_CACHING,
		.no_ad = c->flags & TPT_VM_NO_AD,
	};

	trees_init(t, &vm->base);
	pte_format_init(&t->format, c->format, &options);
	t->levels = c->levels;
	t->gfn_bits = (c->shared_bit ? c->shared_bit : c->guest_maxphyaddr) - TPT_PAGE_SHIFT;
	t->shared_gfn = c->shared_bit ? 1ull << (c->shared_bit - TPT_PAGE_SHIFT) : 0;
	t->mirror.ops = c->external;
	t->mirror.ctx = c->external_ctx;
}

static bool vm_has_private(const struct tpt_vm_config *c)
{
	return c->external || (c->flags & TPT_VM_SW_PROTECTED);
}

static void init_env(struct tpt_vm *vm, const struct tpt_vm_config *c)
{
	vm->env = (struct fault_env){
		.base = &vm->base,
		.trees = &vm->trees,
		.slots = &vm->slots,
		.backing = c->backing,
		.backing_ctx = c->backing_ctx,
		.gpa_reserved = ~0ull << c->guest_maxphyaddr,
		.code_refused = ~FAULT_CODE_KNOWN | (vm_has_private(c) ? 0 : TPT_PFERR_PRIVATE),
		.gfn_mask = ~vm->trees.shared_gfn,
		.unusual = c->event || !vm->trees.page_linear || vm_has_private(c) ||
			   c->dirty_ring_size || (c->flags & TPT_VM_NO_AD),
		.pfn_reserved = ~0ull << (c->maxphyaddr - TPT_PAGE_SHIFT),
		.shared_gfn = vm->trees.shared_gfn,
		.has_mirror = c->external,
		.private_memory = vm_has_private(c),
		.ignore_guest_pat = c->flags & TPT_VM_IGNORE_GUEST_PAT,
		.max_leaf_level = (enum tpt_level)c->max_leaf_level,
		.max_private_level = (enum tpt_level)c->max_private_level,
		.max_merge_level = (enum tpt_level)c->max_private_level,
		.zap_chunk = c->zap_chunk,
		.prefault_allowed = !c->external,
	};
	/* Larger ones come of smaller ones only. */
	if (vm->env.max_private_level > TPT_LEVEL_2M)
		vm->env.max_private_level = TPT_LEVEL_2M;
	vm->env.code_unusual = vm->env.code_refused | TPT_PFERR_RSVD;
}

void tpt_vm_config_init(struct tpt_vm_config *config, enum tpt_format format)
{
	*config = (struct tpt_vm_config){
		.size = sizeof(*config),
		.format = format,
		.levels = 4,
		.maxphyaddr = 46,
		.guest_maxphyaddr = 46,
		.address_spaces = 1,
		.max_leaf_level = TPT_LEVEL_1G,
		.max_private_level = TPT_LEVEL_4K,
	};
}

int tpt_vm_create(const struct tpt_vm_config *config, struct tpt_vm **out)
{
	struct tpt_vm *vm;
	int err;

	if (!config || !out || config->size != sizeof(*config))
		return -ERR_INVAL;
	err = config_check(config);
	if (err)
		return err;
	vm = config->platform->mem_alloc(config->platform_ctx, sizeof(*vm));
	if (!vm)
		return -ERR_NOMEM;

	base_init(&vm->base, config->platform, config->platform_ctx);
	vm->base.vm = vm;
	vm->base.event = config->event;
	vm->base.event_ctx = config->event_ctx;
	vm->flags = config->flags;
	vm->ring_size = config->dirty_ring_size;
	vm->ring_reserved = ring_reserve(config->flags);
	init_trees(vm, config);
	init_env(vm, config);
	fault_words_init(&vm->env);
	vm->trees.nx_huge_pages = nx_is_on(vm);
	slots_init(&vm->slots, &vm->base, config->address_spaces,
		   vm->trees.gfn_bits + TPT_PAGE_SHIFT, vm->env.private_memory);
	vm->slots.dirty_initially_set = config->flags & TPT_VM_DIRTY_INITIALLY_SET;
	workers_init(vm);
	*out = vm;
	return 0;
}

/* ---- the end ---- */

/* Pages that the owner of the external table holds: what is lost if it keeps them. */
static int64_t external_pages(const struct tpt_vm *vm)
{
	int64_t pages = trees_count(&vm->trees, count_tree(TPT_TREE_MIRROR, COUNT_TREE_TABLE));

	/* The root has no twin. */
	if (vm->trees.root[TREE_MIRROR])
		pages--;
	for (unsigned int level = TPT_LEVEL_4K; level <= TPT_LEVEL_MAX_LEAF; level++)
		pages += trees_count(&vm->trees, count_tree(TPT_TREE_MIRROR, level)) *
			 (int64_t)tpt_level_pages(level);
	return pages;
}

static void teardown_mirror(struct tpt_vm *vm)
{
	struct mirror_end end = {.level = TPT_LEVEL_4K};

	while (mirror_teardown_chunk(&vm->env, &end)) {
		update_give_way(vm);
		update_take_back(vm);
	}
}

int tpt_vm_teardown(struct tpt_vm *vm)
{
	struct actor *self = &vm->base.self;
	int err = 0;

	update_enter(vm);
	if (!vm->env.ended) {
		vm->env.ended = true;
		/* No fault asks for that: its vCPU's roots are not good any more. */
		atomic_fetch_add_explicit(&vm->base.roots, 1, memory_order_release);
		if (vm->trees.mirror.ops) {
			err = mirror_release(&vm->trees.mirror, self);
			if (err)
				count_add(self, COUNT_LEAKED, external_pages(vm));
			teardown_mirror(vm);
		}
		zap_direct_roots(vm);
	}
	update_end(vm);
	return err;
}

void tpt_vm_destroy(struct tpt_vm *vm)
{
	struct vm_base *base = &vm->base;

	tpt_vm_teardown(vm);
	while (vm->vcpus)
		tpt_vcpu_destroy(vm->vcpus);
	wait_deferred(vm);
	tables_drop(&vm->trees, &base->self);
	for (unsigned int i = 0; i < VM_WORKERS; i++)
		tables_drop(&vm->trees, &vm->worker[i]);
	slots_destroy(&vm->slots);
	mem_free(base, vm, sizeof(*vm));
}

void wait_deferred(struct tpt_vm *vm)
{
	/* Each round frees one level of what was detached. */
	while (atomic_load_explicit(&vm->base.pages_deferred, memory_order_acquire))
		vm->base.platform->barrier(vm->base.platform_ctx);
}
