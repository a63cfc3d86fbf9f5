// SPDX-License-Identifier: BSD-2-Clause
/*
 * Entry words explained for people. Every layout stands here as a table of its own, written from
 * the manuals and not from the code that builds entries, so that the two can be held against each
 * other. Never used to build or to judge an entry of a tree.
 *
 * Section numbers: SDM = Intel SDM volume 3C, chapter "VMX Support for Address Translation", which
 * is chapter 29 (28 before 2023). APM = AMD APM volume 2. Names of sections outlive their numbers.
 */
#include <triptych/spte.h>

#define BIT(n)	      (1ull << (n))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define OMIT_IF_CLEAR 1 /* worth a line only if it is set */

static inline uint64_t bits(uint64_t w, unsigned int high, unsigned int low)
{
	return w >> low & ((BIT(high - low) << 1) - 1);
}

/* One field of a layout: what it says clear, set, or by value. */
struct layout_field {
	uint8_t high, low;
	uint8_t flags;
	const char *name;
	const char *clear;	    /* also: of a field of several bits, whatever its value */
	const char *set;	    /* single bits only */
	const char *const *meaning; /* by value; NULL: see above */
	const char *source;
};

#define ONE(bit, name, clear, set, source)                  \
	{                                                   \
		bit, bit, 0, name, clear, set, NULL, source \
	}
#define RARE(bit, name, set, source)                                  \
	{                                                             \
		bit, bit, OMIT_IF_CLEAR, name, set, set, NULL, source \
	}
#define RARE_RANGE(hi, lo, name, text, source)                        \
	{                                                             \
		hi, lo, OMIT_IF_CLEAR, name, text, NULL, NULL, source \
	}
#define RANGE(hi, lo, name, text, source)                 \
	{                                                 \
		hi, lo, 0, name, text, NULL, NULL, source \
	}
#define VALUES(hi, lo, name, values, source)                \
	{                                                   \
		hi, lo, 0, name, NULL, NULL, values, source \
	}

#define SOFTWARE "software"
#define SDM_EPT	 "SDM 29.3.2 \"EPT Translation Mechanism\""
#define SDM_MISC "SDM 29.3.3.1 \"EPT Misconfigurations\""
#define SDM_AD	 "SDM 29.3.5 \"Accessed and Dirty Flags for EPT\""
#define SDM_MT	 "SDM 29.3.7 \"EPT and Memory Typing\""
#define SDM_VE	 "SDM 26.5.7.1 \"Convertible EPT Violations\""
#define APM_PTE	 "APM 5.4.1 \"Field Definitions\""
#define APM_NX	 "APM 5.6.1 \"No Execute (NX) Bit\""
#define APM_NPT	 "APM 15.25.5 \"Nested Table Walk\""
#define APM_NPF	 "APM 15.25.6 \"Nested versus Guest Page Faults, Fault Ordering\""
#define TDX_SEPT "TDX module 1.5, private Secure EPT entry"

static const char *const memory_types[8] = {
	"uncacheable (UC)",
	"write-combining (WC)",
	"reserved: an EPT misconfiguration",
	"reserved: an EPT misconfiguration",
	"write-through (WT)",
	"write-protected (WP)",
	"write-back (WB)",
	"reserved: an EPT misconfiguration",
};

static const char *const ad_types[4] = {
	"accessed and dirty flags are used",
	"accessed and dirty flags are off for this entry",
	"dirty by write protection only",
	"no such kind",
};

/* SDM 29.3.2, table "Format of an EPT Page-Table Entry that Maps a 4-KByte Page", and its twins for
 * 2 MiB and 1 GiB. */
static const struct layout_field ept_leaf[] = {
	ONE(63, "SUPPRESS_VE", "a violation can become a #VE", "a violation never becomes a #VE",
	    SDM_VE),
	RARE_RANGE(62, 59, "IGNORED", "ignored", SDM_EPT),
	ONE(58, "MMU_WRITABLE", "the MMU keeps it read-only", "the MMU may make it writable",
	    SOFTWARE),
	ONE(57, "HOST_WRITABLE", "the host's page is read-only", "the host's page is writable",
	    SOFTWARE),
	RARE(56, "SAVED_X", "access-tracked: was executable", SOFTWARE),
	RARE(55, "IGNORED", "ignored", SDM_EPT),
	RARE(54, "SAVED_R", "access-tracked: was readable", SOFTWARE),
	VALUES(53, 52, "AD_TYPE", ad_types, SOFTWARE),
	RANGE(51, 12, "PFN", "frame that is mapped", SDM_EPT),
	ONE(11, "MMU_PRESENT", "not present to the MMU", "present to the MMU", SOFTWARE),
	RARE(10, "XU", "user execution allowed, with mode-based execute control", SDM_EPT),
	ONE(9, "D", "not written", "written, or meant to be", SDM_AD),
	ONE(8, "A", "not accessed", "accessed", SDM_AD),
	ONE(7, "PS", "not a large page", "a large page: 2 MiB or 1 GiB", SDM_EPT),
	ONE(6, "IPAT", "the guest's PAT counts", "the guest's PAT is ignored", SDM_MT),
	VALUES(5, 3, "MEMTYPE", memory_types, SDM_MT),
	ONE(2, "X", "no execution", "execution allowed", SDM_EPT),
	ONE(1, "W", "no writing", "writing allowed", SDM_EPT),
	ONE(0, "R", "no reading", "reading allowed", SDM_EPT),
};

/* SDM 29.3.2, table "Format of an EPT Page-Directory Entry that References an EPT Page Table" and
 * its twins. */
static const struct layout_field ept_table[] = {
	ONE(63, "IGNORED", "ignored in a table entry", "ignored in a table entry; kept set",
	    SDM_EPT),
	RARE_RANGE(62, 54, "IGNORED", "ignored", SDM_EPT),
	VALUES(53, 52, "AD_TYPE", ad_types, SOFTWARE),
	RANGE(51, 12, "PFN", "frame of the table", SDM_EPT),
	ONE(11, "MMU_PRESENT", "not present to the MMU", "present to the MMU", SOFTWARE),
	RARE(10, "XU", "user execution allowed, with mode-based execute control", SDM_EPT),
	RARE(9, "IGNORED", "ignored", SDM_EPT),
	ONE(8, "A", "not accessed", "accessed", SDM_AD),
	ONE(7, "PS", "points to a table", "maps a page", SDM_EPT),
	{6, 3, 0, "RESERVED", "must be 0, else an EPT misconfiguration", NULL, NULL, SDM_MISC},
	ONE(2, "X", "no execution below", "execution allowed", SDM_EPT),
	ONE(1, "W", "no writing below", "writing allowed", SDM_EPT),
	ONE(0, "R", "no reading below", "reading allowed", SDM_EPT),
};

/* RWX clear: the processor looks at nothing else but bit 63 (SDM 29.3.2). */
static const struct layout_field ept_blocked[] = {
	ONE(63, "SUPPRESS_VE", "a violation can become a #VE", "a violation never becomes a #VE",
	    SDM_VE),
	RARE_RANGE(62, 60, "IGNORED", "ignored", SDM_EPT),
	ONE(59, "BLOCKED", "not blocked", "blocked in the external table, not yet removed",
	    SOFTWARE),
	RARE_RANGE(58, 52, "IGNORED", "ignored", SDM_EPT),
	RANGE(51, 12, "PFN", "frame that was mapped and is still the guest's", SOFTWARE),
	ONE(11, "MMU_PRESENT", "not present to the MMU", "present to the MMU", SOFTWARE),
	RARE_RANGE(10, 8, "IGNORED", "ignored", SDM_EPT),
	ONE(7, "PS", "a 4 KiB page", "a large page: 2 MiB or 1 GiB", SOFTWARE),
	RARE_RANGE(6, 3, "IGNORED", "ignored", SDM_EPT),
	RANGE(2, 0, "XWR", "no access: not present", SDM_EPT),
};

static const struct layout_field ept_absent[] = {
	ONE(63, "SUPPRESS_VE", "a violation can become a #VE", "a violation never becomes a #VE",
	    SDM_VE),
	RARE_RANGE(62, 12, "IGNORED", "ignored by the processor", SDM_EPT),
	ONE(11, "MMU_PRESENT", "not present to the MMU", "present to the MMU", SOFTWARE),
	RARE_RANGE(10, 3, "IGNORED", "ignored by the processor", SDM_EPT),
	RANGE(2, 0, "XWR", "no access: not present", SDM_EPT),
};

/* APM 5.3.3 "4-Kbyte Page Translation", 5.3.4 and 5.3.5 for 2 MiB and 1 GiB; nested: 15.25.5. */
static const struct layout_field npt_leaf[] = {
	ONE(63, "NX", "execution allowed", "no execution", APM_NX),
	RARE_RANGE(62, 54, "AVL", "available to software", APM_PTE),
	VALUES(53, 52, "AD_TYPE", ad_types, SOFTWARE),
	RANGE(51, 12, "PFN", "frame that is mapped", APM_PTE),
	ONE(11, "MMU_PRESENT", "not present to the MMU", "present to the MMU", SOFTWARE),
	ONE(10, "MMU_WRITABLE", "the MMU keeps it read-only", "the MMU may make it writable",
	    SOFTWARE),
	ONE(9, "HOST_WRITABLE", "the host's page is read-only", "the host's page is writable",
	    SOFTWARE),
	RARE(8, "G", "global: ignored in a nested walk", APM_NPT),
	ONE(7, "PS", "not a large page", "a large page: 2 MiB or 1 GiB", APM_PTE),
	ONE(6, "D", "not written", "written, or meant to be", APM_PTE),
	ONE(5, "A", "not accessed", "accessed", APM_PTE),
	ONE(4, "PCD", "cacheable", "cache disabled", APM_PTE),
	ONE(3, "PWT", "write-back", "write-through", APM_PTE),
	ONE(2, "U", "supervisor only: every nested access faults",
	    "user: nested accesses are user's", APM_NPT),
	ONE(1, "W", "no writing", "writing allowed", APM_PTE),
	ONE(0, "P", "not present", "present", APM_PTE),
};

static const struct layout_field npt_table[] = {
	ONE(63, "NX", "execution allowed", "no execution below", APM_NX),
	RARE_RANGE(62, 54, "AVL", "available to software", APM_PTE),
	VALUES(53, 52, "AD_TYPE", ad_types, SOFTWARE),
	RANGE(51, 12, "PFN", "frame of the table", APM_PTE),
	ONE(11, "MMU_PRESENT", "not present to the MMU", "present to the MMU", SOFTWARE),
	RARE_RANGE(10, 9, "AVL", "available to software", APM_PTE),
	RARE(8, "IGNORED", "ignored", APM_PTE),
	ONE(7, "PS", "points to a table", "maps a page", APM_PTE),
	RARE(6, "IGNORED", "ignored in a table entry", APM_PTE),
	ONE(5, "A", "not accessed", "accessed", APM_PTE),
	ONE(4, "PCD", "cacheable", "cache disabled", APM_PTE),
	ONE(3, "PWT", "write-back", "write-through", APM_PTE),
	ONE(2, "U", "supervisor only: every nested access faults",
	    "user: nested accesses are user's", APM_NPT),
	ONE(1, "W", "no writing below", "writing allowed", APM_PTE),
	ONE(0, "P", "not present", "present", APM_PTE),
};

static const struct layout_field npt_absent[] = {
	RARE_RANGE(63, 12, "IGNORED", "ignored by the processor", APM_PTE),
	ONE(11, "MMU_PRESENT", "not present to the MMU", "present to the MMU", SOFTWARE),
	RARE_RANGE(10, 1, "IGNORED", "ignored by the processor", APM_PTE),
	ONE(0, "P", "not present", "present", APM_PTE),
};

static const struct layout_field mmio_ept[] = {
	ONE(63, "SUPPRESS_VE", "clear, as in every MMIO word", "set: no MMIO word has it",
	    SOFTWARE),
	RANGE(62, 52, "GENERATION_HIGH", "bits 18:8 of the memslots' generation", SOFTWARE),
	RANGE(51, 12, "GFN", "guest frame that has no memslot", SOFTWARE),
	ONE(11, "MMU_PRESENT", "not present to the MMU", "present to the MMU", SOFTWARE),
	RANGE(10, 3, "GENERATION_LOW", "bits 7:0 of the memslots' generation", SOFTWARE),
	RANGE(2, 0, "XWR", "writing without reading: an EPT misconfiguration", SDM_MISC),
};

static const struct layout_field mmio_td[] = {
	ONE(63, "SUPPRESS_VE", "a violation becomes a #VE in the guest",
	    "a violation never becomes a #VE", SDM_VE),
	RANGE(62, 52, "GENERATION_HIGH", "bits 18:8 of the memslots' generation", SOFTWARE),
	RANGE(51, 12, "GFN", "guest frame that has no memslot", SOFTWARE),
	ONE(11, "MMU_PRESENT", "not present to the MMU", "present to the MMU", SOFTWARE),
	RANGE(10, 3, "GENERATION_LOW", "bits 7:0 of the memslots' generation", SOFTWARE),
	RANGE(2, 0, "XWR", "no access: an EPT violation", SDM_EPT),
};

static const struct layout_field mmio_npt[] = {
	RARE(63, "NX", "no execution", APM_NX),
	RANGE(62, 52, "GENERATION_HIGH", "bits 18:8 of the memslots' generation", SOFTWARE),
	ONE(51, "RSVD", "not reserved", "reserved on this host: a #NPF with RSVD set", APM_NPF),
	RANGE(50, 12, "GFN", "guest frame that has no memslot", SOFTWARE),
	ONE(11, "MMU_PRESENT", "not present to the MMU", "present to the MMU", SOFTWARE),
	RANGE(10, 3, "GENERATION_LOW", "bits 7:0 of the memslots' generation", SOFTWARE),
	ONE(2, "U", "no reading remembered", "reading was allowed", SOFTWARE),
	ONE(1, "W", "no writing remembered", "writing was allowed", SOFTWARE),
	ONE(0, "P", "not present", "present, so that reserved bits are looked at", APM_NPF),
};

/* Hardware bits as in SDM 29.3.2; the others are the module's, and ignored by the processor. */
static const struct layout_field sept_entry[] = {
	ONE(63, "SVE", "clear: no L1 entry has it so", "a violation never becomes a #VE", SDM_VE),
	RARE(62, "TDIO", "an I/O page", TDX_SEPT),
	RARE(61, "TDUP", "unpinned", TDX_SEPT),
	RARE_RANGE(60, 58, "TDAL", "L2 VMs 3:1 with an alias of the page", TDX_SEPT),
	RARE(57, "VPW", "paging-write verification", TDX_SEPT),
	ONE(56, "TDP", "accepted, or not a page", "pending: the guest has yet to accept it",
	    TDX_SEPT),
	ONE(55, "TDB", "not blocked", "blocked, or free", TDX_SEPT),
	ONE(54, "TDBW", "not blocked for writing", "blocked for writing, or free", TDX_SEPT),
	ONE(53, "TDEX", "not exported", "exported, or free", TDX_SEPT),
	RARE(52, "TDHP", "host priority on the entry", TDX_SEPT),
	RANGE(51, 12, "PFN", "frame, key id removed; pending 2 MiB: bits 20:12 count accepts",
	      TDX_SEPT),
	RARE(11, "TDEL", "the entry is locked", TDX_SEPT),
	RARE(10, "XU", "user execution allowed, with mode-based execute control", SDM_EPT),
	ONE(9, "D", "clear in this state", "set in this state (the module's, not the processor's)",
	    TDX_SEPT),
	RARE(8, "A", "accessed", SDM_AD),
	ONE(7, "LEAF", "free, or points to a table", "maps a page, of any size", TDX_SEPT),
	ONE(6, "IPAT", "the guest's PAT counts", "the guest's PAT is ignored", SDM_MT),
	VALUES(5, 3, "MEMTYPE", memory_types, SDM_MT),
	ONE(2, "X", "no execution", "execution allowed", SDM_EPT),
	ONE(1, "W", "no writing", "writing allowed", SDM_EPT),
	ONE(0, "R", "no reading", "reading allowed", SDM_EPT),
};

/* State of an entry: bits LEAF, IPAT, TDP, TDB, TDBW, TDEX, D, in this order. */
static const struct sept_state {
	uint8_t code;
	const char *name;
} sept_states[] = {
	{0x0e, "FREE"},
	{0x0c, "REMOVED"},
	{0x00, "NL_MAPPED"},
	{0x08, "NL_BLOCKED"},
	{0x60, "MAPPED"},
	{0x68, "BLOCKED"},
	{0x70, "PENDING"},
	{0x78, "PENDING_BLOCKED"},
	{0x64, "BLOCKEDW"},
	{0x66, "EXPORTED_BLOCKEDW"},
	{0x63, "EXPORTED_DIRTY"},
	{0x67, "EXPORTED_DIRTY_BLOCKEDW"},
	{0x74, "PENDING_BLOCKEDW"},
	{0x76, "PENDING_EXPORTED_BLOCKEDW"},
	{0x73, "PENDING_EXPORTED_DIRTY"},
	{0x77, "PENDING_EXPORTED_DIRTY_BLOCKEDW"},
};

/* A layout by name, and what a word of it is called. */
struct reading {
	const char *kind;
	const struct layout_field *fields;
	uint32_t nr;
};
#define READING(kind, layout)                    \
	(struct reading)                         \
	{                                        \
		kind, layout, ARRAY_SIZE(layout) \
	}

#define MMU_PRESENT BIT(11)
#define PS	    BIT(7)
#define SVE	    BIT(63)
#define FROZEN	    0x5a0ull

static bool is_empty(uint64_t w)
{
	return !(w & ~SVE);
}

static bool is_frozen(uint64_t w)
{
	return (w & ~SVE) == FROZEN;
}

/* Reserved bit 51 in a present entry, with neither bit 63 nor the MMU's mark. */
static bool is_mmio_npt(uint64_t w)
{
	return (w & (BIT(51) | BIT(0) | SVE | MMU_PRESENT)) == (BIT(51) | BIT(0));
}

static bool is_mmio_ept(uint64_t w)
{
	return (w & (SVE | MMU_PRESENT | 7)) == 6;
}

static bool is_mmio_td(uint64_t w)
{
	return !(w & (SVE | MMU_PRESENT | 7)) && !is_empty(w) && !is_frozen(w);
}

static bool is_blocked(uint64_t w)
{
	return (w & (SVE | BIT(59) | MMU_PRESENT | 7)) == (SVE | BIT(59));
}

/*
 * 4 KiB leaf or table? The processor knows it by the level. The MMU's marks tell it too: a writable
 * leaf is always marked MMU_WRITABLE, a table never is, and every table permits writing.
 */
static bool is_table(uint64_t w, uint64_t mmu_writable)
{
	return !(w & PS) && (w & BIT(1)) && !(w & mmu_writable);
}

static struct reading read_ept(uint64_t w)
{
	if (is_empty(w))
		return READING("empty", ept_absent);
	if (is_frozen(w))
		return READING("frozen", ept_absent);
	if (is_mmio_ept(w))
		return READING("MMIO", mmio_ept);
	if (is_mmio_td(w))
		return READING("MMIO of a TD", mmio_td);
	if (is_blocked(w))
		return w & PS ? READING("blocked large leaf", ept_blocked)
			      : READING("blocked leaf", ept_blocked);
	if (w & MMU_PRESENT && is_table(w, BIT(58)))
		return READING("table", ept_table);
	if (w & (MMU_PRESENT | 7) && w & PS)
		return READING("large leaf", ept_leaf);
	if (w & MMU_PRESENT)
		return READING("leaf", ept_leaf);
	if (w & 7)
		return READING("table or 4 KiB leaf", ept_leaf);
	return READING("not present", ept_absent);
}

static struct reading read_npt(uint64_t w)
{
	if (is_empty(w))
		return READING("empty", npt_absent);
	if (is_frozen(w))
		return READING("frozen", npt_absent);
	if (is_mmio_npt(w))
		return READING("MMIO", mmio_npt);
	if (!(w & BIT(0)))
		return READING("not present", npt_absent);
	if (w & PS)
		return READING("large leaf", npt_leaf);
	if (!(w & MMU_PRESENT))
		return READING("table or 4 KiB leaf", npt_leaf);
	return is_table(w, BIT(10)) ? READING("table", npt_table) : READING("leaf", npt_leaf);
}

static struct reading read_mmio(uint64_t w)
{
	struct reading reading;

	if (is_mmio_npt(w))
		return READING("MMIO", mmio_npt);
	if (is_mmio_ept(w))
		return READING("MMIO", mmio_ept);
	if (is_mmio_td(w))
		return READING("MMIO of a TD", mmio_td);
	reading = read_ept(w);
	reading.kind = "not MMIO";
	return reading;
}

static const char *sept_state(uint64_t w)
{
	unsigned int code = bits(w, 7, 6) << 5 | bits(w, 56, 53) << 1 | bits(w, 9, 9);

	if (!(w & SVE))
		return NULL;
	for (uint32_t i = 0; i < ARRAY_SIZE(sept_states); i++)
		if (sept_states[i].code == code)
			return sept_states[i].name;
	return NULL;
}

static struct reading read_sept(uint64_t w)
{
	const char *state = sept_state(w);

	return READING(state ? state : "in no state that the module has", sept_entry);
}

static struct reading read_word(uint64_t w, enum tpt_word_format format)
{
	switch (format) {
	case TPT_WORD_NPT:
		return read_npt(w);
	case TPT_WORD_SEPT:
		return read_sept(w);
	case TPT_WORD_MMIO:
		return read_mmio(w);
	default:
		return read_ept(w);
	}
}

static const char *field_meaning(const struct layout_field *f, uint64_t value)
{
	if (f->meaning)
		return f->meaning[value];
	return f->set && value ? f->set : f->clear;
}

void tpt_word_decode(uint64_t word, enum tpt_word_format format, struct tpt_word *out)
{
	struct reading reading = read_word(word, format);

	out->format = format;
	out->kind = reading.kind;
	out->nr_fields = 0;
	for (uint32_t i = 0; i < reading.nr; i++) {
		const struct layout_field *f = &reading.fields[i];
		uint64_t value = bits(word, f->high, f->low);

		if (f->flags & OMIT_IF_CLEAR && !value)
			continue;
		out->field[out->nr_fields++] = (struct tpt_word_field){
			.high = f->high,
			.low = f->low,
			.name = f->name,
			.meaning = field_meaning(f, value),
			.source = f->source,
			.value = value,
		};
	}
}

_Static_assert(ARRAY_SIZE(sept_entry) <= TPT_WORD_MAX_FIELDS &&
		       ARRAY_SIZE(ept_leaf) <= TPT_WORD_MAX_FIELDS,
	       "the longest layouts fit into a struct tpt_word");

/* ---- which format is it? -------------------------------------------------------------------- */

/* A word that the MMU marked present. */
static enum tpt_word_format guess_marked(uint64_t w, const char **reason)
{
	if (!(w & BIT(0))) {
		*reason =
			"present to the MMU with bit 0 clear: npt would have P set, ept may lack R";
		return TPT_WORD_EPT;
	}
	if (w & (BIT(57) | BIT(58))) {
		*reason =
			"bits 57 and 58 are HOST_WRITABLE and MMU_WRITABLE in ept; npt has 9 and 10";
		return TPT_WORD_EPT;
	}
	if (w & BIT(10)) {
		*reason =
			"bit 10 is MMU_WRITABLE in npt; ept has bit 58 for it and leaves 10 clear";
		return TPT_WORD_NPT;
	}
	if (is_table(w, BIT(10) | BIT(58)) && bits(w, 6, 3)) {
		*reason =
			"a table entry with one of bits 6:3 set: reserved in ept, bit 5 is A in npt";
		return TPT_WORD_NPT;
	}
	if (w & BIT(8)) {
		*reason =
			"bit 8 is the accessed flag of ept; npt would have bit 5 and never bit 8 (G)";
		return TPT_WORD_EPT;
	}
	if (w & BIT(5) && !bits(w, 4, 3)) {
		*reason =
			"bit 5 is the accessed flag of npt; as ept it would be an odd memory type, WT";
		return TPT_WORD_NPT;
	}
	if (w & BIT(2) && !(w & SVE) && !bits(w, 5, 3)) {
		*reason = "bits 5:3 clear and bit 63 clear: plain npt; ept would be uncacheable";
		return TPT_WORD_NPT;
	}
	*reason = "bits 5:3 are a memory type of ept; as npt they would be odd cache controls";
	return TPT_WORD_EPT;
}

/* A word that some processor takes as present, without the MMU's mark. */
static enum tpt_word_format guess_unmarked(uint64_t w, const char **reason)
{
	if (!bits(w, 7, 3)) {
		*reason =
			"no MMU_PRESENT, bits 7:3 clear: a table entry of ept; npt would have A, bit 5";
		return TPT_WORD_EPT;
	}
	if (bits(w, 5, 3) == 6) {
		*reason =
			"no MMU_PRESENT, bits 5:3 are 6: write-back in ept, odd cache controls in npt";
		return TPT_WORD_EPT;
	}
	if (w & BIT(0)) {
		*reason = "no MMU_PRESENT, and bits 5:3 are no usual memory type of ept: npt";
		return TPT_WORD_NPT;
	}
	*reason = "no MMU_PRESENT and bit 0 clear, so not present in npt";
	return TPT_WORD_EPT;
}

static enum tpt_word_format guess_absent(uint64_t w, const char **reason)
{
	if (is_empty(w))
		*reason =
			w ? "the empty entry, the same word in all trees: bit 63 means something in ept"
			  : "an empty entry of older kernels, the same word in all formats";
	else
		*reason = "the frozen entry, the same word in all trees";
	return TPT_WORD_EPT;
}

enum tpt_word_format tpt_word_guess(uint64_t word, const char **reason)
{
	if (is_empty(word) || is_frozen(word))
		return guess_absent(word, reason);
	if (word & MMU_PRESENT)
		return guess_marked(word, reason);
	if (is_mmio_npt(word)) {
		*reason = "P with reserved bit 51, and no MMU_PRESENT: an MMIO word of npt";
		return TPT_WORD_MMIO;
	}
	if (is_mmio_ept(word)) {
		*reason = "X and W without R is a misconfiguration: an MMIO word of ept";
		return TPT_WORD_MMIO;
	}
	if (is_blocked(word)) {
		*reason =
			"not present, but with the mark of a blocked leaf, bit 59: a mirror entry";
		return TPT_WORD_EPT;
	}
	if (sept_state(word)) {
		*reason = "bit 63 set, no MMU_PRESENT, and the bits of a Secure EPT state";
		return TPT_WORD_SEPT;
	}
	if (is_mmio_td(word)) {
		*reason = "no access and bit 63 clear, but not 0: an MMIO word of a TD";
		return TPT_WORD_MMIO;
	}
	return guess_unmarked(word, reason);
}

const char *tpt_word_format_name(enum tpt_word_format format)
{
	static const char *const names[TPT_WORD_NR] = {
		[TPT_WORD_EPT] = "ept",
		[TPT_WORD_NPT] = "npt",
		[TPT_WORD_SEPT] = "sept",
		[TPT_WORD_MMIO] = "mmio",
	};

	return (unsigned int)format < TPT_WORD_NR ? names[format] : "unknown";
}
