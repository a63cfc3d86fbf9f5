// SPDX-License-Identifier: BSD-2-Clause
/* Ephemeral keys, and AES-XTS with them. Never which line has which key. */
#include "tdx/module/crypt.h"

#include <openssl/evp.h>
#include <string.h>

/* IEEE 1619: at most 2^20 blocks of 16 bytes in a unit. */
#define MAX_UNIT_BYTES (16u << 20)

bool tdx_memory_xts(const uint8_t *key, unsigned int bits, uint64_t unit, bool encrypt,
		    const uint8_t *in, uint8_t *out, size_t len)
{
	const EVP_CIPHER *cipher = bits == 256 ? EVP_aes_256_xts() : EVP_aes_128_xts();
	uint8_t tweak[16] = {0};
	EVP_CIPHER_CTX *ctx;
	bool good;
	int done;

	if ((bits != 128 && bits != 256) || len < 16 || len > MAX_UNIT_BYTES)
		return false;
	ctx = EVP_CIPHER_CTX_new();
	if (!ctx)
		return false;
	memcpy(tweak, &unit, sizeof(unit)); /* little endian, as the standard has it */
	good = EVP_CipherInit_ex(ctx, cipher, NULL, key, tweak, encrypt) == 1 &&
	       EVP_CipherUpdate(ctx, out, &done, in, (int)len) == 1;
	EVP_CIPHER_CTX_free(ctx);
	return good;
}

struct mem_key *key_create(struct tdx_module *m, unsigned int hkid, bool is_private)
{
	struct mem_key *key = module_alloc(m, sizeof(*key));

	if (!key)
		return NULL;
	key->hkid = hkid;
	key->is_private = is_private;
	key->serial = atomic_fetch_add(&m->next_key, 1);
	key->next = atomic_load(&m->keys);
	while (!atomic_compare_exchange_weak(&m->keys, &key->next, key))
		;
	return key;
}

bool key_configure(struct tdx_module *m, struct mem_key *key, unsigned int package)
{
	uint64_t *entropy = key->entropy[package];

	return !m->config.random ||
	       (module_random(m, &entropy[0]) && module_random(m, &entropy[1]));
}

void keys_exit(struct tdx_module *m)
{
	struct mem_key *key = atomic_load(&m->keys);

	while (key) {
		struct mem_key *next = key->next;

		module_free(m, key);
		key = next;
	}
}

/* Whatever chance gave, hashed with what makes the key the only one of its kind. */
void key_secret(const struct tdx_module *m, const struct mem_key *key, unsigned int package,
		uint8_t secret[64])
{
	const uint64_t seed[] = {
		m->config.key_seed,	 key->serial, key->hkid, package, key->entropy[package][0],
		key->entropy[package][1]};

	EVP_Digest(seed, sizeof(seed), secret, NULL, EVP_sha512(), NULL);
}

void crypt_line(struct tdx_module *m, const struct mem_key *key, uint64_t hpa, bool encrypt,
		const uint8_t *in, uint8_t *out)
{
	const struct tdmr *tdmr = pamt_tdmr(m, hpa);
	uint8_t secret[64];

	if (!key) {
		memmove(out, in, LINE_BYTES);
		return;
	}
	key_secret(m, key, tdmr ? tdmr->config.package : 0, secret);
	if (!tdx_memory_xts(secret, m->config.key_bits, hpa, encrypt, in, out, LINE_BYTES))
		module_fatal(m, "AES-XTS failed: no memory for its context");
}
