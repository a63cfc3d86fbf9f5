// SPDX-License-Identifier: BSD-2-Clause
/* Mapping before the guest asks: ranges, their rules and how far it came. Decides no entry. */
#include "mmu/vm/vm.h"

int tpt_vm_allow_prefault(struct tpt_vm *vm, bool allowed)
{
	int err = update_begin(vm);

	if (err)
		return err;
	vm->env.prefault_allowed = allowed;
	update_end(vm);
	return 0;
}

static int refuse(struct tpt_vcpu *vcpu, uint64_t start, uint64_t size, const char *rule)
{
	vm_log(&vcpu->vm->base, TPT_LOG_WARNING, "prefault of %#lx + %#lx: %s", start, size, rule);
	return -ERR_INVAL;
}

/* The first mapping from @gpa on, with the roots that it needs. */
static int prefault_next(struct tpt_vcpu *vcpu, uint64_t gpa, tpt_gfn *next)
{
	struct tpt_roots roots;
	int err;

	if (gpa >> TPT_PAGE_SHIFT & vcpu->vm->env.shared_gfn)
		return refuse(vcpu, gpa, TPT_PAGE_SIZE, "the shared bit names no other memory");
	err = tpt_vcpu_load_roots(vcpu, &roots);
	return err ? err
		   : fault_prefault(&vcpu->fault, tpt_gpa_make(gpa), TPT_PFERR_GUEST_FINAL, next);
}

int tpt_vcpu_prefault(struct tpt_vcpu *vcpu, tpt_gpa gpa, uint64_t size, uint64_t *done)
{
	uint64_t at = gpa.a, end = gpa.a + size;
	tpt_gfn next;
	int err = 0;

	if (done)
		*done = 0;
	if ((gpa.a | size) & (TPT_PAGE_SIZE - 1))
		return refuse(vcpu, gpa.a, size, "not whole pages");
	if (end <= at)
		return refuse(vcpu, gpa.a, size, "empty, or it wraps");
	while (at < end && !err) {
		err = prefault_next(vcpu, at, &next);
		if (!err)
			at = end >> TPT_PAGE_SHIFT < next ? end : next << TPT_PAGE_SHIFT;
	}
	if (done)
		*done = at - gpa.a;
	return at > gpa.a ? 0 : err;
}

/* Runs that a premap has room for: where frames lie scattered, it makes more. */
#define PREMAP_FEW  16
#define PREMAP_MANY TABLE_ENTRIES

struct premap_few {
	struct tpt_backing_run run[PREMAP_FEW];
	struct tree_run leaf[PREMAP_FEW];
};

struct premap_many {
	struct tpt_backing_run run[PREMAP_MANY];
	struct tree_run leaf[PREMAP_MANY];
};

/* More room, if there is memory: it goes on without, in smaller steps. */
static struct premap_many *premap_grow(struct vm_base *base, struct premap *work)
{
	struct premap_many *many = mem_alloc(base, sizeof(*many));

	if (many)
		*work = (struct premap){many->run, many->leaf, PREMAP_MANY, false};
	return many;
}

int tpt_vcpu_premap(struct tpt_vcpu *vcpu, tpt_gfn gfn, uint64_t npages, uint32_t access,
		    uint64_t *done)
{
	struct vm_base *base = &vcpu->vm->base;
	tpt_gfn at = gfn, next, limit = 1ull << vcpu->vm->trees.gfn_bits;
	struct premap_few few;
	struct premap_many *many = NULL;
	struct premap work = {few.run, few.leaf, PREMAP_FEW, false};
	struct tpt_roots roots;
	int err = 0;

	if (done)
		*done = 0;
	if (!(access & TPT_ACC_READ) || access & ~TPT_ACC_ALL)
		return refuse(vcpu, gfn, npages, "pages for an access that does not read");
	if (!npages || gfn >= limit || npages > limit - gfn)
		return refuse(vcpu, gfn, npages, "pages: none, or beyond the guest's");
	while (at < gfn + npages && !err) {
		err = tpt_vcpu_load_roots(vcpu, &roots);
		if (!err)
			err = fault_premap(&vcpu->fault, &work, at, gfn + npages, access, &next);
		if (!err)
			at = next < gfn + npages ? next : gfn + npages;
		if (work.full && !many)
			many = premap_grow(base, &work);
	}
	if (many)
		mem_free(base, many, sizeof(*many));
	if (done)
		*done = at - gfn;
	return at > gfn ? 0 : err;
}

int tpt_vcpu_async_ready(struct tpt_vcpu *vcpu, uint64_t token)
{
	struct fault_vcpu *f = &vcpu->fault;
	struct tpt_fault fault = {.gpa = {token & ~(uint64_t)(TPT_PAGE_SIZE - 1)},
				  .error_code = token & TOKEN_CODE,
				  .prefetch = true};
	uint64_t known = TOKEN_CODE | TOKEN_AS_ID | TOKEN_MARK;
	struct tpt_roots roots;
	int ret;

	if (!(token & TOKEN_MARK) || token & (TPT_PAGE_SIZE - 1) & ~known) {
		vm_log(&vcpu->vm->base, TPT_LOG_WARNING, "async page fault: %#lx is no token",
		       token);
		return -ERR_INVAL;
	}
	if (!(token & TOKEN_AS_ID) != !fault_as_id(f))
		return TPT_RET_PF_RETRY;
	ret = tpt_vcpu_load_roots(vcpu, &roots);
	if (!ret)
		ret = fault_handle(f, &fault);
	/* What it fixed the guest will never fault for. */
	if (ret == TPT_RET_PF_FIXED) {
		count_add(&f->actor, COUNT_PF + TPT_RET_PF_FIXED, 1);
		count_add(&f->actor, COUNT_PF_PREFETCH, 1);
	}
	return ret;
}
