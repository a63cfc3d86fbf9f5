// SPDX-License-Identifier: BSD-2-Clause
/*
 * Which cache lines a fault writes: that two vCPUs' faults on different leaf tables write none in
 * common, nor one that the other reads. Everything here is compiled to be recorded, see lines.h.
 *
 * test_lines --table prints how many lines each kind of fault writes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mmu/vm/vm.h"
#include "tests/lines/world.h"

#define EPT (1u << WORLD_EPT)
#define NPT (1u << WORLD_NPT)
#define TD  (1u << WORLD_TD)
#define ALL (EPT | NPT | TD)

#define OWN	 (1u << LINE_OWN)
#define LOG	 (1u << LINE_LOG)
#define ENTRY	 (1u << LINE_ENTRY)
#define HEADER	 (1u << LINE_HEADER)
#define VM	 (1u << LINE_VM)
#define PLATFORM (1u << LINE_PLATFORM)

#define FIXED	 TPT_RET_PF_FIXED
#define EMULATE	 TPT_RET_PF_EMULATE
#define SPURIOUS TPT_RET_PF_SPURIOUS
#define RETRY	 TPT_RET_PF_RETRY

static const unsigned int sizes[] = {2, 8, WORLD_VCPUS};

/* ---- the recorder ---- */

struct shape {
	_Alignas(LINE_BYTES) uint64_t word[4 * LINE_BYTES / 8];
};

struct shapes {
	struct shape plain, copied, cleared, set, moved, atomic, failed, read, idle;
	struct shape from;
	struct {
		unsigned int low : 3, high : 7;
	} bits;
};

static struct shapes shapes;
static _Thread_local uint64_t thread_local_word;

static __attribute__((noinline)) void make_shapes(struct shapes *s, uint64_t *stack)
{
	uint64_t old = 1;

	s->plain.word[9] = 1;
	s->copied = s->from;
	for (unsigned int i = 0; i < 4 * LINE_BYTES / 8; i++)
		s->cleared.word[i] = 0;
	memset(&s->set, 1, 2 * LINE_BYTES);
	memmove(&s->moved.word[8], &s->from, LINE_BYTES);
	__atomic_fetch_or(&s->atomic.word[8], 4, __ATOMIC_RELAXED);
	__atomic_compare_exchange_n(&s->failed.word[8], &old, 2, false, __ATOMIC_SEQ_CST,
				    __ATOMIC_RELAXED);
	s->bits.high = 5;
	thread_local_word++;
	*stack = s->read.word[8];
}

/* Which of a shape's four lines were written, as four bits. */
static unsigned int written(const struct lines *lines, const void *shape)
{
	unsigned int bits = 0;

	for (unsigned int i = 0; i < 4; i++) {
		const struct line *line = lines_find(lines, (uintptr_t)shape / LINE_BYTES + i);

		if (line && line->writes)
			bits |= 1u << i;
	}
	return bits;
}

static void stores_of_every_shape_are_recorded_and_the_stack_is_not(void **state)
{
	static struct lines lines;
	const struct line *read;
	uint64_t stack;

	(void)state;
	memset(&shapes, 1, sizeof(shapes));
	lines_begin(&lines);
	make_shapes(&shapes, &stack);
	lines_end();
	shapes.idle.word[0]++;

	assert_int_equal(written(&lines, &shapes.plain), 2);
	assert_int_equal(written(&lines, &shapes.copied), 15);
	assert_int_equal(written(&lines, &shapes.cleared), 15);
	assert_int_equal(written(&lines, &shapes.set), 3);
	assert_int_equal(written(&lines, &shapes.moved), 2);
	assert_int_equal(written(&lines, &shapes.atomic), 2);
	assert_int_equal(written(&lines, &shapes.failed), 2);
	assert_int_equal(written(&lines, &shapes.bits) & 1, 1);
	assert_int_equal(written(&lines, &thread_local_word) & 1, 1);
	assert_int_equal(written(&lines, &stack), 0);
	assert_int_equal(written(&lines, &shapes.from), 0);
	assert_int_equal(written(&lines, &shapes.read), 0);
	assert_int_equal(written(&lines, &shapes.idle), 0);
	read = lines_find(&lines, (uintptr_t)&shapes.read.word[8] / LINE_BYTES);
	assert_true(read && read->reads == 1);
}

/* ---- acts ---- */

/* The page that it is about: at the end of one vCPU's table, at the start of its neighbour's. */
static tpt_gpa page_gpa(const struct seat *seat)
{
	return seat_gpa(seat, seat->nr % 2 ? 2 : TABLE_ENTRIES - 1);
}

/* The seat's tables get linked, and its cache of table pages is full again. */
static int settle(struct seat *seat)
{
	int ret = seat_fault(seat, seat_gpa(seat, 0), 0);

	return ret == FIXED ? seat_fault(seat, seat_gpa(seat, 1), 0) : ret;
}

/* The same in another table, whose neighbours are linked later. */
#define FAR (WORLD_VCPUS * TABLE_ENTRIES)
static int settle_far(struct seat *seat)
{
	int ret = seat_fault(seat, seat_gpa(seat, FAR), 0);

	return ret == FIXED ? seat_fault(seat, seat_gpa(seat, FAR + 1), 0) : ret;
}

static int read_page(struct seat *seat)
{
	return seat_fault(seat, page_gpa(seat), 0);
}

static int write_page(struct seat *seat)
{
	return seat_fault(seat, page_gpa(seat), TPT_PFERR_WRITE);
}

static int write_next_page(struct seat *seat)
{
	return seat_fault(seat, seat_gpa(seat, 3), TPT_PFERR_WRITE);
}

static int write_protected_page(struct seat *seat)
{
	return seat_fault(seat, page_gpa(seat), TPT_PFERR_WRITE | TPT_PFERR_PRESENT);
}

static int read_page_far(struct seat *seat)
{
	return seat_fault(seat, seat_gpa(seat, FAR + 2), 0);
}

/* Every other vCPU links a table, those between map a page. */
static int link_or_map(struct seat *seat)
{
	return seat->nr % 2 ? read_page_far(seat) : read_page(seat);
}

/* Code in small pages, where a huge page could be. */
static int run_page(struct seat *seat)
{
	return seat_fault(seat, page_gpa(seat), TPT_PFERR_FETCH);
}

static int run_next_page(struct seat *seat)
{
	return seat_fault(seat, tpt_gpa_make(page_gpa(seat).a + TPT_PAGE_SIZE), TPT_PFERR_FETCH);
}

static tpt_gpa mmio_gpa(const struct seat *seat, unsigned int n)
{
	return seat_address(seat, WORLD_MMIO + seat->nr * tpt_level_pages(2) * TPT_PAGE_SIZE +
					  n * TPT_PAGE_SIZE);
}

static int settle_mmio(struct seat *seat)
{
	int ret = seat_fault(seat, mmio_gpa(seat, 0), 0);

	return ret == EMULATE ? seat_fault(seat, mmio_gpa(seat, 1), 0) : ret;
}

static int touch_mmio(struct seat *seat)
{
	return seat_fault(seat, mmio_gpa(seat, 2), 0);
}

static int touch_cached_mmio(struct seat *seat)
{
	return seat_fault(seat, mmio_gpa(seat, 2), TPT_PFERR_RSVD);
}

/* In a part of the tree that is the vCPU's alone: three tables are linked. */
static int touch_lonely_mmio(struct seat *seat)
{
	uint64_t apart = tpt_level_pages(TPT_LEVEL_512G) * TPT_PAGE_SIZE;

	return seat_fault(seat, seat_address(seat, WORLD_MMIO + (seat->nr + 1) * apart), 0);
}

static int load_roots(struct seat *seat)
{
	struct tpt_roots roots;

	return tpt_vcpu_load_roots(seat->vcpu, &roots);
}

static int load_roots_again(struct seat *seat)
{
	tpt_vcpu_reset_context(seat->vcpu);
	return load_roots(seat);
}

static int pass_section(struct seat *seat)
{
	struct actor *actor = &seat->vcpu->fault.actor;

	if (!section_enter(actor))
		return -1;
	section_leave(actor);
	return 0;
}

static int settle_all(struct seat *seat)
{
	int ret = settle_mmio(seat);

	if (ret != EMULATE)
		return ret;
	ret = settle_far(seat);
	return ret == FIXED ? settle(seat) : ret;
}

/* What vCPUs do on tables that exist, one after the other. */
static int do_everything(struct seat *seat)
{
	return !load_roots_again(seat) && write_protected_page(seat) == FIXED &&
	       write_protected_page(seat) == SPURIOUS && read_page(seat) == SPURIOUS &&
	       read_page_far(seat) == FIXED && touch_mmio(seat) == EMULATE &&
	       touch_cached_mmio(seat) == EMULATE && !pass_section(seat);
}

/* The log is read: what was written is protected. */
static void protect(struct world *w)
{
	uint64_t *bitmap = malloc(tpt_dirty_words(w->slot_bytes / TPT_PAGE_SIZE) * 8);

	assert_non_null(bitmap);
	assert_int_equal(tpt_vm_get_dirty_log(w->vm, 0, 0, bitmap), 0);
	free(bitmap);
}

/* Until the world is put to rest. */
static void be_alone(struct world *w)
{
	section_exclusive_begin(&w->vm->base);
}

/* ---- what one vCPU does beside others ---- */

struct step {
	act_fn *act; /* NULL: none */
	int ret;
};

/* One kind of fault, or something else that vCPUs do. */
struct kind {
	const char *name;
	unsigned int worlds; /* EPT, NPT, TD */
	struct setting setting;
	struct step before[3];		  /* what must have been done */
	void (*between)(struct world *w); /* and then; or NULL */
	struct step act;
	unsigned int may_write; /* OWN, LOG, ...: of these and no others */
	unsigned int may_share; /* lines of these may be another's too; and a parent's line */
};

#define SMALL	.level = TPT_LEVEL_4K
#define HUGE	.level = TPT_LEVEL_2M
#define LOGGED	SMALL, .slot_flags = TPT_MEM_LOG_DIRTY
#define RINGED	LOGGED, .vm_flags = TPT_VM_DIRTY_RING
#define NX_HUGE HUGE, .vm_flags = TPT_VM_ITLB_MULTIHIT

enum {
	MAP_4K,
	MAP_2M,
	MAP_MIRROR,
	MAP_LOG,
	MAP_RING,
	MAP_NX,
	FAST,
	SPURIOUS_SLOW,
	SPURIOUS_FAST,
	MMIO_NEW,
	MMIO_CACHED,
	REFUSED,
	ROOTS,
	ROOTS_NEW,
	SECTION,
	EVERYTHING,
	LINK,
	LINK_BESIDE,
	LINK_MIRROR,
	LINK_NX,
	REFILL,
	REFILL_3,
	PLANTED,
	KINDS
};

/* A row a kind, which clang-format would make eight of. */
/* clang-format off */
static const struct kind kinds[KINDS] = {
	[MAP_4K] = {"map 4K", ALL, {SMALL},
		{{settle, FIXED}}, NULL, {read_page, FIXED}, OWN | ENTRY, 0},
	[MAP_2M] = {"map 2M", ALL, {HUGE},
		{{settle, FIXED}}, NULL, {read_page, FIXED}, OWN | ENTRY, 0},
	[MAP_MIRROR] = {"map 4K, mirror", TD, {SMALL, .private_ = true},
		{{settle, FIXED}}, NULL, {read_page, FIXED}, OWN | ENTRY, 0},
	[MAP_LOG] = {"map 4K, dirty log", ALL, {LOGGED},
		{{settle, FIXED}}, NULL, {write_page, FIXED}, OWN | ENTRY | LOG, 0},
	[MAP_RING] = {"map 4K, dirty ring", ALL, {RINGED},
		{{settle, FIXED}}, NULL, {write_page, FIXED}, OWN | ENTRY, 0},
	[MAP_NX] = {"map 4K, code, NX huge pages", ALL, {NX_HUGE},
		{{settle, FIXED}, {run_page, FIXED}, {settle, SPURIOUS}}, NULL,
		{run_next_page, FIXED}, OWN | ENTRY, 0},
	[FAST] = {"fast write, dirty log", ALL, {LOGGED},
		{{settle, FIXED}, {write_page, FIXED}}, protect,
		{write_protected_page, FIXED}, OWN | ENTRY | LOG, 0},
	[SPURIOUS_SLOW] = {"spurious", ALL, {SMALL},
		{{settle, FIXED}, {read_page, FIXED}}, NULL, {read_page, SPURIOUS}, OWN, 0},
	[SPURIOUS_FAST] = {"spurious, fast path", ALL, {SMALL},
		{{settle, FIXED}, {write_page, FIXED}}, NULL,
		{write_protected_page, SPURIOUS}, OWN, 0},
	[MMIO_NEW] = {"MMIO, not cached", ALL, {SMALL},
		{{settle_mmio, EMULATE}}, NULL, {touch_mmio, EMULATE}, OWN | ENTRY, 0},
	[MMIO_CACHED] = {"MMIO, cached", ALL, {SMALL},
		{{settle_mmio, EMULATE}, {touch_mmio, EMULATE}}, NULL,
		{touch_cached_mmio, EMULATE}, OWN, 0},
	[REFUSED] = {"refused: somebody is alone", ALL, {SMALL},
		{{settle, FIXED}}, be_alone, {read_page, RETRY}, OWN, 0},
	[ROOTS] = {"load roots, as they were", ALL, {SMALL},
		{{settle, FIXED}}, NULL, {load_roots, 0}, 0, 0},
	[ROOTS_NEW] = {"load roots, anew", ALL, {SMALL},
		{{settle, FIXED}}, NULL, {load_roots_again, 0}, OWN, 0},
	[SECTION] = {"enter and leave a section", ALL, {SMALL},
		{{settle, FIXED}}, NULL, {pass_section, 0}, OWN, 0},
	[EVERYTHING] = {"nearly all of these together", ALL, {LOGGED},
		{{settle_all, FIXED}, {write_page, FIXED}}, protect,
		{do_everything, true}, OWN | ENTRY | LOG, 0},
	[LINK] = {"link a table, map 4K", ALL, {SMALL},
		{{settle_far, FIXED}}, NULL, {read_page, FIXED}, OWN | ENTRY | HEADER, 0},
	[LINK_BESIDE] = {"the same, beside map 4K", ALL, {SMALL},
		{{settle_far, FIXED}}, NULL, {link_or_map, FIXED}, OWN | ENTRY | HEADER, 0},
	[LINK_MIRROR] = {"link a table, map 4K, mirror", TD, {SMALL, .private_ = true},
		{{settle_far, FIXED}}, NULL, {read_page, FIXED}, OWN | ENTRY | HEADER, 0},
	/* The list that recovery takes the oldest from: its lock, and its last table's header. */
	[LINK_NX] = {"the same, code, NX huge pages", ALL, {NX_HUGE},
		{{settle, FIXED}}, NULL,
		{run_page, FIXED}, OWN | ENTRY | HEADER | VM, HEADER | VM},
	[REFILL] = {"refill by 1 page, map 4K", ALL, {SMALL},
		{{settle_far, FIXED}, {read_page, FIXED}}, NULL,
		{write_next_page, FIXED}, OWN | ENTRY | PLATFORM, PLATFORM},
	[REFILL_3] = {"refill by 3 pages, map 4K", ALL, {SMALL},
		{{settle, FIXED}, {touch_lonely_mmio, EMULATE}}, NULL,
		{write_next_page, FIXED}, OWN | ENTRY | PLATFORM, PLATFORM},
	[PLANTED] = {"a backing that counts", ALL, {SMALL, .planted = true},
		{{settle, FIXED}}, NULL, {read_page, FIXED}, OWN | ENTRY | PLATFORM, 0},
};
/* clang-format on */

/* The line of the entry that points to the leaf table which the seat linked, if it did. */
static uintptr_t find_parent(const struct seat *seat)
{
	uint64_t gfn = page_gpa(seat).a >> TPT_PAGE_SHIFT & ~seat->world->vm->trees.shared_gfn;

	for (unsigned int i = 0; i < LINES_MAX; i++) {
		const struct line *line = &seat->lines.line[i];
		const struct table *table = (const struct table *)(line->number * LINE_BYTES);

		if (line->writes && line_kind(seat, line) == LINE_HEADER &&
		    table->gfn == tpt_gfn_round(gfn, TPT_LEVEL_2M))
			return (uintptr_t)table->parent / LINE_BYTES;
	}
	return 0;
}

/* A world in which each seat has done a kind of thing once, recorded. */
static struct world *record(const struct kind *kind, enum world_kind in, unsigned int nr)
{
	struct world *w = world_create(in, &kind->setting, nr);
	bool done = true;

	for (unsigned int i = 0; i < 3 && done && kind->before[i].act; i++)
		done = world_act(w, kind->before[i].act, kind->before[i].ret);
	if (done && kind->between)
		kind->between(w);
	assert_true(done && world_record(w, kind->act.act, kind->act.ret));
	for (unsigned int i = 0; i < nr; i++)
		w->seat[i].parent = find_parent(&w->seat[i]);
	return w;
}

static void put_to_rest(struct world *w)
{
	if (w->vm->base.in_exclusive)
		section_exclusive_end(&w->vm->base);
	world_destroy(w);
}

/* What all of them wrote is of these kinds; and each kind was written by somebody. */
static void assert_written(const struct world *w, unsigned int kinds_written)
{
	unsigned int seen = 0;

	for (unsigned int i = 0; i < w->nr; i++) {
		unsigned int count[LINE_KINDS];

		seat_count(&w->seat[i], count);
		for (unsigned int k = 0; k < LINE_KINDS; k++)
			seen |= count[k] ? 1u << k : 0;
	}
	assert_int_equal(seen, kinds_written);
}

/* Calls fn for a kind of thing in worlds of every kind and size. */
static void in_every_world(const struct kind *kind,
			   void (*fn)(const struct kind *kind, const struct world *w))
{
	for (enum world_kind in = 0; in < WORLD_KINDS; in++) {
		for (size_t n = 0; n < sizeof(sizes) / sizeof(sizes[0]); n++) {
			struct world *w;

			if (!(kind->worlds & 1u << in))
				continue;
			w = record(kind, in, sizes[n]);
			fn(kind, w);
			put_to_rest(w);
		}
	}
}

static void assert_nothing_common(const struct kind *kind, const struct world *w)
{
	assert_int_equal(world_common(w, kind->may_share, true), 0);
	assert_written(w, kind->may_write);
}

#define PROOF(name, kind)                                            \
	static void name(void **state)                               \
	{                                                            \
		(void)state;                                         \
		in_every_world(&kinds[kind], assert_nothing_common); \
	}

PROOF(faults_that_map_4k_in_different_leaf_tables_share_no_line, MAP_4K)
PROOF(faults_that_map_2m_under_different_1g_tables_share_no_line, MAP_2M)
PROOF(faults_that_map_private_pages_share_no_line, MAP_MIRROR)
PROOF(dirty_bitmaps_of_different_leaf_tables_share_no_line, MAP_LOG)
PROOF(faults_with_dirty_rings_share_no_line, MAP_RING)
PROOF(faults_of_code_under_nx_huge_pages_share_no_line, MAP_NX)
PROOF(fast_write_faults_share_no_line, FAST)
PROOF(spurious_faults_write_nothing_but_the_vcpus_own_lines, SPURIOUS_SLOW)
PROOF(spurious_fast_faults_write_nothing_but_the_vcpus_own_lines, SPURIOUS_FAST)
PROOF(faults_that_cache_mmio_share_no_line, MMIO_NEW)
PROOF(cached_mmio_faults_write_nothing_but_the_vcpus_own_lines, MMIO_CACHED)
PROOF(refused_faults_write_nothing_but_the_vcpus_own_lines, REFUSED)
PROOF(loading_roots_that_are_loaded_writes_nothing, ROOTS)
PROOF(loading_roots_anew_writes_nothing_but_the_vcpus_own_lines, ROOTS_NEW)
PROOF(sections_write_nothing_but_the_vcpus_own_lines, SECTION)
PROOF(faults_of_different_kinds_share_no_line, EVERYTHING)

/* ---- linking tables ---- */

/* Once, or FROZEN and then the table where the owner of an external table is asked in between. */
static void assert_parent_written_once(const struct kind *kind, const struct world *w)
{
	assert_nothing_common(kind, w);
	for (unsigned int i = 0; i < w->nr; i++) {
		const struct seat *seat = &w->seat[i];
		const struct line *parent = lines_find(&seat->lines, seat->parent);

		assert_int_equal(parent ? parent->writes : 0, kind == &kinds[LINK_BESIDE] ? !(i % 2)
							      : kind->setting.private_	  ? 2
											  : 1);
	}
}

static void linking_a_table_writes_its_parents_line_once_and_no_other_that_is_shared(void **state)
{
	(void)state;
	in_every_world(&kinds[LINK], assert_parent_written_once);
	in_every_world(&kinds[LINK_BESIDE], assert_parent_written_once);
	in_every_world(&kinds[LINK_MIRROR], assert_parent_written_once);
}

/* The price of recovery: its list's lock, and the header of the list's last table. */
static void linking_a_table_for_code_writes_the_recovery_list_too(void **state)
{
	(void)state;
	in_every_world(&kinds[LINK_NX], assert_parent_written_once);
}

/* ---- page caches ---- */

static unsigned int most_of(const struct world *w, enum line_kind kind)
{
	unsigned int most = 0;

	for (unsigned int i = 0; i < w->nr; i++) {
		unsigned int count[LINE_KINDS];

		seat_count(&w->seat[i], count);
		most = count[kind] > most ? count[kind] : most;
	}
	return most;
}

/* Most lines of the platform's that one refill wrote. */
static unsigned int refill_lines;

static void measure_refill(const struct kind *kind, const struct world *w)
{
	unsigned int most = most_of(w, LINE_PLATFORM);

	assert_nothing_common(kind, w);
	refill_lines = most > refill_lines ? most : refill_lines;
}

/* The arena's counters, and the states of the pages, a byte each: those of 3 can lie in two lines.
 */
static void refilling_a_page_cache_writes_two_lines_of_the_platform_however_many_pages(void **state)
{
	unsigned int one;

	(void)state;
	refill_lines = 0;
	in_every_world(&kinds[REFILL], measure_refill);
	one = refill_lines;
	in_every_world(&kinds[REFILL_3], measure_refill);
	print_message("lines of the platform that a refill writes: %u for 1 page, %u for 3\n", one,
		      refill_lines);
	assert_int_equal(one, 2);
	assert_true(refill_lines <= 3);
}

/* ---- can it fail? ---- */

static void assert_found(const struct kind *kind, const struct world *w)
{
	assert_int_equal(world_common(w, kind->may_share, false), w->nr * (w->nr - 1));
}

static void a_line_that_all_vcpus_write_is_found(void **state)
{
	(void)state;
	in_every_world(&kinds[PLANTED], assert_found);
}

/* ---- the table ---- */

static void print_table(void)
{
	static const char *const worlds[WORLD_KINDS] = {"EPT", "NPT", "TD"};

	printf("%-30s %-4s %6s %6s %6s %6s %6s %9s\n", "lines written", "", "vCPU", "log", "entry",
	       "header", "VM", "platform");
	for (unsigned int k = 0; k < KINDS; k++) {
		for (enum world_kind in = 0; in < WORLD_KINDS; in++) {
			unsigned int count[LINE_KINDS];
			struct world *w;

			if (!(kinds[k].worlds & 1u << in))
				continue;
			w = record(&kinds[k], in, 2);
			seat_count(&w->seat[k == LINK_BESIDE ? 0 : 1], count);
			printf("%-30s %-4s %6u %6u %6u %6u %6u %9u\n", kinds[k].name, worlds[in],
			       count[LINE_OWN], count[LINE_LOG], count[LINE_ENTRY],
			       count[LINE_HEADER], count[LINE_VM], count[LINE_PLATFORM]);
			put_to_rest(w);
		}
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stores_of_every_shape_are_recorded_and_the_stack_is_not),
		cmocka_unit_test(faults_that_map_4k_in_different_leaf_tables_share_no_line),
		cmocka_unit_test(faults_that_map_2m_under_different_1g_tables_share_no_line),
		cmocka_unit_test(faults_that_map_private_pages_share_no_line),
		cmocka_unit_test(dirty_bitmaps_of_different_leaf_tables_share_no_line),
		cmocka_unit_test(faults_with_dirty_rings_share_no_line),
		cmocka_unit_test(faults_of_code_under_nx_huge_pages_share_no_line),
		cmocka_unit_test(fast_write_faults_share_no_line),
		cmocka_unit_test(spurious_faults_write_nothing_but_the_vcpus_own_lines),
		cmocka_unit_test(spurious_fast_faults_write_nothing_but_the_vcpus_own_lines),
		cmocka_unit_test(faults_that_cache_mmio_share_no_line),
		cmocka_unit_test(cached_mmio_faults_write_nothing_but_the_vcpus_own_lines),
		cmocka_unit_test(refused_faults_write_nothing_but_the_vcpus_own_lines),
		cmocka_unit_test(loading_roots_anew_writes_nothing_but_the_vcpus_own_lines),
		cmocka_unit_test(sections_write_nothing_but_the_vcpus_own_lines),
		cmocka_unit_test(faults_of_different_kinds_share_no_line),
		cmocka_unit_test(loading_roots_that_are_loaded_writes_nothing),
		cmocka_unit_test(
			linking_a_table_writes_its_parents_line_once_and_no_other_that_is_shared),
		cmocka_unit_test(linking_a_table_for_code_writes_the_recovery_list_too),
		cmocka_unit_test(
			refilling_a_page_cache_writes_two_lines_of_the_platform_however_many_pages),
		cmocka_unit_test(a_line_that_all_vcpus_write_is_found),
	};

	lines_thread(__builtin_frame_address(0));
	if (argc == 2 && !strcmp(argv[1], "--table")) {
		print_table();
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
