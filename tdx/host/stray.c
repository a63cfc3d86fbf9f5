// SPDX-License-Identifier: BSD-2-Clause
/*
 * Pages that the module has let go of and whose lines could not be written back: nobody's until
 * that is done, either page by page or with all caches when the TD is released. To the library
 * their entries are BLOCKED still, or those of tables that were merged BLOCKED_TABLE. Makes no
 * call. Exclusive section of the VM, or no VM any more.
 */
#include "tdx/host/internal.h"

#include <stdlib.h>

struct stray *host_stray_find(const struct tdx_td *td, tpt_gfn gfn, enum tpt_level level)
{
	struct stray *s = td->strays;

	while (s && (s->gfn != gfn || s->level != level))
		s = s->next;
	return s;
}

struct stray *host_stray_add(struct tdx_td *td, const struct stray *stray)
{
	struct stray *s = malloc(sizeof(*s));

	if (!s)
		return NULL;
	*s = *stray;
	s->next = td->strays;
	td->strays = s;
	return s;
}

void host_stray_forget(struct tdx_td *td, struct stray *stray)
{
	struct stray **at = &td->strays;

	while (*at != stray)
		at = &(*at)->next;
	*at = stray->next;
	free(stray);
}
