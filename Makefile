# SPDX-License-Identifier: BSD-2-Clause
# Builds Triptych: the library, the models, the command and the tests. `make help` lists the targets.

VERSION   := 0.1.0
SOVERSION := 0

PREFIX    ?= /usr/local
DESTDIR   ?=
CFLAGS    ?= -O2 -g
SAN       ?=
BUILD     ?= build$(if $(SAN),/$(SAN))
ifeq ($(origin CC),default)
CC        := gcc
endif
AR        ?= ar
LD        ?= ld
NM        ?= nm
OBJCOPY   ?= objcopy

# All processors, unless told otherwise.
ifeq ($(MAKELEVEL)$(filter -j% --jobs%,$(MAKEFLAGS)),0)
MAKEFLAGS += -j$(shell nproc)
endif

# V=1 shows the commands whole.
Q         := $(if $(V),,@)
say        = $(if $(V),,@echo '  $(1) $@')

WARN      := -std=c11 -Wall -Wextra -Werror
INC       := -I. -Iinclude
HOST_CF   := -D_GNU_SOURCE -DTRIPTYCH_VERSION='"$(VERSION)"'
# What runs in a process is what runs on bare metal: no libc, no red zone, no vector registers.
CORE_CF   := -ffreestanding -mno-red-zone -mgeneral-regs-only -fno-stack-protector
# Probes for tracers, where the compiler finds what they are made with. USDT= builds without.
ifeq ($(origin USDT),undefined)
USDT      := $(shell printf '\043include <sys/sdt.h>\n' | $(CC) $(CFLAGS) -E -x c - >/dev/null 2>&1 && echo 1)
endif
CORE_CF   += $(if $(USDT),-DTPT_USDT)
PIC_CF    := -fPIC
# An image of its own, for no operating system: addresses are fixed, nothing is unwound.
METAL_CF  := $(CORE_CF) -fno-pie -fcf-protection=none -fno-asynchronous-unwind-tables
POSIX_LIB := -lpthread
LIBS      := $(POSIX_LIB) -lcrypto -llzma -lz -lzstd -lm

# SAN=asan or SAN=tsan: everything under a sanitizer, in a build directory of its own.
SAN_CF_asan := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
SAN_CF_tsan := -fsanitize=thread
SAN_CF      := $(SAN_CF_$(SAN))
ifneq ($(SAN),)
ifeq ($(SAN_CF),)
$(error SAN=$(SAN): there is asan and there is tsan)
endif
endif
ALL_CF    := $(CFLAGS) $(SAN_CF)

# ---- sources -------------------------------------------------------------------------------------

CORE_SRC    := $(sort $(shell find mmu -name '*.c'))
BARE_SRC    := $(sort $(wildcard platform/bare/*.c))
POSIX_SRC   := $(sort $(wildcard platform/posix/*.c))
MACHINE_SRC := $(sort $(wildcard machine/*.c))
MODULE_SRC  := $(sort $(wildcard tdx/module/*.c))
HOST_SRC    := $(sort $(wildcard tdx/host/*.c))
CLI_SRC     := $(sort $(wildcard cli/*.c))
BENCH_SRC   := $(sort $(wildcard bench/*.c))
EXAMPLE_SRC := $(sort $(wildcard examples/*.c))
# ThreadSanitizer has something to say only about the tests that make threads.
TEST_SRC    := $(sort $(wildcard tests/*/test_*.c))
ifeq ($(SAN),tsan)
TEST_SRC    := $(shell grep -l 'pthread_create' $(TEST_SRC))
endif
# The counting build takes the sanitizer's place: see below.
ifneq ($(SAN),)
TEST_SRC    := $(filter-out tests/lines/%,$(TEST_SRC))
endif
HEADERS     := $(sort $(wildcard include/triptych/*.h))
# What runs on no operating system: the hypervisor and its test guest, built by rules of their own.
METAL_C     := $(sort $(wildcard hypervisor/*.c tests/boot/guest/*.c))
# What the style and the linters are about.
OUR_C       := $(CORE_SRC) $(BARE_SRC) $(POSIX_SRC) $(MACHINE_SRC) $(MODULE_SRC) $(HOST_SRC) $(CLI_SRC) $(BENCH_SRC) \
	       $(EXAMPLE_SRC) $(sort $(wildcard tests/*/*.c)) $(METAL_C) $(sort $(wildcard hypervisor/user/*.c))
OUR_H       := $(sort $(shell find include mmu machine tdx platform hypervisor cli bench tests -name '*.h'))

obj         = $(patsubst %.c,$(BUILD)/$(1)/%.o,$(2))
CORE_OBJ    := $(call obj,core,$(CORE_SRC))
CORE_PIC    := $(call obj,core-pic,$(CORE_SRC))
BARE_OBJ    := $(call obj,core,$(BARE_SRC))
BARE_PIC    := $(call obj,core-pic,$(BARE_SRC))
POSIX_OBJ   := $(call obj,host,$(POSIX_SRC))
POSIX_PIC   := $(call obj,host-pic,$(POSIX_SRC))
MODULE_OBJ  := $(call obj,host,$(MODULE_SRC))
OTHER_OBJ   := $(call obj,host,$(MACHINE_SRC) $(HOST_SRC) $(BENCH_SRC) $(filter-out cli/main.c,$(CLI_SRC)))
MAIN_OBJ    := $(call obj,host,cli/main.c)
TEST_OBJ    := $(call obj,host,$(TEST_SRC))
EXAMPLE_OBJ := $(call obj,host,$(EXAMPLE_SRC))
TESTS       := $(patsubst %.c,$(BUILD)/%,$(TEST_SRC))
EXAMPLES    := $(patsubst %.c,$(BUILD)/%,$(EXAMPLE_SRC))

# The counting build: the library and what calls it, each store and load recorded by tests/lines/lines.c.
LINES_CF    := -fsanitize=thread -fno-builtin
LINES_OBJ   := $(call obj,lines-core,$(CORE_SRC)) $(call obj,host,tests/lines/lines.c) \
	       $(call obj,lines-host,$(POSIX_SRC) tests/lines/world.c tests/lines/test_lines.c)

PARTS    := $(BUILD)/parts.a
TRIPTYCH := $(BUILD)/triptych
LIB_A    := $(BUILD)/libtriptych.a
LIB_SO   := $(BUILD)/libtriptych.so
MODULE_A := $(if $(MODULE_SRC),$(BUILD)/libtdxmodule.a)

# ---- what there is to make -----------------------------------------------------------------------

.PHONY: all lib deps deps-lint check check-built run bench bench-instr bench-plots bench-doc fmt lint lint-format \
	lint-tidy lint-cppcheck install uninstall clean help FORCE
.DELETE_ON_ERROR:

# A sanitizer's runtime comes with the program, so its libraries are not for installing.
all: $(TRIPTYCH) $(if $(SAN),,lib)                 ## the command and the libraries (default)
lib: $(LIB_A) $(LIB_SO) $(MODULE_A)                ## libtriptych.a, libtriptych.so, libtdxmodule.a

deps:                                              ## install what building needs (Debian)
	@.ci/deps build $(CC)
deps-lint:
	@.ci/deps lint

# The set-up may change what the sources can be built with, so building starts afresh after it.
check: deps                                        ## build and run all tests; SAN=asan, SAN=tsan
	@$(MAKE) --no-print-directory check-built
# The hypervisor is only built here: `check-boot` boots it.
check-built: all $(TESTS) $(EXAMPLES) $(if $(SAN),,$(BUILD)/hypervisor.elf $(BUILD)/guest.elf)
	@BUILD=$(BUILD) SAN=$(SAN) NM=$(NM) tests/run.sh $(TESTS) \
		$(if $(SAN),,--check tests/check_symbols.sh --check tests/check_rooms.sh \
			--check tests/check_readme.sh --check tests/check_usdt.sh) \
		$(addprefix --check ,$(EXAMPLES))

TRACE := traces/kvm-npt-linux-boot-4k.txt.xz
SLOTS := traces/qemu-pc-256m.slots
run: deps                                          ## replay the boot trace as NPT and as a TD
	@$(MAKE) --no-print-directory $(TRIPTYCH)
	$(TRIPTYCH) replay $(TRACE) --slots $(SLOTS) --vm npt --compare
	$(TRIPTYCH) replay $(TRACE) --slots $(SLOTS) --vm td --report $(BUILD)/report.html

bench: deps                                        ## time every operation beside its floor
	@$(MAKE) --no-print-directory $(TRIPTYCH)
	$(TRIPTYCH) bench --save $(BUILD)/bench.json $(addprefix --counts ,$(wildcard $(BUILD)/counts))

# Guest memory of an operation, MiB: what is done once a table is a 512th of a page's already.
INSTR_MIB := 32
bench-instr:                                       ## count instructions, hold them against budgets
	@.ci/deps bench
	@$(MAKE) --no-print-directory $(TRIPTYCH)
	bench/instr $(TRIPTYCH) $(BUILD)/counts --size $(INSTR_MIB)
	@bench/check bench/budgets $(BUILD)/counts

# Of the last run of both; what is missing is run, and a budget that is passed stops no picture.
PLOTS := $(BUILD)/plots
bench-plots:                                       ## pictures of what was timed and counted
	@[ -e $(BUILD)/counts ] || $(MAKE) --no-print-directory bench-instr || true
	@[ -e $(BUILD)/bench.json ] || $(MAKE) --no-print-directory bench
	@$(MAKE) --no-print-directory $(TRIPTYCH)
	@mkdir -p $(PLOTS)
	$(TRIPTYCH) bench --plot $(PLOTS) --from $(BUILD)/bench.json --peers bench/peers

# All of it anew, into what is committed.
bench-doc:                                         ## renew docs/performance.md and its pictures
	@.ci/deps bench
	@$(MAKE) --no-print-directory $(TRIPTYCH) $(BUILD)/tests/lines/test_lines
	bench/instr $(TRIPTYCH) $(BUILD)/counts --size $(INSTR_MIB)
	$(TRIPTYCH) bench --save $(BUILD)/bench.json --counts $(BUILD)/counts >$(BUILD)/bench.txt
	@$(MAKE) --no-print-directory bench-plots PLOTS=docs/plots
	cp $(BUILD)/bench.json docs/plots/bench.json
	bench/doc $(BUILD)

fmt:                                               ## put every source into the house's style
	clang-format -i $(OUR_C) $(OUR_H)

lint: deps-lint                                    ## style, clang-tidy and cppcheck, all at zero
	@$(MAKE) --no-print-directory -k lint-format lint-tidy lint-cppcheck
lint-format:
	@clang-format --dry-run -Werror $(OUR_C) $(OUR_H)
# One file a run: this clang-tidy tells a failure of one among many only in its text.
lint-tidy: $(addprefix $(BUILD)/tidy/,$(OUR_C:.c=.ok))
# ctuuninitvar takes a structure that a function fills, array first, for one that it reads.
lint-cppcheck:
	@cppcheck --quiet --std=c11 --error-exitcode=1 --inline-suppr \
		--enable=warning,performance,portability --suppress=missingIncludeSystem \
		--suppress=ctuuninitvar -D__x86_64__ $(INC) $(OUR_C)

clean:                                             ## remove all that was built
	rm -rf $(BUILD)

help:                                              ## this list
	@echo 'Targets:'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile hypervisor/boot.mk | expand -t 12
	@echo 'Variables: CC CFLAGS V=1 SAN=asan|tsan BUILD PREFIX DESTDIR'
	@echo 'One test:  make build/tests/ROOM/test_WHAT'

# ---- objects -------------------------------------------------------------------------------------

# Another compiler or other flags: everything is built again.
BUILT_WITH := $(CC) $(ALL_CF) $(if $(USDT),-DTPT_USDT) $(VERSION)
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(BUILT_WITH)' | cmp -s - $@ || echo '$(BUILT_WITH)' > $@

define compile
$(BUILD)/$(1)/%.o: %.c $(BUILD)/flags
	@mkdir -p $$(@D)
	$$(call say,CC )
	$(Q)$(CC) $(WARN) $(ALL_CF) $(2) $(INC) -MMD -MP -c $$< -o $$@
endef
$(eval $(call compile,core,$(CORE_CF)))
$(eval $(call compile,core-pic,$(CORE_CF) $(PIC_CF)))
$(eval $(call compile,host,$(HOST_CF)))
$(eval $(call compile,host-pic,$(HOST_CF) $(PIC_CF)))
$(eval $(call compile,lines-core,$(CORE_CF) $(LINES_CF)))
$(eval $(call compile,lines-host,$(HOST_CF) $(LINES_CF)))
# Whether instructions can be counted depends on a header that may come later.
CALLGRIND_H := $(wildcard /usr/include/valgrind/callgrind.h)
$(BUILD)/callgrind: FORCE
	@mkdir -p $(@D)
	@echo '$(CALLGRIND_H)' | cmp -s - $@ || echo '$(CALLGRIND_H)' > $@
$(BUILD)/host/bench/run.o: $(BUILD)/callgrind
# The report's page is taken in as it is, which the compiler doesn't tell of.
$(BUILD)/host/cli/report_page.o: $(wildcard cli/report_page.*)
.SECONDARY: $(TEST_OBJ) $(EXAMPLE_OBJ)

$(BUILD)/tidy/%.ok: %.c .clang-tidy $(OUR_H)
	@mkdir -p $(@D)
	$(call say,TIDY)
	$(Q)clang-tidy --quiet --warnings-as-errors='*' $< -- \
		$(WARN) $(if $(filter $(CORE_SRC) $(BARE_SRC) $(METAL_C),$<),$(CORE_CF),$(HOST_CF)) $(INC)
	@touch $@

# ---- libraries and programs ----------------------------------------------------------------------

# Everything with every name visible, for our own programs and tests.
$(PARTS): $(CORE_OBJ) $(BARE_OBJ) $(POSIX_OBJ) $(MODULE_OBJ) $(OTHER_OBJ)
	@rm -f $@
	$(call say,AR )
	$(Q)$(AR) rcs $@ $^

# One object in which only names of these patterns can be seen from outside.
define seal
$(call say,LD )
$(Q)$(LD) -r -o $@ $(2)
$(Q)$(OBJCOPY) --wildcard $(patsubst %,--keep-global-symbol='%',$(1)) $@
endef
$(BUILD)/triptych-core.o: $(CORE_OBJ) Makefile
	$(call seal,tpt_*,$(filter %.o,$^))
$(BUILD)/triptych-bare.o: $(BARE_OBJ) Makefile
	$(call seal,tpt_*,$(filter %.o,$^))
$(BUILD)/triptych-posix.o: $(POSIX_OBJ) Makefile
	$(call seal,tpt_*,$(filter %.o,$^))
$(BUILD)/tdxmodule.o: $(MODULE_OBJ) Makefile
	$(call seal,tdx_module_* tdx_memory_*,$(filter %.o,$^))
$(LIB_A): $(BUILD)/triptych-core.o $(BUILD)/triptych-bare.o $(BUILD)/triptych-posix.o
	@rm -f $@
	$(call say,AR )
	$(Q)$(AR) rcs $@ $^

$(BUILD)/exports: Makefile
	@mkdir -p $(@D)
	@echo 'TRIPTYCH_$(SOVERSION) { global: tpt_*; local: *; };' > $@
$(LIB_SO): $(CORE_PIC) $(BARE_PIC) $(POSIX_PIC) $(BUILD)/exports
	$(call say,LD )
	$(Q)$(CC) $(ALL_CF) -shared -Wl,-soname,libtriptych.so.$(SOVERSION) -Wl,-z,defs -Wl,-Bsymbolic \
		-Wl,--version-script=$(BUILD)/exports $(CORE_PIC) $(BARE_PIC) $(POSIX_PIC) $(POSIX_LIB) -o $@

$(BUILD)/libtdxmodule.a: $(BUILD)/tdxmodule.o
	@rm -f $@
	$(call say,AR )
	$(Q)$(AR) rcs $@ $^

$(TRIPTYCH): $(MAIN_OBJ) $(PARTS)
	$(call say,LD )
	$(Q)$(CC) $(ALL_CF) $^ $(LIBS) -o $@
$(BUILD)/tests/%: $(BUILD)/host/tests/%.o $(PARTS)
	@mkdir -p $(@D)
	$(call say,LD )
	$(Q)$(CC) $(ALL_CF) $^ -lcmocka $(LIBS) -o $@
$(BUILD)/tests/lines/test_lines: $(LINES_OBJ)
	@mkdir -p $(@D)
	$(call say,LD )
	$(Q)$(CC) $(ALL_CF) -Wl,--wrap=memcpy,--wrap=memmove,--wrap=memset $^ -lcmocka \
		$(POSIX_LIB) -o $@
# An example has what an embedder has: the public headers and the archives.
$(BUILD)/examples/%: $(BUILD)/host/examples/%.o $(LIB_A) $(MODULE_A)
	@mkdir -p $(@D)
	$(call say,LD )
	$(Q)$(CC) $(ALL_CF) $^ $(POSIX_LIB) -lcrypto -o $@

# ---- bare metal ----------------------------------------------------------------------------------

include hypervisor/rules.mk
include hypervisor/boot.mk
include tests/boot/guest/rules.mk

# ---- installation --------------------------------------------------------------------------------

D_BIN := $(DESTDIR)$(PREFIX)/bin
D_LIB := $(DESTDIR)$(PREFIX)/lib
D_INC := $(DESTDIR)$(PREFIX)/include/triptych
D_TDX := $(DESTDIR)$(PREFIX)/include/tdx

install: all                                       ## into DESTDIR/PREFIX
	install -d $(D_BIN) $(D_LIB)/pkgconfig $(D_INC) $(D_TDX)/module
	install -m 755 $(TRIPTYCH) $(D_BIN)/triptych
	install -m 644 $(LIB_A) $(D_LIB)/libtriptych.a
	install -m 755 $(LIB_SO) $(D_LIB)/libtriptych.so.$(VERSION)
	ln -sf libtriptych.so.$(VERSION) $(D_LIB)/libtriptych.so.$(SOVERSION)
	ln -sf libtriptych.so.$(SOVERSION) $(D_LIB)/libtriptych.so
	install -m 644 $(HEADERS) $(D_INC)
	install -m 644 $(MODULE_A) $(D_LIB)/libtdxmodule.a
	install -m 644 tdx/port.h tdx/seamcall.h $(D_TDX)
	install -m 644 tdx/module/memory.h tdx/module/module.h $(D_TDX)/module
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' triptych.pc.in \
		> $(D_LIB)/pkgconfig/triptych.pc
	chmod 644 $(D_LIB)/pkgconfig/triptych.pc

uninstall:                                         ## from DESTDIR/PREFIX
	rm -f $(D_BIN)/triptych $(D_LIB)/libtriptych.a $(D_LIB)/libtriptych.so* \
		$(D_LIB)/pkgconfig/triptych.pc $(addprefix $(D_INC)/,$(notdir $(HEADERS))) \
		$(D_LIB)/libtdxmodule.a $(D_TDX)/port.h $(D_TDX)/seamcall.h \
		$(D_TDX)/module/memory.h $(D_TDX)/module/module.h
	-rmdir $(D_INC) $(D_TDX)/module $(D_TDX)

-include $(patsubst %.o,%.d,$(CORE_OBJ) $(CORE_PIC) $(BARE_OBJ) $(BARE_PIC) $(POSIX_OBJ) $(POSIX_PIC) $(MODULE_OBJ) \
	$(OTHER_OBJ) $(MAIN_OBJ) $(TEST_OBJ) $(EXAMPLE_OBJ) $(LINES_OBJ))
