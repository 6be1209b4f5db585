// SPDX-License-Identifier: GPL-2.0
/*
 * Parameters and version: module_param() and MODULE_VERSION() are macros, and
 * module! of the kernel crate has parameters on the newest kernels only.
 */
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/string.h>

#include "shim.h"

MODULE_VERSION(TOA_VERSION);

static char *hook = "auto";
module_param(hook, charp, 0444);
MODULE_PARM_DESC(hook, "how connection set-up is watched: auto (default; ftrace, or kprobe where ftrace cannot serve), ftrace, kprobe");

static char *layouts = "tencent";
module_param(layouts, charp, 0444);
MODULE_PARM_DESC(layouts, "which options are read: tencent (default), lvs, dpvs, alibaba, alibaba-cdn, huawei, bytedance, ucloud, or a list kind/length=layout,... (docs/wire-formats.md)");

/* The private, shared and local ranges. Shown in sysfs, as any other list would be. */
#define TRUSTED "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,127.0.0.0/8,169.254.0.0/16,fc00::/7,fe80::/10,::1"

static char *trusted = TRUSTED;
module_param(trusted, charp, 0444);
MODULE_PARM_DESC(trusted, "sources whose options are believed: prefixes with commas between, any, or none (default: private, shared and local ranges)");

static bool first_data;
module_param(first_data, bool, 0444);
MODULE_PARM_DESC(first_data, "read the first three data segments of a connection without an address, too (default: N; costs work for each segment of every connection)");

u8 toa_shim_param_first_data(void)
{
	return first_data;
}

/* Strings go out with their length: a bare pointer would have Rust count. */
size_t toa_shim_param_hook(const u8 **text)
{
	*text = (const u8 *)hook;
	return strlen(hook);
}

size_t toa_shim_param_layouts(const u8 **text)
{
	*text = (const u8 *)layouts;
	return strlen(layouts);
}

size_t toa_shim_param_trusted(const u8 **text)
{
	*text = (const u8 *)trusted;
	return strlen(trusted);
}

size_t toa_shim_version(const u8 **text)
{
	*text = (const u8 *)TOA_VERSION;
	return strlen(TOA_VERSION);
}
