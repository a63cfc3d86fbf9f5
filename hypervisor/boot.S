/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From a multiboot loader, or from a start-up IPI, to C in long mode; and the move to the top of
 * memory. Never runs again after that.
 */
#define MULTIBOOT_MAGIC	 0x1badb002
#define MULTIBOOT_FLAGS	 0x3	/* modules on pages, memory map wanted */
#define MULTIBOOT_LOADED 0x2badb002
#define STACK_BYTES	 16384
#define TRAMPOLINE	 0x7000 /* smp.c */

#define CR0_PE	   0x00000001
#define CR0_WP	   0x00010000
#define CR0_PG	   0x80000000
#define CR4_PAE	   0x20
#define MSR_EFER   0xc0000080
#define EFER_LME   0x100
#define EFER_NXE   0x800
#define PTE_TABLE  0x3	/* present, writable */
#define PTE_LARGE  0x83 /* the same, 2 MiB */

	.section .boot, "ax"
	.code32
	.align 4
	.long	MULTIBOOT_MAGIC, MULTIBOOT_FLAGS, -(MULTIBOOT_MAGIC + MULTIBOOT_FLAGS)

	.globl	boot_entry
boot_entry:
	cli
	cld
	cmp	$MULTIBOOT_LOADED, %eax
	jne	stop
	mov	%ebx, %ebp		/* the loader's information */

	/* 4 GiB of memory as it is, 2 MiB a page: 2048 entries in a row. */
	mov	$boot_directories, %edi
	mov	$PTE_LARGE, %eax
1:	mov	%eax, (%edi)
	add	$8, %edi
	add	$0x200000, %eax
	jnc	1b
	/* The image, from 2 MiB on, 32 MiB of it. */
	mov	$boot_image, %edi
	mov	$(0x200000 + PTE_LARGE), %eax
	mov	$16, %ecx
2:	mov	%eax, (%edi)
	add	$8, %edi
	add	$0x200000, %eax
	loop	2b

	movl	$(boot_directories + PTE_TABLE), boot_low
	movl	$(boot_image + PTE_TABLE), boot_low + 8
	movl	$(boot_directories + PTE_TABLE), boot_direct
	movl	$(boot_directories + 0x1000 + PTE_TABLE), boot_direct + 8
	movl	$(boot_directories + 0x2000 + PTE_TABLE), boot_direct + 16
	movl	$(boot_directories + 0x3000 + PTE_TABLE), boot_direct + 24
	movl	$(boot_low + PTE_TABLE), boot_root
	movl	$(boot_direct + PTE_TABLE), boot_root + 256 * 8

	mov	$boot_root, %eax
	call	long_mode
	lgdt	boot_gdt_pointer
	ljmp	$8, $boot64
stop:	hlt
	jmp	stop

/* EAX: root of page tables. On return the processor is in compatibility mode. */
long_mode:
	mov	%eax, %cr3
	mov	%cr4, %eax
	or	$CR4_PAE, %eax
	mov	%eax, %cr4
	mov	$MSR_EFER, %ecx
	rdmsr
	or	$(EFER_LME | EFER_NXE), %eax
	wrmsr
	mov	%cr0, %eax
	or	$(CR0_PG | CR0_WP | CR0_PE), %eax
	mov	%eax, %cr0
	ret

	.code64
boot64:	mov	$16, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	movabs	$boot_stack + STACK_BYTES, %rsp
	movabs	$hypervisor_main, %rax
	mov	%ebp, %edi
	call	*%rax
	ud2

	.align 8
boot_gdt:
	.quad	0
	.quad	0x00af9b000000ffff	/* 64-bit code */
	.quad	0x00cf93000000ffff	/* data */
	.quad	0x00cf9b000000ffff	/* 32-bit code */
boot_gdt_pointer:
	.word	. - boot_gdt - 1
	.long	boot_gdt

	.section .boot.tables, "aw", @nobits
	.align 4096
boot_root:	  .skip 4096
boot_low:	  .skip 4096
boot_direct:	  .skip 4096
boot_image:	  .skip 4096
boot_directories: .skip 4 * 4096

	.bss
	.align 16
boot_stack:	.skip STACK_BYTES

/*
 * void image_move(void *to, uint64_t bytes, uint64_t cr3): copies the image, this stack in it, and
 * goes on in the copy, which stands at the same virtual addresses in the tables of @cr3.
 */
	.text
	.globl	image_move
image_move:
	mov	%rsi, %rcx
	shr	$3, %rcx
	movabs	$image_start, %rsi
	rep movsq
	mov	%rdx, %cr3
	ret

/* void gdt_load(void) */
	.globl	gdt_load
gdt_load:
	lgdt	gdt_pointer(%rip)
	mov	$16, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	pop	%rax
	push	$8
	push	%rax
	lretq

/*
 * A start-up IPI's way: copied to TRAMPOLINE, with the words at its end filled in.
 */
	.section .rodata
	.code16
	.globl	trampoline, trampoline_end, trampoline_root, trampoline_stack, trampoline_entry
trampoline:
	cli
	xor	%ax, %ax
	mov	%ax, %ds
	lgdtl	tramp_gdt_pointer - trampoline + TRAMPOLINE
	mov	%cr0, %eax
	or	$CR0_PE, %al
	mov	%eax, %cr0
	ljmpl	$24, $(tramp32 - trampoline + TRAMPOLINE)
	.code32
tramp32:
	mov	$16, %eax
	mov	%eax, %ds
	mov	%cr4, %eax
	or	$CR4_PAE, %eax
	mov	%eax, %cr4
	mov	trampoline_root - trampoline + TRAMPOLINE, %eax
	mov	%eax, %cr3
	mov	$MSR_EFER, %ecx
	rdmsr
	or	$(EFER_LME | EFER_NXE), %eax
	wrmsr
	mov	%cr0, %eax
	or	$(CR0_PG | CR0_WP), %eax
	and	$~0x60000000, %eax	/* CD, NW: caches on */
	mov	%eax, %cr0
	ljmp	$8, $(tramp64 - trampoline + TRAMPOLINE)
	.code64
tramp64:
	mov	trampoline_stack(%rip), %rsp
	mov	trampoline_entry(%rip), %rax
	call	*%rax
	ud2
	.align 8
tramp_gdt:
	.quad	0
	.quad	0x00af9b000000ffff
	.quad	0x00cf93000000ffff
	.quad	0x00cf9b000000ffff
tramp_gdt_pointer:
	.word	. - tramp_gdt - 1
	.long	tramp_gdt - trampoline + TRAMPOLINE
	.align 8
trampoline_root:  .quad 0
trampoline_stack: .quad 0
trampoline_entry: .quad 0
trampoline_end:

	.section .data
	.align 8
gdt:
	.quad	0
	.quad	0x00af9b000000ffff
	.quad	0x00cf93000000ffff
gdt_end:
gdt_pointer:
	.word	gdt_end - gdt - 1
	.quad	gdt

	.section .note.GNU-stack, "", @progbits
