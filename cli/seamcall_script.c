// SPDX-License-Identifier: BSD-2-Clause
/* Files of calls: reading, lines, group headers, and where the set-ups come from. Never a command.
 */
#include "cli/seamcall.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/input.h"

#define MAX_SCRIPT_BYTES (256ull << 20)

/* Whole decompressed input, NUL-terminated; NULL with a message in @err. */
static char *read_all(struct input *in, char err[INPUT_ERR_LEN])
{
	size_t size = 0, capacity = 1 << 16;
	char *text = malloc(capacity + 1);

	while (text) {
		long got = input_read(in, text + size, capacity - size, err);

		if (got < 0)
			break;
		if (!got) {
			text[size] = 0;
			return text;
		}
		size += (size_t)got;
		if (size == capacity) {
			char *bigger = NULL;

			if (capacity < MAX_SCRIPT_BYTES)
				bigger = realloc(text, capacity * 2 + 1);
			snprintf(err, INPUT_ERR_LEN, "too long: more than %zu bytes", capacity);
			if (!bigger)
				break;
			text = bigger;
			capacity *= 2;
		}
	}
	free(text);
	return NULL;
}

/* Takes @text over. */
static int split_lines(char *text, struct sc_script *script)
{
	size_t count = 1;

	for (const char *p = text; *p; p++)
		count += *p == '\n';
	*script = (struct sc_script){.text = text, .lines = calloc(count, sizeof(char *))};
	if (!script->lines) {
		sc_script_free(script);
		return -1;
	}
	for (char *line = text; *line;) {
		size_t length = strcspn(line, "\n");
		bool more = line[length];

		script->lines[script->nr_lines++] = line;
		line[length] = 0;
		if (length && line[length - 1] == '\r')
			line[length - 1] = 0;
		line += length + more;
	}
	return 0;
}

int sc_script_load(const char *path, struct sc_script *script)
{
	char err[INPUT_ERR_LEN] = "out of memory";
	struct input *in = NULL;
	char *text;

	*script = (struct sc_script){0};
	if (input_open(path, &in, err)) {
		fprintf(stderr, "triptych seamcall: %s\n", err);
		return -1;
	}
	text = read_all(in, err);
	input_close(in);
	if (!text) {
		fprintf(stderr, "triptych seamcall: %s: %s\n", path, err);
		return -1;
	}
	return split_lines(text, script);
}

int sc_script_parse(const char *text, struct sc_script *script)
{
	char *copy = strdup(text);

	*script = (struct sc_script){0};
	return copy ? split_lines(copy, script) : -1;
}

void sc_script_free(struct sc_script *script)
{
	free(script->lines);
	free(script->text);
	*script = (struct sc_script){0};
}

const char *const sc_setup_name[SC_NR_SETUPS] = {"base", "td", "run"};

/* The text between "GROUP " or the hashes and "SETUP", without outer blanks. */
static void copy_name(const char *from, const char *to, char *name, size_t size)
{
	size_t length;

	if (!strncmp(from, "GROUP ", 6))
		from += 6;
	while (from < to && isspace((unsigned char)*from))
		from++;
	while (to > from && isspace((unsigned char)to[-1]))
		to--;
	length = (size_t)(to - from) < size - 1 ? (size_t)(to - from) : size - 1;
	memcpy(name, from, length);
	name[length] = 0;
}

static int find_setup(const char *word, enum sc_setup *setup)
{
	for (unsigned int i = 0; i < SC_NR_SETUPS; i++) {
		size_t length = strlen(sc_setup_name[i]);

		if (!strncmp(word, sc_setup_name[i], length) &&
		    (!word[length] || isspace((unsigned char)word[length]))) {
			*setup = i;
			return 0;
		}
	}
	return -1;
}

int sc_group_header(const char *line, struct sc_group *group)
{
	const char *name = line + strspn(line, "#");
	const char *setup = strstr(line, "SETUP ");
	const char *attributes = strstr(line, "ATTRIBUTES=");
	char *end;

	if (name - line < 8)
		return 0;
	if (!setup || find_setup(setup + 6 + strspn(setup + 6, " "), &group->setup))
		return -1;
	name += strspn(name, " ");
	copy_name(name, setup, group->name, sizeof(group->name));
	group->attributes = 0;
	if (attributes) {
		group->attributes = strtoull(attributes + strlen("ATTRIBUTES="), &end, 0);
		if (end == attributes + strlen("ATTRIBUTES="))
			return -1;
	}
	return 1;
}

/* The set-ups as the recordings were made with them; files of these names beside a script win. */
static const char *const built_in[SC_NR_SETUPS] = {
	[SC_SETUP_BASE] = "let tdr 0x100000000\n"
			  "let src 0x2000\n"
			  "let params 0x1000\n"
			  "let hkid 40\n"
			  "let L1 1\n"
			  "let L2 2\n"
			  "let L3 3\n"
			  "let M1 0x20000\n"
			  "let M2 0x40000\n"
			  "quiet 1\n"
			  "rep 512 i 0x100000000 0 :: S TDH.SYS.TDMR.INIT rcx=i\n"
			  "rep 256 i 0x200000000 0 :: S TDH.SYS.TDMR.INIT rcx=i\n"
			  "quiet 0\n",
	[SC_SETUP_TD] = "quiet 1\n"
			"S TDH.MNG.CREATE rcx=tdr rdx=hkid\n"
			"S TDH.MNG.KEY.CONFIG rcx=tdr\n"
			"rep 6 p 0x100001000 0x1000 :: S TDH.MNG.ADDCX rcx=p rdx=tdr\n"
			"params params attrs 0 3 4 0\n"
			"S TDH.MNG.INIT rcx=tdr rdx=params\n"
			"quiet 0\n",
	[SC_SETUP_RUN] = "let v0 0x100020000\n"
			 "let v1 0x100030000\n"
			 "quiet 1\n"
			 "S TDH.MEM.SEPT.ADD rcx=3 rdx=tdr r8=0x100010000\n"
			 "S TDH.MEM.SEPT.ADD rcx=2 rdx=tdr r8=0x100011000\n"
			 "S TDH.MEM.SEPT.ADD rcx=1 rdx=tdr r8=0x100012000\n"
			 "S TDH.VP.CREATE rcx=v0 rdx=tdr\n"
			 "rep 5 p 0x100021000 0x1000 :: S TDH.VP.ADDCX rcx=p rdx=v0\n"
			 "S TDH.VP.INIT rcx=v0 rdx=0\n"
			 "S TDH.VP.CREATE rcx=v1 rdx=tdr\n"
			 "rep 5 p 0x100031000 0x1000 :: S TDH.VP.ADDCX rcx=p rdx=v1\n"
			 "S TDH.VP.INIT rcx=v1 rdx=0\n"
			 "S TDH.VP.FLUSH rcx=v0\n"
			 "S TDH.VP.FLUSH rcx=v1\n"
			 "S TDH.MR.FINALIZE rcx=tdr\n"
			 "quiet 0\n",
};

int sc_setup_load(const char *script_path, enum sc_setup setup, struct sc_script *script)
{
	const char *slash = strrchr(script_path, '/');
	int folder = slash ? (int)(slash - script_path) + 1 : 0;
	char path[4096];

	snprintf(path, sizeof(path), "%.*s%s.inc", folder, script_path, sc_setup_name[setup]);
	if (access(path, R_OK) == 0)
		return sc_script_load(path, script);
	return sc_script_parse(built_in[setup], script);
}
