// SPDX-License-Identifier: BSD-2-Clause
/* A scenario's timed events as text: what each kind wants to know, and where it may stand. Does
 * none. */
#include "cli/run_words.h"

#include <string.h>

static int which_slot(struct parser *p, uint32_t *slot)
{
	const char *word;
	int err = word_next(p, "a slot's id", &word);

	if (!err)
		err = word_number32(p, "slot", word, TPT_MEMSLOT_IDS - 1, slot);
	for (uint32_t i = 0; !err && i < p->s->nr_slots; i++)
		if (*slot - p->s->slots[i].id < p->s->slots[i].nr)
			return 0;
	return err ? err : word_bad(p, "slot %u: no slot line before has it", *slot);
}

static int which_verb(struct parser *p, struct run_event *e, const char *const *names,
		      const enum run_event_kind *kinds, unsigned int nr)
{
	const char *word;
	int err = word_next(p, "what is to be done", &word);

	for (unsigned int i = 0; !err && i < nr; i++) {
		if (!strcmp(word, names[i])) {
			e->kind = kinds[i];
			return 0;
		}
	}
	return err ? err : word_bad(p, "\"%s\" can't be done to it", word);
}

static int slot_event(struct parser *p, struct run_event *e)
{
	static const char *const names[] = {"create", "delete", "move"};
	static const enum run_event_kind kinds[] = {RUN_EVENT_SLOT_CREATE, RUN_EVENT_SLOT_DELETE,
						    RUN_EVENT_SLOT_MOVE};
	int err = which_slot(p, &e->slot);
	const char *to;

	err = err ? err : which_verb(p, e, names, kinds, 3);
	if (err || e->kind != RUN_EVENT_SLOT_MOVE)
		return err;
	to = word_key(p, "to");
	return to ? word_bytes(p, "to", to, &e->to) : word_bad(p, "move: to=ADDRESS is missing");
}

static int log_event(struct parser *p, struct run_event *e)
{
	static const char *const names[] = {"on", "off", "get", "clear"};
	static const enum run_event_kind kinds[] = {RUN_EVENT_LOG_ON, RUN_EVENT_LOG_OFF,
						    RUN_EVENT_LOG_GET, RUN_EVENT_LOG_CLEAR};
	int err = which_slot(p, &e->slot);

	err = err ? err : which_verb(p, e, names, kinds, 4);
	if (!err && e->kind == RUN_EVENT_LOG_CLEAR && !(p->s->vm.flags & TPT_VM_DIRTY_MANUAL))
		err = word_bad(p, "log clear: only with dirty_manual; else get clears");
	return err;
}

/* AREA [size=SIZE [walking]] */
static int piece(struct parser *p, struct run_event *e)
{
	int err = word_area(p, &e->area);
	const char *size;

	if (err || !(size = word_key(p, "size")))
		return err;
	err = word_bytes(p, "size", size, &e->piece);
	if (!err && (!e->piece || e->area.size % e->piece))
		err = word_bad(p, "size=%s: the area must be a multiple of it", size);
	e->walking = word_take(p, "walking");
	return err;
}

static int unmap_event(struct parser *p, struct run_event *e)
{
	int err = piece(p, e);
	const char *value;

	e->kind = RUN_EVENT_UNMAP;
	while (!err && word_peek(p)) {
		if (word_take(p, "drop"))
			e->drop = true;
		else if ((value = word_key(p, "lasts")))
			err = word_number32(p, "lasts", value, 1u << 20, &e->lasts);
		else
			break;
	}
	return err;
}

static int convert_event(struct parser *p, struct run_event *e)
{
	static const char *const names[] = {"private", "shared"};
	static const enum run_event_kind kinds[] = {RUN_EVENT_CONVERT_PRIVATE,
						    RUN_EVENT_CONVERT_SHARED};
	int err = which_verb(p, e, names, kinds, 2);
	const char *value;

	err = err ? err : piece(p, e);
	if (!err && (value = word_key(p, "vcpu")))
		err = word_number32(p, "vcpu", value, p->s->vm.vcpus - 1, &e->vcpu);
	if (!err && word_take(p, "accept")) {
		e->accept = true;
		if (e->kind != RUN_EVENT_CONVERT_PRIVATE)
			err = word_bad(p, "accept: only what becomes private is accepted");
	}
	return err;
}

static int punch_event(struct parser *p, struct run_event *e)
{
	e->kind = RUN_EVENT_PUNCH;
	return piece(p, e);
}

static int age_event(struct parser *p, struct run_event *e)
{
	e->kind = RUN_EVENT_AGE;
	return piece(p, e);
}

static int test_age_event(struct parser *p, struct run_event *e)
{
	e->kind = RUN_EVENT_TEST_AGE;
	return piece(p, e);
}

static int prefault_event(struct parser *p, struct run_event *e)
{
	int err = piece(p, e);
	const char *value;

	e->kind = RUN_EVENT_PREFAULT;
	if (!err && (value = word_key(p, "vcpu")))
		err = word_number32(p, "vcpu", value, p->s->vm.vcpus - 1, &e->vcpu);
	return err;
}

static int premap_event(struct parser *p, struct run_event *e)
{
	int err = prefault_event(p, e);

	e->kind = RUN_EVENT_PREMAP;
	e->write = word_take(p, "write");
	return err;
}

static int nx_event(struct parser *p, struct run_event *e)
{
	static const char *const names[] = {"auto", "off", "force", "recover"};
	static const enum run_event_kind kinds[] = {RUN_EVENT_NX_MODE, RUN_EVENT_NX_MODE,
						    RUN_EVENT_NX_MODE, RUN_EVENT_NX_RECOVER};
	static const enum tpt_nx_mode modes[] = {TPT_NX_AUTO, TPT_NX_OFF, TPT_NX_FORCE};
	const char *word = word_peek(p), *value;
	int err = which_verb(p, e, names, kinds, 4);

	e->ratio = 1;
	for (unsigned int i = 0; !err && i < 3; i++)
		if (!strcmp(word, names[i]))
			e->mode = modes[i];
	if (!err && e->kind == RUN_EVENT_NX_RECOVER && (value = word_key(p, "ratio")))
		err = word_number32(p, "ratio", value, 1u << 20, &e->ratio);
	return err;
}

static int ring_event(struct parser *p, struct run_event *e)
{
	e->kind = RUN_EVENT_RING_DRAIN;
	if (!(p->s->vm.flags & TPT_VM_DIRTY_RING))
		return word_bad(p, "ring: the vm line has no ring=ENTRIES");
	return word_take(p, "drain") ? 0 : word_bad(p, "ring: only drain can be done to it");
}

static int phase_event(struct parser *p, struct run_event *e)
{
	e->kind = RUN_EVENT_PHASE;
	return e->period ? word_bad(p, "phase: once, with at")
			 : word_text(p, "the phase's name", e->text, sizeof(e->text));
}

static int zap_all_event(struct parser *p, struct run_event *e)
{
	(void)p;
	e->kind = RUN_EVENT_ZAP_ALL;
	return 0;
}

static int audit_event(struct parser *p, struct run_event *e)
{
	(void)p;
	e->kind = RUN_EVENT_AUDIT;
	return 0;
}

static int kill_event(struct parser *p, struct run_event *e)
{
	e->kind = RUN_EVENT_KILL;
	return e->period ? word_bad(p, "kill: once, with at") : 0;
}

static int kick_event(struct parser *p, struct run_event *e)
{
	(void)p;
	e->kind = RUN_EVENT_KICK;
	return 0;
}

/* Further TDs on the same machine: they have keys and no memory. */
static int tds_event(struct parser *p, struct run_event *e)
{
	static const char *const names[] = {"create", "end"};
	static const enum run_event_kind kinds[] = {RUN_EVENT_TDS_CREATE, RUN_EVENT_TDS_END};
	const char *word;
	int err = which_verb(p, e, names, kinds, 2);

	err = err ? err : word_next(p, "how many", &word);
	return err ? err : word_number32(p, "tds", word, TD_MAX_OTHERS, &e->nr);
}

static const struct {
	const char *name;
	int (*parse)(struct parser *p, struct run_event *e);
	enum { ANY, NO_TD, TD_ONLY } where;
} events[] = {
	{"phase", phase_event, ANY},
	{"slot", slot_event, ANY},
	{"log", log_event, NO_TD},
	{"unmap", unmap_event, NO_TD},
	{"convert", convert_event, TD_ONLY},
	{"punch", punch_event, TD_ONLY},
	{"age", age_event, NO_TD},
	{"test-age", test_age_event, NO_TD},
	{"prefault", prefault_event, ANY},
	{"premap", premap_event, ANY},
	{"nx", nx_event, NO_TD},
	{"ring", ring_event, NO_TD},
	{"zap-all", zap_all_event, ANY},
	{"audit", audit_event, ANY},
	{"kill", kill_event, ANY},
	{"kick", kick_event, TD_ONLY},
	{"name", parse_name_event, TD_ONLY},
	{"seamcall", parse_seamcall_event, TD_ONLY},
	{"tdcall", parse_tdcall_event, TD_ONLY},
	{"touch", parse_touch_event, TD_ONLY},
	{"tds", tds_event, TD_ONLY},
};

static int parse_event(struct parser *p, struct run_event *e)
{
	bool td = p->s->vm.kind == RUN_TD;
	const char *word;
	int err = word_next(p, "an event", &word);

	if (err)
		return err;
	if (!p->has_vm)
		return word_bad(p, "events: the vm line comes first");
	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
		if (strcmp(word, events[i].name) != 0)
			continue;
		if (events[i].where == (td ? NO_TD : TD_ONLY))
			return word_bad(p, "%s: %s", word,
					td ? "not in a td" : "only a td has private memory");
		p->s->nr_events++;
		err = events[i].parse(p, e);
		if (!err && e->kind == RUN_EVENT_SLOT_MOVE && td)
			err = word_bad(p, "slot move: a td's memory stays where it is");
		if (!err && e->kind == RUN_EVENT_SLOT_CREATE && td)
			err = word_bad(
				p, "slot create: a td's memory is all there from the beginning");
		return err;
	}
	return word_bad(p, "event \"%s\" is unknown", word);
}

int parse_at(struct parser *p)
{
	struct run_event *e = &p->s->events[p->s->nr_events];
	const char *word;
	int err = word_next(p, "a step", &word);

	WORD_ROOM(p, p->s->nr_events);
	*e = (struct run_event){.line = p->line};
	err = err ? err : word_number(p, "step", word, 1ull << 32, &e->first);
	e->last = e->first;
	return err ? err : parse_event(p, e);
}

int parse_every(struct parser *p)
{
	struct run_event *e = &p->s->events[p->s->nr_events];
	const char *word;
	int err = word_next(p, "a number of steps", &word);

	WORD_ROOM(p, p->s->nr_events);
	*e = (struct run_event){.line = p->line, .last = UINT64_MAX};
	err = err ? err : word_number(p, "every", word, 1ull << 32, &e->period);
	if (!err && !e->period)
		err = word_bad(p, "every 0: at least 1");
	while (!err && word_peek(p)) {
		if ((word = word_key(p, "from")))
			err = word_number(p, "from", word, 1ull << 32, &e->first);
		else if ((word = word_key(p, "to")))
			err = word_number(p, "to", word, 1ull << 32, &e->last);
		else
			break;
	}
	return err ? err : parse_event(p, e);
}

/* Calls that are made when the TD is gone. */
int parse_finally(struct parser *p)
{
	struct run_event *e = &p->s->events[p->s->nr_events];
	int err;

	WORD_ROOM(p, p->s->nr_events);
	*e = (struct run_event){.line = p->line, .first = UINT64_MAX, .finally = true};
	err = parse_event(p, e);
	if (!err && e->kind != RUN_EVENT_SEAMCALL)
		err = word_bad(p,
			       "finally: a seamcall and nothing else can be made without the TD");
	return err;
}
