/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the hypervisor's files share. One machine, one guest: the globals here are the hypervisor's,
 * the library has none.
 */
#ifndef HYPERVISOR_HV_H
#define HYPERVISOR_HV_H

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <triptych/bare.h>
#include <triptych/triptych.h>

#include "hypervisor/cpu.h"
#include "hypervisor/svm.h"

#define KIB 1024ul
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

/* errno values, as in the library's answers */
#define ERR_IO	  5
#define ERR_AGAIN 11
#define ERR_NOMEM 12
#define ERR_BUSY  16
#define ERR_INVAL 22
#define ERR_NOSYS 38

/* ---- string.c: what a compiler calls on its own, and a little more ---- */
void *memcpy(void *to, const void *from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes);
void *memset(void *to, int byte, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);
size_t strlen(const char *s);
bool str_starts(const char *s, const char *prefix);
/* Decimal or 0x; *end behind it. */
uint64_t str_number(const char *s, const char **end);

/* ---- console.c: COM2, which is not the guest's ---- */
void console_init(void);
/* A line or more: %s %c %d %u %x with l, width and 0. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Says why, and ends the machine with a bad result. */
void panic(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* ---- options.c: the words before " -- " on the command line ---- */
struct options {
	enum tpt_level level;			/* largest leaf */
	uint32_t dirty, age, split, zap, slots; /* ms between rounds; 0: never */
	bool nx, td, break_shootdown;
	uint32_t shared_bit;	 /* the GPA bit that means shared, with td */
	uint32_t live;		 /* ms between live counters */
	const char *guest_words; /* the guest's command line */
};
extern struct options options;
void options_parse(char *command_line);
/* The shared bit as it is in a GPA; 0: the guest has none. */
static inline uint64_t shared_mask(void)
{
	return options.td ? 1ull << options.shared_bit : 0;
}

/* ---- memory.c: the machine's memory, and which of it is the hypervisor's ---- */
#ifndef DIRECT_MAP /* a test has its own */
#define DIRECT_MAP 0xffff800000000000ull
#endif
#define MAX_RANGES 32

struct range {
	uint64_t start, end;
	uint32_t type; /* as in e820: 1 is RAM */
};

extern struct range machine_ranges[MAX_RANGES]; /* as the firmware said */
extern unsigned int nr_machine_ranges;
extern struct range own;   /* the hypervisor's memory: the top of what is below 4 GiB */
extern struct range spare; /* inside of it, if asked for: as much as the guest has below it */
extern uint64_t own_root;  /* page tables */

static inline void *phys(uint64_t pa)
{
	return (void *)(DIRECT_MAP + pa);
}

/* Reads the loader's map, chooses @own, moves there. */
void memory_init(uint64_t multiboot_info);
/* Whole pages of the hypervisor's, zeroed, for good. */
uint64_t page_take(uint64_t bytes);
/* The rest of it. */
struct range memory_rest(void);
/* The trampoline's pages are mapped as they are, or are not any more. */
void memory_map_low(bool mapped);

/* ---- multiboot.c: what the loader brought ---- */
struct module {
	uint64_t start, end;
};
extern struct module modules[2]; /* the guest, and what it is given */
extern unsigned int nr_modules;
void multiboot_read(uint64_t info);

/* ---- acpi.c: the firmware's tables ---- */
extern uint16_t acpi_power_port; /* PM1a control, 0: none */
extern uint64_t acpi_rsdp;
extern uint8_t apic_ids[TPT_BARE_VCPUS];
extern unsigned int nr_apic_ids;
void acpi_read(void);
/* The guest is not told of this processor. */
void acpi_hide(uint8_t apic_id);

/* ---- interrupt.c: the hypervisor's own vectors and its timer ---- */
#define VECTOR_TICK 0xf0
struct interrupt_frame {
	uint64_t rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11;
	uint64_t vector, error, rip, cs, rflags, rsp, ss;
};
void interrupts_init(void);
void interrupts_load(void);
extern uint64_t tsc_per_ms;
void tsc_calibrate(void);
void wait_us(uint64_t us);
static inline uint64_t now_ms(void)
{
	return rdtsc() / tsc_per_ms;
}

/* ---- apic.c ---- */
#define APIC_ID	    0x020
#define APIC_EOI    0x0b0
#define APIC_LDR    0x0d0
#define APIC_DFR    0x0e0
#define APIC_SVR    0x0f0
#define APIC_ICR    0x300
#define APIC_ICR2   0x310
#define APIC_TIMER  0x320
#define APIC_COUNT  0x380
#define APIC_LEFT   0x390 /* of the count */
#define APIC_DIVIDE 0x3e0
#define APIC_BASE   0xfee00000ull
#define ICR_MODE(c) ((c) >> 8 & 7)
#define ICR_NMI	    4u
#define ICR_INIT    5u
#define ICR_STARTUP 6u
#define ICR_ASSERT  (1u << 14)
#define ICR_TO(c)   ((c) >> 18 & 3) /* 0: ICR2, 1: self, 2: all, 3: all but self */
#define ICR_TO_MASK (3u << 18)
uint32_t apic_read(uint32_t reg);
void apic_write(uint32_t reg, uint32_t value);
/* Sends an IPI; the guest's ICR2 stays what it was. */
void apic_send(uint8_t apic_id, uint32_t command);
/* This processor's timer ticks every @ms. */
void apic_tick(uint32_t ms);

/* ---- smp.c ---- */
struct vcpu;
struct cpu {
	struct cpu *self; /* at GS:0 */
	uint32_t index;
	uint8_t apic_id;
	struct vcpu *vcpu; /* NULL: the housekeeper */
	uint64_t nmis;	   /* taken by the hypervisor's own handler */
};
extern struct cpu cpus[TPT_BARE_VCPUS];
extern unsigned int nr_cpus;
static inline struct cpu *this_cpu(void)
{
	struct cpu *cpu;

	__asm__("mov %%gs:0, %0" : "=r"(cpu));
	return cpu;
}
/* The processor that boots is cpu 0; the others run @entry, each on its stack. */
void smp_start(void (*entry)(void));

/* ---- vcpu.c: one processor of the guest ---- */
struct registers {
	uint64_t rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15;
};

/* What a vCPU is asked to do outside of the guest, besides what the library asks for. */
#define ASK_INIT    (1u << 0)
#define ASK_STARTUP (1u << 1) /* vector in startup_vector */
#define ASK_STOP    (1u << 2)
#define ASK_NMI	    (1u << 3)

enum exit_kind {
	EXIT_NPF,
	EXIT_KICK,
	EXIT_APIC,
	EXIT_IO,
	EXIT_CPUID,
	EXIT_MSR,
	EXIT_CALL,
	EXIT_OTHER,
	EXIT_NR,
};

struct vcpu {
	struct registers regs; /* entry.S knows these offsets, and the next two */
	uint64_t vmcb_pa, host_vmcb_pa, hsave_pa;
	struct vmcb *vmcb;
	struct tpt_vcpu *tpt;
	struct cpu *cpu;
	uint32_t id;
	bool waiting;		      /* for a start-up IPI */
	bool nmi_pending, nmi_masked; /* the guest's own */
	uint8_t startup_vector;
	_Atomic uint32_t apic_ldr; /* as the guest wrote it */
	_Atomic uint32_t asked;	   /* ASK_* */
	_Atomic uint32_t parked;   /* stopped for good */
	/* Counted by this vCPU only. */
	uint64_t exits[EXIT_NR], entries, reinjected, flushes;
	uint64_t npf_tsc, npf_times[64]; /* faults that took 2^n ns and more */
};
extern struct vcpu *vcpus;
extern unsigned int nr_vcpus;

void vcpus_init(void);
/* State after INIT, at a start-up vector, or as a boot protocol has it. */
void vcpu_init_real(struct vcpu *v, uint8_t startup_vector);
void vcpu_init_flat(struct vcpu *v, uint64_t rip);		 /* 32 bit, no paging */
void vcpu_init_long(struct vcpu *v, uint64_t rip, uint64_t cr3); /* 64 bit */
void vcpu_loop(struct vcpu *v) __attribute__((noreturn));
/* Sends it out of the guest to do what it is asked for. */
void vcpu_ask(struct vcpu *v, uint32_t what);
void vcpu_kick(struct vcpu *v);
/* Stops for good, on its own processor. */
void vcpu_park(struct vcpu *v) __attribute__((noreturn));
void vcpu_inject(struct vcpu *v, enum svm_event_type type, unsigned int vector, bool has_error,
		 uint32_t error);
void vcpu_skip(struct vcpu *v, unsigned int bytes);

/* ---- exit.c: what the guest did that it could not do alone ---- */
void exit_handle(struct vcpu *v);
void exits_init(struct vmcb *vmcb);

/* ---- lapic.c: the guest's writes to its local APIC ---- */
void lapic_write(struct vcpu *v, uint32_t reg, uint32_t value);

/* ---- decode.c: the one instruction that wrote to the APIC's page ---- */
struct store {
	uint64_t value;
	unsigned int bytes, length; /* of the value, of the instruction */
};
/* False: it is no plain store, or the hypervisor can't read it. */
bool decode_store(const struct vcpu *v, struct store *store);

/* ---- guest.c: what the guest is given, and its memory as the hypervisor sees it ---- */
struct guest_map {
	struct range ranges[MAX_RANGES];
	unsigned int nr;
};
extern struct guest_map guest_map; /* its e820 */
void guest_load(struct vcpu *boot);
/* Guest memory that the hypervisor may read or write; NULL: there is none, or it is private. */
void *guest_memory(uint64_t gpa, uint64_t bytes);
/* The loader wrote [gpa, gpa + bytes): what a confidential guest is built from. */
void guest_wrote(uint64_t gpa, uint64_t bytes);
/* One part that it wrote, and each only once; false: there is none any more. */
bool guest_next_part(struct range *part);
void linux_load(struct vcpu *boot, const struct module *kernel, const struct module *initrd);
void elf_load(struct vcpu *boot, const struct module *image, const struct module *rest);

/* ---- vm.c: the guest's memory in the library ---- */
extern struct tpt_bare *bare;
extern struct tpt_vm *vm;
void vm_create(void);
void vm_start(struct vcpu *boot);
enum npf_answer { NPF_AGAIN, NPF_APIC, NPF_NOBODY };
enum npf_answer vm_fault(struct vcpu *v, uint64_t gpa, uint64_t exit_info1);
/* Before each entry: the root to load. */
uint64_t vm_root(struct vcpu *v);
int vm_convert(uint64_t gpa, uint64_t bytes, bool private_);
int vm_unmap(uint64_t gpa, uint64_t bytes);
void vm_slots_again(void);
void vm_log_dirty(bool on);
const uint64_t *vm_dirty(void); /* and clears it: a bit a page of RAM */
void vm_age(void);
const uint64_t *vm_young(void); /* a bit a page of RAM */
void vm_nx_recover(void);
/* Keeps all vCPUs out of the guest, or lets them in again. */
void vm_hold(bool held);

/* ---- housekeeper.c: what a host does beside its guest; and the end ---- */
void housekeeper_init(void);
void housekeeper_loop(void) __attribute__((noreturn));
/* With a dirty log, of RAM: was the page written since this was last asked about it? */
bool housekeeper_was_written(uint64_t gpa);
enum end_kind { END_POWER_OFF, END_EXIT, END_RESET, END_BAD };
#define BAD_STATUS 0x7f /* at HV_PORT_EXIT, whatever the guest would have written */
#define PORT_RESET 0xcf9
#define RESET_NOW  (1u << 2)
/* The guest is over. Returns to nobody. */
void machine_end(enum end_kind kind, uint32_t value, const char *why) __attribute__((noreturn));
/* Is something else than the guest changing its tables? */
bool housekeeper_is_quiet(void);

/* ---- audit.c: the tables as the processor read and wrote them ---- */
/* Number of faults found; says each. */
unsigned int audit(void);

#endif
