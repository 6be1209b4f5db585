// SPDX-License-Identifier: GPL-2.0
/*
 * Holds what toa.ko wants for itself: one number of getsockopt(IPPROTO_IP), or
 * one file of /proc/net.
 */
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/netfilter.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <net/net_namespace.h>

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Holds what another module wants, in tests");

static int sockopt;
module_param(sockopt, int, 0444);
MODULE_PARM_DESC(sockopt, "the option's number");

static char *proc;
module_param(proc, charp, 0444);
MODULE_PARM_DESC(proc, "the file's name");

static int get(struct sock *sk, int name, void __user *user, int *len)
{
	return -EINVAL;
}

static struct nf_sockopt_ops held = {
	.pf	= PF_INET,
	.get	= get,
	.owner	= THIS_MODULE,
};

static int show(struct seq_file *seq, void *v)
{
	return 0;
}

static int __init occupant_init(void)
{
	int err;

	if (sockopt) {
		held.get_optmin = sockopt;
		held.get_optmax = sockopt + 1;
		err = nf_register_sockopt(&held);
		if (err)
			return err;
	}
	if (proc && !proc_create_net_single(proc, 0444, init_net.proc_net,
					    show, NULL)) {
		if (sockopt)
			nf_unregister_sockopt(&held);
		return -ENOMEM;
	}
	return 0;
}
module_init(occupant_init);

static void __exit occupant_exit(void)
{
	if (proc)
		remove_proc_entry(proc, init_net.proc_net);
	if (sockopt)
		nf_unregister_sockopt(&held);
}
module_exit(occupant_exit);
