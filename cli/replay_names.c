// SPDX-License-Identifier: BSD-2-Clause
/* Names of what a replay counts: sentences for the screen, keys that stay for programs. */
#include "cli/replay.h"

const char *replay_access_name(enum replay_access access)
{
	static const char *const names[REPLAY_ACCESSES] = {"read", "write", "fetch", "guest_walk"};

	return access < REPLAY_ACCESSES ? names[access] : "?";
}

const char *replay_result_name(enum replay_result result)
{
	static const char *const names[REPLAY_RESULTS] = {
		[REPLAY_FIXED] = "fixed",	[REPLAY_MMIO] = "emulate", [REPLAY_RETRY] = "retry",
		[REPLAY_SPURIOUS] = "spurious", [REPLAY_HIT] = "hit",	   [REPLAY_ERROR] = "error",
		[REPLAY_SKIPPED] = "skipped",
	};

	return result < REPLAY_RESULTS ? names[result] : "?";
}

static const struct {
	const char *key, *text;
} skips[REPLAY_SKIPS] = {
	[REPLAY_SKIP_NONE] = {"none", "none"},
	[REPLAY_SKIP_NO_FRAME] = {"no_frame", "the trace tells no frame for the page"},
	[REPLAY_SKIP_BAD_GPA] = {"bad_gpa", "the address is wider than the guest's"},
	[REPLAY_SKIP_BAD_AS] = {"bad_as", "no such address space"},
	[REPLAY_SKIP_UNDECIDED] = {"undecided", "recorded without an answer"},
	[REPLAY_SKIP_NO_PLACE] = {"no_place", "no place in this kind of VM"},
};

const char *replay_skip_name(enum replay_skip skip)
{
	return skip < REPLAY_SKIPS ? skips[skip].text : "?";
}

const char *replay_skip_key(enum replay_skip skip)
{
	return skip < REPLAY_SKIPS ? skips[skip].key : "?";
}

static const struct {
	const char *key, *text;
} flushes[TPT_FLUSH_NR] = {
	[TPT_FLUSH_ZAP_MEMSLOT] = {"zap_memslot", "for a memslot"},
	[TPT_FLUSH_ZAP_NOTIFIER] = {"zap_notifier", "for the host's notifier"},
	[TPT_FLUSH_ZAP_CONVERSION] = {"zap_conversion", "for a conversion"},
	[TPT_FLUSH_ZAP_RANGE] = {"zap_range", "for a range"},
	[TPT_FLUSH_ROOT] = {"root", "of whole roots"},
	[TPT_FLUSH_COLLAPSE] = {"collapse", "for a collapsed table"},
	[TPT_FLUSH_DIRTY_LOG] = {"dirty_log", "for a dirty log"},
	[TPT_FLUSH_PERMISSION] = {"permission", "for a permission"},
	[TPT_FLUSH_NX_RECOVERY] = {"nx_recovery", "for NX recovery"},
};

const char *replay_flush_text(unsigned int reason)
{
	return reason < TPT_FLUSH_NR ? flushes[reason].text : "?";
}

const char *replay_flush_key(unsigned int reason)
{
	return reason < TPT_FLUSH_NR ? flushes[reason].key : "?";
}

static const struct {
	const char *key, *text;
} kicks[TPT_KICK_NR] = {
	[TPT_KICK_TRACK] = {"track", "for a tracking epoch"},
	[TPT_KICK_RETRY] = {"retry", "to get a busy call through"},
	[TPT_KICK_DIRTY_LOG] = {"dirty_log", "for a dirty log"},
	[TPT_KICK_DEAD] = {"dead", "because the VM is dead"},
};

const char *replay_kick_text(unsigned int reason)
{
	return reason < TPT_KICK_NR ? kicks[reason].text : "?";
}

const char *replay_kick_key(unsigned int reason)
{
	return reason < TPT_KICK_NR ? kicks[reason].key : "?";
}
