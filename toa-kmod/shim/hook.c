// SPDX-License-Identifier: GPL-2.0
/*
 * Entry hooks on five functions, by ftrace or by kprobe. Both want objects
 * with static storage and a callback of C. The arguments used here are the
 * same from 5.4 to 7.x:
 *   tcp_conn_request(rsk_ops, af_ops, sk, skb)
 *   tcp_child_process(parent, child, skb)
 *   tcp_disconnect(sk, flags)
 *   tcp_check_req(sk, skb, req, fastopen, ...)
 *   tcp_rcv_established(sk, skb)
 * The first two run with bottom halves disabled on the CPU that took the
 * segment; the third in a task, which may be preempted there, or in a bottom
 * half. So do the fifth, and the fourth for a Fast Open connection; for others
 * the fourth runs as the first two.
 */
#include <linux/build_bug.h>
#include <linux/ftrace.h>
#include <linux/kprobes.h>
#include <linux/rcupdate.h>
#include <linux/skbuff.h>
#include <linux/tcp.h>
#include <net/sock.h>
#include <net/tcp.h>

#include "compat.h"
#include "filter.h"
#include "kprobe.h"
#include "shim.h"

/*
 * Arguments are taken by their place, so a kernel that has moved them must not
 * get a module. Nothing is called or referred to here.
 */
static_assert(sizeof(tcp_conn_request((struct request_sock_ops *)0,
				      (const struct tcp_request_sock_ops *)0,
				      (struct sock *)0, (struct sk_buff *)0)));
static_assert(sizeof(tcp_child_process((struct sock *)0, (struct sock *)0,
				       (struct sk_buff *)0)));
static_assert(sizeof(tcp_disconnect((struct sock *)0, 0)));
static_assert(sizeof(toa_check_req((struct sock *)0, (struct sk_buff *)0,
				   (struct request_sock *)0, true)));
static_assert(__builtin_types_compatible_p(typeof(tcp_rcv_established),
					   void (struct sock *, struct sk_buff *)));

/*
 * The option area of a segment that TCP is working on: the whole header is in
 * the linear part, and its length was checked, before tcp_v4_rcv() and
 * tcp_v6_rcv() look for a socket (pskb_may_pull()). The functions watched read
 * it so themselves. tcp_hdr() and tcp_optlen() are inline.
 */
static __always_inline const u8 *options_of(const struct sk_buff *skb)
{
	return (const u8 *)(tcp_hdr(skb) + 1);
}

static __always_inline void conn_request(const struct sock *listener,
					 struct sk_buff *syn)
{
	toa_rust_syn(listener, syn, options_of(syn), tcp_optlen(syn));
}

static __always_inline void child_process(const struct sock *child,
					  const struct sk_buff *skb)
{
	toa_rust_child(child, child->sk_state, options_of(skb), tcp_optlen(skb));
}

/* Of a bool argument, the lowest byte alone is defined. */
static __always_inline void check_req(const struct sock *sk, const struct sk_buff *skb,
				      const struct request_sock *req, u8 fastopen)
{
	toa_rust_request(sk, skb, req, options_of(skb), tcp_optlen(skb), fastopen);
}

static __always_inline void rcv_established(const struct sock *sk, struct sk_buff *skb)
{
	toa_rust_data(sk, skb, options_of(skb), tcp_optlen(skb));
}

#ifdef TOA_HAVE_FTRACE
static void notrace ftrace_conn_request(unsigned long ip, unsigned long parent_ip,
					struct ftrace_ops *ops,
					struct toa_ftrace_regs *regs)
{
	conn_request((const struct sock *)toa_ftrace_argument(regs, 2),
		     (struct sk_buff *)toa_ftrace_argument(regs, 3));
}

static void notrace ftrace_child_process(unsigned long ip, unsigned long parent_ip,
					 struct ftrace_ops *ops,
					 struct toa_ftrace_regs *regs)
{
	child_process((const struct sock *)toa_ftrace_argument(regs, 1),
		      (const struct sk_buff *)toa_ftrace_argument(regs, 2));
}

static void notrace ftrace_disconnect(unsigned long ip, unsigned long parent_ip,
				      struct ftrace_ops *ops,
				      struct toa_ftrace_regs *regs)
{
	toa_rust_disconnect((const struct sock *)toa_ftrace_argument(regs, 0));
}

static void notrace ftrace_check_req(unsigned long ip, unsigned long parent_ip,
				     struct ftrace_ops *ops,
				     struct toa_ftrace_regs *regs)
{
	check_req((const struct sock *)toa_ftrace_argument(regs, 0),
		  (const struct sk_buff *)toa_ftrace_argument(regs, 1),
		  (const struct request_sock *)toa_ftrace_argument(regs, 2),
		  (u8)toa_ftrace_argument(regs, 3));
}

static void notrace ftrace_rcv_established(unsigned long ip, unsigned long parent_ip,
					   struct ftrace_ops *ops,
					   struct toa_ftrace_regs *regs)
{
	rcv_established((const struct sock *)toa_ftrace_argument(regs, 0),
			(struct sk_buff *)toa_ftrace_argument(regs, 1));
}
#endif

static int kprobe_conn_request(struct kprobe *kprobe, struct pt_regs *regs)
{
	conn_request((const struct sock *)regs_get_kernel_argument(regs, 2),
		     (struct sk_buff *)regs_get_kernel_argument(regs, 3));
	return 0;
}
NOKPROBE_SYMBOL(kprobe_conn_request);

static int kprobe_child_process(struct kprobe *kprobe, struct pt_regs *regs)
{
	child_process((const struct sock *)regs_get_kernel_argument(regs, 1),
		      (const struct sk_buff *)regs_get_kernel_argument(regs, 2));
	return 0;
}
NOKPROBE_SYMBOL(kprobe_child_process);

static int kprobe_disconnect(struct kprobe *kprobe, struct pt_regs *regs)
{
	toa_rust_disconnect((const struct sock *)regs_get_kernel_argument(regs, 0));
	return 0;
}
NOKPROBE_SYMBOL(kprobe_disconnect);

static int kprobe_check_req(struct kprobe *kprobe, struct pt_regs *regs)
{
	check_req((const struct sock *)regs_get_kernel_argument(regs, 0),
		  (const struct sk_buff *)regs_get_kernel_argument(regs, 1),
		  (const struct request_sock *)regs_get_kernel_argument(regs, 2),
		  (u8)regs_get_kernel_argument(regs, 3));
	return 0;
}
NOKPROBE_SYMBOL(kprobe_check_req);

static int kprobe_rcv_established(struct kprobe *kprobe, struct pt_regs *regs)
{
	rcv_established((const struct sock *)regs_get_kernel_argument(regs, 0),
			(struct sk_buff *)regs_get_kernel_argument(regs, 1));
	return 0;
}
NOKPROBE_SYMBOL(kprobe_rcv_established);

static struct toa_hook {
	char *name;
#ifdef TOA_HAVE_FTRACE
	struct ftrace_ops ftrace;
#endif
	kprobe_pre_handler_t pre_handler;
	struct kprobe kprobe;
} hooks[] = {
	[TOA_HOOK_CONN_REQUEST] = {
		.name = "tcp_conn_request",
		TOA_FTRACE_FUNC(ftrace_conn_request)
		.pre_handler = kprobe_conn_request,
	},
	[TOA_HOOK_CHILD_PROCESS] = {
		.name = "tcp_child_process",
		TOA_FTRACE_FUNC(ftrace_child_process)
		.pre_handler = kprobe_child_process,
	},
	[TOA_HOOK_DISCONNECT] = {
		.name = "tcp_disconnect",
		TOA_FTRACE_FUNC(ftrace_disconnect)
		.pre_handler = kprobe_disconnect,
	},
	[TOA_HOOK_CHECK_REQ] = {
		.name = "tcp_check_req",
		TOA_FTRACE_FUNC(ftrace_check_req)
		.pre_handler = kprobe_check_req,
	},
	[TOA_HOOK_RCV_ESTABLISHED] = {
		.name = "tcp_rcv_established",
		TOA_FTRACE_FUNC(ftrace_rcv_established)
		.pre_handler = kprobe_rcv_established,
	},
};

#ifdef TOA_HAVE_FTRACE
int toa_shim_ftrace_attach(u32 hook)
{
	struct toa_hook *h = &hooks[hook];

	h->ftrace.flags = TOA_FTRACE_FLAGS;
	return toa_ftrace_register(&h->ftrace, h->name);
}

void toa_shim_ftrace_detach(u32 hook)
{
	toa_ftrace_unregister(&hooks[hook].ftrace);
}
#else
int toa_shim_ftrace_attach(u32 hook)
{
	return -ENODEV;
}

void toa_shim_ftrace_detach(u32 hook)
{
}
#endif

int toa_shim_kprobe_attach(u32 hook)
{
	struct toa_hook *h = &hooks[hook];

	/* A kprobe keeps what an earlier registration left in it. */
	memset(&h->kprobe, 0, sizeof(h->kprobe));
	h->kprobe.symbol_name = h->name;
	h->kprobe.pre_handler = h->pre_handler;
	return toa_kprobe_register(&h->kprobe);
}

void toa_shim_kprobe_detach(u32 hook)
{
	unregister_kprobe(&hooks[hook].kprobe);
}

u64 toa_shim_kprobe_missed(u32 hook)
{
	return hooks[hook].kprobe.nmissed;
}

/* kprobe_ftrace() is inline: whether this probe is silent while ftrace is off. */
u8 toa_shim_kprobe_needs_ftrace(u32 hook)
{
	return kprobe_ftrace(&hooks[hook].kprobe);
}

/*
 * Waits until no task is between a hook's trampoline and the end of its
 * callback, or on its way in or out of the sockopts' (sockopt.c). Unregistering
 * a hook waits for most of the former already; 5.4 does not while ftrace is
 * switched off. synchronize_rcu_tasks() is a macro on some kernels.
 */
void toa_shim_hook_quiesce(void)
{
	synchronize_rcu_tasks();
	synchronize_rcu();
}
