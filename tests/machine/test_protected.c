// SPDX-License-Identifier: BSD-2-Clause
/* A guest's loads and stores under a module that protects memory: who copies, and what a machine
 * check leaves. The module here is a few lines that answer as they are told. */
#include "tests/machine/tree.h"
#include "tdx/port.h"

#define FRAME	0x100000000ull
#define PRIVATE 0x5000ull
#define R	MACHINE_READ
#define W	MACHINE_WRITE

struct fake {
	struct machine *m;
	struct machine_cpu *cpu;
	enum tdx_port_data answer;
	bool poisoned_table;
	unsigned int asked, loads, stores;
	bool is_private;
	uint64_t hpa;
	size_t len;
	bool with_buffer;
};

static bool fake_entry(void *module, unsigned int lp, struct tdx_port_td *td)
{
	(void)module;
	(void)lp;
	*td = (struct tdx_port_td){
		.tdr = 0x9000, .vcpu = 0xa000, .hkid = 40, .shared_bit = 47, .eptp_levels = 4};
	return true;
}

static int fake_walk(void *module, unsigned int lp, uint64_t gpa, struct tdx_port_walk *walk)
{
	const struct fake *f = module;

	(void)lp;
	*walk = (struct tdx_port_walk){
		.machine_check = f->poisoned_table,
		.present = !f->poisoned_table && gpa >> 12 == PRIVATE >> 12,
		.rwx = 7,
		.hpa = FRAME,
	};
	return 0;
}

static enum tdx_port_data fake_data(void *module, unsigned int lp, uint64_t hpa, bool is_private,
				    void *buf, size_t len, bool write)
{
	struct fake *f = module;

	(void)lp;
	f->asked++;
	f->loads += !write;
	f->stores += write;
	f->is_private = is_private;
	f->hpa = hpa;
	f->len = len;
	f->with_buffer = buf;
	if (f->answer == TDX_PORT_DONE && buf && !write)
		memset(buf, 0x77, len);
	return f->answer;
}

static const struct tdx_port_module fake_ops = {
	.td_entry = fake_entry, .private_walk = fake_walk, .data = fake_data};

static void setup(struct fake *f)
{
	const struct machine_root root = {.kind = MACHINE_ROOT_TD};
	struct machine_config config;

	*f = (struct fake){.answer = TDX_PORT_BYTES};
	machine_config_default(&config);
	assert_int_equal(machine_create(&config, &f->m), 0);
	assert_int_equal(machine_mem_add(f->m, FRAME, 0), 0);
	memset(machine_mem_ptr(f->m, FRAME), 0x11, 4096);
	machine_set_module(f->m, &fake_ops, f);
	f->cpu = machine_get_cpu(f->m, 0);
	assert_int_equal(machine_cpu_load(f->cpu, &root), 0);
}

static void the_module_may_leave_the_bytes_to_the_processor(void **state)
{
	struct machine_result r;
	uint8_t bytes[8] = {0};
	struct fake f;

	(void)state;
	setup(&f);
	assert_int_equal(machine_read(f.cpu, PRIVATE + 8, bytes, 8, &r), MACHINE_OK);
	assert_int_equal(bytes[7], 0x11);
	assert_true(f.is_private && f.with_buffer);
	assert_int_equal(f.hpa, FRAME + 8);
	assert_int_equal(f.len, 8);
	bytes[0] = 0x22;
	assert_int_equal(machine_write(f.cpu, PRIVATE, bytes, 1, &r), MACHINE_OK);
	assert_int_equal(*(uint8_t *)machine_mem_ptr(f.m, FRAME), 0x22);
	assert_int_equal(f.loads, 1);
	assert_int_equal(f.stores, 1);
	machine_destroy(f.m);
}

static void or_do_the_access_itself(void **state)
{
	struct machine_result r;
	uint8_t bytes[8] = {0};
	struct fake f;

	(void)state;
	setup(&f);
	f.answer = TDX_PORT_DONE;
	assert_int_equal(machine_read(f.cpu, PRIVATE, bytes, 8, &r), MACHINE_OK);
	assert_int_equal(bytes[3], 0x77);
	assert_int_equal(machine_write(f.cpu, PRIVATE, bytes, 8, &r), MACHINE_OK);
	assert_int_equal(*(uint8_t *)machine_mem_ptr(f.m, FRAME), 0x11);
	machine_destroy(f.m);
}

static void a_touch_is_asked_about_too(void **state)
{
	struct machine_result r;
	struct fake f;

	(void)state;
	setup(&f);
	assert_int_equal(machine_access(f.cpu, PRIVATE, R | W, &r), MACHINE_OK);
	assert_int_equal(f.loads, 1);
	assert_int_equal(f.stores, 1);
	assert_false(f.with_buffer);
	assert_int_equal(machine_access(f.cpu, PRIVATE, MACHINE_EXEC, &r), MACHINE_OK);
	assert_int_equal(f.loads, 2);
	/* What is not mapped is not memory. */
	assert_int_equal(machine_access(f.cpu, PRIVATE + 4096, R, &r), MACHINE_EPT_VIOLATION);
	assert_int_equal(f.asked, 3);
	machine_destroy(f.m);
}

static void poison_is_a_machine_check_hit_or_miss(void **state)
{
	struct machine_counters counters;
	struct machine_result r;
	uint8_t byte;
	struct fake f;

	(void)state;
	setup(&f);
	assert_int_equal(machine_access(f.cpu, PRIVATE, R, &r), MACHINE_OK);
	f.answer = TDX_PORT_MACHINE_CHECK;
	assert_int_equal(machine_access(f.cpu, PRIVATE, R, &r), MACHINE_CHECK);
	assert_true(r.tlb_hit);
	assert_int_equal(machine_read(f.cpu, PRIVATE, &byte, 1, &r), MACHINE_CHECK);
	machine_flush(f.m, NULL, MACHINE_TAG_ALL, 0, MACHINE_GPA_END, MACHINE_FLUSH_REMOTE);
	f.poisoned_table = true;
	assert_int_equal(machine_access(f.cpu, PRIVATE, R, &r), MACHINE_CHECK);
	machine_cpu_counters(f.cpu, &counters);
	assert_int_equal(counters.faults[MACHINE_CHECK], 3);
	assert_int_equal(machine_report_count(f.m), 0);
	machine_destroy(f.m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_module_may_leave_the_bytes_to_the_processor),
		cmocka_unit_test(or_do_the_access_itself),
		cmocka_unit_test(a_touch_is_asked_about_too),
		cmocka_unit_test(poison_is_a_machine_check_hit_or_miss),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
