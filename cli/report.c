// SPDX-License-Identifier: BSD-2-Clause
/*
 * Takes what a replay tells, checks it, and puts it into the stream act by act. Writes no file and
 * knows no page.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/report_internal.h"

static int latch_nomem(struct report *r)
{
	r->error = -ENOMEM;
	return r->error;
}

int report_create(struct report **out, const struct report_info *info)
{
	struct report *r;

	*out = NULL;
	if (!info->trace || info->vm > REPORT_VM_TD)
		return -EINVAL;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->vm = info->vm;
	r->max_data = info->max_data ? info->max_data : REPORT_MAX_DATA;
	r->trace = report_copy(info->trace);
	r->version = report_copy(info->version ? info->version : "");
	r->time_note = report_copy(info->time_note ? info->time_note : "");
	if (!r->trace || !r->version || !r->time_note) {
		report_destroy(r);
		return -ENOMEM;
	}
	*out = r;
	return 0;
}

static bool range_fits(const struct tpt_gfn_range *range)
{
	return range->start < range->end && range->end <= REPORT_MAX_GFN;
}

static bool same_region(const struct report_range *a, const struct report_region *b)
{
	return a->range.start == b->range.start && a->range.end == b->range.end &&
	       a->readonly == b->readonly && !strcmp(a->name, b->name);
}

int report_region(struct report *r, const struct report_region *region)
{
	struct report_range *to;

	if (r->error)
		return r->error;
	if (!region->name || !range_fits(&region->range))
		return -EINVAL;
	for (uint32_t i = 0; i < r->nr_regions; i++)
		if (same_region(&r->regions[i], region))
			return 0;
	to = report_grow(r->regions, &r->cap_regions, r->nr_regions, sizeof(*to));
	if (!to)
		return latch_nomem(r);
	r->regions = to;
	to = &r->regions[r->nr_regions];
	*to = (struct report_range){region->range, report_copy(region->name), region->readonly};
	if (!to->name)
		return latch_nomem(r);
	r->nr_regions++;
	return 0;
}

int report_begin(struct report *r)
{
	if (r->error)
		return r->error;
	if (r->depth + 1 == REPORT_MAX_ACTS)
		return -EOVERFLOW;
	r->depth++;
	return 0;
}

static int add_change(struct report *r, const struct report_change *change)
{
	struct report_act *act = &r->acts[r->depth];
	struct report_change *grown;

	grown = report_grow(act->changes, &act->cap, act->nr, sizeof(*grown));
	if (!grown)
		return latch_nomem(r);
	act->changes = grown;
	act->changes[act->nr++] = *change;
	return 0;
}

int report_change(struct report *r, const struct report_change *change)
{
	if (r->error)
		return r->error;
	if ((unsigned int)change->tree >= REPORT_TREES || change->level < TPT_LEVEL_4K ||
	    change->level > TPT_LEVEL_MAX || (unsigned int)change->format >= TPT_WORD_NR ||
	    change->gfn >= REPORT_MAX_GFN)
		return -EINVAL;
	return add_change(r, change);
}

/* Level 0 stands for the whole tree. */
int report_drop_tree(struct report *r, enum report_tree tree)
{
	if (r->error)
		return r->error;
	if ((unsigned int)tree >= REPORT_TREES)
		return -EINVAL;
	return add_change(r, &(struct report_change){.tree = tree, .level = TPT_LEVEL_NONE});
}

/* Makes bytes of the changes of the act that ends. */
static bool put_changes(struct report *r)
{
	struct report_act *act = &r->acts[r->depth];

	r->scratch.len = 0;
	r->scratch_changes = 0;
	for (uint32_t i = 0; i < act->nr; i++) {
		const struct report_change *c = &act->changes[i];
		bool ok = c->level ? report_put_change(r, c) : report_put_dropped(r, c->tree);

		if (!ok || r->scratch.failed)
			return false;
	}
	return true;
}

/* The innermost act is over: it goes into the stream and is one of *@kept, or counts as lost. */
static int end_act(struct report *r, uint32_t *kept, uint32_t line, struct report_bytes *head,
		   const struct report_bytes *tail)
{
	struct report_act *act = &r->acts[r->depth];

	bytes_number(head, r->scratch_changes);
	if (tail->len)
		bytes_add(head, tail->data, tail->len);
	if (r->stream.len + head->len + r->scratch.len > r->max_data && !r->full) {
		r->full = true;
		r->full_line = line;
	}
	if (r->full) {
		r->lost_acts++;
		r->lost_changes += act->nr;
	} else {
		bytes_add(&r->stream, head->data, head->len);
		bytes_add(&r->stream, r->scratch.data, r->scratch.len);
		r->nr_changes += r->scratch_changes;
		(*kept)++;
	}
	act->nr = 0;
	if (r->depth)
		r->depth--;
	return head->failed || tail->failed || r->stream.failed ? latch_nomem(r) : 0;
}

static void put_head(struct report *r, struct report_bytes *head, unsigned int kind,
		     unsigned int flags, uint32_t line, uint64_t time_us)
{
	bytes_u8(head, kind);
	bytes_u8(head, flags);
	bytes_signed(head, (int64_t)line - r->last_line);
	bytes_signed(head, (int64_t)(time_us - (uint64_t)r->last_time));
	r->last_line = line;
	r->last_time = (int64_t)time_us;
}

/* 0 is "no text"; the others are one more than their number. */
static bool put_optional(struct report *r, struct report_bytes *b, const char *text)
{
	uint32_t index = 0;

	if (text && !report_intern(r, text, &index))
		return false;
	bytes_number(b, text ? (uint64_t)index + 1 : 0);
	return true;
}

static bool put_fault(struct report *r, struct report_bytes *b, const struct report_fault *f)
{
	int64_t gfn = (int64_t)(f->gpa >> TPT_PAGE_SHIFT);
	char code[24];
	uint32_t outcome, error_code;
	struct report_bytes text = {0};

	bytes_format(&text, "0x%llx", (unsigned long long)f->error_code);
	bytes_u8(&text, 0);
	if (!text.failed)
		memcpy(code, text.data, text.len);
	free(text.data);
	if (text.failed || !report_intern(r, code, &error_code) ||
	    !report_intern(r, f->outcome, &outcome))
		return false;
	bytes_number(b, (uint64_t)((int64_t)f->vcpu + 1));
	bytes_signed(b, gfn - r->last_fault_gfn);
	bytes_number(b, f->gpa & (TPT_PAGE_SIZE - 1));
	r->last_fault_gfn = gfn;
	bytes_number(b, error_code);
	bytes_number(b, outcome);
	bytes_number(b, f->retries);
	bytes_number(b, f->tables);
	bytes_number(b, f->external);
	bytes_number(b, (uint64_t)((int64_t)f->slot + 1));
	bytes_number(b, f->cost_ns);
	return put_optional(r, b, f->note);
}

int report_fault(struct report *r, const struct report_fault *f)
{
	struct report_bytes head = {0}, tail = {0};
	unsigned int flags = f->access & TPT_ACC_ALL;
	int err;

	if (r->error)
		return r->error;
	if (f->gpa >> TPT_PAGE_SHIFT >= REPORT_MAX_GFN || f->as_id > 1 || f->vcpu < -1 ||
	    f->slot < -1 || f->access & ~TPT_ACC_ALL || !f->outcome)
		return -EINVAL;
	flags |= (f->as_id ? ACT_SMM : 0) | (f->ours ? ACT_OURS : 0) |
		 (f->different ? ACT_DIFFERENT : 0);
	if (!r->full) {
		put_head(r, &head, ACT_FAULT, flags, f->line, f->time_us);
		if (!put_changes(r) || !put_fault(r, &tail, f)) {
			err = latch_nomem(r);
			goto out;
		}
	}
	err = end_act(r, &r->nr_faults, f->line, &head, &tail);
out:
	free(head.data);
	free(tail.data);
	return err;
}

static bool put_event(struct report *r, struct report_bytes *b, const struct report_event *e)
{
	int64_t gfn = (int64_t)e->range.start;

	bytes_u8(b, e->kind);
	bytes_signed(b, gfn - r->last_event_gfn);
	r->last_event_gfn = gfn;
	bytes_number(b, e->range.end - e->range.start);
	bytes_number(b, e->external);
	bytes_number(b, e->cost_ns);
	return put_optional(r, b, e->text);
}

int report_event(struct report *r, const struct report_event *e)
{
	struct report_bytes head = {0}, tail = {0};
	struct report_event event = *e;
	int err;

	if (r->error)
		return r->error;
	if (e->range.start >= e->range.end)
		event.range = (struct tpt_gfn_range){0, 0};
	if (event.range.end > REPORT_MAX_GFN || (unsigned int)e->kind >= REPORT_EVENTS)
		return -EINVAL;
	if (!r->full) {
		put_head(r, &head, ACT_EVENT, e->ours ? ACT_OURS : 0, e->line, e->time_us);
		if (!put_changes(r) || !put_event(r, &tail, &event)) {
			err = latch_nomem(r);
			goto out;
		}
	}
	err = end_act(r, &r->nr_events, e->line, &head, &tail);
out:
	free(head.data);
	free(tail.data);
	return err;
}

int report_counter(struct report *r, const char *group, const char *name, uint64_t value)
{
	struct report_counter c = {.value = value}, *grown;

	if (r->error)
		return r->error;
	grown = report_grow(r->counters, &r->cap_counters, r->nr_counters, sizeof(c));
	if (!grown)
		return latch_nomem(r);
	r->counters = grown;
	c.group = report_copy(group);
	c.name = report_copy(name);
	if (!c.group || !c.name) {
		free(c.group);
		free(c.name);
		return latch_nomem(r);
	}
	r->counters[r->nr_counters++] = c;
	return 0;
}

int report_note(struct report *r, const char *text)
{
	char *copy, **grown;

	if (r->error)
		return r->error;
	grown = report_grow(r->notes, &r->cap_notes, r->nr_notes, sizeof(*grown));
	if (!grown)
		return latch_nomem(r);
	r->notes = grown;
	copy = report_copy(text);
	if (!copy)
		return latch_nomem(r);
	r->notes[r->nr_notes++] = copy;
	return 0;
}

void report_destroy(struct report *r)
{
	if (!r)
		return;
	for (uint32_t i = 0; i < r->nr_regions; i++)
		free(r->regions[i].name);
	for (uint32_t i = 0; i < r->nr_counters; i++) {
		free(r->counters[i].group);
		free(r->counters[i].name);
	}
	for (uint32_t i = 0; i < r->nr_notes; i++)
		free(r->notes[i]);
	for (unsigned int i = 0; i < REPORT_MAX_ACTS; i++)
		free(r->acts[i].changes);
	free(r->regions);
	free(r->counters);
	free(r->notes);
	free(r->trace);
	free(r->version);
	free(r->time_note);
	report_free_encoder(r);
	free(r);
}
