// SPDX-License-Identifier: BSD-2-Clause
/*
 * The Secure EPT as the library's external table: each function one entry's SEAMCALLs. Decides
 * nothing about when.
 */
#include "tdx/host/internal.h"

#include <inttypes.h>

#define SEPT_HPA 0x000ffffffffff000ull /* RCX 51:12 of a leaf's description */

/* Triptych counts levels from 1, the module from 0; both name the entry that changes. */
static uint64_t page_info(tpt_gfn gfn, enum tpt_level level)
{
	return tdx_page_info(gfn << TPT_PAGE_SHIFT, (unsigned int)level - 1);
}

static uint64_t leaf_bytes(enum tpt_level level)
{
	return tpt_level_pages(level) * TPT_PAGE_SIZE;
}

static struct call mem_call(const struct tdx_td *td, enum tdh_leaf leaf, tpt_gfn gfn,
			    enum tpt_level level)
{
	return (struct call){
		.leaf = leaf,
		.in.rcx = page_info(gfn, level),
		.in.rdx = td->tdr,
	};
}

static int op_link(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_hpa table)
{
	struct tdx_td *td = ctx;
	struct call call = mem_call(td, TDH_MEM_SEPT_ADD, gfn, level);

	if (!td_alive(td))
		return host_td_refuse(td, "link");
	host_page_write_back(td->host, table.a, TPT_PAGE_SIZE);
	call.in.r8 = table.a;
	return host_call_here(td->host, &call);
}

/* Is this the fault that tdx_td_add_page() made, on its own LP? */
static bool is_being_added(const struct tdx_td *td, tpt_gfn gfn)
{
	return atomic_load(&td->adding.lp) == (int)host_lp(td->host) && td->adding.gfn == gfn;
}

static int op_map(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_pfn pfn)
{
	struct tdx_td *td = ctx;
	struct call call = mem_call(td, TDH_MEM_PAGE_AUG, gfn, level);

	if (!td_alive(td))
		return host_td_refuse(td, "map");
	if (td_state(td) == TDX_TD_BUILDING) {
		if (!is_being_added(td, gfn))
			return host_td_refuse(td, "map of a page without content");
		call.leaf = TDH_MEM_PAGE_ADD;
		call.in.r9 = td->adding.source;
	}
	call.in.r8 = tpt_pfn_to_hpa(pfn).a;
	host_page_write_back(td->host, call.in.r8, leaf_bytes(level));
	return host_call_here(td->host, &call);
}

static int op_block(void *ctx, tpt_gfn gfn, enum tpt_level level)
{
	struct tdx_td *td = ctx;
	struct call call = mem_call(td, TDH_MEM_RANGE_BLOCK, gfn, level);
	int err;

	if (!td_alive(td))
		return host_td_refuse(td, "block");
	err = host_call_here(td->host, &call);
	if (err)
		return err;
	if (call.status != TDX_SUCCESS) {
		host_log(td->host, TPT_LOG_WARNING,
			 "gfn 0x%" PRIx64 " level %d was blocked already", gfn, level);
		return 0;
	}
	atomic_fetch_add(&td->blocked, 1);
	return 0;
}

static int op_unblock(void *ctx, tpt_gfn gfn, enum tpt_level level)
{
	struct tdx_td *td = ctx;
	struct call call = mem_call(td, TDH_MEM_RANGE_UNBLOCK, gfn, level);
	const struct stray *stray = host_stray_find(td, gfn, level);
	int err;

	if (!td_alive(td))
		return host_td_refuse(td, "unblock");
	/* There is nothing to go back to; a table was merged, and merge() will say so yet. */
	if (stray)
		return stray->is_table ? -EBUSY : -EIO;
	err = host_call_here(td->host, &call);
	if (!err)
		atomic_fetch_sub(&td->blocked, 1);
	return err;
}

static int op_track(void *ctx)
{
	struct tdx_td *td = ctx;
	struct call call = {.leaf = TDH_MEM_TRACK, .in.rcx = td->tdr};

	if (!td_alive(td))
		return host_td_refuse(td, "track");
	/* Nothing can be cached of a TD that no vCPU has entered; the module checks no epoch then.
	 */
	if (td_state(td) == TDX_TD_BUILDING)
		return 0;
	return host_call_here(td->host, &call);
}

/*
 * The module has let the page go: its lines are written back. Until they are, the entry counts as
 * BLOCKED, and the next remove goes on from here.
 */
static int bring_home(struct tdx_td *td, struct stray *stray)
{
	uint64_t hpa = stray->hpa,
		 bytes = stray->is_table ? TPT_PAGE_SIZE : leaf_bytes(stray->level);
	int err = host_page_wbinvd(td->host, hpa, bytes, td->hkid);

	if (err)
		return err == -EBUSY ? -EBUSY : -EIO;
	host_stray_forget(td, stray);
	host_page_clear(td->host, hpa, bytes);
	return 0;
}

/* A page that the module has just let go. */
static int bring_stray_home(struct tdx_td *td, const struct stray *page)
{
	struct stray *stray = host_stray_add(td, page);

	if (stray)
		return bring_home(td, stray);
	host_page_unwritten(td->host, page->is_table ? 1 : tpt_level_pages(page->level));
	return -EIO;
}

/* The module let go another page than the library's books have. */
static int lose_page(struct tdx_td *td, const struct call *call, tpt_gfn gfn, uint64_t hpa,
		     uint64_t pages)
{
	host_log(td->host, TPT_LOG_ERROR,
		 "gfn 0x%" PRIx64 " had page 0x%" PRIx64 ", not 0x%" PRIx64, gfn, call->out.rcx,
		 hpa);
	host_page_leaked(td->host, pages);
	return -EIO;
}

static int op_remove(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_pfn pfn)
{
	struct tdx_td *td = ctx;
	struct call call = mem_call(td, TDH_MEM_PAGE_REMOVE, gfn, level);
	struct stray *stray = host_stray_find(td, gfn, level);
	uint64_t hpa = tpt_pfn_to_hpa(pfn).a;
	int err;

	if (!td_alive(td))
		return host_td_refuse(td, "remove");
	if (stray)
		return bring_home(td, stray);
	err = host_call_here(td->host, &call);
	if (err)
		return err;
	atomic_fetch_sub(&td->blocked, 1);
	if (call.out.rcx != hpa)
		return lose_page(td, &call, gfn, hpa, tpt_level_pages(level));
	return bring_stray_home(td, &(struct stray){.gfn = gfn, .level = level, .hpa = hpa});
}

/* Tries again at once while the call finds an interrupt waiting: nothing is done then. */
static int call_uninterrupted(struct tdx_host *host, struct call *call)
{
	unsigned int lp = host_lp(host);
	int err = host_call_once(host, lp, call);

	for (unsigned int i = 1; i < host->config.busy_tries &&
				 (call->status & TDX_STATUS_MASK) == TDX_INTERRUPTED_RESTARTABLE;
	     i++) {
		host_relax(host);
		err = host_call_once(host, lp, call);
	}
	return err;
}

static int op_split(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_hpa table)
{
	struct tdx_td *td = ctx;
	struct call call = mem_call(td, TDH_MEM_PAGE_DEMOTE, gfn, level);
	int err;

	if (!td_alive(td))
		return host_td_refuse(td, "split");
	host_page_write_back(td->host, table.a, TPT_PAGE_SIZE);
	call.in.r8 = table.a;
	err = host_call_judge(td->host, &call, call_uninterrupted(td->host, &call));
	if (!err)
		atomic_fetch_sub(&td->blocked, 1);
	return err;
}

static int op_merge(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_hpa table)
{
	struct tdx_td *td = ctx;
	struct call call = mem_call(td, TDH_MEM_PAGE_PROMOTE, gfn, level);
	struct stray *stray = host_stray_find(td, gfn, level);
	int err;

	if (!td_alive(td))
		return host_td_refuse(td, "merge");
	if (stray)
		return bring_home(td, stray);
	err = call_uninterrupted(td->host, &call);
	/* Whether the guest accepted a page is not known here. */
	if ((call.status & TDX_STATUS_MASK) == TDX_EPT_INVALID_PROMOTE_CONDITIONS)
		return -EAGAIN;
	if (host_call_judge(td->host, &call, err))
		return err;
	atomic_fetch_sub(&td->blocked, 1);
	if (call.out.rcx != table.a)
		return lose_page(td, &call, gfn, table.a, 1);
	return bring_stray_home(
		td, &(struct stray){.gfn = gfn, .level = level, .hpa = table.a, .is_table = true});
}

static int op_release(void *ctx)
{
	return host_td_release(ctx);
}

/* No key, no cached line: caches were written back between the last use and the key's end. */
static int reclaim(struct tdx_td *td, uint64_t hpa, enum tpt_level level, const char *what)
{
	int err;

	if (td_state(td) != TDX_TD_RELEASED)
		return host_td_refuse(td, what);
	err = host_page_reclaim(td->host, hpa, level);
	if (!err)
		host_page_clear(td->host, hpa, leaf_bytes(level));
	else if (err != -EBUSY)
		host_page_leaked(td->host, tpt_level_pages(level));
	return err;
}

/* Does the library still take the leaf for one of 512 that are one outside? */
static bool is_merged(const struct tdx_td *td, tpt_gfn gfn, enum tpt_level level)
{
	const struct stray *stray = host_stray_find(td, tpt_gfn_round(gfn, level + 1), level + 1);

	return stray && stray->is_table;
}

static int op_reclaim_leaf(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_pfn pfn)
{
	struct tdx_td *td = ctx;
	struct stray *stray = host_stray_find(td, gfn, level);

	if (is_merged(td, gfn, level))
		return gfn == tpt_gfn_round(gfn, level + 1)
			       ? reclaim(td, tpt_pfn_to_hpa(pfn).a, level + 1, "reclaim_leaf")
			       : 0;
	if (!stray || td_state(td) != TDX_TD_RELEASED)
		return reclaim(td, tpt_pfn_to_hpa(pfn).a, level, "reclaim_leaf");
	/* The module had let it go already, and all caches are written back now. */
	host_stray_forget(td, stray);
	host_page_clear(td->host, tpt_pfn_to_hpa(pfn).a, leaf_bytes(level));
	return 0;
}

static int op_free_table(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_hpa table)
{
	struct tdx_td *td = ctx;
	struct stray *stray = host_stray_find(td, gfn, level);

	if (!stray || td_state(td) != TDX_TD_RELEASED)
		return reclaim(td, table.a, TPT_LEVEL_4K, "free_table");
	host_stray_forget(td, stray);
	host_page_clear(td->host, table.a, TPT_PAGE_SIZE);
	return 0;
}

/* RDX 15:8: state of the entry; RCX: the entry, of a leaf with its HPA. */
static int describe(const struct tdx_td *td, const struct call *call, enum tpt_level level,
		    struct tpt_external_entry *entry)
{
	unsigned int state = tdx_details_state(call->out.rdx);

	switch (state) {
	case TDX_SEPT_FREE:
		return 0;
	case TDX_SEPT_NL_MAPPED:
		entry->kind = TPT_EXTERNAL_TABLE;
		return 0;
	case TDX_SEPT_NL_BLOCKED:
		entry->kind = TPT_EXTERNAL_BLOCKED_TABLE;
		return 0;
	case TDX_SEPT_MAPPED:
	case TDX_SEPT_PENDING:
		entry->kind = TPT_EXTERNAL_LEAF;
		break;
	case TDX_SEPT_BLOCKED:
	case TDX_SEPT_PENDING_BLOCKED:
		entry->kind = TPT_EXTERNAL_BLOCKED_LEAF;
		break;
	default:
		host_log(td->host, TPT_LOG_ERROR, "Secure EPT entry in unexpected state %u", state);
		return -EIO;
	}
	/* The low address bits of a larger leaf may hold the module's count of accepted pages. */
	entry->pfn =
		tpt_pfn_make(tpt_gfn_round((call->out.rcx & SEPT_HPA) >> TPT_PAGE_SHIFT, level));
	return 0;
}

static int op_read(void *ctx, tpt_gfn gfn, enum tpt_level level, struct tpt_external_entry *entry)
{
	struct tdx_td *td = ctx;
	struct call call = mem_call(td, TDH_MEM_SEPT_RD, gfn, level);
	const struct stray *stray;
	int err;

	*entry = (struct tpt_external_entry){.kind = TPT_EXTERNAL_NONE};
	if (!td_alive(td))
		return host_td_refuse(td, "read");
	stray = host_stray_find(td, gfn, level);
	if (stray) {
		entry->kind =
			stray->is_table ? TPT_EXTERNAL_BLOCKED_TABLE : TPT_EXTERNAL_BLOCKED_LEAF;
		if (!stray->is_table)
			entry->pfn = tpt_hpa_to_pfn((tpt_hpa){stray->hpa});
		return 0;
	}
	err = host_call_patient(td->host, host_lp(td->host), &call);
	/* No table leads there. */
	if ((call.status & TDX_STATUS_MASK) == TDX_EPT_WALK_FAILED)
		return 0;
	host_call_judge(td->host, &call, err);
	return err ? err : describe(td, &call, level, entry);
}

const struct tpt_external_ops tdx_external_ops = {
	.size = sizeof(tdx_external_ops),
	.link = op_link,
	.map = op_map,
	.block = op_block,
	.unblock = op_unblock,
	.track = op_track,
	.remove = op_remove,
	.release = op_release,
	.reclaim_leaf = op_reclaim_leaf,
	.free_table = op_free_table,
	.read = op_read,
	.split = op_split,
	.merge = op_merge,
};
