// SPDX-License-Identifier: BSD-2-Clause
/* The TD's build-time measurement, MRTD: SHA-384 over blocks in call order (TDH.MEM.PAGE.ADD,
 * MR.EXTEND). */
#include "tdx/module/internal.h"

#include <openssl/evp.h>
#include <string.h>

#define BLOCK_BYTES 128

struct measurement {
	EVP_MD_CTX *sha;
};

struct measurement *measure_create(struct tdx_module *m)
{
	struct measurement *mr = module_alloc(m, sizeof(*mr));

	if (!mr)
		return NULL;
	mr->sha = EVP_MD_CTX_new();
	if (mr->sha && EVP_DigestInit_ex(mr->sha, EVP_sha384(), NULL) == 1)
		return mr;
	measure_destroy(m, mr);
	return NULL;
}

void measure_destroy(struct tdx_module *m, struct measurement *mr)
{
	if (!mr)
		return;
	EVP_MD_CTX_free(mr->sha);
	module_free(m, mr);
}

/* A block that says which call and which GPA: name zero padded to 16 bytes, GPA, zeros. */
static void add_header(struct measurement *mr, const char *name, uint64_t gpa)
{
	uint8_t block[BLOCK_BYTES] = {0};

	memcpy(block, name, strlen(name));
	memcpy(block + 16, &gpa, sizeof(gpa));
	EVP_DigestUpdate(mr->sha, block, sizeof(block));
}

void measure_page_add(struct measurement *mr, uint64_t gpa)
{
	add_header(mr, "MEM.PAGE.ADD", gpa);
}

void measure_extend(struct measurement *mr, uint64_t gpa, const uint8_t content[256])
{
	add_header(mr, "MR.EXTEND", gpa);
	EVP_DigestUpdate(mr->sha, content, 256);
}

void measure_finalize(struct measurement *mr, uint8_t mrtd[48])
{
	EVP_DigestFinal_ex(mr->sha, mrtd, NULL);
}
