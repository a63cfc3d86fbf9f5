// SPDX-License-Identifier: BSD-2-Clause
/* Making and freeing a module, with all that stands in its memory. Never a leaf. */
#include "tdx/module/lines.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define DEFAULT_TSC_HZ 2500000000ull

static bool check(bool good, const char *rule, uint64_t value, char *why, size_t why_size)
{
	if (!good && why)
		snprintf(why, why_size, "%s (is %#llx)", rule, (unsigned long long)value);
	return good;
}

#define CHECK(good, value, rule)                              \
	do {                                                  \
		if (!check(good, rule, value, why, why_size)) \
			return false;                         \
	} while (0)

static bool machine_valid(const struct tdx_module_config *c, char *why, size_t why_size)
{
	unsigned int hkids = 1u << (c->nr_hkid_bits & 31);

	CHECK(c->nr_lps >= 1 && c->nr_lps <= 4096, c->nr_lps, "nr_lps must be 1..4096");
	CHECK(c->nr_packages >= 1 && c->nr_packages <= TDX_MODULE_MAX_PACKAGES, c->nr_packages,
	      "nr_packages must be 1..8");
	CHECK(c->hkid_start_bit >= 32 && c->hkid_start_bit < MAX_PA_BITS, c->hkid_start_bit,
	      "hkid_start_bit must be 32..51");
	CHECK(c->nr_hkid_bits >= 1 && c->nr_hkid_bits <= 11 &&
		      c->hkid_start_bit + c->nr_hkid_bits <= MAX_PA_BITS,
	      c->nr_hkid_bits, "nr_hkid_bits must be 1..11 and end at bit 51 at most");
	CHECK(c->private_hkid_min >= 1 && c->private_hkid_min <= c->private_hkid_max,
	      c->private_hkid_min, "private_hkid_min must be 1..private_hkid_max");
	CHECK(c->private_hkid_max < hkids, c->private_hkid_max,
	      "private_hkid_max must fit the key-id bits");
	CHECK(c->global_hkid >= c->private_hkid_min && c->global_hkid <= c->private_hkid_max,
	      c->global_hkid, "global_hkid must be a private key id");
	CHECK(c->page != NULL, 0, "page function must be given");
	CHECK(c->memory <= TDX_MEMORY_PLAIN, c->memory, "memory must be an enum tdx_memory_mode");
	CHECK(c->write_back <= TDX_WRITE_BACK_LATE, c->write_back,
	      "write_back must be an enum tdx_write_back");
	CHECK(!c->key_bits || c->key_bits == 128 || c->key_bits == 256, c->key_bits,
	      "key_bits must be 0, 128 or 256");
	CHECK(c->nr_tdmrs <= TDX_MODULE_MAX_TDMRS, c->nr_tdmrs, "nr_tdmrs must be 0..64");
	return true;
}

static bool tdmr_valid(const struct tdx_module_config *c, unsigned int i, char *why,
		       size_t why_size)
{
	const struct tdx_tdmr_config *tdmr = &c->tdmr[i];
	uint64_t end = tdmr->base + tdmr->size;

	CHECK(!(tdmr->base & (GIB - 1)), tdmr->base, "TDMR base must be a multiple of 1 GiB");
	CHECK(tdmr->size && !(tdmr->size & (GIB - 1)), tdmr->size,
	      "TDMR size must be a non-zero multiple of 1 GiB");
	CHECK(end > tdmr->base && end <= 1ull << c->hkid_start_bit, end,
	      "TDMR must end below the key-id bits");
	CHECK(!i || c->tdmr[i - 1].base + c->tdmr[i - 1].size <= tdmr->base, tdmr->base,
	      "TDMRs must be ordered and must not overlap");
	CHECK(tdmr->package < c->nr_packages, tdmr->package,
	      "a TDMR's package must be below nr_packages");
	CHECK(tdmr->nr_reserved <= TDX_MODULE_MAX_RESERVED, tdmr->nr_reserved,
	      "a TDMR has at most 16 reserved areas");
	for (unsigned int r = 0; r < tdmr->nr_reserved; r++) {
		const struct tdx_reserved_area *area = &tdmr->reserved[r];

		CHECK(!((area->base | area->size) & (PAGE_BYTES - 1)), area->base,
		      "a reserved area must be 4 KiB aligned");
		CHECK(area->base >= tdmr->base && area->size <= end - area->base &&
			      area->base <= end,
		      area->base, "a reserved area must lie inside its TDMR");
	}
	return true;
}

static bool config_valid(const struct tdx_module_config *c, char *why, size_t why_size)
{
	if (!machine_valid(c, why, why_size))
		return false;
	for (unsigned int i = 0; i < c->nr_tdmrs; i++)
		if (!tdmr_valid(c, i, why, why_size))
			return false;
	return true;
}

static void *default_alloc(void *ctx, size_t size)
{
	(void)ctx;
	return calloc(1, size);
}

static void default_free(void *ctx, void *memory)
{
	(void)ctx;
	free(memory);
}

static void fill_defaults(struct tdx_module_config *c)
{
	if (!c->alloc || !c->free) {
		c->alloc = default_alloc;
		c->free = default_free;
	}
	if (!c->tsc_hz)
		c->tsc_hz = DEFAULT_TSC_HZ;
	if (!c->wb_blocks)
		c->wb_blocks = 1;
	if (!c->key_bits)
		c->key_bits = 128;
	c->xfam_supported |= 3;
}

struct tdx_module *tdx_module_create(const struct tdx_module_config *config, char *why,
				     size_t why_size)
{
	struct tdx_module_config full = *config;
	struct tdx_module *m;

	if (!config_valid(config, why, why_size)) {
		errno = EINVAL;
		return NULL;
	}
	fill_defaults(&full);
	m = full.alloc(full.ctx, sizeof(*m));
	if (!m)
		goto no_memory;
	m->config = full;
	m->hkid_mask = ((1ull << full.nr_hkid_bits) - 1) << full.hkid_start_bit;
	m->kot[full.global_hkid].state = KEY_RESERVED;
	m->lps = module_alloc(m, full.nr_lps * sizeof(*m->lps));
	if (m->lps && pamt_init(m) == 0 && lines_init(m) == 0)
		return m;
	tdx_module_destroy(m);
no_memory:
	if (why)
		snprintf(why, why_size, "out of memory");
	errno = ENOMEM;
	return NULL;
}

/* The TDs and vCPUs that were never reclaimed. */
static void destroy_objects(struct tdx_module *m, const struct tdmr *tdmr)
{
	for (uint64_t i = 0; tdmr->objects && i < tdmr->config.size / PAGE_BYTES; i++) {
		if (!tdmr->objects[i])
			continue;
		if (atomic_load(&tdmr->entries[0][i].pt) == TDX_PT_TDVPR)
			vcpu_destroy(m, tdmr->objects[i]);
		else
			td_destroy(m, tdmr->objects[i]);
	}
}

void tdx_module_destroy(struct tdx_module *m)
{
	if (!m)
		return;
	for (unsigned int i = 0; m->tdmrs && i < m->config.nr_tdmrs; i++)
		destroy_objects(m, &m->tdmrs[i]);
	lines_exit(m);
	pamt_exit(m);
	module_free(m, m->lps);
	module_free(m, m);
}

void tdx_module_set_processor(struct tdx_module *m, const struct tdx_port_processor *processor,
			      void *ctx)
{
	m->config.processor = processor;
	m->config.processor_ctx = ctx;
}
