/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _TOA_KPROBE_H
#define _TOA_KPROBE_H

#include <linux/kprobes.h>
#include <linux/list.h>
#include <linux/poison.h>

/*
 * Short of memory, a kernel may take a probe out again and say that all is well
 * (seen in 7.3, where arming it failed). Such a probe never fires.
 */
static inline int toa_kprobe_register(struct kprobe *kprobe)
{
	int err = register_kprobe(kprobe);

	if (!err && kprobe->hlist.pprev == LIST_POISON2)
		err = -ENOMEM;
	return err;
}

#endif /* _TOA_KPROBE_H */
