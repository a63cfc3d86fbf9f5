// SPDX-License-Identifier: BSD-2-Clause
/*
 * The transition's second form: one rule for many leaves of one direct table. What is legal and
 * what is lost is decided once; each leaf then costs one compare-and-exchange, because processors
 * set A and D at the same time. Adds nothing to a table and takes no leaf away.
 */
#include "mmu/tree/tree.h"

/* What a rule takes from a leaf. */
struct loss {
	uint64_t bits; /* it is taken from leaves that have any of these, and they lose all */
	uint64_t kept; /* of those: remembered at << PTE_KEPT_SHIFT */
	bool look;     /* nothing is taken */
};

static struct loss loss_of(const struct pte_format *f, enum tree_rule rule)
{
	switch (rule) {
	case TREE_WRITE_PROTECT:
		return (struct loss){.bits = f->write};
	case TREE_WRITE_TRACK:
		return (struct loss){.bits = f->write | f->mmu_writable};
	case TREE_CLEAR_DIRTY:
		return (struct loss){.bits = f->dirty};
	case TREE_AGE:
		return (struct loss){.bits = f->young, .kept = f->kept};
	case TREE_TEST_AGE:
		return (struct loss){.bits = f->young, .look = true};
	}
	return (struct loss){0};
}

static tpt_spte after(const struct loss *loss, tpt_spte e)
{
	return (tpt_spte){(e.w & ~loss->bits) | (e.w & loss->kept) << PTE_KEPT_SHIFT};
}

/* Takes from one entry if it is a leaf that has something to lose; *old is what it was. */
static bool take(entry_t *entry, unsigned int level, const struct loss *loss, tpt_spte *old)
{
	*old = entry_read(entry);
	for (;;) {
		if (!pte_is_present(*old) || !pte_is_leaf_word(*old, level) ||
		    !(old->w & loss->bits))
			return false;
		if (loss->look)
			return true;
		if (atomic_compare_exchange_weak_explicit(entry, &old->w, after(loss, *old).w,
							  memory_order_seq_cst,
							  memory_order_acquire))
			return true;
	}
}

unsigned int tree_sweep(struct actor *actor, struct tree_iter *it, unsigned int nr,
			struct tree_sweep *sweep)
{
	struct vm_base *base = it->trees->base;
	const struct loss loss = loss_of(&it->trees->format, sweep->rule);
	uint64_t pages = tpt_level_pages(it->level);
	unsigned int hits = 0;
	tpt_spte old;

	for (unsigned int i = 0; i < TREE_SWEEP_WORDS; i++)
		sweep->hit[i] = 0;
	for (unsigned int i = 0; i < nr; i++) {
		if (sweep->mask && !(sweep->mask[i / 64] >> (i % 64) & 1))
			continue;
		if (!take(&it->entry[i], it->level, &loss, &old))
			continue;
		hits++;
		sweep->hit[i / 64] |= 1ull << (i % 64);
		if (!base->event || loss.look)
			continue;
		vm_event(base, &(struct tpt_event){.kind = TPT_EVENT_SPTE_CHANGED,
						   .vcpu = actor->vcpu,
						   .as_id = tree_as_id(it->id),
						   .level = it->level,
						   .gfn = it->gfn + i * pages,
						   .old_spte = old,
						   .new_spte = after(&loss, old)});
	}
	if (hits && sweep->rule != TREE_AGE && !loss.look)
		it->must_flush = true;
	iter_reread(it);
	return hits;
}
