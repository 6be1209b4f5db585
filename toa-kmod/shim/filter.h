/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _TOA_FILTER_H
#define _TOA_FILTER_H

#include <linux/delay.h>
#include <linux/ftrace.h>
#include <linux/rcupdate.h>
#include <linux/string.h>

#include "compat.h"

#ifdef TOA_HAVE_FTRACE
/*
 * Short of memory for a filter's only entry, ftrace_set_filter() may say that all is
 * well and leave the filter empty (seen in 7.3, whose match_records() takes
 * -ENOMEM for something found). Empty means every function of the kernel, ftrace's own
 * included, and the end of it. All empty filters are one object.
 */
static inline int toa_ftrace_set_filter(struct ftrace_ops *ops, char *name)
{
	const void *empty;
	int err;

	err = ftrace_set_filter(ops, NULL, 0, 1);
	if (err)
		return err;
	empty = rcu_access_pointer(ops->func_hash->filter_hash);
	err = ftrace_set_filter(ops, name, strlen(name), 0);
	if (!err && rcu_access_pointer(ops->func_hash->filter_hash) == empty)
		err = -ENOMEM;
	return err;
}

/*
 * A filter is given back by resetting it: ftrace_free_filter() is not exported
 * everywhere. That allocates, and where the ops go with the module, a filter that
 * could not be reset would be lost. May sleep.
 */
static inline void toa_ftrace_forget_filter(struct ftrace_ops *ops)
{
	int tries = 10;

	while (ftrace_set_filter(ops, NULL, 0, 1) == -ENOMEM && --tries)
		msleep(20);
}

/* The ops see the function of this name, and no other. */
static inline int toa_ftrace_register(struct ftrace_ops *ops, char *name)
{
	int err;

	err = toa_ftrace_set_filter(ops, name);
	if (!err)
		err = register_ftrace_function(ops);
	if (err)
		toa_ftrace_forget_filter(ops);
	return err;
}

static inline void toa_ftrace_unregister(struct ftrace_ops *ops)
{
	unregister_ftrace_function(ops);
	toa_ftrace_forget_filter(ops);
}
#endif

#endif /* _TOA_FILTER_H */
