// SPDX-License-Identifier: GPL-2.0
/*
 * 5.11: ftrace callbacks get a struct ftrace_regs, which holds all registers if they ask for it.
 */
#include <linux/ftrace.h>

static void callback(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
		     struct ftrace_regs *regs)
{
	(void)regs_get_kernel_argument(ftrace_get_regs(regs), 3);
}

struct ftrace_ops probe_ops = { .func = callback, .flags = FTRACE_OPS_FL_SAVE_REGS };
