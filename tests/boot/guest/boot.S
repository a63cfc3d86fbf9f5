/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From the loader, or from a startup IPI, to C: page tables, long mode, a stack a processor. And from
 * an interrupt to C. No decision is made here.
 */
#define MULTIBOOT_MAGIC 0x1badb002
#define MULTIBOOT_FLAGS 3 /* modules on pages, memory information */

#define CR4_PAE	    0x20
#define MSR_EFER    0xc0000080
#define EFER_LME_NX 0x900
#define CR0_LONG    0x80010021 /* PG, WP, NE, PE */

#define CODE32 0x08
#define DATA   0x10
#define CODE64 0x18

#define MAX_CPUS    8
#define STACK_BYTES 0x4000
#define TRAMPOLINE  0x8000 /* as in guest.h; vector 8 of a startup IPI */

	.section .multiboot, "a"
	.balign 4
	.long MULTIBOOT_MAGIC, MULTIBOOT_FLAGS, -(MULTIBOOT_MAGIC + MULTIBOOT_FLAGS)

	.section .data
	.balign 8
	.global boot_magic, boot_info, cpus_started
boot_magic:
	.long 0
boot_info:
	.long 0
cpus_started:
	.long 0

	.balign 8
boot_gdt:
	.quad 0
	.quad 0x00cf9b000000ffff
	.quad 0x00cf93000000ffff
	.quad 0x00af9b000000ffff
boot_gdt_end:
boot_gdt_pointer:
	.word boot_gdt_end - boot_gdt - 1
	.long boot_gdt

	.section .bss
	.balign 4096
	.global page_root
page_root:
	.skip 4096
page_directories_root:
	.skip 4096
page_directories:
	.skip 4 * 4096
stacks:
	.skip MAX_CPUS * STACK_BYTES

	.section .text
	.code32
	.global boot
boot:
	cli
	mov %eax, boot_magic
	mov %ebx, boot_info
	/* 4 GiB as they are, in 2 MiB pages. */
	movl $(page_directories_root + 3), page_root
	mov $page_directories, %edi
	mov $0x83, %eax
1:	mov %eax, (%edi)
	add $8, %edi
	add $0x200000, %eax
	jnc 1b
	mov $page_directories_root, %edi
	mov $(page_directories + 3), %eax
	mov $4, %ecx
1:	mov %eax, (%edi)
	add $8, %edi
	add $4096, %eax
	loop 1b
	lgdt boot_gdt_pointer

/* Each processor comes through here, the boot GDT loaded, paging off. */
enter_long_mode:
	mov $CR4_PAE, %eax
	mov %eax, %cr4
	mov $page_root, %eax
	mov %eax, %cr3
	mov $MSR_EFER, %ecx
	rdmsr
	or $EFER_LME_NX, %eax
	wrmsr
	mov $CR0_LONG, %eax
	mov %eax, %cr0
	ljmp $CODE64, $1f
	.code64
1:	mov $DATA, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	xor %eax, %eax
	mov %eax, %fs
	mov %eax, %gs
	mov $1, %edi
	lock xadd %edi, cpus_started
	cmp $MAX_CPUS, %edi
	jae park
	lea 1(%rdi), %eax
	imul $STACK_BYTES, %eax
	lea stacks(%rax), %rsp
	call cpu_main
park:
	cli
	hlt
	jmp park

/* What a startup IPI starts, copied to TRAMPOLINE: real mode, CS the page, IP 0. */
	.section .rodata
	.code16
	.global trampoline, trampoline_bytes
trampoline:
	cli
	xor %ax, %ax
	mov %ax, %ds
	lgdtl TRAMPOLINE + (2f - trampoline)
	mov %cr0, %eax
	or $1, %eax
	mov %eax, %cr0
	ljmpl $CODE32, $TRAMPOLINE + (1f - trampoline)
	.code32
1:	mov $DATA, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $enter_long_mode, %eax
	jmp *%eax
2:	.word boot_gdt_end - boot_gdt - 1
	.long boot_gdt
3:
	.balign 4
trampoline_bytes:
	.long 3b - trampoline

/*
 * A stub a vector, 16 bytes each, on pages of their own. Those exceptions that push no error code get
 * one here (AMD64 APM vol. 2, 8.2).
 */
#define WITH_ERROR_CODE 0x00227d00 /* #DF, #TS, #NP, #SS, #GP, #PF, #AC, #CP */

	.section .text.interrupt, "ax"
	.code64
	.balign 4096
	.global interrupt_stubs
interrupt_stubs:
	vector = 0
	.rept 256
	.balign 16
	.if vector >= 32 || !((WITH_ERROR_CODE >> (vector & 31)) & 1)
	push $0
	.endif
	push $vector
	jmp interrupt_common
	vector = vector + 1
	.endr

interrupt_common:
	push %rax
	push %rcx
	push %rdx
	push %rbx
	push %rbp
	push %rsi
	push %rdi
	push %r8
	push %r9
	push %r10
	push %r11
	push %r12
	push %r13
	push %r14
	push %r15
	cld
	mov %rsp, %rdi
	call interrupt
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %r11
	pop %r10
	pop %r9
	pop %r8
	pop %rdi
	pop %rsi
	pop %rbp
	pop %rbx
	pop %rdx
	pop %rcx
	pop %rax
	add $16, %rsp
	iretq

	.section .note.GNU-stack, "", @progbits
