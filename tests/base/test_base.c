// SPDX-License-Identifier: BSD-2-Clause
/* The ground: text without a libc against the libc's, events as the kernel prints them, death. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "tests/support/host.h"

#include "mmu/vm/vm.h"

#define SAME(format, ...)                                                          \
	do {                                                                       \
		char ours[128], theirs[128];                                       \
		int want = snprintf(theirs, sizeof(theirs), format, __VA_ARGS__);  \
		size_t got = text_format(ours, sizeof(ours), format, __VA_ARGS__); \
		assert_string_equal(ours, theirs);                                 \
		assert_int_equal(got, want);                                       \
	} while (0)

static void text_is_formatted_as_by_the_libc(void **state)
{
	(void)state;
	SAME("%d %d %d", 0, -1, 2147483647);
	SAME("%d", -2147483647 - 1);
	SAME("%ld %lu", -9223372036854775807l - 1, 18446744073709551615ul);
	SAME("%u %x %lx", 4294967295u, 0xdeadbeefu, 0x123456789abcdeful);
	SAME("%#lx %#x", 0xfedul, 1u);
	SAME("[%5d] [%-5d] [%05d] [%05d]", 42, 42, 42, -42);
	SAME("0x%016lx %#018lx", 0xabcul, 0xabcul);
	SAME("%s|%8s|%-8s|%c", "a text", "right", "left", 'x');
	SAME("%d%%", 50);
}

static void text_is_cut_at_the_end_of_its_room(void **state)
{
	char text[8];

	(void)state;
	memset(text, 'x', sizeof(text));
	assert_int_equal(text_format(text, 4, "%d", 123456), 6);
	assert_string_equal(text, "123");
	assert_int_equal(text[4], 'x');
	assert_int_equal(text_format(text, 1, "%s", "abc"), 3);
	assert_string_equal(text, "");
	assert_int_equal(text_format(NULL, 0, "%s", "abc"), 3);
}

static void events_read_as_the_kernels(void **state)
{
	static const struct {
		struct tpt_event e;
		const char *text;
	} rows[] = {
		{{.kind = TPT_EVENT_PAGE_FAULT, .vcpu = 1, .gpa = {0xfee00000}, .error_code = 6},
		 "kvm_page_fault: vcpu 1 rip 0x0 address 0x00000000fee00000 error_code 0x6"},
		{{.kind = TPT_EVENT_SPTE_CHANGED,
		  .gfn = 0x1234,
		  .level = 1,
		  .old_spte = {1ull << 63},
		  .new_spte = {0x12345e67}},
		 "kvm_tdp_mmu_spte_changed: as id 0 gfn 1234 level 1 old_spte 8000000000000000 "
		 "new_spte 12345e67"},
		{{.kind = TPT_EVENT_MARK_MMIO, .gfn = 0xfee00, .access = 7, .generation = 0x3a},
		 "mark_mmio_spte: sptep:0 gfn fee00 access 7 gen 3a"},
		{{.kind = TPT_EVENT_EXTERNAL,
		  .call = TPT_CALL_BLOCK,
		  .gfn = 5,
		  .level = 1,
		  .result = -16},
		 "tpt_external: block gfn 5 level 1 result -16"},
	};
	char text[256];

	(void)state;
	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		size_t len = tpt_event_format(&rows[i].e, text, sizeof(text));

		assert_string_equal(text, rows[i].text);
		assert_int_equal(len, strlen(text));
		assert_int_equal(tpt_event_format(&rows[i].e, text, 5), len);
		assert_int_equal(strlen(text), 4);
	}
}

static void the_first_report_of_a_death_is_kept(void **state)
{
	struct tpt_vm_config c;
	struct host *h;

	(void)state;
	host_config_npt(&c);
	h = host_create(&c, 1);
	assert_string_equal(tpt_vm_report(h->vm), "");
	vm_die(&h->vm->base, "first %d", 1);
	vm_die(&h->vm->base, "second %d", 2);
	assert_string_equal(tpt_vm_report(h->vm), "first 1");
	assert_int_equal(h->lines, 2);
	assert_int_equal(host_end(h), 0);
}

/* ---- sections ---- */

static unsigned int relaxes, came_back;
/* Whose section ends while somebody waits for it. */
static struct actor *leaves;

static void relax_and_leave(void *ctx)
{
	(void)ctx;
	relaxes++;
	section_leave(leaves);
}

struct player {
	struct vm_base *base;
	struct actor *actor;
	_Atomic int *inside; /* actors in a shared section; -1000 for who is alone */
	_Atomic unsigned int *wrong;
	unsigned int entered;
};

static void *share(void *ctx)
{
	struct player *p = ctx;

	while (p->entered < 20000) {
		if (!section_enter(p->actor)) {
			sched_yield();
			continue;
		}
		if (atomic_fetch_add(p->inside, 1) < 0)
			atomic_fetch_add(p->wrong, 1);
		p->entered++;
		atomic_fetch_sub(p->inside, 1);
		section_leave(p->actor);
	}
	return NULL;
}

static void *exclude(void *ctx)
{
	struct player *p = ctx;

	for (unsigned int i = 0; i < 2000; i++) {
		section_exclusive_begin(p->base);
		if (atomic_exchange(p->inside, -1000))
			atomic_fetch_add(p->wrong, 1);
		p->entered++;
		if (atomic_exchange(p->inside, 0) != -1000)
			atomic_fetch_add(p->wrong, 1);
		section_exclusive_end(p->base);
	}
	return NULL;
}

static void whoever_is_alone_is_alone(void **state)
{
	_Atomic unsigned int wrong = 0;
	_Atomic int inside = 0;
	struct player p[5];
	pthread_t thread[5];
	struct tpt_vm_config c;
	struct host *h;

	(void)state;
	host_config_npt(&c);
	h = host_create(&c, 3);
	for (unsigned int i = 0; i < 5; i++) {
		p[i] = (struct player){.base = &h->vm->base,
				       .actor = i < 3 ? &h->vcpu[i]->fault.actor : NULL,
				       .inside = &inside,
				       .wrong = &wrong};
		pthread_create(&thread[i], NULL, i < 3 ? share : exclude, &p[i]);
	}
	for (unsigned int i = 0; i < 5; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(wrong, 0);
	for (unsigned int i = 0; i < 5; i++)
		assert_true(p[i].entered > 0);
	host_destroy(h);
}

/* ---- grace periods ---- */

static void who_began_before_is_waited_for_and_nobody_else(void **state)
{
	struct tpt_vm_config c;
	struct vm_base *base;
	struct tpt_platform p;
	struct host *h;
	uint64_t begun;

	(void)state;
	host_config_npt(&c);
	h = host_create(&c, 2);
	base = &h->vm->base;
	p = *base->platform;
	p.relax = relax_and_leave;
	base->platform = &p;
	relaxes = 0;

	/* Nobody is in a section, or only who came later. */
	grace_wait(base, grace_begin(base));
	begun = grace_begin(base);
	assert_true(section_enter(&h->vcpu[0]->fault.actor));
	grace_wait(base, begun);
	assert_int_equal(relaxes, 0);

	leaves = &h->vcpu[0]->fault.actor;
	begun = grace_begin(base);
	assert_true(section_enter(&h->vcpu[1]->fault.actor));
	grace_wait(base, begun);
	assert_int_equal(relaxes, 1);
	/* It was waited for: not again, nor for what was begun earlier. */
	grace_wait(base, begun);
	assert_int_equal(relaxes, 1);
	section_leave(&h->vcpu[1]->fault.actor);
	base->platform = h->config.platform;
	assert_int_equal(host_end(h), 0);
}

/* An object that writers replace, and actors look at inside of their sections only. */
struct box {
	uint64_t value, copy;
};
struct shelf {
	struct vm_base *base;
	_Atomic(struct box *) box;
	_Atomic unsigned int torn;
};
struct visitor {
	struct shelf *shelf;
	struct actor *actor;
};

static void *replace_boxes(void *ctx)
{
	struct shelf *shelf = ctx;

	for (uint64_t i = 0; i < 2000; i++) {
		struct box *box = malloc(sizeof(*box));

		*box = (struct box){i, i};
		box = atomic_exchange(&shelf->box, box);
		grace_wait(shelf->base, grace_begin(shelf->base));
		box->value = ~0ull;
		free(box);
	}
	return NULL;
}

static void *look_at_boxes(void *ctx)
{
	struct visitor *v = ctx;

	for (unsigned int i = 0; i < 20000; i++) {
		struct box *box;

		must(section_enter(v->actor));
		box = atomic_load_explicit(&v->shelf->box, memory_order_acquire);
		if (i % 64 == 0)
			sched_yield();
		if (box->value != box->copy)
			atomic_fetch_add(&v->shelf->torn, 1);
		section_leave(v->actor);
	}
	return NULL;
}

static void nothing_is_freed_under_a_section(void **state)
{
	struct shelf shelf = {.box = calloc(1, sizeof(struct box))};
	struct visitor v[3];
	pthread_t thread[5];
	struct tpt_vm_config c;
	struct host *h;

	(void)state;
	host_config_npt(&c);
	h = host_create(&c, 3);
	shelf.base = &h->vm->base;
	for (unsigned int i = 0; i < 3; i++) {
		v[i] = (struct visitor){&shelf, &h->vcpu[i]->fault.actor};
		pthread_create(&thread[i], NULL, look_at_boxes, &v[i]);
	}
	for (unsigned int i = 3; i < 5; i++)
		pthread_create(&thread[i], NULL, replace_boxes, &shelf);
	for (unsigned int i = 0; i < 5; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(shelf.torn, 0);
	free(shelf.box);
	assert_int_equal(host_end(h), 0);
}

/* A platform whose relax() is the time in which a refused actor may come back. */
static struct actor *comes_back;

static void relax_and_let_in(void *ctx)
{
	(void)ctx;
	relaxes++;
	if (comes_back && section_enter(comes_back)) {
		came_back++;
		section_leave(comes_back);
	}
}

static void who_was_refused_goes_first_but_is_not_waited_for_for_ever(void **state)
{
	struct tpt_vm_config c;
	struct tpt_platform p;
	struct vm_base *base;
	struct host *h;

	(void)state;
	host_config_npt(&c);
	h = host_create(&c, 1);
	base = &h->vm->base;
	p = *base->platform;
	p.relax = relax_and_let_in;
	base->platform = &p;

	/* Nobody was refused: nobody is waited for. */
	relaxes = 0;
	section_exclusive_begin(base);
	assert_int_equal(relaxes, 0);
	assert_false(section_enter(&h->vcpu[0]->fault.actor));
	section_exclusive_end(base);

	comes_back = &h->vcpu[0]->fault.actor;
	section_exclusive_begin(base);
	assert_int_equal(came_back, 1);
	assert_int_equal(relaxes, 1);
	assert_false(section_enter(comes_back));
	section_exclusive_end(base);

	comes_back = NULL;
	section_exclusive_begin(base);
	assert_true(relaxes > 1 && relaxes < 1000);
	section_exclusive_end(base);
	relaxes = 0;
	section_exclusive_begin(base);
	assert_int_equal(relaxes, 0);
	section_exclusive_end(base);

	base->platform = tpt_posix_platform(h->posix);
	host_destroy(h);
}

static void counts_of_a_vcpu_survive_it(void **state)
{
	struct tpt_vm_config c;
	struct host *h;

	(void)state;
	host_config_npt(&c);
	h = host_create(&c, 2);
	assert_int_equal(host_slot(h, 0, 0, 0, GIB, GIB, 0), 0);
	assert_int_equal(host_fault_on(h->vcpu[1], 0, 0, NULL), TPT_RET_PF_FIXED);
	tpt_vcpu_destroy(h->vcpu[1]);
	assert_int_equal(host_stats(h).vcpus.pf_fixed, 1);
	assert_int_equal(host_stats(h).direct.pages_1g, 1);
	host_destroy(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_is_formatted_as_by_the_libc),
		cmocka_unit_test(text_is_cut_at_the_end_of_its_room),
		cmocka_unit_test(events_read_as_the_kernels),
		cmocka_unit_test(the_first_report_of_a_death_is_kept),
		cmocka_unit_test(whoever_is_alone_is_alone),
		cmocka_unit_test(who_began_before_is_waited_for_and_nobody_else),
		cmocka_unit_test(nothing_is_freed_under_a_section),
		cmocka_unit_test(who_was_refused_goes_first_but_is_not_waited_for_for_ever),
		cmocka_unit_test(counts_of_a_vcpu_survive_it),
	};

	return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
