// SPDX-License-Identifier: BSD-2-Clause
/*
 * The tables an interrupt is delivered with, and what is done with one: it's counted, and an
 * exception that was reckoned with goes on where its probe ends. Sends none: see apic.c.
 */
#include "tests/boot/guest/guest.h"

#define CODE64	 0x18
#define TSS	 0x20
#define VECTORS	 256
#define SPURIOUS 0xff

/* AMD64 APM vol. 2, 4.8.4. */
struct gate {
	uint16_t offset_low, selector;
	uint8_t ist, type;
	uint16_t offset_middle;
	uint32_t offset_high, reserved;
};

/* AMD64 APM vol. 2, 12.2.5. */
struct tss {
	uint32_t reserved0;
	uint64_t rsp[3];
	uint64_t reserved1;
	uint64_t ist[7];
	uint64_t reserved2;
	uint16_t reserved3, io_map;
} __attribute__((packed));

struct pointer {
	uint16_t limit;
	uint64_t base;
} __attribute__((packed));

struct frame {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
	uint64_t vector, error;
	uint64_t rip, cs, rflags, rsp, ss;
};

void interrupt(struct frame *frame);
extern char interrupt_stubs[VECTORS][16];

static void set_gate(struct gate *gate, uint64_t handler, bool own_stack)
{
	*gate = (struct gate){
		.offset_low = (uint16_t)handler,
		.selector = CODE64,
		.ist = own_stack,
		.type = 0x8e, /* present interrupt gate */
		.offset_middle = (uint16_t)(handler >> 16),
		.offset_high = (uint32_t)(handler >> 32),
	};
}

/* An available TSS's descriptor takes two places. AMD64 APM vol. 2, 4.8.3. */
static void fill_gdt(uint64_t *gdt, uint64_t tss)
{
	gdt[0] = gdt[1] = 0;
	gdt[2] = 0x00cf93000000ffff;
	gdt[3] = 0x00af9b000000ffff;
	gdt[4] = (sizeof(struct tss) - 1) | (tss & 0xffffff) << 16 | 0x89ull << 40 |
		 (tss >> 24 & 0xff) << 56;
	gdt[5] = tss >> 32;
}

void tables_load(const struct tables *tables)
{
	struct pointer gdt = {GDT_ENTRIES * 8 - 1, (uint64_t)tables->gdt};
	struct pointer idt = {VECTORS * sizeof(struct gate) - 1, (uint64_t)tables->idt};

	for (unsigned int i = 0; i < VECTORS; i++)
		set_gate(&tables->idt[i], (uint64_t)interrupt_stubs[i], tables->stack != 0);
	fill_gdt(tables->gdt, (uint64_t)tables->tss);
	*tables->tss = (struct tss){.io_map = sizeof(struct tss)};
	tables->tss->ist[0] = tables->stack;
	__asm__ volatile("lgdt %0; lidt %1; ltr %2"
			 :
			 : "m"(gdt), "m"(idt), "r"((uint16_t)TSS)
			 : "memory");
}

void tables_load_home(void)
{
	static struct {
		struct gate idt[VECTORS];
		uint64_t gdt[GDT_ENTRIES];
		struct tss tss;
	} homes[MAX_CPUS] __attribute__((aligned(4096)));
	struct tables home = {
		.idt = homes[this_cpu()->id].idt,
		.gdt = homes[this_cpu()->id].gdt,
		.tss = &homes[this_cpu()->id].tss,
	};

	tables_load(&home);
}

static void exception(struct cpu *cpu, struct frame *frame)
{
	cpu->fault = (struct fault){(int)frame->vector, frame->error, read_cr2()};
	if (!cpu->fixup)
		panic("CPU %u: exception %lu, error %lx, rip %lx, cr2 %lx", cpu->id, frame->vector,
		      frame->error, frame->rip, cpu->fault.cr2);
	frame->rip = cpu->fixup;
	frame->rsp = cpu->fixup_rsp;
	cpu->fixup = 0;
}

void interrupt(struct frame *frame)
{
	struct cpu *cpu = this_cpu();

	cpu->arrived[frame->vector]++;
	if (frame->vector < 32)
		exception(cpu, frame);
	else if (frame->vector != SPURIOUS)
		apic_eoi();
}
