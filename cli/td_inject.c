// SPDX-License-Identifier: BSD-2-Clause
/* The external ops of a simulated TD with failures on purpose in front of them: the owner isn't
 * called where one hits. Decides nothing about when. */
#include "cli/td_internal.h"

_Static_assert(sizeof(struct tpt_external_ops) == 13 * sizeof(void *),
	       "an external op without a failure on purpose");

/* Several threads: a fault's calls. */
static int injected(const struct simtd *td, enum tpt_external_call call)
{
	return inject_external(td->config.inject, call);
}

static int link(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_hpa table)
{
	struct simtd *td = ctx;
	int err = injected(td, TPT_CALL_LINK);

	return err ? err : tdx_external_ops.link(td->tdx, gfn, level, table);
}

static int map(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_pfn pfn)
{
	struct simtd *td = ctx;
	int err = injected(td, TPT_CALL_MAP);

	return err ? err : tdx_external_ops.map(td->tdx, gfn, level, pfn);
}

static int block(void *ctx, tpt_gfn gfn, enum tpt_level level)
{
	struct simtd *td = ctx;
	int err = injected(td, TPT_CALL_BLOCK);

	return err ? err : tdx_external_ops.block(td->tdx, gfn, level);
}

static int unblock(void *ctx, tpt_gfn gfn, enum tpt_level level)
{
	struct simtd *td = ctx;
	int err = injected(td, TPT_CALL_UNBLOCK);

	return err ? err : tdx_external_ops.unblock(td->tdx, gfn, level);
}

static int track(void *ctx)
{
	struct simtd *td = ctx;
	int err = injected(td, TPT_CALL_TRACK);

	return err ? err : tdx_external_ops.track(td->tdx);
}

static int remove_leaf(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_pfn pfn)
{
	struct simtd *td = ctx;
	int err = injected(td, TPT_CALL_REMOVE);

	return err ? err : tdx_external_ops.remove(td->tdx, gfn, level, pfn);
}

static int release(void *ctx)
{
	struct simtd *td = ctx;
	int err = injected(td, TPT_CALL_RELEASE);

	return err ? err : tdx_external_ops.release(td->tdx);
}

static int reclaim_leaf(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_pfn pfn)
{
	struct simtd *td = ctx;
	int err = injected(td, TPT_CALL_RECLAIM_LEAF);

	return err ? err : tdx_external_ops.reclaim_leaf(td->tdx, gfn, level, pfn);
}

static int free_table(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_hpa table)
{
	struct simtd *td = ctx;
	int err = injected(td, TPT_CALL_FREE_TABLE);

	return err ? err : tdx_external_ops.free_table(td->tdx, gfn, level, table);
}

static int read_entry(void *ctx, tpt_gfn gfn, enum tpt_level level,
		      struct tpt_external_entry *entry)
{
	struct simtd *td = ctx;

	return tdx_external_ops.read(td->tdx, gfn, level, entry);
}

static int split(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_hpa table)
{
	struct simtd *td = ctx;
	int err = injected(td, TPT_CALL_SPLIT);

	return err ? err : tdx_external_ops.split(td->tdx, gfn, level, table);
}

static int merge(void *ctx, tpt_gfn gfn, enum tpt_level level, tpt_hpa table)
{
	struct simtd *td = ctx;
	int err = injected(td, TPT_CALL_MERGE);

	return err ? err : tdx_external_ops.merge(td->tdx, gfn, level, table);
}

const struct tpt_external_ops simtd_inject_ops = {
	.size = sizeof(simtd_inject_ops),
	.link = link,
	.map = map,
	.block = block,
	.unblock = unblock,
	.track = track,
	.remove = remove_leaf,
	.release = release,
	.reclaim_leaf = reclaim_leaf,
	.free_table = free_table,
	.read = read_entry,
	.split = split,
	.merge = merge,
};
