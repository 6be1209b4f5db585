// SPDX-License-Identifier: GPL-2.0
/*
 * Owns a function as a livepatch does, by an ftrace_ops that may redirect it, and
 * leaves it as it is.
 */
#include <linux/ftrace.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/string.h>

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Stands in for a livepatch in tests");

static char *function = "inet_getname";
module_param(function, charp, 0444);
MODULE_PARM_DESC(function, "the function's name");

/* What the registers are called differs between kernels; nothing here looks at them. */
static void notrace owned(unsigned long ip, unsigned long parent_ip,
			  struct ftrace_ops *ops, void *regs)
{
}

static struct ftrace_ops ops = {
	.func	= (ftrace_func_t)(void *)owned,
#ifdef CONFIG_DYNAMIC_FTRACE_WITH_ARGS
	.flags	= FTRACE_OPS_FL_IPMODIFY,
#else
	.flags	= FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_SAVE_REGS,
#endif
};

static int __init owner_init(void)
{
	int err = ftrace_set_filter(&ops, function, strlen(function), 1);

	if (!err)
		err = register_ftrace_function(&ops);
	if (err)
		ftrace_set_filter(&ops, NULL, 0, 1);
	return err;
}
module_init(owner_init);

static void __exit owner_exit(void)
{
	unregister_ftrace_function(&ops);
	ftrace_set_filter(&ops, NULL, 0, 1);
}
module_exit(owner_exit);
