// SPDX-License-Identifier: BSD-2-Clause
/* `triptych decode`: entry words in, an explanation out. What bits mean is mmu/pte's to say. */
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <triptych/spte.h>

#include "cli/cli.h"

#define FRAMES_2M 512ull
#define FRAMES_1G (512ull * 512)

struct options {
	bool json;
	bool told; /* --format: no guess */
	enum tpt_word_format format;
	bool has_gfn;
	uint64_t gfn;
};

/* One word of the command line. */
struct item {
	uint64_t word;
	bool guessed;
	char reason[160];
	struct tpt_word decoded;
};

static const char usage[] =
	"usage: triptych decode WORD... [--format ept|npt|sept|mmio] [--gfn GFN] [--json]\n\n"
	"Explains page-table entry words field by field, each with the section of the manual that\n"
	"defines it. A WORD is hexadecimal, with 0x or without.\n\n"
	"  --format F  read all words as F:\n"
	"                ept   Intel EPT, as KVM and this library write it\n"
	"                npt   AMD nested paging, the same\n"
	"                sept  Secure EPT as the TDX module keeps it, private tables\n"
	"                mmio  an entry for a guest frame without a memslot\n"
	"              without it the format is guessed, and why is said\n"
	"  --gfn GFN   (hexadecimal) also say which frame each leaf gives to this guest frame\n"
	"  --json      the same for programs\n";

static const struct tpt_word_field *find_field(const struct tpt_word *w, const char *name)
{
	for (uint32_t i = 0; i < w->nr_fields; i++)
		if (!strcmp(w->field[i].name, name))
			return &w->field[i];
	return NULL;
}

static uint64_t field_value(const struct tpt_word *w, const char *name)
{
	const struct tpt_word_field *f = find_field(w, name);

	return f ? f->value : 0;
}

/* ---- what a word says beyond its fields ----------------------------------------------------- */

/* Frames that a leaf maps; 0: no leaf. A large leaf is 1 GiB only if its frame is aligned so. */
static uint64_t leaf_frames(const struct tpt_word *w)
{
	if (strstr(w->kind, "large leaf"))
		return FRAMES_2M;
	return !strcmp(w->kind, "leaf") || !strcmp(w->kind, "blocked leaf") ? 1 : 0;
}

static bool is_mmio(const struct tpt_word *w)
{
	return !strncmp(w->kind, "MMIO", 4);
}

static uint64_t mmio_generation(const struct tpt_word *w)
{
	return field_value(w, "GENERATION_HIGH") << 8 | field_value(w, "GENERATION_LOW");
}

static void print_frames(const struct tpt_word *w)
{
	uint64_t pfn = field_value(w, "PFN");
	uint64_t frames = leaf_frames(w);

	if (frames == 1)
		printf("  maps 1 frame, 0x%" PRIx64 "\n", pfn);
	else if (frames && pfn % FRAMES_1G)
		printf("  maps 512 frames, 0x%" PRIx64 " to 0x%" PRIx64
		       ": 2 MiB (the frame isn't aligned to 1 GiB)\n",
		       pfn, pfn + frames - 1);
	else if (frames)
		printf("  maps 512 frames, 0x%" PRIx64 " to 0x%" PRIx64
		       ", at level 2 (2 MiB), or 262144 at level 3 (1 GiB)\n",
		       pfn, pfn + frames - 1);
}

static void print_gfn(const struct tpt_word *w, uint64_t gfn)
{
	uint64_t frames = leaf_frames(w);
	uint64_t offset = frames ? gfn % frames : 0;

	if (!frames)
		return;
	printf("  gfn 0x%" PRIx64 " is frame 0x%" PRIx64, gfn, field_value(w, "PFN") + offset);
	if (frames > 1)
		printf(" (0x%" PRIx64 " + 0x%" PRIx64 "); mapped with it: gfns 0x%" PRIx64
		       " to 0x%" PRIx64,
		       field_value(w, "PFN"), offset, gfn - offset, gfn - offset + frames - 1);
	putchar('\n');
}

/* ---- text ----------------------------------------------------------------------------------- */

static void print_field(const struct tpt_word_field *f)
{
	char where[8];

	if (f->high == f->low)
		snprintf(where, sizeof(where), "%u", f->high);
	else
		snprintf(where, sizeof(where), "%u:%u", f->high, f->low);
	printf("  %-5s  %-15s 0x%-10" PRIx64 "  %s  [%s]\n", where, f->name, f->value, f->meaning,
	       f->source);
}

static void print_text(const struct item *item, const struct options *o)
{
	const struct tpt_word *w = &item->decoded;

	printf("0x%" PRIx64 "  %s, %s\n", item->word, tpt_word_format_name(w->format), w->kind);
	if (item->guessed)
		printf("  read as %s: %s\n", tpt_word_format_name(w->format), item->reason);
	for (uint32_t i = 0; i < w->nr_fields; i++)
		print_field(&w->field[i]);
	print_frames(w);
	if (is_mmio(w))
		printf("  gfn 0x%" PRIx64 " had no memslot in generation 0x%" PRIx64
		       "; another generation makes it void\n",
		       field_value(w, "GFN"), mmio_generation(w));
	if (o->has_gfn)
		print_gfn(w, o->gfn);
}

/* ---- JSON ----------------------------------------------------------------------------------- */

static void json_text(const char *name, const char *text)
{
	printf(", \"%s\": ", name);
	cli_json_string(stdout, text);
}

static void json_number(const char *name, uint64_t value)
{
	printf(", \"%s\": \"0x%" PRIx64 "\"", name, value);
}

static void json_field(const struct tpt_word_field *f)
{
	printf("{\"high\": %u, \"low\": %u", f->high, f->low);
	json_text("name", f->name);
	json_number("value", f->value);
	json_text("meaning", f->meaning);
	json_text("source", f->source);
	putchar('}');
}

static void print_json(const struct item *item, const struct options *o)
{
	const struct tpt_word *w = &item->decoded;
	uint64_t frames = leaf_frames(w);

	printf("  {\"word\": \"0x%" PRIx64 "\"", item->word);
	json_text("format", tpt_word_format_name(w->format));
	printf(", \"guessed\": %s", item->guessed ? "true" : "false");
	if (item->guessed)
		json_text("reason", item->reason);
	json_text("kind", w->kind);
	if (is_mmio(w)) {
		json_number("gfn", field_value(w, "GFN"));
		json_number("generation", mmio_generation(w));
	}
	if (frames && o->has_gfn)
		json_number("pfn_of_gfn", field_value(w, "PFN") + o->gfn % frames);
	printf(",\n   \"fields\": [\n");
	for (uint32_t i = 0; i < w->nr_fields; i++) {
		printf("     ");
		json_field(&w->field[i]);
		puts(i + 1 < w->nr_fields ? "," : "");
	}
	printf("   ]}");
}

/* ---- guessing ------------------------------------------------------------------------------- */

static void decode_item(struct item *item, enum tpt_word_format format, const char *reason)
{
	item->guessed = reason;
	snprintf(item->reason, sizeof(item->reason), "%s", reason ? reason : "");
	tpt_word_decode(item->word, format, &item->decoded);
}

/* Could the word be of either of a processor's two formats? */
static bool is_paging(const struct item *item)
{
	return item->decoded.format == TPT_WORD_EPT || item->decoded.format == TPT_WORD_NPT;
}

/*
 * Words given together come from one machine, and a table entry shows best of which kind it is: all
 * words that could be of either format follow the first table entry.
 */
static void follow_table(struct item *items, int nr)
{
	const struct item *table = NULL;

	for (int i = 0; i < nr && !table; i++)
		if (is_paging(&items[i]) && !strcmp(items[i].decoded.kind, "table"))
			table = &items[i];
	for (int i = 0; table && i < nr; i++) {
		enum tpt_word_format format = table->decoded.format;
		char reason[160];

		if (!is_paging(&items[i]) || items[i].decoded.format == format)
			continue;
		snprintf(reason, sizeof(reason),
			 "0x%" PRIx64 ", given with it, is a table entry of %s", table->word,
			 tpt_word_format_name(format));
		decode_item(&items[i], format, reason);
	}
}

static void decode_all(struct item *items, int nr, const struct options *o)
{
	for (int i = 0; i < nr; i++) {
		const char *reason = NULL;
		enum tpt_word_format format =
			o->told ? o->format : tpt_word_guess(items[i].word, &reason);

		decode_item(&items[i], format, reason);
	}
	if (!o->told)
		follow_table(items, nr);
}

/* ---- the command ---------------------------------------------------------------------------- */

static bool parse_format(const char *text, enum tpt_word_format *format)
{
	for (*format = 0; *format < TPT_WORD_NR; (*format)++)
		if (!strcmp(text, tpt_word_format_name(*format)))
			return true;
	return false;
}

static int parse_option(int option, struct options *o, char **argv)
{
	switch (option) {
	case 'j':
		o->json = true;
		return CLI_OK;
	case 'f':
		o->told = true;
		if (parse_format(optarg, &o->format))
			return CLI_OK;
		return cli_error(argv[0], "unknown format %s: there are ept, npt, sept and mmio",
				 optarg);
	case 'g':
		o->has_gfn = cli_parse_u64(optarg, true, &o->gfn);
		if (o->has_gfn && o->gfn < 1ull << 40)
			return CLI_OK;
		return cli_error(argv[0],
				 "--gfn %s is not a guest frame number: hexadecimal, "
				 "below 2^40",
				 optarg);
	default:
		return cli_bad_option(argv[0], option, argv);
	}
}

static int parse_words(struct item *items, int nr, char **argv, const char *command)
{
	for (int i = 0; i < nr; i++)
		if (!cli_parse_u64(argv[i], true, &items[i].word))
			return cli_error(command, "%s is not a word: 1 to 16 hexadecimal digits",
					 argv[i]);
	return CLI_OK;
}

static void print_all(const struct item *items, int nr, const struct options *o)
{
	if (o->json)
		puts("[");
	for (int i = 0; i < nr; i++) {
		if (o->json) {
			print_json(&items[i], o);
			puts(i + 1 < nr ? "," : "\n]");
		} else {
			if (i)
				putchar('\n');
			print_text(&items[i], o);
		}
	}
}

int cmd_decode(int argc, char **argv)
{
	static const struct option long_options[] = {
		{"format", required_argument, NULL, 'f'},
		{"gfn", required_argument, NULL, 'g'},
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	struct options o = {0};
	struct item *items;
	int option, nr, ret;

	optind = 0; /* 0, not 1: a second call in one process starts afresh */
	opterr = 0;
	while ((option = getopt_long(argc, argv, ":h", long_options, NULL)) != -1) {
		if (option == 'h')
			return fputs(usage, stdout), CLI_OK;
		ret = parse_option(option, &o, argv);
		if (ret)
			return ret;
	}
	nr = argc - optind;
	if (!nr)
		return cli_error(argv[0], "no word given; see triptych decode --help");
	items = calloc(nr, sizeof(*items));
	if (!items)
		return cli_error(argv[0], "no memory for %d words", nr);
	ret = parse_words(items, nr, argv + optind, argv[0]);
	if (!ret) {
		decode_all(items, nr, &o);
		print_all(items, nr, &o);
	}
	free(items);
	return ret;
}
