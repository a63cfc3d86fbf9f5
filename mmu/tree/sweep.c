// SPDX-License-Identifier: BSD-2-Clause
/*
 * The transition's second form: one rule for many leaves of one direct table. What is legal and
 * what is lost is decided once, and what went is counted once; each leaf then costs one locked
 * instruction, because processors set A and D at the same time. Adds nothing to a table.
 *
 *	shared:     leaf --compare-and-exchange--> the same, less     it may be no leaf any more
 *	exclusive:  leaf --exchange--> EMPTY                          only A and D can have changed
 *
 * One algorithm, compiled once for each kind of rule: what a rule is made of lies in registers, and
 * nothing is called for an entry unless somebody listens.
 */
#include "mmu/tree/tree.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* Kinds of rules. */
enum form {
	FORM_TAKE, /* one bit is taken */
	FORM_KEEP, /* any bits are taken, and some may be remembered */
	FORM_LOOK, /* nothing changes */
	FORM_ZAP,  /* all goes */
};

/* What a rule is made of in this format. */
struct bits {
	uint64_t lost;	     /* leaves that have any of these are hit, and lose them all */
	uint64_t kept;	     /* of those: remembered at << PTE_KEPT_SHIFT */
	uint64_t minus_lost; /* the same, negative: see after() */
	uint64_t dirty, young;
	uint64_t spread; /* see zap_half() */
};

/* A pass over entries of one table. */
struct pass {
	struct actor *actor;
	const struct tree_iter *it;
	enum form form;
	bool mmio; /* MMIO entries are zapped too */
	bool stop; /* at a table */
	struct bits bits;
};

/* What came of up to 64 entries: a bit each. */
struct word {
	uint64_t hit, dirty, young;
};

/* How a pass is compiled. */
struct kind {
	enum form form;
	bool small; /* entries are 4K: there is no table to stop at */
	bool told;  /* somebody may listen */
};

static struct pass make_pass(struct actor *actor, const struct tree_iter *it, enum tree_rule rule)
{
	const struct pte_format *f = &it->trees->format;
	struct pass p = {.actor = actor, .it = it, .stop = it->level > it->min_level};
	uint64_t lost = 0;

	switch (rule) {
	case TREE_WRITE_PROTECT:
		lost = f->write;
		break;
	case TREE_WRITE_TRACK:
		lost = f->write | f->mmu_writable;
		break;
	case TREE_CLEAR_DIRTY:
		lost = f->dirty;
		break;
	case TREE_AGE:
		lost = f->young;
		p.bits.kept = f->kept;
		break;
	case TREE_TEST_AGE:
		p.form = FORM_LOOK;
		lost = f->young;
		break;
	case TREE_ZAP:
	case TREE_ZAP_MMIO:
		p.form = FORM_ZAP;
		p.mmio = rule == TREE_ZAP_MMIO;
		p.bits.dirty = tree_dirty_bits(f);
		p.bits.young = f->young;
		p.bits.spread = 1ull << 31 | 1;
		break;
	}
	if (p.form == FORM_TAKE && (!lost || lost & (lost - 1)))
		p.form = FORM_KEEP;
	p.bits.lost = lost;
	p.bits.minus_lost = -lost;
	return p;
}

/* What a leaf is after it was hit. */
ALWAYS_INLINE uint64_t after(enum form form, struct bits bits, uint64_t leaf)
{
	if (form == FORM_ZAP)
		return PTE_EMPTY_WORD;
	if (form == FORM_KEEP)
		return (leaf & ~bits.lost) | (leaf & bits.kept) << PTE_KEPT_SHIFT;
	/* One bit, and it is set: an addition takes it with one instruction less. */
	return leaf + bits.minus_lost;
}

/* Hits one entry if it is a leaf that has something to lose; *old is what it was, or is. */
ALWAYS_INLINE bool take(struct kind k, struct bits bits, entry_t *entry, uint64_t *old)
{
	*old = atomic_load_explicit(entry, memory_order_acquire);
	do {
		if (!(*old & PTE_MMU_PRESENT) || (!k.small && !(*old & PTE_PS)))
			return false;
		if (k.form == FORM_ZAP) {
			*old = atomic_exchange_explicit(entry, PTE_EMPTY_WORD,
							memory_order_seq_cst);
			return true;
		}
		if (!(*old & bits.lost))
			return false;
		if (k.form == FORM_LOOK)
			return true;
	} while (!atomic_compare_exchange_weak_explicit(
		entry, old, after(k.form, bits, *old), memory_order_seq_cst, memory_order_acquire));
	return true;
}

static void tell(const struct pass *p, const entry_t *entry, uint64_t old, uint64_t new_)
{
	const struct tree_iter *it = p->it;
	tpt_gfn offset = (tpt_gfn)(entry - it->entry) * tpt_level_pages(it->level);

	if (!it->trees->told)
		return;
	vm_event(it->trees->base, &(struct tpt_event){.kind = TPT_EVENT_SPTE_CHANGED,
						      .vcpu = p->actor->vcpu,
						      .as_id = tree_as_id(it->id),
						      .level = it->level,
						      .gfn = it->gfn + offset,
						      .old_spte = {old},
						      .new_spte = {new_}});
}

static void zap_mmio(const struct pass *p, entry_t *entry, uint64_t old)
{
	if (pte_kind(&p->it->trees->format, (tpt_spte){old}, p->it->level) != PTE_MMIO)
		return;
	atomic_exchange_explicit(entry, PTE_EMPTY_WORD, memory_order_seq_cst);
	count_add(p->actor, count_tree(TPT_TREE_DIRECT, COUNT_TREE_MMIO), -1);
	tell(p, entry, old, PTE_EMPTY_WORD);
}

/* One entry, whose bit in the word is @bit. False: it is a table to stop at. */
ALWAYS_INLINE bool sweep_entry(const struct pass *p, struct kind k, struct bits bits,
			       entry_t *entry, uint64_t bit, struct word *w)
{
	uint64_t old;

	if (!take(k, bits, entry, &old)) {
		if (k.form == FORM_ZAP && p->mmio)
			zap_mmio(p, entry, old);
		return k.small || !p->stop || !(old & PTE_MMU_PRESENT) || old & PTE_PS;
	}
	w->hit |= bit;
	if (k.form == FORM_ZAP) {
		if (old & bits.dirty)
			w->dirty |= bit;
		if (old & bits.young)
			w->young |= bit;
	}
	if (k.told && k.form != FORM_LOOK)
		tell(p, entry, old, after(k.form, bits, old));
	return true;
}

/* @nr entries, 64 at most. Returns how many of them were done. */
ALWAYS_INLINE unsigned int sweep_all(const struct pass *p, struct kind k, struct bits bits,
				     entry_t *entry, unsigned int nr, struct word *w)
{
	const entry_t *first = entry;
	unsigned int shift = 64 - nr;

	/* The last one's bit is bit 63, so that the bit itself says where to end. */
	for (uint64_t bit = 1ull << shift; bit; bit <<= 1, entry++)
		if (!sweep_entry(p, k, bits, entry, bit, w))
			break;
	w->hit >>= shift;
	w->dirty >>= shift;
	w->young >>= shift;
	return k.small ? nr : (unsigned int)(entry - first);
}

/* Those of @nr entries, 64 at most, that are in @mask. */
ALWAYS_INLINE unsigned int sweep_some(const struct pass *p, struct kind k, struct bits bits,
				      entry_t *entry, unsigned int nr, uint64_t mask,
				      struct word *w)
{
	for (mask &= ~0ull >> (64 - nr); mask; mask &= mask - 1) {
		unsigned int i = (unsigned int)__builtin_ctzll(mask);

		if (!sweep_entry(p, k, bits, &entry[i], 1ull << i, w))
			return i;
	}
	return nr;
}

/* Bits that are set: the least processor has no instruction for it. */
static unsigned int weight(uint64_t w)
{
	if (w == ~0ull)
		return 64;
	w -= w >> 1 & 0x5555555555555555ull;
	w = (w & 0x3333333333333333ull) + (w >> 2 & 0x3333333333333333ull);
	w = (w + (w >> 4)) & 0x0f0f0f0f0f0f0f0full;
	return (unsigned int)(w * 0x0101010101010101ull >> 56);
}

/* The pass. Returns the hits. */
ALWAYS_INLINE unsigned int run_pass(const struct pass *p, struct kind k, unsigned int nr,
				    struct tree_sweep *sweep)
{
	const struct bits bits = p->bits;
	entry_t *entry = p->it->entry;
	unsigned int hits = 0, some, n;

	sweep->done = 0;
	for (unsigned int i = 0; nr; i++) {
		uint64_t mask = sweep->mask ? sweep->mask[i] : ~0ull;
		struct word w = {0};

		some = nr < 64 ? nr : 64;
		n = ~mask ? sweep_some(p, k, bits, entry, some, mask, &w)
			  : sweep_all(p, k, bits, entry, some, &w);
		sweep->hit[i] = w.hit;
		if (k.form == FORM_ZAP) {
			sweep->dirty[i] = w.dirty;
			sweep->young[i] = w.young;
		}
		hits += weight(w.hit);
		sweep->done += n;
		if (n < some)
			break;
		entry += n;
		nr -= n;
	}
	return hits;
}

#define COMPILE(name, ...)                                                                        \
	static __attribute__((noinline)) unsigned int name(const struct pass *p, unsigned int nr, \
							   struct tree_sweep *sweep)              \
	{                                                                                         \
		return run_pass(p, (struct kind){__VA_ARGS__}, nr, sweep);                        \
	}

/* What there is much of, and the rest. */
COMPILE(take_small, FORM_TAKE, true, false)
COMPILE(look_small, FORM_LOOK, true, false)
COMPILE(any, p->form, p->it->level == TPT_LEVEL_4K, true)

/*
 * Zaps @nr 4K entries, 32 at most, where D is the bit above A. One multiply gathers both: times
 * 2^31 + 1, A stays where it is and D comes to be 32 above that; a rotation then makes room for the
 * next. Returns the hits, a bit each; *used is young in its low half, dirty in its high one.
 */
ALWAYS_INLINE uint64_t zap_half(struct bits bits, entry_t *entry, unsigned int nr, uint64_t *used)
{
	const uint64_t both = bits.young | bits.dirty, apart = bits.young | bits.young << 32;
	const unsigned int turn = (nr - (unsigned int)__builtin_ctzll(bits.young)) % 64;
	uint64_t hit = 0, acc = 0, old;

	for (uint64_t bit = 1ull << (64 - nr); bit; bit <<= 1, entry++) {
		old = atomic_load_explicit(entry, memory_order_relaxed);
		if (__builtin_expect(!!(old & PTE_MMU_PRESENT), 1)) {
			old = atomic_exchange_explicit(entry, PTE_EMPTY_WORD, memory_order_seq_cst);
			hit |= bit;
			acc |= (old & both) * bits.spread & apart;
		}
		acc = acc >> 1 | acc << 63;
	}
	*used = acc << turn | acc >> (-turn % 64);
	return hit >> (64 - nr);
}

static __attribute__((noinline)) unsigned int zap_small(const struct pass *p, unsigned int nr,
							struct tree_sweep *sweep)
{
	const struct bits bits = p->bits;
	entry_t *entry = p->it->entry;
	unsigned int hits = 0;

	sweep->done = nr;
	for (unsigned int i = 0; nr; i++) {
		unsigned int low = nr < 32 ? nr : 32, high = nr - low < 32 ? nr - low : 32;
		uint64_t used[2] = {0}, hit = zap_half(bits, entry, low, &used[0]);

		if (high)
			hit |= zap_half(bits, entry + 32, high, &used[1]) << 32;
		sweep->hit[i] = hit;
		sweep->young[i] = (uint32_t)used[0] | used[1] << 32;
		sweep->dirty[i] = used[0] >> 32 | (used[1] & ~0ull << 32);
		hits += weight(hit);
		entry += 64;
		nr -= low + high;
	}
	return hits;
}

static unsigned int choose(const struct pass *p, unsigned int nr, struct tree_sweep *sweep)
{
	bool plain = p->it->level == TPT_LEVEL_4K && !p->it->trees->told;

	if (plain && p->form == FORM_TAKE)
		return take_small(p, nr, sweep);
	if (plain && p->form == FORM_LOOK)
		return look_small(p, nr, sweep);
	if (plain && p->form == FORM_ZAP && !p->mmio && !sweep->mask &&
	    p->bits.dirty == p->bits.young << 1)
		return zap_small(p, nr, sweep);
	return any(p, nr, sweep);
}

/* What no rule may be used for. */
static bool is_legal(const struct tree_iter *it, enum form form)
{
	if (it->id != TREE_MIRROR && (form != FORM_ZAP || it->trees->base->in_exclusive))
		return true;
	vm_die(it->trees->base, "illegal sweep of %s entries: gfn %#lx level %u, %s",
	       it->id == TREE_MIRROR ? "mirror" : "direct", it->gfn, it->level,
	       form == FORM_ZAP ? "zapped" : "not zapped");
	return false;
}

unsigned int tree_sweep(struct actor *actor, struct tree_iter *it, unsigned int nr,
			struct tree_sweep *sweep)
{
	const struct pass p = make_pass(actor, it, sweep->rule);
	unsigned int hits;

	if (!is_legal(it, p.form)) {
		sweep->done = nr;
		return 0;
	}
	hits = choose(&p, nr, sweep);
	if (p.form == FORM_ZAP && hits)
		count_add(actor, count_tree(TPT_TREE_DIRECT, it->level), -(int64_t)hits);
	/* Young is a hint: who aged owes nothing. */
	if (hits && p.form != FORM_LOOK && sweep->rule != TREE_AGE)
		it->must_flush = true;
	iter_reread(it);
	return hits;
}
