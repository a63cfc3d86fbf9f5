/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Into the guest and out again, and the hypervisor's own interrupts. Decides nothing.
 */
	.text

/*
 * void guest_run(struct vcpu *vcpu): with GIF = 0, and so on return. struct vcpu begins with the
 * guest's registers but RAX and RSP, which are the VMCB's; then the physical addresses of the
 * guest's VMCB and of one for the host's FS, GS, TR, LDTR and system-call MSRs, which VMRUN leaves
 * alone (APM vol. 2, "VMSAVE and VMLOAD Instructions"). The rest of the host's state is VMRUN's.
 */
#define GUEST_VMCB 112
#define HOST_VMCB  120
	.globl	guest_run
guest_run:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	push	%rdi
	mov	GUEST_VMCB(%rdi), %rax
	mov	0(%rdi), %rbx
	mov	8(%rdi), %rcx
	mov	16(%rdi), %rdx
	mov	24(%rdi), %rsi
	mov	40(%rdi), %rbp
	mov	48(%rdi), %r8
	mov	56(%rdi), %r9
	mov	64(%rdi), %r10
	mov	72(%rdi), %r11
	mov	80(%rdi), %r12
	mov	88(%rdi), %r13
	mov	96(%rdi), %r14
	mov	104(%rdi), %r15
	mov	32(%rdi), %rdi
	vmload	%rax
	vmrun	%rax
	vmsave	%rax
	xchg	%rdi, (%rsp)
	mov	%rbx, 0(%rdi)
	mov	%rcx, 8(%rdi)
	mov	%rdx, 16(%rdi)
	mov	%rsi, 24(%rdi)
	mov	%rbp, 40(%rdi)
	mov	%r8, 48(%rdi)
	mov	%r9, 56(%rdi)
	mov	%r10, 64(%rdi)
	mov	%r11, 72(%rdi)
	mov	%r12, 80(%rdi)
	mov	%r13, 88(%rdi)
	mov	%r14, 96(%rdi)
	mov	%r15, 104(%rdi)
	pop	32(%rdi)
	mov	HOST_VMCB(%rdi), %rax
	vmload	%rax
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret

/*
 * 256 vectors, 16 bytes each: an error code if the processor pushed none, the vector, and the
 * common part. Those that push one: 8, 10 to 14, 17, 21, 29, 30 (APM vol. 2, "Error Codes").
 */
	.align	16
	.globl	vectors
vectors:
vector = 0
	.rept	256
	.align	16
	.if	(vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || \
		(vector == 21) || (vector == 29) || (vector == 30)
	.else
	push	$0
	.endif
	push	$vector
	jmp	common
vector = vector + 1
	.endr

/* struct interrupt_frame: registers, vector, error code, and what the processor pushed. */
common:
	push	%r11
	push	%r10
	push	%r9
	push	%r8
	push	%rdi
	push	%rsi
	push	%rdx
	push	%rcx
	push	%rax
	mov	%rsp, %rdi
	cld
	call	interrupt
	pop	%rax
	pop	%rcx
	pop	%rdx
	pop	%rsi
	pop	%rdi
	pop	%r8
	pop	%r9
	pop	%r10
	pop	%r11
	add	$16, %rsp
	iretq

	.section .note.GNU-stack, "", @progbits
