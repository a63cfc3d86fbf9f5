// SPDX-License-Identifier: BSD-2-Clause
/* Every SEAMCALL busy once, busy for ever, failing for good: what is answered, kept, given back. */
#include "tests/host/fake.h"

#define OPS  (&tdx_external_ops)
#define HARD (TDX_PAGE_METADATA_INCORRECT | TDX_OPERAND_RCX)
#define BUSY (TDX_OPERAND_BUSY | TDX_OPERAND_TDR)
#define PFN  0x80

/* A whole life on one vCPU, in steps; stops at the first error. *step: how far it came. */
static int live(struct fake *f, unsigned int *step, struct tdx_td **td)
{
	struct tdx_vcpu *vcpu;
	int err = tdx_td_create(f->host, &fake_td_config, td);

	*step = 0;
	if (err)
		return err;
	f->remove_hpa = PFN << 12;
	for (*step = 1; !err && *step <= 10; ++*step)
		switch (*step) {
		case 1:
			err = tdx_vcpu_create(*td, 0, &vcpu);
			break;
		case 2:
			err = tdx_td_finalize(*td);
			break;
		case 3:
			err = tdx_vcpu_set_shared_eptp(vcpu, (tpt_hpa){0x7000});
			break;
		case 4:
			err = OPS->link(*td, 0, TPT_LEVEL_2M, (tpt_hpa){0x9000});
			break;
		case 5:
			err = OPS->map(*td, 0, TPT_LEVEL_4K, tpt_pfn_make(PFN));
			break;
		case 6:
			err = OPS->block(*td, 0, TPT_LEVEL_4K);
			break;
		case 7:
			err = OPS->track(*td);
			break;
		case 8:
			err = OPS->remove(*td, 0, TPT_LEVEL_4K, tpt_pfn_make(PFN));
			break;
		case 9:
			err = OPS->release(*td);
			break;
		case 10:
			err = tdx_td_destroy(*td);
			break;
		}
	return err;
}

static unsigned int calls_of_a_life(void)
{
	struct fake *f = fake_create();
	struct tdx_td *td;
	unsigned int step, calls;

	assert_int_equal(live(f, &step, &td), 0);
	calls = f->calls;
	assert_int_equal(f->pages_live, 0);
	tdx_td_free(td);
	fake_destroy(f);
	return calls;
}

/* Leaf of the @nth call of a life, and how many calls of that leaf came before. */
static unsigned int nth_call(unsigned int nth, int *before)
{
	struct fake *f = fake_create();
	struct tdx_td *td;
	unsigned int step, leaf;

	assert_int_equal(live(f, &step, &td), 0);
	leaf = f->call[nth].leaf;
	*before = 0;
	for (unsigned int i = 0; i < nth; i++)
		*before += f->call[i].leaf == leaf;
	tdx_td_free(td);
	fake_destroy(f);
	return leaf;
}

static bool answers_busy_at_once(unsigned int leaf)
{
	return leaf == TDH_MEM_SEPT_ADD || leaf == TDH_MEM_PAGE_AUG ||
	       leaf == TDH_MEM_RANGE_BLOCK || leaf == TDH_MEM_TRACK || leaf == TDH_MEM_PAGE_REMOVE;
}

static void test_each_call_busy_once(void **state)
{
	unsigned int calls = calls_of_a_life();

	(void)state;
	for (unsigned int nth = 0; nth < calls; nth++) {
		struct fake *f = fake_create();
		struct tdx_td *td = NULL;
		unsigned int step, leaf;
		int before, err;

		leaf = nth_call(nth, &before);
		fake_answer(f, (int)leaf, before, 1, BUSY);
		err = live(f, &step, &td);
		assert_int_equal(err, answers_busy_at_once(leaf) ? -EBUSY : 0);
		assert_int_equal(fake_leaf(f, leaf).busy, 1);
		assert_int_equal(f->lines, 0);
		tdx_td_free(td);
		assert_int_equal(f->pages_live, 0);
		assert_int_equal(fake_stats(f).leaked_pages, 0);
		fake_destroy(f);
	}
}

static void test_each_call_failing_once_leaks_only_what_must(void **state)
{
	unsigned int calls = calls_of_a_life();

	(void)state;
	for (unsigned int nth = 0; nth < calls; nth++) {
		struct fake *f = fake_create();
		struct tdx_td *td = NULL;
		unsigned int step, leaf;
		uint64_t leaked;
		int before;

		leaf = nth_call(nth, &before);
		fake_answer(f, (int)leaf, before, 1, HARD);
		assert_int_equal(live(f, &step, &td), -EIO);
		assert_int_equal(fake_leaf(f, leaf).failed, 1);
		assert_true(f->lines > 0);
		assert_non_null(strstr(f->line, tdx_leaf_name(leaf)));
		tdx_td_free(td);
		/* A page whose lines could not be written back: the guest's, or the TDR's. */
		leaked = leaf == TDH_PHYMEM_PAGE_WBINVD;
		assert_int_equal(fake_stats(f).leaked_pages, leaked);
		assert_int_equal(fake_stats(f).own_pages, 0);
		assert_int_equal(f->pages_live, leaked && nth == calls - 1);
		fake_destroy(f);
	}
}

static void test_patience_has_an_end(void **state)
{
	static const unsigned int leaves[] = {TDH_MNG_CREATE, TDH_MNG_KEY_CONFIG, TDH_MNG_ADDCX,
					      TDH_MNG_INIT,   TDH_VP_CREATE,	  TDH_VP_ADDCX,
					      TDH_VP_INIT,    TDH_MR_FINALIZE,	  TDH_VP_WR};

	(void)state;
	for (size_t i = 0; i < sizeof(leaves) / sizeof(leaves[0]); i++) {
		struct fake *f = fake_create();
		struct tdx_td *td = NULL;
		unsigned int step;

		fake_answer(f, (int)leaves[i], 0, FAKE_FOREVER, BUSY);
		assert_int_equal(live(f, &step, &td), -EBUSY);
		assert_int_equal(fake_leaf(f, leaves[i]).busy, f->config.busy_tries);
		assert_int_equal(f->relaxed, f->config.busy_tries - 1);
		tdx_td_free(td);
		assert_int_equal(f->pages_live, 0);
		fake_destroy(f);
	}
}

static void test_a_td_that_can_not_be_released_leaks_its_pages(void **state)
{
	struct fake *f = fake_create();
	struct tdx_td *td = fake_td(f);

	(void)state;
	fake_answer(f, TDH_MNG_KEY_FREEID, 0, FAKE_FOREVER, TDX_WBCACHE_NOT_COMPLETE);
	assert_int_equal(OPS->release(td), -EBUSY);
	assert_int_equal(tdx_td_state(td), TDX_TD_BUILDING);
	tdx_td_free(td);
	assert_int_equal(f->pages_live, 7);
	assert_int_equal(fake_stats(f).own_pages, 0);
	assert_int_equal(fake_stats(f).leaked_pages, 7);
	assert_int_equal(fake_leaf(f, TDH_PHYMEM_PAGE_RECLAIM).ok, 0);
	fake_destroy(f);
}

static void test_release_goes_on_where_it_stopped(void **state)
{
	struct fake *f = fake_create();
	struct tdx_vcpu *vcpu;
	struct tdx_td *td = fake_runnable(f, &vcpu);

	(void)state;
	f->unreachable = 3;
	assert_int_equal(OPS->release(td), -EIO);
	FAKE_EXPECT(f, 0, TDH_VP_FLUSH, TDH_MNG_VPFLUSHDONE, TDH_PHYMEM_CACHE_WB);
	f->unreachable = 0;
	assert_int_equal(OPS->release(td), 0);
	FAKE_EXPECT(f, 3, TDH_PHYMEM_CACHE_WB, TDH_MNG_KEY_FREEID);
	assert_int_equal(f->call[3].lp, 3);
	tdx_td_free(td);
	fake_destroy(f);
}

static void test_a_write_back_that_freeid_misses_is_made_again(void **state)
{
	struct fake *f = fake_create();
	struct tdx_vcpu *vcpu;
	struct tdx_td *td = fake_runnable(f, &vcpu);

	(void)state;
	fake_answer(f, TDH_MNG_KEY_FREEID, 0, 1, TDX_WBCACHE_NOT_COMPLETE);
	assert_int_equal(OPS->release(td), -EBUSY);
	FAKE_EXPECT(f, 0, TDH_VP_FLUSH, TDH_MNG_VPFLUSHDONE, TDH_PHYMEM_CACHE_WB,
		    TDH_PHYMEM_CACHE_WB, TDH_MNG_KEY_FREEID);
	assert_int_equal(OPS->release(td), 0);
	FAKE_EXPECT(f, 5, TDH_PHYMEM_CACHE_WB, TDH_PHYMEM_CACHE_WB, TDH_MNG_KEY_FREEID);
	tdx_td_free(td);
	assert_int_equal(fake_stats(f).leaked_pages, 0);
	fake_destroy(f);
}

/* A runnable TD with one page, removed as far as its write-back, which fails with @status. */
static struct tdx_td *td_with_stray(struct fake *f, uint64_t status, int answer)
{
	struct tdx_vcpu *vcpu;
	struct tdx_td *td = fake_runnable(f, &vcpu);

	f->remove_hpa = PFN << 12;
	assert_int_equal(OPS->map(td, 0, TPT_LEVEL_4K, tpt_pfn_make(PFN)), 0);
	assert_int_equal(OPS->block(td, 0, TPT_LEVEL_4K), 0);
	assert_int_equal(OPS->track(td), 0);
	fake_answer(f, TDH_PHYMEM_PAGE_WBINVD, 0, answer == -EBUSY ? (int)f->config.busy_tries : 1,
		    status);
	assert_int_equal(OPS->remove(td, 0, TPT_LEVEL_4K, tpt_pfn_make(PFN)), answer);
	return td;
}

static void test_a_page_that_is_not_written_back_is_blocked_until_it_is(void **state)
{
	struct fake *f = fake_create();
	struct tdx_td *td = td_with_stray(f, BUSY, -EBUSY);
	struct tpt_external_entry entry;
	uint64_t cleared = f->cleared;

	(void)state;
	assert_int_equal(OPS->read(td, 0, TPT_LEVEL_4K, &entry), 0);
	assert_int_equal(entry.kind, TPT_EXTERNAL_BLOCKED_LEAF);
	assert_int_equal(entry.pfn.n, PFN);
	assert_int_equal(OPS->remove(td, 0, TPT_LEVEL_4K, tpt_pfn_make(PFN)), 0);
	assert_int_equal(f->cleared, cleared + 4096);
	assert_int_equal(fake_leaf(f, TDH_MEM_PAGE_REMOVE).ok, 1);
	tdx_td_free(td);
	assert_int_equal(fake_stats(f).leaked_pages, 0);
	fake_destroy(f);
}

static void test_a_page_that_never_is_comes_back_after_release(void **state)
{
	struct fake *f = fake_create();
	struct tdx_td *td = td_with_stray(f, HARD, -EIO);

	(void)state;
	assert_int_equal(OPS->unblock(td, 0, TPT_LEVEL_4K), -EIO);
	assert_int_equal(fake_leaf(f, TDH_MEM_RANGE_UNBLOCK).ok, 0);
	assert_int_equal(OPS->release(td), 0);
	/* The caches were written back, and the module has nothing to reclaim. */
	assert_int_equal(OPS->reclaim_leaf(td, 0, TPT_LEVEL_4K, tpt_pfn_make(PFN)), 0);
	assert_int_equal(fake_leaf(f, TDH_PHYMEM_PAGE_RECLAIM).ok, 0);
	tdx_td_free(td);
	assert_int_equal(fake_stats(f).leaked_pages, 0);
	assert_int_equal(fake_stats(f).unwritten_pages, 0);
	fake_destroy(f);
}

static void test_key_ids_run_out_come_back_and_are_lost(void **state)
{
	struct fake *f = fake_create();
	struct tdx_host_config config = f->config;
	struct tdx_td_config c = fake_td_config;
	struct tdx_host_stats stats;
	struct tdx_td *td[4];
	struct tdx_host *host;

	(void)state;
	config.first_hkid = FAKE_GLOBAL;
	config.nr_hkids = 1;
	assert_int_equal(tdx_host_create(&config, &host), -EINVAL);
	config.first_hkid = 8;
	config.nr_hkids = 3;
	assert_int_equal(tdx_host_create(&config, &host), 0);
	c.hkid = TDX_HKID_ANY;
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(tdx_td_create(host, &c, &td[i]), 0);
		/* The lowest free one, in MNG.CREATE's RDX. */
		assert_int_equal(f->call[f->calls - FAKE_TD_CALLS].rdx, 8 + i);
	}
	assert_int_equal(tdx_td_create(host, &c, &td[3]), -ENOSPC);
	tdx_td_free(td[1]);
	assert_int_equal(tdx_td_create(host, &c, &td[1]), 0);
	assert_int_equal(f->call[f->calls - FAKE_TD_CALLS].rdx, 9);
	/* One that can't be released keeps its key id; one that never was a TD had none. */
	fake_answer(f, TDH_MNG_KEY_FREEID, 0, 1, TDX_LIFECYCLE_STATE_INCORRECT);
	tdx_td_free(td[0]);
	assert_non_null(strstr(f->line, "key id 8 is lost"));
	tdx_td_free(td[2]);
	fake_answer(f, TDH_MNG_CREATE, 0, 1, HARD);
	assert_int_equal(tdx_td_create(host, &c, &td[2]), -EIO);
	tdx_host_get_stats(host, &stats);
	assert_int_equal(stats.used_hkids, 1);
	assert_int_equal(stats.lost_hkids, 1);
	tdx_td_free(td[1]);
	tdx_host_destroy(host);
	fake_destroy(f);
}

static void test_a_flush_of_an_unassociated_vcpu_is_no_error(void **state)
{
	struct fake *f = fake_create();
	struct tdx_vcpu *vcpu;
	struct tdx_td *td = fake_runnable(f, &vcpu);

	(void)state;
	fake_answer(f, TDH_VP_FLUSH, 0, 1, TDX_VCPU_NOT_ASSOCIATED);
	assert_int_equal(OPS->release(td), 0);
	assert_int_equal(f->lines, 0);
	tdx_td_free(td);
	fake_destroy(f);
}

static void test_a_running_vcpu_can_not_be_flushed(void **state)
{
	struct fake *f = fake_create();
	struct tdx_vcpu *vcpu;
	struct tdx_td *td = fake_runnable(f, &vcpu);

	(void)state;
	fake_answer(f, TDH_VP_FLUSH, 0, 1, TDX_OPERAND_BUSY | TDX_OPERAND_RCX);
	assert_int_equal(tdx_vcpu_flush(vcpu), -EBUSY);
	assert_int_equal(f->calls, 1);
	assert_int_equal(tdx_vcpu_lp(vcpu), FAKE_HOST_LP);
	tdx_td_free(td);
	fake_destroy(f);
}

static void test_busy_statuses_of_external_calls(void **state)
{
	static const uint64_t statuses[] = {
		TDX_OPERAND_BUSY | TDX_OPERAND_RCX,
		TDX_OPERAND_BUSY | TDX_OPERAND_RDX,
		TDX_OPERAND_BUSY | TDX_OPERAND_R8,
		TDX_OPERAND_BUSY | TDX_OPERAND_SEPT_TREE,
		TDX_OPERAND_BUSY | TDX_OPERAND_OP_STATE,
		TDX_OPERAND_BUSY | TDX_OPERAND_TD_EPOCH,
		TDX_PREVIOUS_TLB_EPOCH_BUSY,
		TDX_SYS_BUSY,
		TDX_INTERRUPTED_RESUMABLE,
		TDX_INTERRUPTED_RESTARTABLE,
		TDX_OPERAND_BUSY_HOST_PRIORITY,
	};
	struct fake *f = fake_create();
	struct tdx_vcpu *vcpu;
	struct tdx_td *td = fake_runnable(f, &vcpu);

	(void)state;
	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
		f->script[0] = (struct fake_script){TDH_MEM_TRACK, 0, 1, statuses[i]};
		f->script[1] = (struct fake_script){TDH_MEM_PAGE_AUG, 0, 1, statuses[i]};
		assert_int_equal(OPS->track(td), -EBUSY);
		assert_int_equal(OPS->map(td, 0, TPT_LEVEL_4K, tpt_pfn_make(PFN)), -EBUSY);
	}
	assert_int_equal(f->lines, 0);
	assert_int_equal(f->relaxed, 0);
	tdx_td_free(td);
	fake_destroy(f);
}

static void test_missing_tracking_is_an_error_not_a_wait(void **state)
{
	struct fake *f = fake_create();
	struct tdx_vcpu *vcpu;
	struct tdx_td *td = fake_runnable(f, &vcpu);

	(void)state;
	assert_int_equal(OPS->block(td, 0, TPT_LEVEL_4K), 0);
	fake_answer(f, TDH_MEM_PAGE_REMOVE, 0, 1, TDX_TLB_TRACKING_NOT_DONE | TDX_OPERAND_RCX);
	assert_int_equal(OPS->remove(td, 0, TPT_LEVEL_4K, tpt_pfn_make(PFN)), -EIO);
	assert_non_null(strstr(f->line, "TDX_TLB_TRACKING_NOT_DONE"));
	assert_int_equal(f->cleared, 0);
	tdx_td_free(td);
	fake_destroy(f);
}

static void test_a_wrong_page_is_not_given_out(void **state)
{
	struct fake *f = fake_create();
	struct tdx_vcpu *vcpu;
	struct tdx_td *td = fake_runnable(f, &vcpu);

	(void)state;
	f->remove_hpa = 0x123000;
	assert_int_equal(OPS->block(td, 0, TPT_LEVEL_4K), 0);
	assert_int_equal(OPS->remove(td, 0, TPT_LEVEL_4K, tpt_pfn_make(PFN)), -EIO);
	assert_int_equal(f->cleared, 0);
	assert_int_equal(fake_stats(f).leaked_pages, 1);
	assert_int_equal(OPS->release(td), 0);
	f->reclaim_size = 1;
	assert_int_equal(OPS->reclaim_leaf(td, 0, TPT_LEVEL_4K, tpt_pfn_make(PFN)), -EIO);
	assert_int_equal(f->cleared, 0);
	assert_int_equal(fake_stats(f).leaked_pages, 2);
	f->reclaim_size = 0;
	tdx_td_free(td);
	fake_destroy(f);
}

static void test_entropy_is_waited_for_ten_times(void **state)
{
	struct fake *f = fake_create();
	struct tdx_vcpu *vcpu;
	struct tdx_td *td = fake_runnable(f, &vcpu);

	(void)state;
	fake_answer(f, TDH_MEM_PAGE_AUG, 0, 9, TDX_RND_NO_ENTROPY);
	assert_int_equal(OPS->map(td, 0, TPT_LEVEL_4K, tpt_pfn_make(PFN)), 0);
	assert_int_equal(f->calls, 10);
	fake_answer(f, TDH_MEM_PAGE_AUG, 0, FAKE_FOREVER, TDX_RND_NO_ENTROPY);
	assert_int_equal(OPS->map(td, 0, TPT_LEVEL_4K, tpt_pfn_make(PFN)), -EBUSY);
	assert_int_equal(f->calls, 20);
	assert_int_equal(fake_leaf(f, TDH_MEM_PAGE_AUG).busy, 19);
	assert_int_equal(fake_leaf(f, TDH_MEM_PAGE_AUG).ok, 1);
	tdx_td_free(td);
	fake_destroy(f);
}

static void test_wrong_states_are_refused_without_a_call(void **state)
{
	struct fake *f = fake_create();
	struct tdx_vcpu *vcpu, *other;
	struct tdx_td *td = fake_td(f);
	struct tdx_regs regs = {0};
	struct tpt_external_entry e;

	(void)state;
	assert_int_equal(tdx_vcpu_create(td, 0, &vcpu), 0);
	f->calls = 0;
	assert_int_equal(OPS->map(td, 0, TPT_LEVEL_4K, tpt_pfn_make(PFN)), -EPERM);
	assert_int_equal(OPS->reclaim_leaf(td, 0, TPT_LEVEL_4K, tpt_pfn_make(PFN)), -EPERM);
	assert_int_equal(OPS->free_table(td, 0, TPT_LEVEL_2M, (tpt_hpa){0x9000}), -EPERM);
	assert_int_equal(tdx_vcpu_enter(vcpu, &regs), TDX_ENTER_REFUSED);
	assert_non_null(strstr(f->line, "BUILDING"));
	assert_int_equal(f->calls, 0);

	assert_int_equal(tdx_td_finalize(td), 0);
	assert_int_equal(f->calls, 1);
	assert_int_equal(tdx_td_finalize(td), -EPERM);
	assert_int_equal(tdx_vcpu_create(td, 0, &other), -EPERM);
	assert_int_equal(tdx_td_add_page(td, NULL, tpt_gpa_make(0), (tpt_hpa){0}, true), -EPERM);
	assert_int_equal(f->calls, 1);

	assert_int_equal(OPS->release(td), 0);
	f->calls = 0;
	assert_int_equal(OPS->release(td), 0);
	assert_int_equal(OPS->link(td, 0, TPT_LEVEL_2M, (tpt_hpa){0x9000}), -EPERM);
	assert_int_equal(OPS->map(td, 0, TPT_LEVEL_4K, tpt_pfn_make(PFN)), -EPERM);
	assert_int_equal(OPS->block(td, 0, TPT_LEVEL_4K), -EPERM);
	assert_int_equal(OPS->unblock(td, 0, TPT_LEVEL_4K), -EPERM);
	assert_int_equal(OPS->track(td), -EPERM);
	assert_int_equal(OPS->remove(td, 0, TPT_LEVEL_4K, tpt_pfn_make(PFN)), -EPERM);
	assert_int_equal(OPS->read(td, 0, TPT_LEVEL_4K, &e), -EPERM);
	assert_int_equal(tdx_vcpu_flush(vcpu), -EPERM);
	assert_int_equal(tdx_vcpu_enter(vcpu, &regs), TDX_ENTER_REFUSED);
	assert_non_null(strstr(f->line, "RELEASED"));
	assert_int_equal(f->calls, 0);
	tdx_td_free(td);
	fake_destroy(f);
}

static void test_no_page_no_td(void **state)
{
	(void)state;
	/* TDR, six TDCS pages, parameters. */
	for (unsigned int nth = 1; nth <= 8; nth++) {
		struct fake *f = fake_create();
		struct tdx_td *td;

		f->page_fail = nth;
		assert_int_equal(tdx_td_create(f->host, &fake_td_config, &td), -ENOMEM);
		assert_int_equal(f->pages_live, 0);
		assert_int_equal(fake_stats(f).leaked_pages, 0);
		fake_destroy(f);
	}
}

static void expect_refused(struct fake *f, const struct tdx_td_config *config, const char *why)
{
	struct tdx_td *td;

	assert_int_equal(tdx_td_create(f->host, config, &td), -EINVAL);
	assert_non_null(strstr(f->line, why));
	assert_int_equal(f->calls, 0);
}

static void test_bad_configurations(void **state)
{
	struct fake *f = fake_create();
	struct tdx_td_config c = fake_td_config;
	struct tdx_host_config h;
	struct tdx_host *host;

	(void)state;
	c.levels = 3;
	expect_refused(f, &c, "levels");
	c = fake_td_config;
	c.gpaw52 = true;
	expect_refused(f, &c, "gpaw52");
	c = fake_td_config;
	c.max_vcpus = 0;
	expect_refused(f, &c, "max_vcpus");
	c = fake_td_config;
	c.hkid = 64;
	expect_refused(f, &c, "hkid");
	c = fake_td_config;
	c.size--;
	expect_refused(f, &c, "size");

	h = f->config;
	h.nr_packages = 9;
	assert_int_equal(tdx_host_create(&h, &host), -EINVAL);
	assert_non_null(strstr(f->line, "nr_packages"));
	h = f->config;
	h.package_lp[1] = FAKE_LPS;
	assert_int_equal(tdx_host_create(&h, &host), -EINVAL);
	assert_non_null(strstr(f->line, "package_lp"));
	h = f->config;
	h.clear = NULL;
	assert_int_equal(tdx_host_create(&h, &host), -EINVAL);
	fake_destroy(f);
}

static void test_a_key_id_in_use(void **state)
{
	struct fake *f = fake_create();
	struct tdx_td *td;

	(void)state;
	fake_answer(f, TDH_MNG_CREATE, 0, 1, TDX_HKID_NOT_FREE);
	assert_int_equal(tdx_td_create(f->host, &fake_td_config, &td), -EEXIST);
	assert_int_equal(f->calls, 1);
	assert_int_equal(f->pages_live, 0);
	fake_destroy(f);
}

static void test_an_lp_that_is_not_there(void **state)
{
	struct fake *f = fake_create();
	struct tdx_vcpu *vcpu;
	struct tdx_td *td = fake_runnable(f, &vcpu);
	struct tdx_regs regs = {0};

	(void)state;
	f->lp = FAKE_LPS;
	assert_int_equal(OPS->track(td), -EINVAL);
	assert_int_equal(tdx_vcpu_enter(vcpu, &regs), TDX_ENTER_ELSEWHERE);
	assert_int_equal(f->calls, 0);
	f->lp = FAKE_HOST_LP;
	tdx_td_free(td);
	fake_destroy(f);
}

static void test_entries_are_classified(void **state)
{
	static const struct {
		uint64_t rax;
		enum tdx_enter result;
	} cases[] = {
		{TDX_EXIT_EPT_VIOLATION, TDX_ENTER_EXIT},
		{TDX_OPERAND_BUSY | TDX_OPERAND_TD_EPOCH, TDX_ENTER_BUSY},
		{TDX_OPERAND_BUSY | TDX_OPERAND_SEPT_TREE, TDX_ENTER_BUSY},
		{TDX_HOST_PRIORITY_BUSY_TIMEOUT, TDX_ENTER_BUSY},
		{TDX_CROSS_TD_TRAP, TDX_ENTER_BUSY},
		{TDX_NON_RECOVERABLE_VCPU | 2, TDX_ENTER_VCPU_DEAD},
		{TDX_NON_RECOVERABLE_TD, TDX_ENTER_TD_DEAD},
		{TDX_NON_RECOVERABLE_TD_WRONG_APIC_MODE, TDX_ENTER_TD_DEAD},
		{TDX_TD_FATAL, TDX_ENTER_TD_DEAD},
		{TDX_VCPU_STATE_INCORRECT, TDX_ENTER_REFUSED},
		/* Our own books say that it is here: migrating would help nobody. */
		{TDX_VCPU_ASSOCIATED, TDX_ENTER_REFUSED},
	};
	struct fake *f = fake_create();
	struct tdx_vcpu *vcpu;
	struct tdx_td *td = fake_runnable(f, &vcpu);

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct tdx_regs regs = {0};
		unsigned int lines = f->lines;

		fake_answer(f, TDH_VP_ENTER, 0, 1, cases[i].rax);
		assert_int_equal(tdx_vcpu_enter(vcpu, &regs), cases[i].result);
		assert_int_equal(f->lines, lines + (cases[i].result >= TDX_ENTER_VCPU_DEAD));
	}
	tdx_td_free(td);
	fake_destroy(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_call_busy_once),
		cmocka_unit_test(test_each_call_failing_once_leaks_only_what_must),
		cmocka_unit_test(test_patience_has_an_end),
		cmocka_unit_test(test_a_td_that_can_not_be_released_leaks_its_pages),
		cmocka_unit_test(test_release_goes_on_where_it_stopped),
		cmocka_unit_test(test_a_write_back_that_freeid_misses_is_made_again),
		cmocka_unit_test(test_a_page_that_is_not_written_back_is_blocked_until_it_is),
		cmocka_unit_test(test_a_page_that_never_is_comes_back_after_release),
		cmocka_unit_test(test_key_ids_run_out_come_back_and_are_lost),
		cmocka_unit_test(test_a_flush_of_an_unassociated_vcpu_is_no_error),
		cmocka_unit_test(test_a_running_vcpu_can_not_be_flushed),
		cmocka_unit_test(test_busy_statuses_of_external_calls),
		cmocka_unit_test(test_missing_tracking_is_an_error_not_a_wait),
		cmocka_unit_test(test_a_wrong_page_is_not_given_out),
		cmocka_unit_test(test_entropy_is_waited_for_ten_times),
		cmocka_unit_test(test_wrong_states_are_refused_without_a_call),
		cmocka_unit_test(test_no_page_no_td),
		cmocka_unit_test(test_bad_configurations),
		cmocka_unit_test(test_a_key_id_in_use),
		cmocka_unit_test(test_an_lp_that_is_not_there),
		cmocka_unit_test(test_entries_are_classified),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
