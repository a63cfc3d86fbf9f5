// SPDX-License-Identifier: BSD-2-Clause
/* From a TD exit to the fault that it asks the library to handle. Makes no call. */
#include "tdx/host/internal.h"

#define QUALIFICATION_FETCH (1ull << 2) /* SDM, exit qualification for EPT violations */

static int private_fault(const struct tdx_td *td, const struct tdx_regs *exit,
			 struct tpt_fault *fault)
{
	unsigned int type = exit->rdx & 0xf;

	fault->error_code = TPT_PFERR_WRITE | TPT_PFERR_PRIVATE;
	if (type == TDX_EEQ_PENDING) {
		host_log(td->host, TPT_LOG_ERROR,
			 "the guest touched private gpa 0x%llx before it accepted it",
			 (unsigned long long)exit->r8);
		return -EACCES;
	}
	/* The level of an ACCEPT caps the fault: a larger page that is there is split. */
	if (type == TDX_EEQ_ACCEPT)
		fault->max_level = (enum tpt_level)(tdx_eeq_requested_level(exit->rdx) + 1);
	return 0;
}

int tdx_exit_fault(const struct tdx_td *td, const struct tdx_regs *exit, struct tpt_fault *fault)
{
	uint32_t reason = (uint32_t)exit->rax;

	*fault = (struct tpt_fault){.gpa = tpt_gpa_make(exit->r8)};
	if (tdx_exit_classify(exit->rax) != TDX_ENTER_EXIT)
		return -EINVAL;
	if (reason == TDX_EXIT_EPT_MISCONFIG) {
		fault->error_code = TPT_PFERR_EPT_MISCONFIG;
		return 0;
	}
	if (reason != TDX_EXIT_EPT_VIOLATION)
		return -EINVAL;
	if (!(exit->r8 >> td->shared_bit & 1))
		return private_fault(td, exit, fault);
	if (exit->rcx & QUALIFICATION_FETCH) {
		host_log(td->host, TPT_LOG_ERROR, "the guest fetches from shared gpa 0x%llx",
			 (unsigned long long)exit->r8);
		return -EINVAL;
	}
	fault->error_code = tpt_pferr_from_ept(exit->rcx);
	return 0;
}
