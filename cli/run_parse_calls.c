// SPDX-License-Identifier: BSD-2-Clause
/* The lines of calls that a scenario makes by itself: a leaf, registers, what must come of it.
 * Makes none. */
#include "cli/run_words.h"

#include <ctype.h>
#include <string.h>

#include "cli/seamcall.h"

static int value(struct parser *p, const char *text, char to[RUN_VALUE_LEN])
{
	if (strlen(text) >= RUN_VALUE_LEN || !raw_value_is_valid(text))
		return word_bad(
			p,
			"value \"%s\": must be numbers and names (tdr, tdvprN, spareN, key:N, "
			"shared, page:GPA, table:GPA, or one that a name line gave), joined "
			"by + or |",
			text);
	snprintf(to, RUN_VALUE_LEN, "%s", text);
	return 0;
}

/* reg=VALUE, as many as there are. */
static int operands(struct parser *p, struct run_operand *list, uint32_t *nr)
{
	const char *word;

	while ((word = word_peek(p)) && strchr(word, '=')) {
		char name[8];
		int reg, err;

		snprintf(name, sizeof(name), "%.*s", (int)strcspn(word, "="), word);
		reg = sc_register(name);
		if (reg <= 0)
			return word_bad(
				p, "\"%s\": a register other than rax comes before the =", word);
		if (*nr == RUN_OPERANDS)
			return word_bad(p, "more than %d registers", RUN_OPERANDS);
		err = value(p, strchr(word, '=') + 1, list[*nr].value);
		if (err)
			return err;
		list[(*nr)++].reg = (uint8_t)reg;
		p->at++;
	}
	return 0;
}

/* "expect OUTCOME [reg=VALUE...]" */
static int expectation(struct parser *p, struct run_call *c)
{
	int err;

	if (!word_take(p, "expect"))
		return word_bad(p, "\"expect OUTCOME\" is missing");
	err = word_text(p, "an outcome", c->expect, sizeof(c->expect));
	return err ? err : operands(p, c->out, &c->nr_out);
}

static int which_vcpu(struct parser *p, struct run_event *e)
{
	const char *word = word_key(p, "vcpu");

	return word ? word_number32(p, "vcpu", word, p->s->vm.vcpus - 1, &e->vcpu) : 0;
}

static int new_call(struct parser *p, struct run_event *e, enum run_event_kind kind)
{
	WORD_ROOM(p, p->s->nr_calls);
	e->kind = kind;
	e->call = p->s->nr_calls++;
	p->s->calls[e->call] = (struct run_call){0};
	return 0;
}

static int leaf(struct parser *p, struct run_call *c, bool guest)
{
	const char *word;
	int err = word_next(p, "a leaf", &word), number;

	if (err)
		return err;
	number = sc_leaf_number(word, guest);
	if (number < 0)
		return word_bad(p, "leaf \"%s\" is unknown; it is written like %s", word,
				guest ? "TDG.MEM.PAGE.ACCEPT" : "TDH.MEM.PAGE.AUG");
	if (!guest && number == TDH_VP_ENTER)
		return word_bad(p, "TDH.VP.ENTER: guests enter by what they do");
	c->leaf = (unsigned int)number;
	return 0;
}

int parse_name_event(struct parser *p, struct run_event *e)
{
	const char *word;
	int err = word_text(p, "a name", e->text, 32);

	e->kind = RUN_EVENT_NAME;
	if (!err && (!isalpha((unsigned char)e->text[0]) || strpbrk(e->text, "+|:=")))
		err = word_bad(p, "name \"%s\": a letter first, and none of + | : =", e->text);
	err = err ? err : new_call(p, e, RUN_EVENT_NAME);
	err = err ? err : word_next(p, "a value", &word);
	return err ? err : value(p, word, p->s->calls[e->call].address);
}

int parse_seamcall_event(struct parser *p, struct run_event *e)
{
	int err = new_call(p, e, RUN_EVENT_SEAMCALL);
	struct run_call *c = &p->s->calls[e->call];

	err = err ? err : leaf(p, c, false);
	err = err ? err : operands(p, c->in, &c->nr_in);
	return err ? err : expectation(p, c);
}

int parse_tdcall_event(struct parser *p, struct run_event *e)
{
	int err = new_call(p, e, RUN_EVENT_TDCALL);
	struct run_call *c = &p->s->calls[e->call];

	err = err ? err : which_vcpu(p, e);
	err = err ? err : leaf(p, c, true);
	err = err ? err : operands(p, c->in, &c->nr_in);
	return err ? err : expectation(p, c);
}

int parse_touch_event(struct parser *p, struct run_event *e)
{
	int err = new_call(p, e, RUN_EVENT_TOUCH);
	struct run_call *c = &p->s->calls[e->call];
	const char *word;

	err = err ? err : which_vcpu(p, e);
	err = err ? err : word_next(p, "an address", &word);
	err = err ? err : value(p, word, c->address);
	if (err)
		return err;
	c->access = MACHINE_READ;
	if (word_take(p, "write"))
		c->access = MACHINE_WRITE;
	else if (word_take(p, "exec"))
		c->access = MACHINE_EXEC;
	else
		word_take(p, "read");
	return expectation(p, c);
}
