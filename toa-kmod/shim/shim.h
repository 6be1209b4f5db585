/* SPDX-License-Identifier: GPL-2.0 */
/*
 * shim.h - the whole border between the module's C and its Rust.
 *
 * toa_shim_*: C that Rust calls: kernel interfaces which are macros, inline
 * functions or callbacks, and so out of Rust's reach. Each says which.
 * toa_rust_*: Rust that C calls from the kernel's callbacks. Every address that
 * the kernel jumps to is C, so control-flow integrity (kCFI, IBT) never
 * concerns the Rust object.
 *
 * kernel/shim.rs is generated from this file (tests/abi compares), so it must
 * parse without kernel headers. Kernel objects are opaque here.
 */
#ifndef _TOA_SHIM_H
#define _TOA_SHIM_H

#include <linux/types.h>
#ifndef __KERNEL__
#include <stddef.h>	/* size_t, for bindgen */
#endif

struct genl_info;
struct kmem_cache;
struct netlink_callback;
struct request_sock;
struct seq_file;
struct sk_buff;
struct sock;

/* The kernel functions that are watched. */
#define TOA_HOOK_CONN_REQUEST	0	/* tcp_conn_request(): every SYN to a listener */
#define TOA_HOOK_CHILD_PROCESS	1	/* tcp_child_process(): a new connection's first segment */
#define TOA_HOOK_DISCONNECT	2	/* tcp_disconnect(): a socket leaves its connection */
#define TOA_HOOK_CHECK_REQ	3	/* tcp_check_req(): a segment of a handshake */
#define TOA_HOOK_RCV_ESTABLISHED 4	/* tcp_rcv_established(): a segment behind it */

/* The kernel functions that are redirected. */
#define TOA_GETNAME_INET	0	/* inet_getname() */
#define TOA_GETNAME_INET6	1	/* inet6_getname() */

/* The parameters that are set at run time too. */
#define TOA_SWITCH_ON		0	/* transparent */
#define TOA_SWITCH_LOCAL	1	/* transparent_local */
#define TOA_SWITCH_PORTS	2	/* transparent_ports */

/* The values of TCP_SYN_RECV, TCP_CLOSE, TCP_SYN_SENT, TCP_LISTEN: include/net/tcp_states.h */
#define TOA_TCP_SYN_SENT	2
#define TOA_TCP_SYN_RECV	3
#define TOA_TCP_CLOSE		7
#define TOA_TCP_LISTEN		10

/**
 * struct toa_flow - a connection, as the node sees it
 * @net:	its network namespace; compared, never followed
 * @peer:	the remote address, network byte order; IPv4 as ::ffff:a.b.c.d
 * @local:	the local address, likewise
 * @peer_port:	the remote TCP port, network byte order
 * @local_port:	the local TCP port, network byte order
 * @ifindex:	the device it is bound to (VRF, link-local), or 0
 * @seq:	the first sequence number expected after the peer's SYN, host
 *		byte order; only for a SYN or a child in TCP_SYN_RECV
 */
struct toa_flow {
	unsigned long net;
	__u8	peer[16];
	__u8	local[16];
	__u8	peer_port[2];
	__u8	local_port[2];
	__u32	ifindex;
	__u32	seq;
};

/**
 * struct toa_socket - what a call was made on
 * @flow:	its connection, if it has one; @flow.seq means nothing here
 * @tcp:	1 for a TCP socket (not MPTCP's own), else 0
 * @v6:		1 for an AF_INET6 socket, 0 for an AF_INET one
 * @state:	TCP_ESTABLISHED, ...: include/net/tcp_states.h
 */
struct toa_socket {
	struct toa_flow flow;
	__u8	tcp;
	__u8	v6;
	__u8	state;
};

/* shim/hook.c: register_ftrace_function() and register_kprobe() want static C objects. */
int toa_shim_ftrace_attach(__u32 hook);
void toa_shim_ftrace_detach(__u32 hook);
int toa_shim_kprobe_attach(__u32 hook);
void toa_shim_kprobe_detach(__u32 hook);
__u64 toa_shim_kprobe_missed(__u32 hook);
__u8 toa_shim_kprobe_needs_ftrace(__u32 hook);
void toa_shim_hook_quiesce(void);

/*
 * shim/getname.c: ftrace wants static C objects, and C to go to. toa_shim_symbol()
 * returns the whole name's length, of which as much as fits is written.
 */
int toa_shim_getname_attach(__u32 which);
void toa_shim_getname_detach(__u32 which);
void toa_shim_getname_met(void *redirect, void *registers, unsigned long caller);
void toa_shim_getname_redirect(void *redirect, void *registers);
void toa_shim_getname_redirect_early(void *redirect, void *registers);
void toa_shim_getname_local(__u8 on);
void toa_shim_getname_quiesce(void);
size_t toa_shim_symbol(unsigned long address, __u8 *name, size_t size);
__u8 toa_shim_symbols_known(void);

/* shim/selftest.c: register_kprobe() wants static C objects. */
__u8 toa_shim_kprobes_silent(void);

/* shim/tracepoint.c: tracepoints are found by a callback, called through a typed one. */
int toa_shim_tracepoint_attach(void);
void toa_shim_tracepoint_detach(void);

/*
 * shim/sockopt.c: nf_register_sockopt() wants a static C object; copying to a
 * user is inline. The copy is 0, -EFAULT, or -ENOPROTOOPT while the module goes.
 */
int toa_shim_sockopt_attach(void);
void toa_shim_sockopt_open(void);
void toa_shim_sockopt_detach(void);
int toa_shim_copy_to_user(void *to, const void *from, unsigned long bytes);

/* shim/net.c: pernet_operations want callbacks, and net_generic() is inline. */
int toa_shim_net_attach(size_t bytes);
void toa_shim_net_detach(void);
void toa_shim_net_clear(size_t first, size_t count);
void toa_shim_count(const struct sock *sk, void *node, size_t index);
void toa_shim_count_off(const struct sock *sk, void *node, size_t index);

/* shim/proc.c: pernet_operations and proc_create_net_single() want callbacks. */
int toa_shim_proc_stats_attach(void);
void toa_shim_proc_stats_detach(void);
int toa_shim_proc_status_attach(void);
void toa_shim_proc_status_detach(void);
void toa_shim_seq_write(struct seq_file *seq, const __u8 *text, size_t len);
void toa_shim_seq_number(struct seq_file *seq, __u64 value, __u32 width);

/* shim/netlink.c: genl_register_family() wants static C objects; messages are made inline. */
int toa_shim_netlink_attach(void);
void toa_shim_netlink_detach(void);
void *toa_shim_netlink_begin(struct sk_buff *skb, struct netlink_callback *cb, __u8 command);
__u8 toa_shim_netlink_put(struct sk_buff *skb, __u16 attribute, const void *value, size_t len);
void toa_shim_netlink_end(struct sk_buff *skb, void *message);
void toa_shim_netlink_cancel(struct sk_buff *skb, void *message);
void toa_shim_netlink_generation(struct netlink_callback *cb, __u32 generation);
void toa_shim_netlink_refuse(struct genl_info *info, const __u8 *part, const char *why);

/* shim/flow.c: structures of the network stack, and inline functions on them. */
void toa_shim_syn_flow(const struct sock *listener, struct sk_buff *syn, struct toa_flow *flow);
void toa_shim_child_flow(const struct sock *child, struct toa_flow *flow);
void toa_shim_socket(const struct sock *sk, struct toa_socket *socket);
__u8 toa_shim_dropped_ack(const struct sock *listener, const struct sk_buff *ack,
			  const struct request_sock *req, struct toa_flow *flow);
__u8 toa_shim_fastopen_ack(const struct sock *child, const struct sk_buff *ack,
			   const struct request_sock *req, struct toa_flow *flow);
__u8 toa_shim_fastopen_seq(const struct sock *sk, __u32 *seq);
__u8 toa_shim_next_data(const struct sock *sk, const struct sk_buff *data);
__u8 toa_shim_is_sound(struct sk_buff *skb);
__u32 toa_shim_netns(const struct sock *sk);

/* shim/kernel.c: macros and inline functions. */
void toa_shim_rcu_read_lock(void);
void toa_shim_rcu_read_unlock(void);
void toa_shim_synchronize_rcu(void);
void toa_shim_may_reschedule(void);
struct kmem_cache *toa_shim_cache_new(const __u8 *name, __u32 bytes);
void toa_shim_cache_destroy(struct kmem_cache *cache);
void *toa_shim_cache_alloc(struct kmem_cache *cache);
void toa_shim_cache_free(struct kmem_cache *cache, void *object);
void *toa_shim_alloc_large(size_t bytes);
void toa_shim_free(void *object);
unsigned long toa_shim_irq_save(void);
void toa_shim_irq_restore(unsigned long flags);
__u8 toa_shim_in_nmi(void);
void toa_shim_refill_attach(void);
void toa_shim_refill_queue(void);
void toa_shim_refill_detach(void);
__u32 toa_shim_seconds(void);
__u32 toa_shim_hash(__u32 a, __u32 b, __u32 c, const unsigned long key[2]);
void toa_shim_random(void *to, size_t bytes);
__u8 toa_shim_preempt_rt(void);
void *toa_shim_percpu_alloc(size_t bytes);
void toa_shim_percpu_free(void *percpu);
void toa_shim_percpu_clear(void *percpu, size_t first, size_t count);
__u64 toa_shim_percpu_read(const void *percpu, size_t index, __u32 cpu);
__u32 toa_shim_next_cpu(__u32 cpu);

/* shim/module.c: module_param(), MODULE_VERSION() and mutex_lock() are macros. */
size_t toa_shim_param_hook(const __u8 **text);
size_t toa_shim_param_layouts(const __u8 **text);
size_t toa_shim_param_trusted(const __u8 **text);
__u8 toa_shim_param_first_data(void);
void toa_shim_switch_lock(void);
void toa_shim_switch_unlock(void);
__u8 toa_shim_may_set(__u8 loaded);
size_t toa_shim_version(const __u8 **text);

/* shim/bare.c, in the freestanding build only: the kernel crate has these. */
void *toa_shim_alloc(size_t bytes);
void toa_shim_log_error(const __u8 *what, size_t what_len,
			const __u8 *why, size_t why_len, int err);
int toa_rust_init(void);
void toa_rust_exit(void);

/* kernel/calls.rs: what the callbacks above call. */
void toa_rust_syn(const struct sock *listener, struct sk_buff *syn,
		  const __u8 *options, size_t len);
void toa_rust_child(const struct sock *child, __u8 state,
		    const __u8 *options, size_t len);
void toa_rust_request(const struct sock *sk, const struct sk_buff *skb,
		      const struct request_sock *req,
		      const __u8 *options, size_t len, __u8 fastopen);
void toa_rust_data(const struct sock *sk, struct sk_buff *skb,
		   const __u8 *options, size_t len);
void toa_rust_disconnect(const struct sock *sk);
void toa_rust_destroy(const struct sock *sk);
int toa_rust_getsockopt(const struct sock *sk, __u8 v6, int name, void *user, int *len);
int toa_rust_netlink_set(struct genl_info *info, const __u8 *attributes, size_t len);
void toa_rust_netlink_dump(struct sk_buff *skb, struct netlink_callback *cb, __u8 command,
			   unsigned long net, __u8 all, unsigned long cursor[2]);
void toa_rust_refill(void);
void toa_rust_stats(struct seq_file *seq, const void *own, __u8 node);
void toa_rust_status(struct seq_file *seq);

/* kernel/transparent.rs */
int toa_rust_switch_set(__u32 which, __u8 value);
int toa_rust_switch_set_ports(const __u8 *list, size_t len);
size_t toa_rust_switch_get(__u32 which, __u8 *place, size_t size);
void toa_rust_getname_called(const struct sock *sk, unsigned long caller,
			     void *redirect, void *registers);
void toa_rust_getname_early(const struct sock *sk, unsigned long caller,
			    void *redirect, void *registers);
void toa_rust_getname_settle(const struct sock *sk);
void toa_rust_getname_tell(const struct sock *sk, __u16 local_port, void *name);
void toa_rust_getname_tell6(const struct sock *sk, __u16 local_port, void *name);
void toa_rust_getname_tell_local(const struct sock *sk, __u16 local_port, void *name);
void toa_rust_getname_tell6_local(const struct sock *sk, __u16 local_port, void *name);

#endif /* _TOA_SHIM_H */
