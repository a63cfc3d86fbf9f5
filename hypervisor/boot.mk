# SPDX-License-Identifier: BSD-2-Clause
# The target that boots a guest under the hypervisor; part of the Makefile. What it is told (MODE= VCPUS= GUEST=
# and so on, `hypervisor/boot --help`) reaches the script through the environment, as make hands down what stands
# on its command line.

.PHONY: boot check-boot
boot:                                              ## boot Debian's kernel on the MMU, in QEMU; GUEST= MODE= VCPUS=
	@.ci/deps boot '$(CC)'
	@$(MAKE) --no-print-directory $(BUILD)/hypervisor.elf $(BUILD)/guest.elf
	@CC='$(CC)' BUILD='$(BUILD)' hypervisor/boot

# Not a part of `check`: it takes minutes, and QEMU.
check-boot:                                        ## boot every guest in every mode, as tests
	@.ci/deps boot '$(CC)'
	@$(MAKE) --no-print-directory $(BUILD)/hypervisor.elf $(BUILD)/guest.elf $(BUILD)/guest.flat
	@BUILD='$(BUILD)' tests/boot/run
