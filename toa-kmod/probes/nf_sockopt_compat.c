// SPDX-License-Identifier: GPL-2.0
/*
 * Until 5.8: 32-bit callers on a 64-bit kernel are passed on by a callback of their own.
 */
#include <linux/netfilter.h>

static int get(struct sock *sk, int optval, void __user *user, int *len)
{
	return 0;
}

struct nf_sockopt_ops probe_ops = { .compat_get = get };
