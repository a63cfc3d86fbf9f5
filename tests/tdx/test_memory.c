// SPDX-License-Identifier: BSD-2-Clause
/*
 * Memory as its owners see it: key ids, TD-owner bit, poison, caches. Everything goes through the
 * public doors; keys and measurements are recomputed here by OpenSSL.
 */
#include <errno.h>
#include <openssl/evp.h>

#include "tests/tdx/lab.h"

#define LINE  TDX_LINE_BYTES
#define GPA   0x0ull
#define PAGE  LAB_FREE
#define OTHER (LAB_FREE + 0x400000)
#define ALL   LAB_PAGE

/* The host's calls are made on a processor that runs no guest. */
#define host_ok(lab, leaf, rcx, rdx, r8) \
	assert_int_equal(lab_call(lab, 1, leaf, rcx, rdx, r8), TDX_SUCCESS)

struct seen {
	unsigned int count[TDX_NR_MEMORY_EVENTS];
	struct tdx_memory_event last;
};

static struct seen seen;

static void note(void *ctx, const struct tdx_memory_event *event)
{
	(void)ctx;
	seen.count[event->kind]++;
	seen.last = *event;
}

/* The set-up "run" with this memory. The module's death is expected where a test says so. */
static struct lab *start(enum tdx_memory_mode mode, enum tdx_write_back write_back)
{
	struct lab *lab = calloc(1, sizeof(*lab));
	struct tdx_module_config config = lab_config(lab);

	seen = (struct seen){0};
	config.memory = mode;
	config.write_back = write_back;
	config.memory_event = note;
	lab_create_with(&config, lab);
	lab_init_tdmr(lab);
	lab_init_td(lab, 0);
	lab_add_tables(lab);
	lab_add_vcpu(lab, 0);
	lab_add_vcpu(lab, 1);
	host_ok(lab, TDH_MR_FINALIZE, LAB_TDR, 0, 0);
	lab_ok(lab, TDH_VP_ENTER, LAB_VCPU(0), 0, 0);
	return lab;
}

static void accept(struct lab *lab, uint64_t gpa, unsigned int level)
{
	struct tdx_guest guest;
	struct tdx_regs host;

	assert_int_equal(
		lab_tdcall(lab, 0, TDG_MEM_PAGE_ACCEPT, tdx_page_info(gpa, level), &guest, &host),
		TDX_GUEST);
	assert_int_equal(guest.regs.rax, TDX_SUCCESS);
}

/* A page at @gpa, accepted, that holds @value in all its bytes. */
static void give(struct lab *lab, uint64_t gpa, uint64_t hpa, uint8_t value)
{
	uint8_t bytes[ALL];

	memset(bytes, value, sizeof(bytes));
	host_ok(lab, TDH_MEM_PAGE_AUG, tdx_page_info(gpa, 0), LAB_TDR, hpa);
	accept(lab, gpa, 0);
	assert_int_equal(tdx_module_guest_access(lab->module, 0, hpa, true, bytes, ALL, true), 0);
}

/* BLOCK, TRACK, kick, back in: the page at @gpa may be removed now. */
static void block(struct lab *lab, uint64_t info)
{
	host_ok(lab, TDH_MEM_RANGE_BLOCK, info, LAB_TDR, 0);
	host_ok(lab, TDH_MEM_TRACK, LAB_TDR, 0, 0);
	lab_kick(lab, 0);
	lab_ok(lab, TDH_VP_ENTER, LAB_VCPU(0), 0, 0);
}

static void take_away(struct lab *lab, uint64_t gpa)
{
	block(lab, tdx_page_info(gpa, 0));
	host_ok(lab, TDH_MEM_PAGE_REMOVE, tdx_page_info(gpa, 0), LAB_TDR, 0);
}

static void wbinvd(struct lab *lab, uint64_t hpa)
{
	host_ok(lab, TDH_PHYMEM_PAGE_WBINVD, hpa | (uint64_t)LAB_HKID << 46, 0, 0);
}

static void clear(struct lab *lab, uint64_t hpa)
{
	assert_int_equal(tdx_module_host_write_lines(lab->module, hpa, NULL, ALL), 0);
}

static int guest_reads(struct lab *lab, uint64_t hpa, uint8_t value)
{
	uint8_t bytes[ALL];
	int err = tdx_module_guest_access(lab->module, 0, hpa, true, bytes, ALL, false);

	for (unsigned int i = 0; !err && i < ALL; i++)
		assert_int_equal(bytes[i], value);
	return err;
}

static int host_reads(struct lab *lab, uint64_t hpa, uint8_t value)
{
	uint8_t bytes[ALL];
	int err = tdx_module_host_read(lab->module, hpa, bytes, ALL);

	for (unsigned int i = 0; !err && i < ALL; i++)
		assert_int_equal(bytes[i], value);
	return err;
}

/* What the processor does when an access came to -EIO. */
static uint64_t deliver_machine_check(struct lab *lab)
{
	const struct tdx_vmexit exit = {.reason = TDX_EXIT_EXCEPTION_NMI,
					.interrupt_info = TDX_INTERRUPT_MACHINE_CHECK};
	struct tdx_guest guest = {.rip = 0x1000};
	struct tdx_regs host;

	assert_int_equal(tdx_module_vmexit(lab->module, 0, &exit, &guest, &host), TDX_HOST);
	assert_int_equal(host.r9, TDX_INTERRUPT_MACHINE_CHECK);
	return host.rax;
}

static void end(struct lab *lab)
{
	lab_kick(lab, 0);
	lab_destroy(lab);
}

static void assert_last(enum tdx_memory_event_kind kind, uint64_t hpa, unsigned int by,
			unsigned int line)
{
	assert_int_equal(seen.last.kind, kind);
	assert_int_equal(seen.last.hpa & ~(ALL - 1), hpa);
	assert_int_equal(seen.last.by_hkid, by);
	assert_int_equal(seen.last.line_hkid, line);
}

/* ---- who reads what ---- */

static void host_reads_zeros_where_a_td_has_its_content(void **state)
{
	(void)state;
	for (enum tdx_memory_mode mode = TDX_MEMORY_CI; mode <= TDX_MEMORY_LI; mode++) {
		struct lab *lab = start(mode, TDX_WRITE_BACK_LATE);
		struct tdx_line_view line;

		give(lab, GPA, PAGE, 0x5a);
		assert_int_equal(host_reads(lab, PAGE, 0), 0);
		assert_int_equal(host_reads(lab, LAB_TDR, 0), 0);
		assert_int_equal(host_reads(lab, LAB_TABLES, 0), 0);
		assert_int_equal(guest_reads(lab, PAGE, 0x5a), 0);
		tdx_module_view_line(lab->module, PAGE + 100, &line);
		assert_int_equal(line.hkid, LAB_HKID);
		assert_true(line.td_owner && line.dirty && !line.poisoned && !line.stale);
		tdx_module_view_line(lab->module, LAB_TDR, &line);
		assert_int_equal(line.hkid, 32);
		assert_int_equal(tdx_module_memory_events(lab->module, TDX_MEMORY_MACHINE_CHECK),
				 0);
		end(lab);
	}
}

static void plain_memory_hides_nothing(void **state)
{
	struct lab *lab = start(TDX_MEMORY_PLAIN, TDX_WRITE_BACK_LATE);
	uint8_t byte = 7;

	(void)state;
	give(lab, GPA, PAGE, 0x5a);
	assert_int_equal(host_reads(lab, PAGE, 0x5a), 0);
	assert_int_equal(tdx_module_host_write(lab->module, PAGE, &byte, 1), 0);
	assert_int_equal(tdx_module_guest_access(lab->module, 0, PAGE, true, &byte, 1, false), 0);
	assert_int_equal(byte, 7);
	end(lab);
}

static void no_vmm_has_a_private_key_id(void **state)
{
	struct lab *lab = start(TDX_MEMORY_CI, TDX_WRITE_BACK_AT_ONCE);
	uint64_t pa = PAGE | (uint64_t)LAB_HKID << 46;
	uint8_t line[LINE];

	(void)state;
	assert_int_equal(tdx_module_host_read(lab->module, pa, line, LINE), -EPERM);
	assert_int_equal(tdx_module_host_write(lab->module, pa, line, LINE), -EPERM);
	assert_int_equal(tdx_module_host_write_lines(lab->module, pa, line, LINE), -EPERM);
	assert_int_equal(tdx_module_host_flush(lab->module, pa, LINE), -EPERM);
	assert_int_equal(tdx_module_host_write_lines(lab->module, PAGE + 8, line, LINE), -EINVAL);
	assert_int_equal(tdx_module_host_write_lines(lab->module, PAGE, line, 8), -EINVAL);
	end(lab);
	assert_int_equal(tdx_memory_event_name(TDX_NR_MEMORY_EVENTS), NULL);
}

/* Decrypts what the bus shows with the key's own bytes, by OpenSSL alone. */
static void decrypt(struct lab *lab, uint64_t hpa, const uint8_t *in, uint8_t *out)
{
	uint8_t key[64], tweak[16] = {0};
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int bits = tdx_module_view_key(lab->module, LAB_HKID, hpa, key), n;

	for (unsigned int i = 0; i < 8; i++)
		tweak[i] = (uint8_t)(hpa >> (8 * i));
	EVP_DecryptInit_ex(ctx, bits == 256 ? EVP_aes_256_xts() : EVP_aes_128_xts(), NULL, key,
			   tweak);
	assert_int_equal(EVP_DecryptUpdate(ctx, out, &n, in, LINE), 1);
	EVP_CIPHER_CTX_free(ctx);
}

static void without_owner_bit_the_host_reads_ciphertext(void **state)
{
	struct lab *lab = start(TDX_MEMORY_NO_OWNER, TDX_WRITE_BACK_AT_ONCE);
	uint8_t a[ALL], b[ALL], plain[LINE];

	(void)state;
	give(lab, GPA, PAGE, 0x5a);
	assert_int_equal(tdx_module_host_read(lab->module, PAGE, a, ALL), 0);
	tdx_module_bus_read(lab->module, PAGE, b, ALL);
	assert_memory_equal(a, b, ALL);
	/* The same content at another address is other ciphertext; written again, the same. */
	assert_memory_not_equal(a, a + LINE, LINE);
	for (unsigned int i = 0; i < ALL; i += LINE) {
		decrypt(lab, PAGE + i, a + i, plain);
		for (unsigned int k = 0; k < LINE; k++)
			assert_int_equal(plain[k], 0x5a);
	}
	memset(plain, 0x5a, LINE);
	assert_int_equal(tdx_module_guest_access(lab->module, 0, PAGE, true, plain, LINE, true), 0);
	assert_int_equal(tdx_module_host_read(lab->module, PAGE, b, ALL), 0);
	assert_memory_equal(a, b, ALL);
	assert_int_equal(guest_reads(lab, PAGE, 0x5a), 0);
	end(lab);
}

static void without_owner_bit_a_host_write_is_nonsense_to_the_guest(void **state)
{
	struct lab *lab = start(TDX_MEMORY_NO_OWNER, TDX_WRITE_BACK_AT_ONCE);
	uint8_t a[LINE], b[LINE], byte = 1;

	(void)state;
	give(lab, GPA, PAGE, 0x5a);
	assert_int_equal(tdx_module_host_read(lab->module, PAGE, a, LINE), 0);
	assert_int_equal(tdx_module_host_write(lab->module, PAGE, &byte, 1), 0);
	assert_int_equal(tdx_module_guest_access(lab->module, 0, PAGE, true, b, LINE, false), 0);
	assert_int_not_equal(b[1], 0x5a);
	assert_int_equal(seen.count[TDX_MEMORY_HOST_WRITE], 1);
	/* The old ciphertext put back is the old content: nobody notices a replay. */
	assert_int_equal(tdx_module_host_write(lab->module, PAGE, a, LINE), 0);
	assert_int_equal(guest_reads(lab, PAGE, 0x5a), 0);
	/* Nor is there poison in what the TD leaves. */
	take_away(lab, GPA);
	wbinvd(lab, PAGE);
	assert_int_equal(tdx_module_host_write(lab->module, PAGE, &byte, 1), 0);
	assert_int_equal(tdx_module_host_read(lab->module, PAGE, b, 1), 0);
	assert_int_equal(b[0], 1);
	assert_int_equal(seen.count[TDX_MEMORY_STALE_POISON], 0);
	end(lab);
}

/* ---- keys ---- */

static void make_second_td(struct lab *lab, uint64_t tdr, unsigned int hkid)
{
	host_ok(lab, TDH_MNG_CREATE, tdr, hkid, 0);
	host_ok(lab, TDH_MNG_KEY_CONFIG, tdr, 0, 0);
}

static void each_configuration_is_another_key(void **state)
{
	struct lab *lab = start(TDX_MEMORY_CI, TDX_WRITE_BACK_AT_ONCE);
	uint8_t first[64], second[64], again[64], global[64];
	uint64_t tdr = LAB_FREE + 0x800000;

	(void)state;
	assert_int_equal(tdx_module_view_key(lab->module, 41, PAGE, first), -ENOENT);
	assert_int_equal(tdx_module_view_key(lab->module, 64, PAGE, first), -ENOENT);
	make_second_td(lab, tdr, 41);
	assert_int_equal(tdx_module_view_key(lab->module, 41, PAGE, first), 128);
	assert_int_equal(tdx_module_view_key(lab->module, LAB_HKID, PAGE, second), 128);
	assert_int_equal(tdx_module_view_key(lab->module, 32, PAGE, global), 128);
	assert_memory_not_equal(first, second, 32);
	assert_memory_not_equal(first, global, 32);
	host_ok(lab, TDH_MNG_VPFLUSHDONE, tdr, 0, 0);
	host_ok(lab, TDH_PHYMEM_CACHE_WB, 0, 0, 0);
	host_ok(lab, TDH_MNG_KEY_FREEID, tdr, 0, 0);
	assert_int_equal(tdx_module_view_key(lab->module, 41, PAGE, again), -ENOENT);
	make_second_td(lab, tdr + ALL, 41);
	assert_int_equal(tdx_module_view_key(lab->module, 41, PAGE, again), 128);
	assert_memory_not_equal(first, again, 32);
	end(lab);
	/* The same seed and the same calls are the same keys. */
	lab = start(TDX_MEMORY_CI, TDX_WRITE_BACK_AT_ONCE);
	make_second_td(lab, tdr, 41);
	assert_int_equal(tdx_module_view_key(lab->module, 41, PAGE, again), 128);
	assert_memory_equal(first, again, 32);
	end(lab);
}

static bool no_random(void *ctx, uint64_t *value)
{
	_Atomic long *left = &((struct lab *)ctx)->intr_polls;

	*value = 1;
	return atomic_fetch_sub(left, 1) > 0;
}

static void packages_have_keys_of_their_own(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));
	struct tdx_module_config config = lab_config(lab);
	uint8_t near[64], far[64];

	(void)state;
	config.nr_packages = 2;
	config.nr_tdmrs = 2;
	config.tdmr[1] = (struct tdx_tdmr_config){LAB_TDMR + LAB_SIZE, LAB_SIZE, .package = 1};
	config.key_bits = 256;
	config.interrupt_pending = NULL;
	config.random = no_random;
	lab_create_with(&config, lab);
	lab_init_tdmr(lab);
	atomic_store(&lab->intr_polls, 4);
	lab_ok(lab, TDH_MNG_CREATE, LAB_TDR, LAB_HKID, 0);
	assert_int_equal(lab_call(lab, 0, TDH_MNG_KEY_CONFIG, LAB_TDR, 0, 0),
			 TDX_KEY_GENERATION_FAILED);
	atomic_store(&lab->intr_polls, 100);
	lab_ok(lab, TDH_MNG_KEY_CONFIG, LAB_TDR, 0, 0);
	assert_int_equal(lab_call(lab, 0, TDH_MNG_KEY_CONFIG, LAB_TDR, 0, 0), TDX_KEY_CONFIGURED);
	assert_int_equal(lab_call(lab, 1, TDH_MNG_KEY_CONFIG, LAB_TDR, 0, 0), TDX_SUCCESS);
	assert_int_equal(tdx_module_view_key(lab->module, LAB_HKID, LAB_TDMR, near), 256);
	assert_int_equal(tdx_module_view_key(lab->module, LAB_HKID, LAB_TDMR + LAB_SIZE, far), 256);
	assert_memory_not_equal(near, far, 64);
	lab_destroy(lab);
}

static void shared_key_ids_are_keys(void **state)
{
	struct lab *lab = start(TDX_MEMORY_CI, TDX_WRITE_BACK_AT_ONCE);
	uint64_t pa = PAGE | 3ull << 46;
	uint8_t line[LINE], got[LINE];

	(void)state;
	give(lab, GPA, PAGE, 1);
	take_away(lab, GPA);
	wbinvd(lab, PAGE);
	memset(line, 0x33, LINE);
	assert_int_equal(tdx_module_host_write_lines(lab->module, pa, line, LINE), 0);
	assert_int_equal(tdx_module_host_read(lab->module, pa, got, LINE), 0);
	assert_memory_equal(line, got, LINE);
	assert_int_equal(tdx_module_host_read(lab->module, PAGE, got, LINE), 0);
	assert_memory_not_equal(line, got, LINE);
	tdx_module_bus_read(lab->module, PAGE, line, LINE);
	assert_memory_equal(line, got, LINE); /* key id 0 does not encrypt */
	end(lab);
}

/* IEEE 1619-2007, annex B: vectors 2 and 4 (the first line of the unit), and 10. */
static void known_answers(void **state)
{
	static const uint8_t key2[32] = {0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11,
					 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11,
					 0x22, 0x22, 0x22, 0x22, 0x22, 0x22, 0x22, 0x22,
					 0x22, 0x22, 0x22, 0x22, 0x22, 0x22, 0x22, 0x22};
	static const uint8_t want2[32] = {0xc4, 0x54, 0x18, 0x5e, 0x6a, 0x16, 0x93, 0x6e,
					  0x39, 0x33, 0x40, 0x38, 0xac, 0xef, 0x83, 0x8b,
					  0xfb, 0x18, 0x6f, 0xff, 0x74, 0x80, 0xad, 0xc4,
					  0x28, 0x93, 0x82, 0xec, 0xd6, 0xd3, 0x94, 0xf0};
	static const uint8_t key4[32] = {0x27, 0x18, 0x28, 0x18, 0x28, 0x45, 0x90, 0x45,
					 0x23, 0x53, 0x60, 0x28, 0x74, 0x71, 0x35, 0x26,
					 0x31, 0x41, 0x59, 0x26, 0x53, 0x58, 0x97, 0x93,
					 0x23, 0x84, 0x62, 0x64, 0x33, 0x83, 0x27, 0x95};
	static const uint8_t want4[16] = {0x27, 0xa7, 0x47, 0x9b, 0xef, 0xa1, 0xd4, 0x76,
					  0x48, 0x9f, 0x30, 0x8c, 0xd4, 0xcf, 0xa6, 0xe2};
	static const uint8_t key10[64] = {
		0x27, 0x18, 0x28, 0x18, 0x28, 0x45, 0x90, 0x45, 0x23, 0x53, 0x60, 0x28, 0x74,
		0x71, 0x35, 0x26, 0x62, 0x49, 0x77, 0x57, 0x24, 0x70, 0x93, 0x69, 0x99, 0x59,
		0x57, 0x49, 0x66, 0x96, 0x76, 0x27, 0x31, 0x41, 0x59, 0x26, 0x53, 0x58, 0x97,
		0x93, 0x23, 0x84, 0x62, 0x64, 0x33, 0x83, 0x27, 0x95, 0x02, 0x88, 0x41, 0x97,
		0x16, 0x93, 0x99, 0x37, 0x51, 0x05, 0x82, 0x09, 0x74, 0x94, 0x45, 0x92};
	static const uint8_t want10[16] = {0x1c, 0x3b, 0x3a, 0x10, 0x2f, 0x77, 0x03, 0x86,
					   0xe4, 0x83, 0x6c, 0x99, 0xe3, 0x70, 0xcf, 0x9b};
	uint8_t in[512], out[512];

	(void)state;
	memset(in, 0x44, sizeof(in));
	assert_true(tdx_memory_xts(key2, 128, 0x3333333333, true, in, out, 32));
	assert_memory_equal(out, want2, 32);
	assert_true(tdx_memory_xts(key2, 128, 0x3333333333, false, want2, out, 32));
	assert_memory_equal(out, in, 32);
	for (unsigned int i = 0; i < sizeof(in); i++)
		in[i] = (uint8_t)i;
	assert_true(tdx_memory_xts(key4, 128, 0, true, in, out, 512));
	assert_memory_equal(out, want4, 16);
	assert_true(tdx_memory_xts(key10, 256, 0xff, true, in, out, 512));
	assert_memory_equal(out, want10, 16);
	assert_false(tdx_memory_xts(key4, 192, 0, true, in, out, 512));
	assert_false(tdx_memory_xts(key4, 128, 0, true, in, out, 15));
}

/* ---- poison ---- */

static void a_host_write_ends_the_td_at_its_next_read(void **state)
{
	(void)state;
	for (unsigned int way = 0; way < 16; way++) {
		bool full = way & 4;
		struct lab *lab = start(way & 1 ? TDX_MEMORY_LI : TDX_MEMORY_CI,
					way & 2 ? TDX_WRITE_BACK_LATE : TDX_WRITE_BACK_AT_ONCE);
		uint8_t bytes[LINE] = {1};

		give(lab, GPA, PAGE, 0x5a);
		if (full)
			assert_int_equal(tdx_module_host_write_lines(lab->module, PAGE + 2 * LINE,
								     bytes, LINE),
					 0);
		else
			assert_int_equal(
				tdx_module_host_write(lab->module, PAGE + 2 * LINE + 5, bytes, 3),
				0);
		assert_last(TDX_MEMORY_HOST_WRITE, PAGE, 0, LAB_HKID);
		/* Another line of the page is as it was. */
		assert_int_equal(tdx_module_guest_access(lab->module, 0, PAGE + 3 * LINE, true,
							 bytes, LINE, false),
				 0);
		assert_int_equal(bytes[0], 0x5a);
		/* A store reads nothing, and heals nothing. */
		if (way & 8)
			assert_int_equal(tdx_module_guest_access(lab->module, 0, PAGE + 2 * LINE,
								 true, bytes, LINE, true),
					 0);
		assert_int_equal(guest_reads(lab, PAGE, 0x5a), -EIO);
		assert_int_equal(seen.last.hpa, PAGE + 2 * LINE);
		assert_int_equal(seen.last.by_hkid, LAB_HKID);
		assert_int_equal(deliver_machine_check(lab), TDX_NON_RECOVERABLE_TD_NON_ACCESSIBLE);
		assert_int_equal(lab_call(lab, 0, TDH_VP_ENTER, LAB_VCPU(0), 0, 0), TDX_TD_FATAL);
		assert_int_equal(lab_call(lab, 1, TDH_MEM_TRACK, LAB_TDR, 0, 0), TDX_TD_FATAL);
		/* It can be taken down as any other. */
		lab_ok(lab, TDH_VP_FLUSH, LAB_VCPU(0), 0, 0);
		host_ok(lab, TDH_MNG_VPFLUSHDONE, LAB_TDR, 0, 0);
		host_ok(lab, TDH_PHYMEM_CACHE_WB, 0, 0, 0);
		host_ok(lab, TDH_MNG_KEY_FREEID, LAB_TDR, 0, 0);
		host_ok(lab, TDH_PHYMEM_PAGE_RECLAIM, PAGE, 0, 0);
		clear(lab, PAGE);
		assert_int_equal(host_reads(lab, PAGE, 0), 0);
		lab_destroy(lab);
	}
}

static void only_a_full_line_store_heals(void **state)
{
	struct lab *lab = start(TDX_MEMORY_CI, TDX_WRITE_BACK_LATE);
	uint8_t bytes[ALL];

	(void)state;
	give(lab, GPA, PAGE, 0x5a);
	take_away(lab, GPA);
	wbinvd(lab, PAGE);
	/* Plain stores, even of a whole page: what is read is poison, and it is said so at once. */
	memset(bytes, 0x11, ALL);
	assert_int_equal(tdx_module_host_write(lab->module, PAGE, bytes, ALL), 0);
	assert_int_equal(seen.count[TDX_MEMORY_STALE_POISON], ALL / LINE);
	assert_last(TDX_MEMORY_STALE_POISON, PAGE, 0, LAB_HKID);
	assert_int_equal(host_reads(lab, PAGE, 0x11), -EIO);
	assert_last(TDX_MEMORY_MACHINE_CHECK, PAGE, 0, LAB_HKID);
	assert_int_equal(tdx_module_host_write_lines(lab->module, PAGE, bytes, LINE), 0);
	assert_int_equal(tdx_module_host_read(lab->module, PAGE, bytes, LINE), 0);
	assert_int_equal(bytes[63], 0x11);
	assert_int_equal(tdx_module_host_read(lab->module, PAGE + LINE, bytes, LINE), -EIO);
	clear(lab, PAGE);
	assert_int_equal(host_reads(lab, PAGE, 0), 0);
	end(lab);
}

static void a_td_heals_what_it_accepts(void **state)
{
	struct lab *lab = start(TDX_MEMORY_CI, TDX_WRITE_BACK_LATE);
	uint8_t byte = 1;

	(void)state;
	give(lab, GPA, PAGE, 0x5a);
	take_away(lab, GPA);
	wbinvd(lab, PAGE);
	assert_int_equal(tdx_module_host_write(lab->module, PAGE + 9, &byte, 1), 0);
	give(lab, GPA, PAGE, 0x77);
	assert_int_equal(guest_reads(lab, PAGE, 0x77), 0);
	end(lab);
}

/* ---- the module's own reads ---- */

static void expect_death(struct lab *lab, uint64_t status)
{
	assert_int_equal(status, TDX_SYS_SHUTDOWN);
	assert_int_equal(lab->nr_fatal, 1);
	assert_int_equal(lab_call(lab, 1, TDH_MEM_TRACK, LAB_TDR, 0, 0), TDX_SYS_SHUTDOWN);
	lab->nr_fatal = 0;
}

static void a_spoiled_source_page_ends_the_module(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));
	struct tdx_module_config config = lab_config(lab);
	struct tdx_regs regs = {.rcx = GPA, .rdx = LAB_TDR, .r8 = PAGE + ALL, .r9 = PAGE};
	uint8_t byte = 1;

	(void)state;
	seen = (struct seen){0};
	config.memory_event = note;
	lab_create_with(&config, lab);
	lab_init_tdmr(lab);
	lab_init_td(lab, 0);
	lab_add_tables(lab);
	/* A page that was another TD's and was never cleared. */
	make_second_td(lab, OTHER, 41);
	host_ok(lab, TDH_MNG_ADDCX, PAGE, OTHER, 0);
	host_ok(lab, TDH_MNG_VPFLUSHDONE, OTHER, 0, 0);
	host_ok(lab, TDH_PHYMEM_CACHE_WB, 0, 0, 0);
	host_ok(lab, TDH_MNG_KEY_FREEID, OTHER, 0, 0);
	host_ok(lab, TDH_PHYMEM_PAGE_RECLAIM, PAGE, 0, 0);
	/* Not written by anybody, it is zeros to the module as to the host. */
	assert_int_equal(lab_seamcall(lab, 0, TDH_MEM_PAGE_ADD, &regs), TDX_SUCCESS);
	assert_int_equal(host_reads(lab, PAGE + ALL, 0), 0);
	assert_int_equal(tdx_module_host_write(lab->module, PAGE + 700, &byte, 1), 0);
	regs = (struct tdx_regs){
		.rcx = GPA + ALL, .rdx = LAB_TDR, .r8 = PAGE + 2 * ALL, .r9 = PAGE};
	expect_death(lab, lab_seamcall(lab, 0, TDH_MEM_PAGE_ADD, &regs));
	lab_destroy(lab);
}

static void a_spoiled_page_cannot_be_measured_or_moved(void **state)
{
	(void)state;
	for (unsigned int way = 0; way < 2; way++) {
		struct lab *lab = calloc(1, sizeof(*lab));
		struct tdx_module_config config = lab_config(lab);
		struct tdx_regs regs = {.rcx = GPA, .rdx = LAB_TDR, .r8 = PAGE, .r9 = LAB_SOURCE};
		uint8_t byte = 1;

		lab_create_with(&config, lab);
		lab_init_tdmr(lab);
		lab_init_td(lab, 0);
		lab_add_tables(lab);
		assert_int_equal(lab_seamcall(lab, 0, TDH_MEM_PAGE_ADD, &regs), TDX_SUCCESS);
		host_ok(lab, TDH_MR_EXTEND, GPA, LAB_TDR, 0);
		assert_int_equal(tdx_module_host_write(lab->module, PAGE + 0x110, &byte, 1), 0);
		host_ok(lab, TDH_MR_EXTEND, GPA, LAB_TDR, 0);
		if (way)
			expect_death(lab, lab_call(lab, 1, TDH_MR_EXTEND, GPA + 0x100, LAB_TDR, 0));
		else
			expect_death(lab, lab_call(lab, 1, TDH_MEM_PAGE_RELOCATE, GPA, LAB_TDR,
						   PAGE + ALL));
		lab_destroy(lab);
	}
}

/* Which page of the TD's own; which call reads it; all end alike. */
static void spoiled_control_pages_end_the_module(void **state)
{
	static const struct {
		uint64_t page;
		unsigned int leaf;
		uint64_t rcx, rdx, r8;
	} cases[] = {
		{LAB_TDR, TDH_MEM_TRACK, LAB_TDR, 0, 0},
		{LAB_TDCX, TDH_MEM_TRACK, LAB_TDR, 0, 0},
		{LAB_VCPU(1), TDH_VP_ENTER, LAB_VCPU(1), 0, 0},
		{LAB_TDCX + 3 * LAB_PAGE, TDH_MEM_PAGE_AUG, 0, LAB_TDR, OTHER},
		{LAB_TABLES, TDH_MEM_PAGE_AUG, 0, LAB_TDR, OTHER},
		{LAB_TABLES + LAB_PAGE, TDH_MEM_RANGE_BLOCK, 0, LAB_TDR, 0},
		{LAB_TABLES + 2 * LAB_PAGE, TDH_MEM_SEPT_RD, 0, LAB_TDR, 0},
		{LAB_TABLES + 2 * LAB_PAGE, TDH_MEM_SEPT_REMOVE, 1, LAB_TDR, 0},
		{LAB_TABLES + 2 * LAB_PAGE, TDH_MEM_PAGE_PROMOTE, 1, LAB_TDR, 0},
	};

	(void)state;
	for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct lab *lab = start(TDX_MEMORY_CI, TDX_WRITE_BACK_AT_ONCE);
		uint64_t junk = ~0ull;

		lab_kick(lab, 0);
		if (cases[i].rcx == 1) {
			host_ok(lab, TDH_MEM_RANGE_BLOCK, 1, LAB_TDR, 0);
			host_ok(lab, TDH_MEM_TRACK, LAB_TDR, 0, 0);
		}
		assert_int_equal(tdx_module_host_write(lab->module, cases[i].page, &junk, 8), 0);
		expect_death(lab, lab_call(lab, 1, cases[i].leaf, cases[i].rcx, cases[i].rdx,
					   cases[i].r8));
		lab_destroy(lab);
	}
}

static void a_spoiled_table_under_a_running_guest(void **state)
{
	struct lab *lab = start(TDX_MEMORY_CI, TDX_WRITE_BACK_AT_ONCE);
	struct tdx_port_walk walk;
	struct tdx_guest guest;
	struct tdx_regs host;
	uint64_t junk = ~0ull;

	(void)state;
	give(lab, GPA, PAGE, 0x5a);
	assert_int_equal(tdx_module_host_write(lab->module, LAB_TABLES + ALL, &junk, 8), 0);
	/* The processor's walk is the guest's machine check; the module's would be its own. */
	assert_int_equal(tdx_module_port.private_walk(lab->module, 0, GPA, &walk), 0);
	assert_true(walk.machine_check && !walk.present);
	assert_int_equal(lab->nr_fatal, 0);
	assert_int_equal(lab_tdcall(lab, 0, TDG_MEM_PAGE_ACCEPT, GPA, &guest, &host), TDX_HOST);
	assert_int_equal(host.rax, TDX_SYS_SHUTDOWN);
	expect_death(lab, TDX_SYS_SHUTDOWN);
	lab_destroy(lab);
}

/* ---- caches ---- */

/* A page of the first TD, given up without what a host owes; then the host's, or the TD's again. */
static void skipped_page_wbinvd_is_a_late_write_back(void **state)
{
	struct lab *lab = start(TDX_MEMORY_CI, TDX_WRITE_BACK_LATE);
	struct tdx_line_view line;
	char text[200];

	(void)state;
	give(lab, GPA, PAGE, 0x5a);
	take_away(lab, GPA);
	clear(lab, PAGE);
	tdx_module_view_line(lab->module, PAGE, &line);
	assert_true(line.stale && line.stale_hkid == LAB_HKID && line.hkid == 0);
	assert_int_equal(seen.count[TDX_MEMORY_NO_WRITE_BACK], ALL / LINE);
	assert_last(TDX_MEMORY_NO_WRITE_BACK, PAGE, 0, LAB_HKID);
	/* What was cleared is the TD's again: zeros to the host, but not those that it wrote. */
	assert_int_equal(host_reads(lab, PAGE, 0), 0);
	assert_int_equal(seen.count[TDX_MEMORY_LATE_WRITE_BACK], ALL / LINE);
	assert_last(TDX_MEMORY_LATE_WRITE_BACK, PAGE, 0, LAB_HKID);
	assert_true(tdx_memory_event_text(&seen.last, text, sizeof(text)) > 0);
	assert_non_null(strstr(text, "late write-back: page 0x100100000"));
	assert_non_null(strstr(text, "key id 40"));
	tdx_module_view_line(lab->module, PAGE, &line);
	assert_true(line.td_owner && !line.stale);
	end(lab);
}

/* Its own new lines take the old ones' place in the cache: those are never heard of again. */
static void a_page_that_comes_back_to_its_td(void **state)
{
	struct lab *lab = start(TDX_MEMORY_CI, TDX_WRITE_BACK_LATE);

	(void)state;
	give(lab, GPA, PAGE, 0x5a);
	take_away(lab, GPA);
	clear(lab, PAGE);
	assert_int_equal(seen.count[TDX_MEMORY_NO_WRITE_BACK], ALL / LINE);
	host_ok(lab, TDH_MEM_PAGE_AUG, tdx_page_info(GPA, 0), LAB_TDR, PAGE);
	accept(lab, GPA, 0);
	take_away(lab, GPA);
	wbinvd(lab, PAGE);
	clear(lab, PAGE);
	assert_int_equal(host_reads(lab, PAGE, 0), 0);
	assert_int_equal(seen.count[TDX_MEMORY_NO_WRITE_BACK], ALL / LINE);
	assert_int_equal(seen.count[TDX_MEMORY_LATE_WRITE_BACK], 0);
	end(lab);
}

static void write_back_at_once_forgives_it(void **state)
{
	struct lab *lab = start(TDX_MEMORY_CI, TDX_WRITE_BACK_AT_ONCE);

	(void)state;
	give(lab, GPA, PAGE, 0x5a);
	take_away(lab, GPA);
	clear(lab, PAGE);
	assert_int_equal(host_reads(lab, PAGE, 0), 0);
	assert_int_equal(seen.count[TDX_MEMORY_LATE_WRITE_BACK], 0);
	end(lab);
}

static void the_right_order_is_quiet(void **state)
{
	struct lab *lab = start(TDX_MEMORY_CI, TDX_WRITE_BACK_LATE);
	uint8_t bytes[ALL];

	(void)state;
	for (unsigned int round = 0; round < 3; round++) {
		give(lab, GPA, PAGE, 0x5a);
		take_away(lab, GPA);
		wbinvd(lab, PAGE);
		clear(lab, PAGE);
		memset(bytes, 9, ALL);
		assert_int_equal(tdx_module_host_write(lab->module, PAGE, bytes, ALL), 0);
		assert_int_equal(host_reads(lab, PAGE, 9), 0);
		assert_int_equal(tdx_module_host_flush(lab->module, PAGE, ALL), 0);
	}
	for (unsigned int kind = 0; kind < TDX_NR_MEMORY_EVENTS; kind++)
		assert_int_equal(seen.count[kind], 0);
	end(lab);
}

static void clearing_before_page_wbinvd_is_too_early(void **state)
{
	struct lab *lab = start(TDX_MEMORY_CI, TDX_WRITE_BACK_LATE);

	(void)state;
	give(lab, GPA, PAGE, 0x5a);
	take_away(lab, GPA);
	clear(lab, PAGE);
	wbinvd(lab, PAGE);
	assert_last(TDX_MEMORY_LATE_WRITE_BACK, PAGE, 0, LAB_HKID);
	end(lab);
}

/* The second TD gets the page under its own key while the first one's lines are in a cache. */
static void a_page_reused_by_another_td(void **state)
{
	uint64_t tdr = OTHER;

	(void)state;
	for (unsigned int good = 0; good < 2; good++) {
		struct lab *lab = start(TDX_MEMORY_CI, TDX_WRITE_BACK_LATE);

		make_second_td(lab, tdr, 41);
		give(lab, GPA, PAGE, 0x5a);
		take_away(lab, GPA);
		if (good)
			wbinvd(lab, PAGE);
		host_ok(lab, TDH_MNG_ADDCX, PAGE, tdr, 0);
		if (good) {
			lab_kick(lab, 0);
			for (unsigned int i = 1; i < 6; i++)
				host_ok(lab, TDH_MNG_ADDCX, tdr + i * ALL, tdr, 0);
			assert_int_equal(seen.count[TDX_MEMORY_LATE_WRITE_BACK], 0);
			lab_destroy(lab);
			continue;
		}
		/* The next call that reads this TDCS page finds the first TD's line in it. */
		expect_death(lab, lab_call(lab, 1, TDH_MNG_ADDCX, tdr + ALL, tdr, 0));
		assert_int_equal(seen.count[TDX_MEMORY_LATE_WRITE_BACK], 1);
		assert_last(TDX_MEMORY_MACHINE_CHECK, PAGE, 41, LAB_HKID);
		lab_destroy(lab);
	}
}

static void logical_integrity_lets_another_tds_line_through_as_nonsense(void **state)
{
	struct lab *lab = start(TDX_MEMORY_LI, TDX_WRITE_BACK_LATE);
	struct tdx_line_view line;

	(void)state;
	make_second_td(lab, OTHER, 41);
	give(lab, GPA, PAGE, 0x5a);
	take_away(lab, GPA);
	host_ok(lab, TDH_MNG_ADDCX, PAGE, OTHER, 0);
	host_ok(lab, TDH_MNG_ADDCX, OTHER + ALL, OTHER, 0);
	assert_int_equal(seen.count[TDX_MEMORY_LATE_WRITE_BACK], ALL / LINE);
	assert_int_equal(seen.count[TDX_MEMORY_MACHINE_CHECK], 0);
	tdx_module_view_line(lab->module, PAGE, &line);
	assert_int_equal(line.hkid, 41);
	assert_int_not_equal(*(uint8_t *)lab_page(lab, PAGE), 0x5a);
	end(lab);
}

static void a_host_that_does_not_flush_before_it_gives(void **state)
{
	(void)state;
	for (unsigned int good = 0; good < 2; good++) {
		struct lab *lab = start(TDX_MEMORY_CI, TDX_WRITE_BACK_LATE);
		uint8_t byte = 3;

		assert_int_equal(tdx_module_host_write(lab->module, PAGE + 5 * LINE, &byte, 1), 0);
		if (good)
			assert_int_equal(tdx_module_host_flush(lab->module, PAGE, ALL), 0);
		give(lab, GPA, PAGE, 0x5a);
		assert_int_equal(guest_reads(lab, PAGE, 0x5a), good ? 0 : -EIO);
		assert_int_equal(seen.count[TDX_MEMORY_NO_WRITE_BACK], !good);
		assert_int_equal(seen.count[TDX_MEMORY_LATE_WRITE_BACK], !good);
		if (!good) {
			assert_int_equal(seen.last.hpa, PAGE + 5 * LINE);
			assert_last(TDX_MEMORY_MACHINE_CHECK, PAGE, LAB_HKID, 0);
		}
		end(lab);
	}
}

/* Somebody's end, for which all caches are written back. */
static void write_back_all(struct lab *lab, uint64_t tdr, unsigned int hkid)
{
	make_second_td(lab, tdr, hkid);
	host_ok(lab, TDH_MNG_VPFLUSHDONE, tdr, 0, 0);
	host_ok(lab, TDH_PHYMEM_CACHE_WB, 0, 0, 0);
}

/* CACHE.WB on every package writes back whatever is there, whosever it is. */
static void cache_write_back_is_for_all_keys(void **state)
{
	struct lab *lab = start(TDX_MEMORY_CI, TDX_WRITE_BACK_LATE);
	struct tdx_line_view line;

	(void)state;
	give(lab, GPA, PAGE, 0x5a);
	give(lab, GPA + ALL, PAGE + ALL, 0x5a);
	take_away(lab, GPA);
	write_back_all(lab, OTHER, 41);
	clear(lab, PAGE);
	assert_int_equal(host_reads(lab, PAGE, 0), 0);
	assert_int_equal(seen.count[TDX_MEMORY_LATE_WRITE_BACK], 0);
	/* But the TD's other page may have been written since. */
	tdx_module_view_line(lab->module, PAGE + ALL, &line);
	assert_true(line.dirty);
	take_away(lab, GPA + ALL);
	clear(lab, PAGE + ALL);
	tdx_module_view_line(lab->module, PAGE + ALL, &line);
	assert_true(line.stale);
	end(lab);
}

/* Whatever call gave it back, and whatever it was. */
static void what_was_given_back_before_is_clean_after_it(void **state)
{
	struct lab *lab = start(TDX_MEMORY_CI, TDX_WRITE_BACK_LATE);
	uint64_t range = LAB_FREE + 0x100000, tdr = OTHER + 0x100000;
	uint64_t back[5] = {PAGE + ALL, LAB_TABLES + 2 * ALL, LAB_TABLES + ALL, tdr, PAGE};
	struct tdx_regs regs = {.rcx = 1, .rdx = LAB_TDR};

	(void)state;
	/* PAGE.RELOCATE, PROMOTE, SEPT.REMOVE, the TDR's RECLAIM, and PAGE.REMOVE of 2 MiB. */
	give(lab, GPA, back[0], 1);
	block(lab, tdx_page_info(GPA, 0));
	host_ok(lab, TDH_MEM_PAGE_RELOCATE, GPA, LAB_TDR, range);
	for (unsigned int i = 1; i < 512; i++)
		give(lab, i * ALL, range + i * ALL, 1);
	block(lab, 1);
	assert_int_equal(lab_seamcall(lab, 1, TDH_MEM_PAGE_PROMOTE, &regs), TDX_SUCCESS);
	assert_int_equal(regs.rcx, back[1]);
	block(lab, 1);
	host_ok(lab, TDH_MEM_PAGE_REMOVE, 1, LAB_TDR, 0);
	back[4] = range + 77 * ALL;
	block(lab, 2);
	host_ok(lab, TDH_MEM_SEPT_REMOVE, 2, LAB_TDR, 0);
	make_second_td(lab, tdr, 42);
	host_ok(lab, TDH_MNG_VPFLUSHDONE, tdr, 0, 0);
	host_ok(lab, TDH_PHYMEM_CACHE_WB, 0, 0, 0);
	host_ok(lab, TDH_MNG_KEY_FREEID, tdr, 0, 0);
	host_ok(lab, TDH_PHYMEM_PAGE_RECLAIM, tdr, 0, 0);
	write_back_all(lab, OTHER, 41);
	for (unsigned int i = 0; i < 5; i++) {
		clear(lab, back[i]);
		assert_int_equal(host_reads(lab, back[i], 0), 0);
	}
	for (unsigned int kind = 0; kind < TDX_NR_MEMORY_EVENTS; kind++)
		assert_int_equal(seen.count[kind], 0);
	end(lab);
}

/* One stamp is kept for all lines of a page: a later store makes no earlier line dirty again. */
static void a_line_written_back_stays_so_when_its_neighbour_is_written(void **state)
{
	struct lab *lab = start(TDX_MEMORY_CI, TDX_WRITE_BACK_LATE);
	struct tdx_line_view line;
	uint8_t byte = 1;

	(void)state;
	assert_int_equal(tdx_module_host_write(lab->module, PAGE, &byte, 1), 0);
	write_back_all(lab, OTHER, 41);
	assert_int_equal(tdx_module_host_write(lab->module, PAGE + LINE, &byte, 1), 0);
	tdx_module_view_line(lab->module, PAGE, &line);
	assert_false(line.dirty);
	tdx_module_view_line(lab->module, PAGE + LINE, &line);
	assert_true(line.dirty);
	end(lab);
}

static void a_reclaimed_key_id_leaves_nothing_behind(void **state)
{
	struct lab *lab = start(TDX_MEMORY_CI, TDX_WRITE_BACK_LATE);

	(void)state;
	give(lab, GPA, PAGE, 0x5a);
	lab_kick(lab, 0);
	lab_ok(lab, TDH_VP_FLUSH, LAB_VCPU(0), 0, 0);
	host_ok(lab, TDH_MNG_VPFLUSHDONE, LAB_TDR, 0, 0);
	assert_int_equal(lab_call(lab, 1, TDH_MNG_KEY_FREEID, LAB_TDR, 0, 0),
			 TDX_WBCACHE_NOT_COMPLETE);
	host_ok(lab, TDH_PHYMEM_CACHE_WB, 0, 0, 0);
	host_ok(lab, TDH_MNG_KEY_FREEID, LAB_TDR, 0, 0);
	host_ok(lab, TDH_PHYMEM_PAGE_RECLAIM, PAGE, 0, 0);
	/* The same key id with the next key, and the page uncleared: the MAC is another key's. */
	make_second_td(lab, OTHER, LAB_HKID);
	host_ok(lab, TDH_MNG_ADDCX, PAGE, OTHER, 0);
	host_ok(lab, TDH_MNG_ADDCX, OTHER + ALL, OTHER, 0);
	assert_int_equal(seen.count[TDX_MEMORY_LATE_WRITE_BACK], 0);
	assert_int_equal(seen.count[TDX_MEMORY_MACHINE_CHECK], 0);
	lab_destroy(lab);
}

/* The TDR is the module's own: another key id, for PAGE.WBINVD too. */
static void the_tdr_is_written_back_under_the_global_key_id(void **state)
{
	(void)state;
	for (unsigned int good = 0; good < 2; good++) {
		struct lab *lab = start(TDX_MEMORY_CI, TDX_WRITE_BACK_LATE);
		uint64_t hkid = good ? 32 : 41;

		make_second_td(lab, OTHER, 41);
		host_ok(lab, TDH_MNG_VPFLUSHDONE, OTHER, 0, 0);
		host_ok(lab, TDH_PHYMEM_CACHE_WB, 0, 0, 0);
		host_ok(lab, TDH_MNG_KEY_FREEID, OTHER, 0, 0);
		host_ok(lab, TDH_PHYMEM_PAGE_RECLAIM, OTHER, 0, 0);
		host_ok(lab, TDH_PHYMEM_PAGE_WBINVD, OTHER | hkid << 46, 0, 0);
		clear(lab, OTHER);
		host_reads(lab, OTHER, 0);
		assert_int_equal(seen.count[TDX_MEMORY_LATE_WRITE_BACK] != 0, !good);
		if (!good)
			assert_last(TDX_MEMORY_LATE_WRITE_BACK, OTHER, 0, 32);
		end(lab);
	}
}

/* ---- content and measurement ---- */

static void content_goes_where_its_page_goes(void **state)
{
	struct lab *lab = start(TDX_MEMORY_CI, TDX_WRITE_BACK_LATE);
	uint64_t range = LAB_FREE + 0x100000, table = OTHER + 0x400000; /* 2 MiB aligned */
	struct tdx_regs regs = {.rcx = 1, .rdx = LAB_TDR};
	uint8_t bytes[ALL];

	(void)state;
	for (unsigned int i = 0; i < 512; i++)
		give(lab, i * ALL, range + i * ALL, (uint8_t)i);
	block(lab, tdx_page_info(3 * ALL, 0));
	host_ok(lab, TDH_MEM_RANGE_UNBLOCK, tdx_page_info(3 * ALL, 0), LAB_TDR, 0);
	block(lab, 1);
	assert_int_equal(lab_seamcall(lab, 1, TDH_MEM_PAGE_PROMOTE, &regs), TDX_SUCCESS);
	for (unsigned int i = 0; i < 512; i++)
		assert_int_equal(guest_reads(lab, range + i * ALL, (uint8_t)i), 0);
	/* The table that was given back is the host's when it is written back and cleared. */
	wbinvd(lab, regs.rcx);
	clear(lab, regs.rcx);
	block(lab, 1);
	host_ok(lab, TDH_MEM_PAGE_DEMOTE, 1, LAB_TDR, table);
	assert_int_equal(host_reads(lab, table, 0), 0);
	for (unsigned int i = 0; i < 512; i++)
		assert_int_equal(guest_reads(lab, range + i * ALL, (uint8_t)i), 0);
	block(lab, tdx_page_info(5 * ALL, 0));
	host_ok(lab, TDH_MEM_PAGE_RELOCATE, tdx_page_info(5 * ALL, 0), LAB_TDR, OTHER);
	assert_int_equal(guest_reads(lab, OTHER, 5), 0);
	wbinvd(lab, range + 5 * ALL);
	clear(lab, range + 5 * ALL);
	assert_int_equal(tdx_module_host_read(lab->module, range + 5 * ALL, bytes, ALL), 0);
	for (unsigned int kind = 0; kind < TDX_NR_MEMORY_EVENTS; kind++)
		assert_int_equal(seen.count[kind], 0);
	end(lab);
}

static void mrtd_is_sha384_of_what_was_called(void **state)
{
	struct lab *lab = lab_create();
	uint8_t want[48], got[48], block_[128];
	EVP_MD_CTX *sha = EVP_MD_CTX_new();

	(void)state;
	EVP_DigestInit_ex(sha, EVP_sha384(), NULL);
	lab_init_tdmr(lab);
	lab_init_td(lab, 0);
	lab_add_tables(lab);
	lab_add_vcpu(lab, 0);
	for (uint64_t i = 0; i < 3; i++) {
		uint64_t gpa = (2 - i) * ALL;
		struct tdx_regs regs = {
			.rcx = gpa, .rdx = LAB_TDR, .r8 = PAGE + i * ALL, .r9 = LAB_SOURCE};

		for (unsigned int k = 0; k < ALL; k++)
			lab->low[LAB_SOURCE + k] = (char)(k * 31 + i);
		assert_int_equal(lab_seamcall(lab, 0, TDH_MEM_PAGE_ADD, &regs), TDX_SUCCESS);
		memset(block_, 0, sizeof(block_));
		memcpy(block_, "MEM.PAGE.ADD", 12);
		memcpy(block_ + 16, &gpa, 8);
		EVP_DigestUpdate(sha, block_, sizeof(block_));
		for (uint64_t at = 0; at < ALL; at += 256 * (i + 1)) {
			uint64_t part = gpa + at;

			host_ok(lab, TDH_MR_EXTEND, part, LAB_TDR, 0);
			memset(block_, 0, sizeof(block_));
			memcpy(block_, "MR.EXTEND", 9);
			memcpy(block_ + 16, &part, 8);
			EVP_DigestUpdate(sha, block_, sizeof(block_));
			EVP_DigestUpdate(sha, lab->low + LAB_SOURCE + at, 256);
		}
	}
	host_ok(lab, TDH_MR_FINALIZE, LAB_TDR, 0, 0);
	EVP_DigestFinal_ex(sha, want, NULL);
	EVP_MD_CTX_free(sha);
	assert_int_equal(tdx_module_view_mrtd(lab->module, LAB_TDR, got), 0);
	assert_memory_equal(got, want, 48);
	lab_destroy(lab);
}

/* ---- the processor's port ---- */

static void the_processor_is_told_only_what_it_must_know(void **state)
{
	struct lab *lab = start(TDX_MEMORY_CI, TDX_WRITE_BACK_LATE);
	const struct tdx_port_module *port = &tdx_module_port;
	uint8_t line[LINE] = {1};

	(void)state;
	give(lab, GPA, PAGE, 0x5a);
	assert_int_equal(port->data(lab->module, 0, PAGE, true, line, LINE, false), TDX_PORT_BYTES);
	assert_int_equal(port->data(lab->module, 0, LAB_SOURCE, false, line, LINE, false),
			 TDX_PORT_BYTES);
	/* A shared translation to the page, as a host may make one. */
	assert_int_equal(port->data(lab->module, 0, PAGE, false, line, LINE, false), TDX_PORT_DONE);
	assert_int_equal(line[0], 0);
	line[0] = 1;
	assert_int_equal(port->data(lab->module, 0, PAGE, false, line, LINE, true), TDX_PORT_DONE);
	assert_int_equal(port->data(lab->module, 0, PAGE + LINE, true, NULL, 8, false),
			 TDX_PORT_DONE);
	assert_int_equal(port->data(lab->module, 0, PAGE, true, NULL, 8, true), TDX_PORT_DONE);
	assert_int_equal(port->data(lab->module, 0, PAGE, true, NULL, 8, false),
			 TDX_PORT_MACHINE_CHECK);
	end(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(host_reads_zeros_where_a_td_has_its_content),
		cmocka_unit_test(plain_memory_hides_nothing),
		cmocka_unit_test(no_vmm_has_a_private_key_id),
		cmocka_unit_test(without_owner_bit_the_host_reads_ciphertext),
		cmocka_unit_test(without_owner_bit_a_host_write_is_nonsense_to_the_guest),
		cmocka_unit_test(each_configuration_is_another_key),
		cmocka_unit_test(packages_have_keys_of_their_own),
		cmocka_unit_test(shared_key_ids_are_keys),
		cmocka_unit_test(known_answers),
		cmocka_unit_test(a_host_write_ends_the_td_at_its_next_read),
		cmocka_unit_test(only_a_full_line_store_heals),
		cmocka_unit_test(a_td_heals_what_it_accepts),
		cmocka_unit_test(a_spoiled_source_page_ends_the_module),
		cmocka_unit_test(a_spoiled_page_cannot_be_measured_or_moved),
		cmocka_unit_test(spoiled_control_pages_end_the_module),
		cmocka_unit_test(a_spoiled_table_under_a_running_guest),
		cmocka_unit_test(skipped_page_wbinvd_is_a_late_write_back),
		cmocka_unit_test(a_page_that_comes_back_to_its_td),
		cmocka_unit_test(write_back_at_once_forgives_it),
		cmocka_unit_test(the_right_order_is_quiet),
		cmocka_unit_test(clearing_before_page_wbinvd_is_too_early),
		cmocka_unit_test(a_page_reused_by_another_td),
		cmocka_unit_test(logical_integrity_lets_another_tds_line_through_as_nonsense),
		cmocka_unit_test(a_host_that_does_not_flush_before_it_gives),
		cmocka_unit_test(cache_write_back_is_for_all_keys),
		cmocka_unit_test(what_was_given_back_before_is_clean_after_it),
		cmocka_unit_test(a_line_written_back_stays_so_when_its_neighbour_is_written),
		cmocka_unit_test(a_reclaimed_key_id_leaves_nothing_behind),
		cmocka_unit_test(the_tdr_is_written_back_under_the_global_key_id),
		cmocka_unit_test(content_goes_where_its_page_goes),
		cmocka_unit_test(mrtd_is_sha384_of_what_was_called),
		cmocka_unit_test(the_processor_is_told_only_what_it_must_know),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
