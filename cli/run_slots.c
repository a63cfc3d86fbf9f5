// SPDX-License-Identifier: BSD-2-Clause
/* Which slots a run had, and when, in the form that a replay of its trace reads. Makes no slot. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/run.h"

/* One region for each slot: its host memory. */
static int make_regions(struct run *r)
{
	struct slot_history *h = r->history;

	if (h->nr_regions == r->nr_slots)
		return 0;
	h->regions = calloc(r->nr_slots, sizeof(*h->regions));
	if (!h->regions)
		return -ENOMEM;
	h->nr_regions = r->nr_slots;
	for (uint32_t i = 0; i < r->nr_slots; i++) {
		snprintf(h->regions[i].name, sizeof(h->regions[i].name), "slot%u", r->slots[i].id);
		h->regions[i].has_hva = true;
		h->regions[i].hva = r->slots[i].hva;
	}
	return 0;
}

/* The table for the zap-alls so far: the last one, or one more. */
static struct slot_table *table_now(struct run *r)
{
	struct slot_history *h = r->history;
	struct slot_table *t = h->nr_tables ? &h->tables[h->nr_tables - 1] : NULL;

	if (t && t->after == r->zaps) {
		free(t->slots);
	} else {
		t = realloc(h->tables, (h->nr_tables + 1) * sizeof(*t));
		if (!t)
			return NULL;
		h->tables = t;
		t += h->nr_tables++;
	}
	*t = (struct slot_table){.after = r->zaps};
	t->slots = calloc(r->nr_slots, sizeof(*t->slots));
	return t->slots ? t : NULL;
}

int run_slots_note(struct run *r)
{
	struct slot_table *t;

	if (!r->history)
		return 0;
	if (make_regions(r))
		return -ENOMEM;
	t = table_now(r);
	if (!t)
		return -ENOMEM;
	for (uint32_t i = 0; i < r->nr_slots; i++) {
		const struct run_slot *s = &r->slots[i];

		if (s->there)
			t->slots[t->nr_slots++] = (struct slot_def){
				.start = s->gpa,
				.end = s->gpa + s->pages * RUN_PAGE,
				.region = (uint16_t)i,
				.id = (uint16_t)s->id,
				.readonly = s->def->readonly,
				.as_mask = 1,
			};
	}
	return 0;
}

int run_slots_write(const struct run *r, const char *path)
{
	FILE *file = fopen(path, "w");
	int err;

	if (!file)
		return -errno;
	fprintf(file, "# The slots of scenario %s.\n\n", r->sc->name);
	slots_write(r->history, file);
	err = ferror(file) ? -EIO : 0;
	return fclose(file) ? -EIO : err;
}
