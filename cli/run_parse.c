// SPDX-License-Identifier: BSD-2-Clause
/* A scenario's text into a scenario: words, numbers, and the rules of what goes together. Runs
 * nothing. */
#include "cli/run_cost.h"
#include "cli/run_words.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

#define MAX_FILE (1u << 20)

/* ---- what the VM is ---- */

static int parse_name(struct parser *p)
{
	return word_text(p, "a name", p->s->name, sizeof(p->s->name));
}

static int parse_story(struct parser *p)
{
	WORD_ROOM(p, p->s->nr_stories);
	return word_text(p, "text", p->s->story[p->s->nr_stories++], RUN_TEXT_LEN);
}

static int parse_source(struct parser *p)
{
	WORD_ROOM(p, p->s->nr_sources);
	return word_text(p, "text", p->s->source[p->s->nr_sources++], RUN_TEXT_LEN);
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
		if (word_take(p, vm_flags[i].name)) {
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
		return word_bad(p, "vcpus=%u: 1 to %u for this kind of VM", vm->vcpus, most);
	if (vm->levels != 4 && vm->levels != 5)
		return word_bad(p, "levels=%u: 4 or 5", vm->levels);
	if (vm->kind == RUN_TD && (vm->flags || vm->levels != 4))
		return word_bad(p, "a td has 4 levels and none of these flags: its private memory "
				   "can't be logged or write-protected");
	if (vm->private_level > (vm->kind == RUN_TD ? TPT_LEVEL_2M : TPT_LEVEL_NONE))
		return word_bad(p, "private: 4k or 2m, and only with a td");
	if (vm->kind != RUN_TD && vm->ve_disable)
		return word_bad(p, "sept_ve_disable: only a td has that attribute");
	if (vm->flags & (TPT_VM_PML | TPT_VM_NO_AD) && vm->kind != RUN_EPT)
		return word_bad(p, "pml and no_ad: only with ept");
	if (vm->flags & TPT_VM_PML && vm->flags & TPT_VM_NO_AD)
		return word_bad(p, "pml needs dirty flags: not with no_ad");
	if (vm->flags & TPT_VM_DIRTY_RING &&
	    (vm->ring & (vm->ring - 1) || vm->ring < (vm->flags & TPT_VM_PML ? 1024 : 256)))
		return word_bad(p, "ring=%u: a power of two, from 256 (with pml: 1024) on",
				vm->ring);
	if (vm->flags & TPT_VM_DIRTY_RING && vm->flags & TPT_VM_DIRTY_MANUAL)
		return word_bad(p, "ring: not with dirty_manual");
	if (vm->flags & TPT_VM_DIRTY_INITIALLY_SET && !(vm->flags & TPT_VM_DIRTY_MANUAL))
		return word_bad(p, "dirty_initially_set needs dirty_manual");
	return 0;
}

static int parse_vm(struct parser *p)
{
	struct run_vm *vm = &p->s->vm;
	const char *word, *value;
	int err = word_next(p, "npt, ept or td", &word);

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
		return word_bad(p, "kind of VM \"%s\": must be npt, ept or td", word);
	while (!err && word_peek(p)) {
		if ((value = word_key(p, "vcpus")))
			err = word_number32(p, "vcpus", value, 1024, &vm->vcpus);
		else if ((value = word_key(p, "levels")))
			err = word_number32(p, "levels", value, 64, &vm->levels);
		else if ((value = word_key(p, "leaf")))
			err = word_level(p, "leaf", value, &vm->leaf);
		else if ((value = word_key(p, "chunk")))
			err = word_number32(p, "chunk", value, 1u << 20, &vm->chunk);
		else if ((value = word_key(p, "private")))
			err = word_level(p, "private", value, &vm->private_level);
		else if (word_take(p, "sept_ve_disable"))
			vm->ve_disable = true;
		else if ((value = word_key(p, "ring"))) {
			err = word_number32(p, "ring", value, TPT_DIRTY_RING_MAX, &vm->ring);
			vm->flags |= TPT_VM_DIRTY_RING;
		} else if (!take_vm_flag(p, vm))
			break;
	}
	p->has_vm = true;
	return err ? err : check_vm(p, vm);
}

static int parse_threads(struct parser *p)
{
	p->s->threads = word_take(p, "on");
	if (!p->s->threads && !word_take(p, "off"))
		return word_bad(p, "threads: on or off");
	return 0;
}

static int parse_seed(struct parser *p)
{
	const char *word;
	int err = word_next(p, "a number", &word);

	return err ? err : word_number(p, "seed", word, UINT64_MAX, &p->s->seed);
}

static int parse_steps(struct parser *p)
{
	const char *word;
	int err = word_next(p, "a number", &word);

	return err ? err : word_number(p, "steps", word, 1ull << 32, &p->s->steps);
}

/* ---- memory ---- */

static int check_slot(struct parser *p, const struct run_slot_line *l)
{
	if (l->area.size / RUN_PAGE % l->nr)
		return word_bad(p, "%lu pages can't be divided among %u slots",
				l->area.size / RUN_PAGE, l->nr);
	if (l->area.size / l->nr > RUN_HVA_STRIDE)
		return word_bad(p, "a slot of %lu bytes: at most %lu", l->area.size / l->nr,
				RUN_HVA_STRIDE);
	if (p->s->vm.kind == RUN_TD &&
	    (l->cow || l->readonly || l->log || l->absent || l->restore || l->told || l->nr > 1 ||
	     l->page > TPT_LEVEL_2M))
		return word_bad(p,
				"a td's slots have page=4k or 2m for their shared half and nothing "
				"else");
	if (l->told > l->page)
		return word_bad(p, "told: the host can't report a larger page than it has");
	if (l->cow && l->page != TPT_LEVEL_4K)
		return word_bad(p, "cow: only with page=4k");
	return 0;
}

static int parse_slot(struct parser *p)
{
	struct run_slot_line *l = &p->s->slots[p->s->nr_slots];
	const char *value;
	uint32_t last;
	int err;

	WORD_ROOM(p, p->s->nr_slots);
	if (!p->has_vm)
		return word_bad(p, "slot: the vm line comes first");
	*l = (struct run_slot_line){.line = p->line, .page = TPT_LEVEL_4K};
	err = word_span(p, "a slot's id", TPT_MEMSLOT_IDS - 1, &l->id, &last);
	if (!err) {
		l->nr = last - l->id + 1;
		err = word_area(p, &l->area);
	}
	while (!err && word_peek(p)) {
		if ((value = word_key(p, "page")))
			err = word_level(p, "page", value, &l->page);
		else if ((value = word_key(p, "told")))
			err = word_level(p, "told", value, &l->told);
		else if ((value = word_key(p, "restore")))
			err = word_level(p, "restore", value, &l->restore);
		else if (word_take(p, "cow"))
			l->cow = true;
		else if (word_take(p, "ro"))
			l->readonly = true;
		else if (word_take(p, "log"))
			l->log = true;
		else if (word_take(p, "absent"))
			l->absent = true;
		else
			break;
	}
	p->s->nr_slots++;
	return err ? err : check_slot(p, l);
}

/* What a TD's memory begins with. */
static int parse_build(struct parser *p)
{
	struct run_build *l = &p->s->builds[p->s->nr_builds];
	int err;

	WORD_ROOM(p, p->s->nr_builds);
	if (!p->has_vm || p->s->vm.kind != RUN_TD)
		return word_bad(p, "build: only a td is built from pages; the vm line comes first");
	*l = (struct run_build){.line = p->line};
	err = word_area(p, &l->area);
	l->unmeasured = word_take(p, "unmeasured");
	p->s->nr_builds++;
	return err;
}

static int parse_inject(struct parser *p)
{
	struct inject *one;
	char why[INJECT_WHY_LEN];
	const char *word;
	int err = word_next(p, "CALL:STATUS:WHEN", &word);

	if (err)
		return err;
	if (!p->has_vm || p->s->vm.kind != RUN_TD)
		return word_bad(p, "inject: only a td makes these calls; the vm line comes first");
	if (p->s->nr_injects == INJECT_MAX)
		return word_bad(p, "more than %d lines of this kind", INJECT_MAX);
	one = calloc(1, sizeof(*one));
	if (!one)
		return -ENOMEM;
	if (inject_add(one, word, why))
		err = word_bad(p, "%s", why);
	else
		snprintf(p->s->injects[p->s->nr_injects++], INJECT_TEXT_LEN, "%s", word);
	free(one);
	return err;
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
		return word_bad(p, "file=%s: %s", file, err);
	if (!l->gpas || !l->kinds)
		return -ENOMEM;
	return l->nr_gpas ? 0 : word_bad(p, "file=%s: there is no kvm_page_fault in it", file);
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
	int err = word_next(p, "a pattern", &word);

	for (unsigned int i = 0; !err && i < sizeof(names) / sizeof(names[0]); i++) {
		if (!strcmp(word, names[i])) {
			l->pattern = (enum run_pattern)i;
			return 0;
		}
	}
	return err ? err
		   : word_bad(p, "pattern \"%s\": must be sequential, stride, random, hot or trace",
			      word);
}

static int guest_option(struct parser *p, struct run_guest_line *l, bool *known)
{
	const char *value;

	*known = true;
	if ((value = word_key(p, "write")))
		return word_number32(p, "write", value, 100, &l->write);
	if ((value = word_key(p, "exec")))
		return word_number32(p, "exec", value, 100, &l->exec);
	if ((value = word_key(p, "stride")))
		return word_bytes(p, "stride", value, &l->stride);
	if ((value = word_key(p, "hot")))
		return word_bytes(p, "hot", value, &l->hot);
	if ((value = word_key(p, "hotness")))
		return word_number32(p, "hotness", value, 100, &l->hotness);
	if ((value = word_key(p, "from")))
		return word_number(p, "from", value, 1ull << 32, &l->from);
	if ((value = word_key(p, "to")))
		return word_number(p, "to", value, 1ull << 32, &l->to);
	if ((value = word_key(p, "file")))
		return l->gpas ? word_bad(p, "file=%s: one is enough", value)
			       : read_accesses(p, l, value);
	if (word_take(p, "divided"))
		l->divided = true;
	else if (word_take(p, "accept"))
		l->accept = true;
	else if (word_take(p, "shared"))
		l->shared = true;
	else
		*known = false;
	return 0;
}

static int check_guest(struct parser *p, const struct run_guest_line *l)
{
	uint32_t nr = l->last - l->first + 1;

	if (l->last >= p->s->vm.vcpus)
		return word_bad(p, "vCPU %u: the VM has 0 to %u", l->last, p->s->vm.vcpus - 1);
	if (l->write + l->exec > 100)
		return word_bad(p, "write=%u and exec=%u: together at most 100", l->write, l->exec);
	if (l->pattern == RUN_STRIDE && (!l->stride || l->stride > l->area.size))
		return word_bad(p, "stride=%lu: 4 KiB to the area's size", l->stride);
	if (l->pattern == RUN_HOT && (!l->hot || l->hot > l->area.size))
		return word_bad(p, "hot=%lu: 4 KiB to the area's size", l->hot);
	if (l->divided && (l->area.size / RUN_PAGE % nr || l->pattern == RUN_FILE))
		return word_bad(p, "divided: %lu pages among %u vCPUs", l->area.size / RUN_PAGE,
				nr);
	if ((l->pattern == RUN_FILE) != (l->gpas != NULL))
		return word_bad(p, "pattern trace and file=FILE go together");
	if (l->accept && p->s->vm.kind != RUN_TD)
		return word_bad(p, "accept: only a td's guest accepts memory");
	if (l->shared && (p->s->vm.kind != RUN_TD || l->accept))
		return word_bad(p, "shared: only a td's guest, and it accepts private memory only");
	if (l->from >= l->to)
		return word_bad(p, "from=%lu to=%lu: no step lies in between", l->from, l->to);
	return 0;
}

static int parse_guest(struct parser *p)
{
	struct run_guest_line *l = &p->s->guests[p->s->nr_guests];
	bool known = true;
	int err = 0;

	WORD_ROOM(p, p->s->nr_guests);
	if (!p->has_vm)
		return word_bad(p, "guest: the vm line comes first");
	*l = (struct run_guest_line){.line = p->line, .to = UINT64_MAX, .hotness = 90};
	p->s->nr_guests++;
	if (word_take(p, "all"))
		l->last = p->s->vm.vcpus - 1;
	else
		err = word_span(p, "a vCPU", 1024, &l->first, &l->last);
	err = err ? err : parse_pattern(p, l);
	err = err ? err : word_area(p, &l->area);
	while (!err && known && word_peek(p))
		err = guest_option(p, l, &known);
	return err ? err : check_guest(p, l);
}

/* ---- what others say, and what must come out ---- */

static int parse_published(struct parser *p)
{
	struct run_published *l = &p->s->published[p->s->nr_published];
	int err;

	WORD_ROOM(p, p->s->nr_published);
	err = word_text(p, "what was measured", l->what, sizeof(l->what));
	err = err ? err : word_text(p, "the figure", l->value, sizeof(l->value));
	err = err ? err : word_key_text(p, "machine", l->machine, sizeof(l->machine));
	err = err ? err : word_key_text(p, "source", l->source, sizeof(l->source));
	p->s->nr_published++;
	return err;
}

static int duration(struct parser *p, const char *text, struct run_estimate *l)
{
	if (!strcmp(text, "unknown"))
		return 0;
	if (!isdigit((unsigned char)text[0]))
		return word_bad(p, "\"%s\": must be a time like 260ns, or unknown", text);
	l->known = run_duration(text, &l->each_ns);
	return l->known ? 0 : word_bad(p, "\"%s\": a time ends with ns, us, ms or s", text);
}

static int parse_estimate(struct parser *p)
{
	struct run_estimate *l = &p->s->estimates[p->s->nr_estimates];
	const char *word;
	int err;

	WORD_ROOM(p, p->s->nr_estimates);
	*l = (struct run_estimate){.known = false};
	err = word_text(p, "what is estimated", l->what, sizeof(l->what));
	err = err ? err : word_text(p, "a counter", l->counter, sizeof(l->counter));
	err = err ? err : word_next(p, "a time", &word);
	err = err ? err : duration(p, word, l);
	if (!err && l->known)
		err = word_key_text(p, "source", l->source, sizeof(l->source));
	p->s->nr_estimates++;
	return err;
}

static int parse_expect(struct parser *p)
{
	struct run_expect *l = &p->s->expects[p->s->nr_expects];
	const char *word;
	int err;

	WORD_ROOM(p, p->s->nr_expects);
	*l = (struct run_expect){.line = p->line};
	err = word_text(p, "a counter", l->counter, sizeof(l->counter));
	if (err)
		return err;
	if (word_take(p, "="))
		l->relation = RUN_EQUAL;
	else if (word_take(p, "<="))
		l->relation = RUN_AT_MOST;
	else if (word_take(p, ">="))
		l->relation = RUN_AT_LEAST;
	else
		return word_bad(p, "expect: =, <= or >= after the counter");
	err = word_next(p, "a number or a counter", &word);
	if (!err && isalpha((unsigned char)word[0]))
		snprintf(l->other, sizeof(l->other), "%s", word);
	else if (!err)
		err = word_number(p, "value", word, UINT64_MAX, &l->value);
	if (!err && word_peek(p))
		err = word_text(p, "why", l->why, sizeof(l->why));
	p->s->nr_expects++;
	return err;
}

/* ---- the file ---- */

static const struct {
	const char *name;
	int (*parse)(struct parser *p);
} lines[] = {
	{"scenario", parse_name},
	{"story", parse_story},
	{"source", parse_source},
	{"vm", parse_vm},
	{"threads", parse_threads},
	{"seed", parse_seed},
	{"steps", parse_steps},
	{"build", parse_build},
	{"inject", parse_inject},
	{"finally", parse_finally},
	{"slot", parse_slot},
	{"guest", parse_guest},
	{"at", parse_at},
	{"every", parse_every},
	{"published", parse_published},
	{"estimate", parse_estimate},
	{"expect", parse_expect},
};

static int parse_line(struct parser *p, char *text)
{
	int err = word_split(p, text);
	const char *word;

	if (err || !p->nr)
		return err;
	word = p->words[p->at++];
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		if (!strcmp(word, lines[i].name)) {
			err = lines[i].parse(p);
			return err ? err : word_end(p);
		}
	}
	return word_bad(p, "\"%s\" begins no line of a scenario", word);
}

/* Events that a vCPU's own thread would have to do. */
static bool needs_vcpu(enum run_event_kind kind)
{
	return kind == RUN_EVENT_CONVERT_PRIVATE || kind == RUN_EVENT_CONVERT_SHARED ||
	       kind == RUN_EVENT_PREFAULT || kind == RUN_EVENT_PREMAP || kind == RUN_EVENT_TDCALL ||
	       kind == RUN_EVENT_TOUCH;
}

/* What no line can know alone. */
static int check_whole(struct parser *p)
{
	const struct scenario *s = p->s;

	if (!s->name[0])
		return word_bad(p, "the scenario has no name: \"scenario NAME\" is missing");
	if (!p->has_vm)
		return word_bad(p, "the scenario has no vm line");
	if (!s->steps)
		return word_bad(p, "the scenario has no steps: \"steps N\" is missing");
	for (uint32_t i = 0; i < s->nr_slots; i++)
		for (uint32_t k = 0; k < i; k++)
			if (s->slots[i].id < s->slots[k].id + s->slots[k].nr &&
			    s->slots[k].id < s->slots[i].id + s->slots[i].nr)
				return word_bad(p, "slot %u is on line %u and on line %u",
						s->slots[i].id > s->slots[k].id ? s->slots[i].id
										: s->slots[k].id,
						s->slots[k].line, s->slots[i].line);
	if (!s->nr_slots)
		return word_bad(p, "the scenario has no slot");
	for (uint32_t i = 0; i < s->nr_slots; i++)
		if (s->vm.kind == RUN_TD && s->slots[i].id != i)
			return word_bad(
				p,
				"slot %u on line %u: a td's slots are one each, 0, 1, 2 and "
				"so on",
				s->slots[i].id, s->slots[i].line);
	for (uint32_t i = 0; i < s->nr_events; i++)
		if (s->threads && needs_vcpu(s->events[i].kind))
			return word_bad(p, "line %u: with threads on a vCPU can't be made to do it",
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
			return word_bad(p, "there is a zero byte in the line");
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
