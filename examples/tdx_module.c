// SPDX-License-Identifier: BSD-2-Clause
/* One private page's life as bare SEAMCALLs to the module model. Never a place for a whole VMM. */
#include <stdio.h>
#include <tdx/module/module.h>

#define BASE 0x100000000ull /* one TDMR of 1 GiB; memory stands behind its first 4 MiB only */
#define TDR  BASE
#define VCPU (BASE + 0x10000)
#define PAGE (BASE + 0x20000)
#define HOST (BASE + 0x3ff000) /* stays the VMM's */
#define HKID 40ull
#define GPA  0x5000ull

static _Alignas(4096) char memory[4 << 20];
static struct tdx_module *module;

static void *page(void *ctx, uint64_t hpa)
{
	(void)ctx;
	return hpa - BASE < sizeof(memory) ? memory + (hpa - BASE) : NULL;
}

/* Registers in, registers out. */
static uint64_t call(unsigned int lp, enum tdh_leaf leaf, uint64_t rcx, uint64_t rdx, uint64_t r8)
{
	struct tdx_regs regs = {.rax = leaf, .rcx = rcx, .rdx = rdx, .r8 = r8};

	return tdx_module_seamcall(module, lp, &regs) == TDX_GUEST ? TDX_SUCCESS : regs.rax;
}

/* A TD with one vCPU, both with all their pages, and the tables down to GPA. */
static uint64_t build(void)
{
	struct tdx_td_params params = {.xfam = 3,
				       .max_vcpus = 1,
				       .eptp_controls = tdx_eptp_controls(4),
				       .tsc_frequency = 100};
	uint64_t bad = 0;

	for (int i = 0; i < 256; i++) /* 4 MiB of the region's PAMT each */
		bad |= call(0, TDH_SYS_TDMR_INIT, BASE, 0, 0);
	bad |= call(0, TDH_MNG_CREATE, TDR, HKID, 0);
	bad |= call(0, TDH_MNG_KEY_CONFIG, TDR, 0, 0);
	for (uint64_t i = 1; i <= 6; i++)
		bad |= call(0, TDH_MNG_ADDCX, TDR + i * 0x1000, TDR, 0);
	tdx_module_host_write(module, HOST, &params, sizeof(params));
	bad |= call(0, TDH_MNG_INIT, TDR, HOST, 0);
	bad |= call(0, TDH_VP_CREATE, VCPU, TDR, 0);
	for (uint64_t i = 1; i <= 5; i++)
		bad |= call(0, TDH_VP_ADDCX, VCPU + i * 0x1000, VCPU, 0);
	bad |= call(0, TDH_VP_INIT, VCPU, 0, 0);
	for (unsigned int level = 3; level >= 1; level--)
		bad |= call(0, TDH_MEM_SEPT_ADD, tdx_page_info(0, level), TDR,
			    PAGE + level * 0x1000);
	return bad | call(0, TDH_MR_FINALIZE, TDR, 0, 0);
}

static int nr_wrong;

static void step(const char *what, uint64_t status, uint64_t expected)
{
	nr_wrong += status != expected;
	printf("%-34s 0x%016llx\n", what, (unsigned long long)status);
}

int main(void)
{
	const struct tdx_module_config config = {.nr_lps = 2,
						 .nr_packages = 1,
						 .hkid_start_bit = 46,
						 .nr_hkid_bits = 6,
						 .private_hkid_min = 32,
						 .private_hkid_max = 63,
						 .global_hkid = 32,
						 .nr_tdmrs = 1,
						 .tdmr = {{.base = BASE, .size = 1 << 30}},
						 .page = page};
	const struct tdx_vmexit kick = {.reason = TDX_EXIT_INTERRUPT, .interrupt_info = 0x800000f0};
	struct tdx_guest guest = {.regs = {.rax = TDG_MEM_PAGE_ACCEPT, .rcx = GPA}};
	struct tdx_regs exit;
	char why[128] = "";

	module = tdx_module_create(&config, why, sizeof(why));
	if (!module)
		return fprintf(stderr, "%s\n", why), 1;
	step("build a TD", build(), 0);
	step("PAGE.AUG", call(1, TDH_MEM_PAGE_AUG, GPA, TDR, PAGE), 0);
	step("VP.ENTER on LP 0", call(0, TDH_VP_ENTER, VCPU, 0, 0), 0);
	tdx_module_tdcall(module, 0, &guest, &exit);
	step("  guest: PAGE.ACCEPT", guest.regs.rax, 0);
	step("RANGE.BLOCK on LP 1", call(1, TDH_MEM_RANGE_BLOCK, GPA, TDR, 0), 0);
	step("TRACK", call(1, TDH_MEM_TRACK, TDR, 0, 0), 0);
	step("PAGE.REMOVE, the guest still runs", call(1, TDH_MEM_PAGE_REMOVE, GPA, TDR, 0),
	     TDX_TLB_TRACKING_NOT_DONE | TDX_OPERAND_RCX);
	tdx_module_vmexit(module, 0, &kick, &guest, &exit);
	step("  guest: leaves by interrupt", exit.rax, TDX_EXIT_INTERRUPT);
	step("PAGE.REMOVE", call(1, TDH_MEM_PAGE_REMOVE, GPA, TDR, 0), 0);
	step("PHYMEM.PAGE.WBINVD", call(1, TDH_PHYMEM_PAGE_WBINVD, PAGE | HKID << 46, 0, 0), 0);
	tdx_module_host_write_lines(module, PAGE, NULL, 4096); /* the page is the host's again */
	tdx_module_destroy(module);
	return nr_wrong != 0;
}
