// SPDX-License-Identifier: GPL-2.0
/*
 * 6.2: ftrace_regs_get_argument(), on architectures whose ftrace saves the arguments by itself.
 */
#include <linux/ftrace.h>

#ifndef CONFIG_DYNAMIC_FTRACE_WITH_ARGS
#error "arguments are saved on request only"
#endif

unsigned long argument(struct ftrace_regs *regs);
unsigned long argument(struct ftrace_regs *regs)
{
	return ftrace_regs_get_argument(regs, 3);
}
