# SPDX-License-Identifier: BSD-2-Clause
# Builds the hypervisor: the archive's own core and platform, and the files of this directory. Included
# by the Makefile.

HV_C      := $(sort $(wildcard hypervisor/*.c))
HV_S      := $(sort $(wildcard hypervisor/*.S))
HV_OBJ    := $(patsubst %,$(BUILD)/%.o,$(HV_C) $(HV_S))
HYPERVISOR := $(BUILD)/hypervisor.elf

$(BUILD)/hypervisor/%.c.o: hypervisor/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC )
	$(Q)$(CC) $(WARN) $(CFLAGS) $(METAL_CF) $(INC) -MMD -MP -c $< -o $@
$(BUILD)/hypervisor/%.S.o: hypervisor/%.S $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,AS )
	$(Q)$(CC) $(METAL_CF) $(INC) -MMD -MP -c $< -o $@

# A multiboot loader takes 32-bit ELF; what is in it is 64-bit code all the same.
$(HYPERVISOR): $(HV_OBJ) $(LIB_A) hypervisor/hypervisor.ld
	$(call say,LD )
	$(Q)$(LD) -nostdlib -static -no-pie -z noexecstack --no-warn-rwx-segments -z max-page-size=4096 \
		-T hypervisor/hypervisor.ld $(HV_OBJ) $(LIB_A) -o $@.64
	$(Q)$(OBJCOPY) -O elf32-i386 $@.64 $@

-include $(HV_OBJ:.o=.d)
