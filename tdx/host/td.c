// SPDX-License-Identifier: BSD-2-Clause
/* A TD from MNG.CREATE to the reclaim of its TDR. Its key's end is release.c's, its tree
 * external.c's. */
#include "tdx/host/internal.h"

#include <stdlib.h>
#include <string.h>

#define XFAM_DEFAULT	      3ull /* x87, SSE: the least that a TD can have */
#define TSC_FREQUENCY_DEFAULT 100  /* 2.5 GHz */
#define EXTEND_BYTES	      256  /* that one MR.EXTEND measures */

enum tdx_td_state tdx_td_state(const struct tdx_td *td)
{
	return td_state(td);
}

tpt_hpa tdx_td_tdr(const struct tdx_td *td)
{
	return (tpt_hpa){td->tdr};
}

unsigned int tdx_td_shared_bit(const struct tdx_td *td)
{
	return td->shared_bit;
}

/* -- Creation -- */

struct on_package {
	struct tdx_td *td;
	unsigned int lp;
	int err;
};

static void config_key(void *arg)
{
	struct on_package *p = arg;
	struct tdx_host *host = p->td->host;
	struct call call = {.leaf = TDH_MNG_KEY_CONFIG, .in.rcx = p->td->tdr};

	p->err = host_call_judge(host, &call, host_call_patient(host, p->lp, &call));
}

static int config_keys(struct tdx_td *td)
{
	const struct tdx_host_config *c = &td->host->config;

	for (unsigned int i = 0; i < c->nr_packages; i++) {
		struct on_package p = {.td = td, .lp = c->package_lp[i]};
		int err = host_run_on(td->host, p.lp, config_key, &p);

		if (err || p.err)
			return err ? err : p.err;
	}
	return 0;
}

static void fill_params(struct tdx_td_params *p, const struct tdx_td_config *c)
{
	memset(p, 0, sizeof(*p));
	p->attributes = c->attributes;
	p->xfam = c->xfam ? c->xfam : XFAM_DEFAULT;
	p->max_vcpus = c->max_vcpus;
	p->eptp_controls = tdx_eptp_controls(c->levels);
	p->config_flags = c->config_flags | (c->gpaw52 ? TDX_CONFIG_GPAW52 : 0);
	p->tsc_frequency = c->tsc_frequency ? c->tsc_frequency : TSC_FREQUENCY_DEFAULT;
	memcpy(p->mrconfigid, c->mrconfigid, sizeof(p->mrconfigid));
	memcpy(p->mrowner, c->mrowner, sizeof(p->mrowner));
	memcpy(p->mrownerconfig, c->mrownerconfig, sizeof(p->mrownerconfig));
}

/* TD_PARAMS stand in a page that stays the host's. */
static int init_td(struct tdx_td *td, const struct tdx_td_config *c)
{
	struct tdx_host *host = td->host;
	struct call call = {.leaf = TDH_MNG_INIT, .in.rcx = td->tdr};
	uint64_t page;
	int err = host_page_get(host, &page);

	if (err)
		return err;
	fill_params(host->config.page_ptr(host->config.ctx, (tpt_hpa){page}), c);
	call.in.rdx = page;
	err = host_call_here_patient(host, &call);
	host_page_put(host, page);
	return err;
}

static int build_td(struct tdx_td *td, const struct tdx_td_config *c)
{
	struct call create = {.leaf = TDH_MNG_CREATE, .in.rdx = td->hkid};
	int err = host_page_donate(td->host, &create, &td->tdr);

	if (!err)
		err = config_keys(td);
	for (unsigned int i = 0; !err && i < NR_TDCS_PAGES; i++) {
		struct call add = {.leaf = TDH_MNG_ADDCX, .in.rdx = td->tdr};

		err = host_page_donate(td->host, &add, &td->tdcs[i]);
	}
	return err ? err : init_td(td, c);
}

static int check_config(struct tdx_host *host, const struct tdx_td_config *c)
{
	const char *why = NULL;

	if (c->size != sizeof(*c))
		why = "size is not that of struct tdx_td_config";
	else if (c->levels != 4 && c->levels != 5)
		why = "levels is neither 4 nor 5";
	else if (c->gpaw52 && c->levels != 5)
		why = "gpaw52 needs 5 levels";
	else if (c->config_flags & TDX_CONFIG_GPAW52)
		why = "config_flags has GPAW52: say gpaw52";
	else if (!c->max_vcpus)
		why = "max_vcpus is 0";
	else if (c->hkid != TDX_HKID_ANY && (uint64_t)c->hkid >> (52 - host->config.hkid_start_bit))
		why = "hkid is wider than the key-id bits";
	if (!why)
		return 0;
	host_log(host, TPT_LOG_ERROR, "tdx_td_create: %s", why);
	return -EINVAL;
}

static struct tdx_td *alloc_td(struct tdx_host *host, const struct tdx_td_config *c)
{
	struct tdx_td *td = calloc(1, sizeof(*td));

	if (!td)
		return NULL;
	td->host = host;
	td->hkid = c->hkid;
	td->shared_bit = c->gpaw52 ? 51 : 47;
	td->tdr = NO_PAGE;
	for (unsigned int i = 0; i < NR_TDCS_PAGES; i++)
		td->tdcs[i] = NO_PAGE;
	atomic_init(&td->state, TDX_TD_BUILDING);
	atomic_init(&td->adding.lp, NO_LP);
	return td;
}

int tdx_td_create(struct tdx_host *host, const struct tdx_td_config *config, struct tdx_td **out)
{
	int err = check_config(host, config);
	struct tdx_td *td;

	if (err)
		return err;
	td = alloc_td(host, config);
	if (!td)
		return -ENOMEM;
	if (config->hkid == TDX_HKID_ANY) {
		err = host_hkid_get(host, &td->hkid);
		td->hkid_is_hosts = !err;
	}
	err = err ? err : build_td(td, config);
	if (err) {
		tdx_td_free(td);
		return err;
	}
	*out = td;
	return 0;
}

/* -- Building -- */

/* Faults until the page is there. The last fault's answer. */
static int fault_in(struct tdx_td *td, struct tpt_vcpu *vcpu, tpt_gpa gpa)
{
	int ret = TPT_RET_PF_RETRY;

	for (unsigned int i = 0; ret == TPT_RET_PF_RETRY && i < td->host->config.busy_tries; i++) {
		struct tpt_fault fault = {
			.gpa = gpa,
			.error_code = TPT_PFERR_WRITE | TPT_PFERR_PRIVATE,
			.prefetch = true,
			.max_level = TPT_LEVEL_4K,
		};

		if (i)
			host_relax(td->host);
		ret = tpt_vcpu_fault(vcpu, &fault);
	}
	return ret;
}

static int measure_page(struct tdx_td *td, uint64_t gpa)
{
	for (uint64_t at = gpa; at < gpa + TPT_PAGE_SIZE; at += EXTEND_BYTES) {
		struct call call = {.leaf = TDH_MR_EXTEND, .in.rcx = at, .in.rdx = td->tdr};
		int err = host_call_here_patient(td->host, &call);

		if (err) {
			td->measurement_broken = true;
			return err == -EBUSY ? -EIO : err;
		}
	}
	return 0;
}

static int add_page(struct tdx_td *td, struct tpt_vcpu *vcpu, tpt_gpa gpa, bool measure)
{
	int ret = fault_in(td, vcpu, gpa);

	switch (ret) {
	case TPT_RET_PF_FIXED:
		return measure ? measure_page(td, gpa.a) : 0;
	case TPT_RET_PF_SPURIOUS:
		return -EEXIST;
	case TPT_RET_PF_RETRY:
		return -EBUSY;
	default:
		return ret < 0 ? ret : -EFAULT;
	}
}

int tdx_td_add_page(struct tdx_td *td, struct tpt_vcpu *vcpu, tpt_gpa gpa, tpt_hpa source,
		    bool measure)
{
	int nobody = NO_LP, err;

	if (td_state(td) != TDX_TD_BUILDING)
		return host_td_refuse(td, "tdx_td_add_page");
	if (gpa.a % TPT_PAGE_SIZE || gpa.a >> td->shared_bit || source.a % TPT_PAGE_SIZE) {
		host_log(td->host, TPT_LOG_ERROR,
			 "tdx_td_add_page: gpa 0x%llx or source 0x%llx is unaligned or not private",
			 (unsigned long long)gpa.a, (unsigned long long)source.a);
		return -EINVAL;
	}
	if (!atomic_compare_exchange_strong(&td->adding.lp, &nobody, (int)host_lp(td->host)))
		return -EBUSY;
	td->adding.gfn = gpa.a >> TPT_PAGE_SHIFT;
	td->adding.source = source.a;
	err = add_page(td, vcpu, gpa, measure);
	atomic_store(&td->adding.lp, NO_LP);
	return err;
}

int tdx_td_finalize(struct tdx_td *td)
{
	struct call call = {.leaf = TDH_MR_FINALIZE, .in.rcx = td->tdr};
	int err;

	if (td_state(td) != TDX_TD_BUILDING)
		return host_td_refuse(td, "tdx_td_finalize");
	if (td->measurement_broken) {
		host_log(td->host, TPT_LOG_ERROR, "tdx_td_finalize: a page is measured in part");
		return -EPERM;
	}
	/* What was blocked without tracking could never be removed from a runnable TD. */
	if (atomic_load(&td->blocked))
		return -EBUSY;
	err = host_call_here_patient(td->host, &call);
	if (!err)
		atomic_store(&td->state, TDX_TD_RUNNABLE);
	return err;
}

/* -- The end -- */

/* Takes back one of the TD's own pages. The module's caches of it were written back at release. */
static int take_back(struct tdx_host *host, uint64_t *page)
{
	int err;

	if (*page == NO_PAGE)
		return 0;
	err = host_page_reclaim(host, *page, TPT_LEVEL_4K);
	if (err)
		return err;
	host_page_clear(host, *page, TPT_PAGE_SIZE);
	host_page_put(host, *page);
	*page = NO_PAGE;
	return 0;
}

static int first_error(int first, int err)
{
	return first ? first : err;
}

static int take_back_vcpu(struct tdx_vcpu *vcpu)
{
	struct tdx_host *host = vcpu->td->host;
	int err = 0;

	for (unsigned int i = 0; i < NR_TDCX_PAGES; i++)
		err = first_error(err, take_back(host, &vcpu->tdcx[i]));
	return first_error(err, take_back(host, &vcpu->tdvpr));
}

static int take_back_children(struct tdx_td *td)
{
	int err = 0;

	for (struct tdx_vcpu *vcpu = td->vcpus; vcpu; vcpu = vcpu->next)
		err = first_error(err, take_back_vcpu(vcpu));
	for (unsigned int i = 0; i < NR_TDCS_PAGES; i++)
		err = first_error(err, take_back(td->host, &td->tdcs[i]));
	return err;
}

/* The module keeps it. */
static void leak_page(struct tdx_host *host, uint64_t *page)
{
	if (*page == NO_PAGE)
		return;
	*page = NO_PAGE;
	atomic_fetch_sub(&host->own_pages, 1);
	atomic_fetch_add(&host->held_pages, 1);
	host_page_leaked(host, 1);
}

/* The module reads and writes the TDR under its own key, so that is whose lines are in the caches.
 */
static int take_back_tdr(struct tdx_td *td)
{
	struct tdx_host *host = td->host;
	struct call call = {.leaf = TDH_PHYMEM_PAGE_RECLAIM, .in.rcx = td->tdr};
	int err = host_call_patient(host, host_lp(host), &call);

	if (err == -ENOTEMPTY) {
		host_log(host, TPT_LOG_WARNING,
			 "TD 0x%llx still has pages: it is not torn down, or some leaked",
			 (unsigned long long)td->tdr);
		return -EBUSY;
	}
	host_call_judge(host, &call, err);
	if (err)
		return err;
	err = host_page_wbinvd(host, td->tdr, TPT_PAGE_SIZE, host->config.global_hkid);
	if (err) {
		td->tdr = NO_PAGE;
		atomic_fetch_sub(&host->own_pages, 1);
		host_page_unwritten(host, 1);
		return -EIO;
	}
	host_page_clear(host, td->tdr, TPT_PAGE_SIZE);
	host_page_put(host, td->tdr);
	td->tdr = NO_PAGE;
	return 0;
}

int tdx_td_destroy(struct tdx_td *td)
{
	int err = 0;

	if (td_state(td) == TDX_TD_DESTROYED)
		return 0;
	if (td->tdr != NO_PAGE)
		err = host_td_release(td);
	if (!err)
		err = take_back_children(td);
	if (!err && td->tdr != NO_PAGE)
		err = take_back_tdr(td);
	/* A TDR that is gone takes its TD along, whatever became of its page. */
	if (td->tdr == NO_PAGE)
		atomic_store(&td->state, TDX_TD_DESTROYED);
	return err;
}

/* A TD that was never created had no use for it; one that isn't released keeps it. */
static void give_up_key(struct tdx_td *td)
{
	if (!td->hkid_is_hosts)
		return;
	if (td->tdr == NO_PAGE)
		host_hkid_put(td->host, td->hkid);
	else
		host_hkid_lost(td->host, td->hkid);
}

void tdx_td_free(struct tdx_td *td)
{
	if (!td)
		return;
	tdx_td_destroy(td);
	give_up_key(td);
	while (td->strays) {
		host_page_unwritten(td->host, tpt_level_pages(td->strays->level));
		host_stray_forget(td, td->strays);
	}
	for (struct tdx_vcpu *vcpu = td->vcpus, *next; vcpu; vcpu = next) {
		next = vcpu->next;
		for (unsigned int i = 0; i < NR_TDCX_PAGES; i++)
			leak_page(td->host, &vcpu->tdcx[i]);
		leak_page(td->host, &vcpu->tdvpr);
		free(vcpu);
	}
	for (unsigned int i = 0; i < NR_TDCS_PAGES; i++)
		leak_page(td->host, &td->tdcs[i]);
	leak_page(td->host, &td->tdr);
	free(td);
}
