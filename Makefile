# SPDX-License-Identifier: BSD-2-Clause
# Builds Triptych: the library, the models, the command and the tests. `make help` lists the targets.

CC        ?= gcc
AR        ?= ar
BUILD     ?= build
CFLAGS    ?= -O2 -g
WARN      := -std=c11 -Wall -Wextra -Werror
INC       := -I. -Iinclude
CORE_CF   := -ffreestanding -mno-red-zone -mgeneral-regs-only -fvisibility=hidden
HOST_CF   := -D_GNU_SOURCE
LIBS      := -lurcu-memb -lurcu-common -lcrypto -llzma -lz -lzstd -lpthread
DEPS       = -MMD -MP

CORE_SRC    := $(sort $(shell find mmu -name '*.c' 2>/dev/null))
POSIX_SRC   := $(sort $(wildcard platform/posix/*.c))
MACHINE_SRC := $(sort $(wildcard machine/*.c))
MODULE_SRC  := $(sort $(wildcard tdx/module/*.c))
HOST_SRC    := $(sort $(wildcard tdx/host/*.c))
CLI_SRC     := $(sort $(wildcard cli/*.c))
TEST_SRC    := $(sort $(wildcard tests/*/test_*.c))

objs = $(patsubst %.c,$(BUILD)/$(2)/%.o,$(1))
CORE_OBJ := $(call objs,$(CORE_SRC),core)
LIB_OBJ  := $(call objs,$(POSIX_SRC) $(MACHINE_SRC) $(MODULE_SRC) $(HOST_SRC),host)
CLI_OBJ  := $(call objs,$(CLI_SRC),host)
TESTS    := $(patsubst %.c,$(BUILD)/%,$(TEST_SRC))

$(BUILD)/core/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(WARN) $(CFLAGS) $(CORE_CF) $(INC) $(DEPS) -c $< -o $@
$(BUILD)/host/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(WARN) $(CFLAGS) $(HOST_CF) $(INC) $(DEPS) -c $< -o $@

$(BUILD)/parts.a: $(LIB_OBJ) $(CORE_OBJ) $(filter-out $(BUILD)/host/cli/main.o,$(CLI_OBJ))
	@rm -f $@
	$(AR) rcs $@ $^
$(BUILD)/triptych: $(BUILD)/host/cli/main.o $(BUILD)/parts.a
	$(CC) $(CFLAGS) $^ $(LIBS) -o $@
$(BUILD)/tests/%: $(BUILD)/host/tests/%.o $(BUILD)/parts.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $^ -lcmocka $(LIBS) -o $@

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
