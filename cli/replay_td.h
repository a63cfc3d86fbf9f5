/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `--vm td`: a recorded guest as a TD. What the recorded machine did that a TD can't do, and what a
 * TD does that no recording has, follows fixed rules:
 *
 * - Memory: every range that a memslot of address space 0 ever shows, read-only or not, is private
 *   RAM from the beginning, with frames of its own; nothing is shown twice. Slot changes and
 *   zap-alls are passed over: a deleted slot would take the guest's memory with it.
 * - Built in and measured: the first megabyte, and each page that the guest reads or executes
 *   before it ever writes it: what it finds without having written it, the VMM put there.
 * - All other memory comes by fault: AUG, #VE, ACCEPT.
 * - An address outside of all memory is a device: shared, by #VE and TDG.VP.VMCALL<MMIO>.
 * - System-management mode: a TD has none; its faults are left out.
 * - Writes to ROM, and accesses that were MMIO when they were recorded but are in memory here, are
 *   accesses to memory.
 * - Notifier ranges are delivered to the TD's slots; private memory is beyond their reach.
 * - A window of 2 MiB plays the bounce buffer: the block with most pages that came by fault after
 *   half of the recorded faults; shared until three quarters have been made, then private again.
 *
 * Each write leaves a word that the next read of the page must find.
 */
#ifndef TRIPTYCH_CLI_REPLAY_TD_H
#define TRIPTYCH_CLI_REPLAY_TD_H

#include "cli/replay.h"
#include "cli/td.h"

#define REPLAY_TD_WINDOW ((uint64_t)2 << 20)

/* What the rules above did to recorded faults. */
enum replay_td_rule {
	REPLAY_TD_ROM_WRITE,	 /* a write that the recorded VMM emulated: ROM, here memory */
	REPLAY_TD_MMIO_AS_RAM,	 /* MMIO when it was recorded, memory here */
	REPLAY_TD_WINDOW_ACCESS, /* in the window while it was shared: by the shared bit */
	REPLAY_TD_SHARED_FETCH,	 /* a fetch from a device or the window: left out */
	REPLAY_TD_HIT,		 /* recorded with an answer; here the page was there already */
	REPLAY_TD_RULES,
};

struct replay_td {
	/* From the trace. */
	uint64_t rules[REPLAY_TD_RULES];
	uint64_t slot_changes, zap_alls;
	uint64_t ram_bytes, read_only_bytes;
	/* Ours. */
	uint64_t built, built_first_megabyte; /* pages */
	uint8_t mrtd[48];
	uint64_t window;			      /* address, ~0 if there was none */
	uint64_t window_open_line, window_close_line; /* of the trace; 0: after its end */
	uint64_t window_removed;		      /* private pages that it took */
	uint64_t window_accepts;		      /* pages accepted when it was closed */
	uint64_t window_words; /* words that guest and host passed each other in it */
	uint64_t words_checked, words_wrong;
	uint64_t failed; /* accesses that the host or the guest's own half could not get done */
	char failed_text[REPLAY_WHY_LEN];
	uint64_t audits, audit_findings;
	char audit_text[REPLAY_WHY_LEN];
	/* At the end, before teardown: the external tree, and calls. */
	uint64_t external_mapped, external_pending, external_blocked, external_tables;
	struct simtd_stats stats;
	struct tdx_host_stats host;
	/* After it. */
	struct simtd_remains remains;
	bool torn_down;
};

/* replay_td_screen.c: of a replay with replay_td_ops, whose vm begins with a struct replay_td. */
void replay_td_screen(const struct replay *r, FILE *out);
void replay_td_json(const struct replay *r, FILE *out);

extern const struct replay_vm_ops replay_td_ops;

#endif
