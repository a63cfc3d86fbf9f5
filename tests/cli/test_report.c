// SPDX-License-Identifier: BSD-2-Clause
/*
 * The report's file: whole, closed in itself, of bounded size, and holding what was told. Decodes
 * the stream by itself, from its description; looks at no pixel.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/report_internal.h"
#include "cli/report_replay.h"

/* ---- files ---------------------------------------------------------------------------------- */

struct place {
	char dir[64], path[96];
};

static int make_place(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	*state = p;
	snprintf(p->dir, sizeof(p->dir), "/tmp/triptych-report-XXXXXX");
	if (!mkdtemp(p->dir))
		return -1;
	snprintf(p->path, sizeof(p->path), "%s/report.html", p->dir);
	return 0;
}

static int remove_place(void **state)
{
	struct place *p = *state;

	unlink(p->path);
	rmdir(p->dir);
	free(p);
	return 0;
}

static char *read_file(const char *path, size_t *len)
{
	FILE *f = fopen(path, "rb");
	char *text;
	long size;

	assert_non_null(f);
	fseek(f, 0, SEEK_END);
	size = ftell(f);
	rewind(f);
	text = malloc((size_t)size + 1);
	assert_int_equal(fread(text, 1, (size_t)size, f), size);
	text[size] = 0;
	fclose(f);
	if (len)
		*len = (size_t)size;
	/* No byte 0 is in the text, so that string functions see all of it. */
	assert_int_equal(strlen(text), size);
	return text;
}

static struct report *new_report(enum report_vm vm, const char *name, size_t max_data)
{
	const struct report_info info = {
		.trace = name, .vm = vm, .version = "test", .max_data = max_data};
	struct report *r;

	assert_int_equal(report_create(&r, &info), 0);
	return r;
}

static char *write_and_read(struct report *r, const char *path, size_t *len)
{
	char err[REPORT_ERR_LEN] = "";

	assert_int_equal(report_write(r, path, err), 0);
	return read_file(path, len);
}

static size_t count(const char *text, const char *what)
{
	size_t n = 0;

	for (const char *at = text; (at = strstr(at, what)); at += strlen(what))
		n++;
	return n;
}

/* ---- a decoder ------------------------------------------------------------------------------ */

struct stream {
	uint8_t *data;
	size_t len, at;
};

static struct stream find_stream(const char *file)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	static const char open[] = "<script id=\"stream\" type=\"text/plain\">";
	const char *from = strstr(file, open);
	struct stream s = {0};
	uint32_t bits = 0, nr = 0;

	assert_non_null(from);
	from += strlen(open);
	s.data = malloc(strlen(from));
	for (; *from != '<' && *from != '='; from++) {
		const char *digit = strchr(digits, *from);

		assert_non_null(digit);
		bits = bits << 6 | (uint32_t)(digit - digits);
		nr += 6;
		if (nr >= 8) {
			nr -= 8;
			s.data[s.len++] = (uint8_t)(bits >> nr);
		}
	}
	return s;
}

static unsigned int get_u8(struct stream *s)
{
	assert_true(s->at < s->len);
	return s->data[s->at++];
}

static uint64_t get_number(struct stream *s)
{
	uint64_t value = 0;
	unsigned int byte, shift = 0;

	do {
		byte = get_u8(s);
		value |= (uint64_t)(byte & 0x7f) << shift;
		shift += 7;
	} while (byte & 0x80);
	return value;
}

static int64_t get_signed(struct stream *s)
{
	uint64_t v = get_number(s);

	return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

#define MAX_PATTERNS 512
#define MAX_NODES    4096
#define MAX_STRINGS  1024

struct decoder {
	struct stream s;
	uint64_t flags[MAX_PATTERNS];
	unsigned int state[MAX_PATTERNS], with_address[MAX_PATTERNS];
	uint32_t nr_patterns;
	struct {
		unsigned int tree, level, last;
		uint64_t index;
		uint64_t word[512];
	} * nodes;
	uint32_t nr_nodes, node;
	int64_t pfn[REPORT_TREES], line, time, fault_gfn, event_gfn;
	const char *strings[MAX_STRINGS];
	uint32_t nr_strings;
};

static void decoder_init(struct decoder *d, const char *file)
{
	const char *at = strstr(file, "\"patterns\":["), *strings, *end;
	unsigned long long flags;
	unsigned int format, state, with_address;

	memset(d, 0, sizeof(*d));
	d->s = find_stream(file);
	assert_non_null(at);
	at += strlen("\"patterns\":[");
	strings = strstr(at, "\"strings\":[");
	assert_non_null(strings);
	while (sscanf(at, "[\"%llx\",%u,%u,%u", &flags, &format, &state, &with_address) == 4) {
		assert_true(d->nr_patterns < MAX_PATTERNS);
		d->flags[d->nr_patterns] = flags;
		d->state[d->nr_patterns] = state;
		d->with_address[d->nr_patterns++] = with_address;
		at = strstr(at, "]],\n");
		if (!at || at > strings)
			break;
		at += strlen("]],\n");
	}
	assert_true(d->nr_patterns > 0);
	end = strstr(strings, "]}</script>");
	for (at = strings + strlen("\"strings\":["); at && at < end; at += 2) {
		assert_true(d->nr_strings < MAX_STRINGS);
		d->strings[d->nr_strings++] = at;
		at = strstr(at, ",\n");
		if (!at)
			break;
	}
	d->nodes = calloc(MAX_NODES, sizeof(*d->nodes));
}

static void decoder_free(struct decoder *d)
{
	free(d->s.data);
	free(d->nodes);
}

/* Is string number @index of the page @text? Tests use texts that need no escape. */
static bool is_string(const struct decoder *d, uint64_t index, const char *text)
{
	const char *at;

	assert_true(index < d->nr_strings);
	at = d->strings[index];
	return *at == '"' && !strncmp(at + 1, text, strlen(text)) && at[1 + strlen(text)] == '"';
}

static uint64_t get_word(struct decoder *d, unsigned int tree, unsigned int *state)
{
	uint64_t p = get_number(&d->s);

	assert_true(p < d->nr_patterns);
	if (state)
		*state = d->state[p];
	if (!d->with_address[p])
		return d->flags[p];
	d->pfn[tree] += get_signed(&d->s);
	return d->flags[p] | (uint64_t)d->pfn[tree] << 12;
}

/* As the stream has it: @told_old is set if the old word was told apart from the books. */
static struct report_change get_change(struct decoder *d, unsigned int *flags, unsigned int *state)
{
	struct report_change c = {0};
	unsigned int f = get_u8(&d->s), entry, place;

	if (f & CHANGE_NODE_NEW) {
		place = get_u8(&d->s);
		d->node = d->nr_nodes++;
		assert_true(d->nr_nodes <= MAX_NODES);
		d->nodes[d->node].tree = place & 15;
		d->nodes[d->node].level = place >> 4;
		d->nodes[d->node].index = get_number(&d->s);
	} else if (f & CHANGE_NODE_KNOWN) {
		d->node = (uint32_t)((int64_t)d->node + get_signed(&d->s));
	}
	assert_true(d->node < d->nr_nodes);
	c.tree = d->nodes[d->node].tree;
	c.level = d->nodes[d->node].level;
	entry = d->nodes[d->node].last;
	entry = f & CHANGE_NEXT ? entry + 1 : (unsigned int)((int64_t)entry + get_signed(&d->s));
	assert_true(entry < 512);
	d->nodes[d->node].last = entry;
	c.gfn = (d->nodes[d->node].index << 9 | entry) << (9 * (c.level - 1));
	c.new_word = get_word(d, c.tree, state);
	c.old_word = f & CHANGE_OLD ? get_word(d, c.tree, NULL) : d->nodes[d->node].word[entry];
	d->nodes[d->node].word[entry] = c.new_word;
	*flags = f;
	return c;
}

struct act {
	unsigned int kind, flags;
	uint32_t line;
	uint64_t time_us, changes;
	struct report_fault fault;
	uint64_t code, outcome, note; /* strings */
	struct report_event event;
};

static struct act get_act(struct decoder *d)
{
	struct stream *s = &d->s;
	struct act a = {.kind = get_u8(s), .flags = get_u8(s)};
	uint64_t pages;

	d->line += get_signed(s);
	d->time += get_signed(s);
	a.line = (uint32_t)d->line;
	a.time_us = (uint64_t)d->time;
	a.changes = get_number(s);
	if (a.kind == ACT_FAULT) {
		a.fault.vcpu = (int32_t)(get_number(s) - 1);
		d->fault_gfn += get_signed(s);
		a.fault.gpa = (uint64_t)d->fault_gfn << 12;
		a.fault.gpa += get_number(s);
		a.code = get_number(s);
		a.outcome = get_number(s);
		a.fault.retries = (uint32_t)get_number(s);
		a.fault.tables = (uint32_t)get_number(s);
		a.fault.external = (uint32_t)get_number(s);
		a.fault.slot = (int32_t)(get_number(s) - 1);
		a.fault.cost_ns = get_number(s);
	} else {
		assert_int_equal(a.kind, ACT_EVENT);
		a.event.kind = get_u8(s);
		d->event_gfn += get_signed(s);
		pages = get_number(s);
		a.event.range.start = (uint64_t)d->event_gfn;
		a.event.range.end = a.event.range.start + pages;
		a.event.external = (uint32_t)get_number(s);
		a.event.cost_ns = get_number(s);
	}
	a.note = get_number(s);
	return a;
}

/* ---- what is told --------------------------------------------------------------------------- */

static uint64_t random_state = 0x243f6a8885a308d3ull;

static uint64_t random_below(uint64_t n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state % n;
}

/* Words of all kinds, as the trees have them. */
static uint64_t random_word(enum report_tree tree, unsigned int level)
{
	uint64_t pfn = random_below(1ull << (random_below(2) ? 12 : 39)) + 1;

	if (tree == REPORT_TREE_EXTERNAL)
		return pfn << 12 | (level > 3	      ? 0x8000000000000007ull
				    : random_below(2) ? 0x81000000000000f0ull
						      : 0x80000000000000f7ull);
	if (level > 3)
		return pfn << 12 | 0x827;
	switch (random_below(5)) {
	case 0:
		return 0;
	case 1:
		return pfn << 12 | 0x825 | (level > 1 ? 0x80 : 0);
	case 2:
		return level > 1 ? pfn << 12 | 0x827 : 0x5a0;
	default:
		return pfn << 12 | 0xe67 | (level > 1 ? 0x80 : 0);
	}
}

static struct report_change random_change(void)
{
	struct report_change c = {.tree = (enum report_tree)random_below(REPORT_TREES),
				  .level = (unsigned int)random_below(5) + 1};

	/* Few parents, so that the children of the old ones don't become a subject here. */
	c.gfn = random_below(1u << 16);
	if (c.level > 1)
		c.gfn |= 1ull << 39;
	c.gfn &= ~((1ull << (9 * (c.level - 1))) - 1);
	c.format = c.tree == REPORT_TREE_EXTERNAL ? TPT_WORD_SEPT : TPT_WORD_NPT;
	c.new_word = random_word(c.tree, c.level);
	c.old_word = random_below(8) ? 0 : random_word(c.tree, c.level);
	return c;
}

static struct report_fault random_fault(uint32_t n)
{
	static const char *const outcomes[] = {"fixed", "spurious", "emulate"};

	return (struct report_fault){
		.line = (uint32_t)random_below(1u << 20),
		.time_us = random_below(1ull << 50),
		.vcpu = (int32_t)random_below(64) - 1,
		.as_id = (uint32_t)random_below(2),
		.gpa = random_below(1ull << 52),
		.error_code = 0x100000000ull | random_below(32),
		.access = (uint32_t)random_below(8),
		.outcome = outcomes[n % 3],
		.retries = (uint32_t)random_below(300),
		.tables = (uint32_t)random_below(4),
		.external = (uint32_t)random_below(1000),
		.slot = (int32_t)random_below(500) - 1,
		.cost_ns = random_below(1ull << 40),
		.different = n % 7 == 0,
	};
}

static bool is_nothing(uint64_t word)
{
	return !(word & ~(1ull << 63));
}

#define ROUND_ACTS 3000

static void every_change_and_fault_comes_back_as_it_was_told(void **state)
{
	struct place *place = *state;
	struct report *r = new_report(REPORT_VM_TD, "round trip", 0);
	struct report_change *told = calloc((size_t)ROUND_ACTS * 8, sizeof(*told));
	struct report_fault *faults = calloc(ROUND_ACTS, sizeof(*faults));
	uint32_t *nr = calloc(ROUND_ACTS, sizeof(*nr)), c = 0;
	struct decoder d;
	char *file, code[32];

	for (uint32_t n = 0; n < ROUND_ACTS; n++) {
		nr[n] = (uint32_t)random_below(8);
		for (uint32_t i = 0; i < nr[n]; i++) {
			told[c] = random_change();
			assert_int_equal(report_change(r, &told[c++]), 0);
		}
		faults[n] = random_fault(n);
		assert_int_equal(report_fault(r, &faults[n]), 0);
	}
	file = write_and_read(r, place->path, NULL);
	decoder_init(&d, file);
	c = 0;
	for (uint32_t n = 0; n < ROUND_ACTS; n++) {
		struct act a = get_act(&d);
		uint32_t own = 0;

		assert_int_equal(a.kind, ACT_FAULT);
		assert_int_equal(a.line, faults[n].line);
		assert_int_equal(a.time_us, faults[n].time_us);
		assert_int_equal(a.flags & 7, faults[n].access);
		assert_int_equal(!!(a.flags & ACT_SMM), faults[n].as_id);
		assert_int_equal(!!(a.flags & ACT_DIFFERENT), faults[n].different);
		assert_int_equal(a.fault.vcpu, faults[n].vcpu);
		assert_int_equal(a.fault.gpa, faults[n].gpa);
		assert_int_equal(a.fault.retries, faults[n].retries);
		assert_int_equal(a.fault.tables, faults[n].tables);
		assert_int_equal(a.fault.external, faults[n].external);
		assert_int_equal(a.fault.slot, faults[n].slot);
		assert_int_equal(a.fault.cost_ns, faults[n].cost_ns);
		assert_true(is_string(&d, a.outcome, faults[n].outcome));
		snprintf(code, sizeof(code), "0x%llx", (unsigned long long)faults[n].error_code);
		assert_true(is_string(&d, a.code, code));
		assert_int_equal(a.note, 0);
		for (uint64_t i = 0; i < a.changes; i++) {
			unsigned int flags, entry_state;
			struct report_change got = get_change(&d, &flags, &entry_state);

			if (flags & CHANGE_WITH_TABLE)
				continue;
			own++;
			assert_int_equal(got.tree, told[c].tree);
			assert_int_equal(got.level, told[c].level);
			assert_int_equal(got.gfn, told[c].gfn);
			assert_int_equal(got.new_word, told[c].new_word);
			/* One empty word is as good as another. */
			if (!is_nothing(told[c].old_word) || !is_nothing(got.old_word))
				assert_int_equal(got.old_word, told[c].old_word);
			assert_int_equal(
				entry_state,
				report_state_of(told[c].new_word, told[c].format, told[c].level));
			c++;
		}
		assert_int_equal(own, nr[n]);
	}
	assert_int_equal(d.s.at, d.s.len);
	decoder_free(&d);
	free(file);
	free(told);
	free(faults);
	free(nr);
	report_destroy(r);
}

static void tell(struct report *r, enum report_tree tree, tpt_gfn gfn, unsigned int level,
		 uint64_t old_word, uint64_t new_word)
{
	const struct report_change c = {tree, gfn, level, old_word, new_word, TPT_WORD_NPT, false};

	assert_int_equal(report_change(r, &c), 0);
}

static void end_fault(struct report *r, uint64_t gpa)
{
	const struct report_fault f = {.line = 1, .gpa = gpa, .outcome = "fixed", .slot = -1};

	assert_int_equal(report_fault(r, &f), 0);
}

static void end_event(struct report *r, enum report_event_kind kind)
{
	assert_int_equal(report_event(r, &(struct report_event){.kind = kind}), 0);
}

#define TABLE(n) ((uint64_t)(n) << 12 | 0x827)
#define LEAF(n)	 ((uint64_t)(n) << 12 | 0xe67)

/* Reads acts up to the end; what is left in the decoder's books is what the page ends with. */
static uint64_t play(struct decoder *d, uint64_t *with_table)
{
	uint64_t acts = 0;

	*with_table = 0;
	for (; d->s.at < d->s.len; acts++) {
		struct act a = get_act(d);

		for (uint64_t i = 0; i < a.changes; i++) {
			unsigned int flags, entry_state;

			get_change(d, &flags, &entry_state);
			*with_table += !!(flags & CHANGE_WITH_TABLE);
		}
	}
	return acts;
}

static uint64_t leaves_left(const struct decoder *d)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < d->nr_nodes; i++)
		for (int e = 0; e < 512; e++)
			n += d->nodes[i].level == 1 && (d->nodes[i].word[e] & 0x800);
	return n;
}

static void what_hung_on_an_unlinked_table_is_gone_when_it_is_linked_again(void **state)
{
	struct place *place = *state;
	struct report *r = new_report(REPORT_VM_NPT, "tables", 0);
	struct decoder d;
	uint64_t with_table;
	char *file;

	tell(r, REPORT_TREE_DIRECT, 0x200, 2, 0, TABLE(9));
	for (uint64_t gfn = 0x200; gfn < 0x210; gfn++)
		tell(r, REPORT_TREE_DIRECT, gfn, 1, 0, LEAF(gfn));
	end_fault(r, 0x200000);
	tell(r, REPORT_TREE_DIRECT, 0x200, 2, TABLE(9), 0);
	/* One of them is told, the others are not. */
	tell(r, REPORT_TREE_DIRECT, 0x203, 1, LEAF(0x203), 0);
	end_event(r, REPORT_EVENT_ZAP_ALL);
	tell(r, REPORT_TREE_DIRECT, 0x200, 2, 0, TABLE(10));
	tell(r, REPORT_TREE_DIRECT, 0x201, 1, 0, LEAF(77));
	end_fault(r, 0x201000);
	file = write_and_read(r, place->path, NULL);
	decoder_init(&d, file);
	assert_int_equal(play(&d, &with_table), 3);
	assert_int_equal(with_table, 15);
	assert_int_equal(leaves_left(&d), 1);
	decoder_free(&d);
	free(file);
	report_destroy(r);
}

static void a_dropped_tree_is_empty_and_the_others_stay(void **state)
{
	struct place *place = *state;
	struct report *r = new_report(REPORT_VM_NPT, "drop", 0);
	struct decoder d;
	uint64_t with_table;
	char *file;

	for (unsigned int tree = 0; tree < 2; tree++) {
		tell(r, tree, 0, 2, 0, TABLE(5));
		tell(r, tree, 1, 1, 0, LEAF(1));
		tell(r, tree, 2, 1, 0, LEAF(2));
	}
	end_fault(r, 0);
	assert_int_equal(report_drop_tree(r, REPORT_TREE_DIRECT), 0);
	end_event(r, REPORT_EVENT_ZAP_ALL);
	file = write_and_read(r, place->path, NULL);
	decoder_init(&d, file);
	play(&d, &with_table);
	assert_int_equal(with_table, 3);
	assert_int_equal(leaves_left(&d), 2);
	decoder_free(&d);
	free(file);
	report_destroy(r);
}

static void an_act_inside_another_keeps_its_own_changes(void **state)
{
	struct place *place = *state;
	struct report *r = new_report(REPORT_VM_NPT, "nested", 0);
	struct decoder d;
	unsigned int flags, entry_state;
	struct act a;
	char *file;

	tell(r, REPORT_TREE_DIRECT, 7, 1, 0, LEAF(70));
	assert_int_equal(report_begin(r), 0);
	tell(r, REPORT_TREE_DIRECT, 9, 1, LEAF(90), 0);
	end_event(r, REPORT_EVENT_NOTIFIER);
	tell(r, REPORT_TREE_DIRECT, 8, 1, 0, LEAF(80));
	end_fault(r, 0x8000);
	file = write_and_read(r, place->path, NULL);
	decoder_init(&d, file);
	a = get_act(&d);
	assert_int_equal(a.kind, ACT_EVENT);
	assert_int_equal(a.event.kind, REPORT_EVENT_NOTIFIER);
	assert_int_equal(a.changes, 1);
	assert_int_equal(get_change(&d, &flags, &entry_state).gfn, 9);
	a = get_act(&d);
	assert_int_equal(a.kind, ACT_FAULT);
	assert_int_equal(a.changes, 2);
	assert_int_equal(get_change(&d, &flags, &entry_state).gfn, 7);
	assert_int_equal(get_change(&d, &flags, &entry_state).gfn, 8);
	decoder_free(&d);
	free(file);
	report_destroy(r);
}

/* ---- the file ------------------------------------------------------------------------------- */

static bool is_void(const char *name, size_t len)
{
	static const char *const voids[] = {"meta", "input", "br", "link", "img"};

	for (size_t i = 0; i < sizeof(voids) / sizeof(voids[0]); i++)
		if (strlen(voids[i]) == len && !memcmp(name, voids[i], len))
			return true;
	return false;
}

static bool is_raw(const char *name, size_t len)
{
	return (len == 6 && !memcmp(name, "script", 6)) || (len == 5 && !memcmp(name, "style", 5));
}

/* Every element that is opened is closed, in the right order; scripts and styles are passed over.
 */
static void assert_well_formed(const char *html)
{
	struct {
		const char *name;
		size_t len;
	} open[64] = {0};
	size_t depth = 0, len;
	const char *at = html;

	assert_int_equal(strncmp(html, "<!DOCTYPE html>\n", 16), 0);
	at += 16;
	while ((at = strchr(at, '<'))) {
		bool close = at[1] == '/';
		const char *name = at + 1 + close;

		len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789");
		assert_true(len > 0);
		at = strchr(at, '>');
		assert_non_null(at);
		if (close) {
			assert_true(depth > 0);
			depth--;
			assert_int_equal(open[depth].len, len);
			assert_memory_equal(open[depth].name, name, len);
		} else if (!is_void(name, len)) {
			assert_true(depth < 64);
			open[depth].name = name;
			open[depth++].len = len;
			if (is_raw(name, len))
				at = strstr(at, len == 6 ? "</script>" : "</style>");
			assert_non_null(at);
		}
	}
	assert_int_equal(depth, 0);
}

static void assert_utf8(const char *text)
{
	char *copy = report_copy(text);

	assert_string_equal(copy, text);
	free(copy);
}

static void the_file_is_one_whole_page_with_the_data_in_it(void **state)
{
	struct place *place = *state;
	struct report *r = new_report(REPORT_VM_NPT, "boot.txt.xz", 0);
	char *file;

	assert_int_equal(report_region(r, &(struct report_region){{0, 0x10000}, "RAM", false}), 0);
	assert_int_equal(report_region(r, &(struct report_region){{0, 0x10000}, "RAM", false}), 0);
	assert_int_equal(report_counter(r, "Faults", "pf_taken", 12345), 0);
	assert_int_equal(report_note(r, "Read this."), 0);
	tell(r, REPORT_TREE_DIRECT, 7, 1, 0, LEAF(70));
	end_fault(r, 0x7000);
	file = write_and_read(r, place->path, NULL);
	assert_well_formed(file);
	assert_utf8(file);
	assert_int_equal(count(file, "@@"), 0);
	assert_int_equal(count(file, "<title>boot.txt.xz "), 1);
	assert_int_equal(count(file, "\"regions\":[[0,65536,0,\"RAM\"]]"), 1);
	assert_int_equal(count(file, "[\"Faults\",\"pf_taken\",12345]"), 1);
	assert_int_equal(count(file, "\"notes\":[\"Read this.\"]"), 1);
	assert_int_equal(count(file, "\"faults\":1,\"events\":0,\"changes\":1,\"lost\":[0,0,0]"),
			 1);
	/* The bits by name, from the one decoder. */
	assert_int_equal(count(file, "\"HOST_WRITABLE\""), 1);
	free(file);
	report_destroy(r);
}

static void the_page_refers_to_nothing_outside_of_itself(void **state)
{
	static const char *const outside[] = {"http:",	   "https:",	 "src=",    "href=\"",
					      "@import",   "url(",	 "<link",   "<img",
					      "<iframe",   "fetch(",	 "XMLHttp", "import(",
					      "WebSocket", "sendBeacon", "eval("};
	struct place *place = *state;
	struct report *r = new_report(REPORT_VM_TD, "trace", 0);
	char *file = write_and_read(r, place->path, NULL);

	for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++)
		assert_int_equal(count(file, outside[i]), 0);
	assert_int_equal(count(file, "default-src 'none'"), 1);
	/* Text never becomes markup, whatever is in it. */
	assert_int_equal(count(file, "innerHTML"), 0);
	assert_int_equal(count(file, "document.write"), 0);
	free(file);
	report_destroy(r);
}

static void hostile_texts_stay_texts(void **state)
{
	static const char evil[] = "</title></script><script>alert(1)</script>"
				   "<!--\" onload='x' &amp; @@meta@@ \\ \xff\xc0\x80\xed\xa0\x80"
				   "\x01\n\xe2\x80\xa8";
	struct place *place = *state;
	struct report *r = new_report(REPORT_VM_NPT, evil, 0);
	const struct report_fault f = {.line = 1, .outcome = evil, .slot = -1, .note = evil};
	const struct report_event e = {.line = 1, .text = evil};
	char *file;

	assert_int_equal(report_region(r, &(struct report_region){{0, 1}, evil, true}), 0);
	assert_int_equal(report_counter(r, evil, evil, 1), 0);
	assert_int_equal(report_note(r, evil), 0);
	assert_int_equal(report_fault(r, &f), 0);
	assert_int_equal(report_event(r, &e), 0);
	file = write_and_read(r, place->path, NULL);
	assert_well_formed(file);
	assert_utf8(file);
	assert_int_equal(count(file, "<script"), 3);
	assert_int_equal(count(file, "</script"), 3);
	assert_int_equal(count(file, "</title"), 1);
	assert_int_equal(count(file, "<!--"), 0);
	assert_int_equal(count(file, "alert(1)</"), 0);
	assert_true(count(file, "\\u003c/script\\u003e") > 0);
	assert_int_equal(count(file, "&lt;/title&gt;"), 2);
	free(file);
	report_destroy(r);
}

/* As large as a boot of a TD in 4 KiB pages: 48,000 faults, each on two trees, each accepted. */
static void a_long_run_makes_a_file_of_bounded_size(void **state)
{
	struct place *place = *state;
	struct report *r = new_report(REPORT_VM_TD, "long", 0);
	size_t len;
	char *file;

	for (uint64_t n = 0; n < 70000; n++) {
		uint64_t gfn = (n * 7) % 65536, word = random_below(1 << 24) << 12;
		const struct report_change mirror = {REPORT_TREE_MIRROR, gfn,	       1,   0,
						     word | 0xb77,	 TPT_WORD_EPT, true};
		struct report_change external = {
			REPORT_TREE_EXTERNAL,	      gfn,	     1,	  0,
			word | 0x81000000000000f0ull, TPT_WORD_SEPT, true};
		const struct report_fault f = {.line = (uint32_t)(3 * n),
					       .time_us = 400 * n,
					       .gpa = gfn << 12,
					       .error_code = 0x181,
					       .outcome = "fixed",
					       .external = 1,
					       .cost_ns = 1000 + random_below(9000)};

		report_change(r, &mirror);
		report_change(r, &external);
		external.new_word = word | 0x80000000000000f7ull;
		report_change(r, &external);
		assert_int_equal(report_fault(r, &f), 0);
	}
	file = write_and_read(r, place->path, &len);
	assert_int_equal(count(file, "\"faults\":70000,\"events\":0,\"changes\":210000"), 1);
	assert_int_equal(count(file, "\"lost\":[0,0,0]"), 1);
	assert_true(len < 6u << 20);
	free(file);
	report_destroy(r);
}

static void what_does_not_fit_is_counted_and_said(void **state)
{
	struct place *place = *state;
	struct report *r = new_report(REPORT_VM_NPT, "full", 2000);
	struct decoder d;
	uint64_t kept, with_table;
	char *file, lost[64];

	for (uint32_t n = 0; n < 1000; n++) {
		const struct report_fault f = {.line = n + 1, .outcome = "fixed", .slot = -1};

		tell(r, REPORT_TREE_DIRECT, n * 3, 1, 0, LEAF(n + 1));
		tell(r, REPORT_TREE_DIRECT, n * 3 + 1, 1, 0, LEAF(n + 1));
		assert_int_equal(report_fault(r, &f), 0);
	}
	file = write_and_read(r, place->path, NULL);
	decoder_init(&d, file);
	assert_true(d.s.len <= 2000 && d.s.len > 1900);
	kept = play(&d, &with_table);
	assert_true(kept > 50 && kept < 150);
	snprintf(lost, sizeof(lost),
		 "\"faults\":%u,\"events\":0,\"changes\":%u,\"lost\":[%u,%u,%u]",
		 (unsigned int)kept, (unsigned int)(2 * kept), (unsigned int)(1000 - kept),
		 (unsigned int)(2 * (1000 - kept)), (unsigned int)(kept + 1));
	assert_int_equal(count(file, lost), 1);
	decoder_free(&d);
	free(file);
	report_destroy(r);
}

/* ---- bad input ------------------------------------------------------------------------------ */

static void values_out_of_range_are_refused_and_leave_nothing(void **state)
{
	struct place *place = *state;
	struct report *r = new_report(REPORT_VM_NPT, "bad", 0);
	struct report_change c = {REPORT_TREE_DIRECT, 1, 1, 0, LEAF(1), TPT_WORD_NPT, false};
	struct report_fault f = {.line = 1, .outcome = "fixed", .slot = -1};
	struct report_event e = {.line = 1};
	struct report *none;
	char *file;

	assert_int_equal(report_create(&none, &(struct report_info){.vm = REPORT_VM_TD}), -EINVAL);
	assert_null(none);
	assert_int_equal(report_create(&none, &(struct report_info){.trace = "t", .vm = 3}),
			 -EINVAL);
#define REFUSED(call, field, value)                   \
	do {                                          \
		__typeof__((field)) saved_ = (field); \
		(field) = (value);                    \
		assert_int_equal((call), -EINVAL);    \
		(field) = saved_;                     \
	} while (0)
	REFUSED(report_change(r, &c), c.tree, REPORT_TREES);
	REFUSED(report_change(r, &c), c.level, 0);
	REFUSED(report_change(r, &c), c.level, 6);
	REFUSED(report_change(r, &c), c.gfn, 1ull << 40);
	REFUSED(report_change(r, &c), c.format, TPT_WORD_NR);
	REFUSED(report_fault(r, &f), f.gpa, 1ull << 52);
	REFUSED(report_fault(r, &f), f.as_id, 2);
	REFUSED(report_fault(r, &f), f.vcpu, -2);
	REFUSED(report_fault(r, &f), f.slot, -2);
	REFUSED(report_fault(r, &f), f.access, 8);
	REFUSED(report_fault(r, &f), f.outcome, NULL);
	REFUSED(report_event(r, &e), e.kind, REPORT_EVENTS);
	REFUSED(report_event(r, &e), e.range, ((struct tpt_gfn_range){1, (1ull << 40) + 1}));
	assert_int_equal(report_region(r, &(struct report_region){{2, 2}, "RAM", false}), -EINVAL);
	assert_int_equal(report_drop_tree(r, REPORT_TREES), -EINVAL);
	for (int i = 0; i < 8; i++)
		assert_int_equal(report_begin(r), 0);
	assert_int_equal(report_begin(r), -EOVERFLOW);
	file = write_and_read(r, place->path, NULL);
	assert_int_equal(count(file, "\"faults\":0,\"events\":0,\"changes\":0"), 1);
	assert_int_equal(count(file, "\"regions\":[]"), 1);
	free(file);
	report_destroy(r);
}

static void a_file_that_cannot_be_written_is_said_and_harms_nothing(void **state)
{
	struct place *place = *state;
	struct report *r = new_report(REPORT_VM_NPT, "unwritable", 0);
	char err[REPORT_ERR_LEN], path[128];

	snprintf(path, sizeof(path), "%s/nowhere/report.html", place->dir);
	assert_int_equal(report_write(r, path, err), -ENOENT);
	assert_non_null(strstr(err, path));
	assert_non_null(strstr(err, strerror(ENOENT)));
	assert_int_equal(report_write(r, place->dir, err), -EISDIR);
	assert_int_equal(report_write(r, place->path, err), 0);
	/* Nothing is left beside it. */
	snprintf(path, sizeof(path), "%s.%ld.new", place->path, (long)getpid());
	assert_int_equal(access(path, F_OK), -1);
	report_destroy(r);
}

static void a_word_is_what_its_format_and_level_make_it(void **state)
{
	static const struct {
		uint64_t word;
		enum tpt_word_format format;
		unsigned int level;
		enum report_state state;
	} words[] = {
		{0, TPT_WORD_NPT, 1, REPORT_EMPTY},
		{1ull << 63, TPT_WORD_EPT, 1, REPORT_EMPTY},
		{0x5a0, TPT_WORD_NPT, 1, REPORT_FROZEN},
		{0x80000000000005a0ull, TPT_WORD_EPT, 2, REPORT_FROZEN},
		{0x55d10825, TPT_WORD_NPT, 1, REPORT_READ_ONLY},
		{0x135f47e67, TPT_WORD_NPT, 1, REPORT_WRITABLE},
		{0x6e00ee7, TPT_WORD_NPT, 2, REPORT_WRITABLE},
		{0x6e00ee5, TPT_WORD_NPT, 2, REPORT_READ_ONLY},
		{0x13a3c6827, TPT_WORD_NPT, 4, REPORT_TABLE},
		{0x80000fed001d7ull, TPT_WORD_NPT, 1, REPORT_MMIO},
		{0x8600000012345b77ull, TPT_WORD_EPT, 1, REPORT_WRITABLE},
		{0x8000000012345907ull, TPT_WORD_EPT, 2, REPORT_TABLE},
		{0x8800000012345000ull, TPT_WORD_EPT, 1, REPORT_BLOCKED},
		{0x80e0000000000000ull, TPT_WORD_SEPT, 1, REPORT_EMPTY},
		{0, TPT_WORD_SEPT, 1, REPORT_EMPTY},
		{0x8000000012345007ull, TPT_WORD_SEPT, 2, REPORT_TABLE},
		{0x8080000012345000ull, TPT_WORD_SEPT, 2, REPORT_BLOCKED},
		{0x81000000123450f0ull, TPT_WORD_SEPT, 1, REPORT_PENDING},
		{0x80000000123450f7ull, TPT_WORD_SEPT, 1, REPORT_ACCEPTED},
		{0x80800000123450f0ull, TPT_WORD_SEPT, 1, REPORT_BLOCKED},
		{0x81800000123450f0ull, TPT_WORD_SEPT, 1, REPORT_BLOCKED},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		assert_int_equal(report_state_of(words[i].word, words[i].format, words[i].level),
				 words[i].state);
}

/* ---- a replay ------------------------------------------------------------------------------- */

#define BOOT_TRACE "traces/kvm-npt-linux-boot.txt.xz"
#define BOOT_SLOTS "traces/qemu-pc-256m.slots"

/* Entries in the decoder's books that have all of @bits and none of @clear. */
static uint64_t entries_with(const struct decoder *d, unsigned int tree, unsigned int level,
			     uint64_t bits, uint64_t clear)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < d->nr_nodes; i++)
		for (int e = 0; e < 512; e++)
			n += d->nodes[i].tree == tree && d->nodes[i].level == level &&
			     (d->nodes[i].word[e] & bits) == bits && !(d->nodes[i].word[e] & clear);
	return n;
}

/* MMU_PRESENT is bit 11, PS bit 7; no table but the root hangs on no entry. */
static void a_replays_report_ends_with_what_the_library_holds(void **state)
{
	struct place *place = *state;
	struct trace t;
	struct slot_history h;
	struct replay r = {.t = &t, .h = &h, .ops = &replay_npt_ops};
	struct report_replay report;
	struct backing *backing;
	struct decoder d;
	uint64_t with_table, tables = 0, acts;
	char err[INPUT_ERR_LEN], *file, faults[32];

	assert_int_equal(trace_read(&t, BOOT_TRACE, NULL, NULL, err), 0);
	assert_int_equal(trace_group(&t), 0);
	assert_int_equal(slots_read(&h, BOOT_SLOTS, err), 0);
	assert_int_equal(backing_build(&backing, &t, &h), 0);
	r.b = backing;
	assert_int_equal(report_replay_attach(&report, &r, BOOT_TRACE), 0);
	assert_int_equal(replay_run(&r), 0);
	assert_int_equal(report_replay_write(&report, &r, NULL, place->path, err), 0);
	file = read_file(place->path, NULL);
	snprintf(faults, sizeof(faults), "\"faults\":%u,", t.nr_faults);
	assert_int_equal(count(file, faults), 1);
	decoder_init(&d, file);
	acts = play(&d, &with_table);
	/* Each slot that came or went is an event. */
	assert_int_equal(acts, t.nr_faults + r.counts.slots_created + r.counts.slots_deleted);
	assert_true(with_table > 0);
	assert_true(r.stats.direct.pages_4k > 400 && r.stats.direct.pages_2m > 40);
	assert_int_equal(entries_with(&d, REPORT_TREE_DIRECT, 1, 0x800, 0),
			 r.stats.direct.pages_4k);
	assert_int_equal(entries_with(&d, REPORT_TREE_DIRECT, 2, 0x880, 0),
			 r.stats.direct.pages_2m);
	assert_int_equal(entries_with(&d, REPORT_TREE_DIRECT, 1, 1ull << 51, 0x800),
			 r.stats.direct.mmio);
	for (unsigned int level = 2; level <= 4; level++)
		tables += entries_with(&d, REPORT_TREE_DIRECT, level, 0x800, 0x80);
	assert_int_equal(tables + 1, r.stats.direct.tables);
	assert_int_equal(leaves_left(&d), r.stats.direct.pages_4k);
	decoder_free(&d);
	free(file);
	report_replay_free(&report);
	replay_free(&r);
	backing_free(backing);
	slots_free(&h);
	trace_free(&t);
}

#define IN_PLACE(test) cmocka_unit_test_setup_teardown(test, make_place, remove_place)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_PLACE(every_change_and_fault_comes_back_as_it_was_told),
		IN_PLACE(what_hung_on_an_unlinked_table_is_gone_when_it_is_linked_again),
		IN_PLACE(a_dropped_tree_is_empty_and_the_others_stay),
		IN_PLACE(an_act_inside_another_keeps_its_own_changes),
		IN_PLACE(the_file_is_one_whole_page_with_the_data_in_it),
		IN_PLACE(the_page_refers_to_nothing_outside_of_itself),
		IN_PLACE(hostile_texts_stay_texts),
		IN_PLACE(a_long_run_makes_a_file_of_bounded_size),
		IN_PLACE(what_does_not_fit_is_counted_and_said),
		IN_PLACE(values_out_of_range_are_refused_and_leave_nothing),
		IN_PLACE(a_file_that_cannot_be_written_is_said_and_harms_nothing),
		IN_PLACE(a_replays_report_ends_with_what_the_library_holds),
		cmocka_unit_test(a_word_is_what_its_format_and_level_make_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
