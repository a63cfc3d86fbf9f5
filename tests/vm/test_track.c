// SPDX-License-Identifier: BSD-2-Clause
/* Write tracking: a tracked page is never writable in any table, by whichever way it got there. */
#include "tests/support/host.h"

#define PAGE  4096ull
#define READ  TPT_PFERR_USER
#define WRITE (TPT_PFERR_USER | TPT_PFERR_WRITE)
#define AGAIN (WRITE | TPT_PFERR_PRESENT) /* a write to an entry that is there */
#define W     (1u << 1)			  /* NPT, EPT: bit 1 is W in both */

static struct host *vm(uint64_t bytes, enum tpt_level level, uint32_t flags)
{
	struct tpt_vm_config c;
	struct host *h;

	host_config_npt(&c);
	h = host_create(&c, 2);
	h->level = level;
	assert_int_equal(host_slot(h, 0, 0, 0, bytes, GIB, flags), 0);
	return h;
}

static bool is_writable(struct host *h, uint64_t gfn)
{
	return host_word(h, gfn * PAGE) & W;
}

static void a_write_to_a_tracked_page_is_the_vmms(void **state)
{
	struct host *h = vm(MIB, TPT_LEVEL_4K, 0);

	(void)state;
	/* One that was writable, one that is not there yet. */
	assert_int_equal(host_fault(h, 0, WRITE), TPT_RET_PF_FIXED);
	for (unsigned int gfn = 0; gfn < 2; gfn++) {
		assert_int_equal(tpt_vm_write_track_add(h->vm, 0, gfn), 0);
		assert_int_equal(host_fault(h, gfn * PAGE, gfn ? WRITE : AGAIN),
				 TPT_RET_PF_WRITE_PROTECTED);
		assert_false(is_writable(h, gfn));
		assert_int_equal(host_fault(h, gfn * PAGE, AGAIN), TPT_RET_PF_WRITE_PROTECTED);
		/* Reads go on as ever. */
		assert_int_equal(host_fault(h, gfn * PAGE, READ), TPT_RET_PF_SPURIOUS);
	}
	/* What processors had cached of the first was flushed, the second was never there. */
	assert_int_equal(h->nr_flushes, 1);
	assert_int_equal(h->flush[0].reason, TPT_FLUSH_PERMISSION);
	assert_int_equal(h->flush[0].range.start, 0);
	assert_int_equal(h->flush[0].range.end, 1);
	/* Its neighbour never noticed. */
	assert_int_equal(host_fault(h, 2 * PAGE, WRITE), TPT_RET_PF_FIXED);
	assert_true(is_writable(h, 2));

	assert_int_equal(tpt_vm_write_track_remove(h->vm, 0, 0), 0);
	assert_int_equal(host_fault(h, 0, AGAIN), TPT_RET_PF_FIXED);
	assert_true(is_writable(h, 0));
	host_destroy(h);
}

static void it_is_counted_and_never_wraps(void **state)
{
	struct host *h = vm(MIB, TPT_LEVEL_4K, 0);

	(void)state;
	assert_int_equal(tpt_vm_write_track_remove(h->vm, 0, 7), -EINVAL);
	for (unsigned int i = 0; i < 65535; i++)
		assert_int_equal(tpt_vm_write_track_add(h->vm, 0, 7), 0);
	assert_int_equal(tpt_vm_write_track_add(h->vm, 0, 7), -EOVERFLOW);
	for (unsigned int i = 0; i < 65535; i++) {
		assert_int_equal(tpt_vm_write_track_remove(h->vm, 0, 7), 0);
		if (i % 5000 == 0)
			assert_int_equal(host_fault(h, 7 * PAGE, WRITE),
					 TPT_RET_PF_WRITE_PROTECTED);
	}
	assert_int_equal(tpt_vm_write_track_remove(h->vm, 0, 7), -EINVAL);
	assert_int_equal(host_fault(h, 7 * PAGE, AGAIN), TPT_RET_PF_FIXED);
	host_destroy(h);
}

/* Expected: F63: no huge page over a tracked one; F82: write-protected at whatever level it is. */
static void no_huge_leaf_is_over_a_tracked_page(void **state)
{
	struct host *h = vm(2 * GIB, TPT_LEVEL_1G, 0);
	struct tpt_fault f;

	(void)state;
	assert_int_equal(host_fault(h, 0, WRITE), TPT_RET_PF_FIXED);
	assert_int_equal(host_mapping(h, TPT_TREE_DIRECT, 0, 0).level, TPT_LEVEL_1G);
	assert_int_equal(tpt_vm_write_track_add(h->vm, 0, 1000), 0);
	/* The gigabyte is read-only, and was flushed whole. */
	assert_false(is_writable(h, 0));
	assert_int_equal(h->flush[h->nr_flushes - 1].range.end, GIB / PAGE);
	/* Writes elsewhere in it split it as far as they must. */
	assert_int_equal(host_fault_on(h->vcpu[0], 512 * MIB, AGAIN, &f), TPT_RET_PF_FIXED);
	assert_int_equal(f.goal_level, TPT_LEVEL_2M);
	assert_int_equal(host_fault_on(h->vcpu[0], 999 * PAGE, AGAIN, &f), TPT_RET_PF_FIXED);
	assert_int_equal(f.goal_level, TPT_LEVEL_4K);
	assert_int_equal(host_fault(h, 1000 * PAGE, AGAIN), TPT_RET_PF_WRITE_PROTECTED);
	assert_true(is_writable(h, 999));
	assert_false(is_writable(h, 1000));
	/* The next gigabyte is no business of it. */
	assert_int_equal(host_fault_on(h->vcpu[0], GIB, WRITE, &f), TPT_RET_PF_FIXED);
	assert_int_equal(f.goal_level, TPT_LEVEL_1G);

	assert_int_equal(tpt_vm_write_track_remove(h->vm, 0, 1000), 0);
	assert_int_equal(host_fault_on(h->vcpu[0], 1000 * PAGE, AGAIN, &f), TPT_RET_PF_FIXED);
	assert_int_equal(f.goal_level, TPT_LEVEL_1G);
	host_destroy(h);
}

static void no_other_way_gives_w_back(void **state)
{
	struct host *h = vm(4 * MIB, TPT_LEVEL_4K, TPT_MEM_LOG_DIRTY);
	uint64_t bitmap[16], done;

	(void)state;
	assert_int_equal(host_fault(h, 0, WRITE), TPT_RET_PF_FIXED);
	/* Protected for the log first: the fast path could give W back. */
	assert_int_equal(tpt_vm_get_dirty_log(h->vm, 0, 0, bitmap), 0);
	assert_int_equal(tpt_vm_write_track_add(h->vm, 0, 0), 0);
	assert_int_equal(tpt_vm_write_track_add(h->vm, 0, 5), 0);
	assert_int_equal(tpt_vm_write_track_add(h->vm, 0, 6), 0);
	assert_int_equal(host_fault(h, 0, AGAIN), TPT_RET_PF_WRITE_PROTECTED);
	assert_int_equal(tpt_vcpu_prefault(h->vcpu[0], tpt_gpa_make(4 * PAGE), 2 * PAGE, &done), 0);
	assert_int_equal(tpt_vcpu_premap(h->vcpu[0], 0, 8, TPT_ACC_READ | TPT_ACC_WRITE, &done), 0);
	assert_int_equal(done, 8);
	for (unsigned int gfn = 0; gfn < 8; gfn++)
		assert_int_equal(is_writable(h, gfn), gfn != 0 && gfn != 5 && gfn != 6);
	/* And what can't be written is not dirty. */
	assert_int_equal(tpt_vm_get_dirty_log(h->vm, 0, 0, bitmap), 0);
	assert_int_equal(bitmap[0], 0x9e);
	host_destroy(h);
}

static struct {
	unsigned int writes, gones;
	uint64_t gpa, first, nr;
	unsigned char byte;
} heard;

static void on_write(struct tpt_write_notifier *n, uint32_t as_id, tpt_gpa gpa, const void *data,
		     size_t bytes)
{
	(void)n, (void)as_id, (void)bytes;
	heard.writes++;
	heard.gpa = gpa.a;
	heard.byte = *(const unsigned char *)data;
}

static void on_gone(struct tpt_write_notifier *n, uint32_t as_id, tpt_gfn gfn, uint64_t npages)
{
	(void)n, (void)as_id;
	heard.gones++;
	heard.first = gfn;
	heard.nr = npages;
}

static void device_models_hear_of_writes_and_of_slots_that_go(void **state)
{
	struct tpt_write_notifier n = {.write = on_write, .gone = on_gone}, deaf = {0};
	struct host *h = vm(MIB, TPT_LEVEL_4K, 0);

	(void)state;
	memset(&heard, 0, sizeof(heard));
	assert_int_equal(tpt_vm_write_notifier_add(h->vm, &n), 0);
	assert_int_equal(tpt_vm_write_notifier_add(h->vm, &deaf), 0);
	assert_int_equal(tpt_vm_write_track_add(h->vm, 0, 3), 0);
	tpt_vm_tell_write(h->vm, 0, tpt_gpa_make(3 * PAGE + 8), "x", 1);
	assert_int_equal(heard.writes, 1);
	assert_int_equal(heard.gpa, 3 * PAGE + 8);
	assert_int_equal(heard.byte, 'x');

	/* Deleted and made again: nothing is tracked in the new one. */
	assert_int_equal(host_slot(h, 0, 0, 0, 0, 0, 0), 0);
	assert_int_equal(heard.gones, 1);
	assert_int_equal(heard.first, 0);
	assert_int_equal(heard.nr, 256);
	assert_int_equal(host_slot(h, 0, 0, 0, MIB, GIB, 0), 0);
	assert_int_equal(host_fault(h, 3 * PAGE, WRITE), TPT_RET_PF_FIXED);

	assert_int_equal(tpt_vm_write_notifier_remove(h->vm, &n), 0);
	assert_int_equal(tpt_vm_write_notifier_remove(h->vm, &n), -EINVAL);
	tpt_vm_tell_write(h->vm, 0, tpt_gpa_make(0), "y", 1);
	assert_int_equal(heard.writes, 1);
	assert_int_equal(tpt_vm_write_notifier_remove(h->vm, &deaf), 0);
	host_destroy(h);
}

/* Expected: F82, page tracking is refused for a TD. */
static void refused_where_it_cannot_be(void **state)
{
	struct tpt_write_notifier n = {0};
	struct host *h = host_create_td(0, MIB, 1);

	(void)state;
	assert_int_equal(tpt_vm_write_track_add(h->vm, 0, 0), -EOPNOTSUPP);
	assert_int_equal(tpt_vm_write_track_remove(h->vm, 0, 0), -EOPNOTSUPP);
	assert_int_equal(tpt_vm_write_notifier_add(h->vm, &n), -EOPNOTSUPP);
	host_destroy(h);

	h = vm(MIB, TPT_LEVEL_4K, 0);
	assert_int_equal(tpt_vm_write_track_add(h->vm, 0, 256), -EINVAL);
	assert_int_equal(tpt_vm_write_track_add(h->vm, 1, 0), -EINVAL);
	for (unsigned int nth = 1; nth < 3; nth++) {
		tpt_posix_fail_mem_alloc(h->posix, nth);
		assert_int_equal(tpt_vm_write_track_add(h->vm, 0, 0), -ENOMEM);
	}
	assert_int_equal(host_fault(h, 0, WRITE), TPT_RET_PF_FIXED);
	assert_true(is_writable(h, 0));
	host_destroy(h);
}

/* A vCPU that writes beside one who tracks and untracks. */
static void *write_always(void *arg)
{
	struct host *h = arg;

	for (unsigned int i = 0; i < 20000; i++)
		must(host_fault_on(h->vcpu[1], i % 4 * PAGE, i & 1 ? WRITE : AGAIN, NULL) > 0);
	return NULL;
}

static void a_page_is_read_only_whenever_it_is_tracked(void **state)
{
	struct host *h = vm(MIB, TPT_LEVEL_4K, 0);
	pthread_t t;

	(void)state;
	assert_int_equal(pthread_create(&t, NULL, write_always, h), 0);
	for (unsigned int i = 0; i < 300; i++) {
		assert_int_equal(tpt_vm_write_track_add(h->vm, 0, i % 4), 0);
		assert_false(is_writable(h, i % 4));
		assert_int_equal(tpt_vm_write_track_remove(h->vm, 0, i % 4), 0);
	}
	pthread_join(t, NULL);
	host_destroy(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_write_to_a_tracked_page_is_the_vmms),
		cmocka_unit_test(it_is_counted_and_never_wraps),
		cmocka_unit_test(no_huge_leaf_is_over_a_tracked_page),
		cmocka_unit_test(no_other_way_gives_w_back),
		cmocka_unit_test(device_models_hear_of_writes_and_of_slots_that_go),
		cmocka_unit_test(refused_where_it_cannot_be),
		cmocka_unit_test(a_page_is_read_only_whenever_it_is_tracked),
	};

	return cmocka_run_group_tests_name("track", tests, NULL, NULL);
}
