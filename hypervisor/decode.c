// SPDX-License-Identifier: BSD-2-Clause
/*
 * The instruction that wrote to the APIC's page: SVM tells where, not what. Plain stores only, as
 * compilers make them: MOV of a register or a constant to memory (APM vol. 3, "MOV", and appendix A
 * for the form of instructions). Reads the guest's code through the guest's own page tables.
 */
#include "hypervisor/hv.h"

#define PTE_P	 (1ull << 0)
#define PTE_PS	 (1ull << 7)
#define PTE_ADDR 0x000ffffffffff000ull
#define REX_W	 8u
#define REX_R	 4u
#define CODE_MAX 15 /* APM vol. 3, "Instruction Overview": bytes of an instruction */

struct code {
	const struct vcpu *v;
	uint64_t at;   /* linear address of the next byte */
	uint64_t mask; /* of linear addresses */
	unsigned int read;
	bool bad;
};

/* ---- from linear to physical: APM vol. 2, "Page Translation and Protection" ---- */

static bool read_entry(uint64_t gpa, unsigned int bytes, uint64_t *entry)
{
	const void *p = guest_memory(gpa, bytes);

	if (!p)
		return false;
	*entry = bytes == 8 ? *(const volatile uint64_t *)p : *(const volatile uint32_t *)p;
	return *entry & PTE_P;
}

/* In an entry of two levels, bits 20:13 are the page's 39:32 ("Page-Translation-Table Entry
 * Fields"); in all of them bit 12 is PAT. */
static uint64_t page_of(uint64_t entry, uint64_t within, bool wide, unsigned int level)
{
	uint64_t high = !wide && level == 2 ? (entry >> 13 & 0xff) << 32 : 0;

	return high | (entry & PTE_ADDR & ~within);
}

/* 32-bit paging has two levels of 1024 entries of 4 bytes; all else 512 of 8. */
static bool translate(const struct vmcb *b, uint64_t la, uint64_t *gpa)
{
	bool wide = b->cr4 & CR4_PAE;
	bool long_mode = b->efer & EFER_LMA;
	unsigned int levels = long_mode ? (b->cr4 & CR4_LA57 ? 5 : 4) : wide ? 3 : 2;
	unsigned int bits = wide ? 9 : 10, bytes = wide ? 8 : 4;
	/* The largest leaf: "PAE Paging" has none of 1 GiB. */
	unsigned int large = long_mode ? 3 : wide || b->cr4 & CR4_PSE ? 2 : 1;
	uint64_t table = b->cr3 & (long_mode ? PTE_ADDR : wide ? 0xffffffe0ull : 0xfffff000ull);
	uint64_t entry;

	if (!(b->cr0 & CR0_PG)) {
		*gpa = la;
		return true;
	}
	for (unsigned int level = levels; level; level--) {
		unsigned int shift = 12 + bits * (level - 1);
		uint64_t index = la >> shift & ((1u << bits) - 1);
		uint64_t within = (1ull << shift) - 1;

		if (!read_entry(table + index * bytes, bytes, &entry))
			return false;
		if (level == 1 || (level <= large && (entry & PTE_PS))) {
			*gpa = page_of(entry, within, wide, level) | (la & within);
			return true;
		}
		table = entry & PTE_ADDR;
	}
	return false;
}

static uint64_t take(struct code *c, unsigned int bytes)
{
	uint64_t value = 0, gpa;

	for (unsigned int i = 0; i < bytes; i++, c->at++, c->read++) {
		const uint8_t *p = NULL;

		if (c->read == CODE_MAX)
			c->bad = true;
		if (!c->bad && translate(c->v->vmcb, c->at & c->mask, &gpa))
			p = guest_memory(gpa, 1);
		if (!p)
			c->bad = true;
		else
			value |= (uint64_t)*p << 8 * i;
	}
	return value;
}

/* ---- the instruction ---- */

static uint64_t register_value(const struct vcpu *v, unsigned int n)
{
	const struct registers *r = &v->regs;
	const uint64_t values[16] = {v->vmcb->rax, r->rcx, r->rdx, r->rbx, v->vmcb->rsp, r->rbp,
				     r->rsi,	   r->rdi, r->r8,  r->r9,  r->r10,	 r->r11,
				     r->r12,	   r->r13, r->r14, r->r15};

	return values[n];
}

/* Over what says where, for 32- and 64-bit addresses; what the register field says. */
static unsigned int take_modrm(struct code *c)
{
	unsigned int modrm = (unsigned int)take(c, 1), mode = modrm >> 6, base = modrm & 7;

	if (mode == 3) {
		c->bad = true;
		return 0;
	}
	if (base == 4)
		base = (unsigned int)take(c, 1) & 7;
	if (mode == 1)
		take(c, 1);
	else if (mode == 2 || base == 5)
		take(c, 4);
	return modrm >> 3 & 7;
}

/* Prefixes that change nothing here: segments; REX, which comes last. */
static bool is_prefix(uint64_t byte)
{
	return byte == 0x26 || byte == 0x2e || byte == 0x36 || byte == 0x3e || byte == 0x64 ||
	       byte == 0x65;
}

bool decode_store(const struct vcpu *v, struct store *store)
{
	const struct vmcb *b = v->vmcb;
	bool long_code = (b->efer & EFER_LMA) && (b->cs.attributes & SVM_SEG_L);
	struct code c = {.v = v,
			 .at = (long_code ? 0 : b->cs.base) + b->rip,
			 .mask = long_code ? ~0ull : ~0u};
	unsigned int rex = 0, reg;
	uint64_t byte = take(&c, 1);

	/* 16-bit addresses have another form, and no business with an APIC above 1 MiB. */
	if (!long_code && !(b->cs.attributes & SVM_SEG_D))
		return false;
	while (is_prefix(byte))
		byte = take(&c, 1);
	if (long_code && (byte & 0xf0) == 0x40) {
		rex = (unsigned int)byte;
		byte = take(&c, 1);
	}
	store->bytes = rex & REX_W ? 8 : 4;
	switch (byte) {
	case 0x89: /* MOV memory, register */
		reg = take_modrm(&c) + (rex & REX_R ? 8 : 0);
		store->value = register_value(v, reg);
		break;
	case 0xc7: /* MOV memory, constant */
		c.bad |= take_modrm(&c) != 0;
		store->value = (uint64_t)(int64_t)(int32_t)take(&c, 4);
		break;
	case 0xa3: /* MOV offset, accumulator */
		take(&c, long_code ? 8 : 4);
		store->value = v->vmcb->rax;
		break;
	default:
		return false;
	}
	if (store->bytes == 4)
		store->value = (uint32_t)store->value;
	store->length = c.read;
	return !c.bad;
}
