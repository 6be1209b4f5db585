/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What differs between kernels, by what the probes found (probes/, which say what
 * changed and when). The only file that looks at TOA_HAVE_*.
 */
#ifndef _TOA_COMPAT_H
#define _TOA_COMPAT_H

#include <linux/ftrace.h>

#include "probed.h"

#ifdef TOA_HAVE_FTRACE

/*
 * An ftrace callback's last parameter is a struct toa_ftrace_regs *, and
 * toa_ftrace_argument(regs, n) the traced function's n-th argument. By
 * toa_ftrace_redirect(regs, ip) the call goes on elsewhere.
 */
#if defined(TOA_HAVE_FTRACE_REGS_ARGUMENT)
#define toa_ftrace_regs			ftrace_regs
#define toa_ftrace_argument(regs, n)	ftrace_regs_get_argument(regs, n)
#define toa_ftrace_redirect(regs, ip)	ftrace_regs_set_instruction_pointer(regs, ip)
#define TOA_FTRACE_FL_REGS		0
#elif defined(TOA_HAVE_FTRACE_REGS_ARGUMENTS)
#define toa_ftrace_regs			ftrace_regs
#define toa_ftrace_argument(fregs, n)	regs_get_kernel_argument(&(fregs)->regs, n)
#define toa_ftrace_redirect(regs, ip)	ftrace_instruction_pointer_set(regs, ip)
#define TOA_FTRACE_FL_REGS		0
#elif defined(TOA_HAVE_FTRACE_REGS)
#define toa_ftrace_regs			ftrace_regs
#define toa_ftrace_argument(regs, n)	\
	regs_get_kernel_argument(ftrace_get_regs(regs), n)
#define toa_ftrace_redirect(regs, ip)	\
	instruction_pointer_set(ftrace_get_regs(regs), ip)
#define TOA_FTRACE_FL_REGS		FTRACE_OPS_FL_SAVE_REGS
#elif defined(TOA_HAVE_FTRACE_PT_REGS)
#define toa_ftrace_regs			pt_regs
#define toa_ftrace_argument(regs, n)	regs_get_kernel_argument(regs, n)
#define toa_ftrace_redirect(regs, ip)	instruction_pointer_set(regs, ip)
#define TOA_FTRACE_FL_REGS		FTRACE_OPS_FL_SAVE_REGS
#else
#error "ftrace callbacks of this kernel have a form that toa does not know (probes/ftrace_*.c)"
#endif

#ifdef TOA_HAVE_FTRACE_PERMANENT
#define TOA_FTRACE_FL_PERMANENT		FTRACE_OPS_FL_PERMANENT
#else
#define TOA_FTRACE_FL_PERMANENT		0
#endif

/* The callbacks do not recurse, so ftrace need not guard them against it. */
#ifdef TOA_HAVE_FTRACE_RECURSION_SAFE
#define TOA_FTRACE_FL_RECURSION		FTRACE_OPS_FL_RECURSION_SAFE
#else
#define TOA_FTRACE_FL_RECURSION		0
#endif

#define TOA_FTRACE_FLAGS	\
	(TOA_FTRACE_FL_REGS | TOA_FTRACE_FL_PERMANENT | TOA_FTRACE_FL_RECURSION)

#define TOA_FTRACE_FUNC(function)	.ftrace.func = function,

#else
#define TOA_FTRACE_FUNC(function)
#endif /* TOA_HAVE_FTRACE */

/* tcp_check_req() by the four arguments that are used; not to be called. */
#ifdef TOA_HAVE_CHECK_REQ_REASON
#define toa_check_req(sk, skb, req, fastopen)	\
	tcp_check_req(sk, skb, req, fastopen, (bool *)0, (enum skb_drop_reason *)0)
#else
#define toa_check_req(sk, skb, req, fastopen)	\
	tcp_check_req(sk, skb, req, fastopen, (bool *)0)
#endif

/* 32-bit callers: the answers have the same layout there. */
#ifdef TOA_HAVE_NF_SOCKOPT_COMPAT
#define TOA_COMPAT_GET(function)	.compat_get = function,
#else
#define TOA_COMPAT_GET(function)
#endif

#endif /* _TOA_COMPAT_H */
