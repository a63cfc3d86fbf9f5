// SPDX-License-Identifier: BSD-2-Clause
/* Which SEAMCALLs each step makes, on which LP, with which operands; counts agree with them. */
#include "tests/host/fake.h"

#define OPS (&tdx_external_ops)

static const struct fake_call *find_call(const struct fake *f, unsigned int leaf)
{
	for (unsigned int i = 0; i < f->calls; i++)
		if (f->call[i].leaf == leaf)
			return &f->call[i];
	fail_msg("no %s", tdx_leaf_name(leaf));
	return NULL;
}

static void test_creates_a_td(void **state)
{
	struct fake *f = fake_create();
	struct tdx_td *td = fake_td(f);
	const struct tdx_td_params *p;

	(void)state;
	FAKE_EXPECT(f, 0, TDH_MNG_CREATE, TDH_MNG_KEY_CONFIG, TDH_MNG_KEY_CONFIG, TDH_MNG_ADDCX,
		    TDH_MNG_ADDCX, TDH_MNG_ADDCX, TDH_MNG_ADDCX, TDH_MNG_ADDCX, TDH_MNG_ADDCX,
		    TDH_MNG_INIT);
	assert_int_equal(f->call[0].rcx, FAKE_TDR);
	assert_int_equal(f->call[0].rdx, FAKE_HKID);
	assert_int_equal(f->call[1].lp, 2);
	assert_int_equal(f->call[2].lp, 3);
	assert_int_equal(f->call[3].lp, FAKE_HOST_LP);
	assert_int_equal(f->call[3].rcx, FAKE_TDR + 4096);
	assert_int_equal(f->call[3].rdx, FAKE_TDR);
	assert_int_equal(f->call[9].rcx, FAKE_TDR);
	p = fake_page_ptr(f, (tpt_hpa){f->call[9].rdx});
	assert_int_equal(p->eptp_controls, 0x1e);
	assert_int_equal(p->xfam, 3);
	assert_int_equal(p->max_vcpus, 4);
	assert_int_equal(p->tsc_frequency, 100);
	assert_int_equal(p->config_flags, 0);
	/* TDR and TDCS; the page of parameters came back. */
	assert_int_equal(f->pages_live, 7);
	assert_int_equal(fake_stats(f).own_pages, 7);
	assert_int_equal(tdx_td_state(td), TDX_TD_BUILDING);
	assert_int_equal(tdx_td_shared_bit(td), 47);
	tdx_td_free(td);
	assert_int_equal(f->pages_live, 0);
	fake_destroy(f);
}

static void test_creates_a_vcpu(void **state)
{
	struct fake *f = fake_create();
	struct tdx_td *td = fake_td(f);
	struct tdx_vcpu *vcpu;

	(void)state;
	assert_int_equal(tdx_vcpu_create(td, 0x77, &vcpu), 0);
	FAKE_EXPECT(f, FAKE_TD_CALLS, TDH_VP_CREATE, TDH_VP_ADDCX, TDH_VP_ADDCX, TDH_VP_ADDCX,
		    TDH_VP_ADDCX, TDH_VP_ADDCX, TDH_VP_INIT);
	assert_int_equal(f->call[10].rdx, FAKE_TDR);
	assert_int_equal(f->call[11].rdx, tdx_vcpu_tdvpr(vcpu).a);
	assert_int_equal(f->call[16].rcx, tdx_vcpu_tdvpr(vcpu).a);
	assert_int_equal(f->call[16].rdx, 0x77);
	assert_int_equal(tdx_vcpu_lp(vcpu), FAKE_HOST_LP);
	tdx_td_free(td);
	fake_destroy(f);
}

static void test_link_and_map_name_the_entry_and_write_back(void **state)
{
	struct fake *f = fake_create();
	struct tdx_vcpu *vcpu;
	struct tdx_td *td = fake_runnable(f, &vcpu);

	(void)state;
	assert_int_equal(OPS->link(td, 0x40000, TPT_LEVEL_1G, (tpt_hpa){0x9000}), 0);
	assert_int_equal(f->written_back, 4096);
	assert_int_equal(OPS->map(td, 0x40200, TPT_LEVEL_2M, tpt_pfn_make(0x80000)), 0);
	assert_int_equal(f->written_back, 4096 + (2u << 20));
	FAKE_EXPECT(f, 0, TDH_MEM_SEPT_ADD, TDH_MEM_PAGE_AUG);
	assert_int_equal(f->call[0].rcx, 0x40000000 | 2);
	assert_int_equal(f->call[0].rdx, FAKE_TDR);
	assert_int_equal(f->call[0].r8, 0x9000);
	assert_int_equal(f->call[1].rcx, 0x40200000 | 1);
	assert_int_equal(f->call[1].r8, 0x80000000);
	tdx_td_free(td);
	fake_destroy(f);
}

static void test_removal_of_2m_writes_back_512_pages_under_the_key(void **state)
{
	struct fake *f = fake_create();
	struct tdx_vcpu *vcpu;
	struct tdx_td *td = fake_runnable(f, &vcpu);

	(void)state;
	f->remove_hpa = 0x80000000;
	assert_int_equal(OPS->block(td, 0x200, TPT_LEVEL_2M), 0);
	assert_int_equal(OPS->track(td), 0);
	assert_int_equal(OPS->remove(td, 0x200, TPT_LEVEL_2M, tpt_pfn_make(0x80000)), 0);
	assert_int_equal(f->calls, 3 + 512);
	assert_int_equal(f->call[0].leaf, TDH_MEM_RANGE_BLOCK);
	assert_int_equal(f->call[0].rcx, 0x200000 | 1);
	assert_int_equal(f->call[1].leaf, TDH_MEM_TRACK);
	assert_int_equal(f->call[1].rcx, FAKE_TDR);
	assert_int_equal(f->call[2].leaf, TDH_MEM_PAGE_REMOVE);
	assert_int_equal(f->call[3].leaf, TDH_PHYMEM_PAGE_WBINVD);
	assert_int_equal(f->call[3].rcx, 0x80000000 | (uint64_t)FAKE_HKID << FAKE_HKID_BIT);
	assert_int_equal(f->call[514].rcx, 0x801ff000 | (uint64_t)FAKE_HKID << FAKE_HKID_BIT);
	assert_int_equal(f->cleared, 2u << 20);
	tdx_td_free(td);
	fake_destroy(f);
}

static void test_unblock_is_one_call(void **state)
{
	struct fake *f = fake_create();
	struct tdx_vcpu *vcpu;
	struct tdx_td *td = fake_runnable(f, &vcpu);

	(void)state;
	assert_int_equal(OPS->block(td, 7, TPT_LEVEL_4K), 0);
	assert_int_equal(OPS->unblock(td, 7, TPT_LEVEL_4K), 0);
	FAKE_EXPECT(f, 0, TDH_MEM_RANGE_BLOCK, TDH_MEM_RANGE_UNBLOCK);
	assert_int_equal(f->call[1].rcx, 0x7000);
	tdx_td_free(td);
	fake_destroy(f);
}

static void test_release_flushes_each_vcpu_on_its_own_lp(void **state)
{
	struct fake *f = fake_create();
	struct tdx_td *td = fake_td(f);
	struct tdx_vcpu *a, *b, *idle;

	(void)state;
	f->lp = 0;
	assert_int_equal(tdx_vcpu_create(td, 0, &a), 0);
	f->lp = 3;
	assert_int_equal(tdx_vcpu_create(td, 0, &b), 0);
	assert_int_equal(tdx_vcpu_create(td, 0, &idle), 0);
	assert_int_equal(tdx_vcpu_flush(idle), 0);
	f->lp = FAKE_HOST_LP;
	f->calls = 0;
	assert_int_equal(OPS->release(td), 0);
	FAKE_EXPECT(f, 0, TDH_VP_FLUSH, TDH_VP_FLUSH, TDH_MNG_VPFLUSHDONE, TDH_PHYMEM_CACHE_WB,
		    TDH_PHYMEM_CACHE_WB, TDH_MNG_KEY_FREEID);
	assert_int_equal(f->call[0].lp, 3);
	assert_int_equal(f->call[0].rcx, tdx_vcpu_tdvpr(b).a);
	assert_int_equal(f->call[1].lp, 0);
	assert_int_equal(f->call[1].rcx, tdx_vcpu_tdvpr(a).a);
	assert_int_equal(f->call[3].lp, 2);
	assert_int_equal(f->call[4].lp, 3);
	assert_int_equal(tdx_td_state(td), TDX_TD_RELEASED);
	tdx_td_free(td);
	fake_destroy(f);
}

static void test_an_interrupted_write_back_is_resumed(void **state)
{
	struct fake *f = fake_create();
	struct tdx_td *td = fake_td(f);

	(void)state;
	f->calls = 0;
	fake_answer(f, TDH_PHYMEM_CACHE_WB, 0, 2, TDX_INTERRUPTED_RESUMABLE);
	f->script[1] = (struct fake_script){TDH_PHYMEM_CACHE_WB, 0, 1, TDX_WBCACHE_RESUME_ERROR};
	assert_int_equal(OPS->release(td), 0);
	FAKE_EXPECT(f, 0, TDH_MNG_VPFLUSHDONE, TDH_PHYMEM_CACHE_WB, TDH_PHYMEM_CACHE_WB,
		    TDH_PHYMEM_CACHE_WB, TDH_PHYMEM_CACHE_WB, TDH_PHYMEM_CACHE_WB,
		    TDH_MNG_KEY_FREEID);
	assert_int_equal(f->call[1].rcx, 0);
	assert_int_equal(f->call[2].rcx, 1);
	assert_int_equal(f->call[3].rcx, 1); /* answered: nothing to resume */
	assert_int_equal(f->call[4].rcx, 0);
	assert_int_equal(f->call[4].lp, 2);
	assert_int_equal(f->call[5].lp, 3);
	assert_int_equal(f->call[5].rcx, 0);
	tdx_td_free(td);
	fake_destroy(f);
}

static void test_after_release_a_page_costs_one_reclaim(void **state)
{
	struct fake *f = fake_create();
	struct tdx_vcpu *vcpu;
	struct tdx_td *td = fake_runnable(f, &vcpu);

	(void)state;
	assert_int_equal(OPS->release(td), 0);
	f->calls = 0;
	f->reclaim_size = 1;
	assert_int_equal(OPS->reclaim_leaf(td, 0, TPT_LEVEL_2M, tpt_pfn_make(0x80000)), 0);
	f->reclaim_size = 0;
	assert_int_equal(OPS->free_table(td, 0, TPT_LEVEL_1G, (tpt_hpa){0x9000}), 0);
	FAKE_EXPECT(f, 0, TDH_PHYMEM_PAGE_RECLAIM, TDH_PHYMEM_PAGE_RECLAIM);
	assert_int_equal(f->call[0].rcx, 0x80000000);
	assert_int_equal(f->call[1].rcx, 0x9000);
	assert_int_equal(f->cleared, (2u << 20) + 4096);
	tdx_td_free(td);
	fake_destroy(f);
}

static void test_destroy_takes_the_tdr_last_and_flushes_it_globally(void **state)
{
	struct fake *f = fake_create();
	struct tdx_vcpu *vcpu;
	struct tdx_td *td = fake_runnable(f, &vcpu);
	uint64_t global = (uint64_t)FAKE_GLOBAL << FAKE_HKID_BIT;
	struct tdx_host_stats stats;

	(void)state;
	assert_int_equal(OPS->release(td), 0);
	f->calls = 0;
	assert_int_equal(tdx_td_destroy(td), 0);
	/* 5 TDCX and TDVPR, 6 TDCS pages, TDR. */
	assert_int_equal(f->calls, 6 + 6 + 1 + 1);
	for (int i = 0; i < 13; i++)
		assert_int_equal(f->call[i].leaf, TDH_PHYMEM_PAGE_RECLAIM);
	assert_int_equal(f->call[12].rcx, FAKE_TDR);
	assert_int_equal(f->call[13].leaf, TDH_PHYMEM_PAGE_WBINVD);
	assert_int_equal(f->call[13].rcx, FAKE_TDR | global);
	assert_int_equal(tdx_td_state(td), TDX_TD_DESTROYED);
	assert_int_equal(tdx_td_destroy(td), 0);
	assert_int_equal(f->calls, 14);
	stats = fake_stats(f);
	assert_int_equal(stats.own_pages, 0);
	assert_int_equal(stats.cleared_pages, 13);
	assert_int_equal(stats.leaked_pages, 0);
	assert_int_equal(f->pages_live, 0);
	tdx_td_free(td);
	assert_int_equal(f->calls, 14);
	fake_destroy(f);
}

static void test_a_td_is_tracked_only_once_it_runs(void **state)
{
	struct fake *f = fake_create();
	struct tdx_td *td = fake_td(f);

	(void)state;
	f->calls = 0;
	f->remove_hpa = 0x5000;
	assert_int_equal(OPS->block(td, 1, TPT_LEVEL_4K), 0);
	assert_int_equal(OPS->track(td), 0);
	assert_int_equal(OPS->remove(td, 1, TPT_LEVEL_4K, tpt_pfn_make(5)), 0);
	FAKE_EXPECT(f, 0, TDH_MEM_RANGE_BLOCK, TDH_MEM_PAGE_REMOVE, TDH_PHYMEM_PAGE_WBINVD);
	tdx_td_free(td);
	fake_destroy(f);
}

static void test_a_blocked_page_holds_finalisation_up(void **state)
{
	struct fake *f = fake_create();
	struct tdx_td *td = fake_td(f);

	(void)state;
	assert_int_equal(OPS->block(td, 1, TPT_LEVEL_4K), 0);
	f->calls = 0;
	assert_int_equal(tdx_td_finalize(td), -EBUSY);
	assert_int_equal(f->calls, 0);
	assert_int_equal(OPS->unblock(td, 1, TPT_LEVEL_4K), 0);
	assert_int_equal(tdx_td_finalize(td), 0);
	tdx_td_free(td);
	fake_destroy(f);
}

static void test_enter_and_migrate_keep_the_tie_to_an_lp(void **state)
{
	struct fake *f = fake_create();
	struct tdx_vcpu *vcpu;
	struct tdx_td *td = fake_runnable(f, &vcpu);
	struct tdx_regs regs = {.r10 = 0x1234};

	(void)state;
	f->guest = true;
	assert_int_equal(tdx_vcpu_enter(vcpu, &regs), TDX_ENTER_GUEST);
	assert_int_equal(regs.r10, 0x1234);
	assert_int_equal(f->call[0].rcx, tdx_vcpu_tdvpr(vcpu).a);
	f->lp = 3;
	assert_int_equal(tdx_vcpu_enter(vcpu, &regs), TDX_ENTER_ELSEWHERE);
	assert_int_equal(tdx_vcpu_set_shared_eptp(vcpu, (tpt_hpa){0x7000}), -EXDEV);
	assert_int_equal(f->calls, 1);
	assert_int_equal(tdx_vcpu_migrate(vcpu), 0);
	FAKE_EXPECT(f, 1, TDH_VP_FLUSH);
	assert_int_equal(f->call[1].lp, FAKE_HOST_LP);
	assert_int_equal(tdx_vcpu_lp(vcpu), -1);
	assert_int_equal(tdx_vcpu_set_shared_eptp(vcpu, (tpt_hpa){0x7000}), 0);
	assert_int_equal(f->call[2].leaf, TDH_VP_WR);
	assert_int_equal(f->call[2].rdx, TDX_MD_SHARED_EPT_POINTER);
	assert_int_equal(f->call[2].r8, 0x7000);
	assert_int_equal(f->call[2].lp, 3);
	assert_int_equal(tdx_vcpu_lp(vcpu), 3);
	assert_int_equal(tdx_vcpu_migrate(vcpu), 0);
	assert_int_equal(f->calls, 3);
	assert_int_equal(tdx_vcpu_enter(vcpu, &regs), TDX_ENTER_GUEST);
	assert_int_equal(tdx_vcpu_lp(vcpu), 3);
	tdx_td_free(td);
	fake_destroy(f);
}

static void test_tdmrs_are_initialised_to_their_ends(void **state)
{
	struct fake *f = fake_create();
	const struct tdx_tdmr tdmrs[] = {{{0}, 1ull << 30}, {{1ull << 40}, 1ull << 30}};

	(void)state;
	fake_answer(f, TDH_SYS_TDMR_INIT, 0, 1, TDX_TDMR_ALREADY_INITIALIZED);
	assert_int_equal(tdx_host_init_tdmrs(f->host, tdmrs, 2), 0);
	FAKE_EXPECT(f, 0, TDH_SYS_TDMR_INIT, TDH_SYS_TDMR_INIT);
	assert_int_equal(f->call[1].rcx, 1ull << 40);
	assert_int_equal(find_call(f, TDH_SYS_TDMR_INIT)->rcx, 0);
	fake_destroy(f);
}

static void test_read_describes_each_state(void **state)
{
	static const struct {
		unsigned int sept;
		int err;
		enum tpt_external_kind kind;
	} cases[] = {
		{TDX_SEPT_FREE, 0, TPT_EXTERNAL_NONE},
		{TDX_SEPT_NL_MAPPED, 0, TPT_EXTERNAL_TABLE},
		{TDX_SEPT_MAPPED, 0, TPT_EXTERNAL_LEAF},
		{TDX_SEPT_PENDING, 0, TPT_EXTERNAL_LEAF},
		{TDX_SEPT_BLOCKED, 0, TPT_EXTERNAL_BLOCKED_LEAF},
		{TDX_SEPT_PENDING_BLOCKED, 0, TPT_EXTERNAL_BLOCKED_LEAF},
		{TDX_SEPT_NL_BLOCKED, 0, TPT_EXTERNAL_BLOCKED_TABLE},
		{77, -EIO, TPT_EXTERNAL_NONE},
	};
	struct fake *f = fake_create();
	struct tdx_td *td = fake_td(f);
	struct tpt_external_entry e;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bool leaf = cases[i].kind == TPT_EXTERNAL_LEAF ||
			    cases[i].kind == TPT_EXTERNAL_BLOCKED_LEAF;

		/* A count of accepted pages in the low address bits of a 2 MiB leaf. */
		f->sept_rcx = 0x80000000800070f7;
		f->sept_rdx = 1 | cases[i].sept << 8;
		assert_int_equal(OPS->read(td, 0, TPT_LEVEL_2M, &e), cases[i].err);
		assert_int_equal(e.kind, cases[i].kind);
		assert_int_equal(e.pfn.n, leaf ? 0x80000 : 0);
	}
	fake_answer(f, TDH_MEM_SEPT_RD, 0, 1, TDX_EPT_WALK_FAILED | TDX_OPERAND_RCX);
	assert_int_equal(OPS->read(td, 0, TPT_LEVEL_4K, &e), 0);
	assert_int_equal(e.kind, TPT_EXTERNAL_NONE);
	tdx_td_free(td);
	fake_destroy(f);
}

/* A leaf to a table and back: one call each, again while an interrupt is in the way. */
static void test_sizes_change(void **state)
{
	const tpt_hpa table = {0x7000};
	struct tpt_external_entry e;
	struct fake *f = fake_create();
	struct tdx_vcpu *vcpu;
	struct tdx_td *td = fake_runnable(f, &vcpu);

	(void)state;
	f->promote_hpa = table.a;
	fake_answer(f, TDH_MEM_PAGE_DEMOTE, 0, 3, TDX_INTERRUPTED_RESTARTABLE);
	assert_int_equal(OPS->split(td, 0x400, TPT_LEVEL_2M, table), 0);
	FAKE_EXPECT(f, 0, TDH_MEM_PAGE_DEMOTE, TDH_MEM_PAGE_DEMOTE, TDH_MEM_PAGE_DEMOTE,
		    TDH_MEM_PAGE_DEMOTE);
	assert_int_equal(f->call[3].rcx, 0x400001);
	assert_int_equal(f->call[3].rdx, FAKE_TDR);
	assert_int_equal(f->call[3].r8, table.a);
	assert_int_equal(f->written_back, TPT_PAGE_SIZE);
	fake_answer(f, TDH_MEM_PAGE_DEMOTE, 0, FAKE_FOREVER, TDX_INTERRUPTED_RESTARTABLE);
	assert_int_equal(OPS->split(td, 0x400, TPT_LEVEL_2M, table), -EBUSY);
	fake_answer(f, TDH_MEM_PAGE_DEMOTE, 0, 1, TDX_OPERAND_BUSY);
	assert_int_equal(OPS->split(td, 0x400, TPT_LEVEL_2M, table), -EBUSY);

	f->calls = 0;
	fake_answer(f, TDH_MEM_PAGE_PROMOTE, 0, 1, TDX_INTERRUPTED_RESTARTABLE);
	assert_int_equal(OPS->merge(td, 0x400, TPT_LEVEL_2M, table), 0);
	FAKE_EXPECT(f, 0, TDH_MEM_PAGE_PROMOTE, TDH_MEM_PAGE_PROMOTE, TDH_PHYMEM_PAGE_WBINVD);
	assert_int_equal(f->call[2].rcx, table.a | (uint64_t)FAKE_HKID << FAKE_HKID_BIT);
	assert_int_equal(f->cleared, TPT_PAGE_SIZE);
	fake_answer(f, TDH_MEM_PAGE_PROMOTE, 0, 1, TDX_EPT_INVALID_PROMOTE_CONDITIONS);
	assert_int_equal(OPS->merge(td, 0x400, TPT_LEVEL_2M, table), -EAGAIN);
	assert_int_equal(f->lines, 0);
	f->promote_hpa = 0x8000;
	assert_int_equal(OPS->merge(td, 0x400, TPT_LEVEL_2M, table), -EIO);
	assert_int_equal(fake_stats(f).leaked_pages, 1);
	/* The table's page can't be written back: it is merged outside, and only there. */
	f->promote_hpa = table.a;
	fake_answer(f, TDH_PHYMEM_PAGE_WBINVD, 0, FAKE_FOREVER, TDX_OPERAND_BUSY);
	assert_int_equal(OPS->merge(td, 0x400, TPT_LEVEL_2M, table), -EBUSY);
	assert_int_equal(OPS->read(td, 0x400, TPT_LEVEL_2M, &e), 0);
	assert_int_equal(e.kind, TPT_EXTERNAL_BLOCKED_TABLE);
	assert_int_equal(OPS->unblock(td, 0x400, TPT_LEVEL_2M), -EBUSY);
	f->script[0].times = 0;
	f->calls = 0;
	assert_int_equal(OPS->merge(td, 0x400, TPT_LEVEL_2M, table), 0);
	FAKE_EXPECT(f, 0, TDH_PHYMEM_PAGE_WBINVD);
	tdx_td_free(td);
	fake_destroy(f);
}

static void test_counts_are_the_calls_made(void **state)
{
	struct fake *f = fake_create();
	struct tdx_vcpu *vcpu;
	struct tdx_td *td = fake_td(f);
	struct tdx_host_stats stats;
	uint64_t recorded[TDX_HOST_LEAVES] = {0};

	(void)state;
	fake_answer(f, TDH_VP_ADDCX, 1, 3, TDX_OPERAND_BUSY | TDX_OPERAND_RDX);
	f->script[1] = (struct fake_script){TDH_MEM_SEPT_ADD, 0, 1, TDX_OPERAND_INVALID};
	assert_int_equal(tdx_vcpu_create(td, 0, &vcpu), 0);
	assert_int_equal(OPS->link(td, 0, TPT_LEVEL_2M, (tpt_hpa){0x1000}), -EINVAL);
	stats = fake_stats(f);
	assert_int_equal(stats.leaf[TDH_VP_ADDCX].ok, 5);
	assert_int_equal(stats.leaf[TDH_VP_ADDCX].busy, 3);
	assert_int_equal(stats.leaf[TDH_MEM_SEPT_ADD].failed, 1);
	assert_int_equal(stats.calls, f->calls);
	for (unsigned int i = 0; i < f->calls; i++)
		recorded[f->call[i].leaf]++;
	for (unsigned int i = 0; i < TDX_HOST_LEAVES; i++)
		assert_int_equal(stats.leaf[i].ok + stats.leaf[i].busy + stats.leaf[i].failed,
				 recorded[i]);
	tdx_td_free(td);
	fake_destroy(f);
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(tdx_leaf_name(TDH_MEM_SEPT_ADD), "TDH.MEM.SEPT.ADD");
	assert_null(tdx_leaf_name(42));
	assert_null(tdx_leaf_name(46));
	assert_string_equal(tdx_status_name(TDX_OPERAND_BUSY | TDX_OPERAND_TDR),
			    "TDX_OPERAND_BUSY");
	assert_null(tdx_status_name(0xdead000000000000));
	assert_int_equal(tdx_status_errno(0xdead000000000000), -EIO);
	assert_int_equal(tdx_status_errno(TDX_EXIT_EPT_VIOLATION), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_creates_a_td),
		cmocka_unit_test(test_creates_a_vcpu),
		cmocka_unit_test(test_link_and_map_name_the_entry_and_write_back),
		cmocka_unit_test(test_removal_of_2m_writes_back_512_pages_under_the_key),
		cmocka_unit_test(test_unblock_is_one_call),
		cmocka_unit_test(test_release_flushes_each_vcpu_on_its_own_lp),
		cmocka_unit_test(test_an_interrupted_write_back_is_resumed),
		cmocka_unit_test(test_after_release_a_page_costs_one_reclaim),
		cmocka_unit_test(test_destroy_takes_the_tdr_last_and_flushes_it_globally),
		cmocka_unit_test(test_a_td_is_tracked_only_once_it_runs),
		cmocka_unit_test(test_a_blocked_page_holds_finalisation_up),
		cmocka_unit_test(test_enter_and_migrate_keep_the_tie_to_an_lp),
		cmocka_unit_test(test_tdmrs_are_initialised_to_their_ends),
		cmocka_unit_test(test_read_describes_each_state),
		cmocka_unit_test(test_sizes_change),
		cmocka_unit_test(test_counts_are_the_calls_made),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
