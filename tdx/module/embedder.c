// SPDX-License-Identifier: BSD-2-Clause
/* The module's doors to what its embedder gives: memory, time, chance, interrupts, processors. No
 * rule of a leaf. */
#include "tdx/module/internal.h"

void *module_alloc(struct tdx_module *m, size_t size)
{
	return m->config.alloc(m->config.ctx, size);
}

void module_free(struct tdx_module *m, void *memory)
{
	if (memory)
		m->config.free(m->config.ctx, memory);
}

void *module_page(struct tdx_module *m, uint64_t hpa)
{
	return m->config.page(m->config.ctx, hpa & ~(PAGE_BYTES - 1) & ~m->hkid_mask);
}

uint64_t module_rdtsc(struct tdx_module *m, unsigned int lp)
{
	return m->config.rdtsc ? m->config.rdtsc(m->config.ctx, lp) : 0;
}

bool module_interrupted(const struct call *call)
{
	const struct tdx_module_config *c = &call->m->config;

	return c->interrupt_pending && c->interrupt_pending(c->ctx, call->lp);
}

bool module_random(struct tdx_module *m, uint64_t *value)
{
	if (m->config.random)
		return m->config.random(m->config.ctx, value);
	*value = atomic_fetch_add(&m->next_random, 1);
	return true;
}

void module_fatal(struct tdx_module *m, const char *what)
{
	atomic_store(&m->state, MODULE_SHUTDOWN);
	if (m->config.fatal)
		m->config.fatal(m->config.ctx, what);
}

void module_invept(struct tdx_module *m, unsigned int lp, uint64_t tdr)
{
	if (m->config.processor && m->config.processor->invalidate)
		m->config.processor->invalidate(m->config.processor_ctx, lp, tdr);
}

bool module_shared_operand(const struct tdx_module *m, uint64_t pa, uint64_t align)
{
	const struct tdx_module_config *c = &m->config;

	return !(pa & (align - 1)) && pa < 1ull << MAX_PA_BITS &&
	       pa_hkid(m, pa) < c->private_hkid_min && pa - c->seamrr_base >= c->seamrr_size;
}
