// SPDX-License-Identifier: GPL-2.0
/*
 * Parameters and version: module_param() and MODULE_VERSION() are macros, and
 * module! of the kernel crate has parameters on the newest kernels only.
 */
#include <linux/capability.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/string.h>

#include "nomem.h"
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

#ifdef TOA_SEED_nomem
static uint nomem;
module_param(nomem, uint, 0644);
MODULE_PARM_DESC(nomem, "the allocation that fails, counted from now on, for tests");

u8 toa_shim_nomem(void)
{
	return nomem && !--nomem;
}
#endif

/* What can be set at run time, and what has been, is with kernel/transparent.rs. */
static u32 which(const struct kernel_param *kp)
{
	return (u32)(unsigned long)kp->arg;
}

static int switch_set(const char *value, const struct kernel_param *kp)
{
	bool on = true;
	int err = value ? kstrtobool(value, &on) : 0;

	return err ? err : toa_rust_switch_set(which(kp), on);
}

static int ports_set(const char *value, const struct kernel_param *kp)
{
	/* echo(1) writes a newline. */
	return toa_rust_switch_set_ports((const u8 *)value, strcspn(value, "\n"));
}

static int switch_get(char *place, const struct kernel_param *kp)
{
	return (int)toa_rust_switch_get(which(kp), (u8 *)place, PAGE_SIZE);
}

static const struct kernel_param_ops switch_ops = {
	.flags	= KERNEL_PARAM_OPS_FL_NOARG,
	.set	= switch_set,
	.get	= switch_get,
};

static const struct kernel_param_ops ports_ops = {
	.set	= ports_set,
	.get	= switch_get,
};

module_param_cb(transparent, &switch_ops, (void *)TOA_SWITCH_ON, 0644);
__MODULE_PARM_TYPE(transparent, "bool");
MODULE_PARM_DESC(transparent, "accept and getpeername tell the client's address themselves (default: N)");

module_param_cb(transparent_local, &switch_ops, (void *)TOA_SWITCH_LOCAL, 0644);
__MODULE_PARM_TYPE(transparent_local, "bool");
MODULE_PARM_DESC(transparent_local, "with transparent, getsockname tells the VIP where the options carry it (default: N)");

module_param_cb(transparent_ports, &ports_ops, (void *)TOA_SWITCH_PORTS, 0644);
__MODULE_PARM_TYPE(transparent_ports, "charp");
MODULE_PARM_DESC(transparent_ports, "the servers' ports to which transparent is limited, with commas between them (default: all)");

static DEFINE_MUTEX(switching);

void toa_shim_switch_lock(void)
{
	mutex_lock(&switching);
}

void toa_shim_switch_unlock(void)
{
	mutex_unlock(&switching);
}

/* In the initial user namespace: that is what capable() asks. */
u8 toa_shim_may_set(u8 loaded)
{
	return capable(loaded ? CAP_NET_ADMIN : CAP_SYS_MODULE);
}

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
