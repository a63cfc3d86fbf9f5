// SPDX-License-Identifier: BSD-2-Clause
/*
 * The hypervisor's reading of one instruction: stores of every form, where they lie in memory under
 * every kind of paging, and what is refused. The random test's seed is printed; TRIPTYCH_SEED sets
 * it.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "hypervisor/decode.c" /* NOLINT(bugprone-suspicious-include) */
#include "tests/hypervisor/stores.h"

/* ---- the guest's memory: pages, wherever they are ---- */

#define PAGES_MAX 64

static struct {
	uint64_t gpa;
	uint8_t bytes[4096] __attribute__((aligned(8)));
} pages[PAGES_MAX];
static unsigned int nr_pages, nr_reads;
static uint64_t next_table;

void *guest_memory(uint64_t gpa, uint64_t bytes)
{
	nr_reads++;
	for (unsigned int i = 0; i < nr_pages; i++)
		if (gpa >= pages[i].gpa && gpa + bytes <= pages[i].gpa + 4096)
			return pages[i].bytes + (gpa - pages[i].gpa);
	return NULL;
}

static uint8_t *page_at(uint64_t gpa)
{
	uint8_t *page = guest_memory(gpa & ~4095ull, 4096);

	if (page)
		return page;
	assert_true(nr_pages < PAGES_MAX);
	memset(pages[nr_pages].bytes, 0, 4096);
	pages[nr_pages].gpa = gpa & ~4095ull;
	return pages[nr_pages++].bytes;
}

static void put(uint64_t gpa, const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		page_at(gpa + i)[(gpa + i) & 4095] = bytes[i];
}

/* ---- the guest's processor ---- */

enum mode { FLAT, TWO_LEVELS, PAE, COMPATIBLE, FOUR_LEVELS, FIVE_LEVELS, MODES };

static bool is_long(enum mode mode)
{
	return mode >= FOUR_LEVELS;
}

static unsigned int levels_of(enum mode mode)
{
	static const unsigned int levels[MODES] = {0, 2, 3, 4, 4, 5};

	return levels[mode];
}

static struct vmcb vmcb;
static struct vcpu vcpu;

static uint64_t reg_of(unsigned int n)
{
	return 0x0123456789abcdefull * (n + 1) ^ 0x8000000000000000ull;
}

static void begin(enum mode mode)
{
	memset(&vmcb, 0, sizeof(vmcb));
	nr_pages = nr_reads = 0;
	next_table = 0x100000;
	vcpu = (struct vcpu){.vmcb = &vmcb};
	vmcb.cs.attributes = is_long(mode) ? SVM_SEG_CODE64 : SVM_SEG_CODE32;
	vmcb.cr0 = CR0_PE | (mode == FLAT ? 0 : CR0_PG);
	vmcb.cr4 = mode == FLAT || mode == TWO_LEVELS ? CR4_PSE : CR4_PAE;
	if (mode >= COMPATIBLE)
		vmcb.efer = EFER_LME | EFER_LMA | EFER_NXE;
	if (mode == FIVE_LEVELS)
		vmcb.cr4 |= CR4_LA57;
	vmcb.cr3 = next_table;
	next_table += 4096;
	page_at(vmcb.cr3);
	vmcb.rax = reg_of(0);
	vmcb.rsp = reg_of(4);
	vcpu.regs = (struct registers){
		.rcx = reg_of(1),
		.rdx = reg_of(2),
		.rbx = reg_of(3),
		.rbp = reg_of(5),
		.rsi = reg_of(6),
		.rdi = reg_of(7),
		.r8 = reg_of(8),
		.r9 = reg_of(9),
		.r10 = reg_of(10),
		.r11 = reg_of(11),
		.r12 = reg_of(12),
		.r13 = reg_of(13),
		.r14 = reg_of(14),
		.r15 = reg_of(15),
	};
}

static void *entry_of(enum mode mode, uint64_t table, uint64_t la, unsigned int level)
{
	unsigned int bits = mode == TWO_LEVELS ? 10 : 9, bytes = mode == TWO_LEVELS ? 4 : 8;
	uint64_t index = la >> (12 + bits * (level - 1)) & ((1u << bits) - 1);

	return page_at(table) + (table & 4095) + index * bytes;
}

static uint64_t word_of(enum mode mode, const void *entry)
{
	uint32_t narrow;
	uint64_t wide;

	memcpy(&narrow, entry, 4);
	if (mode == TWO_LEVELS)
		return narrow;
	memcpy(&wide, entry, 8);
	return wide;
}

/* The entry of @la at @level, with the tables above it made. */
static void *walk(enum mode mode, uint64_t la, unsigned int level)
{
	uint64_t table = vmcb.cr3 & (mode == PAE ? 0xffffffe0 : 0xffffff000);

	for (unsigned int l = levels_of(mode); l > level; l--) {
		void *entry = entry_of(mode, table, la, l);
		uint64_t word = word_of(mode, entry);

		if (!(word & 1)) {
			/* A PDPTE has no W and no U. */
			word = next_table | (mode == PAE && l == 3 ? 1 : 0x67);
			next_table += 4096;
			memcpy(entry, &word, mode == TWO_LEVELS ? 4 : 8);
		}
		table = word & 0xffffff000;
		page_at(table);
	}
	return entry_of(mode, table, la, level);
}

static void map(enum mode mode, uint64_t la, unsigned int level, uint64_t word)
{
	if (mode != FLAT)
		memcpy(walk(mode, la, level), &word, mode == TWO_LEVELS ? 4 : 8);
}

/* Code at @la, which lies at @gpa, a page and what follows it. */
static void place(enum mode mode, uint64_t la, uint64_t gpa, const uint8_t *code, size_t n)
{
	map(mode, la, 1, (gpa & ~4095ull) | 0x25);
	map(mode, la + 4096, 1, (gpa & ~4095ull) + 4096 + 0x25);
	put(gpa, code, n);
	vmcb.rip = la;
}

#define assert_stores(value_, bytes_, length_)              \
	do {                                                \
		struct store s = {0};                       \
                                                            \
		assert_true(decode_store(&vcpu, &s));       \
		assert_int_equal(s.bytes, bytes_);          \
		assert_int_equal(s.length, length_);        \
		assert_true(s.value == (uint64_t)(value_)); \
	} while (0)

#define assert_refused()                               \
	do {                                           \
		struct store s;                        \
                                                       \
		assert_false(decode_store(&vcpu, &s)); \
	} while (0)

static const uint8_t mov_ecx[] = {0x89, 0x08}, mov_r9[] = {0x4c, 0x89, 0x08};
#define ECX ((uint32_t)reg_of(1))

/* MOV [eax], ecx is read at @la; in which mode it is, and where, is set up. */
static bool is_read(void)
{
	struct store s;

	return decode_store(&vcpu, &s) && s.length == 2 && s.value == ECX;
}

/* ---- forms ---- */

static void check_rows(enum mode mode, const struct row *rows, size_t nr)
{
	uint64_t la = is_long(mode) ? 0xffffffff81000ff5ull : 0xc0000ff5;
	uint64_t gpa = mode == FLAT ? la : 0x7ff5;

	for (size_t i = 0; i < nr; i++) {
		const struct row *r = &rows[i];
		struct store s = {0};
		uint64_t value = r->reg < 0 ? r->value : reg_of((unsigned int)r->reg);

		begin(mode);
		place(mode, la, gpa, r->code, r->length);
		if (r->bytes == 4)
			value = (uint32_t)value;
		if (!decode_store(&vcpu, &s) || s.length != r->length || s.bytes != r->bytes ||
		    s.value != value)
			fail_msg("%s, mode %d: %u bytes, %u of value %#llx", r->text, mode,
				 s.length, s.bytes, (unsigned long long)s.value);
	}
}

static void every_store_is_read_as_the_assembler_wrote_it(void **state)
{
	(void)state;
	for (enum mode mode = 0; mode < MODES; mode++) {
		if (is_long(mode))
			check_rows(mode, rows64, sizeof(rows64) / sizeof(rows64[0]));
		else
			check_rows(mode, rows32, sizeof(rows32) / sizeof(rows32[0]));
	}
}

static uint64_t random_state;

static unsigned int pick(unsigned int n)
{
	random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned int)(random_state >> 33) % n;
}

/* APM vol. 3, "ModRM and SIB Bytes": bytes that follow what names an address. */
static size_t encode_address(uint8_t *at, unsigned int reg)
{
	unsigned int mode = pick(3), base = pick(8);
	size_t n = 1, offset;

	at[0] = (uint8_t)(mode << 6 | reg << 3 | base);
	if (base == 4) {
		base = pick(8);
		at[n++] = (uint8_t)(pick(4) << 6 | pick(8) << 3 | base);
	}
	offset = mode == 2 || (mode == 0 && base == 5) ? 4 : mode;
	for (size_t i = 0; i < offset; i++)
		at[n++] = (uint8_t)pick(256);
	return n;
}

static void stores_at_random_are_read(void **state)
{
	static const uint8_t segments[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};
	const char *text = getenv("TRIPTYCH_SEED");

	(void)state;
	random_state = text ? strtoull(text, NULL, 0) : (uint64_t)time(NULL);
	print_message("TRIPTYCH_SEED=%llu\n", (unsigned long long)random_state);
	for (unsigned int round = 0; round < 40000; round++) {
		enum mode mode = (enum mode)pick(MODES);
		uint64_t la = is_long(mode) ? 0x7f0000000000ull : 0x400000, gpa;
		unsigned int rex = is_long(mode) && pick(3) ? 0x40 + pick(16) : 0, reg = pick(8);
		uint64_t value;
		uint8_t code[32];
		size_t n = 0;

		la += 0xfe0 + pick(0x40);
		gpa = mode == FLAT ? la : 0x123000 + (la & 4095);
		for (unsigned int i = pick(3); i; i--)
			code[n++] = segments[pick(6)];
		if (rex)
			code[n++] = (uint8_t)rex;
		if (pick(2)) {
			code[n++] = 0x89;
			n += encode_address(code + n, reg);
			value = reg_of(reg + (rex & 4 ? 8 : 0));
		} else if (pick(4)) {
			int32_t constant = (int32_t)(pick(1u << 31) << 1 | pick(2));

			code[n++] = 0xc7;
			n += encode_address(code + n, 0);
			memcpy(code + n, &constant, 4);
			n += 4;
			value = (uint64_t)(int64_t)constant;
		} else {
			code[n++] = 0xa3;
			n += is_long(mode) ? 8 : 4;
			value = reg_of(0);
		}
		begin(mode);
		place(mode, la, gpa, code, n);
		if (n > 15)
			assert_refused();
		else
			assert_stores(rex & 8 ? value : (uint32_t)value, rex & 8 ? 8 : 4, n);
	}
}

static void what_is_no_plain_store_is_refused(void **state)
{
	static const uint8_t codes[][15] = {
		{0x89, 0xc8},		     /* mov eax, ecx */
		{0x89, 0xc5},		     /* mov ebp, eax */
		{0xc7, 0xc0, 1},	     /* mov eax, 1 */
		{0xc7, 0x08, 1},	     /* c7 /1 */
		{0xc7, 0xf8, 1},	     /* xbegin */
		{0x88, 0x08},		     /* mov [rax], cl */
		{0xc6, 0x00, 1},	     /* mov byte [rax], 1 */
		{0x8b, 0x08},		     /* mov ecx, [rax] */
		{0xa1, 0xb0, 0, 0xe0, 0xfe}, /* mov eax, [...] */
		{0xa2, 0xb0, 0, 0xe0, 0xfe}, /* mov [...], al */
		{0xab},			     /* stosd */
		{0x87, 0x08},		     /* xchg [rax], ecx */
		{0x09, 0x08},		     /* or [rax], ecx */
		{0x66, 0x89, 0x08},	     /* mov [rax], cx */
		{0x67, 0x89, 0x08},	     /* mov [eax], ecx, or [bx + si], cx */
		{0xf0, 0x89, 0x08},	     /* lock mov: #UD */
		{0xf3, 0x89, 0x08},	     /* repeated */
		{0x2e, 0x66, 0x89, 0x08},    /* cs, and 16 bits of it */
		{0x0f, 0xc3, 0x08},	     /* movnti [rax], ecx */
		{0x0f, 0x11, 0x08},	     /* movups [rax], xmm1 */
		{0x0f, 0x38, 0xf1, 0x08},    /* movbe [rax], ecx */
		{0x90},
		{0x00},
	};
	static const uint8_t rex[][15] = {
		{0x48, 0x66, 0x89, 0x08},
		{0x48, 0x48, 0x89, 0x08},
		{0x48, 0x2e, 0x89, 0x08}, /* a prefix behind REX makes it none */
		{0x48, 0x89, 0xc8},
	};

	(void)state;
	for (enum mode mode = 0; mode < MODES; mode++) {
		for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
			begin(mode);
			place(mode, 0x400000, mode == FLAT ? 0x400000 : 0x7000, codes[i], 15);
			assert_refused();
		}
		/* In 32-bit code these begin with DEC. */
		for (size_t i = 0; i < sizeof(rex) / sizeof(rex[0]); i++) {
			begin(mode);
			place(mode, 0x400000, mode == FLAT ? 0x400000 : 0x7000, rex[i], 15);
			assert_refused();
		}
	}
}

static void what_is_rex_in_64_bit_code_is_an_instruction_in_32_bit_code(void **state)
{
	(void)state;
	for (enum mode mode = 0; mode < MODES; mode++) {
		for (unsigned int rex = 0x40; rex < 0x50; rex++) {
			const uint8_t code[] = {(uint8_t)rex, 0x89, 0x08};
			struct store s;

			begin(mode);
			place(mode, 0x400000, mode == FLAT ? 0x400000 : 0x7000, code, 3);
			assert_int_equal(decode_store(&vcpu, &s), is_long(mode));
		}
	}
}

static void sixteen_bit_code_is_refused(void **state)
{
	(void)state;
	for (enum mode mode = FLAT; mode < MODES; mode++) {
		begin(mode);
		place(mode, 0x400000, mode == FLAT ? 0x400000 : 0x7000, mov_ecx, 2);
		vmcb.cs.attributes = SVM_SEG_CODE16;
		assert_refused();
	}
}

/* APM vol. 3, "Instruction Overview": 15 bytes at most, whatever they are. */
static void an_instruction_of_more_than_15_bytes_is_refused_soon(void **state)
{
	uint8_t code[4096];

	(void)state;
	memset(code, 0x2e, sizeof(code));
	for (enum mode mode = 0; mode < MODES; mode++) {
		for (size_t prefixes = 0; prefixes < 20; prefixes++) {
			begin(mode);
			memset(code, 0x2e, sizeof(code));
			memcpy(code + prefixes, mov_ecx, 2);
			place(mode, 0x400000, mode == FLAT ? 0x400000 : 0x7000, code, 40);
			if (prefixes <= 13)
				assert_stores(ECX, 4, prefixes + 2);
			else
				assert_refused();
		}
		/* A page of prefixes is not gone through. */
		begin(mode);
		memset(code, 0x2e, sizeof(code));
		place(mode, 0x400000, mode == FLAT ? 0x400000 : 0x7000, code, sizeof(code));
		nr_reads = 0;
		assert_refused();
		assert_true(nr_reads <= 16 * 6);
	}
}

/* ---- where the code is ---- */

static void the_second_page_of_an_instruction_is_looked_up_by_itself(void **state)
{
	static const uint8_t code[] = {0x64, 0xc7, 0x80, 0xb0, 0, 0, 0, 0x78, 0x56, 0x34, 0x12};

	(void)state;
	for (enum mode mode = TWO_LEVELS; mode < MODES; mode++) {
		for (unsigned int before = 1; before < sizeof(code); before++) {
			uint64_t la = 0x400000 - before;

			/* Another table of the lowest level, and another page. */
			begin(mode);
			map(mode, 0x3ff000, 1, 0x9025);
			map(mode, 0x400000, 1, 0x3025);
			put(0xa000 - before, code, before);
			put(0x3000, code + before, sizeof(code) - before);
			vmcb.rip = la;
			assert_stores(0x12345678, 4, sizeof(code));
			/* Present, but nobody's memory; and not present. */
			map(mode, 0x400000, 1, 0x7777025);
			assert_refused();
			map(mode, 0x400000, 1, 0x3024);
			assert_refused();
		}
		/* What ends with its page needs no other. */
		begin(mode);
		map(mode, 0x3ff000, 1, 0x9025);
		put(0xa000 - sizeof(code), code, sizeof(code));
		vmcb.rip = 0x400000 - sizeof(code);
		assert_stores(0x12345678, 4, sizeof(code));
	}
}

static void without_paging_addresses_are_the_guests_physical_ones(void **state)
{
	(void)state;
	begin(FLAT);
	put(0xffff0, mov_ecx, 2);
	vmcb.rip = 0xffff0;
	assert_true(is_read());
	vmcb.rip = 0xfff0;
	assert_refused();
	vmcb.cs.base = 0xf0000;
	assert_true(is_read());
}

static void an_entry_that_is_not_present_refuses_at_every_level(void **state)
{
	(void)state;
	for (enum mode mode = TWO_LEVELS; mode < MODES; mode++) {
		for (unsigned int level = 1; level <= levels_of(mode); level++) {
			uint64_t word;

			begin(mode);
			place(mode, 0x400000, 0x7000, mov_ecx, 2);
			assert_true(is_read());
			word = word_of(mode, walk(mode, 0x400000, level));
			map(mode, 0x400000, level, word & ~1ull);
			assert_refused();
			/* A table where no memory is. */
			map(mode, 0x400000, level, word | 0x7000000);
			assert_refused();
			map(mode, 0x400000, level, word);
			assert_true(is_read());
		}
	}
}

static void the_root_may_be_nobodys_memory(void **state)
{
	(void)state;
	for (enum mode mode = TWO_LEVELS; mode < MODES; mode++) {
		begin(mode);
		place(mode, 0x400000, 0x7000, mov_ecx, 2);
		vmcb.cr3 = 0x7777000;
		assert_refused();
	}
}

static void bits_of_an_entry_that_are_no_address_change_nothing(void **state)
{
	(void)state;
	for (enum mode mode = TWO_LEVELS; mode < MODES; mode++) {
		for (unsigned int level = 1; level <= levels_of(mode); level++) {
			/* NX and bits 62:52 are the software's; 11:8, and 6 and 5, as well. */
			uint64_t others = mode == TWO_LEVELS ? 0xf7e : 0xfff0000000000f7eull;

			/* In the lowest, bit 7 is PAT. */
			if (level == 1)
				others |= 0x80;
			begin(mode);
			place(mode, 0x400000, 0x7000, mov_ecx, 2);
			map(mode, 0x400000, level,
			    word_of(mode, walk(mode, 0x400000, level)) | others);
			assert_true(is_read());
		}
		begin(mode);
		place(mode, 0x400000, 0x7000, mov_ecx, 2);
		/* PWT and PCD; the process-context identifier in long mode. */
		vmcb.cr3 |= mode == PAE ? 0x18 : mode >= COMPATIBLE ? 0xfff : 0x18;
		assert_true(is_read());
		if (is_long(mode) || mode == COMPATIBLE)
			continue;
		/* No more than 32 bits of CR3 are looked at. */
		vmcb.cr3 |= 0xabcdull << 32;
		assert_true(is_read());
	}
}

static void every_bit_of_an_address_chooses_an_entry(void **state)
{
	(void)state;
	for (enum mode mode = TWO_LEVELS; mode < MODES; mode++) {
		unsigned int width = !is_long(mode) ? 32 : mode == FOUR_LEVELS ? 48 : 57;

		for (unsigned int bit = 12; bit < width; bit++) {
			uint64_t la = 1ull << bit;

			/* Canonical. */
			if (is_long(mode) && bit == width - 1)
				la = ~0ull << bit;
			begin(mode);
			place(mode, la, 0x7000, mov_ecx, 2);
			map(mode, 0, 1, 0x55000);
			assert_true(is_read());
			vmcb.rip = 0;
			assert_refused();
		}
	}
}

/* APM vol. 2, "Page-Translation-Table Entry Fields": bit 12 is PAT in a large page's entry. */
static void large_pages_are_read(void **state)
{
	static const struct {
		enum mode mode;
		unsigned int level;
		uint64_t word, gpa, la;
	} rows[] = {
		{TWO_LEVELS, 2, 0x00c000e3, 0x00c00000, 0xc03ff123},
		{TWO_LEVELS, 2, 0x00c010e3, 0x00c00000, 0x00345678},
		/* Bits 20:13 are 39:32 of the address. */
		{TWO_LEVELS, 2, 0x00c010e3 | 0x12 << 13, 0x1200c00000, 0x00345678},
		{TWO_LEVELS, 2, 0x00c000e3 | 0xff << 13, 0xff00c00000, 0x00000000},
		{PAE, 2, 0x00a000e3, 0x00a00000, 0xc01ff123},
		{PAE, 2, 0x80000012ffa010e3, 0x12ffa00000, 0x40012345},
		{COMPATIBLE, 2, 0x00a010e3, 0x00a00000, 0xc01ff123},
		{COMPATIBLE, 3, 0x400010e3, 0x40000000, 0xffffff23},
		{FOUR_LEVELS, 2, 0x80000012ffa010e3, 0x12ffa00000, 0xffffffff80123456},
		{FOUR_LEVELS, 3, 0x80000012c00010e3, 0x12c0000000, 0xffff88803fffff00},
		{FIVE_LEVELS, 2, 0x80000012ffa000e3, 0x12ffa00000, 0xff11000000123456},
		{FIVE_LEVELS, 3, 0x80000012c00010e3, 0x12c0000000, 0xff1100003fffff00},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		unsigned int bits =
			12 + (rows[i].mode == TWO_LEVELS ? 10 : 9) * (rows[i].level - 1);
		uint64_t within = rows[i].la & ((1ull << bits) - 1);

		begin(rows[i].mode);
		map(rows[i].mode, rows[i].la, rows[i].level, rows[i].word);
		put(rows[i].gpa + within, mov_ecx, 2);
		vmcb.rip = rows[i].la;
		if (!is_read())
			fail_msg("row %zu", i);
	}
}

static void without_pse_an_entry_of_two_levels_is_a_table(void **state)
{
	(void)state;
	begin(TWO_LEVELS);
	vmcb.cr4 = 0;
	map(TWO_LEVELS, 0x400000, 2, 0x2000e3);
	page_at(0x200000);
	put(0x200000, (const uint8_t[]){0x23, 0x70, 0, 0}, 4);
	put(0x7000, mov_ecx, 2);
	vmcb.rip = 0x400000;
	assert_true(is_read());
	/* The same with it: code in the table's own page. */
	vmcb.cr4 = CR4_PSE;
	assert_refused();
}

/* APM vol. 2, "PAE Paging": four entries, 32 bytes aligned, and none of them is a page. */
static void pae_has_four_entries_wherever_they_are(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		begin(PAE);
		vmcb.cr3 += 0xfe0;
		place(PAE, 0x40000000ull * i + 0x1000, 0x7000, mov_ecx, 2);
		assert_true(is_read());
	}
	begin(PAE);
	map(PAE, 0x40001000, 3, 0x400000e3);
	put(0x40001000, mov_ecx, 2);
	vmcb.rip = 0x40001000;
	assert_refused();
}

static void addresses_of_32_bit_code_wrap_at_4g(void **state)
{
	static const uint8_t code[] = {0xc7, 0x00, 0x78, 0x56, 0x34, 0x12};

	(void)state;
	for (enum mode mode = FLAT; mode <= COMPATIBLE; mode++) {
		/* By the segment's base. */
		begin(mode);
		place(mode, 0x5000, 0x5000, mov_ecx, 2);
		vmcb.cs.base = 0xfffff000;
		vmcb.rip = 0x6000;
		assert_true(is_read());
		/* In the middle of an instruction. */
		begin(mode);
		map(mode, 0xfffff000, 1, 0xfffff025);
		map(mode, 0, 1, 0x25);
		put(0xfffffffd, code, 3);
		put(0, code + 3, 3);
		vmcb.rip = 0xfffffffd;
		assert_stores(0x12345678, 4, 6);
	}
}

static void a_segments_base_counts_in_32_bit_code_only(void **state)
{
	(void)state;
	for (enum mode mode = FLAT; mode < MODES; mode++) {
		begin(mode);
		place(mode, 0x405000, mode == FLAT ? 0x405000 : 0x7000, mov_ecx, 2);
		vmcb.cs.base = 0x5000;
		if (!is_long(mode))
			vmcb.rip -= 0x5000;
		assert_true(is_read());
	}
}

static void a_large_register_is_stored_whole(void **state)
{
	(void)state;
	begin(FOUR_LEVELS);
	place(FOUR_LEVELS, 0x400000, 0x7000, mov_r9, 3);
	assert_stores(reg_of(9), 8, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_store_is_read_as_the_assembler_wrote_it),
		cmocka_unit_test(stores_at_random_are_read),
		cmocka_unit_test(what_is_no_plain_store_is_refused),
		cmocka_unit_test(what_is_rex_in_64_bit_code_is_an_instruction_in_32_bit_code),
		cmocka_unit_test(sixteen_bit_code_is_refused),
		cmocka_unit_test(an_instruction_of_more_than_15_bytes_is_refused_soon),
		cmocka_unit_test(the_second_page_of_an_instruction_is_looked_up_by_itself),
		cmocka_unit_test(without_paging_addresses_are_the_guests_physical_ones),
		cmocka_unit_test(an_entry_that_is_not_present_refuses_at_every_level),
		cmocka_unit_test(the_root_may_be_nobodys_memory),
		cmocka_unit_test(bits_of_an_entry_that_are_no_address_change_nothing),
		cmocka_unit_test(every_bit_of_an_address_chooses_an_entry),
		cmocka_unit_test(large_pages_are_read),
		cmocka_unit_test(without_pse_an_entry_of_two_levels_is_a_table),
		cmocka_unit_test(pae_has_four_entries_wherever_they_are),
		cmocka_unit_test(addresses_of_32_bit_code_wrap_at_4g),
		cmocka_unit_test(a_segments_base_counts_in_32_bit_code_only),
		cmocka_unit_test(a_large_register_is_stored_whole),
	};

	return cmocka_run_group_tests_name("decode", tests, NULL, NULL);
}
