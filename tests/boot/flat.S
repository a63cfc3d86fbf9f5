/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The smallest multiboot guest: no ELF, the addresses stand in its header. Says a word and ends with
 * status 5. For the loader, and for who needs a template.
 */
#define MAGIC	  0x1badb002
#define ADDRESSES (1 << 16)
#define COM1	  0x3f8
#define PORT_EXIT 0xf4
#define STATUS	  5

	.code32
	.text
	.globl	start
start:
header:
	.long	MAGIC, ADDRESSES, -(MAGIC + ADDRESSES)
	.long	header, start, end, bss_end, entry
entry:
	cmpl	$0, zeroed		/* what is behind the file is zeros */
	jne	stop
	mov	$text, %esi
	mov	$COM1, %dx
1:	lodsb
	test	%al, %al
	jz	2f
	outb	%al, %dx
	jmp	1b
2:	mov	$STATUS, %al
	outb	%al, $PORT_EXIT
stop:	hlt
	jmp	stop
text:	.asciz	"a flat guest\n"
	.align	4
end:
	.bss
zeroed:	.skip	4096
bss_end:
	.section .note.GNU-stack, "", @progbits
