// SPDX-License-Identifier: BSD-2-Clause
/* How a VM speaks to its platform, and how it dies. Never decides that it must. */
#include "mmu/base/base.h"

static void log_text(struct vm_base *base, enum tpt_log_level level, const char *text)
{
	if (base->platform->log)
		base->platform->log(base->platform_ctx, level, text);
}

void vm_die(struct vm_base *base, const char *format, ...)
{
	char text[REPORT_SIZE];
	va_list list;
	uint32_t no = 0;

	va_start(list, format);
	text_vformat(text, sizeof(text), format, list);
	va_end(list);

	/* 0 alive, 1 the report is being written, 2 dead: readers see the report only when whole.
	 */
	if (atomic_compare_exchange_strong(&base->dead, &no, 1)) {
		for (size_t i = 0; i < REPORT_SIZE; i++) {
			base->report[i] = text[i];
			if (!text[i])
				break;
		}
		atomic_store_explicit(&base->dead, 2, memory_order_release);
		/* No fault asks whether the VM is dead: its vCPU's roots are not good any more. */
		atomic_fetch_add_explicit(&base->roots, 1, memory_order_release);
	}
	log_text(base, TPT_LOG_ERROR, text);
}

void vm_log(struct vm_base *base, enum tpt_log_level level, const char *format, ...)
{
	char text[REPORT_SIZE];
	va_list list;

	va_start(list, format);
	text_vformat(text, sizeof(text), format, list);
	va_end(list);
	log_text(base, level, text);
}

void flush_tell(const struct actor *actor, const struct tpt_flush *flush)
{
	vm_event(actor->base, &(struct tpt_event){.kind = TPT_EVENT_FLUSH,
						  .vcpu = actor->vcpu,
						  .as_id = flush->as_id,
						  .gfn = flush->range.start,
						  .call = flush->reason});
}

void vm_kick(struct actor *actor, enum tpt_kick_reason reason)
{
	struct vm_base *base = actor->base;

	count_add(actor, COUNT_KICK + reason, 1);
	base->platform->kick(base->platform_ctx, base->vm, reason);
}
