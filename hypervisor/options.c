// SPDX-License-Identifier: BSD-2-Clause
/* The words before "--" on the command line: what the hypervisor does with its guest. */
#include "hypervisor/hv.h"

/* A shared bit is one of those that choose an entry of the root. */
#define SHARED_BIT_MIN 39u
#define SHARED_BIT_MAX 47u

struct options options = {
	.level = TPT_LEVEL_2M, .shared_bit = SHARED_BIT_MAX, .live = 1000, .guest_words = ""};

struct word {
	const char *name; /* a '=' at its end: a number follows */
	uint32_t *number;
	bool *flag;
	enum tpt_level level;
};

static const struct word words[] = {
	{"4k", .level = TPT_LEVEL_4K},
	{"2m", .level = TPT_LEVEL_2M},
	{"1g", .level = TPT_LEVEL_1G},
	{"nx", .flag = &options.nx},
	{"td", .flag = &options.td},
	{"dirty=", .number = &options.dirty},
	{"age=", .number = &options.age},
	{"split=", .number = &options.split},
	{"zap=", .number = &options.zap},
	{"slots=", .number = &options.slots},
	{"live=", .number = &options.live},
	{"break=shootdown", .flag = &options.break_shootdown},
	{"shared=", .number = &options.shared_bit},
};

static bool is_between(char c)
{
	return c == ' ' || c == ',';
}

/* 32 bits in ten characters at most, so that nothing wraps. Where it ends, or NULL: there is none.
 */
static const char *take_number(const char *s, uint32_t *number)
{
	const char *end;
	uint64_t n = str_number(s, &end);

	if (end == s || end[-1] == 'x' || end - s > 10 || n > UINT32_MAX)
		return NULL;
	*number = (uint32_t)n;
	return end;
}

/* Takes one word; where it ends, or NULL. */
static const char *take(const char *s)
{
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		const struct word *w = &words[i];
		const char *end = s + strlen(w->name);

		if (!str_starts(s, w->name))
			continue;
		if (w->number)
			end = take_number(end, w->number);
		if (!end || (*end && !is_between(*end)))
			return NULL;
		if (w->flag)
			*w->flag = true;
		if (w->level)
			options.level = w->level;
		return end;
	}
	return NULL;
}

static void refuse(char *word)
{
	char *end = word;

	while (*end && !is_between(*end))
		end++;
	*end = 0;
	panic("options: \"%s\": not a word that is known (4k 2m 1g nx td dirty=MS age=MS split=MS "
	      "zap=MS slots=MS shared=BIT live=MS break=shootdown)",
	      word);
}

void options_parse(char *command_line)
{
	char *s = command_line;

	while (*s) {
		if (is_between(*s)) {
			s++;
			continue;
		}
		if (str_starts(s, "mode=")) {
			s += 5;
			continue;
		}
		if (str_starts(s, "--") && (!s[2] || s[2] == ' ')) {
			options.guest_words = s[2] ? s + 3 : s + 2;
			break;
		}
		const char *end = take(s);

		if (!end)
			refuse(s);
		s += end - s;
	}
	if (options.td && (options.dirty || options.split || options.slots))
		panic("options: dirty, split and slots are not for a guest whose memory is private");
	if (options.shared_bit < SHARED_BIT_MIN || options.shared_bit > SHARED_BIT_MAX)
		panic("options: shared=%u: a bit from %u to %u", options.shared_bit, SHARED_BIT_MIN,
		      SHARED_BIT_MAX);
}
