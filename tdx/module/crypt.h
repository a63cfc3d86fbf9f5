/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Ephemeral keys and what they do to a line: one struct mem_key a time that a key id gets a key.
 * Never which line has which key.
 *
 * A key is kept until the module goes: lines that nobody has cleared are still encrypted with it.
 */
#ifndef TDX_MODULE_CRYPT_H
#define TDX_MODULE_CRYPT_H

#include "tdx/module/internal.h"

#define LINE_BYTES TDX_LINE_BYTES

struct mem_key {
	struct mem_key *next; /* of all keys of the module */
	unsigned int hkid;
	bool is_private;
	_Atomic bool retired; /* flushed from all caches for good: TDH.PHYMEM.CACHE.WB */
	uint64_t serial;
	uint64_t entropy[TDX_MODULE_MAX_PACKAGES][2];
};

/* A key for @hkid on no package yet. NULL: no memory. */
struct mem_key *key_create(struct tdx_module *m, unsigned int hkid, bool is_private);
/* What PCONFIG does on one package. False: out of entropy. */
bool key_configure(struct tdx_module *m, struct mem_key *key, unsigned int package);
void keys_exit(struct tdx_module *m);

/* NULL is shared key id 0, under which nothing is encrypted. */
static inline unsigned int key_hkid(const struct mem_key *key)
{
	return key ? key->hkid : 0;
}

static inline bool key_is_private(const struct mem_key *key)
{
	return key && key->is_private;
}

/* The AES-XTS key of @package. */
void key_secret(const struct tdx_module *m, const struct mem_key *key, unsigned int package,
		uint8_t secret[64]);

/* The line at @hpa in or out of memory. @in and @out may be the same. */
void crypt_line(struct tdx_module *m, const struct mem_key *key, uint64_t hpa, bool encrypt,
		const uint8_t *in, uint8_t *out);

#endif
