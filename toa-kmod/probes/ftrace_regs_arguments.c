// SPDX-License-Identifier: GPL-2.0
/*
 * 5.11: x86-64's ftrace saves the arguments by itself, in a struct pt_regs inside ftrace_regs that
 * holds nothing else.
 */
#include <linux/ftrace.h>

#ifndef CONFIG_DYNAMIC_FTRACE_WITH_ARGS
#error "arguments are saved on request only"
#endif

unsigned long argument(struct ftrace_regs *regs);
unsigned long argument(struct ftrace_regs *regs)
{
	return regs_get_kernel_argument(&regs->regs, 3);
}
