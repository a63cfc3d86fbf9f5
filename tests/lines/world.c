// SPDX-License-Identifier: BSD-2-Clause
/* The VM, its seats, and whose a line is. Sets no expectation. */
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lines/world.h"

#define HVA	 (1ull << 38) /* also the frame behind it, times 4 KiB */
#define GMEM_PFN (1ull << 33)
/* The memslot begins so much before the first seat's memory: off every table's edge. */
#define ODD_BYTES (5ull * TPT_PAGE_SIZE)
#define SHARED	  47

/* Whose memory is being allocated: the platform's functions have no place for it. */
static struct world *here;

/* ---- platform, backing, external table ---- */

static void *mem_alloc(void *ctx, size_t bytes)
{
	void *at = tpt_posix_platform(here->posix)->mem_alloc(ctx, bytes);

	for (unsigned int i = 0; at && i < WORLD_BLOCKS; i++) {
		if (here->block[i].at)
			continue;
		here->block[i] = (struct block){at, bytes, here->allocating_for};
		return at;
	}
	abort();
}

static void mem_free(void *ctx, void *mem, size_t bytes)
{
	for (unsigned int i = 0; i < WORLD_BLOCKS; i++)
		if (here->block[i].at == mem)
			here->block[i] = (struct block){0};
	tpt_posix_platform(here->posix)->mem_free(ctx, mem, bytes);
}

static struct {
	_Alignas(LINE_BYTES) uint64_t lookups;
} planted;

static int lookup(void *ctx, const struct tpt_backing_query *q, struct tpt_backing_page *page)
{
	const struct world *w = ctx;

	if (w->setting.planted)
		planted.lookups++;
	*page = (struct tpt_backing_page){.pfn = tpt_pfn_make(q->hva.a >> TPT_PAGE_SHIFT),
					  .writable = true,
					  .level = w->setting.level};
	return 0;
}

static const struct tpt_backing_ops backing = {.size = sizeof(backing), .lookup = lookup};

static int get_page(void *ctx, uint64_t index, tpt_pfn *pfn, enum tpt_level *level)
{
	(void)ctx;
	*pfn = tpt_pfn_make(GMEM_PFN + index);
	*level = TPT_LEVEL_4K;
	return 0;
}

static const struct tpt_gmem_ops gmem_ops = {.size = sizeof(gmem_ops), .get_page = get_page};

/* An owner that says yes and keeps nothing: what is counted is the library's alone. */
static int on_link(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_hpa table)
{
	(void)ctx, (void)gfn, (void)level, (void)table;
	return 0;
}

static int on_leaf(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_pfn pfn)
{
	(void)ctx, (void)gfn, (void)level, (void)pfn;
	return 0;
}

static int on_entry(void *ctx, tpt_gfn gfn, enum tpt_level level)
{
	(void)ctx, (void)gfn, (void)level;
	return 0;
}

static int on_all(void *ctx)
{
	(void)ctx;
	return 0;
}

static const struct tpt_external_ops external = {
	.size = sizeof(external),
	.link = on_link,
	.map = on_leaf,
	.block = on_entry,
	.unblock = on_entry,
	.track = on_all,
	.remove = on_leaf,
	.release = on_all,
	.reclaim_leaf = on_leaf,
	.free_table = on_link,
};

/* ---- seats ---- */

static void *sit(void *ctx)
{
	struct seat *seat = ctx;
	int ret;

	lines_thread(__builtin_frame_address(0));
	for (;;) {
		sem_wait(&seat->go);
		if (!seat->act)
			return NULL;
		if (seat->recorded)
			lines_begin(&seat->lines);
		ret = seat->act(seat);
		lines_end();
		seat->ret = ret;
		sem_post(&seat->done);
	}
}

static void order(struct seat *seat, act_fn *act, bool recorded)
{
	seat->act = act;
	seat->recorded = recorded;
	sem_post(&seat->go);
	if (act)
		sem_wait(&seat->done);
	else
		pthread_join(seat->thread, NULL);
}

static bool answered(const struct seat *seat, int ret)
{
	if (seat->ret != ret)
		printf("vCPU %u: %d, not %d\n", seat->nr, seat->ret, ret);
	return seat->ret == ret;
}

static int load_roots(struct seat *seat)
{
	struct tpt_roots roots;

	return tpt_vcpu_load_roots(seat->vcpu, &roots);
}

static void take_seat(struct world *w, unsigned int nr)
{
	struct seat *seat = &w->seat[nr];

	*seat = (struct seat){.world = w, .nr = nr};
	w->allocating_for = (int)nr;
	if (tpt_vcpu_create(w->vm, nr, &seat->vcpu))
		abort();
	w->allocating_for = OF_VM;
	sem_init(&seat->go, 0, 0);
	sem_init(&seat->done, 0, 0);
	if (pthread_create(&seat->thread, NULL, sit, seat))
		abort();
}

/* ---- the VM ---- */

static void create_vm(struct world *w)
{
	struct tpt_vm_config c;

	tpt_vm_config_init(&c, w->kind == WORLD_NPT ? TPT_FORMAT_NPT : TPT_FORMAT_EPT);
	c.flags = w->setting.vm_flags;
	c.dirty_ring_size = c.flags & TPT_VM_DIRTY_RING ? 1024 : 0;
	c.guest_maxphyaddr = SHARED + 1;
	if (w->kind == WORLD_TD) {
		c.flags |= TPT_VM_SELF_SNOOP;
		c.shared_bit = SHARED;
		c.external = &external;
	}
	c.platform = &w->platform;
	c.platform_ctx = w->posix;
	c.backing = &backing;
	c.backing_ctx = w;
	if (tpt_vm_create(&c, &w->vm))
		abort();
}

/* Pages that a table of the backing's leaves maps: what each seat has for itself. */
static uint64_t seat_bytes(const struct world *w)
{
	return tpt_level_pages(w->setting.level + 1) * TPT_PAGE_SIZE;
}

static void create_slot(struct world *w)
{
	uint64_t odd = seat_bytes(w) - ODD_BYTES;
	struct tpt_memory_region r = {.flags = w->setting.slot_flags,
				      .gpa = tpt_gpa_make(odd),
				      .hva = tpt_hva_make(HVA + odd)};

	/* Twice what the seats have: the second half is for tables beside those that are linked. */
	w->slot_bytes = r.size = 2 * WORLD_VCPUS * seat_bytes(w) + ODD_BYTES;
	if (w->setting.private_) {
		r.flags |= TPT_MEM_GUEST_MEMFD;
		if (tpt_gmem_create(w->vm, r.size, &gmem_ops, w, &r.gmem))
			abort();
	}
	w->allocating_for = OF_SLOT;
	if (tpt_vm_set_memory_region(w->vm, &r))
		abort();
	w->allocating_for = OF_VM;
	if (w->setting.private_ && tpt_vm_set_private(w->vm, odd / TPT_PAGE_SIZE,
						      (odd + r.size) / TPT_PAGE_SIZE, true, NULL))
		abort();
}

struct world *world_create(enum world_kind kind, const struct setting *setting, unsigned int nr)
{
	struct world *w = calloc(1, sizeof(*w));

	if (!w)
		abort();
	here = w;
	*w = (struct world){.kind = kind, .setting = *setting, .nr = nr, .allocating_for = OF_VM};
	w->seat = aligned_alloc(LINE_BYTES, nr * sizeof(*w->seat));
	w->posix = tpt_posix_create(NULL);
	if (!w->seat || !w->posix)
		abort();
	w->platform = *tpt_posix_platform(w->posix);
	w->platform.mem_alloc = mem_alloc;
	w->platform.mem_free = mem_free;
	create_vm(w);
	create_slot(w);
	for (unsigned int i = 0; i < nr; i++)
		take_seat(w, i);
	if (!world_act(w, load_roots, 0))
		abort();
	return w;
}

void world_destroy(struct world *w)
{
	char text[256];

	if (tpt_vm_audit(w->vm, text, sizeof(text))) {
		printf("audit: %s\n", text);
		abort();
	}
	for (unsigned int i = 0; i < w->nr; i++)
		order(&w->seat[i], NULL, false);
	tpt_vm_destroy(w->vm);
	if (tpt_posix_destroy(w->posix))
		abort();
	free(w->seat);
	free(w);
}

/* ---- is a recording whole? ---- */

/* In larger worlds memory is not compared: they run the same code. */
#define COMPARED_SEATS 8

#define WORLD_PIECES (WORLD_BLOCKS + 2)

/* Memory as it was before an act. */
struct copy {
	unsigned int nr;
	struct {
		const char *at, *was;
		size_t bytes;
	} piece[WORLD_PIECES];
};

static void add_piece(struct copy *copy, const void *at, size_t bytes)
{
	char *was = malloc(bytes);

	if (!was)
		abort();
	memcpy(was, at, bytes);
	copy->piece[copy->nr].at = at;
	copy->piece[copy->nr].was = was;
	copy->piece[copy->nr++].bytes = bytes;
}

/* All that the library can write: its blocks, its table pages, their headers. */
static struct copy *copy_memory(const struct world *w)
{
	struct copy *copy = calloc(1, sizeof(*copy));
	struct tpt_posix_stats stats;
	uint64_t pages;
	tpt_hpa hpa;
	void *va;

	if (!copy)
		abort();
	tpt_posix_get_stats(w->posix, &stats);
	tpt_posix_arena(w->posix, &hpa, &va, NULL);
	/* Pages are handed out in order, and no act takes that many. */
	pages = stats.page_allocs + 2 * TPT_LEVEL_MAX;
	add_piece(copy, va, pages * TPT_PAGE_SIZE);
	add_piece(copy, (char *)w->platform.record_linear + hpa.a / LINE_BYTES, pages * LINE_BYTES);
	for (unsigned int i = 0; i < WORLD_BLOCKS; i++)
		if (w->block[i].at)
			add_piece(copy, w->block[i].at, w->block[i].bytes);
	return copy;
}

/* Was every change of a piece recorded? */
static bool is_whole(const struct lines *lines, const char *at, const char *was, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += LINE_BYTES) {
		const struct line *line;

		if (!memcmp(at + i, was + i, bytes - i < LINE_BYTES ? bytes - i : LINE_BYTES))
			continue;
		line = lines_find(lines, (uintptr_t)(at + i) / LINE_BYTES);
		if (line && line->writes)
			continue;
		printf("changed, but no write was recorded: %p\n", (const void *)(at + i));
		return false;
	}
	return true;
}

static bool compare_memory(const struct seat *seat, struct copy *copy)
{
	bool whole = true;

	for (unsigned int i = 0; i < copy->nr; i++) {
		whole &= is_whole(&seat->lines, copy->piece[i].at, copy->piece[i].was,
				  copy->piece[i].bytes);
		free((char *)copy->piece[i].was);
	}
	free(copy);
	return whole;
}

/* ---- acts ---- */

tpt_gpa seat_address(const struct seat *seat, uint64_t gpa)
{
	const struct world *w = seat->world;

	return tpt_gpa_make(w->kind == WORLD_TD && !w->setting.private_ ? gpa | 1ull << SHARED
									: gpa);
}

tpt_gpa seat_gpa(const struct seat *seat, unsigned int n)
{
	const struct world *w = seat->world;
	uint64_t gpa = (1 + seat->nr) * seat_bytes(w) +
		       n * tpt_level_pages(w->setting.level) * TPT_PAGE_SIZE;

	return seat_address(seat, gpa);
}

int seat_fault(struct seat *seat, tpt_gpa gpa, uint64_t error_code)
{
	struct tpt_fault f = {.gpa = gpa, .error_code = error_code};

	return tpt_vcpu_fault(seat->vcpu, &f);
}

bool world_act(struct world *w, act_fn *act, int ret)
{
	for (unsigned int i = 0; i < w->nr; i++) {
		order(&w->seat[i], act, false);
		if (!answered(&w->seat[i], ret))
			return false;
	}
	return true;
}

bool world_record(struct world *w, act_fn *act, int ret)
{
	for (unsigned int i = 0; i < w->nr; i++) {
		struct copy *copy = w->nr <= COMPARED_SEATS ? copy_memory(w) : NULL;

		order(&w->seat[i], act, true);
		if (copy && !compare_memory(&w->seat[i], copy))
			return false;
		if (!answered(&w->seat[i], ret))
			return false;
	}
	return true;
}

/* ---- whose a line is ---- */

static bool is_in(uintptr_t a, uintptr_t start, uint64_t bytes)
{
	return a >= start && a - start < bytes;
}

static const struct block *block_of(const struct world *w, uintptr_t a)
{
	for (unsigned int i = 0; i < WORLD_BLOCKS; i++)
		if (w->block[i].at && is_in(a, (uintptr_t)w->block[i].at, w->block[i].bytes))
			return &w->block[i];
	return NULL;
}

enum line_kind line_kind(const struct seat *seat, const struct line *line)
{
	const struct world *w = seat->world;
	uintptr_t a = line->number * LINE_BYTES;
	const struct block *block = block_of(w, a);
	uint64_t bytes;
	tpt_hpa hpa;
	void *va;

	if (block)
		return block->of == (int)seat->nr ? LINE_OWN
		       : block->of == OF_SLOT	  ? LINE_LOG
						  : LINE_VM;
	if (is_in(a, seat->lines.local, seat->lines.local_end - seat->lines.local))
		return LINE_OWN;
	tpt_posix_arena(w->posix, &hpa, &va, &bytes);
	if (is_in(a, (uintptr_t)va, bytes))
		return LINE_ENTRY;
	if (is_in(a, w->platform.record_linear + hpa.a / LINE_BYTES, bytes / LINE_BYTES))
		return LINE_HEADER;
	return LINE_PLATFORM;
}

void seat_count(const struct seat *seat, unsigned int count[LINE_KINDS])
{
	memset(count, 0, LINE_KINDS * sizeof(count[0]));
	for (unsigned int i = 0; i < LINES_MAX; i++) {
		const struct line *line = &seat->lines.line[i];

		if (line->writes)
			count[line_kind(seat, line)]++;
	}
}

static void tell(const struct seat *seat, const struct line *line, const struct seat *other)
{
	static const char *const names[LINE_KINDS] = {
		[LINE_OWN] = "the first vCPU's own",
		[LINE_LOG] = "a memslot's",
		[LINE_ENTRY] = "entries",
		[LINE_HEADER] = "a table's header",
		[LINE_VM] = "the VM's or another vCPU's",
		[LINE_PLATFORM] = "the platform's",
	};
	const struct block *block = block_of(seat->world, line->number * LINE_BYTES);

	printf("vCPU %u writes and vCPU %u uses line %#lx, %s", seat->nr, other->nr,
	       line->number * LINE_BYTES, names[line_kind(seat, line)]);
	if (block)
		printf(", offset %#lx", line->number * LINE_BYTES - (uintptr_t)block->at);
	printf(", written by\n");
	fflush(stdout);
	lines_print_code(line->writer);
}

/* Others that use a line which the seat wrote. */
static unsigned int users(const struct world *w, const struct seat *seat, const struct line *line,
			  bool say)
{
	unsigned int nr = 0;

	for (unsigned int i = 0; i < w->nr; i++) {
		const struct seat *other = &w->seat[i];

		if (other == seat || !lines_find(&other->lines, line->number))
			continue;
		if (say && !nr)
			tell(seat, line, other);
		nr++;
	}
	return nr;
}

unsigned int world_common(const struct world *w, unsigned int but, bool say)
{
	unsigned int nr = 0;

	for (unsigned int i = 0; i < w->nr; i++) {
		const struct seat *seat = &w->seat[i];

		for (unsigned int l = 0; l < LINES_MAX; l++) {
			const struct line *line = &seat->lines.line[l];

			if (line->writes && line->number != seat->parent &&
			    !(but & 1u << line_kind(seat, line)))
				nr += users(w, seat, line, say && !nr);
		}
	}
	return nr;
}
