// SPDX-License-Identifier: BSD-2-Clause
/*
 * Private and shared memory of a TD: a page is one of the two, content stays where it was put, and
 * what is taken away is gone at once. Plain memory is test_memory.c's.
 */
#include "tests/boot/guest/probe.h"

/* Virtual address of a page's memory, private or shared. */
static uint64_t address(uint64_t gpa, bool private)
{
	return private ? gpa : shared_address(gpa);
}

/* The page is what @private says: that is there, the other is not. Writes a word of it. */
static void expect_kind(uint64_t gpa, bool private)
{
	const char *kind = private ? "private" : "shared";
	uint64_t here = address(gpa, private), there = address(gpa, !private), value = 0;

	expect(probe_write8(here, gpa) == NO_FAULT, "%s page %lx can't be written", kind, gpa);
	expect(probe_read8(here, &value) == NO_FAULT, "%s page %lx can't be read", kind, gpa);
	expect(value == gpa, "%s page %lx holds %lx", kind, gpa, value);
	expect(probe_read8(there, &value) == VECTOR_GP, "%s page %lx is read as the other", kind,
	       gpa);
	expect(probe_write8(there, ~gpa) == VECTOR_GP, "%s page %lx is written as the other", kind,
	       gpa);
	expect(probe_read8(here, &value) == NO_FAULT && value == gpa, "%s page %lx has changed",
	       kind, gpa);
}

static void expect_zero(uint64_t gpa, uint64_t bytes)
{
	size_t at = first_nonzero((void *)gpa, bytes);

	expect(at == bytes, "newly private %lx+%lx isn't zero", gpa, (uint64_t)at);
}

static void private_and_shared_differ(void)
{
	uint64_t gpa = machine.free + 5 * PAGE;
	void *private = (void *)gpa, *shared = (void *)shared_address(gpa);

	for (unsigned int i = 0; i < 4 * machine.rounds; i++) {
		fill(private, PAGE, 1);
		convert(gpa, PAGE, false);
		fill(shared, PAGE, 2);
		expect_filled(shared, PAGE, 2, "shared");
		expect_kind(gpa, false);
		convert(gpa, PAGE, true);
		expect_zero(gpa, PAGE);
		fill(private, PAGE, 3);
		expect_filled(private, PAGE, 3, "private");
		expect_kind(gpa, true);
	}
}

/* Neighbours differ, so none is right by what another is. */
static void each_page_is_one_of_both(void)
{
	const unsigned int pages = 96, run = 3;
	uint64_t first = machine.free + LARGE_PAGE - pages / 2 * PAGE;

	for (unsigned int i = 0; i < pages; i += 2 * run)
		convert(first + i * PAGE, run * PAGE, false);
	for (unsigned int again = 0; again < 2; again++) {
		for (unsigned int i = 0; i < pages; i++)
			expect_kind(first + i * PAGE, i / run % 2);
		zap_all();
	}
	convert(first, pages * PAGE, true);
}

static void newly_private_memory_is_zero(void)
{
	static const struct {
		uint64_t offset, bytes;
	} ranges[] = {
		{0, PAGE},
		{LARGE_PAGE - PAGE, 2 * PAGE},
		{LARGE_PAGE, LARGE_PAGE},
		{LARGE_PAGE / 2, LARGE_PAGE},
		{PAGE, 4 * LARGE_PAGE - 2 * PAGE},
	};

	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		uint64_t gpa = machine.free + ranges[i].offset, bytes = ranges[i].bytes;

		fill((void *)gpa, bytes, 1);
		convert(gpa, bytes, false);
		fill((void *)shared_address(gpa), bytes, 2);
		convert(gpa, bytes, true);
		expect_zero(gpa, bytes);
	}
}

static void neighbours_stay(void)
{
	static const uint64_t pages[] = {0, 1, 511, 512, 700, 1023};
	const uint64_t bytes = 2 * LARGE_PAGE;

	for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
		uint64_t hole = machine.free + pages[i] * PAGE;

		fill((void *)machine.free, bytes, i);
		convert(hole, PAGE, false);
		memset((void *)shared_address(hole), 0xff, PAGE);
		expect_filled((void *)machine.free, hole - machine.free, i, "before a shared page");
		convert(hole, PAGE, true);
		expect_zero(hole, PAGE);
		expect_filled((void *)machine.free, hole - machine.free, i, "before");
		fill((void *)machine.free, bytes, i + 1);
		expect_filled((void *)machine.free, bytes, i + 1, "all private again");
	}
}

static void only_whole_pages_are_converted(void)
{
	uint64_t gpa = machine.free;

	expect((int64_t)hv_call(HV_CALL_CONVERT, gpa + 8, PAGE, 0).rax < 0, "address in a page");
	expect((int64_t)hv_call(HV_CALL_CONVERT, gpa, PAGE - 8, 0).rax < 0, "part of a page");
	expect_kind(gpa, true);
}

/* ---- content moves between the two, against a model ---------------------------------------------
 */

#define WORLD_PAGES 768 /* worlds meet in the middle of a large page */
#define WORLD_BYTES (WORLD_PAGES * PAGE)
#define BOUNCE	    (4 * LARGE_PAGE) /* offset of the bounce buffers, behind both worlds */

/* A CPU's memory, and what each page of it must be. */
struct world {
	uint64_t gpa, bounce, random;
	bool shared[WORLD_PAGES];
	uint64_t seed[WORLD_PAGES];
};

static void *page_of(const struct world *world, uint64_t i)
{
	return (void *)address(world->gpa + i * PAGE, !world->shared[i]);
}

static void expect_pages(const struct world *world, uint64_t first, uint64_t end)
{
	for (uint64_t i = first; i < end; i++)
		expect_filled(page_of(world, i), PAGE, world->seed[i],
			      world->shared[i] ? "shared page" : "private page");
}

static void rewrite_pages(struct world *world, uint64_t first, uint64_t end)
{
	for (uint64_t i = first; i < end; i++) {
		world->seed[i] = random_next(&world->random) & 0xffffff;
		fill(page_of(world, i), PAGE, world->seed[i]);
	}
}

/* All @n pages are of one kind. Their content takes the way round through the bounce buffer. */
static void flip(struct world *world, uint64_t first, uint64_t n)
{
	bool private = world->shared[first];
	uint64_t gpa = world->gpa + first * PAGE;

	memcpy((void *)world->bounce, page_of(world, first), n * PAGE);
	convert(gpa, n * PAGE, private);
	for (uint64_t i = first; i < first + n; i++)
		world->shared[i] = !private;
	if (private)
		expect_zero(gpa, n * PAGE);
	memcpy(page_of(world, first), (void *)world->bounce, n * PAGE);
}

/* 1 to 512 pages, small ones as often as large ones, half of them aligned to their size. */
static void flip_some(struct world *world)
{
	uint64_t n = 1ull << random_next(&world->random) % 10;
	uint64_t first = random_next(&world->random) % (WORLD_PAGES - n + 1), end;

	if (random_next(&world->random) & 1)
		first &= -n;
	for (end = first + 1; end < first + n && world->shared[end] == world->shared[first];)
		end++;
	flip(world, first, end - first);
	expect_pages(world, first ? first - 1 : 0, end < WORLD_PAGES ? end + 1 : end);
	rewrite_pages(world, first, first + 1);
}

static void live_in(void *arg)
{
	struct world *world = arg;

	rewrite_pages(world, 0, WORLD_PAGES);
	for (unsigned int i = 0; i < 20 * machine.rounds; i++)
		flip_some(world);
	expect_pages(world, 0, WORLD_PAGES);
	for (uint64_t i = 0; i < WORLD_PAGES; i++)
		if (world->shared[i])
			flip(world, i, 1);
	expect_pages(world, 0, WORLD_PAGES);
}

static struct world *new_world(unsigned int i)
{
	static struct world worlds[2];
	struct world *world = &worlds[i];

	memset(world, 0, sizeof(*world));
	world->gpa = machine.free + i * WORLD_BYTES;
	world->bounce = machine.free + BOUNCE + i * LARGE_PAGE;
	world->random = i + 1;
	return world;
}

static void conversions_lose_nothing(void)
{
	live_in(new_world(0));
}

static void conversions_of_two_cpus_lose_nothing(void)
{
	smp_begin(1, live_in, new_world(1));
	live_in(new_world(0));
	smp_end(1);
}

static void conversions_lose_nothing_among_zaps(void)
{
	smp_begin(1, live_in, new_world(1));
	while (smp_working(1))
		zap_all();
	smp_end(1);
}

/* ---- taken away while it is used ----------------------------------------------------------------
 */

#define LATE 100 /* accesses after it was taken away */

/* A page that one CPU uses all the time and another takes away. */
struct victim {
	uint64_t va;
	bool writes;
	bool gone; /* set after the call that takes it away has returned */
	uint32_t before, late, late_gp;
};

static int use(const struct victim *victim, uint64_t value)
{
	return victim->writes ? probe_write8(victim->va, value) : probe_read8(victim->va, &value);
}

/*
 * "Gone" is read before the access: one that succeeds after that was a success of a later time than
 * the call's return. Ends by itself when nothing is ever taken away.
 */
static void use_until_gone(void *arg)
{
	struct victim *victim = arg;
	uint64_t since = rdtsc();

	while (victim->late < LATE && rdtsc() - since < A_WHILE) {
		bool gone = __atomic_load_n(&victim->gone, __ATOMIC_ACQUIRE);
		int vector = use(victim, ~victim->va);

		if (gone) {
			victim->late++;
			victim->late_gp += vector == VECTOR_GP;
		} else if (vector == NO_FAULT) {
			__atomic_fetch_add(&victim->before, 1, __ATOMIC_RELAXED);
		}
	}
}

/* @bytes from @gpa become the other kind while CPU 1 uses the page in their middle. */
static void take_away(uint64_t gpa, uint64_t bytes, bool to_private, bool writes)
{
	const char *kind = to_private ? "shared" : "private", *act = writes ? "write" : "read";
	uint64_t page = gpa + (bytes / 2 & -PAGE);
	void *now = (void *)address(page, to_private);
	struct victim victim = {.va = address(page, !to_private), .writes = writes};

	convert(gpa, bytes, !to_private);
	smp_begin(1, use_until_gone, &victim);
	expect(WAIT_UNTIL(__atomic_load_n(&victim.before, __ATOMIC_RELAXED) > 1000),
	       "no %s of a %s page came through", act, kind);
	convert(gpa, bytes, to_private);
	fill(now, PAGE, gpa);
	__atomic_store_n(&victim.gone, true, __ATOMIC_RELEASE);
	smp_end(1);
	expect(victim.late_gp == victim.late, "%u of %u late %ss of a %s page came through",
	       victim.late - victim.late_gp, victim.late, act, kind);
	expect(victim.late == LATE, "%u late %ss", victim.late, act);
	expect_filled(now, PAGE, gpa, "after it was taken away");
}

static void take_away_both_ways(bool to_private)
{
	for (unsigned int i = 0; i < 2 * machine.rounds; i++) {
		for (unsigned int writes = 0; writes < 2; writes++) {
			take_away(machine.free + i * PAGE, PAGE, to_private, writes);
			take_away(machine.free + i * PAGE, LARGE_PAGE, to_private, writes);
		}
	}
	convert(machine.free, 2 * LARGE_PAGE, true);
}

static void shared_memory_is_gone_at_once(void)
{
	take_away_both_ways(true);
}

static void private_memory_is_gone_at_once(void)
{
	take_away_both_ways(false);
}

/* ---- devices ------------------------------------------------------------------------------------
 */

static void apic_is_shared(void)
{
	const unsigned int reg_version = 0x30;
	uint64_t private = apic_address() - shared_address(0), value = 0;
	unsigned int version = apic_read(reg_version) & 0xff;

	expect(version >= 0x10 && version < 0x20, "version %x", version);
	expect(probe_read8(private + reg_version, &value) == VECTOR_GP, "there is a private APIC");
	expect(probe_write8(private + reg_version, 0) == VECTOR_GP, "a private APIC is written");
}

const struct test td_tests[] = {
	{"td_private_and_shared_differ", private_and_shared_differ, NEEDS_TD},
	{"td_each_page_is_one_of_both", each_page_is_one_of_both, NEEDS_TD},
	{"td_newly_private_memory_is_zero", newly_private_memory_is_zero, NEEDS_TD},
	{"td_neighbours_stay", neighbours_stay, NEEDS_TD},
	{"td_only_whole_pages_are_converted", only_whole_pages_are_converted, NEEDS_TD},
	{"td_conversions_lose_nothing", conversions_lose_nothing, NEEDS_TD},
	{"td_conversions_of_two_cpus_lose_nothing", conversions_of_two_cpus_lose_nothing,
	 NEEDS_TD | NEEDS_CPUS},
	{"td_conversions_among_zaps_lose_nothing", conversions_lose_nothing_among_zaps,
	 NEEDS_TD | NEEDS_CPUS},
	{"td_shared_memory_is_gone_at_once", shared_memory_is_gone_at_once, NEEDS_TD | NEEDS_CPUS},
	{"td_private_memory_is_gone_at_once", private_memory_is_gone_at_once,
	 NEEDS_TD | NEEDS_CPUS},
	{"td_apic_is_shared", apic_is_shared, NEEDS_TD},
	{0},
};
