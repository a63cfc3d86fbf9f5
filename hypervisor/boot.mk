# SPDX-License-Identifier: BSD-2-Clause
# The target that boots a guest under the hypervisor; part of the Makefile. What it is told (MODE= VCPUS= GUEST=
# and so on, `hypervisor/boot --help`) reaches the script through the environment, as make hands down what stands
# on its command line.

.PHONY: boot
boot:                                              ## boot Debian's kernel on the MMU, in QEMU; GUEST= MODE= VCPUS=
	@.ci/deps boot '$(CC)'
	@$(MAKE) --no-print-directory $(BUILD)/hypervisor.elf
	@CC='$(CC)' BUILD='$(BUILD)' hypervisor/boot
