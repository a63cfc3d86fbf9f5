// SPDX-License-Identifier: BSD-2-Clause
/* Reading, checking and writing the slots file. What a trace says about slots is slots_infer.c's.
 */
#include "cli/slots_file.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_MASK   0xfffull
#define GPA_END	    (1ull << TRACE_GPA_BITS)
#define MAX_FILE    (16u << 20)
#define MAX_WORDS   8
#define MAX_REGIONS 256

struct parser {
	struct slot_history *h;
	const char *name;
	uint32_t line;
	char *err;
	char *words[MAX_WORDS];
	unsigned int nr_words;
};

__attribute__((format(printf, 2, 3))) static int refuse(struct parser *p, const char *fmt, ...)
{
	va_list ap;
	int n = snprintf(p->err, INPUT_ERR_LEN, "%s:%u: ", p->name, p->line);

	va_start(ap, fmt);
	if (n > 0 && n < INPUT_ERR_LEN)
		vsnprintf(p->err + n, (size_t)(INPUT_ERR_LEN - n), fmt, ap);
	va_end(ap);
	return -EINVAL;
}

static int no_memory(struct parser *p)
{
	snprintf(p->err, INPUT_ERR_LEN, "%s: out of memory", p->name);
	return -ENOMEM;
}

static bool parse_number(const char *s, uint64_t *v)
{
	char *end;

	if (*s < '0' || *s > '9')
		return false;
	errno = 0;
	*v = strtoull(s, &end, s[0] == '0' && s[1] == 'x' ? 16 : 10);
	return !errno && !*end;
}

static int number(struct parser *p, const char *what, const char *s, uint64_t *v)
{
	if (parse_number(s, v))
		return 0;
	return refuse(p, "%s \"%s\" is not a number", what, s);
}

/* Address or offset: page-aligned and within 52 bits. */
static int address(struct parser *p, const char *what, const char *s, uint64_t *v)
{
	int rc = number(p, what, s, v);

	if (rc)
		return rc;
	if (*v & PAGE_MASK)
		return refuse(p, "%s 0x%llx is not a multiple of 4096", what,
			      (unsigned long long)*v);
	if (*v > GPA_END)
		return refuse(p, "%s 0x%llx lies beyond 52 address bits", what,
			      (unsigned long long)*v);
	return 0;
}

static int find_region(struct parser *p, const char *name, uint16_t *out)
{
	struct slot_history *h = p->h;
	struct slot_region *r;

	if (!*name || strlen(name) >= sizeof(r->name))
		return refuse(p, "region name \"%s\" is empty or longer than %zu letters", name,
			      sizeof(r->name) - 1);
	for (uint32_t i = 0; i < h->nr_regions; i++) {
		if (!strcmp(h->regions[i].name, name)) {
			*out = (uint16_t)i;
			return 0;
		}
	}
	if (h->nr_regions == MAX_REGIONS)
		return refuse(p, "more than %u regions", MAX_REGIONS);
	r = realloc(h->regions, (h->nr_regions + 1) * sizeof(*r));
	if (!r)
		return no_memory(p);
	h->regions = r;
	r += h->nr_regions;
	memset(r, 0, sizeof(*r));
	strcpy(r->name, name);
	*out = (uint16_t)h->nr_regions++;
	return 0;
}

static int parse_region(struct parser *p)
{
	uint16_t i;
	int rc;

	if (p->nr_words < 2 || p->nr_words > 3)
		return refuse(p, "a region line is: region NAME [hva=ADDRESS]");
	rc = find_region(p, p->words[1], &i);
	if (rc || p->nr_words == 2)
		return rc;
	if (strncmp(p->words[2], "hva=", 4))
		return refuse(p, "\"%s\" is not hva=ADDRESS", p->words[2]);
	rc = number(p, "host-virtual address", p->words[2] + 4, &p->h->regions[i].hva);
	if (rc)
		return rc;
	if (p->h->regions[i].hva & PAGE_MASK)
		return refuse(p, "host-virtual address 0x%llx is not a multiple of 4096",
			      (unsigned long long)p->h->regions[i].hva);
	p->h->regions[i].has_hva = true;
	return 0;
}

static int parse_after(struct parser *p)
{
	struct slot_history *h = p->h;
	struct slot_table *t;
	uint64_t n;
	size_t len;
	int rc;

	if (p->nr_words != 2)
		return refuse(p, "an after line is: after N:");
	len = strlen(p->words[1]);
	if (len && p->words[1][len - 1] == ':')
		p->words[1][len - 1] = '\0';
	rc = number(p, "number of zap-alls", p->words[1], &n);
	if (rc)
		return rc;
	if (n >= UINT32_MAX)
		return refuse(p, "number of zap-alls %llu is out of range", (unsigned long long)n);
	if (h->nr_tables && n <= h->tables[h->nr_tables - 1].after)
		return refuse(p, "after %llu does not come after %u: tables must ascend",
			      (unsigned long long)n, h->tables[h->nr_tables - 1].after);
	t = realloc(h->tables, (h->nr_tables + 1) * sizeof(*t));
	if (!t)
		return no_memory(p);
	h->tables = t;
	t[h->nr_tables++] = (struct slot_table){.after = (uint32_t)n};
	return 0;
}

static int parse_generation(struct parser *p, struct slot_table *t)
{
	if (p->nr_words != 2)
		return refuse(p, "a generation line is: generation G");
	if (t->has_generation)
		return refuse(p, "a second generation for after %u", t->after);
	t->has_generation = true;
	return number(p, "generation", p->words[1], &t->generation);
}

static int check_slot(struct parser *p, const struct slot_table *t, const struct slot_def *s)
{
	if (s->end <= s->start)
		return refuse(p, "slot %u: end 0x%llx is not above start 0x%llx: empty or wrapping",
			      s->id, (unsigned long long)s->end, (unsigned long long)s->start);
	if (s->offset + (s->end - s->start) > GPA_END)
		return refuse(p, "slot %u: offset 0x%llx plus its size lies beyond 52 address bits",
			      s->id, (unsigned long long)s->offset);
	for (uint32_t i = 0; i < t->nr_slots; i++) {
		const struct slot_def *o = &t->slots[i];

		if (!(o->as_mask & s->as_mask))
			continue;
		if (o->id == s->id)
			return refuse(p, "slot id %u is already used on line %u", s->id, o->line);
		if (s->start < o->end && o->start < s->end)
			return refuse(
				p,
				"slot %u [0x%llx, 0x%llx) overlaps slot %u [0x%llx, 0x%llx) of "
				"line %u",
				s->id, (unsigned long long)s->start, (unsigned long long)s->end,
				o->id, (unsigned long long)o->start, (unsigned long long)o->end,
				o->line);
	}
	return 0;
}

/* REGION, REGION+OFFSET or as=N, from the sixth word on. */
static int parse_slot_option(struct parser *p, struct slot_def *s, char *word)
{
	char *plus = strchr(word, '+');
	int rc;

	if (!strncmp(word, "as=", 3)) {
		uint64_t as = 0;

		rc = number(p, "address space", word + 3, &as);
		if (rc)
			return rc;
		if (as >= SLOT_ADDRESS_SPACES)
			return refuse(p, "address space %llu is not 0 or 1",
				      (unsigned long long)as);
		s->as_mask = (uint8_t)(1u << as);
		return 0;
	}
	s->offset = 0;
	if (plus) {
		*plus = '\0';
		rc = address(p, "offset", plus + 1, &s->offset);
		if (rc)
			return rc;
	}
	return find_region(p, word, &s->region);
}

static int parse_slot(struct parser *p, struct slot_table *t)
{
	struct slot_def s = {.line = p->line, .as_mask = (1u << SLOT_ADDRESS_SPACES) - 1};
	uint64_t id;
	void *grown;
	int rc;

	if (p->nr_words < 5 || p->nr_words > 7)
		return refuse(p,
			      "a slot line is: slot ID START END rw|ro [REGION[+OFFSET]] [as=N]");
	if ((rc = number(p, "slot id", p->words[1], &id)) ||
	    (rc = address(p, "start", p->words[2], &s.start)) ||
	    (rc = address(p, "end", p->words[3], &s.end)))
		return rc;
	if (id > SLOT_MAX_ID)
		return refuse(p, "slot id %llu is above %u", (unsigned long long)id, SLOT_MAX_ID);
	s.id = (uint16_t)id;
	s.readonly = !strcmp(p->words[4], "ro");
	if (!s.readonly && strcmp(p->words[4], "rw"))
		return refuse(p, "access \"%s\" is not rw or ro", p->words[4]);
	s.offset = s.start;
	s.region = UINT16_MAX;
	for (unsigned int i = 5; !rc && i < p->nr_words; i++)
		rc = parse_slot_option(p, &s, p->words[i]);
	if (!rc && s.region == UINT16_MAX)
		rc = find_region(p, s.readonly ? "rom" : "ram", &s.region);
	if (!rc)
		rc = check_slot(p, t, &s);
	if (rc)
		return rc;
	if (t->nr_slots == SLOT_MAX_IN_TABLE)
		return refuse(p, "more than %u slots in one table", SLOT_MAX_IN_TABLE);
	grown = realloc(t->slots, (t->nr_slots + 1) * sizeof(s));
	if (!grown)
		return no_memory(p);
	t->slots = grown;
	t->slots[t->nr_slots++] = s;
	return 0;
}

static int parse_words(struct parser *p)
{
	struct slot_history *h = p->h;
	struct slot_table *t = h->nr_tables ? &h->tables[h->nr_tables - 1] : NULL;

	if (!strcmp(p->words[0], "region"))
		return parse_region(p);
	if (!strcmp(p->words[0], "after"))
		return parse_after(p);
	if (strcmp(p->words[0], "slot") && strcmp(p->words[0], "generation"))
		return refuse(p, "\"%s\" is not region, after, generation or slot", p->words[0]);
	if (!t)
		return refuse(p, "%s before the first \"after N:\"", p->words[0]);
	return *p->words[0] == 's' ? parse_slot(p, t) : parse_generation(p, t);
}

static int parse_line(struct parser *p, char *line)
{
	char *save, *hash = strchr(line, '#');

	if (hash)
		*hash = '\0';
	p->nr_words = 0;
	for (char *w = strtok_r(line, " \t\r", &save); w; w = strtok_r(NULL, " \t\r", &save)) {
		if (p->nr_words == MAX_WORDS)
			return refuse(p, "more than %d words on a line", MAX_WORDS);
		p->words[p->nr_words++] = w;
	}
	return p->nr_words ? parse_words(p) : 0;
}

int slots_parse(struct slot_history *h, const char *name, const char *text, size_t len,
		char err[INPUT_ERR_LEN])
{
	struct parser p = {.h = h, .name = name, .err = err};
	char *copy = malloc(len + 1), *line, *end;
	int rc = 0;

	memset(h, 0, sizeof(*h));
	err[0] = '\0';
	if (!copy)
		return no_memory(&p);
	memcpy(copy, text, len);
	copy[len] = '\0';
	if (memchr(text, '\0', len)) {
		p.line = 1;
		rc = refuse(&p, "holds a NUL byte: not a text file");
	}
	for (line = copy; !rc && line < copy + len; line = end + 1) {
		end = strchr(line, '\n');
		if (!end)
			end = copy + len;
		*end = '\0';
		p.line++;
		rc = parse_line(&p, line);
	}
	if (!rc && !h->nr_tables)
		rc = refuse(&p, "no \"after N:\": the file describes no slots");
	free(copy);
	return rc;
}

int slots_read(struct slot_history *h, const char *path, char err[INPUT_ERR_LEN])
{
	struct input *in;
	char *text;
	size_t len = 0;
	long n;
	int rc;

	memset(h, 0, sizeof(*h));
	rc = input_open(path, &in, err);
	if (rc)
		return rc;
	text = malloc(MAX_FILE);
	if (!text) {
		snprintf(err, INPUT_ERR_LEN, "%s: out of memory", path);
		input_close(in);
		return -ENOMEM;
	}
	while ((n = input_read(in, text + len, MAX_FILE - len, err)) > 0)
		len += (size_t)n;
	input_close(in);
	if (n < 0) {
		rc = (int)n;
	} else if (len == MAX_FILE) {
		snprintf(err, INPUT_ERR_LEN, "%s: longer than 16 MiB: not a slots file", path);
		rc = -EINVAL;
	} else {
		rc = slots_parse(h, path, text, len, err);
	}
	free(text);
	return rc;
}

static void write_slot(const struct slot_history *h, const struct slot_def *s, FILE *out)
{
	fprintf(out, "slot %u 0x%llx 0x%llx %s %s+0x%llx", s->id, (unsigned long long)s->start,
		(unsigned long long)s->end, s->readonly ? "ro" : "rw", h->regions[s->region].name,
		(unsigned long long)s->offset);
	for (unsigned int as = 0; as < SLOT_ADDRESS_SPACES; as++)
		if (s->as_mask == 1u << as)
			fprintf(out, " as=%u", as);
	fputc('\n', out);
}

void slots_write(const struct slot_history *h, FILE *out)
{
	for (uint32_t i = 0; i < h->nr_regions; i++) {
		fprintf(out, "region %s", h->regions[i].name);
		if (h->regions[i].has_hva)
			fprintf(out, " hva=0x%llx", (unsigned long long)h->regions[i].hva);
		fputc('\n', out);
	}
	for (uint32_t i = 0; i < h->nr_tables; i++) {
		const struct slot_table *t = &h->tables[i];

		fprintf(out, "after %u:\n", t->after);
		if (t->has_generation)
			fprintf(out, "generation 0x%llx\n", (unsigned long long)t->generation);
		for (uint32_t n = 0; n < t->nr_slots; n++)
			write_slot(h, &t->slots[n], out);
	}
}

const struct slot_table *slots_table_at(const struct slot_history *h, uint32_t zaps)
{
	const struct slot_table *found = NULL;

	for (uint32_t i = 0; i < h->nr_tables && h->tables[i].after <= zaps; i++)
		found = &h->tables[i];
	return found;
}

const struct slot_def *slots_find(const struct slot_table *table, unsigned int as_id, uint64_t gpa)
{
	for (uint32_t i = 0; table && i < table->nr_slots; i++) {
		const struct slot_def *s = &table->slots[i];

		if (s->as_mask >> as_id & 1 && gpa >= s->start && gpa < s->end)
			return s;
	}
	return NULL;
}

bool slots_same(const struct slot_def *a, const struct slot_def *b)
{
	return a->start == b->start && a->end == b->end && a->offset == b->offset &&
	       a->region == b->region && a->id == b->id && a->readonly == b->readonly &&
	       a->as_mask == b->as_mask;
}

void slots_free(struct slot_history *h)
{
	for (uint32_t i = 0; i < h->nr_tables; i++)
		free(h->tables[i].slots);
	free(h->tables);
	free(h->regions);
	memset(h, 0, sizeof(*h));
}
