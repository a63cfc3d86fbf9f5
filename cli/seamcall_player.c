// SPDX-License-Identifier: BSD-2-Clause
/*
 * Plays the commands of a script on a machine and writes what it answers, in the notation of the
 * recordings. Never compares, never reads files.
 */
#include "cli/seamcall.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define MAX_WORDS   24
#define MAX_NAMES   256
#define MAX_DEPTH   4
#define MAX_ANSWER  512
#define EVENT_TICKS 10000 /* what T and X add to the clock */
#define MAX_REPEAT  (1u << 20)

struct symbol {
	char name[32];
	uint64_t value;
};

struct sc_player {
	struct sc_machine *machine;
	const char *path;
	FILE *transcript;
	struct sc_answers *answers;
	struct symbol symbols[MAX_NAMES];
	unsigned int nr_symbols;
	unsigned int lp;
	bool quiet;
	bool setup;	      /* silent, and a failing call is an error */
	unsigned int depth;   /* of rep inside rep */
	unsigned int repeats; /* commands that the line's reps have run */
	unsigned int errors;
	/* The line under way. */
	size_t line;
	const char *text;
	bool echoed;
};

/* One command, cut into words. */
struct words {
	char buffer[1024];
	char *word[MAX_WORDS];
	int count;
};

static void fail(struct sc_player *p, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void fail(struct sc_player *p, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "%s:%zu: ", p->path, p->line);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	p->errors++;
}

/* -- names and numbers -- */

static struct symbol *find_symbol(struct sc_player *p, const char *name)
{
	for (unsigned int i = 0; i < p->nr_symbols; i++)
		if (!strcmp(p->symbols[i].name, name))
			return &p->symbols[i];
	return NULL;
}

static bool set_symbol(struct sc_player *p, const char *name, uint64_t value)
{
	struct symbol *symbol = find_symbol(p, name);

	if (!symbol) {
		if (p->nr_symbols == MAX_NAMES || strlen(name) >= sizeof(symbol->name) ||
		    strspn(name, "0123456789") || strpbrk(name, "+-*|= ")) {
			fail(p, "'%s' can't be a name (letters first, 31 at most, %d names)", name,
			     MAX_NAMES);
			return false;
		}
		symbol = &p->symbols[p->nr_symbols++];
		strcpy(symbol->name, name);
	}
	symbol->value = value;
	return true;
}

static bool term_value(struct sc_player *p, const char *term, uint64_t *value)
{
	const struct symbol *symbol;
	char *end;

	if (*term >= '0' && *term <= '9') {
		errno = 0;
		*value = strtoull(term, &end, term[1] == 'x' || term[1] == 'X' ? 16 : 10);
		if (!*end && !errno)
			return true;
		fail(p, "'%s' is not a number of 64 bits", term);
		return false;
	}
	symbol = find_symbol(p, term);
	if (!symbol) {
		fail(p, "unknown name '%s'", term);
		return false;
	}
	*value = symbol->value;
	return true;
}

static uint64_t combine(uint64_t left, char operator, uint64_t right)
{
	switch (operator) {
	case '+':
		return left + right;
	case '-':
		return left - right;
	case '*':
		return left * right;
	default:
		return left | right;
	}
}

/* Terms joined by + | - *, strictly left to right; a leading minus counts from zero. */
static bool expression(struct sc_player *p, const char *text, uint64_t *value)
{
	char operator= '+';

	*value = 0;
	if (*text == '-') {
		operator= '-';
		text++;
	}
	for (;;) {
		size_t length = strcspn(text, "+|-*");
		char term[64];
		uint64_t right;

		if (!length || length >= sizeof(term)) {
			fail(p, "bad expression at '%s'", text);
			return false;
		}
		memcpy(term, text, length);
		term[length] = 0;
		if (!term_value(p, term, &right))
			return false;
		*value = combine(*value, operator, right);
		if (!text[length])
			return true;
		operator= text[length];
		text += length + 1;
	}
}

/* -- output -- */

static void echo(struct sc_player *p)
{
	if (p->transcript && !p->echoed)
		fprintf(p->transcript, "%s\n", p->text);
	p->echoed = true;
}

static void answer(struct sc_player *p, const char *text)
{
	if (p->transcript)
		fprintf(p->transcript, "%s\n", text);
	if (p->answers)
		sc_answers_add(p->answers, p->line, text);
}

/* A call's answer: while quiet only a failure shows, and then with its command. */
static void call_answer(struct sc_player *p, bool good, const char *text)
{
	if (p->setup && !good)
		fail(p, "set-up call failed: %s\n%s", p->text, text);
	if (p->setup || (p->quiet && good))
		return;
	echo(p);
	answer(p, text);
}

static void plain_answer(struct sc_player *p, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void plain_answer(struct sc_player *p, const char *format, ...)
{
	char text[MAX_ANSWER];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	answer(p, text);
}

/* "  => RAX NAME rcx= rdx=" and what else changed against @before. */
static void format_registers(const struct tdx_regs *regs, const struct tdx_regs *before, char *text,
			     size_t size)
{
	char name[96];
	int length;

	sc_status_name(regs->rax, name, sizeof(name));
	length = snprintf(text, size, "  => %016llx %s rcx=%llx rdx=%llx",
			  (unsigned long long)regs->rax, name, (unsigned long long)regs->rcx,
			  (unsigned long long)regs->rdx);
	for (int i = 8; i <= 11; i++)
		if (regs->gpr[i] != before->gpr[i])
			length += snprintf(text + length, size - (size_t)length, " r%d=%llx", i,
					   (unsigned long long)regs->gpr[i]);
}

static int format_entry(const struct tdx_guest *guest, char *text, size_t size)
{
	char name[96];
	int length;

	sc_status_name(guest->regs.rax, name, sizeof(name));
	length = snprintf(text, size, "  => TD_ENTRY guest rax=%016llx %s rcx=%llx rdx=%llx",
			  (unsigned long long)guest->regs.rax, name,
			  (unsigned long long)guest->regs.rcx, (unsigned long long)guest->regs.rdx);
	if (guest->vector)
		length += snprintf(text + length, size - (size_t)length, " inject_vector=%u",
				   guest->vector);
	return length;
}

static int format_ve(struct sc_player *p, char *text, size_t size)
{
	uint64_t tdvpr = tdx_module_running_vcpu(p->machine->module, p->lp);
	struct tdx_vcpu_view view;

	if (tdx_module_view_vcpu(p->machine->module, tdvpr, &view))
		return 0;
	return snprintf(text, size,
			"\n     VE_INFO valid=%llx reason=%llu qual=%llx gpa=%llx gla=%llx",
			(unsigned long long)view.ve.valid, (unsigned long long)view.ve.reason,
			(unsigned long long)view.ve.qualification, (unsigned long long)view.ve.gpa,
			(unsigned long long)view.ve.gla);
}

/* -- the three kinds of calls -- */

/* "name=value" of word @i. */
static bool assignment(struct sc_player *p, struct words *w, int i, char **name, uint64_t *value)
{
	char *equals = strchr(w->word[i], '=');

	if (!equals) {
		fail(p, "'%s' is not name=value", w->word[i]);
		return false;
	}
	*equals = 0;
	*name = w->word[i];
	return expression(p, equals + 1, value);
}

/* Leaf, version and registers of S and T. */
static bool call_registers(struct sc_player *p, struct words *w, bool guest, struct tdx_regs *regs)
{
	uint64_t leaf, version = 0;
	int number;

	*regs = (struct tdx_regs){0};
	if (w->count < 2) {
		fail(p, "a call wants a leaf");
		return false;
	}
	number = sc_leaf_number(w->word[1], guest);
	if (number >= 0)
		leaf = (uint64_t)number;
	else if (*w->word[1] < '0' || *w->word[1] > '9') {
		fail(p, "unknown leaf '%s'", w->word[1]);
		return false;
	} else if (!expression(p, w->word[1], &leaf)) {
		return false;
	}
	for (int i = 2; i < w->count; i++) {
		uint64_t value;
		char *name;
		int reg;

		if (!assignment(p, w, i, &name, &value))
			return false;
		reg = sc_register(name);
		if (!strcmp(name, "v")) {
			version = value;
		} else if (reg <= 0) {
			fail(p, "unknown register '%s'", name);
			return false;
		} else {
			regs->gpr[reg] = value;
		}
	}
	regs->rax = leaf | version << TDX_RAX_VERSION_SHIFT;
	return true;
}

static void run_seamcall(struct sc_player *p, struct words *w)
{
	struct sc_machine *m = p->machine;
	struct tdx_regs regs, before;
	char text[MAX_ANSWER];

	if (!call_registers(p, w, false, &before))
		return;
	regs = m->lp[p->lp].host = before;
	if (m->lp[p->lp].in_td) {
		call_answer(p, false, "  => LP is in TD");
		return;
	}
	if (tdx_module_seamcall(m->module, p->lp, &regs) == TDX_HOST) {
		format_registers(&regs, &before, text, sizeof(text));
		call_answer(p, regs.rax == TDX_SUCCESS, text);
		return;
	}
	m->lp[p->lp].in_td = true;
	tdx_module_guest_state(m->module, p->lp, &m->lp[p->lp].guest);
	format_entry(&m->lp[p->lp].guest, text, sizeof(text));
	call_answer(p, true, text);
}

/* The guest is gone; what the host finds, against what its last call had set. */
static void format_exit(struct sc_player *p, const struct tdx_regs *host, char *text, size_t size)
{
	p->machine->lp[p->lp].in_td = false;
	format_registers(host, &p->machine->lp[p->lp].host, text, size);
}

/*
 * The recorder kept a guest's live registers apart from the saved ones: a completed call changes
 * what TD_ENTRY shows, while the live registers keep the call's inputs for the next exit.
 */
static void run_tdcall(struct sc_player *p, struct words *w)
{
	struct sc_machine *m = p->machine;
	struct tdx_guest *live = &m->lp[p->lp].guest, guest;
	struct tdx_regs regs, host;
	char text[MAX_ANSWER];
	int length;

	if (!call_registers(p, w, true, &regs))
		return;
	if (!m->lp[p->lp].in_td) {
		call_answer(p, false, "  => LP is not in TD");
		return;
	}
	m->tsc += EVENT_TICKS;
	live->regs = regs;
	guest = *live;
	if (tdx_module_tdcall(m->module, p->lp, &guest, &host) == TDX_HOST) {
		format_exit(p, &host, text, sizeof(text));
		call_answer(p, host.rax == TDX_SUCCESS, text);
		return;
	}
	length = format_entry(&guest, text, sizeof(text));
	length += snprintf(text + length, sizeof(text) - (size_t)length, "\n     rip_delta=%llu",
			   (unsigned long long)(guest.rip - live->rip));
	if (guest.vector == 20)
		format_ve(p, text + length, sizeof(text) - (size_t)length);
	live->rip = guest.rip;
	call_answer(p, guest.regs.rax == TDX_SUCCESS, text);
}

static bool exit_fields(struct sc_player *p, struct words *w, struct tdx_vmexit *exit)
{
	*exit = (struct tdx_vmexit){.reason = TDX_EXIT_EPT_VIOLATION};
	for (int i = 1; i < w->count; i++) {
		uint64_t value;
		char *name;

		if (!assignment(p, w, i, &name, &value))
			return false;
		if (!strcmp(name, "reason")) {
			exit->reason = (uint32_t)value;
		} else if (!strcmp(name, "gpa")) {
			exit->gpa = value;
		} else if (!strcmp(name, "qual")) {
			exit->qualification = value;
		} else if (!strcmp(name, "gla")) {
			exit->gla = value;
		} else if (!strcmp(name, "inter")) {
			exit->interrupt_info = (uint32_t)value;
		} else {
			fail(p, "unknown exit field '%s'", name);
			return false;
		}
	}
	return true;
}

static void run_exit(struct sc_player *p, struct words *w)
{
	struct sc_machine *m = p->machine;
	struct tdx_guest *live = &m->lp[p->lp].guest;
	struct tdx_vmexit exit;
	struct tdx_regs host;
	char text[MAX_ANSWER];
	int length;

	if (!exit_fields(p, w, &exit))
		return;
	if (!m->lp[p->lp].in_td) {
		answer(p, "  => LP is not in TD");
		return;
	}
	m->tsc += EVENT_TICKS;
	if (tdx_module_vmexit(m->module, p->lp, &exit, live, &host) == TDX_HOST) {
		format_exit(p, &host, text, sizeof(text));
	} else {
		length = format_entry(live, text, sizeof(text));
		if (live->vector == 20)
			format_ve(p, text + length, sizeof(text) - (size_t)length);
	}
	answer(p, text);
}

/* -- dumps -- */

static uint64_t the_tdr(struct sc_player *p)
{
	const struct symbol *symbol = find_symbol(p, "tdr");

	return symbol ? symbol->value : 0;
}

static void dump_pamt(struct sc_player *p, const uint64_t *arg, int count)
{
	static const char *const size[] = {"4K", "2M", "1G"};
	char text[MAX_ANSWER] = "  =>";
	int length = 4;

	(void)count;
	for (unsigned int level = 0; level < 3; level++) {
		struct tdx_pamt_view view;

		if (tdx_module_view_pamt(p->machine->module, arg[0], level, &view)) {
			answer(p, "  => not in a TDMR");
			return;
		}
		length += snprintf(text + length, sizeof(text) - (size_t)length,
				   " %s{pt=%u own=%llx bepoch=%llx lock=%x}", size[level], view.pt,
				   (unsigned long long)view.owner, (unsigned long long)view.bepoch,
				   view.lock);
	}
	answer(p, text);
}

static void dump_td(struct sc_player *p, const uint64_t *arg, int count)
{
	struct tdx_td_view td = {0};

	tdx_module_view_td(p->machine->module, count ? arg[0] : the_tdr(p), &td);
	plain_answer(p,
		     "  => chldcnt=%llu lifecycle=%u num_tdcx=%u fatal=%d op_state=%u op_lock=%x "
		     "td_epoch=%llu ref0=%u ref1=%u sept_lock=%x assoc=%x epoch_lock=%x",
		     (unsigned long long)td.chldcnt, td.lifecycle, td.num_tdcx, td.fatal,
		     td.op_state, td.op_lock, (unsigned long long)td.td_epoch, td.refcount[0],
		     td.refcount[1], td.sept_lock, td.num_assoc, td.epoch_lock);
}

static void dump_vcpu(struct sc_player *p, const uint64_t *arg, int count)
{
	struct tdx_vcpu_view vcpu;

	(void)count;
	if (tdx_module_view_vcpu(p->machine->module, arg[0], &vcpu))
		answer(p, "  => not a vCPU");
	else
		plain_answer(p, "  => state=%u assoc_lpid=%x vcpu_epoch=%llu", vcpu.state,
			     (uint32_t)vcpu.assoc_lp, (unsigned long long)vcpu.epoch);
}

static void dump_sept(struct sc_player *p, const uint64_t *arg, int count)
{
	unsigned int vm = count > 2 ? (unsigned int)arg[2] : 0;
	struct tdx_sept_view view;

	if (tdx_module_view_sept(p->machine->module, the_tdr(p), arg[0], (unsigned int)arg[1], vm,
				 &view))
		answer(p, "  => no such entry");
	else
		plain_answer(p, "  => raw=%016llx level=%u state=%u", (unsigned long long)view.raw,
			     view.level, view.state);
}

static void dump_mrtd(struct sc_player *p, const uint64_t *arg, int count)
{
	uint8_t mrtd[48] = {0};
	char text[8 + 2 * sizeof(mrtd)] = "  => ";

	tdx_module_view_mrtd(p->machine->module, count ? arg[0] : the_tdr(p), mrtd);
	for (size_t i = 0; i < sizeof(mrtd); i++)
		snprintf(text + 5 + 2 * i, 3, "%02x", mrtd[i]);
	answer(p, text);
}

static void dump_word(struct sc_player *p, const uint64_t *arg, int count)
{
	const uint64_t *word = sc_machine_word(p->machine, arg[0]);

	(void)count;
	if (word)
		plain_answer(p, "  => %llx", (unsigned long long)*word);
	else
		fail(p, "peek wants an address that is a multiple of 8");
}

/* -- commands without an answer -- */

static void set_lp(struct sc_player *p, const uint64_t *arg, int count)
{
	(void)count;
	if (arg[0] < SC_NR_LPS)
		p->lp = (unsigned int)arg[0];
	else
		fail(p, "logical processors are 0..%d", SC_NR_LPS - 1);
}

static void set_intr(struct sc_player *p, const uint64_t *arg, int count)
{
	(void)count;
	p->machine->intr_polls = (int64_t)arg[0];
}

static void add_tsc(struct sc_player *p, const uint64_t *arg, int count)
{
	(void)count;
	p->machine->tsc += arg[0];
}

static void set_pendve(struct sc_player *p, const uint64_t *arg, int count)
{
	(void)count;
	if (tdx_module_force(p->machine->module, TDX_FORCE_TD_CTLS, the_tdr(p), arg[0]))
		fail(p, "there is no TD");
}

static void set_pamt_lock(struct sc_player *p, const uint64_t *arg, int count)
{
	(void)count;
	if (tdx_module_force_pamt_lock(p->machine->module, arg[0], (unsigned int)arg[1],
				       (uint16_t)arg[2]))
		fail(p, "no PAMT entry for this address and level");
}

static void set_sept(struct sc_player *p, const uint64_t *arg, int count)
{
	if (tdx_module_force_sept(p->machine->module, the_tdr(p), arg[0], (unsigned int)arg[1],
				  arg[2], count > 3 ? arg[3] : 0))
		fail(p, "there is no such Secure-EPT entry");
}

static void poke(struct sc_player *p, const uint64_t *arg, int count)
{
	uint64_t repeat = count > 2 ? arg[2] : 1;

	if (arg[0] % 8 || repeat > MAX_REPEAT) {
		fail(p, "poke wants an address that is a multiple of 8 and %u words at most",
		     MAX_REPEAT);
		return;
	}
	for (uint64_t i = 0; i < repeat; i++) {
		uint64_t *word = sc_machine_word(p->machine, arg[0] + 8 * i);

		if (word)
			*word = arg[1];
	}
}

static void set_params(struct sc_player *p, const uint64_t *arg, int count)
{
	struct tdx_td_params params = {
		.attributes = arg[1],
		.xfam = 3,
		.max_vcpus = (uint16_t)arg[4],
		.num_l2_vms = (uint8_t)arg[5],
		.eptp_controls = 6 | arg[3] << 3,
		.config_flags = arg[2] | (count > 6 ? arg[6] : 0),
		.tsc_frequency = 100,
	};
	char *page = sc_machine_page(p->machine, arg[0]);

	if (!page || arg[0] & (sizeof(params) - 1))
		fail(p, "params wants an address that is a multiple of 1024");
	else
		memcpy(page + (arg[0] & 4095), &params, sizeof(params));
}

typedef void number_fn(struct sc_player *p, const uint64_t *arg, int count);

/* Commands whose arguments are all expressions. */
static const struct {
	const char *name;
	number_fn *run;
	int min, max;
} number_commands[] = {
	{"lp", set_lp, 1, 1},	      {"intr", set_intr, 1, 1},	      {"tsc", add_tsc, 1, 1},
	{"pendve", set_pendve, 1, 1}, {"plock", set_pamt_lock, 3, 3}, {"septset", set_sept, 3, 4},
	{"poke", poke, 2, 3},	      {"peek", dump_word, 1, 1},      {"params", set_params, 6, 7},
	{"pamt", dump_pamt, 1, 1},    {"td", dump_td, 0, 1},	      {"vcpu", dump_vcpu, 1, 1},
	{"sept", dump_sept, 2, 3},    {"mrtd", dump_mrtd, 0, 1},
};

static bool run_number_command(struct sc_player *p, struct words *w)
{
	uint64_t arg[MAX_WORDS];

	for (size_t i = 0; i < sizeof(number_commands) / sizeof(number_commands[0]); i++) {
		if (strcmp(number_commands[i].name, w->word[0]))
			continue;
		if (w->count - 1 < number_commands[i].min ||
		    w->count - 1 > number_commands[i].max) {
			fail(p, "'%s' wants %d to %d arguments", w->word[0], number_commands[i].min,
			     number_commands[i].max);
			return true;
		}
		for (int k = 1; k < w->count; k++)
			if (!expression(p, w->word[k], &arg[k - 1]))
				return true;
		number_commands[i].run(p, arg, w->count - 1);
		return true;
	}
	return false;
}

static void run_let(struct sc_player *p, struct words *w)
{
	uint64_t value;

	if (w->count != 3)
		fail(p, "let NAME VALUE");
	else if (expression(p, w->word[2], &value))
		set_symbol(p, w->word[1], value);
}

static void run_lock(struct sc_player *p, struct words *w)
{
	static const char *const names[] = {"sept", "op", "epoch", "kot"};
	static const enum tdx_force words[] = {TDX_FORCE_SEPT_LOCK, TDX_FORCE_OP_LOCK,
					       TDX_FORCE_EPOCH_LOCK, TDX_FORCE_KOT_LOCK};
	uint64_t raw;

	if (w->count != 3) {
		fail(p, "lock sept|op|epoch|kot RAW");
		return;
	}
	if (!expression(p, w->word[2], &raw))
		return;
	for (unsigned int i = 0; i < 4; i++) {
		if (strcmp(names[i], w->word[1]))
			continue;
		if (tdx_module_force(p->machine->module, words[i], the_tdr(p), raw))
			fail(p, "there is no TD");
		return;
	}
	fail(p, "unknown lock '%s'", w->word[1]);
}

static void run_command(struct sc_player *p, const char *text);

/* rep COUNT NAME START STEP :: COMMAND, the command as if quiet. */
static void run_rep(struct sc_player *p, struct words *w, const char *text)
{
	const char *inner = strstr(text, "::"), *outer = p->text;
	uint64_t count, start, step;
	bool quiet = p->quiet;

	if (w->count < 6 || strcmp(w->word[5], "::") || !inner) {
		fail(p, "rep COUNT NAME START STEP :: COMMAND");
		return;
	}
	if (!expression(p, w->word[1], &count) || !expression(p, w->word[3], &start) ||
	    !expression(p, w->word[4], &step))
		return;
	if (count > MAX_REPEAT || p->depth == MAX_DEPTH) {
		fail(p, "rep: %u times and %d deep at most", MAX_REPEAT, MAX_DEPTH);
		return;
	}
	inner += 2 + strspn(inner + 2, " \t");
	p->depth++;
	for (uint64_t i = 0; i < count; i++) {
		unsigned int errors = p->errors;

		if (++p->repeats > MAX_REPEAT) {
			fail(p, "rep: more than %u commands in one line", MAX_REPEAT);
			break;
		}
		p->quiet = true;
		p->text = inner;
		p->echoed = false;
		if (!set_symbol(p, w->word[2], start + i * step))
			break;
		run_command(p, inner);
		if (p->errors != errors)
			break;
	}
	p->depth--;
	p->quiet = quiet;
	p->text = outer;
	p->echoed = true;
}

/* Up to the comment, cut at blanks. */
static bool cut_words(struct sc_player *p, const char *text, struct words *w)
{
	size_t length = strcspn(text, "#");
	char *rest = NULL;

	w->count = 0;
	if (length >= sizeof(w->buffer)) {
		fail(p, "line longer than %zu characters", sizeof(w->buffer) - 1);
		return false;
	}
	memcpy(w->buffer, text, length);
	w->buffer[length] = 0;
	for (char *word = strtok_r(w->buffer, " \t", &rest); word;
	     word = strtok_r(NULL, " \t", &rest)) {
		if (w->count == MAX_WORDS) {
			fail(p, "more than %d words", MAX_WORDS);
			return false;
		}
		w->word[w->count++] = word;
	}
	return true;
}

static void run_command(struct sc_player *p, const char *text)
{
	struct words w;

	if (!cut_words(p, text, &w) || !w.count)
		return;
	if (!strcmp(w.word[0], "S"))
		run_seamcall(p, &w);
	else if (!strcmp(w.word[0], "T"))
		run_tdcall(p, &w);
	else if (!strcmp(w.word[0], "X"))
		run_exit(p, &w);
	else if (!strcmp(w.word[0], "let"))
		run_let(p, &w);
	else if (!strcmp(w.word[0], "lock"))
		run_lock(p, &w);
	else if (!strcmp(w.word[0], "rep"))
		run_rep(p, &w, text);
	else if (!run_number_command(p, &w))
		fail(p, "unknown command '%s'", w.word[0]);
}

/* quiet 0|1: never echoed. False: another command. */
static bool run_quiet(struct sc_player *p, const char *text)
{
	struct words w;
	uint64_t value;

	if (strncmp(text, "quiet", 5) || (text[5] != ' ' && text[5] != '\t' && text[5]))
		return false;
	if (!cut_words(p, text, &w))
		return true;
	if (w.count != 2)
		fail(p, "quiet 0|1");
	else if (expression(p, w.word[1], &value))
		p->quiet = value;
	return true;
}

static void run_line(struct sc_player *p, const char *text)
{
	p->text = text;
	p->echoed = p->setup;
	p->repeats = 0;
	if (run_quiet(p, text))
		return;
	if (!p->quiet)
		echo(p);
	run_command(p, text);
}

static bool is_answer(const char *line)
{
	return line[0] == ' ' && line[1] == ' ';
}

unsigned int sc_player_run(struct sc_player *p, const struct sc_script *script, size_t first,
			   size_t end)
{
	unsigned int before = p->errors;

	for (size_t i = first; i < end; i++) {
		if (is_answer(script->lines[i]))
			continue;
		p->line = i + 1;
		run_line(p, script->lines[i]);
	}
	return p->errors - before;
}

static unsigned int run_setup(struct sc_player *p, enum sc_setup setup)
{
	const char *path = p->path;
	struct sc_script script;
	char name[32];
	unsigned int errors;

	if (sc_setup_load(path, setup, &script))
		return 1;
	snprintf(name, sizeof(name), "%s.inc", sc_setup_name[setup]);
	p->path = name;
	errors = sc_player_run(p, &script, 0, script.nr_lines);
	p->path = path;
	sc_script_free(&script);
	return errors;
}

unsigned int sc_player_setup(struct sc_player *p, enum sc_setup setup, uint64_t attributes)
{
	unsigned int errors;

	p->setup = true;
	errors = run_setup(p, SC_SETUP_BASE);
	set_symbol(p, "attrs", attributes);
	for (unsigned int i = SC_SETUP_TD; i <= setup && !errors; i++)
		errors = run_setup(p, i);
	p->setup = false;
	p->quiet = false;
	return errors;
}

struct sc_player *sc_player_create(const char *path, FILE *transcript, struct sc_answers *answers)
{
	struct sc_player *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->path = path;
	p->transcript = transcript;
	p->answers = answers;
	p->machine = sc_machine_create();
	if (p->machine)
		return p;
	free(p);
	return NULL;
}

void sc_player_destroy(struct sc_player *p)
{
	if (!p)
		return;
	sc_machine_destroy(p->machine);
	free(p);
}

void sc_answers_add(struct sc_answers *answers, size_t line, const char *text)
{
	if (answers->count == answers->capacity) {
		size_t capacity = answers->capacity ? answers->capacity * 2 : 64;
		struct sc_answer *bigger =
			realloc(answers->item, capacity * sizeof(*answers->item));

		if (!bigger)
			abort();
		answers->item = bigger;
		answers->capacity = capacity;
	}
	answers->item[answers->count].line = line;
	answers->item[answers->count].text = strdup(text);
	if (!answers->item[answers->count].text)
		abort();
	answers->count++;
}

void sc_answers_free(struct sc_answers *answers)
{
	for (size_t i = 0; i < answers->count; i++)
		free(answers->item[i].text);
	free(answers->item);
	*answers = (struct sc_answers){0};
}
