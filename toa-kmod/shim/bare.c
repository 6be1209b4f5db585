// SPDX-License-Identifier: GPL-2.0
/*
 * For the freestanding build alone: what the kernel crate has for the other.
 * module_init() and the MODULE_ lines are macros; so are the allocators and
 * printk(), which is variadic besides.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/init.h>
#include <linux/module.h>
#include <linux/printk.h>
#include <linux/slab.h>

#include "nomem.h"
#include "shim.h"

MODULE_LICENSE("GPL v2");
MODULE_AUTHOR("The toa authors");
MODULE_DESCRIPTION("The real client address of TCP connections behind a full-NAT load balancer");

static int __init toa_init(void)
{
	return toa_rust_init();
}
module_init(toa_init);

static void __exit toa_exit(void)
{
	toa_rust_exit();
}
module_exit(toa_exit);

void *toa_shim_alloc(size_t bytes)
{
	return toa_shim_nomem() ? NULL : kmalloc(bytes, GFP_KERNEL);
}

void toa_shim_log_error(const u8 *what, size_t what_len,
			const u8 *why, size_t why_len, int err)
{
	if (err)
		pr_err("%.*s: %.*s (error %d)\n", (int)what_len, what,
		       (int)why_len, why, err);
	else
		pr_err("%.*s: %.*s\n", (int)what_len, what, (int)why_len, why);
}
