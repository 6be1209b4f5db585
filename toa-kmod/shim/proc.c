// SPDX-License-Identifier: GPL-2.0
/*
 * /proc/net/toa_stats, in each network namespace, and /proc/net/toa, in the
 * initial one. proc_create_net_single() wants callbacks; it is the one call that
 * hides whether the kernel has proc_ops. It does not say why it made no file:
 * nearly always somebody has one of that name, of which the kernel warns besides.
 */
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/seq_file_net.h>
#include <net/net_namespace.h>

#include "net.h"
#include "shim.h"

#define STATS	"toa_stats"
#define STATUS	"toa"

static int stats_show(struct seq_file *seq, void *v)
{
	const struct net *net = seq_file_single_net(seq);

	toa_rust_stats(seq, toa_shim_net_counters(net), net_eq(net, &init_net));
	return 0;
}

static int status_show(struct seq_file *seq, void *v)
{
	toa_rust_status(seq);
	return 0;
}

static int __net_init stats_init(struct net *net)
{
	return proc_create_net_single(STATS, 0444, net->proc_net, stats_show, NULL) ? 0 : -EBUSY;
}

static void __net_exit stats_exit(struct net *net)
{
	remove_proc_entry(STATS, net->proc_net);
}

static struct pernet_operations stats_ops = {
	.init	= stats_init,
	.exit	= stats_exit,
};

int toa_shim_proc_stats_attach(void)
{
	return register_pernet_subsys(&stats_ops);
}

void toa_shim_proc_stats_detach(void)
{
	unregister_pernet_subsys(&stats_ops);
}

int toa_shim_proc_status_attach(void)
{
	return proc_create_net_single(STATUS, 0444, init_net.proc_net,
				      status_show, NULL) ? 0 : -EBUSY;
}

void toa_shim_proc_status_detach(void)
{
	remove_proc_entry(STATUS, init_net.proc_net);
}

void toa_shim_seq_write(struct seq_file *seq, const u8 *text, size_t len)
{
	seq_write(seq, text, len);
}

/* seq_printf() is variadic. */
void toa_shim_seq_number(struct seq_file *seq, u64 value, u32 width)
{
	seq_printf(seq, "%*llu", (int)width, value);
}
