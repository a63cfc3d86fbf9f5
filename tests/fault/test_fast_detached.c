// SPDX-License-Identifier: BSD-2-Clause
/*
 * A fault that gives write access back meets a table that is being detached: it neither changes an
 * entry there nor waits for somebody to come and take the table away.
 */
#include "tests/support/host.h"

#include <string.h>
#include <unistd.h>

#include "mmu/vm/vm.h"

#define GPA   0x40000000ull
#define BYTES (2 * MIB)
#define WRITE (TPT_PFERR_GUEST_FINAL | TPT_PFERR_WRITE | TPT_PFERR_USER)

/* The table of level 1 that maps @gfn. */
static struct table *leaf_table(struct tpt_vm *vm, tpt_gfn gfn)
{
	struct tree_iter it;

	if (!iter_start(&it, &vm->trees, TREE_DIRECT, gfn, gfn + 1, TPT_LEVEL_4K))
		return NULL;
	while (it.level > TPT_LEVEL_2M)
		iter_down(&it);
	return table_header(&vm->trees, pte_table_hpa(it.old));
}

static uint64_t fast(struct host *h)
{
	struct tpt_vm_stats stats;

	tpt_vm_get_stats(h->vm, &stats);
	return stats.vcpus.pf_fast;
}

static void a_detached_table_is_left_alone_and_not_waited_for(void **state)
{
	static uint64_t bitmap[BYTES / TPT_PAGE_SIZE / 64];
	struct tpt_vm_config config;
	struct tpt_fault fault;
	struct table *table;
	struct host *h;

	(void)state;
	host_config_npt(&config);
	h = host_create(&config, 1);
	h->level = TPT_LEVEL_4K;
	assert_int_equal(host_slot(h, 0, 0, GPA, BYTES, GIB, TPT_MEM_LOG_DIRTY), 0);
	assert_int_equal(host_fault_on(h->vcpu[0], GPA, WRITE, &fault), TPT_RET_PF_FIXED);
	assert_int_equal(tpt_vm_get_dirty_log(h->vm, 0, 0, bitmap), 0);
	assert_int_equal(bitmap[0], 1);

	/* As a walk that replaces it leaves it, before its parent's entry is changed. */
	table = leaf_table(h->vm, GPA >> TPT_PAGE_SHIFT);
	assert_non_null(table);
	table_mark_dead(table);
	/* Whoever waits for the table to go waits for ever: a read section keeps it. */
	alarm(20);
	assert_int_equal(host_fault_on(h->vcpu[0], GPA, WRITE | TPT_PFERR_PRESENT, &fault),
			 TPT_RET_PF_RETRY);
	alarm(0);
	assert_int_equal(fast(h), 0);
	/* It was writable for a moment, for every processor. */
	assert_int_equal(tpt_vm_get_dirty_log(h->vm, 0, 0, bitmap), 0);
	assert_int_equal(bitmap[0], 1);

	/* It stays after all: the same access is the fast path's. */
	atomic_store(&table->dead, 0);
	assert_int_equal(host_fault_on(h->vcpu[0], GPA, WRITE | TPT_PFERR_PRESENT, &fault),
			 TPT_RET_PF_FIXED);
	assert_int_equal(fast(h), 1);
	assert_int_equal(tpt_vm_get_dirty_log(h->vm, 0, 0, bitmap), 0);
	assert_int_equal(bitmap[0], 1);
	host_audit(h);
	host_destroy(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_detached_table_is_left_alone_and_not_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
