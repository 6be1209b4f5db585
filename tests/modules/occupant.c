// SPDX-License-Identifier: GPL-2.0
/*
 * Holds what toa.ko wants for itself: one number of getsockopt() at IPPROTO_IP
 * or, with pf=10, at IPPROTO_IPV6; one file of /proc/net; or a generic netlink
 * family.
 */
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/netfilter.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/string.h>
#include <net/genetlink.h>
#include <net/net_namespace.h>

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Holds what another module wants, in tests");

static int sockopt;
module_param(sockopt, int, 0444);
MODULE_PARM_DESC(sockopt, "the option's number");

static int pf = PF_INET;
module_param(pf, int, 0444);
MODULE_PARM_DESC(pf, "the protocol family that it is an option of");

static char *proc;
module_param(proc, charp, 0444);
MODULE_PARM_DESC(proc, "the file's name");

static char *genl;
module_param(genl, charp, 0444);
MODULE_PARM_DESC(genl, "the family's name");

static int get(struct sock *sk, int name, void __user *user, int *len)
{
	return -EINVAL;
}

static struct nf_sockopt_ops held = {
	.get	= get,
	.owner	= THIS_MODULE,
};

static struct genl_family family = {
	.version	= 1,
	.module		= THIS_MODULE,
};

static int show(struct seq_file *seq, void *v)
{
	return 0;
}

static int hold_sockopt(void)
{
	if (!sockopt)
		return 0;
	held.pf = pf;
	held.get_optmin = sockopt;
	held.get_optmax = sockopt + 1;
	return nf_register_sockopt(&held);
}

static void leave_sockopt(void)
{
	if (sockopt)
		nf_unregister_sockopt(&held);
}

static int hold_proc(void)
{
	if (!proc)
		return 0;
	return proc_create_net_single(proc, 0444, init_net.proc_net, show, NULL) ? 0 : -ENOMEM;
}

static void leave_proc(void)
{
	if (proc)
		remove_proc_entry(proc, init_net.proc_net);
}

static int hold_genl(void)
{
	if (!genl)
		return 0;
	strscpy(family.name, genl, sizeof(family.name));
	return genl_register_family(&family);
}

static void leave_genl(void)
{
	if (genl)
		genl_unregister_family(&family);
}

static int __init occupant_init(void)
{
	int err;

	err = hold_sockopt();
	if (err)
		return err;
	err = hold_proc();
	if (err)
		goto out_sockopt;
	err = hold_genl();
	if (err)
		goto out_proc;
	return 0;

out_proc:
	leave_proc();
out_sockopt:
	leave_sockopt();
	return err;
}
module_init(occupant_init);

static void __exit occupant_exit(void)
{
	leave_genl();
	leave_proc();
	leave_sockopt();
}
module_exit(occupant_exit);
