// SPDX-License-Identifier: BSD-2-Clause
/* Spinlocks, and the one of them that is the VM's exclusive section. Never says what is in it. */
#include "platform/bare/internal.h"

void bare_relax(void *ctx)
{
	const struct tpt_bare *bare = ctx;

	if (bare->hooks.relax)
		bare->hooks.relax(bare->hooks_ctx);
	else
		__builtin_ia32_pause();
}

void bare_spin_lock(struct tpt_bare *bare, struct spin *spin)
{
	uint32_t mine = atomic_fetch_add_explicit(&spin->next, 1, memory_order_relaxed);

	while (atomic_load_explicit(&spin->serving, memory_order_acquire) != mine)
		bare_relax(bare);
}

void bare_spin_unlock(struct spin *spin)
{
	/* The holder's alone. */
	uint32_t mine = atomic_load_explicit(&spin->serving, memory_order_relaxed);

	atomic_store_explicit(&spin->serving, mine + 1, memory_order_release);
}

bool bare_spin_is_taken(const struct spin *spin)
{
	uint32_t serving = atomic_load_explicit(&spin->serving, memory_order_relaxed);

	return serving != atomic_load_explicit(&spin->next, memory_order_relaxed);
}

void bare_lock(void *ctx)
{
	struct tpt_bare *bare = ctx;

	bare_spin_lock(bare, &bare->lock);
	bare_count(&bare->locks, 1);
}

void bare_unlock(void *ctx)
{
	struct tpt_bare *bare = ctx;

	if (bare_spin_is_taken(&bare->lock))
		bare_spin_unlock(&bare->lock);
	else
		bare_misuse(bare, "unlock of a lock that is not taken");
}
