// SPDX-License-Identifier: GPL-2.0
/*
 * 5.11 gave ftrace callbacks a struct ftrace_regs, 6.2 a way to read arguments from it. Before,
 * and where the architecture saves no arguments by itself, they get a struct pt_regs and must ask
 * for it.
 */
#include <linux/ftrace.h>

#ifndef CONFIG_DYNAMIC_FTRACE_WITH_ARGS
#error "arguments are saved on request only"
#endif

void callback(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
	      struct ftrace_regs *regs);
void callback(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
	      struct ftrace_regs *regs)
{
	(void)ftrace_regs_get_argument(regs, 3);
}

struct ftrace_ops probe_ops = { .func = callback };
