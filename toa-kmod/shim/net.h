/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _TOA_NET_H
#define _TOA_NET_H

struct net;

/* The counters of a network namespace, for as long as it and toa_shim_net_attach() stand. */
const void *toa_shim_net_counters(const struct net *net);

#endif /* _TOA_NET_H */
