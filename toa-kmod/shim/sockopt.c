// SPDX-License-Identifier: GPL-2.0
/*
 * getsockopt(IPPROTO_IP, ...) by nf_register_sockopt(), which wants static
 * objects with a callback. One table, PF_INET, serves AF_INET and AF_INET6
 * sockets alike: an AF_INET6 socket's IPPROTO_IP options are looked up there.
 * Alibaba's calls may come at IPPROTO_IPV6 too, which is PF_INET6.
 *
 * nf_sockopt_find() takes a reference on the owner of every entry that it
 * passes, and gives up at one that is being unloaded: with an owner set, a
 * module on its way out makes SO_ORIGINAL_DST and iptables fail for as long as
 * its exit function has not run. So these entries name no owner. A question is
 * answered without sleeping, so the synchronize_rcu_tasks() of
 * toa_shim_hook_quiesce(), which comes before the state and the text go, waits
 * for every task inside. Where the answer's page is not at hand, the copy
 * sleeps, under a reference on the module; what is outside the reference does
 * not. (A kernel without CONFIG_TASKS_RCU has a macro of that name which waits
 * for less; preemptible kernels with kprobes or ftrace have it.)
 */
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/netfilter.h>
#include <linux/socket.h>
#include <linux/uaccess.h>

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

#ifdef TOA_SEED_race
/* Counts with no lock, which KCSAN is to report: tests/debug/seeds. */
static noinline void seed_race(void)
{
	static unsigned long calls;

	calls++;
}
#else
static void seed_race(void) {}
#endif

static int ask(struct sock *sk, u8 v6, int name, void __user *user, int *len)
{
	seed_race();
	/* Pairs with toa_shim_sockopt_open(). */
	if (!smp_load_acquire(&live))
		return -ENOPROTOOPT;
	return toa_rust_getsockopt(sk, v6, name, (void __force *)user, len);
}

static int get(struct sock *sk, int name, void __user *user, int *len)
{
	return ask(sk, 0, name, user, len);
}

static int get_v6(struct sock *sk, int name, void __user *user, int *len)
{
	return ask(sk, 1, name, user, len);
}

static noinline int copy_sleeping(void __user *to, const void *from, unsigned long bytes)
{
	int ret;

	if (!try_module_get(THIS_MODULE))
		return -ENOPROTOOPT;
	ret = copy_to_user(to, from, bytes) ? -EFAULT : 0;
	module_put(THIS_MODULE);
	return ret;
}

/* For ask() only. access_ok() and what follows are macros or inline. */
int toa_shim_copy_to_user(void *to, const void *from, unsigned long bytes)
{
	void __user *user = (void __user __force *)to;
	unsigned long left;

	if (!access_ok(user, bytes))
		return -EFAULT;
	pagefault_disable();
	left = __copy_to_user_inatomic(user, from, bytes);
	pagefault_enable();
	return left ? copy_sleeping(user, from, bytes) : 0;
}

/* The newest is found first, so what is asked most comes last. */
static struct nf_sockopt_ops answered[] = {
	{
		.pf		= PF_INET6,
		.get_optmin	= TOA_SO_GET_VS,
		.get_optmax	= TOA_SO_GET_VS_HYBRID + 1,
		.get		= get_v6,
		TOA_COMPAT_GET(get_v6)
	}, {
		.pf		= PF_INET,
		.get_optmin	= TOA_SO_GET_VS,
		.get_optmax	= TOA_SO_GET_VS_HYBRID + 1,
		.get		= get,
		TOA_COMPAT_GET(get)
	}, {
		.pf		= PF_INET,
		.get_optmin	= TOA_SO_GET_LOOKUP,
		.get_optmax	= TOA_SO_GET_LOOKUP + 1,
		.get		= get,
		TOA_COMPAT_GET(get)
	}, {
		.pf		= PF_INET,
		.get_optmin	= TOA_SO_ORIGINAL,
		.get_optmax	= TOA_SO_ABI + 1,
		.get		= get,
		TOA_COMPAT_GET(get)
	},
};

static void forget(size_t registered)
{
	while (registered--)
		nf_unregister_sockopt(&answered[registered]);
}

int toa_shim_sockopt_attach(void)
{
	size_t i;
	int err;

	for (i = 0; i < ARRAY_SIZE(answered); i++) {
		err = nf_register_sockopt(&answered[i]);
		if (err) {
			forget(i);
			return err;
		}
	}
	return 0;
}

void toa_shim_sockopt_open(void)
{
	/* Pairs with ask(). */
	smp_store_release(&live, true);
}

/* Who is still on the way in or out is waited for by toa_shim_hook_quiesce(). */
void toa_shim_sockopt_detach(void)
{
	forget(ARRAY_SIZE(answered));
}
