// SPDX-License-Identifier: BSD-2-Clause
/* The doors to protected memory for an embedder: its own accesses, its guest's, the processor's.
 * Never a rule of who sees what. */
#include "tdx/module/lines.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct {
	const char *name, *what;
} kinds[TDX_NR_MEMORY_EVENTS] = {
	[TDX_MEMORY_HOST_WRITE] = {"host write",
				   "key id %u wrote to a TD's page, line 0x%llx of key id %u"},
	[TDX_MEMORY_STALE_POISON] = {"stale poison",
				     "key id %u wrote to line 0x%llx, never cleared since it was "
				     "key id %u's"},
	[TDX_MEMORY_NO_WRITE_BACK] = {"no write-back",
				      "key id %u took line 0x%llx that a cache still has dirty "
				      "under key id %u"},
	[TDX_MEMORY_LATE_WRITE_BACK] = {"late write-back",
					"key id %u's line 0x%llx overwritten by what a cache "
					"still had under key id %u"},
	[TDX_MEMORY_MACHINE_CHECK] = {"machine check",
				      "key id %u read poisoned line 0x%llx of key id %u"},
};

const char *tdx_memory_event_name(enum tdx_memory_event_kind kind)
{
	return kind < TDX_NR_MEMORY_EVENTS ? kinds[kind].name : NULL;
}

int tdx_memory_event_text(const struct tdx_memory_event *event, char *buf, size_t size)
{
	char what[160];

	if (event->kind >= TDX_NR_MEMORY_EVENTS)
		return snprintf(buf, size, "unknown event %d", event->kind);
	snprintf(what, sizeof(what), kinds[event->kind].what, event->by_hkid,
		 (unsigned long long)event->hpa, event->line_hkid);
	return snprintf(buf, size, "%s: page 0x%llx: %s", kinds[event->kind].name,
			(unsigned long long)(event->hpa & ~(PAGE_BYTES - 1)), what);
}

uint64_t tdx_module_memory_events(struct tdx_module *m, enum tdx_memory_event_kind kind)
{
	return kind < TDX_NR_MEMORY_EVENTS ? atomic_load(&m->events[kind]) : 0;
}

/* ---- the host ---- */

static int host_access(struct tdx_module *m, uint64_t pa, void *buf, size_t len, enum line_op op)
{
	unsigned int hkid = pa_hkid(m, pa);

	if (hkid >= m->config.private_hkid_min)
		return -EPERM;
	return lines_access(m, lines_shared_key(m, hkid), pa & ~m->hkid_mask, buf, len, op) ? 0
											    : -EIO;
}

int tdx_module_host_read(struct tdx_module *m, uint64_t pa, void *buf, size_t len)
{
	return host_access(m, pa, buf, len, LINE_LOAD);
}

int tdx_module_host_write(struct tdx_module *m, uint64_t pa, const void *buf, size_t len)
{
	return host_access(m, pa, (void *)buf, len, LINE_STORE);
}

int tdx_module_host_write_lines(struct tdx_module *m, uint64_t pa, const void *buf, size_t len)
{
	if ((pa | len) % LINE_BYTES)
		return -EINVAL;
	return host_access(m, pa, (void *)buf, len, LINE_STORE_FULL);
}

int tdx_module_host_flush(struct tdx_module *m, uint64_t pa, size_t len)
{
	unsigned int hkid = pa_hkid(m, pa);

	if (hkid >= m->config.private_hkid_min)
		return -EPERM;
	lines_flush(m, hkid, pa & ~m->hkid_mask, len);
	return 0;
}

void tdx_module_bus_read(struct tdx_module *m, uint64_t hpa, void *buf, size_t len)
{
	uint8_t *to = buf, line[LINE_BYTES];

	hpa &= ~m->hkid_mask;
	while (len) {
		size_t from = hpa % LINE_BYTES;
		size_t n = LINE_BYTES - from < len ? LINE_BYTES - from : len;

		lines_bus(m, hpa - from, line);
		memcpy(to, line + from, n);
		to += n;
		hpa += n;
		len -= n;
	}
}

/* ---- the guest ---- */

int tdx_module_guest_access(struct tdx_module *m, unsigned int lp, uint64_t hpa, bool is_private,
			    void *buf, size_t len, bool write)
{
	const struct vcpu *vcpu = vcpu_on(m, lp);
	struct mem_key *key;

	if (!vcpu)
		return -ENOENT;
	key = is_private ? vcpu->td->key : lines_shared_key(m, pa_hkid(m, hpa));
	return lines_access(m, key, hpa & ~m->hkid_mask, buf, len, write ? LINE_STORE : LINE_LOAD)
		       ? 0
		       : -EIO;
}

/*
 * The quick answers first. A guest that is in no TD has shared memory only, as the host has it.
 */
enum tdx_port_data memory_port_data(void *module, unsigned int lp, uint64_t hpa, bool is_private,
				    void *buf, size_t len, bool write)
{
	struct tdx_module *m = module;
	const struct vcpu *vcpu = vcpu_on(m, lp);
	struct mem_key *key = NULL;

	if (is_private ? !lines_watched(m) : lines_plain(m, hpa & ~m->hkid_mask))
		return TDX_PORT_BYTES;
	if (is_private)
		key = vcpu ? vcpu->td->key : NULL;
	else
		key = lines_shared_key(m, pa_hkid(m, hpa));
	if (!lines_access(m, key, hpa & ~m->hkid_mask, buf, len, write ? LINE_STORE : LINE_LOAD))
		return TDX_PORT_MACHINE_CHECK;
	return TDX_PORT_DONE;
}

/* ---- inspection ---- */

void tdx_module_view_line(struct tdx_module *m, uint64_t hpa, struct tdx_line_view *view)
{
	lines_view(m, hpa & ~m->hkid_mask, view);
}

static const struct mem_key *key_of(struct tdx_module *m, unsigned int hkid)
{
	if (hkid == m->config.global_hkid)
		return m->global_key;
	if (hkid < m->config.private_hkid_min)
		return lines_shared_key(m, hkid);
	return hkid <= m->config.private_hkid_max ? m->kot[hkid].key : NULL;
}

int tdx_module_view_key(struct tdx_module *m, unsigned int hkid, uint64_t hpa, uint8_t key[64])
{
	const struct mem_key *found = key_of(m, hkid);
	const struct tdmr *tdmr = pamt_tdmr(m, hpa & ~m->hkid_mask);

	if (!found)
		return -ENOENT;
	key_secret(m, found, tdmr ? tdmr->config.package : 0, key);
	return (int)m->config.key_bits;
}
