# SPDX-License-Identifier: BSD-2-Clause
# The guest that tests/boot runs, on the bare machine and on the hypervisor; included by the Makefile.

GUEST_DIR := tests/boot/guest
GUEST_OBJ := $(patsubst $(GUEST_DIR)/%,$(BUILD)/guest/%.o,$(basename \
	     $(sort $(wildcard $(GUEST_DIR)/*.c $(GUEST_DIR)/*.S))))

# No sanitizer: it has no runtime here.
$(BUILD)/guest/%.o: $(GUEST_DIR)/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC )
	$(Q)$(CC) $(WARN) $(CFLAGS) $(METAL_CF) -I. -MMD -MP -c $< -o $@
$(BUILD)/guest/%.o: $(GUEST_DIR)/%.S $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,AS )
	$(Q)$(CC) $(CFLAGS) $(METAL_CF) -I. -MMD -MP -c $< -o $@

$(BUILD)/guest/guest.elf64: $(GUEST_OBJ) $(GUEST_DIR)/guest.ld
	$(call say,LD )
	$(Q)$(LD) -nostdlib -static -no-pie -z max-page-size=4096 -z noexecstack --no-warn-rwx-segments \
		-T $(GUEST_DIR)/guest.ld -o $@ $(GUEST_OBJ)
# A multiboot loader takes 32-bit ELF only.
$(BUILD)/guest.elf: $(BUILD)/guest/guest.elf64
	$(call say,ELF)
	$(Q)$(OBJCOPY) -O elf32-i386 $< $@

-include $(GUEST_OBJ:.o=.d)

# No ELF at all: the addresses are in the multiboot header.
$(BUILD)/guest.flat: tests/boot/flat.S
	@mkdir -p $(BUILD)/guest
	$(call say,AS )
	$(Q)$(CC) -m32 -c $< -o $(BUILD)/guest/flat.o
	$(Q)$(LD) -m elf_i386 -Ttext=0x100000 -Tbss=0x101000 -e entry $(BUILD)/guest/flat.o -o $(BUILD)/guest/flat.elf
	$(Q)$(OBJCOPY) -O binary -j .text $(BUILD)/guest/flat.elf $@
