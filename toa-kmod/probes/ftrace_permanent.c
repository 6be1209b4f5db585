// SPDX-License-Identifier: GPL-2.0
/*
 * 5.5: an ftrace_ops that kernel.ftrace_enabled=0 cannot switch off.
 */
#include <linux/ftrace.h>

struct ftrace_ops probe_ops = { .flags = FTRACE_OPS_FL_PERMANENT };
