// SPDX-License-Identifier: GPL-2.0
/*
 * Compiles on every kernel. If it does not, neither would any other probe, and each would look like
 * an interface that the kernel lacks.
 */
#include <linux/ftrace.h>
#include <linux/kprobes.h>
#include <linux/netfilter.h>
#include <linux/skbuff.h>
#include <net/tcp.h>

int probe_control;
