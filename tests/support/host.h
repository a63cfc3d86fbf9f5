/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A host for tests of the library: a platform that poisons, a plain backing (the frame behind a
 * page is its hva / 4 KiB), a plain gmem, an external table, and a VM over all of it. No processor.
 */
#ifndef TESTS_SUPPORT_HOST_H
#define TESTS_SUPPORT_HOST_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/support/external.h"

#define KIB 1024ull
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

/* Runs @tests over TDs of each format; how many failed. */
#define host_run_formats(name, tests)                                   \
	(host_td_format = TPT_FORMAT_EPT,                               \
	 cmocka_run_group_tests_name(name ", EPT", tests, NULL, NULL) + \
		 (host_td_format = TPT_FORMAT_NPT,                      \
		  cmocka_run_group_tests_name(name ", NPT", tests, NULL, NULL)))

/* For threads of a test's own, where cmocka can't fail one test alone. */
#define must(condition)                                                                         \
	do {                                                                                    \
		if (!(condition)) {                                                             \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                                \
		}                                                                               \
	} while (0)

#define HOST_VCPUS	4
#define HOST_FLUSHES	256
#define HOST_SHARED_BIT 47
#define HOST_SHARED	(1ull << HOST_SHARED_BIT)
/* First frame of the gmem. */
#define HOST_GMEM_PFN (EXT_PFNS / 2)

struct host {
	struct tpt_posix *posix;
	struct ext ext;
	struct tpt_vm_config config;
	struct tpt_vm *vm;
	struct tpt_vcpu *vcpu[HOST_VCPUS];
	unsigned int nr_vcpus;
	struct tpt_gmem *gmem;

	/* The plain backing. */
	enum tpt_level level;	   /* what it answers */
	uint64_t ro_start, ro_end; /* hva that the host can only read */
	bool device;
	uint64_t skew; /* added to each frame number */
	int error;     /* answered instead, if not 0 */
	_Atomic uint64_t lookups, dirtied;
	/* Called in the gap of a fault, before the answer. */
	void (*in_lookup)(struct host *h);

	/* The plain gmem. */
	enum tpt_level gmem_level;
	int gmem_error;
	_Atomic uint64_t gmem_lookups, gmem_freed;

	/* What the library asked for and said. */
	pthread_mutex_t lock;
	struct tpt_flush flush[HOST_FLUSHES];
	unsigned int nr_flushes;
	unsigned int holds, kicks;
	unsigned int lines;
	char line[512];
};

static inline int host_lookup(void *ctx, const struct tpt_backing_query *q,
			      struct tpt_backing_page *page)
{
	struct host *h = ctx;

	atomic_fetch_add(&h->lookups, 1);
	if (h->in_lookup)
		h->in_lookup(h);
	if (h->error)
		return h->error;
	*page = (struct tpt_backing_page){
		.pfn = tpt_pfn_make((q->hva.a >> TPT_PAGE_SHIFT) + h->skew),
		.writable = q->hva.a < h->ro_start || q->hva.a >= h->ro_end,
		.device = h->device,
		.level = h->level,
	};
	return q->write && !page->writable ? -EPERM : 0;
}

static inline void host_mark_dirty(void *ctx, tpt_pfn pfn, enum tpt_level level)
{
	struct host *h = ctx;

	(void)pfn;
	(void)level;
	atomic_fetch_add(&h->dirtied, 1);
}

static const struct tpt_backing_ops host_backing = {
	.size = sizeof(host_backing),
	.lookup = host_lookup,
	.mark_dirty = host_mark_dirty,
};

static inline int host_get_page(void *ctx, uint64_t index, tpt_pfn *pfn, enum tpt_level *level)
{
	struct host *h = ctx;

	atomic_fetch_add(&h->gmem_lookups, 1);
	if (h->in_lookup)
		h->in_lookup(h);
	if (h->gmem_error)
		return h->gmem_error;
	*pfn = tpt_pfn_make(HOST_GMEM_PFN + index);
	*level = h->gmem_level;
	return 0;
}

static inline void host_free_range(void *ctx, uint64_t start, uint64_t end)
{
	struct host *h = ctx;

	atomic_fetch_add(&h->gmem_freed, end - start);
}

static const struct tpt_gmem_ops host_gmem = {
	.size = sizeof(host_gmem),
	.get_page = host_get_page,
	.free_range = host_free_range,
};

/* ---- hooks ---- */

static inline void host_on_flush(void *ctx, struct tpt_vm *vm, const struct tpt_flush *flush)
{
	struct host *h = ctx;

	(void)vm;
	pthread_mutex_lock(&h->lock);
	if (h->nr_flushes < HOST_FLUSHES)
		h->flush[h->nr_flushes++] = *flush;
	pthread_mutex_unlock(&h->lock);
}

static inline void host_on_kick(void *ctx, struct tpt_vm *vm, enum tpt_kick_reason reason)
{
	struct host *h = ctx;

	(void)vm;
	(void)reason;
	h->kicks++;
	ext_kicked(&h->ext);
}

static inline void host_on_hold(void *ctx, struct tpt_vm *vm, bool held)
{
	struct host *h = ctx;

	(void)vm;
	h->holds += held;
	ext_held(&h->ext, held);
}

static inline void host_on_log(void *ctx, enum tpt_log_level level, const char *text)
{
	struct host *h = ctx;

	(void)level;
	pthread_mutex_lock(&h->lock);
	h->lines++;
	snprintf(h->line, sizeof(h->line), "%s", text);
	pthread_mutex_unlock(&h->lock);
}

/* ---- making one ---- */

static inline void host_config_npt(struct tpt_vm_config *c)
{
	*c = (struct tpt_vm_config){
		.size = sizeof(*c),
		.format = TPT_FORMAT_NPT,
		.levels = 4,
		.maxphyaddr = 48,
		.guest_maxphyaddr = 48,
		.address_spaces = 1,
		.max_leaf_level = TPT_LEVEL_1G,
		.max_private_level = TPT_LEVEL_4K,
	};
}

static inline void host_config_ept(struct tpt_vm_config *c)
{
	host_config_npt(c);
	c->format = TPT_FORMAT_EPT;
}

/* Of the next TDs, and so of their mirrors; host_run_formats() says it. */
static enum tpt_format host_td_format = TPT_FORMAT_EPT;

static inline void host_config_td(struct tpt_vm_config *c)
{
	host_config_npt(c);
	c->format = host_td_format;
	c->flags = TPT_VM_SELF_SNOOP;
	c->shared_bit = HOST_SHARED_BIT;
	c->external = &ext_ops;
}

/* The platform alone, and the config pointed at it. */
static inline struct host *host_prepare(const struct tpt_vm_config *config)
{
	struct host *h = calloc(1, sizeof(*h));
	struct tpt_posix_config p = {
		.size = sizeof(p),
		.flags = TPT_POSIX_POISON | TPT_POSIX_WATCH,
		.bytes = 64 * MIB,
		.hooks = {host_on_flush, host_on_kick, host_on_hold, host_on_log},
		.hooks_ctx = h,
	};

	assert_non_null(h);
	pthread_mutex_init(&h->lock, NULL);
	ext_init(&h->ext, config->levels);
	h->posix = tpt_posix_create(&p);
	assert_non_null(h->posix);
	h->ext.posix = h->posix;
	h->level = h->gmem_level = TPT_LEVEL_1G;
	h->config = *config;
	h->config.platform = tpt_posix_platform(h->posix);
	h->config.platform_ctx = h->posix;
	h->config.backing = &host_backing;
	h->config.backing_ctx = h;
	h->config.external_ctx = &h->ext;
	return h;
}

static inline struct host *host_create(const struct tpt_vm_config *config, unsigned int nr_vcpus)
{
	struct host *h = host_prepare(config);
	struct tpt_roots roots;

	assert_int_equal(tpt_vm_create(&h->config, &h->vm), 0);
	for (unsigned int i = 0; i < nr_vcpus; i++) {
		assert_int_equal(tpt_vcpu_create(h->vm, i, &h->vcpu[i]), 0);
		assert_int_equal(tpt_vcpu_load_roots(h->vcpu[i], &roots), 0);
	}
	h->nr_vcpus = nr_vcpus;
	return h;
}

/* Destroys all and says how many rules of the platform were broken, leaks included. */
static inline uint64_t host_end(struct host *h)
{
	uint64_t misuses;

	if (h->vm)
		tpt_vm_destroy(h->vm);
	misuses = tpt_posix_destroy(h->posix);
	if (misuses || h->ext.wrong)
		print_message("platform: %s; external: %s\n", h->line, h->ext.what);
	ext_fini(&h->ext);
	pthread_mutex_destroy(&h->lock);
	free(h);
	return misuses;
}

static inline void host_audit(struct host *h)
{
	char text[256];
	int faults = tpt_vm_audit(h->vm, text, sizeof(text));

	if (faults)
		print_message("audit: %s\n", text);
	if (tpt_vm_is_dead(h->vm))
		print_message("dead: %s\n", tpt_vm_report(h->vm));
	if (h->ext.wrong)
		print_message("external: %s\n", h->ext.what);
	assert_int_equal(faults, 0);
	assert_false(tpt_vm_is_dead(h->vm));
	assert_int_equal(h->ext.wrong, 0);
}

/* Audits, destroys, and wants everything back. */
static inline void host_destroy(struct host *h)
{
	host_audit(h);
	assert_int_equal(host_end(h), 0);
}

/* ---- shorthands ---- */

static inline int host_slot(struct host *h, uint32_t as_id, uint32_t id, uint64_t gpa,
			    uint64_t size, uint64_t hva, uint32_t flags)
{
	const struct tpt_memory_region r = {
		.as_id = as_id,
		.slot = id,
		.flags = flags,
		.gpa = tpt_gpa_make(gpa),
		.size = size,
		.hva = tpt_hva_make(hva),
		.gmem = flags & TPT_MEM_GUEST_MEMFD ? h->gmem : NULL,
		.gmem_offset = flags & TPT_MEM_GUEST_MEMFD ? gpa : 0,
	};

	return tpt_vm_set_memory_region(h->vm, &r);
}

/* A TD with one slot at 0, its gmem behind it, all of it private. */
static inline struct host *host_create_td(uint32_t chunk, uint64_t bytes, unsigned int nr_vcpus)
{
	struct tpt_vm_config c;
	struct host *h;

	host_config_td(&c);
	c.zap_chunk = chunk;
	h = host_create(&c, nr_vcpus);
	assert_int_equal(tpt_gmem_create(h->vm, bytes, &host_gmem, h, &h->gmem), 0);
	assert_int_equal(host_slot(h, 0, 0, 0, bytes, GIB, TPT_MEM_GUEST_MEMFD), 0);
	assert_int_equal(tpt_vm_set_private(h->vm, 0, bytes / TPT_PAGE_SIZE, true, NULL), 0);
	return h;
}

static inline int host_fault_on(struct tpt_vcpu *vcpu, uint64_t gpa, uint64_t code,
				struct tpt_fault *out)
{
	struct tpt_fault f = {.gpa = {gpa}, .error_code = code};
	struct tpt_roots roots;
	int ret = tpt_vcpu_load_roots(vcpu, &roots);

	if (!ret)
		ret = tpt_vcpu_fault(vcpu, &f);
	if (out)
		*out = f;
	return ret;
}

static inline int host_fault(struct host *h, uint64_t gpa, uint64_t code)
{
	return host_fault_on(h->vcpu[0], gpa, code, NULL);
}

/* The entry that maps @gpa's page at whatever level, or 0. */
struct host_find {
	enum tpt_tree_kind tree;
	uint32_t as_id;
	tpt_gfn gfn;
	struct tpt_mapping found;
};

static inline bool host_find_one(void *ctx, const struct tpt_mapping *m)
{
	struct host_find *f = ctx;

	if (!m->leaf || m->tree != f->tree || m->as_id != f->as_id ||
	    m->gfn != tpt_gfn_round(f->gfn, m->level))
		return true;
	f->found = *m;
	return false;
}

static inline struct tpt_mapping host_mapping(struct host *h, enum tpt_tree_kind tree,
					      uint32_t as_id, uint64_t gpa)
{
	struct host_find f = {.tree = tree, .as_id = as_id, .gfn = gpa >> TPT_PAGE_SHIFT};

	tpt_vm_for_each_mapping(h->vm, host_find_one, &f);
	return f.found;
}

static inline uint64_t host_word(struct host *h, uint64_t gpa)
{
	return host_mapping(h, TPT_TREE_DIRECT, 0, gpa).spte.w;
}

static inline struct tpt_vm_stats host_stats(struct host *h)
{
	struct tpt_vm_stats s;

	tpt_vm_get_stats(h->vm, &s);
	return s;
}

static inline uint64_t host_leaves(const struct tpt_tree_stats *t)
{
	return t->pages_4k + t->pages_2m + t->pages_1g;
}

#endif
