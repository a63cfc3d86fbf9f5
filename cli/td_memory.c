// SPDX-License-Identifier: BSD-2-Clause
/*
 * A TD's memory: its slots, which frames stand behind their pages, and who gets them when a page
 * changes sides. No guest runs here, and no TD is made or ended.
 */
#include "cli/td_internal.h"

#include <errno.h>
#include <stdlib.h>

/* Made-up host-virtual addresses: what shared memory is named by. */
#define HVA_BASE (1ull << 46)

#define BLOCK_BYTES (2ull << 20)

/* ---- frames ---- */

struct simtd_slot *simtd_find_slot(struct simtd *td, uint64_t gpa, uint64_t size)
{
	for (unsigned int i = 0; i < td->nr_slots; i++) {
		struct simtd_slot *s = &td->slots[i];

		if (gpa >= s->gpa && gpa - s->gpa < s->pages * TD_PAGE &&
		    size <= s->pages * TD_PAGE - (gpa - s->gpa))
			return s;
	}
	return NULL;
}

/* Frames of a slot's pages, private or shared. */
struct frames {
	uint64_t *hpa;
	uint64_t *pages; /* how many there are in all slots */
	unsigned int node;
	enum tpt_level level; /* of blocks, if they can be */
};

static struct frames private_frames(struct simtd_slot *s)
{
	return (struct frames){s->private_hpa, &s->td->private_pages, 0,
			       s->td->config.private_level};
}

static struct frames shared_frames(struct simtd_slot *s)
{
	return (struct frames){s->shared_hpa, &s->td->shared_pages, 1, s->td->config.shared_level};
}

/* A whole 2 MiB block, if none of its pages has a frame yet and the slot has all of them. */
static bool alloc_block(struct simtd_slot *s, const struct frames *f, uint64_t index)
{
	uint64_t first = index & ~511ull, hpa;

	if (f->level < TPT_LEVEL_2M || (s->gpa | s->hva) % BLOCK_BYTES || first + 512 > s->pages)
		return false;
	for (uint64_t i = first; i < first + 512; i++)
		if (f->hpa[i])
			return false;
	if (machine_mem_alloc(s->td->machine, f->node, 9, &hpa))
		return false;
	for (uint64_t i = 0; i < 512; i++)
		f->hpa[first + i] = hpa + i * TD_PAGE;
	*f->pages += 512;
	return true;
}

/* Is the block around the page one aligned 2 MiB of host memory? */
static bool is_block(const struct simtd_slot *s, const struct frames *f, uint64_t index)
{
	uint64_t first = index & ~511ull;

	if (s->gpa % BLOCK_BYTES || first + 512 > s->pages || f->hpa[first] % BLOCK_BYTES ||
	    !f->hpa[first])
		return false;
	for (uint64_t i = 0; i < 512; i++)
		if (f->hpa[first + i] != f->hpa[first] + i * TD_PAGE)
			return false;
	return true;
}

/* The page's frame, which it gets on first use, and the size of the block that it is in. */
static int frame_of(struct simtd_slot *s, const struct frames *f, uint64_t index, tpt_pfn *pfn,
		    enum tpt_level *level)
{
	int err = 0;

	if (!f->hpa[index] && !alloc_block(s, f, index)) {
		err = machine_mem_alloc(s->td->machine, f->node, 0, &f->hpa[index]);
		*f->pages += !err;
	}
	*pfn = tpt_hpa_to_pfn((tpt_hpa){f->hpa[index]});
	*level = !err && is_block(s, f, index) ? TPT_LEVEL_2M : TPT_LEVEL_4K;
	return err;
}

/* guest_memfd: a frame for each page on first use. */
static int get_page(void *ctx, uint64_t index, tpt_pfn *pfn, enum tpt_level *level)
{
	struct simtd_slot *s = ctx;
	const struct frames f = private_frames(s);
	int err;

	pthread_mutex_lock(&s->td->frames);
	err = frame_of(s, &f, index, pfn, level);
	pthread_mutex_unlock(&s->td->frames);
	return err;
}

/* A page that leaked: the module never gave it back, so nobody may have it. */
static bool is_held(struct simtd *td, uint64_t hpa)
{
	struct tdx_pamt_view view;

	for (unsigned int level = 0; level < 3; level++)
		if (!tdx_module_view_pamt(td->module, hpa, level, &view) &&
		    (view.pt == TDX_PT_REG || (!level && view.pt != TDX_PT_NDA)))
			return true;
	return false;
}

/* Gives frames [start, end) of @hpa back to the machine. */
static void free_frames(struct simtd *td, uint64_t *hpa, uint64_t start, uint64_t end,
			uint64_t *pages)
{
	pthread_mutex_lock(&td->frames);
	for (uint64_t i = start; i < end; i++) {
		if (!hpa[i] || is_held(td, hpa[i]))
			continue;
		machine_mem_free(td->machine, hpa[i], 0);
		hpa[i] = 0;
		(*pages)--;
	}
	pthread_mutex_unlock(&td->frames);
}

static void free_range(void *ctx, uint64_t start, uint64_t end)
{
	struct simtd_slot *s = ctx;

	free_frames(s->td, s->private_hpa, start, end, &s->td->private_pages);
}

static const struct tpt_gmem_ops gmem_ops = {
	.size = sizeof(gmem_ops),
	.get_page = get_page,
	.free_range = free_range,
};

static int lookup(void *ctx, const struct tpt_backing_query *q, struct tpt_backing_page *page)
{
	struct simtd *td = ctx;
	struct simtd_slot *s = simtd_find_slot(td, q->gfn << TPT_PAGE_SHIFT, TD_PAGE);
	struct frames f;
	int err;

	if (!s)
		return -EFAULT;
	f = shared_frames(s);
	*page = (struct tpt_backing_page){.writable = true};
	pthread_mutex_lock(&td->frames);
	err = frame_of(s, &f, q->gfn - (s->gpa >> TPT_PAGE_SHIFT), &page->pfn, &page->level);
	pthread_mutex_unlock(&td->frames);
	return err;
}

const struct tpt_backing_ops simtd_backing_ops = {
	.size = sizeof(simtd_backing_ops),
	.lookup = lookup,
};

/* ---- conversion ---- */

/* What private pages [gpa, gpa + size) held goes; nothing maps it any more. */
static int drop_private(struct simtd *td, const struct simtd_slot *s, uint64_t gpa, uint64_t size)
{
	(void)td;
	return tpt_gmem_punch_hole(s->gmem, gpa - s->gpa, size);
}

/* The same for shared ones, as a host takes memory back: notifier first. */
static int drop_shared(struct simtd *td, const struct simtd_slot *s, uint64_t gpa, uint64_t size)
{
	uint64_t hva = s->hva + (gpa - s->gpa), first = (gpa - s->gpa) / TD_PAGE;
	struct tpt_invalidation token;
	int err = tpt_vm_invalidate_begin(sim_vm(td->sim), tpt_hva_make(hva),
					  tpt_hva_make(hva + size), &token);

	if (err < 0)
		return err;
	free_frames(td, s->shared_hpa, first, first + size / TD_PAGE, &td->shared_pages);
	tpt_vm_invalidate_end(sim_vm(td->sim), &token);
	return 0;
}

int simtd_convert(struct simtd *td, const struct simtd_slot *slot, uint64_t gpa, uint64_t size,
		  bool private_, uint64_t *done)
{
	tpt_gfn start = gpa >> TPT_PAGE_SHIFT, at = start;
	int err = sim_set_private(td->sim, start, start + size / TD_PAGE, private_, &at);

	*done = (at - start) << TPT_PAGE_SHIFT;
	if (*done) {
		int e = private_ ? drop_shared(td, slot, gpa, *done)
				 : drop_private(td, slot, gpa, *done);

		err = err ? err : e;
	}
	pthread_mutex_lock(&td->frames);
	*(private_ ? &td->to_private : &td->to_shared) += at - start;
	pthread_mutex_unlock(&td->frames);
	return err;
}

/* ---- slots ---- */

/* All arrays, or none. */
static int alloc_arrays(struct simtd_slot *s)
{
	s->private_hpa = calloc(s->pages, sizeof(*s->private_hpa));
	s->shared_hpa = calloc(s->pages, sizeof(*s->shared_hpa));
	s->converted = calloc(s->pages / 512 + 1, sizeof(*s->converted));
	if (s->private_hpa && s->shared_hpa && s->converted)
		return 0;
	free(s->private_hpa);
	free(s->shared_hpa);
	free((void *)s->converted);
	return -ENOMEM;
}

int simtd_add_slot(struct simtd *td, uint64_t gpa, uint64_t size)
{
	struct simtd_slot *s = &td->slots[td->nr_slots];
	struct tpt_memory_region region = {
		.slot = td->nr_slots,
		.flags = TPT_MEM_GUEST_MEMFD,
		.gpa = tpt_gpa_make(gpa),
		.size = size,
		.hva = tpt_hva_make(simtd_hva(gpa)),
	};
	int err;

	if (td->nr_slots == TD_MAX_SLOTS)
		return -ENOSPC;
	if (!size || (gpa | size) % TD_PAGE || gpa + size < gpa || gpa + size > td->shared)
		return -EINVAL;
	*s = (struct simtd_slot){
		.td = td, .gpa = gpa, .pages = size / TD_PAGE, .hva = region.hva.a};
	err = alloc_arrays(s);
	if (err)
		return err;
	/* From here on simtd_end() frees it. */
	td->nr_slots++;
	err = tpt_gmem_create(sim_vm(td->sim), size, &gmem_ops, s, &s->gmem);
	region.gmem = s->gmem;
	if (!err)
		err = sim_set_memory_region(td->sim, &region);
	if (!err)
		err = sim_set_private(td->sim, gpa >> TPT_PAGE_SHIFT,
				      (gpa + size) >> TPT_PAGE_SHIFT, true, NULL);
	return err;
}

uint64_t simtd_hva(uint64_t gpa)
{
	return HVA_BASE + gpa;
}

void *simtd_shared_ptr(struct simtd *td, uint64_t gpa)
{
	struct simtd_slot *s = simtd_find_slot(td, gpa, 1);
	uint64_t hpa = 0;

	if (!s)
		return NULL;
	pthread_mutex_lock(&td->frames);
	hpa = s->shared_hpa[(gpa - s->gpa) / TD_PAGE];
	pthread_mutex_unlock(&td->frames);
	return hpa ? machine_mem_ptr(td->machine, hpa + gpa % TD_PAGE) : NULL;
}

void simtd_free_slots(struct simtd *td)
{
	for (unsigned int i = 0; i < td->nr_slots; i++) {
		struct simtd_slot *s = &td->slots[i];

		free_frames(td, s->private_hpa, 0, s->pages, &td->private_pages);
		free_frames(td, s->shared_hpa, 0, s->pages, &td->shared_pages);
		free(s->private_hpa);
		free(s->shared_hpa);
		free((void *)s->converted);
	}
	td->nr_slots = 0;
}
