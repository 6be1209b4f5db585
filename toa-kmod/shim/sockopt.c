// SPDX-License-Identifier: GPL-2.0
/*
 * getsockopt(IPPROTO_IP, ...) by nf_register_sockopt(), which wants static
 * objects with a callback. One table, PF_INET, serves AF_INET and AF_INET6
 * sockets alike: an AF_INET6 socket's IPPROTO_IP options are looked up there.
 *
 * nf_sockopt_find() takes a reference on the owner of every entry that it
 * passes, and gives up at one that is being unloaded: with an owner set, a
 * module on its way out makes SO_ORIGINAL_DST and iptables fail for as long as
 * its exit function has not run. So these entries name no owner, and take the
 * reference themselves, once the option is known to be theirs. What that leaves
 * open is a task between nf_sockopt_find() and try_module_get(), or between
 * module_put() and the return; neither place sleeps, so synchronize_rcu_tasks()
 * waits for both. (A kernel without CONFIG_TASKS_RCU has a macro of that name
 * which waits for less; preemptible kernels with kprobes or ftrace have it.)
 */
#include <linux/module.h>
#include <linux/netfilter.h>
#include <linux/rcupdate.h>
#include <linux/socket.h>

#include "compat.h"
#include "shim.h"
#include "toa.h"

/*
 * Set when nothing can fail any more: a module whose init fails is freed without
 * a look at its references, so nobody may take one before.
 */
static bool live;

#if defined(CONFIG_PREEMPTION) && !defined(CONFIG_TASKS_RCU)
#error "this kernel is preemptible and has no CONFIG_TASKS_RCU: unloading would not be safe"
#endif

static int get(struct sock *sk, int name, void __user *user, int *len)
{
	int ret;

	/* Pairs with toa_shim_sockopt_attach(). */
	if (!smp_load_acquire(&live) || !try_module_get(THIS_MODULE))
		return -ENOPROTOOPT;
	ret = toa_rust_getsockopt(sk, name, (void __force *)user, len);
	module_put(THIS_MODULE);
	return ret;
}

static struct nf_sockopt_ops original = {
	.pf		= PF_INET,
	.get_optmin	= TOA_SO_ORIGINAL,
	.get_optmax	= TOA_SO_ABI + 1,
	.get		= get,
	TOA_COMPAT_GET(get)
};

static struct nf_sockopt_ops lookup = {
	.pf		= PF_INET,
	.get_optmin	= TOA_SO_GET_LOOKUP,
	.get_optmax	= TOA_SO_GET_LOOKUP + 1,
	.get		= get,
	TOA_COMPAT_GET(get)
};

int toa_shim_sockopt_attach(void)
{
	int err = nf_register_sockopt(&original);

	if (err)
		return err;
	err = nf_register_sockopt(&lookup);
	if (err) {
		nf_unregister_sockopt(&original);
		synchronize_rcu_tasks();
		return err;
	}
	/* Pairs with get(). */
	smp_store_release(&live, true);
	return 0;
}

void toa_shim_sockopt_detach(void)
{
	nf_unregister_sockopt(&lookup);
	nf_unregister_sockopt(&original);
	synchronize_rcu_tasks();
}
