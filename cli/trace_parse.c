// SPDX-License-Identifier: BSD-2-Clause
/* One line of a trace into one event. Reads no file and keeps nothing between lines. */
#include "cli/trace.h"

#include <ctype.h>
#include <string.h>

/* A cursor over one line: after the first mismatch @ok stays false and every further step fails
 * too. */
struct scan {
	const char *p;
	const char *end;
	bool ok;
};

static void skip_blanks(struct scan *s)
{
	/* NUL counts as a blank: kvm_mmu_get_page prints one between "sync" and "new". */
	while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\0'))
		s->p++;
}

static bool at_end(struct scan *s)
{
	skip_blanks(s);
	return s->p == s->end;
}

/* Takes @text if it stands here (after blanks); a blank in @text stands for one or more. */
static bool take(struct scan *s, const char *text)
{
	const char *start = s->p;

	skip_blanks(s);
	for (; *text; text++) {
		if (*text == ' ') {
			if (s->p < s->end && *s->p != ' ' && *s->p != '\0' && *s->p != '\t')
				goto no;
			skip_blanks(s);
		} else if (s->p < s->end && *s->p == *text) {
			s->p++;
		} else {
			goto no;
		}
	}
	return true;
no:
	s->p = start;
	return false;
}

static void lit(struct scan *s, const char *text)
{
	if (s->ok)
		s->ok = take(s, text);
}

static int digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return 16;
}

static uint64_t number(struct scan *s, unsigned int base)
{
	uint64_t v = 0;
	const char *start;

	if (!s->ok)
		return 0;
	skip_blanks(s);
	if (base == 16 && s->end - s->p > 2 && s->p[0] == '0' && s->p[1] == 'x')
		s->p += 2;
	for (start = s->p; s->p < s->end && (unsigned int)digit_of(*s->p) < base; s->p++) {
		if (v > (UINT64_MAX - (unsigned int)digit_of(*s->p)) / base) {
			s->ok = false;
			return 0;
		}
		v = v * base + (unsigned int)digit_of(*s->p);
	}
	/* A number ends at a blank or at punctuation; letters glued to it mean a damaged field. */
	if (s->p == start || (s->p < s->end && (isalnum((unsigned char)*s->p) || *s->p == '_')))
		s->ok = false;
	return v;
}

static uint64_t hex(struct scan *s)
{
	return number(s, 16);
}

static uint64_t dec_max(struct scan *s, uint64_t max)
{
	uint64_t v = number(s, 10);

	if (v > max)
		s->ok = false;
	return v;
}

static int32_t signed_dec(struct scan *s)
{
	bool neg = take(s, "-");
	int32_t v = (int32_t)dec_max(s, INT32_MAX);

	return neg ? -v : v;
}

static uint64_t gfn(struct scan *s, const char **why)
{
	uint64_t v = hex(s);

	if (s->ok && v >> (TRACE_GPA_BITS - 12)) {
		*why = "gfn lies beyond 52 address bits";
		s->ok = false;
	}
	return v;
}

static uint64_t gpa(struct scan *s, const char **why)
{
	uint64_t v = hex(s);

	if (s->ok && v >> TRACE_GPA_BITS) {
		*why = "guest-physical address lies beyond 52 address bits";
		s->ok = false;
	}
	return v;
}

static uint8_t level(struct scan *s, const char **why)
{
	uint64_t v = dec_max(s, UINT8_MAX);

	if (s->ok && (v < 1 || v > 5)) {
		*why = "level is not 1 to 5";
		s->ok = false;
	}
	return (uint8_t)v;
}

static void parse_page_fault(struct scan *s, struct trace_event *ev, const char **why)
{
	ev->fault.vcpu = -1;
	if (take(s, "vcpu "))
		ev->fault.vcpu = (int32_t)dec_max(s, INT32_MAX);
	if (take(s, "rip "))
		ev->fault.rip = hex(s);
	lit(s, "address ");
	ev->fault.gpa = gpa(s, why);
	lit(s, "error_code ");
	ev->fault.error_code = hex(s);
}

static void parse_spte_changed(struct scan *s, struct trace_event *ev, const char **why)
{
	lit(s, "as id ");
	ev->change.as_id = (uint32_t)dec_max(s, UINT8_MAX);
	lit(s, "gfn ");
	ev->change.gfn = gfn(s, why);
	lit(s, "level ");
	ev->level = level(s, why);
	lit(s, "old_spte ");
	ev->change.old_word = hex(s);
	lit(s, "new_spte ");
	ev->change.new_word = hex(s);
}

/* Text after the fields that matter is a list of words; the ones asked for are looked up by name.
 */
static bool has_word(const char *p, const char *end, const char *word)
{
	size_t n = strlen(word);

	for (; (size_t)(end - p) >= n; p++) {
		bool before = p[-1] == ' ' || p[-1] == '\0';
		bool after = p + n == end || p[n] == ' ' || p[n] == '\0';

		if (before && after && !memcmp(p, word, n))
			return true;
	}
	return false;
}

/*
 * Two forms: the kernel's "sp gen 0 gfn 12200 l1 8-byte q0 direct wux nxe ad root 0 sync new", and
 * that of trace-cmd's plugin, "new sp gfn 12200 1 q0 direct wux !pae nxe wp root 0 sync".
 */
static void parse_page(struct scan *s, struct trace_event *ev, const char **why)
{
	const char *rest;

	ev->page.is_new = take(s, "new ");
	if (!ev->page.is_new)
		(void)take(s, "existing ");
	lit(s, "sp ");
	if (take(s, "gen "))
		dec_max(s, UINT32_MAX);
	lit(s, "gfn ");
	ev->page.gfn = gfn(s, why);
	skip_blanks(s);
	if (s->p < s->end && *s->p == 'l')
		s->p++;
	ev->level = level(s, why);
	rest = s->p;
	while (s->ok && s->p < s->end && !take(s, "root "))
		s->p++;
	ev->page.root_count = (uint32_t)dec_max(s, UINT32_MAX);
	if (!take(s, "sync") && !take(s, "unsync"))
		s->ok = false;
	if (!s->ok)
		return;
	ev->page.direct = has_word(rest, s->end, "direct");
	ev->page.invalid = has_word(rest, s->end, "invalid");
	ev->page.is_new |= take(s, "new");
	(void)take(s, "existing");
}

static void parse_zap_all(struct scan *s, struct trace_event *ev, const char **why)
{
	(void)why;
	lit(s, "kvm-mmu-valid-gen ");
	ev->zap_all.valid_gen = (uint32_t)dec_max(s, UINT32_MAX);
	lit(s, "used_pages ");
	ev->zap_all.used_pages = (uint32_t)hex(s);
}

static void parse_unmap(struct scan *s, struct trace_event *ev, const char **why)
{
	lit(s, "mmu notifier unmap range: ");
	ev->hva.start = hex(s);
	lit(s, "--");
	ev->hva.end = hex(s);
	if (s->ok && ev->hva.end <= ev->hva.start) {
		*why = "unmap range is empty or wraps";
		s->ok = false;
	}
}

static void parse_set_spte(struct scan *s, struct trace_event *ev, const char **why)
{
	(void)why;
	lit(s, "mmu notifier set pte hva: ");
	ev->hva.start = hex(s) & ~0xfffull;
	ev->hva.end = ev->hva.start + 0x1000;
}

static void parse_split(struct scan *s, struct trace_event *ev, const char **why)
{
	lit(s, "gfn ");
	ev->split.gfn = gfn(s, why);
	lit(s, "spte ");
	ev->split.word = hex(s);
	lit(s, "level ");
	ev->level = level(s, why);
	lit(s, "errno ");
	ev->split.error = signed_dec(s);
}

static void parse_mmio(struct scan *s, struct trace_event *ev, const char **why)
{
	lit(s, "mmio ");
	if (take(s, "unsatisfied-read "))
		ev->mmio.type = TRACE_MMIO_READ_UNSATISFIED;
	else if (take(s, "read "))
		ev->mmio.type = TRACE_MMIO_READ;
	else if (take(s, "write "))
		ev->mmio.type = TRACE_MMIO_WRITE;
	else
		s->ok = false;
	lit(s, "len ");
	ev->mmio.len = (uint32_t)dec_max(s, UINT32_MAX);
	lit(s, "gpa ");
	ev->mmio.gpa = gpa(s, why);
	lit(s, "val ");
	ev->mmio.value = hex(s);
}

static void parse_mark(struct scan *s, struct trace_event *ev, const char **why)
{
	lit(s, "sptep:");
	hex(s);
	lit(s, "gfn ");
	ev->mark.gfn = gfn(s, why);
	lit(s, "access ");
	ev->mark.access = (uint32_t)hex(s);
	lit(s, "gen ");
	ev->mark.gen = hex(s);
}

static void parse_fast_fault(struct scan *s, struct trace_event *ev, const char **why)
{
	lit(s, "vcpu ");
	ev->fast.vcpu = (int32_t)dec_max(s, INT32_MAX);
	lit(s, "gva "); /* so named; with two-stage paging it is guest-physical */
	ev->fast.gpa = gpa(s, why);
	lit(s, "error_code ");
	while (s->ok && s->p < s->end && !take(s, "sptep "))
		s->p++;
	hex(s);
	lit(s, "old ");
	ev->fast.old_word = hex(s);
	lit(s, "new ");
	ev->fast.new_word = hex(s);
	lit(s, "spurious ");
	ev->fast.spurious = dec_max(s, 1) != 0;
	lit(s, "fixed ");
	ev->fast.fixed = dec_max(s, 1) != 0;
}

static void parse_requested(struct scan *s, struct trace_event *ev, const char **why)
{
	lit(s, "gfn ");
	ev->requested.gfn = gfn(s, why);
	lit(s, "pfn ");
	ev->requested.pfn = hex(s);
	lit(s, "level ");
	ev->level = level(s, why);
}

static const struct {
	const char *name;
	void (*parse)(struct scan *s, struct trace_event *ev, const char **why);
} kinds[TRACE_KINDS] = {
	[TRACE_PAGE_FAULT] = {"kvm_page_fault", parse_page_fault},
	[TRACE_SPTE_CHANGED] = {"kvm_tdp_mmu_spte_changed", parse_spte_changed},
	[TRACE_GET_PAGE] = {"kvm_mmu_get_page", parse_page},
	[TRACE_PREPARE_ZAP] = {"kvm_mmu_prepare_zap_page", parse_page},
	[TRACE_ZAP_ALL_FAST] = {"kvm_mmu_zap_all_fast", parse_zap_all},
	[TRACE_UNMAP_HVA] = {"kvm_unmap_hva_range", parse_unmap},
	[TRACE_SET_SPTE_HVA] = {"kvm_set_spte_hva", parse_set_spte},
	[TRACE_SPLIT_HUGE] = {"kvm_mmu_split_huge_page", parse_split},
	[TRACE_MMIO] = {"kvm_mmio", parse_mmio},
	[TRACE_MARK_MMIO] = {"mark_mmio_spte", parse_mark},
	[TRACE_FAST_FAULT] = {"fast_page_fault", parse_fast_fault},
	[TRACE_SPTE_REQUESTED] = {"kvm_mmu_spte_requested", parse_requested},
};

const char *trace_kind_name(enum trace_kind kind)
{
	return kind < TRACE_KINDS ? kinds[kind].name : "?";
}

/* "<sec>.<usec>:" here, perhaps after one word of flags. The comm is free text, so this pattern is
 * what proves a '['. */
static bool take_time(struct scan *s, uint64_t *us)
{
	struct scan w = *s;
	uint64_t sec;
	unsigned int digits = 0, frac = 0;

	for (int word = 0; word < 2; word++) {
		w = *s;
		skip_blanks(&w);
		sec = number(&w, 10);
		if (w.ok && w.p < w.end && *w.p == '.')
			break;
		if (word)
			return false;
		skip_blanks(s);
		while (s->p < s->end && *s->p != ' ' && *s->p != '\t')
			s->p++;
	}
	for (w.p++; w.p < w.end && isdigit((unsigned char)*w.p); w.p++, digits++)
		if (digits < 6)
			frac = frac * 10 + (unsigned int)(*w.p - '0');
	if (!digits || w.p == w.end || *w.p != ':' || sec > UINT64_MAX / 1000000 - 1)
		return false;
	for (; digits < 6; digits++)
		frac *= 10;
	*us = sec * 1000000 + frac;
	s->p = w.p + 1;
	return true;
}

/* The pid that ends before @p: "-123", " 123" or " 120/123" (the thread is the second), perhaps
 * with "(tgid)" behind. */
static bool pid_before(const char *line, const char *p, int32_t *pid)
{
	const char *end;
	int64_t v = 0;

	while (p > line && p[-1] == ' ')
		p--;
	if (p > line && p[-1] == ')') {
		while (p > line && *p != '(')
			p--;
		while (p > line && p[-1] == ' ')
			p--;
	}
	for (end = p; p > line && isdigit((unsigned char)p[-1]);)
		p--;
	if (p == end || p == line || end - p > 10 || !strchr("-/ ", p[-1]))
		return false;
	for (; p < end; p++)
		v = v * 10 + (*p - '0');
	*pid = (int32_t)v;
	return v <= INT32_MAX;
}

/* Finds "-pid [cpu] ... time:". The comm may hold blanks, slashes and brackets, so every '[' is
 * tried in turn. */
static bool take_envelope(struct scan *s, struct trace_event *ev)
{
	const char *line = s->p;

	for (const char *b = line; (b = memchr(b, '[', (size_t)(s->end - b))); b++) {
		struct scan w = {b + 1, s->end, true};
		uint64_t cpu = number(&w, 10);

		if (!w.ok || cpu > UINT16_MAX || w.p == w.end || *w.p != ']')
			continue;
		w.p++;
		if (!take_time(&w, &ev->time_us) || !pid_before(line, b, &ev->pid))
			continue;
		ev->cpu = (uint16_t)cpu;
		*s = w;
		return true;
	}
	return false;
}

/* Lines of a tool's own: '#' comments, trace-cmd's "cpus=2", the ring buffer's note of lost events.
 */
static bool is_header(struct scan *s, uint64_t *lost)
{
	struct scan w = *s;

	if (at_end(&w))
		return true;
	if (take(&w, "# entries-in-buffer/entries-written: ")) {
		uint64_t kept = number(&w, 10), written;

		lit(&w, "/");
		written = number(&w, 10);
		if (w.ok && written > kept)
			*lost += written - kept;
		return true;
	}
	if (*w.p == '#' || take(&w, "cpus=") || take(&w, "version ="))
		return true;
	if (take(&w, "CPU:")) {
		number(&w, 10);
		lit(&w, "[LOST ");
		*lost += w.ok ? number(&w, 10) : 0;
		return w.ok;
	}
	return false;
}

enum trace_line trace_parse_line(const char *line, size_t len, struct trace_event *ev,
				 const char **name, size_t *name_len, const char **why,
				 uint64_t *lost)
{
	struct scan s = {line, line + len, true};
	const char *colon, *sub;

	if (len && line[len - 1] == '\r')
		s.end--;
	if (is_header(&s, lost))
		return TRACE_LINE_HEADER;
	memset(ev, 0, sizeof(*ev));
	*why = "no \"task-pid [cpu] time:\" in front";
	if (!take_envelope(&s, ev))
		return TRACE_LINE_BAD;
	skip_blanks(&s);
	*why = "no event name after the time";
	colon = memchr(s.p, ':', (size_t)(s.end - s.p));
	if (!colon)
		return TRACE_LINE_BAD;
	/* perf's "kvm:kvm_exit:" */
	sub = memchr(colon + 1, ':', (size_t)(s.end - colon - 1));
	if (sub && !memchr(colon, ' ', (size_t)(sub - colon)) && colon[1] != ':') {
		s.p = colon + 1;
		colon = sub;
	}
	*name = s.p;
	*name_len = (size_t)(colon - s.p);
	if (!*name_len || memchr(s.p, ' ', *name_len))
		return TRACE_LINE_BAD;
	s.p = colon + 1;
	for (ev->kind = 0; ev->kind < TRACE_KINDS; ev->kind++)
		if (strlen(kinds[ev->kind].name) == *name_len &&
		    !memcmp(kinds[ev->kind].name, *name, *name_len))
			break;
	if (ev->kind == TRACE_KINDS)
		return TRACE_LINE_OTHER;
	*why = "a field of the event is missing or not a number";
	kinds[ev->kind].parse(&s, ev, why);
	if (s.ok && !at_end(&s)) {
		*why = "text left over after the event's last field";
		s.ok = false;
	}
	return s.ok ? TRACE_LINE_EVENT : TRACE_LINE_BAD;
}
