/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Probes for tracers (USDT, provider "triptych"): one nop each in a build that found <sys/sdt.h>,
 * nothing otherwise. Tells no more than events do, and never calls anybody.
 *
 *	fault_entry	vcpu, gpa, error code
 *	fault_exit	vcpu, gpa, RET_PF or errno
 *	transition	tree (enum tree_id), gfn, level, old word, new word
 *	external_call	enum tpt_external_call, gfn, level, answer
 *	flush		enum tpt_flush_reason, address space, first gfn, gfn behind
 *
 * All are integers. Sweeps and fills of a whole table are told entry by entry as events only.
 */
#ifndef MMU_PROBE_H
#define MMU_PROBE_H

#ifdef TPT_USDT
#include <sys/sdt.h>
#define PROBE3(name, a, b, c)	    DTRACE_PROBE3(triptych, name, a, b, c)
#define PROBE4(name, a, b, c, d)    DTRACE_PROBE4(triptych, name, a, b, c, d)
#define PROBE5(name, a, b, c, d, e) DTRACE_PROBE5(triptych, name, a, b, c, d, e)
#else
#define PROBE3(name, a, b, c)	    ((void)0)
#define PROBE4(name, a, b, c, d)    ((void)0)
#define PROBE5(name, a, b, c, d, e) ((void)0)
#endif

#endif
