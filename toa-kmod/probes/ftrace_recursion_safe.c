// SPDX-License-Identifier: GPL-2.0
/*
 * Before 5.11 a callback that needs no guard against recursion says so; since, one that needs it.
 */
#include <linux/ftrace.h>

struct ftrace_ops probe_ops = { .flags = FTRACE_OPS_FL_RECURSION_SAFE };
