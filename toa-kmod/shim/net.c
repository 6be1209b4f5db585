// SPDX-License-Identifier: GPL-2.0
/*
 * The counters of each network namespace, of those that are there and of those
 * to come.
 */
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <linux/rtnetlink.h>
#include <net/net_namespace.h>
#include <net/netns/generic.h>
#include <net/sock.h>

#include "net.h"
#include "nomem.h"
#include "shim.h"

struct toa_net {
	u64 __percpu *counters;
};

static unsigned int net_id __read_mostly;
static size_t counters_bytes;

static int __net_init net_init(struct net *net)
{
	struct toa_net *own = net_generic(net, net_id);

	own->counters = toa_shim_nomem() ? NULL : __alloc_percpu(counters_bytes, sizeof(u64));
	return own->counters ? 0 : -ENOMEM;
}

static void __net_exit net_exit(struct net *net)
{
	struct toa_net *own = net_generic(net, net_id);

	free_percpu(own->counters);
}

static struct pernet_operations net_ops = {
	.init	= net_init,
	.exit	= net_exit,
	.id	= &net_id,
	.size	= sizeof(struct toa_net),
};

int toa_shim_net_attach(size_t bytes)
{
	counters_bytes = bytes;
	return register_pernet_subsys(&net_ops);
}

void toa_shim_net_detach(void)
{
	unregister_pernet_subsys(&net_ops);
}

const void *toa_shim_net_counters(const struct net *net)
{
	const struct toa_net *own = net_generic(net, net_id);

	return (const void *)(unsigned long __force)own->counters;
}

/* As toa_shim_percpu_clear(), in each namespace that can be found. */
void toa_shim_net_clear(size_t first, size_t count)
{
	struct net *net;

	down_read(&net_rwsem);
	for_each_net(net) {
		const struct toa_net *own = net_generic(net, net_id);

		toa_shim_percpu_clear((void *)(unsigned long __force)own->counters, first, count);
	}
	up_read(&net_rwsem);
}

/*
 * Counts at a socket, in @node and in what its network namespace has. A socket
 * of the kernel's own may outlive its namespace's last user, and net_exit():
 * cleanup_net() waits for RCU between the two, and who may not be preempted is
 * a reader. net_generic() would be one by rcu_read_lock(), which costs more.
 */
static __always_inline void count(const struct sock *sk, void *node, size_t index)
{
	u64 __percpu *counters = (u64 __percpu __force *)(unsigned long)node;
	const struct net *net = sock_net(sk);
	const struct toa_net *own;

	this_cpu_inc(counters[index]);
	if (check_net(net)) {
		own = rcu_dereference_sched(net->gen)->ptr[net_id];
		this_cpu_inc(own->counters[index]);
	}
}

/* Hooks count: not to be traced. */
void notrace toa_shim_count(const struct sock *sk, void *node, size_t index)
{
	preempt_disable_notrace();
	count(sk, node, index);
	preempt_enable_notrace();
}

/* For whoever has interrupts off. */
void notrace toa_shim_count_off(const struct sock *sk, void *node, size_t index)
{
	count(sk, node, index);
}
