// SPDX-License-Identifier: BSD-2-Clause
/*
 * The library on the hypervisor's monitor, in one process: vCPUs that come and go and remember what
 * they may, a host that converts, deletes, punches and makes pages larger, all at random, and the
 * content of every page against a plain map. The seed is printed; TRIPTYCH_SEED sets it.
 */
#include <errno.h>
#include <pthread.h>
#include <time.h>

#include <triptych/posix.h>

#include "tests/hypervisor/arena.h"

#define PAGES	    4096u /* of the guest's memory */
#define SLOTS	    4u
#define SLOT_PAGES  (PAGES / SLOTS)
#define SHARED	    (1ull << SHARED_BIT)
#define SHARED_HVA  (1ull << 32)
#define POOL_PA	    (ARENA_PA + (8ull << 20)) /* table pages, behind the monitor's books */
#define POOL_PAGES  2048u
#define STEPS	    40000u
#define WORD_OF(pa) (*(uint64_t *)phys(pa))

struct guest_cpu {
	struct tpt_vcpu *vcpu;
	bool in, owes_flush;
	uint64_t direct, root;
	/* Where each page was found, 0: not known; private and shared. */
	uint64_t known[2][PAGES];
};

static struct world {
	struct tpt_posix *posix;
	struct tpt_vm *vm;
	struct tpt_gmem *gmem;
	struct guest_cpu cpu[VCPUS];
	enum tpt_level shared_level;
	unsigned int lazy_percent; /* kicks that don't reach a vCPU: a hold does */
	bool held;
	uint64_t random, next_tag;
	uint64_t free_page[POOL_PAGES];
	unsigned int nr_free;

	/* As it must be. */
	bool private_[PAGES], slot[SLOTS];
	uint64_t content[2][PAGES];

	/* That what is meant to happen did. */
	uint64_t flushes, lazy, faults, accesses, made, splits;
} w;

static unsigned int pick(unsigned int n)
{
	w.random = w.random * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned int)(w.random >> 33) % n;
}

/* ---- a vCPU at the door ---- */

static void leave(struct guest_cpu *c)
{
	if (c->in)
		monitor_leave((unsigned int)(c - w.cpu));
	c->in = false;
}

static void enter(struct guest_cpu *c)
{
	bool flush = c->owes_flush;

	c->root = monitor_enter((unsigned int)(c - w.cpu), c->direct, &flush);
	c->in = true;
	c->owes_flush = false;
	if (flush) {
		memset(c->known, 0, sizeof(c->known));
		w.flushes++;
	}
}

static void on_flush(void *ctx, struct tpt_vm *vm, const struct tpt_flush *flush)
{
	(void)ctx, (void)vm, (void)flush;
	/* Shared translations only: that private ones go is the monitor's to say. */
	for (unsigned int i = 0; i < VCPUS; i++) {
		leave(&w.cpu[i]);
		memset(w.cpu[i].known[0], 0, sizeof(w.cpu[i].known[0]));
	}
}

/* What it meets by itself, without a fault, it remembers. */
static void look_around(struct guest_cpu *c)
{
	for (unsigned int i = 0; i < 64; i++) {
		tpt_gfn gfn = pick(PAGES);
		struct walked walked = walk(c->root, gfn << 12);

		if (walked.pa && !c->known[1][gfn])
			c->known[1][gfn] = walked.pa;
	}
}

/* Some come back at once, and some were not reached. */
static void on_kick(void *ctx, struct tpt_vm *vm, enum tpt_kick_reason reason)
{
	(void)ctx, (void)vm, (void)reason;
	for (unsigned int i = 0; i < VCPUS; i++) {
		struct guest_cpu *c = &w.cpu[i];

		if (!c->in)
			continue;
		if (pick(100) < w.lazy_percent) {
			w.lazy++;
			continue;
		}
		leave(c);
		if (!w.held && pick(2)) {
			enter(c);
			look_around(c);
		}
	}
}

static void on_hold(void *ctx, struct tpt_vm *vm, bool held)
{
	(void)ctx, (void)vm;
	w.held = held;
	for (unsigned int i = 0; held && i < VCPUS; i++)
		leave(&w.cpu[i]);
}

static void on_log(void *ctx, enum tpt_log_level level, const char *text)
{
	(void)ctx;
	if (level == TPT_LOG_ERROR)
		print_message("%s\n", text);
}

/* ---- what the host has ---- */

/* Tables are freed by the platform's thread, too. */
static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;

static int table_alloc(void *ctx, tpt_hpa *hpa)
{
	int err = -ERR_NOMEM;

	(void)ctx;
	pthread_mutex_lock(&pool_lock);
	if (w.nr_free) {
		hpa->a = w.free_page[--w.nr_free];
		err = 0;
	}
	pthread_mutex_unlock(&pool_lock);
	return err;
}

static void table_free(void *ctx, tpt_hpa hpa)
{
	(void)ctx;
	pthread_mutex_lock(&pool_lock);
	w.free_page[w.nr_free++] = hpa.a;
	pthread_mutex_unlock(&pool_lock);
}

static void *table_ptr(void *ctx, tpt_hpa hpa)
{
	(void)ctx;
	return phys(hpa.a);
}

static const struct tpt_posix_pages table_pages = {table_alloc, table_free, table_ptr};

static int lookup(void *ctx, const struct tpt_backing_query *q, struct tpt_backing_page *page)
{
	(void)ctx;
	*page = (struct tpt_backing_page){
		.pfn = tpt_pfn_make((SHARED_PA + (q->hva.a - SHARED_HVA)) >> 12),
		.writable = true,
		.level = w.shared_level,
	};
	return 0;
}

static const struct tpt_backing_ops backing = {.size = sizeof(backing), .lookup = lookup};

static int get_page(void *ctx, uint64_t index, tpt_pfn *pfn, enum tpt_level *level)
{
	(void)ctx;
	*pfn = tpt_pfn_make(FIRST + index);
	*level = TPT_LEVEL_2M;
	return 0;
}

static void free_range(void *ctx, uint64_t start, uint64_t end)
{
	(void)ctx;
	for (uint64_t i = start; i < end; i++) {
		assert_int_equal(frames[i].owner, OWNER_HOST);
		assert_true(is_zero((FIRST + i) << 12, 4096));
	}
}

static const struct tpt_gmem_ops gmem_ops = {
	.size = sizeof(gmem_ops),
	.get_page = get_page,
	.free_range = free_range,
};

static int set_slot(unsigned int id, bool there)
{
	const uint64_t at = (uint64_t)id * SLOT_PAGES * 4096;
	const struct tpt_memory_region region = {
		.slot = id,
		.flags = TPT_MEM_GUEST_MEMFD,
		.gpa = {at},
		.size = there ? (uint64_t)SLOT_PAGES * 4096 : 0,
		.hva = {SHARED_HVA + at},
		.gmem = w.gmem,
		.gmem_offset = at,
	};

	return tpt_vm_set_memory_region(w.vm, &region);
}

/* ---- what must hold ---- */

static uint64_t private_frame(tpt_gfn gfn)
{
	for (enum tpt_level level = TPT_LEVEL_2M; level; level--) {
		struct tpt_external_entry e;
		tpt_gfn at = tpt_gfn_round(gfn, level);

		monitor_ops.read(NULL, at, level, &e);
		if (e.kind == TPT_EXTERNAL_LEAF || e.kind == TPT_EXTERNAL_BLOCKED_LEAF)
			return e.pfn.n + (gfn - at);
	}
	return 0;
}

/* A vCPU that is in knows of no page that isn't the guest's, at that place, any more. */
static void check_known(void)
{
	for (unsigned int i = 0; i < VCPUS; i++) {
		for (tpt_gfn gfn = 0; w.cpu[i].in && gfn < PAGES; gfn++) {
			uint64_t pa = w.cpu[i].known[1][gfn];

			if (pa && private_frame(gfn) != pa >> 12)
				fail_msg("vCPU %u knows gfn %#llx at %#llx", i,
					 (unsigned long long)gfn, (unsigned long long)pa);
		}
	}
}

static void check(void)
{
	char text[256];
	int faults = tpt_vm_audit(w.vm, text, sizeof(text));
	unsigned int mapped = 0, owned = 0;

	if (faults)
		print_message("audit: %s\n", text);
	if (tpt_vm_is_dead(w.vm))
		print_message("dead: %s\n", tpt_vm_report(w.vm));
	assert_int_equal(faults, 0);
	assert_false(tpt_vm_is_dead(w.vm));
	check_known();
	for (tpt_gfn gfn = 0; gfn < PAGES; gfn++) {
		uint64_t pfn = private_frame(gfn);

		owned += frames[gfn].owner == OWNER_GUEST;
		if (!pfn) {
			/* What it was is nobody's to read. */
			assert_int_equal(WORD_OF((FIRST + gfn) << 12), 0);
			assert_int_equal(w.content[1][gfn], 0);
			continue;
		}
		mapped++;
		assert_int_equal(pfn, FIRST + gfn);
		assert_true(w.private_[gfn] && w.slot[gfn / SLOT_PAGES]);
		assert_int_equal(WORD_OF(pfn << 12), w.content[1][gfn]);
	}
	assert_int_equal(mapped, owned);
}

/* ---- an access ---- */

/* Where the page is for this vCPU, after as many faults as it takes; 0: the answer is *ret. */
static uint64_t find(struct guest_cpu *c, tpt_gfn gfn, bool private_, enum tpt_level most, int *ret)
{
	uint64_t gpa = gfn << 12 | (private_ ? 0 : SHARED);

	for (unsigned int tries = 0; tries < 100; tries++) {
		struct tpt_fault fault = {.gpa = {gpa},
					  .error_code = TPT_PFERR_USER | TPT_PFERR_WRITE,
					  .max_level = most};
		struct walked walked;

		if (!c->in) {
			struct tpt_roots roots;

			assert_int_equal(tpt_vcpu_load_roots(c->vcpu, &roots), 0);
			c->direct = roots.direct.a;
			enter(c);
		}
		if (c->known[private_][gfn] && !most)
			return c->known[private_][gfn];
		walked = walk(c->root, gpa);
		if (walked.pa && walked.word & 2 && (!most || walked.level <= most)) {
			c->known[private_][gfn] = walked.pa;
			return walked.pa;
		}
		leave(c);
		if (walked.reserved)
			fault.error_code |= TPT_PFERR_PRESENT | TPT_PFERR_RSVD;
		w.faults++;
		*ret = tpt_vcpu_fault(c->vcpu, &fault);
		if (*ret < 0 || *ret == TPT_RET_PF_EMULATE)
			return 0;
		w.splits += most && walked.level > most;
	}
	fail_msg("gfn %#llx is not found", (unsigned long long)gfn);
	return 0;
}

static void access_page(struct guest_cpu *c, tpt_gfn gfn, bool private_, enum tpt_level most)
{
	int ret = 0;
	uint64_t pa = find(c, gfn, private_, most, &ret);

	w.accesses++;
	if (private_ != w.private_[gfn] || (private_ && !w.slot[gfn / SLOT_PAGES])) {
		if (pa || ret != -EFAULT)
			fail_msg("gfn %#llx %s: %d, at %#llx", (unsigned long long)gfn,
				 private_ ? "private" : "shared", ret, (unsigned long long)pa);
	} else if (!w.slot[gfn / SLOT_PAGES]) {
		assert_true(!pa && ret == TPT_RET_PF_EMULATE);
	} else {
		assert_int_equal(pa, private_ ? (FIRST + gfn) << 12 : SHARED_PA + (gfn << 12));
		if (WORD_OF(pa) != w.content[private_][gfn])
			fail_msg("gfn %#llx %s: %#llx, not %#llx", (unsigned long long)gfn,
				 private_ ? "private" : "shared", (unsigned long long)WORD_OF(pa),
				 (unsigned long long)w.content[private_][gfn]);
		if (pick(3))
			WORD_OF(pa) = w.content[private_][gfn] = ++w.next_tag;
	}
}

static void access_any(void)
{
	tpt_gfn gfn = pick(PAGES);
	bool private_ = pick(8) ? w.private_[gfn] : !w.private_[gfn];
	enum tpt_level most = private_ && !pick(100) ? TPT_LEVEL_4K : TPT_LEVEL_NONE;

	access_page(&w.cpu[pick(VCPUS)], gfn, private_, most);
}

/* A whole block, so that what is there is uniform. */
static void access_block(void)
{
	struct guest_cpu *c = &w.cpu[pick(VCPUS)];
	tpt_gfn start = pick(PAGES / 512) * 512;

	for (tpt_gfn gfn = start; gfn < start + 512; gfn++)
		access_page(c, gfn, w.private_[gfn], TPT_LEVEL_NONE);
}

/* ---- what the host does ---- */

static bool is_covered(tpt_gfn start, tpt_gfn end)
{
	for (tpt_gfn i = start / SLOT_PAGES; i <= (end - 1) / SLOT_PAGES; i++)
		if (!w.slot[i])
			return false;
	return true;
}

static void convert(void)
{
	tpt_gfn start = pick(PAGES), done = 0, end = start + 1 + pick(pick(4) ? 40 : 1500);
	bool private_ = pick(3);
	int err;

	if (pick(4) == 0) {
		start &= ~511ull;
		end = start + 512;
	}
	if (end > PAGES)
		end = PAGES;
	err = tpt_vm_set_private(w.vm, start, end, private_, &done);
	if (!is_covered(start, end)) {
		assert_int_equal(err, -EINVAL);
		return;
	}
	assert_int_equal(err, 0);
	for (tpt_gfn gfn = start; gfn < end; gfn++) {
		w.private_[gfn] = private_;
		if (!private_)
			w.content[1][gfn] = 0;
	}
}

static void punch(void)
{
	uint64_t start = pick(PAGES), n = 1 + pick(pick(4) ? 10 : 700);

	if (n > PAGES - start)
		n = PAGES - start;
	assert_int_equal(tpt_gmem_punch_hole(w.gmem, start << 12, n << 12), 0);
	memset(&w.content[1][start], 0, n * sizeof(uint64_t));
}

static void change_slot(unsigned int i)
{
	assert_int_equal(set_slot(i, !w.slot[i]), 0);
	w.slot[i] = !w.slot[i];
	if (!w.slot[i])
		memset(&w.content[1][i * SLOT_PAGES], 0, SLOT_PAGES * sizeof(uint64_t));
}

static void recover(enum tpt_level level)
{
	tpt_gfn start = pick(PAGES), end = start + 1 + pick(PAGES - start);
	uint64_t made = 0;
	int err = tpt_vm_private_recover(w.vm, start, end, &made);

	assert_int_equal(err, level == TPT_LEVEL_4K ? -EOPNOTSUPP : 0);
	w.made += made;
}

static void invalidate(void)
{
	uint64_t start = pick(PAGES), n = 1 + pick((unsigned int)(PAGES - start));
	struct tpt_invalidation token;

	assert_true(tpt_vm_invalidate_begin(w.vm, tpt_hva_make(SHARED_HVA + (start << 12)),
					    tpt_hva_make(SHARED_HVA + ((start + n) << 12)),
					    &token) >= 0);
	tpt_vm_invalidate_end(w.vm, &token);
}

static void step(enum tpt_level level)
{
	switch (pick(300)) {
	case 0:
		change_slot(pick(SLOTS));
		break;
	case 1:
	case 2:
	case 3:
	case 4:
		convert();
		break;
	case 5:
	case 6:
		punch();
		break;
	case 7:
	case 8:
		recover(level);
		break;
	case 9:
		invalidate();
		break;
	case 10:
		if (!pick(4))
			assert_int_equal(tpt_vm_zap_all_fast(w.vm), 0);
		break;
	case 11:
		w.shared_level = pick(2) ? TPT_LEVEL_4K : TPT_LEVEL_2M;
		break;
	case 12:
	case 13:
	case 14:
		access_block();
		break;
	case 15:
		leave(&w.cpu[pick(VCPUS)]);
		break;
	default:
		for (unsigned int i = 0; i < SLOTS; i++)
			if (!w.slot[i] && !pick(10))
				change_slot(i);
		for (unsigned int i = 0; i < 8; i++)
			access_any();
		return;
	}
	check_known();
}

/* ---- a guest's life ---- */

static void begin(enum tpt_level level)
{
	const struct tpt_posix_config p = {
		.size = sizeof(p),
		.flags = TPT_POSIX_WATCH,
		.hpa_base = ARENA_PA,
		.bytes = ARENA_BYTES,
		.hooks = {on_flush, on_kick, on_hold, on_log},
		.pages = &table_pages,
	};
	struct tpt_vm_config c;
	uint64_t random = w.random;

	memset(&w, 0, sizeof(w));
	w.random = random;
	w.shared_level = TPT_LEVEL_2M;
	arena_begin();
	assert_true(next_page <= POOL_PA);
	while (w.nr_free < POOL_PAGES)
		w.free_page[w.nr_free] = POOL_PA + 4096ull * w.nr_free, w.nr_free++;
	w.posix = tpt_posix_create(&p);
	assert_non_null(w.posix);
	tpt_vm_config_init(&c, TPT_FORMAT_NPT);
	c.maxphyaddr = c.guest_maxphyaddr = 48;
	c.shared_bit = SHARED_BIT;
	c.flags = TPT_VM_SELF_SNOOP;
	c.max_private_level = level;
	c.zap_chunk = 1 + pick(100);
	c.platform = tpt_posix_platform(w.posix);
	c.platform_ctx = w.posix;
	c.backing = &backing;
	c.external = &monitor_ops;
	assert_int_equal(tpt_vm_create(&c, &w.vm), 0);
	assert_int_equal(tpt_gmem_create(w.vm, PAGES * 4096ull, &gmem_ops, NULL, &w.gmem), 0);
	for (unsigned int i = 0; i < SLOTS; i++)
		assert_int_equal(set_slot(i, true), 0);
	memset(w.slot, true, sizeof(w.slot));
	for (unsigned int i = 0; i < VCPUS; i++) {
		assert_int_equal(tpt_vcpu_create(w.vm, i, &w.cpu[i].vcpu), 0);
		/* Whatever a processor knows at first is no good. */
		w.cpu[i].owes_flush = true;
	}
	assert_int_equal(tpt_vm_set_private(w.vm, 0, PAGES, true, NULL), 0);
	memset(w.private_, true, sizeof(w.private_));
}

/* As a loader puts an image's pages into a guest that has not begun. */
static void add_image(void)
{
	static uint64_t page[512];

	for (unsigned int i = 0; i < 40; i++) {
		tpt_gfn gfn = 600 + i * (i % 3 + 1);
		struct tpt_fault fault = {.gpa = {gfn << 12},
					  .error_code = TPT_PFERR_WRITE,
					  .prefetch = true,
					  .max_level = TPT_LEVEL_4K};
		struct tpt_roots roots;
		int ret;

		if (w.content[1][gfn])
			continue;
		page[0] = ++w.next_tag;
		page[511] = gfn;
		assert_int_equal(monitor_add(gfn, page), 0);
		assert_int_equal(tpt_vcpu_load_roots(w.cpu[0].vcpu, &roots), 0);
		ret = tpt_vcpu_fault(w.cpu[0].vcpu, &fault);
		assert_int_equal(ret, TPT_RET_PF_FIXED);
		w.content[1][gfn] = page[0];
		assert_memory_equal(phys((FIRST + gfn) << 12), page, 4096);
	}
	monitor_finalize();
}

/* All comes back, and nothing of the guest is left in it. */
static void end(void)
{
	for (unsigned int i = 0; i < VCPUS; i++)
		leave(&w.cpu[i]);
	assert_int_equal(tpt_vm_teardown(w.vm), 0);
	for (unsigned int i = 0; i < FRAMES; i++)
		assert_int_equal(frames[i].owner, OWNER_HOST);
	assert_true(is_zero(FIRST << 12, FRAMES * 4096ull));
	assert_true(is_zero(root, 4096));
	tpt_vm_destroy(w.vm);
	assert_int_equal(tpt_posix_destroy(w.posix), 0);
	assert_int_equal(w.nr_free, POOL_PAGES);
}

static void live(enum tpt_level level, unsigned int lazy_percent)
{
	begin(level);
	w.lazy_percent = lazy_percent;
	add_image();
	check();
	for (unsigned int i = 0; i < STEPS; i++) {
		step(level);
		if (i % 400 == 0)
			check();
	}
	check();
	end();
	print_message("%u, %u%%: %llu accesses, %llu faults, %llu flushes, %llu kicks came late, "
		      "%llu leaves made, %llu asked to be smaller\n",
		      level, lazy_percent, (unsigned long long)w.accesses,
		      (unsigned long long)w.faults, (unsigned long long)w.flushes,
		      (unsigned long long)w.lazy, (unsigned long long)w.made,
		      (unsigned long long)w.splits);
	assert_true(w.faults > 500 && w.flushes > 100);
	assert_int_equal(w.lazy > 0, lazy_percent > 0);
}

static void seed(void)
{
	const char *text = getenv("TRIPTYCH_SEED");

	w.random = text ? strtoull(text, NULL, 0) : (uint64_t)time(NULL);
	print_message("TRIPTYCH_SEED=%llu\n", (unsigned long long)w.random);
}

static void content_is_as_in_a_plain_map_with_pages_of_4k(void **state)
{
	(void)state;
	seed();
	live(TPT_LEVEL_4K, 0);
	live(TPT_LEVEL_4K, 40);
}

static void content_is_as_in_a_plain_map_with_pages_of_2m(void **state)
{
	(void)state;
	seed();
	live(TPT_LEVEL_2M, 0);
	assert_true(w.made && w.splits);
	live(TPT_LEVEL_2M, 40);
}

static void a_guest_that_never_ran_gives_all_back(void **state)
{
	(void)state;
	seed();
	begin(TPT_LEVEL_2M);
	add_image();
	check();
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(content_is_as_in_a_plain_map_with_pages_of_4k),
		cmocka_unit_test(content_is_as_in_a_plain_map_with_pages_of_2m),
		cmocka_unit_test(a_guest_that_never_ran_gives_all_back),
	};

	return cmocka_run_group_tests_name("private memory", tests, NULL, NULL);
}
