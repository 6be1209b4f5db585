// SPDX-License-Identifier: GPL-2.0
/*
 * Somebody else's `toa`, as far as others can see it: the name, a version, and
 * the counters' file that every classic module has.
 */
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <net/net_namespace.h>

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Stands in for another project's toa in tests");
MODULE_VERSION("2.0.0.0");

#define STATS	"toa_stats"

static int stats_show(struct seq_file *seq, void *v)
{
	seq_puts(seq, "                                  CPU0\n");
	seq_puts(seq, "syn_recv_sock_toa                 :          0\n");
	return 0;
}

static int __init stand_in_init(void)
{
	return proc_create_net_single(STATS, 0444, init_net.proc_net,
				      stats_show, NULL) ? 0 : -ENOMEM;
}
module_init(stand_in_init);

static void __exit stand_in_exit(void)
{
	remove_proc_entry(STATS, init_net.proc_net);
}
module_exit(stand_in_exit);
