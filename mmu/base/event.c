// SPDX-License-Identifier: BSD-2-Clause
/* Events as text, in the form of the kernel's own lines. Never decides when one happens. */
#include "mmu/base/base.h"

const char *tpt_external_call_name(enum tpt_external_call call)
{
	static const char *const names[TPT_CALL_NR] = {
		[TPT_CALL_LINK] = "link",
		[TPT_CALL_MAP] = "map",
		[TPT_CALL_BLOCK] = "block",
		[TPT_CALL_UNBLOCK] = "unblock",
		[TPT_CALL_TRACK] = "track",
		[TPT_CALL_REMOVE] = "remove",
		[TPT_CALL_SPLIT] = "split",
		[TPT_CALL_MERGE] = "merge",
		[TPT_CALL_RELEASE] = "release",
		[TPT_CALL_RECLAIM_LEAF] = "reclaim_leaf",
		[TPT_CALL_FREE_TABLE] = "free_table",
	};

	return (unsigned int)call < TPT_CALL_NR ? names[call] : "?";
}

/* Role bits that the text names: KVM's kvm_mmu_page_role. */
static size_t format_page(const struct tpt_event *e, const char *event, const char *tail,
			  char *text, size_t size)
{
	return text_format(text, size,
			   "%s: sp gen 0 gfn %lx l%u 8-byte q0%s wux nxe %sad root 0 sync%s", event,
			   e->gfn, e->level, e->role & 1u << 7 ? " direct" : "",
			   e->role & 1u << 16 ? "!" : "", tail);
}

size_t tpt_event_format(const struct tpt_event *e, char *text, size_t size)
{
	switch (e->kind) {
	case TPT_EVENT_PAGE_FAULT:
		return text_format(
			text, size,
			"kvm_page_fault: vcpu %d rip 0x0 address 0x%016lx error_code 0x%lx",
			e->vcpu, e->gpa.a, e->error_code);
	case TPT_EVENT_SPTE_CHANGED:
	case TPT_EVENT_MIRROR_CHANGED:
		return text_format(text, size,
				   "%s: as id %u gfn %lx level %u old_spte %lx new_spte %lx",
				   e->kind == TPT_EVENT_SPTE_CHANGED ? "kvm_tdp_mmu_spte_changed"
								     : "tpt_mirror_spte_changed",
				   e->as_id, e->gfn, e->level, e->old_spte.w, e->new_spte.w);
	case TPT_EVENT_GET_PAGE:
		return format_page(e, "kvm_mmu_get_page", " new", text, size);
	case TPT_EVENT_PREPARE_ZAP_PAGE:
		return format_page(e, "kvm_mmu_prepare_zap_page", "", text, size);
	case TPT_EVENT_ZAP_ALL_FAST:
		return text_format(text, size,
				   "kvm_mmu_zap_all_fast: kvm-mmu-valid-gen %u used_pages 0",
				   e->generation);
	case TPT_EVENT_MARK_MMIO:
		return text_format(text, size, "mark_mmio_spte: sptep:0 gfn %lx access %x gen %x",
				   e->gfn, e->access, e->generation);
	case TPT_EVENT_UNMAP_HVA:
		return text_format(
			text, size,
			"kvm_unmap_hva_range: mmu notifier unmap range: %#016lx -- %#016lx",
			e->start.a, e->end.a);
	case TPT_EVENT_AGE_HVA:
		return text_format(text, size,
				   "kvm_age_hva: mmu notifier age hva: %#016lx -- %#016lx",
				   e->start.a, e->end.a);
	case TPT_EVENT_TEST_AGE_HVA:
		return text_format(text, size,
				   "kvm_test_age_hva: mmu notifier test age hva: %#016lx",
				   e->start.a);
	case TPT_EVENT_EXTERNAL:
		return text_format(text, size, "tpt_external: %s gfn %lx level %u result %d",
				   tpt_external_call_name((enum tpt_external_call)e->call), e->gfn,
				   e->level, e->result);
	case TPT_EVENT_FLUSH:
		return text_format(text, size, "tpt_flush: reason %u as id %u gfn %lx", e->call,
				   e->as_id, e->gfn);
	}
	return text_format(text, size, "?");
}
