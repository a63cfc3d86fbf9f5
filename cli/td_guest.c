// SPDX-License-Identifier: BSD-2-Clause
/*
 * The guest's half of a TD, as an operating system in it has it: what is done about a #VE, and how
 * pages change sides. Speaks to the module by TDCALL only; never to the host behind its back.
 */
#include "cli/td_internal.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>

/* #VEs that one access may take: not accepted, then at most as often again as a host can remove
 * the page under it. */
#define VE_TRIES 64
/* Tries while another vCPU is accepting the same page. */
#define ACCEPT_TRIES 100000
#define BLOCK_BYTES  (2ull << 20)
/* Answers "again from the same address" before the guest gives up. */
#define MAP_TRIES 1000

/* One TDCALL that must complete. */
static int call(struct simtd *td, unsigned int vcpu, struct tdx_regs *regs)
{
	int ret = simtd_call(td, vcpu, regs);

	return ret > 0 ? -EPROTO : ret;
}

/* One ACCEPT at a level as the module counts it. 1: there are smaller pages. */
static int accept_at(struct simtd *td, unsigned int vcpu, uint64_t gpa, unsigned int level)
{
	for (unsigned int i = 0; i < ACCEPT_TRIES; i++) {
		struct tdx_regs regs = {
			.rax = TDG_MEM_PAGE_ACCEPT,
			.rcx = tdx_page_info(gpa, level),
		};
		int err = call(td, vcpu, &regs);

		if (err)
			return err;
		switch (regs.rax & TDX_STATUS_MASK) {
		case TDX_SUCCESS:
		case TDX_PAGE_ALREADY_ACCEPTED:
			return 0;
		case TDX_PAGE_SIZE_MISMATCH:
			return 1;
		case TDX_OPERAND_BUSY:
			sched_yield();
			continue;
		default:
			return -EPROTO;
		}
	}
	return -EBUSY;
}

/* The guest's record of the block around @gpa; NULL: not all of it is memory. */
static _Atomic uint8_t *record_of(struct simtd *td, uint64_t gpa)
{
	uint64_t block = gpa & ~(BLOCK_BYTES - 1);
	struct simtd_slot *s = simtd_find_slot(td, block, BLOCK_BYTES);

	return s ? &s->converted[block / BLOCK_BYTES - s->gpa / BLOCK_BYTES] : NULL;
}

/* Accepts the page, and with it all of its block if it never was anything else. */
static int accept_page(struct simtd *td, unsigned int vcpu, uint64_t gpa)
{
	const _Atomic uint8_t *record = record_of(td, gpa);
	int ret = 1;

	if (td->config.private_level >= TPT_LEVEL_2M && record && !atomic_load(record))
		ret = accept_at(td, vcpu, gpa & ~(BLOCK_BYTES - 1), 1);
	if (ret == 1)
		ret = accept_at(td, vcpu, gpa, 0);
	return ret > 0 ? -EPROTO : ret;
}

/* The guest is about to change what a part of these blocks is. */
static void note_conversion(struct simtd *td, uint64_t gpa, uint64_t size)
{
	for (uint64_t at = gpa & ~(BLOCK_BYTES - 1); at < gpa + size; at += BLOCK_BYTES) {
		_Atomic uint8_t *record = record_of(td, at);

		if (record)
			atomic_store(record, 1);
	}
}

int simtd_guest_accept(struct simtd *td, unsigned int vcpu, uint64_t gpa, uint64_t size)
{
	int err = 0;

	if ((gpa | size) % TD_PAGE || gpa & td->shared)
		return -EINVAL;
	for (uint64_t at = gpa; !err && at < gpa + size; at += TD_PAGE)
		err = accept_page(td, vcpu, at);
	return err;
}

/* TDG.VP.VMCALL with R11 to R15 from *regs; R10 and R11 of the answer in it. */
static int vmcall(struct simtd *td, unsigned int vcpu, struct tdx_regs *regs)
{
	int err;

	regs->rax = TDG_VP_VMCALL;
	regs->rcx = GHCI_REGISTERS;
	regs->r10 = 0;
	err = call(td, vcpu, regs);
	if (!err && regs->rax != TDX_SUCCESS)
		err = -EPROTO;
	return err;
}

static unsigned int mmio_size(const struct simtd_access *a)
{
	return a->buf && (a->len == 1 || a->len == 2 || a->len == 8) ? (unsigned int)a->len : 4;
}

static void put_bytes(void *buf, uint64_t value, size_t len)
{
	for (size_t i = 0; i < len && i < sizeof(value); i++)
		((uint8_t *)buf)[i] = (uint8_t)(value >> 8 * i);
}

static uint64_t get_bytes(const void *buf, size_t len)
{
	uint64_t value = 0;

	for (size_t i = 0; i < len && i < sizeof(value); i++)
		value |= (uint64_t)((const uint8_t *)buf)[i] << 8 * i;
	return value;
}

static int do_mmio(struct simtd *td, unsigned int vcpu, const struct simtd_access *a)
{
	unsigned int size = mmio_size(a);
	bool write = a->kind & MACHINE_WRITE;
	struct tdx_regs regs = {
		.r11 = GHCI_REQUEST_MMIO,
		.r12 = size,
		.r13 = write,
		.r14 = a->gpa,
		.r15 = write && a->buf ? get_bytes(a->buf, size) : 0,
	};
	int err = vmcall(td, vcpu, &regs);

	if (err)
		return err;
	if (regs.r10 != GHCI_SUCCESS)
		return -EPROTO;
	if (!write && a->buf)
		put_bytes(a->buf, regs.r11, size);
	return TD_MMIO;
}

/* TD_TOUCHED: make the access again. */
static int handle_ve(struct simtd *td, unsigned int vcpu, const struct simtd_access *a)
{
	struct tdx_regs regs = {.rax = TDG_VP_VEINFO_GET};
	int err = call(td, vcpu, &regs);

	if (err)
		return err;
	/* RCX: exit reason; R9: the address, shared bit included. */
	if (regs.rax != TDX_SUCCESS || regs.rcx != TDX_EXIT_EPT_VIOLATION)
		return -EPROTO;
	if ((regs.r9 ^ a->gpa) / TD_PAGE)
		return -EPROTO;
	if (regs.r9 & td->shared)
		return do_mmio(td, vcpu, a);
	return accept_page(td, vcpu, regs.r9 & ~(TD_PAGE - 1));
}

int simtd_guest_touch(struct simtd *td, unsigned int vcpu, const struct simtd_access *access)
{
	for (unsigned int i = 0; i < VE_TRIES; i++) {
		int ret = simtd_access(td, vcpu, access);

		if (ret <= 0)
			return ret ? ret : TD_TOUCHED;
		if (simtd_vector(td, vcpu) != TD_VECTOR_VE)
			return -EPROTO;
		ret = handle_ve(td, vcpu, access);
		if (ret)
			return ret;
	}
	return -EBUSY;
}

int simtd_guest_map_gpa(struct simtd *td, unsigned int vcpu, uint64_t gpa, uint64_t size,
			bool private_)
{
	uint64_t at = private_ ? gpa : gpa | td->shared, end = at + size;

	note_conversion(td, gpa, size);
	for (unsigned int stuck = 0; stuck < simtd_tries(td, MAP_TRIES);) {
		struct tdx_regs regs = {.r11 = GHCI_MAP_GPA, .r12 = at, .r13 = end - at};
		int err = vmcall(td, vcpu, &regs);

		if (err)
			return err;
		if (regs.r10 == GHCI_SUCCESS)
			return 0;
		if (regs.r10 != GHCI_RETRY)
			return -EINVAL;
		/* R11: where to go on, in the form of R12. A host that goes back is not believed.
		 */
		if (regs.r11 < at || regs.r11 >= end)
			return -EPROTO;
		stuck = regs.r11 == at ? stuck + 1 : 0;
		at = regs.r11;
	}
	return -EBUSY;
}
