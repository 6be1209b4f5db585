// SPDX-License-Identifier: GPL-2.0
/*
 * Facts about connections. struct sock and struct sk_buff are opaque to Rust
 * (the kernel's bindings hold neither in full), and most of this is inline.
 */
#include <linux/compiler.h>
#include <linux/ipv6.h>
#include <linux/kernel.h>
#include <linux/rcupdate.h>
#include <linux/skbuff.h>
#include <linux/string.h>
#include <linux/tcp.h>
#include <net/inet_sock.h>
#include <net/ipv6.h>
#include <net/request_sock.h>
#include <net/tcp.h>

#include "shim.h"

#ifndef data_race
/* From 5.8: KCSAN is not to report it. */
#define data_race(expression)	(expression)
#endif

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

/* The inode that user space knows the network namespace by. */
u32 toa_shim_netns(const struct sock *sk)
{
	return sock_net(sk)->ns.inum;
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

/*
 * Whether @skb is the segment that the server waits for: an ACK and nothing
 * but, with the sequence number that follows all that the SYN took.
 */
static bool completes(const struct sk_buff *skb, const struct request_sock *req)
{
	__be32 flags = tcp_flag_word(tcp_hdr(skb)) &
		       (TCP_FLAG_RST | TCP_FLAG_SYN | TCP_FLAG_ACK);

	return flags == TCP_FLAG_ACK &&
	       TCP_SKB_CB(skb)->seq == tcp_rsk(req)->rcv_nxt;
}

/*
 * Whether @ack completes the handshake of @req, which tcp_check_req() is going
 * to drop nevertheless: because the listener waits for data (TCP_DEFER_ACCEPT),
 * or because its accept queue is full. The connection's ends are then in @flow,
 * as its SYN had them.
 */
u8 toa_shim_dropped_ack(const struct sock *listener, const struct sk_buff *ack,
			const struct request_sock *req, struct toa_flow *flow)
{
	const struct inet_request_sock *ireq = inet_rsk(req);
	u8 defer = READ_ONCE(inet_csk(listener)->icsk_accept_queue.rskq_defer_accept);
	u32 first = tcp_rsk(req)->rcv_isn + 1;
	/* tcp_check_req() does not care either whether the timer counts meanwhile. */
	bool deferred = data_race((u8)req->num_timeout) < defer &&
			TCP_SKB_CB(ack)->end_seq == first;

	if (!completes(ack, req) ||
	    TCP_SKB_CB(ack)->ack_seq != tcp_rsk(req)->snt_isn + 1 ||
	    !(deferred || sk_acceptq_is_full(listener)))
		return 0;

	flow->net = (unsigned long)sock_net(listener);
	flow->ifindex = ireq->ir_iif;
	flow->seq = first;
	put_port(flow->peer_port, ireq->ir_rmt_port);
	put_port(flow->local_port, htons(ireq->ir_num));
#if IS_ENABLED(CONFIG_IPV6)
	if (ireq->ireq_family == AF_INET6) {
		memcpy(flow->peer, &ireq->ir_v6_rmt_addr, 16);
		memcpy(flow->local, &ireq->ir_v6_loc_addr, 16);
		return 1;
	}
#endif
	put_v4_mapped(flow->peer, ireq->ir_rmt_addr);
	put_v4_mapped(flow->local, ireq->ir_loc_addr);
	return 1;
}

/*
 * Whether @ack completes the handshake of @child, which came of a Fast Open SYN,
 * lives already, and is locked. It may have sent data, which @ack may
 * acknowledge too. @flow is then as its SYN had it.
 */
u8 toa_shim_fastopen_ack(const struct sock *child, const struct sk_buff *ack,
			 const struct request_sock *req, struct toa_flow *flow)
{
	if (child->sk_state != TCP_SYN_RECV || !completes(ack, req) ||
	    !between(TCP_SKB_CB(ack)->ack_seq, tcp_rsk(req)->snt_isn + 1,
		     tcp_sk(child)->snd_nxt))
		return 0;
	sock_flow(child, flow);
	flow->seq = tcp_rsk(req)->rcv_isn + 1;
	return 1;
}

/*
 * Whether @sk came of a Fast Open SYN and waits for the handshake's end, and the
 * sequence number that followed that SYN. The request may be another's by the
 * time that it is read (requests are SLAB_TYPESAFE_BY_RCU), and the number then
 * fits no SYN between these ends.
 */
u8 toa_shim_fastopen_seq(const struct sock *sk, u32 *seq)
{
	const struct request_sock *req;

	rcu_read_lock();
	req = rcu_dereference(tcp_sk(sk)->fastopen_rsk);
	if (req)
		*seq = READ_ONCE(tcp_rsk(req)->rcv_isn) + 1;
	rcu_read_unlock();
	return !!req;
}

/*
 * Whether @data is the next data of @sk, which is locked: it begins where the
 * last ended, and acknowledges what may be acknowledged (RFC 5961, section 5).
 */
u8 toa_shim_next_data(const struct sock *sk, const struct sk_buff *data)
{
	const struct tcp_sock *tp = tcp_sk(sk);
	u32 ack = TCP_SKB_CB(data)->ack_seq;

	return data->len > tcp_hdrlen(data) &&
	       (tcp_flag_word(tcp_hdr(data)) &
		(TCP_FLAG_RST | TCP_FLAG_SYN | TCP_FLAG_ACK)) == TCP_FLAG_ACK &&
	       TCP_SKB_CB(data)->seq == tp->rcv_nxt &&
	       between(ack, tp->snd_una - tp->max_window, tp->snd_nxt);
}

/* tcp_rcv_established() itself looks at the checksum, later, and then need not. */
u8 toa_shim_is_sound(struct sk_buff *skb)
{
	return !tcp_checksum_complete(skb);
}
