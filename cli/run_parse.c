// SPDX-License-Identifier: BSD-2-Clause
/* A scenario's text into a scenario: words, numbers, and the rules of what goes together. Runs
 * nothing. */
#include "cli/run.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

#define MAX_WORDS 32
#define MAX_FILE  (1u << 20)

struct parser {
	struct scenario *s;
	const char *name, *dir; /* of the file */
	uint32_t line;
	char *words[MAX_WORDS];
	unsigned int nr, at;
	bool has_vm;
	char *err;
};

__attribute__((format(printf, 2, 3))) static int bad(struct parser *p, const char *format, ...)
{
	int len = snprintf(p->err, INPUT_ERR_LEN, "%s line %u: ", p->name, p->line);
	va_list args;

	va_start(args, format);
	if (len > 0 && len < INPUT_ERR_LEN)
		vsnprintf(p->err + len, INPUT_ERR_LEN - (size_t)len, format, args);
	va_end(args);
	return -EINVAL;
}

/* ---- words ---- */

static const char *peek(const struct parser *p)
{
	return p->at < p->nr ? p->words[p->at] : NULL;
}

static bool take(struct parser *p, const char *word)
{
	if (!peek(p) || strcmp(peek(p), word) != 0)
		return false;
	p->at++;
	return true;
}

/* "key=value": the value, if the next word has that key. */
static const char *take_key(struct parser *p, const char *key)
{
	size_t n = strlen(key);

	if (!peek(p) || strncmp(peek(p), key, n) != 0 || peek(p)[n] != '=')
		return NULL;
	return p->words[p->at++] + n + 1;
}

static int next(struct parser *p, const char *what, const char **word)
{
	*word = peek(p);
	if (!*word)
		return bad(p, "%s is missing", what);
	p->at++;
	return 0;
}

static int no_more(struct parser *p)
{
	return peek(p) ? bad(p, "\"%s\": unknown here, or one word too many", peek(p)) : 0;
}

/*
 * Splits a line into words in place. Quotes keep blanks, after a '=' too; '#' outside of them
 * begins a comment.
 */
static int split(struct parser *p, char *text)
{
	char *from = text;

	p->nr = p->at = 0;
	for (;;) {
		char *to;
		bool quoted = false;

		while (isspace((unsigned char)*from))
			from++;
		if (!*from || *from == '#')
			return 0;
		if (p->nr == MAX_WORDS)
			return bad(p, "more than %d words", MAX_WORDS);
		p->words[p->nr++] = to = from;
		for (; *from && (quoted || !isspace((unsigned char)*from)); from++) {
			if (*from == '"')
				quoted = !quoted;
			else
				*to++ = *from;
		}
		if (quoted)
			return bad(p, "a quote is not closed");
		if (*from)
			from++;
		*to = 0;
	}
}

/* ---- values ---- */

static int number(struct parser *p, const char *what, const char *text, uint64_t max, uint64_t *n)
{
	if (!cli_parse_u64(text, false, n))
		return bad(p, "%s \"%s\" is not a number", what, text);
	if (*n > max)
		return bad(p, "%s %s: at most %lu", what, text, max);
	return 0;
}

static int number32(struct parser *p, const char *what, const char *text, uint32_t max, uint32_t *n)
{
	uint64_t wide = 0;
	int err = number(p, what, text, max, &wide);

	*n = (uint32_t)wide;
	return err;
}

/* Bytes: a number, or one with K, M, G or T after it. */
static int bytes(struct parser *p, const char *what, const char *text, uint64_t *n)
{
	static const char units[] = "KMGT";
	size_t len = strlen(text);
	const char *unit = len ? strchr(units, text[len - 1]) : NULL;
	unsigned int shift = unit ? 10 * (unsigned int)(unit - units + 1) : 0;
	char digits[32];

	if (!len || len >= sizeof(digits))
		return bad(p, "%s \"%s\" is not a number of bytes", what, text);
	memcpy(digits, text, len + 1);
	if (unit)
		digits[len - 1] = 0;
	if (!cli_parse_u64(digits, false, n))
		return bad(p, "%s \"%s\" is not a number of bytes", what, text);
	if (*n >> (52 - shift))
		return bad(p, "%s %s lies beyond 52 address bits", what, text);
	*n <<= shift;
	if (*n % RUN_PAGE)
		return bad(p, "%s %s: must be whole pages of 4 KiB", what, text);
	return 0;
}

/* START+SIZE */
static int area(struct parser *p, struct run_area *a)
{
	char start[64], *plus;
	const char *word;
	int err = next(p, "an area, START+SIZE,", &word);

	if (err)
		return err;
	snprintf(start, sizeof(start), "%s", word);
	plus = strchr(start, '+');
	if (!plus)
		return bad(p, "area \"%s\": must be START+SIZE", word);
	*plus = 0;
	err = bytes(p, "start", start, &a->start);
	if (!err)
		err = bytes(p, "size", plus + 1, &a->size);
	if (!err && !a->size)
		err = bad(p, "area \"%s\" is empty", word);
	if (!err && (a->start + a->size) >> 52)
		err = bad(p, "area \"%s\" ends beyond 52 address bits", word);
	return err;
}

static int level(struct parser *p, const char *what, const char *text, enum tpt_level *l)
{
	static const char *const names[] = {"4k", "2m", "1g"};

	for (unsigned int i = 0; i < 3; i++) {
		if (!strcmp(text, names[i])) {
			*l = (enum tpt_level)(i + 1);
			return 0;
		}
	}
	return bad(p, "%s \"%s\": must be 4k, 2m or 1g", what, text);
}

/* N or N-M */
static int span(struct parser *p, const char *what, uint32_t max, uint32_t *first, uint32_t *last)
{
	char text[32], *dash;
	const char *word;
	int err = next(p, what, &word);

	if (err)
		return err;
	snprintf(text, sizeof(text), "%s", word);
	dash = strchr(text, '-');
	if (dash)
		*dash = 0;
	err = number32(p, what, text, max, first);
	*last = *first;
	if (!err && dash)
		err = number32(p, what, dash + 1, max, last);
	if (!err && *last < *first)
		err = bad(p, "%s %s: the last comes before the first", what, word);
	return err;
}

static int text_of(struct parser *p, const char *what, char *to, size_t size)
{
	const char *word;
	int err = next(p, what, &word);

	if (!err && strlen(word) >= size)
		err = bad(p, "%s is longer than %zu characters", what, size - 1);
	if (!err)
		snprintf(to, size, "%s", word);
	return err;
}

static int key_text(struct parser *p, const char *key, char *to, size_t size)
{
	const char *value = take_key(p, key);

	if (!value)
		return bad(p, "%s=\"...\" is missing", key);
	if (!*value || strlen(value) >= size)
		return bad(p, "%s: 1 to %zu characters", key, size - 1);
	snprintf(to, size, "%s", value);
	return 0;
}

#define ROOM(p, nr)                                                                \
	do {                                                                       \
		if ((nr) == RUN_MAX)                                               \
			return bad(p, "more than %d lines of this kind", RUN_MAX); \
	} while (0)

/* ---- what the VM is ---- */

static int parse_name(struct parser *p)
{
	return text_of(p, "a name", p->s->name, sizeof(p->s->name));
}

static int parse_story(struct parser *p)
{
	ROOM(p, p->s->nr_stories);
	return text_of(p, "text", p->s->story[p->s->nr_stories++], RUN_TEXT_LEN);
}

static int parse_source(struct parser *p)
{
	ROOM(p, p->s->nr_sources);
	return text_of(p, "text", p->s->source[p->s->nr_sources++], RUN_TEXT_LEN);
}

static const struct {
	const char *name;
	uint32_t flag;
} vm_flags[] = {
	{"slot_zap_all", TPT_VM_SLOT_ZAP_ALL},
	{"eager_page_split", TPT_VM_EAGER_PAGE_SPLIT},
	{"dirty_manual", TPT_VM_DIRTY_MANUAL},
	{"dirty_initially_set", TPT_VM_DIRTY_INITIALLY_SET},
	{"no_mmio_caching", TPT_VM_NO_MMIO_CACHING},
	{"pml", TPT_VM_PML},
	{"no_ad", TPT_VM_NO_AD},
	{"itlb_multihit", TPT_VM_ITLB_MULTIHIT},
};

static bool take_vm_flag(struct parser *p, struct run_vm *vm)
{
	for (size_t i = 0; i < sizeof(vm_flags) / sizeof(vm_flags[0]); i++) {
		if (take(p, vm_flags[i].name)) {
			vm->flags |= vm_flags[i].flag;
			return true;
		}
	}
	return false;
}

static int check_vm(struct parser *p, const struct run_vm *vm)
{
	uint32_t most = vm->kind == RUN_TD ? TD_MAX_VCPUS : SIM_MAX_VCPUS;

	if (!vm->vcpus || vm->vcpus > most)
		return bad(p, "vcpus=%u: 1 to %u for this kind of VM", vm->vcpus, most);
	if (vm->levels != 4 && vm->levels != 5)
		return bad(p, "levels=%u: 4 or 5", vm->levels);
	if (vm->kind == RUN_TD && (vm->flags || vm->levels != 4))
		return bad(p, "a td has 4 levels and none of these flags: its private memory "
			      "can't be logged or write-protected");
	if (vm->flags & (TPT_VM_PML | TPT_VM_NO_AD) && vm->kind != RUN_EPT)
		return bad(p, "pml and no_ad: only with ept");
	if (vm->flags & TPT_VM_PML && vm->flags & TPT_VM_NO_AD)
		return bad(p, "pml needs dirty flags: not with no_ad");
	if (vm->flags & TPT_VM_DIRTY_RING &&
	    (vm->ring & (vm->ring - 1) || vm->ring < (vm->flags & TPT_VM_PML ? 1024 : 256)))
		return bad(p, "ring=%u: a power of two, from 256 (with pml: 1024) on", vm->ring);
	if (vm->flags & TPT_VM_DIRTY_RING && vm->flags & TPT_VM_DIRTY_MANUAL)
		return bad(p, "ring: not with dirty_manual");
	if (vm->flags & TPT_VM_DIRTY_INITIALLY_SET && !(vm->flags & TPT_VM_DIRTY_MANUAL))
		return bad(p, "dirty_initially_set needs dirty_manual");
	return 0;
}

static int parse_vm(struct parser *p)
{
	struct run_vm *vm = &p->s->vm;
	const char *word, *value;
	int err = next(p, "npt, ept or td", &word);

	*vm = (struct run_vm){.vcpus = 1, .levels = 4, .leaf = TPT_LEVEL_2M};
	if (err)
		return err;
	if (!strcmp(word, "npt"))
		vm->kind = RUN_NPT;
	else if (!strcmp(word, "ept"))
		vm->kind = RUN_EPT;
	else if (!strcmp(word, "td"))
		vm->kind = RUN_TD;
	else
		return bad(p, "kind of VM \"%s\": must be npt, ept or td", word);
	while (!err && peek(p)) {
		if ((value = take_key(p, "vcpus")))
			err = number32(p, "vcpus", value, 1024, &vm->vcpus);
		else if ((value = take_key(p, "levels")))
			err = number32(p, "levels", value, 64, &vm->levels);
		else if ((value = take_key(p, "leaf")))
			err = level(p, "leaf", value, &vm->leaf);
		else if ((value = take_key(p, "chunk")))
			err = number32(p, "chunk", value, 1u << 20, &vm->chunk);
		else if ((value = take_key(p, "ring"))) {
			err = number32(p, "ring", value, TPT_DIRTY_RING_MAX, &vm->ring);
			vm->flags |= TPT_VM_DIRTY_RING;
		} else if (!take_vm_flag(p, vm))
			break;
	}
	p->has_vm = true;
	return err ? err : check_vm(p, vm);
}

static int parse_threads(struct parser *p)
{
	p->s->threads = take(p, "on");
	if (!p->s->threads && !take(p, "off"))
		return bad(p, "threads: on or off");
	return 0;
}

static int parse_seed(struct parser *p)
{
	const char *word;
	int err = next(p, "a number", &word);

	return err ? err : number(p, "seed", word, UINT64_MAX, &p->s->seed);
}

static int parse_steps(struct parser *p)
{
	const char *word;
	int err = next(p, "a number", &word);

	return err ? err : number(p, "steps", word, 1ull << 32, &p->s->steps);
}

/* ---- memory ---- */

static int check_slot(struct parser *p, const struct run_slot_line *l)
{
	if (l->area.size / RUN_PAGE % l->nr)
		return bad(p, "%lu pages can't be divided among %u slots", l->area.size / RUN_PAGE,
			   l->nr);
	if (l->area.size / l->nr > RUN_HVA_STRIDE)
		return bad(p, "a slot of %lu bytes: at most %lu", l->area.size / l->nr,
			   RUN_HVA_STRIDE);
	if (p->s->vm.kind == RUN_TD &&
	    (l->cow || l->readonly || l->log || l->absent || l->restore || l->told || l->nr > 1 ||
	     l->page > TPT_LEVEL_2M))
		return bad(p, "a td's slots have page=4k or 2m for their shared half and nothing "
			      "else");
	if (l->told > l->page)
		return bad(p, "told: the host can't report a larger page than it has");
	if (l->cow && l->page != TPT_LEVEL_4K)
		return bad(p, "cow: only with page=4k");
	return 0;
}

static int parse_slot(struct parser *p)
{
	struct run_slot_line *l = &p->s->slots[p->s->nr_slots];
	const char *value;
	uint32_t last;
	int err;

	ROOM(p, p->s->nr_slots);
	if (!p->has_vm)
		return bad(p, "slot: the vm line comes first");
	*l = (struct run_slot_line){.line = p->line, .page = TPT_LEVEL_4K};
	err = span(p, "a slot's id", TPT_MEMSLOT_IDS - 1, &l->id, &last);
	if (!err) {
		l->nr = last - l->id + 1;
		err = area(p, &l->area);
	}
	while (!err && peek(p)) {
		if ((value = take_key(p, "page")))
			err = level(p, "page", value, &l->page);
		else if ((value = take_key(p, "told")))
			err = level(p, "told", value, &l->told);
		else if ((value = take_key(p, "restore")))
			err = level(p, "restore", value, &l->restore);
		else if (take(p, "cow"))
			l->cow = true;
		else if (take(p, "ro"))
			l->readonly = true;
		else if (take(p, "log"))
			l->log = true;
		else if (take(p, "absent"))
			l->absent = true;
		else
			break;
	}
	p->s->nr_slots++;
	return err ? err : check_slot(p, l);
}

/* ---- what the guest does ---- */

/* Faults of a recorded trace as accesses. Errors are the trace's. */
static int read_accesses(struct parser *p, struct run_guest_line *l, const char *file)
{
	char path[4096], err[INPUT_ERR_LEN];
	struct trace t;
	int rc;

	snprintf(path, sizeof(path), "%s%s", file[0] == '/' ? "" : p->dir, file);
	rc = trace_read(&t, path, NULL, NULL, err);
	if (!rc) {
		l->gpas = calloc(t.counts[TRACE_PAGE_FAULT] + 1, sizeof(*l->gpas));
		l->kinds = calloc(t.counts[TRACE_PAGE_FAULT] + 1, 1);
	}
	for (uint32_t i = 0; !rc && l->gpas && l->kinds && i < t.nr_events; i++) {
		const struct trace_event *e = &t.events[i];

		if (e->kind != TRACE_PAGE_FAULT)
			continue;
		l->gpas[l->nr_gpas] = e->fault.gpa;
		/* APM vol. 2, 15.25.6: EXITINFO1 bit 1 is a write, bit 4 a fetch. */
		l->kinds[l->nr_gpas++] = e->fault.error_code & 2    ? MACHINE_WRITE
					 : e->fault.error_code & 16 ? MACHINE_EXEC
								    : MACHINE_READ;
	}
	trace_free(&t);
	if (rc)
		return bad(p, "file=%s: %s", file, err);
	if (!l->gpas || !l->kinds)
		return -ENOMEM;
	return l->nr_gpas ? 0 : bad(p, "file=%s: there is no kvm_page_fault in it", file);
}

static int parse_pattern(struct parser *p, struct run_guest_line *l)
{
	static const char *const names[] = {
		[RUN_SEQUENTIAL] = "sequential",
		[RUN_STRIDE] = "stride",
		[RUN_RANDOM] = "random",
		[RUN_HOT] = "hot",
		[RUN_FILE] = "trace",
	};
	const char *word;
	int err = next(p, "a pattern", &word);

	for (unsigned int i = 0; !err && i < sizeof(names) / sizeof(names[0]); i++) {
		if (!strcmp(word, names[i])) {
			l->pattern = (enum run_pattern)i;
			return 0;
		}
	}
	return err ? err
		   : bad(p, "pattern \"%s\": must be sequential, stride, random, hot or trace",
			 word);
}

static int guest_option(struct parser *p, struct run_guest_line *l, bool *known)
{
	const char *value;

	*known = true;
	if ((value = take_key(p, "write")))
		return number32(p, "write", value, 100, &l->write);
	if ((value = take_key(p, "exec")))
		return number32(p, "exec", value, 100, &l->exec);
	if ((value = take_key(p, "stride")))
		return bytes(p, "stride", value, &l->stride);
	if ((value = take_key(p, "hot")))
		return bytes(p, "hot", value, &l->hot);
	if ((value = take_key(p, "hotness")))
		return number32(p, "hotness", value, 100, &l->hotness);
	if ((value = take_key(p, "from")))
		return number(p, "from", value, 1ull << 32, &l->from);
	if ((value = take_key(p, "to")))
		return number(p, "to", value, 1ull << 32, &l->to);
	if ((value = take_key(p, "file")))
		return l->gpas ? bad(p, "file=%s: one is enough", value)
			       : read_accesses(p, l, value);
	if (take(p, "divided"))
		l->divided = true;
	else if (take(p, "accept"))
		l->accept = true;
	else
		*known = false;
	return 0;
}

static int check_guest(struct parser *p, const struct run_guest_line *l)
{
	uint32_t nr = l->last - l->first + 1;

	if (l->last >= p->s->vm.vcpus)
		return bad(p, "vCPU %u: the VM has 0 to %u", l->last, p->s->vm.vcpus - 1);
	if (l->write + l->exec > 100)
		return bad(p, "write=%u and exec=%u: together at most 100", l->write, l->exec);
	if (l->pattern == RUN_STRIDE && (!l->stride || l->stride > l->area.size))
		return bad(p, "stride=%lu: 4 KiB to the area's size", l->stride);
	if (l->pattern == RUN_HOT && (!l->hot || l->hot > l->area.size))
		return bad(p, "hot=%lu: 4 KiB to the area's size", l->hot);
	if (l->divided && (l->area.size / RUN_PAGE % nr || l->pattern == RUN_FILE))
		return bad(p, "divided: %lu pages among %u vCPUs", l->area.size / RUN_PAGE, nr);
	if ((l->pattern == RUN_FILE) != (l->gpas != NULL))
		return bad(p, "pattern trace and file=FILE go together");
	if (l->accept && p->s->vm.kind != RUN_TD)
		return bad(p, "accept: only a td's guest accepts memory");
	if (l->from >= l->to)
		return bad(p, "from=%lu to=%lu: no step lies in between", l->from, l->to);
	return 0;
}

static int parse_guest(struct parser *p)
{
	struct run_guest_line *l = &p->s->guests[p->s->nr_guests];
	bool known = true;
	int err = 0;

	ROOM(p, p->s->nr_guests);
	if (!p->has_vm)
		return bad(p, "guest: the vm line comes first");
	*l = (struct run_guest_line){.line = p->line, .to = UINT64_MAX, .hotness = 90};
	p->s->nr_guests++;
	if (take(p, "all"))
		l->last = p->s->vm.vcpus - 1;
	else
		err = span(p, "a vCPU", 1024, &l->first, &l->last);
	err = err ? err : parse_pattern(p, l);
	err = err ? err : area(p, &l->area);
	while (!err && known && peek(p))
		err = guest_option(p, l, &known);
	return err ? err : check_guest(p, l);
}

/* ---- events ---- */

static int which_slot(struct parser *p, uint32_t *slot)
{
	const char *word;
	int err = next(p, "a slot's id", &word);

	if (!err)
		err = number32(p, "slot", word, TPT_MEMSLOT_IDS - 1, slot);
	for (uint32_t i = 0; !err && i < p->s->nr_slots; i++)
		if (*slot - p->s->slots[i].id < p->s->slots[i].nr)
			return 0;
	return err ? err : bad(p, "slot %u: no slot line before has it", *slot);
}

static int which_verb(struct parser *p, struct run_event *e, const char *const *names,
		      const enum run_event_kind *kinds, unsigned int nr)
{
	const char *word;
	int err = next(p, "what is to be done", &word);

	for (unsigned int i = 0; !err && i < nr; i++) {
		if (!strcmp(word, names[i])) {
			e->kind = kinds[i];
			return 0;
		}
	}
	return err ? err : bad(p, "\"%s\" can't be done to it", word);
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
	to = take_key(p, "to");
	return to ? bytes(p, "to", to, &e->to) : bad(p, "move: to=ADDRESS is missing");
}

static int log_event(struct parser *p, struct run_event *e)
{
	static const char *const names[] = {"on", "off", "get", "clear"};
	static const enum run_event_kind kinds[] = {RUN_EVENT_LOG_ON, RUN_EVENT_LOG_OFF,
						    RUN_EVENT_LOG_GET, RUN_EVENT_LOG_CLEAR};
	int err = which_slot(p, &e->slot);

	err = err ? err : which_verb(p, e, names, kinds, 4);
	if (!err && e->kind == RUN_EVENT_LOG_CLEAR && !(p->s->vm.flags & TPT_VM_DIRTY_MANUAL))
		err = bad(p, "log clear: only with dirty_manual; else get clears");
	return err;
}

/* AREA [size=SIZE [walking]] */
static int piece(struct parser *p, struct run_event *e)
{
	int err = area(p, &e->area);
	const char *size;

	if (err || !(size = take_key(p, "size")))
		return err;
	err = bytes(p, "size", size, &e->piece);
	if (!err && (!e->piece || e->area.size % e->piece))
		err = bad(p, "size=%s: the area must be a multiple of it", size);
	e->walking = take(p, "walking");
	return err;
}

static int unmap_event(struct parser *p, struct run_event *e)
{
	int err = piece(p, e);
	const char *value;

	e->kind = RUN_EVENT_UNMAP;
	while (!err && peek(p)) {
		if (take(p, "drop"))
			e->drop = true;
		else if ((value = take_key(p, "lasts")))
			err = number32(p, "lasts", value, 1u << 20, &e->lasts);
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
	if (!err && (value = take_key(p, "vcpu")))
		err = number32(p, "vcpu", value, p->s->vm.vcpus - 1, &e->vcpu);
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
	if (!err && (value = take_key(p, "vcpu")))
		err = number32(p, "vcpu", value, p->s->vm.vcpus - 1, &e->vcpu);
	return err;
}

static int premap_event(struct parser *p, struct run_event *e)
{
	int err = prefault_event(p, e);

	e->kind = RUN_EVENT_PREMAP;
	e->write = take(p, "write");
	return err;
}

static int nx_event(struct parser *p, struct run_event *e)
{
	static const char *const names[] = {"auto", "off", "force", "recover"};
	static const enum run_event_kind kinds[] = {RUN_EVENT_NX_MODE, RUN_EVENT_NX_MODE,
						    RUN_EVENT_NX_MODE, RUN_EVENT_NX_RECOVER};
	static const enum tpt_nx_mode modes[] = {TPT_NX_AUTO, TPT_NX_OFF, TPT_NX_FORCE};
	const char *word = peek(p), *value;
	int err = which_verb(p, e, names, kinds, 4);

	e->ratio = 1;
	for (unsigned int i = 0; !err && i < 3; i++)
		if (!strcmp(word, names[i]))
			e->mode = modes[i];
	if (!err && e->kind == RUN_EVENT_NX_RECOVER && (value = take_key(p, "ratio")))
		err = number32(p, "ratio", value, 1u << 20, &e->ratio);
	return err;
}

static int ring_event(struct parser *p, struct run_event *e)
{
	e->kind = RUN_EVENT_RING_DRAIN;
	if (!(p->s->vm.flags & TPT_VM_DIRTY_RING))
		return bad(p, "ring: the vm line has no ring=ENTRIES");
	return take(p, "drain") ? 0 : bad(p, "ring: only drain can be done to it");
}

static int phase_event(struct parser *p, struct run_event *e)
{
	e->kind = RUN_EVENT_PHASE;
	return e->period ? bad(p, "phase: once, with at")
			 : text_of(p, "the phase's name", e->text, sizeof(e->text));
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
	return e->period ? bad(p, "kill: once, with at") : 0;
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
};

static int parse_event(struct parser *p, struct run_event *e)
{
	bool td = p->s->vm.kind == RUN_TD;
	const char *word;
	int err = next(p, "an event", &word);

	if (err)
		return err;
	if (!p->has_vm)
		return bad(p, "events: the vm line comes first");
	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
		if (strcmp(word, events[i].name) != 0)
			continue;
		if (events[i].where == (td ? NO_TD : TD_ONLY))
			return bad(p, "%s: %s", word,
				   td ? "not in a td" : "only a td has private memory");
		p->s->nr_events++;
		err = events[i].parse(p, e);
		if (!err && e->kind == RUN_EVENT_SLOT_MOVE && td)
			err = bad(p, "slot move: a td's memory stays where it is");
		if (!err && e->kind == RUN_EVENT_SLOT_CREATE && td)
			err = bad(p, "slot create: a td's memory is all there from the beginning");
		return err;
	}
	return bad(p, "event \"%s\" is unknown", word);
}

static int parse_at(struct parser *p)
{
	struct run_event *e = &p->s->events[p->s->nr_events];
	const char *word;
	int err = next(p, "a step", &word);

	ROOM(p, p->s->nr_events);
	*e = (struct run_event){.line = p->line};
	err = err ? err : number(p, "step", word, 1ull << 32, &e->first);
	e->last = e->first;
	return err ? err : parse_event(p, e);
}

static int parse_every(struct parser *p)
{
	struct run_event *e = &p->s->events[p->s->nr_events];
	const char *word;
	int err = next(p, "a number of steps", &word);

	ROOM(p, p->s->nr_events);
	*e = (struct run_event){.line = p->line, .last = UINT64_MAX};
	err = err ? err : number(p, "every", word, 1ull << 32, &e->period);
	if (!err && !e->period)
		err = bad(p, "every 0: at least 1");
	while (!err && peek(p)) {
		if ((word = take_key(p, "from")))
			err = number(p, "from", word, 1ull << 32, &e->first);
		else if ((word = take_key(p, "to")))
			err = number(p, "to", word, 1ull << 32, &e->last);
		else
			break;
	}
	return err ? err : parse_event(p, e);
}

/* ---- what others say, and what must come out ---- */

static int parse_published(struct parser *p)
{
	struct run_published *l = &p->s->published[p->s->nr_published];
	int err;

	ROOM(p, p->s->nr_published);
	err = text_of(p, "what was measured", l->what, sizeof(l->what));
	err = err ? err : text_of(p, "the figure", l->value, sizeof(l->value));
	err = err ? err : key_text(p, "machine", l->machine, sizeof(l->machine));
	err = err ? err : key_text(p, "source", l->source, sizeof(l->source));
	p->s->nr_published++;
	return err;
}

/* "260ns", "8us", "1.5ms", "unknown" */
static int duration(struct parser *p, const char *text, struct run_estimate *l)
{
	static const struct {
		const char *name;
		double ns;
	} units[] = {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}};
	char *end;

	if (!strcmp(text, "unknown"))
		return 0;
	if (!isdigit((unsigned char)text[0]))
		return bad(p, "\"%s\": must be a time like 260ns, or unknown", text);
	l->each_ns = strtod(text, &end);
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (!strcmp(end, units[i].name)) {
			l->each_ns *= units[i].ns;
			l->known = true;
			return 0;
		}
	}
	return bad(p, "\"%s\": a time ends with ns, us, ms or s", text);
}

static int parse_estimate(struct parser *p)
{
	struct run_estimate *l = &p->s->estimates[p->s->nr_estimates];
	const char *word;
	int err;

	ROOM(p, p->s->nr_estimates);
	*l = (struct run_estimate){.known = false};
	err = text_of(p, "what is estimated", l->what, sizeof(l->what));
	err = err ? err : text_of(p, "a counter", l->counter, sizeof(l->counter));
	err = err ? err : next(p, "a time", &word);
	err = err ? err : duration(p, word, l);
	if (!err && l->known)
		err = key_text(p, "source", l->source, sizeof(l->source));
	p->s->nr_estimates++;
	return err;
}

static int parse_expect(struct parser *p)
{
	struct run_expect *l = &p->s->expects[p->s->nr_expects];
	const char *word;
	int err;

	ROOM(p, p->s->nr_expects);
	*l = (struct run_expect){.line = p->line};
	err = text_of(p, "a counter", l->counter, sizeof(l->counter));
	if (err)
		return err;
	if (take(p, "="))
		l->relation = RUN_EQUAL;
	else if (take(p, "<="))
		l->relation = RUN_AT_MOST;
	else if (take(p, ">="))
		l->relation = RUN_AT_LEAST;
	else
		return bad(p, "expect: =, <= or >= after the counter");
	err = next(p, "a number or a counter", &word);
	if (!err && isalpha((unsigned char)word[0]))
		snprintf(l->other, sizeof(l->other), "%s", word);
	else if (!err)
		err = number(p, "value", word, UINT64_MAX, &l->value);
	if (!err && peek(p))
		err = text_of(p, "why", l->why, sizeof(l->why));
	p->s->nr_expects++;
	return err;
}

/* ---- the file ---- */

static const struct {
	const char *name;
	int (*parse)(struct parser *p);
} lines[] = {
	{"scenario", parse_name},     {"story", parse_story},
	{"source", parse_source},     {"vm", parse_vm},
	{"threads", parse_threads},   {"seed", parse_seed},
	{"steps", parse_steps},	      {"slot", parse_slot},
	{"guest", parse_guest},	      {"at", parse_at},
	{"every", parse_every},	      {"published", parse_published},
	{"estimate", parse_estimate}, {"expect", parse_expect},
};

static int parse_line(struct parser *p, char *text)
{
	int err = split(p, text);
	const char *word;

	if (err || !p->nr)
		return err;
	word = p->words[p->at++];
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		if (!strcmp(word, lines[i].name)) {
			err = lines[i].parse(p);
			return err ? err : no_more(p);
		}
	}
	return bad(p, "\"%s\" begins no line of a scenario", word);
}

/* Events that a vCPU's own thread would have to do. */
static bool needs_vcpu(enum run_event_kind kind)
{
	return kind == RUN_EVENT_CONVERT_PRIVATE || kind == RUN_EVENT_CONVERT_SHARED ||
	       kind == RUN_EVENT_PREFAULT || kind == RUN_EVENT_PREMAP;
}

/* What no line can know alone. */
static int check_whole(struct parser *p)
{
	const struct scenario *s = p->s;

	if (!s->name[0])
		return bad(p, "the scenario has no name: \"scenario NAME\" is missing");
	if (!p->has_vm)
		return bad(p, "the scenario has no vm line");
	if (!s->steps)
		return bad(p, "the scenario has no steps: \"steps N\" is missing");
	for (uint32_t i = 0; i < s->nr_slots; i++)
		for (uint32_t k = 0; k < i; k++)
			if (s->slots[i].id < s->slots[k].id + s->slots[k].nr &&
			    s->slots[k].id < s->slots[i].id + s->slots[i].nr)
				return bad(p, "slot %u is on line %u and on line %u",
					   s->slots[i].id > s->slots[k].id ? s->slots[i].id
									   : s->slots[k].id,
					   s->slots[k].line, s->slots[i].line);
	if (!s->nr_slots)
		return bad(p, "the scenario has no slot");
	for (uint32_t i = 0; i < s->nr_slots; i++)
		if (s->vm.kind == RUN_TD && s->slots[i].id != i)
			return bad(p,
				   "slot %u on line %u: a td's slots are one each, 0, 1, 2 and "
				   "so on",
				   s->slots[i].id, s->slots[i].line);
	for (uint32_t i = 0; i < s->nr_events; i++)
		if (s->threads && needs_vcpu(s->events[i].kind))
			return bad(p, "line %u: with threads on a vCPU can't be made to do it",
				   s->events[i].line);
	return 0;
}

static int parse_all(struct parser *p, char *text, size_t len)
{
	int err = 0;

	for (char *from = text, *end; !err && from < text + len; from = end + 1) {
		end = memchr(from, '\n', (size_t)(text + len - from));
		if (!end)
			end = text + len;
		*end = 0;
		p->line++;
		if (strlen(from) != (size_t)(end - from))
			return bad(p, "there is a zero byte in the line");
		err = parse_line(p, from);
	}
	return err ? err : check_whole(p);
}

static int parse_text(struct scenario *s, const char *name, const char *dir, const char *text,
		      size_t len, char err[INPUT_ERR_LEN])
{
	struct parser p = {.s = s, .name = name, .dir = dir, .err = err};
	char *copy = malloc(len + 1);
	int rc;

	memset(s, 0, sizeof(*s));
	s->seed = 1;
	snprintf(err, INPUT_ERR_LEN, "%s: no memory", name);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, text, len);
	copy[len] = 0;
	rc = parse_all(&p, copy, len);
	free(copy);
	return rc;
}

int scenario_parse(struct scenario *s, const char *name, const char *text, size_t len,
		   char err[INPUT_ERR_LEN])
{
	return parse_text(s, name, "", text, len, err);
}

static long read_whole(const char *path, char *text, char err[INPUT_ERR_LEN])
{
	struct input *in;
	long n = input_open(path, &in, err), len = 0;

	if (n)
		return n;
	while ((n = input_read(in, text + len, MAX_FILE - (size_t)len, err)) > 0)
		len += n;
	input_close(in);
	return n ? n : len;
}

int scenario_read(struct scenario *s, const char *path, char err[INPUT_ERR_LEN])
{
	const char *slash = strrchr(path, '/');
	char dir[4096], *text = malloc(MAX_FILE);
	long len;
	int rc;

	memset(s, 0, sizeof(*s));
	snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path + 1) : 0, path);
	if (!text) {
		snprintf(err, INPUT_ERR_LEN, "%s: no memory", path);
		return -ENOMEM;
	}
	len = read_whole(path, text, err);
	rc = (int)len;
	if (len >= 0)
		rc = parse_text(s, path, dir, text, (size_t)len, err);
	free(text);
	return rc;
}

void scenario_free(struct scenario *s)
{
	for (uint32_t i = 0; i < s->nr_guests; i++) {
		free(s->guests[i].gpas);
		free(s->guests[i].kinds);
	}
	memset(s, 0, sizeof(*s));
}
