/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Entry words explained, for tools and people. Never used to build an entry.
 */
#ifndef TRIPTYCH_SPTE_H
#define TRIPTYCH_SPTE_H

#include <triptych/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Ways to read a word. SEPT is the raw private entry inside the TDX module. */
enum tpt_word_format {
	TPT_WORD_EPT,
	TPT_WORD_NPT,
	TPT_WORD_SEPT,
	TPT_WORD_MMIO,
	TPT_WORD_NR,
};

/* One field of a word. */
struct tpt_word_field {
	uint8_t high, low;   /* bits, inclusive */
	const char *name;    /* "R", "PFN", "HOST_WRITABLE", ... */
	const char *meaning; /* of the value it has here, or of the field */
	const char *source;  /* manual and section, or "software" */
	uint64_t value;
};

#define TPT_WORD_MAX_FIELDS 32

struct tpt_word {
	enum tpt_word_format format;
	const char *kind; /* "leaf", "table", "empty", "frozen", "MMIO", "blocked leaf", ... */
	uint32_t nr_fields;
	struct tpt_word_field field[TPT_WORD_MAX_FIELDS]; /* from bit 63 down */
};

/* Reads @word as @format. */
void tpt_word_decode(uint64_t word, enum tpt_word_format format, struct tpt_word *out);
/* Which format is it most likely, and why (*reason, one sentence, constant text)? */
enum tpt_word_format tpt_word_guess(uint64_t word, const char **reason);
/* "ept", "npt", "sept", "mmio" */
const char *tpt_word_format_name(enum tpt_word_format format);

#ifdef __cplusplus
}
#endif
#endif
