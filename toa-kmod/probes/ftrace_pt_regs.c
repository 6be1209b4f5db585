// SPDX-License-Identifier: GPL-2.0
/*
 * Before 5.11: ftrace callbacks get a struct pt_regs, if they ask for it.
 */
#include <linux/ftrace.h>

static void callback(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
		     struct pt_regs *regs)
{
	(void)regs_get_kernel_argument(regs, 3);
}

struct ftrace_ops probe_ops = { .func = callback, .flags = FTRACE_OPS_FL_SAVE_REGS };
