// SPDX-License-Identifier: GPL-2.0
/*
 * Facts about connections. struct sock and struct sk_buff are opaque to Rust
 * (the kernel's bindings hold neither in full), and most of this is inline.
 */
#include <linux/ipv6.h>
#include <linux/kernel.h>
#include <linux/skbuff.h>
#include <linux/string.h>
#include <linux/tcp.h>
#include <net/inet_sock.h>
#include <net/ipv6.h>
#include <net/tcp.h>

#include "shim.h"

static __always_inline void put_v4_mapped(u8 *to, __be32 v4)
{
	memset(to, 0, 10);
	memset(to + 10, 0xff, 2);
	memcpy(to + 12, &v4, 4);
}

static __always_inline void put_port(u8 *to, __be16 port)
{
	memcpy(to, &port, 2);
}

/*
 * The device that the connection's sockets will be bound to, as
 * tcp_conn_request() and tcp_v6_init_req() work it out.
 */
static u32 syn_ifindex(const struct sock *listener, struct sk_buff *syn)
{
#if IS_ENABLED(CONFIG_IPV6)
	if (syn->protocol == htons(ETH_P_IPV6)) {
		bool l3_slave = ipv6_l3mdev_skb(TCP_SKB_CB(syn)->header.h6.flags);

		if ((!listener->sk_bound_dev_if || l3_slave) &&
		    ipv6_addr_type(&ipv6_hdr(syn)->saddr) & IPV6_ADDR_LINKLOCAL)
			return tcp_v6_iif(syn);
	}
#endif
	return inet_request_bound_dev_if(listener, syn);
}

void toa_shim_syn_flow(const struct sock *listener, struct sk_buff *syn,
		       struct toa_flow *flow)
{
	const struct tcphdr *th = tcp_hdr(syn);

	flow->net = (unsigned long)sock_net(listener);
	flow->ifindex = syn_ifindex(listener, syn);
	flow->seq = ntohl(th->seq) + 1;
	put_port(flow->peer_port, th->source);
	put_port(flow->local_port, th->dest);
	if (syn->protocol == htons(ETH_P_IPV6)) {
		memcpy(flow->peer, &ipv6_hdr(syn)->saddr, 16);
		memcpy(flow->local, &ipv6_hdr(syn)->daddr, 16);
	} else {
		put_v4_mapped(flow->peer, ip_hdr(syn)->saddr);
		put_v4_mapped(flow->local, ip_hdr(syn)->daddr);
	}
}

#if IS_ENABLED(CONFIG_IPV6)
/* Whoever asks holds no lock, and the socket may be connecting or disconnecting meanwhile. */
static __always_inline void put_v6_once(u8 *to, const struct in6_addr *v6)
{
	u32 word;
	int i;

	for (i = 0; i < 4; i++) {
		word = (u32 __force)READ_ONCE(v6->s6_addr32[i]);
		memcpy(to + 4 * i, &word, 4);
	}
}
#endif

static __always_inline void sock_flow(const struct sock *sk, struct toa_flow *flow)
{
	const struct inet_sock *inet = inet_sk(sk);

	flow->net = (unsigned long)sock_net(sk);
	flow->ifindex = READ_ONCE(sk->sk_bound_dev_if);
	put_port(flow->peer_port, READ_ONCE(inet->inet_dport));
	put_port(flow->local_port, READ_ONCE(inet->inet_sport));
#if IS_ENABLED(CONFIG_IPV6)
	if (sk->sk_family == AF_INET6) {
		/* An IPv4 connection of an AF_INET6 socket has these mapped. */
		put_v6_once(flow->peer, &sk->sk_v6_daddr);
		put_v6_once(flow->local, &sk->sk_v6_rcv_saddr);
		return;
	}
#endif
	put_v4_mapped(flow->peer, READ_ONCE(inet->inet_daddr));
	put_v4_mapped(flow->local, READ_ONCE(inet->inet_rcv_saddr));
}

void toa_shim_child_flow(const struct sock *child, struct toa_flow *flow)
{
	sock_flow(child, flow);
	flow->seq = READ_ONCE(tcp_sk(child)->rcv_nxt);
}

void toa_shim_socket(const struct sock *sk, struct toa_socket *socket)
{
	/* Acquired first: who sees a new connection's ends sees what came before. */
	socket->state = inet_sk_state_load(sk);
	sock_flow(sk, &socket->flow);
	socket->flow.seq = 0;
	socket->tcp = sk->sk_type == SOCK_STREAM && sk->sk_protocol == IPPROTO_TCP;
	socket->v6 = sk->sk_family == AF_INET6;
}
