// SPDX-License-Identifier: GPL-2.0
/*
 * A kernel without CONFIG_DYNAMIC_FTRACE has kprobes at best: there register_ftrace_function() may
 * be a macro that does nothing, and says that it did.
 */
#include <linux/ftrace.h>

#ifndef CONFIG_DYNAMIC_FTRACE
#error "no functions can be hooked by ftrace"
#endif

struct ftrace_ops probe_ops;
