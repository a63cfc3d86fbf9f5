// SPDX-License-Identifier: BSD-2-Clause
/*
 * A confidential guest's processors as threads, as the hypervisor runs them: platform, monitor and
 * library as they are on the machine, with a flag where an interrupt would be. While the house
 * converts, punches and recovers, no page may change under a vCPU that is in the guest, and none
 * may show what another page held.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include <triptych/bare.h>

#include "tests/hypervisor/arena.h"

#define PAGES	   2048u
#define ROUNDS	   600u
#define SHARED	   (1ull << SHARED_BIT)
#define SHARED_HVA (1ull << 32)
#define POOL_PA	   (ARENA_PA + (8ull << 20))
#define POOL_BYTES (8ull << 20)

/* What a page's word of this vCPU may hold. */
#define TAG(gfn, n) ((uint64_t)(gfn) << 40 | (n))

/* For threads, where cmocka can't fail one test alone. */
#define must(condition)                                                                         \
	do {                                                                                    \
		if (!(condition)) {                                                             \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                                \
		}                                                                               \
	} while (0)

struct tpt_bare *bare;
struct tpt_vm *vm;
static struct tpt_gmem *gmem;
static _Atomic bool over;

struct seated {
	struct tpt_vcpu *vcpu;
	pthread_t thread;
	uint64_t random, counter, entries, faults, flushes, held;
	_Atomic uint64_t hits[2];
	uint64_t known[2][PAGES], wrote[2][PAGES];
	uint32_t id;
	_Atomic bool interrupted;
	bool flush;
};

static struct seated cpus_[VCPUS];

static unsigned int pick(uint64_t *random, unsigned int n)
{
	*random = *random * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned int)(*random >> 33) % n;
}

/* ---- what the host has ---- */

static void ipi(void *ctx, uint32_t vcpu)
{
	(void)ctx;
	atomic_store_explicit(&cpus_[vcpu].interrupted, true, memory_order_seq_cst);
}

static void relax(void *ctx)
{
	(void)ctx;
	sched_yield();
}

static void on_log(void *ctx, enum tpt_log_level level, const char *text)
{
	(void)ctx;
	if (level == TPT_LOG_ERROR)
		fprintf(stderr, "%s\n", text);
}

static int lookup(void *ctx, const struct tpt_backing_query *q, struct tpt_backing_page *page)
{
	(void)ctx;
	*page = (struct tpt_backing_page){
		.pfn = tpt_pfn_make((SHARED_PA + (q->hva.a - SHARED_HVA)) >> 12),
		.writable = true,
		.level = TPT_LEVEL_2M,
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

static const struct tpt_gmem_ops gmem_ops = {.size = sizeof(gmem_ops), .get_page = get_page};

/* ---- a vCPU: hypervisor/vcpu.c in small ---- */

static bool enter(struct seated *c, uint64_t *top)
{
	struct tpt_roots roots;
	uint32_t told;
	int err = tpt_vcpu_load_roots(c->vcpu, &roots);

	must(!err || err == -EAGAIN);
	if (err)
		return false;
	atomic_store_explicit(&c->interrupted, false, memory_order_seq_cst);
	told = tpt_bare_guest_enter(bare, c->id);
	if (told & TPT_BARE_HELD) {
		c->held++;
		return false;
	}
	if (told & TPT_BARE_FLUSH) {
		c->flush = true;
		tpt_bare_guest_leave(bare, c->id);
		return false;
	}
	*top = monitor_enter(c->id, roots.direct.a, &c->flush);
	return true;
}

/* One access; false: a fault at *gpa. */
static bool touch(struct seated *c, uint64_t top, uint64_t *gpa)
{
	tpt_gfn gfn = pick(&c->random, PAGES);
	bool private_ = pick(&c->random, 4);
	uint64_t *pa = &c->known[private_][gfn], *wrote = &c->wrote[private_][gfn];
	volatile uint64_t *word;

	*gpa = gfn << 12 | (private_ ? 0 : SHARED);
	if (!*pa) {
		struct walked walked = walk(top, *gpa);

		/* Most of what is not there is passed by. */
		if (!walked.pa || !(walked.word & 2))
			return pick(&c->random, 32);
		*pa = walked.pa;
	}
	word = (uint64_t *)phys(*pa) + c->id;
	atomic_fetch_add_explicit(&c->hits[private_], 1, memory_order_relaxed);
	/* Shared memory stays; private memory is what was written, or new. */
	must(*word == *wrote || (private_ && !*word));
	*word = *wrote = TAG(gfn, ++c->counter);
	for (unsigned int i = pick(&c->random, 4); i; i--) {
		if (!pick(&c->random, 16))
			sched_yield();
		must(*word == *wrote);
	}
	return true;
}

static void *run(void *ctx)
{
	struct seated *c = ctx;

	while (!atomic_load_explicit(&over, memory_order_acquire)) {
		struct tpt_fault fault = {.error_code = TPT_PFERR_USER | TPT_PFERR_WRITE};
		uint64_t top;
		bool fine = true;
		int ret;

		if (!enter(c, &top)) {
			sched_yield();
			continue;
		}
		c->entries++;
		if (c->flush) {
			memset(c->known, 0, sizeof(c->known));
			c->flushes++;
		}
		c->flush = false;
		for (unsigned int i = 0; fine && i < 200; i++) {
			if (atomic_load_explicit(&c->interrupted, memory_order_seq_cst))
				break;
			fine = touch(c, top, &fault.gpa.a);
		}
		monitor_leave(c->id);
		tpt_bare_guest_leave(bare, c->id);
		if (fine)
			continue;
		c->faults++;
		if (!(fault.gpa.a & SHARED) && !pick(&c->random, 30))
			fault.max_level = TPT_LEVEL_4K;
		ret = tpt_vcpu_fault(c->vcpu, &fault);
		must(ret == TPT_RET_PF_FIXED || ret == TPT_RET_PF_SPURIOUS ||
		     ret == TPT_RET_PF_RETRY || ret == -EFAULT);
	}
	return NULL;
}

/* ---- the house ---- */

static void upset(uint64_t *random)
{
	tpt_gfn start = pick(random, PAGES), at = start;
	tpt_gfn end = start + 1 + pick(random, pick(random, 3) ? 64 : 1024);
	bool private_ = pick(random, 3);
	int err;

	if (end > PAGES)
		end = PAGES;
	switch (pick(random, 8)) {
	case 0:
		do
			err = tpt_gmem_punch_hole(gmem, start << 12, (end - start) << 12);
		while (err == -EBUSY);
		break;
	case 1:
		do
			err = tpt_vm_private_recover(vm, 0, PAGES, NULL);
		while (err == -EBUSY);
		break;
	case 2:
		err = pick(random, 4) ? 0 : tpt_vm_zap_all_fast(vm);
		break;
	default:
		do
			err = tpt_vm_set_private(vm, at, end, private_, &at);
		while (err == -EBUSY);
	}
	must(!err);
	for (unsigned int i = pick(random, 30); i; i--)
		sched_yield();
	tpt_bare_run_deferred(bare);
}

/* However busy the machine is that runs this. */
static bool have_all_met_enough(void)
{
	for (unsigned int i = 0; i < VCPUS; i++)
		if (cpus_[i].hits[0] < 1000 || cpus_[i].hits[1] < 1000)
			return false;
	return true;
}

static void no_page_changes_under_a_vcpu_that_is_in_the_guest(void **state)
{
	const struct tpt_memory_region region = {
		.flags = TPT_MEM_GUEST_MEMFD, .size = PAGES * 4096ull, .hva = {SHARED_HVA}};
	struct tpt_bare_config b = {
		.size = sizeof(b),
		.bytes = POOL_BYTES,
		.hpa = {POOL_PA},
		.nr_vcpus = VCPUS,
		.hooks = {.ipi = ipi, .relax = relax, .log = on_log},
	};
	struct tpt_memory_region slot = region;
	struct tpt_bare_stats stats;
	struct tpt_vm_config c;
	uint64_t random = 5;
	char text[256];

	(void)state;
	arena_begin();
	assert_true(next_page <= POOL_PA);
	b.memory = phys(POOL_PA);
	assert_int_equal(tpt_bare_create(&b, &bare), 0);
	tpt_vm_config_init(&c, TPT_FORMAT_NPT);
	c.maxphyaddr = c.guest_maxphyaddr = 48;
	c.shared_bit = SHARED_BIT;
	c.flags = TPT_VM_SELF_SNOOP;
	c.max_private_level = TPT_LEVEL_2M;
	c.zap_chunk = 64;
	c.platform = tpt_bare_platform(bare);
	c.platform_ctx = bare;
	c.backing = &backing;
	c.external = &monitor_ops;
	assert_int_equal(tpt_vm_create(&c, &vm), 0);
	assert_int_equal(tpt_gmem_create(vm, PAGES * 4096ull, &gmem_ops, NULL, &gmem), 0);
	slot.gmem = gmem;
	assert_int_equal(tpt_vm_set_memory_region(vm, &slot), 0);
	assert_int_equal(tpt_vm_set_private(vm, 0, PAGES, true, NULL), 0);
	monitor_finalize();
	atomic_store_explicit(&over, false, memory_order_release);
	for (unsigned int i = 0; i < VCPUS; i++) {
		memset(&cpus_[i], 0, sizeof(cpus_[i]));
		cpus_[i].id = i;
		cpus_[i].random = i;
		cpus_[i].flush = true;
		assert_int_equal(tpt_vcpu_create(vm, i, &cpus_[i].vcpu), 0);
	}
	for (unsigned int i = 0; i < VCPUS; i++)
		assert_int_equal(pthread_create(&cpus_[i].thread, NULL, run, &cpus_[i]), 0);
	for (unsigned int i = 0; i < ROUNDS || !have_all_met_enough(); i++) {
		upset(&random);
		if (i % 100 == 0)
			must(!tpt_vm_audit(vm, text, sizeof(text)));
	}
	atomic_store_explicit(&over, true, memory_order_release);
	for (unsigned int i = 0; i < VCPUS; i++) {
		pthread_join(cpus_[i].thread, NULL);
		print_message(
			"vCPU %u: %llu entries, %llu flushes, %llu faults, %llu private "
			"accesses, %llu shared, held out %llu times\n",
			i, (unsigned long long)cpus_[i].entries,
			(unsigned long long)cpus_[i].flushes, (unsigned long long)cpus_[i].faults,
			(unsigned long long)cpus_[i].hits[1], (unsigned long long)cpus_[i].hits[0],
			(unsigned long long)cpus_[i].held);
	}
	tpt_bare_get_stats(bare, &stats);
	print_message("%llu kicks, %llu holds, %llu flushes\n", (unsigned long long)stats.kicks,
		      (unsigned long long)stats.holds, (unsigned long long)stats.flushes);
	assert_int_equal(tpt_vm_audit(vm, text, sizeof(text)), 0);
	assert_false(tpt_vm_is_dead(vm));
	assert_int_equal(tpt_vm_teardown(vm), 0);
	for (unsigned int i = 0; i < FRAMES; i++)
		assert_int_equal(frames[i].owner, OWNER_HOST);
	assert_true(is_zero(FIRST << 12, FRAMES * 4096ull));
	tpt_vm_destroy(vm);
	assert_int_equal(tpt_bare_destroy(bare), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_page_changes_under_a_vcpu_that_is_in_the_guest),
	};

	return cmocka_run_group_tests_name("private memory, threads", tests, NULL, NULL);
}
