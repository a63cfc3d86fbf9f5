// SPDX-License-Identifier: BSD-2-Clause
/* What becomes of one fault: outcome, level, entry word, exit record. No second thread. */
#include "tests/support/host.h"

#define READ  TPT_PFERR_USER
#define WRITE (TPT_PFERR_USER | TPT_PFERR_WRITE)
#define RSVD  TPT_PFERR_RSVD
#define PAGE  4096ull

/* NPT, one slot of 4 GiB at 0 over hva 4 GiB. */
static struct host *npt(void)
{
	struct tpt_vm_config c;
	struct host *h;

	host_config_npt(&c);
	h = host_create(&c, 2);
	assert_int_equal(host_slot(h, 0, 0, 0, 4 * GIB, 4 * GIB, 0), 0);
	return h;
}

static const struct tpt_exit *exit_of(struct host *h)
{
	return tpt_vcpu_exit(h->vcpu[0]);
}

static void a_fault_installs_the_largest_leaf_that_the_backing_allows(void **state)
{
	static const enum tpt_level levels[] = {TPT_LEVEL_4K, TPT_LEVEL_2M, TPT_LEVEL_1G};
	static const uint64_t words[] = {0x140201e67, 0x140200ee7, 0x140000ee7};

	(void)state;
	for (unsigned int i = 0; i < 3; i++) {
		struct host *h = npt();
		struct tpt_fault f;

		h->level = levels[i];
		assert_int_equal(host_fault_on(h->vcpu[0], GIB + 2 * MIB + PAGE + 7, WRITE, &f),
				 TPT_RET_PF_FIXED);
		assert_int_equal(f.goal_level, levels[i]);
		assert_int_equal(f.req_level, levels[i]);
		assert_int_equal(f.spte.w, words[i]);
		assert_int_equal(f.pfn.n, words[i] >> 12);
		assert_int_equal(f.tables_linked, 4 - levels[i]);
		assert_int_equal(f.slot, 0);
		assert_true(f.map_writable && !f.is_private);
		assert_int_equal(host_word(h, GIB + 2 * MIB + PAGE), words[i]);
		assert_int_equal(host_fault(h, GIB + 2 * MIB + PAGE, READ), TPT_RET_PF_SPURIOUS);
		assert_true(atomic_load(&h->dirtied) >= 1);
		host_destroy(h);
	}
}

static void the_vm_and_the_caller_cap_the_level(void **state)
{
	struct tpt_vm_config c;
	struct tpt_fault f = {.gpa = {GIB}, .error_code = READ, .max_level = TPT_LEVEL_4K};
	struct host *h;

	(void)state;
	host_config_npt(&c);
	c.max_leaf_level = TPT_LEVEL_2M;
	h = host_create(&c, 1);
	assert_int_equal(host_slot(h, 0, 0, 0, 4 * GIB, 4 * GIB, 0), 0);
	assert_int_equal(tpt_vcpu_fault(h->vcpu[0], &f), TPT_RET_PF_FIXED);
	assert_int_equal(f.goal_level, TPT_LEVEL_4K);
	assert_int_equal(f.req_level, TPT_LEVEL_2M);
	assert_int_equal(host_fault_on(h->vcpu[0], 2 * GIB, READ, &f), TPT_RET_PF_FIXED);
	assert_int_equal(f.goal_level, TPT_LEVEL_2M);
	host_destroy(h);
}

static void frames_and_guest_addresses_must_be_congruent(void **state)
{
	struct tpt_vm_config c;
	struct tpt_fault f;
	struct host *h;

	(void)state;
	host_config_npt(&c);
	h = host_create(&c, 1);
	/* The slot's hva is off by 2 MiB against its gpa: no 1G leaf; by 4 KiB: no 2M leaf. */
	assert_int_equal(host_slot(h, 0, 0, GIB, 2 * GIB, 5 * GIB + 2 * MIB, 0), 0);
	assert_int_equal(host_slot(h, 0, 1, 4 * GIB, 2 * GIB, 9 * GIB + PAGE, 0), 0);
	assert_int_equal(host_fault_on(h->vcpu[0], GIB, READ, &f), TPT_RET_PF_FIXED);
	assert_int_equal(f.goal_level, TPT_LEVEL_2M);
	assert_int_equal(host_fault_on(h->vcpu[0], 4 * GIB, READ, &f), TPT_RET_PF_FIXED);
	assert_int_equal(f.goal_level, TPT_LEVEL_4K);
	/* All but the frames is aligned, and the backing claims that they are. */
	assert_int_equal(host_slot(h, 0, 2, 8 * GIB, GIB, 16 * GIB, 0), 0);
	h->skew = 512;
	assert_int_equal(host_fault_on(h->vcpu[0], 8 * GIB, READ, &f), TPT_RET_PF_FIXED);
	assert_int_equal(f.goal_level, TPT_LEVEL_2M);
	h->skew = 513;
	assert_int_equal(host_fault_on(h->vcpu[0], 8 * GIB + 2 * MIB, READ, &f), TPT_RET_PF_FIXED);
	assert_int_equal(f.goal_level, TPT_LEVEL_4K);
	host_destroy(h);
}

static void what_the_caller_left_in_the_out_fields_does_not_matter(void **state)
{
	struct host *h = npt();
	struct tpt_fault f;

	(void)state;
	memset(&f, 0x5a, sizeof(f));
	f.gpa.a = 0;
	f.error_code = READ;
	f.prefetch = false;
	f.max_level = TPT_LEVEL_4K;
	assert_int_equal(tpt_vcpu_fault(h->vcpu[0], &f), TPT_RET_PF_FIXED);
	assert_int_equal(f.tables_linked, 3);
	assert_int_equal(tpt_vcpu_fault(h->vcpu[0], &f), TPT_RET_PF_SPURIOUS);
	assert_int_equal(f.tables_linked, 0);
	assert_int_equal(f.spte.w, 0);
	f.gpa.a = 8 * GIB;
	assert_int_equal(tpt_vcpu_fault(h->vcpu[0], &f), TPT_RET_PF_EMULATE);
	assert_int_equal(f.slot, -1);
	assert_int_equal(f.pfn.n, 0);
	host_destroy(h);
}

static void a_prefetch_sets_no_accessed_bit_and_leaves_no_exit(void **state)
{
	struct host *h = npt();
	struct tpt_fault f = {.gpa = {0}, .error_code = WRITE, .prefetch = true};
	struct tpt_vcpu_stats s;

	(void)state;
	h->level = TPT_LEVEL_4K;
	assert_int_equal(tpt_vcpu_fault(h->vcpu[0], &f), TPT_RET_PF_FIXED);
	assert_int_equal(f.spte.w, 0x100000e47);
	assert_int_equal(tpt_vcpu_fault(h->vcpu[0], &f), TPT_RET_PF_SPURIOUS);
	f.gpa.a = 8 * GIB;
	assert_int_equal(tpt_vcpu_fault(h->vcpu[0], &f), TPT_RET_PF_EMULATE);
	assert_int_equal(exit_of(h)->reason, TPT_EXIT_NONE);
	assert_int_equal(host_stats(h).direct.mmio, 0);
	f.gpa.a = PAGE;
	h->error = -EFAULT;
	assert_int_equal(tpt_vcpu_fault(h->vcpu[0], &f), -EFAULT);
	assert_int_equal(exit_of(h)->reason, TPT_EXIT_NONE);
	tpt_vcpu_get_stats(h->vcpu[0], &s);
	assert_int_equal(s.pf_taken, 0);
	assert_int_equal(s.pf_fixed, 1);
	host_destroy(h);
}

static void a_page_that_the_host_reads_only_is_upgraded_by_a_write(void **state)
{
	struct host *h = npt();

	(void)state;
	h->level = TPT_LEVEL_4K;
	h->ro_start = 4 * GIB;
	h->ro_end = 4 * GIB + PAGE;
	assert_int_equal(host_fault(h, 0, READ), TPT_RET_PF_FIXED);
	assert_int_equal(host_word(h, 0), 0x100000825);
	/* The host can't make it writable: the access is the VMM's. */
	assert_int_equal(host_fault(h, 8, WRITE | TPT_PFERR_PRESENT), TPT_RET_PF_EMULATE);
	assert_int_equal(exit_of(h)->reason, TPT_EXIT_MMIO);
	assert_int_equal(exit_of(h)->gpa.a, 8);
	assert_int_equal(exit_of(h)->access, TPT_ACC_WRITE);
	assert_int_equal(host_word(h, 0), 0x100000825);
	/* Now it can. */
	h->ro_start = h->ro_end = 0;
	assert_int_equal(host_fault(h, 8, WRITE | TPT_PFERR_PRESENT), TPT_RET_PF_FIXED);
	assert_int_equal(host_word(h, 0), 0x100000e67);
	assert_int_equal(h->nr_flushes, 0);
	host_destroy(h);
}

static void a_write_to_a_read_only_slot_is_emulated_and_its_pages_are_not_writable(void **state)
{
	struct host *h = npt();

	(void)state;
	assert_int_equal(host_slot(h, 0, 1, 8 * GIB, GIB, 16 * GIB, TPT_MEM_READONLY), 0);
	h->level = TPT_LEVEL_4K;
	assert_int_equal(host_fault(h, 8 * GIB, WRITE), TPT_RET_PF_EMULATE);
	assert_int_equal(exit_of(h)->reason, TPT_EXIT_MMIO);
	assert_int_equal(atomic_load(&h->lookups), 0);
	assert_int_equal(host_fault(h, 8 * GIB, READ), TPT_RET_PF_FIXED);
	assert_int_equal(host_word(h, 8 * GIB), 0x400000825);
	assert_int_equal(atomic_load(&h->dirtied), 0);
	host_destroy(h);
}

static void mmio_is_cached_until_the_slots_change(void **state)
{
	struct host *h = npt();
	uint64_t gpa = 0xfee00010;
	struct tpt_fault f;

	(void)state;
	/* Slot 0 covers it: move out of the way. */
	gpa += 8 * GIB;
	assert_int_equal(host_fault_on(h->vcpu[0], gpa, WRITE, &f), TPT_RET_PF_EMULATE);
	assert_int_equal(exit_of(h)->reason, TPT_EXIT_MMIO);
	assert_int_equal(exit_of(h)->gpa.a, gpa);
	assert_int_equal(exit_of(h)->access, TPT_ACC_WRITE);
	/* Generation 1: one slot was created. */
	assert_int_equal(f.spte.w, 0x800000000000f | (gpa & ~0xfffull));
	assert_int_equal(host_stats(h).direct.mmio, 1);
	assert_int_equal(host_stats(h).vcpus.pf_mmio_spte_created, 1);

	/* The processor meets the reserved bit: answered from the entry alone. */
	assert_int_equal(host_fault_on(h->vcpu[0], gpa, READ | RSVD | TPT_PFERR_PRESENT, &f),
			 TPT_RET_PF_EMULATE);
	assert_int_equal(exit_of(h)->access, TPT_ACC_READ);
	assert_int_equal(f.spte.w, 0);

	/* Another slot came: the entry proves nothing, and is made again. */
	assert_int_equal(host_slot(h, 0, 1, 64 * GIB, GIB, 64 * GIB, 0), 0);
	assert_int_equal(host_fault_on(h->vcpu[0], gpa, READ | RSVD | TPT_PFERR_PRESENT, &f),
			 TPT_RET_PF_EMULATE);
	assert_int_equal(f.spte.w, 0x8000000000017 | (gpa & ~0xfffull));
	assert_int_equal(host_stats(h).direct.mmio, 1);

	/* A slot came right there: it is memory. */
	h->level = TPT_LEVEL_4K;
	assert_int_equal(host_slot(h, 0, 2, 8 * GIB, 4 * GIB, 16 * GIB, 0), 0);
	assert_int_equal(host_fault_on(h->vcpu[0], gpa, WRITE | RSVD | TPT_PFERR_PRESENT, &f),
			 TPT_RET_PF_FIXED);
	assert_int_equal(f.spte.w, ((gpa + 8 * GIB) & ~0xfffull) | 0xe67);
	assert_int_equal(host_stats(h).direct.mmio, 0);

	/* Somebody was faster: the reserved bit is gone. */
	assert_int_equal(host_fault(h, gpa, WRITE | RSVD | TPT_PFERR_PRESENT), TPT_RET_PF_RETRY);
	host_destroy(h);
}

static void an_mmio_entry_is_swallowed_by_a_huge_leaf(void **state)
{
	struct host *h = npt();

	(void)state;
	assert_int_equal(host_fault(h, 8 * GIB, READ), TPT_RET_PF_EMULATE);
	assert_int_equal(host_stats(h).direct.mmio, 1);
	assert_int_equal(host_slot(h, 0, 1, 8 * GIB, GIB, 8 * GIB, 0), 0);
	assert_int_equal(host_fault(h, 8 * GIB, READ | RSVD | TPT_PFERR_PRESENT), TPT_RET_PF_FIXED);
	assert_int_equal(host_word(h, 8 * GIB), 0x200000ee7);
	assert_int_equal(host_stats(h).direct.mmio, 0);
	host_destroy(h);
}

static void without_mmio_caching_nothing_is_cached(void **state)
{
	struct tpt_vm_config c;
	struct host *h;

	(void)state;
	host_config_ept(&c);
	c.flags = TPT_VM_NO_MMIO_CACHING;
	h = host_create(&c, 1);
	assert_int_equal(host_fault(h, 8 * GIB, READ), TPT_RET_PF_EMULATE);
	assert_int_equal(host_stats(h).direct.mmio, 0);
	assert_int_equal(host_stats(h).direct.tables, 1);
	host_destroy(h);
}

static void a_table_gives_way_to_a_huge_leaf(void **state)
{
	struct host *h = npt();
	struct tpt_fault f;

	(void)state;
	h->level = TPT_LEVEL_4K;
	for (unsigned int i = 0; i < 100; i++)
		assert_int_equal(host_fault(h, i * PAGE, READ), TPT_RET_PF_FIXED);
	assert_int_equal(host_fault(h, 4 * MIB, READ), TPT_RET_PF_FIXED);
	assert_int_equal(host_stats(h).direct.pages_4k, 101);
	assert_int_equal(host_stats(h).direct.tables, 5);

	h->level = TPT_LEVEL_2M;
	assert_int_equal(host_fault_on(h->vcpu[0], 300 * PAGE, READ, &f), TPT_RET_PF_FIXED);
	assert_int_equal(f.spte.w, 0x100000ee7);
	assert_int_equal(host_stats(h).direct.pages_4k, 1);
	assert_int_equal(host_stats(h).direct.pages_2m, 1);
	assert_int_equal(host_stats(h).direct.tables, 4);
	assert_int_equal(h->nr_flushes, 1);
	assert_int_equal(h->flush[0].reason, TPT_FLUSH_COLLAPSE);
	assert_int_equal(h->flush[0].range.start, 0);
	assert_int_equal(h->flush[0].range.end, 512);
	host_audit(h);

	h->level = TPT_LEVEL_1G;
	assert_int_equal(host_fault(h, 512 * MIB, READ), TPT_RET_PF_FIXED);
	assert_int_equal(host_stats(h).direct.pages_4k, 0);
	assert_int_equal(host_stats(h).direct.pages_2m, 0);
	assert_int_equal(host_stats(h).direct.pages_1g, 1);
	assert_int_equal(host_stats(h).direct.tables, 2);
	assert_int_equal(h->nr_flushes, 2);
	assert_int_equal(h->flush[1].range.end, 1 << 18);
	host_destroy(h);
}

static void a_huge_leaf_is_split_by_an_access_that_it_refuses(void **state)
{
	struct host *h = npt();
	struct tpt_fault f;

	(void)state;
	h->level = TPT_LEVEL_1G;
	h->ro_start = 4 * GIB;
	h->ro_end = 5 * GIB;
	assert_int_equal(host_fault(h, 0, READ), TPT_RET_PF_FIXED);
	assert_int_equal(host_word(h, 0), 0x1000008a5);

	/* The host can write it now, and only by 4 KiB. */
	h->ro_start = h->ro_end = 0;
	h->level = TPT_LEVEL_4K;
	assert_int_equal(host_fault_on(h->vcpu[0], 4 * MIB + PAGE, WRITE | TPT_PFERR_PRESENT, &f),
			 TPT_RET_PF_FIXED);
	assert_int_equal(f.spte.w, 0x100401e67);
	assert_int_equal(f.tables_linked, 2);
	assert_int_equal(host_word(h, 4 * MIB), 0x100400825);
	assert_int_equal(host_word(h, 6 * MIB - PAGE), 0x1005ff825);
	assert_int_equal(host_word(h, 0), 0x1000008a5);
	assert_int_equal(host_word(h, GIB - 1), 0x13fe008a5);
	assert_int_equal(host_stats(h).direct.pages_1g, 0);
	assert_int_equal(host_stats(h).direct.pages_2m, 511);
	assert_int_equal(host_stats(h).direct.pages_4k, 512);
	assert_int_equal(h->nr_flushes, 0);
	host_destroy(h);
}

static void a_huge_leaf_serves_a_fault_that_wants_less(void **state)
{
	struct host *h = npt();

	(void)state;
	assert_int_equal(host_fault(h, 0, READ), TPT_RET_PF_FIXED);
	h->level = TPT_LEVEL_4K;
	assert_int_equal(host_fault(h, 4 * MIB, WRITE), TPT_RET_PF_SPURIOUS);
	assert_int_equal(host_stats(h).direct.tables, 2);
	host_destroy(h);
}

static void address_spaces_have_trees_and_slots_of_their_own(void **state)
{
	struct tpt_vm_config c;
	struct tpt_fault f;
	struct host *h;

	(void)state;
	host_config_npt(&c);
	c.address_spaces = 2;
	h = host_create(&c, 1);
	assert_int_equal(host_slot(h, 0, 0, 0, GIB, GIB, 0), 0);
	assert_int_equal(host_slot(h, 1, 0, 0, GIB, 3 * GIB, 0), 0);
	h->level = TPT_LEVEL_4K;
	assert_int_equal(host_fault(h, 0, READ), TPT_RET_PF_FIXED);
	assert_int_equal(tpt_vcpu_set_smm(h->vcpu[0], true), 0);
	assert_int_equal(host_fault_on(h->vcpu[0], 0, READ, &f), TPT_RET_PF_FIXED);
	assert_int_equal(f.as_id, 1);
	assert_int_equal(f.spte.w, 0xc0000e67);
	assert_int_equal(host_word(h, 0), 0x40000e67);
	assert_int_equal(host_mapping(h, TPT_TREE_DIRECT, 1, 0).spte.w, 0xc0000e67);
	/* Generations of the two count by two, from the number of each: MMIO words tell. */
	assert_int_equal(host_fault_on(h->vcpu[0], 8 * GIB, READ, &f), TPT_RET_PF_EMULATE);
	assert_int_equal(f.spte.w, 0x8000200000007 | 3 << 3);
	assert_int_equal(tpt_vcpu_set_smm(h->vcpu[0], false), 0);
	assert_int_equal(host_fault_on(h->vcpu[0], 8 * GIB, READ, &f), TPT_RET_PF_EMULATE);
	assert_int_equal(f.spte.w, 0x8000200000007 | 2 << 3);
	assert_int_equal(host_stats(h).roots, 2);
	host_destroy(h);
}

/* EPT with one slot: the memory type of what a fault installs. */
static uint64_t memory_type(uint32_t flags, bool dma, bool device)
{
	struct tpt_vm_config c;
	struct host *h;
	uint64_t word;

	host_config_ept(&c);
	c.flags = flags;
	h = host_create(&c, 1);
	h->device = device;
	assert_int_equal(host_slot(h, 0, 0, 0, GIB, GIB, 0), 0);
	assert_int_equal(tpt_vm_set_noncoherent_dma(h->vm, dma), 0);
	assert_int_equal(host_fault(h, 0, READ), TPT_RET_PF_FIXED);
	word = host_word(h, 0);
	host_destroy(h);
	return word >> 3 & 0xf;
}

static void ept_memory_types_follow_pat_policy_device_and_dma(void **state)
{
	(void)state;
	assert_int_equal(memory_type(0, false, false), 6);
	assert_int_equal(memory_type(0, true, false), 6);
	assert_int_equal(memory_type(TPT_VM_IGNORE_GUEST_PAT, false, false), 6 | 8);
	assert_int_equal(memory_type(TPT_VM_IGNORE_GUEST_PAT, true, false), 6);
	assert_int_equal(memory_type(0, false, true), 0);
	assert_int_equal(memory_type(TPT_VM_IGNORE_GUEST_PAT, false, true), 0);
}

static void what_the_backing_answers_decides_the_outcome(void **state)
{
	static const struct {
		int answer, ret;
		enum tpt_exit_reason reason;
	} rows[] = {
		{-EAGAIN, TPT_RET_PF_RETRY, TPT_EXIT_NONE},
		{-EFAULT, -EFAULT, TPT_EXIT_MEMORY_FAULT},
		{-EPERM, -EFAULT, TPT_EXIT_MEMORY_FAULT}, /* of a read: nonsense */
		{-EINTR, -EINTR, TPT_EXIT_NONE},
		{-ENOMEM, -ENOMEM, TPT_EXIT_NONE},
		{-EHWPOISON, -EHWPOISON, TPT_EXIT_MEMORY_FAULT},
		{-EINVAL, -EFAULT, TPT_EXIT_MEMORY_FAULT},
		{77, -EFAULT, TPT_EXIT_MEMORY_FAULT},
	};
	struct host *h = npt();

	(void)state;
	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		h->error = rows[i].answer;
		assert_int_equal(host_fault(h, 5 * PAGE + 3, READ), rows[i].ret);
		assert_int_equal(exit_of(h)->reason, rows[i].reason);
		if (rows[i].reason == TPT_EXIT_MEMORY_FAULT) {
			assert_int_equal(exit_of(h)->gpa.a, 5 * PAGE);
			assert_int_equal(exit_of(h)->size, PAGE);
			assert_int_equal(exit_of(h)->flags, 0);
		}
	}
	assert_int_equal(host_stats(h).direct.tables, 1);
	host_destroy(h);
}

static void nonsense_from_the_backing_maps_nothing(void **state)
{
	struct host *h = npt();

	(void)state;
	h->level = (enum tpt_level)7;
	assert_int_equal(host_fault(h, 0, READ), -EFAULT);
	h->level = TPT_LEVEL_NONE;
	assert_int_equal(host_fault(h, 0, READ), -EFAULT);
	h->level = TPT_LEVEL_4K;
	/* A frame beyond the host's 48 bits: its entry would have reserved bits. */
	assert_int_equal(host_slot(h, 0, 1, 8 * GIB, GIB, 1ull << 48, 0), 0);
	assert_int_equal(host_fault(h, 8 * GIB, READ), -EFAULT);
	assert_int_equal(exit_of(h)->reason, TPT_EXIT_MEMORY_FAULT);
	assert_int_equal(host_stats(h).direct.tables, 1);
	host_destroy(h);
}

static void impossible_faults_are_refused(void **state)
{
	struct host *h = npt();
	static const uint64_t codes[] = {1ull << 5,  1ull << 6,	 1ull << 31,
					 1ull << 34, 1ull << 63, TPT_PFERR_PRIVATE};

	(void)state;
	for (unsigned int i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		unsigned int lines = h->lines;

		assert_int_equal(host_fault(h, 0, READ | codes[i]), -EINVAL);
		assert_int_equal(h->lines, lines + 1);
		assert_int_equal(exit_of(h)->reason, TPT_EXIT_NONE);
	}
	assert_int_equal(host_fault(h, 1ull << 48, READ), -EINVAL);
	assert_non_null(strstr(h->line, "0x1000000000000"));
	assert_int_equal(host_fault(h, UINT64_MAX, READ), -EINVAL);
	assert_int_equal(host_fault(h, (1ull << 48) - 1, READ), TPT_RET_PF_EMULATE);
	assert_int_equal(host_stats(h).direct.tables, 4);
	assert_int_equal(host_stats(h).vcpus.pf_error, 8);
	host_destroy(h);
}

static void a_vcpu_without_roots_retries(void **state)
{
	struct host *h = npt();
	struct tpt_fault f = {.gpa = {0}, .error_code = READ};
	struct tpt_roots before, after;

	(void)state;
	assert_int_equal(tpt_vcpu_load_roots(h->vcpu[0], &before), 0);
	assert_int_equal(tpt_vcpu_fault(h->vcpu[0], &f), TPT_RET_PF_FIXED);
	assert_int_equal(tpt_vm_zap_all_fast(h->vm), 0);
	assert_int_equal(tpt_vcpu_fault(h->vcpu[0], &f), TPT_RET_PF_RETRY);
	assert_int_equal(tpt_vcpu_load_roots(h->vcpu[0], &after), 0);
	assert_int_not_equal(before.direct.a, after.direct.a);
	assert_int_not_equal(before.generation, after.generation);
	assert_int_equal(tpt_vcpu_fault(h->vcpu[0], &f), TPT_RET_PF_FIXED);
	tpt_vcpu_reset_context(h->vcpu[0]);
	assert_int_equal(tpt_vcpu_fault(h->vcpu[0], &f), TPT_RET_PF_RETRY);
	host_destroy(h);
}

/* ---- private memory ---- */

static void a_private_fault_maps_the_mirror_and_the_external_table(void **state)
{
	struct host *h = host_create_td(0, 64 * MIB, 1);
	struct tpt_fault f;

	(void)state;
	assert_int_equal(host_fault_on(h->vcpu[0], 3 * PAGE, WRITE, &f), TPT_RET_PF_FIXED);
	assert_true(f.is_private);
	assert_int_equal(f.goal_level, TPT_LEVEL_4K);
	assert_int_equal(f.pfn.n, HOST_GMEM_PFN + 3);
	assert_string_equal(h->ext.log, "lllm");
	assert_int_equal(host_stats(h).mirror.pages_4k, 1);
	assert_int_equal(host_stats(h).direct.pages_4k, 0);
	assert_int_equal(atomic_load(&h->lookups), 0);
	assert_int_equal(host_fault(h, 3 * PAGE, READ), TPT_RET_PF_SPURIOUS);
	host_destroy(h);
}

static void private_and_shared_must_agree_with_the_attribute(void **state)
{
	struct host *h = host_create_td(0, 64 * MIB, 1);

	(void)state;
	assert_int_equal(host_fault(h, HOST_SHARED | (3 * PAGE + 8), WRITE), -EFAULT);
	assert_int_equal(exit_of(h)->reason, TPT_EXIT_MEMORY_FAULT);
	assert_int_equal(exit_of(h)->gpa.a, 3 * PAGE);
	assert_int_equal(exit_of(h)->size, PAGE);
	assert_int_equal(exit_of(h)->flags, 0);

	assert_int_equal(tpt_vm_set_private(h->vm, 3, 4, false, NULL), 0);
	assert_int_equal(host_fault(h, 3 * PAGE, WRITE), -EFAULT);
	assert_int_equal(exit_of(h)->flags, TPT_MEMORY_FAULT_PRIVATE);
	assert_int_equal(exit_of(h)->gpa.a, 3 * PAGE);
	assert_int_equal(host_fault(h, HOST_SHARED | 3 * PAGE, WRITE), TPT_RET_PF_FIXED);
	/* The bit in the error code may confirm what the address says, never contradict it. */
	assert_int_equal(host_fault(h, 4 * PAGE, READ | TPT_PFERR_PRIVATE), TPT_RET_PF_FIXED);
	assert_int_equal(host_fault(h, HOST_SHARED | 3 * PAGE, READ | TPT_PFERR_PRIVATE), -EINVAL);
	host_destroy(h);
}

static void private_memory_without_anything_behind_it_is_a_memory_fault(void **state)
{
	struct host *h = host_create_td(0, 64 * MIB, 1);

	(void)state;
	/* A slot without private memory. */
	assert_int_equal(host_slot(h, 0, 1, 0x10000000, MIB, 2 * GIB, 0), 0);
	assert_int_equal(tpt_vm_set_private(h->vm, 0x10000, 0x10010, true, NULL), 0);
	assert_int_equal(host_fault(h, 0x10000000, READ), -EFAULT);
	assert_int_equal(exit_of(h)->flags, TPT_MEMORY_FAULT_PRIVATE);
	/* No slot any more: the attribute outlives it. */
	assert_int_equal(host_slot(h, 0, 1, 0x10000000, 0, 2 * GIB, 0), 0);
	assert_int_equal(host_fault(h, 0x10000000, READ), -EFAULT);
	assert_int_equal(exit_of(h)->flags, TPT_MEMORY_FAULT_PRIVATE);
	/* Its gmem has none. */
	h->gmem_error = -ENOMEM;
	assert_int_equal(host_fault(h, 0, READ), -ENOMEM);
	h->gmem_error = -EAGAIN;
	assert_int_equal(host_fault(h, 0, READ), TPT_RET_PF_RETRY);
	h->gmem_error = -EHWPOISON;
	assert_int_equal(host_fault(h, 0, READ), -EHWPOISON);
	assert_int_equal(host_stats(h).mirror.tables, 1);
	host_destroy(h);
}

static void shared_mmio_of_a_td_lets_the_guest_have_its_ve(void **state)
{
	struct host *h = host_create_td(0, 64 * MIB, 1);
	struct tpt_fault f;

	(void)state;
	assert_int_equal(host_fault_on(h->vcpu[0], HOST_SHARED | 0xfec00000, WRITE, &f),
			 TPT_RET_PF_EMULATE);
	assert_int_equal(f.spte.w & (7 | 1ull << 63), 0);
	assert_int_equal(f.spte.w & 0xffffff000, 0xfec00000);
	assert_int_equal(host_stats(h).direct.mmio, 1);
	/* A slot that comes must take it away: nobody would ever fault on it again. */
	assert_int_equal(host_slot(h, 0, 1, 0xfec00000, MIB, 2 * GIB, 0), 0);
	assert_int_equal(host_stats(h).direct.mmio, 0);
	assert_int_equal(host_fault(h, HOST_SHARED | 0xfec00000, WRITE), TPT_RET_PF_FIXED);
	host_destroy(h);
}

static void a_vm_with_private_memory_by_attribute_maps_both_in_one_tree(void **state)
{
	struct tpt_vm_config c;
	struct tpt_fault f;
	struct host *h;

	(void)state;
	host_config_npt(&c);
	c.flags = TPT_VM_SW_PROTECTED;
	h = host_create(&c, 1);
	assert_int_equal(tpt_gmem_create(h->vm, 64 * MIB, &host_gmem, h, &h->gmem), 0);
	assert_int_equal(host_slot(h, 0, 0, 0, 64 * MIB, GIB, TPT_MEM_GUEST_MEMFD), 0);
	assert_int_equal(tpt_vm_set_private(h->vm, 0, 512, true, NULL), 0);
	assert_int_equal(host_fault(h, 0, READ), -EFAULT);
	assert_int_equal(host_fault_on(h->vcpu[0], 0, READ | TPT_PFERR_PRIVATE, &f),
			 TPT_RET_PF_FIXED);
	assert_int_equal(f.spte.w, HOST_GMEM_PFN << 12 | 0xee7);
	assert_int_equal(host_fault(h, 2 * MIB, READ | TPT_PFERR_PRIVATE), -EFAULT);
	assert_int_equal(host_fault(h, 2 * MIB, READ), TPT_RET_PF_FIXED);
	/* One page of the private 2M becomes shared: the leaf goes, the rest comes back by 4K. */
	assert_int_equal(tpt_vm_set_private(h->vm, 7, 8, false, NULL), 0);
	assert_int_equal(host_word(h, 0), 0);
	assert_int_equal(host_fault_on(h->vcpu[0], 0, READ | TPT_PFERR_PRIVATE, &f),
			 TPT_RET_PF_FIXED);
	assert_int_equal(f.goal_level, TPT_LEVEL_4K);
	host_destroy(h);
}

/* ---- the gap ---- */

static void delete_the_slot(struct host *h)
{
	h->in_lookup = NULL;
	assert_int_equal(host_slot(h, 0, 0, 0, 0, 0, 0), 0);
}

static void invalidate_elsewhere(struct host *h)
{
	struct tpt_invalidation t;

	h->in_lookup = NULL;
	assert_int_equal(tpt_vm_invalidate_begin(h->vm, tpt_hva_make(6 * GIB),
						 tpt_hva_make(6 * GIB + PAGE), &t),
			 0);
	tpt_vm_invalidate_end(h->vm, &t);
}

static void invalidate_here(struct host *h)
{
	struct tpt_invalidation t;

	h->in_lookup = NULL;
	assert_int_equal(tpt_vm_invalidate_begin(h->vm, tpt_hva_make(4 * GIB + 9 * PAGE),
						 tpt_hva_make(4 * GIB + 10 * PAGE), &t),
			 0);
	tpt_vm_invalidate_end(h->vm, &t);
}

static void zap_all(struct host *h)
{
	h->in_lookup = NULL;
	assert_int_equal(tpt_vm_zap_all_fast(h->vm), 0);
}

static void what_changes_while_the_backing_is_asked_is_noticed(void **state)
{
	static const struct {
		void (*change)(struct host *h);
		int ret;
	} rows[] = {
		{invalidate_elsewhere, TPT_RET_PF_FIXED},
		{invalidate_here, TPT_RET_PF_RETRY},
		{zap_all, TPT_RET_PF_RETRY},
		{delete_the_slot, TPT_RET_PF_RETRY},
	};

	(void)state;
	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct host *h = npt();

		h->in_lookup = rows[i].change;
		assert_int_equal(host_fault(h, 0, READ), rows[i].ret);
		assert_null(h->in_lookup);
		host_destroy(h);
	}
}

static void during_an_invalidation_faults_on_its_pages_retry(void **state)
{
	struct host *h = npt();
	struct tpt_invalidation a, b;

	(void)state;
	h->level = TPT_LEVEL_4K;
	assert_int_equal(host_fault(h, 0, READ), TPT_RET_PF_FIXED);
	assert_int_equal(tpt_vm_invalidate_begin(h->vm, tpt_hva_make(4 * GIB),
						 tpt_hva_make(4 * GIB + 2 * PAGE), &a),
			 1);
	assert_int_equal(tpt_vm_invalidate_begin(h->vm, tpt_hva_make(4 * GIB + PAGE),
						 tpt_hva_make(4 * GIB + 3 * PAGE), &b),
			 0);
	assert_int_equal(host_fault(h, 0, READ), TPT_RET_PF_RETRY);
	assert_int_equal(host_fault(h, 2 * PAGE, READ), TPT_RET_PF_RETRY);
	assert_int_equal(host_fault(h, 3 * PAGE, READ), TPT_RET_PF_FIXED);
	/* Backed by 2M, the leaf would cover what is going: not yet. */
	h->level = TPT_LEVEL_2M;
	assert_int_equal(host_fault(h, 4 * PAGE, READ), TPT_RET_PF_RETRY);
	tpt_vm_invalidate_end(h->vm, &a);
	h->level = TPT_LEVEL_4K;
	assert_int_equal(host_fault(h, 0, READ), TPT_RET_PF_FIXED);
	assert_int_equal(host_fault(h, PAGE, READ), TPT_RET_PF_RETRY);
	tpt_vm_invalidate_end(h->vm, &b);
	assert_int_equal(host_fault(h, PAGE, READ), TPT_RET_PF_FIXED);
	host_destroy(h);
}

/* ---- memory ---- */

static void every_allocation_of_a_fault_fails_once_and_nothing_changes(void **state)
{
	unsigned int failed = 0;

	(void)state;
	for (unsigned int td = 0; td < 2; td++) {
		for (unsigned int nth = 1; nth < 32; nth++) {
			struct host *h = td ? host_create_td(0, 64 * MIB, 0) : npt();
			struct tpt_posix_stats before;
			struct tpt_roots roots;
			struct tpt_fault f = {.gpa = {0}, .error_code = WRITE};
			struct tpt_vcpu *vcpu;
			int ret;

			assert_int_equal(tpt_vcpu_create(h->vm, 9, &vcpu), 0);
			tpt_posix_get_stats(h->posix, &before);
			tpt_posix_fail_page_alloc(h->posix, nth);
			ret = tpt_vcpu_load_roots(vcpu, &roots);
			if (ret == -ENOMEM) {
				failed++;
				assert_int_equal(host_stats(h).direct.tables, td ? 0 : 1);
				assert_int_equal(tpt_vcpu_load_roots(vcpu, &roots), 0);
			}
			h->level = TPT_LEVEL_4K;
			ret = tpt_vcpu_fault(vcpu, &f);
			if (ret == -ENOMEM) {
				failed++;
				assert_int_equal(host_stats(h).direct.tables, 1);
				assert_int_equal(h->ext.logged, 0);
				assert_int_equal(f.tables_linked, 0);
				ret = tpt_vcpu_fault(vcpu, &f);
			}
			assert_int_equal(ret, TPT_RET_PF_FIXED);
			tpt_posix_fail_page_alloc(h->posix, 0);
			host_destroy(h);
		}
	}
	/* 4 tables at first, more for what was used; twice that with a mirror. */
	assert_true(failed >= 4 + 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_fault_installs_the_largest_leaf_that_the_backing_allows),
		cmocka_unit_test(the_vm_and_the_caller_cap_the_level),
		cmocka_unit_test(frames_and_guest_addresses_must_be_congruent),
		cmocka_unit_test(what_the_caller_left_in_the_out_fields_does_not_matter),
		cmocka_unit_test(a_prefetch_sets_no_accessed_bit_and_leaves_no_exit),
		cmocka_unit_test(a_page_that_the_host_reads_only_is_upgraded_by_a_write),
		cmocka_unit_test(
			a_write_to_a_read_only_slot_is_emulated_and_its_pages_are_not_writable),
		cmocka_unit_test(mmio_is_cached_until_the_slots_change),
		cmocka_unit_test(an_mmio_entry_is_swallowed_by_a_huge_leaf),
		cmocka_unit_test(without_mmio_caching_nothing_is_cached),
		cmocka_unit_test(a_table_gives_way_to_a_huge_leaf),
		cmocka_unit_test(a_huge_leaf_is_split_by_an_access_that_it_refuses),
		cmocka_unit_test(a_huge_leaf_serves_a_fault_that_wants_less),
		cmocka_unit_test(address_spaces_have_trees_and_slots_of_their_own),
		cmocka_unit_test(ept_memory_types_follow_pat_policy_device_and_dma),
		cmocka_unit_test(what_the_backing_answers_decides_the_outcome),
		cmocka_unit_test(nonsense_from_the_backing_maps_nothing),
		cmocka_unit_test(impossible_faults_are_refused),
		cmocka_unit_test(a_vcpu_without_roots_retries),
		cmocka_unit_test(a_private_fault_maps_the_mirror_and_the_external_table),
		cmocka_unit_test(private_and_shared_must_agree_with_the_attribute),
		cmocka_unit_test(private_memory_without_anything_behind_it_is_a_memory_fault),
		cmocka_unit_test(shared_mmio_of_a_td_lets_the_guest_have_its_ve),
		cmocka_unit_test(a_vm_with_private_memory_by_attribute_maps_both_in_one_tree),
		cmocka_unit_test(what_changes_while_the_backing_is_asked_is_noticed),
		cmocka_unit_test(during_an_invalidation_faults_on_its_pages_retry),
		cmocka_unit_test(every_allocation_of_a_fault_fails_once_and_nothing_changes),
	};

	return cmocka_run_group_tests_name("fault", tests, NULL, NULL);
}
