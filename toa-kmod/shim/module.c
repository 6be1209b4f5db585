// SPDX-License-Identifier: GPL-2.0
/*
 * Parameters and version: module_param() and MODULE_VERSION() are macros, and
 * module! of the kernel crate has parameters on the newest kernels only.
 */
#include <linux/module.h>
#include <linux/moduleparam.h>

#include "shim.h"

MODULE_VERSION(TOA_VERSION);

static char *hook = "auto";
module_param(hook, charp, 0444);
MODULE_PARM_DESC(hook, "how connection set-up is watched: auto (default; ftrace, or kprobe where ftrace cannot serve), ftrace, kprobe");

const u8 *toa_shim_param_hook(void)
{
	return (const u8 *)hook;
}

const u8 *toa_shim_version(void)
{
	return (const u8 *)TOA_VERSION;
}
