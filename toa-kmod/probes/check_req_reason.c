// SPDX-License-Identifier: GPL-2.0
/* From 6.15, and in stable series: tcp_check_req() says why it drops a segment. */
#include <net/tcp.h>

int probe(struct sock *sk, struct sk_buff *skb, struct request_sock *req, bool *stolen,
	  enum skb_drop_reason *reason);

int probe(struct sock *sk, struct sk_buff *skb, struct request_sock *req, bool *stolen,
	  enum skb_drop_reason *reason)
{
	return !tcp_check_req(sk, skb, req, false, stolen, reason);
}
