// SPDX-License-Identifier: BSD-2-Clause
/* The words before " -- " on the command line: what the hypervisor does with its guest. */
#include "hypervisor/hv.h"

struct options options = {.level = TPT_LEVEL_2M, .live = 1000, .guest_words = ""};

struct word {
	const char *name; /* a '=' at its end: a number follows */
	uint32_t *number;
	bool *flag;
	enum tpt_level level;
};

static const struct word words[] = {
	{"4k", .level = TPT_LEVEL_4K},	    {"2m", .level = TPT_LEVEL_2M},
	{"1g", .level = TPT_LEVEL_1G},	    {"nx", .flag = &options.nx},
	{"td", .flag = &options.td},	    {"dirty=", .number = &options.dirty},
	{"age=", .number = &options.age},   {"split=", .number = &options.split},
	{"zap=", .number = &options.zap},   {"slots=", .number = &options.slots},
	{"live=", .number = &options.live}, {"break=shootdown", .flag = &options.break_shootdown},
};

static bool is_between(char c)
{
	return c == ' ' || c == ',';
}

/* Takes one word; where it ends, or NULL. */
static const char *take(const char *s)
{
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		const struct word *w = &words[i];
		const char *end = s + strlen(w->name);

		if (!str_starts(s, w->name))
			continue;
		if (w->number) {
			const char *digits = end;

			*w->number = (uint32_t)str_number(digits, &end);
			if (end == digits)
				return NULL;
		}
		if (*end && !is_between(*end))
			continue;
		if (w->flag)
			*w->flag = true;
		if (w->level)
			options.level = w->level;
		return end;
	}
	return NULL;
}

void options_parse(char *command_line)
{
	const char *s = command_line;

	for (char *c = command_line; *c; c++) {
		if (!str_starts(c, " -- "))
			continue;
		*c = 0;
		options.guest_words = c + 4;
		break;
	}
	while (*s) {
		if (is_between(*s)) {
			s++;
			continue;
		}
		if (str_starts(s, "mode=")) {
			s += 5;
			continue;
		}
		const char *end = take(s);

		if (!end)
			panic("options: \"%s\": not a word that is known (4k 2m 1g nx td dirty=MS age=MS "
			      "split=MS zap=MS slots=MS live=MS break=shootdown)",
			      s);
		s = end;
	}
	if (options.td && (options.dirty || options.split || options.slots))
		panic("options: dirty, split and slots are not for a guest whose memory is private");
}
